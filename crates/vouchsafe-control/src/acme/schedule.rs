//! Which name needs a certificate when: no I/O, no clock.

use std::collections::BTreeMap;
use std::time::Duration;

/// Wait after the first failure for a name; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(60);
/// Longest wait for a name.
const LONGEST_WAIT: Duration = Duration::from_secs(12 * 3600);
/// Wait of all names when the authority says that we ask too much.
const RATE_LIMIT_WAIT: Duration = Duration::from_secs(3600);

/// How long something is valid, unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) not_before: u64,
    pub(super) not_after: u64,
}

impl Life {
    /// When two thirds are over, or up to a twentieth of the life earlier: the names of one
    /// installation, and all installations, should not ask at the same moment. `jitter` is 0 to 255.
    fn renew_at(self, jitter: u8) -> u64 {
        let life = self.not_after.saturating_sub(self.not_before);
        let early = life / 20 * u64::from(jitter) / 255;
        self.not_after.saturating_sub(life / 3).saturating_sub(early)
    }
}

/// What is known of one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Life of the certificate that is there.
    pub(super) life: Option<Life>,
    /// Why the last attempt failed.
    pub(super) problem: Option<String>,
    /// When to try next, unix seconds.
    pub(super) next: u64,
    failures: u32,
}

/// All names.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    names: BTreeMap<String, Entry>,
    held_until: u64,
}

impl Schedule {
    /// Says which names are wanted: new ones are due at once, others are forgotten.
    pub(super) fn want(&mut self, hosts: impl IntoIterator<Item = String>) {
        let mut before = std::mem::take(&mut self.names);
        self.names = hosts
            .into_iter()
            .map(|host| {
                let entry = before.remove(&host).unwrap_or_default();
                (host, entry)
            })
            .collect();
    }

    /// The name has a certificate.
    pub(super) fn has(&mut self, host: &str, life: Life, jitter: u8) {
        if let Some(entry) = self.names.get_mut(host) {
            *entry = Entry { life: Some(life), next: life.renew_at(jitter), ..Entry::default() };
        }
    }

    /// An attempt failed. What is there stays.
    pub(super) fn failed(&mut self, host: &str, problem: String, limited: bool, now: u64, jitter: u8) {
        if limited {
            self.held_until = now.saturating_add(RATE_LIMIT_WAIT.as_secs());
        }
        if let Some(entry) = self.names.get_mut(host) {
            entry.failures = entry.failures.saturating_add(1);
            entry.problem = Some(problem);
            entry.next = now.saturating_add(wait_after(entry.failures, jitter).as_secs());
        }
    }

    /// A name that is due. Those without any certificate go first.
    pub(super) fn due(&self, now: u64) -> Option<&str> {
        if now < self.held_until {
            return None;
        }
        let due = self.names.iter().filter(|(_, entry)| entry.next <= now);
        due.min_by_key(|(_, entry)| (entry.life.is_some(), entry.next)).map(|(host, _)| host.as_str())
    }

    /// Every name with what is known of it.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.names.iter().map(|(host, entry)| (host.as_str(), entry))
    }
}

/// Doubling from a minute to half a day, give or take a quarter.
fn wait_after(failures: u32, jitter: u8) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let wait = doubled.min(LONGEST_WAIT);
    wait * 3 / 4 + wait / 2 * u32::from(jitter) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    fn names() -> Schedule {
        let mut schedule = Schedule::default();
        schedule.want(["a.corp.example".to_owned(), "b.corp.example".to_owned()]);
        schedule
    }

    #[test]
    fn a_new_name_is_due_at_once_and_again_at_two_thirds_of_its_life() {
        let mut schedule = names();
        assert_eq!(schedule.due(0), Some("a.corp.example"));
        schedule.has("a.corp.example", Life { not_before: 0, not_after: 90 * DAY }, 0);
        assert_eq!(schedule.due(0), Some("b.corp.example"));
        schedule.has("b.corp.example", Life { not_before: 0, not_after: 90 * DAY }, 255);
        assert_eq!(schedule.due(55 * DAY), None);
        assert_eq!(schedule.due(56 * DAY), Some("b.corp.example"), "a little earlier, by chance");
        assert_eq!(schedule.due(60 * DAY).map(str::len), Some(14));
        schedule.want(["a.corp.example".to_owned()]);
        assert_eq!(schedule.names().count(), 1);
        assert_eq!(schedule.due(60 * DAY - 1), None, "what is known of a name that stays is kept");
    }

    #[test]
    fn a_failing_name_waits_longer_each_time_and_holds_up_no_other() {
        let mut schedule = names();
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..15 {
            schedule.failed("a.corp.example", "no".into(), false, now, 0);
            assert_eq!(schedule.due(now), Some("b.corp.example"));
            let next = schedule.names().next().unwrap().1.next;
            waits.push(next - now);
            now = next;
        }
        assert_eq!(waits[..4], [45, 90, 180, 360]);
        assert_eq!(*waits.last().unwrap(), 12 * 3600 * 3 / 4);
        assert_eq!(wait_after(1, 255), Duration::from_secs(75));
        assert_eq!(wait_after(u32::MAX, 255), LONGEST_WAIT * 5 / 4);
        schedule.has("a.corp.example", Life { not_before: now, not_after: now + 90 * DAY }, 0);
        let entry = schedule.names().next().unwrap().1;
        assert_eq!((entry.failures, &entry.problem), (0, &None));
    }

    #[test]
    fn a_rate_limit_holds_up_all_names() {
        let mut schedule = names();
        schedule.failed("a.corp.example", "too many".into(), true, 1000, 0);
        assert_eq!(schedule.due(1000 + 3599), None);
        assert!(schedule.due(1000 + 3600).is_some());
    }

    #[test]
    fn a_renewal_that_fails_keeps_what_is_there() {
        let mut schedule = names();
        let life = Life { not_before: 0, not_after: 90 * DAY };
        schedule.has("a.corp.example", life, 0);
        schedule.failed("a.corp.example", "no".into(), false, 61 * DAY, 0);
        assert_eq!(schedule.names().next().unwrap().1.life, Some(life));
    }
}

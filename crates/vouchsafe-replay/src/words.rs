//! What was found, as people read it.

use vouchsafe_model::moment::about;

use crate::tally::{Count, Simulated};

impl Simulated {
    /// What a change of policy would have meant for recorded requests, in one line.
    #[must_use]
    pub fn in_words(&self) -> String {
        let Self { since, until, allowed, denied, replayed, lost, gained, whole, .. } = self;
        let days = about(until.saturating_sub(*since));
        let newest = if *whole { "" } else { "the newest " };
        if *replayed == 0 {
            return format!("no request of the last {days} is recorded that could be decided again");
        }
        let count = allowed + denied;
        let requests = format!("{} request{}", grouped(count), if count == 1 { "" } else { "s" });
        let all = format!("of {newest}{requests} recorded in {days}");
        match (lost.requests, gained.requests) {
            (0, 0) => format!("{all} it would have changed none"),
            (lost_requests, gained_requests) => {
                let mut parts = Vec::new();
                if lost_requests > 0 {
                    parts.push(format!("denied {} of {}", grouped(lost_requests), lost.people_in_words()));
                }
                if gained_requests > 0 {
                    parts.push(format!("allowed {} of {}", grouped(gained_requests), gained.people_in_words()));
                }
                format!("{all} it would have {}", parts.join(" and "))
            }
        }
    }
}

impl Count {
    /// `1 person`, `1,234 people`.
    #[must_use]
    pub fn people_in_words(&self) -> String {
        match self.people {
            1 => "1 person".to_owned(),
            people => format!("{} people", grouped(u64::try_from(people).unwrap_or(u64::MAX))),
        }
    }
}

/// `1,234,567`
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_groups_of_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_change_is_told_by_what_it_did() {
        let count = |requests, people| Count { requests, people };
        let found =
            Simulated { until: 30 * 86_400, whole: true, replayed: 12_000, allowed: 12_000, ..Simulated::default() };
        assert_eq!(found.in_words(), "of 12,000 requests recorded in 30 d it would have changed none");
        let some = Simulated { lost: count(3, 1), gained: count(2, 2), ..found.clone() };
        let told = "of 12,000 requests recorded in 30 d it would have denied 3 of 1 person and allowed 2 of 2 people";
        assert_eq!(some.in_words(), told);
        let none = Simulated { replayed: 0, ..found };
        assert_eq!(none.in_words(), "no request of the last 30 d is recorded that could be decided again");
    }
}

//! How far a resource is on its way to being enforced: who reached it, what would have been denied, and whether it
//! is safe to go on. Counted from the audit log.

use std::collections::BTreeMap;

use vouchsafe_model::name::ResourceName;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{AuditQuery, Progress, ProgressCheck, ProgressPerson, ProgressReason};
use vouchsafe_wire::audit::{Kind, Record};

use super::{AdministratorError, resources};
use crate::audit;
use crate::context::Context;
use crate::directory::Actor;
use crate::store;

const DAY: u64 = 86_400;
/// Days that are looked at unless asked otherwise, and most of them.
const DEFAULT_DAYS: u32 = 7;
const MOST_DAYS: u32 = 90;
/// Most records that are counted; of more, the latest are.
const MOST_RECORDS: u64 = 500_000;
/// Fewer accesses than these say little.
const FEW_ACCESSES: u64 = 50;
/// Most people that are listed, and that are told apart.
const MOST_LISTED: usize = 50;
const MOST_PEOPLE: usize = 10_000;

/// What the log says about a resource.
pub(crate) async fn of(
    context: &Context,
    name: &str,
    days: Option<u32>,
    by: &Actor,
) -> Result<Progress, AdministratorError> {
    let name = ResourceName::parse(name)?;
    let days = match days {
        None => DEFAULT_DAYS,
        Some(days @ 1..=MOST_DAYS) => days,
        Some(other) => {
            let given = other.to_string();
            return Err(AdministratorError::Value { member: "days", given, expected: "1 to 90" });
        }
    };
    let now = clock::unix_seconds(clock::now());
    let mut read = context.store.read().await?;
    let doc = resources::find(&mut read, &name).await?;
    let resource = doc.to_resource()?;
    let running = store::resources::running_since(&mut read, &name).await?;
    drop(read);
    let trial = resource.mode.trial().map(|(_, trial)| trial);
    let begun = running.filter(|_| trial.is_some_and(|trial| trial.runs(clock::now())));
    let since = now.saturating_sub(u64::from(days) * DAY).max(begun.unwrap_or_default());
    let query = AuditQuery {
        resource: Some(name.to_string()),
        kind: Some(Kind::Decision.as_str().to_owned()),
        since: Some(since),
        ..AuditQuery::default()
    };
    let mut counted = Counted::default();
    let whole = audit::fold(context, &query, MOST_RECORDS, "audit.progress", by, |record| counted.add(&record)).await?;
    let ends = trial.map(|trial| clock::unix_seconds(trial.until));
    let mode = if begun.is_some() { resource.mode.as_str() } else { "enforce" };
    let checks = begun.map(|begun| counted.checks(days, now.saturating_sub(begun), whole)).unwrap_or_default();
    let next = match mode {
        "observe" => Some("warn".to_owned()),
        "warn" => Some("enforce".to_owned()),
        _ => None,
    };
    let safe = next.is_some() && checks.iter().all(|check| check.holds);
    let owner = trial.map(|trial| trial.owner.to_string());
    Ok(counted.told(Progress {
        resource: name.to_string(),
        mode: mode.to_owned(),
        over: trial.is_some() && begun.is_none(),
        ends,
        owner,
        begun,
        since,
        days,
        whole,
        next,
        safe,
        checks,
        ..Progress::default()
    }))
}

/// What was counted.
#[derive(Default)]
struct Counted {
    allowed: u64,
    would_deny: u64,
    denied: u64,
    reasons: BTreeMap<String, u64>,
    people: BTreeMap<String, ProgressPerson>,
    /// Accesses of people beyond those that are told apart.
    others: u64,
}

impl Counted {
    fn add(&mut self, record: &Record) {
        let passed = record.passed.is_some();
        match (record.outcome.as_deref(), passed) {
            (Some("allow"), _) => self.allowed += 1,
            (Some("deny"), true) => {
                self.would_deny += 1;
                *self.reasons.entry(record.reason.clone().unwrap_or_default()).or_default() += 1;
            }
            (Some("deny"), false) => {
                self.denied += 1 + record.repeated.unwrap_or_default();
                return;
            }
            (Some(_) | None, _) => return,
        }
        let known = record.user.is_some();
        let who = record.user.clone().or_else(|| record.ip.clone()).unwrap_or_default();
        if self.people.len() >= MOST_PEOPLE && !self.people.contains_key(&who) {
            self.others += 1;
            return;
        }
        let person =
            self.people.entry(who.clone()).or_insert_with(|| ProgressPerson { who, known, ..Default::default() });
        person.accesses += 1;
        person.last = person.last.max(record.time_us / 1_000_000);
        if passed {
            person.would_deny += 1;
            let reason = record.reason.clone().unwrap_or_default();
            if !person.reasons.contains(&reason) {
                person.reasons.push(reason);
            }
        }
    }

    /// What speaks for going on, and against it.
    fn checks(&self, days: u32, runs: u64, whole: bool) -> Vec<ProgressCheck> {
        let accesses = self.allowed + self.would_deny;
        let check = |holds, words: String| ProgressCheck { holds, words };
        let mut checks = vec![
            match runs / DAY {
                seen if seen >= u64::from(days) => check(true, format!("it has run for {seen} days")),
                seen => check(false, format!("it has run for {seen} of {days} days: who comes seldom wasn’t seen yet")),
            },
            match accesses {
                FEW_ACCESSES.. => check(true, format!("{accesses} accesses were seen")),
                _ => check(false, format!("only {accesses} accesses were seen: fewer than {FEW_ACCESSES} say little")),
            },
            match self.would_deny {
                0 => check(true, "none of them would have been denied".to_owned()),
                some => check(false, format!("{some} of {accesses} accesses would have been denied")),
            },
        ];
        if !whole {
            checks.push(check(false, "older records were not looked at: there are too many".to_owned()));
        }
        checks
    }

    fn told(self, told: Progress) -> Progress {
        let Self { allowed, would_deny, denied, reasons, people, others } = self;
        let mut people: Vec<ProgressPerson> = people.into_values().collect();
        people.sort_by(|a, b| (b.would_deny, b.accesses, &a.who).cmp(&(a.would_deny, a.accesses, &b.who)));
        let count = people.len();
        people.truncate(MOST_LISTED);
        let mut reasons: Vec<ProgressReason> =
            reasons.into_iter().map(|(reason, count)| ProgressReason { reason, count }).collect();
        reasons.sort_by(|a, b| (b.count, &a.reason).cmp(&(a.count, &b.reason)));
        Progress {
            accesses: allowed + would_deny,
            would_deny,
            denied,
            reasons,
            more_people: u64::try_from(count - people.len()).unwrap_or_default(),
            uncounted: others,
            people,
            ..told
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(outcome: &str, passed: Option<&str>, user: Option<&str>, reason: &str) -> Record {
        let mut record = Record::new(Kind::Decision, 1_790_000_000_000_000);
        record.outcome = Some(outcome.to_owned());
        record.passed = passed.map(ToOwned::to_owned);
        record.user = user.map(ToOwned::to_owned);
        record.ip = Some("10.0.0.9".to_owned());
        record.reason = Some(reason.to_owned());
        record
    }

    #[test]
    fn accesses_are_what_went_on_and_denials_that_stood_are_none() {
        let mut counted = Counted::default();
        for _ in 0..60 {
            counted.add(&record("allow", None, Some("ann"), "permitted"));
        }
        counted.add(&record("deny", Some("observe"), Some("bob"), "no_permit"));
        counted.add(&record("deny", Some("observe"), None, "sign_in_required"));
        counted.add(&Record { repeated: Some(4), ..record("deny", None, None, "sign_in_required") });
        let whole = counted.checks(7, 8 * DAY, true);
        assert_eq!(whole.iter().map(|check| check.holds).collect::<Vec<_>>(), [true, true, false]);
        let told = counted.told(Progress::default());
        assert_eq!((told.accesses, told.would_deny, told.denied), (62, 2, 5));
        let people: Vec<(&str, bool, u64)> =
            told.people.iter().map(|person| (person.who.as_str(), person.known, person.would_deny)).collect();
        assert_eq!(people, [("10.0.0.9", false, 1), ("bob", true, 1), ("ann", true, 0)]);
    }

    #[test]
    fn it_is_safe_to_go_on_only_when_nothing_speaks_against_it() {
        let mut counted = Counted::default();
        let safe = |counted: &Counted, runs, whole| counted.checks(7, runs, whole).iter().all(|check| check.holds);
        assert!(!safe(&counted, 30 * DAY, true), "nobody came");
        (0..50).for_each(|_| counted.add(&record("allow", None, Some("ann"), "permitted")));
        assert!(safe(&counted, 7 * DAY, true));
        assert!(!safe(&counted, 7 * DAY - 1, true) && !safe(&counted, 7 * DAY, false));
        counted.add(&record("deny", Some("warn"), Some("bob"), "no_permit"));
        assert!(!safe(&counted, 7 * DAY, true));
    }
}

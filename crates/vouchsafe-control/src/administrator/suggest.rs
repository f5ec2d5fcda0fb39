//! A least-privilege policy from what was used, and rights that nobody used: counted from the audit log, or from
//! accesses that were observed elsewhere.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vouchsafe_model::name::{PolicyName, ResourceName, UserName};
use vouchsafe_model::observed::{Observed, Source, Tally};
use vouchsafe_model::subject::Grade;
use vouchsafe_policy::{Engine, Foreseen, GiveUp, People, SuggestError, SuggestOptions, Suggestion, Unused, Wanted};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{AuditQuery, DiffRequest, ForeseeRequest, Looked, Seen, SuggestRequest, UnusedRequest};
use vouchsafe_wire::audit::{Kind, Record};

use super::AdministratorError;
use super::difference::{self, Usual};
use crate::audit;
use crate::context::Context;
use crate::directory::Actor;
use crate::store::facts;

const DAY: u64 = 86_400;
/// Days that are looked at unless asked otherwise, and most of them.
const DEFAULT_DAYS: u32 = 30;
const MOST_DAYS: u32 = 366;
/// Most records that are counted; of more, the latest are.
const MOST_RECORDS: u64 = 1_000_000;
/// Most kinds of accesses that are told apart.
const MOST_KINDS: usize = 200_000;
/// Most that an answer lists of one thing; counts are whole.
const MOST_LISTED: usize = 10_000;
/// Longest time that counting rights takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Suggests a policy.
pub(crate) async fn suggest(
    context: &Context,
    asked: SuggestRequest,
    by: &Actor,
) -> Result<Seen<Suggestion>, AdministratorError> {
    let SuggestRequest { days, observed, resources, rare, group_share, demand_grade, without_device } = asked;
    let usual = SuggestOptions::default();
    let options = SuggestOptions {
        resources: named(&resources)?,
        rare: within("rare", rare.unwrap_or(usual.rare), 1..=1_000_000, "1 to 1000000")?,
        share: within("group_share", group_share.unwrap_or(usual.share), 1..=100, "1 to 100")?,
        demand_grade,
        without_device,
    };
    let days = if observed.is_empty() { Some(days.unwrap_or(DEFAULT_DAYS)) } else { days };
    let asked = Asked { verb: "audit.suggest", resources: options.resources.as_ref(), granted: Granted::Apart };
    let (looked, observed) = looked(context, days, observed, asked, by).await?;
    let mut suggestion = counted(context, move |engine, people, give_up| {
        vouchsafe_policy::suggest(&engine, &people, &observed, &options, clock::now(), give_up)
    })
    .await?;
    suggestion.rare.truncate(MOST_LISTED);
    suggestion.left_out.truncate(MOST_LISTED);
    suggestion.policies.iter_mut().for_each(|policy| policy.beyond.truncate(MOST_LISTED));
    Ok(Seen { looked, answer: suggestion })
}

/// Finds rights that nobody used.
pub(crate) async fn unused(
    context: &Context,
    asked: UnusedRequest,
    by: &Actor,
) -> Result<Seen<Unused>, AdministratorError> {
    let UnusedRequest { days, observed, resources } = asked;
    let resources = named(&resources)?;
    let asked = Asked { verb: "audit.unused", resources: resources.as_ref(), granted: Granted::Counted };
    let (looked, observed) = looked(context, Some(days), observed, asked, by).await?;
    // Of what wasn't looked at nobody can say that it wasn't there.
    if !looked.whole || looked.beyond > 0 {
        return Err(AdministratorError::TooMuchToCount);
    }
    let since = looked.since.unwrap_or_default();
    let mut unused = counted(context, move |engine, people, give_up| {
        vouchsafe_policy::unused(&engine, &people, &observed, resources.as_ref(), since, clock::now(), give_up)
    })
    .await?;
    unused.can.iter_mut().for_each(|right| right.users.truncate(MOST_LISTED));
    Ok(Seen { looked, answer: unused })
}

/// Looks what accesses that were observed elsewhere would come to under a draft, or under a version.
pub(crate) async fn foresee(context: &Context, asked: ForeseeRequest) -> Result<Foreseen, AdministratorError> {
    let ForeseeRequest { observed, after, files } = asked;
    let observed = tallied(observed)?.into_observed();
    let policies = DiffRequest { before: None, after, files };
    let mut read = context.store.read().await?;
    let (before, after) = difference::engines(context, &mut read, &policies, Usual::InForce).await?;
    let people = facts::people(&mut read, &Wanted::All).await?;
    drop(read);
    let mut foreseen = apart(context, move |give_up| {
        vouchsafe_policy::foresee(&before, &after, &people, &observed, clock::now(), give_up)
    })
    .await?;
    foreseen.concerned.truncate(MOST_LISTED);
    foreseen.concerned.iter_mut().for_each(|concerned| concerned.users.truncate(MOST_LISTED));
    foreseen.left_out.truncate(MOST_LISTED);
    Ok(foreseen)
}

fn within<T: PartialOrd + ToString>(
    member: &'static str,
    given: T,
    range: std::ops::RangeInclusive<T>,
    expected: &'static str,
) -> Result<T, AdministratorError> {
    if range.contains(&given) {
        return Ok(given);
    }
    Err(AdministratorError::Value { member, given: given.to_string(), expected })
}

fn named(resources: &[String]) -> Result<Option<BTreeSet<ResourceName>>, AdministratorError> {
    let names = resources.iter().map(|name| ResourceName::parse(name)).collect::<Result<BTreeSet<_>, _>>()?;
    Ok((!names.is_empty()).then_some(names))
}

/// Works on everybody's rights under the policy in force.
async fn counted<A: Send + 'static>(
    context: &Context,
    work: impl FnOnce(Arc<Engine>, People, GiveUp<'_>) -> Result<A, SuggestError> + Send + 'static,
) -> Result<A, AdministratorError> {
    let mut read = context.store.read().await?;
    let engine = context.live.engine(&mut read).await?;
    let people = facts::people(&mut read, &Wanted::All).await?;
    drop(read);
    apart(context, move |give_up| work(engine, people, give_up)).await
}

/// Works when it is its turn, until it is done, takes too long, or nobody waits for it.
async fn apart<A: Send + 'static>(
    context: &Context,
    work: impl FnOnce(GiveUp<'_>) -> Result<A, SuggestError> + Send + 'static,
) -> Result<A, AdministratorError> {
    let waiting = CancellationToken::new();
    let (cancelled, _guard) = (waiting.clone(), waiting.drop_guard());
    let work = move || {
        let deadline = Instant::now() + PATIENCE;
        work(&|| cancelled.is_cancelled() || Instant::now() > deadline)
    };
    Ok(context.rights.work(work).await??)
}

/// What becomes of accesses that grants alone allowed, which have their own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Granted {
    /// No policy is made of them.
    Apart,
    /// They were used.
    Counted,
}

/// For which question.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    /// As the record of the read has it.
    verb: &'a str,
    resources: Option<&'a BTreeSet<ResourceName>>,
    granted: Granted,
}

/// What is said to have been observed, added up.
fn tallied(given: Vec<Observed>) -> Result<Tally, AdministratorError> {
    let mut tally = Tally::new(MOST_KINDS);
    for one in given {
        if one.count == 0 || one.first > one.last {
            let given = format!("{} times, from {} to {}", one.count, one.first, one.last);
            return Err(AdministratorError::Value {
                member: "observed",
                given,
                expected: "seen once or more, in order",
            });
        }
        tally.add(one);
    }
    Ok(tally)
}

/// What was observed: in the audit log of so many days, and elsewhere.
async fn looked(
    context: &Context,
    days: Option<u32>,
    given: Vec<Observed>,
    asked: Asked<'_>,
    by: &Actor,
) -> Result<(Looked, Vec<Observed>), AdministratorError> {
    let mut looked = Looked { given: given.len(), whole: true, ..Looked::default() };
    let mut tally = tallied(given)?;
    if let Some(days) = days {
        let days = within("days", days, 1..=MOST_DAYS, "1 to 366")?;
        let since = clock::unix_seconds(clock::now()).saturating_sub(u64::from(days) * DAY);
        // Of one resource the log's index finds the records.
        let one = asked.resources.filter(|resources| resources.len() == 1).and_then(BTreeSet::first);
        let query = AuditQuery {
            kind: Some(Kind::Decision.as_str().to_owned()),
            since: Some(since),
            resource: one.map(ToString::to_string),
            ..AuditQuery::default()
        };
        looked.since = Some(since);
        let each = |record: Record| add(&record, asked.granted, &mut looked, &mut tally);
        looked.whole = audit::fold(context, &query, MOST_RECORDS, asked.verb, by, each).await?;
    }
    looked.beyond = tally.beyond();
    Ok((looked, tally.into_observed()))
}

/// Takes a decision that let somebody go on: allowed, or denied and passed by a mode.
fn add(record: &Record, granted: Granted, looked: &mut Looked, tally: &mut Tally) {
    let seconds = record.time_us / 1_000_000;
    looked.oldest = Some(looked.oldest.map_or(seconds, |oldest| oldest.min(seconds)));
    let went_on = match (record.outcome.as_deref(), &record.passed) {
        (Some("allow"), _) | (Some("deny"), Some(_)) => true,
        (Some(_) | None, _) => false,
    };
    // The console's rights are for people to decide, and it is no resource of theirs.
    let console = record.resource.as_deref() == Some(ResourceName::console().as_str());
    if !went_on || console {
        return;
    }
    looked.decisions += 1;
    let is_grant = |policy: &String| PolicyName::parse(policy).is_ok_and(|policy| policy.is_of_grant());
    if record.outcome.as_deref() == Some("allow") && !record.policies.is_empty() && record.policies.iter().all(is_grant)
    {
        looked.granted += 1;
        if granted == Granted::Apart {
            return;
        }
    }
    let user = record.user.as_deref().and_then(|name| UserName::parse(name).ok());
    let resource = record.resource.as_deref().and_then(|name| ResourceName::parse(name).ok());
    let action = record.action.as_deref().and_then(|action| action.parse().ok());
    let (Some(user), Some(resource), Some(action)) = (user, resource, action) else {
        looked.nobody += 1;
        return;
    };
    let grade = record.grade.as_deref().and_then(Grade::from_word);
    let (first, last) = (seconds, seconds);
    tally.add(Observed { user, resource, action, count: 1, first, last, grade, source: Source::Audit });
}

#[cfg(test)]
mod tests {
    use vouchsafe_model::id::GrantId;

    use super::*;

    fn record(outcome: &str, passed: Option<&str>, user: Option<&str>, policies: &[&str]) -> Record {
        let mut record = Record::new(Kind::Decision, 1_790_000_000_000_000);
        record.outcome = Some(outcome.to_owned());
        record.passed = passed.map(ToOwned::to_owned);
        record.user = user.map(ToOwned::to_owned);
        record.resource = Some("wiki".to_owned());
        record.action = Some("http:read".to_owned());
        record.grade = Some("software".to_owned());
        record.policies = policies.iter().map(|policy| (*policy).to_owned()).collect();
        record
    }

    #[test]
    fn accesses_are_what_went_on_and_was_nobodys_exception() {
        let (mut looked, mut tally) = (Looked::default(), Tally::new(10));
        let grant = GrantId::from_random([1; 16]).to_string();
        let console = Record { resource: Some("console".to_owned()), ..record("allow", None, Some("ann"), &["p"]) };
        for record in [
            record("allow", None, Some("ann"), &["wiki-for-all"]),
            record("allow", None, Some("ann"), &["wiki-for-all", &grant]),
            record("deny", Some("observe"), Some("bob"), &[]),
            record("deny", Some("observe"), None, &[]),
            record("deny", None, Some("eve"), &[]),
            record("allow", None, Some("eve"), &[&grant]),
            console,
        ] {
            add(&record, Granted::Apart, &mut looked, &mut tally);
        }
        assert_eq!((looked.decisions, looked.nobody, looked.granted), (5, 1, 1));
        assert_eq!(looked.oldest, Some(1_790_000_000));
        let told: Vec<(String, u64)> =
            tally.into_observed().into_iter().map(|one| (one.user.to_string(), one.count)).collect();
        assert_eq!(told, [("ann".to_owned(), 2), ("bob".to_owned(), 1)]);
        // Who used a right by a grant has used it.
        let (mut looked, mut tally) = (Looked::default(), Tally::new(10));
        add(&record("allow", None, Some("eve"), &[&grant]), Granted::Counted, &mut looked, &mut tally);
        assert_eq!((looked.granted, tally.into_observed().len()), (1, 1));
    }
}

//! Requests for access: a user asks for a right for a time, somebody else gives it, and it ends by itself.
//!
//! Who may ask and who may approve, policies say: each is an operation of the API, with the resource in its path. Nobody
//! approves her own request, whatever a policy says. An approval makes a grant in the same transaction.

use std::ops::RangeInclusive;

use vouchsafe_model::id::RequestId;
use vouchsafe_model::name::{PolicyName, ResourceName, UserName};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{AskedTemplate, DecideRequest, NewRequest, RequestDoc, RequestState};

use super::{AdministratorError, grants as giving, one_line, templates};
use crate::context::Context;
use crate::directory::{Actor, users};
use crate::store::{StoreError, Write, requests};

/// Seconds that may be asked for: a minute to thirty days.
const SECONDS: RangeInclusive<u64> = 60..=2_592_000;
/// Seconds until a request that nobody decides is over: a week.
const OPEN_SECONDS: u64 = 604_800;
/// How long it is shown what became of a request: ninety days.
const KEPT_SECONDS: u64 = 7_776_000;
/// Open requests of one user.
const MOST_OF_ONE: u64 = 5;
/// Requests of one user within a day, whatever became of them.
const MOST_A_DAY: u64 = 50;
/// Open requests of everybody.
const MOST: u64 = 10_000;

/// What becomes of an open request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A grant is given.
    Approve,
    /// None is.
    Deny,
    /// Who asked has thought better of it.
    Withdraw,
}

/// Asks for a right. Whether there is such a resource is not said: that is for those to know who may have it.
pub(crate) async fn add(
    context: &Context,
    resource: &str,
    new: &NewRequest,
    by: &Actor,
) -> Result<RequestDoc, AdministratorError> {
    let NewRequest { seconds, reason, template } = new;
    let (user, resource) = (user_of(by)?, ResourceName::parse(resource)?);
    if !SECONDS.contains(seconds) {
        let (given, expected) = (seconds.to_string(), "60 to 2592000 (thirty days)");
        return Err(AdministratorError::Value { member: "seconds", given, expected });
    }
    if reason.trim().is_empty() {
        return Err(AdministratorError::Value { member: "reason", given: String::new(), expected: "said" });
    }
    one_line("reason", reason)?;
    let template = template.as_deref().map(PolicyName::parse).transpose()?;
    let now = clock::unix_seconds(clock::now());
    let mut write = context.store.write().await?;
    users::enabled(write.connection(), user).await?;
    let day = now.saturating_sub(86_400);
    if requests::count_since(write.connection(), user, day).await? >= MOST_A_DAY {
        return Err(AdministratorError::TooManyRequests);
    }
    match requests::count_open(write.connection(), user, &resource).await? {
        (MOST.., _, _) | (_, MOST_OF_ONE.., _) => return Err(AdministratorError::TooManyRequests),
        (_, _, 1..) => return Err(AdministratorError::RequestedAlready { resource: resource.to_string() }),
        (_, _, 0) => {}
    }
    // Who decides sees what it permits, and decides on that: a template that changes is another.
    let asked = match template {
        Some(name) => {
            let digest = templates::find(context, &mut write, &name).await?.digest();
            Some(AskedTemplate::new(name.to_string(), digest))
        }
        None => None,
    };
    let request = RequestDoc {
        id: RequestId::from_random(clock::random()).to_string(),
        user: user.to_string(),
        resource: resource.to_string(),
        seconds: *seconds,
        template: asked,
        reason: reason.clone(),
        state: RequestState::Open,
        created: now,
        open_until: now.saturating_add(OPEN_SECONDS),
        decided_by: None,
        decided: None,
        note: String::new(),
        grant: None,
    };
    requests::insert(write.connection(), &request).await?;
    write.audit(by.changed("request.add", target(&request), described(&request)));
    write.commit().await?;
    Ok(request)
}

/// The requests of who asks.
pub(crate) async fn own(context: &Context, by: &Actor) -> Result<Vec<RequestDoc>, AdministratorError> {
    let mut requests = list(context, Some(user_of(by)?)).await?;
    // What policies say is for those who decide.
    requests.iter_mut().filter_map(|request| request.template.as_mut()).for_each(|template| template.text.clear());
    Ok(requests)
}

/// The requests of everybody.
pub(crate) async fn all(context: &Context) -> Result<Vec<RequestDoc>, AdministratorError> {
    list(context, None).await
}

async fn list(context: &Context, user: Option<&UserName>) -> Result<Vec<RequestDoc>, AdministratorError> {
    let mut read = context.store.read().await?;
    let mut requests = requests::list(&mut read, user).await?;
    templates::tell(context, &mut read, &mut requests).await?;
    Ok(requests)
}

/// Decides an open request for that resource, once.
pub(crate) async fn decide(
    context: &Context,
    resource: &str,
    id: &str,
    verdict: Verdict,
    with: &DecideRequest,
    by: &Actor,
) -> Result<RequestDoc, AdministratorError> {
    let DecideRequest { note } = with;
    let (resource, id): (ResourceName, RequestId) = (ResourceName::parse(resource)?, id.parse()?);
    one_line("note", note)?;
    let missing = || AdministratorError::Missing { what: "request", name: id.to_string() };
    let now = clock::unix_seconds(clock::now());
    let mut write = context.store.write().await?;
    let request = requests::show(write.connection(), &id).await?.ok_or_else(missing)?;
    // Policies were asked about the resource in the path, so the request must be for that one.
    if request.resource != resource.as_str() {
        return Err(missing());
    }
    let is_own = matches!(by, Actor::User { name, .. } if name.as_str() == request.user);
    match (verdict, is_own) {
        (Verdict::Approve | Verdict::Deny, true) => return Err(AdministratorError::OwnRequest),
        // Others' requests are there for nobody to withdraw.
        (Verdict::Withdraw, false) => return Err(missing()),
        (Verdict::Approve | Verdict::Deny, false) | (Verdict::Withdraw, true) => {}
    }
    if request.state != RequestState::Open || request.open_until <= now {
        let state = if request.state == RequestState::Open { RequestState::Expired } else { request.state };
        return Err(AdministratorError::RequestSettled { state: state.as_str() });
    }
    let mut settled = RequestDoc { decided_by: Some(by.label()), decided: Some(now), note: note.clone(), ..request };
    let verb = match verdict {
        Verdict::Approve => {
            let template = still_asked(context, &mut write, &settled, &resource).await?;
            let (user, reason) = (UserName::parse(&settled.user)?, settled.reason.as_str());
            let (seconds, template) = (Some(settled.seconds), template.as_ref());
            let given = giving::Given { user: &user, resource: &resource, seconds, reason, template };
            let grant = giving::give(&mut write, &given, by).await?;
            (settled.state, settled.grant) = (RequestState::Approved, Some(grant.id));
            "request.approve"
        }
        Verdict::Deny => {
            settled.state = RequestState::Denied;
            "request.deny"
        }
        Verdict::Withdraw => {
            settled.state = RequestState::Withdrawn;
            "request.withdraw"
        }
    };
    settle(&mut write, &settled, verb, by).await?;
    write.commit().await?;
    Ok(settled)
}

/// The template of a request, as long as it is what was asked for.
async fn still_asked(
    context: &Context,
    write: &mut Write,
    request: &RequestDoc,
    resource: &ResourceName,
) -> Result<Option<PolicyName>, AdministratorError> {
    let Some(AskedTemplate { name, digest, .. }) = &request.template else { return Ok(None) };
    let name = PolicyName::parse(name)?;
    let found = templates::find(context, write, &name).await?;
    if found.digest() != *digest {
        return Err(AdministratorError::TemplateChanged { template: name.to_string() });
    }
    found.fits(write, resource).await?;
    Ok(Some(name))
}

async fn settle(write: &mut Write, request: &RequestDoc, verb: &str, by: &Actor) -> Result<(), StoreError> {
    // INVARIANT: it was read as open in this very transaction.
    requests::settle(write.connection(), request).await?;
    write.audit(by.changed(verb, target(request), described(request)));
    Ok(())
}

/// Ends the open requests whose time is over and forgets those that were settled long ago, at most `limit` of each;
/// gives how many.
pub(crate) async fn end_over(write: &mut Write, now: u64, limit: u32) -> Result<u64, StoreError> {
    let mut ended = 0;
    for request in requests::over(write.connection(), now, limit).await? {
        let over = RequestDoc { state: RequestState::Expired, decided: Some(now), ..request };
        settle(write, &over, "request.expire", &Actor::Controller).await?;
        ended += 1;
    }
    ended += requests::forget_settled(write.connection(), now.saturating_sub(KEPT_SECONDS), limit).await?;
    Ok(ended)
}

fn user_of(by: &Actor) -> Result<&UserName, AdministratorError> {
    match by {
        Actor::User { name, .. } => Ok(name),
        Actor::Local { .. } | Actor::Device { .. } | Actor::Anonymous { .. } | Actor::Controller => {
            Err(AdministratorError::NoUser)
        }
    }
}

fn target(request: &RequestDoc) -> String {
    format!("request/{}", request.id)
}

/// A request in words.
fn described(request: &RequestDoc) -> String {
    let RequestDoc { user, resource, seconds, template, reason, note, grant, .. } = request;
    let grant = grant.as_ref().map(|grant| format!(", as {grant}")).unwrap_or_default();
    let note = if note.is_empty() { String::new() } else { format!("; {note}") };
    let template = template.as_ref().map(|of| format!(" by template {} {}", of.name, of.digest)).unwrap_or_default();
    format!("{user} to {resource}{template} for {seconds} s{grant}: {reason}{note}")
}

#[cfg(test)]
mod tests;

//! Asking for access on one's own page. Policies say who may: each form comes to an operation of the API, and is asked about
//! as that.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::HeaderMap;
use vouchsafe_model::id::RequestId;
use vouchsafe_model::name::ResourceName;
use vouchsafe_wire::api::{DecideRequest, NewRequest};

use super::Service;
use super::authenticate::query_fields;
use super::guard::{Peer, Presence, SignedIn, field, form, presence};
use super::me::{PageRefusal, console_for};
use super::refusal::Refusal;
use crate::administrator::requests::{self, Verdict};
use crate::administrator::{AdministratorError, standing};
use crate::pages;
use crate::pages::ask::{Asking, HOURS};
use crate::store;

const MAY_NOT: Refusal = Refusal::NotPermitted(
    "No policy lets you ask for this from here. Where policies want an enrolled device for it, ask on yours; or ask an \
     administrator.",
);

/// `GET /ask?resource=&hours=&reason=`: a form, filled in as far as the query says.
pub(super) async fn page(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, PageRefusal> {
    let Presence::SignedIn(signed_in) = presence(&service.context, &peer, &headers).await? else {
        return Ok(Redirect::to("/sign-in").into_response());
    };
    service.limit(|limits| &limits.pages, peer.ip())?;
    let fields = query_fields(query.as_deref());
    let text = |name: &str| field(&fields, name).unwrap_or_default().chars().take(200).collect::<String>();
    Ok(pages::ask::page(&Asking {
        resource: text("resource"),
        hours: text("hours").parse().ok(),
        reason: text("reason"),
        csrf: signed_in.csrf(),
        console: console_for(&service.context, &signed_in.actor(&peer)).await,
    }))
}

/// `POST /ask`, a form with `resource`, `hours` and `reason`.
pub(super) async fn send(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageRefusal> {
    let (signed_in, fields) = form(&service.context, &peer, &headers, &body).await?;
    service.limit(|limits| &limits.attempts, peer.ip())?;
    let resource = field(&fields, "resource").unwrap_or_default().trim();
    let resource = ResourceName::parse(resource)
        .map_err(|_| Refusal::Malformed("That is no name of an app. It is the first part of the app's address."))?;
    let hours = field(&fields, "hours").and_then(|hours| hours.parse().ok()).filter(|hours| HOURS.contains(hours));
    let hours = hours.ok_or(Refusal::Malformed("Choose for how long."))?;
    let reason = field(&fields, "reason").unwrap_or_default().trim().to_owned();
    if reason.is_empty() {
        return Err(Refusal::Malformed("Say why: whoever decides has nothing else to go by.").into());
    }
    let operation = format!("POST /v1/resources/{resource}/requests");
    may(&service, &peer, &signed_in, "request.add", &operation).await?;
    let new = NewRequest { seconds: hours * 3_600, reason, template: None };
    requests::add(&service.context, resource.as_str(), &new, &signed_in.actor(&peer)).await?;
    Ok(Redirect::to("/#requests").into_response())
}

/// `POST /ask/withdraw`, a form with `request`: one of the person's own.
pub(super) async fn withdraw(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageRefusal> {
    let (signed_in, fields) = form(&service.context, &peer, &headers, &body).await?;
    service.limit(|limits| &limits.attempts, peer.ip())?;
    let id: RequestId = field(&fields, "request").and_then(|id| id.parse().ok()).ok_or(Refusal::NotFound)?;
    let found = store::requests::show(&mut *service.context.store.read().await?, &id).await?;
    let user = signed_in.facts.user.name.as_str();
    let found = found.filter(|request| request.user == user).ok_or(Refusal::NotFound)?;
    let operation = format!("POST /v1/resources/{}/requests/{id}/withdraw", found.resource);
    may(&service, &peer, &signed_in, "request.withdraw", &operation).await?;
    let (actor, with) = (signed_in.actor(&peer), DecideRequest { note: String::new() });
    requests::decide(&service.context, &found.resource, &id.to_string(), Verdict::Withdraw, &with, &actor).await?;
    Ok(Redirect::to("/#requests").into_response())
}

/// Asks the policy in force; a denial is recorded, as no gateway has decided on this.
async fn may(
    service: &Service,
    peer: &Peer,
    signed_in: &SignedIn,
    action: &str,
    operation: &str,
) -> Result<(), Refusal> {
    let actor = signed_in.actor(peer);
    match standing::may(&service.context, &actor, operation).await {
        Ok(()) => Ok(()),
        Err(AdministratorError::NoLonger) => {
            let mut record = actor.changed(action, operation.to_owned(), "no policy permits it".to_owned());
            record.outcome = Some("failed".to_owned());
            let mut write = service.context.store.write().await?;
            write.audit(record);
            write.commit().await?;
            Err(MAY_NOT)
        }
        Err(error) => Err(error.into()),
    }
}

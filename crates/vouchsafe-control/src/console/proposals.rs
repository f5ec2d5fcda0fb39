//! Versions of the policy that wait for a second administrator: what each would change, and deciding it.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use vouchsafe_wire::api::{DecideProposal, DiffRequest, ProposalState};

use super::{Admin, ConsoleError, Fields, Sent, views};
use crate::administrator::{approval, difference, policy};
use crate::context::Context;
use crate::directory::Actor;
use crate::store;

/// `GET /proposals`.
pub(super) async fn list(State(context): State<Context>, Admin(actor): Admin) -> Result<Response, ConsoleError> {
    let mut read = context.store.read().await?;
    Ok(views::proposals::list(&actor.label(), &store::proposals::list(&mut read).await?))
}

/// `GET /proposals/ID`: compared with the version that it changes.
pub(super) async fn show(
    State(context): State<Context>,
    Admin(actor): Admin,
    Path(id): Path<String>,
) -> Result<Response, ConsoleError> {
    let proposal = approval::show(&context, &id).await?;
    let asked = DiffRequest { before: Some(proposal.base), after: None, files: Some(proposal.files.clone()) };
    // One that is settled is history: nobody waits to hear whom it would have touched.
    let found = match proposal.state {
        ProposalState::Open => Some(difference::compare(&context, &asked).await?),
        ProposalState::Approved | ProposalState::Rejected | ProposalState::Expired => None,
    };
    let base = policy::show(&mut *context.store.read().await?, proposal.base).await?;
    let name = match &actor {
        Actor::User { name, .. } => Some(name.as_str()),
        Actor::Local { .. } | Actor::Device { .. } | Actor::Anonymous { .. } | Actor::Controller => None,
    };
    Ok(views::proposals::one(&actor.label(), name, &proposal, &base, found.as_ref()))
}

/// `POST /v1/policy/pending/ID/approve`, a form with `digest` and `note`.
pub(super) async fn approve(
    State(context): State<Context>,
    Sent(actor): Sent,
    Path(id): Path<String>,
    form: Bytes,
) -> Result<Response, ConsoleError> {
    approval::approve(&context, &id, &decided(&form)?, &actor).await?;
    Ok(Redirect::to(&format!("/proposals/{id}")).into_response())
}

/// `POST /v1/policy/pending/ID/reject`, a form with `digest` and `note`.
pub(super) async fn reject(
    State(context): State<Context>,
    Sent(actor): Sent,
    Path(id): Path<String>,
    form: Bytes,
) -> Result<Response, ConsoleError> {
    approval::reject(&context, &id, &decided(&form)?, &actor).await?;
    Ok(Redirect::to(&format!("/proposals/{id}")).into_response())
}

/// What the form says. The digest is that of what was looked at, so it must be there.
fn decided(form: &[u8]) -> Result<DecideProposal, ConsoleError> {
    let fields = Fields::of_form(form, &["digest", "note"])?;
    let digest = Some(fields.text("digest").ok_or(ConsoleError::Form)?.to_owned());
    Ok(DecideProposal { digest, note: fields.text("note").unwrap_or_default().to_owned() })
}

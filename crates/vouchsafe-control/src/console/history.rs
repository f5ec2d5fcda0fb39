//! What a version of the policy changed: for whom, in recorded requests, and in its text.

use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use vouchsafe_policy::Difference;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{DiffRequest, SimulateRequest};

use super::{Admin, ConsoleError, views};
use crate::administrator::{difference, policy, simulate};
use crate::context::Context;
use crate::directory::Actor;

/// Days of the log that are looked at when somebody asks for it, as on the command line.
const DAYS: u64 = 30;
/// Most recorded requests that a page looks at, and for how long at most.
const MAX_RECORDED: u64 = 500_000;
const PATIENCE: Duration = Duration::from_secs(10);

/// What a page says of recorded requests.
pub(super) enum Recorded {
    /// In words.
    Counted(String),
    /// Where it is counted.
    Link(String),
}

/// `GET /policy/diff?before=&after=&recorded=`: two versions; without them what the last publish changed.
pub(super) async fn compare(
    State(context): State<Context>,
    Admin(actor): Admin,
    RawQuery(query): RawQuery,
) -> Result<Response, ConsoleError> {
    let mut asked = DiffRequest { before: None, after: None, files: None };
    let mut counts = false;
    for (name, value) in url::form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes()).take(4) {
        let number = || value.trim().parse().map_err(|_| ConsoleError::NotFound);
        match name.as_ref() {
            "before" => asked.before = Some(number()?),
            "after" => asked.after = Some(number()?),
            "recorded" => counts = true,
            _ => return Err(ConsoleError::NotFound),
        }
    }
    let found = difference::compare(&context, &asked).await?;
    let recorded = if counts {
        counted(&context, &found, &actor).await
    } else {
        Recorded::Link(format!("/policy/diff?before={}&after={}&recorded=1", found.before, found.after))
    };
    let mut read = context.store.read().await?;
    let before = policy::show(&mut read, found.before).await?;
    let after = policy::show(&mut read, found.after).await?;
    Ok(views::policy::difference(&actor.label(), &found, &before, &after, &recorded))
}

/// What of the log the later version would have changed; what changes for whom is told also without it.
async fn counted(context: &Context, found: &Difference, by: &Actor) -> Recorded {
    let asked = SimulateRequest {
        before: Some(found.before),
        after: Some(found.after),
        files: None,
        since: Some(clock::unix_seconds(clock::now()).saturating_sub(DAYS * 86_400)),
        until: None,
        limit: Some(MAX_RECORDED),
    };
    Recorded::Counted(match simulate::glance(context, &asked, by, PATIENCE).await {
        Ok(recorded) => recorded.in_words(),
        Err(error) => format!("recorded requests were not counted: {error}"),
    })
}

//! Sessions and locks: who is signed in where, and ending it.

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{Lock, LockKind, NewLock, Session};

use super::parts::{cards, chip, count, empty, link, segment};
use super::{Admin, ConsoleError, Fields, Sent, frame, paged};
use crate::administrator::standing;
use crate::context::Context;
use crate::directory::{Actor, locks, sessions, users};
use crate::pages::layout::{ago, at};
use crate::store;

/// Sessions on one page.
const PAGE: usize = 50;
/// For how long something can be locked by the form: hours.
const HOURS: [u64; 4] = [1, 8, 24, 168];

/// `GET /sessions?user=&page=`.
pub(super) async fn list(
    State(context): State<Context>,
    Admin(actor): Admin,
    RawQuery(query): RawQuery,
) -> Result<Response, ConsoleError> {
    let fields = Fields::of_query(query.as_deref());
    let now = clock::unix_seconds(clock::now());
    let mut read = context.store.read().await?;
    let mut all = store::sessions::page(&mut read, ("", ""), u32::MAX, now).await?;
    let locks = store::locks::list(&mut read).await?;
    drop(read);
    let user = fields.short("user");
    all.retain(|session| user.as_ref().is_none_or(|user| session.user == *user));
    all.sort_by_key(|session| std::cmp::Reverse(session.created));
    let own = session_of(&actor);
    let (shown, pages) = paged(&all, PAGE, &fields, "/sessions");
    let body = html! {
        section aria-label="Open sessions" {
            @if all.is_empty() {
                (empty("Nobody is signed in", html! { "A session begins when somebody signs in, in a browser or with " code { "vouchsafe login" } "." }))
            } @else { (table(shown, own.as_deref(), now, "/sessions")) }
            (pages)
        }
        h2 #locks { "Locks" }
        section aria-labelledby="locks" {
            @if locks.is_empty() {
                (empty("Nothing is locked", html! {
                    "A lock ends everything of a user, a device or a session at once, and holds until it is taken away. Its button is on their pages."
                }))
            } @else { (locked(&locks, now)) }
        }
    };
    let head = html! {
        div .head {
            h1 { "Sessions" }
            form .inline method="get" action="/sessions" role="search" {
                label .hidden for="user" { "User" }
                input #user name="user" placeholder="User" value=[user.as_deref()];
                button { "Filter" }
            }
        }
    };
    Ok(frame::headed("Sessions", "Sessions", &actor.label(), head, body))
}

fn session_of(actor: &Actor) -> Option<String> {
    match actor {
        Actor::User { session: Some(session), .. } => Some(session.to_string()),
        _ => None,
    }
}

/// Open sessions with what ends them.
pub(super) fn table(sessions: &[Session], own: Option<&str>, now: u64, back: &str) -> Markup {
    cards(
        &["Who", "Where", "Began", "Ends", ""],
        sessions.iter().map(|session| {
            let here = own == Some(session.id.as_str());
            vec![
                html! { span .name { (link("users", &session.user)) } },
                html! {
                    @match (&session.device, &session.device_name) {
                        (Some(id), Some(name)) => a href={ "/devices/" (segment(id)) } { bdi { (name) } },
                        (_, _) => span .faint { "no device proven" },
                    }
                    p .faint { @if session.kind == "cli" { "command line" } @else { "browser" } }
                },
                ago(session.created, now),
                at(session.expires),
                html! {
                    div .actions {
                        @if here { (chip("good", "this one")) }
                        (end_button(session, back))
                        (lock_button(LockKind::Session, &session.id, "Lock", &format!("session of {}", session.user), back))
                    }
                },
            ]
        }),
    )
}

fn end_button(session: &Session, back: &str) -> Markup {
    html! {
        form method="post" action={ "/v1/sessions/" (segment(&session.id)) "/end" } {
            input type="hidden" name="back" value=(back);
            button .small .danger { "End" span .hidden { " the session of " (session.user) } }
        }
    }
}

/// A button that locks something, at once and until it is unlocked.
pub(super) fn lock_button(kind: LockKind, name: &str, label: &str, what: &str, back: &str) -> Markup {
    html! {
        form method="post" action="/v1/locks" data-confirm={ "Lock the " (what) "? Everything of it ends at once." } {
            input type="hidden" name="kind" value=(kind.as_str());
            input type="hidden" name="name" value=(name);
            input type="hidden" name="back" value=(back);
            button .small .danger { (label) span .hidden { " the " (what) } }
        }
    }
}

/// A form that locks something, with a reason and an end.
pub(super) fn lock_form(kind: LockKind, name: &str, back: &str) -> Markup {
    html! {
        form .inline method="post" action="/v1/locks" data-confirm={ "Lock this " (kind.as_str()) "? Everything of it ends at once." } {
            input type="hidden" name="kind" value=(kind.as_str());
            input type="hidden" name="name" value=(name);
            input type="hidden" name="back" value=(back);
            div .field {
                label for="lock-reason" { "Why" }
                input #lock-reason name="reason" maxlength="200" placeholder="Such as: laptop was stolen";
            }
            div .field {
                label for="lock-hours" { "For how long" }
                select #lock-hours name="hours" {
                    option value="" { "until unlocked" }
                    @for hours in HOURS { option value=(hours) { (count(hours, "hour")) } }
                }
            }
            button .danger { "Lock" }
        }
    }
}

/// What is locked, with what takes a lock away.
pub(super) fn locked(locks: &[Lock], now: u64) -> Markup {
    cards(
        &["What", "Why", "Since", "Until", ""],
        locks.iter().map(|lock| {
            vec![
                html! { (chip("deny", lock.kind.as_str())) " " bdi .name { (lock.name) } },
                html! { @if lock.reason.is_empty() { span .faint { "no reason given" } } @else { bdi { (lock.reason) } } p .faint { "by " bdi { (lock.by) } } },
                ago(lock.created, now),
                html! { @match lock.expires { Some(until) => (at(until)), None => "unlocked" } },
                unlock_button(lock, "/sessions"),
            ]
        }),
    )
}

/// A button that takes a lock away.
pub(super) fn unlock_button(lock: &Lock, back: &str) -> Markup {
    html! {
        form method="post" action={ "/v1/locks/" (lock.kind.as_str()) "/" (segment(&lock.name)) "/remove" } {
            input type="hidden" name="back" value=(back);
            button .small { "Unlock" span .hidden { " the " (lock.kind.as_str()) " " (lock.name) } }
        }
    }
}

/// `POST /v1/sessions/ID/end`, a form with `back`. The API's name for it is `DELETE /v1/sessions/ID`.
pub(super) async fn end(
    State(context): State<Context>,
    Sent(actor): Sent,
    Path(id): Path<String>,
    form: Bytes,
) -> Result<Response, ConsoleError> {
    let fields = Fields::of_form(&form, &["back"])?;
    let back = back(&fields)?;
    standing::may(&context, &actor, &format!("DELETE /v1/sessions/{id}")).await?;
    sessions::end(&context, &id, &actor).await?;
    Ok(back)
}

/// `POST /v1/locks`, a form with `kind`, `name`, `reason`, `hours` and `back`.
pub(super) async fn lock(
    State(context): State<Context>,
    Sent(actor): Sent,
    form: Bytes,
) -> Result<Response, ConsoleError> {
    let fields = Fields::of_form(&form, &["kind", "name", "reason", "hours", "back"])?;
    let back = back(&fields)?;
    let kind = fields.text("kind").and_then(LockKind::from_word).ok_or(ConsoleError::Form)?;
    let seconds = match fields.text("hours") {
        None => None,
        Some(_) => {
            let hours = fields.number("hours").filter(|hours| HOURS.contains(hours)).ok_or(ConsoleError::Form)?;
            Some(hours * 3_600)
        }
    };
    let name = fields.text("name").ok_or(ConsoleError::Form)?.to_owned();
    let reason = fields.text("reason").unwrap_or_default().to_owned();
    locks::lock(&context, &NewLock { kind, name, reason, seconds }, &actor).await?;
    Ok(back)
}

/// `POST /v1/locks/KIND/NAME/remove`, a form with `back`. The API's name for it is `DELETE /v1/locks/KIND/NAME`.
pub(super) async fn unlock(
    State(context): State<Context>,
    Sent(actor): Sent,
    Path((kind, name)): Path<(String, String)>,
    form: Bytes,
) -> Result<Response, ConsoleError> {
    let fields = Fields::of_form(&form, &["back"])?;
    let back = back(&fields)?;
    standing::may(&context, &actor, &format!("DELETE /v1/locks/{kind}/{name}")).await?;
    locks::unlock(&context, &kind, &name, &actor).await?;
    Ok(back)
}

/// `POST /v1/users/NAME/sign-out`, a form with `back`.
pub(super) async fn sign_out(
    State(context): State<Context>,
    Sent(actor): Sent,
    Path(name): Path<String>,
    form: Bytes,
) -> Result<Response, ConsoleError> {
    let fields = Fields::of_form(&form, &["back"])?;
    let back = back(&fields)?;
    users::sign_out(&context, &name, &actor).await?;
    Ok(back)
}

/// Back to the page that the form stands on: one of ours.
fn back(fields: &Fields) -> Result<Response, ConsoleError> {
    let path = fields.text("back").unwrap_or("/sessions");
    let plain = |letter: char| letter.is_ascii_graphic() && !matches!(letter, '\\' | '#');
    if !path.starts_with('/') || path.starts_with("//") || path.len() > 300 || !path.chars().all(plain) {
        return Err(ConsoleError::Form);
    }
    Ok(Redirect::to(path).into_response())
}

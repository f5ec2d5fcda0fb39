//! Devices: all of them, and one with what it could be used for.

use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use maud::html;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{AuditQuery, Device, LockKind, UsesQuery};
use vouchsafe_wire::audit::Kind;

use super::access::{self, Accesses};
use super::parts::{cards, chip, empty, link, records, segment, value};
use super::people::{locked, picture, radius};
use super::sessions::{lock_form, table as session_table};
use super::{Admin, ConsoleError, Fields, frame, graph, paged};
use crate::administrator::{AdministratorError, rights};
use crate::audit;
use crate::context::Context;
use crate::directory::{DirectoryError, devices};
use crate::pages::layout::{ago, at, chips};
use crate::store;

/// Devices on one page.
const PAGE: usize = 50;
/// Latest decisions on the page of one.
const LATEST: u32 = 15;
/// Seconds before a certificate's end at which it is said.
const SOON: u64 = 3 * 86_400;

/// `GET /devices?find=&page=`.
pub(super) async fn list(
    State(context): State<Context>,
    Admin(actor): Admin,
    RawQuery(query): RawQuery,
) -> Result<Response, ConsoleError> {
    let fields = Fields::of_query(query.as_deref());
    let now = clock::unix_seconds(clock::now());
    let mut all = store::devices::list(&mut *context.store.read().await?).await?;
    let find = fields.short("find");
    let is_found = |device: &Device| {
        find.as_ref().is_none_or(|find| {
            device.name.contains(find) || device.owner.as_ref().is_some_and(|owner| owner.contains(find))
        })
    };
    all.retain(is_found);
    let (shown, pages) = paged(&all, PAGE, &fields, "/devices");
    let rows = shown.iter().map(|device| {
        vec![
            html! { a .name href={ "/devices/" (segment(&device.id)) } { bdi { (device.name) } } },
            html! { @match &device.owner { Some(owner) => (link("users", owner)), None => span .faint { "nobody" } } },
            grade(&device.grade),
            chips(&device.tags, "none"),
            html! {
                @if device.certificate_expires < now { span .bad-text { "over since " (at(device.certificate_expires)) } }
                @else if device.certificate_expires < now + SOON { span .warn-text { (at(device.certificate_expires)) } }
                @else { (at(device.certificate_expires)) }
            },
            html! { @match device.last_seen { Some(seen) => (ago(seen, now)), None => span .faint { "never" } } },
        ]
    });
    let head = frame::found("Devices", "/devices", "Name or owner", find.as_deref());
    let body = html! {
        section aria-label="Devices" {
            @if all.is_empty() {
                (empty("No device is found", html! { "Invite one with " code { "vouchsafe device invite --owner NAME" } ", and enrol it there with the ticket that it prints." }))
            } @else { (cards(&["Name", "Owner", "Key in", "Tags", "Certificate until", "Last seen"], rows)) }
            (pages)
        }
    };
    Ok(frame::headed("Devices", "Devices", &actor.label(), head, body))
}

fn grade(grade: &str) -> maud::Markup {
    match grade {
        "hardware" | "hardware-attested" => chip("good", grade),
        other => chip("weak", other),
    }
}

/// `GET /devices/ID`.
pub(super) async fn show(
    State(context): State<Context>,
    Admin(actor): Admin,
    Path(text): Path<String>,
) -> Result<Response, ConsoleError> {
    let now = clock::unix_seconds(clock::now());
    let mut read = context.store.read().await?;
    let device = match devices::show(&mut read, &text).await {
        Ok(device) => device,
        Err(DirectoryError::Store(error)) => return Err(error.into()),
        Err(_) => return Err(ConsoleError::NotFound),
    };
    let lock = store::locks::find(&mut read, LockKind::Device, &device.id).await?;
    let mut sessions = store::sessions::page(&mut read, ("", ""), u32::MAX, now).await?;
    sessions.retain(|session| session.device.as_ref() == Some(&device.id));
    let docs = store::resources::list(&mut read).await?;
    drop(read);
    let can = match &device.owner {
        None => None,
        Some(owner) => match rights::what_can(&context, owner, Some(&device.id)).await {
            Ok(can) => Some(can),
            Err(AdministratorError::Directory(_)) => None,
            Err(error) => return Err(error.into()),
        },
    };
    let of_device = || AuditQuery { device: Some(device.id.clone()), ..AuditQuery::default() };
    let whose = UsesQuery { device: Some(device.id.clone()), ..UsesQuery::default() };
    let accesses: Accesses = access::count(&context, whose, &actor).await?;
    let query = AuditQuery { kind: Some(Kind::Decision.as_str().to_owned()), limit: Some(LATEST), ..of_device() };
    let latest = audit::query(&context, &query, &actor).await?.records;
    let back = format!("/devices/{}", segment(&device.id));
    let head = html! {
        div .head {
            div {
                h1 { bdi { (device.name) } }
                p .facts {
                    @if lock.is_some() { (chip("deny", "locked")) }
                    (grade(&device.grade))
                    (chips(&device.tags, ""))
                }
            }
            div .actions { a .button href={ "/audit?device=" (value(&device.id)) } { "In the log" } }
        }
    };
    let body = html! {
        @if let Some(lock) = &lock { (locked(lock, &back)) }
        (radius(can.as_ref(), &accesses, &docs))
        section aria-labelledby="reach" {
            div .head { h2 #reach { "What can be reached from it" } (graph::legend()) }
            @match &can {
                Some(can) if !can.can.is_empty() => (picture(&device.name, &can.can, &accesses, &docs).draw(&format!("What can be reached from {}, by its owner", device.name))),
                _ => (empty("Nothing at this moment", html! { "A device without an owner, one that is locked, and one whose owner may nothing, reach nothing." })),
            }
        }
        div .grid {
            section .w7 aria-labelledby="sessions" {
                h2 #sessions { "Sessions on it" }
                @if sessions.is_empty() { (empty("Nobody is signed in on it", html! { "Sessions that are open on this device stand here." })) }
                @else { (session_table(&sessions, None, now, &back)) }
            }
            section .w5 aria-labelledby="facts" {
                h2 #facts { "Device" }
                dl {
                    dt { "Owner" } dd { @match &device.owner { Some(owner) => (link("users", owner)), None => "nobody" } }
                    dt { "Id" } dd { code { (device.id) } }
                    dt { "Enrolled" } dd { (at(device.created)) }
                    dt { "Certificate until" } dd { (at(device.certificate_expires)) }
                    dt { "Last seen" } dd { @match device.last_seen { Some(seen) => (at(seen)), None => "never" } }
                }
                @if lock.is_none() { (lock_form(LockKind::Device, &device.id, &back)) }
            }
        }
        section aria-labelledby="latest" {
            h2 #latest { "Latest decisions" }
            @if latest.is_empty() { (empty("Nothing yet", html! { "Each request from this device stands here with its reason." })) }
            @else { (records(&latest, now)) }
        }
    };
    Ok(frame::headed("Devices", &device.name, &actor.label(), head, body))
}

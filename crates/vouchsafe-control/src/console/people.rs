//! People: all of them, and one with everything that hangs on her.

use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use maud::{Markup, html};
use vouchsafe_model::name::UserName;
use vouchsafe_policy::{Open, Way, WhatCan};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{AuditQuery, Device, GrantDoc, Lock, LockKind, ResourceDoc, Session, User, UsesQuery};
use vouchsafe_wire::audit::{Kind, Record};

use super::access::{self, Accesses, DAYS};
use super::graph::{self, Graph, Node};
use super::parts::{cards, chip, count, empty, grouped, link, records, segment, value};
use super::sessions::{lock_form, table as session_table, unlock_button};
use super::{Admin, ConsoleError, Fields, frame, paged};
use crate::administrator::{AdministratorError, rights};
use crate::audit;
use crate::context::Context;
use crate::directory::{DirectoryError, users};
use crate::pages::layout::{ago, at};
use crate::store;

/// People on one page.
const PAGE: usize = 50;
/// Latest accesses on the page of one.
const LATEST: u32 = 15;
/// Sessions on the page of one.
const MOST_SESSIONS: u32 = 200;
/// Resources that a picture has.
const MOST_DRAWN: usize = 26;

/// `GET /users?find=&page=`.
pub(super) async fn list(
    State(context): State<Context>,
    Admin(actor): Admin,
    RawQuery(query): RawQuery,
) -> Result<Response, ConsoleError> {
    let fields = Fields::of_query(query.as_deref());
    let now = clock::unix_seconds(clock::now());
    let mut read = context.store.read().await?;
    let mut all = store::users::list(&mut read, now).await?;
    drop(read);
    let find = fields.short("find");
    let is_found = |user: &User| {
        find.as_ref()
            .is_none_or(|find| user.name.contains(find) || user.groups.iter().any(|group| group.contains(find)))
    };
    all.retain(is_found);
    let (shown, pages) = paged(&all, PAGE, &fields, "/users");
    let rows = shown.iter().map(|user| {
        vec![
            html! { span .name { (link("users", &user.name)) } },
            state_chip(&user.state),
            html! { @for group in &user.groups { a .chip href={ "/map?group=" (value(group)) } { (group) } } @if user.groups.is_empty() { span .faint { "none" } } },
            html! { (user.passkeys.len()) },
            html! { (user.sessions) },
            html! { @match user.last_sign_in { Some(last) => (ago(last, now)), None => span .faint { "never" } } },
        ]
    });
    let head = frame::found("Users", "/users", "Name or group", find.as_deref());
    let body = html! {
        section aria-label="Users" {
            @if all.is_empty() {
                (empty("Nobody is found", html! { a href="/start#colleague" { "Invite somebody" } "; the link that you get makes her passkey." }))
            } @else { (cards(&["Name", "State", "Groups", "Passkeys", "Sessions", "Last sign-in"], rows)) }
            (pages)
        }
        p { a .button href="/start#colleague" { "Invite somebody" } }
    };
    Ok(frame::headed("Users", "Users", &actor.label(), head, body))
}

fn state_chip(state: &str) -> Markup {
    match state {
        "active" => chip("good", "active"),
        "disabled" | "locked" => chip("deny", state),
        other => chip("weak", other),
    }
}

/// One person.
struct Person {
    now: u64,
    user: User,
    lock: Option<Lock>,
    sessions: Vec<Session>,
    devices: Vec<Device>,
    grants: Vec<GrantDoc>,
    docs: Vec<ResourceDoc>,
    /// `None` when she can't do anything now: locked or disabled.
    can: Option<WhatCan>,
    accesses: Accesses,
    latest: Vec<Record>,
}

/// `GET /users/NAME`.
pub(super) async fn show(
    State(context): State<Context>,
    Admin(actor): Admin,
    Path(name): Path<String>,
) -> Result<Response, ConsoleError> {
    let name = UserName::parse(&name).map_err(|_| ConsoleError::NotFound)?;
    let now = clock::unix_seconds(clock::now());
    let mut read = context.store.read().await?;
    let user = match users::show(&mut read, &name).await {
        Err(DirectoryError::Missing { .. }) => return Err(ConsoleError::NotFound),
        other => other?,
    };
    let lock = store::locks::find(&mut read, LockKind::User, name.as_str()).await?;
    let mut sessions = store::sessions::page(&mut read, (name.as_str(), ""), MOST_SESSIONS, now).await?;
    sessions.retain(|session| session.user == user.name);
    let devices = store::devices::list_of(&mut read, &name).await?;
    let grants = store::grants::of_user(&mut read, &name).await?;
    let docs = store::resources::list(&mut read).await?;
    drop(read);
    let can = match rights::what_can(&context, name.as_str(), None).await {
        Ok(can) => Some(can),
        Err(AdministratorError::Directory(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let of_user = || AuditQuery { user: Some(user.name.clone()), ..AuditQuery::default() };
    let accesses =
        access::count(&context, UsesQuery { user: Some(name.to_string()), ..UsesQuery::default() }, &actor).await?;
    let query = AuditQuery { kind: Some(Kind::Decision.as_str().to_owned()), limit: Some(LATEST), ..of_user() };
    let latest = audit::query(&context, &query, &actor).await?.records;
    let person = Person { now, user, lock, sessions, devices, grants, docs, can, accesses, latest };
    Ok(person.page(&actor.label()))
}

impl Person {
    fn page(&self, who: &str) -> Response {
        let User { name, groups, state, created, last_sign_in, passkeys, .. } = &self.user;
        let back = format!("/users/{}", segment(name));
        let head = html! {
            div .head {
                div {
                    h1 { bdi { (name) } }
                    p .facts {
                        (state_chip(if self.lock.is_some() { "locked" } else { state }))
                        @for group in groups { a .chip href={ "/map?group=" (value(group)) } { (group) } }
                        @if groups.is_empty() { span .faint { "in no group" } }
                    }
                }
                div .actions {
                    a .button href={ "/map?user=" (value(name)) } { "On the map" }
                    a .button href={ "/audit?user=" (value(name)) } { "In the log" }
                    @if !self.sessions.is_empty() {
                        form method="post" action={ "/v1/users/" (segment(name)) "/sign-out" } data-confirm={ "End all sessions of " (name) "?" } {
                            input type="hidden" name="back" value=(back);
                            button .danger { "Sign out everywhere" }
                        }
                    }
                }
            }
        };
        let body = html! {
            @if let Some(lock) = &self.lock { (locked(lock, &back)) }
            (radius(self.can.as_ref(), &self.accesses, &self.docs))
            section aria-labelledby="reach" {
                div .head { h2 #reach { "What " bdi { (name) } " can reach" } (graph::legend()) }
                @match &self.can {
                    None => (empty("Nothing at this moment", html! { "Whoever is locked or disabled reaches nothing." })),
                    Some(can) if can.can.is_empty() => (empty("Nothing", html! { "No policy and no grant opens anything to " bdi { (name) } ". " a href="/policy" { "To the policy" } })),
                    Some(can) => {
                        (picture(name, &can.can, &self.accesses, &self.docs).draw(&format!("What {name} can reach and by which policy; the same stands in the table below")))
                        (rights_table(name, can, &self.accesses))
                    },
                }
            }
            div .grid {
                section .w7 aria-labelledby="sessions" {
                    h2 #sessions { "Sessions" }
                    @if self.sessions.is_empty() { (empty("Not signed in", html! { "The last sign-in: " @match last_sign_in { Some(last) => (at(*last)), None => "never" } })) }
                    @else { (session_table(&self.sessions, None, self.now, &back)) }
                }
                section .w5 aria-labelledby="devices" {
                    h2 #devices { "Devices" }
                    @if self.devices.is_empty() { (empty("No device", html! { "Most policies want one: " code { "vouchsafe device invite --owner " (name) } })) }
                    ul .rows {
                        @for device in &self.devices {
                            li {
                                div {
                                    a .name href={ "/devices/" (segment(&device.id)) } { bdi { (device.name) } }
                                    p .faint { "key in " (device.grade) ", certificate until " (at(device.certificate_expires)) }
                                }
                                span .faint .end { @match device.last_seen { Some(seen) => (ago(seen, self.now)), None => "never seen" } }
                            }
                        }
                    }
                }
                section .w7 aria-labelledby="grants" {
                    h2 #grants { "Grants" }
                    @if self.grants.is_empty() { (empty("No grant", html! { "A grant opens one resource for a bounded time, on a request that somebody approves." })) }
                    ul .rows {
                        @for grant in &self.grants {
                            li {
                                div { span .name { (link("resources", &grant.resource)) } p .faint { "“" bdi { (grant.reason) } "”, by " bdi { (grant.by) } } }
                                span .faint .end { @match grant.expires { Some(end) => { "until " (at(end)) }, None => "without end" } }
                            }
                        }
                    }
                }
                section .w5 aria-labelledby="facts" {
                    h2 #facts { "Account" }
                    dl {
                        dt { "Passkeys" } dd { (passkeys.len()) }
                        dt { "Made" } dd { (at(*created)) }
                        dt { "Last sign-in" } dd { @match last_sign_in { Some(last) => (at(*last)), None => "never" } }
                    }
                    @if self.lock.is_none() { (lock_form(LockKind::User, name, &back)) }
                }
            }
            section aria-labelledby="latest" {
                h2 #latest { "Latest decisions" }
                @if self.latest.is_empty() { (empty("Nothing yet", html! { "Each request of " bdi { (name) } " stands here with its reason." })) }
                @else { (records(&self.latest, self.now)) }
            }
        };
        frame::headed("Users", name, who, head, body)
    }
}

/// That something is locked, why, and the way out.
pub(super) fn locked(lock: &Lock, back: &str) -> Markup {
    html! {
        div .warning role="status" {
            div .head {
                p {
                    strong { "Locked" } " by " bdi { (lock.by) } ", " (at(lock.created))
                    @if !lock.reason.is_empty() { ": " bdi { (lock.reason) } }
                    @if let Some(until) = lock.expires { ". It ends " (at(until)) }
                }
                (unlock_button(lock, back))
            }
        }
    }
}

/// How much harm could be done with it: resources by how sensitive they are.
pub(super) fn radius(can: Option<&WhatCan>, accesses: &Accesses, docs: &[ResourceDoc]) -> Markup {
    let open: Vec<&str> = can.map(|can| reached(&can.can)).unwrap_or_default();
    let of = |word: &str| open.iter().filter(|name| sensitivity(docs, name) == word).count() as u64;
    let used = open.iter().filter(|name| accesses.used.keys().any(|(_, resource)| resource == *name)).count();
    html! {
        ul .tiles {
            li { div { strong { (grouped(open.len() as u64)) } span { "resources in reach" } span .sub { "the blast radius" } } }
            li { div { strong .deny { (of("restricted")) } span { "of them restricted" } span .sub { (count(of("confidential"), "confidential one")) } } }
            li { div { strong .allow { (used) } span { "used" } span .sub { "in the last " (DAYS) " days" } } }
            li { div { strong .pass { (open.len() - used) } span { "unused" } span .sub { "could be taken away" } } }
        }
    }
}

fn reached(can: &[Open]) -> Vec<&str> {
    let mut names: Vec<&str> = can.iter().map(|open| open.resource.as_str()).collect();
    names.dedup();
    names.sort_unstable();
    names.dedup();
    names
}

fn sensitivity<'d>(docs: &'d [ResourceDoc], name: &str) -> &'d str {
    match docs.iter().find(|doc| doc.name == name) {
        Some(doc) => doc.sensitivity.as_deref().unwrap_or("internal"),
        None if name == "console" => "restricted",
        None => "internal",
    }
}

/// Who reaches what, and by which policy.
pub(super) fn picture(who: &str, can: &[Open], accesses: &Accesses, docs: &[ResourceDoc]) -> Graph {
    let mut graph = Graph { columns: vec!["Who", "By", "Resource"], ..Graph::default() };
    let me = graph.node(Node { column: 0, label: who.to_owned(), class: "on", ..Node::default() });
    let mut policies: Vec<(&str, usize)> = Vec::new();
    for way in can.iter().flat_map(|open| &open.rights.ways) {
        let id = way.policy.as_str();
        if policies.len() < MOST_DRAWN && !policies.iter().any(|(known, _)| *known == id) {
            let note = if way.policy.is_of_grant() { "grant" } else { "" };
            let node = Node { column: 1, label: id.to_owned(), note: note.to_owned(), ..Node::default() };
            policies.push((id, graph.node(node)));
        }
    }
    let mut leads: Vec<(usize, bool)> = Vec::new();
    for name in reached(can).into_iter().take(MOST_DRAWN) {
        let word = sensitivity(docs, name);
        let class = match word {
            "restricted" => "hot",
            "confidential" => "warm",
            _ => "",
        };
        let href = if name == "console" { String::new() } else { format!("/resources/{}", segment(name)) };
        let place = graph.node(Node { column: 2, label: name.to_owned(), note: word.to_owned(), href, class });
        let used = accesses.used.keys().any(|(_, resource)| resource == name);
        for way in can.iter().filter(|open| open.resource == name).flat_map(|open| &open.rights.ways) {
            let Some((id, from)) = policies.iter().find(|(id, _)| *id == way.policy.as_str()) else { continue };
            if !graph.edges.iter().any(|edge| edge.from == *from && edge.to == place) {
                graph.edge(*from, place, if used { "used" } else { "unused" }, format!("{id} opens {name}"));
            }
            match leads.iter_mut().find(|(known, _)| known == from) {
                Some((_, any)) => *any |= used,
                None => leads.push((*from, used)),
            }
        }
    }
    for (policy, used) in leads {
        graph.edge(me, policy, if used { "used" } else { "unused" }, String::new());
    }
    graph
}

fn rights_table(name: &str, can: &WhatCan, accesses: &Accesses) -> Markup {
    html! {
        details {
            summary { "As a table, with what each asks for" }
            (cards(
                &["Resource", "To do", "By", "Only", "Used"],
                can.can.iter().map(|open| {
                    vec![
                        html! { @if open.resource == "console" { span .name { "console" } } @else { span .name { (link("resources", &open.resource)) } } },
                        html! { @for action in &open.actions { code { (action) } " " } },
                        html! { @for way in &open.rights.ways { code { (way.policy) } " " } },
                        html! { (asked(&open.rights.ways)) },
                        html! {
                            @match accesses.of(name, &open.resource) {
                                Some(used) => { (grouped(used.count)) " times, last " (at(used.last)) },
                                None if open.resource == "console" => span .faint { "not counted" },
                                None => span .warn-text { "not in " (DAYS) " days" },
                            }
                        },
                    ]
                }),
            ))
        }
    }
}

/// What the ways to something ask for.
pub(super) fn asked(ways: &[Way]) -> Markup {
    html! {
        @for way in ways.iter().take(4) {
            @let demands = way.demands();
            @if demands.is_empty() { p .faint { "always" } } @else { p .faint { (demands.join("; ")) } }
        }
    }
}

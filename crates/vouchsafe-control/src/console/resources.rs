//! Resources: all of them, and one with its mode, who has access and why, and what was denied.

use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use maud::{Markup, html};
use vouchsafe_model::name::ResourceName;
use vouchsafe_policy::WhoCan;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{AuditQuery, LockKind, Progress, ResourceDoc};
use vouchsafe_wire::audit::Kind;

use super::figures::{self, Window};
use super::parts::{cards, chip, count, empty, grouped, link, mode, records, segment, value};
use super::people::{asked, locked};
use super::sessions::lock_form;
use super::{Admin, ConsoleError, Fields, chart, frame, paged};
use crate::administrator::{AdministratorError, progress, rights};
use crate::audit;
use crate::context::{Context, Settings};
use crate::pages::layout::chips;
use crate::store::{self, resources};

/// Resources on one page.
const PAGE: usize = 50;
/// Denials on the page of one.
const LATEST: u32 = 10;
/// Names that a list of people has.
const MOST_NAMES: usize = 12;

/// `GET /resources?find=&page=`.
pub(super) async fn list(
    State(context): State<Context>,
    Admin(actor): Admin,
    RawQuery(query): RawQuery,
) -> Result<Response, ConsoleError> {
    let fields = Fields::of_query(query.as_deref());
    let now = clock::unix_seconds(clock::now());
    let mut all = resources::list(&mut *context.store.read().await?).await?;
    let find = fields.short("find");
    let is_found = |doc: &ResourceDoc| {
        find.as_ref().is_none_or(|find| doc.name.contains(find) || doc.groups.iter().any(|group| group.contains(find)))
    };
    all.retain(is_found);
    let (shown, pages) = paged(&all, PAGE, &fields, "/resources");
    let settings = &context.settings;
    let rows = shown.iter().map(|doc| {
        vec![
            html! { span .name { (link("resources", &doc.name)) } @if !doc.description.is_empty() { p .faint { bdi { (doc.description) } } } },
            html! { (doc.kind) p .faint { code { (doc.upstream) } } },
            html! { code { (settings.domain.host(&doc.name)) } },
            chips(&doc.groups, "none"),
            sensitivity(doc),
            mode(doc, now),
        ]
    });
    let head = frame::found("Resources", "/resources", "Name or group", find.as_deref());
    let body = html! {
        section aria-label="Resources" {
            @if all.is_empty() {
                (empty("Nothing is protected here yet", html! {
                    a href="/start" { "Protect a first app" } ", in observe mode so that nobody is locked out while you see who uses it."
                }))
            } @else { (cards(&["Name", "Upstream", "Host", "Groups", "Sensitivity", "Mode"], rows)) }
            (pages)
        }
        @if !all.is_empty() { p { a .button href="/start" { "Protect another app" } } }
    };
    Ok(frame::headed("Resources", "Resources", &actor.label(), head, body))
}

fn sensitivity(doc: &ResourceDoc) -> Markup {
    match doc.sensitivity.as_deref().unwrap_or("internal") {
        "restricted" => chip("deny", "restricted"),
        "confidential" => chip("weak", "confidential"),
        other => chip("", other),
    }
}

/// `GET /resources/NAME?window=`.
pub(super) async fn show(
    State(context): State<Context>,
    Admin(actor): Admin,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ConsoleError> {
    let name = ResourceName::parse(&name).map_err(|_| ConsoleError::NotFound)?;
    let window = Window::of(Fields::of_query(query.as_deref()).text("window"));
    let now = clock::unix_seconds(clock::now());
    let mut read = context.store.read().await?;
    let doc = resources::show(&mut read, &name).await?.ok_or(ConsoleError::NotFound)?;
    let lock = store::locks::find(&mut read, LockKind::Resource, name.as_str()).await?;
    drop(read);
    let mut who = Vec::new();
    for action in actions(&doc) {
        match rights::who_can(&context, action, name.as_str()).await {
            Ok(can) => who.push(can),
            // A locked one is open to nobody.
            Err(AdministratorError::Missing { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let of_it = || AuditQuery { resource: Some(name.to_string()), ..AuditQuery::default() };
    let figures = figures::count(&context, window, of_it(), &actor).await?;
    let (kind, outcome) = (Some(Kind::Decision.as_str().to_owned()), Some("deny".to_owned()));
    let query = AuditQuery { kind, outcome, limit: Some(LATEST), ..of_it() };
    let denials = audit::query(&context, &query, &actor).await?.records;
    let under_way = match doc.observe {
        Some(_) => Some(progress::of(&context, name.as_str(), None, &actor).await?),
        None => None,
    };
    let back = format!("/resources/{}", segment(&doc.name));
    let (allowed, passed, denied) = figures.totals();
    let head = html! {
        div .head {
            div {
                h1 { bdi { (doc.name) } }
                p .facts {
                    @if lock.is_some() { (chip("deny", "locked")) }
                    (chip("", &doc.kind)) (sensitivity(&doc)) (chips(&doc.groups, ""))
                    @if !doc.description.is_empty() { span .faint { bdi { (doc.description) } } }
                }
            }
            div .actions {
                a .button href={ "/map?resource=" (value(&doc.name)) } { "On the map" }
                a .button href={ "/audit?resource=" (value(&doc.name)) } { "In the log" }
            }
        }
    };
    let body = html! {
        @if let Some(lock) = &lock { (locked(lock, &back)) }
        div .grid {
            section .w8 aria-labelledby="over-time" {
                div .head { h2 #over-time { "Access, the last " (window.word) } (chart::legend()) }
                (chart::over_time(&figures))
                p .faint { (grouped(allowed)) " allowed, " (grouped(denied)) " denied, " (grouped(passed)) " passed by a mode" }
            }
            section .w4 aria-labelledby="mode" { h2 #mode { "Mode" } (mode(&doc, now)) (way_on(&context.settings, under_way.as_ref())) }
        }
        div .grid {
            section .w8 aria-labelledby="who" { h2 #who { "Who has access, and why" } (who_table(&who, lock.is_some())) }
            section .w4 aria-labelledby="facts" {
                h2 #facts { "Resource" }
                dl {
                    dt { "Host" } dd { code { (context.settings.domain.host(&doc.name)) } }
                    dt { "Upstream" } dd { code { (doc.upstream) } }
                    @if let Some(site) = &doc.via { dt { "By connectors of" } dd { (site) } }
                    @if let Some(port) = doc.port { dt { "Port" } dd { (port) } }
                    @if let Some(grace) = doc.offline_grace { dt { "Grace" } dd { (count(grace, "second")) " without the controller" } }
                    @if !doc.tags.is_empty() { dt { "Tags" } dd { (chips(&doc.tags, "none")) } }
                }
                @if lock.is_none() { (lock_form(LockKind::Resource, &doc.name, &back)) }
            }
        }
        section aria-labelledby="denials" {
            h2 #denials { "Latest denials" }
            @if denials.is_empty() { (empty("Nothing was denied", html! { "Whoever is denied is told why, and it stands here." })) }
            @else { (records(&denials, now)) }
        }
    };
    Ok(frame::headed("Resources", &doc.name, &actor.label(), head, body))
}

fn actions(doc: &ResourceDoc) -> &'static [&'static str] {
    if doc.kind == "http" { &["http:read", "http:write", "http:upgrade"] } else { &["net:connect"] }
}

/// How far it is on its way to enforcing.
fn way_on(settings: &Settings, progress: Option<&Progress>) -> Markup {
    let Some(progress) = progress else {
        return html! { p .faint { "A denial stands." } };
    };
    let Progress { accesses, would_deny, people, checks, next, safe, days, .. } = progress;
    html! {
        @if *accesses > 0 {
            p { (grouped(*would_deny)) " of " (count(*accesses, "access").replace("accesss", "accesses")) " of " (days) " days would be denied" }
            (chart::meter("pass", *would_deny, *accesses))
        }
        @if !checks.is_empty() {
            ul .conditions {
                @for check in checks {
                    li { span .dot .allow[check.holds] .pass[!check.holds] {} (check.words) span .hidden { @if check.holds { " (holds)" } @else { " (does not hold)" } } }
                }
            }
        }
        @if let Some(next) = next {
            p .faint {
                @if *safe { "It is safe to go on: " } @else { "When all of it holds: " }
                code { (settings.command(&format!("resource mode {} {next}", progress.resource))) }
                @if next == "warn" { ". It still keeps nobody out, but asks everybody to sign in, so that people are named here" }
            }
        }
        @let denied = people.iter().filter(|person| person.would_deny > 0).take(5);
        ul .rows {
            @for person in denied {
                li {
                    div { @if person.known { (link("users", &person.who)) } @else { bdi { (person.who) } } p .faint { (person.reasons.join(", ")) } }
                    span .faint .end { (grouped(person.would_deny)) " times" }
                }
            }
        }
    }
}

fn who_table(who: &[WhoCan], is_locked: bool) -> Markup {
    let all = who.iter().flat_map(|can| can.can.iter().map(move |class| (&can.action, class)));
    let mut classes: Vec<_> = all.collect();
    // The same people in the same way are one row, whatever they may do.
    let mut rows: Vec<(Vec<&str>, _)> = Vec::new();
    classes.drain(..).for_each(|(action, class)| {
        match rows.iter_mut().find(|(_, known): &&mut (Vec<&str>, &vouchsafe_policy::Class)| {
            known.users == class.users && known.rights == class.rights
        }) {
            Some((actions, _)) => actions.push(action),
            None => rows.push((vec![action], class)),
        }
    });
    html! {
        @if is_locked {
            (empty("Nobody, while it is locked", html! { "Its lock closes it to everybody, whatever policies say. It stands above, with what takes it away." }))
        } @else if rows.is_empty() {
            (empty("Nobody", html! { "No policy and no grant opens it to anybody. " a href="/policy" { "To the policy" } }))
        } @else {
            (cards(
                &["Who", "May", "By", "Only"],
                rows.iter().map(|(actions, class)| {
                    vec![
                        html! {
                            span .name { (count(class.count as u64, "person").replace("persons", "people")) }
                            p { @for user in class.users.iter().take(MOST_NAMES) { (link("users", user.as_str())) " " } @if class.count > MOST_NAMES { span .faint { "and " (class.count - MOST_NAMES) " more" } } }
                        },
                        html! { @for action in actions { code { (action) } " " } },
                        html! { @for way in &class.rights.ways { code { (way.policy) } " " } @for way in &class.rights.unless { p .faint { "unless " code { (way.policy) } } } },
                        asked(&class.rights.ways),
                    ]
                }),
            ))
        }
    }
}

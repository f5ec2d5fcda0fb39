//! A person's own page, and what the log has of her.

use axum::response::Response;
use http::StatusCode;
use maud::{Markup, html};
use vouchsafe_model::moment::about;
use vouchsafe_wire::api::{self, AuditPage, RequestDoc, RequestState};
use vouchsafe_wire::audit::{Kind, Record};
use zeroize::Zeroizing;

use super::layout::{ago, at, at_or, chips, notice, wide};
use crate::audit::Own;

/// What the page shows.
pub(crate) struct MyPage {
    pub(crate) now: u64,
    pub(crate) account: api::User,
    /// What she can reach; `None` when nobody can say now.
    pub(crate) apps: Option<Apps>,
    pub(crate) devices: Vec<api::Device>,
    pub(crate) sessions: Vec<api::Session>,
    pub(crate) requests: Vec<RequestDoc>,
    /// What the log has of her; `None` when it can't be read now.
    pub(crate) told: Option<Told>,
    /// Id of this very session.
    pub(crate) session: String,
    /// Name of the device that this connection proved.
    pub(crate) device: Option<String>,
    pub(crate) csrf: Zeroizing<String>,
    /// Origin of the console, for those whom it can open to.
    pub(crate) console: Option<String>,
    /// Whether the sign-in is young enough to change passkeys.
    pub(crate) fresh: bool,
}

/// What she can reach.
pub(crate) struct Apps {
    pub(crate) apps: Vec<App>,
    /// How many more there are.
    pub(crate) more: usize,
    /// Whether every resource was looked at.
    pub(crate) whole: bool,
}

/// One resource that she can reach.
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) description: String,
    /// Its address, where a browser opens it.
    pub(crate) link: Option<String>,
    pub(crate) actions: Vec<String>,
    /// What it still asks for.
    pub(crate) demands: Vec<String>,
    /// Whether a policy may forbid it all the same.
    pub(crate) is_bounded: bool,
    /// Whether it opens on the device of this session.
    pub(crate) is_here: bool,
}

/// The newest of what the log has of her.
pub(crate) struct Told {
    denials: Vec<Record>,
    accesses: Vec<Record>,
    readers: Vec<Record>,
}

impl Told {
    /// Takes the answers: denials, accesses, readers.
    pub(crate) fn of(pages: Vec<AuditPage>) -> Self {
        let mut pages = pages.into_iter().map(|page| page.records);
        let mut next = || pages.next().unwrap_or_default();
        Self { denials: next(), accesses: next(), readers: next() }
    }
}

/// One part of what the log has of her.
pub(crate) struct Activity {
    pub(crate) now: u64,
    pub(crate) shown: Own,
    pub(crate) records: Vec<Record>,
    /// Where older ones begin.
    pub(crate) next: Option<u64>,
    pub(crate) is_first: bool,
    pub(crate) csrf: Zeroizing<String>,
    pub(crate) console: Option<String>,
    /// Base domain.
    pub(crate) origin: String,
}

/// Where one is, of what the header leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Home,
    Activity,
    Ask,
}

/// The header of her pages.
pub(crate) fn header(here: Place, console: Option<&str>, csrf: &str) -> Markup {
    let to = |place: Place, path: &str, words: &str| html! { a href=(path) aria-current=[(place == here).then_some("page")] { (words) } };
    html! {
        nav aria-label="Account" {
            (to(Place::Home, "/", "Your page"))
            (to(Place::Activity, "/activity", "Activity"))
            (to(Place::Ask, "/ask", "Ask for access"))
            @if let Some(console) = console { a href=(console) { "Console" } }
            form method="post" action="/sign-out" { (hidden(csrf)) button .quiet { "Sign out" } }
        }
    }
}

/// The page.
pub(crate) fn page(page: &MyPage) -> Response {
    let body = html! {
        div .head {
            h1 { bdi { (page.account.name) } }
            p .facts {
                (chips(&page.account.groups, "in no group"))
                @match &page.device {
                    Some(device) => span .chip .good { "on " bdi { (device) } },
                    None => span .chip .weak { "no device proven" },
                }
            }
        }
        (notice())
        (apps(page))
        div .two {
            (denials(page))
            (requests(page))
        }
        div .two {
            (sessions(page))
            (devices(page))
        }
        div .two {
            (passkeys(page))
            (readers(page))
        }
        (accesses(page))
    };
    super::html(
        StatusCode::OK,
        wide("Your page", header(Place::Home, page.console.as_deref(), page.csrf.as_str()), body),
    )
}

fn hidden(csrf: &str) -> Markup {
    html! { input type="hidden" name="csrf" value=(csrf); }
}

fn csrf(page: &MyPage) -> Markup {
    hidden(page.csrf.as_str())
}

/// What stands where nothing is: what would, and how one gets there.
fn empty(what: &str, next: Markup) -> Markup {
    html! { div .empty { strong { (what) } p { (next) } } }
}

fn apps(page: &MyPage) -> Markup {
    html! {
        section aria-labelledby="apps" {
            div .head { h2 #apps { "Your apps" } a href="/ask" { "Ask for another" } }
            @match &page.apps {
                None => (empty("They can’t be shown now", html! { "What you may open hasn’t changed. Try again in a moment." })),
                Some(Apps { apps, .. }) if apps.is_empty() => (empty("Nothing is open to you yet", html! {
                    "An administrator can open an app to you, or you " a href="/ask" { "ask for one" } " by its name. "
                    @if let Some(console) = &page.console { "Whoever administers this begins in the " a href=(console) { "console" } "." }
                })),
                Some(Apps { apps, more, whole }) => {
                    ul .apps {
                        @for app in apps { (one_app(app)) }
                    }
                    @if *more > 0 { p .faint { "and " (more) " more" } }
                    @if !whole { p .faint { "There were too many to look at all of them; open others by their address." } }
                },
            }
        }
    }
}

fn one_app(app: &App) -> Markup {
    let App { name, description, link, actions, demands, is_bounded, is_here } = app;
    let reads_only =
        actions.iter().any(|action| action == "http:read") && !actions.iter().any(|action| action == "http:write");
    html! {
        li .off[!is_here] {
            @match link {
                Some(link) => a .name href=(link) { bdi { (name) } },
                None => span .name { bdi { (name) } },
            }
            @if !description.is_empty() { p .faint .clamp { bdi { (description) } } }
            @if link.is_none() { p .faint { "on your device: " code { "vouchsafe connect " (name) } } }
            p .facts {
                @if !is_here { span .chip .weak { "not on this device" } }
                @if reads_only { span .chip { "to read" } }
                @for demand in demands { span .chip { (demand) } }
                @if *is_bounded { span .chip { "not always" } }
            }
        }
    }
}

/// What a record is about, as whoever did it knows it.
fn what(record: &Record) -> Markup {
    let is_decision = record.kind == Kind::Decision;
    let parts = if is_decision { [&record.method, &record.path] } else { [&record.action, &record.detail] };
    let words: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    let resource = record.resource.as_deref().or(record.host.as_deref()).unwrap_or("a request");
    let name = if is_decision { resource } else { "sign-in" };
    html! {
        strong { bdi { (name) } }
        @if !words.is_empty() { " " span .faint .path { bdi { (words.join(" ")) } } }
    }
}

/// From where.
fn from(record: &Record) -> Markup {
    html! {
        @match (&record.device_name, record.device.is_some()) {
            (Some(name), _) => { "on " bdi { (name) } },
            (None, true) => "on a device of yours",
            (None, false) => "without a device",
        }
        @if let Some(ip) = &record.ip { ", from " (ip) }
    }
}

fn came_to(record: &Record) -> Markup {
    match (record.outcome.as_deref(), record.passed.as_deref()) {
        (Some("allow"), _) => html! { span .chip .allow { "allowed" } },
        (Some("ok"), _) => html! { span .chip .allow { "ok" } },
        (Some("deny"), Some(_)) => html! { span .chip .weak { "let pass" } },
        (Some("deny"), None) => html! { span .chip .deny { "denied" } },
        (Some(_), _) => html! { span .chip .deny { "failed" } },
        (None, _) => html! {},
    }
}

/// What whoever was denied can do, by the decision's own advice.
fn advice(record: &Record) -> Markup {
    let resource = record.resource.as_deref().unwrap_or_default();
    let has = |word: &str| record.advice.iter().any(|advice| advice == word);
    html! {
        @if has("step-up") { a href="/sign-in?fresh=1" { "Sign in again" } ", then open it once more. " }
        @if has("sign-in") { "Open it again, and sign in there. " }
        @if has("enrol-device") { "Come from an enrolled device: ask an administrator for a ticket, then run " code { "vouchsafe enroll" } " on it. " }
        @if has("request-access") && !resource.is_empty() && resource != "console" {
            a href={ "/ask?resource=" (value(resource)) } { "Ask for access to " bdi { (resource) } }
        }
        @if record.advice.is_empty() && record.passed.is_none() { "An administrator can tell more, by the number " @match &record.id { Some(id) => code .id { (id) }, None => "of the record" } "." }
        @if record.passed.is_some() { "It went on, because the app is only being watched yet. Once it isn’t, this would be denied." }
    }
}

fn value(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn denial(record: &Record, now: u64) -> Markup {
    html! {
        li .tall {
            div {
                p { (what(record)) " " (came_to(record)) }
                @if let Some(words) = &record.words { p { bdi { (words) } } }
                p .faint { (advice(record)) }
            }
            span .faint .end { (ago(record.time_us / 1_000_000, now)) }
        }
    }
}

fn access(record: &Record, now: u64) -> Markup {
    html! {
        li {
            div { p { (what(record)) } p .faint { (from(record)) } }
            span .end { (came_to(record)) span .faint { (ago(record.time_us / 1_000_000, now)) } }
        }
    }
}

fn reader(record: &Record, now: u64) -> Markup {
    let asked = match record.action.as_deref() {
        Some("audit.count" | "audit.counts" | "audit.uses") => "counted your accesses",
        Some("audit.tail") => "followed what you do",
        _ => "looked at records of you",
    };
    html! {
        li {
            div {
                p { strong { bdi { (record.user.as_deref().unwrap_or("somebody")) } } " " (asked) }
                @if let Some(ip) = &record.ip { p .faint { "from " (ip) } }
            }
            span .faint .end { (ago(record.time_us / 1_000_000, now)) }
        }
    }
}

const UNREAD: &str = "The log can’t be read now";

fn unread() -> Markup {
    empty(UNREAD, html! { "What you do is recorded as ever, or doesn’t happen. Try again in a moment." })
}

fn denials(page: &MyPage) -> Markup {
    html! {
        section aria-labelledby="denials" {
            div .head { h2 #denials { "Denied lately" } a href="/activity?show=denied" { "All" span .hidden { " that was denied" } } }
            @match &page.told {
                None => (unread()),
                Some(told) if told.denials.is_empty() => (empty("Nothing was denied", html! { "If something is, it stands here with what you can do." })),
                Some(told) => ul .rows { @for record in &told.denials { (denial(record, page.now)) } },
            }
        }
    }
}

fn accesses(page: &MyPage) -> Markup {
    html! {
        section aria-labelledby="accesses" {
            div .head { h2 #accesses { "Recent accesses" } a href="/activity" { "All" span .hidden { " accesses" } } }
            @match &page.told {
                None => (unread()),
                Some(told) if told.accesses.is_empty() => (empty("Nothing yet", html! { "Each app that you open stands here, and from where. If one is not yours, end that session and tell an administrator." })),
                Some(told) => ul .rows { @for record in &told.accesses { (access(record, page.now)) } },
            }
        }
    }
}

fn readers(page: &MyPage) -> Markup {
    html! {
        section aria-labelledby="readers" {
            div .head { h2 #readers { "Who looked at your data" } a href="/activity?show=readers" { "All" span .hidden { " who looked" } } }
            @match &page.told {
                None => (unread()),
                Some(told) if told.readers.is_empty() => (empty("Nobody asked for you", html! { "Whoever asks the log for you by name stands here. Looks at everybody’s records together name nobody." })),
                Some(told) => ul .rows { @for record in &told.readers { (reader(record, page.now)) } },
            }
        }
    }
}

fn requests(page: &MyPage) -> Markup {
    html! {
        section aria-labelledby="requests" {
            div .head { h2 #requests { "Your requests" } a href="/ask" { "Ask for access" } }
            @if page.requests.is_empty() {
                (empty("You asked for nothing", html! { "What you need for a time only, " a href="/ask" { "ask for" } ": somebody gives it, and it ends by itself." }))
            }
            ul .rows {
                @for request in &page.requests { (one_request(request, page)) }
            }
        }
    }
}

fn one_request(request: &RequestDoc, page: &MyPage) -> Markup {
    let RequestDoc { id, resource, seconds, reason, state, created, open_until, decided, decided_by, note, .. } =
        request;
    let again = format!("/ask?resource={}&hours={}&reason={}", value(resource), seconds.div_ceil(3_600), value(reason));
    let is_open = *state == RequestState::Open && *open_until > page.now;
    html! {
        li .tall {
            div {
                p {
                    strong { bdi { (resource) } } " for " (about(*seconds)) " "
                    @match state {
                        RequestState::Open if is_open => span .chip .weak { "waits" },
                        RequestState::Open | RequestState::Expired => span .chip { "nobody decided" },
                        RequestState::Approved => span .chip .allow { "approved" },
                        RequestState::Denied => span .chip .deny { "denied" },
                        RequestState::Withdrawn => span .chip { "withdrawn" },
                    }
                }
                p .faint {
                    "“" bdi { (reason) } "”, asked " (ago(*created, page.now))
                    @if let (Some(by), Some(when)) = (decided_by, decided) { "; " bdi { (by) } " decided " (ago(*when, page.now)) }
                    @if *state == RequestState::Approved { ", until " (at(decided.unwrap_or(*created).saturating_add(*seconds))) " at most" }
                    @if !note.is_empty() { ": “" bdi { (note) } "”" }
                }
            }
            @if is_open {
                form method="post" action="/ask/withdraw" {
                    (csrf(page))
                    input type="hidden" name="request" value=(id);
                    button { "Withdraw" span .hidden { " the request for " (resource) } }
                }
            } @else {
                a .button href=(again) { "Ask anew" span .hidden { " for " (resource) } }
            }
        }
    }
}

fn passkeys(page: &MyPage) -> Markup {
    let removable = page.account.passkeys.len() > 1;
    html! {
        section aria-labelledby="passkeys" {
            h2 #passkeys { "Passkeys" }
            ul .rows {
                @for passkey in &page.account.passkeys {
                    li {
                        div {
                            strong { bdi { (passkey.name) } }
                            p .faint {
                                "made " (at(passkey.created)) ", last used " (at_or(passkey.last_used, "never"))
                            }
                        }
                        @if removable {
                            form method="post" action="/passkeys/remove"
                                data-confirm="Remove this passkey? It can't be used to sign in any more." {
                                (csrf(page))
                                input type="hidden" name="passkey" value=(passkey.id);
                                button { "Remove" span .hidden { " " (passkey.name) } }
                            }
                        }
                    }
                }
            }
            @if page.fresh {
                div .inline {
                    label .hidden for="passkey-name" { "Name of the new passkey" }
                    input #passkey-name maxlength="60" placeholder="Name, such as “security key”" autocomplete="off";
                    button type="button" data-add-passkey data-csrf=(page.csrf.as_str()) { "Add a passkey" }
                }
            } @else {
                p .faint {
                    "To add or remove a passkey, " a href="/sign-in?fresh=1" { "sign in again" } " first."
                }
            }
            @if !removable {
                p .faint { "Add a second one, on another device, so that losing this one does not lock you out." }
            }
        }
    }
}

fn devices(page: &MyPage) -> Markup {
    html! {
        section aria-labelledby="devices" {
            div .head { h2 #devices { "Devices" } a href="/device" { "Approve a sign-in on a device" } }
            @if page.devices.is_empty() {
                (empty("None is enrolled for you", html! { "Most apps want one. An administrator gives you a ticket for it; then run " code { "vouchsafe enroll" } " there." }))
            }
            ul .rows {
                @for device in &page.devices {
                    li .tall {
                        div {
                            strong { bdi { (device.name) } } " " (chips(&device.tags, ""))
                            p .faint {
                                "key in " (device.grade) ", certificate until " (at(device.certificate_expires))
                                ", last seen " (at_or(device.last_seen, "never"))
                            }
                            details {
                                summary { "Remove" span .hidden { " " (device.name) } " …" }
                                p .faint { "Its sessions end at once, and its certificate is worth nothing any more. To use it again, it has to be enrolled anew with another ticket." }
                                form method="post" action="/devices/remove" {
                                    (csrf(page))
                                    input type="hidden" name="device" value=(device.id);
                                    button .danger { "Remove this device" span .hidden { ": " (device.name) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn sessions(page: &MyPage) -> Markup {
    html! {
        section aria-labelledby="sessions" {
            h2 #sessions { "Sessions" }
            ul .rows {
                @for session in &page.sessions {
                    li {
                        div {
                            strong { bdi { (session_place(session)) } }
                            @if session.id == page.session { " " span .chip .good { "this one" } }
                            p .faint { "since " (at(session.created)) ", until " (at(session.expires)) }
                        }
                        form method="post" action="/sessions/end" {
                            (csrf(page))
                            input type="hidden" name="session" value=(session.id);
                            button { "End" span .hidden { " session on " (session_place(session)) } }
                        }
                    }
                }
            }
            form method="post" action="/sign-out" data-confirm="Sign out everywhere, here too?" {
                (csrf(page))
                input type="hidden" name="everywhere" value="1";
                button { "Sign out everywhere" }
            }
        }
    }
}

fn session_place(session: &api::Session) -> String {
    let kind = if session.kind == "cli" { "command line" } else { "browser" };
    match &session.device_name {
        Some(name) => format!("{name}, {kind}"),
        None => format!("{kind} without a device"),
    }
}

/// What the log has of her, page by page.
pub(crate) fn activity(activity: &Activity) -> Response {
    let Activity { now, shown, records, next, is_first, csrf, console, origin } = activity;
    let parts = [
        (Own::Accesses, "accesses", "Accesses"),
        (Own::Denials, "denied", "Denied"),
        (Own::SignIns, "sign-ins", "Sign-ins"),
        (Own::Readers, "readers", "Who looked"),
    ];
    let word = parts.iter().find(|(part, _, _)| part == shown).map_or("accesses", |(_, word, _)| *word);
    let words = match shown {
        Own::Accesses => "Each request of yours that was decided on, newest first.",
        Own::Denials => "What you were denied, why, and what you can do.",
        Own::SignIns => "Each time that you proved who you are, and each that failed as you.",
        Own::Readers => {
            "Who asked the log for you by name. Looks at everybody’s records together name nobody; your own aren’t shown."
        }
    };
    let body = html! {
        div .head {
            h1 { "Activity" }
            nav .segments aria-label="What of it" {
                @for (part, word, name) in parts {
                    a href={ "/activity?show=" (word) } aria-current=[(part == *shown).then_some("true")] { (name) }
                }
            }
        }
        p .faint { (words) " All of it stands in the audit log of " bdi { (origin) } "; that you look here does, too." }
        section aria-label="Records" {
            @if records.is_empty() {
                (empty("Nothing here", html! {
                    @if next.is_some() { "Nothing that is about you was among those; older ones may be." }
                    @else if *is_first { "What happens stands here a moment later." }
                    @else { "That was all." }
                }))
            }
            ul .rows {
                @for record in records {
                    @match shown {
                        Own::Accesses | Own::SignIns => (access(record, *now)),
                        Own::Denials => (denial(record, *now)),
                        Own::Readers => (reader(record, *now)),
                    }
                }
            }
            @if next.is_some() || !is_first {
                nav .pages aria-label="Pages" {
                    @if !is_first { a .button href={ "/activity?show=" (word) } { "Newest" } }
                    @if let Some(next) = next { a .button href={ "/activity?show=" (word) "&after=" (next) } { "Older" } }
                }
            }
        }
    };
    super::html(StatusCode::OK, wide("Activity", header(Place::Activity, console.as_deref(), csrf.as_str()), body))
}

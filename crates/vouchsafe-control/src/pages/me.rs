//! A person's own page.

use axum::response::Response;
use http::StatusCode;
use maud::{Markup, html};
use vouchsafe_wire::api;
use zeroize::Zeroizing;

use super::layout::{at, at_or, chips, notice, wide};

/// What the page shows.
pub(crate) struct MyPage {
    pub(crate) account: api::User,
    pub(crate) devices: Vec<api::Device>,
    pub(crate) sessions: Vec<api::Session>,
    /// Id of this very session.
    pub(crate) session: String,
    /// Name of the device that this connection proved.
    pub(crate) device: Option<String>,
    pub(crate) csrf: Zeroizing<String>,
    /// Origin of the console.
    pub(crate) console: String,
    /// Whether the sign-in is young enough to change passkeys.
    pub(crate) fresh: bool,
}

/// The page.
pub(crate) fn page(page: &MyPage) -> Response {
    let header = html! {
        nav aria-label="Account" {
            a href=(page.console) { "Console" }
            form method="post" action="/sign-out" { (csrf(page)) button .quiet { "Sign out" } }
        }
    };
    let body = html! {
        h1 { (page.account.name) }
        p .facts {
            (chips(&page.account.groups, "in no group"))
            @match &page.device {
                Some(device) => span .chip .good { "on " (device) },
                None => span .chip .weak { "no device proven" },
            }
        }
        (notice())
        (passkeys(page))
        (devices(page))
        (sessions(page))
    };
    super::html(StatusCode::OK, wide("Your page", header, body))
}

fn csrf(page: &MyPage) -> Markup {
    html! { input type="hidden" name="csrf" value=(page.csrf.as_str()); }
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
                            strong { (passkey.name) }
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
            h2 #devices { "Devices" }
            @if page.devices.is_empty() {
                p .faint { "None is enrolled for you. An administrator can give you a ticket for one." }
            }
            ul .rows {
                @for device in &page.devices {
                    li {
                        div {
                            strong { (device.name) } " " (chips(&device.tags, ""))
                            p .faint {
                                "key in " (device.grade) ", certificate until " (at(device.certificate_expires))
                                ", last seen " (at_or(device.last_seen, "never"))
                            }
                        }
                    }
                }
            }
            p { a href="/device" { "Approve a sign-in on a device" } }
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
                            strong { (session_place(session)) }
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

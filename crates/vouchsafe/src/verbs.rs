//! The verbs, one file each, and what several of them do.

pub(crate) mod apply;
pub(crate) mod assess;
pub(crate) mod audit;
pub(crate) mod completions;
pub(crate) mod connect;
pub(crate) mod connector;
pub(crate) mod controller;
pub(crate) mod demo;
pub(crate) mod device;
pub(crate) mod doctor;
pub(crate) mod enroll;
pub(crate) mod gateway;
pub(crate) mod grant;
pub(crate) mod group;
pub(crate) mod lock;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod logs;
pub(crate) mod look;
pub(crate) mod observed;
pub(crate) mod pipe;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod prover;
pub(crate) mod proxy;
pub(crate) mod request;
pub(crate) mod resource;
pub(crate) mod serve;
pub(crate) mod session;
pub(crate) mod status;
pub(crate) mod target;
pub(crate) mod up;
pub(crate) mod user;
pub(crate) mod version;
pub(crate) mod vitals;
pub(crate) mod webhook;
pub(crate) mod witness;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde::Serialize;
use vouchsafe_runtime::clock;

use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::Style;
use crate::text;

/// Unix seconds now.
pub(crate) fn now() -> u64 {
    clock::unix_seconds(clock::now())
}

/// Prints JSON, or what a person reads.
pub(crate) fn show<T: Serialize>(
    call: &Call,
    value: &T,
    people: impl FnOnce(&T) -> std::io::Result<()>,
) -> Result<Exit, VerbError> {
    if call.out.is_json() {
        call.out.json(value)?
    } else {
        people(value)?
    }
    Ok(Exit::Ok)
}

/// Says that something was done: `{"done": …}` for programs.
pub(crate) fn done(call: &Call, what: &str) -> Result<Exit, VerbError> {
    if call.out.is_json() {
        call.out.json(&serde_json::json!({ "done": what }))?;
    } else {
        call.out.line(&format!("{} {}", call.out.paint(Style::Good, "✓"), crate::output::clean(what)))?;
    }
    Ok(Exit::Ok)
}

/// Asks before something that can't be taken back, unless `--yes` was given.
pub(crate) fn agreed(call: &Call, yes: bool, question: &str) -> Result<(), VerbError> {
    if yes || call.out.confirm(question)? { Ok(()) } else { Err(VerbError::failed("nothing was changed")) }
}

/// Prints a link that is shown once, with a code for a phone where somebody looks at a terminal.
pub(crate) fn show_link(call: &Call, link: &str, expires: u64) -> std::io::Result<()> {
    let out = &call.out;
    out.line(&format!("\n  {}\n", out.paint(Style::Accent, &crate::output::clean(link))))?;
    if out.is_terminal()
        && let Ok(code) = QrCode::new(link)
    {
        let drawn = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
        for line in drawn.lines() {
            out.line(&format!("  {line}"))?;
        }
    }
    let until = format!("good once, ends {} ({})", text::relative(expires, now()), text::moment(expires));
    out.line(&format!("  {}", out.paint(Style::Dim, &until)))
}

/// `3 h ago`, or a dash.
pub(crate) fn ago(at: Option<u64>) -> String {
    at.map_or_else(|| "–".to_owned(), |at| text::relative(at, now()))
}

/// Names with commas, or a dash.
pub(crate) fn list(names: &[String]) -> String {
    if names.is_empty() { "–".to_owned() } else { names.join(", ") }
}

//! `look`: what `up` starts at its first start to see what runs on this host. Not for people; they have `assess`.

use std::io::Write;

use rustix::process::{Resource, Rlimit, setrlimit};
use vouchsafe_assess::Options;
use vouchsafe_assess::source::Source;

use super::now;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::look::doc;

/// Most time that it computes, seconds.
const MAX_SECONDS: u64 = 30;
/// Most memory, bytes of addresses.
const MAX_MEMORY_BYTES: u64 = 8 << 30;

/// Looks at this host for the controller that started it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  none: `vouchsafe up` starts it; for people there is `vouchsafe assess`")]
pub(crate) struct Args {}

/// Takes no more than its share.
pub(crate) fn confine() -> Result<(), VerbError> {
    for (resource, most) in [(Resource::Cpu, MAX_SECONDS), (Resource::As, MAX_MEMORY_BYTES)] {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        setrlimit(resource, limit).map_err(|error| VerbError::of(Exit::Failed, &error))?;
    }
    Ok(())
}

/// # Errors
/// [`VerbError`], when the host can't be looked at.
pub(crate) fn run() -> Result<Exit, VerbError> {
    let source =
        Source::host().map_err(|error| VerbError::failed("can't look at this host").cause(error.to_string()))?;
    let report = vouchsafe_assess::look(&source, &Options { now: now(), ss: None, roles: None });
    let text = serde_json::to_vec(&doc(&report)).map_err(|error| VerbError::of(Exit::Failed, &error))?;
    std::io::stdout().lock().write_all(&text)?;
    Ok(Exit::Ok)
}

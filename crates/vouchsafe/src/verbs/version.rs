//! `version`: of this program.

use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;

/// Prints the version.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  vouchsafe version --json")]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, call: &Call) -> Result<Exit, VerbError> {
    let version = env!("CARGO_PKG_VERSION");
    if call.out.is_json() {
        call.out.json(&serde_json::json!({ "version": version }))?;
    } else {
        call.out.line(&format!("vouchsafe {version}"))?;
    }
    Ok(Exit::Ok)
}

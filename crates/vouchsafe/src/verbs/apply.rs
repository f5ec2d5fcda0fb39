//! `apply`: the installation brought to the state that a directory describes.

use std::path::PathBuf;

use http::Method;
use vouchsafe_wire::api::{Apply, Plan};

use super::{agreed, plan};
use crate::admin::AdminClient;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::Style;

/// Brings the installation to the state that a directory describes.
///
/// Shows what will change and asks. What the directory does not mention stays as it is; a list
/// that it does have is complete. Applying twice changes nothing the second time.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  vouchsafe apply -f company/\n  vouchsafe apply -f company/ --yes --json")]
pub(crate) struct Args {
    /// Directory of TOML and Cedar files.
    #[arg(short = 'f', long = "from", value_name = "DIR")]
    from: PathBuf,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let manifest = plan::load(call, &args.from)?;
    let client = AdminClient::open(call).await?;
    let wanted = plan::ask(&client, call, &manifest).await?;
    let out = &call.out;
    if !out.is_json() {
        plan::print(call, &wanted)?;
    }
    if wanted.changes.is_empty() {
        if out.is_json() {
            out.json(&wanted)?;
        }
        return Ok(Exit::Ok);
    }
    agreed(call, args.yes, "Apply this?")?;
    let files = plan::files_of(&manifest);
    // The digest binds this to exactly what was shown.
    let apply = Apply { manifest, digest: wanted.digest };
    let applied: Plan = client.send_files(call, Method::POST, "/v1/apply", &apply, &files).await?;
    if out.is_json() {
        out.json(&applied)?;
    } else {
        out.line(&format!("{} applied", out.paint(Style::Good, "✓")))?;
    }
    Ok(Exit::Ok)
}

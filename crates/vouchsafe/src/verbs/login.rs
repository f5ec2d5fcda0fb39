//! `login`: signs a person in on this device, through a browser.

use std::process::Stdio;

use vouchsafe_agent::login::Login;
use vouchsafe_agent::session::SignedIn;

use super::{now, show_link};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Style, clean};
use crate::text;

/// Signs you in on this device.
///
/// Shows a link and a code; the browser where you follow the link asks for your passkey. The link
/// is good for this device alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  vouchsafe login")]
pub(crate) struct Args {
    /// Does not open a browser, only prints the link.
    #[arg(long)]
    no_browser: bool,
}

pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let device = call.device()?;
    let login = Login::start(device).await?;
    let out = &call.out;
    if out.is_json() {
        out.json(&serde_json::json!({
            "verification_uri": login.link(), "user_code": login.code(), "expires_in": login.life().as_secs(),
        }))?;
    } else {
        let opened = call.environment.has_display && !args.no_browser && open(login.link());
        let what = if opened { "Your browser opens this link:" } else { "Follow this link in any browser:" };
        out.line(what)?;
        show_link(call, login.link(), now().saturating_add(login.life().as_secs()))?;
        out.line(&format!("\n  It has to show the code  {}\n", out.paint(Style::Bold, &clean(login.code()))))?;
        out.note(&out.paint_error(Style::Dim, "Waiting for you …"));
    }
    let SignedIn { user, expires } = tokio::select! {
        signed_in = login.finish() => signed_in?,
        interrupted = call.interrupted() => {
            interrupted?;
            return Err(VerbError::failed("the sign-in was given up"));
        }
    };
    if out.is_json() {
        out.json(&serde_json::json!({ "user": user, "session_expires": expires }))?;
    } else {
        out.line(&format!(
            "{} signed in as {}, until {} ({})",
            out.paint(Style::Good, "✓"),
            out.paint(Style::Bold, &clean(&user)),
            text::moment(expires),
            text::relative(expires, now())
        ))?;
    }
    Ok(Exit::Ok)
}

/// Hands the link to the desktop. Never waits: a browser may live as long as the desktop.
fn open(link: &str) -> bool {
    tokio::process::Command::new("xdg-open")
        .arg(link)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .is_ok()
}

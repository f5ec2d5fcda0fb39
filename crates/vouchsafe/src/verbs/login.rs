//! `login`: signs a person in on this device, through a browser.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use vouchsafe_agent::device::Device;
use vouchsafe_agent::login::Login;
use vouchsafe_agent::session::SignedIn;
use vouchsafe_agent::tunnel::StepUp;

use super::{now, show_link};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Output, Style, clean};
use crate::text;

/// What is asked for where nobody said how fresh the sign-in has to be, seconds.
const FRESH_SECONDS: u64 = 60;

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
    /// Asks for your passkey also where your browser is signed in, as policies may demand.
    #[arg(long)]
    fresh: bool,
}

pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let device = call.device()?;
    let login = match args.fresh {
        true => Login::start_fresh(device, FRESH_SECONDS).await?,
        false => Login::start(device).await?,
    };
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
    let SignedIn { user, expires } = finish(login, call).await?;
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

async fn finish(login: Login, call: &Call) -> Result<SignedIn, VerbError> {
    tokio::select! {
        signed_in = login.finish() => Ok(signed_in?),
        interrupted = call.interrupted() => {
            interrupted?;
            Err(VerbError::failed("the sign-in was given up"))
        }
    }
}

/// Has the person prove anew who she is where a policy demands it, if somebody is there to be asked.
pub(crate) fn stepping_up(call: &Call, device: &Arc<Device>) -> Option<StepUp> {
    if !call.out.reaches_a_person() {
        return None;
    }
    let (out, has_display, device) = (call.out.clone(), call.environment.has_display, Arc::clone(device));
    Some(Arc::new(move |max_age| {
        let (out, device) = (out.clone(), Arc::clone(&device));
        Box::pin(async move {
            let done = step_up(&out, has_display, device, max_age).await;
            done.inspect_err(|error| out.failure(error)).is_ok()
        })
    }))
}

/// Has the person prove anew who she is, since a policy demands it of what she wants; in the midst of another
/// verb, so all is said on standard error.
///
/// # Errors
/// [`VerbError`] when that came to nothing.
async fn step_up(out: &Output, has_display: bool, device: Arc<Device>, max_age: u64) -> Result<(), VerbError> {
    let login = Login::start_fresh(device, max_age).await?;
    let wanted = match max_age {
        0 => "a fresh sign-in".to_owned(),
        age => format!("a sign-in of the last {}", text::about(Duration::from_secs(age).as_secs())),
    };
    out.note(&format!("This needs {wanted}."));
    let opened = has_display && open(login.link());
    out.note(if opened { "Your browser opens this link:" } else { "Follow this link in any browser:" });
    out.note(&format!("  {}", out.paint_error(Style::Accent, &clean(login.link()))));
    out.note(&format!("It has to show the code  {}", out.paint_error(Style::Bold, &clean(login.code()))));
    let SignedIn { user, .. } = login.finish().await?;
    out.note(&format!("{} it is you, {}", out.paint_error(Style::Good, "✓"), clean(&user)));
    Ok(())
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

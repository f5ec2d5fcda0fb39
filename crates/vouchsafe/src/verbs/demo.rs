//! `demo`: the whole of it on one machine, with made-up people, apps and databases.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use vouchsafe_demo::story::company::Databases;
use vouchsafe_demo::story::report::{Ink, Look, Report};
use vouchsafe_demo::story::{Story, StoryError, World};
use vouchsafe_gateway::ConnectionLimits;
use vouchsafe_model::name::BaseDomain;

use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::Style;
use crate::wiring::{Running, UpOptions};

/// Domain of the demo; names under `.localhost` are this machine everywhere (RFC 6761 §6.3).
const DOMAIN: &str = "vouchsafe.localhost";
/// Widest report: past it, lines are hard to follow.
const WIDEST: usize = 160;

/// Shows the whole of it on this machine, with made-up people and apps.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  vouchsafe demo --check")]
pub(crate) struct Args {
    /// Ends after the walk, with exit code 0 only if every outcome was right.
    #[arg(long)]
    check: bool,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Leaves PostgreSQL out even where it is installed.
    #[arg(long)]
    without_postgres: bool,
}

/// Starts an installation in a temporary directory, takes the walk, and stays up to look around.
///
/// # Errors
/// [`VerbError`] when the demo can't be played, or when a step came out wrong.
pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let dir = tempfile::Builder::new().prefix("vouchsafe-demo-").tempdir()?;
    let running = Running::start(options(&args, &dir)?, vouchsafe_runtime::task::TaskGroup::new()).await?;
    let played = tokio::select! {
        played = play(&args, &dir, &running, call) => played,
        _ = terminate.recv() => Err(VerbError::failed("the demo was stopped")),
        _ = interrupt.recv() => Err(VerbError::failed("the demo was stopped")),
    };
    let (story, ok) = match played {
        Ok(played) => played,
        Err(error) => {
            running.shut_down().await;
            return Err(error);
        }
    };
    if !args.check {
        look_around(&running, &dir, call)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = running.tasks().failed() => {}
        }
        call.out.note("stopping, and removing everything");
    }
    // Stops the databases; they must not outlive their directory.
    drop(story);
    running.shut_down().await;
    if ok {
        Ok(Exit::Ok)
    } else {
        Err(VerbError::failed("the demo did not come out as it should: see the steps marked ✗"))
    }
}

fn options(args: &Args, dir: &TempDir) -> Result<UpOptions, VerbError> {
    let domain = BaseDomain::parse(DOMAIN).map_err(|error| VerbError::failed(error.to_string()))?;
    Ok(UpOptions {
        dir: dir.path().join("state"),
        domain,
        port: args.port,
        listen: Vec::new(),
        browser_certificate: None,
        connections: ConnectionLimits::default(),
        http3: vouchsafe_gateway::Http3::Served,
        acme: None,
        acme_http_port: None,
        spans: None,
        proxies: Vec::new(),
        checkpoint_copy: None,
        keep_days: None,
        witnesses: vouchsafe_control::Witnesses::default(),
    })
}

async fn play(args: &Args, dir: &TempDir, running: &Running, call: &Call) -> Result<(Story, bool), VerbError> {
    let state = dir.path().join("state");
    let world = World {
        dir: dir.path().to_owned(),
        domain: running.domain.to_string(),
        port: running.port,
        root_pem: running.controller.root_pem().to_owned(),
        admin_socket: state.join("admin.sock"),
    };
    let databases = if args.without_postgres { Databases::Without } else { Databases::WhereInstalled };
    let progress = progress(call);
    progress.set_message("starting apps and databases, enrolling two people and their laptops");
    let story = Story::begin(world, databases, running.tasks().clone()).await?;
    let report = story.walk(|step| progress.set_message(format!("step {}: {}", step.number, step.asked))).await?;
    progress.finish_and_clear();
    show(&report, call)?;
    let ok = report.ok();
    Ok((story, ok))
}

/// A line that moves while the demo works; nothing where no person looks.
fn progress(call: &Call) -> ProgressBar {
    let progress = ProgressBar::new_spinner();
    if call.out.is_json() {
        progress.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>3}  {wide_msg}") {
        progress.set_style(style);
    }
    progress.enable_steady_tick(Duration::from_millis(120));
    progress
}

fn show(report: &Report, call: &Call) -> Result<(), VerbError> {
    let out = &call.out;
    if out.is_json() {
        return Ok(out.json(&report.to_json())?);
    }
    let ink = if out.colours() { Ink::Colour } else { Ink::Plain };
    let width = if out.is_terminal() { out.width().min(WIDEST) } else { 120 };
    Ok(out.raw(report.render(Look { width, ink }).as_bytes())?)
}

fn look_around(running: &Running, dir: &TempDir, call: &Call) -> Result<(), VerbError> {
    let out = &call.out;
    let invite = running.controller.first_invite().map(|invite| invite.link.clone());
    if out.is_json() {
        return Ok(out.json(&serde_json::json!({
            "event": "ready",
            "console": running.origin("console"),
            "first_invite": invite,
            "root": running.root_file,
            "dir": dir.path().join("state"),
        }))?);
    }
    out.line(&format!(
        "\n{}",
        out.paint(Style::Bold, "It stays up, so that you can look around. Ctrl-C ends it and removes everything.")
    ))?;
    let mut facts = Vec::new();
    if let Some(link) = invite {
        facts.push(("become administrator", out.paint(Style::Accent, &link)));
    }
    facts.push(("console", out.paint(Style::Accent, &running.origin("console"))));
    facts.push(("trust in your browser", running.root_file.display().to_string()));
    facts.push(("from another terminal", format!("vouchsafe --dir {} audit tail", dir.path().join("state").display())));
    Ok(out.facts(&facts)?)
}

impl From<StoryError> for VerbError {
    fn from(error: StoryError) -> Self {
        Self::of(Exit::Failed, &error)
    }
}

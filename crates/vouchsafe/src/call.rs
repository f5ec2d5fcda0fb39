//! One call of the program: where its state is, where it prints to, and what `main` read of the
//! environment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use vouchsafe_agent::connect::Report;
use vouchsafe_agent::device::Device;
use vouchsafe_agent::tunnel::{OpenError, Warned};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::would_deny::WouldDeny;

use crate::collector::Variables;
use crate::error::VerbError;
use crate::output::{Output, Style, clean};

/// What the environment says, read once in `main`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// `XDG_STATE_HOME`.
    pub state_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// Whether there is a display that a browser could open on.
    pub has_display: bool,
    /// Whether this is the superuser.
    pub is_root: bool,
    /// What OpenTelemetry's variables say.
    pub telemetry: Variables,
}

impl Environment {
    /// Where state is kept unless `--dir` says otherwise.
    #[must_use]
    pub(crate) fn state_dir(&self) -> PathBuf {
        // XDG Base Directory Specification: a relative path is to be ignored.
        match (&self.state_home, &self.home) {
            (Some(state), _) if state.is_absolute() => state.join("vouchsafe"),
            _ if self.is_root => PathBuf::from("/var/lib/vouchsafe"),
            (_, Some(home)) => home.join(".local/state/vouchsafe"),
            (_, None) => PathBuf::from("/var/lib/vouchsafe"),
        }
    }
}

/// One call of the program.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Where to print.
    pub out: Output,
    /// State directory.
    pub dir: PathBuf,
    /// The environment.
    pub environment: Environment,
    /// Tasks of this call.
    pub tasks: TaskGroup,
}

impl Call {
    /// State directory.
    #[must_use]
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The device that is enrolled here.
    ///
    /// # Errors
    /// [`VerbError`] says how to enrol one.
    pub(crate) fn device(&self) -> Result<Arc<Device>, VerbError> {
        Ok(Arc::new(Device::load(&self.dir)?))
    }

    /// Tells each kind of refused tunnel once, on standard error.
    #[must_use]
    pub(crate) fn report(&self) -> Report {
        let out = self.out.clone();
        Arc::new(move |error: &OpenError| out.failure(&describe(error)))
    }

    /// Tells the person that what she reaches she will lose.
    pub(crate) fn warned(&self) -> Warned {
        let out = self.out.clone();
        Arc::new(move |host: &str, warning: &WouldDeny| {
            let WouldDeny { reason, owner, .. } = warning;
            let mark = out.paint_error(Style::Warn, "!");
            let until = warning.until_words();
            out.note(&format!(
                "{mark} {host}: access ends on {until}, or earlier. By today's policy: {}",
                reason.words()
            ));
            out.note(&format!("  ask {owner} if your work needs it; quote {}", warning.decision));
        })
    }

    /// Resolves on SIGINT or SIGTERM.
    ///
    /// # Errors
    /// [`VerbError`] when signals can't be waited for.
    pub(crate) async fn interrupted(&self) -> Result<(), VerbError> {
        let failed = |error: std::io::Error| VerbError::failed("can't wait for signals").cause(error.to_string());
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    }

    /// Waits for a signal, then lets open connections end.
    ///
    /// # Errors
    /// [`VerbError`] when signals can't be waited for.
    pub(crate) async fn serve_until_interrupted(&self) -> Result<(), VerbError> {
        self.interrupted().await?;
        self.out.note(&self.out.paint_error(Style::Dim, "stopping: open connections may end (again to cut them)"));
        tokio::select! {
            _drained = self.tasks.shut_down(vouchsafe_runtime::limits::DRAIN_TIMEOUT) => Ok(()),
            interrupted = self.interrupted() => interrupted,
        }
    }
}

/// The failure of a tunnel that was only borrowed.
fn describe(error: &OpenError) -> VerbError {
    match error {
        OpenError::Refused(refusal) => refusal.clone().into(),
        other => VerbError::of(crate::exit::Exit::Failed, other),
    }
}

/// A host name under the base domain and a port, of what a person wrote: `wiki`, `wiki:443` or the
/// whole name.
#[must_use]
pub(crate) fn host_of(device: &Device, name: &str) -> String {
    if name.contains('.') { name.to_owned() } else { device.domain().host(&clean(name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_follows_the_xdg_specification() {
        let state = |state: Option<&str>, home: Option<&str>, is_root| {
            let (state_home, home) = (state.map(PathBuf::from), home.map(PathBuf::from));
            Environment { state_home, home, has_display: false, is_root, ..Environment::default() }
                .state_dir()
                .display()
                .to_string()
        };
        assert_eq!(state(Some("/s"), Some("/h"), true), "/s/vouchsafe");
        assert_eq!(state(None, Some("/root"), true), "/var/lib/vouchsafe");
        assert_eq!(state(None, Some("/h"), false), "/h/.local/state/vouchsafe");
        assert_eq!(state(Some("relative"), Some("/h"), false), "/h/.local/state/vouchsafe");
    }
}

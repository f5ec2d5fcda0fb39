//! How those who run `up`, `controller` or `gateway` look at it: metrics and health.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::vitals::{Board, ListenError, Where};

use crate::error::VerbError;
use crate::exit::Exit;
use crate::wiring::{self, UpError};

/// Name of the socket in the state directory, for `vouchsafe doctor`.
pub(crate) const SOCKET: &str = "health.sock";

/// Where metrics and health are shown.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct VitalsArgs {
    /// Address on loopback for metrics in Prometheus' format (`/metrics`) and health (`/livez`, `/readyz`); port
    /// 0 takes a free one [default: none].
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics_addr: Option<SocketAddr>,
    /// Lets `--metrics-addr` be an address that others reach. Nobody is asked who they are there, so see to it
    /// that only your monitoring gets through.
    #[arg(long, requires = "metrics_addr")]
    metrics_anywhere: bool,
}

impl VitalsArgs {
    /// Refuses an address that others reach, and settles the port, which the sandbox must know.
    ///
    /// # Errors
    /// [`VerbError`] when there is no free port, or others reach the address.
    pub(crate) fn confine(&mut self) -> Result<Option<u16>, VerbError> {
        let Some(address) = &mut self.metrics_addr else { return Ok(None) };
        if !self.metrics_anywhere && !is_loopback(address.ip()) {
            let words = format!("`--metrics-addr {address}` can be reached by others, who are not asked who they are");
            return Err(VerbError::usage(words)
                .hint("take 127.0.0.1, or add `--metrics-anywhere` where only your monitoring gets through"));
        }
        if address.port() == 0 {
            address.set_port(wiring::free_port(&[address.ip()]).map_err(UpError::Port)?);
        }
        Ok(Some(address.port()))
    }

    /// Shows what is on the board, until [`Shown::end`].
    ///
    /// # Errors
    /// [`VerbError`] when the address can't be listened on.
    pub(crate) async fn show(&self, board: &Board) -> Result<Shown, VerbError> {
        let tasks = TaskGroup::new();
        let address = match self.metrics_addr {
            Some(address) => board.serve(Where::Port(address), &tasks).await?,
            None => None,
        };
        Ok(Shown { board: board.clone(), address, tasks })
    }
}

/// What is shown, and where.
pub(crate) struct Shown {
    board: Board,
    /// Address of `/metrics`, if there is one.
    pub(crate) address: Option<SocketAddr>,
    tasks: TaskGroup,
}

impl Shown {
    /// Shows the same on the socket of the state directory, which has to be ours alone. Without it, `doctor`
    /// can't ask; that is no reason not to serve.
    pub(crate) async fn to_owner(&self, dir: &Path) {
        if let Err(error) = self.board.serve(Where::Socket(dir.join(SOCKET)), &self.tasks).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "`vouchsafe doctor` can't ask this process how it is");
        }
    }

    /// Where `/metrics` is, in words for people.
    pub(crate) fn words(&self) -> Option<String> {
        self.address.map(|address| format!("http://{address}/metrics, and /readyz"))
    }

    /// Ends it: to be called when the work is over, so that it is told until then how it goes.
    pub(crate) async fn end(self) {
        self.tasks.shut_down(Duration::ZERO).await;
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
    }
}

impl From<ListenError> for VerbError {
    fn from(error: ListenError) -> Self {
        Self::of(Exit::Failed, &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_reach_it_only_when_that_is_said() {
        let confined = |address: &str, anywhere| {
            let mut args = VitalsArgs { metrics_addr: address.parse().ok(), metrics_anywhere: anywhere };
            args.confine().map_err(|error| error.exit)
        };
        for local in ["127.0.0.1:9464", "127.1.2.3:9464", "[::1]:9464", "[::ffff:127.0.0.1]:9464"] {
            assert_eq!(confined(local, false), Ok(Some(9464)), "{local}");
        }
        for open in ["0.0.0.0:9464", "[::]:9464", "192.0.2.1:9464", "[::ffff:10.0.0.1]:9464", "[2001:db8::1]:9464"] {
            assert_eq!(confined(open, false), Err(Exit::Usage), "{open}");
            assert_eq!(confined(open, true), Ok(Some(9464)), "{open}");
        }
        assert_ne!(confined("127.0.0.1:0", false), Ok(Some(0)));
    }
}

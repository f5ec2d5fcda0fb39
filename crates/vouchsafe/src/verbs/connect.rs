//! `connect`: a resource at a local port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use vouchsafe_agent::connect::{MAX_CONNECTIONS, serve};
use vouchsafe_agent::connect_udp;
use vouchsafe_agent::local::{ListenError, LocalListener};
use vouchsafe_agent::tunnel::{Port, Tunnels};

use super::login::stepping_up;
use super::target::Named;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::Style;

/// Makes a resource reachable at a local port.
///
/// Each connection to the port becomes one tunnel, decided on by the gateway. Only programs of
/// your own user on this machine are let in.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  vouchsafe connect marketing-db --listen 5432\n  psql -h 127.0.0.1 -p 5432 marketing\n  vouchsafe connect office-dns --udp --listen 5353"
)]
pub(crate) struct Args {
    /// The resource, such as `marketing-db`; without a port it is the resource's own.
    #[arg(value_name = "RESOURCE[:PORT]")]
    resource: Named,
    /// Local port, or loopback address and port [default: a free port of 127.0.0.1].
    #[arg(long, value_name = "[ADDRESS:]PORT", default_value = "0", hide_default_value = true)]
    listen: Listen,
    /// The resource is a `udp` one: listen on a local UDP port.
    #[arg(long)]
    udp: bool,
}

/// Where to listen: a port of 127.0.0.1, or an address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listen(pub SocketAddr);

impl FromStr for Listen {
    type Err = std::net::AddrParseError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<u16>() {
            Ok(port) => Ok(Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))),
            Err(_) => text.parse().map(Self),
        }
    }
}

/// Binds a local listener, with the next step when that fails.
pub(crate) async fn listen(listen: Listen, connections: usize) -> Result<LocalListener, VerbError> {
    LocalListener::bind(listen.0, connections).await.map_err(refused)
}

fn refused(error: ListenError) -> VerbError {
    let made = VerbError::of(Exit::Failed, &error);
    match error {
        ListenError::NotLoopback { .. } => made.hint("listen on `127.0.0.1:PORT` or `[::1]:PORT`"),
        ListenError::Bind { .. } => made.hint("choose another port with `--listen`"),
    }
}

pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let device = call.device()?;
    let target = args.resource.resolve(&device)?;
    let (host, port) = (target.host.clone(), target.port);
    let tunnels = Tunnels::new(device.clone(), call.tasks.clone());
    let tunnels = Arc::new(tunnels.with_step_up(stepping_up(call, &device)).with_warned(Some(call.warned())));
    let (report, tasks) = (call.report(), call.tasks.clone());
    let address = if args.udp {
        let local = connect_udp::LocalPort::bind(args.listen.0).await.map_err(refused)?;
        let address = local.address();
        call.tasks.spawn("local port", connect_udp::serve(local, tunnels, target, report, tasks));
        address
    } else {
        let listener = listen(args.listen, MAX_CONNECTIONS).await?;
        let address = listener.address();
        call.tasks.spawn("local listener", serve(listener, tunnels, target, report, tasks));
        address
    };
    device.keep_fresh(&call.tasks);
    if call.out.is_json() {
        call.out.json(&serde_json::json!({ "listening": address.to_string(), "host": host, "port": match port { Port::Number(port) => Some(port), Port::Any => None } }))?;
    } else {
        let out = &call.out;
        let behind = match port {
            Port::Number(port) => format!("{host}:{port}"),
            Port::Any => host,
        };
        out.line(&format!("{} → {behind}", out.paint(Style::Bold, &address.to_string())))?;
        out.note(&out.paint_error(Style::Dim, "Ctrl-C ends it."));
    }
    call.serve_until_interrupted().await?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_on_loopback() {
        assert_eq!("5432".parse::<Listen>().unwrap().0.to_string(), "127.0.0.1:5432");
        assert_eq!("[::1]:80".parse::<Listen>().unwrap().0.to_string(), "[::1]:80");
        assert!("localhost:80".parse::<Listen>().is_err() && "70000".parse::<Listen>().is_err());
    }

    #[tokio::test]
    async fn other_machines_are_kept_out() {
        let error = listen("0.0.0.0:0".parse().unwrap(), 1).await.err().unwrap();
        assert!(error.title.contains("other machines") && !error.hints.is_empty());
    }
}

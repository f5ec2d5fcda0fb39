//! A line between a gateway and its controller that breaks when it is told to.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use vouchsafe_runtime::task::TaskGroup;

/// How the line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Connections that were begun before the last of these cuts are gone.
    pub cuts: u64,
    /// Whether bytes pass to the controller, and from it. What doesn't pass waits.
    pub up: bool,
    pub down: bool,
    /// How long each piece takes more, each way.
    pub delay: Duration,
    /// Whether the controller is kept from hearing that the gateway has gone: its side stays open.
    pub holds: bool,
}

impl Weather {
    pub const FAIR: Self = Self { cuts: 0, up: true, down: true, delay: Duration::ZERO, holds: false };
}

/// The line. Several connections go over it.
pub struct Relay {
    pub address: SocketAddr,
    weather: watch::Sender<Weather>,
}

impl Relay {
    /// A line to the controller at that address.
    pub async fn to(controller: SocketAddr, tasks: &TaskGroup) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let address = listener.local_addr().expect("address");
        let (weather, watched) = watch::channel(Weather::FAIR);
        let group = tasks.clone();
        tasks.spawn("relay", async move {
            while let Ok((gateway, _)) = listener.accept().await {
                let watched = watched.clone();
                group.spawn("relayed", async move { drop(carry(gateway, controller, watched).await) });
            }
        });
        Self { address, weather }
    }

    /// Changes the weather.
    pub fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.weather.send_modify(change);
    }

    /// Breaks every connection that is open, as a router that lost its memory would.
    pub fn cut(&self) {
        self.change(|weather| weather.cuts += 1);
    }

    /// Everything passes again. What hung on a dead connection is told so.
    pub fn heal(&self) {
        self.change(|weather| *weather = Weather { cuts: weather.cuts + 1, ..Weather::FAIR });
    }
}

async fn carry(gateway: TcpStream, to: SocketAddr, mut weather: watch::Receiver<Weather>) -> io::Result<()> {
    let begun = weather.borrow().cuts;
    // In a partition nobody gets through to begin with either.
    passes(&mut weather, |weather| weather.up && weather.down, begun).await?;
    let controller = TcpStream::connect(to).await?;
    for stream in [&gateway, &controller] {
        stream.set_nodelay(true)?;
        // A cut is no orderly end.
        rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
    }
    let (from_gateway, to_gateway) = gateway.into_split();
    let (from_controller, to_controller) = controller.into_split();
    let mut held = weather.clone();
    let up = async {
        pump(from_gateway, to_controller, weather.clone(), |weather| weather.up).await;
        // The gateway is gone; whether its end is passed on is a matter of the weather.
        let _ = held.wait_for(|weather| !weather.holds || weather.cuts != begun).await;
    };
    let down = pump(from_controller, to_gateway, weather.clone(), |weather| weather.down);
    let mut weather = weather.clone();
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = weather.wait_for(|weather| weather.cuts != begun) => {}
    }
    Ok(())
}

async fn passes(weather: &mut watch::Receiver<Weather>, open: fn(&Weather) -> bool, begun: u64) -> io::Result<()> {
    let now = weather.wait_for(|weather| open(weather) || weather.cuts != begun).await;
    match now {
        Ok(now) if now.cuts == begun => Ok(()),
        Ok(_) | Err(_) => Err(io::ErrorKind::ConnectionReset.into()),
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    open: fn(&Weather) -> bool,
) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let delay = weather.borrow().delay;
        tokio::time::sleep(delay).await;
        if weather.wait_for(open).await.is_err() || to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

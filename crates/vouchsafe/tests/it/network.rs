//! Networks of their own for a test: namespaces that it makes, and removes when it ends, whichever way.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use crate::world::{VOUCHSAFE, patiently};

/// Read by browsers, which give up whatever they load when an address of this machine comes or goes.
static CHANGING: LazyLock<Arc<RwLock<()>>> = LazyLock::new(Arc::default);

/// While it is held no test changes this machine's addresses.
pub async fn unchanging() -> OwnedRwLockReadGuard<()> {
    Arc::clone(&CHANGING).read_owned().await
}

/// Changes them when no browser is open, or when one is for too long.
fn changing<T>(change: impl FnOnce() -> T) -> T {
    let mut alone = CHANGING.try_write();
    for () in patiently().chain(patiently()) {
        if alone.is_ok() {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(20));
        alone = CHANGING.try_write();
    }
    change()
}

/// A site behind a line to this machine: it can dial out, and nobody outside has a way in.
pub struct Site {
    name: String,
    /// This machine's end of the line.
    pub outside: Ipv4Addr,
    /// Another address of this machine at that line.
    pub beside: Ipv4Addr,
    /// Address of the site's services, which no route outside leads to.
    pub inside: Ipv4Addr,
}

static NEXT: AtomicU8 = AtomicU8::new(0);

impl Site {
    pub fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Apart from those of another run at the same time.
        let run = u8::try_from(std::process::id() % 200).expect("small");
        let name = format!("vsit{}-{number}", std::process::id());
        let line = |last| Ipv4Addr::new(10, 20 + run, number, last);
        let inside = Ipv4Addr::new(10, 20 + run, number, 129);
        let site = Self { name, outside: line(1), beside: line(5), inside };
        let (near, far) = (format!("vn{run}-{number}"), format!("vf{run}-{number}"));
        let name = site.name.as_str();
        ip(&["netns", "add", name]);
        changing(|| {
            ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", name]);
            ip(&["address", "add", &format!("{}/30", site.outside), "dev", &near]);
            ip(&["address", "add", &format!("{}/30", site.beside), "dev", &near]);
            ip(&["link", "set", &near, "up"]);
        });
        ip(&["-n", name, "address", "add", &format!("{}/30", line(2)), "dev", &far]);
        ip(&["-n", name, "address", "add", &format!("{}/30", line(6)), "dev", &far]);
        ip(&["-n", name, "link", "set", &far, "up"]);
        ip(&["-n", name, "link", "set", "lo", "up"]);
        ip(&["-n", name, "address", "add", &format!("{}/32", site.inside), "dev", "lo"]);
        site
    }

    /// A listener inside; what it accepts is served from here.
    pub async fn listener(&self) -> TcpListener {
        let address = SocketAddr::from((self.inside, 0));
        let listener = self.inside(move || {
            let listener = std::net::TcpListener::bind(address).expect("bound");
            listener.set_nonblocking(true).expect("nonblocking");
            listener
        });
        TcpListener::from_std(listener).expect("listener")
    }

    /// A UDP socket inside, which is served from here.
    pub async fn udp(&self) -> UdpSocket {
        let address = SocketAddr::from((self.inside, 0));
        let socket = self.inside(move || {
            let socket = std::net::UdpSocket::bind(address).expect("bound");
            socket.set_nonblocking(true).expect("nonblocking");
            socket
        });
        UdpSocket::from_std(socket).expect("socket")
    }

    fn inside<T: Send + 'static>(&self, open: impl FnOnce() -> T + Send + 'static) -> T {
        let space = format!("/run/netns/{}", self.name);
        // A thread of its own, since its network can't be taken back from it.
        let opened = std::thread::spawn(move || {
            let space = File::open(space).expect("the namespace");
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&space), Some(LinkNameSpaceType::Network))
                .expect("entered");
            open()
        });
        opened.join().expect("opened")
    }

    /// A program inside.
    pub fn command(&self, program: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Our own binary inside.
    pub fn vouchsafe(&self) -> tokio::process::Command {
        self.command(VOUCHSAFE)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The line goes with it.
        changing(|| drop(Command::new("ip").args(["netns", "del", &self.name]).status()));
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed by ./test");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?} (networks of their own need root): {said}");
}

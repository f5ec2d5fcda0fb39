//! Networks of their own: namespaces that the run makes, each on a line to this machine, and that go when it ends.

use std::error::Error;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A namespace with one line to this machine. Removed when dropped, and the line with it.
pub(crate) struct Network {
    name: String,
    /// This machine's end of the line.
    pub(crate) outside: Ipv4Addr,
    /// The other end.
    pub(crate) inside: Ipv4Addr,
}

impl Network {
    /// Makes the one of that number.
    pub(crate) fn new(number: u8) -> Result<Self> {
        // Apart from those of another run at the same time.
        let run = u8::try_from(std::process::id() % 200)?;
        let line = |last| Ipv4Addr::new(10, 20 + run, 200 + number, last);
        let network = Self { name: format!("vsben{}-{number}", std::process::id()), outside: line(1), inside: line(2) };
        let (near, far) = (format!("vbn{run}-{number}"), format!("vbf{run}-{number}"));
        let name = network.name.as_str();
        ip(&["netns", "add", name])?;
        ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", name])?;
        ip(&["address", "add", &format!("{}/30", network.outside), "dev", &near])?;
        ip(&["link", "set", &near, "up"])?;
        ip(&["-n", name, "address", "add", &format!("{}/30", network.inside), "dev", &far])?;
        ip(&["-n", name, "link", "set", &far, "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        ip(&["-n", name, "route", "add", "default", "via", &network.outside.to_string()])?;
        Ok(network)
    }

    /// A program inside, on one processor.
    pub(crate) fn command(&self, processor: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "taskset", "-c", processor]).arg(program);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`ip {}` (networks of their own need root): {said}", arguments.join(" ")).into())
}

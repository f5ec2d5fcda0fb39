//! `enroll`: the first certificate of this device.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use vouchsafe_agent::device::{Device, Former};
use vouchsafe_model::name::DeviceName;
use vouchsafe_wire::ticket::Ticket;

use super::now;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::Style;
use crate::text;

/// Longest ticket text, bytes.
const MAX_TICKET_BYTES: u64 = 1_024;

/// Enrols this device with a ticket from an administrator.
///
/// Makes a key on this device, which never leaves it, and gets its first certificate. The ticket
/// is a secret, so it is read from standard input, a file or a prompt, never from the command line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  vouchsafe enroll --name alice-laptop < ticket.txt")]
pub(crate) struct Args {
    /// Name of this device for people [default: this machine's name].
    #[arg(long)]
    name: Option<DeviceName>,
    /// Reads the ticket from a file instead of standard input.
    #[arg(long, value_name = "FILE")]
    ticket_file: Option<PathBuf>,
    /// Gives up a device that is enrolled here already.
    #[arg(long)]
    replace: bool,
}

pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let ticket = match &args.ticket_file {
        Some(file) => from_file(file)?,
        None => from_input(call)?,
    };
    let ticket = Ticket::parse(&ticket).map_err(|error| VerbError::of(Exit::Usage, &error))?;
    let name = args.name.unwrap_or_else(machine_name);
    let former = if args.replace { Former::Replace } else { Former::Keep };
    let device = Device::enrol(call.dir(), &ticket, &name, former).await.map_err(|error| {
        let error = VerbError::from(error);
        if error.exit == Exit::Denied {
            error.hint("a ticket is good once and for minutes: ask for a new one")
        } else {
            error
        }
    })?;
    if call.out.is_json() {
        call.out.json(&serde_json::json!({
            "device": device.id().to_string(), "name": device.name(), "owner": device.owner(),
            "domain": device.domain().as_str(), "not_after": device.not_after(),
        }))?;
        return Ok(Exit::Ok);
    }
    let out = &call.out;
    out.line(&format!("{} enrolled as {}", out.paint(Style::Good, "✓"), out.paint(Style::Bold, device.name())))?;
    out.facts(&[
        ("device", device.id().to_string()),
        ("owner", device.owner().unwrap_or("nobody").to_owned()),
        ("installation", device.domain().to_string()),
        ("certificate", format!("ends {}, renewed by itself", text::relative(device.not_after(), now()))),
    ])?;
    out.note(&format!("\nNext: {}", out.paint_error(Style::Accent, "vouchsafe login")));
    Ok(Exit::Ok)
}

fn from_file(file: &Path) -> Result<String, VerbError> {
    let failed = |error: std::io::Error| {
        VerbError::failed(format!("can't read the ticket in `{}`", file.display())).cause(error.to_string())
    };
    read(std::fs::File::open(file).map_err(failed)?).map_err(failed)
}

fn from_input(call: &Call) -> Result<String, VerbError> {
    let stdin = std::io::stdin();
    let failed = |error: std::io::Error| VerbError::failed("can't read the ticket").cause(error.to_string());
    if !stdin.is_terminal() {
        return read(stdin.lock()).map_err(failed);
    }
    call.out.note(&format!(
        "Paste the ticket that an administrator made with {}:",
        call.out.paint_error(Style::Accent, "vouchsafe device invite")
    ));
    let mut line = String::new();
    stdin.read_line(&mut line).map_err(failed)?;
    Ok(line)
}

fn read(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(MAX_TICKET_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// This machine's name as far as it can be a device's.
fn machine_name() -> DeviceName {
    let node = rustix::system::uname();
    named(&node.nodename().to_string_lossy())
}

fn named(text: &str) -> DeviceName {
    let fold =
        |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter.to_ascii_lowercase() } else { '-' };
    let folded: String = text.split('.').next().unwrap_or_default().chars().take(64).map(fold).collect();
    DeviceName::parse(folded.trim_matches('-'))
        .or_else(|_| DeviceName::parse("device"))
        .unwrap_or_else(|_| unreachable!("a constant that is a device name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_machine_has_a_name() {
        for (machine, name) in
            [("Alice_Laptop.corp", "alice-laptop"), ("", "device"), ("---", "device"), ("Ünïx", "n-x")]
        {
            assert_eq!(named(machine).as_str(), name, "{machine}");
        }
    }

    #[test]
    fn a_ticket_is_read_from_a_file_and_from_a_stream() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("ticket");
        let ticket = Ticket { host: "gw.corp.example".into(), port: 8443, code: "a".repeat(26), root_sha256: [7; 32] };
        std::fs::write(&file, format!("{}\n", ticket.to_text())).unwrap();
        assert_eq!(Ticket::parse(&from_file(&file).unwrap()).unwrap(), ticket);
        assert_eq!(Ticket::parse(&read(ticket.to_text().as_bytes()).unwrap()).unwrap(), ticket);
        assert_eq!(read(std::io::repeat(b'a')).unwrap().len() as u64, MAX_TICKET_BYTES);
        assert_eq!(from_file(&temp.path().join("absent")).unwrap_err().exit, Exit::Failed);
    }
}

//! `status`: this device, who is signed in, and the installation.

use serde::Serialize;
use vouchsafe_agent::device::{Device, DeviceError};
use vouchsafe_agent::session::{Session, SignedIn};
use vouchsafe_wire::api::{Attached, CertificateState, Gateway, Status};
use vouchsafe_wire::device::DeviceStatus;
use vouchsafe_wire::health::Health;

use super::now;
use crate::admin::AdminClient;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Style, clean};
use crate::text;

/// Shows this device, who is signed in, and the installation.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  vouchsafe status\n  vouchsafe status --json | jq .session.user")]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct Seen {
    device: Option<SeenDevice>,
    session: Option<SeenSession>,
    installation: Option<Status>,
    /// How the server of this state directory is, where there is one.
    server: Option<Health>,
}

#[derive(Debug, Serialize)]
struct SeenDevice {
    id: String,
    name: String,
    owner: Option<String>,
    domain: String,
    gateway_port: u16,
    certificate_expires: u64,
    /// What the gateway says; absent when it can't be asked.
    gateway: Option<DeviceStatus>,
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct SeenSession {
    user: String,
    expires: u64,
}

pub(crate) async fn run(_args: Args, call: &Call) -> Result<Exit, VerbError> {
    let mut exit = Exit::Ok;
    let (mut device, mut session) = (None, None);
    match Device::load(call.dir()) {
        Ok(found) => {
            let asked = found.status().await;
            if let Err(error) = &asked {
                exit = VerbError::from(clone(error)).exit;
            }
            device = Some(SeenDevice {
                id: found.id().to_string(),
                name: found.name().to_owned(),
                owner: found.owner().map(str::to_owned),
                domain: found.domain().to_string(),
                gateway_port: found.port(),
                certificate_expires: found.not_after(),
                problem: asked.as_ref().err().map(ToString::to_string),
                gateway: asked.ok(),
            });
            let signed_in = Session::on(std::sync::Arc::new(found)).signed_in()?;
            session = signed_in.map(|SignedIn { user, expires }| SeenSession { user, expires });
        }
        Err(DeviceError::NotEnrolled { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    // Whoever is no administrator sees the device alone; that is no failure.
    let installation: Option<Status> = match AdminClient::open(call).await {
        Ok(client) => client.get("/v1/status").await.ok(),
        Err(_) => None,
    };
    if device.is_none() && installation.is_none() {
        // Neither a server nor a device: say how to become one.
        return Err(AdminClient::open(call).await.err().unwrap_or_else(|| VerbError::failed("nothing is here yet")));
    }
    let server = super::doctor::gateway::ask(&call.dir.join(super::vitals::SOCKET), call).await.ok();
    let seen = Seen { device, session, installation, server };
    if call.out.is_json() {
        call.out.json(&seen)?
    } else {
        print(call, &seen)?
    }
    Ok(exit)
}

/// Only whether it is unreachable or a denial matters for the exit code.
fn clone(error: &DeviceError) -> DeviceError {
    match error {
        DeviceError::Exchange(vouchsafe_agent::ExchangeError::Refused(refusal)) => {
            DeviceError::Exchange(refusal.clone().into())
        }
        error if error.is_unreachable() => DeviceError::Exchange(vouchsafe_agent::ExchangeError::TimedOut),
        DeviceError::Expired => DeviceError::Expired,
        _ => DeviceError::Unexpected { what: "the gateway does not take this device" },
    }
}

fn print(call: &Call, seen: &Seen) -> std::io::Result<()> {
    let out = &call.out;
    let heading = |text: &str| out.paint(Style::Bold, text);
    match &seen.device {
        None => out.line(&format!("{}  not enrolled", heading("This device")))?,
        Some(device) => {
            let mark = match (&device.gateway, &device.problem) {
                (Some(_), _) => out.paint(Style::Good, "✓ the gateway knows it"),
                (None, Some(problem)) => out.paint(Style::Bad, &format!("✗ {}", clean(problem))),
                (None, None) => String::new(),
            };
            out.line(&format!("{}  {mark}", heading("This device")))?;
            let grade = device.gateway.as_ref().map_or("unknown", |gateway| gateway.grade.as_str());
            out.facts(&[
                ("name", clean(&device.name).into_owned()),
                ("id", device.id.clone()),
                ("owner", clean(device.owner.as_deref().unwrap_or("–")).into_owned()),
                ("grade", clean(grade).into_owned()),
                ("gateway", format!("gw.{}:{}", device.domain, device.gateway_port)),
                ("certificate", until(device.certificate_expires)),
            ])?;
        }
    }
    match &seen.session {
        None => out.line(&format!("\n{}   nobody: `vouchsafe login`", heading("Signed in")))?,
        Some(SeenSession { user, expires }) => {
            out.line(&format!("\n{}   {}", heading("Signed in"), out.paint(Style::Good, &clean(user))))?;
            out.facts(&[("session", until(*expires))])?;
        }
    }
    if let Some(Health { ready, role, checks, notes, .. }) = &seen.server {
        let mark = match ready {
            true => out.paint(Style::Good, "✓ ready"),
            false => out.paint(Style::Bad, "✗ not ready"),
        };
        out.line(&format!("\n{}  {mark} ({})", heading("This server"), clean(role)))?;
        let failing = checks.iter().filter(|check| !check.holds).map(|check| (&check.name, &check.words));
        for (name, words) in failing.chain(notes.iter().map(|note| (&note.name, &note.words))) {
            out.line(&format!("  {}: {}", clean(name), clean(words)))?;
        }
    }
    if let Some(status) = &seen.installation {
        out.line(&format!("\n{}", heading("Installation")))?;
        out.facts(&[
            ("domain", clean(&status.domain).into_owned()),
            ("console", out.paint(Style::Accent, &clean(&status.console))),
            ("you are", clean(&status.you).into_owned()),
            ("users", status.users.to_string()),
            ("devices", status.devices.to_string()),
            ("sessions", status.sessions.to_string()),
            ("resources", status.resources.to_string()),
            ("grants", status.grants.to_string()),
            ("policy", format!("version {}", status.policy_version)),
            ("audit log", format!("{} records", status.audit_records)),
            ("version", clean(&status.version).into_owned()),
        ])?;
        if let Some(lease) = status.lease {
            out.line(&format!("\n{}  lease {}", heading("Gateways"), text::about(lease)))?;
        }
        for gateway in &status.gateways {
            out.line(&format!("  {}  {}", clean(&gateway.name), attendance(call, gateway)))?;
        }
        if !status.certificates.is_empty() {
            out.line(&format!("\n{}", heading("Public certificates")))?;
        }
        for certificate in &status.certificates {
            let CertificateState { host, expires, next, problem } = certificate;
            let life = expires.map_or("none yet, browsers see our own authority's".to_owned(), until);
            let problem = problem.as_deref().map_or_else(String::new, |problem| {
                let words = format!("; failed: {}, tried again {}", clean(problem), text::relative(*next, now()));
                out.paint(Style::Bad, &words)
            });
            out.line(&format!("  {}  {life}{problem}", clean(host)))?;
        }
    }
    Ok(())
}

/// How a gateway is attached.
fn attendance(call: &Call, gateway: &Gateway) -> String {
    match &gateway.attached {
        Some(Attached { ip, since, heard, behind }) => {
            let behind = match behind {
                0 => "has every change".to_owned(),
                1 => "has all changes but 1".to_owned(),
                many => format!("has all changes but {many}"),
            };
            let (since, heard) = (text::relative(*since, now()), text::relative(*heard, now()));
            let mark = call.out.paint(Style::Good, "✓ attached");
            format!("{mark} {since} from {}, heard {heard}, {behind}", clean(ip))
        }
        None => {
            let last = gateway.last_seen.map_or("never".to_owned(), |at| text::relative(at, now()));
            let mark = call.out.paint(Style::Bad, "✗ not attached");
            format!("{mark}, serves nothing but what has an offline grace; last attached {last}")
        }
    }
}

fn until(at: u64) -> String {
    if at <= now() {
        format!("ended {}", text::relative(at, now()))
    } else {
        format!("ends {} ({})", text::relative(at, now()), text::moment(at))
    }
}

//! The product as it is measured: controller and gateway in one process, or a controller and three gateways, each in a
//! network of its own; connectors of one site; and people who are signed in.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use vouchsafe_agent::device::Device;
use vouchsafe_agent::session::Session;
use vouchsafe_demo::admin::Admin;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::api::{Apply, ConnectorInvited, GatewayInvited, Manifest, Plan};
use vouchsafe_wire::token::AUDIENCE_GATEWAY;

use super::clients::{Identity, Place};
use super::network::Network;
use crate::ours::{self, MEASURED, Process};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Streams that a gateway has open through one connector, within the 512 of a connection.
const PER_CONNECTOR: usize = 400;
/// What the site is called.
const SITE: &str = "far";
/// The group of those whose right ends.
pub(crate) const LEAVING: &str = "leaving";
const STAYING: &str = "staying";

/// How the roles are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `up`.
    One,
    /// A controller, and three gateways in network namespaces.
    Apart,
}

impl Form {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Form::One => "one",
            Form::Apart => "apart",
        }
    }

    pub(crate) const fn words(self) -> &'static str {
        match self {
            Form::One => "controller and gateway in one process",
            Form::Apart => "a controller, and three gateways in network namespaces",
        }
    }
}

/// It runs until this is dropped.
pub(crate) struct Installed {
    pub(crate) admin: Admin,
    pub(crate) gateways: Vec<SocketAddr>,
    /// Address at which every gateway finds the upstream.
    pub(crate) upstream_ip: Ipv4Addr,
    port: u16,
    domain: String,
    root_pem: String,
    dir: PathBuf,
    people: Vec<Arc<Device>>,
    resources: Value,
    tasks: TaskGroup,
    // Processes end before their networks go.
    _processes: Vec<Process>,
    _networks: Vec<Network>,
}

impl Installed {
    pub(crate) async fn start(form: Form, dir: &Path) -> Result<Self> {
        match form {
            Form::One => Self::start_one(dir),
            Form::Apart => Self::start_apart(dir).await,
        }
    }

    fn start_one(dir: &Path) -> Result<Self> {
        let state = dir.join("state").display().to_string();
        let arguments = ["up", "--json", "--port", "0", "--listen", "127.0.0.1", "--dir", &state];
        let (process, ready) = Process::announced(MEASURED, &ours::program()?, &arguments)?;
        let port = u16::try_from(ready.get("port").and_then(Value::as_u64).unwrap_or_default())?;
        let gateways = vec![(Ipv4Addr::LOCALHOST, port).into()];
        Self::of(dir, &ready, port, gateways, Ipv4Addr::LOCALHOST, vec![process], Vec::new())
    }

    async fn start_apart(dir: &Path) -> Result<Self> {
        let program = ours::program()?;
        let networks = (0..3).map(Network::new).collect::<Result<Vec<_>>>()?;
        let here = networks.first().ok_or("no network")?.outside;
        let (port, for_gateways) = (free_port()?, free_port()?);
        let state = dir.join("state").display().to_string();
        let (port_text, listen) = (port.to_string(), format!("0.0.0.0:{for_gateways}"));
        let host = here.to_string();
        let arguments = [
            "controller",
            "--json",
            "--port",
            &port_text,
            "--gateways",
            &listen,
            "--gateways-host",
            &host,
            "--dir",
            &state,
        ];
        let (controller, ready) = Process::announced(MEASURED, &program, &arguments)?;
        let gateways = networks.iter().map(|network| (network.inside, port).into()).collect();
        let mut installed = Self::of(dir, &ready, port, gateways, here, vec![controller], Vec::new())?;
        for (number, network) in networks.iter().enumerate() {
            let (name, state) = (format!("gateway-{number}"), dir.join(format!("gateway-{number}")));
            let invited: GatewayInvited = installed.admin.post("/v1/gateways/invites", &json!({"name": name})).await?;
            let mut join = network.command(MEASURED, &program);
            join.args(["gateway", "join", "--dir"]).arg(&state);
            finished(join, &invited.code)?;
            let mut gateway = network.command(MEASURED, &program);
            gateway.args(["gateway", "--json", "--listen", &network.inside.to_string(), "--dir"]).arg(&state);
            installed._processes.insert(0, Process::announced_by(gateway)?.0);
        }
        installed._networks = networks;
        // Names of the installation lead to this machine's loopback, where nothing listens: people sign in through
        // the first gateway.
        let first = *installed.gateways.first().ok_or("no gateway")?;
        let (listener, tasks) = (TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?, installed.tasks.clone());
        installed.tasks.spawn("door", async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tasks.spawn("through the door", async move {
                    if let Ok(mut gateway) = TcpStream::connect(first).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut gateway).await;
                    }
                });
            }
        });
        Ok(installed)
    }

    fn of(
        dir: &Path,
        ready: &Value,
        port: u16,
        gateways: Vec<SocketAddr>,
        upstream_ip: Ipv4Addr,
        processes: Vec<Process>,
        networks: Vec<Network>,
    ) -> Result<Self> {
        let text = |name: &str| ready.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let tasks = TaskGroup::new();
        Ok(Self {
            admin: Admin::new(dir.join("state").join("admin.sock"), tasks.clone()),
            gateways,
            upstream_ip,
            port,
            domain: text("domain"),
            root_pem: fs::read_to_string(text("root"))?,
            dir: dir.to_owned(),
            people: Vec::new(),
            resources: Value::Null,
            tasks,
            _processes: processes,
            _networks: networks,
        })
    }

    /// Resources that lead to the upstream, straight and through a connector; as many connectors as so many flows of
    /// each gateway need; and so many people, of whom the first ones are those whose right ends.
    pub(crate) async fn furnish(
        &mut self,
        upstream: SocketAddr,
        far: usize,
        people: usize,
        leaving: usize,
    ) -> Result<()> {
        let http = |name: &str| json!({"name": name, "kind": "http", "upstream": format!("http://{upstream}")});
        let tcp = |name: &str| json!({"name": name, "kind": "tcp", "upstream": upstream.to_string(), "port": 7});
        let via = |mut resource: Value| {
            if let Some(members) = resource.as_object_mut() {
                members.insert("via".into(), json!(SITE));
            }
            resource
        };
        self.resources = json!([http("app"), tcp("tcp"), via(http("far-app")), via(tcp("far-tcp"))]);
        self.apply(true).await?;
        let gateways: Vec<String> = self.gateways.iter().map(ToString::to_string).collect();
        for number in 0..far.div_ceil(PER_CONNECTOR) {
            let invited: ConnectorInvited = self.admin.post("/v1/connectors/invites", &json!({"site": SITE})).await?;
            let state = self.dir.join(format!("connector-{number}")).display().to_string();
            let first = gateways.first().ok_or("no gateway")?;
            let mut join = ours::pinned(MEASURED, &ours::program()?);
            join.args(["connector", "join", "--gateway", first, "--dir", &state]);
            finished(join, &invited.code)?;
            let allow = upstream.to_string();
            let mut arguments = vec!["connector", "--json", "--allow", &allow, "--dir", &state];
            arguments.extend(gateways.iter().flat_map(|gateway| ["--gateway", gateway]));
            self._processes.insert(0, Process::announced(MEASURED, &ours::program()?, &arguments)?.0);
        }
        for number in 0..people {
            let group = if number < leaving { LEAVING } else { STAYING };
            let name = person(number);
            let device = self.dir.join(&name);
            let door = ours::Door { admin: &self.admin, port: self.port, root_pem: &self.root_pem, tasks: &self.tasks };
            self.people.push(door.enrol(&name, &[group], &device).await?);
        }
        Ok(())
    }

    /// What clients need to know.
    pub(crate) fn place(&self) -> Result<Place> {
        let identity = |number: usize| -> Result<Identity> {
            let read = |file: &str| fs::read_to_string(self.dir.join(person(number)).join("device").join(file));
            Ok(Identity { chain: read("device.pem")?, key: read("device.key")? })
        };
        Ok(Place {
            root: self.root_pem.clone(),
            domain: self.domain.clone(),
            port: self.port,
            people: (0..self.people.len()).map(identity).collect::<Result<_>>()?,
        })
    }

    /// Fresh tokens of these people.
    pub(crate) async fn tokens(&self, people: impl Iterator<Item = usize>) -> Result<BTreeMap<usize, String>> {
        let mut tokens = BTreeMap::new();
        for number in people {
            let device = Arc::clone(self.people.get(number).ok_or("nobody has that number")?);
            let token = Session::on(device).token(AUDIENCE_GATEWAY).await?.ok_or("not signed in")?;
            tokens.insert(number, token.expose().to_owned());
        }
        Ok(tokens)
    }

    /// Applies the state in which those who leave have their right, or not; gives when the change was sent.
    pub(crate) async fn apply(&self, they_may: bool) -> Result<Duration> {
        let policy = |group: &str| {
            let text = format!(
                "@id(\"{group}\")\npermit (principal in Group::\"{group}\", action, resource) \
                 when {{ context.device.grade != \"none\" }};"
            );
            json!({"name": format!("{group}.cedar"), "text": text})
        };
        let current: Value = self.admin.get("/v1/policy").await?;
        let mut files = current.get("files").and_then(Value::as_array).cloned().unwrap_or_default();
        let ours =
            |file: &Value| ["leaving.cedar", "staying.cedar"].iter().any(|name| file.get("name") == Some(&json!(name)));
        files.retain(|file| !ours(file));
        files.push(policy(STAYING));
        if they_may {
            files.push(policy(LEAVING));
        }
        let groups = ["administrators", LEAVING, STAYING].map(|name| json!({"name": name}));
        let manifest: Manifest =
            serde_json::from_value(json!({"groups": groups, "resources": self.resources, "policy": files}))?;
        let plan: Plan = self.admin.post("/v1/plan", &manifest).await?;
        let sent = vouchsafe_runtime::clock::since_boot();
        let _: Plan = self.admin.post("/v1/apply", &Apply { manifest, digest: plan.digest }).await?;
        Ok(sent)
    }
}

/// The name of a person.
pub(crate) fn person(number: usize) -> String {
    format!("person-{number}")
}

pub(crate) fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port())
}

/// Runs a command, which gets that line, to its end, which must be a good one.
pub(crate) fn finished(mut command: Command, line: &str) -> Result<()> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        writeln!(input, "{line}")?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

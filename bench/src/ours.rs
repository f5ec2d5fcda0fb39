//! vouchsafe on this machine as its administrator and one person would have it: started, resources
//! and a policy applied, a device enrolled, its owner signed in.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::{Value, json};
use url::Url;
use vouchsafe_agent::device::{Device, Former};
use vouchsafe_agent::login::Login;
use vouchsafe_agent::session::Session;
use vouchsafe_demo::admin::Admin;
use vouchsafe_demo::authenticator::Authenticator;
use vouchsafe_demo::browser::Browser;
use vouchsafe_demo::browser::dial::Direct;
use vouchsafe_model::name::DeviceName;
use vouchsafe_runtime::internal::OwnHost;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::tls::{self, Credentials, ServerTrust};
use vouchsafe_wire::api::{DeviceInvited, Invited};
use vouchsafe_wire::ticket::Ticket;
use vouchsafe_wire::token::AUDIENCE_GATEWAY;

use crate::asking::Target;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The processor of what is measured.
pub(crate) const MEASURED: &str = "0";
/// The processor of everything else.
pub(crate) const OTHERS: &str = "1";

/// A process that ends with its owner.
pub(crate) struct Process(Child);

impl Process {
    /// Starts a program on one processor.
    pub(crate) fn start(processor: &str, program: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = pinned(processor, program);
        Ok(Self(command.args(arguments).stdout(Stdio::null()).spawn()?))
    }

    /// The same; gives the first line of its output, which must be JSON.
    pub(crate) fn announced(processor: &str, program: &Path, arguments: &[&str]) -> Result<(Self, Value)> {
        let mut command = pinned(processor, program);
        command.args(arguments);
        Self::announced_by(command)
    }

    /// The same for any command.
    pub(crate) fn announced_by(mut command: Command) -> Result<(Self, Value)> {
        command.env("VOUCHSAFE_LOG", "error").stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or("no standard output")?;
        let process = Self(child);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let said = serde_json::from_str(&line).map_err(|_| format!("{command:?} did not start"))?;
        Ok((process, said))
    }

    /// Number of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap_or_default()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        for _ in 0..100 {
            if matches!(self.0.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program on one processor.
pub(crate) fn pinned(processor: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", processor]).arg(program).env("VOUCHSAFE_LOG", "error").stdin(Stdio::null());
    command
}

/// The measured binary, which lies beside this one.
pub(crate) fn program() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("vouchsafe"))
}

/// An installation with one signed-in person on one device.
pub(crate) struct Ours {
    /// Controller and gateway.
    pub(crate) process: Process,
    /// Port that is listened on.
    pub(crate) port: u16,
    /// Base domain.
    pub(crate) domain: String,
    /// State directory of the device.
    pub(crate) device_dir: PathBuf,
    /// PEM of the root that everything is vouched for by.
    pub(crate) root_pem: String,
    token: String,
    admin: Admin,
    tasks: TaskGroup,
}

impl Ours {
    /// Starts `vouchsafe up` with these arguments, and these resources for its one person.
    pub(crate) async fn start(dir: &Path, arguments: &[&str], resources: Value) -> Result<Self> {
        let state = dir.join("state");
        let named = state.display().to_string();
        let all = [&["up", "--json", "--port", "0", "--dir", named.as_str()], arguments].concat();
        let (process, ready) = Process::announced(MEASURED, &program()?, &all)?;
        let text = |name: &str| ready.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let port = u16::try_from(ready.get("port").and_then(Value::as_u64).unwrap_or_default())?;
        let root_pem = fs::read_to_string(text("root"))?;

        let tasks = TaskGroup::new();
        let admin = Admin::new(state.join("admin.sock"), tasks.clone());
        let policy = "@id(\"bench\")\n@reason(\"bench\")\npermit (principal in Group::\"bench\", action, resource) \
                      when { context.device.grade != \"none\" && context.auth.age < 36000 };";
        let current: Value = admin.get("/v1/policy").await?;
        let mut files = current.get("files").cloned().unwrap_or_else(|| json!([]));
        if let Some(files) = files.as_array_mut() {
            files.push(json!({"name": "bench.cedar", "text": policy}));
        }
        let manifest = json!({
            "groups": [{"name": "administrators"}, {"name": "bench"}],
            "resources": resources,
            "policy": files,
        });
        admin.apply(serde_json::from_value(manifest)?).await?;
        let device_dir = dir.join("device");
        let mut ours =
            Self { process, port, domain: text("domain"), device_dir, token: String::new(), root_pem, admin, tasks };
        ours.token = ours.sign_in("bench", &ours.device_dir).await?;
        Ok(ours)
    }

    /// Invites somebody new, who makes a passkey, enrols a device and signs in on it; gives her token.
    pub(crate) async fn sign_in(&self, name: &str, device_dir: &Path) -> Result<String> {
        let door = Door { admin: &self.admin, port: self.port, root_pem: &self.root_pem, tasks: &self.tasks };
        let device = door.enrol(name, &["bench"], device_dir).await?;
        let token = Session::on(device).token(AUDIENCE_GATEWAY).await?.ok_or("not signed in")?;
        Ok(token.expose().to_owned())
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// `<label>.<domain>:<port>`.
    pub(crate) fn authority(&self, label: &str) -> String {
        format!("{}.{}:{}", label, self.domain, self.port)
    }

    /// The name of the gateway.
    pub(crate) fn gateway_name(&self) -> String {
        format!("{}.{}", OwnHost::Gateway.label(), self.domain)
    }

    /// What proves the person's session.
    pub(crate) fn proxy_authorization(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// TLS that trusts the installation, and shows the certificate of the device whose state lies there.
    pub(crate) fn tls(&self, device: &Path, alpn: &[&[u8]]) -> Result<ClientConfig> {
        let trust = ServerTrust::Roots(tls::roots(&self.root_pem, "bench")?);
        let read = |name: &str| fs::read_to_string(device.join("device").join(name));
        let (chain, key) = (read("device.pem")?, read("device.key")?);
        let identity = Credentials { chain_pem: &chain, key_pem: &key };
        Ok(tls::client(trust, Some(&identity), alpn)?)
    }

    /// A request for a path of an app, whose answer has a body of that length.
    pub(crate) fn get(&self, app: &str, path: &str, body_bytes: usize) -> Result<Target> {
        self.get_as(&self.device_dir, &self.token, app, path, body_bytes)
    }

    /// The same as somebody else.
    pub(crate) fn get_as(
        &self,
        device: &Path,
        token: &str,
        app: &str,
        path: &str,
        body_bytes: usize,
    ) -> Result<Target> {
        let host = self.authority(app);
        let request =
            format!("GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Bearer {token}\r\n\r\n");
        Ok(Target {
            address: self.address(),
            server_name: self.gateway_name(),
            tls: Arc::new(self.tls(device, &[b"http/1.1"])?),
            request: request.into_bytes().into(),
            body_bytes,
        })
    }
}

/// Where somebody new comes in: at a port of this machine's loopback.
pub(crate) struct Door<'i> {
    pub(crate) admin: &'i Admin,
    pub(crate) port: u16,
    pub(crate) root_pem: &'i str,
    pub(crate) tasks: &'i TaskGroup,
}

impl Door<'_> {
    /// Invites somebody, who makes a passkey, enrols a device and signs in on it; gives the device.
    pub(crate) async fn enrol(&self, name: &str, groups: &[&str], device_dir: &Path) -> Result<Arc<Device>> {
        let invited: Invited = self.admin.post("/v1/users", &json!({"name": name, "groups": groups})).await?;
        let mut authenticator = Authenticator::new();
        let browser = Browser::new(Arc::new(Direct::loopback(self.port)), self.root_pem, self.tasks.clone())?;
        browser.accept_invite(&invited.link, &mut authenticator, name).await?;
        let ticket: DeviceInvited = self.admin.post("/v1/devices/invites", &json!({"owner": name})).await?;
        let ticket = Ticket::parse(&ticket.ticket)?;
        let device = Arc::new(Device::enrol(device_dir, &ticket, &DeviceName::parse(name)?, Former::Keep).await?);
        let login = Login::start(Arc::clone(&device)).await?;
        browser.approve_device(&Url::parse(login.link())?).await?;
        login.finish().await?;
        Ok(device)
    }
}

/// The address that a process of ours announced.
pub(crate) fn listening(said: &Value) -> Result<SocketAddr> {
    Ok(said.get("listening").and_then(Value::as_str).ok_or("no address")?.parse()?)
}

//! HTTP/1.1 through nginx that terminates mTLS (and authorises nothing), and through vouchsafe:
//! device certificate and bound token proven, decided, recorded, assertion signed.

use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
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

use crate::cpu;
use crate::load::{self, Target};
use crate::statistics::{micros, percentile};

const BODY_BYTES: usize = 1_024;
const CONNECTIONS: usize = 32;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(3);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A process that ends with its owner.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM first: nginx passes it to its workers.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        std::thread::park_timeout(Duration::from_millis(300));
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Somebody to measure.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) pid: u32,
    pub(crate) target: Target,
    cpu_micros: Vec<f64>,
    per_second: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

pub(crate) async fn run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (upstream, _upstream_server) = nginx_upstream(dir.path())?;
    let (nginx, _nginx_server) = nginx_mtls(dir.path(), upstream)?;
    let (vouchsafe, _vouchsafe_server) = vouchsafe(dir.path(), upstream).await?;
    let mut contenders = [nginx, vouchsafe];
    println!(
        "HTTP/1.1 keep-alive over mTLS, {BODY_BYTES} B answers, {CONNECTIONS} connections, {ROUNDS} rounds of {ROUND:?} in turn"
    );
    for _ in 0..ROUNDS {
        for contender in &mut contenders {
            measure(contender).await?;
        }
    }
    println!("{:>28} {:>10} {:>9} {:>9} {:>16}", "", "req/s", "p50 µs", "p99 µs", "CPU µs/request");
    for contender in &mut contenders {
        println!(
            "{:>28} {:>10.0} {:>9.0} {:>9.0} {:>16.1}",
            contender.name,
            median(&mut contender.per_second),
            median(&mut contender.p50),
            median(&mut contender.p99),
            median(&mut contender.cpu_micros.clone()),
        );
    }
    let [nginx, vouchsafe] = &contenders;
    let mut ratios: Vec<f64> =
        vouchsafe.cpu_micros.iter().zip(&nginx.cpu_micros).map(|(ours, theirs)| ours / theirs).collect();
    ratios.sort_by(f64::total_cmp);
    let (least, most) = (ratios.first().copied().unwrap_or_default(), ratios.last().copied().unwrap_or_default());
    println!("CPU per request, vouchsafe ÷ nginx: median {:.2}, least {least:.2}, most {most:.2}", median(&mut ratios));
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

async fn measure(contender: &mut Contender) -> Result<()> {
    let before = cpu::of(contender.pid);
    let mut outcome = load::run(&contender.target, CONNECTIONS, ROUND).await.map_err(|error| error.to_string())?;
    let spent = cpu::of(contender.pid) - before;
    contender.cpu_micros.push(micros(spent) / outcome.requests as f64);
    contender.per_second.push(outcome.requests as f64 / outcome.elapsed.as_secs_f64());
    contender.p50.push(micros(percentile(&mut outcome.latencies, 50)));
    contender.p99.push(micros(percentile(&mut outcome.latencies, 99)));
    Ok(())
}

fn contender(name: &'static str, server: &Server, target: Target) -> Contender {
    Contender { name, pid: server.0.id(), target, cpu_micros: vec![], per_second: vec![], p50: vec![], p99: vec![] }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Starts a program on one processor: the proxies on the first, everything else on the second.
fn pinned(processor: &str, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", processor, program]).stdin(Stdio::null());
    command
}

fn nginx(dir: &Path, name: &str, processor: &str, server: &str) -> Result<Server> {
    let config = dir.join(format!("{name}.conf"));
    let text = format!(
        "daemon off; worker_processes 1; pid {0}/{name}.pid; error_log {0}/{name}.log;\n\
         worker_rlimit_nofile 100000; events {{ worker_connections 60000; }}\nhttp {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 900s;\n\
         client_body_temp_path {0}/{name}-b; proxy_temp_path {0}/{name}-p; fastcgi_temp_path {0}/{name}-f;\n\
         uwsgi_temp_path {0}/{name}-u; scgi_temp_path {0}/{name}-s;\n{server}\n}}\n",
        dir.display()
    );
    fs::write(&config, text)?;
    let child = pinned(processor, "nginx").arg("-c").arg(&config).arg("-p").arg(dir).stderr(Stdio::null()).spawn()?;
    Ok(Server(child))
}

fn wait_for(address: SocketAddr) -> Result<()> {
    for _ in 0..100 {
        if std::net::TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    Err(format!("nothing answers on {address}; is nginx installed?").into())
}

pub(crate) fn nginx_upstream(dir: &Path) -> Result<(SocketAddr, Server)> {
    let address = free_address()?;
    let body = "x".repeat(BODY_BYTES);
    let server = nginx(
        dir,
        "upstream",
        "1",
        &format!("server {{ listen {address}; location / {{ return 200 \"{body}\"; }} }}"),
    )?;
    wait_for(address)?;
    Ok((address, server))
}

pub(crate) fn nginx_mtls(dir: &Path, upstream: SocketAddr) -> Result<(Contender, Server)> {
    let address = free_address()?;
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    // Names of their own: OpenSSL takes a leaf that is called like its issuer for self-signed.
    ca.distinguished_name.push(DnType::CommonName, "bench authority");
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);
    let leaf = |purpose| -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["bench.test".to_owned()])?;
        params.extended_key_usages = vec![purpose];
        params.distinguished_name.push(DnType::CommonName, "bench end");
        Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
    };
    let (server_pem, server_key) = leaf(ExtendedKeyUsagePurpose::ServerAuth)?;
    let (client_pem, client_key) = leaf(ExtendedKeyUsagePurpose::ClientAuth)?;
    for (name, text) in [("ca.pem", &ca_pem), ("server.pem", &server_pem), ("server.key", &server_key)] {
        fs::write(dir.join(name), text)?;
    }
    let config = format!(
        "upstream up {{ server {upstream}; keepalive 64; }}\nserver {{ listen {address} ssl; ssl_protocols TLSv1.3;\n\
         ssl_certificate {0}/server.pem; ssl_certificate_key {0}/server.key; ssl_client_certificate {0}/ca.pem; ssl_verify_client on;\n\
         location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}",
        dir.display()
    );
    let server = nginx(dir, "mtls", "0", &config)?;
    wait_for(address)?;
    let trust = ServerTrust::Roots(tls::roots(&ca_pem, "bench")?);
    let identity = Credentials { chain_pem: &client_pem, key_pem: &client_key };
    let target = Target {
        address,
        server_name: "bench.test".into(),
        tls: Arc::new(tls::client(trust, Some(&identity), &[b"http/1.1"])?),
        request: b"GET /api/figures HTTP/1.1\r\nHost: bench.test\r\n\r\n".to_vec(),
        body_bytes: BODY_BYTES,
    };
    Ok((contender("nginx mTLS, no authorisation", &server, target), server))
}

pub(crate) async fn vouchsafe(dir: &Path, upstream: SocketAddr) -> Result<(Contender, Server)> {
    let program = std::env::current_exe()?.with_file_name("vouchsafe");
    let state = dir.join("state");
    let mut command = pinned("0", &program.display().to_string());
    command
        .args(["up", "--json", "--port", "0", "--max-connections-per-source", "60000", "--dir"])
        .arg(&state)
        .stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let output = child.stdout.take().ok_or("no standard output")?;
    let server = Server(child);
    let mut lines = BufReader::new(tokio::process::ChildStdout::from_std(output)?).lines();
    let ready: Value = serde_json::from_str(&lines.next_line().await?.ok_or("vouchsafe did not start")?)?;
    let text = |name: &str| ready.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let port = u16::try_from(ready.get("port").and_then(Value::as_u64).unwrap_or_default())?;
    let domain = text("domain");
    let root_pem = fs::read_to_string(text("root"))?;

    let tasks = TaskGroup::new();
    let admin = Admin::new(state.join("admin.sock"), tasks.clone());
    let policy = "@id(\"bench\")\n@reason(\"bench\")\npermit (principal in Group::\"bench\", action, resource == Http::\"app\") \
                  when { context.device.grade != \"none\" && context.auth.age < 36000 };";
    let current: Value = admin.get("/v1/policy").await?;
    let mut files = current.get("files").cloned().unwrap_or_else(|| json!([]));
    if let Some(files) = files.as_array_mut() {
        files.push(json!({"name": "bench.cedar", "text": policy}));
    }
    let manifest = json!({
        "groups": [{"name": "administrators"}, {"name": "bench"}],
        "resources": [{"name": "app", "kind": "http", "upstream": format!("http://{upstream}")}],
        "policy": files,
    });
    admin.apply(serde_json::from_value(manifest)?).await?;
    let invited: Invited = admin.post("/v1/users", &json!({"name": "bench", "groups": ["bench"]})).await?;
    let mut authenticator = Authenticator::new();
    let browser = Browser::new(Arc::new(Direct::loopback(port)), &root_pem, tasks.clone())?;
    browser.accept_invite(&invited.link, &mut authenticator, "bench").await?;
    let ticket: DeviceInvited = admin.post("/v1/devices/invites", &json!({"owner": "bench"})).await?;
    let device_dir = dir.join("device");
    let ticket = Ticket::parse(&ticket.ticket)?;
    let device = Arc::new(Device::enrol(&device_dir, &ticket, &DeviceName::parse("bench")?, Former::Keep).await?);
    let login = Login::start(Arc::clone(&device)).await?;
    browser.approve_device(&Url::parse(login.link())?).await?;
    login.finish().await?;
    let token = Session::on(Arc::clone(&device)).token(AUDIENCE_GATEWAY).await?.ok_or("not signed in")?;

    let read = |name: &str| fs::read_to_string(device_dir.join("device").join(name));
    let (chain, key) = (read("device.pem")?, read("device.key")?);
    let trust = ServerTrust::Roots(tls::roots(&root_pem, "bench")?);
    let identity = Credentials { chain_pem: &chain, key_pem: &key };
    let host = format!("app.{domain}:{port}");
    let target = Target {
        address: (Ipv4Addr::LOCALHOST, port).into(),
        server_name: format!("{}.{domain}", OwnHost::Gateway.label()),
        tls: Arc::new(tls::client(trust, Some(&identity), &[b"http/1.1"])?),
        request: format!(
            "GET http://{host}/api/figures HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Bearer {}\r\n\r\n",
            token.expose()
        )
        .into_bytes(),
        body_bytes: BODY_BYTES,
    };
    Ok((contender("vouchsafe, every request", &server, target), server))
}

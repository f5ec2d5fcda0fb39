//! Whom we measure: nginx and haproxy with mutual TLS, nginx that asks an authorization server about
//! each request, and vouchsafe. All have the same upstream, which answers only if it is told who asks.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
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
use vouchsafe_wire::api::{DeviceInvited, Invited, Manifest};
use vouchsafe_wire::ticket::Ticket;
use vouchsafe_wire::token::AUDIENCE_GATEWAY;

use crate::load::{Target, Transport};

pub(crate) const BODY_BYTES: usize = 1_024;
/// Where the proxies run.
const MEASURED: &str = "0";
/// Where everything else runs.
const OTHERS: &str = "1";
/// Where the upstream shows the identity that it was told.
pub(crate) const WHO: &str = "/who";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A process that ends with its owner.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM first: nginx passes it to its workers.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
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

/// Somebody to measure.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) pid: u32,
    /// Other processes without which it would not answer.
    pub(crate) helpers: Vec<u32>,
    pub(crate) transport: Transport,
    /// What is asked in HTTP/1.1.
    pub(crate) target: Target,
    /// What is asked in HTTP/2.
    pub(crate) request: Request<()>,
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn pinned(processor: &str, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", processor, program]).stdin(Stdio::null());
    command
}

fn nginx(dir: &Path, name: &str, processor: &str, server: &str) -> Result<Server> {
    let config = dir.join(format!("{name}.conf"));
    let text = format!(
        "daemon off; worker_processes 1; pid {0}/{name}.pid; error_log {0}/{name}.log;\n\
         worker_rlimit_nofile 100000; events {{ worker_connections 60000; }}\nhttp {{ access_log off; tcp_nodelay on;\n\
         keepalive_requests 1000000000; keepalive_timeout 900s;\n\
         client_body_temp_path {0}/{name}-b; proxy_temp_path {0}/{name}-p; fastcgi_temp_path {0}/{name}-f;\n\
         uwsgi_temp_path {0}/{name}-u; scgi_temp_path {0}/{name}-s;\n{server}\n}}\n",
        dir.display()
    );
    fs::write(&config, text)?;
    let child = pinned(processor, "nginx").arg("-c").arg(&config).arg("-p").arg(dir).stderr(Stdio::null()).spawn()?;
    Ok(Server(child))
}

fn wait_for(address: SocketAddr, what: &str) -> Result<()> {
    for _ in 0..100 {
        if std::net::TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    Err(format!("nothing answers on {address}; is {what} installed?").into())
}

/// The upstream: answers 1 KiB to whoever tells it who asks, and 403 to everybody else.
pub(crate) fn nginx_upstream(dir: &Path) -> Result<(SocketAddr, Server)> {
    let address = free_address()?;
    let body = "x".repeat(BODY_BYTES);
    let text = format!(
        "map $http_x_vouchsafe_assertion$http_x_forwarded_user $known {{ default 0; \"~^eyJ\" 1; CN=bench 1; }}\n\
         server {{ listen {address}; default_type text/plain;\n\
         location / {{ if ($known = 0) {{ return 403 \"nobody\"; }} return 200 \"{body}\"; }}\n\
         location = {WHO} {{ return 200 \"$http_x_vouchsafe_assertion\"; }} }}"
    );
    let server = nginx(dir, "upstream", OTHERS, &text)?;
    wait_for(address, "nginx")?;
    Ok((address, server))
}

/// The upstream without anybody in front.
pub(crate) fn direct(dir: &Path, upstream: SocketAddr, server: &Server) -> Result<Contender> {
    let request = b"GET /api/figures HTTP/1.1\r\nHost: bench.test\r\nX-Forwarded-User: CN=bench\r\n\r\n".to_vec();
    let target = Target { request, ..Pki::of(dir)?.target(upstream)? };
    Ok(Contender {
        name: "the upstream itself",
        pid: server.0.id(),
        helpers: Vec::new(),
        transport: Transport::Plain,
        target,
        request: Request::new(()),
    })
}

/// Certificates for the contenders that have none of their own, as files.
struct Pki {
    ca_pem: String,
    client_pem: String,
    client_key: String,
}

impl Pki {
    /// Those of that directory, made when they are asked for first.
    fn of(dir: &Path) -> Result<Self> {
        let read = |name: &str| fs::read_to_string(dir.join(name));
        if read("ca.pem").is_err() {
            Self::make(dir)?;
        }
        Ok(Self { ca_pem: read("ca.pem")?, client_pem: read("client.pem")?, client_key: read("client.key")? })
    }

    fn make(dir: &Path) -> Result<()> {
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        // Names of their own: OpenSSL takes a leaf that is called like its issuer for self-signed.
        ca.distinguished_name = named("bench authority");
        let ca_pem = ca.self_signed(&ca_key)?.pem();
        let issuer = Issuer::new(ca, ca_key);
        let leaf = |purpose| -> Result<(String, String)> {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(vec!["bench.test".to_owned()])?;
            params.extended_key_usages = vec![purpose];
            params.distinguished_name = named("bench");
            Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
        };
        let (server_pem, server_key) = leaf(ExtendedKeyUsagePurpose::ServerAuth)?;
        let (client_pem, client_key) = leaf(ExtendedKeyUsagePurpose::ClientAuth)?;
        let files = [
            ("ca.pem", &ca_pem),
            ("client.pem", &client_pem),
            ("client.key", &client_key),
            ("server.pem", &server_pem),
            ("server.key", &server_key),
            ("server-and-key.pem", &format!("{server_pem}{server_key}")),
        ];
        files.iter().try_for_each(|(name, text)| fs::write(dir.join(name), text))?;
        Ok(())
    }

    fn target(&self, address: SocketAddr) -> Result<Target> {
        let trust = ServerTrust::Roots(tls::roots(&self.ca_pem, "bench")?);
        let identity = Credentials { chain_pem: &self.client_pem, key_pem: &self.client_key };
        Ok(Target {
            address,
            server_name: "bench.test".into(),
            tls: Arc::new(tls::client(trust, Some(&identity), &[b"http/1.1"])?),
            request: b"GET /api/figures HTTP/1.1\r\nHost: bench.test\r\n\r\n".to_vec(),
            body_bytes: BODY_BYTES,
        })
    }
}

fn named(name: &str) -> rcgen::DistinguishedName {
    let mut names = rcgen::DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// A proxy that terminates mutual TLS with certificates of [`Pki`].
fn terminator(name: &'static str, dir: &Path, address: SocketAddr, server: &Server) -> Result<Contender> {
    let target = Pki::of(dir)?.target(address)?;
    let request = Request::get("https://bench.test/api/figures").body(())?;
    Ok(Contender { name, pid: server.0.id(), helpers: Vec::new(), transport: Transport::Tls, target, request })
}

/// How nginx terminates mutual TLS and proxies; `more` stands in its location, `beside` next to it.
fn nginx_config(dir: &Path, address: SocketAddr, upstream: SocketAddr, more: &str, beside: &str) -> String {
    format!(
        "upstream app {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}\n{beside}\n\
         server {{ listen {address} ssl http2 backlog=4096; ssl_protocols TLSv1.3;\n\
         ssl_certificate {0}/server.pem; ssl_certificate_key {0}/server.key;\n\
         ssl_client_certificate {0}/ca.pem; ssl_verify_client on;\n\
         location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_set_header X-Forwarded-User $ssl_client_s_dn; }}\n{more} }}",
        dir.display()
    )
}

pub(crate) fn nginx_mtls(dir: &Path, upstream: SocketAddr) -> Result<(Contender, Server)> {
    Pki::of(dir)?;
    let address = free_address()?;
    let server = nginx(dir, "mtls", MEASURED, &nginx_config(dir, address, upstream, "", ""))?;
    wait_for(address, "nginx")?;
    Ok((terminator("nginx mTLS, no authorization", dir, address, &server)?, server))
}

/// nginx that asks a server which always says yes.
pub(crate) fn nginx_auth_request(dir: &Path, upstream: SocketAddr) -> Result<(Contender, [Server; 2])> {
    Pki::of(dir)?;
    let (address, authority) = (free_address()?, free_address()?);
    let authorizer =
        nginx(dir, "authorizer", OTHERS, &format!("server {{ listen {authority}; location / {{ return 204; }} }}"))?;
    let beside = format!("upstream auth {{ server {authority}; keepalive 256; keepalive_requests 1000000000; }}");
    let more = "auth_request /auth;\nlocation = /auth { internal; proxy_pass http://auth/; proxy_http_version 1.1;\n\
                proxy_set_header Connection \"\"; proxy_pass_request_body off; proxy_set_header Content-Length \"\"; }";
    let server = nginx(dir, "auth", MEASURED, &nginx_config(dir, address, upstream, more, &beside))?;
    wait_for(authority, "nginx")?;
    wait_for(address, "nginx")?;
    let mut contender = terminator("nginx mTLS + auth_request", dir, address, &server)?;
    contender.helpers.push(authorizer.0.id());
    Ok((contender, [server, authorizer]))
}

pub(crate) fn haproxy(dir: &Path, upstream: SocketAddr) -> Result<(Contender, Server)> {
    Pki::of(dir)?;
    let address = free_address()?;
    let config = dir.join("haproxy.cfg");
    let text = format!(
        "global\n  nbthread 1\n  maxconn 4000\n  ssl-default-bind-options ssl-min-ver TLSv1.3\ndefaults\n  mode http\n  \
         timeout client 900s\n  timeout server 900s\n  timeout connect 5s\n  timeout http-keep-alive 900s\n  \
         http-reuse always\nfrontend mtls\n  bind {address} ssl crt {0}/server-and-key.pem ca-file {0}/ca.pem verify \
         required alpn h2,http/1.1\n  http-request set-header X-Forwarded-User CN=%[ssl_c_s_dn(cn)]\n  \
         default_backend app\nbackend app\n  server one {upstream} maxconn 4000 pool-max-conn 512\n",
        dir.display()
    );
    fs::write(&config, text)?;
    let child = pinned(MEASURED, "haproxy").arg("-db").arg("-f").arg(&config).stderr(Stdio::null()).spawn()?;
    let server = Server(child);
    wait_for(address, "haproxy")?;
    Ok((terminator("haproxy mTLS, no authorization", dir, address, &server)?, server))
}

/// Apps, and policies about each.
const APPS: usize = 1_000;
const POLICIES_PER_APP: usize = 10;
/// All policies together.
pub(crate) const POLICIES: usize = APPS * POLICIES_PER_APP;
const GROUPS: usize = 500;
/// Groups of the one person.
const MEMBERSHIPS: usize = 20;
/// The app that she asks for.
const APP: &str = "app-0";

/// vouchsafe, set up by its own means: one person with a passkey, signed in on an enrolled device, and
/// ten thousand policies about a thousand apps.
pub(crate) struct Company {
    pub(crate) contender: Contender,
    pub(crate) port: u16,
    pub(crate) domain: String,
    pub(crate) publisher: Publisher,
    browser: Browser,
    authenticator: Authenticator,
    /// Ends with it.
    _server: Server,
}

/// Publishes policies.
pub(crate) struct Publisher {
    admin: Admin,
    manifest: Value,
}

impl Company {
    /// Sets everything up.
    pub(crate) async fn found(dir: &Path, upstream: SocketAddr) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("vouchsafe");
        let state = dir.join("state");
        let mut command = pinned(MEASURED, &program.display().to_string());
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
        let current: Value = admin.get("/v1/policy").await?;
        let files = current.get("files").cloned().unwrap_or_else(|| json!([]));
        let manifest = manifest(upstream, files);
        admin.apply(serde_json::from_value(manifest.clone())?).await?;
        let groups: Vec<String> = (0..MEMBERSHIPS).map(group).collect();
        let invited: Invited = admin.post("/v1/users", &json!({"name": "bench", "groups": groups})).await?;
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
        let host = format!("{APP}.{domain}:{port}");
        let bearer = format!("Bearer {}", token.expose());
        let request = |path: &str| {
            format!("GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: {bearer}\r\n\r\n")
        };
        let target = Target {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            server_name: format!("{}.{domain}", OwnHost::Gateway.label()),
            tls: Arc::new(tls::client(trust, Some(&identity), &[b"http/1.1"])?),
            request: request("/api/figures").into_bytes(),
            body_bytes: BODY_BYTES,
        };
        let contender = Contender {
            name: "vouchsafe, every request",
            pid: server.0.id(),
            helpers: Vec::new(),
            transport: Transport::Tls,
            target,
            request: Request::get(format!("https://{host}/api/figures"))
                .header(http::header::PROXY_AUTHORIZATION, bearer)
                .body(())?,
        };
        let publisher = Publisher { admin, manifest };
        Ok(Self { contender, port, domain, publisher, browser, authenticator, _server: server })
    }

    /// The cookie of the person's browser at the app, which has no device.
    pub(crate) async fn cookie(&self) -> Result<String> {
        let host = format!("{APP}.{}", self.domain);
        let page = self.browser.open(&self.url()?, &self.authenticator).await?;
        let cookies = self.browser.cookies_of(&host);
        let own = cookies.iter().find(|(name, _)| name == "__Host-vouchsafe");
        let (name, value) = own.ok_or_else(|| format!("no session at the app: {}", page.status))?;
        Ok(format!("{name}={value}"))
    }

    /// The app's address.
    pub(crate) fn url(&self) -> Result<Url> {
        Ok(Url::parse(&format!("https://{APP}.{}:{}/api/figures", self.domain, self.port))?)
    }
}

impl Publisher {
    /// Publishes all policies anew, one of them changed: the first about the app that is asked for.
    /// Numbers go up from 1.
    pub(crate) async fn change_one_policy(&mut self, number: usize) -> Result<()> {
        let age = |number| format!("context.auth.age < {}", AGE + number);
        let changed = serde_json::to_string(&self.manifest)?.replacen(&age(number - 1), &age(number), 1);
        self.manifest = serde_json::from_str(&changed)?;
        let manifest: Manifest = serde_json::from_str(&changed)?;
        self.admin.apply(manifest).await?;
        Ok(())
    }
}

/// Seconds since the sign-in for which nearly all policies permit.
const AGE: usize = 36_000;

fn group(number: usize) -> String {
    format!("g{number}")
}

/// A thousand apps with ten policies each, in files of a size that people can read.
fn manifest(upstream: SocketAddr, mut files: Value) -> Value {
    let groups = std::iter::once("administrators".to_owned()).chain((0..GROUPS).map(group));
    let groups: Vec<Value> = groups.map(|name| json!({ "name": name })).collect();
    let apps = (0..APPS)
        .map(|app| json!({"name": format!("app-{app}"), "kind": "http", "upstream": format!("http://{upstream}")}));
    let mut texts: Vec<String> = Vec::new();
    for app in 0..APPS {
        if app % 100 == 0 {
            texts.push(String::new());
        }
        let Some(text) = texts.last_mut() else { continue };
        for policy in 0..POLICIES_PER_APP {
            // Two of ten are about the person's groups.
            let group = if policy < 2 { policy } else { 20 + (app * 7 + policy * 13) % (GROUPS - 20) };
            // One lets her in without a device too: the tools that know no client certificates come that way.
            let device = if app == 0 && policy == 1 { "@device(\"none\") " } else { "" };
            let condition = match policy {
                1 => "context.auth.age < 90000".to_owned(),
                _ => format!("context.device.grade != \"none\" && context.auth.age < {AGE}"),
            };
            let _ = writeln!(
                text,
                "@id(\"a{app}-{policy}\") {device}permit (principal in Group::\"g{group}\", action, resource == \
                 Http::\"app-{app}\") when {{ {condition} }};"
            );
        }
    }
    if let Some(files) = files.as_array_mut() {
        let named = texts.into_iter().enumerate();
        files.extend(named.map(|(number, text)| json!({"name": format!("apps-{number}.cedar"), "text": text})));
    }
    json!({"groups": groups, "resources": apps.collect::<Vec<_>>(), "policy": files})
}

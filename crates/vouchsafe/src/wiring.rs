//! Controller and gateway in one process: the only place where the two roles meet.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use vouchsafe_control::{AcmeOptions, Controller, OpenError, OpenOptions, Witnesses};
use vouchsafe_gateway::{ConnectionLimits, Gateway, GatewayError, Http3, Options, Proxy};
use vouchsafe_model::name::BaseDomain;
use vouchsafe_runtime::limits::DRAIN_TIMEOUT;
use vouchsafe_runtime::spans::Collector;
use vouchsafe_runtime::task::{Drained, TaskGroup};
use vouchsafe_runtime::tls::sha256;
use vouchsafe_wire::ticket::hex;

use crate::apart::{Apart, AtHome};
use crate::certificate_files::CertificateFiles;

/// What one process of controller and gateway is started with.
pub(crate) struct UpOptions {
    /// State directory.
    pub(crate) dir: PathBuf,
    /// Base domain.
    pub(crate) domain: BaseDomain,
    /// Port; 0 takes one that is free.
    pub(crate) port: u16,
    /// Addresses to listen on; none takes the usual ones ([`usual_addresses`]).
    pub(crate) listen: Vec<IpAddr>,
    /// The operator's certificate for browsers: PEM chain and key.
    pub(crate) browser_certificate: Option<(PathBuf, PathBuf)>,
    /// Whether HTTP/3 is served.
    pub(crate) http3: Http3,
    /// Public authority for browsers, with the file of its own root.
    pub(crate) acme: Option<(AcmeOptions, Option<PathBuf>)>,
    /// Port for the authority's questions over HTTP.
    pub(crate) acme_http_port: Option<u16>,
    /// How many connections are held.
    pub(crate) connections: ConnectionLimits,
    /// Where spans of requests go.
    pub(crate) spans: Option<Collector>,
    /// Existing proxies that may ask.
    pub(crate) proxies: Vec<Proxy>,
    /// One more file for checkpoints of the audit log.
    pub(crate) checkpoint_copy: Option<PathBuf>,
    /// Days after which audit records are removed, if they are.
    pub(crate) keep_days: Option<u32>,
    /// Who is asked to cosign them.
    pub(crate) witnesses: Witnesses,
}

/// Failure to start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpError {
    /// The controller can't be opened.
    #[error(transparent)]
    Controller(#[from] OpenError),
    /// The gateway can't be started.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// A file can't be read or written.
    #[error("`{path}` can't be used", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The system has no threads for the gateway.
    #[error("no threads can be started for the gateway")]
    Threads(#[source] io::Error),
    /// A mistake of ours ended the start.
    #[error("the gateway could not be started; please report it")]
    Panicked,
    /// No port is free.
    #[error("no free port was found")]
    Port(#[source] io::Error),
}

/// Controller and gateway, running.
pub(crate) struct Running {
    /// The controller.
    pub(crate) controller: Controller,
    /// Base domain.
    pub(crate) domain: BaseDomain,
    /// Port under which clients reach us.
    pub(crate) port: u16,
    /// Addresses that are listened on.
    pub(crate) addresses: Vec<SocketAddr>,
    /// File with the root certificate.
    pub(crate) root_file: PathBuf,
    /// SHA-256 of the root certificate.
    pub(crate) root_sha256: String,
    reload: Arc<Notify>,
    gateway: Gateway,
    tasks: TaskGroup,
    /// The gateway's threads.
    _apart: Apart,
}

impl Running {
    /// Starts both in `tasks`; they serve when this returns.
    ///
    /// # Errors
    /// [`UpError`]; nothing keeps running then.
    pub(crate) async fn start(options: UpOptions, tasks: TaskGroup) -> Result<Self, UpError> {
        let connections = ConnectionLimits { all: affordable(options.connections.all), ..options.connections };
        let options = UpOptions { connections, ..options };
        match Self::start_in(options, tasks.clone()).await {
            Ok(running) => Ok(running),
            Err(error) => {
                tasks.shut_down(std::time::Duration::ZERO).await;
                Err(error)
            }
        }
    }

    async fn start_in(options: UpOptions, tasks: TaskGroup) -> Result<Self, UpError> {
        let UpOptions {
            dir,
            domain,
            port,
            listen,
            browser_certificate,
            connections,
            http3,
            acme,
            acme_http_port,
            spans,
            proxies,
            checkpoint_copy,
            keep_days,
            witnesses,
        } = options;
        let files = browser_certificate.map(|(chain, key)| CertificateFiles::new(chain, key));
        let given = files.as_ref().map(CertificateFiles::read).transpose()?;
        let listen = if listen.is_empty() { usual_addresses(&domain) } else { listen };
        let port = if port == 0 { free_port(&listen).map_err(UpError::Port)? } else { port };
        let acme = acme.map(with_roots).transpose()?;
        let open =
            OpenOptions { dir: dir.clone(), domain: domain.clone(), port, acme, checkpoint_copy, keep_days, witnesses };
        let mut controller = Controller::open(open, tasks.clone()).await?;
        let (root_file, root_sha256) = publish_root(&dir, controller.root_pem())?;
        let gateway = Options {
            acme_http: acme_http_port
                .iter()
                .flat_map(|port| listen.iter().map(|ip| SocketAddr::new(*ip, *port)))
                .collect(),
            listen: listen.into_iter().map(|ip| SocketAddr::new(ip, port)).collect(),
            public_port: None,
            spool: dir.join("gateway").join("spool"),
            browser_certificate: given,
            http3,
            connections,
            spans,
            proxies,
        };
        let apart = Apart::start().map_err(UpError::Threads)?;
        let (identity, link) = (controller.gateway_identity(), controller.link());
        let service = Arc::new(AtHome { service: controller.service(), home: Handle::current(), tasks: tasks.clone() });
        let group = tasks.clone();
        let starting = async move { Gateway::start(gateway, identity, link, service, &group).await };
        let gateway = apart.run(starting).await.ok_or(UpError::Panicked)??;
        let reload = Arc::new(Notify::new());
        if let Some(files) = files {
            let slot = gateway.browser_certificate();
            let following = files.follow(move |given| slot.replace(given), Arc::clone(&reload), tasks.clone());
            tasks.spawn_vital("certificate files", following);
        }
        controller.serve_admin().await?;
        controller.order_certificates();
        Ok(Self {
            root_sha256,
            addresses: gateway.addresses().to_vec(),
            controller,
            domain,
            port,
            root_file,
            reload,
            gateway,
            tasks,
            _apart: apart,
        })
    }

    /// `https://<label>.<domain>[:port]`.
    #[must_use]
    pub(crate) fn origin(&self, label: &str) -> String {
        origin(&self.domain, self.port, label)
    }

    /// Reads the operator's certificate again, now.
    pub(crate) fn reload(&self) {
        self.reload.notify_one();
    }

    /// The gateway.
    #[must_use]
    pub(crate) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The tasks of both roles.
    #[must_use]
    pub(crate) fn tasks(&self) -> &TaskGroup {
        &self.tasks
    }

    /// Stops accepting, lets open work finish, then cuts what is left; and waits until the records
    /// of all that are on disk.
    pub(crate) async fn shut_down(self) -> Drained {
        let drained = self.tasks.shut_down(DRAIN_TIMEOUT).await;
        self.gateway.finish().await;
        drained
    }
}

/// Where a new installation listens when nobody says: on loopback while its names only exist
/// there, otherwise everywhere. A gateway is made to face every network; nothing is granted for
/// where a request comes from.
#[must_use]
pub(crate) fn usual_addresses(domain: &BaseDomain) -> Vec<IpAddr> {
    let local = domain.as_str().ends_with(".localhost");
    let pair: [IpAddr; 2] = match local {
        true => [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        false => [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    };
    // A machine without IPv6 has no such address; one with both takes `::` for both families.
    let usable = |ip: &IpAddr| TcpListener::bind(SocketAddr::new(*ip, 0)).is_ok();
    let mut usable: Vec<IpAddr> = pair.into_iter().filter(usable).collect();
    if !local && usable.len() == 2 {
        usable.remove(0);
    }
    usable
}

/// A port that is free on all of these addresses at this moment, for TCP and UDP.
pub(crate) fn free_port(addresses: &[IpAddr]) -> io::Result<u16> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for _ in 0..50 {
        let Some(first) = addresses.first() else { break };
        let probe = TcpListener::bind(SocketAddr::new(*first, 0))?;
        let port = probe.local_addr()?.port();
        let others = addresses.iter().skip(1).map(|ip| TcpListener::bind(SocketAddr::new(*ip, port)).map(drop));
        let datagrams = addresses.iter().map(|ip| UdpSocket::bind(SocketAddr::new(*ip, port)).map(drop));
        match others.chain(datagrams).collect::<Result<(), _>>() {
            Ok(()) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn with_roots((mut options, file): (AcmeOptions, Option<PathBuf>)) -> Result<AcmeOptions, UpError> {
    if let Some(path) = file {
        let read = std::fs::read_to_string(&path);
        options.roots_pem = Some(read.map_err(|source| UpError::File { path, source })?);
    }
    Ok(options)
}

/// `https://<label>.<domain>[:port]`.
#[must_use]
pub(crate) fn origin(domain: &BaseDomain, port: u16, label: &str) -> String {
    match port {
        443 => format!("https://{}", domain.host(label)),
        port => format!("https://{}:{port}", domain.host(label)),
    }
}

/// The file of a directory that keeps a copy of the newest checkpoint.
pub(crate) fn copy_in(dir: PathBuf) -> PathBuf {
    dir.join("audit.checkpoint")
}

/// Writes the root certificate where people find it; gives the file and the certificate's SHA-256.
///
/// # Errors
/// [`UpError::File`].
pub(crate) fn publish_root(dir: &Path, root_pem: &str) -> Result<(PathBuf, String), UpError> {
    let path = dir.join("root.pem");
    match write_public(&path, root_pem) {
        Ok(()) => Ok((path, fingerprint(root_pem))),
        Err(source) => Err(UpError::File { path, source }),
    }
}

fn write_public(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
    file.write_all(text.as_bytes())
}

fn fingerprint(pem: &str) -> String {
    let certificates = vouchsafe_runtime::tls::certificates(pem, "root").unwrap_or_default();
    certificates.first().map(|certificate| hex(&sha256(certificate))).unwrap_or_default()
}

/// Files that are needed beside connections: the store, the spool, logs, the resolver.
const OTHER_FILES: u64 = 256;

/// How many connections this process can hold of those that are wanted. Each needs a file, and some
/// a second one to an upstream; so the limit of open files is raised as far as the system allows.
pub(crate) fn affordable(wanted: usize) -> usize {
    let connections = u64::try_from(wanted).unwrap_or(u64::MAX);
    let needed = connections.saturating_add(connections / 4).saturating_add(OTHER_FILES);
    let files = raise_file_limit(needed);
    if files >= needed {
        return wanted;
    }
    let affordable = usize::try_from(files.saturating_sub(OTHER_FILES).saturating_mul(4) / 5).unwrap_or(wanted).max(1);
    tracing::warn!(
        files,
        needed,
        wanted,
        affordable,
        "the system allows fewer open files than the connections that are wanted need, so fewer connections are \
         held; raise the limit (`LimitNOFILE=` of the service, `ulimit -Hn`); a gateway may be told to hold fewer by \
         `--max-connections`"
    );
    affordable
}

/// Raises the limit of open files, beyond what is needed only where that costs nothing; gives the
/// limit that holds then.
fn raise_file_limit(needed: u64) -> u64 {
    let now = getrlimit(Resource::Nofile);
    let hard = now.maximum.unwrap_or(u64::MAX);
    // Only a privileged process may raise the hard limit; for others this fails and changes nothing.
    if hard < needed && setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: Some(needed) }).is_ok() {
        return needed;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum }) {
        Ok(()) => hard,
        Err(_) => now.current.unwrap_or(u64::MAX),
    }
}

//! One person's device, run by the real agent library: enrolled, signed in on, with a browser whose
//! connections go through its tunnel.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{Request, StatusCode};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use url::Url;
use vouchsafe_agent::connect::{self, Target};
use vouchsafe_agent::device::{Device, DeviceError, Former};
use vouchsafe_agent::local::{ListenError, LocalListener};
use vouchsafe_agent::login::{Login, LoginError};
use vouchsafe_agent::session::{Session, SessionError};
use vouchsafe_agent::state::StateDir;
use vouchsafe_agent::tunnel::{OpenError, Port, Tunnels};
use vouchsafe_model::name::{DeviceName, NameError};
use vouchsafe_runtime::body;
use vouchsafe_runtime::http_client::{self, ExchangeError};
use vouchsafe_runtime::internal::{BoxFuture, OwnHost};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::tls::{self, Credentials, ServerTrust, TlsError};
use vouchsafe_wire::api::Problem;
use vouchsafe_wire::ticket::{Ticket, TicketError};
use vouchsafe_wire::token::AUDIENCE_GATEWAY;

use crate::browser::dial::{Dial, Direct, Stream};
use crate::browser::journey::JourneyError;
use crate::browser::{Browser, BrowserError};

/// Failure on a laptop.
#[derive(Debug, thiserror::Error)]
pub enum LaptopError {
    /// The ticket is none.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// The device's name is not acceptable.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The device could not be enrolled or used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The sign-in on the device failed.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The page that approves the sign-in failed.
    #[error(transparent)]
    Journey(#[from] JourneyError),
    /// The agent's link is no address.
    #[error("the agent gave a link that is no address")]
    Link,
    /// The session could not be used.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Nobody is signed in on the device.
    #[error("nobody is signed in on this device")]
    SignedOut,
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No local port could be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A raw exchange with the gateway failed.
    #[error("the gateway could not be asked")]
    Ask(#[from] AskError),
}

/// Failure of a raw CONNECT.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No connection.
    #[error("no connection to the gateway")]
    Connect(#[source] io::Error),
    /// The exchange broke off.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The request could not be made.
    #[error("the request could not be made")]
    Request(#[from] http::Error),
    /// The device's files could not be read.
    #[error("the device's files could not be read")]
    Files(#[source] io::Error),
}

/// An enrolled device.
pub struct Laptop {
    name: String,
    dir: PathBuf,
    device: Arc<Device>,
    tunnels: Arc<Tunnels>,
    browser: Browser,
    tasks: TaskGroup,
}

impl Laptop {
    /// Enrols a new device with a one-time ticket; its key is made in `dir` and stays there.
    ///
    /// # Errors
    /// [`LaptopError`].
    pub async fn enrol(
        dir: &Path,
        ticket: &str,
        name: &str,
        root_pem: &str,
        tasks: &TaskGroup,
    ) -> Result<Self, LaptopError> {
        let (ticket, device_name) = (Ticket::parse(ticket)?, DeviceName::parse(name)?);
        let device = Arc::new(Device::enrol(dir, &ticket, &device_name, Former::Keep).await?);
        let tunnels = Arc::new(Tunnels::new(Arc::clone(&device), tasks.clone()));
        let browser = Browser::new(Arc::new(ThroughTunnel(Arc::clone(&tunnels))), root_pem, tasks.clone())?;
        Ok(Self { name: name.to_owned(), dir: dir.to_owned(), device, tunnels, browser, tasks: tasks.clone() })
    }

    /// Signs in on the device: asks for a code, approves it in the browser, and waits for the token.
    /// The browser must be signed in.
    ///
    /// # Errors
    /// [`LaptopError`].
    pub async fn log_in(&self) -> Result<(), LaptopError> {
        let login = Login::start(Arc::clone(&self.device)).await?;
        let link = Url::parse(login.link()).map_err(|_| LaptopError::Link)?;
        self.browser.approve_device(&link).await?;
        login.finish().await?;
        Ok(())
    }

    /// Its display name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id (`dev_…`).
    #[must_use]
    pub fn id(&self) -> String {
        self.device.id().to_string()
    }

    /// A browser on it: every connection goes through the tunnel, so it proves the device too.
    #[must_use]
    pub fn browser(&self) -> &Browser {
        &self.browser
    }

    /// Another browser on it, that nobody has used yet.
    ///
    /// # Errors
    /// [`LaptopError::Tls`].
    pub fn fresh_browser(&self, root_pem: &str) -> Result<Browser, LaptopError> {
        let dial = Arc::new(ThroughTunnel(Arc::clone(&self.tunnels)));
        Ok(Browser::new(dial, root_pem, self.tasks.clone())?)
    }

    /// Its tunnels.
    #[must_use]
    pub fn tunnels(&self) -> &Arc<Tunnels> {
        &self.tunnels
    }

    /// Opens a local port that leads to `host:port` through the tunnel, as `vouchsafe connect` does.
    ///
    /// # Errors
    /// [`LaptopError::Listen`].
    pub async fn connect(&self, host: &str, port: u16) -> Result<SocketAddr, LaptopError> {
        let listener =
            LocalListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), connect::MAX_CONNECTIONS).await?;
        let address = listener.address();
        let target = Target { host: host.to_owned(), port: Port::Number(port) };
        let report: connect::Report = Arc::new(|error| tracing::info!(%error, "a local connection was refused"));
        let serving = connect::serve(listener, Arc::clone(&self.tunnels), target, report, self.tasks.clone());
        let tasks = self.tasks.clone();
        self.tasks.spawn("demo local port", async move {
            tokio::select! {
                () = serving => {}
                () = tasks.draining() => {}
            }
        });
        Ok(address)
    }

    /// The access token of whoever is signed in on it: what a thief of its files would copy.
    ///
    /// # Errors
    /// [`LaptopError::SignedOut`] when nobody is.
    pub async fn access_token(&self) -> Result<String, LaptopError> {
        let token = Session::on(Arc::clone(&self.device)).token(AUDIENCE_GATEWAY).await?;
        Ok(token.ok_or(LaptopError::SignedOut)?.expose().to_owned())
    }

    /// Asks for a tunnel with this device's certificate and any token, from any address of this
    /// machine, as `curl --proxy-cert … -p` would; the tunnel is closed again at once.
    ///
    /// # Errors
    /// [`LaptopError::Ask`]; a refusal is an answer, not an error.
    pub async fn ask(&self, ask: &Ask<'_>, root_pem: &str) -> Result<Answer, LaptopError> {
        let files = StateDir::below(&self.dir);
        let read = |name| std::fs::read_to_string(files.path().join(name)).map_err(AskError::Files);
        let (chain_pem, key_pem) = (read("device.pem")?, zeroize::Zeroizing::new(read("device.key")?));
        let identity = Credentials { chain_pem: &chain_pem, key_pem: &key_pem };
        let trust = ServerTrust::Roots(tls::roots(root_pem, "root certificate")?);
        let config = tls::client(trust, Some(&identity), &[b"http/1.1"])?;
        Ok(ask.send(TlsConnector::from(Arc::new(config)), &self.device, &self.tasks).await?)
    }
}

/// A raw request for a tunnel.
pub struct Ask<'a> {
    /// Host name of the resource.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// Access token to show.
    pub token: &'a str,
    /// Source address to come from; `None` lets the system choose.
    pub from: Option<IpAddr>,
}

/// What the gateway said to a raw request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// The reason, when it was refused with one.
    pub problem: Option<Box<Problem>>,
}

impl Ask<'_> {
    async fn send(&self, tls: TlsConnector, device: &Device, tasks: &TaskGroup) -> Result<Answer, AskError> {
        let gateway = device.domain().host(OwnHost::Gateway.label());
        let direct = Direct { from: self.from, ..Direct::loopback(device.port()) };
        let stream = direct.dial(&gateway, device.port()).await.map_err(AskError::Connect)?;
        let name = ServerName::try_from(gateway).map_err(|error| AskError::Connect(io::Error::other(error)))?;
        let stream = tls.connect(name, stream).await.map_err(AskError::Connect)?;
        let target = format!("{}:{}", self.host, self.port);
        let request = Request::connect(&target)
            .header(HOST, &target)
            .header(PROXY_AUTHORIZATION, format!("Bearer {}", self.token))
            .body(body::empty())?;
        let response = http_client::send(stream, request, tasks).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(Answer { status, problem: None });
        }
        let bytes = http_client::collect(response.into_body(), 64 * 1024).await?;
        Ok(Answer { status, problem: serde_json::from_slice(&bytes).ok() })
    }
}

/// Dials through a device's tunnel.
struct ThroughTunnel(Arc<Tunnels>);

impl Dial for ThroughTunnel {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            match self.0.open(host, Port::Number(port)).await {
                Ok(tunnel) => Ok(Box::new(tunnel) as Box<dyn Stream>),
                Err(OpenError::Refused(refusal)) => Err(io::Error::new(io::ErrorKind::PermissionDenied, refusal)),
                Err(error) => Err(io::Error::other(error)),
            }
        })
    }
}

/// The gateway's reason, when a browser got no page because its tunnel was refused.
#[must_use]
pub fn refusal_of(error: &BrowserError) -> Option<&vouchsafe_agent::Refusal> {
    match error {
        BrowserError::Dial { source, .. } => source.get_ref()?.downcast_ref(),
        BrowserError::Address { .. }
        | BrowserError::Tls { .. }
        | BrowserError::Exchange { .. }
        | BrowserError::TimedOut { .. }
        | BrowserError::TooManyRedirects { .. }
        | BrowserError::Request(_)
        | BrowserError::NotJson { .. } => None,
    }
}

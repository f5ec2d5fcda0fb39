//! A small HTTP client that behaves as a browser does, as far as access depends on it: cookies,
//! redirects, `Origin` and `Sec-Fetch-*`, TLS that trusts one root, and passkey ceremonies.
//!
//! - [`cookies`]: the cookie jar
//! - [`dial`]: how connections leave the machine
//! - [`journey`]: what a person does: accept an invitation, sign in, approve a device, sign out

pub mod cookies;
pub mod dial;
pub mod journey;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, COOKIE, HOST, LOCATION, ORIGIN, SET_COOKIE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_rustls::TlsConnector;
use url::Url;
use vouchsafe_runtime::http_client::{self, ExchangeError};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::tls::{self, ServerTrust, TlsError};
use vouchsafe_runtime::{body, clock};

use cookies::CookieJar;
use dial::Dial;

/// Redirects that are followed before the browser gives up.
const MAX_REDIRECTS: usize = 10;
/// Longest time for one exchange, connection included.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest page that is read, bytes.
const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) vouchsafe-demo";

/// Failure to get a page.
#[derive(Debug, thiserror::Error)]
pub enum BrowserError {
    /// The address is not `https://` with a host name, or not readable.
    #[error("`{url}` is not an address that this browser opens")]
    Address {
        /// The address.
        url: String,
    },
    /// No connection.
    #[error("no connection to `{host}`")]
    Dial {
        /// The host.
        host: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The server could not prove its name, or TLS failed otherwise.
    #[error("no secure connection to `{host}`")]
    Tls {
        /// The host.
        host: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The exchange broke off.
    #[error("`{url}` gave no answer")]
    Exchange {
        /// The address.
        url: Url,
        /// Cause.
        #[source]
        source: ExchangeError,
    },
    /// The exchange took too long.
    #[error("`{url}` did not answer within {after:?}")]
    TimedOut {
        /// The address.
        url: Url,
        /// The limit.
        after: Duration,
    },
    /// More redirects than a browser follows.
    #[error("`{url}` redirects in a circle")]
    TooManyRedirects {
        /// Where it ended.
        url: Url,
    },
    /// A header or body could not be made.
    #[error("the request could not be made")]
    Request(#[source] http::Error),
    /// The answer is not the JSON that was expected.
    #[error("`{url}` answered {status} with something else than the expected JSON")]
    NotJson {
        /// The address.
        url: Url,
        /// Its status.
        status: StatusCode,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Page {
    /// Status.
    pub status: StatusCode,
    /// Where it came from, after redirects.
    pub url: Url,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Page {
    /// The body as text; bytes that are no UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`BrowserError::NotJson`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, BrowserError> {
        serde_json::from_slice(&self.body).map_err(|source| BrowserError::NotJson {
            url: self.url.clone(),
            status: self.status,
            source,
        })
    }

    /// Where a redirect points; `None` when the answer is none.
    #[must_use]
    pub fn redirect(&self) -> Option<Url> {
        if !self.status.is_redirection() {
            return None;
        }
        self.url.join(self.headers.get(LOCATION)?.to_str().ok()?).ok()
    }
}

/// How a request came about, which a browser tells in `Sec-Fetch-*` (Fetch Metadata).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A person typed the address or opened a bookmark.
    Typed,
    /// A redirect or link from a page of the same site.
    Followed,
    /// A form on a page of the same origin.
    Form,
    /// A script on a page of the same origin.
    Script,
    /// Not a browser at all: a command-line tool.
    Tool,
}

/// A browser profile: cookies, one trusted root, one way to connect. Cheap to clone; clones share
/// the cookies.
#[derive(Clone)]
pub struct Browser {
    dial: Arc<dyn Dial>,
    tls: TlsConnector,
    tasks: TaskGroup,
    jar: Arc<Mutex<CookieJar>>,
}

impl Browser {
    /// A fresh profile that trusts exactly the roots in `root_pem`.
    ///
    /// # Errors
    /// [`TlsError`] when `root_pem` holds no certificate.
    pub fn new(dial: Arc<dyn Dial>, root_pem: &str, tasks: TaskGroup) -> Result<Self, TlsError> {
        let trust = ServerTrust::Roots(tls::roots(root_pem, "root certificate")?);
        let config = tls::client(trust, None, &[b"http/1.1"])?;
        Ok(Self { dial, tls: TlsConnector::from(Arc::new(config)), tasks, jar: Arc::default() })
    }

    /// The same profile, cookies included and shared, with another way to connect.
    #[must_use]
    pub fn through(&self, dial: Arc<dyn Dial>) -> Self {
        Self { dial, ..self.clone() }
    }

    /// Opens an address and follows redirects.
    ///
    /// # Errors
    /// [`BrowserError`]; a refusal is a page, not an error.
    pub async fn get(&self, url: &Url) -> Result<Page, BrowserError> {
        self.follow(self.send(Method::GET, url, Cause::Typed, None).await?).await
    }

    /// Opens an address and stops at its first answer, even when that is a redirect.
    ///
    /// # Errors
    /// [`BrowserError`].
    pub async fn get_once(&self, url: &Url, cause: Cause) -> Result<Page, BrowserError> {
        self.send(Method::GET, url, cause, None).await
    }

    /// Sends JSON as a script of the same origin would.
    ///
    /// # Errors
    /// [`BrowserError`].
    pub async fn post_json<B: Serialize>(&self, url: &Url, value: &B) -> Result<Page, BrowserError> {
        let bytes = serde_json::to_vec(value).map_err(|source| BrowserError::NotJson {
            url: url.clone(),
            status: StatusCode::BAD_REQUEST,
            source,
        })?;
        self.send(Method::POST, url, Cause::Script, Some(("application/json", bytes.into()))).await
    }

    /// Sends a form and follows redirects.
    ///
    /// # Errors
    /// [`BrowserError`].
    pub async fn post_form(&self, url: &Url, fields: &[(&str, &str)]) -> Result<Page, BrowserError> {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let content = ("application/x-www-form-urlencoded", form.into());
        self.follow(self.send(Method::POST, url, Cause::Form, Some(content)).await?).await
    }

    /// Name and value of every cookie of `host`: what a thief of this profile would have.
    #[must_use]
    pub fn cookies_of(&self, host: &str) -> Vec<(String, String)> {
        self.jar.lock().of_host(host)
    }

    /// Puts a stolen cookie into this profile.
    pub fn plant_cookie(&self, host: &str, name: &str, value: &str) {
        self.jar.lock().plant(host, name, value);
    }

    /// Forgets all cookies.
    pub fn forget_cookies(&self) {
        self.jar.lock().clear();
    }

    async fn follow(&self, mut page: Page) -> Result<Page, BrowserError> {
        for _ in 0..MAX_REDIRECTS {
            let Some(next) = page.redirect() else { return Ok(page) };
            page = self.send(Method::GET, &next, Cause::Followed, None).await?;
        }
        Err(BrowserError::TooManyRedirects { url: page.url })
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        cause: Cause,
        content: Option<(&'static str, Bytes)>,
    ) -> Result<Page, BrowserError> {
        let cookies = self.jar.lock().header(url, clock::now());
        let page = tokio::time::timeout(EXCHANGE_TIMEOUT, self.exchange(method, url, cause, cookies, content))
            .await
            .map_err(|_| BrowserError::TimedOut { url: url.clone(), after: EXCHANGE_TIMEOUT })??;
        let mut jar = self.jar.lock();
        for set_cookie in page.headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
            if !jar.store(set_cookie, &page.url, clock::now()) {
                tracing::warn!(host = page.url.host_str(), "the server set a cookie that a browser drops");
            }
        }
        drop(jar);
        Ok(page)
    }

    async fn exchange(
        &self,
        method: Method,
        url: &Url,
        cause: Cause,
        cookies: Option<String>,
        content: Option<(&'static str, Bytes)>,
    ) -> Result<Page, BrowserError> {
        let address = || BrowserError::Address { url: url.to_string() };
        let (host, port) = match (url.scheme(), url.host_str(), url.port_or_known_default()) {
            ("https", Some(host), Some(port)) => (host, port),
            _ => return Err(address()),
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| address())?;
        let request = request(method, url, cause, cookies, content)?;
        let stream =
            self.dial.dial(host, port).await.map_err(|source| BrowserError::Dial { host: host.to_owned(), source })?;
        let stream = self
            .tls
            .connect(name, stream)
            .await
            .map_err(|source| BrowserError::Tls { host: host.to_owned(), source })?;
        let exchange = |source| BrowserError::Exchange { url: url.clone(), source };
        let response = http_client::send(stream, request, &self.tasks).await.map_err(exchange)?;
        let (parts, incoming) = response.into_parts();
        let body = http_client::collect(incoming, MAX_PAGE_BYTES).await.map_err(exchange)?;
        Ok(Page { status: parts.status, url: url.clone(), headers: parts.headers, body })
    }
}

fn request(
    method: Method,
    url: &Url,
    cause: Cause,
    cookies: Option<String>,
    content: Option<(&'static str, Bytes)>,
) -> Result<Request<body::Body>, BrowserError> {
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let authority = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => return Err(BrowserError::Address { url: url.to_string() }),
    };
    let mut builder = Request::builder().method(method.clone()).uri(target).header(HOST, authority);
    let page = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    builder = match cause {
        Cause::Tool => builder.header(USER_AGENT, "curl/8.0").header(ACCEPT, "*/*"),
        Cause::Script => builder
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "application/json")
            .header("sec-fetch-site", "same-origin")
            .header("sec-fetch-mode", "cors")
            .header("sec-fetch-dest", "empty"),
        Cause::Typed | Cause::Followed | Cause::Form => builder
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, page)
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document")
            .header("sec-fetch-user", "?1")
            .header(
                "sec-fetch-site",
                match cause {
                    Cause::Form => "same-origin",
                    Cause::Followed => "same-site",
                    Cause::Typed | Cause::Script | Cause::Tool => "none",
                },
            ),
    };
    if method != Method::GET && cause != Cause::Tool {
        builder = builder.header(ORIGIN, url.origin().ascii_serialization());
    }
    if let Some(cookies) = cookies {
        builder = builder.header(COOKIE, cookies);
    }
    let body = match content {
        Some((kind, bytes)) => {
            builder = builder.header(CONTENT_TYPE, HeaderValue::from_static(kind));
            body::full(bytes)
        }
        None => body::empty(),
    };
    builder.body(body).map_err(BrowserError::Request)
}

#[cfg(test)]
mod tests;

//! Sites of nginx, HAProxy, Apache and Caddy, brought into one form and judged alike.

mod apache;
mod caddy;
mod haproxy;
mod nginx;
mod tree;

use std::net::IpAddr;

use ipnet::IpNet;

use crate::finding::{Area, Evidence, Severity};
use crate::kinds;
use crate::notes::Notes;
use crate::source::Source;

/// Most sites of one program.
const MAX_SITES: usize = 3_000;

/// Most upstreams of one site.
const MAX_UPSTREAMS: usize = 100;

/// Where a site listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bind {
    /// `None`: every address.
    pub address: Option<IpAddr>,
    pub port: u16,
    pub tls: bool,
    /// It answers for names that no site has.
    pub is_default: bool,
}

impl Bind {
    /// Whether only this host comes there.
    pub(crate) fn is_local(&self) -> bool {
        self.address.is_some_and(|address| address.is_loopback())
    }
}

/// Where a site passes requests on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upstream {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// The certificate is checked; `None` where there is none.
    pub verified: Option<bool>,
    pub seen: Evidence,
}

impl Upstream {
    /// Of `http://host:port/path`; `None` for sockets and variables.
    pub(crate) fn of_url(url: &str, seen: Evidence) -> Option<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let tls = matches!(scheme, "https" | "grpcs" | "h2" | "wss" | "uwsgis");
        let authority = rest.split(['/', '?']).next()?;
        let authority = authority.rsplit('@').next()?;
        if authority.is_empty() || authority.contains('$') || authority.starts_with("unix") {
            return None;
        }
        let (host, port) = host_and_port(authority)?;
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        Some(Self { tls, host, port, verified: None, seen })
    }

    /// Whether it is this host.
    pub(crate) fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// A host without brackets, and the port where one is named.
pub(crate) fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port.parse().ok()?),
            None if rest.is_empty() => None,
            None => return None,
        };
        return Some((host.to_owned(), port));
    }
    match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => Some((text.to_owned(), None)),
        Some((host, port)) => Some((host.to_owned(), Some(port.parse().ok()?))),
        None => Some((text.to_owned(), None)),
    }
}

/// A certificate that a configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    pub certificate: String,
    pub key: Option<String>,
}

/// A site.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub area: Area,
    pub names: Vec<String>,
    pub binds: Vec<Bind>,
    pub upstreams: Vec<Upstream>,
    pub certificates: Vec<CertificateFiles>,
    /// Line that allows TLS older than 1.2, and whether it is even SSL.
    pub old_tls: Option<(Evidence, bool)>,
    /// Only TLS 1.3 is taken.
    pub newest_tls: bool,
    /// How it asks people who they are, everywhere.
    pub sign_in: Vec<&'static str>,
    /// It asks in some places only.
    pub asks_somewhere: bool,
    /// Clients need a certificate.
    pub client_certificates: bool,
    /// Networks that may come, where all others are refused.
    pub only_from: Option<Vec<IpNet>>,
    pub only_redirects: bool,
    /// It passes bytes on, and reads no HTTP.
    pub is_stream: bool,
    pub logs: bool,
    /// Lists of files that are shown.
    pub listings: Vec<Evidence>,
    /// Status pages that everybody sees.
    pub open_status: Vec<Evidence>,
    pub seen: Evidence,
}

impl Site {
    pub(crate) fn new(area: Area, seen: Evidence) -> Self {
        Self {
            area,
            names: Vec::new(),
            binds: Vec::new(),
            upstreams: Vec::new(),
            certificates: Vec::new(),
            old_tls: None,
            newest_tls: false,
            sign_in: Vec::new(),
            asks_somewhere: false,
            client_certificates: false,
            only_from: None,
            only_redirects: false,
            is_stream: false,
            logs: true,
            listings: Vec::new(),
            open_status: Vec::new(),
            seen,
        }
    }

    /// What people call it, and the same in every run.
    pub(crate) fn label(&self) -> String {
        let name = self.names.iter().find(|name| !matches!(name.as_str(), "_" | ""));
        let ports: Vec<String> = self.binds.iter().map(|bind| bind.port.to_string()).collect();
        let mut ports = ports;
        ports.dedup();
        match name {
            Some(name) => format!("{name} ({})", self.area.name()),
            None => format!("port {} ({})", ports.join(", "), self.area.name()),
        }
    }
}

/// Looks at all of them.
pub(crate) fn look(source: &Source, notes: &mut Notes) -> Vec<Site> {
    let mut sites = Vec::new();
    for look in [nginx::look, haproxy::look, apache::look, caddy::look] {
        let found = look(source, notes);
        if let Some(site) = found.get(MAX_SITES - 1) {
            let why = format!("{MAX_SITES} sites or more; what is beyond was left out");
            notes.gap(site.area, &site.seen.file, site.seen.line, why, "look at the others by hand");
        }
        sites.extend(found);
    }
    for site in &sites {
        judge(site, notes);
    }
    sites
}

fn judge(site: &Site, notes: &mut Notes) {
    let (area, label) = (site.area, site.label());
    let seen = || vec![site.seen.clone()];
    let open: Vec<&Bind> = site.binds.iter().filter(|bind| !bind.is_local()).collect();
    if !open.is_empty() && !site.only_redirects {
        if let Some(bind) = open.iter().find(|bind| !bind.tls)
            && !site.is_stream
        {
            let what = format!("`{label}` answers on port {} without TLS.", bind.port);
            notes.find_in(area, &kinds::WEB_CLEARTEXT, &label, what, seen());
        }
        if site.sign_in.is_empty() && !site.is_stream {
            let what = if site.asks_somewhere {
                format!("`{label}` asks people who they are in some places only.")
            } else {
                format!("`{label}` lets everybody through to what is behind it.")
            };
            notes.find_in(area, &kinds::WEB_NO_SIGN_IN, &label, what, seen());
        }
    }
    if let Some((evidence, is_ssl)) = &site.old_tls
        && site.binds.iter().any(|bind| bind.tls)
    {
        let (severity, what) = if *is_ssl {
            (Severity::High, format!("`{label}` takes SSL, which is broken."))
        } else {
            (Severity::Medium, format!("`{label}` takes TLS older than 1.2, unless the library refuses it."))
        };
        notes.find_at(area, &kinds::WEB_OLD_TLS, severity, &label, what, vec![evidence.clone()]);
    }
    for evidence in &site.listings {
        let what = format!("`{label}` shows which files there are.");
        notes.find_in(area, &kinds::WEB_LISTING, &label, what, vec![evidence.clone()]);
    }
    for evidence in &site.open_status {
        let what = format!("A status page of `{label}` is open to whoever reaches it.");
        notes.find_in(area, &kinds::WEB_STATUS_OPEN, &label, what, vec![evidence.clone()]);
    }
    for upstream in site.upstreams.iter().filter(|upstream| !upstream.is_local()) {
        let subject = format!("{label} to {}:{}", upstream.host, upstream.port);
        if !upstream.tls && !site.is_stream {
            let what = format!("Requests go on to `{}` in the clear.", crate::text::short(&upstream.host, 100));
            notes.find_in(area, &kinds::WEB_UPSTREAM_CLEARTEXT, subject, what, vec![upstream.seen.clone()]);
        } else if upstream.tls && upstream.verified == Some(false) {
            let what = format!("The certificate of `{}` is not checked.", crate::text::short(&upstream.host, 100));
            notes.find_in(area, &kinds::WEB_UPSTREAM_UNVERIFIED, subject, what, vec![upstream.seen.clone()]);
        }
    }
    if !site.logs {
        notes.find_in(area, &kinds::WEB_NO_LOG, &label, format!("`{label}` keeps no access log."), seen());
    }
}

//! Connections to places outside that an administrator chose: webhooks, streams of the audit log, and an app that is tried
//! before it is protected.
//!
//! Who may choose one chooses where the controller connects to. So addresses that are never an upstream are never such a
//! place: link-local ones and clouds' metadata services, and loopback by a name. The address that was looked at is the
//! one that is dialled. Private networks are allowed: chat tools and collectors of logs live there.

use std::net::{IpAddr, SocketAddr};

use url::{Host, Url};
use vouchsafe_model::resource::{never_by_name, never_upstream};

/// The address that is written out in it, where it is none by a name.
pub(crate) fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

/// Its host, without the brackets of an IPv6 address.
pub(crate) fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned()
}

/// Where to connect to, after all that its name leads to was looked at.
pub(crate) async fn addresses(url: &Url, port: u16) -> Result<Vec<SocketAddr>, String> {
    resolved(&host(url), literal(url).is_some(), port).await
}

/// The same for a host that stands in no URL.
pub(crate) async fn resolved(host: &str, is_literal: bool, port: u16) -> Result<Vec<SocketAddr>, String> {
    let allowed: fn(IpAddr) -> Option<&'static str> = if is_literal { never_upstream } else { never_by_name };
    let found = tokio::net::lookup_host((host, port)).await;
    let found: Vec<SocketAddr> = found.map_err(|error| format!("its name leads nowhere: {error}"))?.collect();
    match found.iter().find_map(|address| allowed(address.ip())) {
        Some(why) => Err(why.to_owned()),
        None => Ok(found),
    }
}

/// An error and its causes in one line of bounded length.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ").chars().take(200).collect()
}

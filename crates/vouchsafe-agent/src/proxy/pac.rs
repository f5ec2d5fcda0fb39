//! The proxy auto-configuration file: only the installation's names go through the proxy.

use std::net::SocketAddr;

use vouchsafe_model::name::BaseDomain;

/// The file's media type.
pub(crate) const CONTENT_TYPE: &str = "application/x-ns-proxy-autoconfig";

/// The file for a proxy at that address.
///
/// `BaseDomain` allows only letters, digits, dots and hyphens, so nothing needs escaping.
#[must_use]
pub fn text(domain: &BaseDomain, proxy: SocketAddr) -> String {
    format!(
        "function FindProxyForURL(url, host) {{\n  \
           host = host.toLowerCase();\n  \
           if (dnsDomainIs(host, \".{domain}\")) return \"PROXY {proxy}\";\n  \
           return \"DIRECT\";\n\
         }}\n"
    )
}

/// Whether a `Host` is this proxy's own: anything else is a page that was led here by its DNS
/// (A151).
pub(crate) fn is_own_host(host: &str, proxy: SocketAddr) -> bool {
    let port = proxy.port();
    host == proxy.to_string() || host.eq_ignore_ascii_case(&format!("localhost:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_installation_are_sent_here() {
        let domain = BaseDomain::parse("corp.example").unwrap();
        let text = text(&domain, "127.0.0.1:1080".parse().unwrap());
        assert_eq!(
            text,
            "function FindProxyForURL(url, host) {\n  host = host.toLowerCase();\n  if (dnsDomainIs(host, \
             \".corp.example\")) return \"PROXY 127.0.0.1:1080\";\n  return \"DIRECT\";\n}\n"
        );
    }

    #[test]
    fn a151_the_host_has_to_be_ours() {
        let proxy = "127.0.0.1:1080".parse().unwrap();
        assert!(is_own_host("127.0.0.1:1080", proxy) && is_own_host("localhost:1080", proxy));
        for bad in ["rebind.test:1080", "127.0.0.1", "127.0.0.1:80", "", "localhost.evil:1080"] {
            assert!(!is_own_host(bad, proxy), "{bad}");
        }
    }
}

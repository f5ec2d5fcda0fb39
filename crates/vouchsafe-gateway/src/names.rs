//! Which of our names a request is for.

use std::sync::Arc;

use vouchsafe_model::name::{BaseDomain, ResourceName};
use vouchsafe_runtime::internal::OwnHost;
use vouchsafe_wire::authority::Authority;

/// Our names and the port under which clients reach them.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    domain: BaseDomain,
    port: u16,
    /// Port under which web apps are reached, where a proxy serves them.
    app_port: u16,
}

/// What a host name stands for. Whether the resource exists is decided later, and not told to
/// everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Site {
    /// One of our own hosts.
    Own(OwnHost),
    /// A name that a resource can have.
    App(ResourceName),
    /// Under our domain, but no resource can be called so; answered like an unknown resource.
    Nothing(String),
}

impl Names {
    pub(crate) fn new(domain: BaseDomain, port: u16) -> Self {
        Self { domain, port, app_port: port }
    }

    /// The same, where a proxy serves web apps at that port.
    pub(crate) fn with_apps_at(&self, app_port: u16) -> Self {
        Self { domain: self.domain.clone(), port: self.port, app_port }
    }

    pub(crate) fn domain(&self) -> &BaseDomain {
        &self.domain
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The site of a lower-case host name; `None` when it is not directly under our domain.
    pub(crate) fn site(&self, host: &str) -> Option<Site> {
        let label = self.domain.label_of(host)?;
        Some(match (OwnHost::from_label(label), ResourceName::parse(label)) {
            (Some(own), _) => Site::Own(own),
            (None, Ok(name)) => Site::App(name),
            (None, Err(_)) => Site::Nothing(label.to_owned()),
        })
    }

    /// Whether an authority's port is the one that clients reach us under.
    pub(crate) fn is_our_port(&self, authority: &Authority) -> bool {
        authority.port.unwrap_or(443) == self.port
    }

    /// `https://<label>.<domain>[:port]` without a slash at the end.
    pub(crate) fn origin(&self, label: &str) -> String {
        format!("https://{}", self.host_and_port(label))
    }

    /// `<label>.<domain>[:port]`, the port left out when it is 443.
    pub(crate) fn host_and_port(&self, label: &str) -> String {
        let mut host = self.domain.host(label);
        let port = if OwnHost::from_label(label).is_some() { self.port } else { self.app_port };
        if port != 443 {
            host.push(':');
            host.push_str(&port.to_string());
        }
        host
    }
}

impl Site {
    /// The same as [`Site::label`], to keep.
    pub(crate) fn shared_label(&self) -> Arc<str> {
        match self {
            Site::App(name) => name.to_shared(),
            Site::Own(_) | Site::Nothing(_) => self.label().into(),
        }
    }

    /// First label of the host, as cookies and sign-in requests name it.
    pub(crate) fn label(&self) -> &str {
        match self {
            Site::Own(own) => own.label(),
            Site::App(name) => name.as_str(),
            Site::Nothing(label) => label,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_serves_apps_and_nothing_of_ours() {
        let names = Names::new(BaseDomain::parse("corp.example").expect("valid"), 8443).with_apps_at(443);
        assert_eq!(names.origin("wiki"), "https://wiki.corp.example");
        for own in ["auth", "console", "api", "gw"] {
            assert_eq!(names.origin(own), format!("https://{own}.corp.example:8443"));
        }
    }

    #[test]
    fn a_name_is_ours_only_directly_under_the_domain() {
        let names = Names::new(BaseDomain::parse("corp.example").expect("valid"), 8443);
        assert_eq!(names.site("auth.corp.example"), Some(Site::Own(OwnHost::Auth)));
        assert_eq!(names.site("wiki.corp.example").map(|site| site.label().to_owned()).as_deref(), Some("wiki"));
        assert!(matches!(names.site("www.corp.example"), Some(Site::Nothing(_))));
        for other in ["corp.example", "a.wiki.corp.example", "wiki.corp.example.evil", "wikicorp.example"] {
            assert_eq!(names.site(other), None, "{other}");
        }
    }
}

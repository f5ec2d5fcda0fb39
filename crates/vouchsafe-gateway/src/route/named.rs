//! The host that a request names, read once for all requests on a connection that name it alike.

use std::sync::Arc;

use http::HeaderValue;
use parking_lot::Mutex;
use vouchsafe_wire::authority::{Authority, AuthorityError};

use crate::names::{Names, Site};

/// A host, and what is known of it.
#[derive(Debug)]
pub(crate) struct Named {
    /// What it was read from.
    text: Box<str>,
    pub(crate) authority: Authority,
    /// The host alone.
    pub(crate) host: Arc<str>,
    /// `None` when it is none of ours.
    pub(crate) site: Option<Site>,
    /// Under which host and port clients reach that site.
    pub(crate) public_host: HeaderValue,
}

impl Named {
    fn new(text: &str, names: &Names) -> Result<Self, AuthorityError> {
        let authority = Authority::parse(text)?;
        let site = names.site(&authority.host);
        let public_host = site.as_ref().map(|site| names.host_and_port(site.label())).unwrap_or_default();
        Ok(Self {
            text: text.into(),
            host: authority.host.as_str().into(),
            authority,
            site,
            // INVARIANT: a host name and a port are a header's value.
            public_host: HeaderValue::try_from(public_host).unwrap_or(HeaderValue::from_static("")),
        })
    }
}

/// The last host that requests on a connection named.
#[derive(Debug, Default)]
pub(crate) struct LastHost(Mutex<Option<Arc<Named>>>);

impl LastHost {
    /// Reads a host, unless it is the same text as before: that reads the same.
    pub(super) fn read(&self, text: &str, names: &Names) -> Result<Arc<Named>, AuthorityError> {
        let mut last = self.0.lock();
        if let Some(named) = last.as_ref()
            && *named.text == *text
        {
            return Ok(Arc::clone(named));
        }
        let named = Arc::new(Named::new(text, names)?);
        *last = Some(Arc::clone(&named));
        Ok(named)
    }

    pub(super) fn forget(&self) {
        *self.0.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use vouchsafe_model::name::BaseDomain;

    use super::*;

    #[test]
    fn a_host_is_read_anew_whenever_it_is_written_in_another_way() {
        let names = Names::new(BaseDomain::parse("corp.example").unwrap(), 8443);
        let last = LastHost::default();
        let wiki = last.read("wiki.corp.example:8443", &names).unwrap();
        assert_eq!(wiki.public_host, "wiki.corp.example:8443");
        assert!(Arc::ptr_eq(&wiki, &last.read("wiki.corp.example:8443", &names).unwrap()));
        let upper = last.read("WIKI.corp.example", &names).unwrap();
        assert_eq!((&*upper.host, upper.authority.port), ("wiki.corp.example", None));
        assert_eq!(last.read("a, b", &names).unwrap_err(), AuthorityError::Character);
        let shop = last.read("shop.corp.example", &names).unwrap();
        assert_eq!(shop.site.as_ref().map(Site::label), Some("shop"));
        assert_eq!(last.read("elsewhere.example", &names).unwrap().site, None);
    }
}

//! Whose page made a browser send a request (Fetch Metadata, <https://www.w3.org/TR/fetch-metadata/>).

use http::header::ORIGIN;
use http::{HeaderMap, HeaderName, HeaderValue};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a form was sent by a page of this very origin, such as `https://console.corp.example:8443`. Every browser of
/// today says so itself in `Sec-Fetch-Site`; older ones say where the form stands. Apps of the same domain are other
/// origins, though they are the same site.
#[must_use]
pub fn is_same_origin(headers: &HeaderMap, origin: &str) -> bool {
    let only = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).map(HeaderValue::as_bytes)
    };
    match headers.contains_key(SEC_FETCH_SITE) {
        true => only(&SEC_FETCH_SITE) == Some(b"same-origin"),
        false => only(&ORIGIN) == Some(origin.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a149_only_a_page_of_the_same_origin_sends_forms() {
        let from = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            is_same_origin(&headers, "https://wiki.corp.example:8443")
        };
        assert!(from(&[("sec-fetch-site", "same-origin")]));
        assert!(from(&[("origin", "https://wiki.corp.example:8443")]));
        for bad in [
            &[][..],
            &[("origin", "null")],
            &[("origin", "https://wiki.corp.example")],
            &[("origin", "http://wiki.corp.example:8443")],
            &[("origin", "https://wiki.corp.example:8443"), ("origin", "https://evil.example")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "cross-site"), ("origin", "https://wiki.corp.example:8443")],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
        ] {
            assert!(!from(bad), "{bad:?}");
        }
    }
}

//! A cookie jar with the rules that matter here (RFC 6265bis §5): host-only and domain cookies,
//! `Secure`, `Path`, `Max-Age`, and the `__Host-` and `__Secure-` prefixes. `Expires` is not read:
//! without `Max-Age` a cookie lives as long as the jar.

use std::fmt;
use std::time::{Duration, SystemTime};

use url::Url;

/// Cookies of one browser profile. Its `Debug` form shows no values.
#[derive(Default, Clone)]
pub struct CookieJar {
    cookies: Vec<Cookie>,
}

#[derive(Clone)]
struct Cookie {
    name: String,
    value: String,
    host: String,
    reach: Reach,
    path: String,
    secure: bool,
    ends: Option<SystemTime>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    HostOnly,
    Subdomains,
}

impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.cookies.iter().map(|cookie| (&cookie.host, &cookie.name))).finish()
    }
}

impl CookieJar {
    /// Takes a `Set-Cookie` value that came from `url`. Returns whether it changed the jar; a browser
    /// drops what breaks a rule without a word.
    pub fn store(&mut self, set_cookie: &str, url: &Url, now: SystemTime) -> bool {
        let Some(cookie) = Cookie::parse(set_cookie, url, now) else { return false };
        self.cookies.retain(|held| !held.same_place(&cookie));
        if cookie.ends.is_none_or(|ends| ends > now) {
            self.cookies.push(cookie);
        }
        true
    }

    /// Value of the `Cookie` header for a request to `url`; `None` when no cookie fits.
    #[must_use]
    pub fn header(&self, url: &Url, now: SystemTime) -> Option<String> {
        let pairs: Vec<String> = self
            .cookies
            .iter()
            .filter(|cookie| cookie.fits(url, now))
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// Name and value of every cookie that `host` itself set: what a thief would copy.
    #[must_use]
    pub fn of_host(&self, host: &str) -> Vec<(String, String)> {
        let of_host = self.cookies.iter().filter(|cookie| cookie.host == host);
        of_host.map(|cookie| (cookie.name.clone(), cookie.value.clone())).collect()
    }

    /// Puts a cookie of `host` into the jar, as a thief would with a stolen one.
    pub fn plant(&mut self, host: &str, name: &str, value: &str) {
        let cookie = Cookie {
            name: name.to_owned(),
            value: value.to_owned(),
            host: host.to_owned(),
            reach: Reach::HostOnly,
            path: "/".to_owned(),
            secure: true,
            ends: None,
        };
        self.cookies.retain(|held| !held.same_place(&cookie));
        self.cookies.push(cookie);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.cookies.clear();
    }
}

impl Cookie {
    fn parse(set_cookie: &str, url: &Url, now: SystemTime) -> Option<Self> {
        let host = url.host_str()?;
        let mut parts = set_cookie.split(';');
        let (name, value) = parts.next()?.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || set_cookie.chars().any(char::is_control) {
            return None;
        }
        let mut cookie = Self {
            name: name.to_owned(),
            value: value.to_owned(),
            host: host.to_owned(),
            reach: Reach::HostOnly,
            path: default_path(url),
            secure: false,
            ends: None,
        };
        let mut rooted = false;
        for part in parts {
            let (attribute, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim();
            match attribute.trim().to_ascii_lowercase().as_str() {
                "secure" => cookie.secure = true,
                "path" if value.starts_with('/') => {
                    value.clone_into(&mut cookie.path);
                    rooted = value == "/";
                }
                "domain" if !value.is_empty() => {
                    let domain = value.trim_start_matches('.').to_ascii_lowercase();
                    if !matches!(url.host(), Some(url::Host::Domain(_))) || !domain_match(host, &domain) {
                        return None;
                    }
                    cookie.host = domain;
                    cookie.reach = Reach::Subdomains;
                }
                "max-age" => {
                    let seconds: i64 = value.parse().ok()?;
                    let life = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
                    cookie.ends = now.checked_add(life);
                }
                _ => {}
            }
        }
        if cookie.secure && url.scheme() != "https" {
            return None;
        }
        let lower = cookie.name.to_ascii_lowercase();
        if lower.starts_with("__secure-") && !cookie.secure {
            return None;
        }
        if lower.starts_with("__host-") && !(cookie.secure && rooted && cookie.reach == Reach::HostOnly) {
            return None;
        }
        Some(cookie)
    }

    fn same_place(&self, other: &Self) -> bool {
        self.name == other.name && self.host == other.host && self.path == other.path
    }

    fn fits(&self, url: &Url, now: SystemTime) -> bool {
        let Some(host) = url.host_str() else { return false };
        let host_fits = match self.reach {
            Reach::HostOnly => host == self.host,
            Reach::Subdomains => domain_match(host, &self.host),
        };
        let path = url.path();
        let path_fits = path
            .strip_prefix(self.path.as_str())
            .is_some_and(|rest| rest.is_empty() || self.path.ends_with('/') || rest.starts_with('/'));
        host_fits && path_fits && (!self.secure || url.scheme() == "https") && self.ends.is_none_or(|ends| ends > now)
    }
}

fn domain_match(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// RFC 6265bis §5.1.4: the directory of the path.
fn default_path(url: &Url) -> String {
    match url.path().rsplit_once('/') {
        Some((directory, _)) if !directory.is_empty() => directory.to_owned(),
        Some(_) | None => "/".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_host_cookie_goes_back_to_its_host_only() {
        let mut jar = CookieJar::default();
        let app = url("https://wiki.corp.example:8443/a/b?c");
        assert!(jar.store("__Host-v=secret; Path=/; Secure; HttpOnly; SameSite=Lax", &app, at(0)));
        assert_eq!(jar.header(&app, at(0)).as_deref(), Some("__Host-v=secret"));
        for other in ["https://hr.corp.example/", "https://corp.example/", "http://wiki.corp.example/"] {
            assert_eq!(jar.header(&url(other), at(0)), None, "{other}");
        }
        assert!(!format!("{jar:?}").contains("secret"));
    }

    #[test]
    fn prefixes_hold_what_they_promise() {
        let app = url("https://wiki.corp.example/a");
        for bad in [
            "__Host-v=x; Path=/",
            "__Host-v=x; Secure; Path=/a",
            "__Host-v=x; Secure",
            "__Host-v=x; Secure; Path=/; Domain=corp.example",
            "__host-v=x; Path=/",
            "__Secure-v=x; Path=/",
            "v=x; Domain=other.example",
            "v=x; Domain=example.wiki.corp.example",
            "no-value",
        ] {
            assert!(!CookieJar::default().store(bad, &app, at(0)), "{bad} was kept");
        }
        assert!(!CookieJar::default().store("v=x; Secure", &url("http://wiki.corp.example/"), at(0)));
    }

    #[test]
    fn life_path_and_domain_bound_a_cookie() {
        let mut jar = CookieJar::default();
        let app = url("https://wiki.corp.example/docs/page");
        assert!(jar.store("a=1; Max-Age=10", &app, at(100)));
        assert!(jar.store("b=2; Domain=corp.example; Path=/", &app, at(100)));
        assert_eq!(jar.header(&url("https://wiki.corp.example/docs/x"), at(105)).as_deref(), Some("a=1; b=2"));
        assert_eq!(jar.header(&url("https://wiki.corp.example/docs/x"), at(110)).as_deref(), Some("b=2"));
        assert_eq!(jar.header(&url("https://wiki.corp.example/docsx"), at(105)).as_deref(), Some("b=2"));
        assert_eq!(jar.header(&url("https://hr.corp.example/"), at(105)).as_deref(), Some("b=2"));
        assert_eq!(jar.header(&url("https://evilcorp.example/"), at(105)), None);
        assert!(jar.store("b=; Domain=corp.example; Path=/; Max-Age=0", &app, at(105)));
        assert_eq!(jar.header(&url("https://hr.corp.example/"), at(105)), None);
    }
}

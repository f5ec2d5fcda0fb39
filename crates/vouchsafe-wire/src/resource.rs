//! A resource as TOML and JSON: in manifests, in the API and in the store.
//! Specification: `docs/spec/manifest.md`.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vouchsafe_model::mode::{Boundary, BoundaryError, Mode, Trial};
use vouchsafe_model::moment;
use vouchsafe_model::name::{ResourceGroupName, ResourceName, SiteName, Tag, UserName};
use vouchsafe_model::resource::{
    AuditTiming, Endpoint, EndpointError, HostHeader, HttpSpec, IdentityHeaders, Leeway, PathCase, PathRules, Resource,
    ResourceSpec, Sensitivity, TcpSpec, UdpSpec, UpstreamProtocol, UpstreamScheme, UpstreamTls,
};

/// Seconds without a datagram after which a UDP flow ends, unless the resource says otherwise.
const DEFAULT_IDLE_SECONDS: u64 = 120;

/// Text form of a resource. Members that keep their default may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceDoc {
    /// Name, first label of the host name.
    pub name: String,
    /// `http`, `tcp` or `udp`.
    pub kind: String,
    /// `http://host:port` or `https://host:port` for `http`, `host:port` for `tcp` and `udp`.
    pub upstream: String,
    /// Groups of resources it belongs to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Free labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// `public`, `internal` (default), `confidential` or `restricted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<String>,
    /// One line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Seconds that a gateway may serve it beyond the lease when it doesn't hear from its controller, 0 to
    /// 86400, default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline_grace: Option<u64>,
    /// `http` and `tcp`: site whose connectors dial the upstream, when the gateway doesn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// `tcp` and `udp`: port under which it is asked for, when not the upstream's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `https` upstreams only: PEM of the authorities that may vouch for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_ca: Option<String>,
    /// `http` only: `public` (default) or `upstream`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_header: Option<String>,
    /// `http` only: `assertion` (default) or `plain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_headers: Option<String>,
    /// `http` only: `auto` (default), `http1` or `h2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_protocol: Option<String>,
    /// `https` upstreams only: oldest version of TLS, `1.2` (default) or `1.3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_tls: Option<String>,
    /// `http` only: seconds to connect, 1 to 60, default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<u64>,
    /// `http` only: seconds until the response head must come, 1 to 3600, default 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_timeout: Option<u64>,
    /// `http`: seconds that an exchange may be silent, 10 to 86400, default 600. `udp`: seconds without
    /// a datagram after which a flow ends, 5 to 3600, default 120 (RFC 4787 §4.3 REQ-5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<u64>,
    /// `http` only: `soon` (default) or `before`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<String>,
    /// `http` only: `refuse` (default) or `keep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoded_slashes: Option<String>,
    /// `http` only: `refuse` (default) or `keep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub double_slashes: Option<String>,
    /// `http` only: `refuse` (default) or `keep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_parameters: Option<String>,
    /// `http` only: `sensitive` (default) or `fold`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_case: Option<String>,
    /// `http` only: port at which a proxy that asks a gateway serves the app's name (`docs/guide/existing-proxies.md`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_port: Option<NonZeroU16>,
    /// What becomes of a denial: `enforce` (default), `warn` or `observe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// `warn` and `observe` only: from where, until when and why denials pass. The last member, since it is a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observe: Option<TrialDoc>,
}

/// Text form of the bounds of a mode that lets denials pass. None of them may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrialDoc {
    /// The present boundary: 1 to 32 networks, each in its one form; see [`Boundary`].
    pub from: Vec<String>,
    /// The user who answers for it.
    pub owner: String,
    /// Why, in one line of at most 200 characters.
    pub reason: String,
    /// RFC 3339; from then on denials stand. Kept in whole seconds of UTC.
    pub until: String,
}

/// Failure to accept a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceDocError {
    /// A name, group or tag is not acceptable.
    #[error("resource `{resource}`: {source}")]
    Name {
        /// The resource's name as given.
        resource: String,
        /// Which rule was broken.
        source: vouchsafe_model::name::NameError,
    },
    /// The upstream is not acceptable.
    #[error("resource `{resource}`: upstream: {source}")]
    Upstream {
        /// The resource's name as given.
        resource: String,
        /// Which rule was broken.
        source: EndpointError,
    },
    /// A member has a value that it can't have.
    #[error("resource `{resource}`: `{member}` is `{given}`, but must be {expected}")]
    Value {
        /// The resource's name as given.
        resource: String,
        /// The member's name.
        member: &'static str,
        /// The value, shortened.
        given: String,
        /// What is possible.
        expected: &'static str,
    },
    /// The boundary of a mode is not acceptable.
    #[error("resource `{resource}`: `observe.from`: {source}")]
    Boundary {
        /// The resource's name as given.
        resource: String,
        /// Which rule was broken.
        source: BoundaryError,
    },
    /// A mode without its bounds, or bounds without a mode.
    #[error("resource `{resource}`: {words}")]
    Mode {
        /// The resource's name as given.
        resource: String,
        /// What is wrong.
        words: &'static str,
    },
    /// A member stands on a kind that has no use for it.
    #[error("resource `{resource}`: `{member}` has no meaning for a resource of kind `{kind}`")]
    Misplaced {
        /// The resource's name as given.
        resource: String,
        /// The member's name.
        member: &'static str,
        /// The resource's kind.
        kind: &'static str,
    },
}

impl ResourceDoc {
    /// Checks the text form and makes a resource of it.
    ///
    /// # Errors
    /// [`ResourceDocError`] names the resource, the member and what is possible.
    pub fn to_resource(&self) -> Result<Resource, ResourceDocError> {
        let resource = || self.name.chars().take(80).collect::<String>();
        let name_error = |source| ResourceDocError::Name { resource: resource(), source };
        let value = |member, given: &str, expected| ResourceDocError::Value {
            resource: resource(),
            member,
            given: given.chars().take(80).collect(),
            expected,
        };
        let name = ResourceName::parse(&self.name).map_err(name_error)?;
        let groups = self
            .groups
            .iter()
            .map(|group| ResourceGroupName::parse(group))
            .collect::<Result<BTreeSet<_>, _>>()
            .map_err(name_error)?;
        let tags =
            self.tags.iter().map(|tag| Tag::parse(tag)).collect::<Result<BTreeSet<_>, _>>().map_err(name_error)?;
        let sensitivity = match self.sensitivity.as_deref() {
            None => Sensitivity::default(),
            Some(word) => Sensitivity::from_word(word)
                .ok_or_else(|| value("sensitivity", word, "public, internal, confidential or restricted"))?,
        };
        if self.description.len() > 200 || self.description.chars().any(char::is_control) {
            return Err(value("description", &self.description, "one line of at most 200 bytes"));
        }
        let offline_grace = match self.offline_grace {
            None => Duration::ZERO,
            Some(seconds @ 0..=86_400) => Duration::from_secs(seconds),
            Some(other) => return Err(value("offline_grace", &other.to_string(), "0 to 86400 seconds")),
        };
        let via = self.via.as_deref().map(SiteName::parse).transpose().map_err(name_error)?;
        let spec = match self.kind.as_str() {
            "http" => ResourceSpec::Http(self.http_spec(&value)?),
            "tcp" => {
                let (upstream, port) = self.service("tcp")?;
                ResourceSpec::Tcp(TcpSpec { upstream, port })
            }
            "udp" => {
                let (upstream, port) = self.service("udp")?;
                let idle_timeout = match self.idle_timeout {
                    None => DEFAULT_IDLE_SECONDS,
                    Some(seconds @ 5..=3600) => seconds,
                    Some(other) => return Err(value("idle_timeout", &other.to_string(), "5 to 3600 seconds")),
                };
                ResourceSpec::Udp(UdpSpec { upstream, port, idle_timeout: Duration::from_secs(idle_timeout) })
            }
            other => return Err(value("kind", other, "http, tcp or udp")),
        };
        let description = self.description.clone();
        let mode = self.mode(&value)?;
        Ok(Resource { name, spec, groups, tags, sensitivity, description, offline_grace, via, mode })
    }

    /// The mode, which is to enforce unless everything about another one is said.
    fn mode(
        &self,
        value: &dyn Fn(&'static str, &str, &'static str) -> ResourceDocError,
    ) -> Result<Mode, ResourceDocError> {
        let resource = || self.name.chars().take(80).collect::<String>();
        let mode = match (self.mode.as_deref(), &self.observe) {
            (None | Some("enforce"), None) => return Ok(Mode::Enforce),
            (Some("warn"), Some(_)) => Mode::Warn,
            (Some("observe"), Some(_)) => Mode::Observe,
            (Some("warn" | "observe"), None) => {
                let words = "this mode needs the table `observe` with `from`, `owner`, `reason` and `until`";
                return Err(ResourceDocError::Mode { resource: resource(), words });
            }
            (None | Some("enforce"), Some(_)) => {
                let words = "the table `observe` has a meaning only with `mode = \"warn\"` or `mode = \"observe\"`";
                return Err(ResourceDocError::Mode { resource: resource(), words });
            }
            (Some(other), _) => return Err(value("mode", other, "enforce, warn or observe")),
        };
        let Some(trial) = &self.observe else { return Ok(Mode::Enforce) };
        let TrialDoc { from, owner, reason, until } = trial;
        let from =
            Boundary::parse(from).map_err(|source| ResourceDocError::Boundary { resource: resource(), source })?;
        let owner = UserName::parse(owner).map_err(|source| ResourceDocError::Name { resource: resource(), source })?;
        if reason.trim().is_empty() || reason.chars().count() > 200 || reason.chars().any(char::is_control) {
            return Err(value("observe.reason", reason, "one line of 1 to 200 characters"));
        }
        let until = moment::parse_rfc3339(until)
            .and_then(whole_second)
            .ok_or_else(|| value("observe.until", until, "a time such as 2026-12-31T18:00:00Z (RFC 3339)"))?;
        Ok(mode(Trial { from, owner, reason: reason.clone(), until }))
    }

    fn http_spec(
        &self,
        value: &dyn Fn(&'static str, &str, &'static str) -> ResourceDocError,
    ) -> Result<HttpSpec, ResourceDocError> {
        if self.port.is_some() {
            return Err(ResourceDocError::Misplaced { resource: self.name.clone(), member: "port", kind: "http" });
        }
        let (scheme, rest) = match self.upstream.split_once("://") {
            Some(("http", rest)) => (UpstreamScheme::Http, rest),
            Some(("https", rest)) => (UpstreamScheme::Https, rest),
            _ => return Err(value("upstream", &self.upstream, "http://host:port or https://host:port")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let with_port = match (rest.rsplit_once(':'), rest.ends_with(']')) {
            (Some(_), false) => rest.to_owned(),
            (None, _) | (Some(_), true) => format!("{rest}:{}", if scheme == UpstreamScheme::Http { 80 } else { 443 }),
        };
        let upstream = Endpoint::parse(&with_port)
            .map_err(|source| ResourceDocError::Upstream { resource: self.name.clone(), source })?;
        let of_tls = [("upstream_ca", self.upstream_ca.is_some()), ("upstream_tls", self.upstream_tls.is_some())];
        if let (UpstreamScheme::Http, Some((member, _))) = (scheme, of_tls.into_iter().find(|(_, given)| *given)) {
            return Err(ResourceDocError::Misplaced { resource: self.name.clone(), member, kind: "http over http://" });
        }
        let seconds = |member, given: Option<u64>, default: Duration, range: RangeInclusive<u64>, words| match given {
            None => Ok(default),
            Some(seconds) if range.contains(&seconds) => Ok(Duration::from_secs(seconds)),
            Some(other) => Err(value(member, &other.to_string(), words)),
        };
        Ok(HttpSpec {
            scheme,
            upstream,
            upstream_ca_pem: self.upstream_ca.clone(),
            host_header: match self.host_header.as_deref() {
                None | Some("public") => HostHeader::Public,
                Some("upstream") => HostHeader::Upstream,
                Some(other) => return Err(value("host_header", other, "public or upstream")),
            },
            identity_headers: match self.identity_headers.as_deref() {
                None | Some("assertion") => IdentityHeaders::AssertionOnly,
                Some("plain") => IdentityHeaders::Plain,
                Some(other) => return Err(value("identity_headers", other, "assertion or plain")),
            },
            upstream_protocol: match self.upstream_protocol.as_deref() {
                None | Some("auto") => UpstreamProtocol::Auto,
                Some("http1") => UpstreamProtocol::Http1,
                Some("h2") => UpstreamProtocol::H2,
                Some(other) => return Err(value("upstream_protocol", other, "auto, http1 or h2")),
            },
            upstream_tls: match self.upstream_tls.as_deref() {
                None | Some("1.2") => UpstreamTls::Tls12,
                Some("1.3") => UpstreamTls::Tls13,
                Some(other) => return Err(value("upstream_tls", other, "1.2 or 1.3")),
            },
            connect_timeout: seconds(
                "connect_timeout",
                self.connect_timeout,
                HttpSpec::CONNECT_TIMEOUT,
                1..=60,
                "1 to 60 seconds",
            )?,
            response_timeout: seconds(
                "response_timeout",
                self.response_timeout,
                HttpSpec::RESPONSE_TIMEOUT,
                1..=3600,
                "1 to 3600 seconds",
            )?,
            idle_timeout: seconds(
                "idle_timeout",
                self.idle_timeout,
                HttpSpec::IDLE_TIMEOUT,
                10..=86_400,
                "10 to 86400 seconds",
            )?,
            audit: match self.audit.as_deref() {
                None | Some("soon") => AuditTiming::Soon,
                Some("before") => AuditTiming::Before,
                Some(other) => return Err(value("audit", other, "soon or before")),
            },
            paths: self.path_rules(value)?,
            proxy_port: self.proxy_port,
        })
    }

    fn path_rules(
        &self,
        value: &dyn Fn(&'static str, &str, &'static str) -> ResourceDocError,
    ) -> Result<PathRules, ResourceDocError> {
        let leeway = |member, given: &Option<String>| match given.as_deref() {
            None | Some("refuse") => Ok(Leeway::Refused),
            Some("keep") => Ok(Leeway::Kept),
            Some(other) => Err(value(member, other, "refuse or keep")),
        };
        Ok(PathRules {
            encoded_slashes: leeway("encoded_slashes", &self.encoded_slashes)?,
            double_slashes: leeway("double_slashes", &self.double_slashes)?,
            parameters: leeway("path_parameters", &self.path_parameters)?,
            case: match self.path_case.as_deref() {
                None | Some("sensitive") => PathCase::Sensitive,
                Some("fold") => PathCase::Folded,
                Some(other) => return Err(value("path_case", other, "sensitive or fold")),
            },
        })
    }

    /// Upstream and public port of a service on a port.
    fn service(&self, kind: &'static str) -> Result<(Endpoint, u16), ResourceDocError> {
        let misplaced = [
            ("upstream_ca", self.upstream_ca.is_some()),
            ("host_header", self.host_header.is_some()),
            ("identity_headers", self.identity_headers.is_some()),
            ("upstream_protocol", self.upstream_protocol.is_some()),
            ("upstream_tls", self.upstream_tls.is_some()),
            ("connect_timeout", self.connect_timeout.is_some()),
            ("response_timeout", self.response_timeout.is_some()),
            ("audit", self.audit.is_some()),
            ("encoded_slashes", self.encoded_slashes.is_some()),
            ("double_slashes", self.double_slashes.is_some()),
            ("path_parameters", self.path_parameters.is_some()),
            ("path_case", self.path_case.is_some()),
            ("proxy_port", self.proxy_port.is_some()),
            ("idle_timeout", kind != "udp" && self.idle_timeout.is_some()),
        ];
        if let Some((member, _)) = misplaced.into_iter().find(|(_, present)| *present) {
            return Err(ResourceDocError::Misplaced { resource: self.name.clone(), member, kind });
        }
        let upstream = Endpoint::parse(&self.upstream)
            .map_err(|source| ResourceDocError::Upstream { resource: self.name.clone(), source })?;
        let port = self.port.filter(|port| *port != 0).unwrap_or(upstream.port);
        Ok((upstream, port))
    }

    /// The text form of a resource; `None` for our own console, which has none.
    #[must_use]
    pub fn from_resource(resource: &Resource) -> Option<Self> {
        let Resource { name, spec, groups, tags, sensitivity, description, offline_grace, via, mode } = resource;
        let mut doc = Self {
            name: name.to_string(),
            kind: spec.kind().as_str().to_owned(),
            upstream: String::new(),
            groups: groups.iter().map(ToString::to_string).collect(),
            tags: tags.iter().map(ToString::to_string).collect(),
            sensitivity: (*sensitivity != Sensitivity::default()).then(|| sensitivity.as_str().to_owned()),
            description: description.clone(),
            offline_grace: (!offline_grace.is_zero()).then_some(offline_grace.as_secs()),
            via: via.as_ref().map(ToString::to_string),
            mode: (*mode != Mode::Enforce).then(|| mode.as_str().to_owned()),
            observe: mode.trial().map(|(_, trial)| TrialDoc::from(trial)),
            ..Self::default()
        };
        match spec {
            ResourceSpec::Console => return None,
            ResourceSpec::Tcp(TcpSpec { upstream, port }) => {
                doc.upstream = upstream.to_string();
                doc.port = (*port != upstream.port).then_some(*port);
            }
            ResourceSpec::Udp(UdpSpec { upstream, port, idle_timeout }) => {
                doc.upstream = upstream.to_string();
                doc.port = (*port != upstream.port).then_some(*port);
                doc.idle_timeout = (idle_timeout.as_secs() != DEFAULT_IDLE_SECONDS).then_some(idle_timeout.as_secs());
            }
            ResourceSpec::Http(http) => {
                let HttpSpec {
                    scheme,
                    upstream,
                    upstream_ca_pem,
                    host_header,
                    identity_headers,
                    upstream_protocol,
                    upstream_tls,
                    connect_timeout,
                    response_timeout,
                    idle_timeout,
                    audit,
                    paths: PathRules { encoded_slashes, double_slashes, parameters, case },
                    proxy_port,
                } = http;
                let seconds = |given: &Duration, default| (*given != default).then_some(given.as_secs());
                doc.upstream = format!("{}://{upstream}", scheme.as_str());
                doc.upstream_ca = upstream_ca_pem.clone();
                doc.host_header = (*host_header == HostHeader::Upstream).then(|| "upstream".to_owned());
                doc.identity_headers = (*identity_headers == IdentityHeaders::Plain).then(|| "plain".to_owned());
                doc.upstream_protocol = match upstream_protocol {
                    UpstreamProtocol::Auto => None,
                    UpstreamProtocol::Http1 => Some("http1".to_owned()),
                    UpstreamProtocol::H2 => Some("h2".to_owned()),
                };
                doc.upstream_tls = (*upstream_tls == UpstreamTls::Tls13).then(|| "1.3".to_owned());
                doc.connect_timeout = seconds(connect_timeout, HttpSpec::CONNECT_TIMEOUT);
                doc.response_timeout = seconds(response_timeout, HttpSpec::RESPONSE_TIMEOUT);
                doc.idle_timeout = seconds(idle_timeout, HttpSpec::IDLE_TIMEOUT);
                doc.audit = (*audit == AuditTiming::Before).then(|| "before".to_owned());
                let kept = |leeway: &Leeway| (*leeway == Leeway::Kept).then(|| "keep".to_owned());
                doc.encoded_slashes = kept(encoded_slashes);
                doc.double_slashes = kept(double_slashes);
                doc.path_parameters = kept(parameters);
                doc.path_case = (*case == PathCase::Folded).then(|| "fold".to_owned());
                doc.proxy_port = *proxy_port;
            }
        }
        Some(doc)
    }
}

impl From<&Trial> for TrialDoc {
    fn from(trial: &Trial) -> Self {
        let Trial { from, owner, reason, until } = trial;
        Self {
            from: from.networks().collect(),
            owner: owner.to_string(),
            reason: reason.clone(),
            // INVARIANT: it was read from text, so it can be written.
            until: second_text(*until).unwrap_or_default(),
        }
    }
}

/// A time without the fraction of its second: rather an end too early than one too late.
fn whole_second(at: SystemTime) -> Option<SystemTime> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(since.as_secs()))
}

/// A time in whole seconds of UTC, as in RFC 3339: `2026-12-31T18:00:00Z`. `None` before 1970 and after 9999.
#[must_use]
pub fn second_text(at: SystemTime) -> Option<String> {
    let text = moment::to_text(at)?;
    Some(format!("{}Z", text.get(..19)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doc(json: &str) -> Result<Resource, String> {
        serde_json::from_str::<ResourceDoc>(json).map_err(|e| e.to_string())?.to_resource().map_err(|e| e.to_string())
    }

    #[test]
    fn a_resource_round_trips() {
        for json in [
            r#"{"name":"wiki","kind":"http","upstream":"http://127.0.0.1:3000"}"#,
            r#"{"name":"hr","kind":"http","upstream":"https://hr.internal:443","groups":["people"],"tags":["pii"],"sensitivity":"restricted","upstream_ca":"PEM","host_header":"upstream","identity_headers":"plain","upstream_protocol":"h2","upstream_tls":"1.3","connect_timeout":2,"response_timeout":5,"idle_timeout":3600,"audit":"before","description":"HR"}"#,
            r#"{"name":"git","kind":"http","upstream":"http://10.0.0.5:80","encoded_slashes":"keep","double_slashes":"keep","path_parameters":"keep","path_case":"fold"}"#,
            r#"{"name":"old","kind":"http","upstream":"http://10.0.0.5:80","proxy_port":443}"#,
            r#"{"name":"db","kind":"tcp","upstream":"10.0.0.5:5432","port":6543,"offline_grace":300}"#,
            r#"{"name":"far","kind":"http","upstream":"http://10.0.0.5:80","via":"frankfurt"}"#,
            r#"{"name":"far-db","kind":"tcp","upstream":"db.internal:5432","via":"frankfurt"}"#,
            r#"{"name":"far-dns","kind":"udp","upstream":"10.0.0.5:53","via":"frankfurt"}"#,
            r#"{"name":"dns","kind":"udp","upstream":"10.0.0.5:5353","port":53,"idle_timeout":30}"#,
            r#"{"name":"dns","kind":"udp","upstream":"10.0.0.5:53"}"#,
            r#"{"name":"a","kind":"http","upstream":"http://h","mode":"observe","observe":{"from":["192.168.0.0/16","10.0.0.0/8"],"owner":"alice","reason":"moving in","until":"2026-12-31T19:00:00.9+01:00"}}"#,
            r#"{"name":"a","kind":"tcp","upstream":"h:1","mode":"warn","observe":{"from":["fd00::/8"],"owner":"alice","reason":"x","until":"2026-12-31T18:00:00Z"}}"#,
            r#"{"name":"a","kind":"tcp","upstream":"h:1","mode":"enforce"}"#,
        ] {
            let resource = doc(json).unwrap();
            assert_eq!(ResourceDoc::from_resource(&resource).unwrap().to_resource().unwrap(), resource);
        }
    }

    #[test]
    fn i14_no_typo_and_nothing_left_out_makes_a_denial_pass() {
        let whole = r#"{"from":["10.0.0.0/8"],"owner":"alice","reason":"x","until":"2026-12-31T18:00:00Z"}"#;
        let with = |mode: &str, observe: &str| {
            doc(&format!(r#"{{"name":"a","kind":"http","upstream":"http://h"{mode}{observe}}}"#))
        };
        let resource = with(r#","mode":"observe""#, &format!(r#","observe":{whole}"#)).unwrap();
        let text = serde_json::to_string(&ResourceDoc::from_resource(&resource).unwrap()).unwrap();
        assert!(text.ends_with(&format!(r#""mode":"observe","observe":{whole}}}"#)), "{text}");
        for (mode, part) in [
            ("", "only with `mode"),
            (r#","mode":"enforce""#, "only with `mode"),
            (r#","mode":"Observe""#, "enforce, warn or observe"),
            (r#","mode":"observed""#, "enforce, warn or observe"),
            (r#","mode":"observe ""#, "enforce, warn or observe"),
            (r#","mode":"audit""#, "enforce, warn or observe"),
            (r#","mode":"""#, "enforce, warn or observe"),
            (r#","mode":true"#, "expected a string"),
            (r#","modes":"observe""#, "unknown field"),
        ] {
            let error = with(mode, &format!(r#","observe":{whole}"#)).unwrap_err();
            assert!(error.contains(part), "{mode}: {error}");
        }
        for mode in ["warn", "observe"] {
            let mode = format!(r#","mode":"{mode}""#);
            assert!(with(&mode, "").unwrap_err().contains("needs the table `observe`"));
            for (from, to, part) in [
                (r#""from":["10.0.0.0/8"],"#, "", "missing field `from`"),
                (r#""owner":"alice","#, "", "missing field `owner`"),
                (r#""reason":"x","#, "", "missing field `reason`"),
                (r#","until":"2026-12-31T18:00:00Z""#, "", "missing field `until`"),
                ("10.0.0.0/8", "0.0.0.0/0", "too wide"),
                ("10.0.0.0/8", "10.0.0.1/8", "do you mean `10.0.0.0/8`"),
                (r#"["10.0.0.0/8"]"#, "[]", "1 to 32"),
                ("alice", "Alice", "not a valid user name"),
                (r#""x""#, r#"" ""#, "observe.reason"),
                (r#""x""#, r#""a\nb""#, "observe.reason"),
                ("T18:00:00Z", "", "observe.until"),
                ("Z\"", "\"", "observe.until"),
                ("until", "untill", "unknown field `untill`"),
                (r#"{"from""#, r#"{"form":[],"from""#, "unknown field `form`"),
            ] {
                let error = with(&mode, &format!(r#","observe":{}"#, whole.replace(from, to))).unwrap_err();
                assert!(error.contains(part), "{from} → {to}: {error}");
            }
        }
    }

    #[test]
    fn mistakes_name_the_member_and_what_is_possible() {
        for (json, part) in [
            (r#"{"name":"a","kind":"sctp","upstream":"h:1"}"#, "`kind` is `sctp`"),
            (r#"{"name":"a","kind":"udp","upstream":"h:1","idle_timeout":4}"#, "5 to 3600"),
            (r#"{"name":"a","kind":"udp","upstream":"h:1","audit":"soon"}"#, "no meaning"),
            (r#"{"name":"a","kind":"tcp","upstream":"h:1","via":"Frank furt"}"#, "not a valid site name"),
            (r#"{"name":"a","kind":"tcp","upstream":"h:1","idle_timeout":60}"#, "no meaning"),
            (r#"{"name":"a","kind":"udp","upstream":"224.0.0.251:5353"}"#, "multicast"),
            (r#"{"name":"a","kind":"udp","upstream":"255.255.255.255:67"}"#, "broadcast"),
            (r#"{"name":"a","kind":"tcp","upstream":"h:1","audit":"soon"}"#, "no meaning"),
            (r#"{"name":"a","kind":"http","upstream":"h:1"}"#, "http://host:port"),
            (r#"{"name":"a","kind":"http","upstream":"http://169.254.169.254"}"#, "metadata"),
            (r#"{"name":"a","kind":"http","upstream":"http://h","sensitivity":"secret"}"#, "restricted"),
            (r#"{"name":"a","kind":"http","upstream":"http://h","senstivity":"public"}"#, "unknown field"),
            (r#"{"name":"a","kind":"http","upstream":"http://h","encoded_slashes":"yes"}"#, "refuse or keep"),
            (r#"{"name":"a","kind":"http","upstream":"http://h","path_case":"lower"}"#, "sensitive or fold"),
            (r#"{"name":"a","kind":"tcp","upstream":"h:1","path_case":"fold"}"#, "no meaning"),
            (r#"{"name":"a","kind":"tcp","upstream":"h:1","proxy_port":443}"#, "no meaning"),
            (r#"{"name":"a","kind":"http","upstream":"http://h","proxy_port":0}"#, "nonzero"),
            (r#"{"name":"a","kind":"tcp","upstream":"h:1","offline_grace":86401}"#, "0 to 86400"),
            (r#"{"name":"auth","kind":"http","upstream":"http://h"}"#, "vouchsafe's own"),
            (r#"{"name":"a","kind":"http","upstream":"http://h/path"}"#, "neither"),
            (r#"{"name":"a","kind":"http","upstream":"http://h","upstream_tls":"1.3"}"#, "no meaning"),
            (r#"{"name":"a","kind":"http","upstream":"https://h","upstream_tls":"1.1"}"#, "1.2 or 1.3"),
            (r#"{"name":"a","kind":"http","upstream":"https://h","upstream_protocol":"h3"}"#, "auto, http1 or h2"),
            (r#"{"name":"a","kind":"http","upstream":"http://h","idle_timeout":0}"#, "10 to 86400"),
            (r#"{"name":"a","kind":"http","upstream":"http://h","connect_timeout":61}"#, "1 to 60"),
            (r#"{"name":"a","kind":"tcp","upstream":"h:1","idle_timeout":60}"#, "no meaning"),
        ] {
            let error = doc(json).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}

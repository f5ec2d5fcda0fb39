//! Where spans go, out of the flag or of the variables that OpenTelemetry has for it.
//!
//! What a variable says that can't be read ends the start, as a flag would: a collector that nobody reaches is noticed
//! when it is needed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use vouchsafe_runtime::spans::{Collector, Endpoint, EndpointError};

use crate::error::VerbError;
use crate::exit::Exit;

/// Longest variable that is read, bytes, and most pairs in it.
const MAX_BYTES: usize = 8 * 1024;
const MAX_PAIRS: usize = 64;

/// Where traces go.
#[derive(Debug, clap::Args)]
pub(crate) struct TracesArgs {
    /// Where spans of requests go, by OTLP over HTTP, such as `http://127.0.0.1:4318`. Without it OpenTelemetry's own
    /// variables count (`OTEL_EXPORTER_OTLP_ENDPOINT` and others) [default: nowhere].
    #[arg(long, value_name = "URL", value_parser = Endpoint::parse)]
    otlp_endpoint: Option<Endpoint>,
    /// What came out of that, once it is settled.
    #[arg(skip)]
    pub(crate) settled: Option<Collector>,
}

impl TracesArgs {
    /// Settles where they go. Files are read here, before they are out of reach.
    ///
    /// # Errors
    /// [`VerbError`] when a variable can't be read.
    pub(crate) fn settle(&mut self, telemetry: &Variables) -> Result<(), VerbError> {
        let settled = settled(self.otlp_endpoint.take(), |name| telemetry.0.get(name).cloned());
        self.settled = settled.map_err(|error| VerbError::of(Exit::Usage, &error))?;
        Ok(())
    }
}

/// OpenTelemetry's variables, of which some may be secrets.
#[derive(Clone, Default)]
pub(crate) struct Variables(BTreeMap<String, String>);

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// In the place of a value that isn't text: no address, protocol, list of pairs or path that there could be.
const UNREADABLE: &str = "\0";

impl Variables {
    /// Those among all. One that is set to nothing counts as not set.
    pub(crate) fn among(all: impl Iterator<Item = (OsString, OsString)>) -> Self {
        // What isn't text reads as what nothing accepts: it must end the start, and not count as not set.
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().unwrap_or_else(|_| UNREADABLE.to_owned())))
        };
        Self(all.filter_map(text).filter(|(name, value)| name.starts_with("OTEL_") && !value.is_empty()).collect())
    }
}

/// A setting of the collector that can't be used. It never shows a value, which may be a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectorError {
    /// No endpoint.
    #[error("`{variable}` names no collector")]
    Endpoint {
        variable: &'static str,
        #[source]
        source: EndpointError,
    },
    /// Another protocol.
    #[error("`{variable}` asks for another protocol than `http/protobuf`, and there is no other here")]
    Protocol { variable: &'static str },
    /// No list of pairs.
    #[error("`{variable}` is not a list of `name=value`, parted by commas")]
    Pairs { variable: &'static str },
    /// Secrets on their way in clear.
    #[error("`{variable}` has header fields for a collector that is asked in clear; use https, or one on this machine")]
    Clear { variable: &'static str },
    /// Certificates can't be read.
    #[error("`{variable}` names no file of certificates")]
    Certificates {
        variable: &'static str,
        #[source]
        source: std::io::Error,
    },
}

/// The collector, if there is one. The flag goes before the variables; everything else is the variables' to say.
///
/// # Errors
/// [`CollectorError`].
pub(crate) fn settled(
    flag: Option<Endpoint>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Collector>, CollectorError> {
    // Those for traces alone go before those for everything.
    let first = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, variable(name)?)));
    let off = |name: &str, word: &str| variable(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
    let endpoint = match (flag, first(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])) {
        (Some(flag), _) => flag,
        (None, _) if off("OTEL_SDK_DISABLED", "true") || off("OTEL_TRACES_EXPORTER", "none") => return Ok(None),
        (None, None) => return Ok(None),
        (None, Some((variable, text))) => {
            let whole = variable == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
            let read = if whole { Endpoint::parse_whole(&text) } else { Endpoint::parse(&text) };
            read.map_err(|source| CollectorError::Endpoint { variable, source })?
        }
    };
    let mut collector = Collector::at(endpoint);
    if let Some((variable, word)) = first(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"])
        && word != "http/protobuf"
    {
        return Err(CollectorError::Protocol { variable });
    }
    if let Some((variable, text)) = first(["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"]) {
        collector.headers = headers(&text).ok_or(CollectorError::Pairs { variable })?;
        if !collector.headers.is_empty() && !collector.endpoint.is_confidential() {
            return Err(CollectorError::Clear { variable });
        }
    }
    if let Some((variable, file)) = first(["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"]) {
        let read = std::fs::read_to_string(file);
        collector.roots_pem = Some(read.map_err(|source| CollectorError::Certificates { variable, source })?);
    }
    let named = "OTEL_RESOURCE_ATTRIBUTES";
    if let Some(text) = variable(named) {
        collector.attributes = pairs(&text).ok_or(CollectorError::Pairs { variable: named })?;
    }
    if let Some(name) = variable("OTEL_SERVICE_NAME") {
        collector.attributes.retain(|(key, _)| key != "service.name");
        collector.attributes.push(("service.name".to_owned(), name));
    }
    Ok(Some(collector))
}

/// `name=value` and so on, of which values are percent-encoded.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let mut pairs = Vec::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let (name, value) = (name.trim(), percent_decode_str(value.trim()).decode_utf8().ok()?);
        if name.is_empty() || value.chars().any(char::is_control) || pairs.len() == MAX_PAIRS {
            return None;
        }
        pairs.push((name.to_owned(), value.into_owned()));
    }
    Some(pairs)
}

fn headers(text: &str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(text)? {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        // What says where a request ends, what it is and to whom it goes is ours to say.
        if [HOST, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING].contains(&name) {
            return None;
        }
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: &[(&str, &str)]) -> Result<Option<Collector>, CollectorError> {
        settled(None, |name| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned()))
    }

    fn url(set: &[(&str, &str)]) -> String {
        with(set).unwrap().expect("a collector").endpoint.to_string()
    }

    #[test]
    fn what_is_no_text_ends_the_start_and_does_not_count_as_not_set() {
        use std::os::unix::ffi::OsStringExt;
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", b"https://otel.example".to_vec());
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", vec![0xff]),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", b"/etc/\xff.pem".to_vec()),
            ("OTEL_EXPORTER_OTLP_HEADERS", b"a=\xff".to_vec()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", vec![0xfe]),
        ] {
            let all = [endpoint.clone(), (name, value)].into_iter();
            let all = all.map(|(name, value)| (OsString::from(name), OsString::from_vec(value)));
            let set: std::collections::BTreeMap<String, String> = Variables::among(all).0.into_iter().collect();
            assert!(settled(None, |name| set.get(name).cloned()).is_err(), "{name}");
        }
    }

    #[test]
    fn the_variables_say_where_and_the_flag_goes_first() {
        assert!(with(&[]).unwrap().is_none());
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://otel.example/base/");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4318/own/path");
        assert_eq!(url(&[general]), "https://otel.example:443/base/v1/traces");
        assert_eq!(url(&[general, traces]), "http://127.0.0.1:4318/own/path");
        for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert!(with(&[general, off]).unwrap().is_none(), "{off:?}");
        }
        let flag = Endpoint::parse("http://[::1]:9").ok();
        let collector = settled(flag, |name| (name == general.0).then(|| general.1.to_owned())).unwrap().unwrap();
        assert_eq!(collector.endpoint.to_string(), "http://[::1]:9/v1/traces");
    }

    #[test]
    fn what_goes_along_is_read_and_never_shown() {
        let set = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://otel.example"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20c2VjcmV0, x-scope = a%2Cb ,"),
            ("OTEL_SERVICE_NAME", "edge"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=prod%20eu"),
        ];
        let collector = with(&set).unwrap().unwrap();
        assert_eq!(collector.headers["authorization"], "Basic c2VjcmV0");
        assert_eq!(collector.headers["x-scope"], "a,b");
        assert!(!format!("{collector:?}").contains("c2VjcmV0"));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            collector.attributes,
            [pair("deployment.environment.name", "prod eu"), pair("service.name", "edge")]
        );
    }

    #[test]
    fn what_can_not_be_read_is_refused_without_showing_it() {
        let (https, http) = ("https://otel.example", "http://otel.example:4318");
        for (endpoint, name, value) in [
            ("otel.example", "OTEL_SERVICE_NAME", "x"),
            (https, "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            (https, "OTEL_EXPORTER_OTLP_HEADERS", "tok3n"),
            (https, "OTEL_EXPORTER_OTLP_HEADERS", "x=tok3n%0d%0ay: z"),
            (https, "OTEL_EXPORTER_OTLP_HEADERS", "host=tok3n"),
            (https, "OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent/ca.pem"),
            (https, "OTEL_RESOURCE_ATTRIBUTES", "=tok3n"),
            (http, "OTEL_EXPORTER_OTLP_HEADERS", "authorization=tok3n"),
        ] {
            let error = with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), (name, value)]).expect_err(name);
            assert!(!format!("{error} {error:?}").contains("tok3n"), "{error:?}");
        }
        // To a collector on this machine nothing leaves it.
        let here = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318"), ("OTEL_EXPORTER_OTLP_HEADERS", "a=b")];
        assert_eq!(with(&here).unwrap().unwrap().headers["a"], "b");
    }
}

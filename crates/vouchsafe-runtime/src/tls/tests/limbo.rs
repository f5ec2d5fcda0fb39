//! A173: the cases of x509-limbo through both verifiers. Each is answered as it says, or stands
//! below with the reason why not.
//!
//! `limbo.json` beside this file holds 97 of the 208 (C2SP/x509-limbo at 8a2e6f4, made with its own
//! generator; Apache-2.0, © its contributors). `VOUCHSAFE_LIMBO=<limbo.json>` runs the whole suite.

use std::collections::BTreeSet;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::peers::domain;
use crate::tls::verify::{ClientRole, Clients, Servers};
use crate::tls::{CertificateRefusal, ServerTrust};

const CASES: &str = include_str!("limbo.json");

/// Why cases end otherwise than they say.
const DIFFERENT: &[(&str, &[&str])] = &[
    // Refused here, though they may pass.
    (
        "name constraints on directory names are not understood, so nothing passes them",
        &["rfc5280::nc::permitted-dn-match"],
    ),
    (
        "an authority's own certificate is no end's, also where RFC 5280 leaves it open",
        &["pathlen::validation-ignores-pathlen-in-leaf", "rfc5280::ca-as-leaf"],
    ),
    (
        "no path goes through authorities that issued for their own name",
        &["pathlen::self-issued-certs-pathlen", "rfc5280::nc::permitted-self-issued"],
    ),
    ("more certificates in the chain than are looked at", &["cve::cve-2024-0567"]),
    (
        "the intermediate is for servers only, and what it issues is no more",
        &[
            "rfc5280::nc::nc-permits-email-domain",
            "rfc5280::nc::nc-permits-email-exact",
            "rfc5280::nc::nc-permits-email-literal-asterisk-exact-match",
            "rfc5280::nc::nc-permits-email-literal-double-asterisk",
            "rfc5280::nc::nc-permits-email-literal-mid-asterisk",
        ],
    ),
    // Accepted here, though they need not be.
    (
        "revocation lists are not read (A175): devices are revoked by facts",
        &[
            "crl::crlnumber-critical",
            "crl::crlnumber-missing",
            "crl::issuer-missing-crlsign",
            "crl::revoked-certificate-with-crl",
        ],
    ),
    (
        "the longest path is fixed, not a setting",
        &["pathlen::max-chain-depth-0-exhausted", "pathlen::max-chain-depth-1-exhausted"],
    ),
    (
        "a root is a name and a key that the operator chose (RFC 5280 §6.1.1 d); nothing else in it counts",
        &[
            "rfc5280::aki::cross-signed-root-missing-aki",
            "rfc5280::root-inconsistent-ca-extensions",
            "rfc5280::root-missing-basic-constraints",
            "rfc5280::root-non-critical-basic-constraints",
            "rfc5280::ski::root-missing-ski",
            "rfc5280::unknown-critical-extension-root",
            "rfc5280::validity::expired-root",
            "webpki::aki::root-with-aki-all-fields",
            "webpki::aki::root-with-aki-authoritycertissuer",
            "webpki::aki::root-with-aki-authoritycertserialnumber",
            "webpki::aki::root-with-aki-missing-keyidentifier",
            "webpki::aki::root-with-aki-ski-mismatch",
            "webpki::eku::root-has-eku",
        ],
    ),
    (
        "key identifiers only help to find a path; each signature is verified with the key itself",
        &[
            "rfc5280::aki::critical-aki",
            "rfc5280::aki::intermediate-missing-aki",
            "rfc5280::aki::leaf-missing-aki",
            "rfc5280::ski::critical-ski",
            "rfc5280::ski::intermediate-missing-ski",
        ],
    ),
    (
        "the subject counts for nothing, whatever stands in it",
        &[
            "rfc5280::ca-empty-subject",
            "rfc5280::san::noncritical-with-empty-subject",
            "webpki::cn::case-mismatch",
            "webpki::cn::ipv4-hex-mismatch",
            "webpki::cn::ipv4-leading-zeros-mismatch",
            "webpki::cn::ipv6-non-rfc5952-mismatch",
            "webpki::cn::ipv6-uncompressed-mismatch",
            "webpki::cn::ipv6-uppercase-mismatch",
            "webpki::cn::not-in-san",
            "webpki::cn::punycode-not-in-san",
            "webpki::cn::utf8-vs-punycode-mismatch",
            "webpki::san::san-critical-with-nonempty-subject",
        ],
    ),
    (
        "name constraints count whether critical or not, and what is odd in them never widens them",
        &[
            "rfc5280::nc::invalid-dnsname-leading-period",
            "rfc5280::nc::permitted-dns-match-noncritical",
            "webpki::nc::intermediate-permitted-excluded-subtrees-both-empty-sequences",
            "webpki::nc::intermediate-permitted-excluded-subtrees-both-null",
        ],
    ),
    (
        "nobody asks for a certificate policy, so constraints of policies constrain nothing",
        &["rfc5280::pc::ica-noncritical-pc"],
    ),
    (
        "whoever uses a certificate should bear such numbers (RFC 5280 §4.1.2.2)",
        &["rfc5280::serial::too-long", "rfc5280::serial::zero"],
    ),
    (
        "a rule for public authorities (CA/Browser Forum); upstreams have authorities of their own",
        &[
            "rfc5280::san::underscore-dns",
            "webpki::eku::ee-anyeku",
            "webpki::eku::ee-critical-eku",
            "webpki::eku::ee-without-eku",
            "webpki::forbidden-rsa-key-not-divisible-by-8-in-leaf",
            "webpki::forbidden-rsa-not-divisible-by-8-in-root",
            "webpki::san::public-suffix-multi-label-wildcard-san",
            "webpki::san::public-suffix-private-namespace-wildcard-san",
        ],
    ),
    ("where to ask about a certificate is not read, since nobody asks there", &["webpki::malformed-aia"]),
];

#[derive(Deserialize)]
struct Limbo {
    testcases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    validation_kind: Kind,
    trusted_certs: Vec<String>,
    untrusted_intermediates: Vec<String>,
    peer_certificate: String,
    validation_time: Option<String>,
    expected_result: Expected,
    expected_peer_name: Option<PeerName>,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
enum Kind {
    Server,
    Client,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
enum Expected {
    Success,
    Failure,
}

#[derive(Deserialize)]
struct PeerName {
    value: String,
}

impl Case {
    fn run(&self) -> Result<(), CertificateRefusal> {
        let mut roots = RootCertStore::empty();
        for root in read(&self.trusted_certs)? {
            // What can't be a root refuses to start.
            roots.add(root).map_err(|_| CertificateRefusal::Unreadable)?;
        }
        let intermediates = read(&self.untrusted_intermediates)?;
        let leaf = read(std::slice::from_ref(&self.peer_certificate))?.remove(0);
        let now = self
            .validation_time
            .as_ref()
            .map_or_else(OffsetDateTime::now_utc, |time| OffsetDateTime::parse(time, &Rfc3339).expect("a time"));
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.unix_timestamp().try_into().unwrap()));
        match self.validation_kind {
            Kind::Server => {
                let name = self.expected_peer_name.as_ref().map_or("nobody.example", |name| name.value.as_str());
                let name = ServerName::try_from(name).map_err(|_| CertificateRefusal::ServerName)?;
                Servers::new(ServerTrust::Roots(roots.into())).verify(&leaf, &intermediates, &name, now)
            }
            // None of them is of our profile, so only what comes before it is compared.
            Kind::Client => {
                match Clients::new(ClientRole::Device, roots.into(), domain()).verify(&leaf, &intermediates, now) {
                    Ok(_) | Err(CertificateRefusal::OtherNames | CertificateRefusal::NoName) => Ok(()),
                    Err(refusal) => Err(refusal),
                }
            }
        }
    }
}

fn read(pems: &[String]) -> Result<Vec<CertificateDer<'static>>, CertificateRefusal> {
    pems.iter()
        .map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| CertificateRefusal::Unreadable))
        .collect()
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a path for whoever runs the whole suite")]
fn a173_the_verifiers_answer_as_x509_limbo_says() {
    let whole = std::env::var("VOUCHSAFE_LIMBO").ok();
    let text = whole.map_or_else(|| CASES.to_owned(), |path| std::fs::read_to_string(path).expect("readable"));
    let limbo: Limbo = serde_json::from_str(&text).expect("cases");
    let mut differ = BTreeSet::new();
    for case in &limbo.testcases {
        if case.run().is_ok() != (case.expected_result == Expected::Success) {
            differ.insert(case.id.as_str());
        }
    }
    assert!(limbo.testcases.len() >= 90);
    let there: BTreeSet<&str> = limbo.testcases.iter().map(|case| case.id.as_str()).collect();
    let explained = DIFFERENT.iter().flat_map(|(_, cases)| *cases).copied();
    assert_eq!(differ, explained.filter(|case| there.contains(case)).collect());
}

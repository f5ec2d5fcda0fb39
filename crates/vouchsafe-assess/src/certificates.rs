//! Certificates that the configurations name: how long they hold, what they rest on, whose names they have.

use std::collections::BTreeMap;

use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::finding::{Area, Evidence, Severity};
use crate::kinds;
use crate::notes::Notes;
use crate::postgres::Database;
use crate::source::Source;
use crate::web::{CertificateFiles, Site};

/// Certificates that end earlier are named.
const SOON_DAYS: u64 = 21;
/// Most certificates read.
const MAX_CERTIFICATES: usize = 5_000;

/// What matters of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Unix seconds.
    pub ends: u64,
    /// Why what it rests on is weak.
    pub weakness: Option<String>,
    pub vouches_for_itself: bool,
    /// Names and addresses that it has.
    pub names: Vec<String>,
}

/// Facts of the first certificate in a text, which is the server's own.
pub(crate) fn facts(text: &[u8]) -> Result<Facts, &'static str> {
    let mut pems = Pem::iter_from_buffer(text).take(64);
    let pem = pems.find_map(|pem| match pem {
        Ok(pem) if pem.label == "CERTIFICATE" => Some(Ok(pem)),
        Ok(_) => None,
        Err(_) => Some(Err("it is no PEM")),
    });
    let pem = pem.ok_or("there is no certificate in it")??;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).map_err(|_| "the certificate is damaged")?;
    let ends = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
    let itself = certificate.subject().as_raw() == certificate.issuer().as_raw();
    let mut names: Vec<String> = Vec::new();
    if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
        for name in alternative.value.general_names.iter().take(1_000) {
            match name {
                GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
                _ => {}
            }
        }
    }
    let vouches_for_itself = itself && certificate.verify_signature(None).is_ok();
    Ok(Facts { ends, weakness: weakness(&certificate), vouches_for_itself, names })
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| std::net::Ipv6Addr::from(sixteen).to_string())
}

fn weakness(certificate: &X509Certificate<'_>) -> Option<String> {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() < 2_048 => {
            return Some(format!("its RSA key has {} bits", key.key_size()));
        }
        Ok(PublicKey::DSA(_)) => return Some("its key is DSA".to_owned()),
        Ok(PublicKey::EC(point)) if point.key_size() < 256 => {
            return Some(format!("its curve has {} bits", point.key_size()));
        }
        _ => {}
    }
    // sha1WithRSAEncryption, md5WithRSAEncryption, ecdsa-with-SHA1
    match certificate.signature_algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.4" => Some("it is signed over MD5".to_owned()),
        "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" => Some("it is signed over SHA-1".to_owned()),
        _ => None,
    }
}

/// Whether one of the certificate's names is that one. A star stands for one label.
pub(crate) fn has_name(names: &[String], wanted: &str) -> bool {
    let wanted = wanted.to_ascii_lowercase();
    names.iter().any(|name| {
        *name == wanted
            || name
                .strip_prefix("*.")
                .is_some_and(|parent| wanted.split_once('.').is_some_and(|(_, rest)| rest == parent))
    })
}

/// Looks at the certificates of sites and databases.
pub(crate) fn look(source: &Source, now: u64, sites: &[Site], databases: &[Database], notes: &mut Notes) {
    let mut wanted: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut keys: Vec<String> = Vec::new();
    let mut take = |files: &CertificateFiles| {
        keys.extend(files.key.clone());
        files.certificate.clone()
    };
    for site in sites {
        let names = site.names.iter().map(String::as_str).filter(|name| is_plain(name));
        let names: Vec<&str> = names.collect();
        for files in &site.certificates {
            wanted.entry(take(files)).or_default().extend(&names);
        }
    }
    for (certificate, key) in databases.iter().filter_map(|database| database.certificate.as_ref()) {
        let files = CertificateFiles { certificate: certificate.clone(), key: Some(key.clone()) };
        wanted.entry(take(&files)).or_default();
    }
    if wanted.len() > MAX_CERTIFICATES {
        notes.gap(
            Area::Certificates,
            "",
            None,
            "too many certificates; not all were read",
            "look at the others by hand",
        );
    }
    for (file, names) in wanted.into_iter().take(MAX_CERTIFICATES) {
        let Some(text) = notes.text(Area::Certificates, source, &file) else {
            if !source.is_there(&file) {
                notes.gap(
                    Area::Certificates,
                    &file,
                    None,
                    "a configuration names it, and it is not there",
                    "put it there, or take the line out",
                );
            }
            continue;
        };
        match facts(text.as_bytes()) {
            Ok(facts) => judge(&file, &facts, &names, now, notes),
            Err(why) => notes.gap(Area::Certificates, &file, None, why, "replace the file"),
        }
    }
    keys.sort();
    keys.dedup();
    for key in keys {
        let Ok(stat) = source.stat(&key) else { continue };
        if stat.mode & 0o007 != 0 || stat.mode & 0o020 != 0 {
            let copy = if source.label().is_some() { ", of the collected copy" } else { "" };
            let seen = Evidence::file(&key, format!("mode {:04o}{copy}", stat.mode));
            notes.find(
                &kinds::CERT_KEY_READABLE,
                &key,
                "Others may read or write the private key of a certificate.",
                vec![seen],
            );
        }
    }
}

/// A name that stands for one host.
fn is_plain(name: &str) -> bool {
    name.contains('.') && !name.starts_with(['~', '*', '.']) && !name.contains(['*', '$', '{', '/'])
}

fn judge(file: &str, facts: &Facts, names: &[&str], now: u64, notes: &mut Notes) {
    let day = |seconds: u64| crate::report::day(seconds);
    let seen = |what: String| vec![Evidence::file(file, what)];
    if facts.ends < now {
        let what = format!("The certificate ended {} days ago.", (now - facts.ends) / 86_400);
        notes.find(&kinds::CERT_EXPIRED, file, what, seen(format!("good until {}", day(facts.ends))));
    } else if facts.ends - now < SOON_DAYS * 86_400 {
        let what = format!("The certificate ends in {} days.", (facts.ends - now) / 86_400);
        notes.find(&kinds::CERT_ENDS_SOON, file, what, seen(format!("good until {}", day(facts.ends))));
    }
    if let Some(why) = &facts.weakness {
        notes.find(&kinds::CERT_WEAK, file, format!("The certificate is weak: {why}."), seen(why.clone()));
    }
    if facts.vouches_for_itself {
        let what = "The certificate is signed by its own key.";
        notes.find_as(
            &kinds::CERT_SELF_SIGNED,
            Severity::Low,
            file,
            what,
            seen("issuer and subject are the same".to_owned()),
        );
    }
    for name in names {
        if !has_name(&facts.names, name) {
            let what = format!("The certificate does not have the name `{}`.", crate::text::short(name, 100));
            let list = crate::text::short(&facts.names.join(", "), 120);
            notes.find(&kinds::CERT_WRONG_NAME, format!("{file} for {name}"), what, seen(format!("its names: {list}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn made() -> String {
        let params =
            CertificateParams::new(vec!["a.example".to_owned(), "*.b.example".to_owned(), "10.0.0.1".to_owned()])
                .unwrap();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn names_and_ends_are_read() {
        let facts = facts(made().as_bytes()).unwrap();
        assert!(facts.vouches_for_itself && facts.weakness.is_none());
        assert_eq!(facts.names, ["a.example", "*.b.example", "10.0.0.1"]);
        assert!(has_name(&facts.names, "A.example") && has_name(&facts.names, "x.b.example"));
        assert!(!has_name(&facts.names, "x.y.b.example") && !has_name(&facts.names, "b.example"));
        let mut notes = Notes::default();
        judge("/c.pem", &facts, &["a.example", "c.example"], facts.ends + 86_400 * 3, &mut notes);
        let ids: Vec<_> = notes.findings.iter().map(|found| found.id).collect();
        assert_eq!(ids, ["cert-expired", "cert-self-signed", "cert-wrong-name"]);
    }

    #[test]
    fn what_is_no_certificate_is_an_error() {
        assert!(facts(b"").is_err());
        assert!(facts(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_broken(at in 0..900_usize, byte in any::<u8>()) {
            use base64::Engine as _;
            let pem = made();
            let (_, parsed) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
            let mut der = parsed.contents;
            let length = der.len();
            der[at % length] = byte;
            let text = base64::engine::general_purpose::STANDARD.encode(&der);
            let _ = facts(format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n").as_bytes());
        }
    }
}

//! The file that says which witnesses are asked to cosign checkpoints of the audit log (`docs/guide/audit.md`).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vouchsafe_control::{Witness, Witnesses};
use vouchsafe_runtime::spans::{Endpoint, EndpointError};
use vouchsafe_runtime::tls::{self, TlsError};
use vouchsafe_tlog::note::{KeyKind, VerifierKey};

use crate::error::VerbError;
use crate::exit::Exit;

/// Most witnesses of one log: a note has room for their signatures.
const MOST: usize = 16;
/// Longest file.
const MAX_BYTES: u64 = 256 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// How many must cosign; all when it isn't said.
    quorum: Option<usize>,
    #[serde(default)]
    witness: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    url: String,
    key: String,
    /// A relative one lies beside the file.
    ca_file: Option<PathBuf>,
}

/// Failure to take the file in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WitnessesError {
    /// A file can't be read.
    #[error("`{path}` can't be read", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// It is no TOML of the right form.
    #[error("`{path}` is not a list of witnesses", path = path.display())]
    Form {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// It lists none, or too many.
    #[error("`{path}` lists {number} witnesses; 1 to {MOST} may be", path = path.display())]
    Number {
        /// Which.
        path: PathBuf,
        /// How many.
        number: usize,
    },
    /// The quorum can't be reached, or is none.
    #[error("`{path}` wants {quorum} cosignatures of {number} witnesses; 1 to {number} may be", path = path.display())]
    Quorum {
        /// Which.
        path: PathBuf,
        /// As given.
        quorum: usize,
        /// How many witnesses there are.
        number: usize,
    },
    /// The address won't do.
    #[error("witness `{url}`: {source}")]
    Url {
        /// As given.
        url: String,
        /// Which rule was broken.
        source: EndpointError,
    },
    /// Others could answer in its place.
    #[error("witness `{url}`: without TLS it must be on this machine; give its address with https://")]
    Open {
        /// As given.
        url: String,
    },
    /// It is no key of a witness.
    #[error("witness `{url}`: its `key` is not what `vouchsafe witness key` shows")]
    Key {
        /// Its address.
        url: String,
    },
    /// Two have one key.
    #[error("two witnesses have the key of `{name}`; one of them would count twice")]
    Twice {
        /// Name of the key.
        name: String,
    },
    /// Its roots can't be read.
    #[error("witness `{url}`")]
    Roots {
        /// Its address.
        url: String,
        /// Cause.
        #[source]
        source: TlsError,
    },
}

impl From<WitnessesError> for VerbError {
    fn from(error: WitnessesError) -> Self {
        Self::of(Exit::Failed, &error)
    }
}

/// Reads the file, and the roots that it names. None is named: nobody is asked.
///
/// # Errors
/// [`WitnessesError`].
pub(crate) fn read(path: Option<&Path>) -> Result<Witnesses, WitnessesError> {
    let Some(path) = path else { return Ok(Witnesses::default()) };
    let text = text_of(path)?;
    let File { quorum, witness } = toml::from_str(&text)
        .map_err(|source| WitnessesError::Form { path: path.to_owned(), source: Box::new(source) })?;
    let number = witness.len();
    if !(1..=MOST).contains(&number) {
        return Err(WitnessesError::Number { path: path.to_owned(), number });
    }
    let quorum = quorum.unwrap_or(number);
    if !(1..=number).contains(&quorum) {
        return Err(WitnessesError::Quorum { path: path.to_owned(), quorum, number });
    }
    let beside = path.parent().unwrap_or(Path::new(""));
    let mut keys = BTreeSet::new();
    let mut list = Vec::with_capacity(number);
    for Entry { url, key, ca_file } in witness {
        let shown: String = url.chars().take(200).collect();
        let endpoint =
            Endpoint::parse_whole(&url).map_err(|source| WitnessesError::Url { url: shown.clone(), source })?;
        if !endpoint.is_confidential() {
            return Err(WitnessesError::Open { url: shown });
        }
        let wrong = || WitnessesError::Key { url: shown.clone() };
        let key = VerifierKey::parse(&key).ok().filter(|key| key.kind() == KeyKind::Cosignature).ok_or_else(wrong)?;
        if !keys.insert(key.to_string()) {
            return Err(WitnessesError::Twice { name: key.name().to_owned() });
        }
        let roots_pem = ca_file.map(|file| text_of(&beside.join(file))).transpose()?;
        if let Some(pem) = &roots_pem {
            tls::roots(pem, "root of the witness").map_err(|source| WitnessesError::Roots { url: shown, source })?;
        }
        list.push(Witness { endpoint, key, roots_pem });
    }
    Ok(Witnesses { list, quorum })
}

fn text_of(path: &Path) -> Result<String, WitnessesError> {
    let failed = |source| WitnessesError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > MAX_BYTES {
        return Err(failed(io::Error::other(format!("it is longer than {MAX_BYTES} bytes"))));
    }
    std::fs::read_to_string(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "witness.example/w1+d8b55d98+BG8xnwT9hU33n+z1VKyHBSbV1a5VQZbHm6mX4wDQ8SlF";

    #[test]
    fn mistakes_in_the_file_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("witnesses.toml");
        let of = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(Some(&path))
        };
        let key = |byte: u8| {
            // Of the form alone: no private key is needed.
            let signer = vouchsafe_tlog::note::NoteSigner::from_pkcs8(
                &format!("witness.example/{byte}"),
                KeyKind::Cosignature,
                &pkcs8(byte),
            );
            signer.unwrap().verifier().to_string()
        };
        let entry = |url: &str, key: &str| format!("[[witness]]\nurl = \"{url}\"\nkey = \"{key}\"\n");
        let two = entry("https://w1.example/w", &key(1)) + &entry("http://127.0.0.1:8455", &key(2));
        let read_two = of(&two).unwrap();
        assert_eq!((read_two.list.len(), read_two.quorum), (2, 2));
        assert_eq!(of(&format!("quorum = 1\n{two}")).unwrap().quorum, 1);
        assert!(read(None).unwrap().list.is_empty());
        let ca = entry("https://w1.example", &key(1)) + "ca_file = \"absent.pem\"\n";
        std::fs::write(dir.path().join("empty.pem"), "").unwrap();
        let empty = entry("https://w1.example", &key(1)) + "ca_file = \"empty.pem\"\n";
        for (text, part) in [
            (String::new(), "lists 0"),
            (format!("quorum = 3\n{two}"), "wants 3"),
            (format!("quorum = 0\n{two}"), "wants 0"),
            (entry("http://w1.example", &key(1)), "without TLS"),
            (entry("ftp://w1.example", &key(1)), "http://"),
            (entry("https://a:b@w1.example", &key(1)), "no user"),
            (entry("https://w1.example", FIRST), "not what"),
            (entry("https://w1.example", "x"), "not what"),
            (two.replace(&key(2), &key(1)), "would count twice"),
            (ca, "can't be read"),
            (empty, "w1.example"),
            (format!("{two}port = 1"), "not a list"),
        ] {
            let error = of(&text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    /// An Ed25519 key of a seed (RFC 8410).
    fn pkcs8(byte: u8) -> Vec<u8> {
        let head = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        [head.as_slice(), &[byte; 32]].concat()
    }
}

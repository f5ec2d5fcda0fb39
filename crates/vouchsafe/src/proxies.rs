//! The file that says which existing proxies may ask a gateway for their clients (`docs/guide/existing-proxies.md`).

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vouchsafe_gateway::{Proxy, ProxyError, ProxyKind, ProxySecret};
use vouchsafe_model::name::{NameError, ResourceName, SiteName};
use zeroize::Zeroizing;

use crate::error::VerbError;
use crate::exit::Exit;

/// Most proxies of one gateway.
const MOST: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    proxy: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    kind: String,
    /// A relative one lies beside the file.
    secret_file: PathBuf,
    resources: Vec<String>,
}

/// Failure to take the file in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxiesError {
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
    #[error("`{path}` is not a list of proxies", path = path.display())]
    Form {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// It lists none, or too many.
    #[error("`{path}` lists {number} proxies; 1 to {MOST} may be", path = path.display())]
    Number {
        /// Which.
        path: PathBuf,
        /// How many.
        number: usize,
    },
    /// A name is not acceptable.
    #[error("proxy `{proxy}`: {source}")]
    Name {
        /// Its name as given.
        proxy: String,
        /// Which rule was broken.
        source: NameError,
    },
    /// The kind is unknown.
    #[error("proxy `{proxy}`: `kind` is `{given}`, but must be nginx, caddy, traefik or envoy")]
    Kind {
        /// Its name.
        proxy: String,
        /// As given.
        given: String,
    },
    /// Two have one name.
    #[error("two proxies are called `{proxy}`")]
    Twice {
        /// The name.
        proxy: String,
    },
    /// Everybody on this machine can read its secret.
    #[error("proxy `{proxy}`: everybody on this machine may read `{path}`; `chmod 640` it", path = path.display())]
    Open {
        /// Its name.
        proxy: String,
        /// The file.
        path: PathBuf,
    },
    /// Its secret or its resources won't do.
    #[error("proxy `{proxy}`: {source}")]
    Proxy {
        /// Its name.
        proxy: String,
        /// Which rule was broken.
        source: ProxyError,
    },
}

impl From<ProxiesError> for VerbError {
    fn from(error: ProxiesError) -> Self {
        Self::of(Exit::Failed, &error)
    }
}

/// Reads the file, and the secrets that it names. None is named: no proxy may ask.
///
/// # Errors
/// [`ProxiesError`].
pub(crate) fn read(path: Option<&Path>) -> Result<Vec<Proxy>, ProxiesError> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ProxiesError::Read { path, source }
    };
    let text = std::fs::read_to_string(path).map_err(failed(path))?;
    let file: File = toml::from_str(&text)
        .map_err(|source| ProxiesError::Form { path: path.to_owned(), source: Box::new(source) })?;
    if !(1..=MOST).contains(&file.proxy.len()) {
        return Err(ProxiesError::Number { path: path.to_owned(), number: file.proxy.len() });
    }
    let beside = path.parent().unwrap_or(Path::new(""));
    let mut names = BTreeSet::new();
    let mut proxies = Vec::with_capacity(file.proxy.len());
    for Entry { name: proxy, kind, secret_file, resources } in file.proxy {
        let bad_name = |source| ProxiesError::Name { proxy: proxy.clone(), source };
        let name = SiteName::parse(&proxy).map_err(bad_name)?;
        let resources =
            resources.iter().map(|name| ResourceName::parse(name)).collect::<Result<_, _>>().map_err(bad_name)?;
        let kind = ProxyKind::from_word(&kind)
            .ok_or_else(|| ProxiesError::Kind { proxy: proxy.clone(), given: kind.chars().take(80).collect() })?;
        if !names.insert(name.clone()) {
            return Err(ProxiesError::Twice { proxy });
        }
        let secret_file = beside.join(secret_file);
        let mode = std::fs::metadata(&secret_file).map_err(failed(&secret_file))?.permissions().mode();
        if mode & 0o007 != 0 {
            return Err(ProxiesError::Open { proxy, path: secret_file });
        }
        let secret = Zeroizing::new(std::fs::read_to_string(&secret_file).map_err(failed(&secret_file))?);
        let unfit = |source| ProxiesError::Proxy { proxy: proxy.clone(), source };
        let secret = ProxySecret::new(&secret).map_err(unfit)?;
        proxies.push(Proxy::new(&name, kind, secret, resources).map_err(unfit)?);
    }
    Ok(proxies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_in_the_file_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str, mode| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        put("good", &"s".repeat(40), 0o640);
        put("open", &"s".repeat(40), 0o644);
        put("short", "s", 0o600);
        let entry = |name: &str, kind: &str, secret: &str, resources: &str| {
            format!(
                "[[proxy]]\nname = \"{name}\"\nkind = \"{kind}\"\nsecret_file = \"{secret}\"\nresources = {resources}\n"
            )
        };
        let of = |text: &str| read(Some(&put("proxies.toml", text, 0o600)));
        let two = entry("edge", "nginx", "good", "[\"wiki\"]") + &entry("mesh", "envoy", "good", "[\"wiki\", \"git\"]");
        assert_eq!(of(&two).unwrap().len(), 2);
        assert!(read(None).unwrap().is_empty());
        for (text, part) in [
            (String::new(), "lists 0"),
            (entry("edge", "nginx", "good", "[]"), "no resource"),
            (entry("edge", "apache", "good", "[\"wiki\"]"), "nginx, caddy"),
            (entry("edge", "nginx", "open", "[\"wiki\"]"), "everybody on this machine"),
            (entry("edge", "nginx", "short", "[\"wiki\"]"), "secret must be"),
            (entry("edge", "nginx", "absent", "[\"wiki\"]"), "can't be read"),
            (entry("edge", "nginx", "good", "[\"auth\"]"), "vouchsafe's own"),
            (entry("e dge", "nginx", "good", "[\"wiki\"]"), "not a valid"),
            (entry("edge", "nginx", "good", "[\"wiki\"]").repeat(2), "two proxies"),
            (entry("edge", "nginx", "good", "[\"wiki\"]\nport = 1"), "not a list"),
        ] {
            let error = of(&text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}

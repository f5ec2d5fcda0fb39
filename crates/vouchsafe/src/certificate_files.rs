//! The operator's certificate in its two files, read again when they change or on SIGHUP.
//!
//! What can't be used is never shown: chain and key are loaded both, checked to belong together, and
//! only then replace what is shown, so a moment in which one file is new and the other old does no
//! harm. The files may be renamed over, written in place, or reached through a changed link.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use vouchsafe_gateway::BrowserCertificate;
use vouchsafe_runtime::task::TaskGroup;

use crate::wiring::UpError;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(5);

/// Where chain and key lie.
pub(crate) struct CertificateFiles {
    chain: PathBuf,
    key: PathBuf,
}

/// What tells one state of a file from another: device, inode, length and the time of the last
/// change, to the nanosecond. `None` when it can't be read.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

impl CertificateFiles {
    pub(crate) fn new(chain: PathBuf, key: PathBuf) -> Self {
        Self { chain, key }
    }

    pub(crate) fn read(&self) -> Result<BrowserCertificate, UpError> {
        let read =
            |path: &Path| fs::read_to_string(path).map_err(|source| UpError::File { path: path.to_owned(), source });
        Ok(BrowserCertificate { chain_pem: read(&self.chain)?, key_pem: read(&self.key)?.into() })
    }

    /// Follows the files until the drain; `replace` shows what was read from now on.
    pub(crate) async fn follow<E: std::error::Error + 'static>(
        self,
        replace: impl Fn(&BrowserCertificate) -> Result<(), E>,
        now: Arc<Notify>,
        tasks: TaskGroup,
    ) {
        let mut seen = self.stamps();
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(EVERY) => false,
                () = now.notified() => true,
                () = tasks.draining() => return,
            };
            let present = self.stamps();
            if present == seen && !asked {
                continue;
            }
            seen = present;
            self.take(&replace);
        }
    }

    fn take<E: std::error::Error + 'static>(&self, replace: &impl Fn(&BrowserCertificate) -> Result<(), E>) {
        let (chain, key) = (self.chain.display(), self.key.display());
        let failed: Box<dyn std::error::Error> = match self.read() {
            Ok(given) => match replace(&given) {
                Ok(()) => return tracing::info!(%chain, "the new certificate is shown from now on"),
                Err(error) => error.into(),
            },
            Err(error) => error.into(),
        };
        tracing::warn!(
            %chain, %key, error = &*failed,
            "the certificate can't be used, so the one before is shown; it is read again when a file changes"
        );
    }

    fn stamps(&self) -> [Stamp; 2] {
        [&self.chain, &self.key].map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.dev(), metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
        })
    }
}

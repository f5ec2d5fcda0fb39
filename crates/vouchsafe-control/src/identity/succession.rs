//! Which certificate of a device or gateway stands at the end of its line, so that a copy is found out (A283).
//!
//! Each certificate is issued for the one before. Only the newest is renewed; the one before it too,
//! for as long as the newest was not seen, since its answer may never have arrived. An original and its
//! copy have the same key and begin with the same certificate, but as soon as one of them uses what it was
//! issued, the other holds an outdated one, which is refused and recorded, and ends soon.
//! Access of a device needs tokens of the certificate it is used with, so nothing of worth is done without being
//! seen here.

use std::time::SystemTime;

use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::ProvenDevice;
use vouchsafe_wire::ticket::hex;

use super::secret::same;
use crate::store::certified::{self, Certificates, Holder};
use crate::store::{StoreError, Write};

/// Where a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is the newest.
    Newest,
    /// It was replaced by one that nobody has seen yet.
    Replaced,
    /// Another has been used since.
    Outdated,
}

/// A certificate that a connection proved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    pub(crate) holder: Holder,
    /// Digest of its DER.
    pub(crate) sha256: [u8; 32],
    pub(crate) not_after: SystemTime,
}

impl Shown {
    /// That of a device.
    pub(crate) fn of(proven: &ProvenDevice) -> Self {
        let ProvenDevice { id, certificate_sha256, not_after } = proven;
        Self { holder: Holder::Device(*id), sha256: *certificate_sha256, not_after: *not_after }
    }

    /// Where it stands.
    pub(crate) fn standing(&self, known: &Certificates) -> Standing {
        let digest = hex(&self.sha256);
        let is_newest = match &known.newest {
            Some(newest) => same(newest, &digest),
            None => clock::unix_seconds(self.not_after) == known.newest_expires,
        };
        match &known.replaced {
            _ if is_newest => Standing::Newest,
            Some(replaced) if same(replaced, &digest) => Standing::Replaced,
            Some(_) | None => Standing::Outdated,
        }
    }
}

/// Notes that this certificate is in use. `None` when its holder is none of ours.
pub(crate) async fn seen(write: &mut Write, shown: Shown) -> Result<Option<Standing>, StoreError> {
    let Some(known) = certified::certificates(write.connection(), shown.holder).await? else { return Ok(None) };
    let standing = shown.standing(&known);
    if standing == Standing::Newest && known.replaced.is_some() {
        certified::newest_seen(write.connection(), shown.holder).await?;
    }
    Ok(Some(standing))
}

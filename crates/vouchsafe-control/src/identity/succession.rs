//! Which of a device's certificates stands at the end of its line, so that a copy of a device is found
//! out (A283).
//!
//! Each certificate is issued for the one before. Only the newest is renewed; the one before it too,
//! for as long as the newest was not seen, since its answer may never have arrived. Device and copy
//! have the same key and begin with the same certificate, but as soon as one of them uses what it was
//! issued, the other holds an outdated one, which is refused and recorded, and ends within a day.
//! Access needs tokens of the certificate it is used with, so nothing of worth is done without being
//! seen here.

use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::ProvenDevice;
use vouchsafe_wire::ticket::hex;

use super::secret::same;
use crate::store::enrolment::{self, Certificates};
use crate::store::{StoreError, Write};

/// Where a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is the newest.
    Newest,
    /// It was replaced by one that nobody has seen yet.
    Replaced,
    /// Another has been used since.
    Outdated,
}

/// How a certificate is known in the store.
pub(super) fn digest(proven: &ProvenDevice) -> String {
    hex(&proven.certificate_sha256)
}

/// Where the certificate of this connection stands.
pub(super) fn standing(known: &Certificates, proven: &ProvenDevice) -> Standing {
    let digest = digest(proven);
    let is_newest = match &known.newest {
        Some(newest) => same(newest, &digest),
        None => clock::unix_seconds(proven.not_after) == known.newest_expires,
    };
    match &known.replaced {
        _ if is_newest => Standing::Newest,
        Some(replaced) if same(replaced, &digest) => Standing::Replaced,
        Some(_) | None => Standing::Outdated,
    }
}

/// Notes that this certificate is in use. `None` when the device is not enrolled.
pub(super) async fn seen(write: &mut Write, proven: &ProvenDevice) -> Result<Option<Standing>, StoreError> {
    let Some(known) = enrolment::certificates(write.connection(), &proven.id).await? else { return Ok(None) };
    let standing = standing(&known, proven);
    if standing == Standing::Newest && known.replaced.is_some() {
        enrolment::newest_seen(write.connection(), &proven.id).await?;
    }
    Ok(Some(standing))
}

//! The key that signs checkpoints of the audit log, sealed like every key.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use vouchsafe_tlog::note::{KeyKind, NoteSigner};
use zeroize::Zeroizing;

use super::key::KeyError;
use super::{Ca, CaError, Workshop};
use crate::context::Settings;
use crate::store::Store;

const AUDIT: &str = "audit-log";

impl Ca {
    /// What signs checkpoints of the log of that origin, made at the first start. The key is the same for each origin;
    /// origin and key together make the id that verifiers know.
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) async fn audit_signer(
        &self,
        store: &Store,
        settings: &Settings,
        origin: &str,
        now: u64,
    ) -> Result<NoteSigner, CaError> {
        let unusable = || CaError::Key { name: AUDIT.to_owned(), source: KeyError };
        let mut workshop = Workshop::open(settings, store.write().await?, now).await?;
        let pkcs8 = match workshop.stored(AUDIT) {
            Some(stored) => workshop.master.open(AUDIT, &stored.sealed)?,
            None => {
                let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| unusable())?;
                let pkcs8 = Zeroizing::new(made.as_ref().to_vec());
                workshop.seal(AUDIT, &pkcs8, "").await?;
                pkcs8
            }
        };
        workshop.write.commit().await?;
        NoteSigner::from_pkcs8(origin, KeyKind::Ed25519, &pkcs8).map_err(|_| unusable())
    }
}

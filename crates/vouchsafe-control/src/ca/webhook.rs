//! Addresses and secrets of webhooks and streams, sealed like every key.

use zeroize::Zeroizing;

use super::public::master;
use super::{Ca, CaError};
use crate::context::Settings;

/// Behind it stands the webhook's name.
const PREFIX: &str = "webhook/";
/// The same of a stream.
const STREAM_PREFIX: &str = "stream/";

impl Ca {
    /// Seals what must be known of that webhook alone.
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) fn seal_webhook(&self, settings: &Settings, name: &str, secret: &[u8]) -> Result<Vec<u8>, CaError> {
        Ok(master(settings)?.seal(&format!("{PREFIX}{name}"), secret)?)
    }

    /// Opens what was sealed for that webhook.
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) fn open_webhook(
        &self,
        settings: &Settings,
        name: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CaError> {
        Ok(master(settings)?.open(&format!("{PREFIX}{name}"), sealed)?)
    }

    /// Seals what must be known of that stream alone.
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) fn seal_stream(&self, settings: &Settings, name: &str, secret: &[u8]) -> Result<Vec<u8>, CaError> {
        Ok(master(settings)?.seal(&format!("{STREAM_PREFIX}{name}"), secret)?)
    }

    /// Opens what was sealed for that stream.
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) fn open_stream(
        &self,
        settings: &Settings,
        name: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CaError> {
        Ok(master(settings)?.open(&format!("{STREAM_PREFIX}{name}"), sealed)?)
    }
}

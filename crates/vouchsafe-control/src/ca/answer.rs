//! Answers that are kept for who asks again; they may hold links and secrets, and are sealed like every key.

use zeroize::Zeroizing;

use super::public::master;
use super::{Ca, CaError};
use crate::context::Settings;

/// Behind it stands for which request it was.
const PREFIX: &str = "answer/";

impl Ca {
    /// Seals an answer to that request.
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) fn seal_answer(&self, settings: &Settings, id: &str, answer: &[u8]) -> Result<Vec<u8>, CaError> {
        Ok(master(settings)?.seal(&format!("{PREFIX}{id}"), answer)?)
    }

    /// Opens what was sealed for that request.
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) fn open_answer(
        &self,
        settings: &Settings,
        id: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CaError> {
        Ok(master(settings)?.open(&format!("{PREFIX}{id}"), sealed)?)
    }
}

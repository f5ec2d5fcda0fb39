//! A witness: it puts its name under a log's checkpoint when that continues the one it saw last (C2SP `tlog-witness`), so
//! that whoever owns the log's machine can't show two histories of it.
//!
//! - [`state`]: its directory, which one process holds, and its key
//! - `memory`: what it has seen of each log, durable before anybody hears of it
//! - [`serve`]: `POST /add-checkpoint`
//!
//! It needs no controller and no database, and nothing of a log but its key. What a witness may cosign is decided in
//! `vouchsafe_tlog::witness`.

mod memory;
pub mod serve;
pub mod state;

use std::path::Path;
use std::sync::Arc;

use vouchsafe_tlog::note::{NoteSigner, VerifierKey};

use self::memory::Memory;
use self::state::{State, StateError};

/// A witness that knows its key and its logs.
pub struct Witness {
    signer: NoteSigner,
    memory: Memory,
    /// Held as long as it lives: two processes with one memory could cosign two histories.
    _state: State,
}

impl Witness {
    /// Opens the directory for these logs. A key is made where there is none, under that name; where there is one, the name
    /// must be its own, if any is given.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(dir: &Path, name: Option<&str>, logs: &[VerifierKey]) -> Result<Arc<Self>, StateError> {
        let state = State::lock(dir)?;
        let signer = state.signer(name)?;
        let memory = Memory::open(&state, logs)?;
        Ok(Arc::new(Self { signer, memory, _state: state }))
    }

    /// The key by which its cosignatures are verified.
    #[must_use]
    pub fn key(&self) -> &VerifierKey {
        self.signer.verifier()
    }

    /// The logs that it knows: origin, and the size of the newest checkpoint that it has cosigned.
    #[must_use]
    pub fn logs(&self) -> Vec<(String, Option<u64>)> {
        self.memory.logs()
    }
}

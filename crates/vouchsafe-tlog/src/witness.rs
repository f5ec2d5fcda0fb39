//! What a log asks of a witness (C2SP `tlog-witness`), and whether the witness may put its name under it.

use std::fmt;

use crate::checkpoint::Checkpoint;
use crate::evidence::hashes;
use crate::hash::Hash;
use crate::note::{MAX_NOTE_BYTES, Note, NoteError, VerifierKey};
use crate::proof::verify_consistency;
use crate::text::{line, number};

/// Longest request that is read.
pub const MAX_REQUEST_BYTES: usize = MAX_NOTE_BYTES + 4 * 1024;

/// `add-checkpoint`: a new checkpoint, and the proof that it continues the one that the witness knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the checkpoint that the witness is thought to know; 0 for none.
    pub old: u64,
    /// Proof of consistency from there.
    pub proof: Vec<Hash>,
    /// The new checkpoint.
    pub note: Note,
}

/// What a witness remembers of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Size of the newest checkpoint that it has cosigned.
    pub size: u64,
    /// Its root.
    pub root: Hash,
}

/// A checkpoint that is not cosigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request is not in its form, or says that the tree shrinks.
    #[error("the request is malformed")]
    Malformed,
    /// The witness doesn't know that log.
    #[error("this log is not known here")]
    UnknownOrigin,
    /// No key of the log has signed, or a signature of one is wrong.
    #[error("the checkpoint is not signed by a key of this log")]
    Unsigned,
    /// The witness knows another checkpoint than the request begins with, or another tree of this size.
    #[error("the newest checkpoint that is known here has size {size}")]
    Conflict {
        /// Size of the one that it knows.
        size: u64,
    },
    /// The proof doesn't prove it.
    #[error("the checkpoint does not continue the one that is known here")]
    Inconsistent,
}

impl Refusal {
    /// The HTTP status that says so.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Refusal::Malformed => 400,
            Refusal::UnknownOrigin => 404,
            Refusal::Unsigned => 403,
            Refusal::Conflict { .. } => 409,
            Refusal::Inconsistent => 422,
        }
    }
}

impl AddCheckpoint {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`Refusal::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let read = || {
            let text = (bytes.len() <= MAX_REQUEST_BYTES).then(|| std::str::from_utf8(bytes).ok()).flatten()?;
            let (old, rest) = line(text.strip_prefix("old ")?)?;
            let old = number(old)?;
            let (proof, note) = hashes(rest)?;
            Some(Self { old, proof, note: Note::parse(note.as_bytes()).ok()? })
        };
        read().ok_or(Refusal::Malformed)
    }

    /// The origin that its checkpoint names, as yet unverified.
    ///
    /// # Errors
    /// [`Refusal::Malformed`].
    pub fn origin(&self) -> Result<String, Refusal> {
        Checkpoint::parse(self.note.text()).map(|checkpoint| checkpoint.origin).map_err(|_| Refusal::Malformed)
    }

    /// Whether it may be cosigned: signed by one of the log's `keys`, and a continuation of what was `seen` last. Who asks
    /// must hold what was seen until the answer is durable.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn judge(&self, keys: &[&VerifierKey], seen: Option<Seen>) -> Result<Checkpoint, Refusal> {
        let named = self.origin()?;
        if keys.is_empty() {
            return Err(Refusal::UnknownOrigin);
        }
        let checkpoint = self.signed(keys).map_err(|_| Refusal::Unsigned)?;
        if self.old > checkpoint.size || named != checkpoint.origin {
            return Err(Refusal::Malformed);
        }
        let seen = seen.unwrap_or(Seen { size: 0, root: Hash::of_nothing() });
        if self.old != seen.size {
            return Err(Refusal::Conflict { size: seen.size });
        }
        if checkpoint.size == seen.size && checkpoint.root != seen.root {
            return Err(Refusal::Conflict { size: seen.size });
        }
        verify_consistency(seen.size, &seen.root, checkpoint.size, &checkpoint.root, &self.proof)
            .map_err(|_| Refusal::Inconsistent)?;
        Ok(checkpoint)
    }

    fn signed(&self, keys: &[&VerifierKey]) -> Result<Checkpoint, NoteError> {
        self.note.verify(keys)?;
        let of_this_log = keys.iter().find_map(|key| Checkpoint::verify(&self.note, key).ok());
        of_this_log.ok_or(NoteError::Unsigned)
    }
}

/// The body of the request.
impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::signer;
    use crate::note::{KeyKind, NoteSigner};
    use crate::proof::consistency;
    use crate::tree::root;
    use crate::tree::tests::Memory;

    fn log() -> NoteSigner {
        signer("log.example", KeyKind::Ed25519, 1)
    }

    fn request(memory: &Memory, old: u64, size: u64) -> AddCheckpoint {
        let root = root(memory, size).unwrap();
        let checkpoint = Checkpoint { origin: "log.example".to_owned(), size, root, extension: String::new() };
        AddCheckpoint { old, proof: consistency(memory, old, size).unwrap(), note: checkpoint.sign(&log()) }
    }

    fn seen(memory: &Memory, size: u64) -> Option<Seen> {
        Some(Seen { size, root: root(memory, size).unwrap() })
    }

    #[test]
    fn what_continues_is_cosigned_and_nothing_else() {
        let (memory, log) = (Memory::of(40), log());
        let keys = [log.verifier()];
        let judged = |request: &AddCheckpoint, seen| {
            let again = AddCheckpoint::parse(request.to_string().as_bytes()).unwrap();
            assert_eq!(&again, request);
            again.judge(&keys, seen).map(|checkpoint| checkpoint.size)
        };
        assert_eq!(judged(&request(&memory, 0, 7), None), Ok(7));
        assert_eq!(judged(&request(&memory, 7, 20), seen(&memory, 7)), Ok(20));
        assert_eq!(judged(&request(&memory, 20, 20), seen(&memory, 20)), Ok(20));
        assert_eq!(judged(&request(&memory, 0, 0), None), Ok(0));
        assert_eq!(judged(&request(&memory, 0, 7), seen(&memory, 20)), Err(Refusal::Conflict { size: 20 }));
        assert_eq!(judged(&request(&memory, 20, 20), None), Err(Refusal::Conflict { size: 0 }));
        let shrinks = AddCheckpoint { old: 30, ..request(&memory, 7, 20) };
        assert_eq!(judged(&shrinks, seen(&memory, 30)), Err(Refusal::Malformed));
        let other = Seen { size: 7, root: Hash::of_leaf(b"another history") };
        assert_eq!(judged(&request(&memory, 7, 20), Some(other)), Err(Refusal::Inconsistent));
        let same_size = Seen { size: 20, root: Hash::of_leaf(b"another history") };
        assert_eq!(judged(&request(&memory, 20, 20), Some(same_size)), Err(Refusal::Conflict { size: 20 }));
        let needless = AddCheckpoint { proof: vec![Hash::of_nothing()], ..request(&memory, 0, 7) };
        assert_eq!(judged(&needless, None), Err(Refusal::Inconsistent));
        let request = request(&memory, 7, 20);
        assert_eq!(request.judge(&[], seen(&memory, 7)), Err(Refusal::UnknownOrigin));
        let stranger = signer("log.example", KeyKind::Ed25519, 9);
        assert_eq!(request.judge(&[stranger.verifier()], seen(&memory, 7)), Err(Refusal::Unsigned));
        let of_another = signer("other.example", KeyKind::Ed25519, 1);
        let mut resigned = request.clone();
        resigned.note.add(of_another.sign(request.note.text(), 0));
        assert_eq!(resigned.judge(&[of_another.verifier()], seen(&memory, 7)), Err(Refusal::Unsigned));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let good = request(&Memory::of(9), 3, 9).to_string();
        assert!(AddCheckpoint::parse(good.as_bytes()).is_ok());
        for wrong in [
            String::new(),
            good.replace("old 3", "old 03"),
            good.replace("old 3", "old"),
            good.replace("old 3", "new 3"),
            good.replacen('=', "", 1),
        ] {
            assert_eq!(AddCheckpoint::parse(wrong.as_bytes()), Err(Refusal::Malformed), "{wrong:?}");
        }
    }
}

//! What a log says of its tree at one size (C2SP `tlog-checkpoint`): the text of a signed note.

use std::fmt;

use crate::hash::Hash;
use crate::note::{KeyKind, Note, NoteError, NoteSigner, VerifierKey};
use crate::text::{line, number};

/// Longest origin that is read.
const MAX_ORIGIN_BYTES: usize = 512;

/// A tree head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// How many entries the tree has.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// Lines that say something more, each with its line feed. Ours has none.
    pub extension: String,
}

impl Checkpoint {
    /// Reads the text of a note.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let read = || {
            let (origin, rest) = line(text).filter(|(origin, _)| (1..=MAX_ORIGIN_BYTES).contains(&origin.len()))?;
            let (size, rest) = line(rest)?;
            let (root, extension) = line(rest)?;
            let whole_lines = extension.is_empty() || extension.ends_with('\n');
            if !whole_lines || extension.starts_with('\n') || extension.contains("\n\n") {
                return None;
            }
            let (size, root) = (number(size)?, Hash::from_base64(root)?);
            if size == 0 && root != Hash::of_nothing() {
                return None;
            }
            Some(Self { origin: origin.to_owned(), size, root, extension: extension.to_owned() })
        };
        read().ok_or(NoteError::Malformed)
    }

    /// A note of it, signed by the log.
    #[must_use]
    pub fn sign(&self, signer: &NoteSigner) -> Note {
        let mut note = Note::new(self.to_string());
        note.add(signer.sign(note.text(), 0));
        note
    }

    /// Reads a note that the log's key has signed.
    ///
    /// # Errors
    /// [`NoteError`]. Also when the note is of another log than the key's name says.
    pub fn verify(note: &Note, key: &VerifierKey) -> Result<Self, NoteError> {
        note.verify(&[key])?;
        let checkpoint = Self::parse(note.text())?;
        // Whoever signs as a witness says nothing of a log of its own.
        if checkpoint.origin != key.name() || key.kind() != KeyKind::Ed25519 {
            return Err(NoteError::Unsigned);
        }
        Ok(checkpoint)
    }
}

/// The text of its note.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, size, root, extension } = self;
        write!(f, "{origin}\n{size}\n{root}\n{extension}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::signer;

    #[test]
    fn the_example_of_the_specification_is_read() {
        let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let read = Checkpoint::parse(text).unwrap();
        assert_eq!((read.origin.as_str(), read.size), ("example.com/behind-the-sofa", 20_852_163));
        assert_eq!(read.to_string(), text);
        assert_eq!(Checkpoint::parse(&format!("{text}more\n")).unwrap().extension, "more\n");
        for wrong in [
            text.replace("20852163", "020852163"),
            text.replace("20852163", "-1"),
            text.replace("I=", "I"),
            text.replace("I=\n", "I="),
            text.replace("example.com/behind-the-sofa", ""),
            format!("{text}\n"),
            format!("{text}a\n\nb\n"),
            format!("{text}a"),
            text.replace("20852163", "0"),
        ] {
            assert_eq!(Checkpoint::parse(&wrong), Err(NoteError::Malformed), "{wrong:?}");
        }
    }

    #[test]
    fn only_the_logs_own_key_speaks_for_it() {
        let log = signer("log.example", KeyKind::Ed25519, 1);
        let checkpoint = Checkpoint {
            origin: "log.example".to_owned(),
            size: 1,
            root: Hash::of_leaf(b"x"),
            extension: String::new(),
        };
        let note = checkpoint.sign(&log);
        assert_eq!(Checkpoint::verify(&note, log.verifier()), Ok(checkpoint.clone()));
        let other = signer("other.example", KeyKind::Ed25519, 1);
        assert_eq!(Checkpoint::verify(&checkpoint.sign(&other), other.verifier()), Err(NoteError::Unsigned));
        let witness = signer("log.example", KeyKind::Cosignature, 1);
        let mut cosigned = Note::new(checkpoint.to_string());
        cosigned.add(witness.sign(cosigned.text(), 5));
        assert_eq!(Checkpoint::verify(&cosigned, witness.verifier()), Err(NoteError::Unsigned));
        assert_eq!(Checkpoint::verify(&note, other.verifier()), Err(NoteError::Unsigned));
    }
}

//! A file that proves to anybody that a record is in a log (C2SP `tlog-proof`). The record itself stands in its `extra`
//! line, so that nothing else is needed but the key of the log.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::Checkpoint;
use crate::hash::Hash;
use crate::note::{MAX_NOTE_BYTES, Note, NoteError, VerifierKey};
use crate::proof::{MAX_PROOF, ProofError, verify_inclusion};
use crate::text::{line, number};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// Longest record that one carries.
const MAX_EXTRA_BYTES: usize = 65_535;
/// Longest file that is read.
pub const MAX_EVIDENCE_BYTES: usize = MAX_NOTE_BYTES + MAX_EXTRA_BYTES * 4 / 3 + 8 * 1024;

/// A file that doesn't prove what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// It is not in the form of a proof.
    #[error("it is no proof file (`{FIRST_LINE}`)")]
    Malformed,
    /// It doesn't carry the record.
    #[error("it carries no record")]
    NoRecord,
    /// Its checkpoint can't be believed.
    #[error("its checkpoint can't be believed")]
    Checkpoint(#[source] NoteError),
    /// The record is not where it says.
    #[error("its record is not in the log that it names")]
    Inclusion(#[source] ProofError),
}

/// One record, and its way to a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The record.
    pub record: Option<Vec<u8>>,
    /// Its position.
    pub index: u64,
    /// The hashes beside its way to the root.
    pub proof: Vec<Hash>,
    /// The checkpoint.
    pub note: Note,
}

impl Evidence {
    /// Reads a file; nothing of it is to be believed before [`Evidence::verify`].
    ///
    /// # Errors
    /// [`EvidenceError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EvidenceError> {
        let read = || {
            let text = (bytes.len() <= MAX_EVIDENCE_BYTES).then(|| std::str::from_utf8(bytes).ok()).flatten()?;
            let (_, mut rest) = line(text).filter(|(first, _)| *first == FIRST_LINE)?;
            let mut record = None;
            if let Some((encoded, behind)) = rest.strip_prefix("extra ").and_then(line) {
                record = Some(STANDARD.decode(encoded).ok().filter(|bytes| bytes.len() <= MAX_EXTRA_BYTES)?);
                rest = behind;
            }
            let (index, behind) = line(rest.strip_prefix("index ")?)?;
            let index = number(index)?;
            let (proof, note) = hashes(behind)?;
            Some(Self { record, index, proof, note: Note::parse(note.as_bytes()).ok()? })
        };
        read().ok_or(EvidenceError::Malformed)
    }

    /// The record, and the checkpoint that the log of that key says it is under.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn verify(&self, key: &VerifierKey) -> Result<(&[u8], Checkpoint), EvidenceError> {
        let record = self.record.as_deref().ok_or(EvidenceError::NoRecord)?;
        let checkpoint = Checkpoint::verify(&self.note, key).map_err(EvidenceError::Checkpoint)?;
        let leaf = Hash::of_leaf(record);
        verify_inclusion(&leaf, self.index, checkpoint.size, &checkpoint.root, &self.proof)
            .map_err(EvidenceError::Inclusion)?;
        Ok((record, checkpoint))
    }
}

/// Lines of hashes up to an empty line, and what is behind it.
pub(crate) fn hashes(mut text: &str) -> Option<(Vec<Hash>, &str)> {
    let mut found = Vec::new();
    loop {
        let (first, rest) = line(text)?;
        if first.is_empty() {
            return Some((found, rest));
        }
        if found.len() >= MAX_PROOF {
            return None;
        }
        found.push(Hash::from_base64(first)?);
        text = rest;
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        if let Some(record) = &self.record {
            writeln!(f, "extra {}", STANDARD.encode(record))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::KeyKind;
    use crate::note::tests::signer;
    use crate::proof::inclusion;
    use crate::tree::tests::Memory;

    fn evidence(size: u64, index: u64) -> (Evidence, VerifierKey) {
        let memory = Memory::of(size);
        let log = signer("log.example", KeyKind::Ed25519, 7);
        let root = memory.edge.root();
        let checkpoint = Checkpoint { origin: "log.example".to_owned(), size, root, extension: String::new() };
        let record = Some(index.to_be_bytes().to_vec());
        let proof = inclusion(&memory, index, size).unwrap();
        (Evidence { record, index, proof, note: checkpoint.sign(&log) }, log.verifier().clone())
    }

    #[test]
    fn a_file_reads_back_and_proves_its_record() {
        for (size, index) in [(1, 0), (2, 1), (300, 17), (300, 299)] {
            let (evidence, key) = evidence(size, index);
            let text = evidence.to_string();
            let read = Evidence::parse(text.as_bytes()).unwrap();
            assert_eq!(read, evidence);
            let (record, checkpoint) = read.verify(&key).unwrap();
            assert_eq!((record, checkpoint.size), (index.to_be_bytes().as_slice(), size));
        }
    }

    /// Vectors of `docs/spec/audit-log.md`, made by another program.
    #[test]
    fn the_published_vectors_verify() {
        let key = VerifierKey::parse(include_str!("../../../docs/spec/vectors/audit-key-1.txt").trim_end()).unwrap();
        let text = include_str!("../../../docs/spec/vectors/audit-proof-1.tlog-proof");
        let evidence = Evidence::parse(text.as_bytes()).unwrap();
        assert_eq!(evidence.to_string(), text);
        let (record, checkpoint) = evidence.verify(&key).unwrap();
        let expected = include_str!("../../../docs/spec/vectors/audit-record-2.json").trim_end_matches('\n');
        assert_eq!((record, checkpoint.size, evidence.index), (expected.as_bytes(), 7, 3));
        assert_eq!(evidence.note.to_string(), include_str!("../../../docs/spec/vectors/checkpoint-1.txt"));
    }

    /// Each changed byte of a file is noticed, unless it only says the same otherwise (it can't: each part has one form).
    #[test]
    fn no_changed_byte_of_a_file_verifies() {
        let (evidence, key) = evidence(5, 3);
        let good = evidence.to_string().into_bytes();
        for at in 0..good.len() {
            for bit in [1, 0x20, 0x80] {
                let mut bytes = good.clone();
                bytes[at] ^= bit;
                let read =
                    Evidence::parse(&bytes).and_then(|read| read.verify(&key).map(|(record, _)| record.to_vec()));
                assert!(read.is_err(), "byte {at} ^ {bit}");
            }
        }
        for length in 0..good.len() {
            assert!(Evidence::parse(&good[..length]).and_then(|read| read.verify(&key).map(drop)).is_err());
        }
    }

    #[test]
    fn a_file_without_its_record_proves_nothing_here() {
        let (evidence, key) = evidence(5, 3);
        let bare = Evidence { record: None, ..evidence };
        let read = Evidence::parse(bare.to_string().as_bytes()).unwrap();
        assert_eq!(read, bare);
        assert_eq!(read.verify(&key).map(drop), Err(EvidenceError::NoRecord));
        let many = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n".repeat(64);
        assert!(hashes(&format!("{many}\n")).is_none() && hashes(&format!("{}\n", &many[45..])).is_some());
    }
}

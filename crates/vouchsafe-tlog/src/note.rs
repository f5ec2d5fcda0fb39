//! Signed notes (C2SP `signed-note`) with Ed25519 keys: a text, and lines of signatures under it.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::text::line;

/// Longest note that is read: room for sixteen signatures of any kind there is.
pub const MAX_NOTE_BYTES: usize = 128 * 1024;
/// Most signatures of a note.
const MAX_SIGNATURES: usize = 64;
/// Longest name of a key.
const MAX_NAME_BYTES: usize = 512;
/// Longest verifier key that is read.
const MAX_VKEY_BYTES: usize = 1024;
/// Begins a line with a signature.
const SIGNATURE_MARK: &str = "\u{2014} ";
const ED25519_KEY_BYTES: usize = 32;

/// A note or key that can't be read or believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is not in the form of a note.
    #[error("it is no signed note")]
    Malformed,
    /// A key's text is not one.
    #[error("it is no verifier key (`<name>+<id>+<key>`) for Ed25519")]
    Key,
    /// None of the keys that are known has signed it.
    #[error("none of the known keys has signed it")]
    Unsigned,
    /// A signature of a known key is wrong.
    #[error("the signature of `{name}` is wrong")]
    Forged {
        /// Name of the key.
        name: String,
    },
}

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// The text of a note, as it is.
    Ed25519,
    /// A checkpoint of another's log, with the time (C2SP `tlog-cosignature`, version 1).
    Cosignature,
}

impl KeyKind {
    const fn byte(self) -> u8 {
        match self {
            KeyKind::Ed25519 => 1,
            KeyKind::Cosignature => 4,
        }
    }
}

/// The public half of a key that signs notes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    public: [u8; ED25519_KEY_BYTES],
}

impl VerifierKey {
    /// Reads `<name>+<id>+<key>`, its one form.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let read = || {
            let mut parts = (text.len() <= MAX_VKEY_BYTES).then_some(text)?.splitn(3, '+');
            let (name, _, key) = (parts.next()?, parts.next()?, parts.next()?);
            let bytes = STANDARD.decode(key).ok()?;
            let (kind, public) = bytes.split_first()?;
            let kind = [KeyKind::Ed25519, KeyKind::Cosignature].into_iter().find(|known| known.byte() == *kind)?;
            let key = Self { name: name.to_owned(), kind, public: public.try_into().ok()? };
            (is_name(name) && key.to_string() == text).then_some(key)
        };
        read().ok_or(NoteError::Key)
    }

    /// Name of the key, which for a log is its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Marks its signatures, beside the name.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let hashed = [self.name.as_bytes(), b"\n", &[self.kind.byte()], &self.public].concat();
        let mut id = [0; 4];
        id.iter_mut().zip(digest(&SHA256, &hashed).as_ref()).for_each(|(to, from)| *to = *from);
        id
    }

    /// The signature of this key on a note that is not wrong; nothing when it has none.
    ///
    /// # Errors
    /// [`NoteError::Forged`].
    fn find<'n>(&self, note: &'n Note) -> Result<Option<&'n NoteSignature>, NoteError> {
        let id = self.id();
        let mut own = note.signatures.iter().filter(|signature| signature.name == self.name && signature.id == id);
        let Some(signature) = own.next() else { return Ok(None) };
        // A second one of the same key is either the same or a mistake, and never needed.
        let valid = self.signed(&note.text, signature).is_some() && own.all(|other| other == signature);
        if valid { Ok(Some(signature)) } else { Err(NoteError::Forged { name: self.name.clone() }) }
    }

    /// The time of a signature that is valid, unix seconds; 0 for kinds without.
    fn signed(&self, text: &str, signature: &NoteSignature) -> Option<u64> {
        let key = UnparsedPublicKey::new(&ED25519, &self.public);
        match self.kind {
            KeyKind::Ed25519 => key.verify(text.as_bytes(), &signature.bytes).ok().map(|()| 0),
            KeyKind::Cosignature => {
                let (time, bytes) = signature.bytes.split_first_chunk::<8>()?;
                let time = u64::from_be_bytes(*time);
                if time > i64::MAX as u64 {
                    return None;
                }
                key.verify(cosigned(text, time).as_bytes(), bytes).ok().map(|()| time)
            }
        }
    }
}

/// `<name>+<id in hexadecimal>+<kind and key in Base64>`.
impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.kind.byte()], self.public.as_slice()].concat();
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id()), STANDARD.encode(key))
    }
}

/// What a cosignature signs.
fn cosigned(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// Whether a key can have that name.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && !name.chars().any(|char| char.is_whitespace() || char.is_control() || char == '+')
}

/// One signature under a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

impl NoteSignature {
    /// Reads one line, without its line feed.
    fn parse(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix(SIGNATURE_MARK)?.split_once(' ')?;
        let bytes = STANDARD.decode(encoded).ok()?;
        let (id, bytes) = bytes.split_first_chunk::<4>()?;
        (is_name(name) && !bytes.is_empty()).then(|| Self { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
    }

    /// Reads lines of signatures and nothing else, as a witness answers.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse_lines(text: &str) -> Result<Vec<Self>, NoteError> {
        let mut found = Vec::new();
        let mut rest = (text.len() <= MAX_NOTE_BYTES).then_some(text).ok_or(NoteError::Malformed)?;
        while !rest.is_empty() {
            let (first, behind) = line(rest).ok_or(NoteError::Malformed)?;
            found.push(Self::parse(first).ok_or(NoteError::Malformed)?);
            rest = behind;
        }
        if (1..=MAX_SIGNATURES).contains(&found.len()) { Ok(found) } else { Err(NoteError::Malformed) }
    }
}

/// The line, with its line feed.
impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.id.as_slice(), &self.bytes].concat();
        writeln!(f, "{SIGNATURE_MARK}{} {}", self.name, STANDARD.encode(bytes))
    }
}

/// A text with signatures; nothing of it is to be believed before [`Note::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// A note of that text, still without a signature.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self { text, signatures: Vec::new() }
    }

    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        let read = || {
            let whole = (bytes.len() <= MAX_NOTE_BYTES).then(|| std::str::from_utf8(bytes).ok()).flatten()?;
            if whole.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
                return None;
            }
            // The last empty line stands between text and signatures.
            let text = whole.get(..whole.rfind("\n\n")? + 1)?;
            let signatures = NoteSignature::parse_lines(whole.get(text.len() + 1..)?).ok()?;
            Some(Self { text: text.to_owned(), signatures })
        };
        read().ok_or(NoteError::Malformed)
    }

    /// The text, as yet unverified, with its last line feed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds a signature. One by the same key goes.
    pub fn add(&mut self, signature: NoteSignature) {
        self.signatures.retain(|known| (&known.name, known.id) != (&signature.name, signature.id));
        self.signatures.push(signature);
    }

    /// Whether it bears a signature of that key, right or wrong.
    #[must_use]
    pub fn names(&self, key: &VerifierKey) -> bool {
        let id = key.id();
        self.signatures.iter().any(|signature| signature.name == key.name && signature.id == id)
    }

    /// Verifies what known keys have signed, and ignores all other signatures. Gives the keys that have signed.
    ///
    /// # Errors
    /// [`NoteError::Unsigned`] when none of them did; [`NoteError::Forged`] when a signature of any of them is wrong.
    pub fn verify<'k>(&self, keys: &[&'k VerifierKey]) -> Result<Vec<&'k VerifierKey>, NoteError> {
        let mut signed = Vec::new();
        for key in keys {
            if key.find(self)?.is_some() {
                signed.push(*key);
            }
        }
        if signed.is_empty() { Err(NoteError::Unsigned) } else { Ok(signed) }
    }

    /// When that key signed it, unix seconds (0 for a kind without time), and the signature.
    ///
    /// # Errors
    /// [`NoteError::Unsigned`] or [`NoteError::Forged`].
    pub fn signed_at(&self, key: &VerifierKey) -> Result<(u64, &NoteSignature), NoteError> {
        let signature = key.find(self)?.ok_or(NoteError::Unsigned)?;
        Ok((key.signed(&self.text, signature).unwrap_or_default(), signature))
    }
}

/// The whole note.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| write!(f, "{signature}"))
    }
}

/// A key that signs notes. It is wiped when dropped, by the library.
pub struct NoteSigner {
    key: VerifierKey,
    pair: Ed25519KeyPair,
}

/// A key that is not usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an Ed25519 key could not be made or read")]
pub struct SignerError;

impl NoteSigner {
    /// Takes a PKCS#8 key, and the name that it signs under.
    ///
    /// # Errors
    /// [`SignerError`].
    pub fn from_pkcs8(name: &str, kind: KeyKind, pkcs8: &[u8]) -> Result<Self, SignerError> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| SignerError)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| SignerError)?;
        if !is_name(name) {
            return Err(SignerError);
        }
        Ok(Self { key: VerifierKey { name: name.to_owned(), kind, public }, pair })
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.key
    }

    /// Signs a text; `time` in unix seconds counts for cosignatures only.
    #[must_use]
    pub fn sign(&self, text: &str, time: u64) -> NoteSignature {
        let bytes = match self.key.kind {
            KeyKind::Ed25519 => self.pair.sign(text.as_bytes()).as_ref().to_vec(),
            KeyKind::Cosignature => {
                [time.to_be_bytes().as_slice(), self.pair.sign(cosigned(text, time).as_bytes()).as_ref()].concat()
            }
        };
        NoteSignature { name: self.key.name.clone(), id: self.key.id(), bytes }
    }
}

impl fmt::Debug for NoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NoteSigner").field(&self.key.name).finish()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A key out of a seed, in PKCS#8 (RFC 8410 §7).
    pub(crate) fn pkcs8(seed: u8) -> Vec<u8> {
        let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        [head.as_slice(), &[seed; 32]].concat()
    }

    pub(crate) fn signer(name: &str, kind: KeyKind, seed: u8) -> NoteSigner {
        NoteSigner::from_pkcs8(name, kind, &pkcs8(seed)).unwrap()
    }

    /// The example of `signed-note`.
    #[test]
    fn the_example_of_the_specification_verifies() {
        let key = VerifierKey::parse("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k").unwrap();
        let text = "This is an example message.\n\n\u{2014} example.com/foo \
                    Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
        let note = Note::parse(text.as_bytes()).unwrap();
        assert_eq!(note.verify(&[&key]), Ok(vec![&key]));
        assert_eq!(note.to_string(), text);
        assert_eq!(note.text(), "This is an example message.\n");
        assert_eq!(key.name(), "example.com/foo");
        let changed = text.replace("message", "massage");
        let forged = NoteError::Forged { name: "example.com/foo".to_owned() };
        assert_eq!(Note::parse(changed.as_bytes()).unwrap().verify(&[&key]), Err(forged));
    }

    #[test]
    fn unknown_signatures_are_ignored_and_known_ones_must_hold() {
        let (log, other) = (signer("log", KeyKind::Ed25519, 1), signer("log", KeyKind::Ed25519, 2));
        let witness = signer("witness", KeyKind::Cosignature, 3);
        let mut note = Note::new("a\n\nb\n".to_owned());
        note.add(other.sign(note.text(), 0));
        note.add(witness.sign(note.text(), 1_790_000_000));
        assert_eq!(note.verify(&[log.verifier()]), Err(NoteError::Unsigned));
        assert!(!note.names(log.verifier()) && note.names(witness.verifier()));
        note.add(log.sign(note.text(), 0));
        let note = Note::parse(note.to_string().as_bytes()).unwrap();
        assert_eq!(note.text(), "a\n\nb\n");
        assert_eq!(note.verify(&[log.verifier(), witness.verifier()]), Ok(vec![log.verifier(), witness.verifier()]));
        assert_eq!(note.signed_at(witness.verifier()).unwrap().0, 1_790_000_000);
        // The time is signed along.
        let mut later = note.clone();
        later.signatures.iter_mut().filter(|signature| signature.name == "witness").for_each(|s| s.bytes[7] ^= 1);
        let forged = Err(NoteError::Forged { name: "witness".to_owned() });
        assert_eq!(later.verify(&[log.verifier(), witness.verifier()]), forged);
        assert_eq!(later.verify(&[log.verifier()]), Ok(vec![log.verifier()]));
        // The same key and name for another kind have another id.
        let plain = signer("witness", KeyKind::Ed25519, 3);
        assert_eq!(note.verify(&[plain.verifier()]), Err(NoteError::Unsigned));
    }

    #[test]
    fn what_is_no_note_is_refused() {
        let log = signer("log", KeyKind::Ed25519, 1);
        let mut note = Note::new("text\n".to_owned());
        note.add(log.sign(note.text(), 0));
        let good = note.to_string();
        assert!(Note::parse(good.as_bytes()).is_ok());
        for wrong in [
            String::new(),
            "text\n".to_owned(),
            "text\n\n".to_owned(),
            good.trim_end().to_owned(),
            good.replace("\n\n", "\n"),
            good.replace('t', "\t"),
            good.replace('\n', "\r\n"),
            good.replace('\u{2014}', "-"),
            format!("{good}\n"),
            format!("{good}x\n"),
            good.replace("log ", "lo g "),
            good.replace("log ", "lo+g "),
            good.replace("log ", ""),
            good.replace("=\n", "\n"),
        ] {
            assert_eq!(Note::parse(wrong.as_bytes()), Err(NoteError::Malformed), "{wrong:?}");
        }
        let line = good.split("\n\n").nth(1).unwrap();
        assert!(Note::parse(format!("text\n\n{}", line.repeat(16)).as_bytes()).is_ok());
        assert!(Note::parse(format!("text\n\n{}", line.repeat(65)).as_bytes()).is_err());
        assert!(Note::parse(&vec![b'a'; MAX_NOTE_BYTES + 1]).is_err());
        assert!(Note::parse(b"\xff\n\n").is_err());
    }

    #[test]
    fn a_verifier_key_has_one_form() {
        let key = signer("api.corp.example/v1/audit/log", KeyKind::Ed25519, 1).verifier().clone();
        let text = key.to_string();
        assert_eq!(VerifierKey::parse(&text), Ok(key));
        for wrong in [
            String::new(),
            "a+b".to_owned(),
            text.replace("api.", "apx."),
            text.to_uppercase(),
            format!("{text} "),
            text.replace('+', " "),
            "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k".to_owned(),
        ] {
            assert_eq!(VerifierKey::parse(&wrong), Err(NoteError::Key), "{wrong}");
        }
    }
}

//! Hashes of a Merkle tree (RFC 6962 §2.1) over SHA-256.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// One hash of the tree.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; HASH_BYTES]);

impl Hash {
    /// Of an entry.
    #[must_use]
    pub fn of_leaf(entry: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&[0]);
        context.update(entry);
        Self::copied(context.finish().as_ref())
    }

    /// Of two subtrees.
    #[must_use]
    pub fn of_node(left: &Hash, right: &Hash) -> Self {
        let mut bytes = [1; 1 + 2 * HASH_BYTES];
        bytes.iter_mut().skip(1).zip(left.0.iter().chain(&right.0)).for_each(|(to, from)| *to = *from);
        Self::copied(digest(&SHA256, &bytes).as_ref())
    }

    /// Of the tree without entries.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self::copied(digest(&SHA256, b"").as_ref())
    }

    /// Exactly the bytes of a hash, or nothing.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Out of standard Base64, in its one form.
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        // No longer text is looked at.
        let bytes = (text.len() == 44).then(|| STANDARD.decode(text).ok()).flatten()?;
        Self::from_bytes(&bytes)
    }

    fn copied(bytes: &[u8]) -> Self {
        let mut hash = [0; HASH_BYTES];
        hash.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self(hash)
    }
}

/// Standard Base64, as in checkpoints and proofs.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Of the perfect tree whose leaves or subtrees these are: their number is a power of two.
pub(crate) fn perfect(mut hashes: Vec<Hash>) -> Hash {
    while hashes.len() > 1 {
        let (pairs, _) = hashes.as_chunks::<2>();
        hashes = pairs.iter().map(|[left, right]| Hash::of_node(left, right)).collect();
    }
    hashes.pop().unwrap_or_else(Hash::of_nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(hash: Hash) -> String {
        hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Vectors of Certificate Transparency's own tests.
    #[test]
    fn hashes_are_those_of_rfc_6962() {
        assert_eq!(hex(Hash::of_nothing()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex(Hash::of_leaf(b"")), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        let two = Hash::of_node(&Hash::of_leaf(b""), &Hash::of_leaf(&[0]));
        assert_eq!(hex(two), "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
    }

    #[test]
    fn base64_has_one_form() {
        let hash = Hash::of_leaf(b"x");
        assert_eq!(Hash::from_base64(&hash.to_string()), Some(hash));
        let mut other = hash.to_string();
        assert!(Hash::from_base64(other.trim_end_matches('=')).is_none());
        // The last two bits before the padding are none of the hash's.
        let last = other.remove(42);
        other.insert(42, char::from(last as u8 + 1));
        assert!(Hash::from_base64(&other).is_none(), "{other}");
    }
}

//! Secrets that we hand out and see again: made here, hashed here, never shown by `Debug`.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use vouchsafe_runtime::clock;
use vouchsafe_wire::ticket::hex;
use zeroize::Zeroizing;

/// Characters of a fresh secret: 256 bits in base64url.
pub(crate) const SECRET_CHARS: usize = 43;
/// Letters of a user code: no vowels, so that no word arises, and none that look alike (RFC 8628 §6.1).
const USER_CODE_LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// A secret of 256 bits as 43 characters of base64url.
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    /// A new one.
    pub(crate) fn fresh() -> Self {
        let bytes = Zeroizing::new(clock::random::<32>());
        Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
    }

    /// One that somebody presents; `None` when it can't be one of ours.
    pub(crate) fn presented(text: &str) -> Option<Self> {
        is_token_text(text).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The text, for handing it out.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// What the database keeps: SHA-256 in hexadecimal.
    pub(crate) fn hash(&self) -> String {
        hash(&self.0)
    }

    /// A text that only who knows the secret can make, for one other purpose.
    pub(crate) fn derive(&self, purpose: &str) -> Zeroizing<String> {
        let text = Zeroizing::new(format!("{purpose}\0{}", self.expose()));
        Zeroizing::new(URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes())))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(withheld)")
    }
}

/// Whether a text is 43 characters of base64url.
pub(crate) fn is_token_text(text: &str) -> bool {
    text.len() == SECRET_CHARS && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// SHA-256 in hexadecimal.
pub(crate) fn hash(text: &str) -> String {
    hex(digest(&SHA256, text.as_bytes()).as_ref())
}

/// Whether two texts are equal, in a time that does not tell where they differ.
pub(crate) fn same(left: &str, right: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(left.as_bytes(), right.as_bytes()).is_ok()
}

/// The code that a person compares and types when signing in on a device.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct UserCode(String);

impl UserCode {
    /// A new one: 8 of 20 letters, 34 bits.
    pub(crate) fn fresh() -> Self {
        let mut letters = String::with_capacity(8);
        while letters.len() < 8 {
            for byte in clock::random::<16>() {
                // 240 is the highest multiple of 20, so that every letter is as likely.
                if let Some(letter) = USER_CODE_LETTERS.get(usize::from(byte % 20))
                    && byte < 240
                    && letters.len() < 8
                {
                    letters.push(char::from(*letter));
                }
            }
        }
        Self(letters)
    }

    /// Reads what a person typed: case, white space and hyphens do not matter.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > 32 {
            return None;
        }
        let letters: String = text
            .chars()
            .filter(|letter| !letter.is_whitespace() && *letter != '-')
            .map(|letter| letter.to_ascii_uppercase())
            .collect();
        let known = letters.len() == 8 && letters.bytes().all(|letter| USER_CODE_LETTERS.contains(&letter));
        known.then_some(Self(letters))
    }

    /// `ABCD-EFGH`.
    pub(crate) fn shown(&self) -> String {
        let (left, right) = self.0.split_at_checked(4).unwrap_or((&self.0, ""));
        format!("{left}-{right}")
    }

    /// What the database keeps.
    pub(crate) fn hash(&self) -> String {
        hash(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_one_form_and_are_not_shown() {
        let secret = Secret::fresh();
        assert!(is_token_text(secret.expose()));
        assert_ne!(secret.expose(), Secret::fresh().expose());
        assert!(!format!("{secret:?}").contains(secret.expose()));
        assert!(Secret::presented(secret.expose()).is_some());
        for bad in ["", "a", &"a".repeat(42), &"a".repeat(44), &format!("{}=", "a".repeat(42))] {
            assert!(Secret::presented(bad).is_none());
        }
        assert_ne!(*secret.derive("a"), *secret.derive("b"));
        assert_eq!(secret.hash().len(), 64);
    }

    #[test]
    fn user_codes_are_read_as_people_type_them() {
        let code = UserCode::fresh();
        let shown = code.shown();
        assert_eq!(shown.len(), 9);
        for typed in
            [shown.clone(), shown.to_lowercase(), shown.replace('-', ""), format!(" {} ", shown.replace('-', " "))]
        {
            assert!(UserCode::parse(&typed) == Some(code.clone()), "{typed}");
        }
        for bad in ["", "ABCD-EFGH", "BCDF-GHJ", "BCDF-GHJKL", &"B".repeat(64)] {
            assert!(UserCode::parse(bad).is_none(), "{bad}");
        }
    }
}

//! Opaque identifiers: 128 random bits with a printed prefix, such as `usr_0c7m…`.
//!
//! Text form: prefix, `_`, 26 characters of lower-case Crockford base32 (no `i l o u`),
//! most significant bits first. Exactly one text form exists for each id.

use std::fmt;
use std::str::FromStr;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const TEXT_LEN: usize = 26;

/// Failure to read an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// The text does not start with the prefix of the expected kind.
    #[error("`{text}` is not an id that starts with `{prefix}_`")]
    Prefix {
        /// The text as given, shortened.
        text: String,
        /// The prefix that was expected, without underscore.
        prefix: &'static str,
    },
    /// The part behind the prefix is not 26 characters of Crockford base32.
    #[error("`{text}` is not a well-formed id: expected 26 characters of base32 after the prefix")]
    Body {
        /// The text as given, shortened.
        text: String,
    },
}

fn shorten(text: &str) -> String {
    text.chars().take(48).collect()
}

/// Bytes of a whole text form: prefix of three letters, `_`, body.
const WHOLE_LEN: usize = 4 + TEXT_LEN;

/// The text form of an id, which needs no allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IdText([u8; WHOLE_LEN]);

impl IdText {
    fn new(prefix: &[u8; 3], mut bits: u128) -> Self {
        let mut text = [b'_'; WHOLE_LEN];
        for (place, letter) in text.iter_mut().zip(prefix) {
            *place = *letter;
        }
        for place in text.iter_mut().rev().take(TEXT_LEN) {
            // INVARIANT: five bits index an alphabet of 32.
            *place = ALPHABET.get((bits & 0x1f) as usize).copied().unwrap_or(b'0');
            bits >>= 5;
        }
        Self(text)
    }
}

impl std::ops::Deref for IdText {
    type Target = str;

    fn deref(&self) -> &str {
        // INVARIANT: made of ASCII only.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

fn decode(text: &str) -> Option<u128> {
    if text.len() != TEXT_LEN {
        return None;
    }
    let mut bits: u128 = 0;
    for (position, byte) in text.bytes().enumerate() {
        let value = ALPHABET.iter().position(|letter| *letter == byte)? as u128;
        // 26 × 5 = 130 bits: the first character carries only three.
        if position == 0 && value > 7 {
            return None;
        }
        bits = (bits << 5) | value;
    }
    Some(bits)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// Prefix of the text form, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an id of 16 bytes, which the caller draws from a cryptographic source.
            #[must_use]
            pub const fn from_random(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }

            /// The text form.
            #[must_use]
            pub fn text(&self) -> IdText {
                const PREFIX: &[u8; 3] = match $prefix.as_bytes().first_chunk() {
                    Some(prefix) => prefix,
                    None => b"___",
                };
                IdText::new(PREFIX, self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.text())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let body = text
                    .strip_prefix(concat!($prefix, "_"))
                    .ok_or_else(|| ParseIdError::Prefix { text: shorten(text), prefix: $prefix })?;
                decode(body).map(Self).ok_or_else(|| ParseIdError::Body { text: shorten(text) })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A person's account.
    UserId = "usr";
    /// A device that was enrolled; also the last path segment of its certificate's SPIFFE id.
    DeviceId = "dev";
    /// One sign-in of one user on one device.
    SessionId = "ses";
    /// A policy enforcement point.
    GatewayId = "gtw";
    /// A controller.
    ControllerId = "ctl";
    /// A connector.
    ConnectorId = "con";
    /// A policy made from a template for one subject and one resource.
    GrantId = "grt";
    /// A user's request for a grant.
    RequestId = "req";
    /// A version of the policy that waits for a second administrator.
    ProposalId = "prp";
    /// A message to a webhook; the same each time that it is sent.
    MessageId = "msg";
    /// A registered passkey.
    PasskeyId = "pky";
    /// One decision of the policy engine; quoted to people so that an administrator can find it.
    DecisionId = "dec";
    /// One open path through the enforcement point.
    FlowId = "flw";
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_form_round_trips(bytes: [u8; 16]) {
            let id = UserId::from_random(bytes);
            prop_assert_eq!(id.to_string().parse::<UserId>(), Ok(id));
        }

        #[test]
        fn parsing_never_panics_and_is_canonical(text in ".{0,64}") {
            if let Ok(id) = text.parse::<DeviceId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let user = UserId::from_random([7; 16]).to_string();
        assert!(matches!(user.parse::<DeviceId>(), Err(ParseIdError::Prefix { .. })));
    }

    #[test]
    fn overlong_leading_character_is_refused() {
        let text = format!("usr_8{}", "0".repeat(25));
        assert!(matches!(text.parse::<UserId>(), Err(ParseIdError::Body { .. })));
    }
}

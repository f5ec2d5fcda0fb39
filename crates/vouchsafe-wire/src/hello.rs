//! A ClientHello as QUIC carries it: handshake bytes in CRYPTO frames, without TLS records.
//!
//! What it says is for the TLS library to read, which wants records; this only finds where it ends
//! and puts it into some.

/// Longest ClientHello, as on TCP (S-TLS-4).
pub const MAX_HELLO: usize = 64 * 1024;
/// Longest content of a TLS record (RFC 8446 §5.1).
const MAX_RECORD: usize = 1 << 14;
const CLIENT_HELLO: u8 = 1;

/// What can't begin a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Another message, or none.
    #[error("the handshake begins with no ClientHello")]
    Other,
    /// More than is kept.
    #[error("the ClientHello is too long")]
    TooLong,
}

/// Collects a ClientHello.
#[derive(Debug, Default)]
pub struct Hello(Vec<u8>);

impl Hello {
    /// Adds bytes and says whether the ClientHello is whole; bytes of what follows it are kept too.
    ///
    /// # Errors
    /// [`HelloError`]; no byte of it may be used.
    pub fn add(&mut self, bytes: &[u8]) -> Result<bool, HelloError> {
        if self.0.len().saturating_add(bytes.len()) > MAX_HELLO {
            return Err(HelloError::TooLong);
        }
        self.0.extend_from_slice(bytes);
        match self.end() {
            Some(end) if end > MAX_HELLO => Err(HelloError::TooLong),
            Some(end) => Ok(self.0.len() >= end),
            None if self.0.first().is_none_or(|kind| *kind == CLIENT_HELLO) => Ok(false),
            None => Err(HelloError::Other),
        }
    }

    /// Where it ends: HandshakeType client_hello and a length of three bytes (RFC 8446 §4).
    fn end(&self) -> Option<usize> {
        match self.0.as_slice() {
            [CLIENT_HELLO, high, middle, low, ..] => {
                let length = u32::from_be_bytes([0, *high, *middle, *low]);
                Some(4 + usize::try_from(length).unwrap_or(usize::MAX - 4))
            }
            _ => None,
        }
    }

    /// All that came, as it came.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The ClientHello alone, in TLS records; `None` before it is whole.
    #[must_use]
    pub fn records(&self) -> Option<Vec<u8>> {
        let hello = self.0.get(..self.end()?)?;
        let mut out = Vec::with_capacity(hello.len() + 16);
        for part in hello.chunks(MAX_RECORD) {
            // A handshake of the version that a first record says (RFC 8446 §5.1).
            out.extend([22, 3, 1]);
            out.extend(u16::try_from(part.len()).ok()?.to_be_bytes());
            out.extend_from_slice(part);
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, length: usize) -> Vec<u8> {
        let mut out = u32::try_from(length).unwrap().to_be_bytes().to_vec();
        out[0] = kind;
        out.resize(4 + length, 7);
        out
    }

    #[test]
    fn it_is_whole_when_its_last_byte_is_there() {
        let whole = message(1, 300);
        for piece in [1, 7, 303, 304] {
            let mut hello = Hello::default();
            let mut parts = whole.chunks(piece).peekable();
            while let Some(part) = parts.next() {
                assert_eq!(hello.records(), None);
                assert_eq!(hello.add(part), Ok(parts.peek().is_none()));
            }
            assert_eq!(hello.add(b"more"), Ok(true));
            assert_eq!(hello.records().unwrap(), [&[22, 3, 1, 1, 48][..], &whole].concat());
            assert_eq!(hello.bytes(), [&whole[..], b"more"].concat());
        }
    }

    #[test]
    fn a_long_one_is_several_records() {
        let mut hello = Hello::default();
        assert_eq!(hello.add(&message(1, 40_000)), Ok(true));
        let records = hello.records().unwrap();
        assert_eq!(records.len(), 40_004 + 3 * 5);
        assert_eq!(
            (&records[..5], &records[5 + MAX_RECORD..10 + MAX_RECORD]),
            (&[22, 3, 1, 64, 0][..], &[22, 3, 1, 64, 0][..])
        );
    }

    #[test]
    fn what_is_no_hello_or_too_long_is_refused_at_once() {
        assert_eq!(Hello::default().add(&message(2, 0)), Err(HelloError::Other));
        assert_eq!(Hello::default().add(&[0]), Err(HelloError::Other));
        assert_eq!(Hello::default().add(&[1, 1, 0, 0]), Err(HelloError::TooLong));
        assert_eq!(Hello::default().add(&[1, 255, 255, 255]), Err(HelloError::TooLong));
        let mut hello = Hello::default();
        assert_eq!(hello.add(&message(1, MAX_HELLO - 4)), Ok(true));
        assert_eq!(hello.add(&[0]), Err(HelloError::TooLong));
        assert_eq!(Hello::default().add(&[]), Ok(false));
    }
}

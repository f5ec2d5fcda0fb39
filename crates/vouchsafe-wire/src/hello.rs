//! The first messages of a handshake as QUIC carries them: bytes in CRYPTO frames, without TLS records.
//!
//! What a ClientHello says is for the TLS library to read, which wants records; this only finds where it ends
//! and puts it into some. Of a ServerHello, which is our own, it finds the group that the key is agreed on with:
//! QUIC's library doesn't tell.

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

const SERVER_HELLO: u8 = 2;
/// Extension `key_share` (RFC 8446 §4.2).
const KEY_SHARE: u16 = 51;

/// The group of the `key_share` in a ServerHello (RFC 8446 §4.1.3, §4.2.8) that these handshake bytes begin with; `None`
/// where they begin with something else, or say no group. A HelloRetryRequest names the group that the ServerHello after
/// it will have.
#[must_use]
pub fn group_of_server_hello(bytes: &[u8]) -> Option<u16> {
    let (kind, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_at_checked(3)?;
    let [high, middle, low] = length else { return None };
    let length = usize::try_from(u32::from_be_bytes([0, *high, *middle, *low])).ok()?;
    let message = rest.get(..length).filter(|_| *kind == SERVER_HELLO)?;
    // Version and random.
    let (session, rest) = message.get(34..)?.split_first()?;
    // The session id, the cipher suite, and the compression method.
    let rest = rest.get(usize::from(*session) + 3..)?;
    let (length, extensions) = two(rest)?;
    let mut extensions = extensions.get(..usize::from(length)).filter(|all| all.len() == extensions.len())?;
    while !extensions.is_empty() {
        let (kind, rest) = two(extensions)?;
        let (length, rest) = two(rest)?;
        let (content, rest) = rest.split_at_checked(usize::from(length))?;
        if kind == KEY_SHARE {
            return two(content).map(|(group, _)| group);
        }
        extensions = rest;
    }
    None
}

/// A number of two bytes, and what follows it.
fn two(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_hello(session: usize, extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut list = Vec::new();
        for (kind, content) in extensions {
            list.extend(kind.to_be_bytes());
            list.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
            list.extend_from_slice(content);
        }
        let mut body = vec![3; 34];
        body.push(u8::try_from(session).unwrap());
        body.resize(35 + session, 9);
        body.extend([0x13, 0x02, 0]);
        body.extend(u16::try_from(list.len()).unwrap().to_be_bytes());
        body.extend(list);
        let mut out = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        out[0] = 2;
        out.extend(body);
        out
    }

    #[test]
    fn the_group_of_a_server_hello_is_that_of_its_key_share() {
        let share = [&[0x11, 0xec, 0, 4][..], &[7; 4]].concat();
        for session in [0, 32] {
            let hello = server_hello(session, &[(43, &[3, 4]), (KEY_SHARE, &share)]);
            assert_eq!(group_of_server_hello(&hello), Some(0x11ec));
            assert_eq!(group_of_server_hello(&[&hello[..], b"what follows"].concat()), Some(0x11ec));
            for end in 0..hello.len() {
                assert_eq!(group_of_server_hello(&hello[..end]), None, "{end}");
            }
        }
        let retry = server_hello(0, &[(KEY_SHARE, &[0, 0x1d]), (43, &[3, 4])]);
        assert_eq!(group_of_server_hello(&retry), Some(0x1d), "a HelloRetryRequest has the group alone");
        assert_eq!(group_of_server_hello(&server_hello(0, &[(43, &[3, 4])])), None);
        assert_eq!(group_of_server_hello(&server_hello(0, &[(KEY_SHARE, &[0])])), None);
        assert_eq!(group_of_server_hello(&server_hello(0, &[])), None);
        let mut other = server_hello(0, &[(KEY_SHARE, &share)]);
        other[0] = 1;
        assert_eq!(group_of_server_hello(&other), None, "another message");
        let mut longer = server_hello(0, &[(KEY_SHARE, &share)]);
        longer.push(0);
        longer[3] += 1;
        assert_eq!(group_of_server_hello(&longer), None, "something behind its extensions");
    }

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

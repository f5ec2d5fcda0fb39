//! Capsules on a stream (RFC 9297 §3.2), and UDP payloads in HTTP Datagrams (RFC 9298 §5).
//!
//! The reader takes bytes in whatever pieces they come. It keeps at most one datagram: a capsule of
//! any other type is skipped as it comes, however long it says it is.

use crate::varint;

/// The largest UDP payload (RFC 9298 §5): 65,535 less the UDP header.
pub const MAX_UDP_PAYLOAD: usize = 65_527;
/// Type of a DATAGRAM capsule (RFC 9297 §3.5).
const DATAGRAM: u64 = 0;
/// The one context id that is in use: an UDP payload as it is (RFC 9298 §4).
const UDP_CONTEXT: u64 = 0;
/// A datagram is a context id and a payload.
const MAX_DATAGRAM: usize = 8 + MAX_UDP_PAYLOAD;
/// Type and length, eight bytes each at most.
const MAX_HEAD: usize = 16;

/// A stream of capsules that can't be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CapsuleError {
    /// A datagram that no UDP packet could hold (RFC 9298 §5: the stream must end).
    #[error("a datagram is longer than a UDP packet can be")]
    TooLong,
}

/// Reads datagrams out of a stream of capsules.
#[derive(Debug)]
pub struct CapsuleReader {
    state: State,
    /// Bytes so far of a head or a datagram.
    kept: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    ExpectHead,
    ExpectDatagram { length: usize },
    Skip { left: u64 },
}

impl Default for CapsuleReader {
    fn default() -> Self {
        Self { state: State::ExpectHead, kept: Vec::new() }
    }
}

impl CapsuleReader {
    /// Takes bytes from the front of `input` until a datagram is whole, which is then returned, or
    /// nothing is left.
    ///
    /// # Errors
    /// [`CapsuleError::TooLong`]; nothing more can be read then.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, CapsuleError> {
        loop {
            match self.state {
                State::ExpectHead => {
                    let Some((kind, length)) = self.head(input) else { return Ok(None) };
                    self.kept.clear();
                    self.state = match (kind, usize::try_from(length)) {
                        (DATAGRAM, Ok(length)) if length <= MAX_DATAGRAM => State::ExpectDatagram { length },
                        (DATAGRAM, _) => return Err(CapsuleError::TooLong),
                        _ => State::Skip { left: length },
                    };
                }
                State::ExpectDatagram { length } => {
                    take(input, &mut self.kept, length);
                    if self.kept.len() < length {
                        return Ok(None);
                    }
                    self.state = State::ExpectHead;
                    return Ok(Some(std::mem::take(&mut self.kept)));
                }
                State::Skip { left } => {
                    let now = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    *input = input.get(now..).unwrap_or_default();
                    let left = left.saturating_sub(now as u64);
                    if left > 0 {
                        self.state = State::Skip { left };
                        return Ok(None);
                    }
                    self.state = State::ExpectHead;
                }
            }
        }
    }

    /// Type and length, once both are there.
    fn head(&mut self, input: &mut &[u8]) -> Option<(u64, u64)> {
        loop {
            if let Some((kind, first)) = varint::read(&self.kept)
                && let Some((length, _)) = varint::read(self.kept.get(first..).unwrap_or_default())
            {
                return Some((kind, length));
            }
            // INVARIANT: two numbers are whole after `MAX_HEAD` bytes at the latest.
            let wanted = (self.kept.len() + 1).min(MAX_HEAD);
            if input.is_empty() {
                return None;
            }
            take(input, &mut self.kept, wanted);
        }
    }
}

/// Moves bytes from the front of `input` until `kept` holds `wanted`.
fn take(input: &mut &[u8], kept: &mut Vec<u8>, wanted: usize) {
    let now = wanted.saturating_sub(kept.len()).min(input.len());
    let (taken, rest) = input.split_at_checked(now).unwrap_or((input, &[]));
    kept.extend_from_slice(taken);
    *input = rest;
}

/// The UDP payload in an HTTP Datagram. `None` for what must be dropped: a context that nobody
/// registered, a payload that is too long, or no context at all.
#[must_use]
pub fn udp_payload(datagram: &[u8]) -> Option<&[u8]> {
    let (context, length) = varint::read(datagram)?;
    let payload = datagram.get(length..)?;
    (context == UDP_CONTEXT && payload.len() <= MAX_UDP_PAYLOAD).then_some(payload)
}

/// Writes a UDP payload as an HTTP Datagram.
pub fn write_datagram(out: &mut Vec<u8>, payload: &[u8]) {
    varint::write(out, UDP_CONTEXT);
    out.extend_from_slice(payload);
}

/// Writes a UDP payload as a DATAGRAM capsule.
pub fn write_capsule(out: &mut Vec<u8>, payload: &[u8]) {
    varint::write(out, DATAGRAM);
    varint::write(out, payload.len() as u64 + 1);
    write_datagram(out, payload);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(reader: &mut CapsuleReader, mut input: &[u8]) -> Result<Vec<Vec<u8>>, CapsuleError> {
        let mut found = Vec::new();
        while let Some(datagram) = reader.next(&mut input)? {
            found.push(datagram);
        }
        assert!(input.is_empty());
        Ok(found)
    }

    fn head(kind: u64, length: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        varint::write(&mut bytes, kind);
        varint::write(&mut bytes, length);
        bytes
    }

    #[test]
    fn a265_an_unknown_capsule_of_any_length_keeps_no_memory() {
        let mut reader = CapsuleReader::default();
        assert_eq!(read(&mut reader, &head(0x1234, 1 << 60)), Ok(vec![]));
        for _ in 0..64 {
            assert_eq!(read(&mut reader, &[0; 65_536]), Ok(vec![]));
            assert!(reader.kept.capacity() <= 64);
        }
    }

    #[test]
    fn a265_a_datagram_longer_than_udp_ends_the_stream() {
        for length in [MAX_DATAGRAM as u64 + 1, 1 << 60] {
            let mut reader = CapsuleReader::default();
            assert_eq!(read(&mut reader, &head(DATAGRAM, length)), Err(CapsuleError::TooLong));
        }
    }

    #[test]
    fn only_context_zero_is_udp() {
        assert_eq!(udp_payload(&[0, 1, 2]), Some(&[1, 2][..]));
        assert_eq!(udp_payload(&[0]), Some(&[][..]));
        // The same number in a longer form.
        assert_eq!(udp_payload(&[0x40, 0, 7]), Some(&[7][..]));
        for dropped in [&[][..], &[2, 1], &[0x40], &[0xc0, 0, 0, 0, 0, 0, 0, 1, 9]] {
            assert_eq!(udp_payload(dropped), None, "{dropped:?}");
        }
        assert_eq!(udp_payload(&vec![0; 1 + MAX_UDP_PAYLOAD + 1]), None);
        assert!(udp_payload(&vec![0; 1 + MAX_UDP_PAYLOAD]).is_some());
    }

    proptest! {
        /// However a stream is cut into pieces, the same payloads come out, and nothing of what stands between.
        #[test]
        fn pieces_make_no_difference(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6),
            unknown in prop::collection::vec(any::<u8>(), 0..200),
            kind in 1..varint::MAX,
            piece in 1usize..40,
        ) {
            let mut stream = Vec::new();
            for payload in &payloads {
                write_capsule(&mut stream, payload);
                stream.extend(head(kind, unknown.len() as u64));
                stream.extend(&unknown);
            }
            let mut reader = CapsuleReader::default();
            let mut found = Vec::new();
            for part in stream.chunks(piece) {
                found.extend(read(&mut reader, part).unwrap());
            }
            let found: Vec<&[u8]> = found.iter().map(|datagram| udp_payload(datagram).unwrap()).collect();
            prop_assert_eq!(found, payloads.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_at_all_are_survived(bytes in any::<Vec<u8>>(), piece in 1usize..20) {
            let mut reader = CapsuleReader::default();
            for part in bytes.chunks(piece) {
                if read(&mut reader, part).is_err() {
                    break;
                }
                prop_assert!(reader.kept.len() <= MAX_DATAGRAM);
            }
        }
    }
}

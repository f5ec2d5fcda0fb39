//! Frames of the gateway's audit spool: `length (4, LE) · CRC-32 of the payload (4, LE) · payload`.
//!
//! A crash can leave one torn frame at the end of a segment; reading stops there, and the writer
//! cuts it off before it appends again.

use crate::audit::MAX_RECORD_BYTES;

/// Bytes in front of each payload.
pub const HEADER_BYTES: usize = 8;

/// What stands at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'b> {
    /// A whole frame, and how many bytes it took.
    Whole {
        /// The record's canonical bytes.
        payload: &'b [u8],
        /// Header and payload together.
        length: usize,
    },
    /// The buffer ends inside a frame: read more, or, at the end of a file, a torn write.
    Partial,
    /// The bytes are no frame: zeroes of a preallocated file, or damage.
    Broken,
}

/// Appends one frame. The payload must not be longer than [`MAX_RECORD_BYTES`]; a longer one
/// would read back as [`Frame::Broken`].
pub fn push_frame(out: &mut Vec<u8>, payload: &[u8]) {
    out.extend_from_slice(&frame_header(payload));
    out.extend_from_slice(payload);
}

/// What stands in front of a payload.
#[must_use]
pub fn frame_header(payload: &[u8]) -> [u8; HEADER_BYTES] {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut header = [0; HEADER_BYTES];
    let both = length.to_le_bytes().into_iter().chain(crc32fast::hash(payload).to_le_bytes());
    header.iter_mut().zip(both).for_each(|(to, from)| *to = from);
    header
}

/// Reads the frame at the start of `bytes`.
#[must_use]
pub fn read_frame(bytes: &[u8]) -> Frame<'_> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Frame::Partial };
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 || length > MAX_RECORD_BYTES {
        return Frame::Broken;
    }
    let Some((sum, rest)) = rest.split_first_chunk::<4>() else { return Frame::Partial };
    let Some(payload) = rest.get(..length) else { return Frame::Partial };
    if crc32fast::hash(payload) != u32::from_le_bytes(*sum) {
        return Frame::Broken;
    }
    Frame::Whole { payload, length: HEADER_BYTES + length }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_round_trip_and_every_cut_is_partial(payload in proptest::collection::vec(any::<u8>(), 1..200)) {
            let mut bytes = Vec::new();
            push_frame(&mut bytes, &payload);
            prop_assert_eq!(read_frame(&bytes), Frame::Whole { payload: &payload, length: bytes.len() });
            for end in 0..bytes.len() {
                prop_assert_eq!(read_frame(&bytes[..end]), Frame::Partial);
            }
        }

        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read_frame(&bytes);
        }
    }

    #[test]
    fn a_flipped_bit_is_seen() {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, b"record");
        bytes[10] ^= 1;
        assert_eq!(read_frame(&bytes), Frame::Broken);
        assert_eq!(read_frame(&[0; 32]), Frame::Broken);
    }
}

//! Frames of HTTP/3 (RFC 9114 §7), as they come out of a stream.
//!
//! The reader hands on the content of DATA as it comes, keeps the few other frames that have a
//! meaning until they are whole and as long as they are small, and skips the rest without keeping
//! anything: no length that a peer announces costs memory.

pub mod head;

use bytes::{Buf, Bytes, BytesMut};

use crate::varint;

/// Types of frames (RFC 9114 §7.2).
pub mod frame {
    /// Content.
    pub const DATA: u64 = 0x0;
    /// A field section.
    pub const HEADERS: u64 = 0x1;
    /// Only ever from clients to servers that push.
    pub const CANCEL_PUSH: u64 = 0x3;
    /// What an end can take.
    pub const SETTINGS: u64 = 0x4;
    /// Only ever from servers.
    pub const PUSH_PROMISE: u64 = 0x5;
    /// No more requests.
    pub const GOAWAY: u64 = 0x7;
    /// Only ever from clients.
    pub const MAX_PUSH_ID: u64 = 0xd;
}

/// Types of unidirectional streams (RFC 9114 §6.2, RFC 9204 §4.2).
pub mod stream {
    /// Settings and the end of the connection.
    pub const CONTROL: u64 = 0x0;
    /// Only ever from servers.
    pub const PUSH: u64 = 0x1;
    /// Instructions for a dynamic table.
    pub const QPACK_ENCODER: u64 = 0x2;
    /// Acknowledgements of such.
    pub const QPACK_DECODER: u64 = 0x3;
}

/// Settings (RFC 9114 §7.2.4.1, RFC 9220 §5, RFC 9297 §2.1.1).
pub mod setting {
    /// Largest field section that is taken in.
    pub const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
    /// Whether extended CONNECT is served.
    pub const ENABLE_CONNECT_PROTOCOL: u64 = 0x8;
    /// Whether HTTP Datagrams are taken in.
    pub const H3_DATAGRAM: u64 = 0x33;
}

/// Error codes (RFC 9114 §8.1, RFC 9204 §6, RFC 9297 §5.2).
pub mod code {
    /// A datagram that can't be read.
    pub const DATAGRAM_ERROR: u32 = 0x33;
    /// No error.
    pub const NO_ERROR: u32 = 0x100;
    /// A rule of the protocol was broken that has no code of its own.
    pub const GENERAL_PROTOCOL_ERROR: u32 = 0x101;
    /// Our own fault.
    pub const INTERNAL_ERROR: u32 = 0x102;
    /// A stream that may not be.
    pub const STREAM_CREATION_ERROR: u32 = 0x103;
    /// A stream ended that the connection can't be without.
    pub const CLOSED_CRITICAL_STREAM: u32 = 0x104;
    /// A frame where none of its type may be.
    pub const FRAME_UNEXPECTED: u32 = 0x105;
    /// A frame that does not keep to its length.
    pub const FRAME_ERROR: u32 = 0x106;
    /// Too much at once.
    pub const EXCESSIVE_LOAD: u32 = 0x107;
    /// Settings that contradict themselves.
    pub const SETTINGS_ERROR: u32 = 0x109;
    /// No settings came first.
    pub const MISSING_SETTINGS: u32 = 0x10a;
    /// Not looked at; may be sent again.
    pub const REQUEST_REJECTED: u32 = 0x10b;
    /// Given up.
    pub const REQUEST_CANCELLED: u32 = 0x10c;
    /// The stream ended before its request did.
    pub const REQUEST_INCOMPLETE: u32 = 0x10d;
    /// A malformed message.
    pub const MESSAGE_ERROR: u32 = 0x10e;
    /// A field section that can't be decoded.
    pub const QPACK_DECOMPRESSION_FAILED: u32 = 0x200;
    /// An instruction for a table that we don't have.
    pub const QPACK_ENCODER_STREAM_ERROR: u32 = 0x201;
}

/// Largest frame of those that are kept whole, but for HEADERS.
const MAX_SMALL_FRAME: usize = 4 * 1024;

/// What came out of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Some content of a DATA frame, not necessarily all of it; nothing for an empty one.
    Data(Bytes),
    /// A whole frame of another type that has a meaning.
    Whole {
        /// Its type, one of [`frame`].
        kind: u64,
        /// Its content.
        content: Bytes,
    },
}

/// A stream that can't be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A type of HTTP/2 that must not be used (RFC 9114 §7.2.8).
    #[error("frame type {0:#x} has no place in HTTP/3")]
    Unexpected(u64),
    /// A frame that is kept whole announces more than is taken in.
    #[error("a frame of type {kind:#x} announces {length} bytes")]
    TooLong {
        /// Its type.
        kind: u64,
        /// The length.
        length: u64,
    },
}

/// Reads frames out of a stream.
#[derive(Debug)]
pub struct FrameReader {
    state: State,
    max_headers: usize,
    barren: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    ExpectHead,
    ExpectWhole { kind: u64, length: usize },
    InData { left: u64 },
    Skip { left: u64 },
}

impl FrameReader {
    /// A reader that takes in HEADERS of at most that many bytes.
    #[must_use]
    pub const fn new(max_headers: usize) -> Self {
        Self { state: State::ExpectHead, max_headers, barren: 0 }
    }

    /// How many frames came since this was last asked that carry nothing: without a meaning, or empty
    /// DATA.
    pub fn barren(&mut self) -> u32 {
        std::mem::take(&mut self.barren)
    }

    /// Whether the stream may end here: not within a frame.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.state == State::ExpectHead
    }

    /// Takes bytes from the front of `input` until something is there to hand on. `None` when more
    /// bytes are needed; `input` then holds the beginning of a frame, which is small, or nothing.
    ///
    /// # Errors
    /// [`FrameError`]; nothing more can be read then.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        loop {
            match self.state {
                State::ExpectHead => {
                    let Some((kind, first)) = varint::read(input) else { return Ok(None) };
                    let rest = input.get(first..).unwrap_or_default();
                    let Some((length, second)) = varint::read(rest) else { return Ok(None) };
                    self.state = self.after_head(kind, length)?;
                    input.advance(first + second);
                    if matches!(self.state, State::InData { left: 0 } | State::Skip { .. }) {
                        self.barren = self.barren.saturating_add(1);
                    }
                    if self.state == (State::InData { left: 0 }) {
                        // It says nothing, but must not stand everywhere either.
                        self.state = State::ExpectHead;
                        return Ok(Some(Frame::Data(Bytes::new())));
                    }
                }
                State::ExpectWhole { kind, length } => {
                    if input.len() < length {
                        return Ok(None);
                    }
                    self.state = State::ExpectHead;
                    return Ok(Some(Frame::Whole { kind, content: input.split_to(length).freeze() }));
                }
                State::InData { left: 0 } | State::Skip { left: 0 } => self.state = State::ExpectHead,
                State::InData { left } => {
                    let now = now(left, input);
                    if now == 0 {
                        return Ok(None);
                    }
                    self.state = State::InData { left: left - now as u64 };
                    return Ok(Some(Frame::Data(input.split_to(now).freeze())));
                }
                State::Skip { left } => {
                    let now = now(left, input);
                    if now == 0 {
                        return Ok(None);
                    }
                    self.state = State::Skip { left: left - now as u64 };
                    input.advance(now);
                }
            }
        }
    }

    fn after_head(&self, kind: u64, length: u64) -> Result<State, FrameError> {
        let max = match kind {
            frame::DATA => return Ok(State::InData { left: length }),
            frame::HEADERS => self.max_headers,
            frame::CANCEL_PUSH | frame::SETTINGS | frame::PUSH_PROMISE | frame::GOAWAY | frame::MAX_PUSH_ID => {
                MAX_SMALL_FRAME
            }
            0x2 | 0x6 | 0x8 | 0x9 => return Err(FrameError::Unexpected(kind)),
            _ => return Ok(State::Skip { left: length }),
        };
        match usize::try_from(length) {
            Ok(length) if length <= max => Ok(State::ExpectWhole { kind, length }),
            _ => Err(FrameError::TooLong { kind, length }),
        }
    }
}

/// How much of what is left of a frame is here.
fn now(left: u64, input: &BytesMut) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(input.len())
}

/// Writes the head of a frame.
pub fn write_head(out: &mut Vec<u8>, kind: u64, length: usize) {
    varint::write(out, kind);
    varint::write(out, length as u64);
}

/// Writes a SETTINGS frame.
pub fn write_settings(out: &mut Vec<u8>, settings: &[(u64, u64)]) {
    let mut content = Vec::new();
    for (id, value) in settings {
        varint::write(&mut content, *id);
        varint::write(&mut content, *value);
    }
    write_head(out, frame::SETTINGS, content.len());
    out.extend(content);
}

/// Reads the content of a SETTINGS frame. `None` when it is cut off, names a setting twice, or one
/// of HTTP/2 (RFC 9114 §7.2.4).
#[must_use]
pub fn read_settings(mut content: &[u8]) -> Option<Vec<(u64, u64)>> {
    let mut settings: Vec<(u64, u64)> = Vec::new();
    while !content.is_empty() {
        let (id, first) = varint::read(content)?;
        let (value, second) = varint::read(content.get(first..)?)?;
        content = content.get(first + second..)?;
        let of_http2 = (0x2..=0x5).contains(&id);
        if of_http2 || settings.iter().any(|(known, _)| *known == id) {
            return None;
        }
        settings.push((id, value));
    }
    Some(settings)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1000;

    fn framed(kind: u64, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_head(&mut out, kind, content.len());
        out.extend_from_slice(content);
        out
    }

    /// All frames, DATA joined.
    fn read(stream: &[u8], piece: usize) -> Result<Vec<Frame>, FrameError> {
        let (mut reader, mut input, mut found) = (FrameReader::new(MAX), BytesMut::new(), Vec::new());
        for part in stream.chunks(piece) {
            input.extend_from_slice(part);
            while let Some(frame) = reader.next(&mut input)? {
                match (found.last_mut(), frame) {
                    (Some(Frame::Data(before)), Frame::Data(more)) => {
                        *before = [&before[..], &more[..]].concat().into()
                    }
                    (_, frame) => found.push(frame),
                }
            }
            assert!(input.len() <= MAX.max(MAX_SMALL_FRAME) + piece);
        }
        Ok(found)
    }

    #[test]
    fn a265_no_announced_length_costs_memory() {
        let mut head = Vec::new();
        write_head(&mut head, frame::HEADERS, 1 << 40);
        assert_eq!(read(&head, 1), Err(FrameError::TooLong { kind: frame::HEADERS, length: 1 << 40 }));
        let (mut reader, mut input) = (FrameReader::new(MAX), BytesMut::new());
        varint::write(&mut head, 0);
        let mut unknown = Vec::new();
        varint::write(&mut unknown, 0x21);
        varint::write(&mut unknown, 1 << 60);
        input.extend_from_slice(&unknown);
        for _ in 0..64 {
            input.extend_from_slice(&[0; 65_536]);
            assert_eq!(reader.next(&mut input), Ok(None));
            assert!(input.is_empty() && !reader.is_between_frames());
        }
    }

    #[test]
    fn a_stream_may_only_end_between_frames() {
        let mut reader = FrameReader::new(MAX);
        let mut input = BytesMut::from(&framed(frame::DATA, b"four")[..]);
        input.truncate(4);
        assert!(matches!(reader.next(&mut input), Ok(Some(Frame::Data(_)))));
        assert_eq!(reader.next(&mut input), Ok(None));
        assert!(!reader.is_between_frames(), "two bytes are missing");
        input.extend_from_slice(b"ur");
        assert!(matches!(reader.next(&mut input), Ok(Some(Frame::Data(_)))));
        assert_eq!(reader.next(&mut input), Ok(None));
        assert!(reader.is_between_frames());
    }

    #[test]
    fn a261_frames_that_carry_nothing_are_counted() {
        let mut reader = FrameReader::new(MAX);
        let frames = [
            framed(frame::DATA, b""),
            framed(0x21, b""),
            framed(frame::DATA, b"content"),
            framed(0x40, b"content"),
            framed(frame::HEADERS, b""),
        ];
        let mut input = BytesMut::from(&frames.concat()[..]);
        while reader.next(&mut input).unwrap().is_some() {}
        assert_eq!((reader.barren(), reader.barren()), (3, 0));
    }

    #[test]
    fn frames_of_http2_end_the_connection() {
        for kind in [0x2, 0x6, 0x8, 0x9] {
            assert_eq!(read(&framed(kind, b""), 9), Err(FrameError::Unexpected(kind)));
        }
    }

    #[test]
    fn settings_round_trip_and_contradictions_are_refused() {
        let settings = [(setting::MAX_FIELD_SECTION_SIZE, 65_536), (setting::H3_DATAGRAM, 1)];
        let mut out = Vec::new();
        write_settings(&mut out, &settings);
        let Frame::Whole { content, .. } = read(&out, 3).unwrap().remove(0) else { panic!("not whole") };
        assert_eq!(read_settings(&content), Some(settings.to_vec()));
        for wrong in [&[0x6, 1, 0x6, 1][..], &[0x2, 0], &[0x33], &[0x33, 0x40]] {
            assert_eq!(read_settings(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            parts in prop::collection::vec((0u64..16, prop::collection::vec(any::<u8>(), 1..200)), 0..6),
            piece in 1usize..50,
        ) {
            let parts: Vec<_> = parts.into_iter().filter(|(kind, _)| !matches!(kind, 2 | 6 | 8 | 9)).collect();
            let stream: Vec<u8> = parts.iter().flat_map(|(kind, content)| framed(*kind, content)).collect();
            prop_assert_eq!(read(&stream, piece), read(&stream, 1 << 20));
        }

        #[test]
        fn any_bytes_at_all_are_survived(stream in any::<Vec<u8>>(), piece in 1usize..20) {
            let _ = read(&stream, piece);
        }
    }
}

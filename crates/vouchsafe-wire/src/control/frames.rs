//! Messages in a gRPC stream: `compressed (1) · length (4, BE) · message`. Nothing is compressed.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

/// Bytes in front of each message.
const HEADER_BYTES: usize = 5;

/// Failure to read a stream; nothing behind it can be read either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The message says that it is compressed, which was never agreed on.
    #[error("a message of the control channel is compressed")]
    Compressed,
    /// The message is longer than any may be.
    #[error("a message of the control channel has {length} bytes, more than {limit}")]
    TooLong {
        /// As announced.
        length: usize,
        /// What may be.
        limit: usize,
    },
    /// It is not of the protocol.
    #[error("a message of the control channel can't be read")]
    Malformed(#[source] prost::DecodeError),
}

/// A message ready to be sent.
#[must_use]
pub fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(HEADER_BYTES + length);
    out.put_u8(0);
    // INVARIANT: what we make is far below 4 GiB; a longer one would be refused by its reader.
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // A buffer that grows takes every message.
    let _ = message.encode(&mut out);
    out.freeze()
}

/// The bytes of a message that stands within another.
#[must_use]
pub fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// A message that stands within another.
///
/// # Errors
/// [`FrameError::Malformed`].
pub fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, FrameError> {
    M::decode(bytes).map_err(FrameError::Malformed)
}

/// Puts messages together out of pieces as they come.
#[derive(Debug)]
pub struct Frames {
    buffer: BytesMut,
    limit: usize,
}

impl Frames {
    /// For messages of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit }
    }

    /// Takes in the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next message, once it is whole. Its length is judged by the header, before it has come.
    ///
    /// # Errors
    /// [`FrameError`]; the stream must be given up.
    pub fn take<M: Message + Default>(&mut self) -> Result<Option<M>, FrameError> {
        let Some((&[compressed, a, b, c, d], _)) = self.buffer.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        if compressed != 0 {
            return Err(FrameError::Compressed);
        }
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > self.limit {
            return Err(FrameError::TooLong { length, limit: self.limit });
        }
        if self.buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        let message = self.buffer.split_to(length).freeze();
        M::decode(message).map(Some).map_err(FrameError::Malformed)
    }
}

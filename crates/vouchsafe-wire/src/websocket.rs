//! Where the frames of a WebSocket begin and end (RFC 6455 §5.2), for a gateway that passes them on
//! unread but may have to say a last word between two of them.

/// Close code 1008: an endpoint's policy forbids to go on (RFC 6455 §7.4.1).
pub const POLICY_VIOLATION: u16 = 1008;
/// Longest reason in a close frame, bytes: a control frame carries 125, the code two (§5.5.1).
const MAX_REASON_BYTES: usize = 123;
/// Longest head of a frame: two bytes, eight of length, four of mask.
const MAX_HEAD_BYTES: usize = 14;
const OPCODE_CLOSE: u8 = 8;

/// Follows one direction of a WebSocket byte by byte. It keeps one head and no payload.
///
/// ```
/// use vouchsafe_wire::websocket::Frames;
///
/// let mut frames = Frames::default();
/// frames.advance(&[0x81, 5, b'h', b'e']);
/// assert!(!frames.may_close(), "in the middle of a frame");
/// frames.advance(b"llo");
/// assert!(frames.may_close());
/// ```
#[derive(Debug, Default)]
pub struct Frames {
    head: [u8; MAX_HEAD_BYTES],
    /// Bytes of the head that are there.
    have: usize,
    /// Bytes of the payload that are still to come.
    payload: u64,
    closed: bool,
}

impl Frames {
    /// Takes note of bytes that have passed.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skipped = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                self.payload -= skipped as u64;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let Some((byte, rest)) = bytes.split_first() else { return };
            if let Some(slot) = self.head.get_mut(self.have) {
                *slot = *byte;
            }
            self.have += 1;
            bytes = rest;
            if let Some(payload) = self.payload_of_whole_head() {
                self.closed |= self.head.first().is_some_and(|first| first & 0x0f == OPCODE_CLOSE);
                self.payload = payload;
                self.have = 0;
            }
        }
    }

    /// Whether a close frame may follow here: no frame is begun, and none has closed this direction.
    #[must_use]
    pub fn may_close(&self) -> bool {
        self.have == 0 && self.payload == 0 && !self.closed
    }

    /// Length of the payload, once the head is whole.
    fn payload_of_whole_head(&self) -> Option<u64> {
        let [_, second, rest @ ..] = self.head;
        if self.have < 2 {
            return None;
        }
        let (extended, payload) = match second & 0x7f {
            126 => (2, u64::from(u16::from_be_bytes([rest[0], rest[1]]))),
            127 => {
                let [a, b, c, d, e, f, g, h, ..] = rest;
                (8, u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
            short => (0, u64::from(short)),
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        (self.have == 2 + extended + mask).then_some(payload)
    }
}

/// A close frame from server to client, so without a mask (§5.1). A reason that is too long is
/// shortened between two characters.
#[must_use]
pub fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let end = (0..=reason.len().min(MAX_REASON_BYTES)).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
    let reason = reason.get(..end).unwrap_or_default().as_bytes();
    let length = u8::try_from(reason.len() + 2).unwrap_or(2);
    let mut frame = vec![0x80 | OPCODE_CLOSE, length];
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(reason);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One frame, in the shortest form of its length or a longer one.
    fn frame(opcode: u8, payload: usize, form: u8, mask: bool) -> Vec<u8> {
        let masked = if mask { 0x80 } else { 0 };
        let mut out = vec![0x80 | opcode];
        match (form, payload) {
            (0, 0..126) => out.push(masked | u8::try_from(payload).unwrap()),
            (0 | 1, 0..65_536) => {
                out.push(masked | 126);
                out.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                out.push(masked | 127);
                out.extend((payload as u64).to_be_bytes());
            }
        }
        if mask {
            out.extend([1, 2, 3, 4]);
        }
        // A payload that looks like frames itself.
        out.extend(std::iter::repeat_n([0x88, 0x00], payload.div_ceil(2)).flatten().take(payload));
        out
    }

    proptest! {
        #[test]
        fn only_ends_of_frames_are_places_to_close(
            frames in prop::collection::vec((prop::sample::select(vec![0u8, 1, 2, 9, 10]), 0usize..70_000, 0u8..3, any::<bool>()), 1..4),
            step in 1usize..5_000,
        ) {
            let (mut bytes, mut ends) = (Vec::new(), vec![0]);
            for (opcode, payload, form, mask) in frames {
                bytes.extend(frame(opcode, payload, form, mask));
                ends.push(bytes.len());
            }
            let (mut state, mut at) = (Frames::default(), 0);
            while at < bytes.len() {
                let to = (at + step).min(bytes.len());
                state.advance(&bytes[at..to]);
                at = to;
                prop_assert_eq!(state.may_close(), ends.contains(&at), "at {}", at);
            }
        }

        #[test]
        fn how_the_bytes_are_cut_up_makes_no_difference(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let (mut whole, mut single) = (Frames::default(), Frames::default());
            whole.advance(&bytes);
            for byte in &bytes {
                single.advance(std::slice::from_ref(byte));
            }
            prop_assert_eq!(format!("{whole:?}"), format!("{single:?}"));
        }
    }

    #[test]
    fn nothing_follows_a_close_frame() {
        let mut frames = Frames::default();
        frames.advance(&close_frame(POLICY_VIOLATION, "Your session has ended."));
        assert!(!frames.may_close());
    }

    #[test]
    fn a_reason_fits_into_a_control_frame() {
        let frame = close_frame(POLICY_VIOLATION, &"é".repeat(100));
        assert_eq!((frame.len(), frame[1]), (126, 124));
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
        assert_eq!(close_frame(1008, ""), [0x88, 2, 0x03, 0xf0]);
    }
}

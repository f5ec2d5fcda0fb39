//! Chunks of a body (RFC 9112 §7.1), without extensions.

/// Most digits of a chunk size: leading zeros included, it fits in 64 bits with one to spare.
const MAX_DIGITS: u8 = 15;

/// Where in the chunks the next byte stands.
#[derive(Debug)]
pub(super) enum Chunks {
    Size { size: u64, digits: u8 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
}

impl Default for Chunks {
    fn default() -> Self {
        Chunks::Size { size: 0, digits: 0 }
    }
}

/// How far the bytes are well made.
pub(super) enum Stride {
    /// This far, and more is needed.
    Pass(usize),
    /// This far, and the last chunk has begun: the trailer section comes next.
    Last(usize),
    /// This far, and the byte behind it is wrong.
    Fault(usize),
}

impl Chunks {
    pub(super) fn stride(&mut self, bytes: &[u8]) -> Stride {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            match *self {
                Chunks::Size { size, digits } => match (char::from(byte).to_digit(16), byte) {
                    (Some(digit), _) if digits < MAX_DIGITS => {
                        *self = Chunks::Size { size: size * 16 + u64::from(digit), digits: digits + 1 };
                    }
                    (None, b'\r') if digits > 0 => *self = Chunks::SizeLf { size },
                    _ => return Stride::Fault(at),
                },
                Chunks::SizeLf { size } => match (byte, size) {
                    (b'\n', 0) => return Stride::Last(at + 1),
                    (b'\n', left) => *self = Chunks::Data { left },
                    _ => return Stride::Fault(at),
                },
                Chunks::Data { left } => {
                    let here = u64::try_from(bytes.len() - at).unwrap_or(u64::MAX).min(left);
                    *self = if here == left { Chunks::DataCr } else { Chunks::Data { left: left - here } };
                    at += usize::try_from(here).unwrap_or(0);
                    continue;
                }
                Chunks::DataCr if byte == b'\r' => *self = Chunks::DataLf,
                Chunks::DataLf if byte == b'\n' => *self = Chunks::default(),
                Chunks::DataCr | Chunks::DataLf => return Stride::Fault(at),
            }
            at += 1;
        }
        Stride::Pass(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_followed_to_its_last_byte_however_it_is_cut() {
        let body = [&b"1f\r\n"[..], &[b'x'; 0x1f], b"\r\n102\r\n", &[b'y'; 0x102], b"\r\n0\r\n"].concat();
        for cut in 0..body.len() {
            let (mut chunks, (begin, end)) = (Chunks::default(), body.split_at(cut));
            assert!(matches!(chunks.stride(begin), Stride::Pass(passed) if passed == cut), "cut at {cut}");
            assert!(matches!(chunks.stride(end), Stride::Last(passed) if passed == end.len()), "cut at {cut}");
        }
    }
}

//! Integers of one, two, four or eight bytes (RFC 9000 §16), as QUIC, HTTP/3 and capsules use them.

/// The largest number that can be written.
pub const MAX: u64 = (1 << 62) - 1;

/// Reads a number from the front: its value and how many bytes it took. `None` when bytes are missing.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1usize << (first >> 6);
    let value =
        bytes.get(1..length)?.iter().fold(u64::from(first & 0x3f), |value, byte| (value << 8) | u64::from(*byte));
    Some((value, length))
}

/// Writes a number in its shortest form. What is larger than [`MAX`] is written as [`MAX`]: every
/// number of ours is a length or a type far below it.
pub fn write(out: &mut Vec<u8>, value: u64) {
    let value = value.min(MAX);
    let (length, mark) = match value {
        0..=0x3f => (1, 0),
        0x40..=0x3fff => (2, 0b01),
        0x4000..=0x3fff_ffff => (4, 0b10),
        _ => (8, 0b11),
    };
    let bytes = (value | (mark << (length * 8 - 2))).to_be_bytes();
    out.extend_from_slice(bytes.get(8 - length..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_rfc_9000_a_1() {
        let examples: [(&[u8], u64); 5] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ];
        for (bytes, value) in examples {
            assert_eq!(read(bytes), Some((value, bytes.len())));
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut]), None);
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in 0..=MAX, rest in any::<Vec<u8>>()) {
            let mut bytes = Vec::new();
            write(&mut bytes, value);
            let length = bytes.len();
            bytes.extend(rest);
            prop_assert_eq!(read(&bytes), Some((value, length)));
        }
    }
}

//! Field sections of HTTP/3 (QPACK, RFC 9204) without a dynamic table.
//!
//! We tell our peers that our table has no room (`SETTINGS_QPACK_MAX_TABLE_CAPACITY` 0, the
//! default), so a section can only use the static table and literals: its meaning never depends on
//! another stream, nothing ever waits, and a section costs what its own bytes cost.

/// What RFC 9114 §4.2.2 adds to each field when it counts a section's size.
const OVERHEAD: usize = 32;

/// One field, its name and value as bytes that nobody has judged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Name; pseudo-header fields begin with a colon.
    pub name: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
}

/// Failure to decode a field section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QpackError {
    /// It ends in the middle of a field.
    #[error("the field section is cut off")]
    Truncated,
    /// It refers to a dynamic table, of which there is none.
    #[error("the field section refers to a dynamic table")]
    Dynamic,
    /// It refers past the end of the static table.
    #[error("the static table has no entry {0}")]
    Static(u64),
    /// A number is too large.
    #[error("a number in the field section is too large")]
    Number,
    /// A Huffman code is wrong.
    #[error("a string in the field section is not well encoded")]
    Huffman,
    /// It is larger than was agreed. The stream can go on to an answer that says so.
    #[error("the field section is larger than allowed")]
    TooLarge,
}

/// Decodes a whole section. Its size, counted as in RFC 9114 §4.2.2, may be at most `max_size`.
///
/// # Errors
/// [`QpackError`]. All but [`QpackError::TooLarge`] end the connection (RFC 9204 §2.2).
pub fn decode(mut section: &[u8], max_size: usize) -> Result<Vec<Field>, QpackError> {
    let input = &mut section;
    let (_, required) = number(input, 8)?;
    let _base = number(input, 7)?;
    if required != 0 {
        return Err(QpackError::Dynamic);
    }
    let (mut fields, mut size) = (Vec::new(), 0usize);
    while let Some(first) = input.first().copied() {
        let left = max_size.saturating_sub(size);
        // The representations of RFC 9204 §4.5, told apart by their first bits.
        let field = if first & 0b1000_0000 != 0 {
            if first & 0b0100_0000 == 0 {
                return Err(QpackError::Dynamic);
            }
            let (name, value) = entry(number(input, 6)?.1)?;
            Field { name: name.into(), value: value.into() }
        } else if first & 0b0100_0000 != 0 {
            if first & 0b0001_0000 == 0 {
                return Err(QpackError::Dynamic);
            }
            let (name, _) = entry(number(input, 4)?.1)?;
            Field { name: name.into(), value: string(input, 7, left)? }
        } else if first & 0b0010_0000 != 0 {
            let name = string(input, 3, left)?;
            Field { name, value: string(input, 7, left)? }
        } else {
            return Err(QpackError::Dynamic);
        };
        size = size.saturating_add(field.name.len() + field.value.len() + OVERHEAD);
        if size > max_size {
            return Err(QpackError::TooLarge);
        }
        fields.push(field);
    }
    Ok(fields)
}

/// Encodes a section: static entries where one fits whole, literals otherwise.
pub fn encode<'f>(fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>) -> Vec<u8> {
    let mut out = vec![0, 0];
    for (name, value) in fields {
        let whole = STATIC.iter().position(|(n, v)| n.as_bytes() == name && v.as_bytes() == value);
        let named = STATIC.iter().position(|(n, _)| n.as_bytes() == name);
        if let Some(index) = whole {
            write_number(&mut out, 0b1100_0000, 6, index);
            continue;
        }
        match named {
            Some(index) => write_number(&mut out, 0b0101_0000, 4, index),
            None => {
                write_number(&mut out, 0b0010_0000, 3, name.len());
                out.extend_from_slice(name);
            }
        }
        write_number(&mut out, 0, 7, value.len());
        out.extend_from_slice(value);
    }
    out
}

fn entry(index: u64) -> Result<(&'static str, &'static str), QpackError> {
    let found = usize::try_from(index).ok().and_then(|index| STATIC.get(index));
    found.copied().ok_or(QpackError::Static(index))
}

/// A number behind a prefix of `bits` (RFC 7541 §5.1): the bits in front of it, and the number.
fn number(input: &mut &[u8], bits: u32) -> Result<(u8, u64), QpackError> {
    let (first, rest) = input.split_first().ok_or(QpackError::Truncated)?;
    *input = rest;
    let mask = 0xff_u8 >> (8 - bits);
    let (front, low) = (first & !mask, u64::from(first & mask));
    if low < u64::from(mask) {
        return Ok((front, low));
    }
    let mut value = low;
    // Four more bytes say more than any section may hold.
    for shift in [0, 7, 14, 21] {
        let (byte, rest) = input.split_first().ok_or(QpackError::Truncated)?;
        *input = rest;
        value += u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((front, value));
        }
    }
    Err(QpackError::Number)
}

fn write_number(out: &mut Vec<u8>, front: u8, bits: u32, value: usize) {
    let mask = (1usize << bits) - 1;
    if value < mask {
        out.push(front | low_byte(value));
        return;
    }
    out.push(front | low_byte(mask));
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(low_byte(rest & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.push(low_byte(rest));
}

fn low_byte(value: usize) -> u8 {
    value.to_le_bytes().first().copied().unwrap_or_default()
}

/// A string with its length behind a prefix of `bits`, and the Huffman bit in front of that. It may
/// come out as at most `max` bytes.
fn string(input: &mut &[u8], bits: u32, max: usize) -> Result<Vec<u8>, QpackError> {
    let is_huffman = input.first().is_some_and(|first| first & (1 << bits) != 0);
    let (_, length) = number(input, bits)?;
    let length = usize::try_from(length).map_err(|_| QpackError::Number)?;
    let (text, rest) = input.split_at_checked(length).ok_or(QpackError::Truncated)?;
    *input = rest;
    if is_huffman {
        return HUFFMAN.decode(text, max);
    }
    if text.len() > max { Err(QpackError::TooLarge) } else { Ok(text.to_vec()) }
}

/// The canonical Huffman code of RFC 7541 Appendix B: of each length, the first code, and where the
/// symbols of that length begin among all symbols in the order of their codes.
struct Huffman {
    first: [u32; 31],
    begin: [usize; 32],
    symbols: [usize; 257],
}

static HUFFMAN: Huffman = Huffman::new();

impl Huffman {
    #[expect(clippy::indexing_slicing, reason = "runs when this is compiled, where a mistake is an error")]
    const fn new() -> Self {
        let (mut first, mut begin, mut symbols) = ([0; 31], [0; 32], [0; 257]);
        let (mut length, mut code, mut filled) = (1, 0u32, 0);
        while length <= 30 {
            code <<= 1;
            first[length] = code;
            begin[length] = filled;
            let mut symbol = 0;
            while symbol < 257 {
                if LENGTHS[symbol] as usize == length {
                    symbols[filled] = symbol;
                    filled += 1;
                    code += 1;
                }
                symbol += 1;
            }
            length += 1;
        }
        begin[31] = filled;
        Self { first, begin, symbols }
    }

    fn symbol(&self, length: usize, code: u32) -> Option<usize> {
        let (first, begin, end) = (self.first.get(length)?, self.begin.get(length)?, self.begin.get(length + 1)?);
        let nth = usize::try_from(code.checked_sub(*first)?).ok()?;
        (nth < end - begin).then(|| self.symbols.get(begin + nth).copied())?
    }

    fn decode(&self, text: &[u8], max: usize) -> Result<Vec<u8>, QpackError> {
        let mut out = Vec::with_capacity(text.len().min(max));
        let (mut code, mut length) = (0u32, 0usize);
        for byte in text {
            for bit in (0..8).rev() {
                code = (code << 1) | u32::from((byte >> bit) & 1);
                length += 1;
                if let Some(symbol) = self.symbol(length, code) {
                    // The end of the string must not be spelled out (RFC 7541 §5.2).
                    let Ok(symbol) = u8::try_from(symbol) else { return Err(QpackError::Huffman) };
                    if out.len() >= max {
                        return Err(QpackError::TooLarge);
                    }
                    out.push(symbol);
                    (code, length) = (0, 0);
                } else if length >= 30 {
                    return Err(QpackError::Huffman);
                }
            }
        }
        // What fills the last byte is the beginning of the end of the string: at most seven ones.
        if length < 8 && code == (1 << length) - 1 { Ok(out) } else { Err(QpackError::Huffman) }
    }
}

/// Lengths of the codes of the symbols 0 to 255 and the end of the string (RFC 7541 Appendix B).
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28,
    28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15,
    6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22,
    20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23,
    23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22,
    22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26,
    27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27,
    26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The static table (RFC 9204 Appendix A).
#[rustfmt::skip]
const STATIC: [(&str, &str); 99] = [
    (":authority", ""),
    (":path", "/"),
    ("age", "0"),
    ("content-disposition", ""),
    ("content-length", "0"),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("referer", ""),
    ("set-cookie", ""),
    (":method", "CONNECT"),
    (":method", "DELETE"),
    (":method", "GET"),
    (":method", "HEAD"),
    (":method", "OPTIONS"),
    (":method", "POST"),
    (":method", "PUT"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "103"),
    (":status", "200"),
    (":status", "304"),
    (":status", "404"),
    (":status", "503"),
    ("accept", "*/*"),
    ("accept", "application/dns-message"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-ranges", "bytes"),
    ("access-control-allow-headers", "cache-control"),
    ("access-control-allow-headers", "content-type"),
    ("access-control-allow-origin", "*"),
    ("cache-control", "max-age=0"),
    ("cache-control", "max-age=2592000"),
    ("cache-control", "max-age=604800"),
    ("cache-control", "no-cache"),
    ("cache-control", "no-store"),
    ("cache-control", "public, max-age=31536000"),
    ("content-encoding", "br"),
    ("content-encoding", "gzip"),
    ("content-type", "application/dns-message"),
    ("content-type", "application/javascript"),
    ("content-type", "application/json"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("content-type", "image/gif"),
    ("content-type", "image/jpeg"),
    ("content-type", "image/png"),
    ("content-type", "text/css"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-type", "text/plain"),
    ("content-type", "text/plain;charset=utf-8"),
    ("range", "bytes=0-"),
    ("strict-transport-security", "max-age=31536000"),
    ("strict-transport-security", "max-age=31536000; includesubdomains"),
    ("strict-transport-security", "max-age=31536000; includesubdomains; preload"),
    ("vary", "accept-encoding"),
    ("vary", "origin"),
    ("x-content-type-options", "nosniff"),
    ("x-xss-protection", "1; mode=block"),
    (":status", "100"),
    (":status", "204"),
    (":status", "206"),
    (":status", "302"),
    (":status", "400"),
    (":status", "403"),
    (":status", "421"),
    (":status", "425"),
    (":status", "500"),
    ("accept-language", ""),
    ("access-control-allow-credentials", "FALSE"),
    ("access-control-allow-credentials", "TRUE"),
    ("access-control-allow-headers", "*"),
    ("access-control-allow-methods", "get"),
    ("access-control-allow-methods", "get, post, options"),
    ("access-control-allow-methods", "options"),
    ("access-control-expose-headers", "content-length"),
    ("access-control-request-headers", "content-type"),
    ("access-control-request-method", "get"),
    ("access-control-request-method", "post"),
    ("alt-svc", "clear"),
    ("authorization", ""),
    ("content-security-policy", "script-src 'none'; object-src 'none'; base-uri 'none'"),
    ("early-data", "1"),
    ("expect-ct", ""),
    ("forwarded", ""),
    ("if-range", ""),
    ("origin", ""),
    ("purpose", "prefetch"),
    ("server", ""),
    ("timing-allow-origin", "*"),
    ("upgrade-insecure-requests", "1"),
    ("user-agent", ""),
    ("x-forwarded-for", ""),
    ("x-frame-options", "deny"),
    ("x-frame-options", "sameorigin"),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn field(name: &str, value: &str) -> Field {
        Field { name: name.into(), value: value.into() }
    }

    #[test]
    fn the_example_of_rfc_9204_b_1() {
        let section = hex("0000 510b 2f69 6e64 6578 2e68 746d 6c");
        assert_eq!(decode(&section, 1000), Ok(vec![field(":path", "/index.html")]));
    }

    #[test]
    fn the_huffman_examples_of_rfc_7541_c_4_and_c_6() {
        for (code, text) in [
            ("f1e3 c2e5 f23a 6ba0 ab90 f4ff", "www.example.com"),
            ("a8eb 1064 9cbf", "no-cache"),
            ("25a8 49e9 5bb8 e8b4 bf", "custom-value"),
            ("d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3", "https://www.example.com"),
        ] {
            assert_eq!(HUFFMAN.decode(&hex(code), 100).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn what_a_huffman_string_must_not_be() {
        // A whole byte of filling; filling of zeros; the end of the string in words.
        for wrong in ["f1e3c2e5f23a6ba0ab90f4ffff", "a8eb10649cb8", "ffffffff"] {
            assert_eq!(HUFFMAN.decode(&hex(wrong), 100), Err(QpackError::Huffman), "{wrong}");
        }
    }

    #[test]
    fn a265_nothing_comes_out_larger_than_allowed() {
        // One byte each of a static entry that stands for much more.
        let mut bomb = vec![0, 0];
        bomb.extend(vec![0b1100_0000 | 31; 10_000]);
        assert_eq!(decode(&bomb, 64 * 1024), Err(QpackError::TooLarge));
        // Huffman makes five bits a byte.
        let mut long = vec![0, 0, 0b0101_0001, 0xff, 0x80, 0x7f];
        long.extend(vec![0; 0x7f + 127 * 128 + 127]);
        assert!(decode(&long, 1000).is_err());
    }

    #[test]
    fn a265_no_dynamic_table_is_ever_used() {
        for (section, error) in [
            ("0200 80", QpackError::Dynamic),
            ("0000 80", QpackError::Dynamic),
            ("0000 4000", QpackError::Dynamic),
            ("0000 10", QpackError::Dynamic),
            ("0000 00", QpackError::Dynamic),
            ("0000 ff24", QpackError::Static(99)),
            ("0000 ffffffffffff", QpackError::Number),
            ("00", QpackError::Truncated),
            ("0000 5105", QpackError::Truncated),
        ] {
            assert_eq!(decode(&hex(section), 1000), Err(error), "{section}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            fields in prop::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..8),
            known in prop::collection::vec(0..99usize, 0..8),
        ) {
            let mut all: Vec<(Vec<u8>, Vec<u8>)> = fields;
            all.extend(known.into_iter().map(|index| (STATIC[index].0.into(), STATIC[index].1.into())));
            let section = encode(all.iter().map(|(name, value)| (name.as_slice(), value.as_slice())));
            let decoded = decode(&section, 1 << 20).unwrap();
            prop_assert_eq!(decoded.into_iter().map(|field| (field.name, field.value)).collect::<Vec<_>>(), all);
        }

        #[test]
        fn any_bytes_at_all_are_survived(section in any::<Vec<u8>>()) {
            if let Ok(fields) = decode(&section, 4096) {
                let size: usize = fields.iter().map(|field| field.name.len() + field.value.len() + OVERHEAD).sum();
                prop_assert!(size <= 4096);
            }
        }
    }
}

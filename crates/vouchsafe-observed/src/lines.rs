//! Lines of a file of any size, one at a time and in bounded memory.

use std::io::{self, BufRead};

use memchr::memchr;

/// Longest line that is looked at, bytes. nginx and Apache write at most 8 KiB of a request line, and as much
/// of each field.
pub(crate) const MAX_LINE: usize = 64 << 10;
/// Longest record that goes over several lines, bytes.
pub(crate) const MAX_RECORD: usize = 1 << 20;

/// How lines belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Each is a record of its own.
    Lines,
    /// A quoted field may hold line breaks (CSV).
    Quoted,
}

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record<'r> {
    /// Number of its first line, from 1.
    pub(crate) number: u64,
    /// Its bytes without the line break at the end; `None` when it is longer than is looked at.
    pub(crate) bytes: Option<&'r [u8]>,
}

/// Reads records.
#[derive(Debug)]
pub(crate) struct Records<R> {
    from: R,
    layout: Layout,
    kept: Vec<u8>,
    lines: u64,
}

impl<R: BufRead> Records<R> {
    pub(crate) fn new(from: R, layout: Layout) -> Self {
        Self { from, layout, kept: Vec::new(), lines: 0 }
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> io::Result<Option<Record<'_>>> {
        self.kept.clear();
        let number = self.lines + 1;
        let limit = match self.layout {
            Layout::Lines => MAX_LINE,
            Layout::Quoted => MAX_RECORD,
        };
        let (mut length, mut quoted) = (0_usize, false);
        loop {
            let (bytes, ended) = match self.from.fill_buf() {
                Ok([]) if length == 0 => return Ok(None),
                // A file may end without a line break, or within a field.
                Ok([]) => break,
                Ok(buffer) => match memchr(b'\n', buffer) {
                    Some(at) => (buffer.get(..=at).unwrap_or_default(), true),
                    None => (buffer, false),
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if self.layout == Layout::Quoted {
                // A quote within a field is doubled, so how many there are says whether a field is open.
                quoted ^= bytes.iter().filter(|byte| **byte == b'"').count() % 2 == 1;
            }
            if length.saturating_add(bytes.len()) <= limit + 2 {
                self.kept.extend_from_slice(bytes);
            }
            length = length.saturating_add(bytes.len());
            let consumed = bytes.len();
            self.from.consume(consumed);
            self.lines += u64::from(ended);
            if ended && !quoted {
                break;
            }
        }
        if !self.kept.ends_with(b"\n") && self.kept.len() == length {
            self.lines += 1;
        }
        let bytes = self.kept.strip_suffix(b"\n").unwrap_or(&self.kept);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        Ok(Some(Record { number, bytes: (self.kept.len() == length && bytes.len() <= limit).then_some(bytes) }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    fn all(text: &[u8], layout: Layout, chunk: usize) -> Vec<(u64, Option<Vec<u8>>)> {
        let mut records = Records::new(BufReader::with_capacity(chunk, text), layout);
        let mut found = Vec::new();
        while let Some(record) = records.next().expect("reads") {
            found.push((record.number, record.bytes.map(<[u8]>::to_vec)));
        }
        found
    }

    #[test]
    fn lines_end_with_any_break_and_long_ones_are_passed_over() {
        let long = "x".repeat(MAX_LINE + 1);
        let text = format!("one\r\ntwo\n\n{long}\n{}\nlast", "y".repeat(MAX_LINE));
        for chunk in [1, 7, 65_536] {
            let found = all(text.as_bytes(), Layout::Lines, chunk);
            let told: Vec<_> = found.iter().map(|(at, bytes)| (*at, bytes.as_ref().map(Vec::len))).collect();
            assert_eq!(told, [(1, Some(3)), (2, Some(3)), (3, Some(0)), (4, None), (5, Some(MAX_LINE)), (6, Some(4))]);
        }
    }

    #[test]
    fn a_quoted_field_goes_over_lines_and_the_numbers_stay_right() {
        let text = b"a,\"b\nc \"\"d\"\"\n\",e\nf\n\"open\nto the end";
        for chunk in [1, 3, 4_096] {
            let found = all(text, Layout::Quoted, chunk);
            let first: &[u8] = b"a,\"b\nc \"\"d\"\"\n\",e";
            assert_eq!(found.len(), 3);
            assert_eq!(found[0], (1, Some(first.to_vec())));
            assert_eq!(found[1], (4, Some(b"f".to_vec())));
            assert_eq!(found[2], (5, Some(b"\"open\nto the end".to_vec())));
        }
    }

    #[test]
    fn a_record_that_is_too_long_ends_where_its_quotes_end() {
        let text = format!("\"{}\n\"\nnext\n", "x".repeat(MAX_RECORD));
        assert_eq!(all(text.as_bytes(), Layout::Quoted, 4_096), [(1, None), (3, Some(b"next".to_vec()))]);
    }

    proptest! {
        #[test]
        fn lines_are_those_of_the_text(text in "[a\n\"]{0,60}", chunk in 1_usize..20) {
            let lines: Vec<&str> = text.split_terminator('\n').collect();
            let found = all(text.as_bytes(), Layout::Lines, chunk);
            let told: Vec<String> = found.iter().map(|(_, bytes)| String::from_utf8(bytes.clone().expect("short")).expect("text")).collect();
            prop_assert_eq!(told, lines);
            let quoted = all(text.as_bytes(), Layout::Quoted, chunk);
            let bytes: usize = quoted.iter().map(|(_, bytes)| bytes.as_ref().expect("short").len() + 1).sum();
            prop_assert!(bytes == text.len() || bytes == text.len() + 1, "nothing is lost");
        }
    }
}

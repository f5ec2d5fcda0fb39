//! Cuts a policy file into its policies, and refuses what is too big or too deep before Cedar
//! reads it.
//!
//! Cedar reads, checks and frees expressions by recursion. What would exhaust the stack is found
//! here by a count of tokens, which needs no stack at all. The cut only says which text is given
//! to Cedar piece by piece: when it is wrong, Cedar refuses the piece.

use std::ops::Range;

use crate::diagnostic::Diagnostic;
use crate::source::PolicyFile;

/// Most bytes of one file.
pub(crate) const MAX_FILE_BYTES: usize = 1 << 20;
/// Most brackets and `if` inside each other in one policy. To read one of them costs Cedar about
/// 60 KiB of stack in a debug build (measured: 2 MiB, the stack of a thread, end before 40).
pub(crate) const MAX_NESTING: usize = 16;
/// Most operators, brackets and attribute accesses in one policy: the tree of it can't be deeper.
pub(crate) const MAX_OPERATORS: usize = 400;

/// One policy in a file, from its first token to its semicolon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where in the file.
    pub(crate) at: Range<usize>,
    /// Annotations with their place, in order.
    pub(crate) annotations: Vec<(String, Range<usize>)>,
    nesting: usize,
    operators: usize,
}

impl Piece {
    /// The text of the policy.
    pub(crate) fn text<'f>(&self, file: &'f str) -> &'f str {
        file.get(self.at.clone()).unwrap_or_default()
    }

    /// Place of the annotation of that name, else of the policy.
    pub(crate) fn annotation(&self, name: &str) -> Range<usize> {
        self.annotations.iter().find(|(each, _)| each == name).map_or_else(|| self.at.clone(), |(_, at)| at.clone())
    }
}

/// The policies of a file that are safe to give to Cedar, and what is wrong with the others.
pub(crate) fn pieces(file: &PolicyFile) -> (Vec<Piece>, Vec<Diagnostic>) {
    let at = |code, message, range| Diagnostic::at(code, message, &file.name, &file.text, range);
    if file.text.len() > MAX_FILE_BYTES {
        let message = format!("the file has {} bytes, and at most {MAX_FILE_BYTES} are read", file.text.len());
        return (Vec::new(), vec![at("file_too_big", message, 0..0).hint("split it into several files")]);
    }
    let mut wrong: Vec<Diagnostic> = file
        .text
        .char_indices()
        .filter(|(_, letter)| turns_text_around(*letter))
        .take(10)
        .map(|(offset, letter)| {
            let message =
                format!("the character U+{:04X} makes text look different from what it is", u32::from(letter));
            at("hidden_character", message, offset..offset + letter.len_utf8()).hint("remove it")
        })
        .collect();
    let mut kept = Vec::new();
    for piece in Scanner::new(&file.text) {
        if piece.nesting > MAX_NESTING {
            let message = format!("brackets are nested {} deep, and at most {MAX_NESTING} are read", piece.nesting);
            wrong.push(at("too_deep", message, piece.at.clone()).hint("split the policy into several"));
        } else if piece.operators > MAX_OPERATORS {
            let message = format!("the policy has {} operators, and at most {MAX_OPERATORS} are read", piece.operators);
            wrong.push(
                at("too_complex", message, piece.at.clone())
                    .hint("split the policy into several, or compare with a set: `[\"a\", \"b\"].contains(…)`"),
            );
        } else {
            kept.push(piece);
        }
    }
    (kept, wrong)
}

/// Bidirectional controls, with which a policy can be made to read differently from what it says
/// (CVE-2021-42574).
fn turns_text_around(letter: char) -> bool {
    matches!(letter, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

struct Scanner<'f> {
    text: &'f str,
    offset: usize,
}

impl<'f> Scanner<'f> {
    fn new(text: &'f str) -> Self {
        Self { text, offset: 0 }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// Offset behind the string literal that begins at `at`.
    fn behind_string(&self, at: usize) -> usize {
        let mut next = at + 1;
        while let Some(byte) = self.byte(next) {
            match byte {
                b'\\' => next += 2,
                b'"' => return next + 1,
                _ => next += 1,
            }
        }
        self.text.len()
    }

    fn behind_line(&self, at: usize) -> usize {
        self.text.get(at..).and_then(|rest| rest.find('\n')).map_or(self.text.len(), |newline| at + newline)
    }

    fn behind_word(&self, at: usize) -> usize {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let mut next = at;
        while self.byte(next).is_some_and(is_part) {
            next += 1;
        }
        next
    }

    fn behind_space(&self, at: usize) -> usize {
        let mut next = at;
        while self.byte(next).is_some_and(|byte| byte.is_ascii_whitespace()) {
            next += 1;
        }
        next
    }

    /// Name and place of the annotation whose `@` stands at `at`.
    fn annotation(&self, at: usize) -> (String, Range<usize>) {
        let name_at = self.behind_space(at + 1);
        let name_end = self.behind_word(name_at);
        let name = self.text.get(name_at..name_end).unwrap_or_default().to_owned();
        let open = self.behind_space(name_end);
        if self.byte(open) != Some(b'(') {
            return (name, at..name_end.max(at + 1));
        }
        let value = self.behind_space(open + 1);
        let end = if self.byte(value) == Some(b'"') { self.behind_string(value) } else { value };
        let close = self.behind_space(end);
        let close = if self.byte(close) == Some(b')') { close + 1 } else { end };
        (name, at..close)
    }
}

impl Iterator for Scanner<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let mut piece: Option<Piece> = None;
        let (mut depth, mut ifs) = (0_usize, 0_usize);
        while let Some(byte) = self.byte(self.offset) {
            let start = self.offset;
            if byte.is_ascii_whitespace() {
                self.offset += 1;
                continue;
            }
            if byte == b'/' && self.byte(start + 1) == Some(b'/') {
                self.offset = self.behind_line(start);
                continue;
            }
            let found = piece.get_or_insert_with(|| Piece {
                at: start..start,
                annotations: Vec::new(),
                nesting: 0,
                operators: 0,
            });
            self.offset = match byte {
                b'"' => self.behind_string(start),
                _ if byte.is_ascii_alphanumeric() || byte == b'_' => self.behind_word(start),
                _ => start + 1,
            };
            match byte {
                b'(' | b'[' | b'{' => {
                    depth += 1;
                    found.operators += 1;
                }
                b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                b'@' => found.annotations.push(self.annotation(start)),
                b'!' | b'-' | b'+' | b'*' | b'.' | b'&' | b'|' | b'=' | b'<' | b'>' => found.operators += 1,
                _ => match self.text.get(start..self.offset) {
                    Some("if") => ifs += 1,
                    Some("in" | "is" | "has" | "like") => found.operators += 1,
                    _ => {}
                },
            }
            found.nesting = found.nesting.max(depth + ifs);
            found.at.end = self.offset.min(self.text.len());
            if byte == b';' {
                break;
            }
        }
        piece
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str) -> Vec<String> {
        Scanner::new(text).map(|piece| piece.text(text).to_owned()).collect()
    }

    #[test]
    fn a_semicolon_in_a_string_or_comment_ends_nothing() {
        let text = "// a; b\n@id(\"x;\\\";\") permit(principal, action, resource); // ;\nforbid(\"//\");\n// end";
        assert_eq!(cut(text), ["@id(\"x;\\\";\") permit(principal, action, resource);", "forbid(\"//\");"]);
    }

    #[test]
    fn annotations_have_their_place() {
        let text = "@id(\"a\") @ owner ( \"b;)\" )\n@flag permit();";
        let piece = Scanner::new(text).next().expect("one");
        let found: Vec<_> = piece.annotations.iter().map(|(name, at)| (name.as_str(), &text[at.clone()])).collect();
        assert_eq!(found, [("id", "@id(\"a\")"), ("owner", "@ owner ( \"b;)\" )"), ("flag", "@flag")]);
        assert_eq!(piece.annotation("gone"), piece.at);
    }

    #[test]
    fn a_file_too_big_is_refused_before_it_is_read() {
        let file = PolicyFile { name: "big".into(), text: " ".repeat(MAX_FILE_BYTES + 1) };
        assert_eq!(pieces(&file).1.first().expect("one").code, "file_too_big");
    }

    #[test]
    fn controls_that_turn_text_around_are_refused_even_in_comments() {
        let file = PolicyFile { name: "bidi".into(), text: "// \u{202e}permit\n".into() };
        let (_, wrong) = pieces(&file);
        assert_eq!((wrong[0].code.as_ref(), wrong[0].column), ("hidden_character", 4));
    }

    proptest! {
        /// No token is lost: what is between the pieces is space and comments.
        #[test]
        fn pieces_cover_the_file_in_order(text in "[a-z\"\\\\;/@(){}!. \n\u{e9}]{0,200}") {
            let mut end = 0;
            for piece in Scanner::new(&text) {
                prop_assert!(piece.at.start >= end && piece.at.end > piece.at.start && piece.at.end <= text.len());
                let between = &text[end..piece.at.start];
                prop_assert!(between.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with("//")), "{between:?}");
                end = piece.at.end;
            }
        }
    }
}

//! Mistakes in policies, with the place and the next step.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// How bad a mistake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The policies can't be used.
    Error,
    /// The policies can be used, but one of them hardly does what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// One mistake in a policy file or in what belongs to it.
///
/// Printed with `{}` it takes several lines, with the line of the file and a mark below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of mistake, as a stable word such as `unknown_attribute`.
    pub code: Cow<'static, str>,
    /// What is wrong, in words; lower case, no full stop.
    pub message: String,
    /// Name of the file; empty when no file is to blame.
    pub file: String,
    /// Line in the file, from 1.
    pub line: u32,
    /// Column in the line in characters, from 1.
    pub column: u32,
    /// Offset in the file in bytes.
    pub offset: usize,
    /// Length in bytes of what is wrong; it may reach over several lines.
    pub length: usize,
    /// The line as it stands in the file, at most 400 characters.
    pub source_line: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A mistake at no place in particular.
    pub(crate) fn general(code: &'static str, message: String) -> Self {
        Self {
            severity: Severity::Error,
            code: Cow::Borrowed(code),
            message,
            file: String::new(),
            line: 1,
            column: 1,
            offset: 0,
            length: 0,
            source_line: String::new(),
            hint: None,
        }
    }

    /// A mistake at a range of bytes of a file.
    pub(crate) fn at(code: &'static str, message: String, file: &str, text: &str, at: Range<usize>) -> Self {
        let place = Place::of(text, at.start);
        Self {
            file: file.to_owned(),
            line: place.line,
            column: place.column,
            offset: place.offset,
            length: at.end.min(text.len()).saturating_sub(place.offset),
            source_line: place.source_line,
            ..Self::general(code, message)
        }
    }

    pub(crate) fn warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Whether the policies can't be used.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

const MAX_LINE_CHARS: usize = 400;

struct Place {
    line: u32,
    column: u32,
    offset: usize,
    source_line: String,
}

impl Place {
    fn of(text: &str, offset: usize) -> Self {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let (before, after) = text.split_at(offset);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let head = before.get(line_start..).unwrap_or_default();
        let tail = after.split('\n').next().unwrap_or_default();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            line: count(before.matches('\n').count()).saturating_add(1),
            column: count(head.chars().count()).saturating_add(1),
            offset,
            source_line: head.chars().chain(tail.trim_end_matches('\r').chars()).take(MAX_LINE_CHARS).collect(),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]: {}", self.severity, self.code, self.message)?;
        if !self.file.is_empty() {
            let number = self.line.to_string();
            let margin = " ".repeat(number.len());
            // Tabs have no width of their own, so the mark below would stand at another place.
            let source = self.source_line.replace('\t', " ");
            let before = usize::try_from(self.column).unwrap_or(1).saturating_sub(1);
            let room = source.chars().count().saturating_sub(before).max(1);
            let marked = self.source_line.chars().skip(before);
            let mut bytes = 0;
            let covered = marked.take_while(|letter| {
                let inside = bytes < self.length;
                bytes += letter.len_utf8();
                inside
            });
            let width = covered.count().clamp(1, room);
            write!(f, "\n{margin}--> {}:{}:{}", self.file, self.line, self.column)?;
            write!(f, "\n{margin} |\n{number} | {source}")?;
            write!(f, "\n{margin} | {}{}", " ".repeat(before), "^".repeat(width))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// The known word that a misspelt one was most likely meant to be.
pub(crate) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    let allowed = given.chars().count().div_ceil(3).min(3);
    known
        .into_iter()
        .map(|word| (distance(&given, &word.to_lowercase(), allowed), word))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, word)| word)
}

/// Levenshtein's distance, or `limit + 1` at once when the lengths differ by more.
fn distance(a: &str, b: &str, limit: usize) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > limit {
        return limit + 1;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, above) in b.iter().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let text = "ab\nçé x\r\n";
        let found = Diagnostic::at("c", "m".into(), "f", text, 8..9);
        assert_eq!((found.line, found.column, found.offset, found.length), (2, 4, 8, 1));
        assert_eq!(found.source_line, "çé x");
    }

    #[test]
    fn a_place_inside_a_character_or_behind_the_end_is_moved() {
        for at in [0, 1, 2, 3, 40] {
            let found = Diagnostic::at("c", "m".into(), "f", "çé", at..at + 1);
            assert!(found.offset <= 4 && found.line == 1);
        }
    }

    #[test]
    fn printed_with_a_mark_under_what_is_wrong() {
        let found =
            Diagnostic::at("unknown", "no such thing".into(), "a.cedar", "one\n\ttwo three", 9..14).hint("use `four`");
        let printed =
            "error[unknown]: no such thing\n --> a.cedar:2:6\n  |\n2 |  two three\n  |      ^^^^^\n  hint: use `four`";
        assert_eq!(found.to_string(), printed);
    }

    #[test]
    fn the_nearest_word_is_near() {
        assert_eq!(nearest("reson", ["reason", "advice"]), Some("reason"));
        assert_eq!(nearest("http:raed", ["http:read", "http:write"]), Some("http:read"));
        assert_eq!(nearest("colour", ["id", "owner"]), None);
        assert_eq!(nearest("", ["id"]), None);
        assert_eq!(distance("kitten", "sitting", 9), 3);
    }
}

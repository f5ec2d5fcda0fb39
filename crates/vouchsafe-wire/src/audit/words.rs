//! Words of a record: what a search for text looks at (`docs/spec/audit-log.md`).
//!
//! A word is a run of letters and digits, in lower case, and known by its first forty bytes.

use super::texts;

/// Longest word that is told from another, bytes.
const MAX_WORD_BYTES: usize = 40;
/// Most words of a question.
const MAX_WORDS: usize = 8;

/// Calls `each` for every word of a text in canonical form, or of a list of them.
pub fn each_word(canonical: &[u8], mut each: impl FnMut(&[u8])) {
    if canonical.contains(&b'\\') {
        // Rare: a text with escapes, whose letters are no words.
        let text = match canonical.first() {
            Some(b'[') => serde_json::from_slice::<Vec<String>>(canonical).unwrap_or_default().join(" "),
            _ => serde_json::from_slice(canonical).unwrap_or_default(),
        };
        return runs(text.as_bytes(), &mut each);
    }
    runs(canonical, &mut each);
}

/// Words of an unescaped text.
fn runs(text: &[u8], each: &mut impl FnMut(&[u8])) {
    let mut word = [0; MAX_WORD_BYTES];
    for run in text.split(|byte| byte.is_ascii() && !byte.is_ascii_alphanumeric()).filter(|run| !run.is_empty()) {
        if run.is_ascii() {
            let mut length = 0;
            for (to, from) in word.iter_mut().zip(run) {
                *to = from.to_ascii_lowercase();
                length += 1;
            }
            each(word.get(..length).unwrap_or_default());
        } else if let Ok(run) = std::str::from_utf8(run) {
            let lower = run.to_lowercase();
            lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).for_each(|word| {
                let end = word.floor_char_boundary(MAX_WORD_BYTES);
                each(word.get(..end).unwrap_or_default().as_bytes());
            });
        }
    }
}

/// Text that is searched for: a record has it when each of its words begins a word of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words(Vec<Vec<u8>>);

/// A text that can't be searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// It has no letter and no digit.
    #[error("no word in it")]
    None,
    /// It has more than eight words.
    #[error("more than {MAX_WORDS} words")]
    TooMany,
}

impl Words {
    /// Takes a text apart.
    ///
    /// # Errors
    /// [`WordsError`].
    pub fn parse(text: &str) -> Result<Self, WordsError> {
        let mut words: Vec<Vec<u8>> = Vec::new();
        runs(text.as_bytes(), &mut |word: &[u8]| {
            if words.len() <= MAX_WORDS {
                words.push(word.to_vec());
            }
        });
        match words.len() {
            0 => Err(WordsError::None),
            1..=MAX_WORDS => Ok(Self(words)),
            _ => Err(WordsError::TooMany),
        }
    }

    /// The words, in lower case.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// Whether a record, in canonical bytes, has all of them.
    #[must_use]
    pub fn are_in(&self, record: &[u8]) -> bool {
        let mut missing = (1_u16 << self.0.len()) - 1;
        texts(record, |text| {
            if missing == 0 {
                return;
            }
            each_word(text, |word| {
                for (at, wanted) in self.0.iter().enumerate() {
                    if word.starts_with(wanted) {
                        missing &= !(1 << at);
                    }
                }
            });
        });
        missing == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::full;
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        each_word(&super::super::canonical_text(text), |word| found.push(String::from_utf8(word.to_vec()).unwrap()));
        found
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        assert_eq!(words("GET /Api/v1/Überweisung?x=1"), ["get", "api", "v1", "überweisung", "x", "1"]);
        assert_eq!(words("a\nb\t\"c\"\\d \u{1}e"), ["a", "b", "c", "d", "e"]);
        assert_eq!(words("ΟΔΟΣ—日本語、x"), ["οδος", "日本語", "x"]);
        assert_eq!(words("… — /"), [""; 0]);
        assert_eq!(words(&"é".repeat(50)), ["é".repeat(20)]);
        assert_eq!(words(&"X".repeat(50)), ["x".repeat(40)]);
        let mut found = Vec::new();
        each_word(br#"["a-b","c\n"]"#, |word| found.push(word.to_vec()));
        assert_eq!(found, [b"a", b"b", b"c"]);
    }

    #[test]
    fn a_record_has_a_text_when_each_word_begins_one_of_its_own() {
        let record = full().to_canonical().unwrap();
        for found in ["LEDGER", "ledg 2026", "nothing here finance", "no_permit", "alice-laptop", "192.", "127.0.0.1"] {
            let expected = found != "192.";
            assert_eq!(Words::parse(found).unwrap().are_in(&record), expected, "{found}");
        }
        for absent in ["edger", "ledgers", "ledger mallory", "marketing", "dec"] {
            assert!(!Words::parse(absent).unwrap().are_in(&record), "{absent}");
        }
        assert_eq!(Words::parse(" … ").unwrap_err(), WordsError::None);
        assert_eq!(Words::parse("1 2 3 4 5 6 7 8 9").unwrap_err(), WordsError::TooMany);
        assert!(Words::parse("1 2 3 4 5 6 7 8").is_ok());
    }
}

//! TOML with the place of every key and value, so that each mistake can be shown where it is.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::Placed;
use crate::diagnostic::{Diagnostic, nearest};
use crate::source::PolicyFile;

/// Reads one file and gathers its mistakes.
pub(super) struct Reader<'f> {
    file: &'f PolicyFile,
    pub(super) wrong: Vec<Diagnostic>,
}

/// Most mistakes of one file that are told.
const MAX_MISTAKES: usize = 100;

impl<'f> Reader<'f> {
    pub(super) fn new(file: &'f PolicyFile) -> Self {
        Self { file, wrong: Vec::new() }
    }

    pub(super) fn mistake(&mut self, code: &'static str, message: String, at: Range<usize>, hint: Option<String>) {
        if self.wrong.len() < MAX_MISTAKES {
            // Of a table only its heading is marked: a mark over many lines hides more than it shows.
            let text = self.file.text.get(at.clone()).unwrap_or_default();
            let length = text.lines().next().unwrap_or_default().len().max(1);
            let found = Diagnostic::at(code, message, &self.file.name, &self.file.text, at.start..at.start + length);
            self.wrong.push(Diagnostic { hint, ..found });
        }
    }

    /// The line that an offset is in, from 1.
    pub(super) fn line(&self, offset: usize) -> u32 {
        let before = self.file.text.get(..offset).unwrap_or_default();
        u32::try_from(before.matches('\n').count()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Complains of keys that mean nothing in `what`.
    pub(super) fn known_only(&mut self, table: &DeTable<'_>, known: &[&str], what: &str) {
        for key in table.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let hint = match (name, nearest(name, known.iter().copied())) {
                (_, Some(meant)) => format!("did you mean `{meant}`?"),
                ("groups" | "group", None) => {
                    "files below a folder `tests` hold tests of the policy; groups of the manifest go elsewhere, and \
                     groups of a subject into `[subjects.<name>]`"
                        .to_owned()
                }
                (_, None) => format!("it has {}", known.join(", ")),
            };
            let name: String = name.chars().take(60).collect();
            self.mistake("unknown_key", format!("there is no `{name}` in {what}"), key.span(), Some(hint));
        }
    }

    /// A text.
    pub(super) fn text(&mut self, table: &DeTable<'_>, key: &str) -> Option<Placed<String>> {
        let (value, at) = find(table, key)?;
        match value {
            DeValue::String(text) => Some(Placed { value: text.as_ref().to_owned(), at }),
            other => {
                self.wrong_type(key, "a text", other, at);
                None
            }
        }
    }

    /// A text, or a list of some.
    pub(super) fn texts(&mut self, table: &DeTable<'_>, key: &str) -> Option<Vec<Placed<String>>> {
        let (value, at) = find(table, key)?;
        match value {
            DeValue::String(text) => Some(vec![Placed { value: text.as_ref().to_owned(), at }]),
            DeValue::Array(items) => {
                let mut texts = Vec::with_capacity(items.len());
                for item in items {
                    match item.get_ref() {
                        DeValue::String(text) => {
                            texts.push(Placed { value: text.as_ref().to_owned(), at: item.span() });
                        }
                        other => self.wrong_type(key, "a text or a list of texts", other, item.span()),
                    }
                }
                Some(texts)
            }
            other => {
                self.wrong_type(key, "a text or a list of texts", other, at);
                None
            }
        }
    }

    /// A whole number from 0 to `most`.
    pub(super) fn number(&mut self, table: &DeTable<'_>, key: &str, most: u64) -> Option<u64> {
        let (value, at) = find(table, key)?;
        let number = match value {
            DeValue::Integer(digits) => u64::from_str_radix(digits.as_str(), digits.radix()).ok(),
            _ => None,
        };
        if let Some(number) = number.filter(|number| *number <= most) {
            return Some(number);
        }
        self.mistake("invalid_value", format!("`{key}` is a whole number from 0 to {most}"), at, None);
        None
    }

    /// True or false.
    pub(super) fn truth(&mut self, table: &DeTable<'_>, key: &str) -> Option<bool> {
        let (value, at) = find(table, key)?;
        if let DeValue::Boolean(truth) = value {
            return Some(*truth);
        }
        self.mistake("invalid_value", format!("`{key}` is true or false"), at, None);
        None
    }

    /// A text, or a date and time as TOML has them.
    pub(super) fn moment(&mut self, table: &DeTable<'_>, key: &str) -> Option<Placed<String>> {
        match find(table, key)? {
            (DeValue::Datetime(moment), at) => Some(Placed { value: moment.to_string(), at }),
            _ => self.text(table, key),
        }
    }

    /// A table.
    pub(super) fn table<'t, 'd>(&mut self, table: &'t DeTable<'d>, key: &str) -> Option<&'t DeTable<'d>> {
        let (value, at) = find(table, key)?;
        match value {
            DeValue::Table(inner) => Some(inner),
            other => {
                self.wrong_type(key, "a table", other, at);
                None
            }
        }
    }

    /// Tables by name, such as those of `[subjects.ann]` and `[subjects.bob]`.
    pub(super) fn named<'t, 'd>(
        &mut self,
        table: &'t DeTable<'d>,
        key: &str,
    ) -> Vec<(Placed<String>, &'t DeTable<'d>)> {
        let Some(outer) = self.table(table, key) else { return Vec::new() };
        let mut found = Vec::with_capacity(outer.len());
        for (name, value) in outer {
            match value.get_ref() {
                DeValue::Table(inner) => {
                    let name = Placed { value: name.get_ref().as_ref().to_owned(), at: name.span() };
                    found.push((name, inner));
                }
                other => self.wrong_type(key, "a table for each name", other, value.span()),
            }
        }
        found
    }

    /// A list of tables, with the place of each.
    pub(super) fn tables<'t, 'd>(&mut self, table: &'t DeTable<'d>, key: &str) -> Vec<(Range<usize>, &'t DeTable<'d>)> {
        let Some((value, at)) = find(table, key) else { return Vec::new() };
        let DeValue::Array(items) = value else {
            self.wrong_type(key, "a list of tables", value, at);
            return Vec::new();
        };
        let mut found = Vec::with_capacity(items.len());
        for item in items {
            match item.get_ref() {
                DeValue::Table(inner) => found.push((item.span(), inner)),
                other => self.wrong_type(key, "a list of tables", other, item.span()),
            }
        }
        found
    }

    fn wrong_type(&mut self, key: &str, expected: &str, found: &DeValue<'_>, at: Range<usize>) {
        let found = match found {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.mistake("invalid_type", format!("`{key}` is {expected}, and this is {found}"), at, None);
    }
}

fn find<'t, 'd>(table: &'t DeTable<'d>, key: &str) -> Option<(&'t DeValue<'d>, Range<usize>)> {
    table.iter().find(|(name, _)| name.get_ref().as_ref() == key).map(|(_, value)| (value.get_ref(), value.span()))
}

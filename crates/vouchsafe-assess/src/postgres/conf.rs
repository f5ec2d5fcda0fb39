//! `postgresql.conf`: names and values, the last of which counts (PostgreSQL documentation §20.1.2).

use std::collections::BTreeMap;

use crate::finding::{Area, Evidence};
use crate::notes::Notes;
use crate::postgres::include;
use crate::source::Source;
use crate::text::numbered;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub value: String,
    pub file: String,
    pub line: usize,
    pub text: String,
}

/// Settings of one cluster.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    values: BTreeMap<String, Setting>,
    files: usize,
}

impl Settings {
    /// Reads a file with what it includes; what is read later counts.
    pub(crate) fn read(&mut self, source: &Source, file: &str, depth: usize, notes: &mut Notes) {
        let Some(text) = include::text(source, file, depth, &mut self.files, notes) else { return };
        let beside = |name: &str| include::beside(file, name);
        for (line, text) in numbered(&text) {
            match setting(text) {
                Ok(None) => {}
                Ok(Some((name, value))) => match name.as_str() {
                    "include" | "include_if_exists" => {
                        let path = beside(&value);
                        if name == "include" && !source.is_there(&path) {
                            notes.broken(Area::Postgres, file, line, format!("`{path}` is included and not there"));
                        }
                        self.read(source, &path, depth + 1, notes);
                    }
                    "include_dir" => {
                        for path in notes.glob(Area::Postgres, source, &format!("{}/*.conf", beside(&value))) {
                            self.read(source, &path, depth + 1, notes);
                        }
                    }
                    _ => {
                        let setting = Setting { value, file: file.to_owned(), line, text: text.to_owned() };
                        self.values.insert(name, setting);
                    }
                },
                Err(why) => notes.broken(Area::Postgres, file, line, format!("not read as a setting: {why}")),
            }
        }
    }

    /// The value of a name, where it is set.
    pub(crate) fn get(&self, name: &str) -> Option<&Setting> {
        self.values.get(name)
    }

    /// The value, or the default.
    pub(crate) fn value<'s>(&'s self, name: &str, default: &'s str) -> &'s str {
        self.get(name).map_or(default, |setting| &setting.value)
    }

    /// Whether a switch is on.
    pub(crate) fn is_on(&self, name: &str, default: bool) -> bool {
        let Some(setting) = self.get(name) else { return default };
        // PostgreSQL takes every unique prefix.
        let value = setting.value.to_ascii_lowercase();
        value == "1"
            || value == "on"
            || (!value.is_empty() && ("true".starts_with(&value) || "yes".starts_with(&value)))
    }

    /// Where a value stands, or that it is the default.
    pub(crate) fn evidence(&self, name: &str, default: &str, file: &str) -> Evidence {
        match self.get(name) {
            Some(setting) => Evidence::line(&setting.file, setting.line, &setting.text),
            None => Evidence::file(file, format!("not set, so {name} is `{default}`")),
        }
    }
}

/// Name in lower case, and value.
fn setting(line: &str) -> Result<Option<(String, String)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '$');
    let end = line.find(|letter| !is_name(letter)).unwrap_or(line.len());
    let (name, rest) = line.split_at_checked(end).unwrap_or((line, ""));
    if name.is_empty() {
        return Err("it begins with no name");
    }
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let value = match rest.strip_prefix('\'') {
        Some(quoted) => {
            let (mut value, mut letters, mut closed) = (String::new(), quoted.chars().peekable(), false);
            while let Some(letter) = letters.next() {
                match letter {
                    '\'' if letters.peek() == Some(&'\'') => {
                        letters.next();
                        value.push('\'');
                    }
                    '\'' => {
                        closed = true;
                        break;
                    }
                    '\\' => value.extend(letters.next()),
                    _ => value.push(letter),
                }
            }
            if !closed {
                return Err("a quote is not closed");
            }
            value
        }
        None => rest.split(['#', ' ', '\t']).next().unwrap_or_default().to_owned(),
    };
    if value.is_empty() && !rest.starts_with('\'') {
        return Err("it has no value");
    }
    Ok(Some((name.to_ascii_lowercase(), value)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_values_are_read() {
        for (line, expected) in [
            ("port = 5432 # the port", Some(("port", "5432"))),
            ("listen_addresses = '10.0.0.1, localhost'  # x", Some(("listen_addresses", "10.0.0.1, localhost"))),
            ("SSL on", Some(("ssl", "on"))),
            ("x = 'it''s'", Some(("x", "it's"))),
            ("x = ''", Some(("x", ""))),
            ("# ssl = on", None),
            ("", None),
        ] {
            let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(setting(line), Ok(expected), "{line}");
        }
        assert!(setting("x = 'open").is_err() && setting("x =").is_err() && setting("= 3").is_err());
    }

    proptest! {
        #[test]
        fn no_line_is_too_broken(line in "([a-z_='\\\\# ]{0,40}|\\PC{0,60})") {
            let _ = setting(&line);
        }
    }
}

//! PostgreSQL's CSV log (`log_destination = csvlog`, `log_connections = on`): who was let into which database.

use std::borrow::Cow;

use vouchsafe_model::action::Action;

use crate::format::{Access, NO_TEXT, NO_TIME, Read, text};
use crate::time::{self, Clock};

/// Columns that are looked at ("Using CSV-Format Log Output" in PostgreSQL's manual); newer versions add behind.
const COLUMNS: usize = 14;

pub(crate) fn read<'l>(record: &'l [u8], clock: &Clock) -> Read<'l> {
    let Some(columns) = columns(record) else {
        return Read::Malformed("it doesn't have the columns of PostgreSQL's CSV log");
    };
    let [time, user, database, _, _, _, _, _, _, _, _, severity, _, message] = columns;
    let begins = |text: &[u8]| message.starts_with(text);
    let authorized = begins(b"connection authorized: ") || begins(b"replication connection authorized: ");
    if &*severity == b"LOG" && authorized {
        let Some(at) = time::iso(&time, clock) else { return Read::Malformed(NO_TIME) };
        let said = |name: Cow<'l, [u8]>| if name.is_empty() { Some(None) } else { text(name).map(Some) };
        let (Some(user), Some(place)) = (said(user), said(database)) else { return Read::Malformed(NO_TEXT) };
        return Read::Access(Access { user, place, action: Action::NetConnect, at });
    }
    if &*severity == b"FATAL" { Read::Refused } else { Read::Other }
}

/// The first columns of a record, without quotes.
fn columns(record: &[u8]) -> Option<[Cow<'_, [u8]>; COLUMNS]> {
    let mut columns: [Cow<'_, [u8]>; COLUMNS] = std::array::from_fn(|_| Cow::Borrowed(&[][..]));
    let mut rest = Some(record);
    for column in &mut columns {
        let here = rest?;
        let (value, after) = match here.strip_prefix(b"\"") {
            Some(quoted) => quoted_value(quoted)?,
            None => {
                let end = memchr::memchr(b',', here).unwrap_or(here.len());
                let (value, after) = here.split_at_checked(end)?;
                (Cow::Borrowed(value), after)
            }
        };
        *column = value;
        rest = match after {
            [] => None,
            [b',', after @ ..] => Some(after),
            _ => return None,
        };
    }
    Some(columns)
}

/// A value behind its first quote, and what stands behind the last.
fn quoted_value(text: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let mut end = memchr::memchr(b'"', text)?;
    if text.get(end + 1) != Some(&b'"') {
        return Some((Cow::Borrowed(text.get(..end)?), text.get(end + 1..)?));
    }
    let mut value = Vec::new();
    let mut rest = text;
    loop {
        value.extend_from_slice(rest.get(..end)?);
        rest = rest.get(end + 1..)?;
        let Some(after) = rest.strip_prefix(b"\"") else { return Some((Cow::Owned(value), rest)) };
        value.push(b'"');
        rest = after;
        end = memchr::memchr(b'"', rest)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLOCK: Clock = Clock { offset: None, now: 1_795_788_200 };

    fn line(user: &str, database: &str, severity: &str, message: &str) -> String {
        let quoted =
            |text: &str| if text.is_empty() { String::new() } else { format!("\"{}\"", text.replace('"', "\"\"")) };
        format!(
            "2026-11-27 14:03:02.123 UTC,{},{},4711,\"127.0.0.1:5000\",6928.1267,2,\"authentication\",2026-11-27 14:03:02 UTC,3/2,0,{severity},00000,{},,,,,,,,,\"\",\"client backend\",,0",
            quoted(user),
            quoted(database),
            quoted(message)
        )
    }

    fn told(line: &str) -> String {
        match read(line.as_bytes(), &CLOCK) {
            Read::Access(Access { user, place, action, at }) => {
                assert_eq!(at, 1_795_788_182);
                format!("{} {} {action}", user.as_deref().unwrap_or("nobody"), place.as_deref().unwrap_or("nowhere"))
            }
            Read::Refused => "refused".to_owned(),
            Read::Other => "other".to_owned(),
            Read::Malformed(why) => why.to_owned(),
        }
    }

    #[test]
    fn who_was_let_in_counts_and_nobody_else() {
        let authorized = "connection authorized: user=ann database=app application_name=psql";
        assert_eq!(told(&line("ann", "app", "LOG", authorized)), "ann app net:connect");
        assert_eq!(told(&line("a\"n,n", "app", "LOG", authorized)), "a\"n,n app net:connect");
        assert_eq!(
            told(&line("repl", "", "LOG", "replication connection authorized: user=repl")),
            "repl nowhere net:connect"
        );
        assert_eq!(told(&line("ann", "app", "LOG", "connection received: host=127.0.0.1")), "other");
        assert_eq!(told(&line("ann", "app", "FATAL", "password authentication failed for user \"ann\"")), "refused");
        // What somebody sends as a query is within quotes, and is no record.
        let query = format!("syntax error\n{}", line("root", "app", "LOG", authorized));
        assert_eq!(told(&line("eve", "app", "ERROR", &query)), "other");
        let zone = line("ann", "app", "LOG", authorized).replace("UTC,\"ann\"", "CET,\"ann\"");
        assert_eq!(told(&zone), NO_TIME);
        for bad in ["", "2026-11-27 14:03:02.123 UTC,\"ann\"", "\"open", "\"x\"y,,,,,,,,,,,,,,,", "GET / HTTP/1.1"] {
            assert!(told(bad).contains("columns"), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn names_are_read_back(user in "[^\r\n]{1,20}", database in "[^\r]{1,20}") {
            let told = told(&line(&user, &database, "LOG", "connection authorized: user=x"));
            prop_assert_eq!(told, format!("{} {} net:connect", user, database));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), near in "[\",a-z\n]{0,80}") {
            let _ = read(&bytes, &CLOCK);
            let _ = read(near.as_bytes(), &CLOCK);
        }
    }
}

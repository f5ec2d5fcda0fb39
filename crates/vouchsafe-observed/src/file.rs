//! Observed accesses as lines of JSON (`docs/spec/observed.md`): a line that says what the file is, and one line for
//! each user, resource, action and source.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};
use vouchsafe_model::action::Action;
use vouchsafe_model::observed::{Observed, Tally};

use crate::lines::{Layout, Records};

/// The format that is written, and read.
const VERSION: u32 = 1;
/// Most accesses of one kind each.
pub const MAX_ENTRIES: usize = 500_000;

/// A file that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read.
    #[error("it can't be read")]
    Read(#[source] io::Error),
    /// It is something else.
    #[error("its first line is not `{{\"observed\":1}}`: this is no file of `vouchsafe observed import`")]
    Other,
    /// A line is not as it must be.
    #[error("line {number} is no observed access: {why}")]
    Line {
        /// Which, from 1.
        number: u64,
        /// What is wrong.
        why: String,
    },
    /// It has too many lines.
    #[error("it has more than {MAX_ENTRIES} entries")]
    TooMany,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    observed: u32,
}

/// Writes a file.
///
/// # Errors
/// What the writer gives.
pub fn write(to: &mut impl Write, observed: &[Observed]) -> io::Result<()> {
    serde_json::to_writer(&mut *to, &Head { observed: VERSION })?;
    to.write_all(b"\n")?;
    for one in observed {
        serde_json::to_writer(&mut *to, one)?;
        to.write_all(b"\n")?;
    }
    Ok(())
}

/// Reads a file, and adds what it says.
///
/// # Errors
/// [`FileError`].
pub fn read(from: impl BufRead, tally: &mut Tally) -> Result<(), FileError> {
    let mut records = Records::new(from, Layout::Lines);
    let head = records.next().map_err(FileError::Read)?.and_then(|record| record.bytes);
    let head: Option<Head> = head.and_then(|bytes| serde_json::from_slice(bytes).ok());
    if head.is_none_or(|head| head.observed != VERSION) {
        return Err(FileError::Other);
    }
    while let Some(record) = records.next().map_err(FileError::Read)? {
        let number = record.number;
        let wrong = |why: &str| FileError::Line { number, why: why.to_owned() };
        let bytes = record.bytes.ok_or_else(|| wrong("it is too long"))?;
        let one: Observed = serde_json::from_slice(bytes).map_err(|error| wrong(&error.to_string()))?;
        if one.count == 0 || one.first > one.last {
            return Err(wrong("it was seen not once, or for the last time before the first"));
        }
        if matches!(one.action, Action::ConsoleRead | Action::ConsoleWrite) {
            return Err(wrong("the console is not observed"));
        }
        tally.add(one);
        if tally.beyond() > 0 {
            return Err(FileError::TooMany);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vouchsafe_model::name::{ResourceName, UserName};
    use vouchsafe_model::observed::Source;
    use vouchsafe_model::subject::Grade;

    use super::*;

    fn back(bytes: &[u8]) -> Result<Vec<Observed>, FileError> {
        let mut tally = Tally::new(MAX_ENTRIES);
        read(bytes, &mut tally)?;
        Ok(tally.into_observed())
    }

    #[test]
    fn what_is_no_such_file_is_refused_with_the_line() {
        let good =
            r#"{"user":"ann","resource":"wiki","action":"http:read","count":1,"first":1,"last":2,"source":"nginx"}"#;
        assert_eq!(back(format!("{{\"observed\":1}}\n{good}\n").as_bytes()).expect("reads").len(), 1);
        assert!(back(b"{\"observed\":1}").expect("reads").is_empty());
        for other in ["", "\n", good, "{\"observed\":2}\n", "{\"observed\":1,\"x\":1}\n"] {
            assert!(matches!(back(other.as_bytes()), Err(FileError::Other)), "{other}");
        }
        for (from, to) in [
            ("\"count\":1", "\"count\":0"),
            ("\"first\":1", "\"first\":3"),
            ("http:read", "console:read"),
            ("ann", "A"),
        ] {
            let bad = format!("{{\"observed\":1}}\n{good}\n{}\n", good.replace(from, to));
            assert!(matches!(back(bad.as_bytes()), Err(FileError::Line { number: 3, .. })), "{to}");
        }
        let mut tally = Tally::new(1);
        let two = format!("{{\"observed\":1}}\n{good}\n{}\n", good.replace("ann", "bob"));
        assert!(matches!(read(two.as_bytes(), &mut tally), Err(FileError::TooMany)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(of in proptest::collection::vec(("[a-z]{1,3}", "[a-z]{1,3}", 0_usize..4, 1_u64..1 << 53, 0_u64..9, 0_u64..9, 0_usize..5), 0..20)) {
            let mut tally = Tally::new(MAX_ENTRIES);
            for (user, resource, action, count, first, longer, grade) in of {
                let Ok(resource) = ResourceName::parse(&resource) else { continue };
                tally.add(Observed {
                    user: UserName::parse(&user).expect("user"),
                    resource,
                    action: Action::ALL[action],
                    count,
                    first,
                    last: first + longer,
                    grade: Grade::ALL.get(grade).copied(),
                    source: Source::Postgres,
                });
            }
            let all = tally.into_observed();
            let mut bytes = Vec::new();
            write(&mut bytes, &all).expect("writes");
            prop_assert_eq!(back(&bytes).expect("reads"), all);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = back(&bytes);
            let _ = back(&[b"{\"observed\":1}\n".as_slice(), &bytes].concat());
        }
    }
}

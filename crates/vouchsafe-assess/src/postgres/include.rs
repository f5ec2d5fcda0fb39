//! Files of PostgreSQL's that include others, within limits.

use crate::finding::Area;
use crate::notes::Notes;
use crate::source::Source;

/// Deepest inclusion, as in PostgreSQL.
const MAX_DEPTH: usize = 10;
/// Most files.
const MAX_FILES: usize = 200;

/// The text of one of them. `files` counts those that were read before it; `None` is in the notes.
pub(super) fn text(source: &Source, file: &str, depth: usize, files: &mut usize, notes: &mut Notes) -> Option<String> {
    *files += 1;
    if depth > MAX_DEPTH || *files > MAX_FILES {
        let what = "too many files include each other; this one was left out";
        notes.gap(Area::Postgres, file, None, what, "look at it by hand");
        return None;
    }
    notes.text(Area::Postgres, source, file)
}

/// What a file calls another one: from its own folder on, unless the name is whole.
pub(super) fn beside(file: &str, name: &str) -> String {
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    if name.starts_with('/') { name.to_owned() } else { format!("{folder}/{name}") }
}

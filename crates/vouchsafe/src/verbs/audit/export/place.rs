//! Where an export goes, and how far it is.
//!
//! Beside the files stands a cursor: which record is the next, and how long the newest file was when everything before
//! that record was in it and durable. What a crash left behind that length is cut off, so a file that is gone on with has
//! each record once. Whoever read behind it before the crash sees those records again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::form::Form;
use crate::call::Call;
use crate::error::VerbError;
use crate::output::Output;

/// Size from which on a directory gets a new file, bytes.
const FILE_BYTES: u64 = 64 << 20;
/// Name of the cursor in a directory, and what stands behind a file's own name.
const CURSOR: &str = "export.cursor";
/// Longest cursor.
const MAX_CURSOR_BYTES: u64 = 64 * 1024;

/// Where records are written to.
pub(super) enum Place {
    /// For another program to keep.
    Standard(Output),
    /// Files that are gone on with.
    Files(Box<Files>),
}

/// What is known of an export that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    format: String,
    /// Filters, as the API is asked with.
    filters: String,
    since: Option<u64>,
    /// Position of the next record.
    next: u64,
    /// Name of the newest file.
    file: String,
    /// Its length.
    length: u64,
}

pub(super) struct Files {
    dir: PathBuf,
    cursor_path: PathBuf,
    cursor: Cursor,
    file: File,
    /// A directory gets one file after another.
    many: bool,
    /// Length of the newest file.
    length: u64,
    /// Bytes that were written and are not yet known to be durable.
    unsaved: u64,
    /// Held until the end, so that two exports don't write the same files.
    _lock: File,
}

impl Place {
    pub(super) fn standard_output(call: &Call) -> Self {
        Place::Standard(call.out.clone())
    }

    /// Begins, or goes on.
    pub(super) fn open(
        path: &Path,
        format: Form,
        filters: &str,
        since: Option<u64>,
        from: Option<u64>,
    ) -> Result<Self, VerbError> {
        let many = path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
        let (dir, name, cursor_path) = if many {
            fs::create_dir_all(path).map_err(failed(path, "made"))?;
            (path.to_owned(), None, path.join(CURSOR))
        } else {
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| VerbError::usage(format!("`{}` names no file", path.display())))?;
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            (dir.to_owned(), Some(name.to_owned()), dir.join(format!("{name}.cursor")))
        };
        let lock_path = cursor_path.with_extension("lock");
        let mut lock = OpenOptions::new();
        let lock = lock.write(true).create(true).truncate(false).mode(0o600).open(&lock_path);
        let lock = lock.map_err(failed(&lock_path, "made"))?;
        if lock.try_lock().is_err() {
            return Err(VerbError::failed(format!("another export writes to `{}`", path.display())));
        }
        let begun = read_cursor(&cursor_path)?;
        let cursor = match begun {
            Some(cursor) => going_on(cursor, path, format, filters, from)?,
            None => {
                let next = from.unwrap_or_default();
                let file = name.unwrap_or_else(|| file_name(next, format));
                let file_path = dir.join(&file);
                // An empty one may be what a crash left before the cursor told of it.
                if fs::metadata(&file_path).is_ok_and(|found| found.len() > 0) {
                    return Err(VerbError::failed(format!("`{}` exists, and is no export", file_path.display()))
                        .hint("name another file: what exists is left as it is"));
                }
                let (format, filters) = (format.as_str().to_owned(), filters.to_owned());
                Cursor { format, filters, since, next, file, length: 0 }
            }
        };
        let file_path = dir.join(&cursor.file);
        let mut options = OpenOptions::new();
        let file =
            options.append(true).create(true).mode(0o600).open(&file_path).map_err(failed(&file_path, "opened"))?;
        let found = file.metadata().map_err(failed(&file_path, "read"))?.len();
        if found < cursor.length {
            let what = format!("`{}` has {found} bytes, but had {}", file_path.display(), cursor.length);
            return Err(VerbError::failed(what).hint("restore it, or begin anew in another place"));
        }
        file.set_len(cursor.length).map_err(failed(&file_path, "cut"))?;
        let length = cursor.length;
        let mut files = Files { dir, cursor_path, cursor, file, many, length, unsaved: 0, _lock: lock };
        files.save(files.cursor.next)?;
        Ok(Place::Files(Box::new(files)))
    }

    /// Position that an export which was begun goes on at.
    pub(super) fn next(&self) -> Option<u64> {
        match self {
            Place::Standard(_) => None,
            Place::Files(files) => Some(files.cursor.next),
        }
    }

    /// From which moment on an export which was begun has records.
    pub(super) fn since(&self) -> Option<u64> {
        match self {
            Place::Standard(_) => None,
            Place::Files(files) => files.cursor.since,
        }
    }

    /// Bytes that a crash could take.
    pub(super) fn unsaved(&self) -> u64 {
        match self {
            Place::Standard(_) => 0,
            Place::Files(files) => files.unsaved,
        }
    }

    /// Writes whole lines, of which the first is about the record at `first`.
    pub(super) fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), VerbError> {
        match self {
            Place::Standard(out) => Ok(out.raw(bytes)?),
            Place::Files(files) => files.write(first, bytes),
        }
    }

    /// Makes durable that everything before `next` is written.
    pub(super) fn save(&mut self, next: u64) -> Result<(), VerbError> {
        match self {
            Place::Standard(_) => Ok(()),
            Place::Files(files) => files.save(next),
        }
    }
}

impl Files {
    fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), VerbError> {
        if self.many && self.length >= FILE_BYTES {
            self.save(first)?;
            let format = Path::new(&self.cursor.file).extension().and_then(|name| name.to_str()).unwrap_or_default();
            let name = format!("audit-{first:020}.{format}");
            let path = self.dir.join(&name);
            let mut options = OpenOptions::new();
            // What is there by that name is what a crash left before the cursor told of it.
            let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
            self.file = file.map_err(failed(&path, "made"))?;
            (self.cursor.file, self.length) = (name, 0);
        }
        let path = self.dir.join(&self.cursor.file);
        self.file.write_all(bytes).map_err(failed(&path, "written"))?;
        let written = bytes.len() as u64;
        self.length += written;
        self.unsaved += written;
        Ok(())
    }

    fn save(&mut self, next: u64) -> Result<(), VerbError> {
        let path = self.dir.join(&self.cursor.file);
        self.file.sync_all().map_err(failed(&path, "synced"))?;
        (self.cursor.next, self.cursor.length) = (next, self.length);
        let draft = self.cursor_path.with_extension("draft");
        let keep = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(serde_json::to_string(&self.cursor)?.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &self.cursor_path)?;
            File::open(&self.dir)?.sync_all()
        };
        keep().map_err(failed(&self.cursor_path, "written"))?;
        self.unsaved = 0;
        Ok(())
    }
}

fn file_name(first: u64, format: Form) -> String {
    format!("audit-{first:020}.{}", format.as_str())
}

fn read_cursor(path: &Path) -> Result<Option<Cursor>, VerbError> {
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(failed(path, "read"))?,
    };
    let unreadable = || {
        VerbError::failed(format!("`{}` is no cursor of an export", path.display()))
            .hint("begin anew in another place, or with --from")
    };
    if found.len() > MAX_CURSOR_BYTES {
        return Err(unreadable());
    }
    let bytes = fs::read(path).map_err(failed(path, "read"))?;
    let cursor: Cursor = serde_json::from_slice(&bytes).map_err(|_| unreadable())?;
    // It names a file beside it, and none elsewhere.
    let beside = Path::new(&cursor.file).file_name().is_some_and(|name| name == cursor.file.as_str());
    if beside { Ok(Some(cursor)) } else { Err(unreadable()) }
}

/// Whether what was begun is what is asked for.
fn going_on(cursor: Cursor, path: &Path, format: Form, filters: &str, from: Option<u64>) -> Result<Cursor, VerbError> {
    let other = |what: &str| {
        VerbError::failed(format!("`{}` holds an export {what}", path.display())).hint("name another place")
    };
    if cursor.format != format.as_str() {
        return Err(other(&format!("in the format `{}`", cursor.format)));
    }
    if cursor.filters != filters {
        return Err(other("with other filters"));
    }
    if from.is_some_and(|from| from > cursor.next) {
        return Err(other(&format!("that goes on at record {}", cursor.next)));
    }
    Ok(cursor)
}

fn failed<'p>(path: &'p Path, what: &'p str) -> impl FnOnce(io::Error) -> VerbError + 'p {
    move |error| VerbError::failed(format!("`{}` can't be {what}", path.display())).cause(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, from: Option<u64>) -> Result<Place, VerbError> {
        Place::open(path, Form::Json, "user=alice", None, from)
    }

    #[test]
    fn what_a_crash_left_behind_the_cursor_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.json");
        let mut place = open(&path, Some(5)).unwrap();
        place.write(5, b"five\n").unwrap();
        place.save(6).unwrap();
        place.write(6, b"six\nsev").unwrap();
        drop(place);
        let mut place = open(&path, None).unwrap();
        assert_eq!(place.next(), Some(6));
        place.write(6, b"six\n").unwrap();
        place.save(7).unwrap();
        drop(place);
        assert_eq!(fs::read_to_string(&path).unwrap(), "five\nsix\n");

        let refused = |place: Result<Place, VerbError>| place.err().expect("refused").title;
        assert!(refused(Place::open(&path, Form::Ocsf, "user=alice", None, None)).contains("in the format `json`"));
        assert!(refused(Place::open(&path, Form::Json, "", None, None)).contains("other filters"));
        fs::write(&path, "five").unwrap();
        assert!(refused(open(&path, None)).contains("has 4 bytes, but had 9"));
    }

    #[test]
    fn a_file_that_is_no_export_is_left_as_it_is_and_two_exports_don_t_mix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes");
        fs::write(&path, "mine").unwrap();
        assert!(open(&path, None).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        let one = open(&dir.path().join("audit"), None).unwrap();
        assert!(open(&dir.path().join("audit"), None).is_err(), "another writes there");
        drop(one);
        assert!(open(&dir.path().join("audit"), None).is_ok());
    }

    #[test]
    fn a_directory_gets_a_new_file_when_one_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let mut place = open(dir.path(), None).unwrap();
        let much = vec![b'x'; usize::try_from(FILE_BYTES).unwrap()];
        place.write(0, &much).unwrap();
        place.write(9, b"nine\n").unwrap();
        place.save(10).unwrap();
        drop(place);
        assert_eq!(fs::read_to_string(dir.path().join("audit-00000000000000000009.json")).unwrap(), "nine\n");
        assert_eq!(open(dir.path(), None).unwrap().next(), Some(10));
    }
}

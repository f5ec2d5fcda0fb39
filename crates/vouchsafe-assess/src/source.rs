//! Files of one host, below one root and within limits.
//!
//! Every path is resolved by the kernel as if the root were `/` (`openat2`, `RESOLVE_IN_ROOT`), so a link in
//! a collected directory leads to the collected file and never out of it. Only regular files are read, and
//! opening never waits: a pipe that somebody put in a file's place holds nothing up.

use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::text::wild_path;

/// Largest file of a configuration, bytes.
pub(crate) const MAX_CONFIG: u64 = 1 << 20;
/// Largest list that a program keeps, such as dpkg's status, bytes.
pub(crate) const MAX_LIST: u64 = 64 << 20;
/// All files together, bytes.
const MAX_TOTAL: u64 = 512 << 20;
/// Most files opened.
const MAX_OPENED: u32 = 400_000;
/// Most entries of one folder.
const MAX_ENTRIES: usize = 65_536;
/// Most files that a pattern stands for.
const MAX_MATCHES: usize = 1_000;

/// Failure to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is not there.
    #[error("it is not there")]
    Missing,
    /// This user may not read it.
    #[error("this user may not read it")]
    Denied,
    /// It is larger than is read.
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    /// It is a folder, pipe or device.
    #[error("it is no regular file")]
    NotAFile,
    /// So much was read already that the look ends here.
    #[error("the limits of one look are used up")]
    Exhausted,
    /// The kernel said something else.
    #[error("the system says {0}")]
    System(Errno),
}

impl From<Errno> for ReadError {
    fn from(error: Errno) -> Self {
        match error {
            // A name in place of a folder, or a link in a circle, leads nowhere.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::NXIO => Self::Missing,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            other => Self::System(other),
        }
    }
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub kind: FileType,
    /// Permissions, the lowest twelve bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Unix seconds of the last change of the content.
    pub modified: u64,
}

/// The files of a host.
#[derive(Debug)]
pub struct Source {
    root: OwnedFd,
    label: Option<String>,
    opened: Cell<u32>,
    bytes: Cell<u64>,
}

impl Source {
    /// This host.
    ///
    /// # Errors
    /// [`ReadError`] when `/` can't be opened.
    pub fn host() -> Result<Self, ReadError> {
        Self::open(Path::new("/"), None)
    }

    /// Files collected below a directory, in the places that they have on their host.
    ///
    /// # Errors
    /// [`ReadError`] when it can't be opened.
    pub fn collected(root: &Path) -> Result<Self, ReadError> {
        Self::open(root, Some(root.display().to_string()))
    }

    fn open(root: &Path, label: Option<String>) -> Result<Self, ReadError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty())?;
        Ok(Self { root, label, opened: Cell::new(0), bytes: Cell::new(0) })
    }

    /// The directory, where it is not this host.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    fn at(&self, path: &str, flags: OFlags) -> Result<OwnedFd, ReadError> {
        if self.opened.get() >= MAX_OPENED {
            return Err(ReadError::Exhausted);
        }
        self.opened.set(self.opened.get() + 1);
        if path.contains('\0') {
            return Err(ReadError::Missing);
        }
        // A name alone is opened without them: the kernel refuses what makes no sense together.
        let waits = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NOCTTY | OFlags::NONBLOCK };
        let flags = flags | OFlags::CLOEXEC | waits;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // The kernel asks for another try when something was renamed on the way.
        for _ in 0..8 {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                other => return Ok(other?),
            }
        }
        Err(ReadError::System(Errno::AGAIN))
    }

    /// The bytes of a regular file.
    pub(crate) fn bytes(&self, path: &str, limit: u64) -> Result<Vec<u8>, ReadError> {
        // Looked at before it is opened: to open a device can do something.
        if self.stat(path)?.kind != FileType::RegularFile {
            return Err(ReadError::NotAFile);
        }
        let file = self.at(path, OFlags::RDONLY)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(ReadError::NotAFile);
        }
        let left = MAX_TOTAL.saturating_sub(self.bytes.get());
        let mut content = Vec::new();
        let read = File::from(file).take(limit.min(left) + 1).read_to_end(&mut content);
        read.map_err(|error| ReadError::System(error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)))?;
        let length = content.len() as u64;
        self.bytes.set(self.bytes.get().saturating_add(length));
        match length {
            _ if length > limit => Err(ReadError::TooLarge(limit)),
            _ if length > left => Err(ReadError::Exhausted),
            _ => Ok(content),
        }
    }

    /// Names in a folder, sorted, without `.` and `..`.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<String>, ReadError> {
        let folder = self.at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let name = String::from_utf8_lossy(entry?.file_name().to_bytes()).into_owned();
            if name == "." || name == ".." {
                continue;
            }
            if names.len() >= MAX_ENTRIES {
                return Err(ReadError::TooLarge(MAX_ENTRIES as u64));
            }
            names.push(name);
        }
        names.sort();
        Ok(names)
    }

    /// What is there, at the end of links.
    pub(crate) fn stat(&self, path: &str) -> Result<Stat, ReadError> {
        let stat = rustix::fs::fstat(self.at(path, OFlags::PATH)?)?;
        Ok(Stat {
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            modified: u64::try_from(stat.st_mtime).unwrap_or_default(),
        })
    }

    /// Where a link leads, as it is written.
    pub(crate) fn link(&self, folder: &str, name: &str) -> Result<String, ReadError> {
        let folder = self.at(folder, OFlags::PATH | OFlags::DIRECTORY)?;
        let target = rustix::fs::readlinkat(&folder, name, Vec::new())?;
        Ok(target.to_string_lossy().into_owned())
    }

    /// Whether something has that name, or can't be told.
    pub(crate) fn is_there(&self, path: &str) -> bool {
        !matches!(self.stat(path), Err(ReadError::Missing))
    }

    /// The names that a shell's pattern stands for, sorted. `*` and `?` match no slash and no leading dot.
    pub(crate) fn glob(&self, pattern: &str) -> Result<Vec<String>, ReadError> {
        let mut found = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let mut next = Vec::new();
            let is_pattern = part.contains(['*', '?', '[']);
            for folder in found {
                if !is_pattern {
                    next.push(format!("{folder}/{part}"));
                    continue;
                }
                let names = match self.list(if folder.is_empty() { "/" } else { &folder }) {
                    Ok(names) => names,
                    Err(ReadError::Missing) => continue,
                    Err(error) => return Err(error),
                };
                let matching = names.iter().filter(|name| part.starts_with('.') || !name.starts_with('.'));
                next.extend(matching.filter(|name| wild_path(part, name)).map(|name| format!("{folder}/{name}")));
                if next.len() > MAX_MATCHES {
                    return Err(ReadError::TooLarge(MAX_MATCHES as u64));
                }
            }
            found = next;
        }
        found.retain(|path| self.is_there(path));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_outside_of_the_root_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (root, secret) = (dir.path().join("root"), dir.path().join("secret"));
        fs::create_dir_all(root.join("etc/d")).unwrap();
        fs::write(&secret, "outside").unwrap();
        fs::write(root.join("etc/real"), "inside").unwrap();
        symlink("/etc/real", root.join("etc/absolute")).unwrap();
        symlink(&secret, root.join("etc/out")).unwrap();
        symlink("../../../../secret", root.join("etc/up")).unwrap();
        symlink("circle", root.join("etc/circle")).unwrap();
        let source = Source::collected(&root).unwrap();
        assert_eq!(source.bytes("/etc/absolute", 100).unwrap(), b"inside");
        for path in ["/etc/out", "/etc/up", "/../secret", "/etc/../../secret", "/etc/circle", "/etc/re\0al"] {
            assert_eq!(source.bytes(path, 100), Err(ReadError::Missing), "{path}");
        }
        assert_eq!(source.bytes("/etc/real", 3), Err(ReadError::TooLarge(3)));
        assert_eq!(source.bytes("/etc/d", 3), Err(ReadError::NotAFile));
    }

    #[test]
    fn a_pipe_in_a_files_place_holds_nothing_up() {
        let dir = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let source = Source::collected(dir.path()).unwrap();
        assert_eq!(source.bytes("/pipe", 100), Err(ReadError::NotAFile));
    }

    #[test]
    fn patterns_stand_for_files_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.conf", "a.conf", ".hidden.conf", "c.txt"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/z.conf"), "").unwrap();
        let source = Source::collected(dir.path()).unwrap();
        assert_eq!(source.glob("/*.conf").unwrap(), ["/a.conf", "/b.conf"]);
        assert_eq!(source.glob("/*/[x-z].conf").unwrap(), ["/d/z.conf"]);
        assert_eq!(source.glob("/nothing/*").unwrap(), [""; 0]);
    }
}

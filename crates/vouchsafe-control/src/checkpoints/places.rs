//! Where the newest published checkpoint is kept, each apart from the others: a log that was set back is noticed as long as
//! one of them was not set back with it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use vouchsafe_tlog::checkpoint::Checkpoint;
use vouchsafe_tlog::note::{MAX_NOTE_BYTES, Note, NoteSigner, VerifierKey};

use super::{CheckpointError, Published, Trouble};
use crate::log::{MERKLE_DIRECTORY, checkpoint_path, cosigned_path, keep_milestone};
use crate::store::{Store, blocking, settings};

/// The places of one controller.
pub(super) struct Places {
    store: Store,
    copy: Option<PathBuf>,
}

/// What the places knew at the start.
pub(super) struct Looked {
    /// By database and file, which are synced with the tree.
    own: Option<Published>,
    /// The largest of all, with words for its place.
    largest: Option<(Published, String)>,
    /// Something that can't be of this log.
    foreign: Option<Trouble>,
    /// The highest number of a log that any of them knows.
    pub(super) epoch: u64,
}

impl Looked {
    /// The newest checkpoint of this log.
    pub(super) fn newest(&self) -> Option<Published> {
        self.largest.as_ref().map(|(published, _)| published.clone())
    }

    /// The newest that database or file know.
    pub(super) fn own(&self) -> Option<Published> {
        self.own.clone()
    }

    /// How many records were in the tree when it was last synced, at most.
    pub(super) fn own_size(&self) -> u64 {
        self.own.as_ref().map_or(0, |published| published.checkpoint.size)
    }

    /// What is wrong with a log of that size.
    pub(super) fn trouble(&self, found: u64) -> Option<Trouble> {
        let set_back = self.largest.as_ref().filter(|(published, _)| published.checkpoint.size > found);
        self.foreign.clone().or_else(|| {
            set_back.map(|(published, place)| Trouble::SetBack {
                known: published.checkpoint.size,
                found,
                place: place.clone(),
            })
        })
    }
}

impl Places {
    pub(super) fn new(store: Store, copy: Option<PathBuf>) -> Self {
        Self { store, copy }
    }

    /// Reads what every place knows.
    pub(super) async fn look(&self, signer: &NoteSigner, epoch: u64) -> Result<Looked, CheckpointError> {
        let mut texts: Vec<(String, Vec<u8>)> = Vec::new();
        let mut read = self.store.read().await?;
        if let Some(text) = settings::read(&mut read, settings::AUDIT_CHECKPOINT).await? {
            texts.push(("the database".to_owned(), text.into_bytes()));
        }
        drop(read);
        for path in [Some(checkpoint_path(self.store.log().dir())), self.copy.clone()].into_iter().flatten() {
            let name = format!("`{}`", path.display());
            texts.extend(read_small(&path)?.map(|text| (name, text)));
        }
        let mut looked = Looked { own: None, largest: None, foreign: None, epoch };
        for (place, text) in texts {
            let is_copy = self.copy.as_ref().is_some_and(|copy| place == format!("`{}`", copy.display()));
            match read_note(&text, signer, epoch) {
                Read::Ours(published) => {
                    if !is_copy && looked.own_size() <= published.checkpoint.size {
                        looked.own = Some(published.clone());
                    }
                    looked.add(published, place);
                }
                // Of a log before this one: the place was not there when the new one was begun.
                Read::Older => {}
                Read::Foreign => {
                    looked.foreign.get_or_insert(Trouble::Foreign { place });
                }
                Read::Newer(size, other) => {
                    looked.epoch = looked.epoch.max(other);
                    looked.foreign.get_or_insert(Trouble::SetBack {
                        known: size,
                        found: self.store.log().size(),
                        place,
                    });
                }
            }
        }
        Ok(looked)
    }

    /// Writes the key where a verifier finds it that is given none.
    pub(super) async fn show_key(&self, key: &VerifierKey) -> Result<(), CheckpointError> {
        let path = checkpoint_path(self.store.log().dir()).with_file_name("key");
        let text = format!("{key}\n");
        blocking(move || {
            if fs::read(&path).is_ok_and(|known| known == text.as_bytes()) {
                return Ok(());
            }
            write_durably(&path, text.as_bytes()).map_err(|source| CheckpointError::Place { path, source })
        })
        .await?
    }

    /// Keeps a checkpoint in every place; it is durable in all of them when this returns.
    pub(super) async fn keep(&self, published: &Published, milestone: bool) -> Result<(), CheckpointError> {
        let text = published.note.to_string();
        let (path, copy, content) = (checkpoint_path(self.store.log().dir()), self.copy.clone(), text.clone());
        let (dir, size) = (self.store.log().dir().join(MERKLE_DIRECTORY), published.checkpoint.size);
        blocking(move || {
            for path in [Some(path), copy].into_iter().flatten() {
                write_durably(&path, content.as_bytes()).map_err(|source| CheckpointError::Place { path, source })?;
            }
            if milestone {
                // One more that can be compared with; the others are what counts.
                if let Err(error) = keep_milestone(&dir, size, content.as_bytes()) {
                    tracing::warn!(%error, "a checkpoint in between can't be kept");
                }
            }
            Ok::<_, CheckpointError>(())
        })
        .await??;
        let mut write = self.store.write().await?;
        settings::put(write.connection(), settings::AUDIT_CHECKPOINT, &text).await?;
        Ok(write.commit().await?)
    }
}

impl Places {
    /// Keeps the newest checkpoint that witnesses have cosigned.
    pub(super) async fn keep_cosigned(&self, published: &Published) -> Result<(), CheckpointError> {
        let (path, text) = (cosigned_path(self.store.log().dir()), published.note.to_string());
        blocking(move || {
            write_durably(&path, text.as_bytes()).map_err(|source| CheckpointError::Place { path, source })
        })
        .await?
    }

    /// That one, if it is of this log; and when the newest of all was written.
    pub(super) async fn cosigned(
        &self,
        signer: &NoteSigner,
    ) -> Result<(Option<Published>, Option<SystemTime>), CheckpointError> {
        let (path, newest) = (cosigned_path(self.store.log().dir()), checkpoint_path(self.store.log().dir()));
        let (text, written) = blocking(move || {
            let written = fs::metadata(newest).and_then(|found| found.modified()).ok();
            read_small(&path).map(|text| (text, written))
        })
        .await??;
        let read = |text: Vec<u8>| {
            let note = Note::parse(&text).ok()?;
            let checkpoint = Checkpoint::verify(&note, signer.verifier()).ok()?;
            Some(Published { checkpoint, note })
        };
        Ok((text.and_then(read), written))
    }

    /// Keeps the checkpoint of a log that is not gone on with, for whoever asks later.
    pub(super) async fn set_aside(&self, epoch: u64) -> Result<(), CheckpointError> {
        let path = checkpoint_path(self.store.log().dir());
        let aside = path.with_extension(epoch.to_string());
        let renamed = blocking(move || match fs::rename(&path, aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| CheckpointError::Place { path, source }),
        });
        renamed.await?
    }
}

impl Looked {
    fn add(&mut self, published: Published, place: String) {
        match &self.largest {
            Some((known, _)) if known.checkpoint.size == published.checkpoint.size => {
                if known.checkpoint.root != published.checkpoint.root {
                    self.foreign = Some(Trouble::Differs { size: known.checkpoint.size, place });
                }
            }
            Some((known, _)) if known.checkpoint.size > published.checkpoint.size => {}
            Some(_) | None => self.largest = Some((published, place)),
        }
    }
}

pub(super) enum Read {
    /// A checkpoint of this log.
    Ours(Published),
    /// Of one that this one replaced.
    Older,
    /// Of one that replaced this one: how many records it had, and its number.
    Newer(u64, u64),
    /// Of none of ours, or changed.
    Foreign,
}

pub(super) fn read_note(text: &[u8], signer: &NoteSigner, epoch: u64) -> Read {
    let Ok(note) = Note::parse(text) else { return Read::Foreign };
    if let Ok(checkpoint) = Checkpoint::verify(&note, signer.verifier()) {
        return Read::Ours(Published { checkpoint, note });
    }
    let Ok(named) = Checkpoint::parse(note.text()) else { return Read::Foreign };
    match epoch_of(&named.origin, signer.verifier().name(), epoch) {
        Some(other) if other < epoch => Read::Older,
        Some(other) if other > epoch => Read::Newer(named.size, other),
        Some(_) | None => Read::Foreign,
    }
}

/// The number of the log of that origin, when it is of the same installation as ours.
pub(super) fn epoch_of(origin: &str, ours: &str, epoch: u64) -> Option<u64> {
    let base = match epoch {
        1 => ours,
        epoch => ours.strip_suffix(&format!("/{epoch}"))?,
    };
    match origin.strip_prefix(base)? {
        "" => Some(1),
        rest => rest.strip_prefix('/')?.parse().ok().filter(|number| *number > 1),
    }
}

/// A file that is there, if it isn't too long for a checkpoint.
fn read_small(path: &Path) -> Result<Option<Vec<u8>>, CheckpointError> {
    let unusable = |source| CheckpointError::Place { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(found) if found.len() > MAX_NOTE_BYTES as u64 => Ok(Some(Vec::new())),
        Ok(_) => fs::read(path).map(Some).map_err(unusable),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(error)),
    }
}

/// Writes a file; it appears whole, and is durable when this returns.
fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_of_one_installation_are_told_from_others() {
        let first = "api.corp.example/v1/audit/log";
        let third = "api.corp.example/v1/audit/log/3";
        assert_eq!(epoch_of(first, first, 1), Some(1));
        assert_eq!(epoch_of(third, first, 1), Some(3));
        assert_eq!(epoch_of(first, third, 3), Some(1));
        assert_eq!(epoch_of(third, third, 3), Some(3));
        for other in ["", "api.corp.example/v1/audit/logs", "api.corp.example/v1/audit/log/1", "x/v1/audit/log"] {
            assert_eq!(epoch_of(other, first, 1), None, "{other}");
            assert_eq!(epoch_of(other, third, 3), None, "{other}");
        }
    }
}

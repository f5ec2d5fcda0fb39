//! The log as files of C2SP `tlog-tiles`: written out for others (`audit tiles`), and verified from them alone
//! (`audit verify --tiles`). Whoever has them and the log's key needs nothing of ours.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use vouchsafe_control::{Finding, Verified};
use vouchsafe_runtime::http_client;
use vouchsafe_tlog::checkpoint::Checkpoint;
use vouchsafe_tlog::hash::{HASH_BYTES, Hash};
use vouchsafe_tlog::note::{MAX_NOTE_BYTES, Note, NoteError, VerifierKey};
use vouchsafe_tlog::tile::{Of, Tile, entries};
use vouchsafe_tlog::tree::{Edge, LEVELS, TILE_WIDTH};
use vouchsafe_wire::api::AuditLogState;

use super::export::progress;
use crate::admin::AdminClient;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;

const CHECKPOINT: &str = "checkpoint";
const LOG: &str = "/v1/audit/log";
/// Longest bundle: entries of 65,535 bytes with their lengths.
const MAX_BUNDLE_BYTES: usize = 256 * (65_535 + 2);
/// Length of a full tile.
const ROW_BYTES: usize = 256 * HASH_BYTES;
/// Findings that are told; more are only counted.
const MAX_FINDINGS: usize = 100;

/// Writes the log out, as far as the newest checkpoint goes; what is there of it already stays.
pub(super) async fn write_out(call: &Call, client: &AdminClient, to: &Path) -> Result<Exit, VerbError> {
    let state: AuditLogState = client.get(LOG).await?;
    // What witnesses have cosigned is worth more to others than what is newest.
    let which = if state.cosigned.is_some_and(|size| size > 0) { "cosigned" } else { CHECKPOINT };
    let text = fetch(client, which, MAX_NOTE_BYTES).await?;
    let (key, note) = (VerifierKey::parse(&state.key), Note::parse(&text));
    let read = key.and_then(|key| Checkpoint::verify(&note?, &key));
    let checkpoint = read.map_err(|error| VerbError::of(Exit::Failed, &error))?;
    if let Some(there) = read_file(&to.join(CHECKPOINT), MAX_NOTE_BYTES)? {
        let of_this = Note::parse(&there).ok().and_then(|note| Checkpoint::parse(note.text()).ok());
        if of_this.is_none_or(|there| there.origin != checkpoint.origin || there.size > checkpoint.size) {
            let words = format!("`{}` holds tiles of another log, or of more records", to.display());
            return Err(VerbError::failed(words).hint("take another directory"));
        }
    }
    let bar = progress(call, false);
    bar.set_length(checkpoint.size);
    for tile in all(checkpoint.size) {
        let path = to.join("tile").join(tile.to_string());
        let whole = tile.width == TILE_WIDTH && path.exists();
        // Of records that were removed because they were old, the hashes are all there is.
        let removed = tile.of == Of::Entries && tile.first() < state.removed;
        if !whole && !removed {
            let bytes = fetch(client, &format!("tile/{tile}"), MAX_BUNDLE_BYTES).await?;
            put(&path, &bytes)?;
        }
        if tile.of == Of::Entries {
            bar.set_position(tile.first() + tile.width);
        }
    }
    // Last, so that it never says more than there is.
    put(&to.join(CHECKPOINT), &text)?;
    bar.finish_and_clear();
    let without = match state.removed {
        0 => String::new(),
        removed => format!("; of the first {removed}, which were removed, the hashes alone"),
    };
    call.out.note(&format!("{} records of `{}`{without}", checkpoint.size, checkpoint.origin));
    Ok(Exit::Ok)
}

/// Every file beside the checkpoint of a tree of that size.
fn all(size: u64) -> impl Iterator<Item = Tile> {
    let hashes = (0..LEVELS).flat_map(move |level| Tile::of_tree(Of::Hashes(level), size));
    hashes.chain(Tile::of_tree(Of::Entries, size))
}

async fn fetch(client: &AdminClient, what: &str, most: usize) -> Result<Vec<u8>, VerbError> {
    let body = client.stream(&format!("{LOG}/{what}")).await?;
    let bytes = http_client::collect(body, most).await;
    bytes.map(Vec::from).map_err(|error| VerbError::of(Exit::Unreachable, &error))
}

/// Writes a file that only its owner can read; it appears whole.
fn put(path: &Path, bytes: &[u8]) -> Result<(), VerbError> {
    let written = || -> io::Result<()> {
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let draft = path.with_extension("new");
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?.write_all(bytes)?;
        fs::rename(draft, path)
    };
    written().map_err(|error| VerbError::failed(format!("`{}` can't be written: {error}", path.display())))
}

/// A file that is there, if it isn't longer than it may be.
fn read_file(path: &Path, most: usize) -> Result<Option<Vec<u8>>, VerbError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > most { Err(io::Error::other(format!("it is longer than {most} bytes"))) } else { Ok(bytes) }
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(VerbError::failed(format!("`{}` can't be read: {error}", path.display()))),
    }
}

/// What is verified, and by what.
pub(super) struct Asked {
    pub(super) dir: PathBuf,
    pub(super) key: VerifierKey,
    pub(super) witnesses: Vec<VerifierKey>,
    pub(super) quorum: Option<usize>,
}

/// Verifies checkpoint, entries and hashes of a directory. It blocks.
///
/// # Errors
/// [`VerbError`] when a file can't be read at all; what is wrong in one is a finding.
pub(super) fn verify(asked: &Asked, bar: &ProgressBar) -> Result<Verified, VerbError> {
    let mut verified = Verified { key: Some(asked.key.to_string()), ..Verified::default() };
    let path = asked.dir.join(CHECKPOINT);
    let text = read_file(&path, MAX_NOTE_BYTES)?;
    let text = text.ok_or_else(|| VerbError::failed(format!("`{}` is not there", path.display())))?;
    let read = Note::parse(&text).and_then(|note| Ok((Checkpoint::verify(&note, &asked.key)?, note)));
    let (checkpoint, note) = match read {
        Ok(read) => read,
        Err(error) => {
            found(&mut verified, &path, None, format!("is no checkpoint of this log: {error}"));
            return Ok(verified);
        }
    };
    look_for_witnesses(asked, &path, &note, checkpoint.size, &mut verified);
    bar.set_length(checkpoint.size);
    let mut walk = Walk { dir: asked.dir.join("tile"), rows: Vec::new(), edge: Edge::default(), verified };
    for tile in Tile::of_tree(Of::Entries, checkpoint.size) {
        if !walk.bundle(tile)? {
            break;
        }
        bar.set_position(walk.edge.size());
    }
    let whole = walk.edge.size() == checkpoint.size;
    if whole {
        walk.rest()?;
    }
    let root = walk.edge.root();
    let mut verified = walk.verified;
    verified.records = walk.edge.size();
    if verified.removed > 0 {
        let words = format!("the first {} records are not here: their hashes alone are verified", verified.removed);
        verified.notes.push(words);
    }
    match whole && root == checkpoint.root {
        true => {
            (verified.covered, verified.checkpoints) = (checkpoint.size, 1);
            verified.root = Some(root.to_string());
        }
        false => found(&mut verified, &path, None, format!("signs {} records, and these are others", checkpoint.size)),
    }
    Ok(verified)
}

fn look_for_witnesses(asked: &Asked, path: &Path, note: &Note, size: u64, verified: &mut Verified) {
    let mut by = Vec::new();
    for key in &asked.witnesses {
        match note.signed_at(key) {
            Ok((at, _)) => by.push((key.name().to_owned(), at)),
            Err(NoteError::Unsigned) => {}
            Err(error) => found(verified, path, None, error.to_string()),
        }
    }
    let enough = asked.quorum.unwrap_or(asked.witnesses.len());
    if by.len() < enough {
        found(verified, path, None, format!("{} of the {enough} witnesses that must have cosigned it have", by.len()));
    } else if enough > 0 {
        verified.cosigned = Some((size, by));
    }
}

fn found(verified: &mut Verified, path: &Path, record: Option<u64>, words: impl Into<String>) {
    if verified.findings.len() >= MAX_FINDINGS {
        verified.unlisted += 1;
        return;
    }
    verified.findings.push(Finding { path: path.to_owned(), record, byte: None, words: words.into() });
}

/// The way through all bundles.
struct Walk {
    dir: PathBuf,
    /// For each level the index of the tile that grows, and its hashes so far.
    rows: Vec<(u64, Vec<Hash>)>,
    edge: Edge,
    verified: Verified,
}

impl Walk {
    /// Takes in one bundle; false when it ends there. Where all records before it are gone, too, their hashes count: old
    /// records may be removed.
    fn bundle(&mut self, tile: Tile) -> Result<bool, VerbError> {
        let path = self.dir.join(tile.to_string());
        let width = usize::try_from(tile.width).unwrap_or(usize::MAX);
        let leaves: Vec<Hash> = match self.read(tile, MAX_BUNDLE_BYTES)? {
            Some(bytes) => match entries(&bytes).filter(|list| list.len() >= width) {
                Some(list) => list.into_iter().take(width).map(Hash::of_leaf).collect(),
                None => {
                    let words = format!("does not hold {width} whole records");
                    found(&mut self.verified, &path, Some(tile.first()), words);
                    return Ok(false);
                }
            },
            None if self.verified.removed == tile.first() && tile.width == TILE_WIDTH => {
                let Some(leaves) = self.leaves(tile)? else {
                    found(&mut self.verified, &path, Some(tile.first()), "is missing, and so are its hashes");
                    return Ok(false);
                };
                self.verified.removed += tile.width;
                leaves
            }
            None => {
                found(&mut self.verified, &path, Some(tile.first()), "is missing");
                return Ok(false);
            }
        };
        for leaf in leaves {
            self.push(leaf)?;
        }
        Ok(true)
    }

    /// Stored hashes of the records of a bundle.
    fn leaves(&self, tile: Tile) -> Result<Option<Vec<Hash>>, VerbError> {
        let bytes = self.read(Tile { of: Of::Hashes(0), ..tile }, ROW_BYTES)?;
        let whole = bytes.filter(|bytes| bytes.len() == ROW_BYTES);
        Ok(whole.map(|bytes| bytes.as_chunks::<HASH_BYTES>().0.iter().map(|hash| Hash(*hash)).collect()))
    }

    fn push(&mut self, leaf: Hash) -> Result<(), VerbError> {
        let mut full = Vec::new();
        let (edge, rows) = (&mut self.edge, &mut self.rows);
        edge.push(leaf, &mut |level, index, hash| {
            let at = usize::from(level);
            while rows.len() <= at {
                rows.push((0, Vec::new()));
            }
            let Some((tile, row)) = rows.get_mut(at) else { return };
            *tile = index / TILE_WIDTH;
            row.push(hash);
            if row.len() as u64 == TILE_WIDTH {
                full.push((level, *tile, std::mem::take(row)));
            }
        });
        full.into_iter().try_for_each(|(level, index, row)| self.compare(level, index, &row))
    }

    /// Compares the tiles that aren't full.
    fn rest(&mut self) -> Result<(), VerbError> {
        let rows = std::mem::take(&mut self.rows);
        for ((index, row), level) in rows.into_iter().zip(0..LEVELS) {
            if !row.is_empty() {
                self.compare(level, index, &row)?;
            }
        }
        Ok(())
    }

    fn compare(&mut self, level: u8, index: u64, row: &[Hash]) -> Result<(), VerbError> {
        let tile = Tile { of: Of::Hashes(level), index, width: row.len() as u64 };
        let path = self.dir.join(tile.to_string());
        let record = tile.first().saturating_mul(TILE_WIDTH.saturating_pow(u32::from(level)));
        let Some(bytes) = self.read(tile, ROW_BYTES)? else {
            found(&mut self.verified, &path, Some(record), "is missing");
            return Ok(());
        };
        let (stored, _) = bytes.as_chunks::<HASH_BYTES>();
        let differs = (0..row.len()).find(|at| stored.get(*at) != row.get(*at).map(|hash| &hash.0));
        if let Some(at) = differs {
            let below = TILE_WIDTH.saturating_pow(u32::from(level));
            let first = (tile.first() + at as u64).saturating_mul(below);
            let words = match below {
                1 => format!("the hash of record {first} is not of what stands here"),
                below => format!("the hash of records {first} to {} is not of what stands here", first + below - 1),
            };
            found(&mut self.verified, &path, Some(first), words);
        }
        Ok(())
    }

    /// A tile's bytes; where a partial one is gone, the full one that took its place may be there.
    fn read(&self, tile: Tile, most: usize) -> Result<Option<Vec<u8>>, VerbError> {
        let own = read_file(&self.dir.join(tile.to_string()), most)?;
        if own.is_some() || tile.width == TILE_WIDTH {
            return Ok(own);
        }
        read_file(&self.dir.join(Tile { width: TILE_WIDTH, ..tile }.to_string()), most)
    }
}

//! Verification of the log's files without the controller: everything is read, nothing is written, and nothing but the key
//! is believed (`docs/spec/audit-log.md`).
//!
//! Two things are held against each other: the records, and the hashes that were stored when they came. Where they differ,
//! that record was changed (or the hash was; what the hashes lead to says which). Whoever changes both still has no key to
//! sign a checkpoint with, so the checkpoints that were kept say up to which record the log is what it was.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use vouchsafe_tlog::checkpoint::Checkpoint;
use vouchsafe_tlog::hash::{HASH_BYTES, Hash};
use vouchsafe_tlog::note::{Note, NoteError, VerifierKey};
use vouchsafe_tlog::tree::{Edge, LEVELS, Stored as _};
use vouchsafe_wire::audit::{Record, Scanned, scan};
use vouchsafe_wire::spool::{Frame, HEADER_BYTES, read_frame};

use super::begin::removed_before;
use super::merkle::{Levels, MERKLE_DIRECTORY, checkpoint_path, cosigned_path};
use super::segment::{self, GROUP_HEADER_BYTES, Group};
use super::{CONTROLLER_SOURCE, LogError, at, gently};

/// Findings that are told; more are only counted.
const MAX_FINDINGS: usize = 100;
/// Stored hashes that are compared at once.
const COMPARED: u64 = 256;

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// Position of the first record that it is about, if it is about any.
    pub record: Option<u64>,
    /// Where in the file, bytes.
    pub byte: Option<u64>,
    /// What is wrong, in words.
    pub words: String,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    /// Whole records that stand where they belong, and those that were removed because they were old.
    pub records: u64,
    /// How many of them were removed: the hashes are what is left of them.
    pub removed: u64,
    /// How many of them the largest valid checkpoint covers.
    pub covered: u64,
    /// The root that it signs, in Base64.
    pub root: Option<String>,
    /// Checkpoints that hold.
    pub checkpoints: u64,
    /// The largest checkpoint that enough of the given witnesses have cosigned: its size, their names, and when each did.
    pub cosigned: Option<(u64, Vec<(String, u64)>)>,
    /// What is wrong. Nothing, if the log is what it was.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub unlisted: u64,
    /// What can't be told, in words.
    pub notes: Vec<String>,
    /// The key that was verified with.
    pub key: Option<String>,
}

impl Verified {
    fn add(&mut self, path: &Path, record: Option<u64>, byte: Option<u64>, words: impl Into<String>) {
        if self.findings.len() >= MAX_FINDINGS {
            self.unlisted += 1;
            return;
        }
        self.findings.push(Finding { path: path.to_owned(), record, byte, words: words.into() });
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.findings.is_empty()
    }
}

/// What to verify, and with what.
#[derive(Debug, Clone, Default)]
pub struct Verification {
    /// State directory of the controller.
    pub dir: PathBuf,
    /// Verifier key of the log; without one the key that the directory names is taken, which whoever changed the log could
    /// have changed.
    pub key: Option<VerifierKey>,
    /// Checkpoints that were got before, each with words for where.
    pub checkpoints: Vec<(String, Vec<u8>)>,
    /// Witnesses that must have cosigned a checkpoint.
    pub witnesses: Vec<VerifierKey>,
    /// How many of them; all where nothing is said.
    pub quorum: Option<usize>,
}

/// Verifies all of it; `progress` hears how many bytes of how many are done.
///
/// # Errors
/// [`LogError`] when something can't be read at all; what is read and is wrong is a [`Finding`].
pub fn verify(asked: &Verification, progress: &mut dyn FnMut(u64, u64)) -> Result<Verified, LogError> {
    let dir = asked.dir.join(crate::store::LOG_DIRECTORY);
    let mut verified = Verified::default();
    let levels = Levels::read_only(&dir.join(MERKLE_DIRECTORY))?;
    // In this order, for a controller that runs: what is signed is in the tree, and what is there is in the segments.
    let claims = Claims::collect(asked, &dir, &mut verified)?;
    let counts: Vec<u64> = (0..LEVELS).map(|level| levels.count(level)).collect::<Result<_, _>>()?;
    let segments = segment::list(&dir).map_err(at(&dir))?;
    let mut walk = Walk::new(&dir, &levels, counts, claims.points(), &mut verified);
    walk.segments(&segments, progress)?;
    walk.finish();
    let Walk { edge, roots, first_different, .. } = walk;
    claims.judge(edge.size(), &roots, first_different, &dir, &mut verified);
    Ok(verified)
}

/// Checkpoints to compare with.
struct Claims {
    list: Vec<Claim>,
}

struct Claim {
    place: PathBuf,
    checkpoint: Checkpoint,
    note: Note,
}

impl Claims {
    fn collect(asked: &Verification, dir: &Path, verified: &mut Verified) -> Result<Self, LogError> {
        let mut list = Vec::new();
        let own = checkpoint_path(dir);
        let key = match &asked.key {
            Some(key) => Some(key.clone()),
            None => {
                let path = dir.join(MERKLE_DIRECTORY).join("key");
                let read = fs::read_to_string(&path).ok();
                let key = read.and_then(|text| VerifierKey::parse(text.trim_end()).ok());
                match &key {
                    Some(_) => verified.notes.push(format!(
                        "the key was taken from `{}`: whoever could change the log could change it, too; give `--key`",
                        path.display()
                    )),
                    None => verified.add(&path, None, None, "holds no key, so no checkpoint is verified; give `--key`"),
                }
                key
            }
        };
        let Some(key) = key else { return Ok(Self { list }) };
        verified.key = Some(key.to_string());
        let take = |place: &Path, bytes: &[u8], must: bool, verified: &mut Verified, list: &mut Vec<Claim>| {
            let read = Note::parse(bytes).and_then(|note| Ok((Checkpoint::verify(&note, &key)?, note)));
            match read {
                Ok((checkpoint, note)) => list.push(Claim { place: place.to_owned(), checkpoint, note }),
                Err(error) if must => verified.add(place, None, None, format!("is no checkpoint of this log: {error}")),
                Err(_) => {}
            }
        };
        match fs::read(&own) {
            Ok(bytes) => take(&own, &bytes, true, verified, &mut list),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                verified.add(&own, None, None, "is missing: nobody vouches for the log's newest records");
            }
            Err(error) => return Err(at(&own)(error)),
        }
        for (place, bytes) in &asked.checkpoints {
            take(Path::new(place), bytes, true, verified, &mut list);
        }
        for path in milestones(&dir.join(MERKLE_DIRECTORY)) {
            // Those of a log before this one are of another key.
            let bytes = fs::read(&path).map_err(at(&path))?;
            let of_another = Note::parse(&bytes).is_ok_and(|note| {
                !note.names(&key) && Checkpoint::parse(note.text()).is_ok_and(|other| other.origin != key.name())
            });
            take(&path, &bytes, !of_another, verified, &mut list);
        }
        let cosigned = cosigned_path(dir);
        match fs::read(&cosigned) {
            // One of a log before this one may lie there, too.
            Ok(bytes) => take(&cosigned, &bytes, false, verified, &mut list),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&cosigned)(error)),
        }
        list.sort_by_key(|claim| claim.checkpoint.size);
        let claims = Self { list };
        if !asked.witnesses.is_empty() {
            claims.look_for_witnesses(asked, &cosigned, verified);
        }
        Ok(claims)
    }

    /// Whether enough of the witnesses have cosigned one.
    fn look_for_witnesses(&self, asked: &Verification, place: &Path, verified: &mut Verified) {
        let enough = asked.quorum.unwrap_or(asked.witnesses.len()).max(1);
        for Claim { place, checkpoint, note } in self.list.iter().rev() {
            let mut by = Vec::new();
            for key in &asked.witnesses {
                match note.signed_at(key) {
                    Ok((at, _)) => by.push((key.name().to_owned(), at)),
                    Err(NoteError::Unsigned) => {}
                    Err(error) => verified.add(place, None, None, error.to_string()),
                }
            }
            if by.len() >= enough {
                verified.cosigned = Some((checkpoint.size, by));
                return;
            }
        }
        let words = format!(
            "no checkpoint here bears the cosignatures of {enough} of the {} witnesses whose keys were given",
            asked.witnesses.len()
        );
        verified.add(place, None, None, words);
    }

    /// Sizes at which the root is needed.
    fn points(&self) -> Vec<u64> {
        let mut points: Vec<u64> = self.list.iter().map(|claim| claim.checkpoint.size).collect();
        points.dedup();
        points
    }

    /// Holds the checkpoints against what was read.
    fn judge(
        &self,
        size: u64,
        roots: &BTreeMap<u64, Hash>,
        first_different: Option<u64>,
        dir: &Path,
        verified: &mut Verified,
    ) {
        let mut holds_up_to = 0;
        for Claim { place, checkpoint, .. } in &self.list {
            match roots.get(&checkpoint.size) {
                Some(root) if *root == checkpoint.root => {
                    verified.checkpoints += 1;
                    holds_up_to = checkpoint.size;
                    verified.covered = checkpoint.size;
                    verified.root = Some(checkpoint.root.to_string());
                }
                Some(_) => {
                    let record = first_different.filter(|first| *first < checkpoint.size).unwrap_or(holds_up_to);
                    let words = format!(
                        "the first {} records are not those that `{}` signs; the first that differs is one of {} to {}",
                        checkpoint.size,
                        place.display(),
                        record,
                        checkpoint.size.saturating_sub(1),
                    );
                    verified.add(dir, Some(record), None, words);
                    // What is behind can't be better.
                    return;
                }
                None => {
                    let words = format!(
                        "`{}` signs {} records, but the log has {size} whole ones",
                        place.display(),
                        checkpoint.size
                    );
                    verified.add(dir, Some(size), None, words);
                    return;
                }
            }
        }
    }
}

fn milestones(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "checkpoint"))
        .collect();
    found.sort();
    found
}

/// The way through all records.
struct Walk<'v> {
    dir: PathBuf,
    levels: &'v Levels,
    /// Hashes that each level has stored.
    counts: Vec<u64>,
    /// Stored hashes that were read ahead, by level: index of the first, and the hashes.
    ahead: Vec<(u64, Vec<Hash>)>,
    edge: Edge,
    points: Vec<u64>,
    roots: BTreeMap<u64, Hash>,
    sources: BTreeMap<String, u64>,
    /// Numbers that were told to be lost: source, first and last.
    told: Vec<(String, u64, u64)>,
    /// Position of the first record that is there, and before which position records were told to be removed.
    begin: u64,
    told_removed: u64,
    first_different: Option<u64>,
    /// How many records are not those that were hashed, and the last of them.
    different: u64,
    last_different: Option<u64>,
    /// A record is missing or unreadable: from there on no position means anything.
    broken: bool,
    verified: &'v mut Verified,
}

impl<'v> Walk<'v> {
    fn new(dir: &Path, levels: &'v Levels, counts: Vec<u64>, points: Vec<u64>, verified: &'v mut Verified) -> Self {
        let edge = Edge::default();
        let roots = points.iter().filter(|point| **point == 0).map(|point| (*point, edge.root())).collect();
        Self {
            dir: dir.to_owned(),
            levels,
            ahead: counts.iter().map(|_| (0, Vec::new())).collect(),
            counts,
            edge,
            points,
            roots,
            sources: BTreeMap::new(),
            told: Vec::new(),
            begin: 0,
            told_removed: 0,
            first_different: None,
            different: 0,
            last_different: None,
            broken: false,
            verified,
        }
    }

    fn segments(&mut self, segments: &[u64], progress: &mut dyn FnMut(u64, u64)) -> Result<(), LogError> {
        let lengths: Vec<u64> = segments.iter().map(|first| self.length(*first)).collect::<Result<_, _>>()?;
        let (mut done, all) = (0, lengths.iter().sum());
        progress(0, all);
        self.removed(segments.first().copied().unwrap_or(0))?;
        let nexts = segments.iter().skip(1).map(|next| Some(*next)).chain([None]);
        for ((first, next), length) in segments.iter().zip(nexts).zip(lengths) {
            if self.broken {
                break;
            }
            self.segment(*first, next)?;
            done += length;
            progress(done, all);
        }
        Ok(())
    }

    /// Takes in the hashes of records that are not there any more, if they are there.
    fn removed(&mut self, first: u64) -> Result<(), LogError> {
        if self.counts.first().is_none_or(|hashed| *hashed < first) {
            return Ok(());
        }
        while self.edge.size() < first {
            let index = self.edge.size();
            let count = COMPARED.min(first - index);
            for hash in self.levels.hashes(0, index, count)? {
                self.leaf(&self.levels.path(0), 0, hash);
            }
        }
        self.begin = first;
        Ok(())
    }

    fn length(&self, first: u64) -> Result<u64, LogError> {
        let path = segment::path(&self.dir, first);
        fs::metadata(&path).map(|found| found.len()).map_err(at(&path))
    }

    /// Reads one segment; `next` is where the one behind it begins, if there is one.
    fn segment(&mut self, first: u64, next: Option<u64>) -> Result<(), LogError> {
        let path = segment::path(&self.dir, first);
        let position = self.edge.size();
        if first != position {
            let words = match first > position {
                true => format!("records {position} to {} are missing before this file", first - 1),
                false => format!("begins with record {first}, which stands before it already"),
            };
            self.verified.add(&path, Some(position), Some(0), words);
            self.broken = true;
            return Ok(());
        }
        let bytes = gently::read(&path).map_err(at(&path))?;
        let mut offset = 0;
        while next.is_none_or(|next| self.edge.size() < next) {
            let Some(length) = self.group(&path, &bytes, offset) else { break };
            offset += length;
        }
        if self.broken {
            return Ok(());
        }
        let rest = bytes.get(offset..).unwrap_or_default();
        let left = rest.iter().filter(|byte| **byte != 0).count();
        match next {
            Some(next) if self.edge.size() != next => {
                let words = format!("ends at record {}, but the next file begins with record {next}", self.edge.size());
                self.damage(&path, &bytes, offset, words);
            }
            Some(_) | None if left == 0 => {}
            Some(_) => self.verified.notes.push(format!(
                "`{}` holds bytes behind its last record (byte {offset}), of a commit that was given up; they count for \
                 nothing",
                path.display()
            )),
            None if segment::holds_later_group(rest, self.edge.size()) => {
                self.damage(&path, &bytes, offset, "can't be read here, but goes on behind".to_owned());
            }
            None if self.points.last().is_some_and(|signed| self.edge.size() < *signed)
                || self.counts.first().is_some_and(|hashed| self.edge.size() < *hashed) =>
            {
                self.damage(&path, &bytes, offset, "can't be read here".to_owned());
            }
            None => self.verified.notes.push(format!(
                "`{}` holds bytes behind its last whole record (byte {offset}): a commit that is under way, or that a \
                 crash cut short",
                path.display()
            )),
        }
        Ok(())
    }

    /// Looks closer at a group that can't be read, for the record and the byte.
    fn damage(&mut self, path: &Path, bytes: &[u8], offset: usize, otherwise: String) {
        let (record, byte, words) =
            look_closer(bytes, offset, self.edge.size()).unwrap_or((self.edge.size(), offset, otherwise));
        self.verified.add(path, Some(record), Some(byte as u64), words);
        self.broken = true;
    }

    /// Reads the group at `offset`; gives its length when it is whole.
    fn group(&mut self, path: &Path, bytes: &[u8], offset: usize) -> Option<usize> {
        let rest = bytes.get(offset..)?;
        let group = Group::read(rest).filter(|group| group.first == self.edge.size() && group.count > 0)?;
        let length = GROUP_HEADER_BYTES + group.bytes as usize;
        let whole = segment::payloads(rest.get(..length)?, group.first)?;
        let mut at = offset + GROUP_HEADER_BYTES;
        let mut of_group: Option<Vec<u8>> = None;
        for payload in whole {
            match scan(payload) {
                Ok(record) => {
                    if of_group.get_or_insert_with(|| record.source.to_vec()) != record.source {
                        let words = "this record is of another source than the others of its commit";
                        self.verified.add(path, Some(self.edge.size()), Some(at as u64), words);
                    }
                    self.number(path, at, &record, payload);
                }
                Err(error) => {
                    let words = format!("this is not the canonical form of a record: {error}");
                    self.verified.add(path, Some(self.edge.size()), Some(at as u64), words);
                }
            }
            self.record(path, at, payload);
            at += HEADER_BYTES + payload.len();
        }
        Some(length)
    }

    /// Numbers of a source rise by one, unless it was told that some never came.
    fn number(&mut self, path: &Path, at: usize, record: &Scanned<'_>, payload: &[u8]) {
        // INVARIANT: the scan has checked that it is a text in quotes.
        let source: String = serde_json::from_slice(record.source).unwrap_or_default();
        // Of a source whose first records were removed, the first that is there is as good as any.
        let before = if self.begin > 0 { record.seq.saturating_sub(1) } else { 0 };
        let last = self.sources.get(&source).copied().unwrap_or(before);
        let position = Some(self.edge.size());
        if record.seq <= last {
            let words = format!("record {} of {source} stands here after record {last} of it", record.seq);
            self.verified.add(path, position, Some(at as u64), words);
        } else if record.seq > last + 1 {
            let (from, to) = (last + 1, record.seq - 1);
            let told = self.told.iter().any(|(of, first, end)| *of == source && *first <= from && to <= *end);
            if !told {
                let words = format!("records {from} to {to} of {source} are missing before this one");
                self.verified.add(path, position, Some(at as u64), words);
            }
        }
        self.sources.insert(source.clone(), record.seq.max(last));
        if source == CONTROLLER_SOURCE && record.kind == b"\"lifecycle\"" {
            self.told.extend(gap(payload));
            self.told_removed = self.told_removed.max(removed(payload).unwrap_or(0));
        }
    }

    /// Takes a record into the tree, and compares what comes of it with what is stored.
    fn record(&mut self, path: &Path, at: usize, payload: &[u8]) {
        self.leaf(path, at, Hash::of_leaf(payload));
    }

    /// The same for a record of which the hash alone is known.
    fn leaf(&mut self, path: &Path, at: usize, leaf: Hash) {
        let position = self.edge.size();
        let mut grown = Vec::new();
        self.edge.push(leaf, &mut |level, index, hash| grown.push((level, index, hash)));
        for (level, index, hash) in grown {
            if self.stored(level, index).is_none_or(|stored| stored == hash) {
                continue;
            }
            let byte = index * HASH_BYTES as u64;
            match level {
                // One changed record changes the hashes above it, too; they say nothing more.
                0 => {
                    self.different += 1;
                    let goes_on = self.last_different.replace(position).is_some_and(|last| last + 1 == position);
                    self.first_different.get_or_insert(position);
                    // Where one is missing, all behind it differ.
                    if goes_on {
                        continue;
                    }
                    let words = format!(
                        "the hash that was stored for record {position} (`{}`, byte {byte}) is not of what stands here: \
                         one of the two was changed",
                        self.levels.path(0).display()
                    );
                    self.verified.add(path, Some(position), Some(at as u64), words);
                }
                level if self.first_different.is_none() => {
                    let words = format!("hash {index} of level {level} is not that of the hashes below it");
                    let first = index * 256_u64.saturating_pow(level.into());
                    self.verified.add(&self.levels.path(level), Some(first), Some(byte), words);
                }
                _ => {}
            }
        }
        if self.points.binary_search(&self.edge.size()).is_ok() {
            self.roots.insert(self.edge.size(), self.edge.root());
        }
    }

    /// A stored hash, if it is there.
    fn stored(&mut self, level: u8, index: u64) -> Option<Hash> {
        let count = *self.counts.get(usize::from(level))?;
        if index >= count {
            return None;
        }
        let (first, hashes) = self.ahead.get_mut(usize::from(level))?;
        if !(*first..*first + hashes.len() as u64).contains(&index) {
            *hashes = self.levels.hashes(level, index, COMPARED.min(count - index)).ok()?;
            *first = index;
        }
        hashes.get(usize::try_from(index - *first).ok()?).copied()
    }

    fn finish(&mut self) {
        self.verified.records = self.edge.size();
        self.verified.removed = self.begin;
        if self.different > 1 {
            self.verified.notes.push(format!("{} records in all are not those that were hashed", self.different));
        }
        if self.broken {
            let words = format!(
                "what stands behind record {} was not looked at: a position means nothing there",
                self.edge.size()
            );
            self.verified.notes.push(words);
            return;
        }
        match self.begin {
            0 => {}
            begin if begin <= self.told_removed => self.verified.notes.push(format!(
                "the first {begin} records were removed because they were old, as a record of the log says; their hashes \
                 are those that were signed"
            )),
            begin => {
                let path = segment::path(&self.dir, begin);
                let words = format!("records 0 to {} are missing before this file, and no record says why", begin - 1);
                self.verified.add(&path, Some(self.told_removed), Some(0), words);
            }
        }
        let (mut want, mut signed) = (self.edge.size(), self.points.last().copied().unwrap_or(0).min(self.edge.size()));
        for level in 0..LEVELS {
            let have = self.counts.get(usize::from(level)).copied().unwrap_or(0);
            if have < signed {
                let words = format!("has {have} hashes, but {signed} were there when the newest checkpoint was signed");
                self.verified.add(&self.levels.path(level), None, Some(have * HASH_BYTES as u64), words);
            }
            signed /= 256;
            if have > want {
                let words =
                    format!("has hashes of {have} entries, but there are {want}: records at the end are missing");
                self.verified.add(&self.levels.path(level), Some(want), Some(want * HASH_BYTES as u64), words);
            }
            want /= 256;
        }
        let hashed = self.counts.first().copied().unwrap_or(0);
        if hashed < self.edge.size() {
            self.verified.notes.push(format!(
                "the last {} records are not hashed yet, so their order of bytes alone speaks for them",
                self.edge.size() - hashed
            ));
        }
    }
}

/// What a record says of numbers that never came: whose, first and last.
fn gap(payload: &[u8]) -> Option<(String, u64, u64)> {
    let record = Record::from_canonical(payload).ok().filter(|record| record.action.as_deref() == Some("audit.gap"))?;
    let source = record.target?.strip_prefix("gateway/")?.to_owned();
    let detail = record.detail?;
    let (from, to) = detail.strip_prefix("records ")?.strip_suffix(" never arrived")?.split_once(" to ")?;
    Some((source, from.parse().ok()?, to.parse().ok()?))
}

/// Before which position a record says that records were removed.
fn removed(payload: &[u8]) -> Option<u64> {
    let record = Record::from_canonical(payload).ok()?;
    let detail = record.detail.filter(|_| record.action.as_deref() == Some("audit.retention"))?;
    removed_before(&detail)
}

/// Finds the record and the byte in a group that can't be read.
fn look_closer(bytes: &[u8], offset: usize, position: u64) -> Option<(u64, usize, String)> {
    let rest = bytes.get(offset..)?;
    let Some(group) = Group::read(rest) else {
        return Some((
            position,
            offset,
            "no commit begins here: its head was changed, or what stood here is gone".to_owned(),
        ));
    };
    if group.first != position || group.count == 0 {
        let words = format!("a commit begins here with record {}, where record {position} belongs", group.first);
        return Some((position, offset, words));
    }
    let (mut at, mut found) = (offset + GROUP_HEADER_BYTES, position);
    let end = at + group.bytes as usize;
    while at < end && found < position + u64::from(group.count) {
        let Frame::Whole { length, .. } = read_frame(bytes.get(at..end.min(bytes.len()))?) else {
            return Some((found, at, "this record is not what was written: its sum does not hold".to_owned()));
        };
        at += length;
        found += 1;
    }
    Some((found, at, "the commit has fewer or more records than its head says".to_owned()))
}

#[cfg(test)]
mod tests;

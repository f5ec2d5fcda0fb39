//! The audit log on disk: canonical records, appended in groups to segment files, found again by
//! what each block of them is known to hold. No database takes part.
//!
//! Each record has a position, from 0, without gaps. A group is one write and one `fdatasync(2)`;
//! it is acknowledged, and seen by readers, only after that. At a start the newest segment is read
//! again: what a crash left of an unfinished group is cut off; anything else that can't be read
//! means damage, and the log does not open. Format: `docs/spec/audit-log.md`.

mod begin;
mod bits;
mod block;
mod count;
mod filter;
mod gently;
mod merkle;
mod search;
mod segment;
mod summed;
mod tally;
mod terms;
mod uses;
mod verify;
mod walk;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use vouchsafe_wire::audit::{Kind, RecordError, Scanned, canonical_text, scan};
use vouchsafe_wire::spool::{Frame, read_frame};

use self::begin::Begin;
pub(crate) use self::begin::removal_words;
pub(crate) use self::block::Field;
use self::block::Index;
pub(crate) use self::count::{Counted, Division, Steps, Sums};
pub(crate) use self::filter::Filter;
pub(crate) use self::merkle::{MERKLE_DIRECTORY, Merkle, checkpoint_path, cosigned_path, keep_milestone};
pub(crate) use self::search::Span;
use self::segment::{GROUP_HEADER_BYTES, Group};
use self::tally::{Ended, Tally};
pub(crate) use self::terms::Maker;
use self::terms::Terms;
pub(crate) use self::uses::{Use, Uses, UsesFilter};
pub use self::verify::{Finding, Verification, Verified, verify};

/// Size from which on a new segment begins, bytes.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Most records of one group, so that no block grows much beyond its size.
const GROUP_RECORDS: usize = 1_024;
/// Index files of closed segments that are remembered: about fifty megabytes.
const REMEMBERED: usize = 512;

/// Searches and counts at one time, of all who ask: each takes a core, and whoever reads the log can ask for many.
const READERS: usize = 4;

/// Directories of terms that are remembered: about fifty megabytes, for some thirty million records.
const REMEMBERED_TERMS: usize = 1_024;

/// Failure of the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file could not be read or written.
    #[error("audit log `{path}` can't be used", path = path.display())]
    File {
        /// Which file or directory.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Records that were durable can't be read any more.
    #[error(
        "audit log `{path}` is damaged at record {position} (byte {offset}); \
         hint: restore the file from a backup; nothing is appended to a damaged log", path = path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Position of the first record that can't be read.
        position: u64,
        /// Where in the file.
        offset: u64,
    },
    /// The log ends before a record that is known to have been in it.
    #[error(
        "audit log `{path}` ends at record {found}, but had {known} records before; \
         hint: restore its newest files from a backup", path = path.display()
    )]
    Shortened {
        /// The log's directory.
        path: PathBuf,
        /// Records found.
        found: u64,
        /// Records that were durable once.
        known: u64,
    },
}

/// Refusal of records; nothing of them is kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    /// Not the canonical bytes of a record, or no frame.
    #[error("record {seq} is malformed")]
    Malformed {
        /// Its number.
        seq: u64,
        /// What is wrong with it.
        #[source]
        source: RecordError,
    },
    /// The record says it is another's, or of another number.
    #[error("record {seq} says that it is record {claimed_seq} of {claimed}")]
    NotItsOwn {
        /// Under which number it came.
        seq: u64,
        /// Whose it says it is, in canonical form.
        claimed: String,
        /// Which number it says it has.
        claimed_seq: u64,
    },
    /// A gateway makes no such records.
    #[error("record {seq} is of a kind that gateways don't make: {kind}")]
    NotItsKind {
        /// Its number.
        seq: u64,
        /// Its kind, in canonical form.
        kind: String,
    },
    /// Two records of one number.
    #[error("record {seq} is known already with other content")]
    Altered {
        /// The number.
        seq: u64,
    },
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> LogError + '_ {
    move |source| LogError::File { path: path.to_owned(), source }
}

/// Handle to the log. Cheap to clone. Its methods block: call them where that is allowed.
#[derive(Clone)]
pub(crate) struct Log(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    appender: Mutex<Appender>,
    view: RwLock<View>,
    grown: watch::Sender<u64>,
    remembered: Mutex<HashMap<u64, Arc<Index>>>,
    terms: Mutex<HashMap<u64, Arc<Terms>>>,
    unindexed: Mutex<Unindexed>,
    /// Told when a segment's terms are to be made.
    to_index: Notify,
    /// Whose turn it is to search or count.
    readers: Arc<Semaphore>,
}

/// Closed segments whose terms are to be made, by their first positions.
struct Unindexed {
    wanted: BTreeSet<u64>,
    /// Where that failed. It is tried again once another segment is closed.
    failed: BTreeSet<u64>,
}

/// What is durable, for readers.
struct View {
    /// First positions of closed segments.
    closed: Vec<u64>,
    /// The open segment.
    open: Tally,
}

/// The writing end.
struct Appender {
    file: File,
    tally: Tally,
    /// A commit failed, and the system may have dropped what it could not write: the next record
    /// begins a new segment.
    spoiled: bool,
    segment_bytes: u64,
    buffer: Vec<u8>,
}

impl Log {
    /// Opens the log, or makes an empty one. `known` is how many records it is known to have had.
    ///
    /// # Errors
    /// [`LogError`]; what is damaged is left as it is.
    pub(crate) fn open(dir: &Path, known: u64) -> Result<Self, LogError> {
        Self::open_with(dir, known, SEGMENT_BYTES)
    }

    fn open_with(dir: &Path, known: u64, segment_bytes: u64) -> Result<Self, LogError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
        let begin = Begin::read(dir)?;
        begin::remove_before(dir, begin.first)?;
        let mut closed = segment::list(dir).map_err(at(dir))?;
        let last = closed.pop();
        if let Some(found) = closed.first().or(last.as_ref()).filter(|found| **found != begin.first) {
            tracing::error!(
                found,
                expected = begin.first,
                hint = "restore the files of the audit log that are missing; `vouchsafe audit verify` says which",
                "the audit log does not begin where it should"
            );
        }
        let (file, tally) = match last {
            None => {
                let tally = Tally::begin(begin.first, begin.sources);
                (segment::create(dir, tally.first, segment_bytes).map_err(at(dir))?, tally)
            }
            Some(first) => {
                let sources = sources_before(dir, &closed, first, begin.sources)?;
                recover(dir, Tally::begin(first, sources), segment_bytes)?
            }
        };
        if tally.next < known {
            return Err(LogError::Shortened { path: dir.to_owned(), found: tally.next, known });
        }
        let grown = watch::channel(tally.next).0;
        let unindexed = Mutex::new(Unindexed { wanted: closed.iter().copied().collect(), failed: BTreeSet::new() });
        let view = RwLock::new(View { closed, open: tally.clone() });
        let appender = Mutex::new(Appender { file, tally, spoiled: false, segment_bytes, buffer: Vec::new() });
        let remembered = Mutex::new(HashMap::new());
        let (terms, to_index) = (Mutex::new(HashMap::new()), Notify::new());
        let readers = Arc::new(Semaphore::new(READERS));
        let dir = dir.to_owned();
        Ok(Self(Arc::new(Shared { dir, appender, view, grown, remembered, terms, unindexed, to_index, readers })))
    }

    /// Where it lies.
    pub(crate) fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// How many records are durable: the position of the next.
    pub(crate) fn size(&self) -> u64 {
        *self.0.grown.borrow()
    }

    /// The size of the log, and a signal whenever it has grown.
    pub(crate) fn grown(&self) -> watch::Receiver<u64> {
        self.0.grown.subscribe()
    }

    /// Highest number known of a source; 0 when there is none.
    pub(crate) fn last_seq(&self, source: &str) -> u64 {
        self.0.view.read().open.sources.get(source).copied().unwrap_or(0)
    }

    /// Waits for a turn to search or count; it is over when what this gives is dropped.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // Nobody closes it.
        Arc::clone(&self.0.readers).acquire_owned().await.ok()
    }

    /// Takes in records of one source, numbered from `first_seq` without gaps, as frames: all of
    /// them or none. Those whose numbers are known are compared and skipped. They are durable when
    /// this returns; gives the highest number of the source.
    ///
    /// # Errors
    /// [`TakeError`].
    pub(crate) fn take_in(&self, source: &str, first_seq: u64, frames: &[u8]) -> Result<u64, TakeError> {
        let records = check(source, first_seq, frames)?;
        let mut appender = self.0.appender.lock();
        let known = appender.tally.sources.get(source).copied().unwrap_or(0);
        let split = records.iter().take_while(|(_, record)| record.seq <= known).count();
        let (old, new) = records.split_at_checked(split).unwrap_or_default();
        self.compare(source, old)?;
        if !new.is_empty() {
            appender.append(&self.0, source, new)?;
        }
        Ok(known.max(records.last().map_or(0, |(_, record)| record.seq)))
    }

    /// Positions and canonical bytes of matching records within a span, at most `limit`; when
    /// `cancelled` says so, what was found by then.
    ///
    /// # Errors
    /// [`LogError`].
    pub(crate) fn read(
        &self,
        filter: &Filter,
        span: Span,
        limit: u32,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<(u64, Vec<u8>)>, LogError> {
        search::read(&self.0, filter, span, limit, cancelled)
    }

    /// Counts matching records; when `cancelled` says so, what was found by then.
    ///
    /// # Errors
    /// [`LogError`].
    pub(crate) fn count(
        &self,
        filter: &Filter,
        division: Division,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Counted, LogError> {
        count::count(&self.0, filter, division, cancelled)
    }

    /// Who used what, apart for at most `most` pairs of people and resources; when `cancelled` says so, what was found
    /// by then.
    ///
    /// # Errors
    /// [`LogError`].
    pub(crate) fn uses(
        &self,
        filter: &UsesFilter,
        most: usize,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Uses, LogError> {
        uses::count(&self.0, filter, most, cancelled)
    }

    /// Between which positions matching records can stand, by what is known of blocks.
    ///
    /// # Errors
    /// [`LogError`].
    pub(crate) fn part(&self, filter: &Filter) -> Result<(u64, u64), LogError> {
        search::part(&self.0, filter)
    }

    /// Makes the terms of a closed segment that has none; says whether there may be another.
    pub(crate) fn index_next(&self, maker: &mut Maker) -> bool {
        self.0.index_next(maker)
    }

    /// Comes back when [`Log::index_next`] has something to do again.
    pub(crate) async fn to_index(&self) {
        self.0.to_index.notified().await;
    }

    /// Begins a new segment at each record from now on.
    #[cfg(test)]
    pub(crate) fn turn_over_always(&self) {
        self.0.appender.lock().segment_bytes = 1;
    }

    /// Refuses records with known numbers that are not, byte by byte, those that are known.
    fn compare(&self, source: &str, records: &[(&[u8], Scanned<'_>)]) -> Result<(), TakeError> {
        let Some((_, first)) = records.first() else { return Ok(()) };
        let known = search::of_source(&self.0, source, first.seq, records.len())?;
        for (frame, record) in records {
            let payload = frame.get(vouchsafe_wire::spool::HEADER_BYTES..).unwrap_or_default();
            if known.get(&record.seq).is_some_and(|known| known != payload) {
                return Err(TakeError::Altered { seq: record.seq });
            }
        }
        Ok(())
    }
}

/// What a frame takes, about, bytes.
const FRAME_BYTES: usize = 384;
/// Name under which the controller's own records stand in the log.
pub(crate) const CONTROLLER_SOURCE: &str = "controller";
/// Kinds of records that gateways make; what else is done is done by the controller, so a gateway that was taken
/// over can't make up changes of administrators or sign-ins.
const OF_GATEWAYS: [Kind; 3] = [Kind::Decision, Kind::FlowEnd, Kind::Lifecycle];

/// Checks frames of one source, numbered from `first_seq` without gaps: each the canonical bytes of
/// a record that says so itself. Gives frames, and what they are searched by.
///
/// # Errors
/// [`TakeError`], but none of the log.
pub(crate) fn check<'f>(
    source: &str,
    first_seq: u64,
    frames: &'f [u8],
) -> Result<Vec<(&'f [u8], Scanned<'f>)>, TakeError> {
    let own = canonical_text(source);
    let mut records = Vec::with_capacity(frames.len() / FRAME_BYTES);
    let (mut rest, mut seq) = (frames, first_seq);
    while !rest.is_empty() {
        let malformed = |source| TakeError::Malformed { seq, source };
        let Frame::Whole { payload, length } = read_frame(rest) else {
            return Err(malformed(RecordError::NotCanonical));
        };
        let record = scan(payload).map_err(malformed)?;
        if record.source != own || record.seq != seq {
            let claimed = String::from_utf8_lossy(record.source).into_owned();
            return Err(TakeError::NotItsOwn { seq, claimed, claimed_seq: record.seq });
        }
        if source != CONTROLLER_SOURCE && !OF_GATEWAYS.iter().any(|kind| record.kind == canonical_text(kind.as_str())) {
            return Err(TakeError::NotItsKind { seq, kind: String::from_utf8_lossy(record.kind).into_owned() });
        }
        let (frame, behind) = rest.split_at_checked(length).unwrap_or_default();
        records.push((frame, record));
        rest = behind;
        seq = seq.saturating_add(1);
    }
    Ok(records)
}

impl Appender {
    /// Commits new records of one source in groups.
    fn append(&mut self, shared: &Shared, source: &str, records: &[(&[u8], Scanned<'_>)]) -> Result<(), LogError> {
        if self.spoiled || self.tally.end >= self.segment_bytes {
            self.turn_over(shared)?;
        }
        let path = segment::path(&shared.dir, self.tally.first);
        let mut tally = self.tally.clone();
        self.buffer.clear();
        for group in records.chunks(GROUP_RECORDS) {
            let bytes: usize = group.iter().map(|(frame, _)| frame.len()).sum();
            let header = Group {
                bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
                first: tally.next,
                count: u32::try_from(group.len()).unwrap_or(u32::MAX),
            };
            self.buffer.extend_from_slice(&header.header());
            group.iter().for_each(|(frame, _)| self.buffer.extend_from_slice(frame));
            tally.add_group(source, group.iter().map(|(_, record)| record), GROUP_HEADER_BYTES + bytes);
        }
        let written =
            gently::write_all_at(&self.file, &self.buffer, self.tally.end).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            self.spoiled = true;
            return Err(LogError::File { path, source });
        }
        self.tally = tally;
        let size = self.tally.next;
        shared.view.write().open.clone_from(&self.tally);
        shared.grown.send_replace(size);
        Ok(())
    }

    /// Closes the segment, writes its index, and begins the next.
    fn turn_over(&mut self, shared: &Shared) -> Result<(), LogError> {
        let path = segment::path(&shared.dir, self.tally.first);
        // What stands behind the end of a spoiled segment does not count, whether it can be cut
        // off or not: the next one begins with that very record.
        let cut = self.file.set_len(self.tally.end).and_then(|()| self.file.sync_all());
        match cut {
            Err(error) if self.spoiled => {
                tracing::error!(%error, path = %path.display(), "audit log goes on in a new segment")
            }
            other => other.map_err(at(&path))?,
        }
        let first = self.tally.first;
        let began = self.tally.next > first;
        let index = self.tally.close();
        if began && let Err(error) = keep_index(&shared.dir, first, &index) {
            tracing::warn!(%error, "the index of an audit segment can't be written; it will be made again when needed");
        }
        let next = index.next;
        self.file = segment::create(&shared.dir, next, self.segment_bytes).map_err(at(&shared.dir))?;
        self.tally = Tally::begin(next, index.sources);
        self.spoiled = false;
        let mut view = shared.view.write();
        if began {
            view.closed.push(first);
        }
        view.open = self.tally.clone();
        drop(view);
        if began {
            shared.unindexed.lock().failed.clear();
            shared.want_terms(first);
        }
        Ok(())
    }
}

impl Shared {
    /// The terms of a closed segment. When it has none that can be used, they will be made.
    fn terms(&self, first: u64, next: u64) -> Option<Arc<Terms>> {
        if let Some(terms) = self.terms.lock().get(&first) {
            return Some(Arc::clone(terms));
        }
        let Ok(terms) = Terms::load(&self.dir, first, next).map(Arc::new) else {
            self.want_terms(first);
            return None;
        };
        let mut remembered = self.terms.lock();
        if remembered.len() >= REMEMBERED_TERMS {
            remembered.clear();
        }
        remembered.insert(first, Arc::clone(&terms));
        Some(terms)
    }

    /// Has the terms of a closed segment made again: a piece of the file can't be used.
    fn spoiled_terms(&self, first: u64) {
        tracing::warn!(first, "the terms of an audit segment are damaged; they are made again");
        // What stays of it would be taken for good at the next look at its directory.
        if let Err(error) = fs::remove_file(terms::path(&self.dir, first)) {
            tracing::debug!(%error, first, "damaged terms can't be removed");
        }
        self.terms.lock().remove(&first);
        self.want_terms(first);
    }

    /// Has the terms of a closed segment made, where that didn't fail already.
    fn want_terms(&self, first: u64) {
        let mut unindexed = self.unindexed.lock();
        if !unindexed.failed.contains(&first) && unindexed.wanted.insert(first) {
            self.to_index.notify_one();
        }
    }

    fn index_next(&self, maker: &mut Maker) -> bool {
        // The newest first: they are asked for most.
        let Some(first) = self.unindexed.lock().wanted.pop_last() else { return false };
        let next = {
            let view = self.view.read();
            let behind = view.closed.partition_point(|other| *other <= first);
            view.closed.get(behind).copied().unwrap_or(view.open.first)
        };
        if self.terms(first, next).is_some() {
            return true;
        }
        if let Err(error) = maker.make(&self.dir, first, next) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, first, "a segment of the audit log can't be indexed; searches read all of it");
            self.unindexed.lock().failed.insert(first);
        }
        self.unindexed.lock().wanted.remove(&first);
        true
    }

    /// The index of a closed segment.
    fn index(&self, first: u64, next: u64) -> Result<Arc<Index>, LogError> {
        if let Some(index) = self.remembered.lock().get(&first) {
            return Ok(Arc::clone(index));
        }
        let index = Arc::new(match read_index(&self.dir, first, next) {
            Some(index) => index,
            None => {
                let closed = self.view.read().closed.clone();
                let before = closed.partition_point(|other| *other < first);
                let closed = closed.get(..before).unwrap_or_default();
                let sources = sources_before(&self.dir, closed, first, Begin::read(&self.dir)?.sources)?;
                rebuild(&self.dir, first, next, sources)?
            }
        });
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(first, Arc::clone(&index));
        Ok(index)
    }
}

fn index_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.index"))
}

/// Writes an index file; it appears whole or not at all.
fn keep_index(dir: &Path, first: u64, index: &Index) -> io::Result<()> {
    let path = index_path(dir, first);
    let draft = path.with_extension("draft");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    io::Write::write_all(&mut file, &index.to_file())?;
    fs::rename(draft, path)
}

/// The index of a closed segment, when it has a good one that ends where the next segment begins.
fn read_index(dir: &Path, first: u64, next: u64) -> Option<Index> {
    let bytes = fs::read(index_path(dir, first)).ok()?;
    Index::from_file(&bytes).filter(|index| index.next == next)
}

/// Makes the index of a closed segment again from the segment itself.
fn rebuild(dir: &Path, first: u64, next: u64, sources: BTreeMap<String, u64>) -> Result<Index, LogError> {
    let path = segment::path(dir, first);
    let bytes = gently::read(&path).map_err(at(&path))?;
    let mut tally = Tally::begin(first, sources);
    tally.replay(&bytes, next);
    if tally.next != next {
        return Err(LogError::Damaged { path, position: tally.next, offset: tally.end });
    }
    let index = tally.close();
    if let Err(error) = keep_index(dir, first, &index) {
        tracing::warn!(%error, path = %path.display(), "the index of an audit segment can't be written");
    }
    Ok(index)
}

/// Highest numbers of all sources before the segment that begins at `next`; `sources` are those before the first.
fn sources_before(
    dir: &Path,
    closed: &[u64],
    next: u64,
    mut sources: BTreeMap<String, u64>,
) -> Result<BTreeMap<String, u64>, LogError> {
    // The newest good index says it; segments behind it are read again.
    let ends = closed.iter().skip(1).chain([&next]);
    let spans: Vec<(u64, u64)> = closed.iter().copied().zip(ends.copied()).collect();
    let mut missing = Vec::new();
    for (first, next) in spans.into_iter().rev() {
        if let Some(index) = read_index(dir, first, next) {
            sources = index.sources;
            break;
        }
        missing.push((first, next));
    }
    for (first, next) in missing.into_iter().rev() {
        sources = rebuild(dir, first, next, sources)?.sources;
    }
    Ok(sources)
}

/// Reads the newest segment again, and cuts off what is left of an unfinished group.
fn recover(dir: &Path, mut tally: Tally, segment_bytes: u64) -> Result<(File, Tally), LogError> {
    let path = segment::path(dir, tally.first);
    let bytes = gently::read(&path).map_err(at(&path))?;
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).map_err(at(&path))?;
    match tally.replay(&bytes, u64::MAX) {
        Ended::Cleanly => {}
        Ended::Damaged => return Err(LogError::Damaged { path, position: tally.next, offset: tally.end }),
        Ended::Torn => {
            tracing::warn!(path = %path.display(), position = tally.next, "cut an unfinished group off the audit log");
        }
    }
    // Also where it ended cleanly: the room behind the end is reserved afresh, and is zero.
    file.set_len(tally.end)
        .and_then(|()| segment::reserve(&file, segment_bytes.max(tally.end)))
        .and_then(|()| file.sync_all())
        .map_err(at(&path))?;
    Ok((file, tally))
}

#[cfg(test)]
mod tests;

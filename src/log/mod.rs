//! The log of one partition: records appended as lines, read back checked. It knows no topic, group or socket.
//!
//! ```text
//!   segments:   [ 0 .. 4711 ) sealed   [ 4711 .. 9001 ) sealed   [ 9001 ..            active
//!               ▲                                                        ▲          ▲
//!               start offset                                  high watermark   log end
//! ```
//!
//! - The *last stable offset* is the high watermark, or the first offset of the oldest transaction that is not ended. Appending
//!   that transaction's first record holds it there beforehand; the log's owner knows when it may rise. It never falls.
//! - `start <= high watermark <= log end`. Readers see `start..high watermark`, and take no lock that a writer holds while it writes,
//!   but for the first that asks which transactions were aborted.
//! - With [`Append::publish`] off, the high watermark is where the last sync ended: nobody is shown what a crash could take back.
//! - After a failed write or sync the log is read-only until the broker restarts: the kernel tells an error once and then
//!   takes the bytes for clean, so a sync that succeeds after one that failed proves nothing. Only one thread syncs at a
//!   time, and its answer is the answer for all who wait.
//! - A full disk is no failure: what was written in part is cut off, and writing goes on once there is room. A roll that
//!   cannot be ended stays due, and nothing is appended to the old segment any more.
//!
//! # Locks
//!
//! They are taken in this order:
//!
//! | lock | guards | held while |
//! | --- | --- | --- |
//! | `cleaner` | what [compaction] knows | a pass runs; nobody else waits for it |
//! | `files` | names of sealed segments | names change, and the directory is synced between two of them; what was aborted is read or kept |
//! | `writer` | the log end | a batch is written, a segment rolls; a roll that has to wait for a sync gives it up |
//! | `names` | how often the directory could not be synced | the directory is synced |
//! | `sync` | what syncs have reached, and who syncs | never a call of the disk |
//! | `segments` | the list of segments | never a call of the disk |
//! | `aborted` | the list of aborted transactions | never a call of the disk |
//! | a segment's `measuring` | what its files hold | a segment that nobody looked at yet is measured |
//! | [`handles`]: `open`, then a slot's `file` | open files | a file is opened or closed |
//!
//! Readers take the last four only; the first that asks what was aborted takes `files` and `names` too. [`disk::MemoryDisk`] has locks of its own below all these.
//!
//! The format on disk has a page of its own: [`mod@format`].

mod aborted;
mod append;
pub mod batches;
pub mod checked_text;
mod compaction;
pub mod disk;
pub mod format;
pub mod handles;
pub mod inspect;
pub mod lines;
mod read;
pub mod record;
pub mod recovery;
pub mod retention;
mod segment;
mod size;

pub use aborted::Aborted;
pub use append::{Append, Appended, Content};
pub use compaction::{Compacted, Compaction, Due};
pub use lines::{Line, Lines};
pub use read::{Backlog, Batch, Chunk};
pub use record::Outcome;
pub use retention::Retention;
pub use size::Size;

use aborted::AbortedList;
use batches::{Entry, Flags};
use compaction::Cleaner;
use handles::Handles;
use segment::Segment;
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::*},
    },
};

/// Why the log cannot do what was asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// The offset is below the log's start or beyond its high watermark.
    OutOfRange {
        /// The start offset.
        start: u64,
        /// The high watermark.
        high_watermark: u64,
    },
    /// The batch there is damaged; `next` is the first offset behind the damage.
    Corrupt {
        /// First offset that cannot be read.
        first: u64,
        /// First offset that may be readable again.
        next: u64,
        /// File and position, for the operator.
        place: String,
    },
    /// The disk is full; nothing was stored.
    DiskFull(String),
    /// A write or sync failed, or the partition could not be opened: it takes no more records until a restart.
    ReadOnly(String),
    /// A read failed, or a file could not be opened or made. Nothing was stored, and the log goes on.
    Unreadable(String),
    /// One batch is larger than a batch or a segment may be.
    TooLarge {
        /// Bytes of its lines at least.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The log was closed: its topic is being dropped.
    Closed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::OutOfRange { start, high_watermark } => write!(f, "the log holds {start} to {high_watermark}"),
            Error::Corrupt { first, next, place } => {
                write!(f, "offsets {first} to {} are damaged in {place}", next - 1)
            }
            Error::DiskFull(why) => write!(f, "the disk is full: {why}"),
            Error::ReadOnly(why) | Error::Unreadable(why) => f.write_str(why),
            Error::TooLarge { bytes, limit } => write!(f, "a batch of {bytes} bytes is above the limit of {limit}"),
            Error::Closed => f.write_str("the log is closed"),
        }
    }
}

impl std::error::Error for Error {}

/// What a read error means; a file that is gone was taken by retention, TRIM or DROP under the reader.
fn unreadable(path: PathBuf) -> impl Fn(io::Error) -> Error {
    move |error| Error::Unreadable(format!("{}: {error}", path.display()))
}

/// How an idempotent producer numbers a batch (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbering {
    /// The producer's id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Sequence of the batch's first record.
    pub base_sequence: i32,
}

impl Numbering {
    /// What the entry of a batch says that nobody numbers.
    const NONE: Numbering = Numbering { producer_id: -1, producer_epoch: -1, base_sequence: -1 };

    /// How the record is numbered that comes so many later. Behind 2^31-1 comes 0.
    pub fn after(self, records: u32) -> Numbering {
        let sequence = (i64::from(self.base_sequence) + i64::from(records)) & i64::from(i32::MAX);
        Numbering { base_sequence: sequence as i32, ..self }
    }
}

/// The log of one partition.
#[derive(Debug)]
pub struct Log {
    handles: Arc<Handles>,
    dir: Arc<Path>,
    segments: RwLock<Vec<Arc<Segment>>>,
    start: AtomicU64,
    high_watermark: AtomicU64,
    /// Where the first transaction began that is not ended; `u64::MAX`: there is none.
    first_unstable: AtomicU64,
    /// Aborted transactions, once somebody has asked for them.
    aborted: RwLock<Option<AbortedList>>,
    writer: Mutex<Writer>,
    /// Told when an append that had given up the writer's lock in its midst has it again.
    resumed: Condvar,
    sync: Mutex<SyncState>,
    /// Told when a sync has ended.
    synced: Condvar,
    /// Segments that lie before the start, whose files are still to be removed. Held by who changes the names of sealed
    /// segments, or opens them by name to keep them open.
    files: Mutex<Vec<Arc<Segment>>>,
    cleaner: Mutex<Cleaner>,
    /// How often a sync of the directory failed. Held while it is synced.
    names: Mutex<u64>,
    /// Why nothing more is written: a write or a sync failed.
    read_only: OnceLock<Error>,
    closed: AtomicBool,
    /// Whether something was cut off since the last sync, which a crash would bring back.
    cut: AtomicBool,
}

/// The end of the log, as its writer knows it.
#[derive(Debug)]
struct Writer {
    segment: Arc<Segment>,
    log_end: u64,
    position: u64,
    entries: u32,
    max_timestamp: i64,
    /// When the first batch of the segment was written, in ms.
    since_ms: i64,
    /// The lines of one batch, formatted; its allocation is reused.
    lines: Vec<u8>,
    /// The segment is synced and takes no more records, but the next one could not be made yet.
    sealed: bool,
    /// An append waits in its midst, without the lock: its offsets follow each other, so nobody else may append.
    paused: bool,
    /// What is true of the segment's last entry and of all that follow.
    so_far: Flags,
}

/// What syncs have reached. Whoever syncs a segment that is written to leads: there is one at a time, so an error that
/// the disk tells only once is told to the one whose word counts.
#[derive(Debug)]
struct SyncState {
    /// All below it is durable.
    synced_end: u64,
    leader: bool,
    /// Nothing that was not synced before ever will be: after a failed sync the next one proves nothing.
    failed: Option<Error>,
}

/// What the files of the last segment hold at some moment.
struct Written {
    segment: Arc<Segment>,
    log_end: u64,
    entries: u32,
    position: u64,
}

impl Log {
    /// Offset of the first record.
    pub fn start(&self) -> u64 {
        self.start.load(Acquire)
    }

    /// Offset behind the last record that readers see.
    pub fn high_watermark(&self) -> u64 {
        self.high_watermark.load(Acquire)
    }

    /// Offset behind the last record that is shown to readers who must not see an open transaction.
    pub fn last_stable_offset(&self) -> u64 {
        // In this order: every transaction with records below this high watermark began before it rose so high.
        let high_watermark = self.high_watermark();
        let first_unstable = self.first_unstable.load(Acquire);
        first_unstable.max(self.start()).min(high_watermark)
    }

    /// Says where the oldest transaction began that is not ended, if there is one. Nobody appends to a transaction meanwhile.
    pub fn set_first_unstable(&self, offset: Option<u64>) {
        self.first_unstable.store(offset.unwrap_or(u64::MAX), Release);
    }

    /// Whether a transaction may be open, as far as the last entry tells; `true`, too, where there is no entry any more.
    pub fn may_hold_open_transaction(&self) -> bool {
        let writer = self.writer_now();
        let all_trimmed = writer.entries == 0 && writer.log_end > 0 && self.segments() == 1;
        writer.so_far.has(Flags::TRANSACTIONS) || all_trimmed
    }

    /// Offset behind the last record that was written, whether readers see it yet or not.
    pub fn log_end(&self) -> u64 {
        self.writer_now().log_end
    }

    /// The directory of the partition.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.all_segments().len()
    }

    /// Bytes of lines on disk.
    pub fn bytes(&self) -> Result<u64, Error> {
        self.all_segments().iter().map(|segment| self.bytes_of(segment)).sum()
    }

    fn bytes_of(&self, segment: &Segment) -> Result<u64, Error> {
        segment.bytes(&self.handles).map_err(unreadable(segment.path("log")))
    }

    /// The largest timestamp of any record, -1: none bears one.
    pub fn max_timestamp(&self) -> Result<i64, Error> {
        let segments = self.all_segments();
        let mut times = segments
            .iter()
            .map(|segment| segment.max_timestamp(&self.handles).map_err(unreadable(segment.path("batches"))));
        times.try_fold(-1, |max, time| Ok(time?.max(max)))
    }

    /// The time of a segment's newest record. Its file's, where none has a time, or one lies further ahead than that.
    fn newest_ms(&self, segment: &Segment, now_ms: i64, after_max_ms: i64) -> Result<i64, Error> {
        let newest = segment.max_timestamp(&self.handles).map_err(unreadable(segment.path("batches")))?;
        self.credible_ms(segment, newest, now_ms, after_max_ms)
    }

    /// A time that a record of this segment has; its file's, if the record has none or one further ahead than that.
    fn credible_ms(&self, segment: &Segment, time: i64, now_ms: i64, after_max_ms: i64) -> Result<i64, Error> {
        let credible = segment.credible_ms(&self.handles, time, now_ms.saturating_add(after_max_ms));
        credible.map_err(unreadable(segment.path("log")))
    }

    /// The path of a file beside the segment at `base`.
    pub fn beside(&self, base: u64, extension: &str) -> PathBuf {
        segment::path(&self.dir, base, extension)
    }

    /// Has a file written beside the segment at `base`. Not once the log is closed: its folder may be that of another log by then.
    pub fn write_beside(
        &self,
        base: u64,
        extension: &str,
        write: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), Error> {
        let _names = self.files();
        if self.is_closed() {
            return Err(Error::Closed);
        }
        let path = self.beside(base, extension);
        self.change_names(|| write(&path)).map_err(unreadable(path))
    }

    /// Where the segment begins that is written to.
    pub fn active_base(&self) -> u64 {
        let segments = self.segments.read().expect("no panic under the segments' lock");
        segments.last().map_or(0, |active| active.base)
    }

    /// Where each segment begins, oldest first.
    pub fn segment_bases(&self) -> Vec<u64> {
        self.all_segments().iter().map(|segment| segment.base).collect()
    }

    /// How many entries there are in the segments from the one at `base` on.
    pub fn entries_from(&self, base: u64) -> Result<u64, Error> {
        let segments = self.all_segments();
        segments.iter().filter(|segment| segment.base >= base).map(|segment| self.entries_of(segment)).sum()
    }

    fn entries_of(&self, segment: &Segment) -> Result<u64, Error> {
        let entries = segment.entries(&self.handles).map_err(unreadable(segment.path("batches")))?;
        Ok(entries.into())
    }

    /// Hands every whole entry of the segments from the one at `base` on to `each`, with its first offset.
    pub fn each_entry(&self, base: u64, mut each: impl FnMut(u64, &Entry)) -> Result<(), Error> {
        for segment in self.all_segments().iter().filter(|segment| segment.base >= base) {
            let read = self.each_entry_of(segment, |_, entry| {
                each(segment.base + u64::from(entry.first), entry);
                true
            });
            read.map_err(unreadable(segment.path("batches")))?;
        }
        Ok(())
    }

    /// Hands the whole entries of a segment with their indexes on to `each`, for as long as that wants more.
    fn each_entry_of(&self, segment: &Segment, mut each: impl FnMut(u32, &Entry) -> bool) -> io::Result<()> {
        let all = segment.entries(&self.handles)?;
        let (mut index, mut entries) = (0, Vec::new());
        while index < all {
            segment.read_entries(&self.handles, index, u32::MAX, all, &mut entries)?;
            for (entry, index) in entries.iter().zip(index..) {
                if !entry.as_ref().is_none_or(|entry| each(index, entry)) {
                    return Ok(());
                }
            }
            index += entries.len().max(1) as u32;
        }
        Ok(())
    }

    fn all_segments(&self) -> Vec<Arc<Segment>> {
        self.segments.read().expect("no panic under the segments' lock").clone()
    }

    /// The writer, as it is; an append may be in its midst.
    fn writer_now(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().expect("no panic under the writer's lock")
    }

    /// The writer between two appends.
    fn writer(&self) -> MutexGuard<'_, Writer> {
        let between = self.resumed.wait_while(self.writer_now(), |writer| writer.paused);
        between.expect("no panic under the writer's lock")
    }

    fn files(&self) -> MutexGuard<'_, Vec<Arc<Segment>>> {
        self.files.lock().expect("no panic under the files' lock")
    }

    fn names(&self) -> MutexGuard<'_, u64> {
        self.names.lock().expect("no panic while the directory is synced")
    }

    /// What to say to [`sync_names`](Self::sync_names) of names that change from now on.
    fn failed_name_syncs(&self) -> u64 {
        *self.names()
    }

    /// Makes names durable that changed since so many syncs of the directory had failed. One that failed since then took them for
    /// clean, whoever asked for it: the next would have nothing to do, and prove nothing.
    fn sync_names(&self, failed_before: u64) -> io::Result<()> {
        let mut failed = self.names();
        if *failed != failed_before {
            return Err(io::Error::other("the directory could not be synced meanwhile"));
        }
        self.handles.disk().sync_dir(&self.dir).inspect_err(|_| *failed += 1)
    }

    /// Does what changes names in the directory and syncs them by itself, as [`disk::replace`] does.
    fn change_names<E>(&self, change: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut failed = self.names();
        change().inspect_err(|_| *failed += 1)
    }

    fn sync_state(&self) -> MutexGuard<'_, SyncState> {
        self.sync.lock().expect("no panic under the sync lock")
    }

    /// Why nothing can be appended any more.
    #[cfg(feature = "http")]
    pub fn fault(&self) -> Option<&Error> {
        self.read_only.get()
    }

    /// Whether records can be appended.
    fn check_writable(&self) -> Result<(), Error> {
        if self.is_closed() {
            return Err(Error::Closed);
        }
        self.read_only.get().map_or(Ok(()), |why| Err(why.clone()))
    }

    fn wait_for_leader(&self) {
        drop(self.synced.wait_while(self.sync_state(), |state| state.leader).expect("no panic under the sync lock"));
    }

    /// Makes the log read-only: what the disk holds is not known any more.
    fn fail(&self, why: String) -> Error {
        let error = Error::ReadOnly(format!("{why}; the partition is read-only until the broker restarts"));
        self.read_only.get_or_init(|| error).clone()
    }

    /// Seals the segment and begins the next: syncs the old pair, makes the new one, and syncs that and the directory.
    /// Answers whether it did; not: another thread syncs, and may need the writer's lock to end.
    ///
    /// Once the old pair is synced nothing is appended to it, though the next cannot be made: what a crash leaves of that
    /// attempt begins where this segment ends.
    fn roll(&self, writer: &mut Writer) -> Result<bool, Error> {
        if !writer.sealed {
            if !self.lead()? {
                return Ok(false);
            }
            self.sync_written(writer.written())?;
            writer.sealed = true;
        }
        let failed_before = self.failed_name_syncs();
        let made = Segment::create(&self.handles, &self.dir, writer.log_end);
        let made = made.and_then(|segment| self.sync_names(failed_before).map(|()| segment));
        let segment = made.map_err(|error| {
            let segment = Segment::at(&self.dir, writer.log_end);
            let why = format!("{}: {error}", segment.path("log").display());
            match segment.remove(&self.handles) {
                Ok(()) if disk::is_full(&error) => Error::DiskFull(why),
                Ok(()) => Error::Unreadable(why),
                // The next start would take what is left for a segment that stands there durably.
                Err(_) => self.fail(why),
            }
        })?;
        let segment = Arc::new(segment);
        self.segments.write().expect("no panic under the segments' lock").push(segment.clone());
        *writer = Writer::of(segment, writer.log_end, writer.since_ms, std::mem::take(&mut writer.lines));
        Ok(true)
    }

    /// Rolls if the writer wants it. Answers whether it did.
    fn roll_if(&self, is_due: impl Fn(&Writer) -> bool) -> Result<bool, Error> {
        loop {
            let mut writer = self.writer();
            if self.check_writable().is_err() || !is_due(&writer) {
                return Ok(false);
            }
            if self.roll(&mut writer)? {
                return Ok(true);
            }
            drop(writer);
            self.wait_for_leader();
        }
    }

    /// Waits until all below `offset` is durable, and publishes it: the first who comes syncs for all that was written, the
    /// others wait for that.
    pub fn sync_to(&self, offset: u64) -> Result<(), Error> {
        let mut state = self.sync_state();
        while state.synced_end < offset {
            if state.leader {
                state = self.synced.wait(state).expect("no panic under the sync lock");
                continue;
            }
            drop(state);
            if self.lead()? {
                let written = self.writer_now().written();
                self.sync_written(written)?;
            }
            state = self.sync_state();
        }
        Ok(())
    }

    /// Makes this thread the one that syncs, unless there is one. Who leads calls [`sync_written`](Self::sync_written).
    fn lead(&self) -> Result<bool, Error> {
        let mut state = self.sync_state();
        match &state.failed {
            Some(why) => Err(why.clone()),
            None => Ok(!std::mem::replace(&mut state.leader, true)),
        }
    }

    /// Syncs what was written, and publishes it. This thread leads, until the end of it. Where it cannot even open the files no sync
    /// has failed, and the log goes on.
    fn sync_written(&self, Written { segment, log_end, entries, position }: Written) -> Result<(), Error> {
        let lead = Lead(self);
        let open = segment.open(&self.handles).map_err(unreadable(segment.path("log")));
        let synced = open.and_then(|files| {
            self.cut.store(false, Release);
            let synced = segment.sync(&self.handles, &files);
            synced.map_err(|error| self.fail(format!("{}: sync: {error}", segment.path("log").display())))
        });
        std::mem::forget(lead);
        let mut state = self.sync_state();
        state.leader = false;
        match &synced {
            Ok(()) => {
                segment.mark_synced(entries, position);
                state.synced_end = state.synced_end.max(log_end);
                self.high_watermark.fetch_max(state.synced_end, AcqRel);
            }
            Err(Error::Unreadable(_)) => {}
            Err(why) => state.failed = Some(why.clone()),
        }
        self.synced.notify_all();
        synced
    }

    /// An error if what was written below `offset` may be lost though it was written: it is not synced, and since then a write or
    /// a sync failed.
    pub fn check_intact(&self, offset: u64) -> Result<(), Error> {
        match self.read_only.get() {
            Some(why) if self.sync_state().synced_end < offset => Err(why.clone()),
            _ => Ok(()),
        }
    }

    /// Syncs all that was written so far, or written in part and cut off. A log that a fault made read-only is an error.
    pub fn sync_all(&self) -> Result<(), Error> {
        if let Some(why) = self.read_only.get() {
            return Err(why.clone());
        }
        self.sync_to(self.log_end())?;
        while self.cut.load(Acquire) {
            if self.lead()? {
                let written = self.writer_now().written();
                self.sync_written(written)?;
            } else {
                self.wait_for_leader();
            }
        }
        Ok(())
    }

    /// Takes no more records, and touches no name any more; what was written is still read.
    pub fn close(&self) {
        self.closed.store(true, Release);
        // An append or a roll may be under way; one that waits sees that the log is closed.
        drop(self.writer_now());
        // A compaction may be giving names; the next one sees it too.
        drop(self.files());
    }

    /// Undoes [`close`](Self::close).
    pub fn reopen(&self) {
        self.closed.store(false, Release);
    }

    /// Whether the log was closed by [`close`](Self::close).
    pub fn is_closed(&self) -> bool {
        self.closed.load(Acquire)
    }
}

/// Dropped only by a panic in a sync: those who wait for the leader are told that it failed.
struct Lead<'a>(&'a Log);

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let why = self.0.fail(format!("{}: a sync panicked", self.0.dir.display()));
        let mut state = self.0.sync_state();
        (state.leader, state.failed) = (false, Some(why));
        self.0.synced.notify_all();
    }
}

impl Writer {
    /// The writer of an empty segment.
    fn of(segment: Arc<Segment>, log_end: u64, since_ms: i64, lines: Vec<u8>) -> Writer {
        let (position, entries, max_timestamp) = (0, 0, -1);
        let (sealed, paused, so_far) = (false, false, Flags::NONE);
        Writer { segment, log_end, position, entries, max_timestamp, since_ms, lines, sealed, paused, so_far }
    }

    fn is_old(&self, now_ms: i64, segment_ms_max: i64) -> bool {
        self.entries > 0 && now_ms - self.since_ms >= segment_ms_max
    }

    fn written(&self) -> Written {
        let (segment, entries) = (self.segment.clone(), self.entries);
        Written { segment, log_end: self.log_end, entries, position: self.position }
    }
}

#[cfg(test)]
mod tests;

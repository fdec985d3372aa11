//! The log of one partition: records appended as lines, read back checked. It knows no topic, group or socket.
//!
//! ```text
//!   segments:   [ 0 .. 4711 ) sealed   [ 4711 .. 9001 ) sealed   [ 9001 ..            active
//!               ▲                                                        ▲          ▲
//!               start offset                                  high watermark   log end
//! ```
//!
//! - `start <= high watermark <= log end`. Readers see `start..high watermark`, and take no lock that a writer holds while it writes.
//! - With [`Append::publish`] off, the high watermark is the synced end: nobody is shown what a crash could take back.
//! - After a failed write or sync the log is read-only until the broker restarts. A full disk is no failure: what was
//!   written in part is cut off, and writing goes on once there is room.
//! - Locks are taken in this order: cleaner, files, writer, sync state, segments. None is held while a file is read or synced,
//!   but for the roll, which syncs the old segment under the writer's lock, the end of a [compaction], which
//!   makes names durable under the files' lock, and the cleaner's, which only compaction takes.
//!
//! The format on disk has a page of its own: [`mod@format`].

pub mod batches;
mod compaction;
pub mod disk;
pub mod format;
pub mod handles;
pub mod inspect;
pub mod lines;
mod read;
pub mod record;
pub mod recovery;
mod retention;
mod segment;

pub use compaction::{Compacted, Compaction, Due};
pub use lines::{Line, Lines};
pub use read::{Batch, Chunk};
pub use retention::Retention;

use batches::{BATCH_BYTES_MAX, ENTRY_BYTES, Entry};
use compaction::Cleaner;
use handles::Handles;
use record::{RecordRef, Records, write_line};
use segment::Segment;
use std::{
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, RwLock,
        atomic::{AtomicU64, Ordering::*},
    },
};

/// Why the log cannot do what was asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// The offset is below the start or beyond the end.
    OutOfRange {
        /// The start offset.
        first: u64,
        /// The end offset.
        end: u64,
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
    /// A read failed.
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
            Error::OutOfRange { first, end } => write!(f, "the log holds {first} to {end}"),
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

/// Records to be appended, and how.
#[derive(Debug)]
pub struct Append<'a, 'r> {
    /// The records.
    pub records: &'a Records<'r>,
    /// The time of the append, in ms: the timestamp of records that have none.
    pub now_ms: i64,
    /// The flags of [`batches`].
    pub flags: u16,
    /// Producer id, epoch and base sequence. Such an append is one batch, or refused.
    pub producer: Option<(i64, i16, i32)>,
    /// `segment.bytes`.
    pub segment_bytes_max: u32,
    /// `segment.ms`.
    pub segment_ms_max: i64,
    /// Whether readers see the records before they are synced.
    pub publish: bool,
}

/// What an append stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Appended {
    /// Offsets given, in the order of the records; fewer than records if `failed`.
    pub offsets: Range<u64>,
    /// File of the last batch, and the positions of its lines there.
    pub place: (PathBuf, Range<u64>),
    /// Time of the append, in ms.
    pub now_ms: i64,
    /// Bytes written to this log and not synced yet.
    pub unsynced_bytes: u64,
    /// Why the records behind the last offset were not stored.
    pub failed: Option<Error>,
    /// Whether readers see them before they are synced.
    pub published: bool,
    /// Whether it had been stored before, and was not again: what the broker says of an idempotent producer's duplicate.
    pub known: bool,
}

impl Appended {
    /// The offset that the record at this place among those to be appended got, or why it got none.
    pub fn offset_of(&self, record: u64) -> Result<u64, Error> {
        let offset = self.offsets.start + record;
        match &self.failed {
            Some(why) if offset >= self.offsets.end => Err(why.clone()),
            _ => Ok(offset),
        }
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
    writer: Mutex<Writer>,
    sync: Mutex<SyncState>,
    synced: Condvar,
    /// Held by who changes the names of sealed segments, or opens them by name to keep them open.
    files: Mutex<()>,
    cleaner: Mutex<Cleaner>,
}

/// The end of the log, as its writer knows it.
#[derive(Debug)]
struct Writer {
    segment: Arc<Segment>,
    next_offset: u64,
    position: u64,
    entries: u32,
    max_timestamp: i64,
    /// When the first batch of the segment was written, in ms.
    since_ms: i64,
    unsynced_bytes: u64,
    /// The lines of one batch, formatted; its allocation is reused.
    lines: Vec<u8>,
    closed: Option<Error>,
}

#[derive(Debug)]
struct SyncState {
    synced_end: u64,
    leader: bool,
    failed: Option<Error>,
}

/// The line buffer is given back when it grew beyond this.
const LINES_KEPT: usize = 1 << 20;

impl Log {
    /// Offset of the first record.
    pub fn start(&self) -> u64 {
        self.start.load(Acquire)
    }

    /// Offset behind the last record that readers see.
    pub fn high_watermark(&self) -> u64 {
        self.high_watermark.load(Acquire)
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
        self.all_segments()
            .iter()
            .map(|segment| segment.bytes(&self.handles).map_err(unreadable(segment.path("log"))))
            .sum()
    }

    /// The largest timestamp of any record, -1: none bears one.
    pub fn max_timestamp(&self) -> Result<i64, Error> {
        let segments = self.all_segments();
        let mut times = segments
            .iter()
            .map(|segment| segment.max_timestamp(&self.handles).map_err(unreadable(segment.path("batches"))));
        times.try_fold(-1, |max, time| Ok(time?.max(max)))
    }

    /// The path of a file beside the segment at `base`.
    pub fn beside(&self, base: u64, extension: &str) -> PathBuf {
        segment::path(&self.dir, base, extension)
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

    /// Hands every whole entry of the segments from the one at `base` on to `each`, with its first offset.
    pub fn each_entry(&self, base: u64, mut each: impl FnMut(u64, &Entry)) -> Result<(), Error> {
        let mut entries = Vec::new();
        for segment in self.all_segments().iter().filter(|segment| segment.base >= base) {
            let failed = unreadable(segment.path("batches"));
            let end = segment.entries(&self.handles).map_err(&failed)?;
            let mut index = 0;
            while index < end {
                segment.read_entries(&self.handles, index, u32::MAX, end, &mut entries).map_err(&failed)?;
                for entry in entries.iter().flatten() {
                    each(segment.base + u64::from(entry.first), entry);
                }
                index += entries.len().max(1) as u32;
            }
        }
        Ok(())
    }

    fn all_segments(&self) -> Vec<Arc<Segment>> {
        self.segments.read().expect("no panic under the segments' lock").clone()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().expect("no panic under the writer's lock")
    }

    fn sync_state(&self) -> MutexGuard<'_, SyncState> {
        self.sync.lock().expect("no panic under the sync lock")
    }

    /// Appends records; the answer says how many were stored. They are durable after [`sync_to`](Self::sync_to).
    pub fn append(&self, append: &Append<'_, '_>) -> Result<Appended, Error> {
        let mut writer = self.writer();
        if let Some(why) = &writer.closed {
            return Err(why.clone());
        }
        let first = writer.next_offset;
        writer.lines.clear();
        let mut done = Appended {
            offsets: first..first,
            place: (PathBuf::new(), 0..0),
            now_ms: append.now_ms,
            unsynced_bytes: 0,
            failed: None,
            known: false,
            published: append.publish,
        };
        let mut stored = 0;
        while stored < append.records.len() {
            match self.append_batch(&mut writer, append, stored) {
                Ok(count) => stored += count as usize,
                Err(error) => {
                    // They were not written, wherever it failed.
                    writer.lines.clear();
                    done.failed = Some(error);
                    break;
                }
            }
        }
        done.offsets.end = writer.next_offset;
        done.unsynced_bytes = writer.unsynced_bytes;
        done.place = (writer.segment.path("log"), writer.position - writer.lines.len() as u64..writer.position);
        if writer.lines.capacity() > LINES_KEPT {
            writer.lines = Vec::new();
        }
        if append.publish {
            self.high_watermark.fetch_max(done.offsets.end, AcqRel);
        }
        match done.failed.take() {
            Some(error) if done.offsets.is_empty() => Err(error),
            failed => Ok(Appended { failed, ..done }),
        }
    }

    /// Writes as many records from the `from`th on as fit one batch. Answers how many.
    fn append_batch(&self, writer: &mut Writer, append: &Append<'_, '_>, from: usize) -> Result<u32, Error> {
        let limit = BATCH_BYTES_MAX.min(append.segment_bytes_max as usize);
        let first = append.records.get(from).expect("there is a record left");
        let stamped = append.flags & batches::APPEND_TIME != 0;
        let own = |record: &RecordRef<'_>| record.timestamp.filter(|_| !stamped);
        let timestamp = own(first).unwrap_or(append.now_ms);
        let (mut count, mut max_timestamp) = (0, i64::MIN);
        writer.lines.clear();
        while let Some(record) = append.records.get(from + count as usize) {
            let before = writer.lines.len();
            let offset = writer.next_offset + u64::from(count);
            let differs = own(record).filter(|&own| own != timestamp);
            write_line(&mut writer.lines, offset, differs, append.records, record);
            if writer.lines.len() > limit && count > 0 {
                writer.lines.truncate(before);
                break;
            }
            max_timestamp = max_timestamp.max(own(record).unwrap_or(timestamp));
            count += 1;
        }
        let bytes = writer.lines.len();
        let divided = from > 0 || (count as usize) < append.records.len();
        if bytes > BATCH_BYTES_MAX || append.producer.is_some() && (divided || bytes > limit) {
            return Err(Error::TooLarge { bytes, limit });
        }
        let (producer_id, producer_epoch, base_sequence) = append.producer.unwrap_or((-1, -1, -1));
        self.roll_if_due(writer, append, bytes, count)?;
        let entry = Entry {
            first: (writer.next_offset - writer.segment.base) as u32,
            position: writer.position as u32,
            bytes: bytes as u32,
            last_delta: count - 1,
            count,
            flags: append.flags,
            producer_epoch,
            producer_id,
            base_sequence,
            mark: writer.segment.synced(),
            timestamp,
            max_timestamp: writer.max_timestamp.max(max_timestamp),
            lines_crc: crc32c::crc32c(&writer.lines),
        };
        self.write(writer, &entry, append.now_ms)?;
        Ok(count)
    }

    fn roll_if_due(&self, writer: &mut Writer, append: &Append<'_, '_>, bytes: usize, count: u32) -> Result<(), Error> {
        let last = writer.next_offset + u64::from(count) - 1 - writer.segment.base;
        let full = writer.position + bytes as u64 > u64::from(append.segment_bytes_max) || last > u64::from(u32::MAX);
        let old = append.now_ms - writer.since_ms >= append.segment_ms_max;
        if writer.entries > 0 && (full || old) { self.roll(writer) } else { Ok(()) }
    }

    /// Writes the lines, then their entry. What a full disk took in part is cut off again.
    fn write(&self, writer: &mut Writer, entry: &Entry, now_ms: i64) -> Result<(), Error> {
        let segment = writer.segment.clone();
        let entries_end = u64::from(writer.entries) * ENTRY_BYTES as u64;
        let written = segment.log(&self.handles).and_then(|log| {
            let batches = segment.batches(&self.handles)?;
            let written = log.write_at(&writer.lines, writer.position);
            let written = written.and_then(|()| batches.write_at(&entry.encode(), entries_end));
            if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull) {
                log.set_len(writer.position)?;
                batches.set_len(entries_end)?;
            }
            written
        });
        if let Err(error) = written {
            let why = format!("{}: {error}", segment.path("log").display());
            return Err(match error.kind() {
                io::ErrorKind::StorageFull => Error::DiskFull(why),
                _ => self.fail(writer, why),
            });
        }
        if writer.entries == 0 {
            writer.since_ms = now_ms;
        }
        writer.entries += 1;
        writer.position += u64::from(entry.bytes);
        writer.next_offset += u64::from(entry.last_delta) + 1;
        writer.max_timestamp = entry.max_timestamp;
        writer.unsynced_bytes += u64::from(entry.bytes);
        segment.grow(writer.entries, writer.position, writer.max_timestamp);
        Ok(())
    }

    /// Makes the log read-only: what the disk holds is not known any more.
    fn fail(&self, writer: &mut Writer, why: String) -> Error {
        let error = Error::ReadOnly(format!("{why}; the partition is read-only until the broker restarts"));
        writer.closed.get_or_insert(error).clone()
    }

    /// Seals the segment and begins the next: sync the old pair, make the new one, sync the directory.
    fn roll(&self, writer: &mut Writer) -> Result<(), Error> {
        if let Err(error) = writer.segment.sync(&self.handles) {
            let error = self.fail(writer, format!("{}: sync: {error}", writer.segment.path("log").display()));
            self.sync_state().failed.get_or_insert(error.clone());
            self.synced.notify_all();
            return Err(error);
        }
        writer.segment.mark_synced(writer.entries);
        let mut state = self.sync_state();
        state.synced_end = state.synced_end.max(writer.next_offset);
        self.high_watermark.fetch_max(state.synced_end, AcqRel);
        drop(state);
        self.synced.notify_all();
        let segment = match Segment::create(&self.handles, &self.dir, writer.next_offset) {
            Ok(segment) => Arc::new(segment),
            Err(error) => {
                let why = format!("{}: {error}", segment::path(&self.dir, writer.next_offset, "log").display());
                return Err(match error.kind() {
                    io::ErrorKind::StorageFull => Error::DiskFull(why),
                    _ => self.fail(writer, why),
                });
            }
        };
        self.segments.write().expect("no panic under the segments' lock").push(segment.clone());
        *writer = Writer {
            segment,
            position: 0,
            entries: 0,
            max_timestamp: -1,
            unsynced_bytes: 0,
            lines: std::mem::take(&mut writer.lines),
            closed: None,
            ..*writer
        };
        Ok(())
    }

    /// Waits until all below `end` is durable, and publishes it: the first who comes syncs for all that was written, the
    /// others wait for that.
    pub fn sync_to(&self, end: u64) -> Result<(), Error> {
        let mut state = self.sync_state();
        while state.synced_end < end {
            if let Some(why) = &state.failed {
                return Err(why.clone());
            }
            if state.leader {
                state = self.synced.wait(state).expect("no panic under the sync lock");
                continue;
            }
            state.leader = true;
            drop(state);
            let synced = self.sync_written();
            state = self.sync_state();
            state.leader = false;
            match synced {
                Ok(end) => {
                    state.synced_end = state.synced_end.max(end);
                    self.high_watermark.fetch_max(state.synced_end, AcqRel);
                }
                Err(why) => state.failed = Some(why),
            }
            self.synced.notify_all();
        }
        Ok(())
    }

    /// Syncs all that was written when it is called, and answers its end.
    fn sync_written(&self) -> Result<u64, Error> {
        let writer = self.writer();
        let (segment, end, entries, bytes) =
            (writer.segment.clone(), writer.next_offset, writer.entries, writer.unsynced_bytes);
        drop(writer);
        let synced = segment.sync(&self.handles);
        let mut writer = self.writer();
        match synced {
            Ok(()) => {
                segment.mark_synced(entries);
                if writer.segment.base == segment.base {
                    writer.unsynced_bytes -= bytes;
                }
                Ok(end)
            }
            Err(error) => Err(self.fail(&mut writer, format!("{}: sync: {error}", segment.path("log").display()))),
        }
    }

    /// Syncs all that was written so far. A log that a fault made read-only is an error.
    pub fn sync_all(&self) -> Result<(), Error> {
        let writer = self.writer();
        if let Some(why @ Error::ReadOnly(_)) = &writer.closed {
            return Err(why.clone());
        }
        let end = writer.next_offset;
        drop(writer);
        self.sync_to(end)
    }

    /// Takes no more records, and touches no name any more; what was written is still read.
    pub fn close(&self) {
        self.writer().closed = Some(Error::Closed);
        // A compaction may be giving names; the next one sees that the log is closed.
        drop(self.files());
    }

    /// Whether the log was closed by [`close`](Self::close).
    pub fn is_closed(&self) -> bool {
        self.writer().closed == Some(Error::Closed)
    }
}

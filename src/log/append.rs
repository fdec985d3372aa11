//! Appending: lines are formatted, written, and described by an entry.
//!
//! ```text
//! records ── as many as fit one batch ──▶ lines ──▶ .log       and then the entry ──▶ .batches
//!                                           └ a segment that is full, or old, is rolled before
//! ```
//!
//! - Who reads sees lines once their entry is written, and of a log that shows nothing early once both are synced.
//! - A batch of a transaction holds the last stable offset before it is written, under the writer's lock.

use super::{
    Error, Log, Numbering, Writer,
    batches::{BATCH_BYTES_MAX, ENTRY_BYTES, Entry, Flags, crc32c},
    disk,
    record::{ControlLine, Outcome, RecordRef, Records, write_control_line, write_line},
    unreadable,
};
use std::{
    ops::Range,
    path::PathBuf,
    sync::{MutexGuard, atomic::Ordering::*},
};

/// What is appended.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a, 'r> {
    /// Records.
    Records(&'a Records<'r>),
    /// The marker that ends a transaction of the producer.
    Marker(ControlLine),
}

impl Content<'_, '_> {
    fn len(&self) -> usize {
        match self {
            Content::Records(records) => records.len(),
            Content::Marker(_) => 1,
        }
    }
}

/// Records or a marker to be appended, and how.
#[derive(Debug)]
pub struct Append<'a, 'r> {
    /// The records, or the marker.
    pub content: Content<'a, 'r>,
    /// The time of the append, in ms: that of records which have none of their own.
    pub now_ms: i64,
    /// What is true of each batch.
    pub flags: Flags,
    /// How its producer numbers the records, if it does, from the first on.
    pub producer: Option<Numbering>,
    /// The records are one batch, stored whole or not at all, though it be larger than a segment. If not, they become as many
    /// batches as it takes, and what follows one that fails is not stored.
    pub whole: bool,
    /// `segment.bytes`.
    pub segment_bytes_max: u32,
    /// `segment.ms`.
    pub segment_ms_max: i64,
    /// Whether readers see the records before they are synced.
    pub publish: bool,
}

impl Append<'_, '_> {
    fn is_in_transaction(&self) -> bool {
        matches!(self.content, Content::Records(_)) && self.flags.has(Flags::TRANSACTIONAL) && self.producer.is_some()
    }
}

/// What an append stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Appended {
    /// Offsets given, in the order of the records; fewer than records if `failed`.
    pub offsets: Range<u64>,
    /// File of the last batch, and the positions of its lines there.
    pub place: (PathBuf, Range<u64>),
    /// Bytes of all lines.
    pub bytes: u64,
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
    /// Whether a segment was begun for them.
    pub rolled: bool,
}

impl Appended {
    /// What was stored before, at these offsets and this time, and is only to be made durable.
    pub fn known(offsets: Range<u64>, now_ms: i64, published: bool) -> Appended {
        let (place, bytes, unsynced_bytes) = ((PathBuf::new(), 0..0), 0, 0);
        let (failed, known, rolled) = (None, true, false);
        Appended { offsets, place, bytes, now_ms, unsynced_bytes, failed, published, known, rolled }
    }

    /// The offset that the record at this place among those to be appended got, or why it got none.
    pub fn offset_of(&self, record: u64) -> Result<u64, Error> {
        let offset = self.offsets.start + record;
        match &self.failed {
            Some(why) if offset >= self.offsets.end => Err(why.clone()),
            _ => Ok(offset),
        }
    }
}

/// What is to be known of the lines of one batch, once they are formatted.
struct Formatted {
    count: u32,
    flags: Flags,
    base_sequence: i32,
    timestamp: i64,
    max_timestamp: i64,
}

/// A batch that need not be whole ends at so many bytes: who wants one record of it reads and checks all of it.
const SPLIT_BYTES: usize = 512 << 10;
/// The line buffer is given back when it grew beyond this.
const LINES_KEPT: usize = 2 * SPLIT_BYTES;

impl Log {
    /// Appends records; the answer says how many were stored. They are durable after [`sync_to`](Self::sync_to).
    pub fn append(&self, append: &Append<'_, '_>) -> Result<Appended, Error> {
        let mut writer = self.writer();
        let first = writer.log_end;
        if append.is_in_transaction() {
            self.first_unstable.fetch_min(first, AcqRel);
        }
        writer.lines.clear();
        let mut done = Appended {
            offsets: first..first,
            place: (PathBuf::new(), 0..0),
            bytes: 0,
            now_ms: append.now_ms,
            unsynced_bytes: 0,
            failed: None,
            known: false,
            published: append.publish,
            rolled: false,
        };
        let segment = writer.segment.base;
        let mut stored = 0;
        while stored < append.content.len() {
            match self.append_batch(&mut writer, append, stored) {
                Ok(Some(count)) => {
                    stored += count as usize;
                    done.bytes += writer.lines.len() as u64;
                }
                Ok(None) => writer = self.pause(writer),
                Err(error) => {
                    // They were not written, wherever it failed.
                    writer.lines.clear();
                    done.failed = Some(error);
                    break;
                }
            }
        }
        done.offsets.end = writer.log_end;
        done.rolled = writer.segment.base != segment;
        done.unsynced_bytes = writer.position - writer.segment.synced_bytes();
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

    /// Gives up the writer's lock in the midst of an append until nobody syncs.
    fn pause<'a>(&'a self, mut writer: MutexGuard<'a, Writer>) -> MutexGuard<'a, Writer> {
        writer.paused = true;
        drop(writer);
        self.wait_for_leader();
        let mut writer = self.writer_now();
        writer.paused = false;
        self.resumed.notify_all();
        writer
    }

    /// Writes as many records from the `from`th on as fit one batch, or the marker. Answers how many; `None`: a roll is due
    /// first, and another thread syncs.
    fn append_batch(&self, writer: &mut Writer, append: &Append<'_, '_>, from: usize) -> Result<Option<u32>, Error> {
        self.check_writable()?;
        let formatted = match append.content {
            Content::Records(records) => writer.format(append, records, from)?,
            Content::Marker(control) => writer.format_marker(append, &control),
        };
        let Formatted { count, flags, base_sequence, timestamp, max_timestamp } = formatted;
        let bytes = writer.lines.len();
        if bytes > BATCH_BYTES_MAX {
            return Err(Error::TooLarge { bytes, limit: BATCH_BYTES_MAX });
        }
        if self.is_roll_due(writer, append, bytes, count) && !self.roll(writer)? {
            return Ok(None);
        }
        let Numbering { producer_id, producer_epoch, .. } = append.producer.unwrap_or(Numbering::NONE);
        let begins_within = writer.entries == 0 && self.first_unstable.load(Acquire) < u64::MAX;
        let in_transactions = begins_within || flags.has(Flags::TRANSACTIONAL | Flags::CONTROL);
        let transactions = if in_transactions { Flags::TRANSACTIONS } else { Flags::NONE };
        let aborts = if flags.has(Flags::ABORT) { Flags::ABORTS } else { Flags::NONE };
        let entry = Entry {
            first: (writer.log_end - writer.segment.base) as u32,
            position: writer.position as u32,
            bytes: bytes as u32,
            last_delta: count - 1,
            count,
            flags: flags | writer.so_far | transactions | aborts,
            producer_epoch,
            producer_id,
            base_sequence,
            mark: writer.segment.synced(),
            timestamp,
            max_timestamp: writer.max_timestamp.max(max_timestamp),
            lines_crc: crc32c(&writer.lines),
        };
        self.write(writer, &entry, append.now_ms)?;
        Ok(Some(count))
    }

    fn is_roll_due(&self, writer: &Writer, append: &Append<'_, '_>, bytes: usize, count: u32) -> bool {
        let last = writer.log_end + u64::from(count) - 1 - writer.segment.base;
        let full = writer.position + bytes as u64 > u64::from(append.segment_bytes_max) || last > u64::from(u32::MAX);
        writer.sealed || writer.entries > 0 && full || writer.is_old(append.now_ms, append.segment_ms_max)
    }

    /// Writes the lines, then their entry. What was written in part is cut off again, after which a full disk is no fault.
    fn write(&self, writer: &mut Writer, entry: &Entry, now_ms: i64) -> Result<(), Error> {
        let segment = writer.segment.clone();
        let entries_end = u64::from(writer.entries) * ENTRY_BYTES as u64;
        let log = segment.log(&self.handles).map_err(unreadable(segment.path("log")))?;
        let batches = segment.batches(&self.handles).map_err(unreadable(segment.path("batches")))?;
        let written = log.write_at(&writer.lines, writer.position);
        let written = written.and_then(|()| batches.write_at(&entry.encode(), entries_end));
        segment.mark_written();
        if let Err(error) = written {
            let cut = log.set_len(writer.position).and(batches.set_len(entries_end));
            self.cut.store(true, Release);
            let why = format!("{}: {error}", segment.path("log").display());
            return Err(if disk::is_full(&error) && cut.is_ok() { Error::DiskFull(why) } else { self.fail(why) });
        }
        if writer.entries == 0 {
            writer.since_ms = now_ms;
        }
        writer.entries += 1;
        writer.position += u64::from(entry.bytes);
        writer.log_end += u64::from(entry.last_delta) + 1;
        writer.max_timestamp = entry.max_timestamp;
        writer.so_far = entry.so_far();
        segment.grow(writer.entries, writer.position, writer.max_timestamp);
        Ok(())
    }
}

impl Writer {
    /// Formats as many records from the `from`th on as fit one batch.
    fn format(&mut self, append: &Append<'_, '_>, records: &Records<'_>, from: usize) -> Result<Formatted, Error> {
        let limit = if append.whole { BATCH_BYTES_MAX } else { SPLIT_BYTES.min(append.segment_bytes_max as usize) };
        let first = records.get(from).expect("there is a record left");
        let stamped = append.flags.has(Flags::APPEND_TIME);
        let time = |record: &RecordRef<'_>| record.timestamp.filter(|_| !stamped).unwrap_or(append.now_ms);
        let timestamp = time(first);
        // A time is written where it changes.
        let (mut count, mut max_timestamp, mut last, mut flags) = (0, i64::MIN, timestamp, append.flags);
        self.lines.clear();
        while let Some(record) = records.get(from + count as usize) {
            let before = self.lines.len();
            let offset = self.log_end + u64::from(count);
            let time = time(record);
            let changed = Some(time).filter(|&time| time != last);
            write_line(&mut self.lines, offset, changed, records, record);
            let bytes = self.lines.len();
            if append.whole && bytes > limit {
                return Err(Error::TooLarge { bytes, limit });
            }
            if bytes > limit && count > 0 {
                self.lines.truncate(before);
                break;
            }
            max_timestamp = max_timestamp.max(time);
            if changed.is_some() {
                (last, flags) = (time, flags | Flags::RUNNING_TIMES);
            }
            count += 1;
        }
        let numbering = append.producer.map_or(Numbering::NONE, |numbering| numbering.after(from as u32));
        let base_sequence = numbering.base_sequence;
        Ok(Formatted { count, flags, base_sequence, timestamp, max_timestamp })
    }

    /// Formats a marker, whose time is that of the append.
    fn format_marker(&mut self, append: &Append<'_, '_>, control: &ControlLine) -> Formatted {
        self.lines.clear();
        write_control_line(&mut self.lines, self.log_end, control);
        let abort = if control.outcome == Outcome::Abort { Flags::ABORT } else { Flags::NONE };
        let flags = append.flags | Flags::TRANSACTIONAL | Flags::CONTROL | abort;
        let (timestamp, max_timestamp) = (append.now_ms, append.now_ms);
        Formatted { count: 1, flags, base_sequence: control.coordinator_epoch, timestamp, max_timestamp }
    }
}

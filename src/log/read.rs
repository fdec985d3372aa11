//! Reading: whole batches, each checked against its CRC, into one reused buffer.
//!
//! ```text
//! read(offset 5, max 100 bytes)     entries  [0-3] [4-6] [7-7] [8-20]
//!                                                  └─────────┘ the batch with the offset, and more while they fit
//! ```
//!
//! At least one batch is read, however large, and none beyond the high watermark. The first batch is whole even if the
//! offset is in its middle: [`Chunk::lines_from`] begins at the record. A read stops before damage; one that begins in
//! it is an error that says where it ends.
//!
//! Who may see no open transaction reads up to the last stable offset, in the same way.

#[cfg(feature = "cluster")]
use super::batches::Flags;
use super::{
    Error, Log,
    batches::{Entry, crc32c},
    lines::{Line, Lines},
    record::Malformed,
    segment::Segment,
    unreadable,
};
use std::{ops::Range, sync::Arc};

/// A batch in a [`Chunk`].
#[derive(Clone, Debug)]
pub struct Batch {
    /// Offset of its first record.
    pub first: u64,
    /// Its entry.
    pub entry: Entry,
    /// Where its lines stand in the chunk.
    pub lines: Range<usize>,
}

impl Batch {
    /// Offset of its last record.
    pub fn last(&self) -> u64 {
        self.first + u64::from(self.entry.last_delta)
    }
}

/// What lies between an offset and the end that is read to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Batches, that with the offset included.
    pub batches: u64,
    /// Bytes of their lines.
    pub bytes: u64,
}

/// Where the batch stands that follows those that were read.
#[derive(Clone, Copy, Debug)]
struct Next {
    segment_id: u64,
    /// Index of its entry.
    index: u32,
    offset: u64,
}

/// Batches as they were read. Its buffers are reused from read to read; [`Chunk::default`] gives them back.
#[derive(Debug, Default)]
pub struct Chunk {
    bytes: Vec<u8>,
    used: usize,
    /// The batches, in order of their offsets.
    pub batches: Vec<Batch>,
    entries: Vec<Option<Entry>>,
    /// Where the next read goes on, if it goes on.
    next: Option<Next>,
    /// Offset behind all that was read, the holes that compaction left too; `None`: nothing was.
    behind: Option<u64>,
    /// Base offset of the segment, for the operator.
    segment_base: u64,
}

impl Chunk {
    /// All lines, as they stand in the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    /// How many records all batches have.
    pub fn records(&self) -> u64 {
        self.batches.iter().map(|batch| u64::from(batch.entry.count)).sum()
    }

    /// The lines of one batch.
    pub fn lines_of(&self, batch: &Batch) -> Lines<'_> {
        Lines::of(&batch.entry, &self.bytes[batch.lines.clone()])
    }

    /// The lines of one batch from the first record at or after `offset` on.
    pub fn lines_from(&self, batch: &Batch, offset: u64) -> Lines<'_> {
        let lines = self.lines_of(batch);
        if offset <= batch.first { lines } else { lines.starting_at(offset) }
    }

    /// The records of all batches from the first at or after `offset` on.
    pub fn records_from(&self, offset: u64) -> impl Iterator<Item = Result<Line<'_>, Malformed>> {
        self.batches.iter().flat_map(move |batch| self.lines_from(batch, offset))
    }

    /// Whether a record at `offset` would be among these batches.
    pub fn covers(&self, offset: u64) -> bool {
        self.batches.first().is_some_and(|first| first.first <= offset)
            && self.batches.last().is_some_and(|last| offset <= last.last())
    }

    /// Drops the other batches and their lines, as if nothing stood there.
    pub fn retain(&mut self, mut keep: impl FnMut(&Batch) -> bool) {
        let mut used = 0;
        let bytes = &mut self.bytes;
        self.batches.retain_mut(|batch| {
            let kept = keep(batch);
            if kept {
                let lines = batch.lines.clone();
                batch.lines = used..used + lines.len();
                if used < lines.start {
                    bytes.copy_within(lines, used);
                }
                used = batch.lines.end;
            }
            kept
        });
        self.used = used;
    }

    /// Forgets what was read, and keeps the buffers.
    pub fn clear(&mut self) {
        self.batches.clear();
        self.used = 0;
        self.behind = None;
    }

    /// The offset to read on at; `None`: the read began at the end. Where compaction left nothing up to there, or all that was
    /// read was [dropped](Self::retain), there is one, and no batch.
    pub fn next_offset(&self) -> Option<u64> {
        self.behind
    }

    /// Adds a record that was read elsewhere than in a log of this process; `write` writes its line. Records that follow one
    /// another without a hole, and at the same time, are a batch.
    #[cfg(feature = "cluster")]
    pub(crate) fn add(&mut self, offset: u64, timestamp: i64, flags: Flags, write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.truncate(self.used);
        write(&mut self.bytes);
        let lines = self.used..self.bytes.len();
        self.used = lines.end;
        self.behind = Some(offset + 1);
        let same = |last: &&mut Batch| {
            let entry = &last.entry;
            last.last() + 1 == offset && entry.timestamp == timestamp && entry.flags == flags
        };
        match self.batches.last_mut().filter(same) {
            Some(Batch { entry, lines: all, .. }) => {
                all.end = lines.end;
                (entry.bytes, entry.last_delta, entry.count) =
                    (all.len() as u32, entry.last_delta + 1, entry.count + 1);
            }
            None => {
                let entry = Entry::of_record(lines.len() as u32, timestamp, flags);
                self.batches.push(Batch { first: offset, entry, lines });
            }
        }
    }

    /// There is nothing for the reader up to this offset, but for what was added.
    #[cfg(feature = "cluster")]
    pub(crate) fn pass_over(&mut self, behind: u64) {
        self.behind = Some(behind);
    }

    /// Base offset of the segment it was read from, and the positions of its lines there.
    pub fn place(&self) -> Option<(u64, Range<u32>)> {
        let (first, last) = (self.batches.first()?, self.batches.last()?);
        Some((self.segment_base, first.entry.position..last.entry.positions().end))
    }
}

impl Log {
    /// Reads batches from the one with `offset` on: one at least (none at the high watermark), and as many more as fit
    /// `bytes_max`.
    pub fn read(&self, offset: u64, bytes_max: usize, chunk: &mut Chunk) -> Result<(), Error> {
        self.read_below(self.high_watermark(), offset, bytes_max, chunk)
    }

    /// The same of batches that end at `end` at the latest: the high watermark, or the last stable offset. None is read from
    /// there on, or between there and the high watermark.
    pub fn read_below(&self, end: u64, offset: u64, bytes_max: usize, chunk: &mut Chunk) -> Result<(), Error> {
        chunk.clear();
        let (start, high_watermark) = (self.start(), self.high_watermark());
        if offset < start || offset > high_watermark {
            return Err(Error::OutOfRange { start, high_watermark });
        }
        if offset >= end {
            return Ok(());
        }
        let mut offset = offset;
        loop {
            let (segment, next) = self.segment_of(offset);
            let read = self.read_segment(&segment, next, offset, end, bytes_max, chunk);
            if offset < self.start() {
                // Retention or TRIM took the segment while it was read.
                chunk.clear();
                return Err(Error::OutOfRange { start: self.start(), high_watermark });
            }
            let went_on = read?;
            // Compaction can leave no record here, between the offset and the segment's end, or the end of all.
            match went_on.or(next).filter(|&behind| behind < end) {
                _ if !chunk.batches.is_empty() => return Ok(()),
                Some(behind) => offset = behind,
                None => {
                    chunk.behind = Some(end);
                    return Ok(());
                }
            }
        }
    }

    /// What can be read from `offset` on, told from the entries alone. Segments behind `bytes_enough` are not looked at.
    pub fn backlog(&self, offset: u64, bytes_enough: u64) -> Result<Backlog, Error> {
        self.backlog_below(self.high_watermark(), offset, bytes_enough)
    }

    /// The same of what [`read_below`](Self::read_below) reads.
    pub fn backlog_below(&self, end: u64, offset: u64, bytes_enough: u64) -> Result<Backlog, Error> {
        let (start, high_watermark) = (self.start(), self.high_watermark());
        if offset < start || offset > high_watermark {
            return Err(Error::OutOfRange { start, high_watermark });
        }
        let (mut offset, mut backlog) = (offset, Backlog::default());
        while offset < end && backlog.bytes < bytes_enough {
            let (segment, next) = self.segment_of(offset);
            let [before, all] = [self.entries_before(&segment, offset)?, self.entries_before(&segment, end)?];
            backlog.batches += all.batches.saturating_sub(before.batches);
            backlog.bytes += all.bytes.saturating_sub(before.bytes);
            offset = next.unwrap_or(end);
        }
        Ok(backlog)
    }

    /// What a segment holds in entries that end before `offset`.
    fn entries_before(&self, segment: &Segment, offset: u64) -> Result<Backlog, Error> {
        let failed = unreadable(segment.path("batches"));
        let entries_end = segment.entries(&self.handles).map_err(&failed)?;
        let count = self.entry_with(segment, entries_end, offset)?;
        let Some(last) = count.checked_sub(1) else { return Ok(Backlog::default()) };
        let bytes = match segment.entry(&self.handles, last).map_err(&failed)? {
            Some((_, entry)) => u64::from(entry.positions().end),
            // Whoever reads there is told of the damage.
            None => segment.bytes(&self.handles).map_err(&failed)?,
        };
        Ok(Backlog { batches: count.into(), bytes })
    }

    /// The segment that `offset` is in, and the base of the one that follows it. Both are of one moment: compaction can
    /// replace several segments by one.
    fn segment_of(&self, offset: u64) -> (Arc<Segment>, Option<u64>) {
        let segments = self.segments.read().expect("no panic under the segments' lock");
        let behind = segments.partition_point(|segment| segment.base <= offset).max(1);
        (segments[behind - 1].clone(), segments.get(behind).map(|next| next.base))
    }

    /// Reads from one segment, whose successor begins at `next_base`. Answers where entries that were read end; that they
    /// hold no batch is possible.
    fn read_segment(
        &self,
        segment: &Segment,
        next_base: Option<u64>,
        offset: u64,
        read_end: u64,
        bytes_max: usize,
        chunk: &mut Chunk,
    ) -> Result<Option<u64>, Error> {
        let log_path = || segment.path("log");
        let entries_end = segment.entries(&self.handles).map_err(|error| unreadable(log_path())(error))?;
        let mut first = match chunk.next {
            Some(Next { segment_id, index, offset: next })
                if segment_id == segment.id && next == offset && index <= entries_end =>
            {
                index
            }
            _ => self.entry_with(segment, entries_end, offset)?,
        };
        let mut wanted = self.plan(segment, first, entries_end, read_end, bytes_max, chunk)?;
        if chunk.batches.is_empty() {
            // Behind the last batch there may be damaged entries that hide nothing, and then the next batch.
            first = self.entry_with(segment, entries_end, offset)?;
            wanted = self.plan(segment, first, entries_end, read_end, bytes_max, chunk)?;
        }
        chunk.segment_base = segment.base;
        let Some(position) = chunk.batches.first().map(|batch| batch.entry.position) else {
            if first == entries_end || segment.base + u64::from(wanted) >= read_end {
                return Ok(None);
            }
            return Err(self.damage(segment, next_base, first, entries_end, offset));
        };
        let bytes = chunk.batches.last().map_or(0, |last| last.lines.end);
        if chunk.bytes.len() < bytes {
            chunk.bytes.resize(bytes, 0);
        }
        let log = segment.log(&self.handles).map_err(|error| unreadable(log_path())(error))?;
        let read = log.read_at(&mut chunk.bytes[..bytes], u64::from(position));
        let read = read.map_err(|error| unreadable(log_path())(error))?;
        let whole = chunk.batches.iter().take_while(|batch| {
            batch.lines.end <= read && crc32c(&chunk.bytes[batch.lines.clone()]) == batch.entry.lines_crc
        });
        let whole = whole.count();
        chunk.batches.truncate(whole);
        chunk.used = chunk.batches.last().map_or(0, |last| last.lines.end);
        let Some(next) = chunk.batches.last().map(|last| last.last() + 1) else {
            return Err(self.damage(segment, next_base, first, entries_end, offset));
        };
        chunk.next = Some(Next { segment_id: segment.id, index: first + whole as u32, offset: next });
        chunk.behind = Some(next);
        // Entries without a line are kept for their producers, not for readers.
        chunk.batches.retain(|batch| batch.entry.count > 0);
        Ok(Some(next))
    }

    /// Index of the entry with `offset`, or of the damaged one that hides it.
    fn entry_with(&self, segment: &Segment, entries_end: u32, offset: u64) -> Result<u32, Error> {
        let relative = offset.saturating_sub(segment.base);
        let failed = unreadable(segment.path("batches"));
        let found = segment.search(&self.handles, entries_end, |entry| u64::from(entry.last()) >= relative);
        let found = found.map_err(&failed)?;
        for index in found..entries_end {
            if let Some((_, entry)) = segment.entry(&self.handles, index).map_err(&failed)? {
                let hidden = index > found && u64::from(entry.first) > relative;
                return Ok(if hidden { found } else { index });
            }
        }
        Ok(found)
    }

    /// Lists the batches to read: whole entries from `first` on whose lines follow each other, to the limits.
    /// Answers the first offset (from the segment's base) that was not taken.
    fn plan(
        &self,
        segment: &Segment,
        first: u32,
        entries_end: u32,
        read_end: u64,
        bytes_max: usize,
        chunk: &mut Chunk,
    ) -> Result<u32, Error> {
        let (mut index, mut count, mut bytes, mut next) = (first, 8, 0, 0);
        while index < entries_end {
            let read = segment.read_entries(&self.handles, index, count, entries_end, &mut chunk.entries);
            read.map_err(unreadable(segment.path("batches")))?;
            for entry in &chunk.entries {
                let Some(entry) = entry else { return Ok(next) };
                next = entry.first;
                let follows = chunk.batches.last().is_none_or(|last| last.entry.positions().end == entry.position);
                let fits = chunk.batches.is_empty() || bytes + entry.bytes as usize <= bytes_max;
                let published = segment.base + u64::from(entry.last()) < read_end;
                if !(follows && fits && published) {
                    return Ok(next);
                }
                let lines = bytes..bytes + entry.bytes as usize;
                bytes = lines.end;
                chunk.batches.push(Batch { first: segment.base + u64::from(entry.first), entry: *entry, lines });
            }
            index += chunk.entries.len().max(1) as u32;
            count = 512;
        }
        Ok(next)
    }

    /// The damage at entry `index`: from `offset` to the first entry that is whole.
    fn damage(&self, segment: &Segment, next_base: Option<u64>, index: u32, entries_end: u32, offset: u64) -> Error {
        let entry = |index| segment.entry(&self.handles, index).ok().flatten().map(|(_, entry)| entry);
        let next = (index + 1..entries_end).find_map(entry).map(|entry| segment.base + u64::from(entry.first));
        let next = next.or(next_base).unwrap_or(self.high_watermark());
        let position = entry(index).map(|entry| entry.position);
        let position = position.or_else(|| Some(entry(index.checked_sub(1)?)?.positions().end)).unwrap_or(0);
        let place = format!("{} at position {position}", segment.path("log").display());
        self.handles.damaged.add(1);
        Error::Corrupt { first: offset, next: next.max(offset + 1), place }
    }

    /// The lowest offset whose timestamp is at or after `timestamp`; the high watermark if there is none.
    pub fn offset_at(&self, timestamp: i64, chunk: &mut Chunk) -> Result<u64, Error> {
        for segment in self.all_segments() {
            let failed = unreadable(segment.path("batches"));
            let entries_end = segment.entries(&self.handles).map_err(&failed)?;
            let reaches = |entry: &Entry| segment.base + u64::from(entry.last()) >= self.start();
            let wanted = |entry: &Entry| entry.max_timestamp >= timestamp && reaches(entry);
            let found = segment.search(&self.handles, entries_end, wanted).map_err(&failed)?;
            if let Some((_, entry)) = segment.entry(&self.handles, found).map_err(&failed)? {
                let first = (segment.base + u64::from(entry.first)).max(self.start());
                return self.first_since(first, timestamp, chunk);
            }
        }
        Ok(self.high_watermark())
    }

    /// Scans from `offset` on for the first record at or after `timestamp`.
    fn first_since(&self, offset: u64, timestamp: i64, chunk: &mut Chunk) -> Result<u64, Error> {
        let mut next = offset;
        while next < self.high_watermark() {
            self.read(next, 1, chunk)?;
            if let Some(line) = chunk.records_from(next).flatten().find(|line| line.timestamp >= timestamp) {
                return Ok(line.offset);
            }
            let Some(behind) = chunk.next_offset() else { break };
            next = behind;
        }
        Ok(self.high_watermark())
    }
}

//! How every protocol reads: handles of topics and partitions, and a session that lends what it read.
//!
//! ```text
//! TopicHandle ── PartitionHandle ──┐
//!                                  ├── ReadSession ── lends Batches, from one buffer for all that it reads
//! an offset, how many bytes ───────┘
//! ```
//!
//! Every read says what the reader [may see](View). What it returns borrows from the session's buffer until the next read, so nothing is copied between the file and the
//! client's answer. Handles are opaque: the records behind them need not be in a log of this process.

use super::{Broker, EpochEnd, Isolation, Partition, Permit, Position, Registered, Result, Topic, View, Waiter};
use crate::{
    config::Settings,
    log::{
        self, Aborted, Backlog, Chunk, Line, Lines,
        batches::Flags,
        record::{Malformed, split_offset},
    },
    security::Operation,
};
use std::{ops::Range, path::PathBuf, sync::Arc};

/// How many bytes are read ahead for callers that read record by record.
pub(crate) const READ_AHEAD_BYTES: usize = 64 << 10;

/// A topic that was found. It stays the same topic, though another gets its name.
#[derive(Clone, Debug)]
pub struct TopicHandle {
    topic: Arc<Topic>,
    permit: Permit,
}

/// A partition that was found.
#[derive(Clone, Debug)]
pub struct PartitionHandle {
    topic: Arc<Topic>,
    partition: Arc<Partition>,
    permit: Permit,
}

/// What somebody read last.
#[derive(Debug, Default)]
pub struct ReadSession {
    chunk: Chunk,
    /// The partition that it is of, and in which view.
    of: Option<(PartitionHandle, View)>,
    /// Offset and position (in the lines) at which the last search ended.
    cursor: Cursor,
}

/// Where a search for a line goes on, so that lines which follow one another are found at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    offset: u64,
    position: usize,
}

impl Default for Cursor {
    fn default() -> Cursor {
        Cursor { offset: u64::MAX, position: 0 }
    }
}

impl Cursor {
    /// Offset and place of the first line at or after `offset` among those that were read.
    pub(crate) fn find(&mut self, chunk: &Chunk, offset: u64) -> Option<(u64, Range<usize>)> {
        let lines = chunk.bytes();
        let batches = &chunk.batches;
        let mut at = match batches.partition_point(|batch| batch.last() < offset) {
            _ if self.offset == offset => self.position,
            index => batches.get(index)?.lines.start,
        };
        while at < lines.len() {
            let end = at + memchr::memchr(b'\n', &lines[at..])?;
            match split_offset(&lines[at..end]) {
                Some((found, _)) if found >= offset => {
                    *self = Cursor { offset: found + 1, position: end + 1 };
                    return Some((found, at..end));
                }
                _ => at = end + 1,
            }
        }
        None
    }
}

/// A record by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOffset {
    /// Its offset.
    pub offset: u64,
    /// Its time in ms; -1: it has none.
    pub timestamp: i64,
}

/// A record by its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineAt<'a> {
    /// Its offset.
    pub offset: u64,
    /// Its line, without its end.
    pub text: &'a [u8],
}

/// Batches that were read, in the order of their offsets.
#[derive(Clone, Copy, Debug)]
pub struct Batches<'a>(&'a Chunk);

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct ReadBatch<'a> {
    chunk: &'a Chunk,
    batch: &'a log::Batch,
}

impl Broker {
    /// A session of reading.
    pub fn read_session(&self) -> ReadSession {
        ReadSession::default()
    }

    /// A topic by name, to be read.
    pub fn find_topic(&self, name: &str) -> Result<TopicHandle> {
        self.find_topic_to(Operation::Read, name)
    }

    /// A topic by name, to do this to it.
    pub fn find_topic_to(&self, operation: Operation, name: &str) -> Result<TopicHandle> {
        let permit = self.ask_topic(operation, name)?;
        Ok(TopicHandle { topic: self.state(&permit).topic(name)?, permit })
    }

    /// A topic by its id, to do this to it. One that the caller may not even describe is as unknown (`None`) as one that is not there; of
    /// another it is told that it may not do that.
    pub fn find_topic_by_id_to(&self, operation: Operation, id: &[u8; 16]) -> Result<Option<TopicHandle>> {
        let known = self.topic_by_id_for(operation, id).or_else(|| self.topic_by_id_for(Operation::Describe, id));
        let Some(topic) = known else { return Ok(None) };
        let permit = self.ask_topic(operation, &topic.name)?;
        Ok(Some(TopicHandle { topic, permit }))
    }

    /// A partition by its topic's name and its number, to be read.
    pub fn find_partition(&self, topic: &str, partition: u32) -> Result<PartitionHandle> {
        self.find_partition_to(Operation::Read, topic, partition)
    }

    /// A partition by its topic's name and its number, to do this to it.
    pub fn find_partition_to(&self, operation: Operation, topic: &str, partition: u32) -> Result<PartitionHandle> {
        self.find_topic_to(operation, topic)?.partition(partition)
    }
}

impl TopicHandle {
    pub(super) fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// Whether its finder may write to it.
    pub(super) fn may_write(&self) -> Result<()> {
        self.permit.check_for(Operation::Write)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.topic.name
    }

    /// Its id.
    pub fn id(&self) -> [u8; 16] {
        self.topic.id
    }

    /// The settings as they take effect.
    pub fn settings(&self) -> Arc<Settings> {
        self.topic.settings()
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> u32 {
        self.topic.partition_count()
    }

    /// One of its partitions.
    pub fn partition(&self, index: u32) -> Result<PartitionHandle> {
        Ok(self.handle(self.topic.partition(index)?))
    }

    /// Its partitions in order.
    pub fn partitions(&self) -> Vec<PartitionHandle> {
        self.topic.partitions().into_iter().map(|partition| self.handle(partition)).collect()
    }

    fn handle(&self, partition: Arc<Partition>) -> PartitionHandle {
        PartitionHandle { topic: self.topic.clone(), partition, permit: self.permit.clone() }
    }
}

impl PartitionHandle {
    /// The same for whoever has been asked elsewhere.
    pub(super) fn for_everybody(&self) -> PartitionHandle {
        PartitionHandle { permit: Permit::for_everybody(), ..self.clone() }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic.name
    }

    /// Its number.
    pub fn index(&self) -> u32 {
        self.partition.index
    }

    /// Offset of the first record.
    pub fn start(&self) -> Result<u64> {
        self.partition.start()
    }

    /// Offset behind the last record that readers see.
    pub fn high_watermark(&self) -> Result<u64> {
        self.partition.high_watermark()
    }

    /// Offset behind the last record that is shown to readers of committed records.
    pub fn last_stable_offset(&self) -> Result<u64> {
        self.partition.last_stable_offset()
    }

    /// Offset behind the last record that a reader may see.
    pub fn end(&self, isolation: Isolation) -> Result<u64> {
        self.partition.end(isolation)
    }

    /// What stands from an offset on up to a reader's end, without reading it. What lies behind `bytes_enough` need not be
    /// counted.
    pub fn backlog(&self, isolation: Isolation, offset: u64, bytes_enough: u64) -> Result<Backlog> {
        Ok(self.partition.log()?.backlog_below(self.end(isolation)?, offset, bytes_enough)?)
    }

    /// The aborted transactions with anything at these offsets, in the order of their markers.
    pub fn aborted(&self, offsets: Range<u64>) -> Result<Vec<Aborted>> {
        self.partition.aborted(offsets)
    }

    /// Leader epoch: raised whenever records that were shown were cut off, or a crash may have taken some.
    pub fn leader_epoch(&self) -> u32 {
        self.partition.leader_epoch()
    }

    /// Where the newest leader epoch ended that is not above `epoch` (KIP-320); `None`: there was none so high yet.
    pub fn end_of_epoch(&self, epoch: u32) -> Result<Option<EpochEnd>> {
        self.partition.end_of_epoch(epoch)
    }

    /// An error if the topic was dropped, or its finder may no more do what it wanted.
    pub fn still_there(&self) -> Result<()> {
        self.permit.check()?;
        self.partition.still_there()
    }

    /// Wakes `waiter` for new records, a changed start and the end of the topic, until the answer is dropped.
    pub fn register(&self, waiter: &Arc<Waiter>) -> Registered<'_> {
        self.partition.register(waiter)
    }
}

/// Whether they are the same partition of the same topic, not only of one that has its name.
impl PartialEq for PartitionHandle {
    fn eq(&self, other: &PartitionHandle) -> bool {
        Arc::ptr_eq(&self.partition, &other.partition)
    }
}

impl ReadSession {
    /// Reads batches from the one with `offset` on: one at least (none at the reader's end, and none where all that was read
    /// is not for it), more while they fit `bytes_max`.
    pub fn read(&mut self, view: View, from: &PartitionHandle, offset: u64, bytes_max: usize) -> Result<Batches<'_>> {
        let loaded = self.load(view, from, offset, bytes_max);
        // Asked behind it: what was written after a rule took effect is not for whom it forbids.
        from.permit.check_for(Operation::Read)?;
        loaded
    }

    fn load(&mut self, view: View, from: &PartitionHandle, offset: u64, bytes_max: usize) -> Result<Batches<'_>> {
        self.of = Some((from.clone(), view));
        self.cursor = Cursor::default();
        from.partition.read_as(view, offset, bytes_max, &mut self.chunk)?;
        Ok(Batches(&self.chunk))
    }

    /// What the last read gave.
    pub fn batches(&self) -> Batches<'_> {
        Batches(&self.chunk)
    }

    /// The first record at or after `offset`; `None` at the reader's end. Records that follow one another are read ahead
    /// together.
    pub fn record_at(
        &mut self,
        isolation: Isolation,
        from: &PartitionHandle,
        mut offset: u64,
    ) -> Result<Option<LineAt<'_>>> {
        let view = View::records(isolation);
        loop {
            let is_of = self.of.as_ref().is_some_and(|(of, viewed)| of == from && *viewed == view);
            let is_loaded = is_of && self.chunk.covers(offset);
            let loaded = if is_loaded { Ok(()) } else { self.load(view, from, offset, READ_AHEAD_BYTES).map(drop) };
            from.permit.check_for(Operation::Read)?;
            loaded?;
            let Some(behind) = self.chunk.next_offset() else { return Ok(None) };
            if let Some((offset, place)) = self.cursor.find(&self.chunk, offset) {
                return Ok(Some(LineAt { offset, text: &self.chunk.bytes()[place] }));
            }
            offset = behind;
        }
    }

    /// The offset that a position means now to a reader of records. A number out of range is refused.
    pub fn resolve(&mut self, isolation: Isolation, position: Position, of: &PartitionHandle) -> Result<u64> {
        self.resolve_in(View::records(isolation), position, of)
    }

    fn resolve_in(&mut self, view: View, position: Position, of: &PartitionHandle) -> Result<u64> {
        if matches!(position, Position::Time(_)) {
            // The search reads: what was read ahead is gone.
            self.of = None;
        }
        position.resolve(view, &of.partition, &mut self.chunk)
    }

    /// What the reader sees first whose time is at or after `time`.
    pub fn record_since(&mut self, view: View, of: &PartitionHandle, time: i64) -> Result<Option<TimedOffset>> {
        let offset = self.resolve_in(view, Position::Time(time), of)?;
        // Where records stand may be known to whoever may not read them.
        let found = self.load(view, of, offset, 1)?.records_from(offset).flatten().next();
        of.permit.check()?;
        Ok(found.map(|line| TimedOffset { offset, timestamp: line.timestamp }))
    }

    /// The first record with the largest time. Where no record has a time it is the first of the oldest segment, removed or
    /// not, as in Kafka.
    pub fn record_with_largest_time(&mut self, view: View, of: &PartitionHandle) -> Result<Option<TimedOffset>> {
        let log = of.partition.log()?;
        match log.max_timestamp()? {
            timestamp @ -1 if log.high_watermark() > 0 => {
                Ok(Some(TimedOffset { offset: log.segment_bases()[0], timestamp }))
            }
            largest => self.record_since(view, of, largest.max(0)),
        }
    }

    /// The file that was read last, and the positions of the lines there.
    pub fn place(&self) -> Option<(PathBuf, Range<u32>)> {
        let ((of, _), (base, positions)) = (self.of.as_ref()?, self.chunk.place()?);
        Some((of.partition.dir().join(format!("{base:020}.log")), positions))
    }

    /// Forgets what was read, and keeps the buffer.
    pub fn clear(&mut self) {
        self.chunk.clear();
        self.of = None;
    }

    /// Frees the buffer: a client that waits, as thousands may at once, needs none.
    pub fn free(&mut self) {
        *self = ReadSession::default();
    }
}

impl<'a> Batches<'a> {
    /// What a chunk holds.
    #[cfg(feature = "cluster")]
    pub(crate) fn of(chunk: &'a Chunk) -> Batches<'a> {
        Batches(chunk)
    }

    /// All lines, as they stand in the file.
    pub fn bytes(self) -> &'a [u8] {
        self.0.bytes()
    }

    /// How many batches there are.
    pub fn len(self) -> usize {
        self.0.batches.len()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0.batches.is_empty()
    }

    /// The batches.
    pub fn iter(self) -> impl ExactSizeIterator<Item = ReadBatch<'a>> {
        self.0.batches.iter().map(move |batch| ReadBatch { chunk: self.0, batch })
    }

    /// Whether anything of a transaction is among them. Only then can something aborted be.
    pub fn have_transactions(self) -> bool {
        self.iter().any(|batch| batch.is_transactional() || batch.is_control())
    }

    /// The records of all batches from the first at or after `offset` on.
    pub fn records_from(self, offset: u64) -> impl Iterator<Item = std::result::Result<Line<'a>, Malformed>> {
        self.0.records_from(offset)
    }

    /// The offset to read on at; `None`: the read began at the reader's end. Where compaction left nothing up to there, or
    /// nothing that was read is for the reader, there is one, and no batch.
    pub fn next_offset(self) -> Option<u64> {
        self.0.next_offset()
    }
}

impl<'a> ReadBatch<'a> {
    /// Offset of its first record, as it was appended.
    pub fn first(self) -> u64 {
        self.batch.first
    }

    /// Offset of its last record, as it was appended.
    pub fn last(self) -> u64 {
        self.batch.last()
    }

    /// How many lines it has.
    pub fn count(self) -> u32 {
        self.batch.entry.count
    }

    /// Bytes of its lines.
    pub fn bytes(self) -> usize {
        self.batch.lines.len()
    }

    /// Its lines.
    pub fn lines(self) -> Lines<'a> {
        self.chunk.lines_of(self.batch)
    }

    /// Its lines from the first record at or after `offset` on.
    pub fn lines_from(self, offset: u64) -> Lines<'a> {
        self.chunk.lines_from(self.batch, offset)
    }

    /// Its time in ms: its first record's, or when it was appended.
    pub fn timestamp(self) -> i64 {
        self.batch.entry.timestamp
    }

    /// Whether a line without a time has that of the line before it, and not its batch's.
    pub fn has_running_times(self) -> bool {
        self.has(Flags::RUNNING_TIMES)
    }

    /// Whether its records bear the time of their append.
    pub fn has_append_time(self) -> bool {
        self.has(Flags::APPEND_TIME)
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(self) -> bool {
        self.has(Flags::TRANSACTIONAL)
    }

    /// Whether its line is a transaction marker.
    pub fn is_control(self) -> bool {
        self.has(Flags::CONTROL)
    }

    /// The number of the codec in which it came, as in a Kafka batch's attributes; 0: none.
    pub fn codec(self) -> u8 {
        self.batch.entry.flags.codec()
    }

    /// Whether it is one record and nothing else: no producer, no transaction, no clock of the broker's. Neighbours of this kind
    /// mean the same as one batch of their records.
    pub fn is_plain_record(self) -> bool {
        let entry = &self.batch.entry;
        let flags = entry.flags.without(Flags::DELETE_HORIZON | Flags::RUNNING_TIMES | Flags::CODEC | Flags::SO_FAR);
        entry.last_delta == 0 && entry.producer_id < 0 && flags == Flags::NONE
    }

    /// The producer's id, -1 if it has none.
    pub fn producer_id(self) -> i64 {
        self.batch.entry.producer_id
    }

    /// The producer's epoch, -1: none.
    pub fn producer_epoch(self) -> i16 {
        self.batch.entry.producer_epoch
    }

    /// The sequence of its first record, -1: none.
    pub fn base_sequence(self) -> i32 {
        if self.is_control() { -1 } else { self.batch.entry.base_sequence }
    }

    fn has(self, flag: Flags) -> bool {
        self.batch.entry.flags.has(flag)
    }
}

//! How the cluster's records are read: handles of topics and partitions, and a session that lends what it read. The names are
//! those of [the broker's](crate::broker::ReadSession).

use super::{Cluster, KnownTopic, Shared, place::Place, reader::Slot};
use crate::{
    broker::{
        Batches, Cursor, Error, Isolation, LineAt, Permit, Position, READ_AHEAD_BYTES, Registered, Result, TimedOffset,
        View, Waiter,
    },
    config::Settings,
    log::{Backlog, Chunk},
    security::Operation,
};
use std::{fmt, ops::Range, path::PathBuf, sync::Arc};

/// A topic that was found.
#[derive(Clone)]
pub struct TopicHandle {
    shared: Arc<Shared>,
    permit: Permit,
    found: Arc<KnownTopic>,
    name: Arc<str>,
    /// Its UUID, if it is to be read and a node told it.
    id: Option<[u8; 16]>,
}

/// A partition that was found.
#[derive(Clone)]
pub struct PartitionHandle {
    shared: Arc<Shared>,
    permit: Permit,
    place: Arc<Place>,
    /// The topic's UUID, if it is to be read and a node told it.
    id: Option<[u8; 16]>,
}

/// What somebody read last, and the client that reads for it.
pub struct ReadSession {
    shared: Arc<Shared>,
    slot: Option<Arc<Slot>>,
    chunk: Chunk,
    /// The partition that the chunk is of, and in which view.
    of: Option<(PartitionHandle, View)>,
    cursor: Cursor,
}

impl fmt::Debug for TopicHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TopicHandle").field(&self.name).finish()
    }
}

impl fmt::Debug for PartitionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PartitionHandle").field(&self.place.topic).field(&self.place.index).finish()
    }
}

impl fmt::Debug for ReadSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadSession").field("of", &self.of).finish_non_exhaustive()
    }
}

impl Cluster {
    /// A session of reading.
    pub fn read_session(&self) -> ReadSession {
        let shared = self.shared.clone();
        ReadSession { shared, slot: None, chunk: Chunk::default(), of: None, cursor: Cursor::default() }
    }

    /// A topic by name, to be read.
    pub fn find_topic(&self, name: &str) -> Result<TopicHandle> {
        let topic = self.find_topic_to(Operation::Read, name)?;
        // It is asked for now: later it may be another's.
        let id = self.shared.known.id(&topic.found);
        Ok(TopicHandle { id, ..topic })
    }

    /// A topic by name, to do this to it.
    pub fn find_topic_to(&self, operation: Operation, name: &str) -> Result<TopicHandle> {
        let permit = self.door.ask_topic(operation, name)?;
        let found = self.shared.known.topic(name)?;
        Ok(TopicHandle { shared: self.shared.clone(), permit, found, name: name.into(), id: None })
    }

    /// A partition by its topic's name and its number, to be read.
    pub fn find_partition(&self, topic: &str, partition: u32) -> Result<PartitionHandle> {
        self.find_topic(topic)?.partition(partition)
    }
}

impl TopicHandle {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The settings that this program goes by, with the cluster's bound of a record; the others the cluster has for itself.
    pub fn settings(&self) -> Arc<Settings> {
        let mut settings = self.shared.door.config().topic_defaults.clone();
        settings.max_message_bytes = u32::try_from(self.shared.record_bytes_max(&self.name)).unwrap_or(u32::MAX);
        Arc::new(settings)
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> u32 {
        self.now().partitions.len() as u32
    }

    /// One of its partitions.
    pub fn partition(&self, index: u32) -> Result<PartitionHandle> {
        self.shared.known.with_partition(self.now(), index)?;
        Ok(self.handle(index))
    }

    /// Its partitions in order.
    pub fn partitions(&self) -> Vec<PartitionHandle> {
        (0..self.partition_count()).map(|index| self.handle(index)).collect()
    }

    /// What is known of it; where it is gone, what was.
    fn now(&self) -> Arc<KnownTopic> {
        self.shared.known.topic(&self.name).unwrap_or_else(|_| self.found.clone())
    }

    fn handle(&self, index: u32) -> PartitionHandle {
        let handle = PartitionHandle::new(&self.shared, self.permit.clone(), self.name.clone(), index);
        PartitionHandle { id: self.id, ..handle }
    }
}

impl PartitionHandle {
    pub(super) fn new(shared: &Arc<Shared>, permit: Permit, topic: Arc<str>, index: u32) -> PartitionHandle {
        PartitionHandle { shared: shared.clone(), permit, place: Arc::new(Place::new(topic, index)), id: None }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.place.topic
    }

    /// Its number.
    pub fn index(&self) -> u32 {
        self.place.index
    }

    /// Offset of the first record.
    pub fn start(&self) -> Result<u64> {
        self.shared.start(self.topic(), self.index())
    }

    /// Offset behind the last record that readers see.
    pub fn high_watermark(&self) -> Result<u64> {
        self.end(Isolation::ReadUncommitted)
    }

    /// Offset behind the last record that a reader may see.
    pub fn end(&self, isolation: Isolation) -> Result<u64> {
        self.shared.end(self.topic(), self.index(), isolation)
    }

    /// Nobody tells how much stands there: nothing is counted.
    pub fn backlog(&self, _: Isolation, _: u64, _: u64) -> Result<Backlog> {
        Ok(Backlog::default())
    }

    /// An error if the topic was dropped, though there is another of its name, or its finder may no more do what it wanted.
    pub fn still_there(&self) -> Result<()> {
        self.permit.check()?;
        let known = &self.shared.known;
        let now = known.topic(self.topic())?;
        let is_another = |id| known.id(&now).is_some_and(|now| now != id);
        if self.id.is_some_and(is_another) { Err(Error::UnknownTopic(self.topic().into())) } else { Ok(()) }
    }

    /// Wakes `waiter` for new records, once a session has read at the partition's end by this handle, until the answer is
    /// dropped.
    pub fn register(&self, waiter: &Arc<Waiter>) -> Registered<'_> {
        self.place.waiters.register(waiter)
    }

    /// The offset that a position means now.
    pub(super) fn resolve(&self, isolation: Isolation, position: Position) -> Result<u64> {
        self.permit.check()?;
        let (topic, index) = (self.topic(), self.index());
        let ends = |isolation| self.shared.ends(topic, index, isolation);
        match position {
            Position::Earliest => self.start(),
            Position::Latest => self.end(isolation),
            Position::BeforeEnd(count) => {
                let ends = ends(isolation)?;
                Ok(ends.end.saturating_sub(count).max(ends.start))
            }
            Position::At(offset) => {
                let ends = ends(Isolation::ReadUncommitted)?;
                match (ends.start..=ends.end).contains(&offset) {
                    true => Ok(offset),
                    false => Err(Error::OffsetOutOfRange { first: ends.start, end: ends.end }),
                }
            }
            Position::Time(ms) => match self.shared.offset_at(topic, index, isolation, ms)? {
                Some(offset) => Ok(offset),
                None => self.end(isolation),
            },
        }
    }
}

/// Whether they are the same find.
impl PartialEq for PartitionHandle {
    fn eq(&self, other: &PartitionHandle) -> bool {
        Arc::ptr_eq(&self.place, &other.place)
    }
}

impl ReadSession {
    /// Reads batches from the one with `offset` on: one at least (none at the reader's end), more while they fit `bytes_max`. A
    /// batch is a run of records without a hole, and of one time.
    pub fn read(&mut self, view: View, from: &PartitionHandle, offset: u64, bytes_max: usize) -> Result<Batches<'_>> {
        self.of = Some((from.clone(), view));
        self.cursor = Cursor::default();
        self.chunk.clear();
        let filled = self.fill(view.isolation, from, offset, bytes_max);
        // Asked behind it: what was written after a rule took effect is not for whom it forbids.
        from.permit.check_for(Operation::Read)?;
        filled?;
        self.shared.door.metrics().dropped.read(self.chunk.records(), self.chunk.bytes().len() as u64);
        Ok(Batches::of(&self.chunk))
    }

    fn fill(&mut self, isolation: Isolation, from: &PartitionHandle, offset: u64, bytes_max: usize) -> Result<()> {
        loop {
            // One that reads otherwise is for others.
            if let Some(other) = self.slot.take_if(|slot| slot.isolation() != isolation) {
                other.free();
            }
            let slot = match &self.slot {
                Some(slot) => slot.clone(),
                None => self.slot.insert(self.shared.reader(isolation)?).clone(),
            };
            if let Some(reader) = &mut *slot.lock() {
                return reader.read(&self.shared, &from.place, offset, bytes_max, &mut self.chunk);
            }
            // It was idle, and is given back.
            self.slot = None;
        }
    }

    /// What the last read gave.
    pub fn batches(&self) -> Batches<'_> {
        Batches::of(&self.chunk)
    }

    /// The first record at or after `offset`; `None` at the reader's end. Records that follow one another are read ahead
    /// together.
    pub fn record_at(
        &mut self,
        isolation: Isolation,
        from: &PartitionHandle,
        mut offset: u64,
    ) -> Result<Option<LineAt<'_>>> {
        from.permit.check_for(Operation::Read)?;
        let view = View::records(isolation);
        loop {
            let is_of = self.of.as_ref().is_some_and(|(of, viewed)| of == from && *viewed == view);
            if !is_of || !self.chunk.covers(offset) {
                self.read(view, from, offset, READ_AHEAD_BYTES)?;
            }
            let Some(behind) = self.chunk.next_offset() else { return Ok(None) };
            if let Some((offset, place)) = self.cursor.find(&self.chunk, offset) {
                return Ok(Some(LineAt { offset, text: &self.chunk.bytes()[place] }));
            }
            offset = behind;
        }
    }

    /// The offset that a position means now to a reader of records. A number out of range is refused.
    pub fn resolve(&mut self, isolation: Isolation, position: Position, of: &PartitionHandle) -> Result<u64> {
        of.resolve(isolation, position)
    }

    /// What the reader sees first whose time is at or after `time`.
    pub fn record_since(&mut self, view: View, of: &PartitionHandle, time: i64) -> Result<Option<TimedOffset>> {
        let offset = of.resolve(view.isolation, Position::Time(time))?;
        let found = self.read(view, of, offset, 1)?.records_from(offset).flatten().next();
        Ok(found.map(|line| TimedOffset { offset: line.offset, timestamp: line.timestamp }))
    }

    /// No file here has what was read.
    pub fn place(&self) -> Option<(PathBuf, Range<u32>)> {
        None
    }

    /// Forgets what was read, and keeps the buffer.
    pub fn clear(&mut self) {
        self.chunk.clear();
        self.of = None;
    }

    /// Frees the buffer: a client that waits, as thousands may at once, needs none. What it reads by is given back when it was
    /// idle for some time.
    pub fn free(&mut self) {
        (self.chunk, self.of, self.cursor) = (Chunk::default(), None, Cursor::default());
    }
}

impl Drop for ReadSession {
    fn drop(&mut self) {
        self.slot.iter().for_each(|slot| slot.free());
    }
}

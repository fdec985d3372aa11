//! Producers and consumers of a broker in this process: no socket, no thread, the same records.
//!
//! ```text
//!   Producer ── Desk  ──► Partition::write, settle        records gathered by partition, written together
//!   Consumer ── Shelf ──► Partition::read                 partitions by turns, from this thread
//! ```
//!
//! - What would be refused over the network is refused here, with the same code and sentence.
//! - A poll that waits does so on the partitions' own waiters, and looks up every [`SLICE`] for who wakes it.

use super::{
    Ack, Error, Message, Position, Record, Refused,
    member::{EmbeddedSeat, Seat},
    membership::SLICE,
    outbox::Outcome,
    record::read_lines,
    source::Source,
};
use crate::{
    broker::{self, Broker, Partition, Terms, Waiter, choose, random},
    log::{Appended, Chunk, record::Records},
};
use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::*},
    },
    time::{Duration, Instant},
    vec,
};

/// What stands for an address.
pub(super) const ADDRESS: &str = "this process";

/// So many bytes are gathered before they are written.
const GATHERED_BYTES_MAX: usize = 1 << 20;

/// Bytes of lines that are read at once.
const READ_BYTES: usize = 1 << 20;

/// Records on their way into the log.
#[derive(Debug)]
pub(super) struct Desk {
    broker: Broker,
    batches: Vec<Batch>,
    /// What becomes of each record, with its tag.
    waiting: Vec<(u64, Taken)>,
    bytes: usize,
    /// Where records without a key go, until what was gathered is written.
    sticky: u64,
    outcomes: Vec<Outcome>,
}

/// A record's batch and its place there, or why it was refused.
type Taken = Result<(usize, usize), Refused>;

#[derive(Debug)]
struct Batch {
    partition: Arc<Partition>,
    records: Records<'static>,
}

impl Desk {
    pub(super) fn new(broker: &Broker) -> Desk {
        let (batches, waiting, outcomes) = (Vec::new(), Vec::new(), Vec::new());
        Desk { broker: broker.clone(), batches, waiting, bytes: 0, sticky: random::number(), outcomes }
    }

    /// Takes a record; writes when enough has gathered.
    pub(super) fn push(&mut self, topic: &str, record: &Record, tag: u64) {
        let taken = self.take(topic, record).map_err(Refused::from);
        self.waiting.push((tag, taken));
        if self.bytes >= GATHERED_BYTES_MAX {
            self.settle();
        }
    }

    fn take(&mut self, topic: &str, record: &Record) -> broker::Result<(usize, usize)> {
        broker::writable(topic)?;
        let topic = self.broker.topic_or_create(topic)?;
        let index = choose(record.partition, record.key.as_deref(), self.sticky, topic.partition_count());
        let partition = topic.partition(index)?;
        let mut one = Records::default();
        let owned = |bytes: &Vec<u8>| Cow::Owned(bytes.clone());
        one.push(record.timestamp, record.key.as_ref().map(owned), record.value.as_ref().map(owned));
        record.headers.iter().for_each(|(name, value)| one.header(name.clone(), value.clone()));
        let bytes = one.size_of(one.get(0).expect("pushed above"));
        topic.settings().check(record.key.as_deref(), bytes)?;
        self.bytes += bytes;
        let found = self.batches.iter().position(|batch| Arc::ptr_eq(&batch.partition, &partition));
        let at = found.unwrap_or_else(|| {
            self.batches.push(Batch { partition, records: Records::default() });
            self.batches.len() - 1
        });
        let records = &mut self.batches[at].records;
        records.take_last(&mut one);
        Ok((at, records.len() - 1))
    }

    /// Writes what was gathered: all batches, then all are settled.
    pub(super) fn settle(&mut self) {
        let batches = std::mem::take(&mut self.batches);
        let write = |batch: &Batch| batch.partition.write(&batch.records, Terms::default());
        let written: Vec<broker::Result<Appended>> = batches.iter().map(write).collect();
        let settle = |(batch, written): (&Batch, broker::Result<Appended>)| {
            written.and_then(|appended| batch.partition.settle(&appended).map(|()| appended))
        };
        let settled: Vec<_> = batches.iter().zip(written).map(settle).collect();
        for (tag, taken) in self.waiting.drain(..) {
            let outcome = taken.and_then(|(batch, record)| {
                let appended = settled[batch].as_ref().map_err(Clone::clone)?;
                let offset = appended.offset_of(record as u64).map_err(broker::Error::from)?;
                Ok(Ack { partition: batches[batch].partition.index, offset })
            });
            self.outcomes.push((tag, outcome));
        }
        (self.bytes, self.sticky) = (0, random::number());
    }

    /// The outcomes since the last call, in the order of the records.
    pub(super) fn outcomes(&mut self) -> vec::Drain<'_, Outcome> {
        self.outcomes.drain(..)
    }
}

/// The partitions that a consumer of no group reads.
#[derive(Debug)]
pub(super) struct Shelf {
    broker: Broker,
    wanted: Vec<Wanted>,
    readings: Vec<Reading>,
    /// The reading whose turn it is.
    turn: usize,
    chunk: Chunk,
    ready: vec::IntoIter<Message>,
    woken: Arc<AtomicBool>,
}

/// A topic, or one partition of it; `known` partitions of the topic are read or passed over, 0 while it is not there.
#[derive(Debug)]
struct Wanted {
    topic: Arc<str>,
    only: Option<u32>,
    known: u32,
}

#[derive(Debug)]
struct Reading {
    topic: Arc<str>,
    partition: Arc<Partition>,
    position: u64,
    /// Whether it was read up to the position; otherwise the caller named it.
    has_read: bool,
}

impl Shelf {
    pub(super) fn new(broker: &Broker) -> Shelf {
        Shelf {
            broker: broker.clone(),
            wanted: Vec::new(),
            readings: Vec::new(),
            turn: 0,
            chunk: Chunk::default(),
            ready: Vec::new().into_iter(),
            woken: Arc::default(),
        }
    }

    fn want(&mut self, topic: &str, only: Option<u32>, start: Position) -> Result<(), Error> {
        broker::check_name(topic)?;
        if let (Some(index), Ok(topic)) = (only, self.broker.topic(topic)) {
            topic.partition(index)?;
        }
        let mut wanted = Wanted { topic: topic.into(), only, known: 0 };
        self.take_up(&mut wanted, start)?;
        self.wanted.push(wanted);
        Ok(())
    }

    /// Takes up the partitions that it does not know of.
    fn take_up(&mut self, wanted: &mut Wanted, start: Position) -> Result<(), Error> {
        let Ok(topic) = self.broker.topic(&wanted.topic) else { return Ok(()) };
        let partitions = topic.partitions();
        let new = partitions.iter().skip(wanted.known as usize);
        let new = new.filter(|partition| wanted.only.is_none_or(|only| only == partition.index));
        let reading = |partition: &Arc<Partition>| {
            let position = broker::Position::from(start).resolve(partition, &mut self.chunk)?;
            Ok(Reading { topic: wanted.topic.clone(), partition: partition.clone(), position, has_read: false })
        };
        // All or none: after an error they are taken up again.
        let new = new.map(reading).collect::<Result<Vec<_>, Error>>()?;
        self.readings.extend(new);
        wanted.known = partitions.len() as u32;
        Ok(())
    }

    /// Looks for topics that were made and partitions that were added; they are read from their first record.
    fn look(&mut self) -> Result<(), Error> {
        let mut wanted = std::mem::take(&mut self.wanted);
        let looked = wanted.iter_mut().try_for_each(|one| self.take_up(one, Position::Earliest));
        self.wanted = wanted;
        looked
    }

    /// Reads from the partition whose turn it is and that has something.
    fn read(&mut self) -> Result<Vec<Message>, Error> {
        let mut messages = Vec::new();
        for _ in 0..self.readings.len() {
            self.turn = (self.turn + 1) % self.readings.len();
            let Reading { topic, partition, position, has_read } = &mut self.readings[self.turn];
            if let Err(error) = partition.read(*position, READ_BYTES, &mut self.chunk) {
                return Err(self.failed(error));
            }
            for batch in &self.chunk.batches {
                let lines = self.chunk.lines_from(batch, *position);
                read_lines(topic, partition.index, lines, batch.entry.timestamp, &mut messages)?;
            }
            if let Some(next) = self.chunk.next_offset() {
                (*position, *has_read) = (next, true);
            }
            if !messages.is_empty() {
                break;
            }
        }
        Ok(messages)
    }

    /// Goes on behind what is gone or damaged, and waits for a topic that was dropped. Where the caller named an offset that is
    /// yet to come, it goes on at the end.
    fn failed(&mut self, error: broker::Error) -> Error {
        let reading = &mut self.readings[self.turn];
        let next = match error {
            broker::Error::OffsetOutOfRange { end, .. } if reading.position > end && !reading.has_read => end,
            broker::Error::OffsetOutOfRange { first, .. } => first,
            broker::Error::Corrupt { next, .. } => next,
            broker::Error::UnknownTopic(_) => {
                let topic = reading.topic.clone();
                self.readings.retain(|reading| reading.topic != topic);
                self.wanted.iter_mut().filter(|wanted| wanted.topic == topic).for_each(|wanted| wanted.known = 0);
                self.turn = 0;
                return error.into();
            }
            error => return error.into(),
        };
        let wanted = std::mem::replace(&mut reading.position, next);
        let (topic, partition) = (reading.topic.to_string(), reading.partition.index);
        Error::Skipped { topic, partition, wanted, next, reason: error.into() }
    }

    /// Waits until there may be something.
    fn wait(&self, deadline: Option<Instant>) {
        let waiter = Waiter::new();
        let _topics = self.broker.register(&waiter);
        let _partitions: Vec<_> = self.readings.iter().map(|reading| reading.partition.register(&waiter)).collect();
        let is_new = |wanted: &Wanted| {
            self.broker.topic(&wanted.topic).is_ok_and(|topic| topic.partition_count() > wanted.known)
        };
        if !self.readings.iter().any(Reading::has_more) && !self.wanted.iter().any(is_new) {
            let slice = Instant::now() + SLICE;
            waiter.wait(Some(deadline.map_or(slice, |deadline| deadline.min(slice))));
        }
    }
}

impl Reading {
    /// Whether reading answers something; an error is something.
    fn has_more(&self) -> bool {
        !self.partition.high_watermark().is_ok_and(|end| end == self.position)
    }
}

impl Source for Shelf {
    fn set_retry_for(&mut self, _: Duration) {}

    fn subscribe(&mut self, topic: &str, start: Position) -> Result<(), Error> {
        self.want(topic, None, start)
    }

    fn assign(&mut self, topic: &str, partition: u32, start: Position) -> Result<(), Error> {
        self.want(topic, Some(partition), start)
    }

    fn poll(&mut self, timeout: Duration, max: usize) -> Result<Vec<Message>, Error> {
        let deadline = Instant::now().checked_add(timeout);
        while self.ready.len() == 0 {
            self.look()?;
            self.ready = self.read()?.into_iter();
            let over = deadline.is_some_and(|deadline| deadline <= Instant::now());
            if self.ready.len() > 0 || over || self.woken.swap(false, AcqRel) {
                break;
            }
            self.wait(deadline);
        }
        Ok(self.ready.by_ref().take(max).collect())
    }

    fn seek(&mut self, topic: &str, partition: u32, offset: u64) -> Result<(), Error> {
        let mut readings = self.readings.iter_mut();
        let reading = readings.find(|one| &*one.topic == topic && one.partition.index == partition);
        let not_read = || Error::Invalid(format!("{topic}/{partition} is not being read"));
        let reading = reading.ok_or_else(not_read)?;
        (reading.position, reading.has_read) = (offset, false);
        let kept = self.ready.by_ref().filter(|message| &*message.topic != topic || message.partition != partition);
        self.ready = kept.collect::<Vec<_>>().into_iter();
        Ok(())
    }

    fn address(&self) -> &str {
        ADDRESS
    }

    fn missing(&self) -> Vec<&str> {
        self.wanted.iter().filter(|wanted| wanted.known == 0).map(|wanted| &*wanted.topic).collect()
    }

    fn partitions(&self) -> usize {
        self.readings.len()
    }

    fn at_end(&self) -> bool {
        self.ready.len() == 0 && self.missing().is_empty() && !self.readings.iter().any(Reading::has_more)
    }

    fn waker(&self) -> Box<dyn Fn() + Send> {
        let woken = self.woken.clone();
        Box::new(move || woken.store(true, Release))
    }

    fn into_seat(self: Box<Self>) -> Box<dyn Seat> {
        Box::new(EmbeddedSeat::new(self.broker))
    }
}

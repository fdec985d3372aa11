//! A consumer of a broker in this process. It reads its partitions in turn, in the caller's thread.
//!
//! A waiting poll is woken by new records. Every [`SLICE`] it also looks whether its waker has ended it.

use super::{
    Position,
    source::{SLICE, Source},
};
use crate::{
    backend::{Backend, PartitionHandle, ReadSession},
    broker::{self, Isolation, Registered, View, Waiter},
    client::{
        Error, Message,
        endpoint::{Endpoint, IN_PROCESS},
        record::read_lines,
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::*},
    },
    time::{Duration, Instant},
    vec,
};

/// Bytes of lines that are read at once, unless it is said otherwise.
const READ_BYTES: usize = 1 << 20;

/// A consumer without a group.
#[derive(Debug)]
pub(in crate::client) struct EmbeddedConsumer {
    broker: Backend,
    isolation: Isolation,
    wanted: Vec<Wanted>,
    readings: Vec<Reading>,
    /// The reading whose turn it is.
    turn: usize,
    read: ReadSession,
    read_bytes: usize,
    ready: vec::IntoIter<Message>,
    woken: Arc<AtomicBool>,
}

/// A topic, or one partition of it. `known` is how many partitions the topic had when it was last looked at, 0 before it
/// was there.
#[derive(Debug)]
struct Wanted {
    topic: Arc<str>,
    only: Option<u32>,
    known: u32,
}

#[derive(Debug)]
struct Reading {
    topic: Arc<str>,
    partition: PartitionHandle,
    position: u64,
    /// Whether it was read up to the position; otherwise the caller named it.
    has_read: bool,
}

impl EmbeddedConsumer {
    pub(in crate::client) fn new(broker: Backend) -> EmbeddedConsumer {
        EmbeddedConsumer {
            isolation: Isolation::ReadCommitted,
            wanted: Vec::new(),
            readings: Vec::new(),
            turn: 0,
            read: broker.read_session(),
            broker,
            read_bytes: READ_BYTES,
            ready: Vec::new().into_iter(),
            woken: Arc::default(),
        }
    }

    /// How many bytes of lines are read at once.
    #[cfg(feature = "streams")]
    pub(in crate::client) fn set_read_bytes(&mut self, bytes: usize) {
        self.read_bytes = bytes;
    }

    fn want(&mut self, topic: &str, only: Option<u32>, start: Position) -> Result<(), Error> {
        broker::check_name(topic)?;
        if let (Some(index), Ok(topic)) = (only, self.broker.find_topic(topic)) {
            topic.partition(index)?;
        }
        let mut wanted = Wanted { topic: topic.into(), only, known: 0 };
        self.take_up(&mut wanted, start)?;
        self.wanted.push(wanted);
        Ok(())
    }

    /// Begins to read the partitions that are new.
    fn take_up(&mut self, wanted: &mut Wanted, start: Position) -> Result<(), Error> {
        let Ok(topic) = self.broker.find_topic(&wanted.topic) else { return Ok(()) };
        let partitions = topic.partitions();
        let new = partitions.iter().skip(wanted.known as usize);
        let new = new.filter(|partition| wanted.only.is_none_or(|only| only == partition.index()));
        let reading = |partition: &PartitionHandle| {
            let position = self.read.resolve(self.isolation, start.into(), partition)?;
            Ok(Reading { topic: wanted.topic.clone(), partition: partition.clone(), position, has_read: false })
        };
        // All or none: after an error the next look begins to read them.
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
            let batches = match self.read.read(View::records(self.isolation), partition, *position, self.read_bytes) {
                Ok(batches) => batches,
                Err(error) => return Err(self.failed(error)),
            };
            for batch in batches.iter() {
                read_lines(topic, partition.index(), batch.lines_from(*position), &mut messages)?;
            }
            if let Some(next) = batches.next_offset() {
                (*position, *has_read) = (next, true);
            }
            if !messages.is_empty() {
                break;
            }
        }
        Ok(messages)
    }

    /// Goes on behind what is gone or damaged, and waits for a topic that was dropped. An offset that the caller named and
    /// that is beyond the end becomes the end.
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
        let (topic, partition) = (reading.topic.to_string(), reading.partition.index());
        Error::Skipped { topic, partition, wanted, next, reason: error.into() }
    }

    /// Whom new records of its partitions wake, until the answer is dropped.
    pub(in crate::client) fn register(&self, waiter: &Arc<Waiter>) -> Vec<Registered<'_>> {
        self.readings.iter().map(|reading| reading.partition.register(waiter)).collect()
    }

    pub(in crate::client) fn has_more(&self) -> bool {
        self.readings.iter().any(|reading| reading.has_more(self.isolation))
    }

    /// Waits until there may be something to read.
    fn wait(&self, deadline: Option<Instant>) {
        let waiter = Waiter::new();
        let _topics = self.broker.register(&waiter);
        let _partitions = self.register(&waiter);
        let is_new = |wanted: &Wanted| {
            self.broker.find_topic(&wanted.topic).is_ok_and(|topic| topic.partition_count() > wanted.known)
        };
        if !self.has_more() && !self.wanted.iter().any(is_new) {
            let slice = Instant::now() + SLICE;
            waiter.wait(Some(deadline.map_or(slice, |deadline| deadline.min(slice))));
        }
    }
}

impl Reading {
    /// Whether reading answers something; an error is something.
    fn has_more(&self, isolation: Isolation) -> bool {
        let nothing = |end| (end..=self.partition.high_watermark().unwrap_or(end)).contains(&self.position);
        !self.partition.end(isolation).is_ok_and(nothing)
    }
}

impl Source for EmbeddedConsumer {
    fn set_retry_for(&mut self, _: Duration) {}

    fn set_isolation(&mut self, isolation: Isolation) {
        self.isolation = isolation;
    }

    fn subscribe(&mut self, topic: &str, start: Position) -> Result<(), Error> {
        self.want(topic, None, start)
    }

    fn assign(&mut self, topic: &str, partition: u32, start: Position) -> Result<(), Error> {
        self.want(topic, Some(partition), start)
    }

    fn poll(&mut self, timeout: Duration, max: usize) -> Result<Vec<Message>, Error> {
        let deadline = Instant::now().checked_add(timeout);
        let was_at_end = self.at_end();
        while self.ready.len() == 0 {
            self.look()?;
            self.ready = self.read()?.into_iter();
            let over = deadline.is_some_and(|deadline| deadline <= Instant::now());
            // All that was left may have been aborted.
            let has_come_to_end = !was_at_end && self.at_end();
            if self.ready.len() > 0 || over || has_come_to_end || self.woken.swap(false, AcqRel) {
                break;
            }
            self.wait(deadline);
        }
        Ok(self.ready.by_ref().take(max).collect())
    }

    fn seek(&mut self, topic: &str, partition: u32, offset: u64) -> Result<(), Error> {
        let mut readings = self.readings.iter_mut();
        let reading = readings.find(|one| &*one.topic == topic && one.partition.index() == partition);
        let not_read = || Error::Invalid(format!("{topic}/{partition} is not being read"));
        let reading = reading.ok_or_else(not_read)?;
        (reading.position, reading.has_read) = (offset, false);
        let kept = self.ready.by_ref().filter(|message| &*message.topic != topic || message.partition != partition);
        self.ready = kept.collect::<Vec<_>>().into_iter();
        Ok(())
    }

    fn address(&self) -> &str {
        IN_PROCESS
    }

    fn missing(&self) -> Vec<&str> {
        self.wanted.iter().filter(|wanted| wanted.known == 0).map(|wanted| &*wanted.topic).collect()
    }

    fn partitions(&self) -> usize {
        self.readings.len()
    }

    fn at_end(&self) -> bool {
        self.ready.len() == 0 && self.missing().is_empty() && !self.has_more()
    }

    fn waker(&self) -> Box<dyn Fn() + Send> {
        let woken = self.woken.clone();
        Box::new(move || woken.store(true, Release))
    }

    fn into_endpoint(self: Box<Self>) -> Endpoint {
        Endpoint::Embedded(self.broker)
    }
}

//! Partitions that are read one by one: who reads decides which of them it takes from next, and waits for any of them.

use super::Site;
use crate::{
    broker::{Isolation, Waiter},
    client::{
        Error, Message, Position,
        consuming::{
            embedded::EmbeddedConsumer,
            fetcher::{Event, Fetcher, Task},
            source::Source,
        },
        endpoint::RETRY_FOR,
    },
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{self, Receiver, TryRecvError},
    },
    time::{Duration, Instant},
};

/// How many answers of a partition are read ahead,
const READ_AHEAD: usize = 2;

/// and how many bytes of lines each has, at least one record. Records take several times as much memory as their lines.
const ANSWER_BYTES: usize = 64 << 10;

/// How many records are taken from a partition of a broker in this process at once.
const TAKEN_AT_ONCE: usize = 1000;

/// A topic and the number of one of its partitions.
pub(crate) type Key = (Arc<str>, u32);

/// The partitions that one thread reads.
#[derive(Debug)]
pub(crate) struct Inputs {
    site: Site,
    waiter: Arc<Waiter>,
    partitions: BTreeMap<Key, Input>,
    fetchers_started: u64,
}

/// What has come from a partition.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Records, in order.
    pub(crate) messages: Vec<Message>,
    /// Whether they reach the end of the partition.
    pub(crate) at_end: bool,
}

#[derive(Debug)]
enum Input {
    /// Dropped, it ends its thread.
    Network { _fetcher: Fetcher, events: Receiver<Event> },
    /// `told`: that it is at its end is known.
    Embedded { consumer: Box<EmbeddedConsumer>, told: bool },
}

impl Inputs {
    /// None yet. All is to be done by the thread that calls this.
    pub(crate) fn new(site: &Site) -> Inputs {
        Inputs { site: site.clone(), waiter: Waiter::new(), partitions: BTreeMap::new(), fetchers_started: 0 }
    }

    /// What ends a [`wait`](Self::wait) of this thread's from another one.
    pub(crate) fn waiter(&self) -> &Arc<Waiter> {
        &self.waiter
    }

    /// Begins to read a partition, or goes on elsewhere in it.
    pub(crate) fn open(&mut self, key: &Key, position: Position) -> Result<(), Error> {
        let (topic, partition) = key;
        let isolation = Isolation::ReadCommitted;
        let input = match &self.site {
            Site::Network(target) => {
                let (events, arriving) = mpsc::sync_channel(READ_AHEAD);
                self.fetchers_started += 1;
                let task = Task {
                    id: self.fetchers_started,
                    target: target.clone(),
                    topic: topic.clone(),
                    partition: *partition,
                    position,
                    isolation,
                    answer_bytes: ANSWER_BYTES,
                    partitions_known: None,
                    retry_for: RETRY_FOR,
                    events,
                    waiter: Some(self.waiter.clone()),
                };
                let fetcher = Fetcher::start(task, None)
                    .map_err(|cause| Error::Connection { address: target.address().into(), cause })?;
                Input::Network { _fetcher: fetcher, events: arriving }
            }
            Site::Embedded(broker) => {
                let mut consumer = EmbeddedConsumer::new(broker.into());
                consumer.set_isolation(isolation);
                consumer.set_read_bytes(ANSWER_BYTES);
                consumer.assign(topic, *partition, position)?;
                Input::Embedded { consumer: consumer.into(), told: false }
            }
        };
        self.partitions.insert(key.clone(), input);
        Ok(())
    }

    /// Reads a partition no more.
    pub(crate) fn close(&mut self, key: &Key) {
        self.partitions.remove(key);
    }

    /// What has come from a partition since, if anything. An error is told once, and does not end the reading.
    pub(crate) fn take(&mut self, key: &Key) -> Result<Option<Arrival>, Error> {
        match self.partitions.get_mut(key) {
            None => Ok(None),
            Some(Input::Network { events, .. }) => match events.try_recv() {
                Ok(Event::Read { messages, at_end, .. }) => Ok(Some(Arrival { messages, at_end })),
                Ok(Event::Failed { error, .. }) => Err(error),
                Ok(Event::Partitions { .. } | Event::Woken) | Err(TryRecvError::Empty) => Ok(None),
                Err(TryRecvError::Disconnected) => {
                    let (topic, partition) = key;
                    Err(Error::Answer(format!("the reading of {topic}/{partition} has ended")))
                }
            },
            Some(Input::Embedded { consumer, told }) => {
                let messages = consumer.poll(Duration::ZERO, TAKEN_AT_ONCE)?;
                let at_end = consumer.at_end();
                let is_news = !messages.is_empty() || at_end != *told;
                *told = at_end;
                Ok(is_news.then_some(Arrival { messages, at_end }))
            }
        }
    }

    /// Waits until something may have come, somebody woke the waiter, or it is `deadline`.
    pub(crate) fn wait(&self, deadline: Instant) {
        let embedded = self.partitions.values().filter_map(|input| match input {
            Input::Embedded { consumer, .. } => Some(consumer),
            Input::Network { .. } => None,
        });
        let _registered: Vec<_> = embedded.clone().flat_map(|consumer| consumer.register(&self.waiter)).collect();
        if !embedded.clone().any(|consumer| consumer.has_more()) {
            self.waiter.wait(Some(deadline));
        }
    }
}

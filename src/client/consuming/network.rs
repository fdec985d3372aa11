//! A consumer without a group, over the network: a fetcher for each partition, and one channel that they fill.

use super::{
    Position,
    fetcher::{ANSWER_BYTES, Event, Fetcher, Task},
    source::Source,
};
use crate::{
    broker::Isolation,
    client::{
        Connection, Error, Message, Target,
        endpoint::{Endpoint, connect_within},
    },
};
use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender},
    },
    time::{Duration, Instant},
    vec,
};

/// How many answers are read ahead, whatever the number of partitions: while one is handed out, the next is here.
const READ_AHEAD: usize = 2;

/// A consumer without a group, and its fetchers.
#[derive(Debug)]
pub(super) struct NetworkConsumer {
    target: Target,
    retry_for: Duration,
    isolation: Isolation,
    /// For questions; the first fetcher takes it over.
    control: Option<Connection>,
    reading: Vec<Reading>,
    missing: Vec<Arc<str>>,
    ready: vec::IntoIter<Message>,
    fetchers_started: u64,
    told_of_outage: Option<Instant>,
    events: Receiver<Event>,
    sender: SyncSender<Event>,
}

/// A partition that is read.
#[derive(Debug)]
struct Reading {
    topic: Arc<str>,
    partition: u32,
    /// It was read to its end at least once.
    at_end: bool,
    fetcher: Fetcher,
}

impl NetworkConsumer {
    /// Connects to a broker that may have to be waited for.
    pub(super) fn connect_within(target: &Target, retry_for: Duration) -> Result<NetworkConsumer, Error> {
        let control = connect_within(target, retry_for)?;
        let (sender, events) = mpsc::sync_channel(READ_AHEAD);
        Ok(NetworkConsumer {
            target: control.target().clone(),
            retry_for,
            isolation: Isolation::ReadCommitted,
            control: Some(control),
            reading: Vec::new(),
            missing: Vec::new(),
            ready: Vec::new().into_iter(),
            fetchers_started: 0,
            told_of_outage: None,
            events,
            sender,
        })
    }

    fn partitions_of(&mut self, topic: &str) -> Result<Option<u32>, Error> {
        let mut control = match self.control.take() {
            Some(control) => control,
            None => connect_within(&self.target, self.retry_for)?,
        };
        let partitions = control.partitions(topic)?;
        self.control = Some(control);
        Ok(partitions)
    }

    /// What is not there yet is read whole when it comes.
    fn start_of(&mut self, topic: &Arc<str>, partitions: Option<u32>, start: Position) -> Position {
        if partitions.is_some() {
            return start;
        }
        self.missing.push(topic.clone());
        Position::Earliest
    }

    fn read(
        &mut self,
        topic: &Arc<str>,
        partition: u32,
        position: Position,
        partitions_known: Option<u32>,
    ) -> Result<(), Error> {
        self.fetchers_started += 1;
        let task = Task {
            id: self.fetchers_started,
            target: self.target.clone(),
            topic: topic.clone(),
            partition,
            position,
            isolation: self.isolation,
            answer_bytes: ANSWER_BYTES,
            partitions_known,
            retry_for: self.retry_for,
            events: self.sender.clone(),
            waiter: None,
        };
        let fetcher = Fetcher::start(task, self.control.take())
            .map_err(|cause| Error::Connection { address: self.address().into(), cause })?;
        self.reading.push(Reading { topic: topic.clone(), partition, at_end: false, fetcher });
        Ok(())
    }

    /// Takes what a fetcher tells; answers whether poll should return.
    fn take(&mut self, event: Event) -> Result<bool, Error> {
        let (Event::Read { fetcher, .. } | Event::Partitions { fetcher, .. } | Event::Failed { fetcher, .. }) = event
        else {
            return Ok(true);
        };
        let Some(reading) = self.reading.iter_mut().find(|one| one.fetcher.id == fetcher) else { return Ok(false) };
        match event {
            Event::Read { messages, at_end, .. } => {
                reading.at_end |= at_end;
                self.missing.retain(|topic| *topic != reading.topic);
                self.ready = messages.into_iter();
                Ok(self.at_end())
            }
            Event::Partitions { count, .. } => {
                let topic = reading.topic.clone();
                let known = self.reading.iter().filter(|one| one.topic == topic).count() as u32;
                for partition in known..count {
                    self.read(&topic, partition, Position::Earliest, None)?;
                }
                Ok(false)
            }
            Event::Failed { error, .. } => self.failed(error).map(|()| false),
            Event::Woken => Ok(true),
        }
    }

    /// Every fetcher notices an outage; one word of it is enough.
    fn failed(&mut self, error: Error) -> Result<(), Error> {
        if let Error::Connection { .. } = error {
            let told_lately = self.told_of_outage.is_some_and(|told| told.elapsed() < self.retry_for / 2);
            if told_lately {
                return Ok(());
            }
            self.told_of_outage = Some(Instant::now());
        }
        Err(error)
    }
}

impl Source for NetworkConsumer {
    fn set_retry_for(&mut self, retry_for: Duration) {
        self.retry_for = retry_for;
    }

    fn set_isolation(&mut self, isolation: Isolation) {
        self.isolation = isolation;
    }

    fn subscribe(&mut self, topic: &str, start: Position) -> Result<(), Error> {
        let topic: Arc<str> = topic.into();
        let partitions = self.partitions_of(&topic)?;
        let start = self.start_of(&topic, partitions, start);
        let partitions = partitions.unwrap_or(1);
        for partition in 0..partitions {
            let scout = (partition == 0).then_some(partitions);
            self.read(&topic, partition, start, scout)?;
        }
        Ok(())
    }

    fn assign(&mut self, topic: &str, partition: u32, start: Position) -> Result<(), Error> {
        let partitions = self.partitions_of(topic)?;
        if let Some(partitions) = partitions.filter(|&partitions| partition >= partitions) {
            let why = format!("there is no partition {partition}: {topic} has {partitions}, counted from 0");
            return Err(Error::Invalid(why));
        }
        let topic: Arc<str> = topic.into();
        let start = self.start_of(&topic, partitions, start);
        self.read(&topic, partition, start, None)
    }

    fn poll(&mut self, timeout: Duration, max: usize) -> Result<Vec<Message>, Error> {
        let begun = Instant::now();
        while self.ready.len() == 0 {
            let Ok(event) = self.events.recv_timeout(timeout.saturating_sub(begun.elapsed())) else { break };
            if self.take(event)? {
                break;
            }
        }
        Ok(self.ready.by_ref().take(max).collect())
    }

    fn seek(&mut self, topic: &str, partition: u32, offset: u64) -> Result<(), Error> {
        let found = self.reading.iter().position(|one| &*one.topic == topic && one.partition == partition);
        let Some(at) = found else { return Err(Error::Invalid(format!("{topic}/{partition} is not being read"))) };
        let scout = (partition == 0).then(|| self.reading.iter().filter(|one| &*one.topic == topic).count() as u32);
        let old = self.reading.remove(at);
        let kept = self.ready.by_ref().filter(|message| &*message.topic != topic || message.partition != partition);
        self.ready = kept.collect::<Vec<_>>().into_iter();
        self.read(&old.topic, partition, Position::Offset(offset), scout)
    }

    fn address(&self) -> &str {
        self.target.address()
    }

    fn missing(&self) -> Vec<&str> {
        self.missing.iter().map(|topic| &**topic).collect()
    }

    fn partitions(&self) -> usize {
        self.reading.len()
    }

    fn at_end(&self) -> bool {
        self.ready.len() == 0 && self.missing.is_empty() && self.reading.iter().all(|one| one.at_end)
    }

    fn waker(&self) -> Box<dyn Fn() + Send> {
        let sender = self.sender.clone();
        // Where the channel is full, poll does not wait.
        Box::new(move || drop(sender.try_send(Event::Woken)))
    }

    fn into_endpoint(self: Box<Self>) -> Endpoint {
        Endpoint::Network { target: self.target, connection: self.control }
    }
}

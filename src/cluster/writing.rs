//! How every protocol writes to the cluster: a [`WriteSession`] with the shape of the [broker's](crate::broker::WriteSession).
//!
//! ```text
//! route ──► check ──► gather ──► write ──────────────► make durable ──► offsets
//!   │         │                    │                     └ all that was handed over is answered
//!   │         │                    └ handed over to librdkafka, as far as there is room
//!   │         └ what librdkafka cannot send; the rest is the cluster's to refuse
//!   └ finds the partition, as the broker does; first use makes the topic
//! ```
//!
//! What is unanswered is bounded for each session, so that one leader that does not answer holds up those who write to it and does
//! not fill the queue that all share. However full that is, who waits for nothing may hand one record over.

#[cfg(test)]
mod tests;

use super::{
    Cluster, KnownTopic, Shared,
    answers::{Answers, Outcome},
    producer::{RECORD_BYTES, Sender},
    transactions::{Open, Transaction},
};
use crate::{
    broker::{Error, Result, Ticket, choose, random, writable},
    log::{
        Numbering,
        record::{RecordRef, Records},
    },
    security::Operation,
};
use rdkafka::types::RDKafkaErrorCode;
use std::{
    borrow::Cow,
    ffi::{CStr, CString},
    ops::Range,
    path::Path,
    sync::{Arc, atomic::Ordering::*},
    thread,
    time::{Duration, Instant},
};

/// What one session may have unanswered, and all of them together, in bytes.
const UNANSWERED_MAX: usize = 8 << 20;
const ALL_UNANSWERED_MAX: usize = 512 << 20;
/// How long a topic is written to as it was last heard of, while it is asked for anew.
const BELIEVED: Duration = Duration::from_secs(60);
/// How long is waited before a full queue is tried again.
const PAUSE: Duration = Duration::from_millis(5);

/// Records that were handed over on behalf of one caller, then what became of them.
#[derive(Debug)]
pub struct WriteSession {
    cluster: Cluster,
    answers: Arc<Answers>,
    batches: Vec<Written>,
    transaction: Option<Arc<Open>>,
    /// When the first of the batches began to be handed over.
    begun: Option<Instant>,
}

#[derive(Debug)]
struct Written {
    target: Target,
    sent: Result<Via>,
}

/// What a batch was handed over to.
#[derive(Clone, Debug)]
struct Via {
    sender: Arc<Sender>,
    transaction: Option<Arc<Open>>,
}

/// A partition that is written to.
#[derive(Clone, Debug)]
pub struct Target {
    topic: Arc<KnownTopic>,
    partition: u32,
}

/// Records on their way to their partitions, until they are handed over.
#[derive(Debug, Default)]
pub struct Gathered<'a> {
    batches: Vec<Gathering<'a>>,
    /// The topic of the record before.
    topic: Option<Arc<KnownTopic>>,
    /// Where records without a key go, for this time.
    sticky: u64,
}

#[derive(Debug)]
struct Gathering<'a> {
    target: Target,
    records: Records<'a>,
}

impl Cluster {
    /// A session of writing.
    pub fn write_session(&self) -> WriteSession {
        let (cluster, answers) = (self.clone(), Arc::default());
        WriteSession { cluster, answers, batches: Vec::new(), transaction: None, begun: None }
    }

    /// Producer ids of a cluster are given to librdkafka, not to clients of this program.
    pub fn new_producer_id(&self) -> Result<i64> {
        Err(Error::NotHere(NO_NUMBERS))
    }

    /// The same.
    pub fn known_producer_id(&self, _: i64) -> Result<i64> {
        Err(Error::NotHere(NO_NUMBERS))
    }
}

const NO_TIME_0: &str = "librdkafka takes a timestamp of 0 for now; the earliest that it sends is 1";
const NO_NUMBERS: &str = "records of a text producer cannot be numbered in front of a Kafka cluster: \
    all connections write through one producer of its own, so one that sends again after a reconnect may store twice; write without \
    numbers (no --idempotent, in the library `idempotent(false)`), or in a transaction";

impl Target {
    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic.name
    }

    /// The partition's number.
    pub fn partition(&self) -> u32 {
        self.partition
    }
}

impl WriteSession {
    /// Adds a record that is only a value.
    pub fn add_value<'a>(
        &self,
        gathered: &mut Gathered<'a>,
        topic: &str,
        partition: u32,
        value: &'a [u8],
    ) -> Result<Ticket> {
        let slot = self.slot_for(gathered, topic, Some(partition), None)?;
        let records = &mut gathered.batches[slot].records;
        records.push(None, None, Some(Cow::Borrowed(value)));
        Ok(self.ticket(slot, records))
    }

    /// Takes the last of `records`, unless it is refused. It goes to the partition that is named, to that of its key, or to
    /// the one where all go for this time that have none. One that is numbered is refused.
    pub fn add_last<'a>(
        &self,
        gathered: &mut Gathered<'a>,
        topic: &str,
        partition: Option<u32>,
        from: &mut Records<'a>,
        numbering: Option<Numbering>,
    ) -> Result<Ticket> {
        if numbering.is_some() {
            return Err(Error::NotHere(NO_NUMBERS));
        }
        let record = from.last().expect("there is one to be added");
        match record.timestamp {
            Some(timestamp @ ..0) => return Err(Error::NoTime(timestamp)),
            Some(0) => return Err(Error::NotHere(NO_TIME_0)),
            _ => {}
        }
        let slot = self.slot_for(gathered, topic, partition, record.key.as_deref())?;
        let records = &mut gathered.batches[slot].records;
        records.take_last(from);
        Ok(self.ticket(slot, records))
    }

    fn ticket(&self, slot: usize, records: &Records<'_>) -> Ticket {
        Ticket { batch: (self.batches.len() + slot) as u32, record: records.len() as u32 - 1 }
    }

    /// The batch that a record goes to.
    fn slot_for(
        &self,
        gathered: &mut Gathered<'_>,
        topic: &str,
        partition: Option<u32>,
        key: Option<&[u8]>,
    ) -> Result<usize> {
        if gathered.sticky == 0 {
            gathered.sticky = random::number().max(1);
        }
        let found = match &gathered.topic {
            Some(found) if found.name == topic && partition.is_none_or(|index| found.has(index)) => found,
            _ => gathered.topic.insert(self.find_or_create(topic, partition)?),
        };
        let index = choose(partition, key, gathered.sticky, found.partitions.len() as u32);
        let is_this = |target: &Target| target.partition == index && Arc::ptr_eq(&target.topic, found);
        if let Some(slot) = gathered.batches.iter().rposition(|batch| is_this(&batch.target)) {
            return Ok(slot);
        }
        let target = Target { topic: found.clone(), partition: index };
        gathered.batches.push(Gathering { target, records: Records::default() });
        Ok(gathered.batches.len() - 1)
    }

    /// First use makes the topic, unless that is off, or it would perhaps not have the partition that is named.
    fn find_or_create(&self, topic: &str, partition: Option<u32>) -> Result<Arc<KnownTopic>> {
        self.cluster.door().ask_topic(Operation::Write, topic)?;
        writable(topic)?;
        let shared = &self.cluster.shared;
        let found = match known_topic(shared, topic) {
            Err(Error::UnknownTopic(_)) if self.cluster.config().auto_create && partition.unwrap_or(0) == 0 => {
                self.cluster.describe_topic_or_create(topic)?;
                shared.known.topic(topic)?
            }
            found => found?,
        };
        match partition {
            Some(partition) => shared.known.with_partition(found, partition),
            None => Ok(found),
        }
    }

    /// From here on what is gathered is written in this transaction.
    pub fn enter(&mut self, transaction: &Transaction) {
        self.transaction = Some(transaction.open());
    }

    /// From here on what is gathered is written outside of any transaction.
    pub fn leave(&mut self) {
        self.transaction = None;
    }

    /// Hands all over that was gathered. It waits where too much is unanswered.
    pub fn write(&mut self, gathered: &mut Gathered<'_>) {
        for Gathering { target, records } in std::mem::take(gathered).batches {
            let batch_bytes_max = self.cluster.shared.record_bytes_max(target.topic());
            let sent = self.via(&target, batch_bytes_max);
            self.answers.begin(records.len());
            if let Ok(Via { sender, .. }) = &sent {
                self.begun.get_or_insert_with(Instant::now);
                if self.went_by_another(&target, sender) {
                    self.answers.wait(0);
                }
                let topic = CString::new(target.topic()).expect("a topic's name has no NUL");
                (0..).zip(records.iter()).for_each(|(index, record)| {
                    self.hand_over(sender, (&topic, target.partition), &records, index, record);
                    if sender.batch_bytes() > batch_bytes_max {
                        // Together they might be more than the topic takes.
                        self.answers.wait(0);
                    }
                });
            }
            self.batches.push(Written { target, sent });
        }
    }

    /// Whether what was last handed over for the partition, and may be unanswered, went by another producer: what that one sends again
    /// would come behind what this one sends first.
    fn went_by_another(&self, target: &Target, sender: &Arc<Sender>) -> bool {
        let is_of = |batch: &&Written| {
            batch.target.partition == target.partition && batch.target.topic.name == target.topic.name
        };
        let before = self.batches.iter().rev().find(is_of).and_then(|batch| batch.sent.as_ref().ok());
        before.is_some_and(|before| !Arc::ptr_eq(&before.sender, sender))
    }

    fn via(&self, target: &Target, batch_bytes_max: usize) -> Result<Via> {
        let transaction = self.transaction.clone();
        let sender = match &transaction {
            Some(open) => open.sender_to(target.topic(), target.partition)?,
            None => {
                let shared = &self.cluster.shared;
                shared.producer.get(&shared.options, batch_bytes_max, shared.known.gives_up())?
            }
        };
        Ok(Via { sender, transaction })
    }

    /// Hands a record of the last batch over, when there is room.
    fn hand_over(
        &self,
        sender: &Sender,
        (topic, partition): (&CStr, u32),
        records: &Records<'_>,
        index: usize,
        record: &RecordRef<'_>,
    ) {
        let bytes = Sender::bytes_of(records, record);
        self.wait_for_room(sender, bytes);
        let mut asked = Box::new(self.answers.ask(index, bytes));
        let (mut is_known, mut since) = (false, None);
        loop {
            let code = match sender.send(topic, partition, records, record, asked) {
                Ok(()) => return,
                Err((code, given_back)) => {
                    asked = given_back;
                    code
                }
            };
            match code {
                RDKafkaErrorCode::QueueFull => {
                    let since: &mut Instant = since.get_or_insert_with(Instant::now);
                    if since.elapsed() > self.cluster.shared.options.timeout {
                        return asked.answer(Outcome::Failed(RDKafkaErrorCode::MessageTimedOut));
                    }
                    self.answers.wait_for_one(PAUSE);
                }
                RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopic if !is_known => {
                    sender.look_at(&topic.to_string_lossy());
                    is_known = true;
                }
                code => return asked.answer(Outcome::Failed(code)),
            }
        }
    }

    fn wait_for_room(&self, sender: &Sender, bytes: usize) {
        let mine = self.answers.unanswered_bytes();
        if mine > 0 && sender.unanswered_bytes() + bytes > ALL_UNANSWERED_MAX {
            self.answers.wait(0);
        } else if mine + bytes > UNANSWERED_MAX {
            self.answers.wait((UNANSWERED_MAX - UNANSWERED_MAX / 8).saturating_sub(bytes));
        }
    }

    /// What was handed over is on its way already.
    pub fn sync_soon(&self) {}

    /// Waits until all is answered. Afterwards tickets can be asked for.
    pub fn make_durable(&mut self) {
        self.answers.wait(0);
        let stored = self.answers.stored();
        let bytes = stored.bytes - stored.records * RECORD_BYTES as u64;
        self.cluster.metrics().dropped.written(stored.records, bytes);
        if let Some(begun) = self.begun.take() {
            self.cluster.metrics().produce_to_sync.add(1, begun.elapsed());
        }
    }

    /// Forgets all of it, tickets too.
    pub fn clear(&mut self) {
        self.begun = None;
        self.batches.clear();
        if !self.answers.clear() {
            self.answers = Arc::default();
        }
    }

    /// The offset that a record got, or why it got none. `None`: it was stored, and the cluster did not tell where.
    pub fn offset(&self, ticket: Ticket) -> Result<Option<u64>> {
        let Written { target, sent } = &self.batches[ticket.batch as usize];
        let Via { sender, transaction } = sent.as_ref().map_err(Clone::clone)?;
        let outcome = self.answers.outcome(ticket.batch, ticket.record);
        if outcome == Outcome::Failed(RDKafkaErrorCode::MessageSizeTooLarge) {
            // The topic may take less than was thought; who writes next asks.
            self.cluster.shared.limits.forget(target.topic());
        }
        match (outcome, transaction) {
            (Outcome::Stored(offset), _) => Ok(offset),
            (Outcome::Failed(code), None) => Err(sender.why(code, target.topic(), target.partition)),
            (Outcome::Failed(code), Some(open)) => Err(open.why(code, target.topic(), target.partition)),
            (Outcome::Unanswered, _) => Err(Error::TimedOut("the cluster has not acknowledged the record yet".into())),
        }
    }

    /// Where a record was to go.
    pub fn target_of(&self, ticket: Ticket) -> &Target {
        &self.batches[ticket.batch as usize].target
    }

    /// What was asked of whom, and what came back, once all is answered.
    pub fn steps(&self) -> Vec<String> {
        let step = |(batch, Written { target, sent }): (u32, &Written)| {
            let leader = target.topic.partitions[target.partition as usize].leader;
            let leader = leader.map_or("its leader".into(), |node| format!("its leader, node {node}"));
            let answered = match sent {
                Ok(_) => self.answers.summary(batch),
                Err(error) => format!("nothing: {error}"),
            };
            format!("handed to {}/{} on {leader}: {answered}", target.topic(), target.partition)
        };
        (0..).zip(&self.batches).map(step).collect()
    }

    /// Where on disk the batches stand: that is the cluster's affair.
    pub fn places(&self) -> impl Iterator<Item = (&Path, Range<u64>)> {
        std::iter::empty()
    }
}

/// A topic to be written to. One that was heard of lately is taken as it was, and asked for anew meanwhile: nobody waits for a node
/// that does not answer while another one takes what it writes.
fn known_topic(shared: &Arc<Shared>, name: &str) -> Result<Arc<KnownTopic>> {
    let Some((topic, is_old)) = shared.known.topic_within(name, BELIEVED) else {
        return shared.known.topic_now(name);
    };
    if is_old && !shared.producer.is_looking.swap(true, AcqRel) {
        let (asking, name) = (shared.clone(), name.to_owned());
        let ask = move || {
            // What comes of it is remembered; who writes next is told of an error.
            let _ = asking.known.topic_anew(&name, asking.options.timeout);
            asking.refresh_record_bytes_max(&name);
            asking.producer.is_looking.store(false, Release);
        };
        if thread::Builder::new().name("ask cluster".into()).spawn(ask).is_err() {
            shared.producer.is_looking.store(false, Release);
        }
    }
    Ok(topic)
}

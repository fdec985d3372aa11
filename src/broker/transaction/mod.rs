//! One transactional id, as a pure state machine: requests and the time go in, the state that is to be written comes out.
//!
//! It has no lock, clock, disk or thread. Each change answers the next state, which holds once the coordinator has written
//! it to the log; a write that fails leaves the state before.
//!
//! ```text
//!                    add a partition or group            end, a timeout, a fence        all markers are written
//!   ┌───────┐ init ┌───────┐ add  ┌─────────┐          ┌───────────────────┐          ┌────────────────────────┐
//!   │ none  ├─────►│ Empty ├─────►│ Ongoing ├─────────►│ Prepared (commit, ├─────────►│ Completed (commit,     │
//!   └───┬───┘      └───────┘      └──▲───▲──┘          │           abort)  │          │            abort)      │
//!       └────────── begin ───────────┘   │             └───────────────────┘          └──────────┬─────────────┘
//!                                        └───────────────────── add, begin ──────────────────────┘
//! ```
//!
//! | request | Empty | Ongoing | Prepared | Completed |
//! | --- | --- | --- | --- | --- |
//! | [`init`](TransactionState::init) | epoch + 1 | an abort comes first | 51 | epoch + 1, Empty |
//! | the same, repeated with the pair before | as it is | 90 | 51 | as it is |
//! | [`begin`](TransactionState::begin) | epoch + 1, Ongoing | an abort comes first | 51 | epoch + 1, Ongoing |
//! | [`add`](TransactionState::add) | Ongoing | it grows | 51 | Ongoing |
//! | [`holds`](TransactionState::holds) (a write) | not added | whether it is in | 51 | not added |
//! | [`end`](TransactionState::end) with the epoch kept | 48 | Prepared | the same outcome 51, else 48 | the same outcome 0, else 48 |
//! | `end` with the epoch raised | abort: epoch + 1, commit: 48 | Prepared, epoch + 1 | likewise | likewise for the pair before; else as Empty |
//! | [`abort`](TransactionState::abort) (a timeout, an operator) | | Prepared, epoch + 1 | | |
//! | [`complete`](TransactionState::complete) | | | Completed | |
//! | from another producer id | 49 | 49 | 49 | 49 |
//! | from another epoch | 90, a write 47 | 90, 47 | 90, 47 | 90, 47 |
//!
//! Rules that always hold:
//! - A pair of producer id and epoch is given once. What a producer of an older one asks changes nothing.
//! - After Prepared only Completed comes, with the same outcome (KIP-98).
//! - `previous` is the pair that its owner may still ask with, because the answer that told the present one was lost (KIP-360,
//!   KIP-890). BEGIN clears it: who was fenced by it must not be given its epoch.
//! - Epochs end: 32,766 is the last that a producer is given. What raises it ends with the marker's epoch 32,767, and
//!   the next pair is that of a new producer id (KIP-890).

mod doom;
#[cfg(test)]
mod model_tests;
mod saved;

pub(crate) use doom::{Doom, commit_unless};

use super::{Error, Result, words::STRING_BYTES_MAX};
use crate::log::Outcome;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The last epoch that a producer is given: one more is left for the marker that ends its transaction.
const EPOCH_MAX: i16 = i16::MAX - 1;

/// When a transaction began that there was not, in ms.
const NEVER_MS: i64 = -1;

/// A producer id and its epoch: who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProducerIdentity {
    /// The producer id.
    pub id: i64,
    /// The epoch, from 0.
    pub epoch: i16,
}

impl ProducerIdentity {
    /// Where nobody tells.
    pub const UNKNOWN: ProducerIdentity = ProducerIdentity { id: -1, epoch: -1 };
}

/// What the end of a transaction does to the epoch (KIP-890).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epochs {
    /// It stays: EndTxn up to version 4.
    Kept,
    /// The next transaction has another one: EndTxn from version 5, text and the library.
    Raised,
}

/// Who began a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starter {
    /// A Kafka client, which may come back for it on another connection.
    Kafka,
    /// A connection of the text protocol or an embedded producer: the transaction ends with it.
    Text,
}

/// Why a transaction ended that its producer did not end. It is known until a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Somebody else began with its transactional id.
    Fenced,
    /// It took longer than it was allowed.
    TimedOut,
    /// An operator aborted it, or it was left open by a broker that is gone.
    Elsewhere,
    /// What it wrote may be lost: a disk failed.
    Storage,
}

/// A transaction that held something, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastTransaction {
    /// The pair that its records bear.
    pub identity: ProducerIdentity,
    /// How it ended.
    pub outcome: Outcome,
}

/// The partitions of one topic in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicParts {
    /// The topic's id: one that is made anew under the name is another topic.
    pub topic_id: [u8; 16],
    /// The partitions.
    pub partitions: BTreeSet<u32>,
}

/// What a transaction holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Partitions that it wrote or may write to, by topic.
    pub topics: BTreeMap<Arc<str>, TopicParts>,
    /// Groups whose offsets it commits.
    pub groups: BTreeSet<Arc<str>>,
}

/// A partition in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The topic.
    pub topic: &'a Arc<str>,
    /// The topic's id.
    pub topic_id: &'a [u8; 16],
    /// The partition.
    pub partition: u32,
}

/// Where a transactional id stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// It has a producer that began nothing yet.
    Empty,
    /// A transaction is open.
    Ongoing {
        /// When it began, in ms.
        since_ms: i64,
        /// What it holds.
        parts: Parts,
    },
    /// Its outcome is decided, and markers are being written.
    Prepared {
        /// The outcome.
        outcome: Outcome,
        /// When it began, in ms.
        since_ms: i64,
        /// Where markers are to be written.
        parts: Parts,
    },
    /// It has ended everywhere.
    Completed {
        /// How.
        outcome: Outcome,
        /// When it began, in ms.
        since_ms: i64,
    },
}

/// All that is known of a transactional id.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionState {
    /// Its producer; while Prepared, the pair that its markers bear.
    pub producer: ProducerIdentity,
    /// The pair that the producer had before, if it may still ask with it.
    pub previous: Option<ProducerIdentity>,
    /// The producer id that is its own once Prepared is over: the epochs of this one have run out.
    pub next_id: Option<i64>,
    /// Its last transaction that held anything.
    pub last: Option<LastTransaction>,
    /// How long a transaction may take, in ms.
    pub timeout_ms: u64,
    /// Who begins its transactions.
    pub starter: Starter,
    /// What the end of the present or last transaction does to the epoch.
    pub epochs: Epochs,
    /// Whether the next to begin gets a new producer id: a crash may have lost records, or epochs, of this one.
    pub renew: bool,
    /// Where it stands.
    pub phase: Phase,
    /// Why the last transaction ended, where its producer did not end it.
    pub cause: Option<Cause>,
}

/// What [`init`](TransactionState::init) and [`begin`](TransactionState::begin) come to.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// It is to become this, whose producer is the answer.
    Ready(TransactionState),
    /// A repeat of what was done: the producer of the present state is the answer.
    Repeated,
    /// A transaction is open: this state ends it, and then the request is to be made again.
    AbortFirst(TransactionState),
}

/// What [`end`](TransactionState::end) comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It is to become this, whose markers are to be written.
    Prepare(TransactionState),
    /// Nothing was in it: it is to become this, whose producer is the answer.
    Nothing(TransactionState),
    /// A repeat of what was done: the producer of the present state is the answer.
    Repeated,
}

/// A request of InitProducerId, but for its transactional id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Init {
    /// How long its transactions may take, in ms.
    pub timeout_ms: u64,
    /// The pair that the producer goes on from, if it says one (KIP-360).
    pub known: Option<ProducerIdentity>,
}

impl Parts {
    /// The offsets of one group. A name that is longer than a line of the log takes is refused.
    pub fn of_group(group: impl Into<Arc<str>>) -> Result<Parts> {
        let group = group.into();
        if group.len() > STRING_BYTES_MAX {
            return Err(Error::InvalidGroup(format!("a group's name has at most {STRING_BYTES_MAX} bytes")));
        }
        Ok(Parts { groups: [group].into(), ..Parts::default() })
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.groups.is_empty()
    }

    /// Adds a partition.
    pub fn add_partition(&mut self, topic: &Arc<str>, topic_id: [u8; 16], partition: u32) {
        let none = || TopicParts { topic_id, partitions: BTreeSet::new() };
        let parts = self.topics.entry(topic.clone()).or_insert_with(none);
        if parts.topic_id != topic_id {
            // The topic of this name that was written to before is gone, and what was written with it.
            *parts = none();
        }
        parts.partitions.insert(partition);
    }

    /// Whether a partition is in it.
    pub fn has(&self, topic: &str, topic_id: &[u8; 16], partition: u32) -> bool {
        self.topics.get(topic).is_some_and(|parts| parts.topic_id == *topic_id && parts.partitions.contains(&partition))
    }

    /// Whether all of `other` is in it.
    pub fn includes(&self, other: &Parts) -> bool {
        let has = |part: Part<'_>| self.has(part.topic, part.topic_id, part.partition);
        other.partitions().all(has) && other.groups.is_subset(&self.groups)
    }

    fn add(&mut self, other: &Parts) {
        other.partitions().for_each(|part| self.add_partition(part.topic, *part.topic_id, part.partition));
        self.groups.extend(other.groups.iter().cloned());
    }

    /// The partitions, in order.
    pub fn partitions(&self) -> impl Iterator<Item = Part<'_>> {
        self.topics.iter().flat_map(|(topic, TopicParts { topic_id, partitions })| {
            partitions.iter().map(move |&partition| Part { topic, topic_id, partition })
        })
    }
}

impl TransactionState {
    /// What a transactional id becomes that nobody used before, by InitProducerId. The pair that is known is none of ours.
    pub fn first_init(request: Init, id: i64) -> TransactionState {
        TransactionState {
            producer: ProducerIdentity { id, epoch: 0 },
            previous: None,
            next_id: None,
            last: None,
            timeout_ms: request.timeout_ms,
            starter: Starter::Kafka,
            epochs: Epochs::Kept,
            renew: false,
            phase: Phase::Empty,
            cause: None,
        }
    }

    /// What a transactional id becomes that nobody used before, by BEGIN.
    pub fn first_begin(now_ms: i64, timeout_ms: u64, id: i64) -> TransactionState {
        TransactionState::first_init(Init { timeout_ms, known: None }, id).begun(now_ms)
    }

    /// A producer asks for its pair. `new_id` gives a producer id that nobody had.
    pub fn init(&self, request: Init, new_id: impl FnOnce() -> Result<i64>) -> Result<Start> {
        self.settled()?;
        let is_open = matches!(self.phase, Phase::Ongoing { .. });
        let asks_again = request.known.is_some() && request.known == self.previous && !is_open;
        if asks_again && !self.renew {
            return Ok(Start::Repeated);
        }
        if let Some(known) = request.known.filter(|known| *known != self.producer && !asks_again) {
            return Err(self.fenced(known));
        }
        if is_open {
            return Ok(Start::AbortFirst(self.abort(Cause::Fenced, new_id)?));
        }
        let Init { timeout_ms, known } = request;
        let producer = self.next_producer(new_id)?;
        let cleared = TransactionState { next_id: None, renew: false, cause: None, ..self.clone() };
        let phase = Phase::Empty;
        let (previous, starter) = (known, Starter::Kafka);
        Ok(Start::Ready(TransactionState { producer, previous, timeout_ms, starter, phase, ..cleared }))
    }

    /// A connection, or an embedded producer, begins a transaction.
    pub fn begin(&self, now_ms: i64, timeout_ms: u64, new_id: impl FnOnce() -> Result<i64>) -> Result<Start> {
        self.settled()?;
        if let Phase::Ongoing { .. } = self.phase {
            return Ok(Start::AbortFirst(self.abort(Cause::Fenced, new_id)?));
        }
        let producer = self.next_producer(new_id)?;
        Ok(Start::Ready(TransactionState { producer, timeout_ms, ..self.clone() }.begun(now_ms)))
    }

    fn begun(self, now_ms: i64) -> TransactionState {
        let phase = Phase::Ongoing { since_ms: now_ms, parts: Parts::default() };
        let (starter, epochs) = (Starter::Text, Epochs::Raised);
        TransactionState { previous: None, next_id: None, renew: false, cause: None, starter, epochs, phase, ..self }
    }

    /// Partitions and groups are to be in the transaction; the first begin it. `None`: they are in it already.
    pub fn add(&self, identity: ProducerIdentity, added: &Parts, now_ms: i64) -> Result<Option<TransactionState>> {
        self.check(identity, Error::ProducerFenced)?;
        self.settled()?;
        if added.is_empty() {
            return Ok(None);
        }
        let (since_ms, mut parts) = match &self.phase {
            Phase::Ongoing { parts, .. } if parts.includes(added) => return Ok(None),
            Phase::Ongoing { since_ms, parts } => (*since_ms, parts.clone()),
            _ => (now_ms, Parts::default()),
        };
        parts.add(added);
        Ok(Some(TransactionState { phase: Phase::Ongoing { since_ms, parts }, cause: None, ..self.clone() }))
    }

    /// Whether the producer may write these parts as it stands: whether they are in its open transaction.
    pub fn holds(&self, identity: ProducerIdentity, wanted: &Parts) -> Result<bool> {
        self.check(identity, Error::ProducerEpoch)?;
        self.settled()?;
        Ok(matches!(&self.phase, Phase::Ongoing { parts, .. } if parts.includes(wanted)))
    }

    /// A producer ends its transaction.
    pub fn end(
        &self,
        identity: ProducerIdentity,
        outcome: Outcome,
        epochs: Epochs,
        new_id: impl FnOnce() -> Result<i64>,
    ) -> Result<End> {
        let raises = epochs == Epochs::Raised;
        // A repeat bears the pair that the transaction had.
        if raises && self.previous == Some(identity) {
            match self.phase {
                Phase::Completed { outcome: was, .. } => return same(was, outcome).map(|()| End::Repeated),
                Phase::Prepared { outcome: was, .. } => return same(was, outcome).and_then(|()| Err(concurrent())),
                Phase::Empty | Phase::Ongoing { .. } => {}
            }
        }
        self.check(identity, Error::ProducerFenced)?;
        match &self.phase {
            Phase::Ongoing { since_ms, parts } if parts.is_empty() => self.end_nothing(outcome, *since_ms, new_id),
            Phase::Ongoing { .. } => Ok(End::Prepare(self.prepare(outcome, epochs, None, new_id)?)),
            Phase::Prepared { outcome: was, .. } => same(*was, outcome).and_then(|()| Err(concurrent())),
            Phase::Completed { outcome: was, .. } if !raises => same(*was, outcome).map(|()| End::Repeated),
            Phase::Completed { since_ms, .. } if outcome == Outcome::Abort => {
                self.end_nothing(outcome, *since_ms, new_id)
            }
            Phase::Empty if raises && outcome == Outcome::Abort => self.end_nothing(outcome, NEVER_MS, new_id),
            Phase::Empty | Phase::Completed { .. } => Err(Error::InvalidTxnState("no transaction is open".into())),
        }
    }

    /// An open transaction is aborted by somebody else than its producer.
    pub fn abort(&self, cause: Cause, new_id: impl FnOnce() -> Result<i64>) -> Result<TransactionState> {
        match &self.phase {
            Phase::Ongoing { since_ms, parts } if parts.is_empty() => {
                let phase = Phase::Completed { outcome: Outcome::Abort, since_ms: *since_ms };
                Ok(TransactionState { phase, cause: Some(cause), ..self.raised(new_id)?.with_next_id() })
            }
            Phase::Ongoing { .. } => self.prepare(Outcome::Abort, Epochs::Raised, Some(cause), new_id),
            Phase::Prepared { .. } => Err(concurrent()),
            Phase::Empty | Phase::Completed { .. } => Err(Error::InvalidTxnState("no transaction is open".into())),
        }
    }

    fn end_nothing(&self, outcome: Outcome, since_ms: i64, new_id: impl FnOnce() -> Result<i64>) -> Result<End> {
        let phase = Phase::Completed { outcome, since_ms };
        Ok(End::Nothing(TransactionState { phase, cause: None, ..self.raised(new_id)?.with_next_id() }))
    }

    fn prepare(
        &self,
        outcome: Outcome,
        epochs: Epochs,
        cause: Option<Cause>,
        new_id: impl FnOnce() -> Result<i64>,
    ) -> Result<TransactionState> {
        let Phase::Ongoing { since_ms, parts } = &self.phase else { return Err(concurrent()) };
        let phase = Phase::Prepared { outcome, since_ms: *since_ms, parts: parts.clone() };
        let last = Some(LastTransaction { identity: self.producer, outcome });
        let raised = if epochs == Epochs::Raised { self.raised(new_id)? } else { self.clone() };
        Ok(TransactionState { last, epochs, cause, phase, ..raised })
    }

    /// All markers are written: what is prepared is complete.
    pub fn complete(&self) -> TransactionState {
        match self.phase {
            Phase::Prepared { outcome, since_ms, .. } => {
                let phase = Phase::Completed { outcome, since_ms };
                TransactionState { phase, ..self.clone().with_next_id() }
            }
            _ => self.clone(),
        }
    }

    /// When the open transaction is to be aborted because of its age, in ms.
    pub fn times_out_ms(&self) -> Option<i64> {
        let Phase::Ongoing { since_ms, .. } = self.phase else { return None };
        Some(since_ms.saturating_add(i64::try_from(self.timeout_ms).unwrap_or(i64::MAX)))
    }

    /// The producer ids that requests may bear.
    pub fn producer_ids(&self) -> [Option<i64>; 2] {
        [Some(self.producer.id), self.next_id]
    }

    /// Whether nothing of it is open or being ended.
    pub fn is_at_rest(&self) -> bool {
        matches!(self.phase, Phase::Empty | Phase::Completed { .. })
    }

    /// What is answered to the connection whose transaction this pair was, and that has lost it.
    pub fn lost(&self, identity: ProducerIdentity) -> Error {
        let is_last = self.previous == Some(identity);
        match (&self.cause, &self.phase) {
            (Some(Cause::TimedOut), _) if is_last => Error::InvalidTxnState(format!(
                "the transaction took longer than {} ms and was aborted",
                self.timeout_ms
            )),
            (Some(Cause::Elsewhere), _) if is_last => {
                Error::InvalidTxnState("the transaction was aborted by somebody else".into())
            }
            (Some(Cause::Storage), _) if is_last => {
                Error::InvalidTxnState("the transaction was aborted: a disk failed that it needs".into())
            }
            (None, Phase::Completed { outcome, .. } | Phase::Prepared { outcome, .. }) if is_last => {
                Error::InvalidTxnState(format!("the transaction has ended: {}", outcome.name()))
            }
            _ => self.fenced(identity),
        }
    }

    /// Whether a transaction of this pair may have records that wait for a marker which this state tells, and which.
    pub fn outcome_of(&self, identity: ProducerIdentity) -> Option<Outcome> {
        self.last.filter(|last| last.identity == identity).map(|last| last.outcome)
    }

    /// An error while the last transaction is being ended.
    fn settled(&self) -> Result<()> {
        if let Phase::Prepared { .. } = self.phase { Err(concurrent()) } else { Ok(()) }
    }

    /// An error if the producer is not the present one.
    fn check(&self, identity: ProducerIdentity, stale: impl FnOnce(String) -> Error) -> Result<()> {
        if self.next_id == Some(identity.id) && identity.epoch == 0 {
            // It was told so before all markers are written.
            return self.settled();
        }
        if identity.id != self.producer.id {
            return Err(Error::InvalidProducerIdMapping(format!(
                "the transactional id belongs to producer {}, not to {}",
                self.producer.id, identity.id
            )));
        }
        if identity.epoch != self.producer.epoch {
            return Err(stale(self.other_epoch(identity)));
        }
        Ok(())
    }

    fn other_epoch(&self, identity: ProducerIdentity) -> String {
        let ProducerIdentity { id, epoch } = self.producer;
        format!(
            "producer {} in epoch {} is not the present one, which is {id} in epoch {epoch}",
            identity.id, identity.epoch
        )
    }

    fn fenced(&self, identity: ProducerIdentity) -> Error {
        Error::ProducerFenced(self.other_epoch(identity))
    }

    /// The pair of who begins next.
    fn next_producer(&self, new_id: impl FnOnce() -> Result<i64>) -> Result<ProducerIdentity> {
        let ProducerIdentity { id, epoch } = self.producer;
        if self.renew || epoch >= EPOCH_MAX {
            return Ok(ProducerIdentity { id: new_id()?, epoch: 0 });
        }
        Ok(ProducerIdentity { id, epoch: epoch + 1 })
    }

    /// The state with the epoch raised at the end of a transaction.
    fn raised(&self, new_id: impl FnOnce() -> Result<i64>) -> Result<TransactionState> {
        let ProducerIdentity { id, epoch } = self.producer;
        let next_id = if epoch >= EPOCH_MAX { Some(new_id()?) } else { None };
        let producer = ProducerIdentity { id, epoch: epoch.saturating_add(1) };
        Ok(TransactionState {
            producer,
            previous: Some(self.producer),
            next_id,
            epochs: Epochs::Raised,
            ..self.clone()
        })
    }

    /// The state with the producer id that takes over from one whose epochs have run out.
    fn with_next_id(self) -> TransactionState {
        match self.next_id {
            Some(id) => TransactionState { producer: ProducerIdentity { id, epoch: 0 }, next_id: None, ..self },
            None => self,
        }
    }
}

/// An error unless a transaction that ended, or is being ended, has the outcome that is asked for.
fn same(was: Outcome, outcome: Outcome) -> Result<()> {
    if was == outcome {
        return Ok(());
    }
    Err(Error::InvalidTxnState(format!("the transaction has another outcome: {}", was.name())))
}

fn concurrent() -> Error {
    Error::ConcurrentTransactions("the last transaction of this id is still being ended; try again".into())
}

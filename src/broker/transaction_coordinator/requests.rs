//! What producers ask the coordinator for: their pair of producer id and epoch, partitions and groups in their transaction, and its
//! end. These are Kafka's requests; what connections of text and embedded producers do is in [`handle`](super::handle).

use super::{IdCell, LogWrite};
use crate::{
    broker::{
        Broker, BrokerState, Error, Outcome, Result,
        transaction::{Epochs, Init, Parts, ProducerIdentity, Start, TransactionState},
    },
    security::Operation,
};
use std::sync::Arc;

/// The longest line of a transaction that grows: some ten thousand partitions.
const LINE_BYTES_MAX: usize = if cfg!(test) { 64 << 10 } else { 1 << 20 };

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
}

/// What became of a request to begin.
pub(super) enum Started {
    /// The producer has this pair.
    With(ProducerIdentity),
    /// The transaction that was open is aborted. The request may be made again.
    Aborted,
}

impl Broker {
    /// A producer gets its pair, and whoever had the transactional id before is fenced: Kafka's InitProducerId. `known` is the pair
    /// that it goes on from (KIP-360). A transaction that is open is aborted first, and the answer is
    /// [`Error::ConcurrentTransactions`]: it may ask again.
    pub fn init_producer(
        &self,
        transactional_id: &str,
        timeout_ms: i32,
        known: Option<ProducerIdentity>,
    ) -> Result<ProducerIdentity> {
        let permit = self.ask_transactional_id(Operation::Write, transactional_id)?;
        let state = self.state(&permit);
        let cell = state.find_or_make_id(transactional_id)?;
        let timeout_ms =
            state.transaction_timeout(i64::from(timeout_ms), 1).inspect_err(|_| state.forget_unused(&cell))?;
        let request = Init { timeout_ms, known };
        let new_id = || state.env.new_producer_id();
        let started = state.start(&cell, |before| match before {
            Some(before) => before.init(request, new_id),
            None => Ok(Start::Ready(TransactionState::first_init(request, new_id()?))),
        });
        match started? {
            Started::With(producer) => Ok(producer),
            Started::Aborted => {
                Err(Error::ConcurrentTransactions("an open transaction of this id was aborted; try again".into()))
            }
        }
    }

    /// Partitions are to be in a producer's transaction: Kafka's AddPartitionsToTxn. One error for each that there is not, and
    /// then none is added. With `verify_only` nothing is added, and what is not in it is an [`Error::TransactionAbortable`].
    pub fn add_partitions(
        &self,
        transactional_id: &str,
        identity: ProducerIdentity,
        partitions: &[TopicPartition],
        verify_only: bool,
    ) -> Result<Vec<Result<()>>> {
        let permit = self.ask_transactional_id(Operation::Write, transactional_id)?;
        let mut parts = Parts::default();
        let mut found = |wanted: &TopicPartition| {
            let topic = self.topic_for(Operation::Write, &wanted.topic)?;
            topic.partition(wanted.partition)?;
            parts.add_partition(&wanted.topic, topic.id, wanted.partition);
            Ok(())
        };
        let found: Vec<Result<()>> = partitions.iter().map(&mut found).collect();
        if found.iter().any(Result::is_err) {
            return Ok(found);
        }
        let cell = self.state(&permit).known_id(transactional_id)?;
        if !verify_only {
            self.state(&permit).add_parts(&cell, identity, &parts)?;
            return Ok(found);
        }
        let state = cell.read();
        state.free()?;
        let known = state.known.as_ref().ok_or_else(|| unknown_id(transactional_id))?;
        let is_in = |wanted: &TopicPartition| {
            let mut part = Parts::default();
            part.add_partition(&wanted.topic, self.topic_for(Operation::Write, &wanted.topic)?.id, wanted.partition);
            match known.holds(identity, &part) {
                Ok(true) => Ok(()),
                Ok(false) => Err(not_added()),
                Err(Error::ProducerEpoch(why)) => Err(Error::ProducerFenced(why)),
                Err(error) => Err(error),
            }
        };
        Ok(partitions.iter().map(is_in).collect())
    }

    /// A group's offsets are to be in a producer's transaction: Kafka's AddOffsetsToTxn.
    pub fn add_group(&self, transactional_id: &str, identity: ProducerIdentity, group: &str) -> Result<()> {
        let permit = self.ask_transactional_id(Operation::Write, transactional_id)?;
        self.ask_group(Operation::Read, group)?;
        let parts = Parts::of_group(group)?;
        let cell = self.state(&permit).known_id(transactional_id)?;
        self.state(&permit).add_parts(&cell, identity, &parts)
    }

    /// A producer ends its transaction: Kafka's EndTxn. The answer is the pair that it goes on with. The outcome is decided and
    /// durable then, and so are the markers, unless a partition cannot be written: then they follow.
    pub fn end_transaction(
        &self,
        transactional_id: &str,
        identity: ProducerIdentity,
        outcome: Outcome,
        epochs: Epochs,
    ) -> Result<ProducerIdentity> {
        let permit = self.ask_transactional_id(Operation::Write, transactional_id)?;
        let state = self.state(&permit);
        let cell = state.known_id(transactional_id)?;
        let new_id = || state.env.new_producer_id();
        let ended = state.end(&cell, |before| before.end(identity, outcome, epochs, new_id))?;
        if let Some(error) = ended.left {
            state.env.tell(&format!("{}: markers are still to be written: {error}", cell.name));
        }
        Ok(ended.producer)
    }
}

impl BrokerState {
    /// The cell of an id that a producer says it has.
    pub(super) fn known_id(&self, name: &str) -> Result<Arc<IdCell>> {
        if name.is_empty() {
            return Err(Error::InvalidTransactionalId("a transactional id has at least one byte".into()));
        }
        self.find_id(name)?.ok_or_else(|| unknown_id(name))
    }

    /// A timeout that transactions may have.
    pub(super) fn transaction_timeout(&self, timeout_ms: i64, least_ms: u64) -> Result<u64> {
        let most_ms = u64::try_from(self.config.transaction_max_timeout.as_millis()).unwrap_or(u64::MAX);
        let timeout = u64::try_from(timeout_ms).ok().filter(|timeout_ms| (least_ms..=most_ms).contains(timeout_ms));
        timeout.ok_or_else(|| {
            Error::InvalidTransactionTimeout(format!(
                "a transaction cannot have {timeout_ms} ms; it is {least_ms} to {most_ms} (--transaction-max-timeout-ms)"
            ))
        })
    }

    /// Somebody begins with an id. What it gets is durable. A transaction that was open is aborted, and its markers written.
    pub(super) fn start(
        &self,
        cell: &Arc<IdCell>,
        decide: impl FnOnce(Option<&TransactionState>) -> Result<Start>,
    ) -> Result<Started> {
        let started = self.try_to_start(cell, decide);
        if started.is_err() {
            self.forget_unused(cell);
        }
        started
    }

    fn try_to_start(
        &self,
        cell: &Arc<IdCell>,
        decide: impl FnOnce(Option<&TransactionState>) -> Result<Start>,
    ) -> Result<Started> {
        let log = self.state_log_or_new()?;
        let mut state = cell.write();
        state.free()?;
        match decide(state.known.as_ref())? {
            Start::Ready(next) => {
                let producer = next.producer;
                let written = self.to_state(&log, cell, &mut state, next)?;
                drop(state);
                written.make_durable()?;
                Ok(Started::With(producer))
            }
            Start::Repeated => {
                let producer =
                    state.known.as_ref().map(|known| known.producer).ok_or_else(|| unknown_id(&cell.name))?;
                drop(state);
                self.settle(&log)?;
                Ok(Started::With(producer))
            }
            Start::AbortFirst(next) => {
                drop(self.end_as(&log, cell, state, next)?);
                Ok(Started::Aborted)
            }
        }
    }

    /// Adds to a producer's transaction, durably.
    fn add_parts(&self, cell: &Arc<IdCell>, identity: ProducerIdentity, parts: &Parts) -> Result<()> {
        match self.try_to_add(cell, identity, parts)? {
            Some(written) => written.make_durable(),
            // Whoever added it may still be at making it durable.
            None => self.settle(&*self.state_log_or_new()?),
        }
    }

    /// Adds to a producer's transaction. `None`: it is all in it.
    pub(super) fn try_to_add(
        &self,
        cell: &Arc<IdCell>,
        identity: ProducerIdentity,
        parts: &Parts,
    ) -> Result<Option<LogWrite>> {
        if !parts.groups.is_empty() {
            // Its marker will be wanted there.
            self.offsets_log_or_new()?;
        }
        let log = self.state_log_or_new()?;
        let mut state = cell.write();
        state.free()?;
        let before = state.known.as_ref().ok_or_else(|| unknown_id(&cell.name))?;
        let Some(next) = before.add(identity, parts, self.env.clock.now_ms())? else { return Ok(None) };
        // Each addition writes all of it anew.
        if next.to_line().len() > LINE_BYTES_MAX {
            return Err(Error::TransactionTooLarge);
        }
        self.to_state(&log, cell, &mut state, next).map(Some)
    }

    /// Takes away the cell of an id that came to nothing.
    pub(super) fn forget_unused(&self, cell: &Arc<IdCell>) {
        let mut state = cell.write();
        if state.known.is_none() {
            self.take_away(cell, &mut state);
        }
    }
}

/// What is answered to a producer whose id nobody knows.
pub(super) fn unknown_id(name: &str) -> Error {
    Error::InvalidProducerIdMapping(format!(
        "nobody has begun with the transactional id '{}'",
        crate::log::record::shown(name.as_bytes())
    ))
}

fn not_added() -> Error {
    Error::TransactionAbortable("the partition is not in the transaction".into())
}

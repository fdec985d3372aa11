//! Looking after transactions: which there are, what one holds, who writes a partition; and ending one by hand.

use super::{
    IdCell,
    ending::{Place, not_everywhere},
    id_cell::IdState,
    state_log,
};
use crate::{
    broker::{
        ActiveProducer, Broker, BrokerState, Error, Marker, Outcome, Partition, Permit, ResourceName, Result,
        committed_offsets,
        transaction::{Cause, LastTransaction, Parts, ProducerIdentity},
    },
    log::record::shown,
    security::Operation,
};
use std::sync::Arc;

/// A line of a list of transactional ids.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionSummary {
    /// The transactional id.
    pub transactional_id: Arc<str>,
    /// Its state, as the log names it: `ongoing`.
    pub state: &'static str,
    /// The same, as Kafka names it: `Ongoing`.
    pub kafka_state: &'static str,
    /// Its producer.
    pub producer: ProducerIdentity,
    /// How long a transaction of it may take, in ms.
    pub timeout_ms: u64,
    /// When the present or last transaction began, in ms; -1: there was none.
    pub since_ms: i64,
    /// In how many partitions the present one is, that with its groups' offsets among them; of topics that the asker may describe.
    pub partitions: usize,
}

impl TransactionSummary {
    /// Whether there is a transaction that is open or being ended.
    pub fn is_open(&self) -> bool {
        matches!(self.state, "ongoing" | "prepare_commit" | "prepare_abort")
    }
}

/// All about a transactional id.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionDescription {
    /// As a list tells it.
    pub summary: TransactionSummary,
    /// Its last transaction that held anything.
    pub last: Option<LastTransaction>,
    /// The partitions of the present transaction that it counts, that with its groups' offsets behind the others.
    pub partitions: Vec<PartitionOfTransaction>,
}

/// A partition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOfTransaction {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// Offset of the transaction's first record there; `None`: there is none yet, or it cannot be looked at.
    pub first: Option<u64>,
}

impl Broker {
    /// All transactional ids, by name.
    pub fn transactions(&self) -> Result<Vec<TransactionSummary>> {
        let mut cells = self.state(&Permit::for_everybody()).id_cells()?;
        cells.retain(|cell| self.ask_transactional_id(Operation::Describe, &cell.name).is_ok());
        Ok(cells.iter().filter_map(|cell| self.summary(cell, &cell.read())).collect())
    }

    /// What is known of a transactional id.
    pub fn transaction(&self, transactional_id: &str) -> Result<TransactionDescription> {
        let permit = self.ask_transactional_id(Operation::Describe, transactional_id)?;
        let state = self.state(&permit);
        let cell = state.cell_of(transactional_id)?;
        let (summary, known) = {
            let id = cell.read();
            self.summary(&cell, &id).zip(id.known.clone()).ok_or_else(|| unknown(transactional_id))?
        };
        let parts = known.phase.parts().cloned().unwrap_or_default();
        let described = |Place { topic, index, partition }: Place| {
            let open = |partition: Arc<Partition>| partition.open_transaction(known.producer.id).ok().flatten();
            let first = partition.ok().flatten().and_then(open).map(|open| open.first);
            PartitionOfTransaction { topic, partition: index, first }
        };
        let seen = state.places(&parts).into_iter().filter(|place| self.may_describe(&place.topic));
        let partitions = seen.map(described).collect();
        Ok(TransactionDescription { summary, last: known.last, partitions })
    }

    /// `None`: nobody has begun with it yet.
    fn summary(&self, cell: &IdCell, state: &IdState) -> Option<TransactionSummary> {
        let known = state.known.as_ref()?;
        let count = |parts: &Parts| {
            let of_groups = (!parts.groups.is_empty()).then_some((committed_offsets::TOPIC, 1));
            let all = parts.topics.iter().map(|(topic, of)| (&**topic, of.partitions.len())).chain(of_groups);
            all.filter(|(topic, _)| self.may_describe(topic)).map(|(_, count)| count).sum()
        };
        Some(TransactionSummary {
            transactional_id: cell.name.clone(),
            state: known.phase.name(),
            kafka_state: known.phase.kafka_name(),
            producer: known.producer,
            timeout_ms: known.timeout_ms,
            since_ms: known.phase.since_ms(),
            partitions: known.phase.parts().map_or(0, count),
        })
    }

    /// Aborts the open transaction of somebody else, or what of it hangs in a partition though it should have ended.
    pub fn abort_transaction(&self, transactional_id: &str) -> Result<()> {
        let permit = self.ask_transactional_id(Operation::Write, transactional_id)?;
        let state = self.state(&permit);
        let cell = state.cell_of(transactional_id)?;
        let left = match state.abort(&cell, Cause::Elsewhere) {
            Err(Error::InvalidTxnState(_)) => {
                state.abort_hanging(&cell)?;
                None
            }
            ended => ended?.left,
        };
        self.note("transaction-aborted", &[("transactional-id", &transactional_id)]);
        left.map_or(Ok(()), |why| Err(not_everywhere(Outcome::Abort, &why)))
    }

    /// Writes a marker, durably, whether a transaction is open there or not: Kafka's WriteTxnMarkers, by which an operator ends
    /// one that hangs.
    pub fn write_marker(&self, topic: &str, partition: u32, marker: Marker) -> Result<()> {
        let permit = self
            .may(Operation::ClusterAction, ResourceName::CLUSTER)
            .or_else(|_| self.ask_cluster(Operation::Alter))?;
        if topic == state_log::TOPIC {
            return Err(Error::InvalidTopic(format!("no transaction writes to '{topic}', which tells of all of them")));
        }
        let state = self.state(&permit);
        let partition = state.topic(topic)?.partition(partition)?;
        let appended = partition.write_marker(marker)?;
        let place = format!("{topic}/{}", partition.index);
        self.note("marker-written", &[("partition", &place), ("producer", &marker.producer_id)]);
        state.make_marker_durable(&partition, &marker, Some(&appended))
    }

    /// Who writes a partition with a producer id: Kafka's DescribeProducers.
    pub fn active_producers(&self, topic: &str, partition: u32) -> Result<Vec<ActiveProducer>> {
        self.topic_for(Operation::Read, topic)?.partition(partition)?.producers()
    }
}

impl BrokerState {
    /// The cell of an id that somebody asks about.
    fn cell_of(&self, transactional_id: &str) -> Result<Arc<IdCell>> {
        self.find_id(transactional_id)?.ok_or_else(|| unknown(transactional_id))
    }
}

fn unknown(transactional_id: &str) -> Error {
    Error::UnknownTransactionalId(shown(transactional_id.as_bytes()))
}

//! Partitions that are opened with an open transaction in them, of which the state's log may say that it is over.
//!
//! ```text
//! the state's log says         the partition gets
//! ongoing, this partition      nothing: its producer goes on, or its time runs out
//! ongoing, others              its line in the state: what is in it belongs to the transaction
//! prepared, or ended so        the marker that it lacks
//! another pair, or nothing     the marker of an abort: a crash took the line that named it, and nothing was acknowledged
//! (part of it is unreadable)   nothing: the operator is told. A promised commit is never undone by guessing
//! ```

use super::{IdCell, id_cell::IdState};
use crate::{
    broker::{
        BrokerState, Error, Marker, OpenTransaction, Outcome, Partition, Result, Topic, committed_offsets,
        transaction::{Epochs, Parts, Phase, ProducerIdentity, TransactionState},
    },
    config::Flush,
};
use std::sync::Arc;

/// What is to be done about an open transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It goes on, or its marker follows when those of the others do.
    Listed,
    /// It goes on, and the state's line is to name the partition.
    Unlisted,
    /// It has ended so, and its marker is missing here.
    Ended(Outcome),
    /// Nobody knows.
    Unknown,
}

/// An open transaction that was found in a partition.
struct Found<'a> {
    topic: &'a Arc<Topic>,
    partition: &'a Arc<Partition>,
    identity: ProducerIdentity,
}

impl BrokerState {
    /// Looks after the partitions that were opened with an open transaction in them. Answers whether something is to be tried
    /// again.
    pub(super) fn end_reopened(&self) -> Result<bool> {
        let mut again = false;
        for topic in self.topics() {
            for partition in topic.partitions().into_iter().filter(|partition| partition.take_found_open()) {
                match self.end_what_is_over(&topic, &partition) {
                    Ok(()) | Err(Error::UnknownTopic(_)) => {}
                    Err(error) => {
                        if !matches!(error, Error::ConcurrentTransactions(_)) {
                            self.env.tell(&format!("{}: {error}", partition.name()));
                        }
                        partition.look_after_open();
                        again = true;
                    }
                }
            }
        }
        Ok(again)
    }

    fn end_what_is_over(&self, topic: &Arc<Topic>, partition: &Arc<Partition>) -> Result<()> {
        partition.open_transactions()?.into_iter().try_for_each(|open| {
            let OpenTransaction { producer_id: id, producer_epoch: epoch, .. } = open;
            self.judge(&Found { topic, partition, identity: ProducerIdentity { id, epoch } })
        })
    }

    /// Does what is to be done about an open transaction. Nobody writes in it, or ends it, meanwhile.
    fn judge(&self, found: &Found<'_>) -> Result<()> {
        let Some(cell) = self.owner_of(found.identity)? else {
            let verdict = if self.is_incomplete()? { Verdict::Unknown } else { Verdict::Ended(Outcome::Abort) };
            return self.carry_out(found, verdict);
        };
        let log = self.state_log_or_new()?;
        let mut state = cell.write();
        let known = state.known.clone();
        let verdict = match &known {
            Some(known) => self.verdict(found, &log, &state, known)?,
            None => Verdict::Unknown,
        };
        if let (Verdict::Unlisted, Some(known)) = (verdict, known) {
            let mut parts = Parts::default();
            parts.add_partition(&found.topic.name.as_str().into(), found.topic.id, found.partition.index);
            let Some(next) = known.add(found.identity, &parts, self.env.clock.now_ms())? else { return Ok(()) };
            let written = self.to_state(&log, &cell, &mut state, next)?;
            drop(state);
            return written.make_durable();
        }
        self.carry_out(found, verdict)
    }

    fn verdict(
        &self,
        found: &Found<'_>,
        log: &Partition,
        state: &IdState,
        known: &TransactionState,
    ) -> Result<Verdict> {
        let is_listed = |parts: &Parts| match &*found.topic.name {
            committed_offsets::TOPIC => !parts.groups.is_empty(),
            topic => parts.has(topic, &found.topic.id, found.partition.index),
        };
        let is_present = known.producer == found.identity;
        let is_last = known.last.is_some_and(|last| last.identity == found.identity);
        match &known.phase {
            Phase::Ongoing { parts, .. } if is_present && is_listed(parts) => Ok(Verdict::Listed),
            Phase::Ongoing { .. } if is_present && found.topic.name == committed_offsets::TOPIC => {
                Ok(Verdict::Ended(Outcome::Abort))
            }
            Phase::Ongoing { .. } if is_present => state.free().map(|()| Verdict::Unlisted),
            Phase::Prepared { parts, .. } if is_last && is_listed(parts) => Ok(Verdict::Listed),
            Phase::Prepared { outcome, .. } if is_last => Ok(Verdict::Ended(*outcome)),
            // Of a pair that is kept, another transaction may have begun whose line a crash took. Where all is synced, the one
            // that ended has all its markers, so it must be that.
            _ if is_last
                && known.epochs == Epochs::Kept
                && self.is_synced(found.partition)?
                && self.is_synced(log)? =>
            {
                Ok(Verdict::Ended(Outcome::Abort))
            }
            _ => match known.outcome_of(found.identity) {
                Some(outcome) => Ok(Verdict::Ended(outcome)),
                None if self.is_incomplete()? => Ok(Verdict::Unknown),
                None => Ok(Verdict::Ended(Outcome::Abort)),
            },
        }
    }

    fn carry_out(&self, found: &Found<'_>, verdict: Verdict) -> Result<()> {
        let ProducerIdentity { id: producer_id, epoch: producer_epoch } = found.identity;
        match verdict {
            Verdict::Listed | Verdict::Unlisted => Ok(()),
            Verdict::Ended(outcome) => self
                .mark_durably(found.partition, Marker { producer_id, producer_epoch, outcome, coordinator_epoch: 0 }),
            Verdict::Unknown => {
                self.env.tell(&format!(
                    "{}: the transaction of producer {producer_id} in epoch {producer_epoch} stays open: part of the log that \
                     tells how it ended cannot be read. Abort its transactional id, or write its marker \
                     (kafka-transactions.sh abort)",
                    found.partition.name()
                ));
                Ok(())
            }
        }
    }

    /// Aborts what of an id's producer is open in any partition, though its state says that nothing is. An error if nothing is.
    pub(super) fn abort_hanging(&self, cell: &IdCell) -> Result<()> {
        let state = cell.write();
        state.free()?;
        let none = || Error::InvalidTxnState("no transaction is open".into());
        let producer = state.known.as_ref().filter(|known| known.is_at_rest()).ok_or_else(none)?.producer;
        let mut found = Err(none());
        for partition in self.topics().into_iter().flat_map(|topic| topic.partitions()) {
            let Some(open) = partition.open_transaction(producer.id)? else { continue };
            let OpenTransaction { producer_id, producer_epoch, .. } = open;
            let marker = Marker { producer_id, producer_epoch, outcome: Outcome::Abort, coordinator_epoch: 0 };
            self.mark_durably(&partition, marker)?;
            found = Ok(());
        }
        found
    }

    /// The transactional id that this pair belongs to, or that tells how its transaction ended.
    fn owner_of(&self, identity: ProducerIdentity) -> Result<Option<Arc<IdCell>>> {
        if let Some(cell) = self.find_producer(identity.id)? {
            return Ok(Some(cell));
        }
        let tells =
            |cell: &Arc<IdCell>| cell.read().known.as_ref().is_some_and(|known| known.outcome_of(identity).is_some());
        Ok(self.id_cells()?.into_iter().find(tells))
    }

    pub(super) fn is_incomplete(&self) -> Result<bool> {
        Ok(self.ids()?.as_ref().is_some_and(|ids| ids.is_incomplete))
    }

    /// Whether what is acknowledged in this partition is synced before.
    fn is_synced(&self, partition: &Partition) -> Result<bool> {
        Ok(partition.settings()?.flush(self.env.flush) == Flush::Always)
    }
}

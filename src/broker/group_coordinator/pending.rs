//! Offsets that transactions commit (KIP-447): they take effect when the transaction does, or never.
//!
//! ```text
//! write_pending_offsets    a batch of the transaction in the groups' log ─► pending in the group
//! marker_written           its marker is there                           ─► committed, or forgotten
//! ```
//!
//! - Whoever writes them holds the transaction's lock from the check of its state until they are written. So no line comes
//!   behind the marker that ends its transaction.
//! - While an offset is pending nobody begins to read from there: a new owner of the partition waits, and is woken at the end.
//! - A group with pending offsets neither rests nor is forgotten. Whoever deletes it deletes them too, as in Kafka.
//! - Over a restart they are pending as before: the log tells of them.

use super::{CommitOutcome, GroupCell, GroupState, LogWrite, OffsetCommit, group_log::write_records, make_durable};
use crate::{
    broker::{
        Broker, BrokerState, Error, IfAbsent, Marker, Partition, Result, Sequence, Terms, Transaction,
        committed_offsets,
        group::Committer,
        sync::Mutex,
        transaction::{Parts, ProducerIdentity},
        transaction_coordinator::WrittenInTransaction,
    },
    log::{Numbering, Outcome, batches::Flags, record::Records},
    security::Operation,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The groups in which open transactions have offsets, by the producer's id.
#[derive(Debug, Default)]
pub(super) struct PendingGroups(Mutex<BTreeMap<i64, BTreeSet<Arc<str>>>>);

impl PendingGroups {
    pub(super) fn add(&self, producer_id: i64, group: &Arc<str>) {
        let mut pending = self.0.lock().expect("no panic under the lock of pending groups");
        pending.entry(producer_id).or_default().insert(group.clone());
    }

    fn take(&self, producer_id: i64) -> BTreeSet<Arc<str>> {
        self.0.lock().expect("no panic under the lock of pending groups").remove(&producer_id).unwrap_or_default()
    }

    pub(super) fn remove(&self, producer_id: i64, group: &str) {
        let mut pending = self.0.lock().expect("no panic under the lock of pending groups");
        if let Some(groups) = pending.get_mut(&producer_id) {
            groups.remove(group);
            if groups.is_empty() {
                pending.remove(&producer_id);
            }
        }
    }
}

impl Broker {
    /// TxnOffsetCommit: offsets of a group in a Kafka producer's transaction. Answers what became of each, in order; those that
    /// were taken are as durable as was promised.
    pub fn commit_offsets_in_transaction(
        &self,
        transactional_id: &str,
        identity: ProducerIdentity,
        if_absent: IfAbsent,
        group: &str,
        committer: Committer<'_>,
        offsets: Vec<OffsetCommit>,
    ) -> Result<Vec<Result<()>>> {
        self.ask_transactional_id(Operation::Write, transactional_id)?;
        let permit = self.ask_group(Operation::Read, group)?;
        let parts = parts_of(group)?;
        let transaction = self.transaction_of(transactional_id, identity, if_absent)?;
        let write = || self.write_pending_offsets(group, identity, committer, offsets);
        let WrittenInTransaction { written, added } = self.state(&permit).write_in(&transaction, &parts, write)?;
        let CommitOutcome { outcomes, written } = written?;
        make_durable(added)?;
        make_durable(written)?;
        Ok(outcomes)
    }

    /// Commits offsets of a group in a transaction that a connection, or an embedded producer, has begun: for a member elsewhere or,
    /// while the group has none, for nobody. All of them, durably, or none.
    pub fn commit_offsets_in(
        &self,
        transaction: &Transaction,
        group: &str,
        committer: Committer<'_>,
        offsets: &[(&str, u32, u64)],
    ) -> Result<()> {
        let permit = self.ask_group(Operation::Read, group)?;
        let writer = transaction.writer();
        let commit = |&(topic, partition, offset): &(&str, u32, u64)| -> Result<OffsetCommit> {
            let committed = self.at(topic, partition, offset, self.now_ms())?;
            Ok(OffsetCommit { topic: topic.into(), partition, committed })
        };
        let offsets = offsets.iter().map(commit).collect::<Result<_>>()?;
        let parts = parts_of(group)?;
        let write = || self.write_pending_offsets(group, writer.identity, committer, offsets);
        let written = self.state(&permit).write_in(&writer, &parts, write).map_err(|error| writer.refusal(error))?;
        let CommitOutcome { outcomes, written: offsets } = written.written?;
        make_durable(written.added)?;
        make_durable(offsets)?;
        outcomes.into_iter().collect()
    }

    /// Answers what becomes of each offset, in order; those that can be taken are pending together. The caller holds the
    /// transaction's lock, and makes them durable before it answers.
    pub(super) fn write_pending_offsets(
        &self,
        group: &str,
        producer: ProducerIdentity,
        committer: Committer<'_>,
        offsets: Vec<OffsetCommit>,
    ) -> Result<CommitOutcome> {
        let permit = self.ask_group(Operation::Read, group)?;
        check_name(group)?;
        let state = self.state(&permit);
        if let Committer::Member { generation: generation @ 0.., .. } = committer
            && state.find_group(group)?.is_none()
        {
            return Err(Error::IllegalGeneration(format!("generation {generation} of a group that is not there")));
        }
        let log = state.offsets_log_or_new()?;
        let (_, done) = state.change_or_new(group, |cell, now| {
            let partitions: Vec<_> = offsets.iter().map(|offset| (&*offset.topic, offset.partition)).collect();
            cell.group.may_commit_later(now, committer, &partitions)?;
            let checked: Vec<_> = offsets.iter().map(|offset| self.check_commit(offset)).collect();
            let taken = offsets.into_iter().zip(&checked).filter(|(_, checked)| checked.is_ok());
            let taken = taken.map(|(offset, _)| offset).collect();
            let written = state.write_pending(&log, &group.into(), cell, producer, taken)?;
            Ok(CommitOutcome { outcomes: checked, written })
        })?;
        done
    }
}

/// What a transaction is to hold for offsets of this group, whose name is checked before the transaction's line has it.
fn parts_of(group: &str) -> Result<Parts> {
    check_name(group).and_then(|()| Parts::of_group(group))
}

fn check_name(group: &str) -> Result<()> {
    if group.is_empty() { Err(Error::InvalidGroup("a group needs a name".into())) } else { Ok(()) }
}

impl BrokerState {
    /// Writes offsets that are pending from here on, under the group's lock: all of them or none.
    pub(super) fn write_pending(
        &self,
        log: &Arc<Partition>,
        name: &Arc<str>,
        state: &mut GroupState,
        producer: ProducerIdentity,
        offsets: Vec<OffsetCommit>,
    ) -> Result<Option<LogWrite>> {
        if offsets.is_empty() {
            return Ok(None);
        }
        let mut records = Records::default();
        for OffsetCommit { topic, partition, committed } in &offsets {
            committed_offsets::push(&mut records, name, (topic, *partition), Some(committed));
        }
        let (flags, ProducerIdentity { id: producer_id, epoch: producer_epoch }) = (Flags::TRANSACTIONAL, producer);
        let numbering = Numbering { producer_id, producer_epoch, base_sequence: -1 };
        let terms = Terms { flags, producer: Some(numbering), sequence: Sequence::Next, whole: true };
        let written = write_records(log, &records, terms)?;
        for (line, OffsetCommit { topic, partition, committed }) in written.lines().zip(offsets) {
            state.offsets.commit_later(producer.id, (topic, partition), committed, line);
        }
        self.coordinator.pending.add(producer.id, name);
        Ok(Some(written))
    }

    /// A marker stands in a partition, at this offset, and readers see it. If it is that of the groups' log, the offsets that the producer has
    /// pending before it take effect or are forgotten. A marker that was told before changes nothing.
    pub(in crate::broker) fn marker_written(&self, partition: &Partition, marker: &Marker, offset: u64) {
        let is_groups_log = |log: Arc<Partition>| std::ptr::eq(&*log, partition);
        if self.offsets_log().is_ok_and(|log| log.is_some_and(is_groups_log)) {
            self.end_pending(marker.producer_id, marker.outcome, offset);
        }
    }

    fn end_pending(&self, producer_id: i64, outcome: Outcome, marker: u64) {
        // Whoever reads the log back from here on finds the marker there; who is at it may have come before it, and is waited for.
        if self.coordinator.groups.lock().expect("no panic under the groups' lock").is_none() {
            return;
        }
        let find = |name: &Arc<str>| -> Option<Arc<GroupCell>> {
            let groups = self.coordinator.groups.lock().expect("no panic under the groups' lock");
            groups.as_ref()?.awake.get(name).cloned()
        };
        for name in self.coordinator.pending.take(producer_id) {
            let Some(cell) = find(&name) else { continue };
            self.change(&cell, |state, _| {
                state.offsets.end(producer_id, outcome, marker);
                if state.offsets.has_pending_of(producer_id) {
                    self.coordinator.pending.add(producer_id, &name);
                }
                state.waiting.values().for_each(|waiting| waiting.waiter.wake());
            });
        }
    }
}

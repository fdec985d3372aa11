//! How a transaction ends: what was written is settled, the outcome is written down, and then markers tell it everywhere.
//!
//! Each step stands on the one before, see the rules of the [coordinator](super). What fails before the prepare line is written
//! aborts the transaction; what fails behind it is tried again by maintenance until it is done.

use super::{
    IdCell, LogWrite,
    id_cell::{Hold, IdState},
    requests::unknown_id,
    state_log::is_intact,
};
use crate::{
    broker::{
        BrokerState, Error, Marker, Outcome, Partition, Result, committed_offsets,
        transaction::{Cause, End, Parts, Phase, ProducerIdentity, TransactionState},
    },
    log::Appended,
};
use std::{
    sync::{Arc, RwLockWriteGuard},
    time::Duration,
};

/// How soon maintenance tries again what failed.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// A transaction whose outcome is decided, and durably so.
#[derive(Debug)]
pub(super) struct Ended {
    /// The pair that the producer goes on with.
    pub(super) producer: ProducerIdentity,
    /// Why not all markers are written yet.
    pub(super) left: Option<Error>,
}

/// What is answered where an outcome is decided, and its markers take longer than anybody waits.
pub(super) fn not_everywhere(outcome: Outcome, why: &Error) -> Error {
    Error::TimedOut(format!("{} is decided, and not everywhere yet: {why}", outcome.name()))
}

fn to_be_aborted(why: impl std::fmt::Display) -> Error {
    Error::Storage(format!("the transaction is aborted as soon as the disk lets it: {why}"))
}

/// A place of a transaction: a partition that it wrote, or the one with the offsets of its groups.
pub(super) struct Place {
    pub(super) topic: Arc<str>,
    pub(super) index: u32,
    /// `None`: it is gone. An error: it cannot be looked at now.
    pub(super) partition: Result<Option<Arc<Partition>>>,
}

impl Ended {
    /// An error if not all markers are written yet.
    pub(super) fn everywhere(self) -> Result<()> {
        self.left.map_or(Ok(()), Err)
    }
}

impl BrokerState {
    /// Ends a transaction as `decide` says. After an error that is not about storage it is as it was.
    pub(super) fn end(
        &self,
        cell: &Arc<IdCell>,
        decide: impl FnOnce(&TransactionState) -> Result<End>,
    ) -> Result<Ended> {
        let log = self.state_log_or_new()?;
        let state = cell.write();
        state.free()?;
        let Some(known) = &state.known else { return Err(unknown_id(&cell.name)) };
        match decide(known)? {
            End::Repeated => {
                let producer = known.producer;
                drop(state);
                // Whoever did it may not have been answered yet.
                self.settle(&log)?;
                Ok(Ended { producer, left: None })
            }
            End::Nothing(next) | End::Prepare(next) => self.end_as(&log, cell, state, next),
        }
    }

    /// Aborts what is open.
    pub(super) fn abort(&self, cell: &Arc<IdCell>, cause: Cause) -> Result<Ended> {
        let log = self.state_log_or_new()?;
        let state = cell.write();
        state.free()?;
        let Some(known) = &state.known else { return Err(unknown_id(&cell.name)) };
        let next = known.abort(cause, || self.env.new_producer_id())?;
        self.end_as(&log, cell, state, next)
    }

    /// Ends a transaction: this is to be its state. Nobody writes in it from here on.
    pub(super) fn end_as(
        &self,
        log: &Arc<Partition>,
        cell: &Arc<IdCell>,
        mut state: RwLockWriteGuard<'_, IdState>,
        next: TransactionState,
    ) -> Result<Ended> {
        if let Phase::Prepared { .. } = next.phase {
            state.hold = Hold::Busy;
            drop(state);
            return self.settle_and_prepare(log, cell, next);
        }
        let producer = next.producer;
        let written = self.to_state(log, cell, &mut state, next)?;
        drop(state);
        written.make_durable()?;
        Ok(Ended { producer, left: None })
    }

    /// Aborts what could not be ended for want of room.
    pub(super) fn abort_due(&self, cell: &Arc<IdCell>) -> Result<()> {
        let log = self.state_log_or_new()?;
        let mut state = cell.write();
        let (Hold::AbortDue, Some(known)) = (state.hold, &state.known) else { return Ok(()) };
        let next = known.abort(Cause::Storage, || self.env.new_producer_id())?;
        state.hold = Hold::Busy;
        drop(state);
        self.prepare(&log, cell, next).and_then(Ended::everywhere)
    }

    /// Writes the markers of what is prepared, if nobody else does.
    pub(super) fn go_on_ending(&self, cell: &Arc<IdCell>) -> Result<()> {
        let log = self.state_log_or_new()?;
        let mut state = cell.write();
        if state.hold != Hold::Free || !state.is_prepared() {
            return Ok(());
        }
        state.hold = Hold::Busy;
        drop(state);
        // Its prepare line may be one whose sync failed.
        self.finish(&log, cell, self.settle(&log))
    }

    /// Settles what was written, and ends the transaction as decided, or by an abort if some of it may be lost. The
    /// caller has put the hold on it.
    fn settle_and_prepare(&self, log: &Arc<Partition>, cell: &Arc<IdCell>, next: TransactionState) -> Result<Ended> {
        let Phase::Prepared { outcome: Outcome::Commit, parts, .. } = &next.phase else {
            return self.prepare(log, cell, next);
        };
        let Err(lost) = self.settle_parts(parts) else { return self.prepare(log, cell, next) };
        let known = cell.read().known.clone();
        let abort = |known: TransactionState| known.abort(Cause::Storage, || self.env.new_producer_id());
        match known.map(abort) {
            Some(Ok(next)) => drop(self.prepare(log, cell, next)?),
            _ => self.leave_to_be_aborted(cell),
        }
        Err(Error::Storage(format!("the transaction was aborted: {lost}")))
    }

    /// Writes the prepare line, and then the markers. The caller has put the hold on the id.
    fn prepare(&self, log: &Arc<Partition>, cell: &Arc<IdCell>, next: TransactionState) -> Result<Ended> {
        let producer = next.complete().producer;
        if !is_intact(log) {
            self.leave_to_be_aborted(cell);
            return Err(to_be_aborted("its log takes nothing more until the broker restarts"));
        }
        let written = self.to_state(log, cell, &mut cell.write(), next);
        if let Err(error) = written.as_ref().map_err(Error::clone).and_then(LogWrite::make_durable) {
            return Err(self.not_prepared(log, cell, written.is_ok(), error));
        }
        Ok(Ended { producer, left: self.finish(log, cell, Ok(())).err() })
    }

    /// The prepare line could not be written, or not be synced.
    fn not_prepared(&self, log: &Partition, cell: &IdCell, is_written: bool, error: Error) -> Error {
        match (is_intact(log), is_written) {
            (true, false) => {
                self.leave_to_be_aborted(cell);
                to_be_aborted(error)
            }
            // It stands there. Before the markers it is made durable.
            (true, true) => {
                cell.hold(Hold::Free);
                self.look_at_transactions_in(RETRY);
                Error::Storage(format!("the transaction ends as soon as the disk lets it: {error}"))
            }
            (false, _) => {
                cell.hold(Hold::InDoubt);
                Error::Storage(format!("whether the transaction ended is known after a restart of the broker: {error}"))
            }
        }
    }

    fn leave_to_be_aborted(&self, cell: &IdCell) {
        cell.hold(Hold::AbortDue);
        self.look_at_transactions_in(RETRY);
    }

    /// Writes markers, if the prepare line is durable, and the complete line. The caller has put the hold on the id, which is taken
    /// away.
    fn finish(&self, log: &Arc<Partition>, cell: &Arc<IdCell>, durable: Result<()>) -> Result<()> {
        let known = cell.read().known.clone();
        let Some(prepared) = known else { return Ok(()) };
        let marked = durable.and_then(|()| self.write_markers(&prepared));
        let mut state = cell.write();
        state.hold = Hold::Free;
        // A crash that takes this line changes nothing: the markers stand there.
        let completed = marked.and_then(|()| self.to_state(log, cell, &mut state, prepared.complete()));
        drop(state);
        cell.wake();
        if completed.is_err() {
            self.look_at_transactions_in(RETRY);
        }
        completed.map(drop)
    }

    /// Writes the markers of what is prepared, durably, wherever one is missing.
    fn write_markers(&self, prepared: &TransactionState) -> Result<()> {
        let Phase::Prepared { outcome, parts, .. } = &prepared.phase else { return Ok(()) };
        let ProducerIdentity { id: producer_id, epoch: producer_epoch } = prepared.producer;
        let marker = Marker { producer_id, producer_epoch, outcome: *outcome, coordinator_epoch: 0 };
        let mut first_error = None;
        let mut written = Vec::new();
        for Place { topic, index, partition } in self.places(parts) {
            let mark = |partition: Arc<Partition>| Ok((self.mark(&partition, marker)?, partition));
            match partition.and_then(|partition| partition.map(mark).transpose()) {
                Ok(marked) => written.extend(marked),
                Err(Error::UnknownTopic(_)) => {}
                Err(error) => drop(first_error.get_or_insert(Error::Storage(format!("{topic}/{index}: {error}")))),
            }
        }
        for (appended, partition) in &written {
            match self.make_marker_durable(partition, &marker, appended.as_ref()) {
                Ok(()) | Err(Error::UnknownTopic(_)) => {}
                Err(error) => drop(first_error.get_or_insert(Error::Storage(format!("{}: {error}", partition.name())))),
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Ends an open transaction in one partition, durably.
    pub(super) fn mark_durably(&self, partition: &Partition, marker: Marker) -> Result<()> {
        let marked = self.mark(partition, marker)?;
        self.make_marker_durable(partition, &marker, marked.as_ref())
    }

    /// Appends a marker where a transaction of the producer waits for one.
    fn mark(&self, partition: &Partition, marker: Marker) -> Result<Option<Appended>> {
        if partition.open_transaction(marker.producer_id)?.is_none() {
            return Ok(None);
        }
        let appended = partition.write_marker(marker)?;
        partition.sync_soon(&*partition.settings()?);
        Ok(Some(appended))
    }

    /// Makes a marker durable, and tells groups whose offsets it decides on. One that was not missing may have been written by a
    /// try whose sync failed.
    pub(super) fn make_marker_durable(
        &self,
        partition: &Partition,
        marker: &Marker,
        appended: Option<&Appended>,
    ) -> Result<()> {
        appended.map_or_else(|| self.settle(partition), |appended| partition.make_durable(appended))?;
        // Nobody writes in a transaction that is being ended: whatever is pending lies before its marker.
        self.marker_written(partition, marker, appended.map_or(u64::MAX, |appended| appended.offsets.start));
        Ok(())
    }

    /// Makes what a transaction wrote as durable as the flush modes promise. An error if some of it may be lost.
    fn settle_parts(&self, parts: &Parts) -> Result<()> {
        for Place { topic, index, partition } in self.places(parts) {
            let settle = |partition: Arc<Partition>| self.settle(&partition);
            match partition.and_then(|partition| partition.map_or(Ok(()), settle)) {
                Ok(()) | Err(Error::UnknownTopic(_)) => {}
                Err(error) => return Err(Error::Storage(format!("{topic}/{index}: {error}"))),
            }
        }
        Ok(())
    }

    /// The partitions that a transaction wrote, and the one with the offsets of its groups.
    pub(super) fn places(&self, parts: &Parts) -> Vec<Place> {
        let found = |topic: &str, topic_id: Option<&[u8; 16]>, index| match self.topic(topic) {
            Ok(topic) if topic_id.is_none_or(|id| topic.id == *id) => topic.partition(index).map(Some),
            Ok(_) | Err(Error::UnknownTopic(_)) => Ok(None),
            Err(error) => Err(error),
        };
        let mut places = Vec::new();
        for part in parts.partitions() {
            let partition = found(part.topic, Some(part.topic_id), part.partition);
            places.push(Place { topic: part.topic.clone(), index: part.partition, partition });
        }
        if !parts.groups.is_empty() {
            let partition = found(committed_offsets::TOPIC, None, 0);
            places.push(Place { topic: committed_offsets::TOPIC.into(), index: 0, partition });
        }
        places
    }
}

//! What is written to the groups' log: offsets, and what a restart must find of each group: its line, those of its members.
//!
//! All of it is written under the group's lock, and synced without it.

use super::group_cell::{GroupCell, GroupLine, GroupState};
use crate::{
    broker::{BrokerState, Committed, Error, Partition, Result, Terms, committed_offsets, internal_log::LogWrite},
    log::record::Records,
};
use std::sync::{Arc, atomic::Ordering::*};

/// A change of a group's offsets: one is committed, or deleted (`None`).
pub(super) struct OffsetChange {
    pub(super) topic: Arc<str>,
    pub(super) partition: u32,
    pub(super) committed: Option<Committed>,
}

impl OffsetChange {
    /// The offset of this topic and partition is deleted.
    pub(super) fn deletion((topic, partition): (Arc<str>, u32)) -> OffsetChange {
        OffsetChange { topic, partition, committed: None }
    }
}

impl BrokerState {
    /// The partition of the committed offsets, if it was ever needed.
    pub(super) fn offsets_log(&self) -> Result<Option<Arc<Partition>>> {
        self.internal_log(committed_offsets::TOPIC)
    }

    /// The partition of the committed offsets, made if need be. Not for those who hold a group's lock.
    pub(in crate::broker) fn offsets_log_or_new(&self) -> Result<Arc<Partition>> {
        self.internal_log_or_new(committed_offsets::TOPIC)
    }

    /// Writes changes of a group's offsets, and perhaps the group's end, under its lock: all of it or nothing.
    pub(super) fn write_changes(
        &self,
        log: &Arc<Partition>,
        name: &str,
        state: &mut GroupState,
        changes: Vec<OffsetChange>,
        ends: bool,
    ) -> Result<Option<LogWrite>> {
        let mut records = Records::default();
        for OffsetChange { topic, partition, committed } in &changes {
            committed_offsets::push(&mut records, name, (topic, *partition), committed.as_ref());
        }
        if ends && state.line.offset.is_some() {
            committed_offsets::push_group(&mut records, name, None);
            let members = state.group.ends();
            members.iter().for_each(|change| committed_offsets::push_member(&mut records, name, change));
        }
        let written = if records.is_empty() { None } else { Some(write_whole(log, &records)?) };
        let before: Vec<_> = state.offsets.pending_producers().collect();
        let lines = written.iter().flat_map(LogWrite::lines);
        for (line, OffsetChange { topic, partition, committed }) in lines.zip(changes) {
            match committed {
                Some(committed) => state.offsets.commit((topic, partition), committed, line),
                None => state.offsets.delete(&(topic, partition)),
            }
        }
        for producer_id in before {
            if !state.offsets.has_pending_of(producer_id) {
                self.coordinator.pending.remove(producer_id, name);
            }
        }
        if ends {
            (state.line, state.kept_until_ms) = (GroupLine::default(), None);
            state.group.ended();
        }
        Ok(written)
    }

    /// Writes what a restart must find of a group, if that has changed, under its lock.
    pub(super) fn save(&self, name: &str, state: &mut GroupState) -> Option<LogWrite> {
        let unsaved = state.group.take_unsaved()?;
        let mut records = Records::default();
        unsaved.group.iter().for_each(|saved| committed_offsets::push_group(&mut records, name, Some(saved)));
        unsaved.members.iter().for_each(|change| committed_offsets::push_member(&mut records, name, change));
        let log = self.offsets_log().and_then(|log| log.ok_or(Error::UnknownTopic(committed_offsets::TOPIC.into())));
        match log.and_then(|log| write_whole(&log, &records)) {
            Ok(written) => {
                let offsets = written.lines();
                // The group's own line comes first.
                let offset = unsaved.group.map(|_| offsets.start).or(state.line.offset);
                state.line = GroupLine { offset, unsynced_to: Some(offsets.end), is_refused: false };
                self.coordinator.told_refusal.store(false, Release);
                Some(written)
            }
            Err(error) => {
                state.group.not_saved(Some(unsaved));
                self.refuse_line(state, &error);
                None
            }
        }
    }

    /// The disk refused the line of a group.
    pub(super) fn refuse_line(&self, state: &mut GroupState, error: &Error) {
        (state.line.is_refused, state.line.unsynced_to) = (true, None);
        state.group.not_saved(None);
        self.tell_refusal(error);
    }

    /// Tells, once until a line is written again, that groups go on in memory alone.
    pub(super) fn tell_refusal(&self, error: &Error) {
        if !self.coordinator.told_refusal.swap(true, AcqRel) {
            self.env.tell(&format!("groups go on, but a restart will not know who is in them: {error}"));
        }
    }

    /// Waits until the line of a group is synced, whatever the flush mode. Whoever is told of an assignment waits for this:
    /// a crash must not take it back.
    pub(super) fn sync_line(&self, cell: &GroupCell) {
        let Some(end) = cell.lock().line.unsynced_to else { return };
        let sync = |log: Option<Arc<Partition>>| match log {
            Some(log) => log.sync_to(end),
            None => Ok(()),
        };
        let synced = self.offsets_log().and_then(sync);
        let mut state = cell.lock();
        match synced {
            Ok(()) if state.line.unsynced_to == Some(end) => state.line.unsynced_to = None,
            Ok(()) => {}
            Err(error) => self.refuse_line(&mut state, &error),
        }
    }
}

/// Writes records of a group to the groups' log, all or none of them.
pub(super) fn write_whole(log: &Arc<Partition>, records: &Records<'_>) -> Result<LogWrite> {
    write_records(log, records, Terms::default())
}

/// The same, of a transaction perhaps.
pub(super) fn write_records(log: &Arc<Partition>, records: &Records<'_>, terms: Terms) -> Result<LogWrite> {
    LogWrite::of(log, records, terms).map_err(|error| match error {
        Error::BatchTooLarge { .. } => Error::CommitTooLarge,
        error => error,
    })
}

//! What becomes of groups when topics change and time passes, though nobody asks for them.

use super::{
    Changed, LogWrite,
    group_cell::GroupState,
    group_log::{OffsetChange, write_whole},
    kept_until_ms, make_durable,
};
use crate::{
    broker::{BrokerState, Committed, Partition, Result, committed_offsets, group_offsets::OffsetKey},
    log::record::Records,
};
use std::sync::{Arc, atomic::Ordering::*};

/// How many groups that rest are forgotten under one lock.
const FORGOTTEN_AT_ONCE: usize = 1000;

/// What became of offsets that were too old.
#[derive(Default)]
struct Expired {
    written: Option<LogWrite>,
    /// When the next one will be, in ms.
    next_ms: Option<i64>,
}

impl BrokerState {
    /// A topic was made, got more partitions, or is being dropped (`None`), and is not found any more. What groups have read of a
    /// dropped topic is forgotten: by the others too where the share groups, or they, cannot be.
    pub(in crate::broker) fn topic_changed(&self, topic: &str, partitions: Option<u32>) -> Result<()> {
        let shares = if partitions.is_none() { self.forget_shares_of_topic(topic) } else { Ok(()) };
        self.change_groups_of(topic, partitions).and(shares)
    }

    fn change_groups_of(&self, topic: &str, partitions: Option<u32>) -> Result<()> {
        if self.coordinator.groups.lock().expect("no panic under the groups' lock").is_none() && partitions.is_some() {
            return Ok(());
        }
        let log = self.offsets_log()?;
        let mut last = None;
        for cell in self.awake_groups()? {
            let changed = self.change_and_write(&cell, |state, now| {
                state.group.topic_changed(now, topic, partitions);
                let Some(log) = log.as_ref().filter(|_| partitions.is_none()) else { return Ok(None) };
                let lost = state.offsets.partitions().into_iter().filter(|(of, _)| **of == *topic);
                let lost = lost.map(OffsetChange::deletion).collect();
                self.write_changes(log, &cell.name, state, lost, false)
            });
            let Some(Changed { done, written, .. }) = changed else { continue };
            last = written.or(done?).or(last);
        }
        make_durable(last)
    }

    /// Forgets what groups have read of a topic that is not there. Where no group can be read back, none can go on from it either;
    /// the same holds for what share groups have done.
    pub(in crate::broker) fn forget_offsets_of(&self, topic: &str) -> Result<()> {
        let shares = match self.load_shares() {
            Ok(()) => self.forget_shares_of_topic(topic),
            Err(error) => {
                self.env.tell(&format!("share groups cannot be read back: {error}"));
                Ok(())
            }
        };
        let groups = match self.awake_groups() {
            Ok(_) => self.change_groups_of(topic, None),
            Err(error) => {
                self.env.tell(&format!("groups cannot be read back: {error}"));
                Ok(())
            }
        };
        groups.and(shares)
    }

    /// What time asks of the groups: ends sessions, forgets offsets that are too old, of groups that had no members for as
    /// long, and groups that have nothing left. Answers when to look again, in ms, but for sessions: those are looked after.
    pub(in crate::broker) fn look_after_groups(&self) -> Result<Option<i64>> {
        self.coordinator.looks_at.store(u64::MAX, Release);
        let loaded = self.coordinator.groups.lock().expect("no panic under the groups' lock").is_some();
        if !loaded {
            return Ok(None);
        }
        let log = self.offsets_log()?;
        let (now_ms, mut last, mut next, mut left) = (self.env.clock.now_ms(), None, None::<i64>, vec![]);
        for cell in self.awake_groups()? {
            let changed = self.change_and_write(&cell, |state, _| {
                if state.line.is_refused {
                    state.group.save_again();
                }
                let expire = |log| self.expire_offsets(log, &cell.name, state, now_ms);
                log.as_ref().map(expire).transpose()
            });
            let Some(Changed { done, written, nothing_left }) = changed else { continue };
            let Expired { written: expired, next_ms } = done?.unwrap_or_default();
            last = written.or(expired).or(last);
            next = next.into_iter().chain(next_ms).min();
            left.extend(nothing_left.then_some(cell));
        }
        make_durable(last)?;
        let last = left.iter().filter_map(|cell| self.put_to_rest(cell)).last();
        make_durable(last)?;
        if let Some(log) = log {
            make_durable(self.forget_resting(&log, now_ms)?)?;
        }
        let groups = self.coordinator.groups.lock().expect("no panic under the groups' lock");
        let next_rest = groups.as_ref().and_then(|groups| groups.resting.next_ms());
        Ok(next.into_iter().chain(next_rest).min())
    }

    /// Forgets offsets of a group that are too old, under its lock; with the last of them the group goes, if nobody is in it.
    /// An open transaction's are kept until it ends.
    fn expire_offsets(&self, log: &Arc<Partition>, name: &str, state: &mut GroupState, now_ms: i64) -> Result<Expired> {
        let retention_ms = self.config.offsets_retention.as_millis() as i64;
        let empty_since_ms = state.empty_since_ms.unwrap_or(now_ms);
        let offsets = &state.offsets;
        // Whether one is too old that a transaction may replace is asked again when it may have ended.
        let due = |(partition, committed): (&OffsetKey, &Committed)| {
            let due = committed.timestamp_ms.max(empty_since_ms).saturating_add(retention_ms);
            if offsets.is_pending(partition) { due.max(kept_until_ms(&state.group, now_ms)) } else { due }
        };
        let over = offsets.committed().iter().filter(|&offset| due(offset) <= now_ms);
        let over: Vec<_> = over.map(|(partition, _)| OffsetChange::deletion(partition.clone())).collect();
        let is_all = over.len() == offsets.committed().len() && !offsets.has_pending();
        let ends = !over.is_empty() && is_all && state.group.empty_since().is_some();
        let next_ms = offsets.committed().iter().map(due).filter(|&due| due > now_ms).min();
        let written = self.write_changes(log, name, state, over, ends)?;
        Ok(Expired { written, next_ms })
    }

    /// Forgets groups that have rested long enough, and writes their ends.
    fn forget_resting(&self, log: &Arc<Partition>, now_ms: i64) -> Result<Option<LogWrite>> {
        let mut last = None;
        loop {
            let mut groups = self.coordinator.groups.lock().expect("no panic under the groups' lock");
            let Some(groups) = groups.as_mut() else { return Ok(last) };
            let due = groups.resting.due(now_ms, FORGOTTEN_AT_ONCE);
            if due.is_empty() {
                return Ok(last);
            }
            let mut records = Records::default();
            committed_offsets::read_groups(log, &due, |name, _| {
                committed_offsets::push_group(&mut records, name, None);
            })?;
            if !records.is_empty() {
                last = Some(write_whole(log, &records)?);
            }
            groups.resting.forget(&due);
        }
    }
}

//! What administrators ask of share groups, and what becomes of their state when topics and groups go.

use super::{ShareCell, ShareCounts, state_log};
use crate::broker::{
    Broker, BrokerState, Error, PartitionHandle, Result, internal_log::LogWrite, share_partition::SavedShare,
};
use std::sync::Arc;

/// How far a share group is in a partition, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareOffset {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// Everything below is done. `None`: nobody has read yet.
    pub start: Option<u64>,
    /// The leader epoch of the partition at that time.
    pub leader_epoch: u32,
    /// How many records are done from the start on.
    pub done: u64,
    /// How many of them follow one another from the start on: these will move it.
    pub done_at_start: u64,
    /// How many are handed out at present.
    pub in_flight: u64,
}

impl Broker {
    /// How far a share group is, by topic and partition; only where the log has something of it.
    pub fn share_offsets(&self, group: &str) -> Result<Vec<ShareOffset>> {
        let offset = |cell: Arc<ShareCell>| {
            let state = cell.lock();
            let saved = state.saved.as_ref()?;
            Some(ShareOffset {
                topic: cell.topic.clone(),
                partition: cell.partition,
                start: saved.start,
                leader_epoch: saved.leader_epoch,
                done: saved.done_count(),
                done_at_start: saved.done_at_start(),
                in_flight: state.open.as_ref().map_or(0, |open| open.machine.acquired()),
            })
        };
        Ok(self.running.state.share_cells_of(group)?.into_iter().filter_map(offset).collect())
    }

    /// How many records of share groups are handed out at present.
    pub fn shares_in_flight(&self) -> u64 {
        let acquired = |cell: Arc<ShareCell>| cell.lock().open.as_ref().map_or(0, |open| open.machine.acquired());
        self.running.state.share_cells(|_| true).unwrap_or_default().into_iter().map(acquired).sum()
    }

    /// What was done with records of share groups since the start.
    pub fn share_counts(&self) -> &ShareCounts {
        &self.running.state.shares.counts
    }

    /// Sets how far a share group without members is in a partition: it goes on at this offset, or (`None`) where its settings say. The
    /// caller knows that it has no members.
    pub fn alter_share_offset(&self, group: &str, of: &PartitionHandle, start: Option<u64>) -> Result<()> {
        let state = &self.running.state;
        state.internal_log_or_new(state_log::TOPIC)?;
        let (group, key) = (Arc::from(group), (of.topic().into(), of.index()));
        let saved = SavedShare { start, ..SavedShare::unread(of.leader_epoch()) };
        loop {
            let cell = state.share_cell(&group, &key)?;
            let mut share = cell.lock();
            if share.is_gone {
                continue;
            }
            of.start()?;
            let written = state.write_share(&cell, &saved)?;
            (share.saved, share.open, share.is_unsaved) = (Some(saved), None, false);
            drop(share);
            cell.waiters.wake();
            return written.make_durable();
        }
    }

    /// Forgets how far a share group without members is in a topic. Answers whether there was anything to forget.
    pub fn delete_share_offsets(&self, group: &str, topic: &str) -> Result<bool> {
        let state = &self.running.state;
        let cells = state.share_cells_of(group)?.into_iter().filter(|cell| *cell.topic == *topic).collect();
        let written = state.forget_shares(cells)?;
        let any = written.is_some();
        written.map_or(Ok(()), |written| written.make_durable())?;
        Ok(any)
    }
}

impl BrokerState {
    /// Whether the log has anything of a share group.
    pub(in crate::broker) fn has_shares(&self, group: &str) -> Result<bool> {
        Ok(self.share_cells_of(group)?.into_iter().any(|cell| cell.lock().saved.is_some()))
    }

    /// Reads back how far share groups are, where nobody has needed it yet.
    pub(in crate::broker) fn load_shares(&self) -> Result<()> {
        self.shares().map(drop)
    }

    /// A share group is deleted.
    pub(in crate::broker) fn forget_shares_of(&self, group: &str) -> Result<()> {
        let written = self.forget_shares(self.share_cells_of(group)?)?;
        written.map_or(Ok(()), |written| written.make_durable())
    }

    /// A topic is being dropped, and is not found any more.
    pub(in crate::broker) fn forget_shares_of_topic(&self, topic: &str) -> Result<()> {
        let written = self.forget_shares(self.share_cells(|cell| *cell.topic == *topic)?)?;
        written.map_or(Ok(()), |written| written.make_durable())
    }

    /// Forgets share partitions: each is gone here once the log has its end. Answers what was written, if the log had anything of them.
    fn forget_shares(&self, cells: Vec<Arc<ShareCell>>) -> Result<Option<LogWrite>> {
        let mut last = None;
        for cell in cells {
            let mut share = cell.lock();
            if share.is_gone {
                continue;
            }
            if share.saved.is_some() || share.is_unsaved {
                let log = self.internal_log(state_log::TOPIC)?.ok_or(Error::UnknownTopic(state_log::TOPIC.into()))?;
                let end = (&*cell.group, &*cell.topic, cell.partition, None);
                last = Some(state_log::write(&log, [end].into_iter())?);
            }
            share.is_gone = true;
            (share.saved, share.open) = (None, None);
            drop(share);
            cell.waiters.wake();
            self.remove_share(&cell)?;
        }
        Ok(last)
    }

    fn remove_share(&self, cell: &Arc<ShareCell>) -> Result<()> {
        let mut shares = self.shares()?;
        let Some(shares) = shares.as_mut() else { return Ok(()) };
        if let Some(of_group) = shares.get_mut(&cell.group) {
            if of_group.get(&cell.key()).is_some_and(|found| Arc::ptr_eq(found, cell)) {
                of_group.remove(&cell.key());
            }
            if of_group.is_empty() {
                shares.remove(&cell.group);
            }
        }
        Ok(())
    }
}

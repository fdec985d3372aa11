//! What administrators ask of share groups, and what becomes of their state when topics and groups go.

use super::{ShareCell, ShareCounts, ShareKey, ShareState, ShareWrite, Shares, state_log};
use crate::{
    broker::{
        Broker, BrokerState, Error, PartitionHandle, Permit, Result, ShareOffset, share_partition::SavedShare,
        sync::MutexGuard,
    },
    security::Operation,
};
#[cfg(feature = "http")]
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most ends that are written together: whatever the group's name, they fit into a batch.
const ENDS_AT_ONCE: usize = 400;

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
        Ok(self
            .state(&self.ask_group(Operation::Describe, group)?)
            .share_cells_of(group)?
            .into_iter()
            .filter_map(offset)
            .collect())
    }

    /// How many records of share groups are handed out at present.
    pub fn shares_in_flight(&self) -> u64 {
        let acquired = |cell: Arc<ShareCell>| cell.lock().open.as_ref().map_or(0, |open| open.machine.acquired());
        self.state(&Permit::for_everybody()).share_cells(|_| true).unwrap_or_default().into_iter().map(acquired).sum()
    }

    /// What was done with records of share groups since the start.
    pub fn share_counts(&self) -> &ShareCounts {
        &self.state(&Permit::for_everybody()).shares.counts
    }

    /// Sets how far a share group without members is in a partition: it goes on at this offset, or (`None`) where its settings say. The
    /// caller knows that it has no members, and makes durable what it answers.
    pub fn write_share_offset(&self, group: &str, of: &PartitionHandle, start: Option<u64>) -> Result<ShareWrite> {
        let written = self.set_share_offset(group, of, start)?;
        self.note_offset(group, of.topic(), of.index(), start);
        Ok(written)
    }

    pub(in crate::broker) fn set_share_offset(
        &self,
        group: &str,
        of: &PartitionHandle,
        start: Option<u64>,
    ) -> Result<ShareWrite> {
        let permit = self.ask_group(Operation::Read, group)?;
        let state = self.state(&permit);
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
            (share.saved, share.open, share.first, share.is_unsaved) = (Some(saved), None, None, false);
            drop(share);
            cell.waiters.wake();
            return Ok(ShareWrite { cell, written });
        }
    }

    /// Forgets how far a share group without members is in a topic. Answers whether there was anything to forget.
    pub fn delete_share_offsets(&self, group: &str, topic: &str) -> Result<bool> {
        let permit = self.ask_group(Operation::Delete, group)?;
        self.ask_topic(Operation::Read, topic)?;
        let state = self.state(&permit);
        let cells = state.share_cells_of(group)?.into_iter().filter(|cell| *cell.topic == *topic).collect();
        let any = state.forget_shares(cells)?;
        if any {
            self.note("offsets-deleted", &[("group", &group), ("topic", &topic)]);
        }
        Ok(any)
    }
}

impl BrokerState {
    /// Whether the log has anything of a share group.
    pub(in crate::broker) fn has_shares(&self, group: &str) -> Result<bool> {
        Ok(self.share_cells_of(group)?.into_iter().any(|cell| cell.lock().saved.is_some()))
    }

    /// The groups of which the log has how far they are.
    #[cfg(feature = "http")]
    pub(in crate::broker) fn saved_share_groups(&self) -> Result<BTreeSet<Arc<str>>> {
        let cells = self.share_cells(|_| true)?;
        Ok(cells.iter().filter(|cell| cell.lock().saved.is_some()).map(|cell| cell.group.clone()).collect())
    }

    /// Reads back how far share groups are, where nobody has needed it yet.
    pub(in crate::broker) fn load_shares(&self) -> Result<()> {
        self.shares().map(drop)
    }

    /// A group is being deleted.
    pub(in crate::broker) fn forget_shares_of(&self, group: &str) -> Result<()> {
        self.forget_shares(self.share_cells_of(group)?).map(drop)
    }

    /// A topic is being dropped, and is not found any more.
    pub(in crate::broker) fn forget_shares_of_topic(&self, topic: &str) -> Result<()> {
        self.forget_shares(self.share_cells(|cell| *cell.topic == *topic)?).map(drop)
    }

    /// Forgets share partitions: they are gone here once their ends are synced, whatever the flush mode, for what had them goes next. Answers
    /// whether the log had anything of them.
    fn forget_shares(&self, cells: Vec<Arc<ShareCell>>) -> Result<bool> {
        let mut any = false;
        for cells in cells.chunks(ENDS_AT_ONCE) {
            // All who lock several do so in the order of their names.
            let locked = cells.iter().map(|cell| (cell, cell.lock()));
            let mut locked: Vec<_> = locked.filter(|(_, share)| !share.is_gone).collect();
            let has_line = |(_, share): &&(_, MutexGuard<'_, ShareState>)| share.saved.is_some() || share.is_unsaved;
            let ends = locked.iter().filter(has_line);
            let ends: Vec<_> = ends.map(|(cell, _)| (&*cell.group, &*cell.topic, cell.partition, None)).collect();
            if !ends.is_empty() {
                let log = self.internal_log(state_log::TOPIC)?.ok_or(Error::UnknownTopic(state_log::TOPIC.into()))?;
                state_log::write(&log, ends.into_iter())?.sync()?;
                any = true;
            }
            for (_, share) in &mut locked {
                share.is_gone = true;
                (share.saved, share.open) = (None, None);
            }
            drop(locked);
            for cell in cells {
                cell.waiters.wake();
                self.remove_share(cell)?;
            }
        }
        Ok(any)
    }

    /// What is known of a share partition, if anything is.
    pub(super) fn known_share(&self, group: &str, key: &ShareKey) -> Result<Option<Arc<ShareCell>>> {
        let shares = self.shares()?;
        Ok(shares.as_ref().and_then(|shares| shares.get(group)?.get(key)).cloned())
    }

    /// Gives up a handle on a share partition. With the last of them the place goes where nobody has read anything.
    pub(super) fn leave_share_cell(&self, cell: Arc<ShareCell>) {
        let Ok(mut shares) = self.shares() else { return };
        let Some(shares) = shares.as_mut() else { return };
        // One is the place's own. Nobody gets another while the places are locked.
        if Arc::strong_count(&cell) > 2 {
            return;
        }
        let state = cell.lock();
        let holds_none = state.open.as_ref().is_none_or(|open| open.machine.acquired() == 0);
        if state.saved.is_none() && !state.is_unsaved && holds_none {
            remove(shares, &cell);
        }
    }

    fn remove_share(&self, cell: &Arc<ShareCell>) -> Result<()> {
        self.shares()?.iter_mut().for_each(|shares| remove(shares, cell));
        Ok(())
    }
}

fn remove(shares: &mut Shares, cell: &Arc<ShareCell>) {
    let Some(of_group) = shares.get_mut(&cell.group) else { return };
    if of_group.get(&cell.key()).is_some_and(|found| Arc::ptr_eq(found, cell)) {
        of_group.remove(&cell.key());
    }
    if of_group.is_empty() {
        shares.remove(&cell.group);
    }
}

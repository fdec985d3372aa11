//! The offsets of one group: those that are committed, and those that open transactions would commit.
//!
//! ```text
//! line in the log                     committed                  pending
//! 10  orders/0 at 5, by producer 7    -                          7: orders/0 at 5
//! 11  orders/0 at 20, plain           orders/0 at 20             7: orders/0 at 5, outdone
//! 12  commit of producer 7            orders/0 at 20
//! ```
//!
//! - Of two lines about a partition the later **line** wins, whenever it takes effect, as in Kafka. So a pending offset knows
//!   its line, and a line that takes effect outdoes the pending ones before it.
//! - A line that deletes an offset deletes what is pending there too.
//! - Nobody is shown a pending offset. That there is one can be asked.
//!
//! The lines go in as they stand in the log, whether they are just being written or read back after a restart.

use super::{Error, Result};
use crate::log::Outcome;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How far a group has read a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The offset to read next. Any is taken, as Kafka does; text writes none below 0.
    pub offset: i64,
    /// Leader epoch of the record before it; -1: unknown.
    pub leader_epoch: i32,
    /// What the client noted with it.
    pub metadata: String,
    /// When it was committed, in ms.
    pub timestamp_ms: i64,
}

/// The offsets of one group, by topic and partition.
pub type Offsets = BTreeMap<OffsetKey, Committed>;

/// A topic and the number of one of its partitions.
pub(super) type OffsetKey = (Arc<str>, u32);

/// What a group has committed, and what is pending.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupOffsets {
    committed: Offsets,
    /// Of each producer with an open transaction, by its id.
    pending: BTreeMap<i64, BTreeMap<OffsetKey, PendingOffset>>,
}

/// An offset that takes effect if its transaction commits.
#[derive(Clone, Debug, PartialEq)]
struct PendingOffset {
    committed: Committed,
    /// Offset of its line in the log.
    line: u64,
    /// A later line of the partition has taken effect.
    outdone: bool,
}

impl GroupOffsets {
    /// What is committed.
    pub fn committed(&self) -> &Offsets {
        &self.committed
    }

    /// What is committed of a partition; an error while an open transaction may change that.
    pub fn stable(&self, partition: &OffsetKey) -> Result<Option<&Committed>> {
        if self.is_pending(partition) { Err(Error::UnstableOffsetCommit) } else { Ok(self.committed.get(partition)) }
    }

    /// Whether a transaction whose outcome is not known has an offset here.
    pub fn is_pending(&self, partition: &OffsetKey) -> bool {
        self.pending.values().any(|offsets| offsets.contains_key(partition))
    }

    /// Whether there is a transaction with an offset in any partition.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether nothing is committed and nothing pending.
    pub(super) fn is_empty(&self) -> bool {
        self.committed.is_empty() && !self.has_pending()
    }

    /// Whether there is anything to delete here.
    pub(super) fn has(&self, partition: &OffsetKey) -> bool {
        self.committed.contains_key(partition) || self.is_pending(partition)
    }

    /// Every partition with an offset, committed or pending.
    pub(super) fn partitions(&self) -> BTreeSet<OffsetKey> {
        self.committed.keys().chain(self.pending.values().flat_map(BTreeMap::keys)).cloned().collect()
    }

    /// The producers whose transactions have offsets here.
    pub(super) fn pending_producers(&self) -> impl Iterator<Item = i64> {
        self.pending.keys().copied()
    }

    /// Whether an open transaction of this producer has an offset here.
    pub(super) fn has_pending_of(&self, producer_id: i64) -> bool {
        self.pending.contains_key(&producer_id)
    }

    /// An offset is committed by this line.
    pub(super) fn commit(&mut self, partition: OffsetKey, committed: Committed, line: u64) {
        for offset in self.pending.values_mut().filter_map(|offsets| offsets.get_mut(&partition)) {
            offset.outdone |= offset.line < line;
        }
        self.committed.insert(partition, committed);
    }

    /// An offset is to be committed by this line, if the producer's transaction is.
    pub(super) fn commit_later(&mut self, producer_id: i64, partition: OffsetKey, committed: Committed, line: u64) {
        let offsets = self.pending.entry(producer_id).or_default();
        offsets.insert(partition, PendingOffset { committed, line, outdone: false });
    }

    /// The offset of a partition is deleted.
    pub(super) fn delete(&mut self, partition: &OffsetKey) {
        self.committed.remove(partition);
        self.pending.retain(|_, offsets| {
            offsets.remove(partition);
            !offsets.is_empty()
        });
    }

    /// The transaction of a producer ended, by a marker at this offset of the log: lines behind it are of another one.
    pub(super) fn end(&mut self, producer_id: i64, outcome: Outcome, marker: u64) {
        let Some(offsets) = self.pending.remove(&producer_id) else { return };
        let (ended, open): (BTreeMap<_, _>, _) = offsets.into_iter().partition(|(_, offset)| offset.line < marker);
        if !open.is_empty() {
            self.pending.insert(producer_id, open);
        }
        let takes_effect = |offset: &PendingOffset| outcome == Outcome::Commit && !offset.outdone;
        for (partition, offset) in ended.into_iter().filter(|(_, offset)| takes_effect(offset)) {
            self.commit(partition, offset.committed, offset.line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::*;

    fn partition() -> OffsetKey {
        ("orders".into(), 0)
    }

    fn at(offset: i64) -> Committed {
        Committed { offset, leader_epoch: -1, metadata: String::new(), timestamp_ms: 0 }
    }

    fn committed(offsets: &GroupOffsets) -> Option<i64> {
        offsets.committed().get(&partition()).map(|committed| committed.offset)
    }

    #[test]
    fn pending_offsets_take_effect_when_their_transaction_commits() {
        for (outcome, then) in [(Commit, Some(5)), (Abort, Some(3))] {
            let mut offsets = GroupOffsets::default();
            offsets.commit(partition(), at(3), 1);
            offsets.commit_later(7, partition(), at(4), 2);
            offsets.commit_later(7, partition(), at(5), 3);
            assert_eq!(
                (committed(&offsets), offsets.stable(&partition())),
                (Some(3), Err(Error::UnstableOffsetCommit))
            );
            offsets.end(8, outcome, 4);
            assert!(offsets.is_pending(&partition()), "another producer's marker ends nothing here");
            offsets.end(7, outcome, 5);
            assert_eq!((committed(&offsets), offsets.pending.len()), (then, 0));
            assert_eq!(offsets.stable(&partition()).unwrap().map(|committed| committed.offset), then);
        }
    }

    /// As a real Kafka: pending 10, a plain commit of 20, the end of the transaction: 20 stays.
    #[test]
    fn the_later_line_wins_and_not_the_later_marker() {
        let mut offsets = GroupOffsets::default();
        offsets.commit_later(7, partition(), at(10), 1);
        offsets.commit(partition(), at(20), 2);
        assert!(offsets.is_pending(&partition()), "what it is worth is known when it ends");
        offsets.end(7, Commit, 3);
        assert_eq!(committed(&offsets), Some(20));

        let mut offsets = GroupOffsets::default();
        offsets.commit_later(7, partition(), at(10), 1);
        offsets.commit(partition(), at(20), 2);
        offsets.commit_later(7, partition(), at(30), 3);
        offsets.end(7, Commit, 4);
        assert_eq!(committed(&offsets), Some(30));

        for first_to_end in [7, 8] {
            let mut offsets = GroupOffsets::default();
            offsets.commit_later(7, partition(), at(10), 1);
            offsets.commit_later(8, partition(), at(20), 2);
            offsets.end(first_to_end, Commit, 3);
            assert!(offsets.is_pending(&partition()));
            offsets.end(15 - first_to_end, Commit, 4);
            assert_eq!(committed(&offsets), Some(20));
        }
    }

    #[test]
    fn deleting_an_offset_deletes_what_is_pending_there() {
        let mut offsets = GroupOffsets::default();
        offsets.commit_later(7, partition(), at(10), 1);
        offsets.commit_later(7, ("orders".into(), 1), at(11), 2);
        assert_eq!((offsets.partitions().len(), offsets.has(&partition())), (2, true));
        offsets.delete(&partition());
        assert!(!offsets.has(&partition()) && !offsets.is_empty());
        offsets.end(7, Commit, 3);
        assert_eq!(offsets.committed().keys().collect::<Vec<_>>(), [&("orders".into(), 1)]);
        offsets.delete(&("orders".into(), 1));
        assert!(offsets.is_empty());
    }

    #[test]
    fn a_marker_ends_nothing_that_came_behind_it() {
        let mut offsets = GroupOffsets::default();
        offsets.commit_later(7, partition(), at(10), 3);
        offsets.end(7, Abort, 2);
        offsets.end(7, Commit, 4);
        assert_eq!(committed(&offsets), Some(10));
    }
}

//! How far a share group is, as administrators see it.

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

impl ShareOffset {
    /// Up to where everything is done. `None`: nobody has read yet.
    pub fn done_to(&self) -> Option<u64> {
        Some(self.start? + self.done_at_start)
    }

    /// How many records beyond that are done.
    pub fn done_beyond(&self) -> u64 {
        self.done - self.done_at_start
    }
}

//! The leader epochs of a partition, which tell apart the records that had the same offset before and after a cut.
//!
//! ```text
//!   offset   0              42                  60
//!   epoch    │ 0            │ 1                 │ 2, the current one
//!            └ past: ends at 42                 │
//!                           └ past: ends at 60 ─┘
//! ```
//!
//! - An epoch ends where a log is cut: from there on, offsets are given a second time, to other records. A client that read
//!   some of the first ones asks for the end of its epoch, and learns where its records stop being those of the log (KIP-320).
//! - With a flush mode other than `always`, records are shown before they are synced, and a crash may take them so that nothing
//!   looks cut. There an epoch ends wherever the log ends after a crash.
//! - Past epochs rise, and so do their ends. An epoch whose records were all cut off is not kept.
//! - Of the epochs that ended before the log's start only the last is kept, and of all only the newest [`PAST_MAX`].

use std::cmp::Ordering;

/// How many past epochs are kept: an epoch ends when a crash took records, so these are that many such crashes.
const PAST_MAX: usize = 32;

/// Where an epoch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// Its number.
    pub epoch: u32,
    /// The offset behind its last record; of the current one, the log's end.
    pub end: u64,
}

/// The current epoch and those before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LeaderEpochs {
    current: u32,
    past: Vec<EpochEnd>,
}

impl LeaderEpochs {
    /// A current epoch without any before it.
    pub(super) fn at(current: u32) -> LeaderEpochs {
        LeaderEpochs { current, past: Vec::new() }
    }

    pub(super) fn current(&self) -> u32 {
        self.current
    }

    /// Oldest first.
    pub(super) fn past(&self) -> &[EpochEnd] {
        &self.past
    }

    /// Adds the newest past epoch, as it was stored. Whether it can follow those there are.
    pub(super) fn push(&mut self, past: EpochEnd) -> bool {
        let last = self.past.last();
        let follows =
            past.epoch < self.current && last.is_none_or(|last| last.epoch < past.epoch && last.end < past.end);
        if follows && self.past.len() < PAST_MAX {
            self.past.push(past);
        }
        follows
    }

    /// Begins an epoch at `end`, where the log, which starts at `start`, is cut.
    pub(super) fn cut(&mut self, end: u64, start: u64) {
        // The epoch to which the last record belongs that stays: the first that did not end before.
        let at = self.past.partition_point(|past| past.end < end);
        let epoch = self.past.get(at).map_or(self.current, |past| past.epoch);
        self.past.truncate(at);
        self.past.push(EpochEnd { epoch, end });
        self.current += 1;
        let before_start = self.past.iter().filter(|past| past.end <= start).count();
        let surplus = self.past.len().saturating_sub(PAST_MAX).max(before_start.saturating_sub(1));
        self.past.drain(..surplus);
    }

    /// Where the newest epoch ended that is not above `epoch`; `None`: there was none so high yet.
    ///
    /// One that was forgotten, or ended before this broker kept past epochs, ended where the oldest known one did at the latest.
    pub(super) fn end_of(&self, epoch: u32, log_end: u64) -> Option<EpochEnd> {
        match epoch.cmp(&self.current) {
            Ordering::Greater => None,
            Ordering::Equal => Some(EpochEnd { epoch, end: log_end }),
            Ordering::Less => {
                let known = self.past.iter().rev().find(|past| past.epoch <= epoch).copied();
                let latest = self.past.first().map_or(log_end, |oldest| oldest.end);
                Some(known.unwrap_or(EpochEnd { epoch, end: latest }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(epochs: &LeaderEpochs) -> Vec<Option<(u32, u64)>> {
        let ends = (0..=epochs.current() + 1).map(|epoch| epochs.end_of(epoch, 1000));
        ends.map(|end| end.map(|EpochEnd { epoch, end }| (epoch, end))).collect()
    }

    #[test]
    fn an_epoch_ends_where_the_log_was_cut() {
        let mut epochs = LeaderEpochs::default();
        assert_eq!(ends(&epochs), [Some((0, 1000)), None]);
        epochs.cut(42, 0);
        epochs.cut(60, 0);
        assert_eq!(ends(&epochs), [Some((0, 42)), Some((1, 60)), Some((2, 1000)), None]);
    }

    #[test]
    fn nothing_is_left_of_an_epoch_whose_records_were_all_cut() {
        let mut epochs = LeaderEpochs::default();
        epochs.cut(42, 0);
        epochs.cut(60, 0);
        epochs.cut(50, 0);
        assert_eq!(ends(&epochs), [Some((0, 42)), Some((1, 50)), Some((1, 50)), Some((3, 1000)), None]);
        epochs.cut(10, 0);
        assert_eq!(ends(&epochs)[..4], [Some((0, 10)); 4]);
        epochs.cut(10, 0);
        assert_eq!(epochs.past(), [EpochEnd { epoch: 0, end: 10 }]);
    }

    #[test]
    fn of_those_that_ended_before_the_start_the_last_is_known() {
        let mut epochs = LeaderEpochs::default();
        epochs.cut(42, 0);
        epochs.cut(50, 0);
        epochs.cut(60, 55);
        assert_eq!(ends(&epochs), [Some((0, 50)), Some((1, 50)), Some((2, 60)), Some((3, 1000)), None]);
        (0..100).for_each(|cut| epochs.cut(100 + cut, 55));
        assert_eq!((epochs.past().len(), epochs.past()[0]), (PAST_MAX, EpochEnd { epoch: 71, end: 168 }));
    }

    #[test]
    fn epochs_before_past_ones_were_kept_ended_at_the_log_end_at_the_latest() {
        let mut epochs = LeaderEpochs::at(2);
        assert_eq!(ends(&epochs), [Some((0, 1000)), Some((1, 1000)), Some((2, 1000)), None]);
        epochs.cut(60, 0);
        assert_eq!(ends(&epochs), [Some((0, 60)), Some((1, 60)), Some((2, 60)), Some((3, 1000)), None]);
    }
}

//! A partition that a member reads: its position, and what was read ahead but not handed out yet.

use super::join_options::JoinOptions;
use crate::{
    broker::{
        Error, Isolation, Partition, Permit, Result,
        group::consumer::Owned,
        polled::{PollLimits, PolledRecord},
    },
    log::Chunk,
};
use std::sync::Arc;

/// A partition that the member owns.
#[derive(Debug)]
pub(super) struct AssignedPartition {
    pub(super) owned: Owned,
    pub(super) partition: Arc<Partition>,
    /// To read the topic.
    permit: Permit,
    /// The offset to read next, once it is known.
    pub(super) position: Option<u64>,
    /// It was not looked up yet where the group is, or a transaction that would change that has not ended yet.
    pub(super) awaits_outcome: bool,
    /// Whether the position moved since it was last committed.
    pub(super) moved: bool,
    /// What was read and not handed out yet.
    pub(super) chunk: Option<Box<Chunk>>,
}

impl AssignedPartition {
    pub(super) fn new(owned: Owned, partition: Arc<Partition>, permit: Permit) -> AssignedPartition {
        AssignedPartition { owned, partition, permit, position: None, awaits_outcome: true, moved: false, chunk: None }
    }

    /// Forgets how far it was read: where the group is is to be looked up.
    pub(super) fn forget_position(&mut self) {
        (self.position, self.awaits_outcome, self.moved, self.chunk) = (None, true, false, None);
    }

    pub(super) fn key(&self) -> (&str, u32) {
        (&self.owned.topic, self.owned.partition)
    }

    pub(super) fn has_more(&self, isolation: Isolation) -> bool {
        let is_behind = |position| self.partition.end(isolation).is_ok_and(|end| end > position);
        !self.awaits_outcome && self.position.is_none_or(is_behind)
    }

    pub(super) fn find_position(&mut self, options: &JoinOptions) -> Result<u64> {
        match self.position {
            Some(position) => Ok(position),
            None => self.begin(options),
        }
    }

    /// Begins where a member does that finds nothing committed, or what it finds gone.
    fn begin(&mut self, options: &JoinOptions) -> Result<u64> {
        Ok(*self.position.insert(options.from.nearest(options.view(), &self.partition, &mut Chunk::default())?))
    }

    /// Reads what comes next, unless it was read already; answers how many records and bytes there are.
    pub(super) fn read(&mut self, options: &JoinOptions, bytes_max: usize) -> Result<(usize, usize)> {
        if self.awaits_outcome {
            return Ok((0, 0));
        }
        let mut chunk = self.chunk.take().unwrap_or_default();
        loop {
            let position = self.find_position(options)?;
            let read = match chunk.next_offset().is_none_or(|next| next <= position) {
                true => self.partition.read_as(options.view(), position, bytes_max, &mut chunk),
                false => Ok(()),
            };
            // Asked behind it: what was written after a rule took effect is not for whom it forbids.
            self.permit.check()?;
            match read {
                Err(Error::OffsetOutOfRange { .. }) => {
                    chunk.clear();
                    self.begin(options)?;
                    continue;
                }
                read => read?,
            }
            let Some(next) = chunk.next_offset() else { return Ok((0, 0)) };
            let lines = chunk.batches.iter().map(|batch| chunk.lines_from(batch, position).rest());
            let counted = lines.map(|lines| (memchr::memchr_iter(b'\n', lines).count(), lines.len()));
            let (records, bytes) = counted.fold((0, 0), |(records, bytes), (r, b)| (records + r, bytes + b));
            if records > 0 {
                self.chunk = Some(chunk);
                return Ok((records, bytes));
            }
            // Compaction left nothing here, or it is a marker, or of an aborted transaction: that is done with, too.
            (self.position, self.moved) = (Some(next), true);
        }
    }

    /// Hands out what was read, while there is room; a `first` record in any case. Whether that was all.
    pub(super) fn hand_out(
        &mut self,
        chunk: &Chunk,
        left: &mut PollLimits,
        mut first: bool,
        each: &mut dyn FnMut(&PolledRecord<'_>),
    ) -> bool {
        let position = self.position.unwrap_or(0);
        let (topic, partition) = (&*self.owned.topic, self.owned.partition);
        for line in chunk.records_from(position).flatten() {
            if !std::mem::take(&mut first) && (left.records == 0 || left.bytes < line.text.len()) {
                return false;
            }
            each(&PolledRecord {
                topic,
                partition,
                offset: line.offset,
                timestamp: line.timestamp,
                fields: line.fields,
            });
            (left.records, left.bytes) = (left.records - 1, left.bytes.saturating_sub(line.text.len()));
            (self.position, self.moved) = (Some(line.offset + 1), true);
        }
        self.position = chunk.next_offset().or(self.position);
        true
    }
}

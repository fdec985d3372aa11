//! Transactions in a partition: markers end them, the last stable offset holds readers back, and aborted records are passed over.
//!
//! ```text
//! offset      0   1   2   3   4   5   6
//!             a   b   a   c   a'  b           c stands outside; a' is the marker that ends a
//!                 └ last stable offset, until b is ended
//! ```
//!
//! - A transaction's first record holds the last stable offset from before it is written until its marker is shown to readers. So
//!   what readers of committed records have seen can never be taken back by a crash.
//! - One that is aborted is in the list before the last stable offset rises above its first record.
//! - A log whose last entry says that nothing of a transaction is in its segment has none open. Any other is opened with what
//!   producers wrote, so that the last stable offset holds from the beginning.

use super::{Partition, Terms};
use crate::{
    broker::{
        Result,
        producer_state::{ActiveProducer, Marker, OpenTransaction, Producers, Stored},
    },
    log::{Aborted, Appended, Batch, Chunk, Content, Log, Numbering, Outcome, batches::Flags, record::ControlLine},
};
use std::{ops::Range, sync::atomic::Ordering::*, time::Duration};

/// Which records a reader may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All up to the high watermark.
    #[default]
    ReadUncommitted,
    /// Those up to the last stable offset: no transaction below it is open any more.
    ReadCommitted,
}

/// In what form a reader gets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As they stand in the log, markers and aborted records too.
    AsStored,
    /// Records only: no markers, and if only committed records are read, no aborted ones.
    Records,
}

/// What a reader sees of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// How far.
    pub isolation: Isolation,
    /// In what form.
    pub form: Form,
}

/// Whether there are readers that a batch is hidden from.
fn may_be_hidden(batch: &Batch) -> bool {
    batch.entry.flags.has(Flags::TRANSACTIONAL | Flags::CONTROL)
}

impl Isolation {
    /// As Kafka's clients and the text protocol call it.
    pub const fn name(self) -> &'static str {
        match self {
            Isolation::ReadUncommitted => "read_uncommitted",
            Isolation::ReadCommitted => "read_committed",
        }
    }

    /// The one of this name.
    pub fn named(name: &[u8]) -> Option<Isolation> {
        [Isolation::ReadCommitted, Isolation::ReadUncommitted].into_iter().find(|one| one.name().as_bytes() == name)
    }
}

impl View {
    /// Records, without markers and, if only committed ones are read, without aborted ones.
    pub const fn records(isolation: Isolation) -> View {
        View { isolation, form: Form::Records }
    }

    /// All that stands in the log.
    pub const fn stored(isolation: Isolation) -> View {
        View { isolation, form: Form::AsStored }
    }

    /// What somebody is shown who reads the log itself. Who reads what is not committed sees how it comes to be so.
    pub const fn log(isolation: Isolation) -> View {
        match isolation {
            Isolation::ReadCommitted => View::records(isolation),
            Isolation::ReadUncommitted => View::stored(isolation),
        }
    }
}

impl Partition {
    /// Offset behind the last record that is shown to readers of committed records.
    pub fn last_stable_offset(&self) -> Result<u64> {
        Ok(self.log()?.last_stable_offset())
    }

    /// Offset behind the last record that a reader may see.
    pub fn end(&self, isolation: Isolation) -> Result<u64> {
        Ok(end_of(self.log()?, isolation))
    }

    /// Reads batches from the one with `offset` on, at most what a reader may see. Where all that was read is passed over, there
    /// is no batch, and an offset to [read on](Chunk::next_offset) at.
    pub fn read_as(&self, view: View, offset: u64, bytes_max: usize, chunk: &mut Chunk) -> Result<()> {
        let log = self.log()?;
        let read = log.read_below(end_of(log, view.isolation), offset, bytes_max, chunk);
        read.map_err(|error| self.seen_by_reader(error))?;
        if view.form == Form::Records {
            self.pass_over(log, view.isolation, chunk)?;
        }
        self.traffic.read(chunk.records(), chunk.bytes().len() as u64);
        Ok(())
    }

    /// The lowest offset of what a reader sees whose timestamp is at or after `timestamp`; the end if there is none.
    pub fn offset_at(&self, view: View, timestamp: i64, chunk: &mut Chunk) -> Result<u64> {
        let log = self.log()?;
        let found = log.offset_at(timestamp, chunk).map_err(|error| self.seen_by_reader(error))?;
        let end = end_of(log, view.isolation);
        if found >= end {
            return Ok(end);
        }
        let hides = |batch: &Batch| may_be_hidden(batch) && (batch.first..=batch.last()).contains(&found);
        if view.form == Form::AsStored || !chunk.batches.iter().any(hides) {
            return Ok(found);
        }
        let mut next = found;
        loop {
            self.read_as(view, next, 1, chunk)?;
            let mut records = chunk.records_from(next).flatten();
            if let Some(line) = records.find(|line| line.timestamp >= timestamp) {
                return Ok(line.offset);
            }
            match chunk.next_offset() {
                Some(behind) => next = behind,
                None => return Ok(end),
            }
        }
    }

    /// Drops markers, and aborted records if only committed ones are read.
    fn pass_over(&self, log: &Log, isolation: Isolation, chunk: &mut Chunk) -> Result<()> {
        if !chunk.batches.iter().any(may_be_hidden) {
            return Ok(());
        }
        let (first, last) = (chunk.batches.first(), chunk.batches.last());
        let (first, last) = first.zip(last).expect("there is one in a transaction");
        let mut aborted: Vec<Aborted> = match isolation {
            Isolation::ReadUncommitted => Vec::new(),
            Isolation::ReadCommitted => self.aborted_of(log, first.first..last.last() + 1)?,
        };
        let key = |aborted: &Aborted| (aborted.producer_id, aborted.first);
        aborted.sort_unstable_by_key(key);
        chunk.retain(|batch| {
            let at = aborted.partition_point(|one| key(one) <= (batch.entry.producer_id, batch.first));
            let newest = at.checked_sub(1).map(|at| aborted[at]);
            let is_aborted =
                newest.is_some_and(|one| one.producer_id == batch.entry.producer_id && batch.first < one.marker);
            let flags = batch.entry.flags;
            let is_hidden = flags.has(Flags::CONTROL) || flags.has(Flags::TRANSACTIONAL) && is_aborted;
            !is_hidden
        });
        Ok(())
    }

    /// The aborted transactions with anything at these offsets, in the order of their markers.
    pub fn aborted(&self, offsets: Range<u64>) -> Result<Vec<Aborted>> {
        self.aborted_of(self.log()?, offsets)
    }

    fn aborted_of(&self, log: &Log, offsets: Range<u64>) -> Result<Vec<Aborted>> {
        if let Some(found) = log.aborted_within(&offsets) {
            return Ok(found);
        }
        // No marker is written without this lock.
        let producers = self.producers.lock().expect("no panic under the producers' lock");
        loop {
            if let Some(found) = log.aborted_within(&offsets) {
                return Ok(found);
            }
            let later = producers.first_open().unwrap_or(log.log_end());
            log.load_aborted(later).map_err(|error| self.seen_by_reader(error))?;
        }
    }

    /// Ends a producer's transaction here, or fences its older epochs if none is open. What it answers is promised after
    /// [`make_durable`](Self::make_durable).
    pub fn write_marker(&self, marker: Marker) -> Result<Appended> {
        let (log, settings) = (self.log()?, self.settings()?);
        let mut producers = self.producers.lock().expect("no panic under the producers' lock");
        self.load_producers(log, &mut producers, u64::MAX)?;
        producers.check_marker(&marker)?;
        let Marker { producer_id, producer_epoch, outcome, coordinator_epoch } = marker;
        let ended = producers.transaction(producer_id);
        let first = ended.map(|ended| ended.first);
        let line = ControlLine { outcome, first: first.filter(|_| outcome == Outcome::Abort), coordinator_epoch };
        let producer = Some(Numbering { producer_id, producer_epoch, base_sequence: -1 });
        let appended = self.append(log, &settings, Content::Marker(line), Terms { producer, ..Terms::default() })?;
        if appended.rolled {
            self.keep_producers(log, &mut producers, u64::MAX);
        }
        let (at, now_ms) = (appended.offsets.start, appended.now_ms);
        producers.ended(&marker, Stored { first: at, timestamp: now_ms, appended_ms: now_ms });
        if let Some(first) = first {
            if outcome == Outcome::Abort {
                let later = producers.first_open().unwrap_or(at + 1);
                log.add_aborted(Aborted { producer_id, first, marker: at }, later);
            }
            producers.hold(first, at);
        }
        self.raise_stable(log, &mut producers);
        Ok(appended)
    }

    /// Lets the last stable offset rise to the first transaction that is open, or whose marker readers do not see yet.
    pub(super) fn raise_stable(&self, log: &Log, producers: &mut Producers) {
        let before = log.last_stable_offset();
        producers.settle(log.high_watermark());
        self.unsettled.store(producers.is_held(), Release);
        log.set_first_unstable(producers.first_unstable());
        if before < log.active_base() && before < log.last_stable_offset() {
            // Compaction waits for that.
            self.due_in(Duration::ZERO);
        }
    }

    /// The same after a sync, which may have shown markers.
    pub(super) fn settle(&self, log: &Log) {
        if self.unsettled.load(Acquire) {
            self.raise_stable(log, &mut self.producers.lock().expect("no panic under the producers' lock"));
        }
    }

    /// Holds the last stable offset of a log that was just opened.
    pub(super) fn find_open_transactions(&self, log: &Log) -> Result<()> {
        if log.may_hold_open_transaction() {
            let mut producers = self.producers.lock().expect("no panic under the producers' lock");
            self.load_producers(log, &mut producers, u64::MAX)?;
            self.raise_stable(log, &mut producers);
            if producers.first_open().is_some() {
                self.look_after_open();
            }
        }
        Ok(())
    }

    /// Its open transactions are to be looked after: the coordinator may know them to be over.
    pub(in crate::broker) fn look_after_open(&self) {
        self.found_open.store(true, Release);
        self.env.schedule.transactions_in(Duration::ZERO);
    }

    /// Whether transactions were open when the log was opened. Whoever asks looks after them: the answer is `true` once.
    pub fn take_found_open(&self) -> bool {
        self.found_open.swap(false, AcqRel)
    }

    /// The open transaction of a producer, if there is one.
    pub fn open_transaction(&self, producer_id: i64) -> Result<Option<OpenTransaction>> {
        Ok(self.known_producers()?.transaction(producer_id))
    }

    /// All open transactions, oldest first.
    pub fn open_transactions(&self) -> Result<Vec<OpenTransaction>> {
        Ok(self.known_producers()?.transactions().collect())
    }

    /// The producers that wrote here and were not silent for too long, by their ids.
    pub fn producers(&self) -> Result<Vec<ActiveProducer>> {
        let now_ms = self.env.clock.now_ms();
        Ok(self.known_producers()?.active(now_ms))
    }

    fn known_producers(&self) -> Result<std::sync::MutexGuard<'_, Producers>> {
        let log = self.log()?;
        let mut producers = self.producers.lock().expect("no panic under the producers' lock");
        self.load_producers(log, &mut producers, u64::MAX)?;
        Ok(producers)
    }

    /// An error if what was written below `end` may be lost: it is not synced, and since then a write or a sync failed.
    pub fn check_intact(&self, end: u64) -> Result<()> {
        Ok(self.log()?.check_intact(end)?)
    }
}

fn end_of(log: &Log, isolation: Isolation) -> u64 {
    match isolation {
        Isolation::ReadUncommitted => log.high_watermark(),
        Isolation::ReadCommitted => log.last_stable_offset(),
    }
}

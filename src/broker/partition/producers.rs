//! What producers wrote: read when it is first asked for, and kept beside each segment.
//!
//! ```text
//! 0.log                    4711.log                 9001.log
//!                          4711.producers           9001.producers      how it was at the segment's start
//!                                                   └─ and the entries behind it: how it is now
//! ```
//!
//! A file that is missing, or damaged, is made anew from the one before it and the entries in between, or from all entries.

use super::Partition;
use crate::{
    broker::{
        Error, Result,
        producer_state::{Marker, Numbered, Producers, Stored, lines::FILE_BYTES_MAX},
    },
    log::{
        self, Log, Numbering,
        batches::{Entry, Flags},
        disk,
    },
};
use std::{io, path::Path, sync::atomic::Ordering::*};

impl Partition {
    /// Reads what producers wrote, unless it is known. Answers whether it is known now; not: it would take reading more entries
    /// than that.
    pub(super) fn load_producers(&self, log: &Log, producers: &mut Producers, entries_max: u64) -> Result<bool> {
        if !producers.is_loaded() {
            let Some(found) = self.read_producers(log, u64::MAX, entries_max)? else { return Ok(false) };
            producers.load(found);
        }
        Ok(true)
    }

    /// How the state was before `end`: what is kept beside the last segment that has it, and the entries from there on. `None`: it
    /// would take reading more entries than that.
    fn read_producers(&self, log: &Log, end: u64, entries_max: u64) -> Result<Option<Producers>> {
        let (mut found, mut from) = (Producers::default(), 0);
        for base in log.segment_bases().into_iter().rev().filter(|&base| base < end) {
            from = base;
            if let Some(kept) = self.kept_producers(log, base)? {
                found = kept;
                break;
            }
        }
        if log.entries_from(from)? > entries_max {
            return Ok(None);
        }
        let appended_ms = self.env.clock.now_ms();
        log.each_entry(from, |first, entry| {
            if first < end && entry.producer_id >= 0 {
                take_entry(&mut found, entry, Stored { first, timestamp: entry.timestamp, appended_ms });
            }
        })?;
        Ok(Some(found))
    }

    /// The state kept beside the segment at `base`. One that cannot be read is as good as none: entries tell the rest.
    fn kept_producers(&self, log: &Log, base: u64) -> Result<Option<Producers>> {
        let path = log.beside(base, "producers");
        match disk::read_small(self.env.handles.disk(), &path, FILE_BYTES_MAX) {
            Ok(bytes) => Ok(Producers::from_lines(&bytes, base)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => Ok(None),
            Err(error) => Err(Error::Storage(format!("{}: {error}", path.display()))),
        }
    }

    /// Whether the state at the start of the active segment stands beside it, or there is no segment before it.
    fn is_state_kept(&self, log: &Log) -> bool {
        let bases = log.segment_bases();
        let Some((&active, [_, ..])) = bases.split_last() else { return true };
        let kept = self.kept_at.load(Acquire) == active
            || self.env.handles.disk().open(&log.beside(active, "producers")).is_ok();
        if kept {
            self.kept_at.store(active, Release);
        }
        kept
    }

    /// Keeps the state beside the active segment, if it does not stand there and no more entries have to be read for it. The
    /// records are stored all the same if it fails, and acknowledged: until this file is there, earlier entries tell what it
    /// would.
    pub(super) fn keep_producers(&self, log: &Log, producers: &mut Producers, entries_max: u64) {
        if let Err(error) = self.try_keep_producers(log, producers, entries_max) {
            self.env.tell(&format!("the producers' state is not kept: {error}"));
        }
    }

    fn try_keep_producers(&self, log: &Log, producers: &mut Producers, entries_max: u64) -> Result<()> {
        if self.is_state_kept(log) || !self.load_producers(log, producers, entries_max)? {
            return Ok(());
        }
        let active = log.active_base();
        let lines = if producers.is_of(active) {
            producers.to_lines()
        } else {
            // Others wrote since the roll, and a crash may take that: what stands beside the segment must not tell of it.
            let Some(before) = self.read_producers(log, active, entries_max)? else { return Ok(()) };
            before.to_lines()
        };
        // Where this fails the segment itself tells it.
        if let Err(error) = log.keep_aborted(entries_max) {
            self.env.tell(&format!("what was aborted is not kept: {error}"));
        }
        let disk = self.env.handles.disk();
        let write = |path: &Path| self.env.producers_reserve.replace(disk, path, lines.as_bytes());
        match log.write_beside(active, "producers", write) {
            Err(log::Error::Closed) => Ok(()),
            written => {
                written?;
                self.kept_at.store(active, Release);
                Ok(())
            }
        }
    }

    /// The same where no append waits for it.
    pub(super) fn keep_known_producers(&self, log: &Log) {
        if !self.is_state_kept(log) {
            let mut producers = self.producers.lock().expect("no panic under the producers' lock");
            self.keep_producers(log, &mut producers, u64::MAX);
        }
    }
}

/// Adds what an entry tells of its producer.
fn take_entry(producers: &mut Producers, entry: &Entry, at: Stored) {
    let Entry { producer_id, producer_epoch, base_sequence, last_delta, flags, .. } = *entry;
    if let Some(outcome) = flags.outcome() {
        producers.ended(&Marker { producer_id, producer_epoch, outcome, coordinator_epoch: base_sequence }, at);
        return;
    }
    let numbering = Numbering { producer_id, producer_epoch, base_sequence };
    producers.stored(Numbered { numbering, last_delta }, at);
    // Compaction empties nothing that is in an open transaction.
    if flags.has(Flags::TRANSACTIONAL) && entry.count > 0 {
        producers.stored_in_transaction(producer_id, at.first);
    }
}

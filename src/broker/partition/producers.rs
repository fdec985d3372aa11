//! What producers wrote: read when it is first asked for, and kept beside each segment.

use super::Partition;
use crate::{
    broker::{
        Error, Result,
        producer_state::{FILE_BYTES_MAX, Numbered, Producers, Stored},
    },
    log::{
        self, Log, Numbering,
        batches::{Entry, Flags},
        disk,
    },
};
use std::{io, path::Path, sync::atomic::Ordering::*};

impl Partition {
    /// Reads what idempotent producers wrote: the state kept beside the last segment that has it, and the entries from there
    /// on. Answers whether it is known now; not: it would take reading more entries than that.
    pub(super) fn load_producers(&self, log: &Log, producers: &mut Producers, entries_max: u64) -> Result<bool> {
        if producers.is_loaded() {
            return Ok(true);
        }
        let (mut found, mut from) = (Producers::default(), 0);
        for base in log.segment_bases().into_iter().rev() {
            from = base;
            if let Some(kept) = self.kept_producers(log, base)? {
                found = kept;
                break;
            }
        }
        if log.entries_from(from)? > entries_max {
            return Ok(false);
        }
        let appended_ms = self.env.clock.now_ms();
        log.each_entry(from, |first, entry| {
            if entry.producer_id >= 0 && !entry.flags.has(Flags::CONTROL) {
                let Entry { producer_id, producer_epoch, base_sequence, last_delta, timestamp, .. } = *entry;
                let numbering = Numbering { producer_id, producer_epoch, base_sequence };
                found.stored(Numbered { numbering, last_delta }, Stored { first, timestamp, appended_ms });
            }
        })?;
        producers.load(found);
        Ok(true)
    }

    /// The state kept beside the segment at `base`. One that cannot be read is as good as none: entries tell the rest.
    fn kept_producers(&self, log: &Log, base: u64) -> Result<Option<Producers>> {
        let path = log.beside(base, "producers");
        match disk::read_small(self.env.handles.disk(), &path, FILE_BYTES_MAX) {
            Ok(bytes) => Ok(std::str::from_utf8(&bytes).ok().and_then(Producers::from_lines)),
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
        let (disk, lines) = (self.env.handles.disk(), producers.to_lines(active));
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

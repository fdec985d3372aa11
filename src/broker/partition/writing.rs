//! Writing to a partition: records are appended, and then made as durable as the flush mode promises.

use super::{Partition, Sequence, Terms, millis};
use crate::{
    broker::{
        Error, Result,
        producer_state::{Numbered, Producers, Stored},
    },
    config::{Flush, Settings},
    log::{self, Append, Appended, Content, Log, Numbering, batches::Flags, record::Records},
};
use std::{sync::atomic::Ordering::*, time::Duration};

/// A background sync runs whenever this many bytes of a partition are not synced.
pub(super) const UNSYNCED_BYTES_MAX: u64 = 64 << 20;

/// So many entries are read in the thread that appends where a roll asks for the producers' state: 6 MB.
const ENTRIES_READ_BY_APPENDS: u64 = 100_000;

impl Partition {
    /// Writes records. What it answers is promised only after [`make_durable`](Self::make_durable). What an idempotent producer sends
    /// again is not written again; it gets the offsets that it got before.
    pub fn write(&self, records: &Records<'_>, terms: Terms) -> Result<Appended> {
        self.write_with(&*self.settings()?, records, terms)
    }

    /// The same, with the topic's settings.
    pub(in crate::broker) fn write_with(
        &self,
        settings: &Settings,
        records: &Records<'_>,
        terms: Terms,
    ) -> Result<Appended> {
        let Some(numbering) = terms.producer else {
            let log = self.log()?;
            let appended = self.append(log, settings, Content::Records(records), terms);
            // Who reads the log for the producers' state has the lock for long. Then maintenance keeps the state, as it does
            // where there is much to be read.
            if appended.as_ref().is_ok_and(|appended| appended.rolled)
                && let Ok(mut producers) = self.producers.try_lock()
            {
                self.keep_producers(log, &mut producers, ENTRIES_READ_BY_APPENDS);
            }
            return appended;
        };
        let batch = Numbered { numbering, last_delta: records.len() as u32 - 1 };
        // Opened first: opening a log may take the producers' lock.
        let log = self.log();
        // Held until the log's order and the producers' are the same again.
        let mut producers = self.producers.lock().expect("no panic under the producers' lock");
        let appended = log.and_then(|log| self.write_numbered(log, &mut producers, batch, settings, records, terms));
        if terms.sequence == Sequence::Given && appended.as_ref().is_err_and(Error::is_retriable) {
            producers.refused(batch, self.env.clock.now_ms());
        }
        appended
    }

    fn write_numbered(
        &self,
        log: &Log,
        producers: &mut Producers,
        mut batch: Numbered,
        settings: &Settings,
        records: &Records<'_>,
        terms: Terms,
    ) -> Result<Appended> {
        self.load_producers(log, producers, u64::MAX)?;
        let Numbering { producer_id, producer_epoch, .. } = batch.numbering;
        if terms.sequence == Sequence::Next {
            batch.numbering.base_sequence = producers.next_sequence(producer_id, producer_epoch);
        }
        if let Some(Stored { first, timestamp, .. }) = producers.check(batch, self.env.clock.now_ms())? {
            let offsets = first..first + records.len() as u64;
            // What is known from an entry has the time of its first record; the records that come again tell the largest.
            let own = records.iter().filter_map(|record| record.timestamp).max().filter(|_| !settings.append_time());
            let now_ms = own.map_or(timestamp, |own| own.max(timestamp));
            let published = offsets.end <= log.high_watermark();
            return Ok(Appended::known(offsets, now_ms, published));
        }
        let in_transaction = terms.flags.has(Flags::TRANSACTIONAL);
        if !in_transaction {
            producers.check_outside(producer_id)?;
        }
        let terms = Terms { producer: Some(batch.numbering), whole: true, ..terms };
        let appended = self.append(log, settings, Content::Records(records), terms);
        if appended.as_ref().is_ok_and(|appended| appended.rolled) {
            // First: the state beside the new segment is that of its start.
            self.keep_producers(log, producers, u64::MAX);
        }
        if let Ok(Appended { offsets, now_ms: appended_ms, .. }) = &appended {
            let own = records.iter().map(|record| record.timestamp.unwrap_or(*appended_ms)).max();
            let timestamp = own.filter(|_| !settings.append_time());
            let timestamp = timestamp.unwrap_or(*appended_ms);
            producers.stored(batch, Stored { first: offsets.start, timestamp, appended_ms: *appended_ms });
            if in_transaction {
                producers.stored_in_transaction(producer_id, offsets.start);
            }
        }
        if in_transaction {
            // The append holds it, though it may have failed.
            self.raise_stable(log, producers);
        }
        appended
    }

    pub(super) fn append(
        &self,
        log: &Log,
        settings: &Settings,
        content: Content<'_, '_>,
        terms: Terms,
    ) -> Result<Appended> {
        self.env.begin_writing()?;
        let append = Append {
            content,
            now_ms: self.env.clock.now_ms(),
            flags: terms.flags | if settings.append_time() { Flags::APPEND_TIME } else { Flags::NONE },
            producer: terms.producer,
            whole: terms.whole,
            segment_bytes_max: settings.segment_bytes,
            segment_ms_max: self.segment_age_max_ms(settings, log),
            publish: settings.flush(self.env.flush) != Flush::Always,
        };
        let appended = log.append(&append);
        // An append that failed may have rolled before: maintenance does what is left to do then.
        let rolled = appended.as_ref().map_or(true, |appended| appended.rolled);
        if rolled {
            self.due_in(Duration::ZERO);
        }
        let appended = appended.map_err(|error| match error {
            log::Error::Closed => self.gone(),
            error => error.into(),
        })?;
        self.traffic.written(appended.offsets.end - appended.offsets.start, appended.bytes);
        if appended.place.1.start == 0 {
            self.times_due_in(self.retention_interval(settings));
            self.due_in(millis(append.segment_ms_max));
        }
        Ok(appended)
    }

    /// Makes what was written as durable as was promised, and wakes those who wait for it. What was written before and is
    /// only answered again is promised no less.
    pub fn make_durable(&self, appended: &Appended) -> Result<()> {
        self.make_durable_with(&*self.settings()?, appended)
    }

    /// The same, with the topic's settings.
    pub(in crate::broker) fn make_durable_with(&self, settings: &Settings, appended: &Appended) -> Result<()> {
        let (log, end) = (self.flushed_log()?, appended.offsets.end);
        let mode = settings.flush(self.env.flush);
        let count = (end - appended.offsets.start) as i64;
        let many = settings.flush_messages < i64::MAX
            && self.unsynced_records.fetch_add(count, AcqRel) + count >= settings.flush_messages;
        // What was written when the mode was another is shown to nobody until it is synced.
        if mode == Flush::Always || many || !appended.published {
            self.unsynced_records.store(0, Release);
            log.sync_to(end)?;
        } else {
            // No mode promises what is known to be in doubt.
            log.check_intact(end)?;
            if appended.unsynced_bytes >= UNSYNCED_BYTES_MAX {
                self.env.flusher.sync_in(Duration::ZERO, log);
            } else if let Flush::Every(time) = mode {
                self.env.flusher.sync_in(time, log);
            }
        }
        self.settle(log);
        self.waiters.wake();
        Ok(())
    }

    /// Syncs what was written below `end`, whatever the flush mode, and wakes those who wait for it.
    pub(in crate::broker) fn sync_to(&self, end: u64) -> Result<()> {
        let log = self.log()?;
        log.sync_to(end)?;
        self.settle(log);
        self.waiters.wake();
        Ok(())
    }

    /// Begins to sync, in the background, what [`make_durable`](Self::make_durable) will wait for.
    pub(in crate::broker) fn sync_soon(&self, settings: &Settings) {
        if settings.flush(self.env.flush) == Flush::Always
            && let Ok(log) = self.flushed_log()
        {
            self.env.flusher.sync_in(Duration::ZERO, log);
        }
    }
}

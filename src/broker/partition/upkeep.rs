//! What time asks of a partition: rolls, retention, compaction; and TRIM, which removes records as retention does.

use super::{Partition, millis};
use crate::{
    broker::{Error, Result},
    config::Settings,
    log::{Log, Retention, batches::crc32c, retention::unopened_due_at},
};
use std::{
    sync::atomic::{AtomicI64, Ordering::*},
    time::Duration,
};

/// After a start, retention waits so long before it looks at the times of records for the first time, as Kafka's does.
const FIRST_RETENTION: Duration = Duration::from_secs(30);
/// However short `retention.ms` is, retention looks at times no more often than this.
const RETENTION_PAUSE: Duration = Duration::from_secs(5);

impl Partition {
    /// Removes the records before `offset` for good. Answers the start offset.
    pub fn trim(&self, offset: u64) -> Result<u64> {
        let log = self.log()?;
        let _one = self.opening.lock().expect("no panic while a log is opened");
        let (first, end) = (log.start(), log.high_watermark());
        if offset > end {
            return Err(Error::OffsetOutOfRange { first, end });
        }
        if offset > first {
            // The segments that go may be the last that tell of producers.
            self.keep_known_producers(log);
            self.still_there()?;
            let stored = self.metadata.change_partition(self.index, |lines| lines.start = lines.start.max(offset));
            stored.map_err(|error| Error::of_disk(&error))?;
            // The records are gone, now and after a restart. What fails from here on takes room and nothing else.
            log.advance_start(offset);
            self.free_or_tell(log);
            self.env.refill_reserves();
            self.waiters.wake();
        }
        Ok(log.start())
    }

    /// Removes the files of what lies before the log's start; the active segment, too, if it holds nothing else.
    fn free(&self, log: &Log) -> Result<()> {
        log.remove_before_start()?;
        // The segment that goes may be the last that tells of producers.
        if log.seal_before(log.start())? {
            self.keep_known_producers(log);
            log.remove_before_start()?;
        }
        Ok(())
    }

    pub(super) fn free_or_tell(&self, log: &Log) {
        if let Err(error) = self.free(log) {
            self.env.tell(&format!("{}: what was trimmed away still takes room: {error}", log.dir().display()));
        }
    }

    /// When maintenance is due, in ms; `i64::MAX`: not before something happens here.
    pub(in crate::broker) fn due_ms(&self) -> i64 {
        self.due_ms.load(Acquire).min(self.times_due_ms.load(Acquire))
    }

    /// Maintenance is due after this time, if not sooner.
    pub(in crate::broker) fn due_in(&self, time: Duration) {
        self.make_due(&self.due_ms, time);
    }

    /// Retention by time is due after this time, if not sooner.
    pub(super) fn times_due_in(&self, time: Duration) {
        self.make_due(&self.times_due_ms, time);
    }

    fn make_due(&self, due_ms: &AtomicI64, time: Duration) {
        let at_ms = self.env.in_ms(time);
        if due_ms.fetch_min(at_ms, AcqRel) > at_ms {
            self.env.schedule.partitions_in(time);
        }
    }

    /// Maintenance failed: nothing of it is tried for this time, and then all of it.
    pub(in crate::broker) fn put_off(&self, time: Duration) {
        let at_ms = self.env.in_ms(time);
        [&self.due_ms, &self.times_due_ms].into_iter().for_each(|due_ms| due_ms.store(at_ms, Release));
    }

    /// The partition was found at the start: its records may have become too old meanwhile.
    pub(in crate::broker) fn due_after_start(&self) {
        let settings = self.metadata.settings();
        let interval = self.retention_interval(&settings).min(FIRST_RETENTION);
        if settings.retention().is_limited() || settings.cleanup_policy.compacts() {
            self.times_due_in(interval);
        }
    }

    /// How often retention looks at the times of records.
    pub(super) fn retention_interval(&self, settings: &Settings) -> Duration {
        let interval = self.env.retention_check_interval;
        match settings.retention().ms {
            ..0 => interval,
            ms => interval.min(millis(ms).max(RETENTION_PAUSE)),
        }
    }

    /// The topic's settings were changed.
    pub(in crate::broker) fn settings_changed(&self) {
        self.times_due_in(self.retention_interval(&self.metadata.settings()));
        self.due_in(Duration::ZERO);
    }

    /// Maintenance: rolls an old segment, removes what retention wants gone. Answers whether the log is to be compacted.
    pub(in crate::broker) fn look_after(&self) -> Result<bool> {
        let (settings, now_ms) = (self.settings()?, self.env.clock.now_ms());
        // Whoever makes it due from here on means what is done below, or more.
        self.due_ms.store(i64::MAX, Release);
        let looks_at_times = self.times_due_ms.load(Acquire) <= now_ms;
        if looks_at_times {
            self.times_due_ms.store(i64::MAX, Release);
        }
        let (retention, compacts) = (settings.retention(), settings.cleanup_policy.compacts());
        if self.log.get().is_none() {
            let roll_ms = compacts.then(|| settings.segment_age_max_ms(0));
            let due = unopened_due_at(&self.env.handles, &self.dir(), now_ms, retention, roll_ms);
            match due {
                Ok(None) => return Ok(false),
                Ok(Some(due_ms)) if due_ms > now_ms => {
                    self.times_due_in(self.env.until(due_ms));
                    return Ok(false);
                }
                // Opening it tells what is wrong, and mends it if that can be done.
                Ok(Some(_)) | Err(_) => {}
            }
        }
        let log = self.log()?;
        let by_size = Retention { ms: -1, ..retention };
        match log.expired_to(now_ms, if looks_at_times { retention } else { by_size })? {
            Some(start) => drop(self.trim(start)?),
            None => self.free(log)?,
        }
        // On a full disk there may be room now for what a roll makes.
        let segment_age_max_ms = self.segment_age_max_ms(&settings, log);
        if log.roll_if_old(now_ms, segment_age_max_ms)? {
            self.due_in(Duration::ZERO);
        }
        self.keep_known_producers(log);
        if let Some(at_ms) = log.expires_at(now_ms, retention)? {
            self.times_due_in(self.env.until(at_ms).max(self.retention_interval(&settings)));
        }
        if let Some(at_ms) = log.rolls_at(segment_age_max_ms) {
            self.due_in(self.env.until(at_ms));
        }
        if !compacts {
            return Ok(false);
        }
        let due = log.compaction_due(now_ms, &settings.compaction())?;
        if let Some(at_ms) = due.next_ms {
            self.due_in(self.env.until(at_ms));
        }
        Ok(due.now)
    }

    /// The age at which the segment that is written to is sealed. Of the segments of many partitions, and of one partition's,
    /// each has a jitter of its own.
    pub(super) fn segment_age_max_ms(&self, settings: &Settings, log: &Log) -> i64 {
        if settings.segment_jitter_ms == 0 {
            return settings.segment_age_max_ms(0);
        }
        let place = log.beside(log.active_base(), "log");
        settings.segment_age_max_ms(crc32c(place.as_os_str().as_encoded_bytes()))
    }

    /// Compacts until nothing is due, the topic is dropped or `stop` answers yes.
    pub(in crate::broker) fn compact(&self, stop: &dyn Fn() -> bool) -> Result<()> {
        loop {
            let (log, settings, now_ms) = (self.log()?, self.settings()?, self.env.clock.now_ms());
            let how = settings.compaction();
            if stop() || !settings.cleanup_policy.compacts() || !log.compaction_due(now_ms, &how)?.now {
                return Ok(());
            }
            let compacted = log.compact(now_ms, &how, stop)?;
            compacted.notes.iter().for_each(|note| self.env.tell(note));
        }
    }
}

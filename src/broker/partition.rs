//! A partition: its log, which is opened at its first use, what an append promises, and who waits for records.
//!
//! An append has two steps, so that a request to many partitions first writes to all of them and then syncs them:
//! [`Partition::write`] stores the lines, [`Partition::make_durable`] makes them as durable as the flush mode promises.
//!
//! A partition knows when time will ask something of it ([`Partition::due_ms`]): a roll, retention, compaction. The
//! [maintenance](super::maintenance) thread then calls [`Partition::look_after`].

use super::{
    Env, Error, Result,
    flusher::FlushedLog,
    leader_epochs::EpochEnd,
    producer_state::{FILE_BYTES_MAX, Numbered, Producers, Stored},
    topic_metadata::TopicMetadata,
    waiting::{Registered, Waiter, Waiters},
};
use crate::{
    config::{Flush, Settings},
    log::{
        self, Append, Appended, Chunk, Log, Numbering, Retention,
        batches::{Entry, Flags, crc32c},
        disk,
        record::Records,
        recovery::{CannotOpen, Cause, Opened},
        retention::unopened_due_at,
    },
    metrics::Traffic,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::*},
    },
    time::Duration,
};

/// A background sync runs whenever this many bytes of a partition are not synced.
const UNSYNCED_BYTES_MAX: u64 = 64 << 20;

/// So many entries are read in the thread that appends where a roll asks for the producers' state: 6 MB.
const ENTRIES_READ_BY_APPENDS: u64 = 100_000;

/// After a start, retention waits so long before it looks at the times of records for the first time, as Kafka's does.
const FIRST_RETENTION: Duration = Duration::from_secs(30);
/// However short `retention.ms` is, retention looks at times no more often than this.
const RETENTION_PAUSE: Duration = Duration::from_secs(5);
/// A log that has been opened is looked after this much later: a roll or a compaction may be overdue.
const AFTER_OPENING: Duration = Duration::from_secs(5);

/// A partition of a topic.
#[derive(Debug)]
pub struct Partition {
    /// Its number.
    pub index: u32,
    metadata: Arc<TopicMetadata>,
    env: Arc<Env>,
    log: OnceLock<std::result::Result<Arc<FlushedLog>, String>>,
    /// Held while the log is opened or trimmed, so that DROP waits for it. Whether the last try to open it failed.
    opening: Mutex<bool>,
    /// Whether the topic is gone.
    dropped: AtomicBool,
    /// When retention looks at the times of records again, in ms; `i64::MAX`: not before something happens here.
    times_due_ms: AtomicI64,
    /// When maintenance is due for anything else, likewise.
    due_ms: AtomicI64,
    unsynced_records: AtomicI64,
    waiters: Waiters,
    pub(super) traffic: Traffic,
    /// What idempotent producers wrote; read from the log when the first of them writes.
    producers: Mutex<Producers>,
    /// Base of the segment beside which their state is known to be kept; `u64::MAX`: of none.
    kept_at: AtomicU64,
}

/// How records are to be appended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// What is true of each batch.
    pub flags: Flags,
    /// How its producer numbers them. Such records are a whole batch.
    pub producer: Option<Numbering>,
    /// The records are one batch, stored whole or not at all.
    pub whole: bool,
}

impl Partition {
    pub(super) fn new(metadata: &Arc<TopicMetadata>, env: &Arc<Env>, index: u32) -> Partition {
        Partition {
            index,
            metadata: metadata.clone(),
            env: env.clone(),
            log: OnceLock::new(),
            opening: Mutex::default(),
            dropped: AtomicBool::new(false),
            due_ms: AtomicI64::new(i64::MAX),
            times_due_ms: AtomicI64::new(i64::MAX),
            unsynced_records: AtomicI64::new(0),
            waiters: Waiters::default(),
            traffic: Traffic::default(),
            producers: Mutex::default(),
            kept_at: AtomicU64::new(u64::MAX),
        }
    }

    /// Its topic's name and its number, `orders/3`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.metadata.name, self.index)
    }

    /// Its log, opened if nobody has touched it before.
    pub fn log(&self) -> Result<&Log> {
        self.flushed_log().map(|log| &***log)
    }

    fn flushed_log(&self) -> Result<&Arc<FlushedLog>> {
        self.still_there()?;
        if self.log.get().is_none() {
            self.open()?;
        }
        match self.log.get().expect("opened above") {
            Ok(log) => Ok(log),
            Err(why) => Err(Error::Storage(format!("the partition is offline: {why}"))),
        }
    }

    /// An error if the topic was dropped.
    pub fn still_there(&self) -> Result<()> {
        if self.dropped.load(Acquire) { Err(self.gone()) } else { Ok(()) }
    }

    fn gone(&self) -> Error {
        Error::UnknownTopic(self.metadata.name.clone())
    }

    fn open(&self) -> Result<()> {
        let mut failed = self.opening.lock().expect("no panic while a log is opened");
        if self.log.get().is_some() {
            return Ok(());
        }
        self.still_there()?;
        let (env, metadata) = (&self.env, &self.metadata);
        let (dir, disk) = (self.dir(), env.handles.disk());
        if let Err(error) = metadata.make_durable() {
            // It says what it says. The next that is opened tries again.
            env.tell(&error.to_string());
        }
        let start = metadata.partition(self.index).start;
        let cutting = |end: u64| {
            metadata.change_partition(self.index, |lines| lines.epochs.cut(end.max(lines.start), lines.start))
        };
        // A crash can have lost the folder of a partition that was made with ALTER.
        let made = disk::make_dir(disk, &dir).and_then(|()| {
            // What failed may have been a sync of the names here. The next one proves something once a name has changed.
            let touched = dir.join("open.tmp~");
            if *failed { disk.create(&touched).and_then(|_| disk.remove_file(&touched)) } else { Ok(()) }
        });
        let made = made.map_err(CannotOpen::at(&dir));
        *failed = true;
        let clean = env.was_clean(&metadata.name, self.index);
        let open = |()| Log::open(env.handles.clone(), &dir, start, clean, env.clock.now_ms(), &cutting);
        let epoch = self.leader_epoch();
        let ending_epoch = |(log, opened): (Log, Opened)| {
            // Where records are shown before they are synced, a crash may have taken some without a trace.
            let shown_early = metadata.settings().flush(env.flush) != Flush::Always;
            if shown_early && !clean && !opened.is_new && self.leader_epoch() == epoch {
                cutting(log.high_watermark()).map_err(CannotOpen::at(&dir))?;
            }
            Ok((log, opened))
        };
        let opened = match made.and_then(open).and_then(ending_epoch) {
            Ok((log, opened)) => {
                opened.notes.iter().for_each(|note| env.tell(note));
                // A crash, or a fault, may have come between storing the start offset and removing what lies before it.
                self.free_or_tell(&log);
                Ok(Arc::new(log.into()))
            }
            // The next touch tries again.
            Err(CannotOpen { why, cause: Cause::DiskFull }) => return Err(Error::disk_full(why)),
            Err(CannotOpen { why, cause: Cause::Disk }) => return Err(Error::Storage(why)),
            Err(CannotOpen { why, cause: Cause::Content }) => {
                env.tell(&format!("{} is offline: {why}", self.name()));
                Err(why)
            }
        };
        self.log.set(opened).expect("only one opens at a time");
        self.due_in(AFTER_OPENING);
        Ok(())
    }

    /// Whether somebody has touched the log.
    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        self.log.get().is_some()
    }

    /// The log if somebody opened it and it is well.
    fn opened(&self) -> Option<&Log> {
        self.log.get()?.as_ref().ok().map(|log| &***log)
    }

    /// Where the log will begin, if there is none yet: nobody has opened it, and the folder holds nothing.
    pub(super) fn untouched_start(&self) -> Option<u64> {
        let is_untouched = self.log.get().is_none()
            && match self.env.handles.disk().list(&self.dir()) {
                Err(error) => error.kind() == io::ErrorKind::NotFound,
                Ok(names) => names.is_empty(),
            };
        is_untouched.then(|| self.metadata.partition(self.index).start)
    }

    /// Syncs what was written; an error if the next start cannot take this log for one that was stopped cleanly. After an
    /// unclean stop that holds for a log that nobody has opened too: its torn tail still stands there.
    pub(super) fn finish(&self) -> Result<()> {
        match self.log.get() {
            None | Some(Err(_)) if self.env.was_clean(&self.metadata.name, self.index) => Ok(()),
            None if self.untouched_start().is_some() => Ok(()),
            _ => Ok(self.log()?.sync_all()?),
        }
    }

    /// The directory of its files.
    pub fn dir(&self) -> PathBuf {
        self.metadata.dir().join(self.index.to_string())
    }

    /// Leader epoch: raised whenever records that were shown were cut off, or a crash may have taken some.
    pub fn leader_epoch(&self) -> u32 {
        self.metadata.leader_epoch(self.index)
    }

    /// Where the newest leader epoch ended that is not above `epoch` (KIP-320); `None`: there was none so high yet.
    pub fn end_of_epoch(&self, epoch: u32) -> Result<Option<EpochEnd>> {
        let end = self.high_watermark()?;
        Ok(self.metadata.partition(self.index).epochs.end_of(epoch, end))
    }

    /// Offset of the first record.
    pub fn start(&self) -> Result<u64> {
        Ok(self.log()?.start())
    }

    /// Offset behind the last record that readers see.
    pub fn high_watermark(&self) -> Result<u64> {
        Ok(self.log()?.high_watermark())
    }

    /// Writes records. What it answers is promised only after [`make_durable`](Self::make_durable). What an idempotent producer sends
    /// again is not written again; it gets the offsets that it got before.
    pub fn write(&self, records: &Records<'_>, terms: Terms) -> Result<Appended> {
        self.write_with(&*self.settings()?, records, terms)
    }

    /// The same, with the topic's settings.
    pub(super) fn write_with(&self, settings: &Settings, records: &Records<'_>, terms: Terms) -> Result<Appended> {
        let Some(numbering) = terms.producer else {
            let log = self.log()?;
            let appended = self.append(log, settings, records, terms);
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
        if appended.as_ref().is_err_and(Error::is_retriable) {
            producers.refused(batch, self.env.clock.now_ms());
        }
        appended
    }

    fn write_numbered(
        &self,
        log: &Log,
        producers: &mut Producers,
        batch: Numbered,
        settings: &Settings,
        records: &Records<'_>,
        terms: Terms,
    ) -> Result<Appended> {
        self.load_producers(log, producers, u64::MAX)?;
        if let Some(Stored { first, timestamp, .. }) = producers.check(batch, self.env.clock.now_ms())? {
            let offsets = first..first + records.len() as u64;
            let place = (PathBuf::new(), 0..0);
            // What is known from an entry has the time of its first record; the records that come again tell the largest.
            let own = records.iter().filter_map(|record| record.timestamp).max().filter(|_| !settings.append_time());
            let now_ms = own.map_or(timestamp, |own| own.max(timestamp));
            let published = offsets.end <= log.high_watermark();
            let (bytes, unsynced_bytes, failed, rolled) = (0, 0, None, false);
            return Ok(Appended {
                offsets,
                place,
                bytes,
                now_ms,
                unsynced_bytes,
                failed,
                published,
                known: true,
                rolled,
            });
        }
        let appended = self.append(log, settings, records, terms);
        if let Ok(Appended { offsets, now_ms: appended_ms, .. }) = &appended {
            let own = records.iter().map(|record| record.timestamp.unwrap_or(*appended_ms)).max();
            let timestamp = own.filter(|_| !settings.append_time());
            let timestamp = timestamp.unwrap_or(*appended_ms);
            producers.stored(batch, Stored { first: offsets.start, timestamp, appended_ms: *appended_ms });
        }
        if appended.as_ref().is_ok_and(|appended| appended.rolled) {
            self.keep_producers(log, producers, u64::MAX);
        }
        appended
    }

    /// Reads what idempotent producers wrote: the state kept beside the last segment that has it, and the entries from there
    /// on. Answers whether it is known now; not: it would take reading more entries than that.
    fn load_producers(&self, log: &Log, producers: &mut Producers, entries_max: u64) -> Result<bool> {
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
    fn keep_producers(&self, log: &Log, producers: &mut Producers, entries_max: u64) {
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
    fn keep_known_producers(&self, log: &Log) {
        if !self.is_state_kept(log) {
            let mut producers = self.producers.lock().expect("no panic under the producers' lock");
            self.keep_producers(log, &mut producers, u64::MAX);
        }
    }

    fn append(&self, log: &Log, settings: &Settings, records: &Records<'_>, terms: Terms) -> Result<Appended> {
        self.env.begin_writing()?;
        let append = Append {
            records,
            now_ms: self.env.clock.now_ms(),
            flags: terms.flags | if settings.append_time() { Flags::APPEND_TIME } else { Flags::NONE },
            producer: terms.producer,
            whole: terms.whole || terms.producer.is_some(),
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
    pub(super) fn make_durable_with(&self, settings: &Settings, appended: &Appended) -> Result<()> {
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
        self.waiters.wake();
        Ok(())
    }

    /// Syncs what was written below `end`, whatever the flush mode, and wakes those who wait for it.
    pub(super) fn sync_to(&self, end: u64) -> Result<()> {
        self.log()?.sync_to(end)?;
        self.waiters.wake();
        Ok(())
    }

    /// Begins to sync, in the background, what [`make_durable`](Self::make_durable) will wait for.
    pub(super) fn sync_soon(&self, settings: &Settings) {
        if settings.flush(self.env.flush) == Flush::Always
            && let Ok(log) = self.flushed_log()
        {
            self.env.flusher.sync_in(Duration::ZERO, log);
        }
    }

    /// The settings of the topic.
    pub fn settings(&self) -> Result<Arc<Settings>> {
        self.still_there()?;
        Ok(self.metadata.settings())
    }

    /// Reads batches from the one with `offset` on: one at least (none at the high watermark), more while they fit
    /// `bytes_max`.
    pub fn read(&self, offset: u64, bytes_max: usize, chunk: &mut Chunk) -> Result<()> {
        self.log()?.read(offset, bytes_max, chunk).map_err(|error| self.seen_by_reader(error))?;
        self.traffic.read(chunk.bytes().len() as u64);
        Ok(())
    }

    /// The lowest offset whose timestamp is at or after `timestamp`; the high watermark if there is none.
    pub fn offset_at(&self, timestamp: i64, chunk: &mut Chunk) -> Result<u64> {
        self.log()?.offset_at(timestamp, chunk).map_err(|error| self.seen_by_reader(error))
    }

    /// DROP takes files away under those who read them.
    fn seen_by_reader(&self, error: log::Error) -> Error {
        if self.dropped.load(Acquire) { self.gone() } else { error.into() }
    }

    /// Wakes `waiter` for new records, a changed start and the end of the topic, until the answer is dropped.
    pub fn register(&self, waiter: &Arc<Waiter>) -> Registered<'_> {
        self.waiters.register(waiter)
    }

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

    fn free_or_tell(&self, log: &Log) {
        if let Err(error) = self.free(log) {
            self.env.tell(&format!("{}: what was trimmed away still takes room: {error}", log.dir().display()));
        }
    }

    /// When maintenance is due, in ms; `i64::MAX`: not before something happens here.
    pub(super) fn due_ms(&self) -> i64 {
        self.due_ms.load(Acquire).min(self.times_due_ms.load(Acquire))
    }

    /// Maintenance is due after this time, if not sooner.
    pub(super) fn due_in(&self, time: Duration) {
        self.make_due(&self.due_ms, time);
    }

    /// Retention by time is due after this time, if not sooner.
    fn times_due_in(&self, time: Duration) {
        self.make_due(&self.times_due_ms, time);
    }

    fn make_due(&self, due_ms: &AtomicI64, time: Duration) {
        let at_ms = self.env.in_ms(time);
        if due_ms.fetch_min(at_ms, AcqRel) > at_ms {
            self.env.schedule.partitions_in(time);
        }
    }

    /// Maintenance failed: nothing of it is tried for this time, and then all of it.
    pub(super) fn put_off(&self, time: Duration) {
        let at_ms = self.env.in_ms(time);
        [&self.due_ms, &self.times_due_ms].into_iter().for_each(|due_ms| due_ms.store(at_ms, Release));
    }

    /// The partition was found at the start: its records may have become too old meanwhile.
    pub(super) fn due_after_start(&self) {
        let settings = self.metadata.settings();
        let interval = self.retention_interval(&settings).min(FIRST_RETENTION);
        if settings.retention().is_limited() || settings.cleanup_policy.compacts() {
            self.times_due_in(interval);
        }
    }

    /// How often retention looks at the times of records.
    fn retention_interval(&self, settings: &Settings) -> Duration {
        let interval = self.env.retention_check_interval;
        match settings.retention().ms {
            ..0 => interval,
            ms => interval.min(millis(ms).max(RETENTION_PAUSE)),
        }
    }

    /// The topic's settings were changed.
    pub(super) fn settings_changed(&self) {
        self.times_due_in(self.retention_interval(&self.metadata.settings()));
        self.due_in(Duration::ZERO);
    }

    /// Maintenance: rolls an old segment, removes what retention wants gone. Answers whether the log is to be compacted.
    pub(super) fn look_after(&self) -> Result<bool> {
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
    fn segment_age_max_ms(&self, settings: &Settings, log: &Log) -> i64 {
        if settings.segment_jitter_ms == 0 {
            return settings.segment_age_max_ms(0);
        }
        let place = log.beside(log.active_base(), "log");
        settings.segment_age_max_ms(crc32c(place.as_os_str().as_encoded_bytes()))
    }

    /// Compacts until nothing is due, the topic is dropped or `stop` answers yes.
    pub(super) fn compact(&self, stop: &dyn Fn() -> bool) -> Result<()> {
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

    /// The topic is being dropped: no append succeeds from here on.
    pub(super) fn close(&self) {
        let _one = self.opening.lock().expect("no panic while a log is opened");
        self.dropped.store(true, Release);
        if let Some(log) = self.opened() {
            log.close();
        }
    }

    /// The topic was not dropped after all.
    pub(super) fn reopen(&self) {
        if let Some(log) = self.opened() {
            log.reopen();
        }
        self.dropped.store(false, Release);
    }

    /// Wakes who waits, so that they see a change that is no record.
    pub(super) fn wake(&self) {
        self.waiters.wake();
    }
}

/// A setting's time; -1 is for ever.
fn millis(ms: i64) -> Duration {
    u64::try_from(ms).map_or(Duration::MAX, Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{Broker, Clock},
        config::{Changes, Config, Overrides},
        log::disk::{Disk, MemoryDisk},
    };
    use std::{
        borrow::Cow,
        sync::atomic::AtomicI64,
        time::{Duration, Instant},
    };

    fn record(bytes: &[u8]) -> Records<'_> {
        let mut records = Records::default();
        records.push(None, None, Some(Cow::Borrowed(bytes)));
        records
    }

    #[test]
    fn much_that_is_not_synced_does_not_wait_for_its_time() {
        let config = Config { flush: Flush::Every(Duration::from_secs(3600)), ..Config::in_memory() };
        let broker = Broker::open(config).unwrap();
        broker.create_topic("t", 1).unwrap();
        let partition = broker.topic("t").unwrap().partition(0).unwrap();
        let value = vec![b'x'; 1 << 20];
        let write = |value: &[u8]| {
            let appended = partition.write(&record(value), Terms::default()).unwrap();
            partition.make_durable(&appended).unwrap();
            appended.unsynced_bytes
        };
        for _ in 0..65 {
            write(&value);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while write(b"") > UNSYNCED_BYTES_MAX {
            assert!(Instant::now() < deadline, "it is never synced");
        }
    }

    #[test]
    fn what_waits_for_its_sync_is_shown_though_the_mode_changes_meanwhile() {
        let broker = Broker::open(Config { flush: Flush::Never, ..Config::in_memory() }).unwrap();
        let always = Overrides::from([("flush.ms".into(), "0".into())]);
        broker.create_topic_with("t", Some(1), always).unwrap();
        let topic = broker.topic("t").unwrap();
        let partition = topic.partition(0).unwrap();
        let appended = partition.write(&record(b"hello"), Terms::default()).unwrap();
        assert_eq!(partition.high_watermark(), Ok(0));
        broker.alter_topic("t", None, &Changes { reset_others: true, ..Changes::default() }).unwrap();
        partition.make_durable(&appended).unwrap();
        assert_eq!(partition.high_watermark(), Ok(1));
    }

    #[test]
    fn segments_that_began_together_are_sealed_one_by_one_where_jitter_is_set() {
        let clock = Arc::new(AtomicI64::new(0));
        let config = Config { flush: Flush::Never, ..Config::in_memory() };
        let broker = Broker::open_on(Arc::new(MemoryDisk::default()), config, Clock::Manual(clock.clone())).unwrap();
        let settings = [("segment.ms", "1000"), ("segment.jitter.ms", "900"), ("retention.ms", "-1")];
        let settings = settings.map(|(name, value)| (name.into(), value.into())).into();
        broker.create_topic_with("t", Some(40), settings).unwrap();
        let partitions = broker.topic("t").unwrap().partitions();
        for partition in &partitions {
            partition.write(&record(b"hello"), Terms::default()).unwrap();
        }
        let sealed_at = |now_ms| {
            clock.store(now_ms, Release);
            for partition in &partitions {
                partition.look_after().unwrap();
            }
            partitions.iter().filter(|partition| partition.log().unwrap().segments() > 1).count()
        };
        assert_eq!(sealed_at(100), 0);
        assert!((1..40).contains(&sealed_at(550)), "of forty one is early and one is late");
        assert_eq!(sealed_at(1000), 40);
    }

    #[test]
    fn what_a_producer_wrote_is_known_though_time_and_trim_took_it() {
        let (disk, clock) = (MemoryDisk::default(), Arc::new(AtomicI64::new(0)));
        let open =
            || Broker::open_on(Arc::new(disk.clone()), Config::new("data"), Clock::Manual(clock.clone())).unwrap();
        let partition = |broker: &Broker| broker.topic("t").unwrap().partition(0).unwrap();
        let write = |broker: &Broker, producer| {
            partition(broker).write(&record(b"hello"), Terms { producer, ..Terms::default() }).unwrap()
        };
        let numbered = first_of(7);
        let broker = open();
        broker.create_topic_with("t", Some(1), Overrides::from([("segment.ms".into(), "1000".into())])).unwrap();
        assert!(!write(&broker, numbered).known);
        for now_ms in [1000, 2000] {
            clock.store(now_ms, Release);
            partition(&broker).look_after().unwrap();
            write(&broker, None);
        }
        drop(broker);
        let broker = open();
        assert!(write(&broker, numbered).known);
        assert_eq!(partition(&broker).trim(3), Ok(3));
        drop(broker);
        assert!(write(&open(), numbered).known);
    }

    /// A broker by a clock, with a topic of one partition whose segments take some 1,000 bytes.
    fn broker_on(disk: &MemoryDisk, clock: &Arc<AtomicI64>) -> Broker {
        let topic_defaults = Settings { segment_bytes: 1024, retention_ms: -1, ..Settings::default() };
        let config = Config { topic_defaults, ..Config::new("data") };
        let broker = Broker::open_on(Arc::new(disk.clone()), config, Clock::Manual(clock.clone())).unwrap();
        if broker.topic("t").is_err() {
            broker.create_topic("t", 1).unwrap();
        }
        broker
    }

    /// The first batch of a producer.
    fn first_of(producer_id: i64) -> Option<Numbering> {
        Some(Numbering { producer_id, producer_epoch: 0, base_sequence: 0 })
    }

    /// Writes a record dated 2001.
    fn write_old(broker: &Broker, producer: Option<Numbering>) -> Appended {
        let mut records = Records::default();
        records.push(Some(1_000_000_000_000), None, Some(Cow::Owned(vec![b'x'; 300])));
        let partition = broker.topic("t").unwrap().partition(0).unwrap();
        partition.write(&records, Terms { producer, ..Terms::default() }).unwrap()
    }

    /// A batch that came again was answered with its largest time, and after a restart with that of its first record.
    #[test]
    fn a_duplicate_has_the_same_time_after_a_restart() {
        let (disk, clock) = (MemoryDisk::default(), Arc::new(AtomicI64::new(1_700_000_000_000)));
        let write = |broker: &Broker| {
            let mut records = Records::default();
            for timestamp in [1_000_000_000_000, 1_000_000_000_500, 1_000_000_000_300] {
                records.push(Some(timestamp), None, Some(Cow::Borrowed(b"hello")));
            }
            let partition = broker.topic("t").unwrap().partition(0).unwrap();
            partition.write(&records, Terms { producer: first_of(7), ..Terms::default() }).unwrap()
        };
        assert!(!write(&broker_on(&disk, &clock)).known);
        for _ in 0..2 {
            let broker = broker_on(&disk, &clock);
            for _ in 0..2 {
                let again = write(&broker);
                assert!(again.known);
                assert_eq!(again.now_ms, 1_000_000_000_500);
            }
        }
    }

    /// A mirror writes what was written years ago. Its producer was as good as forgotten at once.
    #[test]
    fn a_producer_is_as_old_as_its_last_append_however_old_its_records_are() {
        const NOW_MS: i64 = 1_700_000_000_000;
        let many_others = |broker: &Broker| (100..1200).for_each(|id| drop(write_old(broker, first_of(id))));
        for rolls in [false, true] {
            let (disk, clock) = (MemoryDisk::default(), Arc::new(AtomicI64::new(NOW_MS)));
            let broker = broker_on(&disk, &clock);
            assert!(!write_old(&broker, first_of(7)).known);
            if rolls {
                (0..4).for_each(|_| drop(write_old(&broker, None)));
            }
            drop(broker);
            let broker = broker_on(&disk, &clock);
            many_others(&broker);
            let again = write_old(&broker, first_of(7));
            assert!(again.known);
            assert_eq!(again.now_ms, 1_000_000_000_000, "Kafka tells the time of the batch that is stored");
            clock.store(NOW_MS + super::super::producer_state::EXPIRES_MS, Release);
            assert!(write_old(&broker, first_of(7)).known, "a day of silence is just over");
            clock.fetch_add(1, AcqRel);
            assert!(!write_old(&broker, first_of(7)).known, "a day and a millisecond");
        }
    }

    /// DROP and CREATE of the same name came between a roll and its `.producers` file, which went to the new topic's folder: the new
    /// topic took the first batch of a producer for one that it had.
    #[test]
    fn what_producers_wrote_is_not_kept_in_the_folder_of_another_topic() {
        let (disk, clock) = (MemoryDisk::default(), Arc::new(AtomicI64::new(0)));
        let broker = broker_on(&disk, &clock);
        write_old(&broker, first_of(7));
        (0..3).for_each(|_| drop(write_old(&broker, None)));
        let old = broker.topic("t").unwrap().partition(0).unwrap();
        let log = old.log().unwrap();
        assert_eq!(log.active_base(), 3);
        broker.drop_topic("t").unwrap();
        broker.create_topic("t", 1).unwrap();
        (0..4).for_each(|_| drop(write_old(&broker, None)));
        let state = Path::new("data/t/0/00000000000000000003.producers");
        disk.remove_file(state).unwrap();
        old.kept_at.store(u64::MAX, Release);
        old.keep_known_producers(log);
        assert!(disk.open(state).is_err());
        assert!(!write_old(&broker, first_of(7)).known);
    }

    /// The first roll after a start read the entries of the last segments, which may be gigabytes, while an append waited.
    #[test]
    fn a_roll_leaves_it_to_maintenance_to_read_many_entries() {
        let (disk, clock) = (MemoryDisk::default(), Arc::new(AtomicI64::new(0)));
        let state_of = |base: u64| {
            let path = format!("data/t/0/{base:020}.producers");
            disk::read_small(&disk, Path::new(&path), 1 << 20).ok()
        };
        let broker = broker_on(&disk, &clock);
        write_old(&broker, first_of(7));
        (0..6).for_each(|_| drop(write_old(&broker, None)));
        assert!(state_of(3).is_some_and(|state| state.starts_with(b"producer:7 epoch:0 batch:0-0@0 ")));
        assert!(state_of(6).is_some());
        drop(broker);

        // Two segments without: a crash came before they were kept, or somebody lost them.
        for base in [3, 6] {
            disk.remove_file(Path::new(&format!("data/t/0/{base:020}.producers"))).unwrap();
        }
        let broker = broker_on(&disk, &clock);
        let partition = broker.topic("t").unwrap().partition(0).unwrap();
        let log = partition.log().unwrap();
        let keep = |entries| partition.keep_producers(log, &mut partition.producers.lock().unwrap(), entries);
        keep(6);
        assert_eq!(state_of(6), None, "seven entries would have to be read");
        keep(7);
        assert!(state_of(6).is_some_and(|state| state.starts_with(b"producer:7 epoch:0 batch:0-0@0 ")));
        drop(broker);

        disk.remove_file(Path::new("data/t/0/00000000000000000006.producers")).unwrap();
        let broker = broker_on(&disk, &clock);
        let partition = broker.topic("t").unwrap().partition(0).unwrap();
        // Whoever holds the lock reads.
        let reading = partition.producers.lock().unwrap();
        (0..3).for_each(|_| drop(write_old(&broker, None)));
        assert_eq!((partition.log().unwrap().active_base(), state_of(9)), (9, None));
        drop(reading);
        partition.look_after().unwrap();
        assert!(state_of(9).is_some());
        assert_eq!(partition.trim(9), Ok(9));
        assert!(write_old(&broker, first_of(7)).known);
        drop((broker, partition));
        assert!(write_old(&broker_on(&disk, &clock), first_of(7)).known);
    }
}

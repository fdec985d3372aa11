//! A partition: its log, which is opened at its first use, what an append promises, and who waits for records.
//!
//! An append has two steps, so that a request to many partitions first writes to all of them and then syncs them:
//! [`Partition::write`] stores the lines, [`Partition::make_durable`] makes them as durable as the flush mode promises.
//!
//! A partition knows when time will ask something of it ([`Partition::due_ms`]): a roll, retention, compaction. The
//! [maintenance](super::maintenance) thread then calls [`Partition::look_after`].
//!
//! ```text
//! mod        opening, reading        producers   what they wrote, kept beside each segment
//! writing    appends, durability     upkeep      TRIM, retention, rolls, compaction
//! sequence   records with numbers    transactions  markers, the last stable offset, aborted records
//! ```

mod producers;
mod sequence;
mod transactions;
mod upkeep;
mod writing;

pub(super) use sequence::Sequenced;
pub use transactions::{Form, Isolation, View};

use super::{
    Env, Error, Result,
    flusher::FlushedLog,
    leader_epochs::EpochEnd,
    producer_state::Producers,
    topic_metadata::TopicMetadata,
    waiting::{Registered, Waiter, Waiters},
};
use crate::{
    config::{Flush, Settings},
    log::{
        self, Chunk, Log, Numbering, Size,
        batches::Flags,
        disk,
        recovery::{CannotOpen, Cause, Opened},
    },
    metrics::Traffic,
};
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::*},
    },
    time::Duration,
};

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
    /// What its files tell, once somebody asked before the log was opened.
    unopened: OnceLock<Box<Size>>,
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
    /// What producers wrote; read from the log when the first of them writes, or when a transaction may be open.
    producers: Mutex<Producers>,
    /// Whether the last stable offset waits for markers to be shown.
    unsettled: AtomicBool,
    /// Whether opening the log found open transactions, and nobody has looked after them yet.
    found_open: AtomicBool,
    /// Base of the segment beside which their state is known to be kept; `u64::MAX`: of none.
    kept_at: AtomicU64,
}

/// How records are to be appended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// What is true of each batch.
    pub flags: Flags,
    /// How its producer numbers them. Such records are a whole batch; with [`Flags::TRANSACTIONAL`] it is in the producer's
    /// transaction.
    pub producer: Option<Numbering>,
    /// Which sequence the first of them has.
    pub sequence: Sequence,
    /// The records are one batch, stored whole or not at all.
    pub whole: bool,
}

/// Who numbers a producer's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sequence {
    /// The producer: its base sequence stands in [`Terms::producer`].
    #[default]
    Given,
    /// The partition: they follow those that it has of this epoch.
    Next,
}

impl Partition {
    pub(super) fn new(metadata: &Arc<TopicMetadata>, env: &Arc<Env>, index: u32) -> Partition {
        Partition {
            index,
            metadata: metadata.clone(),
            env: env.clone(),
            log: OnceLock::new(),
            unopened: OnceLock::new(),
            opening: Mutex::default(),
            dropped: AtomicBool::new(false),
            due_ms: AtomicI64::new(i64::MAX),
            times_due_ms: AtomicI64::new(i64::MAX),
            unsynced_records: AtomicI64::new(0),
            waiters: Waiters::default(),
            traffic: Traffic::default(),
            producers: Mutex::default(),
            unsettled: AtomicBool::new(false),
            found_open: AtomicBool::new(false),
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

    /// Why it is offline or read-only; `None`: it is neither, or was not touched yet.
    #[cfg(feature = "http")]
    pub(in crate::broker) fn fault(&self) -> Option<String> {
        match self.log.get()? {
            Ok(log) => log.fault().map(|error| error.to_string()),
            Err(why) => Some(format!("the partition is offline: {why}")),
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
                // Before anybody reads, and before the last entry that tells of one is removed.
                self.find_open_transactions(&log)?;
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

    /// How much its log holds. Opens none; `None`: only opening it would tell, or it is offline.
    pub(super) fn size_unopened(&self) -> Result<Option<Size>> {
        self.still_there()?;
        match self.log.get() {
            Some(Ok(log)) => return Ok(Some(log.size()?)),
            Some(Err(_)) => return Ok(None),
            None => {}
        }
        if let Some(size) = self.unopened.get() {
            return Ok(Some(**size));
        }
        let start = self.metadata.partition(self.index).start;
        let size = match self.env.was_clean(&self.metadata.name, self.index) {
            true => Size::of_unopened(self.env.handles.disk(), &self.dir(), start)
                .map_err(|error| Error::of_disk(&error))?,
            false => self.untouched_start().map(Size::nothing),
        };
        // Meanwhile somebody may have opened it, and then the files told of the midst of an append.
        match self.log.get() {
            None => Ok(size.inspect(|&size| drop(self.unopened.set(Box::new(size))))),
            Some(_) => self.size_unopened(),
        }
    }

    /// How much its log holds. Opens it where nothing else tells.
    pub(super) fn size(&self) -> Result<Size> {
        match self.size_unopened()? {
            Some(size) => Ok(size),
            None => Ok(self.log()?.size()?),
        }
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

    /// The settings of the topic.
    pub fn settings(&self) -> Result<Arc<Settings>> {
        self.still_there()?;
        Ok(self.metadata.settings())
    }

    /// Reads batches from the one with `offset` on: one at least (none at the high watermark), more while they fit
    /// `bytes_max`.
    pub fn read(&self, offset: u64, bytes_max: usize, chunk: &mut Chunk) -> Result<()> {
        self.log()?.read(offset, bytes_max, chunk).map_err(|error| self.seen_by_reader(error))?;
        self.traffic.read(chunk.records(), chunk.bytes().len() as u64);
        Ok(())
    }

    /// DROP takes files away under those who read them.
    fn seen_by_reader(&self, error: log::Error) -> Error {
        if self.dropped.load(Acquire) { self.gone() } else { error.into() }
    }

    /// Wakes `waiter` for new records, a changed start and the end of the topic, until the answer is dropped.
    pub fn register(&self, waiter: &Arc<Waiter>) -> Registered<'_> {
        self.waiters.register(waiter)
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
mod tests;
#[cfg(test)]
mod transaction_compaction_tests;
#[cfg(test)]
mod transaction_crash_tests;
#[cfg(test)]
mod transaction_tests;

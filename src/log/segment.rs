//! A segment: one `.log` with the lines and one `.batches` with the entries, both named by the segment's base offset.
//!
//! ```text
//! 00000000000000000000.log       offset:0 message:a⏎ offset:1 message:b⏎ │ offset:2 message:c⏎ │ ...
//! 00000000000000000000.batches   entry: offsets 0-1, bytes 0-38          │ entry: offset 2     │ ...
//! ```
//!
//! Only the last segment of a log grows. `entries` and `bytes` count what was written whole; both are raised after the
//! write, so who reads up to them reads whole batches.

use super::{
    batches::{ENTRY_BYTES, Entry},
    disk::File,
    handles::{Handles, Slot},
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::*},
    },
    time::Instant,
};

/// How many entries are read at once at most: 32 KiB.
const ENTRIES_AT_ONCE: u32 = 512;

/// One segment of a log.
#[derive(Debug)]
pub struct Segment {
    /// Tells it from every other segment that this process opened.
    pub id: u64,
    /// Offset that its offsets count from.
    pub base: u64,
    dir: Arc<Path>,
    log: Arc<Slot>,
    batches: Arc<Slot>,
    entries: AtomicU32,
    bytes: AtomicU64,
    max_timestamp: AtomicI64,
    /// How many entries are known to be synced, and where their lines end.
    synced: AtomicU32,
    synced_bytes: AtomicU64,
    measured: AtomicBool,
    measuring: Mutex<()>,
}

/// Handles of both files of a segment.
#[derive(Debug)]
pub struct OpenFiles {
    log: Arc<dyn File>,
    batches: Arc<dyn File>,
}

/// The path of a file of the segment at `base`.
pub(super) fn path(dir: &Path, base: u64, extension: &str) -> PathBuf {
    dir.join(format!("{base:020}.{extension}"))
}

impl Segment {
    /// A segment whose files are there; they are measured at the first touch.
    pub fn at(dir: &Arc<Path>, base: u64) -> Segment {
        static IDS: AtomicU64 = AtomicU64::new(0);
        Segment {
            id: IDS.fetch_add(1, Relaxed),
            base,
            dir: dir.clone(),
            log: Arc::default(),
            batches: Arc::default(),
            entries: AtomicU32::new(0),
            bytes: AtomicU64::new(0),
            max_timestamp: AtomicI64::new(-1),
            synced: AtomicU32::new(0),
            synced_bytes: AtomicU64::new(0),
            measured: AtomicBool::new(false),
            measuring: Mutex::default(),
        }
    }

    /// Makes an empty segment: `.batches`, then `.log`, both synced. It is durable once the directory is synced too. After an error
    /// some of it may be there.
    pub fn create(handles: &Handles, dir: &Arc<Path>, base: u64) -> io::Result<Segment> {
        let segment = Segment::at(dir, base);
        handles.create(&segment.batches, &segment.path("batches"))?;
        handles.create(&segment.log, &segment.path("log"))?;
        segment.sync(handles, &segment.open(handles)?)?;
        segment.measured.store(true, Release);
        Ok(segment)
    }

    /// The path of one of its files.
    pub fn path(&self, extension: &str) -> PathBuf {
        path(&self.dir, self.base, extension)
    }

    /// The `.log`.
    pub fn log(&self, handles: &Handles) -> io::Result<Arc<dyn File>> {
        handles.get(&self.log, &self.path("log"))
    }

    /// The `.batches`.
    pub fn batches(&self, handles: &Handles) -> io::Result<Arc<dyn File>> {
        handles.get(&self.batches, &self.path("batches"))
    }

    /// Keeps both files open, under whatever names they stand, until [`unpin`](Self::unpin) was called as often.
    pub fn pin(&self, handles: &Handles) -> io::Result<()> {
        handles.pin(&self.log, &self.path("log"))?;
        handles.pin(&self.batches, &self.path("batches")).inspect_err(|_| handles.unpin(&self.log))
    }

    /// Lets the files be closed again.
    pub fn unpin(&self, handles: &Handles) {
        handles.unpin(&self.log);
        handles.unpin(&self.batches);
    }

    /// Entries in the file, measured once if nobody has yet.
    pub fn entries(&self, handles: &Handles) -> io::Result<u32> {
        self.measure(handles)?;
        Ok(self.entries.load(Acquire))
    }

    /// Bytes of lines in the file.
    pub fn bytes(&self, handles: &Handles) -> io::Result<u64> {
        self.measure(handles)?;
        Ok(self.bytes.load(Acquire))
    }

    /// The largest timestamp of its records, -1: none bears one.
    pub fn max_timestamp(&self, handles: &Handles) -> io::Result<i64> {
        self.measure(handles)?;
        Ok(self.max_timestamp.load(Acquire))
    }

    /// A time that a record of this segment has; its file's, if the record has none or one after `latest_ms`.
    pub fn credible_ms(&self, handles: &Handles, time: i64, latest_ms: i64) -> io::Result<i64> {
        if (0..=latest_ms).contains(&time) { Ok(time) } else { self.log(handles)?.modified_ms() }
    }

    fn measure(&self, handles: &Handles) -> io::Result<()> {
        if self.measured.load(Acquire) {
            return Ok(());
        }
        let _one = self.measuring.lock().expect("no panic while a segment is measured");
        if self.measured.load(Acquire) {
            return Ok(());
        }
        let bytes = self.log(handles)?.len()?;
        let entries = (self.batches(handles)?.len()? / ENTRY_BYTES as u64) as u32;
        let last = self.last_whole(handles, entries)?;
        self.grow(entries, bytes, last.map_or(-1, |(_, entry)| entry.max_timestamp));
        Ok(())
    }

    /// Says what the files hold now; the writer's word after each append, and recovery's.
    pub fn grow(&self, entries: u32, bytes: u64, max_timestamp: i64) {
        self.bytes.store(bytes, Release);
        self.max_timestamp.store(max_timestamp, Release);
        self.entries.store(entries, Release);
        self.measured.store(true, Release);
    }

    /// Says that the first `entries` entries and their lines, `bytes` in all, are durable.
    pub fn mark_synced(&self, entries: u32, bytes: u64) {
        self.synced.fetch_max(entries, AcqRel);
        self.synced_bytes.fetch_max(bytes, AcqRel);
    }

    /// How many entries are known to be durable.
    pub fn synced(&self) -> u32 {
        self.synced.load(Acquire)
    }

    /// Bytes of lines that are known to be durable.
    pub fn synced_bytes(&self) -> u64 {
        self.synced_bytes.load(Acquire)
    }

    /// Says that both files were written to: they stay open until they are synced.
    pub fn mark_written(&self) {
        self.log.mark_written();
        self.batches.mark_written();
    }

    /// Opens both files, to be synced.
    pub fn open(&self, handles: &Handles) -> io::Result<OpenFiles> {
        Ok(OpenFiles { log: self.log(handles)?, batches: self.batches(handles)? })
    }

    /// Syncs lines and entries.
    pub fn sync(&self, handles: &Handles, files: &OpenFiles) -> io::Result<()> {
        let begun = Instant::now();
        let synced = self.log.sync(&*files.log).and_then(|()| self.batches.sync(&*files.batches));
        handles.syncs.add(1, begun.elapsed());
        synced
    }

    /// The entry at `index` with its index; `None` if it is damaged.
    pub fn entry(&self, handles: &Handles, index: u32) -> io::Result<Option<(u32, Entry)>> {
        let mut bytes = [0; ENTRY_BYTES];
        let read = self.batches(handles)?.read_at(&mut bytes, u64::from(index) * ENTRY_BYTES as u64)?;
        Ok((read == ENTRY_BYTES).then(|| Entry::decode(&bytes)).flatten().map(|entry| (index, entry)))
    }

    /// The last of the first `entries` entries that is whole, with its index.
    pub fn last_whole(&self, handles: &Handles, entries: u32) -> io::Result<Option<(u32, Entry)>> {
        (0..entries).rev().find_map(|index| self.entry(handles, index).transpose()).transpose()
    }

    /// Reads entries from `index` on into `into` (damaged ones as `None`), at most `count`, and not beyond `end`.
    pub fn read_entries(
        &self,
        handles: &Handles,
        index: u32,
        count: u32,
        end: u32,
        into: &mut Vec<Option<Entry>>,
    ) -> io::Result<()> {
        into.clear();
        let count = count.min(ENTRIES_AT_ONCE).min(end.saturating_sub(index)) as usize;
        let mut bytes = [0; ENTRIES_AT_ONCE as usize * ENTRY_BYTES];
        let bytes = &mut bytes[..count * ENTRY_BYTES];
        let read = self.batches(handles)?.read_at(bytes, u64::from(index) * ENTRY_BYTES as u64)?;
        let (entries, _) = bytes[..read].as_chunks::<ENTRY_BYTES>();
        into.extend(entries.iter().map(Entry::decode));
        Ok(())
    }

    /// The first entry of `0..end` for which `wanted` holds, where it holds for all that follow one; `end` if for none.
    /// A damaged entry is passed over, to the next that is whole.
    pub fn search(&self, handles: &Handles, end: u32, wanted: impl Fn(&Entry) -> bool) -> io::Result<u32> {
        let (mut low, mut high) = (0, end);
        while low < high {
            let middle = low + (high - low) / 2;
            let whole = (middle..high).find_map(|index| self.entry(handles, index).transpose()).transpose()?;
            match whole {
                Some((index, entry)) if !wanted(&entry) => low = index + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Removes the files: `.log` first, so that a crash leaves no lines without their entries. One that is gone is no
    /// error: a crash can have come in between, and nobody syncs the order.
    pub fn remove(&self, handles: &Handles) -> io::Result<()> {
        let removed = ["log", "batches", "producers", "aborted"].map(|extension| self.remove_file(handles, extension));
        removed.into_iter().collect()
    }

    /// Removes one of the files; that it is gone is no error.
    pub fn remove_file(&self, handles: &Handles, extension: &str) -> io::Result<()> {
        match handles.disk().remove_file(&self.path(extension)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

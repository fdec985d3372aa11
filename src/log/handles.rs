//! Open files, of which there is a bounded number. A file is opened when it is read or written; when there are too many, the
//! one that was unused for longest is closed. Whoever holds a handle keeps it, so closing disturbs nobody.
//!
//! A file that was written to stays open until it is synced. The kernel may fail to write it in the meantime. It tells each
//! open handle of that once, and may forget it when no handle is left, so a sync through a later handle would prove nothing.
//! Only when more files are written to than may be open are such files closed too, and we trust that the kernel does not
//! forget so soon.

use super::disk::{Disk, File};
use crate::metrics::{Counter, Latency};
use std::{
    collections::VecDeque,
    io,
    path::Path,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering::*},
    },
};

/// The disk, and its open files.
#[derive(Debug)]
pub struct Handles {
    disk: Arc<dyn Disk>,
    open_max: usize,
    /// Syncs of segments, and how long they took.
    pub syncs: Latency,
    /// How often a batch was met that is not what its checksum says.
    pub damaged: Counter,
    /// Files in the order in which they are looked at for closing (second chance: one used since then goes to the back).
    open: Mutex<VecDeque<Weak<Slot>>>,
}

/// The place of one file's handle; empty while the file is closed.
#[derive(Debug, Default)]
pub(super) struct Slot {
    file: Mutex<Option<Arc<dyn File>>>,
    used: AtomicBool,
    /// Whether it was written to since the last sync.
    written: AtomicBool,
    /// As long as it is not 0 the handle stays open: its path is about to lead to another file, or to none.
    pins: AtomicU32,
}

/// How many open files are looked at to find one that may be closed.
const LOOKS: usize = 64;

impl Slot {
    /// Says that the file was written to, by a handle that is held still.
    pub(super) fn mark_written(&self) {
        self.written.store(true, Release);
    }

    /// Makes the bytes of the file durable, by this handle of it.
    pub(super) fn sync(&self, file: &dyn File) -> io::Result<()> {
        self.written.store(false, Release);
        file.sync()
    }

    /// Whether the word of a later handle would not count as much, or it is held anyway.
    fn is_needed(&self) -> bool {
        let file = self.file.lock().expect("no panic while a handle is closed");
        self.written.load(Acquire) || file.as_ref().is_some_and(|file| Arc::strong_count(file) > 1)
    }

    fn close(&self) {
        let mut file = self.file.lock().expect("no panic while a handle is closed");
        if self.pins.load(Acquire) == 0 {
            *file = None;
        }
    }
}

impl Handles {
    /// Files of `disk`, at most about `open_max` of them open.
    pub fn new(disk: Arc<dyn Disk>, open_max: usize) -> Handles {
        Handles {
            disk,
            open_max: open_max.max(16),
            syncs: Latency::default(),
            damaged: Counter::default(),
            open: Mutex::default(),
        }
    }

    /// The disk itself.
    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// The handle in `slot`, opened if it is not.
    pub(super) fn get(&self, slot: &Arc<Slot>, path: &Path) -> io::Result<Arc<dyn File>> {
        slot.used.store(true, Relaxed);
        let mut file = slot.file.lock().expect("no panic while a handle is opened");
        if let Some(file) = &*file {
            return Ok(file.clone());
        }
        let opened = self.disk.open(path)?;
        *file = Some(opened.clone());
        drop(file);
        self.remember(slot);
        Ok(opened)
    }

    /// Makes the file and keeps its handle in `slot`.
    pub(super) fn create(&self, slot: &Arc<Slot>, path: &Path) -> io::Result<()> {
        *slot.file.lock().expect("no panic while a handle is opened") = Some(self.disk.create(path)?);
        self.remember(slot);
        Ok(())
    }

    /// Opens the file if it is not, and keeps it open until [`unpin`](Self::unpin) was called as often.
    pub(super) fn pin(&self, slot: &Arc<Slot>, path: &Path) -> io::Result<()> {
        slot.pins.fetch_add(1, AcqRel);
        self.get(slot, path).map(drop).inspect_err(|_| self.unpin(slot))
    }

    /// Lets the handle be closed again.
    pub(super) fn unpin(&self, slot: &Arc<Slot>) {
        slot.pins.fetch_sub(1, AcqRel);
        self.remember(slot);
    }

    fn remember(&self, slot: &Arc<Slot>) {
        let mut open = self.open.lock().expect("no panic while handles are counted");
        open.push_back(Arc::downgrade(slot));
        for chance in [true, false] {
            let mut looks = LOOKS;
            while open.len() > self.open_max && looks > 0 {
                looks -= 1;
                let Some(slot) = open.pop_front().and_then(|slot| slot.upgrade()) else { continue };
                if slot.is_needed() || chance && slot.used.swap(false, Relaxed) {
                    open.push_back(Arc::downgrade(&slot));
                } else {
                    slot.close();
                }
            }
        }
        while open.len() > self.open_max {
            let Some(slot) = open.pop_front().and_then(|slot| slot.upgrade()) else { continue };
            slot.close();
        }
    }
}

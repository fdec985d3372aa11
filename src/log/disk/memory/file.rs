//! A file in memory.

use super::{
    super::File,
    NO_PANIC,
    chunks::{CHUNK, Chunks, pieces},
    machine::{Call, Machine, Turn},
    undo::Undo,
};
use std::{
    fmt, io,
    sync::{
        Arc, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// A file that would be longer is a mistake of the caller; it bounds the list of chunks.
const FILE_BYTES_MAX: u64 = 1 << 36;

pub(super) struct Inode {
    content: RwLock<Content>,
    machine: Option<Arc<Machine>>,
}

/// An open file.
pub(super) struct Handle {
    inode: Arc<Inode>,
    /// How many of the file's failed write-backs it was told of.
    told: AtomicU64,
}

#[derive(Default)]
pub(super) struct Content {
    pub(super) chunks: Chunks,
    pub(super) length: u64,
    pub(super) modified_ms: i64,
    /// How to go back to what is durable; kept by a disk that can crash.
    pub(super) undo: Option<Undo>,
    pub(super) writeback: Writeback,
}

/// What Linux knows of a file's write-backs.
#[derive(Default)]
pub(super) struct Writeback {
    /// How many have failed.
    failed: u64,
    /// How many of them were reported, or never will be.
    told: u64,
    handles: u64,
}

impl Inode {
    pub(super) fn new(content: Content, machine: Option<Arc<Machine>>) -> Self {
        Self { content: RwLock::new(content), machine }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Content> {
        self.content.read().expect(NO_PANIC)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Content> {
        self.content.write().expect(NO_PANIC)
    }

    pub(super) fn resize(&self, turn: &Turn, length: u64) {
        let before = self.read().length;
        self.write().resize(length, turn.now_ms());
        self.use_room(before, length);
    }

    /// The kernel writes the file's pages on its own, and fails.
    pub(super) fn fail_writeback(&self) {
        let mut content = self.write();
        if let Some(undo) = &mut content.undo {
            undo.fail_writeback();
        }
        content.writeback.failed += u64::from(content.writeback.handles > 0);
    }

    fn use_room(&self, before: u64, after: u64) {
        if let Some(machine) = &self.machine {
            machine.use_room(before, after);
        }
    }
}

impl fmt::Debug for Inode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.read().length)
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        let held = self.read().length;
        self.use_room(held, 0);
    }
}

impl Handle {
    pub(super) fn open(inode: Arc<Inode>) -> Handle {
        let mut content = inode.write();
        content.writeback.handles += 1;
        let told = AtomicU64::new(content.writeback.told);
        drop(content);
        Handle { inode, told }
    }

    /// Whether a write-back failed that this handle was not told of. It is now.
    fn is_told(&self, writeback: &mut Writeback) -> bool {
        writeback.told = writeback.failed;
        self.told.swap(writeback.failed, Relaxed) < writeback.failed
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let writeback = &mut self.inode.write().writeback;
        writeback.handles -= 1;
        if writeback.handles == 0 {
            writeback.told = writeback.failed;
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inode.fmt(f)
    }
}

impl File for Handle {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        Machine::check(&self.inode.machine)?;
        let end = self.inode.read().length.min(position.saturating_add(buffer.len() as u64));
        for piece in pieces(position..end, CHUNK) {
            let part = (piece.start - position) as usize..(piece.end - position) as usize;
            self.inode.read().chunks.read(&mut buffer[part], piece.start);
        }
        Ok(end.saturating_sub(position) as usize)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let turn = Turn::take(self.inode.machine.as_deref(), Call::Write)?;
        let wanted = position.saturating_add(turn.share(bytes.len()) as u64);
        check_length(wanted)?;
        let before = self.inode.read().length;
        let end = wanted.min(before.saturating_add(turn.room()));
        let now_ms = turn.now_ms();
        for piece in pieces(position..end, CHUNK) {
            let part = (piece.start - position) as usize..(piece.end - position) as usize;
            self.inode.write().write(&bytes[part], piece.start, now_ms);
        }
        if end > position {
            self.inode.use_room(before, before.max(end));
        }
        turn.end(())?;
        if end < wanted { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn len(&self) -> io::Result<u64> {
        Machine::check(&self.inode.machine)?;
        Ok(self.inode.read().length)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let turn = Turn::take(self.inode.machine.as_deref(), Call::Any)?;
        check_length(bytes)?;
        if bytes.saturating_sub(self.inode.read().length) > turn.room() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if turn.happens() {
            self.inode.resize(&turn, bytes);
        }
        turn.end(())
    }

    fn sync(&self) -> io::Result<()> {
        let turn = Turn::take(self.inode.machine.as_deref(), Call::Sync)?;
        if !turn.can_crash() {
            return Ok(());
        }
        let mut content = self.inode.write();
        content.sync(&turn);
        content.writeback.failed += u64::from(turn.fails());
        let told = self.is_told(&mut content.writeback);
        drop(content);
        turn.end(())?;
        if told { Err(io::Error::other("the disk failed before")) } else { Ok(()) }
    }

    fn modified_ms(&self) -> io::Result<i64> {
        Machine::check(&self.inode.machine)?;
        Ok(self.inode.read().modified_ms)
    }
}

fn check_length(bytes: u64) -> io::Result<()> {
    if bytes > FILE_BYTES_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
}

impl Content {
    /// What a new file holds.
    pub(super) fn empty(turn: &Turn) -> Self {
        Self { undo: turn.can_crash().then(|| Undo::none(0)), ..Self::default() }
    }

    fn write(&mut self, bytes: &[u8], position: u64, now_ms: i64) {
        let end = position + bytes.len() as u64;
        let length = self.length.max(end);
        if let Some(undo) = &mut self.undo {
            undo.remember(&self.chunks, position..end, length);
        }
        self.chunks.write(bytes, position);
        self.length = length;
        self.modified_ms = now_ms;
    }

    fn resize(&mut self, length: u64, now_ms: i64) {
        if let Some(undo) = &mut self.undo {
            undo.remember(&self.chunks, length..self.length, length);
        }
        self.chunks.cut(length);
        self.length = length;
        self.modified_ms = now_ms;
    }

    fn sync(&mut self, turn: &Turn) {
        if let Some(undo) = &mut self.undo {
            undo.sync(turn, self.length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::Disk, MemoryDisk, Survivors},
        *,
    };
    use proptest::prelude::*;
    use std::path::Path;

    fn byte(position: u64) -> u8 {
        (position % 251) as u8
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn file_holds_what_a_vector_would(steps in proptest::collection::vec((any::<bool>(), 0..300_000usize, 0..150_000usize), 1..12)) {
            let disk = MemoryDisk::crashable();
            let file = disk.create(Path::new("f")).unwrap();
            let mut model: Vec<u8> = Vec::new();
            for (step, (write, position, length)) in steps.into_iter().enumerate() {
                if write {
                    let bytes = vec![step as u8 + 1; length];
                    file.write_at(&bytes, position as u64).unwrap();
                    let end = model.len().max(if length > 0 { position + length } else { 0 });
                    model.resize(end, 0);
                    model[position.min(end)..][..length].copy_from_slice(&bytes);
                } else {
                    file.set_len(position as u64).unwrap();
                    model.resize(position, 0);
                }
                let mut read = vec![255; model.len() + 1];
                prop_assert_eq!(file.read_at(&mut read, 0).unwrap(), model.len());
                prop_assert!(read[..model.len()] == model);
                prop_assert_eq!(disk.used(), model.len() as u64);
            }
            let rebooted = disk.reboot(Survivors::Everything);
            prop_assert_eq!(disk.reboot(Survivors::Nothing).list(Path::new("")).unwrap(), []);
            let mut read = vec![255; model.len()];
            rebooted.open(Path::new("f")).unwrap().read_at(&mut read, 0).unwrap();
            prop_assert!(read == model);
        }
    }

    #[test]
    fn absurd_length_is_refused() {
        let file = MemoryDisk::default().create(Path::new("f")).unwrap();
        for at in [FILE_BYTES_MAX, u64::MAX] {
            assert_eq!(file.write_at(b"x", at).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        }
        assert_eq!(file.set_len(u64::MAX).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(file.len().unwrap(), 0);
    }

    #[test]
    fn reader_sees_whole_writes_below_the_published_end() {
        use std::sync::atomic::{AtomicU64, Ordering::*};
        let (file, end) = (MemoryDisk::default().create(Path::new("f")).unwrap(), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for start in (0..3_000_000).step_by(10_000) {
                    let bytes: Vec<u8> = (start..start + 10_000).map(byte).collect();
                    file.write_at(&bytes, start).unwrap();
                    end.store(start + 10_000, Release);
                }
            });
            let mut at = 0;
            while at < 3_000_000 {
                let mut buffer = vec![0; (end.load(Acquire) - at) as usize];
                assert_eq!(file.read_at(&mut buffer, at).unwrap(), buffer.len());
                assert!(buffer.iter().zip(at..).all(|(read, position)| *read == byte(position)));
                at += buffer.len() as u64;
            }
        });
    }
}

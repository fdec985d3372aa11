//! Room that is kept for a full disk: TRIM, DROP and retention free room, but have a small file to write first.
//!
//! ```text
//! data/~reserve-topic        64 KiB, or twice the largest `topic` file
//! data/~reserve-producers    the same for `.producers` files
//!
//! the disk is full:  ~reserve-topic ── written over, cut, synced ── renamed to ──▶ t/topic
//!                    a new ~reserve-topic from the room of the old t/topic and of what was cut off
//! ```
//!
//! A reserve holds real bytes, since a file of holes reserves nothing. To write over them takes no room on a file system that
//! writes in place, as ext4, XFS and tmpfs do. Where there is not enough room for a whole reserve it takes what there is,
//! and is filled up whenever it is asked.

use crate::log::disk::{self, Disk};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

/// The least that is reserved, and the step in which that grows.
const STEP: u64 = 64 << 10;

/// What a reserve holds, for whoever looks into it.
const FILLER: &[u8] = b"plainlog keeps this room for a full disk: with it TRIM, DROP and retention can free more.\n";

/// The room for one kind of file.
#[derive(Debug)]
pub(super) struct Reserve {
    /// `None`: it is for a log in memory, which no disk limits.
    path: Option<PathBuf>,
    room: Mutex<Room>,
}

#[derive(Debug)]
struct Room {
    wanted: u64,
    there: u64,
}

impl Reserve {
    /// A reserve in that file. It is there after [`fill`](Self::fill).
    pub(super) fn new(path: Option<PathBuf>) -> Reserve {
        Reserve { path, room: Mutex::new(Room { wanted: STEP, there: 0 }) }
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().expect("no panic while a reserve is written")
    }

    /// There is, or will be, a file of so many bytes that the reserve is for.
    pub(super) fn must_hold(&self, bytes: usize) {
        let mut room = self.room();
        room.wanted = room.wanted.max((2 * bytes as u64).next_multiple_of(STEP));
    }

    /// Makes the reserve whole, or as large as there is room.
    pub(super) fn fill(&self, disk: &dyn Disk) -> io::Result<()> {
        self.path.as_ref().map_or(Ok(()), |path| self.room().fill(disk, path))
    }

    /// Replaces a small file as [`disk::replace`] does, on a full disk with the room that was kept.
    pub(super) fn replace(&self, disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut done = disk::replace(disk, path, bytes);
        let Some(reserve) = &self.path else { return done };
        self.must_hold(bytes.len());
        let mut room = self.room();
        if let Err(full) = &done
            && disk::is_full(full)
            && room.there > 0
        {
            room.there = 0;
            let replaced = disk::replace_from(disk, reserve, path, bytes);
            // The first error may say that the file is in doubt.
            done = replaced.map_err(|error| io::Error::new(error.kind(), format!("{full}; {error}")));
        }
        // What cannot be kept now is for the next to try.
        let _ = room.fill(disk, reserve);
        done
    }
}

impl Room {
    fn fill(&mut self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        if self.there >= self.wanted {
            return Ok(());
        }
        let (file, is_new) = match disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (disk.create(path)?, true),
            file => (file?, false),
        };
        self.there = file.len()?;
        if self.there < self.wanted {
            let missing = (self.wanted - self.there) as usize;
            let filler = FILLER.repeat(missing.div_ceil(FILLER.len()));
            let filled = file.write_at(&filler[..missing], self.there);
            // A part of it may be there.
            self.there = file.len()?;
            file.sync()?;
            if is_new {
                disk.sync_dir(path.parent().expect("a reserve stands in the data directory"))?;
            }
            filled?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::disk::{Call, Fault, MemoryDisk, Survivors, read_small};

    const SURVIVORS: [Survivors; 4] =
        [Survivors::Nothing, Survivors::Everything, Survivors::Seed(1), Survivors::Seed(2)];

    fn reserve() -> Reserve {
        Reserve::new(Some("data/~reserve-topic".into()))
    }

    fn file() -> &'static Path {
        Path::new("data/t/topic")
    }

    /// A disk without a byte of room, but for what is reserved, and a file that says "old".
    fn full_disk() -> MemoryDisk {
        let disk = MemoryDisk::crashable();
        disk::make_dir(&disk, Path::new("data/t")).unwrap();
        disk::replace(&disk, file(), b"old").unwrap();
        reserve().fill(&disk).unwrap();
        disk.set_capacity(disk.used());
        disk
    }

    fn said(disk: &MemoryDisk) -> String {
        String::from_utf8(read_small(disk, file(), 1 << 20).unwrap()).unwrap()
    }

    fn reserved(disk: &MemoryDisk) -> u64 {
        disk.open(Path::new("data/~reserve-topic")).and_then(|file| file.len()).unwrap_or(0)
    }

    #[test]
    fn on_a_full_disk_a_file_is_replaced_again_and_again() {
        let disk = full_disk();
        assert!(disk::is_full(&disk::replace(&disk, file(), b"new").unwrap_err()));
        let reserve = reserve();
        reserve.fill(&disk).unwrap();
        for round in 0..10 {
            let text = format!("{round:0100}");
            reserve.replace(&disk, file(), text.as_bytes()).unwrap();
            assert_eq!(said(&disk), text);
        }
        // The file has grown by what the reserve lacks now.
        assert_eq!(reserved(&disk), STEP - 97);
        disk.set_capacity(u64::MAX);
        reserve.replace(&disk, file(), b"x").unwrap();
        assert_eq!(reserved(&disk), STEP);
        let disk = disk.reboot(Survivors::Nothing);
        assert_eq!((said(&disk).as_str(), reserved(&disk)), ("x", STEP));
    }

    #[test]
    fn a_reserve_is_twice_the_largest_file() {
        let disk = MemoryDisk::crashable();
        disk::make_dir(&disk, Path::new("data/t")).unwrap();
        let reserve = reserve();
        reserve.replace(&disk, file(), &[b'x'; 100_000]).unwrap();
        assert_eq!(reserved(&disk), 4 * STEP);
        disk.set_capacity(disk.used());
        reserve.replace(&disk, file(), &[b'y'; 200_000]).unwrap();
        assert_eq!(said(&disk), "y".repeat(200_000));
        assert_eq!(reserved(&disk), 4 * STEP - 100_000);
        let error = reserve.replace(&disk, file(), &[b'z'; 300_000]).unwrap_err();
        assert!(disk::is_full(&error), "{error}");
        assert_eq!(said(&disk), "y".repeat(200_000));
    }

    #[test]
    fn after_an_error_on_a_full_disk_the_file_is_as_it_was_and_can_be_replaced() {
        let run = |fault, nth| {
            let (disk, reserve) = (full_disk(), reserve());
            reserve.fill(&disk).unwrap();
            let calls = disk.calls();
            disk.fault(Call::Any, nth, fault);
            let done = reserve.replace(&disk, file(), b"new");
            (disk, reserve, calls, done)
        };
        for fault in [Fault::Error, Fault::Full] {
            for nth in 1.. {
                let (disk, reserve, calls, done) = run(fault, nth);
                if disk.calls() - calls < nth {
                    assert!(done.is_ok() && nth > 10, "{fault:?} {nth}: {done:?}");
                    break;
                }
                let wanted = if done.is_ok() { "new" } else { "old" };
                assert_eq!(said(&disk), wanted, "{fault:?} {nth}: {done:?}");
                disk.set_capacity(u64::MAX);
                reserve.replace(&disk, file(), b"newer").unwrap();
                assert_eq!((said(&disk).as_str(), reserved(&disk)), ("newer", STEP), "{fault:?} {nth}");
                let (disk, ..) = run(fault, nth);
                for survivors in SURVIVORS {
                    assert_eq!(said(&disk.reboot(survivors)), wanted, "{fault:?} {nth}, {survivors:?}");
                }
            }
        }
    }

    #[test]
    fn a_crash_on_a_full_disk_leaves_the_file_as_it_was_or_as_it_was_to_be() {
        let mut found = std::collections::BTreeSet::new();
        for crash in [Fault::CrashBefore, Fault::CrashMidway, Fault::CrashAfter] {
            for nth in 1.. {
                let disk = full_disk();
                let before = reserve();
                before.fill(&disk).unwrap();
                disk.fault(Call::Any, nth, crash);
                let done = before.replace(&disk, file(), b"new");
                if !disk.crashed() {
                    assert!(done.is_ok() && nth > 10, "{crash:?} {nth}");
                    break;
                }
                for survivors in SURVIVORS {
                    let disk = disk.reboot(survivors);
                    let context = format!("{crash:?} {nth} {survivors:?}");
                    assert!(said(&disk) == "new" || said(&disk) == "old" && done.is_err(), "{context}");
                    found.insert(said(&disk));
                    disk.set_capacity(u64::MAX);
                    let again = reserve();
                    again.fill(&disk).unwrap();
                    again.replace(&disk, file(), b"newer").unwrap();
                    assert_eq!((said(&disk).as_str(), reserved(&disk)), ("newer", STEP), "{context}");
                }
            }
        }
        assert_eq!(found.len(), 2);
    }
}

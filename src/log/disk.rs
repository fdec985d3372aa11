//! What the log needs of a disk: one small trait, and its three implementations.
//!
//! [`FileDisk`] is the machine's file system. [`MemoryDisk`] keeps everything in memory: it serves `--in-memory`, and in
//! tests it crashes as badly as a real disk may. [`DryRun`] reads one directory of a disk and changes nothing there.
//!
//! The rules that the log relies on, and that both keep:
//! - bytes written are durable once [`File::sync`] of that file has returned;
//! - a name made, renamed or removed is durable once [`Disk::sync_dir`] of its directory has returned;
//! - before that, any of it may survive a crash by itself and in any order.

mod dry_run;
mod files;
mod memory;

pub use dry_run::DryRun;
pub use files::FileDisk;
pub use memory::{Call, Fault, Held, MemoryDisk, Survivors};

use std::{any::Any, fmt::Debug, io, path::Path, sync::Arc};

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The name, without its directory. A name that is no UTF-8 is not listed: the broker makes none.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// A file system, as far as the log uses one. Paths start with the data directory.
pub trait Disk: Send + Sync + Debug {
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Makes a file; one that is there is emptied.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// The same of a file that nobody may read but the broker's own user, where the system can tell users apart.
    fn create_private(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.create(path)
    }
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<Name>>;
    /// Makes a directory; `AlreadyExists`: the name is there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file or directory within its directory, or a file into another directory; over a file that bears the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all in it.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Removes a directory in which nothing is.
    fn remove_empty_dir(&self, dir: &Path) -> io::Result<()>;
    /// Opens a directory. Whoever does so before a name changes there needs no descriptor afterwards to make that durable.
    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn OpenDir>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.open_dir(dir)?.sync()
    }
    /// How much room there is on the volume of a directory; `None`: nobody knows.
    #[cfg(feature = "kafka")]
    fn space(&self, _: &Path) -> Option<Space> {
        None
    }
    /// Takes the lock that a file stands for until the answer is dropped; `None`: another holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>>;
}

#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
/// An open file. Positions are bytes from its start; shared handles need no lock.
pub trait File: Send + Sync + Debug {
    /// Reads at `position` until `buffer` is full or the file ends; answers how many bytes were read.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `position`. After an error any part of them may be there.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Makes the bytes durable. After an error it is unknown which of them are.
    fn sync(&self) -> io::Result<()>;
    /// When the file was last written, in milliseconds since 1970-01-01 UTC.
    fn modified_ms(&self) -> io::Result<i64>;
}

/// The room on a volume, in bytes.
#[cfg(feature = "kafka")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// In all.
    pub total: u64,
    /// What the broker may still take.
    pub usable: u64,
}

/// An open directory.
pub trait OpenDir {
    /// Makes the names in it durable.
    fn sync(&self) -> io::Result<()>;
}

/// Whether an error says that there is no room: more can be written once there is.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Reads a whole small file; one above `limit` bytes is an error, and sizes nothing.
pub fn read_small(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let length = file.len()?;
    if length > limit {
        let why = format!("{}: {length} bytes, where at most {limit} are expected", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let mut bytes = vec![0; length as usize];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Makes a directory, durably, and those above it that are missing; one that is there is left as it is.
pub fn make_dir(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    let made = match disk.create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_dir(disk, parent)?;
            disk.create_dir(dir)
        }
        made => made,
    };
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // One that stayed would be taken for durable by the next who needs it.
        made => made.and_then(|()| disk.sync_dir(parent).inspect_err(|_| drop(disk.remove_empty_dir(dir)))),
    }
}

/// Replaces a small file so that a crash leaves either the old bytes or the new: temporary file, sync, rename, directory
/// sync. After an error the old ones count, now and after a restart; if that cannot be had either, the error says so.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_by(disk, path, Readers::All, || put_beside(disk, path, bytes, Readers::All))
}

/// The same of a file that nobody may read but the broker's own user.
pub fn replace_private(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_by(disk, path, Readers::Owner, || put_beside(disk, path, bytes, Readers::Owner))
}

/// Who may read a file.
#[derive(Clone, Copy)]
enum Readers {
    All,
    Owner,
}

impl Readers {
    /// Makes a file for them.
    fn create(self, disk: &dyn Disk, path: &Path) -> io::Result<Arc<dyn File>> {
        match self {
            Readers::All => disk.create(path),
            Readers::Owner => disk.create_private(path),
        }
    }
}

/// The same on a disk that has no room: `reserve`, a file of at least as many bytes, is written over and takes the file's
/// place. After an error it is no reserve any more, and may be gone.
pub fn replace_from(disk: &dyn Disk, reserve: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_by(disk, path, Readers::All, || {
        let file = disk.open(reserve)?;
        file.write_at(bytes, 0)?;
        // Here there is room again, by which the old bytes can be put back.
        file.set_len(bytes.len() as u64)?;
        file.sync()?;
        disk.rename(reserve, path)
    })
}

fn replace_by(disk: &dyn Disk, path: &Path, readers: Readers, put: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    // Opened first: once a name has changed only the disk itself can fail.
    let names = disk.open_dir(path.parent().expect("a small file stands in a directory"))?;
    let old = match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        // The handle reads the old bytes though another file bears their name.
        old => Some(old?),
    };
    put()?;
    let Err(error) = names.sync() else { return Ok(()) };
    let put_back = match old {
        Some(old) => read_whole(&*old).and_then(|old| put_beside(disk, path, &old, readers)),
        None => disk.remove_file(path),
    };
    let Err(again) = put_back.and_then(|()| names.sync()) else { return Err(error) };
    let why = format!("{error}; {again}; a restart may find the file as it was or as it was to be");
    Err(io::Error::new(error.kind(), why))
}

/// Gives a file these bytes, which are durable, under a name that is not yet. After an error it is as it was.
fn put_beside(disk: &dyn Disk, path: &Path, bytes: &[u8], readers: Readers) -> io::Result<()> {
    let temporary = path.with_extension("tmp~");
    let written = readers.create(disk, &temporary).and_then(|file| file.write_at(bytes, 0).and_then(|()| file.sync()));
    let put = written.and_then(|()| disk.rename(&temporary, path));
    // A full disk gets its room back. What cannot be removed is overwritten by the next.
    put.inspect_err(|_| drop(disk.remove_file(&temporary)))
}

fn read_whole(file: &dyn File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.len()? as usize];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAULTS: [Fault; 2] = [Fault::Error, Fault::Full];
    const SURVIVORS: [Survivors; 4] =
        [Survivors::Nothing, Survivors::Everything, Survivors::Seed(1), Survivors::Seed(2)];

    fn found(disk: &MemoryDisk) -> String {
        let text = |name: &Name| String::from_utf8(read_small(disk, Path::new(&name.name), 100).unwrap()).unwrap();
        let names = disk.list(Path::new("")).unwrap();
        names.iter().map(|name| format!("{}:{}", name.name, text(name))).collect::<Vec<_>>().join(" ")
    }

    fn disk_with(old: Option<&str>) -> (MemoryDisk, String) {
        let disk = MemoryDisk::crashable();
        if let Some(old) = old {
            replace(&disk, Path::new("f"), old.as_bytes()).unwrap();
        }
        let before = found(&disk);
        (disk, before)
    }

    /// A TRIM was refused, since the directory could not be synced. The new `topic` file stood there already, and the next
    /// start read it.
    #[test]
    fn a_file_that_was_not_replaced_has_its_old_bytes_now_and_after_a_restart() {
        for (old, fault) in [None, Some("old")].into_iter().flat_map(|old| FAULTS.map(|fault| (old, fault))) {
            for nth in 1.. {
                let (disk, before) = disk_with(old);
                disk.fault(Call::Any, nth, fault);
                if replace(&disk, Path::new("f"), b"new").is_ok() {
                    assert_eq!(nth, 6, "create, write, sync, rename, and the directory's sync");
                    break;
                }
                assert_eq!(found(&disk), before, "{fault:?} {nth}");
                for survivors in SURVIVORS {
                    let context = format!("{fault:?} {nth} {survivors:?}");
                    let found = found(&disk.reboot(survivors));
                    assert_eq!(found.split(" f.tmp~").next().unwrap(), before, "{context}");
                }
                let disk = disk.reboot(Survivors::Everything);
                replace(&disk, Path::new("f"), b"new").unwrap();
                assert_eq!(found(&disk.reboot(Survivors::Nothing)), "f:new", "{fault:?} {nth}");
            }
        }
    }

    /// The file stood there under its name, and there was no descriptor to make that durable, nor to put the old bytes back: a TRIM
    /// that was refused took effect at the next start.
    #[test]
    fn for_want_of_a_descriptor_no_file_is_left_in_doubt() {
        for (old, first) in [None, Some("old")].into_iter().flat_map(|old| (0..5).map(move |first| (old, first))) {
            let (disk, before) = disk_with(old);
            disk.refuse_descriptors(first..u64::MAX);
            let replaced = replace(&disk, Path::new("f"), b"new");
            disk.refuse_descriptors(0..0);
            assert_eq!(replaced.is_ok(), first >= 3, "the old file, the directory, the new file");
            let expected = if replaced.is_ok() { "f:new" } else { &before };
            assert_eq!(found(&disk), expected, "{first}");
            assert_eq!(found(&disk.reboot(Survivors::Nothing)), expected, "{first}");
        }
    }

    #[test]
    fn who_cannot_put_the_old_bytes_back_says_so() {
        for (old, last) in [(None, 7), (Some("old"), 10)] {
            for nth in 6..=last {
                let (disk, _) = disk_with(old);
                disk.fault(Call::Any, 5, Fault::Full);
                disk.fault(Call::Any, nth, Fault::Error);
                let error = replace(&disk, Path::new("f"), b"new").unwrap_err();
                assert!(is_full(&error), "{nth}");
                assert!(
                    error.to_string().contains("a restart may find the file as it was or as it was to be"),
                    "{error}"
                );
            }
        }
    }

    /// The folder could not be listed for want of a descriptor, which was taken for its absence. The one above could not be
    /// synced either, and so the folder was removed, with all the records in it.
    #[test]
    fn a_directory_that_is_there_stays_whatever_fails() {
        let (dir, file) = (Path::new("a/b"), Path::new("a/b/f"));
        for refused in 0..5 {
            for nth in 1..5 {
                let disk = MemoryDisk::crashable();
                make_dir(&disk, dir).unwrap();
                disk.create(file).unwrap();
                disk.refuse_descriptors(0..refused);
                disk.fault(Call::Any, nth, Fault::Error);
                let _ = make_dir(&disk, dir);
                disk.refuse_descriptors(0..0);
                assert!(disk.open(file).is_ok(), "{refused}, {nth}");
            }
        }
    }

    /// The sync of the directory above failed. The next who needed the directory found it there and did not sync again, so
    /// that a crash took all that was written in it.
    #[test]
    fn a_directory_that_could_not_be_made_durable_is_made_again() {
        for nth in 1..=5 {
            let (disk, dir) = (MemoryDisk::crashable(), Path::new("a/b"));
            disk.fault(Call::Any, nth, Fault::Error);
            make_dir(&disk, dir).unwrap_err();
            make_dir(&disk, dir).unwrap();
            assert!(disk.reboot(Survivors::Nothing).list(dir).is_ok(), "{nth}");
        }
    }
}

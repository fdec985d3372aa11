//! What the log needs of a disk: one small trait, and its two implementations.
//!
//! [`FileDisk`] is the machine's file system. [`MemoryDisk`] keeps everything in memory: it serves `--in-memory`, and in
//! tests it crashes as badly as a real disk may.
//!
//! The rules that the log relies on, and that both keep:
//! - bytes written are durable once [`File::sync`] of that file has returned;
//! - a name made, renamed or removed is durable once [`Disk::sync_dir`] of its directory has returned;
//! - before that, any of it may survive a crash by itself and in any order.

mod files;
mod memory;

pub use files::FileDisk;
pub use memory::{Call, Fault, MemoryDisk, Survivors};

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
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<Name>>;
    /// Makes a directory and those above it; one that is there is left as it is.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file or directory within its directory, over a file that bears the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all in it.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
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
    /// Makes the bytes durable. After an error nobody knows which are.
    fn sync(&self) -> io::Result<()>;
    /// When the file was last written, in milliseconds since 1970-01-01 UTC.
    fn modified_ms(&self) -> io::Result<i64>;
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
    let Some(parent) = dir.parent().filter(|_| disk.list(dir).is_err()) else { return Ok(()) };
    make_dir(disk, parent)?;
    disk.create_dir(dir)?;
    disk.sync_dir(parent)
}

/// Replaces a small file so that a crash leaves either the old bytes or the new: temporary file, sync, rename, directory
/// sync.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp~");
    let file = disk.create(&temporary)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(path.parent().expect("a small file stands in a directory"))
}

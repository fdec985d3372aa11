//! A disk in memory: for `--in-memory`, and for tests, where it loses power as badly as a real disk may ([`crash`]).
//!
//! ```text
//! MemoryDisk ─ Dir "data" ─ Dir "messages" ─ Dir "0" ─┬ "…0.batches" ─ Inode ─ chunks [64 bytes]
//!                                                     └ "…0.log" ───── Inode ─ chunks [64 KiB][64 KiB][none][100 bytes]
//!                                    an open handle ──────────────────────┘
//! ```
//!
//! - A name leads to an inode, and so does each open handle: a handle goes on working when its file is renamed or
//!   removed, and the memory is free when the last of them is gone.
//! - A file grows by chunks of 64 KiB, which are never copied. What a chunk, or the list of them, is too short for reads
//!   as zeros, so holes and small files cost nothing.
//! - Locks are held for one chunk or one directory at a time, a parent's before its child's.
//!
//! Left out: links, permissions, `..` in paths, renames of a directory into another one. The log needs none.

mod chunks;
mod crash;
mod dice;
mod file;
mod machine;
mod undo;

pub use dice::Survivors;
pub use machine::{Call, Fault, Held};

use super::{Disk, File, Name, OpenDir};
use crash::PendingNames;
use file::{Content, Handle, Inode};
use machine::{Machine, Turn};
use std::{
    any::Any,
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
    path::{Component, Path},
    sync::{Arc, Mutex, MutexGuard},
};

const NO_PANIC: &str = "nothing panics while it holds a lock of the disk";

/// A disk in memory. Clones are the same disk. [`MemoryDisk::default`] is fast and never fails;
/// [`MemoryDisk::crashable`] is for tests.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    root: Arc<Dir>,
    machine: Option<Arc<Machine>>,
}

#[derive(Debug, Default)]
struct Dir(Mutex<Names>);

#[derive(Debug, Default)]
struct Names {
    now: Entries,
    /// What has changed since the last sync; kept by a disk that can crash.
    pending: Option<PendingNames>,
}

type Entries = BTreeMap<OsString, Node>;

#[derive(Clone, Debug)]
enum Node {
    Dir(Arc<Dir>),
    File(Arc<Inode>),
}

impl MemoryDisk {
    fn turn(&self, call: Call) -> io::Result<Turn<'_>> {
        Turn::take(self.machine.as_deref(), call)
    }

    /// What each call does that needs a descriptor.
    fn take_descriptor(&self) -> io::Result<()> {
        self.machine.as_ref().map_or(Ok(()), |machine| machine.take_descriptor())
    }

    fn dir(&self, path: &Path) -> io::Result<Arc<Dir>> {
        names(path)?.into_iter().try_fold(self.root.clone(), |dir, name| dir.get(name)?.dir())
    }

    /// The directory in which a path's last name stands, and that name.
    fn place<'a>(&self, path: &'a Path) -> io::Result<(Arc<Dir>, &'a OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.dir(path.parent().unwrap_or(Path::new("")))?, name))
    }
}

/// What a test does with a disk made by [`MemoryDisk::crashable`].
impl MemoryDisk {
    /// Lets the kernel write the pages of a file on its own, and fail.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn fail_writeback(&self, path: &Path) {
        let inode = self.place(path).and_then(|(dir, name)| dir.get(name)?.file());
        inode.expect("the file of a test is there").fail_writeback();
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.take_descriptor()?;
        Machine::check(&self.machine)?;
        let (dir, name) = self.place(path)?;
        Ok(Arc::new(Handle::open(dir.get(name)?.file()?)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.take_descriptor()?;
        let turn = self.turn(Call::Any)?;
        let (dir, name) = self.place(path)?;
        let mut names = dir.names();
        let there = names.now.get(name).cloned().map(Node::file).transpose()?;
        let file = there.clone().unwrap_or_else(|| Arc::new(Inode::new(Content::empty(&turn), self.machine.clone())));
        if turn.happens() {
            file.resize(&turn, 0);
            if there.is_none() {
                names.change(&turn, None, Node::File(file.clone()), Some(name));
            }
        }
        drop(names);
        turn.end(())?;
        Ok(Arc::new(Handle::open(file)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Name>> {
        self.take_descriptor()?;
        Machine::check(&self.machine)?;
        let dir = self.dir(dir)?;
        let names = dir.names();
        let named = names.now.iter().filter_map(|(name, node)| Some((name.to_str()?, node)));
        Ok(named.map(|(name, node)| Name { name: name.into(), is_dir: matches!(node, Node::Dir(_)) }).collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let turn = self.turn(Call::Any)?;
        let made = self.place(dir).and_then(|(parent, name)| {
            let mut names = parent.names();
            if names.now.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if turn.happens() {
                names.change(&turn, None, Node::Dir(Arc::default()), Some(name));
            }
            Ok(())
        });
        turn.end(())?;
        made
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let turn = self.turn(Call::Any)?;
        let ((dir, from), (to_dir, to)) = (self.place(from)?, self.place(to)?);
        if !Arc::ptr_eq(&dir, &to_dir) {
            let node = Node::File(dir.get(from)?.file()?);
            if matches!(to_dir.names().now.get(to), Some(Node::Dir(_))) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            if turn.happens() {
                to_dir.names().change(&turn, None, node.clone(), Some(to));
                dir.names().change(&turn, Some(from), node, None);
            }
            return turn.end(());
        }
        let mut names = dir.names();
        let node = names.get(from)?;
        if !matches!((&node, names.now.get(to)), (_, None) | (Node::File(_), Some(Node::File(_)))) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if turn.happens() {
            names.change(&turn, Some(from), node, Some(to));
        }
        drop(names);
        turn.end(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let turn = self.turn(Call::Any)?;
        let (dir, name) = self.place(path)?;
        let mut names = dir.names();
        let file = names.get(name)?.file()?;
        if turn.happens() {
            names.change(&turn, Some(name), Node::File(file), None);
        }
        drop(names);
        turn.end(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.take_descriptor()?;
        let turn = self.turn(Call::Any)?;
        let (parent, name) = self.place(path)?;
        let dir = parent.get(name)?.dir()?;
        let mut doomed = Vec::new();
        dir.collect(&mut doomed);
        doomed.push((parent, name.to_owned(), Node::Dir(dir)));
        let removed = turn.share(doomed.len());
        for (dir, name, node) in doomed.into_iter().take(removed) {
            dir.names().change(&turn, Some(&name), node, None);
        }
        turn.end(())
    }

    fn remove_empty_dir(&self, path: &Path) -> io::Result<()> {
        let turn = self.turn(Call::Any)?;
        let (parent, name) = self.place(path)?;
        let mut names = parent.names();
        let dir = names.get(name)?.dir()?;
        if !dir.names().now.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        if turn.happens() {
            names.change(&turn, Some(name), Node::Dir(dir), None);
        }
        drop(names);
        turn.end(())
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn OpenDir>> {
        self.take_descriptor()?;
        Ok(Box::new(DirHandle { dir: self.dir(dir)?, machine: self.machine.clone() }))
    }

    /// Always succeeds: no other process can reach this disk.
    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        Machine::check(&self.machine)?;
        Ok(Some(Box::new(())))
    }
}

/// An open directory.
struct DirHandle {
    dir: Arc<Dir>,
    machine: Option<Arc<Machine>>,
}

impl OpenDir for DirHandle {
    fn sync(&self) -> io::Result<()> {
        let turn = Turn::take(self.machine.as_deref(), Call::Sync)?;
        let mut names = self.dir.names();
        names.pending = names.pending.take().and_then(|pending| pending.sync(&turn));
        drop(names);
        turn.end(())
    }
}

/// A path's names, from the root down.
fn names(path: &Path) -> io::Result<Vec<&OsStr>> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(Ok(name)),
        Component::ParentDir => Some(Err(io::ErrorKind::InvalidInput.into())),
        _ => None,
    });
    names.collect()
}

impl Node {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Node::Dir(this), Node::Dir(other)) => Arc::ptr_eq(this, other),
            (Node::File(this), Node::File(other)) => Arc::ptr_eq(this, other),
            _ => false,
        }
    }

    fn dir(self) -> io::Result<Arc<Dir>> {
        match self {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn file(self) -> io::Result<Arc<Inode>> {
        match self {
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
            Node::File(file) => Ok(file),
        }
    }
}

impl Dir {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.lock().expect(NO_PANIC)
    }

    fn get(&self, name: &OsStr) -> io::Result<Node> {
        self.names().get(name)
    }

    /// All that is below, each name after those below it.
    fn collect(self: &Arc<Self>, list: &mut Vec<(Arc<Dir>, OsString, Node)>) {
        for (name, node) in &self.names().now {
            if let Node::Dir(dir) = node {
                dir.collect(list);
            }
            list.push((self.clone(), name.clone(), node.clone()));
        }
    }
}

impl Names {
    fn get(&self, name: &OsStr) -> io::Result<Node> {
        self.now.get(name).cloned().ok_or(io::ErrorKind::NotFound.into())
    }

    /// Every change of names: a node comes from nowhere or a name, and goes to a name or nowhere.
    fn change(&mut self, turn: &Turn, from: Option<&OsStr>, node: Node, to: Option<&OsStr>) {
        if turn.can_crash() {
            self.pending.get_or_insert_with(|| PendingNames::since(&self.now)).push(&node, to);
        }
        if let Some(from) = from {
            self.now.remove(from);
        }
        if let Some(to) = to {
            self.now.insert(to.to_owned(), node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::disk::FileDisk;

    /// What a disk answers to much of what can be asked of it.
    fn answers(disk: &dyn Disk, root: &Path) -> Vec<String> {
        let mut answers = Vec::new();
        let mut note = |answer: io::Result<String>| answers.push(format!("{:?}", answer.map_err(|error| error.kind())));
        let at = |name: &str| root.join(name);
        let done = |answer: io::Result<()>| answer.map(|()| String::new());
        let listed = |name: &str| disk.list(&at(name)).map(|names| format!("{names:?}"));
        let held =
            |name: &str| disk.open(&at(name)).and_then(|file| Ok(format!("{} {:?}", file.len()?, bytes(&*file))));

        note(done(disk.create_dir(&at("a/b/c"))));
        ["a", "a/b", "a/b/c", "a/b"].into_iter().for_each(|dir| note(done(disk.create_dir(&at(dir)))));
        note(done(disk.remove_empty_dir(&at("a/b"))));
        note(done(disk.remove_empty_dir(&at("a/b/c"))));
        note(done(disk.remove_empty_dir(&at("a/b/c"))));
        note(disk.open(&at("a/f")).map(|_| String::new()));
        note(disk.create(&at("x/f")).map(|_| String::new()));
        let file = disk.create(&at("a/f")).unwrap();
        note(done(file.write_at(b"hello", 3)));
        note(held("a/f"));
        note(file.read_at(&mut [0; 9], 6).map(|read| read.to_string()));
        note(file.read_at(&mut [0; 9], 60).map(|read| read.to_string()));
        note(done(file.set_len(6)));
        note(done(file.set_len(10)));
        note(done(file.write_at(b"", 20)));
        note(held("a/f"));
        note(disk.open(&at("a/b")).map(|_| String::new()));
        note(disk.open(&at("a/f/g")).map(|_| String::new()));
        note(disk.create(&at("a/b")).map(|_| String::new()));
        note(done(disk.create_dir(&at("a/f"))));
        note(done(disk.remove_empty_dir(&at("a/f"))));
        note(listed("a"));
        note(listed("a/f"));
        note(listed("none"));
        note(done(disk.create_dir(&at("a/f/d")).map_err(|_| io::ErrorKind::NotADirectory.into())));
        disk.create(&at("a/g")).unwrap();
        note(done(disk.rename(&at("a/f"), &at("a/g"))));
        note(done(disk.rename(&at("a/f"), &at("a/h"))));
        note(done(disk.rename(&at("a/b"), &at("a/d"))));
        disk.create(&at("r")).unwrap().write_at(b"moved", 0).unwrap();
        note(done(disk.rename(&at("r"), &at("a/d"))));
        note(done(disk.rename(&at("r"), &at("a/d/r"))));
        note(held("a/d/r"));
        disk.create(&at("r")).unwrap().write_at(b"over", 0).unwrap();
        note(done(disk.rename(&at("r"), &at("a/d/r"))));
        note(held("a/d/r"));
        note(held("r"));
        note(done(disk.rename(&at("r"), &at("a/d/r"))));
        note(done(disk.rename(&at("a/d/r"), &at("none/r"))));
        note(listed("a"));
        note(held("a/g"));
        disk.create(&at("a/g")).unwrap();
        note(file.len().map(|length| length.to_string()));
        note(done(disk.remove_file(&at("a/none"))));
        note(done(disk.remove_file(&at("a/g"))));
        note(done(file.write_at(b"still", 0)));
        note(Ok(format!("{:?}", bytes(&*file))));
        note(done(file.sync().and(disk.sync_dir(&at("a")))));
        note(done(disk.sync_dir(&at("none"))));
        note(done(disk.remove_dir(&at("a"))));
        note(done(disk.remove_dir(&at("a"))));
        note(listed(""));
        answers
    }

    fn bytes(file: &dyn File) -> Vec<u8> {
        let mut bytes = vec![1; file.len().unwrap() as usize];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        bytes
    }

    #[test]
    fn memory_answers_like_files() {
        let root = std::env::temp_dir().join(format!("plainlog-disks-{}", std::process::id()));
        std::fs::create_dir(&root).unwrap();
        let files = answers(&FileDisk, &root);
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(answers(&MemoryDisk::default(), Path::new("")), files);
        assert_eq!(answers(&MemoryDisk::crashable(), Path::new("")), files);
    }

    #[test]
    fn removed_file_is_freed_with_its_last_handle() {
        let disk = MemoryDisk::default();
        let path = Path::new("f");
        let file = disk.create(path).unwrap();
        let memory = Arc::downgrade(&disk.root.get(path.as_os_str()).unwrap().file().unwrap());
        disk.remove_file(path).unwrap();
        file.write_at(b"held", 0).unwrap();
        assert_eq!(bytes(&*file), b"held");
        drop(file);
        assert!(memory.upgrade().is_none());
    }

    #[test]
    fn disk_is_freed_with_its_last_clone() {
        let disk = MemoryDisk::default();
        ["a", "a/b"].into_iter().for_each(|dir| disk.create_dir(Path::new(dir)).unwrap());
        let file = disk.create(Path::new("a/b/f")).unwrap();
        let memory = Arc::downgrade(&disk.root);
        drop((disk.clone(), disk));
        assert!(memory.upgrade().is_none());
        assert_eq!(file.len().unwrap(), 0);
    }

    #[test]
    fn what_the_log_never_does_is_refused() {
        let disk = MemoryDisk::default();
        disk.create_dir(Path::new("d")).unwrap();
        disk.create(Path::new("f")).unwrap();
        let rename = |to: &str| disk.rename(Path::new("f"), Path::new(to)).unwrap_err().kind();
        assert_eq!(rename("d"), io::ErrorKind::AlreadyExists);
        disk.create_dir(Path::new("e")).unwrap();
        assert_eq!(disk.rename(Path::new("d"), Path::new("e/d")).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(rename("../f"), io::ErrorKind::InvalidInput);
    }
}

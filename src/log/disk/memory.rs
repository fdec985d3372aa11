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
//! Left out: links, permissions, `..` in paths, renames from one directory to another. The log needs none.

mod crash;
mod file;
mod machine;

pub use crash::Survivors;
pub use machine::{Call, Fault};

use super::{Disk, File, Name};
use crash::PendingNames;
use file::{Content, Inode};
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

    fn dir(&self, path: &Path) -> io::Result<Arc<Dir>> {
        names(path)?.into_iter().try_fold(self.root.clone(), |dir, name| dir.get(name)?.dir())
    }

    /// The directory in which a path's last name stands, and that name.
    fn place<'a>(&self, path: &'a Path) -> io::Result<(Arc<Dir>, &'a OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.dir(path.parent().unwrap_or(Path::new("")))?, name))
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Machine::check(&self.machine)?;
        let (dir, name) = self.place(path)?;
        Ok(dir.get(name)?.file()?)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
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
        Ok(turn.end(file)?)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Name>> {
        Machine::check(&self.machine)?;
        let dir = self.dir(dir)?;
        let names = dir.names();
        let named = names.now.iter().filter_map(|(name, node)| Some((name.to_str()?, node)));
        Ok(named.map(|(name, node)| Name { name: name.into(), is_dir: matches!(node, Node::Dir(_)) }).collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let turn = self.turn(Call::Any)?;
        let names = names(dir)?;
        let made = turn.share(names.len());
        names.into_iter().take(made).try_fold(self.root.clone(), |dir, name| dir.sub_dir(&turn, name))?;
        turn.end(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let turn = self.turn(Call::Any)?;
        let ((dir, from), (to_dir, to)) = (self.place(from)?, self.place(to)?);
        if !Arc::ptr_eq(&dir, &to_dir) {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let node = dir.get(from)?;
        let mut names = dir.names();
        if !matches!((&node, names.now.get(to)), (_, None) | (Node::File(_), Some(Node::File(_)))) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if turn.happens() {
            names.change(&turn, Some(from), node, Some(to));
        }
        turn.end(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let turn = self.turn(Call::Any)?;
        let (dir, name) = self.place(path)?;
        let file = dir.get(name)?.file()?;
        if turn.happens() {
            dir.names().change(&turn, Some(name), Node::File(file), None);
        }
        turn.end(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
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

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let turn = self.turn(Call::Sync)?;
        let dir = self.dir(dir)?;
        let mut names = dir.names();
        names.pending = names.pending.take().and_then(|pending| pending.sync(&turn));
        turn.end(())
    }

    /// Never refuses: nobody else reaches this disk.
    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        Machine::check(&self.machine)?;
        Ok(Some(Box::new(())))
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
        self.names().now.get(name).cloned().ok_or(io::ErrorKind::NotFound.into())
    }

    fn sub_dir(&self, turn: &Turn, name: &OsStr) -> io::Result<Arc<Dir>> {
        let mut names = self.names();
        if let Some(node) = names.now.get(name) {
            return node.clone().dir();
        }
        let made = Arc::new(Dir::default());
        names.change(turn, None, Node::Dir(made.clone()), Some(name));
        Ok(made)
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

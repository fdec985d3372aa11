//! What stands in a file of the broker's own and is in memory, too: administrators change all of it at once, anybody may look.

use super::{
    Error, Result,
    small_file::{Line, Lines, OWN_BYTES_MAX, Text},
};
use crate::log::disk::Disk;
use std::{
    fmt::Debug,
    path::Path,
    sync::{Arc, Mutex, RwLock},
};

/// What such a file says.
pub(super) trait Content: Clone + Debug {
    /// The file's name.
    const FILE: &str;
    /// How large it may be.
    const BYTES_MAX: u64 = OWN_BYTES_MAX;

    /// Reads the file. An error names it at `path`, and the line that is wrong.
    fn parse(text: &Text, path: &Path) -> std::result::Result<Self, String>;

    /// What the file is to say.
    fn lines(&self) -> Lines;
}

/// What stands in lines of one kind.
pub(super) trait Kind {
    /// The word with which they begin.
    const NAME: &str;

    /// Takes a line, whose fields stand behind that word; `None`: it says nothing, or what another line said.
    fn add(&mut self, line: &Line<'_>) -> Option<()>;

    /// Appends all lines, each by [`Lines::push_kind`].
    fn write(&self, lines: &mut Lines);
}

/// What is kept.
#[derive(Debug)]
pub(super) struct Kept<T> {
    content: RwLock<Arc<T>>,
    /// Held while the file is replaced, which keeps nobody from looking.
    changing: Mutex<()>,
}

impl<T: Content> Kept<T> {
    /// Reads the file; one that is not there says nothing.
    pub(super) fn read(disk: &dyn Disk, data_dir: &Path) -> Result<Kept<T>> {
        let path = data_dir.join(T::FILE);
        let text = Text::of_broker(disk, &path, T::BYTES_MAX)?;
        T::parse(&text.unwrap_or_default(), &path).map(Kept::new).map_err(Error::Storage)
    }

    /// Keeps what stands in a file.
    pub(super) fn new(content: T) -> Kept<T> {
        Kept { content: RwLock::new(content.into()), changing: Mutex::default() }
    }

    /// What is in force.
    pub(super) fn get(&self) -> Arc<T> {
        self.content.read().expect("no panic under a lock of what is kept").clone()
    }

    /// Changes it, if it can be, once `write` has replaced the file. After an error all is as it was.
    pub(super) fn change<R>(
        &self,
        change: impl FnOnce(&mut T) -> Result<R>,
        write: impl FnOnce(&Lines) -> Result<()>,
    ) -> Result<R> {
        let _one = self.changing.lock().expect("no panic while a file is replaced");
        let mut next = T::clone(&self.get());
        let changed = change(&mut next)?;
        write(&next.lines())?;
        *self.content.write().expect("no panic under a lock of what is kept") = next.into();
        Ok(changed)
    }
}

//! A directory whose names change in memory only: what a start would do to them can be tried without writing anything.

use super::{Disk, File, Name, OpenDir};
use std::{
    any::Any,
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

/// One directory of another disk. Its files are read there; renames and removals are only remembered.
#[derive(Debug)]
pub struct DryRun {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Each name, and the file on the other disk that bears it.
    names: Mutex<BTreeMap<PathBuf, PathBuf>>,
}

impl DryRun {
    /// The directory as it is now.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> io::Result<DryRun> {
        let files = disk.list(dir)?.into_iter().filter(|name| !name.is_dir).map(|name| dir.join(name.name));
        let names = files.map(|file| (file.clone(), file)).collect();
        Ok(DryRun { disk, dir: dir.into(), names: Mutex::new(names) })
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<PathBuf, PathBuf>> {
        self.names.lock().expect("no panic under the names' lock")
    }
}

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "nothing is written in a dry run"))
}

impl Disk for DryRun {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.names().get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        self.disk.open(&file)
    }

    fn create(&self, _: &Path) -> io::Result<Arc<dyn File>> {
        unsupported()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Name>> {
        if dir != self.dir {
            return unsupported();
        }
        let file_name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        Ok(self.names().keys().filter_map(file_name).map(|name| Name { name, is_dir: false }).collect())
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        unsupported()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.names();
        let file = names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.insert(to.into(), file);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.names().remove(path).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        unsupported()
    }

    fn remove_empty_dir(&self, _: &Path) -> io::Result<()> {
        unsupported()
    }

    fn open_dir(&self, _: &Path) -> io::Result<Box<dyn OpenDir>> {
        unsupported()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        unsupported()
    }
}

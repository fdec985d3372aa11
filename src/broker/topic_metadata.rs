//! What the `topic` file of a topic says, in memory and on disk. A topic and its partitions share it: a partition reads its
//! settings here, and stores here where it starts.

use super::{
    Env, Error, Result,
    small_file::at,
    topic_file::{PARTITIONS_MAX, PartitionLines, TopicFile},
};
use crate::config::{Changes, Described, Overrides, Settings};
use std::{
    io,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, Mutex, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering::*},
    },
};

/// The metadata of one topic.
#[derive(Debug)]
pub(super) struct TopicMetadata {
    pub(super) name: String,
    env: Arc<Env>,
    state: RwLock<State>,
    /// Held while the file is replaced.
    replacing: Mutex<()>,
    /// Whether what the file says is known to be durable.
    is_durable: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// As it stands on disk.
    file: TopicFile,
    settings: Arc<Settings>,
}

impl TopicMetadata {
    /// The metadata of the topic that a file describes. Its bytes are, but its name need not be durable after an unclean stop.
    pub(super) fn new(env: &Arc<Env>, name: &str, file: TopicFile, is_durable: bool) -> Result<Arc<TopicMetadata>> {
        let settings = Arc::new(env.topic_defaults().with(&file.overrides).map_err(Error::InvalidConfig)?);
        env.topic_reserve.must_hold(file.bytes());
        let state = RwLock::new(State { file, settings });
        let (replacing, is_durable) = (Mutex::default(), AtomicBool::new(is_durable));
        Ok(Arc::new(TopicMetadata { name: name.into(), env: env.clone(), state, replacing, is_durable }))
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("no panic under the topic's lock")
    }

    /// The directory of the topic's files.
    pub(super) fn dir(&self) -> PathBuf {
        self.env.data_dir.join(&self.name)
    }

    /// The settings as they take effect.
    pub(super) fn settings(&self) -> Arc<Settings> {
        self.state().settings.clone()
    }

    /// The settings of its own, by name.
    pub(super) fn overrides(&self) -> Overrides {
        self.state().file.overrides.clone()
    }

    /// What the file says of a partition.
    pub(super) fn partition(&self, index: u32) -> PartitionLines {
        self.state().file.partitions[index as usize].clone()
    }

    /// The leader epoch of a partition.
    pub(super) fn leader_epoch(&self, index: u32) -> u32 {
        self.state().file.partitions[index as usize].epochs.current()
    }

    /// Makes durable what the file says, before anybody goes by it whom a crash must not tell otherwise. The broker before may have
    /// died, or failed, between the new file's name and the sync of it; that sync would prove nothing now, so the file is written
    /// again.
    pub(super) fn make_durable(&self) -> io::Result<()> {
        if self.is_durable.load(Acquire) {
            return Ok(());
        }
        let _one = self.replacing.lock().expect("no panic while a topic file is written");
        if self.is_durable.load(Acquire) {
            return Ok(());
        }
        let file = self.state().file.clone();
        self.write(&file)
    }

    /// Changes what the file says of a partition. After an error all is as it was.
    pub(super) fn change_partition(&self, index: u32, change: impl FnOnce(&mut PartitionLines)) -> io::Result<()> {
        let _one = self.replacing.lock().expect("no panic while a topic file is written");
        let mut file = self.state().file.clone();
        change(&mut file.partitions[index as usize]);
        self.write(&file)?;
        self.state.write().expect("no panic under the topic's lock").file = file;
        Ok(())
    }

    /// Changes settings and adds partitions, up to `partitions`. After an error all is as it was.
    pub(super) fn alter(&self, partitions: Option<u32>, changes: &Changes) -> Result<()> {
        let _one = self.replacing.lock().expect("no panic while a topic file is written");
        let mut file = self.state().file.clone();
        let known = file.partitions.len() as u32;
        let count = partitions.unwrap_or(known);
        if !(known..=PARTITIONS_MAX).contains(&count) {
            let why = format!("'{}' has {known} partitions; it can have from {known} to {PARTITIONS_MAX}", self.name);
            return Err(Error::InvalidPartitions(why));
        }
        let defaults = self.env.topic_defaults();
        file.overrides = changes.applied(&file.overrides, &*defaults).map_err(Error::InvalidConfig)?;
        let settings = Arc::new(defaults.with(&file.overrides).map_err(Error::InvalidConfig)?);
        file.partitions.resize(count as usize, PartitionLines::default());
        let folders = self.make_folders(known..count)?;
        if let Err(error) = self.write(&file) {
            self.remove_folders(&folders);
            return Err(Error::of_disk(&error));
        }
        *self.state.write().expect("no panic under the topic's lock") = State { file, settings };
        Ok(())
    }

    /// The broker's defaults are others now. The caller has seen that they go together with the settings of the topic's own, and
    /// that these stay meanwhile.
    pub(super) fn defaults_changed(&self) {
        let mut state = self.state.write().expect("no panic under the topic's lock");
        if let Ok(settings) = self.env.topic_defaults().with(&state.file.overrides) {
            state.settings = Arc::new(settings);
        }
    }

    fn write(&self, file: &TopicFile) -> io::Result<()> {
        let path = self.dir().join("topic");
        let written = file.write_with(&self.env.topic_reserve, self.env.handles.disk(), &path);
        match &written {
            Ok(()) => self.is_durable.store(true, Release),
            // The next start may find the one or the other.
            Err(_) => self.env.doubt(&self.name),
        }
        written.map_err(at(&path))
    }

    /// Makes the folders of new partitions, all or none. Answers those that were not there.
    fn make_folders(&self, indexes: Range<u32>) -> Result<Vec<PathBuf>> {
        let (disk, dir, mut made) = (self.env.handles.disk(), self.dir(), Vec::new());
        if indexes.is_empty() {
            return Ok(made);
        }
        let there = disk.list(&dir).map_err(|error| Error::of_disk(&at(&dir)(error)))?;
        for index in indexes.map(|index| index.to_string()) {
            if there.iter().any(|name| name.is_dir && name.name == index) {
                continue;
            }
            let path = dir.join(index);
            if let Err(error) = disk.create_dir(&path) {
                self.remove_folders(&made);
                return Err(Error::of_disk(&at(&path)(error)));
            }
            made.push(path);
        }
        Ok(made)
    }

    /// An empty folder that stays counts for nothing: the topic's file says which partitions there are.
    fn remove_folders(&self, made: &[PathBuf]) {
        made.iter().for_each(|path| drop(self.env.handles.disk().remove_empty_dir(path)));
    }
}

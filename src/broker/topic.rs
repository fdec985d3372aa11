//! A topic: its name, id, settings and partitions. The [`topic` file](super::topic_file) keeps them.

use super::{
    Env, Error, Result,
    partition::Partition,
    small_file::at,
    topic_file::{PartitionLines, TopicFile},
};
use crate::config::{Changes, Overrides, Settings};
use std::{
    io,
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, RwLock, Weak},
};

/// The most partitions that a topic may have.
pub const PARTITIONS_MAX: u32 = 10_000;

/// A topic.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id, a UUID.
    pub id: [u8; 16],
    env: Arc<Env>,
    this: Weak<Topic>,
    state: RwLock<TopicState>,
    /// Held while the file is replaced.
    file: Mutex<()>,
}

#[derive(Debug)]
struct TopicState {
    overrides: Overrides,
    settings: Arc<Settings>,
    partitions: Vec<Arc<Partition>>,
}

/// Whether a topic may bear this name (Kafka's rule); the sentence says why not.
pub fn check_name(name: &str) -> Result<()> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let known = !name.is_empty() && name.len() <= 249 && name != "." && name != ".." && name.bytes().all(legal);
    known.then_some(()).ok_or_else(|| {
        let shown = crate::log::record::shown(name.as_bytes());
        Error::InvalidTopic(format!(
            "'{shown}' is no topic name; it takes 1 to 249 of a-z A-Z 0-9 . _ - and is not . or .."
        ))
    })
}

/// Whether the name is one of the broker's own topics.
pub fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state" | "__cluster_metadata" | "__share_group_state")
}

impl Topic {
    /// The topic that a file describes.
    pub(super) fn new(env: &Arc<Env>, name: &str, file: TopicFile) -> Result<Arc<Topic>> {
        let settings = env.topic_defaults.with(&file.overrides).map_err(Error::InvalidConfig)?;
        Ok(Arc::new_cyclic(|this| {
            let partition = |(index, lines)| Arc::new(Partition::new(this, env, index, lines));
            let partitions = (0..).zip(file.partitions).map(partition).collect();
            Topic {
                name: name.into(),
                id: file.id,
                env: env.clone(),
                this: this.clone(),
                state: RwLock::new(TopicState { overrides: file.overrides, settings: Arc::new(settings), partitions }),
                file: Mutex::default(),
            }
        }))
    }

    fn state(&self) -> std::sync::RwLockReadGuard<'_, TopicState> {
        self.state.read().expect("no panic under the topic's lock")
    }

    /// The directory of its files.
    pub fn dir(&self) -> PathBuf {
        self.env.data_dir.join(&self.name)
    }

    /// The settings as they take effect.
    pub fn settings(&self) -> Arc<Settings> {
        self.state().settings.clone()
    }

    /// The settings of its own, by name.
    pub fn overrides(&self) -> Overrides {
        self.state().overrides.clone()
    }

    /// Its partitions in order.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.state().partitions.clone()
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> u32 {
        self.state().partitions.len() as u32
    }

    /// One partition.
    pub fn partition(&self, index: u32) -> Result<Arc<Partition>> {
        let state = self.state();
        let partition = state.partitions.get(index as usize).cloned();
        partition.ok_or_else(|| Error::UnknownPartition {
            topic: self.name.clone(),
            partition: index,
            partitions: state.partitions.len() as u32,
        })
    }

    /// What its file says. Who means to replace it holds the file's lock.
    fn file(&self) -> TopicFile {
        let state = self.state();
        let partitions = state.partitions.iter().map(|partition| partition.lines()).collect();
        TopicFile { id: self.id, overrides: state.overrides.clone(), partitions }
    }

    fn write(&self, file: &TopicFile) -> io::Result<()> {
        let path = self.dir().join("topic");
        file.write(self.env.handles.disk(), &path).map_err(at(&path))
    }

    /// Changes what the file says of a partition. After an error all is as it was.
    pub(super) fn change_partition(&self, index: u32, change: impl FnOnce(&mut PartitionLines)) -> io::Result<()> {
        let _one = self.file.lock().expect("no panic while a topic file is written");
        let mut file = self.file();
        change(&mut file.partitions[index as usize]);
        self.write(&file)?;
        self.state().partitions[index as usize].set_lines(file.partitions.swap_remove(index as usize));
        Ok(())
    }

    /// Changes settings and adds partitions. After an error all is as it was.
    pub(super) fn alter(&self, partitions: Option<u32>, changes: &Changes) -> Result<()> {
        let _one = self.file.lock().expect("no panic while a topic file is written");
        let mut file = self.file();
        let known = file.partitions.len() as u32;
        let count = partitions.unwrap_or(known);
        if !(known..=PARTITIONS_MAX).contains(&count) {
            let why = format!("'{}' has {known} partitions; it can have from {known} to {PARTITIONS_MAX}", self.name);
            return Err(Error::InvalidPartitions(why));
        }
        let defaults = &self.env.topic_defaults;
        file.overrides = changes.applied(&file.overrides, defaults).map_err(Error::InvalidConfig)?;
        let settings = Arc::new(defaults.with(&file.overrides).map_err(Error::InvalidConfig)?);
        file.partitions.resize(count as usize, PartitionLines::default());
        let mut partitions = self.partitions();
        partitions.extend(
            (known..count)
                .map(|index| Arc::new(Partition::new(&self.this, &self.env, index, PartitionLines::default()))),
        );
        let folders = self.make_folders(known..count)?;
        if let Err(error) = self.write(&file) {
            self.remove_folders(&folders);
            return Err(Error::of_disk(&error));
        }
        *self.state.write().expect("no panic under the topic's lock") =
            TopicState { overrides: file.overrides, settings, partitions };
        Ok(())
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
        made.iter().for_each(|path| drop(self.env.handles.disk().remove_dir(path)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{Broker, Clock},
        config::{Change, Config, SETTINGS},
        log::disk::MemoryDisk,
    };
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

        /// A line break in `cleanup.policy` once made the topic's file none: after the next start the topic could be found by no
        /// verb, nor made anew.
        #[test]
        fn whatever_settings_are_taken_the_topic_is_there_with_them_after_a_restart(
            wishes in proptest::collection::vec((0..SETTINGS.len(), "[\\x00-\\x20]?", "\\*|[0-9]:1|-?[0-9]{1,2}|0?\\.[0-9]|true|gzip|compact|LogAppendTime", "[\n\r :,\u{85}]?", any::<bool>()), 1..40),
        ) {
            let disk = Arc::new(MemoryDisk::default());
            let open = || Broker::open_on(disk.clone(), Config::in_memory(), Clock::System).unwrap();
            let broker = open();
            broker.create_topic("t", 1).unwrap();
            for (index, before, value, behind, append) in wishes {
                let change = if append { Change::Append } else { Change::Set };
                let change = change(format!("{before}{value}{behind}"));
                let named = BTreeMap::from([(SETTINGS[index].name.to_string(), change)]);
                let _ = broker.alter_topic("t", None, &Changes { named, reset_others: false });
            }
            let own = broker.topic("t").unwrap().overrides();
            let created = broker.create_topic_with("u", None, own.clone()).unwrap().overrides;
            prop_assert_eq!(&created, &own);
            drop(broker);
            let broker = open();
            for name in ["t", "u"] {
                prop_assert_eq!(&broker.topic(name).unwrap().overrides(), &own);
            }
        }
    }

    /// Two clients that each changed another setting were both told that it is done, and one change was lost.
    #[test]
    fn changes_at_once_are_all_made() {
        let broker = Broker::in_memory();
        broker.create_topic("t", 1).unwrap();
        for round in 0..50 {
            std::thread::scope(|scope| {
                for setting in ["retention.ms", "segment.ms", "flush.ms", "max.compaction.lag.ms"] {
                    let named = BTreeMap::from([(setting.to_string(), Change::Set(format!("{}", round + 1)))]);
                    let changes = Changes { named, reset_others: false };
                    let broker = broker.clone();
                    scope.spawn(move || broker.alter_topic("t", None, &changes).unwrap());
                }
            });
            let own = broker.topic("t").unwrap().overrides();
            assert!(own.len() == 4 && own.values().all(|value| *value == (round + 1).to_string()), "{own:?}");
        }
    }
}

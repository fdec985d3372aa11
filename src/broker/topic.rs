//! A topic: its name, id, settings and partitions, and the `topic` file that keeps them.
//!
//! ```text
//! id:bWVzc2FnZXMtdG9waWMtaQ
//! partitions:1
//! retention.ms:1000
//! partition:0 start:0 epoch:0
//! ```
//!
//! The file is replaced whole, so a crash leaves the old one or the new.

use super::{Env, Error, Result, partition::Partition, random};
use crate::{
    config::{Changes, Overrides, Settings, canonical},
    log::disk,
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, RwLock, Weak},
};

/// The most partitions that a topic may have.
pub const PARTITIONS_MAX: u32 = 10_000;
/// The largest `topic` file: every partition with its start offset and epoch, and all settings.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A topic.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id, a UUID.
    pub id: [u8; 16],
    env: Arc<Env>,
    this: Weak<Topic>,
    state: RwLock<State>,
    /// Held while the file is replaced.
    file: Mutex<()>,
}

#[derive(Debug)]
struct State {
    overrides: Overrides,
    settings: Arc<Settings>,
    partitions: Vec<Arc<Partition>>,
}

/// What a `topic` file says.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) id: [u8; 16],
    pub(super) overrides: Overrides,
    /// Start offset and leader epoch of each partition.
    pub(super) partitions: Vec<(u64, u32)>,
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

impl Stored {
    /// What a new topic's file says.
    pub(super) fn new(partitions: u32, overrides: Overrides) -> Stored {
        Stored { id: random::uuid(), overrides, partitions: vec![(0, 0); partitions as usize] }
    }

    /// Reads a file, if there is one. An error names what is wrong.
    pub(super) fn read(disk: &dyn disk::Disk, path: &Path) -> std::result::Result<Option<Stored>, String> {
        let why = |what: String| format!("{}: {what}", path.display());
        let bytes = match disk::read_small(disk, path, FILE_BYTES_MAX) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| why(error.to_string()))?,
        };
        let text = String::from_utf8(bytes).map_err(|_| why("no UTF-8".into()))?;
        let mut stored = Stored { id: [0; 16], overrides: Overrides::new(), partitions: Vec::new() };
        let mut count = None;
        for line in text.lines() {
            let bad = || why(format!("'{}' is no line of a topic file", crate::log::record::shown(line.as_bytes())));
            let (name, value) = line.split_once(':').ok_or_else(bad)?;
            match name {
                "id" => stored.id = random::parse(value).ok_or_else(bad)?,
                "partitions" => {
                    count =
                        Some(value.parse::<u32>().ok().filter(|n| (1..=PARTITIONS_MAX).contains(n)).ok_or_else(bad)?)
                }
                "partition" => {
                    let mut words = value.split(' ');
                    let index = words.next().and_then(|word| word.parse::<usize>().ok());
                    let start = words.next().and_then(|word| word.strip_prefix("start:")?.parse().ok());
                    let epoch = words.next().and_then(|word| word.strip_prefix("epoch:")?.parse().ok());
                    index.filter(|&index| index == stored.partitions.len()).ok_or_else(bad)?;
                    stored.partitions.push((start.ok_or_else(bad)?, epoch.ok_or_else(bad)?));
                }
                _ => drop(stored.overrides.insert(name.into(), value.into())),
            }
        }
        // Files of earlier versions have some values as clients wrote them.
        stored.overrides = canonical(&stored.overrides).map_err(why)?;
        if stored.id == [0; 16] || count != Some(stored.partitions.len() as u32) {
            return Err(why("id, partitions and a line for each partition must stand in it".into()));
        }
        Ok(Some(stored))
    }

    pub(super) fn write(&self, disk: &dyn disk::Disk, path: &Path) -> std::io::Result<()> {
        let mut text = format!("id:{}\npartitions:{}\n", random::shown(&self.id), self.partitions.len());
        for (name, value) in &self.overrides {
            text.push_str(&format!("{name}:{value}\n"));
        }
        for (index, (start, epoch)) in self.partitions.iter().enumerate() {
            text.push_str(&format!("partition:{index} start:{start} epoch:{epoch}\n"));
        }
        disk::replace(disk, path, text.as_bytes())
    }

    /// Makes a topic's directory with its file and one directory for each partition, durably, under a name of its own,
    /// and gives it the topic's name at the end.
    pub(super) fn build(&self, env: &Env, name: &str) -> std::io::Result<()> {
        let disk = env.handles.disk();
        let new = env.data_dir.join(format!("~new-{}", random::shown(&random::uuid())));
        let made = self.fill(disk, &new).and_then(|()| disk.rename(&new, &env.data_dir.join(name)));
        if let Err(error) = made {
            // A full disk gets its room back; what cannot be removed now goes at the next start.
            let _ = disk.remove_dir(&new);
            return Err(error);
        }
        disk.sync_dir(&env.data_dir)
    }

    fn fill(&self, disk: &dyn disk::Disk, new: &Path) -> std::io::Result<()> {
        disk.create_dir(new)?;
        for index in 0..self.partitions.len() {
            disk.create_dir(&new.join(index.to_string()))?;
        }
        self.write(disk, &new.join("topic"))
    }
}

impl Topic {
    /// The topic that a file describes.
    pub(super) fn new(env: &Arc<Env>, name: &str, stored: Stored) -> Result<Arc<Topic>> {
        let settings = env.topic_defaults.with(&stored.overrides).map_err(Error::InvalidConfig)?;
        Ok(Arc::new_cyclic(|this| {
            let partitions = stored.partitions.iter().enumerate();
            let partition = |(index, &(start, epoch)): (usize, &(u64, u32))| {
                Arc::new(Partition::new(this, env, index as u32, start, epoch))
            };
            let partitions = partitions.map(partition).collect();
            Topic {
                name: name.into(),
                id: stored.id,
                env: env.clone(),
                this: this.clone(),
                state: RwLock::new(State { overrides: stored.overrides, settings: Arc::new(settings), partitions }),
                file: Mutex::default(),
            }
        }))
    }

    fn state(&self) -> std::sync::RwLockReadGuard<'_, State> {
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

    /// Stores what the topic is now.
    pub(super) fn store(&self) -> Result<()> {
        let _one = self.file.lock().expect("no panic while a topic file is written");
        let state = self.state();
        let partitions = state.partitions.iter().map(|partition| (partition.stored_start(), partition.leader_epoch()));
        let stored = Stored { id: self.id, overrides: state.overrides.clone(), partitions: partitions.collect() };
        drop(state);
        self.write(&stored)
    }

    fn write(&self, stored: &Stored) -> Result<()> {
        let path = self.dir().join("topic");
        stored
            .write(self.env.handles.disk(), &path)
            .map_err(|error| Error::Storage(format!("{}: {error}", path.display())))
    }

    /// Changes settings and adds partitions. Nothing is changed unless all is right and stored.
    pub(super) fn alter(&self, partitions: Option<u32>, changes: &Changes) -> Result<()> {
        let _one = self.file.lock().expect("no panic while a topic file is written");
        let before = self.partition_count();
        let count = partitions.unwrap_or(before);
        if !(before..=PARTITIONS_MAX).contains(&count) {
            let why = format!("'{}' has {before} partitions; it can have from {before} to {PARTITIONS_MAX}", self.name);
            return Err(Error::InvalidPartitions(why));
        }
        let overrides = changes.applied(&self.overrides(), &self.env.topic_defaults).map_err(Error::InvalidConfig)?;
        let settings = self.env.topic_defaults.with(&overrides).map_err(Error::InvalidConfig)?;
        let mut all = self.partitions();
        for index in before..count {
            let partition = Arc::new(Partition::new(&self.this, &self.env, index, 0, 0));
            let dir = partition.dir(self);
            let made = self.env.handles.disk().create_dir(&dir);
            made.map_err(|error| Error::Storage(format!("{}: {error}", dir.display())))?;
            all.push(partition);
        }
        let stored = all.iter().map(|partition| (partition.stored_start(), partition.leader_epoch())).collect();
        self.write(&Stored { id: self.id, overrides: overrides.clone(), partitions: stored })?;
        *self.state.write().expect("no panic under the topic's lock") =
            State { overrides, settings: Arc::new(settings), partitions: all };
        Ok(())
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
            let created = broker.create_topic_with("u", None, own.clone()).unwrap().overrides();
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

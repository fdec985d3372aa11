//! A topic: its name, id, settings and partitions. What must outlast the broker is in its [`TopicMetadata`].

use super::{Env, Error, Result, partition::Partition, topic_file::TopicFile, topic_metadata::TopicMetadata};
use crate::config::{Changes, Overrides, Settings, is_topic_name};
use std::{
    path::PathBuf,
    sync::{Arc, RwLock},
};

/// A topic.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id, a UUID.
    pub id: [u8; 16],
    env: Arc<Env>,
    metadata: Arc<TopicMetadata>,
    partitions: RwLock<Vec<Arc<Partition>>>,
}

/// Whether a topic may bear this name (Kafka's rule); the sentence says why not.
pub fn check_name(name: &str) -> Result<()> {
    is_topic_name(name).then_some(()).ok_or_else(|| {
        let shown = crate::log::record::shown(name.as_bytes());
        Error::InvalidTopic(format!(
            "'{shown}' is not a topic name; a name is 1 to 249 of a-z A-Z 0-9 . _ - and neither . nor .."
        ))
    })
}

impl Topic {
    /// The topic that a file describes, which is known to be durable or not.
    pub(super) fn new(env: &Arc<Env>, name: &str, file: TopicFile, is_durable: bool) -> Result<Arc<Topic>> {
        let (id, count) = (file.id, file.partitions.len() as u32);
        let metadata = TopicMetadata::new(env, name, file, is_durable)?;
        let partitions = (0..count).map(|index| Arc::new(Partition::new(&metadata, env, index))).collect();
        Ok(Arc::new(Topic { name: name.into(), id, env: env.clone(), metadata, partitions: RwLock::new(partitions) }))
    }

    /// The directory of its files.
    pub fn dir(&self) -> PathBuf {
        self.metadata.dir()
    }

    /// The settings as they take effect.
    pub fn settings(&self) -> Arc<Settings> {
        self.metadata.settings()
    }

    /// The settings of its own, by name.
    pub fn overrides(&self) -> Overrides {
        self.metadata.overrides()
    }

    /// Its partitions in order.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().expect("no panic under the partitions' lock").clone()
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> u32 {
        self.partitions.read().expect("no panic under the partitions' lock").len() as u32
    }

    /// One partition.
    pub fn partition(&self, index: u32) -> Result<Arc<Partition>> {
        let partitions = self.partitions.read().expect("no panic under the partitions' lock");
        let partition = partitions.get(index as usize).cloned();
        partition.ok_or_else(|| Error::UnknownPartition {
            topic: self.name.clone(),
            partition: index,
            partitions: partitions.len() as u32,
        })
    }

    /// The broker's defaults are others now.
    pub(super) fn defaults_changed(&self) {
        self.metadata.defaults_changed();
        self.settings_changed();
    }

    /// Its partitions go by the settings as they are now.
    pub(super) fn settings_changed(&self) {
        for partition in self.partitions() {
            partition.settings_changed();
            partition.wake();
        }
    }

    /// Changes settings and adds partitions. After an error all is as it was. The caller sees to it that changes of one topic
    /// do not overlap.
    pub(super) fn alter(&self, partitions: Option<u32>, changes: &Changes) -> Result<()> {
        self.metadata.alter(partitions, changes)?;
        let known = self.partition_count();
        let added = known..partitions.unwrap_or(known);
        let added = added.map(|index| Arc::new(Partition::new(&self.metadata, &self.env, index)));
        self.partitions.write().expect("no panic under the partitions' lock").extend(added);
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

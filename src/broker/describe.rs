//! Descriptions of topics and partitions: plain values, a snapshot of the moment they were asked for.

#[cfg(feature = "http")]
use super::Partition;
use super::{Broker, EpochEnd, Error, Permit, Result, Topic, random};
#[cfg(feature = "http")]
use crate::metrics::TrafficSum;
use crate::{
    config::{Overrides, Settings},
    log::Size,
    security::Operation,
};
use std::{collections::BTreeMap, sync::Arc};

/// A topic.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id, a UUID; all 0: a cluster that is older than ids tells none (KIP-516).
    pub id: [u8; 16],
    /// The settings as they take effect.
    pub settings: Arc<Settings>,
    /// The settings of its own, by name.
    pub overrides: Overrides,
    /// The leader epoch of each partition, where it is told.
    pub leader_epochs: Vec<Option<u32>>,
}

/// A partition, as its log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Offset of the first record.
    pub start: u64,
    /// Offset behind the last record that readers see.
    pub high_watermark: u64,
    /// Offset behind the last record that is shown to readers of committed records.
    pub last_stable_offset: u64,
    /// Bytes of its lines on disk, where that is told.
    pub bytes: Option<u64>,
    /// How many segments it has, where that is told.
    pub segments: Option<usize>,
    /// Where its copies are; `None`: there is this one alone.
    pub copies: Option<Copies>,
}

/// Where the copies of a partition are, by the ids of nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// The node that leads it; `None`: none does now.
    pub leader: Option<i32>,
    /// Those that have a copy.
    pub replicas: Vec<i32>,
    /// Those of them whose copy is in sync.
    pub in_sync: Vec<i32>,
}

/// The nodes of a cluster, and what is missing of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    /// Those that are there.
    pub there: Vec<Node>,
    /// The ids of those that are not, and how many partitions they have copies of.
    pub missing: BTreeMap<i32, u64>,
    /// The partitions that none of them leads.
    pub leaderless: Vec<(String, u32)>,
    /// The names of the topics that they have.
    pub topics: Vec<String>,
}

/// A node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: i32,
    /// Where it is reached.
    pub host: String,
    /// Its port there.
    pub port: u16,
}

/// How much the partitions of a topic hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicSize {
    /// Offsets from the starts to the high watermarks.
    pub records: u64,
    /// Offsets up to the high watermarks: what was written, whatever is left of it.
    pub written: u64,
    /// Bytes of lines on disk, where that is told.
    pub bytes: Option<u64>,
}

impl TopicSize {
    /// A partition more.
    pub(crate) fn add(&mut self, start: u64, end: u64) {
        self.records += end.saturating_sub(start);
        self.written += end;
    }
}

/// A topic, as whoever watches the broker sees it.
#[cfg(feature = "http")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedTopic {
    /// Its name.
    pub name: String,
    /// What went through it since the start.
    pub traffic: TrafficSum,
    /// Its partitions in order; `None`: it is offline, or only opening it tells.
    pub partitions: Vec<Option<ObservedPartition>>,
}

/// A partition, as whoever watches the broker sees it.
#[cfg(feature = "http")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedPartition {
    /// Offset of the first record.
    pub start: u64,
    /// Offset behind the last record that readers see.
    pub end: u64,
    /// Bytes of its lines on disk, where that is told.
    pub bytes: Option<u64>,
    /// How many segments it has, where that is told.
    pub segments: Option<usize>,
}

/// Why a topic or a partition cannot be used as it should.
#[cfg(feature = "http")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The topic; `None`: it concerns all of them.
    pub topic: Option<String>,
    /// The partition; `None`: the whole topic is offline.
    pub partition: Option<u32>,
    /// What is wrong with it.
    pub why: String,
}

impl TopicDescription {
    /// Its id as Kafka prints one, if it has one.
    pub fn shown_id(&self) -> Option<String> {
        (self.id != [0; 16]).then(|| random::shown(&self.id))
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> u32 {
        self.leader_epochs.len() as u32
    }

    /// An error if it has no such partition.
    pub fn check_partition(&self, partition: u32) -> Result<()> {
        let partitions = self.partition_count();
        if partition < partitions {
            return Ok(());
        }
        Err(Error::UnknownPartition { topic: self.name.clone(), partition, partitions })
    }
}

impl Topic {
    /// The topic as it is now.
    pub fn describe(&self) -> TopicDescription {
        TopicDescription {
            name: self.name.clone(),
            id: self.id,
            settings: self.settings(),
            overrides: self.overrides(),
            leader_epochs: self.partitions().iter().map(|partition| Some(partition.leader_epoch())).collect(),
        }
    }
}

#[cfg(feature = "http")]
fn observed_partition(partition: &Arc<Partition>) -> Option<ObservedPartition> {
    let Size { start, high_watermark: end, bytes, segments, .. } = partition.size_unopened().ok().flatten()?;
    Some(ObservedPartition { start, end, bytes: Some(bytes), segments: Some(segments) })
}

impl Broker {
    /// All topics by name, the broker's own among them; one that is offline with its error.
    pub fn describe_topics(&self) -> BTreeMap<String, Result<TopicDescription>> {
        let permit = Permit::for_everybody();
        let all = self.state(&permit).topics.read().expect("no panic under the topics' lock").all();
        let seen = all.into_iter().filter(|(name, _)| self.may_describe(name));
        seen.map(|(name, topic)| (name, topic.map(|topic| topic.describe()))).collect()
    }

    /// What is offline, or can only be read, as far as it was touched. Opens no log.
    #[cfg(feature = "http")]
    pub fn faults(&self) -> Vec<Fault> {
        let permit = Permit::for_everybody();
        let all = self.state(&permit).topics.read().expect("no panic under the topics' lock").all();
        let seen = all.into_iter().filter(|(name, _)| self.may_describe(name));
        let faults = seen.flat_map(|(name, topic)| match topic {
            Ok(topic) => {
                let fault = |partition: Arc<Partition>| {
                    Some(Fault { topic: Some(name.clone()), partition: Some(partition.index), why: partition.fault()? })
                };
                topic.partitions().into_iter().filter_map(fault).collect()
            }
            Err(error) => vec![Fault { topic: Some(name), partition: None, why: error.to_string() }],
        });
        faults.collect()
    }

    /// Whether all that is here can be used.
    #[cfg(feature = "http")]
    pub fn is_ready(&self) -> bool {
        self.faults().is_empty()
    }

    /// All topics that are not offline, by name, and how much they hold. Opens no log, and waits for nobody who writes.
    #[cfg(feature = "http")]
    pub fn observe_topics(&self) -> Vec<ObservedTopic> {
        let observed = |topic: Arc<Topic>| {
            let partitions = topic.partitions();
            ObservedTopic {
                name: topic.name.clone(),
                traffic: partitions.iter().map(|partition| partition.traffic.get()).sum(),
                partitions: partitions.iter().map(observed_partition).collect(),
            }
        };
        self.topics_for(Operation::Describe).into_iter().map(observed).collect()
    }

    /// A topic by name.
    pub fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        Ok(self.topic_for(Operation::Describe, name)?.describe())
    }

    /// A topic by name, for whoever may do this to it.
    #[cfg(feature = "kafka")]
    pub fn describe_topic_to(&self, operation: Operation, name: &str) -> Result<TopicDescription> {
        Ok(self.topic_for(operation, name)?.describe())
    }

    /// A topic by name, made with the defaults if it is not there and first use makes topics here.
    pub fn describe_topic_or_create(&self, name: &str) -> Result<TopicDescription> {
        Ok(self.topic_or_create(Operation::Describe, name)?.describe())
    }

    /// A topic by its id.
    pub fn describe_topic_by_id(&self, id: &[u8; 16]) -> Option<TopicDescription> {
        Some(self.topic_by_id_for(Operation::Describe, id)?.describe())
    }

    /// The leader epoch of a partition: raised whenever records that were shown were cut off, or a crash may have taken some.
    pub fn leader_epoch(&self, topic: &str, partition: u32) -> Result<u32> {
        Ok(self.topic_for(Operation::Describe, topic)?.partition(partition)?.leader_epoch())
    }

    /// Where the newest leader epoch of a partition ended that is not above `epoch` (KIP-320); `None`: there was none so high
    /// yet.
    pub fn end_of_epoch(&self, topic: &str, partition: u32, epoch: u32) -> Result<Option<EpochEnd>> {
        self.topic_for(Operation::Describe, topic)?.partition(partition)?.end_of_epoch(epoch)
    }

    /// A partition. Its log is opened if its files do not tell enough.
    pub fn describe_partition(&self, topic: &str, partition: u32) -> Result<PartitionDescription> {
        let partition = self.topic_for(Operation::Describe, topic)?.partition(partition)?;
        let mut size = partition.size()?;
        if size.last_stable_offset.is_none() {
            size = partition.log()?.size()?;
        }
        let Size { start, high_watermark, last_stable_offset, bytes, segments } = size;
        let last_stable_offset = last_stable_offset.unwrap_or(high_watermark);
        let (bytes, segments) = (Some(bytes), Some(segments));
        Ok(PartitionDescription { start, high_watermark, last_stable_offset, bytes, segments, copies: None })
    }

    /// All partitions of a topic, in order.
    pub fn describe_partitions(&self, topic: &str) -> Result<Vec<PartitionDescription>> {
        let count = self.topic_for(Operation::Describe, topic)?.partition_count();
        (0..count).map(|index| self.describe_partition(topic, index)).collect()
    }

    /// How much the partitions of a topic hold together. Opens the logs whose files do not tell it.
    pub fn topic_size(&self, name: &str) -> Result<TopicSize> {
        let (mut sum, mut bytes) = (TopicSize::default(), 0);
        for partition in self.topic_for(Operation::Describe, name)?.partitions() {
            let size = partition.size()?;
            sum.add(size.start, size.high_watermark);
            bytes += size.bytes;
        }
        Ok(TopicSize { bytes: Some(bytes), ..sum })
    }

    /// The same of many topics, in their order. A topic whose disk fails is no reason to hide the others.
    pub fn topic_sizes(&self, names: &[&str]) -> Vec<Result<TopicSize>> {
        names.iter().map(|name| self.topic_size(name)).collect()
    }

    /// The nodes of the cluster; `None`: it is this broker alone.
    pub fn nodes(&self) -> Option<Nodes> {
        None
    }

    /// How many topics there are that the caller may see, the broker's own and those that are offline among them.
    pub fn topic_count(&self) -> usize {
        let permit = Permit::for_everybody();
        let all = self.state(&permit).topics.read().expect("no panic under the topics' lock").all();
        all.keys().filter(|name| self.may_describe(name)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{Clock, Terms},
        config::Config,
        log::{disk::MemoryDisk, record::Records},
    };
    use std::borrow::Cow;

    /// TOPICS made a log for each partition that nobody had touched, and so did a clean stop: for 300,000 partitions that took longer
    /// than anybody waits.
    #[test]
    fn what_nobody_has_touched_is_described_and_left_without_a_log_being_made() {
        let disk = Arc::new(MemoryDisk::crashable());
        let open = || Broker::open_on(disk.clone(), Config::new("data"), Clock::System).unwrap();
        let broker = open();
        broker.create_topic("t", 3).unwrap();
        let mut records = Records::default();
        records.push(None, None, Some(Cow::Borrowed(b"hello")));
        broker.topic("t").unwrap().partition(1).unwrap().write(&records, Terms::default()).unwrap();
        let (start, high_watermark, last_stable_offset, bytes, segments) = (0, 0, 0, Some(0), Some(0));
        let empty = PartitionDescription { start, high_watermark, last_stable_offset, bytes, segments, copies: None };
        let calls = disk.calls();
        for index in [0, 2] {
            assert_eq!(broker.describe_partition("t", index).unwrap(), empty);
        }
        assert_eq!(disk.calls(), calls, "nothing was made or synced");
        assert_eq!(broker.describe_partition("t", 1).unwrap().segments, Some(1));
        drop(broker);
        let broker = open();
        let of_one = |broker: &Broker| broker.describe_partition("t", 1).unwrap();
        assert_eq!((of_one(&broker).high_watermark, of_one(&broker).segments), (1, Some(1)));
        for index in 0..3 {
            broker.describe_partition("t", index).unwrap();
            assert!(!broker.topic("t").unwrap().partition(index).unwrap().is_open(), "{index}");
        }
        let calls = disk.calls();
        assert_eq!(broker.topic_size("t").unwrap(), TopicSize { records: 1, written: 1, bytes: of_one(&broker).bytes });
        assert_eq!(disk.calls(), calls, "what files told is told again");
        let again = broker.topic("t").unwrap().partition(1).unwrap();
        assert_eq!(again.write(&records, Terms::default()).unwrap().offsets, 1..2);
        again.sync_to(2).unwrap();
        assert_eq!(of_one(&broker).high_watermark, 2, "and not when the log is open");
        let touched = broker.topic("t").unwrap().partition(2).unwrap();
        assert_eq!(touched.write(&records, Terms::default()).unwrap().offsets, 0..1);
        assert_eq!(broker.describe_partition("t", 2).unwrap().segments, Some(1));
    }
}

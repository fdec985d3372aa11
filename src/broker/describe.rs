//! Descriptions of topics and partitions: plain values, a snapshot of the moment they were asked for.

#[cfg(feature = "http")]
use super::Partition;
use super::{Broker, EpochEnd, Error, Result, Topic};
#[cfg(feature = "http")]
use crate::metrics::TrafficSum;
use crate::{
    config::{Overrides, Settings},
    log::Size,
};
use std::{collections::BTreeMap, sync::Arc};

/// A topic.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id, a UUID.
    pub id: [u8; 16],
    /// The settings as they take effect.
    pub settings: Arc<Settings>,
    /// The settings of its own, by name.
    pub overrides: Overrides,
    /// The leader epoch of each partition.
    pub leader_epochs: Vec<u32>,
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
    /// Bytes of its lines on disk.
    pub bytes: u64,
    /// How many segments it has.
    pub segments: usize,
}

/// How much the partitions of a topic hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicSize {
    /// Offsets from the starts to the high watermarks.
    pub records: u64,
    /// Offsets up to the high watermarks: what was written, whatever is left of it.
    pub written: u64,
    /// Bytes of lines on disk.
    pub bytes: u64,
    /// Segments.
    pub segments: usize,
}

impl TopicSize {
    fn add(&mut self, size: Size) {
        self.records += size.high_watermark.saturating_sub(size.start);
        self.written += size.high_watermark;
        self.bytes += size.bytes;
        self.segments += size.segments;
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
    pub partitions: Vec<Option<Size>>,
}

/// Why a topic or a partition cannot be used as it should.
#[cfg(feature = "http")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The topic.
    pub topic: String,
    /// The partition; `None`: the whole topic is offline.
    pub partition: Option<u32>,
    /// What is wrong with it.
    pub why: String,
}

impl TopicDescription {
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
            leader_epochs: self.partitions().iter().map(|partition| partition.leader_epoch()).collect(),
        }
    }
}

impl Broker {
    /// All topics by name, the broker's own among them; one that is offline with its error.
    pub fn describe_topics(&self) -> BTreeMap<String, Result<TopicDescription>> {
        let all = self.running.state.topics.read().expect("no panic under the topics' lock").all();
        all.into_iter().map(|(name, topic)| (name, topic.map(|topic| topic.describe()))).collect()
    }

    /// What is offline, or can only be read, as far as it was touched. Opens no log.
    #[cfg(feature = "http")]
    pub fn faults(&self) -> Vec<Fault> {
        let all = self.running.state.topics.read().expect("no panic under the topics' lock").all();
        let faults = all.into_iter().flat_map(|(name, topic)| match topic {
            Ok(topic) => {
                let fault = |partition: Arc<Partition>| {
                    Some(Fault { topic: name.clone(), partition: Some(partition.index), why: partition.fault()? })
                };
                topic.partitions().into_iter().filter_map(fault).collect()
            }
            Err(error) => vec![Fault { topic: name, partition: None, why: error.to_string() }],
        });
        faults.collect()
    }

    /// All topics that are not offline, by name, and how much they hold. Opens no log, and waits for nobody who writes.
    #[cfg(feature = "http")]
    pub fn observe_topics(&self) -> Vec<ObservedTopic> {
        let observed = |topic: Arc<Topic>| {
            let partitions = topic.partitions();
            ObservedTopic {
                name: topic.name.clone(),
                traffic: partitions.iter().map(|partition| partition.traffic.get()).sum(),
                partitions: partitions.iter().map(|partition| partition.size_unopened().ok().flatten()).collect(),
            }
        };
        self.topics().into_iter().map(observed).collect()
    }

    /// A topic by name.
    pub fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        Ok(self.topic(name)?.describe())
    }

    /// A topic by name, made with the defaults if it is not there and first use makes topics here.
    pub fn describe_topic_or_create(&self, name: &str) -> Result<TopicDescription> {
        Ok(self.topic_or_create(name)?.describe())
    }

    /// A topic by its id.
    pub fn describe_topic_by_id(&self, id: &[u8; 16]) -> Option<TopicDescription> {
        Some(self.topic_by_id(id)?.describe())
    }

    /// The leader epoch of a partition: raised whenever records that were shown were cut off, or a crash may have taken some.
    pub fn leader_epoch(&self, topic: &str, partition: u32) -> Result<u32> {
        Ok(self.topic(topic)?.partition(partition)?.leader_epoch())
    }

    /// Where the newest leader epoch of a partition ended that is not above `epoch` (KIP-320); `None`: there was none so high
    /// yet.
    pub fn end_of_epoch(&self, topic: &str, partition: u32, epoch: u32) -> Result<Option<EpochEnd>> {
        self.topic(topic)?.partition(partition)?.end_of_epoch(epoch)
    }

    /// A partition. Its log is opened if its files do not tell enough.
    pub fn describe_partition(&self, topic: &str, partition: u32) -> Result<PartitionDescription> {
        let partition = self.topic(topic)?.partition(partition)?;
        let mut size = partition.size()?;
        if size.last_stable_offset.is_none() {
            size = partition.log()?.size()?;
        }
        let Size { start, high_watermark, last_stable_offset, bytes, segments } = size;
        let last_stable_offset = last_stable_offset.unwrap_or(high_watermark);
        Ok(PartitionDescription { start, high_watermark, last_stable_offset, bytes, segments })
    }

    /// How much the partitions of a topic hold together. Opens the logs whose files do not tell it.
    pub fn topic_size(&self, name: &str) -> Result<TopicSize> {
        let mut sum = TopicSize::default();
        for partition in self.topic(name)?.partitions() {
            sum.add(partition.size()?);
        }
        Ok(sum)
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
        let (start, high_watermark, last_stable_offset, bytes, segments) = (0, 0, 0, 0, 0);
        let empty = PartitionDescription { start, high_watermark, last_stable_offset, bytes, segments };
        let calls = disk.calls();
        for index in [0, 2] {
            assert_eq!(broker.describe_partition("t", index).unwrap(), empty);
        }
        assert_eq!(disk.calls(), calls, "nothing was made or synced");
        assert_eq!(broker.describe_partition("t", 1).unwrap().segments, 1);
        drop(broker);
        let broker = open();
        let of_one = |broker: &Broker| broker.describe_partition("t", 1).unwrap();
        assert_eq!((of_one(&broker).high_watermark, of_one(&broker).segments), (1, 1));
        for index in 0..3 {
            broker.describe_partition("t", index).unwrap();
            assert!(!broker.topic("t").unwrap().partition(index).unwrap().is_open(), "{index}");
        }
        let calls = disk.calls();
        assert_eq!(
            broker.topic_size("t").unwrap(),
            TopicSize { records: 1, written: 1, bytes: of_one(&broker).bytes, segments: 1 }
        );
        assert_eq!(disk.calls(), calls, "what files told is told again");
        let again = broker.topic("t").unwrap().partition(1).unwrap();
        assert_eq!(again.write(&records, Terms::default()).unwrap().offsets, 1..2);
        again.sync_to(2).unwrap();
        assert_eq!(of_one(&broker).high_watermark, 2, "and not when the log is open");
        let touched = broker.topic("t").unwrap().partition(2).unwrap();
        assert_eq!(touched.write(&records, Terms::default()).unwrap().offsets, 0..1);
        assert_eq!(broker.describe_partition("t", 2).unwrap().segments, 1);
    }
}

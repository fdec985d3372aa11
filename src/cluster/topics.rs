//! Topics: made, altered, dropped, trimmed, described.
//!
//! What a topic is, the cluster says: its settings, how many partitions and copies a new one gets, and where its partitions begin and
//! end, which is asked of all nodes at once. What only the disks of its nodes tell, bytes and segments, is not told.

use super::{
    Cluster,
    errors::of_topic,
    native::{Found, Refused, Setting, Topic},
};
use crate::{
    broker::{
        Code, Copies, Error, Isolation, PARTITIONS_MAX, PartitionDescription, REPLICATION_FACTOR, Registered, Result,
        TopicDescription, TopicSize, Waiter, writable,
    },
    config::{Change, Changes, Described, Overrides, Settings},
    security::Operation,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// Where a partition begins (KIP-79).
pub(super) const FIRST: i64 = -2;
/// Where it ends.
pub(super) const END: i64 = -1;
/// How soon it is asked again for a topic that was just made.
const ASKS_AGAIN: Duration = Duration::from_millis(20);

impl Cluster {
    /// Makes a topic with the cluster's defaults but for the number of partitions.
    pub fn create_topic(&self, name: &str, partitions: u32) -> Result<TopicDescription> {
        self.create_topic_with(name, Some(partitions), Overrides::new())
    }

    /// Makes a topic with settings of its own, and as many copies as `replication.factor` among them says.
    pub fn create_topic_with(
        &self,
        name: &str,
        partitions: Option<u32>,
        mut overrides: Overrides,
    ) -> Result<TopicDescription> {
        self.door.ask_to_create(name)?;
        writable(name)?;
        let copies = overrides.remove(REPLICATION_FACTOR).map(|copies| {
            let why = || Error::InvalidConfig(format!("{REPLICATION_FACTOR}={copies}: it takes a number of copies"));
            copies.parse::<u16>().ok().filter(|copies| *copies > 0).map(i32::from).ok_or_else(why)
        });
        let (partitions, copies) = (partitions.map(partition_count).transpose()?, copies.transpose()?);
        let settings: Vec<_> = overrides.iter().map(|(name, value)| (&**name, &**value)).collect();
        let made = self.shared.known.ask(|nodes| nodes.create_topic(name, partitions, copies, &settings));
        self.shared.limits.forget(name);
        self.shared.known.changed(name);
        made.map_err(|refused| self.about_topic(name, refused))?;
        let described = self.permitted().described_with(name, 1)?;
        self.door.note("topic-made", &[("topic", &name), ("partitions", &described.partition_count())]);
        Ok(described)
    }

    /// A topic that was just made or has grown: the node that is asked next may still not know of it.
    fn described_with(&self, name: &str, partitions: u32) -> Result<TopicDescription> {
        let deadline = Instant::now() + self.shared.options.timeout;
        loop {
            let described = self.describe_topic(name);
            let is_known = match &described {
                // Whoever uses it next looks it up, which another node may answer.
                Ok(topic) => {
                    topic.partition_count() >= partitions
                        && self
                            .shared
                            .known
                            .topic_now(name)
                            .is_ok_and(|known| known.partitions.len() >= partitions as usize)
                }
                Err(error) => !matches!(error, Error::UnknownTopic(_)),
            };
            if is_known || Instant::now() >= deadline {
                return described;
            }
            thread::sleep(ASKS_AGAIN);
        }
    }

    /// Changes the settings that are named, and adds partitions.
    pub fn alter_topic(&self, name: &str, partitions: Option<u32>, changes: &Changes) -> Result<TopicDescription> {
        self.door.ask_to_alter(name, partitions, changes)?;
        writable(name)?;
        let cluster = self.permitted();
        let before = cluster.describe_topic(name)?;
        let settings = changed_settings(&before.overrides, changes)?;
        if let Some(wanted) = partitions {
            let (wanted, has) = (partition_count(wanted)?, before.partition_count());
            if (wanted as u32) < has {
                return Err(Error::InvalidPartitions(format!(
                    "'{name}' has {has} partitions; their number never falls"
                )));
            }
        }
        if !settings.is_empty() {
            let altered = self.shared.known.ask(|nodes| nodes.alter_settings(name, &settings));
            self.shared.limits.forget(name);
            altered.map_err(|refused| self.about_topic(name, refused))?;
        }
        if let Some(wanted) = partitions.filter(|wanted| *wanted > before.partition_count()) {
            let grown = self.shared.known.ask(|nodes| nodes.grow_topic(name, wanted as usize));
            self.shared.known.changed(name);
            grown.map_err(|refused| self.about_topic(name, refused))?;
        }
        let described = cluster.described_with(name, partitions.unwrap_or(1))?;
        let names = changes.named.keys().map(String::as_str).collect::<Vec<_>>().join(",");
        let count = described.partition_count();
        self.door.note("topic-altered", &[("topic", &name), ("partitions", &count), ("settings", &names)]);
        Ok(described)
    }

    /// Drops a topic.
    pub fn drop_topic(&self, name: &str) -> Result<()> {
        self.door.ask_to_drop(name)?;
        writable(name)?;
        let dropped = self.shared.known.ask(|nodes| nodes.delete_topic(name));
        self.shared.limits.forget(name);
        self.shared.known.dropped(name);
        dropped.map_err(|refused| self.about_topic(name, refused))?;
        self.door.note("topic-dropped", &[("topic", &name)]);
        Ok(())
    }

    /// Removes the records of a partition before `offset` for good. Answers the start offset.
    pub fn trim(&self, topic: &str, partition: u32, offset: u64) -> Result<u64> {
        self.door.ask_topic(Operation::Delete, topic)?;
        writable(topic)?;
        let known = &self.shared.known;
        known.with_partition(known.topic(topic)?, partition)?;
        let before = i64::try_from(offset).unwrap_or(i64::MAX);
        let trimmed = known.ask(|nodes| nodes.delete_records(topic, partition, before));
        let start = trimmed.map_err(|refused| self.about_topic(topic, refused))?.max(0) as u64;
        self.door.note("records-deleted", &[("topic", &topic), ("partition", &partition), ("before", &start)]);
        Ok(start)
    }

    /// All topics by name, the cluster's own among them.
    pub fn describe_topics(&self) -> Result<BTreeMap<String, Result<TopicDescription>>> {
        let names = self.topic_names()?;
        let names: Vec<_> = names.iter().map(|name| &**name).collect();
        Ok(self.described(&names)?.into_iter().collect())
    }

    /// How many topics the caller may see, the cluster's own among them, as far as a node tells.
    pub fn topic_count(&self) -> usize {
        self.nodes().map_or(0, |nodes| nodes.topics.len())
    }

    fn topic_names(&self) -> Result<Vec<String>> {
        let metadata = self.shared.known.metadata(None)?;
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        Ok(names.filter(|name| self.door.may_describe(name)).collect())
    }

    /// A topic by name.
    pub fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        self.door.ask_topic(Operation::Describe, name)?;
        let (known, most) = (&self.shared.known, self.shared.options.timeout);
        let partitions = |topic: &TopicDescription| topic.partition_count() as usize;
        known.until_told(name, most, partitions, |_| {
            let described = self.described(&[name])?.pop();
            Ok(described.map_or_else(|| Err(Error::UnknownTopic(name.into())), |(_, described)| described))
        })?
    }

    /// A topic by name, made with the cluster's defaults if it is not there and first use makes topics here.
    pub fn describe_topic_or_create(&self, name: &str) -> Result<TopicDescription> {
        match self.describe_topic(name) {
            Err(Error::UnknownTopic(_)) if self.config().auto_create => {
                match self.create_topic_with(name, None, Overrides::new()) {
                    Err(Error::TopicExists(_)) => self.described_with(name, 1),
                    made => made,
                }
            }
            found => found,
        }
    }

    /// Topics by name, each described or with its error.
    fn described(&self, names: &[&str]) -> Result<Vec<(String, Result<TopicDescription>)>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.shared.known.ask(|nodes| nodes.topics(names));
        let found = found.map_err(|refused| self.shared.known.explain_other("describing topics", refused))?;
        let there: Vec<_> = found.iter().filter(|found| found.topic.is_ok()).map(|found| &*found.name).collect();
        let settings = match there.is_empty() {
            true => Vec::new(),
            false => self.shared.known.ask(|nodes| nodes.settings(&there)).unwrap_or_default(),
        };
        // Who may not see the settings sees the topic all the same.
        let told = settings.into_iter().filter_map(|(name, settings)| Some((name, settings.ok()?)));
        let mut settings: HashMap<String, Vec<Setting>> = told.collect();
        let described = |Found { name, topic }: Found| {
            let settings = settings.remove(&name).unwrap_or_default();
            let topic = topic.map(|topic| description(&name, topic, settings));
            let topic = topic.map_err(|refused| self.about_topic(&name, refused));
            (name, topic)
        };
        Ok(found.into_iter().map(described).collect())
    }

    /// A partition.
    pub fn describe_partition(&self, topic: &str, partition: u32) -> Result<PartitionDescription> {
        let mut all = self.describe_partitions(topic)?;
        let partitions = all.len() as u32;
        match partition < partitions {
            true => Ok(all.swap_remove(partition as usize)),
            false => Err(Error::UnknownPartition { topic: topic.into(), partition, partitions }),
        }
    }

    /// All partitions of a topic, in order. One that no node leads is an error.
    pub fn describe_partitions(&self, topic: &str) -> Result<Vec<PartitionDescription>> {
        const PASSING: [Code; 3] = [Code::LeaderNotAvailable, Code::NotLeaderOrFollower, Code::UnknownTopicOrPartition];
        let (known, begun) = (&self.shared.known, Instant::now());
        loop {
            let described = self.partitions_now(topic);
            let passes = described.as_ref().is_err_and(|error| PASSING.contains(&error.code()));
            let most = self.shared.options.timeout;
            if !(passes && known.is_new(topic)) || begun.elapsed() >= most || known.is_vain(begun) {
                return described;
            }
            thread::sleep(ASKS_AGAIN);
        }
    }

    fn partitions_now(&self, topic: &str) -> Result<Vec<PartitionDescription>> {
        self.door.ask_topic(Operation::Describe, topic)?;
        let known = self.shared.known.topic_now(topic)?;
        let partitions: Vec<_> = (0..known.partitions.len() as u32).map(|index| (topic, index)).collect();
        let (starts, ends) = (
            self.offsets(&partitions, FIRST, Isolation::ReadUncommitted)?,
            self.offsets(&partitions, END, Isolation::ReadUncommitted)?,
        );
        let stable = self.offsets(&partitions, END, Isolation::ReadCommitted)?;
        let described = |(index, partition): (usize, &super::known::KnownPartition)| {
            let of = |offsets: &Offsets| told(offsets, topic, index as u32);
            let (leader, replicas) = (partition.leader, partition.replicas.clone());
            Ok(PartitionDescription {
                start: of(&starts)?,
                high_watermark: of(&ends)?,
                last_stable_offset: of(&stable)?,
                bytes: None,
                segments: None,
                copies: Some(Copies { leader, replicas, in_sync: partition.in_sync.clone() }),
            })
        };
        known.partitions.iter().enumerate().map(described).collect()
    }

    /// How much the partitions of a topic hold together.
    pub fn topic_size(&self, name: &str) -> Result<TopicSize> {
        self.topic_sizes(&[name]).pop().unwrap_or_else(|| Err(Error::UnknownTopic(name.into())))
    }

    /// The same of many topics, in their order.
    pub fn topic_sizes(&self, names: &[&str]) -> Vec<Result<TopicSize>> {
        if names.is_empty() {
            return Vec::new();
        }
        let failed = |error: Error| names.iter().map(|_| Err(error.clone())).collect();
        let metadata = match self.shared.known.metadata(None) {
            Err(error) => return failed(error),
            Ok(metadata) => metadata,
        };
        let counts: HashMap<&str, u32> =
            metadata.topics().iter().map(|topic| (topic.name(), topic.partitions().len() as u32)).collect();
        let count = |name: &str| counts.get(name).copied().unwrap_or(0);
        let all: Vec<_> = names.iter().flat_map(|name| (0..count(name)).map(|index| (*name, index))).collect();
        let (starts, ends) = match (
            self.offsets(&all, FIRST, Isolation::ReadUncommitted),
            self.offsets(&all, END, Isolation::ReadUncommitted),
        ) {
            (Ok(starts), Ok(ends)) => (starts, ends),
            (Err(error), _) | (_, Err(error)) => return failed(error),
        };
        let size = |name: &&str| {
            self.door.ask_topic(Operation::Describe, name)?;
            if count(name) == 0 {
                return Err(Error::UnknownTopic((*name).into()));
            }
            let mut sum = TopicSize::default();
            for index in 0..count(name) {
                sum.add(told(&starts, name, index)?, told(&ends, name, index)?);
            }
            Ok(sum)
        };
        names.iter().map(size).collect()
    }

    /// Where partitions begin or end, by topic and number.
    pub(super) fn offsets(&self, partitions: &[(&str, u32)], which: i64, isolation: Isolation) -> Result<Offsets> {
        self.offsets_within(partitions, which, isolation, self.shared.options.timeout)
    }

    /// The same where no more time is to be spent on it.
    pub(super) fn offsets_within(
        &self,
        partitions: &[(&str, u32)],
        which: i64,
        isolation: Isolation,
        most: Duration,
    ) -> Result<Offsets> {
        let told = self.shared.offsets_within(partitions, which, isolation, most)?;
        let one = |(&(topic, partition), offset): (&(&str, u32), Result<Option<u64>>)| {
            offset.transpose().map(|offset| ((topic.to_owned(), partition), offset))
        };
        Ok(partitions.iter().zip(told).filter_map(one).collect())
    }

    /// Wakes `waiter` when a topic is made, grows or goes, until the answer is dropped. What others do is seen within a second.
    pub fn register(&self, waiter: &Arc<Waiter>) -> Registered<'_> {
        self.shared.known.register(waiter)
    }

    /// The largest record that one of the topics takes, as far as the cluster tells.
    pub fn message_bytes_max(&self) -> usize {
        self.shared.largest_record_bytes(|topic| self.door.may_describe(topic))
    }

    /// Settings of topics without settings of their own, as far as they are known here: Kafka's.
    pub fn topic_defaults(&self) -> Arc<Settings> {
        Arc::new(self.config().topic_defaults.clone())
    }

    pub(super) fn about_topic(&self, name: &str, refused: Refused) -> Error {
        self.shared.known.explain_refusal(refused, |refused| of_topic(name, refused))
    }
}

/// Offsets by topic and partition.
pub(super) type Offsets = HashMap<(String, u32), Result<u64>>;

/// What was told of a partition, which may be nothing.
pub(super) fn told(offsets: &Offsets, topic: &str, index: u32) -> Result<u64> {
    let missing = || Error::OfCluster {
        code: Code::LeaderNotAvailable,
        why: format!("{topic}/{index}: no node of the cluster tells its offsets now"),
    };
    offsets.get(&(topic.to_owned(), index)).cloned().unwrap_or_else(|| Err(missing()))
}

fn partition_count(wanted: u32) -> Result<i32> {
    let why = || Error::InvalidPartitions(format!("{wanted} partitions; a topic has 1 to {PARTITIONS_MAX}"));
    if (1..=PARTITIONS_MAX).contains(&wanted) { Ok(wanted as i32) } else { Err(why()) }
}

/// The settings to be set, or taken back (`None`).
fn changed_settings<'a>(own: &'a Overrides, changes: &'a Changes) -> Result<Vec<(&'a str, Option<&'a str>)>> {
    let others = own.keys().filter(|name| changes.reset_others && !changes.named.contains_key(*name));
    let named = changes.named.iter().map(|(name, change)| match change {
        Change::Default => Ok((&**name, None)),
        Change::Set(value) => Ok((&**name, Some(&**value))),
        Change::Append(_) | Change::Subtract(_) => Err(Error::NotHere("a list is set as a whole here")),
    });
    named.chain(others.map(|name| Ok((&**name, None)))).collect()
}

fn description(name: &str, topic: Topic, settings: Vec<Setting>) -> TopicDescription {
    let mut in_force = Settings::default();
    for setting in &settings {
        // What only another version of Kafka knows stands among its own settings, if it is one.
        let one = Overrides::from([(setting.name.clone(), setting.value.clone())]);
        if let Ok(with) = in_force.with(&one) {
            in_force = with;
        }
    }
    let overrides = settings.into_iter().filter(|one| one.is_own).map(|one| (one.name, one.value)).collect();
    let leader_epochs = topic.partitions.iter().map(|_| None).collect();
    TopicDescription { name: name.into(), id: topic.id, settings: Arc::new(in_force), overrides, leader_epochs }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Producer,
        cluster::testing::{Fixture, open_within},
    };
    use std::{collections::BTreeMap, net::TcpListener};

    fn changes(named: &[(&str, Option<&str>)]) -> Changes {
        let change = |value: Option<&str>| value.map_or(Change::Default, |value| Change::Set(value.into()));
        let named: BTreeMap<_, _> = named.iter().map(|(name, value)| ((*name).into(), change(*value))).collect();
        Changes { named, reset_others: false }
    }

    fn own(settings: &[(&str, &str)]) -> Overrides {
        settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn a_topic_is_made_altered_trimmed_and_dropped_as_the_cluster_says() {
        let Fixture { cluster, broker, .. } = &Fixture::new();
        let made = cluster.create_topic_with("t", Some(2), own(&[("retention.ms", "1000")])).unwrap();
        assert_eq!((made.partition_count(), &made.overrides), (2, &own(&[("retention.ms", "1000")])));
        assert_eq!((made.settings.retention_ms, made.id), (1000, broker.describe_topic("t").unwrap().id));
        assert_eq!(cluster.create_topic("t", 1), Err(Error::TopicExists("t".into())));
        let altered = cluster.alter_topic("t", Some(3), &changes(&[("flush.ms", Some("5"))])).unwrap();
        let both = own(&[("flush.ms", "5"), ("retention.ms", "1000")]);
        assert_eq!((altered.partition_count(), altered.overrides), (3, both), "what is not named stays");
        let altered = cluster.alter_topic("t", None, &changes(&[("retention.ms", None)])).unwrap();
        assert_eq!(altered.overrides, own(&[("flush.ms", "5")]));
        assert!(matches!(cluster.alter_topic("t", Some(1), &changes(&[])), Err(Error::InvalidPartitions(_))));
        let refused = cluster.alter_topic("t", None, &changes(&[("flush.ms", Some("soon"))]));
        assert!(matches!(refused, Err(Error::InvalidConfig(_))), "{refused:?}");

        let mut producer = Producer::embedded(broker);
        for value in ["a", "b", "c"] {
            producer.send("t", crate::Record::new(value).partition(1)).unwrap();
        }
        assert_eq!(cluster.trim("t", 1, 2), Ok(2));
        assert!(matches!(cluster.trim("t", 9, 2), Err(Error::UnknownPartition { .. })));
        assert_eq!(cluster.topic_size("t"), Ok(TopicSize { records: 1, written: 3, bytes: None }));
        let partitions = cluster.describe_partitions("t").unwrap();
        let of_one = &partitions[1];
        assert_eq!((of_one.start, of_one.high_watermark, of_one.last_stable_offset), (2, 3, 3));
        assert_eq!((of_one.bytes, of_one.segments), (None, None));
        assert_eq!(of_one.copies, Some(Copies { leader: Some(1), replicas: vec![1], in_sync: vec![1] }));
        assert_eq!(cluster.describe_partition("t", 1).as_ref(), Ok(of_one));

        assert_eq!(cluster.describe_topics().unwrap().keys().collect::<Vec<_>>(), ["t"]);
        cluster.drop_topic("t").unwrap();
        assert_eq!(cluster.drop_topic("t"), Err(Error::UnknownTopic("t".into())));
        assert_eq!(cluster.describe_topic("t"), Err(Error::UnknownTopic("t".into())));
        assert_eq!(cluster.topic_size("t"), Err(Error::UnknownTopic("t".into())));
        assert!(cluster.describe_topics().unwrap().is_empty());
        assert!(broker.describe_topics().is_empty());
    }

    #[test]
    fn a_topic_of_which_the_node_has_not_heard_yet_is_described_when_it_has() {
        let Fixture { cluster, broker, .. } = &Fixture::new();
        cluster.create_topic("t", 2).unwrap();
        // So does the node look that lags behind the one that has made it.
        broker.drop_topic("t").unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(300));
                broker.create_topic("t", 2).unwrap();
            });
            assert_eq!(cluster.describe_topic("t").unwrap().partition_count(), 2);
        });
    }

    #[test]
    fn a_partition_of_which_its_leader_has_not_heard_yet_is_described_when_it_has() {
        let mock = rdkafka::mocking::MockCluster::new(1).unwrap();
        mock.create_topic("t", 1, 1).unwrap();
        let cluster = open_within(&mock.bootstrap_servers(), Duration::from_secs(20));
        use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr::*};
        for passing in [RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION] {
            mock.request_errors(RDKafkaApiKey::ListOffsets, &[passing; 9]);
            let described = cluster.describe_partitions("t").unwrap();
            assert_eq!((described.len(), described[0].high_watermark), (1, 0));
        }
    }

    #[test]
    fn first_use_makes_a_topic_unless_that_is_turned_off() {
        let Fixture { cluster, server, .. } = &Fixture::new();
        assert_eq!(cluster.describe_topic_or_create("t").unwrap().partition_count(), 1);
        let (mut config, servers) = (crate::Config::in_memory(), format!("localhost:{}", server.port()));
        config.auto_create = false;
        let strict = Cluster::open(config, crate::cluster::ClusterOptions::new(servers)).unwrap();
        assert_eq!(strict.describe_topic_or_create("u"), Err(Error::UnknownTopic("u".into())));
        assert!(matches!(
            cluster.create_topic_with("v", None, own(&[(REPLICATION_FACTOR, "x")])),
            Err(Error::InvalidConfig(_))
        ));
        let made = cluster.create_topic_with("v", None, own(&[(REPLICATION_FACTOR, "1")])).unwrap();
        assert_eq!(made.partition_count(), 1);
    }

    #[test]
    fn where_no_node_answers_the_servers_and_the_last_reason_are_named_and_it_goes_on_when_one_comes() {
        let taken = TcpListener::bind("localhost:0").unwrap();
        let servers = format!("localhost:{}", taken.local_addr().unwrap().port());
        drop(taken);
        let cluster = open_within(&servers, Duration::from_millis(1500));
        let refused = cluster.describe_topic("t").unwrap_err();
        assert_eq!(refused.code(), Code::BrokerNotAvailable);
        let told = refused.to_string();
        assert!(told.contains(&servers) && told.contains("Connection refused"), "{told}");
        assert!(!cluster.is_ready());
        assert_eq!(cluster.faults().len(), 1);
        let broker = crate::Broker::in_memory();
        broker.create_topic("t", 1).unwrap();
        let _server = crate::Server::start(broker, &servers).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = cluster.describe_topic("t") {
            assert!(Instant::now() < deadline, "{error}");
        }
        while !cluster.is_ready() {
            assert!(Instant::now() < deadline);
        }
        assert_eq!((cluster.faults(), cluster.nodes().unwrap().there.len()), (vec![], 1));
    }

    #[test]
    fn who_waits_for_topics_is_woken_when_another_makes_one() {
        let Fixture { cluster, broker, .. } = &Fixture::new();
        let waiter = Waiter::new();
        let _registered = cluster.register(&waiter);
        let deadline = Some(Instant::now() + Duration::from_secs(60));
        assert!(waiter.wait(deadline), "the first look");
        broker.create_topic("t", 1).unwrap();
        while cluster.describe_topics().unwrap().is_empty() {
            assert!(waiter.wait(deadline));
        }
    }
}

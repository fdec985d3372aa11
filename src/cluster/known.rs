//! What is known of the cluster: the client that asks it, and what it last heard of each topic.
//!
//! Who writes or reads needs a topic's partitions at each request, so what was heard is believed for a second. Asking makes no
//! topic, whatever the cluster's own `auto.create.topics.enable` says.

use super::{
    errors::{of_code, refused, unreachable},
    options::ClusterOptions,
};
use crate::broker::{Error, Result};
use rdkafka::{
    ClientContext,
    client::Client,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    metadata::Metadata,
    types::RDKafkaErrorCode,
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// How long what was heard of a topic is believed.
const BELIEVED: Duration = Duration::from_secs(1);
/// As many topics are remembered.
const TOPICS_MAX: usize = 10_000;

/// The client that asks, and what it heard.
pub(super) struct Known {
    asking: BaseConsumer<Heard>,
    servers: String,
    timeout: Duration,
    topics: Mutex<HashMap<String, Remembered>>,
}

struct Remembered {
    topic: Arc<KnownTopic>,
    heard: Instant,
}

/// A topic as the cluster last told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTopic {
    /// Its name.
    pub name: String,
    /// Its partitions in order.
    pub partitions: Vec<KnownPartition>,
}

/// A partition of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPartition {
    /// The node that leads it; `None`: none does.
    pub leader: Option<i32>,
    /// The nodes that have a copy.
    pub replicas: Vec<i32>,
    /// Those of them that are in sync.
    pub in_sync: Vec<i32>,
}

/// Keeps the last thing that went wrong between librdkafka and the nodes: it is the reason when nothing answers.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<Option<String>>);

impl Heard {
    fn last(&self) -> Option<String> {
        self.0.lock().expect("no panic under the lock").clone()
    }
}

impl ClientContext for Heard {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        // That all are down says less than what was heard before it.
        let mut last = self.0.lock().expect("no panic under the lock");
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) || last.is_none() {
            *last = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Heard {}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl Known {
    pub(super) fn new(options: &ClusterOptions) -> Result<Known> {
        let ours = [("allow.auto.create.topics", "false"), ("enable.auto.commit", "false")];
        let asking = options.client(&ours).create_with_context(Heard::default());
        let asking = asking.map_err(|error| ClusterOptions::refused(&error))?;
        let (servers, timeout) = (options.servers.clone(), options.timeout);
        Ok(Known { asking, servers, timeout, topics: Mutex::default() })
    }

    /// The client that asks. It reads no records.
    pub(super) fn client(&self) -> &Client<Heard> {
        self.asking.client()
    }

    /// The same, as one that knows of offsets.
    pub(super) fn asking(&self) -> &BaseConsumer<Heard> {
        &self.asking
    }

    /// Asks for one topic, or for the nodes and all topics.
    pub(super) fn metadata(&self, topic: Option<&str>) -> Result<Metadata> {
        self.client().fetch_metadata(topic, self.timeout).map_err(|error| self.explain("asking for metadata", &error))
    }

    /// An error of the client's. Where nothing answered it names the servers and the last reason.
    pub(super) fn explain(&self, what: &str, error: &KafkaError) -> Error {
        use RDKafkaErrorCode::*;
        match error.rdkafka_error_code() {
            Some(BrokerTransportFailure | AllBrokersDown | OperationTimedOut | Resolve) => {
                unreachable(&self.servers, self.timeout, self.asking.client().context().last())
            }
            _ => refused(what, error),
        }
    }

    /// A topic, as it was within the last second.
    pub(super) fn topic(&self, name: &str) -> Result<Arc<KnownTopic>> {
        if let Some(known) = self.topics().get(name).filter(|known| known.heard.elapsed() < BELIEVED) {
            return Ok(known.topic.clone());
        }
        self.topic_now(name)
    }

    /// A topic, as it was within so long a time, if it was heard of; and whether it is time to ask again.
    pub(super) fn topic_within(&self, name: &str, time: Duration) -> Option<(Arc<KnownTopic>, bool)> {
        let topics = self.topics();
        let known = topics.get(name)?;
        let age = known.heard.elapsed();
        (age < time).then(|| (known.topic.clone(), age >= BELIEVED))
    }

    /// A topic, as it is now.
    pub(super) fn topic_now(&self, name: &str) -> Result<Arc<KnownTopic>> {
        self.forget(name);
        self.topic_anew(name)
    }

    /// The same; meanwhile others go on with what was heard before.
    pub(super) fn topic_anew(&self, name: &str) -> Result<Arc<KnownTopic>> {
        let metadata = self.metadata(Some(name))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        let topic = topic.ok_or_else(|| Error::UnknownTopic(name.into())).and_then(known_topic);
        let topic = Arc::new(topic.inspect_err(|_| self.forget(name))?);
        let mut topics = self.topics();
        if topics.len() >= TOPICS_MAX {
            topics.clear();
        }
        topics.insert(name.into(), Remembered { topic: topic.clone(), heard: Instant::now() });
        Ok(topic)
    }

    /// Something has changed in a topic.
    pub(super) fn forget(&self, name: &str) {
        self.topics().remove(name);
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.topics.lock().expect("no panic under the lock")
    }
}

/// A topic of an answer, or the error that stands there instead.
pub(super) fn known_topic(topic: &rdkafka::metadata::MetadataTopic) -> Result<KnownTopic> {
    use RDKafkaErrorCode::*;
    let name = topic.name();
    match topic.error().map(RDKafkaErrorCode::from) {
        None => {}
        Some(UnknownTopicOrPartition | UnknownTopic | UnknownPartition) => {
            return Err(Error::UnknownTopic(name.into()));
        }
        // The partitions tell which of them has none.
        Some(LeaderNotAvailable) if !topic.partitions().is_empty() => {}
        Some(error) => return Err(of_code(&format!("topic '{name}'"), error)),
    }
    let partition = |partition: &rdkafka::metadata::MetadataPartition| KnownPartition {
        leader: Some(partition.leader()).filter(|node| *node >= 0),
        replicas: partition.replicas().to_vec(),
        in_sync: partition.isr().to_vec(),
    };
    let mut partitions: Vec<_> = topic.partitions().iter().collect();
    partitions.sort_by_key(|partition| partition.id());
    Ok(KnownTopic { name: name.into(), partitions: partitions.into_iter().map(partition).collect() })
}

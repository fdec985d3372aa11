//! What answers verbs: a broker in this process, or a Kafka cluster behind it. Protocols and the server know verbs, and not where
//! records live.
//!
//! ```text
//! text, HTTP, server ── Backend ─┬─ Broker      records in this process's log
//!                                └─ Cluster     records on the nodes of a Kafka cluster (feature `cluster`)
//!
//! sessions, handles, memberships and transactions have the same two forms
//! ```
//!
//! It decides nothing: each call goes on to whoever answers it. The verbs are described where they are answered, in
//! [`broker`](crate::broker). Kafka's protocol asks the broker itself.

mod groups;
mod reading;
mod transactions;
mod writing;

pub use groups::Membership;
pub use reading::{PartitionHandle, ReadSession, TopicHandle};
pub use transactions::{Begun, Transaction};
pub use writing::{Gathered, WriteSession};

#[cfg(all(feature = "users", feature = "cluster"))]
use crate::broker::Error;
#[cfg(feature = "cluster")]
use crate::cluster::Cluster;
#[cfg(feature = "users")]
use crate::security::{Acl, AclFilter};
use crate::{
    broker::{
        Broker, Caller, Nodes, PartitionDescription, Registered, Result, ShareCounts, TopicDescription, TopicSize,
        Waiter,
    },
    config::{Changes, Config, Overrides},
    metrics::{LatencySum, Metrics, TrafficSum},
    security::Quota,
};
#[cfg(feature = "http")]
use crate::{
    broker::{Fault, ObservedTopic, wire},
    config::Settings,
};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// The same call of whoever answers.
macro_rules! form {
    ($type:ident, $self:expr, $form:ident => $call:expr) => {
        match $self {
            $type::Broker($form) => $call,
            #[cfg(feature = "cluster")]
            $type::Cluster($form) => $call,
        }
    };
}
use form;

/// What answers verbs, and on whose behalf it is asked. Clones are the same.
#[derive(Clone, Debug)]
pub enum Backend {
    /// A broker in this process.
    Broker(Broker),
    /// A Kafka cluster.
    #[cfg(feature = "cluster")]
    Cluster(Cluster),
}

impl From<Broker> for Backend {
    fn from(broker: Broker) -> Backend {
        Backend::Broker(broker)
    }
}

impl From<&Broker> for Backend {
    fn from(broker: &Broker) -> Backend {
        Backend::Broker(broker.clone())
    }
}

#[cfg(feature = "cluster")]
impl From<Cluster> for Backend {
    fn from(cluster: Cluster) -> Backend {
        Backend::Cluster(cluster)
    }
}

#[expect(missing_docs, reason = "the verbs are the broker's")]
impl Backend {
    pub fn on_behalf_of(&self, caller: Caller) -> Backend {
        form!(Backend, self, form => form.on_behalf_of(caller).into())
    }

    /// The broker in this process, which knows who there is and who may do what: the one that answers, or the one in front of the
    /// cluster.
    pub fn door(&self) -> &Broker {
        match self {
            Backend::Broker(broker) => broker,
            #[cfg(feature = "cluster")]
            Backend::Cluster(cluster) => cluster.door(),
        }
    }

    pub fn caller(&self) -> &Caller {
        self.door().caller()
    }

    pub fn is_admitted(&self) -> bool {
        self.door().is_admitted()
    }

    /// Until when it is known who the caller is; `None`: for as long as it is connected. What goes on looks then whether it still may.
    pub fn known_until(&self) -> Option<Instant> {
        self.caller().principal.ends
    }

    pub fn config(&self) -> &Config {
        form!(Backend, self, form => form.config())
    }

    pub fn metrics(&self) -> &Metrics {
        form!(Backend, self, form => form.metrics())
    }

    #[cfg(feature = "http")]
    pub fn wire(&self) -> &wire::Wire {
        form!(Backend, self, form => form.wire())
    }

    #[cfg(feature = "http")]
    pub fn may_watch(&self) -> Result<()> {
        self.door().may_watch()
    }

    #[cfg(feature = "http")]
    pub fn switch_wire(&self, filter: Option<wire::Filter>) -> Result<()> {
        self.door().switch_wire(filter)
    }

    pub fn may_describe_configs(&self, topic: &str) -> bool {
        self.door().may_describe_configs(topic)
    }

    pub fn may_see_cluster(&self) -> Result<()> {
        self.door().may_see_cluster()
    }

    /// The same for whoever looks at what it counts.
    pub fn for_metrics(&self) -> Backend {
        self.on_behalf_of(self.door().for_metrics().caller().clone())
    }

    #[cfg(feature = "http")]
    pub fn seen(&self, exchange: wire::Exchange) {
        form!(Backend, self, form => form.seen(exchange))
    }

    pub fn traffic(&self) -> TrafficSum {
        form!(Backend, self, form => form.traffic())
    }

    pub fn syncs(&self) -> LatencySum {
        form!(Backend, self, form => form.syncs())
    }

    pub fn damaged_batches(&self) -> u64 {
        form!(Backend, self, form => form.damaged_batches())
    }

    pub fn cluster_id(&self) -> String {
        form!(Backend, self, form => form.cluster_id())
    }

    pub fn now_ms(&self) -> i64 {
        form!(Backend, self, form => form.now_ms())
    }

    pub fn describe_topics(&self) -> Result<BTreeMap<String, Result<TopicDescription>>> {
        match self {
            Backend::Broker(broker) => Ok(broker.describe_topics()),
            #[cfg(feature = "cluster")]
            Backend::Cluster(cluster) => cluster.describe_topics(),
        }
    }

    pub fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        form!(Backend, self, form => form.describe_topic(name))
    }

    pub fn describe_partition(&self, topic: &str, partition: u32) -> Result<PartitionDescription> {
        form!(Backend, self, form => form.describe_partition(topic, partition))
    }

    pub fn describe_partitions(&self, topic: &str) -> Result<Vec<PartitionDescription>> {
        form!(Backend, self, form => form.describe_partitions(topic))
    }

    pub fn topic_sizes(&self, names: &[&str]) -> Vec<Result<TopicSize>> {
        form!(Backend, self, form => form.topic_sizes(names))
    }

    pub fn topic_count(&self) -> usize {
        form!(Backend, self, form => form.topic_count())
    }

    pub fn nodes(&self) -> Option<Nodes> {
        form!(Backend, self, form => form.nodes())
    }

    #[cfg(feature = "http")]
    pub fn observe_topics(&self) -> Vec<ObservedTopic> {
        form!(Backend, self, form => form.observe_topics())
    }

    #[cfg(feature = "http")]
    pub fn faults(&self) -> Vec<Fault> {
        form!(Backend, self, form => form.faults())
    }

    #[cfg(feature = "http")]
    pub fn is_ready(&self) -> bool {
        form!(Backend, self, form => form.is_ready())
    }

    #[cfg(feature = "http")]
    pub fn topic_defaults(&self) -> Arc<Settings> {
        form!(Backend, self, form => form.topic_defaults())
    }

    pub fn create_topic_with(
        &self,
        name: &str,
        partitions: Option<u32>,
        overrides: Overrides,
    ) -> Result<TopicDescription> {
        form!(Backend, self, form => form.create_topic_with(name, partitions, overrides))
    }

    pub fn alter_topic(&self, name: &str, partitions: Option<u32>, changes: &Changes) -> Result<TopicDescription> {
        form!(Backend, self, form => form.alter_topic(name, partitions, changes))
    }

    pub fn drop_topic(&self, name: &str) -> Result<()> {
        form!(Backend, self, form => form.drop_topic(name))
    }

    pub fn trim(&self, topic: &str, partition: u32, offset: u64) -> Result<u64> {
        form!(Backend, self, form => form.trim(topic, partition, offset))
    }

    pub fn register(&self, waiter: &Arc<Waiter>) -> Registered<'_> {
        form!(Backend, self, form => form.register(waiter))
    }

    pub fn message_bytes_max(&self) -> usize {
        form!(Backend, self, form => form.message_bytes_max())
    }

    /// The caller uses so many bytes. Answers how long it is to wait for that.
    pub fn charge(&self, quota: Quota, bytes: usize) -> Duration {
        match self {
            Backend::Broker(broker) => broker.charge(quota, bytes as f64),
            // A cluster slows down whom it serves, which is this program.
            #[cfg(feature = "cluster")]
            Backend::Cluster(_) => Duration::ZERO,
        }
    }

    /// Somebody connects from there: how long it is to wait, instead of being served.
    pub fn connected_from(&self, address: IpAddr) -> Duration {
        match self {
            Backend::Broker(broker) => broker.connected_from(address),
            #[cfg(feature = "cluster")]
            Backend::Cluster(_) => Duration::ZERO,
        }
    }

    /// While `gives_up`, nobody waits for other machines: what is unanswered is answered as when time runs out.
    pub fn give_up(&self, gives_up: bool) {
        match self {
            // It waits for this machine's disk alone.
            Backend::Broker(_) => {
                let _ = gives_up;
            }
            #[cfg(feature = "cluster")]
            Backend::Cluster(cluster) => cluster.give_up(gives_up),
        }
    }

    #[cfg(feature = "users")]
    pub fn acls(&self, filter: &AclFilter) -> Result<Vec<Acl>> {
        self.with_rules()?.acls(filter)
    }

    #[cfg(feature = "users")]
    pub fn create_acls(&self, acls: &[Acl]) -> Result<()> {
        self.with_rules()?.create_acls(acls)
    }

    #[cfg(feature = "users")]
    pub fn delete_acls(&self, filters: &[AclFilter]) -> Result<Vec<Vec<Acl>>> {
        self.with_rules()?.delete_acls(filters)
    }

    #[cfg(feature = "users")]
    fn with_rules(&self) -> Result<&Broker> {
        match self {
            #[cfg(feature = "cluster")]
            Backend::Cluster(cluster) if !cluster.door().asks_who() => {
                Err(Error::NotHere("this program has no users; the cluster's own rules are its brokers' affair"))
            }
            backend => Ok(backend.door()),
        }
    }

    pub fn new_producer_id(&self) -> Result<i64> {
        form!(Backend, self, form => form.new_producer_id())
    }

    pub fn known_producer_id(&self, id: i64) -> Result<i64> {
        form!(Backend, self, form => form.known_producer_id(id))
    }

    pub fn shares_in_flight(&self) -> u64 {
        form!(Backend, self, form => form.shares_in_flight())
    }

    pub fn share_counts(&self) -> &ShareCounts {
        form!(Backend, self, form => form.share_counts())
    }
}

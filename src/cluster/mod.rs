//! The verbs on a Kafka cluster: the second form of what answers them.
//!
//! ```text
//! Cluster ── Shared ── Known: the client that asks, what it heard of topics
//!    │           ├ Clients: how many of librdkafka's there may be
//!    │           └ ClusterOptions
//!    └ door, a Broker: on whose behalf it is asked, and what that one may do
//! ```
//!
//! Nothing is stored here: records, topics, groups and transactions are the cluster's, and any number of programs may stand side
//! by side in front of it. The verbs have the names and the shapes of the [broker](crate::broker)'s, and answer with its values
//! and its errors. librdkafka speaks to the nodes, by threads of its own; whoever waits for it does so on the thread of its
//! connection.
//!
//! To the cluster all callers are this program. With users it is the door that knows who they are, and each verb asks it for what
//! the broker's verb of the same name asks for.

mod answers;
mod clients;
mod ends;
mod errors;
mod feed;
mod groups;
mod heard;
mod joined;
mod keeper;
mod known;
mod limits;
mod member;
mod membership;
#[cfg(test)]
mod membership_tests;
pub mod moving;
mod native;
mod nodes;
mod options;
mod place;
mod producer;
mod properties;
mod reader;
mod reading;
#[cfg(test)]
mod reading_tests;
#[cfg(test)]
mod testing;
mod topics;
mod transactions;
mod writing;

pub use known::KnownTopic;
pub use membership::Membership;
pub use options::{ClusterOptions, is_secret};
pub use properties::properties;
pub use reading::{PartitionHandle, ReadSession, TopicHandle};
pub use transactions::{Begun, Transaction};
pub use writing::{Gathered, Target, WriteSession};

use crate::{
    broker::{
        Broker, Caller, Result,
        wire::{Exchange, Wire},
    },
    config::Config,
    metrics::Metrics,
};
use clients::Clients;
use keeper::Keeper;
use known::Known;
use limits::Limits;
use member::Members;
use producer::SharedProducer;
use reader::Readers;
use std::{
    sync::{Arc, atomic::Ordering::*},
    time::{SystemTime, UNIX_EPOCH},
};
use transactions::Transactions;

/// A Kafka cluster, and on whose behalf it is asked. Clones are the same.
#[derive(Clone, Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
    door: Broker,
}

#[derive(Debug)]
struct Shared {
    /// A broker without topics, for this program itself.
    door: Broker,
    options: ClusterOptions,
    known: Known,
    limits: Limits,
    clients: Clients,
    readers: Readers,
    members: Members,
    keeper: Keeper,
    producer: SharedProducer,
    transactions: Transactions,
    looked: nodes::Looked,
}

impl Cluster {
    /// A cluster of these nodes. They need not be there yet; options that librdkafka does not take are an error. Of what is
    /// configured the data directory has the users and their rules, and nothing else.
    pub fn open(config: Config, options: ClusterOptions) -> Result<Cluster> {
        let known = Known::new(&options)?;
        let door = Broker::open(config)?;
        let clients = Clients::new(options.clients_max);
        let shared = Shared {
            door: door.clone(),
            options,
            known,
            limits: Limits::default(),
            clients,
            readers: Readers::default(),
            members: Members::default(),
            keeper: Keeper::default(),
            producer: SharedProducer::default(),
            transactions: Transactions::default(),
            looked: Default::default(),
        };
        Ok(Cluster { shared: Arc::new(shared), door })
    }

    /// The same cluster, for somebody else.
    pub fn on_behalf_of(&self, caller: Caller) -> Cluster {
        Cluster { shared: self.shared.clone(), door: self.door.on_behalf_of(caller) }
    }

    /// The same cluster for this program itself, which does what the caller was permitted.
    fn permitted(&self) -> Cluster {
        self.on_behalf_of(self.caller().permitted())
    }

    /// What knows who there is, and who may do what.
    pub fn door(&self) -> &Broker {
        &self.door
    }

    /// Who asks.
    pub fn caller(&self) -> &Caller {
        self.door.caller()
    }

    /// How this program runs.
    pub fn config(&self) -> &Config {
        self.door.config()
    }

    /// What this program counts.
    pub fn metrics(&self) -> &Metrics {
        self.door.metrics()
    }

    /// The latest exchanges with this program, for whoever watches.
    pub fn wire(&self) -> &Wire {
        self.door.wire()
    }

    /// An exchange that somebody wants to see.
    pub fn seen(&self, exchange: Exchange) {
        self.wire().record(exchange, None);
    }

    /// While `gives_up`, nobody waits for the cluster: what is unanswered is answered as when time runs out. The program stops.
    pub fn give_up(&self, gives_up: bool) {
        self.shared.known.gives_up().store(gives_up, SeqCst);
        if gives_up {
            self.shared.producer.give_up();
            self.give_up_transactions();
        }
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub fn now_ms(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64)
    }
}

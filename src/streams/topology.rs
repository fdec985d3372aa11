//! A topology: where one is built, and looked at.

use super::{
    describe,
    dsl::{GlobalTable, Stream, Table, read, source},
    error::Error,
    event::Event,
    graph::{Graph, Shared, lock},
    plan::{Check, Extract, GlobalSource, Plan},
    serde::Serde,
    store::StoreSpec,
};
use std::{
    any::TypeId,
    sync::{Arc, Mutex},
};

/// What is made of which topics, and how. Nothing runs before it is started.
///
/// All its streams and tables are views of the one graph, which they add to; what is wrong with it is said, by name, where it is
/// started.
pub struct Topology {
    pub(super) graph: Shared,
}

impl Topology {
    /// A topology without a source. Its name is also that of its group, and the prefix of its own topics.
    pub fn new(name: &str) -> Topology {
        let mut graph = Graph::new(name);
        if let Err(error) = crate::client::check_topic(name) {
            graph.problem(error.to_string());
        }
        Topology { graph: Arc::new(Mutex::new(graph)) }
    }

    /// Its name.
    pub fn name(&self) -> String {
        lock(&self.graph).application.clone()
    }

    /// The records of a topic whose keys and values are text.
    pub fn stream(&self, topic: &str) -> Stream<String, String> {
        self.stream_of(topic)
    }

    /// The records of a topic.
    pub fn stream_of<K: Serde, V: Serde>(&self, topic: &str) -> Stream<K, V> {
        self.source(topic, None)
    }

    /// The records of a topic at the times that `time` tells, in milliseconds since 1970-01-01 UTC. It gets the record and the
    /// highest time of its partition so far, -1 before the first one. A record of a negative time fails as one that does not
    /// parse.
    pub fn stream_at<K: Serde, V: Serde>(
        &self,
        topic: &str,
        time: impl Fn(&Event<K, V>, i64) -> i64 + Send + Sync + 'static,
    ) -> Stream<K, V> {
        self.source(topic, Some(Arc::new(move |event, so_far| Ok(time(&read(event)?, so_far)))))
    }

    /// The table of the last value of each key of a topic whose keys and values are text, in the store `name`.
    pub fn table(&self, topic: &str, name: &str) -> Table<String, String> {
        self.table_of(topic, name)
    }

    /// The table of the last value of each key of a topic, in the store `name`.
    pub fn table_of<K: Serde, V: Serde>(&self, topic: &str, name: &str) -> Table<K, V> {
        self.stream_of(topic).table(name)
    }

    /// A topic that every process reads whole into the store `name`, and whose keys and values are text.
    pub fn global_table(&self, topic: &str, name: &str) -> GlobalTable<String, String> {
        self.global_table_of(topic, name)
    }

    /// A topic that every process reads whole into the store `name`.
    pub fn global_table_of<K: Serde, V: Serde>(&self, topic: &str, name: &str) -> GlobalTable<K, V> {
        let mut graph = lock(&self.graph);
        graph.claim(name);
        let check: Check = Arc::new(|event| read::<K, V>(event).map(drop));
        graph.global(GlobalSource { topic: topic.into(), store: name.into(), check });
        GlobalTable::new(name)
    }

    fn source<K: Serde, V: Serde>(&self, topic: &str, extract: Option<Extract>) -> Stream<K, V> {
        let node = lock(&self.graph).source(topic, TypeId::of::<(K, V)>(), extract, source::<K, V>());
        Stream::new(&self.graph, node, false)
    }

    /// Adds a store for processors.
    pub fn add_store(&self, store: StoreSpec) {
        let mut graph = lock(&self.graph);
        graph.claim(&store.name);
        graph.store(store);
    }

    /// What it is: sub-topologies, their nodes, and what each reads, writes and keeps; the topics of its own.
    pub fn describe(&self) -> String {
        describe::text(&lock(&self.graph))
    }

    /// The same as a flow chart of Mermaid: topics are round, stores are drums.
    pub fn mermaid(&self) -> String {
        describe::mermaid(&lock(&self.graph))
    }

    /// What runs. Fails with all that is wrong, by name.
    pub fn plan(&self) -> Result<Plan, Error> {
        lock(&self.graph).plan()
    }
}

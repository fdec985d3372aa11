//! The graph that a topology is: nodes without their types, and which of them make which sub-topology.

use super::{
    context::NodeId,
    error::Error,
    plan::{Extract, GlobalSource, Input, Make, Plan, Repartition, Subtopology},
    store::StoreSpec,
};
use std::{
    any::TypeId,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A graph that all streams and tables of a topology share.
pub(super) type Shared = Arc<Mutex<Graph>>;

/// A node of the graph.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) parents: Vec<NodeId>,
    pub(super) children: Vec<NodeId>,
    /// The names of the stores that it uses.
    pub(super) stores: Vec<String>,
    pub(super) make: Make,
}

pub(super) enum Kind {
    Source {
        topic: Arc<str>,
        extract: Option<Extract>,
    },
    Processor,
    /// Its topic, where it does not choose one by record.
    Sink {
        topic: Option<Arc<str>>,
    },
}

/// Nodes, stores, and what is wrong with them.
pub(super) struct Graph {
    pub(super) application: String,
    pub(super) nodes: Vec<Node>,
    stores: Vec<StoreSpec>,
    /// Sources of topics, with the types that they read.
    sources: BTreeMap<Arc<str>, (NodeId, TypeId)>,
    repartitions: BTreeMap<Arc<str>, Repartition>,
    globals: Vec<GlobalSource>,
    /// Sources that have to have equal partitions.
    joined: Vec<(String, BTreeSet<NodeId>)>,
    names: BTreeSet<String>,
    problems: Vec<String>,
}

/// The graph, for a moment.
pub(super) fn lock(graph: &Shared) -> MutexGuard<'_, Graph> {
    graph.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Graph {
    pub(super) fn new(application: &str) -> Graph {
        Graph {
            application: application.into(),
            nodes: Vec::new(),
            stores: Vec::new(),
            sources: BTreeMap::new(),
            repartitions: BTreeMap::new(),
            globals: Vec::new(),
            joined: Vec::new(),
            names: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// Says what is wrong, for whoever starts the topology.
    pub(super) fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// Takes a name that nothing else of the topology may have.
    pub(super) fn claim(&mut self, name: &str) {
        if let Err(error) = crate::client::check_topic(&format!("{}-{name}", self.application)) {
            self.problem(format!("{name:?} cannot be a name: {error}"));
        } else if !self.names.insert(name.into()) {
            self.problem(format!("the name {name:?} is used twice"));
        }
    }

    /// Adds a node; `what` and its number are its name.
    pub(super) fn add(&mut self, what: &str, kind: Kind, parents: &[NodeId], stores: &[&str], make: Make) -> NodeId {
        let id = self.nodes.len();
        for parent in parents {
            self.nodes[*parent].children.push(id);
        }
        self.nodes.push(Node {
            name: format!("{what}-{id}"),
            kind,
            parents: parents.into(),
            children: Vec::new(),
            stores: stores.iter().map(|name| (*name).into()).collect(),
            make,
        });
        id
    }

    /// Adds a processor.
    pub(super) fn processor(&mut self, what: &str, parents: &[NodeId], stores: &[&str], make: Make) -> NodeId {
        self.add(what, Kind::Processor, parents, stores, make)
    }

    /// The source of a topic: the one that is there, or a new one.
    pub(super) fn source(&mut self, topic: &str, types: TypeId, extract: Option<Extract>, make: Make) -> NodeId {
        if let Some((node, known)) = self.sources.get(topic) {
            let (node, known) = (*node, *known);
            if known != types || extract.is_some() {
                self.problem(format!("the topic {topic:?} is read twice, as different types or at different times"));
                // Whoever reads it gets a node of its types all the same; it never runs.
                return self.add("source", Kind::Source { topic: topic.into(), extract }, &[], &[], make);
            }
            return node;
        }
        if let Err(error) = crate::client::check_topic(topic) {
            self.problem(error.to_string());
        }
        let topic: Arc<str> = topic.into();
        let node = self.add("source", Kind::Source { topic: topic.clone(), extract }, &[], &[], make);
        self.sources.insert(topic, (node, types));
        node
    }

    /// Adds a store. Its name has been claimed.
    pub(super) fn store(&mut self, spec: StoreSpec) {
        self.stores.push(spec);
    }

    /// Whether there is a store of this name.
    pub(super) fn has_store(&self, name: &str) -> bool {
        self.stores.iter().any(|store| store.name == name)
    }

    /// A topic of the application's own, of so many partitions or as many as what is written to it comes from.
    pub(super) fn repartition(&mut self, name: &str, partitions: Option<u32>) -> Arc<str> {
        let topic: Arc<str> = format!("{}-{name}-repartition", self.application).into();
        self.repartitions.insert(topic.clone(), Repartition { topic: topic.clone(), partitions });
        topic
    }

    pub(super) fn repartitions(&self) -> impl Iterator<Item = &Repartition> {
        self.repartitions.values()
    }

    pub(super) fn stores(&self) -> impl Iterator<Item = &StoreSpec> {
        self.stores.iter()
    }

    /// A topic that is read whole by everybody, into a store.
    pub(super) fn global(&mut self, global: GlobalSource) {
        if let Err(error) = crate::client::check_topic(&global.topic) {
            self.problem(error.to_string());
        }
        if self.globals.iter().any(|other| other.topic == global.topic) {
            self.problem(format!("the topic {:?} is read twice as a global table", global.topic));
        }
        self.globals.push(global);
    }

    /// Says that what these nodes get comes from topics of equal partitions.
    pub(super) fn join(&mut self, name: &str, nodes: &[NodeId]) {
        let sources = nodes.iter().flat_map(|node| self.sources_of(*node)).collect();
        self.joined.push((name.into(), sources));
    }

    /// The sources that events come to a node from.
    fn sources_of(&self, node: NodeId) -> BTreeSet<NodeId> {
        let Node { parents, .. } = &self.nodes[node];
        if parents.is_empty() {
            [node].into()
        } else {
            parents.iter().flat_map(|parent| self.sources_of(*parent)).collect()
        }
    }

    fn topic_of(&self, node: NodeId) -> Arc<str> {
        match &self.nodes[node].kind {
            Kind::Source { topic, .. } => topic.clone(),
            _ => unreachable!("what has no parents is a source"),
        }
    }

    /// What runs: fails with all that is wrong.
    pub(super) fn plan(&self) -> Result<Plan, Error> {
        if !self.problems.is_empty() {
            return Err(Error::Topology(self.problems.join("; ")));
        }
        if self.nodes.is_empty() {
            return Err(Error::Topology(format!("the topology {:?} reads no topic", self.application)));
        }
        let topics = |nodes: &BTreeSet<NodeId>| nodes.iter().map(|node| self.topic_of(*node)).collect();
        let joined: Vec<(String, BTreeSet<Arc<str>>)> =
            self.joined.iter().map(|(name, nodes)| (name.clone(), topics(nodes))).collect();
        let subtopologies = self.components().into_iter().enumerate().map(|(id, nodes)| self.subtopology(id, nodes));
        Ok(Plan {
            application: self.application.clone(),
            subtopologies: subtopologies.collect(),
            repartitions: self.repartitions.values().cloned().collect(),
            globals: self.globals.clone(),
            joined,
            names: self.nodes.iter().map(|node| node.name.clone()).collect(),
            children: self.nodes.iter().map(|node| node.children.clone()).collect(),
            makes: self.nodes.iter().map(|node| node.make.clone()).collect(),
        })
    }

    fn subtopology(&self, id: usize, nodes: Vec<NodeId>) -> Subtopology {
        let mut names: Vec<&String> = nodes.iter().flat_map(|node| &self.nodes[*node].stores).collect();
        names.sort();
        names.dedup();
        let mut part = Subtopology { id, nodes, inputs: Vec::new(), outputs: Vec::new(), stores: Vec::new() };
        for node in &part.nodes {
            match &self.nodes[*node].kind {
                Kind::Source { topic, extract } => {
                    part.inputs.push(Input { topic: topic.clone(), node: *node, extract: extract.clone() })
                }
                Kind::Sink { topic } => part.outputs.extend(topic.clone()),
                Kind::Processor => {}
            }
        }
        part.stores = self.stores.iter().filter(|spec| names.binary_search(&&spec.name).is_ok()).cloned().collect();
        part.outputs.sort();
        part.outputs.dedup();
        part
    }

    /// The nodes that hang together, by edges or by a store, in the order of their first sources.
    pub(super) fn components(&self) -> Vec<Vec<NodeId>> {
        let mut group: Vec<usize> = (0..self.nodes.len()).collect();
        fn root(group: &mut [usize], mut node: usize) -> usize {
            while group[node] != node {
                group[node] = group[group[node]];
                node = group[node];
            }
            node
        }
        let mut users: BTreeMap<&str, NodeId> = BTreeMap::new();
        for (id, node) in self.nodes.iter().enumerate() {
            let of_stores = node.stores.iter().map(|store| *users.entry(store).or_insert(id));
            for other in node.children.iter().copied().chain(of_stores) {
                let (a, b) = (root(&mut group, id), root(&mut group, other));
                // The lower number leads, so that groups come out in the order of their first nodes, which are sources.
                group[a.max(b)] = a.min(b);
            }
        }
        let mut found: BTreeMap<usize, Vec<NodeId>> = BTreeMap::new();
        for id in 0..self.nodes.len() {
            found.entry(root(&mut group, id)).or_default().push(id);
        }
        found.into_values().collect()
    }
}

//! The typed language of topologies: each call adds nodes to the graph and answers with what comes out of them.

mod aggregate;
mod fold;
mod foreign;
mod grouped_table;
mod nodes;
mod session;
mod sink;
mod sliding;
mod stateless;
mod stream_join;
mod suppress;
mod table;
mod table_join;
mod windowed;

use super::{
    context::{Context, NodeId, Wiring},
    error::Failure,
    event::Event,
    graph::{Shared, lock},
    store::Stored,
    window::{Sessions, Windows},
};
use nodes::node;
use std::{marker::PhantomData, sync::Arc};

pub(super) use nodes::{each, read, source};
pub use stateless::{Processor, ProcessorContext};

/// Records of keys and values, each on its own.
///
/// What functions get: a key may be null, so it comes as an `Option`. A record whose value is null does not reach them:
/// [`filter`](Self::filter), [`peek`](Self::peek) and those that change the value alone let it go by, those that make a new key or new
/// records of it leave it out and count it. [`nullable`](Self::nullable) shows such records as `None`.
pub struct Stream<K, V> {
    pub(super) graph: Shared,
    pub(super) node: NodeId,
    /// Whether the key may have changed, so that its records are not in the partition of their key.
    pub(super) rekeyed: bool,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for Stream<K, V> {
    fn clone(&self) -> Self {
        Stream::new(&self.graph, self.node, self.rekeyed)
    }
}

impl<K, V> Stream<K, V> {
    pub(super) fn new(graph: &Shared, node: NodeId, rekeyed: bool) -> Self {
        Stream { graph: graph.clone(), node, rekeyed, types: PhantomData }
    }

    /// Says what is wrong, for whoever starts the topology.
    fn problem(&self, problem: String) {
        lock(&self.graph).problem(problem);
    }

    /// What comes of something that cannot be, and never runs.
    fn impossible(graph: &Shared, problem: String) -> Self {
        Stream::new(graph, impossible(graph, problem), false)
    }
}

fn impossible(graph: &Shared, problem: String) -> NodeId {
    let mut graph = lock(graph);
    graph.problem(problem);
    graph.processor("impossible", &[], &[], each(|_, _: Event<(), ()>| Ok(())))
}

/// The last value of each key, and how it changes.
///
/// What functions get is never null: a key whose value is null is not in the table. What follows a table gets each change of it.
pub struct Table<K, V> {
    pub(super) graph: Shared,
    pub(super) node: NodeId,
    view: View<K, V>,
    /// How long after the end of a window of its key it can change, in milliseconds.
    closes_after: Option<i64>,
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Table::new(&self.graph, self.node, self.view.clone()).closing(self.closes_after)
    }
}

impl<K, V> Table<K, V> {
    fn new(graph: &Shared, node: NodeId, view: View<K, V>) -> Self {
        Table { graph: graph.clone(), node, view, closes_after: None }
    }

    /// What comes of something that cannot be, and never runs.
    fn impossible(graph: &Shared, problem: String) -> Self
    where
        K: 'static,
        V: 'static,
    {
        let nothing: MakeGetter<K, V> = Arc::new(|_| Box::new(|_, _| Ok(None)));
        Table::new(graph, impossible(graph, problem), View { stores: Vec::new(), make: nothing })
    }

    /// The same, whose windows can change so many milliseconds after their end.
    fn closing(self, closes_after: Option<i64>) -> Self {
        Table { closes_after, ..self }
    }
}

/// How the value of a table's key is looked up.
type Getter<K, V> = Box<dyn Fn(&Context, &K) -> Result<Option<Stored<V>>, Failure> + Send>;

type MakeGetter<K, V> = Arc<dyn Fn(&Wiring<'_>) -> Getter<K, V> + Send + Sync>;

/// Where the values of a table are: in stores, or made of what is in them.
struct View<K, V> {
    /// The names of the stores.
    stores: Vec<String>,
    make: MakeGetter<K, V>,
}

impl<K, V> Clone for View<K, V> {
    fn clone(&self) -> Self {
        View { stores: self.stores.clone(), make: self.make.clone() }
    }
}

/// A stream whose records are to be brought together by key.
pub struct GroupedStream<K, V> {
    stream: Stream<K, V>,
}

/// A stream whose records are to be brought together by key and window.
pub struct WindowedStream<K, V> {
    stream: Stream<K, V>,
    windows: Windows,
}

/// A stream whose records are to be brought together by key and session.
pub struct SessionStream<K, V> {
    stream: Stream<K, V>,
    sessions: Sessions,
}

/// A table whose values are to be brought together by other keys.
pub struct GroupedTable<K, V> {
    graph: Shared,
    node: NodeId,
    types: PhantomData<fn() -> (K, V)>,
}

/// A topic that every process reads whole: its records can be joined by any key, without going through another topic.
pub struct GlobalTable<K, V> {
    name: String,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> GlobalTable<K, V> {
    pub(super) fn new(name: &str) -> Self {
        GlobalTable { name: name.into(), types: PhantomData }
    }
}

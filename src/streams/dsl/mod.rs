//! The typed language of topologies: each call adds nodes to the graph and answers with what comes out of them.

mod nodes;
mod sink;
mod stateless;

use super::{
    context::NodeId,
    graph::{Shared, lock},
};
use std::marker::PhantomData;

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
}

//! Stream processing: transformations, tables, windows, joins, and state that survives, in one library over topics.
//!
//! ```
//! use plainlog::{
//!     Record,
//!     streams::{TestDriver, Topology},
//! };
//!
//! let topology = Topology::new("shout");
//! topology.stream("lines").filter(|_, line| !line.is_empty()).map_values(|line| line.to_uppercase()).to("loud");
//!
//! let mut driver = TestDriver::new(&topology)?;
//! driver.pipe("lines", Record::new("hello").key("user-1").timestamp(0))?;
//! assert_eq!(driver.lines("loud"), ["user-1=HELLO @0"]);
//! # Ok::<(), plainlog::streams::Error>(())
//! ```
//!
//! # How it is built
//!
//! ```text
//! Topology, Stream, Table     typed: each call adds nodes to the Graph, with functions that make them
//!   Graph -> Plan             which nodes make which sub-topology, and which topics there have to be
//!     Task                    one sub-topology for one partition of its inputs: nodes, queues, stores
//!       Context               hands events from node to node, by value
//!       Stores over State     what changed since the last commit, over memory or redb
//!     Output                  where records go: to the broker, or kept by a TestDriver
//! ```
//!
//! - A [`Stream`] is a handle of a node; its methods add the next one. What is wrong is gathered, and said where it starts.
//! - Sub-topologies are what hangs together, split at the application's own repartition topics, numbered by their first sources.
//! - A [`Task`] does no input and no output of its own: [`task`] says how it is run.
//! - A record takes effect whole or not at all: what it sends and what it stores waits until all nodes are through with it.
//!
//! # Semantics
//!
//! Those of Kafka Streams without a cache: one result for each change. Time is that of the records; a result's is the highest
//! of the records that it was made of.

mod context;
mod describe;
mod driver;
mod dsl;
mod error;
mod event;
mod graph;
mod plan;
mod queue;
mod running;
mod serde;
mod store;
pub mod task;
mod topology;
mod window;

#[cfg(test)]
mod tests;

pub use context::{Clock, Context, Counts, Done, Globals, Outgoing, Punctuation, TaskId};
pub use driver::TestDriver;
pub use dsl::{
    GlobalTable, GroupedStream, GroupedTable, Processor, ProcessorContext, SessionStream, Stream, Table, WindowedStream,
};
pub use error::{Error, Failure, FailureKind, Handler, Handlers, Place};
pub use event::{Event, Session, WindowKey, Windowed};
pub use plan::{GlobalSource, Input, Plan, Repartition, Subtopology};
pub use running::{App, Guarantee, Options, Owner, Totals};
pub use serde::{Json, Serde};
pub use store::{
    Changes, Each, Entry, KeyValue, KeyValueQuery, MemoryState, Part, SessionQuery, SessionStore, State, StoreSpec,
    Stored, Stores, WindowQuery, WindowStore,
};
pub use task::{Changelog, Output, Task, TaskOptions};
pub use topology::Topology;
pub use window::{Aligned, Around, Hopping, JoinWindow, Sessions, Sliding, Tumbling, Windows};

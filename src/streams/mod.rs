//! Stream processing: transformations, tables, windows, joins, and state that survives, in one library over topics.
//!
//! ```no_run
//! use plainlog::streams::{Options, Topology, Tumbling};
//! use std::time::Duration;
//!
//! let topology = Topology::new("word-count"); // also the group and the prefix of its own topics
//! topology
//!     .stream("lines")
//!     .flat_map_values(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
//!     .group_by(|_, word| word.clone()) // a topic between, made when it runs
//!     .window(Tumbling::of(Duration::from_secs(60)).grace(Duration::from_secs(10)))
//!     .count("counts") // the name of the store
//!     .to("counts-by-minute"); // keys: hello@1764180000000
//! println!("{}", topology.describe()); // text; mermaid() draws it
//! let app = topology.start("localhost:9092", Options::default())?; // or start_embedded(&broker, ...)
//! let (from, to) = (1764180000000, 1764183600000);
//! app.window_store::<String, i64>("counts")?.fetch("hello", from, to)?;
//! app.stop()?;
//! # Ok::<(), plainlog::streams::Error>(())
//! ```
//!
//! The same in a test, in memory, with time in its hand:
//!
//! ```
//! use plainlog::{
//!     Record,
//!     streams::{TestDriver, Topology, Tumbling},
//! };
//! use std::time::Duration;
//!
//! let topology = Topology::new("word-count");
//! let words = topology.stream("lines").flat_map_values(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
//! let windows = Tumbling::of(Duration::from_secs(60));
//! words.group_by(|_, word| word.clone()).window(windows).count("counts").to("counts-by-minute");
//!
//! let mut driver = TestDriver::new(&topology)?;
//! driver.pipe("lines", Record::new("hello hello").timestamp(61_000))?;
//! assert_eq!(driver.lines("counts-by-minute"), ["hello@60000=1 @61000", "hello@60000=2 @61000"]);
//! let stored = driver.window_store::<String, i64>("counts")?.get("hello", 60_000)?;
//! assert_eq!(stored.map(|stored| stored.value), Some(2));
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
//! of the records that it was made of. What differs:
//!
//! - Functions see no null values ([`Stream::nullable`] shows them), and a key as an `Option`.
//! - A table always has a store, so that what is made of it knows the old values, and a key that was not there is not deleted.
//! - The stream time of each window, session and join is in its store: what was late before a crash is late after it.
//! - Joins of streams without a grace find what is at the edge of their window.
//! - A result with a window in its key goes to the partition of the whole of it, `key@start`, as any record goes to that of its key.
//!
//! As there, the first value of an aggregate takes the place of the initial one, which is then taken out of what is made of the
//! table; and a record that a topic refuses, because it is too large or too far ahead, ends the application.

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

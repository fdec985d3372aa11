//! plainlog: a message broker you talk to with netcat and whose log you read with cat.
//!
//! # As a library
//!
//! The same calls work for a broker in this process and for one across the network; `examples/` has more.
//!
//! ```
//! use plainlog::{Broker, Config, Consumer, Message, Producer, Record, Server};
//! use std::time::Duration;
//!
//! # let folder = std::env::temp_dir().join(format!("plainlog-doc-{}", std::process::id()));
//! let broker = Broker::open(Config::new(&folder))?; // or Broker::in_memory()
//! broker.create_topic("events", 3)?;
//! assert_eq!(broker.describe_topic("events")?.partition_count(), 3);
//! assert_eq!(broker.describe_topics().len(), 1);
//!
//! let mut producer = Producer::embedded(&broker); // or Producer::connect("localhost:9092")?
//! let ack = producer.send("events", Record::new("login").key("user-1"))?;
//! assert_eq!(ack.offset, Some(0));
//! producer.send_batch("events", [("user-1", "a"), ("user-2", "b")])?;
//!
//! let mut consumer = Consumer::embedded(&broker).group("analytics").auto_commit(false).subscribe(&["events"])?;
//! let mut read = 0;
//! while read < 3 {
//!     for message in consumer.poll(Duration::from_secs(1), 10)? {
//!         let Message { topic, partition, offset, timestamp, key, value, headers } = message;
//!         println!("{topic}/{partition} {offset} {timestamp} {key:?} {value:?} {headers:?}");
//!         read += 1;
//!     }
//! }
//! consumer.commit()?;
//! consumer.seek("events", ack.partition, 0)?;
//! assert_eq!(consumer.poll(Duration::from_secs(1), 1)?[0].value.as_deref(), Some(b"login".as_slice()));
//!
//! let server = Server::start(broker, "localhost:0")?; // stops when it is dropped
//! let mut over_the_network = Producer::connect(&format!("localhost:{}", server.port()))?;
//! over_the_network.send("events", "hello")?;
//! # drop((consumer, producer, server));
//! # std::fs::remove_dir_all(folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The life of one record
//!
//! Follow `PRODUCE hello` from the socket to the disk and back:
//!
//! 1. [`server`] accepts the connection and gives it a thread. [`server::spoken`] looks at what came first: text.
//! 2. [`protocol::connection::Input`] reads what arrived; [`protocol::text::serve`] takes the lines out of it.
//! 3. A [`broker::WriteSession`], which every protocol writes through, finds the partition, checks the record, and gathers it
//!    with its neighbours. What arrived together for one partition becomes one batch. The value is still a slice of the input.
//! 4. [`broker::Partition::write`] finds the partition's log, which is opened when it is first needed, and
//!    [`log::Log::append`] assigns offsets, formats the lines ([`log::record::write_line`]: the only place that knows how),
//!    and writes them to the `.log` and a 64-byte entry ([`log::batches::Entry`]) to the `.batches`.
//! 5. [`broker::Partition::make_durable`] keeps the promise of the flush mode: with `--flush always` one thread syncs for
//!    everything that was written ([`log::Log::sync_to`]). Then readers see the record, and those who wait are woken
//!    ([`broker::Waiters`]).
//! 6. `ACK offset:0` goes out in one write with the answers to its neighbours.
//! 7. `CONSUME 0` on any connection: its [`broker::ReadSession`] reads through [`broker::Partition::read`], which finds the
//!    entry by binary search, reads its lines into the session's buffer and checks their CRC;
//!    `protocol/text/reading.rs` answers `MESSAGE offset:0 hello`.
//!
//! # Where each idea lives
//!
//! | to learn about | read |
//! | --- | --- |
//! | what goes over the wire | [`protocol::text::specification`] |
//! | what is on disk | [`mod@log::format`] |
//! | what happens after a crash | [`log::recovery`] |
//! | what an ACK promises | [`config::Flush`], [`log::Log::sync_to`] |
//! | waiting without polling | [`broker::Waiters`] |
//! | what can be asked of a broker | [`broker`] |
//! | the seam: what answers verbs, wherever the records live | [`backend`] |
//! | a Kafka cluster behind the verbs | `cluster` |
//! | topics, settings, retention | [`broker::Topic`], [`config::Settings`] |
//! | share groups, queues | [`broker::share_partition`] |
//! | transactions | [`broker::transaction`] |
//! | HTTP: the API, the console, metrics | `protocol::http` |
//! | who a caller is: passwords, SASL, certificates; what is defended, and what not | [`security`] |
//! | what a caller may do: rules, and the gate that decides by them | [`security`], [`broker::Gate`] |
//! | threads, limits, a clean stop | [`server`] |
//! | what a client sends and gets, byte by byte | [`broker::wire`], `protocol::wire_view` |
//! | producers and consumers | [`client`] |
//! | stream processing | `streams` |
//!
//! Imports point one way only: server → protocol → backend → broker → log. [`config`], [`metrics`] and [`security`] are leaves; [`client`] stands
//! at the other end of the socket, or beside the broker where it is embedded, and `streams` stands on the client.
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod backend;
pub mod broker;
pub mod client;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod config;
pub mod log;
pub mod metrics;
pub mod protocol;
pub mod security;
pub mod server;
#[cfg(feature = "streams")]
pub mod streams;
mod tell;

pub use broker::Broker;
pub use client::{Consumer, Message, Producer, Record};
pub use config::Config;
pub use server::Server;

/// The README's samples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub mod readme {}

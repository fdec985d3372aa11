//! Producers and consumers for Rust programs, over the network or with a broker in the same process.
//!
//! ```no_run
//! use plainlog::client::{Consumer, Producer, Record};
//! use std::time::Duration;
//!
//! let mut producer = Producer::connect("localhost:9092")?;
//! let ack = producer.send("events", Record::new("login").key("user-1"))?;
//! println!("{ack}");
//!
//! let mut consumer = Consumer::connect("localhost:9092")?.subscribe(&["events"])?;
//! for message in consumer.poll(Duration::from_secs(1), 10)? {
//!     println!("{} at offset {}", String::from_utf8_lossy(message.value.as_deref().unwrap_or(b"")), message.offset);
//! }
//! # Ok::<(), plainlog::client::Error>(())
//! ```
//!
//! ```text
//!              over the network                         in this process
//! Producer     NetworkProducer: SEND lines, kept         EmbeddedProducer: batches, written
//!              until they are answered                   in the caller's thread
//! Consumer     NetworkConsumer: a Fetcher for each       EmbeddedConsumer: one partition
//!              partition                                 after the other
//! in a group   Membership over a NetworkMember           Membership over an EmbeddedMember
//! Queue        a NetworkMember of a share group          an EmbeddedMember of one
//! ```
//!
//! - Over the network everything is the text protocol: what can be done here can be done with netcat.
//! - A lost connection is opened again, with growing pauses. A producer sends again what was not acknowledged, under the
//!   numbers it had, so that the broker stores no record twice. None is lost unless the call that sent it fails. A consumer
//!   goes on at its offset.
//! - [`Producer::transactional`] makes records of several partitions, and the offsets that a consumer of a group read, take effect
//!   together.
//! - [`programs`] is what the programs `producer` and `consumer` are made of.

mod answer;
mod connection;
mod consuming;
mod endpoint;
mod error;
mod login;
mod membership;
#[cfg(feature = "streams")]
pub(crate) mod processing;
mod producing;
pub mod programs;
mod queue;
mod record;
mod target;
#[cfg(test)]
mod testing;
mod wire;

pub use crate::broker::{Isolation, ShareOptions};
pub use answer::{Answer, Refused, field};
pub use connection::Connection;
pub use consuming::{Consumer, Position};
pub use error::Error;
pub use login::read_password;
pub use producing::{Pipeline, Producer, Transaction, TransactionalProducer};
pub use queue::{Delivery, Queue};
#[cfg(feature = "streams")]
pub(crate) use record::check_topic;
pub use record::{Ack, Header, Message, Record};
pub use target::Target;
pub use wire::Wire;

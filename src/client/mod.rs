//! What a program needs to send records to a broker and to read them: over the network, or from a broker inside it.
//!
//! ```no_run
//! use plainlog::client::{Consumer, Producer, Record};
//! use std::time::Duration;
//!
//! let mut producer = Producer::connect("localhost:9092")?;
//! let ack = producer.send("events", Record::new("login").key("user-1"))?;
//! println!("partition {} offset {}", ack.partition, ack.offset);
//!
//! let mut consumer = Consumer::connect("localhost:9092")?.subscribe(&["events"])?;
//! for message in consumer.poll(Duration::from_secs(1), 10)? {
//!     println!("{} at offset {}", String::from_utf8_lossy(message.value.as_deref().unwrap_or(b"")), message.offset);
//! }
//! # Ok::<(), plainlog::client::Error>(())
//! ```
//!
//! ```text
//!   Producer ── Outbox ───┐                             ┌─── Outbox: SEND lines, kept until they are answered
//!                         ├── Connection ══ broker ══ ──┤
//!   Consumer ── Fetcher ──┘   (lines)                   └─── Fetcher: FETCH of one partition, one answer ahead
//!              (one a partition)
//! ```
//!
//! - Everything over the network is the text protocol; whatever can be done here can be done with netcat.
//! - [`Outbox`](outbox), [`Fetcher`](fetcher) and [`NetworkSeat`](member) are all that knows of a network; beside them
//!   stand [`embedded`] and the seat of a member in this process, behind the same `Producer` and `Consumer`.
//! - A lost connection is made again with growing pauses. A producer sends again what was not acknowledged, so a record
//!   can be stored twice, and is never lost while the call that sent it has not failed. A consumer goes on at its offset.
//!
//! The rest is what the programs `producer` and `consumer` are made of: [`input`] and [`intake`] turn what is piped in
//! into records, [`style`] turns messages into what is printed.

mod connection;
mod consumer;
mod conversation;
mod embedded;
mod error;
mod fetcher;
mod fetching;
pub mod input;
pub mod intake;
#[cfg(feature = "comfort")]
mod json;
mod member;
mod membership;
mod outbox;
mod position;
mod pour;
mod producer;
pub mod progress;
mod record;
mod source;
pub mod style;
mod tally;
#[cfg(test)]
mod testing;

pub use connection::{Answer, Connection, field};
pub use consumer::Consumer;
pub use conversation::converse;
pub use error::{Error, Refused};
pub use position::Position;
pub use pour::{News, pour};
pub use producer::{Pipeline, Producer};
pub use record::{Ack, Header, Message, Record};
pub use tally::Tally;

//! plainlog: a message broker you talk to with netcat and whose log you read with cat.
//!
//! # The life of one record
//!
//! Follow `PRODUCE hello` from the socket to the disk and back:
//!
//! 1. [`server`] accepts the connection and gives it a thread. [`server::protocol_of`] looks at the first byte: text.
//! 2. [`protocol::connection::Input`] reads what arrived; [`protocol::text::serve`] takes the lines out of it.
//! 3. The line is gathered with its neighbours (`protocol/text/writing.rs`): what arrived together and belongs to one
//!    partition becomes one batch. The value is a slice of the input still.
//! 4. [`broker::Partition::write`] finds the partition's log, opened at the first touch, and [`log::Log::append`]
//!    gives offsets, formats the lines ([`log::record::write_line`]: the only place that knows how), and writes
//!    them to the `.log` and a 64-byte entry ([`log::batches::Entry`]) to the `.batches`.
//! 5. [`broker::Partition::settle`] makes it durable: with `--flush always` one thread syncs for all that was written
//!    ([`log::Log::sync_to`]), then the record is published and those who wait are woken ([`broker::Waiters`]).
//! 6. The answer `ACK offset:0` goes out with its neighbours' in one write.
//! 7. `CONSUME 0` of any connection: [`broker::Partition::read`] finds the entry by binary search, reads its lines into
//!    the connection's buffer, checks their CRC, and `protocol/text/reading.rs` answers `MESSAGE offset:0 hello`.
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
//! | topics, settings, retention | [`broker::Topic`], [`broker::Settings`] |
//! | threads, limits, a clean stop | [`server`] |
//! | producers and consumers | [`client`] |
//!
//! Imports point one way only: server → protocol → broker → log. [`config`] and [`metrics`] are leaves; [`client`] stands
//! at the other end of the socket.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod broker;
pub mod client;
pub mod config;
pub mod log;
pub mod metrics;
pub mod protocol;
pub mod server;
mod tell;

/// The README's samples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub mod readme {}

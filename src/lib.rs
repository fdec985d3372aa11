//! plainlog: a message broker you talk to with netcat and whose log you read with cat.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod broker;
pub mod client;
pub mod config;
pub mod log;
pub mod metrics;
pub mod protocol;
pub mod server;

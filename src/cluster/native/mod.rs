//! Calls of librdkafka that its Rust wrapper lacks, or whose reasons it drops: the only place with unsafe code.
//!
//! ```text
//!   messages.rs  a partition's messages with their headers
//! ```
#![allow(unsafe_code)]

mod messages;

pub(super) use messages::{Message, PartitionQueue};

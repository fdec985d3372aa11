//! What stream processing needs of a broker beyond producers and consumers: partitions that a group gives it and that it reads one by
//! one, offsets that it commits itself, and topics of its own.
//!
//! ```text
//!                  over the network               in this process
//! Assignee         a NetworkMember                an EmbeddedMember
//! Inputs           a Fetcher for each partition   an EmbeddedConsumer for each partition
//! Site             lines over a connection        calls
//! ```

mod assignee;
mod inputs;
mod site;

pub(crate) use super::consuming::{GroupPlace, PartitionOffset};
pub(crate) use assignee::Assignee;
pub(crate) use inputs::{Arrival, Inputs, Key};
pub(crate) use site::{CommittedAt, MemberFacts, Site, TopicFacts};

//! The Kafka wire protocol: every Kafka client on the same port.

pub mod batch;
pub mod codes;
pub mod compression;
pub mod wire;

//! What can go wrong between a program and its broker.

use super::Refused;
use crate::broker;
use std::{fmt, io};

/// Why a call failed.
#[derive(Debug)]
pub enum Error {
    /// The broker said no. The connection lives, and nothing was stored.
    Refused(Refused),
    /// There is no connection, and it could not be made again in time.
    Connection {
        /// The broker's address.
        address: String,
        /// What happened last.
        cause: io::Error,
    },
    /// A consumer's next records cannot be read (any more): it goes on behind them when it is polled again.
    Skipped {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset that was to be read next.
        wanted: u64,
        /// The offset of the next record that will be read.
        next: u64,
        /// What the broker said.
        reason: Refused,
    },
    /// The transaction was aborted, because its connection was lost: nothing of it takes effect, and it can be tried again.
    Aborted(String),
    /// The peer does not speak the protocol.
    Answer(String),
    /// What was asked for cannot be asked.
    Invalid(String),
}

impl Error {
    /// Of an error of [`Transaction::commit`](super::Transaction::commit): whether the transaction may still take effect, or has
    /// done so. `REQUEST_TIMED_OUT` says that it is decided and how, but that not all partitions could be told yet; after
    /// `KAFKA_STORAGE_ERROR` and [`Error::Connection`] nobody may know. After any other error nothing of it ever does.
    pub fn leaves_open(&self) -> bool {
        match self {
            Error::Refused(refused) => matches!(&*refused.code, "REQUEST_TIMED_OUT" | "KAFKA_STORAGE_ERROR"),
            Error::Connection { .. } | Error::Answer(_) => true,
            Error::Aborted(_) | Error::Invalid(_) | Error::Skipped { .. } => false,
        }
    }
}

impl From<broker::Error> for Error {
    fn from(error: broker::Error) -> Error {
        Error::Refused(error.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(refused) => refused.fmt(f),
            Error::Connection { address, cause } => write!(f, "no connection to the broker at {address}: {cause}"),
            Error::Skipped { topic, partition, wanted, next, reason } => {
                write!(f, "offset {wanted} of {topic}/{partition} cannot be read, going on at {next}: {reason}")
            }
            Error::Aborted(why) => write!(f, "the transaction was aborted: {why}"),
            Error::Answer(what) => write!(f, "this is no plainlog broker, or a newer one: {what}"),
            Error::Invalid(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

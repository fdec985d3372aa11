//! What can go wrong, and what is done about a record that something goes wrong with.

use crate::client;
use std::{fmt, sync::Arc};

/// Why a topology does not run, or runs no longer.
#[derive(Debug)]
pub enum Error {
    /// The topology cannot work: what is wrong, by name.
    Topology(String),
    /// A record that nothing was said to be done about.
    Record {
        /// Where it came from.
        place: Place,
        /// What is wrong with it.
        failure: Failure,
    },
    /// The state of a task cannot be read or written.
    State(String),
    /// The broker, or the way to it.
    Client(client::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Topology(why) => f.write_str(why),
            Error::Record { place, failure } => write!(f, "the record at {place} failed: {failure}"),
            Error::State(why) => write!(f, "the state of a task: {why}"),
            Error::Client(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Error {
        Error::Client(error)
    }
}

/// Where a record came from. `Display` has `topic/partition offset`.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The offset in it.
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} offset {}", self.topic, self.partition, self.offset)
    }
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// At which step.
    pub kind: FailureKind,
    /// In words.
    pub reason: String,
}

/// At which step a record failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Its key or value does not parse, or its time is none.
    Unreadable,
    /// A function of the topology refused it.
    Refused,
    /// The store could not be read or written: no record can be processed, and no handler is asked.
    State,
}

impl Failure {
    /// A function of the topology refuses the record that it works on.
    pub fn new(reason: impl fmt::Display) -> Failure {
        Failure { kind: FailureKind::Refused, reason: reason.to_string() }
    }

    /// A record's key or value does not parse.
    pub(super) fn unreadable(what: &str, reason: String) -> Failure {
        Failure { kind: FailureKind::Unreadable, reason: format!("{what} does not parse: {reason}") }
    }

    /// A store failed.
    pub(super) fn state(reason: String) -> Failure {
        Failure { kind: FailureKind::State, reason }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// `?` on whatever error a function of the topology meets.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::new(error)
    }
}

/// What is done about a record that fails. Nothing of it takes effect in any case: neither in stores nor in topics.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Handler {
    /// The application stops, and the record is the first one when it starts again.
    #[default]
    Fail,
    /// It is counted and goes.
    Skip,
    /// It goes to this topic as it is, with headers that say why:
    ///
    /// | header | value |
    /// | --- | --- |
    /// | `failed.reason` | what is wrong with it |
    /// | `failed.application` | the name of the topology |
    /// | `failed.place` | `topic/partition offset` |
    DeadLetter(String),
}

/// What is done about records that fail, by the step at which they do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Handlers {
    /// Those that do not parse, and those without a time.
    pub unreadable: Handler,
    /// Those that a function of the topology refuses, or panics about.
    pub refused: Handler,
}

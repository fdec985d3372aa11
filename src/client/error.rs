//! What can go wrong between a program and its broker.

use super::connection::field;
use crate::{broker, log::record::write_visible, protocol::text::Refusal};
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
    /// The peer does not speak the protocol.
    Answer(String),
    /// What was asked for cannot be asked.
    Invalid(String),
}

/// A broker's `ERROR <code> [fields] <sentence>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Kafka's name of the error, or `INVALID_REQUEST`.
    pub code: String,
    /// Fields, if any, and the sentence for a person.
    pub sentence: String,
}

impl Refused {
    /// Reads an answer's line, if it is an `ERROR`.
    pub(super) fn parse(line: &[u8]) -> Option<Refused> {
        let mut text = Vec::new();
        write_visible(&mut text, line.strip_prefix(b"ERROR ")?);
        let text = String::from_utf8(text).expect("visible text is UTF-8");
        let (code, sentence) = text.split_once(' ').unwrap_or((&text, ""));
        Some(Refused { code: code.into(), sentence: sentence.into() })
    }

    /// A number among the fields in front of the sentence, such as `first:3`.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        field(self.sentence.as_bytes(), name).and_then(crate::log::record::parse_u63)
    }
}

/// A broker in this process refuses in the words of the text protocol.
impl From<broker::Error> for Refused {
    fn from(error: broker::Error) -> Refused {
        let Refusal { code, text } = error.into();
        Refused { code: code.into(), sentence: text }
    }
}

impl From<broker::Error> for Error {
    fn from(error: broker::Error) -> Error {
        Error::Refused(error.into())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ERROR {} {}", self.code, self.sentence)
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
            Error::Answer(what) => write!(f, "this is no plainlog broker, or a newer one: {what}"),
            Error::Invalid(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_line_gives_code_fields_and_sentence() {
        let refused = Refused::parse(b"ERROR OFFSET_OUT_OF_RANGE first:3 end:9 offset 1 is gone; try 3").unwrap();
        assert_eq!(refused.code, "OFFSET_OUT_OF_RANGE");
        assert_eq!((refused.number("first"), refused.number("end"), refused.number("next")), (Some(3), Some(9), None));
        assert_eq!(refused.to_string(), "ERROR OFFSET_OUT_OF_RANGE first:3 end:9 offset 1 is gone; try 3");
        assert_eq!(Refused::parse(b"ACK offset:1"), None);
    }

    #[test]
    fn a_sentence_steers_no_terminal() {
        assert_eq!(Refused::parse(b"ERROR X \x1b[2J").unwrap().sentence, "\\x1b[2J");
    }
}

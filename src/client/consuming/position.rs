//! Where to begin reading.

use crate::{broker, protocol};
use std::{fmt, sync::Arc};

/// Topic, partition, and an offset in it.
pub(crate) type PartitionOffset = (Arc<str>, u32, u64);

/// A place in every partition that is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Position {
    /// The first record there is.
    Earliest,
    /// Behind the last record: only what comes.
    Latest,
    /// This offset.
    Offset(u64),
    /// This many records before the end.
    BeforeEnd(u64),
    /// The first record at or after this time, in milliseconds since 1970-01-01 UTC.
    Time(u64),
}

/// As the protocol writes it.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Earliest => f.write_str("earliest"),
            Position::Latest => f.write_str("latest"),
            Position::Offset(offset) => write!(f, "{offset}"),
            Position::BeforeEnd(count) => write!(f, "-{count}"),
            Position::Time(ms) => write!(f, "time:{ms}"),
        }
    }
}

impl From<Position> for broker::Position {
    fn from(position: Position) -> Self {
        match position {
            Position::Earliest => Self::Earliest,
            Position::Latest => Self::Latest,
            Position::Offset(offset) => Self::At(offset),
            Position::BeforeEnd(count) => Self::BeforeEnd(count),
            Position::Time(ms) => Self::Time(ms as i64),
        }
    }
}

impl Position {
    /// As people write it: `earliest`, `latest`, `N`, `-N`, `15m` (so long ago), `2026-11-20T12:00:00Z`.
    pub fn parse(text: &str) -> Result<Position, String> {
        protocol::position::parse(text).map(Position::from)
    }
}

impl From<broker::Position> for Position {
    fn from(position: broker::Position) -> Self {
        match position {
            broker::Position::Earliest => Self::Earliest,
            broker::Position::Latest => Self::Latest,
            broker::Position::At(offset) => Self::Offset(offset),
            broker::Position::BeforeEnd(count) => Self::BeforeEnd(count),
            broker::Position::Time(ms) => Self::Time(ms.max(0) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_written_as_the_protocol_has_them() {
        for (text, word) in [("earliest", "earliest"), ("latest", "latest"), ("42", "42"), ("-5", "-5")] {
            assert_eq!(Position::parse(text).unwrap().to_string(), word);
        }
        assert_eq!(Position::Time(7).to_string(), "time:7");
    }
}

//! Where to begin reading.

use crate::{broker, config};
use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

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
        let number = |digits: &str| crate::log::record::parse_u63(digits.as_bytes());
        match text {
            "earliest" => return Ok(Position::Earliest),
            "latest" => return Ok(Position::Latest),
            _ => {}
        }
        if let Some(offset) = number(text) {
            return Ok(Position::Offset(offset));
        }
        if let Some(count) = text.strip_prefix('-').and_then(number) {
            return Ok(Position::BeforeEnd(count));
        }
        if let Ok(ago) = config::duration(text) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            return Ok(Position::Time(now.saturating_sub(ago).as_millis() as u64));
        }
        date(text)
    }
}

#[cfg(feature = "comfort")]
fn date(text: &str) -> Result<Position, String> {
    let time = text.parse::<jiff::Timestamp>().ok().and_then(|time| u64::try_from(time.as_millisecond()).ok());
    let expected = "earliest, latest, an offset, -N, a time ago such as 15m, or a date such as 2026-11-20T12:00:00Z";
    time.map(Position::Time).ok_or_else(|| format!("'{text}' is not {expected}"))
}

#[cfg(not(feature = "comfort"))]
fn date(text: &str) -> Result<Position, String> {
    let expected = "earliest, latest, an offset, -N, or a time ago such as 15m";
    Err(format!("'{text}' is not {expected}; dates need the feature 'comfort', which this build was made without"))
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

    #[test]
    fn a_time_ago_counts_from_now() {
        let Position::Time(hour_ago) = Position::parse("1h").unwrap() else { panic!("a time") };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        assert!((now - 3_660_000..=now - 3_600_000).contains(&hour_ago));
    }

    #[test]
    fn what_is_no_position_says_what_is() {
        for text in ["", "-", "first", "--5", "-1s", "99999999999999999999", "2026-11-20", "1960-01-01T00:00:00Z"] {
            assert!(Position::parse(text).unwrap_err().contains("is not earliest, latest, an offset"), "{text}");
        }
    }

    #[cfg(feature = "comfort")]
    #[test]
    fn dates_have_a_time_and_a_zone() {
        assert_eq!(Position::parse("2026-11-20T12:00:00Z"), Ok(Position::Time(1_795_176_000_000)));
        assert_eq!(Position::parse("2026-11-20T13:00:00+01:00"), Ok(Position::Time(1_795_176_000_000)));
    }

    #[cfg(not(feature = "comfort"))]
    #[test]
    fn dates_name_the_feature_that_reads_them() {
        assert!(Position::parse("2026-11-20T12:00:00Z").unwrap_err().contains("feature 'comfort'"));
    }
}

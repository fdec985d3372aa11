//! Positions as people write them, on a command line or in an address.

use crate::{broker::Position, config, log::record::parse_u63};
use std::time::{SystemTime, UNIX_EPOCH};

/// `earliest`, `latest`, `N`, `-N`, `15m` (so long ago), `2026-11-20T12:00:00Z`. An error is a sentence for whoever wrote it.
pub fn parse(text: &str) -> Result<Position, String> {
    let number = |digits: &str| parse_u63(digits.as_bytes());
    match text {
        "earliest" => return Ok(Position::Earliest),
        "latest" => return Ok(Position::Latest),
        _ => {}
    }
    if let Some(offset) = number(text) {
        return Ok(Position::At(offset));
    }
    if let Some(count) = text.strip_prefix('-').and_then(number) {
        return Ok(Position::BeforeEnd(count));
    }
    if let Ok(ago) = config::duration(text) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        return Ok(Position::Time(now.saturating_sub(ago).as_millis() as i64));
    }
    date(text)
}

#[cfg(any(feature = "comfort", feature = "http"))]
fn date(text: &str) -> Result<Position, String> {
    let time = text.parse::<jiff::Timestamp>().ok().map(|time| time.as_millisecond()).filter(|time| *time >= 0);
    let expected = "earliest, latest, an offset, -N, a time ago such as 15m, or a date such as 2026-11-20T12:00:00Z";
    time.map(Position::Time).ok_or_else(|| format!("'{text}' is not {expected}"))
}

#[cfg(not(any(feature = "comfort", feature = "http")))]
fn date(text: &str) -> Result<Position, String> {
    let expected = "earliest, latest, an offset, -N, or a time ago such as 15m";
    Err(format!("'{text}' is not {expected}; dates need the feature 'comfort', which this build was made without"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_people_write_them() {
        for (text, position) in [
            ("earliest", Position::Earliest),
            ("latest", Position::Latest),
            ("42", Position::At(42)),
            ("-5", Position::BeforeEnd(5)),
        ] {
            assert_eq!(parse(text), Ok(position));
        }
    }

    #[test]
    fn a_time_ago_counts_from_now() {
        let Position::Time(hour_ago) = parse("1h").unwrap() else { panic!("a time") };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        assert!((now - 3_660_000..=now - 3_600_000).contains(&hour_ago));
    }

    #[test]
    fn what_is_no_position_says_what_is() {
        for text in ["", "-", "first", "--5", "-1s", "99999999999999999999", "2026-11-20", "1960-01-01T00:00:00Z"] {
            assert!(parse(text).unwrap_err().contains("is not earliest, latest, an offset"), "{text}");
        }
    }

    #[cfg(any(feature = "comfort", feature = "http"))]
    #[test]
    fn dates_have_a_time_and_a_zone() {
        assert_eq!(parse("2026-11-20T12:00:00Z"), Ok(Position::Time(1_795_176_000_000)));
        assert_eq!(parse("2026-11-20T13:00:00+01:00"), Ok(Position::Time(1_795_176_000_000)));
    }

    #[cfg(not(any(feature = "comfort", feature = "http")))]
    #[test]
    fn dates_name_the_feature_that_reads_them() {
        assert!(parse("2026-11-20T12:00:00Z").unwrap_err().contains("feature 'comfort'"));
    }
}

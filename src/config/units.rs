//! Sizes and times as people write them, on command lines and in settings.
//!
//! ```text
//! 500ms 30s 15m 12h 7d     a plain number is milliseconds
//! 64KiB 1GiB 1MB           a plain number is bytes; KiB is 1024, KB is 1000
//! ```
//!
//! Whole numbers only: `90m`, not `1.5h`. An error is a sentence for the person who typed the value.

use std::time::Duration;

const TIMES: [(&str, u64); 6] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("", 1)];

const SIZES: [(&str, u64); 10] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
    ("", 1),
];

/// A time: `500ms`, `30s`, `15m`, `12h`, `7d`, or milliseconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    scaled(text, &TIMES, "a time such as 500ms, 30s, 15m, 12h or 7d").map(Duration::from_millis)
}

/// A size: `64KiB`, `1GiB`, `1MB`, or bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    scaled(text, &SIZES, "a size such as 512, 64KiB, 1GiB or 1MB")
}

fn scaled(text: &str, units: &[(&str, u64)], expected: &str) -> Result<u64, String> {
    let unit_at = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor);
    let (Some(factor), false) = (factor, digits.is_empty()) else {
        return Err(format!("'{text}' is not {expected}"));
    };
    let product = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
    // 2^63-1 is the largest number of the protocol and of Kafka's settings.
    product.filter(|&product| product <= i64::MAX as u64).ok_or_else(|| format!("'{text}' is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_take_units() {
        for (text, ms) in [("0", 0), ("250", 250), ("500ms", 500), ("30s", 30_000), ("15m", 900_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(duration("12h"), Ok(Duration::from_secs(12 * 3600)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 24 * 3600)));
    }

    #[test]
    fn sizes_take_binary_and_decimal_units() {
        for (text, size) in [("0", 0), ("512", 512), ("7B", 7), ("64KiB", 65536), ("1MB", 1_000_000)] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        assert_eq!((bytes("1GiB"), bytes("2TiB")), (Ok(1 << 30), Ok(2 << 40)));
    }

    #[test]
    fn what_is_no_quantity_says_what_would_be() {
        for text in ["", "s", "-1s", "1.5h", "1 s", "1S", "1w", "30 s"] {
            assert_eq!(duration(text), Err(format!("'{text}' is not a time such as 500ms, 30s, 15m, 12h or 7d")));
        }
        for text in ["", "KiB", "1kib", "1K", "-1", "1 MB"] {
            assert_eq!(bytes(text), Err(format!("'{text}' is not a size such as 512, 64KiB, 1GiB or 1MB")));
        }
    }

    #[test]
    fn what_exceeds_63_bits_is_too_large() {
        assert_eq!(bytes("9223372036854775807"), Ok(i64::MAX as u64));
        for text in ["9223372036854775808", "99999999TiB", "99999999999999999999999"] {
            assert_eq!(bytes(text), Err(format!("'{text}' is too large")));
        }
        assert_eq!(duration("9999999999999999d"), Err("'9999999999999999d' is too large".into()));
    }
}

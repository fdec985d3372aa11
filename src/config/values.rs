//! The types of settings: how each is read from what people and clients write, and its canonical form.
//!
//! Values are read as Kafka reads them, and kept, told and written to files in one form:
//!
//! | type | read | canonical |
//! | --- | --- | --- |
//! | number | `+07`, ` 7 ` | `7` |
//! | ratio | `.25`, `25e-2`, `0x1p-2`, `0.25f` | `0.25` |
//! | switch | `TRUE` | `true` |
//! | choice | ` gzip ` | `gzip` |
//! | list | `compact , delete` | `compact,delete` |
//!
//! A canonical form reads as itself and holds no control character, so it can stand in a file of lines.

use std::ops::RangeInclusive;

/// Java's `String.trim`: control characters and spaces, not U+00A0.
const JAVA_TRIMS: fn(char) -> bool = |char| char <= ' ';

/// What kind of value a setting takes, by Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `true` or `false`.
    Boolean,
    /// One of a few words.
    String,
    /// A number of 32 bits.
    Int,
    /// A number of 64 bits.
    Long,
    /// A number with a fraction.
    Double,
    /// Words with commas between.
    List,
}

/// A type that a setting can have.
pub(super) trait Value: Sized {
    const TYPE: Type;

    /// Reads trimmed text; `None` if it is no such value or out of `range`.
    fn parse(text: &str, range: &RangeInclusive<i64>) -> Option<Self>;

    /// The form that is kept and told.
    fn canonical(&self) -> String;

    /// What a value can be, to complete "it takes ...".
    fn takes(range: &RangeInclusive<i64>) -> String;
}

/// Reads a value as Kafka does; an error says what it takes.
pub(super) fn read<T: Value>(text: &str, range: &RangeInclusive<i64>) -> Result<T, String> {
    T::parse(text.trim_matches(JAVA_TRIMS), range).ok_or_else(|| T::takes(range))
}

macro_rules! numbers {
    ($($number:ty, $type:expr;)*) => {$(
        impl Value for $number {
            const TYPE: Type = $type;

            fn parse(text: &str, range: &RangeInclusive<i64>) -> Option<$number> {
                let number = text.parse::<i64>().ok()?;
                range.contains(&number).then(|| <$number>::try_from(number).ok())?
            }

            fn canonical(&self) -> String {
                self.to_string()
            }

            fn takes(range: &RangeInclusive<i64>) -> String {
                format!("a number from {} to {}", range.start(), range.end())
            }
        }
    )*};
}

numbers! {
    i32, Type::Int;
    u32, Type::Int;
    i64, Type::Long;
}

impl Value for bool {
    const TYPE: Type = Type::Boolean;

    fn parse(text: &str, _: &RangeInclusive<i64>) -> Option<bool> {
        [true, false].into_iter().find(|choice| text.eq_ignore_ascii_case(&choice.to_string()))
    }

    fn canonical(&self) -> String {
        self.to_string()
    }

    fn takes(_: &RangeInclusive<i64>) -> String {
        "true or false".into()
    }
}

impl Value for f64 {
    const TYPE: Type = Type::Double;

    fn parse(text: &str, range: &RangeInclusive<i64>) -> Option<f64> {
        let number = java_double(text)?;
        // Kafka takes NaN for every range.
        (number.is_nan() || (*range.start() as f64..=*range.end() as f64).contains(&number)).then_some(number)
    }

    fn canonical(&self) -> String {
        shown_as_java_does(*self)
    }

    fn takes(range: &RangeInclusive<i64>) -> String {
        format!("a number from {} to {}, such as 0.5", range.start(), range.end())
    }
}

/// A value that is one of a few words, each of which is written as it stands here.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident: $type:expr, $parsed:expr, $takes:literal, { $($variant:ident $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`")] $variant,)*
        }

        impl $crate::config::values::Value for $name {
            const TYPE: $crate::config::Type = $type;

            fn parse(text: &str, _: &std::ops::RangeInclusive<i64>) -> Option<$name> {
                let word: String = $parsed(text);
                match word.as_str() {
                    $($word => Some($name::$variant),)*
                    _ => None,
                }
            }

            fn canonical(&self) -> String {
                match self {
                    $($name::$variant => $word.into(),)*
                }
            }

            fn takes(_: &std::ops::RangeInclusive<i64>) -> String {
                $takes.into()
            }
        }
    };
}

pub(super) use choices;

choices! {
    /// Whether records keep the time that their producer gave.
    TimestampType: Type::String, str::to_owned, "CreateTime or LogAppendTime", {
        CreateTime "CreateTime",
        LogAppendTime "LogAppendTime",
    }
}

choices! {
    /// The codec in which Kafka clients get records.
    CompressionType: Type::String, str::to_owned, "uncompressed, zstd, lz4, snappy, gzip or producer", {
        Uncompressed "uncompressed",
        Zstd "zstd",
        Lz4 "lz4",
        Snappy "snappy",
        Gzip "gzip",
        Producer "producer",
    }
}

choices! {
    /// What is removed in the background: a list, whose order is kept.
    CleanupPolicy: Type::List, policies, "delete, compact, both with a comma between, or nothing", {
        Nothing "",
        Delete "delete",
        Compact "compact",
        CompactDelete "compact,delete",
        DeleteCompact "delete,compact",
    }
}

/// Each policy once. A list with an empty word, such as `delete,`, stays as it is and is none.
fn policies(text: &str) -> String {
    let words = words(text);
    if words.contains(&"") { text.into() } else { without_repeats(words).join(",") }
}

impl CleanupPolicy {
    /// Whether whole old segments go.
    pub fn deletes(self) -> bool {
        matches!(self, CleanupPolicy::Delete | CleanupPolicy::CompactDelete | CleanupPolicy::DeleteCompact)
    }

    /// Whether only the latest record of each key stays.
    pub fn compacts(self) -> bool {
        matches!(self, CleanupPolicy::Compact | CleanupPolicy::CompactDelete | CleanupPolicy::DeleteCompact)
    }
}

/// Replicas to throttle: `*`, or partition and broker of each, as in `0:1,1:1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThrottledReplicas(String);

impl Value for ThrottledReplicas {
    const TYPE: Type = Type::List;

    fn parse(text: &str, _: &RangeInclusive<i64>) -> Option<ThrottledReplicas> {
        let words: Vec<&str> = words(text).into_iter().map(|word| word.trim_matches(JAVA_TRIMS)).collect();
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_replica = |word: &&str| {
            // Kafka takes empty words.
            word.is_empty() || word.split_once(':').is_some_and(|(p, broker)| is_number(p) && is_number(broker))
        };
        (words.concat() == "*" || words.iter().all(is_replica)).then(|| ThrottledReplicas(words.join(",")))
    }

    fn canonical(&self) -> String {
        self.0.clone()
    }

    fn takes(_: &RangeInclusive<i64>) -> String {
        "'*' or partition:broker of each replica with commas between".into()
    }
}

/// The words of a list, as Kafka splits them: at commas, with white space around these. An empty text has none.
pub(super) fn words(text: &str) -> Vec<&str> {
    let white = |char: char| matches!(char, ' ' | '\t'..='\r');
    match text.trim_matches(JAVA_TRIMS) {
        "" => Vec::new(),
        text => text.split(',').map(|word| word.trim_matches(white)).collect(),
    }
}

/// Each word once, where it stood first.
pub(super) fn without_repeats(words: Vec<&str>) -> Vec<&str> {
    let first = |(index, word): &(usize, &&str)| !words[..*index].contains(word);
    words.iter().enumerate().filter(first).map(|(_, word)| *word).collect()
}

/// Java's `Double.parseDouble`: decimal or hexadecimal, with or without one of the suffixes `f` and `d`.
fn java_double(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    let digits = unsigned.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(unsigned);
    let number = match unsigned {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        _ if digits.starts_with("0x") || digits.starts_with("0X") => hexadecimal(&digits[2..])?,
        // Rust knows more words than numbers, and a second sign is none.
        _ if digits.starts_with(|char: char| char.is_ascii_digit() || char == '.') => digits.parse().ok()?,
        _ => return None,
    };
    Some(sign * number)
}

/// `1.8p-1`: hexadecimal digits, and an exponent of two, which must be there.
fn hexadecimal(text: &str) -> Option<f64> {
    let (digits, power) = text.split_once(['p', 'P'])?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if power.is_empty() || whole.len() + fraction.len() == 0 {
        return None;
    }
    let (mut mantissa, mut exponent) = (0u64, 0i64);
    for (index, digit) in whole.chars().chain(fraction.chars()).enumerate() {
        let digit = u64::from(digit.to_digit(16)?);
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | digit;
            exponent -= if index < whole.len() { 0 } else { 4 };
        } else {
            // Too small to be seen, save that it breaks a tie.
            mantissa |= u64::from(digit != 0);
            exponent += if index < whole.len() { 4 } else { 0 };
        }
    }
    let unsigned = power.strip_prefix(['+', '-']).unwrap_or(power);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = unsigned.parse().unwrap_or(i64::from(i32::MAX)).min(i64::from(i32::MAX));
    exponent += if power.starts_with('-') { -size } else { size };
    // In two steps, since 2^-1074 is a number and its inverse is none.
    let exponent = exponent.clamp(-4000, 4000) as i32;
    Some(mantissa as f64 * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2))
}

/// Java's `Double.toString`: the fewest digits that read as the same number, but one behind the point at least.
fn shown_as_java_does(number: f64) -> String {
    if number.is_nan() {
        return "NaN".into();
    }
    if number == 0.0 || (1e-3..1e7).contains(&number.abs()) {
        let text = number.to_string();
        return if text.contains('.') { text } else { format!("{text}.0") };
    }
    let text = format!("{number:e}");
    // Of two digits the nearest, not the shortest and a zero.
    let text = if text.contains('.') { text } else { format!("{number:.1e}") };
    text.replace('e', "E")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATIO: RangeInclusive<i64> = 0..=1;
    const ANY: RangeInclusive<i64> = i64::MIN..=i64::MAX;

    fn canonical<T: Value>(text: &str, range: &RangeInclusive<i64>) -> Option<String> {
        read::<T>(text, range).ok().map(|value| value.canonical())
    }

    /// Both columns were asked of Apache Kafka 4.3.1, which told the right one in DescribeConfigs, or refused the left one.
    #[test]
    fn ratios_are_read_and_told_as_kafka_does() {
        for (text, told) in [
            (".25", "0.25"),
            ("25e-2", "0.25"),
            ("1", "1.0"),
            ("1.", "1.0"),
            ("0.3f", "0.3"),
            ("0.5D", "0.5"),
            ("+.5e+0", "0.5"),
            ("\u{1}0.5\u{2}", "0.5"),
            ("0x1p-1", "0.5"),
            ("0x1.p-1", "0.5"),
            ("0x.8p0", "0.5"),
            ("0X1.8P-1f", "0.75"),
            ("0x1.000000000000008p-1", "0.5"),
            ("0x1.0000000000000800001p-1", "0.5000000000000001"),
            ("0x0.00000000000000000000000001p3", "3.944304526105059E-31"),
            ("0x1p-1074", "4.9E-324"),
            ("0x1p-99999999999", "0.0"),
            ("NaN", "NaN"),
            ("-NaN", "NaN"),
            ("-0.0", "-0.0"),
            ("-0x0p0", "-0.0"),
            ("0.001", "0.001"),
            ("0.000999", "9.99E-4"),
            ("1e-9", "1.0E-9"),
            ("1.23456789e-5", "1.23456789E-5"),
            ("2.0E-3", "0.002"),
            ("2e-323", "2.0E-323"),
            ("2.2e-322", "2.2E-322"),
            ("4.9e-324", "4.9E-324"),
            ("2.2250738585072014E-308", "2.2250738585072014E-308"),
            ("0.30000000000000004", "0.30000000000000004"),
            ("0.8000000000000000444089209850062616169452667236328125", "0.8"),
            ("1e-400", "0.0"),
            ("1e-99999999999999999999", "0.0"),
            ("0e99999999999999999999", "0.0"),
        ] {
            assert_eq!(canonical::<f64>(text, &RATIO).as_deref(), Some(told), "{text}");
        }
        for text in [
            "",
            "2",
            "-1",
            "Infinity",
            "inf",
            "infinity",
            "nan",
            "f",
            ".",
            "0.1e",
            "0.5 f",
            "0.5ff",
            "0_5",
            "0x1",
            "0x1p",
            "0x.p1",
            "0xp1",
            "--1",
            "+-1",
            "0x1p+",
            "0x1p-+1",
            "0x1.2.3p0",
            "1e0000000000000000000001",
            "\u{a0}1",
        ] {
            assert_eq!(canonical::<f64>(text, &RATIO), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_read_as_java_reads_them() {
        for (text, told) in [
            (" 2000000 ", "2000000"),
            ("+2000000", "2000000"),
            ("02000000", "2000000"),
            ("-0", "0"),
            ("-01", "-1"),
            ("\u{0}5", "5"),
        ] {
            assert_eq!(canonical::<i64>(text, &ANY).as_deref(), Some(told), "{text:?}");
        }
        for text in
            ["", " ", "\u{a0}5", "\u{7f}5", "2_000", "0x10", "5L", "1e3", "1.0", "--5", "+", "9223372036854775808"]
        {
            assert_eq!(canonical::<i64>(text, &ANY), None, "{text:?}");
        }
        assert_eq!(canonical::<u32>("2147483648", &(0..=2147483647)), None);
        assert_eq!(canonical::<i32>("-131072", &(-131072..=22)).as_deref(), Some("-131072"));
    }

    #[test]
    fn words_are_read_in_one_case_and_switches_in_any() {
        assert_eq!(canonical::<bool>(" TRUE\n", &ANY).as_deref(), Some("true"));
        assert_eq!(canonical::<bool>("yes", &ANY), None);
        assert_eq!(canonical::<CompressionType>(" gzip\t", &ANY).as_deref(), Some("gzip"));
        assert_eq!(canonical::<CompressionType>("GZIP", &ANY), None);
        assert_eq!(canonical::<TimestampType>("LogAppendTime\n", &ANY).as_deref(), Some("LogAppendTime"));
    }

    #[test]
    fn lists_are_trimmed_word_by_word_and_keep_their_order() {
        for (text, told) in [
            ("compact , delete", "compact,delete"),
            ("compact,\ndelete", "compact,delete"),
            ("delete,compact,delete", "delete,compact"),
            ("delete,delete", "delete"),
            ("compact\n", "compact"),
            ("\u{1}compact\u{1f}", "compact"),
            (" ", ""),
        ] {
            assert_eq!(canonical::<CleanupPolicy>(text, &ANY).as_deref(), Some(told), "{text:?}");
        }
        for text in [",", "delete,", ",delete", "delete,,compact", "Delete", "compact\u{1},delete", "compact\u{a0}"] {
            assert_eq!(canonical::<CleanupPolicy>(text, &ANY), None, "{text:?}");
        }
        for (text, told) in [
            ("*", "*"),
            (" 0:1,\t1:1", "0:1,1:1"),
            ("0:1,0:1", "0:1,0:1"),
            ("0:1,", "0:1,"),
            ("*,", "*,"),
            ("0:1\u{1},1:1", "0:1,1:1"),
        ] {
            assert_eq!(canonical::<ThrottledReplicas>(text, &ANY).as_deref(), Some(told), "{text:?}");
        }
        for text in ["none", "0:1,*", "**", "*,*", "a:b", "0:-1", "0: 1", "0:", ":"] {
            assert_eq!(canonical::<ThrottledReplicas>(text, &ANY), None, "{text:?}");
        }
    }
}

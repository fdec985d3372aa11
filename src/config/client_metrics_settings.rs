//! The settings of a subscription to the metrics of clients (KIP-714), with Kafka's names, bounds and defaults.

use super::{
    Described, Setting, Type,
    settings::{optional, range, settings},
    values::{Value, words},
};
use std::ops::RangeInclusive;

settings! {
    /// The settings of a subscription to the metrics of clients.
    ClientMetricsSettings,
    /// Every setting of such a subscription, by name.
    CLIENT_METRICS_SETTINGS;
    "interval.ms", interval_ms: i32 [100..=3_600_000] => 300_000,
        "how often the clients would be asked for them";
    "match", clients: ClientPatterns => ClientPatterns::default(),
        "which clients are meant, by patterns such as client_id=web.*";
    "metrics", metrics: MetricPrefixes => MetricPrefixes::default(),
        "what the names of the metrics begin with";
}

impl Described for ClientMetricsSettings {
    const OF: &'static str = "client metrics";
    const ROWS: &'static [Setting<ClientMetricsSettings>] = CLIENT_METRICS_SETTINGS;
}

/// Prefixes of names, with commas between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricPrefixes(String);

impl Value for MetricPrefixes {
    const TYPE: Type = Type::List;

    fn parse(text: &str, _: &RangeInclusive<i64>) -> Option<MetricPrefixes> {
        let is_plain = !text.contains(char::is_control);
        is_plain.then(|| MetricPrefixes(words(text).join(",")))
    }

    fn canonical(&self) -> String {
        self.0.clone()
    }

    fn takes(_: &RangeInclusive<i64>) -> String {
        "names with commas between".into()
    }
}

/// What clients say of themselves, and a pattern for each, with commas between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientPatterns(String);

impl Value for ClientPatterns {
    const TYPE: Type = Type::List;

    fn parse(text: &str, _: &RangeInclusive<i64>) -> Option<ClientPatterns> {
        /// More than anybody needs to name clients by, since each is compiled.
        const PATTERNS_MAX: usize = 32;
        const KNOWN: [&str; 6] = [
            "client_id",
            "client_instance_id",
            "client_software_name",
            "client_software_version",
            "client_source_address",
            "client_source_port",
        ];
        let is_one = |word: &&str| {
            word.split_once('=')
                .is_some_and(|(name, pattern)| KNOWN.contains(&name.trim()) && is_pattern(pattern.trim()))
        };
        let words = words(text);
        if words.len() > PATTERNS_MAX {
            return None;
        }
        let good = words.iter().all(is_one) && !text.contains(char::is_control);
        good.then(|| ClientPatterns(words.join(",")))
    }

    fn canonical(&self) -> String {
        self.0.clone()
    }

    fn takes(_: &RangeInclusive<i64>) -> String {
        "client_id=, client_software_name= and the like, each with a pattern behind it, and commas between".into()
    }
}

/// The most memory that a pattern may take once it is compiled: a short one can ask for much.
#[cfg(feature = "kafka")]
const PATTERN_BYTES_MAX: usize = 256 << 10;

#[cfg(feature = "kafka")]
fn is_pattern(text: &str) -> bool {
    regex::RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build().is_ok()
}

/// Without Kafka's protocol no client is asked for metrics, so nothing goes by it.
#[cfg(not(feature = "kafka"))]
fn is_pattern(_: &str) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_meant_by_patterns() {
        let set = |name: &str, value: &str| ClientMetricsSettings::default().set(name, value).map(drop);
        for value in ["client_id=x.*", "client_id=x , client_source_port=9[0-9]+", ""] {
            assert_eq!(set("match", value), Ok(()), "{value}");
        }
        for value in ["planet=x", "client_id", "client_id=x,,"] {
            assert!(set("match", value).is_err(), "{value}");
        }
        assert_eq!(set("match", "client_id=[").is_err(), cfg!(feature = "kafka"));
        assert_eq!([set("interval.ms", "99").is_err(), set("nonsense", "1").is_err()], [true, true]);
    }
}

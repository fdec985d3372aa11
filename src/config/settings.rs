//! Topic settings: Kafka's 33, with its names, types, ranges and defaults, in one table.
//!
//! A row is all there is to say of a setting. From it come the field of [`Settings`] and its default, parsing and canonical
//! form, DescribeConfigs with types, synonyms and documentation, HELP, and the list in the documentation of [`crate::config`].
//! Other things that have settings have such a table, too: [`Described`] is what they have in common.

use super::{
    Flush,
    values::{CleanupPolicy, CompressionType, ThrottledReplicas, TimestampType, Type},
};
use std::{collections::BTreeMap, time::Duration};

/// A row of the table: what is known of a setting, and how it is read and told.
#[derive(Debug)]
pub struct Setting<S: 'static = Settings> {
    /// Its name, which is Kafka's.
    pub name: &'static str,
    /// The kind of its values.
    pub kind: Type,
    /// Kafka's name for a broker's default of it.
    pub of_broker: Option<&'static str>,
    /// What it is, in one sentence without a full stop.
    pub what: &'static str,
    pub(super) takes: fn() -> String,
    pub(super) set: fn(&mut S, &str) -> Result<(), String>,
    pub(super) get: fn(&S) -> String,
}

impl<S: Described> Setting<S> {
    /// The setting of this name.
    pub fn named(name: &str) -> Option<&'static Setting<S>> {
        S::ROWS.iter().find(|setting| setting.name == name)
    }

    /// What its values are, to complete "it takes ...".
    pub fn takes(&self) -> String {
        (self.takes)()
    }

    /// Its value among these, in canonical form.
    pub fn value(&self, settings: &S) -> String {
        (self.get)(settings)
    }
}

/// Settings that a table describes.
pub trait Described: Clone + Default + 'static {
    /// What has them, in a word.
    const OF: &'static str;
    /// The table.
    const ROWS: &'static [Setting<Self>];

    /// What no row can say by itself.
    fn check_together(&self) -> Result<(), String> {
        Ok(())
    }

    /// Sets one by name and answers its row. An error says what is wrong with the name or the value.
    fn set(&mut self, name: &str, value: &str) -> Result<&'static Setting<Self>, String> {
        let setting = Setting::named(name).ok_or_else(|| unknown::<Self>(name))?;
        let set = (setting.set)(self, value);
        set.map_err(|takes| format!("{name} cannot be '{}'; it takes {takes}", shown(value)))?;
        Ok(setting)
    }

    /// These defaults with settings of one's own over them.
    fn with(&self, overrides: &Overrides) -> Result<Self, String> {
        // As in Kafka, an unknown name is reported before a wrong value.
        if let Some(name) = overrides.keys().find(|name| Setting::<Self>::named(name).is_none()) {
            return Err(unknown::<Self>(name));
        }
        let mut settings = self.clone();
        overrides.iter().try_for_each(|(name, value)| settings.set(name, value).map(drop))?;
        settings.check_together()?;
        Ok(settings)
    }
}

macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

/// Values that are no numbers have no range.
macro_rules! range {
    () => {
        0..=0
    };
    ($range:expr) => {
        $range
    };
}

macro_rules! settings {
    ($(#[$doc:meta])* $struct:ident, $(#[$table_doc:meta])* $seen:vis $table:ident; $($name:literal $(/ $of_broker:literal)?, $field:ident: $type:ty $([$range:expr])? => $default:expr, $what:literal;)*) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $struct {
            $(#[doc = concat!("`", $name, "`: ", $what, ".")] pub $field: $type,)*
        }

        impl Default for $struct {
            fn default() -> $struct {
                $struct { $($field: $default,)* }
            }
        }

        $(#[$table_doc])*
        $seen static $table: &[$crate::config::Setting<$struct>] = &[$(
            $crate::config::Setting {
                name: $name,
                kind: <$type as $crate::config::values::Value>::TYPE,
                of_broker: optional!($($of_broker)?),
                what: $what,
                takes: || <$type as $crate::config::values::Value>::takes(&range!($($range)?)),
                set: |settings, text| {
                    $crate::config::values::read(text, &range!($($range)?)).map(|value| settings.$field = value)
                },
                get: |settings| $crate::config::values::Value::canonical(&settings.$field),
            },
        )*];
    };
}

pub(super) use {optional, range, settings};

const INT_MAX: i64 = i32::MAX as i64;
const LONG_MAX: i64 = i64::MAX;
const DAY_MS: i64 = 24 * 3600 * 1000;

settings! {
    /// The settings of a topic, as they take effect.
    Settings,
    /// Every setting of a topic, by name.
    pub SETTINGS;
    "cleanup.policy" / "log.cleanup.policy", cleanup_policy: CleanupPolicy => CleanupPolicy::Delete,
        "what is removed in the background: with delete whole old segments, with compact all but the latest record of each key";
    "compression.gzip.level" / "compression.gzip.level", compression_gzip_level: i32 [-1..=9] => -1,
        "how hard gzip compresses where it is the compression.type, from 1 to 9; -1 is its own default";
    "compression.lz4.level" / "compression.lz4.level", compression_lz4_level: i32 [1..=17] => 9,
        "kept for clients that set it; lz4 has one level here";
    "compression.type" / "compression.type", compression_type: CompressionType => CompressionType::Producer,
        "the codec in which Kafka clients get records; with producer the one in which each batch came, as --fetch-compression says";
    "compression.zstd.level" / "compression.zstd.level", compression_zstd_level: i32 [-131_072..=22] => 3,
        "how hard zstd compresses where it is the compression.type";
    "delete.retention.ms" / "log.cleaner.delete.retention.ms", delete_retention_ms: i64 [0..=LONG_MAX] => DAY_MS,
        "how long compaction keeps a tombstone";
    "file.delete.delay.ms" / "log.segment.delete.delay.ms", file_delete_delay_ms: i64 [0..=LONG_MAX] => 60_000,
        "kept for clients that set it; the files of a removed segment go at once";
    "flush.messages" / "log.flush.interval.messages", flush_messages: i64 [1..=LONG_MAX] => LONG_MAX,
        "1 syncs every record before it is acknowledged, whatever --flush says; other numbers change nothing";
    "flush.ms" / "log.flush.interval.ms", flush_ms: i64 [0..=LONG_MAX] => LONG_MAX,
        "how long a record may wait for its sync; the stricter of this and --flush holds";
    "follower.replication.throttled.replicas", follower_replication_throttled_replicas: ThrottledReplicas => ThrottledReplicas::default(),
        "kept for clients that set it; nothing is replicated";
    "index.interval.bytes" / "log.index.interval.bytes", index_interval_bytes: u32 [0..=INT_MAX] => 4096,
        "kept for clients that set it; every batch has its entry in the index";
    "leader.replication.throttled.replicas", leader_replication_throttled_replicas: ThrottledReplicas => ThrottledReplicas::default(),
        "kept for clients that set it; nothing is replicated";
    "local.retention.bytes" / "log.local.retention.bytes", local_retention_bytes: i64 [-2..=LONG_MAX] => -2,
        "kept for clients that set it; there is no tiered storage";
    "local.retention.ms" / "log.local.retention.ms", local_retention_ms: i64 [-2..=LONG_MAX] => -2,
        "kept for clients that set it; there is no tiered storage";
    "max.compaction.lag.ms" / "log.cleaner.max.compaction.lag.ms", max_compaction_lag_ms: i64 [1..=LONG_MAX] => LONG_MAX,
        "age of a record from which compaction no longer waits for min.cleanable.dirty.ratio";
    "max.message.bytes" / "message.max.bytes", max_message_bytes: u32 [0..=INT_MAX] => 1_048_588,
        "the largest record (key, value and headers together), and the largest batch of a Kafka client";
    "message.timestamp.after.max.ms" / "log.message.timestamp.after.max.ms", message_timestamp_after_max_ms: i64 [0..=LONG_MAX] => 3_600_000,
        "how far the time of a record may lie ahead of the broker's clock; a segment with a later one is as old as its file";
    "message.timestamp.before.max.ms" / "log.message.timestamp.before.max.ms", message_timestamp_before_max_ms: i64 [0..=LONG_MAX] => LONG_MAX,
        "how far the time of a record may lie behind the broker's clock";
    "message.timestamp.type" / "log.message.timestamp.type", message_timestamp_type: TimestampType => TimestampType::CreateTime,
        "whose time a record has: its producer's, or that of its append";
    "min.cleanable.dirty.ratio" / "log.cleaner.min.cleanable.ratio", min_cleanable_dirty_ratio: f64 [0..=1] => 0.5,
        "how much of a log must have been written since it was last compacted before it is compacted again";
    "min.compaction.lag.ms" / "log.cleaner.min.compaction.lag.ms", min_compaction_lag_ms: i64 [0..=LONG_MAX] => 0,
        "age below which compaction leaves records alone; at most max.compaction.lag.ms";
    "min.insync.replicas" / "min.insync.replicas", min_insync_replicas: u32 [1..=INT_MAX] => 1,
        "kept for clients that set it; there is one replica";
    "preallocate" / "log.preallocate", preallocate: bool => false,
        "kept for clients that set it; a segment grows as it is written";
    "remote.log.copy.disable", remote_log_copy_disable: bool => false,
        "kept for clients that set it; there is no tiered storage";
    "remote.log.delete.on.disable", remote_log_delete_on_disable: bool => false,
        "kept for clients that set it; there is no tiered storage";
    "remote.storage.enable", remote_storage_enable: bool => false,
        "false, for there is no tiered storage";
    "retention.bytes" / "log.retention.bytes", retention_bytes: i64 [i64::MIN..=LONG_MAX] => -1,
        "size of a partition above which its oldest segments go; unlimited if it is negative";
    "retention.ms" / "log.retention.ms", retention_ms: i64 [-1..=LONG_MAX] => 7 * DAY_MS,
        "age at which a segment is removed; -1 is never";
    // Kafka begins at 1 MiB; lessons and tests want to see a roll.
    "segment.bytes" / "log.segment.bytes", segment_bytes: u32 [1024..=INT_MAX] => 1 << 30,
        "size at which a segment is sealed and the next one begins";
    "segment.index.bytes" / "log.index.size.max.bytes", segment_index_bytes: u32 [4..=INT_MAX] => 10 << 20,
        "kept for clients that set it; an index is as large as its segment needs";
    "segment.jitter.ms" / "log.roll.jitter.ms", segment_jitter_ms: i64 [0..=LONG_MAX] => 0,
        "a segment is sealed up to so much sooner than segment.ms says, by chance, so that not all are sealed at once";
    "segment.ms" / "log.roll.ms", segment_ms: i64 [1..=LONG_MAX] => 7 * DAY_MS,
        "age at which a segment is sealed and the next one begins";
    "unclean.leader.election.enable" / "unclean.leader.election.enable", unclean_leader_election_enable: bool => false,
        "kept for clients that set it; there is one replica";
}

/// The settings that a topic has of its own, by name and in canonical form; the rest are the broker's defaults.
pub type Overrides = BTreeMap<String, String>;

/// A name or a value that is wrong, as a person may see it: without control characters, and cut.
fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

fn unknown<S: Described>(name: &str) -> String {
    format!("Unknown {} config name: {}", S::OF, shown(name))
}

/// The same settings in canonical form: what may be kept, and written to a file of lines. An error says what is wrong.
pub fn canonical<S: Described>(overrides: &Overrides) -> Result<Overrides, String> {
    let mut scratch = S::default();
    let canonical = |(name, value): (&String, &String)| Ok((name.clone(), scratch.set(name, value)?.value(&scratch)));
    overrides.iter().map(canonical).collect()
}

impl Described for Settings {
    const OF: &'static str = "topic";
    const ROWS: &'static [Setting] = SETTINGS;

    fn check_together(&self) -> Result<(), String> {
        if self.compression_gzip_level == 0 {
            return Err("compression.gzip.level cannot be '0'; it takes -1 or a number from 1 to 9".into());
        }
        let (min, max) = (self.min_compaction_lag_ms, self.max_compaction_lag_ms);
        if min > max {
            return Err(format!("min.compaction.lag.ms ({min}) cannot be above max.compaction.lag.ms ({max})"));
        }
        if self.remote_storage_enable {
            return Err("remote.storage.enable cannot be 'true'; this broker has no tiered storage".into());
        }
        Ok(())
    }
}

impl Settings {
    /// Whether records are stamped with the time of their append.
    pub fn append_time(&self) -> bool {
        self.message_timestamp_type == TimestampType::LogAppendTime
    }

    /// The stricter of the broker's flush mode and `flush.ms`. (`flush.messages` of 1 is `always`.)
    pub fn flush(&self, broker: Flush) -> Flush {
        if broker == Flush::Always || self.flush_messages == 1 || self.flush_ms == 0 {
            return Flush::Always;
        }
        if self.flush_ms == i64::MAX {
            return broker;
        }
        let own = Duration::from_millis(self.flush_ms as u64);
        match broker {
            Flush::Every(time) => Flush::Every(time.min(own)),
            _ => Flush::Every(own),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The table as `settings.md` has it, which is part of the documentation.
    fn settings_table() -> String {
        let mut table = String::from("| setting | default | takes | what it is |\n| --- | --- | --- | --- |\n");
        for setting in SETTINGS {
            let (name, default, takes, what) =
                (setting.name, setting.value(&Settings::default()), setting.takes(), setting.what);
            let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
            table.push_str(&format!("| `{name}` | {default} | {takes} | {what} |\n"));
        }
        table
    }

    #[test]
    fn kafka_has_these_33_and_each_reads_what_it_tells() {
        assert_eq!(SETTINGS.len(), 33);
        assert!(SETTINGS.is_sorted_by_key(|setting| setting.name));
        let defaults = Settings::default();
        for setting in SETTINGS {
            let mut settings = defaults.clone();
            settings.set(setting.name, &setting.value(&defaults)).unwrap();
            assert_eq!(settings, defaults, "{}", setting.name);
        }
    }

    #[test]
    fn the_documentation_has_the_table() {
        assert_eq!(
            include_str!("settings.md"),
            settings_table(),
            "src/config/settings.md must be:\n\n{}",
            settings_table()
        );
    }

    #[test]
    fn a_wrong_value_says_what_is_right() {
        let mut settings = Settings::default();
        let mut refused = |name, value| settings.set(name, value).unwrap_err();
        assert_eq!(
            refused("segment.bytes", "1"),
            "segment.bytes cannot be '1'; it takes a number from 1024 to 2147483647"
        );
        assert!(refused("message.timestamp.type", "x").ends_with("CreateTime or LogAppendTime"));
        assert_eq!(refused("retention\n", "x"), "Unknown topic config name: retention\\n");
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn what_this_broker_cannot_do_or_nobody_can_is_refused_with_the_reason() {
        let refused = |own: &[(&str, &str)]| {
            let own = own.iter().map(|&(name, value)| (name.into(), value.into())).collect();
            Settings::default().with(&own).unwrap_err()
        };
        assert!(refused(&[("remote.storage.enable", "TRUE")]).contains("no tiered storage"));
        assert!(refused(&[("compression.gzip.level", "0")]).contains("-1 or a number from 1 to 9"));
        let lags = refused(&[("max.compaction.lag.ms", "5"), ("min.compaction.lag.ms", "10")]);
        assert_eq!(lags, "min.compaction.lag.ms (10) cannot be above max.compaction.lag.ms (5)");
        let both = refused(&[("a.wrong.value", "x"), ("retention.ms", "x")]);
        assert_eq!(both, "Unknown topic config name: a.wrong.value");
    }

    #[test]
    fn the_stricter_flush_wins() {
        let ms = |ms| Flush::Every(Duration::from_millis(ms));
        let topic = |flush_ms, flush_messages| Settings { flush_ms, flush_messages, ..Settings::default() };
        assert_eq!(topic(500, i64::MAX).flush(Flush::Never), ms(500));
        assert_eq!(topic(500, i64::MAX).flush(ms(100)), ms(100));
        assert_eq!(topic(500, i64::MAX).flush(Flush::Always), Flush::Always);
        assert_eq!(topic(i64::MAX, 1).flush(Flush::Never), Flush::Always);
    }

    /// Pieces of good values between what clients may put around them.
    fn value() -> impl Strategy<Value = String> {
        let good = "[0-9]{1,6}|-?[0-9]{1,3}|0?\\.[0-9]{1,9}(e-?[0-9])?[fd]?|0x\\.?[0-9a-f]{1,20}p-[0-9]{1,3}|true|FALSE|[0-9]:[0-9]|\\*";
        let word = "compact|delete|gzip|zstd|lz4|snappy|producer|uncompressed|CreateTime|LogAppendTime|NaN";
        let around = "[\\x00-\\x20\\x7f\u{85}\u{a0}\u{2028}]{0,2}";
        let piece = (around, prop_oneof![good, word, "\\PC{0,3}"], around).prop_map(|(a, b, c)| format!("{a}{b}{c}"));
        proptest::collection::vec(piece, 0..3).prop_map(|pieces| pieces.join(","))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

        /// A value with a line break once went into the `topic` file as it came, and the topic was lost at the next start.
        #[test]
        fn a_canonical_form_reads_as_itself_and_stands_on_one_line(index in 0..SETTINGS.len(), value in value()) {
            let own = Overrides::from([(SETTINGS[index].name.to_string(), value)]);
            if let Ok(kept) = canonical::<Settings>(&own) {
                prop_assert_eq!(&canonical::<Settings>(&kept).unwrap(), &kept);
                for value in kept.values() {
                    prop_assert!(!value.contains(char::is_control), "{:?}", value);
                    prop_assert_eq!(value.trim(), value);
                    prop_assert!(value.is_ascii());
                }
            }
        }
    }
}

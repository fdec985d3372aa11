//! Topic settings: Kafka's names, values and ranges, in one table.

use super::Flush;
use std::{collections::BTreeMap, time::Duration};

/// The settings of a topic, as they take effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `retention.ms`: age at which a segment goes; -1: never.
    pub retention_ms: i64,
    /// `retention.bytes`: size above which old segments go; -1: unlimited.
    pub retention_bytes: i64,
    /// `segment.bytes`: size at which a segment is sealed.
    pub segment_bytes: u32,
    /// `segment.ms`: age at which a segment is sealed.
    pub segment_ms: i64,
    /// `max.message.bytes`: of key, value and headers.
    pub max_message_bytes: u32,
    /// `message.timestamp.type`: whether records are stamped with the time of their append.
    pub append_time: bool,
    /// `cleanup.policy`: whether whole old segments go.
    pub delete: bool,
    /// `cleanup.policy`: whether only the latest record of each key stays.
    pub compact: bool,
    /// `compression.type`: how Kafka clients get records; `producer` is uncompressed, for lines are not compressed.
    pub compression: &'static str,
    /// `delete.retention.ms`: how long compaction keeps a tombstone.
    pub delete_retention_ms: i64,
    /// `min.cleanable.dirty.ratio`: compaction waits until so much of the log is not compacted.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: compaction leaves records of this age alone.
    pub min_compaction_lag_ms: i64,
    /// `min.insync.replicas`: kept for clients that set it; there is one replica.
    pub min_insync_replicas: i64,
    /// `flush.messages`: a sync after so many records.
    pub flush_messages: i64,
    /// `flush.ms`: a sync after so many ms.
    pub flush_ms: i64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            retention_ms: 7 * 24 * 3600 * 1000,
            retention_bytes: -1,
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3600 * 1000,
            max_message_bytes: 1_048_588,
            append_time: false,
            delete: true,
            compact: false,
            compression: "producer",
            delete_retention_ms: 24 * 3600 * 1000,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            min_insync_replicas: 1,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
        }
    }
}

/// A row of the table: how one setting is read and written.
struct Setting {
    name: &'static str,
    set: fn(&mut Settings, &str) -> Result<(), String>,
    get: fn(&Settings) -> String,
}

/// A name or a value that is wrong, as a person may see it: without control characters, and cut.
fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

fn number(text: &str, least: i64, most: i64) -> Result<i64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("a number from {least} to {most}"))
}

fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or "))
}

const TIMESTAMP_TYPES: [(&str, bool); 2] = [("CreateTime", false), ("LogAppendTime", true)];

const CODECS: [&str; 6] = ["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

/// `cleanup.policy`: whether segments are deleted, whether they are compacted.
fn policies(text: &str) -> Result<(bool, bool), String> {
    let mut policies = (false, false);
    for word in text.split(',').map(str::trim) {
        match word {
            "delete" => policies.0 = true,
            "compact" => policies.1 = true,
            _ => return Err("delete or compact or both with a comma between".into()),
        }
    }
    Ok(policies)
}

const TABLE: [Setting; 14] = [
    Setting {
        name: "cleanup.policy",
        set: |settings, text| policies(text).map(|both| (settings.delete, settings.compact) = both),
        get: |settings| match (settings.compact, settings.delete) {
            (true, true) => "compact,delete".into(),
            (true, false) => "compact".into(),
            _ => "delete".into(),
        },
    },
    Setting {
        name: "compression.type",
        set: |settings, text| choice(text, &CODECS.map(|name| (name, name))).map(|name| settings.compression = name),
        get: |settings| settings.compression.into(),
    },
    Setting {
        name: "delete.retention.ms",
        set: |settings, text| number(text, 0, i64::MAX).map(|n| settings.delete_retention_ms = n),
        get: |settings| settings.delete_retention_ms.to_string(),
    },
    Setting {
        name: "flush.messages",
        set: |settings, text| number(text, 1, i64::MAX).map(|n| settings.flush_messages = n),
        get: |settings| settings.flush_messages.to_string(),
    },
    Setting {
        name: "flush.ms",
        set: |settings, text| number(text, 0, i64::MAX).map(|n| settings.flush_ms = n),
        get: |settings| settings.flush_ms.to_string(),
    },
    Setting {
        name: "max.message.bytes",
        set: |settings, text| number(text, 0, i64::from(i32::MAX)).map(|n| settings.max_message_bytes = n as u32),
        get: |settings| settings.max_message_bytes.to_string(),
    },
    Setting {
        name: "message.timestamp.type",
        set: |settings, text| choice(text, &TIMESTAMP_TYPES).map(|value| settings.append_time = value),
        get: |settings| TIMESTAMP_TYPES[usize::from(settings.append_time)].0.into(),
    },
    Setting {
        name: "min.cleanable.dirty.ratio",
        set: |settings, text| {
            let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
            ratio.map(|ratio| settings.min_cleanable_dirty_ratio = ratio).ok_or_else(|| "a number from 0 to 1".into())
        },
        get: |settings| settings.min_cleanable_dirty_ratio.to_string(),
    },
    Setting {
        name: "min.compaction.lag.ms",
        set: |settings, text| number(text, 0, i64::MAX).map(|n| settings.min_compaction_lag_ms = n),
        get: |settings| settings.min_compaction_lag_ms.to_string(),
    },
    Setting {
        name: "min.insync.replicas",
        set: |settings, text| number(text, 1, i64::from(i32::MAX)).map(|n| settings.min_insync_replicas = n),
        get: |settings| settings.min_insync_replicas.to_string(),
    },
    Setting {
        name: "retention.bytes",
        set: |settings, text| number(text, -1, i64::MAX).map(|n| settings.retention_bytes = n),
        get: |settings| settings.retention_bytes.to_string(),
    },
    Setting {
        name: "retention.ms",
        set: |settings, text| number(text, -1, i64::MAX).map(|n| settings.retention_ms = n),
        get: |settings| settings.retention_ms.to_string(),
    },
    Setting {
        name: "segment.bytes",
        // Kafka begins at 1 MiB; lessons and tests want to see a roll.
        set: |settings, text| number(text, 1024, i64::from(i32::MAX)).map(|n| settings.segment_bytes = n as u32),
        get: |settings| settings.segment_bytes.to_string(),
    },
    Setting {
        name: "segment.ms",
        set: |settings, text| number(text, 1, i64::MAX).map(|n| settings.segment_ms = n),
        get: |settings| settings.segment_ms.to_string(),
    },
];

/// The settings that a topic has of its own, by name; the rest are the broker's defaults.
pub type Overrides = BTreeMap<String, String>;

/// Names of all settings, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|setting| setting.name)
}

impl Settings {
    /// Sets one by name. An error says what is wrong with the name or the value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let Some(setting) = TABLE.iter().find(|setting| setting.name == name) else {
            let names = names().collect::<Vec<_>>().join(" ");
            let name = shown(name);
            return Err(format!("'{name}' is no setting of a topic; there are partitions {names}"));
        };
        let why = |wanted| format!("{name} cannot be '{}'; it takes {wanted}", shown(value));
        (setting.set)(self, value).map_err(why)
    }

    /// The value of one by name.
    pub fn get(&self, name: &str) -> Option<String> {
        TABLE.iter().find(|setting| setting.name == name).map(|setting| (setting.get)(self))
    }

    /// These defaults with a topic's own settings over them.
    pub fn with(&self, overrides: &Overrides) -> Result<Settings, String> {
        let mut settings = self.clone();
        overrides.iter().try_for_each(|(name, value)| settings.set(name, value))?;
        Ok(settings)
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

    #[test]
    fn each_setting_reads_what_it_writes() {
        let defaults = Settings::default();
        for name in names() {
            let value = defaults.get(name).unwrap();
            let mut settings = defaults.clone();
            settings.set(name, &value).unwrap();
            assert_eq!(settings, defaults, "{name}");
        }
    }

    #[test]
    fn a_wrong_value_says_what_is_right() {
        let mut settings = Settings::default();
        assert_eq!(
            settings.set("segment.bytes", "1").unwrap_err(),
            "segment.bytes cannot be '1'; it takes a number from 1024 to 2147483647"
        );
        assert!(settings.set("message.timestamp.type", "x").unwrap_err().ends_with("CreateTime or LogAppendTime"));
        assert!(settings.set("retention", "x").unwrap_err().contains("no setting"));
        assert_eq!(settings, Settings::default());
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
}

//! The settings of groups, with Kafka's names, bounds and defaults. A group has those that somebody gave it, and the defaults.

use super::{
    Described, Setting, Type, is_topic_name,
    settings::{optional, range, settings},
    values::Value,
};
use std::{ops::RangeInclusive, time::Duration};

settings! {
    /// The settings of a group, as they take effect.
    GroupSettings,
    /// Every setting of a group, by name.
    GROUP_SETTINGS;
    "consumer.assignment.interval.ms" / "group.consumer.assignment.interval.ms", consumer_assignment_interval_ms: i32 [0..=15_000] => 1000,
        "kept for clients that set it; assignments of a consumer group are computed at once";
    "consumer.heartbeat.interval.ms" / "group.consumer.heartbeat.interval.ms", consumer_heartbeat_interval_ms: i32 [5000..=15_000] => 5000,
        "how often the members of a consumer group are to be heard";
    "consumer.session.timeout.ms" / "group.consumer.session.timeout.ms", consumer_session_timeout_ms: i32 [45_000..=60_000] => 45_000,
        "how long a member of a consumer group may be silent";
    "errors.deadletterqueue.topic.name" / "errors.deadletterqueue.topic.name", dead_letter_topic: DeadLetterTopic => DeadLetterTopic(String::new()),
        "the topic of a share group's records that were rejected or handed out too often (KIP-1191)";
    "share.assignment.interval.ms" / "group.share.assignment.interval.ms", share_assignment_interval_ms: i32 [0..=15_000] => 1000,
        "kept for clients that set it; the partitions of a share group are shared out at once";
    "share.auto.offset.reset" / "share.auto.offset.reset", share_auto_offset_reset: OffsetReset => OffsetReset::Latest,
        "where a share group begins in a partition that it never read";
    "share.delivery.count.limit" / "group.share.delivery.count.limit", share_delivery_count_limit: i32 [2..=10] => 5,
        "how many times a share group hands a record out, at most";
    "share.heartbeat.interval.ms" / "group.share.heartbeat.interval.ms", share_heartbeat_interval_ms: i32 [5000..=15_000] => 5000,
        "how often the members of a share group are to be heard";
    "share.isolation.level" / "share.isolation.level", share_isolation_level: IsolationLevel => IsolationLevel::ReadUncommitted,
        "which records of transactions a share group hands out";
    "share.partition.max.record.locks" / "group.share.partition.max.record.locks", share_partition_max_record_locks: i32 [100..=4000] => 2000,
        "how many records of a partition the members of a share group hold at most";
    "share.record.lock.duration.ms" / "group.share.record.lock.duration.ms", share_record_lock_duration_ms: i32 [100..=60_000] => 30_000,
        "how long a member of a share group holds a record that it does not acknowledge";
    "share.renew.acknowledge.enable" / "share.renew.acknowledge.enable", share_renew_acknowledge_enable: bool => true,
        "whether members of a share group may hold a record for longer by saying so";
    "share.session.timeout.ms" / "group.share.session.timeout.ms", share_session_timeout_ms: i32 [45_000..=60_000] => 45_000,
        "how long a member of a share group may be silent";
    "streams.assignment.interval.ms" / "group.streams.assignment.interval.ms", streams_assignment_interval_ms: i32 [0..=15_000] => 1000,
        "kept for clients that set it; there are no streams groups";
    "streams.heartbeat.interval.ms" / "group.streams.heartbeat.interval.ms", streams_heartbeat_interval_ms: i32 [5000..=15_000] => 5000,
        "kept for clients that set it; there are no streams groups";
    "streams.initial.rebalance.delay.ms" / "group.streams.initial.rebalance.delay.ms", streams_initial_rebalance_delay_ms: i32 [0..=i64::MAX] => 3000,
        "kept for clients that set it; there are no streams groups";
    "streams.num.standby.replicas" / "group.streams.num.standby.replicas", streams_num_standby_replicas: i32 [0..=2] => 0,
        "kept for clients that set it; there are no streams groups";
    "streams.session.timeout.ms" / "group.streams.session.timeout.ms", streams_session_timeout_ms: i32 [45_000..=60_000] => 45_000,
        "kept for clients that set it; there are no streams groups";
}

impl Described for GroupSettings {
    const OF: &'static str = "group";
    const ROWS: &'static [Setting<GroupSettings>] = GROUP_SETTINGS;
}

super::values::choices! {
    /// Which records of transactions a share group is handed.
    IsolationLevel: Type::String, str::to_owned, "read_committed or read_uncommitted", {
        ReadCommitted "read_committed",
        ReadUncommitted "read_uncommitted",
    }
}

/// The setting that names the topic of records that a share group has given up.
pub const DEAD_LETTERS: &str = "errors.deadletterqueue.topic.name";

/// The topic of records that a share group has given up; empty: there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterTopic(pub String);

impl Value for DeadLetterTopic {
    const TYPE: Type = Type::String;

    fn parse(text: &str, _: &RangeInclusive<i64>) -> Option<DeadLetterTopic> {
        (text.is_empty() || is_topic_name(text)).then(|| DeadLetterTopic(text.into()))
    }

    fn canonical(&self) -> String {
        self.0.clone()
    }

    fn takes(_: &RangeInclusive<i64>) -> String {
        "the name of a topic, or nothing".into()
    }
}

/// Where a share group begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    /// With the first record there is.
    Earliest,
    /// With the next record.
    Latest,
    /// With the records of so long a time before now, as Kafka's clients wrote it.
    ByDuration(Duration, String),
}

impl Value for OffsetReset {
    const TYPE: Type = Type::String;

    fn parse(text: &str, _: &RangeInclusive<i64>) -> Option<OffsetReset> {
        match text {
            "earliest" => Some(OffsetReset::Earliest),
            "latest" => Some(OffsetReset::Latest),
            _ => {
                let duration = text.strip_prefix("by_duration:")?;
                Some(OffsetReset::ByDuration(iso_duration(duration)?, duration.into()))
            }
        }
    }

    fn canonical(&self) -> String {
        match self {
            OffsetReset::Earliest => "earliest".into(),
            OffsetReset::Latest => "latest".into(),
            OffsetReset::ByDuration(_, text) => format!("by_duration:{text}"),
        }
    }

    fn takes(_: &RangeInclusive<i64>) -> String {
        "earliest, latest or by_duration: with days, hours, minutes and seconds such as P1DT2H30M0.5S".into()
    }
}

/// A duration of ISO 8601 as Java's `Duration.parse` reads it, without negative ones: `PnDTnHnMn.nS`.
fn iso_duration(text: &str) -> Option<Duration> {
    const DAY: u64 = 24 * 3600;
    let upper = text.to_ascii_uppercase();
    let text = upper.strip_prefix('P')?;
    let (days, time) = text.split_once('T').map_or((text, None), |(days, time)| (days, Some(time)));
    let mut seconds: u64 = 0;
    let mut nanos = 0;
    if !days.is_empty() {
        seconds = digits(days.strip_suffix('D')?)?.checked_mul(DAY)?;
    }
    if let Some(mut rest) = time {
        if rest.is_empty() {
            return None;
        }
        for (unit, each) in [('H', 3600), ('M', 60)] {
            if let Some((number, behind)) = rest.split_once(unit) {
                seconds = seconds.checked_add(digits(number)?.checked_mul(each)?)?;
                rest = behind;
            }
        }
        if !rest.is_empty() {
            let number = rest.strip_suffix('S')?;
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            seconds = seconds.checked_add(digits(whole)?)?;
            if fraction.len() > 9 {
                return None;
            }
            nanos = digits(&format!("{fraction:0<9}"))? as u32;
        }
    }
    let some = !(days.is_empty() && time.is_none());
    some.then(|| Duration::new(seconds, nanos)).filter(|duration| i64::try_from(duration.as_millis()).is_ok())
}

fn digits(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reads_what_it_tells() {
        assert!(GROUP_SETTINGS.is_sorted_by_key(|setting| setting.name));
        let defaults = GroupSettings::default();
        for setting in GROUP_SETTINGS {
            let mut settings = defaults.clone();
            settings.set(setting.name, &setting.value(&defaults)).unwrap();
            assert_eq!(settings, defaults, "{}", setting.name);
        }
        let unknown = GroupSettings::default().set("retention.ms", "1").unwrap_err();
        assert_eq!(unknown, "Unknown group config name: retention.ms");
    }

    #[test]
    fn durations_are_as_java_reads_them() {
        let ms = |text| iso_duration(text).map(|duration| duration.as_millis());
        for (text, told) in [
            ("PT1H", Some(3_600_000)),
            ("P1DT2H30M0.5S", Some(95_400_500)),
            ("p2d", Some(172_800_000)),
            ("PT0S", Some(0)),
            ("PT5M", Some(300_000)),
            ("P", None),
            ("PT", None),
            ("P1DT", None),
            ("PT-1H", None),
            ("-PT1H", None),
            ("PT1", None),
            ("PT1S1H", None),
            ("1H", None),
            ("PTH", None),
            ("PT.5S", None),
            ("PT99999999999999999999H", None),
            ("P9999999999999999D", None),
        ] {
            assert_eq!(ms(text), told, "{text}");
        }
    }
}

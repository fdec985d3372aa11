//! The broker's configs that clients may change while it runs: its defaults of what topics can set, by the names that Kafka has for
//! them (`log.retention.ms` for `retention.ms`), and Kafka's others, which are checked, told and without effect here.
//!
//! What is neither is of two kinds. Those of [`is_static`] can only be given at the start, so a change is refused. What else
//! a client sets is kept for it, as Kafka keeps what a plug-in may understand, and has no effect.

use super::{
    Change, Changes, Described, Overrides, SETTINGS, Setting, Settings, Type, no_list,
    settings::{optional, range, settings},
};
use std::collections::BTreeMap;

settings! {
    /// What Kafka's brokers can change while they run, besides the defaults of topics.
    BrokerSettings,
    /// Every such setting, by name.
    pub BROKER_SETTINGS;
    "background.threads", background_threads: i32 [1..=INT_MAX] => 10,
        "kept for clients that set it; each kind of work in the background has its one thread";
    "log.cleaner.backoff.ms", log_cleaner_backoff_ms: i64 [0..=i64::MAX] => 15_000,
        "kept for clients that set it; compaction looks for work with retention";
    "log.cleaner.dedupe.buffer.size", log_cleaner_dedupe_buffer_size: i64 [i64::MIN..=i64::MAX] => 128 << 20,
        "kept for clients that set it; compaction takes the memory that its keys need";
    "log.cleaner.io.buffer.load.factor", log_cleaner_io_buffer_load_factor: f64 [i64::MIN..=i64::MAX] => 0.9,
        "kept for clients that set it; compaction takes the memory that its keys need";
    "log.cleaner.io.buffer.size", log_cleaner_io_buffer_size: i32 [0..=INT_MAX] => 512 << 10,
        "kept for clients that set it; compaction has buffers of one size";
    "log.cleaner.threads", log_cleaner_threads: i32 [0..=INT_MAX] => 1,
        "kept for clients that set it; compaction has one thread";
    "max.connection.creation.rate", max_connection_creation_rate: i32 [0..=INT_MAX] => i32::MAX,
        "kept for clients that set it; connections are accepted as they come";
    "max.connections.per.ip", max_connections_per_ip: i32 [0..=INT_MAX] => i32::MAX,
        "kept for clients that set it; there is one limit for all addresses together";
    "num.io.threads", num_io_threads: i32 [1..=INT_MAX] => 8,
        "kept for clients that set it; each connection has a thread";
    "num.network.threads", num_network_threads: i32 [1..=INT_MAX] => 3,
        "kept for clients that set it; each connection has a thread";
    "num.recovery.threads.per.data.dir", num_recovery_threads_per_data_dir: i32 [1..=INT_MAX] => 2,
        "kept for clients that set it; there is one folder of data";
    "num.replica.fetchers", num_replica_fetchers: i32 [i32::MIN as i64..=INT_MAX] => 1,
        "kept for clients that set it; nothing is replicated";
    "producer.id.expiration.ms", producer_id_expiration_ms: i32 [1..=INT_MAX] => 24 * 3600 * 1000,
        "kept for clients that set it; a producer that is silent is forgotten after a day";
    "transaction.partition.verification.enable", transaction_partition_verification_enable: bool => true,
        "kept for clients that set it; records of no transaction are never taken for a transaction's";
}

impl Described for BrokerSettings {
    const OF: &'static str = "broker";
    const ROWS: &'static [Setting<BrokerSettings>] = BROKER_SETTINGS;
}

const INT_MAX: i64 = i32::MAX as i64;

/// Kafka's broker configs that take effect at its start only, in order.
const STATIC: &str = include_str!("static_broker_configs.txt");

/// Whether a broker that runs refuses to change this config.
fn is_static(name: &str) -> bool {
    // Kafka can change how many connections there may be; here the command line says it.
    STATIC.lines().any(|one| one == name) || name == "max.connections"
}

/// What is known of a config that may change while the broker runs.
pub struct Known {
    /// The kind of its values.
    pub kind: Type,
    /// What it is, in one sentence without a full stop.
    pub what: &'static str,
}

/// What is known of a broker's config, if anything.
pub fn known(name: &str) -> Option<Known> {
    let kept = || {
        Some(Setting::<BrokerSettings>::named(name)?).map(|setting| Known { kind: setting.kind, what: setting.what })
    };
    of_topic(name).map(|setting| Known { kind: setting.kind, what: setting.what }).or_else(kept)
}

/// The setting of topics that a broker's config is the default of.
fn of_topic(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.of_broker == Some(name))
}

/// What a broker's configs are for topics, by the names that topics have for them.
pub fn of_topics(configs: &Overrides) -> Overrides {
    let known = configs.iter().filter_map(|(name, value)| Some((of_topic(name)?.name.to_string(), value.clone())));
    known.collect()
}

/// A broker's configs after a change, where `below` is what they would be otherwise. An error says what cannot be.
pub fn broker_changes(changes: &Changes, own: &Overrides, below: &Settings) -> Result<Overrides, String> {
    let set = changes.named.iter().filter(|(_, change)| !matches!(change, Change::Default));
    let fixed: Vec<&str> = set.map(|(name, _)| name.as_str()).filter(|name| is_static(name)).collect();
    if !fixed.is_empty() {
        return Err(format!("Cannot update these configs dynamically: [{}]", fixed.join(", ")));
    }
    let (mut of_topics_named, mut kept_named, mut after) = (BTreeMap::new(), BTreeMap::new(), Overrides::new());
    let is_kept = |name: &str| Setting::<BrokerSettings>::named(name).is_some();
    if !changes.reset_others {
        after.extend(
            own.iter().filter(|(name, _)| known(name).is_none()).map(|(name, value)| (name.clone(), value.clone())),
        );
    }
    for (name, change) in &changes.named {
        match (of_topic(name), change) {
            (Some(setting), _) => drop(of_topics_named.insert(setting.name.to_string(), change.clone())),
            (None, _) if is_kept(name) => drop(kept_named.insert(name.clone(), change.clone())),
            (None, Change::Set(value)) => drop(after.insert(name.clone(), value.clone())),
            (None, Change::Default) => drop(after.remove(name)),
            (None, _) => return Err(no_list(name)),
        }
    }
    let changes = |named| Changes { named, reset_others: changes.reset_others };
    let kept =
        own.iter().filter(|(name, _)| is_kept(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
    after.extend(changes(kept_named).applied(&kept, &BrokerSettings::default())?);
    let of_topics = changes(of_topics_named).applied(&of_topics(own), below)?;
    after.extend(
        of_topics
            .into_iter()
            .filter_map(|(name, value)| Some((Setting::<Settings>::named(&name)?.of_broker?.into(), value))),
    );
    Ok(after)
}

impl Settings {
    /// These with a broker's configs over them.
    pub fn with_broker_configs(&self, configs: &Overrides) -> Result<Settings, String> {
        self.with(&of_topics(configs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(own: &[(&str, &str)], name: &str, change: Change) -> Result<Vec<(String, String)>, String> {
        let own = own.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        let changes = Changes { named: BTreeMap::from([(name.into(), change)]), reset_others: false };
        broker_changes(&changes, &own, &Settings::default()).map(|after| after.into_iter().collect())
    }

    #[test]
    fn each_config_stands_once() {
        assert!(STATIC.lines().is_sorted_by(|one, next| one < next));
        assert!(BROKER_SETTINGS.is_sorted_by_key(|setting| setting.name));
        let kept = BROKER_SETTINGS.iter().map(|setting| setting.name);
        assert_eq!(kept.clone().find(|name| of_topic(name).is_some()), None);
        assert_eq!(
            SETTINGS.iter().filter_map(|setting| setting.of_broker).chain(kept).find(|name| is_static(name)),
            None
        );
    }

    #[test]
    fn what_is_known_is_checked_and_unknown_names_are_kept() {
        let set = |value: &str| Change::Set(value.into());
        let one = |name: &str, value: &str| Ok(vec![(name.to_string(), value.to_string())]);
        assert_eq!(after(&[], "log.retention.ms", set(" +5 ")), one("log.retention.ms", "5"));
        assert_eq!(after(&[("log.retention.ms", "5")], "log.retention.ms", Change::Default), Ok(vec![]));
        assert_eq!(
            after(&[], "log.cleanup.policy", Change::Append("compact".into())),
            one("log.cleanup.policy", "delete,compact")
        );
        assert_eq!(after(&[], "of.a.plugin", set("x\ny")), one("of.a.plugin", "x\ny"));
        assert_eq!(after(&[("of.a.plugin", "x")], "of.a.plugin", Change::Default), Ok(vec![]));
        assert!(after(&[], "log.retention.ms", set("x")).is_err());
        assert_eq!(after(&[("num.io.threads", "9")], "num.network.threads", set(" 4")), {
            Ok([("num.io.threads", "9"), ("num.network.threads", "4")]
                .map(|(name, value)| (name.into(), value.into()))
                .into())
        });
        assert_eq!(after(&[("num.io.threads", "9")], "num.io.threads", Change::Default), Ok(vec![]));
        assert!(after(&[], "num.io.threads", set("0")).is_err());
        assert!(after(&[], "max.connections", set("9")).is_err());
        assert!(after(&[], "of.a.plugin", Change::Append("x".into())).is_err());
        assert_eq!(
            after(&[], "log.dirs", set("/x")),
            Err("Cannot update these configs dynamically: [log.dirs]".into())
        );
        assert_eq!(after(&[], "log.dirs", Change::Default), Ok(vec![]));
        assert!(
            after(&[("log.cleaner.max.compaction.lag.ms", "5")], "log.cleaner.min.compaction.lag.ms", set("10"))
                .is_err()
        );
    }
}

//! The broker's configs that clients may change while it runs: its defaults of what topics can set, by the names that Kafka has for
//! them (`log.retention.ms` for `retention.ms`).
//!
//! Kafka's other configs are of two kinds. Those of [`is_static`] can only be given at the start, so a change is refused. What else
//! a client sets is kept for it, as Kafka keeps what a plug-in may understand, and has no effect.

use super::{Change, Changes, Described, Overrides, SETTINGS, Setting, Settings, no_list};
use std::collections::BTreeMap;

/// Kafka's broker configs that take effect at its start only, in order.
const STATIC: &str = include_str!("static_broker_configs.txt");

/// Whether Kafka refuses to change this config of a broker that runs.
fn is_static(name: &str) -> bool {
    STATIC.lines().any(|one| one == name)
}

/// The setting of topics that a broker's config is the default of.
pub fn of_topic(name: &str) -> Option<&'static Setting> {
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
    let (mut named, mut after) = (BTreeMap::new(), Overrides::new());
    if !changes.reset_others {
        after.extend(
            own.iter().filter(|(name, _)| of_topic(name).is_none()).map(|(name, value)| (name.clone(), value.clone())),
        );
    }
    for (name, change) in &changes.named {
        match (of_topic(name), change) {
            (Some(setting), _) => drop(named.insert(setting.name.to_string(), change.clone())),
            (None, Change::Set(value)) => drop(after.insert(name.clone(), value.clone())),
            (None, Change::Default) => drop(after.remove(name)),
            (None, _) => return Err(no_list(name)),
        }
    }
    let known = Changes { named, reset_others: changes.reset_others }.applied(&of_topics(own), below)?;
    after.extend(
        known
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
    fn each_config_stands_once_and_is_static_or_a_default_of_topics() {
        assert!(STATIC.lines().is_sorted_by(|one, next| one < next));
        assert_eq!(SETTINGS.iter().filter_map(|setting| setting.of_broker).find(|name| is_static(name)), None);
    }

    #[test]
    fn defaults_of_topics_are_checked_and_unknown_names_are_kept() {
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

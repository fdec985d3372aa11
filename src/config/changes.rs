//! Changes to the settings that a topic has of its own, or something else, as IncrementalAlterConfigs (KIP-339) and ALTER request them.

use super::{
    Described, Overrides, Setting, Type, canonical,
    values::{without_repeats, words},
};
use std::collections::BTreeMap;

/// What becomes of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is this value.
    Set(String),
    /// Back to the broker's default. An unknown name needs no change.
    Default,
    /// These words are in its list too.
    Append(String),
    /// These words are no longer in its list.
    Subtract(String),
}

/// What becomes of settings of one's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that are named.
    pub named: BTreeMap<String, Change>,
    /// Whether the others are the broker's defaults again. Otherwise they stay.
    pub reset_others: bool,
}

impl Changes {
    /// Whether anything is to change.
    pub fn any(&self) -> bool {
        self.reset_others || !self.named.is_empty()
    }

    /// The settings after the change, in canonical form. An error says what cannot be.
    pub fn applied<S: Described>(&self, own: &Overrides, defaults: &S) -> Result<Overrides, String> {
        let mut after = if self.reset_others { Overrides::new() } else { own.clone() };
        for (name, change) in &self.named {
            let value = match change {
                Change::Default => {
                    after.remove(name);
                    continue;
                }
                Change::Set(value) => value.clone(),
                Change::Append(these) => {
                    let before = list(name, own, defaults)?;
                    without_repeats(words(&before).into_iter().chain(words(these)).collect()).join(",")
                }
                Change::Subtract(these) => {
                    let (before, these) = (list(name, own, defaults)?, words(these));
                    words(&before).into_iter().filter(|word| !these.contains(word)).collect::<Vec<_>>().join(",")
                }
            };
            after.insert(name.clone(), value);
        }
        defaults.with(&after)?;
        canonical::<S>(&after)
    }
}

/// What is said of an addition to what is no list.
pub fn no_list(name: &str) -> String {
    format!("{name} is no list, to which something could be added")
}

/// The list to which something is added, or from which it is taken.
fn list<S: Described>(name: &str, own: &Overrides, defaults: &S) -> Result<String, String> {
    let setting = Setting::<S>::named(name).filter(|setting| setting.kind == Type::List);
    let setting = setting.ok_or_else(|| no_list(name))?;
    Ok(own.get(name).cloned().unwrap_or_else(|| setting.value(defaults)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn after(own: &[(&str, &str)], name: &str, change: Change) -> Result<Option<String>, String> {
        let own = own.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        let changes = Changes { named: BTreeMap::from([(name.into(), change)]), reset_others: false };
        changes.applied(&own, &Settings::default()).map(|own| own.get(name).cloned())
    }

    #[test]
    fn lists_grow_and_shrink_from_what_they_are_or_from_the_default() {
        let (policy, replicas) = ("cleanup.policy", "leader.replication.throttled.replicas");
        let append = |text: &str| Change::Append(text.into());
        let subtract = |text: &str| Change::Subtract(text.into());
        let told = |value: &str| Ok(Some(value.to_string()));
        assert_eq!(after(&[], policy, append("compact")), told("delete,compact"));
        assert_eq!(after(&[], policy, append("compact\n , delete")), told("delete,compact"));
        assert_eq!(after(&[(policy, "")], policy, append("compact")), told("compact"));
        assert_eq!(after(&[(policy, "delete,compact")], policy, subtract("delete")), told("compact"));
        assert_eq!(after(&[(policy, "delete,compact")], policy, subtract(" compact, delete")), told(""));
        assert_eq!(after(&[], replicas, append(" 3:1 ")), told("3:1"));
        assert_eq!(after(&[(replicas, "0:1")], replicas, append("1:1, 2:1")), told("0:1,1:1,2:1"));
        assert_eq!(after(&[(replicas, "0:1")], replicas, subtract("x")), told("0:1"));
        assert!(after(&[], policy, append("bogus")).is_err());
        assert!(after(&[], "retention.ms", append("1")).is_err());
        assert!(after(&[], "nonsense", subtract("1")).is_err());
    }

    #[test]
    fn a_name_that_nobody_knows_can_be_deleted_but_not_set() {
        assert_eq!(after(&[], "nonsense", Change::Default), Ok(None));
        let refused = after(&[], "nonsense", Change::Set("1".into())).unwrap_err();
        assert_eq!(refused, "Unknown topic config name: nonsense");
    }

    #[test]
    fn others_stay_or_are_reset() {
        let own = Overrides::from([("flush.ms".into(), "5".into()), ("retention.ms".into(), "6".into())]);
        let named = BTreeMap::from([("retention.ms".into(), Change::Set(" +7 ".into()))]);
        let applied =
            |reset_others| Changes { named: named.clone(), reset_others }.applied(&own, &Settings::default()).unwrap();
        assert_eq!(
            applied(false),
            [("flush.ms", "5"), ("retention.ms", "7")].map(|(a, b)| (a.into(), b.into())).into()
        );
        assert_eq!(applied(true), [("retention.ms", "7")].map(|(a, b)| (a.into(), b.into())).into());
    }
}

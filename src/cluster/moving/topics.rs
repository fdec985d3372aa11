//! Which topics are moved, and how they are made at the target.
//!
//! Until a topic has been copied it keeps all records, as they were written: settings by which old records would go, or get
//! another time, are set when the copy has caught up. That a move made the topic, and has not set them yet, shows in its
//! `retention.ms`, which is one that nobody else sets. Of any other topic no setting is touched.

use super::{
    super::native::Setting,
    Chosen, Told,
    notes::Note,
    sides::{Id, Place, Side, settled},
};
use crate::broker::{Code, Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A setting that waits, what it is until then, and what it is where nobody has set it.
struct Waiting {
    name: &'static str,
    meanwhile: &'static str,
    by_default: &'static str,
}

/// 285 thousand years, in ms: the largest prime that every program reads as it is (below 2^53).
const KEPT_BY_A_MOVE_MS: &str = "9007199254740881";

/// The last of them, which shows that they wait, is set last.
const WAITING: [Waiting; 4] = [
    Waiting { name: "cleanup.policy", meanwhile: "delete", by_default: "delete" },
    Waiting { name: "message.timestamp.type", meanwhile: "CreateTime", by_default: "CreateTime" },
    Waiting { name: "retention.bytes", meanwhile: "-1", by_default: "-1" },
    Waiting { name: "retention.ms", meanwhile: KEPT_BY_A_MOVE_MS, by_default: "604800000" },
];

/// Settings that are about one cluster's own nodes.
const OF_NODES: [&str; 2] = ["leader.replication.throttled.replicas", "follower.replication.throttled.replicas"];

/// A topic that is moved.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    /// Its name at the source.
    pub(super) from: String,
    /// Its name at the target.
    pub(super) to: String,
    /// How many partitions it has at the source.
    pub(super) partitions: u32,
    /// Its id at the source, if that is told.
    pub(super) id: Option<Id>,
}

/// The topics that were chosen, of those of the source.
pub(super) fn chosen(source: &Side, chosen: &Chosen) -> Result<Vec<Topic>> {
    let all = source.topics()?;
    let mut names: BTreeSet<&String> = match chosen.topics.is_empty() {
        true => all.keys().collect(),
        false => chosen.topics.iter().collect(),
    };
    names.retain(|name| !chosen.exclude.contains(*name));
    if let Some(stray) = chosen.rename.keys().find(|name| !names.contains(name)) {
        return Err(Error::InvalidTopic(format!(
            "'{stray}' is to be renamed, and is not among the topics that are moved"
        )));
    }
    let mut topics: Vec<Topic> = Vec::new();
    for name in names {
        let partitions = *all.get(name).ok_or_else(|| Error::UnknownTopic(name.clone()))?;
        let to = chosen.rename.get(name).unwrap_or(name).clone();
        if let Some(other) = topics.iter().find(|topic| topic.to == to) {
            let why = format!("'{}' and '{name}' would both become '{to}'", other.from);
            return Err(Error::InvalidTopic(why));
        }
        topics.push(Topic { from: name.clone(), to, partitions, id: None });
    }
    let ids = source.ids(&topics.iter().map(|topic| &*topic.from).collect::<Vec<_>>())?;
    topics.iter_mut().for_each(|topic| topic.id = ids.get(&topic.from).copied());
    Ok(topics)
}

/// Makes those that the target does not have, and the partitions that were added to one that is being moved. Of one that is there
/// already the settings stay, and `told` has those that differ and were told.
pub(super) fn make(
    source: &Side,
    target: &Side,
    topics: &[Topic],
    noted: &HashMap<Place, Note>,
    told: &mut BTreeSet<String>,
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<()> {
    let there = target.topics()?;
    let wished = settings(source, topics.iter().map(|topic| &*topic.from))?;
    let found = settings(target, topics.iter().map(|topic| &*topic.to).filter(|name| there.contains_key(*name)))?;
    let of = |settings: &'_ BTreeMap<String, Vec<Setting>>, name: &str| settings.get(name).cloned().unwrap_or_default();
    for topic in topics {
        let Some(&partitions) = there.get(&topic.to) else {
            make_one(target, topic, &of(&wished, &topic.from), tell)?;
            continue;
        };
        if partitions < topic.partitions {
            if !noted.keys().any(|place| place.0 == topic.to) {
                let why = format!(
                    "topic '{}' of the target has {partitions} partitions, and '{}' of the source {}",
                    topic.to, topic.from, topic.partitions
                );
                return Err(Error::InvalidPartitions(why));
            }
            grow(target, topic)?;
            tell(Told::Note(format!(
                "'{}' of the target gets {} partitions, as at the source",
                topic.to, topic.partitions
            )));
        }
        for differs in differing(&of(&wished, &topic.from), &of(&found, &topic.to)) {
            let note = format!("topic '{}' was at the target already and keeps its settings: {differs}", topic.to);
            if told.insert(note.clone()) {
                tell(Told::Note(note));
            }
        }
    }
    Ok(())
}

/// Whether a topic with these settings was made by a move that has not set yet what waits.
fn all_wait(settings: &[Setting]) -> bool {
    let shows = |setting: &Setting| setting.name == "retention.ms" && setting.value == KEPT_BY_A_MOVE_MS;
    settings.iter().any(|setting| setting.is_own && shows(setting))
}

/// What a topic's settings are at the target and at the source, of those that somebody has set and that differ for another reason
/// than that they wait.
fn differing(source: &[Setting], target: &[Setting]) -> Vec<String> {
    let value = |settings: &[Setting], name: &str| {
        settings.iter().find(|setting| setting.name == name).map(|setting| setting.value.clone())
    };
    let wait = all_wait(target);
    let waits = |name: &str| {
        let is = |waiting: &&Waiting| waiting.name == name;
        let waiting = WAITING.iter().find(is).filter(|_| wait);
        waiting.is_some_and(|waiting| value(target, name).as_deref() == Some(waiting.meanwhile))
    };
    let own = source.iter().chain(target).filter(|setting| setting.is_own).map(|setting| &*setting.name);
    let names: BTreeSet<&str> = own.filter(|name| !OF_NODES.contains(name) && !waits(name)).collect();
    let differs = |name: &str| {
        let (there, here) = (value(target, name), value(source, name));
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not known".into());
        (there != here).then(|| format!("{name} is {} there and {} at the source", shown(&there), shown(&here)))
    };
    names.into_iter().filter_map(differs).collect()
}

fn make_one(target: &Side, topic: &Topic, settings: &[Setting], tell: &mut dyn FnMut(Told<'_>)) -> Result<()> {
    let is_waiting = |name: &str| WAITING.iter().any(|waiting| waiting.name == name);
    let own = settings.iter().filter(|setting| setting.is_own && !is_waiting(&setting.name));
    let own = own.filter(|setting| !OF_NODES.contains(&&*setting.name));
    let own: Vec<(&str, &str)> = own.map(|setting| (&*setting.name, &*setting.value)).collect();
    let meanwhile: Vec<_> = WAITING.iter().map(|waiting| (waiting.name, waiting.meanwhile)).collect();
    let all: Vec<_> = meanwhile.iter().chain(&own).copied().collect();
    let what = format!("making topic '{}'", topic.to);
    let partitions = Some(topic.partitions as i32);
    let with = |settings: &[(&str, &str)]| {
        target.ask(&what, |asking| match asking.create_topic(&topic.to, partitions, None, settings) {
            // The answer to the first attempt was lost.
            Err(refused) if refused.number == Code::TopicAlreadyExists as i32 => Ok(()),
            answer => answer,
        })
    };
    match with(&all) {
        Err(error) if error.code() == Code::InvalidConfig => {
            with(&meanwhile)?;
            for (name, value) in own {
                set(target, &topic.to, name, Some(value), tell)?;
            }
        }
        made => made?,
    }
    Ok(())
}

/// Adds partitions until there are as many as at the source.
fn grow(target: &Side, topic: &Topic) -> Result<()> {
    let wanted = topic.partitions as usize;
    target.ask(&format!("adding partitions to '{}'", topic.to), |asking| match asking.grow_topic(&topic.to, wanted) {
        // The answer to the first attempt was lost.
        Err(refused) if refused.number == Code::InvalidPartitions as i32 => {
            let now = target.known.topic_now(&topic.to);
            if now.is_ok_and(|now| now.partitions.len() >= wanted) { Ok(()) } else { Err(refused) }
        }
        answer => answer,
    })
}

/// Sets what has waited in topics that a move has made, where it is still as that left it.
pub(super) fn settle(source: &Side, target: &Side, topics: &[Topic], tell: &mut dyn FnMut(Told<'_>)) -> Result<()> {
    let wished = settings(source, topics.iter().map(|topic| &*topic.from))?;
    let found = settings(target, topics.iter().map(|topic| &*topic.to))?;
    let none = Vec::new();
    for topic in topics {
        let wished = wished.get(&topic.from).unwrap_or(&none);
        let found = found.get(&topic.to).unwrap_or(&none);
        if !all_wait(found) {
            continue;
        }
        for waiting in &WAITING {
            let of = |settings: &[Setting]| settings.iter().find(|setting| setting.name == waiting.name).cloned();
            let as_left = |setting: &Setting| setting.is_own && setting.value == waiting.meanwhile;
            let (Some(wish), true) = (of(wished), of(found).is_some_and(|setting| as_left(&setting))) else { continue };
            let is_needed = wish.is_own || wish.value != waiting.by_default;
            match is_needed {
                true if wish.value == waiting.meanwhile => {}
                true => set(target, &topic.to, waiting.name, Some(&wish.value), tell)?,
                false => set(target, &topic.to, waiting.name, None, tell)?,
            }
        }
    }
    Ok(())
}

/// Sets one setting, or takes it back. That the target does not take it is told.
fn set(target: &Side, topic: &str, name: &str, value: Option<&str>, tell: &mut dyn FnMut(Told<'_>)) -> Result<()> {
    let what = format!("topic '{topic}', {name}={}", value.unwrap_or_default());
    match target.ask(&what, |asking| asking.alter_settings(topic, &[(name, value)])) {
        Err(error) if [Code::InvalidConfig, Code::InvalidRequest, Code::PolicyViolation].contains(&error.code()) => {
            tell(Told::Note(format!("the target does not take a setting: {error}")));
            Ok(())
        }
        done => done,
    }
}

/// The settings of topics, by name.
fn settings<'t>(side: &Side, topics: impl Iterator<Item = &'t str>) -> Result<BTreeMap<String, Vec<Setting>>> {
    let topics: Vec<&str> = topics.collect();
    let mut all = BTreeMap::new();
    for topics in topics.chunks(100) {
        for (name, found) in side.ask("asking for settings", |asking| settled(asking.settings(topics)?))? {
            let found = found.map_err(|refused| side.explain(&format!("settings of topic '{name}'"), refused))?;
            all.insert(name, found);
        }
    }
    Ok(all)
}

/// The size of the largest batch that each of the topics takes at the target.
pub(super) fn batch_bytes(target: &Side, topics: &[Topic]) -> Result<i64> {
    let settings = settings(target, topics.iter().map(|topic| &*topic.to))?;
    let sizes = settings.values().flatten().filter(|setting| setting.name == "max.message.bytes");
    Ok(sizes.filter_map(|setting| setting.value.parse().ok()).min().unwrap_or(1_000_000))
}

/// Those of the topics in which the target keeps only the last record of each key.
pub(super) fn compacted(target: &Side, topics: &[Topic]) -> Result<BTreeSet<String>> {
    let settings = settings(target, topics.iter().map(|topic| &*topic.to))?;
    let is_compacted = |setting: &Setting| setting.name == "cleanup.policy" && setting.value.contains("compact");
    Ok(settings.into_iter().filter(|(_, all)| all.iter().any(is_compacted)).map(|(name, _)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::Fixture;

    #[test]
    fn partitions_that_were_added_though_the_answer_was_lost_are_there() {
        let fixture = Fixture::new();
        fixture.broker.create_topic("t", 3).unwrap();
        let target = Side::open("target", &fixture.options()).unwrap();
        let topic = |partitions| Topic { from: "t".into(), to: "t".into(), partitions, id: None };
        grow(&target, &topic(3)).unwrap();
        grow(&target, &topic(4)).unwrap();
        assert_eq!(fixture.broker.describe_topic("t").unwrap().partition_count(), 4);
    }
}

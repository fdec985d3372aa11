//! The topics of an application: those that it reads have to fit together, its own are made before anything runs.

use super::{Partitions, states::clear};
use crate::{
    client::processing::{Site, TopicFacts},
    streams::{error::Error, plan::Plan, store::StoreSpec},
};
use std::{fs, path::Path, sync::Arc};

/// How long a window's changelog keeps what its store does not, in ms: Kafka's `windowstore.changelog.additional.retention.ms`.
const RETENTION_BEYOND: i64 = 24 * 60 * 60 * 1000;

/// Looks at the topics that are read, and makes the application's own where they are missing. A topic that is read and is not there is
/// made with the broker's defaults, as it is when somebody writes to it.
pub(super) fn prepare(plan: &Plan, site: &Site, state_dir: Option<&Path>) -> Result<Partitions, Error> {
    let own = |topic: &str| plan.repartitions.iter().any(|one| &*one.topic == topic);
    let mut partitions = Partitions::new();
    let read = plan.subtopologies.iter().flat_map(|part| &part.inputs).map(|input| &input.topic);
    for topic in read.chain(plan.globals.iter().map(|global| &global.topic)).filter(|topic| !own(topic)) {
        if !partitions.contains_key(topic) {
            partitions.insert(topic.clone(), make(site, topic, None, &[])?.partitions);
        }
    }
    for (topic, count) in plan.partitions(|topic| partitions.get(topic).copied())? {
        // What is read of it is done with: the offsets say so, and nothing else reads it.
        let settings = [("cleanup.policy", "delete".into()), ("retention.ms", "-1".into()), any_time()];
        let made = make(site, &topic, Some(count), &settings)?;
        has_partitions(&topic, made.partitions, count)?;
        partitions.insert(topic, count);
    }
    let mut ids = Vec::new();
    for part in &plan.subtopologies {
        let counts: Vec<(&Arc<str>, u32)> = part
            .inputs
            .iter()
            .filter_map(|input| partitions.get(&input.topic).map(|count| (&input.topic, *count)))
            .collect();
        let Some(&(first, count)) = counts.first() else { continue };
        for store in &part.stores {
            if let Some((other, differs)) = counts.iter().find(|(_, other)| *other != count) {
                let why = format!(
                    "the store {} is of topics of different partition counts: {first} has {count}, {other} has {differs}",
                    store.name
                );
                return Err(Error::Topology(why));
            }
            let changelog = plan.changelog(&store.name);
            let made = make(site, &changelog, Some(count), &changelog_settings(store))?;
            has_partitions(&changelog, made.partitions, count)?;
            ids.push(format!("{changelog} {}\n", made.id));
        }
    }
    state_dir.map_or(Ok(()), |dir| forget_foreign(&dir.join(&plan.application), &ids.concat()))?;
    Ok(partitions)
}

/// The topics that are the application's own.
pub(super) fn own(plan: &Plan) -> Vec<String> {
    let stores = plan.subtopologies.iter().flat_map(|part| &part.stores).map(|store| plan.changelog(&store.name));
    stores.chain(plan.repartitions.iter().map(|one| one.topic.to_string())).collect()
}

fn make(site: &Site, topic: &str, partitions: Option<u32>, settings: &[(&str, String)]) -> Result<TopicFacts, Error> {
    if let Some(there) = site.topic(topic)? {
        return Ok(there);
    }
    match site.create(topic, partitions, settings) {
        Ok(made) => Ok(made),
        // Another process was first.
        Err(error) => match site.topic(topic)? {
            Some(there) => Ok(there),
            None => Err(error.into()),
        },
    }
}

fn has_partitions(topic: &str, has: u32, wanted: u32) -> Result<(), Error> {
    if has == wanted {
        return Ok(());
    }
    Err(Error::Topology(format!(
        "the topic {topic} has {has} partitions, and the topics that it belongs to have {wanted}: reset the application to have it made anew"
    )))
}

/// What a topology takes may be of any time, and so what comes of it.
fn any_time() -> (&'static str, String) {
    ("message.timestamp.after.max.ms", i64::MAX.to_string())
}

fn changelog_settings(store: &StoreSpec) -> Vec<(&'static str, String)> {
    match store.retention() {
        None => vec![("cleanup.policy", "compact".into()), any_time()],
        Some(retention) => vec![
            ("cleanup.policy", "compact,delete".into()),
            ("retention.ms", retention.saturating_add(RETENTION_BEYOND).to_string()),
            any_time(),
        ],
    }
}

/// State on this disk is of the changelogs whose ids stand beside it. If they were made anew, it goes.
fn forget_foreign(dir: &Path, ids: &str) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::State(format!("{}: {error}", dir.display()));
    let file = dir.join("changelogs");
    let known = fs::read_to_string(&file).ok();
    let is_foreign = |known: &str| {
        let differs = |line: &str| {
            let name = line.split(' ').next();
            ids.lines().any(|own| own.split(' ').next() == name && own != line)
        };
        known.lines().any(differs)
    };
    if known.as_deref().is_none_or(is_foreign) {
        clear(dir).map_err(failed)?;
    }
    if known.as_deref() != Some(ids) {
        fs::create_dir_all(dir).map_err(failed)?;
        fs::write(&file, ids).map_err(failed)?;
    }
    Ok(())
}

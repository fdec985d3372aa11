//! How large a record of a topic may be: its `max.message.bytes`, as the cluster last told.
//!
//! It bounds the batches that are sent to the topic, and what is held of a record that arrives. So it need not be of this moment: it is
//! asked for when a topic is first written to, and again from time to time, while nobody waits.

use super::Shared;
use crate::log::batches::BATCH_BYTES_MAX;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// The setting.
const SETTING: &str = "max.message.bytes";
/// Kafka's default, where nobody tells.
const DEFAULT: usize = 1_048_588;
/// How long one of them is believed.
const BELIEVED: Duration = Duration::from_secs(60);
/// How long the largest of all is.
const LARGEST_BELIEVED: Duration = Duration::from_secs(10);
/// How long somebody waits to be told.
const ASKED: Duration = Duration::from_secs(2);
/// As many topics are remembered.
const TOPICS_MAX: usize = 10_000;

/// What was heard.
#[derive(Debug, Default)]
pub(super) struct Limits {
    of_topics: Mutex<HashMap<String, Heard>>,
    larger: Mutex<Option<Larger>>,
}

/// The topics whose records may be larger than the default.
#[derive(Debug)]
struct Larger {
    topics: Vec<(String, usize)>,
    at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    bytes: usize,
    at: Instant,
}

impl Heard {
    fn now(bytes: usize) -> Heard {
        Heard { bytes, at: Instant::now() }
    }
}

impl Limits {
    /// It may be another now.
    pub(super) fn forget(&self, topic: &str) {
        self.of_topics().remove(topic);
        *self.larger() = None;
    }

    pub(super) fn told(&self, topic: &str, bytes: usize) {
        let mut all = self.of_topics();
        if all.len() >= TOPICS_MAX {
            all.clear();
        }
        all.insert(topic.into(), Heard::now(bytes));
    }

    fn of_topics(&self) -> MutexGuard<'_, HashMap<String, Heard>> {
        self.of_topics.lock().expect("no panic under the lock")
    }

    fn larger(&self) -> MutexGuard<'_, Option<Larger>> {
        self.larger.lock().expect("no panic under the lock")
    }
}

impl Shared {
    /// How many bytes a batch, and so a record, of this topic may have.
    pub(super) fn record_bytes_max(self: &Arc<Shared>, topic: &str) -> usize {
        let heard = self.limits.of_topics().get(topic).copied();
        heard.map_or_else(|| self.ask_record_bytes_max(topic), |heard| heard.bytes)
    }

    /// Asks again where it is time to.
    pub(super) fn refresh_record_bytes_max(&self, topic: &str) {
        let heard = self.limits.of_topics().get(topic).copied();
        if heard.is_none_or(|heard| heard.at.elapsed() >= BELIEVED) {
            self.ask_record_bytes_max(topic);
        }
    }

    fn ask_record_bytes_max(&self, topic: &str) -> usize {
        let bytes = self.ask_limits(&[topic]).map_or(DEFAULT, |told| told[0].1);
        self.limits.told(topic, bytes);
        bytes
    }

    /// The largest of all topics that are `seen`, and no less than a topic has that is made by first use, as far as that is known.
    pub(super) fn largest_record_bytes(&self, seen: impl Fn(&str) -> bool) -> usize {
        // Who asks meanwhile waits and gets the same answer.
        let mut larger = self.limits.larger();
        if larger.as_ref().is_none_or(|larger| larger.at.elapsed() >= LARGEST_BELIEVED) {
            // Where nobody tells, what was told last.
            let before = larger.take().map(|larger| larger.topics);
            let topics = self.ask_larger().or(before).unwrap_or_default();
            *larger = Some(Larger { topics, at: Instant::now() });
        }
        let topics = larger.iter().flat_map(|larger| &larger.topics).filter(|(topic, _)| seen(topic));
        topics.map(|(_, bytes)| *bytes).max().unwrap_or(DEFAULT).min(BATCH_BYTES_MAX)
    }

    fn ask_larger(&self) -> Option<Vec<(String, usize)>> {
        let metadata = self.known.metadata_within(None, ASKED.min(self.options.timeout)).ok()?;
        let names: Vec<_> = metadata.topics().iter().map(|topic| topic.name()).collect();
        let told = self.ask_limits(&names)?;
        Some(told.into_iter().filter(|(_, bytes)| *bytes > DEFAULT).collect())
    }

    /// What these have, as far as it is told; `None`: nobody tells.
    fn ask_limits(&self, topics: &[&str]) -> Option<Vec<(String, usize)>> {
        let asked = self.known.ask_within(ASKED.min(self.options.timeout), |nodes| nodes.setting(topics, SETTING));
        let told = asked.ok()?.into_iter().filter_map(|(topic, settings)| {
            let setting = settings.ok()?.into_iter().find(|setting| setting.name == SETTING)?;
            Some((topic, setting.value.parse().ok()?))
        });
        Some(told.collect()).filter(|told: &Vec<_>| !told.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::testing::Fixture,
        config::{Change, Changes},
    };

    #[test]
    fn a_record_is_held_as_far_as_one_of_the_topics_takes_it() {
        let fixture = Fixture::new();
        assert_eq!(fixture.cluster.message_bytes_max(), DEFAULT);
        let with = |bytes: &str| [("max.message.bytes".to_string(), bytes.to_string())].into();
        fixture.cluster.create_topic_with("large", Some(1), with("5000000")).unwrap();
        fixture.cluster.create_topic_with("small", Some(1), with("1000")).unwrap();
        assert_eq!(fixture.cluster.message_bytes_max(), 5_000_000);
        assert_eq!(fixture.cluster.shared.largest_record_bytes(|topic| topic != "large"), DEFAULT, "it is not seen");
        let shared = &fixture.cluster.shared;
        assert_eq!(["large", "small"].map(|topic| shared.record_bytes_max(topic)), [5_000_000, 1000]);
        let found = fixture.cluster.find_topic("large").unwrap();
        assert_eq!(found.settings().max_message_bytes, 5_000_000);
        let named = [("max.message.bytes".to_string(), Change::Set("2000".into()))].into();
        fixture.cluster.alter_topic("small", None, &Changes { named, reset_others: false }).unwrap();
        assert_eq!(shared.record_bytes_max("small"), 2000);
    }
}

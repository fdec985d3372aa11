//! The two sides of a move: each is asked by a client of its own.

use super::super::{
    ClusterOptions,
    errors::{Passes, of_topic},
    known::{Known, SPREADS},
    native::{Answer, Asking, At},
    topics::{END, FIRST},
};
use crate::broker::{Code, Error, Result};
use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

/// As many partitions are asked for at once.
const AT_ONCE: usize = 1000;
/// How long a question is repeated that a node cannot answer just now.
const PATIENCE: Duration = Duration::from_secs(60);

/// The source or the target.
pub(super) struct Side {
    /// What it is called in errors.
    pub(super) name: &'static str,
    pub(super) options: ClusterOptions,
    pub(super) known: Known,
}

/// A partition of a topic, by its name.
pub(super) type Place = (String, u32);

/// A topic's UUID. Another topic of its name has another one.
pub(super) type Id = [u8; 16];

/// Where a partition begins and ends, as far as readers of committed records see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) first: i64,
    pub(super) end: i64,
}

impl Side {
    pub(super) fn open(name: &'static str, options: &ClusterOptions) -> Result<Side> {
        Ok(Side { name, options: options.clone(), known: Known::new(options)? })
    }

    /// The id of its cluster.
    pub(super) fn cluster_id(&self) -> Result<String> {
        // What answers first, or tells why nothing does.
        self.known.metadata(None)?;
        let id = self.known.client().fetch_cluster_id(self.options.timeout);
        id.filter(|id| !id.is_empty()).ok_or_else(|| Error::OfCluster {
            code: Code::UnsupportedVersion,
            why: format!("the {} does not tell its cluster's id", self.name),
        })
    }

    /// Its topics, but for those of its own.
    pub(super) fn topics(&self) -> Result<BTreeMap<String, u32>> {
        let metadata = self.known.metadata(None)?;
        let topics = metadata.topics().iter().filter(|topic| topic.error().is_none());
        let topics = topics.map(|topic| (topic.name().to_string(), topic.partitions().len() as u32));
        Ok(topics.filter(|(name, _)| !name.starts_with("__")).collect())
    }

    /// The ids of topics, as far as they are told: nodes before Kafka 2.8 have none, and one may not have heard yet of a new topic.
    pub(super) fn ids(&self, topics: &[&str]) -> Result<BTreeMap<String, Id>> {
        let mut ids = BTreeMap::new();
        for topics in topics.chunks(AT_ONCE) {
            let found = self.ask("asking for topics", |asking| asking.topics(topics))?;
            let told = found.into_iter().filter_map(|found| Some((found.name, found.topic.ok()?.id)));
            ids.extend(told.filter(|(_, id)| *id != [0; 16]));
        }
        Ok(ids)
    }

    /// Asks, and again while a node says that it cannot tell yet.
    pub(super) fn ask<T>(
        &self,
        what: &str,
        question: impl Fn(&Asking<'_, super::super::heard::Heard>) -> Answer<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.known.ask(&question) {
                Err(refused) if refused.passes() && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(100));
                }
                answer => return answer.map_err(|refused| self.explain(what, refused)),
            }
        }
    }

    /// An error of this side's.
    pub(super) fn explain(&self, what: &str, refused: super::super::native::Refused) -> Error {
        self.known.explain_other(&format!("{} at the {}", what, self.name), refused)
    }

    /// Where partitions begin and end.
    pub(super) fn ends(&self, places: &[Place]) -> Result<Vec<Ends>> {
        let mut ends = Vec::with_capacity(places.len());
        for places in places.chunks(AT_ONCE) {
            let (first, end) = (self.offsets(places, FIRST)?, self.offsets(places, END)?);
            ends.extend(first.into_iter().zip(end).map(|(first, end)| Ends { first, end: end.max(first) }));
        }
        Ok(ends)
    }

    /// Why nothing comes of it.
    pub(super) fn silent(&self) -> Error {
        match self.known.metadata(None) {
            Err(error) => error,
            Ok(_) => {
                let why = format!("the {} has sent nothing for a minute, though it has more", self.name);
                Error::OfCluster { code: Code::RequestTimedOut, why }
            }
        }
    }

    fn offsets(&self, places: &[Place], kind: i64) -> Result<Vec<i64>> {
        let begun = Instant::now();
        let found = self.ask("asking for offsets", |asking| {
            let found = asking.offsets(places.iter().map(|(topic, partition)| (&**topic, *partition, kind)), true)?;
            let passing = |at: &&At| at.refused.as_ref().is_some_and(Passes::passes);
            let Some(At { topic, refused: Some(refused), .. }) = found.iter().find(passing) else { return Ok(found) };
            // A client believes for minutes what it knows of a topic, and then knows nothing of partitions that were added.
            match self.known.topic_now(topic) {
                // It is gone, and not only new: who asks is told so.
                Err(Error::UnknownTopic(_)) if begun.elapsed() > SPREADS => Ok(found),
                _ => Err(refused.clone()),
            }
        })?;
        let mut by_place: BTreeMap<(String, u32), At> = BTreeMap::new();
        by_place.extend(found.into_iter().map(|at| ((at.topic.clone(), at.partition), at)));
        let of = |place: &Place| match by_place.remove(place) {
            Some(At { refused: None, offset, .. }) => Ok(offset),
            Some(At { refused: Some(refused), .. }) => Err(of_topic(&place.0, refused)),
            None => Err(Error::UnknownTopic(place.0.clone())),
        };
        places.iter().map(of).collect()
    }
}

/// An error if one of the answers may be another soon.
pub(super) fn settled<T>(answers: Vec<(String, Answer<T>)>) -> Answer<Vec<(String, Answer<T>)>> {
    let refused = answers.iter().filter_map(|(_, answer)| answer.as_ref().err());
    match refused.into_iter().find(|refused| refused.passes()) {
        Some(refused) => Err(refused.clone()),
        None => Ok(answers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::Fixture;

    #[test]
    fn of_a_topic_that_is_gone_it_is_told_soon() {
        let fixture = Fixture::new();
        fixture.broker.create_topic("t", 1).unwrap();
        let side = Side::open("source", &fixture.options()).unwrap();
        let places = ["t", "gone"].map(|topic| (topic.to_string(), 0));
        let begun = Instant::now();
        assert_eq!(side.ends(&places), Err(Error::UnknownTopic("gone".into())));
        assert!(begun.elapsed() < PATIENCE / 2);
        let ids = side.ids(&["t", "gone"]).unwrap();
        assert_eq!(ids, BTreeMap::from([("t".into(), fixture.broker.describe_topic("t").unwrap().id)]));
    }
}

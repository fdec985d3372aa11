//! What runs of a topology: sub-topologies, their inputs and stores, and the topics of the application's own.

use super::{
    context::{NodeId, Slot, Wiring},
    error::{Error, Failure, Place},
    event::Event,
    store::{Changes, State, StoreSpec, join_value},
};
use crate::client::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A topology that has been found to hold together. Tasks are made of it.
pub struct Plan {
    /// The name of the topology: the group, and the prefix of its own topics.
    pub application: String,
    /// Its sub-topologies, by number.
    pub subtopologies: Vec<Subtopology>,
    /// The topics between them.
    pub repartitions: Vec<Repartition>,
    /// Topics that every process reads whole.
    pub globals: Vec<GlobalSource>,
    /// Inputs that must have equally many partitions, with the name of who joins them.
    pub joined: Vec<(String, BTreeSet<Arc<str>>)>,
    /// The names of all nodes.
    pub(super) names: Vec<String>,
    pub(super) children: Arc<[Vec<NodeId>]>,
    pub(super) makes: Vec<Make>,
}

/// Makes the node of one task.
pub(super) type Make = Arc<dyn Fn(&Wiring<'_>) -> Slot + Send + Sync>;

/// Tells the time of a record: by what is in it, and the highest time that its task has seen.
pub(super) type Extract = Arc<dyn Fn(Event<Vec<u8>, Vec<u8>>, i64) -> Result<i64, Failure> + Send + Sync>;

/// Nodes that hang together: what a task runs.
pub struct Subtopology {
    /// Its number.
    pub id: usize,
    /// The topics that it reads.
    pub inputs: Vec<Input>,
    /// The topics that it writes, where they are not chosen by record.
    pub outputs: Vec<Arc<str>>,
    /// Its stores; a task knows them by their place here.
    pub stores: Vec<StoreSpec>,
    pub(super) nodes: Vec<NodeId>,
}

/// A topic that a sub-topology reads.
pub struct Input {
    /// The topic.
    pub topic: Arc<str>,
    pub(super) node: NodeId,
    pub(super) extract: Option<Extract>,
}

/// A topic of the application's own, through which records come to the partition of their new key.
#[derive(Clone, Debug, PartialEq)]
pub struct Repartition {
    /// Its name.
    pub topic: Arc<str>,
    /// How many partitions it was asked to have.
    pub partitions: Option<u32>,
}

/// A topic that every process reads whole, into a state of one store that all its tasks see.
#[derive(Clone)]
pub struct GlobalSource {
    /// The topic.
    pub topic: Arc<str>,
    /// The name of its store.
    pub store: String,
    /// Reads key and value of a record.
    pub(super) check: Check,
}

/// Finds out whether the key and the value of a record parse.
pub(super) type Check = Arc<dyn Fn(Event<Vec<u8>, Vec<u8>>) -> Result<(), Failure> + Send + Sync>;

impl GlobalSource {
    /// Brings the state up to the offset `next` of the topic. A record without a key is left out; `failed` says what is done about
    /// one that does not parse: an answer of `Ok` leaves it out.
    pub fn apply(
        &self,
        state: &dyn State,
        records: &[Message],
        next: u64,
        mut failed: impl FnMut(Place, Failure) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut entries = BTreeMap::new();
        for Message { topic, partition, offset, timestamp, key, value, .. } in records {
            let Some(key) = key else { continue };
            if let Err(failure) = (self.check)(Event::new(key.clone(), value.clone(), *timestamp)) {
                failed(Place { topic: topic.clone(), partition: *partition, offset: *offset }, failure)?;
                continue;
            }
            entries.insert(key.clone(), value.as_ref().map(|value| join_value(*timestamp, value)));
        }
        let change = Changes { store: 0, purge: None, entries: &entries, offset: Some(next) };
        state.commit(&[change], -1, false).map_err(Error::State)
    }
}

impl Plan {
    /// The changelog of a store.
    pub fn changelog(&self, store: &str) -> String {
        changelog(&self.application, store)
    }

    /// The store of a name.
    pub(super) fn store(&self, name: &str) -> Option<&StoreSpec> {
        self.subtopologies.iter().flat_map(|part| &part.stores).find(|spec| spec.name == name)
    }

    /// How many partitions each topic between sub-topologies has, given those of the topics that exist. It fails, by name, where
    /// a topic that is read does not exist, or where topics are joined that do not fit together.
    pub fn partitions(&self, existing: impl Fn(&str) -> Option<u32>) -> Result<BTreeMap<Arc<str>, u32>, Error> {
        let own: BTreeSet<&str> = self.repartitions.iter().map(|one| &*one.topic).collect();
        let mut known: BTreeMap<Arc<str>, u32> = BTreeMap::new();
        for Input { topic, .. } in self.subtopologies.iter().flat_map(|part| &part.inputs) {
            if !own.contains(&**topic) {
                let count = existing(topic);
                known
                    .insert(topic.clone(), count.ok_or_else(|| Error::Topology(format!("there is no topic {topic}")))?);
            }
        }
        for Repartition { topic, partitions } in &self.repartitions {
            known.extend(partitions.map(|count| (topic.clone(), count)));
        }
        // What is joined with a topic that is there has its partitions; the rest as many as what it comes from.
        while known.len() < self.inputs().count() {
            let before = known.len();
            self.fit(&mut known)?;
            for topic in self.repartitions.iter().map(|one| &one.topic) {
                let writers = self.subtopologies.iter().filter(|part| part.outputs.contains(topic));
                let counts: Option<Vec<u32>> =
                    writers.flat_map(|part| &part.inputs).map(|input| known.get(&input.topic).copied()).collect();
                if let (false, Some(count)) = (known.contains_key(topic), counts.and_then(|all| all.into_iter().max()))
                {
                    known.insert(topic.clone(), self.joined_count(topic, count, &known));
                }
            }
            if known.len() == before {
                return Err(Error::Topology("the topics between the sub-topologies depend on each other".into()));
            }
        }
        self.fit(&mut known)?;
        known.retain(|topic, _| own.contains(&**topic));
        Ok(known)
    }

    fn inputs(&self) -> impl Iterator<Item = &Arc<str>> {
        let inputs: BTreeSet<_> =
            self.subtopologies.iter().flat_map(|part| &part.inputs).map(|input| &input.topic).collect();
        inputs.into_iter()
    }

    /// Gives topics that are joined the count of those beside them, where it is known; fails where two are known and differ.
    fn fit(&self, known: &mut BTreeMap<Arc<str>, u32>) -> Result<(), Error> {
        for (name, topics) in &self.joined {
            let mut counted = topics.iter().filter_map(|topic| known.get(topic).map(|count| (topic, *count)));
            let Some((first, count)) = counted.next() else { continue };
            if let Some((other, differs)) = counted.find(|(_, other)| *other != count) {
                return Err(Error::Topology(format!(
                    "{name} joins topics of different partition counts: {first} has {count}, {other} has {differs}"
                )));
            }
            for topic in topics {
                known.entry(topic.clone()).or_insert(count);
            }
        }
        Ok(())
    }

    /// The highest count of topics that are joined with this one and only come from others, as it does.
    fn joined_count(&self, topic: &Arc<str>, count: u32, known: &BTreeMap<Arc<str>, u32>) -> u32 {
        let beside = self.joined.iter().filter(|(_, topics)| topics.contains(topic)).flat_map(|(_, topics)| topics);
        let parts =
            beside.flat_map(|beside| self.subtopologies.iter().filter(move |part| part.outputs.contains(beside)));
        let counts = parts.flat_map(|part| &part.inputs).filter_map(|input| known.get(&input.topic).copied());
        counts.chain([count]).max().unwrap_or(count)
    }
}

/// The changelog of a store of an application.
pub(super) fn changelog(application: &str, store: &str) -> String {
    format!("{application}-{store}-changelog")
}

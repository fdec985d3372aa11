//! The nodes of the cluster, and what is told of it as a whole: to INFO, `/api/cluster`, `/metrics`, `/ready`.
//!
//! A node that is gone is not among those that the others tell of; it is missed where it has copies. All of this is looked up at most
//! once a second, and how far groups have read at most once in ten, whoever asks.

use super::{
    Cluster,
    topics::{END, FIRST, told},
};
use crate::{
    broker::{
        Committed, Fault, Isolation, Node, Nodes, ObservedGroup, ObservedOffset, ObservedPartition, ObservedTopic,
        Result, ShareCounts,
    },
    metrics::{LatencySum, TrafficSum},
    security::Operation,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, OnceLock},
    thread::{self, Builder},
    time::{Duration, Instant},
};

/// How long the nodes are believed.
const BELIEVED: Duration = Duration::from_secs(1);
/// How long it is believed how far groups have read.
const OBSERVED: Duration = Duration::from_secs(10);
/// How long somebody who only looks waits for an answer.
const LOOK: Duration = Duration::from_secs(2);
/// Until when it is asked what groups have committed, from the begin of looking on: those who ask for metrics wait no longer than 10 s.
const OBSERVING: Duration = Duration::from_secs(6);

/// What was looked up, and when.
#[derive(Default)]
pub(super) struct Looked {
    cluster_id: OnceLock<String>,
    nodes: Mutex<Option<(Instant, Result<Arc<Nodes>>)>>,
    observed: Mutex<Option<(Instant, Arc<Observed>)>>,
    shares: ShareCounts,
}

/// The topics, and how far groups have read them.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) topics: Vec<ObservedTopic>,
    groups: Vec<ObservedGroup>,
}

impl fmt::Debug for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Looked").finish_non_exhaustive()
    }
}

impl Cluster {
    /// The cluster's id; `-` until a node has told it.
    pub fn cluster_id(&self) -> String {
        let looked = &self.shared.looked.cluster_id;
        if let Some(id) = looked.get() {
            return id.clone();
        }
        match self.shared.known.client().fetch_cluster_id(LOOK) {
            Some(id) => looked.get_or_init(|| id).clone(),
            None => "-".into(),
        }
    }

    /// The nodes, and what is missing of them. None that answers is an error.
    pub(super) fn look_at_nodes(&self) -> Result<Arc<Nodes>> {
        // Who asks meanwhile waits and gets the same answer.
        let mut looked = self.shared.looked.nodes.lock().expect("no panic under the lock");
        match looked.as_ref() {
            Some((at, nodes)) if at.elapsed() < BELIEVED => nodes.clone(),
            _ => {
                let nodes = self.nodes_now().map(Arc::new);
                *looked = Some((Instant::now(), nodes.clone()));
                nodes
            }
        }
    }

    fn nodes_now(&self) -> Result<Nodes> {
        let metadata = self.shared.known.metadata_within(None, self.look())?;
        let there = metadata.brokers().iter().map(|node| Node {
            id: node.id(),
            host: node.host().into(),
            port: u16::try_from(node.port()).unwrap_or(0),
        });
        let there: Vec<_> = there.collect();
        let ids: BTreeSet<i32> = there.iter().map(|node| node.id).collect();
        let (mut missing, mut leaderless) = (BTreeMap::new(), Vec::new());
        for topic in metadata.topics() {
            for partition in topic.partitions() {
                for id in partition.replicas().iter().filter(|id| !ids.contains(id)) {
                    *missing.entry(*id).or_insert(0) += 1;
                }
                if partition.leader() < 0 {
                    leaderless.push((topic.name().to_owned(), partition.id().max(0) as u32));
                }
            }
        }
        Ok(Nodes {
            there,
            missing,
            leaderless,
            topics: metadata.topics().iter().map(|topic| topic.name().into()).collect(),
        })
    }

    /// The nodes, as far as one of them tells.
    pub fn nodes(&self) -> Option<Nodes> {
        Some(self.look_at_nodes().map(|nodes| self.seen_of(&nodes)).unwrap_or_default())
    }

    /// What the caller may see of them. Which are missing is known by the topics that have copies there.
    fn seen_of(&self, nodes: &Nodes) -> Nodes {
        let mut nodes = nodes.clone();
        nodes.topics.retain(|topic| self.door.may_describe(topic));
        nodes.leaderless.retain(|(topic, _)| self.door.may_describe(topic));
        if self.door.ask_cluster(Operation::Describe).is_err() {
            nodes.missing.clear();
        }
        nodes
    }

    /// Whether a node answers.
    pub fn is_ready(&self) -> bool {
        self.look_at_nodes().is_ok()
    }

    /// That none of the nodes answers; or those that are missing, and the partitions that none leads.
    pub fn faults(&self) -> Vec<Fault> {
        let nodes = match self.look_at_nodes() {
            Err(error) => return vec![Fault { topic: None, partition: None, why: error.to_string() }],
            Ok(nodes) => self.seen_of(&nodes),
        };
        let missing = nodes.missing.iter().map(|(id, copies)| Fault {
            topic: None,
            partition: None,
            why: format!("node {id} is missing, which has copies of {copies} partitions"),
        });
        let leaderless = nodes.leaderless.iter().map(|(topic, partition)| Fault {
            topic: Some(topic.clone()),
            partition: Some(*partition),
            why: "no node leads it".into(),
        });
        missing.chain(leaderless).collect()
    }

    /// The topics that the caller may see and how much they hold, as they were within the last ten seconds.
    pub fn observe_topics(&self) -> Vec<ObservedTopic> {
        let observed = self.observed();
        observed.topics.iter().filter(|topic| self.door.may_describe(&topic.name)).cloned().collect()
    }

    /// The groups with members or offsets that the caller may see, as they were within the last ten seconds.
    pub fn observe_groups(&self) -> Result<Vec<ObservedGroup>> {
        let observed = self.observed();
        let mut groups = observed.groups.clone();
        groups.retain(|group| self.door.ask_group(Operation::Describe, &group.name).is_ok());
        groups.iter_mut().for_each(|group| group.offsets.retain(|offset| self.door.may_describe(&offset.topic)));
        groups.retain(|group| group.members > 0 || !group.offsets.is_empty());
        Ok(groups)
    }

    fn observed(&self) -> Arc<Observed> {
        let mut looked = self.shared.looked.observed.lock().expect("no panic under the lock");
        match looked.as_ref() {
            Some((at, observed)) if at.elapsed() < OBSERVED => observed.clone(),
            _ => {
                let observed = Arc::new(self.permitted().observe_now());
                *looked = Some((Instant::now(), observed.clone()));
                observed
            }
        }
    }

    /// What cannot be asked now is not told; [`faults`](Self::faults) says why.
    fn observe_now(&self) -> Observed {
        if self.look_at_nodes().is_err() {
            return Observed::default();
        }
        thread::scope(|scope| {
            let groups = Builder::new().name("observing".into()).spawn_scoped(scope, || self.observed_groups());
            let topics = self.observed_topics().unwrap_or_default();
            Observed { topics, groups: groups.ok().and_then(|groups| groups.join().ok()).unwrap_or_default() }
        })
    }

    fn observed_groups(&self) -> Vec<ObservedGroup> {
        let deadline = Instant::now() + OBSERVING;
        let groups = self.groups_within(self.look()).unwrap_or_default();
        let names: Vec<&str> = groups.iter().map(|group| &*group.name).collect();
        let committed = self.committed_by(&names, deadline);
        let groups = groups.iter().zip(committed).map(|(group, committed)| {
            let offset = |((topic, partition), committed): (_, Committed)| ObservedOffset {
                topic,
                partition,
                committed: committed.offset,
                done: 0,
            };
            let offsets = committed.into_iter().map(offset).collect();
            ObservedGroup { name: group.name.clone(), members: group.members, offsets }
        });
        groups.filter(|group| group.members > 0 || !group.offsets.is_empty()).collect()
    }

    fn observed_topics(&self) -> Result<Vec<ObservedTopic>> {
        let metadata = self.shared.known.metadata_within(None, self.look())?;
        let counts: BTreeMap<&str, u32> =
            metadata.topics().iter().map(|topic| (topic.name(), topic.partitions().len() as u32)).collect();
        let all: Vec<_> = counts.iter().flat_map(|(name, count)| (0..*count).map(|index| (*name, index))).collect();
        let offsets = |which| self.offsets_within(&all, which, Isolation::ReadUncommitted, self.look());
        let (starts, ends) = (offsets(FIRST)?, offsets(END)?);
        let observed = |(name, count): (&str, u32)| {
            let partition = |index: u32| {
                let (start, end) = (told(&starts, name, index).ok()?, told(&ends, name, index).ok()?);
                Some(ObservedPartition { start, end, bytes: None, segments: None })
            };
            let partitions = (0..count).map(partition).collect();
            ObservedTopic { name: name.into(), traffic: TrafficSum::default(), partitions }
        };
        Ok(counts.into_iter().map(observed).collect())
    }

    /// How long somebody who only looks waits for an answer.
    fn look(&self) -> Duration {
        LOOK.min(self.shared.options.timeout)
    }

    /// What went through this program since its start, whichever topics it was of: for whoever may see what the cluster has.
    pub fn traffic(&self) -> TrafficSum {
        let may = self.door.ask_cluster(Operation::Describe);
        may.map_or_else(|_| TrafficSum::default(), |_| self.metrics().dropped.get())
    }

    /// Nothing is synced here.
    pub fn syncs(&self) -> LatencySum {
        LatencySum::default()
    }

    /// Nothing is stored here that could be damaged.
    pub fn damaged_batches(&self) -> u64 {
        0
    }

    /// There are no share groups here.
    pub fn shares_in_flight(&self) -> u64 {
        0
    }

    /// Nor have there been.
    pub fn share_counts(&self) -> &ShareCounts {
        &self.shared.looked.shares
    }
}

#[cfg(test)]
mod tests {
    use crate::cluster::testing::open_within;
    use rdkafka::mocking::MockCluster;
    use std::time::{Duration, Instant};

    #[test]
    fn who_observes_does_not_wait_long_for_a_node_that_is_silent() {
        let mock = MockCluster::new(2).unwrap();
        for (topic, leader) in [("here", 1), ("silent", 2)] {
            mock.create_topic(topic, 1, 1).unwrap();
            mock.partition_leader(topic, 0, Some(leader)).unwrap();
        }
        let cluster = open_within(&mock.bootstrap_servers(), Duration::from_secs(60));
        assert_eq!(cluster.observe_topics().len(), 2);
        mock.broker_round_trip_time(2, Duration::from_secs(600)).unwrap();
        *cluster.shared.looked.observed.lock().unwrap() = None;
        let begun = Instant::now();
        cluster.observe_topics();
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    }
}

//! Consumer groups as an administrator sees and changes them.
//!
//! The cluster tells who is in a group and what it has committed. It does not tell generations.

use super::{
    Cluster,
    errors::of_group,
    known::GROUPS_AT_ONCE,
    native::{GroupOffset, Kind, Member, Refused},
    topics::{END, told},
};
use crate::{
    broker::{
        Code, Committed, Error, GroupSummary, Isolation, Lag, OffsetCommit, Result,
        group::{Description, GroupType, MemberDescription, Owned},
    },
    log::record::shown,
    security::Operation,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// Offsets of a group by topic and partition.
pub(super) type Offsets = BTreeMap<(Arc<str>, u32), Committed>;

impl Cluster {
    /// All groups of consumers, by name.
    pub fn groups(&self) -> Result<Vec<GroupSummary>> {
        self.groups_within(self.shared.options.timeout)
    }

    /// The same where no question may take longer.
    pub(super) fn groups_within(&self, most: Duration) -> Result<Vec<GroupSummary>> {
        let listed = self.shared.known.ask_coordinator_within(most, |nodes| nodes.groups());
        let mut listed = listed.map_err(|refused| self.shared.known.explain_other("listing groups", refused))?;
        let all = self.door.ask_cluster(Operation::Describe).is_ok();
        listed.retain(|group| all || self.door.ask_group(Operation::Describe, &group.name).is_ok());
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        let names: Vec<_> = listed.iter().map(|group| &*group.name).collect();
        let described = self.shared.known.ask_coordinators(&names, most, |nodes, names| nodes.describe_groups(names));
        let described = described.map_err(|refused| self.shared.known.explain_other("describing groups", refused))?;
        let summary = |group: super::native::Listed| {
            let of = described.get(&group.name).and_then(|group| group.as_ref().ok());
            GroupSummary {
                members: of.map_or(0, |of| of.members.len()),
                state: of.map_or(group.state, |of| of.state),
                group_type: group_type(of.map_or(group.kind, |of| of.kind)),
                protocol_type: "consumer".into(),
                name: group.name.into(),
            }
        };
        Ok(listed.into_iter().map(summary).collect())
    }

    /// A group, if there is one of this name.
    pub fn group(&self, name: &str) -> Result<Option<Description>> {
        self.door.ask_group(Operation::Describe, name)?;
        let described = self.shared.known.ask_coordinator(|nodes| {
            let described = nodes.describe_groups(&[name])?.pop();
            described.map(|(_, described)| described).transpose()
        });
        let group = match described {
            Err(refused) => match self.about_group(name, refused) {
                Error::UnknownGroup(_) => return Ok(None),
                error => return Err(error),
            },
            Ok(None) => return Ok(None),
            // So a node describes a group that is not there.
            Ok(Some(group)) if group.state == "Dead" => return Ok(None),
            Ok(Some(group)) => group,
        };
        let group_type = group_type(group.kind);
        Ok(Some(Description {
            group_type,
            state: group.state,
            generation: None,
            protocol_type: "consumer".into(),
            protocol: group.assignor,
            members: group.members.into_iter().map(|member| described_member(member, group_type)).collect(),
            ..Description::default()
        }))
    }

    /// What a group has committed; nothing if there is no such group.
    pub fn committed_offsets(&self, name: &str) -> Result<Offsets> {
        self.door.ask_group(Operation::Describe, name)?;
        match self.shared.known.ask_coordinator(|nodes| nodes.group_offsets(name)) {
            Ok(offsets) => Ok(offsets.into_iter().map(committed).collect()),
            Err(refused) => match self.about_group(name, refused) {
                Error::UnknownGroup(_) => Ok(Offsets::new()),
                error => Err(error),
            },
        }
    }

    /// What groups have committed, in their order, asked for many at a time. What is not told by then is missing.
    pub(super) fn committed_by(&self, names: &[&str], deadline: Instant) -> Vec<Offsets> {
        let mut all = Vec::with_capacity(names.len());
        for names in names.chunks(GROUPS_AT_ONCE) {
            let time = deadline.saturating_duration_since(Instant::now());
            if time.is_zero() {
                break;
            }
            let told = self.shared.known.ask_within(time, |nodes| nodes.offsets_of_groups(names)).unwrap_or_default();
            let told = told.into_iter().map(|offsets| offsets.unwrap_or_default().into_iter().map(committed).collect());
            all.extend(told.chain(std::iter::repeat_with(Offsets::new)).take(names.len()));
        }
        all.resize_with(names.len(), Offsets::new);
        all
    }

    /// How far a group is behind, in every partition of which it committed an offset or a member owns another.
    pub fn lag(&self, name: &str) -> Result<Vec<Lag>> {
        let offsets = self.committed_offsets(name)?;
        let members = self.group(name)?.map(|group| group.members).unwrap_or_default();
        let owned = members.into_iter().flat_map(|member| member.owned).map(|owned| (owned.topic, owned.partition));
        self.lag_behind(offsets, owned)
    }

    fn lag_behind(&self, mut offsets: Offsets, owned: impl Iterator<Item = (Arc<str>, u32)>) -> Result<Vec<Lag>> {
        let seen = |(topic, _): &(Arc<str>, u32)| self.door.may_describe(topic);
        let keys: BTreeSet<_> = owned.chain(offsets.keys().cloned()).filter(seen).collect();
        let wanted: Vec<_> = keys.iter().map(|(topic, partition)| (&**topic, *partition)).collect();
        let ends = self.offsets(&wanted, END, Isolation::ReadUncommitted)?;
        let lag = |key: (Arc<str>, u32)| {
            let end = match told(&ends, &key.0, key.1) {
                // What is gone has no end, and no row. Without the row of one that nobody leads the group would seem to be less behind.
                Err(Error::UnknownTopic(_) | Error::UnknownPartition { .. }) => return None,
                told => told,
            };
            let committed = offsets.remove(&key);
            let (topic, partition) = key;
            Some(end.map(|end| Lag { topic, partition, committed, done: 0, in_flight: None, is_pending: false, end }))
        };
        keys.into_iter().filter_map(lag).collect()
    }

    /// Sets offsets of a group without members; it is made if need be.
    pub fn reset_offsets(&self, name: &str, offsets: &[(Arc<str>, u32, u64)]) -> Result<()> {
        let one = |&(ref topic, partition, offset): &(Arc<str>, u32, u64)| GroupOffset {
            topic: topic.to_string(),
            partition,
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
            leader_epoch: None,
            metadata: String::new(),
        };
        self.alter_offsets(name, offsets.iter().map(one).collect())?.into_iter().try_for_each(|outcome| outcome)?;
        for (topic, partition, offset) in offsets {
            self.door.note_offset(name, topic, *partition, Some(*offset));
        }
        Ok(())
    }

    /// Whether offsets of a group can be reset, as far as the group has a say in it.
    pub fn may_reset_offsets(&self, name: &str) -> Result<()> {
        self.door.ask_group(Operation::Read, name)?;
        let has_members = self.permitted().group(name)?.is_some_and(|group| !group.members.is_empty());
        if has_members { Err(Error::NonEmptyGroup(shown(name.as_bytes()))) } else { Ok(()) }
    }

    /// Commits offsets of a group without members, each with what is noted beside it.
    pub fn commit_for_group(&self, name: &str, offsets: Vec<OffsetCommit>) -> Result<()> {
        let one = |one: OffsetCommit| GroupOffset {
            topic: one.topic.to_string(),
            partition: one.partition,
            offset: one.committed.offset,
            leader_epoch: Some(one.committed.leader_epoch).filter(|epoch| *epoch >= 0),
            metadata: one.committed.metadata,
        };
        self.alter_offsets(name, offsets.into_iter().map(one).collect())?.into_iter().collect()
    }

    /// Answers what became of each.
    fn alter_offsets(&self, name: &str, offsets: Vec<GroupOffset>) -> Result<Vec<Result<()>>> {
        self.may_reset_offsets(name)?;
        offsets.iter().try_for_each(|one| self.door.ask_topic(Operation::Read, &one.topic).map(drop))?;
        let refused = self.shared.known.ask_coordinator(|nodes| nodes.alter_offsets(name, &offsets));
        let refused = refused.map_err(|refused| self.about_group(name, refused))?;
        let outcome = |one: GroupOffset| {
            let of_it = refused.iter().find(|at| (&*at.topic, at.partition) == (&*one.topic, one.partition));
            match of_it.and_then(|at| at.refused.clone()) {
                None => Ok(()),
                Some(refused) if refused.number == Code::UnknownTopicOrPartition as i32 => {
                    Err(Error::UnknownTopic(one.topic))
                }
                Some(refused) => Err(self.about_group(name, refused)),
            }
        };
        Ok(offsets.into_iter().map(outcome).collect())
    }

    /// Deletes a group without members, with all that it committed.
    pub fn delete_group(&self, name: &str) -> Result<()> {
        self.door.ask_group(Operation::Delete, name)?;
        let deleted = self.shared.known.ask_coordinator(|nodes| nodes.delete_group(name));
        deleted.map_err(|refused| self.about_group(name, refused))?;
        self.door.note("group-deleted", &[("group", &name)]);
        Ok(())
    }

    fn about_group(&self, name: &str, refused: Refused) -> Error {
        self.shared.known.explain_refusal(refused, |refused| of_group(name, refused))
    }
}

fn group_type(kind: Kind) -> GroupType {
    match kind {
        Kind::Classic => GroupType::Classic,
        Kind::Consumer => GroupType::Consumer,
    }
}

fn committed(one: GroupOffset) -> ((Arc<str>, u32), Committed) {
    let GroupOffset { topic, partition, offset, leader_epoch, metadata } = one;
    // When it was committed is not told.
    let committed = Committed { offset, leader_epoch: leader_epoch.unwrap_or(-1), metadata, timestamp_ms: -1 };
    ((topic.into(), partition), committed)
}

fn described_member(member: Member, group_type: GroupType) -> MemberDescription {
    let Member { id, instance_id, client_id, host, assigned, target } = member;
    let owned = assigned.into_iter().map(|(topic, partition)| Owned { topic: topic.into(), partition, since: 0 });
    MemberDescription {
        member_id: id,
        instance_id,
        client_id,
        client_host: host,
        owned: owned.collect(),
        target: target.into_iter().map(|(topic, partition)| (topic.into(), partition)).collect(),
        is_classic: group_type == GroupType::Classic,
        ..MemberDescription::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Consumer, Producer,
        cluster::testing::{Fixture, open_within},
    };
    use rdkafka::mocking::MockCluster;

    #[test]
    fn a_partition_that_nobody_leads_is_not_left_out_of_the_lag() {
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic("t", 2, 1).unwrap();
        let lag = || {
            let cluster = open_within(&mock.bootstrap_servers(), Duration::from_secs(2));
            let owned = (0..2).map(|partition| ("t".into(), partition));
            cluster.lag_behind(Offsets::new(), owned).map(|lag| lag.len())
        };
        assert_eq!(lag(), Ok(2));
        mock.partition_leader("t", 1, None).unwrap();
        let refused = lag().unwrap_err();
        assert_eq!(refused.code(), Code::LeaderNotAvailable, "{refused}");
    }

    #[test]
    fn many_groups_are_observed_each_with_its_own_offsets() {
        let Fixture { cluster, broker, .. } = &Fixture::new();
        broker.create_topic("t", 1).unwrap();
        let mut producer = Producer::embedded(broker);
        let count = 2 * GROUPS_AT_ONCE as u64 + 1;
        for _ in 0..count {
            producer.send("t", crate::Record::new("x")).unwrap();
        }
        for offset in 0..count {
            broker.reset_offsets(&format!("g{offset}"), &[("t".into(), 0, offset)]).unwrap();
        }
        let observed = cluster.observe_groups().unwrap();
        assert_eq!(observed.len() as u64, count);
        for group in observed {
            assert_eq!(format!("g{}", group.offsets[0].committed), &*group.name);
        }
        assert_eq!(cluster.committed_by(&["g1"], Instant::now()), [Offsets::new()], "there was no time");
    }

    #[test]
    fn groups_are_listed_described_reset_and_deleted_as_the_cluster_says() {
        let Fixture { cluster, broker, .. } = &Fixture::new();
        broker.create_topic("t", 2).unwrap();
        let mut producer = Producer::embedded(broker);
        for partition in [0, 0, 1] {
            producer.send("t", crate::Record::new("x").partition(partition)).unwrap();
        }
        assert_eq!((cluster.groups(), cluster.group("g")), (Ok(vec![]), Ok(None)));
        assert_eq!(cluster.committed_offsets("g"), Ok(Offsets::new()));
        cluster.reset_offsets("g", &[("t".into(), 0, 1), ("t".into(), 1, 0)]).unwrap();
        let behind = |lag: Vec<Lag>| lag.iter().map(|lag| (lag.partition, lag.lag())).collect::<Vec<_>>();
        assert_eq!(cluster.lag("g").map(behind), Ok(vec![(0, Some(1)), (1, Some(1))]));
        let observed = cluster.observe_groups().unwrap();
        assert_eq!((observed.len(), observed[0].offsets.len(), cluster.observe_topics().len()), (1, 2, 1 + 1));

        let committed = Committed { offset: 2, leader_epoch: -1, metadata: "noted".into(), timestamp_ms: 0 };
        let commit = OffsetCommit { topic: "t".into(), partition: 0, committed };
        cluster.commit_for_group("g", vec![commit]).unwrap();
        let offsets = cluster.committed_offsets("g").unwrap();
        assert_eq!((offsets[&("t".into(), 0)].offset, &*offsets[&("t".into(), 0)].metadata), (2, "noted"));

        let consumer = Consumer::embedded(broker).group("g").subscribe(&["t"]).unwrap();
        let mut consumer = consumer;
        consumer.poll(Duration::from_secs(10), 1).unwrap();
        let group = cluster.group("g").unwrap().unwrap();
        assert_eq!((group.group_type, group.state, group.generation), (GroupType::Consumer, "Stable", None));
        assert_eq!((group.members.len(), group.members[0].owned.len()), (1, 2));
        let groups = cluster.groups().unwrap();
        assert_eq!((&*groups[0].name, groups[0].members), ("g", 1));
        let taken = Err(Error::NonEmptyGroup("g".into()));
        assert_eq!(cluster.reset_offsets("g", &[("t".into(), 0, 1)]), taken);
        assert_eq!(cluster.may_reset_offsets("g"), taken);
        assert_eq!(cluster.delete_group("g"), taken);
        drop(consumer);
        broker.drop_topic("t").unwrap();
        assert_eq!(cluster.lag("g"), Ok(vec![]), "what is gone has no row");
        cluster.delete_group("g").unwrap();
        assert_eq!(cluster.delete_group("g"), Err(Error::UnknownGroup("g".into())));
    }
}

//! A share group (KIP-932): a queue on a log, whose members are handed each record one at a time, whoever is free. Here is who is in
//! it; which records a member holds is another matter.
//!
//! Members are Kafka's, who send heartbeats, and text's, whose connection is their session:
//!
//! | | Kafka's | text's |
//! | --- | --- | --- |
//! | its id | made by its client | its number, and what nobody can guess |
//! | leaves | with epoch -1, or after its session timeout | with its connection |
//! | reads | what the [`assignor`] gives it | every partition of its topics |
//! | after a restart | goes on | is gone |
//!
//! | epoch | from a member | from another |
//! | --- | --- | --- |
//! | 0 | is told anew what it is to read | joins |
//! | its own, or its last | its session starts anew | `UnknownMemberId` |
//! | another | `FencedMemberEpoch` | `UnknownMemberId` |
//! | -1 | leaves | `UnknownMemberId` |
//!
//! - Joins, ends and changed subscriptions begin an epoch of the group. While only Kafka's members are in it, the next heartbeat
//!   shares the partitions out, as in Kafka; a partition has no owner that must let it go first, so a member comes to the newest
//!   assignment with its next heartbeat.
//! - When partitions are shared out that the group never had, that begins one more epoch: Kafka's coordinator makes their state
//!   in a step of its own. A first member so comes to epoch 3; text's, for whom nothing is shared out, to 1.
//! - A share group stays one without members, too, until it is deleted; and no group that ever was of another kind becomes one.

mod assignor;
mod heartbeat;
#[cfg(test)]
mod model_tests;
mod restart;
#[cfg(test)]
mod tests;

pub use heartbeat::{Heartbeat, HeartbeatRequest};

use super::{
    Core, Description, Generation, Group, GroupType, Kind, MemberDescription, Members, SavedKind, SessionTimer,
    classic::Sender,
    consumer::{MemberNumber, Owned, member_id},
};
use crate::broker::{Error, Result};
use assignor::{Partitions, Reader};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Kafka's `group.share.max.size`, which it reads at its start only.
const MEMBERS_MAX: usize = 200;

/// What members of text and of the library join with.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Each topic, once, and how many partitions it has.
    pub topics: Vec<(Arc<str>, u32)>,
    /// What its client calls itself.
    pub client: Arc<str>,
    /// The part of its [id](member_id) that nobody can guess.
    pub secret: u64,
}

/// Who is in the group, and who reads what.
#[derive(Debug, Default)]
pub(super) struct ShareGroup {
    /// In the order they joined.
    members: BTreeMap<MemberNumber, Box<ShareMember>>,
    ids: BTreeMap<Arc<str>, MemberNumber>,
    /// The topics that somebody subscribes to and that are there, and how many partitions each has.
    topics: BTreeMap<Arc<str>, u32>,
    /// How many partitions of each topic the group ever had.
    had: BTreeMap<Arc<str>, u32>,
    /// The generation in which the partitions were shared out.
    assignment_epoch: i32,
    /// Whether a generation has begun since.
    is_due: bool,
}

#[derive(Debug)]
struct ShareMember {
    id: Arc<str>,
    client: Arc<str>,
    /// In order.
    topics: Vec<Arc<str>>,
    /// What of it there is only in Kafka's protocol.
    kafka: Option<KafkaMember>,
}

#[derive(Debug)]
struct KafkaMember {
    client_host: String,
    rack_id: Option<String>,
    session: SessionTimer,
    /// `None`: it was there before the broker started anew, and will say which it is in.
    epoch: Option<i32>,
    previous_epoch: i32,
    /// The partitions that it is to read, in order.
    assigned: Partitions,
    /// Whether it was told these.
    is_told: bool,
}

impl Group {
    /// A member of text or of the library joins: it reads all partitions of its topics.
    pub fn join_share(&mut self, now: u64, subscription: Subscription) -> Result<MemberNumber> {
        let (core, group) = self.share_or_new(now).map_err(|_| Error::InconsistentGroupProtocol)?;
        group.has_room()?;
        core.members_numbered += 1;
        let (number, Subscription { topics, client, secret }) = (core.members_numbered, subscription);
        group.count(topics.iter().cloned());
        for (topic, partitions) in &topics {
            group.had.entry(topic.clone()).and_modify(|had| *had = (*had).max(*partitions)).or_insert(*partitions);
        }
        let id: Arc<str> = member_id(number, secret).into();
        group.ids.insert(id.clone(), number);
        let topics = topics.into_iter().map(|(topic, _)| topic).collect::<BTreeSet<_>>().into_iter().collect();
        group.members.insert(number, ShareMember { id, client, topics, kafka: None }.into());
        group.rebalance(core);
        Ok(number)
    }

    /// A member of text or of the library leaves, or its connection was closed.
    pub fn leave_share(&mut self, now: u64, number: MemberNumber) -> Result<()> {
        let (core, group) = self.share(now)?;
        if !group.members.contains_key(&number) {
            return Err(Error::UnknownMemberId);
        }
        group.remove(core, now, &[number]);
        Ok(())
    }

    /// The group becomes a share group, if it is not one, without a member yet.
    pub fn make_share(&mut self, now: u64) -> Result<()> {
        let is_new = !self.is_share();
        let (core, _) = self.share_or_new(now)?;
        core.unsaved |= is_new;
        Ok(())
    }

    /// Whether one more may join, if it is a share group.
    pub fn has_room_to_share(&self) -> Result<()> {
        match &self.members {
            Members::Share(group) => group.has_room(),
            _ => Ok(()),
        }
    }

    /// Whether it is a share group.
    pub fn is_share(&self) -> bool {
        matches!(self.members, Members::Share(_))
    }

    /// The members, if the group is of this kind, once those whose session is over at `now` are gone.
    fn share(&mut self, now: u64) -> Result<(&mut Core, &mut ShareGroup)> {
        self.tick(now);
        match &mut self.members {
            Members::Share(group) => Ok((&mut self.core, group)),
            _ => Err(Error::NotShareGroup),
        }
    }

    /// The same; a group that nobody ever was in becomes one of this kind.
    fn share_or_new(&mut self, now: u64) -> Result<(&mut Core, &mut ShareGroup)> {
        if self.empty_since().is_some() && self.core.generation == 0 && !self.is_share() {
            self.members = Members::Share(Box::default());
        }
        self.share(now)
    }
}

impl Kind for ShareGroup {
    fn member_count(&self) -> usize {
        self.members.len()
    }

    fn state(&self) -> &'static str {
        "Stable"
    }

    fn tick(&mut self, core: &mut Core, now: u64) {
        let is_over = |member: &ShareMember| member.kafka.as_ref().is_some_and(|kafka| kafka.session.is_over(now));
        let over = self.members.iter().filter(|(_, member)| is_over(member));
        let over: Vec<_> = over.map(|(&number, _)| number).collect();
        if !over.is_empty() {
            self.remove(core, now, &over);
        }
    }

    fn next_deadline(&self) -> Option<u64> {
        self.members.values().filter_map(|member| member.kafka.as_ref()?.session.deadline).min()
    }

    fn describe(&self) -> Description {
        Description {
            assignment_epoch: self.assignment_epoch,
            protocol: assignor::NAME.into(),
            members: self.members.values().map(|member| self.describe_member(member)).collect(),
            ..Description::default()
        }
    }

    fn group_type(&self) -> GroupType {
        GroupType::Share
    }

    fn protocol_type(&self) -> &str {
        "share"
    }

    fn subscribed_topics(&self) -> Option<BTreeSet<&str>> {
        Some(self.members.values().flat_map(|member| &member.topics).map(|topic| &**topic).collect())
    }

    fn known_topics(&self) -> BTreeSet<&str> {
        let had = self.had.keys().map(|topic| &**topic);
        self.subscribed_topics().unwrap_or_default().into_iter().chain(had).collect()
    }

    fn may_commit(&mut self, _: &Core, _: u64, _: Sender<'_>, _: Generation) -> Result<()> {
        Err(Error::ShareGroup)
    }

    fn may_commit_later(&mut self, _: &Core, _: u64, _: Sender<'_>, _: i32, _: &[(&str, u32)]) -> Result<()> {
        Err(Error::ShareGroup)
    }

    fn topic_changed(&mut self, core: &mut Core, topic: &str, partitions: Option<u32>) {
        if partitions.is_none() && self.had.remove(topic).is_some() {
            core.unsaved = true;
        }
        let name = self.members.values().flat_map(|member| &member.topics).find(|name| ***name == *topic).cloned();
        let Some(name) = name else { return };
        let before = match partitions {
            Some(partitions) => self.topics.insert(name, partitions),
            None => self.topics.remove(topic),
        };
        if before != partitions {
            self.rebalance(core);
        }
    }

    fn saved(&self) -> Option<SavedKind> {
        Some(SavedKind::Share(self.to_saved()))
    }
}

impl ShareGroup {
    fn describe_member(&self, member: &ShareMember) -> MemberDescription {
        let kafka = member.kafka.as_ref();
        let epoch = kafka.and_then(|kafka| kafka.epoch).unwrap_or(self.assignment_epoch);
        let assigned = match kafka {
            Some(kafka) => kafka.assigned.clone(),
            None => self.partitions_of(&member.topics).collect(),
        };
        let owned = |(topic, partition)| Owned { topic, partition, since: epoch };
        MemberDescription {
            member_id: member.id.to_string(),
            client_id: member.client.to_string(),
            client_host: kafka.map(|kafka| kafka.client_host.clone()).unwrap_or_default(),
            rack_id: kafka.and_then(|kafka| kafka.rack_id.clone()),
            epoch,
            topics: member.topics.clone(),
            target: assigned.clone(),
            owned: assigned.into_iter().map(owned).collect(),
            ..MemberDescription::default()
        }
    }

    /// Whether one more may join.
    fn has_room(&self) -> Result<()> {
        if self.members.len() < MEMBERS_MAX { Ok(()) } else { Err(Error::GroupFull(MEMBERS_MAX)) }
    }

    fn partitions_of(&self, topics: &[Arc<str>]) -> impl Iterator<Item = (Arc<str>, u32)> {
        let counted = topics.iter().filter_map(|topic| self.topics.get_key_value(topic));
        counted.flat_map(|(topic, &partitions)| (0..partitions).map(|partition| (topic.clone(), partition)))
    }

    /// Notes how many partitions topics have that somebody subscribes to now.
    fn count(&mut self, topics: impl Iterator<Item = (Arc<str>, u32)>) {
        self.topics.extend(topics);
    }

    fn remove(&mut self, core: &mut Core, now: u64, numbers: &[MemberNumber]) {
        for number in numbers {
            if let Some(member) = self.members.remove(number) {
                self.ids.remove(&member.id);
                core.gone.push(member.id);
            }
        }
        self.forget_topics();
        if self.members.is_empty() {
            core.empty_since = now;
        }
        self.rebalance(core);
    }

    /// Forgets the topics that nobody subscribes to.
    fn forget_topics(&mut self) {
        let subscribed: BTreeSet<_> = self.members.values().flat_map(|member| &member.topics).collect();
        self.topics.retain(|topic, _| subscribed.contains(topic));
    }

    /// Begins a generation. Members of text are not kept waiting; the next heartbeat of one of Kafka's shares out.
    fn rebalance(&mut self, core: &mut Core) {
        core.begin_generation();
        (core.unsaved, self.is_due) = (true, true);
        if self.members.values().any(|member| member.kafka.is_none()) {
            self.assign(core);
        }
    }

    /// Shares the partitions out among Kafka's members.
    fn assign(&mut self, core: &mut Core) {
        if self.take_up_new() {
            core.begin_generation();
        }
        core.unsaved = true;
        (self.assignment_epoch, self.is_due) = (core.generation, false);
        let readers = self
            .members
            .values()
            .filter_map(|member| Some(Reader { topics: &member.topics, has: &member.kafka.as_ref()?.assigned }));
        let assigned = assignor::assign(&self.topics, &readers.collect::<Vec<_>>());
        let kafka = self.members.values_mut().filter_map(|member| member.kafka.as_mut());
        for (kafka, assigned) in kafka.zip(assigned) {
            kafka.is_told &= kafka.assigned == assigned;
            kafka.assigned = assigned;
        }
    }

    /// Whether there are partitions that the group never had; now it has.
    fn take_up_new(&mut self) -> bool {
        let mut is_new = false;
        for (topic, &partitions) in &self.topics {
            let had = self.had.entry(topic.clone()).or_insert(0);
            is_new |= *had < partitions;
            *had = partitions;
        }
        is_new
    }
}

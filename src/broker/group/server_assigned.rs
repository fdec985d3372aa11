//! Members whose partitions the broker assigns: those of the text protocol and of the library.
//!
//! Each partition has an owner, who reads it, and a target, who is to have it. A rebalance sets targets; it stops nobody.
//! The owner lets a partition go when it next polls or commits, and the target takes it when it next polls:
//!
//! ```text
//!                   b joins          a polls          b polls
//! orders/0   owner a  target a │ a  a           │ a  a        │ a  a
//! orders/1   owner a  target a │ a  b           │ -  b        │ b  b
//! generation             1     │ 2  Reconciling │ 2           │ 2  Stable
//! ```
//!
//! | event | answer | what it does |
//! | --- | --- | --- |
//! | `join` | the member's seat and partitions | a rebalance; the newcomer takes at once what nobody owns |
//! | `poll` | the partitions to read | lets go what is to move, takes what is free; from here on the member *waits* |
//! | `polled` | the partitions it still has | the wait is over, its session starts anew |
//! | `commit` | `NotAssigned` unless it owns them all | nothing; the member's session stands still |
//! | `committed` | | lets go what is to move, its session starts anew |
//! | `owned` | whether it owns a partition | nothing, not even for its session |
//! | `leave`, a session's end | | its partitions are free; a rebalance |
//! | `topic_changed` | | a rebalance; of a dropped topic every subscriber is told once, by its next poll |
//! | anything by one who is no member | `UnknownMemberId` | |
//!
//! The state is `Stable` when every partition has the owner it is to have, else `Reconciling`.
//!
//! Always true: a partition has one owner or none, by its shape; an owner subscribes to the topic; a member that waits owns
//! what it is to have unless another still does, so a free partition whose target waits does not exist. A partition that
//! moves and comes back has a new `since`, so what was read for an earlier ownership is known as such.

use super::{Answer, Core, Group, MemberDescription, Members, Session, Ticket, assignment};
use crate::broker::{Error, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A member's number in its group; never given twice.
pub type Seat = u32;

/// What a member joins with.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Each topic, once, and how many partitions it has.
    pub topics: Vec<(Arc<str>, u32)>,
    /// Who it is, for those who look.
    pub client: Arc<str>,
    /// The member is given up when it was silent for so long.
    pub session_timeout_ms: u64,
}

/// A partition that a member owns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owned {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The generation in which it was taken: another one is another ownership.
    pub since: i32,
}

/// What a member is told of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The group's generation.
    pub generation: i32,
    /// What the member owns, by topic and partition.
    pub owned: Vec<Owned>,
}

/// The members and the partitions they share.
#[derive(Debug, Default)]
pub(super) struct ServerAssigned {
    /// Boxed, since a tree of one member keeps room for eleven.
    members: BTreeMap<Seat, Box<Member>>,
    topics: BTreeMap<Arc<str>, Vec<Slot>>,
}

#[derive(Debug)]
struct Member {
    client: Arc<str>,
    topics: Vec<Arc<str>>,
    session: Session,
    /// It is in a poll: it gives and takes partitions at any time.
    polls: bool,
    /// What its poll waits with.
    ticket: Option<Ticket>,
    dropped: Option<Arc<str>>,
}

/// A partition.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    pub(super) owner: Option<Seat>,
    pub(super) target: Option<Seat>,
    since: i32,
}

impl Group {
    /// A member joins; it has the partitions that it is to have and nobody owns.
    pub fn join(&mut self, now: u64, subscription: Subscription) -> Result<(Seat, Assignment)> {
        let (core, members) = self.server_assigned(now)?;
        core.seats += 1;
        let seat = core.seats;
        members.join(core, now, seat, subscription);
        Ok((seat, members.assignment(core, seat)))
    }

    /// A member begins to poll. It lets go what is to move, and takes what is free; both also happen while it waits, and
    /// then the ticket is told to look again: by polling again, with a new ticket.
    pub fn poll(&mut self, now: u64, seat: Seat) -> Result<(Ticket, Assignment)> {
        let (core, members) = self.server_assigned(now)?;
        let member = members.member(seat)?;
        member.told_of_drop()?;
        member.session.pause();
        member.polls = true;
        members.settle(core);
        let ticket = core.ticket();
        members.member(seat)?.ticket = Some(ticket);
        Ok((ticket, members.assignment(core, seat)))
    }

    /// A poll ends: what the member owns now it may be handed records of.
    pub fn polled(&mut self, now: u64, seat: Seat) -> Result<Assignment> {
        let (core, members) = self.server_assigned(now)?;
        let member = members.member(seat)?;
        member.session.restart(now);
        (member.polls, member.ticket) = (false, None);
        member.told_of_drop()?;
        Ok(members.assignment(core, seat))
    }

    /// A member is about to commit offsets of `partitions`. If this is granted, [`committed`](Self::committed) must follow.
    pub fn commit<'a>(
        &mut self,
        now: u64,
        seat: Seat,
        mut partitions: impl Iterator<Item = (&'a str, u32)>,
    ) -> Result<()> {
        let (_, members) = self.server_assigned(now)?;
        members.member(seat)?;
        if let Some((topic, partition)) = partitions.find(|(topic, partition)| !members.owns(seat, topic, *partition)) {
            return Err(Error::NotAssigned { topic: topic.into(), partition });
        }
        members.member(seat)?.session.pause();
        Ok(())
    }

    /// The offsets are in the log: what is to move may go.
    pub fn committed(&mut self, now: u64, seat: Seat) -> Result<()> {
        let (core, members) = self.server_assigned(now)?;
        let member = members.member(seat)?;
        member.session.restart(now);
        members.slots().filter(|slot| slot.owner == Some(seat) && slot.target != slot.owner).for_each(Slot::free);
        members.settle(core);
        Ok(())
    }

    /// Whether a member owns a partition.
    pub fn owned(&mut self, now: u64, seat: Seat, topic: &str, partition: u32) -> Result<bool> {
        let (_, members) = self.server_assigned(now)?;
        members.member(seat)?;
        Ok(members.owns(seat, topic, partition))
    }

    /// A member leaves, or its connection was closed.
    pub fn leave(&mut self, now: u64, seat: Seat) -> Result<()> {
        let (core, members) = self.server_assigned(now)?;
        members.member(seat)?;
        members.remove(core, now, &[seat]);
        Ok(())
    }

    /// A topic has another number of partitions than before, or was dropped (`None`).
    pub fn topic_changed(&mut self, now: u64, topic: &str, partitions: Option<u32>) {
        self.tick(now);
        if let Members::ServerAssigned(members) = &mut self.members {
            members.topic_changed(&mut self.core, topic, partitions);
        }
    }

    /// The members of this kind, after those whose session is over by `now` are gone.
    fn server_assigned(&mut self, now: u64) -> Result<(&mut Core, &mut ServerAssigned)> {
        self.tick(now);
        if !matches!(self.members, Members::ServerAssigned(_)) {
            if self.empty_since().is_none() {
                return Err(Error::InconsistentGroupProtocol);
            }
            self.members = Members::ServerAssigned(ServerAssigned::default());
        }
        match &mut self.members {
            Members::ServerAssigned(members) => Ok((&mut self.core, members)),
            _ => unreachable!("set above"),
        }
    }
}

impl Slot {
    fn free(&mut self) {
        self.owner = None;
    }

    fn is_settled(&self) -> bool {
        self.owner == self.target
    }
}

impl Member {
    fn told_of_drop(&mut self) -> Result<()> {
        self.dropped.take().map_or(Ok(()), |topic| Err(Error::UnknownTopic(topic.to_string())))
    }
}

impl ServerAssigned {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn state(&self) -> &'static str {
        if self.topics.values().flatten().all(Slot::is_settled) { "Stable" } else { "Reconciling" }
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.members.values().filter_map(|member| member.session.deadline).min()
    }

    pub(super) fn tick(&mut self, core: &mut Core, now: u64) {
        let due = self.members.iter().filter(|(_, member)| member.session.is_over(now));
        let last = due.clone().filter_map(|(_, member)| member.session.deadline).max();
        let due: Vec<_> = due.map(|(&seat, _)| seat).collect();
        if let Some(last) = last {
            self.remove(core, last, &due);
        }
    }

    pub(super) fn describe(&self) -> impl Iterator<Item = MemberDescription> {
        self.members.iter().map(|(&seat, member)| MemberDescription {
            member_id: seat.to_string(),
            client_id: member.client.to_string(),
            owned: self.owned(seat),
            ..MemberDescription::default()
        })
    }

    #[cfg(test)]
    pub(super) fn seats(&self) -> Vec<Seat> {
        self.members.keys().copied().collect()
    }

    #[cfg(test)]
    pub(super) fn partitions(&self) -> impl Iterator<Item = (&str, u32, &Slot)> {
        self.topics.iter().flat_map(|(topic, slots)| slots.iter().zip(0..).map(|(slot, n)| (&**topic, n, slot)))
    }

    fn member(&mut self, seat: Seat) -> Result<&mut Member> {
        self.members.get_mut(&seat).map(|member| &mut **member).ok_or(Error::UnknownMemberId)
    }

    fn slots(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.topics.values_mut().flatten()
    }

    fn owns(&self, seat: Seat, topic: &str, partition: u32) -> bool {
        let slot = self.topics.get(topic).and_then(|slots| slots.get(partition as usize));
        slot.is_some_and(|slot| slot.owner == Some(seat))
    }

    fn owned(&self, seat: Seat) -> Vec<Owned> {
        let of_topic = |(topic, slots): (&Arc<str>, &Vec<Slot>)| {
            let owned = slots.iter().zip(0..).filter(|(slot, _)| slot.owner == Some(seat));
            let owned = owned.map(|(slot, partition)| Owned { topic: topic.clone(), partition, since: slot.since });
            owned.collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of_topic).collect()
    }

    fn assignment(&self, core: &Core, seat: Seat) -> Assignment {
        Assignment { generation: core.generation, owned: self.owned(seat) }
    }

    fn join(&mut self, core: &mut Core, now: u64, seat: Seat, subscription: Subscription) {
        for (topic, partitions) in &subscription.topics {
            self.topics.entry(topic.clone()).or_default().resize(*partitions as usize, Slot::default());
        }
        let topics = subscription.topics.into_iter().map(|(topic, _)| topic).collect();
        let session = Session::new(now, subscription.session_timeout_ms);
        let client = subscription.client;
        let member = Member { client, topics, session, polls: true, ticket: None, dropped: None };
        self.members.insert(seat, member.into());
        self.rebalance(core);
        self.members.entry(seat).and_modify(|member| member.polls = false);
    }

    fn remove(&mut self, core: &mut Core, now: u64, seats: &[Seat]) {
        self.members.retain(|seat, _| !seats.contains(seat));
        self.slots().filter(|slot| slot.owner.is_some_and(|owner| seats.contains(&owner))).for_each(Slot::free);
        if self.members.is_empty() {
            core.empty_since = now;
        }
        self.rebalance(core);
    }

    fn topic_changed(&mut self, core: &mut Core, topic: &str, partitions: Option<u32>) {
        let Some(slots) = self.topics.get_mut(topic) else { return };
        let (count, before) = (partitions.unwrap_or(0) as usize, slots.len());
        if count == before {
            return;
        }
        slots.resize(count, Slot::default());
        if partitions.is_none() {
            for member in self.members.values_mut() {
                member.dropped = member.topics.iter().find(|name| ***name == *topic).cloned().or(member.dropped.take());
                core.answers.extend(member.ticket.map(|ticket| (ticket, Answer::LookAgain)));
            }
        }
        self.rebalance(core);
    }

    /// A new generation: sets every partition's target, and moves what can move at once.
    fn rebalance(&mut self, core: &mut Core) {
        core.generation += 1;
        let seats: Vec<_> = self.members.keys().copied().collect();
        let number = |seat| seats.binary_search(&seat).ok();
        let subscribed: BTreeSet<_> = self.members.values().flat_map(|member| &member.topics).collect();
        self.topics.retain(|topic, _| subscribed.contains(topic));
        let topics = self.topics.iter().map(|(topic, slots)| assignment::Topic {
            subscribers: self
                .members
                .values()
                .zip(0..)
                .filter(|(m, _)| m.topics.contains(topic))
                .map(|(_, n)| n)
                .collect(),
            current: slots.iter().map(|slot| slot.owner.or(slot.target).and_then(number)).collect(),
        });
        let assigned = assignment::assign(seats.len(), &topics.collect::<Vec<_>>());
        for (slot, member) in self.topics.values_mut().flatten().zip(assigned.into_iter().flatten()) {
            slot.target = Some(seats[member]);
        }
        self.settle(core);
    }

    /// Moves what can move: members that poll let go what is not theirs any more, and take what is free.
    fn settle(&mut self, core: &mut Core) {
        let polls = |seat: Option<Seat>| seat.and_then(|seat| self.members.get(&seat)).filter(|member| member.polls);
        let mut told = BTreeSet::new();
        for slot in self.topics.values_mut().flatten().filter(|slot| !slot.is_settled()) {
            if let Some(owner) = polls(slot.owner) {
                slot.free();
                told.extend(owner.ticket);
            }
            if let (None, Some(target)) = (slot.owner, polls(slot.target)) {
                (slot.owner, slot.since) = (slot.target, core.generation);
                told.extend(target.ticket);
            }
        }
        core.answers.extend(told.into_iter().map(|ticket| (ticket, Answer::LookAgain)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_partitions() -> Subscription {
        Subscription { topics: vec![("t".into(), 2)], client: "nc".into(), session_timeout_ms: 100 }
    }

    fn poll(group: &mut Group, seat: Seat) -> Vec<u32> {
        group.poll(0, seat).unwrap();
        numbers(group.polled(0, seat).unwrap())
    }

    fn numbers(assignment: Assignment) -> Vec<u32> {
        assignment.owned.iter().map(|owned| owned.partition).collect()
    }

    /// The picture of the module: `a` has both partitions when `b` comes.
    fn newcomer() -> (Group, Seat, Seat) {
        let mut group = Group::new(0);
        let (a, both) = group.join(0, two_partitions()).unwrap();
        assert_eq!((both.generation, numbers(both)), (1, vec![0, 1]));
        let (b, none) = group.join(0, two_partitions()).unwrap();
        assert_eq!((none.generation, numbers(none), group.state()), (2, vec![], "Reconciling"));
        (group, a, b)
    }

    #[test]
    fn partition_moves_when_its_owner_polls() {
        let (mut group, a, b) = newcomer();
        assert_eq!(poll(&mut group, b), [0; 0]);
        assert_eq!(poll(&mut group, a), [0]);
        assert_eq!(group.state(), "Reconciling");
        assert_eq!(poll(&mut group, b), [1]);
        assert_eq!((group.state(), group.generation()), ("Stable", 2));
    }

    #[test]
    fn partition_moves_when_its_owner_has_committed() {
        let (mut group, a, b) = newcomer();
        let both = [("t", 0), ("t", 1)];
        group.commit(0, a, both.into_iter()).unwrap();
        assert_eq!(poll(&mut group, b), [0; 0], "not before the offsets are in the log");
        group.committed(0, a).unwrap();
        assert_eq!(poll(&mut group, b), [1]);
        let refused = group.commit(0, a, both.into_iter());
        assert_eq!(refused, Err(Error::NotAssigned { topic: "t".into(), partition: 1 }));
        assert_eq!(group.owned(0, a, "t", 1), Ok(false));
        assert_eq!(group.owned(0, a, "t", 2), Ok(false));
    }

    #[test]
    fn who_waits_lets_go_at_once_and_is_told() {
        let mut group = Group::new(0);
        let (a, _) = group.join(0, two_partitions()).unwrap();
        let (ticket, _) = group.poll(0, a).unwrap();
        let (b, gets) = group.join(0, two_partitions()).unwrap();
        assert_eq!(numbers(gets), [1]);
        assert_eq!(group.take_answers(), [(ticket, Answer::LookAgain)]);
        let (ticket, has) = group.poll(0, a).unwrap();
        assert_eq!(numbers(has), [0]);
        group.leave(0, b).unwrap();
        assert_eq!(group.take_answers(), [(ticket, Answer::LookAgain)]);
        let (_, has) = group.poll(0, a).unwrap();
        assert_eq!(has.owned.iter().map(|owned| owned.since).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn member_that_is_in_a_request_keeps_its_session() {
        let (mut group, a, b) = newcomer();
        group.poll(50, a).unwrap();
        group.commit(60, b, [].into_iter()).unwrap();
        group.tick(10_000);
        group.polled(10_000, a).unwrap();
        group.committed(10_001, b).unwrap();
        assert_eq!(group.next_deadline(), Some(10_100));
        assert_eq!(group.polled(10_100, a), Err(Error::UnknownMemberId));
        assert_eq!(group.poll(10_100, a), Err(Error::UnknownMemberId));
        assert_eq!(group.empty_since(), None);
        group.tick(20_000);
        assert_eq!(group.empty_since(), Some(10_101));
    }

    #[test]
    fn partitions_that_are_new_are_shared_out() {
        let (mut group, a, b) = newcomer();
        group.topic_changed(0, "t", Some(4));
        group.topic_changed(0, "other", Some(4));
        assert_eq!((poll(&mut group, a), poll(&mut group, b)), (vec![0, 1], vec![2, 3]));
        assert_eq!(group.generation(), 3);
    }

    #[test]
    fn every_subscriber_of_a_dropped_topic_is_told_once() {
        let (mut group, a, b) = newcomer();
        let (ticket, _) = group.poll(0, a).unwrap();
        group.take_answers();
        group.topic_changed(0, "t", None);
        assert_eq!(group.take_answers(), [(ticket, Answer::LookAgain)]);
        assert_eq!(group.polled(0, a), Err(Error::UnknownTopic("t".into())));
        assert_eq!(group.poll(0, b).map(drop), Err(Error::UnknownTopic("t".into())));
        assert_eq!((poll(&mut group, a), poll(&mut group, b)), (vec![], vec![]));
        group.topic_changed(0, "t", Some(2));
        assert_eq!((poll(&mut group, a), poll(&mut group, b)), (vec![0], vec![1]));
    }
}

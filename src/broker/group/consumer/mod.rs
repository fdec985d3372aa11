//! A group whose partitions the broker assigns: the members of the text protocol and of the library.
//!
//! Each partition has an owner, who reads it, and a target, who is to have it. A rebalance sets targets and stops nobody.
//! The owner lets a partition go when it next polls or commits, and the target takes it when it next polls:
//!
//! ```text
//!                   b joins          a polls          b polls
//! orders/0   owner a  target a │ a  a           │ a  a        │ a  a
//! orders/1   owner a  target a │ a  b           │ -  b        │ b  b
//! generation             1     │ 2  Reconciling │ 2           │ 2  Stable
//! ```
//!
//! | event | answer | effect |
//! | --- | --- | --- |
//! | `join` | the member's number and partitions | a rebalance; the new member takes at once what nobody owns |
//! | `begin_poll` | the partitions to read | lets go what is to move, takes what is free; the member *polls* until the end |
//! | `end_poll` | the partitions it still owns | its session starts anew |
//! | `begin_commit` | `NotAssigned` unless it owns them all | its session stands still |
//! | `end_commit` | | lets go what is to move; its session starts anew |
//! | `may_commit_later` | `IllegalGeneration` unless it is the one it was told last, `NotAssigned` unless it owns them all | its session starts anew |
//! | `hold` | | takes what is free, unless something is to move; until `release`, or the time given, it stays in its generation with what it owns, and its session stands still |
//! | `release` | | lets go what is to move, takes what is free; its session starts anew |
//! | `owns` | whether it owns a partition | none, not even on its session |
//! | `leave`, a session's end | | its partitions are free; a rebalance |
//! | `topic_changed` | | a rebalance; every subscriber of a dropped topic is told once, by its next poll |
//! | anything from one who is no member | `UnknownMemberId` | |
//!
//! A member commits in a transaction (`may_commit_later`) by its id and a generation, perhaps on another connection than the one
//! it polls on. The generation that it was told holds good until its next poll or commit: before that it lets nothing go, whoever
//! joins meanwhile. While a transaction is open on its own connection no rebalance reaches it.
//!
//! The state is `Stable` when every partition has the owner it is to have, else `Reconciling`.
//!
//! Always true: a partition has one owner or none; an owner subscribes to the topic; a member that polls owns what it is to have
//! unless another still does, or it is held; a member that is held neither gives nor takes. A partition that moves and comes back has a new
//! `since`, so what was read under the earlier ownership is known as such.

mod assignor;
#[cfg(test)]
mod model_tests;

use super::{
    Answer, Core, Description, Group, Kind, MemberDescription, Members, SavedKind, SessionTimer, Ticket,
    classic::Sender,
};
use crate::broker::{Error, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A member's number in its group, in the order they joined; never given twice.
pub type MemberNumber = u32;

/// The id of a member: its number, and what nobody can guess, since who knows the id can commit for the member.
pub fn member_id(number: MemberNumber, secret: u64) -> String {
    format!("{number}-{secret:016x}")
}

/// What a member joins with.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Each topic, once, and how many partitions it has.
    pub topics: Vec<(Arc<str>, u32)>,
    /// What its client calls itself.
    pub client: Arc<str>,
    /// A member that is silent for this long is removed.
    pub session_timeout_ms: u64,
    /// The part of its [id](member_id) that nobody can guess.
    pub secret: u64,
}

/// A partition that a member owns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owned {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The generation in which the member took it: another one is another ownership.
    pub since: i32,
}

/// What a member is told about its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The group's generation.
    pub generation: i32,
    /// The partitions that the member owns, in order.
    pub owned: Vec<Owned>,
}

/// The members and the partitions they share.
#[derive(Debug, Default)]
pub(super) struct ConsumerGroup {
    /// Boxed, since a tree of one member keeps room for eleven.
    members: BTreeMap<MemberNumber, Box<ConsumerMember>>,
    topics: BTreeMap<Arc<str>, Vec<SharedPartition>>,
}

#[derive(Debug)]
struct ConsumerMember {
    client: Arc<str>,
    topics: Vec<Arc<str>>,
    session: SessionTimer,
    secret: u64,
    /// The generation that it was told last; `None` while it polls.
    told: Option<i32>,
    /// A transaction is open on its connection.
    hold: Option<Hold>,
    /// It is in a poll.
    polling: bool,
    /// The ticket of its poll.
    ticket: Option<Ticket>,
    /// A topic of its subscription that was dropped, which it is to be told.
    dropped: Option<Arc<str>>,
}

/// What a member is held by: no rebalance reaches it before the end.
#[derive(Clone, Copy, Debug)]
struct Hold {
    /// When it ends at the latest.
    until: u64,
    /// The generation in which the member stays.
    generation: i32,
}

/// A partition, who owns it and who is to.
#[derive(Clone, Copy, Debug, Default)]
struct SharedPartition {
    owner: Option<MemberNumber>,
    target: Option<MemberNumber>,
    /// The generation in which the owner took it.
    since: i32,
}

impl Group {
    /// A member joins. It gets those of its partitions that nobody owns.
    pub fn join(&mut self, now: u64, subscription: Subscription) -> Result<(MemberNumber, Assignment)> {
        let (core, group) = self.consumer(now)?;
        core.members_numbered += 1;
        let member = core.members_numbered;
        group.join(core, now, member, subscription);
        Ok((member, group.assignment(core, member)))
    }

    /// A member begins to poll. It lets go what is to move and takes what is free. Both also happen while it waits: the
    /// ticket is then answered, and the member is to poll again, with a new ticket.
    pub fn begin_poll(&mut self, now: u64, number: MemberNumber) -> Result<(Ticket, Assignment)> {
        let (core, group) = self.consumer(now)?;
        let member = group.member(number)?;
        member.check_dropped()?;
        member.session.pause();
        (member.polling, member.told) = (true, member.hold.map(|hold| hold.generation));
        group.reconcile(core);
        let ticket = core.ticket();
        group.member(number)?.ticket = Some(ticket);
        Ok((ticket, group.assignment(core, number)))
    }

    /// A poll ends: the member may be handed records of the partitions that it owns now.
    pub fn end_poll(&mut self, now: u64, number: MemberNumber) -> Result<Assignment> {
        let (core, group) = self.consumer(now)?;
        let member = group.member(number)?;
        (member.polling, member.ticket) = (false, None);
        member.heard(now);
        member.told = Some(member.generation(core));
        member.check_dropped()?;
        Ok(group.assignment(core, number))
    }

    /// A member is about to commit offsets of `partitions`. If it may, [`end_commit`](Self::end_commit) must follow.
    pub fn begin_commit<'a>(
        &mut self,
        now: u64,
        number: MemberNumber,
        mut partitions: impl Iterator<Item = (&'a str, u32)>,
    ) -> Result<()> {
        let (_, group) = self.consumer(now)?;
        group.member(number)?;
        if let Some((topic, partition)) = partitions.find(|(topic, partition)| !group.owns(number, topic, *partition)) {
            return Err(Error::NotAssigned { topic: topic.into(), partition });
        }
        group.member(number)?.session.pause();
        Ok(())
    }

    /// The offsets are in the log: what is to move may go.
    pub fn end_commit(&mut self, now: u64, number: MemberNumber) -> Result<()> {
        let (core, group) = self.consumer(now)?;
        let member = group.member(number)?;
        member.heard(now);
        member.told = member.told.map(|_| member.generation(core));
        if member.hold.is_none() {
            group.let_go(core, number);
        }
        Ok(())
    }

    /// A transaction has begun on a member's connection: until [`release`](Self::release), or until `until`, it stays in its
    /// generation and lets nothing go. That is the newest one, with all that is free for it, unless something is to move: then
    /// it is the one that it was told, since in the newest its partitions are another's.
    pub fn hold(&mut self, now: u64, number: MemberNumber, until: u64) -> Result<()> {
        let (core, group) = self.consumer(now)?;
        let mut generation = group.member(number)?.told.unwrap_or(core.generation);
        if !group.partitions().any(|shared| shared.moves_from(number)) {
            group.take(core, number);
            generation = core.generation;
        }
        let member = group.member(number)?;
        member.hold = Some(Hold { until, generation });
        member.session.pause();
        Ok(())
    }

    /// The transaction has ended: what is to move may go, and what is free for the member comes.
    pub fn release(&mut self, now: u64, number: MemberNumber) -> Result<()> {
        let (core, group) = self.consumer(now)?;
        let member = group.member(number)?;
        member.hold = None;
        member.heard(now);
        member.told = member.told.map(|_| core.generation);
        group.let_go(core, number);
        group.take(core, number);
        Ok(())
    }

    /// Whether a member owns a partition.
    pub fn owns(&mut self, now: u64, number: MemberNumber, topic: &str, partition: u32) -> Result<bool> {
        let (_, group) = self.consumer(now)?;
        group.member(number)?;
        Ok(group.owns(number, topic, partition))
    }

    /// A member leaves, or its connection was closed.
    pub fn leave(&mut self, now: u64, number: MemberNumber) -> Result<()> {
        let (core, group) = self.consumer(now)?;
        group.member(number)?;
        group.remove(core, now, &[number]);
        Ok(())
    }

    /// The members of this kind, once those whose session is over at `now` are gone.
    fn consumer(&mut self, now: u64) -> Result<(&mut Core, &mut ConsumerGroup)> {
        self.tick(now);
        if !matches!(self.members, Members::Consumer(_)) {
            if self.empty_since().is_none() {
                return Err(Error::InconsistentGroupProtocol);
            }
            self.members = Members::Consumer(Box::default());
        }
        match &mut self.members {
            Members::Consumer(group) => Ok((&mut self.core, group)),
            _ => unreachable!("set above"),
        }
    }
}

impl SharedPartition {
    fn free(&mut self) {
        self.owner = None;
    }

    fn is_reconciled(&self) -> bool {
        self.owner == self.target
    }

    fn moves_from(&self, number: MemberNumber) -> bool {
        self.owner == Some(number) && self.target != self.owner
    }
}

impl ConsumerMember {
    /// Restarts its session, unless it stands still.
    fn heard(&mut self, now: u64) {
        if !self.polling && self.hold.is_none() {
            self.session.restart(now);
        }
    }

    /// Ends what holds it, if that is due at `now`; whether it is.
    fn end_hold(&mut self, now: u64) -> bool {
        let Some(hold) = self.hold.filter(|hold| hold.until <= now) else { return false };
        self.hold = None;
        self.heard(hold.until);
        true
    }

    /// Whether it gives and takes partitions at any time.
    fn is_moving(&self) -> bool {
        self.polling && self.hold.is_none()
    }

    /// The generation that it is in.
    fn generation(&self, core: &Core) -> i32 {
        self.hold.map_or(core.generation, |hold| hold.generation)
    }

    /// An error, once, if a topic of its subscription was dropped.
    fn check_dropped(&mut self) -> Result<()> {
        self.dropped.take().map_or(Ok(()), |topic| Err(Error::UnknownTopic(topic.to_string())))
    }
}

impl Kind for ConsumerGroup {
    fn member_count(&self) -> usize {
        self.members.len()
    }

    fn state(&self) -> &'static str {
        if self.partitions().all(SharedPartition::is_reconciled) { "Stable" } else { "Reconciling" }
    }

    fn tick(&mut self, core: &mut Core, now: u64) {
        let ended = self.members.values_mut().filter_map(|member| member.end_hold(now).then_some(())).count();
        if ended > 0 {
            self.reconcile(core);
        }
        let due = self.members.iter().filter(|(_, member)| member.session.is_over(now));
        let last = due.clone().filter_map(|(_, member)| member.session.deadline).max();
        let due: Vec<_> = due.map(|(&number, _)| number).collect();
        if let Some(last) = last {
            self.remove(core, last, &due);
        }
    }

    fn next_deadline(&self) -> Option<u64> {
        self.members.values().filter_map(|member| member.session.deadline.or(member.hold.map(|hold| hold.until))).min()
    }

    fn describe(&self) -> Description {
        let describe = |number: MemberNumber, member: &ConsumerMember| MemberDescription {
            member_id: member_id(number, member.secret),
            client_id: member.client.to_string(),
            owned: self.owned(number),
            ..MemberDescription::default()
        };
        let members = self.members.iter().map(|(&number, member)| describe(number, member)).collect();
        Description { protocol_type: "consumer".into(), protocol: "range".into(), members, ..Description::default() }
    }

    fn protocol_type(&self) -> &str {
        "consumer"
    }

    fn subscribed_topics(&self) -> Option<BTreeSet<&str>> {
        Some(self.members.values().flat_map(|member| &member.topics).map(|topic| &**topic).collect())
    }

    /// Its members commit through [`Group::begin_commit`]; whoever sends an OffsetCommit is none of them.
    fn may_commit(&mut self, _: &Core, _: u64, _: Sender<'_>, _: i32) -> Result<()> {
        Err(Error::UnknownMemberId)
    }

    fn may_commit_later(
        &mut self,
        _: &Core,
        now: u64,
        sender: Sender<'_>,
        generation: i32,
        partitions: &[(&str, u32)],
    ) -> Result<()> {
        let number = sender.member_id.split_once('-').and_then(|(number, _)| number.parse().ok());
        let number = number.ok_or(Error::UnknownMemberId)?;
        let member = self.member(number)?;
        if member_id(number, member.secret) != sender.member_id {
            return Err(Error::UnknownMemberId);
        }
        if member.told != Some(generation) {
            let why = format!("generation {generation} is not the one that this member was told last; it is to POLL");
            return Err(Error::IllegalGeneration(why));
        }
        member.heard(now);
        match partitions.iter().find(|(topic, partition)| !self.owns(number, topic, *partition)) {
            Some(&(topic, partition)) => Err(Error::NotAssigned { topic: topic.into(), partition }),
            None => Ok(()),
        }
    }

    fn topic_changed(&mut self, core: &mut Core, topic: &str, partitions: Option<u32>) {
        let Some(shared) = self.topics.get_mut(topic) else { return };
        let (count, before) = (partitions.unwrap_or(0) as usize, shared.len());
        if count == before {
            return;
        }
        shared.resize(count, SharedPartition::default());
        if partitions.is_none() {
            for member in self.members.values_mut() {
                member.dropped = member.topics.iter().find(|name| ***name == *topic).cloned().or(member.dropped.take());
                core.answers.extend(member.ticket.map(|ticket| (ticket, Answer::LookAgain)));
            }
        }
        self.rebalance(core);
    }

    fn saved(&self) -> Option<SavedKind> {
        Some(SavedKind::Consumer)
    }
}

impl ConsumerGroup {
    fn member(&mut self, number: MemberNumber) -> Result<&mut ConsumerMember> {
        self.members.get_mut(&number).map(|member| &mut **member).ok_or(Error::UnknownMemberId)
    }

    fn owns(&self, number: MemberNumber, topic: &str, partition: u32) -> bool {
        let shared = self.topics.get(topic).and_then(|partitions| partitions.get(partition as usize));
        shared.is_some_and(|shared| shared.owner == Some(number))
    }

    fn owned(&self, number: MemberNumber) -> Vec<Owned> {
        let of_topic = |(topic, partitions): (&Arc<str>, &Vec<SharedPartition>)| {
            let owned = partitions.iter().zip(0..).filter(|(shared, _)| shared.owner == Some(number));
            let owned = owned.map(|(shared, partition)| Owned { topic: topic.clone(), partition, since: shared.since });
            owned.collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of_topic).collect()
    }

    fn assignment(&self, core: &Core, number: MemberNumber) -> Assignment {
        let generation = self.members.get(&number).map_or(core.generation, |member| member.generation(core));
        Assignment { generation, owned: self.owned(number) }
    }

    fn join(&mut self, core: &mut Core, now: u64, number: MemberNumber, subscription: Subscription) {
        for (topic, partitions) in &subscription.topics {
            self.topics.entry(topic.clone()).or_default().resize(*partitions as usize, SharedPartition::default());
        }
        let topics = subscription.topics.into_iter().map(|(topic, _)| topic).collect();
        let session = SessionTimer::new(now, subscription.session_timeout_ms);
        let Subscription { client, secret, .. } = subscription;
        let member = ConsumerMember {
            client,
            topics,
            session,
            secret,
            told: None,
            hold: None,
            polling: true,
            ticket: None,
            dropped: None,
        };
        self.members.insert(number, member.into());
        self.rebalance(core);
        let generation = core.generation;
        self.members.entry(number).and_modify(|member| (member.polling, member.told) = (false, Some(generation)));
    }

    fn remove(&mut self, core: &mut Core, now: u64, numbers: &[MemberNumber]) {
        self.members.retain(|number, _| !numbers.contains(number));
        let partitions = self.topics.values_mut().flatten();
        let owned = partitions.filter(|shared| shared.owner.is_some_and(|owner| numbers.contains(&owner)));
        owned.for_each(SharedPartition::free);
        if self.members.is_empty() {
            core.empty_since = now;
        }
        self.rebalance(core);
    }

    /// Begins a generation: sets every partition's target, and moves what can move at once.
    fn rebalance(&mut self, core: &mut Core) {
        core.begin_generation();
        core.unsaved = true;
        let numbers: Vec<_> = self.members.keys().copied().collect();
        let place = |number| numbers.binary_search(&number).ok();
        let subscribed: BTreeSet<_> = self.members.values().flat_map(|member| &member.topics).collect();
        self.topics.retain(|topic, _| subscribed.contains(topic));
        let topics = self.topics.iter().map(|(topic, partitions)| {
            let subscribers = self.members.values().zip(0..).filter(|(member, _)| member.topics.contains(topic));
            assignor::Topic {
                subscribers: subscribers.map(|(_, place)| place).collect(),
                current: partitions.iter().map(|shared| shared.owner.or(shared.target).and_then(place)).collect(),
            }
        });
        let assigned = assignor::assign(numbers.len(), &topics.collect::<Vec<_>>());
        for (shared, place) in self.topics.values_mut().flatten().zip(assigned.into_iter().flatten()) {
            shared.target = Some(numbers[place]);
        }
        self.reconcile(core);
    }

    /// A member lets go what is to move.
    fn let_go(&mut self, core: &mut Core, number: MemberNumber) {
        let partitions = self.topics.values_mut().flatten();
        partitions.filter(|partition| partition.moves_from(number)).for_each(SharedPartition::free);
        self.reconcile(core);
    }

    /// A member takes what is free for it.
    fn take(&mut self, core: &Core, number: MemberNumber) {
        let partitions = self.topics.values_mut().flatten();
        for shared in partitions.filter(|shared| shared.owner.is_none() && shared.target == Some(number)) {
            (shared.owner, shared.since) = (shared.target, core.generation);
        }
    }

    fn partitions(&self) -> impl Iterator<Item = &SharedPartition> {
        self.topics.values().flatten()
    }

    /// Moves what can move: members that poll let go what is not theirs any more, and take what is free.
    fn reconcile(&mut self, core: &mut Core) {
        let moving = |number: Option<MemberNumber>| self.members.get(&number?).filter(|member| member.is_moving());
        let mut told = BTreeSet::new();
        for shared in self.topics.values_mut().flatten().filter(|shared| !shared.is_reconciled()) {
            if let Some(owner) = moving(shared.owner) {
                shared.free();
                told.extend(owner.ticket);
            }
            if let (None, Some(target)) = (shared.owner, moving(shared.target)) {
                (shared.owner, shared.since) = (shared.target, core.generation);
                told.extend(target.ticket);
            }
        }
        core.answers.extend(told.into_iter().map(|ticket| (ticket, Answer::LookAgain)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::group::Committer;

    fn two_partitions() -> Subscription {
        Subscription { topics: vec![("t".into(), 2)], client: "nc".into(), session_timeout_ms: 100, secret: 10 }
    }

    fn poll(group: &mut Group, seat: MemberNumber) -> Vec<u32> {
        group.begin_poll(0, seat).unwrap();
        numbers(group.end_poll(0, seat).unwrap())
    }

    fn numbers(assignment: Assignment) -> Vec<u32> {
        assignment.owned.iter().map(|owned| owned.partition).collect()
    }

    /// The picture of the module: `a` has both partitions when `b` comes.
    fn newcomer() -> (Group, MemberNumber, MemberNumber) {
        let mut group = Group::new(0, 0);
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
        group.begin_commit(0, a, both.into_iter()).unwrap();
        assert_eq!(poll(&mut group, b), [0; 0], "not before the offsets are in the log");
        group.end_commit(0, a).unwrap();
        assert_eq!(poll(&mut group, b), [1]);
        let refused = group.begin_commit(0, a, both.into_iter());
        assert_eq!(refused, Err(Error::NotAssigned { topic: "t".into(), partition: 1 }));
        assert_eq!(group.owns(0, a, "t", 1), Ok(false));
        assert_eq!(group.owns(0, a, "t", 2), Ok(false));
    }

    #[test]
    fn who_waits_lets_go_at_once_and_is_told() {
        let mut group = Group::new(0, 0);
        let (a, _) = group.join(0, two_partitions()).unwrap();
        let (ticket, _) = group.begin_poll(0, a).unwrap();
        let (b, gets) = group.join(0, two_partitions()).unwrap();
        assert_eq!(numbers(gets), [1]);
        assert_eq!(group.take_answers(), [(ticket, Answer::LookAgain)]);
        let (ticket, has) = group.begin_poll(0, a).unwrap();
        assert_eq!(numbers(has), [0]);
        group.leave(0, b).unwrap();
        assert_eq!(group.take_answers(), [(ticket, Answer::LookAgain)]);
        let (_, has) = group.begin_poll(0, a).unwrap();
        assert_eq!(has.owned.iter().map(|owned| owned.since).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn member_that_is_in_a_request_keeps_its_session() {
        let (mut group, a, b) = newcomer();
        group.begin_poll(50, a).unwrap();
        group.begin_commit(60, b, [].into_iter()).unwrap();
        group.tick(10_000);
        group.end_poll(10_000, a).unwrap();
        group.end_commit(10_001, b).unwrap();
        assert_eq!(group.next_deadline(), Some(10_100));
        assert_eq!(group.end_poll(10_100, a), Err(Error::UnknownMemberId));
        assert_eq!(group.begin_poll(10_100, a), Err(Error::UnknownMemberId));
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
        let (ticket, _) = group.begin_poll(0, a).unwrap();
        group.take_answers();
        group.topic_changed(0, "t", None);
        assert_eq!(group.take_answers(), [(ticket, Answer::LookAgain)]);
        assert_eq!(group.end_poll(0, a), Err(Error::UnknownTopic("t".into())));
        assert_eq!(group.begin_poll(0, b).map(drop), Err(Error::UnknownTopic("t".into())));
        assert_eq!((poll(&mut group, a), poll(&mut group, b)), (vec![], vec![]));
        group.topic_changed(0, "t", Some(2));
        assert_eq!((poll(&mut group, a), poll(&mut group, b)), (vec![0], vec![1]));
    }

    fn commits(group: &mut Group, member_id: &str, generation: i32, partition: u32) -> Result<()> {
        let sender = Sender { member_id, instance_id: None };
        group.may_commit_later(0, Committer::Member { sender, generation }, &[("t", partition)])
    }

    #[test]
    fn who_commits_in_a_transaction_names_itself_and_the_generation_that_it_was_told() {
        let (mut group, a, b) = newcomer();
        let (a_id, b_id) = ("1-000000000000000a", "2-000000000000000a");
        assert_eq!(group.describe().members[0].member_id, a_id);
        assert_eq!(
            commits(&mut group, a_id, 1, 1),
            Ok(()),
            "it was told of the first, and lets nothing go before its next poll"
        );
        assert!(matches!(commits(&mut group, a_id, 2, 0), Err(Error::IllegalGeneration(_))));
        for unknown in ["", "1", "1-", "1-000000000000000b", "01-000000000000000a", "3-000000000000000a", "-a"] {
            assert_eq!(commits(&mut group, unknown, 1, 0), Err(Error::UnknownMemberId), "{unknown}");
        }
        assert_eq!(commits(&mut group, b_id, 2, 1), Err(Error::NotAssigned { topic: "t".into(), partition: 1 }));

        group.begin_poll(0, a).unwrap();
        assert!(matches!(commits(&mut group, a_id, 1, 0), Err(Error::IllegalGeneration(_))), "it polls");
        group.end_poll(0, a).unwrap();
        assert_eq!(commits(&mut group, a_id, 2, 0), Ok(()));
        assert!(matches!(commits(&mut group, a_id, 2, 1), Err(Error::NotAssigned { .. })));

        let (_, _) = group.join(0, two_partitions()).unwrap();
        group.begin_commit(0, b, [].into_iter()).unwrap();
        group.end_commit(0, b).unwrap();
        assert!(matches!(commits(&mut group, b_id, 2, 1), Err(Error::IllegalGeneration(_))), "its commit let it go");
    }

    #[test]
    fn members_are_named_or_there_is_none() {
        let commits = |group: &mut Group, committer| group.may_commit_later(0, committer, &[("t", 0)]);
        let nobody = Committer::Member { sender: Sender { member_id: "", instance_id: None }, generation: -1 };
        let mut group = Group::new(0, 0);
        for committer in [Committer::Anybody, Committer::Outsider, nobody] {
            assert_eq!(commits(&mut group, committer), Ok(()));
        }
        let (_, _) = group.join(0, two_partitions()).unwrap();
        assert_eq!(commits(&mut group, Committer::Anybody), Ok(()));
        assert_eq!(commits(&mut group, Committer::Outsider), Err(Error::UnknownMemberId));
        assert_eq!(commits(&mut group, nobody), Err(Error::UnknownMemberId));
    }

    #[test]
    fn who_is_in_a_transaction_lets_nothing_go_and_keeps_its_session() {
        let (mut group, a, b) = newcomer();
        group.hold(0, a, 10_000).unwrap();
        assert_eq!(poll(&mut group, a), [0, 1]);
        group.begin_commit(0, a, [("t", 1)].into_iter()).unwrap();
        group.end_commit(0, a).unwrap();
        group.hold(0, b, 10_000).unwrap();
        assert_eq!((poll(&mut group, b), group.next_deadline()), (vec![], Some(10_000)));
        group.tick(9_999);
        group.release(9_999, a).unwrap();
        assert_eq!(group.next_deadline(), Some(10_000));
        group.begin_poll(9_999, b).unwrap();
        assert_eq!(numbers(group.end_poll(9_999, b).unwrap()), [0; 0], "who is held takes nothing either");
        group.begin_poll(10_000, b).unwrap();
        assert_eq!(numbers(group.end_poll(10_000, b).unwrap()), [1]);
    }

    /// Workers that polled only in transactions never got a partition.
    #[test]
    fn who_polls_only_in_transactions_gets_its_share() {
        let (mut group, a, b) = newcomer();
        let transact = |group: &mut Group, member| {
            group.hold(0, member, 10_000).unwrap();
            group.begin_poll(0, member).unwrap();
            let told = group.end_poll(0, member).unwrap();
            group.release(0, member).unwrap();
            (told.generation, numbers(told))
        };
        assert_eq!(transact(&mut group, a), (1, vec![0, 1]), "in the next generation one of them is another's");
        assert_eq!(transact(&mut group, b), (2, vec![1]));
        assert_eq!(transact(&mut group, a), (2, vec![0]));
        group.leave(0, a).unwrap();
        assert_eq!(transact(&mut group, b), (3, vec![0, 1]));
    }

    #[test]
    fn a_transaction_that_never_ends_holds_for_as_long_as_it_may_take() {
        let (mut group, a, b) = newcomer();
        group.hold(0, a, 10_000).unwrap();
        let (_, none) = group.begin_poll(0, b).unwrap();
        assert_eq!(numbers(none), [0; 0]);
        let (ticket, both) = group.begin_poll(0, a).unwrap();
        assert_eq!((numbers(both), group.take_answers()), (vec![0, 1], vec![]));
        group.tick(10_000);
        let told = group.take_answers();
        assert!(told.contains(&(ticket, Answer::LookAgain)), "who waits lets go then: {told:?}");
        assert_eq!(numbers(group.end_poll(10_000, b).unwrap()), [1]);
        assert_eq!(numbers(group.end_poll(10_000, a).unwrap()), [0]);

        group.hold(10_000, a, 20_000).unwrap();
        group.hold(10_000, b, 40_000).unwrap();
        group.tick(20_099);
        assert!(group.owns(20_099, a, "t", 0).is_ok());
        assert_eq!(group.owns(20_100, a, "t", 0), Err(Error::UnknownMemberId), "its session began when that was over");
    }
}

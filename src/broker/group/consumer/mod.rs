//! A group whose partitions the broker assigns: the members of the text protocol and of the library, and those of Kafka's
//! newer protocol (KIP-848), whose requests stand in [`heartbeat`].
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

pub(super) mod assignor;
pub mod classic_side;
#[cfg(test)]
mod classic_side_tests;
pub mod heartbeat;
#[cfg(all(test, feature = "kafka"))]
mod heartbeat_tests;
#[cfg(test)]
mod model_tests;

pub use assignor::Assignor;

use super::{
    Answer, CONSUMERS, Core, Description, Generation, Group, GroupType, Kind, MemberDescription, Members, SavedKind,
    SessionTimer, Ticket, classic::Sender,
};
use crate::broker::{Error, Result};
use heartbeat::KafkaMember;
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
    /// Kafka's members by their ids.
    ids: BTreeMap<Arc<str>, MemberNumber>,
    /// The member of each `group.instance.id`.
    instances: BTreeMap<Arc<str>, MemberNumber>,
    /// The generation in which the targets were set.
    assignment_epoch: i32,
    /// Whether a generation has begun whose targets are not set.
    is_due: bool,
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
    /// A member of Kafka's: it never polls here, nor is it held.
    kafka: Option<Box<KafkaMember>>,
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
        let (core, group) = self.consumer_or_new(now)?;
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
        self.downgrade(now);
        Ok(())
    }

    /// The members of this kind, once those whose session is over at `now` are gone; for who joins. Nobody else makes an empty
    /// group one of this kind.
    fn consumer_or_new(&mut self, now: u64) -> Result<(&mut Core, &mut ConsumerGroup)> {
        self.tick(now);
        if !matches!(self.members, Members::Consumer(_)) {
            if !self.may_change_kind() {
                return Err(Error::InconsistentGroupProtocol);
            }
            self.members = Members::Consumer(Box::default());
        }
        self.consumer(now)
    }

    /// The same, for a member. Where the group is of another kind by now, it is none any more.
    fn consumer(&mut self, now: u64) -> Result<(&mut Core, &mut ConsumerGroup)> {
        self.tick(now);
        match &mut self.members {
            Members::Consumer(group) => Ok((&mut self.core, group)),
            _ => Err(Error::UnknownMemberId),
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
    fn new(client: Arc<str>, topics: Vec<Arc<str>>, session: SessionTimer, secret: u64) -> ConsumerMember {
        ConsumerMember {
            client,
            topics,
            session,
            secret,
            told: None,
            hold: None,
            polling: false,
            ticket: None,
            dropped: None,
            kafka: None,
        }
    }

    /// When it is removed, if nothing is heard of it or it does not give up what is to move.
    fn removed_at(&self) -> Option<u64> {
        let revoke_by = self.kafka.as_ref().and_then(|kafka| kafka.revoke_by);
        self.session.deadline.into_iter().chain(revoke_by).min()
    }

    /// Whether it came to this generation, as far as it can be asked.
    fn is_in(&self, generation: i32) -> bool {
        self.kafka.as_ref().is_none_or(|kafka| kafka.epoch() == generation)
    }

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
        if self.is_due {
            return "Assigning";
        }
        let is_reconciled = self.partitions().all(SharedPartition::is_reconciled);
        let are_all_in = self.members.values().all(|member| member.is_in(self.assignment_epoch));
        if is_reconciled && are_all_in { "Stable" } else { "Reconciling" }
    }

    fn tick(&mut self, core: &mut Core, now: u64) {
        let ended = self.members.values_mut().filter_map(|member| member.end_hold(now).then_some(())).count();
        if ended > 0 {
            self.reconcile(core);
        }
        let removed = self.members.iter().filter_map(|(&number, member)| Some((number, member.removed_at()?)));
        let due = removed.filter(|&(_, at)| at <= now);
        let last = due.clone().map(|(_, at)| at).max();
        let due: Vec<_> = due.map(|(number, _)| number).collect();
        if let Some(last) = last {
            self.remove(core, last, &due);
        }
    }

    fn next_deadline(&self) -> Option<u64> {
        self.members.values().filter_map(|member| member.removed_at().or(member.hold.map(|hold| hold.until))).min()
    }

    fn describe(&self) -> Description {
        let members = self.members.iter().map(|(&number, member)| self.describe_member(number, member)).collect();
        Description {
            assignment_epoch: self.assignment_epoch,
            protocol: self.assignor().name().into(),
            members,
            ..Description::default()
        }
    }

    fn group_type(&self) -> GroupType {
        GroupType::Consumer
    }

    fn protocol_type(&self) -> &str {
        CONSUMERS
    }

    fn subscribed_topics(&self) -> Option<BTreeSet<&str>> {
        Some(self.members.values().flat_map(|member| &member.topics).map(|topic| &**topic).collect())
    }

    /// Text's members commit through [`Group::begin_commit`]; whoever sends an OffsetCommit is none of them.
    fn may_commit(&mut self, core: &Core, now: u64, sender: Sender<'_>, generation: Generation) -> Result<()> {
        let number = self.named(sender.member_id, None)?;
        if self.kafka(number).classic.is_some() {
            return self.may_commit_later(core, now, sender, generation.number, &[]);
        }
        if !generation.is_epoch {
            return Err(Error::EpochUnknown);
        }
        self.of_epoch(sender.member_id, generation.number)?.heard(now);
        Ok(())
    }

    fn may_commit_later(
        &mut self,
        _: &Core,
        now: u64,
        sender: Sender<'_>,
        generation: i32,
        partitions: &[(&str, u32)],
    ) -> Result<()> {
        match self.of_epoch(sender.member_id, generation) {
            Ok(member) => {
                member.heard(now);
                return Ok(());
            }
            Err(Error::StaleMemberEpoch { named, known }) => {
                return Err(Error::IllegalGeneration(format!("the member is in epoch {known}, not {named}")));
            }
            Err(_) => {}
        }
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
        self.match_patterns(topic, partitions);
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
        Some(SavedKind::Consumer { assignment_epoch: self.assignment_epoch })
    }
}

impl ConsumerGroup {
    /// The group as it is when the broker starts again: without members.
    pub(super) fn restore(assignment_epoch: i32) -> ConsumerGroup {
        ConsumerGroup { assignment_epoch, ..ConsumerGroup::default() }
    }

    fn member(&mut self, number: MemberNumber) -> Result<&mut ConsumerMember> {
        self.members.get_mut(&number).map(|member| &mut **member).ok_or(Error::UnknownMemberId)
    }

    fn owns(&self, number: MemberNumber, topic: &str, partition: u32) -> bool {
        let shared = self.topics.get(topic).and_then(|partitions| partitions.get(partition as usize));
        shared.is_some_and(|shared| shared.owner == Some(number))
    }

    fn owned(&self, number: MemberNumber) -> Vec<Owned> {
        self.partitions_of(|shared| shared.owner == Some(number))
    }

    /// Those partitions of which this holds, in order.
    fn partitions_of(&self, holds: impl Fn(&SharedPartition) -> bool) -> Vec<Owned> {
        let mut all = Vec::new();
        for (topic, partitions) in &self.topics {
            for (shared, partition) in partitions.iter().zip(0..).filter(|(shared, _)| holds(shared)) {
                all.push(Owned { topic: topic.clone(), partition, since: shared.since });
            }
        }
        all
    }

    fn describe_member(&self, number: MemberNumber, member: &ConsumerMember) -> MemberDescription {
        let target = self.partitions_of(|shared| shared.target == Some(number));
        let (owned, client_id) = (self.owned(number), member.client.to_string());
        let target = target.into_iter().map(|target| (target.topic, target.partition)).collect();
        let common = MemberDescription { client_id, owned, target, ..MemberDescription::default() };
        match &member.kafka {
            None => MemberDescription {
                member_id: member_id(number, member.secret),
                epoch: member.told.unwrap_or(self.assignment_epoch),
                topics: member.topics.clone(),
                ..common
            },
            Some(kafka) => MemberDescription {
                member_id: kafka.member_id.to_string(),
                instance_id: kafka.instance_id.as_ref().map(|instance| instance.to_string()),
                rack_id: kafka.rack_id.clone(),
                client_host: kafka.client_host.clone(),
                epoch: kafka.epoch(),
                topics: kafka.names.clone(),
                is_classic: kafka.classic.is_some(),
                pattern: kafka.pattern.as_ref().map(|pattern| pattern.text().to_owned()),
                ..common
            },
        }
    }

    /// The assignor that most of Kafka's members would have.
    fn assignor(&self) -> Assignor {
        let asked = self.members.values().filter_map(|member| member.kafka.as_ref()?.assignor);
        let votes = |assignor| asked.clone().filter(|&asked| asked == assignor).count();
        if votes(Assignor::Range) > votes(Assignor::Uniform) { Assignor::Range } else { Assignor::Uniform }
    }

    /// A topic came or went: those whose pattern matches it subscribe to it or do not any more.
    fn match_patterns(&mut self, topic: &str, partitions: Option<u32>) {
        for member in self.members.values_mut() {
            let Some(kafka) = &member.kafka else { continue };
            let by_name = kafka.names.iter().any(|name| **name == *topic);
            if by_name || !kafka.pattern.as_ref().is_some_and(|pattern| pattern.matches(topic)) {
                continue;
            }
            let at = member.topics.binary_search_by(|known| (**known).cmp(topic));
            match (at, partitions) {
                (Err(at), Some(_)) => {
                    let name = self.topics.get_key_value(topic).map_or_else(|| topic.into(), |(name, _)| name.clone());
                    self.topics.entry(Arc::clone(&name)).or_default();
                    member.topics.insert(at, name);
                }
                (Ok(at), None) => drop(member.topics.remove(at)),
                _ => {}
            }
        }
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
        let member = ConsumerMember { polling: true, ..ConsumerMember::new(client, topics, session, secret) };
        self.members.insert(number, member.into());
        self.rebalance(core);
        let generation = core.generation;
        self.members.entry(number).and_modify(|member| (member.polling, member.told) = (false, Some(generation)));
    }

    fn remove(&mut self, core: &mut Core, now: u64, numbers: &[MemberNumber]) {
        for number in numbers {
            let Some(kafka) = self.members.remove(number).and_then(|member| member.kafka) else { continue };
            self.ids.remove(&kafka.member_id);
            kafka.instance_id.and_then(|instance| self.instances.remove(&instance));
        }
        let is_gone = |number: &MemberNumber| numbers.contains(number);
        for shared in self.topics.values_mut().flatten() {
            shared.owner.take_if(|number| is_gone(number));
            shared.target.take_if(|number| is_gone(number));
        }
        if self.members.is_empty() {
            core.empty_since = now;
            self.topics.clear();
        }
        self.rebalance(core);
    }

    /// Begins a generation. Members of text are not kept waiting for the targets; Kafka's ask for them.
    fn rebalance(&mut self, core: &mut Core) {
        core.begin_generation();
        (core.unsaved, self.is_due) = (true, true);
        if self.members.values().any(|member| member.kafka.is_none()) {
            self.assign(core);
        }
    }

    /// Sets every partition's target, and moves what can move at once.
    fn assign(&mut self, core: &mut Core) {
        (self.assignment_epoch, self.is_due, core.unsaved) = (core.generation, false, true);
        let numbers: Vec<_> = self.members.keys().copied().collect();
        let place = |number| numbers.binary_search(&number).ok();
        let mut subscribers: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (member, place) in self.members.values().zip(0..) {
            member.topics.iter().for_each(|topic| subscribers.entry(topic.clone()).or_default().push(place));
        }
        // What nobody subscribes to any more is there until its last owner has let it go.
        let is_owned = |partitions: &[SharedPartition]| partitions.iter().any(|shared| shared.owner.is_some());
        self.topics.retain(|topic, partitions| subscribers.contains_key(topic) || is_owned(partitions));
        self.topics.values_mut().flatten().for_each(|shared| shared.target = shared.owner.or(shared.target));
        let topics = self.topics.iter().filter_map(|(topic, partitions)| {
            let current = partitions.iter().map(|shared| shared.target.and_then(place)).collect();
            Some(assignor::Topic { subscribers: subscribers.get(topic)?.clone(), current })
        });
        let topics: Vec<_> = topics.collect();
        let assigned = match self.assignor() {
            Assignor::Uniform => assignor::assign(numbers.len(), &topics),
            Assignor::Range => assignor::range(&topics, |place| self.rank(numbers[place])),
        };
        let mut assigned = assigned.into_iter();
        for (topic, partitions) in &mut self.topics {
            let places = if subscribers.contains_key(topic) { assigned.next().unwrap_or_default() } else { vec![] };
            partitions.iter_mut().for_each(|shared| shared.target = None);
            partitions.iter_mut().zip(places).for_each(|(shared, place)| shared.target = Some(numbers[place]));
        }
        self.reconcile(core);
    }

    /// The order of members for `range`: as Kafka's, static ones first, then by name.
    fn rank(&self, number: MemberNumber) -> (bool, Arc<str>) {
        let kafka = self.members.get(&number).and_then(|member| member.kafka.as_ref());
        match kafka {
            Some(kafka) => {
                (kafka.instance_id.is_none(), kafka.instance_id.as_ref().unwrap_or(&kafka.member_id).clone())
            }
            None => (true, number.to_string().into()),
        }
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

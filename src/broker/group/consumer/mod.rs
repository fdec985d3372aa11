//! A group whose partitions the broker assigns: who has which, and who is to. What members ask stands in [`polling`] (text, the
//! library), [`heartbeat`] (Kafka's newer protocol, KIP-848) and [`classic_side`].
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
mod polling;
mod restart;

pub use super::partitions::Owned;
pub use assignor::Assignor;
pub use polling::{Assignment, Subscription, member_id};

use super::{
    Answer, CONSUMERS, Core, Description, Generation, Group, GroupType, Kind, MemberDescription, Members, Partitions,
    SavedKind, SavedSeat, SessionTimer, Ticket, classic::Sender,
};
use crate::broker::{Error, Result};
use heartbeat::KafkaMember;
use polling::Hold;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// A member's number in its group, in the order they joined; never given twice.
pub type MemberNumber = u32;

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
    /// Which of whose records are not as the log has them.
    unsaved: BTreeMap<MemberNumber, UnsavedParts>,
    /// What members of text were to have before a restart, for those who join now.
    vacant: VecDeque<Partitions>,
    /// What is to go to who took such a seat, at the next assignment.
    claimed: BTreeMap<(Arc<str>, u32), MemberNumber>,
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
    /// The assignor that it would have.
    assignor: Option<Assignor>,
    /// A member of Kafka's: it never polls here, nor is it held.
    kafka: Option<Box<KafkaMember>>,
}

/// A partition, who owns it and who is to.
#[derive(Clone, Copy, Debug, Default)]
struct SharedPartition {
    owner: Option<MemberNumber>,
    target: Option<MemberNumber>,
    /// The generation in which the owner took it.
    since: i32,
}

/// Which records of a member are not as the log has them.
#[derive(Clone, Copy, Debug, Default)]
struct UnsavedParts {
    subscription: bool,
    target: bool,
    current: bool,
}

impl UnsavedParts {
    const ALL: UnsavedParts = UnsavedParts { subscription: true, target: true, current: true };
}

/// What of the partitions is a member's.
#[derive(Debug, Default)]
struct Holdings {
    /// What it has and keeps.
    owned: Vec<Owned>,
    /// What it has and is to give up.
    gives_up: Vec<Owned>,
    /// Whether something that it is to have is another's.
    waits: bool,
    /// Whether something that it is to have is nobody's.
    is_free: bool,
}

impl Group {
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
            assignor: None,
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
        for number in shared.iter().skip(count).flat_map(|gone| gone.owner.into_iter().chain(gone.target)) {
            let unsaved = self.unsaved.entry(number).or_default();
            (unsaved.target, unsaved.current) = (true, true);
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
        Some(SavedKind::Consumer { assignment_epoch: self.assignment_epoch, seats: self.seats() })
    }
}

impl ConsumerGroup {
    /// The group as it is when the broker starts again: without members.
    pub(super) fn restore(assignment_epoch: i32, seats: Vec<SavedSeat>) -> ConsumerGroup {
        let vacant = seats.into_iter().map(|seat| seat.partitions).collect();
        ConsumerGroup { assignment_epoch, vacant, ..ConsumerGroup::default() }
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

    /// What of the partitions is a member's.
    fn holdings(&self, number: MemberNumber) -> Holdings {
        let mut holdings = Holdings::default();
        for (topic, partitions) in &self.topics {
            for (shared, partition) in partitions.iter().zip(0..) {
                let (is_owner, is_target) = (shared.owner == Some(number), shared.target == Some(number));
                holdings.waits |= is_target && !is_owner && shared.owner.is_some();
                holdings.is_free |= is_target && shared.owner.is_none();
                if is_owner {
                    let all = if is_target { &mut holdings.owned } else { &mut holdings.gives_up };
                    all.push(Owned { topic: topic.clone(), partition, since: shared.since });
                }
            }
        }
        holdings
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

    /// The assignor that most of those members would have who say so.
    fn assignor(&self) -> Assignor {
        let asked = self.members.values().filter_map(|member| member.assignor);
        let votes = |assignor| asked.clone().filter(|&asked| asked == assignor).count();
        if votes(Assignor::Range) > votes(Assignor::Uniform) { Assignor::Range } else { Assignor::Uniform }
    }

    /// A topic came or went: those whose pattern matches it subscribe to it or do not any more.
    fn match_patterns(&mut self, topic: &str, partitions: Option<u32>) {
        for member in self.members.values_mut() {
            let Some(kafka) = &mut member.kafka else { continue };
            let by_name = kafka.names.iter().any(|name| **name == *topic);
            if by_name || !kafka.pattern.as_ref().is_some_and(|pattern| pattern.matches(topic)) {
                continue;
            }
            // It may not know of the topic: that is looked at when it is heard.
            kafka.rules = None;
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
        let mut changed = BTreeSet::new();
        self.topics.retain(|topic, partitions| {
            let stays = subscribers.contains_key(topic) || is_owned(partitions);
            changed.extend(partitions.iter().filter(|_| !stays).filter_map(|shared| shared.target));
            stays
        });
        let before: Vec<_> = self.partitions().map(|shared| shared.target).collect();
        let claimed = std::mem::take(&mut self.claimed);
        self.topics.values_mut().flatten().for_each(|shared| shared.target = shared.owner.or(shared.target));
        for ((topic, partition), number) in claimed {
            let shared = self.topics.get_mut(&topic).and_then(|all| all.get_mut(partition as usize));
            shared.into_iter().for_each(|shared| shared.target = Some(number));
        }
        let topics = self.topics.iter().filter_map(|(topic, partitions)| {
            let current = partitions.iter().map(|shared| shared.target.and_then(place)).collect();
            Some(assignor::Topic { subscribers: subscribers.get(topic)?.clone(), current })
        });
        let topics: Vec<_> = topics.collect();
        let assigned = match self.assignor() {
            Assignor::Uniform => assignor::assign(numbers.len(), &topics),
            Assignor::Range if !self.members.values().any(|member| member.kafka.is_some()) => {
                assignor::together(numbers.len(), &topics)
            }
            Assignor::Range => assignor::range(&topics, |place| self.rank(numbers[place])),
        };
        let mut assigned = assigned.into_iter();
        for (topic, partitions) in &mut self.topics {
            let places = if subscribers.contains_key(topic) { assigned.next().unwrap_or_default() } else { vec![] };
            partitions.iter_mut().for_each(|shared| shared.target = None);
            partitions.iter_mut().zip(places).for_each(|(shared, place)| shared.target = Some(numbers[place]));
        }
        let after = self.partitions().map(|shared| shared.target);
        changed.extend(
            before.into_iter().zip(after).filter(|(before, after)| before != after).flat_map(<[_; 2]>::from).flatten(),
        );
        for number in changed.into_iter().filter(|number| self.members.contains_key(number)) {
            self.unsaved.entry(number).or_default().target = true;
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

//! ConsumerGroupHeartbeat: the members of Kafka's newer protocol (KIP-848), beside those of text.
//!
//! A member says which epoch it is in, and, where that changed, what it subscribes to and which partitions it has. It is told
//! which it is to have, where that changed:
//!
//! ```text
//!                    b joins          a: has 0 1      a: has 0        b
//! orders/0   a   a  │ a  a             a  a           a  a            a  a      owner and target
//! orders/1   a   a  │ a  b             a  b           -  b            b  b
//! told              │                  a: 0                           b: 1
//! epoch of a, b  2  │ 2, 3             2, 3           3, 3            3, 3
//! ```
//!
//! | epoch | from a member | from another |
//! | --- | --- | --- |
//! | 0 | gives all up and is told anew | joins; a static one takes the place of one that is away |
//! | its own, or its last with only partitions that it was told | its session starts anew | `UnknownMemberId` |
//! | another | `FencedMemberEpoch` | `UnknownMemberId` |
//! | -1 | leaves | `UnknownMemberId` |
//! | -2, static | is away: its place is kept for its session | `UnknownMemberId` |
//!
//! Before that: a `group.instance.id` that is nobody's is `UnknownMemberId`, one of a member that is there
//! `UnreleasedInstanceId` to who joins and `FencedInstanceId` to others.
//!
//! - Joins, ends and changed subscriptions begin an epoch of the group. If only such members are in it, its targets are set by
//!   the next heartbeat, as in Kafka; until then the state is `Assigning`.
//! - A member comes to the group's epoch when it has nothing that is another's. It gives up a partition when it leaves it out
//!   after it was told so; one that does not within its rebalance timeout is removed.

use super::{ConsumerGroup, ConsumerMember, Holdings, MemberNumber, Owned, UnsavedParts, assignor::Assignor};
use crate::broker::{
    Error, Pattern, Result,
    group::{Core, Group, SavedCurrent, SessionTimer, classic::Protocol},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The epoch of a member that joins.
pub const JOINS: i32 = 0;
/// The epoch of a member that leaves.
pub const LEAVES: i32 = -1;
/// The epoch of a static member that leaves for a while.
pub const AWAY: i32 = -2;

/// A heartbeat. What is `None` has not changed.
#[derive(Clone, Debug)]
pub struct HeartbeatRequest<'a> {
    /// The member id, which the client made.
    pub member_id: &'a str,
    /// The `group.instance.id` of a static member.
    pub instance_id: Option<&'a str>,
    /// The member's epoch, or [`JOINS`], [`LEAVES`], [`AWAY`].
    pub epoch: i32,
    /// The rack that its client is in.
    pub rack_id: Option<&'a str>,
    /// What its client calls itself.
    pub client_id: &'a str,
    /// The address of its client.
    pub client_host: &'a str,
    /// A member that is silent for this long is removed.
    pub session_timeout_ms: u64,
    /// How long it may take to give a partition up.
    pub rebalance_timeout_ms: Option<u64>,
    /// The topics that it subscribes to.
    pub names: Option<Vec<&'a str>>,
    /// The pattern of those that it subscribes to besides; `Some(None)`: there is none.
    pub pattern: Option<Option<Pattern>>,
    /// Which rules say what topics it may know of, by their generation; `None`: it may know of all.
    pub rules: Option<u64>,
    /// The assignor that it would have.
    pub assignor: Option<Assignor>,
    /// The partitions that it has.
    pub owned: Option<BTreeSet<(Arc<str>, u32)>>,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq)]
pub struct Heartbeat {
    /// The member's epoch from here on.
    pub epoch: i32,
    /// The partitions that it is to have, where it is to be told.
    pub assigned: Option<Vec<Owned>>,
}

/// All topics, and how many partitions each has.
pub type Topics = BTreeMap<Arc<str>, u32>;

/// What of a member there is only in Kafka's protocol.
#[derive(Debug)]
pub(super) struct KafkaMember {
    pub(super) member_id: Arc<str>,
    pub(super) instance_id: Option<Arc<str>>,
    pub(super) rack_id: Option<String>,
    pub(super) client_host: String,
    /// What it subscribes to by name; [`ConsumerMember::topics`] has what the pattern matches, too.
    pub(super) names: Vec<Arc<str>>,
    pub(super) pattern: Option<Pattern>,
    /// By which rules the topics were chosen that the pattern matches; `None`: by none, so they are to be chosen anew.
    pub(super) rules: Option<u64>,
    pub(super) rebalance_timeout_ms: u64,
    epoch: i32,
    previous_epoch: i32,
    /// A static member that left for a while.
    pub(super) is_away: bool,
    /// What it was told last that it is to have, in order.
    pub(super) told: Vec<Owned>,
    /// When it is removed unless it gave up what is to move.
    pub(super) revoke_by: Option<u64>,
    /// What a client of the [classic protocol](super::classic_side) supports.
    pub(super) classic: Option<Vec<Protocol>>,
    /// How far it had come when that was last to be saved. Where the log refused it, all is saved again.
    pub(super) saved: SavedCurrent,
}

/// Sets a value; whether it was another.
fn set<T: PartialEq>(value: &mut T, new: T) -> bool {
    let is_new = *value != new;
    *value = new;
    is_new
}

impl KafkaMember {
    /// One that subscribes to nothing yet.
    pub(super) fn new(member_id: &str, epoch: i32) -> KafkaMember {
        KafkaMember {
            member_id: member_id.into(),
            instance_id: None,
            rack_id: None,
            client_host: String::new(),
            names: vec![],
            pattern: None,
            rules: None,
            rebalance_timeout_ms: 0,
            epoch,
            previous_epoch: epoch,
            is_away: false,
            told: vec![],
            revoke_by: None,
            classic: None,
            saved: SavedCurrent::default(),
        }
    }

    /// One that was so before a restart, and subscribes to nothing yet.
    pub(super) fn restored(member_id: &str, saved: &SavedCurrent) -> KafkaMember {
        let (previous_epoch, is_away) = (saved.previous_epoch, saved.is_away);
        KafkaMember { previous_epoch, is_away, saved: saved.clone(), ..KafkaMember::new(member_id, saved.epoch) }
    }

    /// How far it has come, if this is what it has.
    pub(super) fn current(&self, holdings: Holdings) -> SavedCurrent {
        let Holdings { owned, gives_up, waits, is_free: _ } = holdings;
        let (epoch, previous_epoch, is_away) = (self.epoch, self.previous_epoch, self.is_away);
        SavedCurrent { epoch, previous_epoch, is_away, waits, owned, gives_up }
    }

    /// The epoch by which it is known.
    pub(super) fn epoch(&self) -> i32 {
        if self.is_away { AWAY } else { self.epoch }
    }

    /// Whether a heartbeat in this epoch is the member's.
    fn check_epoch(&self, epoch: i32, owned: Option<&BTreeSet<(Arc<str>, u32)>>) -> Result<()> {
        let known = self.epoch();
        // The answer that told it of the new epoch was lost.
        let was_told = |(topic, partition): &(Arc<str>, u32)| {
            self.told.binary_search_by(|told| (&told.topic, told.partition).cmp(&(topic, *partition))).is_ok()
        };
        let lost = epoch == self.previous_epoch && epoch < known && owned.is_some_and(|all| all.iter().all(was_told));
        if epoch == known || lost { Ok(()) } else { Err(Error::FencedMemberEpoch { named: epoch, known }) }
    }
}

impl Group {
    /// A member says that it is there, joins or leaves. `topics` is asked if what it subscribes to is to be looked up. Before it joins
    /// the group is [upgraded](Group::upgrade).
    pub fn consumer_heartbeat(
        &mut self,
        now: u64,
        request: HeartbeatRequest<'_>,
        topics: impl FnOnce() -> Topics,
    ) -> Result<Heartbeat> {
        let members = match request.epoch {
            JOINS => self.consumer_or_new(now),
            _ => self.consumer(now),
        };
        let (core, group) = members.map_err(|_| Error::NotConsumerGroup)?;
        if request.epoch == JOINS {
            let entered = group.enter(core, now, &request, None);
            let beat = entered.map(|number| group.beat(core, now, number, request, topics));
            self.downgrade(now);
            return beat;
        }
        let number = group.named(request.member_id, request.instance_id)?;
        let member = group.kafka(number);
        match request.epoch {
            LEAVES => {
                group.remove(core, now, &[number]);
                self.downgrade(now);
            }
            AWAY => {
                member.is_away = true;
                group.unsaved.entry(number).or_default().current = true;
            }
            epoch => {
                member.check_epoch(epoch, request.owned.as_ref())?;
                return Ok(group.beat(core, now, number, request, topics));
            }
        }
        Ok(Heartbeat { epoch: request.epoch, assigned: None })
    }

    /// Whether a member that names its epoch may see what the group committed.
    pub fn may_fetch(&mut self, now: u64, member_id: &str, epoch: i32) -> Result<()> {
        match self.consumer(now) {
            Ok((_, group)) => group.of_epoch(member_id, epoch).map(drop),
            Err(_) => Ok(()),
        }
    }
}

impl ConsumerGroup {
    /// The member that a request names.
    pub(super) fn named(&self, member_id: &str, instance_id: Option<&str>) -> Result<MemberNumber> {
        let number = self.ids.get(member_id);
        if let Some(instance) = instance_id {
            let instance = self.instances.get(instance).ok_or(Error::UnknownMemberId)?;
            if number != Some(instance) {
                return Err(Error::FencedInstanceId);
            }
        }
        number.copied().ok_or(Error::UnknownMemberId)
    }

    /// The member of this id, which is to be in this epoch.
    pub(super) fn of_epoch(&mut self, member_id: &str, epoch: i32) -> Result<&mut ConsumerMember> {
        let number = self.named(member_id, None)?;
        let known = self.kafka(number).epoch();
        if epoch != known {
            return Err(Error::StaleMemberEpoch { named: epoch, known });
        }
        self.member(number)
    }

    /// A member of which it is known that it is there and of this protocol.
    pub(super) fn kafka(&mut self, number: MemberNumber) -> &mut KafkaMember {
        let member = self.members.get_mut(&number).and_then(|member| member.kafka.as_mut());
        member.expect("only members of Kafka's have a name in the table")
    }

    /// A member joins, joins again, or takes the place of one that is away.
    pub(super) fn enter(
        &mut self,
        core: &mut Core,
        now: u64,
        request: &HeartbeatRequest<'_>,
        classic: Option<Vec<Protocol>>,
    ) -> Result<MemberNumber> {
        let known = self.ids.get(request.member_id).copied();
        let holder = request.instance_id.and_then(|instance| self.instances.get(instance).copied());
        let number = match (holder, known) {
            (Some(holder), known) if known != Some(holder) => {
                let other = self.kafka(holder);
                // A classic client does not say that it goes away for a while.
                let is_released = other.is_away || other.classic.is_some() || classic.is_some();
                if !is_released || known.is_some() {
                    return Err(Error::UnreleasedInstanceId(request.instance_id.unwrap_or_default().into()));
                }
                let before = std::mem::replace(&mut other.member_id, request.member_id.into());
                self.ids.remove(&before);
                holder
            }
            (_, Some(known)) => known,
            (_, None) => self.add(core, now, request),
        };
        let member = self.kafka(number);
        (member.is_away, member.revoke_by, member.classic) = (false, None, classic);
        member.told.clear();
        let (id, instance) = (member.member_id.clone(), request.instance_id.map(Arc::from));
        let before = std::mem::replace(&mut member.instance_id, instance.clone());
        self.ids.insert(id, number);
        before.and_then(|before| self.instances.remove(&before));
        self.instances.extend(instance.map(|instance| (instance, number)));
        // It may have another id than before, whose records end with the group's next one.
        core.unsaved = true;
        self.unsaved.insert(number, UnsavedParts::ALL);
        Ok(number)
    }

    /// A new member, which subscribes to nothing yet.
    fn add(&mut self, core: &mut Core, now: u64, request: &HeartbeatRequest<'_>) -> MemberNumber {
        core.members_numbered += 1;
        if core.generation == 0 {
            // As in Kafka, where a group has an epoch before its first member subscribes.
            self.rebalance(core);
        }
        let kafka = KafkaMember::new(request.member_id, 0);
        let session = SessionTimer::new(now, request.session_timeout_ms);
        let member = ConsumerMember { kafka: Some(kafka.into()), ..ConsumerMember::new("".into(), vec![], session, 0) };
        self.members.insert(core.members_numbered, member.into());
        core.members_numbered
    }

    /// What follows from a heartbeat of a member.
    pub(super) fn beat(
        &mut self,
        core: &mut Core,
        now: u64,
        number: MemberNumber,
        request: HeartbeatRequest<'_>,
        topics: impl FnOnce() -> Topics,
    ) -> Heartbeat {
        let joins = request.epoch == JOINS;
        let subscribes = request.names.is_some() || request.pattern.is_some();
        let is_full = request.rebalance_timeout_ms.is_some() && subscribes && request.owned.is_some();
        if self.update(now, number, &request) {
            self.subscribe(number, request.names, request.pattern, topics);
            self.kafka(number).rules = request.rules;
            self.rebalance(core);
        } else if self.choose_anew(number, request.rules, topics) {
            self.rebalance(core);
        }
        if let Some(owned) = &request.owned {
            self.give_up(core, number, owned);
        }
        if self.is_due {
            self.assign(core);
        }
        let mut holdings = self.holdings(number);
        let is_moving = !holdings.gives_up.is_empty();
        if !is_moving && holdings.is_free {
            self.take(core, number);
            holdings = self.holdings(number);
        }
        let epoch = self.assignment_epoch;
        let member = self.kafka(number);
        if !is_moving && member.epoch != epoch {
            (member.previous_epoch, member.epoch) = (member.epoch, epoch);
        }
        let current = member.current(holdings);
        if current != member.saved {
            self.unsaved.entry(number).or_default().current = true;
        }
        let (assigned, member) = (current.owned, self.kafka(number));
        let revoke_by = now.saturating_add(member.rebalance_timeout_ms);
        member.revoke_by = is_moving.then(|| member.revoke_by.unwrap_or(revoke_by));
        let is_told = joins || is_full || assigned != member.told;
        if assigned != member.told {
            member.told.clone_from(&assigned);
        }
        Heartbeat { epoch: member.epoch, assigned: is_told.then_some(assigned) }
    }

    /// Notes what a heartbeat says of the member; whether its subscription is another than before.
    fn update(&mut self, now: u64, number: MemberNumber, request: &HeartbeatRequest<'_>) -> bool {
        let Ok(member) = self.member(number) else { return false };
        let mut is_new = *member.client != *request.client_id;
        if is_new {
            member.client = request.client_id.into();
        }
        is_new |= set(&mut member.session.timeout_ms, request.session_timeout_ms);
        let assignor = request.assignor.or(member.assignor);
        is_new |= set(&mut member.assignor, assignor);
        member.heard(now);
        let kafka = self.kafka(number);
        if kafka.client_host != request.client_host {
            (kafka.client_host, is_new) = (request.client_host.into(), true);
        }
        if let Some(rack_id) = request.rack_id.filter(|&rack_id| kafka.rack_id.as_deref() != Some(rack_id)) {
            (kafka.rack_id, is_new) = (Some(rack_id.into()), true);
        }
        let rebalance_timeout_ms = request.rebalance_timeout_ms.unwrap_or(kafka.rebalance_timeout_ms);
        is_new |= set(&mut kafka.rebalance_timeout_ms, rebalance_timeout_ms);
        if is_new {
            self.unsaved.entry(number).or_default().subscription = true;
        }
        let kafka = self.kafka(number);
        let same_names = request.names.as_ref().is_none_or(|names| {
            let names: BTreeSet<&str> = names.iter().copied().collect();
            names.iter().copied().eq(kafka.names.iter().map(|name| &**name))
        });
        !same_names || request.pattern.as_ref().is_some_and(|pattern| *pattern != kafka.pattern)
    }

    /// A member subscribes to other topics than before.
    fn subscribe(
        &mut self,
        number: MemberNumber,
        names: Option<Vec<&str>>,
        pattern: Option<Option<Pattern>>,
        topics: impl FnOnce() -> Topics,
    ) {
        let topics = topics();
        self.unsaved.entry(number).or_default().subscription = true;
        let kafka = self.kafka(number);
        if let Some(names) = names {
            let known = |name: &str| topics.get_key_value(name).map_or_else(|| name.into(), |(name, _)| name.clone());
            kafka.names = names.into_iter().collect::<BTreeSet<_>>().into_iter().map(known).collect();
        }
        if let Some(pattern) = pattern {
            kafka.pattern = pattern;
        }
        self.match_topics(number, &topics);
    }

    /// Chooses the topics that a member's pattern matches where others came, or other rules; whether they are others then.
    fn choose_anew(&mut self, number: MemberNumber, rules: Option<u64>, topics: impl FnOnce() -> Topics) -> bool {
        let kafka = self.kafka(number);
        if kafka.pattern.is_none() || kafka.rules == rules || rules.is_none() {
            return false;
        }
        kafka.rules = rules;
        let before = self.member(number).map(|member| member.topics.clone());
        self.match_topics(number, &topics());
        before != self.member(number).map(|member| member.topics.clone())
    }

    /// Finds what a member subscribes to, by name and by its pattern.
    pub(super) fn match_topics(&mut self, number: MemberNumber, topics: &Topics) {
        let kafka = self.kafka(number);
        let matched = topics.keys().filter(|topic| kafka.pattern.as_ref().is_some_and(|all| all.matches(topic)));
        let all: BTreeSet<Arc<str>> = kafka.names.iter().chain(matched).cloned().collect();
        self.count(all.iter(), topics);
        if let Ok(member) = self.member(number) {
            member.topics = all.into_iter().collect();
        }
    }

    /// Has a place for every partition of these topics.
    pub(super) fn count<'t>(&mut self, names: impl Iterator<Item = &'t Arc<str>>, topics: &Topics) {
        for topic in names {
            let partitions = topics.get(topic).copied().unwrap_or(0);
            let counted = self.topics.entry(topic.clone()).or_default();
            // Whoever counted it first may not have known of it.
            if counted.is_empty() {
                counted.resize_with(partitions as usize, Default::default);
            }
        }
    }

    /// A member has only these partitions: others that are to move, and of which it was told so, are free.
    fn give_up(&mut self, core: &mut Core, number: MemberNumber, owned: &BTreeSet<(Arc<str>, u32)>) {
        let told = std::mem::take(&mut self.kafka(number).told);
        for (topic, partitions) in &mut self.topics {
            for (shared, partition) in partitions.iter_mut().zip(0..).filter(|(shared, _)| shared.moves_from(number)) {
                let has = Owned { topic: topic.clone(), partition, since: shared.since };
                if told.binary_search(&has).is_err() && !owned.contains(&(topic.clone(), partition)) {
                    shared.free();
                }
            }
        }
        self.kafka(number).told = told;
        self.reconcile(core);
    }

    /// What a member owns and is to keep.
    pub(super) fn kept(&self, number: MemberNumber) -> Vec<Owned> {
        self.partitions_of(|shared| shared.owner == Some(number) && shared.target == Some(number))
    }
}

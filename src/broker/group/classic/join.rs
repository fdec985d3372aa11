//! JoinGroup, and the rebalance up to its answer.

use super::{Awaits, ClassicGroup, ClassicMember, InitialRebalance, Phase, Sender};
use crate::broker::{
    Error, Result,
    group::{Answer, Core, Group, SessionTimer, Ticket},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// Member ids that are pending at a time; one more takes the place of the one that would end first. It bounds what a client
/// that asks for ids and never comes back can hold.
const PENDING_MAX: usize = 10_000;

/// A protocol that a member supports.
#[derive(Clone, Debug, PartialEq)]
pub struct Protocol {
    /// Its name; for consumers, the assignor's.
    pub name: String,
    /// What the leader needs to know of the member; for consumers, the subscription.
    pub metadata: Vec<u8>,
}

/// A JoinGroup request.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// The member id; empty for one that has none yet.
    pub member_id: String,
    /// The member id that it gets in this case. The caller draws it: nothing here is random.
    pub new_member_id: String,
    /// The `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// What its client calls itself.
    pub client_id: String,
    /// The address of its client.
    pub client_host: String,
    /// A member that is silent for this long is removed.
    pub session_timeout_ms: u64,
    /// How long the others wait for it in a rebalance.
    pub rebalance_timeout_ms: u64,
    /// What kind of client this is: `consumer`, `connect`.
    pub protocol_type: String,
    /// The protocols (for consumers: assignors) that it supports, the one it likes best first.
    pub protocols: Vec<Protocol>,
    /// Since v4: a new member is sent back once, to come with its id (KIP-394).
    pub comes_with_id: bool,
    /// Since v9: a leader can be told not to assign (KIP-814).
    pub can_skip_assignment: bool,
}

#[cfg(test)]
impl JoinRequest {
    /// A consumer's, whose one assignor is `range`.
    pub(in crate::broker) fn of_consumer(
        member_id: &str,
        new_member_id: &str,
        metadata: impl Into<Vec<u8>>,
    ) -> JoinRequest {
        JoinRequest {
            member_id: member_id.into(),
            new_member_id: new_member_id.into(),
            instance_id: None,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "range".into(), metadata: metadata.into() }],
            comes_with_id: false,
            can_skip_assignment: false,
        }
    }
}

/// The answer to a JoinGroup.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Joined {
    /// The generation that begins.
    pub generation: i32,
    /// What kind of clients the members are.
    pub protocol_type: String,
    /// The protocol that was chosen.
    pub protocol: Option<String>,
    /// The leader's member id.
    pub leader: String,
    /// The member's own id.
    pub member_id: String,
    /// The leader is not to assign: the group is stable (KIP-814).
    pub skip_assignment: bool,
    /// All members, for the leader; others get none.
    pub members: Vec<JoinedMember>,
}

/// A member as its leader sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinedMember {
    /// Its member id.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub instance_id: Option<String>,
    /// Its metadata under the protocol that was chosen.
    pub metadata: Vec<u8>,
}

/// An answer, or the ticket to wait for it with.
#[derive(Debug, PartialEq)]
pub enum Reply<T> {
    /// The answer.
    Now(T),
    /// It comes through [`Group::take_answers`].
    Later(Ticket),
}

impl Group {
    /// JoinGroup: a member comes, or comes back for the next generation.
    pub fn join_group(&mut self, now: u64, request: JoinRequest) -> Result<Reply<Joined>> {
        let (core, members) = self.classic_or_new(now)?;
        match members.join(core, now, request)? {
            Reply::Later(ticket) => match core.take_answer(ticket) {
                Some(Answer::Joined(joined)) => joined.map(Reply::Now),
                _ => Ok(Reply::Later(ticket)),
            },
            now => Ok(now),
        }
    }
}

impl ClassicGroup {
    fn join(&mut self, core: &mut Core, now: u64, request: JoinRequest) -> Result<Reply<Joined>> {
        let sender = Sender { member_id: &request.member_id, instance_id: request.instance_id.as_deref() };
        if !self.supports(&request) {
            Err(Error::InconsistentGroupProtocol)
        } else if !request.member_id.is_empty() {
            if sender.instance_id.is_none() && self.pending.remove(sender.member_id).is_some() {
                return Ok(self.add(core, now, request.member_id.clone(), request));
            }
            self.known(sender)?;
            Ok(self.rejoin(core, now, request))
        } else if let Some(old) = sender.instance_id.and_then(|instance| self.statics.get(instance)) {
            Ok(self.take_over(core, now, old.clone(), request))
        } else if request.comes_with_id && request.instance_id.is_none() {
            self.add_pending(now, &request);
            Err(Error::MemberIdRequired(request.new_member_id))
        } else {
            Ok(self.add(core, now, request.new_member_id.clone(), request))
        }
    }

    /// Whether the members and the sender support a protocol in common.
    fn supports(&self, request: &JoinRequest) -> bool {
        if self.members.is_empty() {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        let supported = request.protocols.iter().map(|supported| supported.name.as_str()).collect();
        request.protocol_type == self.protocol_type && !self.in_common(supported).is_empty()
    }

    /// Those of the protocols `names` that every member supports.
    fn in_common<'a>(&'a self, names: BTreeSet<&'a str>) -> BTreeSet<&'a str> {
        self.members.values().fold(names, |common, member| {
            member
                .protocols
                .iter()
                .map(|supported| supported.name.as_str())
                .filter(|name| common.contains(name))
                .collect()
        })
    }

    fn add_pending(&mut self, now: u64, request: &JoinRequest) {
        if self.pending.len() >= PENDING_MAX {
            let first = self.pending.iter().min_by_key(|(_, deadline)| **deadline).map(|(id, _)| id.clone());
            first.and_then(|id| self.pending.remove(&id));
        }
        self.pending.insert(request.new_member_id.clone(), now.saturating_add(request.session_timeout_ms));
    }

    /// A new member.
    fn add(&mut self, core: &mut Core, now: u64, member_id: String, request: JoinRequest) -> Reply<Joined> {
        if self.members.is_empty() {
            self.protocol_type = request.protocol_type.clone();
        }
        if let Some(instance) = &request.instance_id {
            self.statics.insert(instance.clone(), member_id.clone());
        }
        if let Phase::InitialRebalance(initial) = &mut self.phase {
            initial.joined = true;
        }
        self.leader.get_or_insert_with(|| member_id.clone());
        let member = ClassicMember {
            instance_id: request.instance_id.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            session: SessionTimer::new(now, request.session_timeout_ms),
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            protocols: vec![],
            assignment: vec![],
            is_new: true,
            synced: false,
            awaits: Awaits::Nothing,
        };
        self.members.insert(member_id.clone(), member.into());
        self.wait_for_all(core, now, &member_id, request)
    }

    /// A member joins again, perhaps because it did not get the answer.
    fn rejoin(&mut self, core: &mut Core, now: u64, request: JoinRequest) -> Reply<Joined> {
        let leads = self.leader.as_ref() == Some(&request.member_id);
        let same = self.member(&request.member_id).protocols == request.protocols;
        let has_answer = match self.phase {
            Phase::CompletingRebalance { .. } => same,
            Phase::Stable { .. } => same && !leads,
            Phase::Empty | Phase::PreparingRebalance { .. } | Phase::InitialRebalance(_) => false,
        };
        if !has_answer {
            let member_id = request.member_id.clone();
            return self.wait_for_all(core, now, &member_id, request);
        }
        self.member(&request.member_id).heard(now);
        Reply::Now(self.joined(core, &request.member_id))
    }

    /// A static member that was started again has lost its member id: it gets a new one, and the old one is fenced (KIP-345).
    /// In a stable group it gets its assignment back without a rebalance.
    fn take_over(&mut self, core: &mut Core, now: u64, old: String, request: JoinRequest) -> Reply<Joined> {
        let new = request.new_member_id.clone();
        let mut member = self.members.remove(&old).expect("every static member is a member");
        member.end_wait(core, now, Error::FencedInstanceId);
        member.instance_id.iter().for_each(|instance| drop(self.statics.insert(instance.clone(), new.clone())));
        self.members.insert(new.clone(), member);
        let leader = self.leader.clone();
        let leads = leader.as_ref() == Some(&old);
        if leads {
            self.leader = Some(new.clone());
        }
        let can_skip = request.can_skip_assignment;
        self.member(&new).update(now, &request);
        if !matches!(self.phase, Phase::Stable { .. }) || self.choose_protocol() != self.protocol {
            return self.wait_for_all(core, now, &new, request);
        }
        core.unsaved = true;
        let joined = self.joined(core, &new);
        if can_skip {
            return Reply::Now(Joined { skip_assignment: leads, ..joined });
        }
        // Before v9 a leader cannot be told not to assign. It is told that its old member id leads instead.
        Reply::Now(Joined { leader: leader.unwrap_or_default(), members: vec![], ..joined })
    }

    /// The member waits until all have joined; a rebalance begins unless one is on.
    fn wait_for_all(&mut self, core: &mut Core, now: u64, member_id: &str, request: JoinRequest) -> Reply<Joined> {
        let ticket = core.ticket();
        let member = self.member(member_id);
        member.update(now, &request);
        member.end_wait(core, now, Error::RebalanceInProgress);
        member.awaits = Awaits::Join(ticket);
        member.session.pause();
        match self.phase {
            Phase::PreparingRebalance { .. } | Phase::InitialRebalance(_) => self.all_joined(core, now),
            _ => self.rebalance(core, now),
        }
        Reply::Later(ticket)
    }

    /// All members are to join again. The first member of a group waits for others only if the group has an initial delay.
    pub(in crate::broker::group) fn rebalance(&mut self, core: &mut Core, now: u64) {
        if let Phase::CompletingRebalance { .. } = self.phase {
            for member in self.members.values_mut() {
                member.assignment.clear();
                if let Awaits::Sync(_) = member.awaits {
                    member.end_wait(core, now, Error::RebalanceInProgress);
                }
            }
        }
        let (timeout_ms, delay_ms) = (self.rebalance_timeout_ms(), core.initial_rebalance_delay_ms);
        if self.phase != Phase::Empty {
            self.phase = Phase::PreparingRebalance { deadline: now.saturating_add(timeout_ms) };
            self.all_joined(core, now);
        } else if delay_ms > 0 {
            let (deadline, left_ms) = (now.saturating_add(delay_ms), timeout_ms.saturating_sub(delay_ms));
            self.phase = Phase::InitialRebalance(InitialRebalance { deadline, left_ms, joined: false });
        } else {
            self.complete_join(core, now);
        }
    }

    /// The first members have waited for others: they go on, or wait once more for as long if another has come.
    pub(super) fn end_initial_delay(&mut self, core: &mut Core, now: u64, initial: InitialRebalance) {
        let more_ms = core.initial_rebalance_delay_ms.min(initial.left_ms);
        if !initial.joined || more_ms == 0 {
            return self.complete_join(core, now);
        }
        let (deadline, left_ms) = (now.saturating_add(more_ms), initial.left_ms - more_ms);
        self.phase = Phase::InitialRebalance(InitialRebalance { deadline, left_ms, joined: false });
    }

    /// Goes on if everybody has joined, or nobody is left.
    pub(super) fn all_joined(&mut self, core: &mut Core, now: u64) {
        let all = self.members.values().all(|member| member.awaits_join());
        let over = match self.phase {
            Phase::PreparingRebalance { .. } => self.members.is_empty() || all && self.pending.is_empty(),
            Phase::InitialRebalance(_) => self.members.is_empty(),
            _ => false,
        };
        if over {
            self.complete_join(core, now);
        }
    }

    /// Begins the next generation, with those who joined and with static members, who may yet.
    pub(super) fn complete_join(&mut self, core: &mut Core, now: u64) {
        self.members.retain(|_, member| member.awaits_join() || member.instance_id.is_some());
        let joined = |id: &&String| self.members.get(*id).is_some_and(|member| member.awaits_join());
        let leader = self.leader.iter().chain(self.members.keys()).find(joined).cloned();
        if leader.is_none() && !self.members.is_empty() {
            // Only static members are left, and none has joined: wait until one does, or until their sessions end.
            let session = self.members.values().filter_map(|member| member.session.deadline).min().unwrap_or(0);
            let deadline = session.max(now.saturating_add(self.rebalance_timeout_ms()));
            self.phase = Phase::PreparingRebalance { deadline };
            return;
        }
        self.leader = leader;
        core.begin_generation();
        if self.members.is_empty() {
            core.unsaved = true;
            (self.phase, self.protocol, core.empty_since) = (Phase::Empty, None, now);
            return;
        }
        self.protocol = self.choose_protocol();
        self.phase = Phase::CompletingRebalance { deadline: now.saturating_add(self.rebalance_timeout_ms()) };
        self.answer_joins(core, now);
    }

    fn answer_joins(&mut self, core: &mut Core, now: u64) {
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let member = self.member(&id);
            (member.synced, member.is_new) = (false, false);
            if let Awaits::Join(ticket) = member.awaits {
                member.awaits = Awaits::Nothing;
                member.session.restart(now);
                let joined = self.joined(core, &id);
                core.answer(ticket, Answer::Joined(Ok(joined)));
            }
        }
    }

    /// The present generation, as a member is told about it.
    fn joined(&self, core: &Core, member_id: &str) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        Joined {
            generation: core.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            members: if leader == member_id { self.joined_members() } else { vec![] },
            leader,
            member_id: member_id.to_owned(),
            skip_assignment: false,
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let joined = |(id, member): (&String, &ClassicMember)| JoinedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol).to_vec(),
        };
        self.members().map(joined).collect()
    }

    /// Of the protocols that all support, the one that most members like best.
    pub(super) fn choose_protocol(&self) -> Option<String> {
        let first = self.members.values().next()?;
        let common = self.in_common(first.protocols.iter().map(|supported| supported.name.as_str()).collect());
        let mut votes = BTreeMap::new();
        for member in self.members.values() {
            let names = member.protocols.iter().map(|supported| supported.name.as_str());
            let best = names.into_iter().find(|name| common.contains(name))?;
            *votes.entry(best).or_insert(0) += 1;
        }
        votes.into_iter().max_by_key(|&(name, votes)| (votes, Reverse(name))).map(|(name, _)| name.to_owned())
    }

    /// How long this group waits for its slowest member.
    fn rebalance_timeout_ms(&self) -> u64 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }
}

impl ClassicMember {
    /// It has joined again, perhaps with other protocols and timeouts.
    fn update(&mut self, now: u64, request: &JoinRequest) {
        self.protocols = request.protocols.clone();
        self.rebalance_timeout_ms = request.rebalance_timeout_ms;
        self.session.timeout_ms = request.session_timeout_ms;
        self.heard(now);
    }

    /// Its metadata under a protocol: a consumer's subscription.
    pub(super) fn metadata(&self, protocol: &str) -> &[u8] {
        let supported = self.protocols.iter().find(|supported| supported.name == protocol);
        supported.map_or(&[], |supported| &supported.metadata)
    }
}

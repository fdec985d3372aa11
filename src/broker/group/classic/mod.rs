//! Kafka's classic members: they stop and join again for each rebalance, and one of them, the leader, assigns.
//!
//! ```text
//!          first JoinGroup                      all joined, or the rebalance timeout
//!  Empty ──────────────────► PreparingRebalance ────────────────────────► CompletingRebalance
//!    ▲                         ▲    ▲                                       │    │ the leader's SyncGroup
//!    │ the last member goes    │    └─ a join, a leave, a session's end ────┘    ▼
//!    └─────────────────────────┘          (also from Stable) ◄───────────────  Stable
//! ```
//!
//! | request | Empty | PreparingRebalance | CompletingRebalance | Stable |
//! | --- | --- | --- | --- | --- |
//! | JoinGroup, new | joined at once, or after the initial delay | waits for all | rebalance, waits | rebalance, waits |
//! | JoinGroup, member | `UnknownMemberId` | waits for all | same protocols: this generation; else rebalance | a follower with the same protocols: this generation; else rebalance |
//! | JoinGroup, static, known | | takes over, waits | takes over, rebalance | takes over; same protocol chosen: this generation; else rebalance |
//! | SyncGroup | `UnknownMemberId` | `RebalanceInProgress` | waits for the leader's, which answers all | the assignment |
//! | Heartbeat | `UnknownMemberId` | `RebalanceInProgress` | ok | ok |
//! | OffsetCommit by a member | `UnknownMemberId` | ok | `RebalanceInProgress` | ok |
//! | OffsetCommit without one | ok | `UnknownMemberId` | `UnknownMemberId` | `UnknownMemberId` |
//! | TxnOffsetCommit by a member | `UnknownMemberId` | ok | ok | ok |
//! | TxnOffsetCommit without one | ok | ok | ok | ok |
//! | LeaveGroup, a session's end | `UnknownMemberId` | perhaps all have joined now | rebalance | rebalance |
//!
//! Before the state: a member id that is none gets `UnknownMemberId`, a member id that another took over
//! `FencedInstanceId` (KIP-345), another generation `IllegalGeneration`. Time leads on too: at the rebalance timeout, dynamic
//! members that did not join are gone and the rest goes on; those who then do not sync within it are gone as well.
//!
//! Always true: a member waits with at most one request; the leader is a member unless there is none; who was promised a
//! member id (KIP-394) and did not come yet holds a join up, until its session is over. A member that hangs up while it
//! waits falls back to its session, and one that was never answered is gone (Kafka, which does not see that, keeps it for
//! five minutes).

mod join;
mod restart;
pub(in crate::broker::group) mod subscription;
mod sync;
#[cfg(test)]
mod tests;

pub use join::{JoinRequest, Joined, JoinedMember, Protocol, Reply};
pub use sync::SyncRequest;

use super::{
    Answer, Core, Description, Generation, Group, GroupType, Kind, MemberDescription, Members, SavedKind, SessionTimer,
    Ticket,
};
use crate::broker::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// The members, and how far they are with each other.
#[derive(Debug, Default)]
pub(super) struct ClassicGroup {
    phase: Phase,
    protocol_type: String,
    /// What the members of this generation agreed on.
    protocol: Option<String>,
    leader: Option<String>,
    /// Boxed, since a tree of one member keeps room for eleven.
    members: BTreeMap<String, Box<ClassicMember>>,
    /// The member of each `group.instance.id`.
    statics: BTreeMap<String, String>,
    /// Member ids that were given out and did not join yet (KIP-394), and until when they may.
    pending: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Phase {
    #[default]
    Empty,
    /// Until all have joined, or the deadline.
    PreparingRebalance { deadline: u64 },
    /// The same for the first members of a group, who wait for more of them.
    InitialRebalance(InitialRebalance),
    /// Until the leader has assigned; who has not synced at the deadline goes.
    CompletingRebalance { deadline: u64 },
    /// As before, if some have not synced yet.
    Stable { deadline: u64 },
}

/// How long the first members of a group wait for others. Each that comes makes it longer, as far as the first one's
/// rebalance timeout allows.
#[derive(Clone, Copy, Debug, PartialEq)]
struct InitialRebalance {
    deadline: u64,
    /// How much longer than that it may become.
    left_ms: u64,
    /// Whether another member has come since the deadline was set.
    joined: bool,
}

#[derive(Debug)]
struct ClassicMember {
    instance_id: Option<String>,
    client_id: String,
    client_host: String,
    session: SessionTimer,
    rebalance_timeout_ms: u64,
    protocols: Vec<Protocol>,
    assignment: Vec<u8>,
    /// Its first join was not answered yet.
    is_new: bool,
    /// It has asked for its assignment in this generation.
    synced: bool,
    awaits: Awaits,
}

/// The answer that a member waits for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Awaits {
    Nothing,
    Join(Ticket),
    Sync(Ticket),
}

/// How a request names its sender: a member id, and for a static member its `group.instance.id`.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The member id; empty if there is none.
    pub member_id: &'a str,
    /// The `group.instance.id`.
    pub instance_id: Option<&'a str>,
}

impl Group {
    /// Heartbeat: the session starts anew.
    pub fn heartbeat(&mut self, now: u64, sender: Sender<'_>, generation: i32) -> Result<()> {
        if let Some((core, group)) = self.assigned_by_broker(now) {
            return group.heartbeat(core, now, sender, generation);
        }
        let (core, members) = self.classic(now)?;
        members.known(sender)?;
        members.of_generation(core, generation)?;
        members.member(sender.member_id).heard(now);
        match members.phase {
            Phase::PreparingRebalance { .. } | Phase::InitialRebalance(_) => Err(Error::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// LeaveGroup. A static member may be named by its `group.instance.id` alone.
    pub fn leave_group(&mut self, now: u64, sender: Sender<'_>) -> Result<()> {
        if let Some((core, group)) = self.assigned_by_broker(now) {
            group.leave_group(core, now, sender)?;
            self.downgrade(now);
            return Ok(());
        }
        let (core, members) = self.classic(now)?;
        if members.pending.remove(sender.member_id).is_some() {
            members.all_joined(core, now);
            return Ok(());
        }
        let by_instance = sender.instance_id.filter(|_| sender.member_id.is_empty());
        let member_id = match by_instance {
            Some(instance) => members.statics.get(instance).ok_or(Error::UnknownMemberId)?.clone(),
            None => members.known(sender).map(|()| sender.member_id.to_owned())?,
        };
        members.remove(core, now, &[member_id]);
        Ok(())
    }

    /// A member hung up while it waited. One that never had an answer is removed, since nobody knows its member id; another's
    /// session runs from now on.
    pub fn hung_up(&mut self, now: u64, ticket: Ticket) {
        let Members::Classic(members) = &mut self.members else { return };
        let waited = |member: &ClassicMember| [Awaits::Join(ticket), Awaits::Sync(ticket)].contains(&member.awaits);
        let Some((id, member)) = members.members.iter_mut().find(|(_, member)| waited(member)) else { return };
        if member.is_new {
            let id = id.clone();
            members.remove(&mut self.core, now, &[id]);
        } else {
            member.awaits = Awaits::Nothing;
            member.session.restart(now);
        }
    }

    /// The members of this kind, at `now`, for who joins. Nobody else makes an empty group one of this kind.
    fn classic_or_new(&mut self, now: u64) -> Result<(&mut Core, &mut ClassicGroup)> {
        self.tick(now);
        if !matches!(self.members, Members::Classic(_)) {
            if !self.may_change_kind() {
                return Err(Error::InconsistentGroupProtocol);
            }
            self.members = Members::Classic(Box::default());
        }
        self.classic(now)
    }

    /// The same, for a member. Where the group is of another kind, it is none.
    fn classic(&mut self, now: u64) -> Result<(&mut Core, &mut ClassicGroup)> {
        self.tick(now);
        match &mut self.members {
            Members::Classic(members) => Ok((&mut self.core, members)),
            _ => Err(Error::UnknownMemberId),
        }
    }
}

impl Kind for ClassicGroup {
    fn member_count(&self) -> usize {
        self.members.len()
    }

    fn state(&self) -> &'static str {
        match self.phase {
            Phase::Empty => "Empty",
            Phase::PreparingRebalance { .. } | Phase::InitialRebalance(_) => "PreparingRebalance",
            Phase::CompletingRebalance { .. } => "CompletingRebalance",
            Phase::Stable { .. } => "Stable",
        }
    }

    /// Each deadline that is due, in order: what one leads to may set others.
    fn tick(&mut self, core: &mut Core, now: u64) {
        while let Some(due) = self.next_deadline().filter(|&deadline| deadline <= now) {
            let over = |(id, member): (&String, &ClassicMember)| member.session.is_over(due).then(|| id.clone());
            let over: Vec<_> = self.members().filter_map(over).collect();
            let pending = self.pending.len();
            self.pending.retain(|_, &mut deadline| deadline > due);
            if !over.is_empty() {
                self.remove(core, due, &over);
            } else if self.pending.len() < pending {
                self.all_joined(core, due);
            } else if let Phase::InitialRebalance(initial) = self.phase {
                self.end_initial_delay(core, due, initial);
            } else if let Phase::PreparingRebalance { .. } = self.phase {
                self.complete_join(core, due);
            } else {
                let silent = self.members.iter().filter(|(_, member)| !member.synced).map(|(id, _)| id.clone());
                self.remove(core, due, &silent.collect::<Vec<_>>());
            }
        }
    }

    fn next_deadline(&self) -> Option<u64> {
        let sessions = self.members.values().filter_map(|member| member.session.deadline);
        let phase = match self.phase {
            Phase::PreparingRebalance { deadline } => Some(deadline),
            Phase::InitialRebalance(initial) => Some(initial.deadline),
            Phase::CompletingRebalance { deadline } | Phase::Stable { deadline } => {
                self.members.values().any(|member| !member.synced).then_some(deadline)
            }
            Phase::Empty => None,
        };
        sessions.chain(phase).chain(self.pending.values().copied()).min()
    }

    fn describe(&self) -> Description {
        // As Kafka: which protocol was chosen, and what follows from that, is told once the group is stable.
        let is_stable = matches!(self.phase, Phase::Stable { .. });
        let protocol = self.protocol.clone().filter(|_| is_stable).unwrap_or_default();
        let member = |(member_id, member): (&String, &ClassicMember)| MemberDescription {
            member_id: member_id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: member.metadata(&protocol).to_vec(),
            assignment: if is_stable { member.assignment.clone() } else { vec![] },
            ..MemberDescription::default()
        };
        let members = self.members().map(member).collect();
        Description { protocol, members, ..Description::default() }
    }

    fn group_type(&self) -> GroupType {
        GroupType::Classic
    }

    fn protocol_type(&self) -> &str {
        &self.protocol_type
    }

    fn subscribed_topics(&self) -> Option<BTreeSet<&str>> {
        let protocol = self.protocol.as_deref()?;
        let subscribed = self.members.values().map(|member| subscription::topics(member.metadata(protocol)));
        Some(subscribed.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn may_commit(&mut self, core: &Core, now: u64, sender: Sender<'_>, generation: Generation) -> Result<()> {
        let generation = generation.number;
        let is_member = generation >= 0 || !sender.member_id.is_empty() || sender.instance_id.is_some();
        if !is_member {
            return Err(Error::UnknownMemberId);
        }
        self.may_commit_later(core, now, sender, generation, &[])?;
        match self.phase {
            Phase::CompletingRebalance { .. } => Err(Error::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// Its members read what their leader assigned, so of partitions they know better than the broker.
    fn may_commit_later(
        &mut self,
        core: &Core,
        now: u64,
        sender: Sender<'_>,
        generation: i32,
        _: &[(&str, u32)],
    ) -> Result<()> {
        self.known(sender)?;
        self.of_generation(core, generation)?;
        self.member(sender.member_id).heard(now);
        Ok(())
    }

    /// The leader looks after topics: its client sees the change and joins again.
    fn topic_changed(&mut self, _: &mut Core, _: &str, _: Option<u32>) {}

    fn saved(&self) -> Option<SavedKind> {
        let is_settled = matches!(self.phase, Phase::Empty | Phase::Stable { .. });
        is_settled.then(|| SavedKind::Classic(self.to_saved()))
    }
}

impl ClassicGroup {
    /// Whoever waits is to ask again.
    pub(super) fn send_back(&mut self, core: &mut Core, now: u64) {
        self.members.values_mut().for_each(|member| member.end_wait(core, now, Error::RebalanceInProgress));
    }

    /// The members, by their ids.
    fn members(&self) -> impl Iterator<Item = (&String, &ClassicMember)> {
        self.members.iter().map(|(id, member)| (id, &**member))
    }

    /// A member that [`known`](Self::known) has found.
    fn member(&mut self, member_id: &str) -> &mut ClassicMember {
        self.members.get_mut(member_id).expect("the member is known")
    }

    fn known(&self, sender: Sender<'_>) -> Result<()> {
        if let Some(instance) = sender.instance_id {
            let member_id = self.statics.get(instance).ok_or(Error::UnknownMemberId)?;
            if member_id != sender.member_id {
                return Err(Error::FencedInstanceId);
            }
        }
        self.members.contains_key(sender.member_id).then_some(()).ok_or(Error::UnknownMemberId)
    }

    fn of_generation(&self, core: &Core, generation: i32) -> Result<()> {
        let why = || format!("generation {generation} is not the present one, {}; join again", core.generation);
        if generation == core.generation { Ok(()) } else { Err(Error::IllegalGeneration(why())) }
    }

    /// Removes members. The others rebalance; if they do already, perhaps all of them have joined now.
    fn remove(&mut self, core: &mut Core, now: u64, member_ids: &[String]) {
        for member_id in member_ids {
            let Some(mut member) = self.members.remove(member_id) else { continue };
            member.end_wait(core, now, Error::UnknownMemberId);
            member.instance_id.and_then(|instance| self.statics.remove(&instance));
        }
        if self.leader.as_ref().is_some_and(|leader| member_ids.contains(leader)) {
            self.leader = self.members.keys().next().cloned();
        }
        match self.phase {
            Phase::PreparingRebalance { .. } | Phase::InitialRebalance(_) => self.all_joined(core, now),
            _ => self.rebalance(core, now),
        }
    }
}

impl ClassicMember {
    /// Answers the request that the member waits in, if it does, with an error.
    fn end_wait(&mut self, core: &mut Core, now: u64, why: Error) {
        match std::mem::replace(&mut self.awaits, Awaits::Nothing) {
            Awaits::Nothing => return,
            Awaits::Join(ticket) => core.answer(ticket, Answer::Joined(Err(why))),
            Awaits::Sync(ticket) => core.answer(ticket, Answer::Synced(Err(why))),
        }
        self.session.restart(now);
    }

    fn awaits_join(&self) -> bool {
        matches!(self.awaits, Awaits::Join(_))
    }

    /// Restarts its session, unless it stands still because the member waits.
    fn heard(&mut self, now: u64) {
        if self.awaits == Awaits::Nothing {
            self.session.restart(now);
        }
    }
}

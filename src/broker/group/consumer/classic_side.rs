//! Clients of the classic protocol in a group whose partitions the broker assigns, and how a group changes its type under them.
//!
//! ```text
//!              ConsumerGroupHeartbeat or JOIN of a new member, if all subscriptions can be read
//!   Classic ──────────────────────────────────────────────────────────────────────────────────► Consumer
//!           ◄──────────────────────────────────────────────────────────────────────────────────
//!              the last member that is not of the classic protocol is gone; the others join again
//! ```
//!
//! To such a client the broker is a leader that is none of the members: JoinGroup answers at once, with the member's epoch for
//! a generation, and SyncGroup with what it is to have. Its Heartbeat is told `RebalanceInProgress` when there is more or less
//! for it, or a newer epoch; it then lets go what its protocol asks it to and joins again, within its rebalance timeout.

use super::{
    ConsumerGroup, ConsumerMember, MemberNumber, UnsavedParts,
    heartbeat::{HeartbeatRequest, JOINS, KafkaMember, Topics},
};
use crate::broker::{
    Error, Result,
    group::{
        CONSUMERS, Core, Group, Members, SessionTimer,
        classic::{ClassicGroup, JoinRequest, Joined, Protocol, Sender, SyncRequest, subscription},
        saved::{SavedClassic, SavedMember},
    },
};
use std::{collections::BTreeSet, sync::Arc};

impl Group {
    /// A group of classic members becomes one whose partitions the broker assigns, if it can read what they subscribe to; for
    /// who is about to join it.
    pub fn upgrade(&mut self, now: u64, topics: impl FnOnce() -> Topics) {
        self.tick(now);
        let Members::Classic(classic) = &mut self.members else { return };
        if let Some(saved) = classic.to_upgrade() {
            classic.send_back(&mut self.core, now);
            let group = ConsumerGroup::upgraded(&mut self.core, now, saved, &topics());
            self.members = Members::Consumer(group.into());
            self.core.unsaved = true;
        }
    }

    /// A group in which only classic members are left is theirs again: they join anew, and one of them assigns.
    pub(in crate::broker::group) fn downgrade(&mut self, now: u64) {
        let Members::Consumer(group) = &self.members else { return };
        if let Some(saved) = group.to_downgrade() {
            let mut classic = ClassicGroup::restore(now, saved);
            classic.rebalance(&mut self.core, now);
            self.members = Members::Classic(classic.into());
        }
    }

    /// JoinGroup, if there are members and the broker assigns to them.
    pub fn join_assigned(
        &mut self,
        now: u64,
        request: &JoinRequest,
        topics: impl FnOnce() -> Topics,
    ) -> Option<Result<Joined>> {
        let (core, group) = self.assigned_by_broker(now)?;
        let joined = group.join_classic(core, now, request, topics);
        // It may have taken the place of the last member of the newer protocol.
        self.downgrade(now);
        Some(joined)
    }

    /// The members, if there are any and the broker assigns to them.
    pub(in crate::broker::group) fn assigned_by_broker(&mut self, now: u64) -> Option<(&mut Core, &mut ConsumerGroup)> {
        self.tick(now);
        match &mut self.members {
            Members::Consumer(group) if !group.members.is_empty() => Some((&mut self.core, group)),
            _ => None,
        }
    }
}

impl ConsumerGroup {
    fn upgraded(core: &mut Core, now: u64, saved: SavedClassic, topics: &Topics) -> ConsumerGroup {
        let mut group = ConsumerGroup::restore(core.generation, vec![]);
        let protocol = saved.protocol.unwrap_or_default();
        for saved in saved.members {
            core.members_numbered += 1;
            let (number, epoch) = (core.members_numbered, core.generation);
            let read = subscription::read(&saved.subscription);
            let names: BTreeSet<&str> = read.iter().flat_map(|read| &read.topics).copied().collect();
            let names: Vec<Arc<str>> = names.into_iter().map(Arc::from).collect();
            group.count(names.iter(), topics);
            for (topic, partition) in subscription::assignment(&saved.assignment).unwrap_or_default() {
                let shared = group.topics.get_mut(topic).and_then(|all| all.get_mut(partition as usize));
                if let Some(shared) = shared.filter(|shared| shared.owner.is_none()) {
                    (shared.owner, shared.target, shared.since) = (Some(number), Some(number), epoch);
                }
            }
            let mut kafka = KafkaMember::new(&saved.member_id, epoch);
            kafka.instance_id = saved.instance_id.as_deref().map(Arc::from);
            kafka.client_host = saved.client_host;
            (kafka.names, kafka.rebalance_timeout_ms) = (names.clone(), saved.rebalance_timeout_ms);
            kafka.classic = Some(vec![Protocol { name: protocol.clone(), metadata: saved.subscription }]);
            group.ids.insert(kafka.member_id.clone(), number);
            group.unsaved.insert(number, UnsavedParts::ALL);
            group.instances.extend(kafka.instance_id.clone().map(|instance| (instance, number)));
            let session = SessionTimer::new(now, saved.session_timeout_ms);
            let member = ConsumerMember::new(saved.client_id.as_str().into(), names, session, 0);
            group.members.insert(number, ConsumerMember { kafka: Some(kafka.into()), ..member }.into());
        }
        group
    }

    /// What a classic group begins with, if only classic members are left.
    fn to_downgrade(&self) -> Option<SavedClassic> {
        let protocol = self.members.values().next()?.classic()?.first()?.name.clone();
        let saved = |number: MemberNumber, member: &ConsumerMember| {
            let (kafka, protocols) = (member.kafka.as_ref()?, member.classic()?);
            let metadata = protocols.iter().find(|supported| supported.name == protocol).or(protocols.first())?;
            Some(SavedMember {
                member_id: kafka.member_id.to_string(),
                instance_id: kafka.instance_id.as_ref().map(|instance| instance.to_string()),
                client_id: member.client.to_string(),
                client_host: kafka.client_host.clone(),
                session_timeout_ms: member.session.timeout_ms,
                rebalance_timeout_ms: kafka.rebalance_timeout_ms,
                subscription: metadata.metadata.clone(),
                assignment: self.serialized(number, protocols),
            })
        };
        let members = self.members.iter().map(|(&number, member)| saved(number, member)).collect::<Option<Vec<_>>>()?;
        let leader = members.first().map(|member| member.member_id.clone());
        Some(SavedClassic { protocol_type: CONSUMERS.into(), protocol: Some(protocol), leader, members })
    }

    /// What a member is to have, as its protocol has it.
    fn serialized(&self, number: MemberNumber, protocols: &[Protocol]) -> Vec<u8> {
        let version = protocols.first().and_then(|protocol| subscription::read(&protocol.metadata));
        let kept = self.kept(number);
        let partitions = kept.iter().map(|owned| (&*owned.topic, owned.partition));
        subscription::write_assignment(version.map_or(0, |read| read.version), partitions)
    }

    fn join_classic(
        &mut self,
        core: &mut Core,
        now: u64,
        request: &JoinRequest,
        topics: impl FnOnce() -> Topics,
    ) -> Result<Joined> {
        let first = request.protocols.first().filter(|_| request.protocol_type == CONSUMERS);
        let first = first.filter(|_| self.supports(&request.protocols)).ok_or(Error::InconsistentGroupProtocol)?;
        if request.comes_with_id && request.member_id.is_empty() && request.instance_id.is_none() {
            return Err(Error::MemberIdRequired(request.new_member_id.clone()));
        }
        let read = subscription::read(&first.metadata).ok_or(Error::InconsistentGroupProtocol)?;
        let member_id = if request.member_id.is_empty() { &request.new_member_id } else { &request.member_id };
        if !request.member_id.is_empty() && request.instance_id.is_some() {
            self.named(member_id, request.instance_id.as_deref())?;
        }
        let beat = HeartbeatRequest {
            member_id,
            instance_id: request.instance_id.as_deref(),
            epoch: JOINS,
            rack_id: None,
            client_id: &request.client_id,
            client_host: &request.client_host,
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: Some(request.rebalance_timeout_ms),
            names: Some(read.topics),
            pattern: Some(None),
            rules: None,
            assignor: None,
            owned: Some(
                read.owned.into_iter().filter_map(|(topic, partition)| self.partition(topic, partition)).collect(),
            ),
        };
        let number = self.enter(core, now, &beat, Some(request.protocols.clone()))?;
        let beat = self.beat(core, now, number, beat, topics);
        Ok(Joined {
            generation: beat.epoch,
            protocol_type: CONSUMERS.into(),
            protocol: Some(first.name.clone()),
            member_id: member_id.clone(),
            ..Joined::default()
        })
    }

    /// A partition that somebody subscribes to, by the name that the group has a copy of: a client says what it has, and may say
    /// anything.
    fn partition(&self, topic: &str, partition: u32) -> Option<(Arc<str>, u32)> {
        let (name, partitions) = self.topics.get_key_value(topic)?;
        ((partition as usize) < partitions.len()).then(|| (name.clone(), partition))
    }

    /// Whether these protocols have one in common with every classic member.
    fn supports(&self, protocols: &[Protocol]) -> bool {
        let is_known =
            |known: &[Protocol]| protocols.iter().any(|one| known.iter().any(|other| other.name == one.name));
        self.members.values().filter_map(|member| member.classic()).all(is_known)
    }

    /// The classic member that a request names, which is to be in this generation.
    fn classic_member(&mut self, sender: Sender<'_>, generation: i32) -> Result<MemberNumber> {
        let number = self.named(sender.member_id, sender.instance_id)?;
        let kafka = self.kafka(number);
        if kafka.classic.is_none() {
            return Err(Error::UnknownMemberId);
        }
        let known = kafka.epoch();
        let why = || format!("generation {generation} is not the present one, {known}; join again");
        if generation == known { Ok(number) } else { Err(Error::IllegalGeneration(why())) }
    }

    /// Heartbeat of a classic member.
    pub(in crate::broker::group) fn heartbeat(
        &mut self,
        core: &Core,
        now: u64,
        sender: Sender<'_>,
        generation: i32,
    ) -> Result<()> {
        let number = self.classic_member(sender, generation)?;
        self.member(number)?.heard(now);
        let is_for_it = |shared: &super::SharedPartition| shared.owner.is_none() && shared.target == Some(number);
        let more_or_less = self.partitions().any(|shared| shared.moves_from(number) || is_for_it(shared));
        if generation == core.generation && !more_or_less {
            return Ok(());
        }
        let kafka = self.kafka(number);
        kafka.revoke_by.get_or_insert(now.saturating_add(kafka.rebalance_timeout_ms));
        Err(Error::RebalanceInProgress)
    }

    /// SyncGroup of a classic member.
    pub(in crate::broker::group) fn sync(
        &mut self,
        core: &Core,
        now: u64,
        request: &SyncRequest<'_>,
    ) -> Result<Vec<u8>> {
        let number = self.classic_member(request.sender, request.generation)?;
        self.member(number)?.heard(now);
        let protocols = self.members.get(&number).and_then(|member| member.classic()).unwrap_or_default();
        let knows = |name: &str| protocols.iter().any(|protocol| protocol.name == name);
        if request.protocol_type.is_some_and(|is| is != CONSUMERS) || request.protocol.is_some_and(|is| !knows(is)) {
            return Err(Error::InconsistentGroupProtocol);
        }
        let is_moving = self.partitions().any(|shared| shared.moves_from(number));
        if request.generation < core.generation && !is_moving {
            return Err(Error::RebalanceInProgress);
        }
        let (told, serialized) = (self.kept(number), self.serialized(number, protocols));
        self.kafka(number).told = told;
        Ok(serialized)
    }

    /// LeaveGroup, which is open to members of the newer protocol, too.
    pub(in crate::broker::group) fn leave_group(
        &mut self,
        core: &mut Core,
        now: u64,
        sender: Sender<'_>,
    ) -> Result<()> {
        let by_instance = sender.instance_id.filter(|_| sender.member_id.is_empty());
        let number = match by_instance {
            Some(instance) => self.instances.get(instance).copied().ok_or(Error::UnknownMemberId)?,
            None => self.named(sender.member_id, sender.instance_id)?,
        };
        self.remove(core, now, &[number]);
        Ok(())
    }
}

impl ConsumerMember {
    /// What it supports, if its client has the classic protocol.
    fn classic(&self) -> Option<&[Protocol]> {
        self.kafka.as_ref()?.classic.as_deref()
    }
}

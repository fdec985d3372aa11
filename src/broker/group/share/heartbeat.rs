//! ShareGroupHeartbeat: the members of Kafka's share consumers.

use super::{KafkaMember, ShareGroup, ShareMember};
use crate::broker::{
    Error, Result,
    group::{
        Core, Group, SavedKind, SessionTimer,
        consumer::{
            MemberNumber,
            heartbeat::{JOINS, LEAVES, Topics},
        },
    },
};
use std::{collections::BTreeSet, sync::Arc};

/// A heartbeat. What is `None` has not changed.
#[derive(Clone, Debug)]
pub struct HeartbeatRequest<'a> {
    /// The member id, which the client made.
    pub member_id: &'a str,
    /// The member's epoch, or [`JOINS`], [`LEAVES`].
    pub epoch: i32,
    /// The rack that its client is in.
    pub rack_id: Option<&'a str>,
    /// What its client calls itself.
    pub client_id: &'a str,
    /// The address of its client.
    pub client_host: &'a str,
    /// A member that is silent for this long is removed.
    pub session_timeout_ms: u64,
    /// The topics that it subscribes to.
    pub names: Option<Vec<&'a str>>,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq)]
pub struct Heartbeat {
    /// The member's epoch from here on.
    pub epoch: i32,
    /// The partitions that it is to read, in order, where it is to be told.
    pub assigned: Option<Vec<(Arc<str>, u32)>>,
}

impl Group {
    /// A member says that it is there, joins or leaves. `topics` is asked if what it subscribes to is to be looked up.
    pub fn share_heartbeat(
        &mut self,
        now: u64,
        request: HeartbeatRequest<'_>,
        topics: impl FnOnce() -> Topics,
    ) -> Result<Heartbeat> {
        if request.epoch == JOINS {
            let (core, group) = self.share_or_new(now)?;
            group.check_size(&request)?;
            let number = group.enter(core, now, &request)?;
            return Ok(group.beat(core, now, number, request, topics));
        }
        let (core, group) = self.share(now)?;
        let number = group.named(request.member_id)?;
        if request.epoch == LEAVES {
            group.remove(core, now, &[number]);
            return Ok(Heartbeat { epoch: LEAVES, assigned: None });
        }
        group.check_size(&request)?;
        let (generation, assignment_epoch) = (core.generation, group.assignment_epoch);
        group.kafka(number).check_epoch(request.epoch, generation, assignment_epoch)?;
        Ok(group.beat(core, now, number, request, topics))
    }
}

impl KafkaMember {
    /// Whether a heartbeat in this epoch is the member's. One that the broker knows from the disk is in any that there was, and
    /// was told what was shared out in it.
    fn check_epoch(&mut self, named: i32, generation: i32, assignment_epoch: i32) -> Result<()> {
        if self.epoch.is_none() {
            self.is_told = named == assignment_epoch;
        }
        let known = *self.epoch.get_or_insert(named.clamp(1, generation));
        if named == known || named == self.previous_epoch && named > 0 {
            Ok(())
        } else {
            Err(Error::FencedMemberEpoch { named, known })
        }
    }
}

impl ShareGroup {
    /// The member of Kafka's that has this id.
    fn named(&self, member_id: &str) -> Result<MemberNumber> {
        let number = *self.ids.get(member_id).ok_or(Error::UnknownMemberId)?;
        let is_kafkas = self.members.get(&number).is_some_and(|member| member.kafka.is_some());
        if is_kafkas { Ok(number) } else { Err(Error::UnknownMemberId) }
    }

    /// Whether the log takes the group once this request is carried out.
    fn check_size(&self, request: &HeartbeatRequest<'_>) -> Result<()> {
        let known = self.ids.get(request.member_id).and_then(|number| self.members.get(number));
        let is_known = |name: &&str| known.is_some_and(|member| member.topics.iter().any(|topic| **topic == **name));
        let has_news = request.names.as_ref().is_some_and(|names| known.is_none() || !names.iter().all(is_known));
        if has_news && !SavedKind::Share(self.to_saved_with(request)).fits_a_line() {
            return Err(Error::GroupTooLarge);
        }
        Ok(())
    }

    /// A member joins, or joins again.
    fn enter(&mut self, core: &mut Core, now: u64, request: &HeartbeatRequest<'_>) -> Result<MemberNumber> {
        if self.ids.contains_key(request.member_id) {
            return self.named(request.member_id);
        }
        self.has_room()?;
        core.members_numbered += 1;
        let (number, id): (_, Arc<str>) = (core.members_numbered, request.member_id.into());
        if core.generation == 0 {
            // As in Kafka, where a group has an epoch before its first member subscribes.
            self.rebalance(core);
        }
        let kafka = KafkaMember {
            client_host: String::new(),
            rack_id: None,
            session: SessionTimer::new(now, request.session_timeout_ms),
            epoch: Some(0),
            previous_epoch: 0,
            assigned: vec![],
            is_told: true,
        };
        self.ids.insert(id.clone(), number);
        let member = ShareMember { id, client: "".into(), topics: vec![], kafka: Some(kafka) };
        self.members.insert(number, member.into());
        Ok(number)
    }

    /// What follows from a heartbeat of a member of Kafka's.
    fn beat(
        &mut self,
        core: &mut Core,
        now: u64,
        number: MemberNumber,
        request: HeartbeatRequest<'_>,
        topics: impl FnOnce() -> Topics,
    ) -> Heartbeat {
        let (joins, subscribes) = (request.epoch == JOINS, request.names.is_some());
        self.update(now, number, &request);
        if let Some(names) = request.names {
            self.subscribe(core, number, names, topics);
        }
        if self.is_due {
            self.assign(core);
        }
        let epoch = self.assignment_epoch;
        let kafka = self.kafka(number);
        let known = kafka.epoch.unwrap_or(0);
        if known != epoch {
            // Kafka tells who joins the epoch before this one first.
            (kafka.previous_epoch, kafka.epoch) = (if joins { epoch - 1 } else { known }, Some(epoch));
        }
        let is_told = std::mem::replace(&mut kafka.is_told, true);
        let assigned = (joins || subscribes || !is_told).then(|| kafka.assigned.clone());
        Heartbeat { epoch, assigned }
    }

    /// Notes what a heartbeat says of the member.
    fn update(&mut self, now: u64, number: MemberNumber, request: &HeartbeatRequest<'_>) {
        let member = self.members.get_mut(&number).expect("the number was looked up");
        if *member.client != *request.client_id {
            member.client = request.client_id.into();
        }
        let kafka = self.kafka(number);
        kafka.session.timeout_ms = request.session_timeout_ms;
        kafka.session.restart(now);
        if kafka.client_host != request.client_host {
            kafka.client_host = request.client_host.into();
        }
        if let Some(rack_id) = request.rack_id {
            kafka.rack_id = Some(rack_id.into());
        }
    }

    /// A member subscribes to these topics; if they are others than before, that begins a generation.
    fn subscribe(&mut self, core: &mut Core, number: MemberNumber, names: Vec<&str>, topics: impl FnOnce() -> Topics) {
        let names: BTreeSet<&str> = names.into_iter().collect();
        let member = self.members.get(&number).expect("the number was looked up");
        if names.iter().copied().eq(member.topics.iter().map(|name| &**name)) {
            return;
        }
        let topics = topics();
        let known = |&name: &&str| topics.get_key_value(name).map(|(name, &partitions)| (name.clone(), partitions));
        self.count(names.iter().filter_map(known));
        let shared = |name: &str| topics.get_key_value(name).map_or_else(|| name.into(), |(name, _)| name.clone());
        let names = names.into_iter().map(shared).collect();
        self.members.entry(number).and_modify(|member| member.topics = names);
        self.forget_topics();
        self.rebalance(core);
    }

    /// A member of which it is known that it is there and of Kafka's.
    fn kafka(&mut self, number: MemberNumber) -> &mut KafkaMember {
        let member = self.members.get_mut(&number).and_then(|member| member.kafka.as_mut());
        member.expect("it was looked up as one of Kafka's")
    }
}

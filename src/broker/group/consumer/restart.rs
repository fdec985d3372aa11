//! Members of Kafka's over a restart: they are there again as their records have them, and have their session to be heard.
//!
//! ```text
//! a heartbeat changes who a member is ─► its record `member`       the assignor ─► records `target` of those for whom it changed
//! ... its epoch or what it has        ─► its record `current`      it is gone   ─► the ends of all three
//! ```
//!
//! Members of text ended with their connection. What they had nobody has: the group is in a new generation, whose targets are
//! set when the next member is heard. Who joins in text takes the seat of one of them, and gets what was to be that one's.

use super::{
    Assignor, ConsumerGroup, ConsumerMember, MemberNumber, Owned, UnsavedParts,
    heartbeat::{KafkaMember, Topics},
};
use crate::broker::{
    Pattern,
    group::{
        Core, MemberChange, MemberRecord, SavedConsumer, SavedCurrent, SavedSeat, SavedSubscription, SessionTimer,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

impl ConsumerGroup {
    /// The ids of Kafka's members.
    pub(in crate::broker::group) fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.ids.keys()
    }

    /// Whether a record of a member has changed.
    pub(in crate::broker::group) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// The records that have changed since the last call; or `all`.
    pub(in crate::broker::group) fn take_unsaved(&mut self, all: bool) -> Vec<MemberChange> {
        let mut unsaved = std::mem::take(&mut self.unsaved);
        if all {
            unsaved.extend(self.ids.values().map(|&number| (number, UnsavedParts::ALL)));
        }
        let mut changes = vec![];
        for (number, unsaved) in unsaved {
            let Some(kafka) = self.members.get(&number).and_then(|member| member.kafka.as_ref()) else { continue };
            let member_id = kafka.member_id.clone();
            let change = |record: MemberRecord| MemberChange {
                member_id: member_id.clone(),
                part: record.part(),
                record: Some(record),
            };
            if unsaved.subscription {
                changes.extend(self.subscription_of(number).map(MemberRecord::Subscription).map(change));
            }
            if unsaved.target {
                let target = self.partitions_of(|shared| shared.target == Some(number));
                let target = target.into_iter().map(|target| (target.topic, target.partition));
                changes.push(change(MemberRecord::Target(target.collect())));
            }
            if unsaved.current {
                let holdings = self.holdings(number);
                let kafka = self.kafka(number);
                let current = kafka.current(holdings);
                kafka.saved.clone_from(&current);
                changes.push(change(MemberRecord::Current(current)));
            }
        }
        changes
    }

    /// What members of text are to have.
    pub(super) fn seats(&self) -> Vec<SavedSeat> {
        let mut seats: BTreeMap<MemberNumber, SavedSeat> = BTreeMap::new();
        for (&number, _) in self.members.iter().filter(|(_, member)| member.kafka.is_none()) {
            seats.insert(number, SavedSeat { number, partitions: vec![] });
        }
        for (topic, partitions) in &self.topics {
            for (shared, partition) in partitions.iter().zip(0..) {
                if let Some(seat) = shared.target.and_then(|number| seats.get_mut(&number)) {
                    seat.partitions.push((topic.clone(), partition));
                }
            }
        }
        seats.into_values().collect()
    }

    fn subscription_of(&self, number: MemberNumber) -> Option<Box<SavedSubscription>> {
        let member = self.members.get(&number)?;
        let kafka = member.kafka.as_ref()?;
        let subscription = SavedSubscription {
            number,
            instance_id: kafka.instance_id.as_ref().map(|instance| instance.to_string()),
            rack_id: kafka.rack_id.clone(),
            client_id: member.client.to_string(),
            client_host: kafka.client_host.clone(),
            session_timeout_ms: member.session.timeout_ms,
            rebalance_timeout_ms: kafka.rebalance_timeout_ms,
            assignor: member.assignor.map(|assignor| assignor.name().into()),
            names: kafka.names.iter().map(|name| name.to_string()).collect(),
            pattern: kafka.pattern.as_ref().map(|pattern| pattern.text().to_owned()),
            protocols: kafka.classic.clone().unwrap_or_default(),
        };
        Some(subscription.into())
    }

    /// The members whose records were found are there again. Their session begins now. What is not as any group comes to it is
    /// left out: members without a record of who they are, partitions that are not there or another's.
    pub(in crate::broker::group) fn restore_members(
        &mut self,
        core: &mut Core,
        now: u64,
        members: BTreeMap<String, SavedConsumer>,
        topics: &Topics,
    ) {
        let mut has = vec![];
        for (member_id, SavedConsumer { subscription, target, current }) in members {
            let (Some(subscription), Some(current)) = (subscription, current) else { continue };
            let number = subscription.number;
            let is_new = !self.members.contains_key(&number);
            let is_free = |instance: &String| !self.instances.contains_key(&**instance);
            let fits = current.epoch <= core.generation && current.previous_epoch <= core.generation;
            if number > core.members_numbered || !is_new || !fits || !subscription.instance_id.iter().all(is_free) {
                continue;
            }
            self.restore_member(now, &member_id, *subscription, &current, topics);
            self.count(current.owned.iter().chain(&current.gives_up).map(|owned| &owned.topic), topics);
            has.push((number, target, current));
        }
        for (number, target, SavedCurrent { owned, gives_up, .. }) in has {
            for Owned { topic, partition, since } in owned.into_iter().chain(gives_up) {
                let shared = self.topics.get_mut(&topic).and_then(|all| all.get_mut(partition as usize));
                if let Some(shared) = shared.filter(|shared| shared.owner.is_none()) {
                    (shared.owner, shared.since) = (Some(number), since.min(core.generation));
                }
            }
            for (topic, partition) in target {
                let shared = self.topics.get_mut(&topic).and_then(|all| all.get_mut(partition as usize));
                shared.into_iter().for_each(|shared| shared.target = shared.target.or(Some(number)));
            }
            // Whatever it has it may still be about to take up: it gives up what it is told to from now on.
            let told = self.owned(number);
            self.kafka(number).told = told;
        }
        self.is_due = !self.members.is_empty() && self.assignment_epoch < core.generation;
        if !self.is_due && self.are_any_left_out() {
            self.rebalance(core);
        }
    }

    fn restore_member(
        &mut self,
        now: u64,
        member_id: &str,
        subscription: SavedSubscription,
        current: &SavedCurrent,
        topics: &Topics,
    ) {
        let number = subscription.number;
        let known = |name: &String| {
            topics.get_key_value(name.as_str()).map_or_else(|| name.as_str().into(), |(name, _)| name.clone())
        };
        let mut kafka = KafkaMember::restored(member_id, current);
        kafka.instance_id = subscription.instance_id.map(Arc::from);
        (kafka.rack_id, kafka.client_host) = (subscription.rack_id, subscription.client_host);
        kafka.names = subscription.names.iter().map(known).collect();
        kafka.pattern = subscription.pattern.and_then(|text| Pattern::new(&text).ok());
        let assignor = subscription.assignor.as_deref().and_then(Assignor::named);
        kafka.rebalance_timeout_ms = subscription.rebalance_timeout_ms;
        kafka.classic = Some(subscription.protocols).filter(|protocols| !protocols.is_empty());
        self.ids.insert(kafka.member_id.clone(), number);
        self.instances.extend(kafka.instance_id.clone().map(|instance| (instance, number)));
        let session = SessionTimer::new(now, subscription.session_timeout_ms);
        let member = ConsumerMember::new(subscription.client_id.as_str().into(), vec![], session, 0);
        self.members.insert(number, ConsumerMember { assignor, kafka: Some(kafka.into()), ..member }.into());
        self.match_topics(number, topics);
    }

    /// Whether nobody is to have a partition to whose topic somebody subscribes.
    fn are_any_left_out(&self) -> bool {
        let subscribed: BTreeSet<_> = self.members.values().flat_map(|member| &member.topics).collect();
        let mut counted = subscribed.into_iter().filter_map(|topic| self.topics.get(topic));
        counted.any(|all| all.iter().any(|shared| shared.target.is_none()))
    }
}

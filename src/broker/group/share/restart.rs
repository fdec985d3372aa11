//! A share group over a restart: Kafka's members go on where they were.

use super::{HeartbeatRequest, KafkaMember, ShareGroup, ShareMember, assignor::Partitions};
use crate::broker::group::{SavedShare, SavedShareMember, SessionTimer};
use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

impl ShareGroup {
    /// The group as it is when the broker starts again, at `now`.
    pub(in crate::broker::group) fn restore(now: u64, generation: i32, saved: SavedShare) -> ShareGroup {
        let mut names: BTreeMap<String, Arc<str>> = BTreeMap::new();
        let mut shared = |name: String| names.entry(name).or_insert_with_key(|name| name.as_str().into()).clone();
        let had: BTreeMap<_, _> = saved.had.into_iter().map(|(topic, count)| (shared(topic), count)).collect();
        let (assignment_epoch, is_due) = (saved.assignment_epoch, saved.assignment_epoch < generation);
        let mut group = ShareGroup { had, assignment_epoch, is_due, ..ShareGroup::default() };
        for (number, saved) in (1..).zip(saved.members) {
            let topics: Vec<_> = saved.topics.into_iter().map(&mut shared).collect();
            let mut assigned = vec![];
            for (topic, partitions) in saved.reads {
                let topic = shared(topic);
                assigned.extend(partitions.map(|partition| (topic.clone(), partition)));
            }
            for topic in &topics {
                if let Some((topic, &count)) = group.had.get_key_value(topic) {
                    group.topics.insert(topic.clone(), count);
                }
            }
            let kafka = KafkaMember {
                client_host: saved.client_host,
                rack_id: saved.rack_id,
                session: SessionTimer::new(now, saved.session_timeout_ms),
                epoch: None,
                previous_epoch: 0,
                assigned,
                is_told: true,
            };
            let (id, client): (Arc<str>, _) = (saved.member_id.into(), saved.client_id.into());
            group.ids.insert(id.clone(), number);
            group.members.insert(number, ShareMember { id, client, topics, kafka: Some(kafka) }.into());
        }
        group
    }

    pub(super) fn to_saved(&self) -> SavedShare {
        let had = self.had.iter().map(|(topic, &count)| (topic.to_string(), count)).collect();
        let members = self.members.values().filter_map(|member| member.to_saved()).collect();
        SavedShare { assignment_epoch: self.assignment_epoch, had, members }
    }

    /// The same, once a member has joined with this.
    pub(super) fn to_saved_with(&self, request: &HeartbeatRequest<'_>) -> SavedShare {
        let mut saved = self.to_saved();
        saved.members.push(SavedShareMember {
            member_id: request.member_id.into(),
            client_id: request.client_id.into(),
            topics: request.names.iter().flatten().map(|name| (*name).into()).collect(),
            ..SavedShareMember::default()
        });
        saved
    }
}

impl ShareMember {
    fn to_saved(&self) -> Option<SavedShareMember> {
        let kafka = self.kafka.as_ref()?;
        Some(SavedShareMember {
            member_id: self.id.to_string(),
            client_id: self.client.to_string(),
            client_host: kafka.client_host.clone(),
            rack_id: kafka.rack_id.clone(),
            session_timeout_ms: kafka.session.timeout_ms,
            topics: self.topics.iter().map(|topic| topic.to_string()).collect(),
            reads: ranges(&kafka.assigned),
        })
    }
}

/// Partitions in order, neighbours together.
fn ranges(partitions: &Partitions) -> Vec<(String, RangeInclusive<u32>)> {
    let mut ranges: Vec<(String, RangeInclusive<u32>)> = vec![];
    for (topic, partition) in partitions {
        match ranges.last_mut() {
            Some((last, range)) if **last == **topic && range.end() + 1 == *partition => {
                *range = *range.start()..=*partition
            }
            _ => ranges.push((topic.to_string(), *partition..=*partition)),
        }
    }
    ranges
}

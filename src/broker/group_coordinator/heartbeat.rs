//! What Kafka's members of consumer groups ask of the coordinator (KIP-848).

use super::GroupState;
use crate::{
    broker::{
        Broker, BrokerState, Error, Result,
        group::consumer::heartbeat::{Heartbeat, HeartbeatRequest, JOINS, Topics},
    },
    security::Operation,
};

impl Broker {
    /// ConsumerGroupHeartbeat. It never waits.
    pub fn consumer_heartbeat(&self, group: &str, request: HeartbeatRequest<'_>) -> Result<Heartbeat> {
        let permit = self.ask_group(Operation::Read, group)?;
        let (state, epoch) = (self.state(&permit), request.epoch);
        let request = HeartbeatRequest { rules: state.gate.generation(), ..request };
        // By a pattern nobody finds what it may not know of.
        let topics = || {
            let mut topics = state.counted_topics();
            topics.retain(|topic, _| self.may_describe(topic));
            topics
        };
        let beat = |members: &mut GroupState, now| {
            if epoch == JOINS {
                // What the others have does not depend on who joins them.
                members.group.upgrade(now, || state.counted_topics());
            }
            members.group.consumer_heartbeat(now, request, topics)
        };
        let is_news = |beat: &Heartbeat| beat.assigned.is_some() || beat.epoch != epoch;
        state.beat(group, epoch == JOINS, beat, is_news)?.ok_or(Error::NotConsumerGroup)
    }

    /// Whether a member in this epoch may see what its group committed.
    pub fn may_fetch_offsets(&self, group: &str, member_id: &str, epoch: i32) -> Result<()> {
        let asked = self
            .state(&self.ask_group(Operation::Describe, group)?)
            .change_named(group, |state, now| state.group.may_fetch(now, member_id, epoch))?;
        asked.map_or(Ok(()), |(_, may)| may)
    }
}

impl BrokerState {
    /// Carries out a heartbeat, for which the group is made if the member `joins`. `None`: there is no such group.
    pub(super) fn beat<T>(
        &self,
        group: &str,
        joins: bool,
        beat: impl FnOnce(&mut GroupState, u64) -> Result<T>,
        is_news: impl FnOnce(&T) -> bool,
    ) -> Result<Option<T>> {
        let beat = match joins {
            true => Some(self.change_or_new(group, beat)?),
            false => self.change_named(group, beat)?,
        };
        let Some((cell, beat)) = beat else { return Ok(None) };
        let beat = beat?;
        // A crash takes back neither what a member was told to have nor an epoch that it was told.
        if is_news(&beat) {
            self.sync_line(&cell);
        }
        Ok(Some(beat))
    }

    /// All topics, and how many partitions each has. A heartbeat looks them up under the group's lock: whoever makes or drops a topic
    /// tells the group afterwards.
    pub(super) fn counted_topics(&self) -> Topics {
        self.topics().iter().map(|topic| (topic.name.as_str().into(), topic.partition_count())).collect()
    }
}

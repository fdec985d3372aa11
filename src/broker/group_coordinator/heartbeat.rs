//! What Kafka's members of consumer groups ask of the coordinator (KIP-848).

use crate::broker::{
    Broker, BrokerState, Error, Result,
    group::consumer::heartbeat::{Heartbeat, HeartbeatRequest, JOINS, Topics},
};

impl Broker {
    /// ConsumerGroupHeartbeat. It never waits.
    pub fn consumer_heartbeat(&self, group: &str, request: HeartbeatRequest<'_>) -> Result<Heartbeat> {
        let (state, epoch) = (&self.running.state, request.epoch);
        // Looked up under the group's lock: whoever makes or drops a topic tells the group afterwards.
        let topics = || state.counted_topics();
        let beat = match request.epoch {
            JOINS => {
                Some(state.change_or_new(group, |state, now| state.group.consumer_heartbeat(now, request, topics))?)
            }
            _ => state.change_named(group, |state, now| state.group.consumer_heartbeat(now, request, topics))?,
        };
        let (cell, beat) = beat.ok_or(Error::NotConsumerGroup)?;
        let beat = beat?;
        // A crash takes back neither what a member was told to have nor an epoch that it was told.
        if beat.assigned.is_some() || beat.epoch != epoch {
            state.sync_line(&cell);
        }
        Ok(beat)
    }

    /// Whether a member in this epoch may see what its group committed.
    pub fn may_fetch_offsets(&self, group: &str, member_id: &str, epoch: i32) -> Result<()> {
        let asked =
            self.running.state.change_named(group, |state, now| state.group.may_fetch(now, member_id, epoch))?;
        asked.map_or(Ok(()), |(_, may)| may)
    }
}

impl BrokerState {
    /// All topics, and how many partitions each has.
    pub(super) fn counted_topics(&self) -> Topics {
        self.topics().iter().map(|topic| (topic.name.as_str().into(), topic.partition_count())).collect()
    }
}

//! Members of share groups (KIP-932): Kafka's, who send heartbeats, and those of text and of the library, who have a seat.

use super::{GroupCell, GroupState, admin::check_empty};
use crate::{
    broker::{
        Broker, BrokerState, Error, Permit, Result,
        group::{
            consumer::{MemberNumber, heartbeat::JOINS, member_id},
            share::{Heartbeat, HeartbeatRequest, Subscription},
        },
        random,
    },
    security::Operation,
};
use std::{collections::BTreeSet, sync::Arc};

/// A place in a share group. It is left when this is dropped.
#[derive(Debug)]
pub struct ShareSeat {
    broker: Broker,
    permit: Permit,
    cell: Arc<GroupCell>,
    number: MemberNumber,
    id: String,
    /// In order.
    topics: Vec<Arc<str>>,
}

impl Broker {
    /// ShareGroupHeartbeat. It never waits.
    pub fn share_heartbeat(&self, group: &str, request: HeartbeatRequest<'_>) -> Result<Heartbeat> {
        let permit = self.ask_group(Operation::Read, group)?;
        let (state, epoch) = (self.state(&permit), request.epoch);
        let topics = || state.counted_topics();
        let beat = |state: &mut GroupState, now| {
            if epoch == JOINS {
                state.may_be_share()?;
            }
            state.group.share_heartbeat(now, request, topics)
        };
        let is_news = |beat: &Heartbeat| beat.assigned.is_some() || beat.epoch != epoch;
        state.beat(group, epoch == JOINS, beat, is_news)?.ok_or(Error::NotShareGroup)
    }

    /// Whether how far a share group has come may be changed: it has no members. One that is not there is made, or (`make`) not.
    pub fn may_change_share_offsets(&self, group: &str, make: bool) -> Result<()> {
        let permit = self.ask_group(if make { Operation::Read } else { Operation::Delete }, group)?;
        let state = self.state(&permit);
        let checked = |state: &mut GroupState, now: u64| {
            state.may_be_share()?;
            if make {
                state.group.make_share(now)?;
                state.kept_until_ms = Some(i64::MAX);
            }
            check_empty(group, state)
        };
        match make {
            true => state.change_or_new(group, checked)?.1,
            false => match state.change_named(group, checked)? {
                Some((_, checked)) => checked,
                None if state.has_shares(group)? => Ok(()),
                None => Err(Error::UnknownGroup(group.into())),
            },
        }
    }

    /// Whether one more member may join a share group.
    pub fn has_room_to_share(&self, group: &str) -> Result<()> {
        let permit = self.ask_group(Operation::Read, group)?;
        let checked = self.state(&permit).change_named(group, |state, _| state.group.has_room_to_share())?;
        checked.map_or(Ok(()), |(_, checked)| checked)
    }

    /// Joins a share group: the member reads every partition of `topics`.
    pub fn join_share(&self, group: &str, topics: &[&str]) -> Result<ShareSeat> {
        if group.is_empty() {
            return Err(Error::InvalidGroup("a group needs a name".into()));
        }
        let permit = self.ask_group(Operation::Read, group)?;
        let broker = self.state(&permit);
        topics.iter().try_for_each(|topic| self.topic_for(Operation::Read, topic).map(drop))?;
        let topics: BTreeSet<Arc<str>> = topics.iter().map(|&topic| topic.into()).collect();
        let secret = random::number();
        let (cell, joined) = broker.change_or_new(group, |state, now| {
            state.may_be_share().map_err(|_| Error::InconsistentGroupProtocol)?;
            let counted =
                |topic: &Arc<str>| Ok((topic.clone(), self.topic_for(Operation::Read, topic)?.partition_count()));
            let topics = topics.iter().map(counted).collect::<Result<_>>()?;
            state.group.join_share(now, Subscription { topics, client: self.caller().name().into(), secret })
        })?;
        let number = joined?;
        broker.sync_line(&cell);
        let (broker, id) = (self.clone(), member_id(number, secret));
        Ok(ShareSeat { broker, permit, cell, number, id, topics: topics.into_iter().collect() })
    }
}

impl BrokerState {
    /// Does something where there is a share group of this name, which is not deleted meanwhile.
    pub(in crate::broker) fn in_share_group<T>(&self, group: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = self.change_named(group, |state, _| state.group.is_share().then(act))?;
        done.and_then(|(_, done)| done).unwrap_or(Err(Error::NotShareGroup))
    }
}

impl GroupState {
    /// Whether it is a share group, or may become one as far as its offsets say.
    fn may_be_share(&self) -> Result<()> {
        if self.group.is_share() || self.offsets.is_empty() { Ok(()) } else { Err(Error::NotShareGroup) }
    }
}

impl ShareSeat {
    /// The member's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The group's name.
    pub fn group(&self) -> &str {
        &self.cell.name
    }

    /// The group's generation now.
    pub fn generation(&self) -> i32 {
        self.cell.lock().group.generation()
    }

    /// The partitions that there are of its topics now, in order.
    pub fn assigned(&self) -> Vec<(Arc<str>, u32)> {
        let counted = self
            .topics
            .iter()
            .filter_map(|topic| Some((topic, self.broker.topic_for(Operation::Read, topic).ok()?.partition_count())));
        counted.flat_map(|(topic, count)| (0..count).map(|partition| (topic.clone(), partition))).collect()
    }

    /// Leaves the group.
    pub fn leave(&mut self) -> Result<()> {
        let left =
            self.broker.state(&self.permit).change(&self.cell, |state, now| state.group.leave_share(now, self.number));
        left.unwrap_or(Err(Error::UnknownMemberId))
    }
}

impl Drop for ShareSeat {
    fn drop(&mut self) {
        // Who has left already has nothing to leave.
        let _ = self.leave();
    }
}

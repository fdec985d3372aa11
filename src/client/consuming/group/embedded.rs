//! A member that calls a broker in this process.

use super::member::{GroupMember, Subscription};
#[cfg(feature = "streams")]
use crate::client::consuming::PartitionOffset;
use crate::{
    backend::{Backend, Membership},
    broker::{self, JoinOptions, PollLimits, PollWait, PolledRecord, Waiter},
    client::{
        Error, Message,
        endpoint::{Endpoint, IN_PROCESS},
        membership::share,
    },
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Bytes that an embedded poll hands out at most, as POLL does unless it is told otherwise.
const POLL_BYTES: usize = 1 << 20;

/// A member of a group of a broker in this process.
#[derive(Debug)]
pub(super) struct EmbeddedMember {
    broker: Backend,
    member: Option<Membership>,
}

impl EmbeddedMember {
    pub(super) fn new(broker: Backend) -> EmbeddedMember {
        EmbeddedMember { broker, member: None }
    }

    fn member(&mut self) -> Result<&mut Membership, Error> {
        self.member.as_mut().ok_or_else(|| broker::Error::UnknownMemberId.into())
    }
}

impl GroupMember for EmbeddedMember {
    fn join(&mut self, subscription: &Subscription) -> Result<(), Error> {
        self.member = None;
        let topics: Vec<&str> = subscription.topics.iter().map(|topic| &**topic).collect();
        let options = JoinOptions {
            from: subscription.from.into(),
            auto_commit: subscription.auto_commit,
            isolation: subscription.isolation,
            assignor: subscription.assignor,
            ..JoinOptions::default()
        };
        self.member = Some(self.broker.join(&subscription.group, &topics, options)?);
        Ok(())
    }

    fn poll(&mut self, wait: Duration, max: usize) -> Result<Vec<Message>, Error> {
        let waiter = Waiter::new();
        let deadline = Instant::now().checked_add(wait);
        let poll_wait = PollWait { waiter: &waiter, deadline, wait: &mut |until| waiter.wait(until) };
        let (mut messages, mut topic) = (Vec::new(), Arc::from(""));
        let mut each = |record: &PolledRecord<'_>| {
            share(&mut topic, record.topic);
            messages.push(Message::read(&topic, record.partition, record.offset, record.timestamp, record.fields));
        };
        self.member()?.poll(PollLimits { records: max, bytes: POLL_BYTES }, poll_wait, &mut each)?;
        messages.into_iter().collect()
    }

    fn commit(&mut self) -> Result<(), Error> {
        Ok(self.member()?.commit(None)?)
    }

    #[cfg(feature = "streams")]
    fn commit_at(&mut self, offsets: &[PartitionOffset]) -> Result<(), Error> {
        let offsets: Vec<_> =
            offsets.iter().map(|(topic, partition, offset)| (&**topic, *partition, *offset)).collect();
        Ok(self.member()?.commit(Some(&offsets))?)
    }

    fn seek(&mut self, topic: &str, partition: u32, offset: u64) -> Result<(), Error> {
        Ok(self.member()?.seek(topic, partition, broker::Position::At(offset)).map(drop)?)
    }

    fn leave(&mut self) -> Result<(), Error> {
        Ok(self.member.take().map_or(Ok(()), |mut member| member.leave())?)
    }

    fn address(&self) -> &str {
        IN_PROCESS
    }

    fn partitions(&self) -> usize {
        self.member.as_ref().map_or(0, |member| member.assigned().count())
    }

    fn identity(&self) -> (String, i32) {
        self.member.as_ref().map_or_else(Default::default, |member| (member.id(), member.generation()))
    }

    #[cfg(feature = "streams")]
    fn assigned(&self) -> Vec<(String, u32)> {
        let assigned = self.member.iter().flat_map(|member| member.assigned());
        assigned.map(|(topic, partition)| (topic.into(), partition)).collect()
    }

    fn holds(&self, topic: &str, partition: u32) -> bool {
        self.member.as_ref().is_some_and(|member| member.assigned().any(|held| held == (topic, partition)))
    }

    fn into_endpoint(self: Box<Self>) -> Endpoint {
        Endpoint::Embedded(self.broker)
    }
}

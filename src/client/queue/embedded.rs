//! A member of a share group that calls a broker in this process.

use super::{Delivery, Part, QueueMember, Subscription};
use crate::{
    broker::{
        self, Broker, PollLimits, PollWait, ShareMembership, SharedRecord, Waiter,
        share_partition::{Acknowledged, Acknowledgement},
    },
    client::{Error, Message, endpoint::IN_PROCESS, membership::share},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Bytes that an embedded poll hands out at most, as POLL does unless it is told otherwise.
const POLL_BYTES: usize = 1 << 20;

/// A member of a share group of a broker in this process.
#[derive(Debug)]
pub(super) struct EmbeddedMember {
    broker: Broker,
    member: Option<ShareMembership>,
}

impl EmbeddedMember {
    pub(super) fn new(broker: Broker) -> EmbeddedMember {
        EmbeddedMember { broker, member: None }
    }

    fn member(&mut self) -> Result<&mut ShareMembership, Error> {
        self.member.as_mut().ok_or_else(|| broker::Error::UnknownMemberId.into())
    }
}

impl QueueMember for EmbeddedMember {
    fn join(&mut self, Subscription { group, topics, options }: &Subscription) -> Result<(), Error> {
        self.member = None;
        let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
        self.member = Some(self.broker.join_queue(group, &topics, options)?);
        Ok(())
    }

    fn poll(&mut self, wait: Duration, max: usize) -> Result<Vec<Delivery>, Error> {
        let waiter = Waiter::new();
        let deadline = Instant::now().checked_add(wait);
        let poll_wait = PollWait { waiter: &waiter, deadline, wait: &mut |until| waiter.wait(until) };
        let (mut deliveries, mut topic) = (Vec::new(), Arc::from(""));
        let mut each = |SharedRecord { record, deliveries: count }: &SharedRecord<'_>| {
            share(&mut topic, record.topic);
            let message = Message::read(&topic, record.partition, record.offset, record.timestamp, record.fields);
            deliveries.push(message.map(|message| Delivery { message, deliveries: *count }));
        };
        self.member()?.poll(PollLimits { records: max, bytes: POLL_BYTES }, poll_wait, &mut each)?;
        deliveries.into_iter().collect()
    }

    fn acknowledge(&mut self, how: Acknowledgement, part: &Part<'_>) -> Result<(), Error> {
        let Part { topic, partition, first, last } = *part;
        let of = self.broker.find_partition(topic, partition)?;
        Ok(self.member()?.acknowledge(&of, &[Acknowledged { first, last, how }])?)
    }

    fn leave(&mut self) -> Result<(), Error> {
        Ok(self.member.take().map_or(Ok(()), |mut member| member.leave())?)
    }

    fn address(&self) -> &str {
        IN_PROCESS
    }

    fn partitions(&self) -> usize {
        self.member.as_ref().map_or(0, |member| member.assigned().len())
    }

    fn lock(&self) -> Duration {
        let lock_ms = |member: &ShareMembership| self.broker.share_lock_ms(member.group());
        Duration::from_millis(self.member.as_ref().map_or(0, lock_ms))
    }
}

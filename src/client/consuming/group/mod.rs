//! A consumer's membership in a group: it joins, polls, and joins again when the membership was lost.
//!
//! ```text
//! poll ─► joined? ─no─► join ─► poll the broker for a slice of the time ─► records: hand them out
//!           ▲                          │                                  nothing: the next slice
//!           └──── pause, if need be ◄──┴─ membership or connection lost, topic not there
//! ```
//!
//! - Records are handed out as soon as they are polled; nothing is read ahead. So a commit never covers what nobody saw.
//! - A POLL that waits in the broker cannot be cancelled, so it waits for one [`SLICE`] at a time, and a poll that is to be
//!   woken ends within that time.
//! - A commit never joins: the membership it belongs to is gone, and what was polled there comes again.

mod embedded;
mod member;
mod network;

pub(in crate::client) use member::{GroupMember, Subscription};
pub(in crate::client) use network::words_of;

use super::{
    Position,
    source::{GroupPlace, Lookout, SLICE, Source},
};
use crate::{
    broker::Isolation,
    client::{
        Error, Message,
        answer::UNKNOWN_TOPIC,
        endpoint::Endpoint,
        membership::{Troubles, UNKNOWN_MEMBER, is_loss},
        record::check_topic,
    },
};
use embedded::EmbeddedMember;
use network::NetworkMember;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::*},
    },
    thread,
    time::{Duration, Instant},
};

#[derive(Debug)]
pub(super) struct Membership {
    member: Box<dyn GroupMember>,
    subscription: Subscription,
    troubles: Troubles,
    joined: bool,
    /// The topics are waited for: the broker has not all of them.
    missing: bool,
    at_end: bool,
    lookout: Lookout,
    /// The offset to go on at, in each partition that was polled and is still held.
    polled: BTreeMap<(Arc<str>, u32), u64>,
    woken: Arc<AtomicBool>,
}

/// One who has not joined yet.
pub(in crate::client) fn member_of(broker: Endpoint) -> Box<dyn GroupMember> {
    match broker {
        Endpoint::Network { target, connection } => Box::new(NetworkMember::new(target, connection)),
        Endpoint::Embedded(broker) => Box::new(EmbeddedMember::new(broker)),
    }
}

impl Membership {
    /// Joins; topics that are not there are waited for by `poll`.
    pub(super) fn join(broker: Endpoint, subscription: Subscription, retry_for: Duration) -> Result<Membership, Error> {
        subscription.topics.iter().try_for_each(|topic| check_topic(topic))?;
        let mut membership = Membership {
            member: member_of(broker),
            subscription,
            troubles: Troubles::new(retry_for),
            joined: false,
            missing: false,
            at_end: false,
            lookout: Lookout::begin(),
            polled: BTreeMap::new(),
            woken: Arc::default(),
        };
        match membership.join_if_lost() {
            Err(Error::Refused(refused)) if refused.code == UNKNOWN_TOPIC => {
                membership.wait_for_topics();
                Ok(membership)
            }
            joined => joined.map(|()| membership),
        }
    }

    /// What is not there yet is read whole when it comes.
    fn wait_for_topics(&mut self) {
        self.missing = true;
        self.subscription.from = Position::Earliest;
    }

    fn join_if_lost(&mut self) -> Result<(), Error> {
        if !self.joined {
            self.polled.clear();
            self.member.join(&self.subscription)?;
            (self.joined, self.missing, self.lookout) = (true, false, Lookout::begin());
        }
        Ok(())
    }

    /// What to do about an error: an answer for the caller, or another attempt after a pause.
    fn recover(&mut self, error: Error, left: Duration) -> Result<(), Error> {
        self.at_end = false;
        let pause = match &error {
            Error::Refused(refused) if refused.code == UNKNOWN_MEMBER => {
                self.joined = false;
                return Ok(());
            }
            Error::Refused(refused) if refused.code == UNKNOWN_TOPIC && !self.joined => {
                self.wait_for_topics();
                self.lookout.next_pause()
            }
            _ => {
                self.joined &= !is_loss(&error);
                self.troubles.pause_after(error)?
            }
        };
        thread::sleep(pause.min(left));
        Ok(())
    }

    /// A commit or seek that finds the place gone leaves it to the next poll to join again.
    fn note_loss<T>(&mut self, done: Result<T, Error>) -> Result<T, Error> {
        if done.as_ref().is_err_and(is_loss) {
            self.joined = false;
        }
        done
    }

    fn check_joined(&self) -> Result<(), Error> {
        if self.joined { Ok(()) } else { Err(Error::Refused(crate::broker::Error::UnknownMemberId.into())) }
    }
}

impl Source for Membership {
    fn set_retry_for(&mut self, retry_for: Duration) {
        self.troubles.retry_for = retry_for;
    }

    fn set_isolation(&mut self, isolation: Isolation) {
        self.subscription.isolation = isolation;
    }

    fn subscribe(&mut self, _: &str, _: Position) -> Result<(), Error> {
        Err(Error::Invalid("a member names all its topics when it joins".into()))
    }

    fn assign(&mut self, topic: &str, _: u32, _: Position) -> Result<(), Error> {
        self.subscribe(topic, Position::Earliest)
    }

    fn poll(&mut self, timeout: Duration, max: usize) -> Result<Vec<Message>, Error> {
        let begun = Instant::now();
        loop {
            let left = timeout.saturating_sub(begun.elapsed()).min(SLICE);
            match self.join_if_lost().and_then(|()| self.member.poll(left, max)) {
                Ok(messages) => {
                    self.troubles.are_over();
                    self.at_end = messages.is_empty();
                    let member = &self.member;
                    self.polled.retain(|(topic, partition), _| member.holds(topic, *partition));
                    for Message { topic, partition, offset, .. } in &messages {
                        self.polled.insert((topic.clone(), *partition), offset + 1);
                    }
                    if !messages.is_empty() {
                        return Ok(messages);
                    }
                }
                Err(error) => self.recover(error, left)?,
            }
            if self.woken.swap(false, AcqRel) || begun.elapsed() >= timeout {
                return Ok(Vec::new());
            }
        }
    }

    fn seek(&mut self, topic: &str, partition: u32, offset: u64) -> Result<(), Error> {
        self.check_joined()?;
        let sought = self.member.seek(topic, partition, offset);
        if sought.is_ok() {
            self.polled.insert((topic.into(), partition), offset);
        }
        self.note_loss(sought)
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.check_joined()?;
        let committed = self.member.commit();
        self.note_loss(committed)
    }

    fn rejoin(&mut self) -> Result<(), Error> {
        self.close()
    }

    fn place(&self) -> Result<GroupPlace<'_>, Error> {
        self.check_joined()?;
        let offsets = self.polled.iter().map(|((topic, partition), next)| (topic.clone(), *partition, *next)).collect();
        let (member, generation) = self.member.identity();
        Ok(GroupPlace { group: &self.subscription.group, member, generation, offsets })
    }

    fn close(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.joined) { self.member.leave() } else { Ok(()) }
    }

    fn address(&self) -> &str {
        self.member.address()
    }

    fn missing(&self) -> Vec<&str> {
        self.subscription.topics.iter().filter(|_| self.missing).map(|topic| &**topic).collect()
    }

    fn partitions(&self) -> usize {
        self.member.partitions()
    }

    fn at_end(&self) -> bool {
        self.at_end
    }

    fn waker(&self) -> Box<dyn Fn() + Send> {
        let woken = self.woken.clone();
        Box::new(move || woken.store(true, Release))
    }

    fn into_endpoint(self: Box<Self>) -> Endpoint {
        self.member.into_endpoint()
    }
}

//! Groups: memberships, and what administrators ask.

use super::{Backend, Transaction, form};
use crate::broker::{
    self, GroupSummary, JoinOptions, Lag, Outcome, PollLimits, PollWait, PolledRecord, Position, Result,
    ShareMembership, ShareOptions, group::Description,
};
#[cfg(feature = "http")]
use crate::broker::{CommitOutcome, ObservedGroup, OffsetCommit, group::classic::Sender};
#[cfg(feature = "cluster")]
use crate::{broker::Error, cluster};
use std::sync::Arc;

/// What librdkafka cannot do.
#[cfg(feature = "cluster")]
pub(super) const NO_QUEUES: Error = Error::NotHere(
    "share groups are not to be had on a cluster: librdkafka, which speaks to it, has no share consumer",
);

/// A membership in a group.
#[derive(Debug)]
#[expect(missing_docs, reason = "the forms are the backend's")]
pub enum Membership {
    Broker(broker::Membership),
    #[cfg(feature = "cluster")]
    Cluster(cluster::Membership),
}

#[expect(missing_docs, reason = "the verbs are the broker's")]
impl Backend {
    pub fn may_join(&self, topics: &[&str], options: &JoinOptions) -> Result<()> {
        form!(Backend, self, form => form.may_join(topics, options))
    }

    pub fn join(&self, group: &str, topics: &[&str], options: JoinOptions) -> Result<Membership> {
        Ok(match self {
            Backend::Broker(broker) => Membership::Broker(broker.join(group, topics, options)?),
            #[cfg(feature = "cluster")]
            Backend::Cluster(cluster) => Membership::Cluster(cluster.join(group, topics, options)?),
        })
    }

    pub fn may_join_queue(&self, group: &str, topics: &[&str], options: &ShareOptions) -> Result<()> {
        match self {
            Backend::Broker(broker) => broker.may_join_queue(group, topics, options),
            #[cfg(feature = "cluster")]
            Backend::Cluster(_) => Err(NO_QUEUES),
        }
    }

    pub fn join_queue(&self, group: &str, topics: &[&str], options: &ShareOptions) -> Result<ShareMembership> {
        match self {
            Backend::Broker(broker) => broker.join_queue(group, topics, options),
            #[cfg(feature = "cluster")]
            Backend::Cluster(_) => Err(NO_QUEUES),
        }
    }

    pub fn share_lock_ms(&self, group: &str) -> u64 {
        match self {
            Backend::Broker(broker) => broker.share_lock_ms(group),
            #[cfg(feature = "cluster")]
            Backend::Cluster(_) => 0,
        }
    }

    pub fn groups(&self) -> Result<Vec<GroupSummary>> {
        form!(Backend, self, form => form.groups())
    }

    #[cfg(feature = "http")]
    pub fn observe_groups(&self) -> Result<Vec<ObservedGroup>> {
        form!(Backend, self, form => form.observe_groups())
    }

    pub fn group(&self, name: &str) -> Result<Option<Description>> {
        let mut described = form!(Backend, self, form => form.group(name))?;
        // Its members are told with the topics that the caller may see.
        for member in described.iter_mut().flat_map(|group| &mut group.members) {
            member.owned.retain(|owned| self.door().may_describe(&owned.topic));
            member.target.retain(|(topic, _)| self.door().may_describe(topic));
            member.topics.retain(|topic| self.door().may_describe(topic));
        }
        Ok(described)
    }

    pub fn lag(&self, name: &str) -> Result<Vec<Lag>> {
        form!(Backend, self, form => form.lag(name))
    }

    pub fn reset_offsets(&self, name: &str, offsets: &[(Arc<str>, u32, u64)]) -> Result<()> {
        form!(Backend, self, form => form.reset_offsets(name, offsets))
    }

    #[cfg(feature = "http")]
    pub fn may_reset_offsets(&self, name: &str) -> Result<()> {
        form!(Backend, self, form => form.may_reset_offsets(name))
    }

    /// Commits offsets of a group without members, each with what is noted beside it.
    #[cfg(feature = "http")]
    pub fn commit_for_group(&self, group: &str, offsets: Vec<OffsetCommit>) -> Result<()> {
        match self {
            Backend::Broker(broker) => {
                let nobody = Sender { member_id: "", instance_id: None };
                let CommitOutcome { written, outcomes } = broker.commit_offsets(group, nobody, -1, offsets)?;
                written.map_or(Ok(()), |written| written.make_durable())?;
                outcomes.into_iter().collect()
            }
            #[cfg(feature = "cluster")]
            Backend::Cluster(cluster) => cluster.commit_for_group(group, offsets),
        }
    }

    pub fn delete_group(&self, name: &str) -> Result<()> {
        form!(Backend, self, form => form.delete_group(name))
    }
}

#[expect(missing_docs, reason = "the verbs are the broker's")]
impl Membership {
    pub fn group(&self) -> &str {
        form!(Membership, self, form => form.group())
    }

    pub fn id(&self) -> String {
        form!(Membership, self, form => form.id())
    }

    pub fn commits_by_itself(&self) -> bool {
        form!(Membership, self, form => form.commits_by_itself())
    }

    pub fn generation(&self) -> i32 {
        form!(Membership, self, form => form.generation())
    }

    pub fn assigned(&self) -> Box<dyn Iterator<Item = (&str, u32)> + '_> {
        form!(Membership, self, form => Box::new(form.assigned()))
    }

    pub fn poll(
        &mut self,
        limits: PollLimits,
        wait: PollWait<'_>,
        each: &mut dyn FnMut(&PolledRecord<'_>),
    ) -> Result<usize> {
        form!(Membership, self, form => form.poll(limits, wait, each))
    }

    pub fn commit(&mut self, offsets: Option<&[(&str, u32, u64)]>) -> Result<()> {
        form!(Membership, self, form => form.commit(offsets))
    }

    pub fn commit_in(&mut self, transaction: &Transaction, offsets: Option<&[(&str, u32, u64)]>) -> Result<()> {
        match (self, transaction) {
            (Membership::Broker(member), Transaction::Broker(transaction)) => member.commit_in(transaction, offsets),
            #[cfg(feature = "cluster")]
            (Membership::Cluster(member), Transaction::Cluster(transaction)) => member.commit_in(transaction, offsets),
            #[cfg(feature = "cluster")]
            _ => unreachable!("a member and a transaction are of one backend"),
        }
    }

    pub fn begin_transaction(&mut self, timeout_ms: u64) -> Result<()> {
        form!(Membership, self, form => form.begin_transaction(timeout_ms))
    }

    pub fn end_transaction(&mut self, outcome: Outcome) -> Result<()> {
        form!(Membership, self, form => form.end_transaction(outcome))
    }

    pub fn seek(&mut self, topic: &str, partition: u32, position: Position) -> Result<u64> {
        form!(Membership, self, form => form.seek(topic, partition, position))
    }

    pub fn leave(&mut self) -> Result<()> {
        form!(Membership, self, form => form.leave())
    }
}

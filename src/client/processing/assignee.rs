//! A member of a group that reads its partitions by itself: it is told which they are, and where the group has come to in them.

use super::{CommittedAt, GroupPlace, PartitionOffset, Site};
use crate::{
    broker::{Isolation, group::consumer::Assignor},
    client::{
        Error, Position,
        consuming::group::{GroupMember, Subscription, member_of},
    },
};
use std::{sync::Arc, time::Duration};

/// A member. Dropping it leaves the group with its connection.
#[derive(Debug)]
pub(crate) struct Assignee {
    member: Box<dyn GroupMember>,
    site: Site,
    group: String,
}

impl Assignee {
    /// Joins, so that equal partitions of the topics are one member's.
    pub(crate) fn join(site: &Site, group: &str, topics: &[Arc<str>]) -> Result<Assignee, Error> {
        let mut member = member_of(site.endpoint());
        member.join(&Subscription {
            group: group.into(),
            topics: topics.iter().map(|topic| topic.to_string()).collect(),
            from: Position::Earliest,
            auto_commit: false,
            isolation: Isolation::ReadCommitted,
            assignor: Some(Assignor::Range),
        })?;
        Ok(Assignee { member, site: site.clone(), group: group.into() })
    }

    /// Says that it is there. What is another's from now on is let go by it, so what was done there is to be committed before.
    pub(crate) fn keep(&mut self) -> Result<(), Error> {
        self.member.poll(Duration::ZERO, 0).map(drop)
    }

    /// Its id in the group.
    pub(crate) fn id(&self) -> String {
        self.member.identity().0
    }

    /// The partitions that it was given.
    pub(crate) fn assigned(&self) -> Vec<(String, u32)> {
        self.member.assigned()
    }

    /// Where the group has come to.
    pub(crate) fn committed(&mut self) -> Result<Vec<(String, u32, CommittedAt)>, Error> {
        self.site.committed(&self.group)
    }

    /// Commits without a transaction.
    pub(crate) fn commit(&mut self, offsets: &[PartitionOffset]) -> Result<(), Error> {
        if offsets.is_empty() { Ok(()) } else { self.member.commit_at(offsets) }
    }

    /// What a transaction commits.
    pub(crate) fn place(&self, offsets: Vec<PartitionOffset>) -> GroupPlace<'_> {
        let (member, generation) = self.member.identity();
        GroupPlace { group: &self.group, member, generation, offsets }
    }

    /// Leaves the group.
    pub(crate) fn leave(mut self) -> Result<(), Error> {
        self.member.leave()
    }
}

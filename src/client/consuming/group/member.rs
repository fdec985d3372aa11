//! What a member of a group can do: lines over a connection, or calls to a broker in this process.
//!
//! ```text
//! join     JOIN g t from:earliest commit:manual      Broker::join
//! poll     POLL max:10 wait:250                      Member::poll
//! commit   COMMIT                                    Member::commit
//! seek     SEEK t/0 100                              Member::seek
//! leave    LEAVE                                     Member::leave
//! ```
//!
//! Neither joins by itself: if the broker no longer knows the member, the call fails, and [`Membership`] joins again.
//!
//! [`Membership`]: super::Membership

#[cfg(feature = "streams")]
use crate::client::consuming::PartitionOffset;
use crate::{
    broker::{Isolation, group::consumer::Assignor},
    client::{Error, Message, Position, endpoint::Endpoint},
};
use std::{fmt::Debug, time::Duration};

/// What a member joins for.
#[derive(Clone, Debug)]
pub(in crate::client) struct Subscription {
    pub(in crate::client) group: String,
    pub(in crate::client) topics: Vec<String>,
    pub(in crate::client) from: Position,
    pub(in crate::client) auto_commit: bool,
    pub(in crate::client) isolation: Isolation,
    pub(in crate::client) assignor: Option<Assignor>,
}

pub(in crate::client) trait GroupMember: Debug + Send {
    fn join(&mut self, subscription: &Subscription) -> Result<(), Error>;
    fn poll(&mut self, wait: Duration, max: usize) -> Result<Vec<Message>, Error>;
    fn commit(&mut self) -> Result<(), Error>;
    /// Commits these offsets to go on at.
    #[cfg(feature = "streams")]
    fn commit_at(&mut self, offsets: &[PartitionOffset]) -> Result<(), Error>;
    fn seek(&mut self, topic: &str, partition: u32, offset: u64) -> Result<(), Error>;
    fn leave(&mut self) -> Result<(), Error>;
    fn address(&self) -> &str;
    fn partitions(&self) -> usize;
    /// The member's id and the generation that it was told last.
    fn identity(&self) -> (String, i32);
    /// The partitions that it was given, as it was told last.
    #[cfg(feature = "streams")]
    fn assigned(&self) -> Vec<(String, u32)>;
    fn holds(&self, topic: &str, partition: u32) -> bool;
    fn into_endpoint(self: Box<Self>) -> Endpoint;
}

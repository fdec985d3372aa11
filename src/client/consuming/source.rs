//! What a consumer reads from: all that differs between the network and a broker in this process, alone and in a group.
//!
//! ```text
//!             alone               in a group
//! network     NetworkConsumer     Membership over a NetworkMember
//! embedded    EmbeddedConsumer    Membership over an EmbeddedMember
//! ```

use super::{Position, position::PartitionOffset};
use crate::{
    broker::Isolation,
    client::{Error, Message, endpoint::Endpoint},
};
use std::{fmt::Debug, time::Duration};

/// How long a poll waits before it looks whether somebody woke it.
pub(in crate::client) const SLICE: Duration = Duration::from_millis(250);

/// The pauses between two looks for a topic that is not there. They double up to two seconds, so that a long wait does not
/// fill the broker's `--explain`. A message to the topic's first partition ends a wait inside the broker, one to another
/// partition does not.
#[derive(Clone, Copy, Debug)]
pub(in crate::client) struct Lookout {
    pause: Duration,
}

impl Lookout {
    pub(in crate::client) fn begin() -> Lookout {
        Lookout { pause: Duration::from_millis(250) }
    }

    /// How long to wait now; the next pause is longer.
    pub(in crate::client) fn next_pause(&mut self) -> Duration {
        let longer = (self.pause * 2).min(Duration::from_secs(2));
        std::mem::replace(&mut self.pause, longer)
    }
}

/// Where a member stands in its group.
#[derive(Debug)]
pub(crate) struct GroupPlace<'m> {
    pub(crate) group: &'m str,
    /// The member's id,
    pub(crate) member: String,
    /// and the generation that it was told last.
    pub(crate) generation: i32,
    /// What it has polled: topic, partition and the offset to go on at.
    pub(crate) offsets: Vec<PartitionOffset>,
}

pub(in crate::client) trait Source: Debug + Send {
    /// How long a broker may be gone before `poll` says so.
    fn set_retry_for(&mut self, retry_for: Duration);

    /// Which records are read of what is named next.
    fn set_isolation(&mut self, isolation: Isolation);

    /// Reads all partitions of a topic.
    fn subscribe(&mut self, topic: &str, start: Position) -> Result<(), Error>;

    /// Reads one partition.
    fn assign(&mut self, topic: &str, partition: u32, start: Position) -> Result<(), Error>;

    fn poll(&mut self, timeout: Duration, max: usize) -> Result<Vec<Message>, Error>;

    fn seek(&mut self, topic: &str, partition: u32, offset: u64) -> Result<(), Error>;

    fn commit(&mut self) -> Result<(), Error> {
        Err(Error::Invalid("only a consumer of a group commits; name one with group()".into()))
    }

    /// Leaves the group without a commit, to join again at the next poll.
    fn rejoin(&mut self) -> Result<(), Error> {
        Err(Error::Invalid("only a consumer of a group joins again; name one with group()".into()))
    }

    fn place(&self) -> Result<GroupPlace<'_>, Error> {
        Err(Error::Invalid("only a consumer of a group has offsets to commit; name one with group()".into()))
    }

    /// Leaves the group, if there is one.
    fn close(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn address(&self) -> &str;

    /// Topics that are waited for.
    fn missing(&self) -> Vec<&str>;

    /// How many partitions are read.
    fn partitions(&self) -> usize;

    /// Whether everything was read to its end and handed out.
    fn at_end(&self) -> bool;

    /// What makes a waiting `poll` return early.
    fn waker(&self) -> Box<dyn Fn() + Send>;

    /// The same broker, for a member of a group.
    fn into_endpoint(self: Box<Self>) -> Endpoint;
}

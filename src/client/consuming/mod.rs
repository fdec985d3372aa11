//! Consumers: they read topics or single partitions from any position, alone or as members of a group.

pub(super) mod embedded;
pub(super) mod fetcher;
pub(super) mod group;
mod network;
mod position;
pub(super) mod source;

#[cfg(feature = "streams")]
pub(crate) use position::PartitionOffset;
pub use position::Position;

pub(crate) use source::GroupPlace;
pub(super) use source::{Lookout, SLICE};

use super::{Error, Message, Target, endpoint::RETRY_FOR};
use crate::{backend::Backend, broker::Isolation};
use embedded::EmbeddedConsumer;
use group::{Membership, Subscription};
use network::NetworkConsumer;
use source::Source;
use std::time::Duration;

/// Reads records in the order of their partitions.
///
/// - It goes on at its offset after a lost connection. A topic that is not there is waited for.
/// - An error from [`poll`](Self::poll) is news, not the end: polling again goes on, but for [`Error::Answer`].
/// - Partitions that are added to a subscribed topic are read too, from their first record.
/// - With a [`group`](Self::group) it shares the partitions with the group's other members and begins at what the group
///   committed. A member that lost its place, or its connection, joins again when it is polled: what it had not
///   committed comes again, to it or to another.
#[derive(Debug)]
pub struct Consumer {
    source: Box<dyn Source>,
    start: Position,
    group: Option<String>,
    auto_commit: bool,
    isolation: Isolation,
    retry_for: Duration,
}

impl Consumer {
    /// Connects to a broker, `host:port`, or fails at once.
    pub fn connect(target: impl Into<Target>) -> Result<Consumer, Error> {
        Ok(Self::connect_within(target, Duration::ZERO)?.retry_for(RETRY_FOR))
    }

    /// Connects to a broker, which may take until `retry_for` to appear. Later outages that last as long are reported too.
    pub fn connect_within(target: impl Into<Target>, retry_for: Duration) -> Result<Consumer, Error> {
        Ok(Self::of(NetworkConsumer::connect_within(&target.into(), retry_for)?).retry_for(retry_for))
    }

    /// Reads from a broker in this process, or from whatever else answers verbs here.
    pub fn embedded(broker: impl Into<Backend>) -> Consumer {
        Self::of(EmbeddedConsumer::new(broker.into()))
    }

    fn of(source: impl Source + 'static) -> Consumer {
        let (start, group, isolation) = (Position::Earliest, None, Isolation::ReadCommitted);
        Consumer { source: Box::new(source), start, group, auto_commit: true, isolation, retry_for: RETRY_FOR }
    }

    /// How long a broker may be gone before [`poll`](Self::poll) says so; 30 seconds unless this says otherwise.
    pub fn retry_for(mut self, retry_for: Duration) -> Self {
        self.retry_for = retry_for;
        self.source.set_retry_for(retry_for);
        self
    }

    /// Where the topics and partitions that are named next are read from; the first record unless this says otherwise.
    /// With a group, only where the group committed nothing.
    pub fn start_at(mut self, position: Position) -> Self {
        self.start = position;
        self
    }

    /// Whether it also reads records of transactions that are open or were aborted; it does not unless this says so. To be said
    /// before the topics are named.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self.source.set_isolation(isolation);
        self
    }

    /// Makes it a member of this group when it subscribes.
    pub fn group(mut self, group: &str) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Whether each poll commits what the one before returned, and [`close`](Self::close) the rest; it does unless this
    /// says otherwise.
    pub fn auto_commit(mut self, auto_commit: bool) -> Self {
        self.auto_commit = auto_commit;
        self
    }

    /// Reads all partitions of these topics, or joins the group for a share of them. A topic that is not there is waited
    /// for, and read from its first record.
    pub fn subscribe(mut self, topics: &[impl AsRef<str>]) -> Result<Consumer, Error> {
        let Some(group) = self.group.take() else {
            topics.iter().try_for_each(|topic| self.source.subscribe(topic.as_ref(), self.start))?;
            return Ok(self);
        };
        let topics = topics.iter().map(|topic| topic.as_ref().into()).collect();
        let (from, auto_commit, isolation) = (self.start, self.auto_commit, self.isolation);
        let subscription = Subscription { group, topics, from, auto_commit, isolation, assignor: None };
        let membership = Membership::join(self.source.into_endpoint(), subscription, self.retry_for)?;
        Ok(Consumer { source: Box::new(membership), ..self })
    }

    /// Reads one partition. A group assigns partitions itself, so this takes a consumer of none.
    pub fn assign(mut self, topic: &str, partition: u32) -> Result<Consumer, Error> {
        if self.group.is_some() {
            return Err(Error::Invalid("a group assigns the partitions; use subscribe() with group()".into()));
        }
        self.source.assign(topic, partition, self.start)?;
        Ok(self)
    }

    /// The next records: at most `max`, as soon as there is one, or none when `timeout` is over. It returns early, with
    /// nothing, when it is woken or when everything has been read to its end.
    pub fn poll(&mut self, timeout: Duration, max: usize) -> Result<Vec<Message>, Error> {
        self.source.poll(timeout, max)
    }

    /// Commits everything that was polled: the group goes on behind it.
    ///
    /// An error says that nothing was committed, as far as is known; what was polled may come again then.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.source.commit()
    }

    /// Leaves the group; the next [`poll`](Self::poll) joins again and goes on at what the group has committed. That is what to do when
    /// a transaction with [its offsets](super::Transaction::send_offsets) was aborted. Nothing is committed by it, unless the consumer
    /// [commits by itself](Self::auto_commit).
    pub fn rejoin(&mut self) -> Result<(), Error> {
        self.source.rejoin()
    }

    /// Where it stands in its group.
    pub(super) fn place(&self) -> Result<GroupPlace<'_>, Error> {
        if self.auto_commit {
            return Err(Error::Invalid(
                "a transaction commits the offsets, so the consumer takes auto_commit(false)".into(),
            ));
        }
        self.source.place()
    }

    /// Goes on reading a partition at this offset.
    pub fn seek(&mut self, topic: &str, partition: u32, offset: u64) -> Result<(), Error> {
        self.source.seek(topic, partition, offset)
    }

    /// Ends, and leaves the group; with auto-commit, after committing what the last poll returned. (Dropping it leaves
    /// without a commit.)
    pub fn close(mut self) -> Result<(), Error> {
        self.source.close()
    }

    /// The broker's address.
    pub fn address(&self) -> &str {
        self.source.address()
    }

    /// Topics that are waited for.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        self.source.missing().into_iter()
    }

    /// How many partitions are read: with a group, how many this member was given.
    pub fn partitions(&self) -> usize {
        self.source.partitions()
    }

    /// Whether every partition was read to its end, and all of it handed out: with a group, whether the last poll found
    /// nothing in those that this member was given.
    pub fn at_end(&self) -> bool {
        self.source.at_end()
    }

    /// What makes a waiting [`poll`](Self::poll) return early, from another thread.
    pub fn waker(&self) -> impl Fn() + Send + 'static {
        self.source.waker()
    }
}

//! Reading: handles and sessions of whoever has the records. What was read is a chunk of lines in either case.

#[cfg(feature = "cluster")]
use super::groups::NO_QUEUES;
use super::{Backend, form};
use crate::broker::{self, Batches, Isolation, LineAt, Position, Registered, Result, TimedOffset, View, Waiter};
#[cfg(feature = "cluster")]
use crate::cluster;
#[cfg(feature = "http")]
use crate::config::Settings;
use crate::log::Backlog;
use crate::security::Operation;
use std::{ops::Range, path::PathBuf, sync::Arc};

/// A topic that was found.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the forms are the backend's")]
pub enum TopicHandle {
    Broker(broker::TopicHandle),
    #[cfg(feature = "cluster")]
    Cluster(cluster::TopicHandle),
}

/// A partition that was found.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the forms are the backend's")]
pub enum PartitionHandle {
    Broker(broker::PartitionHandle),
    #[cfg(feature = "cluster")]
    Cluster(cluster::PartitionHandle),
}

/// What somebody read last.
#[derive(Debug)]
#[expect(missing_docs, reason = "the forms are the backend's")]
pub enum ReadSession {
    Broker(broker::ReadSession),
    #[cfg(feature = "cluster")]
    Cluster(cluster::ReadSession),
}

#[expect(missing_docs, reason = "the verbs are the broker's")]
impl Backend {
    pub fn read_session(&self) -> ReadSession {
        match self {
            Backend::Broker(broker) => ReadSession::Broker(broker.read_session()),
            #[cfg(feature = "cluster")]
            Backend::Cluster(cluster) => ReadSession::Cluster(cluster.read_session()),
        }
    }

    pub fn find_topic(&self, name: &str) -> Result<TopicHandle> {
        self.find_topic_to(Operation::Read, name)
    }

    pub fn find_topic_to(&self, operation: Operation, name: &str) -> Result<TopicHandle> {
        Ok(match self {
            Backend::Broker(broker) => TopicHandle::Broker(broker.find_topic_to(operation, name)?),
            #[cfg(feature = "cluster")]
            Backend::Cluster(cluster) => TopicHandle::Cluster(cluster.find_topic_to(operation, name)?),
        })
    }

    pub fn find_partition(&self, topic: &str, partition: u32) -> Result<PartitionHandle> {
        Ok(match self {
            Backend::Broker(broker) => PartitionHandle::Broker(broker.find_partition(topic, partition)?),
            #[cfg(feature = "cluster")]
            Backend::Cluster(cluster) => PartitionHandle::Cluster(cluster.find_partition(topic, partition)?),
        })
    }
}

#[expect(missing_docs, reason = "the verbs are the broker's")]
impl TopicHandle {
    pub fn name(&self) -> &str {
        form!(TopicHandle, self, form => form.name())
    }

    pub fn partition_count(&self) -> u32 {
        form!(TopicHandle, self, form => form.partition_count())
    }

    #[cfg(feature = "http")]
    pub fn settings(&self) -> Arc<Settings> {
        form!(TopicHandle, self, form => form.settings())
    }

    pub fn partition(&self, index: u32) -> Result<PartitionHandle> {
        Ok(match self {
            TopicHandle::Broker(topic) => PartitionHandle::Broker(topic.partition(index)?),
            #[cfg(feature = "cluster")]
            TopicHandle::Cluster(topic) => PartitionHandle::Cluster(topic.partition(index)?),
        })
    }

    pub fn partitions(&self) -> Vec<PartitionHandle> {
        match self {
            TopicHandle::Broker(topic) => topic.partitions().into_iter().map(PartitionHandle::Broker).collect(),
            #[cfg(feature = "cluster")]
            TopicHandle::Cluster(topic) => topic.partitions().into_iter().map(PartitionHandle::Cluster).collect(),
        }
    }
}

#[expect(missing_docs, reason = "the verbs are the broker's")]
impl PartitionHandle {
    pub fn topic(&self) -> &str {
        form!(PartitionHandle, self, form => form.topic())
    }

    pub fn index(&self) -> u32 {
        form!(PartitionHandle, self, form => form.index())
    }

    pub fn start(&self) -> Result<u64> {
        form!(PartitionHandle, self, form => form.start())
    }

    pub fn high_watermark(&self) -> Result<u64> {
        form!(PartitionHandle, self, form => form.high_watermark())
    }

    pub fn end(&self, isolation: Isolation) -> Result<u64> {
        form!(PartitionHandle, self, form => form.end(isolation))
    }

    pub fn backlog(&self, isolation: Isolation, offset: u64, bytes_enough: u64) -> Result<Backlog> {
        form!(PartitionHandle, self, form => form.backlog(isolation, offset, bytes_enough))
    }

    /// The epoch of the leader, to be noted beside an offset; -1: it is not known.
    #[cfg(feature = "http")]
    pub fn leader_epoch(&self) -> i32 {
        match self {
            PartitionHandle::Broker(partition) => partition.leader_epoch() as i32,
            #[cfg(feature = "cluster")]
            PartitionHandle::Cluster(_) => -1,
        }
    }

    /// The partition of a broker in this process, for what only a broker does.
    pub fn of_broker(&self) -> Result<&broker::PartitionHandle> {
        match self {
            PartitionHandle::Broker(partition) => Ok(partition),
            #[cfg(feature = "cluster")]
            PartitionHandle::Cluster(_) => Err(NO_QUEUES),
        }
    }

    pub fn still_there(&self) -> Result<()> {
        form!(PartitionHandle, self, form => form.still_there())
    }

    pub fn register(&self, waiter: &Arc<Waiter>) -> Registered<'_> {
        form!(PartitionHandle, self, form => form.register(waiter))
    }
}

/// The session and the partition are of one backend.
macro_rules! both {
    ($session:expr, $partition:expr, ($reads:ident, $of:ident) => $call:expr) => {
        match ($session, $partition) {
            (ReadSession::Broker($reads), PartitionHandle::Broker($of)) => $call,
            #[cfg(feature = "cluster")]
            (ReadSession::Cluster($reads), PartitionHandle::Cluster($of)) => $call,
            #[cfg(feature = "cluster")]
            _ => unreachable!("a session and a partition are of one backend"),
        }
    };
}

#[expect(missing_docs, reason = "the verbs are the broker's")]
impl ReadSession {
    pub fn read(&mut self, view: View, from: &PartitionHandle, offset: u64, bytes_max: usize) -> Result<Batches<'_>> {
        both!(self, from, (session, from) => session.read(view, from, offset, bytes_max))
    }

    pub fn batches(&self) -> Batches<'_> {
        form!(ReadSession, self, form => form.batches())
    }

    pub fn record_at(
        &mut self,
        isolation: Isolation,
        from: &PartitionHandle,
        offset: u64,
    ) -> Result<Option<LineAt<'_>>> {
        both!(self, from, (session, from) => session.record_at(isolation, from, offset))
    }

    pub fn resolve(&mut self, isolation: Isolation, position: Position, of: &PartitionHandle) -> Result<u64> {
        both!(self, of, (session, of) => session.resolve(isolation, position, of))
    }

    pub fn record_since(&mut self, view: View, of: &PartitionHandle, time: i64) -> Result<Option<TimedOffset>> {
        both!(self, of, (session, of) => session.record_since(view, of, time))
    }

    pub fn place(&self) -> Option<(PathBuf, Range<u32>)> {
        form!(ReadSession, self, form => form.place())
    }

    pub fn clear(&mut self) {
        form!(ReadSession, self, form => form.clear())
    }

    pub fn free(&mut self) {
        form!(ReadSession, self, form => form.free())
    }
}

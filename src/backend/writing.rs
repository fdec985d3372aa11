//! Writing: sessions of whoever takes the records.

use super::{Backend, Transaction, form};
#[cfg(feature = "cluster")]
use crate::cluster;
use crate::{
    broker::{self, Result, Ticket},
    config::Flush,
    log::{Numbering, record::Records},
};
use std::{ops::Range, path::Path, time::Duration};

/// What was written on behalf of one caller and is not durable yet, then what became of it.
#[derive(Debug)]
#[expect(missing_docs, reason = "the forms are the backend's")]
pub enum WriteSession {
    Broker(broker::WriteSession),
    #[cfg(feature = "cluster")]
    Cluster(cluster::WriteSession),
}

/// Records on their way, until they are written together. Each form has its own.
#[derive(Debug, Default)]
pub struct Gathered<'a> {
    broker: broker::Gathered<'a>,
    #[cfg(feature = "cluster")]
    cluster: cluster::Gathered<'a>,
}

impl Backend {
    /// A session of writing.
    pub fn write_session(&self) -> WriteSession {
        match self {
            Backend::Broker(broker) => WriteSession::Broker(broker.write_session()),
            #[cfg(feature = "cluster")]
            Backend::Cluster(cluster) => WriteSession::Cluster(cluster.write_session()),
        }
    }
}

#[expect(missing_docs, reason = "the verbs are the broker's")]
impl WriteSession {
    pub fn add_value<'a>(
        &self,
        gathered: &mut Gathered<'a>,
        topic: &str,
        partition: u32,
        value: &'a [u8],
    ) -> Result<Ticket> {
        match self {
            WriteSession::Broker(session) => session.add_value(&mut gathered.broker, topic, partition, value),
            #[cfg(feature = "cluster")]
            WriteSession::Cluster(session) => session.add_value(&mut gathered.cluster, topic, partition, value),
        }
    }

    pub fn add_last<'a>(
        &self,
        gathered: &mut Gathered<'a>,
        topic: &str,
        partition: Option<u32>,
        from: &mut Records<'a>,
        numbering: Option<Numbering>,
    ) -> Result<Ticket> {
        match self {
            WriteSession::Broker(session) => session.add_last(&mut gathered.broker, topic, partition, from, numbering),
            #[cfg(feature = "cluster")]
            WriteSession::Cluster(session) => {
                session.add_last(&mut gathered.cluster, topic, partition, from, numbering)
            }
        }
    }

    pub fn enter(&mut self, transaction: &Transaction) {
        match (self, transaction) {
            (WriteSession::Broker(session), Transaction::Broker(transaction)) => session.enter(transaction),
            #[cfg(feature = "cluster")]
            (WriteSession::Cluster(session), Transaction::Cluster(transaction)) => session.enter(transaction),
            #[cfg(feature = "cluster")]
            _ => unreachable!("a session and a transaction are of one backend"),
        }
    }

    pub fn leave(&mut self) {
        form!(WriteSession, self, form => form.leave())
    }

    pub fn write(&mut self, gathered: &mut Gathered<'_>) {
        match self {
            WriteSession::Broker(session) => session.write(&mut gathered.broker),
            #[cfg(feature = "cluster")]
            WriteSession::Cluster(session) => session.write(&mut gathered.cluster),
        }
    }

    pub fn take_wait(&mut self) -> Duration {
        match self {
            WriteSession::Broker(session) => session.take_wait(),
            #[cfg(feature = "cluster")]
            WriteSession::Cluster(_) => Duration::ZERO,
        }
    }

    pub fn sync_soon(&self) {
        form!(WriteSession, self, form => form.sync_soon())
    }

    pub fn make_durable(&mut self) {
        form!(WriteSession, self, form => form.make_durable())
    }

    pub fn clear(&mut self) {
        form!(WriteSession, self, form => form.clear())
    }

    pub fn offset(&self, ticket: Ticket) -> Result<Option<u64>> {
        form!(WriteSession, self, form => form.offset(ticket))
    }

    pub fn topic_of(&self, ticket: Ticket) -> &str {
        form!(WriteSession, self, form => form.target_of(ticket).topic())
    }

    pub fn partition_of(&self, ticket: Ticket) -> u32 {
        form!(WriteSession, self, form => form.target_of(ticket).partition())
    }

    /// With `--explain`: what was written where, once it is durable.
    pub fn steps(&self, flush: Flush) -> Vec<String> {
        match self {
            WriteSession::Broker(session) => {
                let step = |(file, bytes): (&Path, Range<u64>)| {
                    format!("wrote {} bytes {}..{} (flush: {flush})", file.display(), bytes.start, bytes.end)
                };
                session.places().map(step).collect()
            }
            #[cfg(feature = "cluster")]
            WriteSession::Cluster(session) => session.steps(),
        }
    }

    /// Where on disk each batch stands that was stored; nowhere, where the log is not of this process.
    pub fn places(&self) -> impl Iterator<Item = (&Path, Range<u64>)> {
        let on_disk = match self {
            WriteSession::Broker(session) => Some(session.places()),
            #[cfg(feature = "cluster")]
            WriteSession::Cluster(_) => None,
        };
        on_disk.into_iter().flatten()
    }
}

//! A transaction that a connection of the text protocol, or an embedded producer, has begun on the cluster.
//!
//! It has the shape of the [broker's](crate::broker::Transaction): it ends with [`Transaction::end`] or [`Transaction::abort`]; one
//! that is dropped before is aborted.

use super::Open;
use crate::{
    broker::{
        LastTransaction, Outcome, Permit, ProducerIdentity, Result,
        transaction::{Doom, commit_unless},
    },
    cluster::Cluster,
};
use rdkafka::{TopicPartitionList, consumer::ConsumerGroupMetadata, producer::Producer};
use std::{sync::Arc, time::Duration};

/// How long the end of a connection waits for the cluster to abort what it left open.
const LEAVING: Duration = Duration::from_secs(5);

/// A transaction that has just begun.
#[derive(Debug)]
pub struct Begun {
    /// The transaction.
    pub transaction: Transaction,
    /// What became of the id's last transaction: librdkafka does not tell.
    pub last: Option<LastTransaction>,
}

/// An open transaction, or one that was lost and whose owner does not know it yet.
#[derive(Debug)]
pub struct Transaction {
    cluster: Cluster,
    permit: Permit,
    open: Arc<Open>,
    /// The first error in it, after which it can only be aborted.
    doomed: Doom,
    /// Whether it was ended.
    is_over: bool,
}

impl Transaction {
    pub(super) fn new(cluster: Cluster, permit: Permit, open: Arc<Open>) -> Transaction {
        Transaction { cluster, permit, open, doomed: Doom::default(), is_over: false }
    }

    pub(in crate::cluster) fn open(&self) -> Arc<Open> {
        self.open.clone()
    }

    /// The transactional id.
    pub fn transactional_id(&self) -> &Arc<str> {
        &self.open.id
    }

    /// The pair that its records bear: librdkafka does not tell.
    pub fn identity(&self) -> Option<ProducerIdentity> {
        None
    }

    /// An error if nothing more can be written in it: it was lost, or something went wrong in it.
    pub fn check(&self) -> Result<()> {
        self.check_not_lost()?;
        self.permit.check()?;
        self.doomed.check()
    }

    /// An error if it was lost, as far as that is known here.
    pub fn check_not_lost(&self) -> Result<()> {
        self.open.check_not_lost()
    }

    /// Something went wrong in it: from here on it can only be aborted. The first error counts.
    pub fn doom(&mut self, why: impl Into<String>) {
        self.doomed.doom(why);
    }

    /// Ends it: all of it takes effect. After an error none of it does, unless the error says that nobody knows.
    pub fn end(&mut self) -> Result<()> {
        commit_unless(self.permit.check().and_then(|()| self.doomed.check()), |outcome| self.end_as(outcome))
    }

    /// Ends it: none of it takes effect.
    pub fn abort(&mut self) -> Result<()> {
        self.end_as(Outcome::Abort)
    }

    fn end_as(&mut self, outcome: Outcome) -> Result<()> {
        self.end_within(outcome, self.cluster.shared.options.timeout)
    }

    fn end_within(&mut self, outcome: Outcome, patience: Duration) -> Result<()> {
        self.is_over = true;
        let ended = self.open.finish(outcome, patience);
        let (transactions, open) = (&self.cluster.shared.transactions, &self.open);
        transactions.remove(open);
        if ended.is_ok() && !open.producer.sender.is_over() {
            transactions.idle.keep(&open.id, open.timeout_ms, self.cluster.door.caller_itself(), open.producer.clone());
        }
        ended
    }

    /// Commits offsets of a group in it, on behalf of the member that says what it is.
    pub fn send_offsets(
        &self,
        group: &str,
        offsets: &TopicPartitionList,
        member: &ConsumerGroupMetadata,
    ) -> Result<()> {
        self.check()?;
        self.open.held().groups.insert(group.into());
        let producer = self.open.producer.sender.producer();
        let sent = producer.send_offsets_to_transaction(offsets, member, self.cluster.shared.options.timeout);
        sent.map_err(|error| self.open.refusal("committing offsets in the transaction", &error))
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.is_over {
            // If the cluster does not answer, it aborts it when its time is over.
            let _ = self.end_within(Outcome::Abort, LEAVING.min(self.cluster.shared.options.timeout));
        }
    }
}

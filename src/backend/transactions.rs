//! Transactions.

use super::{Backend, form};
use crate::broker::{
    self, LastTransaction, ProducerIdentity, Result, TransactionDescription, TransactionSummary, group::Committer,
};
#[cfg(feature = "cluster")]
use crate::cluster;
use std::sync::Arc;

/// An open transaction, or one that was lost and whose owner does not know it yet.
#[derive(Debug)]
#[expect(missing_docs, reason = "the forms are the backend's")]
pub enum Transaction {
    Broker(broker::Transaction),
    #[cfg(feature = "cluster")]
    Cluster(cluster::Transaction),
}

/// A transaction that has just begun.
#[derive(Debug)]
pub struct Begun {
    /// The transaction.
    pub transaction: Transaction,
    /// The transactional id's last transaction that held anything.
    pub last: Option<LastTransaction>,
}

#[expect(missing_docs, reason = "the verbs are the broker's")]
impl Backend {
    pub fn begin_transaction(&self, transactional_id: &str, timeout_ms: u64) -> Result<Begun> {
        match self {
            Backend::Broker(broker) => {
                let broker::Begun { transaction, last } = broker.begin_transaction(transactional_id, timeout_ms)?;
                Ok(Begun { transaction: Transaction::Broker(transaction), last })
            }
            #[cfg(feature = "cluster")]
            Backend::Cluster(cluster) => {
                let cluster::Begun { transaction, last } = cluster.begin_transaction(transactional_id, timeout_ms)?;
                Ok(Begun { transaction: Transaction::Cluster(transaction), last })
            }
        }
    }

    pub fn commit_offsets_in(
        &self,
        transaction: &Transaction,
        group: &str,
        committer: Committer<'_>,
        offsets: &[(&str, u32, u64)],
    ) -> Result<()> {
        match (self, transaction) {
            (Backend::Broker(broker), Transaction::Broker(transaction)) => {
                broker.commit_offsets_in(transaction, group, committer, offsets)
            }
            #[cfg(feature = "cluster")]
            (Backend::Cluster(cluster), Transaction::Cluster(transaction)) => {
                cluster.commit_offsets_in(transaction, group, committer, offsets)
            }
            #[cfg(feature = "cluster")]
            _ => unreachable!("a transaction is of one backend"),
        }
    }

    pub fn transactions(&self) -> Result<Vec<TransactionSummary>> {
        form!(Backend, self, form => form.transactions())
    }

    pub fn transaction(&self, transactional_id: &str) -> Result<TransactionDescription> {
        form!(Backend, self, form => form.transaction(transactional_id))
    }

    pub fn abort_transaction(&self, transactional_id: &str) -> Result<()> {
        form!(Backend, self, form => form.abort_transaction(transactional_id))
    }
}

#[expect(missing_docs, reason = "the verbs are the broker's")]
impl Transaction {
    pub fn transactional_id(&self) -> &Arc<str> {
        form!(Transaction, self, form => form.transactional_id())
    }

    /// The pair that its records bear, where that is known.
    pub fn identity(&self) -> Option<ProducerIdentity> {
        match self {
            Transaction::Broker(transaction) => Some(transaction.identity()),
            #[cfg(feature = "cluster")]
            Transaction::Cluster(transaction) => transaction.identity(),
        }
    }

    pub fn check(&self) -> Result<()> {
        form!(Transaction, self, form => form.check())
    }

    pub fn check_not_lost(&self) -> Result<()> {
        form!(Transaction, self, form => form.check_not_lost())
    }

    pub fn doom(&mut self, why: impl Into<String>) {
        form!(Transaction, self, form => form.doom(why))
    }

    pub fn end(&mut self) -> Result<()> {
        form!(Transaction, self, form => form.end())
    }

    pub fn abort(&mut self) -> Result<()> {
        form!(Transaction, self, form => form.abort())
    }
}

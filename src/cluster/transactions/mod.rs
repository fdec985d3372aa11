//! Transactions of the cluster that this program has begun for its clients.
//!
//! ```text
//! BEGIN ──► a transactional producer of that id, which fences whoever had it ──► Open ──► END, ABORT
//!             ▲                                                                   │
//!             └── kept for the same caller's next one, for 10 s ◄─────────────────┘
//! ```
//!
//! What the cluster's coordinator decides is so; what is known here is which transactions this program has open. librdkafka tells no
//! producer id and no epoch, nor how the last transaction of an id ended.

mod handle;
mod idle;
mod open;
#[cfg(test)]
mod tests;

pub use handle::{Begun, Transaction};
pub(super) use open::Open;

use super::{Cluster, errors::refused, native::GroupMember, producer::Sender};
use crate::broker::{
    Code, Error, OFFSETS_TOPIC, PartitionOfTransaction, ProducerIdentity, Result, TransactionDescription,
    TransactionSummary,
    group::{Committer, classic},
};
use crate::security::Operation;
use idle::Idle;
use open::Transactional;
use rdkafka::{error::KafkaError, producer::Producer, types::RDKafkaErrorCode};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// The shortest time that a transaction may be allowed, in ms.
const TIMEOUT_MS_MIN: u64 = 1000;
/// What a line of text and a request of Kafka's take of a name.
const ID_BYTES_MAX: usize = i16::MAX as usize;

/// The transactions that are open here, and producers that may begin the next one.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    open: Mutex<BTreeMap<Arc<str>, Arc<Open>>>,
    /// Ids that somebody begins with at this moment.
    beginning: Mutex<BTreeSet<String>>,
    idle: Arc<Idle>,
}

/// Somebody begins with this id.
struct Beginning<'a> {
    all: &'a Mutex<BTreeSet<String>>,
    id: &'a str,
}

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        self.all.lock().expect("no panic under the lock").remove(self.id);
    }
}

impl Transactions {
    fn open(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Open>>> {
        self.open.lock().expect("no panic under the lock")
    }

    fn find(&self, id: &str) -> Result<Arc<Open>> {
        self.open().get(id).cloned().ok_or_else(|| Error::UnknownTransactionalId(id.into()))
    }

    /// It is open no more, if another one is not already.
    fn remove(&self, open: &Arc<Open>) {
        let mut all = self.open();
        if all.get(&open.id).is_some_and(|known| Arc::ptr_eq(known, open)) {
            all.remove(&open.id);
        }
    }

    fn beginning<'a>(&'a self, id: &'a str) -> Result<Beginning<'a>> {
        let all = &self.beginning;
        if all.lock().expect("no panic under the lock").insert(id.into()) {
            return Ok(Beginning { all, id });
        }
        Err(Error::ConcurrentTransactions(format!(
            "somebody else begins with the transactional id '{id}' at this moment"
        )))
    }
}

impl Cluster {
    /// Begins a transaction, and fences whoever had the id before, wherever that is: what it left open is aborted. It may take so
    /// many ms, from 1 s on.
    pub fn begin_transaction(&self, transactional_id: &str, timeout_ms: u64) -> Result<Begun> {
        let permit = self.door.ask_transactional_id(Operation::Write, transactional_id)?;
        let transactions = &self.shared.transactions;
        check_id(transactional_id)?;
        if !(TIMEOUT_MS_MIN..=i32::MAX as u64).contains(&timeout_ms) {
            let why = format!(
                "a transaction cannot have {timeout_ms} ms; it is from {TIMEOUT_MS_MIN} on, as far as the cluster allows"
            );
            return Err(Error::InvalidTransactionTimeout(why));
        }
        let _beginning = transactions.beginning(transactional_id)?;
        let mut idle = transactions.idle.take(transactional_id, timeout_ms, self.door.caller_itself());
        let producer = loop {
            let (producer, is_new) = match idle.take() {
                Some(producer) => (producer, false),
                None => (Arc::new(self.transactional(transactional_id, timeout_ms)?), true),
            };
            match producer.sender.producer().begin_transaction() {
                Ok(()) => break producer,
                Err(error) if is_new => return Err(refused("beginning the transaction", &error)),
                Err(_) => {}
            }
        };
        let open =
            Arc::new(Open::new(transactional_id, producer, timeout_ms, self.now_ms(), self.shared.options.timeout));
        if let Some(before) = transactions.open().insert(open.id.clone(), open.clone()) {
            before.fence();
        }
        Ok(Begun { transaction: Transaction::new(self.clone(), permit, open), last: None })
    }

    /// A producer that has the id alone.
    fn transactional(&self, id: &str, timeout_ms: u64) -> Result<Transactional> {
        let (options, transactions) = (&self.shared.options, &self.shared.transactions);
        let taken = self.shared.room().or_else(|_| {
            transactions.idle.clear();
            self.shared.clients.take()
        })?;
        let known = &self.shared.known;
        let sender = Sender::of_transactions(options, id, timeout_ms, known.gives_up().clone())?;
        let begun = known.insist_in_steps(options.timeout, |time| sender.producer().init_transactions(time));
        begun.map_err(|error| not_begun(&sender, &error, options.timeout))?;
        Ok(Transactional { sender: Arc::new(sender), _taken: taken })
    }

    /// Commits offsets of a group in a transaction: on behalf of the member that is named, or of nobody.
    pub fn commit_offsets_in(
        &self,
        transaction: &Transaction,
        group: &str,
        committer: Committer<'_>,
        offsets: &[(&str, u32, u64)],
    ) -> Result<()> {
        self.door.ask_group(Operation::Read, group)?;
        offsets.iter().try_for_each(|(topic, ..)| self.door.ask_topic(Operation::Read, topic).map(drop))?;
        transaction.check()?;
        let member = match committer {
            Committer::Anybody | Committer::Outsider => {
                GroupMember { group, id: "", instance_id: None, generation: -1 }
            }
            Committer::Member { sender: classic::Sender { member_id, instance_id }, generation } => {
                GroupMember { group, id: member_id, instance_id, generation }
            }
        };
        transaction.open().commit_offsets(member, offsets)
    }

    /// The transactions that this program has open, by id.
    pub fn transactions(&self) -> Result<Vec<TransactionSummary>> {
        let all = self.shared.transactions.open();
        let seen = all.values().filter(|open| self.door.ask_transactional_id(Operation::Describe, &open.id).is_ok());
        Ok(seen.map(|open| self.summary(open)).collect())
    }

    /// What is known here of a transaction that this program has open.
    pub fn transaction(&self, transactional_id: &str) -> Result<TransactionDescription> {
        self.door.ask_transactional_id(Operation::Describe, transactional_id)?;
        let open = self.shared.transactions.find(transactional_id)?;
        let held = open.held();
        let partition = |(topic, partition): &(Arc<str>, u32)| PartitionOfTransaction {
            topic: topic.clone(),
            partition: *partition,
            first: None,
        };
        let seen = held.partitions.iter().filter(|(topic, _)| self.door.may_describe(topic));
        let partitions = seen.map(partition).collect();
        drop(held);
        Ok(TransactionDescription { summary: self.summary(&open), last: None, partitions })
    }

    fn summary(&self, open: &Open) -> TransactionSummary {
        let held = open.held();
        let of_groups = (!held.groups.is_empty()).then_some(OFFSETS_TOPIC);
        let all = held.partitions.iter().map(|(topic, _)| &**topic).chain(of_groups);
        TransactionSummary {
            transactional_id: open.id.clone(),
            state: "ongoing",
            kafka_state: "Ongoing",
            producer: ProducerIdentity::UNKNOWN,
            timeout_ms: open.timeout_ms,
            since_ms: open.since_ms,
            partitions: all.filter(|topic| self.door.may_describe(topic)).count(),
        }
    }

    /// Answers all that is unanswered in them.
    pub(super) fn give_up_transactions(&self) {
        let all: Vec<_> = self.shared.transactions.open().values().cloned().collect();
        all.iter().for_each(|open| open.producer.sender.give_up());
    }

    /// Aborts a transaction that this program has open for somebody else.
    pub fn abort_transaction(&self, transactional_id: &str) -> Result<()> {
        self.door.ask_transactional_id(Operation::Write, transactional_id)?;
        let open = self.shared.transactions.find(transactional_id)?;
        let aborted = open.abort_for_others();
        self.shared.transactions.remove(&open);
        aborted?;
        self.door.note("transaction-aborted", &[("transactional-id", &transactional_id)]);
        Ok(())
    }
}

fn check_id(id: &str) -> Result<()> {
    if (1..=ID_BYTES_MAX).contains(&id.len()) && !id.contains('\0') {
        return Ok(());
    }
    Err(Error::InvalidTransactionalId(format!("a transactional id has 1 to {ID_BYTES_MAX} bytes, none of them NUL")))
}

fn not_begun(sender: &Sender, error: &KafkaError, time: Duration) -> Error {
    use RDKafkaErrorCode::*;
    let (code, why) = match error {
        KafkaError::Transaction(error) => (error.code(), error.string()),
        other => return refused("beginning the transaction", other),
    };
    match code {
        OperationTimedOut | MessageTimedOut | TimedOutQueue | RequestTimedOut => {
            let heard = sender.last_heard().map_or(String::new(), |heard| format!(": {heard}"));
            let why = format!("the cluster did not begin the transaction within {} ms{heard}", time.as_millis());
            Error::OfCluster { code: Code::RequestTimedOut, why }
        }
        InvalidTransactionTimeout => {
            Error::InvalidTransactionTimeout(format!("the cluster does not allow a transaction so much time: {why}"))
        }
        ConcurrentTransactions => Error::ConcurrentTransactions(why),
        _ => match refused("beginning the transaction", error) {
            Error::OfCluster { code, .. } => {
                Error::OfCluster { code, why: format!("beginning the transaction: {why}") }
            }
            other => other,
        },
    }
}

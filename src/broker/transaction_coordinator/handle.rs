//! A transaction that a connection of the text protocol, or an embedded producer, has begun.
//!
//! It ends with [`Transaction::end`] or [`Transaction::abort`]; one that is dropped before is aborted. It may be lost meanwhile:
//! fenced by whoever begins with the same id, aborted when its time is over, or by an operator. Then whatever is tried in it
//! gets the error that says so, and nothing lands outside of it.

use super::{
    IdCell, InTransaction, WAIT,
    ending::{Ended, not_everywhere},
    requests::Started,
    writing::IfAbsent,
};
use crate::{
    broker::{
        Broker, Error, Outcome, Permit, Result,
        transaction::{Doom, Epochs, LastTransaction, Phase, ProducerIdentity, Start, TransactionState, commit_unless},
    },
    security::Operation,
};
use std::{sync::Arc, time::Instant};

/// The shortest time that text may allow a transaction, in ms.
const TIMEOUT_MS_MIN: u64 = 1000;

/// A transaction that has just begun.
#[derive(Debug)]
pub struct Begun {
    /// The transaction.
    pub transaction: Transaction,
    /// The transactional id's last transaction that held anything.
    pub last: Option<LastTransaction>,
}

/// An open transaction, or one that was lost and whose owner does not know it yet.
#[derive(Debug)]
pub struct Transaction {
    broker: Broker,
    /// To write with the id.
    permit: Permit,
    cell: Arc<IdCell>,
    identity: ProducerIdentity,
    /// The first error in it, after which it can only be aborted.
    doomed: Doom,
    /// Whether it was ended.
    is_over: bool,
}

impl Broker {
    /// Begins a transaction, and fences whoever had the id before: what it left open is aborted. One that is being ended is waited
    /// for, for 5 s; then the answer is [`Error::ConcurrentTransactions`]. It may take so many ms, from 1 s on.
    pub fn begin_transaction(&self, transactional_id: &str, timeout_ms: u64) -> Result<Begun> {
        let permit = self.ask_transactional_id(Operation::Write, transactional_id)?;
        let (state, deadline) = (self.state(&permit), Instant::now() + WAIT);
        let timeout_ms = i64::try_from(timeout_ms).unwrap_or(i64::MAX);
        let timeout_ms = state.transaction_timeout(timeout_ms, TIMEOUT_MS_MIN)?;
        loop {
            let cell = state.find_or_make_id(transactional_id)?;
            let mut last = None;
            let (now_ms, new_id) = (state.env.clock.now_ms(), || state.env.new_producer_id());
            let started = state.start(&cell, |before| {
                last = before.and_then(|before| before.last);
                match before {
                    Some(before) => before.begin(now_ms, timeout_ms, new_id),
                    None => Ok(Start::Ready(TransactionState::first_begin(now_ms, timeout_ms, new_id()?))),
                }
            });
            match started {
                Ok(Started::With(identity)) => {
                    let broker = self.clone();
                    let transaction = Transaction {
                        broker,
                        permit: permit.clone(),
                        cell,
                        identity,
                        doomed: Doom::default(),
                        is_over: false,
                    };
                    return Ok(Begun { transaction, last });
                }
                Ok(Started::Aborted) => {}
                Err(Error::ConcurrentTransactions(_)) if cell.may_become_free() && Instant::now() < deadline => {
                    cell.wait_until_idle(deadline);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Transaction {
    /// The transactional id.
    pub fn transactional_id(&self) -> &Arc<str> {
        &self.cell.name
    }

    /// The pair that its records bear.
    pub fn identity(&self) -> ProducerIdentity {
        self.identity
    }

    /// An error if nothing more can be written in it: it was lost, or something went wrong in it.
    pub fn check(&self) -> Result<()> {
        self.check_not_lost()?;
        self.permit.check()?;
        self.doomed.check()
    }

    /// An error if it was lost, and how.
    pub fn check_not_lost(&self) -> Result<()> {
        let is_mine =
            |known: &TransactionState| known.producer == self.identity && matches!(known.phase, Phase::Ongoing { .. });
        let state = self.cell.read();
        if state.free().is_ok() && state.known.as_ref().is_some_and(is_mine) {
            return Ok(());
        }
        drop(state);
        Err(self.lost())
    }

    /// Something went wrong in it: from here on it can only be aborted. The first error counts.
    pub fn doom(&mut self, why: impl Into<String>) {
        self.doomed.doom(why);
    }

    /// Ends it: all of it takes effect. After an error none of it does, but for two: [`Error::TimedOut`], whose outcome is
    /// decided, and its markers follow as soon as they can be written; and an [`Error::Storage`] which says that nobody knows yet.
    pub fn end(&mut self) -> Result<()> {
        commit_unless(self.permit.check().and_then(|()| self.doomed.check()), |outcome| self.end_as(outcome))
    }

    /// Ends it: none of it takes effect.
    pub fn abort(&mut self) -> Result<()> {
        self.end_as(Outcome::Abort)
    }

    fn end_as(&mut self, outcome: Outcome) -> Result<()> {
        if std::mem::replace(&mut self.is_over, true) {
            return Err(self.lost());
        }
        let state = self.broker.state(&self.permit);
        let new_id = || state.env.new_producer_id();
        let decide = |known: &TransactionState| match known.phase {
            Phase::Ongoing { .. } => known.end(self.identity, outcome, Epochs::Raised, new_id),
            _ => Err(known.lost(self.identity)),
        };
        match state.end(&self.cell, decide) {
            Ok(Ended { left: None, .. }) => Ok(()),
            Ok(Ended { left: Some(why), .. }) => self.wait_for_markers(outcome, &why),
            Err(storage @ Error::Storage(_)) => Err(storage),
            Err(_) => Err(self.lost()),
        }
    }

    /// The outcome is decided; maintenance goes on to write its markers.
    fn wait_for_markers(&self, outcome: Outcome, why: &Error) -> Result<()> {
        self.cell.wait_until_idle(Instant::now() + WAIT);
        let state = self.cell.read();
        let is_last = |known: &TransactionState| known.outcome_of(self.identity).is_some();
        if state.is_prepared() && state.known.as_ref().is_some_and(is_last) {
            return Err(not_everywhere(outcome, why));
        }
        Ok(())
    }

    /// Why it is not there any more.
    fn lost(&self) -> Error {
        self.cell.lost(self.identity)
    }

    /// How a session writes in it.
    pub(in crate::broker) fn writer(&self) -> InTransaction {
        let (cell, identity) = (self.cell.clone(), self.identity);
        InTransaction { cell, identity, if_absent: IfAbsent::Add, is_named: true }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.is_over
            && let Err(Error::Storage(why)) = self.abort()
        {
            // Maintenance goes on with it.
            self.broker.state(&self.permit).env.tell(&format!("{}: {why}", self.cell.name));
        }
    }
}

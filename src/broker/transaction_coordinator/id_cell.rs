//! A transactional id with all that the coordinator knows of it, under its lock.

use super::WAIT;
use crate::broker::{
    Error, Result, Waiter, Waiters,
    transaction::{Phase, ProducerIdentity, TransactionState},
};
use std::{
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Instant,
};

/// A transactional id with its lock. Who writes in its transaction has the lock shared.
#[derive(Debug)]
pub(super) struct IdCell {
    pub(super) name: Arc<str>,
    state: RwLock<IdState>,
    /// Those who wait for the end of what goes on without the lock.
    changed: Waiters,
}

#[derive(Debug)]
pub(super) struct IdState {
    /// What the log has of it; `None`: nothing yet.
    pub(super) known: Option<TransactionState>,
    /// When that was written, in ms.
    pub(super) written_ms: i64,
    pub(super) hold: Hold,
    /// Whether it has changed since the start: of what a connection had open before, nobody is left to end it.
    pub(super) is_attended: bool,
    /// Whether the operator was told what failed last.
    pub(super) is_told: bool,
    /// It is not found any more, and another may have its name.
    pub(super) is_gone: bool,
}

/// What stands in the way of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Nothing.
    Free,
    /// Somebody settles what was written, or writes markers.
    Busy,
    /// The disk had no room for the prepare line: the transaction is to be aborted.
    AbortDue,
    /// Nobody knows whether the prepare line is on disk.
    InDoubt,
}

impl IdCell {
    pub(super) fn new(name: &str, known: Option<TransactionState>, written_ms: i64) -> IdCell {
        let state = IdState { known, written_ms, hold: Hold::Free, is_attended: false, is_told: false, is_gone: false };
        IdCell { name: name.into(), state: RwLock::new(state), changed: Waiters::default() }
    }

    /// The state, shared with all who write in the transaction.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, IdState> {
        self.state.read().expect("no panic under an id's lock")
    }

    /// The state, alone: whoever wrote in the transaction has appended it.
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, IdState> {
        self.state.write().expect("no panic under an id's lock")
    }

    /// Puts a hold on it, or takes it away, and wakes those who wait for that.
    pub(super) fn hold(&self, hold: Hold) {
        self.write().hold = hold;
        self.wake();
    }

    /// Wakes those who wait for what goes on without the lock.
    pub(super) fn wake(&self) {
        self.changed.wake();
    }

    /// Whether it is worth waiting for what stands in the way of requests.
    pub(super) fn may_become_free(&self) -> bool {
        self.read().hold != Hold::InDoubt
    }

    /// Why the transaction of this pair is not there any more. Whoever is at ending it is waited for.
    pub(super) fn lost(&self, identity: ProducerIdentity) -> Error {
        self.wait_until_idle(Instant::now() + WAIT);
        let state = self.read();
        match (state.free(), &state.known) {
            // It is being aborted, or nobody knows what became of it.
            (Err(Error::ConcurrentTransactions(why)), _) => Error::InvalidTxnState(why),
            (Err(error), _) => error,
            (Ok(()), Some(known)) => known.lost(identity),
            (Ok(()), None) => Error::InvalidTxnState("the transaction has ended".into()),
        }
    }

    /// Waits until what goes on without the lock has come to its end, at most until the deadline.
    pub(super) fn wait_until_idle(&self, deadline: Instant) {
        let waiter = Waiter::new();
        let _registered = self.changed.register(&waiter);
        while !self.read().is_idle() && waiter.wait(Some(deadline)) {}
    }
}

impl IdState {
    /// Whether nothing goes on that will come to an end.
    fn is_idle(&self) -> bool {
        match self.hold {
            Hold::Free => !self.is_prepared(),
            Hold::InDoubt => true,
            Hold::Busy | Hold::AbortDue => false,
        }
    }

    /// Whether its outcome is decided and markers are to be written.
    pub(super) fn is_prepared(&self) -> bool {
        matches!(self.known, Some(TransactionState { phase: Phase::Prepared { .. }, .. }))
    }

    /// An error if something stands in the way of a request.
    pub(super) fn free(&self) -> Result<()> {
        let why = match self.hold {
            Hold::Free if self.is_gone => "the transactional id has just expired; try again",
            Hold::Free => return Ok(()),
            Hold::Busy => "the last transaction of this id is still being ended; try again",
            Hold::AbortDue => "the transaction is to be aborted, and the disk has no room for that; make room",
            Hold::InDoubt => {
                "the disk failed while the end of the transaction was written; a restart of the broker finds out how it ended"
            }
        };
        Err(Error::ConcurrentTransactions(why.into()))
    }
}

//! The coordinator of transactions: clock, locks, log and markers around the state machine of
//! [`transaction`](super::transaction).
//!
//! ```text
//! BEGIN, InitProducerId ──┐             ┌ TransactionState   where the id stands (pure)
//! PRODUCE in one        ──┼── IdCell ───┤ hold               who is at work on it without the lock
//! END, EndTxn           ──┤  (a lock)   └ changed            who waits for that
//! timeouts, a restart   ──┘
//!
//! END:  lock ─► settle what was written ─► prepare line, durable ─► markers, durable ─► complete line ─► OK
//!       └ from here on nobody writes       └ from here on the outcome never changes
//! ```
//!
//! Rules that always hold:
//! - **One id, one lock.** Whoever writes in a transaction has it shared, from the check of producer, epoch and partition through
//!   the append. Whoever changes the state has it alone, while the line of the change is appended. So no record of a
//!   transaction comes behind its marker.
//! - The lock is not held while something is synced, or settled, or a marker written. Whoever does that has put a
//!   [`Hold`](id_cell::Hold) on the id before: meanwhile others are answered CONCURRENT_TRANSACTIONS, or wait. Only what hangs
//!   in a partition, which is rare, is ended under the lock.
//! - A partition is in the state's line before a record of the transaction is in the partition, and the line is as durable as
//!   the flush mode promises before the record is acknowledged.
//! - The records are settled before the prepare line is written: where a log of the transaction may have lost one, it is aborted.
//!   The prepare line is durable before the first marker, and every marker before the complete line.
//! - A prepare line that was not written changed nothing: the transaction is aborted as soon as there is room. One that may or may
//!   not stand there leaves the id alone until a restart has read the log anew.
//! - A marker is written where records of the transaction wait for one, and nowhere else. So it can be tried again at any
//!   time: after a fault, after a restart.
//! - A partition that is opened may hold an open transaction of which the state's log says that it is over, or nothing: it
//!   gets the marker then, see [`reopened`].

#[cfg(all(test, not(shuttle)))]
mod concurrency_tests;
#[cfg(all(test, not(shuttle)))]
mod crash_tests;
mod ending;
mod handle;
mod id_cell;
mod reopened;
mod requests;
mod state_log;
mod summary;
#[cfg(all(test, not(shuttle)))]
mod tests;
mod upkeep;
mod writing;

pub use handle::{Begun, Transaction};
pub use requests::TopicPartition;
#[cfg(feature = "kafka")]
pub(super) use state_log::TOPIC as STATE_TOPIC;
pub use summary::{PartitionOfTransaction, TransactionDescription, TransactionSummary};
pub use writing::IfAbsent;
pub(super) use writing::{InTransaction, WrittenInTransaction};

use super::{
    BrokerState, Error, Partition, Result, internal_log::LogWrite, transaction::TransactionState,
    words::STRING_BYTES_MAX,
};
use id_cell::{IdCell, IdState};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, RwLock, RwLockReadGuard, atomic::AtomicI64},
    time::Duration,
};

/// How many transactional ids there may be at once.
const IDS_MAX: usize = if cfg!(test) { 100 } else { 250_000 };
/// How long BEGIN waits for the transaction before it, and END for its markers.
const WAIT: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 5000 });

/// All transactional ids.
#[derive(Debug)]
pub(super) struct TransactionCoordinator {
    /// `None` until the log is read back.
    ids: RwLock<Option<Ids>>,
    /// When maintenance will look at them, in ms; `i64::MAX`: it need not.
    looks_at_ms: AtomicI64,
}

/// The transactional ids.
#[derive(Debug, Default)]
struct Ids {
    by_name: BTreeMap<Arc<str>, Arc<IdCell>>,
    by_producer: HashMap<i64, Arc<IdCell>>,
    /// Whether part of the log could not be read: what is not known here may have been promised all the same.
    is_incomplete: bool,
}

impl Default for TransactionCoordinator {
    fn default() -> TransactionCoordinator {
        TransactionCoordinator { ids: RwLock::new(None), looks_at_ms: AtomicI64::new(i64::MAX) }
    }
}

impl Ids {
    fn insert(&mut self, cell: &Arc<IdCell>) {
        self.by_name.insert(cell.name.clone(), cell.clone());
    }

    /// The producer ids of the state lead to the cell, and those of the state before no more.
    fn lead(&mut self, cell: &Arc<IdCell>, before: Option<&TransactionState>, after: Option<&TransactionState>) {
        for id in before.into_iter().flat_map(TransactionState::producer_ids).flatten() {
            self.by_producer.remove(&id);
        }
        for id in after.into_iter().flat_map(TransactionState::producer_ids).flatten() {
            self.by_producer.insert(id, cell.clone());
        }
    }
}

impl BrokerState {
    /// The ids, after the log was read back.
    fn ids(&self) -> Result<RwLockReadGuard<'_, Option<Ids>>> {
        loop {
            let ids = self.transactions.ids.read().expect("no panic under the ids' lock");
            if ids.is_some() {
                return Ok(ids);
            }
            drop(ids);
            let mut ids = self.transactions.ids.write().expect("no panic under the ids' lock");
            if ids.is_none() {
                *ids = Some(self.read_ids_back()?);
            }
        }
    }

    fn read_ids_back(&self) -> Result<Ids> {
        let mut ids = Ids::default();
        let Some(log) = self.state_log()? else { return Ok(ids) };
        let read = state_log::read_back(&log, |what| self.env.tell(what))?;
        ids.is_incomplete = read.is_incomplete;
        for (name, found) in read.ids {
            let cell = Arc::new(IdCell::new(&name, Some(found.state), found.written_ms));
            ids.lead(&cell, None, cell.read().known.as_ref());
            ids.insert(&cell);
        }
        if self.may_have_lost_records(&log) {
            self.renew_all(&log, &ids);
        }
        if !ids.by_name.is_empty() {
            self.look_at_transactions_in(Duration::ZERO);
        }
        Ok(ids)
    }

    /// All transactional ids.
    fn id_cells(&self) -> Result<Vec<Arc<IdCell>>> {
        Ok(self.ids()?.iter().flat_map(|ids| ids.by_name.values()).cloned().collect())
    }

    fn find_id(&self, name: &str) -> Result<Option<Arc<IdCell>>> {
        Ok(self.ids()?.as_ref().and_then(|ids| ids.by_name.get(name)).cloned())
    }

    fn find_producer(&self, id: i64) -> Result<Option<Arc<IdCell>>> {
        Ok(self.ids()?.as_ref().and_then(|ids| ids.by_producer.get(&id)).cloned())
    }

    /// The cell of an id, made if it is not there.
    fn find_or_make_id(&self, name: &str) -> Result<Arc<IdCell>> {
        if name.is_empty() || name.len() > STRING_BYTES_MAX {
            let why = format!("a transactional id has 1 to {STRING_BYTES_MAX} bytes");
            return Err(Error::InvalidTransactionalId(why));
        }
        if let Some(cell) = self.find_id(name)? {
            return Ok(cell);
        }
        let mut ids = self.transactions.ids.write().expect("no panic under the ids' lock");
        let ids = ids.as_mut().expect("read back above");
        if let Some(cell) = ids.by_name.get(name) {
            return Ok(cell.clone());
        }
        if ids.by_name.len() >= IDS_MAX {
            return Err(Error::TooManyTransactionalIds(IDS_MAX));
        }
        let cell = Arc::new(IdCell::new(name, None, self.env.clock.now_ms()));
        ids.insert(&cell);
        Ok(cell)
    }

    /// Writes the next state of an id under its lock, and takes it over.
    fn to_state(
        &self,
        log: &Arc<Partition>,
        cell: &Arc<IdCell>,
        state: &mut IdState,
        next: TransactionState,
    ) -> Result<LogWrite> {
        let written = state_log::write(log, &cell.name, Some(&next))?;
        let before = state.known.replace(next);
        (state.written_ms, state.is_attended, state.is_told) = (self.env.clock.now_ms(), true, false);
        let is_new = |id| before.as_ref().is_none_or(|before| before.producer_ids() != id);
        if is_new(state.known.as_ref().expect("replaced above").producer_ids()) {
            let mut ids = self.transactions.ids.write().expect("no panic under the ids' lock");
            let ids = ids.as_mut().expect("a cell is there once they were read back");
            ids.lead(cell, before.as_ref(), state.known.as_ref());
        }
        self.look_when_due(state);
        Ok(written)
    }

    /// Takes an id away, under its lock: nobody finds it any more.
    fn take_away(&self, cell: &Arc<IdCell>, state: &mut IdState) {
        let mut ids = self.transactions.ids.write().expect("no panic under the ids' lock");
        let ids = ids.as_mut().expect("a cell is there once they were read back");
        if !std::mem::replace(&mut state.is_gone, true) {
            ids.by_name.remove(&cell.name);
            ids.lead(cell, state.known.as_ref(), None);
        }
    }
}

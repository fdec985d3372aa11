//! Writing in a transaction: whoever does it holds the id's lock shared from the check through the append.

use super::{IdCell, LogWrite};
use crate::{
    broker::{
        BrokerState, Error, Result, Sequence, Terms,
        transaction::{Parts, ProducerIdentity},
    },
    log::{Numbering, batches::Flags},
};
use std::sync::Arc;

/// What becomes of a write to a partition, or of a commit for a group, that is not in the transaction (KIP-890).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfAbsent {
    /// It is refused: [`Error::InvalidTxnState`].
    Refuse,
    /// It is refused, and the producer may abort and go on: [`Error::TransactionAbortable`].
    AskToAbort,
    /// It is added first; the first begins the transaction.
    Add,
    /// It would be added, but for a feature that is off: [`Error::FeatureOff`].
    Off(&'static str),
}

/// Who writes in a transaction.
#[derive(Clone, Debug)]
pub(in crate::broker) struct InTransaction {
    pub(super) cell: Arc<IdCell>,
    pub(in crate::broker) identity: ProducerIdentity,
    pub(in crate::broker) if_absent: IfAbsent,
}

/// What was written in a transaction.
#[derive(Debug)]
pub(in crate::broker) struct WrittenInTransaction<T> {
    pub(in crate::broker) written: T,
    /// The line that added something to the transaction: to be made durable before the write is acknowledged.
    pub(in crate::broker) added: Option<LogWrite>,
}

impl InTransaction {
    /// Whether it is one of this transactional id.
    pub(in crate::broker) fn is_of(&self, transactional_id: &str) -> bool {
        *self.cell.name == *transactional_id
    }

    /// How records are written whose producer does not number them.
    pub(in crate::broker) fn terms(&self) -> Terms {
        let ProducerIdentity { id: producer_id, epoch: producer_epoch } = self.identity;
        let producer = Some(Numbering { producer_id, producer_epoch, base_sequence: 0 });
        Terms { flags: Flags::TRANSACTIONAL, producer, sequence: Sequence::Next, whole: true }
    }

    /// What is answered to the owner of a [`Transaction`](super::Transaction) whose write in it was refused: that it was lost,
    /// and how, unless it is something else.
    pub(in crate::broker) fn refusal(&self, error: Error) -> Error {
        match error {
            Error::ProducerEpoch(_)
            | Error::ProducerFenced(_)
            | Error::InvalidProducerIdMapping(_)
            | Error::InvalidTxnState(_)
            | Error::ConcurrentTransactions(_) => self.cell.lost(self.identity),
            error => error,
        }
    }
}

impl BrokerState {
    /// The transaction that the producer of this pair is in, or may begin by writing.
    pub(in crate::broker) fn transaction_of(
        &self,
        identity: ProducerIdentity,
        if_absent: IfAbsent,
    ) -> Result<InTransaction> {
        let unknown = || {
            let id = identity.id;
            Error::InvalidProducerIdMapping(format!("producer {id} belongs to no transactional id"))
        };
        let cell = self.find_producer(identity.id)?.ok_or_else(unknown)?;
        Ok(InTransaction { cell, identity, if_absent })
    }

    /// Writes in a transaction: `write` appends to these parts only. Nobody can end the transaction meanwhile.
    pub(in crate::broker) fn write_in<T>(
        &self,
        transaction: &InTransaction,
        parts: &Parts,
        write: impl FnOnce() -> T,
    ) -> Result<WrittenInTransaction<T>> {
        let InTransaction { cell, identity, if_absent } = transaction;
        let mut added = None;
        loop {
            let state = cell.read();
            state.free()?;
            let known = state.known.as_ref().ok_or_else(|| super::requests::unknown_id(&cell.name))?;
            if known.holds(*identity, parts)? {
                let written = write();
                drop(state);
                return Ok(WrittenInTransaction { written, added });
            }
            drop(state);
            match if_absent {
                IfAbsent::Refuse => {
                    return Err(Error::InvalidTxnState("it is not in a transaction that is open".into()));
                }
                IfAbsent::AskToAbort => {
                    return Err(Error::TransactionAbortable("it is not in a transaction that is open".into()));
                }
                IfAbsent::Off(feature) => return Err(Error::FeatureOff(feature)),
                IfAbsent::Add => added = self.try_to_add(cell, *identity, parts)?.or(added),
            }
        }
    }
}

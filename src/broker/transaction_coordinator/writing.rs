//! Writing in a transaction: whoever does it holds the id's lock shared from the check through the append.

use super::{IdCell, LogWrite};
use crate::{
    broker::{
        Broker, BrokerState, Error, ResourceName, Result, Sequence, Terms,
        transaction::{Parts, ProducerIdentity},
    },
    log::{Numbering, batches::Flags},
    security::Operation,
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
    pub(super) if_absent: IfAbsent,
    /// Whether it is of the transactional id that the request names. By another name nothing comes into it.
    pub(super) is_named: bool,
}

/// What was written in a transaction.
#[derive(Debug)]
pub(in crate::broker) struct WrittenInTransaction<T> {
    pub(in crate::broker) written: T,
    /// The line that added something to the transaction: to be made durable before the write is acknowledged.
    pub(in crate::broker) added: Option<LogWrite>,
}

impl InTransaction {
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

impl Broker {
    /// The transaction that a Kafka producer writes in who names this transactional id and this pair: it is in it, or may begin it by
    /// that. What is in the transaction may be written by another name, too, as in Kafka, where a record has to be there already; but
    /// here only by who has the right to write with the producer's own id.
    pub(in crate::broker) fn transaction_of(
        &self,
        transactional_id: &str,
        identity: ProducerIdentity,
        if_absent: IfAbsent,
    ) -> Result<InTransaction> {
        let permit = self.ask_transactional_id(Operation::Write, transactional_id)?;
        let cell = self.state(&permit).find_producer(identity.id)?.ok_or_else(|| not_its_own(identity))?;
        let is_named = *cell.name == *transactional_id;
        if !is_named && self.may(Operation::Write, ResourceName::transactional_id(&cell.name)).is_err() {
            return Err(not_its_own(identity));
        }
        Ok(InTransaction { cell, identity, if_absent, is_named })
    }
}

/// What is answered to a producer that names a transactional id which is not its own.
fn not_its_own(identity: ProducerIdentity) -> Error {
    Error::InvalidProducerIdMapping(format!("producer {} does not belong to this transactional id", identity.id))
}

impl BrokerState {
    /// Writes in a transaction: `write` appends to these parts only. Nobody can end the transaction meanwhile.
    pub(in crate::broker) fn write_in<T>(
        &self,
        transaction: &InTransaction,
        parts: &Parts,
        write: impl FnOnce() -> T,
    ) -> Result<WrittenInTransaction<T>> {
        let InTransaction { cell, identity, if_absent, is_named } = transaction;
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
            if !is_named {
                return Err(not_its_own(*identity));
            }
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

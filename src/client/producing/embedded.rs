//! A producer to a broker in this process: no socket, no thread. Records are gathered by partition and written together.
//!
//! What the broker refuses over the network it refuses here too, with the same code and sentence.

use super::network::Outcome;
use crate::{
    backend::{Backend, Gathered, Transaction, WriteSession},
    broker::{self, Ticket},
    client::{Ack, Record, Refused},
    log::record::Records,
};
use std::{borrow::Cow, vec};

/// How many bytes are gathered before they are written.
const GATHERED_BYTES_MAX: usize = 1 << 20;

/// Gathers records and writes them in the caller's thread.
#[derive(Debug)]
pub(super) struct EmbeddedProducer {
    broker: Backend,
    written: WriteSession,
    gathered: Gathered<'static>,
    /// What becomes of each record, with its tag.
    waiting: Vec<(u64, broker::Result<Ticket>)>,
    bytes: usize,
    outcomes: Vec<Outcome>,
}

impl EmbeddedProducer {
    pub(super) fn new(broker: Backend) -> EmbeddedProducer {
        let (waiting, outcomes) = (Vec::new(), Vec::new());
        EmbeddedProducer {
            written: broker.write_session(),
            broker,
            gathered: Gathered::default(),
            waiting,
            bytes: 0,
            outcomes,
        }
    }

    pub(super) fn broker(&self) -> &Backend {
        &self.broker
    }

    /// From here on records are written in this transaction.
    pub(super) fn enter(&mut self, transaction: &Transaction) {
        self.written.enter(transaction);
    }

    /// From here on they are written outside of any.
    pub(super) fn leave(&mut self) {
        self.written.leave();
    }

    /// Takes a record; writes when enough has gathered.
    pub(super) fn push(&mut self, topic: &str, record: &Record, tag: u64) {
        let taken = self.take(topic, record);
        self.waiting.push((tag, taken));
        if self.bytes >= GATHERED_BYTES_MAX {
            self.flush();
        }
    }

    fn take(&mut self, topic: &str, record: &Record) -> broker::Result<Ticket> {
        let mut one = Records::default();
        let owned = |bytes: &Vec<u8>| Cow::Owned(bytes.clone());
        one.push(record.timestamp, record.key.as_ref().map(owned), record.value.as_ref().map(owned));
        record.headers.iter().for_each(|(name, value)| one.header(name.clone(), value.clone()));
        let bytes = one.size_of(one.last().expect("pushed above"));
        let ticket = self.written.add_last(&mut self.gathered, topic, record.partition, &mut one, None)?;
        self.bytes += bytes;
        Ok(ticket)
    }

    /// Writes all batches, then makes all of them durable.
    pub(super) fn flush(&mut self) {
        self.written.write(&mut self.gathered);
        self.written.make_durable();
        for (tag, taken) in self.waiting.drain(..) {
            let acknowledged = taken.and_then(|ticket| {
                let partition = self.written.partition_of(ticket);
                Ok(Ack { partition, offset: self.written.offset(ticket)? })
            });
            self.outcomes.push((tag, acknowledged.map_err(Refused::from)));
        }
        self.written.clear();
        self.bytes = 0;
    }

    /// The outcomes since the last call, in the order of the records.
    pub(super) fn outcomes(&mut self) -> vec::Drain<'_, Outcome> {
        self.outcomes.drain(..)
    }
}

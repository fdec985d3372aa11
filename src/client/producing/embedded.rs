//! Sends to a broker in this process: no socket, no thread. Records are gathered by partition and written together.
//!
//! What would be refused over the network is refused here, with the same code and sentence.

use super::network::Outcome;
use crate::{
    broker::{self, Broker, Partition, Terms, choose, random},
    client::{Ack, Record, Refused},
    log::{Appended, record::Records},
};
use std::{borrow::Cow, sync::Arc, vec};

/// So many bytes are gathered before they are written.
const GATHERED_BYTES_MAX: usize = 1 << 20;

/// Records on their way into the log.
#[derive(Debug)]
pub(super) struct Desk {
    broker: Broker,
    batches: Vec<Batch>,
    /// What becomes of each record, with its tag.
    waiting: Vec<(u64, Taken)>,
    bytes: usize,
    /// Where records without a key go, until what was gathered is written.
    sticky: u64,
    outcomes: Vec<Outcome>,
}

/// A record's batch and its place there, or why it was refused.
type Taken = Result<(usize, usize), Refused>;

#[derive(Debug)]
struct Batch {
    partition: Arc<Partition>,
    records: Records<'static>,
}

impl Desk {
    pub(super) fn new(broker: &Broker) -> Desk {
        let (batches, waiting, outcomes) = (Vec::new(), Vec::new(), Vec::new());
        Desk { broker: broker.clone(), batches, waiting, bytes: 0, sticky: random::number(), outcomes }
    }

    /// Takes a record; writes when enough has gathered.
    pub(super) fn push(&mut self, topic: &str, record: &Record, tag: u64) {
        let taken = self.take(topic, record).map_err(Refused::from);
        self.waiting.push((tag, taken));
        if self.bytes >= GATHERED_BYTES_MAX {
            self.settle();
        }
    }

    fn take(&mut self, topic: &str, record: &Record) -> broker::Result<(usize, usize)> {
        broker::writable(topic)?;
        let topic = self.broker.topic_or_create(topic)?;
        let index = choose(record.partition, record.key.as_deref(), self.sticky, topic.partition_count());
        let partition = topic.partition(index)?;
        let mut one = Records::default();
        let owned = |bytes: &Vec<u8>| Cow::Owned(bytes.clone());
        one.push(record.timestamp, record.key.as_ref().map(owned), record.value.as_ref().map(owned));
        record.headers.iter().for_each(|(name, value)| one.header(name.clone(), value.clone()));
        let bytes = one.size_of(one.get(0).expect("pushed above"));
        topic.settings().check(record.key.as_deref(), bytes)?;
        self.bytes += bytes;
        let found = self.batches.iter().position(|batch| Arc::ptr_eq(&batch.partition, &partition));
        let at = found.unwrap_or_else(|| {
            self.batches.push(Batch { partition, records: Records::default() });
            self.batches.len() - 1
        });
        let records = &mut self.batches[at].records;
        records.take_last(&mut one);
        Ok((at, records.len() - 1))
    }

    /// Writes what was gathered: all batches, then all are settled.
    pub(super) fn settle(&mut self) {
        let batches = std::mem::take(&mut self.batches);
        let write = |batch: &Batch| batch.partition.write(&batch.records, Terms::default());
        let written: Vec<broker::Result<Appended>> = batches.iter().map(write).collect();
        let settle = |(batch, written): (&Batch, broker::Result<Appended>)| {
            written.and_then(|appended| batch.partition.settle(&appended).map(|()| appended))
        };
        let settled: Vec<_> = batches.iter().zip(written).map(settle).collect();
        for (tag, taken) in self.waiting.drain(..) {
            let outcome = taken.and_then(|(batch, record)| {
                let appended = settled[batch].as_ref().map_err(Clone::clone)?;
                let offset = appended.offset_of(record as u64).map_err(broker::Error::from)?;
                Ok(Ack { partition: batches[batch].partition.index, offset })
            });
            self.outcomes.push((tag, outcome));
        }
        (self.bytes, self.sticky) = (0, random::number());
    }

    /// The outcomes since the last call, in the order of the records.
    pub(super) fn outcomes(&mut self) -> vec::Drain<'_, Outcome> {
        self.outcomes.drain(..)
    }
}

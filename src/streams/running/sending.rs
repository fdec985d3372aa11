//! How what tasks send reaches the broker: in a transaction, or without one.
//!
//! Either way the offsets follow only once all records have been stored, and the stores follow once the offsets count.

use super::options::Guarantee;
use crate::{
    client::{
        self, Producer, Record, Refused, Transaction, TransactionalProducer,
        processing::{Assignee, PartitionOffset, Site},
    },
    streams::{
        error::Error,
        task::{Outgoing, Output},
    },
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How long a transaction may be open: a worker that hangs blocks its successor and the readers of its results for so long.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The producer of a worker.
pub(super) enum Sender {
    Transactional(TransactionalProducer),
    Plain(Producer),
}

impl Sender {
    /// One whose transactional id nobody else has.
    pub(super) fn new(site: &Site, guarantee: Guarantee, id: &str) -> Result<Sender, client::Error> {
        let producer = site.producer()?;
        Ok(match guarantee {
            Guarantee::ExactlyOnce => Sender::Transactional(producer.transactional(id).timeout(TRANSACTION_TIMEOUT)),
            Guarantee::AtLeastOnce => Sender::Plain(producer),
        })
    }

    /// Begins what is to take effect together.
    pub(super) fn begin(&mut self) -> Result<Unit<'_>, client::Error> {
        let way = match self {
            Sender::Transactional(producer) => Way::Transaction(producer.begin()?),
            Sender::Plain(producer) => Way::Plain(producer),
        };
        Ok(Unit { way, changelogs: BTreeMap::new(), ends: Vec::new(), refused: None })
    }
}

enum Way<'p> {
    Transaction(Transaction<'p>),
    Plain(&'p mut Producer),
}

/// What is sent between two commits. Dropped before its commit, a transaction is aborted.
pub(super) struct Unit<'p> {
    way: Way<'p>,
    /// The number of each changelog's partition, from 1 on: the tag of its records.
    changelogs: BTreeMap<(Arc<str>, u32), u64>,
    /// The offset behind the last record of each.
    ends: Vec<Option<u64>>,
    refused: Option<Refused>,
}

impl Output for Unit<'_> {
    fn send(&mut self, Outgoing { topic, record }: Outgoing) -> Result<(), Error> {
        Ok(self.push(&topic, &record, 0)?)
    }
}

impl<'p> Unit<'p> {
    fn push(&mut self, topic: &str, record: &Record, tag: u64) -> Result<(), client::Error> {
        match &mut self.way {
            Way::Transaction(transaction) => transaction.push(topic, record, tag)?,
            Way::Plain(producer) => producer.push(topic, record, tag)?,
        }
        self.look()
    }

    /// Takes the answers that have come.
    fn look(&mut self) -> Result<(), client::Error> {
        let outcomes = match &mut self.way {
            Way::Transaction(transaction) => transaction.outcomes(),
            Way::Plain(producer) => producer.outcomes(),
        };
        for (tag, outcome) in outcomes {
            match outcome {
                Err(refused) => drop(self.refused.get_or_insert(refused)),
                Ok(ack) if tag > 0 => self.ends[tag as usize - 1] = ack.offset.map(|offset| offset + 1),
                Ok(_) => {}
            }
        }
        self.refused.clone().map_or(Ok(()), |refused| Err(client::Error::Refused(refused)))
    }

    /// Where a task's changelogs go.
    pub(super) fn changelogs<'a>(&'a mut self) -> Changelogs<'a, 'p> {
        Changelogs(self)
    }

    /// Waits until all that was sent is stored.
    pub(super) fn flush(&mut self) -> Result<(), client::Error> {
        match &mut self.way {
            Way::Transaction(transaction) => transaction.flush()?,
            Way::Plain(producer) => producer.flush()?,
        }
        self.look()
    }

    /// The offset behind the last record of a changelog's partition; `None`: nothing was sent there, or it is not known.
    pub(super) fn end_of(&self, topic: &Arc<str>, partition: u32) -> Option<u64> {
        let tag = self.changelogs.get(&(topic.clone(), partition))?;
        self.ends[*tag as usize - 1]
    }

    /// Makes all of it count, and that the group goes on at `offsets`. It is to be flushed.
    pub(super) fn commit(self, member: &mut Assignee, offsets: Vec<PartitionOffset>) -> Result<(), client::Error> {
        match self.way {
            Way::Transaction(mut transaction) => {
                transaction.send_place(member.place(offsets))?;
                transaction.commit()
            }
            Way::Plain(_) => member.commit(&offsets),
        }
    }
}

/// An output that remembers where the records of changelogs were stored.
pub(super) struct Changelogs<'a, 'p>(&'a mut Unit<'p>);

impl Output for Changelogs<'_, '_> {
    fn send(&mut self, Outgoing { topic, record }: Outgoing) -> Result<(), Error> {
        let place = (topic.clone(), record.partition.unwrap_or(0));
        let next = self.0.ends.len() as u64 + 1;
        let tag = *self.0.changelogs.entry(place).or_insert(next);
        if tag == next {
            self.0.ends.push(None);
        }
        Ok(self.0.push(&topic, &record, tag)?)
    }
}

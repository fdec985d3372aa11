//! Sending records: one and its answer, a batch, or a stream of them that does not wait for each answer.

mod embedded;
mod network;
mod sequences;
mod transactional;

use super::{
    Ack, Error, Record, Refused, Target,
    endpoint::{IN_PROCESS, RETRY_FOR},
    record::check_topic,
};
use crate::backend;
use embedded::EmbeddedProducer;
use network::{NetworkProducer, Outcome};
use std::{time::Duration, vec};

pub use transactional::{Transaction, TransactionalProducer};

/// Sends records to topics.
///
/// A record whose answer was lost with the connection is sent again once there is a new one ([`resent`](Self::resent) counts
/// them), and stored once all the same: it bears a number (KIP-98). After [`Error::Connection`] it may be stored or not.
#[derive(Debug)]
pub struct Producer {
    backend: Backend,
}

/// Where records go: all that differs between the network and a broker in this process.
#[derive(Debug)]
enum Backend {
    Network(Box<NetworkProducer>),
    Embedded(Box<EmbeddedProducer>),
}

impl Producer {
    /// Connects to a broker, `host:port`, or fails at once.
    pub fn connect(target: impl Into<Target>) -> Result<Producer, Error> {
        Ok(Self::connect_within(target, Duration::ZERO)?.retry_for(RETRY_FOR))
    }

    /// Connects to a broker that may have to be waited for, and waits as long wherever the connection is lost.
    pub fn connect_within(target: impl Into<Target>, retry_for: Duration) -> Result<Producer, Error> {
        Ok(Producer { backend: Backend::Network(NetworkProducer::open(target, retry_for)?.into()) })
    }

    /// Sends to a broker in this process, or to whatever else answers verbs here.
    pub fn embedded(broker: impl Into<backend::Backend>) -> Producer {
        Producer { backend: Backend::Embedded(EmbeddedProducer::new(broker.into()).into()) }
    }

    /// How long a broker that went away is tried to be reached again; 30 seconds unless this says otherwise.
    pub fn retry_for(mut self, retry_for: Duration) -> Self {
        if let Backend::Network(producer) = &mut self.backend {
            producer.set_retry_for(retry_for);
        }
        self
    }

    /// Whether records are numbered, which costs a few questions before the first one; they are unless this says otherwise. Without
    /// numbers a record that is sent again can be stored twice. In this process no connection is lost. A broker in front of a Kafka
    /// cluster refuses numbers.
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        if let Backend::Network(producer) = &mut self.backend {
            producer.set_idempotent(idempotent);
        }
        self
    }

    /// Sends a record and waits until the broker has it.
    pub fn send(&mut self, topic: &str, record: impl Into<Record>) -> Result<Ack, Error> {
        self.push(topic, &record.into(), 0)?;
        self.flush()?;
        let (_, outcome) = self.outcomes().next_back().expect("flush waits for the outcome");
        outcome.map_err(Error::Refused)
    }

    /// Sends records together and waits until the broker has them. Of refused ones the first is the error; the others
    /// were sent all the same.
    pub fn send_batch<R: Into<Record>>(
        &mut self,
        topic: &str,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Vec<Ack>, Error> {
        let mut acks = Vec::new();
        let mut refused = None;
        let mut pipeline = self.pipeline(|_, outcome| match outcome {
            Ok(ack) => acks.push(ack),
            Err(error) => {
                refused.get_or_insert(error);
            }
        });
        for record in records {
            pipeline.push(topic, &record.into(), 0)?;
        }
        pipeline.flush()?;
        drop(pipeline);
        refused.map_or(Ok(acks), |refused| Err(Error::Refused(refused)))
    }

    /// Sends a stream of records without waiting for each answer. `report` gets the outcome of each, in order, with
    /// the tag that it was pushed with.
    ///
    /// ```no_run
    /// # use plainlog::client::{Producer, Record};
    /// # let mut producer = Producer::connect("localhost:9092")?;
    /// let mut pipeline = producer.pipeline(|line, outcome| {
    ///     if let Err(refused) = outcome {
    ///         eprintln!("line {line}: {refused}");
    ///     }
    /// });
    /// for line in 1..=1000 {
    ///     pipeline.push("events", &Record::new(format!("message {line}")), line)?;
    /// }
    /// pipeline.flush()?;
    /// # Ok::<(), plainlog::client::Error>(())
    /// ```
    pub fn pipeline<F: FnMut(u64, Result<Ack, Refused>)>(&mut self, report: F) -> Pipeline<'_, F> {
        Pipeline { producer: self, report }
    }

    pub(crate) fn push(&mut self, topic: &str, record: &Record, tag: u64) -> Result<(), Error> {
        check_topic(topic)?;
        match &mut self.backend {
            Backend::Network(producer) => producer.push(topic, record, tag),
            Backend::Embedded(producer) => {
                producer.push(topic, record, tag);
                Ok(())
            }
        }
    }

    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        match &mut self.backend {
            Backend::Network(producer) => producer.flush(),
            Backend::Embedded(producer) => {
                producer.flush();
                Ok(())
            }
        }
    }

    pub(crate) fn outcomes(&mut self) -> vec::Drain<'_, Outcome> {
        match &mut self.backend {
            Backend::Network(producer) => producer.outcomes(),
            Backend::Embedded(producer) => producer.outcomes(),
        }
    }

    /// Where the broker is.
    pub(super) fn target(&self) -> Target {
        match &self.backend {
            Backend::Network(producer) => producer.target().clone(),
            Backend::Embedded(_) => IN_PROCESS.into(),
        }
    }

    /// The broker's address.
    pub fn address(&self) -> &str {
        match &self.backend {
            Backend::Network(producer) => producer.address(),
            Backend::Embedded(_) => IN_PROCESS,
        }
    }

    /// How many records were sent again, because the connection was lost before their answers came.
    pub fn resent(&self) -> u64 {
        match &self.backend {
            Backend::Network(producer) => producer.resent(),
            Backend::Embedded(_) => 0,
        }
    }
}

/// A stream of records: see [`Producer::pipeline`].
#[derive(Debug)]
pub struct Pipeline<'p, F: FnMut(u64, Result<Ack, Refused>)> {
    producer: &'p mut Producer,
    report: F,
}

impl<F: FnMut(u64, Result<Ack, Refused>)> Pipeline<'_, F> {
    /// Sends a record. This waits only while too much is unanswered.
    pub fn push(&mut self, topic: &str, record: &Record, tag: u64) -> Result<(), Error> {
        let pushed = self.producer.push(topic, record, tag);
        self.report();
        pushed
    }

    /// Sends everything and waits for all answers.
    pub fn flush(&mut self) -> Result<(), Error> {
        let flushed = self.producer.flush();
        self.report();
        flushed
    }

    fn report(&mut self) {
        for (tag, outcome) in self.producer.outcomes() {
            (self.report)(tag, outcome);
        }
    }
}

/// What was pushed is sent; only [`flush`](Pipeline::flush) says whether it arrived.
impl<F: FnMut(u64, Result<Ack, Refused>)> Drop for Pipeline<'_, F> {
    fn drop(&mut self) {
        let _ = self.flush();
    }
}

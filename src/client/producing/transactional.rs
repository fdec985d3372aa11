//! A producer whose records take effect by transactions, over the network or in this process.
//!
//! ```text
//! begin ─► send ─► send_offsets ─► commit      all of it takes effect, or nothing
//! BEGIN    SEND    COMMIT group:   END
//! ```
//!
//! - A transaction that is dropped, whose connection is lost, or in which a record was refused, is aborted.
//! - Where the answer to END is lost with the connection, the next BEGIN tells what became of the transaction. So
//!   [`Transaction::commit`] knows the outcome, unless no connection can be had.
//! - A call that failed, whatever it was, leaves a transaction that can only be aborted: a caller that overlooks the error commits
//!   no part of what it meant.

use super::{
    Backend, Producer,
    embedded::EmbeddedProducer,
    network::{self, NetworkProducer},
};
use crate::{
    backend,
    broker::{
        self, LastTransaction, Outcome, ProducerIdentity,
        group::{Committer, classic::Sender},
    },
    client::{
        Ack, Answer, Consumer, Error, Record, Refused,
        answer::{CONCURRENT, field},
        consuming::{GroupPlace, group::words_of},
        endpoint::{IN_PROCESS, Outage},
        record::check_topic,
    },
    log::record::as_word,
};
use std::{thread, time::Duration, vec};

/// How long a transaction may take, unless the program says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How often BEGIN is said over connections that break before its answer.
const BEGIN_TRIES: usize = 5;

/// Sends records in transactions. Whoever begins with the same transactional id elsewhere takes over: what this one has open is
/// aborted, and its calls fail.
///
/// ```
/// # use plainlog::{Broker, Producer};
/// # let broker = Broker::in_memory();
/// let mut producer = Producer::embedded(&broker).transactional("transfer-1");
/// let mut transfer = producer.begin()?;
/// transfer.send("accounts", ("alice", "-10"))?;
/// transfer.send("accounts", ("bob", "+10"))?;
/// transfer.commit()?;
/// # Ok::<(), plainlog::client::Error>(())
/// ```
#[derive(Debug)]
pub struct TransactionalProducer {
    id: String,
    timeout: Duration,
    side: Side,
}

#[derive(Debug)]
enum Side {
    Network { producer: Box<NetworkProducer>, retry_for: Duration },
    Embedded { broker: backend::Backend, producer: Box<EmbeddedProducer> },
}

/// An open transaction. Dropped without [`commit`](Self::commit) it is aborted.
#[derive(Debug)]
pub struct Transaction<'p> {
    producer: &'p mut TransactionalProducer,
    /// The pair that its records bear; `None`: a cluster behind the broker does not tell it.
    identity: Option<ProducerIdentity>,
    /// In this process: the broker's end of it.
    embedded: Option<backend::Transaction>,
    /// Whether something was sent in it.
    is_used: bool,
    is_over: bool,
    /// The first error of a call that the broker knows nothing of.
    failed: Option<String>,
    outcomes: Vec<network::Outcome>,
}

impl Producer {
    /// Makes it a producer whose records take effect by transactions of this id.
    pub fn transactional(self, transactional_id: &str) -> TransactionalProducer {
        let side = match self.backend {
            Backend::Network(mut producer) => {
                // The broker numbers the records of a transaction.
                producer.set_idempotent(false);
                let retry_for = producer.retry_for();
                Side::Network { producer, retry_for }
            }
            Backend::Embedded(producer) => Side::Embedded { broker: producer.broker().clone(), producer },
        };
        TransactionalProducer { id: transactional_id.into(), timeout: TIMEOUT, side }
    }
}

impl TransactionalProducer {
    /// How long a transaction may take before the broker aborts it, from a second on; a minute unless this says otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The broker's address.
    pub fn address(&self) -> &str {
        match &self.side {
            Side::Network { producer, .. } => producer.address(),
            Side::Embedded { .. } => IN_PROCESS,
        }
    }

    /// Begins a transaction. What the id has open elsewhere is aborted.
    pub fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        let (identity, embedded) = match &mut self.side {
            Side::Network { producer, retry_for } => {
                producer.set_retry_for(*retry_for);
                let begun = Begun::ask(producer, &self.id, self.timeout)?;
                // Within a transaction nothing is sent again: without its connection it is aborted.
                producer.set_retry_for(Duration::ZERO);
                (begun.identity, None)
            }
            Side::Embedded { broker, producer } => {
                let timeout_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
                let begun = broker.begin_transaction(&self.id, timeout_ms)?;
                producer.enter(&begun.transaction);
                (begun.transaction.identity(), Some(begun.transaction))
            }
        };
        let (failed, outcomes) = (None, Vec::new());
        Ok(Transaction { producer: self, identity, embedded, is_used: false, is_over: false, failed, outcomes })
    }
}

/// What BEGIN answers.
struct Begun {
    identity: Option<ProducerIdentity>,
    last: Option<LastTransaction>,
}

impl Begun {
    fn ask(producer: &mut NetworkProducer, id: &str, timeout: Duration) -> Result<Begun, Error> {
        let line = format!("BEGIN {} timeout:{}", as_word(id), timeout.as_millis());
        let mut tries = BEGIN_TRIES;
        loop {
            tries -= 1;
            producer.restore()?;
            match producer.ask(&line) {
                Err(Error::Connection { .. }) if tries > 0 => {}
                answer => return Begun::read(&answer?),
            }
        }
    }

    /// `OK producer_id: epoch: last_id: last_epoch: last:`, each `-` where nobody knows it.
    fn read(answer: &Answer) -> Result<Begun, Error> {
        let line = answer.first.as_bytes();
        let word = |name| field(line, name).and_then(|word| str::from_utf8(word).ok());
        let identity =
            |id, epoch| Some(ProducerIdentity { id: word(id)?.parse().ok()?, epoch: word(epoch)?.parse().ok()? });
        let read = || {
            if word("producer_id")? == "-" {
                return Some(Begun { identity: None, last: None });
            }
            let last = identity("last_id", "last_epoch")?;
            let last = match word("last")? {
                "commit" => Some(LastTransaction { identity: last, outcome: Outcome::Commit }),
                "abort" => Some(LastTransaction { identity: last, outcome: Outcome::Abort }),
                _ => None,
            };
            Some(Begun { identity: Some(identity("producer_id", "epoch")?), last })
        };
        read().ok_or_else(|| Error::Answer(format!("'{}' answers no BEGIN", answer.first)))
    }
}

impl Transaction<'_> {
    /// Sends a record and waits until the broker has it. It takes effect with the transaction.
    pub fn send(&mut self, topic: &str, record: impl Into<Record>) -> Result<Ack, Error> {
        self.push(topic, &record.into(), 0)?;
        self.flush()?;
        let (_, outcome) = self.outcomes.pop().expect("flush waits for the outcome");
        outcome.map_err(Error::Refused)
    }

    /// Sends a record without waiting for its answer; [`commit`](Self::commit) fails if it is refused. The tag names it in
    /// [`outcomes`](Self::outcomes).
    pub fn push(&mut self, topic: &str, record: &Record, tag: u64) -> Result<(), Error> {
        check_topic(topic).map_err(|error| self.failed(error))?;
        self.is_used = true;
        let pushed = match &mut self.producer.side {
            Side::Network { producer, .. } => producer.push(topic, record, tag),
            Side::Embedded { producer, .. } => {
                producer.push(topic, record, tag);
                Ok(())
            }
        };
        self.take_outcomes();
        pushed.map_err(|error| self.failed(error))
    }

    /// Waits for the answers to everything that was sent.
    pub fn flush(&mut self) -> Result<(), Error> {
        let flushed = match &mut self.producer.side {
            Side::Network { producer, .. } => producer.flush(),
            Side::Embedded { producer, .. } => {
                producer.flush();
                Ok(())
            }
        };
        self.take_outcomes();
        flushed.map_err(|error| self.failed(error))
    }

    /// The outcomes of the records that were pushed since the last call, in order, with their tags.
    pub fn outcomes(&mut self) -> vec::Drain<'_, (u64, Result<Ack, Refused>)> {
        self.outcomes.drain(..)
    }

    fn take_outcomes(&mut self) {
        let outcomes = match &mut self.producer.side {
            Side::Network { producer, .. } => producer.outcomes(),
            Side::Embedded { producer, .. } => producer.outcomes(),
        };
        for (tag, outcome) in outcomes {
            if let (Err(refused), Some(transaction)) = (&outcome, &mut self.embedded) {
                // Over the network the broker sees to it.
                transaction.doom(refused.to_string());
            }
            self.outcomes.push((tag, outcome));
        }
    }

    /// Commits in the transaction what a consumer of a group has polled: the group goes on behind it if the transaction is committed.
    /// The consumer takes [`auto_commit(false)`](Consumer::auto_commit), and after an abort it has to [`rejoin`](Consumer::rejoin).
    pub fn send_offsets(&mut self, consumer: &Consumer) -> Result<(), Error> {
        let place = consumer.place().map_err(|error| self.failed(error))?;
        self.send_place(place)
    }

    /// The same for where a member of a group is to go on.
    pub(crate) fn send_place(&mut self, place: GroupPlace<'_>) -> Result<(), Error> {
        let GroupPlace { group, member, generation, offsets } = place;
        if offsets.is_empty() {
            return Ok(());
        }
        self.flush()?;
        self.is_used = true;
        let done = match (&mut self.producer.side, &mut self.embedded) {
            (Side::Network { producer, .. }, _) => {
                let offsets = words_of(&offsets);
                let (group, member) = (as_word(group), as_word(&member));
                producer.order(&format!("COMMIT{offsets} group:{group} member:{member} generation:{generation}"))
            }
            (Side::Embedded { broker, .. }, Some(transaction)) => {
                let offsets: Vec<_> =
                    offsets.iter().map(|(topic, partition, offset)| (&**topic, *partition, *offset)).collect();
                let committer =
                    Committer::Member { sender: Sender { member_id: &member, instance_id: None }, generation };
                let done = broker.commit_offsets_in(transaction, group, committer, &offsets);
                done.map_err(|error| {
                    let refused = Refused::from(error);
                    transaction.doom(refused.to_string());
                    Error::Refused(refused)
                })
            }
            (Side::Embedded { .. }, None) => unreachable!("it is there until the transaction is over"),
        };
        done.map_err(|error| match error {
            refused @ Error::Refused(_) => refused,
            error => self.failed(error),
        })
    }

    /// Ends it: all of it takes effect, durably as the flush mode promises. An error says that nothing of it does, unless
    /// [`Error::leaves_open`] says otherwise.
    pub fn commit(mut self) -> Result<(), Error> {
        self.flush()?;
        if let Some(why) = self.failed.take() {
            let is_lost = self.is_over;
            self.end_by_abort()?;
            let doomed = || format!("the transaction can only be aborted since an error in it: {why}");
            return Err(if is_lost { Error::Aborted(why) } else { broker::Error::InvalidTxnState(doomed()).into() });
        }
        self.is_over = true;
        let ended = match (&mut self.producer.side, &mut self.embedded) {
            (Side::Network { producer, .. }, _) => producer.order("END"),
            (Side::Embedded { producer, .. }, Some(transaction)) => {
                producer.leave();
                transaction.end().map_err(Error::from)
            }
            (Side::Embedded { .. }, None) => unreachable!("it is there until the transaction is over"),
        };
        match ended {
            Err(lost @ (Error::Connection { .. } | Error::Answer(_))) => self.learn_outcome(lost),
            ended => ended,
        }
    }

    /// Asks over a new connection what became of the transaction.
    fn learn_outcome(&mut self, lost: Error) -> Result<(), Error> {
        let TransactionalProducer { id, timeout, side } = &mut *self.producer;
        let Side::Network { producer, retry_for } = side else { return Err(lost) };
        if self.identity.is_none() {
            // The next transaction of the id would say nothing of this one.
            return Err(lost);
        }
        producer.set_retry_for(*retry_for);
        let mut waiting = Outage::begin();
        let begun = loop {
            match Begun::ask(producer, id, *timeout) {
                Ok(begun) => break begun,
                // Its markers are still being written.
                Err(Error::Refused(refused)) if refused.code == CONCURRENT && waiting.lasted() < *retry_for => {
                    thread::sleep(waiting.next_pause());
                }
                Err(_) => return Err(lost),
            }
        };
        // It was begun only to ask.
        let _ = producer.order("ABORT");
        match begun.last.filter(|last| self.identity == Some(last.identity)) {
            Some(LastTransaction { outcome: Outcome::Commit, .. }) => Ok(()),
            Some(_) => Err(Error::Aborted(lost.to_string())),
            None if !self.is_used => Ok(()),
            // Somebody else has used the id since.
            None => Err(lost),
        }
    }

    /// Ends it: nothing of it takes effect.
    pub fn abort(mut self) -> Result<(), Error> {
        self.end_by_abort()
    }

    fn end_by_abort(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.is_over, true) {
            return Ok(());
        }
        match (&mut self.producer.side, &mut self.embedded) {
            (Side::Network { producer, .. }, _) => match producer.flush().and_then(|()| producer.order("ABORT")) {
                // It ended with its connection.
                Err(Error::Connection { .. }) => Ok(()),
                aborted => aborted,
            },
            (Side::Embedded { producer, .. }, Some(transaction)) => {
                producer.flush();
                producer.outcomes();
                producer.leave();
                Ok(transaction.abort()?)
            }
            (Side::Embedded { .. }, None) => unreachable!("it is there until the transaction is over"),
        }
    }

    /// A call failed. Without its connection the transaction is aborted, otherwise it is to be.
    fn failed(&mut self, error: Error) -> Error {
        self.is_over |= matches!(error, Error::Connection { .. } | Error::Answer(_));
        self.failed.get_or_insert_with(|| error.to_string());
        match error {
            lost @ Error::Connection { .. } => Error::Aborted(lost.to_string()),
            error => error,
        }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        let _ = self.end_by_abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::{Peer, peers};

    const RECORD: &str = "SEND t message:a";

    fn begin<'p>(peer: &'p mut Peer, epoch: u32, last: &str) -> &'p mut Peer {
        peer.expect("PING").say("PONG\n").expect("BEGIN t timeout:60000");
        peer.say(&format!("OK producer_id:7 epoch:{epoch} {last}\n"))
    }

    /// Sends a record in a transaction whose END is not answered; what the next BEGIN says of the last transaction.
    fn committed(last: &'static str) -> Result<(), Error> {
        let address = peers(2, move |nth, peer| match nth {
            0 => {
                begin(peer, 2, "last_id:-1 last_epoch:-1 last:none").expect(RECORD);
                peer.say("ACK topic:t partition:0 offset:0\n").expect("END");
            }
            _ => drop(begin(peer, 4, last).expect("ABORT").say("OK\n")),
        });
        let mut producer = Producer::connect(&address).unwrap().transactional("t");
        let mut transaction = producer.begin().unwrap();
        transaction.send("t", "a").unwrap();
        transaction.commit()
    }

    #[test]
    fn a_commit_whose_answer_is_lost_is_known_from_the_next_begin() {
        assert!(matches!(committed("last_id:7 last_epoch:2 last:commit"), Ok(())));
        assert!(matches!(committed("last_id:7 last_epoch:2 last:abort"), Err(Error::Aborted(_))));
        // Others were there meanwhile, and nobody knows.
        for last in [
            "last_id:7 last_epoch:3 last:commit",
            "last_id:8 last_epoch:2 last:commit",
            "last_id:-1 last_epoch:-1 last:none",
        ] {
            assert!(matches!(committed(last), Err(Error::Connection { .. })), "{last}");
        }
    }

    /// What END is answered with, then each BEGIN over the same or another connection.
    fn ended(end: &'static str) -> Result<(), Error> {
        let address = peers(1, move |_, peer| {
            begin(peer, 2, "last_id:-1 last_epoch:-1 last:none").expect(RECORD);
            peer.say("ACK topic:t partition:0 offset:0\n").expect("END").say(end);
        });
        let mut producer = Producer::connect(&address).unwrap().retry_for(Duration::ZERO).transactional("t");
        let mut transaction = producer.begin().unwrap();
        transaction.send("t", "a").unwrap();
        transaction.commit()
    }

    /// `producer --transactional-id` said that nothing was sent where the transaction was committed and a marker could not be written.
    #[test]
    fn an_error_of_a_commit_tells_whether_it_may_still_take_effect() {
        for (answer, leaves_open) in [
            ("ERROR INVALID_TXN_STATE it took too long\n", false),
            ("ERROR PRODUCER_FENCED by another\n", false),
            ("ERROR REQUEST_TIMED_OUT it is committed, but not yet in t/0\n", true),
            ("ERROR KAFKA_STORAGE_ERROR nobody knows\n", true),
            ("", true),
            ("MOO\n", true),
        ] {
            if let Err(error) = ended(answer) {
                assert_eq!(error.leaves_open(), leaves_open, "{answer}");
            } else {
                panic!("'{answer}' is no OK");
            }
        }
    }

    /// BEGIN is refused while the markers of the transaction that it is to tell of are written, which may take longer than one BEGIN
    /// waits: the outcome was given up as unknown.
    #[test]
    fn an_outcome_that_is_being_written_is_waited_for() {
        let address = peers(2, |nth, peer| match nth {
            0 => {
                begin(peer, 2, "last_id:-1 last_epoch:-1 last:none").expect(RECORD);
                peer.say("ACK topic:t partition:0 offset:0\n").expect("END");
            }
            _ => {
                peer.expect("PING").say("PONG\n");
                for _ in 0..3 {
                    peer.expect("BEGIN t timeout:60000").say("ERROR CONCURRENT_TRANSACTIONS try again\n");
                }
                peer.expect("BEGIN t timeout:60000")
                    .say("OK producer_id:7 epoch:4 last_id:7 last_epoch:2 last:commit\n");
                peer.expect("ABORT").say("OK\n");
            }
        });
        let mut producer = Producer::connect(&address).unwrap().transactional("t");
        let mut transaction = producer.begin().unwrap();
        transaction.send("t", "a").unwrap();
        transaction.commit().unwrap();
    }

    #[test]
    fn nothing_is_sent_again_in_a_transaction_and_the_next_one_begins_over_a_new_connection() {
        let address = peers(2, |nth, peer| match nth {
            0 => drop(begin(peer, 2, "last_id:-1 last_epoch:-1 last:none").expect(RECORD)),
            _ => {
                begin(peer, 4, "last_id:7 last_epoch:2 last:abort").expect(RECORD);
                peer.say("ACK topic:t partition:0 offset:2\n").expect("END").say("OK\n");
            }
        });
        let mut producer = Producer::connect(&address).unwrap().transactional("t");
        let mut transaction = producer.begin().unwrap();
        assert!(matches!(transaction.send("t", "a"), Err(Error::Aborted(_))));
        // It is not asked for over another connection: END was never sent.
        assert!(matches!(transaction.commit(), Err(Error::Aborted(_))));
        let mut transaction = producer.begin().unwrap();
        assert_eq!(transaction.send("t", "a").unwrap().offset, Some(2));
        transaction.commit().unwrap();
    }
}

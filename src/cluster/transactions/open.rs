//! An open transaction of the cluster, which its owner, the sessions that write in it and whoever looks after transactions share.

use crate::{
    broker::{Code, Error, Outcome, Result},
    cluster::{
        clients::Taken,
        native::{GroupMember, Refused, send_offsets},
        producer::Sender,
    },
};
use rdkafka::{error::KafkaError, producer::Producer, types::RDKafkaErrorCode};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    thread,
    time::{Duration, Instant},
};

/// How often it is looked whether librdkafka has forgotten what it has answered, and for how long.
const LOOKS: Duration = Duration::from_micros(100);
const LOOKS_MAX: u32 = 500;
/// How long librdkafka is asked before it is looked whether an answer is still waited for.
const ASKED: Duration = Duration::from_secs(1);

/// A transactional producer, which counts among the clients of this program.
#[derive(Debug)]
pub(in crate::cluster) struct Transactional {
    pub(super) sender: Arc<Sender>,
    pub(super) _taken: Taken,
}

/// The producer has the id no more: another one does, or the coordinator has ended what it had open.
const FENCED: [RDKafkaErrorCode; 4] = [
    RDKafkaErrorCode::Fenced,
    RDKafkaErrorCode::ProducerFenced,
    RDKafkaErrorCode::InvalidProducerEpoch,
    RDKafkaErrorCode::InvalidProducerIdMapping,
];

#[derive(Debug)]
pub(in crate::cluster) struct Open {
    pub(super) id: Arc<str>,
    pub(super) producer: Arc<Transactional>,
    pub(super) timeout_ms: u64,
    /// When it began, in ms.
    pub(super) since_ms: i64,
    /// How long the cluster may take to answer.
    patience: Duration,
    held: Mutex<Held>,
    lost: OnceLock<Lost>,
    /// Whether it was ended. Whoever ends it has the lock.
    is_ended: Mutex<bool>,
}

/// What it was asked to hold.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) partitions: BTreeSet<(Arc<str>, u32)>,
    pub(super) groups: BTreeSet<Arc<str>>,
}

/// Why it is over, though its owner did not end it.
#[derive(Clone, Copy, Debug)]
enum Lost {
    Fenced,
    Elsewhere,
}

impl Open {
    pub(super) fn new(
        id: &str,
        producer: Arc<Transactional>,
        timeout_ms: u64,
        since_ms: i64,
        patience: Duration,
    ) -> Open {
        let (held, lost, is_ended) = (Mutex::default(), OnceLock::new(), Mutex::new(false));
        Open { id: id.into(), producer, timeout_ms, since_ms, patience, held, lost, is_ended }
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no panic under the lock")
    }

    /// Who records of this partition are handed over to; they are in the transaction.
    pub(in crate::cluster) fn sender_to(&self, topic: &str, partition: u32) -> Result<Arc<Sender>> {
        self.check_not_lost()?;
        self.held().partitions.insert((topic.into(), partition));
        Ok(self.producer.sender.clone())
    }

    /// Somebody else has begun with the id.
    pub(super) fn fence(&self) {
        let _ = self.lost.set(Lost::Fenced);
    }

    /// An error if it was lost, and how.
    pub(super) fn check_not_lost(&self) -> Result<()> {
        match self.lost.get() {
            Some(Lost::Fenced) => Err(self.fenced()),
            Some(Lost::Elsewhere) => Err(Error::InvalidTxnState("the transaction was aborted by somebody else".into())),
            None if self.producer.sender.is_known_over() => Err(self.failed()),
            None => Ok(()),
        }
    }

    fn fenced(&self) -> Error {
        Error::ProducerFenced(format!(
            "the transaction is over: somebody else has begun with the transactional id '{}', or it took longer than {} ms and the \
             cluster aborted it",
            self.id, self.timeout_ms
        ))
    }

    /// Its producer has failed for good.
    fn failed(&self) -> Error {
        match self.producer.sender.failure() {
            Some((code, _)) if FENCED.contains(&code) => self.fenced(),
            failure => {
                let why = failure.map_or(String::new(), |(_, why)| format!(": {why}"));
                Error::InvalidTxnState(format!("the transaction is over, because its producer failed{why}"))
            }
        }
    }

    /// Why a record was not stored.
    pub(in crate::cluster) fn why(&self, code: RDKafkaErrorCode, topic: &str, partition: u32) -> Error {
        use RDKafkaErrorCode::*;
        // Now that a record has failed it is worth a look.
        let _ = self.producer.sender.is_over();
        if let Err(lost) = self.check_not_lost() {
            return lost;
        }
        match code {
            code if FENCED.contains(&code) => self.lose(),
            Fatal => self.failed(),
            PurgeQueue | PurgeInflight if self.producer.sender.has_given_up() => {
                self.producer.sender.why(code, topic, partition)
            }
            PurgeQueue | PurgeInflight => {
                Error::InvalidTxnState("the transaction can only be aborted since an error in it".into())
            }
            code => self.producer.sender.why(code, topic, partition),
        }
    }

    fn lose(&self) -> Error {
        self.fence();
        self.fenced()
    }

    /// Why something in it was refused.
    pub(super) fn refusal(&self, what: &str, error: &KafkaError) -> Error {
        let (code, why) = match error {
            KafkaError::Transaction(error) => (error.code(), error.string()),
            other => (other.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail), other.to_string()),
        };
        self.refused(what, code as i32, &why)
    }

    fn refused(&self, what: &str, number: i32, why: &str) -> Error {
        use RDKafkaErrorCode::*;
        let is = |code: RDKafkaErrorCode| code as i32 == number;
        match number {
            _ if FENCED.into_iter().any(is) => self.lose(),
            _ if is(Fatal) => self.failed(),
            _ if [OperationTimedOut, TimedOutQueue, MessageTimedOut, RequestTimedOut].into_iter().any(is) => {
                let why = format!("{what}: the cluster did not answer within {} ms", self.patience.as_millis());
                Error::OfCluster { code: Code::RequestTimedOut, why }
            }
            _ if is(IllegalGeneration) => Error::IllegalGeneration(format!("{what}: {why}")),
            _ if is(UnknownMemberId) => Error::UnknownMemberId,
            _ if is(FencedInstanceId) => Error::FencedInstanceId,
            _ if is(RebalanceInProgress) => Error::RebalanceInProgress,
            _ => {
                let code = Code::numbered(number).unwrap_or(Code::InvalidTxnState);
                Error::OfCluster { code, why: format!("{what}: {why}") }
            }
        }
    }

    /// Commits offsets of a group in it.
    pub(super) fn commit_offsets(&self, member: GroupMember<'_>, offsets: &[(&str, u32, u64)]) -> Result<()> {
        self.check_not_lost()?;
        self.held().groups.insert(member.group.into());
        let sent = send_offsets(self.producer.sender.producer().client(), member, offsets, self.patience);
        sent.map_err(|Refused { number, why }| self.refused("committing offsets in the transaction", number, &why))
    }

    /// Ends it, once. `Err`: it was over already, or the cluster did not do so.
    pub(super) fn finish(&self, outcome: Outcome, patience: Duration) -> Result<()> {
        let mut is_ended = self.is_ended.lock().expect("no panic under the lock");
        self.check_not_lost()?;
        if std::mem::replace(&mut *is_ended, true) {
            return Err(Error::InvalidTxnState("the transaction has ended".into()));
        }
        self.settle();
        match self.ask_to(outcome, patience) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.not_ended(outcome, patience, &error)),
        }
    }

    /// Aborts it on behalf of somebody who does not own it.
    pub(super) fn abort_for_others(&self) -> Result<()> {
        self.finish(Outcome::Abort, self.patience)?;
        let _ = self.lost.set(Lost::Elsewhere);
        Ok(())
    }

    /// What was answered is forgotten a moment later, which librdkafka's end of a transaction would wait for in steps of 100 ms.
    fn settle(&self) {
        let looks = (0..LOOKS_MAX).take_while(|_| self.producer.sender.producer().in_flight_count() > 0);
        looks.for_each(|_| thread::sleep(LOOKS));
    }

    fn ask_to(&self, outcome: Outcome, patience: Duration) -> std::result::Result<(), KafkaError> {
        let (producer, deadline) = (self.producer.sender.producer(), Instant::now() + patience);
        loop {
            // What is asked again goes on where it was.
            let left = deadline.saturating_duration_since(Instant::now()).min(ASKED);
            let ended = match outcome {
                Outcome::Commit => producer.commit_transaction(left),
                Outcome::Abort => producer.abort_transaction(left),
            };
            match ended {
                Err(KafkaError::Transaction(error))
                    if error.is_retriable() && Instant::now() < deadline && !self.producer.sender.has_given_up() => {}
                ended => return ended,
            }
        }
    }

    fn not_ended(&self, outcome: Outcome, patience: Duration, error: &KafkaError) -> Error {
        let must_abort = matches!(error, KafkaError::Transaction(error) if error.txn_requires_abort());
        if must_abort && outcome == Outcome::Commit {
            let why = self.refusal("ending the transaction", error);
            let aborted = self.ask_to(Outcome::Abort, patience);
            return match why {
                fenced @ Error::ProducerFenced(_) => fenced,
                why if aborted.is_ok() => Error::InvalidTxnState(format!("the transaction was aborted: {why}")),
                why => Error::InvalidTxnState(format!("{why}; {}", self.aborted_later())),
            };
        }
        match self.refusal("ending the transaction", error) {
            Error::OfCluster { code: code @ Code::RequestTimedOut, why } => {
                let what = match outcome {
                    Outcome::Commit => "whether it takes effect is not known".into(),
                    Outcome::Abort => self.aborted_later(),
                };
                Error::OfCluster { code, why: format!("{why}; {what}") }
            }
            other => other,
        }
    }
    fn aborted_later(&self) -> String {
        format!("it is aborted when its time is over, {} ms", self.timeout_ms)
    }
}

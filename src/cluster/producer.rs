//! Producers of librdkafka: the idempotent one that all connections share, and what those of transactions have in common with it.
//!
//! ```text
//! connections ── records ──► Sender ──► librdkafka's queues ──► leaders, acks=all
//!      ▲                                                          │
//!      └── Answers ◄── Delivering, on the producer's thread ◄─────┘
//! ```
//!
//! All connections write through one, so that records of many become one batch, and a batch that is sent again is stored once.
//! A record leaves at once if nothing is on its way to its leader; what comes meanwhile leaves together.

use super::{
    answers::{Asked, Outcome},
    errors::of_code,
    native,
    options::ClusterOptions,
};
use crate::{
    broker::{Code, Error, Result},
    log::record::{RecordRef, Records},
};
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::Message,
    producer::{DeliveryResult, Producer, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use std::{
    ffi::CStr,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering::*},
    },
    time::Duration,
};

/// Settings of ours, by name, with another name that librdkafka knows them by. What is in queues is bounded by the sessions, which
/// count it; librdkafka's own limit is above that.
const OURS: [(&str, &str, &str); 8] = [
    ("acks", "request.required.acks", "all"),
    ("enable.idempotence", "", "true"),
    ("allow.auto.create.topics", "", "false"),
    ("linger.ms", "queue.buffering.max.ms", "0"),
    // A topic's `max.message.bytes` is what a batch may have, so it must not be small beside that.
    ("batch.size", "", "262144"),
    // How large a record may be is the cluster's to say.
    ("message.max.bytes", "", "67108864"),
    ("queue.buffering.max.messages", "", "0"),
    ("queue.buffering.max.kbytes", "", "1048576"),
];

/// What a record counts for beside its bytes, while it is unanswered.
const RECORD_BYTES: usize = 256;

/// A producer, its thread, and what is unanswered of it.
pub(super) struct Sender {
    producer: ThreadedProducer<Delivering>,
    timeout: Duration,
}

/// Answers what was delivered, and keeps what went wrong last: it is the reason when nothing is.
pub(super) struct Delivering {
    wrong: Mutex<Option<String>>,
    /// Whether that is anything since the last record that was stored.
    is_wrong: AtomicBool,
    is_over: AtomicBool,
    /// Bytes that are unanswered, of all who count them here.
    unanswered_bytes: Arc<AtomicUsize>,
}

/// The producer of all connections.
#[derive(Debug, Default)]
pub(super) struct SharedProducer {
    current: Mutex<Option<Arc<Sender>>>,
    unanswered_bytes: Arc<AtomicUsize>,
    /// Whether a topic that is written to is being looked at anew.
    pub(super) is_looking: AtomicBool,
}

impl Delivering {
    fn wrong(&self) -> MutexGuard<'_, Option<String>> {
        self.wrong.lock().expect("no panic under the lock")
    }
}

impl ClientContext for Delivering {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.is_over.store(true, Release);
        }
        // That all are down says less than what was heard before it.
        let mut wrong = self.wrong();
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) || wrong.is_none() {
            *wrong = Some(reason.to_owned());
        }
        self.is_wrong.store(true, Release);
    }
}

impl ProducerContext for Delivering {
    type DeliveryOpaque = Box<Asked>;

    fn delivery(&self, result: &DeliveryResult<'_>, asked: Box<Asked>) {
        self.unanswered_bytes.fetch_sub(asked.bytes, AcqRel);
        if result.is_ok() && self.is_wrong.load(Acquire) {
            self.is_wrong.store(false, Release);
            *self.wrong() = None;
        }
        asked.answer(match result {
            Ok(message) => Outcome::Stored(u64::try_from(message.offset()).ok()),
            Err((error, _)) => Outcome::Failed(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        });
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("unanswered_bytes", &self.unanswered_bytes()).finish_non_exhaustive()
    }
}

impl SharedProducer {
    /// The producer; the first to ask makes it, or another one after it has failed for good.
    pub(super) fn get(&self, options: &ClusterOptions) -> Result<Arc<Sender>> {
        let mut current = self.current.lock().expect("no panic under the lock");
        if let Some(sender) = current.as_ref().filter(|sender| !sender.is_over()) {
            return Ok(sender.clone());
        }
        let sender = Arc::new(Sender::new(options, options.timeout, None, self.unanswered_bytes.clone())?);
        let before = current.replace(sender.clone());
        drop(current);
        // Its end may take a moment.
        drop(before);
        Ok(sender)
    }
}

impl Sender {
    /// A producer whose records fail after `timeout`: of transactions, if it is given an id and how long they may take.
    pub(super) fn new(
        options: &ClusterOptions,
        timeout: Duration,
        transactions: Option<(&str, u64)>,
        unanswered_bytes: Arc<AtomicUsize>,
    ) -> Result<Sender> {
        let timeout_ms = timeout.as_millis().to_string();
        let ours = OURS.into_iter().chain([("delivery.timeout.ms", "message.timeout.ms", timeout_ms.as_str())]);
        let is_set = |other: &str| options.settings.contains_key(other);
        let ours: Vec<_> = ours.filter(|(_, other, _)| !is_set(other)).map(|(name, _, value)| (name, value)).collect();
        let mut config = options.client(&ours);
        config.remove("transactional.id");
        if let Some((id, timeout_ms)) = transactions {
            config.set("transactional.id", id).set("transaction.timeout.ms", timeout_ms.to_string());
            // librdkafka takes no longer ones.
            config.remove("message.timeout.ms").set("delivery.timeout.ms", timeout.as_millis().to_string());
            let most = timeout_ms.saturating_sub(100).min(options.timeout.as_millis() as u64 / 4).max(10);
            config.set("socket.timeout.ms", most.to_string());
        }
        let heard = Delivering {
            wrong: Mutex::default(),
            is_wrong: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            unanswered_bytes,
        };
        let producer = config.create_with_context(heard).map_err(|error| ClusterOptions::refused(&error))?;
        Ok(Sender { producer, timeout })
    }

    /// The producer, for what is no record.
    pub(super) fn producer(&self) -> &ThreadedProducer<Delivering> {
        &self.producer
    }

    /// Whether it has failed for good, as far as its thread was told.
    pub(super) fn is_known_over(&self) -> bool {
        self.producer.context().is_over.load(Acquire)
    }

    /// Whether it has failed for good. Records that fail so may be answered before its thread is told why.
    pub(super) fn is_over(&self) -> bool {
        if !self.is_known_over() && self.failure().is_some() {
            self.producer.context().is_over.store(true, Release);
        }
        self.is_known_over()
    }

    /// Why it has failed for good, if it has.
    pub(super) fn failure(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.producer.client().fatal_error()
    }

    /// What was last heard of the nodes that went wrong.
    pub(super) fn last_heard(&self) -> Option<String> {
        self.producer.context().wrong().clone()
    }

    /// How many bytes are unanswered, of all who count them with it.
    pub(super) fn unanswered_bytes(&self) -> usize {
        self.producer.context().unanswered_bytes.load(Acquire)
    }

    /// What a record counts for until it is answered.
    pub(super) fn bytes_of(records: &Records<'_>, record: &RecordRef<'_>) -> usize {
        records.size_of(record) + RECORD_BYTES
    }

    /// Hands a record over: `asked` will be answered. A record that is not taken is given back.
    pub(super) fn send(
        &self,
        topic: &CStr,
        partition: u32,
        records: &Records<'_>,
        record: &RecordRef<'_>,
        asked: Box<Asked>,
    ) -> std::result::Result<(), (RDKafkaErrorCode, Box<Asked>)> {
        let (bytes, unanswered_bytes) = (asked.bytes, &self.producer.context().unanswered_bytes);
        unanswered_bytes.fetch_add(bytes, AcqRel);
        let sent = native::send(self.producer.client(), topic, partition, records, record, asked);
        sent.inspect_err(|(code, _)| {
            unanswered_bytes.fetch_sub(bytes, AcqRel);
            if *code == RDKafkaErrorCode::Fatal {
                self.producer.context().is_over.store(true, Release);
            }
        })
    }

    /// Looks at a topic anew: it has more partitions than this producer knows.
    pub(super) fn look_at(&self, topic: &str) {
        // Whoever then hands a record over is told what there is.
        let _ = self.producer.client().fetch_metadata(Some(topic), self.timeout);
    }

    /// Why a record was not stored.
    pub(super) fn why(&self, code: RDKafkaErrorCode, topic: &str, partition: u32) -> Error {
        use RDKafkaErrorCode::*;
        let what = format!("writing to '{topic}' partition {partition}");
        let because = |why: Option<String>| why.map_or(String::new(), |why| format!(": {why}"));
        match code {
            MessageTimedOut => Error::OfCluster {
                code: Code::RequestTimedOut,
                why: format!(
                    "{what}: the cluster did not acknowledge the record within {} ms{}; it may yet be stored",
                    self.timeout.as_millis(),
                    because(self.last_heard())
                ),
            },
            Fatal | PurgeQueue | PurgeInflight => {
                let (code, why) = self.failure().unwrap_or((Fatal, "it was stopped".into()));
                let Error::OfCluster { code, .. } = of_code(&what, code) else { unreachable!("it is the cluster's") };
                let why = format!(
                    "{what}: the producer failed for good, and another takes its place: {why}; the record may be stored"
                );
                Error::OfCluster { code, why }
            }
            UnknownTopic | UnknownTopicOrPartition => Error::UnknownTopic(topic.into()),
            MessageSizeTooLarge => Error::OfCluster {
                code: Code::MessageTooLarge,
                why: format!("{what}: the cluster takes no record, or no batch (batch.size), that is so large"),
            },
            code => of_code(&what, code),
        }
    }
}

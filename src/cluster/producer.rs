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
    producer::{DeliveryResult, Producer, ProducerContext, PurgeConfig, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use std::{
    collections::BTreeMap,
    ffi::CStr,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::*},
    },
    time::Duration,
};

/// Settings of ours, by name, with another name that librdkafka knows them by. What is in queues is bounded by the sessions, which
/// count it; librdkafka's own limit is above that.
const OURS: [(&str, &str, &str); 7] = [
    ("acks", "", "all"),
    ("enable.idempotence", "", "true"),
    ("allow.auto.create.topics", "", "false"),
    ("linger.ms", "queue.buffering.max.ms", "0"),
    // How large a record may be is the cluster's to say.
    ("message.max.bytes", "", "67108864"),
    ("queue.buffering.max.messages", "", "0"),
    ("queue.buffering.max.kbytes", "", "1048576"),
];

/// The most that a batch has; less where a topic takes less.
const BATCH_BYTES: usize = 256 << 10;
/// The same in transactions, whose producers write to any topic: as Kafka's own producers do.
const BATCH_BYTES_IN_TRANSACTIONS: usize = 16 << 10;

/// How long a topic may be looked at whose new partitions a producer does not know.
const LOOKING: Duration = Duration::from_secs(5);

/// What a record counts for beside its bytes, while it is unanswered.
pub(super) const RECORD_BYTES: usize = 256;

/// A producer, its thread, and what is unanswered of it.
pub(super) struct Sender {
    producer: ThreadedProducer<Delivering>,
    timeout: Duration,
    /// The most that its batches have.
    batch_bytes: usize,
    /// Whether the program stops: nothing is waited for any more.
    gives_up: Arc<AtomicBool>,
}

/// What a producer is for.
pub(super) struct Purpose<'a> {
    /// Records fail after so long a time.
    pub(super) timeout: Duration,
    /// Of transactions: an id, and how many ms they may take.
    pub(super) transactions: Option<(&'a str, u64)>,
    /// The most that a batch may have.
    pub(super) batch_bytes: usize,
}

/// Answers what was delivered, and keeps what went wrong last: it is the reason when nothing is.
pub(super) struct Delivering {
    wrong: Mutex<Option<String>>,
    /// Whether that is anything since the last record that was stored.
    is_wrong: AtomicBool,
    is_over: AtomicBool,
    /// Bytes that are unanswered, of all who count them here.
    unanswered_bytes: Arc<AtomicUsize>,
    offsets: Offsets,
}

/// Tells which offsets of a producer's records are ones. Of records that a node had stored before, as it says when it is sent them
/// again (`DUPLICATE_SEQUENCE_NUMBER`), it does not say where; librdkafka then counts from -1 on, through the records of the batch.
#[derive(Debug)]
pub(super) struct Offsets {
    /// The last one that was none.
    untold: AtomicI64,
}

impl Default for Offsets {
    fn default() -> Offsets {
        Offsets { untold: AtomicI64::new(i64::MIN) }
    }
}

impl Offsets {
    /// The offset of the next record, in librdkafka's order; `None`: it was stored, and is not told where.
    pub(super) fn told(&self, offset: i64) -> Option<u64> {
        let is_told = offset >= 0 && offset != self.untold.load(Acquire).saturating_add(1);
        self.untold.store(if is_told { i64::MIN } else { offset }, Release);
        is_told.then_some(offset as u64)
    }
}

/// The producers of all connections. A node takes or refuses a batch as a whole, and a topic's `max.message.bytes` is what a batch may
/// have: so there is another one for topics that take only small ones, and nobody's record is refused for its company.
#[derive(Debug, Default)]
pub(super) struct SharedProducer {
    /// By the size of their batches.
    current: Mutex<BTreeMap<usize, Arc<Sender>>>,
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
            Ok(message) => Outcome::Stored(self.offsets.told(message.offset())),
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
    /// The producer for topics that take so large a batch; the first to ask makes it, or another one after it has failed for good.
    pub(super) fn get(
        &self,
        options: &ClusterOptions,
        batch_bytes_max: usize,
        gives_up: &Arc<AtomicBool>,
    ) -> Result<Arc<Sender>> {
        // Sizes are powers of two, so that there are few of them.
        let batch_bytes = match batch_bytes_max {
            BATCH_BYTES.. => BATCH_BYTES,
            small => 1 << small.max(1).ilog2(),
        };
        let mut current = self.current.lock().expect("no panic under the lock");
        if let Some(sender) = current.get(&batch_bytes).filter(|sender| !sender.is_over()) {
            return Ok(sender.clone());
        }
        let purpose = Purpose { timeout: options.timeout, transactions: None, batch_bytes };
        let sender = Arc::new(Sender::new(options, purpose, self.unanswered_bytes.clone(), gives_up.clone())?);
        let before = current.insert(batch_bytes, sender.clone());
        drop(current);
        // Its end may take a moment.
        drop(before);
        Ok(sender)
    }

    #[cfg(test)]
    pub(super) fn unanswered_bytes(&self) -> usize {
        self.unanswered_bytes.load(Acquire)
    }

    /// Answers all that is unanswered: it is not known what becomes of it.
    pub(super) fn give_up(&self) {
        let all: Vec<_> = self.current.lock().expect("no panic under the lock").values().cloned().collect();
        all.iter().for_each(|sender| sender.give_up());
    }
}

impl Sender {
    /// A producer for this. When `gives_up` is set it takes no more.
    pub(super) fn new(
        options: &ClusterOptions,
        purpose: Purpose<'_>,
        unanswered_bytes: Arc<AtomicUsize>,
        gives_up: Arc<AtomicBool>,
    ) -> Result<Sender> {
        let Purpose { timeout, transactions, batch_bytes } = purpose;
        let (timeout_ms, batch_size) = (timeout.as_millis().to_string(), batch_bytes.to_string());
        let own = [
            ("delivery.timeout.ms", "message.timeout.ms", timeout_ms.as_str()),
            ("batch.size", "", batch_size.as_str()),
        ];
        let ours = OURS.into_iter().chain(own);
        let is_set = |other: &str| options.settings.contains_key(other);
        let ours: Vec<_> = ours.filter(|(_, other, _)| !is_set(other)).map(|(name, _, value)| (name, value)).collect();
        let mut config = options.client(&ours);
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
            offsets: Offsets::default(),
        };
        let producer = config.create_with_context(heard).map_err(|error| ClusterOptions::refused(&error))?;
        Ok(Sender { producer, timeout, batch_bytes, gives_up })
    }

    /// The same for transactions of this id, which may take so many ms.
    pub(super) fn of_transactions(
        options: &ClusterOptions,
        id: &str,
        timeout_ms: u64,
        gives_up: Arc<AtomicBool>,
    ) -> Result<Sender> {
        let timeout = options.timeout.min(Duration::from_millis(timeout_ms));
        let batch_bytes = BATCH_BYTES_IN_TRANSACTIONS;
        let purpose = Purpose { timeout, transactions: Some((id, timeout_ms)), batch_bytes };
        Sender::new(options, purpose, Arc::default(), gives_up)
    }

    /// The most that its batches have.
    pub(super) fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }

    /// Whether nothing is waited for any more.
    pub(super) fn has_given_up(&self) -> bool {
        self.gives_up.load(SeqCst)
    }

    /// Answers all that is unanswered.
    pub(super) fn give_up(&self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
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
        if self.has_given_up() {
            return Err((RDKafkaErrorCode::PurgeQueue, asked));
        }
        let (bytes, unanswered_bytes) = (asked.bytes, &self.producer.context().unanswered_bytes);
        unanswered_bytes.fetch_add(bytes, AcqRel);
        let sent = native::send(self.producer.client(), topic, partition, records, record, asked);
        let sent = sent.inspect_err(|(code, _)| {
            unanswered_bytes.fetch_sub(bytes, AcqRel);
            if *code == RDKafkaErrorCode::Fatal {
                self.producer.context().is_over.store(true, Release);
            }
        });
        if self.has_given_up() {
            // Whoever gave up may have done so just before this one came.
            self.give_up();
        }
        sent
    }

    /// Looks at a topic anew: it has more partitions than this producer knows.
    pub(super) fn look_at(&self, topic: &str) {
        // Whoever then hands a record over is told what there is.
        let _ = self.producer.client().fetch_metadata(Some(topic), self.timeout.min(LOOKING));
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
            PurgeQueue | PurgeInflight if self.has_given_up() => Error::OfCluster {
                code: Code::RequestTimedOut,
                why: format!(
                    "{what}: this program stops, and the cluster has not acknowledged the record; it may yet be stored"
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
                why: format!("{what}: the topic takes nothing that is so large (max.message.bytes)"),
            },
            code => of_code(&what, code),
        }
    }
}

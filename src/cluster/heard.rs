//! What the client that asks tells of itself: why no node answers, and that a topic came or went.
//!
//! A thread listens, since librdkafka keeps what it tells until somebody does. What an operator must know goes to stderr, once until it
//! has changed. While anybody waits for topics, the thread looks once a second whether there are others.

use crate::{
    broker::{Error, Registered, Result, Waiter, Waiters},
    tell::tell,
};
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    metadata::Metadata,
    types::RDKafkaErrorCode,
};
use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::*},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

/// How soon the thread sees that it is to end.
const LISTENS: Duration = Duration::from_millis(100);
/// How often it looks for topics, and how long that may take.
const LOOKS: Duration = Duration::from_secs(1);

/// The client, and the thread that listens to it until this is dropped.
pub(super) struct Listener {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    client: BaseConsumer<Heard>,
    topic_waiters: Waiters,
    stopping: AtomicBool,
}

impl Listener {
    pub(super) fn start(client: BaseConsumer<Heard>) -> Result<Listener> {
        let shared = Arc::new(Shared { client, topic_waiters: Waiters::default(), stopping: AtomicBool::new(false) });
        let listening = shared.clone();
        let thread = Builder::new().name("cluster".into()).stack_size(256 << 10).spawn(move || listening.listen());
        let thread = thread.map_err(|error| Error::Storage(format!("cannot start a thread: {error}")))?;
        Ok(Listener { shared, thread: Some(thread) })
    }

    pub(super) fn client(&self) -> &BaseConsumer<Heard> {
        &self.shared.client
    }

    /// Wakes `waiter` when a topic is made, grows or goes.
    pub(super) fn register(&self, waiter: &Arc<Waiter>) -> Registered<'_> {
        self.shared.topic_waiters.register(waiter)
    }

    /// One was, as far as this program knows.
    pub(super) fn wake(&self) {
        self.shared.topic_waiters.wake();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Release);
        // If it panicked there is nothing to wait for.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

impl Shared {
    fn listen(&self) {
        let (mut known, mut looked) = (None, Instant::now());
        while !self.stopping.load(Acquire) {
            drop(self.client.poll(LISTENS));
            if self.topic_waiters.is_empty() || looked.elapsed() < LOOKS {
                continue;
            }
            // Whoever began to wait since the last look may have missed a change: the first look wakes, too.
            if let Ok(metadata) = self.client.fetch_metadata(None, LOOKS) {
                self.client.context().answered();
                if known.replace(digest(&metadata)) != Some(digest(&metadata)) {
                    self.topic_waiters.wake();
                }
            }
            looked = Instant::now();
        }
    }
}

/// The same as long as all topics have the same partitions.
fn digest(metadata: &Metadata) -> u64 {
    let mut topics: Vec<_> = metadata.topics().iter().map(|topic| (topic.name(), topic.partitions().len())).collect();
    topics.sort_unstable();
    let mut hasher = DefaultHasher::new();
    topics.hash(&mut hasher);
    hasher.finish()
}

/// Keeps the last thing that went wrong between librdkafka and the nodes: it is the reason when nothing answers.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<Faults>);

#[derive(Debug, Default)]
struct Faults {
    last: Option<String>,
    /// Whether no node is reached, as librdkafka says.
    all_down: bool,
    /// The codes of what was told to the operator.
    told: BTreeSet<i32>,
}

impl Heard {
    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.0.lock().expect("no panic under the lock")
    }

    /// The last reason, unless a node has answered since.
    pub(super) fn last(&self) -> Option<String> {
        self.faults().last.clone()
    }

    /// Whether no node was reached since the last answer.
    pub(super) fn is_out_of_reach(&self) -> bool {
        self.faults().all_down
    }

    /// A node has answered.
    pub(super) fn answered(&self) {
        let mut faults = self.faults();
        (faults.last, faults.all_down) = (None, false);
        // What is wrong with one node's TLS stays wrong while others answer.
        if faults.told.remove(&(RDKafkaErrorCode::AllBrokersDown as i32)) {
            tell("the cluster answers");
        }
    }
}

impl ClientContext for Heard {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        let mut faults = self.faults();
        faults.all_down |= code == Some(RDKafkaErrorCode::AllBrokersDown);
        // That all are down says less than what was heard before it.
        if code != Some(RDKafkaErrorCode::AllBrokersDown) || faults.last.is_none() {
            faults.last = Some(reason.to_owned());
        }
        // Whether a setting is wrong or nobody is there: it is tried again every second, and told once.
        let code = code.filter(|code| is_for_the_operator(*code) && faults.told.is_empty());
        let is_new = code.is_some_and(|code| faults.told.insert(code as i32));
        if let Some(last) = faults.last.as_ref().filter(|_| is_new) {
            tell(format_args!("a node of the cluster does not answer: {last}; trying again until it does"));
        }
    }
}

impl ConsumerContext for Heard {}

/// A node that is gone among others is no more than the cluster's affair.
fn is_for_the_operator(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    matches!(code, AllBrokersDown | Authentication | SSL)
}

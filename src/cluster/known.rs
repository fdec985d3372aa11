//! What is known of the cluster: the client that asks it, and what it last heard of each topic.
//!
//! Who writes or reads needs a topic's partitions at each request, so what was heard is believed for a second. Asking makes no
//! topic, whatever the cluster's own `auto.create.topics.enable` says.

use super::{
    errors::{Passes, is_silence, of_code, of_refusal, refused, unreachable},
    heard::{Heard, Listener},
    native::{Answer, Asking, Refused},
    options::ClusterOptions,
};
use crate::broker::{Code, Error, Registered, Result, Waiter};
use rdkafka::{
    client::Client,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    metadata::Metadata,
    types::RDKafkaErrorCode,
};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, Ordering::*},
    },
    thread,
    time::{Duration, Instant},
};

/// How long what was heard of a topic is believed.
const BELIEVED: Duration = Duration::from_secs(1);
/// How soon a coordinator that moves is asked again.
const ASKS_AGAIN: Duration = Duration::from_millis(100);
/// As many groups are asked for at once.
pub(super) const GROUPS_AT_ONCE: usize = 200;
/// For how long librdkafka is asked first; each time that nothing came it is asked for twice as long, since it cannot be called back.
const FIRST_ASKED: Duration = Duration::from_millis(250);
/// How long what goes on where it was is asked at once.
const STEP: Duration = Duration::from_secs(1);
/// How long a node that is not reached is tried again before whoever asks is told so.
const TRIES: Duration = Duration::from_secs(1);
/// How long it may take to hear a topic's id.
const TELLS_ID: Duration = Duration::from_millis(500);
/// How long it may take until all nodes have heard of a topic or a partition.
pub(super) const SPREADS: Duration = Duration::from_secs(5);
/// As many topics are remembered.
const TOPICS_MAX: usize = 10_000;

/// The client that asks, and what it heard.
pub(super) struct Known {
    asking: Listener,
    servers: String,
    timeout: Duration,
    topics: Mutex<HashMap<String, Remembered>>,
    grown: Mutex<HashMap<String, Grown>>,
    /// Whether nobody is to wait for the nodes any more.
    gives_up: Arc<AtomicBool>,
}

struct Remembered {
    topic: Arc<KnownTopic>,
    heard: Instant,
}

/// How many partitions a topic was seen to have, and when it was first seen to have so many.
struct Grown {
    partitions: usize,
    seen: Instant,
}

/// A topic as the cluster last told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTopic {
    /// Its name.
    pub name: String,
    /// Its partitions in order.
    pub partitions: Vec<KnownPartition>,
    /// Its UUID, once that was asked for; `None`: no node tells.
    id: OnceLock<Option<[u8; 16]>>,
}

/// A partition of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPartition {
    /// The node that leads it; `None`: none does.
    pub leader: Option<i32>,
    /// The nodes that have a copy.
    pub replicas: Vec<i32>,
    /// Those of them that are in sync.
    pub in_sync: Vec<i32>,
}

impl KnownTopic {
    /// Whether it has this partition.
    pub(super) fn has(&self, partition: u32) -> bool {
        (partition as usize) < self.partitions.len()
    }

    /// It has no such partition.
    pub(super) fn without(&self, partition: u32) -> Error {
        let partitions = self.partitions.len() as u32;
        Error::UnknownPartition { topic: self.name.clone(), partition, partitions }
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl Known {
    pub(super) fn new(options: &ClusterOptions) -> Result<Known> {
        options.check()?;
        // librdkafka 2.12 takes a client for a member when a node answers that it coordinates a group no more (OffsetFetch of an
        // admin call), and without a group there it reads at null.
        let ours =
            [("allow.auto.create.topics", "false"), ("enable.auto.commit", "false"), ("group.id", "plainlog-asking")];
        let asking = options.client(&ours).create_with_context(Heard::default());
        let asking = Listener::start(asking.map_err(|error| ClusterOptions::refused(&error))?)?;
        let (servers, timeout) = (options.servers.clone(), options.timeout);
        Ok(Known {
            asking,
            servers,
            timeout,
            topics: Mutex::default(),
            grown: Mutex::default(),
            gives_up: Arc::default(),
        })
    }

    /// The client that asks. It reads no records.
    pub(super) fn client(&self) -> &Client<Heard> {
        self.asking().client()
    }

    /// The same, as one that knows of offsets.
    pub(super) fn asking(&self) -> &BaseConsumer<Heard> {
        self.asking.client()
    }

    /// Wakes `waiter` when a topic is made, grows or goes, until the answer is dropped.
    pub(super) fn register(&self, waiter: &Arc<Waiter>) -> Registered<'_> {
        self.asking.register(waiter)
    }

    /// Asks for one topic, or for the nodes and all topics.
    pub(super) fn metadata(&self, topic: Option<&str>) -> Result<Metadata> {
        self.metadata_within(topic, self.timeout)
    }

    /// The same with another time.
    pub(super) fn metadata_within(&self, topic: Option<&str>, most: Duration) -> Result<Metadata> {
        let begun = Instant::now();
        let answer = self.insist(most, |time| self.client().fetch_metadata(topic, time));
        let answer = answer.map_err(|error| match error.rdkafka_error_code() {
            Some(code) if is_silence(code as i32) => self.unreachable(begun.elapsed(), None),
            _ => refused("asking for metadata", &error),
        })?;
        self.client().context().answered();
        Ok(answer)
    }

    /// What no longer waits for the nodes while it is set: the program stops.
    pub(super) fn gives_up(&self) -> &Arc<AtomicBool> {
        &self.gives_up
    }

    /// Whether it is of no use to wait on for what somebody began to ask then: no node is reached, or nobody is to wait.
    pub(super) fn is_vain(&self, begun: Instant) -> bool {
        self.gives_up.load(Acquire) || begun.elapsed() >= TRIES && self.client().context().is_out_of_reach()
    }

    /// Asks by `question`, which may take the time that it is given, until there is an answer that does not pass by itself, time is
    /// over, or it is in vain.
    pub(super) fn insist<T, E: Passes>(
        &self,
        most: Duration,
        question: impl FnMut(Duration) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        self.ask_again(most, FIRST_ASKED, 2, question)
    }

    /// The same where what is asked again goes on where it was.
    pub(super) fn insist_in_steps<T, E: Passes>(
        &self,
        most: Duration,
        question: impl FnMut(Duration) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        self.ask_again(most, STEP, 1, question)
    }

    /// The same with how much time a question has at first, and how many times as much each time that it is asked again.
    fn ask_again<T, E: Passes>(
        &self,
        most: Duration,
        mut time: Duration,
        grows: u32,
        mut question: impl FnMut(Duration) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let begun = Instant::now();
        loop {
            let asked = Instant::now();
            let answer = question(time.min(most.saturating_sub(begun.elapsed())).max(Duration::from_millis(1)));
            let passes = answer.as_ref().err().is_some_and(Passes::passes);
            if !passes || begun.elapsed() >= most || self.is_vain(begun) {
                return answer;
            }
            // A connection that breaks at once is not tried all the time.
            thread::sleep(ASKS_AGAIN.saturating_sub(asked.elapsed()));
            time *= grows;
        }
    }

    /// Asks the nodes what the wrapper cannot ask.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&Asking<'_, Heard>) -> Answer<T>) -> Answer<T> {
        self.ask_within(self.timeout, question)
    }

    /// The same with another time.
    pub(super) fn ask_within<T>(
        &self,
        most: Duration,
        question: impl FnOnce(&Asking<'_, Heard>) -> Answer<T>,
    ) -> Answer<T> {
        let begun = Instant::now();
        let answer = question(&Asking::new(self.client(), most, &|| self.is_vain(begun)));
        if answer.as_ref().err().is_none_or(|refused| refused.number > 0) {
            self.client().context().answered();
        }
        answer
    }

    /// The same about a group. While its coordinator is found or moves it is asked again, as Kafka's clients do.
    pub(super) fn ask_coordinator<T>(&self, question: impl Fn(&Asking<'_, Heard>) -> Answer<T>) -> Answer<T> {
        self.ask_coordinator_within(self.timeout, question)
    }

    /// The same with another time.
    pub(super) fn ask_coordinator_within<T>(
        &self,
        most: Duration,
        question: impl Fn(&Asking<'_, Heard>) -> Answer<T>,
    ) -> Answer<T> {
        let deadline = Instant::now() + most;
        loop {
            match self.ask_within(most, &question) {
                Err(refused) if is_moving(&refused) && Instant::now() < deadline && !self.gives_up.load(Acquire) => {
                    thread::sleep(ASKS_AGAIN);
                }
                answer => return answer,
            }
        }
    }

    /// The same about groups by name, each of which may have another coordinator; each question may take so long.
    pub(super) fn ask_coordinators<T>(
        &self,
        names: &[&str],
        most: Duration,
        question: impl Fn(&Asking<'_, Heard>, &[&str]) -> Answer<Vec<(String, Answer<T>)>>,
    ) -> Answer<BTreeMap<String, Answer<T>>> {
        let deadline = Instant::now() + most;
        let mut answers = BTreeMap::new();
        for names in names.chunks(GROUPS_AT_ONCE) {
            let ask = |left: &[&str]| self.ask_within(most, |nodes| question(nodes, left));
            answers.extend(until_settled(names, deadline, ask)?);
        }
        Ok(answers)
    }

    /// An error of the client's. Where nothing answered it names the servers and the last reason.
    pub(super) fn explain(&self, what: &str, error: &KafkaError) -> Error {
        match error.rdkafka_error_code() {
            Some(code) if is_silence(code as i32) => self.unreachable(self.timeout, None),
            _ => refused(what, error),
        }
    }

    /// The same of what was refused; `otherwise` says what it means.
    pub(super) fn explain_refusal(&self, refused: Refused, otherwise: impl FnOnce(Refused) -> Error) -> Error {
        if is_silence(refused.number) { self.unreachable(self.timeout, Some(refused.why)) } else { otherwise(refused) }
    }

    /// The same where there is nothing more to say than what was done.
    pub(super) fn explain_other(&self, what: &str, refused: Refused) -> Error {
        self.explain_refusal(refused, |refused| of_refusal(what, &refused))
    }

    /// The same of a question that had this time.
    pub(super) fn explain_within(&self, most: Duration, what: &str, refused: Refused) -> Error {
        if is_silence(refused.number) {
            return self.unreachable(most, Some(refused.why));
        }
        self.explain_other(what, refused)
    }

    pub(super) fn unreachable(&self, time: Duration, why: Option<String>) -> Error {
        unreachable(&self.servers, time, self.client().context().last().or(why))
    }

    /// A topic, as it was within the last second.
    pub(super) fn topic(&self, name: &str) -> Result<Arc<KnownTopic>> {
        if let Some(known) = self.topics().get(name).filter(|known| known.heard.elapsed() < BELIEVED) {
            return Ok(known.topic.clone());
        }
        self.topic_now(name)
    }

    /// What tells a topic from others that had its name, if a node tells it soon: what librdkafka knows of topics by itself does not.
    pub(super) fn id(&self, topic: &KnownTopic) -> Option<[u8; 16]> {
        let ask = || {
            let told = self.ask_within(TELLS_ID.min(self.timeout), |nodes| nodes.topics(&[&topic.name]));
            told.ok()?.pop()?.topic.ok().map(|topic| topic.id).filter(|id| *id != [0; 16])
        };
        *topic.id.get_or_init(ask)
    }

    /// A topic with this partition: it is looked at once more before it is said to have none, since somebody else may have made it
    /// within the last second.
    pub(super) fn with_partition(&self, mut found: Arc<KnownTopic>, partition: u32) -> Result<Arc<KnownTopic>> {
        if !found.has(partition) {
            found = self.topic_now(&found.name)?;
        }
        if found.has(partition) { Ok(found) } else { Err(found.without(partition)) }
    }

    /// A topic, as it was within so long a time, if it was heard of; and whether it is time to ask again.
    pub(super) fn topic_within(&self, name: &str, time: Duration) -> Option<(Arc<KnownTopic>, bool)> {
        let topics = self.topics();
        let known = topics.get(name)?;
        let age = known.heard.elapsed();
        (age < time).then(|| (known.topic.clone(), age >= BELIEVED))
    }

    /// A topic, as it is now.
    pub(super) fn topic_now(&self, name: &str) -> Result<Arc<KnownTopic>> {
        self.forget(name);
        self.topic_anew(name, self.timeout)
    }

    /// The same with another time; meanwhile others go on with what was heard before.
    pub(super) fn topic_anew(&self, name: &str, most: Duration) -> Result<Arc<KnownTopic>> {
        let partitions = |topic: &KnownTopic| topic.partitions.len();
        let topic = self.until_told(name, most, partitions, |time| {
            let metadata = self.metadata_within(Some(name), time)?;
            let topic = metadata.topics().iter().find(|topic| topic.name() == name);
            Ok(topic.ok_or_else(|| Error::UnknownTopic(name.into())).and_then(known_topic))
        })?;
        let topic = Arc::new(topic.inspect_err(|_| self.forget(name))?);
        let mut topics = self.topics();
        if topics.len() >= TOPICS_MAX {
            topics.clear();
        }
        topics.insert(name.into(), Remembered { topic: topic.clone(), heard: Instant::now() });
        Ok(topic)
    }

    /// Asks what a topic is, and again where the node that answers is behind another.
    pub(super) fn until_told<T>(
        &self,
        name: &str,
        most: Duration,
        partitions: impl Fn(&T) -> usize,
        ask: impl Fn(Duration) -> Result<Result<T>>,
    ) -> Result<Result<T>> {
        let begun = Instant::now();
        loop {
            let told = ask(most.saturating_sub(begun.elapsed()))?;
            let count = match &told {
                Ok(topic) => partitions(topic),
                Err(Error::UnknownTopic(_)) => 0,
                Err(_) => return Ok(told),
            };
            if !self.is_behind(name, count) || begun.elapsed() + ASKS_AGAIN >= most || self.is_vain(begun) {
                return Ok(told);
            }
            thread::sleep(ASKS_AGAIN);
        }
    }

    /// Whether another node has told lately of more than so many partitions (0: of a topic that this one does not know). What is new is
    /// not everywhere at once.
    fn is_behind(&self, name: &str, partitions: usize) -> bool {
        let mut grown = self.grown.lock().expect("no panic under the lock");
        match grown.get(name) {
            Some(known) if partitions < known.partitions && known.seen.elapsed() < SPREADS => return true,
            Some(known) if partitions == known.partitions => return false,
            None if partitions == 0 => return false,
            _ => {}
        }
        if grown.len() >= TOPICS_MAX {
            grown.clear();
        }
        grown.insert(name.into(), Grown { partitions, seen: Instant::now() });
        false
    }

    /// Whether it was lately that a topic was first seen, or seen to have grown: who leads it may not know of that yet.
    pub(super) fn is_new(&self, name: &str) -> bool {
        let grown = self.grown.lock().expect("no panic under the lock");
        grown.get(name).is_some_and(|known| known.partitions > 0 && known.seen.elapsed() < SPREADS)
    }

    /// This program has dropped a topic.
    pub(super) fn dropped(&self, name: &str) {
        self.grown.lock().expect("no panic under the lock").remove(name);
        self.changed(name);
    }

    /// What was heard of a topic may not be so any more.
    pub(super) fn forget(&self, name: &str) {
        self.topics().remove(name);
    }

    /// This program has changed a topic.
    pub(super) fn changed(&self, name: &str) {
        self.forget(name);
        self.asking.wake();
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.topics.lock().expect("no panic under the lock")
    }
}

/// Whether a group's coordinator is found or moves just now.
pub(super) fn is_moving(refused: &Refused) -> bool {
    const MOVES: [Code; 3] = [Code::CoordinatorLoadInProgress, Code::CoordinatorNotAvailable, Code::NotCoordinator];
    MOVES.iter().any(|code| *code as i32 == refused.number)
}

/// Asks for these, and again for those whose coordinator moves, until the time is over.
fn until_settled<T>(
    names: &[&str],
    deadline: Instant,
    ask: impl Fn(&[&str]) -> Answer<Vec<(String, Answer<T>)>>,
) -> Answer<BTreeMap<String, Answer<T>>> {
    let (mut answers, mut left) = (BTreeMap::new(), names.to_vec());
    loop {
        answers.extend(ask(&left)?);
        left.retain(|name| answers.get(*name).is_some_and(|answer| answer.as_ref().is_err_and(is_moving)));
        if left.is_empty() || Instant::now() >= deadline {
            return Ok(answers);
        }
        thread::sleep(ASKS_AGAIN);
    }
}

/// A topic of an answer, or the error that stands there instead.
pub(super) fn known_topic(topic: &rdkafka::metadata::MetadataTopic) -> Result<KnownTopic> {
    use RDKafkaErrorCode::*;
    let name = topic.name();
    match topic.error().map(RDKafkaErrorCode::from) {
        None => {}
        Some(UnknownTopicOrPartition | UnknownTopic | UnknownPartition) => {
            return Err(Error::UnknownTopic(name.into()));
        }
        // The partitions tell which of them has none.
        Some(LeaderNotAvailable) if !topic.partitions().is_empty() => {}
        Some(error) => return Err(of_code(&format!("topic '{name}'"), error)),
    }
    let partition = |partition: &rdkafka::metadata::MetadataPartition| KnownPartition {
        leader: Some(partition.leader()).filter(|node| *node >= 0),
        replicas: partition.replicas().to_vec(),
        in_sync: partition.isr().to_vec(),
    };
    let mut partitions: Vec<_> = topic.partitions().iter().collect();
    partitions.sort_by_key(|partition| partition.id());
    Ok(KnownTopic {
        name: name.into(),
        partitions: partitions.into_iter().map(partition).collect(),
        id: OnceLock::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_node_that_has_not_heard_yet_of_what_is_new_is_asked_again() {
        let known = Known::new(&ClusterOptions::new("localhost:1")).unwrap();
        assert!(!known.is_behind("t", 0), "nobody has heard of it");
        assert!(!known.is_behind("t", 1));
        assert!(known.is_behind("t", 0));
        assert!(!known.is_behind("t", 2));
        assert!(known.is_behind("t", 1));
        known.dropped("t");
        assert!(!known.is_behind("t", 0), "it is gone");
    }

    #[test]
    fn a_group_whose_coordinator_moves_is_asked_for_again_and_the_others_are_not() {
        let moves = || Refused { number: Code::NotCoordinator as i32, why: String::new() };
        let asked = Cell::new(0);
        let ask = |names: &[&str]| {
            asked.set(asked.get() + names.len());
            let of = |name: &&str| -> Answer<()> {
                match *name {
                    "gone" => Err(Refused { number: Code::GroupIdNotFound as i32, why: String::new() }),
                    "moves" if asked.get() < 5 => Err(moves()),
                    _ => Ok(()),
                }
            };
            Ok(names.iter().map(|name| (name.to_string(), of(name))).collect())
        };
        let names = ["here", "gone", "moves"];
        let answers = until_settled(&names, Instant::now() + Duration::from_secs(60), ask).unwrap();
        assert_eq!(answers.values().map(Answer::is_ok).collect::<Vec<_>>(), [false, true, true]);
        assert_eq!(asked.get(), 3 + 2);
        let ask = |names: &[&str]| Ok(names.iter().map(|name| (name.to_string(), Err::<(), _>(moves()))).collect());
        assert_eq!(until_settled(&names, Instant::now(), ask).unwrap().len(), 3, "once the time is over they stay so");
    }
}

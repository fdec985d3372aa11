//! The numbers of a producer's records, by which the broker stores each of them once however often it is sent.
//!
//! ```text
//! orders: 3 partitions      orders/0  next 17
//! events: 1 partition       events/0  next 4      orders/2  next 9
//! ```
//!
//! - Numbers count within a partition, so the partition is chosen here, as the broker would choose it.
//! - A number is never given to a second record. Where one was refused, those behind it leave a gap that nothing fills; all
//!   that the broker did not take then gets numbers of a new producer, counted from 0.
//! - Ids are a broker's own. One that answers at the same address with another cluster id has other data, and may give the same ids
//!   to others.

use crate::{
    broker::{choose, random},
    client::{
        Connection, Error, Record,
        answer::{UNKNOWN_PRODUCER, field},
        connection::number,
        record::Number,
    },
    log::record::{parse_u63, split_word},
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// How long the number of a topic's partitions is taken for what it was.
const TOPICS_KNOWN_FOR: Duration = Duration::from_secs(30);

/// Who a producer is to its broker, and the number that comes next in each partition.
#[derive(Debug)]
pub(super) struct Sequences {
    identity: Identity,
    topics: HashMap<String, Topic>,
    /// Where records without a key go for this time.
    sticky: u64,
}

/// What the broker says of the producer and of itself.
#[derive(Debug, PartialEq)]
struct Identity {
    producer_id: u64,
    cluster_id: String,
    /// What a topic has that its first use makes.
    default_partitions: u32,
}

#[derive(Debug)]
struct Topic {
    partitions: u32,
    /// When the broker was asked, unless it gave reason to ask again.
    asked: Option<Instant>,
    /// The number that comes next, by partition.
    next: HashMap<u32, u32>,
}

impl Identity {
    /// Asks for a producer id, or goes on with one.
    fn ask(connection: &mut Connection, known: Option<u64>) -> Result<Identity, Error> {
        let verb = known.map_or("PRODUCER".into(), |id| format!("PRODUCER {id}"));
        let producer_id = number(connection.ask(&verb)?.first.as_bytes(), "producer_id")?;
        let info = connection.ask("INFO")?.lines.join(" ");
        let cluster_id = field(info.as_bytes(), "cluster_id").unwrap_or_default();
        let cluster_id = String::from_utf8_lossy(cluster_id).into_owned();
        let default_partitions = number(info.as_bytes(), "default_partitions")?;
        let default_partitions = u32::try_from(default_partitions).unwrap_or(1).max(1);
        Ok(Identity { producer_id, cluster_id, default_partitions })
    }
}

impl Sequences {
    /// Introduces a new producer.
    pub(super) fn begin(connection: &mut Connection) -> Result<Sequences, Error> {
        let identity = Identity::ask(connection, None)?;
        Ok(Sequences { identity, topics: HashMap::new(), sticky: random::number() })
    }

    /// Goes on over another connection. Answers whether the numbers hold there.
    pub(super) fn go_on(&self, connection: &mut Connection) -> Result<bool, Error> {
        match Identity::ask(connection, Some(self.identity.producer_id)) {
            Ok(identity) => Ok(identity.cluster_id == self.identity.cluster_id),
            Err(Error::Refused(refused)) if refused.code == UNKNOWN_PRODUCER => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Becomes a new producer, which sent nothing yet.
    pub(super) fn begin_again(&mut self, connection: &mut Connection) -> Result<(), Error> {
        self.identity = Identity::ask(connection, None)?;
        self.topics.values_mut().for_each(|topic| topic.next.clear());
        Ok(())
    }

    /// Whether the topic must be [asked for](Self::learn) before a record is sent to it.
    pub(super) fn is_unknown(&self, topic: &str) -> bool {
        let asked = self.topics.get(topic).and_then(|topic| topic.asked);
        asked.is_none_or(|asked| asked.elapsed() > TOPICS_KNOWN_FOR)
    }

    /// The broker does not know the topic of this line, or the partition.
    pub(super) fn doubt(&mut self, line: &[u8]) {
        if let Some((topic, ..)) = split_send(line)
            && let Some(topic) = self.topics.get_mut(topic)
        {
            topic.asked = None;
        }
    }

    /// Asks how many partitions a topic has. Where that cannot be said, the broker will say of each record why.
    pub(super) fn learn(&mut self, topic: &str, connection: &mut Connection) -> Result<(), Error> {
        let known = match connection.partitions(topic) {
            Err(Error::Refused(_)) => None,
            answer => answer?,
        };
        let partitions = known.unwrap_or(self.identity.default_partitions).max(1);
        let asked = Some(Instant::now());
        let entry = self.topics.entry(topic.into()).or_insert(Topic { partitions, asked, next: HashMap::new() });
        (entry.partitions, entry.asked) = (partitions, asked);
        Ok(())
    }

    /// From here on records without a key go elsewhere.
    pub(super) fn turn(&mut self) {
        self.sticky = random::number();
    }

    /// The number of a record to a topic that is known.
    pub(super) fn number(&mut self, topic: &str, record: &Record) -> Number {
        let known = self.topics.get_mut(topic).expect("it was asked for");
        let partition = choose(record.partition, record.key.as_deref(), self.sticky, known.partitions);
        known.give(partition)
    }

    /// Appends a line that was numbered before under a new number.
    pub(super) fn number_again(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let (topic, Number { partition, .. }, rest) = split_send(line).expect("it was written here");
        self.topics.get_mut(topic).expect("it was asked for").give(partition).write_send(out, topic);
        out.extend_from_slice(rest);
    }
}

impl Topic {
    fn give(&mut self, partition: u32) -> Number {
        let next = self.next.entry(partition).or_default();
        let sequence = *next;
        // Behind 2^31-1 comes 0.
        *next = (sequence + 1) & i32::MAX as u32;
        Number { partition, sequence }
    }
}

/// The number in a line.
pub(super) fn sequence_in(line: &[u8]) -> Option<u32> {
    split_send(line).map(|(_, number, _)| number.sequence)
}

/// `SEND <topic>/<p> sequence:<n> <fields>`: the topic, the number and the fields.
fn split_send(line: &[u8]) -> Option<(&str, Number, &[u8])> {
    let number = |digits: &[u8]| parse_u63(digits).and_then(|number| u32::try_from(number).ok());
    let (place, rest) = split_word(line.strip_prefix(b"SEND ")?);
    let slash = memchr::memchr(b'/', place)?;
    let (word, fields) = split_word(rest?);
    let sequence = number(word.strip_prefix(b"sequence:")?)?;
    let topic = str::from_utf8(&place[..slash]).ok()?;
    Some((topic, Number { partition: number(&place[slash + 1..])?, sequence }, fields?))
}

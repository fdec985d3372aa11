//! Reads partitions of one side, as readers of committed records see them, all by one client.

use super::{
    super::{
        heard::Heard,
        native::{Fetched, Message},
    },
    sides::Side,
};
use crate::{
    broker::{Code, Error, Isolation, Result},
    cluster::{
        ClusterOptions,
        errors::{of_code, refused},
    },
};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    types::RDKafkaErrorCode,
};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// What is read ahead, in KiB, of all partitions together.
const AHEAD_KIB: &str = "16384";

/// A client that reads.
pub(super) struct Reading<'s> {
    side: &'s Side,
    /// What is left of a batch.
    taken: std::collections::VecDeque<Message>,
    fetched: Fetched<Heard>,
    client: Arc<BaseConsumer<Heard>>,
    /// The number of each partition, by topic and partition.
    numbers: HashMap<String, Vec<Option<usize>>>,
    places: Vec<(String, u32)>,
    /// The topic and partition of the last message: others of it mostly follow.
    last: Option<(usize, i32, usize)>,
}

/// What comes of a partition, which is told by its number.
pub(super) enum Read {
    Record(usize, Message),
    /// Nothing more is there now before this offset.
    End(usize, i64),
}

impl<'s> Reading<'s> {
    pub(super) fn open(side: &'s Side) -> Result<Reading<'s>> {
        let more = [("check.crcs", "true"), ("queued.max.messages.kbytes", AHEAD_KIB)];
        let config = side.options.reader("plainlog-move", Isolation::ReadCommitted, &more);
        let client = config.create_with_context(Heard::default());
        let client: Arc<BaseConsumer<Heard>> = Arc::new(client.map_err(|error| ClusterOptions::refused(&error))?);
        let fetched = Fetched::of(&client).map_err(|refused| side.explain("reading", refused))?;
        let (taken, numbers, places) = Default::default();
        Ok(Reading { side, taken, fetched, client, numbers, places, last: None })
    }

    /// Reads these partitions, each from an offset on. Their numbers are their indexes.
    pub(super) fn assign(&mut self, places: &[(&str, u32, i64)]) -> Result<()> {
        self.taken.clear();
        (self.numbers, self.places, self.last) = Default::default();
        let mut list = TopicPartitionList::with_capacity(places.len());
        for (number, &(topic, partition, offset)) in places.iter().enumerate() {
            let added = list.add_partition_offset(topic, partition as i32, Offset::Offset(offset));
            added.map_err(|error| refused("reading", &error))?;
            let numbers = self.numbers.entry(topic.into()).or_default();
            numbers.resize(numbers.len().max(partition as usize + 1), None);
            numbers[partition as usize] = Some(number);
            self.places.push((topic.into(), partition));
        }
        self.client.assign(&list).map_err(|error| refused("reading", &error))
    }

    /// The next record or end of any of them; `None`: none came within the time.
    pub(super) fn next(&mut self, time: Duration) -> Result<Option<Read>> {
        loop {
            if self.taken.is_empty() {
                let Some(first) = self.fetched.wait(time) else { return Ok(None) };
                self.taken.push_back(first);
                self.taken.extend(self.fetched.take());
            }
            while let Some(message) = self.taken.pop_front() {
                if let Some(read) = self.looked_at(message)? {
                    return Ok(Some(read));
                }
            }
        }
    }

    fn looked_at(&mut self, message: Message) -> Result<Option<Read>> {
        let number = self.number(&message);
        match (message.error(), number) {
            (None, Some(number)) => Ok(Some(Read::Record(number, message))),
            (Some(RDKafkaErrorCode::PartitionEOF), Some(number)) => Ok(Some(Read::End(number, message.offset()))),
            (Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange), Some(number)) => {
                self.go_on(number, message.offset()).map(|()| None)
            }
            // librdkafka tries again by itself, as it does for what concerns no partition.
            (Some(error), Some(number)) if is_final(error) => {
                let (topic, partition) = &self.places[number];
                Err(of_code(&format!("reading '{topic}' partition {partition} of the {}", self.side.name), error))
            }
            _ => Ok(None),
        }
    }

    /// The offset to be read is not there. What has been removed at the beginning is passed over; what ends before it is not what
    /// has been read.
    fn go_on(&mut self, number: usize, offset: i64) -> Result<()> {
        let place = self.places[number].clone();
        let ends = self.side.ends(std::slice::from_ref(&place))?[0];
        let (topic, partition) = place;
        if offset > ends.end {
            return Err(Error::OfCluster {
                code: Code::OffsetOutOfRange,
                why: format!(
                    "'{topic}' partition {partition} of the {} ends at {}, before offset {offset}, up to which it was read: \
                     it has lost records or was made anew",
                    self.side.name, ends.end
                ),
            });
        }
        // A position that was not there cannot be sought from.
        let (mut gone, mut added) = (TopicPartitionList::new(), TopicPartitionList::new());
        gone.add_partition(&topic, partition as i32);
        let at = Offset::Offset(ends.first.max(offset));
        let assigned = added
            .add_partition_offset(&topic, partition as i32, at)
            .and_then(|()| self.client.incremental_unassign(&gone))
            .and_then(|()| self.client.incremental_assign(&added));
        assigned.map_err(|error| refused(&format!("reading '{topic}' partition {partition}"), &error))
    }

    fn number(&mut self, message: &Message) -> Option<usize> {
        let (topic, partition) = message.place()?;
        if let Some((_, _, number)) = self.last.filter(|last| (last.0, last.1) == (topic.id(), partition)) {
            return Some(number);
        }
        let numbers = self.numbers.get(&topic.name())?;
        let number = numbers.get(usize::try_from(partition).ok()?).copied().flatten()?;
        self.last = Some((topic.id(), partition, number));
        Some(number)
    }
}

fn is_final(error: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    matches!(
        error,
        TopicAuthorizationFailed
            | UnknownTopic
            | UnknownPartition
            | UnknownTopicOrPartition
            | BadMessage
            | InvalidMessage
            | Fatal
    )
}

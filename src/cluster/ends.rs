//! Where partitions begin and end, and which offset a time means, by the cluster's word at this moment.

use super::{Shared, errors::of_code};
use crate::broker::{Error, Isolation, Result};
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use std::sync::OnceLock;

/// The client that asks what readers of records that are not committed see; made when somebody first is one.
#[derive(Default)]
pub(super) struct Asking(OnceLock<BaseConsumer<Silent>>);

/// A client's own words, which nobody needs: what it is asked it answers.
pub(super) struct Silent;

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    /// Offset of the first record.
    pub(super) start: u64,
    /// Offset behind the last record that the reader sees.
    pub(super) end: u64,
}

impl ClientContext for Silent {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Silent {}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asking")
    }
}

impl Shared {
    /// Where a partition begins and ends for such a reader.
    pub(super) fn ends(&self, topic: &str, partition: u32, isolation: Isolation) -> Result<Ends> {
        let number = self.number(topic, partition)?;
        let asked = match isolation {
            Isolation::ReadCommitted => self.known.asking().fetch_watermarks(topic, number, self.options.timeout),
            Isolation::ReadUncommitted => self.uncommitted()?.fetch_watermarks(topic, number, self.options.timeout),
        };
        asked.map(Ends::of).map_err(|error| self.unread(topic, partition, &error))
    }

    /// The lowest offset whose time is at or after this, if the reader sees one.
    pub(super) fn offset_at(&self, topic: &str, partition: u32, isolation: Isolation, ms: i64) -> Result<Option<u64>> {
        let mut wanted = TopicPartitionList::new();
        // Times below 0 mean something else there.
        let time = Offset::Offset(ms.max(0));
        let added = wanted.add_partition_offset(topic, self.number(topic, partition)?, time);
        let timeout = self.options.timeout;
        let asked = added.and_then(|()| match isolation {
            Isolation::ReadCommitted => self.known.asking().offsets_for_times(wanted, timeout),
            Isolation::ReadUncommitted => match self.uncommitted() {
                Ok(client) => client.offsets_for_times(wanted, timeout),
                Err(_) => Err(KafkaError::Canceled),
            },
        });
        let answer = asked.map_err(|error| self.unread(topic, partition, &error))?;
        let elements = answer.elements();
        let Some(element) = elements.first() else { return Ok(None) };
        element.error().map_err(|error| self.unread(topic, partition, &error))?;
        Ok(element.offset().to_raw().and_then(|offset| u64::try_from(offset).ok()))
    }

    /// Why a partition could not be read or asked for.
    pub(super) fn unread(&self, topic: &str, partition: u32, error: &KafkaError) -> Error {
        use RDKafkaErrorCode::*;
        match error.rdkafka_error_code() {
            Some(code @ (UnknownTopic | UnknownPartition | UnknownTopicOrPartition)) => {
                match self.known.topic_now(topic) {
                    Ok(known) if partition as usize >= known.partitions.len() => unknown(topic, partition, &known),
                    Ok(_) => of_code(&format!("reading {topic}/{partition}"), code),
                    Err(error) => error,
                }
            }
            _ => self.known.explain(&format!("reading {topic}/{partition}"), error),
        }
    }

    fn uncommitted(&self) -> Result<&BaseConsumer<Silent>> {
        if let Some(client) = self.uncommitted.0.get() {
            return Ok(client);
        }
        let ours = [
            ("isolation.level", Isolation::ReadUncommitted.name()),
            ("allow.auto.create.topics", "false"),
            ("enable.auto.commit", "false"),
        ];
        let made = self.options.client(&ours).create_with_context(Silent);
        let made = made.map_err(|error| super::ClusterOptions::refused(&error))?;
        Ok(self.uncommitted.0.get_or_init(|| made))
    }

    /// A partition's number as librdkafka takes it.
    fn number(&self, topic: &str, partition: u32) -> Result<i32> {
        i32::try_from(partition).map_err(|_| match self.known.topic(topic) {
            Ok(known) => unknown(topic, partition, &known),
            Err(error) => error,
        })
    }
}

/// The topic has no such partition.
pub(super) fn unknown(topic: &str, partition: u32, known: &super::KnownTopic) -> Error {
    let partitions = known.partitions.len() as u32;
    Error::UnknownPartition { topic: topic.into(), partition, partitions }
}

impl Ends {
    /// What a client answers; it has no offsets below 0.
    pub(super) fn of((start, end): (i64, i64)) -> Ends {
        let offset = |offset| u64::try_from(offset).unwrap_or(0);
        Ends { start: offset(start), end: offset(end) }
    }
}

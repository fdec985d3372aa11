//! Where partitions begin and end, and which offset a time means, by the cluster's word at this moment.

use super::{
    Shared,
    errors::{Passes, of_code},
    native::{Answer, At, Refused},
    topics::{END, FIRST},
};
use crate::broker::{Code, Error, Isolation, Result};
use rdkafka::{
    ClientContext, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError, types::RDKafkaErrorCode,
};
use std::{collections::HashMap, time::Duration};

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

impl Shared {
    /// Where a partition begins and ends for such a reader.
    pub(super) fn ends(&self, topic: &str, partition: u32, isolation: Isolation) -> Result<Ends> {
        let start = self.start(topic, partition)?;
        Ok(Ends { start, end: self.end(topic, partition, isolation)? })
    }

    /// Where a partition begins.
    pub(super) fn start(&self, topic: &str, partition: u32) -> Result<u64> {
        Ok(self.offset_of(topic, partition, FIRST, Isolation::ReadUncommitted)?.unwrap_or(0))
    }

    /// Where a partition ends for such a reader.
    pub(super) fn end(&self, topic: &str, partition: u32, isolation: Isolation) -> Result<u64> {
        Ok(self.offset_of(topic, partition, END, isolation)?.unwrap_or(0))
    }

    /// The lowest offset whose time is at or after this, if the reader sees one.
    pub(super) fn offset_at(&self, topic: &str, partition: u32, isolation: Isolation, ms: i64) -> Result<Option<u64>> {
        // Times below 0 mean something else there.
        self.offset_of(topic, partition, ms.max(0), isolation)
    }

    fn offset_of(&self, topic: &str, partition: u32, which: i64, isolation: Isolation) -> Result<Option<u64>> {
        self.insist_on(topic, partition, |time| {
            self.tell(&[(topic, partition)], which, isolation, time).and_then(|mut told| told.remove(0))
        })
    }

    /// Asks about a partition for a reader: again while it gets another leader, or a node has not heard of it yet.
    pub(super) fn insist_on<T>(
        &self,
        topic: &str,
        partition: u32,
        question: impl Fn(Duration) -> Answer<T>,
    ) -> Result<T> {
        let answer = self.known.insist(self.options.timeout, |time| {
            let answer = question(time);
            if answer.as_ref().is_err_and(Passes::passes) {
                // A client believes for minutes what it knows of a topic. That it does not know who leads it now is no answer.
                match self.known.topic_anew(topic, time) {
                    Err(gone @ Error::UnknownTopic(_)) => return Ok(Err(gone)),
                    Ok(known) if !known.has(partition) => return Ok(Err(known.without(partition))),
                    _ => {}
                }
            }
            answer.map(Ok)
        });
        answer.unwrap_or_else(|refused| Err(self.without(topic, partition, refused)))
    }

    /// Where each of these begins or ends, or when, in their order, as far as it is known now, in no more time than this.
    pub(super) fn offsets_within(
        &self,
        places: &[(&str, u32)],
        which: i64,
        isolation: Isolation,
        most: Duration,
    ) -> Result<Vec<Result<Option<u64>>>> {
        let told = self.tell(places, which, isolation, most);
        let told = told.map_err(|refused| self.known.explain_within(most, "asking for offsets", refused))?;
        let explain =
            |(place, told): (&(&str, u32), Answer<_>)| told.map_err(|refused| self.without(place.0, place.1, refused));
        Ok(places.iter().zip(told).map(explain).collect())
    }

    /// The same in the nodes' words.
    fn tell(
        &self,
        places: &[(&str, u32)],
        which: i64,
        isolation: Isolation,
        most: Duration,
    ) -> Answer<Vec<Answer<Option<u64>>>> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = places.iter().map(|&(topic, partition)| (topic, partition, which));
        let told = self.known.ask_within(most, |nodes| nodes.offsets(wanted, isolation == Isolation::ReadCommitted))?;
        let told: HashMap<(&str, u32), &At> = told.iter().map(|at| ((&*at.topic, at.partition), at)).collect();
        let of = |place: &(&str, u32)| match told.get(place) {
            Some(At { refused: None, offset, .. }) => Ok(u64::try_from(*offset).ok()),
            Some(At { refused: Some(refused), .. }) => Err(refused.clone()),
            None => Err(Refused { number: Code::UnknownServerError as i32, why: "its offsets were not told".into() }),
        };
        Ok(places.iter().map(of).collect())
    }

    /// Why a partition was not told of.
    fn without(&self, topic: &str, partition: u32, refused: Refused) -> Error {
        if refused.number == Code::UnknownTopicOrPartition as i32
            && let Some(unknown) = self.unknown_now(topic, partition)
        {
            return unknown;
        }
        self.known.explain_other(&format!("asking for offsets of {topic}/{partition}"), refused)
    }

    /// Why a partition could not be read.
    pub(super) fn unread(&self, topic: &str, partition: u32, error: &KafkaError) -> Error {
        use RDKafkaErrorCode::*;
        let what = format!("reading {topic}/{partition}");
        match error.rdkafka_error_code() {
            Some(code @ (UnknownTopic | UnknownPartition | UnknownTopicOrPartition)) => {
                self.unknown_now(topic, partition).unwrap_or_else(|| of_code(&what, code))
            }
            _ => self.known.explain(&what, error),
        }
    }

    /// An error if there is no such partition now.
    fn unknown_now(&self, topic: &str, partition: u32) -> Option<Error> {
        match self.known.topic_now(topic) {
            Ok(known) => (!known.has(partition)).then(|| known.without(partition)),
            Err(error) => Some(error),
        }
    }
}

impl Ends {
    /// What a client answers; it has no offsets below 0.
    pub(super) fn of((start, end): (i64, i64)) -> Ends {
        let offset = |offset| u64::try_from(offset).unwrap_or(0);
        Ends { start: offset(start), end: offset(end) }
    }
}

//! Records that nobody could process: they are moved to a topic of the group's choice (KIP-1191).
//!
//! ```text
//! topic:dead partition:0 offset:0 key:42 header.__dlq.errors.topic:orders header.__dlq.errors.partition:0
//!   header.__dlq.errors.offset:17 header.__dlq.errors.group:jobs header.__dlq.errors.delivery.count:5
//!   header.__dlq.errors.message:Offset\x20delivery\x20count\x20exceeded\x20the\x20threshold. message:hello
//! ```
//!
//! A record keeps its key, its value, its time and its headers, and gets those that say why. It goes to the partition whose number is its
//! own one's, modulo how many there are. What retention or compaction has taken meanwhile is not there to be moved.
//!
//! The broker moves them, whoever rejects. So whoever names the topic has to be allowed to write there, and to make it where it is to be
//! made: as somebody who reads the group could copy the records there. Where a group's records go is asked of nobody else: that is the
//! group's own right, as its other settings are, and so it is not asked who may read their topics.

use super::{ShareCell, ShareTerms};
use crate::{
    broker::{
        Broker, BrokerState, Error, Isolation, PartitionHandle, Permit, ReadSession, ResourceName, Result, View,
        internal_log::LogWrite,
        share_partition::{Cause, Dead},
        writable,
    },
    log::{Line, record::Records},
    security::Operation,
};
use std::{borrow::Cow, sync::atomic::Ordering::*};

/// How much is read and moved at once.
const BYTES: usize = 512 << 10;
/// How the names of the headers begin that say why.
const PREFIX: &str = "__dlq.errors.";

/// How far dead records were moved.
pub(super) struct Buried {
    /// Offset behind the last.
    pub(super) end: u64,
    /// Why not all of them were.
    pub(super) failed: Option<Error>,
}

impl Broker {
    /// Whether the caller may have a group's dead letters go to this topic: it may write there, and make it where it is to be made. Answers
    /// whether it is there, which whoever may write may know.
    pub(in crate::broker) fn ask_dead_letters(&self, topic: &str) -> Result<bool> {
        match self.topic_for(Operation::Write, topic) {
            Err(Error::UnknownTopic(_)) if self.config().auto_create => {
                self.ask_to_create(topic)?;
                Ok(false)
            }
            Err(Error::UnknownTopic(_)) => Ok(false),
            found => found.map(|_| true),
        }
    }

    /// Makes the topic of dead letters as a record of a member's own would, if it is not there and the member may. What fails is said when it
    /// is needed.
    pub(super) fn prepare_dead_letters(&self, topic: &str) {
        let is_missing = || matches!(self.state(&Permit::for_everybody()).topic(topic), Err(Error::UnknownTopic(_)));
        // Nobody has asked for it, so that it is no refusal where the member may not.
        let may =
            || self.may(Operation::Write, ResourceName::topic(topic)).and_then(|_| self.may_create(topic)).is_ok();
        if self.config().auto_create && is_missing() && may() {
            let _ = self.topic_or_create(Operation::Write, topic);
        }
    }
}

impl BrokerState {
    /// Writes dead records where the group wants them, durably.
    pub(super) fn bury(&self, cell: &ShareCell, of: &PartitionHandle, dead: &Dead, terms: &ShareTerms) -> Buried {
        let mut buried = Buried { end: dead.offsets.end, failed: None };
        if let Some(topic) = &terms.dead_letters {
            buried.end = dead.offsets.start;
            let moved = self.move_to(topic, cell, of, dead, &mut buried.end);
            self.shares.told_waiting.fetch_and(moved.is_err(), AcqRel);
            buried.failed = moved.err();
        }
        buried
    }

    fn move_to(&self, topic: &str, cell: &ShareCell, of: &PartitionHandle, dead: &Dead, end: &mut u64) -> Result<()> {
        if *topic == *cell.topic {
            return Err(Error::InvalidConfig(format!("the dead letters of '{topic}' cannot go to '{topic}'")));
        }
        writable(topic)?;
        let topic = self.topic(topic)?;
        let target = topic.partition(cell.partition % topic.partition_count())?;
        let tell = |what: &str| self.env.tell(what);
        move_records(cell, of, dead, end, &tell, &mut |records| {
            // All of them or none: a log that takes only the first ones must not count as one that has them all.
            LogWrite::of(&target, records, Default::default())?.make_durable()
        })
    }

    pub(super) fn count_dead(&self, Dead { offsets, cause, .. }: &Dead) {
        let counter = match cause {
            Cause::Rejected => &self.shares.counts.rejected,
            Cause::Deliveries => &self.shares.counts.exhausted,
        };
        counter.add(offsets.end - offsets.start);
    }
}

/// Moves records, up to the end of the range; `end` is behind those that were moved.
fn move_records(
    cell: &ShareCell,
    from: &PartitionHandle,
    dead: &Dead,
    end: &mut u64,
    tell: &dyn Fn(&str),
    write: &mut dyn FnMut(&Records<'_>) -> Result<()>,
) -> Result<()> {
    let (mut read, mut next) = (ReadSession::default(), dead.offsets.start);
    while next < dead.offsets.end {
        *end = next;
        let batches = match read.read(View::records(Isolation::ReadUncommitted), from, next, BYTES) {
            Err(Error::OffsetOutOfRange { first, .. }) if first > next => {
                next = first;
                continue;
            }
            // What cannot be read is no dead letter; it is named once.
            Err(error @ Error::Corrupt { next: behind, .. }) => {
                tell(&format!("{} of {}/{}: {error}", cell.group, cell.topic, cell.partition));
                next = behind;
                continue;
            }
            batches => batches?,
        };
        let (mut records, mut bytes) = (Records::default(), 0);
        for line in batches.records_from(next).flatten().take_while(|line| line.offset < dead.offsets.end) {
            push(&mut records, cell, dead, &line);
            bytes += line.text.len();
            if bytes >= BYTES {
                write(&std::mem::take(&mut records))?;
                (*end, bytes) = (line.offset + 1, 0);
            }
        }
        if !records.is_empty() {
            write(&records)?;
        }
        let Some(behind) = batches.next_offset() else { break };
        next = behind;
    }
    *end = dead.offsets.end;
    Ok(())
}

/// Adds a dead record. A line that cannot be read is no record to anybody.
fn push<'a>(records: &mut Records<'a>, cell: &ShareCell, dead: &Dead, line: &Line<'a>) {
    let Ok(decoded) = line.split().and_then(|fields| fields.decode()) else { return };
    let message = match dead.cause {
        Cause::Rejected => "Offset rejected by client.",
        Cause::Deliveries => "Offset delivery count exceeded the threshold.",
    };
    records.push((line.timestamp >= 0).then_some(line.timestamp), decoded.key, decoded.value);
    // One that was a dead letter before has those of the last time only.
    let others = decoded.headers.into_iter().filter(|(name, _)| !name.starts_with(PREFIX.as_bytes()));
    others.for_each(|(name, value)| records.header(name, value));
    let facts = [
        ("topic", cell.topic.to_string()),
        ("partition", cell.partition.to_string()),
        ("offset", line.offset.to_string()),
        ("group", cell.group.to_string()),
        ("delivery.count", dead.deliveries.to_string()),
        ("message", message.into()),
    ];
    for (name, value) in facts {
        records.header(Cow::Owned(format!("{PREFIX}{name}").into_bytes()), Some(Cow::Owned(value.into_bytes())));
    }
}

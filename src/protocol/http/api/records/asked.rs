//! What a request asks to read: which partitions, from where to where, how much of it, and which records.

use super::filter::Filter;
use crate::{
    backend::TopicHandle,
    broker::{Isolation, Position},
    config,
    log::record::{parse_u63, shown},
    protocol::{
        http::{
            exchange::Exchange,
            refusal::{Refusal, Stop},
        },
        position,
    },
};
use std::time::Duration;

/// More partitions than this are not named in one address or one event.
const NAMED_PARTITIONS_MAX: u32 = 500;
/// Before a list of offsets: the records that end there.
const BEFORE: &str = "before:";

/// What is asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) topic: TopicHandle,
    /// The partition, unless it is all of them.
    pub(super) only: Option<u32>,
    pub(super) isolation: Isolation,
    pub(super) from: Option<Begin>,
    /// Where to end, exclusively.
    pub(super) to: Option<Position>,
    /// How many records at most.
    pub(super) count: Option<u64>,
    /// How many bytes their lines may have together; one record is given however large it is.
    pub(super) bytes_max: Option<u64>,
    /// How long to wait for records that are not there yet.
    pub(super) wait: Option<Duration>,
    pub(super) filter: Filter,
}

/// Where to begin.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Begin {
    Position(Position),
    /// At these offsets; a partition that is not among them is read from its start.
    Offsets(Vec<PartitionOffset>),
    /// With the last records before these offsets.
    Before(Vec<PartitionOffset>),
}

/// A place in a topic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PartitionOffset {
    pub(super) partition: u32,
    pub(super) offset: u64,
}

impl Asked {
    pub(super) fn parse(exchange: &Exchange<'_, '_>) -> Result<Asked, Stop> {
        let query = &exchange.head.query;
        let topic = exchange.broker.find_topic(&exchange.parameters[0])?;
        let only = query.number("partition")?;
        if let Some(index) = only {
            topic.partition(index)?;
        }
        let isolation = query.text("isolation")?.map_or(Ok(Isolation::ReadCommitted), isolation)?;
        let from = query.text("from")?.map(from).transpose()?;
        let to =
            query.text("to")?.map(|text| position::parse(text).map_err(|why| Refusal::invalid(format!("to=: {why}"))));
        let wait = query.text("wait")?.map(|text| {
            config::duration(text)
                .map_err(|why| Refusal::invalid(format!("wait= is a time such as 500ms or 30s: {why}")))
        });
        Ok(Asked {
            topic,
            only,
            isolation,
            from,
            to: to.transpose()?,
            count: query.number("count")?,
            bytes_max: query.number("max_bytes")?,
            wait: wait.transpose()?,
            filter: Filter::parse(query),
        })
    }

    /// Refuses what would name too many partitions at once.
    pub(super) fn can_be_named(&self) -> Result<(), Refusal> {
        let count = self.topic.partition_count();
        if self.only.is_some() || count <= NAMED_PARTITIONS_MAX {
            return Ok(());
        }
        let name = self.topic.name();
        let what =
            format!("'{name}' has {count} partitions; more than {NAMED_PARTITIONS_MAX} are read one by one, with");
        Err(Refusal::invalid(format!("{what} partition=, or as application/x-ndjson")))
    }
}

fn isolation(name: &str) -> Result<Isolation, Refusal> {
    let not_it = || Refusal::invalid(format!("isolation= is read_committed or read_uncommitted, not '{name}'"));
    Isolation::named(name.as_bytes()).ok_or_else(not_it)
}

fn from(text: &str) -> Result<Begin, Refusal> {
    if let Some(list) = text.strip_prefix(BEFORE) {
        let not_it =
            || Refusal::invalid(format!("from=: behind 'before:' come offsets such as 0:18,1:5, not '{list}'"));
        return offsets(list).map(Begin::Before).ok_or_else(not_it);
    }
    match offsets(text) {
        Some(offsets) => Ok(Begin::Offsets(offsets)),
        None => position::parse(text).map(Begin::Position).map_err(|why| Refusal::invalid(format!("from=: {why}"))),
    }
}

/// Reads `0:18,1:5`.
fn offsets(text: &str) -> Option<Vec<PartitionOffset>> {
    let one = |text: &str| {
        let (partition, offset) = text.split_once(':')?;
        let partition = parse_u63(partition.as_bytes())?.try_into().ok()?;
        Some(PartitionOffset { partition, offset: parse_u63(offset.as_bytes())? })
    };
    text.split(',').map(one).collect()
}

/// Reads the id of an event: the last offset of each partition that was given, -1 where none was.
pub(super) fn after_event(id: &str) -> Result<Begin, Refusal> {
    let next = |text: &str| {
        let (partition, offset) = text.split_once(':')?;
        let next = if offset == "-1" { 0 } else { parse_u63(offset.as_bytes())? + 1 };
        Some(PartitionOffset { partition: parse_u63(partition.as_bytes())?.try_into().ok()?, offset: next })
    };
    let next = id.split(',').map(next).collect::<Option<_>>();
    let not_it = || Refusal::invalid(format!("Last-Event-ID is '0:17,1:4' or 'end', not '{}'", shown(id.as_bytes())));
    next.map(Begin::Offsets).ok_or_else(not_it)
}

/// Writes offsets as `from=` takes them.
pub(super) fn named(offsets: impl Iterator<Item = PartitionOffset>) -> String {
    let one = |PartitionOffset { partition, offset }| format!("{partition}:{offset}");
    offsets.map(one).collect::<Vec<_>>().join(",")
}

/// Writes that the records before these offsets are wanted.
pub(super) fn named_before(offsets: impl Iterator<Item = PartitionOffset>) -> String {
    format!("{BEFORE}{}", named(offsets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_partitions_and_positions_are_told_apart() {
        let two = vec![PartitionOffset { partition: 0, offset: 18 }, PartitionOffset { partition: 1, offset: 5 }];
        assert_eq!(from("0:18,1:5").unwrap(), Begin::Offsets(two.clone()));
        assert_eq!(from("before:0:18,1:5").unwrap(), Begin::Before(two.clone()));
        assert_eq!(from(&named(two.clone().into_iter())).unwrap(), Begin::Offsets(two.clone()));
        assert_eq!(from(&named_before(two.clone().into_iter())).unwrap(), Begin::Before(two));
        assert_eq!(from("-5").unwrap(), Begin::Position(Position::BeforeEnd(5)));
        assert!(matches!(from("2026-11-20T12:00:00Z").unwrap(), Begin::Position(Position::Time(_))));
        for bad in
            ["", "0:", ":1", "0:1,", "0:-1", "4294967296:0", "0:9223372036854775808", "before:", "before:5", "soon"]
        {
            assert_eq!(from(bad).unwrap_err().status, 400, "{bad}");
        }
    }

    #[test]
    fn an_events_id_says_what_was_given_last() {
        let two = vec![PartitionOffset { partition: 0, offset: 0 }, PartitionOffset { partition: 3, offset: 18 }];
        assert_eq!(after_event("0:-1,3:17").unwrap(), Begin::Offsets(two));
        for bad in ["", "end?", "0:", "0:-2", "0:1;1:2", "a:1", "0:99999999999999999999"] {
            assert_eq!(after_event(bad).unwrap_err().status, 400, "{bad}");
        }
    }
}

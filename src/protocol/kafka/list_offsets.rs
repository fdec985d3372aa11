//! Offsets by time and by leader epoch: ListOffsets and OffsetForLeaderEpoch.

use super::{
    Call, Code, Stop, check_leader_epoch, isolation, partition_index, shown_list, tell,
    wire::{Reader, Writer},
};
use crate::{
    broker::{self, Broker, EpochEnd, Isolation, PartitionHandle, ReadSession, TimedOffset, View},
    security::Operation,
};
use std::collections::BTreeMap;

/// Timestamps that mean a place instead of a time.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// The first offset on this machine (KIP-405): there is no other place.
const EARLIEST_LOCAL: i64 = -4;
/// The last offset that was moved to, or is due for, another place (KIP-1005, KIP-1023): none is.
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING: i64 = -6;
/// The timestamp of a record without one.
const NO_TIMESTAMP: i64 = -1;

/// Times are looked for in all that stands in the log, markers and aborted records too, as in Kafka.
const VIEW: View = View::stored(Isolation::ReadUncommitted);

/// A partition in a ListOffsets request.
#[derive(Clone, Copy)]
struct Asked {
    index: i32,
    leader_epoch: i32,
    timestamp: i64,
}

/// An offset that was found.
struct Place {
    offset: i64,
    /// The timestamp of the record there, or -1.
    timestamp: i64,
    leader_epoch: i32,
}

/// The answer if no record was found.
const NOWHERE: Place = Place { offset: -1, timestamp: -1, leader_epoch: -1 };

/// ListOffsets (key 2).
pub(super) fn list_offsets(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let _replica_id = r.i32("replica_id")?;
    let isolation = if r.version >= 2 { isolation(r.i8("isolation_level")?) } else { Ok(Isolation::ReadUncommitted) };
    let asked = r.array("topics", |r| {
        let name = r.string("name")?;
        let partitions = r.array("partitions", |r| {
            let index = r.i32("partition_index")?;
            let leader_epoch = if r.version >= 4 { r.i32("current_leader_epoch")? } else { -1 };
            let asked = Asked { index, leader_epoch, timestamp: r.i64("timestamp")? };
            r.tags()?;
            Ok(asked)
        })?;
        r.tags()?;
        Ok((name, partitions))
    })?;
    if r.version >= 10 {
        r.i32("timeout_ms")?;
    }
    r.tags()?;
    let mut topics: BTreeMap<&str, Vec<Asked>> = BTreeMap::new();
    asked.into_iter().for_each(|(name, partitions)| topics.entry(name).or_default().extend(partitions));
    tell(call.explained, || {
        let asked = topics.iter().flat_map(|(name, partitions)| partitions.iter().map(move |asked| (name, asked)));
        let place = |timestamp| match timestamp {
            LATEST => "the end".into(),
            EARLIEST | EARLIEST_LOCAL => "the beginning".into(),
            MAX_TIMESTAMP => "the largest timestamp".into(),
            time => format!("time {time}"),
        };
        let asked = asked.map(|(name, asked)| format!("{name}/{} at {}", asked.index, place(asked.timestamp)));
        format!("which offset is {}", shown_list(asked.collect::<Vec<_>>().into_iter()))
    });
    let (broker, version) = (call.broker, call.version);
    let mut read = std::mem::take(&mut call.session.read);
    let mut w = call.respond();
    if w.version >= 2 {
        w.throttle_time();
    }
    w.array("topics", topics.iter_mut(), |w, (name, partitions)| {
        w.string("name", name);
        // A partition that is listed twice is answered once, with an error.
        partitions.sort_by_key(|asked| asked.index);
        let partitions: Vec<&[Asked]> = partitions.chunk_by(|a, b| a.index == b.index).collect();
        w.array("partitions", partitions.iter(), |w, same| {
            let Asked { index, leader_epoch, timestamp } = same[0];
            let place = if same.len() > 1 {
                Err(Code::InvalidRequest)
            } else {
                find(broker, name, index, leader_epoch, |partition| match timestamp {
                    ..0 if version < known_from(timestamp) => Err(Code::UnsupportedVersion),
                    _ => place(partition, isolation?, timestamp, &mut read).map_err(|error| error.code()),
                })
            };
            write_place(w, index, place);
        });
        w.tags();
    });
    w.tags();
    call.session.read = read;
    Ok(())
}

/// The first version in which a timestamp means a place.
fn known_from(timestamp: i64) -> i16 {
    match timestamp {
        LATEST | EARLIEST => 0,
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING => 11,
        _ => i16::MAX,
    }
}

fn write_place(w: &mut Writer<'_>, index: i32, place: Result<Place, Code>) {
    w.i32("partition_index", index);
    w.i16("error_code", place.as_ref().map_or_else(|code| *code, |_| Code::None).into());
    let Place { offset, timestamp, leader_epoch } = place.unwrap_or(NOWHERE);
    w.i64("timestamp", timestamp);
    w.i64("offset", offset);
    if w.version >= 4 {
        w.i32("leader_epoch", leader_epoch);
    }
    w.tags();
}

fn find<T>(
    broker: &Broker,
    name: &str,
    index: i32,
    leader_epoch: i32,
    then: impl FnOnce(&PartitionHandle) -> Result<T, Code>,
) -> Result<T, Code> {
    let partition =
        broker.find_partition_to(Operation::Describe, name, partition_index(index)).map_err(|error| error.code())?;
    check_leader_epoch(leader_epoch, partition.leader_epoch())?;
    then(&partition)
}

fn place(
    partition: &PartitionHandle,
    isolation: Isolation,
    timestamp: i64,
    read: &mut ReadSession,
) -> broker::Result<Place> {
    let leader_epoch = partition.leader_epoch() as i32;
    let place = |offset: u64, timestamp| Place { offset: offset as i64, timestamp, leader_epoch };
    let found = match timestamp {
        LATEST => return Ok(place(partition.end(isolation)?, NO_TIMESTAMP)),
        EARLIEST | EARLIEST_LOCAL => return Ok(place(partition.start()?, NO_TIMESTAMP)),
        LATEST_TIERED | EARLIEST_PENDING => return Ok(NOWHERE),
        MAX_TIMESTAMP => read.record_with_largest_time(VIEW, partition)?,
        time => read.record_since(VIEW, partition, time.max(0))?,
    };
    // No record is that late, or none below the last stable offset. In Kafka that is no error.
    let end = partition.end(isolation)?;
    let found = found.filter(|found| found.offset < end);
    Ok(found.map_or(NOWHERE, |TimedOffset { offset, timestamp }| place(offset, timestamp)))
}

/// OffsetForLeaderEpoch (key 23): where an epoch ended (KIP-320).
///
/// The epoch rises whenever records were cut off after a crash. The answer is the newest epoch that is not above the one in the
/// request, and the offset at which it ended: records that a client has beyond that offset no longer exist. For an epoch
/// that has not begun the answer is -1, as in Kafka.
pub(super) fn offset_for_leader_epoch(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    if r.version >= 3 {
        r.i32("replica_id")?;
    }
    let topics = r.array("topics", |r| {
        let name = r.string("topic")?;
        let partitions = r.array("partitions", |r| {
            let asked = (r.i32("partition")?, r.i32("current_leader_epoch")?, r.i32("leader_epoch")?);
            r.tags()?;
            Ok(asked)
        })?;
        r.tags()?;
        Ok((name, partitions))
    })?;
    r.tags()?;
    tell(call.explained, || {
        let asked = topics.iter().flat_map(|(name, partitions)| partitions.iter().map(move |asked| (name, asked)));
        let asked = asked.map(|(name, (index, _, epoch))| format!("epoch {epoch} of {name}/{index}"));
        format!("where {} ended", shown_list(asked.collect::<Vec<_>>().into_iter()))
    });
    // Brokers may ask it of all that there is.
    let broker = &call.broker.for_cluster_or_self(Operation::ClusterAction);
    let mut w = call.respond();
    w.throttle_time();
    w.array("topics", topics.iter(), |w, (name, partitions)| {
        w.string("topic", name);
        w.array("partitions", partitions.iter(), |w, &(index, leader_epoch, asked)| {
            let end = find(broker, name, index, leader_epoch, |partition| match u32::try_from(asked) {
                Ok(asked) => partition.end_of_epoch(asked).map_err(|error| error.code()),
                Err(_) => Ok(None),
            });
            w.i16("error_code", end.as_ref().map_or_else(|code| *code, |_| Code::None).into());
            w.i32("partition", index);
            let end = end.ok().flatten();
            w.i32("leader_epoch", end.map_or(-1, |EpochEnd { epoch, .. }| epoch as i32));
            w.i64("end_offset", end.map_or(-1, |EpochEnd { end, .. }| end as i64));
            w.tags();
        });
        w.tags();
    });
    w.tags();
    Ok(())
}

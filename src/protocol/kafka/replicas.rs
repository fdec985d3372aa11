//! What moves leaders and replicas in a cluster: ElectLeaders, AlterPartitionReassignments, ListPartitionReassignments,
//! AlterReplicaLogDirs.
//!
//! Here each partition has one replica, on this node and in its one directory, so all are where they can be. Asking for that
//! succeeds, and asking for another place is refused with Kafka's reasons.

use super::{
    Call, Code, NODE_ID, Stop, partition_index, tell,
    wire::{ITEM, Reader, Writer},
};
use crate::{
    broker::{self, Broker, ResourceName},
    security::Operation,
};
use std::collections::BTreeMap;

/// Partitions of a topic in a request.
struct Asked<'a> {
    topic: &'a str,
    partitions: Vec<i32>,
}

/// What became of a partition, and why.
type Outcome = (Code, Option<String>);

fn write_outcome(w: &mut Writer<'_>, index: &'static str, partition: i32, (code, why): &Outcome) {
    w.i32(index, partition);
    w.i16("error_code", (*code).into());
    w.nullable_string("error_message", why.as_deref());
    w.tags();
}

/// Why nothing is done with a partition: the caller may not, or (`None` if it is there) there is no such partition.
fn missing(broker: &broker::Result<Broker>, topic: &str, partition: i32) -> Option<Outcome> {
    let broker = match broker {
        Ok(broker) => broker,
        Err(error) => return Some((error.code(), Some(error.to_string()))),
    };
    broker
        .find_partition_to(Operation::Describe, topic, partition_index(partition))
        .err()
        .map(|error| (Code::UnknownTopicOrPartition, Some(error.to_string())))
}

/// ElectLeaders (key 43).
pub(super) fn elect_leaders(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    /// The preferred replica (0), or any (1).
    const KINDS: std::ops::RangeInclusive<i8> = 0..=1;
    let kind = if r.version >= 1 { r.i8("election_type")? } else { 0 };
    let topics = r.nullable_array("topic_partitions", |r| asked(r, "topic", "partitions"))?;
    r.i32("timeout_ms")?;
    r.tags()?;
    tell(call.explained, || "an election of leaders, of whom there is one".into());
    let broker = &call.broker.for_cluster(Operation::Alter);
    // Where all are meant, only those are told that needed one.
    let topics = topics.unwrap_or_default();
    let outcome = |topic: &str, partition: i32| match missing(broker, topic, partition) {
        _ if broker.is_ok() && !KINDS.contains(&kind) => {
            (Code::InvalidRequest, Some(format!("there is no election of type {kind}")))
        }
        Some(missing) => missing,
        None => (Code::ElectionNotNeeded, Some("this node leads it already".into())),
    };
    let code = match broker {
        Err(error) => error.code(),
        Ok(_) if KINDS.contains(&kind) => Code::None,
        Ok(_) => Code::InvalidRequest,
    };
    let mut w = call.respond();
    w.throttle_time();
    if w.version >= 1 {
        w.i16("error_code", code.into());
    }
    w.array("replica_election_results", topics.iter(), |w, asked| {
        w.string("topic", asked.topic);
        w.array("partition_result", asked.partitions.iter(), |w, &partition| {
            write_outcome(w, "partition_id", partition, &outcome(asked.topic, partition));
        });
        w.tags();
    });
    w.tags();
    Ok(())
}

fn asked<'a>(r: &mut Reader<'a>, name: &'static str, partitions: &'static str) -> super::wire::Result<Asked<'a>> {
    let asked = Asked { topic: r.string(name)?, partitions: r.array(partitions, |r| r.i32(ITEM))? };
    r.tags()?;
    Ok(asked)
}

/// AlterPartitionReassignments (key 45).
pub(super) fn alter_partition_reassignments(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    r.i32("timeout_ms")?;
    let factor_may_change = r.version < 1 || r.bool("allow_replication_factor_change")?;
    let broker = &call.broker.for_cluster(Operation::Alter);
    let topics = r.array("topics", |r| {
        let topic = r.string("name")?;
        let wished = r.array("partitions", |r| {
            let partition = r.i32("partition_index")?;
            let replicas = r.nullable_array("replicas", |r| r.i32(ITEM))?;
            r.tags()?;
            Ok((partition, replicas))
        })?;
        r.tags()?;
        Ok((topic, wished))
    })?;
    r.tags()?;
    tell(call.explained, || "to move partitions, which have one place".into());
    let mut w = call.respond();
    w.throttle_time();
    if w.version >= 1 {
        w.bool("allow_replication_factor_change", factor_may_change);
    }
    w.i16("error_code", broker.as_ref().map_or_else(broker::Error::code, |_| Code::None).into());
    w.nullable_string("error_message", broker.as_ref().err().map(broker::Error::to_string).as_deref());
    w.array("responses", topics.iter(), |w, (topic, wished)| {
        w.string("name", topic);
        w.array("partitions", wished.iter(), |w, (partition, replicas)| {
            let outcome = missing(broker, topic, *partition).unwrap_or_else(|| reassigned(replicas.as_deref()));
            write_outcome(w, "partition_index", *partition, &outcome);
        });
        w.tags();
    });
    w.tags();
    Ok(())
}

/// What becomes of a partition that is to have these replicas; `None`: of the reassignment that is to be cancelled.
fn reassigned(replicas: Option<&[i32]>) -> Outcome {
    let refused = |why: String| (Code::InvalidReplicaAssignment, Some(why));
    match replicas {
        None => (Code::NoReassignmentInProgress, None),
        Some([NODE_ID]) => (Code::None, None),
        Some([]) => refused("a partition has a replica".into()),
        Some(replicas) => match replicas.iter().find(|&&id| id != NODE_ID) {
            Some(other) => refused(format!("there is no broker {other}")),
            None => refused(format!("broker {NODE_ID} stands there more than once")),
        },
    }
}

/// ListPartitionReassignments (key 46): none goes on, ever.
pub(super) fn list_partition_reassignments(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    r.i32("timeout_ms")?;
    let asked = r.nullable_array("topics", |r| asked(r, "name", "partition_indexes"))?.unwrap_or_default();
    r.tags()?;
    tell(call.explained, || "which partitions are being moved".into());
    let may = call.broker.ask(Operation::Describe, ResourceName::CLUSTER);
    let mut w = call.respond();
    w.throttle_time();
    w.i16("error_code", may.as_ref().map_or_else(broker::Error::code, |_| Code::None).into());
    w.nullable_string("error_message", may.as_ref().err().map(|error| error.to_string()).as_deref());
    // As in Kafka: whoever may not know hears back what was asked for.
    let topics = if may.is_err() { &asked[..] } else { &[] };
    w.array("topics", topics.iter(), |w, asked| {
        w.string("name", asked.topic);
        w.array("partitions", asked.partitions.iter(), |w, &partition| {
            w.i32("partition_index", partition);
            ["replicas", "adding_replicas", "removing_replicas"].into_iter().for_each(|field| w.empty_array(field));
            w.tags();
        });
        w.tags();
    });
    w.tags();
    Ok(())
}

/// AlterReplicaLogDirs (key 34).
pub(super) fn alter_replica_log_dirs(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let broker = &call.broker.for_cluster(Operation::Alter);
    let own = call.broker.config().log_dir();
    let mut topics: BTreeMap<&str, Vec<(i32, Code)>> = BTreeMap::new();
    r.array("dirs", |r| {
        let path = r.string("path")?;
        for Asked { topic, partitions } in r.array("topics", |r| asked(r, "name", "partitions"))? {
            let code = |partition| match broker.is_err() || path == own {
                true => missing(broker, topic, partition).map_or(Code::None, |(code, _)| code),
                false => Code::LogDirNotFound,
            };
            let codes = partitions.into_iter().map(|partition| (partition, code(partition)));
            topics.entry(topic).or_default().extend(codes);
        }
        r.tags()
    })?;
    r.tags()?;
    tell(call.explained, || "to move partitions to another directory, of which there is one".into());
    let mut w = call.respond();
    w.throttle_time();
    w.array("results", topics.iter(), |w, (topic, codes)| {
        w.string("topic_name", topic);
        w.array("partitions", codes.iter(), |w, &(partition, code)| {
            w.i32("partition_index", partition);
            w.i16("error_code", code.into());
            w.tags();
        });
        w.tags();
    });
    w.tags();
    Ok(())
}

//! Groups: listing and describing them, committing and resetting their offsets, forgetting them.

use super::{OBJECT_BYTES_MAX, Object, number, text};
use crate::{
    broker::{Committed, GroupSummary, Isolation, Lag, OffsetCommit, Position, group::MemberDescription},
    log::record::shown,
    protocol::{
        http::{
            exchange::Exchange,
            refusal::{Refusal, Stop},
        },
        position,
    },
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// `GET /api/groups[?topic=]`
pub(in crate::protocol::http) fn list(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let (broker, topic) = (exchange.broker, exchange.head.query.text("topic")?);
    let mut groups = Vec::new();
    for GroupSummary { name, state, group_type, protocol_type, members } in broker.groups()? {
        let reads = |topic: &str| Ok::<_, Stop>(broker.lag(&name)?.iter().any(|lag| &*lag.topic == topic));
        if topic.map_or(Ok(true), reads)? {
            groups.push(json!({
                "name": &*name,
                "type": group_type.name(),
                "state": state,
                "protocol_type": protocol_type,
                "members": members,
            }));
        }
    }
    exchange.json(200, &json!({ "groups": groups }))
}

/// `GET /api/groups/{group}`
pub(in crate::protocol::http) fn describe(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let (broker, name) = (exchange.broker, &exchange.parameters[0]);
    let group = broker.group(name)?.ok_or_else(|| unknown(name))?;
    let lag = broker.lag(name)?;
    let partition = |lag: &Lag| {
        json!({
            "topic": &*lag.topic,
            "partition": lag.partition,
            "committed": lag.committed.as_ref().map(|committed| committed.offset),
            "metadata": lag.committed.as_ref().map(|committed| &committed.metadata),
            "end": lag.end,
            "lag": lag.lag(),
            "in_flight": lag.in_flight,
        })
    };
    let total: u64 = lag.iter().filter_map(Lag::lag).sum();
    let answer = json!({
        "name": name,
        "type": group.group_type.name(),
        "state": group.state,
        // Both are told, or neither.
        "assignment_epoch": group.generation.map(|_| group.assignment_epoch),
        "generation": group.generation,
        "protocol_type": group.protocol_type,
        "protocol": group.protocol,
        "members": group.members.iter().map(member).collect::<Vec<_>>(),
        "offsets": lag.iter().map(partition).collect::<Vec<_>>(),
        "lag": total,
    });
    exchange.json(200, &answer)
}

fn member(member: &MemberDescription) -> Value {
    let assigned = member.owned.iter().map(|owned| json!({ "topic": &*owned.topic, "partition": owned.partition }));
    let target = member.target.iter().map(|(topic, partition)| json!({ "topic": &**topic, "partition": partition }));
    json!({
        "member_id": member.member_id,
        "instance_id": member.instance_id,
        "client_id": member.client_id,
        "client_host": member.client_host,
        "epoch": member.epoch,
        "topics": member.topics.iter().map(|topic| &**topic).collect::<Vec<_>>(),
        "pattern": member.pattern,
        "assigned": assigned.collect::<Vec<_>>(),
        "target": target.collect::<Vec<_>>(),
    })
}

fn unknown(name: &str) -> crate::broker::Error {
    crate::broker::Error::UnknownGroup(shown(name.as_bytes()))
}

/// `DELETE /api/groups/{group}`
pub(in crate::protocol::http) fn delete(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let name = &exchange.parameters[0];
    exchange.broker.delete_group(name)?;
    let answer = json!({ "deleted": name });
    exchange.json(200, &answer)
}

/// `POST /api/groups/{group}/offsets`: `{"offsets":[{"topic":"orders","partition":0,"offset":17,"metadata":"..."}]}`
pub(in crate::protocol::http) fn commit(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let mut body = Object::of(exchange.json_body(OBJECT_BYTES_MAX)?)?;
    let offsets = body.expect("offsets", "an array of offsets", array)?;
    body.end()?;
    let offsets = offsets.into_iter().map(|one| commit_of(exchange, one)).collect::<Result<Vec<_>, Stop>>()?;
    let group = exchange.parameters[0].clone();
    let places: Vec<_> = offsets
        .iter()
        .map(|one| json!({ "topic": &*one.topic, "partition": one.partition, "offset": one.committed.offset }))
        .collect();
    exchange.broker.commit_for_group(&group, offsets)?;
    exchange.json(200, &json!({ "offsets": places }))
}

fn commit_of(exchange: &Exchange<'_, '_>, one: Value) -> Result<OffsetCommit, Stop> {
    let mut one = Object::of(one)?;
    let topic: Arc<str> = one.expect("topic", "a topic's name", text)?.into();
    let partition = one.expect("partition", "a partition's number", number)?;
    let offset: u64 = one.expect("offset", "an offset", number)?;
    let metadata = one.take("metadata", "text", text)?.unwrap_or_default();
    one.end()?;
    let leader_epoch = exchange.broker.find_partition(&topic, partition)?.leader_epoch();
    let offset = i64::try_from(offset).map_err(|_| Refusal::invalid("\"offset\" is an offset, below 2^63"))?;
    let committed = Committed { offset, leader_epoch, metadata, timestamp_ms: exchange.broker.now_ms() };
    Ok(OffsetCommit { topic, partition, committed })
}

fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

/// `POST /api/groups/{group}/reset`: `{"topic":"orders","partition":0,"to":"earliest","dry_run":true}`
pub(in crate::protocol::http) fn reset(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let mut body = Object::of(exchange.json_body(OBJECT_BYTES_MAX)?)?;
    let topic = body.expect("topic", "a topic's name", text)?;
    let partition: Option<u32> = body.take("partition", "a partition's number", number)?;
    let to = body.expect(
        "to",
        "a position: earliest, latest, an offset, -N, a time, or a time ago such as 15m",
        position_of,
    )?;
    let dry_run = body.take("dry_run", "true or false", |value| value.as_bool())?.unwrap_or(false);
    body.end()?;
    let to = to.map_err(Refusal::invalid)?;
    let (broker, group) = (exchange.broker, exchange.parameters[0].clone());
    let found = broker.find_topic(&topic)?;
    let partitions = match partition {
        Some(index) => vec![found.partition(index)?],
        None => found.partitions(),
    };
    let committed = |lag: Lag| Some(((lag.topic, lag.partition), lag.committed?.offset));
    let before: BTreeMap<_, _> = broker.lag(&group)?.into_iter().filter_map(committed).collect();
    let (topic, mut read): (Arc<str>, _) = (topic.into(), broker.read_session());
    let (mut offsets, mut told) = (Vec::new(), Vec::new());
    for partition in partitions {
        let after = read.resolve(Isolation::ReadCommitted, to, &partition)?;
        let before = before.get(&(topic.clone(), partition.index()));
        told.push(json!({ "topic": &*topic, "partition": partition.index(), "before": before, "after": after }));
        offsets.push((topic.clone(), partition.index(), after));
    }
    match dry_run {
        true => broker.may_reset_offsets(&group)?,
        false => broker.reset_offsets(&group, &offsets)?,
    }
    exchange.json(200, &json!({ "offsets": told, "dry_run": dry_run }))
}

/// A position as a string, or an offset as a number; then whether it is one.
fn position_of(value: Value) -> Option<Result<Position, String>> {
    match value {
        Value::String(text) => Some(position::parse(&text)),
        Value::Number(number) => Some(position::parse(&number.to_string())),
        _ => None,
    }
}

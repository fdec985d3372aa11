//! Topics: listing, making, describing, altering, deleting and trimming them.

use super::{OBJECT_BYTES_MAX, Object, number, text, truth};
use crate::{
    broker::{self, Copies, Isolation, PartitionDescription, TopicDescription, TopicSize, is_internal},
    config::{Change, Changes, Overrides},
    protocol::{
        http::{
            exchange::Exchange,
            refusal::{Refusal, Stop},
        },
        position,
    },
    security::Operation,
};
use serde_json::{Map, Value, json};

/// `GET /api/topics`
pub(in crate::protocol::http) fn list(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let internal = truth(exchange, "internal")?;
    let mut topics = exchange.broker.describe_topics()?;
    topics.retain(|name, _| internal || !is_internal(name));
    let there: Vec<_> = topics.iter().filter(|(_, topic)| topic.is_ok()).map(|(name, _)| &**name).collect();
    let mut sizes = exchange.broker.topic_sizes(&there).into_iter();
    let mut shown = |(name, topic): (String, Result<TopicDescription, broker::Error>)| {
        match topic.and_then(|topic| Ok(summary(&topic, sizes.next().expect("one for each that is there")?))) {
            Ok(shown) => Some(shown),
            // It was dropped meanwhile.
            Err(broker::Error::UnknownTopic(_)) => None,
            // One whose disk fails is no reason to hide the others.
            Err(error) => {
                let (internal, message) = (is_internal(&name), error.to_string());
                Some(json!({ "name": name, "internal": internal, "offline": true, "message": message }))
            }
        }
    };
    let answer = json!({ "topics": topics.into_iter().filter_map(&mut shown).collect::<Vec<_>>() });
    exchange.json(200, &answer)
}

fn summary(topic: &TopicDescription, size: TopicSize) -> Value {
    json!({
        "name": topic.name,
        "partitions": topic.partition_count(),
        "records": size.records,
        "written": size.written,
        "bytes": size.bytes,
        "internal": is_internal(&topic.name),
    })
}

/// `POST /api/topics`: `{"name":"orders","partitions":3,"configs":{"retention.ms":"60000"}}`
pub(in crate::protocol::http) fn create(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let mut body = Object::of(exchange.json_body(OBJECT_BYTES_MAX)?)?;
    let name = body.expect("name", "a topic's name", text)?;
    let partitions = body.take("partitions", "a number of partitions", number)?;
    let configs = body.take("configs", "an object of configs", configs)?.unwrap_or_default();
    body.end()?;
    let own: Overrides = configs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let topic = exchange.broker.create_topic_with(&name, partitions, own)?;
    let answer = described(exchange, &topic)?;
    exchange.json(201, &answer)
}

/// `GET /api/topics/{topic}`
pub(in crate::protocol::http) fn describe(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let topic = exchange.broker.describe_topic(&exchange.parameters[0])?;
    let answer = described(exchange, &topic)?;
    exchange.json(200, &answer)
}

/// `PATCH /api/topics/{topic}`: `{"partitions":6,"configs":{"retention.ms":null}}`
pub(in crate::protocol::http) fn alter(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let mut body = Object::of(exchange.json_body(OBJECT_BYTES_MAX)?)?;
    let partitions = body.take("partitions", "a number of partitions", number)?;
    let configs = body.take("configs", "an object of configs", configs)?.unwrap_or_default();
    body.end()?;
    let change = |value: Option<String>| value.map_or(Change::Default, Change::Set);
    let named = configs.into_iter().map(|(name, value)| (name, change(value))).collect();
    let changes = Changes { named, reset_others: false };
    let topic = exchange.broker.alter_topic(&exchange.parameters[0], partitions, &changes)?;
    let answer = described(exchange, &topic)?;
    exchange.json(200, &answer)
}

/// `DELETE /api/topics/{topic}`
pub(in crate::protocol::http) fn delete(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let name = &exchange.parameters[0];
    exchange.broker.drop_topic(name)?;
    let answer = json!({ "deleted": name });
    exchange.json(200, &answer)
}

/// `DELETE /api/topics/{topic}/records?partition=&before=`
pub(in crate::protocol::http) fn trim(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let name = &exchange.parameters[0];
    let query = &exchange.head.query;
    let partition = query.number("partition")?.ok_or_else(|| Refusal::invalid("partition= is missing"))?;
    let before = query.text("before")?.ok_or_else(|| Refusal::invalid("before= is missing"))?;
    let before = position::parse(before).map_err(|why| Refusal::invalid(format!("before=: {why}")))?;
    let found = exchange.broker.find_topic_to(Operation::Delete, name)?.partition(partition)?;
    let offset = exchange.broker.read_session().resolve(Isolation::ReadUncommitted, before, &found)?;
    let start = exchange.broker.trim(name, partition, offset)?;
    let answer = json!({ "topic": name, "partition": partition, "start": start });
    exchange.json(200, &answer)
}

/// Values of configs as strings; a number is taken too, and null asks for the default.
fn configs(value: Value) -> Option<Vec<(String, Option<String>)>> {
    let Value::Object(members) = value else { return None };
    let member = |(name, value): (String, Value)| match value {
        Value::Null => Some((name, None)),
        Value::String(text) => Some((name, Some(text))),
        Value::Number(_) | Value::Bool(_) => Some((name, Some(value.to_string()))),
        _ => None,
    };
    members.into_iter().map(member).collect()
}

fn described(exchange: &Exchange<'_, '_>, topic: &TopicDescription) -> Result<Value, Stop> {
    let partition = |(index, described): (usize, PartitionDescription)| {
        let PartitionDescription { start, high_watermark, last_stable_offset, bytes, segments, copies } = described;
        let mut shown = json!({
            "partition": index,
            "start": start,
            "high_watermark": high_watermark,
            "last_stable_offset": last_stable_offset,
            "bytes": bytes,
            "segments": segments,
            "leader_epoch": topic.leader_epochs.get(index),
        });
        if let Some(Copies { leader, replicas, in_sync }) = copies {
            shown["leader"] = json!(leader);
            shown["replicas"] = json!(replicas);
            shown["in_sync"] = json!(in_sync);
        }
        shown
    };
    let partitions = match exchange.broker.describe_partitions(&topic.name) {
        // Whoever made or changed it need not be allowed to see how it is.
        Err(broker::Error::NotAuthorized { .. }) => Vec::new(),
        partitions => partitions?,
    };
    let partitions: Vec<_> = partitions.into_iter().enumerate().map(partition).collect();
    let shows_configs = exchange.broker.may_describe_configs(&topic.name);
    let configs: Map<_, _> = crate::config::SETTINGS
        .iter()
        .filter(|_| shows_configs)
        .map(|setting| {
            let is_own = topic.overrides.contains_key(setting.name);
            (setting.name.into(), json!({ "value": setting.value(&topic.settings), "default": !is_own }))
        })
        .collect();
    Ok(json!({
        "name": topic.name,
        "id": topic.shown_id(),
        "internal": is_internal(&topic.name),
        "partitions": partitions,
        "configs": configs,
    }))
}

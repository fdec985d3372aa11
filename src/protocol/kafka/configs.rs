//! Settings as Kafka's configs: DescribeConfigs, AlterConfigs, IncrementalAlterConfigs.
//!
//! A topic's configs are its settings, which text has too. The broker's can be read and not set: they are its command line.

use super::{
    Call, Code, NODE_ID, Stop, shown_list, tell,
    wire::{Reader, Writer},
};
use crate::{
    broker::{Broker, check_name},
    config::{Overrides, setting_names},
};
use std::collections::BTreeSet;

/// Kinds of resources that have configs.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Where a config's value comes from.
pub(super) const CONFIG_OF_TOPIC: i8 = 1;
const CONFIG_STATIC: i8 = 4;
pub(super) const CONFIG_DEFAULT: i8 = 5;

type Refused = (Code, String);

/// A config as it is told.
struct Config {
    name: String,
    value: String,
    source: i8,
    read_only: bool,
}

/// Kafka's number for the type of a config's value.
fn config_type(name: &str) -> i8 {
    const BOOLEAN: i8 = 1;
    const STRING: i8 = 2;
    const INT: i8 = 3;
    const LONG: i8 = 5;
    const DOUBLE: i8 = 6;
    const LIST: i8 = 7;
    match name {
        "auto.create.topics.enable" => BOOLEAN,
        "cleanup.policy" | "log.cleanup.policy" | "log.dirs" | "advertised.listeners" => LIST,
        "max.message.bytes" | "segment.bytes" | "min.insync.replicas" => INT,
        "broker.id" | "node.id" | "num.partitions" | "message.max.bytes" | "log.segment.bytes" => INT,
        "default.replication.factor" | "max.connections" => INT,
        "min.cleanable.dirty.ratio" => DOUBLE,
        _ if name.ends_with(".ms") || name.ends_with(".bytes") || name.ends_with(".messages") => LONG,
        _ => STRING,
    }
}

/// DescribeConfigs (key 32).
pub(super) fn describe_configs(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    // Each is answered once: a small request for the same a million times would have an answer of gigabytes.
    let resources: BTreeSet<_> = r
        .array(|r| {
            let resource = (r.i8()?, r.string()?, r.nullable_array(Reader::string)?);
            r.tags()?;
            Ok(resource)
        })?
        .into_iter()
        .collect();
    let _synonyms = r.bool()?;
    if r.version >= 3 {
        r.bool()?;
    }
    r.tags()?;
    tell(call.explained, || {
        let name = |(kind, name, _): &(i8, &str, _)| shown_resource(*kind, name);
        format!("the settings of {}", shown_list(resources.iter().map(name)))
    });
    let broker = call.broker;
    let advertised = call.advertised()?;
    let mut w = call.respond();
    w.i32(0);
    w.array(resources.iter(), |w, (kind, name, keys)| {
        let configs = describe(broker, &advertised, *kind, name, keys.as_deref());
        w.i16(configs.as_ref().map_or_else(|(code, _)| *code, |_| Code::None).into());
        w.nullable_string(configs.as_ref().err().map(|(_, why)| why.as_str()));
        w.i8(*kind);
        w.string(name);
        w.array(configs.unwrap_or_default().iter(), write_config);
        w.tags();
    });
    w.tags();
    Ok(())
}

fn shown_resource(kind: i8, name: &str) -> String {
    match kind {
        TOPIC => format!("topic {name}"),
        BROKER => format!("broker {name}"),
        _ => format!("'{name}' of kind {kind}"),
    }
}

fn write_config(w: &mut Writer<'_>, config: &Config) {
    w.string(&config.name);
    w.nullable_string(Some(&config.value));
    w.bool(config.read_only);
    w.i8(config.source);
    w.bool(false);
    // Synonyms, of which there are none.
    w.count(0);
    if w.version >= 3 {
        w.i8(config_type(&config.name));
        w.nullable_string(None);
    }
    w.tags();
}

fn describe(
    broker: &Broker,
    advertised: &(String, i32),
    kind: i8,
    name: &str,
    keys: Option<&[&str]>,
) -> Result<Vec<Config>, Refused> {
    let wanted = |config: &Config| match keys {
        // An empty list means all, as in Kafka.
        None | Some([]) => true,
        Some(keys) => keys.contains(&config.name.as_str()),
    };
    let configs = match kind {
        TOPIC => topic_configs(broker, name)?,
        BROKER => broker_configs(broker, advertised, name)?,
        _ => return Err((Code::InvalidRequest, format!("there are no resources of type {kind}"))),
    };
    Ok(configs.into_iter().filter(wanted).collect())
}

fn topic_configs(broker: &Broker, name: &str) -> Result<Vec<Config>, Refused> {
    let topic = check_name(name).and_then(|()| broker.topic(name));
    let topic = topic.map_err(|error| (error.code(), error.to_string()))?;
    let (settings, overrides) = (topic.settings(), topic.overrides());
    let config = |name: &str| {
        let own = overrides.get(name).cloned();
        let source = if own.is_some() { CONFIG_OF_TOPIC } else { CONFIG_DEFAULT };
        let value = own.or_else(|| settings.get(name)).unwrap_or_default();
        Config { name: name.into(), value, source, read_only: false }
    };
    Ok(setting_names().map(config).collect())
}

fn broker_configs(broker: &Broker, (host, port): &(String, i32), name: &str) -> Result<Vec<Config>, Refused> {
    let config = broker.config();
    if name.is_empty() {
        // The defaults of all brokers, of which none can be set.
        return Ok(Vec::new());
    }
    match name.parse::<i32>() {
        Ok(NODE_ID) => {}
        Ok(_) => return Err((Code::InvalidRequest, format!("there is no broker {name}; this is {NODE_ID}"))),
        Err(_) => return Err((Code::InvalidRequest, format!("'{name}' is no broker's id"))),
    }
    let defaults = &config.topic_defaults;
    let of_topics = [
        ("log.retention.ms", "retention.ms"),
        ("log.retention.bytes", "retention.bytes"),
        ("log.segment.bytes", "segment.bytes"),
        ("log.roll.ms", "segment.ms"),
        ("message.max.bytes", "max.message.bytes"),
        ("log.cleanup.policy", "cleanup.policy"),
        ("compression.type", "compression.type"),
        ("log.message.timestamp.type", "message.timestamp.type"),
        ("min.insync.replicas", "min.insync.replicas"),
    ];
    let own = [
        ("broker.id", NODE_ID.to_string()),
        ("node.id", NODE_ID.to_string()),
        // As Metadata has it; an IPv6 address stands in brackets.
        (
            "advertised.listeners",
            match host.contains(':') {
                true => format!("PLAINTEXT://[{host}]:{port}"),
                false => format!("PLAINTEXT://{host}:{port}"),
            },
        ),
        ("num.partitions", config.default_partitions.to_string()),
        ("default.replication.factor", "1".into()),
        ("auto.create.topics.enable", config.auto_create.to_string()),
        ("log.dirs", config.data_dir.as_ref().map_or("memory".into(), |dir| dir.display().to_string())),
        ("max.connections", config.max_connections.to_string()),
        ("connections.max.idle.ms", config.idle_timeout.as_millis().to_string()),
    ];
    let of_topics = of_topics.map(|(name, setting)| (name, defaults.get(setting).unwrap_or_default()));
    let all = own.into_iter().chain(of_topics);
    Ok(all.map(|(name, value)| Config { name: name.into(), value, source: CONFIG_STATIC, read_only: true }).collect())
}

/// A change of one config.
struct Change<'a> {
    name: &'a str,
    operation: Operation,
    value: Option<&'a str>,
}

/// What IncrementalAlterConfigs does to a config (KIP-339).
#[derive(Clone, Copy, PartialEq)]
enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
    Unknown,
}

/// AlterConfigs (key 33): what is not named returns to its default.
pub(super) fn alter_configs(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    alter(call, r, false)
}

/// IncrementalAlterConfigs (key 44): what is not named stays.
pub(super) fn incremental_alter_configs(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    alter(call, r, true)
}

fn alter(call: &mut Call<'_, '_>, r: &mut Reader<'_>, incremental: bool) -> Result<(), Stop> {
    let resources = r.array(|r| {
        let (kind, name) = (r.i8()?, r.string()?);
        let changes = r.array(|r| {
            let name = r.string()?;
            let operation = match if incremental { r.i8()? } else { 0 } {
                0 => Operation::Set,
                1 => Operation::Delete,
                2 => Operation::Append,
                3 => Operation::Subtract,
                _ => Operation::Unknown,
            };
            let change = Change { name, operation, value: r.nullable_string()? };
            r.tags()?;
            Ok(change)
        })?;
        r.tags()?;
        Ok((kind, name, changes))
    })?;
    let dry = r.bool()?;
    r.tags()?;
    let broker = call.broker;
    let done: Vec<Result<(), Refused>> = resources
        .iter()
        .map(|(kind, name, changes)| match *kind {
            TOPIC => change_topic(broker, name, changes, incremental, dry),
            BROKER => Err((Code::InvalidRequest, "the broker's settings are its command line".into())),
            kind => Err((Code::InvalidRequest, format!("there are no resources of type {kind}"))),
        })
        .collect();
    tell(call.explained, || {
        let done = resources.iter().zip(&done).map(|((kind, name, changes), done)| {
            let (name, count) = (shown_resource(*kind, name), changes.len());
            format!("{count} of {name}: {:?}", done.as_ref().map_or_else(|(code, _)| *code, |()| Code::None))
        });
        format!("change settings: {}", shown_list(done.collect::<Vec<_>>().into_iter()))
    });
    let mut w = call.respond();
    w.i32(0);
    w.array(resources.iter().zip(&done), |w, ((kind, name, _), done)| {
        w.i16(done.as_ref().map_or_else(|(code, _)| *code, |()| Code::None).into());
        w.nullable_string(done.as_ref().err().map(|(_, why)| why.as_str()));
        w.i8(*kind);
        w.string(name);
        w.tags();
    });
    w.tags();
    Ok(())
}

fn change_topic(
    broker: &Broker,
    name: &str,
    changes: &[Change<'_>],
    incremental: bool,
    dry: bool,
) -> Result<(), Refused> {
    if let Some(unknown) = changes.iter().find(|change| !setting_names().any(|name| name == change.name)) {
        return Err((Code::InvalidConfig, format!("'{}' is no setting of a topic", unknown.name)));
    }
    let topic = check_name(name).and_then(|()| broker.topic(name));
    let topic = topic.map_err(|error| (error.code(), error.to_string()))?;
    let names: BTreeSet<&str> = changes.iter().map(|change| change.name).collect();
    if names.len() < changes.len() {
        return Err((Code::InvalidRequest, "a config stands in the request more than once".into()));
    }
    let before = topic.overrides();
    let mut after = if incremental { before.clone() } else { Overrides::new() };
    for change in changes {
        let before = after.get(change.name).cloned().or_else(|| topic.settings().get(change.name));
        match changed(change, &before.unwrap_or_default())? {
            Some(value) => drop(after.insert(change.name.into(), value)),
            None => drop(after.remove(change.name)),
        }
    }
    broker.config().topic_defaults.with(&after).map_err(|why| (Code::InvalidConfig, why))?;
    if dry {
        return Ok(());
    }
    // The broker takes changes, where an empty value is the way back to the default.
    let gone = before.keys().filter(|name| !after.contains_key(*name)).map(|name| (name.clone(), String::new()));
    let changes: Overrides = after.clone().into_iter().chain(gone).collect();
    broker.alter_topic(name, None, &changes).map(|_| ()).map_err(|error| (error.code(), error.to_string()))
}

/// The value of a config after a change; `None`: its default.
fn changed(change: &Change<'_>, before: &str) -> Result<Option<String>, Refused> {
    let name = change.name;
    if change.operation == Operation::Delete {
        return Ok(None);
    }
    let value = change.value.ok_or_else(|| (Code::InvalidRequest, format!("{name} has no value")))?;
    let list = matches!(change.operation, Operation::Append | Operation::Subtract);
    if list && name != "cleanup.policy" {
        return Err((Code::InvalidConfig, format!("{name} is no list, to which something can be added")));
    }
    let mut words: Vec<&str> = before.split(',').collect();
    match change.operation {
        Operation::Set => return Ok(Some(value.into())),
        Operation::Append => words.extend(value.split(',').filter(|word| !before.split(',').any(|old| old == *word))),
        Operation::Subtract => words.retain(|old| !value.split(',').any(|word| word == *old)),
        _ => return Err((Code::InvalidRequest, "there are SET, DELETE, APPEND and SUBTRACT".into())),
    }
    Ok(Some(words.join(",")))
}

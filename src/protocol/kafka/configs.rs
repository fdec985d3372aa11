//! Settings as Kafka's configs: DescribeConfigs, AlterConfigs, IncrementalAlterConfigs.
//!
//! A topic's configs are the settings that text clients know, too. The broker's configs come from its command line, so they can be
//! read but not changed.

use super::{
    Call, Code, NODE_ID, Refusal, Stop, shown_list, tell,
    wire::{ITEM, Reader, Writer},
};
use crate::{
    broker::{Broker, check_name},
    config::{Change, Changes, Overrides, SETTINGS, Setting, Settings, Type},
};
use std::collections::{BTreeMap, BTreeSet};

/// Kinds of resources that have configs.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Where a config's value comes from.
const OF_TOPIC: i8 = 1;
const OF_COMMAND_LINE: i8 = 4;
const DEFAULT: i8 = 5;

/// A config as DescribeConfigs reports it.
pub(super) struct Config {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) source: i8,
    read_only: bool,
    kind: Type,
    what: &'static str,
    /// Where the value comes from, and the values that it would have otherwise; the first one is in effect.
    synonyms: Vec<Synonym>,
}

/// One of the values that a config can have, by the name under which it was set.
struct Synonym {
    name: &'static str,
    value: String,
    source: i8,
}

/// Kafka's number for the type of a config's value.
fn type_number(kind: Type) -> i8 {
    match kind {
        Type::Boolean => 1,
        Type::String => 2,
        Type::Int => 3,
        Type::Long => 5,
        Type::Double => 6,
        Type::List => 7,
    }
}

/// What a client wants to know about each config besides its value.
#[derive(Clone, Copy)]
struct Wanted {
    synonyms: bool,
    documentation: bool,
}

/// DescribeConfigs (key 32).
pub(super) fn describe_configs(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    // Each resource is answered once: a small request that names one a million times would get gigabytes.
    let resources: BTreeSet<_> = r
        .array("resources", |r| {
            let resource = (
                r.i8("resource_type")?,
                r.string("resource_name")?,
                r.nullable_array("configuration_keys", |r| r.string(ITEM))?,
            );
            r.tags()?;
            Ok(resource)
        })?
        .into_iter()
        .collect();
    let wanted = Wanted {
        synonyms: r.bool("include_synonyms")?,
        documentation: r.version >= 3 && r.bool("include_documentation")?,
    };
    r.tags()?;
    tell(call.explained, || {
        let name = |(kind, name, _): &(i8, &str, _)| shown_resource(*kind, name);
        format!("the settings of {}", shown_list(resources.iter().map(name)))
    });
    let broker = call.broker;
    let advertised = call.advertised()?;
    let mut w = call.respond();
    w.i32("throttle_time_ms", 0);
    w.array("results", resources.iter(), |w, (kind, name, keys)| {
        let configs = describe(broker, &advertised, *kind, name, keys.as_deref());
        w.i16("error_code", configs.as_ref().map_or_else(|refusal| refusal.code, |_| Code::None).into());
        w.nullable_string("error_message", configs.as_ref().err().map(|refusal| refusal.why.as_str()));
        w.i8("resource_type", *kind);
        w.string("resource_name", name);
        w.array("configs", configs.unwrap_or_default().iter(), |w, config| write_config(w, config, wanted));
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

fn write_config(w: &mut Writer<'_>, config: &Config, wanted: Wanted) {
    w.string("name", config.name);
    w.nullable_string("value", Some(&config.value));
    w.bool("read_only", config.read_only);
    w.i8("config_source", config.source);
    w.bool("is_sensitive", false);
    let synonyms = if wanted.synonyms { config.synonyms.as_slice() } else { &[] };
    w.array("synonyms", synonyms.iter(), |w, synonym| {
        w.string("name", synonym.name);
        w.nullable_string("value", Some(&synonym.value));
        w.i8("source", synonym.source);
        w.tags();
    });
    if w.version >= 3 {
        w.i8("config_type", type_number(config.kind));
        w.nullable_string("documentation", wanted.documentation.then_some(config.what));
    }
    w.tags();
}

fn describe(
    broker: &Broker,
    advertised: &(String, i32),
    kind: i8,
    name: &str,
    keys: Option<&[&str]>,
) -> Result<Vec<Config>, Refusal> {
    let wanted = |config: &Config| match keys {
        // An empty list means all, as in Kafka.
        None | Some([]) => true,
        Some(keys) => keys.contains(&config.name),
    };
    let configs = match kind {
        TOPIC => {
            let topic = check_name(name).and_then(|()| broker.describe_topic(name)).map_err(Refusal::from)?;
            topic_configs(&broker.config().topic_defaults, &topic.overrides)
        }
        BROKER => broker_configs(broker, advertised, name)?,
        _ => return Err(Refusal::new(Code::InvalidRequest, format!("there are no resources of type {kind}"))),
    };
    Ok(configs.into_iter().filter(wanted).collect())
}

/// A topic's configs: its own over the broker's.
pub(super) fn topic_configs(of_broker: &Settings, own: &Overrides) -> Vec<Config> {
    let config = |setting: &'static Setting| {
        let mut synonyms = broker_synonyms(setting, of_broker);
        let mut source = if set_at_start(setting, of_broker) { OF_COMMAND_LINE } else { DEFAULT };
        let own = own.get(setting.name);
        if let Some(value) = own {
            source = OF_TOPIC;
            synonyms.insert(0, Synonym { name: setting.name, value: value.clone(), source });
        }
        let value = own.cloned().unwrap_or_else(|| setting.value(of_broker));
        let Setting { name, kind, what, .. } = setting;
        Config { name, value, source, read_only: false, kind: *kind, what, synonyms }
    };
    SETTINGS.iter().map(config).collect()
}

/// Whether the broker was started with a default of its own.
fn set_at_start(setting: &Setting, of_broker: &Settings) -> bool {
    setting.value(of_broker) != setting.value(&Settings::default())
}

/// The broker's own default of a setting, and its name in Kafka.
fn broker_synonyms(setting: &'static Setting, of_broker: &Settings) -> Vec<Synonym> {
    /// Their defaults stand in Kafka under other names: `log.retention.hours`, `log.roll.hours` and so on.
    const NO_DEFAULT: [&str; 4] = ["flush.ms", "retention.ms", "segment.jitter.ms", "segment.ms"];
    let Some(name) = setting.of_broker else { return Vec::new() };
    let mut synonyms = Vec::new();
    if set_at_start(setting, of_broker) {
        synonyms.push(Synonym { name, value: setting.value(of_broker), source: OF_COMMAND_LINE });
    }
    if !NO_DEFAULT.contains(&setting.name) {
        synonyms.push(Synonym { name, value: setting.value(&Settings::default()), source: DEFAULT });
    }
    synonyms
}

fn broker_configs(broker: &Broker, (host, port): &(String, i32), name: &str) -> Result<Vec<Config>, Refusal> {
    let config = broker.config();
    if name.is_empty() {
        // The defaults of all brokers. None can be set.
        return Ok(Vec::new());
    }
    match name.parse::<i32>() {
        Ok(NODE_ID) => {}
        Ok(_) => {
            return Err(Refusal::new(Code::InvalidRequest, format!("there is no broker {name}; this is {NODE_ID}")));
        }
        Err(_) => return Err(Refusal::new(Code::InvalidRequest, format!("'{name}' is no broker's id"))),
    }
    // As Metadata has it; an IPv6 address stands in brackets.
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let log_dir = config.data_dir.as_ref().map_or("memory".into(), |dir| dir.display().to_string());
    let own = [
        ("broker.id", Type::Int, NODE_ID.to_string(), "the broker's number in its cluster"),
        ("node.id", Type::Int, NODE_ID.to_string(), "the broker's number in its cluster"),
        ("advertised.listeners", Type::List, format!("PLAINTEXT://{host}:{port}"), "where clients reach the broker"),
        ("num.partitions", Type::Int, config.default_partitions.to_string(), "partitions of topics made on first use"),
        ("default.replication.factor", Type::Int, "1".into(), "copies of topics made on first use"),
        ("auto.create.topics.enable", Type::Boolean, config.auto_create.to_string(), "whether first use makes a topic"),
        ("log.dirs", Type::List, log_dir, "where the log lives"),
        (
            "log.retention.check.interval.ms",
            Type::Long,
            config.retention_check_interval.as_millis().to_string(),
            "how often retention looks for records that are too old",
        ),
        ("max.connections", Type::Int, config.max_connections.to_string(), "connections at once"),
        (
            "connections.max.idle.ms",
            Type::Long,
            config.idle_timeout.as_millis().to_string(),
            "how long a connection may be silent",
        ),
    ];
    let own = own.map(|(name, kind, value, what)| {
        let synonyms = vec![Synonym { name, value: value.clone(), source: OF_COMMAND_LINE }];
        Config { name, value, source: OF_COMMAND_LINE, read_only: true, kind, what, synonyms }
    });
    let of_topics = SETTINGS.iter().filter_map(|setting| {
        let (kind, what, value) = (setting.kind, setting.what, setting.value(&config.topic_defaults));
        let source = if set_at_start(setting, &config.topic_defaults) { OF_COMMAND_LINE } else { DEFAULT };
        let synonyms = broker_synonyms(setting, &config.topic_defaults);
        Some(Config { name: setting.of_broker?, value, source, read_only: true, kind, what, synonyms })
    });
    Ok(own.into_iter().chain(of_topics).collect())
}

/// A change of one config, as it was asked for.
struct Asked<'a> {
    name: &'a str,
    operation: i8,
    value: Option<&'a str>,
}

/// The changes that a request wants for one resource.
struct Resource<'a> {
    kind: i8,
    name: &'a str,
    changes: Vec<Asked<'a>>,
}

/// What IncrementalAlterConfigs does to a config (KIP-339).
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// AlterConfigs (key 33): what is not named returns to its default.
pub(super) fn alter_configs(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    alter(call, r, false)
}

/// IncrementalAlterConfigs (key 44): what is not named stays.
pub(super) fn incremental_alter_configs(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    alter(call, r, true)
}

fn alter(call: &mut Call<'_, '_>, r: &mut Reader<'_>, incremental: bool) -> Result<(), Stop> {
    let resources = r.array("resources", |r| {
        let (kind, name) = (r.i8("resource_type")?, r.string("resource_name")?);
        let changes = r.array("configs", |r| {
            let name = r.string("name")?;
            let operation = if incremental { r.i8("config_operation")? } else { SET };
            let change = Asked { name, operation, value: r.nullable_string("value")? };
            r.tags()?;
            Ok(change)
        })?;
        r.tags()?;
        Ok(Resource { kind, name, changes })
    })?;
    let dry = r.bool("validate_only")?;
    r.tags()?;
    let broker = call.broker;
    let mut times: BTreeMap<(i8, &str), usize> = BTreeMap::new();
    resources.iter().for_each(|resource| *times.entry((resource.kind, resource.name)).or_default() += 1);
    let done: Vec<Result<(), Refusal>> = resources
        .iter()
        .map(|resource| match times[&(resource.kind, resource.name)] {
            1 => change(broker, resource, incremental, dry),
            _ => Err(Refusal::new(Code::InvalidRequest, "the resource stands in the request more than once".into())),
        })
        .collect();
    tell(call.explained, || {
        let done = resources.iter().zip(&done).map(|(resource, done)| {
            let (name, count) = (shown_resource(resource.kind, resource.name), resource.changes.len());
            format!("{count} of {name}: {:?}", done.as_ref().map_or_else(|refusal| refusal.code, |()| Code::None))
        });
        format!("change settings: {}", shown_list(done.collect::<Vec<_>>().into_iter()))
    });
    let mut w = call.respond();
    w.i32("throttle_time_ms", 0);
    w.array("responses", resources.iter().zip(&done), |w, (resource, done)| {
        w.i16("error_code", done.as_ref().map_or_else(|refusal| refusal.code, |()| Code::None).into());
        w.nullable_string("error_message", done.as_ref().err().map(|refusal| refusal.why.as_str()));
        w.i8("resource_type", resource.kind);
        w.string("resource_name", resource.name);
        w.tags();
    });
    w.tags();
    Ok(())
}

/// Changes the configs of one resource. The checks are in Kafka's order: the request itself, the topic's name, the configs, and
/// only then whether there is such a topic.
fn change(broker: &Broker, resource: &Resource<'_>, incremental: bool, dry: bool) -> Result<(), Refusal> {
    let name = resource.name;
    let changes = Changes { named: changes(&resource.changes)?, reset_others: !incremental };
    match resource.kind {
        TOPIC if name.is_empty() => {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "the defaults of all topics are the broker's command line".into(),
            ));
        }
        TOPIC => check_name(name).map_err(Refusal::from)?,
        BROKER => return Err(Refusal::new(Code::InvalidRequest, "the broker's settings are its command line".into())),
        kind => return Err(Refusal::new(Code::InvalidRequest, format!("there are no resources of type {kind}"))),
    }
    let own = broker.describe_topic(name).map(|topic| topic.overrides).unwrap_or_default();
    changes.applied(&own, &broker.config().topic_defaults).map_err(|why| Refusal::new(Code::InvalidConfig, why))?;
    if dry {
        return broker.describe_topic(name).map(drop).map_err(Refusal::from);
    }
    broker.alter_topic(name, None, &changes).map(drop).map_err(Refusal::from)
}

/// The changes that a request asks for, each to a different config.
fn changes(asked: &[Asked<'_>]) -> Result<BTreeMap<String, Change>, Refusal> {
    let mut changes = BTreeMap::new();
    for Asked { name, operation, value } in asked {
        let value = || {
            value.map(String::from).ok_or_else(|| Refusal::new(Code::InvalidRequest, format!("{name} has no value")))
        };
        let change = match *operation {
            SET => Change::Set(value()?),
            DELETE => Change::Default,
            APPEND => Change::Append(value()?),
            SUBTRACT => Change::Subtract(value()?),
            _ => return Err(Refusal::new(Code::InvalidRequest, "there are SET, DELETE, APPEND and SUBTRACT".into())),
        };
        if changes.insert((*name).into(), change).is_some() {
            return Err(Refusal::new(Code::InvalidRequest, "a config stands in the request more than once".into()));
        }
    }
    let is_list = |name: &str| Setting::named(name).is_some_and(|setting| setting.kind == Type::List);
    let appends = |(name, change): &(&String, &Change)| {
        !is_list(name) && matches!(change, Change::Append(_) | Change::Subtract(_))
    };
    match changes.iter().find(appends) {
        Some((name, _)) => {
            Err(Refusal::new(Code::InvalidConfig, format!("{name} is no list, to which something could be added")))
        }
        None => Ok(changes),
    }
}

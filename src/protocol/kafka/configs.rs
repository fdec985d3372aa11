//! Settings as Kafka's configs: DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources.
//!
//! ```text
//! topic            its own settings, which text clients know, too, over its broker's
//! broker           "1": this one's, over those of all, which have no name, over the command line's
//! group            its own, over defaults
//! client metrics   kept for whoever sets them; no client is asked for its metrics
//! broker logger    one, whose level the command line says
//! ```
//!
//! What of a broker's configs has an effect when it changes while the broker runs are the defaults of its topics.

use super::{
    Call, Code, NODE_ID, Refusal, Stop, shown_list, tell,
    wire::{ITEM, Reader, Writer},
    write_code,
};
use crate::{
    broker::{Broker, Error, Resource, ResourceKind, ResourceName, check_name},
    config::{
        BROKER_SETTINGS, BrokerSettings, Change, Changes, ClientMetricsSettings, Config as BrokerConfig, DEAD_LETTERS,
        Described, GroupSettings, Overrides, SETTINGS, SecurityConfig, Setting, Settings, Type, known, no_list,
    },
    security::Operation,
};
use std::collections::{BTreeMap, BTreeSet};

/// Kinds of resources that have configs.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

/// Where a config's value comes from.
const OF_TOPIC: i8 = 1;
const OF_THIS_BROKER: i8 = 2;
const OF_ALL_BROKERS: i8 = 3;
const OF_COMMAND_LINE: i8 = 4;
const DEFAULT: i8 = 5;
const OF_LOGGER: i8 = 6;
const OF_CLIENT_METRICS: i8 = 7;
const OF_GROUP: i8 = 8;

/// The one logger.
const ROOT_LOGGER: &str = "root";

/// A config as DescribeConfigs reports it.
pub(super) struct Config {
    pub(super) name: String,
    /// `None`: it is not known what it means, so it may be a secret.
    pub(super) value: Option<String>,
    pub(super) source: i8,
    read_only: bool,
    /// `None`: unknown, or a logger's.
    kind: Option<Type>,
    what: &'static str,
    /// Where the value comes from, and the values that it would have otherwise; the first one is in effect.
    synonyms: Vec<Synonym>,
}

/// One of the values that a config can have, by the name under which it was set.
struct Synonym {
    name: String,
    value: Option<String>,
    source: i8,
}

impl Synonym {
    fn new(name: &str, value: String, source: i8) -> Synonym {
        Synonym { name: name.into(), value: Some(value), source }
    }
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
    let asked = r.array("resources", |r| {
        let resource = (r.i8("resource_type")?, r.string("resource_name")?);
        let keys = r.nullable_array("configuration_keys", |r| r.string(ITEM))?;
        r.tags()?;
        Ok((resource, keys))
    })?;
    // Each resource is answered once, with all that is asked of it: a small request could name one a million times.
    let mut resources: BTreeMap<(i8, &str), Option<BTreeSet<&str>>> = BTreeMap::new();
    for (resource, keys) in asked {
        // An empty list means all, as in Kafka.
        let keys = keys.filter(|keys| !keys.is_empty());
        let wanted = resources.entry(resource).or_insert_with(|| Some(BTreeSet::new()));
        match (keys, &mut *wanted) {
            (Some(keys), Some(wanted)) => wanted.extend(keys),
            _ => *wanted = None,
        }
    }
    let wanted = Wanted {
        synonyms: r.bool("include_synonyms")?,
        documentation: r.version >= 3 && r.bool("include_documentation")?,
    };
    r.tags()?;
    tell(call.explained, || {
        let name = |(kind, name): &(i8, &str)| shown_resource(*kind, name);
        format!("the settings of {}", shown_list(resources.keys().map(name)))
    });
    let broker = call.broker;
    let advertised = call.advertised()?;
    let layers = Layers::of(broker);
    let mut w = call.respond();
    w.throttle_time();
    w.array("results", resources.iter(), |w, ((kind, name), keys)| {
        let configs = describe(broker, &layers, &advertised, *kind, name, keys.as_ref());
        write_code(w, configs.as_ref().err());
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
        GROUP => format!("group {name}"),
        _ => format!("'{name}' of kind {kind}"),
    }
}

fn write_config(w: &mut Writer<'_>, config: &Config, wanted: Wanted) {
    w.string("name", &config.name);
    w.nullable_string("value", config.value.as_deref());
    w.bool("read_only", config.read_only);
    w.i8("config_source", config.source);
    w.bool("is_sensitive", config.value.is_none());
    let synonyms = if wanted.synonyms { config.synonyms.as_slice() } else { &[] };
    w.array("synonyms", synonyms.iter(), |w, synonym| {
        w.string("name", &synonym.name);
        w.nullable_string("value", synonym.value.as_deref());
        w.i8("source", synonym.source);
        w.tags();
    });
    if w.version >= 3 {
        w.i8("config_type", config.kind.map_or(0, type_number));
        w.nullable_string("documentation", wanted.documentation.then_some(config.what));
    }
    w.tags();
}

fn describe(
    broker: &Broker,
    layers: &Layers,
    advertised: &(String, i32),
    kind: i8,
    name: &str,
    keys: Option<&BTreeSet<&str>>,
) -> Result<Vec<Config>, Refusal> {
    may(broker, Operation::DescribeConfigs, kind, name)?;
    let wanted = |config: &Config| keys.is_none_or(|keys| keys.contains(config.name.as_str()));
    let own = |kind| broker.configs(&Resource { kind, name: name.into() });
    let configs = match kind {
        TOPIC => {
            check_name(name)?;
            let topic = broker.describe_topic_to(Operation::DescribeConfigs, name)?;
            topic_configs(layers, &topic.overrides)
        }
        BROKER if name.is_empty() => layers.of_all_brokers(),
        BROKER => {
            check_broker(name)?;
            broker_configs(broker.config(), layers, advertised)
        }
        BROKER_LOGGER => {
            check_broker(name)?;
            vec![logger(broker.config())]
        }
        CLIENT_METRICS if name.is_empty() => return Err(Refusal::invalid("a subscription has a name")),
        CLIENT_METRICS => described::<ClientMetricsSettings>(&own(ResourceKind::ClientMetrics), OF_CLIENT_METRICS),
        GROUP if name.is_empty() => return Err(Refusal::invalid("a group has a name")),
        GROUP => {
            // Kafka 4.3 does not know where dead letters go.
            let is_known = |config: &Config| config.name != DEAD_LETTERS || config.source == OF_GROUP;
            let all = described::<GroupSettings>(&own(ResourceKind::Group), OF_GROUP);
            all.into_iter().filter(is_known).collect()
        }
        _ => return Err(Refusal::invalid(format!("there are no resources of type {kind}"))),
    };
    Ok(configs.into_iter().filter(wanted).collect())
}

/// Whether the caller may do this to the configs of a thing.
fn may(broker: &Broker, operation: Operation, kind: i8, name: &str) -> Result<(), Refusal> {
    let resource = match kind {
        TOPIC => ResourceName::topic(name),
        GROUP => ResourceName::group(name),
        _ => ResourceName::CLUSTER,
    };
    Ok(broker.ask(operation, resource).map(drop)?)
}

/// The broker's id, as the name of a resource.
fn check_broker(name: &str) -> Result<(), Refusal> {
    match name.parse::<i32>() {
        Ok(NODE_ID) if name == NODE_ID.to_string() => Ok(()),
        Ok(_) => Err(Refusal::invalid(format!("there is no broker {name}; this is {NODE_ID}"))),
        Err(_) => Err(Refusal::invalid(format!("'{name}' is no broker's id"))),
    }
}

/// Settings that stand in one place, over their defaults.
fn described<S: Described>(own: &Overrides, source: i8) -> Vec<Config> {
    let config = |setting: &'static Setting<S>| {
        let default = setting.value(&S::default());
        let own = own.get(setting.name);
        let mut synonyms: Vec<_> =
            own.map(|value| Synonym::new(setting.name, value.clone(), source)).into_iter().collect();
        synonyms.extend(setting.of_broker.map(|name| Synonym::new(name, default.clone(), DEFAULT)));
        Config {
            name: setting.name.into(),
            value: Some(own.cloned().unwrap_or(default)),
            source: if own.is_some() { source } else { DEFAULT },
            read_only: false,
            kind: Some(setting.kind),
            what: setting.what,
            synonyms,
        }
    };
    S::ROWS.iter().map(config).collect()
}

/// Where the defaults of topics come from.
pub(super) struct Layers {
    command_line: Settings,
    in_force: std::sync::Arc<Settings>,
    /// What was set while the broker ran: this broker's, then that of all, with where it comes from.
    dynamic: [(i8, Overrides); 2],
}

impl Layers {
    pub(super) fn of(broker: &Broker) -> Layers {
        let of = |name: &str| broker.configs(&Resource { kind: ResourceKind::Broker, name: name.into() });
        Layers {
            command_line: broker.config().topic_defaults.clone(),
            in_force: broker.topic_defaults(),
            dynamic: [(OF_THIS_BROKER, of(&NODE_ID.to_string())), (OF_ALL_BROKERS, of(""))],
        }
    }

    /// The broker's own default of a setting, and its name in Kafka. The first one is in effect.
    fn synonyms(&self, setting: &'static Setting) -> Vec<Synonym> {
        /// Their defaults stand in Kafka under other names: `log.retention.hours`, `log.roll.hours` and so on.
        const NO_DEFAULT: [&str; 4] = ["flush.ms", "retention.ms", "segment.jitter.ms", "segment.ms"];
        let Some(name) = setting.of_broker else { return Vec::new() };
        let mut synonyms = self.dynamic_synonyms(name);
        let default = setting.value(&Settings::default());
        if setting.value(&self.command_line) != default {
            synonyms.push(Synonym::new(name, setting.value(&self.command_line), OF_COMMAND_LINE));
        }
        if !NO_DEFAULT.contains(&setting.name) {
            synonyms.push(Synonym::new(name, default, DEFAULT));
        }
        synonyms
    }

    fn dynamic_synonyms(&self, name: &str) -> Vec<Synonym> {
        let set = |(source, configs): &(i8, Overrides)| Some(Synonym::new(name, configs.get(name)?.clone(), *source));
        self.dynamic.iter().filter_map(set).collect()
    }

    /// What was set for all brokers.
    fn of_all_brokers(&self) -> Vec<Config> {
        let [_, (source, configs)] = &self.dynamic;
        configs
            .iter()
            .map(|(name, value)| self.dynamic_config(name, vec![Synonym::new(name, value.clone(), *source)]))
            .collect()
    }

    /// What is known and without effect.
    fn kept(&self) -> impl Iterator<Item = Config> {
        BROKER_SETTINGS.iter().map(|setting| {
            let mut synonyms = self.dynamic_synonyms(setting.name);
            synonyms.push(Synonym::new(setting.name, setting.value(&BrokerSettings::default()), DEFAULT));
            self.dynamic_config(setting.name, synonyms)
        })
    }

    /// What was set for this broker or for all and is not known.
    fn unknown(&self) -> Vec<Config> {
        let names: BTreeSet<&String> = self.dynamic.iter().flat_map(|(_, configs)| configs.keys()).collect();
        let unknown = names.into_iter().filter(|name| known(name).is_none());
        unknown.map(|name| self.dynamic_config(name, self.dynamic_synonyms(name))).collect()
    }

    fn dynamic_config(&self, name: &str, mut synonyms: Vec<Synonym>) -> Config {
        let known = known(name);
        if known.is_none() {
            synonyms.iter_mut().for_each(|synonym| synonym.value = None);
        }
        let (value, source) = (synonyms[0].value.clone(), synonyms[0].source);
        let (kind, what) = (known.as_ref().map(|known| known.kind), known.as_ref().map_or("", |known| known.what));
        Config { name: name.into(), value, source, read_only: known.is_none(), kind, what, synonyms }
    }
}

/// A topic's configs: its own over the broker's.
pub(super) fn topic_configs(layers: &Layers, own: &Overrides) -> Vec<Config> {
    let config = |setting: &'static Setting| {
        let mut synonyms = layers.synonyms(setting);
        let own = own.get(setting.name);
        if let Some(value) = own {
            synonyms.insert(0, Synonym::new(setting.name, value.clone(), OF_TOPIC));
        }
        let Setting { name, kind, what, .. } = setting;
        Config {
            name: (*name).into(),
            value: Some(own.cloned().unwrap_or_else(|| setting.value(&layers.in_force))),
            source: synonyms.first().map_or(DEFAULT, |synonym| synonym.source),
            read_only: false,
            kind: Some(*kind),
            what,
            synonyms,
        }
    };
    SETTINGS.iter().map(config).collect()
}

/// How clients are to speak to the port, by the name that it has in their settings.
pub(super) fn security_protocol(security: &SecurityConfig) -> &'static str {
    #[cfg(feature = "tls")]
    let by_tls = security.tls.is_some();
    #[cfg(not(feature = "tls"))]
    let by_tls = false;
    match (security.users, by_tls) {
        (false, false) => "PLAINTEXT",
        (false, true) => "SSL",
        (true, false) => "SASL_PLAINTEXT",
        (true, true) => "SASL_SSL",
    }
}

/// This broker's configs: what it was started with, and the defaults of its topics.
fn broker_configs(config: &BrokerConfig, layers: &Layers, (host, port): &(String, i32)) -> Vec<Config> {
    // As Metadata has it; an IPv6 address stands in brackets.
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let default = BrokerConfig::in_memory();
    let ms = |time: std::time::Duration| time.as_millis().to_string();
    let id = NODE_ID.to_string();
    let same = |text: &str| (text.to_string(), text.to_string());
    let own: [(&str, Type, (String, String), &str); 11] = [
        ("broker.id", Type::Int, (id.clone(), String::new()), "the broker's number in its cluster"),
        ("node.id", Type::Int, (id, String::new()), "the broker's number in its cluster"),
        (
            "advertised.listeners",
            Type::List,
            (format!("{}://{host}:{port}", security_protocol(&config.security)), String::new()),
            "where clients reach the broker",
        ),
        (
            "num.partitions",
            Type::Int,
            (config.default_partitions.to_string(), default.default_partitions.to_string()),
            "partitions of topics made on first use",
        ),
        ("default.replication.factor", Type::Int, same("1"), "copies of topics made on first use"),
        (
            "auto.create.topics.enable",
            Type::Boolean,
            (config.auto_create.to_string(), default.auto_create.to_string()),
            "whether first use makes a topic",
        ),
        ("log.dirs", Type::List, (config.log_dir(), String::new()), "where the log lives"),
        (
            "log.retention.check.interval.ms",
            Type::Long,
            (ms(config.retention_check_interval), ms(default.retention_check_interval)),
            "how often retention looks for records that are too old",
        ),
        (
            "max.connections",
            Type::Int,
            (config.max_connections.to_string(), default.max_connections.to_string()),
            "connections at once",
        ),
        (
            "connections.max.idle.ms",
            Type::Long,
            (ms(config.idle_timeout), ms(default.idle_timeout)),
            "how long a connection may be silent",
        ),
        (
            "connections.max.reauth.ms",
            Type::Long,
            (config.security.reauth.map_or("0".into(), ms), "0".into()),
            "how long a login holds before the client has to log in again; 0: for ever",
        ),
    ];
    let own = own.map(|(name, kind, (value, default), what)| {
        let source = if value == default { DEFAULT } else { OF_COMMAND_LINE };
        let synonyms = vec![Synonym::new(name, value.clone(), source)];
        Config { name: name.into(), value: Some(value), source, read_only: true, kind: Some(kind), what, synonyms }
    });
    let of_topics = SETTINGS.iter().filter_map(|setting| {
        let synonyms = layers.synonyms(setting);
        Some(Config {
            name: setting.of_broker?.into(),
            value: Some(setting.value(&layers.in_force)),
            source: synonyms.first().map_or(DEFAULT, |synonym| synonym.source),
            read_only: false,
            kind: Some(setting.kind),
            what: setting.what,
            synonyms,
        })
    });
    own.into_iter().chain(of_topics).chain(layers.kept()).chain(layers.unknown()).collect()
}

/// The one logger: how much the broker tells on stderr.
fn logger(config: &BrokerConfig) -> Config {
    let level = match config.verbosity {
        0 => "ERROR",
        1 => "INFO",
        _ => "DEBUG",
    };
    let what = "what is told on stderr; the command line says how much";
    let (name, value) = (ROOT_LOGGER.into(), Some(level.into()));
    Config { name, value, source: OF_LOGGER, read_only: false, kind: None, what, synonyms: Vec::new() }
}

/// ListConfigResources (key 74): all that has configs, by kind.
pub(super) fn list_config_resources(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    /// In Kafka's order.
    const KINDS: [i8; 5] = [GROUP, CLIENT_METRICS, BROKER_LOGGER, BROKER, TOPIC];
    let asked: BTreeSet<i8> = match r.version {
        0 => BTreeSet::from([CLIENT_METRICS]),
        _ => r.array("resource_types", |r| r.i8(ITEM))?.into_iter().collect(),
    };
    r.tags()?;
    tell(call.explained, || "what has settings".into());
    let whole = call.broker.for_cluster(Operation::DescribeConfigs);
    let code = match &whole {
        Err(error) => error.code(),
        Ok(_) if asked.iter().all(|kind| KINDS.contains(kind)) => Code::None,
        Ok(_) => Code::UnsupportedVersion,
    };
    let is_known = code == Code::None;
    let broker = whole.as_ref().unwrap_or(call.broker);
    let names = |kind: i8| match kind {
        TOPIC => broker.describe_topics().into_keys().collect(),
        BROKER | BROKER_LOGGER => vec![NODE_ID.to_string()],
        CLIENT_METRICS => broker.configured(ResourceKind::ClientMetrics),
        _ => broker.configured(ResourceKind::Group),
    };
    let named = KINDS.into_iter().filter(|kind| is_known && (asked.is_empty() || asked.contains(kind)));
    let resources: Vec<(i8, String)> =
        named.flat_map(|kind| names(kind).into_iter().map(move |name| (kind, name))).collect();
    let mut w = call.respond();
    w.throttle_time();
    w.i16("error_code", code.into());
    w.array("config_resources", resources.iter(), |w, (kind, name)| {
        w.string("resource_name", name);
        if w.version >= 1 {
            w.i8("resource_type", *kind);
        }
        w.tags();
    });
    w.tags();
    Ok(())
}

/// A change of one config, as it was asked for.
struct Asked<'a> {
    name: &'a str,
    operation: i8,
    value: Option<&'a str>,
}

/// The changes that a request wants for one resource.
struct Altered<'a> {
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
        Ok(Altered { kind, name, changes })
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
            _ => Err(Refusal::invalid("the resource stands in the request more than once")),
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
    w.throttle_time();
    w.array("responses", resources.iter().zip(&done), |w, (resource, done)| {
        write_code(w, done.as_ref().err());
        w.i8("resource_type", resource.kind);
        w.string("resource_name", resource.name);
        w.tags();
    });
    w.tags();
    Ok(())
}

/// Changes the configs of one resource. The checks are in Kafka's order: the request itself, the resource's name, the configs, and
/// only then, of a topic, whether there is one.
fn change(broker: &Broker, resource: &Altered<'_>, incremental: bool, dry: bool) -> Result<(), Refusal> {
    let name = resource.name;
    may(broker, Operation::AlterConfigs, resource.kind, name)?;
    let changes = Changes { named: changes(resource)?, reset_others: !incremental };
    let dynamic = |kind| broker.alter_configs(&Resource { kind, name: name.into() }, &changes, dry);
    match resource.kind {
        TOPIC if name.is_empty() => Err(Refusal::invalid("the defaults of all topics are the configs of their broker")),
        TOPIC => change_topic(broker, name, &changes, dry),
        BROKER => {
            if !name.is_empty() {
                check_broker(name)?;
            }
            dynamic(ResourceKind::Broker).map_err(|error| match error {
                Error::InvalidConfig(why) => Refusal::invalid(why),
                error => error.into(),
            })
        }
        BROKER_LOGGER => check_broker(name).and_then(|()| change_loggers(&changes)),
        CLIENT_METRICS if name.is_empty() => Err(Refusal::invalid("a subscription has a name")),
        CLIENT_METRICS => dynamic(ResourceKind::ClientMetrics).map_err(Refusal::from),
        GROUP if name.is_empty() => Err(Refusal::invalid("a group has a name; there are no configs of all groups")),
        GROUP => dynamic(ResourceKind::Group).map_err(Refusal::from),
        kind => Err(Refusal::invalid(format!("there are no resources of type {kind}"))),
    }
}

fn change_topic(broker: &Broker, name: &str, changes: &Changes, dry: bool) -> Result<(), Refusal> {
    check_name(name).map_err(Refusal::from)?;
    let topic = broker.describe_topic_to(Operation::AlterConfigs, name);
    let own = topic.as_ref().map(|topic| topic.overrides.clone()).unwrap_or_default();
    let applied = changes.applied(&own, &*broker.topic_defaults());
    applied.map_err(|why| Refusal::new(Code::InvalidConfig, why))?;
    if dry {
        return topic.map(drop).map_err(Refusal::from);
    }
    broker.alter_topic(name, None, changes).map(drop).map_err(Refusal::from)
}

/// There is one logger, whose level stays.
fn change_loggers(changes: &Changes) -> Result<(), Refusal> {
    match changes.named.first_key_value() {
        None => Ok(()),
        Some((name, _)) if name == ROOT_LOGGER => {
            Err(Refusal::invalid("the level of the root logger is the command line's: -q, -v"))
        }
        Some((name, _)) => Err(Refusal::new(Code::InvalidConfig, format!("Logger {name} does not exist!"))),
    }
}

/// The changes that a request asks for, each to a different config.
fn changes(resource: &Altered<'_>) -> Result<BTreeMap<String, Change>, Refusal> {
    let mut changes = BTreeMap::new();
    for Asked { name, operation, value } in &resource.changes {
        let value = || value.map(String::from).ok_or_else(|| Refusal::invalid(format!("{name} has no value")));
        let change = match *operation {
            SET => Change::Set(value()?),
            DELETE => Change::Default,
            APPEND => Change::Append(value()?),
            SUBTRACT => Change::Subtract(value()?),
            _ => return Err(Refusal::invalid("there are SET, DELETE, APPEND and SUBTRACT")),
        };
        if changes.insert((*name).into(), change).is_some() {
            return Err(Refusal::invalid("a config stands in the request more than once"));
        }
    }
    let kind = |name: &str| match resource.kind {
        BROKER => known(name).map(|known| known.kind),
        CLIENT_METRICS => Setting::<ClientMetricsSettings>::named(name).map(|setting| setting.kind),
        GROUP => Setting::<GroupSettings>::named(name).map(|setting| setting.kind),
        _ => Setting::<Settings>::named(name).map(|setting| setting.kind),
    };
    let is_list = |name: &str| kind(name) == Some(Type::List);
    let appends = |(name, change): &(&String, &Change)| {
        !is_list(name) && matches!(change, Change::Append(_) | Change::Subtract(_))
    };
    match changes.iter().find(appends) {
        Some((name, _)) => Err(Refusal::new(Code::InvalidConfig, no_list(name))),
        None => Ok(changes),
    }
}

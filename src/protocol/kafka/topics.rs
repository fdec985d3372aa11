//! Creating and deleting: CreateTopics, DeleteTopics, CreatePartitions, DeleteRecords; and DescribeLogDirs.

use super::{
    Call, Code, NODE_ID, Refusal, Stop,
    configs::{Layers, topic_configs},
    partition_index, shown_list, tell,
    wire::{ITEM, Reader, Uuid},
    write_code,
};
use crate::{
    broker::{self, Broker, PARTITIONS_MAX, Space, TopicDescription, check_name, random},
    config::{Changes, CleanupPolicy, Described, Overrides, Settings, canonical},
    security::Operation,
};
use std::collections::{BTreeMap, HashMap};

/// The first versions of CreateTopics, DeleteTopics and CreatePartitions whose clients know that changes can come too fast (KIP-599).
const CREATE_TOLD_FROM: i16 = 6;
const DELETE_TOLD_FROM: i16 = 5;
const GROW_TOLD_FROM: i16 = 3;

/// A topic to be created.
struct New<'a> {
    name: &'a str,
    partitions: i32,
    replication_factor: i16,
    /// Partitions, and the brokers that are to have them.
    assignments: Vec<(i32, Vec<i32>)>,
    configs: Vec<(&'a str, Option<&'a str>)>,
}

/// A topic that was created, or would have been.
struct Made {
    id: Uuid,
    partitions: u32,
    overrides: Overrides,
}

impl New<'_> {
    /// How many partitions it is to have, as far as that makes sense.
    fn partition_count(&self, broker: &Broker) -> u64 {
        match (self.assignments.len(), self.partitions) {
            (0, -1) => broker.config().default_partitions.into(),
            (0, count) => u64::try_from(count).unwrap_or(0),
            (assigned, _) => assigned as u64,
        }
    }
}

/// CreateTopics (key 19).
pub(super) fn create_topics(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let topics = r.array("topics", |r| {
        let (name, partitions, replication_factor) =
            (r.string("name")?, r.i32("num_partitions")?, r.i16("replication_factor")?);
        let assignments = r.array("assignments", |r| {
            let assignment = (r.i32("partition_index")?, r.array("broker_ids", |r| r.i32(ITEM))?);
            r.tags()?;
            Ok(assignment)
        })?;
        let configs = r.array("configs", |r| {
            let config = (r.string("name")?, r.nullable_string("value")?);
            r.tags()?;
            Ok(config)
        })?;
        r.tags()?;
        Ok(New { name, partitions, replication_factor, assignments, configs })
    })?;
    let _timeout_ms = r.i32("timeout_ms")?;
    let dry = r.bool("validate_only")?;
    r.tags()?;
    tell(call.explained, || {
        let what = if dry { "what it would be to create" } else { "create" };
        let topic = |topic: &New<'_>| format!("{} with {} partitions", topic.name, topic.partitions);
        format!("{what} {}", shown_list(topics.iter().map(topic)))
    });
    let broker = call.broker;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    topics.iter().for_each(|topic| *counts.entry(topic.name).or_default() += 1);
    // A name that is listed twice is answered once.
    let mut topics: Vec<&New<'_>> = topics.iter().collect();
    topics.sort_by_key(|topic| topic.name);
    topics.dedup_by_key(|topic| topic.name);
    let there = broker.describe_topics();
    let mut folded: HashMap<String, &str> = there.keys().map(|name| (fold(name), name.as_str())).collect();
    let total: u64 = topics.iter().map(|topic| topic.partition_count(broker)).sum();
    let may_change = if dry { Ok(()) } else { call.may_change_topics(CREATE_TOLD_FROM) };
    let made = topics.iter().map(|topic| match counts[topic.name] {
        _ if may_change.is_err() => Err(may_change.clone().expect_err("it was looked at")),
        _ if total > PARTITIONS_MAX.into() => Err(Refusal::new(
            Code::PolicyViolation,
            format!("{total} partitions in one request; it may ask for at most {PARTITIONS_MAX}"),
        )),
        1 => create(broker, topic, dry, &folded).inspect(|_| {
            if !dry {
                folded.insert(fold(topic.name), topic.name);
            }
        }),
        _ => Err(Refusal::invalid("the topic stands in the request more than once")),
    });
    let made: Vec<_> = made.collect();
    call.changed_topics(CREATE_TOLD_FROM);
    let layers = Layers::of(broker);
    let mut w = call.respond();
    w.throttle_time();
    w.array("topics", topics.iter().zip(&made), |w, (topic, made)| {
        w.string("name", topic.name);
        if w.version >= 7 {
            w.uuid("topic_id", &made.as_ref().map_or([0; 16], |made| made.id));
        }
        write_code(w, made.as_ref().err());
        if w.version >= 5 {
            let may_know = |_: &&Made| broker.may_describe_configs(topic.name);
            match made.as_ref().ok().filter(may_know) {
                None => {
                    w.i32("num_partitions", -1);
                    w.i16("replication_factor", -1);
                    w.empty_array("configs");
                    if made.is_ok() {
                        w.uvarint("_tagged_fields", 1);
                        let code = Code::TopicAuthorizationFailed.into();
                        return w.tagged(0, |w| w.i16("topic_config_error_code", code));
                    }
                }
                Some(made) => {
                    w.i32("num_partitions", made.partitions as i32);
                    w.i16("replication_factor", 1);
                    w.array("configs", topic_configs(&layers, &made.overrides).iter(), |w, config| {
                        w.string("name", &config.name);
                        w.nullable_string("value", config.value.as_deref());
                        w.bool("read_only", false);
                        w.i8("config_source", config.source);
                        w.bool("is_sensitive", false);
                        w.tags();
                    });
                }
            }
        }
        w.tags();
    });
    w.tags();
    Ok(())
}

/// Creates one topic. The checks are in Kafka's order: name, existence, configs, assignments or replication factor, partitions.
fn create(broker: &Broker, new: &New<'_>, dry: bool, folded: &HashMap<String, &str>) -> Result<Made, Refusal> {
    let is_there = broker.has_topic(new.name)?;
    if new.name == "__cluster_metadata" {
        return Err(Refusal::invalid("'__cluster_metadata' is the broker's own topic"));
    }
    check_name(new.name).map_err(Refusal::from)?;
    collides(is_there, new.name, folded)?;
    let value = |&(name, value): &(&str, Option<&str>)| {
        let value = value.ok_or_else(|| Refusal::new(Code::InvalidConfig, format!("{name} has no value")))?;
        Ok((name.into(), value.into()))
    };
    let overrides = new.configs.iter().map(value).collect::<Result<Overrides, Refusal>>()?;
    broker.topic_defaults().with(&overrides).map_err(|why| Refusal::new(Code::InvalidConfig, why))?;
    let overrides = canonical::<Settings>(&overrides).map_err(|why| Refusal::new(Code::InvalidConfig, why))?;
    let partitions = if new.assignments.is_empty() { unassigned(broker, new)? } else { assigned(new)? };
    if dry {
        return Ok(Made { id: random::uuid(), partitions, overrides });
    }
    let topic = broker.create_topic_with(new.name, Some(partitions), overrides).map_err(Refusal::from)?;
    Ok(Made { id: topic.id, partitions, overrides: topic.overrides })
}

/// A name as Kafka's metrics write it, where `.` and `_` are the same.
fn fold(name: &str) -> String {
    name.replace('.', "_")
}

/// Two names that differ only in `.` and `_` would share their metrics, so Kafka refuses the second.
fn collides(is_there: bool, name: &str, folded: &HashMap<String, &str>) -> Result<(), Refusal> {
    if is_there {
        return Err(Refusal::new(Code::TopicAlreadyExists, format!("topic '{name}' is already there")));
    }
    match folded.get(&fold(name)) {
        Some(other) => {
            Err(Refusal::new(Code::InvalidTopicException, format!("topic '{name}' collides with '{other}'")))
        }
        None => Ok(()),
    }
}

fn partition_count(count: i32) -> Result<u32, Refusal> {
    match u32::try_from(count) {
        Ok(count @ 1..=PARTITIONS_MAX) => Ok(count),
        Ok(1..) => Err(Refusal::new(
            Code::PolicyViolation,
            format!("{count} partitions; a topic has at most {PARTITIONS_MAX}"),
        )),
        _ => Err(Refusal::new(Code::InvalidPartitions, format!("{count} partitions; a topic has at least 1"))),
    }
}

/// How many partitions a topic gets whose replicas the broker may place.
fn unassigned(broker: &Broker, new: &New<'_>) -> Result<u32, Refusal> {
    let factor = new.replication_factor;
    let wrong =
        || Refusal::new(Code::InvalidReplicationFactor, format!("replication factor {factor}; there is one broker"));
    if factor < 1 && factor != -1 {
        return Err(wrong());
    }
    let partitions =
        if new.partitions == -1 { broker.config().default_partitions } else { partition_count(new.partitions)? };
    // More copies than there are brokers become one, unless --strict-replication forbids it.
    if factor > 1 && broker.config().strict_replication { Err(wrong()) } else { Ok(partitions) }
}

/// How many partitions a topic gets whose replicas are assigned by hand: all to this broker, and partitions 0, 1, 2...
fn assigned(new: &New<'_>) -> Result<u32, Refusal> {
    if new.partitions != -1 || new.replication_factor != -1 {
        let why = "with assignments the number of partitions and the replication factor must be -1";
        return Err(Refusal::invalid(why));
    }
    let mut indexes: Vec<i32> = new.assignments.iter().map(|(index, _)| *index).collect();
    indexes.sort_unstable();
    let rising = indexes.iter().zip(0..).all(|(&index, wanted)| index == wanted);
    if !rising || new.assignments.iter().any(|(_, brokers)| *brokers != [NODE_ID]) {
        let why = format!("every partition from 0 on has one replica, on {NODE_ID}");
        return Err(Refusal::new(Code::InvalidReplicaAssignment, why));
    }
    partition_count(indexes.len() as i32)
}

/// DeleteTopics (key 20).
pub(super) fn delete_topics(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let topics: Vec<(Option<&str>, Uuid)> = match r.version {
        6.. => r.array("topics", |r| {
            let topic = (r.nullable_string("name")?, r.uuid("topic_id")?);
            r.tags()?;
            Ok(topic)
        })?,
        _ => r.array("topic_names", |r| Ok((Some(r.string(ITEM)?), [0; 16])))?,
    };
    let _timeout_ms = r.i32("timeout_ms")?;
    r.tags()?;
    // Whoever may delete whatever the cluster has need not be allowed to see it.
    let broker = &call.broker.for_cluster_or_self(Operation::Delete);
    let may_change = call.may_change_topics(DELETE_TOLD_FROM);
    let refused = |name: Option<&str>, id, why: &Refusal| (name.map(String::from), id, Err(why.clone()));
    let done: Vec<(Option<String>, Uuid, Result<(), Refusal>)> = topics
        .iter()
        .map(|(name, id)| match &may_change {
            Ok(()) => delete(broker, *name, id),
            Err(why) => refused(*name, *id, why),
        })
        .collect();
    call.changed_topics(DELETE_TOLD_FROM);
    tell(call.explained, || {
        let name = |(name, id, _): &(Option<String>, Uuid, _)| name.clone().unwrap_or_else(|| random::shown(id));
        format!("drop {}", shown_list(done.iter().map(name)))
    });
    let mut w = call.respond();
    w.throttle_time();
    w.array("responses", done.iter(), |w, (name, id, done)| {
        match w.version {
            6.. => {
                w.nullable_string("name", name.as_deref());
                w.uuid("topic_id", id);
            }
            _ => w.string("name", name.as_deref().unwrap_or_default()),
        }
        w.i16("error_code", done.as_ref().map_or_else(|refusal| refusal.code, |()| Code::None).into());
        if w.version >= 5 {
            w.nullable_string("error_message", done.as_ref().err().map(|refusal| refusal.why.as_str()));
        }
        w.tags();
    });
    w.tags();
    Ok(())
}

fn delete(broker: &Broker, name: Option<&str>, id: &Uuid) -> (Option<String>, Uuid, Result<(), Refusal>) {
    let unknown = || Refusal::new(Code::UnknownTopicId, "there is no topic of this id".into());
    let topic: Result<TopicDescription, Refusal> = match name {
        Some(_) if *id != [0; 16] => Err(Refusal::invalid("give a name or an id")),
        Some(name) => match broker.describe_topic(name) {
            // The topic is offline and has no id; or the caller may not even see it, and is refused what it asked for.
            Err(broker::Error::Storage(_) | broker::Error::NotAuthorized { .. }) => {
                return (Some(name.into()), *id, broker.drop_topic(name).map_err(Refusal::from));
            }
            topic => topic.map_err(Refusal::from),
        },
        None => broker.describe_topic_by_id(id).ok_or_else(unknown),
    };
    match topic {
        Err(why) => (name.map(String::from), *id, Err(why)),
        Ok(topic) => {
            let dropped = broker.drop_topic(&topic.name).map_err(Refusal::from);
            // The answer names a topic that stays as the request did.
            let id = if dropped.is_ok() { topic.id } else { *id };
            (Some(topic.name), id, dropped)
        }
    }
}

/// CreatePartitions (key 37).
pub(super) fn create_partitions(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let topics = r.array("topics", |r| {
        let (name, count) = (r.string("name")?, r.i32("count")?);
        let assignments = r.nullable_array("assignments", |r| {
            let brokers = r.array("broker_ids", |r| r.i32(ITEM))?;
            r.tags()?;
            Ok(brokers)
        })?;
        r.tags()?;
        Ok((name, count, assignments))
    })?;
    let _timeout_ms = r.i32("timeout_ms")?;
    let dry = r.bool("validate_only")?;
    r.tags()?;
    tell(call.explained, || {
        let what = if dry { "what it would be to grow" } else { "grow" };
        let topic = |(name, count, _): &(&str, i32, _)| format!("{name} to {count} partitions");
        format!("{what} {}", shown_list(topics.iter().map(topic)))
    });
    let broker = call.broker;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    topics.iter().for_each(|(name, ..)| *counts.entry(name).or_default() += 1);
    let may_change = if dry { Ok(()) } else { call.may_change_topics(GROW_TOLD_FROM) };
    let grown: Vec<_> = topics
        .iter()
        .map(|(name, count, assignments)| {
            // A name that is listed twice is refused each time.
            match counts[name] {
                _ if may_change.is_err() => may_change.clone(),
                1 => grow(broker, name, *count, assignments.as_deref(), dry),
                _ => Err(Refusal::invalid("the topic stands in the request more than once")),
            }
        })
        .collect();
    call.changed_topics(GROW_TOLD_FROM);
    let mut w = call.respond();
    w.throttle_time();
    w.array("results", topics.iter().zip(&grown), |w, ((name, ..), grown)| {
        w.string("name", name);
        write_code(w, grown.as_ref().err());
        w.tags();
    });
    w.tags();
    Ok(())
}

fn grow(broker: &Broker, name: &str, count: i32, assignments: Option<&[Vec<i32>]>, dry: bool) -> Result<(), Refusal> {
    let topic = broker.describe_topic_to(Operation::Alter, name).map_err(Refusal::from)?;
    let before = topic.partition_count();
    let more = u32::try_from(count).ok().filter(|&count| count > before);
    let more = more.ok_or_else(|| {
        Refusal::new(Code::InvalidPartitions, format!("'{name}' has {before} partitions; ask for more"))
    })?;
    let count = partition_count(more as i32)?;
    let fits = |assigned: &[Vec<i32>]| {
        assigned.len() as u32 == count - before && assigned.iter().all(|brokers| *brokers == [NODE_ID])
    };
    if !assignments.is_none_or(fits) {
        return Err(Refusal::new(
            Code::InvalidReplicaAssignment,
            format!("every new partition has one replica, on {NODE_ID}"),
        ));
    }
    match dry {
        true => Ok(()),
        false => broker.alter_topic(name, Some(count), &Changes::default()).map(drop).map_err(Refusal::from),
    }
}

/// DeleteRecords (key 21).
pub(super) fn delete_records(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    /// Stands for the high watermark.
    const HIGH_WATERMARK: i64 = -1;
    let topics = r.array("topics", |r| {
        let name = r.string("name")?;
        let partitions = r.array("partitions", |r| {
            let partition = (r.i32("partition_index")?, r.i64("offset")?);
            r.tags()?;
            Ok(partition)
        })?;
        r.tags()?;
        Ok((name, partitions))
    })?;
    let _timeout_ms = r.i32("timeout_ms")?;
    r.tags()?;
    tell(call.explained, || {
        let asked = topics.iter().flat_map(|(name, partitions)| partitions.iter().map(move |asked| (name, asked)));
        let asked = asked.map(|(name, (index, offset))| format!("before offset {offset} of {name}/{index}"));
        format!("remove the records {}", shown_list(asked.collect::<Vec<_>>().into_iter()))
    });
    let broker = call.broker;
    let trim = |name: &str, index: i32, offset: i64| {
        let index = partition_index(index);
        let topic = broker.describe_topic_to(Operation::Delete, name);
        let topic = topic.and_then(|topic| topic.check_partition(index).map(|()| topic));
        let topic = topic.map_err(|error| error.code())?;
        if topic.settings.cleanup_policy == CleanupPolicy::Compact {
            return Err(Code::PolicyViolation);
        }
        let offset = match offset {
            HIGH_WATERMARK => {
                let partition = broker.find_partition_to(Operation::Delete, name, index);
                partition.and_then(|partition| partition.high_watermark())
            }
            // Any other negative offset is out of range.
            _ => Ok(u64::try_from(offset).unwrap_or(u64::MAX)),
        };
        offset.and_then(|offset| broker.trim(name, index, offset)).map_err(|error| error.code())
    };
    let done: Vec<Vec<_>> = topics
        .iter()
        .map(|(name, partitions)| partitions.iter().map(|&(index, offset)| trim(name, index, offset)).collect())
        .collect();
    let mut w = call.respond();
    w.throttle_time();
    w.array("topics", topics.iter().zip(&done), |w, ((name, partitions), done)| {
        w.string("name", name);
        w.array("partitions", partitions.iter().zip(done), |w, ((index, _), done)| {
            w.i32("partition_index", *index);
            w.i64("low_watermark", done.as_ref().map_or(-1, |start| *start as i64));
            w.i16("error_code", done.map_or_else(|code| code, |_| Code::None).into());
            w.tags();
        });
        w.tags();
    });
    w.tags();
    Ok(())
}

/// DescribeLogDirs (key 35): there is one directory.
pub(super) fn describe_log_dirs(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let asked = r.nullable_array("topics", |r| {
        let topic = (r.string("topic")?, r.array("partitions", |r| r.i32(ITEM))?);
        r.tags()?;
        Ok(topic)
    })?;
    r.tags()?;
    tell(call.explained, || "where the partitions are, and how large".into());
    let whole = call.broker.for_cluster(Operation::Describe);
    let code = whole.as_ref().map_or_else(broker::Error::code, |_| Code::None);
    let broker = whole.as_ref().unwrap_or(call.broker);
    let (dir, space) = (broker.config().log_dir(), broker.disk_space());
    let topics: Vec<(String, Vec<u32>)> = match asked {
        None => {
            let all = broker.describe_topics().into_values().flatten();
            all.map(|topic| (topic.name.clone(), (0..topic.partition_count()).collect())).collect()
        }
        Some(asked) => asked
            .into_iter()
            .filter_map(|(name, indexes)| {
                let topic = broker.describe_topic(name).ok()?;
                let mut partitions: Vec<u32> = indexes.into_iter().map(partition_index).collect();
                partitions.retain(|&index| topic.check_partition(index).is_ok());
                (!partitions.is_empty()).then_some((topic.name, partitions))
            })
            .collect(),
    };
    let mut w = call.respond();
    w.throttle_time();
    if w.version >= 3 {
        w.i16("error_code", code.into());
    }
    w.array("results", [dir].iter().filter(|_| code == Code::None).collect::<Vec<_>>().iter(), |w, dir| {
        w.i16("error_code", Code::None.into());
        w.string("log_dir", dir);
        w.array("topics", topics.iter(), |w, (name, partitions)| {
            w.string("name", name);
            w.array("partitions", partitions.iter(), |w, &index| {
                w.i32("partition_index", index as i32);
                let described = broker.describe_partition(name, index);
                w.i64(
                    "partition_size",
                    described.ok().and_then(|partition| partition.bytes).map_or(-1, |bytes| bytes as i64),
                );
                w.i64("offset_lag", 0);
                w.bool("is_future_key", false);
                w.tags();
            });
            w.tags();
        });
        if w.version >= 4 {
            // A disk in memory has no size that could be told.
            let bytes = |bytes: fn(&Space) -> u64| space.as_ref().map_or(-1, |space| bytes(space) as i64);
            w.i64("total_bytes", bytes(|space| space.total));
            w.i64("usable_bytes", bytes(|space| space.usable));
        }
        if w.version >= 5 {
            w.bool("is_cordoned", false);
        }
        w.tags();
    });
    w.tags();
    Ok(())
}

//! What there is: Metadata, DescribeCluster, DescribeTopicPartitions.
//!
//! The one node is the leader of every partition, and its only replica, which is always in sync.

use super::{
    Call, Code, NO_OPERATIONS, NODE_ID, Stop, operations, shown_list, tell,
    wire::{ITEM, Reader, Uuid, Writer},
};
use crate::{
    broker::{self, Broker, ResourceName, TopicDescription, check_name, is_internal, random},
    security::Operation,
};
use std::collections::BTreeSet;

const NO_ID: Uuid = [0; 16];

/// A topic in a request: its name or its id. (With an id, Java clients send an empty name.)
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    name: Option<String>,
    id: Uuid,
}

/// A topic that cannot be described, and why.
struct Missing {
    code: Code,
    asked: Asked,
}

impl Missing {
    fn named(error: broker::Error, name: String) -> Missing {
        Missing { code: error.code(), asked: Asked { name: Some(name), id: NO_ID } }
    }
}

/// Metadata (key 3).
pub(super) fn metadata(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let topics = r.nullable_array("topics", |r| {
        let id = if r.version >= 10 { r.uuid("topic_id")? } else { NO_ID };
        let name = if r.version >= 10 { r.nullable_string("name")? } else { Some(r.string("name")?) };
        r.tags()?;
        // If there is an id, the name does not matter (KIP-516): the same id with several names is still one topic.
        let name = name.filter(|_| id == NO_ID || r.version < 12);
        Ok(Asked { name: name.map(String::from), id })
    })?;
    let may_create = r.version < 4 || r.bool("allow_auto_topic_creation")?;
    let of_cluster = (8..=10).contains(&r.version) && r.bool("include_cluster_authorized_operations")?;
    let of_topics = r.version >= 8 && r.bool("include_topic_authorized_operations")?;
    r.tags()?;
    tell(call.explained, || match &topics {
        None => "what topics there are, and which broker leads them".into(),
        Some(topics) if topics.is_empty() => "which brokers there are".into(),
        Some(topics) => {
            let names = topics.iter().map(|asked| asked.name.clone().unwrap_or_else(|| random::shown(&asked.id)));
            format!("which broker leads {}", shown_list(names))
        }
    });
    if call.session.login.is_chosen() {
        return out_of_place(call, topics.unwrap_or_default());
    }
    // Version 0 cannot say null, so there an empty list means all topics.
    let topics = topics.filter(|topics| r.version > 0 || !topics.is_empty());
    let found: Vec<Result<TopicDescription, Missing>> = match topics {
        None => {
            let all = call.broker.describe_topics().into_iter();
            all.map(|(name, topic)| topic.map_err(|error| Missing::named(error, name))).collect()
        }
        Some(topics) => {
            let topics: BTreeSet<Asked> = topics.into_iter().collect();
            topics.into_iter().map(|asked| find(call, asked, may_create)).collect()
        }
    };
    let (host, port) = call.advertised()?;
    let broker = call.broker;
    let cluster_id = broker.cluster_id();
    let mut w = call.respond();
    if w.version >= 3 {
        w.throttle_time();
    }
    w.array("brokers", [NODE_ID].iter(), |w, &id| {
        w.i32("node_id", id);
        w.string("host", &host);
        w.i32("port", port);
        if w.version >= 1 {
            w.nullable_string("rack", None);
        }
        w.tags();
    });
    if w.version >= 2 {
        w.nullable_string("cluster_id", Some(&cluster_id));
    }
    if w.version >= 1 {
        w.i32("controller_id", NODE_ID);
    }
    w.array("topics", found.iter(), |w, found| write_topic(w, broker, found, of_topics));
    if (8..=10).contains(&w.version) {
        w.i32("cluster_authorized_operations", operations(broker, of_cluster, ResourceName::CLUSTER));
    }
    if w.version >= 13 {
        w.i16("error_code", Code::None.into());
    }
    w.tags();
    Ok(())
}

/// Answers one that comes where a proof of who its client is was due: it tells of nothing.
fn out_of_place(call: &mut Call<'_, '_>, topics: Vec<Asked>) -> Result<(), Stop> {
    let code = Code::IllegalSaslState;
    let refused: Vec<_> = topics.into_iter().map(|asked| Err(Missing { code, asked })).collect();
    let broker = call.broker;
    let mut w = call.respond();
    if w.version >= 3 {
        w.throttle_time();
    }
    w.empty_array("brokers");
    if w.version >= 2 {
        w.nullable_string("cluster_id", None);
    }
    if w.version >= 1 {
        w.i32("controller_id", -1);
    }
    w.array("topics", refused.iter(), |w, refused| write_topic(w, broker, refused, false));
    if (8..=10).contains(&w.version) {
        w.i32("cluster_authorized_operations", NO_OPERATIONS);
    }
    if w.version >= 13 {
        w.i16("error_code", code.into());
    }
    w.tags();
    Ok(())
}

fn find(call: &Call<'_, '_>, asked: Asked, may_create: bool) -> Result<TopicDescription, Missing> {
    let broker = call.broker;
    let name = match asked {
        Asked { name: Some(name), id: NO_ID } => name,
        // The field is there since version 10, but may be used only since version 12 (KIP-516).
        asked if call.version < 12 => return Err(Missing { code: Code::InvalidRequest, asked }),
        asked => {
            let found = broker.describe_topic_by_id(&asked.id);
            return found.ok_or(Missing { code: Code::UnknownTopicId, asked });
        }
    };
    let topic = if may_create && check_name(&name).is_ok() && !is_internal(&name) {
        let was_there = broker.describe_topic(&name).is_ok();
        let topic = broker.describe_topic_or_create(&name);
        if let (false, Ok(topic)) = (was_there, &topic) {
            tell(call.explained, || format!("{name} is made (partitions: {})", topic.partition_count()));
        }
        topic
    } else {
        describe(broker, &name)
    };
    topic.map_err(|error| Missing::named(error, name))
}

/// A topic, whose name is looked at only if the caller may know of it.
fn describe(broker: &Broker, name: &str) -> broker::Result<TopicDescription> {
    broker.ask(Operation::Describe, ResourceName::topic(name))?;
    check_name(name)?;
    broker.describe_topic(name)
}

fn write_topic(w: &mut Writer<'_>, broker: &Broker, found: &Result<TopicDescription, Missing>, asked: bool) {
    let (code, name, id) = match found {
        Ok(topic) => (Code::None, Some(topic.name.as_str()), topic.id),
        Err(Missing { code, asked }) => (*code, asked.name.as_deref(), asked.id),
    };
    w.i16("error_code", code.into());
    match w.version {
        0..12 => w.string("name", name.unwrap_or_default()),
        _ => w.nullable_string("name", name),
    }
    if w.version >= 10 {
        w.uuid("topic_id", &id);
    }
    if w.version >= 1 {
        w.bool("is_internal", name.is_some_and(is_internal));
    }
    let leader_epochs = found.as_ref().map_or(&[][..], |topic| &topic.leader_epochs);
    w.array("partitions", leader_epochs.iter().enumerate(), |w, (index, leader_epoch)| {
        w.i16("error_code", Code::None.into());
        w.i32("partition_index", index as i32);
        w.i32("leader_id", NODE_ID);
        if w.version >= 7 {
            w.i32("leader_epoch", leader_epoch.map_or(-1, |epoch| epoch as i32));
        }
        w.array("replica_nodes", [NODE_ID].iter(), |w, &id| w.i32(ITEM, id));
        w.array("isr_nodes", [NODE_ID].iter(), |w, &id| w.i32(ITEM, id));
        if w.version >= 5 {
            w.empty_array("offline_replicas");
        }
        w.tags();
    });
    if w.version >= 8 {
        let named = name.filter(|_| !matches!(code, Code::TopicAuthorizationFailed | Code::UnknownTopicId));
        let resource = ResourceName::topic(named.unwrap_or_default());
        w.i32("topic_authorized_operations", operations(broker, asked && named.is_some(), resource));
    }
    w.tags();
}

/// DescribeCluster (key 60).
pub(super) fn describe_cluster(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    /// KIP-919: brokers are asked for, not controllers.
    const BROKERS: i8 = 1;
    let of_cluster = r.bool("include_cluster_authorized_operations")?;
    let endpoint_type = if r.version >= 1 { r.i8("endpoint_type")? } else { BROKERS };
    if r.version >= 2 {
        r.bool("include_fenced_brokers")?;
    }
    r.tags()?;
    tell(call.explained, || "which brokers there are".into());
    let (host, port) = call.advertised()?;
    let broker = call.broker;
    let cluster_id = broker.cluster_id();
    let mut w = call.respond();
    w.throttle_time();
    let code = if endpoint_type == BROKERS { Code::None } else { Code::MismatchedEndpointType };
    w.i16("error_code", code.into());
    w.nullable_string(
        "error_message",
        (code != Code::None).then_some("this is a broker; endpoint type 1 is the one it has"),
    );
    if w.version >= 1 {
        w.i8("endpoint_type", endpoint_type);
    }
    w.string("cluster_id", &cluster_id);
    w.i32("controller_id", NODE_ID);
    w.array("brokers", [NODE_ID].iter(), |w, &id| {
        w.i32("broker_id", id);
        w.string("host", &host);
        w.i32("port", port);
        w.nullable_string("rack", None);
        if w.version >= 2 {
            w.bool("is_fenced", false);
        }
        w.tags();
    });
    w.i32("cluster_authorized_operations", operations(broker, of_cluster, ResourceName::CLUSTER));
    w.tags();
    Ok(())
}

/// DescribeTopicPartitions (key 75): topics ordered by name, beginning at the cursor, with no more than a number of partitions.
pub(super) fn describe_topic_partitions(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    /// Kafka's `max.request.partition.size.limit`.
    const PARTITIONS_MAX: i32 = 2000;
    let names: BTreeSet<&str> = r
        .array("topics", |r| {
            let name = r.string("name")?;
            r.tags()?;
            Ok(name)
        })?
        .into_iter()
        .collect();
    let limit = r.i32("response_partition_limit")?.clamp(1, PARTITIONS_MAX) as usize;
    let cursor = match r.i8("cursor")? {
        -1 => None,
        _ => {
            let cursor = (r.string("cursor.topic_name")?, r.i32("cursor.partition_index")?);
            r.tags()?;
            Some(cursor)
        }
    };
    r.tags()?;
    let all = call.broker.describe_topics();
    let names: BTreeSet<&str> = match names.is_empty() {
        true => all.keys().map(String::as_str).collect(),
        false => names,
    };
    tell(call.explained, || {
        format!("at most {limit} partitions of {}", shown_list(names.iter().map(|name| name.to_string())))
    });
    let from = cursor.map_or("", |(name, _)| name);
    let broker = call.broker;
    let topics: Vec<_> = names.range(from..).map(|&name| (name, describe(broker, name))).collect();
    let mut w = call.respond();
    w.throttle_time();
    let (mut left, mut next, mut shown) = (limit, None, Vec::new());
    for (name, topic) in &topics {
        let first = cursor.filter(|(from, _)| from == name).map_or(0, |(_, index)| index.max(0) as usize);
        let leader_epochs = topic.as_ref().map_or(&[][..], |topic| &topic.leader_epochs);
        let wanted = leader_epochs.get(first..).unwrap_or_default();
        if left == 0 {
            next = Some((*name, 0));
            break;
        }
        let taken = wanted.len().min(left);
        left -= taken;
        shown.push((*name, topic, first, &wanted[..taken]));
        if taken < wanted.len() {
            next = Some((*name, first + taken));
            break;
        }
    }
    w.array("topics", shown.iter(), |w, (name, topic, first, leader_epochs)| {
        w.i16("error_code", topic.as_ref().map_or_else(broker::Error::code, |_| Code::None).into());
        w.nullable_string("name", Some(name));
        w.uuid("topic_id", &topic.as_ref().map_or(NO_ID, |topic| topic.id));
        w.bool("is_internal", is_internal(name));
        w.array("partitions", leader_epochs.iter().enumerate(), |w, (index, leader_epoch)| {
            w.i16("error_code", Code::None.into());
            w.i32("partition_index", (first + index) as i32);
            w.i32("leader_id", NODE_ID);
            w.i32("leader_epoch", leader_epoch.map_or(-1, |epoch| epoch as i32));
            w.array("replica_nodes", [NODE_ID].iter(), |w, &id| w.i32(ITEM, id));
            w.array("isr_nodes", [NODE_ID].iter(), |w, &id| w.i32(ITEM, id));
            // Eligible and last known leaders (KIP-966), offline replicas.
            w.empty_array("eligible_leader_replicas");
            w.empty_array("last_known_elr");
            w.empty_array("offline_replicas");
            w.tags();
        });
        let may_know = !matches!(topic, Err(broker::Error::NotAuthorized { .. }));
        w.i32("topic_authorized_operations", operations(broker, may_know, ResourceName::topic(name)));
        w.tags();
    });
    match next {
        None => w.i8("next_cursor", -1),
        Some((name, index)) => {
            w.i8("next_cursor", 1);
            w.string("next_cursor.topic_name", name);
            w.i32("next_cursor.partition_index", index as i32);
            w.tags();
        }
    }
    w.tags();
    Ok(())
}

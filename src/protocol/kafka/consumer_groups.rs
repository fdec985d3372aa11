//! Consumer groups whose partitions the broker assigns (KIP-848): ConsumerGroupHeartbeat, ConsumerGroupDescribe.

use super::{
    Call, Code, Refusal, Stop,
    api_versions::GROUP_VERSION,
    groups::{new_member_id, no_name},
    operations, shown_list, tell,
    wire::{ITEM, Reader, Writer},
    write_code,
};
use crate::{
    broker::{
        Broker, Error, Pattern, ResourceName,
        group::{
            Description, GroupType, MemberDescription,
            consumer::{
                Assignor, Owned,
                heartbeat::{AWAY, Heartbeat, HeartbeatRequest, JOINS},
            },
        },
    },
    log::record::shown,
    security::Operation,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The most that the topics may take to which a member subscribes by name. They are kept as long as the member stays. Kafka has no
/// such limit.
pub(super) const NAMES_BYTES_MAX: usize = 1 << 20;

/// ConsumerGroupHeartbeat (key 68).
pub(super) fn consumer_group_heartbeat(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let (group, member_id, epoch) = (r.string("group_id")?, r.string("member_id")?, r.i32("member_epoch")?);
    let (instance_id, rack_id) = (r.nullable_string("instance_id")?, r.nullable_string("rack_id")?);
    let rebalance_timeout_ms = u64::try_from(r.i32("rebalance_timeout_ms")?).ok();
    let names = r.nullable_array("subscribed_topic_names", |r| r.string(ITEM))?;
    let regex = if r.version >= 1 { r.nullable_string("subscribed_topic_regex")? } else { None };
    let assignor = r.nullable_string("server_assignor")?;
    let owned = r.nullable_array("topic_partitions", |r| {
        let topic = (r.uuid("topic_id")?, r.array("partitions", |r| r.i32(ITEM))?);
        r.tags()?;
        Ok(topic)
    })?;
    r.tags()?;
    // Before version 1 the broker makes the ids of new members.
    let made = (call.version == 0 && member_id.is_empty() && epoch == JOINS).then(|| new_member_id(call.client_id));
    let member_id = made.as_deref().unwrap_or(member_id);
    let (client_host, settings) = (call.client_host(), call.broker.group_settings(group));
    let asked = Asked { rebalance_timeout_ms, regex, assignor, is_empty: owned.as_ref().is_some_and(Vec::is_empty) };
    let request = HeartbeatRequest {
        member_id,
        instance_id,
        epoch,
        rack_id,
        client_id: call.client_id,
        client_host: &client_host,
        session_timeout_ms: settings.consumer_session_timeout_ms as u64,
        rebalance_timeout_ms,
        names,
        pattern: None,
        rules: None,
        assignor: None,
        owned: owned.map(|owned| known(call.broker, owned)),
    };
    let beat = call.broker.needs_feature(GROUP_VERSION).map_err(Refusal::from);
    let beat = beat.and_then(|()| may_join(call.broker, group, request.names.as_deref().unwrap_or_default()));
    let beat = beat.and_then(|()| asked.check(group, request));
    let beat = beat.and_then(|request| Ok(call.broker.consumer_heartbeat(group, request)?));
    tell(call.explained, || match &beat {
        Ok(Heartbeat { epoch, assigned: None }) => format!("{member_id} of group {group}: epoch {epoch}"),
        Ok(Heartbeat { epoch, assigned: Some(assigned) }) => {
            let partitions = assigned.iter().map(|owned| format!("{}/{}", owned.topic, owned.partition));
            format!("{member_id} of group {group}: epoch {epoch}, it is to have {}", shown_list(partitions))
        }
        Err(refusal) => format!("{member_id} of group {group}: {}", refusal.why),
    });
    let broker = call.broker.clone();
    let mut w = call.respond();
    w.throttle_time();
    write_code(&mut w, beat.as_ref().err());
    w.nullable_string("member_id", beat.is_ok().then_some(member_id));
    let Heartbeat { epoch, assigned } = beat.unwrap_or(Heartbeat { epoch: 0, assigned: None });
    w.i32("member_epoch", epoch);
    w.i32("heartbeat_interval_ms", if epoch > 0 { settings.consumer_heartbeat_interval_ms } else { 0 });
    w.i8("assignment", if assigned.is_some() { 1 } else { -1 });
    if let Some(assigned) = assigned {
        let partitions = assigned.into_iter().map(|Owned { topic, partition, .. }| (topic, partition));
        write_partitions(&mut w, &broker, partitions, false);
        w.tags();
    }
    w.tags();
    Ok(())
}

/// Whether the caller may be a member that subscribes to these topics, which are not told to be there or not.
pub(super) fn may_join(broker: &Broker, group: &str, topics: &[&str]) -> Result<(), Refusal> {
    broker.ask(Operation::Read, ResourceName::group(group))?;
    topics.iter().try_for_each(|topic| Ok(broker.ask(Operation::Describe, ResourceName::topic(topic)).map(drop)?))
}

/// What of a heartbeat is checked before the group looks at it.
struct Asked<'a> {
    rebalance_timeout_ms: Option<u64>,
    regex: Option<&'a str>,
    assignor: Option<&'a str>,
    /// Whether it says that the member has no partition.
    is_empty: bool,
}

impl Asked<'_> {
    /// In Kafka's order.
    fn check<'r>(&self, group: &str, request: HeartbeatRequest<'r>) -> Result<HeartbeatRequest<'r>, Refusal> {
        let joins = request.epoch == JOINS;
        let wrong = [
            (group.is_empty(), "the group's name is empty"),
            (request.member_id.is_empty(), "the member id is empty"),
            (request.instance_id == Some(""), "the instance id is empty"),
            (request.rack_id == Some(""), "the rack id is empty"),
            (joins && self.rebalance_timeout_ms.is_none(), "who joins says its rebalance timeout"),
            (joins && !self.is_empty, "who joins has no partitions, and says so"),
            (joins && request.names.is_none() && self.regex.is_none(), "who joins says what it subscribes to"),
            (
                request.epoch == AWAY && request.instance_id.is_none(),
                "only a static member, with an instance id, is away",
            ),
            (request.epoch < AWAY, "there is no such member epoch"),
            (
                bytes_of(request.names.as_deref().unwrap_or_default()) > NAMES_BYTES_MAX,
                "the topics take more than 1 MiB",
            ),
        ];
        if let Some((_, why)) = wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            return Err(Refusal::invalid(why));
        }
        let assignor = |name: &str| {
            let names = Assignor::ALL.map(Assignor::name).join(" and ");
            let why = || format!("there is no assignor '{}'; there are {names}", shown(name.as_bytes()));
            Assignor::named(name).ok_or_else(|| Refusal::new(Code::UnsupportedAssignor, why()))
        };
        let pattern = |text: &str| if text.is_empty() { Ok(None) } else { Pattern::new(text).map(Some) };
        let (assignor, pattern) = (self.assignor.map(assignor).transpose()?, self.regex.map(pattern).transpose()?);
        Ok(HeartbeatRequest { assignor, pattern, ..request })
    }
}

pub(super) fn bytes_of(names: &[&str]) -> usize {
    names.iter().map(|name| name.len() + size_of::<Arc<str>>()).sum()
}

/// The partitions that a member has, of those that there are.
fn known(broker: &Broker, owned: Vec<([u8; 16], Vec<i32>)>) -> BTreeSet<(Arc<str>, u32)> {
    let mut known = BTreeSet::new();
    for (id, partitions) in owned {
        let Ok(Some(topic)) = broker.find_topic_by_id_to(Operation::Describe, &id) else { continue };
        let (name, count): (Arc<str>, _) = (topic.name().into(), topic.partition_count());
        let there = partitions.into_iter().filter_map(|index| u32::try_from(index).ok().filter(|&index| index < count));
        known.extend(there.map(|index| (name.clone(), index)));
    }
    known
}

/// Writes partitions by topic. One of a topic that is gone is left out: nobody could name it.
pub(super) fn write_partitions(
    w: &mut Writer<'_>,
    broker: &Broker,
    partitions: impl Iterator<Item = (Arc<str>, u32)>,
    with_names: bool,
) {
    let mut topics: BTreeMap<Arc<str>, Vec<u32>> = BTreeMap::new();
    partitions.for_each(|(topic, partition)| topics.entry(topic).or_default().push(partition));
    let with_id = |(name, partitions): (Arc<str>, Vec<u32>)| {
        Some((broker.find_topic_to(Operation::Describe, &name).ok()?.id(), name, partitions))
    };
    let topics: Vec<([u8; 16], Arc<str>, Vec<u32>)> = topics.into_iter().filter_map(with_id).collect();
    w.array("topic_partitions", topics.iter(), |w, (id, name, partitions)| {
        w.uuid("topic_id", id);
        if with_names {
            w.string("topic_name", name);
        }
        w.array("partitions", partitions.iter(), |w, &partition| w.i32(ITEM, partition as i32));
        w.tags();
    });
}

/// ConsumerGroupDescribe (key 69).
pub(super) fn consumer_group_describe(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    describe_groups(call, r, (GroupType::Consumer, GROUP_VERSION, Error::NotConsumerGroup), write_member)
}

/// ConsumerGroupDescribe, or the same of another type of groups, which takes a feature: `wrong` is said of a group that is of no such
/// type.
pub(super) fn describe_groups(
    call: &mut Call<'_, '_>,
    r: &mut Reader<'_>,
    (kind, feature, wrong): (GroupType, &'static str, Error),
    write_member: fn(&mut Writer<'_>, &Broker, MemberDescription),
) -> Result<(), Stop> {
    // Each group is answered once: its members may take many times the bytes of its name.
    let groups: BTreeSet<&str> = r.array("group_ids", |r| r.string(ITEM))?.into_iter().collect();
    let of_groups = r.bool("include_authorized_operations")?;
    r.tags()?;
    tell(call.explained, || format!("who is in {}", shown_list(groups.iter().map(|group| group.to_string()))));
    let describe = |group: &&str| {
        call.broker.needs_feature(feature)?;
        describe(call.broker, group, kind, &wrong)
    };
    let described: Vec<_> = groups.iter().map(describe).collect();
    let broker = call.broker.clone();
    let mut w = call.respond();
    w.throttle_time();
    w.array("groups", groups.iter().zip(described), |w, (&group, described)| {
        write_code(w, described.as_ref().err());
        w.string("group_id", group);
        let is_there = described.is_ok();
        let described = described.unwrap_or_default();
        w.string("group_state", described.state);
        w.i32("group_epoch", described.generation.unwrap_or_default());
        w.i32("assignment_epoch", described.assignment_epoch);
        w.string("assignor_name", &described.protocol);
        w.array("members", described.members.into_iter(), |w, member| write_member(w, &broker, member));
        w.i32("authorized_operations", operations(&broker, of_groups && is_there, ResourceName::group(group)));
        w.tags();
    });
    w.tags();
    Ok(())
}

fn describe(broker: &Broker, group: &str, kind: GroupType, wrong: &Error) -> Result<Description, Refusal> {
    if group.is_empty() {
        return Err(no_name().into());
    }
    let described = broker.group(group)?.ok_or_else(|| Error::UnknownGroup(shown(group.as_bytes())))?;
    if described.group_type != kind {
        return Err(wrong.clone().into());
    }
    let topics = described.members.iter().flat_map(|member| {
        let (owned, target) = (member.owned.iter().map(|owned| &owned.topic), member.target.iter());
        member.topics.iter().chain(owned).chain(target.map(|(topic, _)| topic))
    });
    let topics: BTreeSet<&Arc<str>> = topics.collect();
    if !topics.iter().all(|topic| broker.may_describe(topic)) {
        // Which one is not said: its name is what is hidden.
        let why = "the group has topics that you may not describe";
        return Err(Refusal::new(Code::TopicAuthorizationFailed, why.into()));
    }
    Ok(described)
}

fn write_member(w: &mut Writer<'_>, broker: &Broker, member: MemberDescription) {
    w.string("member_id", &member.member_id);
    w.nullable_string("instance_id", member.instance_id.as_deref());
    w.nullable_string("rack_id", member.rack_id.as_deref());
    w.i32("member_epoch", member.epoch);
    w.string("client_id", &member.client_id);
    w.string("client_host", &member.client_host);
    w.array("subscribed_topic_names", member.topics.iter(), |w, name| w.string(ITEM, name));
    w.nullable_string("subscribed_topic_regex", Some(member.pattern.as_deref().unwrap_or_default()));
    let owned = member.owned.into_iter().map(|Owned { topic, partition, .. }| (topic, partition));
    write_partitions(w, broker, owned, true);
    w.tags();
    write_partitions(w, broker, member.target.into_iter(), true);
    w.tags();
    if w.version >= 1 {
        w.i8("member_type", if member.is_classic { 0 } else { 1 });
    }
    w.tags();
}

//! Who is in a share group (KIP-932): ShareGroupHeartbeat, ShareGroupDescribe.

use super::{
    Call, Code, Refusal, Stop,
    api_versions::SHARE_VERSION,
    consumer_groups::{NAMES_BYTES_MAX, bytes_of, describe_groups, may_join, write_partitions},
    shown_list, tell,
    wire::{ITEM, Reader, Writer},
    write_code,
};
use crate::broker::{
    Broker, Error,
    group::{
        GroupType, MemberDescription,
        consumer::{
            Owned,
            heartbeat::{JOINS, LEAVES},
        },
        share::{Heartbeat, HeartbeatRequest},
    },
};

/// ShareGroupHeartbeat (key 76).
pub(super) fn share_group_heartbeat(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let (group, member_id, epoch) = (r.string("group_id")?, r.string("member_id")?, r.i32("member_epoch")?);
    let rack_id = r.nullable_string("rack_id")?;
    let names = r.nullable_array("subscribed_topic_names", |r| r.string(ITEM))?;
    r.tags()?;
    let (client_host, settings) = (call.client_host(), call.broker.group_settings(group));
    let request = HeartbeatRequest {
        member_id,
        epoch,
        rack_id,
        client_id: call.client_id,
        client_host: &client_host,
        session_timeout_ms: settings.share_session_timeout_ms as u64,
        names,
    };
    let beat = call.broker.needs_feature(SHARE_VERSION).map_err(Refusal::from);
    let beat = beat.and_then(|()| may_join(call.broker, group, request.names.as_deref().unwrap_or_default()));
    let beat = beat.and_then(|()| check(group, &request));
    let beat = beat.and_then(|()| Ok(call.broker.share_heartbeat(group, request)?));
    tell(call.explained, || match &beat {
        Ok(Heartbeat { epoch, assigned: None }) => format!("{member_id} of share group {group}: epoch {epoch}"),
        Ok(Heartbeat { epoch, assigned: Some(assigned) }) => {
            let partitions = assigned.iter().map(|(topic, partition)| format!("{topic}/{partition}"));
            format!("{member_id} of share group {group}: epoch {epoch}, it is to read {}", shown_list(partitions))
        }
        Err(refusal) => format!("{member_id} of share group {group}: {}", refusal.why),
    });
    let broker = call.broker.clone();
    let mut w = call.respond();
    w.throttle_time();
    write_code(&mut w, beat.as_ref().err());
    w.nullable_string("member_id", beat.is_ok().then_some(member_id));
    let Heartbeat { epoch, assigned } = beat.unwrap_or(Heartbeat { epoch: 0, assigned: None });
    w.i32("member_epoch", epoch);
    w.i32("heartbeat_interval_ms", if epoch > 0 { settings.share_heartbeat_interval_ms } else { 0 });
    w.i8("assignment", if assigned.is_some() { 1 } else { -1 });
    if let Some(assigned) = assigned {
        write_partitions(&mut w, &broker, assigned.into_iter(), false);
        w.tags();
    }
    w.tags();
    Ok(())
}

/// What of a heartbeat is checked before the group looks at it, in Kafka's order.
fn check(group: &str, request: &HeartbeatRequest<'_>) -> Result<(), Refusal> {
    let names = request.names.as_deref().unwrap_or_default();
    let wrong = [
        (group.is_empty(), "the group's name is empty"),
        (request.member_id.is_empty(), "the member id is empty"),
        (request.rack_id == Some(""), "the rack id is empty"),
        (request.epoch == JOINS && names.is_empty(), "who joins says what it subscribes to"),
        (request.epoch < LEAVES, "there is no such member epoch"),
        (bytes_of(names) > NAMES_BYTES_MAX, "the topics take more than 1 MiB"),
    ];
    match wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
        Some((_, why)) => Err(Refusal::new(Code::InvalidRequest, why.into())),
        None => Ok(()),
    }
}

/// ShareGroupDescribe (key 77).
pub(super) fn share_group_describe(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    describe_groups(call, r, (GroupType::Share, SHARE_VERSION, Error::NotShareGroup), write_member)
}

fn write_member(w: &mut Writer<'_>, broker: &Broker, member: MemberDescription) {
    w.string("member_id", &member.member_id);
    w.nullable_string("rack_id", member.rack_id.as_deref());
    w.i32("member_epoch", member.epoch);
    w.string("client_id", &member.client_id);
    w.string("client_host", &member.client_host);
    w.array("subscribed_topic_names", member.topics.iter(), |w, name| w.string(ITEM, name));
    let owned = member.owned.into_iter().map(|Owned { topic, partition, .. }| (topic, partition));
    write_partitions(w, broker, owned, true);
    w.tags();
    w.tags();
}

//! Classic consumer groups: FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup, and the calls that list, describe and
//! delete groups.
//!
//! Members of text and of the newer protocol may be in the same group: then the broker assigns, and leads for classic clients.
//! A JoinGroup or SyncGroup that waits blocks its connection, as in Kafka. A member whose connection ends before its first answer
//! loses its place.

use super::{
    Call, Code, NODE_ID, Stop, operations, shown_list, tell,
    wire::{ITEM, Reader, Writer},
};
use crate::{
    broker::{
        self, Broker, Error, GroupSummary, ResourceName,
        group::{
            Description, GroupType,
            classic::{JoinRequest, Joined, Protocol, Sender, SyncRequest},
        },
        random,
    },
    log::record::shown,
    security::Operation,
};
use std::{
    collections::{BTreeSet, HashMap},
    io,
    time::Instant,
};

/// FindCoordinator (key 10): it is always this broker.
pub(super) fn find_coordinator(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let single = if r.version < 4 { Some(r.string("key")?) } else { None };
    let key_type = if r.version >= 1 { r.i8("key_type")? } else { 0 };
    let keys = if r.version >= 4 { r.array("coordinator_keys", |r| r.string(ITEM))? } else { Vec::new() };
    r.tags()?;
    tell(call.explained, || {
        let keys = single.iter().chain(&keys).map(|key| key.to_string()).collect::<Vec<_>>();
        format!("which broker coordinates {}", shown_list(keys.into_iter()))
    });
    let (host, port) = call.advertised()?;
    // Groups, transactional ids, and since version 6 what share groups have of partitions: this broker coordinates them all.
    let version = r.version;
    let is_known = |key: &str| match key_type {
        0 | 1 => true,
        2 => version >= 6 && is_share_partition(key),
        _ => false,
    };
    let broker = call.broker;
    let may = |key: &str| match key_type {
        0 => broker.ask(Operation::Describe, ResourceName::group(key)),
        1 => broker.ask(Operation::Describe, ResourceName::transactional_id(key)),
        _ => broker.ask(Operation::ClusterAction, ResourceName::CLUSTER),
    };
    let found = |key: &str| {
        if (0..=2).contains(&key_type)
            && let Err(error) = may(key)
        {
            return (-1, "", -1, error.code(), Some("you may not know"));
        }
        if is_known(key) {
            return (NODE_ID, host.as_str(), port, Code::None, None);
        }
        let why = "there are coordinators of groups (0), of transactions (1), and of group:topic-id:partition (2)";
        (-1, "", -1, Code::InvalidRequest, Some(why))
    };
    let mut w = call.respond();
    if w.version >= 1 {
        w.throttle_time();
    }
    if let Some(key) = single {
        let (node, host, port, code, why) = found(key);
        w.i16("error_code", code.into());
        if w.version >= 1 {
            w.nullable_string("error_message", why);
        }
        w.i32("node_id", node);
        w.string("host", host);
        w.i32("port", port);
    } else {
        w.array("coordinators", keys.iter(), |w, key| {
            let (node, host, port, code, why) = found(key);
            w.string("key", key);
            w.i32("node_id", node);
            w.string("host", host);
            w.i32("port", port);
            w.i16("error_code", code.into());
            w.nullable_string("error_message", why);
            w.tags();
        });
    }
    w.tags();
    Ok(())
}

/// Whether a key is a group, a topic's id in Kafka's letters, and a partition, with colons between.
fn is_share_partition(key: &str) -> bool {
    let Some((rest, partition)) = key.rsplit_once(':') else { return false };
    let Some((group, id)) = rest.rsplit_once(':') else { return false };
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_partition = partition.parse::<i32>().is_ok_and(|partition| partition >= 0);
    !group.is_empty() && id.len() == 22 && id.bytes().all(is_letter) && is_partition
}

/// Runs `ask` with a way to wait on this connection for the answer. A broken socket ends the wait, and the connection.
fn waiting<T>(
    call: &mut Call<'_, '_>,
    ask: impl FnOnce(broker::Wait<'_>) -> broker::Result<T>,
) -> Result<broker::Result<T>, Stop> {
    call.output.flush()?;
    let mut broken = None;
    let mut wait = |until: Option<Instant>| {
        call.output.wait_while_connected(until).unwrap_or_else(|error: io::Error| {
            broken = Some(error);
            false
        })
    };
    let answer = ask(&mut wait);
    broken.map_or(Ok(answer), |error| Err(error.into()))
}

/// The most bytes that a member's protocols may have. They are kept as long as the member stays. Kafka has no such limit.
const PROTOCOLS_BYTES_MAX: usize = 1 << 20;

/// JoinGroup (key 11).
pub(super) fn join_group(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let (group, session_timeout_ms) = (r.string("group_id")?, r.i32("session_timeout_ms")?);
    let rebalance_timeout_ms = if r.version >= 1 { r.i32("rebalance_timeout_ms")? } else { session_timeout_ms };
    let member_id = r.string("member_id")?;
    let instance_id = if r.version >= 5 { r.nullable_string("group_instance_id")? } else { None };
    let protocol_type = r.string("protocol_type")?;
    let protocols = r.array("protocols", |r| {
        let (name, metadata) = (r.string("name")?.to_owned(), r.bytes("metadata")?.to_owned());
        r.tags()?;
        Ok(Protocol { name, metadata })
    })?;
    if r.version >= 8 {
        r.nullable_string("reason")?;
    }
    r.tags()?;
    let client_id = call.client_id.to_owned();
    let request = JoinRequest {
        member_id: member_id.to_owned(),
        new_member_id: new_member_id(instance_id.unwrap_or(&client_id)),
        instance_id: instance_id.map(String::from),
        client_host: call.client_host(),
        client_id,
        session_timeout_ms: session_timeout_ms.max(0) as u64,
        rebalance_timeout_ms: rebalance_timeout_ms.max(0) as u64,
        protocol_type: protocol_type.to_owned(),
        comes_with_id: call.version >= 4,
        can_skip_assignment: call.version >= 9,
        protocols,
    };
    let size = |protocol: &Protocol| size_of::<Protocol>() + protocol.name.len() + protocol.metadata.len();
    if request.protocols.iter().map(size).sum::<usize>() > PROTOCOLS_BYTES_MAX {
        tell(call.explained, || format!("a member of group {group} has protocols of more than 1 MiB"));
        write_joined(&mut call.respond(), Code::InvalidRequest, not_joined(member_id));
        return Ok(());
    }
    let (broker, waiter) = (call.broker, call.output.waiter.clone());
    let joined = match group {
        "" => Err(no_name()),
        _ => waiting(call, |wait| broker.join_group(group, request, &waiter, wait))?,
    };
    tell(call.explained, || match &joined {
        Ok(joined) => format!("{} joins group {group}, generation {}", joined.member_id, joined.generation),
        Err(error) if member_id.is_empty() => format!("a new member of group {group}: {error}"),
        Err(error) => format!("{member_id} does not join group {group}: {error}"),
    });
    let code = joined.as_ref().map_or_else(Error::code, |_| Code::None);
    let joined = joined.unwrap_or_else(|error| match error {
        Error::MemberIdRequired(id) => not_joined(&id),
        _ => not_joined(member_id),
    });
    write_joined(&mut call.respond(), code, joined);
    Ok(())
}

/// What is answered of a group without a name.
pub(super) fn no_name() -> Error {
    Error::InvalidGroup("the group's name is empty".into())
}

fn not_joined(member_id: &str) -> Joined {
    Joined { generation: -1, member_id: member_id.to_owned(), ..Joined::default() }
}

/// A member id that nobody can guess; it begins with the client's name, for those who read it.
pub(super) fn new_member_id(name: &str) -> String {
    let id = random::uuid();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let [a, b, c, d, e] = [&id[..4], &id[4..6], &id[6..8], &id[8..10], &id[10..]].map(hex);
    // With what is added it is still short enough for a string of Kafka's protocol.
    let name = &name[..name.floor_char_boundary(i16::MAX as usize - 37)];
    format!("{name}-{a}-{b}-{c}-{d}-{e}")
}

fn write_joined(w: &mut Writer<'_>, code: Code, joined: Joined) {
    if w.version >= 2 {
        w.throttle_time();
    }
    w.i16("error_code", code.into());
    w.i32("generation_id", joined.generation);
    if w.version >= 7 {
        w.nullable_string("protocol_type", (code == Code::None).then_some(&joined.protocol_type));
        w.nullable_string("protocol_name", joined.protocol.as_deref());
    } else {
        w.string("protocol_name", joined.protocol.as_deref().unwrap_or_default());
    }
    w.string("leader", &joined.leader);
    if w.version >= 9 {
        w.bool("skip_assignment", joined.skip_assignment);
    }
    w.string("member_id", &joined.member_id);
    w.array("members", joined.members.iter(), |w, member| {
        w.string("member_id", &member.member_id);
        if w.version >= 5 {
            w.nullable_string("group_instance_id", member.instance_id.as_deref());
        }
        w.bytes("metadata", &member.metadata);
        w.tags();
    });
    w.tags();
}

/// SyncGroup (key 14).
pub(super) fn sync_group(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let (group, generation, member_id) = (r.string("group_id")?, r.i32("generation_id")?, r.string("member_id")?);
    let instance_id = if r.version >= 3 { r.nullable_string("group_instance_id")? } else { None };
    let protocol_type = if r.version >= 5 { r.nullable_string("protocol_type")? } else { None };
    let protocol = if r.version >= 5 { r.nullable_string("protocol_name")? } else { None };
    let assignments: HashMap<String, Vec<u8>> = r
        .array("assignments", |r| {
            let assignment = (r.string("member_id")?.to_owned(), r.bytes("assignment")?.to_owned());
            r.tags()?;
            Ok(assignment)
        })?
        .into_iter()
        .collect();
    r.tags()?;
    let sender = Sender { member_id, instance_id };
    let request = SyncRequest { sender, generation, protocol_type, protocol, assignments };
    let (broker, waiter) = (call.broker, call.output.waiter.clone());
    // Since version 5 a member tells which protocol it expects (KIP-559).
    let unnamed = call.version >= 5 && (protocol_type.is_none() || protocol.is_none());
    let synced = if unnamed {
        Err(Error::InconsistentGroupProtocol)
    } else if group.is_empty() {
        Err(no_name())
    } else {
        waiting(call, |wait| broker.sync_group(group, request, &waiter, wait))?
    };
    tell(call.explained, || match &synced {
        Ok(assignment) => format!("{member_id} of group {group} gets its assignment of {} bytes", assignment.len()),
        Err(error) => format!("{member_id} of group {group} gets no assignment: {error}"),
    });
    let mut w = call.respond();
    if w.version >= 1 {
        w.throttle_time();
    }
    w.i16("error_code", synced.as_ref().map_or_else(Error::code, |_| Code::None).into());
    if w.version >= 5 {
        w.nullable_string("protocol_type", protocol_type.filter(|_| synced.is_ok()));
        w.nullable_string("protocol_name", protocol.filter(|_| synced.is_ok()));
    }
    w.bytes("assignment", &synced.unwrap_or_default());
    w.tags();
    Ok(())
}

/// Heartbeat (key 12).
pub(super) fn heartbeat(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let (group, generation, member_id) = (r.string("group_id")?, r.i32("generation_id")?, r.string("member_id")?);
    let instance_id = if r.version >= 3 { r.nullable_string("group_instance_id")? } else { None };
    r.tags()?;
    let done = match group {
        "" => Err(no_name()),
        _ => call.broker.heartbeat(group, Sender { member_id, instance_id }, generation),
    };
    tell(call.explained, || match &done {
        Ok(()) => format!("{member_id} is still in group {group}, generation {generation}"),
        Err(error) => format!("{member_id} of group {group}: {error}"),
    });
    let mut w = call.respond();
    if w.version >= 1 {
        w.throttle_time();
    }
    w.i16("error_code", done.as_ref().map_or_else(Error::code, |()| Code::None).into());
    w.tags();
    Ok(())
}

/// LeaveGroup (key 13), since version 3 for several members at once (KIP-345).
pub(super) fn leave_group(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let group = r.string("group_id")?;
    let members = match r.version {
        0..3 => vec![(r.string("member_id")?, None)],
        _ => r.array("members", |r| {
            let member = (r.string("member_id")?, r.nullable_string("group_instance_id")?);
            if r.version >= 5 {
                r.nullable_string("reason")?;
            }
            r.tags()?;
            Ok(member)
        })?,
    };
    r.tags()?;
    let may = call.broker.ask(Operation::Read, ResourceName::group(group));
    let members = if may.is_ok() { members } else { Vec::new() };
    let leave = |&(member_id, instance_id): &(&str, Option<&str>)| {
        let left = call.broker.leave_group(group, Sender { member_id, instance_id });
        left.as_ref().map_or_else(Error::code, |()| Code::None)
    };
    let codes: Vec<Code> = if group.is_empty() { Vec::new() } else { members.iter().map(leave).collect() };
    tell(call.explained, || {
        let name = |(member_id, instance_id): &(&str, Option<&str>)| instance_id.unwrap_or(member_id).to_string();
        format!("group {group} without {}", shown_list(members.iter().map(name)))
    });
    let mut w = call.respond();
    if w.version >= 1 {
        w.throttle_time();
    }
    let whole = match w.version {
        _ if may.is_err() => Code::GroupAuthorizationFailed,
        _ if group.is_empty() => Code::InvalidGroupId,
        0..3 => codes[0],
        _ => Code::None,
    };
    w.i16("error_code", whole.into());
    if w.version >= 3 {
        w.array(
            "members",
            members.iter().zip(&codes).collect::<Vec<_>>().iter(),
            |w, ((member_id, instance_id), code)| {
                w.string("member_id", member_id);
                w.nullable_string("group_instance_id", *instance_id);
                w.i16("error_code", (**code).into());
                w.tags();
            },
        );
    }
    w.tags();
    Ok(())
}

/// DescribeGroups (key 15).
pub(super) fn describe_groups(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    // Each group is answered once: its members may take many times the bytes of its name.
    let groups: BTreeSet<&str> = r.array("groups", |r| r.string(ITEM))?.into_iter().collect();
    let of_groups = r.version >= 3 && r.bool("include_authorized_operations")?;
    r.tags()?;
    tell(call.explained, || format!("who is in {}", shown_list(groups.iter().map(|group| group.to_string()))));
    let version = r.version;
    let described: Vec<_> = groups.iter().map(|group| describe(call.broker, group, version)).collect();
    let broker = call.broker;
    let mut w = call.respond();
    if w.version >= 1 {
        w.throttle_time();
    }
    w.array("groups", groups.iter().zip(&described), |w, (&group, described)| {
        let code = described.as_ref().map_or_else(|error| error.code(), |_| Code::None);
        w.i16("error_code", code.into());
        if w.version >= 6 {
            w.nullable_string("error_message", described.as_ref().err().map(Error::to_string).as_deref());
        }
        w.string("group_id", group);
        let described = described.as_ref().ok();
        let state = if code == Code::GroupIdNotFound { "Dead" } else { "" };
        w.string("group_state", described.map_or(state, |described| described.state));
        w.string("protocol_type", described.map_or("", |described| &described.protocol_type));
        w.string("protocol_data", described.map_or("", |described| &described.protocol));
        w.array("members", described.map_or(&[][..], |described| &described.members).iter(), |w, member| {
            w.string("member_id", &member.member_id);
            if w.version >= 4 {
                w.nullable_string("group_instance_id", member.instance_id.as_deref());
            }
            w.string("client_id", &member.client_id);
            w.string("client_host", &member.client_host);
            w.bytes("member_metadata", &member.metadata);
            w.bytes("member_assignment", &member.assignment);
            w.tags();
        });
        if w.version >= 3 {
            w.i32(
                "authorized_operations",
                operations(broker, of_groups && described.is_some(), ResourceName::group(group)),
            );
        }
        w.tags();
    });
    w.tags();
    Ok(())
}

/// A group's description. One that does not exist, or that no leader assigns in, is Dead, and before version 6 without an error.
fn describe(broker: &Broker, group: &str, version: i16) -> Result<Description, Error> {
    let described = broker.group(group)?.filter(|described| described.group_type == GroupType::Classic);
    match described {
        Some(described) => Ok(described),
        None if version < 6 => Ok(Description { state: "Dead", ..Description::default() }),
        None => Err(Error::UnknownGroup(shown(group.as_bytes()))),
    }
}

/// ListGroups (key 16).
pub(super) fn list_groups(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let states = if r.version >= 4 { r.array("states_filter", |r| r.string(ITEM))? } else { Vec::new() };
    let types = if r.version >= 5 { r.array("types_filter", |r| r.string(ITEM))? } else { Vec::new() };
    r.tags()?;
    tell(call.explained, || "which groups there are".into());
    let groups = call.broker.groups();
    let code = groups.as_ref().map_or_else(Error::code, |_| Code::None);
    let is_wanted =
        |filter: &[&str], is: &str| filter.is_empty() || filter.iter().any(|asked| asked.eq_ignore_ascii_case(is));
    let is_wanted =
        |group: &GroupSummary| is_wanted(&states, group.state) && is_wanted(&types, group.group_type.name());
    let groups: Vec<_> = groups.unwrap_or_default().into_iter().filter(is_wanted).collect();
    let mut w = call.respond();
    if w.version >= 1 {
        w.throttle_time();
    }
    w.i16("error_code", code.into());
    w.array("groups", groups.iter(), |w, group| {
        w.string("group_id", &group.name);
        w.string("protocol_type", &group.protocol_type);
        if w.version >= 4 {
            w.string("group_state", group.state);
        }
        if w.version >= 5 {
            w.string("group_type", group.group_type.name());
        }
        w.tags();
    });
    w.tags();
    Ok(())
}

/// DeleteGroups (key 42).
pub(super) fn delete_groups(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let groups: BTreeSet<&str> = r.array("groups_names", |r| r.string(ITEM))?.into_iter().collect();
    r.tags()?;
    let delete = |group: &&str| call.broker.delete_group(group).as_ref().map_or_else(Error::code, |()| Code::None);
    let codes: Vec<Code> = groups.iter().map(delete).collect();
    tell(call.explained, || {
        let codes = groups.iter().zip(&codes);
        format!(
            "delete {}",
            shown_list(codes.map(|(group, code)| format!("{group}: {code:?}")).collect::<Vec<_>>().into_iter())
        )
    });
    let mut w = call.respond();
    w.throttle_time();
    w.array("results", groups.iter().zip(codes).collect::<Vec<_>>().iter(), |w, (group, code)| {
        w.string("group_id", group);
        w.i16("error_code", (*code).into());
        w.tags();
    });
    w.tags();
    Ok(())
}

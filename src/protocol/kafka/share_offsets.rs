//! How far share groups have come (KIP-932): DescribeShareGroupOffsets, AlterShareGroupOffsets, DeleteShareGroupOffsets.
//!
//! A group's start offset in a partition is that of the first record that is not done with. Where nobody has read it is -1, and so is what is
//! left to read.

use super::{
    Call, Code, Refusal, Stop,
    api_versions::SHARE_VERSION,
    groups::no_name,
    partition_index, shown_list, tell,
    wire::{ITEM, Reader, Uuid, Writer},
    write_code,
};
use crate::{
    broker::{Broker, ResourceName, ShareOffset, ShareWrite, TopicHandle},
    security::Operation,
};
use std::collections::{BTreeMap, BTreeSet};

/// The names of topics, each with partitions of it, as a request has them.
type Topics<'a> = Vec<(&'a str, Vec<i32>)>;
/// Partitions, by the topic's name.
type Partitions<'a> = BTreeMap<&'a str, BTreeSet<i32>>;

/// How far a group is in a partition, as it is told.
struct Told {
    index: i32,
    /// Why it is not told.
    refusal: Option<Refusal>,
    start: i64,
    leader_epoch: i32,
    lag: i64,
}

/// DescribeShareGroupOffsets (key 90).
pub(super) fn describe_share_group_offsets(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let asked = r.array("groups", |r| {
        let group = r.string("group_id")?;
        let topics = r.nullable_array("topics", |r| {
            let topic = (r.string("topic_name")?, r.array("partitions", |r| r.i32(ITEM))?);
            r.tags()?;
            Ok(topic)
        })?;
        r.tags()?;
        Ok((group, topics))
    })?;
    r.tags()?;
    let asked = merged(asked);
    tell(call.explained, || format!("how far {} have come", shown_list(asked.keys().map(|group| group.to_string()))));
    let broker = call.broker.clone();
    let told: Vec<_> = asked.iter().map(|(&group, topics)| describe(&broker, group, topics.as_ref())).collect();
    let mut w = call.respond();
    w.throttle_time();
    w.array("groups", asked.keys().zip(told), |w, (group, told)| {
        let (told, refusal) = told.map_or_else(|refusal| (vec![], Some(refusal)), |told| (told, None));
        w.string("group_id", group);
        w.array("topics", told.into_iter(), |w, (topic, partitions)| {
            write_topic(w, &broker, &topic);
            w.array("partitions", partitions.into_iter(), write_told);
            w.tags();
        });
        write_code(w, refusal.as_ref());
        w.tags();
    });
    w.tags();
    Ok(())
}

/// Each group is answered once, with all that is asked of it: an answer may take many times the bytes of its name.
fn merged<'a>(asked: Vec<(&'a str, Option<Topics<'a>>)>) -> BTreeMap<&'a str, Option<Partitions<'a>>> {
    let mut groups = BTreeMap::new();
    for (group, topics) in asked {
        let known = groups.entry(group).or_insert_with(|| Some(Partitions::new()));
        match (known.as_mut(), topics) {
            (Some(known), Some(topics)) => {
                topics.into_iter().for_each(|(topic, indices)| known.entry(topic).or_default().extend(indices));
            }
            _ => *known = None,
        }
    }
    groups
}

/// How far a group is in these partitions, or (`None`) in all that it has read in.
fn describe(
    broker: &Broker,
    group: &str,
    topics: Option<&Partitions<'_>>,
) -> Result<Vec<(String, Vec<Told>)>, Refusal> {
    broker.needs_feature(SHARE_VERSION)?;
    if group.is_empty() {
        return Err(no_name().into());
    }
    let offsets = broker.share_offsets(group)?;
    let known: BTreeMap<(&str, u32), &ShareOffset> =
        offsets.iter().map(|known| ((&*known.topic, known.partition), known)).collect();
    let Some(topics) = topics else {
        let mut all: BTreeMap<&str, Vec<&ShareOffset>> = BTreeMap::new();
        let seen = |known: &&ShareOffset| known.start.is_some() && broker.may_describe(&known.topic);
        for known in offsets.iter().filter(seen) {
            all.entry(&known.topic).or_default().push(known);
        }
        let told = |(name, known): (&str, Vec<&ShareOffset>)| {
            let topic = broker.find_topic_to(Operation::Describe, name).ok();
            let told = known.into_iter().map(|known| tell_offset(topic.as_ref(), known.partition as i32, Some(known)));
            (name.to_owned(), told.collect())
        };
        return Ok(all.into_iter().map(told).collect());
    };
    let told = |(&name, indices): (&&str, &BTreeSet<i32>)| {
        if let Err(error) = broker.ask(Operation::Describe, ResourceName::topic(name)) {
            let refused = |&index| Told { refusal: Some(error.clone().into()), ..untold(index) };
            return (name.to_owned(), indices.iter().map(refused).collect());
        }
        let topic = broker.find_topic_to(Operation::Describe, name).ok();
        // A partition that a topic does not have is left out; of a topic that is not there nothing is known.
        let has = |&&index: &&i32| topic.as_ref().is_none_or(|topic| partition_index(index) < topic.partition_count());
        let of = |index: i32| known.get(&(name, partition_index(index))).copied();
        let told = indices.iter().filter(has).map(|&index| tell_offset(topic.as_ref(), index, of(index)));
        (name.to_owned(), told.collect())
    };
    Ok(topics.iter().map(told).collect())
}

fn tell_offset(topic: Option<&TopicHandle>, index: i32, known: Option<&ShareOffset>) -> Told {
    let Some((start, known)) = known.and_then(|known| Some((known.start? as i64, known))) else {
        return untold(index);
    };
    let end = topic.and_then(|topic| topic.partition(partition_index(index)).ok()?.high_watermark().ok());
    let lag = end.map_or(-1, |end| end as i64 - start - known.done as i64);
    Told { index, refusal: None, start, leader_epoch: known.leader_epoch as i32, lag }
}

fn untold(index: i32) -> Told {
    Told { index, refusal: None, start: -1, leader_epoch: 0, lag: -1 }
}

fn write_told(w: &mut Writer<'_>, told: Told) {
    w.i32("partition_index", told.index);
    w.i64("start_offset", told.start);
    w.i32("leader_epoch", told.leader_epoch);
    if w.version >= 1 {
        w.i64("lag", told.lag);
    }
    write_code(w, told.refusal.as_ref());
    w.tags();
}

/// AlterShareGroupOffsets (key 91).
pub(super) fn alter_share_group_offsets(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let group = r.string("group_id")?;
    let topics = r.array("topics", |r| {
        let topic = r.string("topic_name")?;
        let partitions = r.array("partitions", |r| {
            let partition = (r.i32("partition_index")?, r.i64("start_offset")?);
            r.tags()?;
            Ok(partition)
        })?;
        r.tags()?;
        Ok((topic, partitions))
    })?;
    r.tags()?;
    let broker = call.broker.clone();
    let of_topic = |&(name, ref partitions): &(&str, Vec<(i32, i64)>)| {
        let topic = broker.find_topic(name).map_err(Refusal::from);
        let write = |index: i32, start: i64| -> Result<ShareWrite, Refusal> {
            let of = topic.as_ref().map_err(Refusal::clone)?.partition(partition_index(index))?;
            Ok(broker.write_share_offset(group, &of, u64::try_from(start).ok())?)
        };
        partitions.iter().map(|&(index, start)| (index, write(index, start))).collect::<Vec<_>>()
    };
    // Where no topic is the caller's to read, no group is made.
    let any = topics.iter().any(|(topic, _)| broker.may(Operation::Read, ResourceName::topic(topic)).is_ok());
    let may = match any || topics.is_empty() {
        true => may_change(&broker, group, true),
        false => broker.ask(Operation::Read, ResourceName::group(group)).map(drop).map_err(Refusal::from),
    };
    // All are written before any is waited for: one sync may do for all.
    let written: Result<Vec<_>, Refusal> = may.map(|()| topics.iter().map(of_topic).collect());
    let make_durable = |(index, written): (i32, Result<ShareWrite, Refusal>)| {
        (index, written.and_then(|write| Ok(write.make_durable()?)))
    };
    let done = written.map(|topics| {
        let durable = topics.into_iter().map(|of_topic| of_topic.into_iter().map(make_durable).collect::<Vec<_>>());
        durable.collect::<Vec<_>>()
    });
    tell(call.explained, || format!("share group {group} goes on elsewhere{}", refused(&done)));
    let mut w = call.respond();
    w.throttle_time();
    write_code(&mut w, done.as_ref().err());
    w.array("responses", topics.iter().zip(done.unwrap_or_default()), |w, ((topic, _), partitions)| {
        write_topic(w, &broker, topic);
        w.array("partitions", partitions.into_iter(), |w, (index, altered)| {
            w.i32("partition_index", index);
            write_code(w, altered.err().as_ref());
            w.tags();
        });
        w.tags();
    });
    w.tags();
    Ok(())
}

/// DeleteShareGroupOffsets (key 92).
pub(super) fn delete_share_group_offsets(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let group = r.string("group_id")?;
    let topics = r.array("topics", |r| {
        let topic = r.string("topic_name")?;
        r.tags()?;
        Ok(topic)
    })?;
    r.tags()?;
    let broker = call.broker.clone();
    let delete = |topic: &&str| -> Result<(), Refusal> {
        broker.find_topic(topic)?;
        match broker.delete_share_offsets(group, topic)? {
            true => Ok(()),
            false => Err(Refusal::new(Code::UnknownTopicOrPartition, "the group has read nothing there".into())),
        }
    };
    let done: Result<Vec<_>, Refusal> = may_change(&broker, group, false).map(|()| topics.iter().map(delete).collect());
    tell(call.explained, || format!("share group {group} forgets how far it has come{}", refused(&done)));
    let mut w = call.respond();
    w.throttle_time();
    write_code(&mut w, done.as_ref().err());
    w.array("responses", topics.iter().zip(done.unwrap_or_default()), |w, (topic, deleted)| {
        w.string("topic_name", topic);
        let id = broker.find_topic(topic).ok().filter(|_| deleted.is_ok()).map(|topic| topic.id());
        w.uuid("topic_id", &id.unwrap_or_default());
        write_code(w, deleted.err().as_ref());
        w.tags();
    });
    w.tags();
    Ok(())
}

/// Whether the offsets of a group may be changed: it has no members. Where it is not there it is made, or (`make`) not.
fn may_change(broker: &Broker, group: &str, make: bool) -> Result<(), Refusal> {
    broker.needs_feature(SHARE_VERSION)?;
    if group.is_empty() {
        return Err(no_name().into());
    }
    Ok(broker.may_change_share_offsets(group, make)?)
}

fn refused<T>(done: &Result<T, Refusal>) -> String {
    done.as_ref().err().map_or(String::new(), |refusal| format!(", refused: {}", refusal.why))
}

fn write_topic(w: &mut Writer<'_>, broker: &Broker, topic: &str) {
    w.string("topic_name", topic);
    let id = broker.find_topic_to(Operation::Describe, topic).map_or(Uuid::default(), |topic| topic.id());
    w.uuid("topic_id", &id);
}

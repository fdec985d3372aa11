//! How far groups have read: OffsetCommit, OffsetFetch, OffsetDelete.

use super::{
    Call, Code, Stop, partition_index, shown_list, tell,
    wire::{Reader, Writer},
};
use crate::broker::{self, Broker, Committed, Offsets, group::classic::Sender};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The longest note that a client may keep with an offset: Kafka's `offset.metadata.max.bytes`.
const METADATA_MAX: usize = 4096;

/// An offset to be committed.
struct Asked<'a> {
    index: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: &'a str,
}

/// OffsetCommit (key 8). What cannot be committed is refused by itself; the rest is committed together.
pub(super) fn offset_commit(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let (group, generation, member_id) = (r.string()?, r.i32()?, r.string()?);
    let instance_id = if r.version >= 7 { r.nullable_string()? } else { None };
    if (2..=4).contains(&r.version) {
        r.i64()?;
    }
    let topics = r.array(|r| {
        let name = r.string()?;
        let partitions = r.array(|r| {
            let (index, offset) = (r.i32()?, r.i64()?);
            let leader_epoch = if r.version >= 6 { r.i32()? } else { -1 };
            let metadata = r.nullable_string()?.unwrap_or_default();
            r.tags()?;
            Ok(Asked { index, offset, leader_epoch, metadata })
        })?;
        r.tags()?;
        Ok((name, partitions))
    })?;
    r.tags()?;
    let (broker, timestamp_ms) = (call.broker, call.broker.now_ms());
    let mut offsets = Offsets::new();
    let mut codes: Vec<Vec<Code>> = Vec::new();
    for (name, partitions) in &topics {
        let topic: Arc<str> = (*name).into();
        let mut check = |asked: &Asked<'_>| {
            let index = partition_index(asked.index);
            match broker.leader_epoch(name, index) {
                Err(error) => error.code(),
                Ok(_) if asked.metadata.len() > METADATA_MAX => Code::OffsetMetadataTooLarge,
                Ok(_) => {
                    let (offset, leader_epoch) = (asked.offset, asked.leader_epoch);
                    let committed = Committed { offset, leader_epoch, metadata: asked.metadata.into(), timestamp_ms };
                    offsets.insert((topic.clone(), index), committed);
                    Code::None
                }
            }
        };
        codes.push(partitions.iter().map(&mut check).collect());
    }
    let committed = commit(broker, group, Sender { member_id, instance_id }, generation, offsets);
    let code_of_all = committed.err();
    tell(call.explained, || {
        let all = topics.iter().flat_map(|(name, partitions)| partitions.iter().map(move |asked| (name, asked)));
        let all: Vec<String> = all.map(|(name, asked)| format!("{name}/{} at {}", asked.index, asked.offset)).collect();
        let refused = code_of_all.map_or(String::new(), |code| format!(", refused with {code:?}"));
        format!("group {group} commits {}{refused}", shown_list(all.into_iter()))
    });
    let mut w = call.respond();
    if w.version >= 3 {
        w.i32(0);
    }
    w.array(topics.iter().zip(&codes), |w, ((name, partitions), codes)| {
        w.string(name);
        w.array(partitions.iter().zip(codes), |w, (asked, &code)| {
            w.i32(asked.index);
            w.i16(if code == Code::None { code_of_all.unwrap_or(Code::None) } else { code }.into());
            w.tags();
        });
        w.tags();
    });
    w.tags();
    Ok(())
}

fn commit(
    broker: &Broker,
    group: &str,
    sender: Sender<'_>,
    generation: i32,
    offsets: BTreeMap<(Arc<str>, u32), Committed>,
) -> Result<(), Code> {
    if offsets.is_empty() {
        return Ok(());
    }
    broker.commit_offsets(group, sender, generation, offsets).map_err(|error| error.code())
}

/// Topics with the partitions asked for, each once: an answer may be many times as many bytes. `None`: all that the group has
/// committed.
type Wanted = Option<BTreeMap<String, BTreeSet<i32>>>;

/// OffsetFetch (key 9), since version 8 for several groups at once.
pub(super) fn offset_fetch(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    fn wanted(r: &mut Reader<'_>) -> super::wire::Result<Wanted> {
        let mut wanted = BTreeMap::<String, BTreeSet<i32>>::new();
        let topics = r.nullable_array(|r| {
            wanted.entry(r.string()?.to_owned()).or_default().extend(r.array(Reader::i32)?);
            r.tags()
        })?;
        Ok(topics.map(|_| wanted))
    }
    // Each is answered once, with all that is asked of it.
    let mut groups: BTreeMap<&str, Wanted> = BTreeMap::new();
    if r.version < 8 {
        groups.insert(r.string()?, wanted(r)?);
    } else {
        r.array(|r| {
            let (group, more) = (r.string()?, wanted(r)?);
            match (groups.entry(group).or_insert_with(|| Some(BTreeMap::new())), more) {
                (Some(all), Some(more)) => more.into_iter().for_each(|(topic, indexes)| {
                    all.entry(topic).or_default().extend(indexes);
                }),
                (all, _) => *all = None,
            }
            r.tags()
        })?;
    }
    if r.version >= 7 {
        r.bool()?;
    }
    r.tags()?;
    tell(call.explained, || {
        let names = groups.keys().map(|group| group.to_string());
        format!("how far group {} has read", shown_list(names))
    });
    let broker = call.broker;
    let mut w = call.respond();
    if w.version >= 3 {
        w.i32(0);
    }
    if w.version < 8 {
        let (group, wanted) = groups.into_iter().next().expect("one was read");
        let code = write_offsets(&mut w, broker, group, wanted);
        if w.version >= 2 {
            w.i16(code.into());
        }
    } else {
        w.array(groups.into_iter(), |w, (group, wanted)| {
            w.string(group);
            let code = write_offsets(w, broker, group, wanted);
            w.i16(code.into());
            w.tags();
        });
    }
    w.tags();
    Ok(())
}

/// Writes a group's offsets by topic; an offset that it has not committed is -1.
fn write_offsets(w: &mut Writer<'_>, broker: &Broker, group: &str, wanted: Wanted) -> Code {
    let offsets = broker.committed_offsets(group);
    let code = offsets.as_ref().map_or_else(broker::Error::code, |_| Code::None);
    let offsets = offsets.unwrap_or_default();
    let wanted = wanted.unwrap_or_else(|| {
        let mut topics: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
        for (topic, index) in offsets.keys() {
            topics.entry(topic.to_string()).or_default().insert(*index as i32);
        }
        topics
    });
    w.array(wanted.iter(), |w, (name, indexes)| {
        w.string(name);
        let topic: Arc<str> = name.as_str().into();
        w.array(indexes.iter(), |w, &index| {
            let key = u32::try_from(index).ok().map(|index| (topic.clone(), index));
            let committed = key.and_then(|key| offsets.get(&key));
            w.i32(index);
            w.i64(committed.map_or(-1, |committed| committed.offset));
            if w.version >= 5 {
                w.i32(committed.map_or(-1, |committed| committed.leader_epoch));
            }
            w.nullable_string(Some(committed.map_or("", |committed| &committed.metadata)));
            w.i16(code.into());
            w.tags();
        });
        w.tags();
    });
    code
}

/// OffsetDelete (key 47).
pub(super) fn offset_delete(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let group = r.string()?;
    let topics = r.array(|r| Ok((r.string()?, r.array(Reader::i32)?)))?;
    let broker = call.broker;
    let read = read_topics(broker, group);
    let known = |name: &str, index: i32| -> Result<(Arc<str>, u32), Code> {
        if read.as_ref().is_ok_and(|read| read.as_ref().is_none_or(|read| read.iter().any(|read| read == name))) {
            return Err(Code::GroupSubscribedToTopic);
        }
        let index = partition_index(index);
        broker.leader_epoch(name, index).map(|_| (name.into(), index)).map_err(|error| error.code())
    };
    type Known = (i32, Result<(Arc<str>, u32), Code>);
    let checked: Vec<(&str, Vec<Known>)> = topics
        .iter()
        .map(|(name, indexes)| (*name, indexes.iter().map(|&index| (index, known(name, index))).collect()))
        .collect();
    let all = checked.iter().flat_map(|(_, partitions)| partitions);
    let only: Vec<_> = all.filter_map(|(_, known)| known.as_ref().ok().cloned()).collect();
    let deleted = read
        .as_ref()
        .map_err(|code| *code)
        .and_then(|_| broker.delete_unread_offsets(group, &only).map_err(|error| error.code()));
    let code = deleted.err().unwrap_or(Code::None);
    tell(call.explained, || {
        let only = only.iter().map(|(topic, index)| format!("{topic}/{index}"));
        format!("group {group} forgets how far it read {}: {code:?}", shown_list(only))
    });
    let mut w = call.respond();
    w.i16(code.into());
    w.i32(0);
    let told = if code == Code::None { &checked[..] } else { &[] };
    w.array(told.iter(), |w, (name, partitions)| {
        w.string(name);
        w.array(partitions.iter(), |w, (index, known)| {
            w.i32(*index);
            w.i16(known.as_ref().map_or_else(|code| *code, |_| Code::None).into());
        });
    });
    Ok(())
}

/// The topics that a group's members read, whose offsets stay; `None`: nobody can tell, so it may be all. A group of members
/// that are no consumers, or are not Kafka's, has offsets that nobody may touch.
fn read_topics(broker: &Broker, group: &str) -> Result<Option<Vec<String>>, Code> {
    let Some(described) = broker.group(group).map_err(|error| error.code())? else { return Ok(Some(Vec::new())) };
    if !described.members.is_empty() && described.protocol_type != "consumer" {
        return Err(Code::NonEmptyGroup);
    }
    let topics = |metadata: &[u8]| {
        let mut r = Reader::new(metadata, 0, false);
        r.i16().and_then(|_| r.array(|r| r.string().map(String::from)))
    };
    let topics: super::wire::Result<Vec<_>> = described.members.iter().map(|member| topics(&member.metadata)).collect();
    Ok(topics.ok().map(|topics| topics.concat()))
}

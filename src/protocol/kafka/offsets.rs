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

/// OffsetDelete (key 47). The group is looked at in the step that deletes: nobody can subscribe in between.
pub(super) fn offset_delete(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let group = r.string()?;
    let topics = r.array(|r| Ok((r.string()?, r.array(Reader::i32)?)))?;
    let broker = call.broker;
    let known = |name: &str, index: i32| {
        let index = partition_index(index);
        broker.leader_epoch(name, index).map(|_| index).map_err(|error| error.code())
    };
    let known: Vec<Vec<Result<u32, Code>>> =
        topics.iter().map(|(name, indexes)| indexes.iter().map(|&index| known(name, index)).collect()).collect();
    let mut partitions: Vec<(Arc<str>, u32)> = Vec::new();
    for ((name, _), known) in topics.iter().zip(&known) {
        let topic: Arc<str> = (*name).into();
        partitions.extend(known.iter().flatten().map(|&index| (topic.clone(), index)));
    }
    let deleted = broker.delete_offsets(group, &partitions).map_err(|error| error.code());
    let code = deleted.as_ref().map_or_else(|code| *code, |_| Code::None);
    tell(call.explained, || {
        let partitions = partitions.iter().map(|(topic, index)| format!("{topic}/{index}"));
        format!("group {group} deletes its offsets of {}: {code:?}", shown_list(partitions))
    });
    let mut w = call.respond();
    w.i16(code.into());
    w.i32(0);
    let read = deleted.unwrap_or_default();
    let told = if code == Code::None { &topics[..] } else { &[] };
    w.array(told.iter().zip(&known), |w, ((name, indexes), known)| {
        w.string(name);
        w.array(indexes.iter().zip(known), |w, (&index, known)| {
            w.i32(index);
            let code = match known {
                _ if read.contains(*name) => Code::GroupSubscribedToTopic,
                Ok(_) => Code::None,
                Err(code) => *code,
            };
            w.i16(code.into());
        });
    });
    Ok(())
}

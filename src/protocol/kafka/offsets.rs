//! How far groups have read: OffsetCommit, TxnOffsetCommit, OffsetFetch, OffsetDelete.

use super::{
    Call, Code, OFFSET_COMMIT, Stop, number_of, partition_index, refused, shown_list, tell,
    topic_ref::TopicRef,
    transactions::{if_new, read_identity},
    wire::{ITEM, Reader, Writer},
};
use crate::{
    broker::{
        self, Broker, CommitOutcome, Committed, Error, IfAbsent, LogWrite, OffsetCommit, ResourceName,
        group::{Committer, Generation, classic::Sender},
    },
    protocol::connection::Output,
    security::Operation,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A partition of an OffsetCommit.
struct Asked<'a> {
    index: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: &'a str,
}

/// OffsetCommits whose answers are written but not sent, since they are not durable yet: requests that arrived together share one
/// sync. Nothing is sent before [`make_durable`](Self::make_durable).
#[derive(Debug, Default)]
pub(super) struct PendingCommits(Vec<PendingCommit>);

#[derive(Debug)]
struct PendingCommit {
    written: LogWrite,
    /// Where in the output the codes are that say it was committed.
    codes_at: Vec<usize>,
    /// Whether the answer says of something else that it was refused.
    refused: bool,
}

impl PendingCommits {
    /// Makes all of them durable. If one cannot be, its answer says so, and it counts as refused.
    pub(super) fn make_durable(&mut self, broker: &Broker, output: &mut Output<'_>) {
        for PendingCommit { written, codes_at, refused } in self.0.drain(..) {
            if let Err(error) = written.make_durable() {
                let code = i16::from(error.code()).to_be_bytes();
                codes_at.into_iter().for_each(|at| output.bytes[at..at + 2].copy_from_slice(&code));
                let number = number_of(OFFSET_COMMIT).expect("it stands in the table");
                broker.metrics().kafka.row(number).errors.add((!refused).into());
            }
        }
    }
}

/// The topics of a request that commits offsets, and what becomes of each partition in it.
struct Commit<'a> {
    topics: Vec<(TopicRef<'a>, Vec<Asked<'a>>)>,
    /// A code for each partition, in order.
    codes: Vec<Code>,
}

impl<'a> Commit<'a> {
    /// Reads them; a version from `epochs_from` on says leader epochs, too, and one from `ids_from` on the topics' ids.
    fn read(r: &mut Reader<'a>, epochs_from: i16, ids_from: i16) -> super::wire::Result<Commit<'a>> {
        let topics = r.array("topics", |r| {
            let name = TopicRef::read(r, "name", ids_from)?;
            let partitions = r.array("partitions", |r| {
                let (index, offset) = (r.i32("partition_index")?, r.i64("committed_offset")?);
                let leader_epoch = if r.version >= epochs_from { r.i32("committed_leader_epoch")? } else { -1 };
                let metadata = r.nullable_string("committed_metadata")?.unwrap_or_default();
                r.tags()?;
                Ok(Asked { index, offset, leader_epoch, metadata })
            })?;
            r.tags()?;
            Ok((name, partitions))
        })?;
        Ok(Commit { topics, codes: Vec::new() })
    }

    /// Refuses the unknown partitions, as Kafka does before the group looks at the member. Answers the others.
    fn check(&mut self, broker: &Broker) -> Vec<OffsetCommit> {
        let (timestamp_ms, mut offsets) = (broker.now_ms(), Vec::new());
        for (name, partitions) in &self.topics {
            let found = name.find(broker, Operation::Read).map(|topic| Arc::<str>::from(topic.name()));
            for &Asked { index, offset, leader_epoch, metadata } in partitions {
                let partition = partition_index(index);
                let there = found.clone().and_then(|topic| {
                    broker.find_partition_to(Operation::Read, &topic, partition)?;
                    Ok(topic)
                });
                self.codes.push(there.as_ref().map_or_else(|refusal| refusal.code, |_| Code::None));
                if let Ok(topic) = there {
                    let committed = Committed { offset, leader_epoch, metadata: metadata.into(), timestamp_ms };
                    offsets.push(OffsetCommit { topic, partition, committed });
                }
            }
        }
        offsets
    }

    /// Refuses all of them.
    fn refuse(&mut self, code: Code) -> Vec<OffsetCommit> {
        self.codes = self.topics.iter().flat_map(|(_, partitions)| partitions).map(|_| code).collect();
        Vec::new()
    }

    /// Notes what became of those that [`check`](Self::check) answered.
    fn done(&mut self, outcomes: &broker::Result<Vec<broker::Result<()>>>) {
        let known = self.codes.iter_mut().filter(|code| **code == Code::None);
        match outcomes {
            Ok(outcomes) => known.zip(outcomes).for_each(|(code, outcome)| {
                *code = outcome.as_ref().map_or_else(Error::code, |()| Code::None);
            }),
            Err(error) => known.for_each(|code| *code = error.code()),
        }
    }

    /// Writes the codes. Answers where in the output those are that say it was committed.
    fn write(&self, w: &mut Writer<'_>) -> Vec<usize> {
        let (mut codes, mut codes_at) = (self.codes.iter(), Vec::new());
        w.array("topics", self.topics.iter(), |w, (name, partitions)| {
            name.write(w, "name");
            w.array("partitions", partitions.iter(), |w, asked| {
                let code = *codes.next().expect("each partition has one");
                w.i32("partition_index", asked.index);
                if code == Code::None {
                    codes_at.push(w.out.len());
                }
                w.i16("error_code", code.into());
                w.tags();
            });
            w.tags();
        });
        codes_at
    }

    /// What is committed, in words.
    fn shown(&self) -> String {
        let all = self.topics.iter().flat_map(|(name, partitions)| partitions.iter().map(move |asked| (name, asked)));
        let all: Vec<String> = all.map(|(name, asked)| format!("{name}/{} at {}", asked.index, asked.offset)).collect();
        shown_list(all.into_iter())
    }
}

/// OffsetCommit (key 8). What cannot be committed is refused; the rest is committed together.
pub(super) fn offset_commit(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let (group, generation, member_id) =
        (r.string("group_id")?, r.i32("generation_id_or_member_epoch")?, r.string("member_id")?);
    let instance_id = if r.version >= 7 { r.nullable_string("group_instance_id")? } else { None };
    if (2..=4).contains(&r.version) {
        r.i64("retention_time_ms")?;
    }
    let mut commit = Commit::read(r, 6, 10)?;
    r.tags()?;
    let may = call.broker.ask(Operation::Read, ResourceName::group(group));
    let offsets = match may {
        Ok(_) => commit.check(call.broker),
        Err(error) => commit.refuse(error.code()),
    };
    let generation = Generation { number: generation, is_epoch: r.version >= 9 };
    let committed = match offsets.is_empty() {
        true => Ok(CommitOutcome { outcomes: vec![], written: None }),
        false => call.broker.commit_offsets(group, Sender { member_id, instance_id }, generation, offsets),
    };
    tell(call.explained, || {
        let refused = refused(&committed);
        format!("group {group} commits {}{refused}", commit.shown())
    });
    let (outcomes, written) = match committed {
        Ok(CommitOutcome { outcomes, written }) => (Ok(outcomes), written),
        Err(error) => (Err(error), None),
    };
    commit.done(&outcomes);
    let mut w = call.respond();
    if w.version >= 3 {
        w.throttle_time();
    }
    let codes_at = commit.write(&mut w);
    w.tags();
    let refused = call.refused;
    call.session.commits.0.extend(written.map(|written| PendingCommit { written, codes_at, refused }));
    Ok(())
}

/// TxnOffsetCommit (key 28): offsets that take effect with the transaction (KIP-447). Since version 5 the group is added to it by
/// this; before, AddOffsetsToTxn did so.
pub(super) fn txn_offset_commit(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let (transactional_id, group) = (r.string("transactional_id")?, r.string("group_id")?);
    let producer = read_identity(r)?;
    let committer = match r.version {
        ..3 => Committer::Anybody,
        _ => match (r.i32("generation_id")?, r.string("member_id")?, r.nullable_string("group_instance_id")?) {
            (-1, "", None) => Committer::Anybody,
            (generation, member_id, instance_id) => {
                Committer::Member { sender: Sender { member_id, instance_id }, generation }
            }
        },
    };
    let mut commit = Commit::read(r, 2, i16::MAX)?;
    r.tags()?;
    let if_absent = match r.version {
        ..4 => IfAbsent::Refuse,
        4 => IfAbsent::AskToAbort,
        5.. => if_new(call.broker),
    };
    let may = call.broker.ask(Operation::Write, ResourceName::transactional_id(transactional_id));
    let may = may.and_then(|_| call.broker.ask(Operation::Read, ResourceName::group(group)));
    let offsets = match may {
        Ok(_) => commit.check(call.broker),
        Err(error) => commit.refuse(error.code()),
    };
    let outcomes = match offsets.is_empty() {
        true => Ok(vec![]),
        false => {
            call.broker.commit_offsets_in_transaction(transactional_id, producer, if_absent, group, committer, offsets)
        }
    };
    tell(call.explained, || {
        let refused = refused(&outcomes);
        format!("group {group} commits {} in the transaction of {transactional_id}{refused}", commit.shown())
    });
    commit.done(&outcomes);
    let mut w = call.respond();
    w.throttle_time();
    commit.write(&mut w);
    w.tags();
    Ok(())
}

/// The topics and partitions in a request, each once, since an answer is many times larger. `None`: all that the group has
/// committed.
type Wanted<'a> = Option<BTreeMap<TopicRef<'a>, BTreeSet<i32>>>;

/// What is asked about one group.
#[derive(Default)]
struct Fetch<'a> {
    wanted: Wanted<'a>,
    /// The member that asks, with the epoch that it was told. Who names none may ask, too.
    members: BTreeSet<(&'a str, i32)>,
}

/// OffsetFetch (key 9), since version 8 for several groups at once.
pub(super) fn offset_fetch(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    fn wanted<'a>(r: &mut Reader<'a>) -> super::wire::Result<Wanted<'a>> {
        let mut wanted = BTreeMap::<TopicRef<'a>, BTreeSet<i32>>::new();
        let topics = r.nullable_array("topics", |r| {
            wanted
                .entry(TopicRef::read(r, "name", 10)?)
                .or_default()
                .extend(r.array("partition_indexes", |r| r.i32(ITEM))?);
            r.tags()
        })?;
        Ok(topics.map(|_| wanted))
    }
    // Each group is answered once, with everything that is asked about it.
    let mut groups: BTreeMap<&str, Fetch<'_>> = BTreeMap::new();
    if r.version < 8 {
        groups.insert(r.string("group_id")?, Fetch { wanted: wanted(r)?, ..Fetch::default() });
    } else {
        r.array("groups", |r| {
            let group = r.string("group_id")?;
            let member =
                if r.version >= 9 { (r.nullable_string("member_id")?, r.i32("member_epoch")?) } else { (None, -1) };
            let more = wanted(r)?;
            let fetch = groups
                .entry(group)
                .or_insert_with(|| Fetch { wanted: Some(BTreeMap::new()), members: BTreeSet::new() });
            fetch.members.extend(member.0.map(|id| (id, member.1)));
            match (&mut fetch.wanted, more) {
                (Some(all), Some(more)) => more.into_iter().for_each(|(topic, indexes)| {
                    all.entry(topic).or_default().extend(indexes);
                }),
                (all, _) => *all = None,
            }
            r.tags()
        })?;
    }
    let require_stable = r.version >= 7 && r.bool("require_stable")?;
    r.tags()?;
    tell(call.explained, || {
        let names = groups.keys().map(|group| group.to_string());
        format!("how far group {} has read", shown_list(names))
    });
    let broker = call.broker;
    let mut w = call.respond();
    if w.version >= 3 {
        w.throttle_time();
    }
    if w.version < 8 {
        let (group, fetch) = groups.into_iter().next().expect("one was read");
        let code = write_offsets(&mut w, broker, group, fetch, require_stable);
        if w.version >= 2 {
            w.i16("error_code", code.into());
        }
    } else {
        w.array("groups", groups.into_iter(), |w, (group, fetch)| {
            w.string("group_id", group);
            let code = write_offsets(w, broker, group, fetch, require_stable);
            w.i16("error_code", code.into());
            w.tags();
        });
    }
    w.tags();
    Ok(())
}

/// Writes a group's offsets by topic; one that was not committed is -1. Who `require_stable` ones is not shown what an open
/// transaction may change, and asks again (KIP-447).
fn write_offsets(w: &mut Writer<'_>, broker: &Broker, group: &str, fetch: Fetch<'_>, require_stable: bool) -> Code {
    let Fetch { wanted, members } = fetch;
    let may = members.iter().try_for_each(|(member_id, epoch)| broker.may_fetch_offsets(group, member_id, *epoch));
    let offsets = match may.and_then(|()| broker.group_offsets(group)) {
        Err(error) if w.version >= 2 => {
            w.empty_array("topics");
            return error.code();
        }
        offsets => offsets,
    };
    let code = offsets.as_ref().map_or_else(broker::Error::code, |_| Code::None);
    let offsets = offsets.unwrap_or_default();
    let mut topics: Vec<(TopicRef<'_>, Option<Arc<str>>, BTreeSet<i32>)> = Vec::new();
    let mut all: BTreeMap<Arc<str>, BTreeSet<i32>> = BTreeMap::new();
    match wanted {
        Some(wanted) => topics.extend(wanted.into_iter().map(|(topic, indexes)| match topic {
            TopicRef::Name(name) => (topic, Some(name.into()), indexes),
            TopicRef::Id(_) => {
                (topic, topic.find(broker, Operation::Describe).ok().map(|found| found.name().into()), indexes)
            }
        })),
        None => {
            for (topic, index) in offsets.committed().keys() {
                all.entry(topic.clone()).or_default().insert(*index as i32);
            }
            for (name, indexes) in all.iter().filter(|(name, _)| broker.may_describe(name)) {
                let id = || broker.find_topic_to(Operation::Describe, name).map(|topic| TopicRef::Id(topic.id()));
                let Ok(topic) = (if w.version < 10 { Ok(TopicRef::Name(name)) } else { id() }) else { continue };
                topics.push((topic, Some(name.clone()), indexes.clone()));
            }
        }
    }
    w.array("topics", topics.iter(), |w, (topic, name, indexes)| {
        topic.write(w, "name");
        w.array("partitions", indexes.iter(), |w, &index| {
            let key = name.clone().map(|name| (name, partition_index(index)));
            let (committed, code) = match &key {
                None => (None, Code::UnknownTopicId),
                Some((name, _)) if code == Code::None && !broker.may_describe(name) => {
                    (None, Code::TopicAuthorizationFailed)
                }
                Some(key) => match offsets.stable(key) {
                    Err(error) if require_stable => (None, error.code()),
                    _ => (offsets.committed().get(key), code),
                },
            };
            w.i32("partition_index", index);
            w.i64("committed_offset", committed.map_or(-1, |committed| committed.offset));
            if w.version >= 5 {
                w.i32("committed_leader_epoch", committed.map_or(-1, |committed| committed.leader_epoch));
            }
            w.nullable_string("metadata", Some(committed.map_or("", |committed| &committed.metadata)));
            w.i16("error_code", code.into());
            w.tags();
        });
        w.tags();
    });
    code
}

/// OffsetDelete (key 47). Checking the group and deleting are one step, so that nobody can subscribe in between.
pub(super) fn offset_delete(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let group = r.string("group_id")?;
    let topics = r.array("topics", |r| Ok((r.string("name")?, r.array("partitions", |r| r.i32(ITEM))?)))?;
    let broker = call.broker;
    let known = |name: &str, index: i32| {
        let index = partition_index(index);
        let found = broker.find_partition_to(Operation::Read, name, index);
        found.map(|_| index).map_err(|error| error.code())
    };
    let known: Vec<Vec<Result<u32, Code>>> =
        topics.iter().map(|(name, indexes)| indexes.iter().map(|&index| known(name, index)).collect()).collect();
    let mut partitions: Vec<(Arc<str>, u32)> = Vec::new();
    for ((name, _), known) in topics.iter().zip(&known) {
        let topic: Arc<str> = (*name).into();
        partitions.extend(known.iter().flatten().map(|&index| (topic.clone(), index)));
    }
    let deleted = match group {
        "" => Err(Code::InvalidGroupId),
        _ => broker.delete_offsets(group, &partitions).map_err(|error| error.code()),
    };
    let code = deleted.as_ref().map_or_else(|code| *code, |_| Code::None);
    tell(call.explained, || {
        let partitions = partitions.iter().map(|(topic, index)| format!("{topic}/{index}"));
        format!("group {group} deletes its offsets of {}: {code:?}", shown_list(partitions))
    });
    let mut w = call.respond();
    w.i16("error_code", code.into());
    w.throttle_time();
    let read = deleted.unwrap_or_default();
    let told = topics.iter().zip(&known).filter(|(_, known)| code == Code::None && !known.is_empty());
    w.array("topics", told.collect::<Vec<_>>().iter(), |w, ((name, indexes), known)| {
        w.string("name", name);
        w.array("partitions", indexes.iter().zip(*known), |w, (&index, known)| {
            w.i32("partition_index", index);
            let code = match known {
                Ok(_) if read.contains(*name) => Code::GroupSubscribedToTopic,
                Ok(_) => Code::None,
                Err(code) => *code,
            };
            w.i16("error_code", code.into());
        });
    });
    Ok(())
}

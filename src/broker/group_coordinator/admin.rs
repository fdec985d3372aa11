//! Administering groups: listing them, how far behind they are, and setting or deleting what they committed.
//!
//! None of this takes away what a member relies on.

#[cfg(feature = "http")]
use super::{GroupCell, Reading};
use super::{GroupState, OffsetChange, check_group_name, make_durable};
use crate::{
    broker::{
        Broker, Committed, Error, Permit, Result, committed_offsets,
        group::{Description, Group, GroupType, Summary},
        group_offsets::{GroupOffsets, Offsets},
    },
    log::record::shown,
    security::Operation,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A line of a list of groups.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSummary {
    /// The group's name.
    pub name: Arc<str>,
    /// Kafka's name of the state.
    pub state: &'static str,
    /// Who assigns in it.
    pub group_type: GroupType,
    /// What kind of group it is; empty if no member ever said.
    pub protocol_type: String,
    /// How many members it has.
    pub members: usize,
}

/// A group, as whoever watches the broker sees it.
#[cfg(feature = "http")]
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedGroup {
    /// Its name.
    pub name: Arc<str>,
    /// How many members it has.
    pub members: usize,
    /// How far it has read.
    pub offsets: Vec<ObservedOffset>,
}

/// How far a group has read a partition, as whoever watches the broker sees it.
#[cfg(feature = "http")]
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedOffset {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// What it committed. Of a share group, up to where everything is done.
    pub committed: i64,
    /// How many records beyond that are done, in a share group.
    pub done: u64,
}

/// How far a group is behind in a partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Lag {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// What was committed, if anything. Of a share group, up to where everything is done.
    pub committed: Option<Committed>,
    /// How many records beyond that are done, in a share group.
    pub done: u64,
    /// How many records its members hold, in a share group; `None`: it is none.
    pub in_flight: Option<u64>,
    /// Whether an open transaction may change what was committed.
    pub is_pending: bool,
    /// The end of the partition.
    pub end: u64,
}

impl Lag {
    /// How many offsets are left to read, if anything was committed.
    pub fn lag(&self) -> Option<u64> {
        let committed = self.committed.as_ref()?.offset.max(0) as u64;
        Some(self.end.saturating_sub(committed).saturating_sub(self.done))
    }
}

/// What of a group is to be deleted, and what is answered then.
struct Deleted<T> {
    /// Offsets.
    offsets: Vec<(Arc<str>, u32)>,
    /// Whether the group itself.
    group: bool,
    answer: T,
}

impl Broker {
    /// All groups, by name.
    pub fn groups(&self) -> Result<Vec<GroupSummary>> {
        let state = self.state(&Permit::for_everybody());
        let all = self.ask_cluster(Operation::Describe).is_ok();
        let (awake, resting) = state.all_groups()?;
        let mut groups = BTreeMap::new();
        for name in awake {
            let summary = state.change_named(&name, |state, _| state.group.summary())?;
            groups.extend(summary.map(|(cell, summary)| (cell.name.clone(), summary)));
        }
        if let Some(log) = state.offsets_log()?.filter(|_| !resting.is_empty()) {
            committed_offsets::read_groups(&log, &resting, |name, group| {
                groups.entry(name.into()).or_insert_with(|| Group::restore(0, 0, group.saved).summary());
            })?;
        }
        let named = |(name, Summary { group_type, state, protocol_type, members })| GroupSummary {
            name,
            state,
            group_type,
            protocol_type,
            members,
        };
        let seen = |name: &str| all || self.ask_group(Operation::Describe, name).is_ok();
        Ok(groups.into_iter().filter(|(name, _)| seen(name)).map(named).collect())
    }

    /// All groups but those without members and offsets. Nothing of them is changed by that, not even what time asks of them.
    #[cfg(feature = "http")]
    pub fn observe_groups(&self) -> Result<Vec<ObservedGroup>> {
        let read = |name: &str| -> Result<Vec<ObservedOffset>> {
            let offsets = self.share_offsets(name)?.into_iter().filter_map(|shared| {
                let (committed, done) = (shared.done_to()? as i64, shared.done_beyond());
                Some(ObservedOffset { topic: shared.topic, partition: shared.partition, committed, done })
            });
            Ok(offsets.collect())
        };
        let observed = |cell: Arc<GroupCell>| -> Result<ObservedGroup> {
            let state = cell.lock();
            // One that went to rest meanwhile has nothing but what its members read.
            let members = if state.gone { 0 } else { state.group.member_count() };
            let committed = state.offsets.committed().iter().filter(|_| !state.gone);
            let mut offsets: Vec<_> = committed
                .map(|((topic, partition), committed)| ObservedOffset {
                    topic: topic.clone(),
                    partition: *partition,
                    committed: committed.offset,
                    done: 0,
                })
                .collect();
            drop(state);
            offsets.extend(read(&cell.name)?);
            Ok(ObservedGroup { name: cell.name.clone(), members, offsets })
        };
        let Reading { awake, resting } = self.state(&Permit::for_everybody()).groups_with_offsets()?;
        let seen = |name: &str| self.ask_group(Operation::Describe, name).is_ok();
        let mut groups = awake.into_iter().filter(|cell| seen(&cell.name)).map(observed).collect::<Result<Vec<_>>>()?;
        for name in resting.into_iter().filter(|name| seen(name)) {
            groups.push(ObservedGroup { members: 0, offsets: read(&name)?, name });
        }
        groups.iter_mut().for_each(|group| group.offsets.retain(|offset| self.may_describe(&offset.topic)));
        groups.retain(|group| group.members > 0 || !group.offsets.is_empty());
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(groups)
    }

    /// A group, if there is one of this name.
    pub fn group(&self, name: &str) -> Result<Option<Description>> {
        let describe =
            |state: &mut GroupState| Description { unsaved: state.line.is_refused, ..state.group.describe() };
        let permit = self.ask_group(Operation::Describe, name)?;
        let described = self.state(&permit).change_named(name, |state, _| describe(state))?;
        Ok(described.map(|(_, described)| described))
    }

    /// What a group has committed; nothing if there is no such group.
    pub fn committed_offsets(&self, name: &str) -> Result<Offsets> {
        let permit = self.ask_group(Operation::Describe, name)?;
        let offsets = self.state(&permit).change_named(name, |state, _| state.offsets.committed().clone())?;
        Ok(offsets.map(|(_, offsets)| offsets).unwrap_or_default())
    }

    /// What a group has committed, and where an open transaction may change that; nothing if there is no such group.
    pub fn group_offsets(&self, name: &str) -> Result<GroupOffsets> {
        let permit = self.ask_group(Operation::Describe, name)?;
        let offsets = self.state(&permit).change_named(name, |state, _| state.offsets.clone())?;
        Ok(offsets.map(|(_, offsets)| offsets).unwrap_or_default())
    }

    /// How far a group is behind, in every partition of which it committed an offset or a member owns another; a share group, where
    /// somebody has read.
    pub fn lag(&self, name: &str) -> Result<Vec<Lag>> {
        let offsets = self.group_offsets(name)?;
        let group = self.group(name)?.filter(|group| group.group_type != GroupType::Share);
        let owned = group.into_iter().flat_map(|group| group.members).flat_map(|member| member.owned);
        let mut keys: BTreeSet<_> = owned.map(|owned| (owned.topic, owned.partition)).collect();
        keys.extend(offsets.committed().keys().cloned());
        let lag = |(topic, partition): (Arc<str>, u32)| {
            let end = self
                .topic_for(Operation::Describe, &topic)
                .and_then(|topic| topic.partition(partition)?.size())
                .ok()?
                .high_watermark;
            let key = (topic, partition);
            let (committed, is_pending) = (offsets.committed().get(&key).cloned(), offsets.is_pending(&key));
            Some(Lag { topic: key.0, partition, committed, done: 0, in_flight: None, is_pending, end })
        };
        let lags = keys.into_iter().filter_map(lag);
        let shared = self.share_offsets(name)?.into_iter().filter_map(|offset| {
            let end = self
                .topic_for(Operation::Describe, &offset.topic)
                .and_then(|topic| topic.partition(offset.partition)?.size());
            let committed = offset.done_to().map(|done_to| Committed {
                offset: done_to as i64,
                leader_epoch: offset.leader_epoch as i32,
                metadata: String::new(),
                timestamp_ms: -1,
            });
            let done = offset.done_beyond();
            let (topic, partition) = (offset.topic, offset.partition);
            let (in_flight, end) = (Some(offset.in_flight), end.ok()?.high_watermark);
            Some(Lag { topic, partition, committed, done, in_flight, is_pending: false, end })
        });
        Ok(lags.chain(shared).collect())
    }

    /// Sets offsets of a group without members; it is made if need be.
    pub fn reset_offsets(&self, name: &str, offsets: &[(Arc<str>, u32, u64)]) -> Result<()> {
        self.set_offsets(name, offsets)?;
        for (topic, partition, offset) in offsets {
            self.note_offset(name, topic, *partition, Some(*offset));
        }
        Ok(())
    }

    fn set_offsets(&self, name: &str, offsets: &[(Arc<str>, u32, u64)]) -> Result<()> {
        let permit = self.ask_group(Operation::Read, name)?;
        let broker = self.state(&permit);
        let is_share = broker.change_named(name, |state, _| state.group.is_share())?;
        if is_share.is_some_and(|(_, is_share)| is_share) {
            self.may_reset_offsets(name)?;
            let of = |&(ref topic, partition, offset): &(Arc<str>, u32, u64)| {
                Ok((self.find_partition(topic, partition)?, offset))
            };
            let all = offsets.iter().map(of).collect::<Result<Vec<_>>>()?;
            let write = |(of, offset): &(_, u64)| self.set_share_offset(name, of, Some(*offset));
            let written: Vec<_> = all.iter().map(write).collect();
            return written.into_iter().try_for_each(|written| written?.make_durable());
        }
        let log = broker.offsets_log_or_new()?;
        let now_ms = self.now_ms();
        let (_, written) = broker.change_or_new(name, |state, _| {
            state.group.keeps_offsets()?;
            check_empty(name, state)?;
            let change = |&(ref topic, partition, offset): &(Arc<str>, u32, u64)| {
                let committed = self.at(topic, partition, offset, now_ms)?;
                Ok(OffsetChange { topic: topic.clone(), partition, committed: Some(committed) })
            };
            let changes = offsets.iter().map(change).collect::<Result<_>>()?;
            broker.write_changes(&log, name, state, changes, false)
        })?;
        make_durable(written?)
    }

    /// Whether offsets of a group can be reset, as far as the group has a say in it.
    pub fn may_reset_offsets(&self, name: &str) -> Result<()> {
        check_group_name(name)?;
        let permit = self.ask_group(Operation::Read, name)?;
        let checked = self.state(&permit).change_named(name, |state, _| check_empty(name, state))?;
        checked.map_or(Ok(()), |(_, checked)| checked)
    }

    /// Deletes a group without members, with all that it committed and all that is pending, as Kafka does, and with how far a share
    /// group of its name has come. That goes first: a new group of that name finds nothing of one that is gone. Who deletes again
    /// what is left after an error or a crash deletes the rest.
    pub fn delete_group(&self, name: &str) -> Result<()> {
        self.delete_all_of(name)?;
        self.state(&Permit::for_everybody()).forget_joined(name);
        self.note("group-deleted", &[("group", &name)]);
        Ok(())
    }

    fn delete_all_of(&self, name: &str) -> Result<()> {
        let permit = self.ask_group(Operation::Delete, name)?;
        let state = self.state(&permit);
        if state.find_group(name)?.is_none() && state.has_shares(name).unwrap_or(false) {
            return state.forget_shares_of(name);
        }
        self.delete_offsets_by(name, |group| {
            check_empty(name, group)?;
            match state.load_shares() {
                Err(error) if group.group.is_share() => return Err(error),
                Err(error) => state.env.tell(&format!("share groups cannot be read back: {error}")),
                // Still under the group's lock: nobody joins it in between.
                Ok(()) => state.forget_shares_of(name)?,
            }
            Ok(Deleted { offsets: group.offsets.partitions().into_iter().collect(), group: true, answer: () })
        })
    }

    /// Deletes a group's offsets of these partitions, but for topics that its members subscribe to, which it answers. An
    /// offset that was never committed is no error.
    pub fn delete_offsets(&self, name: &str, partitions: &[(Arc<str>, u32)]) -> Result<BTreeSet<Arc<str>>> {
        let read = self.delete_unread(name, partitions)?;
        for (topic, partition) in partitions.iter().filter(|(topic, _)| !read.contains(topic)) {
            self.note("offset-deleted", &[("group", &name), ("partition", &format!("{topic}/{partition}"))]);
        }
        Ok(read)
    }

    fn delete_unread(&self, name: &str, partitions: &[(Arc<str>, u32)]) -> Result<BTreeSet<Arc<str>>> {
        self.delete_offsets_by(name, |state| {
            state.group.keeps_offsets()?;
            let topics = || partitions.iter().map(|(topic, _)| &**topic);
            let unread = state.group.unread(topics()).ok_or_else(|| Error::NonEmptyGroup(shown(name.as_bytes())))?;
            let (delete, read): (Vec<_>, Vec<_>) =
                partitions.iter().cloned().partition(|(topic, _)| unread.contains(&**topic));
            let answer = read.into_iter().map(|(topic, _)| topic).collect();
            Ok(Deleted { offsets: delete, group: false, answer })
        })
    }

    /// Deletes the offsets that `which` names, which looks at the group in the same step; answers what else it answers.
    fn delete_offsets_by<T>(&self, name: &str, which: impl FnOnce(&mut GroupState) -> Result<Deleted<T>>) -> Result<T> {
        let unknown = || Error::UnknownGroup(shown(name.as_bytes()));
        let permit = self.ask_group(Operation::Delete, name)?;
        let broker = self.state(&permit);
        broker.find_group(name)?.ok_or_else(unknown)?;
        let log = broker.offsets_log_or_new()?;
        let deleted = broker.change_named(name, |state, _| {
            let Deleted { offsets, group, answer } = which(state)?;
            let keys: BTreeSet<_> = offsets.into_iter().filter(|key| state.offsets.has(key)).collect();
            let changes = keys.into_iter().map(OffsetChange::deletion).collect();
            let written = broker.write_changes(&log, name, state, changes, group)?;
            Ok::<_, Error>((written, answer))
        })?;
        let (written, answer) = deleted.ok_or_else(unknown)?.1?;
        make_durable(written)?;
        Ok(answer)
    }

    /// An offset as it is committed now.
    pub(super) fn at(&self, topic: &str, partition: u32, offset: u64, timestamp_ms: i64) -> Result<Committed> {
        let leader_epoch = self.topic_for(Operation::Read, topic)?.partition(partition)?.leader_epoch() as i32;
        Ok(Committed { offset: offset as i64, leader_epoch, metadata: String::new(), timestamp_ms })
    }
}

/// Whether a group has no members.
pub(super) fn check_empty(name: &str, state: &GroupState) -> Result<()> {
    match state.group.empty_since() {
        Some(_) => Ok(()),
        None => Err(Error::NonEmptyGroup(shown(name.as_bytes()))),
    }
}

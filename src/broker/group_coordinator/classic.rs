//! What Kafka's classic members ask of the coordinator. A request that waits is woken through its connection's waiter.

use super::{GroupState, LogWrite, OffsetChange, SESSION_MS_MAX, Wait, Waiting};
use crate::{
    broker::{
        Broker, Committed, Error, Result, Waiter,
        group::{
            Answer, Generation,
            classic::{JoinRequest, Joined, Reply, Sender, SyncRequest},
        },
    },
    security::Operation,
};
use std::sync::Arc;

/// The longest metadata that a client may keep with an offset, in UTF-16 units: Kafka's `offset.metadata.max.bytes`, which
/// counts so.
const METADATA_UNITS_MAX: usize = 4096;

/// One offset of an OffsetCommit.
#[derive(Clone, Debug)]
pub struct OffsetCommit {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// What is to be committed.
    pub committed: Committed,
}

/// What became of an OffsetCommit.
#[derive(Debug)]
pub struct CommitOutcome {
    /// Of each offset, in order.
    pub outcomes: Vec<Result<()>>,
    /// What was written for those that were taken; it is made durable before they are answered.
    pub written: Option<LogWrite>,
}

impl Broker {
    /// JoinGroup. It waits until all members have joined.
    pub fn join_group(
        &self,
        group: &str,
        request: JoinRequest,
        waiter: &Arc<Waiter>,
        wait: Wait<'_>,
    ) -> Result<Joined> {
        let permit = self.ask_group(Operation::Read, group)?;
        let broker = self.state(&permit);
        let least = self.config().group_min_session.as_millis() as u64;
        if !(least..=SESSION_MS_MAX).contains(&request.session_timeout_ms) {
            let why =
                format!("the session is {} ms; it must be {least} to {SESSION_MS_MAX}", request.session_timeout_ms);
            return Err(Error::InvalidSessionTimeout(why));
        }
        if !request.member_id.is_empty() && broker.find_group(group)?.is_none() {
            return Err(Error::UnknownMemberId);
        }
        let (cell, reply) = broker.change_or_new(group, |state, now| {
            let joined = state.group.join_assigned(now, &request, || broker.counted_topics());
            let reply = joined.map_or_else(|| state.group.join_group(now, request), |joined| joined.map(Reply::Now));
            reply.map(|reply| state.wait_if_later(reply, waiter))
        })?;
        match reply? {
            Reply::Now(joined) => {
                // It may have taken over a member's assignment.
                broker.sync_line(&cell);
                Ok(joined)
            }
            Reply::Later(ticket) => match broker.wait_for(&cell, ticket, wait) {
                Some(Answer::Joined(joined)) => permit.check().and(joined),
                _ => Err(Error::RebalanceInProgress),
            },
        }
    }

    /// SyncGroup. It waits for the leader's.
    pub fn sync_group(
        &self,
        group: &str,
        request: SyncRequest<'_>,
        waiter: &Arc<Waiter>,
        wait: Wait<'_>,
    ) -> Result<Vec<u8>> {
        let permit = self.ask_group(Operation::Read, group)?;
        let broker = self.state(&permit);
        let replied = broker.change_named(group, |state, now| {
            let reply = state.group.sync_group(now, request);
            reply.map(|reply| state.wait_if_later(reply, waiter))
        })?;
        let (cell, reply) = replied.ok_or(Error::UnknownMemberId)?;
        let assigned = match reply? {
            Reply::Now(assigned) => assigned,
            Reply::Later(ticket) => match broker.wait_for(&cell, ticket, wait) {
                Some(Answer::Synced(assigned)) => permit.check().and(assigned)?,
                _ => return Err(Error::RebalanceInProgress),
            },
        };
        broker.sync_line(&cell);
        Ok(assigned)
    }

    /// Heartbeat.
    pub fn heartbeat(&self, group: &str, sender: Sender<'_>, generation: i32) -> Result<()> {
        self.of_member(group, |state, now| state.group.heartbeat(now, sender, generation))
    }

    /// LeaveGroup, of one member.
    pub fn leave_group(&self, group: &str, sender: Sender<'_>) -> Result<()> {
        self.of_member(group, |state, now| state.group.leave_group(now, sender))
    }

    /// OffsetCommit. Answers what becomes of each, in order: those whose partition is there and whose metadata is not too long
    /// are committed together, and made durable by the caller, before it answers. A sender without member id and with a negative
    /// generation is no member, and only keeps its offsets here.
    pub fn commit_offsets(
        &self,
        group: &str,
        sender: Sender<'_>,
        generation: impl Into<Generation>,
        offsets: Vec<OffsetCommit>,
    ) -> Result<CommitOutcome> {
        let generation = generation.into();
        let permit = self.ask_group(Operation::Read, group)?;
        let broker = self.state(&permit);
        if generation.number >= 0 && broker.find_group(group)?.is_none() {
            let why = || format!("generation {} of a group that is not there", generation.number);
            // As in Kafka: clients that know epochs are told what is wrong.
            return Err(if generation.is_epoch { Error::NotConsumerGroup } else { Error::IllegalGeneration(why()) });
        }
        let log = broker.offsets_log_or_new()?;
        let (_, done) = broker.change_or_new(group, |state, now| {
            state.group.may_commit(now, sender, generation)?;
            let checked: Vec<_> = offsets.iter().map(|offset| self.check_commit(offset)).collect();
            let taken = offsets.into_iter().zip(&checked).filter(|(_, checked)| checked.is_ok());
            let change = |OffsetCommit { topic, partition, committed }| {
                let committed = Some(committed);
                OffsetChange { topic, partition, committed }
            };
            let changes = taken.map(|(taken, _)| change(taken)).collect();
            let written = broker.write_changes(&log, group, state, changes, false)?;
            Ok(CommitOutcome { outcomes: checked, written })
        })?;
        done
    }

    pub(super) fn check_commit(&self, offset: &OffsetCommit) -> Result<()> {
        self.topic_for(Operation::Read, &offset.topic)?.partition(offset.partition)?;
        let (metadata, limit) = (&offset.committed.metadata, METADATA_UNITS_MAX);
        // No more units than bytes: the short ones need not be counted.
        if metadata.len() > limit {
            let units = metadata.encode_utf16().count();
            return if units > limit { Err(Error::MetadataTooLong { units, limit }) } else { Ok(()) };
        }
        Ok(())
    }

    fn of_member(&self, group: &str, change: impl FnOnce(&mut GroupState, u64) -> Result<()>) -> Result<()> {
        let permit = self.ask_group(Operation::Read, group)?;
        self.state(&permit).change_named(group, change)?.ok_or(Error::UnknownMemberId)?.1
    }
}

impl GroupState {
    /// Puts a waiter to the ticket, if the answer is not there yet.
    fn wait_if_later<T>(&mut self, reply: Reply<T>, waiter: &Arc<Waiter>) -> Reply<T> {
        if let Reply::Later(ticket) = reply {
            self.waiting.insert(ticket, Waiting { waiter: waiter.clone(), answer: None, until: None });
        }
        reply
    }
}

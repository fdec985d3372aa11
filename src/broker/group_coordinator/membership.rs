//! A membership in a consumer group, as a connection (in the library, a thread) holds it.
//!
//! ```text
//! poll    commit what the last poll returned (auto) ─► take what is free, let go what is to move ─► read
//!                                                             ▲                                      │
//!                 wait for records or other partitions ───────┘◄──────────────── nothing there ──────┤
//!                                                                                                    ▼
//!                                hand out, but only what is still owned ◄── end of the poll ◄─── something
//! ```
//!
//! - Records are handed out only if the member has owned the partition without a break since before they were read: so nobody
//!   else was handed them in this generation.
//! - A position is the offset to read next. It begins where the group committed, otherwise where `from` says. Polls and `seek`
//!   move it; a commit without arguments commits the positions that moved.
//! - Where a transaction's offset is pending the position is known when that has ended: until then there is nothing to read.
//! - Dropping a membership leaves the group without a commit.

use super::{
    GroupCell, GroupState, LogWrite, OffsetChange, OffsetCommit, Wait, Waiting, assigned_partition::AssignedPartition,
    join_options::JoinOptions, make_durable,
};
use crate::{
    broker::{
        Broker, BrokerState, Error, Partition, Permit, PollLimits, PolledRecord, Position, Result, Transaction, Waiter,
        group::{
            Ticket,
            consumer::{Assignment, MemberNumber, Owned, Subscription, member_id},
        },
        random,
        transaction::{Parts, ProducerIdentity},
    },
    log::{Chunk, Outcome},
    security::Operation,
};
use std::{collections::BTreeSet, sync::Arc, time::Instant};

/// A membership in a group.
#[derive(Debug)]
pub struct Membership {
    broker: Broker,
    /// To read in the group.
    permit: Permit,
    cell: Arc<GroupCell>,
    number: MemberNumber,
    /// What in its id nobody can guess.
    secret: u64,
    options: JoinOptions,
    generation: i32,
    partitions: Vec<AssignedPartition>,
    /// The partition that the next poll begins with.
    turn: usize,
}

/// How a poll waits for its first record.
pub struct PollWait<'a> {
    /// Whom to wake.
    pub waiter: &'a Arc<Waiter>,
    /// Until when.
    pub deadline: Option<Instant>,
    /// How.
    pub wait: Wait<'a>,
}

impl Broker {
    /// Whether a member could [`join`](Self::join) with this, as far as the group has no say in it.
    pub fn may_join(&self, topics: &[&str], options: &JoinOptions) -> Result<()> {
        options.check_session()?;
        let topics = topics.iter().map(|topic| self.topic_for(Operation::Read, topic)).collect::<Result<Vec<_>>>()?;
        if let Position::At(_) = options.from {
            let mut chunk = Chunk::default();
            let mut partitions = topics.iter().flat_map(|topic| topic.partitions());
            let view = options.view();
            partitions.try_for_each(|partition| options.from.resolve(view, &partition, &mut chunk).map(drop))?;
        }
        Ok(())
    }

    /// Joins a group: the broker gives the member a share of the partitions of `topics`.
    pub fn join(&self, group: &str, topics: &[&str], options: JoinOptions) -> Result<Membership> {
        let permit = self.ask_group(Operation::Read, group)?;
        self.may_join(topics, &options)?;
        let broker = self.state(&permit);
        if group.is_empty() {
            return Err(Error::InvalidGroup("a group needs a name".into()));
        }
        let topics: BTreeSet<_> = topics.iter().copied().collect();
        let secret = random::number();
        let (cell, joined) = broker.change_or_new(group, |state, now| {
            let counted =
                |topic: &&str| Ok((Arc::from(*topic), self.topic_for(Operation::Read, topic)?.partition_count()));
            let topics = topics.iter().map(counted).collect::<Result<_>>()?;
            let client = self.caller().name().into();
            let JoinOptions { session_ms: session_timeout_ms, assignor, .. } = options;
            state.group.upgrade(now, || broker.counted_topics());
            state.group.join(now, Subscription { topics, client, session_timeout_ms, assignor, secret })
        })?;
        let (number, assignment) = joined?;
        broker.sync_line(&cell);
        let (broker, generation, partitions) = (self.clone(), 0, vec![]);
        let mut member = Membership { broker, permit, cell, number, secret, options, generation, partitions, turn: 0 };
        member.take_up(assignment)?;
        // What `latest` and the like mean is decided now, not at the first poll.
        let known = member.partitions.iter_mut().filter(|assigned| !assigned.awaits_outcome);
        known.map(|assigned| assigned.find_position(&options)).try_for_each(|found| found.map(drop))?;
        Ok(member)
    }
}

impl Membership {
    /// The group's name.
    pub fn group(&self) -> &str {
        &self.cell.name
    }

    /// The member's id.
    pub fn id(&self) -> String {
        member_id(self.number, self.secret)
    }

    /// Whether each poll commits what the one before returned. Such a membership is in no transaction: its polls would commit
    /// outside.
    pub fn commits_by_itself(&self) -> bool {
        self.options.auto_commit
    }

    /// The group's generation as the member last heard of it.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// What the member owned when it was last told.
    pub fn assigned(&self) -> impl Iterator<Item = (&str, u32)> {
        self.partitions.iter().map(|assigned| assigned.key())
    }

    /// Hands records to `each`, after waiting for the first. Answers how many there were. With a limit of none it waits for nothing: it keeps
    /// the session, and partitions come and go.
    pub fn poll(
        &mut self,
        limits: PollLimits,
        mut wait: PollWait<'_>,
        each: &mut dyn FnMut(&PolledRecord<'_>),
    ) -> Result<usize> {
        if self.options.auto_commit && self.partitions.iter().any(|assigned| assigned.moved) {
            self.commit(None)?;
        }
        if limits.records == 0 {
            let (ticket, _) = self.begin(wait.waiter)?;
            return self.end(ticket).map(|()| 0);
        }
        let mut over = wait.deadline.is_some_and(|deadline| deadline <= Instant::now());
        loop {
            let (ticket, due) = self.begin(wait.waiter)?;
            let read = self.read(limits);
            if read == Ok(false) && !over {
                over = self.wait(&mut wait, due);
                self.change(|state, _, _| Ok(state.waiting.remove(&ticket)))?;
                continue;
            }
            self.end(ticket)?;
            read?;
            let count = self.hand_out(limits, each);
            if count > 0 || over {
                return Ok(count);
            }
        }
    }

    /// Begins a poll: partitions come and go from here on. Answers the ticket, and the group's next deadline.
    fn begin(&mut self, waiter: &Arc<Waiter>) -> Result<(Ticket, Option<Instant>)> {
        self.permit.check()?;
        let (ticket, assignment, due) = self.change(|state, now, number| {
            let (ticket, assignment) = state.group.begin_poll(now, number)?;
            let due = state.group.next_deadline();
            state.waiting.insert(ticket, Waiting { waiter: waiter.clone(), answer: None, until: due });
            Ok((ticket, assignment, due))
        })?;
        self.take_up(assignment)?;
        Ok((ticket, due.map(|due| self.broker.state(&self.permit).coordinator.instant(due))))
    }

    /// Waits until there may be something; answers whether the time is over.
    fn wait(&self, wait: &mut PollWait<'_>, due: Option<Instant>) -> bool {
        let _registered: Vec<_> =
            self.partitions.iter().map(|assigned| assigned.partition.register(wait.waiter)).collect();
        if self.partitions.iter().any(|assigned| assigned.has_more(self.options.isolation)) {
            return false;
        }
        let deadline = wait.deadline;
        let woken = (wait.wait)(due.into_iter().chain(deadline).min());
        let now = Instant::now();
        let only_due = due.is_some_and(|due| due <= now) && deadline.is_none_or(|deadline| deadline > now);
        !woken && !only_due
    }

    /// Ends a poll: what the member owns now, it may be handed.
    fn end(&mut self, ticket: Ticket) -> Result<()> {
        let (assignment, is_synced) = self.change(|state, now, number| {
            state.waiting.remove(&ticket);
            Ok((state.group.end_poll(now, number)?, state.line.unsynced_to.is_none()))
        })?;
        if !is_synced {
            self.broker.state(&self.permit).sync_line(&self.cell);
        }
        self.take_up(assignment)
    }

    /// Commits offsets of partitions that the member owns: these, or the positions that moved. Partitions that are to move
    /// go with it. When this returns, the commit is as durable as an acknowledged record.
    pub fn commit(&mut self, offsets: Option<&[(&str, u32, u64)]>) -> Result<()> {
        make_durable(self.write_commit(offsets)?)
    }

    /// As [`commit`](Self::commit), but the caller makes durable what it answers.
    pub fn write_commit(&mut self, offsets: Option<&[(&str, u32, u64)]>) -> Result<Option<LogWrite>> {
        self.write_offsets(offsets, |state, broker, log, name, offsets| {
            let commits = |OffsetCommit { topic, partition, committed }| {
                let committed = Some(committed);
                OffsetChange { topic, partition, committed }
            };
            broker.write_changes(log, name, state, offsets.into_iter().map(commits).collect(), false)
        })
    }

    /// Writes offsets of partitions that the member owns, with `write`: these, or the positions that moved.
    fn write_offsets(
        &mut self,
        offsets: Option<&[(&str, u32, u64)]>,
        write: impl FnOnce(
            &mut GroupState,
            &BrokerState,
            &Arc<Partition>,
            &Arc<str>,
            Vec<OffsetCommit>,
        ) -> Result<Option<LogWrite>>,
    ) -> Result<Option<LogWrite>> {
        self.permit.check()?;
        let log = self.broker.state(&self.permit).offsets_log_or_new()?;
        let now_ms = self.broker.now_ms();
        let written = self.change(|state, now, number| {
            let offsets = match offsets {
                Some(offsets) => offsets.to_vec(),
                None => self.moved(state, now)?,
            };
            state.group.begin_commit(now, number, offsets.iter().map(|&(topic, partition, _)| (topic, partition)))?;
            let commit = |&(topic, partition, offset): &(&str, u32, u64)| -> Result<OffsetCommit> {
                // One copy of the name for all its partitions.
                let known = self.partitions.iter().find(|assigned| *assigned.owned.topic == *topic);
                let committed = self.broker.at(topic, partition, offset, now_ms)?;
                let topic = known.map_or_else(|| topic.into(), |assigned| assigned.owned.topic.clone());
                Ok(OffsetCommit { topic, partition, committed })
            };
            let commits = offsets.iter().map(commit).collect::<Result<_>>();
            let broker = self.broker.state(&self.permit);
            let written = commits.and_then(|commits| write(state, broker, &log, &self.cell.name, commits));
            state.group.end_commit(now, number)?;
            written
        })?;
        for assigned in &mut self.partitions {
            let is_this = |&(topic, partition, _): &(&str, u32, u64)| assigned.key() == (topic, partition);
            assigned.moved &= offsets.is_some_and(|offsets| !offsets.iter().any(is_this));
        }
        Ok(written)
    }

    /// As [`commit`](Self::commit), as part of a transaction: the offsets are pending until it ends.
    pub fn commit_in(&mut self, transaction: &Transaction, offsets: Option<&[(&str, u32, u64)]>) -> Result<()> {
        let (state, transaction) = (self.broker.state(&self.permit).clone(), transaction.writer());
        let parts = Parts::of_group(self.cell.name.clone())?;
        let write = || self.write_pending_commit(transaction.identity, offsets);
        let written = state.write_in(&transaction, &parts, write).map_err(|error| transaction.refusal(error))?;
        make_durable(written.added)?;
        make_durable(written.written?)
    }

    /// Writes what is to be pending. The caller holds the transaction's lock.
    fn write_pending_commit(
        &mut self,
        producer: ProducerIdentity,
        offsets: Option<&[(&str, u32, u64)]>,
    ) -> Result<Option<LogWrite>> {
        self.write_offsets(offsets, |state, broker, log, name, offsets| {
            broker.write_pending(log, name, state, producer, offsets)
        })
    }

    /// A transaction has begun on the member's connection. Until [`end_transaction`](Self::end_transaction), at most for
    /// `timeout_ms`, neither polls nor commits give a partition up, and its session stands still.
    pub fn begin_transaction(&mut self, timeout_ms: u64) -> Result<()> {
        self.change(|state, now, number| state.group.hold(now, number, now.saturating_add(timeout_ms)))
    }

    /// The transaction has ended: what is to move may go. If it was aborted the member goes on where the group committed.
    pub fn end_transaction(&mut self, outcome: Outcome) -> Result<()> {
        if outcome == Outcome::Abort {
            self.partitions.iter_mut().for_each(AssignedPartition::forget_position);
            self.go_on_where_committed()?;
        }
        self.change(|state, now, number| state.group.release(now, number))
    }

    /// The positions that moved, of partitions that are still owned: a dropped topic takes its own away.
    fn moved(&self, state: &mut GroupState, now: u64) -> Result<Vec<(&str, u32, u64)>> {
        let mut moved = vec![];
        for assigned in self.partitions.iter().filter(|assigned| assigned.moved) {
            let (topic, partition) = assigned.key();
            if state.group.owns(now, self.number, topic, partition)? {
                moved.extend(assigned.position.map(|position| (topic, partition, position)));
            }
        }
        Ok(moved)
    }

    /// Goes on elsewhere in a partition that the member owns. Answers the offset.
    pub fn seek(&mut self, topic: &str, partition: u32, position: Position) -> Result<u64> {
        let owned = self.change(|state, now, number| state.group.owns(now, number, topic, partition))?;
        let assigned = self.partitions.iter_mut().find(|assigned| owned && assigned.key() == (topic, partition));
        let Some(assigned) = assigned else {
            return Err(Error::NotAssigned { topic: topic.into(), partition });
        };
        let view = self.options.view();
        let offset = position.resolve(view, &assigned.partition, &mut Chunk::default())?;
        (assigned.position, assigned.awaits_outcome) = (Some(offset), false);
        (assigned.moved, assigned.chunk) = (true, None);
        Ok(offset)
    }

    /// Leaves the group, after committing the rest if that is automatic. If that fails it is a member as before.
    pub fn leave(&mut self) -> Result<()> {
        if self.options.auto_commit && self.partitions.iter().any(|assigned| assigned.moved) {
            self.commit(None)?;
        }
        self.change(|state, now, number| state.group.leave(now, number))
    }

    fn change<T>(&self, change: impl FnOnce(&mut GroupState, u64, MemberNumber) -> Result<T>) -> Result<T> {
        let done = self.broker.state(&self.permit).change(&self.cell, |state, now| change(state, now, self.number));
        done.unwrap_or(Err(Error::UnknownMemberId))
    }

    /// Forgets the partitions that it does not own any more, and takes up those that are new.
    fn take_up(&mut self, assignment: Assignment) -> Result<()> {
        self.generation = assignment.generation;
        let same = |assigned: &AssignedPartition, owned: &Owned| assigned.owned == *owned;
        if !self.partitions.iter().map(|assigned| &assigned.owned).eq(&assignment.owned) {
            self.partitions.retain(|assigned| assignment.owned.iter().any(|owned| same(assigned, owned)));
            let is_new = |owned: &Owned| !self.partitions.iter().any(|assigned| same(assigned, owned));
            let new: Vec<_> = assignment.owned.into_iter().filter(is_new).collect();
            self.partitions.reserve_exact(new.len());
            for owned in new {
                // A topic that is just being dropped takes the partition away again.
                let permit = self.broker.ask_topic(Operation::Read, &owned.topic)?;
                let topic = self.broker.state(&permit).topic(&owned.topic);
                if let Ok(partition) = topic.and_then(|topic| topic.partition(owned.partition)) {
                    self.partitions.push(AssignedPartition::new(owned, partition, permit));
                }
            }
            self.partitions.sort_by(|a, b| a.owned.cmp(&b.owned));
        }
        self.go_on_where_committed()
    }

    /// Looks up where to read on in partitions that are new. Where a transaction's offset is pending, that is known when it
    /// has ended.
    fn go_on_where_committed(&mut self) -> Result<()> {
        let mut waiting: Vec<_> = self.partitions.iter_mut().filter(|assigned| assigned.awaits_outcome).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let (broker, cell) = (self.broker.state(&self.permit), &self.cell);
        let looked_up = broker.change(cell, |state, _| {
            for assigned in &mut waiting {
                let partition = (assigned.owned.topic.clone(), assigned.owned.partition);
                if let Ok(committed) = state.offsets.stable(&partition) {
                    assigned.awaits_outcome = false;
                    assigned.position = committed.and_then(|committed| u64::try_from(committed.offset).ok());
                }
            }
        });
        looked_up.ok_or(Error::UnknownMemberId)
    }

    /// Reads, by turns, until there is enough; whether there is anything. A partition that cannot be read is an error when
    /// it is its turn, so that the others are read in between.
    fn read(&mut self, limits: PollLimits) -> Result<bool> {
        let (mut records, mut bytes, count) = (0, 0, self.partitions.len());
        for index in (0..count).map(|step| (self.turn + step) % count) {
            if records >= limits.records || bytes >= limits.bytes && records > 0 {
                break;
            }
            match self.partitions[index].read(&self.options, limits.bytes - bytes.min(limits.bytes)) {
                Ok((more_records, more_bytes)) => (records, bytes) = (records + more_records, bytes + more_bytes),
                // The group tells of the drop.
                Err(Error::UnknownTopic(_)) => {}
                Err(_) if records > 0 => break,
                Err(error) => {
                    self.turn = (index + 1) % count;
                    return Err(error);
                }
            }
        }
        Ok(records > 0)
    }

    fn hand_out(&mut self, limits: PollLimits, each: &mut dyn FnMut(&PolledRecord<'_>)) -> usize {
        let (mut left, count, turn) = (limits, self.partitions.len(), self.turn);
        for index in (0..count).map(|step| (turn + step) % count) {
            let assigned = &mut self.partitions[index];
            let Some(chunk) = assigned.chunk.take() else { continue };
            let first = left.records == limits.records;
            let all = assigned.hand_out(&chunk, &mut left, first, each);
            if !all {
                assigned.chunk = Some(chunk);
            }
            self.turn = if all { (index + 1) % count } else { index };
            if !all {
                break;
            }
        }
        // What was not handed out is kept for the next poll, of the partition whose turn it is.
        let turn = self.turn;
        let others = self.partitions.iter_mut().enumerate().filter(|(index, _)| *index != turn);
        others.for_each(|(_, assigned)| assigned.chunk = None);
        limits.records - left.records
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // Who is no member any more has nothing to leave.
        let _ = self.change(|state, now, number| state.group.leave(now, number));
    }
}

//! A member whose partitions the broker assigns, as its connection (or its thread, in the library) holds it.
//!
//! ```text
//! poll    commit what the last poll returned (auto) ─► take what is free, let go what is to move ─► read
//!           ▲                                                                                        │
//!           └── wait for records, or for other partitions, until the time is over ◄── nothing there ─┤
//!                                                                                                    ▼
//!                                hand out, but only what is still owned ◄─ the poll is over ◄─ something
//! ```
//!
//! - What is read is handed out only if the partition was owned without a break since before it was read: then nobody else
//!   was handed it in this generation.
//! - A position is the offset to read next. It begins at what the group committed, or else where `from` says; it moves with
//!   what a poll hands out and with `seek`, and a commit without arguments commits those that moved.
//! - Dropping a member leaves the group, without a commit.

use super::{
    Change, Entry, EntryState, SESSION_MS_MAX, SESSION_MS_MIN, Wait, Waiting,
    reading::{Limits, Polled, Reading},
};
use crate::{
    broker::{
        Broker, Error, Position, Result, Waiter,
        group::{
            Ticket,
            server_assigned::{Assignment, Owned, Seat, Subscription},
        },
    },
    log::Chunk,
};
use std::{collections::BTreeSet, sync::Arc, time::Instant};

/// What a member joins with.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// Where to read from where the group committed nothing, or what it committed is gone.
    pub from: Position,
    /// Whether each poll commits what the one before returned, and leaving the rest.
    pub auto_commit: bool,
    /// The member is given up when it was silent for so long.
    pub session_ms: u64,
}

impl Default for JoinOptions {
    fn default() -> JoinOptions {
        JoinOptions { from: Position::Earliest, auto_commit: true, session_ms: 45_000 }
    }
}

/// A membership in a group.
#[derive(Debug)]
pub struct Member {
    broker: Broker,
    entry: Arc<Entry>,
    seat: Seat,
    from: Position,
    auto_commit: bool,
    generation: i32,
    readings: Vec<Reading>,
    /// The reading that the next poll begins with.
    turn: usize,
}

/// How a poll waits for a first record.
pub struct Patience<'a> {
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
        if !(SESSION_MS_MIN..=SESSION_MS_MAX).contains(&options.session_ms) {
            let why = format!("a session of {} ms; it takes {SESSION_MS_MIN} to {SESSION_MS_MAX}", options.session_ms);
            return Err(Error::InvalidSessionTimeout(why));
        }
        let topics = topics.iter().map(|topic| self.topic(topic)).collect::<Result<Vec<_>>>()?;
        if let Position::At(_) = options.from {
            let mut chunk = Chunk::default();
            let mut partitions = topics.iter().flat_map(|topic| topic.partitions());
            partitions.try_for_each(|partition| options.from.resolve(&partition, &mut chunk).map(drop))?;
        }
        Ok(())
    }

    /// Joins a group: the broker gives the member a share of the partitions of `topics`.
    pub fn join(&self, group: &str, topics: &[&str], options: JoinOptions) -> Result<Member> {
        self.may_join(topics, &options)?;
        if group.is_empty() {
            return Err(Error::InvalidGroup("a group needs a name".into()));
        }
        let topics: BTreeSet<_> = topics.iter().copied().collect();
        let (entry, joined) = self.0.state.change_or_new(group, |state, now| {
            let counted = |topic: &&str| Ok((Arc::from(*topic), self.topic(topic)?.partition_count()));
            let topics = topics.iter().map(counted).collect::<Result<_>>()?;
            let (client, session_timeout_ms) = (self.caller().name().into(), options.session_ms);
            state.group.join(now, Subscription { topics, client, session_timeout_ms })
        })?;
        let (seat, assignment) = joined?;
        let (from, auto_commit) = (options.from, options.auto_commit);
        let (broker, generation, readings) = (self.clone(), 0, vec![]);
        let mut member = Member { broker, entry, seat, from, auto_commit, generation, readings, turn: 0 };
        member.take_up(assignment)?;
        // What `latest` and the like mean is settled now, not at the first poll.
        member.readings.iter_mut().try_for_each(|reading| reading.find_position(from).map(drop))?;
        Ok(member)
    }
}

impl Member {
    /// The group's name.
    pub fn group(&self) -> &str {
        &self.entry.name
    }

    /// The member's id.
    pub fn id(&self) -> String {
        self.seat.to_string()
    }

    /// The group's generation as the member last heard of it.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// What the member owned when it was last told.
    pub fn assigned(&self) -> impl Iterator<Item = (&str, u32)> {
        self.readings.iter().map(|reading| reading.key())
    }

    /// Hands records to `each`, after waiting for the first. Answers how many there were.
    pub fn poll(
        &mut self,
        limits: Limits,
        mut patience: Patience<'_>,
        each: &mut dyn FnMut(&Polled<'_>),
    ) -> Result<usize> {
        if self.auto_commit && self.readings.iter().any(|reading| reading.moved) {
            self.commit(None)?;
        }
        let limits = Limits { records: limits.records.max(1), ..limits };
        let mut over = patience.deadline.is_some_and(|deadline| deadline <= Instant::now());
        loop {
            let (ticket, due) = self.begin(patience.waiter)?;
            let read = self.read(limits);
            if read == Ok(false) && !over {
                over = self.wait(&mut patience, due);
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

    /// Begins to poll: partitions come and go from here on. Answers the ticket, and when the group wants to be looked at.
    fn begin(&mut self, waiter: &Arc<Waiter>) -> Result<(Ticket, Option<Instant>)> {
        let (ticket, assignment, due) = self.change(|state, now, seat| {
            let (ticket, assignment) = state.group.poll(now, seat)?;
            let due = state.group.next_deadline();
            state.waiting.insert(ticket, Waiting { waiter: waiter.clone(), answer: None, until: due });
            Ok((ticket, assignment, due))
        })?;
        self.take_up(assignment)?;
        Ok((ticket, due.map(|due| self.broker.0.state.coordinator.instant(due))))
    }

    /// Waits until there may be something; answers whether the time is over.
    fn wait(&self, patience: &mut Patience<'_>, due: Option<Instant>) -> bool {
        let _registered: Vec<_> =
            self.readings.iter().map(|reading| reading.partition.register(patience.waiter)).collect();
        if self.readings.iter().any(Reading::has_more) {
            return false;
        }
        let deadline = patience.deadline;
        let woken = (patience.wait)(due.into_iter().chain(deadline).min());
        let now = Instant::now();
        let only_due = due.is_some_and(|due| due <= now) && deadline.is_none_or(|deadline| deadline > now);
        !woken && !only_due
    }

    /// Ends a poll: what the member owns now, it may be handed.
    fn end(&mut self, ticket: Ticket) -> Result<()> {
        let assignment = self.change(|state, now, seat| {
            state.waiting.remove(&ticket);
            state.group.polled(now, seat)
        })?;
        self.take_up(assignment)
    }

    /// Commits offsets of partitions that the member owns: these, or the positions that moved. Partitions that are to move
    /// go with it. When this returns, the commit is as durable as an acknowledged record.
    pub fn commit(&mut self, offsets: Option<&[(&str, u32, u64)]>) -> Result<()> {
        let log = self.broker.0.state.offsets_log_or_new()?;
        let now_ms = self.broker.now_ms();
        let written = self.change(|state, now, seat| {
            let offsets = match offsets {
                Some(offsets) => offsets.to_vec(),
                None => self.moved(state, now)?,
            };
            state.group.commit(now, seat, offsets.iter().map(|&(topic, partition, _)| (topic, partition)))?;
            let change = |&(topic, partition, offset): &(&str, u32, u64)| -> Result<Change> {
                // One copy of the name for all its partitions.
                let known = self.readings.iter().find(|reading| *reading.owned.topic == *topic);
                let key = (known.map_or_else(|| topic.into(), |reading| reading.owned.topic.clone()), partition);
                Ok((key, Some(self.broker.at(topic, partition, offset, now_ms)?)))
            };
            let changes = offsets.iter().map(change).collect::<Result<_>>();
            let name = &self.entry.name;
            let written =
                changes.and_then(|all| self.broker.0.state.write_offsets(&log, name, &mut state.offsets, all));
            state.group.committed(now, seat)?;
            written
        })?;
        for reading in &mut self.readings {
            let is_this = |&(topic, partition, _): &(&str, u32, u64)| reading.key() == (topic, partition);
            reading.moved &= offsets.is_some_and(|offsets| !offsets.iter().any(is_this));
        }
        written.map_or(Ok(()), |appended| log.settle(&appended))
    }

    /// The positions that moved, of partitions that are still owned: a dropped topic takes its own away.
    fn moved(&self, state: &mut EntryState, now: u64) -> Result<Vec<(&str, u32, u64)>> {
        let mut moved = vec![];
        for reading in self.readings.iter().filter(|reading| reading.moved) {
            let (topic, partition) = reading.key();
            if state.group.owned(now, self.seat, topic, partition)? {
                moved.extend(reading.position.map(|position| (topic, partition, position)));
            }
        }
        Ok(moved)
    }

    /// Goes on elsewhere in a partition that the member owns. Answers the offset.
    pub fn seek(&mut self, topic: &str, partition: u32, position: Position) -> Result<u64> {
        let owned = self.change(|state, now, seat| state.group.owned(now, seat, topic, partition))?;
        let reading = self.readings.iter_mut().find(|reading| owned && reading.key() == (topic, partition));
        let Some(reading) = reading else {
            return Err(Error::NotAssigned { topic: topic.into(), partition });
        };
        let offset = position.resolve(&reading.partition, &mut Chunk::default())?;
        (reading.position, reading.moved, reading.chunk) = (Some(offset), true, None);
        Ok(offset)
    }

    /// Leaves the group, after committing the rest if that is automatic.
    pub fn leave(mut self) -> Result<()> {
        if self.auto_commit && self.readings.iter().any(|reading| reading.moved) {
            self.commit(None)?;
        }
        self.change(|state, now, seat| state.group.leave(now, seat))
    }

    fn change<T>(&self, change: impl FnOnce(&mut EntryState, u64, Seat) -> Result<T>) -> Result<T> {
        let done = self.broker.0.state.change(&self.entry, |state, now| change(state, now, self.seat));
        done.unwrap_or(Err(Error::UnknownMemberId))
    }

    /// Forgets the partitions that it does not own any more, and takes up those that are new.
    fn take_up(&mut self, assignment: Assignment) -> Result<()> {
        self.generation = assignment.generation;
        let same = |reading: &Reading, owned: &Owned| reading.owned == *owned;
        if self.readings.iter().map(|reading| &reading.owned).eq(&assignment.owned) {
            return Ok(());
        }
        self.readings.retain(|reading| assignment.owned.iter().any(|owned| same(reading, owned)));
        let new =
            assignment.owned.into_iter().filter(|owned| !self.readings.iter().any(|reading| same(reading, owned)));
        let new: Vec<_> = new.collect();
        let committed = |state: &EntryState, owned: &Owned| {
            let committed = state.offsets.get(&(owned.topic.clone(), owned.partition))?;
            u64::try_from(committed.offset).ok()
        };
        let committed = |state: &mut EntryState| new.iter().map(|owned| committed(state, owned)).collect::<Vec<_>>();
        let committed = self.change(|state, _, _| Ok(committed(state)))?;
        self.readings.reserve_exact(new.len());
        for (owned, position) in new.into_iter().zip(committed) {
            // A topic that is just being dropped takes the partition away again.
            if let Ok(partition) = self.broker.topic(&owned.topic).and_then(|topic| topic.partition(owned.partition)) {
                self.readings.push(Reading { owned, partition, position, moved: false, chunk: None });
            }
        }
        self.readings.sort_by(|a, b| a.owned.cmp(&b.owned));
        Ok(())
    }

    /// Reads, by turns, until there is enough; whether there is anything. A partition that cannot be read is an error when
    /// it is its turn, so that the others are read in between.
    fn read(&mut self, limits: Limits) -> Result<bool> {
        let (mut records, mut bytes, count) = (0, 0, self.readings.len());
        for index in (0..count).map(|step| (self.turn + step) % count) {
            if records >= limits.records || bytes >= limits.bytes && records > 0 {
                break;
            }
            match self.readings[index].read(self.from, limits.bytes - bytes.min(limits.bytes)) {
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

    fn hand_out(&mut self, limits: Limits, each: &mut dyn FnMut(&Polled<'_>)) -> usize {
        let (mut left, count, turn) = (limits, self.readings.len(), self.turn);
        for index in (0..count).map(|step| (turn + step) % count) {
            let reading = &mut self.readings[index];
            let Some(chunk) = reading.chunk.take() else { continue };
            let first = left.records == limits.records;
            let all = reading.hand_out(&chunk, &mut left, first, each);
            if !all {
                reading.chunk = Some(chunk);
            }
            self.turn = if all { (index + 1) % count } else { index };
            if !all {
                break;
            }
        }
        // What was not handed out is kept for the next poll, of the partition whose turn it is.
        let turn = self.turn;
        let others = self.readings.iter_mut().enumerate().filter(|(index, _)| *index != turn);
        others.for_each(|(_, reading)| reading.chunk = None);
        limits.records - left.records
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Who is no member any more has nothing to leave.
        let _ = self.change(|state, now, seat| state.group.leave(now, seat));
    }
}

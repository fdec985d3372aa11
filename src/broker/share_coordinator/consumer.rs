//! A share consumer, as a connection holds it: what it has acquired is its own until it says what became of it, or is gone.

use super::{ShareCell, ShareKey, ShareState, ShareTerms};
use crate::{
    broker::{
        Batches, Broker, BrokerState, Error, PartitionHandle, Permit, ReadSession, Registered, Result, View, Waiter,
        internal_log::LogWrite,
        share_partition::{Acknowledged, Acknowledgement, Acquired, Refused, Run, Wanted},
    },
    log::record::shown,
    security::Operation,
};
use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Instant};

/// How many reads one call makes that find nothing to hand out: a log may hold long stretches of what is no record.
const READS_MAX: usize = 64;

/// A share consumer. Dropping it releases what it holds.
#[derive(Debug)]
pub struct ShareConsumer {
    broker: Broker,
    /// To read in the group.
    permit: Permit,
    group: Arc<str>,
    member: Arc<str>,
    /// By topic, then by partition: a poll looks up every one, so none is sought by an owned name.
    cells: BTreeMap<Arc<str>, BTreeMap<u32, Arc<ShareCell>>>,
}

/// What the group has of a partition, under its lock, and what the group's settings come to.
struct Place<'p> {
    cell: &'p Arc<ShareCell>,
    state: &'p mut ShareState,
    of: &'p PartitionHandle,
    terms: &'p ShareTerms,
}

/// A change of a share partition that was written, and is not durable yet.
#[derive(Debug)]
pub struct ShareWrite {
    pub(super) cell: Arc<ShareCell>,
    pub(super) written: LogWrite,
}

impl ShareWrite {
    /// Waits until it is as durable as the flush mode promises.
    pub fn make_durable(self) -> Result<()> {
        self.written.make_durable().inspect_err(|_| self.cell.lock().is_unsaved = true)
    }
}

impl Broker {
    /// A member of a share group, as far as records are concerned.
    pub fn share_consumer(&self, group: &str, member: &str) -> Result<ShareConsumer> {
        // Made before any lock is taken.
        let permit = self.ask_group(Operation::Read, group)?;
        self.state(&permit).internal_log_or_new(super::state_log::TOPIC)?;
        Ok(ShareConsumer {
            broker: self.clone(),
            permit,
            group: group.into(),
            member: member.into(),
            cells: BTreeMap::new(),
        })
    }

    /// How long a member of this group has a record that it acquires, in ms.
    pub fn share_lock_ms(&self, group: &str) -> u64 {
        ShareTerms::of(&self.group_settings(group)).limits.lock_ms
    }
}

impl BrokerState {
    /// A member of a group is gone: what it holds is released. Whoever changes topics may find that out, so none is made for dead letters here:
    /// what is to go there waits.
    pub(in crate::broker) fn release_member(&self, group: &str, member: &str) {
        let terms = ShareTerms::of(&self.group_settings(group));
        let cells = self.share_cells_of(group).unwrap_or_default();
        for cell in cells {
            self.release_member_of(&cell, member, &terms);
            self.leave_share_cell(cell);
        }
    }

    /// What a share group has of a partition; a place for it is made only where there is such a group.
    fn share_cell_in_group(&self, group: &Arc<str>, key: &ShareKey) -> Result<Arc<ShareCell>> {
        // One that is open was made so, and is gone with its group.
        match self.known_share(group, key)?.filter(|cell| cell.lock().open.is_some()) {
            Some(cell) => Ok(cell),
            None => self.in_share_group(group, || self.share_cell(group, key)),
        }
    }
}

impl ShareConsumer {
    /// The group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The member's id.
    pub fn member(&self) -> &str {
        &self.member
    }

    fn state(&self) -> &Arc<BrokerState> {
        self.broker.state(&self.permit)
    }

    /// What the group's settings come to now. Not for those who hold a lock: the topic of dead letters is made if need be.
    pub(crate) fn terms(&self) -> ShareTerms {
        let terms = ShareTerms::of(&self.broker.group_settings(&self.group));
        terms.dead_letters.iter().for_each(|topic| self.broker.prepare_dead_letters(topic));
        terms
    }

    fn cell(&self, of: &PartitionHandle) -> Option<&Arc<ShareCell>> {
        self.cells.get(of.topic())?.get(&of.index())
    }

    fn cells(&self) -> impl Iterator<Item = &Arc<ShareCell>> {
        self.cells.values().flat_map(|of_topic| of_topic.values())
    }

    /// Does something with what the group has of a partition, under its lock.
    fn with<T>(
        &mut self,
        of: &PartitionHandle,
        terms: &ShareTerms,
        act: impl FnOnce(&ShareConsumer, Place<'_>) -> Result<T>,
    ) -> Result<T> {
        self.permit.check()?;
        loop {
            let cell = match self.cell(of) {
                Some(cell) => cell.clone(),
                None => {
                    let key: ShareKey = (of.topic().into(), of.index());
                    let cell = self.state().share_cell_in_group(&self.group, &key)?;
                    self.cells.entry(key.0).or_default().insert(key.1, cell.clone());
                    cell
                }
            };
            let mut state = cell.lock();
            if !state.is_gone {
                return act(self, Place { cell: &cell, state: &mut state, of, terms });
            }
            drop(state);
            if let Some(of_topic) = self.cells.get_mut(&cell.topic) {
                of_topic.remove(&cell.partition);
            }
        }
    }

    /// Where the group begins in a partition is decided now, if nobody has read there yet.
    pub(crate) fn open(&mut self, terms: &ShareTerms, of: &PartitionHandle) -> Result<()> {
        self.with(of, terms, |this, at| this.state().open_share(at.cell, at.state, at.of, at.terms).map(drop))
    }

    /// As [`open`](Self::open), of many: all is written before the disk is waited for, once.
    pub(crate) fn open_all(&mut self, terms: &ShareTerms, all: &[PartitionHandle]) -> Result<()> {
        all.iter().try_for_each(|of| {
            self.with(of, terms, |this, at| this.state().begin_share(at.cell, at.state, at.of, at.terms))
        })?;
        all.iter().try_for_each(|of| self.open(terms, of))
    }

    /// Acquires records of a partition, and reads them with `read`, which then has batches with all of them, among others perhaps.
    /// With [`Wanted::exactly`] their lines have at most `bytes_max` bytes, unless a single one has more. Answers none where there are
    /// none.
    pub(crate) fn acquire(
        &mut self,
        terms: &ShareTerms,
        of: &PartitionHandle,
        wanted: Wanted,
        bytes_max: usize,
        read: &mut ReadSession,
    ) -> Result<Vec<Acquired>> {
        self.with(of, terms, |this, at| this.acquire_in(at, wanted, bytes_max, read))
    }

    fn acquire_in(
        &self,
        Place { cell, state, of, terms }: Place<'_>,
        wanted: Wanted,
        bytes_max: usize,
        read: &mut ReadSession,
    ) -> Result<Vec<Acquired>> {
        let broker = self.state();
        let open = broker.open_share(cell, state, of, terms)?;
        let now = broker.shares.now();
        read.clear();
        for _ in 0..READS_MAX {
            let Some(from) = open.machine.next_fetch(terms.limits).filter(|_| wanted.records > 0) else { break };
            let batches = match read.read(View::records(terms.isolation), of, from, bytes_max) {
                // The log was trimmed just now.
                Err(Error::OffsetOutOfRange { first, .. }) if from < first => {
                    open.adapt()?;
                    continue;
                }
                // Nobody can have what is damaged: the queue goes on behind it.
                Err(error @ Error::Corrupt { next, .. }) => {
                    broker.env.tell(&format!("{} passes over {}/{}: {error}", self.group, of.topic(), of.index()));
                    open.machine.acquire(now, &self.member, from..next, &[], wanted, terms.limits);
                    continue;
                }
                batches => batches?,
            };
            let Some(end) = batches.next_offset() else { break };
            let runs = runs(batches, from);
            let mut acquired =
                open.machine.acquire(now, &self.member, from..end.max(from), &runs, wanted, terms.limits);
            if wanted.exactly && batches.bytes().len() > bytes_max {
                let fits = fitting(batches, &acquired, bytes_max);
                for cut in cut_off(&mut acquired, fits) {
                    open.machine.give_back(&self.member, cut);
                }
            }
            if !acquired.is_empty() {
                let counts = &broker.shares.counts;
                for one in &acquired {
                    counts.delivered.add(one.count());
                    counts.redelivered.add(if one.deliveries > 1 { one.count() } else { 0 });
                }
                return Ok(acquired);
            }
        }
        read.clear();
        Ok(vec![])
    }

    /// What becomes of records of a partition, in the order of their offsets: all of it is taken, or nothing. The caller makes durable what it
    /// answers.
    #[cfg(any(feature = "kafka", test))]
    pub(crate) fn acknowledge(
        &mut self,
        terms: &ShareTerms,
        of: &PartitionHandle,
        batches: &[Acknowledged],
    ) -> Result<Option<ShareWrite>> {
        self.take_acknowledgement(terms, of, batches, false)
    }

    /// As [`acknowledge`](Self::acknowledge), of records that this member has acquired, each of them: also those below the start, which
    /// are done, are refused.
    pub fn acknowledge_held(&mut self, of: &PartitionHandle, batches: &[Acknowledged]) -> Result<Option<ShareWrite>> {
        self.take_acknowledgement(&self.terms(), of, batches, true)
    }

    fn take_acknowledgement(
        &mut self,
        terms: &ShareTerms,
        of: &PartitionHandle,
        batches: &[Acknowledged],
        held: bool,
    ) -> Result<Option<ShareWrite>> {
        if !self.has_read(of)? {
            return Err(match held {
                true => Error::InvalidRecordState("nothing is held there by this member".into()),
                false => Error::PastAcquired,
            });
        }
        let written = self.with(of, terms, |this, at| {
            let cell = at.cell.clone();
            let written = this.write_acknowledgement(at, batches, held)?;
            Ok(written.map(|written| ShareWrite { cell, written }))
        })?;
        // What was released is there for others, and a start that moved makes room.
        written.iter().for_each(|write| write.cell.waiters.wake());
        Ok(written)
    }

    /// Whether the group has read in a partition.
    fn has_read(&mut self, of: &PartitionHandle) -> Result<bool> {
        let is_open = |cell: &Arc<ShareCell>| cell.lock().open.is_some();
        // One that is gone is not open.
        if self.cell(of).is_some_and(is_open) {
            return Ok(true);
        }
        let Some(cell) = self.state().known_share(&self.group, &(of.topic().into(), of.index()))? else {
            return Ok(false);
        };
        if is_open(&cell) {
            self.cells.entry(cell.topic.clone()).or_default().insert(cell.partition, cell);
            return Ok(true);
        }
        Ok(cell.lock().saved.is_some())
    }

    fn write_acknowledgement(
        &self,
        Place { cell, state, of, terms }: Place<'_>,
        batches: &[Acknowledged],
        held: bool,
    ) -> Result<Option<LogWrite>> {
        if !terms.renews && batches.iter().any(|one| one.how == Acknowledgement::Renew) {
            let why =
                format!("share.renew.acknowledge.enable of the group '{}' is false", shown(self.group.as_bytes()));
            return Err(Error::InvalidRecordState(why));
        }
        let broker = self.state();
        broker.open_share(cell, state, of, terms)?;
        let is_unsaved = state.is_unsaved;
        let open = state.open.as_mut().expect("opened above");
        if held {
            let all =
                |one: &Acknowledged| open.machine.is_acquired(&self.member, &(one.first..one.last.saturating_add(1)));
            if let Some(one) = batches.iter().find(|one| !all(one)) {
                let why = format!(
                    "not all of {}/{} {}-{} is held by this member",
                    of.topic(),
                    of.index(),
                    one.first,
                    one.last
                );
                return Err(Error::InvalidRecordState(why));
            }
        }
        let mut next = open.machine.clone();
        next.acknowledge(broker.shares.now(), &self.member, batches, terms.limits).map_err(refused)?;
        let dead = next.take_dead();
        let changes = batches.iter().any(|one| one.how != Acknowledgement::Renew && one.last >= open.machine.start());
        if !changes && !is_unsaved {
            open.machine = next;
            return Ok(None);
        }
        if let Some(error) = dead.iter().find_map(|dead| broker.bury(cell, &open.of, dead, terms).failed) {
            // Who may not see where they go is not told what is wrong there.
            let is_seen = terms.dead_letters.as_ref().is_none_or(|topic| self.broker.may_describe(topic));
            let hidden = || Error::Storage("the dead letters of this group cannot be written".into());
            return Err(if is_seen { error } else { hidden() });
        }
        let saved = next.saved(open.leader_epoch);
        let written = broker.write_share(cell, &saved)?;
        let start = open.machine.start();
        next.advance();
        open.machine = next;
        (state.saved, state.is_unsaved) = (Some(saved), false);
        dead.iter().for_each(|dead| broker.count_dead(dead));
        for one in batches {
            let counter = match one.how {
                Acknowledgement::Accept => &broker.shares.counts.accepted,
                Acknowledgement::Release => &broker.shares.counts.released,
                _ => continue,
            };
            counter.add((one.last + 1).saturating_sub(one.first.max(start)));
        }
        Ok(Some(written))
    }

    /// Wakes `waiter` when records of the partitions that this consumer has read from are released, until the answer is dropped. New records
    /// are told by the [partitions](PartitionHandle::register).
    pub fn register(&self, waiter: &Arc<Waiter>) -> Vec<Registered<'_>> {
        self.cells().map(|cell| cell.waiters.register(waiter)).collect()
    }

    /// Whether an [`acquire`](Self::acquire) may find records in a partition.
    pub(super) fn has_more(&self, terms: &ShareTerms, of: &PartitionHandle) -> bool {
        let Some(cell) = self.cell(of) else { return true };
        let state = cell.lock();
        let Some(open) = state.open.as_ref().filter(|open| open.of == *of) else { return true };
        let now = self.state().shares.now();
        let next = open.machine.next_fetch(terms.limits);
        open.machine.next_deadline().is_some_and(|due| due <= now)
            || next.is_some_and(|next| of.end(terms.isolation).is_ok_and(|end| next < end))
    }

    /// When the next lock runs out in these partitions, whoever has it.
    pub fn next_deadline(&self) -> Option<Instant> {
        let due = |cell: &Arc<ShareCell>| cell.lock().open.as_ref()?.machine.next_deadline();
        self.cells().filter_map(due).min().map(|due| self.state().shares.instant(due))
    }

    /// Releases what it holds.
    pub fn release(&mut self) {
        let terms = self.terms();
        for cell in self.cells() {
            self.state().release_member_of(cell, &self.member, &terms);
        }
    }

    /// Ends this handle and releases nothing: the member goes on with another.
    pub fn hand_over(mut self) {
        self.cells.clear();
    }
}

impl Drop for ShareConsumer {
    fn drop(&mut self) {
        if !self.cells.is_empty() {
            self.release();
        }
        for cell in std::mem::take(&mut self.cells).into_values().flat_map(BTreeMap::into_values) {
            self.state().leave_share_cell(cell);
        }
    }
}

fn refused(refused: Refused) -> Error {
    match refused {
        Refused::NotAcquired(_) => {
            Error::InvalidRecordState("The offset cannot be acknowledged. The offset is not acquired.".into())
        }
        Refused::Past(_) => Error::PastAcquired,
    }
}

/// The records of batches from an offset on.
fn runs(batches: Batches<'_>, from: u64) -> Vec<Run> {
    let mut runs: Vec<Run> = vec![];
    for batch in batches.iter().filter(|batch| batch.last() >= from) {
        let (first, last) = (batch.first(), batch.last());
        if u64::from(batch.count()) == last - first + 1 {
            runs.push(Run { first, last, goes_on: false });
            continue;
        }
        let begun = runs.len();
        for line in batch.lines_from(from).flatten() {
            match runs[begun..].last_mut() {
                Some(run) if run.last + 1 == line.offset => run.last = line.offset,
                before => {
                    before.into_iter().for_each(|run| run.goes_on = true);
                    runs.push(Run { first: line.offset, last: line.offset, goes_on: false });
                }
            }
        }
    }
    runs
}

/// Offset behind the last acquired record whose line fits, or behind the first.
fn fitting(batches: Batches<'_>, acquired: &[Acquired], bytes_max: usize) -> u64 {
    let Some(first) = acquired.first() else { return 0 };
    let (mut left, mut end, mut wanted) = (bytes_max, first.first + 1, acquired.iter().peekable());
    for line in batches.records_from(first.first).flatten() {
        while wanted.next_if(|one| one.last < line.offset).is_some() {}
        let Some(one) = wanted.peek() else { break };
        if line.offset < one.first {
            continue;
        }
        let bytes = line.text.len();
        if bytes > left && line.offset > first.first {
            return end;
        }
        (left, end) = (left.saturating_sub(bytes), line.offset + 1);
    }
    u64::MAX
}

/// Takes away what is acquired from `end` on, and answers it.
fn cut_off(acquired: &mut Vec<Acquired>, end: u64) -> Vec<Range<u64>> {
    let cut = acquired.iter().filter(|one| one.last >= end).map(|one| one.first.max(end)..one.last + 1).collect();
    acquired.retain(|one| one.first < end);
    acquired.iter_mut().for_each(|one| one.last = one.last.min(end.saturating_sub(1)));
    cut
}

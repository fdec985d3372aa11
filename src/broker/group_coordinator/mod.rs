//! The coordinator of groups: clock, locks and waiting around the state machine of [`group`](super::group).
//!
//! ```text
//! Member (text, library) ──┐            ┌ Group     who is there, who has what (pure)
//! Member                 ──┼── Entry ───┤ Offsets   how far the group has read
//! Kafka's requests       ──┘  (a lock)  └ waiting   ticket -> waiter, and its answer when it comes
//! ```
//!
//! Rules that always hold:
//! - An offset is written to the log, then known, then the partition may move: all three under the group's lock, so a later
//!   owner never reads from before it. It is synced, as the flush mode asks, before the commit is answered, without the lock.
//! - Locks are taken in the [broker's order](super): DROP and ALTER come with the topics' `creating` lock, so nobody who
//!   holds a group's lock may ask for that one.
//! - There is no timer for each group. Whoever comes to a group first lets its time pass, and who waits does so when the
//!   group's next deadline is due: should it move closer, one of those who wait is woken to look at the clock anew. To groups
//!   that nobody comes to, maintenance comes a second later.
//! - What a restart must find of a group is written to the log under its lock when it changes, and synced before a member is
//!   told of its assignment, whatever the flush mode ([`BrokerState::sync_line`]). A disk that refuses it stops no group: it
//!   goes on in memory, and GROUP says so.
//! - A group without members and offsets is there for ten minutes more, so that whoever joins gets a higher generation, or
//!   until it is deleted. Then the log gets its end. In that time it [rests](resting), and takes next to no memory. One that
//!   never had a generation or an offset goes at once.
//! - What the log has is read back at the first use. Kafka's members then have their session timeout to be heard; text's and
//!   the library's ended with their connection.

mod admin;
mod assigned_partition;
mod classic;
mod entry;
mod membership;
#[cfg(all(test, not(shuttle)))]
mod restart_tests;
mod resting;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
#[cfg(all(test, not(shuttle)))]
mod tests;

pub use admin::{GroupSummary, Lag};
pub use assigned_partition::{PollLimits, PolledRecord};
pub use classic::{CommitOutcome, OffsetCommit};
pub use membership::{JoinOptions, Membership, PollWait};

use super::{
    BrokerState, Error, Partition, Result, Terms,
    committed_offsets::{self, Committed, Logged, LoggedGroup, NAME_BYTES_MAX},
    group::{Answer, Group, Ticket},
    sync::{Mutex, MutexGuard},
};
use crate::log::{Appended, record::Records};
use entry::{Entry, EntryState, GroupLine, Waiting};
use resting::{Rest, Resting};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::*},
    },
    time::{Duration, Instant},
};

/// Kafka's bounds of a session are 6 s (which can be lowered) and this; text's begin at [`SESSION_MS_MIN`].
const SESSION_MS_MAX: u64 = 30 * 60 * 1000;
/// The shortest session of a text member.
const SESSION_MS_MIN: u64 = 100;
/// How long a group may be found that has nothing left: Kafka's `offsets.retention.check.interval.ms`.
const EMPTY_KEPT: Duration = Duration::from_secs(600);
/// How many groups that rest are forgotten under one lock.
const FORGOTTEN_AT_ONCE: usize = 1000;
/// How long maintenance waits before it tries again to save a group that the disk refused.
const SAVE_AGAIN: Duration = Duration::from_secs(60);

/// How a request waits: until it is woken (true), or until the time or the connection is over (false).
pub type Wait<'a> = &'a mut dyn FnMut(Option<Instant>) -> bool;

/// All groups.
#[derive(Debug)]
pub(super) struct Coordinator {
    started: Instant,
    /// `None` until the log is read back.
    groups: Mutex<Option<Groups>>,
    /// When maintenance will look at the groups; `u64::MAX`: it need not.
    looks_at: AtomicU64,
    /// Whether it was told that the disk refuses the groups.
    told_refusal: AtomicBool,
}

/// The groups, by name: each is in one of the two.
#[derive(Debug, Default)]
struct Groups {
    /// Those that somebody is in or that have offsets, and those that somebody asks about.
    awake: BTreeMap<Arc<str>, Arc<Entry>>,
    resting: Resting,
}

/// What was written to the groups' log, and is as durable as an acknowledged record after [`make_durable`](Self::make_durable).
#[derive(Debug)]
pub struct WrittenOffsets {
    log: Arc<Partition>,
    appended: Appended,
}

impl WrittenOffsets {
    /// Waits until it is as durable as the flush mode promises.
    pub fn make_durable(&self) -> Result<()> {
        self.log.make_durable(&self.appended)
    }
}

/// Until when a group is kept that has nothing left at this time.
fn kept_until_ms(now_ms: i64) -> i64 {
    now_ms.saturating_add(EMPTY_KEPT.as_millis() as i64)
}

/// Makes durable what was written, if anything was.
fn make_durable(written: Option<WrittenOffsets>) -> Result<()> {
    written.map_or(Ok(()), |written| written.make_durable())
}

/// What a change of a group came to.
struct Changed<T> {
    /// What the change answered.
    done: T,
    /// What was written of the group itself, which is not durable yet.
    written: Option<WrittenOffsets>,
    /// Whether nobody is in the group any more, and nothing committed.
    nothing_left: bool,
}

/// What became of offsets that were too old.
#[derive(Default)]
struct Expired {
    written: Option<WrittenOffsets>,
    /// When the next one will be, in ms.
    next_ms: Option<i64>,
}

/// A change of a group's offsets: one is committed, or deleted (`None`).
type Change = ((Arc<str>, u32), Option<Committed>);

impl Default for Coordinator {
    fn default() -> Coordinator {
        Coordinator {
            started: Instant::now(),
            groups: Mutex::new(None),
            looks_at: AtomicU64::new(u64::MAX),
            told_refusal: AtomicBool::new(false),
        }
    }
}

impl Coordinator {
    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn instant(&self, deadline: u64) -> Instant {
        self.started + Duration::from_millis(deadline)
    }
}

impl BrokerState {
    /// The groups, after the committed offsets were read back.
    fn groups(&self) -> Result<MutexGuard<'_, Option<Groups>>> {
        let mut groups = self.coordinator.groups.lock().expect("no panic under the groups' lock");
        if groups.is_none() {
            *groups = Some(self.read_back()?);
        }
        Ok(groups)
    }

    fn read_back(&self) -> Result<Groups> {
        let mut groups = Groups::default();
        let Some(log) = self.offsets_log()? else { return Ok(groups) };
        let (now, now_ms) = (self.coordinator.now(), self.env.clock.now_ms());
        for (name, Logged { offsets, group }) in committed_offsets::read_back(&log, |what| self.env.tell(what))? {
            let entry = match group {
                Some(group) => self.restored(&name, group, kept_until_ms(now_ms)),
                None => Entry::new(&name, self.empty_group(now), now_ms),
            };
            entry.lock().offsets = offsets;
            groups.awake.insert(entry.name.clone(), Arc::new(entry));
        }
        if !groups.awake.is_empty() {
            self.look_by(now);
        }
        Ok(groups)
    }

    /// A group as the log has it.
    fn restored(&self, name: &str, group: LoggedGroup, kept_until_ms: i64) -> Entry {
        let LoggedGroup { saved, offset } = group;
        let restored = Group::restore(self.coordinator.now(), self.initial_rebalance_delay_ms(), saved);
        let entry = Entry::new(name, restored, self.env.clock.now_ms());
        let mut state = entry.lock();
        (state.line.offset, state.kept_until_ms) = (Some(offset), Some(kept_until_ms));
        drop(state);
        entry
    }

    /// Maintenance looks at the groups at this deadline, or soon after.
    fn look_by(&self, deadline: u64) {
        if self.coordinator.looks_at.fetch_min(deadline, AcqRel) > deadline {
            let time = Duration::from_millis(deadline.saturating_sub(self.coordinator.now()));
            self.env.schedule.groups_in(time);
        }
    }

    fn initial_rebalance_delay_ms(&self) -> u64 {
        self.config.group_initial_rebalance_delay.as_millis() as u64
    }

    fn empty_group(&self, now: u64) -> Group {
        Group::new(now, self.initial_rebalance_delay_ms())
    }

    /// The partition of the committed offsets, if it was ever needed.
    fn offsets_log(&self) -> Result<Option<Arc<Partition>>> {
        let topics = self.topics.read().expect("no panic under the topics' lock");
        match topics.get(committed_offsets::TOPIC) {
            Err(Error::UnknownTopic(_)) => Ok(None),
            topic => topic?.partition(0).map(Some),
        }
    }

    /// The partition of the committed offsets, made if need be. Not for those who hold a group's lock.
    fn offsets_log_or_new(&self) -> Result<Arc<Partition>> {
        match self.offsets_log()? {
            Some(log) => Ok(log),
            None => self.internal_topic(committed_offsets::TOPIC, &committed_offsets::SETTINGS)?.partition(0),
        }
    }

    /// All groups but those that rest.
    fn entries(&self) -> Result<Vec<Arc<Entry>>> {
        Ok(self.groups()?.iter().flat_map(|groups| groups.awake.values()).cloned().collect())
    }

    /// The names of groups, and the lines of those that rest.
    fn all_groups(&self) -> Result<(Vec<Arc<str>>, Vec<u64>)> {
        let groups = self.groups()?;
        let groups = groups.as_ref().expect("read back above");
        Ok((groups.awake.keys().cloned().collect(), groups.resting.lines()))
    }

    fn entry(&self, name: &str) -> Result<Option<Arc<Entry>>> {
        let mut groups = self.groups()?;
        self.find(groups.as_mut().expect("read back above"), name)
    }

    /// A name may be empty: Kafka's old clients keep offsets under it. No member joins there.
    fn entry_or_new(&self, name: &str) -> Result<Arc<Entry>> {
        if name.len() > NAME_BYTES_MAX {
            let why = format!("a group's name has at most {NAME_BYTES_MAX} bytes");
            return Err(Error::InvalidGroup(why));
        }
        let mut groups = self.groups()?;
        let groups = groups.as_mut().expect("read back above");
        if let Some(entry) = self.find(groups, name)? {
            return Ok(entry);
        }
        // Whoever joins ever new groups, with long sessions, comes no further.
        if groups.awake.len() >= self.config.groups_max {
            return Err(Error::TooManyGroups(self.config.groups_max));
        }
        let group = self.empty_group(self.coordinator.now());
        let entry = Arc::new(Entry::new(name, group, self.env.clock.now_ms()));
        groups.awake.insert(entry.name.clone(), entry.clone());
        Ok(entry)
    }

    /// The group of this name. One that rests is awake from here on, until somebody has changed or described it.
    fn find(&self, groups: &mut Groups, name: &str) -> Result<Option<Arc<Entry>>> {
        if let Some(entry) = groups.awake.get(name) {
            return Ok(Some(entry.clone()));
        }
        let (Some(rest), Some(log)) = (groups.resting.get(name), self.offsets_log()?) else { return Ok(None) };
        let mut found = None;
        committed_offsets::read_groups(&log, &[rest.line], |named, group| {
            found = (named == name).then(|| Arc::new(self.restored(name, group, rest.until_ms)));
        })?;
        if let Some(entry) = &found {
            groups.resting.remove(name);
            groups.awake.insert(entry.name.clone(), entry.clone());
        }
        Ok(found)
    }

    /// Does something with a group under its lock, and then what follows from it; what is written of the group is made
    /// durable. `None`: the group is gone.
    fn change<T>(&self, entry: &Arc<Entry>, change: impl FnOnce(&mut EntryState, u64) -> T) -> Option<T> {
        let Changed { done, written, nothing_left } = self.change_and_write(entry, change)?;
        if let Some(Err(error)) = written.map(|written| written.make_durable()) {
            self.refuse_line(&mut entry.lock(), &error);
        }
        if nothing_left && let Err(error) = make_durable(self.put_to_rest(entry)) {
            self.tell_refusal(&error);
        }
        Some(done)
    }

    /// As [`change`](Self::change), but the caller makes durable what is written, and then
    /// [puts to rest](Self::put_to_rest) what has nothing left.
    fn change_and_write<T>(
        &self,
        entry: &Arc<Entry>,
        change: impl FnOnce(&mut EntryState, u64) -> T,
    ) -> Option<Changed<T>> {
        let mut state = entry.lock();
        if state.gone {
            return None;
        }
        let (now, now_ms) = (self.coordinator.now(), self.env.clock.now_ms());
        if !state.offsets.is_empty() || state.group.empty_since().is_none() {
            state.kept_until_ms = Some(kept_until_ms(now_ms));
        }
        let generation = state.group.generation();
        state.group.tick(now);
        let done = change(&mut state, now);
        self.metrics.rebalances.add(u64::try_from(state.group.generation() - generation).unwrap_or(0));
        let nothing_left = state.has_nothing();
        if nothing_left && state.is_kept(now_ms) && state.line.offset.is_none() {
            // It never had a generation. To rest it needs a line.
            state.group.save_again();
        }
        let written = self.save(&entry.name, &mut state);
        state.deliver();
        state.empty_since_ms = match (state.group.empty_since(), state.empty_since_ms) {
            (Some(since), None) => Some(now_ms - now.saturating_sub(since) as i64),
            (Some(_), known) => known,
            (None, _) => None,
        };
        let kept = if state.line.is_refused {
            SAVE_AGAIN
        } else if state.offsets.is_empty() {
            EMPTY_KEPT
        } else {
            self.config.offsets_retention
        };
        let kept = now.saturating_add(kept.as_millis() as u64);
        let due = state.group.next_deadline().map_or(kept, |due| due.min(kept));
        drop(state);
        self.look_by(due);
        Some(Changed { done, written, nothing_left })
    }

    /// Lets a group rest that has nothing left, or forgets it and writes its end: see [`resting`].
    fn put_to_rest(&self, entry: &Entry) -> Option<WrittenOffsets> {
        let mut groups = self.coordinator.groups.lock().expect("no panic under the groups' lock");
        let groups = groups.as_mut()?;
        let mut state = entry.lock();
        if !state.has_nothing() || state.gone {
            return None;
        }
        let log = self.offsets_log().ok().flatten();
        let mut written = None;
        if state.is_kept(self.env.clock.now_ms()) && !groups.resting.is_full() {
            let until_ms = state.kept_until_ms.unwrap_or(0);
            // A line that is not synced yet cannot be read everywhere: the group rests when somebody looks at it next.
            let line = state.line.offset.filter(|_| !state.line.is_refused);
            let line = line.filter(|&line| log.is_some_and(|log| log.high_watermark().is_ok_and(|end| line < end)));
            if !line.is_some_and(|line| groups.resting.insert(&entry.name, Rest { line, until_ms })) {
                return None;
            }
        } else if let Some(log) = log {
            // Where the disk refuses its end, the group is there again after a restart, for a while.
            written = self.write_changes(&log, &entry.name, &mut state, vec![], true).unwrap_or_else(|error| {
                self.tell_refusal(&error);
                None
            });
        }
        state.gone = true;
        groups.awake.remove(&entry.name);
        written
    }

    /// Writes what a restart must find of a group, if that has changed, under its lock.
    fn save(&self, name: &str, state: &mut EntryState) -> Option<WrittenOffsets> {
        let saved = state.group.take_unsaved()?;
        let mut records = Records::default();
        committed_offsets::push_group(&mut records, name, Some(&saved));
        let log = self.offsets_log().and_then(|log| log.ok_or(Error::UnknownTopic(committed_offsets::TOPIC.into())));
        match log.and_then(|log| write_whole(&log, &records)) {
            Ok(written) => {
                let offsets = &written.appended.offsets;
                let (offset, unsynced_to) = (Some(offsets.start), Some(offsets.end));
                state.line = GroupLine { offset, unsynced_to, is_refused: false };
                self.coordinator.told_refusal.store(false, Release);
                Some(written)
            }
            Err(error) => {
                self.refuse_line(state, &error);
                None
            }
        }
    }

    /// The disk refused the line of a group.
    fn refuse_line(&self, state: &mut EntryState, error: &Error) {
        (state.line.is_refused, state.line.unsynced_to) = (true, None);
        self.tell_refusal(error);
    }

    /// Tells, once until a line is written again, that groups go on in memory alone.
    fn tell_refusal(&self, error: &Error) {
        if !self.coordinator.told_refusal.swap(true, AcqRel) {
            self.env.tell(&format!("groups go on, but a restart will not know who is in them: {error}"));
        }
    }

    /// Waits until the line of a group is synced, whatever the flush mode. Whoever is told of an assignment waits for this:
    /// a crash must not take it back.
    fn sync_line(&self, entry: &Entry) {
        let Some(end) = entry.lock().line.unsynced_to else { return };
        let sync = |log: Option<Arc<Partition>>| match log {
            Some(log) => log.sync_to(end),
            None => Ok(()),
        };
        let synced = self.offsets_log().and_then(sync);
        let mut state = entry.lock();
        match synced {
            Ok(()) if state.line.unsynced_to == Some(end) => state.line.unsynced_to = None,
            Ok(()) => {}
            Err(error) => self.refuse_line(&mut state, &error),
        }
    }

    /// As [`change`](Self::change), of a group by name. `None`: there is no such group.
    fn change_named<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut EntryState, u64) -> T,
    ) -> Result<Option<(Arc<Entry>, T)>> {
        self.change_found(|| self.entry(name), change)
    }

    /// As [`change`](Self::change), of a group by name; it is made if need be.
    fn change_or_new<T>(&self, name: &str, change: impl FnOnce(&mut EntryState, u64) -> T) -> Result<(Arc<Entry>, T)> {
        // What is written of the group needs its place. That is made before the lock is taken.
        if let Err(error) = self.offsets_log_or_new() {
            self.tell_refusal(&error);
        }
        let changed = self.change_found(|| self.entry_or_new(name).map(Some), change)?;
        Ok(changed.expect("a group is found or made"))
    }

    /// Changes the group that `find` answers, which is asked again if that one is gone meanwhile: it may rest.
    fn change_found<T>(
        &self,
        find: impl Fn() -> Result<Option<Arc<Entry>>>,
        change: impl FnOnce(&mut EntryState, u64) -> T,
    ) -> Result<Option<(Arc<Entry>, T)>> {
        let mut change = Some(change);
        loop {
            let Some(entry) = find()? else { return Ok(None) };
            let done = self.change(&entry, |state, now| change.take().expect("it was not done yet")(state, now));
            if let Some(done) = done {
                return Ok(Some((entry, done)));
            }
        }
    }

    /// Waits for the answer to a ticket that was put among those who wait. `None`: the wait is over without one.
    fn wait_for(&self, entry: &Arc<Entry>, ticket: Ticket, wait: Wait<'_>) -> Option<Answer> {
        loop {
            let looked = self.change(entry, |state, _| {
                let due = state.group.next_deadline();
                let waiting = state.waiting.get_mut(&ticket)?;
                waiting.until = due;
                Some((waiting.answer.take(), due))
            });
            let (answer, due) = looked.flatten()?;
            if answer.is_some() {
                self.stop_waiting(entry, ticket);
                return answer;
            }
            let due = due.map(|due| self.coordinator.instant(due));
            if !wait(due) && due.is_none_or(|due| Instant::now() < due) {
                self.change(entry, |state, now| state.group.hung_up(now, ticket));
                self.stop_waiting(entry, ticket);
                return None;
            }
        }
    }

    fn stop_waiting(&self, entry: &Arc<Entry>, ticket: Ticket) {
        self.change(entry, |state, _| state.waiting.remove(&ticket));
    }

    /// Writes changes of a group's offsets, and perhaps the group's end, under its lock: all of it or nothing.
    fn write_changes(
        &self,
        log: &Arc<Partition>,
        name: &str,
        state: &mut EntryState,
        changes: Vec<Change>,
        ends: bool,
    ) -> Result<Option<WrittenOffsets>> {
        let mut records = Records::default();
        for ((topic, partition), committed) in &changes {
            committed_offsets::push(&mut records, name, (topic, *partition), committed.as_ref());
        }
        if ends && state.line.offset.is_some() {
            committed_offsets::push_group(&mut records, name, None);
        }
        let written = if records.is_empty() { None } else { Some(write_whole(log, &records)?) };
        for (key, committed) in changes {
            match committed {
                Some(committed) => drop(state.offsets.insert(key, committed)),
                None => drop(state.offsets.remove(&key)),
            }
        }
        if ends {
            (state.line, state.kept_until_ms) = (GroupLine::default(), None);
        }
        Ok(written)
    }

    /// A topic was made, got more partitions, or is being dropped (`None`), and is not found any more. The groups' offsets
    /// on a dropped topic are forgotten.
    pub(super) fn topic_changed(&self, topic: &str, partitions: Option<u32>) -> Result<()> {
        if self.coordinator.groups.lock().expect("no panic under the groups' lock").is_none() && partitions.is_some() {
            return Ok(());
        }
        let log = self.offsets_log()?;
        let mut last = None;
        for entry in self.entries()? {
            let changed = self.change_and_write(&entry, |state, now| {
                state.group.topic_changed(now, topic, partitions);
                let Some(log) = log.as_ref().filter(|_| partitions.is_none()) else { return Ok(None) };
                let lost = state.offsets.keys().filter(|(of, _)| **of == *topic).map(|key| (key.clone(), None));
                let lost = lost.collect();
                self.write_changes(log, &entry.name, state, lost, false)
            });
            let Some(Changed { done, written, .. }) = changed else { continue };
            last = written.or(done?).or(last);
        }
        make_durable(last)
    }

    /// Forgets what groups have read of a topic that is not there. Where no group can be read back, none can go on from it either.
    pub(super) fn forget_offsets_of(&self, topic: &str) -> Result<()> {
        if let Err(error) = self.entries() {
            self.env.tell(&format!("groups cannot be read back: {error}"));
            return Ok(());
        }
        self.topic_changed(topic, None)
    }

    /// What time asks of the groups: ends sessions, forgets offsets that are too old, of groups that had no members for as
    /// long, and groups that have nothing left. Answers when to look again, in ms, but for sessions: those are looked after.
    pub(super) fn tidy_groups(&self) -> Result<Option<i64>> {
        self.coordinator.looks_at.store(u64::MAX, Release);
        let loaded = self.coordinator.groups.lock().expect("no panic under the groups' lock").is_some();
        if !loaded {
            return Ok(None);
        }
        let log = self.offsets_log()?;
        let (now_ms, mut last, mut next, mut left) = (self.env.clock.now_ms(), None, None::<i64>, vec![]);
        for entry in self.entries()? {
            let changed = self.change_and_write(&entry, |state, _| {
                if state.line.is_refused {
                    state.group.save_again();
                }
                let expire = |log| self.expire_offsets(log, &entry.name, state, now_ms);
                log.as_ref().map(expire).transpose()
            });
            let Some(Changed { done, written, nothing_left }) = changed else { continue };
            let Expired { written: expired, next_ms } = done?.unwrap_or_default();
            last = written.or(expired).or(last);
            next = next.into_iter().chain(next_ms).min();
            left.extend(nothing_left.then_some(entry));
        }
        make_durable(last)?;
        let last = left.iter().filter_map(|entry| self.put_to_rest(entry)).last();
        make_durable(last)?;
        if let Some(log) = log {
            make_durable(self.forget_resting(&log, now_ms)?)?;
        }
        let groups = self.coordinator.groups.lock().expect("no panic under the groups' lock");
        let next_rest = groups.as_ref().and_then(|groups| groups.resting.next_ms());
        Ok(next.into_iter().chain(next_rest).min())
    }

    /// Forgets offsets of a group that are too old, under its lock; with the last of them the group goes, if nobody is in it.
    fn expire_offsets(&self, log: &Arc<Partition>, name: &str, state: &mut EntryState, now_ms: i64) -> Result<Expired> {
        let retention_ms = self.config.offsets_retention.as_millis() as i64;
        let empty_since_ms = state.empty_since_ms.unwrap_or(now_ms);
        let due = |committed: &Committed| committed.timestamp_ms.max(empty_since_ms).saturating_add(retention_ms);
        let over = state.offsets.iter().filter(|(_, committed)| due(committed) <= now_ms);
        let over: Vec<Change> = over.map(|(key, _)| (key.clone(), None)).collect();
        let ends = !over.is_empty() && over.len() == state.offsets.len() && state.group.empty_since().is_some();
        let written = self.write_changes(log, name, state, over, ends)?;
        Ok(Expired { written, next_ms: state.offsets.values().map(due).min() })
    }

    /// Forgets groups that have rested long enough, and writes their ends.
    fn forget_resting(&self, log: &Arc<Partition>, now_ms: i64) -> Result<Option<WrittenOffsets>> {
        let mut last = None;
        loop {
            let mut groups = self.coordinator.groups.lock().expect("no panic under the groups' lock");
            let Some(groups) = groups.as_mut() else { return Ok(last) };
            let due = groups.resting.due(now_ms, FORGOTTEN_AT_ONCE);
            if due.is_empty() {
                return Ok(last);
            }
            let mut records = Records::default();
            committed_offsets::read_groups(log, &due, |name, _| {
                committed_offsets::push_group(&mut records, name, None);
            })?;
            if !records.is_empty() {
                last = Some(write_whole(log, &records)?);
            }
            groups.resting.forget(&due);
        }
    }
}

/// Writes records of a group to the groups' log, all or none of them.
fn write_whole(log: &Arc<Partition>, records: &Records<'_>) -> Result<WrittenOffsets> {
    let written = log.write(records, Terms { whole: true, ..Terms::default() });
    let appended = written.map_err(|error| match error {
        Error::BatchTooLarge { .. } => Error::CommitTooLarge,
        error => error,
    })?;
    Ok(WrittenOffsets { log: log.clone(), appended })
}

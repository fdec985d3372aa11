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
//!   until it is deleted. Then the log gets its end. One that never had a generation or an offset goes at once.
//! - What the log has is read back at the first use. Kafka's members then have their session timeout to be heard; text's and
//!   the library's ended with their connection.

mod admin;
mod assigned_partition;
mod classic;
mod membership;
#[cfg(all(test, not(shuttle)))]
mod restart_tests;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
#[cfg(all(test, not(shuttle)))]
mod tests;

pub use admin::{GroupSummary, Lag};
pub use assigned_partition::{PollLimits, PolledRecord};
pub use classic::{CommitOutcome, OffsetCommit};
pub use membership::{JoinOptions, Membership, PollWait};

use super::{
    BrokerState, Error, Partition, Result, Terms, Waiter,
    committed_offsets::{self, Committed, Logged, NAME_BYTES_MAX, Offsets},
    group::{Answer, Group, SavedGroup, Ticket},
    sync::{Mutex, MutexGuard},
};
use crate::log::{Appended, record::Records};
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

type Groups = BTreeMap<Arc<str>, Arc<Entry>>;

/// A group with its lock.
#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    state: Mutex<EntryState>,
}

#[derive(Debug)]
struct EntryState {
    group: Group,
    offsets: Offsets,
    waiting: BTreeMap<Ticket, Waiting>,
    /// Since when there are no members, by the time of day.
    empty_since_ms: Option<i64>,
    /// Until when it is kept although it has nothing left; `None`: there is no reason to.
    kept_until_ms: Option<i64>,
    line: GroupLine,
    /// It was forgotten, and another may have its name.
    gone: bool,
}

/// What the log has of a group.
#[derive(Debug, Default)]
struct GroupLine {
    /// Whether there is a line of it, which needs an end one day.
    is_there: bool,
    /// The end of what was written and may not be synced yet.
    unsynced_to: Option<u64>,
    /// Whether the disk refused the present state.
    is_refused: bool,
}

#[derive(Debug)]
struct Waiting {
    waiter: Arc<Waiter>,
    answer: Option<Answer>,
    /// The group's deadline at which it will look at the clock.
    until: Option<u64>,
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

impl Entry {
    fn new(name: &str, offsets: Offsets, group: Group, now_ms: i64) -> Arc<Entry> {
        let state = EntryState {
            group,
            offsets,
            waiting: BTreeMap::new(),
            empty_since_ms: Some(now_ms),
            kept_until_ms: None,
            line: GroupLine::default(),
            gone: false,
        };
        Arc::new(Entry { name: name.into(), state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, EntryState> {
        self.state.lock().expect("no panic under a group's lock")
    }
}

impl EntryState {
    fn has_nothing(&self) -> bool {
        let nothing_due = self.group.empty_since().is_some() && self.group.next_deadline().is_none();
        nothing_due && self.offsets.is_empty() && self.waiting.is_empty()
    }

    fn is_forgettable(&self, now_ms: i64) -> bool {
        self.has_nothing() && self.kept_until_ms.is_none_or(|until| until <= now_ms)
    }

    /// Brings answers to those who wait, and sees to it that one of them watches the clock.
    fn deliver(&mut self) {
        for (ticket, answer) in self.group.take_answers() {
            if let Some(waiting) = self.waiting.get_mut(&ticket) {
                waiting.answer = Some(answer);
                waiting.waiter.wake();
            }
        }
        let watched = self.waiting.values().filter_map(|waiting| waiting.until).min();
        if self.group.next_deadline().is_some_and(|due| watched.is_none_or(|watched| due < watched))
            && let Some(waiting) = self.waiting.values().next()
        {
            waiting.waiter.wake();
        }
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
        let Some(log) = self.offsets_log()? else { return Ok(Groups::new()) };
        let (now, now_ms) = (self.coordinator.now(), self.env.clock.now_ms());
        let logged = committed_offsets::read_back(&log, |what| self.env.tell(what))?;
        let entry = |(name, Logged { offsets, group }): (String, Logged)| {
            let line = GroupLine { is_there: group.is_some(), ..GroupLine::default() };
            let group = group.map_or_else(|| self.empty_group(now), |group| self.restored_group(now, group.saved));
            let entry = Entry::new(&name, offsets, group, now_ms);
            let mut state = entry.lock();
            (state.line, state.kept_until_ms) = (line, Some(kept_until_ms(now_ms)));
            drop(state);
            (entry.name.clone(), entry)
        };
        let groups: Groups = logged.into_iter().map(entry).collect();
        if !groups.is_empty() {
            self.look_by(now);
        }
        Ok(groups)
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

    fn restored_group(&self, now: u64, saved: SavedGroup) -> Group {
        Group::restore(now, self.initial_rebalance_delay_ms(), saved)
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

    fn entries(&self) -> Result<Vec<Arc<Entry>>> {
        Ok(self.groups()?.iter().flat_map(BTreeMap::values).cloned().collect())
    }

    fn entry(&self, name: &str) -> Result<Option<Arc<Entry>>> {
        Ok(self.groups()?.as_ref().and_then(|groups| groups.get(name)).cloned())
    }

    /// A name may be empty: Kafka's old clients keep offsets under it. No member joins there.
    fn entry_or_new(&self, name: &str) -> Result<Arc<Entry>> {
        if name.len() > NAME_BYTES_MAX {
            let why = format!("a group's name has at most {NAME_BYTES_MAX} bytes");
            return Err(Error::InvalidGroup(why));
        }
        let mut groups = self.groups()?;
        let groups = groups.as_mut().expect("read back above");
        if let Some(entry) = groups.get(name) {
            return Ok(entry.clone());
        }
        let group = self.empty_group(self.coordinator.now());
        let entry = Entry::new(name, Offsets::new(), group, self.env.clock.now_ms());
        groups.insert(entry.name.clone(), entry.clone());
        Ok(entry)
    }

    /// Does something with a group under its lock, and then what follows from it; what is written of the group is made
    /// durable. `None`: the group was forgotten.
    fn change<T>(&self, entry: &Arc<Entry>, change: impl FnOnce(&mut EntryState, u64) -> T) -> Option<T> {
        let Changed { done, written } = self.change_and_write(entry, change)?;
        if let Some(Err(error)) = written.map(|written| written.make_durable()) {
            self.refuse_line(&mut entry.lock(), &error);
        }
        Some(done)
    }

    /// As [`change`](Self::change), but the caller makes durable what is written of the group.
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
        let mut written = self.save(&entry.name, &mut state);
        state.deliver();
        state.empty_since_ms = match (state.group.empty_since(), state.empty_since_ms) {
            (Some(since), None) => Some(now_ms - now.saturating_sub(since) as i64),
            (Some(_), known) => known,
            (None, _) => None,
        };
        let forgettable = state.is_forgettable(now_ms);
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
        if forgettable {
            written = self.forget(entry, now_ms).or(written);
        } else {
            self.look_by(due);
        }
        Some(Changed { done, written })
    }

    /// Writes what a restart must find of a group, if that has changed, under its lock.
    fn save(&self, name: &str, state: &mut EntryState) -> Option<WrittenOffsets> {
        let saved = state.group.take_unsaved()?;
        let mut records = Records::default();
        committed_offsets::push_group(&mut records, name, Some(&saved));
        let log = self.offsets_log().and_then(|log| log.ok_or(Error::UnknownTopic(committed_offsets::TOPIC.into())));
        match log.and_then(|log| write_whole(&log, &records)) {
            Ok(written) => {
                let unsynced_to = Some(written.appended.offsets.end);
                state.line = GroupLine { is_there: true, unsynced_to, is_refused: false };
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

    /// As [`change`](Self::change), of a group by name; it is made if need be.
    fn change_or_new<T>(&self, name: &str, change: impl FnOnce(&mut EntryState, u64) -> T) -> Result<(Arc<Entry>, T)> {
        // What is written of the group needs its place. That is made before the lock is taken.
        if let Err(error) = self.offsets_log_or_new() {
            self.tell_refusal(&error);
        }
        let mut change = Some(change);
        loop {
            let entry = self.entry_or_new(name)?;
            let done = self.change(&entry, |state, now| change.take().expect("it was not done yet")(state, now));
            if let Some(done) = done {
                return Ok((entry, done));
            }
        }
    }

    /// Forgets a group that has nothing left, and writes its end.
    fn forget(&self, entry: &Arc<Entry>, now_ms: i64) -> Option<WrittenOffsets> {
        let mut groups = self.coordinator.groups.lock().expect("no panic under the groups' lock");
        let mut state = entry.lock();
        if !state.is_forgettable(now_ms) || state.gone {
            return None;
        }
        let log = self.offsets_log().ok().flatten().filter(|_| state.line.is_there);
        let ended = log.map(|log| self.write_changes(&log, &entry.name, &mut state, vec![], true)).transpose();
        state.gone = true;
        groups.as_mut().and_then(|groups| groups.remove(&entry.name));
        // Where the disk refuses it, the group is there again after a restart, for a while.
        ended.unwrap_or_else(|error| {
            self.tell_refusal(&error);
            None
        })?
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
        if ends && state.line.is_there {
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
            let Some(Changed { done, written }) = changed else { continue };
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
        let retention_ms = self.config.offsets_retention.as_millis() as i64;
        let loaded = self.coordinator.groups.lock().expect("no panic under the groups' lock").is_some();
        if !loaded {
            return Ok(None);
        }
        let log = self.offsets_log()?;
        let (now_ms, mut last, mut next) = (self.env.clock.now_ms(), None, None::<i64>);
        for entry in self.entries()? {
            let changed = self.change_and_write(&entry, |state, _| {
                let due = |state: &EntryState, committed: &Committed| {
                    committed.timestamp_ms.max(state.empty_since_ms.unwrap_or(now_ms)).saturating_add(retention_ms)
                };
                let over = state.offsets.iter().filter(|(_, committed)| due(state, committed) <= now_ms);
                let over: Vec<Change> = over.map(|(key, _)| (key.clone(), None)).collect();
                let written = match log.as_ref().filter(|_| !over.is_empty()) {
                    Some(log) => {
                        let ends = over.len() == state.offsets.len() && state.group.empty_since().is_some();
                        self.write_changes(log, &entry.name, state, over, ends)?
                    }
                    None => None,
                };
                let soonest = state.offsets.values().map(|committed| due(state, committed)).min();
                let kept = state.kept_until_ms.filter(|&until| state.has_nothing() && until > now_ms);
                if state.line.is_refused {
                    state.group.save_again();
                }
                Ok::<_, Error>((written, soonest.or(kept)))
            });
            let Some(Changed { done, written }) = changed else { continue };
            let (offsets_written, soonest) = done?;
            last = written.or(offsets_written).or(last);
            next = next.into_iter().chain(soonest).min();
        }
        make_durable(last)?;
        Ok(next)
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

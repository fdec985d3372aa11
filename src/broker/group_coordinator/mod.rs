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
//! - There is no timer thread. Whoever comes to a group first lets its time pass, and who waits does so when the group's
//!   next deadline is due: should it move closer, one of those who wait is woken to look at the clock anew.
//! - A group without members, offsets and promises is forgotten: one that Kafka's members made, or whose last offset was
//!   deleted, after ten minutes or when it is deleted itself, as in Kafka; any other at once.
//!
//! Left out: membership is not stored. After a restart members join again; what they committed is read back when the first
//! of them does.

mod admin;
mod assigned_partition;
mod classic;
mod membership;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
#[cfg(all(test, not(shuttle)))]
mod tests;

pub use admin::{GroupSummary, Lag};
pub use assigned_partition::{PollLimits, PolledRecord};
pub use classic::{CommitOutcome, OffsetCommit};
pub use membership::{JoinOptions, Membership, PollWait};

use super::{
    BrokerState, Error, Partition, Result, Waiter,
    committed_offsets::{self, Committed, Offsets},
    group::{Answer, Group, Ticket},
    sync::{Mutex, MutexGuard},
};
use crate::log::{Appended, record::Records};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// Kafka's bounds of a session are 6 s (which can be lowered) and this; text's begin at [`SESSION_MS_MIN`].
const SESSION_MS_MAX: u64 = 30 * 60 * 1000;
/// The shortest session of a text member.
const SESSION_MS_MIN: u64 = 100;
/// How long a group may be found that has nothing left: Kafka's `offsets.retention.check.interval.ms`.
const EMPTY_KEPT: Duration = Duration::from_secs(600);
/// The longest name of a group, Kafka's limit for any string.
const NAME_BYTES_MAX: usize = i16::MAX as usize;

/// How a request waits: until it is woken (true), or until the time or the connection is over (false).
pub type Wait<'a> = &'a mut dyn FnMut(Option<Instant>) -> bool;

/// All groups.
#[derive(Debug)]
pub(super) struct Coordinator {
    started: Instant,
    /// `None` until the committed offsets are read back.
    groups: Mutex<Option<Groups>>,
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
    /// It was forgotten, and another may have its name.
    gone: bool,
}

#[derive(Debug)]
struct Waiting {
    waiter: Arc<Waiter>,
    answer: Option<Answer>,
    /// The group's deadline at which it will look at the clock.
    until: Option<u64>,
}

/// What was written to the log of committed offsets, and is as durable as an acknowledged record after [`make_durable`](Self::make_durable).
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

/// Makes durable what was written, if anything was.
fn make_durable(written: Option<WrittenOffsets>) -> Result<()> {
    written.map_or(Ok(()), |written| written.make_durable())
}

/// A change of a group's offsets: one is committed, or deleted (`None`).
type Change = ((Arc<str>, u32), Option<Committed>);

impl Default for Coordinator {
    fn default() -> Coordinator {
        Coordinator { started: Instant::now(), groups: Mutex::new(None) }
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
        let groups = committed_offsets::read_back(&log, |what| self.env.tell(what))?;
        if !groups.is_empty() {
            self.env.chores.look_in(self.config.offsets_retention);
        }
        let entry = |(name, offsets): (String, Offsets)| {
            let entry = Entry::new(&name, offsets, self.empty_group(now), now_ms);
            (entry.name.clone(), entry)
        };
        Ok(groups.into_iter().map(entry).collect())
    }

    fn empty_group(&self, now: u64) -> Group {
        Group::new(now, self.config.group_initial_rebalance_delay.as_millis() as u64)
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

    /// Does something with a group under its lock, and then what follows from it. `None`: the group was forgotten.
    fn change<T>(&self, entry: &Arc<Entry>, change: impl FnOnce(&mut EntryState, u64) -> T) -> Option<T> {
        let mut state = entry.lock();
        if state.gone {
            return None;
        }
        let (now, now_ms) = (self.coordinator.now(), self.env.clock.now_ms());
        if !state.offsets.is_empty() || state.group.has_classic_members() {
            state.kept_until_ms = Some(now_ms + EMPTY_KEPT.as_millis() as i64);
        }
        let generation = state.group.generation();
        state.group.tick(now);
        let done = change(&mut state, now);
        self.metrics.rebalances.add(u64::try_from(state.group.generation() - generation).unwrap_or(0));
        state.deliver();
        state.empty_since_ms = match (state.group.empty_since(), state.empty_since_ms) {
            (Some(since), None) => Some(now_ms - now.saturating_sub(since) as i64),
            (Some(_), known) => known,
            (None, _) => None,
        };
        let (nothing, forgettable) = (state.has_nothing(), state.is_forgettable(now_ms));
        drop(state);
        if forgettable {
            self.forget(entry, now_ms);
        } else if nothing {
            self.env.chores.look_in(EMPTY_KEPT);
        }
        Some(done)
    }

    /// As [`change`](Self::change), of a group by name; it is made if need be.
    fn change_or_new<T>(&self, name: &str, change: impl FnOnce(&mut EntryState, u64) -> T) -> Result<(Arc<Entry>, T)> {
        let mut change = Some(change);
        loop {
            let entry = self.entry_or_new(name)?;
            let done = self.change(&entry, |state, now| change.take().expect("it was not done yet")(state, now));
            if let Some(done) = done {
                return Ok((entry, done));
            }
        }
    }

    fn forget(&self, entry: &Arc<Entry>, now_ms: i64) {
        let mut groups = self.coordinator.groups.lock().expect("no panic under the groups' lock");
        let mut state = entry.lock();
        if state.is_forgettable(now_ms) && !state.gone {
            state.gone = true;
            groups.as_mut().and_then(|groups| groups.remove(&entry.name));
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

    /// Writes changes of a group's offsets, under its lock.
    fn write_offsets(
        &self,
        log: &Arc<Partition>,
        name: &str,
        offsets: &mut Offsets,
        changes: Vec<Change>,
    ) -> Result<Option<WrittenOffsets>> {
        if changes.is_empty() {
            return Ok(None);
        }
        let mut records = Records::default();
        for ((topic, partition), committed) in &changes {
            committed_offsets::push(&mut records, name, (topic, *partition), committed.as_ref());
        }
        let mut appended = log.write(&records, super::Terms::default())?;
        let written = (appended.offsets.end - appended.offsets.start) as usize;
        for (key, committed) in changes.into_iter().take(written) {
            match committed {
                Some(committed) => drop(offsets.insert(key, committed)),
                None => drop(offsets.remove(&key)),
            }
        }
        match appended.failed.take() {
            Some(why) => Err(why.into()),
            None => Ok(Some(WrittenOffsets { log: log.clone(), appended })),
        }
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
            let done = self.change(&entry, |state, now| {
                state.group.topic_changed(now, topic, partitions);
                let Some(log) = log.as_ref().filter(|_| partitions.is_none()) else { return Ok(None) };
                let lost = state.offsets.keys().filter(|(of, _)| **of == *topic).map(|key| (key.clone(), None));
                let lost = lost.collect();
                self.write_offsets(log, &entry.name, &mut state.offsets, lost)
            });
            last = done.unwrap_or(Ok(None))?.or(last);
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

    /// Forgets offsets that are too old, of groups that had no members for as long, and groups that have nothing left.
    /// Answers when to look again, in ms.
    pub(super) fn expire_offsets(&self) -> Result<Option<i64>> {
        let retention_ms = self.config.offsets_retention.as_millis() as i64;
        let loaded = self.coordinator.groups.lock().expect("no panic under the groups' lock").is_some();
        if !loaded {
            return Ok(None);
        }
        let log = self.offsets_log()?;
        let (now_ms, mut last, mut next) = (self.env.clock.now_ms(), None, None::<i64>);
        for entry in self.entries()? {
            let done = self.change(&entry, |state, _| {
                let due = |state: &EntryState, committed: &Committed| {
                    committed.timestamp_ms.max(state.empty_since_ms.unwrap_or(now_ms)).saturating_add(retention_ms)
                };
                let over = state.offsets.iter().filter(|(_, committed)| due(state, committed) <= now_ms);
                let over: Vec<Change> = over.map(|(key, _)| (key.clone(), None)).collect();
                let written = match log.as_ref().filter(|_| !over.is_empty()) {
                    Some(log) => self.write_offsets(log, &entry.name, &mut state.offsets, over)?,
                    None => None,
                };
                if written.is_some() && state.offsets.is_empty() {
                    state.kept_until_ms = None;
                }
                let soonest = state.offsets.values().map(|committed| due(state, committed)).min();
                let kept = state.kept_until_ms.filter(|&until| state.has_nothing() && until > now_ms);
                Ok::<_, Error>((written, soonest.or(kept)))
            });
            let Some((written, soonest)) = done.transpose()? else { continue };
            last = written.or(last);
            next = next.into_iter().chain(soonest).min();
        }
        make_durable(last)?;
        Ok(next)
    }
}

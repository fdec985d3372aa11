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
//! - What a restart must find of a group is written to the log under its lock when it changes, as one batch, and synced before a
//!   member is told of its assignment or its epoch, whatever the flush mode ([`BrokerState::sync_line`]). A disk that refuses it stops no group: it
//!   goes on in memory, and GROUP says so.
//! - A group without members and offsets is there for ten minutes more, so that whoever joins gets a higher generation, or
//!   until it is deleted. Then the log gets its end. In that time it [rests](resting), and takes next to no memory. One that
//!   never had a generation or an offset goes at once.
//! - What a member of a share group holds is released when it is gone, without the group's lock.
//! - A share group is there until it is deleted, though it may rest: how far it has come does not depend on its members.
//! - Offsets that a transaction commits are [pending] until it ends.
//! - What the log has is read back at the first use. Kafka's members, of both protocols, then have their session timeout to be
//!   heard; text's and the library's ended with their connection.

mod admin;
mod assigned_partition;
mod classic;
#[cfg(all(test, feature = "kafka", not(shuttle)))]
mod consumer_restart_tests;
mod group_cell;
mod group_log;
mod heartbeat;
mod join_options;
mod membership;
mod pending;
#[cfg(all(test, not(shuttle)))]
mod pending_tests;
#[cfg(all(test, not(shuttle)))]
mod restart_tests;
mod resting;
mod share;
#[cfg(all(test, not(shuttle)))]
mod share_tests;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
#[cfg(all(test, not(shuttle)))]
mod tests;
mod upkeep;

pub use admin::{GroupSummary, Lag};
#[cfg(feature = "http")]
pub use admin::{ObservedGroup, ObservedOffset};
pub use classic::{CommitOutcome, OffsetCommit};
pub use join_options::JoinOptions;
pub use membership::{Membership, PollWait};
pub use share::ShareSeat;

use super::{
    BrokerState, Error, Result,
    committed_offsets::{self, Logged, LoggedGroup},
    group::{Answer, Group, Ticket},
    internal_log::{LogWrite, make_durable},
    sync::{Mutex, MutexGuard},
    words::STRING_BYTES_MAX,
};
use group_cell::{GroupCell, GroupState, Waiting};
use group_log::OffsetChange;
use pending::PendingGroups;
use resting::{Rest, Resting};
use std::{
    cell::LazyCell,
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
    pending: PendingGroups,
    /// When maintenance will look at the groups; `u64::MAX`: it need not.
    looks_at: AtomicU64,
    /// Whether it was told that the disk refuses the groups.
    told_refusal: AtomicBool,
}

/// The groups, by name: each is in one of the two.
#[derive(Debug, Default)]
struct Groups {
    /// Those that somebody is in or that have offsets, and those that somebody asks about.
    awake: BTreeMap<Arc<str>, Arc<GroupCell>>,
    resting: Resting,
}

/// Until when a group is kept that has nothing left at this time: a share group until it is deleted.
fn kept_until_ms(group: &Group, now_ms: i64) -> i64 {
    if group.is_share() { i64::MAX } else { now_ms.saturating_add(EMPTY_KEPT.as_millis() as i64) }
}

fn check_group_name(name: &str) -> Result<()> {
    match name.len() > STRING_BYTES_MAX {
        true => Err(Error::InvalidGroup(format!("a group's name has at most {STRING_BYTES_MAX} bytes"))),
        false => Ok(()),
    }
}

/// The groups that may have read anything.
#[cfg(feature = "http")]
struct Reading {
    awake: Vec<Arc<GroupCell>>,
    /// Names of share groups.
    resting: Vec<Arc<str>>,
}

/// What a change of a group came to.
struct Changed<T> {
    /// What the change answered.
    done: T,
    /// What was written of the group itself, which is not durable yet.
    written: Option<LogWrite>,
    /// Whether nobody is in the group any more, and nothing committed.
    nothing_left: bool,
}

impl Default for Coordinator {
    fn default() -> Coordinator {
        Coordinator {
            started: Instant::now(),
            groups: Mutex::new(None),
            pending: PendingGroups::default(),
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
        let topics = LazyCell::new(|| self.counted_topics());
        for (name, Logged { offsets, group, members }) in
            committed_offsets::read_back(&log, |what| self.env.tell(what))?
        {
            let cell = match group {
                Some(group) => self.restored(&name, group, None),
                None => GroupCell::new(&name, self.empty_group(now), now_ms),
            };
            if !members.is_empty() {
                let mut state = cell.lock();
                state.group.restore_members(now, members, &topics);
                state.empty_since_ms = state.group.empty_since().map(|_| now_ms);
            }
            offsets.pending_producers().for_each(|producer_id| self.coordinator.pending.add(producer_id, &cell.name));
            cell.lock().offsets = offsets;
            groups.awake.insert(cell.name.clone(), Arc::new(cell));
        }
        if !groups.awake.is_empty() {
            self.look_by(now);
        }
        Ok(groups)
    }

    /// A group as the log has it, which is kept until then where it rested.
    fn restored(&self, name: &str, group: LoggedGroup, rests_until_ms: Option<i64>) -> GroupCell {
        let LoggedGroup { saved, offset } = group;
        let (now, now_ms) = (self.coordinator.now(), self.env.clock.now_ms());
        let mut restored = Group::restore(now, self.initial_rebalance_delay_ms(), saved);
        // What became of topics meanwhile nobody told a group that was on the disk alone.
        let topics: Vec<String> = restored.known_topics().into_iter().map(String::from).collect();
        for topic in topics {
            let partitions = self.topic(&topic).ok().map(|topic| topic.partition_count());
            restored.topic_changed(now, &topic, partitions);
        }
        let kept_until_ms = rests_until_ms.unwrap_or_else(|| kept_until_ms(&restored, now_ms));
        let cell = GroupCell::new(name, restored, now_ms);
        let mut state = cell.lock();
        (state.line.offset, state.kept_until_ms) = (Some(offset), Some(kept_until_ms));
        drop(state);
        cell
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

    /// All groups but those that rest.
    fn awake_groups(&self) -> Result<Vec<Arc<GroupCell>>> {
        Ok(self.groups()?.iter().flat_map(|groups| groups.awake.values()).cloned().collect())
    }

    /// All groups that may have read anything: those that are awake, and the names of share groups that rest, which stay asleep.
    #[cfg(feature = "http")]
    fn groups_with_offsets(&self) -> Result<Reading> {
        let names = self.saved_share_groups()?;
        let groups = self.groups()?;
        let groups = groups.as_ref().expect("read back above");
        let rests = |name: &Arc<str>| !groups.awake.contains_key(name) && groups.resting.get(name).is_some();
        Ok(Reading {
            awake: groups.awake.values().cloned().collect(),
            resting: names.into_iter().filter(rests).collect(),
        })
    }

    /// The names of groups, and the lines of those that rest.
    fn all_groups(&self) -> Result<(Vec<Arc<str>>, Vec<u64>)> {
        let groups = self.groups()?;
        let groups = groups.as_ref().expect("read back above");
        Ok((groups.awake.keys().cloned().collect(), groups.resting.lines()))
    }

    /// Whether there is a group of this name.
    pub(super) fn has_group(&self, name: &str) -> Result<bool> {
        Ok(self.find_group(name)?.is_some())
    }

    fn find_group(&self, name: &str) -> Result<Option<Arc<GroupCell>>> {
        let mut groups = self.groups()?;
        self.find(groups.as_mut().expect("read back above"), name)
    }

    /// A name may be empty: Kafka's old clients keep offsets under it. No member joins there.
    fn find_or_make(&self, name: &str) -> Result<Arc<GroupCell>> {
        check_group_name(name)?;
        let mut groups = self.groups()?;
        let groups = groups.as_mut().expect("read back above");
        if let Some(cell) = self.find(groups, name)? {
            return Ok(cell);
        }
        // Whoever joins ever new groups, with long sessions, comes no further.
        if groups.awake.len() >= self.config.groups_max {
            return Err(Error::TooManyGroups(self.config.groups_max));
        }
        let group = self.empty_group(self.coordinator.now());
        let cell = Arc::new(GroupCell::new(name, group, self.env.clock.now_ms()));
        groups.awake.insert(cell.name.clone(), cell.clone());
        Ok(cell)
    }

    /// The group of this name. One that rests is awake from here on, until somebody has changed or described it.
    fn find(&self, groups: &mut Groups, name: &str) -> Result<Option<Arc<GroupCell>>> {
        if let Some(cell) = groups.awake.get(name) {
            return Ok(Some(cell.clone()));
        }
        let (Some(rest), Some(log)) = (groups.resting.get(name), self.offsets_log()?) else { return Ok(None) };
        let mut found = None;
        committed_offsets::read_groups(&log, &[rest.line], |named, group| {
            found = (named == name).then(|| Arc::new(self.restored(name, group, Some(rest.until_ms))));
        })?;
        if let Some(cell) = &found {
            groups.resting.remove(name);
            groups.awake.insert(cell.name.clone(), cell.clone());
        }
        Ok(found)
    }

    /// Does something with a group under its lock, and then what follows from it; what is written of the group is made
    /// durable. `None`: the group is gone.
    fn change<T>(&self, cell: &Arc<GroupCell>, change: impl FnOnce(&mut GroupState, u64) -> T) -> Option<T> {
        let Changed { done, written, nothing_left } = self.change_and_write(cell, change)?;
        if let Some(Err(error)) = written.map(|written| written.make_durable()) {
            self.refuse_line(&mut cell.lock(), &error);
        }
        if nothing_left && let Err(error) = make_durable(self.put_to_rest(cell)) {
            self.tell_refusal(&error);
        }
        Some(done)
    }

    /// As [`change`](Self::change), but the caller makes durable what is written, and then
    /// [puts to rest](Self::put_to_rest) what has nothing left.
    fn change_and_write<T>(
        &self,
        cell: &Arc<GroupCell>,
        change: impl FnOnce(&mut GroupState, u64) -> T,
    ) -> Option<Changed<T>> {
        let mut state = cell.lock();
        if state.gone {
            return None;
        }
        let (now, now_ms) = (self.coordinator.now(), self.env.clock.now_ms());
        if !state.offsets.is_empty() || state.group.empty_since().is_none() {
            state.kept_until_ms = Some(kept_until_ms(&state.group, now_ms));
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
        let written = self.save(&cell.name, &mut state);
        state.deliver();
        let gone = state.group.take_gone();
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
        gone.iter().for_each(|member| self.release_member(&cell.name, member));
        self.look_by(due);
        Some(Changed { done, written, nothing_left })
    }

    /// Lets a group rest that has nothing left, or forgets it and writes its end: see [`resting`].
    fn put_to_rest(&self, cell: &GroupCell) -> Option<LogWrite> {
        let mut groups = self.coordinator.groups.lock().expect("no panic under the groups' lock");
        let groups = groups.as_mut()?;
        let mut state = cell.lock();
        if !state.has_nothing() || state.gone {
            return None;
        }
        let log = self.offsets_log().ok().flatten();
        let mut written = None;
        let is_kept = state.is_kept(self.env.clock.now_ms());
        if is_kept && state.group.is_share() && groups.resting.is_full() {
            return None;
        }
        if is_kept && !groups.resting.is_full() {
            let until_ms = state.kept_until_ms.unwrap_or(0);
            // A line that is not synced yet cannot be read everywhere: the group rests when somebody looks at it next.
            let line = state.line.offset.filter(|_| !state.line.is_refused);
            let line = line.filter(|&line| log.is_some_and(|log| log.high_watermark().is_ok_and(|end| line < end)));
            if !line.is_some_and(|line| groups.resting.insert(&cell.name, Rest { line, until_ms })) {
                return None;
            }
        } else if let Some(log) = log {
            // Where the disk refuses its end, the group is there again after a restart, for a while.
            written = self.write_changes(&log, &cell.name, &mut state, vec![], true).unwrap_or_else(|error| {
                self.tell_refusal(&error);
                None
            });
        }
        state.gone = true;
        groups.awake.remove(&cell.name);
        written
    }

    /// As [`change`](Self::change), of a group by name. `None`: there is no such group.
    fn change_named<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut GroupState, u64) -> T,
    ) -> Result<Option<(Arc<GroupCell>, T)>> {
        self.change_found(|| self.find_group(name), change)
    }

    /// As [`change`](Self::change), of a group by name; it is made if need be.
    fn change_or_new<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut GroupState, u64) -> T,
    ) -> Result<(Arc<GroupCell>, T)> {
        // What is written of the group needs its place. That is made before the lock is taken.
        if let Err(error) = self.offsets_log_or_new() {
            self.tell_refusal(&error);
        }
        let changed = self.change_found(|| self.find_or_make(name).map(Some), change)?;
        Ok(changed.expect("a group is found or made"))
    }

    /// Changes the group that `find` answers, which is asked again if that one is gone meanwhile: it may rest.
    fn change_found<T>(
        &self,
        find: impl Fn() -> Result<Option<Arc<GroupCell>>>,
        change: impl FnOnce(&mut GroupState, u64) -> T,
    ) -> Result<Option<(Arc<GroupCell>, T)>> {
        let mut change = Some(change);
        loop {
            let Some(cell) = find()? else { return Ok(None) };
            let done = self.change(&cell, |state, now| change.take().expect("it was not done yet")(state, now));
            if let Some(done) = done {
                return Ok(Some((cell, done)));
            }
        }
    }

    /// Waits for the answer to a ticket that was put among those who wait. `None`: the wait is over without one.
    fn wait_for(&self, cell: &Arc<GroupCell>, ticket: Ticket, wait: Wait<'_>) -> Option<Answer> {
        loop {
            let looked = self.change(cell, |state, _| {
                let due = state.group.next_deadline();
                let waiting = state.waiting.get_mut(&ticket)?;
                waiting.until = due;
                Some((waiting.answer.take(), due))
            });
            let (answer, due) = looked.flatten()?;
            if answer.is_some() {
                self.stop_waiting(cell, ticket);
                return answer;
            }
            let due = due.map(|due| self.coordinator.instant(due));
            if !wait(due) && due.is_none_or(|due| Instant::now() < due) {
                self.change(cell, |state, now| state.group.hung_up(now, ticket));
                self.stop_waiting(cell, ticket);
                return None;
            }
        }
    }

    fn stop_waiting(&self, cell: &Arc<GroupCell>, ticket: Ticket) {
        self.change(cell, |state, _| state.waiting.remove(&ticket));
    }
}

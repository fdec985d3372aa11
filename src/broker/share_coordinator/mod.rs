//! The coordinator of share groups' records: locks, log and waiting around the state machine of
//! [`share_partition`](super::share_partition).
//!
//! ```text
//! ShareConsumer (a text member, a share session of Kafka's) ──► ShareCell ──┬ SharePartition   who holds what (pure)
//!    acquire, acknowledge, release                               (a lock)   └ SavedShare       what the log has of it
//! ```
//!
//! Who is a member is the [group's](super::group::share) affair; here a member is a name under which records are held.
//!
//! Rules that always hold:
//! - What is acknowledged is in `__share_group_state` before the machine knows it, and as durable as the flush mode promises before
//!   it is answered ([`ShareWrite::make_durable`]). If the log refuses it nothing has changed, and the member still holds the records.
//! - What is released, by a member or because its time is over, is written too, so that a restart knows how often each record was
//!   handed out; if the log refuses that, it goes on in memory and is written with the next change.
//! - A record is handed out only while its state is under the lock: no two members get it.
//! - A share partition is one of a topic's partition, not of its name: of a topic that is dropped nothing is kept.
//! - A record that is rejected, or was handed out too often, is in the group's [dead letters](dead_letters) before it is done: a crash
//!   between the two repeats it, and loses none.
//! - Of a group that is deleted the ends of all this are synced before the group's own end is written: whoever makes a group of its name finds
//!   nothing of it, and after a crash in between there is still the group to be deleted again.
//! - There are no timers. Whoever comes lets the time of locks pass, and who waits for records does so until the next lock's end.
//! - Where a group begins at the end, or at a time, the offset is written when the partition is first looked at: a restart must not
//!   find another one.

mod admin;
mod consumer;
#[cfg(all(test, not(shuttle)))]
mod crash_tests;
mod dead_letters;
mod membership;
#[cfg(all(test, not(shuttle)))]
mod membership_tests;
#[cfg(feature = "kafka")]
mod sessions;
mod state_log;
#[cfg(all(test, not(shuttle)))]
mod tests;

pub use consumer::{ShareConsumer, ShareWrite};
pub use membership::{ShareMembership, ShareOptions, SharedRecord};
#[cfg(feature = "kafka")]
pub(super) use sessions::ShareSessions;
#[cfg(feature = "kafka")]
pub use sessions::{SessionChange, SessionPlace, SessionRef, SessionTurn};
#[cfg(feature = "kafka")]
pub(super) use state_log::TOPIC as STATE_TOPIC;

use super::{
    BrokerState, Error, Isolation, PartitionHandle, Position, ReadSession, Result, Waiters,
    internal_log::LogWrite,
    share_partition::{Dead, Limits, SavedShare, SharePartition},
    sync::{Mutex, MutexGuard},
};
use crate::{
    config::{DeadLetterTopic, GroupSettings, IsolationLevel, OffsetReset},
    metrics::Counter,
};
use dead_letters::Buried;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::*},
    },
    time::{Duration, Instant},
};

/// Dead letters that could not be written are tried again after this time, then after twice as long,
const BURY_AGAIN_MS: u64 = 1000;
/// at last once in so many ms.
const BURY_AGAIN_MS_MAX: u64 = 60_000;

/// All share partitions.
#[derive(Debug)]
pub(super) struct ShareCoordinator {
    started: Instant,
    /// `None` until the log is read back.
    shares: Mutex<Option<Shares>>,
    /// Held while a member of text or of the library joins, from the check of the group's settings to its seat.
    joining: Mutex<()>,
    /// Whether it was told that the log refuses what is released; until a line is written.
    told_refusal: AtomicBool,
    /// Whether it was told that dead letters cannot be written; until some are.
    told_waiting: AtomicBool,
    /// What was done with records.
    pub(super) counts: ShareCounts,
}

/// What was done with the records of share groups since the start.
#[derive(Debug, Default)]
pub struct ShareCounts {
    /// Records that were handed out, each time.
    pub delivered: Counter,
    /// Those of them that had been handed out before.
    pub redelivered: Counter,
    /// Records that were accepted.
    pub accepted: Counter,
    /// Records that were released by who had them.
    pub released: Counter,
    /// Records that were rejected.
    pub rejected: Counter,
    /// Records that were handed out as often as may be, and processed by nobody.
    pub exhausted: Counter,
}

/// The share partitions by group, then by topic and partition.
type Shares = BTreeMap<Arc<str>, BTreeMap<ShareKey, Arc<ShareCell>>>;
type ShareKey = (Arc<str>, u32);

/// What a group has of a partition, with its lock.
#[derive(Debug)]
struct ShareCell {
    group: Arc<str>,
    topic: Arc<str>,
    partition: u32,
    state: Mutex<ShareState>,
    /// Those who wait for records that are released.
    waiters: Waiters,
}

#[derive(Debug, Default)]
struct ShareState {
    /// What the log has.
    saved: Option<SavedShare>,
    open: Option<OpenShare>,
    /// The line that says where the group begins, until it is durable.
    first: Option<LogWrite>,
    /// Whether the log may not have what is known here: it refused it, or could not be synced.
    is_unsaved: bool,
    /// How long dead letters that cannot be written wait before the next try; 0: none do.
    bury_again_ms: u64,
    /// It is not found here any more, and another may have its place.
    is_gone: bool,
}

/// A share partition that was looked at since the start.
#[derive(Debug)]
struct OpenShare {
    /// For all members: dead letters are read by it, whoever found the partition first.
    of: PartitionHandle,
    machine: SharePartition,
    /// The leader epoch of the partition's records that the machine knows.
    leader_epoch: u32,
}

/// What a group's settings come to here.
#[derive(Clone, Debug)]
pub(crate) struct ShareTerms {
    limits: Limits,
    isolation: Isolation,
    reset: OffsetReset,
    /// Where records go that nobody could process.
    dead_letters: Option<Arc<str>>,
    /// Whether members may hold a record for longer by saying so.
    renews: bool,
}

impl Default for ShareCoordinator {
    fn default() -> ShareCoordinator {
        ShareCoordinator {
            started: Instant::now(),
            shares: Mutex::new(None),
            joining: Mutex::new(()),
            told_refusal: AtomicBool::new(false),
            told_waiting: AtomicBool::new(false),
            counts: ShareCounts::default(),
        }
    }
}

impl ShareCoordinator {
    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn instant(&self, deadline: u64) -> Instant {
        self.started + Duration::from_millis(deadline)
    }
}

impl ShareTerms {
    fn of(settings: &GroupSettings) -> ShareTerms {
        let limits = Limits {
            deliveries: settings.share_delivery_count_limit as u32,
            locks: settings.share_partition_max_record_locks as u64,
            lock_ms: settings.share_record_lock_duration_ms as u64,
        };
        let isolation = match settings.share_isolation_level {
            IsolationLevel::ReadCommitted => Isolation::ReadCommitted,
            IsolationLevel::ReadUncommitted => Isolation::ReadUncommitted,
        };
        let DeadLetterTopic(topic) = &settings.dead_letter_topic;
        let dead_letters = (!topic.is_empty()).then(|| topic.as_str().into());
        let (reset, renews) = (settings.share_auto_offset_reset.clone(), settings.share_renew_acknowledge_enable);
        ShareTerms { limits, isolation, reset, dead_letters, renews }
    }
}

impl ShareCell {
    fn new(group: &Arc<str>, (topic, partition): ShareKey, saved: Option<SavedShare>) -> ShareCell {
        let state = ShareState { saved, ..ShareState::default() };
        ShareCell { group: group.clone(), topic, partition, state: Mutex::new(state), waiters: Waiters::default() }
    }

    fn lock(&self) -> MutexGuard<'_, ShareState> {
        self.state.lock().expect("no panic under a share partition's lock")
    }

    fn key(&self) -> ShareKey {
        (self.topic.clone(), self.partition)
    }
}

impl OpenShare {
    /// Adapts it to what became of the partition's log: a crash, or a fault, may have cut it off, and retention or TRIM moved its start.
    fn adapt(&mut self) -> Result<()> {
        let leader_epoch = self.of.leader_epoch();
        if leader_epoch != self.leader_epoch {
            let end = self.of.end_of_epoch(self.leader_epoch)?.map_or(0, |end| end.end);
            self.machine.cut(end);
            self.leader_epoch = leader_epoch;
        }
        self.machine.trim(self.of.start()?);
        Ok(())
    }
}

impl BrokerState {
    /// All share partitions, after the log was read back.
    fn shares(&self) -> Result<MutexGuard<'_, Option<Shares>>> {
        let mut shares = self.shares.shares.lock().expect("no panic under the share partitions' lock");
        if shares.is_none() {
            *shares = Some(self.read_back_shares()?);
        }
        Ok(shares)
    }

    fn read_back_shares(&self) -> Result<Shares> {
        let mut shares = Shares::new();
        let Some(log) = self.internal_log(state_log::TOPIC)? else { return Ok(shares) };
        for (name, saved) in state_log::read_back(&log, |what| self.env.tell(what))? {
            let group: Arc<str> =
                shares.get_key_value(&*name.group).map_or_else(|| name.group.into(), |(group, _)| group.clone());
            let key = (name.topic, name.partition);
            let cell = ShareCell::new(&group, key.clone(), Some(saved));
            shares.entry(group).or_default().insert(key, cell.into());
        }
        Ok(shares)
    }

    /// What a group has of a partition; there is a place for it from here on.
    fn share_cell(&self, group: &Arc<str>, key: &ShareKey) -> Result<Arc<ShareCell>> {
        let mut shares = self.shares()?;
        let shares = shares.as_mut().expect("read back above");
        let of_group = shares.entry(group.clone()).or_default();
        let cell = of_group.entry(key.clone()).or_insert_with(|| ShareCell::new(group, key.clone(), None).into());
        Ok(cell.clone())
    }

    /// All that groups have of partitions, as far as `which` says.
    fn share_cells(&self, which: impl Fn(&ShareCell) -> bool) -> Result<Vec<Arc<ShareCell>>> {
        let shares = self.shares()?;
        let all = shares.iter().flat_map(|shares| shares.values()).flat_map(|of_group| of_group.values());
        Ok(all.filter(|cell| which(cell)).cloned().collect())
    }

    /// Those of one group.
    fn share_cells_of(&self, group: &str) -> Result<Vec<Arc<ShareCell>>> {
        let shares = self.shares()?;
        let of_group = shares.as_ref().and_then(|shares| shares.get(group));
        Ok(of_group.map(|of_group| of_group.values().cloned().collect()).unwrap_or_default())
    }

    /// Makes the machine of a share partition ready, under its lock: it is read from what was saved, or begins where the group's
    /// settings say. Then the time of locks passes.
    fn open_share<'s>(
        &self,
        cell: &ShareCell,
        state: &'s mut ShareState,
        of: &PartitionHandle,
        terms: &ShareTerms,
    ) -> Result<&'s mut OpenShare> {
        self.begin_share(cell, state, of, terms)?;
        if let Some(first) = &state.first {
            first.make_durable()?;
            state.first = None;
        }
        self.let_time_pass(cell, state, terms);
        let open = state.open.as_mut().expect("begun above");
        open.adapt()?;
        Ok(open)
    }

    /// The first part of that: where the group begins is known, and written, but not durable.
    fn begin_share(
        &self,
        cell: &ShareCell,
        state: &mut ShareState,
        of: &PartitionHandle,
        terms: &ShareTerms,
    ) -> Result<()> {
        // Whoever comes with the handle of a topic that is gone changes nothing of the one that has its name.
        of.start()?;
        if state.open.as_ref().is_none_or(|open| open.of != *of) {
            if state.open.take().is_some() {
                // Another topic has the name.
                state.saved = None;
            }
            let restored = |saved: &SavedShare| Some((SharePartition::restore(saved)?, saved.leader_epoch));
            let restored = state.saved.as_ref().and_then(restored);
            let is_new = restored.is_none();
            let (machine, leader_epoch) = match restored {
                Some(restored) => restored,
                None => (SharePartition::new(self.first_share_offset(of, terms)?), of.leader_epoch()),
            };
            let mut open = OpenShare { of: of.for_everybody(), machine, leader_epoch };
            open.adapt()?;
            open.machine.cut(of.high_watermark()?);
            open.machine.condemn(terms.limits);
            state.first = None;
            if is_new && terms.reset != OffsetReset::Earliest {
                let first = open.machine.saved(open.leader_epoch);
                state.first = Some(self.write_share(cell, &first)?);
                state.saved = Some(first);
            }
            state.open = Some(open);
        }
        Ok(())
    }

    /// Where a group begins that has read nothing yet.
    fn first_share_offset(&self, of: &PartitionHandle, terms: &ShareTerms) -> Result<u64> {
        let position = match &terms.reset {
            OffsetReset::Earliest => Position::Earliest,
            OffsetReset::Latest => Position::Latest,
            OffsetReset::ByDuration(before, _) => {
                let before_ms = i64::try_from(before.as_millis()).unwrap_or(i64::MAX);
                Position::Time(self.env.clock.now_ms().saturating_sub(before_ms).max(0))
            }
        };
        ReadSession::default().resolve(terms.isolation, position, of)
    }

    /// Releases what is locked for too long.
    fn let_time_pass(&self, cell: &ShareCell, state: &mut ShareState, terms: &ShareTerms) {
        let now = self.shares.now();
        self.release_where(cell, state, terms, |machine| machine.tick(now, terms.limits));
    }

    /// Releases what a member holds that is gone.
    fn release_member_of(&self, cell: &ShareCell, member: &str, terms: &ShareTerms) {
        self.release_where(cell, &mut cell.lock(), terms, |machine| machine.release(member, terms.limits));
    }

    /// Releases records, and writes that: a log that refuses it keeps nobody from reading on. What is dead among them is done once it is
    /// a dead letter, and waits until it can be one.
    fn release_where(
        &self,
        cell: &ShareCell,
        state: &mut ShareState,
        terms: &ShareTerms,
        release: impl FnOnce(&mut SharePartition) -> bool,
    ) {
        let Some(open) = &mut state.open else { return };
        if !release(&mut open.machine) {
            return;
        }
        let (now, dead) = (self.shares.now(), open.machine.take_dead());
        let mut again_ms = if dead.is_empty() { state.bury_again_ms } else { 0 };
        for mut dead in dead {
            let Buried { end, failed } = self.bury(cell, &open.of, &dead, terms);
            let waiting = end..dead.offsets.end;
            dead.offsets.end = end;
            self.count_dead(&dead);
            if let Some(error) = failed {
                again_ms = (2 * state.bury_again_ms).clamp(BURY_AGAIN_MS, BURY_AGAIN_MS_MAX);
                open.machine.hold_back(&Dead { offsets: waiting, ..dead }, now + again_ms);
                self.tell_once(&self.shares.told_waiting, &format!("dead letters of {} wait: {error}", cell.group));
            }
        }
        state.bury_again_ms = again_ms;
        let saved = open.machine.saved(open.leader_epoch);
        open.machine.advance();
        match self.write_share(cell, &saved) {
            // Nobody syncs it: what was not synced before is not made up for.
            Ok(_) => state.saved = Some(saved),
            Err(error) => {
                state.is_unsaved = true;
                let what = format!("share groups go on, but a restart will not know what was released: {error}");
                self.tell_once(&self.shares.told_refusal, &what);
            }
        }
        cell.waiters.wake();
    }

    fn tell_once(&self, told: &AtomicBool, what: &str) {
        if !told.swap(true, AcqRel) {
            self.env.tell(what);
        }
    }

    /// Appends the line of a share partition, under its lock.
    fn write_share(&self, cell: &ShareCell, saved: &SavedShare) -> Result<LogWrite> {
        let log = self.internal_log(state_log::TOPIC)?.ok_or(Error::UnknownTopic(state_log::TOPIC.into()))?;
        let line = (&*cell.group, &*cell.topic, cell.partition, Some(saved));
        let written = state_log::write(&log, [line].into_iter())?;
        self.shares.told_refusal.store(false, Release);
        Ok(written)
    }
}

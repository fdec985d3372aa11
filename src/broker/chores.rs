//! The background thread: syncs that come due, and retention. A broker with nothing to do does not wake.
//!
//! Compaction takes long, so a thread of its own does it, one partition after another, and ends when nothing is left to do.

use super::{partition::Partition, topic::Topic};
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, atomic::Ordering::*},
    thread::{Builder, Scope, ScopedJoinHandle, scope},
    time::{Duration, Instant},
};

/// Retention looks at each partition that could need it this often at most.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is to be done, and when.
#[derive(Debug, Default)]
pub(super) struct Chores {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    syncs: Vec<(Instant, Arc<Partition>)>,
    look_at: Option<Instant>,
    groups_at: Option<Instant>,
    stopped: bool,
}

impl Chores {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no panic under the chores' lock")
    }

    /// Syncs a partition in `after_ms`, if none is on its way; one that must come at once does not wait for that.
    pub(super) fn sync(&self, partition: &Arc<Partition>, after_ms: i64) {
        if partition.sync_queued.swap(true, AcqRel) && after_ms > 0 {
            return;
        }
        let at = Instant::now() + Duration::from_millis(after_ms as u64);
        let mut queue = self.queue();
        match queue.syncs.iter_mut().find(|(_, queued)| Arc::ptr_eq(queued, partition)) {
            Some((before, _)) => *before = at.min(*before),
            None => queue.syncs.push((at, partition.clone())),
        }
        self.changed.notify_one();
    }

    /// Looks at all partitions: something was written, rolled or altered.
    pub(super) fn look(&self) {
        self.look_in(Duration::ZERO);
    }

    /// Looks at all partitions in some time.
    pub(super) fn look_in(&self, time: Duration) {
        let mut queue = self.queue();
        let at = Instant::now() + time;
        queue.look_at = Some(queue.look_at.map_or(at, |before| before.min(at)));
        self.changed.notify_one();
    }

    /// Looks at all groups in some time, and not at the partitions.
    pub(super) fn look_at_groups_in(&self, time: Duration) {
        let mut queue = self.queue();
        let at = Instant::now() + time;
        queue.groups_at = Some(queue.groups_at.map_or(at, |before| before.min(at)));
        self.changed.notify_one();
    }

    /// Ends [`run`](Self::run).
    pub(super) fn stop(&self) {
        self.queue().stopped = true;
        self.changed.notify_one();
    }

    /// The thread. `topics` answers those there are; `tidy_groups` does what it says and answers when to come back, in
    /// ms; `tell` tells the operator.
    pub(super) fn run(
        &self,
        topics: impl Fn() -> Vec<Arc<Topic>>,
        tidy_groups: impl Fn() -> super::Result<Option<i64>>,
        now_ms: impl Fn() -> i64,
        tell: impl Fn(&str) + Sync,
    ) {
        scope(|scope| self.run_in(scope, &topics, &tidy_groups, &now_ms, &tell));
    }

    fn run_in<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        topics: &impl Fn() -> Vec<Arc<Topic>>,
        tidy_groups: &impl Fn() -> super::Result<Option<i64>>,
        now_ms: &impl Fn() -> i64,
        tell: &'s (impl Fn(&str) + Sync),
    ) {
        let (mut looked, mut groups_looked) = (None::<Instant>, None::<Instant>);
        let mut compacting = None::<ScopedJoinHandle<'_, ()>>;
        let mut queue = self.queue();
        while !queue.stopped {
            let now = Instant::now();
            let due =
                queue.syncs.extract_if(.., |(at, _)| *at <= now).map(|(_, partition)| partition).collect::<Vec<_>>();
            let (look_at, groups_at) = (rested(queue.look_at, looked), rested(queue.groups_at, groups_looked));
            let look = look_at.is_some_and(|at| at <= now);
            let look_at_groups = groups_at.is_some_and(|at| at <= now);
            if due.is_empty() && !look && !look_at_groups {
                let next = queue.syncs.iter().map(|(at, _)| *at).chain(look_at).chain(groups_at).min();
                queue = match next {
                    Some(next) => {
                        let left = next.saturating_duration_since(now);
                        self.changed.wait_timeout(queue, left).expect("no panic under the chores' lock").0
                    }
                    None => self.changed.wait(queue).expect("no panic under the chores' lock"),
                };
                continue;
            }
            if look {
                queue.look_at = None;
            }
            if look_at_groups {
                queue.groups_at = None;
            }
            drop(queue);
            for partition in due {
                partition.sync_queued.store(false, Release);
                if let Some(Err(error)) = partition.opened().map(|log| log.sync_all()) {
                    tell(&format!("{error}"));
                }
            }
            if look_at_groups {
                groups_looked = Some(now);
                match tidy_groups() {
                    Ok(Some(next_ms)) => {
                        self.look_at_groups_in(Duration::from_millis((next_ms - now_ms()).max(0) as u64 + 1));
                    }
                    Ok(None) => {}
                    Err(error) => tell(&format!("groups: {error}")),
                }
            }
            if look {
                looked = Some(now);
                let (next_ms, dirty) = look_at_all(&topics(), tell);
                if let Some(next_ms) = next_ms {
                    self.look_in(Duration::from_millis((next_ms - now_ms()).max(0) as u64 + 1));
                }
                if !dirty.is_empty() {
                    if compacting.as_ref().is_none_or(ScopedJoinHandle::is_finished) {
                        let builder = Builder::new().name("compaction".into()).stack_size(256 << 10);
                        match builder.spawn_scoped(scope, move || self.compact(&dirty, tell)) {
                            Ok(thread) => compacting = Some(thread),
                            Err(error) => tell(&format!("no thread for compaction: {error}")),
                        }
                    }
                    // The one that runs may be about to end, and may not have seen these.
                    self.look_in(LOOK_EVERY);
                }
            }
            queue = self.queue();
        }
    }
}

impl Chores {
    /// Compacts these partitions, then lets all be looked at again.
    fn compact(&self, partitions: &[Arc<Partition>], tell: &impl Fn(&str)) {
        let stop = || self.queue().stopped;
        for partition in partitions {
            if let Err(error) = partition.compact(&stop) {
                tell_of(partition, error, tell);
            }
        }
        self.look();
    }
}

/// When to look again, where something wants to be looked at `at` and was `looked` at before.
fn rested(at: Option<Instant>, looked: Option<Instant>) -> Option<Instant> {
    at.map(|at| looked.map_or(at, |looked| at.max(looked + LOOK_EVERY)))
}

/// Looks at each partition; answers when the next one wants to be looked at, in ms, and which are to be compacted.
fn look_at_all(topics: &[Arc<Topic>], tell: &impl Fn(&str)) -> (Option<i64>, Vec<Arc<Partition>>) {
    let (mut next, mut dirty) = (None::<i64>, Vec::new());
    for topic in topics {
        for partition in topic.partitions() {
            match partition.tidy() {
                Ok(due) => {
                    next = next.into_iter().chain(due.next_ms).min();
                    dirty.extend(due.now.then_some(partition));
                }
                Err(error) => tell_of(&partition, error, tell),
            }
        }
    }
    (next, dirty)
}

/// Tells what failed, unless it is that the topic was dropped.
fn tell_of(partition: &Partition, error: super::Error, tell: &impl Fn(&str)) {
    if let Ok(topic) = partition.topic() {
        tell(&format!("{}/{}: {error}", topic.name, partition.index));
    }
}

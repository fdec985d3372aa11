//! When the [maintenance](super::maintenance) thread is to wake. Whoever makes work for it says here how soon; it knows
//! neither partitions nor groups nor transactions.

use std::{
    sync::{Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// When the thread is to wake, and what for.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    due: Mutex<Due>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Due {
    /// For a partition.
    partitions: Option<Instant>,
    /// For a group.
    groups: Option<Instant>,
    /// For a transaction.
    transactions: Option<Instant>,
    stopped: bool,
}

/// What the thread woke for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Woken {
    pub(super) partitions: bool,
    pub(super) groups: bool,
    pub(super) transactions: bool,
}

impl Schedule {
    fn due(&self) -> MutexGuard<'_, Due> {
        self.due.lock().expect("no panic under the schedule's lock")
    }

    /// A partition is due after this time.
    pub(super) fn partitions_in(&self, time: Duration) {
        let mut due = self.due();
        due.partitions = sooner(due.partitions, time);
        self.changed.notify_one();
    }

    /// A group is due after this time.
    pub(super) fn groups_in(&self, time: Duration) {
        let mut due = self.due();
        due.groups = sooner(due.groups, time);
        self.changed.notify_one();
    }

    /// A transaction is due after this time.
    pub(super) fn transactions_in(&self, time: Duration) {
        let mut due = self.due();
        due.transactions = sooner(due.transactions, time);
        self.changed.notify_one();
    }

    /// Ends every wait.
    pub(super) fn stop(&self) {
        self.due().stopped = true;
        self.changed.notify_one();
    }

    /// Whether it was stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.due().stopped
    }

    /// Waits until something is due, but no less than until `earliest`. `None`: it was stopped.
    pub(super) fn wait(&self, earliest: Instant) -> Option<Woken> {
        let mut due = self.due();
        loop {
            if due.stopped {
                return None;
            }
            let now = Instant::now();
            let next =
                [due.partitions, due.groups, due.transactions].into_iter().flatten().min().map(|at| at.max(earliest));
            due = match next {
                Some(next) if next <= now => {
                    let is_due = |at: &mut Instant| *at <= now;
                    return Some(Woken {
                        partitions: due.partitions.take_if(is_due).is_some(),
                        groups: due.groups.take_if(is_due).is_some(),
                        transactions: due.transactions.take_if(is_due).is_some(),
                    });
                }
                Some(next) => {
                    let left = next.saturating_duration_since(now);
                    self.changed.wait_timeout(due, left).expect("no panic under the schedule's lock").0
                }
                None => self.changed.wait(due).expect("no panic under the schedule's lock"),
            };
        }
    }
}

/// A time that is too far away to be told is never.
fn sooner(at: Option<Instant>, time: Duration) -> Option<Instant> {
    at.into_iter().chain(Instant::now().checked_add(time)).min()
}

//! The flusher: a thread that syncs logs in the background, when their time has come (`--flush 20ms`, `flush.ms`) or when
//! much of them is not synced yet. It does nothing else, so nothing but another sync delays a sync.

use super::survive::survive;
use crate::log::Log;
use std::{
    ops::Deref,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::*},
    },
    time::{Duration, Instant},
};

/// The syncs that are to be done, and when.
#[derive(Debug, Default)]
pub(super) struct Flusher {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    syncs: Vec<Sync>,
    stopped: bool,
}

/// A sync that is to be done.
#[derive(Debug)]
struct Sync {
    at: Instant,
    log: Arc<FlushedLog>,
}

/// A log that the flusher syncs.
#[derive(Debug)]
pub(super) struct FlushedLog {
    log: Log,
    /// Whether a sync is on its way.
    queued: AtomicBool,
}

impl From<Log> for FlushedLog {
    fn from(log: Log) -> FlushedLog {
        FlushedLog { log, queued: AtomicBool::new(false) }
    }
}

impl Deref for FlushedLog {
    type Target = Log;

    fn deref(&self) -> &Log {
        &self.log
    }
}

impl Flusher {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no panic under the flusher's lock")
    }

    /// Syncs a log after this time, if no sync of it is on its way; one that must come at once does not wait for that.
    pub(super) fn sync_in(&self, time: Duration, log: &Arc<FlushedLog>) {
        if log.queued.swap(true, AcqRel) && !time.is_zero() {
            return;
        }
        let at = Instant::now() + time;
        let mut queue = self.queue();
        match queue.syncs.iter_mut().find(|sync| Arc::ptr_eq(&sync.log, log)) {
            Some(sync) => sync.at = at.min(sync.at),
            None => queue.syncs.push(Sync { at, log: log.clone() }),
        }
        self.changed.notify_one();
    }

    /// Ends [`run`](Self::run).
    pub(super) fn stop(&self) {
        self.queue().stopped = true;
        self.changed.notify_one();
    }

    /// The thread. `tell` tells the operator.
    pub(super) fn run(&self, tell: impl Fn(&str)) {
        let mut queue = self.queue();
        while !queue.stopped {
            let now = Instant::now();
            let due: Vec<_> = queue.syncs.extract_if(.., |sync| sync.at <= now).collect();
            if due.is_empty() {
                queue = match queue.syncs.iter().map(|sync| sync.at).min() {
                    Some(next) => {
                        let left = next.saturating_duration_since(now);
                        self.changed.wait_timeout(queue, left).expect("no panic under the flusher's lock").0
                    }
                    None => self.changed.wait(queue).expect("no panic under the flusher's lock"),
                };
                continue;
            }
            drop(queue);
            for Sync { log, .. } in due {
                log.queued.store(false, Release);
                // The topic may have been dropped.
                let sync = || if log.is_closed() { Ok(()) } else { log.sync_all() };
                let what = format!("{}: a sync", log.dir().display());
                if let Some(Err(error)) = survive(&what, &tell, sync) {
                    tell(&error.to_string());
                }
            }
            queue = self.queue();
        }
    }
}

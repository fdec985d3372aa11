//! Transactional producers whose transaction has ended, kept for their caller's next one: to begin with a new producer takes several
//! exchanges with the cluster.
//!
//! Only who had it before is given it again. So whoever was fenced meanwhile is told so, as a producer is that never let go of it.

use super::open::Transactional;
use crate::{broker::Caller, cluster::clients::end_all};
use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, Weak},
    thread,
    time::{Duration, Instant},
};

/// For how long.
const KEPT: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Idle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// In the order in which they came.
    kept: Vec<Kept>,
    /// Whether a thread waits for their time to be over.
    is_watched: bool,
}

#[derive(Debug)]
struct Kept {
    id: Arc<str>,
    timeout_ms: u64,
    caller: Weak<Caller>,
    producer: Arc<Transactional>,
    since: Instant,
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Idle {
    /// The producer that the caller's last transaction of this id had. Others of the id are of no use to anybody any more.
    pub(super) fn take(&self, id: &str, timeout_ms: u64, caller: &Arc<Caller>) -> Option<Arc<Transactional>> {
        let mut state = self.state();
        let (mine, others): (Vec<_>, Vec<_>) = mem::take(&mut state.kept).into_iter().partition(|kept| *kept.id == *id);
        state.kept = others;
        drop(state);
        let is_fit = |kept: &Kept| {
            kept.timeout_ms == timeout_ms
                && kept.caller.as_ptr() == Arc::as_ptr(caller)
                && !kept.producer.sender.is_over()
        };
        mine.into_iter().find(is_fit).map(|kept| kept.producer)
    }

    /// Keeps one whose transaction has ended well.
    pub(super) fn keep(
        self: &Arc<Idle>,
        id: &Arc<str>,
        timeout_ms: u64,
        caller: &Arc<Caller>,
        producer: Arc<Transactional>,
    ) {
        let (id, caller) = (id.clone(), Arc::downgrade(caller));
        let mut state = self.state();
        state.kept.push(Kept { id, timeout_ms, caller, producer, since: Instant::now() });
        if !mem::replace(&mut state.is_watched, true) {
            let idle = Arc::downgrade(self);
            let watch = thread::Builder::new().name("idle producers".into()).spawn(move || watch(&idle));
            state.is_watched = watch.is_ok();
        }
    }

    /// Lets all go.
    pub(super) fn clear(&self) {
        let kept = mem::take(&mut self.state().kept);
        end_all(kept);
    }

    /// Lets those go whose time is over, and answers for how long the next is kept.
    fn expire(&self) -> Option<Duration> {
        let mut state = self.state();
        let count = state.kept.iter().take_while(|kept| kept.since.elapsed() >= KEPT).count();
        let expired: Vec<_> = state.kept.drain(..count).collect();
        let next = state.kept.first().map(|kept| KEPT.saturating_sub(kept.since.elapsed()));
        state.is_watched = next.is_some();
        drop(state);
        drop(expired);
        next
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic under the lock")
    }
}

fn watch(idle: &Weak<Idle>) {
    while let Some(next) = idle.upgrade().and_then(|idle| idle.expire()) {
        thread::sleep(next);
    }
}

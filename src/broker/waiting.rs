//! Waiting for data. A connection has one waiter and registers it with everything it waits for.
//!
//! No wake-up is lost if a waiter registers first, then looks, then waits, and a writer first makes its change and then calls
//! [`Waiters::wake`]: both take the list's lock, so one of them sees the other.

use super::sync::{AtomicBool, Mutex, MutexGuard, Thread, thread};
use std::{
    sync::{Arc, atomic::Ordering::*},
    time::{Duration, Instant},
};

/// A thread that waits.
#[derive(Debug)]
pub struct Waiter {
    thread: Thread,
    woken: AtomicBool,
}

impl Waiter {
    /// A waiter for the calling thread.
    pub fn new() -> Arc<Waiter> {
        Arc::new(Waiter { thread: thread::current(), woken: AtomicBool::new(false) })
    }

    /// Waits until it is woken or the time is over; answers whether there is time left. The time is asked first, so that a waiter
    /// that is woken again and again comes to its end.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return false;
            }
            if self.woken.swap(false, AcqRel) {
                return true;
            }
            match left {
                Some(left) => thread::park_timeout(left),
                None => thread::park(),
            }
        }
    }

    /// Wakes it, now or when it next waits.
    pub fn wake(&self) {
        self.woken.store(true, Release);
        self.thread.unpark();
    }
}

/// Those who wait for one thing.
#[derive(Debug, Default)]
pub struct Waiters(Mutex<Vec<Arc<Waiter>>>);

impl Waiters {
    /// Registers a waiter until the answer is dropped.
    pub fn register(&self, waiter: &Arc<Waiter>) -> Registered<'_> {
        self.list().push(waiter.clone());
        Registered { waiters: self, waiter: waiter.clone() }
    }

    /// Wakes all.
    pub fn wake(&self) {
        self.list().iter().for_each(|waiter| waiter.wake());
    }

    /// Whether nobody waits.
    #[cfg(feature = "cluster")]
    pub(crate) fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    fn list(&self) -> MutexGuard<'_, Vec<Arc<Waiter>>> {
        self.0.lock().expect("no panic under the waiters' lock")
    }
}

/// A registration.
#[derive(Debug)]
pub struct Registered<'a> {
    waiters: &'a Waiters,
    waiter: Arc<Waiter>,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut list = self.waiters.list();
        if let Some(index) = list.iter().position(|waiter| Arc::ptr_eq(waiter, &self.waiter)) {
            list.swap_remove(index);
        }
        if list.is_empty() {
            *list = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever waited at the end of what others wrote all the time waited for ever.
    #[test]
    fn a_time_that_is_over_is_over_for_one_who_was_woken_too() {
        let waiter = Waiter::new();
        waiter.wake();
        assert!(!waiter.wait(Some(Instant::now())));
        assert!(waiter.wait(None), "it was woken all the same");
    }
}

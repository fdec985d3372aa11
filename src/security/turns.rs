//! Whose password is hashed next: one at a time, from one address after the other, and no more than a share of the machine.
//!
//! Hashing a password costs milliseconds by design, and anybody may ask for it. So whoever floods the broker waits for turns with the
//! others of its address, and the machine is left to those who are logged in: after each turn there is a pause before the next.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Mutex, MutexGuard},
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// How long the pause is, as a multiple of the turn on one core.
const PAUSE: u32 = 3;

/// Turns that are taken one at a time.
#[derive(Debug)]
pub struct Turns {
    state: Mutex<State>,
    pause: u32,
}

#[derive(Debug, Default)]
struct State {
    is_taken: bool,
    /// When the next turn may begin.
    free_at: Option<Instant>,
    /// Those who wait, by their addresses; the first one of the first address is next.
    waiting: VecDeque<(IpAddr, VecDeque<Thread>)>,
    /// Whose turn it is.
    called: Option<thread::ThreadId>,
}

impl Default for Turns {
    fn default() -> Turns {
        // A quarter of one core, or of what more there are half a one.
        let cores = thread::available_parallelism().map_or(1, usize::from) as u32;
        Turns { state: Mutex::default(), pause: PAUSE.saturating_sub(cores.saturating_sub(1)).max(1) }
    }
}

impl Turns {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the lock of turns")
    }

    /// Waits for a turn of `address`, and takes it.
    pub fn take<T>(&self, address: IpAddr, work: impl FnOnce() -> T) -> T {
        let mut state = self.state();
        if state.is_taken {
            let me = thread::current();
            match state.waiting.iter_mut().find(|(of, _)| *of == address) {
                Some((_, threads)) => threads.push_back(me.clone()),
                None => state.waiting.push_back((address, VecDeque::from([me.clone()]))),
            }
            while state.called != Some(me.id()) {
                drop(state);
                thread::park();
                state = self.state();
            }
            state.called = None;
        }
        state.is_taken = true;
        let free_at = state.free_at;
        drop(state);
        // However the work ends, the next is called.
        let _turn = Turn(self);
        thread::sleep(free_at.map_or(Duration::ZERO, |free_at| free_at.saturating_duration_since(Instant::now())));
        let begun = Instant::now();
        let done = work();
        self.state().free_at = Some(Instant::now() + begun.elapsed() * self.pause);
        done
    }
}

/// A turn that is taken.
struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        let Some((address, mut threads)) = state.waiting.pop_front() else {
            state.is_taken = false;
            return;
        };
        let next = threads.pop_front().expect("who waits has a thread");
        if !threads.is_empty() {
            state.waiting.push_back((address, threads));
        }
        state.called = Some(next.id());
        next.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering::*},
    };

    #[test]
    fn one_at_a_time_and_an_address_does_not_wait_for_all_of_another() {
        let turns = Arc::new(Turns { state: Mutex::default(), pause: 0 });
        let (running, order) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let begun = Arc::new(Barrier::new(2));
        let [many, few] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let take = |address: IpAddr, hold: Option<Arc<Barrier>>| {
            let (turns, running, order) = (turns.clone(), running.clone(), order.clone());
            thread::spawn(move || {
                turns.take(address, || {
                    assert_eq!(running.fetch_add(1, AcqRel), 0);
                    if let Some(barrier) = hold {
                        barrier.wait();
                        barrier.wait();
                    }
                    order.lock().unwrap().push(address);
                    running.fetch_sub(1, AcqRel);
                })
            })
        };
        let mut threads = vec![take(many, Some(begun.clone()))];
        begun.wait();
        let waiting = |count: usize| {
            while turns.state().waiting.iter().map(|(_, threads)| threads.len()).sum::<usize>() < count {
                thread::yield_now();
            }
        };
        threads.extend((0..20).map(|_| take(many, None)));
        waiting(20);
        threads.push(take(few, None));
        waiting(21);
        begun.wait();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let order = order.lock().unwrap();
        assert_eq!(order.len(), 22);
        let place = order.iter().position(|address| *address == few).unwrap();
        assert!(place <= 2, "{place}");
        drop(order);
        assert!(!turns.state().is_taken);
    }
}

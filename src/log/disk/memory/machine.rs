//! The machine around a disk that can crash: its power, its clock, its room, and the faults that a test asks for.
//!
//! ```text
//! disk.fault(Call::Any, 3, Fault::CrashMidway)
//!
//!   create ─ write ─ read ─ write ─ sync ─ read         power stays off: all that follows is an error, until
//!   1        2              3 ▲     error  error        disk.reboot(Survivors::Seed(7)) answers what is found
//!                     half done, error
//! ```
//!
//! - Calls that change or sync something are counted and meet faults. A crash before a call that only reads would leave
//!   nothing else than one after the change before it.
//! - Such calls take [`Turn`]s, one at a time. A disk that cannot crash has no machine, and its turns cost nothing.

use super::{MemoryDisk, NO_PANIC};
use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// The calls that change or sync something; only those are counted, and only those meet a [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Each of them.
    Any,
    /// A write to a file.
    Write,
    /// A sync of a file or directory.
    Sync,
}

/// What happens at a call. It answers an error in each case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A write does half its work, a sync none; power stays on.
    Error,
    /// Power fails before the call has an effect.
    CrashBefore,
    /// Power fails when half a write is done, half the pages or names are synced, half a tree is made or removed; what
    /// is indivisible is not done.
    CrashMidway,
    /// Power fails when the call is done, before its caller knows.
    CrashAfter,
}

/// What a test does with a disk made by [`MemoryDisk::crashable`]; with any other disk it panics.
impl MemoryDisk {
    /// An empty disk that can crash, fail and fill up, with a clock that stands still.
    pub fn crashable() -> Self {
        Self { root: Arc::default(), machine: Some(Machine::new(u64::MAX, 1_700_000_000_000)) }
    }

    /// How many [calls](Call) there have been.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Puts a fault in the way of the `nth` such call from now; 1 is the next. Several may wait.
    pub fn fault(&self, call: Call, nth: u64, fault: Fault) {
        self.state().faults.push((call, nth.max(1), fault));
    }

    /// Whether power has failed: every call is an error from then on.
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// Bytes in all files. A hole counts like what it is a hole in.
    pub fn used(&self) -> u64 {
        self.machine().used.load(Relaxed)
    }

    /// The bytes that [`used`](Self::used) may reach. No limit at first.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// The time that files are stamped with when they are written from now on.
    pub fn set_now_ms(&self, now_ms: i64) {
        self.state().now_ms = now_ms;
    }

    pub(super) fn machine(&self) -> &Machine {
        self.machine.as_deref().expect("a test's disk is made by MemoryDisk::crashable")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.machine().state.lock().expect(NO_PANIC)
    }
}

/// The machine around a disk that can crash.
#[derive(Debug)]
pub(super) struct Machine {
    used: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    calls: u64,
    faults: Vec<(Call, u64, Fault)>,
    crashed: bool,
    capacity: u64,
    now_ms: i64,
}

impl Machine {
    fn new(capacity: u64, now_ms: i64) -> Arc<Self> {
        let state = State { calls: 0, faults: Vec::new(), crashed: false, capacity, now_ms };
        Arc::new(Self { used: AtomicU64::new(0), state: Mutex::new(state) })
    }

    /// Ends all calls for good; answers the machine as it starts again.
    pub(super) fn restarted(&self) -> Arc<Self> {
        let mut state = self.state.lock().expect(NO_PANIC);
        state.crashed = true;
        Self::new(state.capacity, state.now_ms)
    }

    /// Refuses a call that only reads once power has failed.
    pub(super) fn check(machine: &Option<Arc<Self>>) -> io::Result<()> {
        machine.as_ref().map_or(Ok(()), |machine| machine.power().map(drop))
    }

    fn power(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock().expect(NO_PANIC);
        if state.crashed { Err(no_power()) } else { Ok(state) }
    }

    /// A file's length has changed.
    pub(super) fn use_room(&self, before: u64, after: u64) {
        self.used.fetch_add(after.wrapping_sub(before), Relaxed);
    }
}

impl State {
    /// Counts a call; answers the fault that it meets.
    fn count(&mut self, call: Call) -> Option<Fault> {
        self.calls += 1;
        let mut met = None;
        self.faults.retain_mut(|(of, left, fault)| {
            *left -= u64::from(*of == Call::Any || *of == call);
            met = if *left == 0 { Some(*fault) } else { met };
            *left > 0
        });
        self.crashed = met.is_some_and(|fault| fault != Fault::Error);
        met
    }
}

fn no_power() -> io::Error {
    io::Error::other("the disk has no power")
}

/// One call that changes or syncs something. On a disk that can crash no other has its turn meanwhile.
pub(super) struct Turn<'a> {
    machine: Option<(&'a Machine, MutexGuard<'a, State>)>,
    /// How many halves of the call are done.
    halves: usize,
    fails: bool,
}

impl<'a> Turn<'a> {
    pub(super) fn take(machine: Option<&'a Machine>, call: Call) -> io::Result<Self> {
        let Some(machine) = machine else { return Ok(Self { machine: None, halves: 2, fails: false }) };
        let mut state = machine.power()?;
        let fault = state.count(call);
        let halves = match (fault, call) {
            (None | Some(Fault::CrashAfter), _) => 2,
            (Some(Fault::CrashBefore), _) => return Err(no_power()),
            (Some(Fault::Error), Call::Sync) => 0,
            (Some(Fault::CrashMidway | Fault::Error), _) => 1,
        };
        Ok(Self { machine: Some((machine, state)), halves, fails: fault.is_some() })
    }

    /// How many of a call's `parts` are done.
    pub(super) fn share(&self, parts: usize) -> usize {
        if self.halves == 2 { parts } else { parts / 2 * self.halves }
    }

    /// Whether an indivisible call is done.
    pub(super) fn happens(&self) -> bool {
        self.halves == 2
    }

    /// The call's answer.
    pub(super) fn end<T>(self, answer: T) -> io::Result<T> {
        match self.machine {
            Some((_, state)) if state.crashed => Err(no_power()),
            _ if self.fails => Err(io::Error::other("the disk failed")),
            _ => Ok(answer),
        }
    }

    pub(super) fn can_crash(&self) -> bool {
        self.machine.is_some()
    }

    pub(super) fn now_ms(&self) -> i64 {
        match &self.machine {
            Some((_, state)) => state.now_ms,
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64),
        }
    }

    /// Bytes by which files may still grow.
    pub(super) fn room(&self) -> u64 {
        let Some((machine, state)) = &self.machine else { return u64::MAX };
        state.capacity.saturating_sub(machine.used.load(Relaxed))
    }
}

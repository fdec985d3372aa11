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
//! - Calls that change or sync something are counted. Those that only read meet faults of their own: a crash before one would
//!   leave nothing else than one after the change before it.
//! - Calls that change or sync something take [`Turn`]s, one at a time. A disk that cannot crash has no machine, and its turns cost nothing.
//! - A call can be [held](MemoryDisk::hold): it has had its effect, and its caller does not know yet; one that only reads has not
//!   read yet. So a test decides what other threads do in between.

use super::{MemoryDisk, NO_PANIC};
use std::{
    io,
    ops::Range,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The calls for which a [`Fault`] can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Each that changes or syncs something; those are counted.
    Any,
    /// A write to a file.
    Write,
    /// A sync of a file or directory.
    Sync,
    /// Each that only reads: opens a file, lists a directory, reads bytes, a length or a time.
    Read,
}

impl Call {
    fn is_one_of(self, calls: Call) -> bool {
        self == calls || calls == Call::Any && self != Call::Read
    }
}

/// What happens at a call. It answers an error in each case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A write does half its work, a sync none; power stays on.
    Error,
    /// The same, and the error says that the disk is full.
    Full,
    /// The call is done, and then its caller panics, as over a bug.
    Panic,
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

    /// How many calls there have been that change or sync something.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Puts a fault in the way of the `nth` such call from now; 1 is the next. Several may wait.
    pub fn fault(&self, call: Call, nth: u64, fault: Fault) {
        self.state().faults.push((call, nth.max(1), fault));
    }

    /// How many faults still wait for their call.
    pub fn faults_left(&self) -> usize {
        self.state().faults.len()
    }

    /// Holds the `nth` such call from now, when it is done or before it reads, until the answer is dropped.
    pub fn hold(&self, call: Call, nth: u64) -> Held {
        let gate = Arc::new(Gate::default());
        self.state().holds.push((call, nth.max(1), gate.clone()));
        Held(gate)
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

    /// Refuses a descriptor to these of the next calls that need one, from 0 on, as where none is free: to those that open a file
    /// or a directory, list one, or remove one with all in it. What is open goes on working.
    pub fn refuse_descriptors(&self, calls: Range<u64>) {
        let mut state = self.state();
        (state.descriptors, state.refused) = (0, calls);
    }

    /// How many calls needed a descriptor since they were last [refused](Self::refuse_descriptors).
    pub fn descriptors(&self) -> u64 {
        self.state().descriptors
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

/// A call that is held, or will be, until this is dropped.
#[derive(Debug)]
pub struct Held(Arc<Gate>);

impl Held {
    /// Waits until the call is held.
    ///
    /// # Panics
    /// If it does not come within a minute.
    pub fn reached(&self) {
        let state = self.0.state.lock().expect(NO_PANIC);
        let waiting = |state: &mut GateState| !state.reached;
        let (state, _) = self.0.changed.wait_timeout_while(state, Duration::from_secs(60), waiting).expect(NO_PANIC);
        assert!(state.reached, "the call that was to be held does not come");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.state.lock().expect(NO_PANIC).open = true;
        self.0.changed.notify_all();
    }
}

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    reached: bool,
    open: bool,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().expect(NO_PANIC);
        state.reached = true;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.open).expect(NO_PANIC));
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
    holds: Vec<(Call, u64, Arc<Gate>)>,
    crashed: bool,
    capacity: u64,
    now_ms: i64,
    /// How many calls needed a descriptor, and which of them get none.
    descriptors: u64,
    refused: Range<u64>,
}

impl Machine {
    fn new(capacity: u64, now_ms: i64) -> Arc<Self> {
        let state = State {
            calls: 0,
            faults: Vec::new(),
            holds: Vec::new(),
            crashed: false,
            capacity,
            now_ms,
            descriptors: 0,
            refused: 0..0,
        };
        Arc::new(Self { used: AtomicU64::new(0), state: Mutex::new(state) })
    }

    /// Ends all calls for good; answers the machine as it starts again.
    pub(super) fn restarted(&self) -> Arc<Self> {
        let mut state = self.state.lock().expect(NO_PANIC);
        state.crashed = true;
        Self::new(state.capacity, state.now_ms)
    }

    /// What each call does that only reads. It is refused once power has failed.
    pub(super) fn check(machine: &Option<Arc<Self>>) -> io::Result<()> {
        let Some(machine) = machine else { return Ok(()) };
        let mut state = machine.power()?;
        let (fault, gate) = (met(&mut state.faults, Call::Read), met(&mut state.holds, Call::Read));
        state.crashed = fault.is_some_and(Fault::cuts_power);
        drop(state);
        if let Some(gate) = gate {
            gate.pass();
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn power(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock().expect(NO_PANIC);
        if state.crashed { Err(no_power()) } else { Ok(state) }
    }

    /// What each call does that needs a descriptor.
    pub(super) fn take_descriptor(&self) -> io::Result<()> {
        const TOO_MANY_OPEN_FILES: i32 = 24;
        let mut state = self.power()?;
        let is_refused = state.refused.contains(&state.descriptors);
        state.descriptors += 1;
        if is_refused { Err(io::Error::from_raw_os_error(TOO_MANY_OPEN_FILES)) } else { Ok(()) }
    }

    /// A file's length has changed.
    pub(super) fn use_room(&self, before: u64, after: u64) {
        self.used.fetch_add(after.wrapping_sub(before), Relaxed);
    }
}

impl State {
    /// Counts a call; answers the fault that it meets, and where it is held.
    fn count(&mut self, call: Call) -> (Option<Fault>, Option<Arc<Gate>>) {
        self.calls += 1;
        let (fault, gate) = (met(&mut self.faults, call), met(&mut self.holds, call));
        self.crashed = fault.is_some_and(Fault::cuts_power);
        (fault, gate)
    }
}

/// Counts a call towards all that waits for its like; answers what waited for this one.
fn met<T>(waiting: &mut Vec<(Call, u64, T)>, call: Call) -> Option<T> {
    for (of, left, _) in waiting.iter_mut() {
        *left -= u64::from(call.is_one_of(*of));
    }
    waiting.extract_if(.., |(_, left, _)| *left == 0).map(|(_, _, met)| met).last()
}

impl Fault {
    fn cuts_power(self) -> bool {
        !matches!(self, Fault::Error | Fault::Full | Fault::Panic)
    }

    fn error(self) -> io::Error {
        match self {
            Fault::Error => io::Error::other("the disk failed"),
            Fault::Full => io::ErrorKind::StorageFull.into(),
            Fault::Panic => panic!("a test wants a panic here"),
            _ => no_power(),
        }
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
    fault: Option<Fault>,
    gate: Option<Arc<Gate>>,
}

impl<'a> Turn<'a> {
    pub(super) fn take(machine: Option<&'a Machine>, call: Call) -> io::Result<Self> {
        let Some(machine) = machine else { return Ok(Self { machine: None, halves: 2, fault: None, gate: None }) };
        let mut state = machine.power()?;
        let (fault, gate) = state.count(call);
        let halves = match (fault, call) {
            (None | Some(Fault::CrashAfter | Fault::Panic), _) => 2,
            (Some(Fault::CrashBefore), _) => return Err(no_power()),
            (Some(Fault::Error | Fault::Full), Call::Sync) => 0,
            (Some(Fault::CrashMidway | Fault::Error | Fault::Full), _) => 1,
        };
        Ok(Self { machine: Some((machine, state)), halves, fault, gate })
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
        drop(self.machine);
        if let Some(gate) = self.gate {
            gate.pass();
        }
        self.fault.map_or(Ok(answer), |fault| Err(fault.error()))
    }

    /// Whether the call fails, but not for want of power.
    pub(super) fn fails(&self) -> bool {
        matches!(self.fault, Some(Fault::Error | Fault::Full))
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

#[cfg(test)]
mod tests {
    use super::{
        super::{super::*, Survivors},
        *,
    };
    use std::path::Path;

    const F: &str = "f";

    fn disk_and_file() -> (MemoryDisk, Arc<dyn File>) {
        let disk = MemoryDisk::crashable();
        let file = disk.create(Path::new(F)).unwrap();
        (disk, file)
    }

    fn read(disk: &MemoryDisk) -> Vec<u8> {
        read_small(disk, Path::new(F), 1000).unwrap()
    }

    #[test]
    fn power_fails_before_midway_and_after_a_call() {
        for (moment, written) in
            [(Fault::CrashBefore, &b""[..]), (Fault::CrashMidway, b"ab"), (Fault::CrashAfter, b"abcd")]
        {
            let (disk, file) = disk_and_file();
            disk.fault(Call::Any, 2, moment);
            file.sync().unwrap();
            file.len().unwrap();
            file.write_at(b"abcd", 0).unwrap_err();
            assert!(disk.crashed());
            assert_eq!(disk.calls(), 3);
            assert_eq!(read(&disk.reboot(Survivors::Everything)), written);
        }
    }

    #[test]
    fn every_call_is_an_error_without_power() {
        let (disk, file) = disk_and_file();
        disk.create_dir(Path::new("d")).unwrap();
        disk.fault(Call::Sync, 1, Fault::CrashBefore);
        file.sync().unwrap_err();
        let path = Path::new(F);
        let errors = [
            disk.open(path).err(),
            disk.create(path).err(),
            disk.list(Path::new("")).err(),
            disk.create_dir(path).err(),
            disk.rename(path, Path::new("g")).err(),
            disk.remove_file(path).err(),
            disk.remove_dir(Path::new("d")).err(),
            disk.remove_empty_dir(Path::new("d")).err(),
            disk.sync_dir(Path::new("")).err(),
            disk.lock(path).err(),
            file.read_at(&mut [0], 0).err(),
            file.write_at(b"x", 0).err(),
            file.len().err(),
            file.set_len(0).err(),
            file.sync().err(),
            file.modified_ms().err(),
        ];
        assert!(errors.iter().all(|error| error.as_ref().is_some_and(|error| error.to_string().contains("no power"))));
    }

    #[test]
    fn calls_that_only_read_meet_faults_of_their_own() {
        let (disk, file) = disk_and_file();
        let path = Path::new(F);
        let reads: [&dyn Fn() -> Option<io::Error>; 5] = [
            &|| disk.open(path).err(),
            &|| disk.list(Path::new("")).err(),
            &|| file.read_at(&mut [0], 0).err(),
            &|| file.len().err(),
            &|| file.modified_ms().err(),
        ];
        for read in reads {
            disk.fault(Call::Any, 2, Fault::Error);
            disk.fault(Call::Read, 2, Fault::Error);
            assert!(read().is_none());
            file.write_at(b"x", 0).unwrap();
            assert_eq!(disk.faults_left(), 2);
            assert_eq!(read().unwrap().to_string(), "the disk failed");
            assert!(read().is_none());
            file.write_at(b"x", 0).unwrap_err();
            assert_eq!(disk.faults_left(), 0);
        }
        disk.fault(Call::Read, 1, Fault::CrashBefore);
        file.len().unwrap_err();
        assert!(disk.crashed());
    }

    #[test]
    fn reboot_cuts_power() {
        let (disk, file) = disk_and_file();
        let rebooted = disk.reboot(Survivors::Everything);
        file.write_at(b"late", 0).unwrap_err();
        assert_eq!(read(&rebooted), b"");
        assert_eq!((rebooted.calls(), rebooted.crashed()), (0, false));
    }

    #[test]
    fn calls_midway_do_half_of_what_can_be_divided() {
        let midway = |call: fn(&MemoryDisk) -> io::Result<()>| {
            let disk = MemoryDisk::crashable();
            make_dir(&disk, Path::new("d/e")).unwrap();
            disk.create(Path::new("d/f")).unwrap();
            disk.create(Path::new(F)).unwrap().write_at(b"abcd", 0).unwrap();
            let disk = disk.reboot(Survivors::Everything);
            disk.fault(Call::Any, 1, Fault::CrashMidway);
            call(&disk).unwrap_err();
            let disk = disk.reboot(Survivors::Everything);
            let list = |dir: &str| disk.list(Path::new(dir)).map_or(0, |names| names.len());
            (list(""), list("d"), read(&disk).len())
        };
        assert_eq!(midway(|disk| disk.create(Path::new(F)).map(drop)), (2, 2, 4));
        assert_eq!(midway(|disk| disk.create(Path::new("g")).map(drop)), (2, 2, 4));
        assert_eq!(midway(|disk| disk.remove_file(Path::new(F))), (2, 2, 4));
        assert_eq!(midway(|disk| disk.rename(Path::new(F), Path::new("g"))), (2, 2, 4));
        assert_eq!(midway(|disk| disk.open(Path::new(F))?.set_len(1)), (2, 2, 4));
        assert_eq!(midway(|disk| disk.create_dir(Path::new("n"))), (2, 2, 4));
        assert_eq!(midway(|disk| disk.remove_empty_dir(Path::new("d/e"))), (2, 2, 4));
        assert_eq!(midway(|disk| disk.remove_dir(Path::new("d"))), (2, 1, 4));
    }

    #[test]
    fn sync_midway_reaches_half_of_the_pages_or_names() {
        let (disk, file) = disk_and_file();
        file.write_at(&[1; 4 * 4096], 0).unwrap();
        file.sync().unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        file.write_at(&[2; 4 * 4096], 0).unwrap();
        disk.fault(Call::Sync, 1, Fault::CrashMidway);
        file.sync().unwrap_err();
        let found = read_small(&disk.reboot(Survivors::Nothing), Path::new(F), 1 << 20).unwrap();
        assert_eq!(found.chunks(4096).map(|page| page[0]).collect::<Vec<_>>(), [2, 2, 1, 1]);

        let disk = MemoryDisk::crashable();
        ["a", "b", "c", "d"].iter().for_each(|name| drop(disk.create(Path::new(name)).unwrap()));
        disk.fault(Call::Sync, 1, Fault::CrashMidway);
        disk.sync_dir(Path::new("")).unwrap_err();
        assert_eq!(disk.reboot(Survivors::Nothing).list(Path::new("")).unwrap().len(), 2);
    }

    #[test]
    fn failed_write_does_half_and_the_next_goes_on() {
        let (disk, file) = disk_and_file();
        disk.fault(Call::Write, 2, Fault::Error);
        file.write_at(b"ab", 0).unwrap();
        file.sync().unwrap();
        assert_eq!(file.write_at(b"cdef", 2).unwrap_err().to_string(), "the disk failed");
        assert_eq!(read(&disk), b"abcd");
        disk.fault(Call::Any, 0, Fault::Error);
        file.len().unwrap();
        file.write_at(b"xy", 2).unwrap_err();
        file.write_at(b"xy", 2).unwrap();
        assert_eq!(read(&disk), b"abxy");
    }

    #[test]
    fn full_disk_takes_a_part_and_goes_on_when_there_is_room() {
        let (disk, file) = disk_and_file();
        disk.set_capacity(6);
        let full = |answer: io::Result<()>| assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::StorageFull);
        full(file.write_at(b"12345678", 0));
        assert_eq!((read(&disk), disk.used()), (b"123456".to_vec(), 6));
        full(file.set_len(7));
        full(file.write_at(b"9", 9));
        file.write_at(b"abcdef", 0).unwrap();
        file.set_len(4).unwrap();
        file.write_at(b"gh", 4).unwrap();
        disk.set_capacity(7);
        full(file.write_at(b"9", 9));
        file.write_at(b"i", 6).unwrap();
        assert_eq!((read(&disk), disk.used()), (b"abcdefghi"[..4].iter().chain(b"ghi").copied().collect(), 7));

        disk.remove_file(Path::new(F)).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        assert_eq!(disk.used(), 7);
        drop(file);
        assert_eq!(disk.used(), 0);
    }

    #[test]
    fn capacity_and_clock_outlast_a_crash() {
        let (disk, file) = disk_and_file();
        disk.set_now_ms(5);
        file.write_at(b"1234", 0).unwrap();
        disk.set_now_ms(9);
        disk.set_capacity(4);
        assert_eq!(file.modified_ms().unwrap(), 5);
        let disk = disk.reboot(Survivors::Everything);
        let file = disk.open(Path::new(F)).unwrap();
        assert_eq!((file.modified_ms().unwrap(), disk.used()), (5, 4));
        assert_eq!(file.write_at(b"5", 4).unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.write_at(b"x", 0).unwrap();
        assert_eq!(file.modified_ms().unwrap(), 9);
    }
}

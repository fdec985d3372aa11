//! What goes over the wire, for whoever wants to see it: the latest exchanges, each a request and its answer with every byte.
//!
//! ```text
//! a connection's thread ── is_on() ── wants() ── record() ──► [ 17 ][ 18 ][ 19 ][ 20 ]   the ring: the oldest go first
//!                            └ one load, and that is all while nobody watches  │
//!                                                      next(18) ◄── subscribers: each reads on at its own pace
//! ```
//!
//! It is off until somebody switches it on, for all connections or for some. It is bounded in exchanges and in bytes; a subscriber
//! that is too slow is told how many it missed. What is switched off is forgotten.
//!
//! An exchange that somebody expects from an address is handed to them, whatever the switch says.

use super::{
    Caller,
    spans::Spans,
    waiting::{Registered, Waiter, Waiters},
};
use crate::log::disk::Disk;
use std::{
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::*},
    },
    time::Duration,
};

/// How much of a message is kept.
pub const SEEN_BYTES_MAX: usize = 64 << 10;
/// How much of the lines is kept that an exchange wrote or read.
pub const LINES_BYTES_MAX: usize = 16 << 10;
/// How many exchanges the ring holds,
const RING_LENGTH_MAX: usize = 1000;
/// and how much memory they take, but for one that is larger.
const RING_BYTES_MAX: usize = 8 << 20;

/// One message: a request or an answer.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Its first bytes, [`SEEN_BYTES_MAX`] at most.
    pub bytes: Vec<u8>,
    /// How many bytes it had in all.
    pub length: usize,
    /// Its fields; `None`: it is text, which explains itself.
    pub spans: Option<Spans>,
}

impl Message {
    /// Adds what comes next of it.
    pub fn add(&mut self, bytes: &[u8]) {
        let room = SEEN_BYTES_MAX - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.length += bytes.len();
    }

    /// Blanks the fields of this name, and what no field is known of, where more of them may stand.
    pub fn withhold(&mut self, secret: &str) {
        let Some(spans) = &self.spans else { return };
        let bytes = std::mem::take(&mut self.bytes);
        self.bytes = vec![b'*'; bytes.len()];
        for span in spans.iter().filter(|span| span.name != secret) {
            let known = span.from.min(bytes.len())..span.to.min(bytes.len());
            self.bytes[known.clone()].copy_from_slice(&bytes[known]);
        }
    }

    fn memory(&self) -> usize {
        self.bytes.capacity() + self.spans.as_ref().map_or(0, Spans::memory)
    }
}

/// Lines of a log that a request wrote or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// The file.
    pub path: PathBuf,
    /// The positions of the lines there.
    pub positions: Range<u64>,
    /// The first of these lines, [`LINES_BYTES_MAX`] at most.
    pub lines: Vec<u8>,
}

impl FileRange {
    /// These lines of this file.
    pub fn new(path: impl Into<PathBuf>, Range { start, end }: Range<impl Into<u64>>) -> FileRange {
        FileRange { path: path.into(), positions: start.into()..end.into(), lines: Vec::new() }
    }

    /// Reads the lines. Later they may be gone.
    fn read(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let bytes = (self.positions.end - self.positions.start).min(LINES_BYTES_MAX as u64) as usize;
        self.lines.resize(bytes, 0);
        let read = disk.open(&self.path)?.read_at(&mut self.lines, self.positions.start)?;
        self.lines.truncate(read);
        Ok(())
    }
}

/// Whose exchange it is, and of what kind: what filters look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The connection's id.
    pub connection: u64,
    /// The other end.
    pub address: SocketAddr,
    /// What the client calls itself; empty if it does not say.
    pub client: String,
    /// The name of the API or the verb.
    pub api: &'static str,
}

/// A request and its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Whose it is.
    pub asker: Asker,
    /// The API's version; `None`: the protocol has none.
    pub version: Option<i16>,
    /// When it was answered, in ms since 1970-01-01 UTC.
    pub time_ms: i64,
    /// What came.
    pub request: Message,
    /// What was answered; empty if nothing was.
    pub response: Message,
    /// The lines that were written or read first.
    pub file: Option<FileRange>,
    /// How long it took, with all waiting in it.
    pub took: Duration,
}

impl Exchange {
    fn memory(&self) -> usize {
        let file = self.file.as_ref().map_or(0, |file| file.path.capacity() + file.lines.capacity());
        let messages = self.request.memory() + self.response.memory();
        size_of::<Exchange>() + self.asker.client.capacity() + messages + file
    }
}

/// An exchange in the ring.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// Its number: one more than that of the one before.
    pub number: u64,
    /// What it is.
    pub exchange: Arc<Exchange>,
}

/// Which exchanges are wanted: those that fit all that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of one connection.
    pub connection: Option<u64>,
    /// Of clients that call themselves so.
    pub client: Option<String>,
    /// Of one API or verb, in any case.
    pub api: Option<String>,
}

impl Filter {
    fn fits(&self, asker: &Asker) -> bool {
        self.connection.is_none_or(|connection| connection == asker.connection)
            && self.client.as_ref().is_none_or(|client| *client == asker.client)
            && self.api.as_ref().is_none_or(|api| api.eq_ignore_ascii_case(asker.api))
    }
}

/// The latest exchanges.
#[derive(Debug, Default)]
pub struct Wire {
    /// How many want exchanges: who switched it on, and who expects one.
    wanting: AtomicUsize,
    state: Mutex<State>,
    subscribers: Waiters,
}

#[derive(Debug, Default)]
struct State {
    filter: Option<Filter>,
    ring: VecDeque<Numbered>,
    /// How much memory the ring takes.
    bytes: usize,
    last_number: u64,
    /// What is expected from an address, once it came.
    expected: HashMap<SocketAddr, Expecting>,
}

/// Who expects an exchange, and what came.
#[derive(Debug)]
struct Expecting {
    /// The address that it asks.
    at: SocketAddr,
    by: Caller,
    seen: Option<Arc<Exchange>>,
}

impl Wire {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the wire's lock")
    }

    /// Whether anybody wants to see exchanges. It is asked for every request.
    pub fn is_on(&self) -> bool {
        self.wanting.load(Relaxed) > 0
    }

    /// Whether somebody wants to see this one.
    pub fn wants(&self, asker: &Asker) -> bool {
        let state = self.state();
        state.filter.as_ref().is_some_and(|filter| filter.fits(asker)) || state.expected.contains_key(&asker.address)
    }

    /// Takes an exchange, and wakes who waits for it. Bytes of the log are read from the disk that has it, if it is on one here.
    pub(crate) fn record(&self, mut exchange: Exchange, disk: Option<&dyn Disk>) {
        // What cannot be read is not shown. Whoever asked for it was told.
        let read = |file: &mut FileRange| disk.is_some_and(|disk| file.read(disk).is_ok());
        if exchange.file.as_mut().is_some_and(|file| !read(file)) {
            exchange.file = None;
        }
        let exchange = Arc::new(exchange);
        let mut state = self.state();
        if let Some(expecting) = state.expected.get_mut(&exchange.asker.address) {
            expecting.seen.get_or_insert_with(|| exchange.clone());
        }
        if !state.filter.as_ref().is_some_and(|filter| filter.fits(&exchange.asker)) {
            return;
        }
        state.last_number += 1;
        state.bytes += exchange.memory();
        let number = state.last_number;
        state.ring.push_back(Numbered { number, exchange });
        while state.ring.len() > RING_LENGTH_MAX || state.bytes > RING_BYTES_MAX && state.ring.len() > 1 {
            let oldest = state.ring.pop_front();
            state.bytes -= oldest.map_or(0, |oldest| oldest.exchange.memory());
        }
        drop(state);
        self.subscribers.wake();
    }

    /// Switches it on for what a filter names, instead of what was wanted before, or off.
    pub fn switch(&self, filter: Option<Filter>) {
        let mut state = self.state();
        match (state.filter.is_some(), filter.is_some()) {
            (false, true) => drop(self.wanting.fetch_add(1, Relaxed)),
            (true, false) => drop(self.wanting.fetch_sub(1, Relaxed)),
            _ => {}
        }
        if filter.is_none() {
            (state.ring, state.bytes) = (VecDeque::new(), 0);
        }
        state.filter = filter;
        drop(state);
        self.subscribers.wake();
    }

    /// What is wanted; `None`: it is off.
    pub fn filter(&self) -> Option<Filter> {
        self.state().filter.clone()
    }

    /// Registers who waits for more exchanges, and for the switch.
    pub fn register(&self, waiter: &Arc<Waiter>) -> Registered<'_> {
        self.subscribers.register(waiter)
    }

    /// The oldest exchange behind a number that the ring still has. A number that was not reached yet is of a broker that ran
    /// here before: whoever comes with it has seen nothing.
    pub fn next(&self, number: u64) -> Option<Numbered> {
        let state = self.state();
        let number = if number > state.last_number { 0 } else { number };
        let at = state.ring.partition_point(|seen| seen.number <= number);
        state.ring.get(at).cloned()
    }

    /// Who expects what this address asks at another: it is the broker's own end of a connection to itself, which acts for them. Only
    /// both ends tell one: another program may have the same port at the same time, for another address.
    pub fn expected_by(&self, address: SocketAddr, at: SocketAddr) -> Option<Caller> {
        let state = self.state();
        state.expected.get(&address).filter(|expecting| expecting.at == at).map(|expecting| expecting.by.clone())
    }

    /// Expects an exchange from this address at another, on behalf of somebody, until the answer is dropped.
    pub fn expect(&self, address: SocketAddr, at: SocketAddr, by: Caller) -> Expected<'_> {
        self.state().expected.insert(address, Expecting { at, by, seen: None });
        self.wanting.fetch_add(1, Relaxed);
        Expected { wire: self, address }
    }
}

/// What is expected from an address.
#[derive(Debug)]
pub struct Expected<'w> {
    wire: &'w Wire,
    address: SocketAddr,
}

impl Expected<'_> {
    /// The first exchange of that address, if it came.
    pub fn take(&self) -> Option<Arc<Exchange>> {
        self.wire.state().expected.get_mut(&self.address)?.seen.take()
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.wire.state().expected.remove(&self.address);
        self.wire.wanting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::disk::MemoryDisk;

    fn asker(connection: u64, client: &str, api: &'static str) -> Asker {
        let address = ([127, 0, 0, 1], connection as u16).into();
        Asker { connection, address, client: client.into(), api }
    }

    fn exchange(connection: u64, bytes: usize) -> Exchange {
        let mut request = Message::default();
        request.add(&vec![7; bytes]);
        let (response, took) = (Message::default(), Duration::ZERO);
        Exchange {
            asker: asker(connection, "c", "PING"),
            version: None,
            time_ms: 0,
            request,
            response,
            file: None,
            took,
        }
    }

    #[test]
    fn it_is_off_until_it_is_switched_on_and_forgets_when_it_is_switched_off() {
        let wire = Wire::default();
        assert!(!wire.is_on() && !wire.wants(&asker(1, "c", "PING")));
        wire.switch(Some(Filter::default()));
        wire.switch(Some(Filter::default()));
        assert!(wire.is_on() && wire.wants(&asker(1, "c", "PING")));
        wire.record(exchange(1, 10), Some(&MemoryDisk::default()));
        assert_eq!(wire.next(0).unwrap().number, 1);
        assert!(wire.next(1).is_none());
        assert_eq!(wire.next(500).unwrap().number, 1, "500 was another broker's");
        wire.switch(None);
        wire.switch(None);
        assert!(!wire.is_on() && wire.next(0).is_none());
        // One that had begun before.
        wire.record(exchange(1, 10), Some(&MemoryDisk::default()));
        assert!(wire.next(0).is_none());
    }

    #[test]
    fn a_filter_fits_what_fits_all_that_it_names() {
        let filter = Filter { connection: Some(2), client: Some("c".into()), api: Some("produce".into()) };
        assert!(filter.fits(&asker(2, "c", "Produce")));
        for other in [asker(1, "c", "Produce"), asker(2, "d", "Produce"), asker(2, "c", "Fetch")] {
            assert!(!filter.fits(&other), "{other:?}");
        }
    }

    #[test]
    fn the_ring_is_bounded_in_exchanges_and_in_bytes_and_the_oldest_go_first() {
        let wire = Wire::default();
        wire.switch(Some(Filter::default()));
        (0..3 * RING_LENGTH_MAX).for_each(|_| wire.record(exchange(1, 1), Some(&MemoryDisk::default())));
        assert_eq!(wire.state().ring.len(), RING_LENGTH_MAX);
        assert_eq!(wire.next(0).unwrap().number, 2 * RING_LENGTH_MAX as u64 + 1, "a slow subscriber sees the gap");
        (0..3 * RING_LENGTH_MAX).for_each(|_| wire.record(exchange(1, 1 << 20), Some(&MemoryDisk::default())));
        let state = wire.state();
        assert!(state.bytes <= RING_BYTES_MAX, "{}", state.bytes);
        assert_eq!(state.bytes, state.ring.iter().map(|seen| seen.exchange.memory()).sum::<usize>());
        let last = &state.ring.back().unwrap().exchange.request;
        assert_eq!((last.bytes.len(), last.length), (SEEN_BYTES_MAX, 1 << 20));
        drop(state);
        // A client may call itself anything.
        let named = || Exchange { asker: asker(1, &"c".repeat(i16::MAX as usize), "PING"), ..exchange(1, 1) };
        (0..RING_LENGTH_MAX).for_each(|_| wire.record(named(), Some(&MemoryDisk::default())));
        assert!(wire.state().ring.len() <= RING_BYTES_MAX / i16::MAX as usize);
    }

    #[test]
    fn what_is_expected_is_handed_over_though_it_is_off() {
        let wire = Wire::default();
        let (address, at) = (asker(5, "", "PING").address, SocketAddr::from(([127, 0, 0, 1], 9092)));
        let expected = wire.expect(address, at, Caller::embedded());
        assert_eq!(wire.expected_by(address, at), Some(Caller::embedded()));
        assert_eq!(
            wire.expected_by(address, SocketAddr::from(([127, 0, 0, 2], 9092))),
            None,
            "it is another connection"
        );
        assert!(wire.is_on() && wire.wants(&asker(5, "", "PING")) && !wire.wants(&asker(6, "", "PING")));
        assert!(expected.take().is_none());
        wire.record(exchange(5, 3), Some(&MemoryDisk::default()));
        wire.record(exchange(5, 4), Some(&MemoryDisk::default()));
        assert_eq!(expected.take().unwrap().request.length, 3);
        assert!(wire.next(0).is_none(), "the ring is for those who switch it on");
        drop(expected);
        assert!(!wire.is_on() && wire.state().expected.is_empty());
    }
}

//! Who is connected, and what each connection has said and got so far.
//!
//! ```text
//! connected ──► a row with an id of its own ── disconnected ──► its sums join those of its protocol that are gone
//!                 │ requests, bytes in, bytes out: raised by its own thread only, read by whoever lists
//! ```
//!
//! Ids begin at 1 and are never given twice while the broker runs.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*},
    },
    time::Instant,
};

/// How much is kept of what a client calls itself.
const CLIENT_BYTES_MAX: usize = 255;
/// The protocol of a connection that has not said what it speaks.
const UNKNOWN: &str = "unknown";

/// The connections there are.
#[derive(Debug, Default)]
pub struct Connections {
    state: Mutex<State>,
    /// How many of them nobody is known to be.
    strangers: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    open: BTreeMap<u64, Arc<Connection>>,
    of_networks: HashMap<IpAddr, Network>,
    gone: BTreeMap<&'static str, ConnectionSum>,
}

/// Those of an address, of IPv6 of a /64.
#[derive(Debug, Default)]
struct Network {
    count: usize,
    strangers: Arc<AtomicUsize>,
}

/// A connection, and what it counts.
#[derive(Debug)]
pub struct Connection {
    /// Tells it from every other.
    pub id: u64,
    /// The other end.
    pub address: SocketAddr,
    /// When it came, in ms since 1970-01-01 UTC.
    pub connected_ms: i64,
    /// How many connections there were with it,
    pub count_with_it: usize,
    /// how many of them from its address, of IPv6 from its /64,
    pub of_network_with_it: usize,
    /// and how many whose clients nobody knows.
    pub strangers_with_it: usize,
    /// The same of those from its address.
    pub strangers_of_network_with_it: usize,
    /// Both counts.
    strangers: [Arc<AtomicUsize>; 2],
    is_known: AtomicBool,
    connected: Instant,
    protocol: OnceLock<&'static str>,
    client: OnceLock<Box<str>>,
    user: Mutex<Option<Arc<str>>>,
    requests: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// When the last request was counted, in ms after it came; 0: none was.
    last_request: AtomicU64,
}

/// What a connection, or all of a protocol, has said and got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionSum {
    /// Connections that came.
    pub connections: u64,
    /// Those that are still there.
    pub open: u64,
    /// Requests that were carried out or refused.
    pub requests: u64,
    /// Bytes that the other ends sent.
    pub bytes_in: u64,
    /// Bytes that were sent to them.
    pub bytes_out: u64,
}

impl Connections {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the connections' lock")
    }

    /// Somebody connected, at this time.
    pub fn connected(&self, address: SocketAddr, now_ms: i64) -> Arc<Connection> {
        let mut state = self.state();
        state.last_id += 1;
        let of_network = state.of_networks.entry(network(address)).or_default();
        of_network.count += 1;
        let of_network_with_it = of_network.count;
        let strangers = [self.strangers.clone(), of_network.strangers.clone()];
        let [strangers_with_it, strangers_of_network_with_it] =
            strangers.each_ref().map(|count| count.fetch_add(1, AcqRel) + 1);
        let connection = Arc::new(Connection {
            id: state.last_id,
            address,
            connected_ms: now_ms,
            count_with_it: state.open.len() + 1,
            of_network_with_it,
            strangers_with_it,
            strangers_of_network_with_it,
            strangers,
            is_known: AtomicBool::new(false),
            connected: Instant::now(),
            protocol: OnceLock::new(),
            client: OnceLock::new(),
            user: Mutex::default(),
            requests: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            last_request: AtomicU64::new(0),
        });
        state.open.insert(connection.id, connection.clone());
        connection
    }

    /// A connection ended.
    pub fn disconnected(&self, connection: &Connection) {
        let mut state = self.state();
        if state.open.remove(&connection.id).is_some() {
            connection.set_known();
            let network = network(connection.address);
            let left = state.of_networks.get_mut(&network).map_or(0, |network| {
                network.count -= 1;
                network.count
            });
            if left == 0 {
                state.of_networks.remove(&network);
            }
            let sum = ConnectionSum { open: 0, ..connection.sum() };
            state.gone.entry(connection.protocol()).or_default().add(sum);
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.state().open.len()
    }

    /// Those there are, by their ids.
    pub fn all(&self) -> Vec<Arc<Connection>> {
        self.state().open.values().cloned().collect()
    }

    /// The sums of each protocol, of connections that are gone too. Of one that may yet say what it speaks nothing counts but that
    /// it is open: what it counted will be of that protocol, and no sum may fall.
    pub fn sums(&self) -> BTreeMap<&'static str, ConnectionSum> {
        let state = self.state();
        let mut sums = state.gone.clone();
        for connection in state.open.values() {
            let (protocol, sum) = match connection.protocol.get() {
                Some(protocol) => (*protocol, connection.sum()),
                None => (UNKNOWN, ConnectionSum { open: 1, ..ConnectionSum::default() }),
            };
            sums.entry(protocol).or_default().add(sum);
        }
        sums
    }
}

impl Connection {
    /// What it speaks, once that is known.
    pub fn set_protocol(&self, name: &'static str) {
        let _first_counts = self.protocol.set(name);
    }

    /// What it speaks; `unknown` before its first byte, and where nobody understands that.
    pub fn protocol(&self) -> &'static str {
        self.protocol.get().copied().unwrap_or(UNKNOWN)
    }

    /// What its client calls itself. What it said first counts, and the first part of that.
    pub fn set_client(&self, name: &str) {
        if !name.is_empty() {
            self.client.get_or_init(|| name[..name.floor_char_boundary(CLIENT_BYTES_MAX)].into());
        }
    }

    /// The same; `None`: it does not say.
    pub fn client(&self) -> Option<&str> {
        self.client.get().map(|name| &**name)
    }

    /// It is known who its client is, or nobody asks.
    pub fn set_known(&self) {
        if !self.is_known.swap(true, AcqRel) {
            for count in &self.strangers {
                count.fetch_sub(1, AcqRel);
            }
        }
    }

    /// Whether that is so.
    pub fn is_known(&self) -> bool {
        self.is_known.load(Acquire)
    }

    /// Which of the broker's users it belongs to from now on; `None`: it is none's.
    pub fn set_user(&self, user: Option<Arc<str>>) {
        if user.is_some() {
            self.set_known();
        }
        *self.user.lock().expect("no panic while a user is named") = user;
    }

    /// The same.
    pub fn user(&self) -> Option<Arc<str>> {
        self.user.lock().expect("no panic while a user is named").clone()
    }

    /// So many of its requests were carried out or refused, the last of them now.
    pub fn requested(&self, requests: u64, now: Instant) {
        if requests > 0 {
            self.requests.fetch_add(requests, Relaxed);
            self.last_request.store(now.duration_since(self.connected).as_millis().max(1) as u64, Relaxed);
        }
    }

    /// The other end sent this much.
    pub fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    /// This much was sent to it.
    pub fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    /// When its last request was carried out, in ms since 1970-01-01 UTC; `None`: it sent none.
    pub fn last_request_ms(&self) -> Option<i64> {
        let after = self.last_request.load(Relaxed);
        (after > 0).then(|| self.connected_ms.saturating_add_unsigned(after))
    }

    /// What it counted.
    pub fn sum(&self) -> ConnectionSum {
        ConnectionSum {
            connections: 1,
            open: 1,
            requests: self.requests.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
        }
    }
}

/// An address, of IPv6 what its network has in common: who has one such address has all.
fn network(address: SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    }
}

impl ConnectionSum {
    fn add(&mut self, other: ConnectionSum) {
        self.connections += other.connections;
        self.open += other.open;
        self.requests += other.requests;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> SocketAddr {
        ([127, 0, 0, 1], 1).into()
    }

    #[test]
    fn ids_are_never_given_twice_and_rows_go() {
        let connections = Connections::default();
        let (one, two) = (connections.connected(peer(), 5), connections.connected(peer(), 6));
        assert_eq!([one.id, two.id], [1, 2]);
        assert_eq!([one.count_with_it, two.count_with_it], [1, 2]);
        connections.disconnected(&two);
        connections.disconnected(&two);
        let three = connections.connected(peer(), 7);
        assert_eq!((three.id, three.count_with_it), (3, 2));
        assert_eq!(connections.all().iter().map(|one| one.id).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(connections.count(), 2);
    }

    #[test]
    fn strangers_and_those_of_an_address_are_counted_until_they_go_or_are_known() {
        let connections = Connections::default();
        let from = |text: &str| connections.connected(text.parse().unwrap(), 0);
        let (one, two, other) = (from("[2001:db8::1]:1"), from("[2001:db8::2]:1"), from("10.0.0.1:1"));
        assert_eq!([&one, &two, &other].map(|one| one.of_network_with_it), [1, 2, 1]);
        assert_eq!([&one, &two, &other].map(|one| one.strangers_with_it), [1, 2, 3]);
        assert_eq!([&one, &two, &other].map(|one| one.strangers_of_network_with_it), [1, 2, 1]);
        one.set_user(None);
        assert!(!one.is_known());
        one.set_user(Some("alice".into()));
        one.set_known();
        assert!(one.is_known());
        connections.disconnected(&one);
        connections.disconnected(&two);
        connections.disconnected(&two);
        let next = from("[::ffff:10.0.0.1]:1");
        assert_eq!((next.of_network_with_it, next.strangers_with_it, next.strangers_of_network_with_it), (2, 2, 2));
        assert_eq!(connections.state().of_networks.len(), 1);
    }

    #[test]
    fn what_a_connection_counted_stays_counted_when_it_is_gone() {
        let connections = Connections::default();
        let (gone, there) = (connections.connected(peer(), 0), connections.connected(peer(), 0));
        for connection in [&gone, &there] {
            connection.set_protocol("text");
            connection.received(10);
            connection.sent(20);
            connection.requested(3, Instant::now());
        }
        let before = connections.sums();
        connections.disconnected(&gone);
        let sum = ConnectionSum { connections: 2, open: 1, requests: 6, bytes_in: 20, bytes_out: 40 };
        assert_eq!(connections.sums(), BTreeMap::from([("text", sum)]));
        assert_eq!(before["text"], ConnectionSum { open: 2, ..sum });
    }

    #[test]
    fn no_sum_falls_when_a_connection_says_what_it_speaks() {
        let connections = Connections::default();
        let (silent, speaks) = (connections.connected(peer(), 0), connections.connected(peer(), 0));
        [&silent, &speaks].iter().for_each(|connection| connection.received(10));
        let open = ConnectionSum { open: 1, ..ConnectionSum::default() };
        assert_eq!(connections.sums(), BTreeMap::from([(UNKNOWN, ConnectionSum { open: 2, ..open })]));
        speaks.set_protocol("text");
        let said = ConnectionSum { connections: 1, bytes_in: 10, ..open };
        assert_eq!(connections.sums(), BTreeMap::from([(UNKNOWN, open), ("text", said)]));
        connections.disconnected(&silent);
        let gone = ConnectionSum { open: 0, ..said };
        assert_eq!(connections.sums(), BTreeMap::from([(UNKNOWN, gone), ("text", said)]));
    }

    #[test]
    fn a_client_is_called_by_what_it_said_first_and_not_for_ever_long() {
        let connection = Connections::default().connected(peer(), 1000);
        assert_eq!((connection.protocol(), connection.client(), connection.last_request_ms()), ("unknown", None, None));
        connection.set_client("");
        connection.set_client(&"ä".repeat(1 << 20));
        connection.set_client("later");
        assert_eq!(connection.client().unwrap(), "ä".repeat(127));
        connection.requested(0, Instant::now());
        assert_eq!(connection.last_request_ms(), None);
        connection.requested(1, connection.connected + std::time::Duration::from_millis(7));
        assert_eq!(connection.last_request_ms(), Some(1007));
    }
}

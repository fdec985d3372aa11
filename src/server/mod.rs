//! The server: it listens, accepts, gives each connection a thread, and stops cleanly.
//!
//! ```text
//! accept threads (one an address) ──► admission ──► connection thread: sniff ──► protocol::…::serve
//!                                        │                              └ TLS: a handshake, and sniff again
//!                                        └ over --max-connections: told so, and closed
//! ```
//!
//! - A connection costs a thread with a small stack. Its buffers belong to its protocol, which frees them when the
//!   connection is silent.
//! - A connection over the limit also gets a thread, for a second, to be told why it is refused. Only a few of these are
//!   served at a time; the rest are closed at once.
//! - If no thread can be started for a connection, the accepting thread tells the client so.
//! - When the system runs out of file handles, accepting pauses. Nothing is closed.
//! - A clean stop lets each connection finish what it was asked to do. A client that does not take its answers is cut off
//!   after a few seconds.

#[cfg(feature = "tls")]
mod secure;
mod sniff;

pub use sniff::{Spoken, spoken};

#[cfg(feature = "users")]
use crate::broker::EndsSessions;
#[cfg(feature = "cluster")]
use crate::protocol::joined;
#[cfg(feature = "tls")]
use crate::security::{Proof, Turns, tls::Identity};
use crate::{
    backend::Backend,
    broker::{Caller, Protocol, Waiter},
    config::Address,
    metrics::Connection,
    protocol::{
        connection::{self, SILENCE},
        text,
        transport::Transport,
    },
    security::Principal,
};
use socket2::{Domain, Socket, Type};
#[cfg(feature = "users")]
use std::sync::Weak;
use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering::*},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A connection's stack: address space, of which a connection pays for the pages that it touches.
const STACK_BYTES: usize = 256 << 10;
/// How many refused connections are answered at the same time.
const TURNED_AWAY_MAX: usize = 32;
/// One connection in so many may be of a client that has not logged in.
#[cfg(feature = "users")]
const STRANGERS_SHARE: usize = 4;
/// How long a refused client may take to say which protocol it speaks.
const TURNING_AWAY: Duration = Duration::from_secs(1);
/// The same when the accepting thread itself has to wait for it.
const TURNING_AWAY_AT_ONCE: Duration = Duration::from_millis(50);
/// How long the rest of what a client sends is read after its last answer.
const DRAINING: Duration = Duration::from_secs(1);
/// A pause when the system has no more file handles.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// How long a stop waits for what other machines answer.
const STOP_PATIENCE: Duration = Duration::from_secs(1);
/// How long it waits for connections to take their answers.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A running server. It stops when it is dropped.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    accepting: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    backend: Backend,
    /// The name in `--listen`, which Kafka clients are told and HTTP clients may use; `None`: an address stands there.
    #[cfg(any(feature = "kafka", feature = "http"))]
    name: Option<String>,
    /// Who the broker is under TLS; `None`: it does not speak it.
    #[cfg(feature = "tls")]
    identity: Option<Identity>,
    stopping: AtomicBool,
    /// How many clients are being dealt with that are not served.
    aside: AtomicUsize,
    /// Handshakes take turns, so that those who shake hands leave the processor to the others.
    #[cfg(feature = "tls")]
    turns: Turns,
    /// Whether the last connection got no thread.
    threadless: AtomicBool,
    connections: Mutex<Connections>,
    closed: Condvar,
}

/// Those that are served, by their ids.
#[derive(Debug, Default)]
struct Connections {
    open: HashMap<u64, (Arc<Transport>, Arc<Waiter>)>,
}

impl Server {
    /// Serves a broker on every address that `listen` (`host:port`) resolves to; one suffices. Port 0 takes one that is
    /// free in all.
    pub fn start(backend: impl Into<Backend>, listen: &str) -> io::Result<Server> {
        let backend = backend.into();
        let (listeners, unbound) = bind(listen)?;
        for Unbound { address, error } in unbound.iter().filter(|_| backend.config().verbosity > 0) {
            crate::tell::tell(format_args!("not listening on {address}: {error}"));
        }
        #[cfg(feature = "tls")]
        let identity = secure::open(backend.config())?;
        let shared = Arc::new(Shared {
            backend,
            #[cfg(any(feature = "kafka", feature = "http"))]
            name: name_in(listen),
            #[cfg(feature = "tls")]
            identity,
            stopping: AtomicBool::new(false),
            aside: AtomicUsize::new(0),
            #[cfg(feature = "tls")]
            turns: Turns::default(),
            threadless: AtomicBool::new(false),
            connections: Mutex::default(),
            closed: Condvar::new(),
        });
        #[cfg(feature = "users")]
        {
            let ends: Weak<Shared> = Arc::downgrade(&shared);
            shared.backend.door().tell_of_deletions(ends);
        }
        let addresses = listeners.iter().map(|listener| listener.local_addr()).collect::<io::Result<_>>()?;
        let mut server = Server { addresses, shared, accepting: Vec::new() };
        for listener in listeners {
            let shared = server.shared.clone();
            let thread = thread::Builder::new().name("accept".into()).stack_size(STACK_BYTES);
            server.accepting.push(thread.spawn(move || shared.accept(&listener))?);
        }
        Ok(server)
    }

    /// The addresses that it listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.addresses[0].port()
    }

    /// Reads the files of TLS and the keys of tokens again if they have changed, or in any case if it `must`, and tells on stderr what came
    /// of it. The next connection and the next login do so, too.
    #[cfg(feature = "users")]
    pub fn look(&self, must: bool) {
        #[cfg(feature = "tls")]
        self.shared.identity.iter().for_each(|identity| secure::look(identity, must));
        self.shared.backend.door().look_at_keys(must);
    }

    /// Stops: takes no more connections, lets those there are finish what they were asked, and closes them.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Release);
        for address in &self.addresses {
            // Wakes the accepting thread; it sees that the server stops.
            drop(TcpStream::connect_timeout(&reachable(*address), Duration::from_secs(1)));
        }
        for thread in self.accepting.drain(..) {
            drop(thread.join());
        }
        let mut connections = self.shared.connections();
        connections.close(Shutdown::Read);
        let begun = Instant::now();
        let deadline = begun + STOP_GRACE;
        connections = self.shared.wait_closed(connections, begun + STOP_PATIENCE);
        if !connections.open.is_empty() {
            drop(connections);
            self.shared.backend.give_up(true);
            connections = self.shared.wait_closed(self.shared.connections(), deadline);
        }
        while !connections.open.is_empty() {
            connections.close(Shutdown::Both);
            connections = self.shared.wait_closed(connections, Instant::now() + Duration::from_millis(100));
        }
        drop(connections);
        self.shared.backend.give_up(false);
        // A thread that has closed its connection still holds the broker until it ends, which is now.
        while Arc::strong_count(&self.shared) > 1 && Instant::now() < deadline {
            thread::yield_now();
        }
    }
}

#[cfg(feature = "users")]
impl EndsSessions for Shared {
    fn end_sessions_of(&self, user: &str) {
        self.connections().of_user(user).for_each(|(transport, waiter)| {
            // Over HTTP who is in the middle of something is told why it ends.
            let is_http = transport.counted().protocol() == Protocol::Http.name();
            transport.shutdown(if is_http { Shutdown::Read } else { Shutdown::Both });
            waiter.wake();
        });
    }

    fn look_at_sessions_of(&self, user: &str) {
        self.connections().of_user(user).for_each(|(_, waiter)| waiter.wake());
    }
}

#[cfg(feature = "users")]
impl Connections {
    /// Those of one of the broker's users.
    fn of_user(&self, user: &str) -> impl Iterator<Item = &(Arc<Transport>, Arc<Waiter>)> {
        self.open.values().filter(move |(transport, _)| transport.counted().user().is_some_and(|of| &*of == user))
    }
}

/// The name in `host:port`; `None`: the host is an IP address.
#[cfg(any(feature = "kafka", feature = "http"))]
fn name_in(listen: &str) -> Option<String> {
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    let is_address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    (!is_address).then(|| host.to_owned())
}

/// An address of this machine at which a listener on `address` is reached.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    address
}

/// An address that could not be bound.
struct Unbound {
    address: SocketAddr,
    error: io::Error,
}

/// Binds every address that `listen` resolves to, with one port for all. Answers those that failed with the reason.
fn bind(listen: &str) -> io::Result<(Vec<TcpListener>, Vec<Unbound>)> {
    let Address { host, port } =
        Address::to_listen_on(listen).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
    let mut wanted: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    if wanted.contains(&(Ipv6Addr::UNSPECIFIED, port).into()) {
        // Every address of the machine, with sockets of their own: IPv4 clients keep their addresses as they know them.
        wanted.push((Ipv4Addr::UNSPECIFIED, port).into());
    }
    wanted.sort();
    wanted.dedup();
    let mut tries = 0;
    loop {
        let (mut listeners, mut unbound) = (Vec::<TcpListener>::new(), Vec::new());
        for mut address in wanted.iter().copied() {
            if let (0, Some(first)) = (address.port(), listeners.first()) {
                address.set_port(first.local_addr()?.port());
            }
            match listen_on(address) {
                Ok(listener) => listeners.push(listener),
                Err(error) => unbound.push(Unbound { address, error }),
            }
        }
        let taken = |unbound: &Unbound| unbound.error.kind() == io::ErrorKind::AddrInUse;
        let (port_is_free, port_given) = (!unbound.iter().any(taken), wanted.iter().all(|address| address.port() != 0));
        match unbound.pop() {
            Some(Unbound { error, .. }) if listeners.is_empty() => return Err(error),
            // Somebody has the port on one of the addresses: a client would meet one broker or the other.
            Some(Unbound { address, error }) if !port_is_free && (port_given || tries == 16) => {
                return Err(io::Error::new(error.kind(), format!("{address}: {error}")));
            }
            Some(_) if !port_is_free => tries += 1,
            last => {
                unbound.extend(last);
                return Ok((listeners, unbound));
            }
        }
    }
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

/// A connection that is open; it is taken off the list however its thread ends.
struct Open<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.shared.connections().open.remove(&self.id);
        self.shared.closed.notify_all();
    }
}

/// A connection that counts, until its thread ends.
struct Counted {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.backend.metrics().connections.disconnected(&self.connection);
    }
}

impl Connections {
    fn close(&self, how: Shutdown) {
        for (transport, waiter) in self.open.values() {
            transport.shutdown(how);
            waiter.wake();
        }
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().expect("no panic under the connections' lock")
    }

    /// Waits until all connections are closed, or until then.
    fn wait_closed<'c>(
        &self,
        mut connections: MutexGuard<'c, Connections>,
        until: Instant,
    ) -> MutexGuard<'c, Connections> {
        while !connections.open.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            connections = self.closed.wait_timeout(connections, left).expect("no panic under the lock").0;
        }
        connections
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.backend.config().verbosity > 1 {
            crate::tell::tell(format_args!("{}", what()));
        }
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let mut exhausted = false;
        while !self.stopping.load(Acquire) {
            match listener.accept() {
                Ok((stream, peer)) => {
                    exhausted = false;
                    self.admit(stream, peer);
                }
                // The client gave up before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if !std::mem::replace(&mut exhausted, true) {
                        crate::tell::tell(format_args!(
                            "cannot accept a connection: {error}; trying again until it can"
                        ));
                    }
                    thread::sleep(EXHAUSTED_PAUSE);
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let connection = self.backend.metrics().connections.connected(peer, self.backend.now_ms());
        let (count, max) = (connection.count_with_it, self.backend.config().max_connections);
        let refusal = self.refusal(&connection);
        let counted = Counted { shared: self.clone(), connection: connection.clone() };
        let wait = self.backend.connected_from(peer.ip()).min(TURNING_AWAY);
        if self.stopping.load(Acquire) || count > max + TURNED_AWAY_MAX {
            return;
        }
        if refusal.is_some() || !wait.is_zero() {
            // It takes no place of those who may log in.
            connection.set_known();
        }
        let transport = match Transport::tcp(stream, connection, self.backend.config().idle_timeout) {
            Ok(transport) => Arc::new(transport),
            Err(error) => return self.tell(|| format!("{peer} is gone: {error}")),
        };
        let served = transport.clone();
        let serve = move || {
            let shared = &counted.shared;
            if !wait.is_zero() {
                shared.aside(|| shared.hold(served, wait))
            } else if let Some(why) = refusal {
                shared.aside(|| turn_away(&served, &why, TURNING_AWAY))
            } else {
                shared.serve(served)
            }
        };
        match thread::Builder::new().stack_size(STACK_BYTES).spawn(serve) {
            Ok(_) => self.threadless.store(false, Release),
            Err(error) => {
                if !self.threadless.swap(true, AcqRel) {
                    crate::tell::tell(format_args!(
                        "no thread for a connection: {error}; those that come are refused until there is one"
                    ));
                }
                turn_away(&transport, "the broker has no thread left for this connection", TURNING_AWAY_AT_ONCE);
            }
        }
    }

    /// Puts a connection on the list of those that a stop closes; `None`: the broker stops.
    fn open(&self, transport: &Arc<Transport>, waiter: Arc<Waiter>) -> Option<Open<'_>> {
        let (id, mut connections) = (transport.counted().id, self.connections());
        if self.stopping.load(Acquire) {
            return None;
        }
        connections.open.insert(id, (transport.clone(), waiter));
        Some(Open { shared: self, id })
    }

    /// One connection, from its first byte to its last.
    fn serve(&self, transport: Arc<Transport>) {
        let peer = transport.peer();
        let waiter = Waiter::new();
        let Some(_open) = self.open(&transport, waiter.clone()) else { return };
        self.tell(|| format!("{peer} connected"));
        match self.converse(&transport, waiter) {
            Ok(()) => self.tell(|| format!("{peer} left")),
            Err(error) => self.tell(|| format!("{peer} is gone: {error}")),
        }
    }

    /// Keeps a client waiting that connects too often, and closes it without a word, as Kafka does.
    fn hold(&self, transport: Arc<Transport>, wait: Duration) {
        let peer = transport.peer();
        self.tell(|| format!("{peer} connects more often than its quota allows"));
        // A stop ends it.
        let Some(_open) = self.open(&transport, Waiter::new()) else { return };
        drop(drain(&transport, wait));
    }

    /// Does something with a client that is not served, unless that is done with many: they take no places of others.
    fn aside(&self, work: impl FnOnce()) {
        if self.aside.fetch_add(1, AcqRel) < TURNED_AWAY_MAX {
            work();
        }
        self.aside.fetch_sub(1, AcqRel);
    }

    /// Why a connection is not served; `None`: it is.
    fn refusal(&self, connection: &Connection) -> Option<String> {
        let config = self.backend.config();
        let max = config.max_connections;
        if connection.count_with_it > max {
            return Some(format!("the limit of {max} connections (--max-connections) is reached"));
        }
        #[cfg(feature = "users")]
        {
            let of_address = config.security.connections_per_address;
            if let Some(most) = of_address.filter(|most| connection.of_network_with_it > *most) {
                return Some(format!(
                    "the limit of {most} connections of an address (--connections-per-address) is reached"
                ));
            }
            // The others are for those who are known, and nobody keeps all strangers of other addresses from becoming that.
            let strangers = (max / STRANGERS_SHARE).max(1);
            let of_network = (strangers * 3).div_ceil(4);
            if config.security.users
                && (connection.strangers_with_it > strangers || connection.strangers_of_network_with_it > of_network)
            {
                return Some("too many are connected who have not logged in".into());
            }
        }
        None
    }

    /// Until when a client is to be known; `None`: nobody asks who it is.
    fn login_by(&self) -> Option<Instant> {
        #[cfg(feature = "users")]
        return Some(&self.backend.config().security)
            .filter(|security| security.users)
            .map(|security| Instant::now() + security.login_within);
        #[cfg(not(feature = "users"))]
        None
    }

    /// On whose behalf this program itself is at the other end, to try something out; `None`: it is somebody else.
    #[cfg_attr(not(feature = "http"), allow(unused_variables))]
    fn own(&self, transport: &Transport) -> io::Result<Option<Caller>> {
        #[cfg(feature = "http")]
        return Ok(self.backend.wire().expected_by(transport.peer(), transport.local()?));
        #[cfg(not(feature = "http"))]
        Ok(None)
    }

    fn converse(&self, transport: &Transport, waiter: Arc<Waiter>) -> io::Result<()> {
        let login_by = self.login_by();
        let left = || login_by.map(|by| by.saturating_duration_since(Instant::now()));
        let Some(spoken) = sniff::sniff(transport, left())? else { return Ok(()) };
        let own = self.own(transport)?;
        #[cfg(feature = "tls")]
        let (principal, spoken) = match &self.identity {
            None => (None, spoken),
            Some(identity) if spoken == Spoken::Tls => {
                let most = left().unwrap_or(secure::HANDSHAKE);
                let principal = secure::shake_hands(transport, identity, most, &self.turns)?;
                let Some(spoken) = sniff::sniff(transport, left())? else { return end(transport) };
                (principal, spoken)
            }
            Some(identity) if identity.is_required() && own.is_none() => {
                return secure::refuse(transport, spoken);
            }
            Some(_) => (None, spoken),
        };
        #[cfg(not(feature = "tls"))]
        let principal = None;
        // Who is at the other end, and from where: rules and guesses go by that, not by the address of this program.
        let (own, from) = own.map_or((None, None), |own| (Some(own.principal), own.address));
        let principal = principal.or(own).unwrap_or_else(Principal::anonymous);
        transport.set_read_timeout(SILENCE)?;
        let (mut input, mut output) = connection::open(transport, waiter, &self.stopping);
        let peer = transport.peer();
        let address = from.or(Some(peer));
        let caller = |protocol| Caller { principal: principal.clone(), protocol, address, client_id: String::new() };
        let backend = |protocol: Protocol| {
            transport.counted().set_protocol(protocol.name());
            let backend = self.backend.on_behalf_of(caller(protocol));
            #[cfg(feature = "tls")]
            if principal.proof == Proof::Certificate {
                backend.door().note_login();
            }
            backend
        };
        let is_stranger = login_by.is_some() && !self.backend.on_behalf_of(caller(Protocol::Text)).is_admitted();
        if is_stranger {
            input.login_by = login_by;
            transport.be_brief(left().unwrap_or_default())?;
        } else {
            transport.counted().set_known();
        }
        #[cfg(feature = "cluster")]
        if let (Spoken::Kafka | Spoken::Tls, Backend::Cluster(cluster)) = (&spoken, &self.backend)
            && !cluster.door().asks_who()
        {
            transport.counted().set_protocol(Protocol::Kafka.name());
            if transport.is_secure() {
                // It would go on readable for all, and the nodes that it is sent on to know nothing of this certificate.
                crate::tell::tell_of_client(format_args!(
                    "{peer} speaks Kafka's protocol under this program's TLS, which does not reach the nodes; connect to them"
                ));
                return end(transport);
            }
            let node = cluster.connect()?;
            return joined::serve(transport, &node, cluster.config().idle_timeout, &self.stopping);
        }
        match spoken {
            Spoken::Text => match text::serve(&backend(Protocol::Text), &mut input, &mut output) {
                Err(error) if is_late(&error) && !transport.counted().is_known() => {
                    transport.write_all(b"ERROR SASL_AUTHENTICATION_FAILED it took too long to log in\n")?;
                }
                served => served?,
            },
            #[cfg(feature = "http")]
            Spoken::Http => {
                let name = self.name.as_deref();
                crate::protocol::http::serve(&backend(Protocol::Http), name, &mut input, &mut output)?
            }
            #[cfg(not(feature = "http"))]
            Spoken::Http => transport.write_all(sniff::http_answer().as_bytes())?,
            #[cfg(feature = "kafka")]
            Spoken::Kafka => match backend(Protocol::Kafka) {
                Backend::Broker(broker) => {
                    let name = self.name.as_deref();
                    crate::protocol::kafka::serve(&broker, name, &mut input, &mut output)?
                }
                #[cfg(feature = "cluster")]
                // The nodes would be asked by somebody of whom this program knows nothing.
                Backend::Cluster(_) => crate::tell::tell(format_args!(
                    "{peer} speaks Kafka's protocol, and this program's users are for text and HTTP; connect to the nodes"
                )),
            },
            #[cfg(not(feature = "kafka"))]
            Spoken::Kafka => {
                crate::tell::tell_of_client(format_args!("{peer} speaks Kafka's protocol, which this build does not"))
            }
            Spoken::Tls => crate::tell::tell_of_client(format_args!(
                "{peer} speaks TLS, which this port does not; connect without it"
            )),
            Spoken::Unknown(first) => crate::tell::tell_of_client(format_args!(
                "{peer} speaks no protocol of this port; its first byte was {first:#04x}"
            )),
        }
        end(transport)
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Answers must not be lost to a reset: says that no more comes, then reads what the client still sends.
fn end(transport: &Transport) -> io::Result<()> {
    transport.shutdown(Shutdown::Write);
    drain(transport, DRAINING)
}

/// Reads and forgets what a client still sends, for some time at most.
fn drain(transport: &Transport, most: Duration) -> io::Result<()> {
    let deadline = Instant::now() + most;
    transport.set_read_timeout(most)?;
    let mut bytes = [0; 4096];
    while Instant::now() < deadline && transport.read(&mut bytes)? > 0 {}
    Ok(())
}

/// Tells a client that is not served why, if it speaks text or nothing. What it speaks is waited for, `most` at the longest.
fn turn_away(transport: &Transport, why: &str, most: Duration) {
    let spoken = sniff::sniff(transport, Some(most));
    let line = match spoken {
        Err(_) | Ok(Some(Spoken::Text)) => Some(format!("ERROR INVALID_REQUEST {why}; try again later\n")),
        Ok(Some(Spoken::Http)) => Some(sniff::http_refusal(why)),
        _ => None,
    };
    if let Some(line) = line {
        // It is closed either way.
        drop(transport.write_all(line.as_bytes()));
        transport.shutdown(Shutdown::Write);
        drop(drain(transport, most));
    }
}

//! What a connection runs over. It reads and writes bytes, and tells whether bytes have come and whether the peer is gone.
//!
//! ```text
//! the peer ──► stream ──► ahead ──► the reader
//!                         └ at most AHEAD_BYTES_MAX, and only what was looked at without being read
//! ```
//!
//! That the peer is gone shows only behind everything it sent. So looking takes what has come and keeps it for the next read.
//! Protocols never touch the stream itself: under TLS its bytes are not the ones they read. A connection begins without TLS and
//! has it from [`secure`](Transport::secure) on.

#[cfg(feature = "tls")]
use super::tls::{InTurn, Session};
use crate::metrics::Connection;
#[cfg(feature = "tls")]
use crate::security::{Turns, guessing::network};
use socket2::{SockRef, TcpKeepalive};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::*},
    },
    time::Duration,
};

/// How much is kept unread. If the other end sent more than this before it left, that it left is not seen.
pub const AHEAD_BYTES_MAX: usize = 16 << 10;

/// A connection's way to its other end.
#[derive(Debug)]
pub struct Transport {
    stream: TcpStream,
    #[cfg(feature = "tls")]
    tls: std::sync::OnceLock<Session>,
    /// This side reads no more: that the stream ends then is its own doing.
    is_closed: AtomicBool,
    write_timeout: Duration,
    /// Whether writes wait less long, until it is known who is at the other end.
    is_brief: AtomicBool,
    counted: Arc<Connection>,
    ahead: Mutex<Ahead>,
}

#[derive(Debug, Default)]
struct Ahead {
    bytes: Vec<u8>,
    used: usize,
    ended: bool,
}

impl Ahead {
    fn waiting(&self) -> &[u8] {
        &self.bytes[self.used..]
    }
}

impl Transport {
    /// Over a TCP connection, which counts what is read and written. A write that is stuck for `write_timeout` fails.
    pub fn tcp(stream: TcpStream, counted: Arc<Connection>, write_timeout: Duration) -> io::Result<Transport> {
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10));
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        stream.set_write_timeout(Some(write_timeout))?;
        Ok(Transport {
            stream,
            #[cfg(feature = "tls")]
            tls: std::sync::OnceLock::new(),
            is_closed: AtomicBool::new(false),
            write_timeout,
            is_brief: AtomicBool::new(false),
            counted,
            ahead: Mutex::default(),
        })
    }

    /// Goes on under TLS, of which all that was looked at is the begin. The handshake is done within `most`, in turn.
    #[cfg(feature = "tls")]
    pub fn secure(
        &self,
        connection: rustls::ServerConnection,
        most: Duration,
        turns: Option<&Turns>,
    ) -> io::Result<&Session> {
        let begin = std::mem::take(&mut *self.ahead());
        let session = Session::new(connection, begin.waiting().to_vec());
        let turns = turns.map(|turns| InTurn { turns, address: network(self.peer().ip()) });
        session.handshake_in_turn(&self.stream, most, turns.as_ref())?;
        Ok(self.tls.get_or_init(|| session))
    }

    /// Whether nobody between the two ends can read along.
    pub fn is_secure(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.get().is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// The other end's address.
    pub fn peer(&self) -> SocketAddr {
        self.counted.address
    }

    /// The connection's id and what it counts.
    pub fn counted(&self) -> &Connection {
        &self.counted
    }

    /// The address at which the other end reached this one.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Whether the other end is on this machine.
    pub fn is_local(&self) -> io::Result<bool> {
        let ip = self.peer().ip().to_canonical();
        Ok(ip.is_loopback() || ip == self.local()?.ip().to_canonical())
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().expect("no panic while bytes are kept")
    }

    /// Waits for bytes, for `most` at the longest; 0: the other end will send no more. Too long is an error of kind
    /// `WouldBlock` or `TimedOut`.
    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut ahead = self.ahead();
        let read = ahead.waiting().read(into)?;
        if read > 0 {
            ahead.used += read;
            if ahead.waiting().is_empty() {
                (ahead.bytes, ahead.used) = (Vec::new(), 0);
            }
            return Ok(read);
        }
        drop(ahead);
        self.receive(into).inspect(|&read| self.counted.received(read))
    }

    /// Reads what was not looked at.
    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls.get() {
            return match tls.read(&self.stream, into) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof && self.is_closed.load(Acquire) => Ok(0),
                read => read,
            };
        }
        (&self.stream).read(into)
    }

    /// How long a read waits at the longest.
    pub fn set_read_timeout(&self, most: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(most.max(Duration::from_millis(1))))
    }

    /// Has writes wait no longer than this for somebody who reads nothing, until it is known who that is.
    pub fn be_brief(&self, most: Duration) -> io::Result<()> {
        self.is_brief.store(true, Relaxed);
        self.stream.set_write_timeout(Some(most.clamp(Duration::from_millis(1), self.write_timeout)))
    }

    /// Sends all of `bytes`.
    pub fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        if self.is_brief.load(Relaxed) && self.counted.is_known() {
            self.is_brief.store(false, Relaxed);
            self.stream.set_write_timeout(Some(self.write_timeout))?;
        }
        // Counted first: whoever has read them finds them counted.
        self.counted.sent(bytes.len());
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls.get() {
            return tls.write_all(&self.stream, bytes);
        }
        (&self.stream).write_all(bytes)
    }

    /// Waits without a buffer until a read would not wait, for `most` (for ever: `None`) at the longest. Reads that follow wait
    /// for `reads` at the longest.
    pub fn wait_readable(&self, most: Option<Duration>, reads: Duration) -> io::Result<()> {
        if self.ahead().waiting().is_empty() {
            self.wait_for_more(most)?;
        }
        self.set_read_timeout(reads)
    }

    /// Waits until the stream has more than was taken from it, or its end.
    fn wait_for_more(&self, most: Option<Duration>) -> io::Result<()> {
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls.get() {
            return tls.wait(&self.stream, most);
        }
        // No time at all would mean for ever.
        self.stream.set_read_timeout(most.map(|most| most.max(Duration::from_millis(1))))?;
        while let Err(error) = self.stream.peek(&mut [0]) {
            if error.kind() != ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether a read would find bytes without waiting.
    pub fn is_readable(&self) -> io::Result<bool> {
        Ok(!self.ahead().waiting().is_empty() || self.peek()?.is_some_and(|bytes| bytes > 0))
    }

    /// How many bytes the stream has, up to one; 0: the other end will send no more; `None`: none yet.
    fn peek(&self) -> io::Result<Option<usize>> {
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls.get() {
            return tls.peek(&self.stream);
        }
        self.stream.set_nonblocking(true)?;
        let seen = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false)?;
        now(seen)
    }

    /// Whether the other end will send no more, as far as can be seen now: behind what has come, up to [`AHEAD_BYTES_MAX`].
    pub fn has_ended(&self) -> io::Result<bool> {
        if self.peek()?.is_none() {
            return Ok(false);
        }
        let mut ahead = self.ahead();
        while !ahead.ended && self.look(&mut ahead)? {}
        Ok(ahead.ended)
    }

    /// Takes what has come; whether that was anything.
    fn look(&self, ahead: &mut Ahead) -> io::Result<bool> {
        ahead.bytes.drain(..std::mem::take(&mut ahead.used));
        let held = ahead.bytes.len();
        let room = AHEAD_BYTES_MAX.saturating_sub(ahead.waiting().len());
        if room == 0 {
            // A read into no room says 0 too, which is no end.
            return Ok(false);
        }
        ahead.bytes.resize(held + room, 0);
        self.stream.set_nonblocking(true)?;
        let read = match now(self.receive(&mut ahead.bytes[held..])) {
            // TLS that was cut off has ended. That it did not end well is for those to hear who read so far.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Some(0)),
            read => read,
        };
        self.stream.set_nonblocking(false)?;
        let taken = read.as_ref().map_or(0, |read| read.unwrap_or(0));
        self.counted.received(taken);
        ahead.bytes.truncate(held + taken);
        ahead.bytes.shrink_to_fit();
        ahead.ended |= read? == Some(0);
        Ok(taken > 0)
    }

    /// Waits for more than was looked at before, for `most` (for ever: `None`) at the longest, and shows all that has come and
    /// was not read; then whether no more will be shown: the other end sends none, or there are [`AHEAD_BYTES_MAX`].
    pub fn look_ahead<T>(&self, most: Option<Duration>, show: impl FnOnce(&[u8], bool) -> T) -> io::Result<T> {
        self.wait_for_more(most)?;
        let mut ahead = self.ahead();
        self.look(&mut ahead)?;
        let all = ahead.ended || ahead.waiting().len() >= AHEAD_BYTES_MAX;
        Ok(show(ahead.waiting(), all))
    }

    /// An error of the connection that was not reported yet.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.stream.take_error()
    }

    /// Closes it for reading, for writing, or both. One that is closed already is no fault. Under TLS the other end is told only
    /// of an end of writing; both are closed without a wait.
    pub fn shutdown(&self, how: Shutdown) {
        if how != Shutdown::Write {
            self.is_closed.store(true, Release);
        }
        #[cfg(feature = "tls")]
        if let (Shutdown::Write, Some(tls)) = (how, self.tls.get()) {
            // Who does not take it is gone.
            drop(tls.close(&self.stream));
        }
        drop(self.stream.shutdown(how));
    }
}

/// What a call gave that may not wait; `None`: it would have had to.
fn now(read: io::Result<usize>) -> io::Result<Option<usize>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, thread};

    const LONG: Duration = Duration::from_secs(60);

    /// The other end of a transport.
    enum Client {
        Tcp(TcpStream),
        #[cfg(feature = "tls")]
        Tls(TcpStream, Box<Session>),
    }

    impl Client {
        fn write_all(&self, bytes: &[u8]) {
            match self {
                Client::Tcp(stream) => (&*stream).write_all(bytes).unwrap(),
                #[cfg(feature = "tls")]
                Client::Tls(stream, session) => session.write_all(stream, bytes).unwrap(),
            }
        }

        /// Says that it will send no more.
        fn end(&self) {
            let stream = match self {
                Client::Tcp(stream) => stream,
                #[cfg(feature = "tls")]
                Client::Tls(stream, session) => {
                    session.close(stream).unwrap();
                    stream
                }
            };
            stream.shutdown(Shutdown::Write).unwrap();
        }
    }

    fn tcp() -> (Transport, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        let counted = crate::metrics::Connections::default().connected(peer, 0);
        let transport = Transport::tcp(stream, counted, LONG).unwrap();
        transport.set_read_timeout(LONG).unwrap();
        (transport, client)
    }

    #[cfg(feature = "tls")]
    fn tls() -> (Transport, TcpStream, Session) {
        let made = crate::security::tls::testing::Issuer::new("a").issue("localhost");
        let (transport, stream) = tcp();
        let session = Session::new(made.client(), Vec::new());
        thread::scope(|scope| {
            let shaken = scope.spawn(|| session.handshake(&stream, LONG));
            transport.look_ahead(None, |bytes, _| assert_eq!(bytes[0], 0x16)).unwrap();
            transport.secure(made.server(), LONG, None).unwrap();
            shaken.join().unwrap().unwrap();
        });
        (transport, stream, session)
    }

    /// A pair over each kind of stream.
    fn pairs() -> Vec<(Transport, Client)> {
        let (transport, client) = tcp();
        #[cfg_attr(not(feature = "tls"), allow(unused_mut))]
        let mut pairs = vec![(transport, Client::Tcp(client))];
        #[cfg(feature = "tls")]
        {
            let (transport, stream, session) = tls();
            pairs.push((transport, Client::Tls(stream, session.into())));
        }
        pairs
    }

    fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
        let begun = std::time::Instant::now();
        while !done() {
            assert!(begun.elapsed() < LONG, "{what}");
            thread::yield_now();
        }
    }

    /// A client that was killed while its Fetch waited was noticed only if it had sent nothing behind it.
    #[test]
    fn an_end_is_seen_behind_what_was_not_read_which_is_read_all_the_same() {
        for (transport, client) in pairs() {
            assert!(!transport.has_ended().unwrap());
            client.write_all(b"one");
            wait_until("nothing comes", || transport.is_readable().unwrap());
            assert!(!transport.has_ended().unwrap());
            client.write_all(b"two");
            client.end();
            wait_until("the end is not seen", || transport.has_ended().unwrap());
            let mut read = [0; 5];
            assert_eq!(transport.read(&mut read).unwrap(), 5);
            assert_eq!(&read, b"onetw");
            assert!(transport.is_readable().unwrap());
            assert_eq!((transport.read(&mut read).unwrap(), read[0]), (1, b'o'));
            assert_eq!(transport.read(&mut read).unwrap(), 0);
            assert!(!transport.is_readable().unwrap());
        }
    }

    #[test]
    fn what_was_read_is_not_kept_however_often_looks_and_reads_take_turns() {
        for (transport, client) in pairs() {
            let mut read = [0; 9];
            client.write_all(b"x");
            for _ in 0..100 {
                client.write_all(b"nine more");
                wait_until("nothing comes", || transport.look_ahead(None, |bytes, _| bytes.len() == 10).unwrap());
                assert_eq!(transport.read(&mut read).unwrap(), 9);
                assert!(transport.ahead().bytes.len() <= 10);
            }
        }
    }

    #[test]
    fn no_more_is_kept_than_the_bound_and_nothing_is_lost() {
        for (transport, client) in pairs() {
            let sent: Vec<u8> = (0..5 * AHEAD_BYTES_MAX).map(|at| (at / 7) as u8).collect();
            let sender = thread::spawn({
                let sent = sent.clone();
                move || {
                    client.write_all(&sent);
                    client.end();
                    client
                }
            });
            let full = |bytes: &[u8], all| (bytes.len(), all);
            wait_until("the bound is not met", || transport.look_ahead(None, full).unwrap().1);
            assert_eq!(transport.look_ahead(None, full).unwrap(), (AHEAD_BYTES_MAX, true));
            assert!(!transport.has_ended().unwrap());
            let (mut read, mut buffer) = (Vec::new(), [0; 1000]);
            while read.len() < sent.len() {
                let count = transport.read(&mut buffer).unwrap();
                read.extend_from_slice(&buffer[..count]);
            }
            assert!(read == sent);
            drop(sender.join().unwrap());
            assert_eq!(transport.read(&mut buffer).unwrap(), 0);
        }
    }

    #[test]
    fn a_wait_ends_with_bytes_and_with_the_end_and_else_when_its_time_is_over() {
        for (transport, client) in pairs() {
            let late = transport.wait_readable(Some(Duration::from_millis(1)), LONG).unwrap_err();
            assert!(matches!(late.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{late}");
            client.write_all(b"ab");
            transport.wait_readable(None, LONG).unwrap();
            let mut read = [0; 1];
            transport.read(&mut read).unwrap();
            // The stream itself has no more to give.
            transport.wait_readable(Some(Duration::from_millis(1)), LONG).unwrap();
            assert!(transport.is_readable().unwrap());
            transport.read(&mut read).unwrap();
            client.end();
            transport.wait_readable(None, LONG).unwrap();
            assert_eq!(transport.read(&mut read).unwrap(), 0);
        }
    }

    /// Somebody in between can end the stream, but cannot say so in the client's name.
    #[cfg(feature = "tls")]
    #[test]
    fn tls_that_was_cut_off_has_ended_and_says_so_behind_what_came_before() {
        let (transport, stream, session) = tls();
        session.write_all(&stream, b"PRODUCE 1").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        wait_until("the end is not seen", || transport.has_ended().unwrap());
        let mut read = [0; 64];
        assert_eq!(transport.read(&mut read).unwrap(), 9);
        for _ in 0..2 {
            assert!(!transport.is_readable().unwrap());
            assert_eq!(transport.read(&mut read).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        }
        // What this side ended is no fault of anybody.
        transport.shutdown(Shutdown::Read);
        assert_eq!(transport.read(&mut read).unwrap(), 0);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_stop_from_another_thread_ends_a_read_and_one_that_writes_meanwhile_is_whole() {
        let (transport, stream, session) = tls();
        let sent: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 7) as u8).collect();
        thread::scope(|scope| {
            let reading = scope.spawn(|| transport.read(&mut [0; 10]));
            let writing = scope.spawn(|| transport.write_all(&sent));
            let (mut read, mut buffer) = (Vec::new(), vec![0; 50_000]);
            while read.len() < sent.len() {
                let count = session.read(&stream, &mut buffer).unwrap();
                read.extend_from_slice(&buffer[..count]);
            }
            assert!(read == sent);
            writing.join().unwrap().unwrap();
            transport.shutdown(Shutdown::Read);
            assert_eq!(reading.join().unwrap().unwrap(), 0);
        });
        transport.shutdown(Shutdown::Write);
        assert_eq!(session.read(&stream, &mut [0; 10]).unwrap(), 0, "it is told");
    }

    /// A record that never ends gave each of its bytes the time anew.
    #[cfg(feature = "tls")]
    #[test]
    fn bytes_that_make_no_record_end_no_wait_and_lengthen_none() {
        let (transport, mut stream, _session) = tls();
        let dripping = thread::spawn(move || {
            stream.write_all(&[0x17, 3, 3, 0x40, 0]).unwrap();
            while stream.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(5));
            }
        });
        for _ in 0..2 {
            let late = transport.wait_readable(Some(Duration::from_millis(30)), Duration::from_millis(30)).unwrap_err();
            assert!(matches!(late.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{late}");
            transport.set_read_timeout(Duration::from_millis(30)).unwrap();
            let late = transport.read(&mut [0]).unwrap_err();
            assert!(matches!(late.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{late}");
        }
        drop(transport);
        dripping.join().unwrap();
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_handshake_that_stops_midway_is_over_in_time_and_the_timeouts_are_as_before() {
        let (transport, mut stream) = tcp();
        stream.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
        let server = crate::security::tls::testing::Issuer::new("a").issue("localhost").server();
        transport.look_ahead(None, |_, _| ()).unwrap();
        transport.set_read_timeout(LONG).unwrap();
        let error = transport.secure(server, Duration::from_millis(20), None).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        assert_eq!(transport.stream.read_timeout().unwrap(), Some(LONG));
        assert!(!transport.is_secure());
    }
}

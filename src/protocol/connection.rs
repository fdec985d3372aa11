//! A connection as the protocols see it: bytes that arrived, and bytes to send.
//!
//! Buffers grow with what arrives, never with what a client announces, and are freed when the connection has been silent
//! for a second. An idle connection costs a small stack and a socket.

use super::transport::Transport;
#[cfg(feature = "http")]
use crate::broker::wire::Message;
#[cfg(feature = "users")]
use crate::config::SecurityConfig;
use crate::{broker::Waiter, metrics::Connection};
use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::*},
    },
    time::{Duration, Instant},
};

/// A buffer's first size. Thousands of connections may say little, and the allocator reuses a small buffer at once.
const BUFFER_BYTES: usize = 4 << 10;
/// A client that fills its buffer gets one four times as large, up to this size, so that more is appended and synced
/// together.
const BUFFER_BYTES_MAX: usize = 1 << 20;
/// A buffer that a long line or frame made larger than this is freed as soon as that has been used.
const BUFFER_BYTES_KEPT: usize = 4 * BUFFER_BYTES_MAX;
/// Silence after which buffers are freed.
pub const SILENCE: Duration = Duration::from_secs(1);
/// How often a waiting connection checks whether it is broken.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The same for one whose place others need as soon as its client is gone: a group member, a Fetch, a reader over HTTP.
const MEMBER_LOOKS_EVERY: Duration = Duration::from_millis(250);

/// Bytes that have arrived and have not been used.
#[derive(Debug)]
pub struct Input<'a> {
    transport: &'a Transport,
    buffer: Vec<u8>,
    used: usize,
    filled: usize,
    ended: bool,
    /// Whether the last read took all that it had room for.
    full: bool,
    /// How long a protocol lets its client be silent; `None`: for ever. Longer is an error of kind `TimedOut`.
    pub silence_max: Option<Duration>,
    /// Until when it is to be known who the client is; `None`: nobody asks. Later is an error of kind `TimedOut`, too.
    pub login_by: Option<Instant>,
}

/// Bytes to be sent, and everything else that a protocol needs from its connection.
#[derive(Debug)]
pub struct Output<'a> {
    transport: &'a Transport,
    /// Bytes not sent yet.
    pub bytes: Vec<u8>,
    /// The other end.
    pub peer: SocketAddr,
    /// The connection's one waiter.
    pub waiter: Arc<Waiter>,
    stopping: &'a AtomicBool,
    /// Until when nothing more is read, nor sent of a stream: its client has used up a quota.
    slowed: Option<Instant>,
    #[cfg(feature = "http")]
    watched: Option<Watched>,
}

/// An answer that somebody watches.
#[cfg(feature = "http")]
#[derive(Debug)]
struct Watched {
    /// What was sent of it.
    sent: Message,
    /// How many of the bytes to be sent were there before it.
    others: usize,
}

/// Both ends of what `transport` carries, whose broker says with `stopping` that it stops.
pub fn open<'a>(transport: &'a Transport, waiter: Arc<Waiter>, stopping: &'a AtomicBool) -> (Input<'a>, Output<'a>) {
    let input = Input {
        transport,
        buffer: Vec::new(),
        used: 0,
        filled: 0,
        ended: false,
        full: false,
        silence_max: None,
        login_by: None,
    };
    let output = Output {
        transport,
        bytes: Vec::new(),
        peer: transport.peer(),
        waiter,
        stopping,
        slowed: None,
        #[cfg(feature = "http")]
        watched: None,
    };
    (input, output)
}

impl Input<'_> {
    /// The bytes that arrived and were not used.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.used..self.filled]
    }

    /// Says that the first `count` of them were used.
    pub fn consume(&mut self, count: usize) {
        self.used += count;
    }

    /// Whether the client will send no more.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Whether [`fill`](Self::fill) will find more bytes without waiting. It is asked of the system only where it is likely.
    pub fn more_waits(&self) -> io::Result<bool> {
        Ok(self.full && self.transport.is_readable()?)
    }

    /// Waits for more bytes, at most `more`, and answers how many came; 0: the client will send no more. The first of the
    /// bytes that were used make room, then the buffer grows. When the client falls silent, the buffers are freed and
    /// `on_silence` frees what else its protocol holds.
    pub fn fill(&mut self, more: usize, output: &mut Output<'_>, mut on_silence: impl FnMut()) -> io::Result<usize> {
        output.rest_while_connected()?;
        let held = self.filled - self.used;
        if held == 0 && self.buffer.len() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
            (self.used, self.filled) = (0, 0);
        }
        if self.filled == self.buffer.len() {
            self.buffer.copy_within(self.used..self.filled, 0);
            (self.used, self.filled) = (0, held);
            let wanted = match self.buffer.len() {
                0 => BUFFER_BYTES,
                bytes if bytes < BUFFER_BYTES_MAX => bytes * 4,
                bytes if held > bytes / 2 => bytes * 2,
                bytes => bytes,
            };
            self.buffer.resize(wanted, 0);
        } else if held == 0 {
            (self.used, self.filled) = (0, 0);
        }
        loop {
            self.check_login(output)?;
            let room = self.buffer.len().min(self.filled.saturating_add(more));
            match self.transport.read(&mut self.buffer[self.filled..room]) {
                Ok(read) => {
                    self.filled += read;
                    self.ended = read == 0;
                    self.full = self.filled == room;
                    return Ok(read);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    on_silence();
                    self.rest(output)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Has the next read wait no longer than the client may be a stranger.
    fn check_login(&mut self, output: &Output<'_>) -> io::Result<()> {
        let Some(login_by) = self.login_by else { return Ok(()) };
        if output.counted().is_known() {
            self.login_by = None;
            return self.transport.set_read_timeout(SILENCE);
        }
        match login_by.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(ErrorKind::TimedOut.into()),
            left => self.transport.set_read_timeout(left.min(SILENCE)),
        }
    }

    /// Gives the buffers back and waits, however long, until there is something to read.
    fn rest(&mut self, output: &mut Output<'_>) -> io::Result<()> {
        self.buffer = Vec::from(self.bytes());
        (self.used, self.filled) = (0, self.buffer.len());
        output.bytes = Vec::new();
        let left = self.login_by.map(|by| by.saturating_duration_since(Instant::now()));
        let most = self.silence_max.map(|most| most.saturating_sub(SILENCE)).into_iter().chain(left).min();
        self.transport.wait_readable(most, SILENCE)?;
        let room = BUFFER_BYTES.max(self.filled * 2);
        self.buffer.resize(room, 0);
        Ok(())
    }
}

impl<'a> Output<'a> {
    /// Sends what is to be sent. A client that does not take it for the idle timeout is an error.
    pub fn flush(&mut self) -> io::Result<()> {
        let sent = self.transport.write_all(&self.bytes);
        #[cfg(feature = "http")]
        if let Some(Watched { sent, others }) = &mut self.watched {
            sent.add(&self.bytes[std::mem::take(others)..]);
        }
        // What was sent in part is not sent again.
        self.bytes.clear();
        if self.bytes.capacity() > BUFFER_BYTES_KEPT {
            self.bytes = Vec::new();
        }
        sent
    }

    /// The connection's id and what it counts.
    pub fn counted(&self) -> &'a Connection {
        self.transport.counted()
    }

    /// The address at which the client reached the broker.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.transport.local()
    }

    /// Whether the client is on this machine.
    pub fn is_local(&self) -> io::Result<bool> {
        self.transport.is_local()
    }

    /// Whether the line is encrypted.
    pub fn is_secure(&self) -> bool {
        self.transport.is_secure()
    }

    /// Whether a secret may be said on this line: nobody between the two ends can read along, since it is encrypted or within this
    /// machine, or the operator does not mind.
    #[cfg(feature = "users")]
    pub fn takes_secrets(&self, security: &SecurityConfig) -> bool {
        let is_private = self.transport.is_secure() || self.peer.ip().to_canonical().is_loopback();
        is_private || security.plaintext_passwords
    }

    /// Has the client wait: from now on nothing is read from it for so long, and it is sent nothing more of a stream.
    pub fn slow_down(&mut self, wait: Duration) {
        if !wait.is_zero() {
            let until = Instant::now() + wait;
            self.slowed = Some(self.slowed.map_or(until, |slowed| slowed.max(until)));
        }
    }

    /// Whether the client waits.
    pub fn is_slowed(&self) -> bool {
        self.slowed.is_some()
    }

    /// Waits as long as the client is to wait. What is to be sent is sent first.
    pub fn rest(&mut self) -> io::Result<()> {
        let Some(until) = self.slowed.take() else { return Ok(()) };
        self.flush()?;
        while self.wait(Some(until))? {}
        Ok(())
    }

    /// The same, but no longer than the client sends. What it sent before, up to what is looked at to see that, is all that it gains.
    pub fn rest_while_connected(&mut self) -> io::Result<()> {
        let Some(until) = self.slowed.take() else { return Ok(()) };
        self.flush()?;
        while self.wait_while_connected(Some(until))? {}
        Ok(())
    }

    /// Sends `bytes` behind what is to be sent, without copying them.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.rest()?;
        self.flush()?;
        #[cfg(feature = "http")]
        if let Some(Watched { sent, .. }) = &mut self.watched {
            sent.add(bytes);
        }
        self.transport.write_all(bytes)
    }

    /// Keeps what is sent from here on, as far as it is shown.
    #[cfg(feature = "http")]
    pub fn watch(&mut self) {
        self.watched = Some(Watched { sent: Message::default(), others: self.bytes.len() });
    }

    /// What was sent since then, or is to be.
    #[cfg(feature = "http")]
    pub fn watched(&mut self) -> Message {
        let Some(Watched { mut sent, others }) = self.watched.take() else { return Message::default() };
        sent.add(self.bytes.get(others..).unwrap_or_default());
        sent
    }

    /// Sends what is to be sent if there will be a wait.
    pub fn flush_before_wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) { Ok(()) } else { self.flush() }
    }

    /// Whether the broker stops: no new wait begins.
    pub fn stopping(&self) -> bool {
        self.stopping.load(Acquire)
    }

    /// Waits until woken or `deadline`; answers whether to go on: false when the time is over or the broker stops. A
    /// broken connection is an error. (A client that will send no more is not: it may still read.)
    pub fn wait(&self, deadline: Option<Instant>) -> io::Result<bool> {
        loop {
            if self.stopping() {
                return Ok(false);
            }
            let look = Instant::now() + LOOK_EVERY;
            if self.waiter.wait(Some(deadline.map_or(look, |deadline| deadline.min(look)))) {
                return Ok(!self.stopping());
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
            if let Some(error) = self.transport.take_error()? {
                return Err(error);
            }
        }
    }

    /// Whether the client may still send or read, as far as can be seen behind what it has sent, and the broker does not stop.
    #[cfg(feature = "http")]
    pub fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = self.transport.take_error()? {
            return Err(error);
        }
        Ok(!self.stopping() && !self.transport.has_ended()?)
    }

    /// As [`wait`](Self::wait), but false also when the client will send no more: its place is to be given up then. That shows
    /// only behind what it has sent; that the connection broke shows at once.
    pub fn wait_while_connected(&self, deadline: Option<Instant>) -> io::Result<bool> {
        while !self.stopping() && !self.transport.has_ended()? {
            let look = Instant::now() + MEMBER_LOOKS_EVERY;
            if self.waiter.wait(Some(deadline.map_or(look, |deadline| deadline.min(look)))) {
                return Ok(!self.stopping());
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
            if let Some(error) = self.transport.take_error()? {
                return Err(error);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        sync::mpsc,
        thread,
    };

    const LONG: Duration = Duration::from_secs(60);

    fn pair() -> (Transport, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        let counted = crate::metrics::Connections::default().connected(peer, 0);
        (Transport::tcp(stream, counted, LONG).unwrap(), client)
    }

    /// What a protocol held was freed only when its client spoke again: 40 silent ones took 850 MB.
    #[test]
    fn a_protocol_frees_what_it_holds_when_its_client_falls_silent() {
        let (transport, mut client) = pair();
        let stopping = AtomicBool::new(false);
        let (mut input, mut output) = open(&transport, Waiter::new(), &stopping);
        transport.set_read_timeout(Duration::from_millis(1)).unwrap();
        input.silence_max = Some(LONG);
        let (freed, speak) = mpsc::channel();
        // The client speaks again only after that, and keeps its end open.
        let client = thread::spawn(move || speak.recv().map(|()| client.write_all(b"a")).map(|_| client));
        assert_eq!(input.fill(10, &mut output, || freed.send(()).unwrap()).unwrap(), 1);
        assert_eq!(input.bytes(), b"a");
        drop(client.join().unwrap());
    }

    /// Its place was kept until the time of its Fetch was over, which its client chooses.
    #[test]
    fn a_client_that_breaks_off_is_noticed_though_much_that_it_sent_is_unread() {
        let (transport, mut client) = pair();
        let stopping = AtomicBool::new(false);
        let (_, output) = open(&transport, Waiter::new(), &stopping);
        client.write_all(&[b'x'; 100_000]).unwrap();
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        assert!(output.wait_while_connected(Some(Instant::now() + LONG)).is_err());
    }
}

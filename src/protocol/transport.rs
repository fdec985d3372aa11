//! What a connection runs over. It reads and writes bytes, and tells whether bytes have come and whether the peer is gone.
//!
//! ```text
//! the peer ──► stream ──► ahead ──► the reader
//!                         └ at most AHEAD_BYTES_MAX, and only what was looked at without being read
//! ```
//!
//! That the peer is gone shows only behind everything it sent. So looking takes what has come and keeps it for the next read.
//! Protocols never touch the stream itself: under TLS its bytes are not the ones they read.

use crate::metrics::Connection;
use socket2::{SockRef, TcpKeepalive};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// How much is kept unread. If the other end sent more than this before it left, that it left is not seen.
pub const AHEAD_BYTES_MAX: usize = 16 << 10;

/// A connection's way to its other end.
#[derive(Debug)]
pub struct Transport {
    stream: Stream,
    counted: Arc<Connection>,
    ahead: Mutex<Ahead>,
}

/// The kinds of streams.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
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
        Ok(Transport { stream: Stream::Tcp(stream), counted, ahead: Mutex::default() })
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
        let Stream::Tcp(stream) = &self.stream;
        stream.local_addr()
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
        let Stream::Tcp(stream) = &self.stream;
        (&*stream).read(into).inspect(|&read| self.counted.received(read))
    }

    /// How long a read waits at the longest.
    pub fn set_read_timeout(&self, most: Duration) -> io::Result<()> {
        let Stream::Tcp(stream) = &self.stream;
        stream.set_read_timeout(Some(most.max(Duration::from_millis(1))))
    }

    /// Sends all of `bytes`.
    pub fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        let Stream::Tcp(stream) = &self.stream;
        // Counted first: whoever has read them finds them counted.
        self.counted.sent(bytes.len());
        (&*stream).write_all(bytes)
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
        let Stream::Tcp(stream) = &self.stream;
        // No time at all would mean for ever.
        stream.set_read_timeout(most.map(|most| most.max(Duration::from_millis(1))))?;
        while let Err(error) = stream.peek(&mut [0]) {
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
        let Stream::Tcp(stream) = &self.stream;
        stream.set_nonblocking(true)?;
        let seen = stream.peek(&mut [0]);
        stream.set_nonblocking(false)?;
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
        let Stream::Tcp(stream) = &self.stream;
        stream.set_nonblocking(true)?;
        let read = now((&*stream).read(&mut ahead.bytes[held..]));
        stream.set_nonblocking(false)?;
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
        let Stream::Tcp(stream) = &self.stream;
        stream.take_error()
    }

    /// Closes it for reading, for writing, or both. One that is closed already is no fault.
    pub fn shutdown(&self, how: Shutdown) {
        let Stream::Tcp(stream) = &self.stream;
        drop(stream.shutdown(how));
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

    fn pair() -> (Transport, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        let counted = crate::metrics::Connections::default().connected(peer, 0);
        let transport = Transport::tcp(stream, counted, LONG).unwrap();
        transport.set_read_timeout(LONG).unwrap();
        (transport, client)
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
        let (transport, mut client) = pair();
        assert!(!transport.has_ended().unwrap());
        client.write_all(b"one").unwrap();
        wait_until("nothing comes", || transport.is_readable().unwrap());
        assert!(!transport.has_ended().unwrap());
        client.write_all(b"two").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        wait_until("the end is not seen", || transport.has_ended().unwrap());
        let mut read = [0; 5];
        assert_eq!(transport.read(&mut read).unwrap(), 5);
        assert_eq!(&read, b"onetw");
        assert!(transport.is_readable().unwrap());
        assert_eq!((transport.read(&mut read).unwrap(), read[0]), (1, b'o'));
        assert_eq!(transport.read(&mut read).unwrap(), 0);
    }

    #[test]
    fn what_was_read_is_not_kept_however_often_looks_and_reads_take_turns() {
        let (transport, mut client) = pair();
        let mut read = [0; 9];
        client.write_all(b"x").unwrap();
        for _ in 0..100 {
            client.write_all(b"nine more").unwrap();
            wait_until("nothing comes", || transport.look_ahead(None, |bytes, _| bytes.len() == 10).unwrap());
            assert_eq!(transport.read(&mut read).unwrap(), 9);
            assert!(transport.ahead().bytes.len() <= 10);
        }
    }

    #[test]
    fn no_more_is_kept_than_the_bound_and_nothing_is_lost() {
        let (transport, mut client) = pair();
        let sent: Vec<u8> = (0..5 * AHEAD_BYTES_MAX).map(|at| (at / 7) as u8).collect();
        let sender = thread::spawn({
            let sent = sent.clone();
            move || client.write_all(&sent).map(|()| client)
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

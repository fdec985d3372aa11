//! A TLS session over a TCP stream, for either end.
//!
//! ```text
//! read:   stream ──► incoming ──► connection ──► the reader      one reads, with the lock of `incoming`
//! write:  the writer ──► connection ──► outgoing ──► stream      one writes, with the lock of `outgoing`
//! ```
//!
//! - The lock of the connection is held for cryptography alone and never while anybody waits for the stream: who reads and who
//!   writes may be two threads.
//! - What a read takes from the stream at once is decrypted piece by piece, as it is read. So at most one record of plaintext
//!   waits here.
//! - The end of input is the peer's close_notify. A stream that ends without one was cut off by somebody: an error of kind
//!   `UnexpectedEof`, behind all that came before it.

use crate::security::Turns;
use rustls::{Connection, pki_types::CertificateDer};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, TcpStream},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// What is taken from the stream at once: two records.
const INCOMING_BYTES: usize = 32 << 10;
/// What is encrypted at once: four records.
const OUTGOING_BYTES: usize = 64 << 10;

/// One end of a TLS session.
#[derive(Debug)]
pub struct Session {
    connection: Mutex<Connection>,
    incoming: Mutex<Incoming>,
    outgoing: Mutex<Outgoing>,
}

/// Encrypted bytes that have come.
#[derive(Debug, Default)]
struct Incoming {
    bytes: Vec<u8>,
    used: usize,
    filled: usize,
}

/// Turns, and the address of whoever waits for them.
#[derive(Clone, Copy, Debug)]
pub struct InTurn<'a> {
    /// The turns of all.
    pub turns: &'a Turns,
    /// Where the other end is.
    pub address: IpAddr,
}

/// Encrypted bytes that have to go.
#[derive(Debug, Default)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    /// How many bytes of the writer's they are, who was not told yet that they are written.
    stands_for: usize,
}

impl Session {
    /// A session whose first bytes have come already.
    pub fn new(connection: impl Into<Connection>, come: Vec<u8>) -> Session {
        let mut connection = connection.into();
        // What is encrypted at once is bounded here.
        connection.set_buffer_limit(None);
        let filled = come.len();
        Session {
            connection: Mutex::new(connection),
            incoming: Mutex::new(Incoming { bytes: come, used: 0, filled }),
            outgoing: Mutex::default(),
        }
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().expect("no panic under the lock of a TLS connection")
    }

    fn incoming(&self) -> MutexGuard<'_, Incoming> {
        self.incoming.lock().expect("no panic under the lock of what comes")
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().expect("no panic under the lock of what goes")
    }

    /// Shakes hands, within `most`; it leaves the timeouts of the stream as they were.
    pub fn handshake(&self, stream: &TcpStream, most: Duration) -> io::Result<()> {
        self.handshake_in_turn(stream, most, None)
    }

    /// The same, but its steps, which cost more than the other end pays for them, wait for turns.
    pub fn handshake_in_turn(&self, stream: &TcpStream, most: Duration, turns: Option<&InTurn<'_>>) -> io::Result<()> {
        let timeouts = (stream.read_timeout()?, stream.write_timeout()?);
        let shaken = self.shake_hands(stream, Instant::now() + most, turns);
        stream.set_read_timeout(timeouts.0)?;
        stream.set_write_timeout(timeouts.1)?;
        shaken
    }

    fn shake_hands(&self, stream: &TcpStream, deadline: Instant, turns: Option<&InTurn<'_>>) -> io::Result<()> {
        let mut incoming = self.incoming();
        loop {
            stream.set_write_timeout(Some(left(deadline)?))?;
            self.send_own(stream)?;
            if !self.connection().is_handshaking() {
                return Ok(());
            }
            stream.set_read_timeout(Some(left(deadline)?))?;
            match self.advance(stream, &mut incoming, turns) {
                Ok(true) => {}
                Ok(false) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "it left amid the handshake")),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What the other end showed of who it is, its own certificate first.
    pub fn peer_certificates(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.connection().peer_certificates().map(<[_]>::to_vec)
    }

    /// Reads as the stream's mode and timeout have it; 0: the other end said that it will send no more.
    pub fn read(&self, stream: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
        let mut incoming = self.incoming();
        let mut deadline = None;
        loop {
            match self.connection().reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            // A part of a record is no sign of life that ends a wait.
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(ErrorKind::WouldBlock.into());
            }
            let begun = deadline.is_none().then(Instant::now);
            self.advance(stream, &mut incoming, None)?;
            if let Some(begun) = begun
                && self.is_waiting()
            {
                deadline = stream.read_timeout()?.map(|most| begun + most);
            }
        }
    }

    /// Whether there is nothing to tell the reader, neither bytes nor an end.
    fn is_waiting(&self) -> bool {
        self.connection().reader().into_first_chunk().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Waits until a read would not wait, for `most` (for ever: `None`) at the longest.
    pub fn wait(&self, stream: &TcpStream, most: Option<Duration>) -> io::Result<()> {
        let deadline = most.map(|most| Instant::now() + most.max(Duration::from_millis(1)));
        let mut incoming = self.incoming();
        while self.is_waiting() {
            if incoming.used == incoming.filled {
                *incoming = Incoming::default();
            }
            stream.set_read_timeout(deadline.map(left).transpose()?)?;
            if incoming.bytes.is_empty() {
                // Without a buffer.
                retrying(|| stream.peek(&mut [0]))?;
            }
            retrying(|| self.advance(stream, &mut incoming, None))?;
        }
        Ok(())
    }

    /// How many bytes can be read now, up to one; 0: there will be no more; `None`: none yet.
    pub fn peek(&self, stream: &TcpStream) -> io::Result<Option<usize>> {
        let mut incoming = self.incoming();
        loop {
            match self.connection().reader().into_first_chunk() {
                Ok(bytes) => return Ok(Some(bytes.len().min(1))),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Some(0)),
                Err(_) => {}
            }
            stream.set_nonblocking(true)?;
            let advanced = self.advance(stream, &mut incoming, None);
            stream.set_nonblocking(false)?;
            match advanced {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    return Ok(None);
                }
                advanced => advanced?,
            };
        }
    }

    /// Decrypts some of what has come, which is read from the stream if there is nothing; whether anything had come.
    fn advance(&self, stream: &TcpStream, incoming: &mut Incoming, turns: Option<&InTurn<'_>>) -> io::Result<bool> {
        let Incoming { bytes, used, filled } = incoming;
        if used == filled {
            (*used, *filled) = (0, 0);
            bytes.resize(INCOMING_BYTES, 0);
            *filled = (&*stream).read(bytes)?;
        }
        let mut connection = self.connection();
        *used += connection.read_tls(&mut &bytes[*used..*filled])?;
        let any = *filled > 0;
        let mut process = || connection.process_new_packets().map(drop);
        // Nothing is sent or read meanwhile: nobody can make others wait by being slow.
        let processed = match turns {
            Some(InTurn { turns, address }) => turns.take(*address, process),
            None => process(),
        };
        let has_words = connection.wants_write();
        drop(connection);
        if has_words && let Ok(mut outgoing) = self.outgoing.try_lock() {
            // Else the next to write takes them along. What went wrong is what the other end should hear, if it still hears.
            let said = self.take_own(&mut outgoing).and_then(|()| outgoing.send(stream));
            if processed.is_ok() {
                said?;
            }
        }
        processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Ok(any)
    }

    /// Takes what the connection has to say.
    fn take_own(&self, outgoing: &mut Outgoing) -> io::Result<()> {
        let mut connection = self.connection();
        while connection.wants_write() {
            connection.write_tls(&mut outgoing.bytes)?;
        }
        Ok(())
    }

    /// Sends what the connection has to say by itself.
    fn send_own(&self, stream: &TcpStream) -> io::Result<()> {
        let mut outgoing = self.outgoing();
        self.take_own(&mut outgoing)?;
        outgoing.send(stream)
    }

    /// Writes some of `bytes`, as the stream's mode has it. Where that would wait (`WouldBlock`), the same bytes are to be
    /// written again, and what follows them: some are on their way.
    pub fn write(&self, stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        self.write_some(stream, &mut self.outgoing(), bytes)
    }

    fn write_some(&self, stream: &TcpStream, outgoing: &mut Outgoing, bytes: &[u8]) -> io::Result<usize> {
        if outgoing.stands_for == 0 && !bytes.is_empty() {
            let bytes = &bytes[..bytes.len().min(OUTGOING_BYTES)];
            self.connection().writer().write_all(bytes)?;
            self.take_own(outgoing)?;
            outgoing.stands_for = bytes.len();
        }
        outgoing.send(stream)?;
        Ok(std::mem::take(&mut outgoing.stands_for))
    }

    /// Writes all of `bytes`. After an error nothing more is to be written.
    pub fn write_all(&self, stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
        let mut outgoing = self.outgoing();
        while !bytes.is_empty() {
            let written = retrying(|| self.write_some(stream, &mut outgoing, bytes))?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Says that no more will be written.
    pub fn close(&self, stream: &TcpStream) -> io::Result<()> {
        self.connection().send_close_notify();
        self.send_own(stream)
    }
}

impl Outgoing {
    /// Sends all; what is left after an error is sent with the next.
    fn send(&mut self, stream: &TcpStream) -> io::Result<()> {
        while self.sent < self.bytes.len() {
            match (&*stream).write(&self.bytes[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        (self.bytes, self.sent) = (Vec::new(), 0);
        Ok(())
    }
}

/// Calls again what a signal interrupted.
fn retrying<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// How long it is until then; the time is over: an error.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

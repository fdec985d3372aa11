//! A producer over the network: records are sent without waiting for each answer, and kept until they are answered.
//!
//! ```text
//!   chunks:  [SEND SEND SEND]  [SEND SEND SEND]  [SEND SEND
//!                  ▲ answered               ▲ written      ▲ filled
//!   tags:           4    5      6    7    8      9   10          one for each record not answered
//! ```
//!
//! - The broker answers in order, so the next answer belongs to the oldest tag.
//! - The two sides never wait for each other: when a write would block, answers are read first, because the broker may be
//!   stuck until somebody reads them. The write waits only if the broker owes no answer, having part of one long line.
//! - At most [`WINDOW_BYTES`] (or one longer record) are unanswered. That bounds the memory, and how much can be stored
//!   twice: after a lost connection everything unanswered is written again, in order.
//! - `retry_for` counts from the loss or the last answer, not from the last connection: a broker that accepts and closes
//!   at once is given up like one that is not there. A silent broker is waited for: keepalive notices when its host dies,
//!   and a slow disk is no reason to send twice.
//! - After an error nothing is in flight: a record without an outcome may have been stored or not.

use crate::client::{
    Ack, Connection, Error, Record, Refused,
    connection::number,
    endpoint::{Outage, connect_within, reconnect},
};
use std::{
    collections::VecDeque,
    io::{self, Write},
    net::Shutdown,
    time::Duration,
    vec,
};

/// Lines are written when so much has gathered.
const CHUNK_BYTES: usize = 64 << 10;

/// How many bytes may be unanswered.
const WINDOW_BYTES: usize = 4 << 20;

/// What became of a record, with its tag.
pub(super) type Outcome = (u64, Result<Ack, Refused>);

#[derive(Debug)]
pub(super) struct NetworkProducer {
    connection: Connection,
    retry_for: Duration,
    chunks: VecDeque<Chunk>,
    tags: VecDeque<u64>,
    outcomes: Vec<Outcome>,
    resent: u64,
    outage: Option<Outage>,
    /// The connection still owes answers to records that were given up.
    abandoned: bool,
}

#[derive(Debug, Default)]
struct Chunk {
    lines: Vec<u8>,
    written: usize,
    records: usize,
    answered: usize,
}

impl NetworkProducer {
    pub(super) fn open(address: &str, retry_for: Duration) -> Result<NetworkProducer, Error> {
        let connection = connect_within(address, retry_for)?;
        nonblocking(&connection, true)?;
        Ok(NetworkProducer {
            connection,
            retry_for,
            chunks: VecDeque::new(),
            tags: VecDeque::new(),
            outcomes: Vec::new(),
            resent: 0,
            outage: None,
            abandoned: false,
        })
    }

    pub(super) fn set_retry_for(&mut self, retry_for: Duration) {
        self.retry_for = retry_for;
    }

    pub(super) fn address(&self) -> &str {
        self.connection.address()
    }

    /// How many records were written a second time, because the connection was lost before their answers came.
    pub(super) fn resent(&self) -> u64 {
        self.resent
    }

    /// Takes a record; writes and reads when enough has gathered.
    pub(super) fn push(&mut self, topic: &str, record: &Record, tag: u64) -> Result<(), Error> {
        if self.chunks.back().is_none_or(|chunk| chunk.lines.len() >= CHUNK_BYTES) {
            let lines = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8);
            self.chunks.push_back(Chunk { lines, ..Chunk::default() });
        }
        let chunk = self.chunks.back_mut().expect("pushed above");
        record.write_send(&mut chunk.lines, topic);
        chunk.records += 1;
        self.tags.push_back(tag);
        if chunk.lines.len() < CHUNK_BYTES { Ok(()) } else { self.write_to(WINDOW_BYTES) }
    }

    /// Writes what is not written and waits until everything is answered.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        self.write_to(0)
    }

    /// The outcomes since the last call, in the order of the records.
    pub(super) fn outcomes(&mut self) -> vec::Drain<'_, Outcome> {
        self.outcomes.drain(..)
    }

    /// Writes everything and waits until at most `window_bytes` are unanswered.
    fn write_to(&mut self, window_bytes: usize) -> Result<(), Error> {
        let done = self.try_write_to(window_bytes);
        if done.is_err() {
            self.chunks.clear();
            self.tags.clear();
            self.abandoned = true;
        }
        done
    }

    fn try_write_to(&mut self, window_bytes: usize) -> Result<(), Error> {
        if self.abandoned && !self.chunks.is_empty() {
            self.reconnect(io::ErrorKind::ConnectionAborted.into())?;
        }
        self.write()?;
        while self.chunks.iter().map(|chunk| chunk.lines.len()).sum::<usize>() > window_bytes {
            self.wait()?;
            self.write()?;
        }
        Ok(())
    }

    /// Writes everything, and takes the answers that are here.
    fn write(&mut self) -> Result<(), Error> {
        while !self.chunks.is_empty() {
            self.write_lines()?;
            match self.connection.receive() {
                Ok(()) => return self.answered(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => self.reconnect(error)?,
            }
        }
        Ok(())
    }

    fn write_lines(&mut self) -> Result<(), Error> {
        while let Some(chunk) = self.chunks.iter_mut().find(|chunk| chunk.written < chunk.lines.len()) {
            match self.connection.stream().write(&chunk.lines[chunk.written..]) {
                Ok(written) => {
                    chunk.written += written;
                    self.forget_answered();
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock if self.chunks.iter().any(Chunk::is_owed) => self.wait()?,
                    io::ErrorKind::WouldBlock => self.write_waiting()?,
                    _ => self.reconnect(error)?,
                },
            }
        }
        Ok(())
    }

    /// A part of a line longer than what sockets hold: the broker has nothing to answer, so it reads.
    fn write_waiting(&mut self) -> Result<(), Error> {
        let Some(chunk) = self.chunks.iter_mut().find(|chunk| chunk.written < chunk.lines.len()) else { return Ok(()) };
        nonblocking(&self.connection, false)?;
        match self.connection.stream().write(&chunk.lines[chunk.written..]) {
            Ok(written) => chunk.written += written,
            Err(error) => return self.reconnect(error),
        }
        nonblocking(&self.connection, true)
    }

    /// Waits for at least one answer, or for a new connection, on which nothing is written yet.
    fn wait(&mut self) -> Result<(), Error> {
        nonblocking(&self.connection, false)?;
        match self.connection.receive() {
            Ok(()) => {
                nonblocking(&self.connection, true)?;
                self.answered()
            }
            Err(error) => self.reconnect(error),
        }
    }

    fn answered(&mut self) -> Result<(), Error> {
        while let Some(line) = self.connection.buffered_line() {
            let outcome = outcome(line)?;
            let Some((tag, chunk)) = self.tags.pop_front().zip(self.chunks.front_mut()) else {
                return Err(Error::Answer("it answered what was not asked".into()));
            };
            chunk.answered += 1;
            self.outage = None;
            self.outcomes.push((tag, outcome));
            self.forget_answered();
        }
        Ok(())
    }

    /// Drops a chunk that is answered, unless it is still being written: a line that is too long is refused before its end
    /// has arrived, and without its end the next line would become a part of it.
    fn forget_answered(&mut self) {
        if self
            .chunks
            .front()
            .is_some_and(|chunk| chunk.answered == chunk.records && chunk.written == chunk.lines.len())
        {
            self.chunks.pop_front();
        }
    }

    /// Connects again; everything that was not answered is to be written again.
    fn reconnect(&mut self, cause: io::Error) -> Result<(), Error> {
        let mut outage = self.outage.take().unwrap_or_else(Outage::begin);
        let _ = self.connection.stream().shutdown(Shutdown::Both);
        let lost = self.connection.lost(cause);
        self.connection = reconnect(self.connection.address(), self.retry_for, &mut outage, Some(lost))?;
        self.outage = Some(outage);
        self.abandoned = false;
        for chunk in &mut self.chunks {
            self.resent += chunk.unwrite();
        }
        nonblocking(&self.connection, true)
    }
}

impl Chunk {
    /// Whether the broker has a whole line of this that it did not answer.
    fn is_owed(&self) -> bool {
        lines_in(&self.lines[..self.written]) > self.answered
    }

    /// Drops what is answered and makes the rest unwritten; answers how many lines had been written.
    fn unwrite(&mut self) -> u64 {
        let resent = lines_in(&self.lines[..self.written]).saturating_sub(self.answered);
        if let Some(last) = self.answered.checked_sub(1) {
            let end = memchr::memchr_iter(b'\n', &self.lines).nth(last).expect("what was answered is a line");
            self.lines.drain(..=end);
        }
        (self.records, self.answered, self.written) = (self.records - self.answered, 0, 0);
        resent as u64
    }
}

fn lines_in(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', bytes).count()
}

/// `ACK topic:t partition:0 offset:7`, or an `ERROR`.
fn outcome(line: &[u8]) -> Result<Result<Ack, Refused>, Error> {
    if let Some(refused) = Refused::parse(line) {
        return Ok(Err(refused));
    }
    if !line.starts_with(b"ACK ") {
        return Err(Error::Answer(format!("'{}' is no ACK", crate::log::record::shown(line))));
    }
    let partition = number(line, "partition")?;
    let partition = u32::try_from(partition).map_err(|_| Error::Answer(format!("partition {partition}")))?;
    Ok(Ok(Ack { partition, offset: Some(number(line, "offset")?) }))
}

fn nonblocking(connection: &Connection, on: bool) -> Result<(), Error> {
    connection.stream().set_nonblocking(on).map_err(|cause| connection.lost(cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::{Peer, peer, peers};

    const PATIENT: Duration = Duration::from_secs(30);

    fn greet(peer: &mut Peer) -> &mut Peer {
        peer.expect("PING").say("PONG\n")
    }

    fn ack(offset: u64) -> Result<Ack, Refused> {
        Ok(Ack { partition: 0, offset: Some(offset) })
    }

    #[test]
    fn outcomes_come_in_order_with_their_tags() {
        let address = peer(|peer| {
            greet(peer).expect("SEND t message:a").expect("SEND t message:b").expect("SEND t message:c");
            peer.say("ACK topic:t partition:0 offset:0\nERROR INVALID_RECORD no\nACK topic:t partition:0 offset:1\n");
        });
        let mut producer = NetworkProducer::open(&address, PATIENT).unwrap();
        for (tag, value) in [(7, "a"), (8, "b"), (9, "c")] {
            producer.push("t", &Record::new(value), tag).unwrap();
        }
        producer.flush().unwrap();
        let no = Refused { code: "INVALID_RECORD".into(), sentence: "no".into() };
        assert_eq!(producer.outcomes().collect::<Vec<_>>(), [(7, ack(0)), (8, Err(no)), (9, ack(1))]);
    }

    #[test]
    fn what_was_not_answered_is_sent_again_in_order() {
        let address = peers(2, |nth, peer| {
            greet(peer);
            if nth == 0 {
                peer.expect("SEND t message:a").say("ACK topic:t partition:0 offset:0\n");
                peer.expect("SEND t message:b");
            } else {
                peer.expect("SEND t message:b").expect("SEND t message:c");
                peer.say("ACK topic:t partition:0 offset:5\nACK topic:t partition:0 offset:6\n");
            }
        });
        let mut producer = NetworkProducer::open(&address, PATIENT).unwrap();
        for (tag, value) in [(1, "a"), (2, "b"), (3, "c")] {
            producer.push("t", &Record::new(value), tag).unwrap();
        }
        producer.flush().unwrap();
        assert_eq!(producer.outcomes().collect::<Vec<_>>(), [(1, ack(0)), (2, ack(5)), (3, ack(6))]);
        assert!(producer.resent() > 0);
    }

    #[test]
    fn a_broker_that_always_closes_is_given_up() {
        let address = peers(1000, |_, peer| {
            greet(peer).line();
        });
        let mut producer = NetworkProducer::open(&address, Duration::from_millis(100)).unwrap();
        producer.push("t", &Record::new("a"), 1).unwrap();
        assert!(matches!(producer.flush(), Err(Error::Connection { .. })));
        assert_eq!(producer.outcomes().count(), 0);
    }

    #[test]
    fn after_an_error_the_next_record_begins_afresh() {
        let address = peers(2, |nth, peer| {
            greet(peer);
            match nth {
                0 => peer.expect("SEND t message:a").say("MOO\nACK topic:t partition:0 offset:9\n"),
                _ => peer.expect("SEND t message:b").say("ACK topic:t partition:0 offset:1\n"),
            };
            peer.line();
        });
        let mut producer = NetworkProducer::open(&address, PATIENT).unwrap();
        producer.push("t", &Record::new("a"), 1).unwrap();
        assert!(matches!(producer.flush(), Err(Error::Answer(_))));
        producer.push("t", &Record::new("b"), 2).unwrap();
        producer.flush().unwrap();
        assert_eq!(producer.outcomes().collect::<Vec<_>>(), [(2, ack(1))]);
    }

    /// A broker that answers each line before it reads the next, and a client that only writes, stop each other as soon
    /// as the sockets are full.
    #[test]
    fn answers_are_read_where_a_write_would_block() {
        const COUNT: u64 = 100_000;
        let answer = format!("ERROR INVALID_RECORD {}\n", "x".repeat(400));
        let address = peer(move |peer| {
            greet(peer);
            for _ in 0..COUNT {
                peer.line();
                peer.say(&answer);
            }
        });
        let mut producer = NetworkProducer::open(&address, PATIENT).unwrap();
        let mut outcomes = 0;
        for tag in 0..COUNT {
            producer.push("t", &Record::new("m"), tag).unwrap();
            outcomes += producer.outcomes().count();
        }
        producer.flush().unwrap();
        assert_eq!((outcomes + producer.outcomes().count()) as u64, COUNT);
    }

    /// The rest of the line was never sent, so the next record became a part of it, and the answers that followed were
    /// those of other records.
    #[test]
    fn a_line_that_is_refused_before_its_end_is_sent_to_its_end() {
        let address = peer(|peer| {
            greet(peer).expect("SEND t message:a");
            peer.say("ACK topic:t partition:0 offset:0\nERROR MESSAGE_TOO_LARGE no\n");
            peer.expect("SEND t message:too long");
            peer.expect("SEND t message:b").say("ACK topic:t partition:0 offset:1\n");
        });
        let mut producer = NetworkProducer::open(&address, PATIENT).unwrap();
        // The sockets were full in the middle of the second line.
        let (lines, written) =
            (b"SEND t message:a\nSEND t message:too long\n", b"SEND t message:a\nSEND t message:too");
        producer.connection.stream().write_all(written).unwrap();
        producer.chunks.push_back(Chunk { lines: lines.into(), written: written.len(), records: 2, answered: 0 });
        producer.tags.extend([1, 2]);
        while producer.outcomes.len() < 2 {
            producer.wait().unwrap();
        }
        producer.push("t", &Record::new("b"), 3).unwrap();
        producer.flush().unwrap();
        let no = Refused { code: "MESSAGE_TOO_LARGE".into(), sentence: "no".into() };
        assert_eq!(producer.outcomes().collect::<Vec<_>>(), [(1, ack(0)), (2, Err(no)), (3, ack(1))]);
    }

    #[test]
    fn one_record_longer_than_the_window_is_sent() {
        let address = peer(|peer| {
            greet(peer);
            let line = peer.line();
            assert_eq!(line.len(), "SEND t message:".len() + 3 * WINDOW_BYTES);
            peer.say("ACK topic:t partition:0 offset:0\n");
        });
        let mut producer = NetworkProducer::open(&address, PATIENT).unwrap();
        producer.push("t", &Record::new(vec![b'x'; 3 * WINDOW_BYTES]), 1).unwrap();
        producer.flush().unwrap();
        assert_eq!(producer.outcomes().collect::<Vec<_>>(), [(1, ack(0))]);
    }
}

//! A producer over the network: records are sent without waiting for each answer, and kept until they are answered.
//!
//! ```text
//!   chunks:  [SEND SEND SEND]  [SEND SEND SEND]  [SEND SEND
//!                  ▲ answered               ▲ written      ▲ filled
//!   sent:           4    5      6    7    8      9   10          one for each record whose outcome is not told
//! ```
//!
//! - The broker answers in order, so the next answer belongs to the oldest line.
//! - The two sides never wait for each other: when a write would block, answers are read first, because the broker may be
//!   stuck until somebody reads them. The write waits only if the broker owes no answer, having part of one long line.
//! - At most [`WINDOW_BYTES`] (or one longer record) are unanswered, which bounds the memory. After a lost connection everything
//!   unanswered is written again, in order. Records are [numbered](Sequences), so that none of them is stored twice.
//! - A record behind one that was refused is out of order. It is kept until all is answered, and sent again as another
//!   producer's. The outcomes of others wait for its outcome.
//! - `retry_for` counts from the loss or the last answer, not from the last connection: a broker that accepts and closes
//!   at once is given up like one that is not there. A silent broker is waited for: keepalive notices when its host dies,
//!   and a slow disk is no reason to send twice.
//! - After an error nothing is in flight: a record without an outcome may have been stored or not.

use super::sequences::{Sequences, sequence_in};
use crate::client::{
    Ack, Answer, Connection, Error, Record, Refused, Target,
    answer::{OUT_OF_ORDER, UNKNOWN_TOPIC, field},
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
    idempotent: bool,
    /// The numbers of the records, from the first on, if they are to have any.
    sequences: Option<Sequences>,
    chunks: VecDeque<Chunk>,
    sent: VecDeque<Sent>,
    /// How many of `sent` the answers have passed.
    passed: usize,
    /// The lines of those that are to be sent again, in order.
    again: Vec<u8>,
    outcomes: Vec<Outcome>,
    resent: u64,
    outage: Option<Outage>,
    /// The connection still owes answers to records that were given up.
    abandoned: bool,
}

/// Lines that are written together, until all of them are answered.
#[derive(Debug, Default)]
struct Chunk {
    lines: Vec<u8>,
    /// How many bytes were written,
    written: usize,
    /// and how many are answered, which may be more: a line that is too long is refused before its end has arrived.
    answered: usize,
}

/// A record whose outcome is not told yet.
#[derive(Debug)]
struct Sent {
    tag: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Its line is in a chunk.
    Waiting,
    /// It was out of order.
    Again,
    /// It waits until what came before it is settled.
    Settled(Result<Ack, Refused>),
}

impl NetworkProducer {
    pub(super) fn open(target: impl Into<Target>, retry_for: Duration) -> Result<NetworkProducer, Error> {
        let connection = connect_within(&target.into(), retry_for)?;
        nonblocking(&connection, true)?;
        Ok(NetworkProducer {
            connection,
            retry_for,
            idempotent: true,
            sequences: None,
            chunks: VecDeque::new(),
            sent: VecDeque::new(),
            passed: 0,
            again: Vec::new(),
            outcomes: Vec::new(),
            resent: 0,
            outage: None,
            abandoned: false,
        })
    }

    pub(super) fn set_retry_for(&mut self, retry_for: Duration) {
        self.retry_for = retry_for;
    }

    pub(super) fn retry_for(&self) -> Duration {
        self.retry_for
    }

    /// Whether records are numbered; to be said before the first is pushed.
    pub(super) fn set_idempotent(&mut self, idempotent: bool) {
        self.idempotent = idempotent;
        if !idempotent {
            self.sequences = None;
        }
    }

    pub(super) fn target(&self) -> &Target {
        self.connection.target()
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
        if self.idempotent && self.sequences.as_ref().is_none_or(|sequences| sequences.is_unknown(topic)) {
            self.flush()?;
            self.learn(topic)?;
        }
        if self.chunks.back().is_none_or(|chunk| chunk.lines.len() >= CHUNK_BYTES) {
            self.chunks.push_back(Chunk::new());
            self.sequences.iter_mut().for_each(Sequences::turn);
        }
        let chunk = self.chunks.back_mut().expect("pushed above");
        match &mut self.sequences {
            Some(sequences) => record.write_numbered(&mut chunk.lines, topic, sequences.number(topic, record)),
            None => record.write_send(&mut chunk.lines, topic),
        }
        self.sent.push_back(Sent { tag, state: State::Waiting });
        if chunk.lines.len() < CHUNK_BYTES { Ok(()) } else { self.write_to(WINDOW_BYTES) }
    }

    /// Asks what has to be known before a record of the topic is numbered. Nothing is in flight.
    fn learn(&mut self, topic: &str) -> Result<(), Error> {
        if self.abandoned {
            self.reconnect(io::ErrorKind::ConnectionAborted.into())?;
        }
        loop {
            nonblocking(&self.connection, false)?;
            let sequences = match &mut self.sequences {
                Some(sequences) => Ok(sequences),
                none => Sequences::begin(&mut self.connection).map(|sequences| none.insert(sequences)),
            };
            match sequences.and_then(|sequences| sequences.learn(topic, &mut self.connection)) {
                Ok(()) => return nonblocking(&self.connection, true),
                Err(Error::Connection { cause, .. }) => self.reconnect(cause)?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks a line when nothing is in flight. A connection that is lost over it is not made again before the next record, or
    /// [`restore`](Self::restore).
    pub(super) fn ask(&mut self, line: &str) -> Result<Answer, Error> {
        nonblocking(&self.connection, false)?;
        let answer = self.connection.ask(line);
        match &answer {
            Ok(_) | Err(Error::Refused(_)) => {
                self.outage = None;
                nonblocking(&self.connection, true)?;
            }
            Err(_) => self.abandoned = true,
        }
        answer
    }

    /// Asks a line that is answered with `OK`. Over a connection that answers something else nothing more is asked.
    pub(super) fn order(&mut self, line: &str) -> Result<(), Error> {
        let answer = self.ask(line)?;
        if answer.first == "OK" {
            return Ok(());
        }
        self.abandoned = true;
        Err(Error::Answer(format!("'{}' is no OK", answer.first)))
    }

    /// Connects again if the connection was lost.
    pub(super) fn restore(&mut self) -> Result<(), Error> {
        if self.abandoned { self.reconnect(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
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
            self.sent.clear();
            self.again.clear();
            self.passed = 0;
            self.abandoned = true;
        }
        done
    }

    fn try_write_to(&mut self, window_bytes: usize) -> Result<(), Error> {
        if self.abandoned && !self.chunks.is_empty() {
            self.reconnect(io::ErrorKind::ConnectionAborted.into())?;
        }
        loop {
            self.write()?;
            while self.unanswered_bytes() > if self.again.is_empty() { window_bytes } else { 0 } {
                self.wait()?;
                self.write()?;
            }
            if self.again.is_empty() {
                return Ok(());
            }
            nonblocking(&self.connection, false)?;
            match self.renumber() {
                Ok(()) => nonblocking(&self.connection, true)?,
                Err(Error::Connection { cause, .. }) => self.reconnect(cause)?,
                Err(error) => return Err(error),
            }
        }
    }

    fn unanswered_bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.lines.len()).sum()
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
            match self.connection.wire().write(&chunk.lines[chunk.written..]) {
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
        match self.connection.wire().write(&chunk.lines[chunk.written..]) {
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
        while let Some(answer) = self.connection.buffered_line() {
            let outcome = outcome(answer)?;
            let is_settled = |sent: &Sent| matches!(sent.state, State::Settled(_));
            while self.sent.get(self.passed).is_some_and(is_settled) {
                self.passed += 1;
            }
            let line = self.chunks.front_mut().and_then(Chunk::next_answered);
            let Some((line, sent)) = line.zip(self.sent.get_mut(self.passed)) else {
                return Err(Error::Answer("it answered what was not asked".into()));
            };
            let code = outcome.as_ref().err().map(|refused| refused.code.as_str());
            if code == Some(UNKNOWN_TOPIC) {
                self.sequences.iter_mut().for_each(|sequences| sequences.doubt(line));
            }
            sent.state = if code == Some(OUT_OF_ORDER) && sequence_in(line).is_some_and(|sequence| sequence > 0) {
                self.again.extend_from_slice(line);
                State::Again
            } else {
                State::Settled(outcome)
            };
            self.passed += 1;
            self.outage = None;
            self.forget_answered();
            self.tell_settled();
        }
        Ok(())
    }

    fn tell_settled(&mut self) {
        while let Some(Sent { state: State::Settled(_), .. }) = self.sent.front()
            && let Some(Sent { tag, state: State::Settled(outcome) }) = self.sent.pop_front()
        {
            // One that was settled before what stands in front of it had not been passed again.
            self.passed = self.passed.saturating_sub(1);
            self.outcomes.push((tag, outcome));
        }
    }

    /// Drops a chunk that is answered, unless it is still being written: without its end the next line would become a part of it.
    fn forget_answered(&mut self) {
        let is_over = |chunk: &Chunk| chunk.answered == chunk.lines.len() && chunk.written == chunk.lines.len();
        if self.chunks.front().is_some_and(is_over) {
            self.chunks.pop_front();
        }
    }

    /// Connects again; everything that was not answered is to be written again.
    fn reconnect(&mut self, cause: io::Error) -> Result<(), Error> {
        let mut outage = self.outage.take().unwrap_or_else(Outage::begin);
        let _ = self.connection.wire().tcp().shutdown(Shutdown::Both);
        let mut lost = self.connection.lost(cause);
        for chunk in &mut self.chunks {
            self.resent += chunk.unwrite();
        }
        loop {
            self.connection = reconnect(self.connection.target(), self.retry_for, &mut outage, Some(lost))?;
            match self.go_on() {
                Ok(()) => break,
                Err(error @ Error::Connection { .. }) => lost = error,
                Err(error) => return Err(error),
            }
        }
        self.outage = Some(outage);
        self.abandoned = false;
        nonblocking(&self.connection, true)
    }

    /// Goes on with the numbers over a new connection; where they hold no more, nothing of what they tell is stored there.
    fn go_on(&mut self) -> Result<(), Error> {
        match &self.sequences {
            Some(sequences) if !sequences.go_on(&mut self.connection)? => self.renumber(),
            _ => Ok(()),
        }
    }

    /// Becomes a new producer, with new numbers for all that is unanswered and all that was out of order. What is unanswered
    /// was not written.
    fn renumber(&mut self) -> Result<(), Error> {
        let sequences = self.sequences.as_mut().expect("what is out of order is numbered");
        sequences.begin_again(&mut self.connection)?;
        let again = [Chunk { lines: std::mem::take(&mut self.again), ..Chunk::default() }];
        let chunks = std::mem::take(&mut self.chunks);
        for line in again.iter().chain(&chunks).flat_map(|chunk| chunk.lines.split_inclusive(|&byte| byte == b'\n')) {
            if self.chunks.back().is_none_or(|chunk| chunk.lines.len() >= CHUNK_BYTES) {
                self.chunks.push_back(Chunk::new());
            }
            sequences.number_again(line, &mut self.chunks.back_mut().expect("pushed above").lines);
        }
        let out_of_order = self.sent.iter_mut().filter(|sent| matches!(sent.state, State::Again));
        out_of_order.for_each(|sent| sent.state = State::Waiting);
        self.passed = 0;
        Ok(())
    }
}

impl Chunk {
    fn new() -> Chunk {
        Chunk { lines: Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8), ..Chunk::default() }
    }

    /// The line, with its end, that an answer is for.
    fn next_answered(&mut self) -> Option<&[u8]> {
        let from = self.answered;
        self.answered += memchr::memchr(b'\n', &self.lines[from..])? + 1;
        Some(&self.lines[from..self.answered])
    }

    /// What was written and not answered.
    fn in_flight(&self) -> &[u8] {
        self.lines.get(self.answered..self.written).unwrap_or_default()
    }

    /// Whether the broker has a whole line of this that it did not answer.
    fn is_owed(&self) -> bool {
        memchr::memchr(b'\n', self.in_flight()).is_some()
    }

    /// Drops what is answered and makes the rest unwritten; answers how many lines had been written.
    fn unwrite(&mut self) -> u64 {
        let resent = lines_in(self.in_flight());
        self.lines.drain(..self.answered);
        (self.answered, self.written) = (0, 0);
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
    let offset = if field(line, "offset") == Some(b"-") { None } else { Some(number(line, "offset")?) };
    Ok(Ok(Ack { partition, offset }))
}

fn nonblocking(connection: &Connection, on: bool) -> Result<(), Error> {
    connection.wire().tcp().set_nonblocking(on).map_err(|cause| connection.lost(cause))
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

    /// One that does not number its records.
    fn plain(address: &str) -> NetworkProducer {
        let mut producer = NetworkProducer::open(address, PATIENT).unwrap();
        producer.set_idempotent(false);
        producer
    }

    #[test]
    fn outcomes_come_in_order_with_their_tags() {
        let address = peer(|peer| {
            greet(peer).expect("SEND t message:a").expect("SEND t message:b").expect("SEND t message:c");
            peer.say("ACK topic:t partition:0 offset:0\nERROR INVALID_RECORD no\nACK topic:t partition:0 offset:1\n");
        });
        let mut producer = plain(&address);
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
        let mut producer = plain(&address);
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
        let mut producer = plain(&address);
        producer.set_retry_for(Duration::from_millis(100));
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
        let mut producer = plain(&address);
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
        let mut producer = plain(&address);
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
        let mut producer = plain(&address);
        // The sockets were full in the middle of the second line.
        let (lines, written) =
            (b"SEND t message:a\nSEND t message:too long\n", b"SEND t message:a\nSEND t message:too");
        producer.connection.wire().write_all(written).unwrap();
        producer.chunks.push_back(Chunk { lines: lines.into(), written: written.len(), answered: 0 });
        producer.sent.extend([1, 2].map(|tag| Sent { tag, state: State::Waiting }));
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
        let mut producer = plain(&address);
        producer.push("t", &Record::new(vec![b'x'; 3 * WINDOW_BYTES]), 1).unwrap();
        producer.flush().unwrap();
        assert_eq!(producer.outcomes().collect::<Vec<_>>(), [(1, ack(0))]);
    }

    fn introduce<'p>(peer: &'p mut Peer, asked: &str, id: u64, cluster: &str) -> &'p mut Peer {
        peer.expect(asked).say(&format!("OK producer_id:{id}\n"));
        peer.expect("INFO").say(&format!("INFO count:2\ndefault_partitions:2\ncluster_id:{cluster}\n"))
    }

    fn greet_and_introduce(peer: &mut Peer, id: u64) -> &mut Peer {
        introduce(greet(peer), "PRODUCER", id, "here").expect("TOPIC t").say("TOPIC count:0 topic:t partitions:2\n")
    }

    fn push(producer: &mut NetworkProducer, records: &[(u32, &str)]) {
        for (tag, (partition, value)) in (0..).zip(records) {
            producer.push("t", &Record::new(*value).partition(*partition), tag).unwrap();
        }
    }

    fn outcomes(producer: &mut NetworkProducer) -> Vec<(u64, String)> {
        let told = |outcome: Result<Ack, Refused>| outcome.map_or_else(|refused| refused.code, |ack| ack.to_string());
        producer.outcomes().map(|(tag, outcome)| (tag, told(outcome))).collect()
    }

    #[test]
    fn what_is_sent_again_bears_the_numbers_that_it_had() {
        let address = peers(2, |nth, peer| match nth {
            0 => {
                greet_and_introduce(peer, 7)
                    .expect("SEND t/0 sequence:0 message:a")
                    .expect("SEND t/1 sequence:0 message:b");
                peer.expect("SEND t/0 sequence:1 message:c").say("ACK topic:t partition:0 offset:4\n");
            }
            _ => {
                introduce(greet(peer), "PRODUCER 7", 7, "here").expect("SEND t/1 sequence:0 message:b");
                peer.expect("SEND t/0 sequence:1 message:c");
                peer.say("ACK topic:t partition:1 offset:-\nACK topic:t partition:0 offset:5\n");
            }
        });
        let mut producer = NetworkProducer::open(&address, PATIENT).unwrap();
        push(&mut producer, &[(0, "a"), (1, "b"), (0, "c")]);
        producer.flush().unwrap();
        let acks = ["partition:0 offset:4", "partition:1 offset:-", "partition:0 offset:5"].map(String::from);
        assert_eq!(outcomes(&mut producer), (0..).zip(acks).collect::<Vec<_>>());
        assert_eq!(producer.resent(), 2);
    }

    /// Nothing fills the number of what was refused, so what came behind it is out of order for ever.
    #[test]
    fn what_stands_behind_a_refused_record_is_sent_as_another_producers_and_told_in_order() {
        let address = peer(|peer| {
            greet_and_introduce(peer, 7);
            for line in
                ["0 sequence:0 message:a", "0 sequence:1 message:b", "1 sequence:0 message:c", "0 sequence:2 message:d"]
            {
                peer.expect(&format!("SEND t/{line}"));
            }
            peer.say("ERROR INVALID_RECORD no\nERROR OUT_OF_ORDER_SEQUENCE_NUMBER 0 is next\n");
            peer.say("ACK topic:t partition:1 offset:0\nERROR OUT_OF_ORDER_SEQUENCE_NUMBER 0 is next\n");
            introduce(peer, "PRODUCER", 8, "here");
            peer.expect("SEND t/0 sequence:0 message:b").expect("SEND t/0 sequence:1 message:d");
            peer.say("ACK topic:t partition:0 offset:0\nACK topic:t partition:0 offset:1\n");
            peer.expect("SEND t/0 sequence:2 message:e").say("ACK topic:t partition:0 offset:2\n");
        });
        let mut producer = NetworkProducer::open(&address, PATIENT).unwrap();
        push(&mut producer, &[(0, "a"), (0, "b"), (1, "c"), (0, "d")]);
        producer.flush().unwrap();
        let told = ["INVALID_RECORD", "partition:0 offset:0", "partition:1 offset:0", "partition:0 offset:1"];
        assert_eq!(outcomes(&mut producer), (0..).zip(told.map(String::from)).collect::<Vec<_>>());
        push(&mut producer, &[(0, "e")]);
        producer.flush().unwrap();
        assert_eq!(outcomes(&mut producer), [(0, "partition:0 offset:2".into())]);
    }

    #[test]
    fn what_was_out_of_order_outlives_the_connection() {
        let address = peers(2, |nth, peer| match nth {
            0 => {
                greet_and_introduce(peer, 7);
                peer.expect("SEND t/0 sequence:0 message:a")
                    .expect("SEND t/0 sequence:1 message:b")
                    .expect("SEND t/1 sequence:0 message:c");
                peer.say("ERROR INVALID_RECORD no\nERROR OUT_OF_ORDER_SEQUENCE_NUMBER 0 is next\n");
            }
            _ => {
                introduce(greet(peer), "PRODUCER 7", 7, "here").expect("SEND t/1 sequence:0 message:c");
                peer.say("ACK topic:t partition:1 offset:0\n");
                introduce(peer, "PRODUCER", 8, "here").expect("SEND t/0 sequence:0 message:b");
                peer.say("ACK topic:t partition:0 offset:0\n");
            }
        });
        let mut producer = NetworkProducer::open(&address, PATIENT).unwrap();
        push(&mut producer, &[(0, "a"), (0, "b"), (1, "c")]);
        producer.flush().unwrap();
        let told = ["INVALID_RECORD", "partition:0 offset:0", "partition:1 offset:0"];
        assert_eq!(outcomes(&mut producer), (0..).zip(told.map(String::from)).collect::<Vec<_>>());
    }

    /// A broker in memory was started again and gave the id to somebody else: what it had stored of theirs would have been taken for
    /// ours.
    #[test]
    fn a_broker_with_other_data_gets_everything_unanswered_from_a_new_producer() {
        let address = peers(3, |nth, peer| match nth {
            0 => {
                greet_and_introduce(peer, 7)
                    .expect("SEND t/0 sequence:0 message:a")
                    .say("ACK topic:t partition:0 offset:0\n");
                peer.expect("SEND t/0 sequence:1 message:b");
            }
            1 => {
                introduce(greet(peer), "PRODUCER 7", 7, "elsewhere");
                introduce(peer, "PRODUCER", 9, "elsewhere").expect("SEND t/0 sequence:0 message:b");
            }
            _ => {
                greet(peer).expect("PRODUCER 9").say("ERROR UNKNOWN_PRODUCER_ID no\n");
                introduce(peer, "PRODUCER", 0, "elsewhere").expect("SEND t/0 sequence:0 message:b");
                peer.say("ACK topic:t partition:0 offset:0\n");
            }
        });
        let mut producer = NetworkProducer::open(&address, PATIENT).unwrap();
        push(&mut producer, &[(0, "a"), (0, "b")]);
        producer.flush().unwrap();
        let acks = ["partition:0 offset:0", "partition:0 offset:0"].map(String::from);
        assert_eq!(outcomes(&mut producer), (0..).zip(acks).collect::<Vec<_>>());
    }

    #[test]
    fn a_first_number_that_is_out_of_order_is_refused_and_not_sent_again() {
        let address = peer(|peer| {
            greet_and_introduce(peer, 7).expect("SEND t/0 sequence:0 message:a");
            peer.say("ERROR OUT_OF_ORDER_SEQUENCE_NUMBER no\n");
        });
        let mut producer = NetworkProducer::open(&address, PATIENT).unwrap();
        push(&mut producer, &[(0, "a")]);
        producer.flush().unwrap();
        assert_eq!(outcomes(&mut producer), [(0, "OUT_OF_ORDER_SEQUENCE_NUMBER".into())]);
    }
}

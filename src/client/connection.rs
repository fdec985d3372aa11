//! One connection to a broker: lines out, lines in.
//!
//! ```text
//! TOPICS                       -> one line
//! TOPICS count:2               <- the first line of the answer says how many follow
//! topic:a partitions:1 ...
//! topic:b partitions:3 ...
//! ```
//!
//! - Opening sends `PING` and waits for `PONG`, or sends `AUTH`, if the target says as whom, and waits for `OK`. So a broker that is full, or a port that speaks something else, is noticed
//!   before anything is asked.
//! - Memory grows with what arrives, and no line may be longer than [`LINE_BYTES_MAX`].
//! - After an I/O error a connection is of no use; open another.

use super::{
    Answer, Error, Refused, Target,
    answer::{UNKNOWN_TOPIC, field, line_count},
    record::check_topic,
    wire::Wire,
};
use crate::log::record::{parse_u63, write_visible};
use std::{
    io::{self, Read, Write},
    ops::Range,
};

/// Longest line an answer may have: a batch on disk has at most 64 MiB of lines.
const LINE_BYTES_MAX: usize = 65 << 20;

/// What is read at once; small enough for the cache.
const BUFFER_BYTES: usize = 128 << 10;

/// A connection that asks a line and gets its answer.
#[derive(Debug)]
pub struct Connection {
    target: Target,
    wire: Wire,
    input: Lines,
}

impl Connection {
    /// Connects to `host:port`; without a port, to 9092.
    pub fn open(target: impl Into<Target>) -> Result<Connection, Error> {
        let target = target.into();
        let target = target.whole()?;
        let wire = Wire::connect(&target)?;
        let mut connection = Connection { target, wire, input: Lines::default() };
        let (verb, line, answer) = match connection.wire.login_of(&connection.target)? {
            None => ("PING", "PING".to_string(), "PONG"),
            Some(login) => ("AUTH", login.line(), "OK "),
        };
        match connection.ask(&line) {
            Ok(heard) if heard.first.starts_with(answer) => {}
            Ok(other) => {
                let what = format!("it answered {verb} with '{}'", shown(other.first.as_bytes()));
                return Err(Error::Answer(what));
            }
            Err(Error::Connection { cause, .. }) if cause.kind() == io::ErrorKind::WouldBlock => {
                return Err(connection.lost(io::Error::new(io::ErrorKind::TimedOut, "it does not answer")));
            }
            Err(error) => return Err(error),
        }
        connection.wire.tcp().set_read_timeout(None).map_err(|cause| connection.lost(cause))?;
        Ok(connection)
    }

    /// Whether nobody between the two ends can read along: by TLS, or within this machine.
    pub fn is_private(&self) -> bool {
        self.wire.is_private()
    }

    /// The address it was opened with.
    pub fn address(&self) -> &str {
        self.target.address()
    }

    /// Where it leads.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Sends one line and waits for its answer. (TAIL and FETCH, whose answers are no lines to be counted, are not asked
    /// this way.)
    pub fn ask(&mut self, line: &str) -> Result<Answer, Error> {
        if line.contains('\n') {
            return Err(Error::Invalid(format!("'{}' is more than one line", shown(line.as_bytes()))));
        }
        let answered = self.send(format!("{line}\n").as_bytes()).and_then(|()| self.answer());
        answered.map_err(|cause| self.lost(cause))?.map_err(Error::Refused)
    }

    /// How many partitions a topic has; `None` if there is no such topic.
    pub fn partitions(&mut self, topic: &str) -> Result<Option<u32>, Error> {
        check_topic(topic)?;
        match self.ask(&format!("TOPIC {topic}")) {
            Ok(answer) => partitions_in(answer.first.as_bytes()).map(Some),
            Err(Error::Refused(refused)) if refused.code == UNKNOWN_TOPIC => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for an answer of lines.
    pub(super) fn answer(&mut self) -> io::Result<Result<Answer, Refused>> {
        let first = self.line()?;
        if let Some(refused) = Refused::parse(first) {
            return Ok(Err(refused));
        }
        let mut answer = Answer { first: String::from_utf8_lossy(first).into_owned(), lines: Vec::new() };
        for _ in 0..line_count(answer.first.as_bytes()) {
            answer.lines.push(String::from_utf8_lossy(self.line()?).into_owned());
        }
        Ok(Ok(answer))
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&self.wire).write_all(bytes)
    }

    /// Waits for the next line.
    pub(super) fn line(&mut self) -> io::Result<&[u8]> {
        let range = loop {
            match self.input.next() {
                Some(range) => break range,
                None => self.input.fill(&self.wire)?,
            }
        };
        Ok(&self.input.buffer[range])
    }

    /// Waits for this many bytes. Memory grows as they arrive.
    pub(super) fn bytes(&mut self, count: u64) -> io::Result<&[u8]> {
        let range = loop {
            match self.input.take(count) {
                Some(range) => break range,
                None => self.input.fill(&self.wire)?,
            }
        };
        Ok(&self.input.buffer[range])
    }

    /// The next line, if it has arrived.
    pub(super) fn buffered_line(&mut self) -> Option<&[u8]> {
        self.input.next().map(|range| &self.input.buffer[range])
    }

    /// Receives once, as the stream's mode has it: waiting, or `WouldBlock`.
    pub(super) fn receive(&mut self) -> io::Result<()> {
        self.input.fill(&self.wire)
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    pub(super) fn lost(&self, cause: io::Error) -> Error {
        Error::Connection { address: self.address().into(), cause }
    }
}

/// A number among the fields of an answer that must have it.
pub(super) fn number(line: &[u8], name: &str) -> Result<u64, Error> {
    let missing = || Error::Answer(format!("no number '{name}:' in '{}'", shown(line)));
    field(line, name).and_then(parse_u63).ok_or_else(missing)
}

pub(super) fn partitions_in(line: &[u8]) -> Result<u32, Error> {
    let partitions = number(line, "partitions")?;
    u32::try_from(partitions).map_err(|_| Error::Answer(format!("a topic of {partitions} partitions")))
}

fn shown(line: &[u8]) -> String {
    let mut out = Vec::new();
    write_visible(&mut out, &line[..line.len().min(200)]);
    String::from_utf8_lossy(&out).into_owned()
}

/// Received bytes, handed out by lines.
#[derive(Debug, Default)]
struct Lines {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// No line end before this.
    searched: usize,
}

impl Lines {
    /// Takes the next line, without its LF, if it is here. The range holds until the next `fill`.
    fn next(&mut self) -> Option<Range<usize>> {
        let Some(length) = memchr::memchr(b'\n', &self.buffer[self.searched..self.end]) else {
            self.searched = self.end;
            return None;
        };
        let line = self.start..self.searched + length;
        self.start = line.end + 1;
        self.searched = self.start;
        Some(line)
    }

    /// Takes the next `count` bytes, if they are here. The range holds until the next `fill`.
    fn take(&mut self, count: u64) -> Option<Range<usize>> {
        let count = usize::try_from(count).ok().filter(|&count| count <= self.end - self.start)?;
        let bytes = self.start..self.start + count;
        self.start = bytes.end;
        self.searched = self.searched.max(self.start);
        Some(bytes)
    }

    /// Reads once. The end of the stream is an error, since an answer is due.
    fn fill(&mut self, mut stream: impl Read) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end, self.searched) = (0, self.end - self.start, self.searched - self.start);
        }
        if self.end == self.buffer.len() {
            if self.end >= LINE_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line or batch longer than 65 MiB"));
            }
            self.buffer.resize((self.end * 2).clamp(BUFFER_BYTES, LINE_BYTES_MAX), 0);
        }
        let received = loop {
            match stream.read(&mut self.buffer[self.end..]) {
                // A signal is no reason to connect anew and send twice.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => break received?,
            }
        };
        self.end += received;
        match received {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed the connection")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::peer;

    fn lines(mut stream: impl Read) -> (Vec<String>, io::Error) {
        let (mut input, mut found) = (Lines::default(), Vec::new());
        let error = loop {
            while let Some(range) = input.next() {
                found.push(String::from_utf8(input.buffer[range].to_vec()).unwrap());
            }
            if let Err(error) = input.fill(&mut stream) {
                break error;
            }
        };
        (found, error)
    }

    /// Gives one byte a read, and is interrupted by a signal before each.
    struct Drip<'a> {
        bytes: &'a [u8],
        is_interrupted: bool,
    }

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.is_interrupted = !self.is_interrupted;
            if self.is_interrupted {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let length = self.bytes.len().min(1);
            self.bytes.read(&mut out[..length])
        }
    }

    #[test]
    fn lines_come_whole_however_they_arrive() {
        for text in ["a\n\nbc\n", "a\n\nbc\ntorn"] {
            assert_eq!(lines(text.as_bytes()).0, ["a", "", "bc"]);
            let drip = Drip { bytes: text.as_bytes(), is_interrupted: false };
            assert_eq!(lines(drip).0, ["a", "", "bc"]);
        }
    }

    #[test]
    fn a_long_line_grows_the_buffer_and_an_endless_one_ends_it() {
        let long = format!("{}\nnext\n", "x".repeat(3 * BUFFER_BYTES));
        assert_eq!(lines(long.as_bytes()).0[1], "next");
        assert_eq!(lines(io::repeat(b'x')).1.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn an_answer_has_its_lines_and_an_error_its_code() {
        let address = peer(|peer| {
            peer.expect("PING").say("PONG\n");
            peer.expect("TOPICS").say("TOPICS count:2\ntopic:a\ntopic:b\n");
            peer.expect("NONSENSE").say("ERROR INVALID_REQUEST unknown verb\n");
            peer.expect("TOPIC a").say("TOPIC count:1 topic:a partitions:3\npartition:0\n");
            peer.expect("TOPIC b").say("ERROR UNKNOWN_TOPIC_OR_PARTITION there is none\n");
        });
        let mut connection = Connection::open(&address).unwrap();
        let answer = connection.ask("TOPICS").unwrap();
        assert_eq!((answer.first.as_str(), answer.lines.len()), ("TOPICS count:2", 2));
        let Err(Error::Refused(refused)) = connection.ask("NONSENSE") else { panic!("refused") };
        assert_eq!(refused.code, "INVALID_REQUEST");
        assert_eq!(connection.partitions("a").unwrap(), Some(3));
        assert_eq!(connection.partitions("b").unwrap(), None);
        assert!(matches!(connection.ask("A\nB"), Err(Error::Invalid(_))));
        assert!(matches!(connection.ask("PING"), Err(Error::Connection { .. })));
    }

    #[test]
    fn who_logs_in_says_so_first() {
        let address = peer(|peer| {
            peer.expect("AUTH alice two words").say("OK principal:User:alice\n");
            peer.expect("PING").say("PONG\n");
        });
        let target = Target::new(&address).login("alice", "two words").unwrap();
        assert_eq!(Connection::open(&target).unwrap().ask("PING").unwrap().first, "PONG");
        let address = peer(|peer| {
            peer.expect("AUTH alice x").say("ERROR SASL_AUTHENTICATION_FAILED no\n");
        });
        let target = Target::new(&address).login("alice", "x").unwrap();
        // It is not tried again: that would only cost time.
        let refused = super::super::endpoint::connect_within(&target, std::time::Duration::from_secs(60));
        assert!(matches!(refused, Err(Error::Refused(refused)) if refused.is_login()));
    }

    #[test]
    fn a_port_that_speaks_something_else_is_no_broker() {
        let address = peer(|peer| {
            peer.expect("PING").say("HTTP/1.1 400 Bad Request\n");
        });
        let Err(Error::Answer(why)) = Connection::open(&address) else { panic!("no broker") };
        assert!(why.contains("HTTP/1.1 400"), "{why}");
    }

    #[test]
    fn a_broker_without_room_says_why() {
        let address = peer(|peer| {
            peer.say("ERROR INVALID_REQUEST too many connections\n");
        });
        assert!(matches!(Connection::open(&address), Err(Error::Refused(_))));
    }

    #[test]
    fn nobody_at_the_address_is_an_error_of_the_connection() {
        let address = peer(|_| {});
        assert!(matches!(Connection::open(&address), Err(Error::Connection { .. })));
        assert!(matches!(Connection::open("no-such-host.invalid"), Err(Error::Connection { .. })));
        assert!(matches!(Connection::open("no such host"), Err(Error::Invalid(_))));
    }
}

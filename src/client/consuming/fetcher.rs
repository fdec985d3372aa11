//! Reads one partition over a connection of its own, in a thread of its own.
//!
//! ```text
//!   FETCH orders/2 7 wait:0        -> RECORDS ... next:19 end:40     the next FETCH goes out as soon as `next:` is known,
//!   FETCH orders/2 19 wait:0       ->   BATCH ... lines              so the broker works while this thread reads
//!   FETCH orders/2 40 wait:5000    -> RECORDS ... next:40 end:40     at the end it waits inside the broker
//! ```
//!
//! - A FETCH that waits blocks the lines behind it, so every partition needs a connection of its own: a consumer of a topic
//!   with twelve partitions has twelve.
//! - Answers go into a channel that holds two. If the consumer is not polled, reading stops. A batch can be longer than what was
//!   asked for: it is handed over in pieces, since messages take several times the memory of their lines.
//! - The position moves with what is handed over. So when a connection is lost no record is, and the consumer is told only if the
//!   outage lasts.
//! - A topic that does not exist yet is waited for and read from its first record. Where first use makes topics, the wait
//!   is inside the broker.
//! - The fetcher of partition 0 of a subscribed topic is its scout: it also asks now and then how many partitions there are.

use super::{Position, source::Lookout};
use crate::{
    broker::{Isolation, Waiter},
    client::{
        Connection, Error, Message, Refused, Target,
        answer::{UNKNOWN_TOPIC, field},
        connection::{number, partitions_in},
        endpoint::Outage,
        record::{isolation_word, read_lines},
    },
    log::{
        Lines,
        batches::Flags,
        record::{parse_u63, shown},
    },
};
use std::{
    convert::Infallible,
    io, iter, mem,
    net::{Shutdown, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, mpsc::SyncSender},
    thread,
    time::{Duration, Instant},
};

/// How long a FETCH waits in the broker, and how often a scout asks.
const WAIT: Duration = Duration::from_secs(5);

/// What fetchers tell their consumer. Every event but `Woken` says whose it is: a consumer that sought elsewhere has
/// replaced the fetcher, and drops what the old one still says.
#[derive(Debug)]
pub(in crate::client) enum Event {
    /// Records in order, and whether they reach the end of the partition.
    Read { fetcher: u64, messages: Vec<Message>, at_end: bool },
    /// How many partitions the topic has.
    Partitions { fetcher: u64, count: u32 },
    /// What the caller should know. The fetcher goes on, but for `Error::Answer`.
    Failed { fetcher: u64, error: Error },
    /// Somebody wants `poll` to return.
    Woken,
}

/// How many bytes a consumer's fetcher asks for at once.
pub(super) const ANSWER_BYTES: usize = 1 << 20;

/// What is to be read.
#[derive(Debug)]
pub(in crate::client) struct Task {
    pub(in crate::client) id: u64,
    pub(in crate::client) target: Target,
    pub(in crate::client) topic: Arc<str>,
    pub(in crate::client) partition: u32,
    pub(in crate::client) position: Position,
    pub(in crate::client) isolation: Isolation,
    /// How many bytes of lines are asked for, and handed over, at once.
    pub(in crate::client) answer_bytes: usize,
    /// For a scout, how many partitions the consumer knows of.
    pub(in crate::client) partitions_known: Option<u32>,
    /// How long an outage lasts before the consumer is told.
    pub(in crate::client) retry_for: Duration,
    pub(in crate::client) events: SyncSender<Event>,
    /// Whom to wake when an event is there.
    pub(in crate::client) waiter: Option<Arc<Waiter>>,
}

/// A running fetcher; dropping it ends the thread.
#[derive(Debug)]
pub(in crate::client) struct Fetcher {
    pub(in crate::client) id: u64,
    stop: Arc<Stop>,
}

impl Fetcher {
    /// Begins to read, on this connection if there is one already.
    pub(in crate::client) fn start(task: Task, connection: Option<Connection>) -> io::Result<Fetcher> {
        let stop = Arc::new(Stop::default());
        let fetcher = Fetcher { id: task.id, stop: stop.clone() };
        let reader = Reader {
            task,
            stop,
            has_read: false,
            was_at_end: false,
            asked: None,
            asking: false,
            told: None,
            lookout: Lookout::begin(),
        };
        thread::Builder::new().name("fetcher".into()).spawn(move || reader.run(connection))?;
        Ok(fetcher)
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// Ends a thread that waits, for a socket or for time.
#[derive(Debug, Default)]
struct Stop {
    state: Mutex<StopState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct StopState {
    stopped: bool,
    stream: Option<TcpStream>,
}

impl Stop {
    fn state(&self) -> MutexGuard<'_, StopState> {
        self.state.lock().expect("no panic under the stop lock")
    }

    fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        if let Some(stream) = state.stream.take() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
    }

    /// From now on `stop` also ends this stream.
    fn attach(&self, stream: &TcpStream) -> Result<(), End> {
        let mut state = self.state();
        state.stream = stream.try_clone().ok();
        if state.stopped { Err(End::Stopped) } else { Ok(()) }
    }

    fn pause(&self, time: Duration) -> Result<(), End> {
        let waited = self.changed.wait_timeout_while(self.state(), time, |state| !state.stopped);
        let (state, _) = waited.expect("no panic under the stop lock");
        if state.stopped { Err(End::Stopped) } else { Ok(()) }
    }
}

/// Why a connection is used no more.
enum End {
    /// The consumer wants no more of this.
    Stopped,
    Lost(io::Error),
    Failed(Error),
}

impl From<io::Error> for End {
    fn from(cause: io::Error) -> End {
        End::Lost(cause)
    }
}

impl From<Error> for End {
    fn from(error: Error) -> End {
        End::Failed(error)
    }
}

struct Reader {
    task: Task,
    stop: Arc<Stop>,
    /// The position comes from reading, not from the caller.
    has_read: bool,
    was_at_end: bool,
    /// When a scout asked last, and whether the answer is still to come.
    asked: Option<Instant>,
    asking: bool,
    /// The refusal that the consumer knows of.
    told: Option<Refused>,
    lookout: Lookout,
}

impl Reader {
    fn run(mut self, mut connection: Option<Connection>) {
        let mut outage = None;
        loop {
            let Err(end) = self.session(connection.take(), &mut outage);
            let error = match end {
                End::Stopped => return,
                End::Lost(cause) => Error::Connection { address: self.task.target.address().into(), cause },
                End::Failed(error) => error,
            };
            if self.recover(error, outage.get_or_insert_with(Outage::begin)).is_err() {
                return;
            }
        }
    }

    /// Tells of an outage that lasts, and waits before the next attempt.
    fn recover(&mut self, error: Error, outage: &mut Outage) -> Result<(), End> {
        let hopeless = matches!(error, Error::Answer(_));
        if hopeless || outage.lasted() >= self.task.retry_for {
            self.stop.pause(Duration::ZERO)?;
            self.tell(error)?;
            outage.begin_again();
        }
        if hopeless {
            return Err(End::Stopped);
        }
        self.stop.pause(outage.next_pause())
    }

    fn session(&mut self, connection: Option<Connection>, outage: &mut Option<Outage>) -> Result<Infallible, End> {
        let mut connection = match connection {
            Some(connection) => connection,
            None => Connection::open(&self.task.target)?,
        };
        self.stop.attach(connection.wire().tcp())?;
        self.asked = None;
        self.request(&mut connection, self.task.position, false)?;
        loop {
            self.answer(&mut connection)?;
            *outage = None;
        }
    }

    fn request(&mut self, connection: &mut Connection, position: Position, wait: bool) -> Result<(), End> {
        let Task { topic, partition, answer_bytes, .. } = &self.task;
        let mut lines = String::new();
        self.asking = self.task.partitions_known.is_some() && self.asked.is_none_or(|asked| asked.elapsed() >= WAIT);
        if self.asking {
            lines = format!("TOPIC {topic}\n");
            self.asked = Some(Instant::now());
        }
        let wait_ms = if wait { WAIT.as_millis() } else { 0 };
        let isolation = isolation_word(self.task.isolation);
        lines += &format!("FETCH {topic}/{partition} {position} max_bytes:{answer_bytes} wait:{wait_ms}{isolation}\n");
        Ok(connection.send(lines.as_bytes())?)
    }

    fn answer(&mut self, connection: &mut Connection) -> Result<(), End> {
        if mem::take(&mut self.asking) {
            self.scout(connection)?;
        }
        let line = connection.line()?;
        if let Some(refused) = Refused::parse(line) {
            self.refused(connection, refused)?;
            return self.request(connection, self.task.position, false);
        }
        if !line.starts_with(b"RECORDS ") {
            return Err(unexpected(line).into());
        }
        let (batches, next, end) = (number(line, "count")?, number(line, "next")?, number(line, "end")?);
        let at_end = next >= end;
        self.request(connection, Position::Offset(next), at_end)?;
        let mut messages = Vec::new();
        for _ in 0..batches {
            self.batch(connection, &mut messages)?;
        }
        self.read_to(next);
        if messages.is_empty() && (self.was_at_end || !at_end) {
            return Ok(());
        }
        self.was_at_end = at_end;
        self.send(Event::Read { fetcher: self.task.id, messages, at_end })
    }

    /// Takes the answer to TOPIC, and tells of partitions that the consumer does not know.
    fn scout(&mut self, connection: &mut Connection) -> Result<(), End> {
        let Ok(answer) = connection.answer()? else { return Ok(()) };
        let count = partitions_in(answer.first.as_bytes())?;
        if self.task.partitions_known.replace(count).is_some_and(|known| known != count) {
            self.send(Event::Partitions { fetcher: self.task.id, count })?;
        }
        Ok(())
    }

    fn batch(&mut self, connection: &mut Connection, messages: &mut Vec<Message>) -> Result<(), End> {
        let line = connection.line()?;
        let timestamp = match field(line, "timestamp") {
            Some(b"-1") => Some(-1),
            Some(digits) => parse_u63(digits).map(|ms| ms as i64),
            None => None,
        };
        let flags = match field(line, "times") {
            None => Some(Flags::NONE),
            Some(b"running") => Some(Flags::RUNNING_TIMES),
            Some(_) => None,
        };
        let (true, Some(timestamp), Some(flags)) = (line.starts_with(b"BATCH "), timestamp, flags) else {
            return Err(unexpected(line).into());
        };
        let bytes = number(line, "bytes")?;
        let mut lines = Lines::new(connection.bytes(bytes)?, timestamp, flags);
        loop {
            let left = lines.rest().len().saturating_sub(self.task.answer_bytes);
            let piece = iter::from_fn(|| if lines.rest().len() > left { lines.next() } else { None });
            read_lines(&self.task.topic, self.task.partition, piece, messages)?;
            if lines.rest().is_empty() {
                return Ok(());
            }
            if let Some(last) = messages.last() {
                self.read_to(last.offset + 1);
                self.was_at_end = false;
                self.send(Event::Read { fetcher: self.task.id, messages: mem::take(messages), at_end: false })?;
            }
        }
    }

    /// What is before this offset is handed over now.
    fn read_to(&mut self, next: u64) {
        (self.task.position, self.has_read, self.told) = (Position::Offset(next), true, None);
        self.lookout = Lookout::begin();
    }

    /// Finds out where to go on.
    fn refused(&mut self, connection: &mut Connection, refused: Refused) -> Result<(), End> {
        let next = match refused.code.as_str() {
            UNKNOWN_TOPIC => return self.await_topic(connection, refused),
            "OFFSET_OUT_OF_RANGE" => self.nearest(&refused),
            "CORRUPT_MESSAGE" => refused.number("next"),
            _ => None,
        };
        if let (Position::Offset(wanted), Some(next)) = (self.task.position, next.filter(|&next| self.moves_to(next))) {
            self.task.position = Position::Offset(next);
            let (topic, partition) = (self.task.topic.to_string(), self.task.partition);
            return self.tell(Error::Skipped { topic, partition, wanted, next, reason: refused });
        }
        self.tell_once(refused)?;
        self.stop.pause(Duration::from_secs(1))
    }

    fn moves_to(&self, next: u64) -> bool {
        self.task.position != Position::Offset(next)
    }

    /// What was read on to and is gone, or was never there after a log began anew: the first record there is. What the
    /// caller named and is yet to come: the end.
    fn nearest(&self, refused: &Refused) -> Option<u64> {
        let (first, end) = (refused.number("first")?, refused.number("end")?);
        let beyond = matches!(self.task.position, Position::Offset(wanted) if wanted > end);
        Some(if beyond && !self.has_read { end } else { first })
    }

    /// Waits a while for the topic to be made: inside the broker, if sending to it would make it.
    fn await_topic(&mut self, connection: &mut Connection, refused: Refused) -> Result<(), End> {
        if mem::take(&mut self.has_read) {
            self.tell_once(refused)?;
        }
        self.task.position = Position::Earliest;
        let pause = self.lookout.next_pause();
        match connection.ask(&format!("USE {}/{}", self.task.topic, self.task.partition)) {
            Err(Error::Refused(_)) => self.stop.pause(pause),
            Err(error) => Err(error.into()),
            Ok(_) => match connection.ask(&format!("CONSUME earliest wait:{}", pause.as_millis())) {
                Ok(_) | Err(Error::Refused(_)) => self.stop.pause(Duration::ZERO),
                Err(error) => Err(error.into()),
            },
        }
    }

    fn tell_once(&mut self, refused: Refused) -> Result<(), End> {
        if self.told.as_ref() == Some(&refused) {
            return Ok(());
        }
        self.told = Some(refused.clone());
        self.tell(Error::Refused(refused))
    }

    fn tell(&self, error: Error) -> Result<(), End> {
        self.send(Event::Failed { fetcher: self.task.id, error })
    }

    fn send(&self, event: Event) -> Result<(), End> {
        self.task.events.send(event).map_err(|_| End::Stopped)?;
        self.task.waiter.iter().for_each(|waiter| waiter.wake());
        Ok(())
    }
}

fn unexpected(line: &[u8]) -> Error {
    Error::Answer(format!("'{}' answers no FETCH", shown(line)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::peer;
    use std::sync::mpsc;

    #[test]
    fn a_batch_longer_than_what_was_asked_for_is_handed_over_in_pieces() {
        let address = peer(|peer| {
            peer.expect("PING").say("PONG\n");
            peer.expect("FETCH t/0 0 max_bytes:20 wait:0");
            peer.say("RECORDS topic:t partition:0 count:1 next:5 end:5\nBATCH first:0 count:5 timestamp:7 bytes:95\n");
            peer.say(&(0..5).map(|offset| format!("offset:{offset} message:a\n")).collect::<String>());
            peer.expect("FETCH t/0 5 max_bytes:20 wait:5000");
        });
        let (events, arriving) = mpsc::sync_channel(2);
        let task = Task {
            id: 1,
            target: (&address).into(),
            topic: "t".into(),
            partition: 0,
            position: Position::Offset(0),
            isolation: Isolation::ReadCommitted,
            answer_bytes: 20,
            partitions_known: None,
            retry_for: Duration::ZERO,
            events,
            waiter: None,
        };
        let _fetcher = Fetcher::start(task, None).unwrap();
        let pieces: Vec<_> = (arriving.iter().take(3))
            .map(|event| {
                let Event::Read { messages, at_end, .. } = event else { panic!("{event:?}") };
                (messages.iter().map(|message| message.offset).collect::<Vec<_>>(), at_end)
            })
            .collect();
        assert_eq!(pieces, [(vec![0, 1], false), (vec![2, 3], false), (vec![4], true)]);
    }
}

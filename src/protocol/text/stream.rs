//! TAIL: the log's lines, then new ones as they come.

use super::{
    Answered, Flow, Refusal, Session, Stop,
    words::{self, Place, Position, Words, number},
};
use crate::{
    backend::{PartitionHandle, TopicHandle},
    broker::{self, View},
    log::record::write_u64,
    protocol::connection::Output,
};

/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;

/// What a TAIL asks for.
struct Tail {
    topic: TopicHandle,
    positions: Vec<TailPosition>,
    /// Whether it is of the whole topic, whose new partitions it reads too.
    whole: bool,
    count: Option<u64>,
    until_end: bool,
    timestamps: bool,
    view: View,
}

/// How far a partition was streamed.
#[derive(Clone)]
struct TailPosition {
    partition: PartitionHandle,
    next: u64,
    /// Where to end.
    end: Option<u64>,
}

impl TailPosition {
    fn is_at_end(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

impl Tail {
    fn new(session: &mut Session, mut words: Words<'_>) -> Result<Tail, Stop> {
        let place = Place::parse(words.expect("TAIL takes <topic>[/<p>]; the topic")?)?;
        let [from, count, until, timestamps, isolation] =
            words.named(["from", "count", "until", "timestamps", "isolation"])?;
        let view = View::log(words::isolation(isolation)?);
        let topic = session.broker.find_topic(place.topic)?;
        let partitions = match place.partition {
            Some(index) => vec![topic.partition(index)?],
            None => topic.partitions(),
        };
        let flag = |name: &str, word: Option<&[u8]>, wanted: &str| match word {
            None => Ok(false),
            Some(word) if word == wanted.as_bytes() => Ok(true),
            Some(_) => Err(Refusal::invalid(format!("{name} can only be '{wanted}'"))),
        };
        let from = from.map_or(Ok(Position::Latest), Position::parse)?;
        let until_end = flag("until:", until, "end")?;
        let timestamps = flag("timestamps:", timestamps, "yes")?;
        let count = count.map(|count| number("count:", count)).transpose()?;
        let (positions, whole) = (Vec::new(), place.partition.is_none());
        let mut tail = Tail { topic, positions, whole, count, until_end, timestamps, view };
        for partition in partitions {
            let next = session.read.resolve(view.isolation, from, &partition)?;
            let end = partition.end(view.isolation)?;
            tail.positions.push(TailPosition { partition, next, end: until_end.then_some(end) });
        }
        Ok(tail)
    }

    /// Takes partitions that were added since; they are read from their first record.
    fn grow(&mut self) {
        if self.whole && !self.until_end {
            for partition in self.topic.partitions().into_iter().skip(self.positions.len()) {
                self.positions.push(TailPosition { partition, next: 0, end: None });
            }
        }
    }

    fn is_over(&self) -> bool {
        self.count == Some(0) || self.until_end && self.positions.iter().all(TailPosition::is_at_end)
    }
}

impl Session {
    /// `TAIL <topic>[/<p>] [from:<position>=latest] [count:<n>] [until:end] [timestamps:yes] [isolation:=read_committed]`
    pub(super) fn tail(&mut self, words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let mut tail = Tail::new(self, words)?;
        let ends = tail.count.is_some() || tail.until_end;
        match self.stream(&mut tail, output) {
            Ok(true) if ends => {}
            Ok(_) => return Ok(Flow::Close),
            Err(Stop::Refused(refusal)) => {
                // In the midst of a stream there is no other way to say that it ended here.
                refusal.write(&mut output.bytes);
                return Ok(Flow::Close);
            }
            Err(broken) => return Err(broken),
        }
        output.bytes.extend_from_slice(b"END");
        if let (false, [TailPosition { next, .. }]) = (tail.whole, tail.positions.as_slice()) {
            output.bytes.extend_from_slice(b" next:");
            write_u64(&mut output.bytes, *next);
        }
        output.bytes.push(b'\n');
        Ok(Flow::Next)
    }

    /// Streams until it is over (true) or the broker stops (false).
    fn stream(&mut self, tail: &mut Tail, output: &mut Output<'_>) -> Result<bool, Stop> {
        let broker = self.broker.clone();
        while !tail.is_over() {
            let _topic = broker.register(&output.waiter);
            tail.grow();
            let partitions = tail.positions.iter().map(|position| position.partition.clone()).collect::<Vec<_>>();
            let _records = partitions.iter().map(|partition| partition.register(&output.waiter)).collect::<Vec<_>>();
            loop {
                let mut read = false;
                for index in 0..tail.positions.len() {
                    read |= self.stream_some(tail, index, output)?;
                    output.rest()?;
                }
                if output.stopping() {
                    return Ok(false);
                }
                if tail.is_over() || !read {
                    break;
                }
            }
            if tail.is_over() {
                break;
            }
            output.flush()?;
            #[cfg(feature = "http")]
            self.tell_part(output);
            self.read.free();
            if !output.wait(broker.known_until())? && output.stopping() {
                return Ok(false);
            }
            tail.topic.partition(0)?.still_there()?;
        }
        Ok(true)
    }

    /// Sends what one read of one partition gives; answers whether it gave anything.
    fn stream_some(&mut self, tail: &mut Tail, index: usize, output: &mut Output<'_>) -> Result<bool, Stop> {
        if tail.count == Some(0) {
            return Ok(false);
        }
        let TailPosition { partition, next, end } = tail.positions[index].clone();
        if tail.positions[index].is_at_end() {
            return Ok(false);
        }
        match self.read.read(tail.view, &partition, next, READ_BYTES) {
            Err(broker::Error::Corrupt { first, next, place }) => {
                let refusal = Refusal::from(broker::Error::Corrupt { first, next, place });
                self.stage.refuse(&refusal, &mut output.bytes);
                tail.positions[index].next = next;
                output.flush()?;
                return Ok(true);
            }
            read => drop(read?),
        }
        let Some(behind) = self.read.batches().next_offset() else { return Ok(false) };
        self.tell_read();
        self.fetched(self.read.batches().bytes().len(), output);
        let batches = self.read.batches();
        tail.positions[index].next = behind;
        let verbatim = !tail.whole && !tail.timestamps && tail.count.is_none() && end.is_none_or(|end| behind <= end);
        if verbatim && batches.iter().next().is_some_and(|first| first.first() >= next) {
            output.send(batches.bytes())?;
            return Ok(true);
        }
        let lines = batches.iter().flat_map(|batch| batch.lines_from(next).map(move |line| (batch.is_control(), line)));
        for (is_control, line) in lines.filter_map(|(is_control, line)| Some((is_control, line.ok()?))) {
            if tail.count == Some(0) || end.is_some_and(|end| line.offset >= end) {
                tail.positions[index].next = line.offset;
                return Ok(true);
            }
            if tail.whole {
                output.bytes.extend_from_slice(b"partition:");
                write_u64(&mut output.bytes, u64::from(partition.index()));
                output.bytes.push(b' ');
            }
            if tail.timestamps {
                line.write(&mut output.bytes, Some(line.timestamp));
            } else {
                output.bytes.extend_from_slice(line.text);
                output.bytes.push(b'\n');
            }
            tail.count = tail.count.map(|count| count - u64::from(!is_control));
        }
        if output.bytes.len() >= READ_BYTES {
            output.flush()?;
        }
        Ok(true)
    }
}

#[cfg(all(test, feature = "users"))]
mod tests {
    use crate::{
        broker::{Broker, Caller, Protocol, Waiter},
        config::Config,
        protocol::{connection, text, transport::Transport},
        security::{Principal, Proof},
    };
    use std::{
        io::{Read, Write},
        net::{Shutdown, TcpListener, TcpStream},
        sync::atomic::AtomicBool,
        time::{Duration, Instant},
    };

    #[test]
    fn a_tail_ends_with_the_token_of_its_reader_and_says_so() {
        let mut config = Config::in_memory();
        config.security.users = true;
        config.security.super_users.insert("User:alice".into());
        let broker = Broker::open(config).unwrap();
        broker.create_topic("orders", 2).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut reader = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        reader.write_all(b"TAIL orders\n").unwrap();
        let (stream, peer) = listener.accept().unwrap();
        let ends = Some(Instant::now() + Duration::from_secs(1));
        let alice = broker.on_behalf_of(Caller {
            principal: Principal { ends, ..Principal::new("alice", Proof::Token) },
            protocol: Protocol::Text,
            address: Some(peer),
            client_id: String::new(),
        });
        let counted = broker.metrics().connections.connected(peer, 0);
        let (transport, stopping) =
            (Transport::tcp(stream, counted, Duration::from_secs(60)).unwrap(), AtomicBool::new(false));
        let (mut input, mut output) = connection::open(&transport, Waiter::new(), &stopping);
        text::serve(&alice.into(), &mut input, &mut output).unwrap();
        transport.shutdown(Shutdown::Both);
        let mut heard = String::new();
        reader.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "ERROR SASL_AUTHENTICATION_FAILED the token has ended; come again with another\n");
    }
}

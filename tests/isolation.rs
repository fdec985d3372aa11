//! Who sees what of a transaction: readers of committed records and those who read everything, in text and in the library.
//! Transactions are written into the partition itself, as the broker does it for whoever asks.
#![allow(missing_docs, clippy::unwrap_used)]

use plainlog::{
    broker::{Broker, Marker, Partition, Sequence, Terms},
    client::{Consumer, Isolation, Message, Position},
    log::{Numbering, Outcome, batches::Flags, record::Records},
    server::Server,
};
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

const NOW: i64 = 1_700_000_000_000;

/// A broker with a topic `t` of one partition, and its server.
struct World {
    server: Server,
    partition: Arc<Partition>,
    broker: Broker,
}

impl World {
    fn new() -> World {
        let broker = Broker::in_memory();
        broker.create_topic("t", 1).unwrap();
        let partition = broker.topic("t").unwrap().partition(0).unwrap();
        World { server: Server::start(broker.clone(), "localhost:0").unwrap(), partition, broker }
    }

    fn write_at(&self, timestamp: i64, producer_id: Option<i64>, value: &str) {
        let mut records = Records::default();
        records.push(Some(timestamp), None, Some(value.as_bytes().into()));
        let numbering = |producer_id| Numbering { producer_id, producer_epoch: 0, base_sequence: -1 };
        let flags = if producer_id.is_some() { Flags::TRANSACTIONAL } else { Flags::NONE };
        let terms = Terms { flags, producer: producer_id.map(numbering), sequence: Sequence::Next, whole: true };
        self.partition.make_durable(&self.partition.write(&records, terms).unwrap()).unwrap();
    }

    fn plain(&self, value: &str) {
        self.write_at(NOW, None, value);
    }

    fn transact(&self, producer_id: i64, value: &str) {
        self.write_at(NOW, Some(producer_id), value);
    }

    fn end(&self, producer_id: i64, outcome: Outcome) {
        let marker = Marker { producer_id, producer_epoch: 0, outcome, coordinator_epoch: 0 };
        self.partition.make_durable(&self.partition.write_marker(marker).unwrap()).unwrap();
    }

    fn address(&self) -> String {
        format!("localhost:{}", self.server.port())
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(("localhost", self.server.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Client(BufReader::new(stream))
    }

    /// 0 plain, 1 and 3 of a transaction that is open, 2 plain.
    fn with_an_open_transaction() -> World {
        let world = World::new();
        world.plain("a");
        world.transact(7, "b");
        world.plain("c");
        world.transact(7, "d");
        world
    }
}

/// A conversation.
struct Client(BufReader<TcpStream>);

impl Client {
    fn say(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.pop();
        line
    }

    #[track_caller]
    fn expect(&mut self, line: &str, answers: &[&str]) {
        self.say(line);
        for answer in answers {
            assert_eq!(self.line(), *answer, "{line}");
        }
    }
}

const EVERYTHING: &str = "isolation:read_uncommitted";

#[test]
fn an_open_transaction_is_the_end_to_who_reads_committed_records() {
    let world = World::with_an_open_transaction();
    let mut client = world.connect();
    client.expect("USE t", &["OK topic:t partition:0"]);
    client.expect("CONSUME 0", &["MESSAGE offset:0 a"]);
    for waits in ["1", "2", "4", "latest", "time:1700000000001"] {
        client.expect(&format!("CONSUME {waits}"), &["NO_MESSAGE"]);
    }
    client.expect("CONSUME -1", &["MESSAGE offset:0 a"]);
    client.say("CONSUME 5");
    assert!(client.line().starts_with("ERROR OFFSET_OUT_OF_RANGE first:0 end:4 "));
    let batch = ["BATCH first:0 count:1 timestamp:1700000000000 bytes:19", "offset:0 message:a"];
    client.expect("FETCH t/0 0", &["RECORDS topic:t partition:0 count:1 next:1 end:1", batch[0], batch[1]]);
    client.expect("FETCH t/0 2", &["RECORDS topic:t partition:0 count:0 next:2 end:1"]);
    client.expect("TAIL t/0 from:earliest until:end", &["offset:0 message:a", "END next:1"]);
    client.say("JOIN g t from:latest");
    assert!(client.line().ends_with(" generation:1 assigned:t/0"));
    client.expect("SEEK t/0 -1", &["OK offset:0"]);
    client.expect("SEEK t/0 latest", &["OK offset:1"]);
    client.expect("SEEK t/0 3", &["OK offset:3"]);
    client.expect("POLL", &["POLLED count:0 generation:1 assigned:t/0"]);
    client.say("TOPIC t");
    let described = [client.line(), client.line()];
    assert_eq!(described[1], "partition:0 first:0 end:4 stable:1 bytes:76 segments:1");
}

#[test]
fn who_reads_everything_sees_an_open_transaction() {
    let world = World::with_an_open_transaction();
    let mut client = world.connect();
    client.expect("USE t", &["OK topic:t partition:0"]);
    client.expect(&format!("CONSUME 1 {EVERYTHING}"), &["MESSAGE offset:1 b"]);
    client.expect(&format!("CONSUME -1 {EVERYTHING}"), &["MESSAGE offset:3 d"]);
    client.expect(&format!("CONSUME latest {EVERYTHING}"), &["NO_MESSAGE"]);
    client.expect("CONSUME 1", &["NO_MESSAGE"]);
    client.expect(&format!("TAIL t/0 from:3 until:end {EVERYTHING}"), &["offset:3 message:d", "END next:4"]);
    client.say(&format!("FETCH t/0 3 {EVERYTHING}"));
    assert_eq!(client.line(), "RECORDS topic:t partition:0 count:1 next:4 end:4");
    (0..2).for_each(|_| drop(client.line()));
    client.say(&format!("JOIN g t from:latest commit:manual {EVERYTHING}"));
    assert!(client.line().starts_with("JOINED"));
    client.expect("SEEK t/0 2", &["OK offset:2"]);
    client.say("POLL");
    let polled = [client.line(), client.line(), client.line()];
    assert_eq!(polled[0], "POLLED count:2 generation:1 assigned:t/0");
    for line in [
        "CONSUME 0 isolation:",
        "TAIL t isolation:none",
        "FETCH t/0 0 isolation:READ_COMMITTED",
        "JOIN g t isolation:x",
    ] {
        client.say(line);
        let refused = client.line();
        assert!(refused.starts_with("ERROR INVALID_REQUEST isolation: can be "), "{line}: {refused}");
    }
}

/// What is committed is there; of what is aborted only who reads everything sees something, and who watches sees the markers.
#[test]
fn the_end_of_a_transaction_shows_its_records_or_hides_them_for_good() {
    for (outcome, marker) in [(Outcome::Commit, "control:commit"), (Outcome::Abort, "control:abort first:1")] {
        let world = World::with_an_open_transaction();
        world.end(7, outcome);
        world.transact(7, "e");
        world.end(7, Outcome::Commit);
        let is_committed = outcome == Outcome::Commit;
        let seen =
            |offsets: [u64; 5]| offsets.into_iter().filter(move |offset| is_committed || !matches!(offset, 1 | 3));
        let seen: Vec<_> =
            seen([0, 1, 2, 3, 5]).map(|offset| (offset, ["a", "b", "c", "d", "", "e"][offset as usize])).collect();
        let mut client = world.connect();
        client.expect("USE t", &["OK topic:t partition:0"]);
        for from in 0..7 {
            let next = seen.iter().find(|(offset, _)| *offset >= from);
            let answer = next.map_or("NO_MESSAGE".into(), |(offset, value)| format!("MESSAGE offset:{offset} {value}"));
            client.expect(&format!("CONSUME {from}"), &[&answer]);
            let tailed = seen.iter().filter(|(offset, _)| *offset >= from);
            let mut tailed: Vec<_> = tailed.map(|(offset, value)| format!("offset:{offset} message:{value}")).collect();
            tailed.push("END next:7".into());
            let lines: Vec<_> = tailed.iter().map(String::as_str).collect();
            client.expect(&format!("TAIL t/0 from:{from} until:end"), &lines);
            client.say(&format!("FETCH t/0 {from}"));
            let (mut count, mut fetched) = (0, String::new());
            let first = client.line();
            for _ in 0..first.split(" count:").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap() {
                assert!(client.line().starts_with("BATCH "));
                fetched += &client.line();
                count += 1;
            }
            assert!(first.ends_with(" next:7 end:7"), "{first}");
            assert_eq!((count, fetched), (lines.len() - 1, lines[..lines.len() - 1].concat()));
        }
        let marker = format!("offset:4 {marker}");
        let watched = ["offset:2 message:c", "offset:3 message:d", &marker, "offset:5 message:e"];
        client.say(&format!("TAIL t/0 from:2 count:3 {EVERYTHING}"));
        assert_eq!([(); 4].map(|()| client.line()), watched, "markers are not counted");
        assert_eq!(client.line(), "END next:6");
        client.say(&format!("FETCH t/0 4 max_bytes:1 {EVERYTHING}"));
        assert_eq!(client.line(), "RECORDS topic:t partition:0 count:1 next:5 end:7");
        assert!(client.line().starts_with("BATCH first:4 count:1 "));
        assert_eq!(client.line(), marker);
        client.expect(&format!("CONSUME 4 {EVERYTHING}"), &["MESSAGE offset:5 e"]);
    }
}

#[test]
fn whoever_waits_is_woken_by_the_commit() {
    let world = World::with_an_open_transaction();
    let [mut consumes, mut fetches, mut tails, mut polls] = [(); 4].map(|()| world.connect());
    consumes.expect("USE t", &["OK topic:t partition:0"]);
    consumes.say("CONSUME 1 wait:60000");
    fetches.say("FETCH t/0 1 wait:60000");
    tails.say("TAIL t/0 from:1");
    polls.say("JOIN g t from:1");
    assert!(polls.line().starts_with("JOINED"));
    polls.say("POLL wait:60000");
    // Once more what they must not be woken by for good.
    world.plain("e");
    world.end(7, Outcome::Commit);
    assert_eq!(consumes.line(), "MESSAGE offset:1 b");
    assert!(fetches.line().starts_with("RECORDS topic:t partition:0 count:"));
    assert_eq!(
        [(); 4].map(|()| tails.line()),
        ["offset:1 message:b", "offset:2 message:c", "offset:3 message:d", "offset:4 message:e"]
    );
    assert_eq!(polls.line(), "POLLED count:4 generation:1 assigned:t/0");
}

/// A FETCH that finds only what was aborted waits on behind it, and whoever asks goes on from there.
#[test]
fn who_waits_behind_what_was_aborted_goes_on_behind_it() {
    let world = World::with_an_open_transaction();
    world.end(7, Outcome::Abort);
    let mut client = world.connect();
    client.expect("FETCH t/0 3", &["RECORDS topic:t partition:0 count:0 next:5 end:5"]);
    client.say("FETCH t/0 3 wait:60000");
    let mut other = world.connect();
    other.expect("PING", &["PONG"]);
    world.plain("e");
    assert_eq!(client.line(), "RECORDS topic:t partition:0 count:1 next:6 end:6");
}

/// A time means the first record at or after it that the reader sees, whatever was aborted in between.
#[test]
fn positions_by_time_pass_over_what_was_aborted() {
    let world = World::new();
    world.write_at(NOW + 100, Some(7), "aborted");
    world.end(7, Outcome::Abort);
    world.write_at(NOW, None, "earlier");
    world.write_at(NOW + 200, Some(8), "committed");
    world.write_at(NOW + 300, Some(9), "open");
    world.end(8, Outcome::Commit);
    let mut client = world.connect();
    client.expect("USE t", &["OK topic:t partition:0"]);
    client.expect(&format!("CONSUME time:{}", NOW + 50), &["MESSAGE offset:3 committed"]);
    client.expect(&format!("CONSUME time:{} {EVERYTHING}", NOW + 50), &["MESSAGE offset:0 aborted"]);
    client.expect(&format!("CONSUME time:{}", NOW + 250), &["NO_MESSAGE"]);
    client.expect(&format!("CONSUME time:{} {EVERYTHING}", NOW + 250), &["MESSAGE offset:4 open"]);
    client.say("JOIN g t");
    assert!(client.line().starts_with("JOINED"));
    client.expect(&format!("SEEK t/0 time:{}", NOW + 50), &["OK offset:3"]);
    client.expect(&format!("SEEK t/0 time:{}", NOW + 250), &["OK offset:4"]);
}

/// GROUP told a lag of 1 for good of a group that had read all of a topic that ends with a marker.
#[test]
fn a_group_that_has_read_everything_lags_behind_by_nothing() {
    let world = World::with_an_open_transaction();
    let mut client = world.connect();
    client.say("JOIN g t");
    client.line();
    client.expect("POLL", &["POLLED count:1 generation:1 assigned:t/0"]);
    client.line();
    world.end(7, Outcome::Abort);
    client.expect("POLL", &["POLLED count:1 generation:1 assigned:t/0"]);
    client.line();
    world.transact(7, "e");
    world.end(7, Outcome::Abort);
    (0..2).for_each(|_| client.expect("POLL", &["POLLED count:0 generation:1 assigned:t/0"]));
    client.say("GROUP g");
    let told = [(); 3].map(|()| client.line());
    assert_eq!(told[2], "topic:t partition:0 committed:7 end:7 lag:0");
}

fn values(messages: Vec<Message>) -> Vec<String> {
    messages.into_iter().map(|message| String::from_utf8(message.value.unwrap()).unwrap()).collect()
}

/// Polls until everything was read to its end.
fn read_all(mut consumer: Consumer) -> Vec<String> {
    let mut read = vec![];
    while !consumer.at_end() {
        read.extend(values(consumer.poll(Duration::from_millis(10), 100).unwrap()));
    }
    read
}

#[test]
fn the_librarys_consumers_read_committed_records_unless_they_say_otherwise() {
    let world = World::with_an_open_transaction();
    world.transact(8, "e");
    world.end(8, Outcome::Abort);
    let consumers = || [Consumer::embedded(&world.broker), Consumer::connect(&world.address()).unwrap()];
    let all = |level: Isolation, group: &str| -> Vec<Vec<String>> {
        let read = |consumer: Consumer| {
            let consumer = consumer.isolation(level);
            read_all(
                if group.is_empty() { consumer } else { consumer.group(group).auto_commit(false) }
                    .subscribe(&["t"])
                    .unwrap(),
            )
        };
        consumers().into_iter().map(read).collect()
    };
    for group in ["", "g"] {
        assert_eq!(all(Isolation::ReadUncommitted, group), [["a", "b", "c", "d", "e"]; 2]);
        assert_eq!(all(Isolation::ReadCommitted, group), [["a"]; 2]);
    }
    world.end(7, Outcome::Commit);
    for group in ["", "g"] {
        assert_eq!(all(Isolation::ReadUncommitted, group), [["a", "b", "c", "d", "e"]; 2]);
        assert_eq!(all(Isolation::ReadCommitted, group), [["a", "b", "c", "d"]; 2]);
    }
    let from = consumers().map(|consumer| read_all(consumer.start_at(Position::Offset(3)).subscribe(&["t"]).unwrap()));
    assert_eq!(from, [["d"]; 2]);
}

#[test]
fn consumers_that_wait_read_what_is_committed_meanwhile() {
    let world = World::with_an_open_transaction();
    let consumers = [Consumer::embedded(&world.broker), Consumer::connect(&world.address()).unwrap()];
    thread::scope(|scope| {
        let wait = |consumer: Consumer| {
            let mut consumer = consumer.start_at(Position::Offset(1)).subscribe(&["t"]).unwrap();
            move || loop {
                let read = values(consumer.poll(Duration::from_secs(60), 100).unwrap());
                if !read.is_empty() {
                    return read;
                }
            }
        };
        let waiting = consumers.map(|consumer| scope.spawn(wait(consumer)));
        world.end(7, Outcome::Commit);
        for waits in waiting {
            assert_eq!(waits.join().unwrap()[0], "b");
        }
    });
}

#[test]
fn the_consumer_program_reads_what_is_committed_unless_it_is_told_otherwise() {
    let world = World::with_an_open_transaction();
    let consume = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_consumer"));
        command.args(["--broker", &world.address(), "--topic", "t", "--exit-at-end", "--raw"]).args(more);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(consume(&[]), (Some(0), "a\n".into()));
    for group in [&[][..], &["--group", "g"]] {
        let everything = [group, &["--isolation", "read_uncommitted"]].concat();
        assert_eq!(consume(&everything), (Some(0), "a\nb\nc\nd\n".into()));
    }
    assert_eq!(consume(&["--isolation", "none"]), (Some(2), String::new()));
}

//! The anomalies that transactions may have, looked for in a random workload of many clients on a broker that is killed again
//! and again.
//!
//! ```text
//! writers    BEGIN, records in several partitions, then END, ABORT or a connection that breaks
//! fencer     BEGINs with a writer's id in the midst of that
//! readers    follow each partition, and see committed records only
//! copiers    a group that copies `in` to `out`, each batch and its offsets in one transaction
//! feeder     writes `in`
//! ```
//!
//! What must not be: a **lost write** (END was answered OK and a record is missing), an **aborted read** (a reader has a record of
//! a transaction that was aborted, G1a), a **read of an open transaction** (a reader has a record before its END was sent), a
//! **torn transaction** (some of its records are there), a **duplicate**, and **offsets without their records** (the group
//! is further than what was copied, or not as far).
#![allow(clippy::unwrap_used)]

mod common;

use common::{Broker, Ends, LONG, Random};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::*},
        mpsc::{self, Sender},
    },
    thread,
};

const LIVES: u64 = 6;
const WRITERS: u64 = 4;
const COPIERS: u64 = 2;
/// A life of the broker ends after so many transactions and copied batches.
const EVENTS: usize = 150;
/// The partitions that writers write to.
const PLACES: [&str; 3] = ["a/0", "a/1", "b/0"];
const IN: [&str; 2] = ["in/0", "in/1"];
const OUT: [&str; 2] = ["out/0", "out/1"];

/// A conversation that a kill may end at any moment: then every call answers `None`.
struct Talk(BufReader<TcpStream>);

impl Talk {
    fn with(address: &str) -> Option<Talk> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(LONG)).ok()?;
        Some(Talk(BufReader::new(stream)))
    }

    fn say(&mut self, lines: &str) -> Option<()> {
        self.0.get_mut().write_all(lines.as_bytes()).ok()
    }

    /// The next line; what a kill cut short is none.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).ok()?;
        Some(line.strip_suffix('\n')?.to_string())
    }

    fn ask(&mut self, line: &str) -> Option<String> {
        self.say(&format!("{line}\n"))?;
        self.line()
    }
}

/// The value behind `name:` in an answer.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let found = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("there is no {name}: in '{line}'"))
}

/// What is known of a transaction.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// Nobody may see a record of it.
    Open,
    /// END was sent: anybody may, or nobody ever.
    Ending,
    Committed,
    Aborted,
}

/// A transaction of a writer.
#[derive(Debug)]
struct Written {
    fate: Fate,
    /// Partition and value of each record.
    records: Vec<(&'static str, String)>,
}

/// What all of the workload share.
struct World {
    address: String,
    /// The broker is about to be killed, so whoever loses its connection is through.
    ending: AtomicBool,
    written: Mutex<BTreeMap<String, Written>>,
    /// How far each reader has come.
    read_to: BTreeMap<&'static str, AtomicU64>,
    fed: AtomicU64,
}

impl World {
    fn fate_of(&self, name: &str) -> Fate {
        self.written.lock().unwrap()[name].fate
    }

    fn set_fate(&self, name: &str, fate: Fate) {
        self.written.lock().unwrap().get_mut(name).unwrap().fate = fate;
    }

    /// A connection, as often as it takes; `None` once the broker is about to be killed.
    fn connect(&self) -> Option<Talk> {
        loop {
            match Talk::with(&self.address) {
                Some(talk) => return Some(talk),
                None if self.ending.load(Acquire) => return None,
                None => thread::yield_now(),
            }
        }
    }
}

/// A writer with its transactional id.
struct Writer {
    id: String,
    round: u64,
    dice: Random,
    /// A transaction of which it is not known how it ended, and the producer's id and epoch that its records bear.
    in_doubt: Option<(String, String)>,
}

impl Writer {
    /// Writes transactions until the broker is killed.
    fn run(&mut self, world: &World, events: &Sender<()>) {
        while let Some(mut talk) = world.connect() {
            while self.transaction(world, &mut talk).is_some() {
                if events.send(()).is_err() {
                    return;
                }
            }
            if world.ending.load(Acquire) {
                return;
            }
        }
    }

    /// Begins, and settles what was in doubt. Answers the producer's id and epoch.
    fn begin(&mut self, world: &World, talk: &mut Talk) -> Option<String> {
        let answer = talk.ask(&format!("BEGIN {}", self.id))?;
        if answer.starts_with("ERROR CONCURRENT_TRANSACTIONS") {
            return None;
        }
        assert!(answer.starts_with("OK "), "BEGIN is answered '{answer}'");
        if let Some((name, pair)) = self.in_doubt.take() {
            let last = format!("{} {}", field(&answer, "last_id"), field(&answer, "last_epoch"));
            let committed = last == pair && field(&answer, "last") == "commit";
            world.set_fate(&name, if committed { Fate::Committed } else { Fate::Aborted });
        }
        Some(format!("{} {}", field(&answer, "producer_id"), field(&answer, "epoch")))
    }

    /// One transaction; `None`: the connection is gone, or was given up.
    fn transaction(&mut self, world: &World, talk: &mut Talk) -> Option<()> {
        let pair = self.begin(world, talk)?;
        self.round += 1;
        let name = format!("{}.{}", self.id, self.round);
        let count = 1 + self.dice.below(6);
        let place = |dice: &mut Random| PLACES[dice.below(PLACES.len() as u64) as usize];
        let records: Vec<_> = (0..count).map(|index| (place(&mut self.dice), format!("{name}.{index}"))).collect();
        let lines: String = records.iter().map(|(place, value)| format!("SEND {place} message:{value}\n")).collect();
        world.written.lock().unwrap().insert(name.clone(), Written { fate: Fate::Open, records });
        let pipelined = self.dice.below(2) == 0;
        let written = self.write(talk, &lines, if pipelined { 0 } else { count });
        if written.is_none() || self.dice.below(10) == 0 {
            // The connection broke, or breaks now.
            world.set_fate(&name, Fate::Aborted);
            return None;
        }
        if self.dice.below(5) == 0 {
            world.set_fate(&name, Fate::Aborted);
            talk.say("ABORT\n")?;
        } else {
            world.set_fate(&name, Fate::Ending);
            self.in_doubt = Some((name.clone(), pair));
            talk.say("END\n")?;
        }
        for _ in 0..if pipelined { count } else { 0 } {
            talk.line()?;
        }
        let answer = talk.line()?;
        if self.in_doubt.take().is_some() {
            let refused = answer.starts_with("ERROR PRODUCER_FENCED") || answer.starts_with("ERROR INVALID_TXN_STATE");
            assert!(answer == "OK" || refused, "END is answered '{answer}'");
            world.set_fate(&name, if answer == "OK" { Fate::Committed } else { Fate::Aborted });
        }
        Some(())
    }

    /// Sends lines and reads so many answers.
    fn write(&self, talk: &mut Talk, lines: &str, answers: u64) -> Option<()> {
        talk.say(lines)?;
        (0..answers).try_for_each(|_| talk.line().map(drop))
    }
}

/// Takes writers' ids away from them now and then.
fn fence(world: &World, mut dice: Random) {
    while let Some(mut talk) = world.connect() {
        loop {
            let id = format!("writer-{}", dice.below(WRITERS));
            let Some(_) = talk.ask(&format!("BEGIN {id}")).and_then(|_| talk.ask("ABORT")) else { break };
            for _ in 0..20 {
                if talk.ask("CONSUME latest wait:1").is_none() {
                    break;
                }
            }
        }
        if world.ending.load(Acquire) {
            return;
        }
    }
}

/// Follows a partition until the broker is killed.
fn read(world: &World, place: &'static str) {
    while let Some(mut talk) = world.connect() {
        let next = &world.read_to[place];
        if talk.say(&format!("TAIL {place} from:{}\n", next.load(Acquire))).is_some() {
            while let Some(line) = talk.line() {
                let (offset, value) = record(&line);
                let fate = world.fate_of(value.rsplit_once('.').unwrap().0);
                assert!(
                    matches!(fate, Fate::Ending | Fate::Committed),
                    "{place}: a reader has '{line}' of a transaction that is {fate:?}"
                );
                next.store(offset + 1, Release);
            }
        }
        if world.ending.load(Acquire) {
            return;
        }
    }
}

/// Offset and value of a line of the log.
fn record(line: &str) -> (u64, &str) {
    let fields = line.strip_prefix("offset:").unwrap_or_else(|| panic!("'{line}' is no record"));
    let (offset, fields) = fields.split_once(' ').unwrap();
    (offset.parse().unwrap(), fields.split_once("message:").unwrap().1)
}

/// Writes ever new numbers to `in`.
fn feed(world: &World) {
    while let Some(mut talk) = world.connect() {
        loop {
            let number = world.fed.fetch_add(1, AcqRel);
            if talk.ask(&format!("SEND {} message:{number}", IN[number as usize % IN.len()])).is_none() {
                break;
            }
        }
        if world.ending.load(Acquire) {
            return;
        }
    }
}

/// Copies `in` to `out` as a member of the group, until the broker is killed.
fn copy(world: &World, id: u64, mut dice: Random, events: &Sender<()>) {
    while let Some(mut talk) = world.connect() {
        if talk.ask("JOIN copy in commit:manual session:6000").is_some() {
            while copy_some(&mut talk, id, &mut dice).is_some() {
                if events.send(()).is_err() {
                    return;
                }
            }
        }
        if world.ending.load(Acquire) {
            return;
        }
    }
}

/// Copies what one poll gives; `None`: something was refused, the connection is gone, or was given up.
fn copy_some(talk: &mut Talk, id: u64, dice: &mut Random) -> Option<()> {
    let polled = talk.ask("POLL max:5 wait:50")?;
    if !polled.starts_with("POLLED ") {
        return None;
    }
    let count: usize = field(&polled, "count").parse().unwrap();
    let lines: Vec<_> = (0..count).map_while(|_| talk.line()).collect();
    if lines.len() < count || count == 0 {
        return (count == 0).then_some(());
    }
    if !talk.ask(&format!("BEGIN copier-{id}"))?.starts_with("OK ") {
        return None;
    }
    for line in &lines {
        let value = line.split_once("message:").unwrap().1;
        let out = OUT[field(line, "partition").parse::<usize>().unwrap()];
        talk.say(&format!("SEND {out} message:{value}\n"))?;
    }
    match dice.below(12) {
        0 => return None,
        1 => talk.say("COMMIT\nABORT\n")?,
        _ => talk.say("COMMIT\nEND\n")?,
    }
    let answers: Vec<_> = (0..count + 2).map_while(|_| talk.line()).collect();
    (answers.len() == count + 2 && answers.iter().all(|answer| !answer.starts_with("ERROR"))).then_some(())
}

/// The values of a partition with their offsets, as readers of committed records find them.
fn values(broker: &Broker, place: &str) -> Vec<(u64, String)> {
    let mut lines = broker.connect();
    lines.say(&format!("TAIL {place} from:earliest until:end\n"));
    let mut found = Vec::new();
    loop {
        let line = lines.line();
        if line.starts_with("END next:") {
            return found;
        }
        let (offset, value) = record(&line);
        found.push((offset, value.to_string()));
    }
}

/// Each partition of `out` has what the group has read of `in`, once and in order.
fn check_copies(broker: &Broker) {
    let mut lines = broker.connect();
    let head = lines.say("GROUP copy\n").line();
    let count: usize = field(&head, "count").parse().unwrap();
    let mut committed = [0; IN.len()];
    for _ in 0..count {
        let line = lines.line();
        if line.starts_with("topic:in ") {
            committed[field(&line, "partition").parse::<usize>().unwrap()] =
                field(&line, "committed").parse().unwrap_or(0);
        }
    }
    for (index, &committed) in committed.iter().enumerate() {
        let read = values(broker, IN[index]).into_iter().filter(|(offset, _)| *offset < committed);
        let read: Vec<_> = read.map(|(_, value)| value).collect();
        let copied: Vec<_> = values(broker, OUT[index]).into_iter().map(|(_, value)| value).collect();
        assert_eq!(copied, read, "{} against {} up to offset {committed}", OUT[index], IN[index]);
    }
}

/// Each transaction whose fate is known is there whole, once and in its order, or not at all.
fn check_transactions(broker: &Broker, world: &World) {
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for place in PLACES {
        let values: Vec<_> = values(broker, place).into_iter().map(|(_, value)| value).collect();
        let different: BTreeSet<_> = values.iter().collect();
        assert_eq!(different.len(), values.len(), "{place} has a record twice");
        found.insert(place, values);
    }
    for (name, Written { fate, records }) in &*world.written.lock().unwrap() {
        for place in PLACES {
            let of_this = |value: &&String| value.rsplit_once('.').unwrap().0 == name;
            let there: Vec<_> = found[place].iter().filter(of_this).collect();
            let expected: Vec<_> = records.iter().filter(|(of, _)| *of == place).map(|(_, value)| value).collect();
            match fate {
                Fate::Committed => assert_eq!(there, expected, "{name} in {place} was committed"),
                Fate::Aborted => assert!(there.is_empty(), "{name} in {place} was aborted: {there:?}"),
                Fate::Open | Fate::Ending => panic!("nobody knows what became of {name}"),
            }
        }
    }
}

#[test]
fn a_random_workload_under_kills_shows_no_anomaly() {
    let mut broker = Broker::on_disk();
    broker.expect(
        "CREATE a partitions:2\nCREATE b partitions:1\nCREATE in partitions:2\nCREATE out partitions:2\n",
        &["OK", "OK", "OK", "OK"],
    );
    let world = World {
        address: broker.address.clone(),
        ending: AtomicBool::new(false),
        written: Mutex::default(),
        read_to: PLACES.into_iter().map(|place| (place, AtomicU64::new(0))).collect(),
        fed: AtomicU64::new(0),
    };
    let mut writers: Vec<_> = (0..WRITERS)
        .map(|id| Writer { id: format!("writer-{id}"), round: 0, dice: Random(id), in_doubt: None })
        .collect();
    for life in 0..LIVES {
        world.ending.store(false, Release);
        let (sender, events) = mpsc::channel();
        thread::scope(|scope| {
            for writer in &mut writers {
                let (world, sender) = (&world, sender.clone());
                scope.spawn(move || writer.run(world, &sender));
            }
            for id in 0..COPIERS {
                let (world, sender) = (&world, sender.clone());
                scope.spawn(move || copy(world, id, Random(100 * life + id), &sender));
            }
            PLACES.into_iter().for_each(|place| drop(scope.spawn(|| read(&world, place))));
            scope.spawn(|| fence(&world, Random(life)));
            scope.spawn(|| feed(&world));
            let ends = Ends(&world.ending);
            assert_eq!(events.iter().take(EVENTS).count(), EVENTS);
            drop(ends);
            broker.kill();
        });
        broker.restart();
        // What the kill left in doubt is told by the id's next BEGIN.
        for writer in &mut writers {
            let mut talk = Talk::with(&world.address).unwrap();
            writer.begin(&world, &mut talk).unwrap();
        }
        check_transactions(&broker, &world);
        check_copies(&broker);
    }
    let fates = world.written.lock().unwrap();
    let count = |fate| fates.values().filter(|written| written.fate == fate).count();
    assert!(count(Fate::Committed) > 20 && count(Fate::Aborted) > 20, "the workload did not do what it is for");
    assert!(OUT.iter().any(|place| values(&broker, place).len() > 20), "next to nothing was copied");
}

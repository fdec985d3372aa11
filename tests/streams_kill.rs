//! Words are counted exactly once while those who count, and the broker, are killed, or hang for longer than they may.
//!
//! `KILLS=100 cargo test --test streams_kill` kills more often than each run does; `SEED` has it done otherwise.
#![cfg(feature = "streams")]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Broker, Ends, Random, example, signal, until};
use plainlog::{Consumer, Producer, Record};
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::Acquire},
    thread,
    time::{Duration, Instant},
};

const WORDS: u64 = 40;
const PARTITIONS: u32 = 3;
/// How long it may take until all is counted once nobody is killed any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process of `examples/word_count.rs`, with its state in a folder of its own.
struct Counter {
    command: Command,
    child: Child,
    folder: PathBuf,
}

impl Counter {
    fn start(program: &Path, address: &str, folder: PathBuf) -> Counter {
        let mut command = Command::new(program);
        command.args(["--broker", address, "--state-dir"]).arg(&folder).stdin(Stdio::null());
        Counter { child: command.spawn().unwrap(), command, folder }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// One alone could count everything, so what gives up is to be found.
    fn has_not_ended(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "{} has ended", self.folder.display());
    }

    fn restart(&mut self) {
        self.kill();
        self.child = self.command.spawn().unwrap();
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Sends lines, each once, whether or not the broker is there, until it is told to stop; answers how often it sent each word.
fn produce(address: &str, stop: &AtomicBool) -> BTreeMap<String, i64> {
    let mut producer = Producer::connect(address).unwrap();
    let (mut random, mut sent) = (Random(7), BTreeMap::new());
    while !stop.load(Acquire) {
        let mut line = || {
            let words: Vec<_> = (0..=random.below(3)).map(|_| format!("word-{}", random.below(WORDS))).collect();
            words.iter().for_each(|word| *sent.entry(word.clone()).or_default() += 1);
            Record::new(words.join(" "))
        };
        let lines: Vec<Record> = (0..20).map(|_| line()).collect();
        producer.send_batch("lines", lines).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    sent
}

/// The counts of each word, in the order in which they were written, once there are as many as words were sent.
fn counted(address: &str, sent: &BTreeMap<String, i64>) -> BTreeMap<String, Vec<i64>> {
    let mut consumer = Consumer::connect(address).unwrap().subscribe(&["counts"]).unwrap();
    let (total, begun) = (sent.values().sum::<i64>() as usize, Instant::now());
    let (mut found, mut count) = (BTreeMap::<String, Vec<i64>>::new(), 0);
    while count < total {
        for message in consumer.poll(Duration::from_secs(1), 10_000).unwrap() {
            let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap()).unwrap();
            found.entry(text(message.key)).or_default().push(text(message.value).parse().unwrap());
            count += 1;
        }
        assert!(begun.elapsed() < PATIENCE, "{count} of {total} were counted");
    }
    // What is there twice may come behind.
    assert!(consumer.poll(Duration::from_millis(500), 1).unwrap().is_empty(), "more was counted than was sent");
    found
}

fn is_exact(found: &BTreeMap<String, Vec<i64>>, sent: &BTreeMap<String, i64>) {
    assert_eq!(found.keys().collect::<Vec<_>>(), sent.keys().collect::<Vec<_>>());
    for (word, counts) in found {
        let wrong = (1..).zip(counts).find(|(expected, count)| expected != *count);
        assert_eq!(wrong, None, "{word}: expected and found");
        assert_eq!(counts.len() as i64, sent[word], "{word}");
    }
}

/// Has words counted while `trouble` goes on.
fn while_words_are_counted(name: &str, trouble: impl FnOnce(&mut Broker, &mut [Counter; 2])) {
    let mut broker = Broker::on_disk();
    broker.expect(
        &format!("CREATE lines partitions:{PARTITIONS}\nCREATE counts partitions:{PARTITIONS}\n"),
        &["OK", "OK"],
    );
    let (address, program) = (broker.address.clone(), example("word_count"));
    let folder = |number| env::temp_dir().join(format!("plainlog-{name}-{number}-{}", std::process::id()));
    let mut counters = [0, 1].map(|number| Counter::start(&program, &address, folder(number)));
    let stop = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let producer = scope.spawn(|| produce(&address, &stop));
        let ends = Ends(&stop);
        trouble(&mut broker, &mut counters);
        drop(ends);
        producer.join().unwrap()
    });
    is_exact(&counted(&address, &sent), &sent);
    counters.iter_mut().for_each(Counter::has_not_ended);
}

#[test]
fn each_word_counts_once_whoever_is_killed() {
    let kills = env::var("KILLS").map_or(6, |kills| kills.parse().unwrap());
    while_words_are_counted("streams-kill", |broker, counters| {
        let mut random = Random(env::var("SEED").map_or(1, |seed| seed.parse().unwrap()));
        for _ in 0..kills {
            thread::sleep(Duration::from_millis(random.below(700)));
            counters.iter_mut().for_each(Counter::has_not_ended);
            match random.below(5) {
                0 | 1 => counters[0].restart(),
                2 => counters[1].restart(),
                3 => broker.restart(),
                _ => {
                    counters.iter_mut().for_each(Counter::kill);
                    broker.restart();
                    counters.iter_mut().for_each(Counter::restart);
                }
            }
        }
    });
}

/// Longer than a transaction may take, not as long as the session of a member: nobody takes over from it.
const HANGS: Duration = Duration::from_secs(12);

#[test]
fn each_word_counts_once_though_one_hangs_in_a_transaction() {
    while_words_are_counted("streams-hang", |broker, counters| {
        until("each counts", || {
            let mut group = broker.connect();
            let told = group.say("GROUP word-count\n").line();
            // The members are told first.
            told.contains(" members:2 ")
                && [group.line(), group.line()].iter().all(|one| one.contains(" assigned:lines/"))
        });
        // In the midst of what it counts.
        thread::sleep(Duration::from_millis(300));
        signal(&counters[0].child, "STOP");
        thread::sleep(HANGS);
        signal(&counters[0].child, "CONT");
        thread::sleep(Duration::from_secs(1));
    });
}

//! The same topologies in Kafka Streams and in ours, each in its test driver, on the same seeded records: what comes out of every
//! record is the same.
//!
//! It wants a command that speaks the lines of `tests/interop/clients/java/Topologies.java`, so a plain `cargo test` leaves it out:
//! `KAFKA_STREAMS="java -cp ... Topologies" cargo test --test streams_kafka`, which is what `tests/interop/run operators` does.
//! `SEEDS` is how many seeds each topology gets (20), `ONLY` how the names of those begin that are run (all).
#![cfg(feature = "streams")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::Random;
use plainlog::{
    Record,
    streams::{
        Hopping, JoinWindow, Serde, Sessions, Sliding, Stream, Table, TestDriver, Topology, Tumbling, WindowKey,
        Windows,
    },
};
use std::{
    env, fmt,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

const TOPOLOGIES: [&str; 51] = [
    "group-count",
    "group-reduce",
    "group-list",
    "group-counts",
    "group-filtered",
    "table-filter",
    "table-map",
    "table-stored",
    "table-count",
    "table-reduce",
    "table-list",
    "window-tumbling-count",
    "window-tumbling-reduce",
    "window-tumbling-list",
    "window-tumbling-closed",
    "window-tumbling-filtered",
    "window-hopping-count",
    "window-hopping-reduce",
    "window-hopping-list",
    "window-hopping-closed",
    "window-hopping-filtered",
    "window-sliding-count",
    "window-sliding-reduce",
    "window-sliding-list",
    "window-sliding-closed",
    "window-sliding-filtered",
    "session-count",
    "session-reduce",
    "session-list",
    "session-closed",
    "streams-inner",
    "streams-left",
    "streams-outer",
    "streams-self",
    "streams-inner-ahead",
    "streams-left-ahead",
    "streams-outer-ahead",
    "lookup-inner",
    "lookup-left",
    "lookup-filtered",
    "lookup-global",
    "lookup-globalleft",
    "tables-inner",
    "tables-left",
    "tables-outer",
    "tables-filtered",
    "tables-grouped",
    "tables-twice",
    "foreign-inner",
    "foreign-left",
    "foreign-grouped",
];

#[test]
fn every_operator_gives_the_results_of_kafka_streams() {
    let command = env::var("KAFKA_STREAMS").expect("KAFKA_STREAMS is the command that runs Topologies.java");
    let mut java = Java::start(&command);
    let seeds: u64 = env::var("SEEDS").map_or(20, |seeds| seeds.parse().unwrap());
    let only = env::var("ONLY").unwrap_or_default();
    let mut wrong = Vec::new();
    for name in TOPOLOGIES.into_iter().filter(|name| name.starts_with(&only)) {
        let mut results = 0;
        let differs = (0..seeds).find_map(|seed| compare(&mut java, name, seed, &mut results));
        match differs.or((results == 0).then(|| "no results".into())) {
            None => println!("{name}: {results} results"),
            Some(first) => {
                println!("{name}: differs");
                wrong.push(format!("{name}: {first}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), TOPOLOGIES.len(), wrong.join("\n"));
}

/// Runs a topology on both sides; answers with the first difference.
fn compare(java: &mut Java, name: &str, seed: u64, results: &mut usize) -> Option<String> {
    let topology = Topology::new("app");
    build(&topology, name);
    let mut driver = TestDriver::new(&topology).unwrap();
    java.say(&format!("topology {name}"));
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut time = 0;
    let mut lines = Vec::new();
    for _ in 0..80 {
        let input = Input::next(&mut random, &mut time, name);
        lines.push(input.to_string());
        let word = |word: &Option<String>| word.clone().map(String::into_bytes);
        let record = Record { key: word(&input.key), value: word(&input.value), ..Record::default() };
        driver.pipe(input.topic, record.timestamp(input.time)).unwrap();
        let ours = driver.lines("out");
        let theirs = java.ask(&input.to_string());
        *results += theirs.len();
        if ours != theirs {
            return Some(format!(
                "seed {seed}\n  in\n    {}\n  ours\n    {}\n  Kafka's\n    {}",
                lines.join("\n    "),
                ours.join("\n    "),
                theirs.join("\n    ")
            ));
        }
    }
    None
}

/// A record to pipe in.
struct Input {
    topic: &'static str,
    key: Option<String>,
    value: Option<String>,
    time: i64,
}

impl Input {
    /// Mostly in order, sometimes late, seldom far ahead; with nulls.
    fn next(random: &mut Random, time: &mut i64, name: &str) -> Input {
        *time += match random.below(30) {
            0 => 60,
            1..9 => 0,
            step => step as i64 % 7,
        };
        let late = if random.below(3) == 0 { random.below(35) as i64 } else { 0 };
        let two = ["streams", "lookup", "tables", "foreign"].iter().any(|kind| name.starts_with(kind))
            && !name.ends_with("self");
        let topic = if two && random.below(2) == 0 { "right" } else { "left" };
        let nulls = if ["table", "lookup", "foreign"].iter().any(|kind| name.starts_with(kind)) { 6 } else { 30 };
        Input {
            topic,
            key: (random.below(25) > 0).then(|| format!("k{}", random.below(4))),
            value: (random.below(nulls) > 0).then(|| (random.below(21) as i64 - 10).to_string()),
            time: (*time - late).max(0),
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let null = || "-".to_string();
        let (key, value) = (self.key.clone().unwrap_or_else(null), self.value.clone().unwrap_or_else(null));
        write!(f, "{} {key} {value} {}", self.topic, self.time)
    }
}

/// The other side.
struct Java {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Java {
    fn start(command: &str) -> Java {
        let mut words = command.split_whitespace();
        let mut child = Command::new(words.next().unwrap())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Java { child, stdin, stdout }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    fn ask(&mut self, line: &str) -> Vec<String> {
        self.say(line);
        let lines = (&mut self.stdout).lines().map(|line| line.unwrap());
        let mut ended = false;
        let answer = lines.take_while(|line| {
            ended = line == ".";
            !ended
        });
        let answer = answer.collect();
        assert!(ended, "Kafka Streams ended at {line}");
        answer
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn out<K: WindowKey, V: Serde>(table: &Table<K, V>) {
    table.to("out");
}

/// What Java does in its `build`.
fn build(topology: &Topology, name: &str) {
    let (kind, what) = name.split_once('-').unwrap();
    let left = || topology.stream_of::<String, i64>("left");
    let right = || topology.stream_of::<String, i64>("right");
    let left_table = || topology.table_of::<String, i64>("left", "l");
    let right_table = || topology.table_of::<String, i64>("right", "r");
    let foreign = |value: &i64| (value % 5 != 0).then(|| format!("k{}", value.abs() % 4));
    let other = |other: Option<&i64>| other.map_or("null".to_string(), i64::to_string);
    match kind {
        "group" => {
            let by_key = left().group_by_key();
            match what {
                "count" => left().group_by(|_, v| (v.abs() % 3).to_string()).count("s").to("out"),
                "reduce" => by_key.reduce("s", |a, b| a + b).to("out"),
                "list" => by_key.aggregate("s", String::new, |_, v, list| format!("{list},{v}")).to("out"),
                "counts" => {
                    by_key.count("s").group_by(|_, count| ((count % 3).to_string(), *count)).count("t").to("out")
                }
                "filtered" => by_key.count("s").filter(|_, count| count % 3 == 0).to("out"),
                _ => panic!("{name}"),
            }
        }
        "table" => {
            let table = left_table();
            let by_rest = |table: &Table<String, i64>| table.group_by(|_, v| ((v % 3).to_string(), *v));
            match what {
                "filter" => table.filter(|_, v| v % 2 == 0).to("out"),
                "map" => table.map_values(|_, v| format!("v{v}")).to("out"),
                "stored" => table.filter(|_, v| v % 2 == 0).map_values(|_, v| v * 2).stored("m").to("out"),
                "count" => by_rest(&table).count("s").to("out"),
                "reduce" => by_rest(&table.filter(|_, v| *v > -5)).reduce("s", |a, b| a + b, |a, b| a - b).to("out"),
                "list" => by_rest(&table)
                    .aggregate("s", String::new, |_, v, a| format!("{a}+{v}"), |_, v, a| format!("{a}-{v}"))
                    .to("out"),
                _ => panic!("{name}"),
            }
        }
        "window" => {
            let (kind, what) = what.split_once('-').unwrap();
            let windows: Windows = match kind {
                "tumbling" => Tumbling::of(ms(20)).grace(ms(10)).into(),
                "hopping" => Hopping::of(ms(20), ms(6)).grace(ms(10)).into(),
                _ => Sliding::of(ms(20)).grace(ms(15)).into(),
            };
            let windowed = with_value(&left()).group_by_key().window(windows);
            match what {
                "count" => out(&windowed.count("s")),
                "reduce" => out(&windowed.reduce("s", |a, b| a + b)),
                "list" => out(&windowed.aggregate("s", String::new, |_, v, list| format!("{list},{v}"))),
                "closed" => out(&windowed.reduce("s", |a, b| a + b).until_closed("c")),
                "filtered" => out(&windowed.count("s").filter(|_, count| *count != 2)),
                _ => panic!("{name}"),
            }
        }
        "session" => {
            let sessions = with_value(&left()).group_by_key().sessions(Sessions::of(ms(8)).grace(ms(10)));
            match what {
                "count" => out(&sessions.count("s")),
                "reduce" => out(&sessions.reduce("s", |a, b| a + b)),
                "list" => out(&sessions.aggregate(
                    "s",
                    String::new,
                    |_, v, list| format!("{list},{v}"),
                    |_, a, b| format!("{a}/{b}"),
                )),
                "closed" => out(&sessions.count("s").until_closed("c")),
                _ => panic!("{name}"),
            }
        }
        "streams" => {
            let even = JoinWindow::of(ms(10)).grace(ms(15));
            let window = if what.ends_with("ahead") { even.before(ms(3)).after(ms(12)) } else { even };
            let both = |l: &i64, r: &i64| format!("{l}/{r}");
            match what.split('-').next().unwrap() {
                "inner" => left().join("j", &right(), window, both).to("out"),
                "left" => left().left_join("j", &right(), window, move |l, r| format!("{l}/{}", other(r))).to("out"),
                "outer" => {
                    let join = move |l: Option<&i64>, r: Option<&i64>| format!("{}/{}", other(l), other(r));
                    left().outer_join("j", &right(), window, join).to("out")
                }
                "self" => left().join("j", &left(), window, both).to("out"),
                _ => panic!("{name}"),
            }
        }
        "lookup" => {
            let left_joined = move |l: &i64, r: Option<&i64>| format!("{l}/{}", other(r));
            match what {
                "inner" => left().join_table("j", &right_table(), |l, r| format!("{l}/{r}")).to("out"),
                "left" => left().left_join_table("j", &right_table(), left_joined).to("out"),
                "filtered" => {
                    let table = right_table().filter(|_, v| v % 2 == 0).map_values(|_, v| v + 1);
                    left().left_join_table("j", &table, left_joined).to("out")
                }
                "global" => {
                    let table = topology.global_table_of::<String, i64>("right", "r");
                    left().join_global(&table, move |_, v| foreign(v), |l, r| format!("{l}/{r}")).to("out")
                }
                "globalleft" => {
                    let table = topology.global_table_of::<String, i64>("right", "r");
                    left().left_join_global(&table, move |_, v| foreign(v), left_joined).to("out")
                }
                _ => panic!("{name}"),
            }
        }
        "tables" => {
            let (l, r) = (left_table(), right_table());
            let outer = move |l: Option<&i64>, r: Option<&i64>| format!("{}/{}", other(l), other(r));
            match what {
                "inner" => l.join("j", &r, |l, r| format!("{l}/{r}")).to("out"),
                "left" => l.left_join("j", &r, move |l, r| format!("{l}/{}", other(r))).to("out"),
                "outer" => l.outer_join("j", &r, outer).to("out"),
                "filtered" => l
                    .filter(|_, v| *v > 0)
                    .outer_join("j", &r.map_values(|_, v| v * 2), outer)
                    .filter(|_, v| v.len() % 2 == 1)
                    .to("out"),
                "grouped" => l
                    .left_join("j", &r, |l, r| l + r.unwrap_or(&0))
                    .group_by(|_, v| ((v % 2).to_string(), *v))
                    .reduce("s", |a, b| a + b, |a, b| a - b)
                    .to("out"),
                "twice" => l.join("j", &r, |l, r| l + r).outer_join("k", &r, outer).to("out"),
                _ => panic!("{name}"),
            }
        }
        _ => {
            let (l, r) = (left_table(), right_table());
            match what {
                "inner" => l.join_by("f", &r, move |_, v| foreign(v), |l, r| format!("{l}/{r}")).to("out"),
                "left" => {
                    l.left_join_by("f", &r, move |_, v| foreign(v), move |l, r| format!("{l}/{}", other(r))).to("out")
                }
                "grouped" => l
                    .join_by("f", &r, move |_, v| foreign(v), |l, r| l + r)
                    .group_by(|_, v| ((v % 2).to_string(), *v))
                    .reduce("s", |a, b| a + b, |a, b| a - b)
                    .to("out"),
                _ => panic!("{name}"),
            }
        }
    }
}

/// Java's functions would meet null values that ours do not.
fn with_value(stream: &Stream<String, i64>) -> Stream<String, i64> {
    stream.nullable().filter(|_, value| value.is_some()).flatten()
}

//! Steps that know nothing beyond the record in hand, failures, processors and their times.

use super::{driver, pipe};
use crate::streams::{
    Clock, Done, Entry, Event, Failure, Handler, Handlers, Processor, ProcessorContext, Punctuation, StoreSpec,
    TaskOptions, TestDriver, Topology,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

const LINES: [&str; 3] = ["a=one two @5", "-=three @3", "b=- @9"];

#[test]
fn values_change_and_keys_stay() {
    let mut driver = driver(|topology| {
        let lines = topology.stream("in");
        lines.map_values(|line| line.len()).to("lengths");
        lines.flat_map_values(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>()).to("words");
        lines.filter(|_, line| line.contains('o')).to("with-o");
        lines.filter_not(|key, _| key.is_some()).to("without-key");
    });
    pipe(&mut driver, "in", &LINES).unwrap();
    assert_eq!(driver.lines("lengths"), ["a=7 @5", "-=5 @3", "b=- @9"]);
    assert_eq!(driver.lines("words"), ["a=one @5", "a=two @5", "-=three @3"]);
    assert_eq!(driver.lines("with-o"), ["a=one two @5", "b=- @9"]);
    assert_eq!(driver.lines("without-key"), ["-=three @3", "b=- @9"]);
    assert_eq!(driver.counts().skipped, 1, "a null has no words");
}

#[test]
fn keys_are_made_of_records() {
    let mut driver = driver(|topology| {
        let lines = topology.stream("in");
        lines.select_key(|_, line| line.len() as u64).to("by-length");
        lines.map(|key, line| (line.clone(), key.is_some())).to("turned");
        lines.flat_map(|_, line| line.chars().take(2).map(|one| (one, 1i64)).collect::<Vec<_>>()).to("letters");
        lines.select_key(|_, line| line.clone()).repartition("again").to("again");
    });
    pipe(&mut driver, "in", &LINES).unwrap();
    assert_eq!(driver.lines("by-length"), ["7=one two @5", "5=three @3"]);
    assert_eq!(driver.lines("turned"), ["one two=true @5", "three=false @3"]);
    assert_eq!(driver.lines("letters"), ["o=1 @5", "n=1 @5", "t=1 @3", "h=1 @3"]);
    assert_eq!(driver.lines("again"), ["one two=one two @5", "three=three @3"]);
    assert_eq!(driver.lines("app-again-repartition").len(), 2);
}

#[test]
fn streams_part_and_meet() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let mut driver = driver(move |topology| {
        let (long, short) = topology.stream("in").branch(|_, line| line.len() > 5);
        let other = topology.stream("other").peek(move |_, line| log.lock().unwrap().push(line.clone()));
        long.merge(&other).to("long");
        short.to_by(|key, _| format!("short-{}", key.map_or("none", String::as_str)));
        topology.stream("in").through("copy").map_values(String::len).to("lengths");
    });
    pipe(&mut driver, "in", &LINES).unwrap();
    pipe(&mut driver, "other", &["c=x @1"]).unwrap();
    assert_eq!(driver.lines("long"), ["a=one two @5", "c=x @1"]);
    assert_eq!(driver.lines("short-none"), ["-=three @3"]);
    assert_eq!(driver.lines("short-b"), ["b=- @9"]);
    assert_eq!(driver.lines("lengths"), ["a=7 @5", "-=5 @3", "b=- @9"]);
    assert_eq!(*seen.lock().unwrap(), ["x"]);
}

#[test]
fn nulls_can_be_seen() {
    let mut driver = driver(|topology| {
        let shown = topology.stream("in").nullable();
        shown.map_values(|value| value.as_ref().map_or(0, String::len)).to("lengths");
        shown.filter(|_, value| value.is_none()).flatten().to("nulls");
    });
    pipe(&mut driver, "in", &LINES).unwrap();
    assert_eq!(driver.lines("lengths"), ["a=7 @5", "-=5 @3", "b=0 @9"]);
    assert_eq!(driver.lines("nulls"), ["b=- @9"]);
}

#[test]
fn the_time_can_be_in_the_record() {
    let mut driver = driver(|topology| {
        let time = |event: &Event<String, i64>, _| event.value.unwrap_or(-1);
        topology.stream_at("in", time).to("out");
    });
    pipe(&mut driver, "in", &["a=7 @100"]).unwrap();
    assert_eq!(driver.lines("out"), ["a=7 @7"]);
    let error = pipe(&mut driver, "in", &["a=- @100"]).unwrap_err();
    assert_eq!(error.to_string(), "the record at in/0 offset 1 failed: it has no time, but -1");
}

fn with_handler(handler: Handler) -> TestDriver {
    let topology = Topology::new("app");
    let numbers = topology.stream_of::<String, i64>("in");
    // What it did before it failed does not count.
    numbers.to("before");
    numbers.try_map_values(|n| if *n < 0 { Err(Failure::new("negative")) } else { Ok(*n) }).to("out");
    let handlers = Handlers { unreadable: handler.clone(), refused: handler };
    TestDriver::with_options(&topology, &TaskOptions { handlers, max_idle: 0 }).unwrap()
}

#[test]
fn a_failed_record_stops_goes_or_is_kept_as_a_dead_letter() {
    let lines = ["a=1 @1", "b=x @2", "c=-3 @3", "d=4 @-1", "e=5 @5"];
    let mut fails = with_handler(Handler::Fail);
    let error = pipe(&mut fails, "in", &lines).unwrap_err();
    let text = "the record at in/0 offset 1 failed: the value does not parse: \"x\": invalid digit found in string";
    assert_eq!(error.to_string(), text);

    let mut skips = with_handler(Handler::Skip);
    pipe(&mut skips, "in", &lines).unwrap();
    assert_eq!(skips.lines("out"), ["a=1 @1", "e=5 @5"]);
    assert_eq!(skips.lines("before"), ["a=1 @1", "e=5 @5"]);
    assert_eq!((skips.counts().failed, skips.counts().processed), (3, 5));

    let mut keeps = with_handler(Handler::DeadLetter("dead".into()));
    pipe(&mut keeps, "in", &lines).unwrap();
    let first: Event<String, String> = keeps.read("dead").unwrap().unwrap();
    let headers: Vec<_> = (first.headers.iter())
        .map(|(name, value)| format!("{}: {}", text_of(name), text_of(value.as_deref().unwrap_or_default())))
        .collect();
    let reason = "failed.reason: the value does not parse: \"x\": invalid digit found in string";
    assert_eq!(headers, [reason, "failed.application: app", "failed.place: in/0 offset 1"]);
    assert_eq!(keeps.lines("dead"), ["c=-3 @3", "d=4 @0"]);
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_is_wrong_with_a_topology_is_said_by_name_when_it_starts() {
    let topology = Topology::new("app");
    let lines = topology.stream("in");
    lines.repartition("twice").repartition("twice").to("a b");
    topology.stream_of::<String, i64>("in").to("out");
    let error = TestDriver::new(&topology).map(drop).unwrap_err().to_string();
    for part in ["the name \"twice\" is used twice", "\"in\" is read twice", "a b"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let nothing = TestDriver::new(&Topology::new("app")).map(drop).unwrap_err().to_string();
    assert_eq!(nothing, "the topology \"app\" reads no topic");
}

/// Says how many records of each key there were, when asked to.
struct Tally(Clock);

impl Processor<String, String> for Tally {
    type Key = String;
    type Value = i64;

    fn init(&mut self, context: &mut ProcessorContext<'_, String, i64>) -> Done {
        context.schedule(self.0, Duration::from_millis(10));
        Ok(())
    }

    fn process(&mut self, context: &mut ProcessorContext<'_, String, i64>, event: Event<String, String>) -> Done {
        let tally = context.key_value::<String, i64>("tally")?;
        let key = event.key.unwrap_or_default();
        let before = tally.get(context, &key)?.map_or(0, |stored| stored.value);
        tally.put(context, &key, Some(&(before + 1)), event.timestamp);
        if event.value.is_none() {
            return Err(Failure::new("no value"));
        }
        Ok(())
    }

    fn punctuate(&mut self, context: &mut ProcessorContext<'_, String, i64>, at: Punctuation) -> Done {
        for Entry { key, stored } in context.key_value::<String, i64>("tally")?.all(context)? {
            context.forward(Event::new(key, stored.value, at.time))?;
        }
        Ok(())
    }
}

fn tally(clock: Clock) -> TestDriver {
    let topology = Topology::new("app");
    topology.add_store(StoreSpec::key_value("tally"));
    topology.stream("in").process("count", &["tally"], move || Tally(clock)).to("out");
    let handlers = Handlers { refused: Handler::Skip, ..Handlers::default() };
    TestDriver::with_options(&topology, &TaskOptions { handlers, max_idle: 0 }).unwrap()
}

#[test]
fn processors_are_called_by_stream_time() {
    let mut driver = tally(Clock::Stream);
    pipe(&mut driver, "in", &["a=1 @5", "a=1 @9", "b=1 @12", "a=- @13", "b=1 @55", "b=1 @59", "a=1 @60"]).unwrap();
    let expected = ["a=1 @5", "a=2 @12", "b=1 @12", "a=2 @55", "b=2 @55", "a=3 @60", "b=3 @60"];
    assert_eq!(driver.lines("out"), expected, "and what failed stored nothing");
    assert_eq!(driver.lines("app-tally-changelog").last().unwrap(), "a=3 @60");
}

#[test]
fn processors_are_called_by_the_clock_on_the_wall() {
    let mut driver = tally(Clock::Wall);
    pipe(&mut driver, "in", &["a=1 @5"]).unwrap();
    driver.advance(Duration::from_millis(9)).unwrap();
    assert!(driver.lines("out").is_empty());
    driver.advance(Duration::from_millis(26)).unwrap();
    driver.advance(Duration::from_millis(4)).unwrap();
    assert_eq!(driver.lines("out"), ["a=1 @35"]);
    driver.advance(Duration::from_millis(1)).unwrap();
    assert_eq!(driver.lines("out"), ["a=1 @40"]);
}

#[test]
fn a_processor_names_its_stores() {
    let topology = Topology::new("app");
    topology.stream("in").process("count", &["tally"], || Tally(Clock::Wall)).to("out");
    let error = TestDriver::new(&topology).map(drop).unwrap_err().to_string();
    assert_eq!(error, "count uses the store \"tally\", which there is not");
}

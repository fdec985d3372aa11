//! Topologies at work: on a broker in this process and over the network, over restarts, in several processes at once.
#![cfg(feature = "streams")]
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{until, wait_for};
use plainlog::{
    Broker, Consumer, Producer, Record,
    streams::{Done, Event, Handler, Handlers, Options, Processor, ProcessorContext, StoreSpec, Topology, Tumbling},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Counts each key.
struct Counter;

impl Processor<String, String> for Counter {
    type Key = String;
    type Value = i64;

    fn process(&mut self, context: &mut ProcessorContext<'_, String, i64>, event: Event<String, String>) -> Done {
        let counts = context.key_value::<String, i64>("counts")?;
        let key = event.key.unwrap_or_default();
        assert_ne!(key, "panic", "a word that the counter does not like");
        let count = counts.get(context, &key)?.map_or(0, |stored| stored.value) + 1;
        counts.put(context, &key, Some(&count), event.timestamp);
        context.forward(Event::new(key, count, event.timestamp))
    }
}

fn word_count() -> Topology {
    let topology = Topology::new("words");
    topology.add_store(StoreSpec::key_value("counts"));
    topology
        .stream("lines")
        .flat_map_values(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .select_key(|_, word: &String| word.clone())
        .repartition("by-word")
        .process("count", &["counts"], || Counter)
        .to("counts");
    topology
}

fn options() -> Options {
    Options { commit_interval: Duration::from_millis(20), ..Options::default() }
}

/// The records of a topic up to `count`, as `key=value`, by key.
fn results(mut consumer: Consumer, count: usize) -> BTreeMap<String, Vec<i64>> {
    let (mut found, mut left, begun) = (BTreeMap::<String, Vec<i64>>::new(), count, Instant::now());
    while left > 0 {
        for message in consumer.poll(Duration::from_secs(1), 1000).unwrap() {
            let value = String::from_utf8(message.value.unwrap()).unwrap().parse().unwrap();
            found.entry(String::from_utf8(message.key.unwrap()).unwrap()).or_default().push(value);
            left = left.checked_sub(1).unwrap_or_else(|| panic!("more than {count} results: {found:?}"));
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{left} of {count} results are missing: {found:?}");
    }
    found
}

fn is_each_once(found: &BTreeMap<String, Vec<i64>>) -> bool {
    found.values().all(|values| values.iter().copied().eq(1..=values.len() as i64))
}

#[test]
fn each_record_counts_once_over_restarts_and_rebalances() {
    let broker = Broker::in_memory();
    broker.create_topic("lines", 3).unwrap();
    let mut producer = Producer::embedded(&broker);
    let words = ["a", "b", "c", "d", "e", "f", "g"];
    let mut send = |from: usize| {
        for number in from..from + 100 {
            producer.send("lines", Record::new(format!("{} {}", words[number % 7], words[number % 3]))).unwrap();
        }
    };
    let first = word_count().start_embedded(&broker, options()).unwrap();
    send(0);
    let second = word_count().start_embedded(&broker, Options { threads: 2, ..options() }).unwrap();
    send(100);
    assert!(is_each_once(&results(Consumer::embedded(&broker).subscribe(&["counts"]).unwrap(), 400)));
    first.stop().unwrap();
    send(200);
    assert!(is_each_once(&results(Consumer::embedded(&broker).subscribe(&["counts"]).unwrap(), 600)));
    second.stop().unwrap();
    send(300);
    let third = word_count().start_embedded(&broker, options()).unwrap();
    let found = results(Consumer::embedded(&broker).subscribe(&["counts"]).unwrap(), 800);
    third.stop().unwrap();
    assert!(is_each_once(&found), "{found:?}");
    assert_eq!(found.values().map(Vec::len).sum::<usize>(), 800);
}

#[test]
fn a_panic_is_a_record_that_failed() {
    let broker = Broker::in_memory();
    broker.create_topic("lines", 1).unwrap();
    let mut producer = Producer::embedded(&broker);
    ["a", "b panic a", "b panic"].iter().for_each(|line| _ = producer.send("lines", *line).unwrap());
    let app = word_count().start_embedded(&broker, options()).unwrap();
    let error = app.wait().unwrap_err().to_string();
    assert!(error.contains("words-by-word-repartition/0 offset 2 failed: a panic: assertion"), "{error}");
    let handlers = Handlers { refused: Handler::Skip, ..Handlers::default() };
    let app = word_count().start_embedded(&broker, Options { handlers, ..options() }).unwrap();
    let found = results(Consumer::embedded(&broker).subscribe(&["counts"]).unwrap(), 4);
    app.stop().unwrap();
    assert_eq!(found, [("a".into(), vec![1, 2]), ("b".into(), vec![1, 2])].into());
}

#[test]
fn state_on_disk_is_gone_on_with_and_can_be_asked() {
    let served = common::Broker::start();
    let dir = std::env::temp_dir().join(format!("plainlog-streams-{}", std::process::id()));
    let topology = Topology::new("clicks");
    topology
        .stream("clicks")
        .group_by_key()
        .window(Tumbling::of(Duration::from_secs(10)).grace(Duration::from_secs(10)))
        .count("windows")
        .to("counts");
    let options = || Options { state_dir: dir.clone(), ..options() };
    let mut producer = Producer::connect(&served.address).unwrap();
    let mut click = |times: &[i64]| {
        for time in times {
            producer.send("clicks", Record::new("x").key("ann").timestamp(*time)).unwrap();
        }
    };
    let counts = || Consumer::connect(&served.address).unwrap().subscribe(&["counts"]).unwrap();
    click(&[1_000, 2_000, 45_000]);
    let app = topology.start(&served.address, options()).unwrap();
    results(counts(), 3);
    app.stop().unwrap();
    assert!(dir.join("clicks/0_0.redb").exists());
    // The stream time is known again: what is late stays late.
    click(&[3_000, 46_000]);
    let app = topology.start(&served.address, options()).unwrap();
    let found = results(counts(), 4);
    assert_eq!(found, [("ann@0".into(), vec![1, 2]), ("ann@40000".into(), vec![1, 2])].into());
    let asked = wait_for("the state has followed", || {
        let found = app.window_store::<String, i64>("windows").unwrap().fetch("ann", 0, 60_000).unwrap();
        // The state follows once the results count.
        (found.len() == 1 && found[0].stored.value == 2).then_some(found)
    });
    let asked: Vec<_> = asked.into_iter().map(|one| (one.key.start, one.stored.value, one.stored.timestamp)).collect();
    assert_eq!(asked, [(40_000, 2, 46_000)], "the window that is over is kept no longer");
    assert!(app.owner("windows", &"ann".to_string()).unwrap().unwrap().is_here);
    let error = app.session_store::<String, i64>("windows").map(drop).unwrap_err().to_string();
    assert_eq!(error, "windows is no store of sessions");
    let metrics = app.metrics();
    for line in [
        "plainlog_streams_records_total{application=\"clicks\",kind=\"late\"} 1",
        "plainlog_streams_records_total{application=\"clicks\",kind=\"restored\"} 0",
        "plainlog_streams_tasks{application=\"clicks\"} 1",
        "plainlog_streams_lag_records{application=\"clicks\",topic=\"clicks\",partition=\"0\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} is missing in:\n{metrics}");
    }
    app.stop().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    // Without its files it reads the changelog; after a reset it begins anew.
    click(&[47_000]);
    let app = topology.start(&served.address, options()).unwrap();
    assert_eq!(results(counts(), 5)["ann@40000"], [1, 2, 3]);
    let error = topology.reset(&served.address).unwrap_err().to_string();
    assert!(error.contains("NON_EMPTY_GROUP"), "{error}");
    app.stop().unwrap();
    topology.reset(&served.address).unwrap();
    let app = topology.start(&served.address, options()).unwrap();
    assert_eq!(results(counts(), 10)["ann@40000"], [1, 2, 3, 1, 2, 3]);
    app.stop().unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_global_table_is_read_before_anything_runs_and_followed_after() {
    let broker = Broker::in_memory();
    broker.create_topic("names", 2).unwrap();
    broker.create_topic("orders", 3).unwrap();
    let mut producer = Producer::embedded(&broker);
    ["1", "2", "3"].iter().for_each(|key| _ = producer.send("names", (*key, format!("n{key}"))).unwrap());
    ["1", "2", "3", "4"].iter().for_each(|key| _ = producer.send("orders", (*key, *key)).unwrap());
    let topology = Topology::new("named");
    let names = topology.global_table("names", "names");
    topology
        .stream("orders")
        .join_global(&names, |_, order: &String| Some(order.clone()), |order, name| format!("{order} {name}"))
        .to("named");
    let app = topology.start_embedded(&broker, options()).unwrap();
    let mut consumer = Consumer::embedded(&broker).subscribe(&["named"]).unwrap();
    let mut read = |count: usize| {
        let mut found = Vec::new();
        let begun = Instant::now();
        while found.len() < count {
            assert!(begun.elapsed() < Duration::from_secs(60), "{found:?}");
            let messages = consumer.poll(Duration::from_secs(1), 10).unwrap();
            found.extend(messages.into_iter().map(|message| String::from_utf8(message.value.unwrap()).unwrap()));
        }
        found.sort();
        found
    };
    assert_eq!(read(3), ["1 n1", "2 n2", "3 n3"]);
    producer.send("names", ("4", "late")).unwrap();
    // The table is followed, but not waited for.
    until("the late name is found", || {
        producer.send("orders", ("4", "4")).unwrap();
        app.totals().counts.sent > 3
    });
    assert_eq!(read(1)[0], "4 late");
    app.stop().unwrap();
}

#[test]
fn what_cannot_run_is_said_at_the_start_by_name() {
    let broker = Broker::in_memory();
    broker.create_topic("a", 2).unwrap();
    broker.create_topic("b", 3).unwrap();
    let topology = Topology::new("joins");
    let b = topology.table("b", "bs");
    topology.stream("a").join_table("joined", &b, |a, b| format!("{a}{b}")).to("c");
    let error = topology.start_embedded(&broker, options()).map(drop).unwrap_err().to_string();
    assert!(error.contains("a has 2, b has 3"), "{error}");
}

#[test]
fn a_topic_that_goes_or_grows_ends_what_has_state_of_it() {
    let broker = Broker::in_memory();
    broker.create_topic("lines", 1).unwrap();
    let counts = |name: &str| {
        let topology = Topology::new(name);
        topology.stream("lines").group_by_key().count("counts").to("out");
        topology
    };
    let app = counts("grown").start_embedded(&broker, options()).unwrap();
    wait_for("the state has an owner", || app.owner("counts", &"a".to_string()).unwrap());
    broker.alter_topic("lines", Some(2), &Default::default()).unwrap();
    let error = app.wait().unwrap_err().to_string();
    assert!(error.contains("lines was given partition 1, for which the store counts has no changelog"), "{error}");
    let app = counts("gone").start_embedded(&broker, options()).unwrap();
    wait_for("the state has an owner", || app.owner("counts", &"a".to_string()).unwrap());
    broker.drop_topic("lines").unwrap();
    let error = app.wait().unwrap_err().to_string();
    assert!(error.contains("lines"), "{error}");
}

#[test]
fn topics_of_different_partition_counts_can_be_merged_where_nothing_is_stored() {
    let broker = Broker::in_memory();
    broker.create_topic("wide", 4).unwrap();
    broker.create_topic("narrow", 1).unwrap();
    let topology = Topology::new("merged");
    topology.stream("wide").merge(&topology.stream("narrow")).to("counts");
    let app = topology.start_embedded(&broker, options()).unwrap();
    let mut producer = Producer::embedded(&broker);
    for partition in 0..4 {
        producer.send("wide", Record::new("1").key(partition.to_string()).partition(partition)).unwrap();
    }
    producer.send("narrow", ("0", "2")).unwrap();
    let found = results(Consumer::embedded(&broker).subscribe(&["counts"]).unwrap(), 5);
    app.stop().unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    let slow = Options { commit_interval: Duration::from_secs(60), ..Options::default() };
    let error = topology.start_embedded(&broker, slow).map(drop).unwrap_err().to_string();
    assert!(error.contains("commit interval"), "{error}");
}

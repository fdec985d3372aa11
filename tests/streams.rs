//! Topologies at work: on a broker in this process and over the network, over restarts, in several processes at once.
#![cfg(feature = "streams")]
#![allow(missing_docs, clippy::unwrap_used)]

use plainlog::{
    Broker, Consumer, Producer, Record,
    streams::{Done, Event, Handler, Handlers, Options, Processor, ProcessorContext, StoreSpec, Topology},
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
        let count = counts.get(&**context, &key)?.map_or(0, |stored| stored.value) + 1;
        counts.put(&mut **context, &key, Some(&count), event.timestamp);
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
            left -= 1;
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
    ["a", "b panic a", "b"].iter().for_each(|line| _ = producer.send("lines", *line).unwrap());
    let app = word_count().start_embedded(&broker, options()).unwrap();
    let error = app.wait().unwrap_err().to_string();
    assert!(error.contains("words-by-word-repartition/0 offset 2 failed: a panic: assertion"), "{error}");
    let handlers = Handlers { refused: Handler::Skip, ..Handlers::default() };
    let app = word_count().start_embedded(&broker, Options { handlers, ..options() }).unwrap();
    let found = results(Consumer::embedded(&broker).subscribe(&["counts"]).unwrap(), 4);
    app.stop().unwrap();
    assert_eq!(found, [("a".into(), vec![1, 2]), ("b".into(), vec![1, 2])].into());
}

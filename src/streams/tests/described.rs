//! What a topology is, and what queries see of it.

use super::pipe;
use crate::streams::{Error, JoinWindow, Sessions, Stored, TestDriver, Topology, Tumbling};
use std::time::Duration;

fn word_count() -> Topology {
    let topology = Topology::new("word-count");
    topology
        .stream("lines")
        .flat_map_values(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .group_by(|_, word| word.clone())
        .window(Tumbling::of(Duration::from_secs(60)).grace(Duration::from_secs(10)))
        .count("counts")
        .to("counts-by-minute");
    topology
}

#[test]
fn a_topology_is_described() {
    let text = "\
word-count
  sub-topology 0
    source-0 reads lines
      -> flat-map-values-1
    flat-map-values-1
      -> select-key-2
    select-key-2
      -> with-key-3
    with-key-3
      -> sink-4
    sink-4 writes word-count-counts-repartition
  sub-topology 1
    source-5 reads word-count-counts-repartition
      -> window-6
    window-6 with counts
      -> to-stream-7
    to-stream-7
      -> sink-8
    sink-8 writes counts-by-minute
  topics of its own
    word-count-counts-repartition
    word-count-counts-changelog compacted, kept for 70000 ms
";
    assert_eq!(word_count().describe(), text);
}

#[test]
fn a_topology_is_drawn() {
    let text = "\
flowchart TD
    subgraph sub-topology-0
        source-0[\"source-0\"]
        table-1[\"table-1\"]
        to-stream-2[\"to-stream-2\"]
        sink-3[\"sink-3\"]
        store-last[(\"last\")]
    end
    topic-in([\"in\"])
    topic-out([\"out\"])
    source-0 --> table-1
    topic-in --> source-0
    table-1 --- store-last
    table-1 --> to-stream-2
    to-stream-2 --> sink-3
    sink-3 --> topic-out
";
    let topology = Topology::new("app");
    topology.table("in", "last").to("out");
    assert_eq!(topology.mermaid(), text);
}

#[test]
fn stores_can_be_looked_into() {
    let mut driver = TestDriver::new(&word_count()).unwrap();
    pipe(&mut driver, "lines", &["-=hello world @5", "-=hello @70000", "-=hello @6"]).unwrap();
    let counts = driver.window_store::<String, i64>("counts").unwrap();
    let stored = |value, timestamp| Stored { value, timestamp };
    assert_eq!(counts.get("hello", 60_000).unwrap(), Some(stored(1, 70_000)));
    assert_eq!(counts.get("hello", 1).unwrap(), None);
    let all = counts.fetch("hello", 0, 100_000).unwrap();
    let all: Vec<_> = all.into_iter().map(|entry| (entry.key.start, entry.stored)).collect();
    assert_eq!(all, [(0, stored(1, 5)), (60_000, stored(1, 70_000))]);
    assert_eq!(driver.counts().late, 1);
    let error = driver.key_value_store::<String, i64>("counts").map(drop).unwrap_err();
    assert_eq!(error.to_string(), "counts is no store of values by key");
    assert!(driver.key_value_store::<String, i64>("none").is_err());
}

#[test]
fn sessions_and_tables_can_be_looked_into() {
    let topology = Topology::new("app");
    let clicks = topology.stream("clicks").group_by_key();
    clicks.sessions(Sessions::of(Duration::from_millis(10))).count("sessions").to("out");
    topology.table("users", "users").to("out");
    let mut driver = TestDriver::new(&topology).unwrap();
    pipe(&mut driver, "clicks", &["a=x @5", "a=y @12", "b=z @13"]).unwrap();
    pipe(&mut driver, "users", &["a=ann @1", "b=bo @2"]).unwrap();
    let sessions = driver.session_store::<String, i64>("sessions").unwrap().fetch("a").unwrap();
    let shown: Vec<_> = sessions.iter().map(|one| (one.key.start, one.key.end, one.stored.value)).collect();
    assert_eq!(shown, [(5, 12, 2)]);
    let users = driver.key_value_store::<String, String>("users").unwrap();
    assert_eq!(users.get("b").unwrap().unwrap().value, "bo");
    assert_eq!(users.all().unwrap().len(), 2);
}

#[test]
fn topics_between_sub_topologies_have_the_partitions_that_joins_need() {
    let topology = Topology::new("app");
    let by_value = topology.stream("a").select_key(|_, value| value.clone());
    by_value.join_table("with-b", &topology.table("b", "b"), |a, b| format!("{a}{b}")).to("out");
    by_value.repartition_into("fixed", 7).group_by_key().count("counts").to("out");
    by_value.group_by(|_, value| value.clone()).count("alone").to("out");
    let plan = topology.plan().unwrap();
    let counts = plan.partitions(|topic| Some(if topic == "a" { 3 } else { 5 })).unwrap();
    let shown: Vec<_> = counts.iter().map(|(topic, count)| format!("{topic} {count}")).collect();
    assert_eq!(shown, ["app-alone-repartition 3", "app-fixed-repartition 7", "app-with-b-repartition 5"]);
    let missing = plan.partitions(|topic| (topic == "a").then_some(3)).unwrap_err();
    assert_eq!(missing.to_string(), "there is no topic b");
}

#[test]
fn joins_of_topics_with_different_partitions_are_refused_by_name() {
    let topology = Topology::new("app");
    let (a, b) = (topology.stream("a"), topology.stream("b"));
    a.join("pairs", &b, JoinWindow::of(Duration::from_secs(1)), |a, b| format!("{a}{b}")).to("out");
    let plan = topology.plan().unwrap();
    let Err(Error::Topology(why)) = plan.partitions(|topic| Some(if topic == "a" { 3 } else { 5 })) else { panic!() };
    assert_eq!(why, "pairs joins topics of different partition counts: a has 3, b has 5");
}

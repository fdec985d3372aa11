//! What groups cost. A program of its own, so that nothing else takes memory meanwhile.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

use plainlog::broker::{Broker, JoinOptions};

/// Resident memory of this process.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn a_thousand_groups_on_a_topic_cost_less_than_five_megabytes() {
    let broker = Broker::in_memory();
    broker.create_topic("orders", 10).unwrap();
    let join = |n: usize| {
        let mut member = broker.join(&format!("group-{n}"), &["orders"], JoinOptions::default()).unwrap();
        let offsets: Vec<_> = (0..10).map(|partition| ("orders", partition, 0)).collect();
        member.commit(Some(&offsets)).unwrap();
        member
    };
    let _first = join(0);
    let before = resident_bytes();
    let members: Vec<_> = (1..=1000).map(join).collect();
    let log = broker.topic("__consumer_offsets").unwrap().partition(0).unwrap().log().unwrap().bytes().unwrap();
    let cost = resident_bytes() - before;
    eprintln!("{} groups with members and offsets: {cost} bytes, {log} of them the log in memory", members.len());
    assert!(cost < 5_000_000, "{cost}");
}

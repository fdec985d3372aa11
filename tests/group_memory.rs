//! What groups cost. A program of its own, so that nothing else takes memory meanwhile.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

use plainlog::{
    Config,
    broker::{
        Broker, JoinOptions, Waiter,
        group::classic::{JoinRequest, Protocol},
    },
    config::Flush,
};
use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

/// One after the other: each measures the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// Resident memory of this process.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn a_thousand_groups_on_a_topic_cost_less_than_five_megabytes() {
    let _alone = ALONE.lock();
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

/// 200,000 JoinGroups, each of a group of its own, kept 177 MB for good.
#[test]
fn groups_that_nobody_is_in_any_more_cost_next_to_nothing() {
    const GROUPS: usize = 10_000;
    let _alone = ALONE.lock();
    let dir = std::env::temp_dir().join(format!("plainlog-group-memory-{}", std::process::id()));
    let config = Config { flush: Flush::Never, group_min_session: Duration::from_millis(1), ..Config::new(&dir) };
    let broker = Broker::open(config).unwrap();
    let waiter = Waiter::new();
    let request = |n: usize| JoinRequest {
        member_id: String::new(),
        new_member_id: format!("member-{n}"),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 1,
        rebalance_timeout_ms: 1,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: vec![0; 50] }],
        comes_with_id: false,
        can_skip_assignment: false,
    };
    let begun = Instant::now();
    let mut join_and_go = |round: usize| {
        let names = (0..GROUPS).map(|n| format!("somebody-joins-a-new-group-each-time-{round}-{n}"));
        for (n, name) in names.clone().enumerate() {
            broker.join_group(&name, request(n), &waiter, &mut |_| false).unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
        for name in names {
            assert_eq!(broker.group(&name).unwrap().unwrap().state, "Empty");
        }
        resident_bytes()
    };
    let first = join_and_go(0);
    let last = (1..4).map(&mut join_and_go).last().unwrap();
    let cost = last.saturating_sub(first) / (3 * GROUPS);
    eprintln!("{cost} bytes for each of {} groups; {:?}", 3 * GROUPS, begun.elapsed());
    drop(broker);
    std::fs::remove_dir_all(dir).unwrap();
    assert!(cost < 300, "{cost} bytes for each group that is left");
}

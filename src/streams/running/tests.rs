//! What a running application does about faults that cannot be made from outside.

use super::{Options, states::States};
use crate::{
    Broker, Consumer, Producer, Server,
    streams::{
        TaskId, Topology,
        store::{Changes, DiskState, State, StoreSpec},
    },
};
use std::{collections::BTreeMap, env, fs, net::TcpListener, process, sync::Arc, thread, time::Duration};

#[test]
fn state_that_is_ahead_of_its_changelog_is_restored_from_nothing() {
    let server = Server::start(Broker::in_memory(), "localhost:0").unwrap();
    let address = format!("localhost:{}", server.port());
    let dir = env::temp_dir().join(format!("plainlog-ahead-{}", process::id()));
    let options = || Options { state_dir: dir.clone(), ..Options::default() };
    let topology = Topology::new("app");
    topology.stream("in").group_by_key().count("counts").to("out");
    let mut producer = Producer::connect(&address).unwrap();
    let mut consumer = Consumer::connect(&address).unwrap().subscribe(&["out"]).unwrap();
    let mut next = || loop {
        if let Some(message) = consumer.poll(Duration::from_secs(20), 1).unwrap().pop() {
            break String::from_utf8(message.value.unwrap()).unwrap();
        }
    };
    producer.send("in", ("a", "1")).unwrap();
    let app = topology.start(&address, options()).unwrap();
    assert_eq!(next(), "1");
    app.stop().unwrap();
    // As after a loss of power of the broker's machine, which lost the end of the changelog.
    let state = DiskState::open(&dir.join("app/0_0.redb"), &[StoreSpec::key_value("counts")], 1 << 20).unwrap();
    let entries = BTreeMap::from([(b"a".to_vec(), Some([&0_i64.to_be_bytes()[..], b"77"].concat()))]);
    state.commit(&[Changes { store: 0, purge: None, entries: &entries, offset: Some(99) }], 0, true).unwrap();
    drop(state);
    let app = topology.start(&address, options()).unwrap();
    producer.send("in", ("a", "1")).unwrap();
    assert_eq!(next(), "2");
    app.stop().unwrap();
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn state_that_a_query_still_looks_at_is_taken_up_again() {
    let dir = env::temp_dir().join(format!("plainlog-queried-{}", process::id()));
    let topology = Topology::new("app");
    topology.stream("in").group_by_key().count("counts").to("out");
    let partitions = [("in".into(), 1)].into();
    let states = States::new(&Arc::new(topology.plan().unwrap()), &partitions, Some(&dir), 1 << 20);
    let id = TaskId { subtopology: 0, partition: 0 };
    let queried = states.acquire(id, 0).unwrap();
    states.release(id, 0);
    let again = states.acquire(id, 1).unwrap();
    assert!(Arc::ptr_eq(&queried, &again));
    // Whoever had it before commits no more.
    states.commit(id, 0, || panic!("it is another's")).unwrap();
    // All others go on while its owner commits.
    let mut tasks_seen = None;
    states
        .commit(id, 1, || {
            tasks_seen = Some(states.sizes().tasks);
            Ok(())
        })
        .unwrap();
    assert_eq!(tasks_seen, Some(0));
    states.release(id, 1);
    drop((queried, again));
    states.acquire(id, 0).unwrap();
    drop(states);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_start_waits_for_a_broker_that_goes_away_meanwhile() {
    let dir = env::temp_dir().join(format!("plainlog-early-{}", process::id()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let starting = thread::spawn({
        let (address, options) = (address.clone(), Options { state_dir: dir.clone(), ..Options::default() });
        move || {
            let topology = Topology::new("app");
            topology.stream("in").group_by_key().count("counts").to("out");
            topology.start(&address, options)
        }
    });
    // The first attempt finds somebody who hangs up.
    drop(listener.accept().unwrap());
    drop(listener);
    let _server = Server::start(Broker::in_memory(), &address).unwrap();
    starting.join().unwrap().unwrap().stop().unwrap();
    fs::remove_dir_all(dir).unwrap();
}

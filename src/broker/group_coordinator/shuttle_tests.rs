//! Members on threads, in every order that shuttle can think of. Nobody waits with a deadline here, so a lost wake-up is a
//! deadlock, which shuttle reports.

use super::{JoinOptions, Membership, PollWait};
use crate::{
    broker::{
        Broker, Error, PollLimits, Result, Terms, Waiter, committed_offsets,
        group::classic::{JoinRequest, Sender, SyncRequest},
        sync::thread,
    },
    log::record::Records,
};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Instant,
};

/// What all members saw.
#[derive(Debug, Default)]
struct Seen {
    /// Who was handed records of a partition in a generation.
    handed: HashMap<(u32, i32), String>,
    /// The last commit of a partition that was answered.
    answered: BTreeMap<u32, u64>,
    /// Records handed out, by partition and offset.
    records: BTreeMap<(u32, u64), usize>,
}

fn join(broker: &Broker) -> Membership {
    let options = JoinOptions { auto_commit: false, session_ms: 30 * 60 * 1000, ..JoinOptions::default() };
    broker.join("g", &["t"], options).unwrap()
}

fn produce(broker: &Broker, partition: u32) {
    let partition = broker.topic("t").unwrap().partition(partition).unwrap();
    let mut records = Records::default();
    records.push(None, None, Some(b"x".into()));
    let appended = partition.write(&records, Terms::default()).unwrap();
    partition.make_durable(&appended).unwrap();
}

/// Polls, for as long as it takes or not at all, and checks what is handed out.
fn poll(member: &mut Membership, waits: bool, seen: &Mutex<Seen>) -> Vec<(u32, u64)> {
    let waiter = Waiter::new();
    let mut wait = |_| waiter.wait(None);
    let deadline = (!waits).then(Instant::now);
    let poll_wait = PollWait { waiter: &waiter, deadline, wait: &mut wait };
    let mut records = vec![];
    let limits = PollLimits { records: 1, bytes: 1 };
    member.poll(limits, poll_wait, &mut |record| records.push((record.partition, record.offset))).unwrap();
    let mut seen = seen.lock().unwrap();
    for &(partition, offset) in &records {
        let to = seen.handed.entry((partition, member.generation())).or_insert(member.id());
        assert_eq!(*to, member.id(), "two owners of {partition} in generation {}", member.generation());
        assert!(offset >= *seen.answered.get(&partition).unwrap_or(&0), "read from before a commit that was answered");
        *seen.records.entry((partition, offset)).or_default() += 1;
    }
    records
}

fn commit(member: &mut Membership, records: &[(u32, u64)], seen: &Mutex<Seen>) {
    let offsets: Vec<_> = records.iter().map(|&(partition, offset)| ("t", partition, offset + 1)).collect();
    if member.commit(Some(&offsets)).is_ok() {
        let mut seen = seen.lock().unwrap();
        records.iter().for_each(|&(partition, offset)| {
            seen.answered.insert(partition, offset + 1);
        });
    }
}

/// Members come, read, perhaps commit, and go while another stays, records arrive and the topic grows.
fn members_come_and_go() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 2).unwrap();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let producer = thread::spawn({
        let broker = broker.clone();
        move || {
            produce(&broker, 0);
            produce(&broker, 1);
            broker.alter_topic("t", Some(3), &Default::default()).unwrap();
            produce(&broker, 2);
        }
    });
    let guests = [true, false].map(|commits| {
        let (broker, seen) = (broker.clone(), seen.clone());
        thread::spawn(move || {
            let mut member = join(&broker);
            for _ in 0..2 {
                let records = poll(&mut member, false, &seen);
                if commits {
                    commit(&mut member, &records, &seen);
                }
            }
        })
    });
    // When all others are gone, another record comes in each partition: for the one who stayed.
    let last = thread::spawn({
        let broker = broker.clone();
        move || {
            guests.into_iter().for_each(|guest| guest.join().unwrap());
            producer.join().unwrap();
            (0..3).for_each(|partition| produce(&broker, partition));
        }
    });
    let mut stays = join(&broker);
    let is_done = || (0..3).all(|partition| seen.lock().unwrap().records.contains_key(&(partition, 1)));
    while !is_done() {
        let records = poll(&mut stays, true, &seen);
        commit(&mut stays, &records, &seen);
    }
    last.join().unwrap();
    let seen = seen.lock().unwrap();
    assert!((0..3).all(|partition| seen.records.contains_key(&(partition, 0))), "nothing is left out");
    check_log(&broker, &seen);
}

/// Every commit that was answered is in the log, which says the same as memory.
fn check_log(broker: &Broker, seen: &Seen) {
    let Some(log) = broker.inner().offsets_log().unwrap() else { return assert!(seen.answered.is_empty()) };
    let logged =
        committed_offsets::read_back(&log, |what| panic!("{what}")).unwrap().remove("g").unwrap_or_default().offsets;
    assert_eq!(*logged.committed(), broker.committed_offsets("g").unwrap());
    for (&partition, &offset) in &seen.answered {
        assert!(logged.committed()[&("t".into(), partition)].offset as u64 >= offset);
    }
}

/// Tries out many orders, on stacks as large as those of connections.
fn check(scenario: impl Fn() + Copy + Send + Sync + 'static) {
    const ORDERS: usize = 300;
    let mut config = shuttle::Config::new();
    config.stack_size = 256 << 10;
    shuttle::Runner::new(RandomScheduler::new(ORDERS), config.clone()).run(scenario);
    shuttle::Runner::new(PctScheduler::new(3, ORDERS), config).run(scenario);
}

#[test]
fn shuttle_members_come_and_go() {
    check(members_come_and_go);
}

/// A classic member joins and syncs; the leader tells everybody how many there are.
fn join_and_sync(broker: &Broker, name: &str, member_id: &str) -> Result<(String, i32, Vec<u8>)> {
    let waiter = Waiter::new();
    let mut wait = |_| waiter.wait(None);
    let request = JoinRequest {
        client_id: name.into(),
        session_timeout_ms: 30 * 60 * 1000,
        rebalance_timeout_ms: 30 * 60 * 1000,
        ..JoinRequest::of_consumer(member_id, name, [])
    };
    let joined = broker.join_group("g", request, &waiter, &mut wait)?;
    let (generation, share) = (joined.generation, vec![joined.members.len() as u8]);
    let request = SyncRequest {
        sender: Sender { member_id: &joined.member_id, instance_id: None },
        generation,
        protocol_type: None,
        protocol: None,
        assignments: joined.members.iter().map(|member| (member.member_id.clone(), share.clone())).collect(),
    };
    let assigned = broker.sync_group("g", request, &waiter, &mut wait)?;
    Ok((joined.member_id, generation, assigned))
}

/// A member until all three are; whoever is early learns of the others by its heartbeat.
fn until_all_are_there(broker: &Broker, name: &str) {
    let mut member_id = String::new();
    loop {
        let generation = match join_and_sync(broker, name, &member_id) {
            Ok((_, _, assigned)) if assigned == [3] => return,
            Ok((id, generation, _)) => {
                member_id = id;
                generation
            }
            Err(error) => {
                assert_eq!(error, Error::RebalanceInProgress);
                member_id = name.into();
                continue;
            }
        };
        while broker.heartbeat("g", Sender { member_id: &member_id, instance_id: None }, generation).is_ok() {
            thread::yield_now();
        }
    }
}

#[test]
fn shuttle_classic_members_find_each_other() {
    let meet = || {
        let broker = Broker::in_memory();
        let members = ["a", "b", "c"].map(|name| {
            let broker = broker.clone();
            thread::spawn(move || until_all_are_there(&broker, name))
        });
        members.into_iter().for_each(|member| member.join().unwrap());
        assert_eq!(broker.group("g").unwrap().unwrap().members.len(), 3);
    };
    check(meet);
}

/// Members come and go while somebody looks: the group rests in between, and is woken, and is always there.
fn a_group_rests_and_wakes() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 1).unwrap();
    drop(join(&broker));
    let guests = [(), ()].map(|()| {
        let broker = broker.clone();
        thread::spawn(move || (0..2).for_each(|_| drop(join(&broker))))
    });
    let looks = thread::spawn({
        let broker = broker.clone();
        move || {
            for _ in 0..3 {
                assert!(broker.group("g").unwrap().is_some());
                assert_eq!(broker.groups().unwrap().len(), 1);
            }
        }
    });
    guests.into_iter().chain([looks]).for_each(|thread| thread.join().unwrap());
    let group = broker.group("g").unwrap().unwrap();
    assert_eq!((group.state, group.generation), ("Empty", Some(10)), "each came and went");
    let (awake, resting) = broker.inner().all_groups().unwrap();
    assert_eq!((awake.len(), resting.len()), (0, 1));
}

#[test]
fn shuttle_groups_rest_and_wake() {
    check(a_group_rests_and_wakes);
}

//! Members of Kafka's newer protocol (KIP-848) over a restart, a crash and a disk that refuses.

use super::restart_tests::{describe, generation, join_text, lines, open, poll};
use crate::{
    broker::{
        Broker, Error, Result,
        group::{
            GroupType, MemberDescription,
            consumer::{
                Owned,
                heartbeat::{AWAY, HeartbeatRequest, JOINS, LEAVES},
            },
        },
    },
    log::disk::{Call, Fault, MemoryDisk, Survivors},
};
use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

/// A member as its client knows it.
#[derive(Clone, Debug)]
struct Client {
    id: &'static str,
    instance: Option<&'static str>,
    session_timeout_ms: u64,
    epoch: i32,
    has: BTreeSet<u32>,
}

impl Client {
    fn new(id: &'static str) -> Client {
        Client { id, instance: None, session_timeout_ms: 30_000, epoch: JOINS, has: BTreeSet::new() }
    }

    /// A heartbeat that says everything; the client then has what it is told to have.
    fn beat(&mut self, broker: &Broker) -> Result<()> {
        let request = HeartbeatRequest {
            member_id: self.id,
            instance_id: self.instance,
            epoch: self.epoch,
            rack_id: None,
            client_id: "java",
            client_host: "/127.0.0.1",
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: Some(60_000),
            names: Some(vec!["t"]),
            pattern: None,
            rules: None,
            assignor: None,
            owned: Some(self.has.iter().map(|&partition| ("t".into(), partition)).collect()),
        };
        let beat = broker.consumer_heartbeat("g", request)?;
        self.epoch = beat.epoch;
        if let Some(assigned) = beat.assigned {
            self.has = assigned.iter().map(|owned| owned.partition).collect();
        }
        Ok(())
    }

    fn beat_in(&self, broker: &Broker, epoch: i32) -> Result<()> {
        Client { epoch, ..self.clone() }.beat(broker)
    }
}

fn owned(member: &MemberDescription) -> BTreeSet<u32> {
    member.owned.iter().map(|owned: &Owned| owned.partition).collect()
}

/// The picture of the protocol: `a` has both partitions when `b` comes, and `b` has one of them in the end.
fn rounds(broker: &Broker, a: &mut Client, b: &mut Client, each: &mut dyn FnMut(&Client)) -> Result<()> {
    let members = [a, b];
    for who in [0, 1, 0, 0, 1] {
        members[who].beat(broker)?;
        each(members[who]);
    }
    Ok(())
}

fn two(broker: &Broker) -> (Client, Client) {
    let (mut a, mut b) = (Client::new("a"), Client { instance: Some("i"), ..Client::new("b/1%") });
    rounds(broker, &mut a, &mut b, &mut |_| ()).unwrap();
    assert_eq!((a.epoch, &a.has, b.epoch, &b.has), (3, &BTreeSet::from([0]), 3, &BTreeSet::from([1])));
    (a, b)
}

fn broker_on(disk: &MemoryDisk) -> Broker {
    let broker = open(disk);
    if broker.topic("t").is_err() {
        broker.create_topic("t", 2).unwrap();
    }
    broker
}

#[test]
fn members_go_on_in_their_epoch_after_a_stop_and_after_a_kill() {
    for kill in [false, true] {
        let disk = MemoryDisk::crashable();
        let broker = broker_on(&disk);
        let (mut a, mut b) = two(&broker);
        let before = describe(&broker);
        let disk = if kill {
            disk.reboot(Survivors::Nothing)
        } else {
            drop(broker);
            disk
        };

        let broker = broker_on(&disk);
        assert_eq!(describe(&broker), before);
        let (has_a, has_b) = (a.has.clone(), b.has.clone());
        a.beat(&broker).unwrap();
        b.beat(&broker).unwrap();
        assert_eq!((a.epoch, b.epoch, a.has.clone(), b.has.clone()), (3, 3, has_a, has_b));
        assert_eq!(describe(&broker), before, "nothing of this was a rebalance");
        let fenced = Err(Error::FencedMemberEpoch { named: 1, known: 3 });
        assert_eq!(a.beat_in(&broker, 1), fenced);
        assert_eq!(Client::new("c").beat_in(&broker, 3), Err(Error::UnknownMemberId));
        let other = Client { instance: Some("i"), ..Client::new("c") };
        assert_eq!(other.beat_in(&broker, JOINS), Err(Error::UnreleasedInstanceId("i".into())));

        b.beat_in(&broker, LEAVES).unwrap();
        a.beat(&broker).unwrap();
        assert_eq!((a.epoch, &a.has), (4, &BTreeSet::from([0, 1])));
    }
}

/// What a group has in the log are lines for people too.
#[test]
fn a_member_is_three_lines_and_its_end_three_tombstones() {
    let disk = MemoryDisk::crashable();
    let broker = broker_on(&disk);
    let (_, b) = two(&broker);
    b.beat_in(&broker, AWAY).unwrap();
    let member = "client:java host:/127.0.0.1 session:30000 rebalance:60000 topic:t";
    let begin = [
        "group message:type:consumer generation:2 last_member:1".into(),
        format!("member:a message:number:1 {member}"),
        "target:a message:partitions:t/0,t/1".into(),
        "current:a message:epoch:2 previous:0 owned:t/0@2,t/1@2".into(),
        "group message:type:consumer generation:3 last_member:2".into(),
        "target:a message:partitions:t/0".into(),
        format!("member:b%2F1%25 message:number:2 instance:i {member}"),
        "target:b%2F1%25 message:partitions:t/1".into(),
        "current:b%2F1%25 message:epoch:3 previous:0 waits:yes owned:".into(),
        "current:a message:epoch:2 previous:0 owned:t/0@2 gives_up:t/1@2".into(),
        "current:a message:epoch:3 previous:2 owned:t/0@2".into(),
        "current:b%2F1%25 message:epoch:3 previous:0 owned:t/1@3".into(),
        "current:b%2F1%25 message:epoch:3 previous:0 away:yes owned:t/1@3".into(),
    ];
    let numbered = |(offset, line): (usize, &String)| format!("offset:{offset} key:g/{line}");
    assert_eq!(lines(&broker), begin.iter().enumerate().map(numbered).collect::<Vec<_>>());

    drop(broker);
    let broker = broker_on(&disk);
    assert_eq!(describe(&broker).members[1].epoch, AWAY, "its place is kept");
    let mut again = Client { id: "c", epoch: JOINS, ..b };
    again.beat(&broker).unwrap();
    assert_eq!((again.epoch, &again.has), (3, &BTreeSet::from([1])));
    let ends = lines(&broker).split_off(begin.len());
    let ends: Vec<_> = ends.iter().filter(|line| line.ends_with("tombstone")).collect();
    assert!(ends.len() == 3 && ends.iter().all(|line| line.contains(":b%2F1%25 ")), "{ends:?}");

    again.beat_in(&broker, LEAVES).unwrap();
    Client::new("a").beat_in(&broker, LEAVES).unwrap();
    drop(broker);
    let broker = broker_on(&disk);
    assert_eq!((describe(&broker).state, describe(&broker).group_type), ("Empty", GroupType::Consumer));
    assert_eq!(generation(&broker), 5);
}

#[test]
fn members_that_are_not_heard_after_a_restart_are_gone_after_their_session() {
    let disk = MemoryDisk::crashable();
    let broker = broker_on(&disk);
    let (mut a, mut b) = (Client::new("a"), Client { session_timeout_ms: 100, ..Client::new("b") });
    rounds(&broker, &mut a, &mut b, &mut |_| ()).unwrap();
    drop(broker);
    thread::sleep(Duration::from_millis(110));
    let broker = open(&disk);
    let begin = Instant::now();
    assert_eq!(describe(&broker).members.len(), 2, "its session begins when the broker knows of it");
    while describe(&broker).members.len() == 2 {
        thread::sleep(Duration::from_millis(1));
    }
    assert!(begin.elapsed() >= Duration::from_millis(99));
    assert_eq!(b.beat(&broker), Err(Error::UnknownMemberId));
    a.beat(&broker).unwrap();
    assert_eq!((a.epoch, a.has), (4, BTreeSet::from([0, 1])));
}

/// What members of text had is nobody's after a restart: it is shared out in a new generation, and Kafka's members get it.
#[test]
fn what_text_had_is_shared_out_after_a_restart() {
    let disk = MemoryDisk::crashable();
    let broker = broker_on(&disk);
    let mut a = Client::new("a");
    a.beat(&broker).unwrap();
    let mut text = join_text(&broker);
    a.beat(&broker).unwrap();
    a.beat(&broker).unwrap();
    poll(&mut text);
    assert_eq!((a.epoch, a.has.len(), describe(&broker).state), (3, 1, "Stable"));
    let crashed = disk.reboot(Survivors::Nothing);
    drop((text, broker));
    let broker = broker_on(&crashed);
    assert_eq!((describe(&broker).members.len(), describe(&broker).state), (1, "Assigning"));
    a.beat(&broker).unwrap();
    assert_eq!((a.epoch, a.has.len()), (4, 2));
}

#[test]
fn members_of_text_find_their_seats_after_a_restart() {
    let disk = MemoryDisk::crashable();
    let broker = open(&disk);
    broker.create_topic("t", 6).unwrap();
    let mut members = [join_text(&broker), join_text(&broker), join_text(&broker)].map(Some);
    let round = |members: &mut [Option<_>]| (0..2).for_each(|_| members.iter_mut().flatten().for_each(poll));
    round(&mut members);
    members[0] = None;
    round(&mut members);
    let had: Vec<_> = describe(&broker).members.iter().map(owned).collect();
    assert_eq!(had, [BTreeSet::from([0, 2, 3]), BTreeSet::from([1, 4, 5])]);
    let crashed = disk.reboot(Survivors::Nothing);
    drop((members, broker));
    let broker = open(&crashed);
    let mut members = [join_text(&broker), join_text(&broker)].map(Some);
    round(&mut members);
    assert_eq!(describe(&broker).members.iter().map(owned).collect::<Vec<_>>(), had);
}

/// Every call of the disk fails or is the last one: what a member was told is there afterwards, unless GROUP said that it
/// would not be.
#[test]
fn nothing_that_a_member_was_told_is_lost_at_whatever_call_the_disk_fails() {
    let run = |broker: &Broker| -> Vec<Client> {
        let (mut a, mut b) = (Client::new("a"), Client::new("b"));
        let mut told: Vec<Client> = vec![];
        // A broker whose power is off refuses.
        let _ = rounds(broker, &mut a, &mut b, &mut |client| {
            if !describe(broker).unsaved {
                told.retain(|other| other.id != client.id);
                told.push(client.clone());
            }
        });
        told
    };
    let count = {
        let disk = MemoryDisk::crashable();
        let broker = broker_on(&disk);
        let before = disk.calls();
        assert_eq!(run(&broker).len(), 2);
        disk.calls() - before
    };
    assert!(count > 12, "{count} calls");
    for fault in [Fault::CrashBefore, Fault::CrashMidway, Fault::CrashAfter, Fault::Error, Fault::Full] {
        for nth in 1..=count {
            let disk = MemoryDisk::crashable();
            let broker = broker_on(&disk);
            disk.fault(Call::Any, nth, fault);
            let told = run(&broker);
            let errs = matches!(fault, Fault::Error | Fault::Full);
            assert!(!errs || describe(&broker).state == "Stable", "{fault:?} at {nth}: the group goes on");
            for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Seed(nth)] {
                let broker = broker_on(&disk.reboot(survivors));
                let found = describe(&broker);
                for client in &told {
                    let member = found.members.iter().find(|member| member.member_id == client.id);
                    let holds = member
                        .is_some_and(|member| member.epoch >= client.epoch && client.has.is_subset(&owned(member)));
                    assert!(holds, "{fault:?} at {nth}, {survivors:?}: {found:?}, told was {client:?}");
                    assert!(found.generation >= Some(client.epoch));
                }
            }
        }
    }
}

//! Share groups: who is in them, also after a restart, and what else may be done with them.

use super::{JoinOptions, OffsetCommit};
use crate::{
    broker::{
        Broker, Clock, Committed, Error, ReadSession, Resource, ResourceKind, Result, ShareConsumer, Terms,
        group::{
            Description, GroupType,
            classic::Sender,
            share::{Heartbeat, HeartbeatRequest},
        },
        share_partition::Wanted,
    },
    config::{Change, Changes, Config, Flush},
    log::{
        disk::{MemoryDisk, Survivors},
        record::Records,
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::*},
    },
    thread,
    time::Duration,
};

const NOW_MS: i64 = 1_700_000_000_000;

/// A broker that never syncs on its own, so that only what is synced on purpose survives.
fn open(disk: &MemoryDisk, clock: &Arc<AtomicI64>) -> Broker {
    let config = Config { flush: Flush::Never, ..Config::new("data") };
    Broker::open_on(Arc::new(disk.clone()), config, Clock::Manual(clock.clone())).unwrap()
}

fn request<'a>(member_id: &'a str, epoch: i32, names: Option<&[&'a str]>) -> HeartbeatRequest<'a> {
    HeartbeatRequest {
        member_id,
        epoch,
        rack_id: None,
        client_id: "c",
        client_host: "/127.0.0.1",
        session_timeout_ms: 45_000,
        names: names.map(<[_]>::to_vec),
    }
}

fn joins(broker: &Broker, member_id: &str, topics: &[&str]) -> Result<Heartbeat> {
    broker.share_heartbeat("jobs", request(member_id, 0, Some(topics)))
}

fn steady(broker: &Broker, member_id: &str, epoch: i32) -> Result<Heartbeat> {
    broker.share_heartbeat("jobs", request(member_id, epoch, None))
}

fn jobs(broker: &Broker) -> Description {
    broker.group("jobs").unwrap().unwrap()
}

fn two_topics() -> Broker {
    let broker = Broker::in_memory();
    broker.create_topic("orders", 2).unwrap();
    broker.create_topic("payments", 1).unwrap();
    broker
}

#[test]
fn a_seat_sees_every_partition_of_its_topics_as_they_grow_and_go() {
    let broker = two_topics();
    let mut seat = broker.join_share("jobs", &["payments", "orders", "orders"]).unwrap();
    let places =
        |seat: &super::ShareSeat| seat.assigned().iter().map(|(topic, p)| format!("{topic}/{p}")).collect::<Vec<_>>();
    assert_eq!((seat.group(), seat.generation()), ("jobs", 1));
    assert_eq!(places(&seat), ["orders/0", "orders/1", "payments/0"]);
    assert_eq!(jobs(&broker).members[0].member_id, seat.id());
    broker.alter_topic("payments", Some(2), &Default::default()).unwrap();
    broker.drop_topic("orders").unwrap();
    assert_eq!(places(&seat), ["payments/0", "payments/1"]);
    assert_eq!(jobs(&broker).members[0].owned.len(), 2);

    assert_eq!(seat.leave(), Ok(()));
    assert_eq!(seat.leave(), Err(Error::UnknownMemberId));
    drop(broker.join_share("jobs", &["payments"]).unwrap());
    assert_eq!((jobs(&broker).state, jobs(&broker).members.len()), ("Empty", 0));
    assert_eq!(broker.join_share("", &["payments"]).unwrap_err().code().name(), "INVALID_GROUP_ID");
    assert_eq!(broker.join_share("jobs", &["orders"]).unwrap_err(), Error::UnknownTopic("orders".into()));
}

#[test]
fn a_group_is_a_share_group_from_its_first_member_until_it_is_deleted() {
    let broker = two_topics();
    let commit = |group: &str| {
        let committed = Committed { offset: 1, leader_epoch: -1, metadata: "".into(), timestamp_ms: NOW_MS };
        let offset = OffsetCommit { topic: "orders".into(), partition: 0, committed };
        broker.commit_offsets(group, Sender { member_id: "", instance_id: None }, -1, vec![offset]).map(drop)
    };
    let join = || broker.join("jobs", &["orders"], JoinOptions::default()).map(drop);
    let key = [("orders".into(), 0)];
    assert!(joins(&broker, "a", &["orders"]).is_ok());
    assert_eq!(broker.delete_group("jobs"), Err(Error::NonEmptyGroup("jobs".into())));
    for reset in [Err(Error::NonEmptyGroup("jobs".into())), Ok(())] {
        assert_eq!(commit("jobs"), Err(Error::ShareGroup));
        assert_eq!(broker.lag("jobs"), Ok(vec![]));
        assert_eq!(broker.reset_offsets("jobs", &[("orders".into(), 0, 0)]), reset);
        assert_eq!(broker.delete_offsets("jobs", &key), Err(Error::ShareGroup));
        assert_eq!(join(), Err(Error::InconsistentGroupProtocol));
        let listed = &broker.groups().unwrap()[0];
        assert_eq!((listed.group_type, &*listed.protocol_type), (GroupType::Share, "share"));
        let _ = steady(&broker, "a", -1);
    }
    assert_eq!(broker.delete_group("jobs"), Ok(()));
    assert_eq!((broker.group("jobs"), steady(&broker, "a", 3)), (Ok(None), Err(Error::NotShareGroup)));

    for reason in ["an offset", "a member", "a member that left"] {
        let member = (reason == "a member").then(|| broker.join("jobs", &["orders"], JoinOptions::default()).unwrap());
        if reason == "an offset" {
            commit("jobs").unwrap();
        }
        assert_eq!(joins(&broker, "a", &["orders"]), Err(Error::NotShareGroup), "{reason}");
        assert_eq!(broker.join_share("jobs", &["orders"]).unwrap_err(), Error::InconsistentGroupProtocol, "{reason}");
        drop(member);
        if reason == "an offset" {
            broker.delete_group("jobs").unwrap();
        }
    }
    broker.delete_group("jobs").unwrap();
    assert!(joins(&broker, "a", &["orders"]).is_ok());
}

#[test]
fn kafkas_members_go_on_after_a_kill_and_see_what_became_of_topics() {
    let (disk, clock) = (MemoryDisk::crashable(), Arc::new(AtomicI64::new(NOW_MS)));
    let broker = open(&disk, &clock);
    broker.create_topic("orders", 1).unwrap();
    broker.create_topic("payments", 1).unwrap();
    assert_eq!(joins(&broker, "a", &["orders", "payments"]).unwrap().epoch, 3);
    let seat = broker.join_share("jobs", &["orders"]).unwrap();
    assert_eq!(steady(&broker, "a", 3).unwrap().epoch, 4);

    // The broker comes back twice before anybody asks for a group: meanwhile a topic grows.
    let disk = disk.reboot(Survivors::Nothing);
    open(&disk, &clock).alter_topic("orders", Some(2), &Default::default()).unwrap();
    let broker = open(&disk, &clock);
    let told = steady(&broker, "a", 4).unwrap();
    assert_eq!((told.epoch, told.assigned.unwrap().len()), (6, 3));
    assert_eq!(jobs(&broker).members.len(), 1, "a seat ends with its process");
    drop(seat);
}

#[test]
fn a_share_group_without_members_rests_for_as_long_as_it_takes() {
    let (disk, clock) = (MemoryDisk::crashable(), Arc::new(AtomicI64::new(NOW_MS)));
    let broker = open(&disk, &clock);
    broker.create_topic("orders", 1).unwrap();
    joins(&broker, "a", &["orders"]).unwrap();
    steady(&broker, "a", -1).unwrap();
    let rests = |broker: &Broker| broker.inner().all_groups().unwrap().1.len() == 1;
    assert!(rests(&broker));
    clock.fetch_add(i64::MAX / 2, AcqRel);
    assert_eq!(broker.inner().look_after_groups(), Ok(None));
    assert_eq!((jobs(&broker).state, rests(&broker)), ("Empty", true));
    drop(broker);

    let broker = open(&disk, &clock);
    assert_eq!(jobs(&broker).group_type, GroupType::Share);
    clock.fetch_add(i64::MAX / 4, AcqRel);
    assert_eq!(broker.inner().look_after_groups(), Ok(None));
    assert_eq!(joins(&broker, "b", &["orders"]).unwrap().epoch, 5);
}

#[test]
#[cfg(feature = "http")]
fn what_a_group_that_rests_has_read_is_observed() {
    let (disk, clock) = (MemoryDisk::crashable(), Arc::new(AtomicI64::new(NOW_MS)));
    let broker = open(&disk, &clock);
    broker.create_topic("orders", 1).unwrap();
    joins(&broker, "a", &["orders"]).unwrap();
    broker
        .write_share_offset("jobs", &broker.find_partition("orders", 0).unwrap(), Some(0))
        .unwrap()
        .make_durable()
        .unwrap();
    let awake = broker.observe_groups().unwrap();
    assert_eq!((awake.len(), awake[0].members, awake[0].offsets.len()), (1, 1, 1));

    steady(&broker, "a", -1).unwrap();
    let rests = || broker.inner().all_groups().unwrap().1.len() == 1;
    assert!(rests());
    let observed = broker.observe_groups().unwrap();
    assert_eq!((&*observed[0].name, observed[0].members), ("jobs", 0));
    assert_eq!((&observed[0].offsets, observed.len()), (&awake[0].offsets, 1));
    assert!(rests(), "to look wakes nobody");
    broker.delete_group("jobs").unwrap();
    assert_eq!(broker.observe_groups(), Ok(vec![]));
}

#[test]
fn a_group_that_rests_hears_which_of_its_topics_are_gone() {
    let (disk, clock) = (MemoryDisk::crashable(), Arc::new(AtomicI64::new(NOW_MS)));
    let broker = open(&disk, &clock);
    broker.create_topic("orders", 1).unwrap();
    joins(&broker, "a", &["orders"]).unwrap();
    steady(&broker, "a", -1).unwrap();
    assert_eq!(broker.inner().all_groups().unwrap().1.len(), 1, "it rests");
    broker.drop_topic("orders").unwrap();
    let line = |state: &mut super::GroupState| {
        state.group.save_again();
        String::from_utf8(state.group.take_unsaved().unwrap().group.unwrap().to_line()).unwrap()
    };
    let line = broker.inner().change_named("jobs", |state, _| line(state)).unwrap().unwrap().1;
    assert!(!line.contains("had:"), "{line}");
}

/// Acquires what there is in `orders/0`; answers how many records that is.
fn acquire(consumer: &mut ShareConsumer, broker: &Broker) -> u64 {
    let wanted = Wanted { records: 10, exactly: false, batch: 10 };
    let of = broker.find_partition("orders", 0).unwrap();
    let acquired = consumer.acquire(&consumer.terms(), &of, wanted, 1 << 20, &mut ReadSession::default()).unwrap();
    acquired.iter().map(|one| one.count()).sum()
}

/// Sets a config of the group.
fn set(broker: &Broker, name: &str, value: &str) {
    let settings = Resource { kind: ResourceKind::Group, name: "jobs".into() };
    let named = [(name.into(), Change::Set(value.into()))].into();
    broker.alter_configs(&settings, &Changes { named, reset_others: false }, false).unwrap();
}

/// Whoever alters or drops a topic may find that the session of a member is over, and holds the lock that making a topic takes.
#[test]
fn a_member_may_go_while_a_topic_is_altered() {
    let broker = two_topics();
    set(&broker, "errors.deadletterqueue.topic.name", "dead");
    broker.drop_topic("dead").unwrap();
    let state = &broker.inner();
    let altering = state.creating.try_lock().unwrap();
    state.release_member("jobs", "a");
    drop(altering);
    assert!(broker.find_topic("dead").is_err());
}

#[test]
fn what_a_member_holds_is_free_when_it_is_gone_and_all_is_forgotten_with_the_group() {
    let broker = two_topics();
    set(&broker, "share.auto.offset.reset", "earliest");
    let partition = broker.topic("orders").unwrap().partition(0).unwrap();
    let mut records = Records::default();
    records.push(None, None, Some(b"job".as_slice().into()));
    partition.make_durable(&partition.write(&records, Terms::default()).unwrap()).unwrap();

    joins(&broker, "a", &["orders"]).unwrap();
    let seat = broker.join_share("jobs", &["orders"]).unwrap();
    let (mut a, mut b) =
        (broker.share_consumer("jobs", "a").unwrap(), broker.share_consumer("jobs", seat.id()).unwrap());
    assert_eq!((acquire(&mut a, &broker), acquire(&mut b, &broker)), (1, 0));
    steady(&broker, "a", -1).unwrap();
    assert_eq!(acquire(&mut b, &broker), 1, "a left");
    drop(seat);
    assert_eq!(acquire(&mut a, &broker), 1, "b left");
    let state = &broker.inner();
    drop((a, b));
    assert!(state.has_shares("jobs").unwrap());
    broker.delete_group("jobs").unwrap();
    assert!(!state.has_shares("jobs").unwrap());
}

#[test]
fn who_is_silent_is_gone_though_nobody_comes() {
    let broker = two_topics();
    let silent = HeartbeatRequest { session_timeout_ms: 1, ..request("a", 0, Some(&["orders"])) };
    broker.share_heartbeat("jobs", silent).unwrap();
    while broker.groups().unwrap()[0].members > 0 {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(steady(&broker, "a", 3), Err(Error::UnknownMemberId));
}

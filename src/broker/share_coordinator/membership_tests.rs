//! What members of share groups make of the group's settings.

use crate::{
    broker::{
        Broker, Clock, Error, Isolation, PollLimits, PollWait, Position, Resource, ResourceKind, ShareMembership,
        ShareOptions, SharedRecord, Waiter,
    },
    config::{Change, Changes, Config},
    log::{
        disk::{Call, Fault, MemoryDisk},
        record::Records,
    },
};
use std::{borrow::Cow, collections::BTreeSet, sync::Arc, time::Instant};

fn open(disk: &MemoryDisk, config: Config) -> Broker {
    let broker = Broker::open_on(Arc::new(disk.clone()), config, Clock::System).unwrap();
    broker.create_topic("orders", 1).unwrap();
    broker
}

fn jobs() -> Resource {
    Resource { kind: ResourceKind::Group, name: "jobs".into() }
}

fn own(broker: &Broker) -> String {
    let own = broker.configs(&jobs());
    own.iter().map(|(name, value)| format!("{name}={value} ")).collect()
}

fn lock(ms: u64) -> ShareOptions {
    ShareOptions { lock_ms: Some(ms), ..ShareOptions::default() }
}

fn dead(topic: &str) -> ShareOptions {
    ShareOptions { dead_letters: Some(topic.into()), ..ShareOptions::default() }
}

fn code(broker: &Broker, options: &ShareOptions) -> &'static str {
    broker.join_queue("jobs", &["orders"], options).unwrap_err().code().name()
}

#[test]
fn who_gets_no_seat_leaves_no_settings() {
    let broker = open(&MemoryDisk::default(), Config { groups_max: 1, auto_create: false, ..Config::new("data") });
    let first = broker.join_queue("first", &["orders"], &ShareOptions::default()).unwrap();
    assert_eq!(code(&broker, &lock(7000)), "COORDINATOR_NOT_AVAILABLE");
    assert_eq!(own(&broker), "");
    // What was set before is as it was.
    let named = [("share.record.lock.duration.ms".to_owned(), Change::Set("9000".into()))].into();
    broker.alter_configs(&jobs(), &Changes { named, reset_others: false }, false).unwrap();
    assert_eq!(code(&broker, &lock(7000)), "COORDINATOR_NOT_AVAILABLE");
    assert_eq!(own(&broker), "share.record.lock.duration.ms=9000 ");
    drop(first);
    broker.delete_group("first").unwrap();
    // Dead letters cannot go where the member reads, nor where there is and will be no topic.
    for options in [lock(99), dead("orders"), dead("missing")] {
        assert_eq!(code(&broker, &options), "INVALID_CONFIG", "{options:?}");
    }
    assert_eq!(code(&broker, &dead("__consumer_offsets")), "INVALID_TOPIC_EXCEPTION");
    assert_eq!(own(&broker), "share.record.lock.duration.ms=9000 ");
    // It holds where the member says nothing else.
    broker.create_topic("dead", 1).unwrap();
    let member = broker.join_queue("jobs", &["orders"], &dead("dead")).unwrap();
    assert_eq!(broker.share_lock_ms("jobs"), 9000);
    let reads_dead = broker.join_queue("jobs", &["dead"], &ShareOptions::default());
    assert!(matches!(reads_dead, Err(Error::InvalidConfig(_))));
    drop(member);
    assert_eq!(broker.configured(ResourceKind::Group), ["jobs"]);
}

fn set(broker: &Broker, name: &str, value: &str) {
    let named = [(name.to_owned(), Change::Set(value.into()))].into();
    broker.alter_configs(&jobs(), &Changes { named, reset_others: false }, false).unwrap();
}

/// What an administrator set is the name's, as in Kafka. What its first member made of them stayed, too, for ever.
#[test]
fn what_a_member_made_of_the_settings_goes_with_the_group_and_what_an_administrator_set_stays() {
    let disk = MemoryDisk::default();
    let broker = open(&disk, Config::new("data"));
    broker.create_topic("dead", 1).unwrap();
    drop(broker.join_queue("jobs", &["orders"], &ShareOptions { lock_ms: Some(7000), ..dead("dead") }).unwrap());
    set(&broker, "share.session.timeout.ms", "50000");
    set(&broker, "share.record.lock.duration.ms", "9000");
    let ends = "share.record.lock.duration.ms=9000 share.session.timeout.ms=50000 ";
    let begins = "share.auto.offset.reset=earliest share.isolation.level=read_committed ";
    let all = format!("errors.deadletterqueue.topic.name=dead {begins}{ends}");
    assert_eq!(own(&broker), all);
    drop(broker);
    let broker = Broker::open_on(Arc::new(disk.clone()), Config::new("data"), Clock::System).unwrap();
    assert_eq!(own(&broker), all);
    assert_eq!(broker.configured(ResourceKind::Group), ["jobs"]);
    broker.delete_group("jobs").unwrap();
    assert_eq!(own(&broker), ends);
    drop(broker.join_queue("jobs", &["orders"], &ShareOptions::default()).unwrap());
    assert_eq!((broker.share_lock_ms("jobs"), own(&broker)), (9000, format!("{begins}{ends}")));
    let named = [("share.isolation.level".to_owned(), Change::Default)].into();
    broker.alter_configs(&jobs(), &Changes { named, reset_others: false }, false).unwrap();
    assert_eq!(own(&broker), format!("share.auto.offset.reset=earliest {ends}"));
    broker.delete_group("jobs").unwrap();
    set(&broker, "errors.deadletterqueue.topic.name", "dead");
    let none = ShareOptions { lock_ms: Some(8000), ..dead("") };
    drop(broker.join_queue("jobs", &["orders"], &none).unwrap());
    let settings = broker.group_settings("jobs");
    assert_eq!((settings.share_record_lock_duration_ms, &*settings.dead_letter_topic.0), (8000, ""));
    assert_eq!(settings.share_session_timeout_ms, 50_000);
}

/// Each name of a new group left lines, until nothing could be set of anything any more.
#[test]
fn members_do_not_fill_the_room_that_administrators_need() {
    let broker = open(&MemoryDisk::default(), Config::new("data"));
    let name = |number: usize| format!("{number:0>30000}");
    let join = |number| broker.join_queue(&name(number), &["orders"], &lock(7000)).map(drop);
    let count = (0..50).take_while(|&number| join(number).is_ok()).count();
    assert!((1..20).contains(&count), "{count}");
    let refused = join(count).unwrap_err();
    assert!(refused.code().name() == "INVALID_CONFIG" && refused.to_string().contains("make room"), "{refused}");
    set(&broker, "share.record.lock.duration.ms", "9000");
    // What Kafka's groups begin with takes no room.
    let (from, isolation) = (Some(Position::Latest), Some(Isolation::ReadUncommitted));
    let kafkas = ShareOptions { from, isolation, lock_ms: Some(30_000), deliveries: Some(5), ..dead("") };
    drop(broker.join_queue(&name(count), &["orders"], &kafkas).unwrap());
    assert_eq!(broker.group(&name(count)).unwrap().map(|group| group.members.len()), Some(0));
    broker.delete_group(&name(0)).unwrap();
    join(count + 1).unwrap();
}

#[test]
fn nobody_joins_whose_settings_cannot_be_written() {
    let disk = MemoryDisk::crashable();
    let broker = open(&disk, Config::new("data"));
    // The broker's own topics are there.
    drop(broker.join_queue("first", &["orders"], &ShareOptions::default()).unwrap());
    disk.fault(Call::Write, 0, Fault::Full);
    assert_eq!(code(&broker, &lock(7000)), "KAFKA_STORAGE_ERROR");
    assert_eq!(own(&broker), "");
    assert_eq!(broker.group("jobs").unwrap().map(|group| group.members.len()), None);
    drop(broker.join_queue("jobs", &["orders"], &lock(8000)).unwrap());
    assert_eq!(broker.share_lock_ms("jobs"), 8000);
}

fn write(broker: &Broker, topic: &str, partition: u32) {
    let mut records = Records::default();
    records.push(None, None, Some(Cow::Borrowed(b"value")));
    let partition = broker.topic(topic).unwrap().partition(partition).unwrap();
    let written = partition.write(&records, Default::default()).unwrap();
    partition.make_durable(&written).unwrap();
}

/// What one poll hands out, as `topic/partition offset`.
fn poll(member: &mut ShareMembership) -> Option<String> {
    let (waiter, mut polled) = (Waiter::new(), None);
    let wait = PollWait { waiter: &waiter, deadline: Some(Instant::now()), wait: &mut |until| waiter.wait(until) };
    let mut each = |SharedRecord { record, .. }: &SharedRecord<'_>| {
        polled = Some(format!("{}/{} {}", record.topic, record.partition, record.offset));
    };
    member.poll(PollLimits { records: 1, bytes: 1 << 20 }, wait, &mut each).unwrap();
    polled
}

/// Each partition of each topic is found, also those of a topic that took another's place.
#[test]
fn all_partitions_of_all_topics_are_polled() {
    let broker = open(&MemoryDisk::default(), Config::new("data"));
    broker.create_topic("payments", 3).unwrap();
    let mut member = broker.join_queue("jobs", &["orders", "payments"], &ShareOptions::default()).unwrap();
    assert_eq!(poll(&mut member), None);
    let places = [("orders", 0), ("payments", 0), ("payments", 1), ("payments", 2)];
    for _ in 0..2 {
        places.iter().for_each(|(topic, partition)| write(&broker, topic, *partition));
        let polled: BTreeSet<_> = places.iter().filter_map(|_| poll(&mut member)).collect();
        let wanted = places.iter().map(|(topic, partition)| format!("{topic}/{partition} 0")).collect();
        assert_eq!(polled, wanted);
        assert_eq!(poll(&mut member), None);
        for (topic, partitions) in [("orders", 1), ("payments", 3)] {
            broker.drop_topic(topic).unwrap();
            broker.create_topic(topic, partitions).unwrap();
        }
    }
}

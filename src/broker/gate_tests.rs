//! What callers may do, verb by verb.

use super::*;
use crate::{
    broker::{
        Clock, Committed, IfAbsent, Isolation, JoinOptions, OffsetCommit, PollLimits, PollWait, Position, Protocol,
        ReadSession, Resource, ResourceKind, ShareOptions, Terms, TopicPartition, View, Waiter,
        group::{
            Committer,
            classic::{JoinRequest, Sender, SyncRequest},
            consumer::heartbeat::{HeartbeatRequest, JOINS},
        },
        share_partition::{Acknowledged, Acknowledgement, Wanted},
    },
    config::{Change, Changes, Config, DEAD_LETTERS},
    log::{
        Numbering,
        disk::{Call, MemoryDisk},
        record::Records,
    },
    security::{
        ANY_HOST, ANY_NAME, Acl, AclFilter, CLUSTER_NAME, PatternType, Permission, Principal, Proof, QuotaEntity,
        ResourceType,
    },
};
use std::{
    borrow::Cow,
    collections::HashMap,
    time::{Duration, Instant},
};

fn with_users() -> Broker {
    let mut config = Config::in_memory();
    config.security.users = true;
    Broker::open(config).unwrap()
}

fn somebody(broker: &Broker, name: &str, proof: Proof) -> Broker {
    broker.on_behalf_of(Caller {
        principal: Principal::new(name, proof),
        protocol: Protocol::Text,
        address: Some("127.0.0.1:1".parse().unwrap()),
        client_id: String::new(),
    })
}

fn alice(broker: &Broker) -> Broker {
    somebody(broker, "alice", Proof::Password)
}

fn rule(resource_type: ResourceType, name: &str, operation: Operation) -> Acl {
    Acl {
        resource_type,
        pattern: PatternType::Literal,
        name: name.into(),
        principal: "User:alice".into(),
        host: ANY_HOST.into(),
        operation,
        permission: Permission::Allow,
    }
}

fn allow(broker: &Broker, rules: &[Acl]) {
    broker.inner().gate.replace_acls(|| Arc::new(rules.iter().cloned().collect()));
}

fn is_refused<T: std::fmt::Debug>(result: Result<T>) -> bool {
    matches!(result, Err(Error::NotAuthorized { .. }))
}

#[test]
fn whoever_may_only_write_a_topic_learns_of_no_other() {
    let broker = with_users();
    broker.create_topic("orders", 1).unwrap();
    broker.create_topic("salaries", 1).unwrap();
    allow(&broker, &[rule(ResourceType::Topic, "orders", Operation::Write)]);
    let alice = alice(&broker);
    let seen: Vec<String> = alice.describe_topics().into_keys().collect();
    assert_eq!((seen, alice.topic_count()), (vec!["orders".to_string()], 1));
    let unknown = |name: &str| {
        [
            alice.describe_topic(name).map(drop).unwrap_err().to_string(),
            alice.find_topic(name).map(drop).unwrap_err().to_string(),
            alice.create_topic(name, 1).map(drop).unwrap_err().to_string(),
            alice.drop_topic(name).unwrap_err().to_string(),
            alice.trim(name, 0, 0).unwrap_err().to_string(),
            alice.alter_topic(name, Some(2), &Changes::default()).map(drop).unwrap_err().to_string(),
            alice.topic_size(name).map(drop).unwrap_err().to_string(),
            alice.join("g", &[name], JoinOptions::default()).map(drop).unwrap_err().to_string(),
        ]
    };
    assert_eq!(unknown("salaries").map(|error| error.replace("salaries", "nothing")), unknown("nothing"));
    let id = broker.describe_topic("salaries").unwrap().id;
    assert!(alice.describe_topic_by_id(&id).is_none());
    assert!(alice.find_topic_by_id_to(Operation::Read, &id).unwrap().is_none());
    // Of what it may see it is told the truth: a client that took it for unknown would ask for ever.
    let id = broker.describe_topic("orders").unwrap().id;
    assert!(alice.find_topic_by_id_to(Operation::Write, &id).unwrap().is_some());
    assert!(is_refused(alice.find_topic_by_id_to(Operation::Read, &id)));
}

/// The text protocol tells how long a line may be, and anybody can try.
#[test]
fn how_large_messages_may_be_is_told_of_topics_that_one_sees() {
    let broker = with_users();
    let of = |bytes: &str| [("max.message.bytes".to_string(), bytes.to_string())].into();
    broker.create_topic_with("hidden", Some(1), of("5000000")).unwrap();
    broker.create_topic_with("orders", Some(1), of("3000000")).unwrap();
    allow(&broker, &[rule(ResourceType::Topic, "orders", Operation::Write)]);
    let alice = alice(&broker);
    assert_eq!((broker.message_bytes_max(), alice.message_bytes_max()), (5_000_000, 3_000_000));
    allow(&broker, &[]);
    assert_eq!(alice.message_bytes_max(), broker.config().topic_defaults.max_message_bytes as usize);
}

#[test]
fn a_rule_that_goes_ends_reading_and_writing_that_was_begun() {
    let broker = with_users();
    broker.create_topic("orders", 1).unwrap();
    let both = [Operation::Read, Operation::Write].map(|operation| rule(ResourceType::Topic, "orders", operation));
    allow(&broker, &both);
    let alice = alice(&broker);
    let partition = alice.find_partition("orders", 0).unwrap();
    let (mut read, view) = (alice.read_session(), View::records(Isolation::ReadUncommitted));
    read.read(view, &partition, 0, 1).unwrap();
    let topic = alice.find_topic_to(Operation::Write, "orders").unwrap();
    let write = alice.write_session();
    write.target(&topic, 0).unwrap();
    allow(&broker, &both[..1]);
    read.read(view, &partition, 0, 1).unwrap();
    assert!(is_refused(write.target(&topic, 0)));
    allow(&broker, &[]);
    assert!(is_refused(read.read(view, &partition, 0, 1).map(drop)) && is_refused(partition.still_there()));
    allow(&broker, &both);
    read.read(view, &partition, 0, 1).unwrap();
}

/// However soon before it they were asked.
#[test]
fn what_is_written_after_a_rule_went_is_read_by_nobody_whom_it_let_read() {
    type Read = Box<dyn FnMut() -> Result<usize> + Send>;
    let reads: [fn(Broker) -> Read; 3] = [
        |alice| {
            let (partition, mut read) = (alice.find_partition("orders", 0).unwrap(), alice.read_session());
            let view = View::records(Isolation::ReadUncommitted);
            Box::new(move || Ok(read.read(view, &partition, 0, 1)?.len()))
        },
        |alice| {
            let (partition, mut read) = (alice.find_partition("orders", 0).unwrap(), alice.read_session());
            Box::new(move || {
                read.clear();
                Ok(usize::from(read.record_at(Isolation::ReadUncommitted, &partition, 0)?.is_some()))
            })
        },
        |alice| {
            let options = JoinOptions { from: Position::Earliest, auto_commit: false, ..JoinOptions::default() };
            let mut member = alice.join("g", &["orders"], options).unwrap();
            Box::new(move || {
                let (limits, waiter) = (PollLimits { records: 1, bytes: 1 }, Waiter::new());
                let wait = PollWait { deadline: Some(Instant::now()), waiter: &waiter, wait: &mut |_| false };
                member.poll(limits, wait, &mut |_| {})
            })
        },
    ];
    for (index, begin) in reads.into_iter().enumerate() {
        let disk = MemoryDisk::crashable();
        let mut config = Config::in_memory();
        config.security.users = true;
        let broker = Broker::open_on(Arc::new(disk.clone()), config, Clock::System).unwrap();
        broker.create_topic("orders", 1).unwrap();
        let group = rule(ResourceType::Group, "g", Operation::Read);
        allow(&broker, &[group.clone(), rule(ResourceType::Topic, "orders", Operation::Read)]);
        let partition = broker.topic("orders").unwrap().partition(0).unwrap();
        let mut records = Records::default();
        records.push(None, None, Some(Cow::Borrowed(b"secret")));
        let write = || {
            let written = partition.write(&records, Terms::default()).unwrap();
            partition.make_durable(&written).unwrap();
        };
        write();
        let mut read = begin(alice(&broker));
        assert_eq!(read(), Ok(1), "{index}");
        write();
        let held = disk.hold(Call::Read, 1);
        std::thread::scope(|scope| {
            let reading = scope.spawn(read);
            held.reached();
            allow(&broker, std::slice::from_ref(&group));
            drop(held);
            assert!(is_refused(reading.join().unwrap()), "{index}");
        });
    }
}

fn joining(member_id: &str) -> JoinRequest {
    JoinRequest::of_consumer(member_id, &format!("client-{}", crate::broker::random::number()), [1])
}

/// Whoever waits for a rebalance waits for others' doings, and is told of them.
#[test]
fn a_member_whose_right_goes_while_it_waits_for_a_rebalance_is_told_nothing_of_it() {
    let broker = with_users();
    let alice = alice(&broker);
    let right = [rule(ResourceType::Group, "g", Operation::Read)];
    let waiter = Waiter::new();
    let mut wait = |until| waiter.wait(until);
    let leader = broker.join_group("g", joining(""), &waiter, &mut wait).unwrap().member_id;
    let leader_joins = || {
        let waiter = Waiter::new();
        broker.join_group("g", joining(&leader), &waiter, &mut |until| waiter.wait(until)).unwrap().generation
    };
    let join_while = |does: &dyn Fn()| {
        allow(&broker, &right);
        let waiter = Waiter::new();
        alice.join_group("g", joining(""), &waiter, &mut |until| {
            does();
            waiter.wait(until)
        })
    };
    assert!(is_refused(join_while(&|| {
        allow(&broker, &[]);
        leader_joins();
    })));
    let joined = join_while(&|| assert!(leader_joins() > 0)).unwrap();
    let sync = |by: &Broker, member_id: &str, assignments, does: &dyn Fn()| {
        let waiter = Waiter::new();
        let sender = Sender { member_id, instance_id: None };
        let (generation, protocol_type, protocol) = (joined.generation, None, None);
        let request = SyncRequest { sender, generation, protocol_type, protocol, assignments };
        by.sync_group("g", request, &waiter, &mut |until| {
            does();
            waiter.wait(until)
        })
    };
    let told = sync(&alice, &joined.member_id, HashMap::new(), &|| {
        allow(&broker, &[]);
        sync(&broker, &leader, HashMap::from([(joined.member_id.clone(), b"secret".to_vec())]), &|| {}).unwrap();
    });
    assert!(is_refused(told));
}

#[test]
fn what_is_done_by_a_right_to_all_is_told_of_whoever_did_it() {
    let broker = with_users();
    broker.create_topic("orders", 1).unwrap();
    allow(&broker, &[rule(ResourceType::Cluster, CLUSTER_NAME, Operation::Delete)]);
    let alice = alice(&broker).for_cluster(Operation::Delete).unwrap();
    assert_eq!(&*alice.caller().principal.name, "alice");
    alice.drop_topic("orders").unwrap();
}

#[test]
fn who_waits_is_woken_when_rules_change() {
    let broker = with_users();
    let waiter = Waiter::new();
    let _registered = broker.register(&waiter);
    broker.create_acls(&[rule(ResourceType::Topic, "orders", Operation::Read)]).unwrap();
    assert!(waiter.wait(Some(Instant::now() + Duration::from_secs(60))));
}

#[test]
fn a_member_that_may_no_longer_read_is_told_so_and_can_leave() {
    let broker = with_users();
    broker.create_topic("orders", 1).unwrap();
    let group = rule(ResourceType::Group, "g", Operation::Read);
    let topic = rule(ResourceType::Topic, "orders", Operation::Read);
    allow(&broker, std::slice::from_ref(&topic));
    let alice = alice(&broker);
    assert!(is_refused(alice.join("g", &["orders"], JoinOptions::default())));
    allow(&broker, &[group.clone(), topic]);
    let mut member = alice.join("g", &["orders"], JoinOptions::default()).unwrap();
    allow(&broker, &[group]);
    assert!(is_refused(member.commit(Some(&[("orders", 0, 0)]))));
    allow(&broker, &[]);
    assert!(is_refused(member.commit(Some(&[("orders", 0, 0)]))));
    member.leave().unwrap();
}

#[test]
fn only_the_admin_of_the_brokers_own_users_is_a_super_user_by_name() {
    let broker = with_users();
    broker.create_topic("orders", 1).unwrap();
    let may = |proof| somebody(&broker, ADMIN, proof).describe_topic("orders").is_ok();
    assert_eq!(
        [Proof::Password, Proof::Certificate, Proof::Token, Proof::Nothing, Proof::InProcess].map(may),
        [true, false, false, false, true]
    );
}

/// Whatever it may do: a super user's, too.
#[test]
fn what_was_permitted_to_a_token_ends_with_it() {
    let mut config = Config::in_memory();
    config.security.users = true;
    config.security.super_users.insert("User:alice".into());
    let broker = Broker::open(config).unwrap();
    broker.create_topic("orders", 1).unwrap();
    allow(
        &broker,
        &[rule(ResourceType::Topic, ANY_NAME, Operation::All)].map(|acl| Acl { principal: "User:bob".into(), ..acl }),
    );
    let until = |name: &str, ends| {
        let principal = Principal { ends: Some(ends), ..Principal::new(name, Proof::Token) };
        broker.on_behalf_of(Caller { principal, ..somebody(&broker, name, Proof::Token).caller().clone() })
    };
    let is_over = |result: Result<()>| result == Err(Error::TokenEnded);
    let ends = Instant::now() + Duration::from_secs(1);
    let [alice, bob] = ["alice", "bob"].map(|name| until(name, ends));
    let mut member = alice.join("g", &["orders"], JoinOptions::default()).unwrap();
    let found = [&alice, &bob].map(|broker| broker.find_partition("orders", 0).unwrap());
    assert!(alice.is_admitted() && found.iter().all(|found| found.still_there().is_ok()));
    for found in &found {
        while found.still_there().is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(is_over(found.still_there()));
        assert!(is_over(ReadSession::default().read(View::records(Isolation::ReadCommitted), found, 0, 1).map(drop)));
    }
    assert!(is_over(member.commit(Some(&[("orders", 0, 0)]))) && is_over(alice.may_reset_offsets("g")));
    member.leave().unwrap();
    for broker in [&alice, &bob] {
        assert!(is_over(broker.describe_topic("orders").map(drop)) && !broker.is_admitted());
        assert!(broker.describe_topics().is_empty());
    }
}

#[test]
fn the_brokers_own_topics_are_nobodys_by_a_pattern() {
    let broker = with_users();
    broker.reset_offsets("g", &[]).unwrap();
    let own = "__consumer_offsets";
    assert!(broker.describe_topics().contains_key(own), "it is there");
    allow(&broker, &[rule(ResourceType::Topic, ANY_NAME, Operation::All)]);
    assert!(is_refused(alice(&broker).describe_topic(own)));
}

#[test]
fn a_producer_id_is_for_whoever_may_write_something() {
    let broker = with_users();
    let alice = alice(&broker);
    let given = broker.new_producer_id().unwrap();
    // Nor does anybody else learn how many were given.
    let asked = || [alice.new_producer_id(), alice.known_producer_id(given), alice.known_producer_id(given + 1)];
    assert!(asked().into_iter().all(is_refused));
    allow(&broker, &[rule(ResourceType::Topic, "orders", Operation::Write)]);
    assert!(!asked().into_iter().any(is_refused));
    allow(&broker, &[rule(ResourceType::Cluster, CLUSTER_NAME, Operation::IdempotentWrite)]);
    alice.new_producer_id().unwrap();
}

/// It was found by the producer's id alone, which whoever may read a topic learns.
#[test]
fn a_right_to_one_transactional_id_is_none_to_the_transaction_of_another() {
    let broker = with_users();
    broker.create_topic("t", 2).unwrap();
    let pay = broker.init_producer("pay", 60_000, None).unwrap();
    let alice = alice(&broker);
    let mut rules = vec![rule(ResourceType::TransactionalId, "x", Operation::Write)];
    rules.extend([Operation::Read, Operation::Write].map(|operation| rule(ResourceType::Topic, "t", operation)));
    rules.extend(["g", "h"].map(|group| rule(ResourceType::Group, group, Operation::Read)));
    allow(&broker, &rules);
    let write = |partition| {
        let mut session = alice.write_session();
        let target = session.target(&alice.find_topic_to(Operation::Write, "t")?, partition)?;
        let mut records = Records::default();
        records.push(None, None, Some(Cow::Borrowed(b"hers")));
        let producer = Numbering { producer_id: pay.id, producer_epoch: pay.epoch, base_sequence: 0 };
        let terms = Terms { producer: Some(producer), ..Terms::default() };
        session.write_batch_in_transaction(target, &records, terms, "x", IfAbsent::Add).map(drop)
    };
    let commit = |group| {
        let committed = Committed { offset: 1, leader_epoch: -1, metadata: String::new(), timestamp_ms: 0 };
        let offset = OffsetCommit { topic: "t".into(), partition: 0, committed };
        let done =
            alice.commit_offsets_in_transaction("x", pay, IfAbsent::Add, group, Committer::Anybody, vec![offset]);
        done.map(drop)
    };
    let is_anothers = |result: Result<()>| matches!(result, Err(Error::InvalidProducerIdMapping(_)));
    assert!(is_anothers(write(0)) && is_anothers(commit("g")));
    assert!(!broker.transaction("pay").unwrap().summary.is_open(), "she has begun it");
    broker.add_partitions("pay", pay, &[TopicPartition { topic: "t".into(), partition: 0 }], false).unwrap();
    broker.add_group("pay", pay, "g").unwrap();
    assert!(is_anothers(write(0)) && is_anothers(commit("g")), "it is open");
    // As in Kafka, whoever may write with both need not name the right one there.
    rules.push(rule(ResourceType::TransactionalId, "pay", Operation::Write));
    allow(&broker, &rules);
    assert_eq!((write(0), commit("g")), (Ok(()), Ok(())));
    assert!(is_anothers(write(1)) && is_anothers(commit("h")), "that is not in it");
}

#[test]
fn of_a_transaction_only_the_partitions_of_topics_that_one_may_describe_are_counted() {
    let broker = with_users();
    let pay = broker.init_producer("pay", 60_000, None).unwrap();
    for (topic, partitions) in [("seen", 1), ("hidden", 3)] {
        broker.create_topic(topic, partitions).unwrap();
        let all: Vec<_> = (0..partitions).map(|partition| TopicPartition { topic: topic.into(), partition }).collect();
        broker.add_partitions("pay", pay, &all, false).unwrap();
    }
    broker.add_group("pay", pay, "g").unwrap();
    let alice = alice(&broker);
    let told = |broker: &Broker| {
        let (listed, described) = (broker.transactions().unwrap().remove(0), broker.transaction("pay").unwrap());
        assert!(listed.is_open());
        assert_eq!((&listed, listed.partitions), (&described.summary, described.partitions.len()));
        listed.partitions
    };
    let id = rule(ResourceType::TransactionalId, "pay", Operation::Describe);
    allow(&broker, std::slice::from_ref(&id));
    assert_eq!((told(&broker), told(&alice)), (5, 0));
    allow(&broker, &[id, rule(ResourceType::Topic, "seen", Operation::Describe)]);
    assert_eq!(told(&alice), 1);
}

/// The topics that it might not describe counted as ones without partitions, for all members.
#[test]
fn what_classic_members_have_does_not_depend_on_what_who_joins_them_may_see() {
    let broker = with_users();
    for topic in ["seen", "hidden"] {
        broker.create_topic(topic, 1).unwrap();
    }
    let (waiter, mut wait) = (Waiter::new(), |_| false);
    let join = JoinRequest::of_consumer("", "classic", b"\0\0\0\0\0\x01\0\x06hidden\xff\xff\xff\xff");
    let joined = broker.join_group("g", join, &waiter, &mut wait).unwrap();
    let has = b"\0\0\0\0\0\x01\0\x06hidden\0\0\0\x01\0\0\0\0\xff\xff\xff\xff";
    let sync = SyncRequest {
        sender: Sender { member_id: "classic", instance_id: None },
        generation: joined.generation,
        protocol_type: None,
        protocol: None,
        assignments: [("classic".to_string(), has.to_vec())].into(),
    };
    broker.sync_group("g", sync, &waiter, &mut wait).unwrap();
    let group = rule(ResourceType::Group, "g", Operation::Read);
    allow(&broker, &[group, rule(ResourceType::Topic, "seen", Operation::Read)]);
    let request = HeartbeatRequest {
        member_id: "alice",
        instance_id: None,
        epoch: JOINS,
        rack_id: None,
        client_id: "java",
        client_host: "/127.0.0.1",
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: Some(60_000),
        names: Some(vec!["seen"]),
        pattern: None,
        rules: None,
        assignor: None,
        owned: Some(Default::default()),
    };
    alice(&broker).consumer_heartbeat("g", request).unwrap();
    let members = broker.group("g").unwrap().unwrap().members;
    let has: Vec<_> = members.iter().map(|member| (member.is_classic, &*member.owned[0].topic)).collect();
    assert_eq!(has, [(true, "hidden"), (false, "seen")]);
}

/// Its dead letters were read as by whoever had come there first.
#[test]
fn a_queue_goes_on_for_the_others_when_its_first_member_may_no_more() {
    let broker = with_users();
    broker.create_topic("orders", 1).unwrap();
    broker.create_topic("dead", 1).unwrap();
    let partition = broker.topic("orders").unwrap().partition(0).unwrap();
    for _ in 0..2 {
        let mut records = Records::default();
        records.push(None, None, Some(Cow::Borrowed(b"order")));
        partition.make_durable(&partition.write(&records, Terms::default()).unwrap()).unwrap();
    }
    let set = |name: &str, value: &str| (name.to_string(), Change::Set(value.into()));
    let named = [set("share.auto.offset.reset", "earliest"), set("errors.deadletterqueue.topic.name", "dead")].into();
    let jobs = Resource { kind: ResourceKind::Group, name: "jobs".into() };
    broker.alter_configs(&jobs, &Changes { named, reset_others: false }, false).unwrap();
    broker.may_change_share_offsets("jobs", true).unwrap();
    let read = [(ResourceType::Group, "jobs"), (ResourceType::Topic, "orders")]
        .map(|(kind, name)| rule(kind, name, Operation::Read));
    let his = read.clone().map(|acl| Acl { principal: "User:bob".into(), ..acl });
    allow(&broker, &[&read[..], &his[..]].concat());
    let take = |name: &str| {
        let broker = somebody(&broker, name, Proof::Password);
        let (mut member, of) =
            (broker.share_consumer("jobs", name).unwrap(), broker.find_partition("orders", 0).unwrap());
        let wanted = Wanted { records: 1, exactly: true, batch: 1 };
        let terms = member.terms();
        let taken = member.acquire(&terms, &of, wanted, 1 << 20, &mut ReadSession::default()).unwrap();
        (member, of, taken[0].first)
    };
    let (_first, mut second) = (take("alice"), take("bob"));
    allow(&broker, &his);
    let (member, of, offset) = &mut second;
    let rejected = Acknowledged { first: *offset, last: *offset, how: Acknowledgement::Reject };
    member.acknowledge_held(of, &[rejected]).unwrap();
    assert_eq!(broker.topic("dead").unwrap().partition(0).unwrap().high_watermark(), Ok(1));
}

/// Something that is asked of the broker, and what it takes.
type Verb = (&'static str, fn(&Broker) -> Result<()>, &'static [(ResourceType, Operation)]);

/// Each verb takes all of these rights, and no others.
const VERBS: &[Verb] = {
    use Operation::*;
    use ResourceType::{Cluster, Group, Topic, TransactionalId};
    &[
        ("describe_topic", |broker| broker.describe_topic("t").map(drop), &[(Topic, Describe)]),
        ("describe_partition", |broker| broker.describe_partition("t", 0).map(drop), &[(Topic, Describe)]),
        ("describe_partitions", |broker| broker.describe_partitions("t").map(drop), &[(Topic, Describe)]),
        ("topic_size", |broker| broker.topic_size("t").map(drop), &[(Topic, Describe)]),
        ("leader_epoch", |broker| broker.leader_epoch("t", 0).map(drop), &[(Topic, Describe)]),
        ("end_of_epoch", |broker| broker.end_of_epoch("t", 0, 0).map(drop), &[(Topic, Describe)]),
        ("find_topic", |broker| broker.find_topic("t").map(drop), &[(Topic, Read)]),
        ("find_partition", |broker| broker.find_partition("t", 0).map(drop), &[(Topic, Read)]),
        ("active_producers", |broker| broker.active_producers("t", 0).map(drop), &[(Topic, Read)]),
        ("create_topic", |broker| broker.create_topic("t", 1).map(drop), &[(Topic, Create)]),
        ("alter_topic", |broker| broker.alter_topic("t", None, &settings()).map(drop), &[(Topic, AlterConfigs)]),
        ("add partitions", |broker| broker.alter_topic("t", Some(9), &no_settings()).map(drop), &[(Topic, Alter)]),
        (
            "alter both",
            |broker| broker.alter_topic("t", Some(9), &settings()).map(drop),
            &[(Topic, Alter), (Topic, AlterConfigs)],
        ),
        ("trim", |broker| broker.trim("t", 0, 0).map(drop), &[(Topic, Delete)]),
        ("drop_topic", |broker| broker.drop_topic("t"), &[(Topic, Delete)]),
        ("join", |broker| broker.join("g", &["t"], JoinOptions::default()).map(drop), &[(Group, Read), (Topic, Read)]),
        ("group", |broker| broker.group("g").map(drop), &[(Group, Describe)]),
        ("committed_offsets", |broker| broker.committed_offsets("g").map(drop), &[(Group, Describe)]),
        ("group_offsets", |broker| broker.group_offsets("g").map(drop), &[(Group, Describe)]),
        ("lag", |broker| broker.lag("g").map(drop), &[(Group, Describe)]),
        ("share_offsets", |broker| broker.share_offsets("g").map(drop), &[(Group, Describe)]),
        ("reset_offsets", |broker| broker.reset_offsets("g", &[("t".into(), 0, 0)]), &[(Group, Read), (Topic, Read)]),
        ("may_reset_offsets", |broker| broker.may_reset_offsets("g"), &[(Group, Read)]),
        ("delete_group", |broker| broker.delete_group("g"), &[(Group, Delete)]),
        ("delete_offsets", |broker| broker.delete_offsets("g", &[]).map(drop), &[(Group, Delete)]),
        ("begin_transaction", |broker| broker.begin_transaction("x", 1000).map(drop), &[(TransactionalId, Write)]),
        ("init_producer", |broker| broker.init_producer("x", 1000, None).map(drop), &[(TransactionalId, Write)]),
        ("transaction", |broker| broker.transaction("x").map(drop), &[(TransactionalId, Describe)]),
        ("abort_transaction", |broker| broker.abort_transaction("x"), &[(TransactionalId, Write)]),
        ("quotas", |broker| broker.quotas().map(drop), &[(Cluster, DescribeConfigs)]),
        ("alter_quotas", |broker| broker.alter_quotas(&somebodys(), &Default::default()), &[(Cluster, AlterConfigs)]),
        ("scram_credentials", |broker| broker.scram_credentials().map(drop), &[(Cluster, Describe)]),
        ("alter_scram_credentials", |broker| broker.alter_scram_credentials([]), &[(Cluster, Alter)]),
        ("acls", |broker| broker.acls(&AclFilter::default()).map(drop), &[(Cluster, Describe)]),
        ("create_acls", |broker| broker.create_acls(&[]), &[(Cluster, Alter)]),
        ("delete_acls", |broker| broker.delete_acls(&[]).map(drop), &[(Cluster, Alter)]),
        ("set_feature_levels", |broker| broker.set_feature_levels(&Default::default()), &[(Cluster, Alter)]),
        (
            "name dead letters",
            |broker| broker.alter_configs(&of_group("g"), &dead_letters_to("t"), false),
            &[(Group, AlterConfigs), (Topic, Write)],
        ),
    ]
};

fn of_group(name: &str) -> Resource {
    Resource { kind: ResourceKind::Group, name: name.into() }
}

fn dead_letters_to(topic: &str) -> Changes {
    let named = [(DEAD_LETTERS.to_string(), Change::Set(topic.into()))];
    Changes { named: named.into(), reset_others: false }
}

fn no_settings() -> Changes {
    Changes::default()
}

fn settings() -> Changes {
    Changes { named: [("retention.ms".to_string(), Change::Default)].into(), reset_others: false }
}

fn somebodys() -> QuotaEntity {
    [("user".to_string(), Some("bob".to_string()))].into()
}

#[test]
fn each_verb_takes_its_rights_and_no_others() {
    let named = |resource_type, operation| {
        let name = match resource_type {
            ResourceType::Topic => "t",
            ResourceType::Group => "g",
            ResourceType::TransactionalId => "x",
            _ => CLUSTER_NAME,
        };
        rule(resource_type, name, operation)
    };
    for (verb, ask, rights) in VERBS {
        let allowed = |rules: &[Acl]| {
            let broker = with_users();
            broker.create_topic("t", 1).unwrap();
            allow(&broker, rules);
            !is_refused(ask(&alice(&broker)))
        };
        let own: Vec<Acl> = rights.iter().map(|&(kind, operation)| named(kind, operation)).collect();
        assert!(allowed(&own), "{verb} takes more than {rights:?}");
        // Everything else that can be done to these does not help.
        let all = rights.iter().map(|&(kind, _)| named(kind, Operation::All));
        for right in &own {
            let without = Acl { permission: Permission::Deny, ..right.clone() };
            let rules: Vec<Acl> = all.clone().chain([without]).collect();
            assert!(!allowed(&rules), "{verb} does not take {}", right.operation);
        }
    }
}

/// The broker writes them, whoever rejects: naming their topic was a way to write anywhere, and to make topics.
#[test]
fn who_names_the_topic_of_dead_letters_may_write_and_make_it_and_learns_of_none_else() {
    let broker = with_users();
    for topic in ["orders", "salaries"] {
        broker.create_topic(topic, 1).unwrap();
    }
    let mut rules =
        [Operation::AlterConfigs, Operation::Read].map(|may| rule(ResourceType::Group, "jobs", may)).to_vec();
    rules.push(rule(ResourceType::Topic, "orders", Operation::Read));
    allow(&broker, &rules);
    let alice = alice(&broker);
    let set = |topic: &str, dry| alice.alter_configs(&of_group("jobs"), &dead_letters_to(topic), dry);
    let join = |topic: &str| {
        let options = ShareOptions { dead_letters: Some(topic.into()), ..ShareOptions::default() };
        alice.join_queue("jobs", &["orders"], &options).map(drop)
    };
    let all = |topic: &str| [set(topic, true), set(topic, false), join(topic)];
    let told = |topic: &str| all(topic).map(|told| told.unwrap_err().to_string().replace(topic, "TOPIC"));
    assert!(all("salaries").into_iter().all(is_refused));
    assert_eq!(told("salaries"), told("nothings"));
    let is_there = || broker.describe_topic("nothings").is_ok();
    rules.push(rule(ResourceType::Topic, "nothings", Operation::Write));
    allow(&broker, &rules);
    assert!(all("nothings").into_iter().all(is_refused));
    assert!(!is_there() && broker.configs(&of_group("jobs")).is_empty());
    rules.push(rule(ResourceType::Topic, "nothings", Operation::Create));
    allow(&broker, &rules);
    set("nothings", true).unwrap();
    assert!(!is_there(), "it was only asked");
    set("nothings", false).unwrap();
    assert!(is_there());
    broker.drop_topic("nothings").unwrap();
    join("nothings").unwrap();
    assert!(is_there(), "who may makes it");
    broker.drop_topic("nothings").unwrap();
    allow(&broker, &rules[..3]);
    drop(alice.join_queue("jobs", &["orders"], &ShareOptions::default()).unwrap());
    assert!(!is_there(), "who may not does not");
}

#[test]
fn a_member_is_not_told_of_dead_letters_that_it_may_not_see() {
    let mut config = Config::in_memory();
    (config.security.users, config.auto_create) = (true, false);
    let broker = Broker::open(config).unwrap();
    let partition =
        broker.create_topic("orders", 1).and_then(|_| broker.topic("orders")).unwrap().partition(0).unwrap();
    let mut records = Records::default();
    records.push(None, None, Some(Cow::Borrowed(b"one")));
    partition.make_durable(&partition.write(&records, Terms::default()).unwrap()).unwrap();
    broker.alter_configs(&of_group("jobs"), &dead_letters_to("salaries"), false).unwrap();
    let mut rules = vec![
        rule(ResourceType::Group, "jobs", Operation::Read),
        rule(ResourceType::Topic, "orders", Operation::Read),
        rule(ResourceType::Topic, "mine", Operation::Write),
    ];
    allow(&broker, &rules);
    broker.create_topic("mine", 1).unwrap();
    let alice = alice(&broker);
    let mut member = alice.join_queue("jobs", &["orders"], &ShareOptions::default()).unwrap();
    let (waiter, of) = (Waiter::new(), alice.find_partition("orders", 0).unwrap());
    let wait = PollWait { waiter: &waiter, deadline: Some(Instant::now()), wait: &mut |until| waiter.wait(until) };
    assert_eq!(member.poll(PollLimits { records: 1, bytes: 1 << 20 }, wait, &mut |_| ()), Ok(1));
    let mut told = || {
        let rejected = [Acknowledged { first: 0, last: 0, how: Acknowledgement::Reject }];
        let options = ShareOptions { dead_letters: Some("mine".into()), ..ShareOptions::default() };
        let joined = alice.join_queue("jobs", &["orders"], &options).map(drop);
        [member.acknowledge(&of, &rejected), joined].map(|told| told.unwrap_err().to_string())
    };
    assert!(told().iter().all(|told| !told.contains("salaries")), "{:?}", told());
    rules.push(rule(ResourceType::Topic, "salaries", Operation::Describe));
    allow(&broker, &rules);
    assert!(told().iter().all(|told| told.contains("salaries")), "{:?}", told());
}

#[test]
fn a_default_that_a_topic_could_not_live_with_names_it_to_who_may_see_its_settings() {
    let broker = with_users();
    let own = [("min.compaction.lag.ms".to_string(), "10".to_string())];
    broker.create_topic_with("salaries", None, own.into()).unwrap();
    let change = ("log.cleaner.max.compaction.lag.ms".to_string(), Change::Set("5".into()));
    let changes = Changes { named: [change].into(), reset_others: false };
    let all = Resource { kind: ResourceKind::Broker, name: String::new() };
    let may = rule(ResourceType::Cluster, CLUSTER_NAME, Operation::AlterConfigs);
    let told = || alice(&broker).alter_configs(&all, &changes, false).unwrap_err().to_string();
    allow(&broker, std::slice::from_ref(&may));
    assert!(told().contains("would be wrong") && !told().contains("salaries"), "{}", told());
    allow(&broker, &[may.clone(), rule(ResourceType::Topic, "salaries", Operation::DescribeConfigs)]);
    assert!(told().contains("salaries"), "{}", told());
}

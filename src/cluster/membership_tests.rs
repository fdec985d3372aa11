//! Groups of a cluster that is a broker of this program's own, by its Kafka protocol. Threads stand for connections.

use super::{
    Gathered, Membership,
    membership::FETCHING,
    testing::{Fixture, open_within},
};
use crate::broker::{Code, Error, JoinOptions, Outcome, PollLimits, PollWait, Position, Result, Waiter};
use rdkafka::{
    error::KafkaError,
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaErrorCode, RDKafkaRespErr},
};
use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

fn manual() -> JoinOptions {
    JoinOptions { auto_commit: false, ..JoinOptions::default() }
}

fn poll_for(member: &mut Membership, records: usize, time: Duration) -> Result<Vec<String>> {
    let waiter = Waiter::new();
    let deadline = Some(Instant::now() + time);
    let mut wait = |until| waiter.wait(until);
    let mut polled = vec![];
    let poll_wait = PollWait { waiter: &waiter, deadline, wait: &mut wait };
    member.poll(PollLimits { records, bytes: 1 << 20 }, poll_wait, &mut |record| {
        let fields = String::from_utf8_lossy(record.fields);
        polled.push(format!("{}/{}:{} {fields}", record.topic, record.partition, record.offset));
    })?;
    Ok(polled)
}

fn poll(member: &mut Membership) -> Vec<String> {
    poll_for(member, 500, Duration::ZERO).unwrap()
}

fn held(member: &Membership) -> Vec<u32> {
    member.assigned().map(|(_, partition)| partition).collect()
}

/// Keeps both in the group until each has this many partitions.
fn settle(members: &mut [&mut Membership], each: usize) {
    let until = Instant::now() + LONG;
    while members.iter().any(|member| held(member).len() != each) {
        assert!(Instant::now() < until, "{members:?} do not share");
        members.iter_mut().for_each(|member| drop(poll_for(member, 0, Duration::ZERO).unwrap()));
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_member_goes_on_where_the_group_committed() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 1).unwrap();
    fixture.produce("t", 0, &["a", "b", "c"]);
    let mut member = fixture.cluster.join("g", &["t"], manual()).unwrap();
    assert_eq!((held(&member), member.generation() > 0, member.id().len() > 1), (vec![0], true, true));
    let all = ["t/0:0 message:a", "t/0:1 message:b", "t/0:2 message:c"];
    assert_eq!(poll_for(&mut member, 2, Duration::ZERO).unwrap(), all[..2]);
    member.commit(None).unwrap();
    assert_eq!(poll(&mut member), all[2..]);
    assert_eq!(poll(&mut member), [""; 0]);
    member.leave().unwrap();
    assert_eq!(poll_for(&mut member, 1, Duration::ZERO), Err(Error::UnknownMemberId));
    let mut member = fixture.cluster.join("g", &["t"], JoinOptions::default()).unwrap();
    assert_eq!(poll(&mut member), all[2..]);
    fixture.produce("t", 0, &["d"]);
    assert_eq!(poll(&mut member), ["t/0:3 message:d"]);
    // Leaving commits the rest.
    member.leave().unwrap();
    let mut member = fixture.cluster.join("g", &["t"], manual()).unwrap();
    assert_eq!(poll(&mut member), [""; 0]);
    assert_eq!(member.seek("t", 0, Position::At(1)), Ok(1));
    assert_eq!(poll_for(&mut member, 1, Duration::ZERO).unwrap(), all[1..2]);
    member.commit(Some(&[("t", 0, 3)])).unwrap();
    let error = member.commit(Some(&[("t", 9, 3)])).unwrap_err();
    assert_eq!(error, Error::NotAssigned { topic: "t".into(), partition: 9 });
    assert_eq!(poll(&mut member), [all[2], "t/0:3 message:d"]);
    drop(member);
    let mut member = fixture.cluster.join("g", &["t"], manual()).unwrap();
    assert_eq!(poll(&mut member), ["t/0:3 message:d"]);
}

#[test]
fn where_to_begin_is_decided_by_join() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 1).unwrap();
    fixture.produce("t", 0, &["a", "b", "c"]);
    let begins = |from| fixture.cluster.join(&format!("{from:?}"), &["t"], JoinOptions { from, ..manual() }).unwrap();
    let positions = [Position::Latest, Position::BeforeEnd(1), Position::At(1), Position::Earliest];
    let mut members: Vec<_> = positions.into_iter().map(begins).collect();
    fixture.produce("t", 0, &["d"]);
    // What was there and what came later need not come in one poll.
    for (member, wanted) in members.iter_mut().zip(1..) {
        let mut read = Vec::new();
        while read.len() < wanted {
            let polled = poll_for(member, 500, Duration::from_secs(60)).unwrap();
            assert!(!polled.is_empty(), "{read:?} of {wanted}");
            read.extend(polled);
        }
        assert!(read.len() == wanted && read[wanted - 1].ends_with("message:d"), "{read:?} of {wanted}");
    }
}

#[test]
fn a_poll_that_waits_is_woken_by_a_record() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 1).unwrap();
    let mut member = fixture.cluster.join("g", &["t"], manual()).unwrap();
    thread::scope(|scope| {
        let polled = scope.spawn(|| poll_for(&mut member, 10, LONG).unwrap());
        thread::sleep(Duration::from_millis(300));
        fixture.produce("t", 0, &["late"]);
        assert_eq!(polled.join().unwrap(), ["t/0:0 message:late"]);
    });
}

#[test]
fn two_members_share_the_partitions_and_one_that_is_silent_keeps_nobody_waiting() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 2).unwrap();
    let options = JoinOptions { session_ms: 3_000, ..JoinOptions::default() };
    let mut first = fixture.cluster.join("g", &["t"], options).unwrap();
    for partition in [0, 1] {
        fixture.produce("t", partition, &["a", "b"]);
    }
    assert_eq!((held(&first), poll(&mut first).len()), (vec![0, 1], 4));
    // The first is silent while the second joins: its partition goes all the same. Whether what it was handed has arrived nobody
    // knows: it comes again.
    let mut second = fixture.cluster.join("g", &["t"], JoinOptions::default()).unwrap();
    assert_eq!(held(&second).len(), 1);
    settle(&mut [&mut first, &mut second], 1);
    assert_ne!(held(&first), held(&second));
    assert_eq!((poll(&mut first).len(), poll(&mut second).len()), (2, 2));
    for partition in [0, 1] {
        fixture.produce("t", partition, &["c"]);
    }
    let polled: BTreeSet<_> = poll(&mut first).into_iter().chain(poll(&mut second)).collect();
    assert_eq!(polled.into_iter().collect::<Vec<_>>(), ["t/0:2 message:c", "t/1:2 message:c"]);

    // Beyond its session it is let go, and what its last poll returned comes again.
    let until = Instant::now() + LONG;
    while held(&second).len() < 2 {
        assert!(Instant::now() < until, "{second:?}");
        poll_for(&mut second, 0, Duration::ZERO).unwrap();
        thread::sleep(Duration::from_millis(50));
    }
    let lost = poll(&mut second);
    assert_eq!((lost.len(), lost[0].ends_with("message:c")), (1, true), "{lost:?}");
    assert_eq!(poll_for(&mut first, 1, Duration::ZERO), Err(Error::UnknownMemberId));
    second.leave().unwrap();
}

#[test]
fn in_a_transaction_no_partition_goes_and_an_abort_goes_back() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 2).unwrap();
    for partition in [0, 1] {
        fixture.produce("t", partition, &["a"]);
    }
    let mut first = fixture.cluster.join("g", &["t"], manual()).unwrap();
    first.begin_transaction(60_000).unwrap();
    assert_eq!(poll(&mut first).len(), 2);
    thread::scope(|scope| {
        let second = scope.spawn(|| fixture.cluster.join("g", &["t"], manual()).unwrap());
        thread::sleep(Duration::from_millis(1_500));
        poll_for(&mut first, 0, Duration::ZERO).unwrap();
        assert_eq!(held(&first).len(), 2);
        first.end_transaction(Outcome::Abort).unwrap();
        let mut second = second.join().unwrap();
        settle(&mut [&mut first, &mut second], 1);
        assert_eq!((poll(&mut first).len(), poll(&mut second).len()), (1, 1), "the abort went back");
    });
}

#[test]
fn an_abort_goes_back_though_no_partition_moves() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 1).unwrap();
    fixture.produce("t", 0, &["a"]);
    let mut member = fixture.cluster.join("g", &["t"], manual()).unwrap();
    for outcome in [Outcome::Abort, Outcome::Commit] {
        member.begin_transaction(60_000).unwrap();
        assert_eq!(poll(&mut member), ["t/0:0 message:a"]);
        member.end_transaction(outcome).unwrap();
    }
    assert_eq!(poll(&mut member), [""; 0]);
}

#[test]
fn what_is_committed_by_name_stays_though_the_member_has_read_further() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 1).unwrap();
    fixture.produce("t", 0, &["a", "b", "c"]);
    let mut member = fixture.cluster.join("g", &["t"], JoinOptions::default()).unwrap();
    assert_eq!(poll(&mut member).len(), 3);
    member.commit(Some(&[("t", 0, 1)])).unwrap();
    member.leave().unwrap();
    let mut member = fixture.cluster.join("g", &["t"], manual()).unwrap();
    assert_eq!(poll(&mut member), ["t/0:1 message:b", "t/0:2 message:c"]);
}

/// The group tells a generation when all of its members are there, one whose program was killed perhaps among them.
#[test]
fn who_joins_has_no_generation_while_the_group_waits_for_another() {
    let (fixture, _valve) = Fixture::behind_a_valve(Duration::from_secs(1));
    fixture.broker.create_topic("t", 1).unwrap();
    let mut first = fixture.cluster.join("g", &["t"], manual()).unwrap();
    first.begin_transaction(60_000).unwrap();
    let second = fixture.cluster.join("g", &["t"], manual()).unwrap();
    assert_eq!((held(&second), second.generation()), (vec![], 0));
    first.end_transaction(Outcome::Abort).unwrap();
}

#[test]
fn while_a_commit_is_on_its_way_no_partition_goes() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 2).unwrap();
    let mut first = fixture.cluster.join("g", &["t"], manual()).unwrap();
    let on_its_way = first.to_commit(Some(&[("t", 0, 0)])).unwrap();
    thread::scope(|scope| {
        let second = scope.spawn(|| fixture.cluster.join("g", &["t"], manual()).unwrap());
        thread::sleep(Duration::from_millis(1_500));
        poll_for(&mut first, 0, Duration::ZERO).unwrap();
        assert_eq!(held(&first), [0, 1]);
        drop(on_its_way);
        settle(&mut [&mut first, &mut second.join().unwrap()], 1);
    });
}

#[test]
fn a_commit_of_which_a_part_is_refused_is_refused() {
    let fixture = Fixture::new();
    for topic in ["t", "u"] {
        fixture.broker.create_topic(topic, 1).unwrap();
        fixture.produce(topic, 0, &["a"]);
    }
    let mut member = fixture.cluster.join("g", &["t", "u"], manual()).unwrap();
    assert_eq!(poll_for(&mut member, 2, LONG).unwrap().len(), 2);
    for gone in ["t", "u"] {
        fixture.broker.drop_topic(gone).unwrap();
        let refused = member.commit(Some(&[("t", 0, 1), ("u", 0, 1)])).unwrap_err();
        assert_eq!(refused.code(), Code::UnknownTopicOrPartition, "{refused}");
        let refused = member.commit(None).unwrap_err();
        assert_eq!(refused.code(), Code::UnknownTopicOrPartition, "what moved: {refused}");
        fixture.broker.create_topic(gone, 1).unwrap();
    }
}

#[test]
fn partitions_that_are_added_come_to_the_group() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 1).unwrap();
    let mut member = fixture.cluster.join("g", &["t"], manual()).unwrap();
    fixture.cluster.alter_topic("t", Some(2), &crate::config::Changes::default()).unwrap();
    fixture.produce("t", 1, &["a"]);
    assert_eq!(poll_for(&mut member, 1, LONG).unwrap(), ["t/1:0 message:a"]);
}

#[test]
fn a_poll_that_waits_is_told_that_the_group_takes_the_member_no_more() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 1).unwrap();
    let mut first = fixture.cluster.join("g", &["t"], manual()).unwrap();
    let member = first.member.clone();
    thread::scope(|scope| {
        let polled = scope.spawn(|| poll_for(&mut first, 1, LONG).map_err(|error| error.code()));
        thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        member.failed(&KafkaError::MessageConsumption(RDKafkaErrorCode::GroupAuthorizationFailed));
        assert_eq!(polled.join().unwrap(), Err(Code::GroupAuthorizationFailed));
        assert!(begun.elapsed() < LONG / 2);
    });
}

#[test]
fn what_was_read_does_not_wait_for_a_node_that_is_silent() {
    let (fixture, valve) = Fixture::behind_a_valve(LONG);
    fixture.broker.create_topic("t", 1).unwrap();
    fixture.produce("t", 0, &["a", "b"]);
    let options = JoinOptions { session_ms: 45_000, ..manual() };
    let mut member = fixture.cluster.join("g", &["t"], options).unwrap();
    assert_eq!(poll_for(&mut member, 1, LONG).unwrap(), ["t/0:0 message:a"]);
    valve.close(true);
    let begun = Instant::now();
    assert_eq!(poll(&mut member), ["t/0:1 message:b"]);
    // Nothing else is known to be there.
    assert_eq!(poll(&mut member), [""; 0]);
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
    fixture.produce("t", 0, &["c"]);
    thread::scope(|scope| {
        let polled = scope.spawn(|| poll_for(&mut member, 1, LONG));
        thread::sleep(FETCHING);
        valve.close(false);
        assert_eq!(polled.join().unwrap(), Ok(vec!["t/0:2 message:c".into()]));
    });
}

/// So it goes where a rule of the cluster's is missing for a moment.
#[test]
fn what_a_node_refuses_to_read_is_told_and_polled_when_it_does_not() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 2, 1).unwrap();
    let cluster = open_within(&mock.bootstrap_servers(), Duration::from_secs(20));
    let mut member = cluster.join("g", &["t"], manual()).unwrap();
    assert_eq!(held(&member), [0, 1]);
    mock.request_errors(RDKafkaApiKey::Fetch, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 1000]);
    let told = poll_for(&mut member, 2, LONG).map_err(|error| error.code());
    assert_eq!(told, Err(Code::TopicAuthorizationFailed));
    mock.clear_request_errors(RDKafkaApiKey::Fetch);
    let (mut writes, mut gathered) = (cluster.write_session(), Gathered::default());
    for partition in [0, 1] {
        writes.add_value(&mut gathered, "t", partition, b"a").unwrap();
    }
    writes.write(&mut gathered);
    writes.make_durable();
    let (mut polled, until) = (BTreeSet::new(), Instant::now() + LONG);
    while polled.len() < 2 {
        assert!(Instant::now() < until, "{polled:?}");
        // Both have failed, and each tells it.
        polled.extend(poll_for(&mut member, 2, LONG).unwrap_or_default());
    }
    assert_eq!(polled.into_iter().collect::<Vec<_>>(), ["t/0:0 message:a", "t/1:0 message:a"]);
}

#[test]
fn where_a_group_is_nobody_waits_to_hear_when_the_program_stops() {
    let (fixture, valve) = Fixture::behind_a_valve(2 * LONG);
    fixture.broker.create_topic("t", 1).unwrap();
    let mut member = fixture.cluster.join("g", &["t"], JoinOptions { session_ms: 45_000, ..manual() }).unwrap();
    // From here on it goes on where the group committed.
    member.end_transaction(Outcome::Abort).unwrap();
    valve.close(true);
    let begun = Instant::now();
    thread::scope(|scope| {
        let polled = scope.spawn(|| poll_for(&mut member, 1, Duration::ZERO).map_err(|error| error.code()));
        thread::sleep(Duration::from_millis(300));
        fixture.cluster.give_up(true);
        assert_eq!(polled.join().unwrap(), Err(Code::BrokerNotAvailable));
    });
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
    valve.close(false);
}

#[test]
fn a_member_ends_though_no_node_is_left() {
    let Fixture { cluster, broker, server } = Fixture::new();
    broker.create_topic("t", 1).unwrap();
    let member = cluster.join("g", &["t"], manual()).unwrap();
    drop(server);
    let begun = Instant::now();
    drop(member);
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
}

#[test]
fn what_cannot_be_is_refused() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 1).unwrap();
    let join = |group: &str, topic: &str, options| fixture.cluster.join(group, &[topic], options).map(drop);
    assert_eq!(join("g", "nope", manual()), Err(Error::UnknownTopic("nope".into())));
    assert!(matches!(join("", "t", manual()), Err(Error::InvalidGroup(_))));
    let short = JoinOptions { session_ms: 1, ..manual() };
    assert!(matches!(join("g", "t", short), Err(Error::InvalidSessionTimeout(_))));
    let beyond = JoinOptions { from: Position::At(9), ..manual() };
    assert_eq!(join("g", "t", beyond), Err(Error::OffsetOutOfRange { first: 0, end: 0 }));
}

//! Heartbeats, seats and what a restart leaves, one event after the other.

use super::*;
use crate::broker::group::{
    Committer, SavedGroup,
    consumer::{Subscription as ConsumerSubscription, heartbeat::Topics},
};

const MEMBER: HeartbeatRequest<'_> = HeartbeatRequest {
    member_id: "a",
    epoch: 0,
    rack_id: None,
    client_id: "client",
    client_host: "/127.0.0.1",
    session_timeout_ms: 100,
    names: None,
};

fn topics() -> Topics {
    [("t".into(), 2), ("u".into(), 1)].into()
}

/// The answer to a heartbeat at `now`: the epoch, and the partitions if any are told.
fn beat(group: &mut Group, now: u64, request: HeartbeatRequest<'_>) -> Result<(i32, Option<Vec<String>>)> {
    let beat = group.share_heartbeat(now, request, topics)?;
    let named =
        |assigned: Partitions| assigned.iter().map(|(topic, partition)| format!("{topic}/{partition}")).collect();
    Ok((beat.epoch, beat.assigned.map(named)))
}

fn joins<'a>(member_id: &'a str, names: &[&'a str]) -> HeartbeatRequest<'a> {
    HeartbeatRequest { member_id, names: Some(names.to_vec()), ..MEMBER }
}

fn steady(member_id: &str, epoch: i32) -> HeartbeatRequest<'_> {
    HeartbeatRequest { member_id, epoch, ..MEMBER }
}

fn told(epoch: i32, partitions: &[&str]) -> Result<(i32, Option<Vec<String>>)> {
    Ok((epoch, Some(partitions.iter().map(|name| (*name).into()).collect())))
}

fn seat(group: &mut Group, topics: &[(&str, u32)]) -> MemberNumber {
    let topics = topics.iter().map(|&(topic, count)| (topic.into(), count)).collect();
    group.join_share(0, Subscription { topics, client: "nc".into(), secret: 10 }).unwrap()
}

#[test]
fn members_come_to_the_epochs_that_kafkas_come_to() {
    let mut group = Group::new(0, 0);
    assert_eq!(beat(&mut group, 0, joins("a", &["t"])), told(3, &["t/0", "t/1"]));
    for epoch in [3, 2] {
        assert_eq!(beat(&mut group, 0, steady("a", epoch)), Ok((3, None)), "its own and the one before");
    }
    for named in [1, 4, 8] {
        assert_eq!(beat(&mut group, 0, steady("a", named)), Err(Error::FencedMemberEpoch { named, known: 3 }));
    }
    assert_eq!(beat(&mut group, 0, steady("stranger", 3)), Err(Error::UnknownMemberId));
    assert_eq!(beat(&mut group, 0, joins("b", &["t"])), told(4, &["t/1"]));
    assert_eq!(beat(&mut group, 0, steady("a", 3)), told(4, &["t/0"]));
    assert_eq!(beat(&mut group, 0, steady("a", 3)), Ok((4, None)));
    assert_eq!(beat(&mut group, 0, joins("a", &["t"])), told(4, &["t/0"]), "who joins again is told anew");
    assert_eq!(beat(&mut group, 0, steady("a", -1)), Ok((-1, None)));
    assert_eq!(beat(&mut group, 0, steady("a", -1)), Err(Error::UnknownMemberId));
    assert_eq!(beat(&mut group, 0, steady("b", -1)), Ok((-1, None)));
    let empty = group.describe();
    assert_eq!(
        (empty.state, empty.generation, empty.assignment_epoch, &*empty.protocol),
        ("Empty", Some(6), 4, "simple")
    );
}

#[test]
fn a_subscription_that_changes_begins_an_epoch() {
    let mut group = Group::new(0, 0);
    beat(&mut group, 0, joins("a", &["t"])).unwrap();
    let with = |epoch, names| HeartbeatRequest { epoch, ..joins("a", names) };
    assert_eq!(beat(&mut group, 0, with(3, &["t", "t"])), told(3, &["t/0", "t/1"]), "the same, which is told again");
    assert_eq!(beat(&mut group, 0, with(3, &[])), told(4, &[]));
    assert_eq!(beat(&mut group, 0, with(4, &["t"])), told(5, &["t/0", "t/1"]), "the group had these before");
    assert_eq!(beat(&mut group, 0, with(5, &["u", "t"])), told(7, &["t/0", "t/1", "u/0"]), "and u for the first time");
    assert_eq!(beat(&mut group, 0, joins("b", &["not there"])), told(8, &[]));
    assert_eq!(beat(&mut group, 0, steady("a", 7)), Ok((8, None)));
}

#[test]
fn topics_grow_and_go() {
    let mut group = Group::new(0, 0);
    beat(&mut group, 0, joins("a", &["t", "later"])).unwrap();
    for ignored in ["other", "t"] {
        group.topic_changed(0, ignored, Some(2));
    }
    assert_eq!(group.generation(), 3);
    group.topic_changed(0, "t", Some(3));
    assert_eq!(beat(&mut group, 0, steady("a", 3)), told(5, &["t/0", "t/1", "t/2"]));
    group.topic_changed(0, "t", None);
    assert_eq!(beat(&mut group, 0, steady("a", 5)), told(6, &[]));
    group.topic_changed(0, "later", Some(1));
    assert_eq!(beat(&mut group, 0, steady("a", 6)), told(8, &["later/0"]));
}

#[test]
fn who_is_silent_for_its_session_is_gone() {
    let mut group = Group::new(0, 0);
    beat(&mut group, 0, joins("a", &["t"])).unwrap();
    beat(&mut group, 50, steady("a", 3)).unwrap();
    let slower = HeartbeatRequest { session_timeout_ms: 200, ..joins("b", &["t"]) };
    beat(&mut group, 50, slower).unwrap();
    assert_eq!(group.next_deadline(), Some(150));
    group.tick(150);
    assert_eq!((group.member_count(), group.next_deadline()), (1, Some(250)));
    assert_eq!(beat(&mut group, 150, steady("b", 4)), told(5, &["t/0", "t/1"]));
    assert_eq!(beat(&mut group, 150, steady("a", 4)), Err(Error::UnknownMemberId));
    group.tick(350);
    assert_eq!(group.empty_since(), Some(350));
}

#[test]
fn members_of_text_read_everything_and_leave_the_others_theirs() {
    let mut group = Group::new(0, 0);
    let first = seat(&mut group, &[("t", 2)]);
    assert_eq!((first, group.generation()), (1, 1));
    assert_eq!(beat(&mut group, 0, joins("a", &["t"])), told(2, &["t/0", "t/1"]));
    assert_eq!(beat(&mut group, 0, joins("b", &["t"])), told(3, &["t/1"]));
    let described = group.describe().members;
    assert_eq!((&*described[0].member_id, described[0].owned.len(), described[0].epoch), ("1-000000000000000a", 2, 3));
    assert_eq!(described[1].owned.len(), 1);
    assert_eq!(beat(&mut group, 0, joins("1-000000000000000a", &["t"])), Err(Error::UnknownMemberId));
    let second = seat(&mut group, &[("u", 1)]);
    assert_eq!((group.generation(), group.describe().assignment_epoch), (4, 4));
    for number in [first, second] {
        assert_eq!(group.leave_share(0, number), Ok(()));
        assert_eq!(group.leave_share(0, number), Err(Error::UnknownMemberId));
    }
    assert_eq!(group.members.kind().unwrap().subscribed_topics(), Some(["t"].into()));
}

#[test]
fn a_group_is_of_one_kind() {
    let text = || ConsumerSubscription {
        topics: vec![],
        client: "c".into(),
        session_timeout_ms: 100,
        assignor: None,
        secret: 0,
    };
    let mut share = Group::new(0, 0);
    share.make_share(0).unwrap();
    assert!(share.is_share() && share.take_unsaved().is_some());
    for _ in ["without members", "with one"] {
        assert_eq!(share.join(0, text()).unwrap_err(), Error::InconsistentGroupProtocol);
        let sender = Sender { member_id: "", instance_id: None };
        assert_eq!(share.may_commit(0, sender, -1), Err(Error::ShareGroup));
        for committer in [Committer::Anybody, Committer::Outsider] {
            assert_eq!(share.may_commit_later(0, committer, &[]), Err(Error::ShareGroup));
        }
        seat(&mut share, &[("t", 1)]);
    }

    let mut other = Group::new(0, 0);
    let (number, _) = other.join(0, text()).unwrap();
    for _ in ["with a member", "without"] {
        assert_eq!(beat(&mut other, 0, joins("a", &["t"])), Err(Error::NotShareGroup));
        assert_eq!(beat(&mut other, 0, steady("a", 1)), Err(Error::NotShareGroup));
        let subscription = Subscription { topics: vec![], client: "nc".into(), secret: 1 };
        assert_eq!(other.join_share(0, subscription), Err(Error::InconsistentGroupProtocol));
        let _ = other.leave(0, number);
    }
}

#[test]
fn members_go_on_after_a_restart() {
    let mut group = Group::new(0, 0);
    beat(&mut group, 0, HeartbeatRequest { rack_id: Some("r 1"), ..joins("a", &["t", "no topic/1"]) }).unwrap();
    beat(&mut group, 0, joins("b", &["t"])).unwrap();
    seat(&mut group, &[("t", 2)]);
    let line = group.take_unsaved().unwrap().group.unwrap().to_line();
    assert_eq!(
        String::from_utf8_lossy(&line),
        "type:share generation:5 last_member:3 had:t/2 member:a client:client host:/127.0.0.1 rack:r\\x201 session:100 \
         topic:no\\x20topic/1 topic:t reads:t/0 member:b client:client host:/127.0.0.1 session:100 topic:t reads:t/1"
    );
    let restored = |now| Group::restore(now, 0, SavedGroup::parse(&line).unwrap());
    let mut after = restored(1000);
    assert_eq!(after.take_unsaved(), None);
    assert_eq!((after.generation(), after.next_deadline(), after.member_count()), (5, Some(1100), 2));
    assert_eq!(beat(&mut after, 1000, steady("a", 3)), told(5, &["t/0"]), "it may not have been told yet");
    assert_eq!(beat(&mut after, 1000, steady("b", 5)), Ok((5, None)));
    assert_eq!(beat(&mut after, 1000, steady("b", 4)), Err(Error::FencedMemberEpoch { named: 4, known: 5 }));
    assert_eq!(beat(&mut after, 1000, joins("c", &["t"])), told(6, &["t/0"]), "the group had these before");
    assert_eq!(seat(&mut after, &[]), 5);
    let named = Err(Error::FencedMemberEpoch { named: 6, known: 5 });
    assert_eq!(beat(&mut restored(0), 0, steady("a", 6)), named, "an epoch that there never was");
}

#[test]
fn a_group_that_is_made_twice_is_saved_once() {
    let mut group = Group::new(0, 0);
    group.make_share(0).unwrap();
    assert!(group.take_unsaved().is_some());
    group.make_share(0).unwrap();
    assert_eq!(group.take_unsaved(), None);
}

#[test]
fn what_the_log_would_not_take_is_refused() {
    let mut group = Group::new(0, 0);
    let long: Vec<String> = (0..80).map(|number| format!("{number}{}", "x".repeat(30_000))).collect();
    let names: Vec<&str> = long.iter().map(String::as_str).collect();
    assert_eq!(beat(&mut group, 0, joins("a", &names)), Err(Error::GroupTooLarge));
    beat(&mut group, 0, joins("a", &["t"])).unwrap();
    let more = HeartbeatRequest { epoch: 3, ..joins("a", &names) };
    assert_eq!(beat(&mut group, 0, more), Err(Error::GroupTooLarge));
    assert_eq!(beat(&mut group, 0, steady("a", 3)), Ok((3, None)));
}

#[test]
fn a_group_has_no_more_members_than_kafkas() {
    let mut group = Group::new(0, 0);
    let ids: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    for id in &ids {
        beat(&mut group, 0, joins(id, &["t"])).unwrap();
    }
    let one_more = beat(&mut group, 0, joins("a", &["t"]));
    assert_eq!(one_more, Err(Error::GroupFull(200)));
    let of_text = Subscription { topics: vec![], client: "".into(), secret: 7 };
    assert_eq!(group.join_share(0, of_text), Err(Error::GroupFull(200)), "text's count as well");
    assert_eq!(Error::GroupFull(200).code().name(), "GROUP_MAX_SIZE_REACHED");
    assert!(beat(&mut group, 0, joins("0", &["t"])).is_ok(), "who is in it joins again");
    beat(&mut group, 0, steady("1", -1)).unwrap();
    assert!(beat(&mut group, 0, joins("a", &["t"])).is_ok(), "another one left");
}

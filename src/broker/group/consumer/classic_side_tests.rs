//! Classic clients in groups whose partitions the broker assigns, and groups that change their type.

use super::{
    Group, Subscription,
    heartbeat::{Heartbeat, HeartbeatRequest, JOINS, LEAVES, Topics},
};
use crate::broker::{
    Error, Result,
    group::{
        Answer, GroupType,
        classic::{JoinRequest, Joined, Reply, Sender, SyncRequest, subscription},
    },
};
use std::collections::{BTreeSet, HashMap};

const SESSION: u64 = 10_000;
const REBALANCE: u64 = 5_000;

fn topics() -> Topics {
    Topics::from([("t".into(), 2)])
}

/// A subscription to `t`, of version 1 if it says what the member has.
fn metadata(owned: Option<&[u32]>) -> Vec<u8> {
    let begin = [&[0, u8::from(owned.is_some())], &b"\0\0\0\x01\0\x01t\xff\xff\xff\xff"[..]].concat();
    let Some(owned) = owned else { return begin };
    let assignment = subscription::write_assignment(1, owned.iter().map(|&partition| ("t", partition)));
    [begin, assignment[2..assignment.len() - 4].to_vec()].concat()
}

fn request(member_id: &str, metadata: Vec<u8>) -> JoinRequest {
    JoinRequest {
        client_id: "classic".into(),
        session_timeout_ms: SESSION,
        rebalance_timeout_ms: REBALANCE,
        ..JoinRequest::of_consumer(member_id, "new", metadata)
    }
}

fn join(group: &mut Group, now: u64, request: JoinRequest) -> Result<Joined> {
    group.join_assigned(now, &request, topics).expect("the broker assigns")
}

fn sync(group: &mut Group, now: u64, member_id: &str, generation: i32) -> Result<Vec<u32>> {
    let sender = Sender { member_id, instance_id: None };
    let (protocol_type, protocol) = (Some("consumer"), Some("range"));
    let request = SyncRequest { sender, generation, protocol_type, protocol, assignments: HashMap::new() };
    let Reply::Now(assigned) = group.sync_group(now, request)? else { panic!("it waits") };
    Ok(subscription::assignment(&assigned).unwrap().into_iter().map(|(_, partition)| partition).collect())
}

fn heartbeat(group: &mut Group, now: u64, member_id: &str, generation: i32) -> Result<()> {
    group.heartbeat(now, Sender { member_id, instance_id: None }, generation)
}

fn heartbeat_request(epoch: i32, owned: &[u32]) -> HeartbeatRequest<'static> {
    HeartbeatRequest {
        member_id: "m",
        instance_id: None,
        epoch,
        rack_id: None,
        client_id: "java",
        client_host: "/127.0.0.1",
        session_timeout_ms: SESSION,
        rebalance_timeout_ms: (epoch == JOINS).then_some(REBALANCE),
        names: (epoch == JOINS).then(|| vec!["t"]),
        pattern: None,
        rules: None,
        assignor: None,
        owned: Some(owned.iter().map(|&partition| ("t".into(), partition)).collect::<BTreeSet<_>>()),
    }
}

/// A heartbeat of a member of the newer protocol: its epoch, and what it is told.
fn beat(group: &mut Group, now: u64, epoch: i32, owned: &[u32]) -> Result<(i32, Option<Vec<u32>>)> {
    if epoch == JOINS {
        group.upgrade(now, topics);
    }
    let Heartbeat { epoch, assigned } = group.consumer_heartbeat(now, heartbeat_request(epoch, owned), topics)?;
    Ok((epoch, assigned.map(|assigned| assigned.iter().map(|owned| owned.partition).collect())))
}

/// A classic group of `c`, which has both partitions.
fn classic() -> Group {
    let mut group = Group::new(0, 0);
    let Ok(Reply::Now(joined)) =
        group.join_group(0, JoinRequest { new_member_id: "c".into(), ..request("", metadata(None)) })
    else {
        panic!("it joins at once")
    };
    let assigned = subscription::write_assignment(0, [("t", 0), ("t", 1)].into_iter());
    let (sender, assignments) = (Sender { member_id: "c", instance_id: None }, HashMap::from([("c".into(), assigned)]));
    let request =
        SyncRequest { sender, generation: joined.generation, protocol_type: None, protocol: None, assignments };
    assert!(matches!(group.sync_group(0, request), Ok(Reply::Now(_))));
    group
}

fn types(group: &Group) -> (GroupType, &'static str, i32) {
    (group.describe().group_type, group.state(), group.generation())
}

#[test]
fn classic_member_joins_beside_others_and_lets_go_before_another_has_it() {
    let mut group = Group::new(0, 0);
    beat(&mut group, 0, JOINS, &[]).unwrap();
    let unreadable = join(&mut group, 0, request("", vec![0, 1]));
    assert_eq!(unreadable, Err(Error::InconsistentGroupProtocol));
    let comes = JoinRequest { comes_with_id: true, ..request("", metadata(None)) };
    assert_eq!(join(&mut group, 0, comes), Err(Error::MemberIdRequired("new".into())));
    let joined = join(&mut group, 0, request("c", metadata(None))).unwrap();
    assert_eq!((joined.generation, &*joined.leader, joined.protocol.as_deref()), (3, "", Some("range")));
    assert_eq!(sync(&mut group, 0, "c", 3), Ok(vec![]));
    assert_eq!(heartbeat(&mut group, 0, "c", 3), Ok(()));
    assert_eq!(beat(&mut group, 0, 2, &[0, 1]), Ok((2, Some(vec![0]))));
    assert_eq!(beat(&mut group, 0, 2, &[0]), Ok((3, None)));
    assert_eq!(heartbeat(&mut group, 0, "c", 3), Err(Error::RebalanceInProgress), "there is more for it");
    assert_eq!(join(&mut group, 0, request("c", metadata(None))).unwrap().generation, 3);
    assert_eq!((sync(&mut group, 0, "c", 3), group.state()), (Ok(vec![1]), "Stable"));
    assert_eq!(heartbeat(&mut group, 0, "c", 3), Ok(()));
    assert_eq!(heartbeat(&mut group, 0, "m", 3), Err(Error::UnknownMemberId), "that is of the newer protocol");
    assert!(matches!(heartbeat(&mut group, 0, "c", 2), Err(Error::IllegalGeneration(_))));
    let sender = Sender { member_id: "c", instance_id: None };
    assert_eq!(group.may_commit(0, sender, 3), Ok(()));
    assert!(matches!(group.may_commit(0, sender, 2), Err(Error::IllegalGeneration(_))));
    let members = group.describe().members;
    assert_eq!(members.iter().map(|member| member.is_classic).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn classic_member_that_says_what_it_has_keeps_it_until_it_joins_without() {
    let mut group = classic();
    assert_eq!(beat(&mut group, 0, JOINS, &[]), Ok((2, Some(vec![]))));
    assert_eq!(heartbeat(&mut group, 0, "c", 1), Err(Error::RebalanceInProgress));
    let joined = join(&mut group, 0, request("c", metadata(Some(&[0, 1])))).unwrap();
    assert_eq!((joined.generation, sync(&mut group, 0, "c", 1)), (1, Ok(vec![0])));
    assert_eq!(beat(&mut group, 0, 2, &[]), Ok((2, None)));
    assert_eq!(join(&mut group, 0, request("c", metadata(Some(&[0])))).unwrap().generation, 2);
    assert_eq!(beat(&mut group, 0, 2, &[]), Ok((2, Some(vec![1]))));
    assert_eq!(sync(&mut group, 0, "c", 2), Ok(vec![0]));
}

#[test]
fn classic_member_that_does_not_join_again_is_removed() {
    let mut group = classic();
    beat(&mut group, 0, JOINS, &[]).unwrap();
    assert_eq!(heartbeat(&mut group, 1_000, "c", 1), Err(Error::RebalanceInProgress));
    assert_eq!(heartbeat(&mut group, 5_000, "c", 1), Err(Error::RebalanceInProgress));
    assert_eq!(group.next_deadline(), Some(1_000 + REBALANCE));
    assert_eq!(beat(&mut group, 6_000, 2, &[]), Ok((3, Some(vec![0, 1]))));
}

#[test]
fn group_of_classic_members_goes_over_and_comes_back_when_they_are_alone() {
    let mut group = classic();
    assert_eq!(types(&group), (GroupType::Classic, "Stable", 1));
    assert_eq!(beat(&mut group, 0, JOINS, &[]), Ok((2, Some(vec![]))));
    assert_eq!(types(&group), (GroupType::Consumer, "Reconciling", 2));
    beat(&mut group, 0, LEAVES, &[]).unwrap();
    assert_eq!(types(&group), (GroupType::Classic, "PreparingRebalance", 3));
    assert_eq!(
        heartbeat(&mut group, 0, "c", 1).map_err(|error| matches!(error, Error::IllegalGeneration(_))),
        Err(true)
    );
    let Ok(Reply::Now(joined)) = group.join_group(0, request("c", metadata(None))) else { panic!("it is alone") };
    assert_eq!((joined.generation, &*joined.leader), (4, "c"));
}

#[test]
fn text_member_joins_beside_classic_ones_if_they_can_be_read() {
    let text = || Subscription {
        topics: vec![("t".into(), 2)],
        client: "nc".into(),
        session_timeout_ms: SESSION,
        assignor: None,
        secret: 0,
    };
    let mut group = classic();
    group.upgrade(0, topics);
    let (number, told) = group.join(0, text()).unwrap();
    assert_eq!((told.generation, told.owned), (2, vec![]));
    assert_eq!(join(&mut group, 0, request("c", metadata(None))).unwrap().generation, 2);
    assert_eq!(sync(&mut group, 0, "c", 2), Ok(vec![0]));
    group.begin_poll(0, number).unwrap();
    assert_eq!(group.end_poll(0, number).unwrap().owned[0].partition, 1);
    group.leave(0, number).unwrap();
    assert_eq!(types(&group), (GroupType::Classic, "PreparingRebalance", 3));

    let mut group = Group::new(0, 0);
    assert!(group.join_group(0, request("", vec![0, 1])).is_ok());
    group.upgrade(0, topics);
    assert_eq!(group.join(0, text()).map(drop), Err(Error::InconsistentGroupProtocol));
    assert_eq!(beat(&mut group, 0, JOINS, &[]), Err(Error::NotConsumerGroup));
}

#[test]
fn who_waits_while_its_group_goes_over_is_sent_back() {
    let mut group = classic();
    let Ok(Reply::Later(ticket)) = group.join_group(0, request("", metadata(None))) else { panic!("it waits for c") };
    beat(&mut group, 0, JOINS, &[]).unwrap();
    assert_eq!(group.take_answers(), [(ticket, Answer::Joined(Err(Error::RebalanceInProgress)))]);
    assert_eq!(group.member_count(), 3);
}

#[test]
fn static_classic_member_is_followed_by_one_of_the_newer_protocol() {
    let mut group = Group::new(0, 0);
    beat(&mut group, 0, JOINS, &[]).unwrap();
    let fixed = |id| JoinRequest { instance_id: Some("i".into()), ..request(id, metadata(None)) };
    let joined = join(&mut group, 0, fixed("")).unwrap();
    assert_eq!((&*joined.member_id, joined.generation), ("new", 3));
    assert_eq!(beat(&mut group, 0, 2, &[0]), Ok((2, Some(vec![0]))));
    assert_eq!(beat(&mut group, 0, 2, &[0]), Ok((3, None)));
    join(&mut group, 0, fixed("new")).unwrap();
    assert_eq!(sync(&mut group, 0, "new", 3), Ok(vec![1]));
    let again = JoinRequest { new_member_id: "newer".into(), ..fixed("") };
    let joined = join(&mut group, 0, again).unwrap();
    assert_eq!((&*joined.member_id, joined.generation, group.state()), ("newer", 3, "Stable"));
    assert_eq!(group.describe().members[1].owned.iter().map(|owned| owned.partition).collect::<Vec<_>>(), [1]);
    assert_eq!(join(&mut group, 0, fixed("new")), Err(Error::FencedInstanceId));
    let old = Sender { member_id: "new", instance_id: Some("i") };
    assert_eq!(group.heartbeat(0, old, 3), Err(Error::FencedInstanceId));
    assert_eq!(group.heartbeat(0, Sender { member_id: "newer", ..old }, 3), Ok(()));
    let newer = HeartbeatRequest { member_id: "newest", instance_id: Some("i"), ..heartbeat_request(JOINS, &[]) };
    let Heartbeat { epoch, assigned } = group.consumer_heartbeat(0, newer, topics).unwrap();
    assert_eq!((epoch, assigned.unwrap()[0].partition), (3, 1));
    assert_eq!(group.describe().members.iter().filter(|member| member.is_classic).count(), 0);
    assert_eq!((group.member_count(), group.generation()), (2, 3));
    let by_instance = Sender { member_id: "", instance_id: Some("i") };
    assert_eq!(group.leave_group(0, by_instance), Ok(()));
    assert_eq!(group.leave_group(0, by_instance), Err(Error::UnknownMemberId));
    assert_eq!(group.leave_group(0, Sender { member_id: "m", instance_id: None }), Ok(()));
    assert_eq!(types(&group), (GroupType::Consumer, "Empty", 5));
}

#[test]
fn group_whose_last_newer_member_is_followed_by_a_classic_one_is_theirs_again() {
    let mut group = Group::new(0, 0);
    let newer = HeartbeatRequest { instance_id: Some("i"), ..heartbeat_request(JOINS, &[]) };
    group.consumer_heartbeat(0, newer, topics).unwrap();
    let joined = join(&mut group, 0, JoinRequest { instance_id: Some("i".into()), ..request("", metadata(None)) });
    let joined = joined.unwrap();
    assert_eq!(types(&group), (GroupType::Classic, "PreparingRebalance", 2));
    let sender = Sender { member_id: &joined.member_id, instance_id: Some("i") };
    assert_eq!(group.heartbeat(0, sender, joined.generation), Err(Error::RebalanceInProgress));
    let again = JoinRequest { instance_id: Some("i".into()), ..request(&joined.member_id, metadata(None)) };
    let Ok(Reply::Now(joined)) = group.join_group(0, again) else { panic!("it is alone") };
    assert_eq!((joined.generation, &*joined.leader), (3, "new"));
}

#[test]
fn only_who_joins_makes_an_empty_group_one_of_its_kind() {
    let mut group = Group::new(0, 0);
    beat(&mut group, 0, JOINS, &[]).unwrap();
    beat(&mut group, 0, LEAVES, &[]).unwrap();
    let late = Sender { member_id: "c", instance_id: None };
    assert_eq!(heartbeat(&mut group, 0, "c", 3), Err(Error::UnknownMemberId));
    assert_eq!(group.leave_group(0, late), Err(Error::UnknownMemberId));
    assert_eq!(sync(&mut group, 0, "c", 3), Err(Error::UnknownMemberId));
    assert_eq!(types(&group), (GroupType::Consumer, "Empty", 3));

    let mut group = classic();
    group.leave_group(0, late).unwrap();
    assert_eq!(group.begin_poll(0, 1).map(drop), Err(Error::UnknownMemberId));
    assert_eq!(group.leave(0, 1), Err(Error::UnknownMemberId));
    assert_eq!(beat(&mut group, 0, 2, &[]), Err(Error::NotConsumerGroup));
    assert_eq!(types(&group), (GroupType::Classic, "Empty", 2));
}

#[test]
fn lost_text_member_of_a_group_that_is_classic_again_is_told_so() {
    let text = Subscription {
        topics: vec![("t".into(), 2)],
        client: "nc".into(),
        session_timeout_ms: 100,
        assignor: None,
        secret: 0,
    };
    let mut group = classic();
    group.upgrade(0, topics);
    let (number, _) = group.join(0, text).unwrap();
    group.tick(100);
    assert_eq!(types(&group).0, GroupType::Classic);
    let unknown = Err(Error::UnknownMemberId);
    assert_eq!(group.begin_poll(100, number).map(drop), unknown);
    assert_eq!(group.end_poll(100, number).map(drop), unknown);
    assert_eq!(group.begin_commit(100, number, [].into_iter()), unknown);
    assert_eq!(group.end_commit(100, number), unknown);
    assert_eq!(group.hold(100, number, 200), unknown);
    assert_eq!(group.release(100, number), unknown);
    assert_eq!(group.owns(100, number, "t", 0).map(drop), unknown);
    assert_eq!(group.leave(100, number), unknown);
}

/// It was kept by a copy of the topic's name for each: 6 GB of them here.
#[test]
fn what_a_classic_member_says_it_has_is_kept_where_the_group_has_it() {
    let mut group = Group::new(0, 0);
    beat(&mut group, 0, JOINS, &[]).unwrap();
    let name = "n".repeat(30_000);
    let owned = subscription::write_assignment(1, (0..200_000).map(|partition| (&*name, partition)));
    let metadata = [&metadata(None)[..], &owned[2..owned.len() - 4]].concat();
    let metadata = [&[0, 1], &metadata[2..]].concat();
    assert_eq!(subscription::read(&metadata).unwrap().owned.len(), 200_000);
    assert_eq!(join(&mut group, 0, request("c", metadata)).unwrap().generation, 3);
    assert_eq!(group.describe().members[1].owned, []);
}

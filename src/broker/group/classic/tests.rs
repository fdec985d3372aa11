//! Conversations with a classic group, and random ones with many clients that keep to the protocol.

use super::{JoinRequest, Joined, Protocol, Reply, Sender, SyncRequest};
use crate::broker::{
    Error, Result,
    group::{Answer, Group, SavedGroup, Ticket, consumer::Subscription},
};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

const SESSION: u64 = 1_000;
const REBALANCE: u64 = 5_000;

fn request(member_id: &str, new_member_id: &str) -> JoinRequest {
    JoinRequest {
        session_timeout_ms: SESSION,
        rebalance_timeout_ms: REBALANCE,
        ..JoinRequest::of_consumer(member_id, new_member_id, new_member_id)
    }
}

fn fixed(new_member_id: &str) -> JoinRequest {
    JoinRequest { instance_id: Some("i1".into()), ..request("", new_member_id) }
}

fn id(member_id: &str) -> Sender<'_> {
    Sender { member_id, instance_id: None }
}

fn sync(group: &mut Group, now: u64, member_id: &str, assigned: &[(&str, &str)]) -> Result<Reply<Vec<u8>>> {
    let assignments = assigned.iter().map(|(id, assigned)| (id.to_string(), assigned.as_bytes().to_vec())).collect();
    let generation = group.generation();
    let (protocol_type, protocol) = (Some("consumer"), Some("range"));
    group.sync_group(now, SyncRequest { sender: id(member_id), generation, protocol_type, protocol, assignments })
}

fn now<T: std::fmt::Debug>(reply: Result<Reply<T>>) -> T {
    match reply.unwrap() {
        Reply::Now(answer) => answer,
        later => panic!("{later:?}"),
    }
}

fn later<T: std::fmt::Debug>(reply: Result<Reply<T>>) -> Ticket {
    match reply.unwrap() {
        Reply::Later(ticket) => ticket,
        now => panic!("{now:?}"),
    }
}

fn joins(group: &mut Group) -> BTreeMap<Ticket, Result<Joined>> {
    let joined = |(ticket, answer)| match answer {
        Answer::Joined(joined) => Some((ticket, joined)),
        _ => None,
    };
    group.take_answers().into_iter().filter_map(joined).collect()
}

/// A stable group of `a`, who leads, and `b`.
fn group_of_two() -> Group {
    let mut group = Group::new(0, 0);
    now(group.join_group(0, request("", "a")));
    let b = later(group.join_group(0, request("", "b")));
    let joined = now(group.join_group(0, request("a", "a")));
    assert_eq!((joined.generation, &*joined.leader, joined.members.len()), (2, "a", 2));
    assert_eq!(joins(&mut group)[&b].as_ref().unwrap().members, []);
    let b = later(sync(&mut group, 0, "b", &[]));
    assert_eq!(now(sync(&mut group, 0, "a", &[("a", "0"), ("b", "1")])), b"0");
    assert_eq!(group.take_answers(), [(b, Answer::Synced(Ok(b"1".to_vec())))]);
    assert_eq!(group.state(), "Stable");
    group
}

#[test]
fn first_member_leads_without_a_delay() {
    let mut group = Group::new(0, 0);
    let joined = now(group.join_group(0, request("", "a")));
    assert_eq!((joined.generation, &*joined.member_id, &*joined.leader), (1, "a", "a"));
    assert_eq!(joined.members[0].metadata, b"a");
    assert_eq!(group.state(), "CompletingRebalance");
    assert_eq!(now(sync(&mut group, 0, "a", &[("a", "all")])), b"all");
}

/// Two consumers that start together rebalanced twice: the first had everything for as long as it took the second to come.
#[test]
fn first_members_wait_for_others_as_long_as_more_come() {
    let mut group = Group::new(0, 3_000);
    let a = later(group.join_group(0, request("", "a")));
    assert_eq!((group.state(), group.next_deadline()), ("PreparingRebalance", Some(3_000)));
    group.tick(2_999);
    assert!(joins(&mut group).is_empty());
    let b = later(group.join_group(2_999, request("", "b")));
    group.tick(3_000);
    assert!(joins(&mut group).is_empty(), "another came, so it waits once more");
    // Not for three seconds more: that is beyond the first one's rebalance timeout.
    assert_eq!(group.next_deadline(), Some(REBALANCE));
    let c = later(group.join_group(4_000, request("", "c")));
    group.tick(REBALANCE);
    let joined = joins(&mut group);
    assert_eq!(joined.keys().copied().collect::<Vec<_>>(), [a, b, c]);
    assert!(joined.values().all(|joined| joined.as_ref().is_ok_and(|joined| joined.generation == 1)));
    assert_eq!(joined[&a].as_ref().unwrap().members.len(), 3);
    // Later rebalances wait for the members alone.
    later(group.join_group(REBALANCE, request("", "d")));
    later(group.join_group(REBALANCE, request("b", "b")));
    later(group.join_group(REBALANCE, request("c", "c")));
    assert_eq!(now(group.join_group(REBALANCE, request("a", "a"))).generation, 2);
}

#[test]
fn first_member_that_stays_alone_waits_once_and_one_that_hangs_up_leaves_the_group_empty() {
    let mut group = Group::new(0, 3_000);
    let a = later(group.join_group(0, request("", "a")));
    group.tick(3_000);
    assert_eq!(joins(&mut group)[&a].as_ref().unwrap().members.len(), 1);
    let mut group = Group::new(0, 3_000);
    let a = later(group.join_group(0, request("", "a")));
    group.hung_up(1, a);
    assert_eq!((group.state(), group.next_deadline()), ("Empty", None));
    later(group.join_group(10, request("", "b")));
    assert_eq!(group.next_deadline(), Some(3_010));
}

#[test]
fn members_learn_of_a_rebalance_by_their_heartbeat() {
    let mut group = group_of_two();
    assert_eq!(group.heartbeat(0, id("b"), 2), Ok(()));
    let c = later(group.join_group(0, request("", "c")));
    assert_eq!(group.heartbeat(0, id("b"), 2), Err(Error::RebalanceInProgress));
    assert_eq!(group.may_commit(0, id("b"), 2), Ok(()));
    let b = later(group.join_group(0, request("b", "b")));
    now(group.join_group(0, request("a", "a")));
    assert_eq!(joins(&mut group).into_keys().collect::<Vec<_>>(), [c, b]);
    assert_eq!(group.heartbeat(0, id("b"), 3), Ok(()));
    assert_eq!(group.may_commit(0, id("b"), 3), Err(Error::RebalanceInProgress));
    assert!(matches!(group.heartbeat(0, id("b"), 2), Err(Error::IllegalGeneration(_))));
    assert!(matches!(group.may_commit(0, id("b"), 2), Err(Error::IllegalGeneration(_))));
    assert_eq!(group.heartbeat(0, id("stranger"), 3), Err(Error::UnknownMemberId));
}

#[test]
fn who_does_not_join_in_time_is_gone() {
    let mut group = Group::new(0, 0);
    now(group.join_group(0, JoinRequest { session_timeout_ms: 60_000, ..request("", "a") }));
    let b = later(group.join_group(0, request("", "b")));
    assert_eq!(group.next_deadline(), Some(REBALANCE));
    group.tick(REBALANCE - 1);
    assert!(joins(&mut group).is_empty());
    group.tick(REBALANCE);
    let joined = joins(&mut group).remove(&b).unwrap().unwrap();
    assert_eq!((&*joined.leader, joined.members.len()), ("b", 1));
}

#[test]
fn who_does_not_sync_in_time_is_gone() {
    let mut group = Group::new(0, 0);
    let long = |id| JoinRequest { session_timeout_ms: 60_000, ..request("", id) };
    now(group.join_group(0, long("a")));
    later(group.join_group(0, long("b")));
    now(group.join_group(0, JoinRequest { session_timeout_ms: 60_000, ..request("a", "a") }));
    group.take_answers();
    let b = later(sync(&mut group, 0, "b", &[]));
    group.tick(REBALANCE);
    assert_eq!(group.take_answers(), [(b, Answer::Synced(Err(Error::RebalanceInProgress)))]);
    assert_eq!(group.heartbeat(REBALANCE, id("a"), 2), Err(Error::UnknownMemberId));
    assert_eq!(&*now(group.join_group(REBALANCE, request("b", "b"))).leader, "b");
}

#[test]
fn sessions_end_to_the_millisecond() {
    let mut group = group_of_two();
    assert_eq!(group.heartbeat(SESSION - 1, id("a"), 2), Ok(()));
    assert_eq!(group.heartbeat(SESSION, id("b"), 2), Err(Error::UnknownMemberId));
    assert_eq!(group.heartbeat(SESSION, id("a"), 2), Err(Error::RebalanceInProgress));
    group.tick(10 * SESSION);
    assert_eq!(group.empty_since(), Some(2 * SESSION));
    assert_eq!(group.generation(), 3);
}

#[test]
fn member_that_waits_keeps_its_session() {
    let mut group = Group::new(0, 0);
    now(group.join_group(0, JoinRequest { session_timeout_ms: 4 * SESSION, ..request("", "a") }));
    let b = later(group.join_group(0, request("", "b")));
    group.tick(3 * SESSION);
    assert!(group.take_answers().is_empty());
    group.join_group(3 * SESSION, request("a", "a")).unwrap();
    assert!(joins(&mut group).remove(&b).unwrap().is_ok());
    assert_eq!(group.next_deadline(), Some(4 * SESSION));
}

#[test]
fn member_that_hangs_up_while_it_waits_falls_back_to_its_session() {
    let mut group = group_of_two();
    later(group.join_group(0, request("", "c")));
    let b = later(group.join_group(0, request("b", "b")));
    group.hung_up(10, b);
    group.heartbeat(SESSION - 1, id("a"), 2).unwrap_err();
    group.tick(SESSION + 10);
    assert_eq!(group.heartbeat(SESSION + 10, id("b"), 2), Err(Error::UnknownMemberId));
}

#[test]
fn newcomer_that_hangs_up_before_it_was_answered_is_gone_at_once() {
    let mut group = group_of_two();
    let c = later(group.join_group(0, request("", "c")));
    later(group.join_group(0, request("b", "b")));
    group.hung_up(0, c);
    let joined = now(group.join_group(0, request("a", "a")));
    assert_eq!(joined.members.len(), 2);
}

#[test]
fn new_member_is_sent_back_for_its_id_and_waited_for() {
    let mut group = group_of_two();
    let comes = JoinRequest { comes_with_id: true, ..request("", "c") };
    assert_eq!(group.join_group(0, comes), Err(Error::MemberIdRequired("c".into())));
    assert_eq!(group.state(), "Stable");
    let a = later(group.join_group(0, request("a", "a")));
    let b = later(group.join_group(0, request("b", "b")));
    assert!(joins(&mut group).is_empty(), "c was promised a place");
    assert_eq!(now(group.join_group(0, request("c", "c"))).generation, 3);
    assert_eq!(joins(&mut group).into_keys().collect::<Vec<_>>(), [a, b]);
}

#[test]
fn promised_member_id_holds_a_rebalance_up_no_longer_than_its_session() {
    let mut group = Group::new(0, 0);
    let comes = |session_timeout_ms| JoinRequest { session_timeout_ms, comes_with_id: true, ..request("", "c") };
    now(group.join_group(0, request("", "a")));
    group.join_group(0, comes(200)).unwrap_err();
    let a = later(group.join_group(
        0,
        JoinRequest { protocols: vec![Protocol { name: "range".into(), metadata: vec![7] }], ..request("a", "a") },
    ));
    group.tick(200);
    assert!(joins(&mut group).remove(&a).unwrap().is_ok());
    assert_eq!(group.join_group(200, request("c", "c")), Err(Error::UnknownMemberId));
}

#[test]
fn lost_answers_are_given_again_without_a_rebalance() {
    let mut group = Group::new(0, 0);
    let joined = now(group.join_group(0, request("", "a")));
    assert_eq!(now(group.join_group(0, request("a", "a"))), joined);
    let mut group = group_of_two();
    assert_eq!(now(group.join_group(0, request("b", "b"))).generation, 2);
    assert_eq!(now(sync(&mut group, 0, "b", &[])), b"1");
    later(group.join_group(
        0,
        JoinRequest { protocols: vec![Protocol { name: "range".into(), metadata: vec![7] }], ..request("b", "b") },
    ));
}

#[test]
fn leader_that_leaves_hands_on() {
    let mut group = group_of_two();
    group.leave_group(0, id("a")).unwrap();
    assert_eq!(group.leave_group(0, id("a")), Err(Error::UnknownMemberId));
    assert_eq!(&*now(group.join_group(0, request("b", "b"))).leader, "b");
    group.leave_group(7, id("b")).unwrap();
    assert_eq!((group.state(), group.empty_since(), group.generation()), ("Empty", Some(7), 4));
}

#[test]
fn protocol_that_most_like_best_is_chosen_and_one_must_be_common() {
    let with = |id: &str, names: &[&str]| JoinRequest {
        protocols: names.iter().map(|name| Protocol { name: name.to_string(), metadata: vec![] }).collect(),
        ..request(id, id)
    };
    let mut group = Group::new(0, 0);
    now(group.join_group(0, JoinRequest { member_id: "".into(), ..with("a", &["range", "sticky", "other"]) }));
    later(group.join_group(0, JoinRequest { member_id: "".into(), ..with("b", &["sticky", "range"]) }));
    later(group.join_group(0, JoinRequest { member_id: "".into(), ..with("c", &["sticky", "range"]) }));
    let joined = now(group.join_group(0, with("a", &["range", "sticky", "other"])));
    assert_eq!(joined.protocol.as_deref(), Some("sticky"));
    for wrong in
        [with("", &["other"]), with("", &[]), JoinRequest { protocol_type: "connect".into(), ..with("", &["range"]) }]
    {
        assert_eq!(group.join_group(0, wrong), Err(Error::InconsistentGroupProtocol));
    }
    for nothing in [with("", &[]), JoinRequest { protocol_type: "".into(), ..with("", &["range"]) }] {
        assert_eq!(Group::new(0, 0).join_group(0, nothing), Err(Error::InconsistentGroupProtocol));
    }
    let (sender, generation) = (id("a"), group.generation());
    let other =
        SyncRequest { sender, generation, protocol_type: None, protocol: Some("range"), assignments: HashMap::new() };
    assert_eq!(group.sync_group(0, other), Err(Error::InconsistentGroupProtocol));
}

#[test]
fn static_member_has_its_assignment_back_without_a_rebalance_and_its_old_self_is_fenced() {
    let mut group = Group::new(0, 0);
    now(group.join_group(0, fixed("a1")));
    assert_eq!(now(sync(&mut group, 0, "a1", &[("a1", "all")])), b"all");
    let joined = now(group.join_group(0, fixed("a2")));
    assert_eq!((joined.generation, &*joined.member_id, &*joined.leader), (1, "a2", "a1"));
    assert_eq!(now(sync(&mut group, 0, "a2", &[])), b"all");
    let old = Sender { member_id: "a1", instance_id: Some("i1") };
    assert_eq!(group.heartbeat(0, old, 1), Err(Error::FencedInstanceId));
    assert_eq!(group.heartbeat(0, Sender { member_id: "a2", ..old }, 1), Ok(()));
    assert_eq!(group.heartbeat(0, Sender { instance_id: Some("i2"), ..old }, 1), Err(Error::UnknownMemberId));
    let again = now(group.join_group(0, JoinRequest { can_skip_assignment: true, ..fixed("a3") }));
    assert!(again.skip_assignment && again.leader == "a3" && again.members.len() == 1);
    assert_eq!(group.leave_group(0, Sender { member_id: "", instance_id: Some("i1") }), Ok(()));
    assert_eq!(group.state(), "Empty");
}

#[test]
fn static_member_that_is_taken_over_while_it_waits_is_told() {
    let mut group = group_of_two();
    let first = later(group.join_group(0, fixed("c1")));
    let second = later(group.join_group(0, fixed("c2")));
    assert_eq!(joins(&mut group), BTreeMap::from([(first, Err(Error::FencedInstanceId))]));
    later(group.join_group(0, request("b", "b")));
    now(group.join_group(0, request("a", "a")));
    assert_eq!(joins(&mut group).remove(&second).unwrap().unwrap().member_id, "c2");
}

#[test]
fn static_member_that_is_away_keeps_its_place_for_its_session() {
    let mut group = Group::new(0, 0);
    now(group.join_group(0, JoinRequest { session_timeout_ms: 60_000, ..fixed("a1") }));
    sync(&mut group, 0, "a1", &[]).unwrap();
    let b = later(group.join_group(0, JoinRequest { session_timeout_ms: 60_000, ..request("", "b") }));
    group.tick(REBALANCE);
    let joined = joins(&mut group).remove(&b).unwrap().unwrap();
    assert_eq!((&*joined.leader, joined.members.len()), ("b", 2));
}

#[test]
fn commits_without_a_member_are_for_groups_without_members() {
    let mut group = Group::new(0, 0);
    assert_eq!(group.may_commit(0, id(""), -1), Ok(()));
    assert_eq!(group.may_commit(0, id("m"), 5), Err(Error::UnknownMemberId));
    let mut group = group_of_two();
    assert_eq!(group.may_commit(0, id(""), -1), Err(Error::UnknownMemberId));
}

#[test]
fn group_has_one_kind_of_members_at_a_time() {
    let topics = vec![("t".into(), 1)];
    let text = || Subscription {
        topics: topics.clone(),
        client: "nc".into(),
        session_timeout_ms: 100,
        assignor: None,
        secret: 0,
    };
    let mut group = Group::new(0, 0);
    let (text_member, _) = group.join(0, text()).unwrap();
    assert_eq!(group.join_group(0, request("", "a")), Err(Error::InconsistentGroupProtocol));
    assert_eq!(group.may_commit(0, id(""), -1), Err(Error::UnknownMemberId));
    group.leave(0, text_member).unwrap();
    now(group.join_group(0, request("", "a")));
    assert_eq!(group.join(0, text()), Err(Error::InconsistentGroupProtocol));
    assert!(group.join(SESSION, text()).is_ok());
    assert_eq!(group.generation(), 5);
}

/// A client that keeps to the protocol, and what it is at.
#[derive(Clone, Debug, PartialEq)]
enum Client {
    Out,
    Joins(Ticket),
    Joined(Joined),
    Syncs(Ticket, Joined),
    In(Joined, Vec<u8>),
}

#[derive(Debug, Default)]
struct World {
    now: u64,
    group: Group,
    clients: Vec<(String, Client)>,
    count: usize,
    /// What the log has of the group.
    saved: Option<SavedGroup>,
}

impl World {
    /// What is to be saved is in the log before anybody is told.
    fn save(&mut self) {
        if let Some(saved) = self.group.take_unsaved().and_then(|unsaved| unsaved.group) {
            self.saved = Some(SavedGroup::parse(&saved.to_line()).expect("what is written can be read"));
        }
    }

    /// The broker is killed and starts again. Clients that waited have lost their connection and join again.
    fn restart(&mut self, delay: u64) {
        let described = self.group.describe();
        self.group = match self.saved.clone() {
            Some(saved) => Group::restore(self.now, delay, saved),
            None => Group::new(self.now, delay),
        };
        if described.state == "Stable" {
            assert_eq!(self.group.describe(), described);
        }
        for (_, client) in &mut self.clients {
            match client {
                Client::Joins(_) | Client::Syncs(..) => *client = Client::Out,
                Client::In(joined, _) => assert!(joined.generation <= self.group.generation(), "it was told so"),
                Client::Out | Client::Joined(_) => {}
            }
        }
    }

    fn deliver(&mut self) {
        self.save();
        for (ticket, answer) in self.group.take_answers() {
            let waits = |client: &Client| matches!(client, Client::Joins(t) | Client::Syncs(t, _) if *t == ticket);
            let mut waiting = self.clients.iter_mut().filter(|(_, client)| waits(client));
            let (id, client) = waiting.next().expect("an answer is for one who waits");
            assert!(waiting.next().is_none(), "and for one only");
            *client = match (client.clone(), answer) {
                (_, Answer::Joined(Ok(joined))) => {
                    *id = joined.member_id.clone();
                    assert_eq!(
                        joined.members.is_empty(),
                        joined.leader != *id,
                        "the leader alone is told who is there"
                    );
                    Client::Joined(joined)
                }
                (Client::Syncs(_, joined), Answer::Synced(Ok(assigned))) => {
                    assert_eq!(assigned, format!("{} {id}", joined.generation).into_bytes());
                    Client::In(joined, assigned)
                }
                _ => Client::Out,
            };
        }
    }

    /// The next step of the protocol.
    fn step(&mut self, index: usize) {
        let (id, client) = self.clients[index].clone();
        let next = match client {
            Client::Out => {
                self.count += 1;
                match self.group.join_group(self.now, request(&id, &format!("m{}", self.count))) {
                    Ok(Reply::Now(joined)) => {
                        self.clients[index].0 = joined.member_id.clone();
                        Client::Joined(joined)
                    }
                    Ok(Reply::Later(ticket)) => Client::Joins(ticket),
                    Err(error) => self.lost(index, error),
                }
            }
            Client::Joined(joined) => {
                let assigned = |m: &super::JoinedMember| {
                    (m.member_id.clone(), format!("{} {}", joined.generation, m.member_id).into_bytes())
                };
                let request = SyncRequest {
                    sender: self::id(&id),
                    generation: joined.generation,
                    protocol_type: None,
                    protocol: None,
                    assignments: joined.members.iter().map(assigned).collect(),
                };
                match self.group.sync_group(self.now, request) {
                    Ok(Reply::Now(assigned)) => Client::In(joined, assigned),
                    Ok(Reply::Later(ticket)) => Client::Syncs(ticket, joined),
                    Err(error) => self.lost(index, error),
                }
            }
            Client::In(joined, assigned) => match self.group.heartbeat(self.now, self::id(&id), joined.generation) {
                Ok(()) => Client::In(joined, assigned),
                Err(error) => self.lost(index, error),
            },
            waits => waits,
        };
        self.clients[index].1 = next;
        self.deliver();
    }

    fn lost(&mut self, index: usize, error: Error) -> Client {
        if error == Error::UnknownMemberId {
            self.clients[index].0.clear();
        }
        Client::Out
    }

    fn leave(&mut self, index: usize) {
        let (id, client) = self.clients[index].clone();
        match client {
            Client::Joins(ticket) | Client::Syncs(ticket, _) => self.group.hung_up(self.now, ticket),
            _ => drop(self.group.leave_group(self.now, self::id(&id))),
        }
        self.clients[index] = (String::new(), Client::Out);
        self.deliver_to_who_is_left();
    }

    /// As [`deliver`](Self::deliver); the answer of one who hung up has nobody to go to.
    fn deliver_to_who_is_left(&mut self) {
        let ticket = |(_, client): &(String, Client)| match client {
            Client::Joins(ticket) | Client::Syncs(ticket, _) => Some(*ticket),
            _ => None,
        };
        let waiting: Vec<_> = self.clients.iter().filter_map(ticket).collect();
        self.group.core.answers.retain(|(ticket, _)| waiting.contains(ticket));
        self.deliver();
    }
}

proptest! {
    #[test]
    fn clients_that_keep_to_the_protocol_end_up_stable_though_the_broker_restarts(
        events in proptest::collection::vec((0..6usize, 0..24u8, 0..400u64), 0..150),
        delay in prop_oneof![Just(0), 1..600u64],
    ) {
        let (group, clients) = (Group::new(0, delay), vec![(String::new(), Client::Out); 6]);
        let mut world = World { group, clients, ..World::default() };
        let mut generation = 0;
        for (index, what, time) in events {
            match what {
                0..2 => world.leave(index),
                2 => {
                    world.restart(delay);
                    generation = world.group.generation();
                }
                3..7 => {
                    world.now += time;
                    world.group.tick(world.now);
                    world.deliver();
                }
                _ => world.step(index),
            }
            prop_assert!(world.group.generation() >= generation);
            generation = world.group.generation();
            prop_assert!(world.group.next_deadline().is_none_or(|deadline| deadline > world.now));
        }
        // What is left of those who left is over after a session; the others go on.
        for round in 0..60 {
            world.now += if round < 30 { SESSION / 4 } else { 0 };
            world.group.tick(world.now);
            world.deliver();
            (0..6).for_each(|index| world.step(index));
        }
        let generation = world.group.generation();
        prop_assert_eq!(world.group.state(), "Stable");
        for (id, client) in &world.clients {
            let Client::In(joined, assigned) = client else { panic!("{client:?}") };
            prop_assert_eq!(joined.generation, generation);
            prop_assert_eq!(assigned, &format!("{generation} {id}").into_bytes());
        }
    }
}

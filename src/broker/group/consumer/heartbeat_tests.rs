//! Members of Kafka's protocol by themselves, and beside those of text under random events.

use super::{
    Assignor, Group, MemberNumber, Subscription,
    heartbeat::{AWAY, Heartbeat, HeartbeatRequest, JOINS, LEAVES, Topics},
};
use crate::broker::{
    Error, Pattern, Result,
    group::{
        Committer, Description, Generation, MemberChange, MemberRecord, Part, SavedConsumer, SavedGroup,
        classic::{JoinRequest, Reply, Sender, SyncRequest},
    },
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

const SESSION: u64 = 1_000;
const REBALANCE: u64 = 600;

fn topics(counts: &[(&str, u32)]) -> Topics {
    counts.iter().map(|&(topic, partitions)| (topic.into(), partitions)).collect()
}

/// A heartbeat that says nothing new.
fn steady(member_id: &str, epoch: i32) -> HeartbeatRequest<'_> {
    HeartbeatRequest {
        member_id,
        instance_id: None,
        epoch,
        rack_id: None,
        client_id: "java",
        client_host: "/127.0.0.1",
        session_timeout_ms: SESSION,
        rebalance_timeout_ms: None,
        names: None,
        pattern: None,
        rules: None,
        assignor: None,
        owned: None,
    }
}

/// One of a member that joins and subscribes to these topics.
fn joining<'a>(member_id: &'a str, names: &[&'a str]) -> HeartbeatRequest<'a> {
    let rebalance_timeout_ms = Some(REBALANCE);
    let (names, owned) = (Some(names.to_vec()), Some(BTreeSet::new()));
    HeartbeatRequest { rebalance_timeout_ms, names, owned, ..steady(member_id, JOINS) }
}

fn beat(group: &mut Group, now: u64, request: HeartbeatRequest<'_>) -> Result<Heartbeat> {
    group.consumer_heartbeat(now, request, || topics(&[("t", 2), ("u", 1)]))
}

/// Of a steady member that has these partitions of `t`: its epoch, and the partitions that it is told.
fn has(group: &mut Group, now: u64, member_id: &str, epoch: i32, owned: &[u32]) -> (i32, Option<Vec<u32>>) {
    let owned = Some(owned.iter().map(|&partition| ("t".into(), partition)).collect());
    told(beat(group, now, HeartbeatRequest { owned, ..steady(member_id, epoch) }).unwrap())
}

fn told(beat: Heartbeat) -> (i32, Option<Vec<u32>>) {
    (beat.epoch, beat.assigned.map(|assigned| assigned.iter().map(|owned| owned.partition).collect()))
}

/// The picture of the module: `a` has both partitions when `b` comes.
fn newcomer() -> Group {
    let mut group = Group::new(0, 0);
    assert_eq!(told(beat(&mut group, 0, joining("a", &["t"])).unwrap()), (2, Some(vec![0, 1])));
    assert_eq!(told(beat(&mut group, 0, joining("b", &["t"])).unwrap()), (3, Some(vec![])));
    assert_eq!(group.state(), "Reconciling");
    group
}

#[test]
fn partition_moves_when_its_owner_leaves_it_out_after_it_was_told_so() {
    let mut group = newcomer();
    assert_eq!(has(&mut group, 0, "a", 2, &[0, 1]), (2, Some(vec![0])));
    assert_eq!(has(&mut group, 0, "a", 2, &[0, 1]), (2, None), "it has not let it go");
    assert_eq!(has(&mut group, 0, "b", 3, &[]), (3, None));
    assert_eq!(has(&mut group, 0, "a", 2, &[0]), (3, None));
    assert_eq!((has(&mut group, 0, "b", 3, &[]), group.state()), ((3, Some(vec![1])), "Stable"));
}

/// A member that is just about to take a partition up says that it has none, and means nothing by it.
#[test]
fn who_was_not_told_to_let_go_lets_nothing_go() {
    let mut group = newcomer();
    assert_eq!(has(&mut group, 0, "a", 2, &[]), (2, Some(vec![0])));
    assert_eq!(has(&mut group, 0, "b", 3, &[]), (3, None));
    assert_eq!(has(&mut group, 0, "a", 2, &[]), (3, None));
    assert_eq!(has(&mut group, 0, "b", 3, &[]), (3, Some(vec![1])));
}

#[test]
fn another_epoch_is_fenced_but_for_the_last_of_a_member_that_has_nothing_else() {
    let mut group = newcomer();
    has(&mut group, 0, "a", 2, &[0, 1]);
    assert_eq!(has(&mut group, 0, "a", 2, &[0]), (3, None));
    assert_eq!(has(&mut group, 0, "a", 2, &[0]), (3, None), "the answer was lost");
    let owned = |partition: u32| Some(BTreeSet::from([("t".into(), partition)]));
    for (epoch, owned) in [(2, None), (2, owned(1)), (1, owned(0)), (4, owned(0))] {
        let fenced = Err(Error::FencedMemberEpoch { named: epoch, known: 3 });
        assert_eq!(beat(&mut group, 0, HeartbeatRequest { owned, ..steady("a", epoch) }), fenced);
    }
    assert_eq!(beat(&mut group, 0, steady("stranger", 3)), Err(Error::UnknownMemberId));
    assert_eq!(beat(&mut Group::new(0, 0), 0, steady("a", 3)), Err(Error::NotConsumerGroup));
    assert_eq!(told(beat(&mut group, 0, joining("a", &["t"])).unwrap()), (3, Some(vec![0])), "it begins anew");
}

#[test]
fn who_does_not_let_go_within_its_rebalance_timeout_is_removed() {
    let mut group = newcomer();
    has(&mut group, 100, "a", 2, &[0, 1]);
    assert_eq!(group.next_deadline(), Some(100 + REBALANCE));
    has(&mut group, 600, "a", 2, &[0, 1]);
    has(&mut group, 699, "b", 3, &[]);
    assert_eq!(beat(&mut group, 700, steady("a", 2)), Err(Error::UnknownMemberId));
    assert_eq!((group.state(), group.generation()), ("Assigning", 4));
    assert_eq!(has(&mut group, 700, "b", 3, &[]), (4, Some(vec![0, 1])));
}

#[test]
fn epochs_rise_with_members_and_subscriptions_only() {
    let mut group = Group::new(0, 0);
    let nothing = HeartbeatRequest { names: None, pattern: Some(None), ..joining("a", &[]) };
    assert_eq!(beat(&mut group, 0, nothing).unwrap(), Heartbeat { epoch: 1, assigned: Some(vec![]) });
    let subscribe =
        |epoch, names: &[&'static str]| HeartbeatRequest { names: Some(names.to_vec()), ..steady("a", epoch) };
    assert_eq!(told(beat(&mut group, 0, subscribe(1, &["t"])).unwrap()), (2, Some(vec![0, 1])));
    assert_eq!(told(beat(&mut group, 0, subscribe(2, &["t", "t"])).unwrap()), (2, None));
    let range = HeartbeatRequest { assignor: Some(Assignor::Range), ..steady("a", 2) };
    assert_eq!(told(beat(&mut group, 0, range).unwrap()), (2, None));
    assert_eq!(group.describe().protocol, "range");
    assert_eq!(told(beat(&mut group, 0, subscribe(2, &["none"])).unwrap()), (2, Some(vec![])));
    assert_eq!(has(&mut group, 0, "a", 2, &[]), (3, None));
    group.topic_changed(0, "none", Some(3));
    assert_eq!(has(&mut group, 0, "a", 3, &[]), (4, Some(vec![0, 1, 2])));
    beat(&mut group, 5, steady("a", LEAVES)).unwrap();
    let described = group.describe();
    assert_eq!((described.state, described.generation, described.assignment_epoch), ("Empty", Some(5), 4));
    assert_eq!(group.empty_since(), Some(5));
}

#[test]
fn pattern_is_matched_anew_as_topics_come_and_go() {
    let mut group = Group::new(0, 0);
    let pattern = || Some(Some(Pattern::new("t|v.*").unwrap()));
    let request = HeartbeatRequest { names: None, pattern: pattern(), ..joining("a", &[]) };
    assert_eq!(told(beat(&mut group, 0, request).unwrap()), (2, Some(vec![0, 1])));
    assert_eq!(
        told(beat(&mut group, 0, HeartbeatRequest { pattern: pattern(), ..steady("a", 2) }).unwrap()),
        (2, None)
    );
    group.topic_changed(0, "w", Some(1));
    assert_eq!(group.generation(), 2);
    group.topic_changed(0, "v1", Some(1));
    assert_eq!(has(&mut group, 0, "a", 2, &[0, 1]), (3, Some(vec![0, 1, 0])));
    group.topic_changed(0, "t", None);
    assert_eq!(has(&mut group, 0, "a", 3, &[0]), (4, Some(vec![0])));
    let member = group.describe().members.remove(0);
    assert_eq!((member.topics, member.pattern.as_deref()), (vec![], Some("t|v.*")));
}

#[test]
fn place_of_a_static_member_that_is_away_is_taken_by_the_next_of_its_name() {
    let mut group = Group::new(0, 0);
    let fixed = |id| HeartbeatRequest { instance_id: Some("i"), ..joining(id, &["t"]) };
    let of = |id, instance, epoch| HeartbeatRequest { instance_id: Some(instance), ..steady(id, epoch) };
    assert_eq!(told(beat(&mut group, 0, fixed("a")).unwrap()), (2, Some(vec![0, 1])));
    assert_eq!(beat(&mut group, 0, fixed("b")), Err(Error::UnreleasedInstanceId("i".into())));
    assert_eq!(beat(&mut group, 0, of("a", "other", AWAY)), Err(Error::UnknownMemberId));
    beat(&mut group, 0, of("a", "i", AWAY)).unwrap();
    assert_eq!((group.state(), group.describe().members[0].epoch), ("Reconciling", AWAY));
    let fenced = Err(Error::FencedMemberEpoch { named: 2, known: AWAY });
    assert_eq!(beat(&mut group, 0, of("a", "i", 2)), fenced);
    assert_eq!(told(beat(&mut group, 900, fixed("b")).unwrap()), (2, Some(vec![0, 1])));
    assert_eq!(beat(&mut group, 900, of("a", "i", 2)), Err(Error::FencedInstanceId));
    assert_eq!(beat(&mut group, 900, steady("a", 2)), Err(Error::UnknownMemberId));
    assert_eq!((group.state(), group.generation()), ("Stable", 2));
    beat(&mut group, 900, of("b", "i", AWAY)).unwrap();
    group.tick(900 + SESSION);
    assert_eq!((group.state(), group.generation()), ("Empty", 3));
}

#[test]
fn offsets_are_committed_and_fetched_in_the_members_epoch() {
    let mut group = newcomer();
    let sender = |member_id| Sender { member_id, instance_id: None };
    let epoch = |number| Generation { number, is_epoch: true };
    let stale = |named| Err(Error::StaleMemberEpoch { named, known: 2 });
    assert_eq!(group.may_commit(0, sender("a"), epoch(2)), Ok(()));
    assert_eq!(group.may_commit(0, sender("a"), epoch(3)), stale(3));
    assert_eq!(group.may_commit(0, sender("a"), epoch(-1)), stale(-1));
    assert_eq!(group.may_commit(0, sender("a"), 2), Err(Error::EpochUnknown));
    assert_eq!(group.may_commit(0, sender(""), epoch(-1)), Err(Error::UnknownMemberId));
    let later = |group: &mut Group, member, generation| {
        group.may_commit_later(0, Committer::Member { sender: sender(member), generation }, &[("t", 0)])
    };
    assert_eq!(later(&mut group, "a", 2), Ok(()));
    assert!(matches!(later(&mut group, "a", 3), Err(Error::IllegalGeneration(_))));
    assert_eq!(later(&mut group, "stranger", 2), Err(Error::UnknownMemberId));
    assert_eq!((group.may_fetch(0, "a", 2), group.may_fetch(0, "a", 0)), (Ok(()), stale(0)));
    assert_eq!(group.may_fetch(0, "", -1), Err(Error::UnknownMemberId));
    assert_eq!(Group::new(0, 0).may_fetch(0, "a", 7), Ok(()));
}

/// Beside a member of the newer protocol, and in a group that is theirs again.
#[test]
fn classic_members_go_on_over_a_restart_as_what_they_are() {
    let (mut group, mut log) = (Group::new(0, 0), Log::default());
    told(beat(&mut group, 0, joining("a", &["t"])).unwrap());
    let topics = topics(&[("t", 2)]);
    let request = |member_id: &str| JoinRequest {
        client_id: "classic".into(),
        session_timeout_ms: SESSION,
        rebalance_timeout_ms: REBALANCE,
        ..JoinRequest::of_consumer(member_id, "c", b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff")
    };
    group.join_assigned(0, &request(""), || topics.clone()).unwrap().unwrap();
    has(&mut group, 0, "a", 2, &[0, 1]);
    has(&mut group, 0, "a", 2, &[0]);
    group.join_assigned(0, &request("c"), || topics.clone()).unwrap().unwrap();
    log.save(&mut group);
    let before = group.describe();
    let mut group = log.read_back(0, &topics);
    assert_eq!(group.describe(), before);
    let sender = Sender { member_id: "c", instance_id: None };
    assert_eq!((group.heartbeat(0, sender, 3), group.state()), (Ok(()), "Stable"));

    beat(&mut group, 0, steady("a", LEAVES)).unwrap();
    let Ok(Reply::Now(joined)) = group.join_group(0, request("c")) else { panic!("it is alone") };
    let (generation, assignments) = (joined.generation, HashMap::from([("c".into(), vec![7])]));
    let sync = SyncRequest { sender, generation, protocol_type: None, protocol: None, assignments };
    assert!(matches!(group.sync_group(0, sync), Ok(Reply::Now(_))));
    log.save(&mut group);
    assert!(log.members.is_empty(), "their records ended: {log:?}");
    assert_eq!(log.read_back(0, &topics).describe(), group.describe());
}

/// Partitions that a client reads.
type Has = BTreeSet<(Arc<str>, u32)>;

/// A client of Kafka's that keeps to the protocol.
#[derive(Debug, Default)]
struct Client {
    id: String,
    epoch: i32,
    has: Has,
    /// When the group forgets it, as it must assume.
    until: u64,
}

#[derive(Debug, Default)]
struct World {
    now: u64,
    group: Group,
    counts: BTreeMap<&'static str, u32>,
    clients: BTreeMap<usize, Client>,
    /// Text's members, what the last poll told each, and until when its session runs.
    text: BTreeMap<usize, (MemberNumber, Has, u64)>,
    joined: usize,
    log: Log,
}

/// What the log has of a group.
#[derive(Debug, Default)]
struct Log {
    group: Option<Vec<u8>>,
    members: BTreeMap<(String, Part), Vec<u8>>,
}

impl Log {
    fn save(&mut self, group: &mut Group) {
        let Some(unsaved) = group.take_unsaved() else { return };
        self.group = unsaved.group.map(|group| group.to_line()).or(self.group.take());
        for MemberChange { member_id, part, record } in unsaved.members {
            let key = (member_id.to_string(), part);
            match record {
                Some(record) => drop(self.members.insert(key, record.to_line())),
                None => assert!(self.members.remove(&key).is_some(), "what never was ends"),
            }
        }
    }

    /// The group as it is after a restart.
    fn read_back(&self, now: u64, topics: &Topics) -> Group {
        let Some(saved) = &self.group else { return Group::new(now, 0) };
        let mut members: BTreeMap<String, SavedConsumer> = BTreeMap::new();
        for ((id, part), line) in &self.members {
            let record = MemberRecord::parse(*part, line).expect("what is written can be read");
            members.entry(id.clone()).or_default().apply(*part, Some(record));
        }
        let mut group = Group::restore(now, 0, SavedGroup::parse(saved).expect("what is written can be read"));
        group.restore_members(now, members, topics);
        group
    }
}

impl World {
    /// The broker is killed and starts again. Text's members have lost their connections; Kafka's go on as they were.
    fn restart(&mut self) {
        let kafkas = |group: &Group| {
            let Description { members, .. } = group.describe();
            members.into_iter().filter(|member| member.client_id == "java").collect::<Vec<_>>()
        };
        let counts = self.counts.iter().map(|(topic, count)| ((*topic).into(), *count)).collect();
        let before = std::mem::replace(&mut self.group, self.log.read_back(self.now, &counts));
        assert!(self.group.generation() >= before.generation());
        assert_eq!(kafkas(&self.group), kafkas(&before));
        self.text.clear();
    }

    fn carry_out(&mut self, who: usize, what: u8, time: u64) {
        match what {
            0 => self.now += time,
            1 => drop(
                self.clients.remove(&who).map(|client| self.beat_as(&client.id, LEAVES, None).unwrap_or_else(gone)),
            ),
            2 => {
                let topic = ["t", "u"][who % 2];
                let partitions = self.counts.get(topic).map_or(2, |count| count + 1);
                self.counts.insert(topic, partitions);
                self.group.topic_changed(self.now, topic, Some(partitions));
            }
            3..6 => self.poll(who),
            6 => drop(self.text.remove(&who).map(|(number, ..)| self.group.leave(self.now, number))),
            7 => self.beat(who, true),
            8 => self.restart(),
            _ => self.beat(who, false),
        }
        self.nobody_shares();
        self.log.save(&mut self.group);
        self.group.take_answers();
    }

    fn beat_as(&mut self, id: &str, epoch: i32, owned: Option<Has>) -> Result<Heartbeat> {
        let counts: Topics = self.counts.iter().map(|(topic, count)| ((*topic).into(), *count)).collect();
        let names = Some(if id.ends_with('1') { vec!["t"] } else { vec!["t", "u"] });
        let request = HeartbeatRequest { rebalance_timeout_ms: Some(REBALANCE), names, owned, ..steady(id, epoch) };
        self.group.consumer_heartbeat(self.now, request, || counts.clone())
    }

    /// A heartbeat, whose answer may be lost.
    fn beat(&mut self, who: usize, is_lost: bool) {
        let joined = &mut self.joined;
        let client = self.clients.entry(who).or_insert_with(|| {
            *joined += 1;
            Client { id: format!("{joined}-{who}"), ..Client::default() }
        });
        let (id, epoch, owned) = (client.id.clone(), client.epoch, client.has.clone());
        let answer = self.beat_as(&id, epoch, Some(owned));
        let client = self.clients.get_mut(&who).expect("it was just there");
        match answer {
            Ok(_) if is_lost => {}
            Ok(Heartbeat { epoch, assigned }) => {
                (client.epoch, client.until) = (epoch, self.now + SESSION);
                if let Some(assigned) = assigned {
                    client.has = assigned.into_iter().map(|owned| (owned.topic, owned.partition)).collect();
                }
            }
            // It gives everything up and joins again.
            Err(_) => *client = Client { id: client.id.clone(), ..Client::default() },
        }
    }

    fn poll(&mut self, who: usize) {
        let topics: Vec<_> = self.counts.iter().map(|(topic, count)| (Arc::from(*topic), *count)).collect();
        if !self.text.contains_key(&who) {
            let subscription =
                Subscription { topics, client: "nc".into(), session_timeout_ms: SESSION, assignor: None, secret: 0 };
            let (number, told) = self.group.join(self.now, subscription).unwrap();
            let has = told.owned.into_iter().map(|owned| (owned.topic, owned.partition)).collect();
            self.text.insert(who, (number, has, self.now + SESSION));
            return;
        }
        let (number, ..) = self.text[&who];
        let polled = self.group.begin_poll(self.now, number).and_then(|_| self.group.end_poll(self.now, number));
        match polled {
            Ok(told) => {
                let has = told.owned.into_iter().map(|owned| (owned.topic, owned.partition)).collect();
                self.text.insert(who, (number, has, self.now + SESSION));
            }
            Err(error) => {
                assert_eq!(error, Error::UnknownMemberId);
                self.text.remove(&who);
            }
        }
    }

    /// No partition is had by two whose sessions run.
    fn nobody_shares(&mut self) {
        self.group.tick(self.now);
        let mut had = BTreeSet::new();
        let here: BTreeSet<_> = self.group.describe().members.into_iter().map(|member| member.member_id).collect();
        let clients = self.clients.values().filter(|client| client.until > self.now && here.contains(&client.id));
        let text = self.text.values().filter(|(.., until)| *until > self.now).map(|(_, has, _)| has);
        for partition in clients.map(|client| &client.has).chain(text).flatten() {
            assert!(had.insert(partition.clone()), "{partition:?} has two readers");
        }
    }
}

fn gone(error: Error) -> Heartbeat {
    assert!(matches!(error, Error::UnknownMemberId | Error::NotConsumerGroup), "{error}");
    Heartbeat { epoch: LEAVES, assigned: None }
}

proptest! {
    #[test]
    fn partitions_have_one_reader_and_all_are_read_after_few_heartbeats(
        events in proptest::collection::vec((0..4usize, 0..20u8, 0..400u64), 1..120),
    ) {
        let mut world = World { counts: BTreeMap::from([("t", 3)]), ..World::default() };
        let mut epoch = 0;
        for (who, what, time) in events {
            world.carry_out(who, what, time);
            prop_assert!(world.group.generation() >= epoch);
            epoch = world.group.generation();
        }
        for _ in 0..6 {
            (0..4).for_each(|who| world.carry_out(who, 19, 0));
            let text: Vec<_> = world.text.keys().copied().collect();
            text.into_iter().for_each(|who| world.carry_out(who, 3, 0));
        }
        prop_assert_eq!(world.group.state(), "Stable");
        let had: usize = world.clients.values().map(|client| client.has.len()).sum();
        let by_text: usize = world.text.values().map(|(_, has, _)| has.len()).sum();
        prop_assert!(had + by_text >= 3, "all of 't' at least");
        prop_assert!(world.clients.values().all(|client| client.epoch == world.group.generation()));
    }
}

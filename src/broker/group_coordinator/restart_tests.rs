//! Groups over a restart, a crash and a disk that refuses. Kafka Streams counted 102,840 of 100,000 words over one restart,
//! and Connect's workers ran every task twice: nobody was in their groups any more, and generations began at 1 again.

use super::{JoinOptions, Membership, OffsetCommit, PollWait, make_durable};
use crate::{
    broker::{
        Broker, Clock, Committed, Error, PollLimits, Result, Terms, Waiter,
        group::{
            Description,
            classic::{JoinRequest, Joined, Protocol, Sender, SyncRequest},
        },
    },
    config::{Config, Flush},
    log::{
        Chunk,
        disk::{Call, Fault, MemoryDisk, Survivors},
        record::Records,
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::*},
    },
    thread,
    time::{Duration, Instant},
};

pub(super) const NOW_MS: i64 = 1_700_000_000_000;

pub(super) fn open_with(disk: &MemoryDisk, flush: Flush, clock: &Arc<AtomicI64>) -> Result<Broker> {
    let config = Config { flush, group_min_session: Duration::from_millis(1), ..Config::new("data") };
    Broker::open_on(Arc::new(disk.clone()), config, Clock::Manual(clock.clone()))
}

/// A broker that never syncs on its own, so that only what is synced on purpose survives.
pub(super) fn open(disk: &MemoryDisk) -> Broker {
    open_with(disk, Flush::Never, &Arc::new(AtomicI64::new(NOW_MS))).unwrap()
}

/// A classic member as its client knows it.
#[derive(Clone, Debug)]
struct Client {
    name: &'static str,
    instance: Option<&'static str>,
    member_id: String,
    generation: i32,
    assigned: Vec<u8>,
}

impl Client {
    fn new(name: &'static str) -> Client {
        Client { name, instance: None, member_id: String::new(), generation: -1, assigned: vec![] }
    }

    fn fixed(name: &'static str, instance: &'static str) -> Client {
        Client { instance: Some(instance), ..Client::new(name) }
    }

    fn sender(&self) -> Sender<'_> {
        Sender { member_id: &self.member_id, instance_id: self.instance }
    }

    fn join(&mut self, broker: &Broker) -> Result<Joined> {
        self.join_for(broker, 30_000)
    }

    fn request(&self, session_timeout_ms: u64) -> JoinRequest {
        JoinRequest {
            member_id: self.member_id.clone(),
            new_member_id: format!("{}-{}", self.name, crate::broker::random::number()),
            instance_id: self.instance.map(String::from),
            client_id: self.name.into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "range".into(), metadata: self.name.into() }],
            comes_with_id: false,
            can_skip_assignment: true,
        }
    }

    fn join_for(&mut self, broker: &Broker, session_timeout_ms: u64) -> Result<Joined> {
        let waiter = Waiter::new();
        let request = self.request(session_timeout_ms);
        let joined = broker.join_group("g", request, &waiter, &mut |until| waiter.wait(until))?;
        (self.member_id, self.generation) = (joined.member_id.clone(), joined.generation);
        Ok(joined)
    }

    /// Asks for its assignment, and assigns to each of `members` its own id.
    fn sync(&mut self, broker: &Broker, joined: &Joined) -> Result<()> {
        let own = |id: &String| (id.clone(), id.clone().into_bytes());
        let request = SyncRequest {
            sender: self.sender(),
            generation: self.generation,
            protocol_type: None,
            protocol: None,
            assignments: joined.members.iter().map(|member| own(&member.member_id)).collect(),
        };
        let waiter = Waiter::new();
        self.assigned = broker.sync_group("g", request, &waiter, &mut |until| waiter.wait(until))?;
        Ok(())
    }

    fn heartbeat(&self, broker: &Broker) -> Result<()> {
        broker.heartbeat("g", self.sender(), self.generation)
    }

    fn commit(&self, broker: &Broker, offset: i64) -> Result<()> {
        let committed = Committed { offset, leader_epoch: -1, metadata: "".into(), timestamp_ms: NOW_MS };
        let offset = OffsetCommit { topic: "t".into(), partition: 0, committed };
        let done = broker.commit_offsets("g", self.sender(), self.generation, vec![offset])?;
        make_durable(done.written)?;
        done.outcomes.into_iter().collect()
    }
}

/// A stable group of one member.
fn alone(broker: &Broker, mut client: Client) -> Client {
    let joined = client.join(broker).unwrap();
    client.sync(broker, &joined).unwrap();
    client
}

/// A stable group of two members, in its second generation; the first one leads.
fn two(broker: &Broker, first: Client, mut second: Client) -> (Client, Client) {
    let mut first = alone(broker, first);
    thread::scope(|scope| {
        scope.spawn(|| second = alone(broker, second.clone()));
        while first.heartbeat(broker).is_ok() {
            thread::yield_now();
        }
        let joined = first.join(broker).unwrap();
        first.sync(broker, &joined).unwrap();
    });
    assert_eq!((first.generation, second.generation), (2, 2));
    (first, second)
}

pub(super) fn describe(broker: &Broker) -> Description {
    broker.group("g").unwrap().unwrap_or_default()
}

pub(super) fn generation(broker: &Broker) -> i32 {
    describe(broker).generation.unwrap()
}

/// What the log of the groups holds, a line each.
pub(super) fn lines(broker: &Broker) -> Vec<String> {
    let log = broker.topic("__consumer_offsets").unwrap().partition(0).unwrap();
    let (mut chunk, mut lines) = (Chunk::default(), vec![]);
    let mut next = log.start().unwrap();
    loop {
        log.read(next, 1 << 20, &mut chunk).unwrap();
        let text = chunk.records_from(next).map(|line| String::from_utf8(line.unwrap().text.to_vec()).unwrap());
        lines.extend(text);
        match chunk.next_offset() {
            Some(behind) => next = behind,
            None => return lines,
        }
    }
}

#[test]
fn members_go_on_in_their_generation_after_a_stop_and_after_a_kill() {
    for kill in [false, true] {
        let disk = MemoryDisk::crashable();
        let broker = open(&disk);
        broker.create_topic("t", 1).unwrap();
        let (a, mut b) = two(&broker, Client::new("a"), Client::new("b"));
        b.commit(&broker, 7).unwrap();
        let before = describe(&broker);
        let disk = if kill {
            disk.reboot(Survivors::Nothing)
        } else {
            drop(broker);
            disk
        };

        let broker = open(&disk);
        assert_eq!(describe(&broker), before);
        assert_eq!(a.heartbeat(&broker), Ok(()));
        assert_eq!(b.heartbeat(&broker), Ok(()));
        let joined = Joined { generation: 2, ..Joined::default() };
        let told = b.assigned.clone();
        b.sync(&broker, &joined).unwrap();
        assert_eq!(b.assigned, told, "whoever asks again gets the same assignment");
        assert_eq!(a.commit(&broker, 8), Ok(()));
        assert_eq!(Client::new("a").heartbeat(&broker), Err(Error::UnknownMemberId));
        assert!(matches!(Client { generation: 1, ..a.clone() }.heartbeat(&broker), Err(Error::IllegalGeneration(_))));
        assert_eq!(describe(&broker), before, "nothing of this was a rebalance");

        broker.leave_group("g", b.sender()).unwrap();
        let mut a = a;
        let joined = a.join(&broker).unwrap();
        assert_eq!((joined.generation, &joined.leader), (3, &a.member_id));
    }
}

/// What a group has in the log is a line for people too.
#[test]
fn a_generation_is_one_line_and_its_end_a_tombstone() {
    let broker = open(&MemoryDisk::crashable());
    let a = alone(&broker, Client::fixed("a", "i"));
    let id = &a.member_id;
    broker.leave_group("g", a.sender()).unwrap();
    broker.delete_group("g").unwrap();
    assert_eq!(
        lines(&broker),
        [
            format!(
                "offset:0 key:g/group message:type:classic generation:1 protocol_type:consumer protocol:range \
                 leader:{id} member:{id} instance:i client:a host:/127.0.0.1 session:30000 rebalance:60000 \
                 subscription:a assignment:{id}"
            ),
            "offset:1 key:g/group message:type:classic generation:2 protocol_type:consumer".into(),
            "offset:2 key:g/group tombstone".into(),
        ]
    );
}

#[test]
fn members_that_are_not_heard_after_a_restart_are_gone_after_their_session() {
    let disk = MemoryDisk::crashable();
    let broker = open(&disk);
    let mut a = Client::new("a");
    let joined = a.join_for(&broker, 100).unwrap();
    a.sync(&broker, &joined).unwrap();
    drop(broker);
    // However long nobody asked for the group.
    thread::sleep(Duration::from_millis(110));
    let broker = open(&disk);
    thread::sleep(Duration::from_millis(110));
    let begin = Instant::now();
    assert_eq!(describe(&broker).members.len(), 1, "its session begins when the broker knows of it");
    while describe(&broker).members.len() == 1 {
        thread::sleep(Duration::from_millis(1));
    }
    assert!(begin.elapsed() >= Duration::from_millis(99));
    assert_eq!((describe(&broker).state, generation(&broker)), ("Empty", 2));
    assert_eq!(a.heartbeat(&broker), Err(Error::UnknownMemberId));
    assert_eq!(a.join(&broker), Err(Error::UnknownMemberId));
    assert_eq!(alone(&broker, Client::new("a")).generation, 3);
}

/// A static member that was started again has a new member id, and the one before is fenced. A crash must not turn that round:
/// a client that is fenced gives up for good.
#[test]
fn static_members_keep_what_they_have_over_a_kill() {
    let disk = MemoryDisk::crashable();
    let broker = open(&disk);
    let (a, b) = two(&broker, Client::fixed("a", "ia"), Client::fixed("b", "ib"));
    let mut again = Client::fixed("b", "ib");
    let joined = again.join(&broker).unwrap();
    assert_eq!(joined.generation, 2, "it took over without a rebalance");

    let broker = open(&disk.reboot(Survivors::Nothing));
    assert_eq!(a.heartbeat(&broker), Ok(()));
    assert_eq!(again.heartbeat(&broker), Ok(()));
    assert_eq!(b.heartbeat(&broker), Err(Error::FencedInstanceId));
    again.sync(&broker, &joined).unwrap();
    assert_eq!(again.assigned, b.member_id.into_bytes(), "the assignment moved with the instance");
    let mut third = Client::fixed("b", "ib");
    assert_eq!(third.join(&broker).unwrap().generation, 2);
}

pub(super) fn join_text(broker: &Broker) -> Membership {
    broker.join("g", &["t"], JoinOptions { auto_commit: false, ..JoinOptions::default() }).unwrap()
}

pub(super) fn poll(member: &mut Membership) {
    let waiter = Waiter::new();
    let wait = PollWait { waiter: &waiter, deadline: Some(Instant::now()), wait: &mut |until| waiter.wait(until) };
    member.poll(PollLimits { records: 1, bytes: 1 }, wait, &mut |_| {}).unwrap();
}

/// What of a member's id can be guessed.
fn number(member: &Membership) -> String {
    member.id().split('-').next().unwrap().into()
}

/// Members of text end with their connection, but what they were told of generations and ids is true for ever.
#[test]
fn numbers_of_a_group_of_text_members_go_on_after_a_kill() {
    let disk = MemoryDisk::crashable();
    let broker = open(&disk);
    broker.create_topic("t", 2).unwrap();
    let mut first = join_text(&broker);
    let mut second = join_text(&broker);
    poll(&mut first);
    poll(&mut second);
    assert_eq!((first.generation(), second.generation(), number(&second)), (2, 2, "2".into()));

    let crashed = disk.reboot(Survivors::Nothing);
    drop((first, second, broker));
    let broker = open(&crashed);
    assert_eq!((describe(&broker).state, generation(&broker)), ("Empty", 2));
    let third = join_text(&broker);
    assert_eq!((third.generation(), number(&third)), (3, "3".into()));
    drop(third);
    // A group is there again as another kind, too.
    assert_eq!(alone(&broker, Client::new("a")).generation, 5);
    assert_eq!(
        lines(&broker)[0],
        "offset:0 key:g/group message:type:consumer generation:1 last_member:1 seat:1 partitions:t/0,t/1"
    );
}

/// Every call of the disk fails or is the last one: what a member was told is there afterwards, unless GROUP said that it
/// would not be.
#[test]
fn no_assignment_that_was_told_is_lost_at_whatever_call_the_disk_fails() {
    let run = |broker: &Broker| -> (i32, Description) {
        let mut told = (0, Description::default());
        let mut a = Client::fixed("a", "i");
        let mut rounds = || -> Result<()> {
            for round in 0..4 {
                if round == 2 {
                    // It starts again, and takes over.
                    a = Client::fixed("a", "i");
                }
                let joined = a.join(broker)?;
                a.sync(broker, &joined)?;
                let described = describe(broker);
                if !described.unsaved {
                    told = (a.generation, described);
                }
            }
            Ok(())
        };
        // A broker whose power is off refuses.
        let _ = rounds();
        told
    };
    let count = {
        let disk = MemoryDisk::crashable();
        let broker = open(&disk);
        let before = disk.calls();
        assert_eq!(run(&broker).0, 3);
        disk.calls() - before
    };
    assert!(count > 12, "{count} calls");
    for fault in [Fault::CrashBefore, Fault::CrashMidway, Fault::CrashAfter, Fault::Error, Fault::Full] {
        for nth in 1..=count {
            let disk = MemoryDisk::crashable();
            let broker = open(&disk);
            disk.fault(Call::Any, nth, fault);
            let (generation, described) = run(&broker);
            let errs = matches!(fault, Fault::Error | Fault::Full);
            assert!(!errs || describe(&broker).generation == Some(3), "{fault:?} at {nth}: the group goes on");
            for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Seed(nth)] {
                let broker = open(&disk.reboot(survivors));
                let found = describe(&broker);
                // Its id may be the one of a take-over that nobody was told of yet.
                let assigned =
                    |of: &Description| of.members.iter().map(|member| member.assignment.clone()).collect::<Vec<_>>();
                let is_it = found.generation == Some(generation) && assigned(&found) == assigned(&described);
                let holds = generation == 0 || is_it || found.generation > Some(generation);
                assert!(holds, "{fault:?} at {nth}, {survivors:?}: {found:?}, told was {described:?}");
            }
        }
    }
}

#[test]
fn on_a_full_disk_groups_go_on_and_are_saved_when_there_is_room() {
    let disk = MemoryDisk::crashable();
    let clock = Arc::new(AtomicI64::new(NOW_MS));
    let broker = open_with(&disk, Flush::Always, &clock).unwrap();
    let mut a = alone(&broker, Client::new("a"));
    disk.set_capacity(disk.used());
    let joined = a.join(&broker).unwrap();
    a.sync(&broker, &joined).unwrap();
    assert_eq!(a.heartbeat(&broker), Ok(()));
    assert_eq!((generation(&broker), describe(&broker).unsaved), (2, true));
    let calls = disk.calls();
    assert_eq!(a.heartbeat(&broker), Ok(()));
    assert_eq!(disk.calls(), calls, "not every heartbeat tries again");
    assert_eq!(lines(&broker).len(), 1, "a restart would find the first generation");

    disk.set_capacity(u64::MAX);
    broker.inner().look_after_groups().unwrap();
    assert!(!describe(&broker).unsaved);
    assert_eq!(generation(&open(&disk.reboot(Survivors::Nothing))), 2);
}

#[test]
fn a_group_without_members_is_there_for_ten_minutes_and_then_its_line_has_an_end() {
    let (disk, clock) = (MemoryDisk::crashable(), Arc::new(AtomicI64::new(NOW_MS)));
    let open = || open_with(&disk, Flush::Always, &clock).unwrap();
    let look_after = |broker: &Broker| broker.inner().look_after_groups();
    let broker = open();
    let a = alone(&broker, Client::new("a"));
    broker.leave_group("g", a.sender()).unwrap();
    clock.fetch_add(599_999, AcqRel);
    assert_eq!(look_after(&broker), Ok(Some(NOW_MS + 600_000)));
    assert_eq!((describe(&broker).state, describe(&broker).protocol_type), ("Empty", "consumer".into()));
    assert_eq!(broker.groups().unwrap().len(), 1);
    drop(broker);

    // A restart counts as the begin of that time.
    let broker = open();
    assert_eq!((describe(&broker).state, generation(&broker)), ("Empty", 2));
    clock.fetch_add(599_999, AcqRel);
    look_after(&broker).unwrap();
    let a = alone(&broker, Client::new("a"));
    assert_eq!(a.generation, 3, "whoever joins in that time gets a higher generation");
    broker.leave_group("g", a.sender()).unwrap();
    clock.fetch_add(600_000, AcqRel);
    assert_eq!(look_after(&broker), Ok(None));
    assert_eq!((broker.group("g"), broker.groups().unwrap()), (Ok(None), vec![]));
    assert_eq!(lines(&broker).last().unwrap(), "offset:4 key:g/group tombstone");
    drop(broker);
    assert_eq!(open().groups().unwrap(), []);
    assert_eq!(alone(&open_with(&disk, Flush::Always, &clock).unwrap(), Client::new("a")).generation, 1);
}

/// How many groups are in memory, and how many only stand in the log.
fn in_memory(broker: &Broker) -> (usize, usize) {
    let (awake, resting) = broker.inner().all_groups().unwrap();
    (awake.len(), resting.len())
}

/// 200,000 JoinGroups, each of a group of its own, kept 177 MB for good.
#[test]
fn a_group_that_nobody_is_in_takes_no_memory_and_is_there_all_the_same() {
    for flush in [Flush::Never, Flush::Always] {
        let (disk, clock) = (MemoryDisk::crashable(), Arc::new(AtomicI64::new(NOW_MS)));
        let broker = open_with(&disk, flush, &clock).unwrap();
        broker.create_topic("t", 1).unwrap();
        let a = alone(&broker, Client::new("a"));
        assert_eq!(in_memory(&broker), (1, 0));
        broker.leave_group("g", a.sender()).unwrap();
        assert_eq!(in_memory(&broker), (0, 1));
        assert_eq!((describe(&broker).state, generation(&broker)), ("Empty", 2));
        assert_eq!((broker.groups().unwrap()[0].state, broker.groups().unwrap().len()), ("Empty", 1));
        assert_eq!(a.heartbeat(&broker), Err(Error::UnknownMemberId));
        assert_eq!(broker.committed_offsets("g").unwrap().len(), 0);
        assert_eq!(in_memory(&broker), (0, 1), "to look at it wakes it for no longer than that");

        // It has an offset: it is there for it, and when that is deleted it rests again.
        broker.reset_offsets("g", &[("t".into(), 0, 0)]).unwrap();
        assert_eq!(in_memory(&broker), (1, 0));
        broker.delete_offsets("g", &[("t".into(), 0)]).unwrap();
        assert_eq!(in_memory(&broker), (0, 1));
        broker.reset_offsets("offset only", &[("t".into(), 0, 0)]).unwrap();
        broker.delete_offsets("offset only", &[("t".into(), 0)]).unwrap();
        assert_eq!(in_memory(&broker), (0, 2));
        assert_eq!(alone(&broker, Client::new("a")).generation, 3);
        assert_eq!(in_memory(&broker), (1, 1));
        assert_eq!(broker.delete_group("offset only"), Ok(()));
        assert_eq!((in_memory(&broker), broker.groups().unwrap().len()), ((1, 0), 1));
    }
}

/// Nobody comes to it again: maintenance ends its member's session, and lets it rest.
#[test]
fn a_group_that_nobody_comes_to_rests_after_its_session() {
    let broker = open(&MemoryDisk::crashable());
    let mut a = Client::new("a");
    a.join_for(&broker, 50).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while in_memory(&broker) != (0, 1) {
        assert!(Instant::now() < deadline, "its session never ends");
        thread::sleep(Duration::from_millis(10));
    }
    // One that asks for a member id and never comes back with it was never a group.
    let request = JoinRequest { comes_with_id: true, ..Client::new("b").request(50) };
    let asked = broker.join_group("other", request, &Waiter::new(), &mut |_| false);
    assert!(matches!(asked, Err(Error::MemberIdRequired(_))));
    assert_eq!(in_memory(&broker), (1, 1));
    thread::sleep(Duration::from_millis(60));
    broker.inner().look_after_groups().unwrap();
    assert_eq!(in_memory(&broker), (0, 1));
}

#[test]
fn groups_are_no_more_than_their_bounds() {
    let config = Config { groups_max: 200, group_min_session: Duration::from_millis(1), ..Config::in_memory() };
    let broker = Broker::open(config).unwrap();
    let join = |n: usize, session_ms| {
        let request = Client::new("a").request(session_ms);
        broker.join_group(&format!("g{n}"), request, &Waiter::new(), &mut |_| false)
    };
    // 100 may rest; the others are forgotten at once.
    for n in 0..150 {
        join(n, 1).unwrap();
    }
    thread::sleep(Duration::from_millis(2));
    broker.inner().look_after_groups().unwrap();
    assert_eq!((in_memory(&broker), broker.groups().unwrap().len()), ((0, 100), 100));
    // 200 may have members.
    let joined = (1000..).map(|n| join(n, 60_000)).take_while(Result::is_ok).count();
    assert_eq!(joined, 200);
    assert_eq!(join(2000, 60_000), Err(Error::TooManyGroups(200)));
    assert_eq!(Error::TooManyGroups(200).code().name(), "COORDINATOR_NOT_AVAILABLE");
    let rests = broker.groups().unwrap().iter().find(|group| group.state == "Empty").unwrap().name.clone();
    assert_eq!(broker.group(&rests).unwrap().unwrap().state, "Empty", "those there are can be looked at");
}

#[test]
fn a_group_is_what_it_was_after_its_log_was_compacted() {
    let disk = MemoryDisk::crashable();
    let broker = open(&disk);
    let mut a = alone(&broker, Client::new("a"));
    let big = vec![b'x'; 1 << 20];
    let log = broker.topic("__consumer_offsets").unwrap().partition(0).unwrap();
    for _ in 0..6 {
        let joined = a.join(&broker).unwrap();
        let assignments = [(a.member_id.clone(), big.clone())].into();
        let (generation, waiter) = (joined.generation, Waiter::new());
        let request = SyncRequest { sender: a.sender(), generation, protocol_type: None, protocol: None, assignments };
        broker.sync_group("g", request, &waiter, &mut |_| false).unwrap();
    }
    assert_eq!(log.log().unwrap().segments(), 2);
    log.compact(&|| false).unwrap();
    assert!(log.log().unwrap().bytes().unwrap() < 5 << 20, "what came before is gone");
    let before = describe(&broker);
    assert_eq!(before.members[0].assignment, big);
    drop((broker, log));
    let broker = open(&disk);
    assert_eq!(describe(&broker), before);
    assert_eq!(a.heartbeat(&broker), Ok(()));
}

#[test]
fn lines_that_are_none_are_told_and_the_others_hold() {
    let disk = MemoryDisk::crashable();
    let broker = open(&disk);
    let a = alone(&broker, Client::new("a"));
    let log = broker.topic("__consumer_offsets").unwrap().partition(0).unwrap();
    for value in ["", "type:classic generation:9", "type:consumer generation:99999999999", "type:streams generation:4"]
    {
        let mut records = Records::default();
        records.push(None, Some(b"g/group".into()), Some(value.as_bytes().into()));
        log.write(&records, Terms::default()).unwrap();
    }
    drop((broker, log));
    let broker = open(&disk);
    assert_eq!(a.heartbeat(&broker), Ok(()));
    assert_eq!(generation(&broker), 1);
}

#[test]
fn what_the_log_does_not_take_at_once_is_refused_whole() {
    let disk = MemoryDisk::crashable();
    let broker = open(&disk);
    broker.create_topic("t", 1).unwrap();
    let mut a = Client::new("a");
    let joined = a.join(&broker).unwrap();
    let sync = |bytes: usize| {
        let assignments = [(a.member_id.clone(), vec![0; bytes])].into();
        let generation = joined.generation;
        let request = SyncRequest { sender: a.sender(), generation, protocol_type: None, protocol: None, assignments };
        broker.sync_group("g", request, &Waiter::new(), &mut |_| false)
    };
    // An escape takes four bytes, and a line here 2 MiB at most.
    assert_eq!(sync(512 << 10), Err(Error::GroupTooLarge));
    assert_eq!(Error::GroupTooLarge.code().name(), "GROUP_MAX_SIZE_REACHED");
    assert_eq!(describe(&broker).state, "CompletingRebalance");
    assert_eq!(sync(500 << 10).map(|assigned| assigned.len()), Ok(500 << 10));
    assert!(!describe(&broker).unsaved);

    let offset = |metadata: &str| OffsetCommit {
        topic: "t".into(),
        partition: 0,
        committed: Committed { offset: 1, leader_epoch: -1, metadata: metadata.into(), timestamp_ms: NOW_MS },
    };
    let commit = |offsets| broker.commit_offsets("other", Sender { member_id: "", instance_id: None }, -1, offsets);
    let many = vec![offset(&"\u{0}".repeat(4096)); 4100];
    assert_eq!(commit(many).map(drop), Err(Error::CommitTooLarge));
    assert_eq!(Error::CommitTooLarge.code().name(), "INVALID_COMMIT_OFFSET_SIZE");
    assert!(broker.committed_offsets("other").unwrap().is_empty());
    assert!(commit(vec![offset("")]).is_ok());
}

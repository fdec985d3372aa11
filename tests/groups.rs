//! Groups as a text client sees them: say this line, expect that line. Each test has a broker of its own.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::Ends;
use plainlog::{broker::Broker, config::Config, server::Server};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{BufRead, BufReader, Write},
    net::{Shutdown, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Acquire},
    },
    thread,
    time::{Duration, Instant},
};

/// A conversation.
struct Client(BufReader<TcpStream>);

impl Client {
    fn new(port: u16) -> Client {
        let stream = TcpStream::connect(("localhost", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_nodelay(true).unwrap();
        Client(BufReader::new(stream))
    }

    fn say(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The next line, without what nobody can guess of a member's id.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.pop();
        let secret = field(&line, "member").and_then(|id| id.find('-').map(|at| id[at..].to_owned()));
        secret.map_or(line.clone(), |secret| line.replace(&secret, ""))
    }

    /// The answer to a line, and the lines that it counts, without timestamps: those are the clock's.
    fn lines(&mut self) -> Vec<String> {
        let first = self.line();
        let count = field(&first, "count").map_or(0, |count| count.parse().unwrap());
        let rest = (0..count).map(|_| self.line()).collect::<Vec<_>>();
        let bare =
            |line: String| line.split(' ').filter(|word| !word.starts_with("timestamp:")).collect::<Vec<_>>().join(" ");
        std::iter::once(first).chain(rest.into_iter().map(bare)).collect()
    }

    fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.line()
    }

    #[track_caller]
    fn expect(&mut self, line: &str, answer: &[&str]) {
        self.say(line);
        assert_eq!(self.lines(), answer, "{line}");
    }

    /// Expects an error of this code, whose sentence has these words.
    #[track_caller]
    fn refused(&mut self, line: &str, code: &str, words: &str) {
        let answer = self.ask(line);
        assert!(answer.starts_with(&format!("ERROR {code} ")) && answer.contains(words), "{line}: {answer}");
    }
}

/// The value of a field in a line.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix(':'))
}

fn start() -> Server {
    Server::start(Broker::open(Config::in_memory()).unwrap(), "localhost:0").unwrap()
}

/// A broker with a topic `t` of so many partitions, and somebody to talk to it.
fn with_topic(partitions: u32) -> (Server, Client) {
    let server = start();
    let mut client = Client::new(server.port());
    assert!(client.ask(&format!("CREATE t partitions:{partitions}")).starts_with("OK"));
    (server, client)
}

#[test]
fn a_group_in_one_conversation() {
    let (server, mut client) = with_topic(2);
    let address = client.0.get_ref().local_addr().unwrap();
    client.expect("SEND t/0 key:k header.h:1 message:hello", &["ACK topic:t partition:0 offset:0"]);
    client.expect("SEND t/1 timestamp:5 tombstone", &["ACK topic:t partition:1 offset:0"]);
    client.expect("JOIN analytics t", &["JOINED group:analytics member:1 generation:1 assigned:t/0,t/1"]);
    client.expect(
        "POLL",
        &[
            "POLLED count:2 generation:1 assigned:t/0,t/1",
            "topic:t partition:0 offset:0 key:k header.h:1 message:hello",
            "topic:t partition:1 offset:0 tombstone",
        ],
    );
    client.expect("COMMIT", &["OK"]);
    client.expect("SEEK t/0 earliest", &["OK offset:0"]);
    client.expect("GROUPS", &["GROUPS count:1", "group:analytics state:Stable members:1 type:consumer"]);
    client.expect(
        "GROUP analytics",
        &[
            "GROUP count:3 group:analytics state:Stable generation:1 members:1 type:consumer assignor:uniform",
            &format!("member:1 client:{address} epoch:1 assigned:t/0,t/1 target:t/0,t/1"),
            "topic:t partition:0 committed:1 end:1 lag:0",
            "topic:t partition:1 committed:1 end:1 lag:0",
        ],
    );
    client.expect("LEAVE", &["OK"]);
    client.expect("GROUPS", &["GROUPS count:1", "group:analytics state:Empty members:0 type:consumer"]);
    client.expect("RESET analytics t/0 latest t/1 -1", &["OK"]);
    client.expect(
        "GROUP analytics",
        &[
            "GROUP count:2 group:analytics state:Empty generation:2 members:0 type:consumer assignor:uniform assignment_epoch:1",
            "topic:t partition:0 committed:1 end:1 lag:0",
            "topic:t partition:1 committed:0 end:1 lag:1",
        ],
    );
    client.expect("RESET analytics", &["OK"]);
    client.expect("GROUPS", &["GROUPS count:0"]);
    drop(server);
}

#[test]
fn timestamps_stand_in_every_polled_line() {
    let (_server, mut client) = with_topic(1);
    client.ask("ALTER t retention.ms:-1");
    client.ask("SEND t timestamp:1700000000000 message:a");
    client.ask("JOIN g t");
    assert_eq!(client.ask("POLL"), "POLLED count:1 generation:1 assigned:t/0");
    assert_eq!(client.line(), "topic:t partition:0 offset:0 timestamp:1700000000000 message:a");
}

#[test]
fn what_is_wrong_is_said() {
    let (_server, mut client) = with_topic(2);
    for line in ["POLL", "COMMIT", "COMMIT t/0 1", "SEEK t/0 0", "LEAVE"] {
        client.refused(line, "UNKNOWN_MEMBER_ID", "JOIN");
    }
    client.refused("JOIN", "INVALID_REQUEST", "the group is missing");
    client.refused("JOIN g", "INVALID_REQUEST", "the topics is missing");
    client.refused("JOIN g no", "UNKNOWN_TOPIC_OR_PARTITION", "'no'");
    client.refused("JOIN g t,no", "UNKNOWN_TOPIC_OR_PARTITION", "'no'");
    client.refused("JOIN g t,t", "INVALID_REQUEST", "twice");
    client.refused("JOIN g t,", "INVALID_TOPIC_EXCEPTION", "''");
    client.refused("JOIN g t/0", "INVALID_TOPIC_EXCEPTION", "'t/0'");
    client.refused("JOIN g\\q t", "INVALID_REQUEST", "no escape");
    client.refused("JOIN g\\xff t", "INVALID_GROUP_ID", "UTF-8");
    client.refused("JOIN g t from:7", "OFFSET_OUT_OF_RANGE", "first:0 end:0");
    client.refused("JOIN g t from:soon", "INVALID_REQUEST", "'soon'");
    client.refused("JOIN g t commit:maybe", "INVALID_REQUEST", "'auto' or 'manual'");
    client.refused("JOIN g t session:99", "INVALID_SESSION_TIMEOUT", "100 to 1800000");
    client.refused("JOIN g t session:1800001", "INVALID_SESSION_TIMEOUT", "1800001");
    client.refused("JOIN g t sesion:1000", "INVALID_REQUEST", "'sesion:1000'");
    client.expect("GROUPS", &["GROUPS count:0"]);
    client.refused("GROUP g", "GROUP_ID_NOT_FOUND", "'g'");
    client.refused("RESET g", "GROUP_ID_NOT_FOUND", "'g'");
    client.refused("RESET g t/0 1", "OFFSET_OUT_OF_RANGE", "end:0");
    client.refused("RESET g t/0", "INVALID_REQUEST", "the position is missing");
    client.refused("RESET g t/0 0 t/0 0", "INVALID_REQUEST", "twice");
    client.refused("RESET g t/2 0", "UNKNOWN_TOPIC_OR_PARTITION", "no partition 2");
    client.refused("GROUPS all", "INVALID_REQUEST", "one word too many");
    client.ask("JOIN g t commit:manual");
    client.refused("RESET g", "NON_EMPTY_GROUP", "'g'");
    client.refused("RESET g t/0 0", "NON_EMPTY_GROUP", "'g'");
    client.refused("COMMIT t/0", "INVALID_REQUEST", "the offset is missing");
    client.refused("COMMIT t/0 x", "INVALID_REQUEST", "'x'");
    client.refused("COMMIT t/0 1 t/0 2", "INVALID_REQUEST", "twice");
    client.refused("COMMIT t/7 1", "UNKNOWN_TOPIC_OR_PARTITION", "no partition 7");
    client.refused("COMMIT no/0 1", "UNKNOWN_TOPIC_OR_PARTITION", "'no'");
    client.refused("SEEK t/0 1", "OFFSET_OUT_OF_RANGE", "first:0 end:0");
    client.refused("SEEK t/0", "INVALID_REQUEST", "the position is missing");
    client.refused("POLL max:x", "INVALID_REQUEST", "'x'");
    client.refused("POLL max:1 max:1", "INVALID_REQUEST", "twice");
    client.refused("LEAVE g", "INVALID_REQUEST", "one word too many");
    client.expect("COMMIT t/0 1000", &["OK"]);
    client.expect("POLL", &["POLLED count:0 generation:1 assigned:t/0,t/1"]);
}

#[test]
fn failed_join_leaves_the_membership_as_it_is() {
    let (_server, mut client) = with_topic(1);
    client.ask("JOIN g t");
    client.refused("JOIN h no", "UNKNOWN_TOPIC_OR_PARTITION", "'no'");
    client.expect("POLL", &["POLLED count:0 generation:1 assigned:t/0"]);
    client.expect("JOIN h t", &["JOINED group:h member:1 generation:1 assigned:t/0"]);
    let left = "group:g state:Empty members:0 type:consumer";
    client.expect("GROUPS", &["GROUPS count:2", left, "group:h state:Stable members:1 type:consumer"]);
}

#[test]
fn any_name_is_a_group_and_its_offsets_are_lines_to_read() {
    let (_server, mut client) = with_topic(1);
    client.expect("JOIN a/b\\x20c\\n t", &["JOINED group:a/b\\x20c\\n member:1 generation:1 assigned:t/0"]);
    client.expect("COMMIT t/0 7", &["OK"]);
    client.expect("GROUPS", &["GROUPS count:1", "group:a/b\\x20c\\n state:Stable members:1 type:consumer"]);
    client.say("TAIL __consumer_offsets/0 from:earliest until:end");
    let key = "key:a/b\\x20c\\n";
    assert_eq!(
        client.line(),
        format!("offset:0 {key}/group message:type:consumer generation:1 last_member:1 seat:1 partitions:t/0")
    );
    assert_eq!(client.line(), format!("offset:1 {key}/t/0 message:offset:7 epoch:0 metadata:"));
    assert_eq!(client.line(), "END next:2");
    client.refused("SEND __consumer_offsets message:x", "INVALID_TOPIC_EXCEPTION", "broker's own");
    client.ask("USE __consumer_offsets");
    client.refused("PRODUCE x", "INVALID_TOPIC_EXCEPTION", "broker's own");
}

#[test]
fn two_members_share_and_two_groups_each_get_everything() {
    let (server, mut client) = with_topic(3);
    let [mut a, mut b, mut other] = [(); 3].map(|()| Client::new(server.port()));
    a.expect("JOIN analytics t", &["JOINED group:analytics member:1 generation:1 assigned:t/0,t/1,t/2"]);
    b.expect("JOIN analytics t", &["JOINED group:analytics member:2 generation:2 assigned:"]);
    a.expect("POLL", &["POLLED count:0 generation:2 assigned:t/0,t/1"]);
    b.expect("POLL", &["POLLED count:0 generation:2 assigned:t/2"]);
    other.ask("JOIN monitoring t");
    for partition in 0..3 {
        client.ask(&format!("SEND t/{partition} message:{partition}"));
    }
    let count = |client: &mut Client| field(&client.ask("POLL max:100"), "count").map(String::from);
    assert_eq!(count(&mut a), Some("2".into()));
    assert_eq!(count(&mut b), Some("1".into()));
    assert_eq!(count(&mut other), Some("3".into()));
}

#[test]
fn poll_keeps_to_its_limits_and_goes_on() {
    let (_server, mut client) = with_topic(1);
    (0..5).for_each(|n| drop(client.ask(&format!("SEND t message:{n}"))));
    client.ask("JOIN g t");
    let polled = |client: &mut Client, line: &str| {
        client.say(line);
        client.lines()[1..].iter().map(|line| field(line, "message").unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(polled(&mut client, "POLL max:2"), ["0", "1"]);
    assert_eq!(polled(&mut client, "POLL max_bytes:1"), ["2"]);
    assert_eq!(polled(&mut client, "POLL max:0"), [""; 0]);
    assert_eq!(polled(&mut client, "POLL"), ["3", "4"]);
    assert_eq!(polled(&mut client, "POLL"), [""; 0]);
}

#[test]
fn partition_moves_once_its_owner_has_committed() {
    let (server, mut a) = with_topic(2);
    a.ask("SEND t/1 message:x");
    a.ask("JOIN g t commit:manual");
    a.say("POLL");
    a.lines();
    let mut b = Client::new(server.port());
    b.expect("JOIN g t commit:manual", &["JOINED group:g member:2 generation:2 assigned:"]);
    a.expect("COMMIT", &["OK"]);
    b.expect("POLL", &["POLLED count:0 generation:2 assigned:t/1"]);
    a.refused("COMMIT t/1 0", "ILLEGAL_GENERATION", "t/1");
    a.refused("SEEK t/1 0", "ILLEGAL_GENERATION", "t/1");
}

/// Waits in a POLL until it has a partition or a record; answers the time that took.
fn time_until_it_has(client: &mut Client, since: Instant) -> Duration {
    loop {
        client.say("POLL wait:10000");
        let answer = client.lines();
        if answer.len() > 1 {
            return since.elapsed();
        }
    }
}

/// A member that waits for what another has: a record that the other was handed and did not commit.
fn heir(server: &Server, owner: &mut Client, session_ms: u64) -> Client {
    owner.ask("SEND t message:x");
    owner.ask(&format!("JOIN g t commit:manual session:{session_ms}"));
    owner.say("POLL");
    assert_eq!(owner.lines().len(), 2);
    let mut heir = Client::new(server.port());
    heir.expect("JOIN g t", &["JOINED group:g member:2 generation:2 assigned:"]);
    heir
}

#[test]
fn partitions_of_a_closed_member_are_owned_again_at_once() {
    let (server, mut owner) = with_topic(1);
    let mut heir = heir(&server, &mut owner, 45_000);
    heir.say("POLL wait:10000");
    let since = Instant::now();
    drop(owner);
    assert_eq!(heir.lines()[1], "topic:t partition:0 offset:0 message:x");
    assert!(since.elapsed() < Duration::from_millis(100), "{:?}", since.elapsed());
}

#[test]
fn member_killed_while_it_waits_is_noticed() {
    let (server, mut owner) = with_topic(1);
    owner.ask("JOIN g t commit:manual");
    let mut heir = Client::new(server.port());
    heir.ask("JOIN g t");
    owner.say("POLL wait:60000");
    heir.say("POLL wait:60000");
    // Once the broker has read it, the line does not hide the end behind it.
    let mut other = Client::new(server.port());
    other.ask("PING");
    thread::sleep(Duration::from_millis(50));
    let since = Instant::now();
    drop(owner);
    other.ask("SEND t message:x");
    assert_eq!(heir.lines()[1], "topic:t partition:0 offset:0 message:x");
    assert!(since.elapsed() < Duration::from_millis(400), "{:?}", since.elapsed());
}

#[test]
fn partitions_of_a_hung_member_are_owned_again_after_its_session() {
    let (server, mut owner) = with_topic(1);
    let mut heir = heir(&server, &mut owner, 300);
    let took = time_until_it_has(&mut heir, Instant::now());
    assert!(took < Duration::from_millis(400), "{took:?}");
    for line in ["POLL", "COMMIT", "SEEK t/0 0", "LEAVE"] {
        owner.refused(line, "UNKNOWN_MEMBER_ID", "JOIN again");
    }
    assert!(owner.ask("JOIN g t").starts_with("JOINED group:g member:3"));
}

#[test]
fn waiting_poll_and_commit_keep_the_session() {
    let (_server, mut client) = with_topic(1);
    client.ask("JOIN g t session:100");
    client.expect("POLL wait:350", &["POLLED count:0 generation:1 assigned:t/0"]);
    for _ in 0..4 {
        thread::sleep(Duration::from_millis(50));
        client.expect("COMMIT", &["OK"]);
    }
    client.expect("POLL", &["POLLED count:0 generation:1 assigned:t/0"]);
}

#[test]
fn end_of_input_ends_a_waiting_poll_and_then_it_leaves() {
    let (server, mut client) = with_topic(1);
    let mut piped = Client::new(server.port());
    let begin = Instant::now();
    piped.say("JOIN g t\nPOLL wait:60000\nCOMMIT\nGROUPS");
    piped.0.get_ref().shutdown(Shutdown::Write).unwrap();
    assert_eq!(piped.line(), "JOINED group:g member:1 generation:1 assigned:t/0");
    assert_eq!(piped.line(), "POLLED count:0 generation:1 assigned:t/0");
    assert_eq!(piped.line(), "OK");
    assert_eq!(piped.lines().len(), 2);
    assert_eq!(piped.line(), "");
    assert!(begin.elapsed() < Duration::from_secs(5));
    client.expect("GROUPS", &["GROUPS count:1", "group:g state:Empty members:0 type:consumer"]);
}

#[test]
fn drop_ends_a_waiting_poll_and_the_membership_lives_on() {
    let (server, mut client) = with_topic(1);
    let mut member = Client::new(server.port());
    member.ask("JOIN g t");
    member.say("POLL wait:60000");
    thread::sleep(Duration::from_millis(50));
    client.expect("DROP t", &["OK"]);
    assert!(member.line().starts_with("ERROR UNKNOWN_TOPIC_OR_PARTITION"));
    member.expect("POLL", &["POLLED count:0 generation:2 assigned:"]);
    client.ask("CREATE t");
    client.ask("SEND t message:again");
    member.expect("POLL", &["POLLED count:1 generation:3 assigned:t/0", "topic:t partition:0 offset:0 message:again"]);
}

#[test]
fn automatic_commits_go_with_the_next_poll_and_with_leaving_not_with_closing() {
    let (server, mut client) = with_topic(1);
    let committed = |client: &mut Client| {
        client.say("GROUP g");
        client.lines().iter().find_map(|line| field(line, "committed").map(String::from)).unwrap()
    };
    (0..3).for_each(|n| drop(client.ask(&format!("SEND t message:{n}"))));
    let mut member = Client::new(server.port());
    member.ask("JOIN g t");
    for expected in ["-", "1"] {
        member.say("POLL max:1");
        member.lines();
        assert_eq!(committed(&mut client), expected);
    }
    member.ask("LEAVE");
    assert_eq!(committed(&mut client), "2");
    member.ask("JOIN g t");
    member.say("POLL max:1");
    member.lines();
    drop(member);
    while client.ask("GROUP g").contains("members:1") {
        client.line();
        client.line();
    }
    assert!(client.line().contains("committed:2 "));
}

/// A broker in a process of its own.
struct Process(Child, u16);

impl Process {
    fn start(dir: &std::path::Path) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
        command.args(["--listen", "localhost:0", "--flush", "never", "--data-dir"]).arg(dir);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().unwrap().parse().unwrap();
        Process(child, port)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been killed already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn broker_killed_between_poll_and_commit_hands_out_again_and_skips_nothing() {
    let dir = std::env::temp_dir().join(format!("plainlog-groups-{}", std::process::id()));
    let mut next_expected = 0;
    for round in 0..4 {
        let mut broker = Process::start(&dir);
        let mut client = Client::new(broker.1);
        if round == 0 {
            client.ask("CREATE t");
            (0..100).for_each(|n| drop(client.ask(&format!("SEND t message:{n}"))));
        }
        client.ask("JOIN g t commit:manual");
        let offsets = |client: &mut Client| {
            client.say("POLL max:10");
            client.lines()[1..].iter().map(|line| field(line, "offset").unwrap().parse().unwrap()).collect::<Vec<u64>>()
        };
        assert_eq!(offsets(&mut client), (next_expected..next_expected + 10).collect::<Vec<_>>());
        client.expect("COMMIT", &["OK"]);
        next_expected += 10;
        assert_eq!(offsets(&mut client).first(), Some(&next_expected), "handed out, and not committed");
        broker.kill();
    }
    std::fs::remove_dir_all(dir).unwrap();
}

/// What 200 members saw together.
#[derive(Default)]
struct Seen {
    /// Whom a partition's records were handed to in each generation.
    handed: HashMap<(u64, u64), String>,
    /// The last offset of a partition in each generation.
    last: HashMap<(u64, u64), u64>,
    offsets: BTreeMap<u64, HashSet<u64>>,
}

const PARTITIONS: u64 = 16;

#[test]
fn two_hundred_members_come_and_go_at_random_while_messages_flow() {
    let (server, mut producer) = with_topic(PARTITIONS as u32);
    let (seen, stop) = (Mutex::new(Seen::default()), AtomicBool::new(false));
    thread::scope(|scope| {
        for seed in 0..200 {
            let (port, seen, stop) = (server.port(), &seen, &stop);
            let member = move || {
                while !stop.load(Acquire) {
                    be_a_member(port, seed, seen);
                }
            };
            thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, member).unwrap();
        }
        let _ends = Ends(&stop);
        for n in 0..20 {
            (0..PARTITIONS).for_each(|partition| drop(producer.ask(&format!("SEND t/{partition} message:{n}"))));
            thread::sleep(Duration::from_millis(100));
        }
    });
    // Whatever they left, one who comes afterwards gets, as soon as the last of them is gone.
    let mut last = Client::new(server.port());
    last.ask("JOIN g t");
    loop {
        last.say("POLL wait:1000");
        let answer = last.lines();
        note(&answer, "last", &seen);
        if answer.len() == 1 && answer[0].matches("t/").count() as u64 == PARTITIONS {
            break;
        }
    }
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.offsets.len() as u64, PARTITIONS);
    assert!(seen.offsets.values().all(|offsets| offsets.len() == 20), "no gap");
}

/// Joins, polls a few times, and goes: with LEAVE, by closing, or by hanging until its session is over.
fn be_a_member(port: u16, seed: u64, seen: &Mutex<Seen>) {
    let mut random = seed ^ Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id());
    let mut next = |below: u64| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) % below
    };
    let mut client = Client::new(port);
    let commit = ["auto", "manual"][next(2) as usize];
    let joined = client.ask(&format!("JOIN g t commit:{commit} session:{}", 100 + next(400)));
    let id = field(&joined, "member").unwrap().to_owned();
    for _ in 0..next(8) {
        client.say(&format!("POLL max:{} wait:{}", 1 + next(20), next(100)));
        let answer = client.lines();
        if !note(&answer, &id, seen) || commit == "manual" && next(2) == 0 && client.ask("COMMIT") != "OK" {
            return;
        }
    }
    match next(4) {
        0 => drop(client.ask("LEAVE")),
        1 => thread::sleep(Duration::from_millis(next(300))),
        _ => {}
    }
}

/// Checks a POLLED answer against what the others were handed. False: the place was lost.
fn note(answer: &[String], id: &str, seen: &Mutex<Seen>) -> bool {
    if answer[0].starts_with("ERROR UNKNOWN_MEMBER_ID") {
        return false;
    }
    let mut seen = seen.lock().unwrap();
    let number = |line: &str, name: &str| field(line, name).unwrap().parse::<u64>().unwrap();
    let generation = number(&answer[0], "generation");
    for line in &answer[1..] {
        let (partition, offset) = (number(line, "partition"), number(line, "offset"));
        let to = seen.handed.entry((partition, generation)).or_insert(id.to_owned());
        assert_eq!(to, id, "two members were handed partition {partition} in generation {generation}");
        let last = seen.last.insert((partition, generation), offset);
        assert!(last.is_none_or(|last| last < offset), "partition {partition}: {offset} after {last:?}");
        seen.offsets.entry(partition).or_default().insert(offset);
    }
    true
}

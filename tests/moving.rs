//! `broker move` between two brokers of ours, which speak Kafka's protocol: killed at random, on sources with holes, and back.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used)]

mod common;

use common::{BROKER, Broker, Ends, Random, text, until, wait_for};
use std::{
    env,
    process::{Command, Output, Stdio},
    sync::atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    thread,
    time::Duration,
};

/// `broker move` from one to the other.
fn moving(from: &Broker, to: &Broker, options: &[&str]) -> Command {
    let mut command = from.command(BROKER, &["move", "--from", &from.address, "--to", &to.address]);
    command.args(options);
    command
}

fn moved(from: &Broker, to: &Broker, options: &[&str]) -> Output {
    moving(from, to, options).output().unwrap()
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).to_string()
}

/// All lines of a partition, as readers of committed records see them.
fn lines(broker: &Broker, place: &str) -> Vec<String> {
    let mut connection = broker.connect();
    connection.say(&format!("TAIL {place} from:0 until:end\n"));
    let mut all = Vec::new();
    loop {
        let line = connection.line();
        if line.starts_with("END ") {
            return all;
        }
        assert!(!line.starts_with("ERROR"), "{line}");
        all.push(line);
    }
}

/// The same without offsets and timestamps, of which only those are told that differ from the one before.
fn records(broker: &Broker, place: &str) -> Vec<String> {
    let is_kept = |word: &&str| !word.starts_with("offset:") && !word.starts_with("timestamp:");
    lines(broker, place).iter().map(|line| line.split(' ').filter(is_kept).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn what_readers_see_is_moved_and_settings_wait_until_it_is_there() {
    let (from, to) = (Broker::on_disk(), Broker::start());
    from.expect(
        "CREATE a partitions:2 retention.ms:86400000 max.message.bytes:5000\n\
         SEND a/0 timestamp:0 message:long ago\n\
         SEND a/0 timestamp:1700000000000 key:k header.x:y header.x:z header.\\xff\\x00: message:with headers\n\
         SEND a/0 key:k tombstone\n\
         SEND a/0 key: message:\n\
         SEND a/1 base64:AP8=\n\
         CREATE quiet\n",
        &["OK", "ACK", "ACK", "ACK", "ACK", "ACK", "OK"],
    );
    let output = moved(&from, &to, &[]);
    assert_eq!(succeeds(&output), "5 records of 3 partitions in 2 topics copied, 0 offsets of groups\n");
    assert!(text(&output.stderr).contains("1 records whose timestamp is 0 have 1"), "{}", text(&output.stderr));
    let first = lines(&from, "a/0")[0].replace("timestamp:0", "timestamp:1");
    let expected: Vec<_> = [first].into_iter().chain(lines(&from, "a/0").into_iter().skip(1)).collect();
    assert_eq!(lines(&to, "a/0"), expected);
    assert_eq!(lines(&to, "a/1"), lines(&from, "a/1"));
    let mut connection = to.connect();
    let topic = connection.say("TOPIC a\n").line();
    assert!(topic.contains("partitions:2 max.message.bytes:5000 retention.ms:86400000"), "{topic}");
    assert!(!topic.contains("cleanup.policy"), "{topic}");
    let verified = succeeds(&moved(&from, &to, &["--verify"]));
    assert!(verified.starts_with("5 records in 3 partitions are the same, 0 differ"), "{verified}");
    // Nothing is copied twice; what is new follows.
    let again = moved(&from, &to, &[]);
    assert!(succeeds(&again).starts_with("0 records"));
    assert_eq!(text(&again.stderr), "");
    from.expect("SEND a/1 message:new\n", &["ACK"]);
    assert!(succeeds(&moved(&from, &to, &[])).starts_with("1 records"));
    assert_eq!(lines(&to, "a/1"), lines(&from, "a/1"));
}

/// A group, what it has committed at the source, and what that is at the target.
const GROUPS: [(&str, u64, u64); 5] = [("g0", 0, 0), ("g1", 1, 1), ("g3", 3, 3), ("g6", 6, 3), ("g8", 8, 5)];

#[test]
fn holes_of_transactions_are_closed_and_offsets_of_groups_follow() {
    let (from, to) = (Broker::start(), Broker::start());
    from.expect(
        "SEND t message:0\nBEGIN x\nSEND t message:1\nSEND t message:2\nEND\n\
         BEGIN x\nSEND t message:no\nABORT\nSEND t message:3\nSEND t message:4\nSEND u message:0\n",
        &["ACK", "OK", "ACK", "ACK", "OK", "OK", "ACK", "OK", "ACK", "ACK", "ACK"],
    );
    let source = lines(&from, "t/0");
    let offset = |line: &String| line["offset:".len()..].split(' ').next().unwrap().parse().unwrap();
    assert_eq!(source.iter().map(offset).collect::<Vec<u64>>(), [0, 1, 2, 6, 7]);
    // Each group goes on at the record that it would have seen next.
    for (group, committed, _) in GROUPS {
        from.expect(&format!("RESET {group} t/0 {committed}\n"), &["OK"]);
    }
    let output = succeeds(&moved(&from, &to, &["--topics", "t", "--groups"]));
    assert_eq!(output, "5 records of 1 partitions in 1 topics copied, 5 offsets of groups\n");
    assert_eq!(records(&to, "t/0"), records(&from, "t/0"));
    for (group, _, expected) in GROUPS {
        assert_eq!(committed(&to, group), Some(expected), "{group}");
    }
    // One that went on at the target is not put back, and one that is live there is left alone.
    to.expect("RESET g0 t/0 4\n", &["OK"]);
    let mut member = to.connect();
    assert!(member.say("JOIN g1 t\n").line().starts_with("JOINED"));
    from.expect("RESET g1 t/0 7\n", &["OK"]);
    let output = moved(&from, &to, &["--topics", "t", "--groups"]);
    assert!(text(&output.stderr).contains("group 'g1' is live at the target"), "{}", text(&output.stderr));
    assert_eq!((committed(&to, "g0"), committed(&to, "g1")), (Some(4), Some(1)));
}

/// What a group has committed in partition 0.
fn committed(broker: &Broker, group: &str) -> Option<u64> {
    let mut connection = broker.connect();
    let first = connection.say(&format!("GROUP {group}\n")).line();
    let count: usize = first.split("count:").nth(1)?.split(' ').next()?.parse().ok()?;
    let lines: Vec<String> = (0..count).map(|_| connection.line()).collect();
    lines.iter().find_map(|line| line.split("committed:").nth(1)?.split(' ').next()?.parse().ok())
}

#[test]
fn a_target_with_other_records_is_refused_by_name() {
    let (from, to) = (Broker::start(), Broker::start());
    from.expect("SEND a message:1\nSEND a message:2\nSEND b message:3\n", &["ACK", "ACK", "ACK"]);
    to.expect("SEND a message:other\n", &["ACK"]);
    let why = text(&moved(&from, &to, &["--verify"]).stderr).to_string();
    assert!(why.contains("the target does not have all partitions of topic 'b'"), "{why}");
    let output = moved(&from, &to, &[]);
    let why = text(&output.stderr);
    assert!(!output.status.success() && why.contains("topic 'a' partition 0 of the target has records"), "{why}");
    // Beside it, under another name, and without it.
    succeeds(&moved(&from, &to, &["--rename", "a=c", "--json"]));
    assert_eq!(records(&to, "c/0"), records(&from, "a/0"));
    succeeds(&moved(&from, &to, &["--exclude", "a"]));
    to.expect("SEND b message:other\n", &["ACK"]);
    let output = moved(&from, &to, &["--exclude", "a"]);
    let why = text(&output.stderr);
    let expected = "topic 'b' partition 0 of the target has records from offset 1";
    assert!(!output.status.success() && why.contains(expected), "{why}");
    let output = moved(&from, &to, &["--verify"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    assert!(told.contains("b partition 0: offset 1 of the target is not of the source"), "{told}");
    assert!(told.contains("a partition 0: offset 0 of the source is not offset 0 of the target"), "{told}");
}

#[test]
fn a_record_that_differs_in_one_part_is_told() {
    let (from, to) = (Broker::start(), Broker::start());
    let records = [
        ("same", "key:a header.x:1 message:v", "key:a header.x:1 message:v"),
        ("key", "key:a message:v", "key:b message:v"),
        ("value", "key:a message:v", "key:a message:w"),
        ("none", "key:a tombstone", "key:a message:"),
        ("header", "header.x:1 message:v", "header.x:2 message:v"),
        ("name", "header.x:1 message:v", "header.y:1 message:v"),
        ("time", "message:v", "timestamp:6 message:v"),
    ];
    for (topic, here, there) in records {
        for (broker, record) in [(&from, here), (&to, there)] {
            let time = if record.starts_with("timestamp:") { "" } else { "timestamp:5 " };
            broker.expect(&format!("CREATE {topic} retention.ms:-1\nSEND {topic} {time}{record}\n"), &["OK", "ACK"]);
        }
    }
    let output = moved(&from, &to, &["--verify"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    for (topic, here, there) in records {
        let differs = format!("{topic} partition 0: offset 0 of the source is not offset 0 of the target");
        assert_eq!(told.contains(&differs), here != there, "{topic}: {told}");
    }
}

#[test]
fn a_topic_that_is_there_keeps_its_settings_and_it_is_told_which_differ() {
    let (from, to) = (Broker::start(), Broker::start());
    from.expect("CREATE a retention.ms:86400000\nSEND a message:1\n", &["OK", "ACK"]);
    // What a move sets meanwhile is what users set, too, but for one.
    let own = "retention.ms:-1 retention.bytes:-1 cleanup.policy:delete message.timestamp.type:CreateTime";
    to.expect(&format!("CREATE a {own} segment.bytes:2000000 flush.ms:5\n"), &["OK"]);
    let topic = to.connect().say("TOPIC a\n").line();
    for _ in 0..2 {
        let output = moved(&from, &to, &[]);
        succeeds(&output);
        let told = text(&output.stderr);
        let keeps = "topic 'a' was at the target already and keeps its settings";
        assert!(told.contains(&format!("{keeps}: flush.ms is 5 there and")), "{told}");
        assert!(told.contains(&format!("{keeps}: segment.bytes is 2000000 there and")), "{told}");
        assert!(told.contains(&format!("{keeps}: retention.ms is -1 there and 86400000 at the source")), "{told}");
        assert!(!told.contains("cleanup.policy"), "{told}");
        assert_eq!(to.connect().say("TOPIC a\n").line(), topic);
    }
}

#[test]
fn settings_wait_in_a_topic_that_a_move_has_made_unless_they_are_set_meanwhile() {
    let (from, to) = (Broker::start(), Broker::start());
    from.expect(
        "CREATE a retention.ms:86400000 cleanup.policy:compact\nCREATE b cleanup.policy:compact\nSEND a key:1 message:1\nSEND b key:1 message:1\n",
        &["OK", "OK", "ACK", "ACK"],
    );
    // So a move leaves them that was killed before it had copied all.
    let waits = "cleanup.policy:delete message.timestamp.type:CreateTime retention.bytes:-1";
    to.expect(
        &format!("CREATE a {waits} retention.ms:9007199254740881\nCREATE b {waits} retention.ms:90000000\n"),
        &["OK", "OK"],
    );
    let output = moved(&from, &to, &[]);
    succeeds(&output);
    let told = text(&output.stderr);
    assert!(!told.contains("topic 'a'"), "{told}");
    assert!(told.contains("retention.ms is 90000000 there and 604800000 at the source"), "{told}");
    let topic = to.connect().say("TOPIC a\n").line();
    assert!(topic.contains("cleanup.policy:compact") && topic.contains("retention.ms:86400000"), "{topic}");
    assert!(!topic.contains("retention.bytes"), "{topic}");
    let topic = to.connect().say("TOPIC b\n").line();
    assert!(topic.contains("cleanup.policy:delete") && topic.contains("retention.ms:90000000"), "{topic}");
}

#[test]
fn another_topic_of_the_source_does_not_go_on_where_the_first_was() {
    let (from, to) = (Broker::start(), Broker::start());
    from.expect("SEND a message:1\nSEND a message:2\nSEND b message:3\nSEND b message:4\n", &["ACK"; 4]);
    succeeds(&moved(&from, &to, &["--topics", "a", "--rename", "a=x"]));
    // One that is moved to the same name.
    let refuses = |options: &[&str]| {
        let output = moved(&from, &to, options);
        let why = text(&output.stderr);
        let expected = "topic 'x' partition 0 of the target was copied from another topic";
        assert!(!output.status.success() && why.contains(expected), "{why}");
    };
    refuses(&["--topics", "b", "--rename", "b=x"]);
    // One that was made anew, with more records than were copied of the first.
    from.expect("DROP a\nSEND a message:5\nSEND a message:6\nSEND a message:7\n", &["OK", "ACK", "ACK", "ACK"]);
    refuses(&["--topics", "a", "--rename", "a=x"]);
    refuses(&["--topics", "a", "--rename", "a=x", "--follow"]);
    assert_eq!(records(&to, "x/0").len(), 2);
    let output = moved(&from, &to, &["--topics", "a", "--rename", "a=x", "--verify"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    // What the error tells to do.
    succeeds(&moved(&from, &to, &["--topics", "a"]));
    assert_eq!(records(&to, "a/0"), records(&from, "a/0"));
    to.expect("DROP x\n", &["OK"]);
    succeeds(&moved(&from, &to, &["--topics", "a", "--rename", "a=x"]));
    assert_eq!(records(&to, "x/0"), records(&from, "a/0"));
}

#[test]
fn a_record_that_the_target_does_not_take_is_named() {
    let (from, to) = (Broker::start(), Broker::start());
    let large = "x".repeat(3000);
    from.expect(&format!("SEND a message:1\nSEND a message:{large}\nSEND a message:3\n"), &["ACK", "ACK", "ACK"]);
    to.expect("CREATE a max.message.bytes:2000\n", &["OK"]);
    let output = moved(&from, &to, &[]);
    let why = text(&output.stderr);
    assert!(why.contains("offset 1 to 'a' partition 0") && why.contains("max.message.bytes"), "{why}");
    assert_eq!(records(&to, "a/0").len(), 1);
    to.expect("ALTER a max.message.bytes:5000\n", &["OK"]);
    succeeds(&moved(&from, &to, &[]));
    assert_eq!(records(&to, "a/0"), records(&from, "a/0"));
}

#[test]
fn it_follows_new_records_and_topics_until_it_is_interrupted() {
    let (from, to) = (Broker::start(), Broker::start());
    from.expect("SEND a message:1\n", &["ACK"]);
    let mut follower = moving(&from, &to, &["--follow", "--json"]).spawn().unwrap();
    until("the first record", || end(&to, "a", 0) == Some(1));
    from.expect("SEND a message:2\nSEND b message:1\n", &["ACK", "ACK"]);
    until("the second", || end(&to, "a", 0) == Some(2));
    until("another topic", || end(&to, "b", 0) == Some(1));
    // Settings of one that was found later come when it is there, and partitions that are added do not end the move.
    from.expect(
        "CREATE c retention.ms:86400000\nSEND c message:1\nALTER a partitions:3\nSEND a/2 message:3\n",
        &["OK", "ACK", "OK", "ACK"],
    );
    until("a partition that was added", || {
        to.connect().say("TOPIC a\n").line().contains("partitions:3") && end(&to, "a", 2) == Some(1)
    });
    until("the settings of another topic", || to.connect().say("TOPIC c\n").line().contains("retention.ms:86400000"));
    // One that is dropped holds up the others no longer than one could be that is new.
    from.expect("DROP b\nSEND a message:4\n", &["OK", "ACK"]);
    until("a topic beside one that was dropped", || {
        (0..3).filter_map(|partition| end(&to, "a", partition)).sum::<u64>() == 4
    });
    common::signal(&follower, "INT");
    assert!(follower.wait().unwrap().success());
    succeeds(&moved(&from, &to, &["--until-equal"]));
    succeeds(&moved(&from, &to, &["--verify"]));
    // One that is made anew does not go on as if it were the same.
    let mut follower = moving(&from, &to, &["--follow"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    from.expect("SEND c message:2\n", &["ACK"]);
    until("it follows again", || end(&to, "c", 0) == Some(2));
    from.expect("DROP c\nSEND c message:3\nSEND c message:4\nSEND c message:5\n", &["OK", "ACK", "ACK", "ACK"]);
    until("it ends", || follower.try_wait().unwrap().is_some());
    let output = follower.wait_with_output().unwrap();
    let why = text(&output.stderr);
    assert!(!output.status.success() && why.contains("'c' partition 0"), "{why}");
}

/// `PLAINLOG_MOVE_KILLS=100` for the long run.
#[test]
fn killed_at_random_while_the_source_is_written_trimmed_and_compacted_it_loses_nothing_and_has_nothing_twice() {
    let kills: u64 = env::var("PLAINLOG_MOVE_KILLS").map_or(12, |kills| kills.parse().unwrap());
    let folder = env::temp_dir().join(format!("plainlog-moving-{}", std::process::id()));
    let options = ["--data-dir", folder.to_str().unwrap(), "--flush", "never", "--segment-bytes", "20000"];
    let (from, to) = (Broker::with(&options), Broker::start());
    from.expect("CREATE plain partitions:3\nCREATE state partitions:2 cleanup.policy:compact\n", &["OK", "OK"]);
    let (is_over, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut random, mut starts) = (Random(7), [0; 3]);
    thread::scope(|scope| {
        let ends = Ends(&is_over);
        for writer in 0..2 {
            let (from, is_over, written) = (&from, &is_over, &written);
            scope.spawn(move || write(from, writer, is_over, written));
        }
        for kill in 0..kills {
            let mut command = moving(&from, &to, &["--follow"]);
            let mut child = command.stdout(Stdio::null()).spawn().unwrap();
            thread::sleep(Duration::from_millis(200 + random.below(1500)));
            if let Some(status) = child.try_wait().unwrap() {
                let output = child.wait_with_output().unwrap();
                panic!("the move has ended after {kill} kills: {status}: {}", text(&output.stderr));
            }
            child.kill().unwrap();
            child.wait().unwrap();
            // What is far back goes at the source, at times what was not copied yet.
            if random.below(3) == 0 {
                let partition = random.below(3);
                let end = wait_for("the partition", || end(&from, "plain", partition));
                let start = &mut starts[partition as usize];
                let before = (end - random.below(1 + end.min(2000))).max(*start);
                *start = before;
                from.expect(&format!("TRIM plain/{partition} {before}\n"), &["OK"]);
            }
        }
        drop(ends);
    });
    succeeds(&moved(&from, &to, &["--until-equal"]));
    let verified = succeeds(&moved(&from, &to, &["--verify"]));
    assert!(verified.contains(" 0 differ") && verified.contains(" 0 at the source only"), "{verified}");
    assert!(written.load(Relaxed) > 1000);
    // Each writer's numbers go up, so nothing is there twice.
    for place in ["plain/0", "plain/1", "plain/2", "state/0", "state/1"] {
        let mut last = [None, None];
        for line in records(&to, place) {
            let value = line.split("message:").nth(1).unwrap();
            let (writer, number) = value.split_once('-').unwrap();
            let number: u64 = number.parse().unwrap();
            let before = last[writer.parse::<usize>().unwrap()].replace(number);
            assert!(before.is_none_or(|before| before < number), "{place}: {number} after {before:?}");
        }
    }
    let _ = std::fs::remove_dir_all(folder);
}

/// Writes numbers to both topics, in transactions at times, until it is over.
fn write(broker: &Broker, writer: usize, is_over: &AtomicBool, written: &AtomicU64) {
    let mut connection = broker.connect();
    let mut random = Random(writer as u64);
    let mut number = 0;
    while !is_over.load(Acquire) {
        let (mut lines, mut answers) = (String::new(), 0);
        let is_transaction = random.below(4) == 0;
        if is_transaction {
            lines += &format!("BEGIN writer-{writer}\n");
        }
        for _ in 0..random.below(40) {
            let (partition, key) = (random.below(3), random.below(200));
            lines += &format!("SEND plain/{partition} message:{writer}-{number}\n");
            lines += &format!("SEND state key:{key} message:{writer}-{number}\n");
            answers += 2;
            number += 1;
        }
        if is_transaction {
            lines += if random.below(2) == 0 { "END\n" } else { "ABORT\n" };
            answers += 2;
        }
        connection.say(&lines);
        for _ in 0..answers {
            let line = connection.line();
            assert!(!line.starts_with("ERROR"), "{line}");
        }
        written.store(number, Release);
        thread::sleep(Duration::from_millis(5));
    }
}

/// Where a partition ends, if there is one.
fn end(broker: &Broker, topic: &str, partition: u64) -> Option<u64> {
    let mut connection = broker.connect();
    if connection.say(&format!("TOPIC {topic}\n")).line().starts_with("ERROR") {
        return None;
    }
    let line = (0..=partition).map(|_| connection.line()).last()?;
    line.split("end:").nth(1)?.split(' ').next()?.parse().ok()
}

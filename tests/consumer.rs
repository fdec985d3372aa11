//! The program `consumer`, run against the real broker.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{Broker, signal, text};
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout},
};

fn lines(child: &mut Child) -> std::io::Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().unwrap()).lines()
}

fn filled(values: &[&str]) -> Broker {
    let broker = Broker::start();
    for value in values {
        broker.expect(&format!("PRODUCE {value}\n"), &["ACK"]);
    }
    broker
}

fn output(broker: &Broker, arguments: &[&str]) -> String {
    let output = broker.consume(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout).to_string()
}

#[test]
fn messages_are_shown_with_their_offsets() {
    let broker = filled(&["hello", "world"]);
    let output = broker.consume(&["--exit-at-end"]);
    assert_eq!(text(&output.stdout), "Consumed: hello (offset: 0)\nConsumed: world (offset: 1)\n");
    let told = format!("Consumer started. Waiting for data...\nConnected to broker at {}\n", broker.address);
    assert_eq!(text(&output.stderr), told);
    broker.expect("CREATE t partitions:3\nSEND t/2 message:hi\n", &["OK", "ACK"]);
    assert_eq!(self::output(&broker, &["-t", "t", "-e"]), "Consumed: hi (partition: 2, offset: 0)\n");
    assert_eq!(self::output(&broker, &["-t", "t", "-p", "2", "-e"]), "Consumed: hi (offset: 0)\n");
    assert_eq!(self::output(&broker, &["-t", "t", "-p", "0", "-e"]), "");
}

#[test]
fn a_new_message_shows_at_once_and_count_ends_it() {
    let broker = filled(&["old"]);
    let mut child = broker.command(common::CONSUMER, &["-c", "2"]).spawn().unwrap();
    let mut lines = lines(&mut child);
    assert_eq!(lines.next().unwrap().unwrap(), "Consumed: old (offset: 0)");
    broker.expect("PRODUCE new\n", &["ACK offset:1"]);
    assert_eq!(lines.next().unwrap().unwrap(), "Consumed: new (offset: 1)");
    assert!(lines.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn reading_begins_where_it_is_told() {
    let broker = filled(&[]);
    broker.expect("CREATE messages retention.ms:-1\n", &["OK"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    for ms in [1_000, 2_000, now] {
        broker.expect(&format!("SEND messages timestamp:{ms} message:{ms}\n"), &["ACK"]);
    }
    let from = |position: &str| output(&broker, &["-e", "-f", "%o ", "-o", position]);
    for (position, expected) in
        [("earliest", "0 1 2 "), ("latest", ""), ("1", "1 2 "), ("-1", "2 "), ("-9", "0 1 2 "), ("3", "")]
    {
        assert_eq!(from(position), expected, "{position}");
    }
    assert_eq!(from("15m"), "2 ");
    #[cfg(feature = "comfort")]
    assert_eq!((from("1970-01-01T00:00:02Z").as_str(), from("1970-01-01T00:00:03Z").as_str()), ("1 2 ", "2 "));
    assert_eq!(output(&broker, &["-e", "-f", "%o ", "--from=-2"]), "1 2 ");
}

#[test]
fn formats_are_kcats() {
    let broker = filled(&[]);
    broker.expect(
        "CREATE messages retention.ms:-1\nSEND messages timestamp:7 key:k header.a:1 header.b message:hey\nSEND messages tombstone\n",
        &["OK", "ACK", "ACK"],
    );
    let format = "%t/%p@%o %k %s %h %T %S %K%%\\n";
    assert_eq!(output(&broker, &["-e", "-c", "1", "-f", format]), "messages/0@0 k hey a=1,b=NULL 7 3 1%\n");
    assert_eq!(output(&broker, &["-e", "--raw", "-D", "\\0"]), "hey\0\0");
    #[cfg(feature = "comfort")]
    assert_eq!(
        output(&broker, &["-c", "1", "--json"]),
        concat!(
            r#"{"topic":"messages","partition":0,"offset":0,"timestamp":7,"#,
            r#""key":"k","headers":[["a","1"],["b",null]],"value":"hey"}"#,
            "\n"
        )
    );
}

#[test]
fn values_go_to_a_file_byte_for_byte() {
    let broker = filled(&[]);
    broker.expect("SEND messages base64:G1sySgD/\n", &["ACK"]);
    assert_eq!(broker.consume(&["-e", "--raw"]).stdout, b"\x1b[2J\x00\xff\n");
    assert_eq!(broker.consume(&["-e"]).stdout, b"Consumed: \x1b[2J\x00\xff (offset: 0)\n");
}

#[test]
fn a_timeout_is_a_failure_if_fewer_came_than_were_to() {
    let broker = filled(&["one"]);
    let code = |arguments: &[&str]| broker.consume(arguments).status.code();
    assert_eq!(code(&["--timeout", "50ms"]), Some(0));
    assert_eq!(code(&["--timeout", "50ms", "-c", "2"]), Some(1));
    assert_eq!(code(&["--timeout", "1h", "-c", "1"]), Some(0));
    assert_eq!(code(&["--timeout", "0", "-c", "0"]), Some(0));
}

#[test]
fn a_topic_that_is_not_there_is_waited_for_and_said() {
    let broker = Broker::start();
    let mut child = broker.command(common::CONSUMER, &["-t", "later", "-o", "latest", "-c", "1"]).spawn().unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines().skip(2);
    assert_eq!(told.next().unwrap().unwrap(), "Topic 'later' is not there yet; waiting for it");
    broker.expect("SEND later message:first\n", &["ACK"]);
    assert_eq!(lines(&mut child).next().unwrap().unwrap(), "Consumed: first (offset: 0)");
    assert!(child.wait().unwrap().success());
    let output = broker.consume(&["-t", "never", "-e"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).ends_with("consumer: there is no topic 'never'\n"), "{}", text(&output.stderr));
}

#[test]
fn what_was_trimmed_away_is_said_and_the_rest_is_read() {
    let broker = filled(&["a", "b", "c"]);
    broker.expect("TRIM messages/0 2\n", &["OK first:2"]);
    let output = broker.consume(&["-o", "1", "-e"]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), "Consumed: c (offset: 2)\n");
    let told = text(&output.stderr).lines().nth(2).unwrap();
    assert!(
        told.starts_with("offset 1 of messages/0 cannot be read, going on at 2: ERROR OFFSET_OUT_OF_RANGE"),
        "{told}"
    );
}

#[test]
fn a_restart_of_the_broker_is_not_seen_by_an_idle_reader() {
    let mut broker = Broker::on_disk();
    broker.expect("PRODUCE before\n", &["ACK"]);
    let mut child = broker.command(common::CONSUMER, &["-c", "2"]).spawn().unwrap();
    let mut lines = lines(&mut child);
    assert_eq!(lines.next().unwrap().unwrap(), "Consumed: before (offset: 0)");
    broker.restart();
    broker.expect("PRODUCE after\n", &["ACK offset:1"]);
    assert_eq!(lines.next().unwrap().unwrap(), "Consumed: after (offset: 1)");
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(told.lines().count(), 2, "{told}");
}

#[test]
fn an_interrupt_is_a_normal_end() {
    let broker = filled(&["one"]);
    for name in ["INT", "TERM"] {
        let mut child = broker.command(common::CONSUMER, &[]).spawn().unwrap();
        let mut lines = lines(&mut child);
        assert!(lines.next().is_some());
        signal(&child, name);
        assert!(lines.next().is_none());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{name}");
    }
}

#[test]
fn a_closed_stdout_is_a_normal_end() {
    let broker = Broker::start();
    let numbers: String = (0..100_000).map(|number| format!("{number}\n")).collect();
    assert!(broker.produce(&[], numbers).status.success());
    let mut child = broker.command(common::CONSUMER, &[]).spawn().unwrap();
    let mut lines = lines(&mut child);
    assert_eq!(lines.next().unwrap().unwrap(), "Consumed: 0 (offset: 0)");
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_broker_that_is_not_there_is_named() {
    let mut broker = Broker::start();
    broker.kill();
    let output = broker.consume(&["--timeout", "50ms"]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("consumer: no connection to the broker at {}: ", broker.address);
    assert!(text(&output.stderr).lines().last().unwrap().starts_with(&expected), "{}", text(&output.stderr));
}

#[test]
fn usage_is_complete_and_its_errors_are_2() {
    let broker = Broker::start();
    let help = broker.consume(&["--help"]);
    assert!(help.status.success());
    let help = text(&help.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    let options = [
        "--broker",
        "--topic",
        "--partition",
        "--from",
        "--count",
        "--exit-at-end",
        "--timeout",
        "--format",
        "--raw",
        "--delimiter",
        "--json",
        "--version",
        "PLAINLOG_BROKER",
        "[default: localhost:9092]",
        "[default: messages]",
        "[default: earliest]",
    ];
    for option in options {
        assert!(help.contains(option), "{option} in {help}");
    }
    for wrong in [
        &["--nonsense"][..],
        &["-o", "someday"],
        &["-c", "-1"],
        &["--timeout", "soon"],
        &["-f", "%q"],
        &["-f", "%s", "--raw"],
        &["--raw", "--json"],
        &["-D", "x"],
    ] {
        let output = broker.consume(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(text(&output.stderr).starts_with("error: "), "{wrong:?}");
    }
    assert!(text(&broker.consume(&["-p", "1", "-e"]).stderr).contains("there is no topic 'messages'"));
}

#[cfg(not(feature = "comfort"))]
#[test]
fn options_of_the_feature_comfort_name_it() {
    let broker = Broker::start();
    for arguments in [&["--json"][..], &["-o", "2026-11-20T12:00:00Z"]] {
        let output = broker.consume(arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("the feature 'comfort'"), "{}", text(&output.stderr));
    }
}

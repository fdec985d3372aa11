//! The program `producer`, run against the real broker.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{Broker, signal, text};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::Stdio,
    thread,
};

fn stored(broker: &Broker, topic: &str) -> String {
    let output = broker.consume(&["-t", topic, "-e", "-f", "%p %o %k|%K|%h|%s|%S\\n"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).to_string()
}

#[test]
fn every_line_is_a_message_blank_ones_and_exit_too() {
    let broker = Broker::start();
    let output = broker.produce(&[], "hello\n\nexit\ncr\rin it\nnul\0\nlast");
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), "");
    let summary = text(&output.stderr);
    assert!(summary.starts_with("6 messages, offsets 0-5; "), "{summary}");
    assert_eq!(summary.lines().count(), 1, "{summary}");
    let expected = ["hello", "", "exit", "cr\rin it", "nul\0", "last"];
    let lines = expected.iter().enumerate().map(|(at, value)| format!("0 {at} |-1||{value}|{}\n", value.len()));
    assert_eq!(stored(&broker, "messages"), lines.collect::<String>());
}

/// A file written on Windows was stored with a CR at the end of each message, though the port drops it.
#[test]
fn a_cr_before_the_line_end_is_dropped_unless_a_delimiter_is_asked_for() {
    let broker = Broker::start();
    broker.produce(&[], "a\r\n\r\nlast\r");
    broker.produce(&["-K", ":"], "k:v\r\n");
    broker.produce(&["--interactive"], "typed\r\nexit\r\n");
    assert_eq!(
        stored(&broker, "messages"),
        "0 0 |-1||a|1\n0 1 |-1|||0\n0 2 |-1||last|4\n0 3 k|1||v|1\n0 4 |-1||typed|5\n"
    );
    broker.produce(&["-t", "exact", "-D", "\\n"], "a\r\n");
    assert_eq!(stored(&broker, "exact"), "0 0 |-1||a\r|2\n");
}

#[test]
fn keys_headers_partitions_and_tombstones() {
    let broker = Broker::start();
    broker.expect("CREATE t partitions:3\n", &["OK topic:t"]);
    broker.produce(&["-t", "t", "-p", "2", "-K", ":", "-H", "a=1", "-H", "b=2=3", "-Z"], "k:v:w\nno key\nk:\n");
    assert_eq!(stored(&broker, "t"), "2 0 k|1|a=1,b=2=3|v:w|3\n2 1 |-1|a=1,b=2=3|no key|6\n2 2 k|1|a=1,b=2=3||-1\n");
    let output = broker.produce(&["-t", "u", "-k", "one", "-D", "-;", "-v"], "a\nb-;c");
    assert_eq!(text(&output.stdout), "ACK topic:u partition:0 offset:0\nACK topic:u partition:0 offset:1\n");
    assert_eq!(stored(&broker, "u"), "0 0 one|3||a\nb|3\n0 1 one|3||c|1\n");
}

#[test]
fn a_file_is_sent_like_piped_input() {
    let broker = Broker::on_disk();
    let path = std::env::temp_dir().join(format!("plainlog-producer-{}", std::process::id()));
    fs::write(&path, "a\nb\n").unwrap();
    let output = broker.produce(&["-f", path.to_str().unwrap()], "not this");
    fs::remove_file(&path).unwrap();
    assert!(output.status.success());
    assert_eq!(stored(&broker, "messages"), "0 0 |-1||a|1\n0 1 |-1||b|1\n");
    let output = broker.produce(&["--file", "/no/such/file"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("producer: /no/such/file: "), "{}", text(&output.stderr));
}

#[test]
fn a_refused_message_is_named_and_the_rest_goes_on() {
    let broker = Broker::start();
    let output = broker.produce(&[], format!("first\n{}\nlast\n", "x".repeat(2 << 20)));
    assert_eq!(output.status.code(), Some(1));
    let mut lines = text(&output.stderr).lines();
    let refused = lines.next().unwrap();
    assert!(refused.starts_with("line 2: ERROR MESSAGE_TOO_LARGE "), "{refused}");
    let summary = lines.next().unwrap();
    assert!(summary.starts_with("2 messages, offsets 0-1; 1 refused; "), "{summary}");
    assert_eq!(stored(&broker, "messages"), "0 0 |-1||first|5\n0 1 |-1||last|4\n");
}

#[test]
fn a_hundred_thousand_lines_keep_their_order() {
    let broker = Broker::start();
    let input: String = (0..100_000).map(|number| format!("message {number}\n")).collect();
    let output = broker.produce(&[], &input);
    assert!(text(&output.stderr).starts_with("100000 messages, offsets 0-99999; "), "{}", text(&output.stderr));
    assert_eq!(text(&broker.consume(&["-e", "--raw"]).stdout), input);
}

#[cfg(feature = "comfort")]
#[test]
fn a_topic_is_copied_exactly_through_json() {
    let broker = Broker::start();
    broker.expect(
        "CREATE a partitions:2 retention.ms:-1\nCREATE b partitions:2 retention.ms:-1\n",
        &["OK topic:a", "OK topic:b"],
    );
    broker.expect(
        "SEND a/0 message:hello\n\
         SEND a/1 timestamp:7 key:k\\x20\\xff header.a:1 header.a header.b\\x3a\\xfe:\\xff escaped:x\\ny \"\n\
         SEND a/1 key: header.n: tombstone\n\
         SEND a/0 base64:AP8=\n\
         SEND a/0 message:\n",
        &["ACK"; 5],
    );
    let original = broker.consume(&["-t", "a", "-e", "--json"]).stdout;
    let output = broker.produce(&["-t", "b", "--json"], &original);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let copy = broker.consume(&["-t", "b", "-e", "--json"]).stdout;
    let sorted = |lines: &[u8]| {
        let mut lines: Vec<_> =
            text(lines).lines().map(|line| line.replace("\"topic\":\"b\"", "\"topic\":\"a\"")).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&copy), sorted(&original));
    assert_eq!(sorted(&copy).len(), 5);
}

#[cfg(feature = "comfort")]
#[test]
fn what_is_no_json_is_named_and_the_rest_goes_on() {
    let broker = Broker::start();
    let output = broker.produce(&["--json"], "{\"value\":\"a\"}\nhello\n{\"value\":\"b\"}\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("line 2: no JSON object: "), "{}", text(&output.stderr));
    assert_eq!(stored(&broker, "messages"), "0 0 |-1||a|1\n0 1 |-1||b|1\n");
}

#[cfg(not(feature = "comfort"))]
#[test]
fn json_is_refused_by_a_build_without_it() {
    let output = Broker::start().produce(&["--json"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("needs the feature 'comfort'"), "{}", text(&output.stderr));
}

#[test]
fn each_line_of_a_slow_input_is_sent_as_it_comes() {
    let broker = Broker::start();
    let mut child = broker.command(common::PRODUCER, &["-v"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut acks = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stdin = child.stdin.take().unwrap();
    for offset in 0..3 {
        writeln!(stdin, "message").unwrap();
        assert_eq!(acks.next().unwrap().unwrap(), format!("ACK topic:messages partition:0 offset:{offset}"));
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn an_interrupt_leaves_what_is_not_read_unsent_and_says_so_by_130() {
    let broker = Broker::start();
    let mut child = broker.command(common::PRODUCER, &["-v"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut acks = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "sent").unwrap();
    assert!(acks.next().unwrap().unwrap().starts_with("ACK "));
    signal(&child, "INT");
    let mut summary = String::new();
    child.stderr.take().unwrap().read_to_string(&mut summary).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(summary.starts_with("1 message, offset 0; "), "{summary}");
}

#[test]
fn a_second_interrupt_ends_at_once() {
    // Nobody answers here, so the first interrupt finds a message under way.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut child = std::process::Command::new(common::PRODUCER)
        .args(["-b", &address])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"never answered\n").unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "PING");
    stream.write_all(b"PONG\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "SEND messages message:never answered");
    signal(&child, "TERM");
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_closed_stdout_is_a_normal_end() {
    let broker = Broker::start();
    let mut child = broker.command(common::PRODUCER, &["-v"]).stdin(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    let writer = thread::spawn(move || while stdin.write_all(b"message\n").is_ok() {});
    assert_eq!(child.wait().unwrap().code(), Some(0));
    writer.join().unwrap();
}

#[test]
fn a_broker_that_was_killed_is_waited_for() {
    let mut broker = Broker::on_disk();
    let mut child = broker.command(common::PRODUCER, &["-v"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut acks = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "before").unwrap();
    assert_eq!(acks.next().unwrap().unwrap(), "ACK topic:messages partition:0 offset:0");
    broker.kill();
    writeln!(stdin, "after").unwrap();
    broker.restart();
    assert_eq!(acks.next().unwrap().unwrap(), "ACK topic:messages partition:0 offset:1");
    drop(stdin);
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(told.starts_with("2 messages, offsets 0-1; "), "{told}");
}

#[test]
fn a_broker_that_is_not_there_is_named() {
    let mut broker = Broker::start();
    broker.kill();
    let output = broker.produce(&["--retry-for", "0"], "hello\n");
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("producer: no connection to the broker at {}: ", broker.address);
    assert!(text(&output.stderr).starts_with(&expected), "{}", text(&output.stderr));
    let output = broker.produce(&["--retry-for", "50ms"], "hello\n");
    assert!(text(&output.stderr).contains("; trying again for 0.05 s\n"), "{}", text(&output.stderr));
}

#[test]
fn a_conversation_asks_sends_and_shows_the_answer() {
    let broker = Broker::start();
    let output = broker.produce(&["--interactive"], "hello\n\nworld\nexit\nnot sent\n");
    assert!(output.status.success());
    let prompt = "What do you want to add? (type 'exit' to quit): ";
    let expected =
        format!("{prompt}Broker response: ACK offset:0\n{prompt}{prompt}Broker response: ACK offset:1\n{prompt}");
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(text(&output.stderr), "");
    broker.expect("CREATE t partitions:2\n", &["OK topic:t"]);
    let output = broker.produce(&["--interactive", "-t", "t", "-p", "1"], "hello");
    assert_eq!(text(&output.stdout), format!("{prompt}Broker response: ACK partition:1 offset:0\n{prompt}\n"));
    let output = broker.produce(&["--interactive", "-t", "t", "-p", "2"], "hello");
    assert!(text(&output.stdout).contains("Broker response: ERROR UNKNOWN_TOPIC_OR_PARTITION "));
    assert!(output.status.success());
}

#[test]
fn usage_is_complete_and_its_errors_are_2() {
    let broker = Broker::start();
    let help = broker.produce(&["--help"], "");
    assert!(help.status.success());
    let help = text(&help.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    let options = [
        "--broker",
        "--topic",
        "--partition",
        "--key",
        "--key-separator",
        "--header",
        "--tombstone",
        "--delimiter",
        "--json",
        "--file",
        "--interactive",
        "--idempotent",
        "--transactional-id",
        "--transaction-messages",
        "--transaction-timeout",
        "--retry-for",
        "--verbose",
        "--version",
        "PLAINLOG_BROKER",
        "[default: localhost:9092]",
        "[default: messages]",
        "[default: 30s]",
    ];
    for option in options {
        assert!(help.contains(option), "{option} in {help}");
    }
    assert!(text(&broker.produce(&["--version"], "").stdout).starts_with("producer 0."));
    for wrong in [
        &["--nonsense"][..],
        &["-p", "-1"],
        &["-p", "2147483648"],
        &["-H", "a"],
        &["-K", ""],
        &["-D", "\\q"],
        &["--retry-for", "soon"],
        &["-k", "a", "-K", ":"],
        &["--json", "-k", "a"],
    ] {
        let output = broker.produce(wrong, "");
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(text(&output.stderr).starts_with("error: "), "{wrong:?}");
    }
}

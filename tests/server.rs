//! The server before its clients: limits, faults of the other end, clean stops, and the jobs around it.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{Broker, LONG, until};
use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const BROKER: &str = env!("CARGO_BIN_EXE_broker");

fn connect(broker: &Broker) -> TcpStream {
    let stream = TcpStream::connect(&broker.address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// Says it all, ends the input, and answers what comes until the broker closes.
fn say(broker: &Broker, bytes: &[u8]) -> String {
    let mut stream = connect(broker);
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    rest(stream)
}

fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

#[test]
fn carriage_returns_and_a_byte_order_mark_are_dropped() {
    let broker = Broker::start();
    assert_eq!(say(&broker, b"\xef\xbb\xbfPRODUCE a\r\nCONSUME 0\r\n"), "ACK offset:0\nMESSAGE offset:0 a\n");
    assert_eq!(say(&broker, b"PRODUCE only line"), "ACK offset:1\n");
}

#[test]
fn a_line_without_end_leaves_memory_flat_and_the_connection_alive() {
    let broker = Broker::start();
    let mut stream = connect(&broker);
    stream.write_all(b"PRODUCE ").unwrap();
    let part = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        stream.write_all(&part).unwrap();
    }
    stream.write_all(b"\nPING\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let answer = rest(stream);
    let lines: Vec<&str> = answer.lines().collect();
    assert!(lines[0].starts_with("ERROR MESSAGE_TOO_LARGE"), "{answer}");
    assert_eq!(lines[1..], ["PONG"]);
    assert!(broker.memory() < 24 << 20, "{} bytes", broker.memory());
}

#[test]
fn a_byte_at_a_time_is_a_line_like_any_other() {
    let broker = Broker::start();
    let mut stream = connect(&broker);
    stream.set_nodelay(true).unwrap();
    for byte in b"PRODUCE slow\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(stream), "ACK offset:0\n");
}

#[test]
fn a_reset_in_mid_line_stores_nothing_and_disturbs_nobody() {
    let broker = Broker::start();
    let mut stream = connect(&broker);
    stream.write_all(b"PING\nPRODUCE half").unwrap();
    // Closing with unread answers resets the connection.
    let mut first = [0];
    stream.read_exact(&mut first).unwrap();
    drop(stream);
    assert_eq!(say(&broker, b"PRODUCE whole\n"), "ACK offset:0\n");
}

#[test]
fn one_that_never_reads_is_closed_and_the_others_go_on() {
    let broker = Broker::with(&["--in-memory", "--idle-timeout", "300ms"]);
    let value = "x".repeat(100_000);
    assert_eq!(say(&broker, format!("PRODUCE {value}\n").as_bytes()), "ACK offset:0\n");
    let mut greedy = connect(&broker);
    greedy.set_write_timeout(Some(LONG)).unwrap();
    // Its answers fill every buffer between the two ends; then the broker gives it up, and writing fails.
    let ended = loop {
        if let Err(error) = greedy.write_all("CONSUME 0\n".repeat(100).as_bytes()) {
            break error;
        }
    };
    assert!(matches!(ended.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{ended}");
    assert_eq!(say(&broker, b"PING\n"), "PONG\n");
}

#[test]
fn answers_to_one_that_never_reads_do_not_pile_up() {
    let broker = Broker::start();
    let mut greedy = connect(&broker);
    greedy.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    // Each of these lines is answered with twenty times its bytes.
    let lines = "SEND\n".repeat(100_000);
    while greedy.write_all(lines.as_bytes()).is_ok() {}
    assert!(broker.memory() < 24 << 20, "{} bytes", broker.memory());
}

#[test]
fn tls_and_what_begins_no_line_are_closed_without_an_answer() {
    let broker = Broker::start();
    assert_eq!(say(&broker, b"\x16\x03\x01\x02\x00\x01"), "");
    assert_eq!(say(&broker, b"\x80\x00"), "");
}

#[test]
fn a_second_broker_on_the_same_data_is_refused() {
    let folder = std::env::temp_dir().join(format!("plainlog-lock-{}", std::process::id()));
    let folder = folder.to_str().unwrap();
    let broker = Broker::with(&["--data-dir", folder]);
    let second = Command::new(BROKER).args(["--listen", "127.0.0.1:0", "--data-dir", folder]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another broker runs on this data directory"));
    drop(broker);
    fs::remove_dir_all(folder).unwrap();
}

/// CPU time of a process so far.
fn cpu(id: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

#[test]
fn without_files_for_more_connections_it_waits_and_serves_those_there_are() {
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 40; exec \"$0\" \"$@\"", BROKER])
        .args(["--listen", "127.0.0.1:0", "--in-memory", "--quiet"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = format!("127.0.0.1:{}", line.trim().rsplit(':').next().unwrap());
    let mut first = TcpStream::connect(&address).unwrap();
    first.set_read_timeout(Some(LONG)).unwrap();
    let mut answer = [0; 5];
    first.write_all(b"PING\n").unwrap();
    first.read_exact(&mut answer).unwrap();
    let others: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap().contains("cannot accept a connection")));
    let before = cpu(child.id());
    first.write_all(b"CONSUME 0 wait:1000\n").unwrap();
    let mut waited = [0; 11];
    first.read_exact(&mut waited).unwrap();
    assert_eq!(&waited, b"NO_MESSAGE\n");
    assert!(cpu(child.id()) - before < Duration::from_millis(300), "it spins");
    drop(others);
    let mut last = TcpStream::connect(&address).unwrap();
    last.set_read_timeout(Some(LONG)).unwrap();
    last.write_all(b"PING\n").unwrap();
    last.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"PONG\n");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A connection that no thread could be had for was closed without a word to anybody.
#[cfg(target_os = "linux")]
#[test]
fn a_connection_that_no_thread_can_be_had_for_is_told_so() {
    let mut child = Command::new(BROKER)
        .args(["--listen", "127.0.0.1:0", "--in-memory", "--quiet"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit(' ').next().unwrap().to_string();
    let connect = || {
        let stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    };
    let room = |bytes: u64| {
        rlimit::prlimit(child.id() as i32, rlimit::Resource::AS, Some((bytes, rlimit::INFINITY)), None).unwrap();
    };
    // What it takes while it starts is no measure of what it has.
    let sleeps = || {
        let mut threads = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
        let state = |stat: String| stat.rsplit(") ").next().unwrap().starts_with('S');
        threads.all(|thread| fs::read_to_string(thread.unwrap().path().join("stat")).is_ok_and(state))
    };
    until("it comes to rest", || (0..10).all(|_| sleeps()));
    // A little more than it has, but no stack for one thread more.
    let pages = fs::read_to_string(format!("/proc/{}/statm", child.id())).unwrap();
    room(pages.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096 + (192 << 10));
    let refused = "ERROR INVALID_REQUEST the broker has no thread left for this connection; try again later\n";
    assert_eq!([rest(connect()), rest(connect())], [refused; 2]);
    room(rlimit::INFINITY);
    let mut served = connect();
    served.write_all(b"PING\nQUIT\n").unwrap();
    assert_eq!(rest(served), "PONG\n");
    child.kill().unwrap();
    child.wait().unwrap();
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(told.lines().filter(|line| line.starts_with("no thread for a connection: ")).count(), 1, "{told}");
}

#[test]
fn info_counts_what_went_through_and_forgets_nothing_with_a_topic() {
    let broker = Broker::start();
    let info = || {
        let text = say(&broker, b"INFO\n");
        move |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("{name} in {text}")).parse::<u64>().unwrap()
        }
    };
    let talk = b"PRODUCE hello\nPRODUCE world\nSEND t message:a\nCONSUME 0\nJOIN g t\nNONSENSE\n";
    assert_eq!(say(&broker, talk).lines().count(), 6);
    let before = info();
    // The group's coming and going are lines too; the first says who has what, the second in which generation that was last assigned.
    let group = 2 * 70 + " seat:1 partitions:t/0 assigned:1".len() as u64;
    assert_eq!((before("records_in"), before("bytes_in")), (3 + 2, 2 * 23 + 19 + group));
    assert_eq!(before("bytes_read"), 2 * 23, "both records are read at once");
    assert!(before("syncs") >= 2, "of two partitions");
    assert_eq!(before("kafka_requests"), 0);
    assert!(before("text_requests") >= 6);
    assert_eq!(before("rebalances"), 2, "one came and went");
    say(&broker, b"DROP messages\n");
    let after = info();
    for name in ["records_in", "bytes_in", "bytes_read", "syncs"] {
        assert_eq!(after(name), before(name), "{name}");
    }
    // The first INFO and the DROP have come since.
    assert!(after("text_requests") >= before("text_requests") + 2);
}

#[test]
fn every_address_of_localhost_has_the_same_port() {
    let mut child = Command::new(BROKER)
        .args(["--listen", "localhost:0", "--in-memory", "--quiet"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let port: u16 = line.trim().rsplit(':').next().unwrap().parse().unwrap();
    let addresses = std::net::ToSocketAddrs::to_socket_addrs(&("localhost", port)).unwrap();
    for address in addresses {
        assert!(TcpStream::connect(address).is_ok(), "{address}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// `[::]` took IPv6 clients only, though whoever writes it means everybody.
#[test]
fn listening_on_every_address_takes_both_families() {
    let mut broker = Broker::listening("[::]:0", &["--in-memory"]);
    let port = broker.address.strip_prefix("[::]:").unwrap().to_string();
    for (local, needed) in [("127.0.0.1", true), ("[::1]", std::net::TcpListener::bind("[::1]:0").is_ok())] {
        broker.address = format!("{local}:{port}");
        if needed {
            assert_eq!(say(&broker, b"PING\n"), "PONG\n");
        }
    }
}

#[test]
fn a_stop_ends_waits_and_streams_at_once() {
    let mut broker = Broker::start();
    assert_eq!(say(&broker, b"PRODUCE a\n"), "ACK offset:0\n");
    let mut waiting = connect(&broker);
    waiting.write_all(b"PING\nCONSUME 1 wait:3600000\n").unwrap();
    let mut tail = connect(&broker);
    tail.write_all(b"PING\nTAIL messages from:earliest\n").unwrap();
    let mut pong = [0; 5];
    waiting.read_exact(&mut pong).unwrap();
    tail.read_exact(&mut pong).unwrap();
    let begun = Instant::now();
    assert_eq!(broker.stop().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(rest(waiting), "NO_MESSAGE\n");
    assert!("partition:0 offset:0 message:a\n".starts_with(&rest(tail)));
}

#[test]
fn old_segments_go_when_their_time_is_over() {
    let broker = Broker::start();
    let value = "x".repeat(600);
    say(&broker, b"CREATE short retention.ms:1000 segment.bytes:1024\n");
    for _ in 0..4 {
        let answer = say(&broker, format!("SEND short message:{value}\n").as_bytes());
        assert!(answer.starts_with("ACK"), "{answer}");
    }
    until("all are gone", || {
        let answer = say(&broker, b"TOPIC short\n");
        answer.contains("first:4 end:4") && answer.contains("segments:1")
    });
}

#[test]
fn keys_choose_their_partition_as_in_the_java_client() {
    let broker = Broker::start();
    say(&broker, b"CREATE keyed partitions:10\n");
    // murmur2("21") is -973932308, whose lower 31 bits modulo 10 are 0; that of "foobar" gives 6.
    let answer = say(&broker, b"SEND keyed key:21 message:\nSEND keyed key:foobar message:\n");
    assert_eq!(answer, "ACK topic:keyed partition:0 offset:0\nACK topic:keyed partition:6 offset:0\n");
}

#[test]
fn topics_are_managed_from_the_command_line() {
    let broker = Broker::start();
    let run = |arguments: &[&str]| {
        let output =
            Command::new(BROKER).args(["topic"]).args(arguments).args(["-b", &broker.address]).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run(&["create", "orders", "-p", "2", "-c", "retention.ms=1000"]).0, 0);
    assert_eq!(run(&["create", "orders"]).0, 1);
    assert_eq!(run(&["create", "orders", "--if-not-exists"]).0, 0);
    let (_, list) = run(&["list"]);
    assert_eq!(
        list.lines().map(|line| line.split("  ").next().unwrap().trim()).collect::<Vec<_>>(),
        ["topic", "orders"]
    );
    let (_, described) = run(&["describe", "orders"]);
    assert!(described.contains("retention.ms: 1000") && described.contains("partition"), "{described}");
    assert_eq!(run(&["alter", "orders", "-p", "3", "-c", "retention.ms="]).0, 0);
    #[cfg(feature = "comfort")]
    {
        let json: serde_json::Value = serde_json::from_str(&run(&["describe", "orders", "--json"]).1).unwrap();
        assert_eq!((json["name"].as_str(), json["partitionCount"].as_i64()), (Some("orders"), Some(3)));
        assert_eq!(json["partitions"][2]["logEndOffset"].as_i64(), Some(0));
        let list: serde_json::Value = serde_json::from_str(&run(&["list", "--json"]).1).unwrap();
        assert_eq!(list[0]["name"].as_str(), Some("orders"));
    }
    #[cfg(not(feature = "comfort"))]
    assert_eq!(run(&["list", "--json"]).0, 2);
    assert_eq!(run(&["delete", "orders"]).0, 0);
    assert_eq!(run(&["describe", "orders"]).0, 1);
}

/// What arrived together was one batch, of up to 8 MB: who asked for a little of it got all.
#[test]
fn what_arrives_together_becomes_batches_of_half_a_mebibyte() {
    let broker = Broker::start();
    let lines: String = (0..30_000).map(|n| format!("PRODUCE {n:0>100}\n")).collect();
    assert_eq!(say(&broker, lines.as_bytes()).lines().count(), 30_000);
    let little = say(&broker, b"FETCH messages/0 12345 max_bytes:1\n");
    assert!(little.starts_with("RECORDS topic:messages partition:0 count:1 next:"), "{}", &little[..80]);
    assert!(little.len() < 600 << 10, "{} bytes", little.len());
    let much = say(&broker, b"FETCH messages/0 0 max_bytes:16777216\nPING\n");
    assert!(much.ends_with("\nPONG\n"));
    let lines = much.lines().filter(|line| line.starts_with("offset:"));
    let expected = (0..30_000).map(|n| format!("offset:{n} message:{n:0>100}"));
    assert!(lines.eq(expected), "something is missing in an answer that is sent in pieces");
}

#[test]
fn explain_tells_client_file_bytes_and_answer() {
    let folder = std::env::temp_dir().join(format!("plainlog-explain-{}", std::process::id()));
    let data = folder.join("data");
    fs::create_dir_all(&folder).unwrap();
    let told = folder.join("stderr");
    let mut child = Command::new(BROKER)
        .args(["--listen", "127.0.0.1:0", "--explain", "--data-dir", data.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(fs::File::create(&told).unwrap())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let mut stream = TcpStream::connect(line.trim().rsplit(' ').next().unwrap()).unwrap();
    let client = stream.local_addr().unwrap();
    stream.write_all(b"PRODUCE hello\nQUIT\n").unwrap();
    assert_eq!(rest(stream), "ACK offset:0\n");
    child.kill().unwrap();
    child.wait().unwrap();
    let told = fs::read_to_string(told).unwrap();
    let file = data.join("messages/0/00000000000000000000.log");
    for wanted in [
        format!("{client} asks: PRODUCE hello (append a message to the connection's partition)"),
        format!("{client}   wrote {} bytes 0..23", file.display()),
        format!("{client}   answers: ACK offset:0"),
    ] {
        assert!(told.contains(&wanted), "{wanted}\n{told}");
    }
    fs::remove_dir_all(folder).unwrap();
}

/// Every thread allocated from an arena of its own, and what lived short and long stood beside each other in each of them: after
/// much coming and going the broker held 26 MB, and grew on.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn what_comes_and_goes_leaves_no_memory_behind() {
    let broker = Broker::on_disk();
    say(&broker, b"CREATE t\nSEND t message:a\n");
    let come_and_go = |rounds: usize| {
        std::thread::scope(|scope| {
            for client in 0..24 {
                let broker = &broker;
                scope.spawn(move || {
                    for round in 0..rounds {
                        let (name, value) = (format!("{client}-{round}"), "x".repeat(1 + (client * 9973 + round * 3119) % 100_000));
                        let talk = format!(
                            "CREATE {name} partitions:2\nSEND {name} message:{value}\nTAIL {name} from:earliest until:end\n\
                             JOIN g{client} t\nPOLL max:1 wait:0\nCOMMIT\nLEAVE\nDROP {name}\n"
                        );
                        let answer = say(broker, talk.as_bytes());
                        assert!(answer.ends_with("OK\n"), "{answer}");
                    }
                });
            }
        });
    };
    come_and_go(10);
    until("the memory is given back", || broker.memory() <= 5 << 20);
}

/// As a browser's form could send them.
#[cfg(not(feature = "http"))]
#[test]
fn a_build_without_http_says_so_and_reads_no_lines_from_a_body() {
    let broker = Broker::start();
    let mut connection = broker.connect();
    connection.say("POST /messages HTTP/1.1\r\n\r\nPRODUCE no line of ours\n");
    assert_eq!(connection.line(), "HTTP/1.1 426 Upgrade Required\r");
    while !connection.line().is_empty() {}
    broker.expect("TOPICS\n", &["TOPICS count:0"]);
}

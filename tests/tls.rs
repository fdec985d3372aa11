//! TLS as its users see it: the programs, `openssl s_client`, HTTPS, a Kafka request, and those who do not speak it.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Broker, LONG};
use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Instant,
};

/// A broker with a certificate of its own, and a folder that goes with it.
struct Secure {
    broker: Broker,
    folder: PathBuf,
}

impl Secure {
    fn start(name: &str, options: &[&str]) -> Secure {
        let folder = std::env::temp_dir().join(format!("plainlog-tls-{name}-{}", std::process::id()));
        let place = ["--data-dir", folder.to_str().unwrap()];
        Secure { broker: Broker::with(&[&place[..], options].concat()), folder }
    }

    fn self_signed(name: &str) -> Secure {
        Self::start(name, &["--tls-self-signed"])
    }

    fn ca(&self) -> String {
        self.folder.join("tls/ca.pem").to_str().unwrap().into()
    }

    /// An `openssl s_client` that was given this, which the broker has acknowledged.
    fn open_client(&self, said: &[u8]) -> Child {
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-CAfile", &self.ca(), "-connect", &self.broker.address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.as_mut().unwrap().write_all(said).unwrap();
        let mut ack = [0; "ACK offset:0\n".len()];
        child.stdout.as_mut().unwrap().read_exact(&mut ack).unwrap();
        child
    }

    /// What `openssl s_client` with these options prints when it was given this.
    fn s_client(&self, options: &[&str], said: impl AsRef<[u8]>) -> Output {
        let mut command = Command::new("openssl");
        command.args([
            "s_client",
            "-quiet",
            "-verify_return_error",
            "-CAfile",
            &self.ca(),
            "-connect",
            &self.broker.address,
        ]);
        command.args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let said = said.as_ref().to_vec();
        // Who was refused reads nothing.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&said)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.broker.kill();
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn text_http_and_kafka_go_over_one_port_and_plain_text_is_told() {
    let secure = Secure::self_signed("all");
    let said = text(&secure.s_client(&[], "PRODUCE hello\nCONSUME 0\nQUIT\n"));
    assert!(said.starts_with("ACK offset:0\nMESSAGE offset:0 hello\n"), "{said}");
    // 400,000 bytes each way: many records, split and joined as they come.
    let line = format!("PRODUCE {}\n", "x".repeat(10_000));
    let said = text(&secure.s_client(&[], line.repeat(40) + "CONSUME 40\nQUIT\n"));
    assert!(
        said.contains("\nACK offset:40\n") && said.contains(&format!("MESSAGE offset:40 {}\n", "x".repeat(10_000)))
    );
    if cfg!(feature = "http") {
        let asked = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let answer = text(&secure.s_client(&["-ign_eof"], asked));
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    if cfg!(feature = "kafka") {
        // ApiVersions, version 0, without a client id; the answer begins with its size and the id.
        let asked = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
        let answer = answer_to_kafka(&secure, &asked);
        assert_eq!(answer[4..8], [0, 0, 0, 7], "{answer:?}");
    }
    // Without TLS.
    let mut plain = secure.broker.connect();
    assert!(plain.say("PRODUCE secret\n").line().starts_with("ERROR INVALID_REQUEST this port speaks TLS only"));
    assert_eq!(plain.line(), "");
    let answer = to_the_end(&secure.broker.address, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(answer.starts_with(b"HTTP/1.1 400 Bad Request\r\n"));
    assert_eq!(to_the_end(&secure.broker.address, &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff]), b"");
    let said = text(&secure.s_client(&[], "CONSUME 41\nQUIT\n"));
    assert!(!said.contains("secret"), "what was refused is not stored: {said}");
}

/// A Kafka request whose connection is held open until its answer has come.
fn answer_to_kafka(secure: &Secure, asked: &[u8]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-CAfile", &secure.ca(), "-connect", &secure.broker.address]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(asked).unwrap();
    let mut answer = vec![0; 8];
    child.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    answer
}

/// What comes for `said` until the other end closes.
fn to_the_end(address: &str, said: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(said).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn optional_takes_both() {
    let secure = Secure::start("optional", &["--tls-self-signed", "--tls", "optional"]);
    assert!(secure.broker.connect().say("PRODUCE open\n").line().starts_with("ACK offset:0"));
    assert!(text(&secure.s_client(&[], "PRODUCE secret\nQUIT\n")).starts_with("ACK offset:1\n"));
}

#[test]
fn the_programs_speak_it_and_trust_nobody_unasked() {
    let secure = Secure::self_signed("programs");
    let broker = &secure.broker;
    let ca = secure.ca();
    let trusted = ["--ca", ca.as_str()];
    let sent = broker.produce(&trusted, "one\ntwo\n".repeat(5_000));
    assert!(sent.status.success(), "{sent:?}");
    let read = broker.consume(&["--ca", &ca, "--exit-at-end"]);
    assert_eq!(text(&read).matches("one").count(), 5_000);
    let listed = broker.command(common::BROKER, &["topic", "list", "--insecure"]).output().unwrap();
    assert!(text(&listed).contains("messages  1           10000"), "{listed:?}");
    assert!(String::from_utf8_lossy(&listed.stderr).contains("whoever answers is trusted"));
    if cfg!(feature = "http") {
        let tried = broker.command(common::BROKER, &["try", "--ca", &ca]).output().unwrap();
        assert!(tried.status.success(), "{tried:?}");
    }
    // A certificate of somebody else, and none at all.
    let other = Secure::self_signed("other");
    let refused = broker.produce(&["--ca", &other.ca()], "secret\n");
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains("no TLS with the broker at"), "{why}");
    let refused = broker.produce(&["--retry-for", "0"], "secret\n");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("this port speaks TLS only: give --tls"));
}

/// Somebody in between can end the stream, and would so decide how much of a line is taken.
#[test]
fn a_line_without_its_end_counts_if_its_client_said_that_it_is_the_last() {
    let secure = Secure::self_signed("cut");
    // openssl says so when its input ends.
    secure.s_client(&["-no_ign_eof"], "PRODUCE 100\nPRODUCE 200");
    let mut child = secure.open_client(b"PRODUCE 300\nPRODUCE 400");
    child.kill().unwrap();
    child.wait().unwrap();
    let said = text(&secure.s_client(&[], "PRODUCE 500\nTAIL messages from:earliest until:end\nQUIT\n"));
    assert!(said.contains("300") && said.contains("500") && !said.contains("400"), "{said}");
}

#[test]
fn old_versions_weak_suites_and_junk_are_refused() {
    let secure = Secure::self_signed("old");
    for options in [
        &["-tls1", "-cipher", "ALL:@SECLEVEL=0"][..],
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "NULL:aNULL:@SECLEVEL=0"],
    ] {
        let refused = secure.s_client(options, "PING\nQUIT\n");
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{options:?}: {refused:?}");
    }
    for options in ["-tls1_2", "-tls1_3"] {
        assert_eq!(text(&secure.s_client(&[options], "PING\nQUIT\n")), "PONG\n", "{options}");
    }
    // Junk that begins as a handshake does ends its connection and nothing else.
    for junk in [&[0x16, 3, 1, 0xff, 0xff][..], &[0x16; 4000], b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"] {
        let mut stream = TcpStream::connect(&secure.broker.address).unwrap();
        stream.write_all(junk).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        // An alert, or nothing.
        drop(stream.read_to_end(&mut Vec::new()));
    }
    assert_eq!(text(&secure.s_client(&[], "PING\nQUIT\n")), "PONG\n");
}

#[test]
fn a_handshake_that_stops_midway_is_closed_in_time() {
    let secure = Secure::self_signed("midway");
    let begun = Instant::now();
    assert_eq!(to_the_end(&secure.broker.address, &[0x16, 3, 1, 2, 0]), b"");
    assert!(begun.elapsed().as_secs() >= 5, "a slow client is waited for");
}

#[test]
fn a_clean_stop_is_told_and_the_certificate_stays() {
    let mut secure = Secure::self_signed("stop");
    let before = fs::read(secure.ca()).unwrap();
    let mut tail = secure.open_client(b"PRODUCE a\nTAIL messages from:earliest\n");
    assert!(secure.broker.stop().success());
    // It saw a close_notify.
    assert!(tail.wait().unwrap().success());
    secure.broker.restart();
    assert_eq!(fs::read(secure.ca()).unwrap(), before);
    assert!(text(&secure.s_client(&[], "CONSUME 0\nQUIT\n")).starts_with("MESSAGE offset:0 a\n"));
    // A topic cannot have the folder.
    assert!(text(&secure.s_client(&[], "CREATE tls\nQUIT\n")).starts_with("ERROR "));
}

#[test]
fn files_that_change_are_read_again_and_on_sighup() {
    let (first, second) = (Secure::self_signed("first"), Secure::self_signed("second"));
    let file = |name: &str| first.folder.join(name).to_str().unwrap().to_string();
    let copy = |from: &Path| {
        for name in ["broker.pem", "broker.key"] {
            fs::copy(from.join("tls").join(name), first.folder.join(name)).unwrap();
        }
    };
    copy(&first.folder);
    let mut broker =
        Broker::with(&["--in-memory", "--tls-cert", &file("broker.pem"), "--tls-key", &file("broker.key")]);
    let trusted_by = |broker: &Broker, ca: String| broker.produce(&["--ca", &ca], "a\n").status.success();
    assert!(trusted_by(&broker, first.ca()) && !trusted_by(&broker, second.ca()));
    // One that is not its key's changes nothing.
    fs::copy(second.folder.join("tls/broker.pem"), first.folder.join("broker.pem")).unwrap();
    assert!(trusted_by(&broker, first.ca()));
    copy(&second.folder);
    assert!(Command::new("kill").args(["-HUP", &broker.id().to_string()]).status().unwrap().success());
    assert!(trusted_by(&broker, second.ca()) && !trusted_by(&broker, first.ca()));
    assert!(broker.stop().success());
}

#[test]
fn what_makes_no_sense_refuses_the_start() {
    for (options, why) in [
        (&["--tls-cert", "none.pem"][..], "--tls-key"),
        (&["--tls-cert", "none.pem", "--tls-key", "none.key"], "none.pem"),
        (&["--in-memory", "--tls-self-signed"], "--in-memory"),
        (&["--tls", "maybe"], "required"),
    ] {
        let mut command = Command::new(common::BROKER);
        let refused = command.args(["--listen", "localhost:0"]).args(options).output().unwrap();
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && told.contains(why), "{options:?}: {told}");
    }
}

#[cfg(all(feature = "streams", feature = "users"))]
#[test]
fn streams_are_processed_by_tls_as_a_user() {
    use plainlog::{
        Consumer, Producer,
        client::{Position, Target},
        security::tls::Trust,
        streams::{Options, Topology},
    };
    let password = std::env::temp_dir().join(format!("plainlog-password-{}", std::process::id()));
    fs::write(&password, "secret\n").unwrap();
    let users = ["--tls-self-signed", "--users", "--admin-password-file", password.to_str().unwrap()];
    let secure = Secure::start("streams", &users);
    fs::remove_file(password).unwrap();
    let trust = Trust { ca: Some(secure.ca().into()), ..Trust::default() };
    let target = || Target::new(&secure.broker.address).tls(&trust).unwrap().login("admin", "secret").unwrap();
    let mut producer = Producer::connect(target()).unwrap();
    for word in ["a", "b", "a"] {
        producer.send("words", word).unwrap();
    }
    let topology = Topology::new("counting");
    topology.stream("words").group_by(|_, word: &String| word.clone()).count("counts").to("counted");
    let state_dir = secure.folder.join("state");
    let app = topology.start(target(), Options { state_dir, ..Options::default() }).unwrap();
    let consumer = Consumer::connect(target()).unwrap().start_at(Position::Earliest);
    let mut counted = consumer.assign("counted", 0).unwrap();
    let mut found = Vec::new();
    while found.len() < 3 {
        found.extend(counted.poll(LONG, 10).unwrap().into_iter().map(|message| message.value));
    }
    app.stop().unwrap();
    found.sort();
    assert_eq!(found, ["1", "1", "2"].map(|count| Some(count.as_bytes().to_vec())));
}

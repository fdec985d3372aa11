//! Quotas over text, HTTP and at the door. Their arithmetic has tests of its own, with a clock that is given; here is looked at who
//! waits for it.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

use plainlog::{Broker, Server, security::QuotaEntity};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

/// What 300 bytes above ten seconds' worth cost.
const WAIT: Duration = Duration::from_millis(300);
const RATE: f64 = 1000.0;
const TOO_MUCH: usize = 10_300;

fn limited(kind: &str, quota: &str, rate: f64) -> Server {
    let broker = Broker::in_memory();
    broker.create_topic("t", 1).unwrap();
    let entity = QuotaEntity::from([(kind.into(), None)]);
    broker.alter_quotas(&entity, &[(quota.into(), Some(rate))].into()).unwrap();
    Server::start(broker, "127.0.0.1:0").unwrap()
}

fn connect(server: &Server) -> TcpStream {
    let client = TcpStream::connect(server.addresses()[0]).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client
}

/// Sends it, and answers how long after `begun` each line of the answer was there.
fn lines(client: &TcpStream, sent: &str, count: usize, begun: Instant) -> Vec<(String, Duration)> {
    (&*client).write_all(sent.as_bytes()).unwrap();
    let lines = BufReader::new(client).lines().take(count);
    lines.map(|line| (line.unwrap(), begun.elapsed())).collect()
}

#[test]
fn text_is_answered_and_then_waits_before_more_is_read() {
    let server = limited("user", "producer_byte_rate", RATE);
    let begun = Instant::now();
    let value = "x".repeat(TOO_MUCH);
    let answers = lines(&connect(&server), &format!("SEND t message:{value}\nPING\n"), 2, begun);
    assert!(answers[0].0.starts_with("ACK"), "{answers:?}");
    assert!(answers[1].0.starts_with("PONG") && answers[1].1 >= WAIT, "{answers:?}");
}

#[test]
fn a_reader_waits_for_what_it_read_though_it_asked_for_all_at_once() {
    let value = "x".repeat(TOO_MUCH);
    for read in ["FETCH t/0 earliest", "USE t\nCONSUME earliest"] {
        let server = limited("user", "consumer_byte_rate", RATE);
        lines(&connect(&server), &format!("SEND t message:{value}\n"), 1, Instant::now());
        let begun = Instant::now();
        let count = if read.starts_with("USE") { 3 } else { 4 };
        let answers = lines(&connect(&server), &format!("{read}\nPING\n"), count, begun);
        let (last, waited) = answers.last().unwrap();
        assert!(last.starts_with("PONG") && *waited >= WAIT, "{read}");
    }
}

/// Whoever says that it sends no more gets no more for that.
#[test]
fn a_stream_waits_between_its_parts_for_a_client_that_sends_no_more() {
    let server = limited("user", "consumer_byte_rate", 100_000.0);
    let value = "x".repeat(260_000);
    let sends = format!("SEND t message:{value}\n").repeat(4);
    lines(&connect(&server), &sends, 4, Instant::now());
    let begun = Instant::now();
    let client = connect(&server);
    (&client).write_all(b"TAIL t/0 from:earliest until:end\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut all = Vec::new();
    (&client).read_to_end(&mut all).unwrap();
    assert!(all.len() > 1_000_000 && all.ends_with(b"END next:4\n"), "{}", all.len());
    // 40,000 bytes too many.
    assert!(begun.elapsed() >= Duration::from_millis(390), "{:?}", begun.elapsed());
}

#[cfg(feature = "http")]
#[test]
fn http_waits_for_what_it_wrote_and_read_before_its_next_request() {
    let value = "x".repeat(TOO_MUCH);
    let post = format!(
        "POST /api/topics/t/records HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\nContent-Length: {TOO_MUCH}\r\n\r\n{value}"
    );
    let get = |accept| format!("GET /api/topics/t/records HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n");
    let health = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let whole = |server: &Server, sent: String| {
        let (mut client, mut answer, begun) = (connect(server), String::new(), Instant::now());
        client.write_all(sent.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), sent.matches("HTTP/1.1").count(), "{answer}");
        begun.elapsed()
    };
    let producing = limited("user", "producer_byte_rate", RATE);
    assert!(whole(&producing, format!("{post}{health}")) >= WAIT);
    for accept in ["application/json", "application/x-ndjson"] {
        let consuming = limited("user", "consumer_byte_rate", RATE);
        whole(&consuming, post.clone());
        let get = get(accept);
        assert!(whole(&consuming, format!("{get}{health}")) >= WAIT, "{accept}");
    }
}

#[test]
fn who_connects_too_often_is_closed_without_a_word_after_a_while() {
    let server = limited("ip", "connection_creation_rate", 1.0);
    let good: Vec<TcpStream> = (0..10).map(|_| connect(&server)).collect();
    for client in &good {
        assert!(lines(client, "PING\n", 1, Instant::now())[0].0.starts_with("PONG"));
    }
    let (mut client, begun) = (connect(&server), Instant::now());
    client.write_all(b"PING\n").unwrap();
    assert_eq!(client.read(&mut [0; 9]).unwrap_or(0), 0);
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    assert!(lines(&good[0], "PING\n", 1, Instant::now())[0].0.starts_with("PONG"), "those who are in go on");
}

#[test]
fn a_stop_waits_for_nobody_who_waits() {
    let server = limited("user", "producer_byte_rate", 1.0);
    let client = connect(&server);
    let value = "x".repeat(TOO_MUCH);
    assert!(lines(&client, &format!("SEND t message:{value}\n"), 1, Instant::now())[0].0.starts_with("ACK"));
    let begun = Instant::now();
    server.stop();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

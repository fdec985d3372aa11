//! HTTP as it is served: methods, addresses and types that are wrong, requests that two readers could take for different ones,
//! clients that say too much or too little, pages of other servers; then topics and groups over the API.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::Broker;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

const JSON: &str = "Content-Type: application/json\r\n";

/// Sends these bytes on a connection of their own, and reads to its end.
fn exchange(broker: &Broker, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(&broker.address).unwrap();
    stream.set_read_timeout(Some(common::LONG)).unwrap();
    let _ = stream.write_all(bytes.as_ref());
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn statuses(answers: &str) -> Vec<u16> {
    let lines = answers.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 "));
    lines.map(|line| line[..3].parse().unwrap()).collect()
}

#[test]
fn every_route_refuses_what_it_does_not_take() {
    let broker = Broker::start();
    let routes = broker.get("/api").json();
    let routes: Vec<(&str, String)> = routes["routes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|route| {
            let path = route["path"].as_str().unwrap().replace("{topic}", "none").replace("{group}", "none");
            (route["method"].as_str().unwrap(), path)
        })
        .collect();
    assert!(routes.len() > 10);
    let paths: BTreeSet<&String> = routes.iter().map(|(_, path)| path).collect();
    for path in paths {
        let known: BTreeSet<&str> =
            routes.iter().filter(|(_, other)| other == path).map(|(method, _)| *method).collect();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            // Some answers have no end; their heads tell enough.
            let mut http = broker.http();
            http.request(method, path, "", b"");
            let answer = http.head();
            if !known.contains(method) {
                assert_eq!(answer.status, 405, "{method} {path}");
                let allowed: BTreeSet<&str> = answer.header("allow").split(", ").filter(|one| *one != "HEAD").collect();
                assert_eq!(allowed, known, "{method} {path}");
            } else if matches!(method, "POST" | "PATCH") {
                assert_eq!(answer.status, 415, "{method} {path} without a type");
                for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", ""] {
                    let answer = broker.http().ask(method, path, &format!("Content-Type: {kind}\r\n"), b"{}");
                    assert_eq!(
                        (answer.status, answer.json()["error"].as_str()),
                        (415, Some("INVALID_REQUEST")),
                        "{kind}"
                    );
                }
            }
        }
        assert_eq!(broker.get(&format!("{path}?no_such=1")).status / 100, 4, "{path}");
    }
    for path in
        ["/api/", "//api", "/api/topics/none/none", "/api/topics/%2e%2e/groups", "/API", "/api/../etc/passwd", "/%00"]
    {
        assert_eq!(broker.get(path).status, 404, "{path}");
    }
}

/// It holds now, and where there are users for whoever asked.
#[test]
fn no_cache_keeps_what_the_api_tells() {
    let broker = Broker::start();
    for path in ["/api/cluster", "/api/topics", "/api/topics/none", "/api/none", "/metrics", "/health"] {
        assert_eq!(broker.get(path).header("cache-control"), "no-store", "{path}");
    }
}

#[test]
fn a_head_has_no_body_but_its_length() {
    let broker = Broker::start();
    let mut http = broker.http();
    let (get, head) = (http.ask("GET", "/api", "", b""), http.ask("HEAD", "/api", "", b""));
    assert_eq!((head.status, head.header("content-length")), (200, get.header("content-length")));
    assert_eq!(http.ask("GET", "/health", "", b"").json(), json!({ "status": "serving" }));
}

#[test]
fn requests_sent_ahead_are_answered_in_their_order() {
    let broker = Broker::start();
    let mut http = broker.http();
    for name in ["a", "b", "c"] {
        http.request("POST", "/api/topics", JSON, format!("{{\"name\":\"{name}\"}}").as_bytes());
        http.request("GET", &format!("/api/topics/{name}"), "", b"");
    }
    for name in ["a", "b", "c"] {
        assert_eq!(http.answer("POST").status, 201);
        assert_eq!(http.answer("GET").json()["name"], name);
    }
}

#[test]
fn a_connection_is_kept_as_its_client_wants() {
    let broker = Broker::start();
    let mut http = broker.http();
    assert_eq!(http.ask("GET", "/health", "Connection: close\r\n", b"").header("connection"), "close");
    assert!(http.is_closed());
    let old = exchange(&broker, "GET /health HTTP/1.0\r\n\r\nGET /health HTTP/1.0\r\n\r\n");
    assert_eq!(statuses(&old), [200], "{old}");
    let kept = exchange(&broker, "GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /health HTTP/1.0\r\n\r\n");
    assert_eq!(statuses(&kept), [200, 200], "{kept}");
}

#[test]
fn a_body_comes_in_chunks_or_after_it_was_asked_for() {
    let broker = Broker::start();
    let mut http = broker.http();
    let chunks = "7;name=value\r\n{\"name\"\r\n6\r\n:\"tea\"\r\n1\r\n}\r\n0\r\nTrailer: read over\r\n\r\n";
    http.request("POST", "/api/topics", &format!("{JSON}Transfer-Encoding: chunked\r\n"), b"");
    http.send(chunks);
    assert_eq!(http.answer("POST").json()["name"], "tea");
    let body = r#"{"name":"coffee"}"#;
    http.request(
        "POST",
        "/api/topics",
        &format!("{JSON}Expect: 100-continue\r\nContent-Length: {}\r\n", body.len()),
        b"",
    );
    assert_eq!(http.answer("POST").status, 100);
    http.send(body);
    assert_eq!(http.answer("POST").json()["name"], "coffee");
    // What is refused at once is not asked for.
    http.request("POST", "/nowhere", "Expect: 100-continue\r\nContent-Length: 1000000\r\n", b"");
    let refused = http.answer("POST");
    assert_eq!((refused.status, refused.header("connection")), (404, "close"));
    assert!(http.is_closed());
}

#[test]
fn what_two_readers_could_take_for_different_requests_is_refused_and_ends_the_connection() {
    let broker = Broker::start();
    let hidden = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let post = "POST /api/topics HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    for (what, headers) in [
        ("two lengths", "Content-Length: 0\r\nContent-Length: 44\r\n\r\n"),
        ("the same length twice", "Content-Length: 0\r\nContent-Length: 0\r\n\r\n"),
        ("a length and chunks", "Content-Length: 44\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("another encoding", "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        ("chunks named twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("a bare LF", "X: y\nContent-Length: 0\r\n\r\n"),
        ("a folded line", "X: y\r\n z\r\nContent-Length: 0\r\n\r\n"),
        ("a space before the colon", "Content-Length : 0\r\n\r\n"),
        ("a length with a sign", "Content-Length: +0\r\n\r\n"),
        ("a chunk size with a sign", "Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n"),
        ("a chunk size of 0x", "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n"),
        ("a chunk that is longer than it says", "Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n"),
        ("a chunk line with a bare LF", "Transfer-Encoding: chunked\r\n\r\n0\n\n"),
        ("a huge chunk size", "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"),
    ] {
        let answers = exchange(&broker, format!("{post}{headers}{hidden}"));
        let found = statuses(&answers);
        assert!(matches!(found.as_slice(), [400 | 501]), "{what}: {answers}");
    }
    // A body that is not read is not taken for the next request either.
    let answers =
        exchange(&broker, format!("POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 41\r\n\r\n{hidden}"));
    assert_eq!(statuses(&answers), [404], "{answers}");
}

#[test]
fn what_is_announced_is_not_set_aside_and_what_is_too_much_is_refused() {
    let broker = Broker::start();
    let gigabyte = format!("{JSON}Content-Length: 1073741824\r\n");
    let mut waiting: Vec<_> = (0..50).map(|_| broker.http()).collect();
    for http in &mut waiting {
        http.request("POST", "/api/topics", &gigabyte, b"");
        http.send("{");
    }
    let is_read = |connection: &Value| connection["requests"] == 1;
    while broker.get("/api/connections").json()["connections"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| is_read(one))
        .count()
        < waiting.len()
    {}
    // All that it has been given, used or not.
    let given = std::fs::read_to_string(format!("/proc/{}/statm", broker.id())).unwrap();
    let pages: u64 = given.split(' ').next().unwrap().parse().unwrap();
    assert!(pages * 4096 < 25 << 30, "{pages} pages");
    let mut http = broker.http();
    http.request("POST", "/api/topics", &gigabyte, b"");
    http.send(vec![b' '; 4 << 20]);
    assert_eq!(http.answer("POST").status, 413);
    let many: String = (0..101).map(|n| format!("h{n}: v\r\n")).collect();
    assert_eq!(broker.http().ask("GET", "/health", &many, b"").status, 431);
    assert_eq!(broker.http().ask("GET", "/health", &format!("X: {}\r\n", "x".repeat(70_000)), b"").status, 431);
    assert_eq!(broker.http().ask("GET", &format!("/{}", "x".repeat(15_000)), "", b"").status, 404);
}

#[test]
fn json_that_is_not_what_it_should_be_says_so() {
    let broker = Broker::start();
    let deep = "[".repeat(100_000);
    for body in [
        "",
        "{",
        "[]",
        "null",
        "{}",
        r#"{"name":1}"#,
        r#"{"name":"a","partitions":-1}"#,
        r#"{"name":"a","partitons":1}"#,
        &deep,
    ] {
        let answer = broker.send_json("POST", "/api/topics", body);
        assert_eq!((answer.status, answer.json()["error"].as_str()), (400, Some("INVALID_REQUEST")), "{body:.40}");
    }
    assert_eq!(broker.http().ask("POST", "/api/topics", JSON, b"{\"name\":\"\xff\"}").status, 400);
    for (body, code) in [
        (r#"{"name":"a b"}"#, "INVALID_TOPIC_EXCEPTION"),
        (r#"{"name":"a","partitions":0}"#, "INVALID_PARTITIONS"),
        (r#"{"name":"a","configs":{"no.such":"1"}}"#, "INVALID_CONFIG"),
        (r#"{"name":"a","configs":{"retention.ms":"soon"}}"#, "INVALID_CONFIG"),
    ] {
        let answer = broker.send_json("POST", "/api/topics", body);
        assert_eq!((answer.status, answer.json()["error"].as_str()), (400, Some(code)), "{body}");
    }
}

#[test]
fn a_page_of_another_server_reads_and_writes_nothing() {
    let broker =
        Broker::with(&["--in-memory", "--http-host", "broker.example", "--http-allow-origin", "https://shop.example"]);
    let ask = |method: &str, headers: &str| {
        let body: &[u8] = if method == "POST" { br#"{"name":"made"}"# } else { b"" };
        broker.http().ask(method, "/api/topics", headers, body)
    };
    let foreign = |host: &str| exchange(&broker, format!("GET /api/topics HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(statuses(&foreign("evil.example")), [421]);
    assert_eq!(statuses(&foreign("broker.example")), [200]);
    for method in ["GET", "POST"] {
        let page = format!("{JSON}Origin: http://127.0.0.1:1\r\nSec-Fetch-Site: same-site\r\n");
        let answer = ask(method, &page);
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, ""));
        assert_eq!(ask(method, &format!("{JSON}Sec-Fetch-Site: cross-site\r\n")).status, 403);
    }
    assert_eq!(broker.get("/api/topics").json(), json!({ "topics": [] }));
    assert_eq!(
        ask("POST", &format!("{JSON}Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", broker.address)).status,
        201
    );
    let allowed = ask("GET", "Origin: https://shop.example\r\nSec-Fetch-Site: cross-site\r\n");
    assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (200, "https://shop.example"));
    let preflight = ask("OPTIONS", "Origin: https://shop.example\r\nAccess-Control-Request-Method: POST\r\n");
    assert_eq!((preflight.status, preflight.header("access-control-allow-methods")), (204, "GET, HEAD, POST"));
    for header in
        ["content-security-policy", "x-content-type-options", "referrer-policy", "cross-origin-resource-policy"]
    {
        assert_ne!(allowed.header(header), "", "{header}");
    }
}

#[test]
fn who_is_silent_in_the_middle_of_a_head_is_told_and_closed() {
    let broker = Broker::start();
    let mut http = broker.http();
    http.send("GET /health HTTP/1.1\r\nHost: loc");
    let begun = Instant::now();
    assert_eq!(http.answer("GET").status, 408);
    assert!(begun.elapsed() >= Duration::from_secs(9), "it had its time");
    assert!(http.is_closed());
}

#[test]
fn a_stop_ends_connections_that_are_kept() {
    let mut broker = Broker::start();
    let mut http = broker.http();
    assert_eq!(http.ask("GET", "/health", "", b"").status, 200);
    assert!(broker.stop().success());
    assert!(http.is_closed());
}

#[test]
fn over_the_limit_of_connections_http_is_answered_too() {
    let broker = Broker::with(&["--in-memory", "--max-connections", "1"]);
    let mut first = broker.connect();
    first.say("PING\n");
    assert_eq!(first.line(), "PONG");
    let answer = broker.get("/health");
    assert_eq!((answer.status, answer.json()["error"].as_str()), (503, Some("INVALID_REQUEST")));
}

/// The body of a request is never read as lines of the text protocol, as a page's form could send them.
#[test]
fn a_body_is_no_text_protocol() {
    let broker = Broker::start();
    exchange(
        &broker,
        "POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nPRODUCE hello\n",
    );
    exchange(&broker, "POST / HTTP/1.1\nPRODUCE hello\n");
    // An address longer than what is looked at to tell what a connection speaks, and one longer than a head may be.
    for (length, status) in [(20_000, 404), (200_000, 431)] {
        let target = "x".repeat(length);
        let sent = format!(
            "POST /{target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 23\r\n\r\nSEND made message:hello\n"
        );
        let answers = exchange(&broker, sent);
        assert_eq!(statuses(&answers), [status], "{answers}");
    }
    assert_eq!(broker.get("/api/topics").json(), json!({ "topics": [] }));
}

#[test]
fn topics_are_made_described_altered_and_deleted() {
    let broker = Broker::start();
    let made = broker.send_json(
        "POST",
        "/api/topics",
        r#"{"name":"orders","partitions":2,"configs":{"retention.ms":60000,"cleanup.policy":"compact"}}"#,
    );
    assert_eq!(made.status, 201);
    assert_eq!(made.json()["configs"]["retention.ms"], json!({ "value": "60000", "default": false }));
    let again = broker.send_json("POST", "/api/topics", r#"{"name":"orders"}"#);
    assert_eq!((again.status, again.json()["error"].as_str()), (409, Some("TOPIC_ALREADY_EXISTS")));
    broker.expect("SEND orders/1 key:k message:hello\n", &["ACK"]);
    let listed = broker.get("/api/topics").json();
    assert_eq!((&listed["topics"][0]["name"], &listed["topics"][0]["records"]), (&json!("orders"), &json!(1)));
    let altered =
        broker.send_json("PATCH", "/api/topics/orders", r#"{"partitions":3,"configs":{"retention.ms":null}}"#).json();
    assert_eq!(altered["partitions"].as_array().unwrap().len(), 3);
    assert_eq!(altered["configs"]["retention.ms"]["default"], true);
    assert_eq!(altered["configs"]["cleanup.policy"], json!({ "value": "compact", "default": false }));
    let trimmed = broker.http().ask("DELETE", "/api/topics/orders/records?partition=1&before=latest", "", b"");
    assert_eq!(trimmed.json(), json!({ "topic": "orders", "partition": 1, "start": 1 }));
    assert_eq!(broker.get("/api/topics/orders").json()["partitions"][1]["start"], 1);
    assert_eq!(broker.http().ask("DELETE", "/api/topics/orders", "", b"").status, 200);
    let gone = broker.get("/api/topics/orders");
    assert_eq!((gone.status, gone.json()["error"].as_str()), (404, Some("UNKNOWN_TOPIC_OR_PARTITION")));
}

/// One whose disk fails hides no other.
#[test]
fn a_topic_that_is_offline_is_listed_with_the_others() {
    let mut broker = Broker::on_disk();
    broker.expect("SEND broken message:a\nSEND orders message:a\n", &["ACK", "ACK"]);
    assert!(broker.stop().success());
    let partition = broker.folder().join("broken/0");
    std::fs::remove_dir_all(&partition).unwrap();
    std::fs::write(&partition, "").unwrap();
    broker.restart();
    let listed = broker.get("/api/topics").json();
    let listed = listed["topics"].as_array().unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["offline"]), (&json!("broken"), &json!(true)), "{listed:?}");
    assert_eq!((&listed[1]["name"], &listed[1]["records"]), (&json!("orders"), &json!(1)), "{listed:?}");
}

#[test]
fn groups_are_described_committed_reset_and_forgotten() {
    let broker = Broker::start();
    broker.expect(
        "CREATE orders partitions:2\nSEND orders/0 message:a\nSEND orders/0 message:b\n",
        &["OK", "ACK", "ACK"],
    );
    let committed = broker.send_json(
        "POST",
        "/api/groups/mail/offsets",
        r#"{"offsets":[{"topic":"orders","partition":0,"offset":1,"metadata":"m"}]}"#,
    );
    assert_eq!(committed.status, 200, "{committed:?}");
    let lag = |broker: &Broker| broker.get("/api/groups/mail").json()["lag"].clone();
    assert_eq!(lag(&broker), 1);
    let reset = |body: &str| broker.send_json("POST", "/api/groups/mail/reset", body);
    let planned = reset(r#"{"topic":"orders","to":"latest","dry_run":true}"#).json();
    assert_eq!(planned["offsets"][0], json!({ "topic": "orders", "partition": 0, "before": 1, "after": 2 }));
    assert_eq!(lag(&broker), 1, "a dry run changes nothing");
    assert_eq!(reset(r#"{"topic":"orders","partition":0,"to":0}"#).json()["offsets"][0]["after"], 0);
    assert_eq!(lag(&broker), 2);
    for (body, status) in [
        (r#"{"topic":"orders","to":"soon"}"#, 400),
        (r#"{"topic":"orders","partition":0,"to":9}"#, 400),
        (r#"{"topic":"orders","partition":7,"to":"latest"}"#, 404),
        (r#"{"topic":"none","to":"latest"}"#, 404),
        (r#"{"to":"latest"}"#, 400),
    ] {
        assert_eq!(reset(body).status, status, "{body}");
    }
    let names = |target: &str| -> Value {
        broker.get(target).json()["groups"].as_array().unwrap().iter().map(|group| group["name"].clone()).collect()
    };
    assert_eq!(
        (names("/api/groups"), names("/api/groups?topic=orders"), names("/api/groups?topic=other")),
        (json!(["mail"]), json!(["mail"]), json!([]))
    );
    let mut member = broker.connect();
    member.say("JOIN mail orders\n");
    assert!(member.line().starts_with("JOINED"));
    for body in [r#"{"topic":"orders","to":"latest"}"#, r#"{"topic":"orders","to":"latest","dry_run":true}"#] {
        let refused = reset(body);
        assert_eq!((refused.status, refused.json()["error"].as_str()), (409, Some("NON_EMPTY_GROUP")), "{body}");
    }
    assert_eq!(broker.get("/api/groups/mail").json()["members"][0]["assigned"].as_array().unwrap().len(), 2);
    member.say("LEAVE\n");
    assert_eq!(member.line(), "OK");
    assert_eq!(broker.http().ask("DELETE", "/api/groups/mail", "", b"").status, 200);
    assert_eq!(broker.get("/api/groups/mail").status, 404);
}

#[test]
fn open_transactions_are_listed() {
    let broker = Broker::start();
    let mut writer = broker.connect();
    writer.say("BEGIN pay\nSEND orders message:a\n");
    assert!(writer.line().starts_with("OK") && writer.line().starts_with("ACK"));
    let listed = broker.get("/api/transactions").json();
    assert_eq!(
        (&listed["transactions"][0]["transactional_id"], &listed["transactions"][0]["state"]),
        (&json!("pay"), &json!("ongoing"))
    );
    writer.say("END\n");
    assert_eq!(writer.line(), "OK");
    assert_eq!(broker.get("/api/transactions").json(), json!({ "transactions": [] }));
    assert_eq!(broker.get("/api/transactions?all=true").json()["transactions"].as_array().unwrap().len(), 1);
}

/// Requests that are almost right, in every way that chance finds, leave a broker that answers, and no larger.
#[test]
fn mutated_requests_do_no_harm() {
    let broker = Broker::start();
    let whole = [
        "GET /api/topics/a/records?from=earliest HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n",
        "POST /api/topics HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"name\":\"a\"}",
        "POST /api/groups/g/reset HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"to\r\n2\r\n\":\r\n0\r\n\r\n",
    ];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut number = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    for round in 0..2000 {
        let mut bytes = whole[round % whole.len()].as_bytes().to_vec();
        for _ in 0..=number(3) {
            let at = number(bytes.len());
            match number(4) {
                0 => bytes[at] = number(256) as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, [b'\r', b'\n', b' ', b':', b'%', 0, 0xff][number(7)]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        exchange(&broker, &bytes);
    }
    assert_eq!(broker.get("/health").status, 200);
}

//! Lines of text and requests of HTTP, over a socket.

use super::{HERS, PASSWORD, State, broker, config, each_case, holds, tells_no_secret};
use crate::common::{LONG, Random, bend};
use base64::{Engine, engine::general_purpose::STANDARD};
use plainlog::Server;
use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
};

/// What strangers and users say of logins and rules.
const LINES: [&str; 20] = [
    "AUTH alice wrong\n",
    "auth alice two words\n",
    "AUTH al\\x69ce wrong\n",
    "AUTH\n",
    "WHOAMI\n",
    "USER list\n",
    "USER add bob secret\n",
    "USER password admin secret\n",
    "USER delete alice\n",
    "ACL list\n",
    "ACL add resource:topic name:orders principal:User:alice operation:write\n",
    "ACL add resource:cluster name:kafka-cluster principal:User:* operation:all\n",
    "ACL delete principal:User:alice\n",
    "ACL list name:orders pattern:match\n",
    "HELP acl\n",
    "HELP auth\n",
    "PING\n",
    "TOPICS\n",
    "CREATE bobs\n",
    "BEGIN\n",
];

/// What comes for all of this, after which no more is said.
fn answer(address: SocketAddr, said: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    // One that is closed amid it takes no more.
    drop(stream.write_all(said).and_then(|()| stream.shutdown(Shutdown::Write)));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    answer
}

/// Says some of these, bent, and with what is in front of them whole; they change nothing and are told nothing.
fn say_bent(of_thousand: u64, in_front: &str, of: impl Fn(SocketAddr) -> Vec<String>, look: impl Fn(&[u8])) {
    let broker = broker(config());
    let server = Server::start(broker.clone(), "127.0.0.1:0").unwrap();
    let (address, before) = (server.addresses()[0], State::of(&broker));
    let all = of(address);
    let others: Vec<&[u8]> = all.iter().map(|said| said.as_bytes()).collect();
    each_case(of_thousand, |random| {
        let some = |random: &mut Random| all[random.below(all.len() as u64) as usize].as_bytes();
        let mut said: Vec<u8> = (0..=random.below(4)).flat_map(|_| some(random).to_vec()).collect();
        bend(&mut said, random, &others);
        let answer = answer(address, &[in_front.as_bytes(), &said].concat());
        tells_no_secret(&answer);
        look(&answer);
        assert!(State::of(&broker) == before, "something was changed by {}", String::from_utf8_lossy(&said));
    });
}

#[test]
fn bent_lines_of_a_stranger() {
    let lines = |_| LINES.map(String::from).to_vec();
    say_bent(40, "", lines, |answer| assert!(!holds(answer, "OK principal:") && !holds(answer, HERS)));
}

#[test]
fn bent_lines_of_a_user() {
    let lines = |_| LINES.map(String::from).to_vec();
    let log_in = format!("AUTH alice {PASSWORD}\n");
    say_bent(30, &log_in, lines, |answer| assert!(holds(answer, "OK principal:User:alice\n")));
}

/// Requests of HTTP with these headers.
fn requests(address: SocketAddr, headers: &[String]) -> Vec<String> {
    let json = "Content-Type: application/json\r\n";
    let login = r#"{"user":"alice","password":"wrong"}"#;
    let rule = r#"{"resource_type":"cluster","resource_name":"kafka-cluster","principal":"User:*","operation":"all"}"#;
    let user = r#"{"name":"bob","password":"b"}"#;
    let mut all = Vec::new();
    for (method, target, body) in [
        ("GET", "/api/topics", ""),
        ("GET", "/api/users", ""),
        ("GET", "/api/acls", ""),
        ("GET", "/metrics", ""),
        ("GET", "/api/me", ""),
        ("POST", "/api/login", login),
        ("POST", "/api/acls", rule),
        ("POST", "/api/users", user),
        ("DELETE", "/api/users/alice", ""),
        ("PATCH", "/api/users/alice", r#"{"password":"mine"}"#),
        ("POST", "/api/try", r#"{"text":"USER list"}"#),
    ] {
        for header in headers {
            let json = if body.is_empty() { "" } else { json };
            let length = body.len();
            all.push(format!(
                "{method} {target} HTTP/1.1\r\nHost: {address}\r\n{header}{json}Content-Length: {length}\r\n\r\n{body}"
            ));
        }
    }
    all
}

#[test]
fn bent_requests_of_http() {
    let basic =
        |credentials: &str| format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("alice:{credentials}")));
    let of = |address: SocketAddr| {
        let cookie = format!("Cookie: a=b; plainlog-{}=Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFy\r\n", address.port());
        let bearer = "Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.\r\n";
        requests(address, &[String::new(), cookie, bearer.into(), basic("wrong")])
    };
    say_bent(40, "", of, |answer| assert!(!holds(answer, HERS) && !holds(answer, "User:alice")));
}

/// As above, by one who may read a topic: each request says who asks, or fails.
#[test]
fn bent_requests_of_http_by_a_user() {
    let credentials = STANDARD.encode(format!("alice:{PASSWORD}"));
    let header = format!("Authorization: Basic {credentials}\r\n");
    let of = |address: SocketAddr| {
        let mut all = requests(address, std::slice::from_ref(&header));
        // She may leave, and change her mind of who she is.
        all.retain(|request| !request.contains("/api/login"));
        all
    };
    say_bent(30, "", of, |_| ());
}

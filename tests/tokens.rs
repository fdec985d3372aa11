//! Tokens as their owners meet them: over HTTP and over Kafka's protocol, until they end, and keys that come and go.
#![cfg(all(feature = "http", feature = "kafka", feature = "users"))]
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{
    Broker, LONG,
    http::Answer,
    tokens::{AUDIENCE, ISSUER, Issuer, KeyFile, claims, now_s},
};
use serde_json::json;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
};

const JSON: &str = "Content-Type: application/json\r\n";
const TOKEN_ENDED: &str = "the token has ended";

/// A broker that takes the tokens of these issuers, and alice's for everything.
struct Guarded {
    broker: Broker,
    keys: KeyFile,
    folder: PathBuf,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl Guarded {
    fn start(name: &str, issuers: &[&Issuer]) -> Guarded {
        let keys = KeyFile::new(name, issuers);
        let folder = std::env::temp_dir().join(format!("plainlog-tokens-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [password, audit] = ["password", "audit"].map(|file| folder.join(file).to_str().unwrap().to_string());
        fs::write(&password, "admin secret\n").unwrap();
        let of_users = [
            "--in-memory",
            "--users",
            "--admin-password-file",
            &password,
            "--super-users",
            "User:alice",
            "--login-delay",
            "off",
        ];
        let (jwks, audited) = (["--oauth-jwks", keys.0.to_str().unwrap()], ["--audit", &audit]);
        let claims = ["--oauth-audience", AUDIENCE, "--oauth-issuer", ISSUER];
        let broker = Broker::with(&[&of_users[..], &jwks, &claims, &audited].concat());
        Guarded { broker, keys, folder }
    }

    fn ask(&self, token: &str, method: &str, target: &str, body: &str) -> Answer {
        let json = if body.is_empty() { "" } else { JSON };
        self.broker.http().ask(method, target, &format!("{}{json}", bearer(token)), body.as_bytes())
    }

    fn status(&self, token: &str) -> u16 {
        self.ask(token, "GET", "/api/topics", "").status
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A Kafka client, byte by byte.
struct Kafka(TcpStream);

impl Kafka {
    fn connect(broker: &Broker) -> Kafka {
        let stream = TcpStream::connect(&broker.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Kafka(stream)
    }

    /// What a request of an inflexible version gets, behind its correlation id; `None`: the connection ends.
    fn ask(&mut self, key: i16, version: i16, body: &[u8]) -> Option<Vec<u8>> {
        let head = [&key.to_be_bytes()[..], &version.to_be_bytes(), &7_i32.to_be_bytes(), &[0xff, 0xff]].concat();
        let size = (head.len() + body.len()) as i32;
        self.0.write_all(&[&size.to_be_bytes(), &head[..], body].concat()).ok()?;
        let mut size = [0; 4];
        self.0.read_exact(&mut size).ok()?;
        let mut answer = vec![0; u32::from_be_bytes(size) as usize];
        self.0.read_exact(&mut answer).unwrap();
        Some(answer[4..].to_vec())
    }

    /// Logs in; the code, and for how many ms that holds.
    fn log_in(&mut self, token: &str) -> (i16, i64) {
        let mechanism = b"OAUTHBEARER";
        let shaken = self.ask(17, 1, &[&[0, mechanism.len() as u8], &mechanism[..]].concat()).unwrap();
        assert_eq!(shaken[..2], [0, 0]);
        let message = format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}");
        let answer = self.ask(36, 1, &[&(message.len() as i32).to_be_bytes(), message.as_bytes()].concat()).unwrap();
        let lifetime = answer.last_chunk().unwrap();
        (i16::from_be_bytes([answer[0], answer[1]]), i64::from_be_bytes(*lifetime))
    }

    /// The code of ApiVersions 2, where the connection goes on.
    fn goes_on(&mut self) -> bool {
        self.ask(18, 2, b"").is_some()
    }
}

#[test]
fn a_token_says_who_asks_and_all_that_are_bad_get_one_answer() {
    let (one, rsa, stranger) = (Issuer::new("one"), Issuer::rsa("rsa", "RS256"), Issuer::new("one"));
    let guarded = Guarded::start("http", &[&one, &rsa]);
    for issuer in [&one, &rsa] {
        let me = guarded.ask(&issuer.token("bob"), "GET", "/api/me", "").json();
        assert_eq!((&me["principal"], &me["session"], &me["cluster"]), (&json!("User:bob"), &json!(false), &json!([])));
    }
    let document = guarded.ask(&one.token("bob"), "GET", "/api/openapi.json", "").json();
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    let made = |token: &str, name: &str| {
        guarded.ask(token, "POST", "/api/topics", &json!({ "name": name }).to_string()).status
    };
    assert_eq!(made(&one.token("alice"), "orders"), 201);
    // Whom somebody else calls admin may do nothing.
    assert_eq!([made(&one.token("bob"), "others"), made(&one.token("admin"), "others")], [403, 403]);
    let now = now_s();
    let with = |name: &str, value| {
        let mut claims = claims("alice", now + 60);
        claims[name] = value;
        one.sign(&one.header(), &claims)
    };
    let refused = [
        String::new(),
        "garbage".into(),
        "x".repeat(20_000),
        stranger.token("alice"),
        Issuer::new("other").token("alice"),
        one.token_for("alice", -1),
        with("nbf", json!(now + 60)),
        with("aud", json!("other")),
        with("iss", json!("other")),
        with("sub", json!(null)),
        one.sign(&json!({ "alg": "none", "kid": "one" }), &claims("alice", now + 60)),
        one.sign(&json!({ "alg": "ES256" }), &claims("alice", now + 60)),
        one.sign(&json!({ "alg": "HS256", "kid": "rsa" }), &claims("alice", now + 60)),
    ];
    let answers = refused.each_ref().map(|token| guarded.ask(token, "GET", "/api/topics", ""));
    for (answer, token) in answers.iter().zip(&refused) {
        assert_eq!((answer.status, &answer.body), (401, &answers[0].body), "{token}");
        let ways: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "www-authenticate").collect();
        assert!(
            ways.len() == 2 && ways[1].1.contains("Bearer realm=\"plainlog\", error=\"invalid_token\""),
            "{ways:?}"
        );
    }
    // What is wrong is not overlooked, and what the operator is told names the fault.
    assert_eq!(guarded.ask("garbage", "GET", "/health", "").status, 401);
    let audit = fs::read_to_string(guarded.folder.join("audit")).unwrap();
    for told in [" token:expired user:alice", " token:wrong-audience user:alice", " token:no-key-id", " token:too-long"]
    {
        assert!(audit.contains(told), "{told}: {audit}");
    }
    assert!(!audit.contains(&one.token("x")[..20]), "{audit}");
}

#[test]
fn a_key_that_went_lets_nobody_in() {
    let (one, two) = (Issuer::new("one"), Issuer::ed25519("number two"));
    let guarded = Guarded::start("keys", &[&one]);
    let [of_one, of_two] = [&one, &two].map(|issuer| issuer.token("alice"));
    assert_eq!([guarded.status(&of_one), guarded.status(&of_two)], [200, 401]);
    let mut kafka = Kafka::connect(&guarded.broker);
    assert_eq!(kafka.log_in(&of_one).0, 0);
    guarded.keys.write(&[&two]);
    assert_eq!([guarded.status(&of_one), guarded.status(&of_two)], [401, 200]);
    assert!(kafka.goes_on(), "a session goes on");
    fs::write(&guarded.keys.0, "broken").unwrap();
    assert_eq!([guarded.status(&of_one), guarded.status(&of_two)], [401, 200]);
}

#[test]
fn what_goes_on_ends_with_its_token_and_says_so() {
    let one = Issuer::new("one");
    let guarded = Guarded::start("ends", &[&one]);
    assert_eq!(guarded.ask(&one.token("alice"), "POST", "/api/topics", r#"{"name":"orders"}"#).status, 201);
    let short = one.token_for("alice", 2);
    let stream = |target: &str, accept: &str| {
        let mut stream = TcpStream::connect(&guarded.broker.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n{}\r\n", bearer(&short));
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let streams = [
        stream("/api/topics/orders/records", "text/event-stream"),
        stream("/api/topics/orders/records?wait=1h", "application/x-ndjson"),
        stream("/api/wire", "text/event-stream"),
    ];
    let mut kafka = Kafka::connect(&guarded.broker);
    let (code, lifetime) = kafka.log_in(&short);
    assert!(code == 0 && (1..=2000).contains(&lifetime), "{code} {lifetime}");
    assert!(kafka.goes_on());
    // A line that is tried out is the token's, too: it would go on for longer than it is waited for.
    let tail = guarded.ask(&short, "POST", "/api/try", r#"{"text":"TAIL orders"}"#);
    assert_eq!(tail.json()["whole"], true, "{}", tail.text());
    for (mut stream, refused) in streams.into_iter().zip(["event: refused", "{\"refused\":", "event: refused"]) {
        let mut all = String::new();
        let mut some = [0; 4096];
        while !all.contains(TOKEN_ENDED) {
            let read = stream.read(&mut some).unwrap();
            assert!(read > 0, "{all}");
            all.push_str(common::text(&some[..read]));
        }
        assert!(all.starts_with("HTTP/1.1 200 ") && all.contains(refused), "{all}");
    }
    assert!(!kafka.goes_on(), "it is closed at its next request");
    assert_eq!(guarded.status(&short), 401);
    let mut again = Kafka::connect(&guarded.broker);
    assert_eq!(
        (again.log_in(&short), again.ask(36, 1, &[0, 0, 0, 1, 1]).unwrap()[..2].to_vec()),
        ((0, 0), vec![0, 58])
    );
}

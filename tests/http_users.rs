//! Who asks over HTTP, where the broker asks that: names and passwords, sessions, users, and what nobody gets.
#![cfg(all(feature = "http", feature = "users"))]
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{
    BROKER, Broker, LONG,
    http::{Answer, Http},
    text,
};
use serde_json::json;
use socket2::{Domain, Socket, Type};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
};

const JSON: &str = "Content-Type: application/json\r\n";

/// A broker with users, and the file of its admin's password, which goes with it.
struct Guarded {
    broker: Broker,
    file: PathBuf,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.file));
    }
}

/// How somebody says who it is: a header, or none.
type As<'a> = &'a str;

fn basic(user: &str, password: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

impl Guarded {
    fn start(name: &str) -> Guarded {
        Guarded::with(name, &["--in-memory"])
    }

    fn with(name: &str, options: &[&str]) -> Guarded {
        let file = std::env::temp_dir().join(format!("plainlog-http-users-{name}-{}", std::process::id()));
        fs::write(&file, "admin secret\n").unwrap();
        let users = ["--users", "--login-delay", "off", "--admin-password-file", file.to_str().unwrap()];
        Guarded { broker: Broker::with(&[options, &users].concat()), file }
    }

    fn ask(&self, who: As<'_>, method: &str, target: &str, body: &str) -> Answer {
        let json = if body.is_empty() { "" } else { JSON };
        self.broker.http().ask(method, target, &format!("{who}{json}"), body.as_bytes())
    }

    fn status(&self, who: As<'_>, method: &str, target: &str, body: &str) -> u16 {
        self.ask(who, method, target, body).status
    }

    /// The cookie of a session that is opened so.
    fn open_session(&self, user: &str, password: &str) -> String {
        let answer = self.ask("", "POST", "/api/login", &json!({ "user": user, "password": password }).to_string());
        assert_eq!((answer.status, answer.json()["principal"].as_str().unwrap()), (200, &*format!("User:{user}")));
        let cookie = answer.header("set-cookie").to_string();
        assert!(cookie.contains("; HttpOnly; SameSite=Strict") && !cookie.contains("Secure"), "{cookie}");
        assert!(cookie.contains("Max-Age=43200") && cookie.starts_with("plainlog-"), "{cookie}");
        format!("Cookie: other=1; {}\r\n", cookie.split(';').next().unwrap())
    }
}

fn admin() -> String {
    basic("admin", "admin secret")
}

#[test]
fn nobody_gets_the_login_page_and_learns_nothing_else() {
    let guarded = Guarded::start("nobody");
    assert_eq!(guarded.status(&admin(), "POST", "/api/topics", r#"{"name":"salaries"}"#), 201);
    for target in ["/", "/console/app.js", "/health", "/api/me"] {
        assert_eq!(guarded.status("", "GET", target, ""), 200, "{target}");
    }
    assert_eq!(guarded.ask("", "GET", "/api/me", "").json(), json!({ "users": true, "principal": null }));
    let refused = guarded.ask("", "GET", "/api/topics/salaries", "");
    assert_eq!((refused.status, refused.json()["error"].as_str().unwrap()), (401, "SASL_AUTHENTICATION_FAILED"));
    assert!(refused.header("www-authenticate").starts_with("Basic realm="));
    for target in [
        "/api",
        "/api/openapi.json",
        "/api/topics",
        "/api/topics/other",
        "/metrics",
        "/ready",
        "/api/users",
        "/nowhere",
        "/api/wire",
    ] {
        let other = guarded.ask("", "GET", target, "");
        assert_eq!((other.status, other.body), (401, refused.body.clone()), "{target}");
    }
    assert_eq!(guarded.status("", "POST", "/api/try", r#"{"text":"TOPICS"}"#), 401);
    // A browser that is asked so would send a password with each request of any page.
    let browser = guarded.ask("Sec-Fetch-Mode: cors\r\n", "GET", "/api/topics", "");
    assert_eq!((browser.status, browser.header("www-authenticate")), (401, ""));
}

#[test]
fn a_request_with_a_password_is_its_users() {
    let guarded = Guarded::start("basic");
    assert_eq!(guarded.status(&admin(), "POST", "/api/users", r#"{"name":"alice","password":"one: two"}"#), 201);
    let alice = basic("alice", "one: two");
    for _ in 0..2 {
        let me = guarded.ask(&alice, "GET", "/api/me?topic=orders", "").json();
        assert_eq!((&me["principal"], &me["cluster"], &me["topic"]), (&json!("User:alice"), &json!([]), &json!([])));
    }
    assert_eq!(guarded.status(&alice, "POST", "/api/topics", r#"{"name":"orders"}"#), 403);
    let rule = r#"{"resource_type":"topic","resource_name":"orders","principal":"User:alice","operation":"all"}"#;
    assert_eq!(guarded.status(&admin(), "POST", "/api/acls", rule), 201);
    assert_eq!(guarded.status(&alice, "POST", "/api/topics", r#"{"name":"orders"}"#), 201);
    assert_eq!(guarded.status(&alice, "POST", "/api/topics", r#"{"name":"others"}"#), 403);
    let may = guarded.ask(&alice, "GET", "/api/me?topic=orders", "").json();
    assert!(may["topic"].as_array().unwrap().contains(&json!("write")), "{may}");
    for wrong in [
        basic("alice", "one"),
        basic("nobody", "x"),
        "Authorization: Basic ?\r\n".into(),
        "Authorization: Bearer x\r\n".into(),
    ] {
        assert_eq!(guarded.status(&wrong, "GET", "/api/topics", ""), 401, "{wrong}");
        assert_eq!(guarded.status(&wrong, "GET", "/health", ""), 401, "what is wrong is not overlooked: {wrong}");
    }
    // A line that is tried out is the caller's own.
    let tried = guarded.ask(&alice, "POST", "/api/try", r#"{"text":"WHOAMI"}"#);
    assert!(tried.text().contains("User:alice"), "{}", tried.text());
}

/// The broker's own end of a connection to itself has another address than who asks.
#[test]
fn a_line_that_is_tried_out_comes_from_where_its_caller_is() {
    let guarded = Guarded::start("host");
    for (path, body) in [
        ("/api/users", r#"{"name":"alice","password":"one"}"#),
        ("/api/topics", r#"{"name":"orders"}"#),
        (
            "/api/acls",
            r#"{"resource_type":"topic","resource_name":"orders","principal":"User:alice","operation":"read"}"#,
        ),
        (
            "/api/acls",
            r#"{"resource_type":"topic","resource_name":"orders","principal":"User:alice","host":"127.0.0.2","operation":"read","permission_type":"deny"}"#,
        ),
    ] {
        assert_eq!(guarded.status(&admin(), "POST", path, body), 201, "{body}");
    }
    let tail = r#"{"text":"TAIL orders until:end"}"#;
    let here = guarded.ask(&basic("alice", "one"), "POST", "/api/try", tail);
    assert!(here.text().contains("END"), "{}", here.text());
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    let port = guarded.broker.address.rsplit(':').next().unwrap().parse().unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    let mut elsewhere = TcpStream::from(socket);
    elsewhere.set_read_timeout(Some(LONG)).unwrap();
    let (who, count) = (basic("alice", "one"), tail.len());
    let head = format!("POST /api/try HTTP/1.1\r\nHost: localhost\r\n{who}{JSON}Connection: close\r\n");
    write!(elsewhere, "{head}Content-Length: {count}\r\n\r\n{tail}").unwrap();
    let mut heard = String::new();
    elsewhere.read_to_string(&mut heard).unwrap();
    assert!(heard.starts_with("HTTP/1.1 200") && heard.contains("TOPIC_AUTHORIZATION_FAILED"), "{heard}");
}

#[test]
fn a_session_lasts_until_its_user_leaves_or_gets_another_password() {
    let guarded = Guarded::start("session");
    let wrong = guarded.ask("", "POST", "/api/login", r#"{"user":"admin","password":"x"}"#);
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, ""));
    guarded.ask(&admin(), "POST", "/api/users", r#"{"name":"alice","password":"one"}"#);
    let [first, second] = [0; 2].map(|_| guarded.open_session("alice", "one"));
    let me = |who: &str| guarded.ask(who, "GET", "/api/me", "").json()["principal"].clone();
    assert_eq!([me(&first), me(&second)], [json!("User:alice"), json!("User:alice")]);
    // Pages of others cannot use it.
    let foreign = format!("{first}Origin: http://evil.example\r\n");
    assert_eq!(guarded.status(&foreign, "POST", "/api/topics", r#"{"name":"a"}"#), 403);
    assert_eq!(guarded.status(&first, "POST", "/api/logout", "{}"), 200);
    assert_eq!([me(&first), me(&second)], [json!(null), json!("User:alice")]);
    assert_eq!(guarded.status(&admin(), "PATCH", "/api/users/alice", r#"{"password":"two"}"#), 200);
    assert_eq!(me(&second), json!(null));
    let third = guarded.open_session("alice", "two");
    let deleted = guarded.ask(&admin(), "DELETE", "/api/users/alice", "");
    assert_eq!((deleted.status, deleted.json()), (200, json!({ "name": "alice", "rules": 0 })));
    assert_eq!(me(&third), json!(null));
    assert_eq!(guarded.status(&basic("alice", "two"), "GET", "/api/topics", ""), 401);
}

#[test]
fn users_are_for_who_may_alter_the_cluster() {
    let guarded = Guarded::start("users");
    let names = |who: &str| guarded.ask(who, "GET", "/api/users", "").json();
    assert_eq!(names(&admin())["users"][0]["name"], "admin");
    assert_eq!(names(&admin())["users"][0]["super"], true);
    let add = |who: &str, body: &str| guarded.status(who, "POST", "/api/users", body);
    assert_eq!(add(&admin(), r#"{"name":"bob","password":"b"}"#), 201);
    assert_eq!(add(&admin(), r#"{"name":"bob","password":"b"}"#), 409);
    assert_eq!([add(&admin(), r#"{"name":"","password":"b"}"#), add(&admin(), r#"{"name":"c"}"#)], [400, 400]);
    let bob = basic("bob", "b");
    assert_eq!(add(&bob, r#"{"name":"c","password":"c"}"#), 403);
    for (method, target, body) in [
        ("GET", "/api/users", ""),
        ("PATCH", "/api/users/admin", r#"{"password":"x"}"#),
        ("DELETE", "/api/users/admin", ""),
    ] {
        assert_eq!(guarded.status(&bob, method, target, body), 403, "{method}");
    }
    assert_eq!(guarded.status(&admin(), "DELETE", "/api/users/nobody", ""), 404);
}

#[test]
fn without_users_there_is_nobody_to_log_in() {
    let broker = Broker::start();
    assert_eq!(broker.get("/api/me").json()["users"], false);
    assert_eq!(broker.get("/api/topics").status, 200);
    assert_eq!(broker.http().ask("GET", "/api/topics", &basic("admin", "x"), b"").status, 200, "nobody asked");
    assert_eq!(broker.send_json("POST", "/api/login", r#"{"user":"a","password":"b"}"#).status, 400);
    assert_eq!(broker.get("/api/users").status, 409);
}

#[test]
fn who_may_see_a_group_is_told_nothing_of_topics_that_it_may_not_see() {
    let guarded = Guarded::start("groups");
    guarded.ask(&admin(), "POST", "/api/users", r#"{"name":"alice","password":"one"}"#);
    let rule = r#"{"resource_type":"group","resource_name":"*","principal":"User:alice","operation":"describe"}"#;
    assert_eq!(guarded.status(&admin(), "POST", "/api/acls", rule), 201);
    assert_eq!(guarded.status(&admin(), "POST", "/api/topics", r#"{"name":"salaries"}"#), 201);
    let offset = r#"{"offsets":[{"topic":"salaries","partition":0,"offset":0}]}"#;
    assert_eq!(guarded.status(&admin(), "POST", "/api/groups/payroll/offsets", offset), 200);
    let mut member = guarded.broker.connect();
    member.say("AUTH admin admin secret\nJOIN payroll salaries\n");
    let answers = [member.line(), member.line()];
    assert!(answers[1].starts_with("JOINED group:payroll "), "{answers:?}");
    for target in ["/metrics", "/api/groups/payroll"] {
        let [all, some] = [admin(), basic("alice", "one")].map(|who| guarded.ask(&who, "GET", target, ""));
        assert_eq!((all.status, some.status), (200, 200), "{target}");
        assert!(all.text().contains("salaries"), "{target}: {}", all.text());
        assert!(some.text().contains("payroll") && !some.text().contains("salaries"), "{target}: {}", some.text());
    }
}

/// They are what DescribeConfigs tells, which Kafka's clients need a right of its own for.
#[test]
fn the_settings_of_a_topic_are_told_to_who_may_describe_them() {
    let guarded = Guarded::start("configs");
    guarded.ask(&admin(), "POST", "/api/users", r#"{"name":"alice","password":"one"}"#);
    let may = |operation: &str| {
        let rule = json!({ "resource_type": "topic", "resource_name": "*", "principal": "User:alice", "operation": operation });
        assert_eq!(guarded.status(&admin(), "POST", "/api/acls", &rule.to_string()), 201);
    };
    ["create", "describe", "alter"].iter().for_each(|operation| may(operation));
    let alice = basic("alice", "one");
    let body = r#"{"name":"orders","configs":{"retention.ms":60000}}"#;
    let asked = [("GET", "/api/topics/orders", ""), ("PATCH", "/api/topics/orders", r#"{"partitions":2}"#)];
    let made = guarded.ask(&alice, "POST", "/api/topics", body);
    assert_eq!((made.status, &made.json()["configs"]), (201, &json!({})));
    for (method, target, body) in asked {
        let told = guarded.ask(&alice, method, target, body).json();
        assert_eq!((&told["configs"], &told["name"]), (&json!({}), &json!("orders")), "{method}");
    }
    may("describe-configs");
    let told = guarded.ask(&alice, "GET", "/api/topics/orders", "").json();
    assert_eq!(told["configs"]["retention.ms"], json!({ "value": "60000", "default": false }));
}

#[test]
fn a_stranger_is_not_listened_to_for_long() {
    let guarded = Guarded::start("long");
    let long = json!({ "user": "admin", "password": "x".repeat(20_000) }).to_string();
    assert_eq!(guarded.status("", "POST", "/api/login", &long), 413);
}

#[test]
fn the_document_tells_how_to_log_in_and_what_needs_no_login() {
    let guarded = Guarded::start("openapi");
    let document = guarded.ask(&admin(), "GET", "/api/openapi.json", "").json();
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!((&schemes["basic"]["type"], &schemes["basic"]["scheme"]), (&json!("http"), &json!("basic")));
    let cookie = guarded.open_session("admin", "admin secret");
    let cookie = cookie.split("; ").nth(1).unwrap().split('=').next().unwrap();
    let session = &schemes["session"];
    assert_eq!([&session["type"], &session["in"], &session["name"]], ["apiKey", "cookie", cookie]);
    assert_eq!(document["security"], json!([{ "basic": [] }, { "session": [] }]));
    let paths = document["paths"].as_object().unwrap();
    let is_open = |path: &str| paths[path].as_object().unwrap().values().all(|one| one["security"] == json!([]));
    let open: Vec<&str> = paths.keys().map(String::as_str).filter(|path| is_open(path)).collect();
    assert_eq!(open, ["/", "/console/{file}", "/api/me", "/api/login", "/api/logout", "/health"]);
    // What the document says is so.
    for path in paths.keys().filter(|path| paths[*path].get("get").is_some() && !path.contains('{')) {
        assert_eq!(guarded.status("", "GET", path, "") != 401, is_open(path), "{path}");
    }
    let nobody = Broker::start().get("/api/openapi.json").json();
    assert_eq!([&nobody["security"], &nobody["components"]["securitySchemes"]], [&json!(null); 2]);
}

/// The events of a stream that is opened so, up to the one of this name or the end; and whether it was cut off.
fn events_to(stream: &mut Http, last: &str) -> (String, bool) {
    let mut heard = String::new();
    while !heard.contains(&format!("event: {last}\n")) {
        match stream.try_chunk() {
            Some(Some(chunk)) => heard.push_str(std::str::from_utf8(&chunk).unwrap()),
            Some(None) => return (heard, false),
            None => return (heard, true),
        }
    }
    (heard, stream.try_chunk().is_none())
}

#[test]
fn what_goes_on_for_long_ends_with_the_login_it_was_asked_with_and_says_so() {
    let guarded = Guarded::start("ends");
    guarded.ask(&admin(), "POST", "/api/topics", r#"{"name":"orders"}"#);
    let all =
        r#"{"resource_type":"cluster","resource_name":"kafka-cluster","principal":"User:alice","operation":"all"}"#;
    guarded.ask(&admin(), "POST", "/api/acls", all);
    let topic = r#"{"resource_type":"topic","resource_name":"orders","principal":"User:alice","operation":"all"}"#;
    guarded.ask(&admin(), "POST", "/api/acls", topic);
    let events = "Accept: text/event-stream\r\n";
    type Ending = fn(&Guarded, &str);
    let endings: [(&str, Ending, &str); 3] = [
        (
            "logout",
            |guarded, session| assert_eq!(guarded.status(session, "POST", "/api/logout", "{}"), 200),
            "the session has ended",
        ),
        (
            "password",
            |guarded, _| {
                assert_eq!(guarded.status(&admin(), "PATCH", "/api/users/alice", r#"{"password":"two"}"#), 200);
            },
            "another password",
        ),
        (
            "deletion",
            |guarded, _| assert_eq!(guarded.status(&admin(), "DELETE", "/api/users/alice", ""), 200),
            "or is gone",
        ),
    ];
    for (name, end, why) in endings {
        guarded.ask(&admin(), "DELETE", "/api/users/alice", "");
        assert_eq!(guarded.status(&admin(), "POST", "/api/users", r#"{"name":"alice","password":"one"}"#), 201);
        let session = guarded.open_session("alice", "one");
        let logins =
            if name == "logout" { vec![session.clone()] } else { vec![session.clone(), basic("alice", "one")] };
        let mut open = Vec::new();
        for login in &logins {
            for target in ["/api/wire", "/api/topics/orders/records"] {
                let mut stream = guarded.broker.http();
                stream.request("GET", target, &format!("{login}{events}"), b"");
                assert_eq!(stream.head().status, 200, "{name} {target}");
                stream.try_chunk().unwrap().unwrap();
                open.push((stream, target, login == &session));
            }
        }
        let mut lines = guarded.broker.http();
        lines.request(
            "GET",
            "/api/topics/orders/records?wait=1h",
            &format!("{session}Accept: application/x-ndjson\r\n"),
            b"",
        );
        assert_eq!(lines.head().status, 200);
        let mut page = guarded.broker.http();
        page.request("GET", "/api/topics/orders/records?wait=1h", &session, b"");
        let mut upload = guarded.broker.http();
        upload.send(format!(
            "POST /api/topics/orders/records HTTP/1.1\r\nHost: {}\r\n{session}Content-Type: application/x-ndjson\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n",
            guarded.broker.address
        ));
        assert_eq!(upload.head().status, 100, "it is waited for");
        end(&guarded, &session);
        for (mut stream, target, is_session) in open {
            let (heard, is_cut) = events_to(&mut stream, "refused");
            let why = if is_session { "the session has ended" } else { why };
            assert!(heard.contains("SASL_AUTHENTICATION_FAILED") && heard.contains(why), "{name} {target}: {heard}");
            assert!(is_cut, "{name} {target}: it did not come to its end");
        }
        let line = String::from_utf8(lines.try_chunk().unwrap().unwrap()).unwrap();
        assert!(line.starts_with(r#"{"refused":{"error":"SASL_AUTHENTICATION_FAILED""#), "{name}: {line}");
        assert_eq!(page.answer("GET").status, 401, "{name}");
        if name != "deletion" {
            upload.send("{\"value\":\"a\"}\n");
        }
        assert_eq!(upload.answer("POST").status, 401, "{name}");
    }
}

#[test]
fn metrics_and_info_tell_each_what_it_may_describe_or_all_to_everybody() {
    let secret = r#"{"name":"salaries"}"#;
    for open in [false, true] {
        let data = std::env::temp_dir().join(format!("plainlog-http-users-open-{open}-{}", std::process::id()));
        let at = data.to_str().unwrap();
        let options = [&["--data-dir", at][..], if open { &["--metrics-open"] } else { &[] }].concat();
        let guarded = Guarded::with("metrics", &options);
        guarded.ask(&admin(), "POST", "/api/topics", secret);
        guarded.broker.expect("AUTH admin admin secret\nRESET of-salaries salaries/0 0\n", &["OK", "OK"]);
        guarded.ask(&admin(), "POST", "/api/users", r#"{"name":"alice","password":"one"}"#);
        let alice = basic("alice", "one");
        let scrape = |who: &str| guarded.ask(who, "GET", "/metrics", "");
        assert_eq!(scrape("").status, if open { 200 } else { 401 });
        let cluster = |who: &str| guarded.ask(who, "GET", "/api/cluster", "").json();
        let of_all = "plainlog_requests_total{";
        let told = scrape(&alice).text().to_string();
        assert_eq!((told.contains("salaries"), told.contains(of_all)), (open, open), "{told}");
        if open {
            assert!(scrape("").text().contains("salaries"));
        }
        let told = scrape(&admin()).text().to_string();
        assert!(told.contains("salaries") && told.contains(of_all), "{told}");
        assert_eq!(cluster(&alice)["data_dir"], json!(null));
        assert_eq!([&cluster(&alice)["connections"], &cluster(&alice)["resident_bytes"]], [&json!(null); 2]);
        assert_eq!(cluster(&admin())["data_dir"], at);
        // Nor does a line that is tried out tell where the data is.
        let rule = r#"{"resource_type":"topic","resource_name":"own","principal":"User:alice","operation":"write"}"#;
        guarded.ask(&admin(), "POST", "/api/acls", rule);
        guarded.ask(&admin(), "POST", "/api/topics", r#"{"name":"own"}"#);
        let [to_alice, to_admin] = [&alice, &admin()].map(|who| {
            let tried = guarded.ask(who, "POST", "/api/try", r#"{"text":"SEND own message:hi"}"#).json();
            tried["file"]["path"].as_str().unwrap().to_string()
        });
        assert_eq!((&*to_alice, to_admin), ("own/0/00000000000000000000.log", format!("{at}/{to_alice}")));
        let info = |login: &str| {
            let mut lines = guarded.broker.connect();
            let count = lines.say(&format!("AUTH {login}\nINFO\n")).line();
            assert!(count.starts_with("OK "), "{count}");
            let count = lines.line().strip_prefix("INFO count:").unwrap().parse().unwrap();
            (0..count).map(|_| lines.line()).collect::<Vec<_>>()
        };
        let hidden = ["data_dir:-", "connections:-", "rebalances:-", "topics:1"].map(String::from);
        let is_hidden = |info: &[String]| hidden.each_ref().map(|line| info.contains(line));
        assert_eq!(is_hidden(&info("alice one")), [!open; 4], "{:?}", info("alice one"));
        assert_eq!(is_hidden(&info("admin admin secret")), [false; 4]);
        drop(guarded);
        drop(fs::remove_dir_all(data));
    }
}

#[test]
fn broker_try_logs_in_and_tells_what_the_user_may_not() {
    let guarded = Guarded::start("try");
    let admin = basic("admin", "admin secret");
    let file = guarded.file.to_str().unwrap();
    let tried = |options: &[&str]| {
        let output = guarded.broker.command(BROKER, &[&["try"], options].concat()).output().unwrap();
        (output.status.success(), text(&output.stdout).to_string(), text(&output.stderr).to_string())
    };
    let (done, told, why) = tried(&["--user", "admin", "--password-file", file]);
    assert!(done && told.lines().count() == 14 && told.lines().all(|line| line.starts_with("ok ")), "{told}{why}");
    assert_eq!(guarded.ask(&admin, "GET", "/api/topics", "").json()["topics"], json!([]));
    let (done, told, why) = tried(&[]);
    assert!(!done && told.is_empty() && why.contains("--user says it"), "{told}{why}");
    // The same password, but another user's.
    let (done, told, why) = tried(&["--user", "alice", "--password-file", file]);
    assert!(!done && told.is_empty() && why.contains("no user of this name has this password"), "{told}{why}");
    let made = guarded.status(&admin, "POST", "/api/users", r#"{"name":"alice","password":"admin secret"}"#);
    assert_eq!(made, 201);
    let (done, told, why) = tried(&["--user", "alice", "--password-file", file]);
    assert!(!done && why.contains("steps failed"), "{told}{why}");
    assert!(told.contains("ok     PING") && told.contains("29 TOPIC_AUTHORIZATION_FAILED"), "{told}");
    assert!(!told.contains("secret"), "{told}");
}

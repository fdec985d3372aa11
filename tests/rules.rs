//! What rules let through, verb by verb: each is asked with the rights that `HELP acl` says it needs, without each of them, and of what
//! is there as of what is not.
#![cfg(feature = "users")]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Broker, LONG, Lines, is_in_front};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
};

/// What is said to try each verb; `NAME` begins the names of all that it is about, and `COUNT` is another each time.
const SAID: &[(&str, &[&str])] = &[
    ("PRODUCE", &["USE NAME", "PRODUCE one"]),
    ("CONSUME", &["USE NAME", "CONSUME 0"]),
    ("USE", &["USE NAME"]),
    ("SEND", &["SEND NAME message:one"]),
    ("PRODUCER", &["PRODUCER", "PRODUCER 0"]),
    ("BEGIN", &["BEGIN NAME", "END"]),
    ("END", &["BEGIN NAME", "END"]),
    ("ABORT", &["ABORT NAME"]),
    ("TRANSACTIONS", &["TRANSACTIONS"]),
    ("TRANSACTION", &["TRANSACTION NAME"]),
    ("TAIL", &["TAIL NAME until:end"]),
    ("FETCH", &["FETCH NAME/0 0"]),
    ("TOPICS", &["TOPICS all"]),
    ("TOPIC", &["TOPIC NAME"]),
    ("CREATE", &["CREATE NAME-COUNT"]),
    ("ALTER", &["ALTER NAME partitions:COUNT retention.ms:1000000"]),
    ("DROP", &["DROP NAME-none"]),
    ("TRIM", &["TRIM NAME/0 0"]),
    ("JOIN", &["JOIN NAME NAME commit:manual"]),
    ("POLL", &["JOIN NAME NAME commit:manual", "POLL"]),
    ("ACCEPT", &["JOIN NAME-q NAME mode:share", "ACCEPT NAME/0 0"]),
    ("RELEASE", &["JOIN NAME-q NAME mode:share", "RELEASE NAME/0 0"]),
    ("REJECT", &["JOIN NAME-q NAME mode:share", "REJECT NAME/0 0"]),
    ("RENEW", &["JOIN NAME-q NAME mode:share", "RENEW NAME/0 0"]),
    ("COMMIT", &["JOIN NAME NAME commit:manual", "COMMIT NAME/0 0"]),
    ("SEEK", &["JOIN NAME NAME commit:manual", "SEEK NAME/0 0"]),
    ("LEAVE", &["LEAVE"]),
    ("GROUPS", &["GROUPS"]),
    ("GROUP", &["GROUP NAME"]),
    ("RESET", &["RESET NAME NAME/0 0"]),
    ("ACL", &["ACL add resource:topic name:COUNT principal:User:nobody operation:read"]),
    ("USER", &["USER add NAME-COUNT secret"]),
    ("AUTH", &["AUTH alice alice-secret"]),
    ("WHOAMI", &["WHOAMI"]),
    ("PING", &["PING"]),
    ("HELP", &["HELP acl"]),
    ("INFO", &["INFO"]),
    ("QUIT", &["QUIT"]),
];

/// A cluster has no queues: librdkafka, which speaks to it, has no share consumer. And it numbers all records itself.
const NOT_IN_FRONT: [&str; 5] = ["ACCEPT", "RELEASE", "REJECT", "RENEW", "PRODUCER"];

/// Where alice's things begin.
const HERS: &str = "hers";
/// Names of equal length, of something that is there and of something that is not.
const THERE: &str = "salaries";
const NOWHERE: &str = "nothings";

struct World {
    broker: Broker,
    admin: Lines,
    /// How often something was said.
    count: u32,
}

impl World {
    fn new(name: &str) -> World {
        let password = std::env::temp_dir().join(format!("plainlog-rules-{name}-{}", std::process::id()));
        fs::write(&password, "admin-secret\n").unwrap();
        let at = password.to_str().unwrap();
        let broker = Broker::with(&["--in-memory", "--users", "--admin-password-file", at]);
        fs::remove_file(password).unwrap();
        let admin = broker.connect();
        let mut world = World { broker, admin, count: 0 };
        for line in ["AUTH admin admin-secret", "USER add alice alice-secret"] {
            world.does(line);
        }
        for name in [HERS, THERE] {
            for line in ["CREATE NAME", "RESET NAME NAME/0 0", "BEGIN NAME", "SEND NAME message:secret", "END"] {
                world.does(&line.replace("NAME", name));
            }
        }
        world
    }

    /// The admin does something that has an answer of one line.
    fn does(&mut self, line: &str) {
        let answer = self.admin.say(&format!("{line}\n")).line();
        assert!(answer.starts_with("OK") || answer.starts_with("ACK"), "{line}: {answer}");
    }

    /// Alice has these rights, and no others: each an operation, a resource's type, and whether it is allowed.
    fn alice_may(&mut self, rules: &[(&str, &str, bool)]) {
        let gone = self.admin.say("ACL delete principal:User:alice\n").line();
        let count: usize = gone.strip_prefix("ACL count:").unwrap().parse().unwrap();
        (0..count).for_each(|_| drop(self.admin.line()));
        for (operation, kind, allowed) in rules {
            let name = if *kind == "cluster" { "kafka-cluster" } else { HERS };
            let pattern = if *kind == "cluster" { "literal" } else { "prefixed" };
            let permission = if *allowed { "allow" } else { "deny" };
            self.does(&format!(
                "ACL add resource:{kind} pattern:{pattern} name:{name} principal:User:alice operation:{operation} permission:{permission}"
            ));
        }
    }

    /// All that alice hears when she says these lines of something of this name.
    fn hears(&mut self, lines: &[&str], name: &str) -> String {
        self.count += 1;
        let mut stream = TcpStream::connect(&self.broker.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let said: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let said = said.replace("NAME", name).replace("COUNT", &self.count.to_string());
        stream.write_all(format!("AUTH alice alice-secret\n{said}QUIT\n").as_bytes()).unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        heard.split_once('\n').unwrap().1.into()
    }
}

/// What a verb needs, as it is told: operations and the types of what they are on; and what else is said.
struct Needs {
    rights: Vec<(String, String)>,
    note: String,
}

fn told(world: &mut World) -> BTreeMap<String, Needs> {
    let first = world.admin.say("HELP acl\n").line();
    let count: usize = first.strip_prefix("HELP count:").unwrap().parse().unwrap();
    let lines: Vec<String> = (0..count).map(|_| world.admin.line()).collect();
    let needs = |line: &String| {
        let (verb, needs) = line.split_once(" needs ")?;
        let (rights, note) = needs.split_once("; ").unwrap_or((needs, ""));
        let right = |right: &str| right.split_once(" on the ").map(|(a, b)| (a.to_string(), b.to_string()));
        let rights = rights.split(", ").filter_map(right).collect();
        Some((verb.to_string(), Needs { rights, note: note.into() }))
    };
    lines.iter().filter_map(needs).collect()
}

const REFUSED: &str = "_AUTHORIZATION_FAILED";

#[test]
fn each_verb_needs_what_it_is_told_to_need() {
    let mut world = World::new("needs");
    let needs = told(&mut world);
    let said: Vec<&str> = SAID.iter().map(|(verb, _)| *verb).collect();
    let mut verbs: Vec<&str> = needs.keys().map(|verb| &**verb).collect();
    verbs.sort_by_key(|verb| said.iter().position(|said| said == verb));
    assert_eq!(verbs, said);
    let everything = ["topic", "group", "transactional-id", "cluster"].map(|kind| ("all", kind, true));
    let mut wrong = Vec::new();
    for (verb, lines) in SAID.iter().filter(|(verb, _)| !(is_in_front() && NOT_IN_FRONT.contains(verb))) {
        let Needs { rights, note } = &needs[*verb];
        let own: Vec<(&str, &str, bool)> =
            rights.iter().map(|(operation, kind)| (&**operation, &**kind, true)).collect();
        world.alice_may(&own);
        let heard = world.hears(lines, HERS);
        if heard.contains(REFUSED) {
            wrong.push(format!("{verb} needs more than {own:?}: {heard}"));
        }
        // Another right does as well, but none does not.
        if note.starts_with("or ") {
            world.alice_may(&[]);
            let heard = world.hears(lines, HERS);
            if heard.matches(REFUSED).count() < lines.len() {
                wrong.push(format!("{verb} needs nothing: {heard}"));
            }
            continue;
        }
        for (operation, kind, _) in &own {
            let without: Vec<_> = everything.iter().copied().chain([(*operation, *kind, false)]).collect();
            world.alice_may(&without);
            let heard = world.hears(lines, HERS);
            if !heard.contains(REFUSED) {
                wrong.push(format!("{verb} does not need {operation} on the {kind}: {heard}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn who_may_no_more_is_told_so_in_what_is_under_way() {
    let mut world = World::new("revoked");
    let all = ["topic", "group", "transactional-id"].map(|kind| ("all", kind, true));
    world.alice_may(&all);
    let alice = || {
        let mut alice = world.broker.connect();
        assert_eq!(alice.say("AUTH alice alice-secret\n").line(), "OK principal:User:alice");
        alice
    };
    let [mut reader, mut member, mut writer, mut owner] = [alice(), alice(), alice(), alice()];
    assert!(reader.say("TAIL hers from:earliest\n").line().ends_with("message:secret"));
    assert!(member.say("JOIN hers hers from:latest commit:manual\n").line().starts_with("JOINED"));
    assert!(writer.say("SEND hers message:may\n").line().starts_with("ACK"));
    assert!(reader.line().ends_with("message:may"));
    // Elsewhere: readers see nothing behind what a transaction has not ended.
    for (said, answer) in [("BEGIN hers", "OK"), ("SEND hers-own message:within", "ACK")] {
        assert!(owner.say(&format!("{said}\n")).line().starts_with(answer), "{said}");
    }
    let refused = |connection: &mut Lines, said: &str| {
        let heard = connection.say(said).line();
        assert!(heard.starts_with("ERROR ") && heard.contains(REFUSED), "{said}: {heard}");
    };
    world.alice_may(&all[1..]);
    world.does("SEND hers message:secret");
    refused(&mut reader, "");
    refused(&mut member, "POLL wait:10000\n");
    refused(&mut writer, "SEND hers message:may\n");
    world.alice_may(&all[..1]);
    refused(&mut member, "COMMIT hers/0 0\n");
    refused(&mut owner, "END\n");
}

#[test]
fn who_may_do_nothing_with_something_does_not_learn_whether_it_is_there() {
    let mut world = World::new("hidden");
    for own in [&[][..], &[("all", "topic", true), ("all", "group", true), ("all", "transactional-id", true)]] {
        world.alice_may(own);
        for (verb, lines) in SAID.iter().filter(|(verb, _)| !["INFO", "USER", "ACL", "CREATE"].contains(verb)) {
            let [there, nowhere] = [THERE, NOWHERE].map(|name| world.hears(lines, name).replace(name, "NAME"));
            // Numbers of producers are others each time.
            let plain = |heard: &str| heard.replace(|letter: char| letter.is_ascii_digit(), "");
            assert_eq!(plain(&there), plain(&nowhere), "{verb}");
            assert!(!there.contains("secret"), "{verb}: {there}");
        }
        let mut member = world.broker.connect();
        member.say("AUTH admin admin-secret\nJOIN hers-m salaries,hers\n").line();
        assert!(member.line().starts_with("JOINED group:hers-m"));
        let group = world.hears(&["GROUP hers-m", "GROUPS"], "");
        assert!(!group.contains(THERE), "{group}");
        let info = world.hears(&["INFO"], "");
        let topics = if own.is_empty() { "topics:0\n" } else { "topics:1\n" };
        assert!(info.contains(topics), "{info}");
    }
}

/// What is asked to try each route that needs something, or shows something: the route, an address, and a body. `/api/wire` has no end
/// where it is allowed.
#[cfg(feature = "http")]
const ASKED: &[(&str, &str, &str)] = &[
    ("GET /api/topics", "/api/topics?internal=true", ""),
    ("POST /api/topics", "/api/topics", r#"{"name":"NAME-COUNT"}"#),
    ("GET /api/topics/{topic}", "/api/topics/NAME", ""),
    ("PATCH /api/topics/{topic}", "/api/topics/NAME", r#"{"partitions":COUNT,"configs":{"retention.ms":"1000000"}}"#),
    ("DELETE /api/topics/{topic}", "/api/topics/NAME-none", ""),
    ("POST /api/topics/{topic}/records", "/api/topics/NAME/records", r#"[{"value":"one"}]"#),
    ("GET /api/topics/{topic}/records", "/api/topics/NAME/records?from=earliest", ""),
    ("GET /api/topics/{topic}/export", "/api/topics/NAME/export?from=earliest&to=latest", ""),
    ("DELETE /api/topics/{topic}/records", "/api/topics/NAME/records?partition=0&before=0", ""),
    ("GET /api/groups", "/api/groups", ""),
    ("GET /api/groups/{group}", "/api/groups/NAME", ""),
    ("DELETE /api/groups/{group}", "/api/groups/NAME-none", ""),
    (
        "POST /api/groups/{group}/offsets",
        "/api/groups/NAME/offsets",
        r#"{"offsets":[{"topic":"NAME","partition":0,"offset":0}]}"#,
    ),
    ("POST /api/groups/{group}/reset", "/api/groups/NAME/reset", r#"{"topic":"NAME","partition":0,"to":"earliest"}"#),
    ("GET /api/transactions", "/api/transactions?all=true", ""),
    ("GET /api/acls", "/api/acls", ""),
    (
        "POST /api/acls",
        "/api/acls",
        r#"{"resource_type":"topic","resource_name":"a","principal":"User:b","operation":"read"}"#,
    ),
    ("DELETE /api/acls", "/api/acls?principal=User:b", ""),
    ("GET /api/users", "/api/users", ""),
    ("POST /api/users", "/api/users", r#"{"name":"NAME-COUNT","password":"secret"}"#),
    ("PATCH /api/users/{user}", "/api/users/nobody", r#"{"password":"secret"}"#),
    ("DELETE /api/users/{user}", "/api/users/nobody", ""),
    ("GET /api/cluster", "/api/cluster", ""),
    ("GET /api/connections", "/api/connections", ""),
    ("GET /metrics", "/metrics", ""),
    ("POST /api/wire", "/api/wire", r#"{"on":false}"#),
    ("GET /ready", "/ready", ""),
];

#[cfg(feature = "http")]
mod over_http {
    use super::*;
    use base64::{Engine, engine::general_purpose::STANDARD};
    use common::http::Answer;

    impl World {
        fn asks(&mut self, who: &str, route: &str, target: &str, body: &str, name: &str) -> Answer {
            self.count += 1;
            let own = |text: &str| text.replace("NAME", name).replace("COUNT", &self.count.to_string());
            let (method, _) = route.split_once(' ').unwrap();
            let login = STANDARD.encode(format!("{who}:{who}-secret"));
            let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
            let headers = format!("Authorization: Basic {login}\r\n{kind}");
            self.broker.http().ask(method, &own(target), &headers, own(body).as_bytes())
        }
    }

    #[test]
    fn each_route_needs_what_it_is_told_to_need() {
        let mut world = World::new("routes");
        let routes = world.asks("admin", "GET /api", "/api", "", "").json();
        let told = |text: &str| {
            let (rights, note) = text.split_once("; ").unwrap_or((text, ""));
            let right = |right: &str| right.split_once(" on the ").map(|(a, b)| (a.to_string(), b.to_string()));
            Needs { rights: rights.split(", ").filter_map(right).collect(), note: note.into() }
        };
        let needs: BTreeMap<String, Needs> = routes["routes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|route| {
                let [method, path, needs] = ["method", "path", "needs"].map(|name| route[name].as_str().unwrap());
                (format!("{method} {path}"), told(needs))
            })
            .collect();
        let tried = |route: &str| ASKED.iter().any(|(tried, ..)| *tried == route) || route == "GET /api/wire";
        let not_tried: Vec<_> =
            needs.iter().filter(|(route, needs)| !needs.rights.is_empty() && !tried(route)).collect();
        assert!(not_tried.is_empty(), "{:?}", not_tried.iter().map(|(route, _)| route).collect::<Vec<_>>());
        let everything = ["topic", "group", "transactional-id", "cluster"].map(|kind| ("all", kind, true));
        let mut wrong = Vec::new();
        for (route, target, body) in ASKED {
            let Needs { rights, note } = &needs[*route];
            let own: Vec<(&str, &str, bool)> =
                rights.iter().map(|(operation, kind)| (&**operation, &**kind, true)).collect();
            world.alice_may(&own);
            let answer = world.asks("alice", route, target, body, HERS);
            if [401, 403, 405, 415].contains(&answer.status) || answer.text().contains(REFUSED) {
                wrong.push(format!("{route} needs more than {own:?}: {} {}", answer.status, answer.text()));
            }
            if own.is_empty() {
                assert!(!answer.text().contains(HERS) && !answer.text().contains(THERE), "{route}: {}", answer.text());
            }
            if note.starts_with("or ") {
                world.alice_may(&[]);
                let answer = world.asks("alice", route, target, body, HERS);
                if answer.status != 403 {
                    wrong.push(format!("{route} needs nothing: {}", answer.text()));
                }
                continue;
            }
            for (operation, kind, _) in &own {
                let without: Vec<_> = everything.iter().copied().chain([(*operation, *kind, false)]).collect();
                world.alice_may(&without);
                let answer = world.asks("alice", route, target, body, HERS);
                // Records are answered one by one.
                if answer.status != 403 && !answer.text().contains(REFUSED) {
                    wrong.push(format!("{route} does not need {operation} on the {kind}: {}", answer.text()));
                }
            }
        }
        world.alice_may(&[]);
        if world.asks("alice", "GET /api/wire", "/api/wire", "", "").status != 403 {
            wrong.push("GET /api/wire needs nothing".into());
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn no_route_tells_whether_something_hidden_is_there() {
        let mut world = World::new("hidden-routes");
        for own in [&[][..], &[("all", "topic", true), ("all", "group", true), ("all", "transactional-id", true)]] {
            world.alice_may(own);
            for (route, target, body) in ASKED.iter().filter(|(route, ..)| route.contains('{')) {
                let [there, nowhere] = [THERE, NOWHERE].map(|name| {
                    let answer = world.asks("alice", route, target, body, name);
                    (answer.status, answer.text().replace(name, "NAME"))
                });
                assert_eq!(there, nowhere, "{route}");
            }
        }
    }
}

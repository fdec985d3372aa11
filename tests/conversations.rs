//! Holds every conversation of `src/protocol/text.md` with a broker, and checks that each row of its table of errors is heard
//! in one, and no error that is not in the table.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{Broker, LONG};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

const SPECIFICATION: &str = include_str!("../src/protocol/text.md");

/// Verb and code of an error.
type Heard = BTreeSet<(String, String)>;

/// The fenced blocks that are conversations, each with the number of its first line.
fn blocks() -> Vec<(usize, Vec<&'static str>)> {
    let (mut blocks, mut open) = (Vec::new(), None::<(usize, Vec<&str>)>);
    for (index, line) in SPECIFICATION.lines().enumerate() {
        match (&mut open, line) {
            (None, "```text") => open = Some((index + 2, Vec::new())),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some((_, lines)), line) => lines.push(line),
            (None, line) => assert!(!line.starts_with("```"), "line {}: a fence that is no ```text", index + 1),
        }
    }
    assert!(open.is_none(), "the last block has no end");
    // A build without users has no such option.
    let of_users = |line: &&str| line.contains("--users") || line.starts_with("> ACL");
    blocks.retain(|(_, lines)| cfg!(feature = "users") || !lines.iter().any(of_users));
    blocks
}

/// One conversation as it is held.
struct Talk {
    folder: PathBuf,
    /// Whether the broker is one in front of a cluster, which is a plainlog that speaks Kafka's protocol.
    in_front: bool,
    cluster: Option<Broker>,
    broker: Option<Broker>,
    connections: BTreeMap<u8, Connection>,
    names: BTreeMap<String, String>,
}

struct Connection {
    stream: BufReader<TcpStream>,
    verb: String,
    unsent: Vec<u8>,
}

impl Talk {
    /// Does what a line of a block says; answers what error was heard. Requests that follow each other are sent together.
    fn line(&mut self, line: &str, next: Option<&str>) -> Option<(String, String)> {
        if let Some(command) = line.strip_prefix("$ ") {
            self.command(command);
            return None;
        }
        let digits = line.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = (line[..digits].parse().unwrap_or(1), &line[digits..]);
        let text = rest.get(1..).unwrap_or_default();
        let text = text.strip_prefix(' ').unwrap_or(text);
        let (in_front, cluster) = (self.in_front, &mut self.cluster);
        let broker = self.broker.get_or_insert_with(|| match in_front {
            false => Broker::with(&["--in-memory"]),
            true => Broker::with(&["--cluster", &cluster.insert(Broker::start()).address]),
        });
        let connection = self.connections.entry(number).or_insert_with(|| {
            let stream = TcpStream::connect(&broker.address).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            Connection { stream: BufReader::new(stream), verb: String::new(), unsent: Vec::new() }
        });
        match rest.as_bytes()[0] {
            b'>' => {
                // A name ends with its bracket.
                let heard = |text: String, (name, word): (&String, &String)| text.replace(&format!("<{name}"), word);
                let text = self.names.iter().fold(text.to_string(), heard);
                connection.say(&text, next.is_some_and(|next| next.starts_with(&line[..digits + 1])));
            }
            b'<' if self.in_front => return connection.hear(&as_a_cluster_tells(text), &mut self.names),
            b'<' => return connection.hear(text, &mut self.names),
            _ => panic!("a line of a conversation begins with >, < or $"),
        }
        None
    }

    fn command(&mut self, command: &str) {
        match command.strip_prefix("broker") {
            Some(options) => {
                let data = self.folder.join("data");
                let mut options: Vec<&str> = options.split_whitespace().collect();
                // A file that stands in the folder.
                let in_folder = |option: &&str| option.strip_prefix("./").map(|name| self.folder.join(name));
                let files: Vec<_> = options.iter().filter_map(in_folder).collect();
                let named = options.iter_mut().filter(|option| option.starts_with("./"));
                named.zip(&files).for_each(|(option, file)| *option = file.to_str().unwrap());
                if !options.contains(&"--in-memory") {
                    options.extend(["--data-dir", data.to_str().unwrap()]);
                }
                assert!(self.broker.replace(Broker::with(&options)).is_none(), "the broker was started before");
            }
            None => {
                let status = Command::new("sh").args(["-c", command]).current_dir(&self.folder).status().unwrap();
                assert!(status.success(), "{command}: {status}");
            }
        }
    }
}

impl Connection {
    fn say(&mut self, text: &str, more: bool) {
        let (text, ends) = text.strip_suffix("<end>").map_or((text, false), |text| (text, true));
        let mut line = match text.split_once('<').and_then(|(before, rest)| Some((before, rest.split_once(" bytes>")?)))
        {
            Some((before, (count, after))) => format!("{before}{}{after}", "x".repeat(count.parse().unwrap())),
            None => text.to_string(),
        };
        self.verb =
            if ends || line.len() > 60_000 { String::new() } else { line.split(' ').next().unwrap().to_uppercase() };
        if !ends {
            line.push('\n');
        }
        self.unsent.extend_from_slice(line.as_bytes());
        if !more {
            // Whoever is turned away may have been told so already.
            let _ = self.stream.get_mut().write_all(&std::mem::take(&mut self.unsent));
        }
        if ends {
            self.stream.get_ref().shutdown(Shutdown::Write).unwrap();
        }
    }

    fn hear(&mut self, pattern: &str, names: &mut BTreeMap<String, String>) -> Option<(String, String)> {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        if pattern == "<end>" {
            assert_eq!(line, "", "the broker did not close");
            return None;
        }
        assert!(line.ends_with('\n'), "closed instead of '{pattern}'");
        let line = line.trim_end_matches(['\r', '\n']);
        assert!(matches(pattern, line, names), "\n  '{line}' instead of\n  '{pattern}'");
        let code = line.strip_prefix("ERROR ")?.split(' ').next().unwrap();
        Some((self.verb.clone(), code.to_string()))
    }
}

/// Whether a line is what the pattern says, word by word.
fn matches(pattern: &str, line: &str, names: &mut BTreeMap<String, String>) -> bool {
    let (mut words, mut said) = (pattern.split(' '), line);
    loop {
        let Some(word) = words.next() else { return false };
        if word == "<text>" {
            return !said.is_empty();
        }
        let (got, rest) = said.split_once(' ').map_or((said, None), |(got, rest)| (got, Some(rest)));
        let name = word.split_once('<').filter(|(_, rest)| rest.ends_with('>') && !rest.contains(['[', '/', '<']));
        let same = match name {
            Some((before, name)) => got.strip_prefix(before).is_some_and(|got| {
                !got.is_empty() && names.entry(name.to_string()).or_insert_with(|| got.to_string()) == got
            }),
            None => word == got,
        };
        match rest {
            _ if !same => return false,
            Some(rest) => said = rest,
            None => return words.next().is_none(),
        }
    }
}

fn hold(number: usize, lines: &[&str], folder: &Path, in_front: bool) -> Heard {
    fs::create_dir_all(folder).unwrap();
    let mut talk = Talk {
        folder: folder.to_path_buf(),
        in_front,
        cluster: None,
        broker: None,
        connections: BTreeMap::new(),
        names: BTreeMap::new(),
    };
    let mut heard = Heard::new();
    for (index, line) in lines.iter().enumerate() {
        let at = format!("src/protocol/text.md:{}: {line}", number + index);
        let told =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| talk.line(line, lines.get(index + 1).copied())));
        heard.extend(told.unwrap_or_else(|_| panic!("{at}")));
    }
    // A clean stop ends every connection: what comes until then was not written down.
    talk.broker.as_mut().unwrap().stop();
    for (number, mut connection) in talk.connections {
        let mut more = String::new();
        let _ = connection.stream.read_to_string(&mut more);
        assert_eq!(more, "", "connection {number} of the block at line {} heard more", number);
    }
    heard
}

#[test]
fn the_specification_is_what_the_broker_does() {
    let root = env::temp_dir().join(format!("plainlog-conversations-{}", std::process::id()));
    let talks: Vec<_> = blocks()
        .into_iter()
        .map(|(number, lines)| {
            let folder = root.join(number.to_string());
            thread::spawn(move || hold(number, &lines, &folder, false))
        })
        .collect();
    // All end, and their brokers with them, before the first failure is told.
    let talks: Vec<_> = talks.into_iter().map(|talk| talk.join()).collect();
    fs::remove_dir_all(&root).unwrap();
    let failed = talks.iter().filter(|talk| talk.is_err()).count();
    assert_eq!(failed, 0, "conversations went otherwise; see above");
    let heard: Heard = talks.into_iter().flatten().flatten().collect();
    let rows = SPECIFICATION.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let rows = rows.filter_map(|(verb, rest)| Some((verb.to_string(), rest.split_once(" | ")?.0.to_string())));
    let rows: Heard =
        rows.filter(|(_, code)| code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')).collect();
    let verbs: BTreeSet<_> = rows.iter().map(|(verb, _)| verb.clone()).collect();
    // To those whom nobody knows all verbs are the same.
    let is_stranger = |verb: &str, code: &str| match code {
        "SASL_AUTHENTICATION_FAILED" => verb != "AUTH",
        // What one may do is asked of all of them, too.
        _ => code.ends_with("_AUTHORIZATION_FAILED") && code != "CLUSTER_AUTHORIZATION_FAILED",
    };
    let known = |verb: String, code: &str| {
        if verbs.contains(&verb) && !is_stranger(&verb, code) { verb } else { "any".to_string() }
    };
    let heard: Heard = heard.into_iter().map(|(verb, code)| (known(verb, &code), code)).collect();
    let rows: Heard = match cfg!(feature = "users") {
        true => rows,
        false => {
            let of_users = ["ACL", "AUTH", "WHOAMI", "USER"];
            let is_known = |(verb, code): &(String, String)| !of_users.contains(&&**verb) && !is_stranger(verb, code);
            rows.into_iter().filter(is_known).collect()
        }
    };
    assert!(rows.len() > 40, "{rows:?}");
    assert_eq!(
        rows.difference(&heard).collect::<Vec<_>>(),
        Vec::<&(String, String)>::new(),
        "rows that no conversation hears"
    );
    assert_eq!(heard.difference(&rows).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "errors without a row");
}

/// An answer as it is where the records are a cluster's: it tells no bytes and no producer's id, but which nodes have what.
fn as_a_cluster_tells(answer: &str) -> String {
    if answer.starts_with("OK producer_id:") && answer.contains(" last_id:") {
        return "OK producer_id:- epoch:- last_id:- last_epoch:- last:-".into();
    }
    match answer.rsplit_once(" bytes:") {
        Some((before, after)) if answer.starts_with("partition:") && after.contains(" segments:") => {
            format!("{before} bytes:- segments:- leader:1 replicas:1 isr:1")
        }
        Some((before, _)) if answer.starts_with("topic:") => format!("{before} bytes:-"),
        _ => answer.into(),
    }
}

/// Conversations that go otherwise in front of a cluster: a part of one of their lines, and why.
#[cfg(feature = "cluster")]
const OTHERWISE: [(&str, &str); 16] = [
    ("the line is longer than", "the cluster is asked how large a record may be when it comes"),
    ("> ACL", "there are no users, and rules without users are the cluster's own"),
    ("> PRODUCER", "all connections write by one producer, so theirs are not numbered"),
    ("ERROR INVALID_TIMESTAMP", "the sentence is the node's"),
    ("ERROR INVALID_RECORD the topic is compacted", "the sentence is the node's"),
    ("times:running", "librdkafka tells no batches: one is a run of offsets without a gap"),
    ("mode:share", "librdkafka has no share consumer"),
    ("TAIL __consumer_offsets", "the offsets topic is the cluster's, whose records are Kafka's"),
    ("type:consumer", "the group is of Kafka's classic protocol, and tells no generation"),
    ("generation:2 assigned:", "the group waits for its members before anybody is told what is its own"),
    ("INFO count", "it tells of the nodes, too"),
    ("> TRANSACTION", "it tells of this program's own, without their producers' ids"),
    ("it can have from", "the cluster says how many partitions there may be"),
    ("control:", "librdkafka hands out no markers"),
    ("2> ABORT", "only open transactions are known here, and only this program's"),
    ("from:latest", "it is settled when the cluster has said what is the member's"),
];

/// What answers is not to be told from what is asked, but for what only a broker with a log of its own knows.
#[cfg(feature = "cluster")]
#[test]
fn in_front_of_a_cluster_it_is_the_same() {
    let root = env::temp_dir().join(format!("plainlog-conversations-cluster-{}", std::process::id()));
    let is_otherwise = |lines: &[&str]| OTHERWISE.iter().any(|(part, _)| lines.iter().any(|line| line.contains(part)));
    // A broker that is started with options of its own has a log of its own.
    let same = blocks().into_iter().filter(|(_, lines)| !lines.iter().any(|line| line.starts_with('$')));
    let same: Vec<_> = same.filter(|(_, lines)| !is_otherwise(lines)).collect();
    assert!(same.len() > 10, "{}", same.len());
    // A few at a time: each client of the cluster's has threads of its own.
    let mut failed = 0;
    for some in same.chunks(8) {
        let talks: Vec<_> = some
            .iter()
            .cloned()
            .map(|(number, lines)| {
                let folder = root.join(number.to_string());
                thread::spawn(move || hold(number, &lines, &folder, true))
            })
            .collect();
        failed += talks.into_iter().map(|talk| talk.join()).filter(Result::is_err).count();
    }
    fs::remove_dir_all(&root).unwrap();
    assert_eq!(failed, 0, "conversations went otherwise; see above");
}

//! What README.md and benches/README.md show is what there is: every command of the README is run.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{BROKER, Broker, LONG, PRODUCER, signal, text};
use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

const README: &str = include_str!("../README.md");

/// The fenced blocks of a section in this language.
fn blocks<'a>(section: &str, language: &str) -> Vec<Vec<&'a str>> {
    let section = README.split("\n## ").find(|part| part.trim_start_matches("# ").starts_with(section)).unwrap();
    let open = format!("```{language}\n");
    let blocks: Vec<_> = section.split(&open).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect();
    assert!(!blocks.is_empty(), "{section} has no {language}");
    blocks.iter().map(|block| block.lines().collect()).collect()
}

/// A folder in which commands run as in the README: the programs are on the path, the broker is where they look for it.
struct Shell {
    folder: PathBuf,
    broker: Broker,
}

impl Shell {
    fn open(name: &str) -> Shell {
        let folder = env::temp_dir().join(format!("plainlog-readme-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let broker = Broker::with(&["--data-dir", folder.join("data").to_str().unwrap()]);
        Shell { folder, broker }
    }

    fn start(&self, command: &str) -> Child {
        let programs = Path::new(BROKER).parent().unwrap().to_path_buf();
        let path = env::var_os("PATH").unwrap();
        let path = env::join_paths([programs].into_iter().chain(env::split_paths(&path))).unwrap();
        let mut shell = self.broker.command("sh", &["-c", command]);
        shell.current_dir(&self.folder).env("PATH", path).spawn().unwrap()
    }

    /// Runs a command to its end; answers what it printed.
    fn run(&self, command: &str) -> String {
        let Some(said) = command.strip_suffix(" | nc localhost 9092") else {
            let output = self.start(command).wait_with_output().unwrap();
            assert!(output.status.success(), "{command}: {}", text(&output.stderr));
            return text(&output.stdout).into();
        };
        // As any nc does it; .ci/netcats tries them all.
        let said = self.run(said);
        let mut stream = TcpStream::connect(&self.broker.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.broker.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn the_first_conversation_is_as_shown() {
    let shell = Shell::open("conversation");
    let lines = blocks("plainlog", "sh").remove(0);
    let mut commands = 0;
    let mut answer = String::new();
    for line in lines {
        match line.strip_prefix("$ ") {
            Some(command) => {
                assert_eq!(answer, "");
                (answer, commands) = (shell.run(command), commands + 1);
            }
            None => answer = answer.strip_prefix(&format!("{line}\n")).unwrap_or_else(|| panic!("{answer}")).into(),
        }
    }
    assert_eq!((answer.as_str(), commands), ("", 2));
}

#[cfg(feature = "http")]
#[test]
fn the_lines_for_curl_write_read_and_copy() {
    let shell = Shell::open("http");
    let here = |command: &str| command.replace("localhost:9092", &shell.broker.address).replace("curl ", "curl -sS ");
    let [write, search, follow, copy, restore, list] = blocks("HTTP", "sh").remove(0).try_into().unwrap();
    assert!(shell.run(&here(write)).starts_with("{\"records\":[{\"partition\":0,\"offset\":0}"));
    let found = shell.run(&here(search));
    let values: Vec<&str> = found.split("\"value\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(values, ["login", "logout"], "{found}");
    let mut following = shell.start(&format!("exec {}", here(follow)));
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("\"value\":\"logout\"}")));
    following.kill().unwrap();
    following.wait().unwrap();
    shell.run(&here(copy));
    assert_eq!(shell.run(&here(restore)), "{\"stored\":2,\"refused\":0,\"errors\":[]}\n");
    assert!(shell.run(&here(list)).contains("\"/api/topics/{topic}/export\""));
}

/// The first command is the broker's; the others are what is said to it then.
#[cfg(feature = "tls")]
#[test]
fn the_way_onto_a_network_is_as_shown() {
    let folder = env::temp_dir().join(format!("plainlog-readme-network-{}", std::process::id()));
    let data = folder.join("data");
    let [broker, rest @ ..] = &blocks("On a network", "sh").remove(0)[..] else { panic!("no commands") };
    let options = broker.strip_prefix("broker --listen '[::]:9092' ").unwrap().split(' ').collect::<Vec<_>>();
    let broker = Broker::with(&[&["--data-dir", data.to_str().unwrap()], &options[..]].concat());
    let mut shell = Shell { folder, broker };
    let run = |script: &str| {
        let programs = env::join_paths([Path::new(BROKER).parent().unwrap(), Path::new("/usr/bin"), Path::new("/bin")]);
        let mut sh = shell.broker.command("sh", &["-ec", script]);
        let sh = sh
            .current_dir(&shell.folder)
            .env("PATH", programs.unwrap())
            .env("PLAINLOG_PASSWORD_FILE", data.join("~admin-password"));
        let output = sh.output().unwrap();
        assert!(output.status.success(), "{script}: {}", text(&output.stderr));
        text(&output.stdout).to_string()
    };
    let printed = run(&rest.join("\n"));
    let passwords: Vec<_> = printed.lines().filter_map(|line| line.strip_prefix("password: ")).collect();
    let [alice, bob] = passwords[..] else { panic!("{printed}") };
    let ca = "--ca data/tls/ca.pem";
    for (name, password) in [("alice", alice), ("bob", bob)] {
        fs::write(shell.folder.join(name), password).unwrap();
    }
    run(&format!("echo one | producer {ca} --user alice --password-file alice --topic orders"));
    let read = run(&format!("consumer {ca} --user bob --password-file bob --topic orders -o earliest -c 1"));
    assert_eq!(read, "Consumed: one (offset: 0)\n");
    run(&format!("! (echo two | producer {ca} --user bob --password-file bob --topic orders)"));
    shell.broker.stop();
}

/// Each terminal's block: how its program is started, and what it shows.
#[test]
fn the_lesson_is_as_shown() {
    let [broker, consumer, producer] = blocks("The lesson", "text").try_into().unwrap();
    let options = |line: &str, program: &str| {
        let started = line.strip_prefix(&format!("$ cargo run --release --bin {program}")).unwrap();
        started.trim_start_matches(" -- ").split_whitespace().map(String::from).collect::<Vec<_>>()
    };
    let in_broker = options(broker[0], "broker");
    let running = Broker::with(&in_broker.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(broker[1..], ["Broker started on localhost:9092"]);

    assert_eq!((options(consumer[0], "consumer"), options(producer[0], "producer")), (vec![], vec![]));
    let mut reading = running.command(common::CONSUMER, &[]).spawn().unwrap();
    let mut told = BufReader::new(reading.stderr.take().unwrap()).lines();
    let mut read = BufReader::new(reading.stdout.take().unwrap()).lines();
    let (printed, said): (Vec<&str>, Vec<&str>) = consumer[1..].iter().partition(|line| line.starts_with("Consumed: "));
    for line in said {
        assert_eq!(told.next().unwrap().unwrap().replace(&running.address, "localhost:9092"), line);
    }

    let prompt = producer[1].split_inclusive(": ").next().unwrap();
    let typed: Vec<&str> = producer[1..].iter().filter_map(|line| line.strip_prefix(prompt)).collect();
    let input = typed.join("\n") + "\n";
    let shown = producer[1..].join("\n");
    let expected = typed.iter().fold(shown, |shown, word| shown.replace(&format!("{prompt}{word}\n"), prompt));
    let expected = expected.strip_suffix(typed.last().unwrap()).unwrap();
    let mut writing = running.command(PRODUCER, &["--interactive"]).stdin(Stdio::piped()).spawn().unwrap();
    writing.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert_eq!(text(&writing.wait_with_output().unwrap().stdout), expected);

    for line in printed {
        assert_eq!(read.next().unwrap().unwrap(), line);
    }
    signal(&reading, "INT");
    assert!(reading.wait().unwrap().success());
    assert!(told.next().is_none());
}

/// Commands that wait for more records are interrupted when they have shown one.
/// One restores a copy from JSON, one tries both protocols: not for the small build.
#[cfg(all(feature = "comfort", feature = "http", feature = "kafka"))]
#[test]
fn the_commands_beyond_the_lesson_run() {
    let shell = Shell::open("commands");
    fs::write(shell.folder.join("orders.txt"), "user-1:tea\nuser-2:coffee\nuser-3:water\n").unwrap();
    fs::write(shell.folder.join("work.sh"), "#!/bin/sh\ncat; echo\n").unwrap();
    shell.run("chmod +x work.sh");
    for line in blocks("More than the lesson", "sh").concat() {
        let command = line.split("  #").next().unwrap().trim_end();
        let waits = command.starts_with("consumer ") && !command.contains(" -e");
        if !waits {
            shell.run(command);
            continue;
        }
        let mut child = shell.start(&format!("exec {command}"));
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert_ne!(first, "", "{command}");
        signal(&child, "INT");
        assert!(child.wait().unwrap().success(), "{command}");
    }
    let copied = shell.run("consumer -t copy -e --raw");
    assert_eq!(copied.lines().count(), 3, "{copied}");
}

/// The columns and rows of the tables of speed are what the benchmarks print.
#[test]
fn the_tables_of_speed_are_those_of_the_benchmarks() {
    let page = include_str!("../benches/README.md");
    let load = [
        include_str!("../benches/load/measure.rs"),
        include_str!("../benches/load/scenarios/produce.rs"),
        include_str!("../benches/load/scenarios/read.rs"),
        include_str!("../benches/load/scenarios/resources.rs"),
    ];
    let kafka = include_str!("../benches/kafka.py");
    let codecs = include_str!("../benches/fetch_compression.py");
    let streams = include_str!("../benches/streams.py");
    let cluster = include_str!("../benches/cluster.py");
    let (mut rows, mut source) = (0, "");
    for line in page.lines() {
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else { continue };
        let cells: Vec<&str> = cells.split(" | ").collect();
        if line.starts_with("| ---") {
            continue;
        } else if cluster.contains(&format!("\"{line}\"")) {
            source = "cluster";
        } else if cells[0] == "what" || cells[0] == "client" || line.starts_with("| | ") {
            source = if cells[0] == "what" { "load" } else { "kafka" };
            let printed = if source == "load" { load[0] } else { kafka };
            for column in &cells {
                assert!(printed.contains(&format!("| {column} |")), "no benchmark prints the column {column}");
            }
        } else if cells[0] == "application" {
            source = "streams";
            assert!(streams.contains(line), "no benchmark prints {line}");
        } else if source == "cluster" {
            let (verb, label) = cells[0].split_once(' ').unwrap();
            for what in [format!("\"{verb} "), format!("\"{label}\"")] {
                assert!(cluster.contains(&what), "{} is not measured: {what}", cells[0]);
            }
        } else if source == "streams" {
            for what in &cells[..4] {
                assert!(streams.contains(&format!("\"{what}\"")), "{what} is not measured");
            }
        } else if cells[0] == "produced in" {
            source = "codecs";
            assert!(codecs.contains(line), "no benchmark prints {line}");
        } else if source == "codecs" {
            for what in [format!("\"{}\"", cells[0]), format!("'{}'", cells[1])] {
                assert!(codecs.contains(&what), "{what} is not measured");
            }
        } else if source == "load" {
            let what = cells[0].split(", `--flush").next().unwrap();
            assert!(load.iter().any(|text| literals(text).any(|one| fits(one, what))), "{what} is not measured");
        } else if let [client, what, ..] = cells[..]
            && cells.len() > 6
        {
            // By its own name, or by a verb and what is said of the records.
            let (verb, label) = what.split(',').next().unwrap().split_once(' ').unwrap();
            if kafka.contains(&format!("[\"{client}\", \"{what}\"]")) {
                rows += 1;
                continue;
            }
            for name in [format!("\"{client}\""), format!("\"{verb} {{label}}"), format!("(\"{label}\", ")] {
                assert!(kafka.contains(&name), "{client} {what} is not measured: {name}");
            }
        } else {
            let what = cells[0].replace("librdkafka", "{key[1]}").replace("Java", "{key[1]}");
            assert!(kafka.contains(&format!("| {what} |")), "{what} is not measured");
        }
        rows += 1;
    }
    assert!(rows > 30, "{rows}");
}

/// The texts in quotes of a source.
fn literals(source: &str) -> impl Iterator<Item = &str> {
    source.split('"').skip(1).step_by(2)
}

/// Whether a text is what a format makes, whatever stands in its braces.
fn fits(format: &str, text: &str) -> bool {
    let mut rest = text;
    for (index, part) in format.split('{').enumerate() {
        let literal = if index == 0 { part } else { part.split_once('}').map_or(part, |(_, literal)| literal) };
        match rest.find(literal) {
            Some(at) if index > 0 || at == 0 => rest = &rest[at + literal.len()..],
            _ => return false,
        }
    }
    rest.is_empty() || format.ends_with('}')
}

//! The real program, killed under load, on a full file system, and on a log with a flipped byte.
#![allow(clippy::unwrap_used)]

mod common;

use common::{BROKER, Broker, Lines};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::{self, Sender},
    thread,
};

const CONNECTIONS: usize = 4;
const KILLS: usize = 12;
/// Acknowledgements after which the broker is killed, in each of its lives.
const LOAD: usize = 1000;

/// A folder of its own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("plainlog-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Sends records, some pipelined, until the broker is gone; tells each acknowledged offset with its value.
fn load(address: &str, name: &str, acknowledged: &Sender<(u64, String)>) -> Option<()> {
    let mut stream = TcpStream::connect(address).ok()?;
    let mut answers = BufReader::new(stream.try_clone().ok()?);
    for round in 0.. {
        let values: Vec<_> = (0..=round % 5).map(|index| format!("{name}-{round}-{index}")).collect();
        let lines: String = values.iter().map(|value| format!("PRODUCE {value}\n")).collect();
        stream.write_all(lines.as_bytes()).ok()?;
        for value in values {
            let mut line = String::new();
            answers.read_line(&mut line).ok()?;
            // A line without its end was cut by the kill.
            let offset = line.strip_suffix('\n')?.strip_prefix("ACK offset:").expect("an ACK");
            acknowledged.send((offset.parse().unwrap(), value)).ok()?;
        }
    }
    None
}

#[test]
fn every_acknowledged_message_is_at_its_offset_after_many_kills() {
    let folder = Folder::new("kill");
    // Small segments, so that kills meet rolls.
    let options = ["--data-dir", folder.path(), "--flush", "always", "--segment-bytes", "4096"];
    let mut broker = Broker::with(&options);
    let mut all = std::collections::BTreeMap::new();
    for life in 0..KILLS {
        let (acknowledged, told) = mpsc::channel();
        thread::scope(|scope| {
            for connection in 0..CONNECTIONS {
                let (address, acknowledged) = (broker.address.clone(), acknowledged.clone());
                scope.spawn(move || load(&address, &format!("{life}-{connection}"), &acknowledged));
            }
            drop(acknowledged);
            let mut told_now: Vec<_> = told.iter().take(LOAD).collect();
            broker.kill();
            told_now.extend(told.iter());
            assert!(told_now.len() >= LOAD, "only {} were acknowledged", told_now.len());
            for (offset, value) in told_now {
                let twice = all.insert(offset, value);
                assert_eq!(twice, None, "offset {offset} was given twice");
            }
        });
        broker.restart();
        let found = read_all(&mut broker.connect());
        for (offset, value) in &all {
            assert_eq!(found.get(*offset as usize), Some(value), "offset {offset} after kill {life}");
        }
        let mut sorted: Vec<_> = found.iter().collect();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[0] != pair[1]), "no message is there twice");
    }
    assert!(verify(&folder.0).0, "nothing is damaged");
}

/// Every message from offset 0 to the end, which are offsets in a row.
fn read_all(connection: &mut Lines) -> Vec<String> {
    connection.say("TAIL messages/0 from:0 until:end\n");
    let mut all = Vec::new();
    loop {
        let line = connection.line();
        if line == format!("END next:{}", all.len()) {
            return all;
        }
        let record = line.strip_prefix(&format!("offset:{} message:", all.len()));
        all.push(record.unwrap_or_else(|| panic!("'{line}' at offset {}", all.len())).to_string());
    }
}

/// `broker log verify`: whether it found all whole, and what it said.
fn verify(dir: &Path) -> (bool, String) {
    let output = Command::new(BROKER).args(["log", "verify"]).arg(dir).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn verify_names_file_position_and_offsets_of_a_flipped_byte() {
    let folder = Folder::new("flip");
    let mut broker = Broker::with(&["--data-dir", folder.path()]);
    for value in ["a", "b", "c"] {
        broker.expect(&format!("PRODUCE {value}\n"), &["ACK"]);
    }
    broker.kill();
    let log = folder.0.join("messages/0/00000000000000000000.log");
    let whole = fs::read(&log).unwrap();
    assert_eq!(whole, b"offset:0 message:a\noffset:1 message:b\noffset:2 message:c\n");
    assert_eq!(verify(&folder.0), (true, "3 batches in 1 partitions are whole, 0 damages\n".into()));
    let mut flipped = whole.clone();
    flipped[36] ^= 1;
    fs::write(&log, flipped).unwrap();
    let (whole, said) = verify(&folder.0);
    assert!(!whole, "{said}");
    assert!(said.contains(&format!("{}: damaged at position 19, offsets 1 to 1\n", log.display())), "{said}");
    broker.restart();
    broker.expect(
        "CONSUME 0\nCONSUME 1\nCONSUME 2\nPRODUCE d\n",
        &["MESSAGE offset:0 a", "ERROR CORRUPT_MESSAGE", "MESSAGE offset:2 c", "ACK offset:3"],
    );
}

#[test]
fn verify_names_the_line_of_a_topic_file_that_is_none() {
    let folder = Folder::new("topic-file");
    let mut broker = Broker::with(&["--data-dir", folder.path()]);
    broker.expect("PRODUCE a\n", &["ACK"]);
    broker.kill();
    let (dir, file) = (folder.0.join("messages"), folder.0.join("messages/topic"));
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}nonsense\n")).unwrap();
    for dir in [&folder.0, &dir] {
        let (whole, said) = verify(dir);
        assert!(!whole, "{said}");
        let line = format!("{}, line 4: 'nonsense' is no line of a topic file\n", file.display());
        assert!(
            said.starts_with(&line) && said.ends_with("1 batches in 1 partitions are whole, 1 damages\n"),
            "{said}"
        );
    }
    fs::write(&file, text).unwrap();
    assert!(verify(&folder.0).0 && verify(&dir.join("0")).0);
}

/// A small file system of its own, unmounted at the end; `None` where this machine does not let us.
struct Tmpfs(Folder);

impl Tmpfs {
    fn mount() -> Option<Tmpfs> {
        let folder = Folder::new("full");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=384k", "plainlog"]).arg(&folder.0).output();
        mount.is_ok_and(|output| output.status.success()).then_some(Tmpfs(folder))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0.0).status();
    }
}

#[test]
fn a_full_file_system_refuses_and_serves_and_takes_more_once_there_is_room() {
    let Some(tmpfs) = Tmpfs::mount() else {
        // The disk in memory is filled at every byte by full_disk_refuses_and_goes_on_once_there_is_room, anywhere.
        let _ = writeln!(
            std::io::stderr(),
            "NOT RUN: this machine lets nobody mount a tmpfs here, so no real file system was filled"
        );
        return;
    };
    let ballast = tmpfs.0.0.join("ballast");
    fs::write(&ballast, vec![0; 64 << 10]).unwrap();
    let data = tmpfs.0.0.join("data");
    let mut broker = Broker::with(&["--data-dir", data.to_str().unwrap(), "--segment-bytes", "16384"]);
    let mut connection = broker.connect();
    let (mut stored, mut refused) = (Vec::new(), 0);
    while refused < 20 {
        let value = format!("{}-{}", stored.len(), "x".repeat(1000));
        let answer = connection.say(&format!("PRODUCE {value}\n")).line();
        if answer.starts_with("ERROR KAFKA_STORAGE_ERROR") {
            refused += 1;
        } else {
            assert_eq!(answer, format!("ACK offset:{}", stored.len()));
            stored.push(value);
        }
        assert!(stored.len() < 300, "384 KiB, of which 128 are the reserve, cannot hold that");
    }
    assert!(stored.len() > 100, "only {} fitted", stored.len());
    assert_eq!(read_all(&mut broker.connect()), stored);
    // Killed while it is full, it opens, serves and refuses still.
    broker.restart();
    assert_eq!(read_all(&mut broker.connect()), stored);
    fs::remove_file(&ballast).unwrap();
    for value in ["room", "again"] {
        let answer = broker.connect().say(&format!("PRODUCE {value}\n")).line();
        assert_eq!(answer, format!("ACK offset:{}", stored.len()));
        stored.push(value.into());
    }
    broker.restart();
    assert_eq!(read_all(&mut broker.connect()), stored);
    assert!(verify(&data).0);
    broker.kill();
}

//! A broker of its own for each test, and the programs run against it.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

pub mod http;
#[cfg(feature = "http")]
pub mod records;
#[cfg(feature = "users")]
pub mod scram;
#[cfg(feature = "users")]
#[path = "../../src/security/tokens/testing.rs"]
pub mod tokens;

use std::{
    env, fs,
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    sync::atomic::{
        AtomicBool, AtomicU32,
        Ordering::{Relaxed, Release},
    },
    thread,
    time::{Duration, Instant},
};

/// A test that waits longer has failed.
pub const LONG: Duration = Duration::from_secs(20);

/// A started broker; it ends, and its folder goes, when it is dropped.
pub struct Broker {
    /// Where it listens.
    pub address: String,
    child: Child,
    _stdout: ChildStdout,
    options: Vec<String>,
    folder: Option<PathBuf>,
    /// What has the records, if it stands in front of a cluster.
    _cluster: Option<Box<Broker>>,
}

/// If it is set, each broker is one in front of a cluster, which is another plainlog that speaks Kafka's protocol.
/// `.ci/in_front` runs tests so.
const IN_FRONT: &str = "PLAINLOG_TEST_IN_FRONT";

pub fn is_in_front() -> bool {
    env::var_os(IN_FRONT).is_some()
}

impl Broker {
    /// One that keeps everything in memory.
    pub fn start() -> Broker {
        Self::with(&["--in-memory"])
    }

    /// One with a fresh folder, which survives `restart`.
    pub fn on_disk() -> Broker {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("plainlog-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let folder = env::temp_dir().join(name);
        let mut broker = Self::with(&["--data-dir", folder.to_str().unwrap()]);
        broker.folder = Some(folder);
        broker
    }

    /// One with these options.
    pub fn with(options: &[&str]) -> Broker {
        Self::listening("127.0.0.1:0", options)
    }

    /// One that listens there, with these options.
    pub fn listening(listen: &str, options: &[&str]) -> Broker {
        let options = options.iter().map(|option| option.to_string()).collect();
        if !is_in_front() {
            return Self::started(listen, options, None);
        }
        let (of_the_log, mut options) = apart(options);
        let cluster = Self::started("127.0.0.1:0", of_the_log, None);
        options.extend(["--cluster".into(), cluster.address.clone()]);
        Self::started(listen, options, Some(Box::new(cluster)))
    }

    fn started(listen: &str, options: Vec<String>, cluster: Option<Box<Broker>>) -> Broker {
        let (child, stdout, address) = spawn(listen, &options);
        Broker { address, child, _stdout: stdout, options, folder: None, _cluster: cluster }
    }

    /// Kills it, as a crash does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it cleanly; answers how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        signal(&self.child, "TERM");
        self.child.wait().unwrap()
    }

    /// The folder of one that is on disk.
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().unwrap()
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The memory that it holds now, in bytes, without the pages of its program: a debug build has dozens of MB of those.
    pub fn memory(&self) -> u64 {
        self.told_of_memory("RssAnon:")
    }

    /// The most memory that it has held, in bytes, without the pages of its program.
    pub fn peak_memory(&self) -> u64 {
        self.told_of_memory("VmHWM:") - self.told_of_memory("RssFile:")
    }

    /// A line of what the kernel tells of the process's memory, in bytes.
    fn told_of_memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Starts it again at the same address.
    pub fn restart(&mut self) {
        self.kill();
        (self.child, self._stdout, self.address) = spawn(&self.address, &self.options);
    }

    /// Opens a conversation.
    pub fn connect(&self) -> Lines {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Lines(BufReader::new(stream))
    }

    /// Says lines and expects lines that begin so.
    pub fn expect(&self, lines: &str, answers: &[&str]) {
        let mut connection = self.connect();
        connection.say(lines);
        for answer in answers {
            let line = connection.line();
            assert!(line.starts_with(answer), "'{line}' instead of '{answer}'");
        }
    }

    /// A program that talks to it.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env("PLAINLOG_BROKER", &self.address).env_remove("NO_COLOR");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs `producer` over this input to its end.
    pub fn produce(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
        let mut child = self.command(PRODUCER, arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.as_ref().to_vec();
        let writer = thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        let _ = writer.join().unwrap();
        output
    }

    /// Runs `consumer` to its end.
    pub fn consume(&self, arguments: &[&str]) -> Output {
        self.command(CONSUMER, arguments).output().unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

pub const PRODUCER: &str = env!("CARGO_BIN_EXE_producer");
pub const CONSUMER: &str = env!("CARGO_BIN_EXE_consumer");
pub const BROKER: &str = env!("CARGO_BIN_EXE_broker");

/// The options that speak of a log, and the others. Who has users keeps those itself.
fn apart(options: Vec<String>) -> (Vec<String>, Vec<String>) {
    let (mut of_the_log, mut others) = (Vec::new(), Vec::new());
    if options.iter().any(|option| option == "--users") {
        return (vec!["--in-memory".into()], options);
    }
    let mut options = options.into_iter().peekable();
    while let Some(option) = options.next() {
        let is_of_the_log = OF_THE_LOG.contains(&option.as_str());
        let into = if is_of_the_log { &mut of_the_log } else { &mut others };
        into.push(option);
        into.extend(options.next_if(|value| !value.starts_with("--")));
    }
    (of_the_log, others)
}

const OF_THE_LOG: [&str; 6] =
    ["--data-dir", "--default-partitions", "--flush", "--in-memory", "--max-message-bytes", "--segment-bytes"];

fn spawn(listen: &str, options: &[String]) -> (Child, ChildStdout, String) {
    let mut command = Command::new(BROKER);
    command.args(["--listen", listen, "-q"]).args(options).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut line = Vec::new();
    let mut byte = [0];
    while stdout.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    let line = String::from_utf8(line).unwrap();
    let address = line.strip_prefix("Broker started on ").unwrap_or_else(|| panic!("the first line is '{line}'"));
    (child, stdout, address.to_string())
}

/// Whether what was read to its end is a connection's end without another word. That nothing came for long is none.
pub fn is_end(read: &io::Result<usize>) -> bool {
    match read {
        Ok(read) => *read == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// A conversation by lines.
pub struct Lines(BufReader<TcpStream>);

impl Lines {
    /// Sends text.
    pub fn say(&mut self, text: &str) -> &mut Self {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
        self
    }

    /// Whether the broker sends no more: it has closed the connection, in good order or not.
    pub fn is_over(&mut self) -> bool {
        is_end(&self.0.read_to_end(&mut Vec::new()))
    }

    /// The next line, without its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_string()
    }
}

/// Builds an example, as this test was built so that nothing is built twice; answers where its program is.
pub fn example(name: &str) -> PathBuf {
    // target/debug/deps/<this test>
    let folder = env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf();
    let features = [
        ("default", cfg!(feature = "default")),
        ("comfort", cfg!(feature = "comfort")),
        ("http", cfg!(feature = "http")),
        ("kafka", cfg!(feature = "kafka")),
        ("streams", cfg!(feature = "streams")),
        ("cluster", cfg!(feature = "cluster")),
    ];
    let features: Vec<&str> = features.iter().filter(|(_, is_on)| *is_on).map(|(feature, _)| *feature).collect();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--example", name, "--no-default-features", "--features", &features.join(",")]);
    if folder.ends_with("release") {
        build.arg("--release");
    }
    // What cargo has told this test of its package: ring's build script runs anew when that changes, and everything after it, here and
    // in the next build.
    let is_told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars().filter(|(name, _)| is_told(name)) {
        build.env_remove(name);
    }
    assert!(build.status().unwrap().success(), "{name} is not built");
    folder.join("examples").join(name)
}

/// Looks again and again until it is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}

/// Looks again and again until there is something; answers it.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {LONG:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Tells other threads that it is over when it is dropped: by a panic, too, so that nobody waits for them for ever.
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Release);
    }
}

/// Numbers that look random, the same from one run to the next.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Flips, replaces, removes or doubles some bytes, has them lie about a length, or goes on as another message does.
pub fn bend(bytes: &mut Vec<u8>, random: &mut Random, others: &[&[u8]]) {
    let mut below = |bound: usize| random.below(bound as u64) as usize;
    for _ in 0..=below(4) {
        let at = below(bytes.len().max(1));
        let end = bytes.len().min(at + 1 + below(8));
        match below(7) {
            _ if bytes.is_empty() => {}
            0 => bytes[at] ^= 1 << below(8),
            1 => bytes[at] = below(256) as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.extend_from_within(at..end),
            5 => {
                let lies: [&[u8]; 4] = [&[0x7f, 0xff, 0xff, 0xff], &[0xff; 5], &[0xff, 0xff, 0xff, 0xfe], &[0; 4]];
                let lie = lies[below(lies.len())];
                bytes.splice(at..bytes.len().min(at + lie.len()), lie.iter().copied());
            }
            _ => {
                let other = others[below(others.len())];
                bytes.splice(at.., other[other.len().min(at)..].iter().copied());
            }
        }
    }
}

/// Sends a signal, by its name.
pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// What a program printed.
pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

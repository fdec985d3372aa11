//! The broker under test: started and stopped, and what the kernel says of its CPU time and memory.

use crate::{Options, client};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

/// A number that no other caller got.
fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A folder on the disk of the build, removed when dropped. (The system's temporary folder may be memory, which has no
/// sync to measure.)
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Result<Self> {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("load-{}-{}", std::process::id(), unique()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A broker that accepts connections.
pub(crate) struct Broker {
    pub(crate) address: String,
    /// From starting the program to its first line.
    pub(crate) ready_seconds: f64,
    /// None: it ran before and goes on.
    process: Option<Child>,
}

impl Broker {
    /// Starts one on a free port, over the data in `folder`.
    pub(crate) fn start(options: &Options, folder: &Folder, flush: &str) -> Result<Self> {
        let mut command = Command::new(&options.program);
        command.args(["--listen", "localhost:0", "--flush", flush, "-q", "--data-dir"]).arg(folder.path());
        let start = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut process = child.with_context(|| format!("starting {}", options.program.display()))?;
        let line = first_line(&mut process)?;
        let ready_seconds = start.elapsed().as_secs_f64();
        let mut broker = Self { address: String::new(), ready_seconds, process: Some(process) };
        let address = line.trim_end().strip_prefix("Broker started on ");
        broker.address = address.with_context(|| format!("the broker's first line is '{line}'"))?.to_string();
        Ok(broker)
    }

    /// The one that the command line names.
    pub(crate) fn running(address: &str) -> Self {
        Self { address: address.to_string(), ready_seconds: 0.0, process: None }
    }

    /// A connection to it.
    pub(crate) fn connect(&self) -> Result<TcpStream> {
        client::connect(&self.address)
    }

    /// A connection whose PRODUCE and CONSUME mean this topic.
    pub(crate) fn connect_to(&self, topic: &str) -> Result<TcpStream> {
        let stream = self.connect()?;
        let answer = client::ask(&stream, &format!("USE {topic}"))?;
        ensure!(answer.starts_with("OK "), "USE {topic} was answered with '{answer}'");
        Ok(stream)
    }

    /// The name of a topic that is not there yet, and a connection to it.
    pub(crate) fn fresh_topic(&self) -> Result<(TcpStream, String)> {
        let topic = format!("load-{}-{}", std::process::id(), unique());
        Ok((self.connect_to(&topic)?, topic))
    }

    /// CPU seconds that it has used so far, in user and kernel mode.
    pub(crate) fn cpu_seconds(&self) -> Option<f64> {
        let stat = fs::read_to_string(self.proc_file("stat")?).ok()?;
        // Fields 14 and 15, in ticks of 10 ms. The second field, the program's name, may hold spaces: count behind it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / 100.0)
    }

    /// Resident memory in MB: `VmRSS` is now, `VmHWM` the most so far.
    pub(crate) fn memory_mb(&self, which: &str) -> Option<f64> {
        let status = fs::read_to_string(self.proc_file("status")?).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(which)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? * 1024.0 / 1e6)
    }

    fn proc_file(&self, name: &str) -> Option<PathBuf> {
        Some(PathBuf::from(format!("/proc/{}/{name}", self.process.as_ref()?.id())))
    }

    /// Ends it as an operator does; it has to end well.
    pub(crate) fn stop(mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        // std sends no signal but SIGKILL.
        Command::new("sh").args(["-c", "kill -TERM $0", &process.id().to_string()]).status()?;
        let status = process.wait()?;
        ensure!(status.success(), "the broker ended with {status}");
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The first line that a program prints. What it prints later is not read.
pub(crate) fn first_line(process: &mut Child) -> Result<String> {
    let mut line = String::new();
    let stdout = process.stdout.as_mut().context("its stdout is no pipe")?;
    BufReader::new(stdout).read_line(&mut line)?;
    Ok(line)
}

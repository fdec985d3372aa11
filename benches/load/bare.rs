//! The bare limits: what this machine can do with no broker in between, measured with the same client and bytes.

use crate::{
    broker::Folder,
    client::{self, Ack, BUFFER},
    lines::{Expected, Lines},
    measure::Round,
};
use anyhow::{Result, ensure};
use std::{
    fs::File,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::FileExt,
    thread,
    time::Instant,
};

/// Runs `serve` on the far end of a loopback connection and `client` on the near one.
fn over_loopback<T>(
    serve: impl FnOnce(TcpStream) -> io::Result<()> + Send,
    client: impl FnOnce(&TcpStream) -> Result<T>,
) -> Result<T> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = client::connect(&listener.local_addr()?.to_string())?;
    let (far, _) = listener.accept()?;
    far.set_nodelay(true)?;
    thread::scope(|scope| {
        let serving = scope.spawn(move || serve(far));
        let result = client(&near);
        drop(near);
        serving.join().expect("a bare loop does not panic")?;
        result
    })
}

/// Receives `count` lines into a buffer and writes it to a file: the limit for producing.
pub(crate) fn receive_and_write(lines: &Lines, count: u64) -> Result<Round> {
    let folder = Folder::new()?;
    let file = File::create(folder.path().join("bytes"))?;
    let bytes = lines.bytes(count);
    let serve = |mut far: TcpStream| {
        let (mut buffer, mut position) = (vec![0; BUFFER], 0);
        while position < bytes {
            let read = far.read(&mut buffer)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.write_all_at(&buffer[..read], position)?;
            position += read as u64;
        }
        far.write_all(b"DONE\n")
    };
    over_loopback(serve, |near| {
        let expected = Expected { lines: 1, bytes: 5, first: "DONE".into(), last: "DONE".into() };
        Round::of(count, bytes, || client::pipeline(near, |near| lines.write(near, count), &expected))
    })
}

/// A file of `bytes` bytes in lines of 100, read and sent: the limit for consuming as many `records`.
pub(crate) struct ReadAndSend {
    file: File,
    lines: Lines,
    bytes: u64,
    _folder: Folder,
}

impl ReadAndSend {
    /// Writes the file.
    pub(crate) fn new(bytes: u64) -> Result<Self> {
        let folder = Folder::new()?;
        let path = folder.path().join("bytes");
        let lines = Lines::new(|_| crate::lines::value(99));
        let bytes = bytes / lines.bytes(1) * lines.bytes(1);
        lines.write(File::create(&path)?, bytes / lines.bytes(1))?;
        Ok(Self { file: File::open(path)?, lines, bytes, _folder: folder })
    }

    /// Sends it once, for `records` records.
    pub(crate) fn round(&self, records: u64) -> Result<Round> {
        let line = crate::lines::value(99);
        let expected =
            Expected { lines: self.bytes / self.lines.bytes(1), bytes: self.bytes, first: line.clone(), last: line };
        let serve = |mut far: TcpStream| {
            let (mut buffer, mut position) = (vec![0; BUFFER], 0);
            far.read_exact(&mut [0])?;
            while position < self.bytes {
                let read = self.file.read_at(&mut buffer, position)?;
                far.write_all(&buffer[..read])?;
                position += read as u64;
            }
            Ok(())
        };
        over_loopback(serve, |mut near| {
            Round::of(records, self.bytes, || {
                near.write_all(b"\n")?;
                client::receive(near, &expected)
            })
        })
    }
}

/// Answers each line with an ACK that costs nothing: the limit for one at a time.
pub(crate) fn echo(line: &[u8], count: u64) -> Result<Vec<Ack>> {
    let serve = |mut far: TcpStream| {
        let mut buffer = [0; 4096];
        loop {
            match far.read(&mut buffer)? {
                0 => return Ok(()),
                read if buffer[read - 1] == b'\n' => far.write_all(b"ACK offset:1234567\n")?,
                _ => {}
            }
        }
    };
    over_loopback(serve, |near| client::ping_pong(near, line, count))
}

/// Writes a line and syncs it, one after the other: what `--flush always` costs without company.
pub(crate) fn write_and_sync(line: &[u8], count: u64) -> Result<Round> {
    let folder = Folder::new()?;
    let file = File::create(folder.path().join("bytes"))?;
    let bytes = line.len() as u64;
    Round::of(count, bytes * count, || {
        for number in 0..count {
            file.write_all_at(line, number * bytes)?;
            file.sync_data()?;
        }
        Ok(())
    })
}

/// Seconds from starting a program to its first line, for a program that only says its version.
pub(crate) fn start_program(program: &std::path::Path) -> Result<f64> {
    let start = Instant::now();
    let mut child =
        std::process::Command::new(program).arg("--version").stdout(std::process::Stdio::piped()).spawn()?;
    let line = crate::broker::first_line(&mut child)?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(child.wait()?.success() && !line.is_empty(), "{} --version failed", program.display());
    Ok(seconds)
}

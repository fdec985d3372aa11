//! The other end of the broker's socket: cheap, and strict about what it gets.

use crate::lines::Expected;
use anyhow::{Context, Result, bail, ensure};
use plainlog::log::record::parse_u63;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// Bytes that are read at once.
pub(crate) const BUFFER: usize = 256 * 1024;
/// A broker that says nothing for so long has lost an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that sends at once and does not wait for ever.
pub(crate) fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends one line and reads a line of answer.
pub(crate) fn ask(mut stream: &TcpStream, line: &str) -> Result<String> {
    stream.write_all(format!("{line}\n").as_bytes())?;
    let (mut answer, mut byte) = (Vec::new(), [0]);
    loop {
        stream.read_exact(&mut byte).with_context(|| format!("the answer to '{line}'"))?;
        match byte[0] {
            b'\n' => return Ok(String::from_utf8(answer)?),
            byte => answer.push(byte),
        }
    }
}

/// [`ask`], where only one answer will do.
pub(crate) fn ask_for(stream: &TcpStream, line: &str, expected: &str) -> Result<()> {
    let answer = ask(stream, line)?;
    ensure!(answer == expected, "'{line}' was answered with '{answer}' instead of '{expected}'");
    Ok(())
}

/// Sends and receives at the same time, each on a thread.
pub(crate) fn pipeline(
    stream: &TcpStream,
    send: impl FnOnce(&TcpStream) -> io::Result<()> + Send,
    expected: &Expected,
) -> Result<()> {
    thread::scope(|scope| {
        let sending = scope.spawn(move || send(stream));
        let received = receive(stream, expected);
        if received.is_err() {
            // Or the sender would wait for a broker that waits for a reader.
            let _ = stream.shutdown(Shutdown::Both);
        }
        let sent = sending.join().expect("a sender does not panic");
        received?;
        Ok(sent?)
    })
}

/// Receives what is expected, or says what came instead.
pub(crate) fn receive(mut stream: &TcpStream, expected: &Expected) -> Result<()> {
    // The end of what was read so far stays at the front of the buffer, so that the first and the last line are whole.
    let keep = expected.first.len().max(expected.last.len()) + 1;
    let mut buffer = vec![0; keep + BUFFER];
    let (mut lines, mut bytes, mut kept) = (0, 0, 0);
    while lines < expected.lines {
        let read = stream.read(&mut buffer[kept..]).with_context(|| {
            format!("after {lines} of {} lines, ending in '{}'", expected.lines, last_line(&buffer[..kept]))
        })?;
        ensure!(read > 0, "closed after {lines} of {} lines: '{}'", expected.lines, last_line(&buffer[..kept]));
        lines += memchr::memchr_iter(b'\n', &buffer[kept..kept + read]).count() as u64;
        let held = kept + read;
        if bytes < keep as u64 {
            check_first(&buffer[..held], &expected.first)?;
        }
        bytes += read as u64;
        kept = held.min(keep);
        buffer.copy_within(held - kept..held, 0);
    }
    let last = last_line(&buffer[..kept]);
    ensure!(last == expected.last, "the last line is '{last}' instead of '{}'", expected.last);
    ensure!(lines == expected.lines, "{lines} lines came instead of {}", expected.lines);
    ensure!(bytes == expected.bytes, "{lines} lines had {bytes} bytes instead of {}", expected.bytes);
    Ok(())
}

/// `held` is all that came so far.
fn check_first(held: &[u8], expected: &str) -> Result<()> {
    if let Some(end) = memchr::memchr(b'\n', held) {
        let first = String::from_utf8_lossy(&held[..end]);
        ensure!(first == expected, "the first line is '{first}' instead of '{expected}'");
    }
    Ok(())
}

fn last_line(held: &[u8]) -> String {
    let held = held.strip_suffix(b"\n").unwrap_or(held);
    let start = memchr::memrchr(b'\n', held).map_or(0, |end| end + 1);
    String::from_utf8_lossy(&held[start..]).into_owned()
}

/// An offset that was acknowledged, and how long that took.
pub(crate) struct Ack {
    pub(crate) offset: u64,
    pub(crate) taken: Duration,
}

/// Sends a line and waits for its `ACK offset:<n>`, `count` times.
pub(crate) fn ping_pong(mut stream: &TcpStream, line: &[u8], count: u64) -> Result<Vec<Ack>> {
    let mut answer = [0; 256];
    let mut acks = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let start = Instant::now();
        stream.write_all(line)?;
        let mut length = 0;
        while length == 0 || answer[length - 1] != b'\n' {
            let read = stream.read(&mut answer[length..])?;
            ensure!(read > 0, "closed after '{}'", String::from_utf8_lossy(&answer[..length]));
            length += read;
        }
        let taken = start.elapsed();
        let answer = &answer[..length - 1];
        match answer.strip_prefix(b"ACK offset:").and_then(parse_u63) {
            Some(offset) => acks.push(Ack { offset, taken }),
            None => bail!("answered with '{}'", String::from_utf8_lossy(answer)),
        }
    }
    Ok(acks)
}

/// What FETCH answered in all.
#[derive(Default)]
pub(crate) struct Fetched {
    pub(crate) batches: u64,
    /// Of the lines.
    pub(crate) bytes: u64,
}

/// FETCHes a partition of `records` records from its start. The next answer is asked for as soon as the head of this
/// one tells where it starts.
pub(crate) fn fetch_all(mut stream: &TcpStream, topic: &str, records: u64) -> Result<Fetched> {
    let mut reader = BufReader::with_capacity(BUFFER, stream);
    let mut head = Vec::new();
    let (mut offset, mut fetched) = (0, Fetched::default());
    stream.write_all(format!("FETCH {topic}/0 0\n").as_bytes())?;
    while offset < records {
        let (count, next) = records_head(&mut reader, &mut head, topic, records)?;
        if next < records {
            stream.write_all(format!("FETCH {topic}/0 {next}\n").as_bytes())?;
        }
        for _ in 0..count {
            let batch = batch_head(&mut reader, &mut head)?;
            ensure!(batch.first == offset, "a batch starts at {} instead of {offset}", batch.first);
            let lines = skip_lines(&mut reader, batch.bytes)?;
            ensure!(lines == batch.count, "the batch at {offset} has {lines} lines instead of {}", batch.count);
            offset += lines;
            fetched.bytes += batch.bytes;
        }
        ensure!(offset == next && count > 0, "{count} batches ended at {offset} instead of {next}");
        fetched.batches += count;
    }
    Ok(fetched)
}

struct Batch {
    first: u64,
    count: u64,
    bytes: u64,
}

/// Reads `RECORDS topic: partition: count: next: end:`.
fn records_head(reader: &mut impl BufRead, line: &mut Vec<u8>, topic: &str, end: u64) -> Result<(u64, u64)> {
    read_line(reader, line)?;
    let start = format!("RECORDS topic:{topic} partition:0");
    let parsed = line.strip_prefix(start.as_bytes()).and_then(|mut rest| {
        let (count, next) = (number(&mut rest, b" count:")?, number(&mut rest, b" next:")?);
        (number(&mut rest, b" end:")? == end && rest.is_empty()).then_some((count, next))
    });
    parsed.with_context(|| format!("'{}' is no head of {topic}/0 up to {end}", String::from_utf8_lossy(line)))
}

/// Reads `BATCH first: count: timestamp: bytes:`.
fn batch_head(reader: &mut impl BufRead, line: &mut Vec<u8>) -> Result<Batch> {
    read_line(reader, line)?;
    let parsed = line.strip_prefix(b"BATCH").and_then(|mut rest| {
        let (first, count) = (number(&mut rest, b" first:")?, number(&mut rest, b" count:")?);
        number(&mut rest, b" timestamp:")?;
        let bytes = number(&mut rest, b" bytes:")?;
        rest.is_empty().then_some(Batch { first, count, bytes })
    });
    parsed.with_context(|| format!("'{}' is no head of a batch", String::from_utf8_lossy(line)))
}

fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> Result<()> {
    line.clear();
    reader.read_until(b'\n', line)?;
    ensure!(line.pop() == Some(b'\n'), "closed within a line");
    Ok(())
}

/// Takes `name` and the number behind it off the front.
fn number(rest: &mut &[u8], name: &[u8]) -> Option<u64> {
    let tail = rest.strip_prefix(name)?;
    let (digits, tail) = tail.split_at(tail.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(tail.len()));
    *rest = tail;
    parse_u63(digits)
}

/// Reads over `bytes` bytes and counts the lines that end in them.
fn skip_lines(reader: &mut impl BufRead, mut bytes: u64) -> Result<u64> {
    let mut lines = 0;
    while bytes > 0 {
        let held = reader.fill_buf()?;
        let part = &held[..held.len().min(usize::try_from(bytes)?)];
        ensure!(!part.is_empty(), "closed within a batch");
        lines += memchr::memchr_iter(b'\n', part).count() as u64;
        bytes -= part.len() as u64;
        ensure!(bytes > 0 || part.ends_with(b"\n"), "a batch ends within a line");
        let taken = part.len();
        reader.consume(taken);
    }
    Ok(lines)
}

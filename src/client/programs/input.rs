//! Splits what is piped or typed into a program into messages.
//!
//! A thread of its own reads, so that the caller can ask whether a message is there without waiting, and can be interrupted
//! while it waits.
//!
//! - A delimiter ends a message, and so does the end of the input. A line ends in LF or CR LF, as on the broker's port;
//!   any other delimiter is taken literally. All other bytes, NUL too, belong to the message.
//! - A message longer than [`MESSAGE_BYTES_MAX`], which no broker would take, is skipped without being held in memory.

use memchr::memmem;
use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
};

/// A broker writes at most 64 MiB at once.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What is wrong with a longer one.
pub const TOO_LONG: &str = "it is longer than 64 MiB, which no broker takes";

/// What is read at once.
const CHUNK_BYTES: usize = 128 << 10;

#[derive(Debug)]
enum Event {
    Chunk(Vec<u8>),
    End(io::Result<()>),
    Interrupted,
}

/// One message of the input.
#[derive(Debug, PartialEq)]
pub enum Piece<'a> {
    /// Its bytes, without the delimiter.
    Message(&'a [u8]),
    /// It is longer than [`MESSAGE_BYTES_MAX`].
    TooLong,
}

/// Messages, as they come.
#[derive(Debug)]
pub struct Input {
    delimiter: memmem::Finder<'static>,
    /// Whether a CR before the delimiter belongs to it.
    drops_cr: bool,
    events: Receiver<Event>,
    sender: SyncSender<Event>,
    interrupted: Arc<AtomicBool>,
    peeked: Option<Event>,
    buffer: Vec<u8>,
    start: usize,
    /// No delimiter begins before this.
    searched: usize,
    skipping: bool,
    ended: bool,
    taken: u64,
}

impl Input {
    /// Begins to read. The delimiter has at least one byte; without one, each line is a message.
    pub fn open(mut source: impl Read + Send + 'static, delimiter: Option<&[u8]>) -> Input {
        let (sender, events) = mpsc::sync_channel(2);
        let chunks = sender.clone();
        thread::spawn(move || {
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let event = match source.read(&mut chunk) {
                    Ok(0) => Event::End(Ok(())),
                    Ok(length) => {
                        chunk.truncate(length);
                        Event::Chunk(chunk)
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Event::End(Err(error)),
                };
                let last = matches!(event, Event::End(_));
                if chunks.send(event).is_err() || last {
                    return;
                }
            }
        });
        Input {
            delimiter: memmem::Finder::new(delimiter.unwrap_or(b"\n")).into_owned(),
            drops_cr: delimiter.is_none(),
            events,
            sender,
            interrupted: Arc::default(),
            peeked: None,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            skipping: false,
            ended: false,
            taken: 0,
        }
    }

    /// What ends the input early, from another thread: no more pieces come.
    pub fn interrupter(&self) -> impl Fn() + Send + 'static {
        let (interrupted, sender) = (self.interrupted.clone(), self.sender.clone());
        move || {
            interrupted.store(true, Relaxed);
            // A full channel means that nobody is waiting for it.
            let _ = sender.try_send(Event::Interrupted);
        }
    }

    /// The next message, waiting for it; none when no more come.
    pub fn next_piece(&mut self) -> io::Result<Option<Piece<'_>>> {
        while self.find().is_none() {
            if !self.wait()? {
                return Ok(None);
            }
        }
        Ok(self.next_buffered())
    }

    /// The next message, if it is here.
    pub fn next_buffered(&mut self) -> Option<Piece<'_>> {
        let (end, next) = self.find()?;
        let message = &self.buffer[self.start..end];
        self.taken += (next - self.start) as u64;
        (self.start, self.searched) = (next, next);
        if std::mem::take(&mut self.skipping) {
            return Some(Piece::TooLong);
        }
        let cr = if self.drops_cr { message.strip_suffix(b"\r") } else { None };
        Some(Piece::Message(cr.unwrap_or(message)))
    }

    /// Where the next message ends, and where the one behind it begins.
    fn find(&mut self) -> Option<(usize, usize)> {
        if self.interrupted.load(Relaxed) {
            return None;
        }
        let end = self.buffer.len();
        match self.delimiter.find(&self.buffer[self.searched..]) {
            Some(at) => Some((self.searched + at, self.searched + at + self.delimiter.needle().len())),
            None if self.ended && self.start < end => Some((end, end)),
            None => None,
        }
    }

    /// Whether `wait` would return at once.
    pub fn has_more(&mut self) -> bool {
        if self.peeked.is_none() {
            self.peeked = self.events.try_recv().ok();
        }
        self.peeked.is_some()
    }

    /// Waits for more; `false` if nothing more comes.
    pub fn wait(&mut self) -> io::Result<bool> {
        if self.ended || self.interrupted.load(Relaxed) {
            return Ok(false);
        }
        let peeked = self.peeked.take();
        match peeked.unwrap_or_else(|| self.events.recv().expect("this end holds a sender")) {
            Event::Chunk(chunk) => {
                self.append(&chunk);
                Ok(true)
            }
            Event::End(result) => {
                self.ended = true;
                result.map(|()| self.start < self.buffer.len())
            }
            Event::Interrupted => Ok(false),
        }
    }

    /// Bytes of the messages taken so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether it was interrupted, be it after its end.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Relaxed)
    }

    /// Whether all of the input was taken.
    pub fn is_exhausted(&self) -> bool {
        self.ended && self.start == self.buffer.len()
    }

    fn append(&mut self, chunk: &[u8]) {
        self.buffer.drain(..self.start);
        let kept = self.delimiter.needle().len() - 1;
        self.searched = self.buffer.len().saturating_sub(kept);
        self.start = 0;
        if self.buffer.len() > MESSAGE_BYTES_MAX {
            self.taken += self.searched as u64;
            self.buffer.drain(..self.searched);
            (self.searched, self.skipping) = (0, true);
        }
        self.buffer.extend_from_slice(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(source: impl Read + Send + 'static, delimiter: Option<&[u8]>) -> Vec<Option<Vec<u8>>> {
        let mut input = Input::open(source, delimiter);
        let mut found = Vec::new();
        loop {
            match input.next_buffered() {
                Some(Piece::Message(bytes)) => found.push(Some(bytes.to_vec())),
                Some(Piece::TooLong) => found.push(None),
                None => {
                    if !input.wait().unwrap() {
                        break;
                    }
                }
            }
        }
        assert!(input.is_exhausted());
        found
    }

    fn texts(source: &'static [u8], delimiter: Option<&[u8]>) -> Vec<String> {
        let whole = pieces(source, delimiter);
        assert_eq!(pieces(Drip(source), delimiter), whole);
        whole.into_iter().map(|piece| String::from_utf8(piece.unwrap()).unwrap()).collect()
    }

    /// Gives one byte a read.
    struct Drip(&'static [u8]);

    impl Read for Drip {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let length = self.0.len().min(1);
            self.0.read(&mut out[..length])
        }
    }

    #[test]
    fn every_line_is_a_message_and_nothing_else_ends_one() {
        assert_eq!(texts(b"a\n\nexit\n\0b\rc", None), ["a", "", "exit", "\0b\rc"]);
        assert_eq!(texts(b"a\n", None), ["a"]);
        assert_eq!(texts(b"", None), [""; 0]);
    }

    /// A file written on Windows was stored with a CR at the end of each message, though the same lines sent to the
    /// port with nc were stored without.
    #[test]
    fn a_cr_before_the_line_end_is_part_of_it_but_not_of_a_delimiter_that_was_asked_for() {
        assert_eq!(texts(b"a\r\n\r\nb\r\r\nc\r", None), ["a", "", "b\r", "c"]);
        assert_eq!(texts(b"a\r\nb\r", Some(b"\n")), ["a\r", "b\r"]);
    }

    #[test]
    fn a_delimiter_may_have_several_bytes() {
        assert_eq!(texts(b"a--b-c---d--", Some(b"--")), ["a", "b-c", "-d"]);
    }

    #[test]
    fn what_is_too_long_is_skipped_to_its_end() {
        let long = io::repeat(b'x').take(2 * MESSAGE_BYTES_MAX as u64);
        let source = io::Cursor::new(b"a\n").chain(long).chain(io::Cursor::new(b"\nb\n"));
        assert_eq!(pieces(source, None), [Some(b"a".to_vec()), None, Some(b"b".to_vec())]);
    }

    #[test]
    fn an_interrupt_ends_a_wait() {
        let (reader, _writer) = io::pipe().unwrap();
        let mut input = Input::open(reader, None);
        thread::spawn(input.interrupter());
        assert!(!input.wait().unwrap());
        assert!(!input.is_exhausted());
    }
}

//! The serving loop: takes the lines out of what arrived, carries them out, sends the answers, waits for more.
//!
//! A line is held only as it arrives, and only up to the limit: four times the largest `max.message.bytes` (an escape is
//! four bytes) and 64 KiB. What is longer is refused and skipped to its end without being held.

#[cfg(feature = "users")]
use super::users;
use super::{
    Flow, LineCount, Refusal, Session, Stop,
    verbs::{self, VERBS},
    words::Words,
    writing::Gathered,
};
use crate::{
    backend::Backend,
    broker::Code,
    log::record::{shown, split_word},
    protocol::connection::{Input, Output},
};
use std::{borrow::Cow, io, time::Instant};

/// What a line may have beside four times the largest message.
const LINE_BYTES_MORE: usize = 64 << 10;
/// What may arrive before it is looked at, however short lines must be.
const BYTES_AT_ONCE: usize = 1 << 20;
/// Lines that are answered together at most,
const UNANSWERED_LINES: usize = 32_768;
/// and what arrives before they are.
const UNANSWERED_BYTES: usize = 8 << 20;
/// Answers are sent when they are this many bytes, though there are lines left;
const ANSWERS_BYTES: usize = 256 << 10;
/// those of lines that are gathered, which come in thousands, at so many.
const GATHERED_ANSWERS_BYTES: usize = 4 << 20;

/// Serves a connection until either side has enough of it.
pub fn serve(broker: &Backend, input: &mut Input<'_>, output: &mut Output<'_>) -> io::Result<()> {
    let mut lines = Lines { session: Session::new(broker), count: 0, counted: 0, skipping: false, searched: 0 };
    let served = lines.serve(input, output);
    // A broken connection leaves what it wrote to be shown to others.
    lines.session.settle(output);
    lines.session.answer(output);
    lines.session.count_run();
    lines.tell_connection(output);
    served.and_then(|()| output.flush())
}

/// The lines of a connection.
struct Lines {
    session: Session,
    /// Lines carried out so far.
    count: u64,
    /// How many of them were counted for the connection.
    counted: u64,
    /// Whether a line that was too long is being skipped.
    skipping: bool,
    /// How many bytes of the line that is arriving hold no line end.
    searched: usize,
}

impl Lines {
    fn serve(&mut self, input: &mut Input<'_>, output: &mut Output<'_>) -> io::Result<()> {
        let mut unanswered = 0;
        loop {
            if self.session.answers.is_empty() {
                self.session.lap = Instant::now();
            }
            let (used, flow) = self.pass(input.bytes(), output)?;
            self.session.count_run();
            self.tell_connection(output);
            input.consume(used);
            unanswered += used;
            if flow == Flow::Close || output.stopping() {
                return Ok(());
            }
            if input.ended() {
                return self.last(input.bytes(), output);
            }
            output.slow_down(self.session.written.take_wait());
            let few =
                !output.is_slowed() && unanswered < UNANSWERED_BYTES && output.bytes.len() < GATHERED_ANSWERS_BYTES;
            let is_owing = !self.session.answers.is_empty() || !self.session.unsettled.is_empty();
            if few && is_owing && input.more_waits()? {
                self.session.written.sync_soon();
            } else {
                self.session.settle(output);
                self.session.answer(output);
                output.flush()?;
                unanswered = 0;
            }
            self.check_length(input, output)?;
            let held = input.bytes().len();
            let most = if held < BYTES_AT_ONCE && !self.session.is_stranger { BYTES_AT_ONCE } else { self.limit() + 1 };
            input.fill(most.saturating_sub(held).max(1), output, || self.session.read.free())?;
        }
    }

    /// Counts the lines that were not counted yet for the connection.
    fn tell_connection(&mut self, output: &Output<'_>) {
        let count = self.count - std::mem::replace(&mut self.counted, self.count);
        output.counted().requested(count, self.session.lap);
    }

    /// Carries out the whole lines at the start of `bytes`. Answers how many bytes they took.
    fn pass(&mut self, bytes: &[u8], output: &mut Output<'_>) -> io::Result<(usize, Flow)> {
        let mut at = 0;
        if self.count == 0 && bytes.starts_with(b"\xef\xbb\xbf") {
            at = 3;
        }
        let mut gathered = Gathered::default();
        let mut from = at.max(std::mem::take(&mut self.searched));
        while let Some(end) = memchr::memchr(b'\n', &bytes[from..]) {
            let line = &bytes[at..=from + end];
            at = from + end + 1;
            from = at;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if line.len() > LINE_BYTES_MORE && line.len() > self.limit() {
                self.count += 1;
                let refusal = too_long(self.limit());
                gathered.refuse(&mut self.session, verbs::NONE, refusal);
                continue;
            }
            if self.line(line, &mut gathered, output)? == Flow::Close {
                return Ok((at, Flow::Close));
            }
        }
        gathered.write(&mut self.session);
        if self.skipping {
            at = bytes.len();
        }
        self.searched = bytes.len() - at;
        Ok((at, Flow::Next))
    }

    /// A line with its end.
    fn line<'a>(&mut self, whole: &'a [u8], gathered: &mut Gathered<'a>, output: &mut Output<'_>) -> io::Result<Flow> {
        self.count += 1;
        let line = whole.strip_suffix(b"\n").unwrap_or(whole);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        #[cfg(feature = "http")]
        if let Some(asker) = self.session.watcher(line, output) {
            gathered.complete(&mut self.session, output);
            let seen = self.session.without_secret(whole).into_owned();
            self.session.begin_watch(asker, &seen, output);
            let flow = self.carry_out(line, gathered, output);
            gathered.complete(&mut self.session, output);
            self.session.end_watch(output);
            return flow;
        }
        self.carry_out(line, gathered, output)
    }

    fn carry_out<'a>(
        &mut self,
        line: &'a [u8],
        gathered: &mut Gathered<'a>,
        output: &mut Output<'_>,
    ) -> io::Result<Flow> {
        let (word, rest) = split_word(line);
        let explained = self.session.steps.is_some().then_some(output.bytes.len());
        if self.session.is_stranger {
            return self.other(line, word, rest, gathered, output);
        }
        if word.eq_ignore_ascii_case(b"PRODUCE") {
            self.session.count_run();
            gathered.produce(&mut self.session, rest);
        } else if word.eq_ignore_ascii_case(b"SEND") {
            self.session.count_run();
            gathered.send(&mut self.session, Words::new(rest));
        } else {
            return self.other(line, word, rest, gathered, output);
        }
        if let Some(before) = explained {
            gathered.complete(&mut self.session, output);
            self.tell(line, before, output);
        } else if self.session.answers.len() >= UNANSWERED_LINES {
            gathered.complete(&mut self.session, output);
            if output.bytes.len() >= GATHERED_ANSWERS_BYTES {
                self.session.settle(output);
                output.flush()?;
            }
        }
        Ok(Flow::Next)
    }

    /// Any verb but those that are gathered.
    fn other<'a>(
        &mut self,
        line: &'a [u8],
        word: &'a [u8],
        rest: Option<&'a [u8]>,
        gathered: &mut Gathered<'a>,
        output: &mut Output<'_>,
    ) -> io::Result<Flow> {
        let number = match self.session.verb(word) {
            Ok(number) => number,
            Err(refusal) => {
                self.session.count_run();
                gathered.refuse(&mut self.session, verbs::NONE, refusal);
                let before = output.bytes.len();
                gathered.complete(&mut self.session, output);
                self.tell(line, before, output);
                // An answer may be seventy times its line.
                if output.bytes.len() >= ANSWERS_BYTES {
                    self.session.settle(output);
                    output.flush()?;
                }
                return Ok(Flow::Next);
            }
        };
        gathered.complete(&mut self.session, output);
        output.slow_down(self.session.written.take_wait());
        let is_full = output.bytes.len() >= ANSWERS_BYTES || output.is_slowed();
        if is_full || self.session.owes_before(number) {
            self.session.settle(output);
        }
        if is_full {
            output.flush()?;
            output.rest()?;
        }
        if self.session.run.verb != number {
            // It may wait for long.
            self.session.count_run();
            self.tell_connection(output);
            self.session.run.verb = number;
        }
        let before = output.bytes.len();
        let verb = &VERBS[number];
        let may_run = self.session.stage.may_run(verb.name).map_err(Stop::from);
        let flow = match may_run.and_then(|()| (verb.run)(&mut self.session, Words::new(rest), output)) {
            Ok(flow) => flow,
            Err(Stop::Refused(refusal)) => {
                self.session.run.errors += 1;
                self.session.stage.refuse(&refusal, &mut output.bytes);
                Flow::Next
            }
            Err(Stop::Broken(error)) => return Err(error),
        };
        self.session.run.lines += 1;
        self.tell(line, before, output);
        Ok(flow)
    }

    /// With `--explain`: who asked what, what was done, and the first line of the answer.
    fn tell(&mut self, line: &[u8], before: usize, output: &Output<'_>) {
        let Some(steps) = self.session.steps.take() else { return };
        let peer = output.peer;
        let meaning = verbs::find(split_word(line).0).map_or("no verb", |number| VERBS[number].meaning);
        let line = shown(&self.session.without_secret(line));
        crate::tell::tell(format_args!("{peer} asks: {line} ({meaning})"));
        for step in steps {
            crate::tell::tell(format_args!("{peer}   {step}"));
        }
        self.session.steps = Some(Vec::new());
        // Answers that were sent before a wait are not there any more.
        let answer = output.bytes.get(before..).unwrap_or(&output.bytes);
        let first = answer.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let more = memchr::memchr_iter(b'\n', answer).count().saturating_sub(1);
        let more = if more > 0 { format!(" and {more} lines more") } else { String::new() };
        crate::tell::tell(format_args!("{peer}   answers: {}{more}", shown(first)));
    }

    /// The most bytes that a line may have. It looks at every topic: ask it only of long lines.
    fn limit(&self) -> usize {
        if self.session.is_stranger {
            return LINE_BYTES_MORE;
        }
        4 * self.session.broker.message_bytes_max() + LINE_BYTES_MORE
    }

    /// Refuses a line that is too long though its end did not arrive yet.
    fn check_length(&mut self, input: &mut Input<'_>, output: &mut Output<'_>) -> io::Result<()> {
        let length = input.bytes().len();
        if length > LINE_BYTES_MORE && length > self.limit() {
            input.consume(length);
            self.searched = 0;
            if !std::mem::replace(&mut self.skipping, true) {
                self.count += 1;
                self.session.settle(output);
                self.session.answer(output);
                let refusal = too_long(self.limit());
                self.session.stage.refuse(&refusal, &mut output.bytes);
                self.session.count([LineCount { verb: verbs::NONE, lines: 1, errors: 1 }]);
                output.flush()?;
            }
        }
        Ok(())
    }

    /// What end of input cut short is carried out only if it is the connection's only line.
    fn last(&mut self, rest: &[u8], output: &mut Output<'_>) -> io::Result<()> {
        if rest.is_empty() || self.skipping {
            return Ok(());
        }
        let mut gathered = Gathered::default();
        if self.count == 0 {
            let line = rest.strip_prefix(b"\xef\xbb\xbf").unwrap_or(rest);
            self.line(line, &mut gathered, output)?;
        } else {
            gathered.refuse(
                &mut self.session,
                verbs::NONE,
                Refusal::invalid("the last line has no line end, so it may be incomplete; it was not carried out"),
            );
        }
        gathered.complete(&mut self.session, output);
        Ok(())
    }
}

impl Session {
    /// The number of a verb, if there is one of this name that the connection may say.
    fn verb(&self, word: &[u8]) -> Result<usize, Refusal> {
        let number = verbs::find(word).ok_or_else(|| verbs::unknown(word))?;
        #[cfg(feature = "users")]
        if self.is_stranger && !users::OF_STRANGERS.contains(&VERBS[number].name) {
            return Err(users::log_in_first());
        }
        Ok(number)
    }

    /// A line as others may see it: without passwords, also where their verb is misspelt.
    fn without_secret<'a>(&self, line: &'a [u8]) -> Cow<'a, [u8]> {
        #[cfg(feature = "users")]
        {
            let (word, rest) = split_word(line);
            let name = verbs::find(word).map(|number| VERBS[number].name);
            let may_be_secret = match name {
                Some("AUTH" | "USER") => true,
                None => self.broker.config().security.users,
                Some(_) => false,
            };
            if may_be_secret && rest.is_some() {
                return [word, b" ***"].concat().into();
            }
        }
        line.into()
    }
}

fn too_long(limit: usize) -> Refusal {
    let text = format!("the line is longer than {limit} bytes; the rest of it is skipped");
    Refusal { code: Code::MessageTooLarge, text }
}

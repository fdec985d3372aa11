//! Records as they come: NDJSON, server-sent events, CSV. What is read is sent on at once, and a client that reads slowly is
//! waited for.
//!
//! ```text
//! id: 0:16,1:4                         before any record: an id alone, so that nothing is lost with the connection
//!
//! id: 0:17,1:4                         a record, and the last offset of each partition so far
//! data: {"topic":...}
//!
//! event: gap                           what was asked for and is not there; no id: it is told again until a record came
//! data: {"partition":0,"from":3,"to":9,"message":"..."}
//!
//! event: progress                      of a search: bytes that were looked through, of how many
//! id: 0:900,1:880
//! data: {"bytes":1048576,"of":4194304}
//!
//! event: refused                       why it ends before its end: the topic is gone, a right, the session; no id
//! data: {"error":"SASL_AUTHENTICATION_FAILED","message":"..."}
//!
//! event: end                           where the read is bounded; who comes with this id gets 204, which ends an EventSource
//! id: end
//! data: {}
//! ```
//!
//! In NDJSON a gap, a search's progress and what ends it early are objects of one member, `{"gap":{...}}`, `{"progress":{...}}` and
//! `{"refused":{...}}`. Only an answer that was not broken off has its last chunk.

use super::{
    asked::{Asked, Begin, after_event},
    csv,
    reading::{Cursor, Gap, Reading, gone, unreadable},
};
use crate::{
    backend::PartitionHandle,
    broker::Position,
    log::{
        Line,
        record::{write_i64, write_u64},
    },
    protocol::{
        http::{
            exchange::{COMMENT_EVERY, EVENT_HEADERS, Exchange, Stream},
            refusal::{Refusal, Stop},
            route::EVENTS,
        },
        record_json,
    },
    security::Quota,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How often a search says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A JSON object a line.
    Lines,
    Events,
    Csv,
}

/// Answers with events, from where the client was.
pub(super) fn events(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let mut asked = Asked::parse(exchange)?;
    asked.can_be_named()?;
    if asked.wait.is_some() {
        return Err(Refusal::invalid("wait= is not for events, which come as long as somebody reads them").into());
    }
    match exchange.head.header("last-event-id").filter(|id| !id.is_empty()) {
        Some("end") => return exchange.answer(204, "", "", b""),
        Some(id) => asked.from = Some(after_event(id)?),
        None => {}
    }
    stream(exchange, asked, Form::Events, EVENTS, EVENT_HEADERS)
}

/// Answers with records until the end of what is asked, or the client goes.
pub(super) fn stream(
    exchange: &mut Exchange<'_, '_>,
    asked: Asked,
    form: Form,
    content_type: &str,
    headers: &str,
) -> Result<(), Stop> {
    if matches!(asked.from, Some(Begin::Before(_))) {
        return Err(Refusal::invalid("from=before: is for pages, which are application/json").into());
    }
    let deadline = asked.wait.map(|wait| Instant::now().checked_add(wait));
    let waits = form == Form::Events || deadline.is_some();
    let (deadline, left, bytes_max) = (deadline.flatten(), asked.count, asked.bytes_max);
    let grows = waits && asked.only.is_none() && asked.to.is_none();
    let begin = if form == Form::Events { Position::Latest } else { Position::Earliest };
    let mut reading = Reading::new(exchange, asked, begin)?;
    if !waits {
        reading.end_now()?;
    }
    let progress = match reading.has_filter() {
        true => Some(Progress::begin(&reading)?),
        false => None,
    };
    let (broker, waiter) = (exchange.broker, exchange.output.waiter.clone());
    if exchange.head.method == "HEAD" {
        return exchange.stream(content_type, headers).finish();
    }
    let (topic, stream) = (reading.topic.name().to_string(), exchange.stream(content_type, headers));
    let mut sending = Sending { stream, form, topic, left, bytes_max, bytes: 0, progress, is_full: false };
    let mut send = |sending: &mut Sending<'_, '_, '_>| -> Result<(), Stop> {
        sending.open(&mut reading)?;
        while !sending.is_over(&reading) {
            // Registered before anything is looked at, so that nothing comes unseen in between.
            let _topic = waits.then(|| broker.register(&waiter));
            if grows {
                reading.grow();
            }
            let partitions: Vec<PartitionHandle> =
                reading.cursors.iter().map(|cursor| cursor.partition.clone()).collect();
            let _records: Vec<_> =
                partitions.iter().filter(|_| waits).map(|partition| partition.register(&waiter)).collect();
            if !sending.send_all(&mut reading, deadline)? || !waits {
                break;
            }
            reading.free();
            if !sending.wait(&reading, deadline)? {
                break;
            }
        }
        Ok(())
    };
    match send(&mut sending) {
        Ok(()) => sending.close(),
        Err(stop) => Err(sending.break_off(stop)),
    }
}

/// An answer on its way.
struct Sending<'s, 'x, 'c> {
    stream: Stream<'s, 'x, 'c>,
    form: Form,
    topic: String,
    /// How many records are still wanted.
    left: Option<u64>,
    bytes_max: Option<u64>,
    /// Of the lines that were sent.
    bytes: u64,
    /// Whether there was no room for a record.
    is_full: bool,
    progress: Option<Progress>,
}

/// How far a search is.
struct Progress {
    begun_at: u64,
    /// Bytes that stood there when it began; 0: nobody tells.
    of: u64,
    /// Where it began, all partitions together, and how many offsets stood there then, where nobody tells bytes.
    from: u64,
    offsets: u64,
    told: Instant,
    /// Whether all that was there has been looked through.
    caught_up: bool,
}

impl Progress {
    fn begin(reading: &Reading) -> Result<Progress, Stop> {
        let of = reading.backlog()?;
        let offsets = if of == 0 { reading.offsets_ahead()? } else { 0 };
        let from = reading.passed();
        Ok(Progress { begun_at: reading.bytes, of, from, offsets, told: Instant::now(), caught_up: false })
    }

    /// How many bytes there are to be looked through, when so many were, up to there. A cluster tells offsets and no bytes: those that
    /// are left have as many as those that were read.
    fn of(&self, bytes: u64, passed: u64) -> u64 {
        let done = passed.saturating_sub(self.from);
        if self.of > 0 || done == 0 {
            return self.of.max(bytes);
        }
        let of = u128::from(bytes) * u128::from(self.offsets.max(done)) / u128::from(done);
        u64::try_from(of).unwrap_or(u64::MAX)
    }
}

impl Sending<'_, '_, '_> {
    fn is_over(&self, reading: &Reading) -> bool {
        self.left == Some(0) || self.is_full || reading.is_over()
    }

    /// Tells what is missing, then where the client stands.
    fn open(&mut self, reading: &mut Reading) -> Result<(), Stop> {
        self.tell_gaps(reading)?;
        match self.form {
            Form::Lines => {}
            Form::Csv => self.stream.bytes.extend_from_slice(csv::NAMES),
            Form::Events => {
                write_id(&mut self.stream.bytes, &reading.cursors);
                self.stream.bytes.push(b'\n');
            }
        }
        Ok(self.stream.flush()?)
    }

    /// Sends all that is there, the partitions in turn; once `deadline` has passed, no more than was there then: others may write
    /// faster than the client reads. False: it is over.
    fn send_all(&mut self, reading: &mut Reading, mut deadline: Option<Instant>) -> Result<bool, Stop> {
        loop {
            if deadline.take_if(|deadline| *deadline <= Instant::now()).is_some() {
                reading.end_now()?;
            }
            let mut has_read = false;
            for index in 0..reading.cursors.len() {
                has_read |= self.send_some(reading, index)?;
                if self.is_over(reading) {
                    return Ok(false);
                }
            }
            self.tell_progress(reading, !has_read)?;
            reading.check_wanted(self.stream.exchange)?;
            if !has_read {
                return Ok(true);
            }
        }
    }

    /// Sends what one read of one partition gives; answers whether it gave anything.
    fn send_some(&mut self, reading: &mut Reading, index: usize) -> Result<bool, Stop> {
        let partition = reading.cursors[index].partition.index();
        let (mut before, mut behind) = (Vec::new(), Vec::new());
        if self.form == Form::Events {
            write_places(&mut before, &reading.cursors[..index]);
            before.extend_from_slice(if index > 0 { b"," } else { b"" });
            write_u64(&mut before, partition.into());
            before.push(b':');
            behind.extend_from_slice(if index + 1 < reading.cursors.len() { b"," } else { b"" });
            write_places(&mut behind, &reading.cursors[index + 1..]);
        }
        let sent = self.bytes;
        let has_read = reading.read(index, |line| self.send(partition, line, &before, &behind))?;
        let exchange = &mut *self.stream.exchange;
        exchange.output.slow_down(exchange.broker.charge(Quota::FetchedBytes, (self.bytes - sent) as usize));
        self.tell_gaps(reading)?;
        Ok(has_read)
    }

    /// Sends a record, if there is room for it. `before` and `behind` are the id around its offset.
    fn send(&mut self, partition: u32, line: &Line<'_>, before: &[u8], behind: &[u8]) -> Result<bool, Stop> {
        self.bytes += line.text.len() as u64;
        let is_first = self.bytes == line.text.len() as u64;
        self.is_full = !is_first && self.bytes_max.is_some_and(|most| self.bytes > most);
        if self.is_full {
            return Ok(false);
        }
        let out = &mut self.stream.bytes;
        match self.form {
            Form::Csv => csv::write_row(out, &self.topic, partition, line).map_err(unreadable)?,
            Form::Lines => {
                record_json::write_line(out, &self.topic, partition, line).map_err(unreadable)?;
                out.push(b'\n');
            }
            Form::Events => {
                out.extend_from_slice(b"id: ");
                out.extend_from_slice(before);
                write_u64(out, line.offset);
                out.extend_from_slice(behind);
                out.extend_from_slice(b"\ndata: ");
                record_json::write_line(out, &self.topic, partition, line).map_err(unreadable)?;
                out.extend_from_slice(b"\n\n");
            }
        }
        self.stream.send_much()?;
        self.left = self.left.map(|left| left - 1);
        Ok(self.left != Some(0))
    }

    fn tell_gaps(&mut self, reading: &mut Reading) -> Result<(), Stop> {
        for gap in reading.gaps.drain(..) {
            match self.form {
                Form::Events => self.event("gap", None, &gap.json()),
                Form::Lines => self.object(json!({ "gap": gap.json() })),
                // A table has no place for it. What is cut off shows that it is not all.
                Form::Csv => return Err(Refusal::new(500, gap.message).into()),
            }
        }
        Ok(())
    }

    /// Tells now and then how far a search is, and events once it has come to the end.
    fn tell_progress(&mut self, reading: &Reading, at_end: bool) -> Result<(), Stop> {
        let Some(progress) = &mut self.progress else { return Ok(()) };
        let catches_up = at_end && !progress.caught_up;
        progress.caught_up |= at_end;
        if progress.told.elapsed() < PROGRESS_EVERY && !(catches_up && self.form == Form::Events) {
            return Ok(());
        }
        progress.told = Instant::now();
        let bytes = reading.bytes - progress.begun_at;
        let told = json!({ "bytes": bytes, "of": progress.of(bytes, reading.passed()) });
        match self.form {
            Form::Events => self.event("progress", Some(&reading.cursors), &told),
            Form::Lines => self.object(json!({ "progress": told })),
            Form::Csv => {}
        }
        Ok(self.stream.flush()?)
    }

    fn object(&mut self, object: Value) {
        self.stream.bytes.extend_from_slice(object.to_string().as_bytes());
        self.stream.bytes.push(b'\n');
    }

    fn event(&mut self, name: &str, places: Option<&[Cursor]>, data: &Value) {
        let out = &mut self.stream.bytes;
        out.extend_from_slice(format!("event: {name}\n").as_bytes());
        if let Some(cursors) = places {
            write_id(out, cursors);
        }
        out.extend_from_slice(format!("data: {data}\n\n").as_bytes());
    }

    /// Sends what was written and waits for more; false: the time is over.
    fn wait(&mut self, reading: &Reading, deadline: Option<Instant>) -> Result<bool, Stop> {
        let comment = Instant::now() + COMMENT_EVERY;
        let is_silent = self.form == Form::Events;
        let until = if is_silent { Some(deadline.map_or(comment, |deadline| deadline.min(comment))) } else { deadline };
        let goes_on = self.stream.wait(until)?;
        self.stream.exchange.check_login()?;
        if !goes_on {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(false);
            }
            if self.stream.exchange.output.stopping() {
                return Err(gone());
            }
            // Who sends no more may still read what there is; nobody can tell, so there is no more to wait for.
            if !self.stream.goes_on()? {
                return Ok(false);
            }
            self.stream.bytes.extend_from_slice(b":\n\n");
        }
        reading.topic.partition(0)?.still_there()?;
        Ok(true)
    }

    /// Tells why the answer ends before its end, as far as its form can, and why it does.
    fn break_off(mut self, stop: Stop) -> Stop {
        let Stop::Refused(refusal) = &stop else { return stop };
        match self.form {
            Form::Events => self.event("refused", None, &refusal.json()),
            Form::Lines => self.object(json!({ "refused": refusal.json() })),
            Form::Csv => {}
        }
        self.stream.flush().map_or_else(Stop::from, |()| stop)
    }

    fn close(mut self) -> Result<(), Stop> {
        if self.form == Form::Events {
            self.stream.bytes.extend_from_slice(b"event: end\nid: end\ndata: {}\n\n");
        }
        self.stream.finish()
    }
}

impl Gap {
    /// The gap as it is told.
    pub(super) fn json(&self) -> Value {
        json!({ "partition": self.partition, "from": self.from, "to": self.to, "message": self.message })
    }
}

/// The line that says how far each partition was given.
fn write_id(out: &mut Vec<u8>, cursors: &[Cursor]) {
    out.extend_from_slice(b"id: ");
    write_places(out, cursors);
    out.push(b'\n');
}

/// The last offset of each partition that was given, `0:17,1:-1`.
fn write_places(out: &mut Vec<u8>, cursors: &[Cursor]) {
    for (number, cursor) in cursors.iter().enumerate() {
        out.extend_from_slice(if number > 0 { b"," } else { b"" });
        write_u64(out, cursor.partition.index().into());
        out.push(b':');
        write_i64(out, cursor.next as i64 - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_much_there_is_to_search_is_told_or_judged_by_offsets() {
        let progress =
            |of, offsets| Progress { begun_at: 0, of, from: 100, offsets, told: Instant::now(), caught_up: false };
        assert_eq!([0, 500, 2000].map(|bytes| progress(1000, 0).of(bytes, 150)), [1000, 1000, 2000]);
        assert_eq!(progress(0, 200).of(500, 150), 2000, "a quarter is done");
        assert_eq!(progress(0, 200).of(2000, 300), 2000);
        assert_eq!(progress(0, 200).of(3000, 400), 3000, "others wrote meanwhile");
        assert_eq!(progress(0, 0).of(0, 100), 0);
    }
}

//! Writing records: an array, objects line by line, or values line by line.
//!
//! ```text
//! body ──► whole lines that have arrived ──► records ──► written ──► durable ──► counted
//!          └ 1 MiB, or one line of at most what a record takes       └ before there is a wait, and every 8 MiB
//! ```
//!
//! A body of lines may be endless: each line is stored when it has arrived. A line that is too long is read over. An array is
//! read whole, and answered record by record.

use crate::{
    backend::{Gathered, WriteSession},
    broker::{self, Code, Ticket, is_internal},
    log::record::Records,
    protocol::{
        http::{
            exchange::Exchange,
            refusal::{Refusal, Stop},
            route::{JSON, NDJSON},
        },
        record_json,
    },
    security::Operation,
};
use serde_core::{
    Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use serde_json::{json, value::RawValue};
use std::{borrow::Cow, fmt, io::Write};

/// The most bytes of an array, and the most records.
const ARRAY_BYTES_MAX: usize = 16 << 20;
const ARRAY_RECORDS_MAX: usize = 100_000;
/// Lines are written when so many bytes of them have arrived, or no more has.
const WRITTEN_BYTES: usize = 1 << 20;
/// The most lines of one batch.
const WRITTEN_LINES: usize = 16 << 10;
/// What was written is made durable when it is so much, or before a wait.
const UNSYNCED_BYTES: usize = 8 << 20;
/// JSON takes at most so many bytes for each of a record, and so many beside.
const JSON_FACTOR: usize = 6;
const JSON_BYTES: usize = 64 << 10;
/// How many errors of lines are told.
const ERRORS_TOLD: usize = 100;

/// `POST /api/topics/{topic}/records?key=&partition=`
pub(in crate::protocol::http) fn write(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let intake = Intake::new(exchange)?;
    match exchange.head.content_type().as_deref() {
        Some(JSON) => array(exchange, &intake),
        Some(NDJSON) => lines(exchange, &intake, Form::Objects),
        _ => lines(exchange, &intake, Form::Values),
    }
}

/// What each line of a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Objects,
    Values,
}

/// Where records go, and what those have that say nothing of it.
#[derive(Debug)]
struct Intake {
    topic: String,
    /// It goes before what an object says.
    partition: Option<u32>,
    key: Option<Vec<u8>>,
    message_bytes_max: usize,
}

impl Intake {
    /// Refuses the whole request where its address is no place for records.
    fn new(exchange: &Exchange<'_, '_>) -> Result<Intake, Stop> {
        let (broker, topic) = (exchange.broker, exchange.parameters[0].clone());
        let config = broker.config();
        let partition = exchange.head.query.number("partition")?;
        let key = exchange.head.query.bytes("key").map(<[u8]>::to_vec);
        broker::writable(&topic).map_err(|error| match is_internal(&topic) {
            true => Refusal { status: 403, ..error.into() },
            false => error.into(),
        })?;
        let settings = match (broker.find_topic_to(Operation::Write, &topic), partition) {
            (Ok(found), None) => found.settings(),
            (Ok(found), Some(index)) => found.partition(index).map(|_| found.settings())?,
            // How many partitions it would get a cluster does not say before.
            (Err(broker::Error::UnknownTopic(_)), _)
                if config.auto_create && partition.is_none_or(|index| index < config.default_partitions) =>
            {
                broker.topic_defaults()
            }
            (Err(error), _) => return Err(error.into()),
        };
        Ok(Intake { topic, partition, key, message_bytes_max: settings.max_message_bytes as usize })
    }

    /// Adds the record of an object.
    fn add_object(&self, session: &WriteSession, gathered: &mut Gathered<'_>, text: &[u8]) -> Result<Ticket, Refusal> {
        let record = record_json::read(text).map_err(Refusal::invalid)?;
        let key = record.key.or_else(|| self.key.clone());
        let mut one = Records::default();
        one.push(record.timestamp, key.map(Cow::Owned), record.value.map(Cow::Owned));
        record.headers.into_iter().for_each(|(name, value)| one.header(name, value));
        let partition = self.partition.or(record.partition);
        Ok(session.add_last(gathered, &self.topic, partition, &mut one, None)?)
    }

    /// Adds the record of a value.
    fn add_value<'a>(
        &'a self,
        session: &WriteSession,
        gathered: &mut Gathered<'a>,
        value: &'a [u8],
    ) -> Result<Ticket, Refusal> {
        let mut one = Records::default();
        one.push(None, self.key.as_deref().map(Cow::Borrowed), Some(Cow::Borrowed(value)));
        Ok(session.add_last(gathered, &self.topic, self.partition, &mut one, None)?)
    }
}

/// Stores an array, and answers where each record is or why it is nowhere.
fn array(exchange: &mut Exchange<'_, '_>, intake: &Intake) -> Result<(), Stop> {
    let body = exchange.whole_body(ARRAY_BYTES_MAX)?;
    let elements = elements(&body)?;
    let (mut session, mut gathered) = (exchange.broker.write_session(), Gathered::default());
    let add = |element: &&RawValue| intake.add_object(&session, &mut gathered, element.get().as_bytes());
    let tickets: Vec<Result<Ticket, Refusal>> = elements.iter().map(add).collect();
    session.write(&mut gathered);
    exchange.output.slow_down(session.take_wait());
    session.make_durable();
    let (mut answer, mut status) = (b"{\"records\":[".to_vec(), 200);
    for (index, ticket) in tickets.into_iter().enumerate() {
        answer.extend_from_slice(if index > 0 { b"," } else { b"" });
        match ticket.and_then(|ticket| Ok((session.partition_of(ticket), session.offset(ticket)?))) {
            Ok((partition, offset)) => {
                // A cluster that finds a batch sent again does not always tell where it stands.
                let offset = offset.map_or("null".into(), |offset| offset.to_string());
                write!(answer, "{{\"partition\":{partition},\"offset\":{offset}}}")?;
            }
            Err(refusal) => {
                status = 422;
                answer.extend_from_slice(refusal.body().trim_ascii_end());
            }
        }
    }
    answer.extend_from_slice(b"]}\n");
    exchange.answer(status, JSON, "", &answer)
}

/// The elements of an array, of which all are JSON.
fn elements(body: &[u8]) -> Result<Vec<&RawValue>, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let elements = json.deserialize_seq(Elements).and_then(|elements| json.end().map(|()| elements));
    elements.map_err(|error| Refusal::invalid(format!("the body is no JSON array of records: {error}")))
}

struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = sequence.next_element::<&RawValue>()? {
            if elements.len() == ARRAY_RECORDS_MAX {
                let what = format!("it has more than {ARRAY_RECORDS_MAX}; application/x-ndjson has no limit");
                return Err(A::Error::custom(what));
            }
            elements.push(element);
        }
        Ok(elements)
    }
}

/// Stores a body line by line, and answers how many were stored.
fn lines(exchange: &mut Exchange<'_, '_>, intake: &Intake, form: Form) -> Result<(), Stop> {
    let bytes_max = match form {
        // A CR before the line's end is none of its bytes.
        Form::Values => intake.message_bytes_max + 1,
        Form::Objects => intake.message_bytes_max * JSON_FACTOR + JSON_BYTES,
    };
    let mut storing = Storing::new(exchange.broker.write_session(), intake, form);
    let mut lines = Lines { buffer: Vec::new(), whole: 0, bytes_max, is_too_long: false };
    let read = read_lines(exchange, &mut lines, &mut storing);
    // Lines that came whole count, though their body does not end as it should.
    lines.store_whole(&mut storing);
    storing.complete();
    exchange.output.slow_down(storing.session.take_wait());
    match read {
        Ok(()) => {}
        // Whoever sent it shall know what became of it all the same.
        Err(Stop::Refused(refusal)) => {
            let Storing { stored, refused, .. } = storing;
            let message = format!("{}; of what came before, {stored} were stored, {refused} refused", refusal.message);
            return Err(Refusal { message, ..refusal }.into());
        }
        Err(broken) => return Err(broken),
    }
    let Storing { stored, refused, mut errors, .. } = storing;
    errors.sort_by_key(|error| error.line);
    let told = |LineError { line, refusal }: &LineError| json!({ "line": line, "error": refusal.code.name(), "message": refusal.message });
    let errors = errors.iter().map(told).collect::<Vec<_>>();
    let status = if refused == 0 { 200 } else { 422 };
    exchange.json(status, &json!({ "stored": stored, "refused": refused, "errors": errors }))
}

/// Takes a body to its end; what has arrived is stored before more is waited for.
fn read_lines(exchange: &mut Exchange<'_, '_>, lines: &mut Lines, storing: &mut Storing<'_>) -> Result<(), Stop> {
    loop {
        let mut has_arrived = false;
        while lines.buffer.len() < WRITTEN_BYTES.max(lines.bytes_max + 1) {
            let Some(bytes) = exchange.arrived_body()? else { break };
            let count = bytes.len().min(WRITTEN_BYTES);
            if count == 0 {
                lines.end(storing);
                return Ok(());
            }
            lines.append(&bytes[..count]);
            exchange.consume_body(count);
            has_arrived = true;
            if lines.buffer.len() >= WRITTEN_BYTES && lines.whole > 0 {
                break;
            }
        }
        lines.store_whole(storing);
        let wait = storing.session.take_wait();
        if !wait.is_zero() {
            storing.complete();
            exchange.output.slow_down(wait);
            exchange.output.rest()?;
        }
        if !has_arrived {
            storing.complete();
            exchange.body()?;
        }
    }
}

/// The begin of a body's lines that were not stored yet.
#[derive(Debug)]
struct Lines {
    buffer: Vec<u8>,
    /// How many bytes of it are whole lines.
    whole: usize,
    /// Longer ones are not for a record.
    bytes_max: usize,
    /// Whether the line that arrives was found to be too long, and is read over.
    is_too_long: bool,
}

impl Lines {
    fn append(&mut self, mut bytes: &[u8]) {
        if self.is_too_long {
            let Some(end) = memchr::memchr(b'\n', bytes) else { return };
            self.is_too_long = false;
            bytes = &bytes[end + 1..];
        }
        if let Some(last) = memchr::memrchr(b'\n', bytes) {
            self.whole = self.buffer.len() + last + 1;
        }
        self.buffer.extend_from_slice(bytes);
    }

    fn store_whole(&mut self, storing: &mut Storing<'_>) {
        let whole = std::mem::take(&mut self.whole);
        storing.store(&self.buffer[..whole]);
        self.buffer.drain(..whole);
        if self.buffer.len() > self.bytes_max {
            let what = format!("the line has more than {} bytes", self.bytes_max);
            storing.line += 1;
            storing.refuse(storing.line, Refusal { status: 413, code: Code::MessageTooLarge, message: what });
            (self.buffer, self.is_too_long) = (Vec::new(), true);
        }
    }

    /// The last line needs no end.
    fn end(&mut self, storing: &mut Storing<'_>) {
        self.store_whole(storing);
        if !self.buffer.is_empty() {
            self.append(b"\n");
            self.store_whole(storing);
        }
    }
}

/// What becomes of a body's lines.
#[derive(Debug)]
struct Storing<'i> {
    session: WriteSession,
    intake: &'i Intake,
    form: Form,
    /// The line that was taken last, counted from 1.
    line: u64,
    /// Records that were written and are not durable yet.
    written: Vec<WrittenLine>,
    /// Of these lines, with what is kept of each.
    unsynced_bytes: usize,
    stored: u64,
    refused: u64,
    errors: Vec<LineError>,
}

#[derive(Clone, Copy, Debug)]
struct WrittenLine {
    line: u64,
    ticket: Ticket,
}

#[derive(Debug)]
struct LineError {
    line: u64,
    refusal: Refusal,
}

impl<'i> Storing<'i> {
    fn new(session: WriteSession, intake: &'i Intake, form: Form) -> Storing<'i> {
        let (written, errors) = (Vec::new(), Vec::new());
        Storing { session, intake, form, line: 0, written, unsynced_bytes: 0, stored: 0, refused: 0, errors }
    }

    /// Writes whole lines.
    fn store(&mut self, lines: &[u8]) {
        let mut lines = lines.split_inclusive(|&byte| byte == b'\n').peekable();
        while lines.peek().is_some() {
            let mut gathered = Gathered::default();
            for line in lines.by_ref().take(WRITTEN_LINES) {
                self.unsynced_bytes += line.len() + size_of::<WrittenLine>();
                self.take(&mut gathered, &line[..line.len() - 1]);
            }
            self.session.write(&mut gathered);
            if self.unsynced_bytes >= UNSYNCED_BYTES {
                self.complete();
            }
        }
        self.session.sync_soon();
    }

    fn take<'a>(&mut self, gathered: &mut Gathered<'a>, line: &'a [u8])
    where
        'i: 'a,
    {
        self.line += 1;
        let intake: &'i Intake = self.intake;
        let added = match self.form {
            Form::Objects if line.trim_ascii().is_empty() => return,
            Form::Objects => intake.add_object(&self.session, gathered, line),
            Form::Values => intake.add_value(&self.session, gathered, line.strip_suffix(b"\r").unwrap_or(line)),
        };
        match added {
            Ok(ticket) => self.written.push(WrittenLine { line: self.line, ticket }),
            Err(refusal) => self.refuse(self.line, refusal),
        }
    }

    /// Makes durable what was written, and counts it.
    fn complete(&mut self) {
        self.session.make_durable();
        for WrittenLine { line, ticket } in std::mem::take(&mut self.written) {
            match self.session.offset(ticket) {
                Ok(_) => self.stored += 1,
                Err(error) => self.refuse(line, error.into()),
            }
        }
        self.session.clear();
        self.unsynced_bytes = 0;
    }

    fn refuse(&mut self, line: u64, refusal: Refusal) {
        self.refused += 1;
        if self.errors.len() < ERRORS_TOLD {
            self.errors.push(LineError { line, refusal });
        }
    }
}

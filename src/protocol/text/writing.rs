//! PRODUCE and SEND: what arrived together and belongs to one partition is appended together, and answered in order.
//!
//! ```text
//! PRODUCE a   SEND t key:k message:b   PRODUCE c      batch of messages/0: a, c     batch of t/1: b
//! ACK offset:0      ACK topic:t ...    ACK offset:1   tickets: (0, 0) (1, 0) (0, 1)
//! ```
//!
//! All batches are written, then made durable (synced, if the flush mode asks for it), then all lines are answered. While
//! more lines wait in the socket they are written too before anything is synced, up to a bound: one sync for many lines costs
//! each of them little.

use super::{
    Answered, Current, Flow, LineCount, Refusal, Session, verbs,
    words::{Place, Words, number},
};
use crate::{
    backend,
    broker::{Code, ResourceName, Ticket},
    log::{
        Numbering,
        record::{Records, parse_fields, parse_u63, shown, split_word, write_u64},
    },
    protocol::connection::Output,
    security::Operation,
};

/// The list of answers is given back when it grew beyond so many.
const ANSWERS_KEPT: usize = 16_384;

/// Lines that ask for writing, gathered until they are carried out together.
#[derive(Debug, Default)]
pub(super) struct Gathered<'a> {
    records: backend::Gathered<'a>,
    /// Whether the connection knows the partition that PRODUCE writes to.
    known: bool,
    scratch: Records<'a>,
}

/// What a line is answered with once everything is durable.
#[derive(Debug)]
pub(super) enum Answer {
    /// The offset, to a PRODUCE.
    Produced(Ticket),
    /// The offset, if it is known, with topic and partition, to a SEND.
    Sent(Ticket),
    /// An error, to a line with this verb.
    Refused { verb: u16, refusal: Box<Refusal> },
}

impl<'a> Gathered<'a> {
    /// `PRODUCE <message>`: all after the first space.
    pub(super) fn produce(&mut self, session: &mut Session, rest: Option<&'a [u8]>) {
        match self.try_produce(session, rest) {
            Ok(ticket) => session.answers.push(Answer::Produced(ticket)),
            Err(refusal) => self.refuse(session, verbs::PRODUCE, refusal),
        }
    }

    fn try_produce(&mut self, session: &mut Session, rest: Option<&'a [u8]>) -> Result<Ticket, Refusal> {
        let value =
            rest.ok_or_else(|| Refusal::invalid("PRODUCE takes a space and the message, which may be empty"))?;
        session.stage.may_write()?;
        let Current::Named(topic, index, _) = &session.current else { return Err(Current::nothing()) };
        let ticket = session.written.add_value(&mut self.records, topic, *index, value)?;
        if !self.known {
            // A CONSUME behind it is told if the partition is dropped in between. Whoever may only write has none.
            let may_read = session.broker.door().may(Operation::Read, ResourceName::topic(topic)).is_ok();
            match may_read.then(|| session.partition()) {
                Some(Err(refusal)) if refusal.code != Code::TopicAuthorizationFailed => return Err(refusal),
                _ => {}
            }
            self.known = true;
        }
        Ok(ticket)
    }

    /// `SEND <topic>[/<p>] [sequence:] [timestamp:] [key:] [header.N:]... <value field>`
    pub(super) fn send(&mut self, session: &mut Session, words: Words<'a>) {
        match self.try_send(session, words) {
            Ok(ticket) => session.answers.push(Answer::Sent(ticket)),
            Err(refusal) => self.refuse(session, verbs::SEND, refusal),
        }
    }

    fn try_send(&mut self, session: &Session, mut words: Words<'a>) -> Result<Ticket, Refusal> {
        session.stage.may_write()?;
        let place = Place::parse(words.expect("SEND takes <topic>[/<p>] and a record; the topic")?)?;
        let (numbering, fields) = session.numbering(place, words.rest().unwrap_or_default())?;
        parse_fields(&mut self.scratch, fields)?;
        let Place { topic, partition } = place;
        let sent = session.written.add_last(&mut self.records, topic, partition, &mut self.scratch, numbering);
        if sent.is_err() {
            self.scratch.pop();
        }
        Ok(sent?)
    }

    /// Answers a line that is not carried out, whose verb has this number.
    pub(super) fn refuse(&mut self, session: &mut Session, verb: usize, refusal: Refusal) {
        session.stage.doom(&refusal);
        session.answers.push(Answer::Refused { verb: verb as u16, refusal: refusal.into() });
    }

    /// Writes what was gathered; it is answered together with what else is unanswered.
    pub(super) fn write(&mut self, session: &mut Session) {
        session.written.write(&mut self.records);
        self.known = false;
    }

    /// Carries out what was gathered, and writes the answers.
    pub(super) fn complete(&mut self, session: &mut Session, output: &mut Output<'_>) {
        self.write(session);
        session.answer(output);
    }
}

impl Session {
    /// `PRODUCER [<producer_id>]`
    pub(super) fn producer(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let given = words.next().map(|id| number("the producer id", id)).transpose()?;
        words.end()?;
        let id = match given {
            None => self.broker.new_producer_id()?,
            Some(id) => self.broker.known_producer_id(id as i64)?,
        };
        self.producer_id = Some(id);
        output.bytes.extend_from_slice(format!("OK producer_id:{id}\n").as_bytes());
        Ok(Flow::Next)
    }

    /// The number in front of a record's fields, if there is one, and the fields.
    fn numbering<'a>(&self, place: Place<'_>, fields: &'a [u8]) -> Result<(Option<Numbering>, &'a [u8]), Refusal> {
        let (word, rest) = split_word(fields);
        let Some(digits) = word.strip_prefix(b"sequence:") else { return Ok((None, fields)) };
        let sequence = parse_u63(digits).and_then(|sequence| i32::try_from(sequence).ok());
        let why = || Refusal::invalid(format!("sequence: '{}' is no number from 0 to 2147483647", shown(digits)));
        let base_sequence = sequence.ok_or_else(why)?;
        self.stage.may_number()?;
        if place.partition.is_none() {
            return Err(Refusal::invalid("sequence: counts the records of one partition; name it, <topic>/<p>"));
        }
        let Some(producer_id) = self.producer_id else {
            return Err(Refusal::invalid("sequence: takes a producer id; say PRODUCER first"));
        };
        Ok((Some(Numbering { producer_id, producer_epoch: 0, base_sequence }), rest.unwrap_or_default()))
    }

    /// Makes durable what was written, and writes the answers.
    pub(super) fn answer(&mut self, output: &mut Output<'_>) {
        self.written.make_durable();
        #[cfg(feature = "http")]
        if self.watched.is_some() {
            let place = self.written.places().next().map(|(path, bytes)| (path.to_path_buf(), bytes));
            self.touched(place);
        }
        let Session { written, answers, steps, stage, .. } = self;
        if let Some(steps) = steps {
            let flush = self.broker.config().flush;
            steps.extend(written.steps(flush));
        }
        // What comes behind an error in a transaction is refused; a line that was refused before it was written has seen to that.
        let mut failed = Ok(());
        let mut counts = [verbs::PRODUCE, verbs::SEND, verbs::NONE].map(LineCount::of);
        for answer in answers.drain(..) {
            let (verb, answer) = match answer {
                Answer::Produced(ticket) => (verbs::PRODUCE, Ok(ticket)),
                Answer::Sent(ticket) => (verbs::SEND, Ok(ticket)),
                Answer::Refused { verb, refusal } => (verb.into(), Err(refusal)),
            };
            let count = counts.iter_mut().find(|count| count.verb == verb).expect("no other verb is gathered");
            count.lines += 1;
            let ticket = match answer {
                Ok(ticket) => ticket,
                Err(refusal) => {
                    count.errors += 1;
                    refusal.write(&mut output.bytes);
                    continue;
                }
            };
            let offset = match failed.clone().and_then(|()| Ok(written.offset(ticket)?)) {
                Ok(offset) => offset,
                Err(refusal) => {
                    count.errors += 1;
                    stage.refuse(&refusal, &mut output.bytes);
                    failed = stage.may_write();
                    continue;
                }
            };
            output.bytes.extend_from_slice(b"ACK ");
            if verb == verbs::SEND {
                output.bytes.extend_from_slice(b"topic:");
                output.bytes.extend_from_slice(written.topic_of(ticket).as_bytes());
                output.bytes.extend_from_slice(b" partition:");
                write_u64(&mut output.bytes, u64::from(written.partition_of(ticket)));
                output.bytes.push(b' ');
            }
            output.bytes.extend_from_slice(b"offset:");
            match offset {
                Some(offset) => write_u64(&mut output.bytes, offset),
                None => output.bytes.push(b'-'),
            }
            output.bytes.push(b'\n');
        }
        written.clear();
        if answers.capacity() > ANSWERS_KEPT {
            *answers = Vec::new();
        }
        self.count(counts);
    }
}

//! Sends an input in transactions: all of it in one, or so many messages in each.
//!
//! - A message that cannot be sent, or that the broker refuses, is the end: its transaction is aborted. So is one that the input
//!   leaves unfinished because it was interrupted.
//! - The messages of a transaction are kept until it is over, where they are counted: one whose connection broke is sent once
//!   more. The whole of an input is not kept, so then its only transaction is aborted for good.

use super::{
    input::{Input, Piece, TOO_LONG},
    intake::Intake,
    pour::{News, PROGRESS_EVERY},
};
use crate::client::{Ack, Error, Record, Refused, TransactionalProducer};
use std::{fmt, io, num::NonZeroUsize};

/// Where messages come from.
#[derive(Debug)]
struct Messages<'i> {
    intake: &'i Intake,
    input: &'i mut Input,
    /// The number of the last, counted from 1.
    number: u64,
}

impl Messages<'_> {
    /// Makes `record` the next message; whether there was one.
    fn next(&mut self, record: &mut Record) -> io::Result<bool> {
        let filled = match self.input.next_piece()? {
            None => {
                let is_whole = self.input.is_exhausted() && !self.input.is_interrupted();
                return if is_whole { Ok(false) } else { Err(interrupted()) };
            }
            Some(Piece::Message(message)) => self.intake.fill(record, message),
            Some(Piece::TooLong) => Err(TOO_LONG.into()),
        };
        self.number += 1;
        filled.map(|()| true).map_err(|why| io::Error::other(format!("line {}: {why}", self.number)))
    }
}

/// Sends the input in transactions of so many messages, or in a single one. What it tells of as stored was committed, or is in the
/// single transaction, which it commits at the end. An error says what became of the last transaction.
pub fn pour_in_transactions(
    topic: &str,
    intake: &Intake,
    input: &mut Input,
    producer: &mut TransactionalProducer,
    messages_each: Option<NonZeroUsize>,
    mut tell: impl FnMut(News) -> io::Result<()>,
) -> io::Result<()> {
    let mut messages = Messages { intake, input, number: 0 };
    match messages_each {
        None => pour_into_one(topic, &mut messages, producer, &mut tell),
        Some(each) => pour_into_many(topic, &mut messages, producer, each, &mut tell),
    }
}

fn interrupted() -> io::Error {
    io::Error::other("the input was interrupted")
}

/// What became of messages whose transaction failed.
fn failed(what: &str, error: impl fmt::Display) -> io::Error {
    io::Error::other(format!("{what}: {error}"))
}

fn pour_into_many(
    topic: &str,
    messages: &mut Messages<'_>,
    producer: &mut TransactionalProducer,
    each: NonZeroUsize,
    tell: &mut dyn FnMut(News) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        let (mut batch, mut record) = (Vec::new(), Record::default());
        let first = messages.number + 1;
        let not_sent = |error| failed(&format!("from line {first} on nothing was sent"), error);
        while batch.len() < each.get() && messages.next(&mut record).map_err(not_sent)? {
            batch.push(std::mem::take(&mut record));
        }
        if batch.is_empty() {
            return Ok(());
        }
        let sent = send_batch(topic, &batch, first, producer).map_err(|error| match error {
            Failed::Aborted(why) => not_sent(io::Error::other(why)),
            Failed::Unknown(error) => {
                failed(&format!("lines {first} to {} may have been sent", messages.number), error)
            }
        });
        for (number, ack) in (first..).zip(sent?) {
            tell(News::Stored(number, ack))?;
        }
        tell(News::Progress(messages.input.taken()))?;
    }
}

/// Why messages are not committed.
enum Failed {
    /// Their transaction was aborted.
    Aborted(String),
    /// They may be, now or later.
    Unknown(Error),
}

impl Failed {
    fn refused(number: u64, refused: &Refused) -> Failed {
        Failed::Aborted(format!("line {number}: {refused}"))
    }
}

/// An error of anything but `commit` says that the transaction is aborted.
impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::Aborted(error.to_string())
    }
}

/// Sends messages, the first of which has this number, until they are committed.
fn send_batch(
    topic: &str,
    batch: &[Record],
    first: u64,
    producer: &mut TransactionalProducer,
) -> Result<Vec<Ack>, Failed> {
    loop {
        // `None`: it was aborted with its connection.
        if let Some(acks) = try_batch(topic, batch, first, producer)? {
            return Ok(acks);
        }
    }
}

fn try_batch(
    topic: &str,
    batch: &[Record],
    first: u64,
    producer: &mut TransactionalProducer,
) -> Result<Option<Vec<Ack>>, Failed> {
    let mut transaction = producer.begin()?;
    let pushed = (first..).zip(batch).try_for_each(|(number, record)| transaction.push(topic, record, number));
    match pushed.and_then(|()| transaction.flush()) {
        Err(Error::Aborted(_)) => return Ok(None),
        sent => sent?,
    }
    let acks =
        transaction.outcomes().map(|(number, outcome)| outcome.map_err(|refused| Failed::refused(number, &refused)));
    let acks = acks.collect::<Result<_, _>>()?;
    match transaction.commit() {
        Ok(()) => Ok(Some(acks)),
        Err(Error::Aborted(_)) => Ok(None),
        Err(error) if error.leaves_open() => Err(Failed::Unknown(error)),
        Err(error) => Err(error.into()),
    }
}

fn pour_into_one(
    topic: &str,
    messages: &mut Messages<'_>,
    producer: &mut TransactionalProducer,
    tell: &mut dyn FnMut(News) -> io::Result<()>,
) -> io::Result<()> {
    let not_sent = |error: &dyn fmt::Display| failed("nothing was sent", error);
    let mut transaction = producer.begin().map_err(|error| not_sent(&error))?;
    let mut record = Record::default();
    loop {
        let more = messages.next(&mut record).map_err(|error| not_sent(&error))?;
        let sent = if more { transaction.push(topic, &record, messages.number) } else { transaction.flush() };
        sent.map_err(|error| not_sent(&error))?;
        for (number, outcome) in transaction.outcomes() {
            let ack = outcome.map_err(|refused| not_sent(&format_args!("line {number}: {refused}")))?;
            tell(News::Stored(number, ack))?;
        }
        if !more {
            break;
        }
        if messages.number.is_multiple_of(PROGRESS_EVERY) {
            tell(News::Progress(messages.input.taken()))?;
        }
    }
    // Who interrupts a pipeline ends its programs one after the other: what came before may have ended the input first.
    if messages.input.is_interrupted() {
        return Err(not_sent(&interrupted()));
    }
    transaction.commit().map_err(|error| match error {
        error if error.leaves_open() => failed("the input may have been sent", error),
        error => not_sent(&error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::Broker,
        client::{Consumer, Producer},
    };

    /// Ctrl-C ends the program in front, too: its end was taken for the end of the input, and half of it was committed.
    #[test]
    fn an_input_that_is_interrupted_at_its_end_is_not_committed() {
        let broker = Broker::in_memory();
        let mut producer = Producer::embedded(&broker).transactional("load");
        let mut input = Input::open(&b"a\nb\n"[..], None);
        let interrupt = input.interrupter();
        let tell = |news| {
            if let News::Stored(2, _) = news {
                interrupt();
            }
            Ok(())
        };
        let poured = pour_in_transactions("t", &Intake::default(), &mut input, &mut producer, None, tell);
        assert_eq!(poured.unwrap_err().to_string(), "nothing was sent: the input was interrupted");
        let mut consumer = Consumer::embedded(&broker).subscribe(&["t"]).unwrap();
        assert_eq!(consumer.poll(std::time::Duration::ZERO, 10).unwrap(), []);
    }
}

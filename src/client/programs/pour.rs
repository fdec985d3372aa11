//! Sends a whole input without waiting for each answer.
//!
//! A message that cannot be sent, or that the broker refuses, is reported by its number, counted from 1, and the rest goes
//! on. Whenever the input pauses, everything taken so far is flushed, so the messages of a slow input do not wait.

use super::{
    input::{Input, Piece, TOO_LONG},
    intake::Intake,
};
use crate::client::{Ack, Producer, Record};
use std::io;

/// How many records go between two looks at the clock.
pub(super) const PROGRESS_EVERY: u64 = 4096;

/// What happens on the way.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// The broker has the message of this number. (Told in order.)
    Stored(u64, Ack),
    /// The message of this number was not stored, and why.
    Refused(u64, String),
    /// This many bytes of the input were taken.
    Progress(u64),
}

/// Sends the input until it ends or is interrupted. An error of `tell` ends it early.
pub fn pour(
    topic: &str,
    intake: &Intake,
    input: &mut Input,
    producer: &mut Producer,
    mut tell: impl FnMut(News) -> io::Result<()>,
) -> io::Result<()> {
    let (mut record, mut number) = (Record::default(), 0);
    loop {
        let filled = match input.next_buffered() {
            Some(Piece::Message(message)) => intake.fill(&mut record, message),
            Some(Piece::TooLong) => Err(TOO_LONG.into()),
            None => {
                if !input.has_more() {
                    flush(producer, &mut tell)?;
                    tell(News::Progress(input.taken()))?;
                }
                if input.wait()? {
                    continue;
                }
                return flush(producer, &mut tell);
            }
        };
        number += 1;
        match filled {
            Ok(()) => push(producer, topic, &record, number, &mut tell)?,
            Err(why) => tell(News::Refused(number, why))?,
        }
        if number % PROGRESS_EVERY == 0 {
            tell(News::Progress(input.taken()))?;
        }
    }
}

type Tell<'t> = &'t mut dyn FnMut(News) -> io::Result<()>;

fn push(producer: &mut Producer, topic: &str, record: &Record, number: u64, tell: Tell<'_>) -> io::Result<()> {
    let pushed = producer.push(topic, record, number).map_err(io::Error::other);
    tell_outcomes(producer, tell)?;
    pushed
}

fn flush(producer: &mut Producer, tell: Tell<'_>) -> io::Result<()> {
    let flushed = producer.flush().map_err(io::Error::other);
    tell_outcomes(producer, tell)?;
    flushed
}

fn tell_outcomes(producer: &mut Producer, tell: Tell<'_>) -> io::Result<()> {
    for (number, outcome) in producer.outcomes() {
        tell(match outcome {
            Ok(ack) => News::Stored(number, ack),
            Err(refused) => News::Refused(number, refused.to_string()),
        })?;
    }
    Ok(())
}

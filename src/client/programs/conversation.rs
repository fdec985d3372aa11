//! Sends what a person types: one message, its answer, the next message.
//!
//! ```text
//! What do you want to add? (type 'exit' to quit): hello
//! Broker response: ACK offset:0
//! ```
//!
//! After an empty line the question is asked again. `exit` or the end of the input ends the conversation.

use super::{
    input::{Input, Piece, TOO_LONG},
    intake::Intake,
};
use crate::client::{Ack, Connection, Error, Producer, Record};
use std::io::{self, Write};

/// Asks and answers on `out` until there is no more input. An error of the broker's is an answer like others.
pub fn converse(
    topic: &str,
    intake: &Intake,
    mut input: Input,
    mut producer: Producer,
    out: &mut impl Write,
) -> io::Result<()> {
    let (mut record, mut partitions) = (Record::default(), None);
    loop {
        write!(out, "What do you want to add? (type 'exit' to quit): ")?;
        out.flush()?;
        let filled = match input.next_piece()? {
            None => return writeln!(out),
            Some(Piece::Message(b"exit")) => return Ok(()),
            Some(Piece::Message(b"")) => continue,
            Some(Piece::Message(message)) => intake.fill(&mut record, message),
            Some(Piece::TooLong) => Err(TOO_LONG.into()),
        };
        let response = match filled.map(|()| producer.send(topic, record.clone())) {
            Err(why) => format!("none, it was not sent: {why}"),
            Ok(Err(Error::Refused(refused))) => refused.to_string(),
            Ok(sent) => acknowledged(sent.map_err(io::Error::other)?, topic, &producer, &mut partitions)?,
        };
        writeln!(out, "Broker response: {response}")?;
    }
}

/// Names the partition if the topic has several.
fn acknowledged(ack: Ack, topic: &str, producer: &Producer, partitions: &mut Option<u32>) -> io::Result<String> {
    if partitions.is_none() {
        // A second connection may not be had; the message is stored all the same.
        let asked = Connection::open(producer.target()).and_then(|mut connection| connection.partitions(topic));
        *partitions = asked.unwrap_or(None);
    }
    let offset = ack.offset.map_or_else(|| "-".into(), |offset| offset.to_string());
    Ok(match partitions {
        Some(2..) => format!("ACK {ack}"),
        _ => format!("ACK offset:{offset}"),
    })
}

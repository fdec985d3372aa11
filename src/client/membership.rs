//! What members of consumer groups and of share groups have in common: how they poll over a connection, and what they do about errors.

use super::{
    Connection, Error, Message, Refused, Target,
    answer::{field, line_count},
    endpoint::Outage,
};
use crate::log::record::{parse_u63, shown, split_timestamp, split_word};
use std::{sync::Arc, time::Duration};

/// Kafka's name for a member that its group does not know any more.
pub(super) const UNKNOWN_MEMBER: &str = "UNKNOWN_MEMBER_ID";

/// A connection that is made anew after it failed.
#[derive(Debug)]
pub(super) struct MemberLine {
    pub(super) target: Target,
    pub(super) connection: Option<Connection>,
}

/// A line that answers a POLL.
pub(super) struct Polled {
    pub(super) message: Message,
    /// In a share group: how often it was handed out.
    pub(super) deliveries: Option<u32>,
}

impl MemberLine {
    /// Talks over the connection, made anew if need be. One that failed is not used again.
    pub(super) fn talk<T>(&mut self, talk: impl FnOnce(&mut Connection) -> Result<T, Error>) -> Result<T, Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.target)?,
        };
        let done = talk(&mut connection);
        if matches!(done, Ok(_) | Err(Error::Refused(_))) {
            self.connection = Some(connection);
        }
        done
    }

    /// Polls. Answers the first line of the answer, and the records behind it.
    pub(super) fn poll(&mut self, wait: Duration, max: usize) -> Result<(Vec<u8>, Vec<Polled>), Error> {
        let line = format!("POLL max:{max} wait:{}\n", wait.as_millis());
        let address = self.target.address().to_string();
        let lost = |cause| Error::Connection { address: address.clone(), cause };
        self.talk(|connection| {
            connection.send(line.as_bytes()).map_err(lost)?;
            let first = connection.line().map_err(lost)?;
            if let Some(refused) = Refused::parse(first) {
                return Err(Error::Refused(refused));
            }
            if !first.starts_with(b"POLLED ") {
                return Err(Error::Answer(format!("'{}' answers no POLL", shown(first))));
            }
            let (count, first) = (line_count(first), first.to_vec());
            let (mut records, mut topic) = (Vec::new(), Arc::from(""));
            for _ in 0..count {
                records.push(polled(connection.line().map_err(lost)?, &mut topic)?);
            }
            Ok((first, records))
        })
    }
}

/// The partitions of ` assigned:<topic>/<p>,...`, as they stand.
pub(super) fn assigned(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let assigned = field(line, "assigned").unwrap_or_default();
    assigned.split(|&byte| byte == b',').filter(|place| !place.is_empty())
}

/// `topic: partition: offset: timestamp: [delivery:]` and the record's fields. Messages of one topic share its name.
fn polled(line: &[u8], topic: &mut Arc<str>) -> Result<Polled, Error> {
    let malformed = || Error::Answer(format!("'{}' is no polled record", shown(line)));
    let mut rest = line;
    let mut word = |name: &str| {
        let (word, tail) = split_word(rest);
        rest = tail?;
        word.strip_prefix(name.as_bytes())?.strip_prefix(b":")
    };
    let name = word("topic").and_then(|name| std::str::from_utf8(name).ok()).ok_or_else(malformed)?;
    let partition = word("partition").and_then(parse_u63).and_then(|n| u32::try_from(n).ok()).ok_or_else(malformed)?;
    let offset = word("offset").and_then(parse_u63).ok_or_else(malformed)?;
    share(topic, name);
    let (timestamp, fields) = split_timestamp(rest);
    let (first, behind) = split_word(fields);
    let deliveries = first.strip_prefix(b"delivery:").and_then(parse_u63).and_then(|n| u32::try_from(n).ok());
    let fields = if deliveries.is_some() { behind.ok_or_else(malformed)? } else { fields };
    let message = Message::read(topic, partition, offset, timestamp.ok_or_else(malformed)?, fields)?;
    Ok(Polled { message, deliveries })
}

/// Makes `topic` this name; messages of one topic share it.
pub(super) fn share(topic: &mut Arc<str>, name: &str) {
    if **topic != *name {
        *topic = name.into();
    }
}

/// What went wrong lately, and how long a member tries again before it says so.
#[derive(Debug)]
pub(super) struct Troubles {
    pub(super) retry_for: Duration,
    outage: Option<Outage>,
    /// The refusal that the caller knows of.
    told: Option<Refused>,
}

impl Troubles {
    pub(super) fn new(retry_for: Duration) -> Troubles {
        Troubles { retry_for, outage: None, told: None }
    }

    /// All is well.
    pub(super) fn are_over(&mut self) {
        (self.outage, self.told) = (None, None);
    }

    /// How long to wait before the next attempt, or the error if it is for the caller.
    pub(super) fn pause_after(&mut self, error: Error) -> Result<Duration, Error> {
        match &error {
            Error::Refused(refused) if self.told.as_ref() == Some(refused) => Ok(Duration::from_secs(1)),
            Error::Refused(refused) => {
                self.told = Some(refused.clone());
                Err(error)
            }
            Error::Connection { .. } => {
                let outage = self.outage.get_or_insert_with(Outage::begin);
                if outage.lasted() >= self.retry_for {
                    outage.begin_again();
                    return Err(error);
                }
                Ok(outage.next_pause())
            }
            _ => Err(error),
        }
    }
}

/// Whether an error says that the place in the group is lost: the connection, and with it the member, or the member alone.
pub(super) fn is_loss(error: &Error) -> bool {
    match error {
        Error::Connection { .. } => true,
        Error::Refused(refused) => refused.code == UNKNOWN_MEMBER,
        _ => false,
    }
}

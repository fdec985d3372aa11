//! A member's seat in a group, as the broker knows it: by lines over a connection, or by calls in this process.
//!
//! ```text
//! join     JOIN g t from:earliest commit:manual      Broker::join
//! poll     POLL max:10 wait:250                      Member::poll
//! commit   COMMIT                                    Member::commit
//! seek     SEEK t/0 100                              Member::seek
//! leave    LEAVE                                     Member::leave
//! ```
//!
//! Neither joins on its own account: where the place is lost, the call fails, and [`Membership`] joins again.
//!
//! [`Membership`]: super::membership::Membership

use super::{
    Connection, Error, Message, Refused,
    connection::{field, line_count},
    membership::Wish,
};
use crate::{
    broker::{self, Broker, JoinOptions, Limits, Patience, Polled, Waiter},
    log::record::{parse_u63, shown, split_word, write_word},
};
use std::{
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};

/// Bytes that an embedded poll hands out at most, as POLL does unless it is told otherwise.
const POLL_BYTES: usize = 1 << 20;

pub(super) trait Seat: Debug + Send {
    fn join(&mut self, wish: &Wish) -> Result<(), Error>;
    fn poll(&mut self, wait: Duration, max: usize) -> Result<Vec<Message>, Error>;
    fn commit(&mut self) -> Result<(), Error>;
    fn seek(&mut self, topic: &str, partition: u32, offset: u64) -> Result<(), Error>;
    fn leave(&mut self) -> Result<(), Error>;
    fn address(&self) -> &str;
    fn partitions(&self) -> usize;
}

/// A seat that is spoken to in lines.
#[derive(Debug)]
pub(super) struct NetworkSeat {
    address: String,
    connection: Option<Connection>,
    partitions: usize,
}

impl NetworkSeat {
    pub(super) fn new(address: String, connection: Option<Connection>) -> NetworkSeat {
        NetworkSeat { address, connection, partitions: 0 }
    }

    /// Talks over the connection, made anew if need be. One that failed is not used again.
    fn talk<T>(&mut self, talk: impl FnOnce(&mut Connection) -> Result<T, Error>) -> Result<T, Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.address)?,
        };
        let done = talk(&mut connection);
        if matches!(done, Ok(_) | Err(Error::Refused(_))) {
            self.connection = Some(connection);
        }
        done
    }
}

impl Seat for NetworkSeat {
    fn join(&mut self, wish: &Wish) -> Result<(), Error> {
        let mut group = Vec::new();
        write_word(&mut group, wish.group.as_bytes());
        let group = String::from_utf8_lossy(&group);
        let commit = if wish.auto_commit { "auto" } else { "manual" };
        let line = format!("JOIN {group} {} from:{} commit:{commit}", wish.topics.join(","), wish.from);
        let answer = self.talk(|connection| connection.ask(&line))?;
        self.partitions = assigned(answer.first.as_bytes());
        Ok(())
    }

    fn poll(&mut self, wait: Duration, max: usize) -> Result<Vec<Message>, Error> {
        let line = format!("POLL max:{max} wait:{}\n", wait.as_millis());
        let address = self.address.clone();
        let lost = |cause| Error::Connection { address: address.clone(), cause };
        let (partitions, messages) = self.talk(|connection| {
            connection.send(line.as_bytes()).map_err(lost)?;
            let first = connection.line().map_err(lost)?;
            if let Some(refused) = Refused::parse(first) {
                return Err(Error::Refused(refused));
            }
            if !first.starts_with(b"POLLED ") {
                return Err(Error::Answer(format!("'{}' answers no POLL", shown(first))));
            }
            let (count, partitions) = (line_count(first), assigned(first));
            let (mut messages, mut topic) = (Vec::new(), Arc::from(""));
            for _ in 0..count {
                messages.push(polled(connection.line().map_err(lost)?, &mut topic)?);
            }
            Ok((partitions, messages))
        })?;
        self.partitions = partitions;
        Ok(messages)
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.talk(|connection| connection.ask("COMMIT")).map(drop)
    }

    fn seek(&mut self, topic: &str, partition: u32, offset: u64) -> Result<(), Error> {
        super::record::check_topic(topic)?;
        self.talk(|connection| connection.ask(&format!("SEEK {topic}/{partition} {offset}"))).map(drop)
    }

    fn leave(&mut self) -> Result<(), Error> {
        self.talk(|connection| connection.ask("LEAVE")).map(drop)
    }

    fn address(&self) -> &str {
        &self.address
    }

    fn partitions(&self) -> usize {
        self.partitions
    }
}

/// How many partitions `assigned:` names.
fn assigned(line: &[u8]) -> usize {
    match field(line, "assigned") {
        None | Some(b"") => 0,
        Some(partitions) => memchr::memchr_iter(b',', partitions).count() + 1,
    }
}

/// `topic: partition: offset:` and the record's fields. Messages of one topic share its name.
fn polled(line: &[u8], topic: &mut Arc<str>) -> Result<Message, Error> {
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
    Message::read(topic, partition, offset, -1, rest)
}

fn share(topic: &mut Arc<str>, name: &str) {
    if **topic != *name {
        *topic = name.into();
    }
}

/// A seat at a broker in this process.
#[derive(Debug)]
pub(super) struct EmbeddedSeat {
    broker: Broker,
    member: Option<broker::Member>,
}

impl EmbeddedSeat {
    pub(super) fn new(broker: Broker) -> EmbeddedSeat {
        EmbeddedSeat { broker, member: None }
    }

    fn member(&mut self) -> Result<&mut broker::Member, Error> {
        self.member.as_mut().ok_or_else(|| broker::Error::UnknownMemberId.into())
    }
}

impl Seat for EmbeddedSeat {
    fn join(&mut self, wish: &Wish) -> Result<(), Error> {
        self.member = None;
        let topics: Vec<&str> = wish.topics.iter().map(|topic| &**topic).collect();
        let options = JoinOptions {
            from: wish.from.into(),
            auto_commit: wish.auto_commit,
            client: "embedded".into(),
            ..JoinOptions::default()
        };
        self.member = Some(self.broker.join(&wish.group, &topics, options)?);
        Ok(())
    }

    fn poll(&mut self, wait: Duration, max: usize) -> Result<Vec<Message>, Error> {
        let waiter = Waiter::new();
        let deadline = Instant::now().checked_add(wait);
        let patience = Patience { waiter: &waiter, deadline, wait: &mut |until| waiter.wait(until) };
        let (mut messages, mut topic) = (Vec::new(), Arc::from(""));
        let mut each = |record: &Polled<'_>| {
            share(&mut topic, record.topic);
            messages.push(Message::read(&topic, record.partition, record.offset, record.timestamp, record.fields));
        };
        self.member()?.poll(Limits { records: max, bytes: POLL_BYTES }, patience, &mut each)?;
        messages.into_iter().collect()
    }

    fn commit(&mut self) -> Result<(), Error> {
        Ok(self.member()?.commit(None)?)
    }

    fn seek(&mut self, topic: &str, partition: u32, offset: u64) -> Result<(), Error> {
        Ok(self.member()?.seek(topic, partition, broker::Position::At(offset)).map(drop)?)
    }

    fn leave(&mut self) -> Result<(), Error> {
        Ok(self.member.take().map_or(Ok(()), broker::Member::leave)?)
    }

    fn address(&self) -> &str {
        super::embedded::ADDRESS
    }

    fn partitions(&self) -> usize {
        self.member.as_ref().map_or(0, |member| member.assigned().count())
    }
}

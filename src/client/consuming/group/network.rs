//! A member that talks to its broker over a connection.

use super::member::{GroupMember, Subscription, share};
use crate::{
    client::{
        Connection, Error, Message, Refused,
        answer::{field, line_count},
        connection::number,
        endpoint::Endpoint,
        record::{check_topic, isolation_word},
    },
    log::record::{as_word, parse_u63, shown, split_timestamp, split_word},
};
use std::{sync::Arc, time::Duration};

/// A member at the other end of a connection.
#[derive(Debug)]
pub(super) struct NetworkMember {
    address: String,
    connection: Option<Connection>,
    /// `<topic>/<p>,...`
    assigned: String,
    id: String,
    generation: i32,
}

impl NetworkMember {
    pub(super) fn new(address: String, connection: Option<Connection>) -> NetworkMember {
        NetworkMember { address, connection, assigned: String::new(), id: String::new(), generation: 0 }
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

impl NetworkMember {
    /// ` generation: assigned:` of a line.
    fn take_up(&mut self, line: &[u8]) -> Result<(), Error> {
        self.generation = i32::try_from(number(line, "generation")?).unwrap_or(i32::MAX);
        self.assigned = word(line, "assigned");
        Ok(())
    }

    fn held(&self) -> impl Iterator<Item = &str> {
        self.assigned.split(',').filter(|held| !held.is_empty())
    }
}

impl GroupMember for NetworkMember {
    fn join(&mut self, subscription: &Subscription) -> Result<(), Error> {
        let group = as_word(&subscription.group);
        let commit = if subscription.auto_commit { "auto" } else { "manual" };
        let (topics, from, isolation) =
            (subscription.topics.join(","), subscription.from, isolation_word(subscription.isolation));
        let line = format!("JOIN {group} {topics} from:{from} commit:{commit}{isolation}");
        let answer = self.talk(|connection| connection.ask(&line))?;
        let line = answer.first.as_bytes();
        self.id = word(line, "member");
        self.take_up(line)
    }

    fn poll(&mut self, wait: Duration, max: usize) -> Result<Vec<Message>, Error> {
        let line = format!("POLL max:{max} wait:{}\n", wait.as_millis());
        let address = self.address.clone();
        let lost = |cause| Error::Connection { address: address.clone(), cause };
        let (first, messages) = self.talk(|connection| {
            connection.send(line.as_bytes()).map_err(lost)?;
            let first = connection.line().map_err(lost)?;
            if let Some(refused) = Refused::parse(first) {
                return Err(Error::Refused(refused));
            }
            if !first.starts_with(b"POLLED ") {
                return Err(Error::Answer(format!("'{}' answers no POLL", shown(first))));
            }
            let (count, first) = (line_count(first), first.to_vec());
            let (mut messages, mut topic) = (Vec::new(), Arc::from(""));
            for _ in 0..count {
                messages.push(polled(connection.line().map_err(lost)?, &mut topic)?.message);
            }
            Ok((first, messages))
        })?;
        self.take_up(&first)?;
        Ok(messages)
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.talk(|connection| connection.ask("COMMIT")).map(drop)
    }

    fn seek(&mut self, topic: &str, partition: u32, offset: u64) -> Result<(), Error> {
        check_topic(topic)?;
        self.talk(|connection| connection.ask(&format!("SEEK {topic}/{partition} {offset}"))).map(drop)
    }

    fn leave(&mut self) -> Result<(), Error> {
        self.talk(|connection| connection.ask("LEAVE")).map(drop)
    }

    fn address(&self) -> &str {
        &self.address
    }

    fn partitions(&self) -> usize {
        self.held().count()
    }

    fn identity(&self) -> (String, i32) {
        (self.id.clone(), self.generation)
    }

    fn holds(&self, topic: &str, partition: u32) -> bool {
        self.held().any(|held| held.strip_prefix(topic).is_some_and(|rest| rest == format!("/{partition}")))
    }

    fn into_endpoint(self: Box<Self>) -> Endpoint {
        Endpoint::Network { address: self.address, connection: self.connection }
    }
}

/// The word of this name, as it stands.
fn word(line: &[u8], name: &str) -> String {
    String::from_utf8_lossy(field(line, name).unwrap_or_default()).into_owned()
}

/// A line that answers a POLL.
pub(in crate::client) struct Polled {
    pub(in crate::client) message: Message,
    /// In a share group: how often it was handed out.
    pub(in crate::client) deliveries: Option<u32>,
}

/// `topic: partition: offset: timestamp: [delivery:]` and the record's fields. Messages of one topic share its name.
pub(in crate::client) fn polled(line: &[u8], topic: &mut Arc<str>) -> Result<Polled, Error> {
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

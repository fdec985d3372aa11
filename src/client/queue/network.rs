//! A member of a share group that talks to its broker over a connection.

use super::{Delivery, Part, QueueMember, Subscription, Verdict};
use crate::{
    broker::{Position, ShareOptions},
    client::{
        Connection, Error, Refused,
        answer::{field, line_count},
        connection::number,
        consuming::polled,
        record::isolation_word,
    },
    log::record::{as_word, shown},
};
use std::{fmt::Write, sync::Arc, time::Duration};

/// A member at the other end of a connection.
#[derive(Debug)]
pub(super) struct NetworkMember {
    address: String,
    connection: Option<Connection>,
    partitions: usize,
    lock: Duration,
}

impl NetworkMember {
    pub(super) fn new(connection: Connection) -> NetworkMember {
        let address = connection.address().to_owned();
        NetworkMember { address, connection: Some(connection), partitions: 0, lock: Duration::ZERO }
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

    fn take_up(&mut self, line: &[u8]) {
        let assigned = field(line, "assigned").unwrap_or_default();
        self.partitions = assigned.split(|&byte| byte == b',').filter(|place| !place.is_empty()).count();
    }
}

/// The words of the options that are given.
fn words(options: &ShareOptions) -> String {
    let mut words = String::new();
    let mut word = |name: &str, value: Option<String>| {
        value.iter().for_each(|value| write!(words, " {name}:{value}").expect("a string takes it"))
    };
    let from = options.from.map(|from| if from == Position::Latest { "latest" } else { "earliest" });
    word("from", from.map(String::from));
    word("lock", options.lock_ms.map(|ms| ms.to_string()));
    word("deliveries", options.deliveries.map(|count| count.to_string()));
    word("dead", options.dead_letters.clone());
    options.isolation.iter().for_each(|&isolation| words.push_str(isolation_word(isolation)));
    words
}

impl QueueMember for NetworkMember {
    fn join(&mut self, Subscription { group, topics, options }: &Subscription) -> Result<(), Error> {
        let line = format!("JOIN {} {} mode:share{}", as_word(group), topics.join(","), words(options));
        let answer = self.talk(|connection| connection.ask(&line))?;
        let line = answer.first.as_bytes();
        self.lock = Duration::from_millis(number(line, "lock")?);
        self.take_up(line);
        Ok(())
    }

    fn poll(&mut self, wait: Duration, max: usize) -> Result<Vec<Delivery>, Error> {
        let line = format!("POLL max:{max} wait:{}\n", wait.as_millis());
        let address = self.address.clone();
        let lost = |cause| Error::Connection { address: address.clone(), cause };
        let (first, deliveries) = self.talk(|connection| {
            connection.send(line.as_bytes()).map_err(lost)?;
            let first = connection.line().map_err(lost)?;
            if let Some(refused) = Refused::parse(first) {
                return Err(Error::Refused(refused));
            }
            if !first.starts_with(b"POLLED ") {
                return Err(Error::Answer(format!("'{}' answers no POLL", shown(first))));
            }
            let (count, first) = (line_count(first), first.to_vec());
            let (mut deliveries, mut topic) = (Vec::new(), Arc::from(""));
            for _ in 0..count {
                let polled = polled(connection.line().map_err(lost)?, &mut topic)?;
                deliveries.push(Delivery { message: polled.message, deliveries: polled.deliveries.unwrap_or(1) });
            }
            Ok((first, deliveries))
        })?;
        self.take_up(&first);
        Ok(deliveries)
    }

    fn acknowledge(&mut self, verdict: Verdict, part: &Part<'_>) -> Result<(), Error> {
        let verb = match verdict {
            Verdict::Accept => "ACCEPT",
            Verdict::Release => "RELEASE",
            Verdict::Reject => "REJECT",
            Verdict::Renew => "RENEW",
        };
        let Part { topic, partition, first, last } = part;
        self.talk(|connection| connection.ask(&format!("{verb} {topic}/{partition} {first}-{last}"))).map(drop)
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

    fn lock(&self) -> Duration {
        self.lock
    }
}

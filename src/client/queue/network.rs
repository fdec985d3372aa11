//! A member of a share group that talks to its broker over a connection.

use super::{Delivery, Part, QueueMember, Subscription};
use crate::{
    broker::{Position, ShareOptions, share_partition::Acknowledgement},
    client::{
        Connection, Error,
        connection::number,
        membership::{MemberLine, Polled, assigned},
    },
    log::record::as_word,
};
use std::{fmt::Write, time::Duration};

/// A member at the other end of a connection.
#[derive(Debug)]
pub(super) struct NetworkMember {
    line: MemberLine,
    partitions: usize,
    lock: Duration,
}

impl NetworkMember {
    pub(super) fn new(connection: Connection) -> NetworkMember {
        let line = MemberLine { target: connection.target().clone(), connection: Some(connection) };
        NetworkMember { line, partitions: 0, lock: Duration::ZERO }
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
    word("isolation", options.isolation.map(|isolation| isolation.name().into()));
    words
}

impl QueueMember for NetworkMember {
    fn join(&mut self, Subscription { group, topics, options }: &Subscription) -> Result<(), Error> {
        let line = format!("JOIN {} {} mode:share{}", as_word(group), topics.join(","), words(options));
        let answer = self.line.talk(|connection| connection.ask(&line))?;
        let line = answer.first.as_bytes();
        self.lock = Duration::from_millis(number(line, "lock")?);
        self.partitions = assigned(line).count();
        Ok(())
    }

    fn poll(&mut self, wait: Duration, max: usize) -> Result<Vec<Delivery>, Error> {
        let (first, records) = self.line.poll(wait, max)?;
        self.partitions = assigned(&first).count();
        let delivery = |Polled { message, deliveries }| Delivery { message, deliveries: deliveries.unwrap_or(1) };
        Ok(records.into_iter().map(delivery).collect())
    }

    fn acknowledge(&mut self, how: Acknowledgement, part: &Part<'_>) -> Result<(), Error> {
        let verb = match how {
            Acknowledgement::Accept => "ACCEPT",
            Acknowledgement::Release => "RELEASE",
            Acknowledgement::Reject => "REJECT",
            Acknowledgement::Renew => "RENEW",
            Acknowledgement::Gap => unreachable!("what is polled is a record"),
        };
        let Part { topic, partition, first, last } = part;
        self.line.talk(|connection| connection.ask(&format!("{verb} {topic}/{partition} {first}-{last}"))).map(drop)
    }

    fn leave(&mut self) -> Result<(), Error> {
        self.line.talk(|connection| connection.ask("LEAVE")).map(drop)
    }

    fn address(&self) -> &str {
        self.line.target.address()
    }

    fn partitions(&self) -> usize {
        self.partitions
    }

    fn lock(&self) -> Duration {
        self.lock
    }
}

//! What outlives a restart of a member of Kafka's, in a group whose partitions the broker assigns: three records, as Kafka has.
//!
//! ```text
//! member    number:2 instance:i rack:r client:c host:/127.0.0.1 session:45000 rebalance:300000 assignor:range topic:orders pattern:pay.*
//! target    partitions:orders/0,orders/1
//! current   epoch:3 previous:2 owned:orders/0@2 gives_up:orders/1@2
//! ```
//!
//! Those that are optional: instance, rack, assignor, topic (as many as there are), pattern; of a client of the classic protocol,
//! last, `protocol: metadata:` for each that it supports. What it has it took in the generation behind the `@`. Before `owned` may
//! stand `away:yes`, of a static member that left for a while, or `waits:yes`: what it is to have is still another's.
//!
//! They come from the disk, where anything may stand: each is checked by itself here, and against the others by who restores them.

use super::{
    classic::Protocol,
    partitions::{Owned, Partitions, parse_partition, parse_partitions, parts, push_partitions},
};
use crate::{
    broker::words::{Words, push, push_number},
    log::record::parse_u63,
};
use std::sync::Arc;

/// Which of a member's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// What it subscribes to, and who it is.
    Subscription,
    /// What it is to have.
    Target,
    /// What it has, and how far it has come.
    Current,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 3] = [Part::Subscription, Part::Target, Part::Current];

    /// What stands before the member's id in the key.
    pub const fn word(self) -> &'static str {
        match self {
            Part::Subscription => "member:",
            Part::Target => "target:",
            Part::Current => "current:",
        }
    }
}

/// A change of a member's record; `None`: it is no more.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberChange {
    /// The member's id.
    pub member_id: Arc<str>,
    /// Which record.
    pub part: Part,
    /// What it says.
    pub record: Option<MemberRecord>,
}

/// A record of a member.
#[derive(Clone, Debug, PartialEq)]
pub enum MemberRecord {
    /// What it subscribes to, and who it is.
    Subscription(Box<SavedSubscription>),
    /// What it is to have.
    Target(Partitions),
    /// What it has.
    Current(SavedCurrent),
}

/// Who a member is, and what it subscribes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SavedSubscription {
    /// Its number, by which members stand in order.
    pub number: u32,
    /// Its `group.instance.id`.
    pub instance_id: Option<String>,
    /// The rack that its client is in.
    pub rack_id: Option<String>,
    /// What its client calls itself.
    pub client_id: String,
    /// The address of its client.
    pub client_host: String,
    /// A member that is silent for this long is removed.
    pub session_timeout_ms: u64,
    /// How long it may take to give a partition up.
    pub rebalance_timeout_ms: u64,
    /// The name of the assignor that it would have.
    pub assignor: Option<String>,
    /// What it subscribes to by name.
    pub names: Vec<String>,
    /// The pattern of what it subscribes to besides.
    pub pattern: Option<String>,
    /// What a client of the classic protocol supports; empty: it is none.
    pub protocols: Vec<Protocol>,
}

/// How far a member has come, and what it has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SavedCurrent {
    /// Its epoch.
    pub epoch: i32,
    /// The one before.
    pub previous_epoch: i32,
    /// A static member that left for a while.
    pub is_away: bool,
    /// Whether something that it is to have is another's.
    pub waits: bool,
    /// The partitions that it has and keeps.
    pub owned: Vec<Owned>,
    /// Those that it has and is to give up.
    pub gives_up: Vec<Owned>,
}

/// A member as its records have it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SavedConsumer {
    /// Who it is.
    pub subscription: Option<Box<SavedSubscription>>,
    /// What it is to have.
    pub target: Partitions,
    /// What it has.
    pub current: Option<SavedCurrent>,
}

impl SavedConsumer {
    /// Takes a record to account, or the end of one.
    pub fn apply(&mut self, part: Part, record: Option<MemberRecord>) {
        match (part, record) {
            (_, Some(MemberRecord::Subscription(subscription))) => self.subscription = Some(subscription),
            (_, Some(MemberRecord::Target(target))) => self.target = target,
            (_, Some(MemberRecord::Current(current))) => self.current = Some(current),
            (Part::Subscription, None) => self.subscription = None,
            (Part::Target, None) => self.target = vec![],
            (Part::Current, None) => self.current = None,
        }
    }
}

impl MemberRecord {
    /// Which record it is.
    pub fn part(&self) -> Part {
        match self {
            MemberRecord::Subscription(_) => Part::Subscription,
            MemberRecord::Target(_) => Part::Target,
            MemberRecord::Current(_) => Part::Current,
        }
    }

    /// The line.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = Vec::new();
        match self {
            MemberRecord::Subscription(subscription) => subscription.write(&mut line),
            MemberRecord::Target(partitions) => push_partitions(&mut line, "partitions:", partitions),
            MemberRecord::Current(current) => current.write(&mut line),
        }
        line
    }

    /// What a line says; `None`: it is none.
    pub fn parse(part: Part, line: &[u8]) -> Option<MemberRecord> {
        let mut words = Words::of(line)?;
        let record = match part {
            Part::Subscription => MemberRecord::Subscription(SavedSubscription::parse(&mut words)?.into()),
            Part::Target => MemberRecord::Target(parse_partitions(&mut words, "partitions:")?),
            Part::Current => MemberRecord::Current(SavedCurrent::parse(&mut words)?),
        };
        words.are_over().then_some(record)
    }
}

impl SavedSubscription {
    fn write(&self, line: &mut Vec<u8>) {
        let optional = |line: &mut Vec<u8>, name, value: Option<&str>| {
            value.into_iter().for_each(|value| push(line, name, value.as_bytes()));
        };
        push_number(line, "number:", self.number.into());
        optional(line, "instance:", self.instance_id.as_deref());
        optional(line, "rack:", self.rack_id.as_deref());
        push(line, "client:", self.client_id.as_bytes());
        push(line, "host:", self.client_host.as_bytes());
        push_number(line, "session:", self.session_timeout_ms);
        push_number(line, "rebalance:", self.rebalance_timeout_ms);
        optional(line, "assignor:", self.assignor.as_deref());
        self.names.iter().for_each(|name| push(line, "topic:", name.as_bytes()));
        optional(line, "pattern:", self.pattern.as_deref());
        for Protocol { name, metadata } in &self.protocols {
            push(line, "protocol:", name.as_bytes());
            push(line, "metadata:", metadata);
        }
    }

    fn parse(words: &mut Words<'_>) -> Option<SavedSubscription> {
        let number = u32::try_from(words.number("number:")?).ok()?;
        let (instance_id, rack_id) = (words.optional("instance:")?, words.optional("rack:")?);
        let (client_id, client_host) = (words.string("client:")?, words.string("host:")?);
        let (session_timeout_ms, rebalance_timeout_ms) =
            (words.timeout_ms("session:")?, words.timeout_ms("rebalance:")?);
        let assignor = words.optional("assignor:")?;
        let mut names = vec![];
        while words.is_next("topic:") {
            names.push(words.string("topic:")?);
        }
        let pattern = words.optional("pattern:")?;
        let mut protocols = vec![];
        while words.is_next("protocol:") {
            protocols.push(Protocol { name: words.string("protocol:")?, metadata: words.bytes("metadata:")? });
        }
        Some(SavedSubscription {
            number,
            instance_id,
            rack_id,
            client_id,
            client_host,
            session_timeout_ms,
            rebalance_timeout_ms,
            assignor,
            names,
            pattern,
            protocols,
        })
    }
}

impl SavedCurrent {
    fn write(&self, line: &mut Vec<u8>) {
        push_number(line, "epoch:", self.epoch as u64);
        if self.previous_epoch != self.epoch {
            push_number(line, "previous:", self.previous_epoch as u64);
        }
        for (name, _) in [("away:", self.is_away), ("waits:", self.waits)].into_iter().filter(|(_, is_so)| *is_so) {
            push(line, name, b"yes");
        }
        push_owned(line, "owned:", &self.owned);
        if !self.gives_up.is_empty() {
            push_owned(line, "gives_up:", &self.gives_up);
        }
    }

    fn parse(words: &mut Words<'_>) -> Option<SavedCurrent> {
        let epoch = i32::try_from(words.number("epoch:")?).ok()?;
        let previous = words.optional_number("previous:")?;
        let previous_epoch = previous.map_or(Ok(epoch), i32::try_from).ok()?;
        let (is_away, waits) = (words.flag("away:", "yes")?, words.flag("waits:", "yes")?);
        let owned = parse_owned(words.word("owned:")?)?;
        let gives_up = words.word("gives_up:").map_or(Some(vec![]), parse_owned)?;
        Some(SavedCurrent { epoch, previous_epoch, is_away, waits, owned, gives_up })
    }
}

/// Appends partitions as `orders/0@2,orders/1@3`: each with the generation in which it was taken.
fn push_owned(line: &mut Vec<u8>, name: &str, owned: &[Owned]) {
    let shown = |Owned { topic, partition, since }: &Owned| format!("{topic}/{partition}@{since}");
    push(line, name, owned.iter().map(shown).collect::<Vec<_>>().join(",").as_bytes());
}

fn parse_owned(list: &str) -> Option<Vec<Owned>> {
    let mut last: Arc<str> = "".into();
    let mut owned = |part: &str| {
        let (partition, since) = part.rsplit_once('@')?;
        let (topic, partition) = parse_partition(partition, &mut last)?;
        Some(Owned { topic, partition, since: i32::try_from(parse_u63(since.as_bytes())?).ok()? })
    };
    parts(list).map(&mut owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_member_is_three_readable_lines() {
        let subscription = SavedSubscription {
            number: 2,
            instance_id: Some("i 2".into()),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 300_000,
            assignor: Some("range".into()),
            names: vec!["orders".into(), "payments".into()],
            pattern: Some("pay.*".into()),
            ..SavedSubscription::default()
        };
        let line = "number:2 instance:i\\x202 client:c host:/127.0.0.1 session:45000 rebalance:300000 assignor:range \
            topic:orders topic:payments pattern:pay.*";
        let classic = vec![Protocol { name: "range".into(), metadata: vec![0, 1] }];
        let classic = SavedSubscription { protocols: classic, pattern: None, ..subscription.clone() };
        let line_of = |record: MemberRecord| String::from_utf8(record.to_line()).unwrap();
        assert_eq!(line_of(MemberRecord::Subscription(subscription.into())), line);
        let classic = line_of(MemberRecord::Subscription(classic.into()));
        assert_eq!(classic, line.replace("pattern:pay.*", "protocol:range metadata:\\x00\\x01"));
        let partitions: Partitions = vec![("orders".into(), 0), ("orders".into(), 11), ("payments".into(), 2)];
        assert_eq!(line_of(MemberRecord::Target(partitions.clone())), "partitions:orders/0,orders/11,payments/2");
        assert_eq!(line_of(MemberRecord::Target(vec![])), "partitions:");
        let owned = |partition, since| Owned { topic: "orders".into(), partition, since };
        let current =
            SavedCurrent { epoch: 3, previous_epoch: 3, owned: vec![owned(0, 2), owned(11, 3)], ..Default::default() };
        assert_eq!(line_of(MemberRecord::Current(current.clone())), "epoch:3 owned:orders/0@2,orders/11@3");
        let (is_away, waits, gives_up) = (true, true, vec![owned(1, 2)]);
        let current = SavedCurrent { previous_epoch: 2, is_away, waits, owned: vec![], gives_up, ..current };
        let line = "epoch:3 previous:2 away:yes waits:yes owned: gives_up:orders/1@2";
        assert_eq!(line_of(MemberRecord::Current(current)), line);
    }

    #[test]
    fn what_no_member_comes_to_is_no_line_of_one() {
        let good = "number:2 client:c host:h session:1 rebalance:1";
        assert!(MemberRecord::parse(Part::Subscription, good.as_bytes()).is_some());
        for bad in [
            good.replace("number:2", "number:4294967296"),
            good.replace("session:1", "session:2147483648"),
            format!("{good} pattern:a topic:b"),
            format!("{good} protocol:range"),
            good.replace("client:c ", ""),
        ] {
            assert_eq!(MemberRecord::parse(Part::Subscription, bad.as_bytes()), None, "{bad}");
        }
        for bad in
            ["", "partitions:orders", "partitions:orders/x", "partitions:orders/0,", "partitions:orders/4294967296"]
        {
            assert_eq!(MemberRecord::parse(Part::Target, bad.as_bytes()), None, "{bad}");
        }
        for bad in [
            "epoch:3",
            "epoch:2147483648 owned:",
            "epoch:3 away:no owned:",
            "owned:",
            "epoch:3 owned: more",
            "epoch:3 owned:orders/0",
            "epoch:3 owned:orders@0",
            "epoch:3 owned:orders/0@-1",
            "epoch:3 owned: gives_up:x",
        ] {
            assert_eq!(MemberRecord::parse(Part::Current, bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_member_is_read_back(
            number: u32,
            (instance_id, rack_id, pattern) in any::<(Option<String>, Option<String>, Option<String>)>(),
            names: Vec<String>,
            (epoch, previous_epoch) in (0..=i32::MAX, 0..=i32::MAX),
            (is_away, waits) in any::<(bool, bool)>(),
            protocols in proptest::collection::vec((any::<String>(), any::<Vec<u8>>()), 0..3),
            partitions in proptest::collection::vec(("[a-z]{1,3}", any::<u32>()), 0..5),
        ) {
            let target: Partitions = partitions.iter().map(|(topic, partition)| (topic.as_str().into(), *partition)).collect();
            let owned = |(topic, partition): &(Arc<str>, u32)| Owned { topic: topic.clone(), partition: *partition, since: epoch };
            let owned: Vec<_> = target.iter().map(owned).collect();
            let protocols = protocols.into_iter().map(|(name, metadata)| Protocol { name, metadata }).collect();
            let subscription = SavedSubscription {
                number,
                instance_id,
                rack_id,
                pattern,
                names,
                protocols,
                ..SavedSubscription::default()
            };
            let current = SavedCurrent { epoch, previous_epoch, is_away, waits, owned: owned.clone(), gives_up: owned };
            for (part, record) in Part::ALL.into_iter().zip([
                MemberRecord::Subscription(subscription.into()),
                MemberRecord::Target(target),
                MemberRecord::Current(current),
            ]) {
                prop_assert_eq!(MemberRecord::parse(part, &record.to_line()), Some(record));
            }
        }

        #[test]
        fn any_line_is_read_without_harm(line: String) {
            Part::ALL.into_iter().for_each(|part| drop(MemberRecord::parse(part, line.as_bytes())));
        }
    }
}

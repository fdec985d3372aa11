//! The form in which the log has a transactional id.
//!
//! ```text
//! state:ongoing producer_id:1000 epoch:0 timeout:60000 since:1764180000000 partitions:orders/0,orders/1
//!   topics:orders=Nk018hRAQFytWskYqtQduw groups:analytics last:commit last_id:1000 last_epoch:2 by:text version:2
//! ```
//!
//! It is one line: words with one space between them, each where it says something. `topics` tells the ids of the topics in
//! `partitions`. `previous_id` and `previous_epoch` are the pair that may still ask, `next_id` is the producer id that comes once
//! the epochs have run out, `version:2` a transaction whose end raises the epoch, `renew:yes` an id whose next producer gets another
//! producer id.
//!
//! A line comes from the disk, where anything may stand: what the state machine would not have come to is refused.

use super::{
    Epochs, LastTransaction, NEVER_MS, Part, Parts, Phase, ProducerIdentity, Starter, TopicParts, TransactionState,
};
use crate::{
    broker::{
        check_name, random,
        words::{STRING_BYTES_MAX, Words, push, push_number},
    },
    log::{
        Outcome,
        record::{unescape, write_listed},
    },
};
use std::{collections::BTreeMap, sync::Arc};

impl Phase {
    /// The name of the state, as lines say it.
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Empty => "empty",
            Phase::Ongoing { .. } => "ongoing",
            Phase::Prepared { outcome: Outcome::Commit, .. } => "prepare_commit",
            Phase::Prepared { outcome: Outcome::Abort, .. } => "prepare_abort",
            Phase::Completed { outcome: Outcome::Commit, .. } => "complete_commit",
            Phase::Completed { outcome: Outcome::Abort, .. } => "complete_abort",
        }
    }

    /// Kafka's name of the state.
    pub fn kafka_name(&self) -> &'static str {
        match self {
            Phase::Empty => "Empty",
            Phase::Ongoing { .. } => "Ongoing",
            Phase::Prepared { outcome: Outcome::Commit, .. } => "PrepareCommit",
            Phase::Prepared { outcome: Outcome::Abort, .. } => "PrepareAbort",
            Phase::Completed { outcome: Outcome::Commit, .. } => "CompleteCommit",
            Phase::Completed { outcome: Outcome::Abort, .. } => "CompleteAbort",
        }
    }

    /// When its transaction began, in ms; -1: there was none.
    pub fn since_ms(&self) -> i64 {
        match self {
            Phase::Empty => NEVER_MS,
            Phase::Ongoing { since_ms, .. } | Phase::Prepared { since_ms, .. } | Phase::Completed { since_ms, .. } => {
                *since_ms
            }
        }
    }

    /// What its transaction holds, while it is open or being ended.
    pub fn parts(&self) -> Option<&Parts> {
        match self {
            Phase::Ongoing { parts, .. } | Phase::Prepared { parts, .. } => Some(parts),
            Phase::Empty | Phase::Completed { .. } => None,
        }
    }
}

impl TransactionState {
    /// The line.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = Vec::new();
        push(&mut line, "state:", self.phase.name().as_bytes());
        push_identity(&mut line, ["producer_id:", "epoch:"], self.producer);
        push_number(&mut line, "timeout:", self.timeout_ms);
        if let Ok(since) = u64::try_from(self.phase.since_ms()) {
            push_number(&mut line, "since:", since);
        }
        if let Some(parts) = self.phase.parts() {
            parts.write(&mut line);
        }
        if let Some(LastTransaction { identity, outcome }) = self.last {
            push(&mut line, "last:", outcome.name().as_bytes());
            push_identity(&mut line, ["last_id:", "last_epoch:"], identity);
        }
        if let Some(previous) = self.previous {
            push_identity(&mut line, ["previous_id:", "previous_epoch:"], previous);
        }
        if let Some(id) = self.next_id {
            push_number(&mut line, "next_id:", id as u64);
        }
        if self.starter == Starter::Text {
            push(&mut line, "by:", b"text");
        }
        if self.epochs == Epochs::Raised {
            push_number(&mut line, "version:", 2);
        }
        if self.renew {
            push(&mut line, "renew:", b"yes");
        }
        line
    }

    /// What a line says; `None`: it is none, or says what no transactional id comes to.
    pub fn parse(line: &[u8]) -> Option<TransactionState> {
        let mut words = Words::of(line)?;
        let state = words.word("state:")?;
        let producer = identity(&mut words, ["producer_id:", "epoch:"])?;
        let timeout_ms = words.number("timeout:")?;
        let since_ms = words.optional_number("since:")?.map_or(Some(NEVER_MS), |since| i64::try_from(since).ok())?;
        let parts = Parts::parse(&mut words)?;
        let last = match words.word("last:") {
            Some(outcome) => {
                let outcome = [Outcome::Commit, Outcome::Abort].into_iter().find(|one| one.name() == outcome)?;
                Some(LastTransaction { outcome, identity: identity(&mut words, ["last_id:", "last_epoch:"])? })
            }
            None => None,
        };
        let previous = match words.is_next("previous_id:") {
            true => Some(identity(&mut words, ["previous_id:", "previous_epoch:"])?),
            false => None,
        };
        let next_id = words.optional_number("next_id:")?.map(i64::try_from).transpose().ok()?;
        let starter = if words.flag("by:", "text")? { Starter::Text } else { Starter::Kafka };
        let epochs = if words.flag("version:", "2")? { Epochs::Raised } else { Epochs::Kept };
        let renew = words.flag("renew:", "yes")?;
        let phase = match state {
            "empty" => Phase::Empty,
            "ongoing" => Phase::Ongoing { since_ms, parts: parts.clone() },
            "prepare_commit" => Phase::Prepared { outcome: Outcome::Commit, since_ms, parts: parts.clone() },
            "prepare_abort" => Phase::Prepared { outcome: Outcome::Abort, since_ms, parts: parts.clone() },
            "complete_commit" => Phase::Completed { outcome: Outcome::Commit, since_ms },
            "complete_abort" => Phase::Completed { outcome: Outcome::Abort, since_ms },
            _ => return None,
        };
        let is_prepared = matches!(phase, Phase::Prepared { .. });
        let fits = (phase.parts().is_some() || parts.is_empty())
            && phase.since_ms() == since_ms
            && (next_id.is_none() || is_prepared)
            && (producer.epoch < i16::MAX || next_id.is_some());
        let cause = None;
        (fits && words.are_over()).then_some(TransactionState {
            producer,
            previous,
            next_id,
            last,
            timeout_ms,
            starter,
            epochs,
            renew,
            phase,
            cause,
        })
    }
}

impl Parts {
    fn write(&self, line: &mut Vec<u8>) {
        let partition = |part: Part<'_>| format!("{}/{}", part.topic, part.partition);
        let partitions: Vec<_> = self.partitions().map(partition).collect();
        let id = |(topic, parts): (&Arc<str>, &TopicParts)| format!("{topic}={}", random::shown(&parts.topic_id));
        let ids: Vec<_> = self.topics.iter().map(id).collect();
        for (name, list) in [("partitions:", partitions), ("topics:", ids)] {
            if !list.is_empty() {
                push(line, name, list.join(",").as_bytes());
            }
        }
        for (index, group) in self.groups.iter().enumerate() {
            line.extend_from_slice(if index == 0 { b" groups:" } else { b"," });
            write_listed(line, group.as_bytes());
        }
    }

    fn parse(words: &mut Words<'_>) -> Option<Parts> {
        let (partitions, topics) = (words.list("partitions:"), words.list("topics:"));
        let groups = words.list("groups:").into_iter().map(group).collect::<Option<_>>()?;
        let id = |named: &str| {
            let (topic, id) = named.split_once('=')?;
            check_name(topic).ok()?;
            Some((Arc::from(topic), random::parse(id)?))
        };
        let ids: BTreeMap<Arc<str>, [u8; 16]> = topics.into_iter().map(id).collect::<Option<_>>()?;
        let mut parts = Parts { groups, ..Parts::default() };
        for partition in partitions {
            let (topic, index) = partition.split_once('/')?;
            let (topic, id) = ids.get_key_value(topic)?;
            parts.add_partition(topic, *id, index.parse().ok()?);
        }
        (parts.topics.len() == ids.len()).then_some(parts)
    }
}

fn group(word: &str) -> Option<Arc<str>> {
    let name = String::from_utf8(unescape(word.as_bytes()).ok()?.into_owned()).ok()?;
    (name.len() <= STRING_BYTES_MAX).then(|| name.into())
}

fn push_identity(line: &mut Vec<u8>, names: [&str; 2], identity: ProducerIdentity) {
    push_number(line, names[0], identity.id as u64);
    push_number(line, names[1], identity.epoch as u64);
}

fn identity(words: &mut Words<'_>, names: [&str; 2]) -> Option<ProducerIdentity> {
    let id = i64::try_from(words.number(names[0])?).ok()?;
    Some(ProducerIdentity { id, epoch: i16::try_from(words.number(names[1])?).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 16] = [7; 16];

    fn ongoing() -> TransactionState {
        let first = TransactionState::first_begin(1_764_180_000_000, 60_000, 1000);
        let mut parts = Parts { groups: ["analytics".into(), "a, b".into()].into(), ..Parts::default() };
        [0, 1].into_iter().for_each(|partition| parts.add_partition(&"orders".into(), ID, partition));
        first.add(first.producer, &parts, 0).unwrap().unwrap()
    }

    fn line(state: &TransactionState) -> String {
        String::from_utf8(state.to_line()).unwrap()
    }

    #[test]
    fn a_transactional_id_is_a_readable_line() {
        let open = ongoing();
        let begin = "producer_id:1000 epoch:0 timeout:60000";
        let parts = "partitions:orders/0,orders/1 topics:orders=BwcHBwcHBwcHBwcHBwcHBw groups:a\\x2c\\x20b,analytics";
        assert_eq!(line(&open), format!("state:ongoing {begin} since:1764180000000 {parts} by:text version:2"));
        let prepared = open.abort(super::super::Cause::TimedOut, || Ok(0)).unwrap();
        assert_eq!(
            line(&prepared.complete()),
            "state:complete_abort producer_id:1000 epoch:1 timeout:60000 since:1764180000000 last:abort last_id:1000 \
             last_epoch:0 previous_id:1000 previous_epoch:0 by:text version:2"
        );
        let kafka = TransactionState::first_init(super::super::Init { timeout_ms: 60_000, known: None }, 1000);
        assert_eq!(line(&kafka), format!("state:empty {begin}"));
    }

    #[test]
    fn what_no_transactional_id_comes_to_is_no_line_of_one() {
        let good = line(&ongoing());
        assert!(TransactionState::parse(good.as_bytes()).is_some());
        for bad in [
            "".into(),
            "state:empty".into(),
            "state:dead producer_id:1 epoch:0 timeout:1".into(),
            "state:empty producer_id:1 epoch:32768 timeout:1".into(),
            "state:empty producer_id:1 epoch:32767 timeout:1".into(),
            "state:empty producer_id:9223372036854775808 epoch:0 timeout:1".into(),
            "state:empty producer_id:1 epoch:0 timeout:1 since:1".into(),
            "state:empty producer_id:1 epoch:0 timeout:1 next_id:1".into(),
            "state:empty producer_id:1 epoch:0 timeout:1 last:done last_id:1 last_epoch:0".into(),
            "state:empty producer_id:1 epoch:0 timeout:1 renew:no".into(),
            "state:empty producer_id:1 epoch:0 timeout:1 version:3".into(),
            good.replace("state:ongoing", "state:complete_commit"),
            good.replace("orders/1", "orders/x"),
            good.replace("orders/1", "payments/1"),
            good.replace("topics:orders=", "topics:pay/ments="),
            good.replace("topics:orders=", "topics:more=BwcHBwcHBwcHBwcHBwcHBw,orders="),
            good.replace("analytics", "\\q"),
            good.replace("analytics", &"g".repeat(32_768)),
            format!("{good} more"),
        ] {
            assert_eq!(TransactionState::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}

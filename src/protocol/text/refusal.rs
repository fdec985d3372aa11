//! `ERROR <CODE> [fields] <sentence>`: what a client is told when a line cannot be carried out, and which verb helps.

use crate::{
    broker::{self, Code, Error},
    log::record,
};

/// Why a line is refused: Kafka's name for it, and a sentence that says what to try next.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Kafka's name of the error; `INVALID_REQUEST` for a line that is no request.
    pub code: Code,
    /// Fields (with a space behind each) and the sentence.
    pub text: String,
}

impl Refusal {
    /// The line is no request.
    pub fn invalid(text: impl Into<String>) -> Refusal {
        Refusal { code: Code::InvalidRequest, text: text.into() }
    }

    /// Appends the line.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"ERROR ");
        out.extend_from_slice(self.code.name().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.text.as_bytes());
        out.push(b'\n');
    }
}

impl From<record::Malformed> for Refusal {
    fn from(error: record::Malformed) -> Refusal {
        Refusal::invalid(error.0)
    }
}

impl From<broker::Error> for Refusal {
    fn from(error: broker::Error) -> Refusal {
        let fields = match &error {
            Error::OffsetOutOfRange { first, end } => format!("first:{first} end:{end} "),
            Error::Corrupt { first, next, .. } => format!("first:{first} next:{next} "),
            _ => String::new(),
        };
        let hint = match &error {
            Error::UnknownTopic(_) => "; TOPICS lists those there are, CREATE makes one",
            Error::TopicExists(_) => "; ALTER changes it",
            Error::OffsetOutOfRange { .. } => "; ask for one of them, or earliest or latest",
            Error::TooLarge { .. } => "; send less or raise it with ALTER",
            Error::KeyRequired => "; give the record one (SEND, key:)",
            Error::Sequence(_) => "; send what comes before it, or say PRODUCER and begin at 0",
            Error::UnknownProducerId(_) => "; PRODUCER alone gives a new one",
            Error::UnknownTransactionalId(_) => "; TRANSACTIONS lists those there are, BEGIN makes one",
            Error::UnknownMemberId => "; JOIN again",
            Error::NotAssigned { .. } => "; POLL says what it holds",
            Error::UnknownGroup(_) => "; GROUPS lists those there are, JOIN makes one",
            _ => "",
        };
        Refusal { code: error.code(), text: format!("{fields}{error}{hint}") }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::verbs::VERBS, *};
    use std::collections::BTreeMap;

    /// Verbs and codes of the table of errors.
    fn table() -> BTreeMap<&'static str, Vec<&'static str>> {
        let mut table = BTreeMap::<_, Vec<_>>::new();
        let text = include_str!("../text.md").split("\n# Errors\n").nth(1).unwrap();
        let rows = text.split("\n# ").next().unwrap().lines().filter_map(|line| line.strip_prefix("| "));
        for row in rows.skip(2) {
            let mut words = row.split(" | ");
            table.entry(words.next().unwrap()).or_default().push(words.next().unwrap());
        }
        table
    }

    #[test]
    fn the_table_of_errors_has_every_verb_and_only_names_that_there_are() {
        let table = table();
        for (verb, codes) in &table {
            for code in codes {
                assert!(Code::ALL.iter().any(|known| known.name() == *code), "{verb} {code}");
            }
        }
        let verbs: Vec<_> = table.keys().filter(|verb| **verb != "any").collect();
        let mut known: Vec<_> = VERBS.iter().map(|verb| &verb.name).collect();
        if cfg!(not(feature = "users")) {
            known.extend(&["ACL", "AUTH", "USER", "WHOAMI"]);
        }
        known.sort();
        assert_eq!(verbs, known);
    }

    /// A Kafka client was told `no topic 'orders'; TOPICS lists those there are, CREATE makes one`, which are no words of its.
    #[test]
    fn what_went_wrong_is_said_without_verbs_and_the_hint_with_them() {
        let (topic, group) = ("t".to_string(), "g".to_string());
        for error in [
            Error::UnknownTopic(topic.clone()),
            Error::UnknownPartition { topic: topic.clone(), partition: 1, partitions: 1 },
            Error::TopicExists(topic.clone()),
            Error::OffsetOutOfRange { first: 0, end: 1 },
            Error::Corrupt { first: 0, next: 1, place: "t/0".into() },
            Error::TooLarge { bytes: 2, limit: 1 },
            Error::BatchTooLarge { bytes: 2, limit: 1 },
            Error::KeyRequired,
            Error::NoTime(-1),
            Error::InvalidTimestamp { timestamp: 9, least: 0, most: 1 },
            Error::UnknownProducerId(7),
            Error::UnknownMemberId,
            Error::NotAssigned { topic, partition: 1 },
            Error::RebalanceInProgress,
            Error::InconsistentGroupProtocol,
            Error::MemberIdRequired("m".into()),
            Error::FencedInstanceId,
            Error::UnknownGroup(group.clone()),
            Error::NonEmptyGroup(group),
        ] {
            let words = |text: &str| {
                let words = text.split(|letter: char| !letter.is_alphanumeric()).map(String::from);
                words.filter(|word| VERBS.iter().any(|verb| verb.name == word)).collect::<Vec<_>>()
            };
            assert_eq!(words(&error.to_string()), Vec::<String>::new());
            if let Error::UnknownTopic(_) = error {
                assert_eq!(words(&Refusal::from(error).text), ["TOPICS", "CREATE"]);
            }
        }
    }

    #[test]
    fn verbs_that_touch_the_disk_can_be_told_that_it_failed() {
        let table = table();
        // A SEEK reads what its member's JOIN and POLL read before: no conversation can make only the SEEK fail.
        // Nor one that the disk fails only at END. A RENEW writes nothing.
        // There are no rules where a conversation has no users.
        let none = ["ACL", "AUTH", "WHOAMI", "END", "HELP", "INFO", "PING", "QUIT", "RENEW", "SEEK", "TOPICS", "USE"];
        for verb in VERBS.iter().map(|verb| verb.name).filter(|verb| !none.contains(verb)) {
            assert!(table[verb].contains(&Code::KafkaStorageError.name()), "{verb}");
        }
    }
}

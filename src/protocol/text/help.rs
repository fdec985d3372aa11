//! HELP: the lesson, the verbs, the settings of topics, and the words of the trade in plain and in technical terms.

use super::{
    Answered, Flow, Refusal, Session,
    verbs::{self, VERBS},
    words::Words,
};
use crate::{
    config::{SETTINGS, Setting, Settings},
    log::record::shown,
    protocol::connection::Output,
};

/// A word of the trade.
struct Term {
    name: &'static str,
    plain: &'static str,
    technical: &'static str,
}

macro_rules! terms {
    ($($name:literal $plain:literal $technical:literal;)*) => {
        [$(Term { name: $name, plain: $plain, technical: $technical }),*]
    };
}

static TERMS: [Term; 21] = terms! {
    "topic" "a notebook with a name: everybody who knows the name can write into it and read it"
        "a named set of partitions that share settings; the unit of CREATE, DROP and retention";
    "broker" "the librarian who keeps the notebooks: takes what you hand in, and shows any page you ask for"
        "the server process: owns the logs, accepts connections, answers PRODUCE and CONSUME";
    "producer" "somebody who writes into a notebook"
        "a client that appends records; it waits for an ACK, which tells the record's offset";
    "consumer" "somebody who reads a notebook, at a pace of their own, without tearing out pages"
        "a client that reads records by offset; reading removes nothing, and any number may read";
    "partition" "one volume of a notebook that has several, so that several people can write and read at once"
        "an ordered, append-only sequence of records with offsets of its own; order is kept within it, not across";
    "offset" "the line number in a volume: the first line is 0, and a line never changes its number"
        "the position of a record in its partition, counted from 0; never given twice";
    "position" "a way to say where to begin reading: a line number, or a phrase like 'from the end'"
        "N, -N (N records before the end), earliest, latest or time:<ms>";
    "replication factor" "how many libraries keep a copy; this one keeps one, so look after the disk"
        "the number of brokers that hold a partition; plainlog is one broker, so it is 1";
    "group" "a team that shares the reading: each page is read by one member, and the team remembers how far it got"
        "consumers that divide the partitions of their topics among them and commit offsets together";
    "share group" "a team at one stack of letters: whoever is free takes the next one, and says when it is done"
        "consumers of a queue (KIP-932): a record is acquired by one member until it accepts, releases or rejects it, or its lock runs out";
    "record" "one line in the notebook: the message, and perhaps a key, a time and some labels"
        "key, value, headers and timestamp, stored as one line under one offset";
    "message" "the text that you want to pass on"
        "the value of a record; `message:` is its field when it can stand in the log as it is";
    "key" "what a message is about, like a customer's name: messages with the same key stay in order"
        "bytes that choose the partition (murmur2) and that compaction keeps the latest record of";
    "header" "a label on the envelope"
        "a name and a value beside the record's own; repeats and order are kept";
    "timestamp" "when it was written"
        "milliseconds since 1970-01-01 UTC, of the producer or of the append";
    "tombstone" "a note that says: forget what was said about this key"
        "a record with a null value";
    "segment" "a volume is kept in several bindings; old ones can be thrown away whole"
        "a pair of files (.log and .batches) named by its base offset; retention removes whole ones";
    "retention" "how long old pages are kept"
        "retention.ms and retention.bytes: segments that are older or in excess are removed";
    "isolation" "whether a reader waits until several notes that belong together are all there, and skips what was crossed out"
        "read_committed ends at the last stable offset, where the oldest open transaction began, and passes over aborted records; read_uncommitted reads up to the high watermark";
    "transaction" "lines in several notebooks that are all there at once, or never"
        "records and offsets under a transactional id: a marker in each partition commits or aborts them, and readers are held back until then";
    "lag" "how many lines a reader has still to read"
        "the end offset minus the offset that a reader or group has reached";
};

const LESSON: &[&str] = &[
    "Type PRODUCE hello and Enter: the broker appends it and answers ACK offset:0.",
    "Type CONSUME 0: it answers MESSAGE offset:0 hello. CONSUME 1 wait:10000 waits ten seconds for the next.",
    "Each message has a number, its offset; reading removes nothing; the log is a text file.",
    "USE orders makes PRODUCE and CONSUME mean the topic orders.",
    "HELP <verb> explains a verb, HELP SETTINGS lists the settings of topics, HELP <term> a word: offset, topic, partition, broker, producer, consumer, group, ...",
    "Verbs of the lesson: PRODUCE CONSUME USE QUIT",
    "Groups share the reading: JOIN POLL COMMIT SEEK LEAVE GROUPS GROUP RESET",
    "Share groups are queues, JOIN jobs orders mode:share: POLL ACCEPT RELEASE REJECT RENEW",
    "What takes effect together: BEGIN END ABORT TRANSACTIONS TRANSACTION",
    #[cfg(feature = "users")]
    "Who speaks, and who there is: AUTH WHOAMI USER",
    if cfg!(feature = "users") {
        "All others: SEND PRODUCER TAIL FETCH TOPICS TOPIC CREATE ALTER DROP TRIM ACL PING HELP INFO"
    } else {
        "All others: SEND PRODUCER TAIL FETCH TOPICS TOPIC CREATE ALTER DROP TRIM PING HELP INFO"
    },
];

impl Session {
    /// `HELP [<verb>|<term>|<setting>|settings]`
    pub(super) fn help(&mut self, words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let lines = match words.rest() {
            None => LESSON.iter().map(|line| line.to_string()).collect(),
            Some(asked) => explain(asked).ok_or_else(|| {
                let terms = TERMS.iter().map(|term| term.name).collect::<Vec<_>>().join(", ");
                Refusal::invalid(format!(
                    "'{}' is no verb, no term and no setting; HELP SETTINGS lists these, the terms are {terms}",
                    shown(asked)
                ))
            })?,
        };
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        output.bytes.extend_from_slice(format!("HELP count:{}\n{text}", lines.len()).as_bytes());
        Ok(Flow::Next)
    }
}

/// A setting with its default, and what it is.
fn told(setting: &Setting) -> String {
    let (name, default) = (setting.name, setting.value(&Settings::default()));
    format!("{name}:{default} takes {}: {}", setting.takes(), setting.what)
}

fn explain(asked: &[u8]) -> Option<Vec<String>> {
    if asked.eq_ignore_ascii_case(b"settings") {
        return Some(SETTINGS.iter().map(told).collect());
    }
    if let Some(setting) = std::str::from_utf8(asked).ok().and_then(Setting::named) {
        return Some(vec![told(setting)]);
    }
    // TOPIC is a verb and topic a word; who asks for either wants to know both.
    let verb = verbs::find(asked).map(|number| {
        let verb = &VERBS[number];
        let usage = format!("{} {}", verb.name, verb.usage);
        let more = if verb.usage.contains("<setting>") { "; HELP SETTINGS lists the settings" } else { "" };
        let told = vec![usage.trim_end().to_string(), format!("{}: {}{more}", verb.name, verb.meaning)];
        // Whoever gives rights wants to know what takes which.
        let all = verb.name == "ACL";
        told.into_iter()
            .chain(VERBS.iter().filter(|_| all).map(|verb| format!("{} needs {}", verb.name, verb.needs)))
            .collect()
    });
    let singular = asked.strip_suffix(b"s").unwrap_or(asked);
    let term =
        TERMS.iter().find(|term| [asked, singular].iter().any(|word| term.name.as_bytes().eq_ignore_ascii_case(word)));
    let term = term.map(|term| {
        vec![
            format!("{}, in plain words: {}", term.name, term.plain),
            format!("{}, technically: {}", term.name, term.technical),
        ]
    });
    match (verb, term) {
        (None, None) => None,
        (verb, term) => Some(verb.into_iter().chain(term).flatten().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lesson_names_every_verb() {
        for verb in &VERBS {
            assert!(LESSON.iter().any(|line| line.contains(verb.name)), "{}", verb.name);
        }
    }

    #[test]
    fn terms_are_told_in_plain_and_in_technical_words() {
        for term in [
            "topic",
            "broker",
            "producer",
            "consumer",
            "partition",
            "offset",
            "replication factor",
            "group",
            "Offsets",
            "isolation",
        ] {
            let lines = explain(term.as_bytes()).unwrap().join("\n");
            assert!(lines.contains("in plain words") && lines.contains("technically"), "{term}");
        }
        assert!(explain(b"nonsense").is_none());
    }
}

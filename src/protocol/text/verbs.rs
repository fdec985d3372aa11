//! The table of verbs: the whole interface on one screen. Dispatch, HELP and "did you mean" come from it.

use super::{Answered, Flow, Refusal, Session, words::Words};
#[cfg(feature = "users")]
use crate::protocol::needs::RULES;
use crate::{
    log::record::{as_word, shown},
    metrics::TrafficSum,
    protocol::{
        connection::Output,
        needs::{
            GROUP_DESCRIBE, GROUP_RESET, JOINING, MEMBER, NOTHING, NUMBER, Needs, SHOWN, TOPIC_ALTER, TOPIC_CREATE,
            TOPIC_DELETE, TOPIC_DESCRIBE, TOPIC_READ, TOPIC_SHOW, TOPIC_TRIM, TOPIC_WRITE, TRANSACTION_DESCRIBE,
            TRANSACTION_WRITE,
        },
    },
};

/// A verb.
pub(super) struct Verb {
    pub(super) name: &'static str,
    /// What may follow it.
    pub(super) usage: &'static str,
    /// What it does, in plain words.
    pub(super) meaning: &'static str,
    /// Words that people try instead.
    pub(super) also: &'static [&'static str],
    /// What its caller has to be allowed.
    pub(super) needs: Needs,
    pub(super) run: fn(&mut Session, Words<'_>, &mut Output<'_>) -> Answered,
}

macro_rules! verbs {
    ($($(#[$if:meta])? $name:literal $usage:literal $meaning:literal $also:tt needs $needs:ident => $run:expr;)*) => {
        [$($(#[$if])? Verb { name: $name, usage: $usage, meaning: $meaning, also: &$also, needs: $needs, run: $run }),*]
    };
}

/// All verbs, the lesson's first. PRODUCE and SEND stand here for HELP; they are gathered before they are run.
pub(super) static VERBS: [Verb; if cfg!(feature = "users") { 38 } else { 34 }] = verbs! {
    "PRODUCE" "<message>" "append a message to the connection's partition" ["PUB", "PUBLISH", "PUT", "WRITE", "ADD", "PUSH"] needs TOPIC_WRITE => |_, _, _| Ok(Flow::Next);
    "CONSUME" "<position> [wait:<ms>] [isolation:read_uncommitted]" "read the message at an offset, or wait for it" ["GET", "READ", "POP", "SUB", "SUBSCRIBE"] needs TOPIC_READ => Session::consume;
    "USE" "<topic>[/<p>]" "choose the partition that PRODUCE and CONSUME mean" ["SELECT", "OPEN"] needs TOPIC_DESCRIBE => Session::use_partition;
    "SEND" "<topic>[/<p>] [sequence:<n>] [timestamp:<ms>] [key:<k>] [header.<N>:<v>]... message:<v>|escaped:<v>|base64:<v>|tombstone" "append a record with all its fields to any topic" [] needs TOPIC_WRITE => |_, _, _| Ok(Flow::Next);
    "PRODUCER" "[<producer_id>]" "number the records that the connection sends, so that none is stored twice" ["IDEMPOTENT"] needs NUMBER => Session::producer;
    "BEGIN" "<transactional-id> [timeout:<ms>]" "begin a transaction: what is written until END takes effect together" ["START"] needs TRANSACTION_WRITE => Session::begin;
    "END" "" "end the transaction: all of it takes effect" [] needs TRANSACTION_WRITE => Session::end;
    "ABORT" "[<transactional-id>]" "end the transaction, or that of somebody else: none of it takes effect" ["ROLLBACK", "CANCEL"] needs TRANSACTION_WRITE => Session::abort;
    "TRANSACTIONS" "" "list the transactional ids" [] needs SHOWN => Session::transactions;
    "TRANSACTION" "<transactional-id>" "describe a transaction and its partitions" ["TX"] needs TRANSACTION_DESCRIBE => Session::transaction;
    "TAIL" "<topic>[/<p>] [from:<position>] [count:<n>] [until:end] [timestamps:yes] [isolation:read_uncommitted]" "read the log's lines, then new ones as they come" ["FOLLOW", "WATCH", "STREAM"] needs TOPIC_READ => Session::tail;
    "FETCH" "<topic>/<p> <position> [max_bytes:<n>] [min_bytes:<n>] [wait:<ms>] [isolation:read_uncommitted]" "read whole batches, for programs" [] needs TOPIC_READ => Session::fetch;
    "TOPICS" "[all]" "list the topics" ["LIST", "LS", "SHOW"] needs SHOWN => Session::topics;
    "TOPIC" "<topic>" "describe a topic and its partitions" ["DESCRIBE"] needs TOPIC_SHOW => Session::topic;
    "CREATE" "<topic> [partitions:<n>] [<setting>:<value>]..." "make a topic" ["NEW", "MAKE"] needs TOPIC_CREATE => Session::create;
    "ALTER" "<topic> [partitions:<n>] [<setting>:<value>]..." "change a topic's settings, or add partitions" ["SET", "CHANGE"] needs TOPIC_ALTER => Session::alter;
    "DROP" "<topic>" "delete a topic with all its records" ["DELETE", "REMOVE", "RM"] needs TOPIC_DELETE => Session::drop_topic;
    "TRIM" "<topic>/<p> <position>" "delete the records before a position" ["TRUNCATE", "PURGE"] needs TOPIC_TRIM => Session::trim;
    "JOIN" "<group> <topic>[,<topic>]... [from:<position>] [commit:auto|manual] [session:<ms>] [isolation:read_uncommitted] | mode:share [from:earliest|latest] [lock:<ms>] [deliveries:<n>] [isolation:read_uncommitted] [dead:<topic>]" "become a member of a group, which shares the reading of topics, or (mode:share) their records" [] needs JOINING => Session::join;
    "POLL" "[max:<n>] [max_bytes:<n>] [wait:<ms>]" "read what comes next in the member's partitions, or wait for it" ["RECEIVE"] needs MEMBER => Session::poll;
    "ACCEPT" "<topic>/<p> <offset>[-<offset>]" "say that records of a share group are processed" ["ACK", "ACKNOWLEDGE", "DONE"] needs MEMBER => Session::accept;
    "RELEASE" "<topic>/<p> <offset>[-<offset>]" "give records of a share group back, for others" ["NACK", "REQUEUE"] needs MEMBER => Session::release;
    "REJECT" "<topic>/<p> <offset>[-<offset>]" "say that nobody can process records of a share group" ["BURY"] needs MEMBER => Session::reject;
    "RENEW" "<topic>/<p> <offset>[-<offset>]" "keep records of a share group for another lock time" ["TOUCH", "EXTEND"] needs MEMBER => Session::renew;
    "COMMIT" "[<topic>/<p> <offset>]... [group:<group> [member:<id> generation:<n>]]" "remember how far the group has read" [] needs MEMBER => Session::commit;
    "SEEK" "<topic>/<p> <position>" "go on elsewhere in one of the member's partitions" [] needs MEMBER => Session::seek;
    "LEAVE" "" "leave the group" ["UNSUBSCRIBE"] needs NOTHING => Session::leave;
    "GROUPS" "" "list the groups" [] needs SHOWN => Session::groups;
    "GROUP" "<group>" "describe a group: its members, what it committed, its lag" [] needs GROUP_DESCRIBE => Session::group;
    "RESET" "<group> [<topic>/<p> <position>]..." "set how far a group without members has read, or forget the group" [] needs GROUP_RESET => Session::reset;
    #[cfg(feature = "users")] "ACL" "add|list|delete [resource:topic|group|cluster|transactional-id] [name:<name>] [pattern:literal|prefixed|match|any] [principal:User:<name>] [host:<address>] [operation:<operation>] [permission:allow|deny]" "say who may do what, where callers say who they are; HELP acl tells what each verb needs" ["GRANT", "REVOKE", "RULE", "RULES"] needs RULES => Session::acl;
    #[cfg(feature = "users")] "AUTH" "<user> <password>" "say who speaks; the password is the rest of the line" ["LOGIN", "PASS"] needs NOTHING => Session::auth;
    #[cfg(feature = "users")] "WHOAMI" "" "ask who speaks" ["ID", "WHO"] needs NOTHING => Session::whoami;
    #[cfg(feature = "users")] "USER" "list|add <user> <password>|password <user> <password>|delete <user>" "look after the users" ["USERS", "PASSWD"] needs RULES => Session::user;
    "PING" "" "ask whether the broker is there" [] needs NOTHING => Session::ping;
    "HELP" "[<verb>|<term>|<setting>|SETTINGS]" "explain the protocol, a verb, a term or a setting of topics" ["?", "MAN", "COMMANDS"] needs NOTHING => Session::help;
    "INFO" "" "tell about the broker" ["STATUS", "STATS", "VERSION"] needs SHOWN => Session::info;
    "QUIT" "" "close the connection" ["EXIT", "BYE", "CLOSE", "STOP"] needs NOTHING => |_, words, _| words.end().map(|()| Flow::Close).map_err(Into::into);
};

/// The number in the table of the verb of this name, in any case.
pub(super) fn find(name: &[u8]) -> Option<usize> {
    VERBS.iter().position(|verb| verb.name.as_bytes().eq_ignore_ascii_case(name))
}

/// PRODUCE's number, and SEND's: those that are gathered.
pub(super) const PRODUCE: usize = 0;
pub(super) const SEND: usize = 3;
/// The number of lines that begin with no verb.
pub(super) const NONE: usize = VERBS.len();

/// The name of the verb with this number.
#[cfg(feature = "http")]
pub fn name(number: usize) -> Option<&'static str> {
    VERBS.get(number).map(|verb| verb.name)
}

/// What to say of a word that is no verb.
pub(super) fn unknown(word: &[u8]) -> Refusal {
    if word.is_empty() {
        return Refusal::invalid("the line begins with no verb; HELP lists all");
    }
    let upper = word.to_ascii_uppercase();
    let tried = |verb: &&Verb| verb.also.iter().any(|also| also.as_bytes() == upper);
    let near = |verb: &&Verb| distance(&upper, verb.name.as_bytes()) <= 2;
    let meant = VERBS
        .iter()
        .find(tried)
        .or_else(|| VERBS.iter().filter(near).min_by_key(|verb| distance(&upper, verb.name.as_bytes())));
    let hint = meant.map_or(String::new(), |verb| format!("; did you mean {}?", verb.name));
    let end = if hint.is_empty() { "; " } else { " " };
    Refusal::invalid(format!("unknown verb '{}'{hint}{end}HELP lists all", shown(word)))
}

/// Levenshtein distance, of words that are short enough to be a verb's misspelling.
fn distance(a: &[u8], b: &[u8]) -> usize {
    if a.len() > 12 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

impl Session {
    fn ping(&mut self, words: Words<'_>, output: &mut Output<'_>) -> Answered {
        words.end()?;
        output.bytes.extend_from_slice(b"PONG\n");
        Ok(Flow::Next)
    }

    /// `INFO`
    fn info(&mut self, words: Words<'_>, output: &mut Output<'_>) -> Answered {
        words.end()?;
        let broker = self.broker.for_metrics();
        let (config, metrics, shared) = (broker.config(), broker.metrics(), broker.share_counts());
        let TrafficSum { records_in, bytes_in, records_read, bytes_read } = broker.traffic();
        let data: String = config.data_dir.as_ref().map_or("(in memory)".into(), |dir| dir.display().to_string());
        let nodes = broker.nodes();
        // Where records live on nodes, neither is this program's.
        let on_nodes = nodes.is_some();
        let here = |value: String| if on_nodes { "-".into() } else { value };
        // What all do together is for those who may see all.
        let sees_all = broker.may_see_cluster().is_ok();
        let of_all = |value: String| if sees_all { value } else { "-".into() };
        let count = |count: u64| of_all(count.to_string());
        let nodes = nodes.into_iter().flat_map(|nodes| {
            let missing: Vec<_> = nodes.missing.keys().map(i32::to_string).collect();
            let missing = if missing.is_empty() { "-".into() } else { missing.join(",") };
            [
                ("nodes", nodes.there.len().to_string()),
                ("nodes_missing", missing),
                ("partitions_leaderless", nodes.leaderless.len().to_string()),
            ]
        });
        let lines = [
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("uptime_ms", metrics.uptime().as_millis().to_string()),
            ("connections", count(metrics.connections.count() as u64)),
            ("text_requests", count(metrics.text.count())),
            ("kafka_requests", count(metrics.kafka.count())),
            ("http_requests", count(metrics.http.count())),
            ("errors", count(metrics.errors())),
            ("records_in", records_in.to_string()),
            ("bytes_in", bytes_in.to_string()),
            ("records_read", records_read.to_string()),
            ("bytes_read", bytes_read.to_string()),
            ("syncs", count(broker.syncs().count())),
            ("rebalances", count(metrics.rebalances.get())),
            ("shared_in_flight", count(broker.shares_in_flight())),
            ("shared_redelivered", count(shared.redelivered.get())),
            ("shared_rejected", count(shared.rejected.get() + shared.exhausted.get())),
            ("damaged_batches", count(broker.damaged_batches())),
            ("flush", here(config.flush.to_string().replace(' ', ""))),
            ("data_dir", of_all(here(as_word(&data)))),
            ("topics", broker.topic_count().to_string()),
            ("default_partitions", here(config.default_partitions.to_string())),
            ("cluster_id", broker.cluster_id()),
        ];
        let lines: Vec<_> = lines.into_iter().chain(nodes).collect();
        let text: String = lines.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        output.bytes.extend_from_slice(format!("INFO count:{}\n{text}", lines.len()).as_bytes());
        Ok(Flow::Next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_have_numbers() {
        assert_eq!([VERBS[PRODUCE].name, VERBS[SEND].name], ["PRODUCE", "SEND"]);
        assert_eq!(find(b"quit"), Some(VERBS.len() - 1));
        const { assert!(NONE < crate::metrics::ROWS_MAX) };
    }

    #[test]
    fn a_misspelt_verb_is_guessed() {
        let hint = |word: &str| unknown(word.as_bytes()).text;
        assert_eq!(hint("PRODUSE"), "unknown verb 'PRODUSE'; did you mean PRODUCE? HELP lists all");
        assert_eq!(hint("delete"), "unknown verb 'delete'; did you mean DROP? HELP lists all");
        assert_eq!(hint("topcs"), "unknown verb 'topcs'; did you mean TOPICS? HELP lists all");
        assert_eq!(hint("XYZZY"), "unknown verb 'XYZZY'; HELP lists all");
        assert_eq!(hint(""), "the line begins with no verb; HELP lists all");
    }
}

//! BEGIN, END and ABORT: what the connection writes in between takes effect together or not at all. TRANSACTIONS and TRANSACTION for
//! administrators.
//!
//! ```text
//!            BEGIN                     END, ABORT
//! outside ───────────► within ───────────────────────► outside
//!    │                   │ an ERROR to any line: it can only be aborted
//!    │ BEGIN refused     │ fenced, over its time, aborted by somebody else: it is lost
//!    └──► refused ──────────────────── END, ABORT ───► outside        both: nothing is written until then
//! ```
//!
//! What was meant to be in a transaction never lands outside of one, so a script need look at the answer to END only.

use super::{
    Answered, Flow, Refusal, Session,
    words::{Words, group_name, number, number_or},
};
use crate::{
    backend::Transaction,
    broker::{
        Code, Error, LastTransaction, Outcome, ProducerIdentity, TransactionSummary,
        group::{Committer, classic::Sender},
    },
    log::record::{shown, unescape, write_word},
    protocol::connection::Output,
};

/// How long a transaction may take, unless BEGIN says otherwise.
const TIMEOUT_MS: u64 = 60_000;

/// Verbs that change topics and groups, which no ABORT could take back.
const REFUSED_WITHIN: [&str; 13] = [
    "CREATE", "ALTER", "DROP", "TRIM", "RESET", "JOIN", "LEAVE", "ACCEPT", "RELEASE", "REJECT", "RENEW", "AUTH", "USER",
];

/// Where the connection stands.
#[derive(Debug, Default)]
pub(super) enum Stage {
    /// What it writes takes effect at once.
    #[default]
    Outside,
    /// It has begun a transaction, which may be lost meanwhile.
    Within(Transaction),
    /// Its BEGIN was refused, and this is what everything is told that was meant to be in the transaction.
    Refused(Refusal),
}

/// `group:<group> [member:<id> generation:<n>]`: whose offsets a COMMIT commits that is not the connection's own.
#[derive(Debug)]
pub(super) struct Elsewhere {
    group: String,
    member: Option<(String, i32)>,
}

impl Stage {
    /// An error if nothing can be written as the connection stands.
    pub(super) fn may_write(&self) -> Result<(), Refusal> {
        match self {
            Stage::Outside => Ok(()),
            Stage::Within(transaction) => Ok(transaction.check()?),
            Stage::Refused(why) => Err(why.clone()),
        }
    }

    /// Tells the client that a line is refused.
    pub(super) fn refuse(&mut self, refusal: &Refusal, out: &mut Vec<u8>) {
        self.doom(refusal);
        refusal.write(out);
    }

    /// A line was refused: nothing of the transaction will take effect.
    pub(super) fn doom(&mut self, refusal: &Refusal) {
        if let Stage::Within(transaction) = self {
            transaction.doom(format!("{} {}", refusal.code.name(), refusal.text));
        }
    }

    /// An error if the verb is not for transactions.
    pub(super) fn may_run(&self, verb: &str) -> Result<(), Refusal> {
        if matches!(self, Stage::Outside) || !REFUSED_WITHIN.contains(&verb) {
            return Ok(());
        }
        Err(invalid(format!(
            "{verb} cannot be taken back, so it is for outside of a transaction; END or ABORT it first"
        )))
    }

    /// An error if a record cannot have a number as the connection stands.
    pub(super) fn may_number(&self) -> Result<(), Refusal> {
        match self {
            Stage::Outside => Ok(()),
            _ => Err(invalid("the broker numbers the records of a transaction; send it without sequence:")),
        }
    }

    /// Whether a BEGIN or an ABORT of somebody else's is in its place: nothing is open here, or what was is lost.
    fn is_over(&self) -> bool {
        match self {
            Stage::Within(transaction) => transaction.check_not_lost().is_err(),
            Stage::Outside | Stage::Refused(_) => true,
        }
    }
}

impl Session {
    /// `BEGIN <transactional-id> [timeout:<ms>=60000]`
    pub(super) fn begin(&mut self, words: Words<'_>, output: &mut Output<'_>) -> Answered {
        if !self.stage.is_over() {
            return Err(invalid("a transaction is open here already; END or ABORT it first").into());
        }
        let lost = self.stage.may_write().err();
        if let Stage::Within(_) = std::mem::take(&mut self.stage) {
            self.out_of_transaction(Outcome::Abort);
        }
        self.try_begin(words, output).inspect_err(|refusal| {
            let why =
                format!("BEGIN was refused, so there is no transaction: {} {}", refusal.code.name(), refusal.text);
            // Who was fenced is told so until a BEGIN succeeds.
            let fenced = lost.filter(|lost| lost.code == Code::ProducerFenced);
            self.stage = Stage::Refused(fenced.unwrap_or_else(|| invalid(why)));
        })?;
        Ok(Flow::Next)
    }

    fn try_begin(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Result<(), Refusal> {
        let id = transactional_id(words.expect("BEGIN takes a transactional id; it")?)?;
        let [timeout] = words.named(["timeout"])?;
        let timeout_ms = number_or("timeout:", timeout, TIMEOUT_MS)?;
        if self.member.as_ref().is_some_and(|member| member.commits_by_itself()) {
            return Err(invalid(
                "each POLL of this connection commits what the one before answered, and no ABORT takes that back; JOIN with commit:manual",
            ));
        }
        let begun = self.broker.begin_transaction(&id, timeout_ms)?;
        let identity = begun.transaction.identity();
        if let Some(member) = &mut self.member {
            // Who lost its place is told so by its next POLL or COMMIT.
            let _ = member.begin_transaction(timeout_ms);
        }
        self.written.enter(&begun.transaction);
        self.stage = Stage::Within(begun.transaction);
        write_begun(identity, begun.last, &mut output.bytes);
        self.explain(|| match identity {
            Some(ProducerIdentity { id: producer, epoch }) => {
                format!("began '{id}' as producer {producer} in epoch {epoch}")
            }
            None => format!("began '{id}'"),
        });
        Ok(())
    }

    /// `END`
    pub(super) fn end(&mut self, words: Words<'_>, output: &mut Output<'_>) -> Answered {
        words.end()?;
        self.finish(Outcome::Commit)?;
        output.bytes.extend_from_slice(b"OK\n");
        Ok(Flow::Next)
    }

    /// `ABORT [<transactional-id>]`
    pub(super) fn abort(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let of_others = words.next().map(transactional_id).transpose()?;
        words.end()?;
        match of_others {
            None => self.finish(Outcome::Abort)?,
            Some(_) if !matches!(self.stage, Stage::Outside) => {
                return Err(invalid("END or ABORT the transaction of this connection first").into());
            }
            Some(id) => self.broker.abort_transaction(&id)?,
        }
        output.bytes.extend_from_slice(b"OK\n");
        Ok(Flow::Next)
    }

    /// Ends the connection's transaction. Whatever comes of it, the connection is outside of any afterwards.
    fn finish(&mut self, wanted: Outcome) -> Result<(), Refusal> {
        let mut transaction = match std::mem::take(&mut self.stage) {
            Stage::Outside => return Err(invalid("no transaction is open here; BEGIN begins one")),
            Stage::Refused(why) => return Err(why),
            Stage::Within(transaction) => transaction,
        };
        self.explain_end(&transaction);
        let ended = match wanted {
            Outcome::Commit => transaction.end(),
            Outcome::Abort => transaction.abort(),
        };
        let is_decided = matches!(ended, Ok(()) | Err(Error::TimedOut(_)));
        self.out_of_transaction(if is_decided { wanted } else { Outcome::Abort });
        Ok(ended?)
    }

    /// From here on what is written takes effect at once, and the member on this connection may give partitions up again.
    fn out_of_transaction(&mut self, outcome: Outcome) {
        self.written.leave();
        if let Some(member) = &mut self.member {
            // Who lost its place is told so by its next POLL or COMMIT.
            let _ = member.end_transaction(outcome);
        }
    }

    /// `TRANSACTIONS`
    pub(super) fn transactions(&mut self, words: Words<'_>, output: &mut Output<'_>) -> Answered {
        words.end()?;
        let mut transactions = self.broker.transactions()?;
        transactions.sort_by_key(|one| !one.is_open());
        output.bytes.extend_from_slice(format!("TRANSACTIONS count:{}\n", transactions.len()).as_bytes());
        transactions.iter().for_each(|one| self.write_summary(one, &mut output.bytes));
        Ok(Flow::Next)
    }

    /// `TRANSACTION <transactional-id>`
    pub(super) fn transaction(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let id = transactional_id(words.expect("TRANSACTION takes a transactional id; it")?)?;
        words.end()?;
        let described = self.broker.transaction(&id)?;
        output.bytes.extend_from_slice(format!("TRANSACTION count:{} ", described.partitions.len()).as_bytes());
        self.write_summary(&described.summary, &mut output.bytes);
        for place in described.partitions {
            let first = place.first.map_or("-".into(), |first| first.to_string());
            let line = format!("topic:{} partition:{} first:{first}\n", place.topic, place.partition);
            output.bytes.extend_from_slice(line.as_bytes());
        }
        Ok(Flow::Next)
    }

    fn write_summary(&self, one: &TransactionSummary, out: &mut Vec<u8>) {
        out.extend_from_slice(b"transaction:");
        write_word(out, one.transactional_id.as_bytes());
        let TransactionSummary { state, producer, timeout_ms, partitions, .. } = one;
        let age = self.broker.now_ms().saturating_sub(one.since_ms).max(0);
        let age = if one.is_open() { age.to_string() } else { "-".into() };
        let (id, epoch) = (producer.id, producer.epoch);
        let facts = format!("producer_id:{id} epoch:{epoch} timeout:{timeout_ms} age:{age} partitions:{partitions}");
        out.extend_from_slice(format!(" state:{state} {facts}\n").as_bytes());
    }

    /// Commits offsets of a membership that is not this connection's, in its transaction.
    pub(super) fn commit_elsewhere(&self, at: &Elsewhere, offsets: &[(&str, u32, u64)]) -> Result<(), Refusal> {
        let Stage::Within(transaction) = &self.stage else {
            return Err(Refusal::invalid("group: is for a COMMIT between BEGIN and END"));
        };
        let committer = match &at.member {
            None => Committer::Outsider,
            Some((id, generation)) => {
                Committer::Member { sender: Sender { member_id: id, instance_id: None }, generation: *generation }
            }
        };
        Ok(self.broker.commit_offsets_in(transaction, &at.group, committer, offsets)?)
    }

    /// With `--explain`: a step of the line at hand.
    fn explain(&mut self, step: impl FnOnce() -> String) {
        if let Some(steps) = &mut self.steps {
            steps.push(step());
        }
    }

    /// Which partitions get the marker.
    fn explain_end(&mut self, transaction: &Transaction) {
        if self.steps.is_none() {
            return;
        }
        let described = self.broker.transaction(transaction.transactional_id());
        for place in described.map(|described| described.partitions).unwrap_or_default() {
            self.explain(|| format!("a marker goes to {}/{}", place.topic, place.partition));
        }
    }
}

impl Elsewhere {
    /// Reads the named words of a COMMIT.
    pub(super) fn parse(words: Words<'_>) -> Result<Elsewhere, Refusal> {
        let [group, member, generation] = words.named(["group", "member", "generation"])?;
        let group = group.ok_or_else(|| Refusal::invalid("member: and generation: take a group:"))?;
        let group = group_name(group)?;
        let member = match (member, generation) {
            (None, None) => None,
            (Some(member), Some(generation)) => {
                let generation = number("generation:", generation)?;
                let id = String::from_utf8_lossy(&unescape(member)?).into_owned();
                Some((id, i32::try_from(generation).unwrap_or(i32::MAX)))
            }
            _ => return Err(Refusal::invalid("member: and generation: go together")),
        };
        Ok(Elsewhere { group, member })
    }
}

fn invalid(text: impl Into<String>) -> Refusal {
    Refusal { code: Code::InvalidTxnState, text: text.into() }
}

/// A transactional id: a word, escaped.
fn transactional_id(word: &[u8]) -> Result<String, Refusal> {
    String::from_utf8(unescape(word)?.into_owned())
        .map_err(|_| Refusal::invalid(format!("'{}' is no transactional id: it is not UTF-8", shown(word))))
}

/// `OK producer_id: epoch: last_id: last_epoch: last:`. Nobody tells any of it of a transaction of a cluster's.
fn write_begun(identity: Option<ProducerIdentity>, last: Option<LastTransaction>, out: &mut Vec<u8>) {
    let Some(ProducerIdentity { id, epoch }) = identity else {
        return out.extend_from_slice(b"OK producer_id:- epoch:- last_id:- last_epoch:- last:-\n");
    };
    let (last_id, last_epoch, how) =
        last.map_or((-1, -1, "none"), |last| (last.identity.id, last.identity.epoch, last.outcome.name()));
    let line = format!("OK producer_id:{id} epoch:{epoch} last_id:{last_id} last_epoch:{last_epoch} last:{how}\n");
    out.extend_from_slice(line.as_bytes());
}

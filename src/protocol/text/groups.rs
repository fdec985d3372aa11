//! JOIN, POLL, COMMIT, SEEK and LEAVE for members; GROUPS, GROUP and RESET for administrators.
//!
//! ```text
//! JOIN analytics orders      JOINED group:analytics member:1-5f0c9a77b2e4d816 generation:1 assigned:orders/0,orders/1
//! POLL wait:1000             POLLED count:1 generation:1 assigned:orders/0,orders/1
//!                            topic:orders partition:0 offset:0 timestamp:1763600000000 message:hello
//! COMMIT                     OK
//! ```
//!
//! A connection has at most one membership, which ends with LEAVE, with another JOIN, or with the connection.

use super::{
    Answered, Flow, Refusal, Session, Stop,
    reading::deadline,
    transactions::{Elsewhere, Stage},
    words::{self, Place, Position, Words, group_name, number, number_or, topic_name},
};
use crate::{
    backend::Membership,
    broker::{
        self, Isolation, JoinOptions, Lag, PollLimits, PollWait, PolledRecord,
        group::{Description, GroupType, consumer::Assignor},
    },
    log::record::{shown, write_i64, write_u64, write_word},
    protocol::connection::Output,
};
use std::{collections::BTreeSet, io, sync::Arc, time::Instant};

/// The most that one POLL answers, but for a record that is larger.
const POLL_BYTES_MAX: u64 = 16 << 20;

impl Session {
    /// `JOIN <group> <topic>[,<topic>]... [from:<position>=earliest] [commit:auto|manual=auto] [session:<ms>=45000]
    /// [assignor:uniform|range] [isolation:=read_committed]`
    pub(super) fn join(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let group = words.expect("JOIN takes a group and topics; the group")?;
        let topics = words.expect("JOIN takes a group and topics; the topics")?.split(|&byte| byte == b',');
        let topics = topics.map(topic_name).collect::<Result<Vec<_>, _>>()?;
        if topics.iter().collect::<BTreeSet<_>>().len() < topics.len() {
            return Err(Refusal::invalid("a topic is given twice").into());
        }
        let mut rest = words;
        if std::iter::from_fn(|| rest.next()).any(|word| word == b"mode:share") {
            return self.join_queue(group, topics, words, output);
        }
        let group = group_name(group)?;
        let [from, commit, session, assignor, isolation] =
            words.named(["from", "commit", "session", "assignor", "isolation"])?;
        let default = JoinOptions::default();
        let options = JoinOptions {
            from: from.map_or(Ok(default.from), Position::parse)?,
            auto_commit: match commit {
                None | Some(b"auto") => true,
                Some(b"manual") => false,
                Some(_) => return Err(Refusal::invalid("commit can be 'auto' or 'manual'").into()),
            },
            session_ms: number_or("session:", session, default.session_ms)?,
            assignor: assignor.map(parse_assignor).transpose()?,
            isolation: words::isolation(isolation)?,
        };
        self.broker.may_join(&topics, &options)?;
        leave_before(self)?;
        let member = self.member.insert(self.broker.join(&group, &topics, options)?);
        write_joined(&group, &member.id(), &mut output.bytes);
        write_assignment(member, &mut output.bytes);
        Ok(Flow::Next)
    }

    /// `POLL [max:<n>=500] [max_bytes:<n>=1048576] [wait:<ms>=0]`
    pub(super) fn poll(&mut self, words: Words<'_>, output: &mut Output<'_>) -> Answered {
        if self.queue.is_some() {
            return self.poll_queue(words, output);
        }
        let asked = Poll::parse(words)?;
        let member = member(&mut self.member)?;
        let (count, lines) = asked.carry_out(output, |limits, wait, lines| {
            member.poll(limits, wait, &mut |record| write_polled(record, None, lines))
        })?;
        write_count(count, &mut output.bytes);
        write_assignment(member, &mut output.bytes);
        output.bytes.extend_from_slice(&lines);
        self.fetched(lines.len(), output);
        Ok(Flow::Next)
    }

    /// `COMMIT [<tp> <offset>]... [group:<group> [member:<id> generation:<n>]]`
    pub(super) fn commit(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        self.stage.may_write()?;
        let (mut offsets, mut elsewhere) = (vec![], None);
        loop {
            let named = words;
            let Some(place) = words.next() else { break };
            if memchr::memchr(b':', place).is_some() {
                elsewhere = Some(Elsewhere::parse(named)?);
                break;
            }
            let partition = self.partition_named(place)?.index();
            let offset =
                number("the offset", words.expect("COMMIT takes partitions, each with an offset; the offset")?)?;
            let topic = Place::parse(place)?.topic;
            if offsets.iter().any(|&(t, p, _)| (t, p) == (topic, partition)) {
                return Err(Refusal::invalid(format!("{topic}/{partition} is given twice")).into());
            }
            offsets.push((topic, partition, offset));
        }
        let given = (!offsets.is_empty()).then_some(offsets.as_slice());
        match (elsewhere, given) {
            (Some(place), Some(offsets)) => self.commit_elsewhere(&place, offsets)?,
            (Some(_), None) => return Err(Refusal::invalid("with group: the partitions and offsets are given").into()),
            (None, given) => {
                self.no_queue("COMMIT")?;
                let member = member(&mut self.member)?;
                match &self.stage {
                    Stage::Within(transaction) => member.commit_in(transaction, given)?,
                    _ => member.commit(given)?,
                }
            }
        }
        output.bytes.extend_from_slice(b"OK\n");
        Ok(Flow::Next)
    }

    /// `SEEK <tp> <position>`
    pub(super) fn seek(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let place = words.expect("SEEK takes <topic>/<p> and a position; the partition")?;
        let position = Position::parse(words.expect("SEEK takes <topic>/<p> and a position; the position")?)?;
        words.end()?;
        self.no_queue("SEEK")?;
        member(&mut self.member)?;
        let partition = self.partition_named(place)?.index();
        let offset = member(&mut self.member)?.seek(Place::parse(place)?.topic, partition, position)?;
        output.bytes.extend_from_slice(format!("OK offset:{offset}\n").as_bytes());
        Ok(Flow::Next)
    }

    /// An error if the connection is in a share group, where this verb means nothing.
    fn no_queue(&self, verb: &str) -> Result<(), Refusal> {
        let why = || Refusal::invalid(format!("{verb} is not for share groups; ACCEPT says that a record is done"));
        if self.queue.is_some() { Err(why()) } else { Ok(()) }
    }

    /// `LEAVE`
    pub(super) fn leave(&mut self, words: Words<'_>, output: &mut Output<'_>) -> Answered {
        words.end()?;
        if self.queue.is_some() {
            self.leave_queue()?;
            output.bytes.extend_from_slice(b"OK\n");
            return Ok(Flow::Next);
        }
        let left = member(&mut self.member)?.leave();
        if matches!(left, Ok(()) | Err(broker::Error::UnknownMemberId)) {
            self.member = None;
        }
        left?;
        output.bytes.extend_from_slice(b"OK\n");
        Ok(Flow::Next)
    }

    /// `GROUPS`
    pub(super) fn groups(&mut self, words: Words<'_>, output: &mut Output<'_>) -> Answered {
        words.end()?;
        let groups = self.broker.groups()?;
        output.bytes.extend_from_slice(format!("GROUPS count:{}\n", groups.len()).as_bytes());
        for group in groups {
            output.bytes.extend_from_slice(b"group:");
            write_word(&mut output.bytes, group.name.as_bytes());
            let facts = format!(" state:{} members:{} type:{}\n", group.state, group.members, group.group_type.name());
            output.bytes.extend_from_slice(facts.as_bytes());
        }
        Ok(Flow::Next)
    }

    /// `GROUP <group>`
    pub(super) fn group(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let name = group_name(words.expect("GROUP takes a group; its name")?)?;
        words.end()?;
        let group = self.broker.group(&name)?.ok_or_else(|| broker::Error::UnknownGroup(shown(name.as_bytes())))?;
        let lag = self.broker.lag(&name)?;
        output.bytes.extend_from_slice(format!("GROUP count:{} group:", group.members.len() + lag.len()).as_bytes());
        write_word(&mut output.bytes, name.as_bytes());
        let Description { group_type, state, generation, assignment_epoch, protocol, members, unsaved, .. } = group;
        let told = generation.map_or("-".into(), |generation| generation.to_string());
        let (assigns, moves) = (group_type != GroupType::Classic, group_type == GroupType::Consumer);
        let (count, of_type) = (members.len(), group_type.name());
        let facts = format!(" state:{state} generation:{told} members:{count} type:{of_type}");
        output.bytes.extend_from_slice(facts.as_bytes());
        if assigns {
            output.bytes.extend_from_slice(format!(" assignor:{protocol}").as_bytes());
        }
        if assigns && generation.is_some_and(|generation| assignment_epoch != generation) {
            output.bytes.extend_from_slice(format!(" assignment_epoch:{assignment_epoch}").as_bytes());
        }
        output.bytes.extend_from_slice(if unsaved { b" unsaved:yes\n" } else { b"\n" });
        for member in members {
            output.bytes.extend_from_slice(b"member:");
            write_word(&mut output.bytes, member.member_id.as_bytes());
            output.bytes.extend_from_slice(b" client:");
            write_word(&mut output.bytes, member.client_id.as_bytes());
            let owned = member.owned.iter().map(|owned| (&*owned.topic, owned.partition));
            let target = member.target.iter().map(|(topic, partition)| (&**topic, *partition));
            // Generations and epochs are told, or neither.
            if assigns && generation.is_some() {
                output.bytes.extend_from_slice(format!(" epoch:{}", member.epoch).as_bytes());
            }
            write_places(" assigned:", owned, &mut output.bytes);
            if moves {
                write_places(" target:", target, &mut output.bytes);
            }
            output.bytes.push(b'\n');
        }
        lag.iter().for_each(|lag| write_lag(lag, &mut output.bytes));
        Ok(Flow::Next)
    }

    /// `RESET <group> [<tp> <position>]...`
    pub(super) fn reset(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let group = group_name(words.expect("RESET takes a group; its name")?)?;
        let mut offsets: Vec<(Arc<str>, u32, u64)> = vec![];
        while let Some(place) = words.next() {
            let partition = self.partition_named(place)?;
            let position = words.expect("RESET takes partitions, each with a position; the position")?;
            let offset = self.read.resolve(Isolation::ReadCommitted, Position::parse(position)?, &partition)?;
            let (topic, partition) = (Place::parse(place)?.topic, partition.index());
            if offsets.iter().any(|(t, p, _)| (&**t, *p) == (topic, partition)) {
                return Err(Refusal::invalid(format!("{topic}/{partition} is given twice")).into());
            }
            offsets.push((topic.into(), partition, offset));
        }
        if offsets.is_empty() {
            self.broker.delete_group(&group)?;
        } else {
            self.broker.reset_offsets(&group, &offsets)?;
        }
        output.bytes.extend_from_slice(b"OK\n");
        Ok(Flow::Next)
    }
}

fn parse_assignor(name: &[u8]) -> Result<Assignor, Refusal> {
    let assignor = std::str::from_utf8(name).ok().and_then(Assignor::named);
    assignor.ok_or_else(|| Refusal::invalid("assignor can be 'uniform' or 'range'"))
}

/// The connection's membership.
fn member(member: &mut Option<Membership>) -> Result<&mut Membership, Refusal> {
    member.as_mut().ok_or_else(|| broker::Error::UnknownMemberId.into())
}

/// Leaves the group that the connection was in before, unless the place is lost already.
pub(super) fn leave_before(session: &mut Session) -> Result<(), Refusal> {
    if session.queue.is_some() {
        session.leave_queue()?;
    }
    match session.member.as_mut().map(Membership::leave) {
        None | Some(Err(broker::Error::UnknownMemberId)) => {}
        Some(left) => left?,
    }
    session.member = None;
    Ok(())
}

/// What a POLL asks for.
pub(super) struct Poll {
    pub(super) limits: PollLimits,
    deadline: Option<Instant>,
}

impl Poll {
    /// Reads `[max:<n>=500] [max_bytes:<n>=1048576] [wait:<ms>=0]`.
    pub(super) fn parse(words: Words<'_>) -> Result<Poll, Refusal> {
        let [max, max_bytes, wait] = words.named(["max", "max_bytes", "wait"])?;
        let records = number_or("max:", max, 500)? as usize;
        let bytes = number_or("max_bytes:", max_bytes, 1 << 20)?.min(POLL_BYTES_MAX) as usize;
        Ok(Poll { limits: PollLimits { records, bytes }, deadline: deadline(number_or("wait:", wait, 0)?) })
    }

    /// Polls while the client is there. Answers how many records there were, and their lines, which `poll` writes.
    pub(super) fn carry_out(
        self,
        output: &mut Output<'_>,
        poll: impl FnOnce(PollLimits, PollWait<'_>, &mut Vec<u8>) -> broker::Result<usize>,
    ) -> Result<(usize, Vec<u8>), Stop> {
        let Poll { limits, deadline } = self;
        output.flush_before_wait(deadline)?;
        let (mut broken, mut lines) = (None, Vec::new());
        let waiter = output.waiter.clone();
        let mut wait = |until| {
            output.wait_while_connected(until).unwrap_or_else(|error: io::Error| {
                broken = Some(error);
                false
            })
        };
        let polled = poll(limits, PollWait { waiter: &waiter, deadline, wait: &mut wait }, &mut lines);
        if let Some(error) = broken {
            return Err(error.into());
        }
        Ok((polled?, lines))
    }
}

/// `JOINED group:<group> member:<id>`
pub(super) fn write_joined(group: &str, member_id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"JOINED group:");
    write_word(out, group.as_bytes());
    out.extend_from_slice(format!(" member:{member_id}").as_bytes());
}

/// `POLLED count:<n>`
pub(super) fn write_count(count: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"POLLED count:");
    write_u64(out, count as u64);
}

/// ` generation:<n> assigned:<tp>,<tp>...` and the line's end.
fn write_assignment(member: &Membership, out: &mut Vec<u8>) {
    out.extend_from_slice(format!(" generation:{}", member.generation()).as_bytes());
    write_places(" assigned:", member.assigned(), out);
    out.push(b'\n');
}

/// Partitions in a word.
pub(super) fn write_places<'a>(name: &str, partitions: impl Iterator<Item = (&'a str, u32)>, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    for (index, (topic, partition)) in partitions.enumerate() {
        out.extend_from_slice(if index > 0 { b"," } else { b"" });
        out.extend_from_slice(topic.as_bytes());
        out.push(b'/');
        write_u64(out, u64::from(partition));
    }
}

/// A record that was polled; of a share group also how often it was handed out.
pub(super) fn write_polled(record: &PolledRecord<'_>, deliveries: Option<u32>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"topic:");
    out.extend_from_slice(record.topic.as_bytes());
    out.extend_from_slice(b" partition:");
    write_u64(out, u64::from(record.partition));
    out.extend_from_slice(b" offset:");
    write_u64(out, record.offset);
    out.extend_from_slice(b" timestamp:");
    write_i64(out, record.timestamp);
    if let Some(deliveries) = deliveries {
        out.extend_from_slice(b" delivery:");
        write_u64(out, u64::from(deliveries));
    }
    out.push(b' ');
    out.extend_from_slice(record.fields);
    out.push(b'\n');
}

/// What nobody committed is `-`, and so is the lag of it.
fn write_lag(lag: &Lag, out: &mut Vec<u8>) {
    let committed = lag.committed.as_ref().map_or("-".into(), |committed| committed.offset.to_string());
    let behind = lag.lag().map_or("-".into(), |behind| behind.to_string());
    let Lag { topic, partition, end, in_flight, .. } = lag;
    let held = in_flight.map_or(String::new(), |held| format!(" in_flight:{held}"));
    let pending = if lag.is_pending { " pending:yes" } else { "" };
    let line =
        format!("topic:{topic} partition:{partition} committed:{committed} end:{end} lag:{behind}{held}{pending}\n");
    out.extend_from_slice(line.as_bytes());
}

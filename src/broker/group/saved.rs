//! What of a group outlives a restart, and the form in which the log has it.
//!
//! ```text
//! type:classic generation:7 protocol_type:consumer protocol:range leader:a-1 member:a-1 client:a host:/127.0.0.1
//!   session:45000 rebalance:300000 subscription:\x00\x01... assignment:\x00\x01... member:b-1 instance:b ...
//! type:consumer generation:3 assigned:2 last_member:2 seat:1 partitions:orders/0,orders/1 seat:2 partitions:
//! type:share generation:4 last_member:2 had:orders/2 member:a-1 ...
//! ```
//!
//! It is one line: words with one space between them, escaped where they have to be. Of a classic group it is what Kafka
//! keeps: the generation and its members, of whom each is there again with the subscription under the protocol that was
//! chosen. `assigned` is the generation of the last assignment, where that is another. The members of text and of the library
//! end with their connection, so of those it is only the numbers and who was to have what: their seats. Members with epochs
//! (KIP-848) have [records of their own](super::saved_member), since one of them goes on while the others stay as they are.
//!
//! What there is of a share group stands in [`saved_share`](super::saved_share).
//!
//! A line comes from the disk, where anything may stand: what the state machine would not have come to is refused.

use super::{
    partitions::{Partitions, parse_partitions, push_partitions},
    saved_share::SavedShare,
};
use crate::{
    broker::words::{Words, push, push_number},
    log::batches::BATCH_BYTES_MAX,
};
use std::collections::BTreeSet;

/// The longest line. The log takes a batch of 64 MiB, and before the line stand an offset, a time and the group's name.
pub(super) const LINE_BYTES_MAX: usize = if cfg!(test) { 2 << 20 } else { BATCH_BYTES_MAX - (256 << 10) };

/// A group as the log has it.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedGroup {
    /// Counts rebalances, from 0.
    pub generation: i32,
    /// The last member number that was given.
    pub last_member: u32,
    /// Whose members they are.
    pub kind: SavedKind,
}

/// The kind of a group, and what of it is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum SavedKind {
    /// Classic, or of no kind yet.
    Classic(SavedClassic),
    /// The broker assigns. Kafka's members stand elsewhere.
    Consumer {
        /// The generation of the last assignment.
        assignment_epoch: i32,
        /// What members of text were to have, in their order.
        seats: Vec<SavedSeat>,
    },
    /// A share group.
    Share(SavedShare),
}

/// What a member of text was to have.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedSeat {
    /// The member's number.
    pub number: u32,
    /// The partitions.
    pub partitions: Partitions,
}

/// The members of a classic group, and what they agreed on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SavedClassic {
    /// What kind of clients they are; empty if there never was one.
    pub protocol_type: String,
    /// The protocol that was chosen.
    pub protocol: Option<String>,
    /// The leader's member id.
    pub leader: Option<String>,
    /// The members.
    pub members: Vec<SavedMember>,
}

/// A member of a classic group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SavedMember {
    /// Its member id.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub instance_id: Option<String>,
    /// What its client calls itself.
    pub client_id: String,
    /// The address of its client.
    pub client_host: String,
    /// A member that is silent for this long is removed.
    pub session_timeout_ms: u64,
    /// How long the others wait for it in a rebalance.
    pub rebalance_timeout_ms: u64,
    /// Its metadata under the protocol that was chosen.
    pub subscription: Vec<u8>,
    /// What the leader assigned to it.
    pub assignment: Vec<u8>,
}

impl SavedGroup {
    /// The line.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = Vec::new();
        let (kind, assigned) = match &self.kind {
            SavedKind::Classic(_) => ("classic", self.generation),
            SavedKind::Consumer { assignment_epoch, .. } => ("consumer", *assignment_epoch),
            SavedKind::Share(share) => ("share", share.assignment_epoch),
        };
        push(&mut line, "type:", kind.as_bytes());
        push_number(&mut line, "generation:", self.generation as u64);
        if assigned != self.generation {
            push_number(&mut line, "assigned:", assigned as u64);
        }
        if self.last_member > 0 {
            push_number(&mut line, "last_member:", self.last_member.into());
        }
        match &self.kind {
            SavedKind::Classic(classic) => classic.write(&mut line),
            SavedKind::Consumer { seats, .. } => {
                for SavedSeat { number, partitions } in seats {
                    push_number(&mut line, "seat:", u64::from(*number));
                    push_partitions(&mut line, "partitions:", partitions);
                }
            }
            SavedKind::Share(share) => share.write(&mut line),
        }
        line
    }

    /// What a line says; `None`: it is none, or says what no group comes to.
    pub fn parse(line: &[u8]) -> Option<SavedGroup> {
        let mut words = Words::of(line)?;
        let kind = words.string("type:")?;
        let generation = i32::try_from(words.number("generation:")?).ok()?;
        let assigned = words.optional_number("assigned:")?.filter(|_| kind != "classic");
        let assigned =
            assigned.map_or(Ok(generation), i32::try_from).ok().filter(|&assigned| assigned <= generation)?;
        let last_member = words.number("last_member:").unwrap_or(0);
        let last_member = i32::try_from(last_member).ok()?.unsigned_abs();
        let kind = match &*kind {
            "classic" => SavedKind::Classic(SavedClassic::parse(&mut words)?),
            "consumer" => {
                let mut seats = vec![];
                while words.is_next("seat:") {
                    let number = u32::try_from(words.number("seat:")?).ok()?;
                    seats.push(SavedSeat { number, partitions: parse_partitions(&mut words, "partitions:")? });
                }
                SavedKind::Consumer { assignment_epoch: assigned, seats }
            }
            "share" => {
                let share = SavedShare::parse(assigned, &mut words)?;
                // The first member begins a generation.
                let has_begun = generation > 0 || share.members.is_empty();
                // They are numbered anew; who joins next is to get another number than all of them.
                let are_numbered = share.members.len() <= last_member as usize;
                SavedKind::Share(Some(share).filter(|_| has_begun && are_numbered)?)
            }
            _ => return None,
        };
        words.are_over().then_some(SavedGroup { generation, last_member, kind })
    }
}

impl SavedKind {
    /// Whether the log takes the line of such a group.
    pub(super) fn fits_a_line(self) -> bool {
        SavedGroup { generation: i32::MAX, last_member: u32::MAX, kind: self }.to_line().len() <= LINE_BYTES_MAX
    }
}

impl SavedClassic {
    fn write(&self, line: &mut Vec<u8>) {
        push(line, "protocol_type:", self.protocol_type.as_bytes());
        self.protocol.iter().for_each(|protocol| push(line, "protocol:", protocol.as_bytes()));
        self.leader.iter().for_each(|leader| push(line, "leader:", leader.as_bytes()));
        for member in &self.members {
            push(line, "member:", member.member_id.as_bytes());
            member.instance_id.iter().for_each(|instance| push(line, "instance:", instance.as_bytes()));
            push(line, "client:", member.client_id.as_bytes());
            push(line, "host:", member.client_host.as_bytes());
            push_number(line, "session:", member.session_timeout_ms);
            push_number(line, "rebalance:", member.rebalance_timeout_ms);
            push(line, "subscription:", &member.subscription);
            push(line, "assignment:", &member.assignment);
        }
    }

    fn parse(words: &mut Words<'_>) -> Option<SavedClassic> {
        let protocol_type = words.string("protocol_type:")?;
        let (protocol, leader) = (words.optional("protocol:")?, words.optional("leader:")?);
        let mut members = vec![];
        while words.is_next("member:") {
            members.push(SavedMember::parse(words)?);
        }
        let ids: BTreeSet<_> = members.iter().map(|member| &member.member_id).collect();
        let instances: Vec<_> = members.iter().filter_map(|member| member.instance_id.as_ref()).collect();
        let are_unique =
            ids.len() == members.len() && instances.iter().collect::<BTreeSet<_>>().len() == instances.len();
        let fits = match (&protocol, &leader) {
            (Some(_), Some(leader)) => !protocol_type.is_empty() && ids.contains(leader),
            (None, None) => members.is_empty(),
            _ => false,
        };
        (are_unique && fits).then_some(SavedClassic { protocol_type, protocol, leader, members })
    }
}

impl SavedMember {
    fn parse(words: &mut Words<'_>) -> Option<SavedMember> {
        let (member_id, instance_id) = (words.string("member:")?, words.optional("instance:")?);
        let (client_id, client_host) = (words.string("client:")?, words.string("host:")?);
        let (session_timeout_ms, rebalance_timeout_ms) =
            (words.timeout_ms("session:")?, words.timeout_ms("rebalance:")?);
        let (subscription, assignment) = (words.bytes("subscription:")?, words.bytes("assignment:")?);
        Some(SavedMember {
            member_id: Some(member_id).filter(|id| !id.is_empty())?,
            instance_id,
            client_id,
            client_host,
            session_timeout_ms,
            rebalance_timeout_ms,
            subscription,
            assignment,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(member_id: &str) -> SavedMember {
        SavedMember {
            member_id: member_id.into(),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            subscription: b"\0\x01\0\x06orders".to_vec(),
            ..SavedMember::default()
        }
    }

    fn saved(classic: SavedClassic) -> SavedGroup {
        SavedGroup { generation: 7, last_member: 0, kind: SavedKind::Classic(classic) }
    }

    #[test]
    fn a_group_is_a_readable_line() {
        let classic = SavedClassic {
            protocol_type: "consumer".into(),
            protocol: Some("range".into()),
            leader: Some("c-1".into()),
            members: vec![
                member("c-1"),
                SavedMember { instance_id: Some("i 2".into()), assignment: vec![1], ..member("c-2") },
            ],
        };
        let line = "type:classic generation:7 protocol_type:consumer protocol:range leader:c-1 \
            member:c-1 client:c host:/127.0.0.1 session:10000 rebalance:60000 subscription:\\x00\\x01\\x00\\x06orders \
            assignment: \
            member:c-2 instance:i\\x202 client:c host:/127.0.0.1 session:10000 rebalance:60000 \
            subscription:\\x00\\x01\\x00\\x06orders assignment:\\x01";
        assert_eq!(String::from_utf8(saved(classic).to_line()).unwrap(), line);
        let consumer = |assignment_epoch, seats| {
            let kind = SavedKind::Consumer { assignment_epoch, seats };
            String::from_utf8(SavedGroup { generation: 3, last_member: 2, kind }.to_line()).unwrap()
        };
        assert_eq!(consumer(3, vec![]), "type:consumer generation:3 last_member:2");
        assert_eq!(consumer(2, vec![]), "type:consumer generation:3 assigned:2 last_member:2");
        let seat = |number, partitions| SavedSeat { number, partitions };
        assert_eq!(
            consumer(3, vec![seat(1, vec![("orders".into(), 0), ("orders".into(), 1)]), seat(2, vec![])]),
            "type:consumer generation:3 last_member:2 seat:1 partitions:orders/0,orders/1 seat:2 partitions:"
        );
        assert_eq!(saved(SavedClassic::default()).to_line(), b"type:classic generation:7 protocol_type:");
    }

    #[test]
    fn what_no_group_comes_to_is_no_line_of_one() {
        let one = "client:c host:h session:1 rebalance:1 subscription: assignment:";
        let begin = "type:classic generation:1 protocol_type:consumer";
        let good = format!("{begin} protocol:range leader:a member:a {one}");
        assert!(SavedGroup::parse(good.as_bytes()).is_some());
        for bad in [
            "".into(),
            "type:consumer".into(),
            "type:shared generation:1".into(),
            "type:consumer generation:-1".into(),
            "type:consumer generation:2147483648".into(),
            "type:consumer generation:1 last_member:2147483648".into(),
            "type:consumer generation:1 more".into(),
            "type:consumer generation:1 assigned:2".into(),
            "type:consumer generation:1 assigned:x".into(),
            "type:consumer generation:1 seat:1".into(),
            "type:consumer generation:1 seat:x partitions:".into(),
            "type:consumer generation:1 seat:1 partitions:orders".into(),
            "type:consumer  generation:1".into(),
            "type:classic generation:1".into(),
            format!("{begin} protocol:range"),
            format!("{begin} leader:a"),
            format!("{begin} protocol:range leader:a"),
            format!("{begin} member:a {one}"),
            format!("{begin} protocol:range leader:b member:a {one}"),
            format!("{begin} protocol:range leader:a member:a {one} member:a {one}"),
            format!("{begin} protocol:range leader:a member:a instance:i {one} member:b instance:i {one}"),
            format!("{begin} protocol:range leader: member: {one}"),
            format!("{begin} protocol:range leader:\\xff member:\\xff {one}"),
            good.replace("protocol_type:consumer", "protocol_type:"),
            good.replace("session:1", "session:2147483648"),
            good.replace("rebalance:1", "rebalance:x"),
            good.replace("assignment:", "assignment:\\q"),
            good.replace("client:c", &format!("client:{}", "c".repeat(32_768))),
        ] {
            assert_eq!(SavedGroup::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_group_is_read_back(
            generation in 0..=i32::MAX,
            last_member in 0..=i32::MAX as u32,
            protocol_type in ".+",
            protocol: String,
            members in proptest::collection::btree_map(".+", (
                any::<String>(),
                proptest::option::of(any::<bool>()),
                0..=i32::MAX as u64,
                any::<Vec<u8>>(),
                any::<Vec<u8>>(),
            ), 0..4),
        ) {
            let member = |(member_id, (client, is_static, timeout_ms, subscription, assignment)): (String, _)| {
                let is_static: Option<bool> = is_static;
                SavedMember {
                    instance_id: is_static.map(|_| format!("{member_id} {client}")),
                    member_id,
                    client_host: client,
                    client_id: "\u{2028}".into(),
                    session_timeout_ms: timeout_ms,
                    rebalance_timeout_ms: timeout_ms,
                    subscription,
                    assignment,
                }
            };
            let members: Vec<_> = members.into_iter().map(member).collect();
            let leader = members.last().map(|member| member.member_id.clone());
            let protocol = leader.as_ref().map(|_| protocol);
            let classic = SavedClassic { protocol_type, protocol, leader, members };
            let seats = vec![SavedSeat { number: last_member, partitions: vec![("a".into(), 1), ("b".into(), last_member)] }];
            for kind in [SavedKind::Classic(classic), SavedKind::Consumer { assignment_epoch: generation / 2, seats }] {
                let group = SavedGroup { generation, last_member, kind };
                prop_assert_eq!(SavedGroup::parse(&group.to_line()), Some(group));
            }
        }

        #[test]
        fn any_line_is_read_without_harm(line: String) {
            SavedGroup::parse(line.as_bytes());
        }
    }
}

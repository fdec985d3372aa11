//! What of a share group outlives a restart, and its words in the group's line.
//!
//! ```text
//! type:share generation:4 assigned:3 had:orders/2 member:a-1 client:a host:/127.0.0.1 rack:r1 session:45000 topic:orders
//!   topic:payments reads:orders/0-1 member:b-1 ...
//! ```
//!
//! `had` is how many partitions of each topic the group ever had, `reads` what a member is to read, which are names of topics as they
//! stand; what a member subscribes to may be anything. Members of text are not there again, and so neither are they here. In which
//! epoch a member is it says itself.

use crate::{
    broker::{
        PARTITIONS_MAX,
        words::{Words, push, push_number},
    },
    log::record::parse_u63,
};
use std::{collections::BTreeSet, ops::RangeInclusive};

/// The most partitions that the members of a line read together.
const READS_MAX: usize = 1 << 20;

/// A share group's members, and what they read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SavedShare {
    /// The generation in which the partitions were shared out.
    pub assignment_epoch: i32,
    /// How many partitions of each topic the group ever had, by topic.
    pub had: Vec<(String, u32)>,
    /// The members of Kafka's.
    pub members: Vec<SavedShareMember>,
}

/// A member of a share group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SavedShareMember {
    /// Its member id.
    pub member_id: String,
    /// What its client calls itself.
    pub client_id: String,
    /// The address of its client.
    pub client_host: String,
    /// The rack that its client is in.
    pub rack_id: Option<String>,
    /// A member that is silent for this long is removed.
    pub session_timeout_ms: u64,
    /// The topics that it subscribes to, in order.
    pub topics: Vec<String>,
    /// The partitions that it is to read, in order.
    pub reads: Vec<(String, RangeInclusive<u32>)>,
}

impl SavedShare {
    pub(super) fn write(&self, line: &mut Vec<u8>) {
        for (topic, count) in &self.had {
            push(line, "had:", format!("{topic}/{count}").as_bytes());
        }
        for member in &self.members {
            push(line, "member:", member.member_id.as_bytes());
            push(line, "client:", member.client_id.as_bytes());
            push(line, "host:", member.client_host.as_bytes());
            member.rack_id.iter().for_each(|rack| push(line, "rack:", rack.as_bytes()));
            push_number(line, "session:", member.session_timeout_ms);
            member.topics.iter().for_each(|topic| push(line, "topic:", topic.as_bytes()));
            for (topic, partitions) in &member.reads {
                let (first, last) = (partitions.start(), partitions.end());
                let last = if first == last { String::new() } else { format!("-{last}") };
                push(line, "reads:", format!("{topic}/{first}{last}").as_bytes());
            }
        }
    }

    pub(super) fn parse(assignment_epoch: i32, words: &mut Words<'_>) -> Option<SavedShare> {
        let (mut had, mut members) = (vec![], vec![]);
        while words.is_next("had:") {
            let (topic, count) = place(&words.string("had:")?)?;
            had.push((topic, number(&count)?));
        }
        while words.is_next("member:") {
            members.push(SavedShareMember::parse(words)?);
        }
        let ids: BTreeSet<_> = members.iter().map(|member: &SavedShareMember| &member.member_id).collect();
        let count =
            |(_, partitions): &(String, RangeInclusive<u32>)| (partitions.end() - partitions.start()) as usize + 1;
        let reads: usize = members.iter().flat_map(|member| &member.reads).map(count).sum();
        let fits = ids.len() == members.len() && reads <= READS_MAX && had.is_sorted_by(|a, b| a.0 < b.0);
        fits.then_some(SavedShare { assignment_epoch, had, members })
    }
}

impl SavedShareMember {
    fn parse(words: &mut Words<'_>) -> Option<SavedShareMember> {
        let member_id = words.string("member:").filter(|id| !id.is_empty())?;
        let (client_id, client_host) = (words.string("client:")?, words.string("host:")?);
        let rack_id = words.optional("rack:")?;
        let session_timeout_ms = words.timeout_ms("session:")?;
        let (mut topics, mut reads) = (vec![], vec![]);
        while words.is_next("topic:") {
            topics.push(words.string("topic:")?);
        }
        while words.is_next("reads:") {
            let (topic, partitions) = place(&words.string("reads:")?)?;
            let (first, last) = partitions.split_once('-').unwrap_or((&partitions, &partitions));
            reads.push((topic, number(first)?..=number(last)?));
        }
        let are_in_order = topics.is_sorted_by(|a, b| a < b)
            && reads.iter().all(|(topic, partitions)| !partitions.is_empty() && topics.binary_search(topic).is_ok())
            && reads.is_sorted_by(|(a, before), (b, after)| (a, before.end()) < (b, after.start()));
        let member = SavedShareMember { member_id, client_id, client_host, rack_id, session_timeout_ms, topics, reads };
        are_in_order.then_some(member)
    }
}

/// `<topic>/<partitions>`
fn place(word: &str) -> Option<(String, String)> {
    word.rsplit_once('/').map(|(topic, partitions)| (topic.to_owned(), partitions.to_owned()))
}

fn number(text: &str) -> Option<u32> {
    u32::try_from(parse_u63(text.as_bytes())?).ok().filter(|&number| number <= PARTITIONS_MAX)
}

#[cfg(test)]
mod tests {
    use crate::broker::group::SavedGroup;

    #[test]
    fn what_no_share_group_comes_to_is_no_line_of_one() {
        let good = "type:share generation:4 assigned:3 last_member:2 had:orders/2 had:payments/1 member:a client:c host:h \
            rack:r session:45000 topic:\\x20 topic:orders reads:orders/0 reads:orders/5-7 member:b client: host: session:0";
        assert_eq!(SavedGroup::parse(good.as_bytes()).expect("it is one").to_line(), good.as_bytes());
        for (part, bad) in [
            ("assigned:3", "assigned:5"),
            ("last_member:2", "last_member:1"),
            ("last_member:2 ", ""),
            ("had:orders/2", "had:orders"),
            ("had:orders/2", "had:zebras/2"),
            ("had:orders/2", "had:orders/10001"),
            ("member:b", "member:a"),
            ("member:b", "member:"),
            ("session:0", "session:2147483648"),
            ("session:0", "session:0 more:1"),
            ("topic:\\x20", "topic:zebras"),
            ("reads:orders/0", "reads:payments/0"),
            ("reads:orders/0", "reads:orders/5"),
            ("reads:orders/5-7", "reads:orders/7-5"),
            ("reads:orders/5-7", "reads:orders/5-"),
            ("reads:orders/5-7", "reads:orders/5-10001"),
        ] {
            assert!(good.contains(part));
            assert_eq!(SavedGroup::parse(good.replace(part, bad).as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_group_without_a_generation_has_no_members() {
        let empty = "type:share generation:0";
        assert!(SavedGroup::parse(empty.as_bytes()).is_some());
        let member = format!("{empty} last_member:1 member:a client:c host:h session:1");
        assert_eq!(SavedGroup::parse(member.as_bytes()), None);
    }

    #[test]
    fn members_do_not_read_without_bounds() {
        let all = (0..200).map(|topic| format!(" topic:{topic:03}")).collect::<String>();
        let reads = (0..200).map(|topic| format!(" reads:{topic:03}/0-9999")).collect::<String>();
        let line = format!("type:share generation:1 last_member:1 member:a client:c host:h session:1{all}{reads}");
        assert_eq!(SavedGroup::parse(line.as_bytes()), None);
    }
}

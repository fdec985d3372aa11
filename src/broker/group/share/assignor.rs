//! Which member of a share group reads which partitions: Kafka's assignor `simple`.
//!
//! ```text
//! more partitions than members        more members than partitions
//! orders 0 1 2 3 4   a a a b b        orders 0 1     a,c,e  b,d
//! ```
//!
//! Always true of the answer:
//! - every partition of a topic that somebody subscribes to has a member that subscribes to it;
//! - every member reads something, if its topics have partitions at all;
//! - where all subscribe to the same topics, no member has two partitions more than another; and if there are more members than
//!   partitions, each reads one, and no partition is read by two members more than another.
//!
//! Members keep what they have as far as that allows.

use crate::broker::group::consumer::assignor::{self as whole, Topic};
use std::{collections::BTreeMap, sync::Arc};

/// Kafka's name.
pub(super) const NAME: &str = "simple";

/// Partitions, by topic.
pub(super) type Partitions = Vec<(Arc<str>, u32)>;

/// What is known of a member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    /// The topics that it subscribes to, in order.
    pub(super) topics: &'a [Arc<str>],
    /// What it has now.
    pub(super) has: &'a [(Arc<str>, u32)],
}

/// A partition, of a topic by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    topic: usize,
    partition: usize,
}

/// Shares out the partitions of topics, which have so many each; answers what each reader is to have, in order.
pub(super) fn assign(counts: &BTreeMap<Arc<str>, u32>, readers: &[Reader<'_>]) -> Vec<Partitions> {
    let (mut names, mut topics) = (vec![], vec![]);
    for (name, &count) in counts.iter().filter(|(_, count)| **count > 0) {
        let subscribes = |reader: &Reader<'_>| reader.topics.binary_search(name).is_ok();
        let subscribers: Vec<_> = readers.iter().enumerate().filter(|(_, reader)| subscribes(reader)).collect();
        let subscribers: Vec<_> = subscribers.into_iter().map(|(member, _)| member).collect();
        if !subscribers.is_empty() {
            names.push(name);
            topics.push(Topic { subscribers, current: vec![None; count as usize] });
        }
    }
    let place = |(name, partition): &(Arc<str>, u32)| {
        let (topic, partition) = (names.binary_search(&name).ok()?, *partition as usize);
        Some(Place { topic, partition }).filter(|place| place.partition < topics[topic].current.len())
    };
    let has: Vec<Vec<Place>> = readers.iter().map(|reader| reader.has.iter().filter_map(place).collect()).collect();
    for (member, place) in has.iter().enumerate().flat_map(|(member, has)| has.iter().map(move |place| (member, place)))
    {
        topics[place.topic].current[place.partition].get_or_insert(member);
    }
    let mut assigned: Vec<Vec<Place>> = vec![vec![]; readers.len()];
    for (topic, members) in whole::assign(readers.len(), &topics).into_iter().enumerate() {
        let partitions = members.into_iter().enumerate();
        partitions.for_each(|(partition, member)| assigned[member].push(Place { topic, partition }));
    }
    share(&topics, &has, &mut assigned);
    let named = |places: Vec<Place>| places.iter().map(|at| (names[at.topic].clone(), at.partition as u32)).collect();
    assigned.into_iter().map(named).collect()
}

/// Members for whom no partition is left read one beside others: the one they have, as long as no other is read by two fewer.
fn share(topics: &[Topic], has: &[Vec<Place>], assigned: &mut [Vec<Place>]) {
    let mut read_by: Vec<Vec<usize>> = topics.iter().map(|topic| vec![1; topic.current.len()]).collect();
    let is_subscriber = |topic: &Topic, member: usize| topic.subscribers.binary_search(&member).is_ok();
    let mut idle = vec![];
    for member in (0..assigned.len()).filter(|&member| assigned[member].is_empty()) {
        let of: Vec<usize> = (0..topics.len()).filter(|&topic| is_subscriber(&topics[topic], member)).collect();
        let kept = has[member].iter().find(|place| of.contains(&place.topic)).copied();
        kept.iter().for_each(|place| read_by[place.topic][place.partition] += 1);
        if !of.is_empty() {
            idle.push((member, of, kept));
        }
    }
    let mut moved = true;
    while std::mem::take(&mut moved) {
        for (_, of, place) in &mut idle {
            let count = |at: Place| read_by[at.topic][at.partition];
            let all = of
                .iter()
                .flat_map(|&topic| (0..topics[topic].current.len()).map(move |partition| Place { topic, partition }));
            let Some(least) = all.min_by_key(|&at| (count(at), at)) else { continue };
            if place.is_none_or(|place| count(place) > count(least) + 1) {
                place.iter().for_each(|place| read_by[place.topic][place.partition] -= 1);
                read_by[least.topic][least.partition] += 1;
                (*place, moved) = (Some(least), true);
            }
        }
    }
    idle.into_iter().for_each(|(member, _, place)| assigned[member].extend(place));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const TOPICS: [&str; 3] = ["a", "b", "c"];

    fn counts(counts: [u32; 3]) -> BTreeMap<Arc<str>, u32> {
        TOPICS.into_iter().map(Arc::from).zip(counts).collect()
    }

    fn names(mask: u8) -> Vec<Arc<str>> {
        TOPICS.into_iter().zip(0..).filter(|(_, bit)| mask >> bit & 1 == 1).map(|(name, _)| name.into()).collect()
    }

    fn deal(counts: &BTreeMap<Arc<str>, u32>, members: &[(Vec<Arc<str>>, Partitions)]) -> Vec<Partitions> {
        let readers: Vec<_> = members.iter().map(|(topics, has)| Reader { topics, has }).collect();
        assign(counts, &readers)
    }

    /// Members of one topic, and who reads each of its partitions.
    fn readers(partitions: u32, has: &[&[u32]]) -> Vec<Vec<usize>> {
        let topic: Arc<str> = "a".into();
        let reads = |has: &&[u32]| has.iter().map(|&partition| (topic.clone(), partition)).collect();
        let members: Vec<_> = has.iter().map(|has| (vec![topic.clone()], reads(has))).collect();
        let assigned = deal(&counts([partitions, 0, 0]), &members);
        let reads = |partition| {
            (0..has.len()).filter(|&member| assigned[member].iter().any(|(_, has)| *has == partition)).collect()
        };
        (0..partitions).map(reads).collect()
    }

    #[test]
    fn partitions_are_dealt_out_or_shared() {
        assert_eq!(readers(5, &[&[], &[]]), [[0], [0], [0], [1], [1]]);
        assert_eq!(readers(2, &[&[][..]; 5]), [vec![0, 2, 4], vec![1, 3]]);
    }

    #[test]
    fn members_keep_what_they_have() {
        assert_eq!(readers(2, &[&[1], &[0], &[1], &[]]), [vec![1, 3], vec![0, 2]]);
        assert_eq!(readers(2, &[&[0], &[0], &[0], &[1]]), [vec![0, 2], vec![1, 3]], "one of three moves");
        assert_eq!(readers(2, &[&[0], &[0]]), [[0], [1]], "nobody was left at the second");
    }

    fn members(count: usize) -> impl Strategy<Value = Vec<(u8, Vec<(usize, u32)>)>> {
        let has = proptest::collection::vec((0..3usize, 0..5u32), 0..4);
        proptest::collection::vec((0..8u8, has), 0..count)
    }

    proptest! {
        #[test]
        fn every_partition_is_read_and_every_member_reads(
            numbers in proptest::array::uniform3(0..5u32),
            members in members(9),
            same in proptest::option::of(1..8u8),
        ) {
            let counts = counts(numbers);
            let has = |has: Vec<(usize, u32)>| has.into_iter().map(|(topic, partition)| (TOPICS[topic].into(), partition));
            let mut members: Vec<(Vec<Arc<str>>, Partitions)> =
                members.into_iter().map(|(mask, had)| (names(same.unwrap_or(mask)), has(had).collect())).collect();
            let assigned = deal(&counts, &members);
            let mut read_by: BTreeMap<(Arc<str>, u32), usize> = BTreeMap::new();
            for ((topics, _), assigned) in members.iter().zip(&assigned) {
                prop_assert!(assigned.is_sorted() && assigned.iter().collect::<BTreeSet<_>>().len() == assigned.len());
                prop_assert!(assigned.iter().all(|(topic, partition)| topics.contains(topic) && *partition < counts[topic]));
                let there_is = topics.iter().any(|topic| counts[topic] > 0);
                prop_assert_eq!(assigned.is_empty(), !there_is);
                assigned.iter().for_each(|place| *read_by.entry(place.clone()).or_default() += 1);
            }
            for (topic, &count) in &counts {
                let is_read = members.iter().any(|(topics, _)| topics.contains(topic));
                prop_assert_eq!(read_by.keys().filter(|(of, _)| of == topic).count(), if is_read { count as usize } else { 0 });
            }
            if same.is_some() && !read_by.is_empty() {
                let loads = || assigned.iter().map(Vec::len);
                prop_assert!(loads().max() <= loads().min().map(|least| least + 1));
                let shared = || read_by.values().copied();
                prop_assert!(shared().max() <= shared().min().map(|least| least + 1));
                prop_assert!(members.len() > read_by.len() || shared().max() == Some(1));
            }
            for ((_, has), assigned) in members.iter_mut().zip(&assigned) {
                has.clone_from(assigned);
            }
            if same.is_some() {
                prop_assert_eq!(deal(&counts, &members), assigned, "it stays as it is while nothing changes");
            }
        }
    }
}

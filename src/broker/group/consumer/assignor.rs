//! Which member gets which partition: even ranges, with as few moves as possible.
//!
//! Members are numbers from 0, in the order they joined. Each topic is shared out among those who subscribe to it:
//!
//! ```text
//! before   orders 0 1 2 3 4 5      a a a b b b
//! c joins  orders 0 1 2 3 4 5      a a c b b c      two partitions move, which is the least that is even
//! a goes   orders 0 1 2 3 4 5      b c c b b c      only what a had moves
//! ```
//!
//! Always true of what [`assign`] answers:
//! - every partition of a topic that somebody subscribes to has a member that subscribes to it;
//! - of one topic, no member has two partitions more than another that subscribes to it;
//! - where all subscribe to the same topics, no member has two partitions more than another in all;
//! - for one topic, no assignment that is even moves fewer partitions. Over several topics the one spare partition that
//!   each share may have is dealt out greedily, which can cost a move more than the best plan there is.
//!
//! Partitions that nobody had are dealt out in ranges: a first assignment of one topic is Kafka's `range`.

use std::{cmp::Reverse, collections::BTreeMap, iter::repeat_n};

/// How partitions are shared out, by Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Even, and as few moves as possible.
    Uniform,
    /// Equal partitions of topics that have as many, and the same subscribers, go to the same member, so that what belongs together in
    /// two topics has one reader: among members of text by [`together`], which moves few, once one is Kafka's by [`range`], as there.
    Range,
}

impl Assignor {
    /// All of them; the first is what is taken where no member asks for another.
    pub const ALL: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Assignor> {
        Assignor::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// Kafka's name.
    pub const fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }
}

/// A topic to share out.
#[derive(Debug)]
pub(in crate::broker::group) struct Topic {
    /// Who subscribes to it, ascending, at least one.
    pub(in crate::broker::group) subscribers: Vec<usize>,
    /// Who has each partition now. A member that does not subscribe any more counts as nobody.
    pub(in crate::broker::group) current: Vec<Option<usize>>,
}

/// What one subscriber of a topic is to have of it: the even share, and perhaps one partition more.
struct Share {
    member: usize,
    /// How many partitions it has now.
    has: usize,
    extra: bool,
}

/// Shares out `topics` among members numbered below `members`; answers a member for each partition of each topic.
pub(in crate::broker::group) fn assign(members: usize, topics: &[Topic]) -> Vec<Vec<usize>> {
    let mut load = vec![0; members];
    for topic in topics {
        topic.subscribers.iter().for_each(|&member| load[member] += topic.even_share());
    }
    let mut shares: Vec<_> = topics.iter().map(|topic| topic.shares(&mut load)).collect();
    for free_only in [true, false] {
        while topics
            .iter()
            .zip(&mut shares)
            .fold(false, |moved, (topic, shares)| level(shares, topic.even_share(), &mut load, free_only) || moved)
        {
        }
    }
    topics.iter().zip(&shares).map(|(topic, shares)| topic.deal(shares)).collect()
}

/// As [`assign`], in ranges: members in the order of their `rank`, the first of which get one partition more where they do not
/// divide. What a member had does not matter.
pub(super) fn range<R: Ord>(topics: &[Topic], rank: impl Fn(usize) -> R) -> Vec<Vec<usize>> {
    let of_topic = |topic: &Topic| {
        let mut members = topic.subscribers.clone();
        members.sort_by_cached_key(|&member| rank(member));
        let (share, more) = (topic.even_share(), topic.current.len() % members.len());
        let count = |index| share + usize::from(index < more);
        members.into_iter().enumerate().flat_map(|(index, member)| repeat_n(member, count(index))).collect()
    };
    topics.iter().map(of_topic).collect()
}

/// As [`assign`], but equal partitions of topics with as many partitions and the same subscribers go to the same member. As few of
/// them move as can be: each counts as one partition, which is with whom most of it is.
pub(super) fn together(members: usize, topics: &[Topic]) -> Vec<Vec<usize>> {
    let mut alike: BTreeMap<(&[usize], usize), Vec<&Topic>> = BTreeMap::new();
    for topic in topics {
        alike.entry((&topic.subscribers, topic.current.len())).or_default().push(topic);
    }
    let merged = alike.iter().map(|(&(subscribers, count), topics)| {
        let current = (0..count).map(|number| most_common(topics.iter().filter_map(|topic| topic.current[number])));
        Topic { subscribers: subscribers.to_vec(), current: current.collect() }
    });
    let assigned = assign(members, &merged.collect::<Vec<_>>());
    let of: BTreeMap<_, _> = alike.into_keys().zip(assigned).collect();
    topics.iter().map(|topic| of[&(&*topic.subscribers, topic.current.len())].clone()).collect()
}

/// Of those that stand there as often as any the lowest.
fn most_common(members: impl Iterator<Item = usize>) -> Option<usize> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    members.for_each(|member| *counts.entry(member).or_default() += 1);
    counts.into_iter().max_by_key(|&(member, count)| (count, Reverse(member))).map(|(member, _)| member)
}

impl Topic {
    fn even_share(&self) -> usize {
        self.current.len() / self.subscribers.len()
    }

    /// Gives the partitions that do not divide to those who have them already, then to those with the least.
    fn shares(&self, load: &mut [usize]) -> Vec<Share> {
        let share = |&member| Share { member, has: 0, extra: false };
        let mut shares: Vec<_> = self.subscribers.iter().map(share).collect();
        for member in self.current.iter().flatten() {
            if let Ok(at) = self.subscribers.binary_search(member) {
                shares[at].has += 1;
            }
        }
        let even = self.even_share();
        let mut order: Vec<_> = (0..shares.len()).collect();
        order.sort_by_key(|&at| (Reverse(shares[at].has > even), load[shares[at].member], at));
        for &at in &order[..self.current.len() % shares.len()] {
            shares[at].extra = true;
            load[shares[at].member] += 1;
        }
        shares
    }

    /// Each keeps what it has up to its share, from the lowest partition; the rest is dealt out in order.
    fn deal(&self, shares: &[Share]) -> Vec<usize> {
        let mut room: Vec<_> = shares.iter().map(|share| self.even_share() + usize::from(share.extra)).collect();
        let mut keeps = |member: &usize| {
            let at = self.subscribers.binary_search(member).ok()?;
            room[at] = room[at].checked_sub(1)?;
            Some(*member)
        };
        let kept: Vec<_> = self.current.iter().map(|has| has.as_ref().and_then(&mut keeps)).collect();
        let mut rest = shares.iter().zip(room).flat_map(|(share, room)| repeat_n(share.member, room));
        let next = |kept: Option<usize>| kept.or_else(|| rest.next()).expect("the shares add up to the partitions");
        kept.into_iter().map(next).collect()
    }
}

/// Hands extra partitions of one topic from members with much to members with two less or fewer; whether any was.
/// `free_only` leaves out what would move a partition that could stay.
fn level(shares: &mut [Share], even: usize, load: &mut [usize], free_only: bool) -> bool {
    let keeps = |share: &Share| share.has > even;
    let mut moved = false;
    loop {
        let givers = shares.iter().enumerate().filter(|(_, share)| share.extra && !(free_only && keeps(share)));
        let giver = givers.max_by_key(|(at, share)| (load[share.member], !keeps(share), Reverse(*at)));
        let takers = shares.iter().enumerate().filter(|(_, share)| !share.extra);
        let taker = takers.min_by_key(|(at, share)| (load[share.member], !keeps(share), *at));
        let (Some((giver, _)), Some((taker, _))) = (giver, taker) else { return moved };
        let (from, to) = (shares[giver].member, shares[taker].member);
        if load[from] < load[to] + 2 {
            return moved;
        }
        (shares[giver].extra, shares[taker].extra) = (false, true);
        (load[from], load[to]) = (load[from] - 1, load[to] + 1);
        moved = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn topic(subscribers: &[usize], current: &[Option<usize>]) -> Topic {
        Topic { subscribers: subscribers.to_vec(), current: current.to_vec() }
    }

    /// How many partitions change hands, of those whose member still subscribes.
    fn moves(topics: &[Topic], assigned: &[Vec<usize>]) -> usize {
        let moved = |topic: &Topic, assigned: &Vec<usize>| {
            let pairs = topic.current.iter().zip(assigned);
            pairs.filter(|(has, gets)| has.is_some_and(|has| has != **gets && topic.subscribers.contains(&has))).count()
        };
        topics.iter().zip(assigned).map(|(topic, assigned)| moved(topic, assigned)).sum()
    }

    #[test]
    fn ranges_of_every_topic_go_to_the_same_members() {
        let topics = [topic(&[0, 1, 2], &[None; 7]), topic(&[0, 1, 2], &[None; 7]), topic(&[0, 2], &[Some(2); 3])];
        let shared = range(&topics, Reverse);
        assert_eq!(shared, [vec![2, 2, 2, 1, 1, 0, 0], vec![2, 2, 2, 1, 1, 0, 0], vec![2, 2, 0]]);
    }

    #[test]
    fn equal_partitions_stay_together_and_move_together() {
        let first = [topic(&[0, 1], &[None; 4]), topic(&[0, 1], &[None; 4]), topic(&[0, 1], &[None; 3])];
        let shared = together(2, &first);
        assert_eq!(shared, [vec![0, 0, 1, 1], vec![0, 0, 1, 1], vec![0, 0, 1]]);
        // A third joins; of each two topics that belong together the same partition moves.
        let has: Vec<_> = shared.iter().map(|has| has.iter().copied().map(Some).collect::<Vec<_>>()).collect();
        let topics: Vec<_> = has.iter().map(|has| topic(&[0, 1, 2], has)).collect();
        let grown = together(3, &topics);
        assert_eq!(grown[0], grown[1]);
        assert_eq!(moves(&topics, &grown), 3);
        // Where they were apart the one stays who has more of it.
        let apart = [topic(&[0, 1], &[Some(1)]), topic(&[0, 1], &[Some(0)]), topic(&[0, 1], &[Some(1)])];
        assert_eq!(together(2, &apart), [[1], [1], [1]]);
    }

    fn counts(members: usize, assigned: &[usize]) -> Vec<usize> {
        (0..members).map(|member| assigned.iter().filter(|&&has| has == member).count()).collect()
    }

    fn is_even(counts: &[usize]) -> bool {
        counts.iter().max() <= counts.iter().min().map(|least| least + 1).as_ref()
    }

    #[test]
    fn first_assignment_deals_ranges() {
        assert_eq!(assign(3, &[topic(&[0, 1, 2], &[None; 8])]), [[0, 0, 0, 1, 1, 1, 2, 2]]);
        assert_eq!(assign(3, &[topic(&[0, 1, 2], &[None; 2])]), [[0, 1]]);
    }

    #[test]
    fn topics_of_one_partition_do_not_all_go_to_the_first_member() {
        let topics: Vec<_> = (0..5).map(|_| topic(&[0, 1], &[None])).collect();
        assert_eq!(assign(2, &topics).concat(), [0, 1, 0, 1, 0]);
    }

    #[test]
    fn newcomer_takes_no_more_than_its_share() {
        let has = [Some(0), Some(0), Some(0), Some(1), Some(1), Some(1)];
        assert_eq!(assign(3, &[topic(&[0, 1, 2], &has)]), [[0, 0, 2, 1, 1, 2]]);
    }

    #[test]
    fn only_the_partitions_of_who_went_move() {
        let has = [None, None, Some(0), Some(1), Some(1), Some(0)];
        assert_eq!(assign(2, &[topic(&[0, 1], &has)]), [[0, 1, 0, 1, 1, 0]]);
    }

    #[test]
    fn newcomer_gets_its_part_of_many_small_topics() {
        let topics: Vec<_> = (0..10).map(|_| topic(&[0, 1], &[Some(0)])).collect();
        let assigned = assign(2, &topics);
        assert_eq!(counts(2, &assigned.concat()), [5, 5]);
        assert_eq!(moves(&topics, &assigned), 5);
    }

    #[test]
    fn no_topic_and_no_partition_are_nothing_to_assign() {
        assert!(assign(0, &[]).is_empty());
        assert!(assign(1, &[topic(&[0], &[])])[0].is_empty());
    }

    /// Every way to give one topic's partitions to its subscribers.
    fn all_ways(topic: &Topic) -> Vec<Vec<usize>> {
        topic.current.iter().fold(vec![vec![]], |ways, _| {
            let longer = |way: Vec<usize>| topic.subscribers.iter().map(move |&member| [&way[..], &[member]].concat());
            ways.into_iter().flat_map(longer).collect()
        })
    }

    fn subscription() -> impl Strategy<Value = (usize, Vec<Topic>)> {
        let has = proptest::collection::vec(proptest::option::of(0..7usize), 0..12);
        let one = (1..64u8, has).prop_map(|(mask, current)| Topic {
            subscribers: (0..6).filter(|member| mask >> member & 1 == 1).collect(),
            current,
        });
        (Just(6), proptest::collection::vec(one, 0..6))
    }

    proptest! {
        #[test]
        fn every_topic_is_shared_out_evenly_among_its_subscribers((members, topics) in subscription()) {
            let assigned = assign(members, &topics);
            for (topic, assigned) in topics.iter().zip(&assigned) {
                prop_assert_eq!(assigned.len(), topic.current.len());
                prop_assert!(assigned.iter().all(|member| topic.subscribers.contains(member)));
                let counts = counts(members, assigned);
                prop_assert!(is_even(&topic.subscribers.iter().map(|&member| counts[member]).collect::<Vec<_>>()));
            }
        }

        #[test]
        fn members_with_one_subscription_have_equal_loads(
            members in 1..5usize,
            current in proptest::collection::vec(proptest::collection::vec(proptest::option::of(0..6usize), 0..9), 0..6),
        ) {
            let all: Vec<_> = (0..members).collect();
            let topics: Vec<_> = current.iter().map(|current| topic(&all, current)).collect();
            prop_assert!(is_even(&counts(members, &assign(members, &topics).concat())));
        }

        #[test]
        fn no_even_assignment_of_a_topic_moves_less(
            members in 1..4usize,
            current in proptest::collection::vec(proptest::option::of(0..4usize), 0..7),
        ) {
            let topics = [topic(&(0..members).collect::<Vec<_>>(), &current)];
            let best = all_ways(&topics[0]).into_iter().filter(|way| is_even(&counts(members, way)));
            let best = best.map(|way| moves(&topics, &[way])).min().unwrap();
            prop_assert_eq!(moves(&topics, &assign(members, &topics)), best);
        }

        #[test]
        fn together_is_even_and_stays_as_it_is((members, mut topics) in subscription()) {
            let assigned = together(members, &topics);
            for (topic, assigned) in topics.iter_mut().zip(&assigned) {
                let counts = counts(members, assigned);
                prop_assert!(is_even(&topic.subscribers.iter().map(|&member| counts[member]).collect::<Vec<_>>()));
                topic.current = assigned.iter().copied().map(Some).collect();
            }
            prop_assert_eq!(together(members, &topics), assigned);
        }

        #[test]
        fn an_assignment_stays_as_it_is_while_nothing_changes((members, mut topics) in subscription()) {
            let assigned = assign(members, &topics);
            for (topic, assigned) in topics.iter_mut().zip(&assigned) {
                topic.current = assigned.iter().copied().map(Some).collect();
            }
            prop_assert_eq!(assign(members, &topics), assigned);
        }
    }
}

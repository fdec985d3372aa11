//! Which offset of the source has which at the target.
//!
//! Offsets differ by the same amount until the source has a hole. There stands an anchor. A map that gets too long keeps each
//! second of its anchors; the stretch behind one whose successor is gone is no longer told by counting offsets: there records are
//! counted, or less is promised.

use std::fmt::Write;

/// So many anchors are kept. Their text stays below half of what Kafka keeps with an offset.
const ANCHORS_MAX: usize = 48;

/// Anchors in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Map(Vec<Anchor>);

/// From here on `from` of the source is `to` of the target, `from + 1` is `to + 1`, and so on up to the next anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) from: i64,
    pub(super) to: i64,
    /// Whether there may be holes before the next anchor.
    pub(super) has_holes: bool,
}

/// Where an offset of the source is at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Translated {
    /// There; of an offset in a hole the record after it.
    At(i64),
    /// At least there, and below `before`: that many records of the source from `since` on are to be counted.
    Within { since: Anchor, before: Option<i64> },
}

impl Map {
    /// One about which nothing is known but where both begin.
    pub(super) fn unknown(from: i64, to: i64) -> Map {
        Map(vec![Anchor { from, to, has_holes: true }])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `count` records in a row from `from` on are at the target from `to` on. Both are above what is there.
    pub(super) fn push(&mut self, from: i64, to: i64, count: i64) {
        let goes_on = |anchor: &Anchor| !anchor.has_holes && from - anchor.from == to - anchor.to;
        if count == 0 || self.0.last().is_some_and(goes_on) {
            return;
        }
        if self.0.len() == ANCHORS_MAX {
            self.thin();
        }
        self.0.push(Anchor { from, to, has_holes: false });
    }

    /// Drops each second anchor, but for the first and the last.
    fn thin(&mut self) {
        let last = self.0.len() - 1;
        let mut kept: Vec<Anchor> = Vec::with_capacity(ANCHORS_MAX);
        for (index, anchor) in self.0.iter().enumerate() {
            match kept.last_mut() {
                Some(before) if index % 2 == 1 && index != last => before.has_holes = true,
                _ => kept.push(*anchor),
            }
        }
        self.0 = kept;
    }

    /// Where an offset of the source is, of those that were copied. What stood before the first is at the first.
    pub(super) fn translate(&self, offset: i64) -> Option<Translated> {
        let after = self.0.partition_point(|anchor| anchor.from <= offset);
        let before = self.0.get(after).map(|anchor| anchor.to);
        let Some(since) = after.checked_sub(1).and_then(|index| self.0.get(index)) else {
            return before.map(Translated::At);
        };
        if since.has_holes && offset > since.from {
            return Some(Translated::Within { since: *since, before });
        }
        let there = since.to + (offset - since.from);
        Some(Translated::At(before.map_or(there, |before| there.min(before))))
    }

    /// `from:to` of each anchor, in which `~` says that there may be holes; numbers are relative to the anchor before.
    pub(super) fn text(&self) -> String {
        let (mut text, mut last) = (String::new(), Anchor { from: 0, to: 0, has_holes: false });
        for anchor in &self.0 {
            let before = if text.is_empty() { "" } else { "," };
            let between = if anchor.has_holes { '~' } else { ':' };
            write!(text, "{before}{}{between}{}", anchor.from - last.from, anchor.to - last.to)
                .expect("a string takes it");
            last = *anchor;
        }
        text
    }

    pub(super) fn read(text: &str) -> Option<Map> {
        let (mut map, mut last) = (Map::default(), Anchor { from: 0, to: 0, has_holes: false });
        for anchor in text.split(',') {
            let between = if anchor.contains('~') { '~' } else { ':' };
            let (from, to) = numbers(anchor, between).filter(|(from, to)| *from >= 0 && *to >= 0)?;
            let (from, to) = (last.from.checked_add(from)?, last.to.checked_add(to)?);
            last = Anchor { from, to, has_holes: between == '~' };
            map.0.push(last);
        }
        (map.0.len() <= ANCHORS_MAX).then_some(map)
    }

    /// The longest there is.
    #[cfg(test)]
    pub(super) fn full() -> Map {
        let step = i64::MAX / ANCHORS_MAX as i64;
        let anchor = |index| Anchor { from: step * index, to: step * index, has_holes: true };
        Map((1..=ANCHORS_MAX as i64).map(anchor).collect())
    }
}

/// Two numbers with this between them.
pub(super) fn numbers(text: &str, between: char) -> Option<(i64, i64)> {
    let (one, other) = text.split_once(between)?;
    Some((one.parse().ok()?, other.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Translated::*, *};

    #[test]
    fn an_offset_in_a_hole_is_where_the_record_after_it_is() {
        let mut map = Map::default();
        map.push(10, 0, 5);
        map.push(15, 5, 5);
        map.push(30, 10, 1);
        assert_eq!(map.text(), "10:0,20:10");
        let at = |offset| map.translate(offset);
        assert_eq!(
            [at(0), at(10), at(19), at(20), at(29), at(30), at(31)],
            [0, 0, 9, 10, 10, 10, 11].map(|to| Some(At(to)))
        );
        assert_eq!(Map::default().translate(5), None);
    }

    #[test]
    fn a_long_map_is_thinned_and_never_tells_too_much() {
        let mut map = Map::default();
        // Each second offset of the source is a hole: what is at `n` there is at `n / 2`.
        for to in 0..10_000 {
            map.push(2 * to, to, 1);
        }
        assert!(map.0.len() <= ANCHORS_MAX);
        assert_eq!(Map::read(&map.text()), Some(map.clone()));
        for to in 0..10_000 {
            match map.translate(2 * to).unwrap() {
                At(told) => assert_eq!(told, to),
                Within { since, before } => {
                    assert!(since.to <= to && before.is_none_or(|before| to < before), "{to}: {since:?}, {before:?}");
                    assert_eq!(since.from, 2 * since.to);
                }
            }
        }
    }
}

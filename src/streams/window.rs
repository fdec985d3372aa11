//! Windows of time: which of them a record falls in, and until when they take late ones.

use std::{iter, time::Duration};

/// Windows that follow each other without a gap: each record falls in one.
///
/// A window begins at a multiple of its size since 1970-01-01 UTC, includes its start and not its end. It takes late records until
/// stream time is its end and the grace, which is none unless [`grace`](Self::grace) says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tumbling {
    size: i64,
    grace: i64,
}

/// Windows of one size that begin at shorter distances: each record falls in several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hopping {
    size: i64,
    advance: i64,
    grace: i64,
}

/// Windows that end with a record, or begin right behind one: for every set of records that are within `difference` of each
/// other there is one. Both ends are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sliding {
    difference: i64,
    grace: i64,
}

/// Windows of records with no pause between them that is longer than the gap. Those that a record brings together become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sessions {
    pub(super) gap: i64,
    pub(super) grace: i64,
}

/// Which records of two streams are joined: those of the right whose time is from `before` the time of the left to `after`
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinWindow {
    pub(super) before: i64,
    pub(super) after: i64,
    pub(super) grace: i64,
}

impl Tumbling {
    /// Windows of this size.
    pub fn of(size: Duration) -> Tumbling {
        Tumbling { size: ms(size), grace: 0 }
    }

    /// How long after its end a window takes late records.
    pub fn grace(self, grace: Duration) -> Tumbling {
        Tumbling { grace: ms(grace), ..self }
    }
}

impl Hopping {
    /// Windows of this size, one for each `advance`.
    pub fn of(size: Duration, advance: Duration) -> Hopping {
        Hopping { size: ms(size), advance: ms(advance), grace: 0 }
    }

    /// How long after its end a window takes late records.
    pub fn grace(self, grace: Duration) -> Hopping {
        Hopping { grace: ms(grace), ..self }
    }
}

impl Sliding {
    /// Windows of records that are at most so far from each other.
    pub fn of(difference: Duration) -> Sliding {
        Sliding { difference: ms(difference), grace: 0 }
    }

    /// How long after its end a window takes late records.
    pub fn grace(self, grace: Duration) -> Sliding {
        Sliding { grace: ms(grace), ..self }
    }
}

impl Sessions {
    /// Sessions that end where nothing comes for longer than the gap.
    pub fn of(gap: Duration) -> Sessions {
        Sessions { gap: ms(gap), grace: 0 }
    }

    /// How long after it has ended a session takes late records.
    pub fn grace(self, grace: Duration) -> Sessions {
        Sessions { grace: ms(grace), ..self }
    }
}

impl JoinWindow {
    /// Records that are at most so far from each other.
    pub fn of(difference: Duration) -> JoinWindow {
        JoinWindow { before: ms(difference), after: ms(difference), grace: 0 }
    }

    /// How much earlier than the left the right may be.
    pub fn before(self, before: Duration) -> JoinWindow {
        JoinWindow { before: ms(before), ..self }
    }

    /// How much later than the left the right may be.
    pub fn after(self, after: Duration) -> JoinWindow {
        JoinWindow { after: ms(after), ..self }
    }

    /// How long late records are joined; until then those of a left or outer join that found no other wait.
    pub fn grace(self, grace: Duration) -> JoinWindow {
        JoinWindow { grace: ms(grace), ..self }
    }
}

/// The windows that a stream can be aggregated in, without sessions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Windows {
    /// Tumbling or hopping.
    Aligned(Aligned),
    /// Sliding.
    Around(Around),
}

/// Windows that begin at multiples of `advance`, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aligned {
    pub(super) size: i64,
    pub(super) advance: i64,
    pub(super) grace: i64,
}

/// Windows around records, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Around {
    pub(super) difference: i64,
    pub(super) grace: i64,
}

impl From<Tumbling> for Windows {
    fn from(Tumbling { size, grace }: Tumbling) -> Windows {
        Windows::Aligned(Aligned { size, advance: size, grace })
    }
}

impl From<Hopping> for Windows {
    fn from(Hopping { size, advance, grace }: Hopping) -> Windows {
        Windows::Aligned(Aligned { size, advance, grace })
    }
}

impl From<Sliding> for Windows {
    fn from(Sliding { difference, grace }: Sliding) -> Windows {
        Windows::Around(Around { difference, grace })
    }
}

impl Windows {
    /// What is wrong with them, if anything is.
    pub(super) fn problem(&self) -> Option<&'static str> {
        match self {
            Windows::Aligned(Aligned { size: 0, .. }) => Some("has windows of no size"),
            Windows::Aligned(Aligned { advance: 0, .. }) => Some("has windows that do not advance"),
            Windows::Aligned(Aligned { size, advance, .. }) if advance > size => {
                Some("has windows that advance by more than their size")
            }
            _ => None,
        }
    }

    /// How long after its start a window may be changed.
    pub(super) fn retention(&self) -> i64 {
        match self {
            Windows::Aligned(Aligned { size, grace, .. }) => size.saturating_add(*grace),
            Windows::Around(Around { difference, grace }) => difference.saturating_mul(2).saturating_add(*grace),
        }
    }

    pub(super) fn grace(&self) -> i64 {
        match self {
            Windows::Aligned(Aligned { grace, .. }) | Windows::Around(Around { grace, .. }) => *grace,
        }
    }
}

impl Aligned {
    /// The starts of the windows that a time falls in.
    pub(super) fn starts(self, time: i64) -> impl Iterator<Item = i64> {
        let first = time.saturating_sub(self.size).saturating_add(self.advance).max(0) / self.advance * self.advance;
        let starts = iter::successors(Some(first), move |start| start.checked_add(self.advance));
        starts.take_while(move |start| *start <= time)
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_in_one_tumbling_and_several_hopping_windows() {
        let starts = |size, advance, time| Aligned { size, advance, grace: 0 }.starts(time).collect::<Vec<_>>();
        assert_eq!(starts(10, 10, 0), [0]);
        assert_eq!(starts(10, 10, 19), [10]);
        assert_eq!(starts(10, 3, 5), [0, 3]);
        assert_eq!(starts(10, 3, 20), [12, 15, 18]);
        let last = i64::MAX / 10 * 10;
        assert_eq!(starts(10, 10, i64::MAX), [last]);
    }
}

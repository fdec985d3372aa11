//! What of a disk in memory survives a crash, as a seed decides.

/// How much of what was not synced is found after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// The durable only.
    Nothing,
    /// All that was done.
    Everything,
    /// What this seed throws for each page, length and name.
    Seed(u64),
}

/// Decides what survives.
#[derive(Clone, Copy)]
pub(super) struct Dice {
    pub(super) survivors: Survivors,
    pub(super) state: u64,
}

impl Dice {
    /// The next number of splitmix64.
    pub(super) fn throw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The dice for one file or directory: every other time it survives whole or not at all, so that the files of a
    /// disk differ from each other.
    pub(super) fn of_one(&mut self) -> Self {
        let state = self.throw();
        let survivors = match (self.survivors, state % 4) {
            (Survivors::Seed(_), 0) => Survivors::Nothing,
            (Survivors::Seed(_), 1) => Survivors::Everything,
            (survivors, _) => survivors,
        };
        Self { survivors, state }
    }

    /// How many of `all` changes survive: none, all, or a number between, equally likely.
    pub(super) fn up_to(&mut self, all: u64) -> u64 {
        match (self.survivors, self.throw() % 3) {
            (Survivors::Nothing, _) | (Survivors::Seed(_), 0) => 0,
            (Survivors::Everything, _) | (Survivors::Seed(_), 1) => all,
            (Survivors::Seed(_), _) => (1 + self.throw() % (all.max(2) - 1)).min(all),
        }
    }
}

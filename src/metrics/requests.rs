//! The requests of a protocol, by what they ask: a row of counters for each row of the protocol's table.

use super::{Counter, Latency};
use std::sync::OnceLock;

/// The most rows that a protocol's table may have, one for what stands in none included.
pub const ROWS_MAX: usize = 128;

/// Requests by the number of their row. A row takes memory once it is asked for.
#[derive(Debug)]
pub struct Requests([OnceLock<Box<Requested>>; ROWS_MAX]);

/// Requests that ask for the same.
#[derive(Debug, Default)]
pub struct Requested {
    /// How long they took, their waits included.
    pub took: Latency,
    /// How many of them were refused, wholly or in part.
    pub errors: Counter,
}

impl Default for Requests {
    fn default() -> Requests {
        Requests([const { OnceLock::new() }; ROWS_MAX])
    }
}

impl Requests {
    /// A row.
    pub fn row(&self, number: usize) -> &Requested {
        self.0[number].get_or_init(Box::default)
    }

    /// The rows that were asked for, with their numbers.
    pub fn rows(&self) -> impl Iterator<Item = (usize, &Requested)> {
        self.0.iter().enumerate().filter_map(|(number, row)| Some((number, &**row.get()?)))
    }

    /// All requests.
    pub fn count(&self) -> u64 {
        self.rows().map(|(_, row)| row.took.count()).sum()
    }

    /// All that were refused, wholly or in part.
    pub fn errors(&self) -> u64 {
        self.rows().map(|(_, row)| row.errors.get()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn rows_are_there_once_they_are_used() {
        let requests = Requests::default();
        assert_eq!(requests.rows().count(), 0);
        requests.row(3).took.add(2, Duration::ZERO);
        requests.row(ROWS_MAX - 1).errors.add(1);
        assert_eq!(requests.rows().map(|(number, _)| number).collect::<Vec<_>>(), [3, ROWS_MAX - 1]);
        assert_eq!((requests.count(), requests.errors()), (2, 1));
    }
}

//! A summary of many sent records, in one line.

use crate::client::Ack;
use std::{collections::BTreeMap, time::Duration};

/// More partitions than this are counted, not listed.
const PARTITIONS_LISTED: usize = 8;

/// Counts of records, and the offsets they got.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Records that were stored.
    pub stored: u64,
    /// Messages that were not.
    pub refused: u64,
    /// First and last offset of each partition, as far as they are known.
    offsets: BTreeMap<u32, (u64, u64)>,
}

impl Tally {
    /// Counts a stored record.
    pub fn add(&mut self, ack: Ack) {
        self.stored += 1;
        if let Some(offset) = ack.offset {
            let (first, last) = self.offsets.entry(ack.partition).or_insert((offset, offset));
            (*first, *last) = (offset.min(*first), offset.max(*last));
        }
    }

    /// `3 messages, offsets 0-2; 0.001 s, 3000 messages/s`
    pub fn summary(&self, time: Duration) -> String {
        let seconds = time.as_secs_f64().max(1e-6);
        let plural = if self.stored == 1 { "" } else { "s" };
        let rate = self.stored as f64 / seconds;
        format!(
            "{} message{plural}{}{}; {seconds:.3} s, {rate:.0} messages/s",
            self.stored,
            self.places(),
            self.losses()
        )
    }

    fn places(&self) -> String {
        let range = |(first, last): &(u64, u64)| {
            if first == last { format!("offset {first}") } else { format!("offsets {first}-{last}") }
        };
        let in_partition = |(partition, offsets)| format!(" in partition {partition}: {}", range(offsets));
        match self.offsets.len() {
            0 => String::new(),
            1 => format!(", {}", self.offsets.values().map(range).collect::<String>()),
            2..=PARTITIONS_LISTED => {
                format!(",{}", self.offsets.iter().map(in_partition).collect::<Vec<_>>().join(","))
            }
            more => format!(" in {more} partitions"),
        }
    }

    fn losses(&self) -> String {
        if self.refused == 0 { String::new() } else { format!("; {} refused", self.refused) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(acks: &[(u32, u64)], refused: u64) -> String {
        let mut tally = Tally { refused, ..Tally::default() };
        acks.iter().for_each(|&(partition, offset)| tally.add(Ack { partition, offset: Some(offset) }));
        tally.summary(Duration::from_millis(500))
    }

    #[test]
    fn one_line_says_how_many_where_and_how_fast() {
        assert_eq!(summary(&[], 0), "0 messages; 0.500 s, 0 messages/s");
        assert_eq!(summary(&[(0, 7)], 0), "1 message, offset 7; 0.500 s, 2 messages/s");
        assert_eq!(summary(&[(0, 7), (0, 8), (0, 9)], 2), "3 messages, offsets 7-9; 2 refused; 0.500 s, 6 messages/s");
        assert_eq!(
            summary(&[(2, 7), (0, 8), (0, 9)], 0),
            "3 messages, in partition 0: offsets 8-9, in partition 2: offset 7; 0.500 s, 6 messages/s"
        );
        let many: Vec<_> = (0..9).map(|partition| (partition, 0)).collect();
        assert_eq!(summary(&many, 0), "9 messages in 9 partitions; 0.500 s, 18 messages/s");
    }
}

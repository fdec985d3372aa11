//! The producers' state as it stands beside a segment: lines, and behind them their CRC.
//!
//! ```text
//! producer:1000 epoch:0 batch:0-1@0 timestamp:1700000000000 appended:1764180000000
//! producer:1000 epoch:0 batch:2-2@2 timestamp:1700000000005 appended:1764180000007
//! producer:1001 epoch:3 next:0 coordinator:0 timestamp:1700000000009 appended:1764180000009
//! producer:1002 epoch:0 batch:0-0@5 timestamp:1700000000011 appended:1764180000011
//! producer:1002 epoch:0 next:1 coordinator:-1 timestamp:1700000000011 appended:1764180000011 transaction:5
//! crc32c:0a1b2c3d
//! ```
//!
//! A producer's batches come first, oldest first. A line with `next:` follows where they do not tell everything: a marker raised the
//! epoch, or there was one at all (`coordinator:` is the epoch of the last one's), or a transaction is open.

use super::{BATCHES_KEPT, NO_COORDINATOR, Numbered, PRODUCERS_MAX, Producer, Producers, Stored};
use crate::log::{
    Numbering,
    checked_text::{self, CRC_BYTES},
};
use std::fmt::Write;

/// Bytes of a batch's line at most: its words, and seven numbers of up to 20, 6, 10, 10, 20, 20 and 20.
const BATCH_BYTES_MAX: usize = 52 + 106;
/// Bytes of a producer's other line at most: its words, and seven numbers of up to 20, 6, 10, 11, 20, 20 and 20.
const STATE_BYTES_MAX: usize = 70 + 107;
/// Bytes of a file that [`Producers::to_lines`] may write, unless more transactions are open than producers stay known.
pub(in crate::broker) const FILE_BYTES_MAX: u64 =
    (3 * PRODUCERS_MAX * (BATCHES_KEPT * BATCH_BYTES_MAX + STATE_BYTES_MAX) + CRC_BYTES) as u64;

impl Producers {
    /// The state as lines.
    pub(in crate::broker) fn to_lines(&self) -> String {
        let mut out = String::new();
        for (id, producer) in self.known.iter().filter(|(_, producer)| producer.is_logged) {
            producer.batches.iter().for_each(|(batch, stored)| write_batch(&mut out, batch, stored));
            if !producer.follows_from_batches() {
                producer.write_state(&mut out, *id);
            }
        }
        checked_text::seal(out)
    }

    /// Reads lines back; `None`: they are not what [`to_lines`](Self::to_lines) writes of a log before this offset. Whoever was told of
    /// a record behind the log's end would wait for it to be durable.
    pub(in crate::broker) fn from_lines(bytes: &[u8], end: u64) -> Option<Producers> {
        let mut producers = Producers::default();
        checked_text::open(bytes)?.lines().try_for_each(|line| producers.take_line(line, end))?;
        Some(producers)
    }

    fn take_line(&mut self, line: &str, end: u64) -> Option<()> {
        let mut words = Words(line.split(' '));
        let (producer_id, producer_epoch) = (words.number("producer")?, words.number("epoch")?);
        let (name, value) = words.0.next()?.split_once(':')?;
        match name {
            "batch" => {
                let (sequences, first) = value.split_once('@')?;
                let (base, last) = sequences.split_once('-')?;
                let (base_sequence, last): (i32, i32) = (base.parse().ok()?, last.parse().ok()?);
                let last_delta = ((i64::from(last) - i64::from(base_sequence)) & i64::from(i32::MAX)) as u32;
                let numbering = Numbering { producer_id, producer_epoch, base_sequence };
                let (timestamp, appended_ms) = (words.number("timestamp")?, words.number("appended")?);
                let first: u64 = first.parse().ok()?;
                first.checked_add(u64::from(last_delta)).filter(|&last| last < end)?;
                let stored = Stored { first, timestamp, appended_ms };
                self.stored(Numbered { numbering, last_delta }, stored);
            }
            "next" => {
                let (next, coordinator_epoch) = (value.parse().ok()?, words.number("coordinator")?);
                let (timestamp, appended_ms) = (words.number("timestamp")?, words.number("appended")?);
                let producer = self.known.entry(producer_id);
                let producer = producer.or_insert_with(|| Producer::awaited(producer_epoch, next, appended_ms));
                (producer.epoch, producer.next, producer.is_logged) = (producer_epoch, next, true);
                (producer.coordinator_epoch, producer.timestamp) = (coordinator_epoch, timestamp);
                producer.heard_ms = appended_ms;
                if !words.is_empty() {
                    let first = words.number("transaction").filter(|&first| first < end)?;
                    self.stored_in_transaction(producer_id, first);
                }
            }
            _ => return None,
        }
        words.is_empty().then_some(())
    }
}

impl Producer {
    /// Whether its last batch tells the rest.
    fn follows_from_batches(&self) -> bool {
        let next = |batch: &Numbered| batch.last_sequence().wrapping_add(1) & i32::MAX;
        let follows = |(batch, _): &(Numbered, Stored)| (batch.epoch(), next(batch)) == (self.epoch, self.next);
        self.batches.back().is_some_and(follows)
            && self.coordinator_epoch == NO_COORDINATOR
            && self.transaction.is_none()
    }

    fn write_state(&self, out: &mut String, id: i64) {
        let Producer { epoch, next, coordinator_epoch, timestamp, heard_ms, .. } = self;
        let state = format_args!("producer:{id} epoch:{epoch} next:{next} coordinator:{coordinator_epoch}");
        write!(out, "{state} timestamp:{timestamp} appended:{heard_ms}").expect("a string takes it");
        if let Some(first) = self.transaction {
            write!(out, " transaction:{first}").expect("a string takes it");
        }
        out.push('\n');
    }
}

fn write_batch(out: &mut String, batch: &Numbered, stored: &Stored) {
    let Numbering { producer_id: id, producer_epoch: epoch, base_sequence } = batch.numbering;
    let (last, Stored { first, timestamp, appended_ms }) = (batch.last_sequence(), stored);
    let batch = format_args!("{base_sequence}-{last}@{first}");
    writeln!(out, "producer:{id} epoch:{epoch} batch:{batch} timestamp:{timestamp} appended:{appended_ms}")
        .expect("a string takes it");
}

/// The words of a line that are left.
struct Words<'a>(std::str::Split<'a, char>);

impl Words<'_> {
    /// The number in the next word, which has this name.
    fn number<T: std::str::FromStr>(&mut self, name: &str) -> Option<T> {
        self.0.next()?.strip_prefix(name)?.strip_prefix(':')?.parse().ok()
    }

    fn is_empty(&mut self) -> bool {
        self.0.clone().next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{broker::producer_state::Marker, log::Outcome};

    fn numbered(producer_id: i64, producer_epoch: i16, base_sequence: i32, last_delta: u32) -> Numbered {
        Numbered { numbering: Numbering { producer_id, producer_epoch, base_sequence }, last_delta }
    }

    fn at(first: u64) -> Stored {
        Stored { first, timestamp: 3, appended_ms: 5 }
    }

    /// One that only numbers, one in a transaction, one whose transaction was ended, and one that was only fenced.
    fn example() -> Producers {
        let mut producers = Producers::default();
        producers.stored(numbered(7, 3, i32::MAX, 1), at(0));
        for (id, first) in [(8, 2), (9, 3)] {
            producers.stored(numbered(id, 1, 0, 0), at(first));
            producers.stored_in_transaction(id, first);
        }
        for (producer_id, coordinator_epoch, first) in [(9, 0, 4), (10, 6, 5)] {
            let marker = Marker { producer_id, producer_epoch: 2, outcome: Outcome::Abort, coordinator_epoch };
            producers.ended(&marker, at(first));
        }
        producers.refused(numbered(11, 0, 0, 0), 5);
        producers
    }

    fn sorted(lines: &str) -> Vec<&str> {
        let mut lines: Vec<_> = lines.lines().filter(|line| !line.starts_with("crc32c:")).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn what_batches_do_not_tell_stands_in_a_line_of_its_own() {
        let lines = example().to_lines();
        let expected = [
            "producer:10 epoch:2 next:0 coordinator:6 timestamp:3 appended:5",
            "producer:7 epoch:3 batch:2147483647-0@0 timestamp:3 appended:5",
            "producer:8 epoch:1 batch:0-0@2 timestamp:3 appended:5",
            "producer:8 epoch:1 next:1 coordinator:-1 timestamp:3 appended:5 transaction:2",
            "producer:9 epoch:2 next:0 coordinator:0 timestamp:3 appended:5",
        ];
        assert_eq!(sorted(&lines), expected);
        let read = Producers::from_lines(lines.as_bytes(), 4).unwrap();
        assert_eq!(sorted(&read.to_lines()), expected);
        assert_eq!(read.active(5), example().active(5)[..4]);
        assert_eq!((read.first_open(), read.is_of(2)), (Some(2), false));
    }

    #[test]
    fn lines_that_are_none_are_refused_though_their_crc_is_right() {
        for line in [
            "",
            "producer:7 epoch:0",
            "producer:7 epoch:0 batch:0-0 timestamp:3 appended:5",
            "producer:7 epoch:0 batch:0-0@0 timestamp:3 appended:5 more",
            "producer:7 epoch:0 next:0 coordinator:0 timestamp:3 appended:5 transaction:",
            "producer:7 epoch:0 next:0 coordinator:0 timestamp:3 appended:5 transaction:1 more",
            "producer:7 epoch:0 other:0 timestamp:3 appended:5",
        ] {
            assert!(Producers::from_lines(checked_text::seal(format!("{line}\n")).as_bytes(), 9).is_none(), "{line}");
        }
    }

    /// A batch that was sent again was answered with an offset that no sync would ever reach, and its producer waited for ever.
    #[test]
    fn lines_of_what_the_log_does_not_have_are_refused() {
        for (line, end) in [
            ("producer:7 epoch:0 batch:0-2@5 timestamp:3 appended:5", 8),
            ("producer:7 epoch:0 batch:0-0@18446744073709551615 timestamp:3 appended:5", u64::MAX),
            ("producer:7 epoch:0 next:0 coordinator:0 timestamp:3 appended:5 transaction:5", 6),
        ] {
            let lines = checked_text::seal(format!("{line}\n"));
            let is_read = |end| Producers::from_lines(lines.as_bytes(), end).is_some();
            assert!(!is_read(end - 1), "{line}");
            assert_eq!(is_read(end), end < u64::MAX, "{line}");
        }
    }

    #[test]
    fn the_longest_line_is_as_long_as_it_may_be() {
        let mut producers = Producers::default();
        let batch = numbered(i64::MAX, i16::MAX, i32::MAX, i32::MAX as u32);
        producers.stored(batch, Stored { first: u64::MAX - 1, timestamp: i64::MIN, appended_ms: i64::MIN });
        assert!(producers.to_lines().len() <= BATCH_BYTES_MAX + CRC_BYTES);
        producers.stored_in_transaction(i64::MAX, u64::MAX - 1);
        let known = producers.known.get_mut(&i64::MAX).unwrap();
        (known.coordinator_epoch, known.next) = (i32::MIN, i32::MAX);
        assert!(producers.to_lines().len() <= BATCH_BYTES_MAX + STATE_BYTES_MAX + CRC_BYTES);
    }
}

//! The batch entry: 64 bytes in `.batches` for each append, which make the lines searchable and their damage visible.
//!
//! ```text
//!      0       4          8       12             16      20     22     24           32          36
//!      ├───────┼──────────┼───────┼──────────────┼───────┼──────┼──────┼────────────┼───────────┤
//!      │ first │ position │ bytes │ last - first │ count │ flags│ epoch│ producer id│ sequence  │
//!      ├───────┼──────────┴───────┼──────────────┴───────┼──────┴──────┼────────────┼───────────┘
//!   36 │ mark  │ 40   timestamp   │ 48  max timestamp    │ 56 CRC lines│ 60 CRC entry
//!      └───────┴──────────────────┴──────────────────────┴─────────────┴────────────
//! ```
//!
//! All numbers are little endian. First offset and position count from the segment's start. The size is fixed, so the file
//! is its own index: binary search by offset and, because the largest timestamp never falls, by time.

use super::record::Outcome;
use std::ops::{BitOr, Range};

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 64;
/// The most that one batch's lines may take.
pub const BATCH_BYTES_MAX: usize = 64 << 20;

/// CRC-32C of these bytes (Castagnoli's polynomial, as in iSCSI).
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// What is true of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// None.
    pub const NONE: Flags = Flags(0);
    /// The batch belongs to a transaction.
    pub const TRANSACTIONAL: Flags = Flags(1);
    /// The line is a transaction marker, no record.
    pub const CONTROL: Flags = Flags(2);
    /// The records bear the time of their append.
    pub const APPEND_TIME: Flags = Flags(4);
    /// The marker ends its transaction by abort.
    pub const ABORT: Flags = Flags(8);
    /// Field 36 is the delete horizon, in seconds, and no sync mark.
    pub const DELETE_HORIZON: Flags = Flags(16);
    /// A line without a time has that of the line before it, not the batch's.
    pub const RUNNING_TIMES: Flags = Flags(32);
    /// The three bits that say in which codec the batch came.
    pub const CODEC: Flags = Flags(0b111 << 6);
    /// The segment holds something of a transaction up to here, or began within one.
    pub const TRANSACTIONS: Flags = Flags(512);
    /// The segment holds a marker that aborts up to here.
    pub const ABORTS: Flags = Flags(1024);
    /// What is true of the segment up to here, and so of each entry that follows in it.
    pub const SO_FAR: Flags = Flags(512 | 1024);

    /// The codec in which a batch came, by the number that Kafka's batches give it: at most 7, 0 is none.
    pub const fn of_codec(codec: u8) -> Flags {
        Flags((codec as u16) << 6 & Flags::CODEC.0)
    }

    /// The number of the codec in which the batch came, 0 to 7.
    pub fn codec(self) -> u8 {
        ((self.0 & Flags::CODEC.0) >> 6) as u8
    }

    /// How a marker ends its transaction; `None`: the batch is no marker.
    pub fn outcome(self) -> Option<Outcome> {
        let outcome = if self.has(Flags::ABORT) { Outcome::Abort } else { Outcome::Commit };
        self.has(Flags::CONTROL).then_some(outcome)
    }

    /// Whether one of `flags` is among these.
    pub fn has(self, flags: Flags) -> bool {
        self.0 & flags.0 != 0
    }

    /// Those of `flags` that are among these.
    pub fn only(self, flags: Flags) -> Flags {
        Flags(self.0 & flags.0)
    }

    /// These without `flags`.
    pub fn without(self, flags: Flags) -> Flags {
        Flags(self.0 & !flags.0)
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// One batch, as its entry in `.batches` describes it. Offset and position count from the segment's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// First offset, from the segment's base offset.
    pub first: u32,
    /// Position of the first line in the `.log`.
    pub position: u32,
    /// Bytes of the lines; 0 with count 0 where the entry is kept only for its producer's sequence.
    pub bytes: u32,
    /// Last offset minus first.
    pub last_delta: u32,
    /// Lines; fewer than offsets after compaction.
    pub count: u32,
    /// What is true of it.
    pub flags: Flags,
    /// Producer epoch, -1: none.
    pub producer_epoch: i16,
    /// Producer id, -1: none.
    pub producer_id: i64,
    /// Sequence of the first record, -1: none. Of a transaction's marker, which has none: the coordinator's epoch.
    pub base_sequence: i32,
    /// How many entries of the segment were known to be synced when this one was written. Compaction counts the entry
    /// itself too: it syncs a pair before it gives it its name.
    pub mark: u32,
    /// The batch's timestamp in ms: that of the first record it was written with.
    pub timestamp: i64,
    /// Largest timestamp in the segment up to and with this batch.
    pub max_timestamp: i64,
    /// CRC-32C of the lines.
    pub lines_crc: u32,
}

impl Entry {
    /// What is known of a record that stands in no file here.
    #[cfg(feature = "cluster")]
    pub(crate) fn of_record(bytes: u32, timestamp: i64, flags: Flags) -> Entry {
        Entry {
            first: 0,
            position: 0,
            bytes,
            last_delta: 0,
            count: 1,
            flags,
            producer_epoch: -1,
            producer_id: -1,
            base_sequence: -1,
            mark: 0,
            timestamp,
            max_timestamp: timestamp,
            lines_crc: 0,
        }
    }

    /// The entry as it stands in the file.
    pub fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut out = [0; ENTRY_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&self.first.to_le_bytes());
        put(&self.position.to_le_bytes());
        put(&self.bytes.to_le_bytes());
        put(&self.last_delta.to_le_bytes());
        put(&self.count.to_le_bytes());
        put(&self.flags.0.to_le_bytes());
        put(&self.producer_epoch.to_le_bytes());
        put(&self.producer_id.to_le_bytes());
        put(&self.base_sequence.to_le_bytes());
        put(&self.mark.to_le_bytes());
        put(&self.timestamp.to_le_bytes());
        put(&self.max_timestamp.to_le_bytes());
        put(&self.lines_crc.to_le_bytes());
        let crc = crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads an entry; `None` if its CRC is wrong or its bounds are impossible.
    pub fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<Entry> {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let i64_at = |at: usize| i64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let u16_at = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"));
        if u32_at(60) != crc32c(&bytes[..60]) {
            return None;
        }
        let entry = Entry {
            first: u32_at(0),
            position: u32_at(4),
            bytes: u32_at(8),
            last_delta: u32_at(12),
            count: u32_at(16),
            flags: Flags(u16_at(20)),
            producer_epoch: u16_at(22) as i16,
            producer_id: i64_at(24),
            base_sequence: u32_at(32) as i32,
            mark: u32_at(36),
            timestamp: i64_at(40),
            max_timestamp: i64_at(48),
            lines_crc: u32_at(56),
        };
        let bounded = entry.bytes as usize <= BATCH_BYTES_MAX
            && entry.first.checked_add(entry.last_delta).is_some()
            && entry.position.checked_add(entry.bytes).is_some();
        bounded.then_some(entry)
    }

    /// Last offset, from the segment's base offset.
    pub fn last(&self) -> u32 {
        self.first + self.last_delta
    }

    /// Where the lines stand in the `.log`.
    pub fn positions(&self) -> Range<u32> {
        self.position..self.position + self.bytes
    }

    /// What is true of the segment up to here.
    pub fn so_far(&self) -> Flags {
        self.flags.only(Flags::SO_FAR)
    }

    /// Whether compaction wrote this entry, the one at `index`, and left nothing in it that it could have taken then.
    pub fn is_compacted(&self, index: u32) -> bool {
        self.flags.has(Flags::DELETE_HORIZON) || self.mark > index
    }

    /// When the tombstones of the batch may go, in ms; `None`: none of them was compacted yet, or there is none.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        self.flags.has(Flags::DELETE_HORIZON).then_some(i64::from(self.mark) * 1000)
    }

    /// Sync mark, which an entry with a delete horizon does not carry.
    pub fn sync_mark(&self) -> u32 {
        if self.flags.has(Flags::DELETE_HORIZON) { 0 } else { self.mark }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codec_takes_three_bits_and_leaves_the_others_alone() {
        for codec in 0..8 {
            let flags = Flags::of_codec(codec);
            assert_eq!((flags.0, flags.codec()), (u16::from(codec) << 6, codec));
            assert_eq!((flags | Flags(!0)).without(Flags::CODEC), Flags(0b1111_1110_0011_1111));
            assert_eq!((flags | Flags::CONTROL | Flags::RUNNING_TIMES).codec(), codec);
        }
        assert_eq!(Flags::of_codec(9), Flags::of_codec(1), "no other bit is touched");
    }

    #[test]
    fn the_crc_is_castagnolis_at_every_length_and_place() {
        let by_bits = |bytes: &[u8]| {
            !bytes.iter().fold(!0_u32, |crc, &byte| {
                (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (crc & 1).wrapping_neg() & 0x82f6_3b78)
            })
        };
        assert_eq!(by_bits(b"123456789"), 0xe306_9283);
        let bytes: Vec<u8> = (0..70_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for length in (0..600).chain([1023, 1024, 4095, 4097, 16_385, 65_536, 69_000]) {
            for place in [0, 1, 7] {
                let bytes = &bytes[place..place + length];
                assert_eq!(crc32c(bytes), by_bits(bytes), "{length} bytes from {place} on");
            }
        }
    }

    #[test]
    fn an_entry_survives_the_round_trip_and_no_flipped_bit_does() {
        let entry = Entry {
            first: 1,
            position: 2,
            bytes: 3,
            last_delta: 4,
            count: 5,
            flags: Flags(6),
            producer_epoch: -1,
            producer_id: -2,
            base_sequence: -3,
            mark: 7,
            timestamp: -4,
            max_timestamp: 8,
            lines_crc: 9,
        };
        let bytes = entry.encode();
        assert_eq!(Entry::decode(&bytes), Some(entry));
        for bit in 0..ENTRY_BYTES * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Entry::decode(&bytes), None, "bit {bit}");
        }
        assert_eq!(Entry::decode(&[0; ENTRY_BYTES]), None);
    }
}

//! The lines of a batch as records: offset, time and fields of each, decided here and nowhere else.
//!
//! ```text
//! offset:7 message:a                              its batch's time
//! offset:8 timestamp:1700000000500 key:k message:b
//! └offset┘ └──── its own time ───┘ └── fields ───┘
//! offset:9 message:c                              1700000000500 where times run on, else its batch's
//! ```
//!
//! - A line's own time stands right behind its offset or nowhere.
//! - A line without one has the time of the line before it, the first its batch's, where the batch's entry says
//!   [`Flags::RUNNING_TIMES`]: so a time is written where it changes. Batches of earlier versions, and lines that were appended by
//!   hand, do not say so: there a line without a time has its batch's.

use super::{
    batches::{Entry, Flags},
    record::{Fields, Malformed, split_fields, split_offset, split_timestamp, write_i64, write_u64},
};

/// One record, as its line has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line<'a> {
    /// Its offset.
    pub offset: u64,
    /// Its time in ms; -1: it has none.
    pub timestamp: i64,
    /// Key, headers and value: what follows the offset and the time.
    pub fields: &'a [u8],
    /// The whole line as it stands there, without its end.
    pub text: &'a [u8],
}

impl<'a> Line<'a> {
    /// Splits the fields.
    pub fn split(&self) -> Result<Fields<'a>, Malformed> {
        split_fields(self.fields)
    }

    /// Appends the line with this time on it, or none, and with its end.
    pub fn write(&self, out: &mut Vec<u8>, timestamp: Option<i64>) {
        out.extend_from_slice(b"offset:");
        write_u64(out, self.offset);
        out.push(b' ');
        if let Some(timestamp) = timestamp {
            out.extend_from_slice(b"timestamp:");
            write_i64(out, timestamp);
            out.push(b' ');
        }
        out.extend_from_slice(self.fields);
        out.push(b'\n');
    }
}

/// The lines of one batch, from some record of it on.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    rest: &'a [u8],
    /// The time of a line that has none.
    timestamp: i64,
    /// Whether that becomes the time of each line that has one.
    running: bool,
    /// Whether the records have their batch's time whatever their lines say.
    stamped: bool,
}

impl<'a> Lines<'a> {
    /// The lines of a batch with this timestamp and these flags.
    pub fn new(lines: &'a [u8], timestamp: i64, flags: Flags) -> Lines<'a> {
        let (running, stamped) = (flags.has(Flags::RUNNING_TIMES), flags.has(Flags::APPEND_TIME));
        Lines { rest: lines, timestamp, running, stamped }
    }

    /// The lines of the batch that `entry` describes.
    pub fn of(entry: &Entry, lines: &'a [u8]) -> Lines<'a> {
        Lines::new(lines, entry.timestamp, entry.flags)
    }

    /// The time of a line that has none of its own, were it the next.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The bytes of the lines that are left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The same lines from the first record at or after `offset` on.
    pub fn starting_at(mut self, offset: u64) -> Lines<'a> {
        loop {
            let mut behind = self.clone();
            match behind.next() {
                Some(Ok(line)) if line.offset >= offset => return self,
                None => return self,
                _ => self = behind,
            }
        }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<Line<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Result<Line<'a>, Malformed>> {
        let end = match memchr::memchr(b'\n', self.rest) {
            Some(end) => end,
            None if self.rest.is_empty() => return None,
            None => {
                self.rest = b"";
                return Some(Err(Malformed("the last line has no end".into())));
            }
        };
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        let Some((offset, fields)) = split_offset(text) else {
            return Some(Err(Malformed("a line does not begin with an offset".into())));
        };
        let (own, fields) = split_timestamp(fields);
        let timestamp = own.filter(|_| !self.stamped).unwrap_or(self.timestamp);
        if self.running {
            self.timestamp = timestamp;
        }
        Some(Ok(Line { offset, timestamp, fields, text }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &[u8] = b"offset:1 message:a\noffset:2 timestamp:70 key:k message:b\noffset:3 message:c\n\
                           offset:5 timestamp:-1 tombstone\noffset:6 message:d\n";

    fn told(lines: Lines<'_>) -> Vec<(u64, i64, &str)> {
        let lines = lines.map(Result::unwrap);
        lines.map(|line| (line.offset, line.timestamp, std::str::from_utf8(line.fields).unwrap())).collect()
    }

    #[test]
    fn a_line_has_its_own_time_or_its_batchs_or_that_of_the_line_before() {
        let fields = ["message:a", "key:k message:b", "message:c", "tombstone", "message:d"];
        for (flags, times) in [
            (Flags::NONE, [50, 70, 50, -1, 50]),
            (Flags::RUNNING_TIMES, [50, 70, 70, -1, -1]),
            (Flags::APPEND_TIME, [50; 5]),
        ] {
            let expected: Vec<_> = [1, 2, 3, 5, 6].into_iter().zip(times).zip(fields).collect();
            let expected: Vec<_> =
                expected.into_iter().map(|((offset, time), fields)| (offset, time, fields)).collect();
            assert_eq!(told(Lines::new(LINES, 50, flags)), expected);
        }
    }

    #[test]
    fn lines_begin_at_the_first_record_at_or_after_an_offset() {
        for flags in [Flags::NONE, Flags::RUNNING_TIMES] {
            let all = told(Lines::new(LINES, 50, flags));
            for (offset, from) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3), (5, 3), (6, 4), (7, 5)] {
                let lines = Lines::new(LINES, 50, flags).starting_at(offset);
                assert_eq!(told(lines.clone()), all[from..], "from {offset}");
                assert!(LINES.ends_with(lines.rest()));
                // They are read the same by who is told the time that is in force there.
                assert_eq!(told(Lines::new(lines.rest(), lines.timestamp(), flags)), all[from..], "from {offset}");
            }
        }
    }

    #[test]
    fn a_line_is_written_with_a_time_or_without() {
        let mut out = Vec::new();
        for (line, time) in Lines::new(LINES, 50, Flags::NONE).zip([Some(50), None, Some(-1)]) {
            line.unwrap().write(&mut out, time);
        }
        let expected = "offset:1 timestamp:50 message:a\noffset:2 key:k message:b\noffset:3 timestamp:-1 message:c\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn what_is_no_line_is_said_and_passed_by() {
        let lines: Vec<_> =
            Lines::new(b"massage:a\noffset:2 message:b\n\noffset:3 message:c", 50, Flags::NONE).collect();
        let right: Vec<_> = lines.iter().map(Result::is_ok).collect();
        assert_eq!(right, [false, true, false, false]);
        assert_eq!(
            told(Lines::new(b"massage:a\noffset:2 message:b\n", 50, Flags::NONE).starting_at(1)),
            [(2, 50, "message:b")]
        );
    }
}

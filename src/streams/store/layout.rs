//! How entries of the kinds of stores are ordered, and how they are written in changelogs.
//!
//! ```text
//! kind       key in the store, binary and in order    key in the changelog, to be read
//! KeyValue   key                                      key
//! Window     segment, key, start                      key@start
//! Duplicates segment, key, time, number               key@time#number
//! Session    segment of the end, key, end, start      key@start-end
//! ```
//!
//! A store of windows has a time of its operator, too, mostly its stream time: under no key, in the changelog under `time`.
//!
//! A segment is so and so many milliseconds, and what is too old goes by whole segments. Within one, a key's windows stand side by
//! side. Numbers are 8 bytes, big end first; a key ends with two zeros, and zeros in it are followed by 255, so that keys stand in
//! the order of their bytes. Values are their timestamp, 8 bytes, and their bytes; in the changelog the timestamp is the record's.

use crate::streams::{
    event::{at, split_at},
    serde::parse,
};

/// The key of the time that an operator keeps in its store, before all others. Its timestamp is the time.
pub(in crate::streams) const TIME: &[u8] = b"";

/// The same in the changelog: no key of a window is without an `@`.
const TIME_LOGGED: &[u8] = b"time";

/// The kind of a store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::streams) enum Layout {
    KeyValue,
    Window(Times),
    /// Windows that hold several values of one key and time.
    Duplicates(Times),
    Session(Times),
}

/// How long a store of windows keeps them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::streams) struct Times {
    /// Milliseconds of stream time after its start (a session's: its end) that a window is kept.
    pub(in crate::streams) retention: i64,
    /// How many milliseconds a segment has.
    segment: i64,
}

impl Times {
    pub(in crate::streams) fn keeping(retention: i64) -> Times {
        Times { retention, segment: (retention / 2).max(60_000) }
    }

    /// Entries in the order of their times, kept until they are deleted.
    pub(in crate::streams) fn in_order() -> Times {
        Times { retention: i64::MAX, segment: 1 }
    }

    /// The segment of a time.
    pub(in crate::streams) fn segment(self, time: i64) -> u64 {
        (time.max(0) / self.segment).unsigned_abs()
    }
}

/// A window's entry.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::streams) struct WindowEntry {
    pub(in crate::streams) key: Vec<u8>,
    /// A window's start, a session's end.
    pub(in crate::streams) time: i64,
    /// A session's start, the number of a duplicate; nothing of a window.
    pub(in crate::streams) more: Option<i64>,
}

impl Layout {
    pub(in crate::streams) fn times(self) -> Option<Times> {
        match self {
            Layout::KeyValue => None,
            Layout::Window(times) | Layout::Duplicates(times) | Layout::Session(times) => Some(times),
        }
    }

    /// The key in the changelog of a key in the store.
    pub(in crate::streams) fn changelog_key(self, stored: &[u8]) -> Vec<u8> {
        if self == Layout::KeyValue {
            return stored.into();
        }
        if stored == TIME {
            return TIME_LOGGED.into();
        }
        let WindowEntry { key, time, more } = read_window(stored).expect("the store has keys of its layout");
        let window = match (self, more) {
            (Layout::Session(_), Some(start)) => format!("{start}-{time}"),
            (_, Some(number)) => format!("{time}#{number}"),
            (_, None) => time.to_string(),
        };
        at(key, window)
    }

    /// The key in the store of a key in the changelog.
    pub(in crate::streams) fn stored_key(self, changelog: &[u8]) -> Result<Vec<u8>, String> {
        let Some(times) = self.times() else { return Ok(changelog.into()) };
        if changelog == TIME_LOGGED {
            return Ok(TIME.into());
        }
        let (key, window) = split_at(changelog)?;
        let separator = match self {
            Layout::Session(_) => Some(b'-'),
            Layout::Duplicates(_) => Some(b'#'),
            _ => None,
        };
        let key = key.to_vec();
        let entry = match separator {
            None => WindowEntry { key, time: parse(window)?, more: None },
            Some(separator) => {
                let place = window.iter().position(|&byte| byte == separator);
                let place =
                    place.ok_or_else(|| format!("{:?} has half a window", String::from_utf8_lossy(changelog)))?;
                let (first, second) = (parse(&window[..place])?, parse(&window[place + 1..])?);
                match separator {
                    b'-' => WindowEntry { key, time: second, more: Some(first) },
                    _ => WindowEntry { key, time: first, more: Some(second) },
                }
            }
        };
        Ok(write_window(times, &entry))
    }
}

/// What all keys of a segment begin with.
pub(in crate::streams) fn segment_prefix(segment: u64) -> [u8; 8] {
    segment.to_be_bytes()
}

/// What all windows of a key in a segment begin with.
pub(in crate::streams) fn key_prefix(segment: u64, key: &[u8]) -> Vec<u8> {
    let mut prefix = segment_prefix(segment).to_vec();
    for byte in key {
        prefix.push(*byte);
        if *byte == 0 {
            prefix.push(255);
        }
    }
    prefix.extend_from_slice(&[0, 0]);
    prefix
}

/// The key in the store.
pub(in crate::streams) fn write_window(times: Times, entry: &WindowEntry) -> Vec<u8> {
    let mut stored = key_prefix(times.segment(entry.time), &entry.key);
    stored.extend_from_slice(&entry.time.to_be_bytes());
    if let Some(more) = entry.more {
        stored.extend_from_slice(&more.to_be_bytes());
    }
    stored
}

/// The segment that a key of a store of windows is in.
pub(in crate::streams) fn read_segment(stored: &[u8]) -> Option<u64> {
    stored.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The entry of a key of a store of windows; `None` of what is none.
pub(in crate::streams) fn read_window(stored: &[u8]) -> Option<WindowEntry> {
    let (_, mut rest) = stored.split_first_chunk::<8>()?;
    let mut key = Vec::new();
    let numbers = loop {
        let (byte, next) = match rest {
            [0, 0, numbers @ ..] => break numbers,
            [0, 255, next @ ..] => (0, next),
            [0, ..] | [] => return None,
            [byte, next @ ..] => (*byte, next),
        };
        key.push(byte);
        rest = next;
    };
    let (time, more) = numbers.split_first_chunk::<8>()?;
    let more = if more.is_empty() { None } else { Some(i64::from_be_bytes(more.try_into().ok()?)) };
    Some(WindowEntry { key, time: i64::from_be_bytes(*time), more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changelogs_have_keys_to_be_read() {
        let times = Times::keeping(1000);
        let entry = |time, more| WindowEntry { key: b"a@\0b".into(), time, more };
        let cases = [
            (Layout::Window(times), entry(60_000, None), "a@\0b@60000"),
            (Layout::Duplicates(times), entry(60_000, Some(3)), "a@\0b@60000#3"),
            (Layout::Session(times), entry(70_000, Some(60_000)), "a@\0b@60000-70000"),
        ];
        for (layout, entry, text) in cases {
            let stored = write_window(times, &entry);
            assert_eq!(read_window(&stored), Some(entry));
            assert_eq!(layout.changelog_key(&stored), text.as_bytes());
            assert_eq!(layout.stored_key(text.as_bytes()), Ok(stored));
        }
        assert!(Layout::Session(times).stored_key(b"a@5").is_err());
        assert!(Layout::Window(times).stored_key(b"a").is_err());
        assert_eq!(read_window(b"too short"), None);
    }

    #[test]
    fn keys_stand_in_the_order_of_their_bytes() {
        let keys: [&[u8]; 7] = [b"", b"\0", b"\0\0", b"\0a", b"1", b"12", b"2"];
        let stored =
            keys.map(|key| write_window(Times::in_order(), &WindowEntry { key: key.into(), time: 5, more: None }));
        assert!(stored.is_sorted());
    }
}

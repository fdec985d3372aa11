//! How entries of the kinds of stores are ordered, and how they are written in changelogs.
//!
//! ```text
//! kind       key in the store, binary and in order             key in the changelog, to be read
//! KeyValue   key                                               key
//! Window     segment, length of the key, key, start            key@start
//! Duplicates segment, length of the key, key, time, number     key@time#number
//! Session    segment of the end, length, key, end, start       key@start-end
//! ```
//!
//! A segment is so and so many milliseconds, and what is too old goes by whole segments. Within one, a key's windows stand side by
//! side. Numbers are 8 bytes, lengths 4, big end first. Values are their timestamp, 8 bytes, and their bytes; in the changelog the
//! timestamp is the record's.

use super::super::event::{at, split_at};
use super::super::serde::parse;

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
}

impl Times {
    /// How many milliseconds a segment has.
    fn segment_length(self) -> i64 {
        (self.retention / 2).max(60_000)
    }

    /// The segment of a time.
    pub(in crate::streams) fn segment(self, time: i64) -> u64 {
        u64::try_from(time).unwrap_or(0) / self.segment_length() as u64
    }
}

/// A window's entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::streams) struct WindowEntry<'a> {
    pub(in crate::streams) key: &'a [u8],
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
        let WindowEntry { key, time, more } = read_window(stored).expect("the store has keys of its layout");
        let window = match (self, more) {
            (Layout::Session(_), Some(start)) => format!("{start}-{time}"),
            (_, Some(number)) => format!("{time}#{number}"),
            (_, None) => time.to_string(),
        };
        at(key.into(), window)
    }

    /// The key in the store of a key in the changelog.
    pub(in crate::streams) fn stored_key(self, changelog: &[u8]) -> Result<Vec<u8>, String> {
        let Some(times) = self.times() else { return Ok(changelog.into()) };
        let (key, window) = split_at(changelog)?;
        let separator = match self {
            Layout::Session(_) => Some(b'-'),
            Layout::Duplicates(_) => Some(b'#'),
            _ => None,
        };
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
        Ok(write_window(times, entry))
    }
}

/// What all keys of a segment begin with.
pub(in crate::streams) fn segment_prefix(segment: u64) -> [u8; 8] {
    segment.to_be_bytes()
}

/// What all windows of a key in a segment begin with.
pub(in crate::streams) fn key_prefix(segment: u64, key: &[u8]) -> Vec<u8> {
    let length = u32::try_from(key.len()).expect("keys are shorter than lines");
    [&segment_prefix(segment), &length.to_be_bytes()[..], key].concat()
}

/// The key in the store.
pub(in crate::streams) fn write_window(times: Times, entry: WindowEntry<'_>) -> Vec<u8> {
    let mut stored = key_prefix(times.segment(entry.time), entry.key);
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
pub(in crate::streams) fn read_window(stored: &[u8]) -> Option<WindowEntry<'_>> {
    let (_, rest) = stored.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let (time, rest) = rest.split_first_chunk()?;
    let more = match rest {
        [] => None,
        more => Some(i64::from_be_bytes(more.try_into().ok()?)),
    };
    Some(WindowEntry { key, time: i64::from_be_bytes(*time), more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changelogs_have_keys_to_be_read() {
        let times = Times { retention: 1000 };
        let entry = |time, more| WindowEntry { key: b"a@b", time, more };
        let cases = [
            (Layout::Window(times), entry(60_000, None), "a@b@60000"),
            (Layout::Duplicates(times), entry(60_000, Some(3)), "a@b@60000#3"),
            (Layout::Session(times), entry(70_000, Some(60_000)), "a@b@60000-70000"),
        ];
        for (layout, entry, text) in cases {
            let stored = write_window(times, entry);
            assert_eq!(read_window(&stored), Some(entry));
            assert_eq!(layout.changelog_key(&stored), text.as_bytes());
            assert_eq!(layout.stored_key(text.as_bytes()), Ok(stored));
        }
        assert!(Layout::Session(times).stored_key(b"a@5").is_err());
        assert!(Layout::Window(times).stored_key(b"a").is_err());
        assert_eq!(read_window(b"short"), None);
    }
}

//! What flows through a topology: records of typed keys and values, the changes of tables, and the keys of windows.

use super::serde::{Serde, parse};
use crate::client::Header;

/// A record on its way through a topology.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<K, V> {
    /// The key; `None` is null.
    pub key: Option<K>,
    /// The value; `None` is null, which deletes the key where the records are a table's.
    pub value: Option<V>,
    /// Milliseconds since 1970-01-01 UTC: the time of the event, which results take over.
    pub timestamp: i64,
    /// The headers of the record that it came from.
    pub headers: Vec<Header>,
}

impl<K, V> Event<K, V> {
    /// One without headers.
    pub fn new(key: impl Into<Option<K>>, value: impl Into<Option<V>>, timestamp: i64) -> Self {
        Event { key: key.into(), value: value.into(), timestamp, headers: Vec::new() }
    }

    /// The same with another value.
    pub fn with_value<W>(self, value: Option<W>) -> Event<K, W> {
        Event { key: self.key, value, timestamp: self.timestamp, headers: self.headers }
    }

    /// The same with another key.
    pub fn with_key<L>(self, key: Option<L>) -> Event<L, V> {
        Event { key, value: self.value, timestamp: self.timestamp, headers: self.headers }
    }
}

/// What happened to a key of a table: the value of an event between tables.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change<V> {
    /// The value from now on; `None` where the key is gone.
    pub(super) new: Option<V>,
    /// The value until now, where whoever reads the table asked for it.
    pub(super) old: Option<V>,
    /// Whether no change of the key that happened later was seen before.
    pub(super) latest: bool,
}

/// A key within a window of time, `start` included and `end` not.
///
/// As the key of a record it is `key@start`. Who reads it back does not learn the end, which is `i64::MAX` then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Windowed<K> {
    /// The key.
    pub key: K,
    /// Milliseconds since 1970-01-01 UTC.
    pub start: i64,
    /// Milliseconds since 1970-01-01 UTC.
    pub end: i64,
}

/// A key within a session, from the time of its first record to that of its last, both included.
///
/// As the key of a record it is `key@start-end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Session<K> {
    /// The key.
    pub key: K,
    /// Milliseconds since 1970-01-01 UTC.
    pub start: i64,
    /// Milliseconds since 1970-01-01 UTC.
    pub end: i64,
}

/// Keys that have a window: [`Windowed`] and [`Session`].
pub trait WindowKey: Serde {
    /// When the window has ended, in milliseconds since 1970-01-01 UTC.
    fn end(&self) -> i64;
}

impl<K: Serde> WindowKey for Windowed<K> {
    fn end(&self) -> i64 {
        self.end
    }
}

impl<K: Serde> WindowKey for Session<K> {
    fn end(&self) -> i64 {
        self.end
    }
}

impl<K: Serde> Serde for Windowed<K> {
    fn to_bytes(&self) -> Vec<u8> {
        at(self.key.to_bytes(), self.start.to_string())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (key, start) = split_at(bytes)?;
        Ok(Windowed { key: K::from_bytes(key)?, start: parse(start)?, end: i64::MAX })
    }
}

impl<K: Serde> Serde for Session<K> {
    fn to_bytes(&self) -> Vec<u8> {
        at(self.key.to_bytes(), format!("{}-{}", self.start, self.end))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (key, window) = split_at(bytes)?;
        let dash = window.iter().rposition(|&byte| byte == b'-').ok_or("a session without an end")?;
        Ok(Session { key: K::from_bytes(key)?, start: parse(&window[..dash])?, end: parse(&window[dash + 1..])? })
    }
}

/// The bytes of a key in a window.
pub(super) fn at(mut key: Vec<u8>, window: String) -> Vec<u8> {
    key.push(b'@');
    key.extend_from_slice(window.as_bytes());
    key
}

/// The bytes of the key, which may have an `@` itself, and those of its window.
pub(super) fn split_at(bytes: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let at = bytes.iter().rposition(|&byte| byte == b'@');
    let at = at.ok_or_else(|| format!("{:?} has no window", String::from_utf8_lossy(bytes)))?;
    Ok((&bytes[..at], &bytes[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_windows_are_read_as_they_are_written() {
        let key = Windowed { key: "a@b".to_string(), start: 60_000, end: i64::MAX };
        assert_eq!(key.to_bytes(), b"a@b@60000");
        assert_eq!(Windowed::from_bytes(b"a@b@60000"), Ok(key));
        let key = Session { key: 7i64, start: 5, end: 9 };
        assert_eq!(key.to_bytes(), b"7@5-9");
        assert_eq!(Session::from_bytes(b"7@5-9"), Ok(key));
    }

    #[test]
    fn a_key_without_its_window_is_refused() {
        assert!(Windowed::<String>::from_bytes(b"a").is_err());
        assert!(Windowed::<String>::from_bytes(b"a@x").is_err());
        assert!(Session::<String>::from_bytes(b"a@5").is_err());
    }
}

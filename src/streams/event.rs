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
    /// The value until now.
    pub(super) old: Option<V>,
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
    /// When the window begins, in milliseconds since 1970-01-01 UTC.
    fn start(&self) -> i64;

    /// When the window ends, in milliseconds since 1970-01-01 UTC.
    fn end(&self) -> i64;

    /// The bytes of the key within the window.
    fn inner(&self) -> Vec<u8>;

    /// The key in a window, from its bytes.
    fn of(inner: &[u8], start: i64, end: i64) -> Result<Self, String>;
}

/// Both kinds of keys have the same fields.
macro_rules! window_key {
    ($type:ident) => {
        impl<K: Serde> WindowKey for $type<K> {
            fn start(&self) -> i64 {
                self.start
            }

            fn end(&self) -> i64 {
                self.end
            }

            fn inner(&self) -> Vec<u8> {
                self.key.to_bytes()
            }

            fn of(inner: &[u8], start: i64, end: i64) -> Result<Self, String> {
                Ok($type { key: K::from_bytes(inner)?, start, end })
            }
        }
    };
}

window_key!(Windowed);
window_key!(Session);

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

/// What comes and what goes, in a topic between tables: `+` and `-`, each with the length of its bytes, and those: `+3 new-3 old`.
impl<V: Serde> Serde for Change<V> {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (sign, value) in [(b'+', &self.new), (b'-', &self.old)] {
            if let Some(value) = value {
                write_part(&mut bytes, sign, &value.to_bytes());
            }
        }
        bytes
    }

    fn from_bytes(mut bytes: &[u8]) -> Result<Self, String> {
        let mut change = Change { new: None, old: None };
        while let Some((sign, value)) = read_part(&mut bytes)? {
            match sign {
                b'+' => change.new = Some(V::from_bytes(value)?),
                b'-' => change.old = Some(V::from_bytes(value)?),
                _ => return Err(format!("a change that begins with {:?}", char::from(sign))),
            }
        }
        Ok(change)
    }
}

/// Appends a part of a value: its sign, its length, a space, and its bytes.
pub(super) fn write_part(bytes: &mut Vec<u8>, sign: u8, part: &[u8]) {
    bytes.push(sign);
    bytes.extend_from_slice(part.len().to_string().as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(part);
}

/// Takes the first part off what `write_part` wrote: its sign and its bytes.
pub(super) fn read_part<'a>(bytes: &mut &'a [u8]) -> Result<Option<(u8, &'a [u8])>, String> {
    let Some((sign, rest)) = bytes.split_first() else { return Ok(None) };
    let space = rest.iter().position(|&byte| byte == b' ').ok_or("a part without a length")?;
    let length = parse::<usize>(&rest[..space])?;
    let (part, rest) = rest[space + 1..].split_at_checked(length).ok_or("a part that is shorter than it says")?;
    *bytes = rest;
    Ok(Some((*sign, part)))
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
    fn changes_are_read_as_they_are_written() {
        let change =
            |new: Option<&str>, old: Option<&str>| Change { new: new.map(Into::into), old: old.map(Into::into) };
        let cases =
            [(change(Some("a b"), Some("")), "+3 a b-0 "), (change(None, Some("x")), "-1 x"), (change(None, None), "")];
        for (change, text) in cases {
            assert_eq!(change.to_bytes(), text.as_bytes());
            assert_eq!(Change::<String>::from_bytes(text.as_bytes()), Ok(change));
        }
        for bad in ["+", "+5 abc", "+x abc", "*1 a"] {
            assert!(Change::<String>::from_bytes(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_without_its_window_is_refused() {
        assert!(Windowed::<String>::from_bytes(b"a").is_err());
        assert!(Windowed::<String>::from_bytes(b"a@x").is_err());
        assert!(Session::<String>::from_bytes(b"a@5").is_err());
    }
}

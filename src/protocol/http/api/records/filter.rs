//! Which records are wanted: `match=` (part of the key, the value, or a header's name or value), `key=`, `header.NAME=`.
//!
//! ```text
//! lines of many batches ──► may_match: what is sought stands there, or something is escaped or in base64
//! one of these lines    ──► may_match again, then matches: decoded and compared
//! ```
//!
//! Most lines are passed over at the speed of memory, and none is decoded that cannot match. None is missed either: what is
//! escaped in a line has a backslash, whoever wrote it and however, and what is in base64 says so.

use crate::{
    log::{
        Line,
        record::{Malformed, Value, unescape, write_header_name, write_word},
    },
    protocol::http::query::Query,
};
use memchr::memmem::{self, Finder};

/// All of these hold of a record that is wanted.
#[derive(Debug, Default)]
pub(super) struct Filter(Vec<Test>);

#[derive(Debug)]
struct Test {
    place: Place,
    wanted: Finder<'static>,
    /// What stands in the line of a record that passes, unless something there is escaped.
    in_line: Finder<'static>,
}

#[derive(Debug)]
enum Place {
    Anywhere,
    Key,
    Header(Vec<u8>),
}

impl Filter {
    pub(super) fn parse(query: &Query) -> Filter {
        let test = |(name, wanted): (&str, &[u8])| {
            let mut in_line = Vec::new();
            let place = match name {
                // An empty field of a form asks for nothing.
                "match" if wanted.is_empty() => return None,
                "match" => {
                    in_line.extend_from_slice(wanted);
                    Place::Anywhere
                }
                "key" => {
                    in_line.extend_from_slice(b" key:");
                    write_word(&mut in_line, wanted);
                    in_line.push(b' ');
                    Place::Key
                }
                _ => {
                    let name = name.strip_prefix("header.")?.as_bytes();
                    in_line.extend_from_slice(b" header.");
                    write_header_name(&mut in_line, name);
                    in_line.push(b':');
                    write_word(&mut in_line, wanted);
                    in_line.push(b' ');
                    Place::Header(name.to_vec())
                }
            };
            let finder = |needle: &[u8]| Finder::new(needle).into_owned();
            Some(Test { place, wanted: finder(wanted), in_line: finder(&in_line) })
        };
        Filter(query.pairs().filter_map(test).collect())
    }

    /// Whether all records are wanted.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of these lines can be wanted.
    pub(super) fn may_match(&self, lines: &[u8]) -> bool {
        let is_anywhere = |test: &Test| matches!(test.place, Place::Anywhere);
        self.0.iter().all(|test| test.in_line.find(lines).is_some())
            || memchr::memchr(b'\\', lines).is_some()
            || self.0.iter().any(is_anywhere) && memmem::find(lines, b" base64:").is_some()
    }

    /// Whether the record of this line is wanted.
    pub(super) fn matches(&self, line: &Line<'_>) -> Result<bool, Malformed> {
        if self.is_empty() {
            return Ok(true);
        }
        if !self.may_match(line.text) {
            return Ok(false);
        }
        for test in &self.0 {
            if !test.passes(line)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Test {
    fn passes(&self, line: &Line<'_>) -> Result<bool, Malformed> {
        let fields = line.split()?;
        let has = |word: &[u8]| Ok::<_, Malformed>(self.wanted.find(&unescape(word)?).is_some());
        let is = |word: &[u8], wanted: &[u8]| Ok::<_, Malformed>(*unescape(word)? == *wanted);
        match &self.place {
            Place::Key => fields.key.map_or(Ok(false), |key| is(key, self.wanted.needle())),
            Place::Header(wanted) => {
                for (name, value) in fields.headers() {
                    if let Some(value) = value
                        && is(name, wanted)?
                        && is(value, self.wanted.needle())?
                    {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Place::Anywhere => {
                let in_value = match fields.value {
                    Value::Message(value) => self.wanted.find(value).is_some(),
                    value => value.bytes()?.is_some_and(|value| self.wanted.find(&value).is_some()),
                };
                if in_value || fields.key.map_or(Ok(false), has)? {
                    return Ok(true);
                }
                for (name, value) in fields.headers() {
                    if has(name)? || value.map_or(Ok(false), has)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{
        Lines,
        batches::Flags,
        record::{Header, write_fields},
    };
    use proptest::prelude::*;

    fn filter(query: &str) -> Filter {
        Filter::parse(&Query::parse(query).unwrap())
    }

    fn wants(query: &str, line: &str) -> bool {
        let text = format!("{line}\n");
        let line = Lines::new(text.as_bytes(), 0, Flags::NONE).next().unwrap().unwrap();
        filter(query).matches(&line).unwrap()
    }

    #[test]
    fn a_record_is_found_by_key_value_and_headers() {
        let line = "offset:7 timestamp:5 key:user-1 header.trace:a1 header.none message:hello world";
        for query in
            ["match=hello", "match=o+w", "match=ser-", "match=race", "match=a1", "match=non", "match=hello&match=user"]
        {
            assert!(wants(query, line), "{query}");
        }
        for query in ["key=user-1", "header.trace=a1", "key=user-1&header.trace=a1&match=world", "match=", "count=7"] {
            assert!(wants(query, line), "{query}");
        }
        for query in
            ["match=Hello", "match=key:", "match=offset", "match=header.", "match=timestamp", "match=hello&match=a2"]
        {
            assert!(!wants(query, line), "{query}");
        }
        for query in
            ["key=user", "key=ser-1", "key=", "header.trace=a", "header.none=", "header.race=a1", "key=user-1&match=x"]
        {
            assert!(!wants(query, line), "{query}");
        }
        assert!(wants("key=", "offset:7 key: message:a") && !wants("key=", "offset:7 message: key: a"));
        assert!(!wants("match=message", "offset:7 tombstone") && !wants("match=tomb", "offset:7 tombstone"));
    }

    /// Nobody but this broker writes canonical lines only.
    #[test]
    fn what_is_escaped_is_found_however_it_is_escaped() {
        for line in ["offset:7 key:a\\x20b message:x", "offset:7 key:\\x61\\x20\\x62 message:x"] {
            assert!(wants("key=a+b", line) && wants("match=a+b", line) && wants("match=a", line), "{line}");
        }
        assert!(wants("header.a%3Ab=c", "offset:7 header.a\\x3ab:c message:x"));
        assert!(wants("match=a%0Ab", "offset:7 escaped:xa\\nby") && !wants("match=%5Cn", "offset:7 escaped:xa\\nby"));
        assert!(wants("match=%00%FF", "offset:7 base64:YQD/") && !wants("match=YQD", "offset:7 base64:YQD/"));
        assert!(wants("match=%5Cn", "offset:7 message:a\\nb"), "a backslash stands verbatim in a message");
    }

    proptest! {
        #[test]
        fn the_quick_look_passes_over_nothing_that_matches(
            key in proptest::collection::vec(any::<u8>(), 0..6),
            value in proptest::collection::vec(any::<u8>(), 0..12),
            header in "[ -~]{0,4}",
            from in 0..12_usize,
            length in 1..4_usize,
        ) {
            let headers: [Header<'_>; 1] = [(header.as_bytes().into(), Some(key.as_slice().into()))];
            let mut text = b"offset:7 ".to_vec();
            write_fields(&mut text, None, Some(&key), &headers, Some(&value));
            text.push(b'\n');
            let line = Lines::new(&text, 0, Flags::NONE).next().unwrap().unwrap();
            let encoded = |bytes: &[u8]| bytes.iter().map(|byte| format!("%{byte:02X}")).collect::<String>();
            let part = &value[from.min(value.len())..(from + length).min(value.len())];
            let queries = [
                format!("match={}", encoded(part)),
                format!("match={}", encoded(&key)),
                format!("match={}", encoded(header.as_bytes())),
                format!("key={}", encoded(&key)),
                format!("header.{}={}", encoded(header.as_bytes()), encoded(&key)),
            ];
            for query in queries {
                let filter = filter(&query);
                prop_assert!(filter.is_empty() || filter.may_match(&text), "{} {:?}", query, text);
                prop_assert!(filter.matches(&line).unwrap(), "{} {:?}", query, text);
            }
        }
    }
}

//! What stands in a request's target: the segments of its path, and the parameters of its query.

use super::refusal::Refusal;
use percent_encoding::percent_decode_str;

/// The parameters of a query, as bytes: a key need not be text.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, Vec<u8>)>);

/// The segments of a path without their percent-encoding. A `%2F` is part of a segment and separates none.
pub(super) fn segments(path: &str) -> Result<Vec<String>, Refusal> {
    let segment = |segment: &str| text(checked(segment)?);
    path.split('/').skip(1).map(segment).collect()
}

/// An error where a `%` is not followed by two digits, which decoding would read over.
fn checked(encoded: &str) -> Result<Vec<u8>, Refusal> {
    let is_whole = |after: &str| after.len() >= 2 && after.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit);
    match encoded.split('%').skip(1).all(is_whole) {
        true => Ok(percent_decode_str(encoded).collect()),
        false => Err(Refusal::invalid("after '%' come two hexadecimal digits; a percent sign itself is %25")),
    }
}

fn text(bytes: Vec<u8>) -> Result<String, Refusal> {
    String::from_utf8(bytes).map_err(|_| Refusal::invalid("the address is not UTF-8"))
}

impl Query {
    /// Reads what stands behind the `?`.
    pub(super) fn parse(query: &str) -> Result<Query, Refusal> {
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |word: &str| checked(&word.replace('+', " "));
            Ok((text(decoded(name)?)?, decoded(value)?))
        };
        query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect::<Result<_, _>>().map(Query)
    }

    /// The names, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    /// All pairs, in order.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// A parameter's bytes.
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.pairs().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// A parameter's text.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let not_text = |_| Refusal::invalid(format!("{name}= is not UTF-8"));
        self.bytes(name).map(std::str::from_utf8).transpose().map_err(not_text)
    }

    /// A parameter that is a number of this kind.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let number = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = number.and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| Refusal::invalid(format!("{name}= is a number, not '{text}'")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_before_it_is_decoded() {
        assert_eq!(segments("/api/topics/a%2Fb%20c").unwrap(), ["api", "topics", "a/b c"]);
        assert_eq!(segments("/").unwrap(), [""]);
        for bad in ["/%", "/%2", "/%zz", "/a%", "/%ff"] {
            assert_eq!(segments(bad).unwrap_err().status, 400, "{bad}");
        }
    }

    #[test]
    fn a_query_has_bytes_text_and_numbers() {
        let query = Query::parse("key=%FF%00&from=a+b%2B&count=12&empty&&x=").unwrap();
        assert_eq!(query.names().collect::<Vec<_>>(), ["key", "from", "count", "empty", "x"]);
        assert_eq!(query.bytes("key"), Some(&[0xff, 0][..]));
        assert!(query.text("key").is_err());
        assert_eq!(query.text("from").unwrap(), Some("a b+"));
        assert_eq!(query.number::<u32>("count").unwrap(), Some(12));
        assert_eq!(query.number::<u32>("none").unwrap(), None);
        for name in ["from", "empty"] {
            assert!(query.number::<u32>(name).is_err(), "{name}");
        }
        for bad in ["count=-1", "count=+1", "count=4294967296"] {
            assert!(Query::parse(bad).unwrap().number::<u32>("count").is_err(), "{bad}");
        }
        assert!(Query::parse("a=%4").is_err());
    }
}

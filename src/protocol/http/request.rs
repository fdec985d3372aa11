//! A request's head: parsed by `httparse`, and refused where two readers of the same bytes could disagree about where it ends
//! (RFC 9112, section 11.2).
//!
//! - Lines end with CR LF. A bare LF, a folded line and a space before a colon are refused.
//! - A body has one length: `Content-Length` once, or `Transfer-Encoding: chunked`, never both.
//! - The target begins with `/`. Other forms come from whoever takes this port for a proxy.

use super::{
    query::{self, Query},
    refusal::Refusal,
};
use crate::log::record::shown;

/// The most bytes of a head.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 10;
/// The most headers of a request.
const HEADERS_MAX: usize = 100;

/// What a request asks.
#[derive(Debug)]
pub(super) struct Head {
    /// The method, in capitals.
    pub(super) method: String,
    /// The target as it was sent, with its query.
    pub(super) target: String,
    /// The segments of its path, without their percent-encoding.
    pub(super) path: Vec<String>,
    pub(super) query: Query,
    /// Whether it is HTTP/1.1, and not 1.0.
    pub(super) is_1_1: bool,
    /// Names in small letters.
    headers: Vec<(String, String)>,
    pub(super) framing: Framing,
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    Nothing,
    /// After so many bytes.
    Length(u64),
    /// After its last chunk.
    Chunked,
}

impl Head {
    /// What stands for a request that cannot be read, so that it can be answered.
    pub(super) fn unreadable() -> Head {
        Head {
            method: String::new(),
            target: String::new(),
            path: Vec::new(),
            query: Query::default(),
            is_1_1: true,
            headers: vec![("connection".into(), "close".into())],
            framing: Framing::Nothing,
        }
    }

    /// Reads a head from what came so far, and says how many bytes it has; `None`: it goes on.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
        // Robust readers skip empty lines before a request (RFC 9112, section 2.2).
        let skipped = bytes.len() - bytes.strip_prefix(b"\r\n").unwrap_or(bytes).len();
        let bytes = &bytes[skipped..];
        // Bytes that drip in one by one are not parsed from the first on each time.
        let is_whole = [&b"\n\r\n"[..], b"\n\n"].iter().any(|end| memchr::memmem::find(bytes, end).is_some());
        if !is_whole && bytes.len() <= HEAD_BYTES_MAX {
            return Ok(None);
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let size = match request.parse(bytes) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) if bytes.len() > HEAD_BYTES_MAX => return Err(too_large()),
            Ok(httparse::Status::Partial) => return Err(Refusal::invalid("a request begins with its method")),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(Refusal::new(431, format!("the request has more than {HEADERS_MAX} headers")));
            }
            Err(error) => return Err(Refusal::invalid(format!("the request cannot be read: {error}"))),
        };
        if size > HEAD_BYTES_MAX {
            return Err(too_large());
        }
        if memchr::memchr_iter(b'\n', &bytes[..size]).any(|at| at == 0 || bytes[at - 1] != b'\r') {
            return Err(Refusal::invalid("lines of a request end with CR LF, and one of these with LF alone"));
        }
        let headers = request.headers.iter();
        let headers: Vec<_> = headers
            .map(|header| (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned()))
            .collect();
        let is_1_1 = request.version == Some(1);
        let framing = framing(&headers, is_1_1)?;
        let hosts = headers.iter().filter(|(name, _)| name == "host").count();
        if hosts > 1 || hosts == 0 && is_1_1 {
            return Err(Refusal::invalid("a request has one Host"));
        }
        let target = request.path.unwrap_or_default();
        if !target.starts_with('/') {
            let what = "this is a broker and no proxy; a target begins with '/'";
            return Err(Refusal::invalid(format!("'{}': {what}", shown(target.as_bytes()))));
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let head = Head {
            method: request.method.unwrap_or_default().into(),
            target: target.into(),
            path: query::segments(path)?,
            query: Query::parse(query)?,
            is_1_1,
            headers,
            framing,
        };
        Ok(Some((head, skipped + size)))
    }

    /// A header's value by its name in small letters; of several, the first.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.trim())
    }

    /// Whether a header that is a list has this member, in any case.
    pub(super) fn lists(&self, name: &str, member: &str) -> bool {
        let values = self.headers.iter().filter(|(known, _)| known == name);
        values.flat_map(|(_, value)| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(member))
    }

    /// Whether a header that is a list of weighted alternatives has this one, with a weight that is not 0.
    pub(super) fn accepts(&self, name: &str, wanted: &str) -> bool {
        let values = self.headers.iter().filter(|(known, _)| known == name);
        values.flat_map(|(_, value)| value.split(',')).any(|one| {
            let mut parts = one.split(';').map(str::trim);
            let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
            is_it && weight.is_ok_and(|weight| weight > 0.0)
        })
    }

    /// The type of the body, without its parameters, in small letters.
    pub(super) fn content_type(&self) -> Option<String> {
        let value = self.header("content-type")?;
        Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
    }

    /// Whether the client wants to go on with this connection.
    pub(super) fn keeps_alive(&self) -> bool {
        match self.is_1_1 {
            true => !self.lists("connection", "close"),
            false => self.lists("connection", "keep-alive"),
        }
    }
}

fn too_large() -> Refusal {
    Refusal::new(431, format!("the head of the request is larger than {HEAD_BYTES_MAX} bytes"))
}

fn framing(headers: &[(String, String)], is_1_1: bool) -> Result<Framing, Refusal> {
    let values =
        |name: &'static str| headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.trim());
    let lengths: Vec<_> = values("content-length").collect();
    let encodings: Vec<_> = values("transfer-encoding").collect();
    match (lengths.as_slice(), encodings.as_slice()) {
        ([], []) => Ok(Framing::Nothing),
        ([length], []) => {
            let digits = length.bytes().all(|byte| byte.is_ascii_digit());
            let length = length.parse().ok().filter(|_| digits);
            length.map(Framing::Length).ok_or_else(|| Refusal::invalid("Content-Length is no number of bytes"))
        }
        ([], [encoding]) if encoding.eq_ignore_ascii_case("chunked") && is_1_1 => Ok(Framing::Chunked),
        ([], [encoding]) if is_1_1 => Err(Refusal::new(
            501,
            format!("Transfer-Encoding is 'chunked' or nothing here, not '{}'", shown(encoding.as_bytes())),
        )),
        _ => Err(Refusal::invalid(
            "the body has one length: Content-Length once, or in HTTP/1.1 Transfer-Encoding: chunked",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<(Head, usize)>, Refusal> {
        Head::parse(text.as_bytes())
    }

    fn head(headers: &str) -> Result<Head, Refusal> {
        let text = format!("POST /a?b=c HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
        parse(&text).map(|parsed| parsed.expect("it is whole").0)
    }

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let text =
            "GET /api/topics/a%20b?x=1 HTTP/1.1\r\nHost: localhost:9092\r\nAccept: a, b;q=0, c; q=0.5\r\n\r\nrest";
        for end in 0..text.len() - 4 {
            assert!(parse(&text[..end]).unwrap().is_none(), "{end}");
        }
        let (head, size) = parse(text).unwrap().unwrap();
        assert_eq!((&text[size..], &*head.method, head.is_1_1), ("rest", "GET", true));
        assert_eq!(
            (head.path.as_slice(), &*head.target),
            (&["api", "topics", "a b"].map(String::from)[..], "/api/topics/a%20b?x=1")
        );
        assert_eq!(head.header("host"), Some("localhost:9092"));
        assert!(head.accepts("accept", "a") && !head.accepts("accept", "b") && head.accepts("accept", "C"));
        assert_eq!(head.framing, Framing::Nothing);
        let (_, size) = parse(&format!("\r\n{text}")).unwrap().unwrap();
        assert_eq!(size, text.len() - 2, "an empty line before it is skipped");
    }

    #[test]
    fn a_body_has_one_length() {
        assert_eq!(head("Content-Length: 7\r\n").unwrap().framing, Framing::Length(7));
        assert_eq!(head("Transfer-Encoding: Chunked\r\n").unwrap().framing, Framing::Chunked);
        for bad in [
            "Content-Length: 7\r\nContent-Length: 7\r\n",
            "Content-Length: 7, 7\r\n",
            "Content-Length: +7\r\n",
            "Content-Length: -7\r\n",
            "Content-Length: \r\n",
            "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 99999999999999999999\r\n",
        ] {
            assert_eq!(head(bad).unwrap_err().status, 400, "{bad}");
        }
        for bad in [
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
        ] {
            assert_eq!(head(bad).unwrap_err().status, 501, "{bad}");
        }
        assert_eq!(parse("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap_err().status, 400);
    }

    #[test]
    fn what_readers_could_take_for_different_requests_is_refused() {
        for (text, status) in [
            ("GET / HTTP/1.1\nHost: h\n\n", 400),
            ("\n\nGET / HTTP/1.1\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nX: y\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", 400),
            ("GET http://localhost/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ] {
            assert_eq!(parse(text).unwrap_err().status, status, "{text}");
        }
        let headers: String = (0..100).map(|n| format!("h{n}: v\r\n")).collect();
        assert_eq!(parse(&format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n")).unwrap_err().status, 431);
        let long = "x".repeat(HEAD_BYTES_MAX);
        assert_eq!(parse(&format!("GET /{long} HTTP/1.1\r\nHost: h\r\n")).unwrap_err().status, 431);
        assert_eq!(parse(&format!("GET / HTTP/1.1\r\nHost: h\r\nX: {long}\r\n\r\n")).unwrap_err().status, 431);
    }
}

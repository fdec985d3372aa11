//! One port, several protocols: the first byte decides which one a connection speaks, and for HTTP the whole first line.
//!
//! ```text
//! 0x00..=0x06   a Kafka frame: the first byte of its size, which is below 100 MiB
//! 0x16          a TLS handshake (RFC 8446, section 5.1)
//! 0xEF          UTF-8's byte-order mark: text
//! 0x80..        begins no line
//! else          HTTP if the first line is `METHOD target HTTP/1.x`, in capitals; otherwise text
//! ```
//!
//! The protocol reads these bytes again. A first line whose end is not seen, because it is too long to be looked at whole, is
//! HTTP if it begins as a request of a browser does: what a page sends is never text, however long its address.

use crate::protocol::transport::Transport;
use std::{
    io,
    time::{Duration, Instant},
};

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// Lines.
    Text,
    /// HTTP.
    Http,
    /// Kafka's frames.
    Kafka,
    /// A TLS hello.
    Tls,
    /// Nothing that is known here; the first byte.
    Unknown(u8),
}

/// Waits until it is clear what the other end speaks, for `most` (for ever: `None`) at the longest; `None`: it left without a
/// word.
pub(super) fn sniff(transport: &Transport, most: Option<Duration>) -> io::Result<Option<Spoken>> {
    let deadline = most.map(|most| Instant::now() + most);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match transport.look_ahead(left, |bytes, all| (spoken(bytes, all), all))? {
            (None, false) => {}
            (spoken, _) => return Ok(spoken),
        }
    }
}

/// What begins with `bytes`, if that is clear; no more will come where they are `all`.
pub fn spoken(bytes: &[u8], all: bool) -> Option<Spoken> {
    Some(match *bytes.first()? {
        0..=0x06 => Spoken::Kafka,
        0x16 => Spoken::Tls,
        0xef => Spoken::Text,
        first @ 0x80.. => Spoken::Unknown(first),
        _ => match memchr::memchr(b'\n', bytes) {
            Some(end) if is_http(bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end])) => Spoken::Http,
            None if !all => return None,
            None if begins_as_http(bytes) => Spoken::Http,
            _ => Spoken::Text,
        },
    })
}

fn is_http(line: &[u8]) -> bool {
    let words: Vec<&[u8]> = line.splitn(4, |&byte| byte == b' ').collect();
    matches!(words.as_slice(), [method, target, b"HTTP/1.0" | b"HTTP/1.1"]
        if !method.is_empty() && method.iter().all(u8::is_ascii_uppercase) && !target.is_empty())
}

/// Whether this is the begin of a request with one of HTTP's own methods; a page cannot send another before it was allowed to.
/// No command of the text protocol begins so.
fn begins_as_http(bytes: &[u8]) -> bool {
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];
    let target = methods.iter().find_map(|method| bytes.strip_prefix(method.as_bytes())?.strip_prefix(b" "));
    target.is_some_and(|target| target.starts_with(b"/") || target.starts_with(b"http"))
}

/// What HTTP gets in a build without it.
#[cfg(not(feature = "http"))]
pub(super) fn http_answer() -> String {
    let sentence =
        "This port speaks a text protocol, for example: printf 'PRODUCE hello\\nQUIT\\n' | nc localhost 9092\n";
    closing("426 Upgrade Required", "Upgrade: plainlog\r\nContent-Type: text/plain", sentence)
}

/// What HTTP gets where it is not served now.
pub(super) fn http_refusal(why: &str) -> String {
    let body = format!("{{\"error\":\"INVALID_REQUEST\",\"message\":\"{why}; try again later\"}}\n");
    closing("503 Service Unavailable", "Retry-After: 1\r\nContent-Type: application/json", &body)
}

/// What HTTP gets where only HTTPS is served.
#[cfg(feature = "tls")]
pub(super) fn without_tls(why: &str) -> String {
    let body = format!("{{\"error\":\"INVALID_REQUEST\",\"message\":\"{why}; its addresses begin with https://\"}}\n");
    closing("400 Bad Request", "Content-Type: application/json", &body)
}

fn closing(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::transport::AHEAD_BYTES_MAX;
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        thread,
    };

    #[test]
    fn http_is_known_by_its_whole_first_line() {
        let of = |text: &str| spoken(text.as_bytes(), false);
        assert_eq!(of("GET / HTTP/1.1\r\n"), Some(Spoken::Http));
        assert_eq!(of("GET / HTTP/1.0\nPRODUCE a\n"), Some(Spoken::Http));
        for line in ["DELETE orders", "get / HTTP/1.1", "GET / HTTP/2", "GET  HTTP/1.1", "PRODUCE GET / HTTP/1.1"] {
            assert_eq!(of(&format!("{line}\n")), Some(Spoken::Text), "{line}");
        }
        assert_eq!(of("GET / HTTP/1.1"), None, "more may come");
        assert_eq!(spoken(b"PRODUCE a", true), Some(Spoken::Text));
        assert_eq!(spoken(b"", true), None);
    }

    /// A page could send commands in the body of a request whose address was longer than what is looked at.
    #[test]
    fn a_first_line_without_an_end_is_http_if_it_begins_so() {
        let long = "x".repeat(AHEAD_BYTES_MAX);
        for begin in
            ["GET /", "POST /", "PUT /", "PATCH /", "DELETE /", "HEAD /", "OPTIONS /", "POST http://", "TRACE /"]
        {
            assert_eq!(spoken(format!("{begin}{long}").as_bytes(), true), Some(Spoken::Http), "{begin}");
        }
        for begin in ["PRODUCE /", "PRODUCE http://", "SEND a message:GET /", "post /", "POST", "PUT a"] {
            assert_eq!(spoken(format!("{begin}{long}").as_bytes(), true), Some(Spoken::Text), "{begin}");
        }
    }

    /// Each byte gave it the time anew, and 16 KiB of them kept a place, and a stop, waiting for hours.
    #[test]
    fn the_time_is_for_all_that_it_says_and_not_for_each_byte() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        let counted = crate::metrics::Connections::default().connected(peer, 0);
        let transport = Transport::tcp(stream, counted, Duration::from_secs(60)).unwrap();
        let dripping = thread::spawn(move || {
            while client.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(5));
            }
        });
        let error = sniff(&transport, Some(Duration::from_millis(20))).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock), "{error}");
        drop(transport);
        dripping.join().unwrap();
    }

    #[test]
    fn the_first_byte_tells_the_rest() {
        for (byte, known) in [
            (0, Spoken::Kafka),
            (6, Spoken::Kafka),
            (0x16, Spoken::Tls),
            (0xef, Spoken::Text),
            (0x80, Spoken::Unknown(0x80)),
            (0xff, Spoken::Unknown(0xff)),
        ] {
            assert_eq!(spoken(&[byte], false), Some(known), "{byte:#04x}");
        }
    }
}

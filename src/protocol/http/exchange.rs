//! A request while it is answered: what it asks, its body as it arrives, and its answer, whole or as a stream.
//!
//! ```text
//! body     Content-Length or chunks ──► body() lends what has arrived, consume_body() ──► empty at its end
//! answer   json(), answer(): whole, its length known    or    stream(): chunks, as they come, until finish()
//! ```
//!
//! Nothing is set aside for what a client announces. A body that was not read to its end ends the connection after the answer.

#[cfg(feature = "users")]
use super::login::Somebody;
use super::{
    json,
    refusal::{Refusal, Stop},
    request::{Framing, Head},
    route::{self, Route},
};
use crate::{
    backend::Backend,
    protocol::connection::{Input, Output},
};
use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use std::{
    io::{self, ErrorKind, Write},
    time::{Duration, Instant},
};

/// Answers smaller than this are not compressed.
const COMPRESSED_FROM_BYTES: usize = 1 << 10;
/// What keeps a stream of events from being held back on its way.
pub(super) const EVENT_HEADERS: &str = "X-Accel-Buffering: no\r\n";
/// A stream of events that is silent for so long gets a comment, so that nobody between takes the connection for dead.
pub(super) const COMMENT_EVERY: Duration = Duration::from_secs(15);
/// A stream is sent on when it has so many bytes.
const CHUNK_BYTES: usize = 64 << 10;
/// The longest line that tells a chunk's size, with its extensions, and the most bytes of trailers.
const CHUNK_LINE_BYTES_MAX: usize = 4 << 10;
/// The headers of every answer: what a browser may do with it.
const ALWAYS: &str = "Content-Security-Policy: default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'\r\n\
                      X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n";

/// A request that is being answered.
pub(super) struct Exchange<'x, 'c> {
    pub(super) broker: &'x Backend,
    pub(super) head: &'x Head,
    /// All that can be asked.
    pub(super) routes: &'static [Route],
    /// What stands in the address for the `{...}` of its route, in order.
    pub(super) parameters: Vec<String>,
    input: &'x mut Input<'c>,
    pub(super) output: &'x mut Output<'c>,
    body: Body,
    /// The page of another server that may read the answer.
    origin: Option<&'x str>,
    /// Who has shown who it is; `None`: nobody needs to go on being somebody.
    #[cfg(feature = "users")]
    somebody: Option<&'x Somebody>,
    /// Whether the connection can go on afterwards.
    keeps_alive: bool,
    /// The status of the answer, once it has begun.
    status: Option<u16>,
}

/// Where a body's reading stands.
#[derive(Debug)]
struct Body {
    framing: Framing,
    /// What is left of it, or of the chunk.
    left: u64,
    /// Whether a chunk was begun: its line end is to come.
    in_chunk: bool,
    /// Bytes of the trailers so far, behind the last chunk.
    trailer_bytes: Option<usize>,
    ended: bool,
    /// Whether the client waits to be told that the body is wanted.
    waits: bool,
}

impl<'x, 'c> Exchange<'x, 'c> {
    pub(super) fn new(
        broker: &'x Backend,
        routes: &'static [Route],
        head: &'x Head,
        input: &'x mut Input<'c>,
        output: &'x mut Output<'c>,
        origin: Option<&'x str>,
    ) -> Exchange<'x, 'c> {
        let (left, ended) = match head.framing {
            Framing::Nothing | Framing::Length(0) => (0, true),
            Framing::Length(bytes) => (bytes, false),
            Framing::Chunked => (0, false),
        };
        let waits = !ended && head.is_1_1 && head.lists("expect", "100-continue");
        let body = Body { framing: head.framing, left, in_chunk: false, trailer_bytes: None, ended, waits };
        let (parameters, keeps_alive) = (Vec::new(), head.keeps_alive());
        Exchange {
            broker,
            head,
            routes,
            parameters,
            input,
            output,
            body,
            origin,
            #[cfg(feature = "users")]
            somebody: None,
            keeps_alive,
            status: None,
        }
    }

    /// The request is from somebody who has shown who it is.
    #[cfg(feature = "users")]
    pub(super) fn is_asked_by(&mut self, somebody: Option<&'x Somebody>) {
        self.somebody = somebody;
    }

    /// An error once the session is over, the password another, or the token at its end, with which this was asked. What takes long looks now and then.
    pub(super) fn check_login(&self) -> Result<(), Stop> {
        #[cfg(feature = "users")]
        self.somebody.map_or(Ok(()), Somebody::check)?;
        Ok(())
    }

    /// Whether the connection takes another request.
    pub(super) fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }

    /// The status of the answer, once it has begun, so that nothing else can be answered.
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    /// What has arrived of the body and was not consumed; waits for some. Empty at its end.
    pub(super) fn body(&mut self) -> Result<&[u8], Stop> {
        while !self.has_body()? {
            self.fill()?;
        }
        Ok(self.arrived())
    }

    /// The same without waiting: `None` if nothing has arrived.
    pub(super) fn arrived_body(&mut self) -> Result<Option<&[u8]>, Stop> {
        while !self.has_body()? {
            if !self.input.more_waits()? {
                return Ok(None);
            }
            self.fill()?;
        }
        Ok(Some(self.arrived()))
    }

    /// Whether some of the body has arrived, or its end.
    fn has_body(&mut self) -> Result<bool, Stop> {
        while self.body.framing == Framing::Chunked && self.body.left == 0 && !self.body.ended {
            if !self.next_chunk()? {
                return Ok(false);
            }
        }
        Ok(self.body.ended || !self.input.bytes().is_empty())
    }

    fn arrived(&self) -> &[u8] {
        let bytes = self.input.bytes();
        let left = if self.body.ended { 0 } else { self.body.left };
        &bytes[..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))]
    }

    /// Says that so many of these bytes were used.
    pub(super) fn consume_body(&mut self, count: usize) {
        self.input.consume(count);
        self.body.left -= count as u64;
        self.body.ended |= self.body.left == 0 && self.body.framing != Framing::Chunked;
    }

    /// The whole body, unless it has more than `bytes_max`.
    pub(super) fn whole_body(&mut self, bytes_max: usize) -> Result<Vec<u8>, Stop> {
        let mut whole = Vec::new();
        loop {
            let bytes = self.body()?;
            if bytes.is_empty() {
                return Ok(whole);
            }
            if whole.len() + bytes.len() > bytes_max {
                return Err(Refusal::new(413, format!("the body has more than {bytes_max} bytes")).into());
            }
            whole.extend_from_slice(bytes);
            let count = bytes.len();
            self.consume_body(count);
        }
    }

    /// The whole body as JSON.
    pub(super) fn json_body(&mut self, bytes_max: usize) -> Result<Value, Stop> {
        let body = self.whole_body(bytes_max)?;
        Ok(json::parse(&body)?)
    }

    fn fill(&mut self) -> Result<(), Stop> {
        if std::mem::take(&mut self.body.waits) {
            self.output.bytes.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.output.flush()?;
        self.input.silence_max = Some(self.broker.config().idle_timeout);
        let filled = self.input.fill(usize::MAX, self.output, || {});
        if let Err(stop) = self.check_login() {
            self.keeps_alive = false;
            return Err(stop);
        }
        match filled {
            Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the body ends too early").into()),
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                self.keeps_alive = false;
                Err(Refusal::new(408, "the rest of the body did not come").into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads on to the begin of the next chunk, or the end of the body. False: the line that comes next has not arrived.
    fn next_chunk(&mut self) -> Result<bool, Stop> {
        let Some(line) = self.line()? else { return Ok(false) };
        if let Some(bytes) = &mut self.body.trailer_bytes {
            *bytes += line.len();
            if *bytes > CHUNK_LINE_BYTES_MAX {
                return Err(self.broken("the trailers are too long"));
            }
            self.body.ended = line.is_empty();
            return Ok(true);
        }
        if std::mem::take(&mut self.body.in_chunk) {
            return if line.is_empty() { Ok(true) } else { Err(self.broken("a chunk is longer than it says")) };
        }
        let size = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
        let digits = !size.is_empty() && size.len() <= 15 && size.iter().all(u8::is_ascii_hexdigit);
        let size =
            std::str::from_utf8(size).ok().filter(|_| digits).and_then(|size| u64::from_str_radix(size, 16).ok());
        let Some(size) = size else { return Err(self.broken("a chunk begins with its size in hexadecimal")) };
        (self.body.left, self.body.in_chunk) = (size, size > 0);
        self.body.trailer_bytes = (size == 0).then_some(0);
        Ok(true)
    }

    /// A line of the chunks' framing, without its end; `None`: it has not arrived.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Stop> {
        let bytes = self.input.bytes();
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            let is_long = bytes.len() > CHUNK_LINE_BYTES_MAX;
            return if is_long { Err(self.broken("a line between chunks is too long")) } else { Ok(None) };
        };
        let line = bytes[..end].strip_suffix(b"\r").filter(|line| line.len() <= CHUNK_LINE_BYTES_MAX);
        let line = line.map(<[u8]>::to_vec);
        self.input.consume(end + 1);
        line.map(Some).ok_or_else(|| self.broken("a line between chunks is too long, or does not end with CR LF"))
    }

    /// Where the next request begins is unknown.
    fn broken(&mut self, why: &str) -> Stop {
        self.keeps_alive = false;
        Refusal::invalid(why).into()
    }

    /// Answers with JSON.
    pub(super) fn json(&mut self, status: u16, answer: &Value) -> Result<(), Stop> {
        let mut body = answer.to_string().into_bytes();
        body.push(b'\n');
        self.answer(status, "application/json", "", &body)
    }

    /// Answers with a whole body. `headers` are lines of their own, each with its CR LF.
    pub(super) fn answer(&mut self, status: u16, content_type: &str, headers: &str, body: &[u8]) -> Result<(), Stop> {
        let compressed = match self.compresses() && body.len() >= COMPRESSED_FROM_BYTES {
            true => Some(gzip(body)?),
            false => None,
        };
        let body = compressed.as_deref().unwrap_or(body);
        let encoding = if compressed.is_some() { "Content-Encoding: gzip\r\n" } else { "" };
        let length = match status {
            204 | 304 => String::new(),
            _ => format!("Content-Length: {}\r\n", body.len()),
        };
        self.head(status, content_type, &format!("{headers}{encoding}{length}"));
        if self.head.method != "HEAD" {
            self.output.bytes.extend_from_slice(body);
        }
        Ok(())
    }

    /// Refuses the request. What has begun as a stream cannot be: it ends without its end.
    pub(super) fn refuse(&mut self, refusal: &Refusal) -> Result<(), Stop> {
        if self.status.is_some() {
            self.keeps_alive = false;
            return Ok(());
        }
        let headers = self.headers_of(refusal);
        self.answer(refusal.status, "application/json", &headers, &refusal.body())
    }

    fn headers_of(&self, refusal: &Refusal) -> String {
        match refusal.status {
            #[cfg(feature = "users")]
            401 => super::login::challenge(self.broker, self.head),
            405 => format!("Allow: {}\r\n", route::methods_of(self.routes, &self.head.path).join(", ")),
            _ => String::new(),
        }
    }

    /// Begins an answer whose end is not known yet.
    pub(super) fn stream(&mut self, content_type: &str, headers: &str) -> Stream<'_, 'x, 'c> {
        // Events are to be read at once, by whom it is not worth it.
        let gzip = (self.compresses() && content_type != "text/event-stream")
            .then(|| GzEncoder::new(Vec::new(), Compression::fast()));
        let encoding = if gzip.is_some() { "Content-Encoding: gzip\r\n" } else { "" };
        let framing = match self.head.is_1_1 {
            true => "Transfer-Encoding: chunked\r\n",
            false => {
                self.keeps_alive = false;
                ""
            }
        };
        self.head(200, content_type, &format!("{headers}{encoding}{framing}"));
        Stream { exchange: self, gzip, is_held: false, bytes: Vec::new() }
    }

    /// Who is not known yet gets bytes as they are: it costs less to ask for them anew than to compress them.
    fn compresses(&self) -> bool {
        self.output.counted().is_known() && self.head.accepts("accept-encoding", "gzip")
    }

    fn head(&mut self, status: u16, content_type: &str, headers: &str) {
        self.status = Some(status);
        self.keeps_alive &= self.body.ended && !self.output.stopping();
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&jiff::Timestamp::now());
        let date = date.expect("the clock shows a year of four digits");
        let reason = reason(status);
        let out = &mut self.output.bytes;
        let mut line = |text: std::fmt::Arguments<'_>| out.write_fmt(text).expect("a vector takes everything");
        line(format_args!(
            "HTTP/1.1 {status} {reason}\r\nDate: {date}\r\n{ALWAYS}Vary: Accept, Accept-Encoding, Origin\r\n{headers}"
        ));
        // What is told holds now, and may be for whoever asked alone.
        if !headers.contains("Cache-Control: ") {
            line(format_args!("Cache-Control: no-store\r\n"));
        }
        if !matches!(status, 204 | 304) {
            line(format_args!("Content-Type: {content_type}\r\n"));
        }
        if let Some(origin) = self.origin {
            line(format_args!("Access-Control-Allow-Origin: {origin}\r\n"));
        }
        let connection = match self.keeps_alive {
            true if self.head.is_1_1 => "",
            true => "Connection: keep-alive\r\n",
            false => "Connection: close\r\n",
        };
        line(format_args!("{connection}\r\n"));
    }
}

/// An answer that goes on until it is finished. What is dropped before is cut off, which its reader can tell.
pub(super) struct Stream<'s, 'x, 'c> {
    pub(super) exchange: &'s mut Exchange<'x, 'c>,
    gzip: Option<GzEncoder<Vec<u8>>>,
    /// Whether the encoder holds something that was not sent.
    is_held: bool,
    /// What is to be sent.
    pub(super) bytes: Vec<u8>,
}

impl Stream<'_, '_, '_> {
    /// Sends what is to be sent if it is much. To be called after each record or two.
    pub(super) fn send_much(&mut self) -> io::Result<()> {
        if self.bytes.len() < CHUNK_BYTES { Ok(()) } else { self.send(false) }
    }

    /// Sends all of it now.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.send(true)?;
        self.exchange.output.flush()
    }

    /// Sends all of it, then waits until the connection's waiter is woken, or `deadline`. False: the time is over, also
    /// that of the caller's token, the client is gone, or the broker stops.
    pub(super) fn wait(&mut self, deadline: Option<Instant>) -> io::Result<bool> {
        self.flush()?;
        let until = deadline.into_iter().chain(self.exchange.broker.known_until()).min();
        Ok(self.goes_on()? && self.exchange.output.wait_while_connected(until)?)
    }

    /// Whether there is somebody to read on, as far as can be seen, and the broker does not stop. What takes long asks now and then.
    pub(super) fn goes_on(&self) -> io::Result<bool> {
        Ok(self.exchange.head.method != "HEAD" && self.exchange.output.is_connected()?)
    }

    /// Ends the answer.
    pub(super) fn finish(mut self) -> Result<(), Stop> {
        self.send(false)?;
        if let Some(gzip) = self.gzip.take() {
            self.bytes = gzip.finish()?;
            self.send(false)?;
        }
        if self.exchange.head.is_1_1 && self.exchange.head.method != "HEAD" {
            self.exchange.output.bytes.extend_from_slice(b"0\r\n\r\n");
        }
        Ok(())
    }

    fn send(&mut self, now: bool) -> io::Result<()> {
        let Stream { exchange, gzip, is_held, bytes } = self;
        if let Some(gzip) = gzip {
            gzip.write_all(bytes)?;
            *is_held |= !bytes.is_empty();
            if now && std::mem::take(is_held) {
                gzip.flush()?;
            }
            std::mem::swap(gzip.get_mut(), bytes);
            gzip.get_mut().clear();
        }
        if exchange.head.method == "HEAD" {
            bytes.clear();
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if exchange.head.is_1_1 {
            write!(exchange.output.bytes, "{:x}\r\n", bytes.len())?;
            bytes.extend_from_slice(b"\r\n");
        }
        exchange.output.send(bytes)?;
        bytes.clear();
        Ok(())
    }
}

fn gzip(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}

//! A client of HTTP for tests: it sends exactly what it is given, and reads answers as RFC 9112 has them.

use super::{Broker, LONG};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
};

/// A connection that is kept.
pub struct Http {
    host: String,
    stream: BufReader<TcpStream>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        super::text(&self.body)
    }

    /// The body as JSON.
    #[cfg(feature = "http")]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Broker {
    /// Opens a connection for HTTP.
    pub fn http(&self) -> Http {
        Http::to(&self.address)
    }

    /// Asks for one address on a connection of its own.
    pub fn get(&self, target: &str) -> Answer {
        self.http().ask("GET", target, "", b"")
    }

    /// Sends JSON on a connection of its own.
    pub fn send_json(&self, method: &str, target: &str, body: &str) -> Answer {
        self.http().ask(method, target, "Content-Type: application/json\r\n", body.as_bytes())
    }
}

impl Http {
    /// Opens a connection to a broker's address.
    pub fn to(address: &str) -> Http {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Http { host: address.into(), stream: BufReader::new(stream) }
    }

    /// Sends a request with these headers, each with its CR LF, and reads the answer.
    pub fn ask(&mut self, method: &str, target: &str, headers: &str, body: &[u8]) -> Answer {
        self.request(method, target, headers, body);
        self.answer(method)
    }

    /// Sends a request, and reads nothing.
    pub fn request(&mut self, method: &str, target: &str, headers: &str, body: &[u8]) {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{headers}{length}\r\n", self.host));
        self.send(body);
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // Who is refused may be cut off before it has sent all.
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
    }

    /// Says that nothing more will be sent.
    pub fn end(&self) {
        self.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    }

    /// The next answer, to a request with this method.
    pub fn answer(&mut self, method: &str) -> Answer {
        let mut answer = self.head();
        let chunked = answer.header("transfer-encoding") == "chunked";
        if method == "HEAD" || matches!(answer.status, 100 | 204 | 304) {
            return answer;
        }
        if chunked {
            while let Some(chunk) = self.chunk() {
                answer.body.extend(chunk);
            }
        } else if let Ok(length) = answer.header("content-length").parse() {
            answer.body = vec![0; length];
            self.stream.read_exact(&mut answer.body).unwrap();
        } else {
            self.stream.read_to_end(&mut answer.body).unwrap();
        }
        answer
    }

    /// The head of the next answer: for one whose body is read in parts.
    pub fn head(&mut self) -> Answer {
        let line = self.line();
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
        }
        Answer { status: status.unwrap_or_else(|| panic!("'{line}'")), headers, body: Vec::new() }
    }

    /// The next chunk; `None`: it was the last.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(&self.line(), 16).unwrap();
        let mut chunk = vec![0; size];
        self.stream.read_exact(&mut chunk).unwrap();
        assert_eq!(self.line(), "");
        (size > 0).then_some(chunk)
    }

    /// The same; `None`: the answer is cut off.
    pub fn try_chunk(&mut self) -> Option<Option<Vec<u8>>> {
        if self.is_closed() { None } else { Some(self.chunk()) }
    }

    /// Whether the broker has closed the connection behind what was read.
    pub fn is_closed(&mut self) -> bool {
        self.stream.fill_buf().map_or(true, |bytes| bytes.is_empty())
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end_matches(['\r', '\n']).to_string()
    }
}

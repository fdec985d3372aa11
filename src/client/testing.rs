//! A scripted peer in place of a broker, for tests of what a real broker seldom does.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    thread,
};

/// One accepted connection.
pub(super) struct Peer(BufReader<TcpStream>);

impl Peer {
    /// Reads a line, which must be this one.
    pub(super) fn expect(&mut self, line: &str) -> &mut Self {
        assert_eq!(self.line(), line);
        self
    }

    /// Reads a line.
    pub(super) fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_string()
    }

    /// Sends this.
    pub(super) fn say(&mut self, text: &str) -> &mut Self {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
        self
    }
}

/// Plays `script` to the first connection.
pub(super) fn peer(script: impl FnOnce(&mut Peer) + Send + 'static) -> String {
    let mut script = Some(script);
    peers(1, move |_, peer| script.take().expect("one connection")(peer))
}

/// Plays `script` to `count` connections, one after the other, then closes the port.
pub(super) fn peers(count: usize, mut script: impl FnMut(usize, &mut Peer) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for nth in 0..count {
            script(nth, &mut Peer(BufReader::new(listener.accept().unwrap().0)));
        }
    });
    address
}

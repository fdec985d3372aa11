//! A way to one of the nodes, for a Kafka client that reached this program: whoever it is joined to tells it of all of them.

use super::Cluster;
use std::{
    io,
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

/// How long one address may take to answer.
const CONNECTING: Duration = Duration::from_secs(3);
/// Kafka's port, where none is named.
const PORT: u16 = 9092;

impl Cluster {
    /// Connects to the first node that answers: one that this program began with, or another that it knows.
    pub fn connect(&self) -> io::Result<TcpStream> {
        let begins = self.shared.options.servers.split(',').filter_map(address);
        let mut last = io::Error::new(io::ErrorKind::NotConnected, "no node of the cluster is named");
        for (host, port) in begins {
            match connect(host, port) {
                Ok(node) => return Ok(node),
                Err(error) => last = error,
            }
        }
        for node in &self.look_at_nodes().unwrap_or_default().there {
            match connect(&node.host, node.port) {
                Ok(node) => return Ok(node),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Host and port of `[protocol://]host[:port]`, as librdkafka reads it.
fn address(server: &str) -> Option<(&str, u16)> {
    let server = server.trim();
    let server = server.split_once("://").map_or(server, |(_, server)| server);
    let port = |text: &str| text.parse().ok();
    let (host, port) = match server.rsplit_once(':') {
        // The colons of an address of IPv6 are no port's.
        Some((host, text)) if !host.contains(':') || host.ends_with(']') => (host, port(text)?),
        _ => (server, PORT),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some((host, port))
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECTING) {
            Ok(node) => {
                node.set_nodelay(true)?;
                return Ok(node);
            }
            Err(error) => last = io::Error::new(error.kind(), format!("{host}:{port}: {error}")),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{Fixture, open_within};

    #[test]
    fn servers_are_read_as_librdkafka_does() {
        assert_eq!(address("kafka1:9093"), Some(("kafka1", 9093)));
        assert_eq!(address(" SASL_SSL://kafka1 "), Some(("kafka1", 9092)));
        assert_eq!(address("[::1]:7"), Some(("::1", 7)));
        assert_eq!(address("::1"), Some(("::1", 9092)));
        assert_eq!(address(""), None);
        assert_eq!(address("kafka1:x"), None);
    }

    #[test]
    fn the_first_node_that_answers_is_taken_and_none_is_an_error() {
        let fixture = Fixture::new();
        let nobody = std::net::TcpListener::bind("localhost:0").unwrap().local_addr().unwrap().port();
        let port = fixture.server.port();
        let cluster = open_within(&format!("localhost:{nobody},localhost:{port}"), Duration::from_secs(20));
        assert_eq!(cluster.connect().unwrap().peer_addr().unwrap().port(), port);
        let cluster = open_within(&format!("localhost:{nobody}"), Duration::from_secs(1));
        assert!(cluster.connect().unwrap_err().to_string().contains("refused"));
    }
}

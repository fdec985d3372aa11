//! TLS: hellos, the rest of handshakes, and records behind them.

use super::{PASSWORD, State, broker, config, each_case, holds, tells_no_secret};
use crate::common::{LONG, Random, bend};
use plainlog::{Server, config::TlsConfig, security::tls::SelfSigned};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    env, fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
};

/// What a client says once hands are shaken, to be told that it is in.
fn said() -> String {
    format!("AUTH alice {PASSWORD}\nWHOAMI\nQUIT\n")
}

/// Which flight is bent.
#[derive(Clone, Copy, PartialEq)]
enum Flight {
    Hello,
    Finished,
    Data,
    /// None.
    Whole,
}

/// A client with its own view of the session.
struct Client {
    connection: ClientConnection,
    stream: TcpStream,
    bent: Flight,
    /// Whether more came out of the bending than what was there and something behind it, as far as that is protected.
    is_broken: bool,
}

/// What records carry: that of changes of the cipher, and the version before each, is for devices on the way and counts for nothing
/// (RFC 8446, section 5).
fn payload(mut records: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    while let Some(([kind, _, _, high, low], rest)) = records.split_first_chunk() {
        let (part, rest) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(rest.len()));
        if *kind != 20 {
            payload.extend_from_slice(part);
        }
        records = rest;
    }
    payload
}

impl Client {
    fn to(address: SocketAddr, config: &Arc<ClientConfig>, bent: Flight) -> Client {
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let connection = ClientConnection::new(config.clone(), name).unwrap();
        Client { connection, stream, bent, is_broken: false }
    }

    /// Sends what there is to send.
    fn send(&mut self, flight: Flight, random: &mut Random, others: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut bytes).unwrap();
        }
        let whole = bytes.clone();
        if flight == self.bent {
            bend(&mut bytes, random, others);
            self.is_broken = !payload(&bytes).starts_with(&payload(&whole));
        }
        // Who has been closed hears so below.
        drop(self.stream.write_all(&bytes));
        whole
    }

    /// Takes what comes; whether that was anything good.
    fn receive(&mut self) -> bool {
        let read = self.connection.read_tls(&mut self.stream);
        read.is_ok_and(|read| read > 0) && self.connection.process_new_packets().is_ok()
    }

    /// The conversation; what was sent in it, and what was told in the end.
    fn talk(&mut self, random: &mut Random, others: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut sent = vec![self.send(Flight::Hello, random, others)];
        if self.bent == Flight::Hello && self.is_broken {
            // A hello that says that it is longer than it is would be waited for.
            drop(self.stream.shutdown(Shutdown::Write));
        }
        while self.connection.is_handshaking() && self.receive() {
            if self.connection.wants_write() {
                sent.push(self.send(Flight::Finished, random, others));
            }
        }
        // One that was told that something is wrong takes no more.
        if !self.connection.is_handshaking() && self.connection.writer().write_all(said().as_bytes()).is_ok() {
            sent.push(self.send(Flight::Data, random, others));
        }
        drop(self.stream.shutdown(Shutdown::Write));
        while self.receive() {}
        let mut told = Vec::new();
        drop(self.connection.reader().read_to_end(&mut told));
        (sent, told)
    }
}

#[test]
fn bent_records_shake_no_hands_and_say_nothing() {
    let folder = env::temp_dir().join(format!("plainlog-security-fuzz-{}", std::process::id()));
    let made = SelfSigned::in_data_dir(&folder, &["localhost".into()]).unwrap();
    let mut with_tls = config();
    with_tls.security.tls = Some(TlsConfig::new(made.certificate, made.key));
    let broker = broker(with_tls);
    let server = Server::start(broker.clone(), "127.0.0.1:0").unwrap();
    let (address, before) = (server.addresses()[0], State::of(&broker));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&made.ca).unwrap()).unwrap();
    let client = |versions: &[&'static rustls::SupportedProtocolVersion]| {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap();
        Arc::new(builder.with_root_certificates(roots.clone()).with_no_client_auth())
    };
    let clients = [client(&[&rustls::version::TLS13]), client(&[&rustls::version::TLS12])];
    let mut sent = Vec::new();
    for config in &clients {
        let mut client = Client::to(address, config, Flight::Whole);
        let (flights, told) = client.talk(&mut Random(1), &[b""]);
        assert!(holds(&told, "OK principal:User:alice\n"), "{}", String::from_utf8_lossy(&told));
        sent.extend(flights);
    }
    let others: Vec<&[u8]> = sent.iter().map(|flight| &**flight).collect();
    each_case(10, |random| {
        let flight = [Flight::Hello, Flight::Hello, Flight::Finished, Flight::Data][random.below(4) as usize];
        let mut client = Client::to(address, &clients[random.below(2) as usize], flight);
        let (_, told) = client.talk(random, &others);
        tells_no_secret(&told);
        assert!(!client.is_broken || !holds(&told, "OK principal:"), "somebody got in");
        assert!(State::of(&broker) == before, "something was changed");
    });
    drop(server);
    fs::remove_dir_all(folder).unwrap();
}

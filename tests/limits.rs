//! What a port bears before anybody has a name: how many, for how long, and what those who have one notice of it.
#![cfg(feature = "users")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

use plainlog::{Broker, Config, Server};
use socket2::{Domain, Socket, Type};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

const LONG: Duration = Duration::from_secs(20);

fn start(change: impl FnOnce(&mut Config)) -> Server {
    let mut config = Config::in_memory();
    config.security.users = true;
    change(&mut config);
    let broker = Broker::open(config).unwrap();
    broker.begin_with_users("secret").unwrap();
    Server::start(broker, "127.0.0.1:0").unwrap()
}

fn connect(server: &Server) -> TcpStream {
    let client = TcpStream::connect(server.addresses()[0]).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    client
}

/// Says a line, and what it is answered with; empty: the connection was closed.
fn say(client: &TcpStream, line: &str) -> String {
    // One that is closed shows when it is read.
    drop((&*client).write_all(format!("{line}\n").as_bytes()));
    let mut answer = String::new();
    drop(BufReader::new(client).read_line(&mut answer));
    answer.trim_end().into()
}

fn log_in(client: &TcpStream) {
    assert_eq!(say(client, "AUTH admin secret"), "OK principal:User:admin");
}

/// Tries until it is let in: one that has gone leaves its place a moment later.
fn until_in(server: &Server) -> TcpStream {
    let begun = Instant::now();
    loop {
        let client = connect(server);
        if say(&client, "PING") == "PONG" {
            return client;
        }
        assert!(begun.elapsed() < LONG, "nobody is let in");
        thread::yield_now();
    }
}

#[test]
fn a_quarter_of_the_places_is_for_strangers() {
    let server = start(|config| config.max_connections = 8);
    let strangers = [connect(&server), connect(&server)];
    strangers.iter().for_each(|client| assert_eq!(say(client, "PING"), "PONG"));
    let refused = say(&connect(&server), "PING");
    assert_eq!(refused, "ERROR INVALID_REQUEST too many are connected who have not logged in; try again later");
    log_in(&strangers[0]);
    let mut known = vec![until_in(&server)];
    for _ in 0..5 {
        log_in(known.last().unwrap());
        known.push(until_in(&server));
    }
    assert!(say(&connect(&server), "PING").contains("--max-connections"), "known ones take all places");
    drop(strangers);
    until_in(&server);
}

#[test]
fn an_address_leaves_places_for_strangers_of_others() {
    let server = start(|config| config.max_connections = 16);
    let strangers: Vec<TcpStream> = (0..3).map(|_| connect(&server)).collect();
    strangers.iter().for_each(|client| assert_eq!(say(client, "PING"), "PONG"));
    assert!(say(&connect(&server), "PING").contains("have not logged in"));
    let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    other.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    other.connect(&server.addresses()[0].into()).unwrap();
    let other = TcpStream::from(other);
    other.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(say(&other, "PING"), "PONG");
    log_in(&other);
}

#[test]
fn a_stranger_who_reads_nothing_leaves_its_place() {
    let server = start(|config| {
        config.max_connections = 4;
        config.security.login_within = Duration::from_millis(300);
    });
    let client = connect(&server);
    client.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let said = "HELP\n".repeat(1000);
    // Until nobody takes what it says, since nobody takes what it is told.
    while (&client).write_all(said.as_bytes()).is_ok() {}
    until_in(&server);
}

#[test]
fn an_address_has_so_many_connections() {
    let server = start(|config| config.security.connections_per_address = Some(2));
    let mut clients = [connect(&server), connect(&server)];
    clients.iter().for_each(log_in);
    assert!(say(&connect(&server), "PING").contains("--connections-per-address"));
    clients[0] = until_in_after(&server, clients[0].try_clone().unwrap());
}

fn until_in_after(server: &Server, leaves: TcpStream) -> TcpStream {
    leaves.shutdown(std::net::Shutdown::Both).unwrap();
    until_in(server)
}

#[test]
fn who_does_not_log_in_has_to_go_whatever_it_says_meanwhile() {
    let server = start(|config| config.security.login_within = Duration::from_millis(300));
    let known = connect(&server);
    log_in(&known);
    let ended = |first: &[u8], again: &[u8]| {
        let mut client = connect(&server);
        client.write_all(first).unwrap();
        let (writer, again) = (client.try_clone().unwrap(), again.to_vec());
        let begun = Instant::now();
        let dripping = thread::spawn(move || {
            while !again.is_empty() && begun.elapsed() < LONG && (&writer).write_all(&again).is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        let mut answer = Vec::new();
        drop(client.read_to_end(&mut answer));
        assert!(begun.elapsed() < LONG, "{first:?}");
        drop(client);
        dripping.join().unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert_eq!(ended(b"", b""), "");
    assert!(ended(b"PING\n", b"").contains("it took too long to log in"));
    assert!(ended(b"PING\n", b"P").contains("it took too long to log in"));
    ended(b"P", b"x");
    ended(b"\0\0\0\x20", b"\0");
    ended(b"GET /health HTTP/1.1\r\n", b"a: b\r\n");
    thread::sleep(Duration::from_millis(400));
    assert_eq!(say(&known, "PING"), "PONG");
}

#[cfg(feature = "tls")]
#[test]
fn many_half_open_handshakes_leave_the_logged_in_alone() {
    let folder = std::env::temp_dir().join(format!("plainlog-limits-{}", std::process::id()));
    let made = plainlog::security::tls::SelfSigned::in_data_dir(&folder, &["localhost".into()]).unwrap();
    let server = start(|config| {
        let tls = plainlog::config::TlsConfig::new(made.certificate, made.key);
        config.security.tls = Some(plainlog::config::TlsConfig { required: false, ..tls });
        config.max_connections = 400;
    });
    let known = connect(&server);
    log_in(&known);
    let rate = || {
        let begun = Instant::now();
        (0..500).for_each(|_| assert_eq!(say(&known, "PING"), "PONG"));
        begun.elapsed()
    };
    let alone = rate();
    let half: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut client = connect(&server);
            drop(client.write_all(&[0x16, 3, 1, 2, 0, 1]));
            client
        })
        .collect();
    let among = rate();
    assert!(among < alone * 5 + Duration::from_secs(1), "{alone:?} became {among:?}");
    drop(half);
    until_in(&server);
    std::fs::remove_dir_all(folder).unwrap();
}

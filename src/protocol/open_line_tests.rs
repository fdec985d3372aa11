//! What is said on a line that others can read: no protocol takes a secret there.

use super::connection::{self, Input, Output};
use crate::{
    backend::Backend,
    broker::{Broker, Caller, Protocol, Waiter},
    config::Config,
    protocol::{text, transport::Transport},
    security::Principal,
};
use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::atomic::AtomicBool,
    time::Duration,
};

type Serve = for<'c> fn(&Backend, &mut Input<'c>, &mut Output<'c>) -> io::Result<()>;

/// A broker whose admin has the password `secret`.
fn config() -> Config {
    let mut config = Config::in_memory();
    config.security.users = true;
    config
}

/// What somebody at an address hears who says this to a broker whose admin has the password `secret`.
fn hears(peer: &str, plaintext_passwords: bool, mut config: Config, serve: Serve, said: &str) -> String {
    config.security.plaintext_passwords = plaintext_passwords;
    let broker = Broker::open(config).unwrap();
    broker.begin_with_users("secret").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    other.write_all(said.as_bytes()).unwrap();
    other.shutdown(Shutdown::Write).unwrap();
    let peer = peer.parse().unwrap();
    let counted = broker.metrics().connections.connected(peer, 0);
    let transport = Transport::tcp(listener.accept().unwrap().0, counted, Duration::from_secs(60)).unwrap();
    let stranger = Caller {
        principal: Principal::anonymous(),
        protocol: Protocol::Text,
        address: Some(peer),
        client_id: String::new(),
    };
    let backend = Backend::from(broker.on_behalf_of(stranger));
    let stopping = AtomicBool::new(false);
    let (mut input, mut output) = connection::open(&transport, Waiter::new(), &stopping);
    serve(&backend, &mut input, &mut output).unwrap();
    transport.shutdown(Shutdown::Both);
    let mut heard = String::new();
    other.read_to_string(&mut heard).unwrap();
    heard
}

/// Asks from here, from elsewhere, and from elsewhere where that is allowed.
fn is_taken(config: &Config, serve: Serve, said: &str, taken: &str, refused: &str) {
    for (peer, plaintext, expected) in
        [("127.0.0.1:1", false, taken), ("10.0.0.9:1", false, refused), ("10.0.0.9:1", true, taken)]
    {
        let heard = hears(peer, plaintext, config.clone(), serve, said);
        assert!(heard.starts_with(expected), "{said} from {peer}: {heard}");
    }
}

#[test]
fn a_password_is_said_by_text_where_nobody_reads_along() {
    let refused = "ERROR INVALID_REQUEST others can read a password on this line";
    is_taken(&config(), text::serve, "AUTH admin secret\nQUIT\n", "OK principal:User:admin\n", refused);
}

#[cfg(feature = "http")]
#[test]
fn a_password_and_a_token_are_said_by_http_where_nobody_reads_along() {
    use crate::{
        config::TokensConfig,
        security::tokens::testing::{AUDIENCE, ISSUER, Issuer, KeyFile},
    };
    let serve: Serve = |backend, input, output| super::http::serve(backend, None, input, output);
    let head = "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let basic = format!("GET /api/users {head}Authorization: Basic YWRtaW46c2VjcmV0\r\n\r\n");
    is_taken(&config(), serve, &basic, "HTTP/1.1 200 ", "HTTP/1.1 403 ");
    let body = r#"{"user":"admin","password":"secret"}"#;
    let length = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    is_taken(&config(), serve, &format!("POST /api/login {head}{length}"), "HTTP/1.1 200 ", "HTTP/1.1 403 ");
    let issuer = Issuer::new("one");
    let keys = KeyFile::new("open-line", &[&issuer]);
    let mut config = config();
    let tokens = TokensConfig { keys: keys.0.clone(), audience: AUDIENCE.into(), issuer: ISSUER.into() };
    config.security.tokens = Some(tokens);
    let bearer = format!("GET /api/topics {head}Authorization: Bearer {}\r\n\r\n", issuer.token("alice"));
    is_taken(&config, serve, &bearer, "HTTP/1.1 200 ", "HTTP/1.1 403 ");
}

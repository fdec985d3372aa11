//! Handshakes of clients and brokers with certificates of all kinds.

use crate::{
    config::TlsConfig,
    protocol::tls::Session,
    security::tls::{
        Identity,
        testing::{Issued, Issuer, client},
    },
};
use std::{
    fs, io,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    thread,
    time::Duration,
};

const LONG: Duration = Duration::from_secs(60);

/// A folder that is removed.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("plainlog-identity-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn config(&self, issued: &Issued) -> TlsConfig {
        let (certificate, key) = (self.0.join("broker.pem"), self.0.join("broker.key"));
        issued.save(&certificate, &key);
        TlsConfig::new(certificate, key)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Both shake hands and the server speaks; what the server takes the client for, and what the client saw.
fn meet(identity: &Identity, client: rustls::ClientConnection) -> (Result<Option<String>, String>, io::Result<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    let server = Session::new(rustls::ServerConnection::new(identity.server()).unwrap(), Vec::new());
    thread::scope(|scope| {
        let seen = scope.spawn(move || {
            let client = Session::new(client, Vec::new());
            client.handshake(&near, LONG)?;
            client.read(&near, &mut [0])
        });
        let shaken = server.handshake(&far, LONG).map_err(|error| error.to_string());
        let taken = shaken.and_then(|()| {
            server.write_all(&far, b"x").unwrap();
            let principal = identity.principal(server.peer_certificates().as_deref())?;
            Ok(principal.map(|principal| principal.to_string()))
        });
        drop(far);
        (taken, seen.join().unwrap())
    })
}

#[test]
fn a_client_is_whom_its_certificate_names_if_the_right_one_issued_it() {
    let (folder, ours, theirs) = (Folder::new("clients"), Issuer::new("ours"), Issuer::new("theirs"));
    let broker = ours.issue("broker");
    let ca = folder.0.join("ca.pem");
    fs::write(&ca, ours.certificate.pem()).unwrap();
    let mut config = TlsConfig {
        client_ca: Some(ca),
        principal_rules: "RULE:CN=b(.*)/$1/U,RULE:CN=a.*/$0/".into(),
        ..folder.config(&broker)
    };
    let (identity, fault) = Identity::open(config.clone()).unwrap();
    assert_eq!(fault, None);
    let shows = |name: &str| client(&broker.ca, Some(&ours.issue(name)));
    assert_eq!(meet(&identity, shows("bob")).0, Ok(Some("User:OB".into())));
    assert_eq!(meet(&identity, shows("a, O=admin")).0, Ok(Some(r"User:CN=a\, O\=admin".into())));
    assert!(meet(&identity, shows("carl")).0.unwrap_err().contains("no rule"));
    for (why, shown) in [
        ("Unknown", Some(theirs.issue("bob"))),
        ("xpired", Some(ours.issue_until("bob", 2001))),
        ("no certificates", None),
    ] {
        let (taken, seen) = meet(&identity, client(&broker.ca, shown.as_ref()));
        assert!(taken.as_ref().is_err_and(|error| error.contains(why)), "{taken:?}");
        assert!(seen.is_err(), "the client is told");
    }
    config.client_certificate_required = false;
    let (identity, _) = Identity::open(config).unwrap();
    assert_eq!(meet(&identity, client(&broker.ca, None)).0, Ok(None));
    assert!(meet(&identity, client(&broker.ca, Some(&theirs.issue("bob")))).0.is_err());
}

#[test]
fn a_client_refuses_whom_it_does_not_trust() {
    let (folder, ours, theirs) = (Folder::new("trust"), Issuer::new("ours"), Issuer::new("theirs"));
    let broker = ours.issue("broker");
    let (identity, _) = Identity::open(folder.config(&broker)).unwrap();
    assert_eq!(meet(&identity, client(&broker.ca, None)).1.unwrap(), 1);
    assert!(meet(&identity, client(theirs.certificate.der(), None)).1.is_err());
    let (identity, fault) = Identity::open(folder.config(&ours.issue_until("broker", 2001))).unwrap();
    assert!(fault.unwrap().contains("is not now"));
    assert!(meet(&identity, client(&broker.ca, None)).1.is_err());
}

#[test]
fn files_are_read_again_when_they_change_and_what_is_bad_changes_nothing() {
    let (folder, old, new) = (Folder::new("again"), Issuer::new("old"), Issuer::new("new"));
    let (identity, _) = Identity::open(folder.config(&old.issue("broker"))).unwrap();
    let trusts = |issuer: &Issuer| meet(&identity, client(issuer.certificate.der(), None)).1.is_ok();
    assert!(identity.look(false).is_none() && trusts(&old));
    let broker = new.issue("a broker of a longer name");
    fs::write(folder.0.join("broker.pem"), broker.certificate.pem()).unwrap();
    assert!(identity.look(false).unwrap().unwrap_err().contains("with the key"));
    assert!(identity.look(false).is_none(), "it is told once");
    assert!(trusts(&old) && !trusts(&new));
    fs::write(folder.0.join("broker.key"), broker.key.serialize_pem()).unwrap();
    assert_eq!(identity.look(true), Some(Ok(())));
    assert!(trusts(&new) && !trusts(&old));
    folder.config(&new.issue_until("broker", 2001));
    assert!(identity.look(true).unwrap().unwrap_err().contains("is not now"));
    fs::remove_file(folder.0.join("broker.key")).unwrap();
    assert!(identity.look(false).unwrap().is_err());
    assert!(trusts(&new));
}

#[test]
fn what_cannot_be_read_refuses_the_start_by_its_name() {
    let (folder, issuer) = (Folder::new("start"), Issuer::new("a"));
    let good = folder.config(&issuer.issue("broker"));
    let refused = |config: TlsConfig| Identity::open(config).unwrap_err();
    assert!(
        refused(TlsConfig { principal_rules: "RULE:(/x/".into(), ..good.clone() }).contains("the rules of principals")
    );
    assert!(refused(TlsConfig { key: good.certificate.clone(), ..good.clone() }).contains("broker.pem"));
    assert!(refused(TlsConfig { certificate: good.key.clone(), ..good.clone() }).contains("broker.key"));
    assert!(refused(TlsConfig { client_ca: Some(folder.0.join("none.pem")), ..good }).contains("none.pem"));
}

#[cfg(feature = "cluster")]
#[test]
fn what_a_kafka_client_says_under_tls_does_not_go_on_without_it() {
    use crate::{Broker, Config, Server, cluster};
    use std::io::{Read, Write};
    let (folder, issued) = (Folder::new("joined"), Issuer::new("ours").issue("localhost"));
    let node = Server::start(Broker::in_memory(), "localhost:0").unwrap();
    let mut config = Config::in_memory();
    config.security.tls = Some(TlsConfig { required: false, ..folder.config(&issued) });
    let options = cluster::ClusterOptions::new(format!("localhost:{}", node.port()));
    let front = Server::start(cluster::Cluster::open(config, options).unwrap(), "localhost:0").unwrap();
    let versions = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 255, 255];
    let connect = || {
        let connection = TcpStream::connect(("localhost", front.port())).unwrap();
        connection.set_read_timeout(Some(LONG)).unwrap();
        connection
    };
    let secure = |bytes: &[u8], answer: &mut [u8]| {
        let (connection, client) = (connect(), Session::new(client(&issued.ca, None), Vec::new()));
        client.handshake(&connection, LONG).unwrap();
        client.write_all(&connection, bytes).unwrap();
        client.read(&connection, answer)
    };
    assert!(matches!(secure(&versions, &mut [0; 4]), Ok(0) | Err(_)), "it is not joined");
    let mut pong = [0; 4];
    assert_eq!((secure(b"PING\n", &mut pong).unwrap(), &pong), (4, b"PONG"));
    let mut plain = connect();
    plain.write_all(&versions).unwrap();
    plain.read_exact(&mut [0; 4]).unwrap();
}

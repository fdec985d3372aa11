//! Logging in, message by message.

use super::*;
use crate::{
    broker::ScramChange,
    config::TokensConfig,
    security::{
        ScramMechanism, password,
        sasl::scram::testing,
        tokens::testing::{AUDIENCE, ISSUER, Issuer, KeyFile, claims, now_s},
    },
};
use std::sync::atomic::AtomicI64;

const PASSWORD: &str = "alice-secret";
const GOOD: &[u8] = b"\0alice\0alice-secret";

/// A connection of somebody.
struct Stranger {
    talk: Talk,
    session: Session,
}

/// What a request got.
#[derive(Debug, PartialEq)]
enum Got {
    /// The error code, and what stands behind it.
    Answer(i16, Vec<u8>),
    /// Nothing: the connection ends.
    Closed,
}

fn config() -> Config {
    let mut config = Config::in_memory();
    (config.security.users, config.security.login_delay) = (true, false);
    config
}

/// A broker with the user alice, who may do everything.
fn broker(config: Config) -> Broker {
    let mut config = config;
    config.security.super_users.insert("User:alice".into());
    let broker = Broker::open(config).unwrap();
    broker.add_user("alice", PASSWORD).unwrap();
    broker.add_user("bob", "bob-secret").unwrap();
    broker.create_topic("there", 1).unwrap();
    broker
}

fn stranger_with(config: Config) -> Stranger {
    stranger_to(&broker(config), "127.0.0.1:1")
}

fn stranger_to(broker: &Broker, peer: &str) -> Stranger {
    let caller = Caller {
        principal: crate::security::Principal::anonymous(),
        protocol: broker::Protocol::Kafka,
        address: Some(peer.parse().unwrap()),
        client_id: String::new(),
    };
    Stranger { talk: Talk::from(broker.on_behalf_of(caller), peer), session: Session::default() }
}

fn stranger() -> Stranger {
    stranger_with(config())
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as i16).to_be_bytes(), text.as_bytes()].concat()
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as i32).to_be_bytes(), bytes].concat()
}

impl Stranger {
    /// What a frame gets.
    fn send(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        assert!(!self.session.login.is_over, "it is closed");
        let stopping = AtomicBool::new(true);
        let (_, mut output) = connection::open(&self.talk.transport, broker::Waiter::new(), &stopping);
        match answer(&self.talk.broker, &mut self.session, &mut output, frame) {
            Ok(_) => Some(output.bytes),
            Err(Stop::Stranger | Stop::Broken(_)) => {
                self.session.login.is_over = true;
                None
            }
            Err(Stop::Io(error)) => panic!("{error}"),
        }
    }

    /// What a request without throttle time gets whose answer begins with a code.
    fn ask(&mut self, key: i16, version: i16, body: &[u8]) -> Got {
        let Some(answer) = self.send(&frame(key, version, body)) else { return Got::Closed };
        let body = &answer[if is_flexible(key, version) && key != API_VERSIONS { 9 } else { 8 }..];
        Got::Answer(i16::from_be_bytes(body[..2].try_into().unwrap()), body[2..].to_vec())
    }

    fn code(&mut self, key: i16, version: i16, body: &[u8]) -> Option<i16> {
        match self.ask(key, version, body) {
            Got::Answer(code, _) => Some(code),
            Got::Closed => None,
        }
    }

    fn shake(&mut self, mechanism: &str) -> Option<i16> {
        self.code(SASL_HANDSHAKE, 1, &string(mechanism))
    }

    /// The code, the bytes and the lifetime that a message gets.
    fn authenticate(&mut self, message: &[u8]) -> Option<(i16, Vec<u8>, i64)> {
        let Got::Answer(code, rest) = self.ask(SASL_AUTHENTICATE, 1, &bytes(message)) else { return None };
        let mut r = Reader::new(&rest, 1, false);
        assert_eq!(r.nullable_string("error_message").unwrap().is_some(), code != 0);
        Some((code, r.bytes("auth_bytes").unwrap().to_vec(), r.i64("session_lifetime_ms").unwrap()))
    }

    fn plain(&mut self, message: &[u8]) -> Option<i16> {
        self.authenticate(message).map(|(code, ..)| code)
    }

    fn hello(&mut self) -> Option<i16> {
        self.code(API_VERSIONS, 2, b"")
    }

    /// The code of a topic in Metadata.
    fn metadata(&mut self) -> Option<i16> {
        let request = MetadataRequest::default().with_allow_auto_topic_creation(false);
        let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(s("there").into()));
        let answer = self.send(&frame(METADATA, 9, &encoded(request.with_topics(Some(vec![topic])), 9)))?;
        Some(MetadataResponse::decode(&mut &answer[9..], 9).unwrap().topics[0].error_code)
    }

    fn is_over(&self) -> bool {
        self.session.login.is_over
    }

    /// Logged in by PLAIN.
    fn logged_in(mut self) -> Stranger {
        assert_eq!((self.shake("PLAIN"), self.plain(GOOD), self.metadata()), (Some(0), Some(0), Some(0)));
        self
    }

    /// Begins SCRAM; the message that proves to know the password, and what the server is to prove.
    fn challenged(&mut self, mechanism: ScramMechanism, user: &str, password: &str) -> (String, String) {
        assert_eq!(self.shake(mechanism.name()), Some(0));
        let bare = format!("n={user},r=abc");
        let (code, challenge, lifetime) = self.authenticate(format!("n,,{bare}").as_bytes()).unwrap();
        assert_eq!((code, lifetime), (0, 0));
        let challenge = String::from_utf8(challenge).unwrap();
        let salted = testing::salted(mechanism, &challenge, password);
        testing::client(mechanism, &salted, "n,,", &bare, &challenge)
    }
}

#[test]
fn plain_takes_the_right_password_and_everything_else_is_refused_and_closed() {
    stranger().logged_in();
    for bad in [&b"\0alice\0wrong"[..], b"\0nobody\0alice-secret", b"bob\0alice\0alice-secret", b"", b"\0\0", b"\xff"] {
        let mut one = stranger();
        assert_eq!((one.shake("PLAIN"), one.authenticate(bad)), (Some(0), Some((58, vec![], 0))), "{bad:?}");
        assert!(one.is_over());
    }
}

#[test]
fn scram_proves_both_sides_and_tells_nobody_who_there_is() {
    let broker = broker(config());
    for mechanism in ScramMechanism::ALL {
        let mut alice = stranger_to(&broker, "10.0.0.9:1");
        let (proof, expected) = alice.challenged(mechanism, "alice", PASSWORD);
        assert_eq!(alice.authenticate(proof.as_bytes()), Some((0, expected.into_bytes(), 0)));
        assert_eq!(alice.metadata(), Some(0));
        for (user, password) in [("alice", "wrong"), ("nobody", PASSWORD)] {
            let mut other = stranger_to(&broker, "10.0.0.9:1");
            let (proof, _) = other.challenged(mechanism, user, password);
            assert_eq!(other.authenticate(proof.as_bytes()), Some((58, vec![], 0)), "{user}");
            assert!(other.is_over());
        }
    }
}

#[test]
fn a_credential_that_is_deleted_between_the_messages_still_logs_in_and_a_deleted_user_does_not() {
    let [sha256, _] = ScramMechanism::ALL;
    let broker = broker(config());
    let (mut one, mut other) = (stranger_to(&broker, "10.0.0.9:1"), stranger_to(&broker, "10.0.0.9:1"));
    let [(of_one, _), (of_other, _)] = [&mut one, &mut other].map(|one| one.challenged(sha256, "bob", "bob-secret"));
    let gone = |mechanism| ScramChange { user: "bob".into(), mechanism, credential: None };
    broker.alter_scram_credentials(ScramMechanism::ALL.map(gone)).unwrap();
    assert_eq!(one.plain(of_one.as_bytes()), Some(0));
    broker.add_user("bob", "bob-secret").unwrap();
    broker.delete_user("bob").unwrap();
    assert_eq!(other.plain(of_other.as_bytes()), Some(58));
}

#[test]
fn mechanisms_are_named_and_unknown_ones_end_the_connection() {
    for version in [0, 1] {
        for bad in ["GSSAPI", "", "plain", " PLAIN", "SCRAM-SHA-1", "OAUTHBEARER"] {
            let mut one = stranger();
            let Got::Answer(code, rest) = one.ask(SASL_HANDSHAKE, version, &string(bad)) else { panic!("{bad}") };
            let mut r = Reader::new(&rest, version, false);
            let named = r.array("mechanisms", |r| r.string("")).unwrap();
            assert_eq!((code, named), (33, vec!["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]));
            assert!(one.is_over());
        }
        let mut twice = stranger();
        assert_eq!(twice.code(SASL_HANDSHAKE, version, &string("SCRAM-SHA-256")), Some(0));
        if version == 1 {
            assert_eq!((twice.shake("PLAIN"), twice.is_over()), (Some(34), true));
        }
    }
}

#[test]
fn a_password_does_not_cross_a_line_that_others_can_read() {
    let far = |config| stranger_to(&broker(config), "10.0.0.9:1");
    assert_eq!(far(config()).shake("PLAIN"), Some(33));
    assert_eq!(far(config()).shake("SCRAM-SHA-512"), Some(0));
    let mut open = config();
    open.security.plaintext_passwords = true;
    far(open).logged_in();
}

/// How a broker is configured that takes tokens, by keys in this file.
fn with_tokens(keys: &KeyFile) -> Config {
    let mut config = config();
    let tokens = TokensConfig { keys: keys.0.clone(), audience: AUDIENCE.into(), issuer: ISSUER.into() };
    config.security.tokens = Some(tokens);
    config
}

fn bearer(token: &str) -> Vec<u8> {
    format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}").into()
}

#[test]
fn a_token_logs_in_for_as_long_as_it_holds_and_one_that_is_bad_is_told_so_and_no_more() {
    let issuer = Issuer::new("one");
    let keys = KeyFile::new("kafka-logins", &[&issuer]);
    let broker = broker(with_tokens(&keys));
    let mut alice = stranger_to(&broker, "127.0.0.1:1");
    assert_eq!(alice.shake("OAUTHBEARER"), Some(0));
    let (code, bytes, lifetime) = alice.authenticate(&bearer(&issuer.token("alice"))).unwrap();
    assert_eq!((code, bytes, alice.metadata()), (0, vec![], Some(0)));
    assert!((3_590_000..=3_600_000).contains(&lifetime), "{lifetime}");
    // Whom somebody else calls so is no user of ours.
    let mut admin = stranger_to(&broker, "127.0.0.1:1");
    assert_eq!((admin.shake("OAUTHBEARER"), admin.plain(&bearer(&issuer.token("admin")))), (Some(0), Some(0)));
    assert_eq!(admin.metadata(), Some(29));
    let invalid = (0, br#"{"status":"invalid_token"}"#.to_vec(), 0);
    let stranger = Issuer::new("one");
    for bad in [
        "garbage".into(),
        issuer.token_for("alice", -1),
        stranger.token("alice"),
        issuer.sign(&serde_json::json!({ "alg": "none", "kid": "one" }), &claims("alice", now_s() + 60)),
        Issuer::new("unknown").token("alice"),
        "x".repeat(50_000),
    ] {
        let mut one = stranger_to(&broker, "127.0.0.1:1");
        assert_eq!((one.shake("OAUTHBEARER"), one.authenticate(&bearer(&bad))), (Some(0), Some(invalid.clone())));
        assert_eq!((one.session.login.principal(), one.is_over()), (None, false));
        // Whatever it says now.
        assert_eq!(one.authenticate(&bearer(&issuer.token("alice"))), Some((58, vec![], 0)));
        assert!(one.is_over());
    }
    let as_bob = String::from_utf8(bearer(&issuer.token("alice"))).unwrap().replacen("n,,", "n,a=bob,", 1);
    for broken in [as_bob.as_bytes(), b"", b"\x01", GOOD, b"n,,\x01auth=Bearer a"] {
        let mut one = stranger_to(&broker, "127.0.0.1:1");
        assert_eq!((one.shake("OAUTHBEARER"), one.authenticate(broken)), (Some(0), Some((58, vec![], 0))));
        assert!(one.is_over());
    }
    let mut one = stranger_to(&broker, "127.0.0.1:1");
    assert_eq!(one.code(SASL_HANDSHAKE, 0, &string("OAUTHBEARER")), Some(0));
    assert_eq!((one.send(&bearer(&issuer.token("alice"))), one.metadata()), (Some(vec![0, 0, 0, 0]), Some(0)));
    let mut one = stranger_to(&broker, "127.0.0.1:1");
    assert_eq!(one.code(SASL_HANDSHAKE, 0, &string("OAUTHBEARER")), Some(0));
    assert_eq!(one.send(&bearer("garbage")).unwrap()[4..], invalid.1);
    assert_eq!((one.send(b"\x01"), one.is_over()), (None, true));
}

#[test]
fn tokens_are_asked_for_where_they_are_taken_and_nobody_reads_along() {
    let keys = KeyFile::new("kafka-offered", &[]);
    let broker = broker(with_tokens(&keys));
    let named = |peer: &str| {
        let Got::Answer(_, rest) = stranger_to(&broker, peer).ask(SASL_HANDSHAKE, 1, &string("?")) else { panic!() };
        Reader::new(&rest, 1, false).array("mechanisms", |r| r.string("").map(String::from)).unwrap()
    };
    assert_eq!(named("127.0.0.1:1"), ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]);
    assert_eq!(named("10.0.0.9:1"), ["SCRAM-SHA-256", "SCRAM-SHA-512"]);
    assert_eq!(stranger_to(&broker, "10.0.0.9:1").shake("OAUTHBEARER"), Some(33));
}

#[test]
fn a_login_ends_with_its_token_and_goes_on_with_another_of_the_same_name() {
    let (issuer, other) = (Issuer::new("one"), Issuer::new("number two"));
    let keys = KeyFile::new("kafka-ends", &[&issuer, &other]);
    let mut config = with_tokens(&keys);
    config.security.super_users.insert("User:alice".into());
    config.security.reauth = Some(Duration::from_secs(60));
    let ends_s = now_s();
    let token = |issuer: &Issuer, subject: &str, ends_s| issuer.sign(&issuer.header(), &claims(subject, ends_s));
    let now = Arc::new(AtomicI64::new(ends_s * 1000 - 1));
    let disk = Arc::new(crate::log::disk::MemoryDisk::default());
    let broker = Broker::open_on(disk, config, broker::Clock::Manual(now)).unwrap();
    broker.create_topic("there", 1).unwrap();
    let log_in = |one: &mut Stranger, token: &str| {
        assert_eq!(one.shake("OAUTHBEARER"), Some(0));
        one.authenticate(&bearer(token)).map(|(code, _, lifetime)| (code, lifetime))
    };
    let ended = || {
        let mut one = stranger_to(&broker, "127.0.0.1:1");
        assert_eq!(log_in(&mut one, &token(&issuer, "alice", ends_s)), Some((0, 1)));
        std::thread::sleep(Duration::from_millis(2));
        one
    };
    assert_eq!((ended().metadata(), ended().hello()), (None, None));
    let mut one = ended();
    assert_eq!(log_in(&mut one, &token(&issuer, "alice", ends_s + 3600)), Some((0, 60_000)), "at most so long");
    assert_eq!(one.metadata(), Some(0));
    let mut one = ended();
    assert_eq!((log_in(&mut one, &token(&issuer, "bob", ends_s + 9)), one.is_over()), (Some((58, 0)), true));
    // A key that goes ends no session, and begins none.
    let mut one = stranger_to(&broker, "127.0.0.1:1");
    let (code, lifetime) = log_in(&mut one, &token(&other, "alice", ends_s + 9)).unwrap();
    assert!(code == 0 && (1..=9001).contains(&lifetime), "{code} {lifetime}");
    keys.write(&[&issuer]);
    assert_eq!(one.metadata(), Some(0));
    let mut late = stranger_to(&broker, "127.0.0.1:1");
    log_in(&mut late, &token(&other, "alice", ends_s + 9));
    assert!(late.session.login.principal().is_none());
    assert_eq!(late.plain(b"\x01"), Some(58));
}

#[test]
fn what_comes_at_another_place_ends_the_connection() {
    let closed: [fn(&mut Stranger) -> Option<i16>; 7] = [
        |one| one.hello().and_then(|_| one.hello()),
        |one| one.metadata(),
        |one| one.hello().and_then(|_| one.metadata()),
        |one| one.plain(GOOD),
        |one| one.hello().and_then(|_| one.plain(GOOD)),
        |one| one.code(19, 5, &[0, 0, 0, 0, 1, 0, 0, 0, 0]),
        |one| one.send(GOOD).map(|_| 0),
    ];
    for (number, ask) in closed.into_iter().enumerate() {
        let mut one = stranger();
        assert_eq!((ask(&mut one), one.is_over()), (None, true), "{number}");
    }
    for ask in [Stranger::hello, Stranger::metadata] {
        let mut one = stranger();
        assert_eq!((one.shake("PLAIN"), ask(&mut one), one.is_over()), (Some(0), Some(34), true));
    }
    let mut one = stranger();
    assert_eq!((one.shake("PLAIN"), one.code(10, 0, b"\0\0")), (Some(0), None));
    // A version that nobody knows is told those there are, which is no greeting.
    let mut one = stranger();
    let told = one.send(&frame(API_VERSIONS, 99, b"")).unwrap();
    assert_eq!((told[8..10].to_vec(), one.hello()), (vec![0, 35], Some(0)));
    let mut one = stranger().logged_in();
    assert_eq!((one.hello(), one.plain(GOOD), one.metadata()), (Some(0), Some(34), Some(0)));
}

#[test]
fn after_a_handshake_of_version_0_tokens_follow_as_they_are() {
    let mut one = stranger();
    assert_eq!(one.code(SASL_HANDSHAKE, 0, &string("PLAIN")), Some(0));
    assert_eq!(one.send(GOOD), Some(vec![0, 0, 0, 0]));
    assert_eq!(one.metadata(), Some(0));
    for bad in [b"\0alice\0wrong".to_vec(), vec![], frame(API_VERSIONS, 2, b"")] {
        let mut one = stranger();
        assert_eq!(one.code(SASL_HANDSHAKE, 0, &string("PLAIN")), Some(0));
        assert_eq!((one.send(&bad), one.is_over()), (None, true));
    }
    let [mechanism, _] = ScramMechanism::ALL;
    let mut one = stranger();
    assert_eq!(one.code(SASL_HANDSHAKE, 0, &string(mechanism.name())), Some(0));
    let challenge = String::from_utf8(one.send(b"n,,n=alice,r=abc").unwrap()[4..].to_vec()).unwrap();
    let salted = testing::salted(mechanism, &challenge, PASSWORD);
    let (proof, server) = testing::client(mechanism, &salted, "n,,", "n=alice,r=abc", &challenge);
    assert_eq!(one.send(proof.as_bytes()).unwrap()[4..], *server.as_bytes());
    assert_eq!(one.metadata(), Some(0));
}

#[test]
fn who_logs_in_again_stays_who_it_is() {
    let mut one = stranger().logged_in();
    assert_eq!((one.shake("PLAIN"), one.plain(GOOD), one.metadata()), (Some(0), Some(0), Some(0)));
    // Not twice within a second.
    assert_eq!((one.shake("PLAIN"), one.plain(GOOD), one.metadata()), (Some(34), Some(34), Some(0)));
    for other in [&b"\0bob\0bob-secret"[..], b"\0alice\0wrong"] {
        let mut one = stranger().logged_in();
        assert_eq!((one.shake("PLAIN"), one.plain(other), one.is_over()), (Some(0), Some(58), true));
    }
    let mut one = stranger().logged_in();
    assert_eq!((one.shake("SCRAM-SHA-256"), one.metadata()), (Some(0), None));
    let mut one = stranger().logged_in();
    assert_eq!((one.shake("GSSAPI"), one.is_over()), (None, true));
    let mut one = stranger().logged_in();
    assert_eq!((one.shake("PLAIN"), one.metadata(), one.is_over()), (Some(0), Some(34), true));
    let mut one = stranger().logged_in();
    assert_eq!(one.code(SASL_HANDSHAKE, 0, &string("PLAIN")), Some(0));
    assert_eq!((one.send(GOOD), one.metadata()), (Some(vec![0, 0, 0, 0]), Some(0)));
}

#[test]
fn a_login_ends_and_only_another_goes_on() {
    let mut short = config();
    short.security.reauth = Some(Duration::from_millis(1));
    let log_in = |one: &mut Stranger| {
        assert_eq!(one.shake("PLAIN"), Some(0));
        assert_eq!(one.authenticate(GOOD), Some((0, vec![], 1)));
        std::thread::sleep(Duration::from_millis(2));
    };
    let mut one = stranger_with(short.clone());
    log_in(&mut one);
    log_in(&mut one);
    assert_eq!((one.metadata(), one.is_over()), (None, true));
    let mut long = config();
    long.security.reauth = Some(Duration::from_secs(3600));
    let mut one = stranger_with(long);
    assert_eq!((one.shake("PLAIN"), one.authenticate(GOOD)), (Some(0), Some((0, vec![], 3_600_000))));
    assert_eq!(one.metadata(), Some(0));
}

#[test]
fn who_is_here_may_stay_a_stranger_where_that_is_said() {
    let mut config = config();
    (config.security.anonymous_loopback, config.security.allow_if_no_acl) = (true, true);
    let broker = broker(config);
    assert_eq!(stranger_to(&broker, "127.0.0.1:1").metadata(), Some(0));
    assert_eq!(stranger_to(&broker, "10.0.0.9:1").metadata(), None);
    stranger_to(&broker, "127.0.0.1:1").logged_in();
}

#[test]
fn what_kafkas_clients_set_is_what_logs_in() {
    let broker = broker(config());
    let credential = password::new_keys("of kafka").remove(&ScramMechanism::Sha512);
    let mechanism = ScramMechanism::Sha512;
    broker.alter_scram_credentials([ScramChange { user: "carol".into(), mechanism, credential }]).unwrap();
    let mut carol = stranger_to(&broker, "10.0.0.9:1");
    let (proof, _) = carol.challenged(mechanism, "carol", "of kafka");
    assert_eq!(carol.plain(proof.as_bytes()), Some(0));
    let mut other = stranger_to(&broker, "10.0.0.9:1");
    let (proof, _) = other.challenged(ScramMechanism::Sha256, "carol", "of kafka");
    assert_eq!(other.plain(proof.as_bytes()), Some(58));
}

#[test]
fn who_may_not_look_after_users_learns_nothing_of_them() {
    let broker = broker(config());
    let mut bob = stranger_to(&broker, "127.0.0.1:1");
    assert_eq!((bob.shake("PLAIN"), bob.plain(b"\0bob\0bob-secret")), (Some(0), Some(0)));
    let user = |name: &str| describe_user_scram_credentials_request::UserName::default().with_name(s(name));
    let request = DescribeUserScramCredentialsRequest::default().with_users(Some(vec![user("alice"), user("nobody")]));
    let answer = bob.send(&frame(50, 0, &encoded(request, 0))).unwrap();
    let told = DescribeUserScramCredentialsResponse::decode(&mut &answer[9..], 0).unwrap();
    let each: Vec<_> = told.results.iter().map(|result| (result.user.as_str(), result.error_code)).collect();
    assert_eq!((told.error_code, each), (31, vec![("", 31), ("", 31)]));
    let upsertion = |name: &str| {
        let upsertion = alter_user_scram_credentials_request::ScramCredentialUpsertion::default().with_name(s(name));
        upsertion.with_mechanism(1).with_iterations(4096)
    };
    let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![upsertion(""), upsertion("bob")]);
    let answer = bob.send(&frame(51, 0, &encoded(request, 0))).unwrap();
    let told = AlterUserScramCredentialsResponse::decode(&mut &answer[9..], 0).unwrap();
    assert!(told.results.len() == 2 && told.results.iter().all(|result| result.error_code == 31), "{told:?}");
}

#[test]
fn nobody_who_watches_sees_what_one_logs_in_with() {
    let mut one = stranger();
    one.talk.broker.wire().switch(Some(broker::wire::Filter::default()));
    let (proof, _) = one.challenged(ScramMechanism::Sha256, "alice", PASSWORD);
    assert_eq!(one.plain(proof.as_bytes()), Some(0));
    let wire = one.talk.broker.wire();
    let shown: Vec<_> = (0..3).filter_map(|number| wire.next(number)).collect();
    assert_eq!(shown.len(), 3);
    for part in [&b"n=alice"[..], b"s=", b"p=", b"v="] {
        let shows = |message: &broker::wire::Message| message.bytes.windows(part.len()).any(|seen| seen == part);
        let seen = |shown: &broker::wire::Numbered| shows(&shown.exchange.request) || shows(&shown.exchange.response);
        assert!(!shown.iter().any(seen), "{}", String::from_utf8_lossy(part));
    }
}

proptest! {
    #[test]
    fn no_bytes_of_a_stranger_are_a_panic_or_get_in(
        key in prop::sample::select(vec![SASL_HANDSHAKE, SASL_AUTHENTICATE, API_VERSIONS, METADATA]),
        version in 0..3i16,
        mechanism in prop::sample::select(vec!["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]),
        all in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..4),
    ) {
        let keys = KeyFile::new("kafka-any", &[]);
        let mut one = stranger_with(with_tokens(&keys));
        one.shake(mechanism);
        for body in all {
            if !one.is_over() {
                one.send(&frame(key, version, &body));
            }
            prop_assert!(one.session.login.principal().is_none());
        }
    }
}

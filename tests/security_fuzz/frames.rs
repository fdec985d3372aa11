//! Kafka's frames.

use super::{
    HERS, PASSWORD, State, broker, config, each_case, holds,
    requests::{authenticate, handshake, metadata, of_administrators},
    tells_no_secret,
};
use crate::common::{
    Random, bend,
    scram::{SHA_256, SHA_512, Scram},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use plainlog::{
    Broker,
    broker::{Caller, Clock, Protocol, Waiter},
    log::disk::MemoryDisk,
    protocol::{
        connection,
        kafka::{self, Session},
        transport::Transport,
    },
    security::{Principal, Proof},
};
use std::{
    collections::HashMap,
    net::{TcpListener, TcpStream},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

/// A connection as the broker has it; its client says what a test says, and what it is answered is looked at before it is sent.
struct Line {
    transport: Transport,
    _client: TcpStream,
    stopping: AtomicBool,
}

impl Line {
    fn to(broker: &Broker) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        let counted = broker.metrics().connections.connected(peer, 0);
        let transport = Transport::tcp(stream, counted, Duration::from_secs(60)).unwrap();
        Line { transport, _client: client, stopping: AtomicBool::new(true) }
    }

    /// Somebody who has said nothing yet.
    fn talk(&self, broker: &Broker, principal: Principal) -> Talk<'_> {
        let peer = self.transport.peer();
        let caller = Caller { principal, protocol: Protocol::Kafka, address: Some(peer), client_id: String::new() };
        Talk { line: self, broker: broker.on_behalf_of(caller), session: Session::default() }
    }
}

struct Talk<'l> {
    line: &'l Line,
    broker: Broker,
    session: Session,
}

impl Talk<'_> {
    /// What a frame is answered with; `None`: the connection is closed.
    fn say(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let (_, mut output) = connection::open(&self.line.transport, Waiter::new(), &self.line.stopping);
        kafka::answer(&self.broker, &mut self.session, &mut output, frame).ok()?;
        tells_no_secret(&output.bytes);
        Some(output.bytes)
    }
}

const SCRAM: [Scram; 2] = [SHA_256, SHA_512];
const BARE: &str = "n=alice,r=fyko+d2lbbFgONRv9qkxdawL";

/// Passwords that were salted before: that takes long.
#[derive(Default)]
struct Salted(HashMap<(&'static str, Vec<u8>, bool), Vec<u8>>);

impl Salted {
    /// The message that answers a challenge, and the proof in it.
    fn last(&mut self, scram: Scram, challenge: &str, is_right: bool) -> (String, String) {
        let part = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).unwrap_or_default();
        let salt = STANDARD.decode(part("s=")).unwrap_or_default();
        let salted = self.0.entry((scram.name, salt.clone(), is_right)).or_insert_with(|| {
            if is_right { scram.salted(PASSWORD, &salt, 8192) } else { vec![0; scram.digest.output_len()] }
        });
        let unproven = format!("c=biws,r={}", part("r="));
        let proof = scram.proof(salted, BARE, challenge, &unproven);
        (format!("{unproven},p={proof}"), proof)
    }
}

/// The challenge in an answer, wherever it stands there; what is bent may have got another answer, or none.
fn challenge(answer: &[u8]) -> String {
    let at = memchr::memmem::find(answer, b"r=").unwrap_or(answer.len());
    answer[at..].iter().take_while(|byte| byte.is_ascii_graphic()).map(|&byte| byte as char).collect()
}

/// Messages that are bent, with some chance each.
struct Bending<'a> {
    random: &'a mut Random,
    others: &'a [&'a [u8]],
    /// One of so many messages is bent, twice: what a mechanism reads, and the frame around it.
    one_of: u64,
}

impl Bending<'_> {
    fn perhaps(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        if self.random.below(self.one_of) == 0 {
            bend(&mut bytes, self.random, self.others);
        }
        bytes
    }
}

/// A whole login, whose messages are bent. Answers whether the password is in what was sent, or the proof that it is known.
fn log_in(talk: &mut Talk<'_>, salted: &mut Salted, bending: &mut Bending<'_>) -> Option<bool> {
    let is_right = bending.random.below(2) == 0;
    let versions = [bending.random.below(2) as i16, bending.random.below(3) as i16];
    let wrap = |bending: &mut Bending<'_>, message: &[u8]| {
        let message = bending.perhaps(message.to_vec());
        // Tokens follow as they are.
        if versions[0] == 0 { message } else { bending.perhaps(authenticate(versions[1], &message)) }
    };
    // A password is hashed for milliseconds each time, a proof is not.
    let scram = match bending.random.below(20) {
        0 => None,
        other => Some(SCRAM[other as usize % 2]),
    };
    talk.say(&bending.perhaps(handshake(versions[0], scram.map_or("PLAIN", |scram| scram.name))))?;
    let (last, proof) = match scram {
        None => {
            let password = if is_right { PASSWORD } else { "wrong" };
            (format!("\0alice\0{password}"), format!("\0alice\0{PASSWORD}"))
        }
        Some(scram) => {
            let first = wrap(bending, format!("n,,{BARE}").as_bytes());
            let challenge = challenge(&talk.say(&first)?);
            let (right, proof) = salted.last(scram, &challenge, true);
            (if is_right { right } else { salted.last(scram, &challenge, false).0 }, proof)
        }
    };
    let last = wrap(bending, last.as_bytes());
    talk.say(&last)?;
    Some(holds(&last, &proof))
}

#[test]
fn bent_logins_let_nobody_in_who_does_not_prove_the_password() {
    let broker = broker(config());
    let (line, before) = (Line::to(&broker), State::of(&broker));
    let frames = of_administrators();
    let others: Vec<&[u8]> = frames.iter().map(|frame| &**frame).collect();
    let (mut salted, mut came_in, mut stayed_out) = (Salted::default(), 0_u64, 0_u64);
    each_case(500, |random| {
        let mut talk = line.talk(&broker, Principal::anonymous());
        let mut bending = Bending { random, others: &others, one_of: 4 };
        // What only those may ask who are known.
        let asked = bending.random.below(frames.len() as u64) as usize;
        let asked = bending.random.below(4).eq(&0).then(|| bending.perhaps(frames[asked].clone()));
        let proven = match asked.map(|asked| talk.say(&asked)) {
            Some(None) => false,
            _ => log_in(&mut talk, &mut salted, &mut bending).unwrap_or(false),
        };
        let found = talk.say(&metadata());
        let is_in = found.as_ref().is_some_and(|found| holds(found, HERS));
        assert!(proven || !is_in, "somebody got in");
        came_in += u64::from(is_in);
        stayed_out += u64::from(!is_in);
        assert!(State::of(&broker) == before, "something was changed");
    });
    assert!(came_in > stayed_out / 20, "{came_in} came in and {stayed_out} did not: it is bent too much");
}

#[test]
fn bent_requests_of_a_user_change_nothing_and_tell_nothing() {
    let broker = broker(config());
    let (line, before) = (Line::to(&broker), State::of(&broker));
    let frames = of_administrators();
    let others: Vec<&[u8]> = frames.iter().map(|frame| &**frame).collect();
    let mut salted = Salted::default();
    each_case(250, |random| {
        let mut talk = line.talk(&broker, Principal::anonymous());
        let [_, scram] = SCRAM;
        talk.say(&handshake(1, scram.name)).unwrap();
        let challenge = challenge(&talk.say(&authenticate(2, format!("n,,{BARE}").as_bytes())).unwrap());
        talk.say(&authenticate(2, salted.last(scram, &challenge, true).0.as_bytes())).unwrap();
        assert!(holds(&talk.say(&metadata()).unwrap(), HERS));
        let mut bending = Bending { random, others: &others, one_of: 1 };
        for _ in 0..=bending.random.below(3) {
            let frame = frames[bending.random.below(frames.len() as u64) as usize].clone();
            if talk.say(&bending.perhaps(frame)).is_none() {
                break;
            }
        }
        assert!(State::of(&broker) == before, "something was changed");
    });
}

/// Whatever they say and however it is meant, what is kept of it can be read again.
#[test]
fn bent_requests_of_an_administrator_are_kept_so_that_they_can_be_read() {
    const CASES_OF_A_BROKER: u64 = 500;
    const REQUESTS: u64 = 5;
    let frames = of_administrators();
    let others: Vec<&[u8]> = frames.iter().map(|frame| &**frame).collect();
    let open = |disk: &MemoryDisk| Broker::open_on(Arc::new(disk.clone()), config(), Clock::System).unwrap();
    let mut disk = MemoryDisk::default();
    let mut broker = open(&disk);
    broker.begin_with_users(PASSWORD).unwrap();
    let (mut line, mut count, mut most) = (Line::to(&broker), 0, 0);
    each_case(100, |random| {
        let mut talk = line.talk(&broker, Principal::new("admin", Proof::Password));
        let mut bending = Bending { random, others: &others, one_of: 2 };
        for _ in 0..REQUESTS {
            let frame = frames[bending.random.below(frames.len() as u64) as usize].clone();
            if talk.say(&bending.perhaps(frame)).is_none() {
                break;
            }
        }
        let State { users, rules, quotas, .. } = State::of(&broker);
        most = most.max(users.len() + rules.len() + quotas.len());
        count += 1;
        if count % CASES_OF_A_BROKER == 0 {
            let before = State::of(&broker);
            broker = open(&disk);
            assert!(State::of(&broker) == before, "it is read as something else");
            disk = MemoryDisk::default();
            broker = open(&disk);
            broker.begin_with_users(PASSWORD).unwrap();
            line = Line::to(&broker);
        }
    });
    assert!(most > 3, "nothing is taken");
    let before = State::of(&broker);
    assert!(State::of(&open(&disk)) == before);
}

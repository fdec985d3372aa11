//! Users, rules and quotas are changed while calls of the disk fail, power fails, and the broker is killed: each change is there as a whole
//! or not at all, and each that was answered is there.
//!
//! `KILLS=100 cargo test --test security_kept` kills more often than each run does; `SEED` has it done otherwise.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{Broker as Process, LONG, Random};
use kafka_protocol::{
    messages::{
        alter_client_quotas_request::{EntityData, EntryData, OpData},
        create_acls_request::AclCreation,
        *,
    },
    protocol::{Decodable, Encodable, HeaderVersion, StrBytes},
};
use plainlog::{
    Broker, Config,
    broker::{Clock, Result, ScramChange},
    log::disk::{Call, Fault, MemoryDisk, Survivors},
    security::{
        Acl, AclFilter, Operation, PatternType, Permission, QuotaEntity, Quotas, ResourceType, ScramCredential,
        ScramCredentials, ScramMechanism,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

/// What is kept, and read again at a start.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    users: Arc<ScramCredentials>,
    rules: Vec<Acl>,
    quotas: Arc<Quotas>,
}

impl Kept {
    fn of(broker: &Broker) -> Kept {
        Kept {
            users: broker.scram_credentials().unwrap(),
            rules: broker.acls(&AclFilter::default()).unwrap(),
            quotas: broker.quotas().unwrap(),
        }
    }

    /// Whether both are the same but for what was salted anew.
    fn is_like(&self, other: &Kept) -> bool {
        let shape = |kept: &Kept| -> Vec<(String, Vec<(ScramMechanism, u64)>)> {
            let changes = |own: &BTreeMap<ScramMechanism, ScramCredential>| {
                own.iter().map(|(mechanism, credential)| (*mechanism, credential.change)).collect()
            };
            kept.users.iter().map(|(name, own)| (name.clone(), changes(own))).collect()
        };
        (&self.rules, &self.quotas, shape(self)) == (&other.rules, &other.quotas, shape(other))
    }
}

fn open(disk: &MemoryDisk) -> Broker {
    let mut config = Config::in_memory();
    (config.security.users, config.verbosity) = (true, 0);
    Broker::open_on(Arc::new(disk.clone()), config, Clock::System).unwrap()
}

fn credentials(user: &str, byte: u8) -> impl Iterator<Item = ScramChange> {
    ScramMechanism::ALL.into_iter().map(move |mechanism| {
        let bytes = vec![byte; 32];
        let (stored_key, server_key) = (bytes.clone(), bytes.clone());
        let credential = ScramCredential { change: 0, iterations: 4096, salt: bytes, stored_key, server_key };
        ScramChange { user: user.into(), mechanism, credential: Some(credential) }
    })
}

fn rule(name: &str, operation: Operation) -> Acl {
    Acl {
        resource_type: ResourceType::Topic,
        pattern: PatternType::Literal,
        name: name.into(),
        principal: "User:alice".into(),
        host: "*".into(),
        operation,
        permission: Permission::Allow,
    }
}

fn set_quotas(broker: &Broker, rate: Option<f64>) -> Result<()> {
    let entity = QuotaEntity::from([("user".into(), Some("alice".into()))]);
    broker.alter_quotas(&entity, &["producer_byte_rate", "consumer_byte_rate"].map(|of| (of.into(), rate)).into())
}

/// A change, by what it does.
type Change = (&'static str, fn(&Broker) -> Result<()>);

const CHANGES: [Change; 8] = [
    ("begin", |broker| broker.begin_with_users("secret")),
    ("add a user", |broker| broker.add_user("bob", "secret")),
    ("set a password", |broker| broker.set_password("alice", "secret")),
    ("delete a user", |broker| broker.delete_user("alice").map(drop)),
    ("alter credentials", |broker| {
        broker.alter_scram_credentials(credentials("alice", 9).chain(credentials("carol", 9)))
    }),
    ("add rules", |broker| broker.create_acls(&[rule("new", Operation::Read), rule("new", Operation::Write)])),
    ("delete rules", |broker| broker.delete_acls(&[AclFilter::default()]).map(drop)),
    ("set quotas", |broker| set_quotas(broker, Some(7.0))),
];

/// A broker that has something of everything, on a disk that fails from then on as `fault` says.
fn prepared(nth: u64, fault: Fault) -> (MemoryDisk, Broker) {
    let disk = MemoryDisk::crashable();
    let broker = open(&disk);
    broker.alter_scram_credentials(credentials("alice", 1)).unwrap();
    broker.create_acls(&[rule("old", Operation::Read), rule("old", Operation::Write)]).unwrap();
    set_quotas(&broker, Some(5.0)).unwrap();
    disk.fault(Call::Any, nth, fault);
    (disk, broker)
}

/// The file is made beside, written, synced and renamed, and its directory is synced: each of these fails, and power fails before,
/// amid and after each.
#[test]
fn a_change_is_whole_whatever_call_of_the_disk_fails() {
    for (what, change) in CHANGES {
        let (_, broker) = prepared(u64::MAX, Fault::Error);
        let before = Kept::of(&broker);
        change(&broker).unwrap();
        let after = Kept::of(&broker);
        for fault in [Fault::Error, Fault::Full, Fault::CrashBefore, Fault::CrashMidway, Fault::CrashAfter] {
            for nth in 1.. {
                let context = format!("{what}, {fault:?} at call {nth}");
                let (disk, broker) = prepared(nth, fault);
                let done = change(&broker);
                // What is in force is what was answered.
                let is_in_force = if done.is_ok() { &after } else { &before };
                assert!(Kept::of(&broker).is_like(is_in_force), "{context}: {done:?}");
                let went_well = disk.faults_left() > 0;
                let crashed = disk.crashed();
                drop(broker);
                for survivors in
                    [Survivors::Nothing, Survivors::Everything, Survivors::Seed(nth), Survivors::Seed(!nth)]
                {
                    let broker = open(&disk.reboot(survivors));
                    let found = Kept::of(&broker);
                    let is_right = match done {
                        Ok(()) => found.is_like(&after),
                        // Nobody was told what became of it.
                        Err(_) if crashed => found.is_like(&before) || found.is_like(&after),
                        Err(_) => found.is_like(&before),
                    };
                    assert!(is_right, "{context}, {survivors:?}: {done:?} and {found:?}");
                    set_quotas(&broker, None).unwrap();
                }
                if went_well {
                    assert!(done.is_ok() && nth > 5, "{context}: {done:?}");
                    break;
                }
            }
        }
    }
}

const WRITERS: usize = 3;
const PASSWORD: &str = "admin-secret";
/// The operations that a rule is made for, all in one request, and their numbers in Kafka's protocol.
const OPERATIONS: [(&str, i8); 3] = [("read", 3), ("write", 4), ("delete", 6)];

/// What one writer has made so far: of names that no other uses.
#[derive(Clone, Debug, Default, PartialEq)]
struct Own {
    /// Users and their passwords.
    users: BTreeMap<String, String>,
    /// Names in rules, for each of the operations.
    rules: BTreeSet<String>,
    /// Users with quotas, both of the same value.
    quotas: BTreeMap<String, u32>,
}

/// Somebody who may change everything, by text and by Kafka's protocol.
struct Admin {
    text: BufReader<TcpStream>,
    kafka: TcpStream,
}

/// What comes to nothing because the broker is gone.
type Gone<T> = Option<T>;

fn s(text: &str) -> StrBytes {
    StrBytes::from(text.to_string())
}

impl Admin {
    fn of(address: &str) -> Gone<Admin> {
        let [text, kafka] = [0; 2].map(|_| {
            let stream = TcpStream::connect(address).ok()?;
            stream.set_read_timeout(Some(LONG)).ok()?;
            Some(stream)
        });
        let mut admin = Admin { text: BufReader::new(text?), kafka: kafka? };
        assert_eq!(admin.say(&format!("AUTH admin {PASSWORD}"))?, "OK principal:User:admin");
        let plain = SaslHandshakeRequest::default().with_mechanism(s("PLAIN"));
        let shaken: SaslHandshakeResponse = admin.ask(ApiKey::SaslHandshake, 1, &plain)?;
        let said = SaslAuthenticateRequest::default().with_auth_bytes(format!("\0admin\0{PASSWORD}").into());
        let known: SaslAuthenticateResponse = admin.ask(ApiKey::SaslAuthenticate, 2, &said)?;
        assert_eq!((shaken.error_code, known.error_code), (0, 0));
        Some(admin)
    }

    fn line(&mut self) -> Gone<String> {
        let mut line = String::new();
        self.text.read_line(&mut line).ok()?;
        // A line without its end was cut by the kill.
        line.strip_suffix('\n').map(String::from)
    }

    fn say(&mut self, line: &str) -> Gone<String> {
        self.text.get_mut().write_all(format!("{line}\n").as_bytes()).ok()?;
        self.line()
    }

    /// The lines behind one that tells how many they are.
    fn list(&mut self, what: &str) -> Gone<Vec<String>> {
        let count = self.say(what)?;
        let count: usize = count.split_once(" count:").expect("a list").1.parse().unwrap();
        (0..count).map(|_| self.line()).collect()
    }

    fn ask<Q: Encodable + HeaderVersion, R: Decodable + HeaderVersion>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: &Q,
    ) -> Gone<R> {
        let header = RequestHeader::default().with_request_api_key(key as i16).with_request_api_version(version);
        let mut frame = vec![0; 4];
        header.encode(&mut frame, Q::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        let size = (frame.len() - 4) as u32;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        self.kafka.write_all(&frame).ok()?;
        let mut size = [0; 4];
        self.kafka.read_exact(&mut size).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        self.kafka.read_exact(&mut frame).ok()?;
        let mut rest = &frame[..];
        ResponseHeader::decode(&mut rest, R::header_version(version)).unwrap();
        Some(R::decode(&mut rest, version).unwrap())
    }

    /// Makes a change that `own` does not have yet; `None`: the broker is gone, and nobody knows what became of it.
    fn change(&mut self, before: &Own, after: &Own) -> Gone<()> {
        for (user, password) in &after.users {
            let verb = match before.users.get(user) {
                None => "add",
                Some(old) if old != password => "password",
                Some(_) => continue,
            };
            assert_eq!(self.say(&format!("USER {verb} {user} {password}"))?, "OK");
        }
        for user in before.users.keys().filter(|user| !after.users.contains_key(*user)) {
            assert_eq!(self.say(&format!("USER delete {user}"))?, "OK rules:0");
        }
        for name in after.rules.difference(&before.rules) {
            let acl = |(_, operation)| {
                let acl = AclCreation::default().with_resource_type(2).with_resource_name(s(name));
                let acl = acl.with_resource_pattern_type(3).with_principal(s("User:anybody")).with_host(s("*"));
                acl.with_operation(operation).with_permission_type(3)
            };
            let all = CreateAclsRequest::default().with_creations(OPERATIONS.map(acl).into());
            let made: CreateAclsResponse = self.ask(ApiKey::CreateAcls, 2, &all)?;
            assert!(made.results.iter().all(|result| result.error_code == 0), "{made:?}");
        }
        for name in before.rules.difference(&after.rules) {
            assert_eq!(self.list(&format!("ACL delete name:{name}"))?.len(), OPERATIONS.len());
        }
        let of = |user: &str| EntityData::default().with_entity_type(s("user")).with_entity_name(Some(s(user)));
        let users: BTreeSet<&String> = before.quotas.keys().chain(after.quotas.keys()).collect();
        for user in users.into_iter().filter(|user| before.quotas.get(*user) != after.quotas.get(*user)) {
            let value = after.quotas.get(user);
            let op = |key| OpData::default().with_key(s(key)).with_value(value.map_or(0.0, |value| f64::from(*value)));
            let ops = ["producer_byte_rate", "consumer_byte_rate"].map(|key| op(key).with_remove(value.is_none()));
            let entry = EntryData::default().with_entity(vec![of(user)]).with_ops(ops.into());
            let request = AlterClientQuotasRequest::default().with_entries(vec![entry]);
            let altered: AlterClientQuotasResponse = self.ask(ApiKey::AlterClientQuotas, 1, &request)?;
            assert!(altered.entries.iter().all(|entry| entry.error_code == 0), "{altered:?}");
        }
        Some(())
    }

    /// What there is of this writer, without passwords, which nobody is told.
    fn look(&mut self, writer: usize) -> Own {
        let is_own = |name: &str| name.starts_with(&format!("w{writer}-"));
        let field = |line: &str, name: &str| -> String {
            let found = line.split(' ').find_map(|field| field.strip_prefix(name)).unwrap();
            found.strip_prefix(':').unwrap().into()
        };
        let users = self.list("USER list").unwrap().into_iter().map(|line| field(&line, "user"));
        let users = users.filter(|user| is_own(user)).map(|user| (user, String::new())).collect();
        let mut operations = BTreeMap::<String, usize>::new();
        for line in self.list("ACL list").unwrap() {
            *operations.entry(field(&line, "name")).or_default() += 1;
        }
        operations.retain(|name, _| is_own(name));
        assert!(operations.values().all(|count| *count == OPERATIONS.len()), "half a change: {operations:?}");
        let request = DescribeClientQuotasRequest::default().with_components(vec![]).with_strict(false);
        let told: DescribeClientQuotasResponse = self.ask(ApiKey::DescribeClientQuotas, 1, &request).unwrap();
        let quotas = told.entries.unwrap().into_iter().filter_map(|entry| {
            let user = entry.entity[0].entity_name.clone().unwrap().to_string();
            let values: Vec<f64> = entry.values.iter().map(|value| value.value).collect();
            assert!(values.len() == 2 && values[0] == values[1], "half a change: {entry:?}");
            is_own(&user).then_some((user, values[0] as u32))
        });
        Own { users, rules: operations.into_keys().collect(), quotas: quotas.collect() }
    }
}

/// The next change of a writer.
fn next(own: &Own, writer: usize, random: &mut Random) -> Own {
    let (mut next, name) = (own.clone(), format!("w{writer}-{}", random.below(4)));
    match random.below(5) {
        0 | 1 if next.users.contains_key(&name) && random.below(2) == 0 => drop(next.users.remove(&name)),
        0 | 1 => drop(next.users.insert(name, format!("secret-{}", random.below(1_000_000)))),
        2 | 3 if !next.rules.remove(&name) => drop(next.rules.insert(name)),
        2 | 3 => {}
        _ if next.quotas.contains_key(&name) && random.below(2) == 0 => drop(next.quotas.remove(&name)),
        _ => drop(next.quotas.insert(name, 1 + random.below(1_000_000) as u32)),
    }
    next
}

/// Whether what is found is this, by names and by passwords.
fn is(process: &Process, found: &Own, expected: &Own) -> bool {
    let names = |own: &Own| own.users.keys().cloned().collect::<Vec<_>>();
    let enters = |(user, password): (&String, &String)| {
        let told = process.connect().say(&format!("AUTH {user} {password}\n")).line();
        told == format!("OK principal:User:{user}")
    };
    names(found) == names(expected)
        && (&found.rules, &found.quotas) == (&expected.rules, &expected.quotas)
        && expected.users.iter().all(enters)
}

/// Both keys of a password are of the same change.
fn has_whole_passwords(file: &str) {
    let mut changes = BTreeMap::<&str, Vec<&str>>::new();
    for line in file.lines().filter(|line| line.starts_with("user ")) {
        let fields: Vec<&str> = line.split(' ').collect();
        changes.entry(fields[1]).or_default().push(fields[3]);
    }
    assert!(changes.values().all(|of| of.len() == 2 && of[0] == of[1]), "half a change: {changes:?}");
}

/// A folder that goes.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn a_change_is_whole_whenever_the_broker_is_killed() {
    let kills = env::var("KILLS").map_or(5, |kills| kills.parse().unwrap());
    let mut random = Random(env::var("SEED").map_or(1, |seed| seed.parse().unwrap()));
    let folder = Folder(env::temp_dir().join(format!("plainlog-security-kept-{}", std::process::id())));
    fs::create_dir_all(&folder.0).unwrap();
    let path = |name: &str| folder.0.join(name).to_str().unwrap().to_string();
    fs::write(path("password"), PASSWORD).unwrap();
    let (data, password) = (path("data"), path("password"));
    let options = [
        "--data-dir",
        &data,
        "--users",
        "--admin-password-file",
        &password,
        "--login-delay",
        "off",
        "--flush",
        "never",
    ];
    let mut process = Process::with(&options);
    let mut owns = [0; WRITERS].map(|_| Own::default());
    for kill in 0..kills {
        let (answered, told) = mpsc::channel();
        let pairs: Vec<(Own, Own)> = thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (mut own, address) = (owns[writer].clone(), process.address.clone());
                    let (answered, seed) = (answered.clone(), random.below(1 << 30));
                    scope.spawn(move || {
                        let mut random = Random(seed);
                        let Some(mut admin) = Admin::of(&address) else { return (own.clone(), own) };
                        loop {
                            let after = next(&own, writer, &mut random);
                            if admin.change(&own, &after).is_none() {
                                return (own, after);
                            }
                            own = after;
                            // Nobody may ask any more.
                            let _ = answered.send(());
                        }
                    })
                })
                .collect();
            drop(answered);
            let some = 1 + random.below(60) as usize;
            assert_eq!(told.iter().take(some).count(), some);
            thread::sleep(Duration::from_micros(random.below(5000)));
            process.kill();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        has_whole_passwords(&fs::read_to_string(folder.0.join("data/~security")).unwrap());
        process.restart();
        let mut admin = Admin::of(&process.address).unwrap();
        for (writer, (before, after)) in pairs.into_iter().enumerate() {
            let found = admin.look(writer);
            let kept = [after, before].into_iter().find(|expected| is(&process, &found, expected));
            owns[writer] = kept.unwrap_or_else(|| panic!("kill {kill}, writer {writer}: {found:?}"));
        }
    }
}

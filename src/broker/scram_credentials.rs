//! SCRAM credentials of users (RFC 5802, RFC 7677): what is kept of a password to check who proves to know it. They are kept for
//! whoever sets them, and have no force: nobody logs in here.
//!
//! ```text
//! ~credentials    user:alice mechanism:SCRAM-SHA-256 iterations:4096 salt:c2FsdA== stored_key:... server_key:... crc:5f3c09aa
//! ```
//!
//! The file is for the broker's own user alone: a key cannot be turned into the password, but passwords can be tried against it. A
//! line that is damaged refuses the start, rather than to let in whom nobody let in, and no error shows what stands in it.

use super::{
    Broker, Result,
    kept::Content,
    small_file::{Line, Lines, Text},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

/// How a user proves to know a password: by which hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScramMechanism {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

impl ScramMechanism {
    /// All of them.
    pub const ALL: [ScramMechanism; 2] = [ScramMechanism::Sha256, ScramMechanism::Sha512];

    /// Its name among the mechanisms of SASL.
    pub fn name(self) -> &'static str {
        match self {
            ScramMechanism::Sha256 => "SCRAM-SHA-256",
            ScramMechanism::Sha512 => "SCRAM-SHA-512",
        }
    }
}

/// What is kept of a password, in one mechanism.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramCredential {
    /// How often the password was hashed.
    pub iterations: u32,
    /// What was hashed with it first.
    pub salt: Vec<u8>,
    /// The hash of the key by which a client proves that it knows the password.
    pub stored_key: Vec<u8>,
    /// The key by which the server proves it.
    pub server_key: Vec<u8>,
}

/// Keys are shown to nobody.
impl fmt::Debug for ScramCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramCredential").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// The credentials of each user who has any.
pub type ScramCredentials = BTreeMap<String, BTreeMap<ScramMechanism, ScramCredential>>;

/// A credential that is to be another, or to go.
#[derive(Clone, Debug)]
pub struct ScramChange {
    /// Whose it is.
    pub user: String,
    /// In which mechanism.
    pub mechanism: ScramMechanism,
    /// What it is to be; `None`: there is to be none.
    pub credential: Option<ScramCredential>,
}

impl Content for ScramCredentials {
    const FILE: &str = "~credentials";

    fn parse(text: &Text, path: &Path) -> std::result::Result<ScramCredentials, String> {
        let mut credentials = ScramCredentials::new();
        for line in text.lines() {
            let bad = || line.secret_error(path, "is no credential, or is damaged; restore it, or remove the line");
            add_line(&mut credentials, &line).ok_or_else(bad)?;
        }
        Ok(credentials)
    }

    fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        for (user, own) in self {
            for (mechanism, ScramCredential { iterations, salt, stored_key, server_key }) in own {
                let [salt, stored_key, server_key] = [salt, stored_key, server_key].map(|bytes| STANDARD.encode(bytes));
                lines.push_checked(&[
                    ("user", user),
                    ("mechanism", &mechanism.name()),
                    ("iterations", iterations),
                    ("salt", &salt),
                    ("stored_key", &stored_key),
                    ("server_key", &server_key),
                ]);
            }
        }
        lines
    }
}

/// Adds the credential of a line; `None`: it is none, or damaged.
fn add_line(credentials: &mut ScramCredentials, line: &Line<'_>) -> Option<()> {
    let names = ["user", "mechanism", "iterations", "salt", "stored_key", "server_key"];
    let [user, mechanism, iterations, salt, stored_key, server_key] = line.checked()?.fields(names)?;
    let mechanism = ScramMechanism::ALL.into_iter().find(|known| known.name() == mechanism)?;
    let bytes = |text: String| STANDARD.decode(text).ok();
    let credential = ScramCredential {
        iterations: iterations.parse().ok()?,
        salt: bytes(salt)?,
        stored_key: bytes(stored_key)?,
        server_key: bytes(server_key)?,
    };
    credentials.entry(user).or_default().insert(mechanism, credential);
    Some(())
}

impl Broker {
    /// The credentials of all users.
    pub fn scram_credentials(&self) -> Arc<ScramCredentials> {
        self.env().credentials.get()
    }

    /// Changes credentials, durably, all of these or none.
    pub fn alter_scram_credentials(&self, changes: impl IntoIterator<Item = ScramChange>) -> Result<()> {
        let env = self.env();
        env.change_kept(&env.credentials, |credentials| {
            for ScramChange { user, mechanism, credential } in changes {
                let own = credentials.entry(user).or_default();
                match credential {
                    Some(credential) => drop(own.insert(mechanism, credential)),
                    None => drop(own.remove(&mechanism)),
                }
            }
            credentials.retain(|_, own| !own.is_empty());
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{Clock, small_file::OWN_BYTES_MAX},
        config::Config,
        log::disk::{self, Call, Disk, Fault, MemoryDisk, Survivors},
    };
    use proptest::prelude::*;

    fn credential(iterations: u32, byte: u8) -> ScramCredential {
        ScramCredential { iterations, salt: vec![byte; 3], stored_key: vec![byte; 32], server_key: vec![byte + 1; 32] }
    }

    fn change(user: &str, mechanism: ScramMechanism, credential: Option<ScramCredential>) -> ScramChange {
        ScramChange { user: user.into(), mechanism, credential }
    }

    fn open(disk: &MemoryDisk) -> Result<Broker> {
        Broker::open_on(Arc::new(disk.clone()), Config::in_memory(), Clock::System)
    }

    #[test]
    fn credentials_are_lines_that_outlive_a_restart() {
        let disk = MemoryDisk::default();
        let broker = open(&disk).unwrap();
        let [one, other] = [credential(4096, 1), credential(8192, 2)];
        let set = |user, mechanism, credential: &ScramCredential| change(user, mechanism, Some(credential.clone()));
        let [sha256, sha512] = ScramMechanism::ALL;
        broker.alter_scram_credentials([set("al ice", sha256, &one), set("al ice", sha512, &other)]).unwrap();
        broker.alter_scram_credentials([set("bob", sha512, &one), change("nobody", sha256, None)]).unwrap();
        drop(broker);
        let text = disk::read_small(&disk, Path::new("memory/~credentials"), OWN_BYTES_MAX).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let begin = "user:al\\x20ice mechanism:SCRAM-SHA-256 iterations:4096 salt:AQEB stored_key:AQEB";
        assert!(lines.len() == 3 && lines[0].starts_with(begin) && lines[0].contains(" crc:"), "{text}");
        let broker = open(&disk).unwrap();
        let all = broker.scram_credentials();
        assert_eq!((all.len(), &all["al ice"][&sha512], &all["bob"][&sha512]), (2, &other, &one));
        broker.alter_scram_credentials([change("al ice", sha256, None), change("bob", sha512, None)]).unwrap();
        assert_eq!(broker.scram_credentials().keys().collect::<Vec<_>>(), ["al ice"]);
    }

    #[test]
    fn a_damaged_line_refuses_the_start_and_is_shown_to_nobody() {
        let disk = MemoryDisk::default();
        let broker = open(&disk).unwrap();
        let mechanism = ScramMechanism::Sha256;
        let users = ["alice", "bob"].map(|user| change(user, mechanism, Some(credential(4096, 7))));
        broker.alter_scram_credentials(users).unwrap();
        drop(broker);
        let path = Path::new("memory/~credentials");
        let text = String::from_utf8(disk::read_small(&disk, path, OWN_BYTES_MAX).unwrap()).unwrap();
        for (from, to) in [("user:bob", "user:eve"), ("SHA-256", "SHA-512"), (" crc:", " CRC:"), ("iterations:", "")] {
            let (before, last) = text.split_at(text.find("user:bob").unwrap());
            disk::replace(&disk, path, (before.to_owned() + &last.replacen(from, to, 1)).as_bytes()).unwrap();
            let refused = open(&disk).unwrap_err().to_string();
            assert!(refused.contains("memory/~credentials, line 2 is no credential, or is damaged"), "{refused}");
            assert!(!refused.contains("stored_key"), "{refused}");
        }
        assert!(!format!("{:?}", credential(4096, 7)).contains('7'));
    }

    #[test]
    fn what_is_not_on_disk_is_not_in_force() {
        let set = |iterations| [change("u", ScramMechanism::Sha512, Some(credential(iterations, 1)))];
        let iterations = |broker: &Broker| broker.scram_credentials()["u"][&ScramMechanism::Sha512].iterations;
        for fault in [Fault::Error, Fault::Full] {
            for nth in 1.. {
                let disk = MemoryDisk::crashable();
                let broker = open(&disk).unwrap();
                broker.alter_scram_credentials(set(1)).unwrap();
                disk.fault(Call::Any, nth, fault);
                let changed = broker.alter_scram_credentials(set(2)).is_ok();
                assert_eq!(iterations(&broker), if changed { 2 } else { 1 }, "call {nth}");
                let survives = iterations(&open(&disk.reboot(Survivors::Nothing)).unwrap());
                assert_eq!(survives, iterations(&broker), "call {nth}, after a crash");
                if changed {
                    assert!(nth > 3, "a file is made, written, synced and renamed");
                    break;
                }
            }
        }
    }

    /// Whoever reads it can try passwords against it.
    #[test]
    fn nobody_else_may_read_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let dir = std::env::temp_dir().join(format!("plainlog-credentials-{}", std::process::id()));
        let broker = Broker::open(Config::new(&dir)).unwrap();
        let set = |byte| [change("u", ScramMechanism::Sha256, Some(credential(4096, byte)))];
        (0..2).for_each(|byte| broker.alter_scram_credentials(set(byte)).unwrap());
        assert_eq!(std::fs::metadata(dir.join(ScramCredentials::FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        drop(broker);
        std::fs::remove_dir_all(dir).unwrap();
    }

    proptest! {
        #[test]
        fn any_user_is_read_back(
            all in prop::collection::btree_map(any::<String>(), prop::collection::btree_map(0..2usize, any::<(u32, Vec<u8>, Vec<u8>, Vec<u8>)>(), 1..3), 0..4),
        ) {
            let of = |(mechanism, (iterations, salt, stored_key, server_key))| {
                (ScramMechanism::ALL[mechanism], ScramCredential { iterations, salt, stored_key, server_key })
            };
            let all: ScramCredentials = all.into_iter().map(|(user, own)| (user, own.into_iter().map(of).collect())).collect();
            let disk = MemoryDisk::default();
            disk.create(Path::new(ScramCredentials::FILE)).unwrap().write_at(all.lines().bytes(OWN_BYTES_MAX).unwrap(), 0).unwrap();
            let text = Text::of_broker(&disk, Path::new(ScramCredentials::FILE)).unwrap().unwrap();
            prop_assert_eq!(ScramCredentials::parse(&text, Path::new(ScramCredentials::FILE)), Ok(all));
        }
    }
}

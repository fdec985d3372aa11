//! SCRAM credentials of users: how they are kept. What they are says [`security`](crate::security).
//!
//! ```text
//! user name:alice mechanism:SCRAM-SHA-256 change:7 iterations:8192 salt:c2FsdA== stored_key:... server_key:... crc:5f3c09aa
//! ```

use super::{
    ADMIN, Broker, Error, Result,
    kept::Kind,
    small_file::{Line, Lines, Text},
};
use crate::security::{Operation, ScramCredential, ScramCredentials, ScramMechanism};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{collections::BTreeSet, path::Path, sync::Arc};

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

impl Kind for ScramCredentials {
    const NAME: &str = "user";

    fn add(&mut self, line: &Line<'_>) -> Option<()> {
        let names = ["name", "mechanism", "change", "iterations", "salt", "stored_key", "server_key"];
        let [user, mechanism, change, rest @ ..] = line.fields(names)?;
        add(self, user, &mechanism, change.parse().ok()?, rest)
    }

    fn write(&self, lines: &mut Lines) {
        for (user, own) in self {
            for (mechanism, ScramCredential { change, iterations, salt, stored_key, server_key }) in own {
                let [salt, stored_key, server_key] = [salt, stored_key, server_key].map(|bytes| STANDARD.encode(bytes));
                lines.push_kind(
                    Self::NAME,
                    &[
                        ("name", user),
                        ("mechanism", &mechanism.name()),
                        ("change", change),
                        ("iterations", iterations),
                        ("salt", &salt),
                        ("stored_key", &stored_key),
                        ("server_key", &server_key),
                    ],
                );
            }
        }
    }
}

/// Adds a credential of these iterations, salt, stored key and server key; `None`: it is none, or there already.
fn add(
    credentials: &mut ScramCredentials,
    user: String,
    mechanism: &str,
    change: u64,
    [iterations, salt, stored_key, server_key]: [String; 4],
) -> Option<()> {
    let bytes = |text: String| STANDARD.decode(text).ok();
    let credential = ScramCredential {
        change,
        iterations: iterations.parse().ok()?,
        salt: bytes(salt)?,
        stored_key: bytes(stored_key)?,
        server_key: bytes(server_key)?,
    };
    let mechanism = ScramMechanism::of_name(mechanism)?;
    credentials.entry(user).or_default().insert(mechanism, credential).is_none().then_some(())
}

/// Reads the file of credentials that brokers before kept.
pub(super) fn parse_old(text: &Text, path: &Path) -> std::result::Result<ScramCredentials, String> {
    let names = ["user", "mechanism", "iterations", "salt", "stored_key", "server_key"];
    let mut credentials = ScramCredentials::new();
    for line in text.lines() {
        let bad = || line.secret_error(path, "is no credential, or is damaged; restore it, or remove the line");
        let fields = line.checked().and_then(|line| line.fields(names));
        let added = fields.and_then(|[user, mechanism, rest @ ..]| add(&mut credentials, user, &mechanism, 0, rest));
        added.ok_or_else(bad)?;
    }
    Ok(credentials)
}

impl Broker {
    /// The credentials of all users.
    pub fn scram_credentials(&self) -> Result<Arc<ScramCredentials>> {
        Ok(self.env(&self.ask_cluster(Operation::Describe)?).security.get().credentials.clone())
    }

    /// Changes credentials, durably, all of these or none. Where there are users, the last one of [`ADMIN`] stays.
    pub fn alter_scram_credentials(&self, changes: impl IntoIterator<Item = ScramChange>) -> Result<()> {
        let permit = self.ask_cluster(Operation::Alter)?;
        let env = self.env(&permit);
        let mut users = BTreeSet::new();
        env.try_change_kept(&env.security, |security| {
            let credentials = Arc::make_mut(&mut security.credentials);
            let has_admin = security.secret.is_some() && credentials.contains_key(ADMIN);
            let last = credentials.values().flat_map(|own| own.values()).map(|credential| credential.change).max();
            let change = last.unwrap_or(0) + 1;
            for ScramChange { user, mechanism, credential } in changes {
                users.insert(user.clone());
                let own = credentials.entry(user).or_default();
                match credential {
                    Some(credential) => drop(own.insert(mechanism, ScramCredential { change, ..credential })),
                    None => drop(own.remove(&mechanism)),
                }
            }
            credentials.retain(|_, own| !own.is_empty());
            if has_admin && !credentials.contains_key(ADMIN) { Err(Error::admin_stays()) } else { Ok(()) }
        })?;
        for user in &users {
            #[cfg(feature = "users")]
            self.state(&permit).logins.changed(user);
            self.note("password-changed", &[("user", user)]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{Clock, kept::Content, security_file::Security, small_file::OWN_BYTES_MAX},
        config::Config,
        log::disk::{self, Call, Disk, Fault, MemoryDisk, Survivors},
    };
    use proptest::prelude::*;

    fn credential(iterations: u32, byte: u8) -> ScramCredential {
        let keys = [vec![byte; 32], vec![byte + 1; 32]];
        let [stored_key, server_key] = keys;
        ScramCredential { change: 1, iterations, salt: vec![byte; 3], stored_key, server_key }
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
        let text = disk::read_small(&disk, Path::new("memory/~security"), OWN_BYTES_MAX).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let begin = "user name:al\\x20ice mechanism:SCRAM-SHA-256 change:1 iterations:4096 salt:AQEB stored_key:AQEB";
        assert!(lines.len() == 4 && lines[1].starts_with(begin) && lines[1].contains(" crc:"), "{text}");
        let broker = open(&disk).unwrap();
        let all = broker.scram_credentials().unwrap();
        let second = ScramCredential { change: 2, ..one.clone() };
        assert_eq!((all.len(), &all["al ice"][&sha512], &all["bob"][&sha512]), (2, &other, &second));
        broker.alter_scram_credentials([change("al ice", sha256, None), change("bob", sha512, None)]).unwrap();
        assert_eq!(broker.scram_credentials().unwrap().keys().collect::<Vec<_>>(), ["al ice"]);
    }

    #[test]
    fn what_is_not_on_disk_is_not_in_force() {
        let set = |iterations| [change("u", ScramMechanism::Sha512, Some(credential(iterations, 1)))];
        let iterations = |broker: &Broker| broker.scram_credentials().unwrap()["u"][&ScramMechanism::Sha512].iterations;
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
        broker.alter_scram_credentials(set(0)).unwrap();
        // Left over by somebody who let all read it.
        let beside = dir.join(Security::FILE).with_extension("tmp~");
        std::fs::write(&beside, "").unwrap();
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o644)).unwrap();
        broker.alter_scram_credentials(set(1)).unwrap();
        assert_eq!(std::fs::metadata(dir.join(Security::FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        drop(broker);
        std::fs::remove_dir_all(dir).unwrap();
    }

    proptest! {
        #[test]
        fn any_user_is_read_back(
            all in prop::collection::btree_map(any::<String>(), prop::collection::btree_map(0..2usize, any::<(u64, u32, Vec<u8>, Vec<u8>, Vec<u8>)>(), 1..3), 0..4),
        ) {
            let of = |(mechanism, (change, iterations, salt, stored_key, server_key))| {
                (ScramMechanism::ALL[mechanism], ScramCredential { change, iterations, salt, stored_key, server_key })
            };
            let all: ScramCredentials = all.into_iter().map(|(user, own)| (user, own.into_iter().map(of).collect())).collect();
            let all = Security { credentials: Arc::new(all), ..Security::default() };
            let (disk, path) = (MemoryDisk::default(), Path::new(Security::FILE));
            disk.create(path).unwrap().write_at(all.lines().bytes(OWN_BYTES_MAX).unwrap(), 0).unwrap();
            let text = Text::of_broker(&disk, path, OWN_BYTES_MAX).unwrap().unwrap();
            prop_assert_eq!(Security::parse(&text, path).unwrap().credentials, all.credentials);
        }
    }
}

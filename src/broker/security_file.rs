//! The file that says who may come in and what for: users, rules and quotas, each a line that a person can read.
//!
//! ```text
//! ~security    security version:1 crc:e3069283
//!              secret key:c2Vj... crc:0b1c2d3e
//!              user name:alice mechanism:SCRAM-SHA-256 change:7 iterations:8192 salt:c2Fs... stored_key:... server_key:... crc:5f3c09aa
//!              rule resource:topic pattern:literal name:orders principal:User:alice host:* operation:write permission:allow crc:...
//!              quota client-id: user:alice name:producer_byte_rate value:1000 crc:77aa01ff
//! ```
//!
//! - It is one file, so that a change of several kinds is made as a whole or not at all. It stands outside of all topics: nobody
//!   can read it through the broker, export it or move it. `~` begins its name since every other name can be a topic's.
//! - It is for the broker's own user alone: a key cannot be turned into the password, but passwords can be tried against it.
//! - A line that is damaged, or of a kind that is not known, refuses the start by its number, rather than to let in whom nobody let
//!   in; so does a file of a later version. No error shows what stands in a line.
//! - A further kind of lines is a type that is a [`Kind`], with a field in [`Security`], and a line each in `add` and `lines`.
//!
//! Brokers before kept users and quotas in files of their own, `~credentials` and `~quotas`. They are taken over at the start.

#[cfg(feature = "users")]
use super::rules::Rules;
use super::{
    Error, Result,
    kept::{Content, Kept, Kind},
    quotas, scram_credentials,
    small_file::{Line, Lines, OWN_BYTES_MAX, Text},
};
use crate::{
    config::Config,
    log::disk::Disk,
    security::{Quotas, ScramCredentials},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{fmt, path::Path, sync::Arc};

/// The version of the format that is written, and the last that is read.
const VERSION: u64 = 1;

/// What the file says.
#[derive(Clone, Debug, Default)]
pub(super) struct Security {
    /// What the broker derives from that nobody may guess; there is one once there are users who log in.
    pub(super) secret: Option<Secret>,
    pub(super) credentials: Arc<ScramCredentials>,
    pub(super) quotas: Arc<Quotas>,
    /// A program that has no users does not start with rules, which it would not follow.
    #[cfg(feature = "users")]
    pub(super) rules: Arc<Rules>,
}

/// Bytes that nobody else knows.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Kind for Option<Secret> {
    const NAME: &str = "secret";

    fn add(&mut self, line: &Line<'_>) -> Option<()> {
        let [key] = line.fields(["key"])?;
        self.replace(Secret(STANDARD.decode(key).ok()?)).is_none().then_some(())
    }

    fn write(&self, lines: &mut Lines) {
        if let Some(Secret(key)) = self {
            lines.push_kind(Self::NAME, &[("key", &STANDARD.encode(key))]);
        }
    }
}

impl Security {
    /// Whether the broker may be opened so, if its data directory has users: nobody is let in by an option that was forgotten.
    pub(super) fn check(&self, config: &Config, data_dir: &Path) -> Result<()> {
        #[cfg(feature = "users")]
        let (is_asked, way) = (
            config.security.users || config.security.without_users,
            "start the broker with --users, or with --no-users for everybody",
        );
        #[cfg(not(feature = "users"))]
        let (is_asked, way) = (false, "this build knows none");
        #[cfg(not(feature = "users"))]
        let _ = config;
        if self.secret.is_some() && !is_asked {
            return Err(Error::Storage(format!("{} has users; {way}", data_dir.display())));
        }
        Ok(())
    }

    /// Takes a line of any kind.
    fn add(&mut self, line: &Line<'_>) -> Option<()> {
        let (kind, fields) = line.checked()?.kind()?;
        match std::str::from_utf8(kind).ok()? {
            <Option<Secret>>::NAME => self.secret.add(&fields),
            ScramCredentials::NAME => Arc::make_mut(&mut self.credentials).add(&fields),
            Quotas::NAME => Arc::make_mut(&mut self.quotas).add(&fields),
            #[cfg(feature = "users")]
            Rules::NAME => Arc::make_mut(&mut self.rules).add(&fields),
            _ => None,
        }
    }

    /// Reads the file, or those of brokers before: then the second value says that it is to be written.
    pub(super) fn read(disk: &dyn Disk, data_dir: &Path) -> Result<(Kept<Security>, bool)> {
        let path = data_dir.join(Self::FILE);
        if let Some(text) = Text::of_broker(disk, &path, Self::BYTES_MAX)? {
            let content = Security::parse(&text, &path).map_err(Error::Storage)?;
            return Ok((Kept::new(content), false));
        }
        let mut content = Security::default();
        let paths = OLD_FILES.map(|file| data_dir.join(file));
        let [credentials, quotas] = [&paths[0], &paths[1]].map(|path| Text::of_broker(disk, path, OWN_BYTES_MAX));
        let (credentials, quotas) = (credentials?, quotas?);
        let is_old = credentials.is_some() || quotas.is_some();
        if let Some(text) = credentials {
            content.credentials = Arc::new(scram_credentials::parse_old(&text, &paths[0]).map_err(Error::Storage)?);
        }
        if let Some(text) = quotas {
            content.quotas = Arc::new(quotas::parse_old(&text, &paths[1]).map_err(Error::Storage)?);
        }
        Ok((Kept::new(content), is_old))
    }
}

/// Where brokers before kept users, and quotas.
pub(super) const OLD_FILES: [&str; 2] = ["~credentials", "~quotas"];

impl Content for Security {
    const FILE: &str = "~security";
    /// Tens of thousands of rules, each of which has a name of a topic.
    const BYTES_MAX: u64 = 64 << 20;

    fn parse(text: &Text, path: &Path) -> std::result::Result<Security, String> {
        let (mut security, mut lines) = (Security::default(), text.lines());
        let first = lines.next().and_then(|line| line.checked()?.kind());
        let version = first.filter(|(kind, _)| *kind == b"security").and_then(|(_, line)| line.fields(["version"]));
        match version.and_then(|[version]| version.parse::<u64>().ok()) {
            Some(1..=VERSION) => {}
            Some(_) => {
                return Err(format!("{} is of a later version; start the broker that wrote it", path.display()));
            }
            None => return Err(format!("{}, line 1 does not say the version; restore the file", path.display())),
        }
        for line in lines {
            let bad = || {
                line.secret_error(
                    path,
                    "is damaged, of an unknown kind, or there twice; restore it, or remove the line",
                )
            };
            security.add(&line).ok_or_else(bad)?;
        }
        Ok(security)
    }

    fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        lines.push_kind("security", &[("version", &VERSION)]);
        self.secret.write(&mut lines);
        self.credentials.write(&mut lines);
        self.quotas.write(&mut lines);
        #[cfg(feature = "users")]
        self.rules.write(&mut lines);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "users")]
    use crate::security::{QuotaEntity, ScramCredential};
    use crate::{
        broker::{Broker, Clock},
        log::disk::{self, Call, Fault, MemoryDisk, Survivors},
        security::ScramMechanism,
    };
    use std::collections::BTreeMap;

    fn open(disk: &MemoryDisk) -> Result<Broker> {
        let mut config = Config::in_memory();
        #[cfg(feature = "users")]
        {
            config.security.without_users = true;
        }
        #[cfg(not(feature = "users"))]
        let _ = &mut config;
        Broker::open_on(Arc::new(disk.clone()), config, Clock::System)
    }

    fn path(file: &str) -> std::path::PathBuf {
        Path::new("memory").join(file)
    }

    fn text(disk: &MemoryDisk, file: &str) -> Option<String> {
        let bytes = disk::read_small(disk, &path(file), Security::BYTES_MAX).ok()?;
        Some(String::from_utf8(bytes).unwrap())
    }

    #[cfg(feature = "users")]
    fn credential(byte: u8) -> ScramCredential {
        ScramCredential {
            change: 1,
            iterations: 4096,
            salt: vec![byte; 3],
            stored_key: vec![byte; 32],
            server_key: vec![byte; 32],
        }
    }

    #[cfg(feature = "users")]
    fn rule() -> crate::security::Acl {
        crate::security::Acl {
            resource_type: crate::security::ResourceType::Topic,
            pattern: crate::security::PatternType::Prefixed,
            name: "ord".into(),
            principal: "User:bob".into(),
            host: crate::security::ANY_HOST.into(),
            operation: crate::security::Operation::Write,
            permission: crate::security::Permission::Deny,
        }
    }

    /// One of each kind.
    #[cfg(feature = "users")]
    fn all() -> Security {
        let credentials = ScramCredentials::from([("bob".into(), [(ScramMechanism::Sha256, credential(7))].into())]);
        let entity = QuotaEntity::from([("user".into(), Some("bob".into()))]);
        let quotas = Quotas::from([(entity, [("producer_byte_rate".into(), 1.0)].into())]);
        Security {
            secret: Some(Secret(vec![9; 32])),
            credentials: credentials.into(),
            quotas: quotas.into(),
            #[cfg(feature = "users")]
            rules: Arc::new([rule()].into()),
        }
    }

    #[cfg(feature = "users")]
    #[test]
    fn every_kind_is_read_back_and_a_line_that_is_damaged_refuses_the_start_and_is_shown_to_nobody() {
        let lines = all().lines();
        let whole = std::str::from_utf8(lines.bytes(Security::BYTES_MAX).unwrap()).unwrap().to_string();
        let start = |text: &str| {
            let disk = MemoryDisk::default();
            disk::make_dir(&disk, Path::new("memory")).unwrap();
            disk.create(&path(Security::FILE)).unwrap().write_at(text.as_bytes(), 0).unwrap();
            open(&disk)
        };
        let found = start(&whole).unwrap().inner().env.security.get();
        assert_eq!(found.lines().bytes(Security::BYTES_MAX).unwrap(), whole.as_bytes());
        for (number, line) in whole.lines().enumerate() {
            for (from, to) in [
                ("version:1", "version:0"),
                ("key:", "yek:"),
                ("deny", "allow"),
                (":bob", ":eve"),
                ("crc:", "CRC:"),
                (line, ""),
                (line, "x"),
            ] {
                let bent = whole
                    .lines()
                    .enumerate()
                    .map(|(at, line)| if at == number { line.replacen(from, to, 1) } else { line.into() });
                let bent: String = bent.map(|line| line + "\n").collect();
                if bent == whole {
                    continue;
                }
                let refused = start(&bent).unwrap_err().to_string();
                assert!(refused.contains(&format!("memory/~security, line {} ", number + 1)), "{refused}");
                assert!(!refused.contains("key:") && !refused.contains("bob"), "{refused}");
            }
            let twice = format!("{whole}{line}\n");
            let refused = start(&twice).unwrap_err().to_string();
            let behind = whole.lines().count() + 1;
            assert!(refused.contains(&format!("memory/~security, line {behind} ")), "{refused}");
        }
        assert!(start("").unwrap_err().to_string().contains("line 1 does not say the version"));
        let mut later = Lines::default();
        later.push_kind("security", &[("version", &2)]);
        let later = String::from_utf8(later.bytes(100).unwrap().to_vec()).unwrap();
        let refused = start(&format!("{later}something new\n")).unwrap_err().to_string();
        assert!(refused.contains("is of a later version"), "{refused}");
        let debug = format!("{:?}", all());
        assert!(!debug.contains("9, 9") && !debug.contains("7, 7"), "{debug}");
    }

    const OLD: [(&str, &str); 2] = [
        ("~credentials", "user:bob mechanism:SCRAM-SHA-256 iterations:4096 salt:AQEB stored_key:AQEB server_key:AQEB"),
        ("~quotas", "client-id: user:bob producer_byte_rate:1000\n"),
    ];

    fn with_old_files() -> MemoryDisk {
        let disk = MemoryDisk::crashable();
        disk::make_dir(&disk, Path::new("memory")).unwrap();
        for (file, text) in OLD {
            let crc = format!(" crc:{:08x}\n", crate::log::batches::crc32c(text.as_bytes()));
            let text = if file == "~credentials" { text.to_owned() + &crc } else { text.into() };
            disk::replace(&disk, &path(file), text.as_bytes()).unwrap();
        }
        disk
    }

    #[test]
    fn the_files_of_brokers_before_are_taken_over_whatever_fails() {
        let check = |broker: &Broker| {
            assert_eq!(broker.scram_credentials().unwrap()["bob"][&ScramMechanism::Sha256].iterations, 4096);
            assert_eq!(
                broker.quotas().unwrap().values().collect::<Vec<_>>(),
                [&BTreeMap::from([("producer_byte_rate".into(), 1000.0)])]
            );
        };
        for nth in 1.. {
            let disk = with_old_files();
            disk.fault(Call::Any, nth, Fault::Error);
            if let Ok(broker) = open(&disk) {
                check(&broker);
            }
            let went_well = disk.faults_left() > 0;
            let disk = disk.reboot(Survivors::Nothing);
            check(&open(&disk).unwrap());
            let left = OLD.map(|(file, _)| text(&disk, file));
            assert_eq!(left, [None, None], "call {nth}");
            if went_well {
                assert!(nth > 8, "call {nth}");
                break;
            }
        }
    }
}

//! The options of users, their first start, and who else on this machine may read what is kept.

use crate::common::say;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};
use nix::sys::stat::{Mode, umask};
use plainlog::{
    broker::{ADMIN, Broker},
    client::read_password,
    config::{self, Config, SecurityConfig, TokensConfig},
    security::password,
};
use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, IsTerminal, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// Users and their logins.
#[derive(Args)]
#[group(id = "who")]
pub(crate) struct Options {
    /// Serve nobody who does not say who they are. The first start makes the user admin, who may do everything, and tells the
    /// password: on the terminal, or where there is none in the file ~admin-password of the data directory
    #[arg(long)]
    users: bool,
    /// Serve everybody, though the data directory has users
    #[arg(long, conflicts_with = "users")]
    no_users: bool,
    /// A file whose first line is the password that the first start gives admin
    #[arg(long, value_name = "FILE", requires = "users")]
    admin_password_file: Option<PathBuf>,
    /// Others who may do everything, such as 'User:alice;User:CN=bob,O=shop'
    #[arg(long, value_name = "PRINCIPAL;...", value_delimiter = ';', value_parser = principal, requires = "users")]
    super_users: Vec<String>,
    /// Let everybody who is served do what no rule is about, with --anonymous-loopback those who do not log in, too
    #[arg(long, requires = "users")]
    allow_if_no_acl: bool,
    /// Serve those on this machine who do not log in, too: as User:ANONYMOUS, for whom there may be rules
    #[arg(long, requires = "users")]
    anonymous_loopback: bool,
    /// Take passwords and tokens without TLS from other machines, too, where others can read them
    #[arg(long, requires = "users")]
    plaintext_passwords: bool,
    /// For how long a login of a Kafka client holds before it has to log in again [default: for ever] (Kafka:
    /// connections.max.reauth.ms)
    #[arg(long, value_name = "TIME", value_parser = some_time, requires = "users")]
    reauth_ms: Option<Duration>,
    /// Take tokens (JWT) that one of these keys has signed (a JSON Web Key Set), over Kafka by OAUTHBEARER and over HTTP as Bearer;
    /// whom they name (sub) is who a client is. The file is read again when it changes
    #[arg(long, value_name = "FILE", requires_all = ["users", "oauth_audience", "oauth_issuer"])]
    oauth_jwks: Option<PathBuf>,
    /// Whom these tokens have to be for (aud)
    #[arg(long, value_name = "NAME", requires = "oauth_jwks", value_parser = NonEmptyStringValueParser::new())]
    oauth_audience: Option<String>,
    /// Who has to have issued them (iss)
    #[arg(long, value_name = "NAME", requires = "oauth_jwks", value_parser = NonEmptyStringValueParser::new())]
    oauth_issuer: Option<String>,
    /// Whether those who guess passwords have to wait longer each time; off is for tests
    #[arg(long, value_enum, default_value = "on", value_name = "on|off", requires = "users")]
    login_delay: Switch,
    /// Tell at /metrics and in INFO everything to everybody, at /metrics without a login, too, and not only what each may describe
    #[arg(long, requires = "users")]
    metrics_open: bool,
    /// Append a line to this file for each login, refusal and change
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// How many connections there may be at once from one address, of IPv6 from one /64 [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    connections_per_address: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

fn some_time(text: &str) -> Result<Duration, String> {
    config::duration(text).and_then(|time| if time.is_zero() { Err("it must be above 0".into()) } else { Ok(time) })
}

fn principal(text: &str) -> Result<String, String> {
    let is_one = text.strip_prefix("User:").is_some_and(|name| !name.is_empty());
    if is_one { Ok(text.into()) } else { Err("a principal is 'User:' and a name".into()) }
}

impl Options {
    /// What was asked for.
    pub(super) fn read(&self) -> SecurityConfig {
        SecurityConfig {
            users: self.users,
            without_users: self.no_users,
            anonymous_loopback: self.anonymous_loopback,
            super_users: BTreeSet::from_iter(self.super_users.iter().cloned()),
            allow_if_no_acl: self.allow_if_no_acl,
            plaintext_passwords: self.plaintext_passwords,
            reauth: self.reauth_ms,
            login_delay: self.login_delay == Switch::On,
            audit: self.audit.clone(),
            metrics_open: self.metrics_open,
            connections_per_address: self.connections_per_address.map(|most| most as usize),
            tokens: self.tokens(),
            ..SecurityConfig::default()
        }
    }

    /// Which tokens are taken: clap sees to it that all three are given or none.
    fn tokens(&self) -> Option<TokensConfig> {
        let (keys, audience) = (self.oauth_jwks.clone()?, self.oauth_audience.clone()?);
        Some(TokensConfig { keys, audience, issuer: self.oauth_issuer.clone()? })
    }

    /// Makes the super user, at the first start with users.
    pub(super) fn begin(&self, broker: &Broker) -> Result<()> {
        if !self.users || broker.has_users() {
            return Ok(());
        }
        if let Some(path) = &self.admin_password_file {
            return Ok(broker.begin_with_users(&read_password(path)?)?);
        }
        let password = password::generated();
        if io::stderr().is_terminal() {
            broker.begin_with_users(&password)?;
            say(format_args!("the user {ADMIN} may do everything; the password, which is told this once: {password}"));
            return Ok(());
        }
        let Some(data_dir) = &broker.config().data_dir else {
            bail!(
                "there is neither a terminal nor a data directory for the password of {ADMIN}; give --admin-password-file"
            );
        };
        // Before there is the user: whose password nobody was told could not get in.
        let path = data_dir.join("~admin-password");
        write_private(&path, format!("{password}\n").as_bytes()).with_context(|| path.display().to_string())?;
        broker.begin_with_users(&password)?;
        say(format_args!("the user {ADMIN} may do everything; the password is in {}", path.display()));
        Ok(())
    }
}

/// Writes a file for this user alone.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Keeps the data directory, and all that this process makes, from others on this machine.
pub(crate) fn keep_private(config: &Config) -> Result<()> {
    umask(Mode::from_bits_truncate(0o077));
    let Some(data_dir) = &config.data_dir else { return Ok(()) };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
    // Where a link leads to it, what it leads to is meant.
    made.and_then(|()| close_to_others(&fs::canonicalize(data_dir)?)).with_context(|| data_dir.display().to_string())
}

/// Takes from others what they may do with a folder and what is in it.
fn close_to_others(path: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(path)?;
    if kind.is_symlink() {
        return Ok(());
    }
    let mode = kind.permissions().mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & !0o077))?;
    }
    if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            close_to_others(&entry?.path())?;
        }
    }
    Ok(())
}

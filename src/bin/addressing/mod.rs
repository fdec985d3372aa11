//! Which broker a program speaks with, how, and as whom.

#[cfg(feature = "users")]
pub(crate) mod asking;

use anyhow::Result;
use clap::Args;
use plainlog::client::Target;
#[cfg(feature = "users")]
use plainlog::client::read_password;
#[cfg(feature = "tls")]
use plainlog::security::tls::Trust;
#[cfg(feature = "users")]
use std::path::PathBuf;

/// Which broker, and how.
#[derive(Args)]
#[group(id = "addressing")]
pub(crate) struct At {
    /// Address of the broker
    #[arg(short, long, env = "PLAINLOG_BROKER", default_value = "localhost:9092", value_name = "HOST:PORT")]
    #[arg(value_parser = crate::common::address)]
    broker: String,
    #[cfg(feature = "users")]
    #[command(flatten)]
    who: Who,
    #[cfg(feature = "tls")]
    #[command(flatten)]
    tls: Tls,
}

#[cfg(feature = "users")]
#[derive(Args)]
#[group(id = "by_login")]
#[command(next_help_heading = "Security")]
struct Who {
    /// Log in as this user
    #[arg(long, env = "PLAINLOG_USER", value_name = "NAME")]
    user: Option<String>,
    /// A file whose first line is the user's password [default: it is asked for]
    #[arg(long, env = "PLAINLOG_PASSWORD_FILE", value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
}

#[cfg(feature = "tls")]
#[derive(Args)]
#[group(id = "by_tls")]
#[command(next_help_heading = "Security")]
struct Tls {
    /// Speak TLS; the broker's certificate must be of those that this system trusts, or of --ca
    #[arg(long)]
    tls: bool,
    /// Speak TLS, and trust who shows a certificate that one of these has issued (PEM)
    #[arg(long, env = "PLAINLOG_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Speak TLS, and show this certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// Speak TLS, and trust any broker
    #[arg(long)]
    insecure: bool,
}

impl At {
    /// The broker.
    pub(crate) fn target(&self) -> Result<Target> {
        let target = Target::new(&self.broker);
        #[cfg(feature = "users")]
        let target = self.who.log_in(target)?;
        #[cfg(feature = "tls")]
        if let Some(trust) = self.tls.trust() {
            return Ok(target.tls(&trust)?);
        }
        Ok(target)
    }
}

#[cfg(feature = "users")]
impl Who {
    /// The target, as the user.
    fn log_in(&self, target: Target) -> Result<Target> {
        let Some(user) = &self.user else { return Ok(target) };
        let password = match &self.password_file {
            Some(path) => read_password(path)?,
            None => asking::ask(&format!("Password of {user}"))?,
        };
        Ok(target.login(user, &password)?)
    }
}

#[cfg(feature = "tls")]
impl Tls {
    /// Whom to trust, if TLS is spoken.
    fn trust(&self) -> Option<Trust> {
        let shown = self.client_cert.clone().zip(self.client_key.clone());
        if self.insecure {
            crate::common::say("--insecure: whoever answers is trusted, and may read and change everything");
        }
        let any = self.tls || self.insecure || self.ca.is_some() || shown.is_some();
        any.then(|| Trust { ca: self.ca.clone(), shown, anybody: self.insecure })
    }
}

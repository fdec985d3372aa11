//! Where a broker is, and how it is spoken with.

use super::{Error, login::Login};
use crate::config::Address;
#[cfg(feature = "tls")]
use crate::security::tls::Trust;
use std::sync::Arc;

/// Where a broker is, and how it is spoken with: `"localhost:9092".into()` is in the clear.
#[derive(Clone, Debug)]
pub struct Target {
    address: String,
    login: Option<Arc<Login>>,
    #[cfg(feature = "tls")]
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Target {
    /// The broker at `host:port`; without a port, at 9092.
    pub fn new(address: &str) -> Target {
        Target {
            address: address.into(),
            login: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// The same by TLS. What it trusts is read from its files now.
    #[cfg(feature = "tls")]
    pub fn tls(self, trust: &Trust) -> Result<Target, Error> {
        Ok(Target { tls: Some(trust.read().map_err(Error::Invalid)?), ..self })
    }

    /// The same as this user, whose password it shows each time it connects. It is not sent where others could read it: without TLS
    /// only to a broker on this machine.
    pub fn login(self, user: &str, password: &str) -> Result<Target, Error> {
        Ok(Target { login: Some(Login::new(user, password)?.into()), ..self })
    }

    /// Who it says it is, if it does.
    pub(super) fn known_as(&self) -> Option<&Login> {
        self.login.as_deref()
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The host and the port of its address.
    pub(super) fn parsed(&self) -> Result<Address, Error> {
        let address = &self.address;
        Address::to_connect_to(address)
            .map_err(|why| Error::Invalid(format!("'{address}' is no broker's address: {why}")))
    }

    /// The same with the port in its address.
    pub(super) fn whole(self) -> Result<Target, Error> {
        Ok(Target { address: self.parsed()?.to_string(), ..self })
    }

    /// How TLS is spoken, if it is.
    #[cfg(feature = "tls")]
    pub(super) fn config(&self) -> Option<&Arc<rustls::ClientConfig>> {
        self.tls.as_ref()
    }
}

impl From<&str> for Target {
    fn from(address: &str) -> Target {
        Target::new(address)
    }
}

impl From<&String> for Target {
    fn from(address: &String) -> Target {
        Target::new(address)
    }
}

impl From<&Target> for Target {
    fn from(target: &Target) -> Target {
        target.clone()
    }
}

//! The options that say who may speak with the broker, and how.

#[cfg(feature = "tls")]
pub(crate) mod tls;
pub(crate) mod users;

use crate::common::say;
use anyhow::Result;
use clap::Args;
use plainlog::{
    broker::Broker,
    config::{Address, Config, SecurityConfig},
};
use std::net::SocketAddr;

/// Who may speak with the broker, and how.
#[derive(Args)]
#[command(next_help_heading = "Security")]
#[group(id = "security")]
pub(crate) struct Options {
    #[command(flatten)]
    who: users::Options,
    #[cfg(feature = "tls")]
    #[command(flatten)]
    tls: tls::Options,
}

impl Options {
    /// What was asked for, for a broker that is `config` otherwise and listens there.
    pub(crate) fn read(&self, config: &Config, listen: &Address) -> Result<SecurityConfig, String> {
        Ok(SecurityConfig {
            #[cfg(feature = "tls")]
            tls: self.tls.read(config, listen)?,
            ..self.who.read()
        })
    }

    /// Makes what the first start makes.
    pub(crate) fn begin(&self, broker: &Broker) -> Result<()> {
        self.who.begin(broker)
    }

    /// Tells what whoever started the broker should know about who can reach it.
    pub(crate) fn tell(&self, config: &Config, address: &Address, bound: &[SocketAddr]) {
        if config.verbosity == 0 {
            return;
        }
        #[cfg(feature = "tls")]
        self.tls.tell_clients(config, address);
        #[cfg(feature = "tls")]
        let is_secret = config.security.tls.is_some();
        #[cfg(not(feature = "tls"))]
        let is_secret = false;
        let is_open = bound.iter().any(|address| !address.ip().is_loopback());
        match (is_secret, config.security.users) {
            (false, false) if is_open => say(
                "whoever reaches this port can read and write everything, and others can read along; --users and --tls-self-signed change that",
            ),
            (false, true) if is_open => {
                say("others can read along what goes over this port, which --tls-self-signed changes")
            }
            _ => {}
        }
    }
}

//! The options that say who may speak with the broker, and how.

#[cfg(feature = "tls")]
pub(crate) mod tls;

use crate::common::say;
use clap::Args;
use plainlog::config::{Address, Config, SecurityConfig};
use std::net::SocketAddr;

/// Who may speak with the broker, and how.
#[derive(Args)]
#[command(next_help_heading = "Security")]
#[group(id = "security")]
pub(crate) struct Options {
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
            ..SecurityConfig::default()
        })
    }
}

impl Options {
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
        if !is_secret && !config.security.users && bound.iter().any(|address| !address.ip().is_loopback()) {
            say(
                "whoever reaches this port can read and write everything, and others can read along, which --tls-self-signed ends",
            );
        }
    }
}

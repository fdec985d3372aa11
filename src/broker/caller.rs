//! The caller of a verb: who it is, from where, by which protocol and under which client id it asks.

use crate::security::Principal;
#[cfg(feature = "users")]
use crate::security::Proof;
use std::net::SocketAddr;

/// The user of the broker's own who may do everything.
pub const ADMIN: &str = "admin";

/// The caller of a verb. A [`Broker`](super::Broker) handle acts on behalf of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who it is.
    pub principal: Principal,
    /// How it speaks.
    pub protocol: Protocol,
    /// The other end of its connection; `None`: it is in this process.
    pub address: Option<SocketAddr>,
    /// What it calls itself; empty if it does not say.
    pub client_id: String,
}

/// How a caller speaks to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// By calls, in this process.
    Embedded,
    /// The text protocol.
    Text,
    /// Kafka's protocol.
    Kafka,
    /// HTTP.
    Http,
}

impl Protocol {
    /// Its name, in small letters.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Embedded => "embedded",
            Protocol::Text => "text",
            Protocol::Kafka => "kafka",
            Protocol::Http => "http",
        }
    }
}

impl Caller {
    /// The program that the broker runs in.
    pub fn embedded() -> Caller {
        Caller {
            principal: Principal::in_process(),
            protocol: Protocol::Embedded,
            address: None,
            client_id: "embedded".into(),
        }
    }

    /// The same, to do what it was permitted, whatever else it may: it goes on to be told of and counted by its name.
    #[cfg(feature = "users")]
    pub(crate) fn permitted(&self) -> Caller {
        let principal = Principal { proof: Proof::InProcess, ..self.principal.clone() };
        Caller { principal, ..self.clone() }
    }

    /// What to call it: the name that it gives itself, or its address.
    pub fn name(&self) -> String {
        match self.address {
            Some(address) if self.client_id.is_empty() => address.to_string(),
            _ => self.client_id.clone(),
        }
    }
}

//! Who a caller is, and how that is known.

use std::{fmt, sync::Arc, time::Instant};

/// Who asks: `User:alice`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its name, without `User:`.
    pub name: Arc<str>,
    /// How it is known. A name alone makes nobody a super user: certificates and tokens are issued by others.
    pub proof: Proof,
    /// Until when; `None`: for as long as it is connected.
    pub ends: Option<Instant>,
}

/// How it is known who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It runs in this process.
    InProcess,
    /// Not at all: nobody has logged in.
    Nothing,
    /// By the password of one of the broker's own users.
    Password,
    /// By a certificate.
    Certificate,
    /// By a token.
    Token,
}

impl Principal {
    /// Somebody of this name.
    pub fn new(name: &str, proof: Proof) -> Principal {
        Principal { name: name.into(), proof, ends: None }
    }

    /// Whether the time is over for which it is known.
    pub fn has_ended(&self) -> bool {
        self.ends.is_some_and(|ends| ends <= Instant::now())
    }

    /// The program that the broker runs in.
    pub fn in_process() -> Principal {
        Principal::new("ANONYMOUS", Proof::InProcess)
    }

    /// Whether it is one of the broker's own users.
    pub fn is_user(&self) -> bool {
        self.proof == Proof::Password
    }

    /// Whoever has not logged in; Kafka's name of it.
    pub fn anonymous() -> Principal {
        Principal::new("ANONYMOUS", Proof::Nothing)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User:{}", self.name)
    }
}

//! The server's side of SASL: what a client says, and what it is told. Bytes in, bytes out; nothing here knows a socket, waits, or
//! knows who there is.
//!
//! ```text
//! plain         \0 alice \0 password                        one message
//! scram         n,,n=alice,r=... ──► r=...,s=...,i=8192      a challenge: the salt
//!               c=biws,r=...,p=... ──► v=...                 both have proven that they know the password
//! oauthbearer   n,,^Aauth=Bearer eyJh...^A^A                 one message
//! ```

pub mod oauthbearer;
pub mod plain;
pub mod scram;

/// The ways to log in, by the names that clients ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// RFC 5802, RFC 7677.
    Scram(super::ScramMechanism),
    /// RFC 7628.
    OAuthBearer,
}

impl Mechanism {
    /// The mechanism of this name, which is taken as it stands.
    pub fn of_name(name: &str) -> Option<Mechanism> {
        match name {
            "PLAIN" => Some(Mechanism::Plain),
            "OAUTHBEARER" => Some(Mechanism::OAuthBearer),
            name => super::ScramMechanism::of_name(name).map(Mechanism::Scram),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::OAuthBearer => "OAUTHBEARER",
            Mechanism::Scram(mechanism) => mechanism.name(),
        }
    }
}

/// The name of a user as it stands in a message: a comma is `=2C` there, an equals sign `=3D`. `None`: it is none.
fn name(text: &str) -> Option<String> {
    let mut parts = text.split('=');
    let mut name = parts.next()?.to_string();
    for part in parts {
        let (escaped, rest) = part.split_at_checked(2)?;
        name.push(match escaped {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        name.push_str(rest);
    }
    (!name.is_empty() && !name.contains('\0')).then_some(name)
}

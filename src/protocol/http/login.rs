//! Who asks over HTTP: each request says so by itself, with a name and a password (Basic, RFC 7617) or with the cookie of a session.
//!
//! ```text
//! Authorization: Basic ...        programs       each request; a password that was right is not hashed again
//! Cookie: plainlog-9092=...       the console    a session of 12 hours, which POST /api/login opens
//! neither                         a client's certificate, loopback with --anonymous-loopback, or nobody: 401
//! ```
//!
//! - Nobody gets the console's files, `/health`, and what it takes to log in. All else is 401, whether it is there or not.
//! - Passwords and cookies are taken where nobody can read along, or with `--plaintext-passwords`.
//! - A browser is not asked for a password by `WWW-Authenticate`: it would send that with each request of any page from then on.
//!   The cookie does not leave the site (`SameSite=Strict`), no script sees it, and it bears the port, since cookies do not.

use super::{
    refusal::{Refusal, Stop},
    request::Head,
};
use crate::{
    backend::Backend,
    broker::{Broker, Caller, Code, Error},
    protocol::connection::Output,
    security::Principal,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::io;

/// The backend on behalf of whoever the request says; `None`: of whoever the connection is.
pub(super) fn who(backend: &Backend, head: &Head, output: &mut Output<'_>) -> Result<Option<Backend>, Stop> {
    let Some(broker) = with_users(backend) else { return Ok(None) };
    let principal = match head.header("authorization") {
        Some(said) => Some(basic(broker, said, output)?),
        None => session_token(broker, head, output)?.and_then(|token| broker.session(&token)),
    };
    broker.attach(output.counted(), principal.as_ref())?;
    let caller = |principal: Principal| Caller { principal, ..broker.caller().clone() };
    let found = principal.map(|principal| Backend::from(broker.on_behalf_of(caller(principal))));
    if found.as_ref().unwrap_or(backend).is_admitted() || is_for_everybody(head) {
        return Ok(found);
    }
    let why = "this broker asks who you are: curl -u USER, or log in to the console";
    Err(Refusal { status: 401, code: Code::SaslAuthenticationFailed, message: why.into() }.into())
}

/// The broker, where it asks who calls.
pub(super) fn with_users(backend: &Backend) -> Option<&Broker> {
    broker_of(backend).filter(|broker| broker.asks_who())
}

pub(super) fn broker_of(backend: &Backend) -> Option<&Broker> {
    match backend {
        Backend::Broker(broker) => Some(broker),
        #[cfg(feature = "cluster")]
        Backend::Cluster(_) => None,
    }
}

/// What is answered to nobody, too.
fn is_for_everybody(head: &Head) -> bool {
    let path: Vec<&str> = head.path.iter().map(String::as_str).collect();
    matches!(path[..], [""] | ["console", _] | ["health"] | ["api", "login" | "logout" | "me"])
}

fn basic(broker: &Broker, said: &str, output: &mut Output<'_>) -> Result<Principal, Stop> {
    let (scheme, credentials) = said.split_once(' ').unwrap_or((said, ""));
    if !scheme.eq_ignore_ascii_case("basic") {
        let message = "an Authorization is Basic here".into();
        return Err(Refusal { status: 401, code: Code::UnsupportedSaslMechanism, message }.into());
    }
    check_private(broker, output)?;
    let said = STANDARD.decode(credentials.trim()).map_err(|_| Error::LoginFailed)?;
    let colon = said.iter().position(|&byte| byte == b':').ok_or(Error::LoginFailed)?;
    let user = std::str::from_utf8(&said[..colon]).map_err(|_| Error::LoginFailed)?;
    // Guessing takes time.
    output.flush()?;
    Ok(broker.log_in(user, &said[colon + 1..])?)
}

/// Refuses a secret that others could read.
pub(super) fn check_private(broker: &Broker, output: &Output<'_>) -> Result<(), Refusal> {
    if output.takes_secrets(&broker.config().security) {
        return Ok(());
    }
    let message = "others can read a password on this line, which is now known to them; use https://, or come from the broker's machine";
    Err(Refusal::new(403, message))
}

/// The cookie's name: browsers send a host's cookies to all its ports.
pub(super) fn cookie_name(output: &Output<'_>) -> io::Result<String> {
    Ok(format!("plainlog-{}", output.local()?.port()))
}

/// The token of the request's session, if it shows one and others could not read it.
pub(super) fn session_token(broker: &Broker, head: &Head, output: &Output<'_>) -> io::Result<Option<String>> {
    if check_private(broker, output).is_err() {
        return Ok(None);
    }
    let name = cookie_name(output)?;
    let token = head.header("cookie").and_then(|cookies| {
        let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.find_map(|(known, token)| (known == name).then(|| token.to_owned()))
    });
    Ok(token)
}

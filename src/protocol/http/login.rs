//! Who asks over HTTP: each request says so by itself, with a name and a password (Basic, RFC 7617), with a token (Bearer, RFC 6750) or
//! with the cookie of a session.
//!
//! ```text
//! Authorization: Basic ...        programs       each request; a password that was right is not hashed again
//! Authorization: Bearer ...       the same, where tokens are taken
//! Cookie: plainlog-9092=...       the console    a session of 12 hours, which POST /api/login opens
//! neither                         a client's certificate, loopback with --anonymous-loopback, or nobody: 401
//! ```
//!
//! - Nobody gets the console's files, `/health`, what it takes to log in, and with `--metrics-open` `/metrics`. All else is 401, whether
//!   it is there or not.
//! - What goes on for long, such as a stream of events, ends with the session, the password or the token it was asked with.
//! - Passwords, tokens and cookies are taken where nobody can read along, or with `--plaintext-passwords`.
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
    security::{Mark, Principal},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{io, sync::Arc};

/// Who has shown in a request who it is.
pub(super) struct Somebody {
    /// The backend on its behalf.
    pub(super) backend: Backend,
    by: By,
}

/// What a request rests on for as long as it is answered, which may be hours.
enum By {
    /// The session of this token.
    Session(String),
    /// The password that this user had.
    Password { user: Arc<str>, mark: Option<Mark> },
    /// The token that named this one, until it ends.
    Token(Principal),
}

impl Somebody {
    /// An error once that is over.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let door = self.backend.door();
        let (lasts, why) = match &self.by {
            By::Token(principal) if principal.has_ended() => return Err(Error::TokenEnded.into()),
            By::Token(_) => return Ok(()),
            By::Session(token) => (door.session(token).is_some(), "the session has ended; log in again"),
            By::Password { user, mark } => {
                let lasts = mark.is_some() && door.password_mark(user) == *mark;
                (lasts, "the user has another password by now, or is gone")
            }
        };
        if lasts { Ok(()) } else { Err(nobody(why)) }
    }
}

fn nobody(why: &str) -> Refusal {
    Refusal { status: 401, code: Code::SaslAuthenticationFailed, message: why.into() }
}

/// Who the request says it is from; `None`: it is from whoever the connection is.
pub(super) fn who(backend: &Backend, head: &Head, output: &mut Output<'_>) -> Result<Option<Somebody>, Stop> {
    let Some(broker) = with_users(backend) else { return Ok(None) };
    let found = match head.header("authorization") {
        Some(said) => Some(authorized(broker, said, output)?),
        None => {
            session_token(broker, head, output)?.and_then(|token| Some((broker.session(&token)?, By::Session(token))))
        }
    };
    broker.attach(output.counted(), found.as_ref().map(|(principal, _)| principal))?;
    let somebody = found.map(|(principal, by)| {
        let caller = Caller { principal, ..broker.caller().clone() };
        Somebody { backend: backend.on_behalf_of(caller), by }
    });
    let asks = somebody.as_ref().map_or(backend, |somebody| &somebody.backend);
    if asks.is_admitted() || is_for_everybody(broker, head.path.iter().map(String::as_str)) {
        return Ok(somebody);
    }
    Err(nobody("this broker asks who you are: curl -u USER, or log in to the console").into())
}

/// The broker, where it asks who calls.
pub(super) fn with_users(backend: &Backend) -> Option<&Broker> {
    Some(backend.door()).filter(|broker| broker.asks_who())
}

/// Whether what stands at this path is answered to nobody, too.
pub(super) fn is_for_everybody<'p>(broker: &Broker, path: impl Iterator<Item = &'p str>) -> bool {
    match path.collect::<Vec<_>>()[..] {
        [""] | ["console", _] | ["health"] | ["api", "login" | "logout" | "me"] => true,
        ["metrics"] => broker.config().security.metrics_open,
        _ => false,
    }
}

fn authorized(broker: &Broker, said: &str, output: &mut Output<'_>) -> Result<(Principal, By), Stop> {
    let (scheme, credentials) = said.split_once(' ').unwrap_or((said, ""));
    let by_token = broker.takes_tokens() && is_bearer(scheme);
    if !by_token && !scheme.eq_ignore_ascii_case("basic") {
        let message =
            format!("an Authorization is Basic{} here", if broker.takes_tokens() { " or Bearer" } else { "" });
        return Err(Refusal { status: 401, code: Code::UnsupportedSaslMechanism, message }.into());
    }
    check_private(broker, output)?;
    if by_token {
        // Its signature is checked in turn, and who is refused waits.
        output.flush()?;
        let principal = broker.log_in_by_token(credentials.trim(), None)?;
        return Ok((principal.clone(), By::Token(principal)));
    }
    let said = STANDARD.decode(credentials.trim()).map_err(|_| Error::LoginFailed)?;
    let colon = said.iter().position(|&byte| byte == b':').ok_or(Error::LoginFailed)?;
    let user = std::str::from_utf8(&said[..colon]).map_err(|_| Error::LoginFailed)?;
    // Guessing takes time.
    output.flush()?;
    // Of a time before: where the password changes meanwhile, what is asked ends early rather than to rest on the new one.
    let mark = broker.password_mark(user);
    let principal = broker.log_in(user, &said[colon + 1..])?;
    let by = By::Password { user: principal.name.clone(), mark };
    Ok((principal, by))
}

fn is_bearer(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("bearer")
}

/// The headers of a 401: how a program may come, and to a browser nothing.
pub(super) fn challenge(backend: &Backend, head: &Head) -> String {
    if head.header("sec-fetch-mode").is_some() {
        return String::new();
    }
    let mut headers = String::from("WWW-Authenticate: Basic realm=\"plainlog\", charset=\"UTF-8\"\r\n");
    if backend.door().takes_tokens() {
        let came_so = head.header("authorization").and_then(|said| said.split(' ').next()).is_some_and(is_bearer);
        let why = if came_so { ", error=\"invalid_token\"" } else { "" };
        headers.push_str(&format!("WWW-Authenticate: Bearer realm=\"plainlog\"{why}\r\n"));
    }
    headers
}

/// Refuses a secret that others could read.
pub(super) fn check_private(broker: &Broker, output: &Output<'_>) -> Result<(), Refusal> {
    if output.takes_secrets(&broker.config().security) {
        return Ok(());
    }
    let message = "others can read a password or a token on this line, which is now known to them; use https://, or come from the broker's machine";
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

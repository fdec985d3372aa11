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
    api,
    exchange::Exchange,
    refusal::{Refusal, Stop},
    request::Head,
};
use crate::{
    backend::Backend,
    broker::{Broker, Caller, Code, Error, ResourceName},
    protocol::connection::Output,
    security::{Operation, Principal},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::io;

/// The largest body of a logout.
const LOGOUT_BYTES_MAX: usize = 1 << 10;

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
fn with_users(backend: &Backend) -> Option<&Broker> {
    broker_of(backend).filter(|broker| broker.asks_who())
}

fn broker_of(backend: &Backend) -> Option<&Broker> {
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

/// What a 401 says beside its body: to a program that it may come with a password, and to a browser nothing.
pub(super) fn challenge(head: &Head) -> &'static str {
    match head.header("sec-fetch-mode") {
        None => "WWW-Authenticate: Basic realm=\"plainlog\", charset=\"UTF-8\"\r\n",
        Some(_) => "",
    }
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
    if output.is_private() || broker.config().security.plaintext_passwords {
        return Ok(());
    }
    let message = "others can read a password on this line, which is now known to them; use https://, or come from the broker's machine";
    Err(Refusal::new(403, message))
}

/// The cookie's name: browsers send a host's cookies to all its ports.
fn cookie_name(output: &Output<'_>) -> io::Result<String> {
    Ok(format!("plainlog-{}", output.local()?.port()))
}

/// The token of the request's session, if it shows one and others could not read it.
fn session_token(broker: &Broker, head: &Head, output: &Output<'_>) -> io::Result<Option<String>> {
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

/// `POST /api/login`: `{"user":"alice","password":"..."}`
pub(super) fn open_session(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let (user, password) = api::users::name_and_password(exchange, "user")?;
    let broker = with_users(exchange.broker).ok_or_else(|| Refusal::invalid("this broker asks nobody who they are"))?;
    check_private(broker, exchange.output)?;
    // Guessing takes time.
    exchange.output.flush()?;
    let token = broker.open_session(&user, password.as_bytes())?;
    let token = token.ok_or_else(|| Refusal::new(503, "there are too many sessions"))?;
    let (name, lasts) = (cookie_name(exchange.output)?, crate::security::SESSION_LASTS.as_secs());
    let secure = if exchange.output.is_secure() { "; Secure" } else { "" };
    let cookie = format!(
        "Set-Cookie: {name}={token}; Path=/; Max-Age={lasts}; HttpOnly; SameSite=Strict{secure}\r\nCache-Control: no-store\r\n"
    );
    let answer = format!("{}\n", json!({ "principal": format!("User:{user}") }));
    exchange.answer(200, super::route::JSON, &cookie, answer.as_bytes())
}

/// `POST /api/logout`
pub(super) fn close_session(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    // There is nothing to be said in it.
    exchange.whole_body(LOGOUT_BYTES_MAX)?;
    if let Some(broker) = with_users(exchange.broker)
        && let Some(token) = session_token(broker, exchange.head, exchange.output)?
    {
        broker.close_session(&token);
    }
    let cookie = format!(
        "Set-Cookie: {}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict\r\nCache-Control: no-store\r\n",
        cookie_name(exchange.output)?
    );
    exchange.answer(200, super::route::JSON, &cookie, b"{}\n")
}

/// `GET /api/me`
pub(super) fn me(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let Some(broker) = broker_of(exchange.broker) else { return exchange.json(200, &json!({ "users": false })) };
    if !broker.is_admitted() {
        return exchange.json(200, &json!({ "users": true, "principal": null }));
    }
    let query = &exchange.head.query;
    let may = |resource| {
        let bits = broker.operations(resource);
        let names = Operation::ALL.iter().filter(|operation| bits & operation.bit() != 0);
        Value::from_iter(names.map(|operation| operation.name()))
    };
    let mut answer = json!({
        "users": broker.asks_who(),
        "principal": broker.caller().principal.to_string(),
        "session": session_token(broker, exchange.head, exchange.output)?.is_some() && broker.caller().principal.is_user(),
        "cluster": may(ResourceName::CLUSTER),
    });
    if let Some(topic) = query.text("topic")? {
        answer["topic"] = may(ResourceName::topic(topic));
    }
    if let Some(group) = query.text("group")? {
        answer["group"] = may(ResourceName::group(group));
    }
    exchange.json(200, &answer)
}

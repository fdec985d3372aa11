//! A browser's session: who it is, and how one begins and ends.

use super::users;
use crate::{
    broker::ResourceName,
    protocol::http::{
        exchange::Exchange,
        login::{check_private, cookie_name, session_token, with_users},
        refusal::{Refusal, Stop},
        route::JSON,
    },
    security::Operation,
};
use serde_json::{Value, json};

/// The largest body of a logout.
const LOGOUT_BYTES_MAX: usize = 1 << 10;

/// `POST /api/login`: `{"user":"alice","password":"..."}`
pub(in crate::protocol::http) fn open_session(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let (user, password) = users::name_and_password(exchange, "user")?;
    let broker = with_users(exchange.broker).ok_or_else(|| Refusal::invalid("this broker asks nobody who they are"))?;
    check_private(broker, exchange.output)?;
    // Guessing takes time.
    exchange.output.flush()?;
    let token = broker.open_session(&user, password.as_bytes())?;
    let token = token.ok_or_else(|| Refusal::new(503, "there are too many sessions"))?;
    let (name, lasts) = (cookie_name(exchange.output)?, crate::security::SESSION_LASTS.as_secs());
    let secure = if exchange.output.is_secure() { "; Secure" } else { "" };
    let cookie = format!("Set-Cookie: {name}={token}; Path=/; Max-Age={lasts}; HttpOnly; SameSite=Strict{secure}\r\n");
    let answer = format!("{}\n", json!({ "principal": format!("User:{user}") }));
    exchange.answer(200, JSON, &cookie, answer.as_bytes())
}

/// `POST /api/logout`
pub(in crate::protocol::http) fn close_session(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    // There is nothing to be said in it.
    exchange.whole_body(LOGOUT_BYTES_MAX)?;
    if let Some(broker) = with_users(exchange.broker)
        && let Some(token) = session_token(broker, exchange.head, exchange.output)?
    {
        broker.close_session(&token);
    }
    let cookie =
        format!("Set-Cookie: {}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict\r\n", cookie_name(exchange.output)?);
    exchange.answer(200, JSON, &cookie, b"{}\n")
}

/// `GET /api/me`
pub(in crate::protocol::http) fn me(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let broker = exchange.broker.door();
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

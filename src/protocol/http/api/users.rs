//! The broker's own users: listing, making and deleting them, and their passwords.

use super::{OBJECT_BYTES_MAX, Object, text};
use crate::{
    broker::{Broker, User},
    protocol::http::{
        exchange::Exchange,
        login::check_private,
        refusal::{Refusal, Stop},
    },
};
use serde_json::{Value, json};

/// `GET /api/users`
pub(in crate::protocol::http) fn list(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let one = |user: User| {
        let mechanisms = Value::from_iter(user.mechanisms.iter().map(|mechanism| mechanism.name()));
        json!({ "name": user.name, "mechanisms": mechanisms, "super": user.is_super })
    };
    let users = Value::from_iter(broker(exchange)?.users()?.into_iter().map(one));
    exchange.json(200, &json!({ "users": users }))
}

/// `POST /api/users`: `{"name":"alice","password":"..."}`
pub(in crate::protocol::http) fn create(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let (name, password) = name_and_password(exchange, "name")?;
    let broker = broker(exchange)?;
    check_private(broker, exchange.output)?;
    broker.add_user(&name, &password)?;
    exchange.json(201, &json!({ "name": name }))
}

/// `PATCH /api/users/{user}`: `{"password":"..."}`
pub(in crate::protocol::http) fn alter(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let mut body = Object::of(exchange.json_body(OBJECT_BYTES_MAX)?)?;
    let password = body.expect("password", "a text", text)?;
    body.end()?;
    let (name, broker) = (&exchange.parameters[0], broker(exchange)?);
    check_private(broker, exchange.output)?;
    broker.set_password(name, &password)?;
    let answer = json!({ "name": name });
    exchange.json(200, &answer)
}

/// `DELETE /api/users/{user}`
pub(in crate::protocol::http) fn delete(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let name = &exchange.parameters[0];
    let rules = broker(exchange)?.delete_user(name)?;
    let answer = json!({ "name": name, "rules": rules });
    exchange.json(200, &answer)
}

/// The largest body with a name and a password, though each byte were an escape of six: strangers send them, and what is read of
/// JSON takes many times its bytes.
const LOGIN_BYTES_MAX: usize = 16 << 10;

/// The two members of a body. No error shows what stands there.
pub(in crate::protocol::http) fn name_and_password(
    exchange: &mut Exchange<'_, '_>,
    name: &str,
) -> Result<(String, String), Stop> {
    let mut body = Object::of(exchange.json_body(LOGIN_BYTES_MAX)?)?;
    let found = (body.expect(name, "a user's name", text)?, body.expect("password", "a text", text)?);
    body.end()?;
    Ok(found)
}

/// The broker, if it has users.
fn broker<'x>(exchange: &Exchange<'x, '_>) -> Result<&'x Broker, Refusal> {
    exchange.broker.door().with_users().map_err(|why| Refusal::new(409, why))
}

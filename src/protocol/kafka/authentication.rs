//! How a client says who it is: SaslHandshake, SaslAuthenticate, and the delegation tokens that stand for a login.
//!
//! Where nobody logs in, each call is answered as by a Kafka whose listener is PLAINTEXT: SASL is out of place. Tokens there are none.

use super::{
    Call, Code, Stop, login, tell,
    wire::{self, Reader, Writer},
};

/// Whom Kafka names where nobody has logged in.
const NOBODY: (&str, &str) = ("User", "ANONYMOUS");
/// A time where there is no token.
const NO_TIME: i64 = -1;

/// SaslHandshake (key 17).
pub(super) fn sasl_handshake(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let mechanism = r.string("mechanism")?;
    if call.broker.asks_who() {
        return login::handshake(call, mechanism);
    }
    tell(call.explained, || "to log in, which nobody does here".into());
    let mut w = call.respond();
    w.i16("error_code", Code::IllegalSaslState.into());
    w.empty_array("mechanisms");
    Ok(())
}

/// SaslAuthenticate (key 36).
pub(super) fn sasl_authenticate(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let message = r.bytes("auth_bytes")?;
    r.tags()?;
    if call.session.login.is_chosen() {
        return login::authenticate(call, message);
    }
    tell(call.explained, || "to log in, without saying how".into());
    let why = match call.broker.asks_who() {
        true => "a SaslHandshake comes first",
        false => "nobody logs in to this broker; use security.protocol=PLAINTEXT",
    };
    login::write(call, Code::IllegalSaslState, Some(why), &[], 0);
    Ok(())
}

/// CreateDelegationToken (key 38).
pub(super) fn create_delegation_token(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    if r.version >= 3 {
        r.nullable_string("owner_principal_type")?;
        r.nullable_string("owner_principal_name")?;
    }
    r.array("renewers", principal)?;
    r.i64("max_lifetime_ms")?;
    r.tags()?;
    let mut w = refuse(call);
    w.string("principal_type", NOBODY.0);
    w.string("principal_name", NOBODY.1);
    if w.version >= 3 {
        w.string("token_requester_principal_type", NOBODY.0);
        w.string("token_requester_principal_name", NOBODY.1);
    }
    for time in ["issue_timestamp_ms", "expiry_timestamp_ms", "max_timestamp_ms"] {
        w.i64(time, NO_TIME);
    }
    w.string("token_id", "");
    w.bytes("hmac", &[]);
    w.throttle_time();
    w.tags();
    Ok(())
}

/// RenewDelegationToken (key 39).
pub(super) fn renew_delegation_token(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    expiry(call, r, "renew_period_ms")
}

/// ExpireDelegationToken (key 40).
pub(super) fn expire_delegation_token(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    expiry(call, r, "expiry_time_period_ms")
}

fn expiry(call: &mut Call<'_, '_>, r: &mut Reader<'_>, period: &'static str) -> Result<(), Stop> {
    r.bytes("hmac")?;
    r.i64(period)?;
    r.tags()?;
    let asks_who = call.broker.asks_who();
    let mut w = refuse(call);
    w.i64("expiry_timestamp_ms", if asks_who { 0 } else { NO_TIME });
    w.throttle_time();
    w.tags();
    Ok(())
}

/// DescribeDelegationToken (key 41).
pub(super) fn describe_delegation_token(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    r.nullable_array("owners", principal)?;
    r.tags()?;
    let mut w = refuse(call);
    w.empty_array("tokens");
    w.throttle_time();
    w.tags();
    Ok(())
}

fn principal(r: &mut Reader<'_>) -> wire::Result<()> {
    r.string("principal_type")?;
    r.string("principal_name")?;
    r.tags()
}

/// Begins the answer to any call about tokens.
fn refuse<'w>(call: &'w mut Call<'_, '_>) -> Writer<'w> {
    tell(call.explained, || "about tokens, which are for clients that log in".into());
    // As in Kafka: where nobody logs in nobody gets one, and where somebody does none are given out.
    let code = match call.broker.asks_who() {
        true => Code::DelegationTokenAuthDisabled,
        false => Code::DelegationTokenRequestNotAllowed,
    };
    let mut w = call.respond();
    w.i16("error_code", code.into());
    w
}

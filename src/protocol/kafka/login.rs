//! Where a connection stands with its login (KIP-43, KIP-152, KIP-368).
//!
//! ```text
//!            ApiVersions, once       SaslHandshake                SaslAuthenticate, or raw tokens
//! stranger ─────────────────► stranger ─────► chose a mechanism ──────────────────────────────► logged in
//!                                                    ▲                                              │
//!                                                    └──────────────── SaslHandshake ───────────────┘ (again)
//! ```
//!
//! What comes at another place is closed without a word, as in Kafka, but for ApiVersions and Metadata after a handshake: those get
//! ILLEGAL_SASL_STATE first. After a handshake of version 0 tokens follow as they are, each with its length before it.
//!
//! A login that has ended leaves its connection open: only a handshake is answered there. One by a token ends with the token.

use super::{API_VERSIONS, Call, Code, METADATA, SASL_AUTHENTICATE, SASL_HANDSHAKE, Stop, tell};
use crate::{
    broker::{self, Broker, Error, ScramLogin},
    metrics::Connection,
    protocol::connection::Output,
    security::{
        Principal, ScramMechanism,
        sasl::{Mechanism, oauthbearer, plain},
    },
};
use std::time::{Duration, Instant};

/// The largest frame of somebody who has not logged in.
pub(super) const FRAME_BYTES_MAX: i32 = 64 << 10;
/// A login is not to begin anew more often.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Where a connection stands with its login.
#[derive(Debug, Default)]
pub(super) struct Login {
    stage: Stage,
    known: Option<Known>,
    /// Whether ApiVersions was answered.
    is_greeted: bool,
    /// Whether the connection ends when what is written is sent.
    pub(super) is_over: bool,
}

#[derive(Debug, Default)]
enum Stage {
    /// No login goes on.
    #[default]
    Idle,
    /// A mechanism was chosen, and the client is to prove who it is.
    Chosen { mechanism: Mechanism, step: Step, raw: bool },
    /// The mechanism is not the one of the login before: whatever comes ends the connection.
    Doomed,
}

#[derive(Debug)]
enum Step {
    First,
    Challenged(Box<ScramLogin>),
    /// It was told that its token is not taken, and is to say that it has read that (RFC 7628, section 3.2.3).
    Told,
}

/// Who has logged in.
#[derive(Debug)]
struct Known {
    principal: Principal,
    mechanism: Mechanism,
    /// Until when.
    ends: Option<Instant>,
    /// When it last began to log in again.
    again: Option<Instant>,
}

/// What becomes of a message.
enum Said {
    /// The client is to answer this.
    Challenge(Vec<u8>),
    /// The client is in. What it is told, and for how long that holds, in ms; 0: for ever.
    In { last: Vec<u8>, lifetime_ms: i64 },
    /// It is not who it says.
    Refused(Error),
}

impl Login {
    /// Who has logged in.
    pub(super) fn principal(&self) -> Option<&Principal> {
        self.known.as_ref().map(|known| &known.principal)
    }

    /// Whether nobody knows who the client is, where that counts.
    pub(super) fn is_stranger(&self, broker: &Broker) -> bool {
        self.known.is_none() && !broker.is_admitted()
    }

    /// Whether what comes is no request.
    pub(super) fn takes_tokens(&self) -> bool {
        matches!(self.stage, Stage::Chosen { raw: true, .. })
    }

    /// Whether a mechanism was chosen, and nothing but a proof is due.
    pub(super) fn is_chosen(&self) -> bool {
        matches!(self.stage, Stage::Chosen { .. })
    }

    /// ApiVersions was answered.
    pub(super) fn greeted(&mut self) {
        self.is_greeted = true;
    }

    /// Whether a request is in its place.
    pub(super) fn check(&mut self, broker: &Broker, key: i16) -> Result<(), Stop> {
        match &self.stage {
            Stage::Doomed => Err(Stop::Stranger),
            Stage::Chosen { .. } if key == SASL_AUTHENTICATE => Ok(()),
            Stage::Chosen { .. } => {
                self.is_over = true;
                let is_answered = [API_VERSIONS, METADATA, SASL_HANDSHAKE].contains(&key);
                if is_answered { Ok(()) } else { Err(Stop::Stranger) }
            }
            Stage::Idle => {
                let is_in = match &self.known {
                    Some(known) => known.ends.is_none_or(|ends| Instant::now() < ends),
                    None => broker.is_admitted() || key == API_VERSIONS && !self.is_greeted,
                };
                if is_in || key == SASL_HANDSHAKE { Ok(()) } else { Err(Stop::Stranger) }
            }
        }
    }

    /// Takes a message of the client.
    fn step(&mut self, broker: &Broker, connection: &Connection, message: &[u8]) -> Said {
        self.prove(broker, connection, message).unwrap_or_else(Said::Refused)
    }

    fn prove(&mut self, broker: &Broker, connection: &Connection, message: &[u8]) -> broker::Result<Said> {
        let Stage::Chosen { mechanism, step, raw } = std::mem::take(&mut self.stage) else {
            return Err(Error::LoginFailed);
        };
        let mut wait_for = |step| self.stage = Stage::Chosen { mechanism, step, raw };
        let (mut principal, last) = match (mechanism, step) {
            (Mechanism::Plain, _) => {
                let said = plain::parse(message).ok_or(Error::LoginFailed)?;
                (broker.log_in(said.user, said.password)?, Vec::new())
            }
            (Mechanism::Scram(of), Step::First) => {
                let (challenge, login) = broker.begin_scram(of, message)?;
                wait_for(Step::Challenged(login.into()));
                return Ok(Said::Challenge(challenge));
            }
            (Mechanism::Scram(_), Step::Challenged(login)) => {
                let broker::Proven { principal, proof } = broker.finish_scram(*login, message)?;
                (principal, proof)
            }
            (Mechanism::OAuthBearer, Step::First) => {
                let said = oauthbearer::parse(message).ok_or(Error::TokenRefused)?;
                match broker.log_in_by_token(said.token, said.acts_as.as_deref()) {
                    Err(Error::TokenRefused) => {
                        wait_for(Step::Told);
                        return Ok(Said::Challenge(oauthbearer::INVALID.into()));
                    }
                    principal => (principal?, Vec::new()),
                }
            }
            (Mechanism::OAuthBearer, _) => return Err(Error::TokenRefused),
            (Mechanism::Scram(_), Step::Told) => return Err(Error::LoginFailed),
        };
        // Here it is the login that ends: whoever logs in again goes on with what it began.
        let now = Instant::now();
        let again_by = broker.config().security.reauth.and_then(|most| now.checked_add(most));
        let ends = principal.ends.take().into_iter().chain(again_by).min();
        // Whoever logs in again stays who it is.
        if self.known.as_ref().is_some_and(|known| known.principal != principal) {
            return Err(Error::LoginFailed);
        }
        broker.attach(connection, Some(&principal))?;
        let again = self.known.take().and_then(|known| known.again);
        self.known = Some(Known { principal, mechanism, ends, again });
        // 0 would be for ever.
        let lifetime_ms = ends.map_or(0, |ends| (ends - now).as_millis().max(1));
        Ok(Said::In { last, lifetime_ms: i64::try_from(lifetime_ms).unwrap_or(i64::MAX) })
    }
}

/// The mechanisms that a client may choose.
fn offered(broker: &Broker, output: &Output<'_>) -> Vec<Mechanism> {
    let scram = ScramMechanism::ALL.map(Mechanism::Scram);
    // One that shows a secret is not even named where others could read it.
    let is_private = output.takes_secrets(&broker.config().security);
    let plain = is_private.then_some(Mechanism::Plain);
    let by_token = (is_private && broker.takes_tokens()).then_some(Mechanism::OAuthBearer);
    plain.into_iter().chain(scram).chain(by_token).collect()
}

/// SaslHandshake, where clients log in.
pub(super) fn handshake(call: &mut Call<'_, '_>, mechanism: &str) -> Result<(), Stop> {
    let offered = offered(call.broker, call.output);
    let chosen = Mechanism::of_name(mechanism).filter(|mechanism| offered.contains(mechanism));
    let raw = call.version == 0;
    let login = &mut call.session.login;
    let (now, mut code) = (Instant::now(), Code::None);
    let is_too_soon =
        |known: &Known| known.again.is_some_and(|again| now.saturating_duration_since(again) < AGAIN_AFTER);
    if login.is_over || login.known.as_ref().is_some_and(is_too_soon) {
        code = Code::IllegalSaslState;
    } else if let Some(mechanism) = chosen {
        let known = login.known.as_mut();
        let is_another = known.as_ref().is_some_and(|known| known.mechanism != mechanism);
        known.into_iter().for_each(|known| known.again = Some(now));
        login.stage = if is_another { Stage::Doomed } else { Stage::Chosen { mechanism, step: Step::First, raw } };
    } else if login.known.is_some() {
        return Err(Stop::Stranger);
    } else {
        code = Code::UnsupportedSaslMechanism;
        login.is_over = true;
    }
    tell(call.explained, || match code {
        Code::None => format!("to log in by {mechanism}"),
        code => format!("to log in by {mechanism}, refused with {code:?}"),
    });
    let mut w = call.respond();
    w.i16("error_code", code.into());
    let named = if code == Code::IllegalSaslState { &[][..] } else { &offered };
    w.array("mechanisms", named.iter(), |w, mechanism| w.string(super::wire::ITEM, mechanism.name()));
    Ok(())
}

/// SaslAuthenticate, where clients log in and one has chosen how.
pub(super) fn authenticate(call: &mut Call<'_, '_>, message: &[u8]) -> Result<(), Stop> {
    // Guessing takes time.
    call.output.flush()?;
    let said = call.session.login.step(call.broker, call.output.counted(), message);
    let mut why = None;
    let (code, bytes, lifetime_ms) = match said {
        Said::Challenge(challenge) => (Code::None, challenge, 0),
        Said::In { last, lifetime_ms } => (Code::None, last, lifetime_ms),
        Said::Refused(error) => {
            call.session.login.is_over = true;
            why = Some(error.to_string());
            (Code::SaslAuthenticationFailed, Vec::new(), 0)
        }
    };
    tell(call.explained, || match (code, call.session.login.principal()) {
        (Code::None, Some(principal)) => format!("who it is: {principal}"),
        (Code::None, None) => "who it is, and is told how to prove that".into(),
        _ => "who it is, and does not prove that".into(),
    });
    write(call, code, why.as_deref(), &bytes, lifetime_ms);
    Ok(())
}

/// Writes the answer to SaslAuthenticate.
pub(super) fn write(call: &mut Call<'_, '_>, code: Code, why: Option<&str>, bytes: &[u8], lifetime_ms: i64) {
    let mut w = call.respond();
    w.i16("error_code", code.into());
    w.nullable_string("error_message", why);
    w.bytes("auth_bytes", bytes);
    if w.version >= 1 {
        w.i64("session_lifetime_ms", lifetime_ms);
    }
    w.tags();
}

/// Takes a token that is no request, and answers with another.
pub(super) fn token(broker: &Broker, login: &mut Login, output: &mut Output<'_>, token: &[u8]) -> Result<(), Stop> {
    output.flush()?;
    let answer = match login.step(broker, output.counted(), token) {
        Said::Challenge(answer) | Said::In { last: answer, .. } => answer,
        Said::Refused(_) => return Err(Stop::Stranger),
    };
    output.bytes.extend_from_slice(&(answer.len() as i32).to_be_bytes());
    output.bytes.extend_from_slice(&answer);
    Ok(())
}

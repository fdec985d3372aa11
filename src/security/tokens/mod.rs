//! Tokens: JWTs (RFC 7519) by which somebody else, the issuer, says who a caller is, and until when.
//!
//! ```text
//! eyJhbGciOi... . eyJzdWIiOi... . c2lnbmF0dX...
//! header          claims          signature        header: alg, kid        claims: sub, aud, iss, exp, nbf
//!     │               │               └ over the other two as they stand, by the key `kid`, with that key's algorithm
//!     │               └ for our audience, by our issuer, now
//!     └ names a key of the set, and its algorithm; nothing else in it counts
//! ```
//!
//! - Whoever shows a token that is refused is told no reason; the audit tells the [`Fault`].
//! - The set of keys is read again when its file changes. A bad new one keeps the old; a key that went is asked no more.
//! - A token that was good is remembered by its hash, so that one that comes with each request is not checked each time. It is
//!   forgotten when it ends, and when there are other keys.
//!
//! What is asked here is a page of code, on `serde_json` and `ring`, which are there anyway. The crate `jsonwebtoken` would bring a
//! provider of algorithms for `ring` that is as long, or, where it has its own, a parser of PEM and ASN.1 for keys that are JSON here;
//! and it refuses a whole set for one key of a kind that it does not know.

mod keys;
#[cfg(test)]
pub mod testing;

use super::{password, stamp::Stamp};
use crate::config::TokensConfig;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use keys::Keys;
use ring::digest;
use serde_json::Value;
use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, Read},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

/// The longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// The largest set of keys.
const SET_BYTES_MAX: u64 = 1 << 20;
/// How many tokens are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// Which tokens are taken.
#[derive(Debug)]
pub struct Tokens {
    config: TokensConfig,
    current: Mutex<Current>,
}

/// What was read of the file, and what goes by it.
#[derive(Debug)]
struct Current {
    keys: Arc<Keys>,
    stamp: Option<Stamp>,
    remembered: HashMap<[u8; 32], Claims>,
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Whom it names.
    pub subject: Arc<str>,
    /// When it ends, in ms since 1970-01-01 UTC.
    pub ends_ms: i64,
}

/// Why a token is not taken, and whom it names, if its signature is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedToken {
    /// Why.
    pub fault: Fault,
    /// Whom it names.
    pub subject: Option<String>,
}

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is longer than any that is looked at.
    TooLong,
    /// It is no JWT with a signature, or asks for what is not known here.
    Malformed,
    /// Its algorithm is none of those that are taken, or not that of its key.
    Algorithm,
    /// It does not name its key.
    NoKey,
    /// The key that it names is not in the set, or no more.
    UnknownKey,
    /// Its signature is not that of the key.
    Signature,
    /// It does not say until when it holds.
    NoEnd,
    /// It has ended.
    Expired,
    /// It does not hold yet.
    NotYet,
    /// It is for somebody else.
    Audience,
    /// Somebody else has issued it.
    Issuer,
    /// It names nobody, or nobody who can be called so.
    Subject,
    /// Whoever shows it wants to act as another.
    ActsAsAnother,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::TooLong => "too-long",
            Fault::Malformed => "malformed",
            Fault::Algorithm => "wrong-algorithm",
            Fault::NoKey => "no-key-id",
            Fault::UnknownKey => "unknown-key",
            Fault::Signature => "wrong-signature",
            Fault::NoEnd => "no-end",
            Fault::Expired => "expired",
            Fault::NotYet => "not-yet-valid",
            Fault::Audience => "wrong-audience",
            Fault::Issuer => "wrong-issuer",
            Fault::Subject => "no-subject",
            Fault::ActsAsAnother => "acts-as-another",
        })
    }
}

impl From<Fault> for RefusedToken {
    fn from(fault: Fault) -> RefusedToken {
        RefusedToken { fault, subject: None }
    }
}

impl Tokens {
    /// Reads the keys; an error says what is wrong with them.
    pub fn open(config: TokensConfig) -> Result<Tokens, String> {
        let stamp = Stamp::of(&config.keys);
        let keys = Arc::new(read(&config.keys)?);
        Ok(Tokens { config, current: Mutex::new(Current { keys, stamp, remembered: HashMap::new() }) })
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().expect("no panic while keys are read")
    }

    /// Reads the keys again if their file is not the one that was read last, or in any case if it `must`; how many there are. `None`: it
    /// did not; an error says why those that were read before stay.
    pub fn look(&self, must: bool) -> Option<Result<usize, String>> {
        let mut current = self.current();
        let stamp = Stamp::of(&self.config.keys);
        if stamp == current.stamp && !must {
            return None;
        }
        // What is bad is told once, not at each login.
        current.stamp = stamp;
        let read = read(&self.config.keys);
        Some(read.map(|keys| {
            let count = keys.count();
            (current.keys, current.remembered) = (Arc::new(keys), HashMap::new());
            count
        }))
    }

    /// What a token says that was good before, and is.
    pub fn remembered(&self, token: &str, now_ms: i64) -> Option<Claims> {
        let (mut current, hash) = (self.current(), hash(token));
        let claims = current.remembered.get(&hash)?.clone();
        if claims.ends_ms <= now_ms {
            current.remembered.remove(&hash);
            return None;
        }
        Some(claims)
    }

    /// What a token says, if it is good at this time, in ms since 1970-01-01 UTC.
    pub fn check(&self, token: &str, now_ms: i64) -> Result<Claims, RefusedToken> {
        let keys = self.current().keys.clone();
        let signed = signed(&keys, token)?;
        let claims = self.claims(&signed, now_ms).map_err(|fault| {
            let subject = subject(&signed).map(str::to_string);
            RefusedToken { fault, subject }
        })?;
        let mut current = self.current();
        // Of keys that others have replaced meanwhile nothing is kept.
        if Arc::ptr_eq(&current.keys, &keys) {
            if current.remembered.len() >= REMEMBERED_MAX {
                current.remembered.clear();
            }
            current.remembered.insert(hash(token), claims.clone());
        }
        Ok(claims)
    }

    fn claims(&self, signed: &Value, now_ms: i64) -> Result<Claims, Fault> {
        let text = |name: &str| signed.get(name).and_then(Value::as_str);
        if text("iss") != Some(&*self.config.issuer) {
            return Err(Fault::Issuer);
        }
        let is_ours = |audience: &Value| audience == self.config.audience.as_str();
        let is_for_us = signed.get("aud").is_some_and(|audience| match audience {
            Value::Array(several) => several.iter().any(is_ours),
            one => is_ours(one),
        });
        if !is_for_us {
            return Err(Fault::Audience);
        }
        let ends_ms = signed.get("exp").and_then(ms).ok_or(Fault::NoEnd)?;
        if ends_ms <= now_ms {
            return Err(Fault::Expired);
        }
        let begins_ms = signed.get("nbf").map(|begins| ms(begins).ok_or(Fault::Malformed)).transpose()?;
        if begins_ms.is_some_and(|begins_ms| begins_ms > now_ms) {
            return Err(Fault::NotYet);
        }
        Ok(Claims { subject: subject(signed).ok_or(Fault::Subject)?.into(), ends_ms })
    }
}

/// The claims of a token whose signature is good.
fn signed(keys: &Keys, token: &str) -> Result<Value, Fault> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Fault::TooLong);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(Fault::Malformed)?;
    let (header, claims) = message.split_once('.').ok_or(Fault::Malformed)?;
    let header = object(header)?;
    let text = |name: &str| header.get(name).and_then(Value::as_str);
    let algorithm = text("alg").ok_or(Fault::Malformed)?;
    // What has to be understood, and is not (RFC 7515, section 4.1.11).
    if header.get("crit").is_some() {
        return Err(Fault::Malformed);
    }
    if !keys::is_known(algorithm) {
        return Err(Fault::Algorithm);
    }
    let key = keys.find(text("kid").ok_or(Fault::NoKey)?).ok_or(Fault::UnknownKey)?;
    if key.algorithm != algorithm {
        return Err(Fault::Algorithm);
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Fault::Malformed)?;
    if !key.has_signed(message.as_bytes(), &signature) {
        return Err(Fault::Signature);
    }
    object(claims)
}

/// A part of a token.
fn object(part: &str) -> Result<Value, Fault> {
    let text = URL_SAFE_NO_PAD.decode(part).map_err(|_| Fault::Malformed)?;
    serde_json::from_slice(&text).ok().filter(Value::is_object).ok_or(Fault::Malformed)
}

/// Whom claims name.
fn subject(signed: &Value) -> Option<&str> {
    signed.get("sub").and_then(Value::as_str).filter(|name| password::check_name(name).is_ok())
}

/// A time of a claim, in ms. It is in seconds, and need not be whole (RFC 7519, section 2).
fn ms(claim: &Value) -> Option<i64> {
    let whole = claim.as_i64().map(|seconds| seconds.saturating_mul(1000));
    whole.or_else(|| claim.as_f64().map(|seconds| (seconds * 1000.0) as i64))
}

fn hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    hash
}

fn read(file: &Path) -> Result<Keys, String> {
    let wrong = |why: &dyn fmt::Display| format!("the keys {}: {why}", file.display());
    let mut text = Vec::new();
    let opened: io::Result<File> = File::open(file);
    opened.and_then(|file| file.take(SET_BYTES_MAX + 1).read_to_end(&mut text)).map_err(|error| wrong(&error))?;
    if text.len() as u64 > SET_BYTES_MAX {
        return Err(wrong(&format_args!("the file has more than {SET_BYTES_MAX} bytes")));
    }
    Keys::read(&text).map_err(|why| wrong(&why))
}

#[cfg(test)]
mod tests;

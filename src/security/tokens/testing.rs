//! An issuer of tokens, for tests.
#![allow(clippy::unwrap_used, dead_code, reason = "a test ends where something is wrong, and uses a part")]

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
        RSA_PSS_SHA512, RsaKeyPair,
    },
};
use serde_json::{Value, json};
use std::{
    fs,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

/// Whom the tokens are for.
pub const AUDIENCE: &str = "plainlog";
/// Who issues them.
pub const ISSUER: &str = "https://issuer.example";

/// Somebody who issues tokens, with a key of its own.
pub struct Issuer {
    id: String,
    algorithm: &'static str,
    signs: Signs,
}

enum Signs {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl Issuer {
    /// One with a new key for ES256.
    pub fn new(id: &str) -> Issuer {
        Issuer::ecdsa(id, "ES256", &ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    /// One with a new key for ES384.
    pub fn es384(id: &str) -> Issuer {
        Issuer::ecdsa(id, "ES384", &ECDSA_P384_SHA384_FIXED_SIGNING)
    }

    fn ecdsa(id: &str, algorithm: &'static str, of: &'static EcdsaSigningAlgorithm) -> Issuer {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(of, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(of, made.as_ref(), &random).unwrap();
        Issuer { id: id.into(), algorithm, signs: Signs::Ecdsa(key) }
    }

    /// One with a new key for EdDSA.
    pub fn ed25519(id: &str) -> Issuer {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap();
        Issuer { id: id.into(), algorithm: "EdDSA", signs: Signs::Ed25519(key) }
    }

    /// One with the RSA key of all tests.
    pub fn rsa(id: &str, algorithm: &'static str) -> Issuer {
        let body: String = include_str!("testing.pem").lines().filter(|line| !line.starts_with('-')).collect();
        let key = RsaKeyPair::from_pkcs8(&STANDARD.decode(body).unwrap()).unwrap();
        Issuer { id: id.into(), algorithm, signs: Signs::Rsa(key) }
    }

    /// The public key, as a set has it.
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.signs {
            Signs::Ecdsa(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(key.public_key().as_ref().len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "crv": curve, "x": text(x), "y": text(y) })
            }
            Signs::Ed25519(key) => json!({ "kty": "OKP", "crv": "Ed25519", "x": text(key.public_key().as_ref()) }),
            Signs::Rsa(key) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({ "kty": "RSA", "n": text(&public.n), "e": text(&public.e) })
            }
        };
        (jwk["kid"], jwk["alg"], jwk["use"]) = (json!(self.id), json!(self.algorithm), json!("sig"));
        jwk
    }

    /// Signs these claims under this header, whatever they say.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.signature(message.as_bytes())))
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.signs {
            Signs::Ecdsa(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Signs::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            Signs::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let signed = match self.algorithm {
                    "RS256" => key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature),
                    "RS384" => key.sign(&RSA_PKCS1_SHA384, &random, message, &mut signature),
                    "RS512" => key.sign(&RSA_PKCS1_SHA512, &random, message, &mut signature),
                    "PS256" => key.sign(&RSA_PSS_SHA256, &random, message, &mut signature),
                    "PS384" => key.sign(&RSA_PSS_SHA384, &random, message, &mut signature),
                    _ => key.sign(&RSA_PSS_SHA512, &random, message, &mut signature),
                };
                signed.unwrap();
                signature
            }
        }
    }

    /// The header of its tokens.
    pub fn header(&self) -> Value {
        json!({ "typ": "JWT", "alg": self.algorithm, "kid": self.id })
    }

    /// A token that holds from now on for so many seconds.
    pub fn token_for(&self, subject: &str, seconds: i64) -> String {
        self.sign(&self.header(), &claims(subject, now_s() + seconds))
    }

    /// A token that holds for an hour.
    pub fn token(&self, subject: &str) -> String {
        self.token_for(subject, 3600)
    }
}

/// What a good token says.
pub fn claims(subject: &str, ends_s: i64) -> Value {
    json!({ "sub": subject, "aud": AUDIENCE, "iss": ISSUER, "exp": ends_s })
}

/// Seconds since 1970-01-01 UTC.
pub fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// A file of keys, which goes.
pub struct KeyFile(pub PathBuf);

impl KeyFile {
    /// One with the keys of these issuers; `name` tells it from those of other tests.
    pub fn new(name: &str, of: &[&Issuer]) -> KeyFile {
        let file = KeyFile(std::env::temp_dir().join(format!("plainlog-keys-{name}-{}", std::process::id())));
        file.write(of);
        file
    }

    /// Writes other keys.
    pub fn write(&self, of: &[&Issuer]) {
        fs::write(&self.0, key_set(of)).unwrap();
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// The set of these issuers' keys.
pub fn key_set(of: &[&Issuer]) -> String {
    json!({ "keys": of.iter().map(|issuer| issuer.jwk()).collect::<Vec<_>>() }).to_string()
}

//! The client's side of SCRAM (RFC 5802), which shares no code with the broker's.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;

/// A mechanism, as its clients reckon it.
#[derive(Clone, Copy)]
pub struct Scram {
    pub name: &'static str,
    hmac: hmac::Algorithm,
    pub digest: &'static digest::Algorithm,
    pbkdf2: pbkdf2::Algorithm,
}

pub const SHA_256: Scram = Scram {
    name: "SCRAM-SHA-256",
    hmac: hmac::HMAC_SHA256,
    digest: &digest::SHA256,
    pbkdf2: pbkdf2::PBKDF2_HMAC_SHA256,
};
pub const SHA_512: Scram = Scram {
    name: "SCRAM-SHA-512",
    hmac: hmac::HMAC_SHA512,
    digest: &digest::SHA512,
    pbkdf2: pbkdf2::PBKDF2_HMAC_SHA512,
};

impl Scram {
    /// A password, salted so many times. It takes long.
    pub fn salted(self, password: &str, salt: &[u8], times: u32) -> Vec<u8> {
        let mut salted = vec![0; self.digest.output_len()];
        pbkdf2::derive(self.pbkdf2, NonZeroU32::new(times).unwrap(), salt, password.as_bytes(), &mut salted);
        salted
    }

    /// The proof of who salts a password so, in base64: over what was said first, the challenge, and the last message without it.
    pub fn proof(self, salted: &[u8], bare: &str, challenge: &str, unproven: &str) -> String {
        let sign = |key: &[u8], what: &str| hmac::sign(&hmac::Key::new(self.hmac, key), what.as_bytes());
        let client_key = sign(salted, "Client Key");
        let stored_key = digest::digest(self.digest, client_key.as_ref());
        let signature = sign(stored_key.as_ref(), &format!("{bare},{challenge},{unproven}"));
        let proof = client_key.as_ref().iter().zip(signature.as_ref()).map(|(one, other)| one ^ other);
        STANDARD.encode(proof.collect::<Vec<u8>>())
    }
}

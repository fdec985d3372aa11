//! The keys that tokens are signed with: a JSON Web Key Set (RFC 7517, RFC 7518, RFC 8037), as issuers publish theirs.
//!
//! ```text
//! {"keys": [{"kid": "2026-11", "kty": "RSA", "alg": "PS256", "n": "...", "e": "AQAB"},
//!           {"kid": "2026-12", "kty": "EC", "crv": "P-256", "x": "...", "y": "..."}, ...]}
//! ```
//!
//! A key is for one algorithm: the one that it names, else that of its curve, or RS256. Nothing in a token chooses another. Secrets, keys
//! for encryption and those of kinds that are not known here are passed over; one that is meant and is broken makes the whole set wrong.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::Value;
use std::collections::{BTreeMap, btree_map::Entry};

/// The algorithms of RSA keys (RFC 7518, section 3.1); the first one is that of a key that names none.
static OF_RSA: [(&str, &RsaParameters); 6] = [
    ("RS256", &RSA_PKCS1_2048_8192_SHA256),
    ("RS384", &RSA_PKCS1_2048_8192_SHA384),
    ("RS512", &RSA_PKCS1_2048_8192_SHA512),
    ("PS256", &RSA_PSS_2048_8192_SHA256),
    ("PS384", &RSA_PSS_2048_8192_SHA384),
    ("PS512", &RSA_PSS_2048_8192_SHA512),
];

/// Keys that are points of a curve.
struct Curve {
    kind: &'static str,
    name: &'static str,
    algorithm: &'static str,
    verifies: &'static dyn VerificationAlgorithm,
    /// Of a coordinate.
    bytes: usize,
}

static CURVES: [Curve; 3] = [
    Curve { kind: "EC", name: "P-256", algorithm: "ES256", verifies: &ECDSA_P256_SHA256_FIXED, bytes: 32 },
    Curve { kind: "EC", name: "P-384", algorithm: "ES384", verifies: &ECDSA_P384_SHA384_FIXED, bytes: 48 },
    Curve { kind: "OKP", name: "Ed25519", algorithm: "EdDSA", verifies: &ED25519, bytes: 32 },
];

/// How many bits an RSA key has.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Keys by their ids.
#[derive(Debug, Default)]
pub(super) struct Keys(BTreeMap<String, Key>);

/// A key, and what it is for.
#[derive(Debug)]
pub(super) struct Key {
    /// The name of its algorithm, as it stands in tokens.
    pub(super) algorithm: &'static str,
    public: Public,
}

#[derive(Debug)]
enum Public {
    Rsa(&'static RsaParameters, RsaPublicKeyComponents<Vec<u8>>),
    Point(UnparsedPublicKey<Vec<u8>>),
}

impl Keys {
    /// Reads a set; an error says what is wrong with it.
    pub(super) fn read(text: &[u8]) -> Result<Keys, String> {
        let set: Value = serde_json::from_slice(text).map_err(|error| format!("it is no JSON: {error}"))?;
        let list =
            set.get("keys").and_then(Value::as_array).ok_or("it is no JSON Web Key Set: it has no list 'keys'")?;
        let mut keys = BTreeMap::new();
        for (number, jwk) in list.iter().enumerate() {
            let Some(key) = Key::read(jwk).map_err(|why| format!("key {}: {why}", number + 1))? else { continue };
            let id =
                text_of(jwk, "kid").ok_or_else(|| format!("key {} has no kid, so no token can name it", number + 1))?;
            match keys.entry(id.to_string()) {
                Entry::Vacant(place) => drop(place.insert(key)),
                Entry::Occupied(_) => return Err(format!("two keys have the kid '{id}'")),
            }
        }
        // Who takes the last key away means it; who has only others does not know what is read here.
        if keys.is_empty() && !list.is_empty() {
            return Err("none of its keys is for signatures by RSA, ECDSA on P-256 or P-384, or Ed25519".into());
        }
        Ok(Keys(keys))
    }

    /// The key with this id.
    pub(super) fn find(&self, id: &str) -> Option<&Key> {
        self.0.get(id)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

/// Whether an algorithm is one that a key here can have.
pub(super) fn is_known(algorithm: &str) -> bool {
    OF_RSA.iter().any(|(name, _)| *name == algorithm) || CURVES.iter().any(|curve| curve.algorithm == algorithm)
}

impl Key {
    /// `None`: it is not for signatures, or not of a kind that is known here.
    fn read(jwk: &Value) -> Result<Option<Key>, String> {
        let is_for_signatures = text_of(jwk, "use").is_none_or(|used| used == "sig");
        let verifies = |operations: &Vec<Value>| operations.iter().any(|operation| operation == "verify");
        if !is_for_signatures || !jwk.get("key_ops").and_then(Value::as_array).is_none_or(verifies) {
            return Ok(None);
        }
        let (kind, curve, named) = (text_of(jwk, "kty"), text_of(jwk, "crv"), text_of(jwk, "alg"));
        if kind == Some("RSA") {
            let named = named.unwrap_or(OF_RSA[0].0);
            let Some((algorithm, parameters)) = OF_RSA.iter().find(|(name, _)| *name == named) else { return Ok(None) };
            let public = RsaPublicKeyComponents { n: number_of(jwk, "n")?, e: number_of(jwk, "e")? };
            let bits = public.n.len() * 8 - public.n[0].leading_zeros() as usize;
            if !RSA_BITS.contains(&bits) || public.e.len() > 4 || public.e[public.e.len() - 1] % 2 == 0 {
                return Err(format!(
                    "an RSA key has 2048 to 8192 bits and an odd exponent below 2^32, and not {bits} bits"
                ));
            }
            return Ok(Some(Key { algorithm, public: Public::Rsa(parameters, public) }));
        }
        let of_curve = CURVES.iter().find(|known| kind == Some(known.kind) && curve == Some(known.name));
        let Some(Curve { algorithm, verifies, bytes, .. }) = of_curve else { return Ok(None) };
        if named.is_some_and(|named| named != *algorithm) {
            return Ok(None);
        }
        let coordinate = |name| match bytes_of(jwk, name)? {
            found if found.len() == *bytes => Ok(found),
            found => Err(format!("'{name}' has {} bytes and not {bytes}", found.len())),
        };
        let point = match kind {
            // Not compressed: SEC 1, section 2.3.3.
            Some("EC") => [&[4][..], &coordinate("x")?, &coordinate("y")?].concat(),
            _ => coordinate("x")?,
        };
        Ok(Some(Key { algorithm, public: Public::Point(UnparsedPublicKey::new(*verifies, point)) }))
    }

    /// Whether whoever has the private key signed this.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.public {
            Public::Rsa(parameters, key) => key.verify(parameters, message, signature).is_ok(),
            Public::Point(key) => key.verify(message, signature).is_ok(),
        }
    }
}

fn text_of<'a>(jwk: &'a Value, name: &str) -> Option<&'a str> {
    jwk.get(name).and_then(Value::as_str)
}

fn bytes_of(jwk: &Value, name: &str) -> Result<Vec<u8>, String> {
    let text = text_of(jwk, name).ok_or_else(|| format!("'{name}' is missing"))?;
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|error| format!("'{name}' is no base64url: {error}"))
}

/// A number above 0, from its highest byte on, which is not 0.
fn number_of(jwk: &Value, name: &str) -> Result<Vec<u8>, String> {
    let bytes = bytes_of(jwk, name)?;
    let first = bytes.iter().position(|&byte| byte != 0).ok_or_else(|| format!("'{name}' is 0"))?;
    Ok(bytes[first..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Issuer, *};
    use serde_json::json;

    fn read(keys: &[Value]) -> Result<Vec<String>, String> {
        let keys = Keys::read(json!({ "keys": keys }).to_string().as_bytes())?;
        Ok(keys.0.iter().map(|(id, key)| format!("{id} {}", key.algorithm)).collect())
    }

    fn with(issuer: &Issuer, name: &str, value: Value) -> Value {
        let mut jwk = issuer.jwk();
        jwk[name] = value;
        jwk
    }

    #[test]
    fn a_key_is_for_the_algorithm_that_it_names_or_that_of_its_kind() {
        let all = [Issuer::new("a"), Issuer::es384("b"), Issuer::ed25519("c"), Issuer::rsa("d", "PS512")];
        let keys = all.each_ref().map(Issuer::jwk);
        assert_eq!(read(&keys).unwrap(), ["a ES256", "b ES384", "c EdDSA", "d PS512"]);
        let mut unnamed = keys;
        unnamed.iter_mut().for_each(|jwk| drop(jwk.as_object_mut().unwrap().remove("alg")));
        assert_eq!(read(&unnamed).unwrap(), ["a ES256", "b ES384", "c EdDSA", "d RS256"]);
        assert_eq!(read(&[]).unwrap(), [""; 0], "whoever takes all away means it");
    }

    #[test]
    fn keys_that_sign_no_tokens_are_passed_over() {
        let (one, rsa) = (Issuer::new("one"), Issuer::rsa("rsa", "RS256"));
        let others = [
            json!({ "kid": "secret", "kty": "oct", "alg": "HS256", "k": "c2VjcmV0" }),
            json!({ "kid": "p521", "kty": "EC", "crv": "P-521", "x": "", "y": "" }),
            json!({ "kid": "x", "kty": "OKP", "crv": "X25519", "x": "" }),
            json!({ "kid": "new", "kty": "of the future" }),
            json!({}),
            json!(7),
            with(&rsa, "use", json!("enc")),
            with(&rsa, "alg", json!("RSA-OAEP")),
            with(&rsa, "alg", json!("HS256")),
            with(&rsa, "key_ops", json!(["encrypt"])),
            with(&one, "alg", json!("ES384")),
        ];
        let all = [&others[..], &[with(&one, "key_ops", json!(["verify"]))]].concat();
        assert_eq!(read(&all).unwrap(), ["one ES256"]);
        assert!(read(&others).unwrap_err().contains("none of its keys"));
    }

    #[test]
    fn a_broken_set_is_told_by_what_is_wrong_with_it() {
        for (text, why) in [("", "no JSON"), ("{", "no JSON"), ("[]", "no list 'keys'"), (r#"{"keys":{}}"#, "no list")]
        {
            assert!(Keys::read(text.as_bytes()).unwrap_err().contains(why), "{text}");
        }
        let (one, rsa) = (Issuer::new("one"), Issuer::rsa("rsa", "RS256"));
        for (jwk, why) in [
            (with(&one, "kid", json!(null)), "key 1 has no kid"),
            (with(&one, "x", json!(null)), "'x' is missing"),
            (with(&one, "x", json!("?")), "'x' is no base64url"),
            (with(&one, "y", json!("AAAA")), "'y' has 3 bytes and not 32"),
            (with(&rsa, "n", json!("AAAA")), "'n' is 0"),
            (with(&rsa, "n", json!("_w")), "and not 8 bits"),
            (with(&rsa, "e", json!("AQAC")), "an odd exponent"),
            (with(&rsa, "e", json!("AQAAAAE")), "an odd exponent"),
            (with(&rsa, "e", json!("")), "'e' is 0"),
        ] {
            let told = read(&[jwk]).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
        assert_eq!(read(&[one.jwk(), one.jwk()]).unwrap_err(), "two keys have the kid 'one'");
        let zeros = [&[0, 0][..], &bytes_of(&rsa.jwk(), "n").unwrap()].concat();
        assert_eq!(read(&[with(&rsa, "n", json!(URL_SAFE_NO_PAD.encode(zeros)))]).unwrap(), ["rsa RS256"]);
    }
}

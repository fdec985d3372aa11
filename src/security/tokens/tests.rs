//! Tokens that are taken, and all that are not.

use super::{
    testing::{AUDIENCE, ISSUER, Issuer, KeyFile, claims},
    *,
};
use proptest::prelude::*;
use ring::hmac;
use serde_json::json;
use std::fs;

const NOW_MS: i64 = 1_764_495_987_123;
const NOW_S: i64 = NOW_MS / 1000;

/// Tokens that are taken, and the file of their keys.
struct Kept {
    tokens: Tokens,
    file: KeyFile,
}

impl Kept {
    fn new(name: &str, issuers: &[&Issuer]) -> Kept {
        let file = KeyFile::new(name, issuers);
        let config = TokensConfig { keys: file.0.clone(), audience: AUDIENCE.into(), issuer: ISSUER.into() };
        Kept { tokens: Tokens::open(config).unwrap(), file }
    }

    fn check(&self, token: &str) -> Result<Claims, RefusedToken> {
        self.tokens.check(token, NOW_MS)
    }

    fn fault(&self, token: &str) -> Fault {
        self.check(token).unwrap_err().fault
    }
}

fn good() -> Value {
    claims("alice", NOW_S + 60)
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name).unwrap();
    object
}

#[test]
fn a_token_of_each_algorithm_says_who_it_is_and_until_when() {
    let of_rsa = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"].map(|name| Issuer::rsa(name, name));
    let others = [Issuer::new("a"), Issuer::es384("b"), Issuer::ed25519("c")];
    let all: Vec<&Issuer> = of_rsa.iter().chain(&others).collect();
    let kept = Kept::new("each", &all);
    for issuer in &all {
        let said = kept.check(&issuer.sign(&issuer.header(), &good())).unwrap();
        assert_eq!((&*said.subject, said.ends_ms), ("alice", (NOW_S + 60) * 1000), "{}", issuer.header());
    }
    // The same key is not asked in another way.
    for (issuer, other) in of_rsa.iter().zip(of_rsa.iter().skip(1)) {
        let header = with(issuer.header(), "alg", other.header()["alg"].clone());
        assert_eq!(kept.fault(&issuer.sign(&header, &good())), Fault::Algorithm);
        let header = with(issuer.header(), "kid", other.header()["kid"].clone());
        assert_eq!(kept.fault(&issuer.sign(&header, &good())), Fault::Algorithm);
        let header = with(header, "alg", other.header()["alg"].clone());
        assert_eq!(kept.fault(&issuer.sign(&header, &good())), Fault::Signature);
    }
}

#[test]
fn what_is_not_signed_by_the_key_and_its_algorithm_is_refused() {
    let (one, rsa, stranger) = (Issuer::new("one"), Issuer::rsa("rsa", "RS256"), Issuer::new("one"));
    let kept = Kept::new("signed", &[&one, &rsa]);
    let fault = |header: Value| kept.fault(&one.sign(&header, &good()));
    assert_eq!(fault(without(one.header(), "kid")), Fault::NoKey);
    for kid in [json!(1), json!(null), json!(["one"])] {
        assert_eq!(fault(with(one.header(), "kid", kid)), Fault::NoKey);
    }
    assert_eq!(fault(with(one.header(), "kid", json!("two"))), Fault::UnknownKey);
    assert_eq!(fault(with(one.header(), "alg", json!("RS256"))), Fault::Algorithm);
    for algorithm in ["none", "None", "HS256", "HS512", "es256", "", "ES256K", "ES512"] {
        assert_eq!(fault(with(one.header(), "alg", json!(algorithm))), Fault::Algorithm, "{algorithm}");
    }
    for header in [without(one.header(), "alg"), with(one.header(), "alg", json!(7))] {
        assert_eq!(fault(header), Fault::Malformed);
    }
    assert_eq!(fault(with(one.header(), "crit", json!(["exp"]))), Fault::Malformed);
    // A key that the token brings with it is nobody's.
    let brought = with(with(stranger.header(), "jwk", stranger.jwk()), "jku", json!("https://evil.example"));
    assert_eq!(kept.fault(&stranger.sign(&brought, &good())), Fault::Signature);
    // No signature at all, and one by a secret that is the public key.
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!("{}.{}", part(&json!({ "alg": "none", "kid": "one" })), part(&good()));
    assert_eq!([kept.fault(&format!("{unsigned}.")), kept.fault(&unsigned)], [Fault::Algorithm, Fault::Malformed]);
    let stripped = one.sign(&one.header(), &good());
    assert_eq!(kept.fault(&stripped[..=stripped.rfind('.').unwrap()]), Fault::Signature);
    let jwk = rsa.jwk();
    for secret in [fs::read(&kept.file.0).unwrap(), jwk.to_string().into(), jwk["n"].as_str().unwrap().into()] {
        let message = format!("{}.{}", part(&json!({ "alg": "HS256", "kid": "rsa" })), part(&good()));
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        assert_eq!(kept.fault(&token), Fault::Algorithm);
    }
}

#[test]
fn what_a_good_signature_says_for_others_or_at_another_time_is_refused() {
    let one = Issuer::new("one");
    let kept = Kept::new("claims", &[&one]);
    let check = |claims: Value| kept.check(&one.sign(&one.header(), &claims));
    let fault = |claims: Value| check(claims).unwrap_err().fault;
    for (name, value, expected) in [
        ("iss", json!("https://other.example"), Fault::Issuer),
        ("iss", json!([ISSUER]), Fault::Issuer),
        ("aud", json!("other"), Fault::Audience),
        ("aud", json!(["other", ["plainlog"]]), Fault::Audience),
        ("aud", json!([]), Fault::Audience),
        ("aud", json!({ "plainlog": "plainlog" }), Fault::Audience),
        ("exp", json!("soon"), Fault::NoEnd),
        ("exp", json!(null), Fault::NoEnd),
        ("exp", json!(NOW_S), Fault::Expired),
        ("exp", json!(NOW_MS as f64 / 1000.0), Fault::Expired),
        ("exp", json!(-1), Fault::Expired),
        ("exp", json!(-1e300), Fault::Expired),
        ("nbf", json!(NOW_S + 1), Fault::NotYet),
        ("nbf", json!(1e300), Fault::NotYet),
        ("nbf", json!("now"), Fault::Malformed),
        ("sub", json!(""), Fault::Subject),
        ("sub", json!(7), Fault::Subject),
        ("sub", json!("a\nb"), Fault::Subject),
        ("sub", json!("ANONYMOUS"), Fault::Subject),
        ("sub", json!("x".repeat(2000)), Fault::Subject),
    ] {
        assert_eq!(fault(with(good(), name, value.clone())), expected, "{name} {value}");
    }
    for (name, expected) in
        [("iss", Fault::Issuer), ("aud", Fault::Audience), ("exp", Fault::NoEnd), ("sub", Fault::Subject)]
    {
        assert_eq!(fault(without(good(), name)), expected, "{name}");
    }
    // The operator is told whom it would have been.
    let expired = check(with(good(), "exp", json!(1))).unwrap_err();
    assert_eq!(expired, RefusedToken { fault: Fault::Expired, subject: Some("alice".into()) });
    for (name, value) in [
        ("aud", json!(["other", AUDIENCE])),
        ("nbf", json!(NOW_S)),
        ("exp", json!(NOW_MS as f64 / 1000.0 + 0.002)),
        ("exp", json!(1e300)),
        ("exp", json!(u64::MAX)),
        ("iat", json!(NOW_S + 1000)),
    ] {
        assert!(check(with(good(), name, value.clone())).is_ok(), "{name} {value}");
    }
    assert_eq!(check(with(good(), "exp", json!(1e300))).unwrap().ends_ms, i64::MAX);
}

#[test]
fn garbage_and_what_is_too_long_is_refused() {
    let one = Issuer::new("one");
    let kept = Kept::new("garbage", &[&one]);
    let token = one.sign(&one.header(), &good());
    assert!(kept.check(&token).is_ok());
    for bad in ["", ".", "..", "...", "a.b.c", "ä.b.c", "e30.e30.", "W10.W10.W10", "\0", " "] {
        assert_eq!(kept.fault(bad), Fault::Malformed, "{bad:?}");
    }
    for bad in [format!("{token}="), format!("{token} "), token.replacen('.', "=.", 1), format!("x.{token}")] {
        assert_eq!(kept.fault(&bad), Fault::Malformed, "{bad}");
    }
    let claims = [json!([]), json!("alice"), json!(null)];
    assert!(claims.iter().all(|claims| kept.fault(&one.sign(&one.header(), claims)) == Fault::Malformed));
    let deep = URL_SAFE_NO_PAD.encode(format!("{}{}", "[".repeat(5000), "]".repeat(5000)));
    assert_eq!(kept.fault(&format!("{deep}.e30.e30")), Fault::Malformed);
    let long = one.sign(&one.header(), &with(good(), "more", json!("x".repeat(TOKEN_BYTES_MAX))));
    assert_eq!(kept.fault(&long), Fault::TooLong);
}

#[test]
fn keys_are_read_again_and_what_went_is_asked_no_more() {
    let (one, two) = (Issuer::new("one"), Issuer::ed25519("number two"));
    let kept = Kept::new("again", &[&one]);
    let [of_one, of_two] = [&one, &two].map(|issuer| issuer.sign(&issuer.header(), &good()));
    assert!(kept.check(&of_one).is_ok() && kept.tokens.remembered(&of_one, NOW_MS).is_some());
    assert_eq!((kept.fault(&of_two), kept.tokens.look(false)), (Fault::UnknownKey, None));
    kept.file.write(&[&one, &two]);
    assert_eq!(kept.tokens.look(false), Some(Ok(2)));
    assert!(kept.tokens.remembered(&of_one, NOW_MS).is_none(), "it is asked again");
    assert!(kept.check(&of_one).is_ok() && kept.check(&of_two).is_ok());
    for bad in ["{", r#"{"keys":[{"kty":"oct","kid":"secret"}]}"#, &"x".repeat(2 << 20)] {
        fs::write(&kept.file.0, bad).unwrap();
        assert!(kept.tokens.look(false).unwrap().unwrap_err().contains("again"), "the file is named");
        assert_eq!(kept.tokens.look(false), None, "it is told once");
        assert!(kept.check(&of_two).is_ok());
    }
    fs::remove_file(&kept.file.0).unwrap();
    assert!(kept.tokens.look(false).unwrap().is_err() && kept.check(&of_two).is_ok());
    kept.file.write(&[&two]);
    assert_eq!(kept.tokens.look(false), Some(Ok(1)));
    assert_eq!((kept.fault(&of_one), kept.tokens.remembered(&of_one, NOW_MS)), (Fault::UnknownKey, None));
    assert!(kept.check(&of_two).is_ok());
    kept.file.write(&[]);
    assert_eq!((kept.tokens.look(true), kept.fault(&of_two)), (Some(Ok(0)), Fault::UnknownKey));
    let gone = TokensConfig { keys: "nowhere".into(), audience: String::new(), issuer: String::new() };
    assert!(Tokens::open(gone).unwrap_err().starts_with("the keys nowhere: "));
}

#[test]
fn what_is_remembered_ends_with_the_token_and_is_bounded() {
    let one = Issuer::ed25519("one");
    let kept = Kept::new("remembered", &[&one]);
    let token = one.sign(&one.header(), &good());
    assert_eq!(kept.tokens.remembered(&token, NOW_MS), None);
    let said = kept.check(&token).unwrap();
    assert_eq!(kept.tokens.remembered(&token, said.ends_ms - 1), Some(said.clone()));
    assert_eq!(kept.tokens.remembered(&format!("{token}x"), NOW_MS), None);
    assert_eq!(kept.tokens.remembered(&token, said.ends_ms), None);
    assert!(kept.tokens.current().remembered.is_empty());
    let mut current = kept.tokens.current();
    (0..REMEMBERED_MAX).for_each(|number| drop(current.remembered.insert(hash(&number.to_string()), said.clone())));
    drop(current);
    kept.check(&token).unwrap();
    assert_eq!(kept.tokens.current().remembered.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_token_that_was_changed_anywhere_is_none(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9._=\u{e4}-]") {
        let one = Issuer::ed25519("one");
        let kept = Kept::new("changed", &[&one]);
        let mut token: Vec<char> = one.sign(&one.header(), &good()).chars().collect();
        let at = at.index(token.len());
        let is_changed = token[at] != to.chars().next().unwrap();
        token[at] = to.chars().next().unwrap();
        prop_assert_eq!(kept.check(&token.into_iter().collect::<String>()).is_err(), is_changed);
    }

    #[test]
    fn no_text_is_a_panic(text in "\\PC{0,200}", header in "\\PC{0,60}", claims in "\\PC{0,60}") {
        let one = Issuer::ed25519("one");
        let kept = Kept::new("text", &[&one]);
        prop_assert!(kept.check(&text).is_err());
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        let token = format!("{header}.{claims}.{text}");
        prop_assert!(kept.check(&token).is_err());
    }
}

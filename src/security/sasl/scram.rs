//! SCRAM (RFC 5802): a client proves to know a password without saying it, and the server proves that it has its keys.
//!
//! Whether there is the user is not told: one that there is not gets a challenge as well, and fails at the end.
//!
//! From Apache Kafka it differs where that is stricter or laxer than the RFC: a client that could bind the login to its channel and
//! sees that the server cannot (flag `y`) is taken, and what it says of the channel at the end has to be what it said first. As in
//! Kafka the nonce at the end need only end with the one that is due: librdkafka says its own part twice.

use crate::security::{ScramCredential, ScramMechanism, password};
use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{digest, hmac};

/// What a client says first.
#[derive(Debug)]
pub struct First {
    /// Who it is.
    pub user: String,
    /// Whether it asks for an extension that nobody here knows: it fails at the end.
    pub is_beyond: bool,
    header: String,
    bare: String,
    nonce: String,
}

/// Waits for the proof.
pub struct Challenged {
    mechanism: ScramMechanism,
    credential: ScramCredential,
    /// Whether a right proof counts.
    may_enter: bool,
    header: String,
    nonce: String,
    /// What both sign: what was said so far.
    said: String,
}

/// Reads `n,[a=name],[m=...,]n=name,r=nonce[,key=value]...`; `None`: it is broken, or somebody wants to act as another.
pub fn first(message: &[u8]) -> Option<First> {
    let text = std::str::from_utf8(message).ok().filter(|text| !text.contains('\0'))?;
    let (flag, rest) = text.split_once(',')?;
    let (acts_as, bare) = rest.split_once(',')?;
    // Kinds of channel binding (`p=`) are not offered.
    if !matches!(flag, "n" | "y") {
        return None;
    }
    let mut attributes = bare.split(',').peekable();
    let is_beyond =
        attributes.next_if(|first| first.strip_prefix("m=").is_some_and(|value| !value.is_empty())).is_some();
    let user = super::name(attributes.next()?.strip_prefix("n=")?)?;
    let nonce = attributes.next()?.strip_prefix("r=")?;
    if nonce.is_empty() || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) || !attributes.all(is_extension) {
        return None;
    }
    let is_self = acts_as.is_empty() || super::name(acts_as.strip_prefix("a=")?)? == user;
    let header = format!("{flag},{acts_as},");
    is_self.then(|| First { user, is_beyond, header, bare: bare.into(), nonce: nonce.into() })
}

/// Whether it can be passed over. Kafka's delegation tokens cannot, and there are none.
fn is_extension(attribute: &str) -> bool {
    attribute.split_once('=').is_some_and(|(key, value)| {
        let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphabetic());
        is_key && !value.is_empty() && !(key == "tokenauth" && value.eq_ignore_ascii_case("true"))
    })
}

impl First {
    /// The challenge. `credential` is the user's, or one of nobody: then `is_somebody` is false. `nonce` is what nobody can guess.
    pub fn challenge(
        self,
        mechanism: ScramMechanism,
        credential: ScramCredential,
        is_somebody: bool,
        nonce: &str,
    ) -> (Vec<u8>, Challenged) {
        let nonce = self.nonce + nonce;
        let challenge = format!("r={nonce},s={},i={}", STANDARD.encode(&credential.salt), credential.iterations);
        let said = format!("{},{challenge},", self.bare);
        let may_enter = is_somebody && !self.is_beyond;
        (challenge.into(), Challenged { mechanism, credential, may_enter, header: self.header, nonce, said })
    }
}

impl Challenged {
    /// Reads `c=...,r=nonce,p=proof`. Answers the server's own proof; `None`: the client has none.
    pub fn finish(self, message: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(message).ok()?;
        let (unproven, proof) = text.rsplit_once(",p=")?;
        let (header, nonce) = unproven.strip_prefix("c=")?.split_once(",r=")?;
        let is_due = header == STANDARD.encode(&self.header) && nonce.ends_with(&self.nonce) && !nonce.contains(',');
        let proof = STANDARD.decode(proof).ok()?;
        let password::Hashes { hmac, digest, .. } = password::hashes(self.mechanism);
        let signed = self.said + unproven;
        let sign = |key: &[u8]| password::sign(&hmac::Key::new(hmac, key), signed.as_bytes());
        let signature = sign(&self.credential.stored_key);
        let client_key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(one, other)| one ^ other).collect();
        let found = digest::digest(digest, &client_key);
        let is_right = password::same(found.as_ref(), &self.credential.stored_key);
        let is_whole = proof.len() == digest.output_len() && is_due;
        let proven = format!("v={}", STANDARD.encode(sign(&self.credential.server_key)));
        (is_right && is_whole && self.may_enter).then(|| proven.into())
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// The password, salted as a challenge says.
    pub(crate) fn salted(mechanism: ScramMechanism, challenge: &str, password: &str) -> Vec<u8> {
        let part = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
        let (salt, times) = (STANDARD.decode(part("s=")).unwrap(), part("i=").parse().unwrap());
        password::salted(mechanism, times, &salt, password.as_bytes())
    }

    /// The client's side: its proof, and the server's that it expects.
    pub(crate) fn client(
        mechanism: ScramMechanism,
        salted: &[u8],
        header: &str,
        bare: &str,
        challenge: &str,
    ) -> (String, String) {
        let nonce = challenge.strip_prefix("r=").unwrap().split(',').next().unwrap();
        client_with(nonce, mechanism, salted, header, bare, challenge)
    }

    /// The same with this nonce.
    pub(crate) fn client_with(
        nonce: &str,
        mechanism: ScramMechanism,
        salted: &[u8],
        header: &str,
        bare: &str,
        challenge: &str,
    ) -> (String, String) {
        let password::Hashes { hmac, digest, .. } = password::hashes(mechanism);
        let unproven = format!("c={},r={nonce}", STANDARD.encode(header));
        let signed = format!("{bare},{challenge},{unproven}");
        let sign = |key: &[u8], what: &str| hmac::sign(&hmac::Key::new(hmac, key), what.as_bytes()).as_ref().to_vec();
        let client_key = sign(salted, "Client Key");
        let signature = sign(digest::digest(digest, &client_key).as_ref(), &signed);
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(one, other)| one ^ other).collect();
        let server = sign(&sign(salted, "Server Key"), &signed);
        (format!("{unproven},p={}", STANDARD.encode(proof)), format!("v={}", STANDARD.encode(server)))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        testing::{client, client_with},
        *,
    };
    use proptest::prelude::*;

    const NONCE: &str = "fyko+d2lbbFgONRv9qkxdawL";

    struct Keys {
        salted: Vec<u8>,
        credential: ScramCredential,
    }

    fn keys(mechanism: ScramMechanism) -> Keys {
        let salted = vec![7; password::hashes(mechanism).digest.output_len()];
        let credential = password::keys(mechanism, 4096, b"salt", &salted);
        Keys { salted, credential }
    }

    fn log_in(header: &str, bare: &str, is_somebody: bool, bend: impl Fn(String) -> String) -> Option<bool> {
        let [mechanism, _] = ScramMechanism::ALL;
        let keys = keys(mechanism);
        let first = first(format!("{header}{bare}").as_bytes())?;
        let (challenge, challenged) = first.challenge(mechanism, keys.credential.clone(), is_somebody, NONCE);
        let challenge = String::from_utf8(challenge).unwrap();
        let (proof, server) = client(mechanism, &keys.salted, header, bare, &challenge);
        Some(challenged.finish(bend(proof).as_bytes()).is_some_and(|proven| proven == server.as_bytes()))
    }

    /// The example of RFC 7677, section 3.
    #[test]
    fn the_server_says_what_the_rfc_says() {
        let bytes = |text: &str| STANDARD.decode(text).unwrap();
        let salt = bytes("W22ZaJ0SNY7soEsUEjb6gQ==");
        let mut salted = [0; 32];
        let times = 4096.try_into().unwrap();
        ring::pbkdf2::derive(ring::pbkdf2::PBKDF2_HMAC_SHA256, times, &salt, b"pencil", &mut salted);
        let credential = password::keys(ScramMechanism::Sha256, 4096, &salt, &salted);
        let first = first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        assert_eq!(first.user, "user");
        let nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let (challenge, challenged) = first.challenge(ScramMechanism::Sha256, credential, true, nonce);
        let expected = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(String::from_utf8(challenge).unwrap(), expected);
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let proven = challenged.finish(last.as_bytes()).unwrap();
        assert_eq!(proven, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn first_messages_are_taken_and_refused_as_the_rfc_has_it() {
        let good = ["n,,n=u,r=abc", "y,,n=u,r=abc", "n,a=u,n=u,r=abc", "n,,n=u,r=abc,x=1", "n,,n=u,r=abc,m=ext"];
        for message in good.into_iter().chain(["n,,n=u,r=abc,tokenauth=false"]) {
            let (header, bare) = message.split_at(message.find("n=u").unwrap());
            assert_eq!(log_in(header, bare, true, |proof| proof), Some(true), "{message}");
            assert_eq!(log_in(header, bare, false, |proof| proof), Some(false), "{message}");
        }
        assert_eq!(log_in("n,,", "m=x,n=u,r=abc", true, |proof| proof), Some(false));
        assert_eq!(first(b"n,,n=a=2Cb=3Dc,r=x").unwrap().user, "a,b=c");
        for bad in [
            "",
            "n,,",
            "n,,n=u",
            "n,,r=abc",
            "n,,n=u,r=",
            "n,,n=,r=abc",
            "n,,r=abc,n=u",
            "n,,n=u,r=a b",
            "n,,n=u,r=aé",
            "n,,n=u=41,r=abc",
            "n,,n=u=,r=abc",
            "n,,n==2c,r=abc",
            "n,,n=u=2,r=a",
            "n,,n=u=é,r=a",
            "n=u,r=abc",
            "n,n=u,r=abc",
            "N,,n=u,r=abc",
            "n,,N=u,R=abc",
            "p=tls-unique,,n=u,r=abc",
            "x,,n=u,r=abc",
            ",,n=u,r=abc",
            "n,a=bob,n=u,r=abc",
            "n,a=,n=u,r=abc",
            "n,u,n=u,r=abc",
            "n,,n=u,r=abc,",
            "n,,n=u,r=abc,tokenauth=true",
            "n,,n=u,r=abc,=x",
            "n,,n=u,r=abc,x=",
            "n,,n=u,r=abc\0",
            "n,,m=,n=u,r=abc",
        ] {
            assert!(first(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(first(b"n,,n=u\xff,r=abc").is_none());
    }

    #[test]
    fn a_final_message_is_the_one_that_is_due_or_nothing() {
        let try_with = |bend: fn(String) -> String| log_in("n,,", "n=u,r=abc", true, bend);
        assert_eq!(try_with(|proof| proof), Some(true));
        let bends: [fn(String) -> String; 13] = [
            |_| String::new(),
            |proof| proof + ",",
            |proof| proof + ",z=1",
            |proof| proof.replace(",p=", ",x=1,p="),
            |proof| proof.replacen("c=biws", "c=eSws", 1),
            |proof| proof.replacen("c=biws", "c=", 1),
            |proof| proof.replacen("c=biws,", "", 1),
            |proof| proof.replacen("r=abc", "r=abd", 1),
            |proof| proof.replace(NONCE, ""),
            |proof| proof.split(",p=").next().unwrap().into(),
            |proof| proof.split(",p=").next().unwrap().to_owned() + ",p=",
            |proof| proof.split(",p=").next().unwrap().to_owned() + ",p=!!!!",
            |proof| proof.split(",p=").next().unwrap().to_owned() + ",p=" + &STANDARD.encode([0; 32]),
        ];
        for (number, bend) in bends.into_iter().enumerate() {
            assert_eq!(try_with(bend), Some(false), "{number}");
        }
        // Whoever said that it could bind the channel has to say so again.
        assert_eq!(log_in("y,,", "n=u,r=abc", true, |proof| proof.replacen("c=eSws", "c=biws", 1)), Some(false));
    }

    #[test]
    fn librdkafka_says_its_nonce_twice_and_nobody_says_another() {
        let [mechanism, _] = ScramMechanism::ALL;
        let keys = keys(mechanism);
        for (nonce, right) in [
            (format!("abcabc{NONCE}"), true),
            (format!("x,r=abc{NONCE}"), false),
            (format!("ab{NONCE}"), false),
            (format!("abc{NONCE}x"), false),
        ] {
            let first = first(b"n,,n=u,r=abc").unwrap();
            let (challenge, challenged) = first.challenge(mechanism, keys.credential.clone(), true, NONCE);
            let challenge = String::from_utf8(challenge).unwrap();
            let (proof, server) = client_with(&nonce, mechanism, &keys.salted, "n,,", "n=u,r=abc", &challenge);
            assert_eq!(challenged.finish(proof.as_bytes()), right.then(|| server.into_bytes()), "{nonce}");
        }
    }

    proptest! {
        #[test]
        fn no_message_is_a_panic_or_gets_in(
            one in prop::collection::vec(any::<u8>(), 0..200),
            text in "[nypa]{0,1}[,=]{0,3}[a-z=,23CD\u{0}é]{0,40}",
            other in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            for message in [&one[..], text.as_bytes(), format!("n,,n=u,r=abc{text}").as_bytes()] {
                let Some(first) = first(message) else { continue };
                let credential = keys(ScramMechanism::Sha512).credential;
                let (_, challenged) = first.challenge(ScramMechanism::Sha512, credential, true, NONCE);
                prop_assert!(challenged.finish(&other).is_none());
            }
            super::super::plain::parse(&one);
        }
    }
}

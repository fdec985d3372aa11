//! Passwords, and the keys that are kept of them (RFC 5802, section 3).
//!
//! ```text
//! salted password   the password, hashed with a salt many times        whoever has it can log in: it is kept nowhere
//! client key        HMAC(salted password, "Client Key")                 stored key = H(client key) is kept
//! server key        HMAC(salted password, "Server Key")                 is kept
//! ```
//!
//! A password is taken as the bytes that it is (UTF-8). Clients prepare theirs by SASLprep (RFC 4013) or not at all, so one that this
//! would change is refused when it is set: it would work with some of them only.

use super::credential::{ScramCredential, ScramMechanism};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    digest, hmac, pbkdf2,
    rand::{SecureRandom, SystemRandom},
};
use std::{collections::BTreeMap, num::NonZeroU32};

/// How often a new password is hashed.
pub const ITERATIONS: u32 = 8192;
/// The longest password, and the longest name of a user, in bytes.
pub const BYTES_MAX: usize = 1024;
/// The salt of a new password, in bytes.
const SALT_BYTES: usize = 16;

/// What a mechanism is made of.
pub(super) struct Hashes {
    pub(super) hmac: hmac::Algorithm,
    pub(super) digest: &'static digest::Algorithm,
    pbkdf2: pbkdf2::Algorithm,
}

pub(super) fn hashes(mechanism: ScramMechanism) -> Hashes {
    match mechanism {
        ScramMechanism::Sha256 => {
            Hashes { hmac: hmac::HMAC_SHA256, digest: &digest::SHA256, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA256 }
        }
        ScramMechanism::Sha512 => {
            Hashes { hmac: hmac::HMAC_SHA512, digest: &digest::SHA512, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA512 }
        }
    }
}

/// What is kept of a salted password.
pub fn keys(mechanism: ScramMechanism, iterations: u32, salt: &[u8], salted_password: &[u8]) -> ScramCredential {
    let Hashes { hmac, digest, .. } = hashes(mechanism);
    let key = hmac::Key::new(hmac, salted_password);
    let [client_key, server_key] = ["Client Key", "Server Key"].map(|of| sign(&key, of.as_bytes()));
    ScramCredential {
        change: 0,
        iterations,
        salt: salt.into(),
        stored_key: digest::digest(digest, client_key.as_ref()).as_ref().into(),
        server_key: server_key.as_ref().into(),
    }
}

/// Signs bytes. All that is signed for a login is signed here, but for what [`Remembered`](super::Remembered) does.
pub(super) fn sign(key: &hmac::Key, bytes: &[u8]) -> hmac::Tag {
    #[cfg(test)]
    work::add(work::Work { rounds: 0, signatures: 1 });
    hmac::sign(key, bytes)
}

/// A password, salted. It takes milliseconds.
pub(super) fn salted(mechanism: ScramMechanism, iterations: u32, salt: &[u8], password: &[u8]) -> Vec<u8> {
    let Hashes { digest, pbkdf2, .. } = hashes(mechanism);
    let mut salted = vec![0; digest.output_len()];
    let times = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    #[cfg(test)]
    work::add(work::Work { rounds: times.get(), signatures: 0 });
    pbkdf2::derive(pbkdf2, times, salt, password, &mut salted);
    salted
}

/// What is kept of a password.
fn keys_of(mechanism: ScramMechanism, iterations: u32, salt: &[u8], password: &[u8]) -> ScramCredential {
    keys(mechanism, iterations, salt, &salted(mechanism, iterations, salt, password))
}

/// What is kept of a new password, in each mechanism.
pub fn new_keys(password: &str) -> BTreeMap<ScramMechanism, ScramCredential> {
    let of = |mechanism| (mechanism, keys_of(mechanism, ITERATIONS, &random::<SALT_BYTES>(), password.as_bytes()));
    ScramMechanism::ALL.into_iter().map(of).collect()
}

/// Whether this is the password of which the keys were kept. It takes milliseconds, the same for any password.
pub fn matches(mechanism: ScramMechanism, credential: &ScramCredential, password: &[u8]) -> bool {
    let found = keys_of(mechanism, credential.iterations, &credential.salt, password);
    // To HMAC a key is the same with zeros behind it.
    same(&found.stored_key, &credential.stored_key) && !password.ends_with(&[0])
}

/// Whether bytes are the same, in a time that does not tell where they differ.
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &random::<32>());
    hmac::verify(&key, other, sign(&key, one).as_ref()).is_ok()
}

/// A credential in a mechanism.
pub type InMechanism<C> = (ScramMechanism, C);

/// What a user has whom there is not: it is the same each time it is asked for, as it would be if there were one. It is made like that of
/// `others`, of which it looks like one, and where there are none like a new one in this mechanism. When those change it may, too; then it is
/// another wholly, as if its password were.
pub fn of_nobody<'a>(
    secret: &[u8],
    mechanism: ScramMechanism,
    name: &str,
    others: impl Iterator<Item = InMechanism<&'a ScramCredential>>,
) -> InMechanism<ScramCredential> {
    let key = hmac::Key::new(hmac::HMAC_SHA512, secret);
    let place = sign(&key, format!("like\0{name}").as_bytes());
    // Keys are spread evenly. The nearest one stays that, whoever else comes or goes, but for one that is nearer.
    let distance = |(_, other): &InMechanism<&ScramCredential>| {
        let bytes = other.stored_key.iter().zip(place.as_ref()).take(8);
        bytes.fold(0, |distance: u64, (one, other)| distance << 8 | u64::from(one ^ other))
    };
    let like = others.min_by_key(distance).map(|(of, other)| (of, other.iterations, other.salt.len()));
    let (mechanism, iterations, salt_bytes) = like.unwrap_or((mechanism, ITERATIONS, SALT_BYTES));
    let derive = |what: &str, bytes: usize| {
        let all = (0..bytes.div_ceil(digest::SHA512_OUTPUT_LEN)).flat_map(|part| {
            let of = format!("{what}\0{part}\0{}\0{iterations}\0{salt_bytes}\0{name}", mechanism.name());
            sign(&key, of.as_bytes()).as_ref().to_vec()
        });
        all.take(bytes).collect::<Vec<u8>>()
    };
    let bytes = hashes(mechanism).digest.output_len();
    let credential = ScramCredential {
        change: 0,
        iterations,
        salt: derive("salt", salt_bytes),
        stored_key: derive("stored key", bytes),
        server_key: derive("server key", bytes),
    };
    (mechanism, credential)
}

/// Bytes that nobody can guess.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}

/// A password that nobody can guess: 24 letters.
pub fn generated() -> String {
    URL_SAFE_NO_PAD.encode(random::<18>())
}

/// Whether somebody may be called this.
pub fn check_name(name: &str) -> Result<(), String> {
    check_length("a user's name", name)?;
    if name == "ANONYMOUS" || name.chars().any(char::is_control) {
        return Err("a user's name has no control character, and ANONYMOUS is whoever has none".into());
    }
    Ok(())
}

/// Whether this may be a new password.
pub fn check_new(password: &str) -> Result<(), String> {
    check_length("a password", password)?;
    match stringprep::saslprep(password) {
        Ok(prepared) if prepared == password => Ok(()),
        _ => Err(
            "some clients would send this password changed, or not at all (SASLprep, RFC 4013): take one of letters, \
                  digits and signs, without control characters"
                .into(),
        ),
    }
}

fn check_length(what: &str, text: &str) -> Result<(), String> {
    let is_right = (1..=BYTES_MAX).contains(&text.len());
    if is_right { Ok(()) } else { Err(format!("{what} has 1 to {BYTES_MAX} bytes, not {}", text.len())) }
}

/// How much this thread has reckoned: what a clock would measure less surely.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;

    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub(crate) struct Work {
        /// How often something was hashed to salt passwords,
        pub(crate) rounds: u32,
        /// and how much was signed.
        pub(crate) signatures: u32,
    }

    thread_local! {
        static DONE: Cell<Work> = const { Cell::new(Work { rounds: 0, signatures: 0 }) };
    }

    pub(crate) fn add(work: Work) {
        let done = DONE.get();
        DONE.set(Work { rounds: done.rounds + work.rounds, signatures: done.signatures + work.signatures });
    }

    /// What this takes.
    pub(crate) fn of(what: impl FnOnce()) -> Work {
        DONE.take();
        what();
        DONE.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_matches_its_own_keys_and_no_other() {
        let keys = new_keys("pencil");
        assert_ne!(keys[&ScramMechanism::Sha256].salt, keys[&ScramMechanism::Sha512].salt);
        for (mechanism, credential) in &keys {
            assert_eq!((credential.iterations, credential.salt.len()), (8192, 16));
            let right = ["pencil", "Pencil", "pencil ", "", "pencil\0"];
            let right = right.map(|password| matches(*mechanism, credential, password.as_bytes()));
            assert_eq!(right, [true, false, false, false, false]);
            assert!(!matches(*mechanism, &made_up(b"secret", *mechanism, "alice"), b"pencil"));
        }
        let again = |name| made_up(b"secret", ScramMechanism::Sha256, name);
        assert!(again("alice") == again("alice") && again("alice") != again("bob"));
        assert_ne!(again("alice").salt, made_up(b"secret", ScramMechanism::Sha512, "alice").salt);
        assert_ne!(again("alice").salt, made_up(b"other", ScramMechanism::Sha256, "alice").salt);
        assert!(generated().len() == 24 && generated() != generated());
    }

    fn made_up(secret: &[u8], mechanism: ScramMechanism, name: &str) -> ScramCredential {
        of_nobody(secret, mechanism, name, [].into_iter()).1
    }

    #[test]
    fn what_nobody_has_is_made_like_what_some_user_has() {
        let [sha256, sha512] = ScramMechanism::ALL;
        let kept = [(sha256, 4096, 3), (sha512, 8192, 16), (sha512, 16_384, 200)];
        let others = kept.map(|(mechanism, iterations, salt)| {
            (mechanism, keys(mechanism, iterations, &vec![7; salt], &random::<32>()))
        });
        let like = |name: &str, count: usize| {
            let others = others[..count].iter().map(|(mechanism, credential)| (*mechanism, credential));
            of_nobody(b"secret", sha256, name, others)
        };
        let shape = |(mechanism, credential): &InMechanism<ScramCredential>| {
            (*mechanism, credential.iterations, credential.salt.len())
        };
        let names: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        for of in kept {
            assert!(names.iter().any(|name| shape(&like(name, 3)) == of), "{of:?}");
        }
        for name in &names {
            let [before, now] = [2, 3].map(|count| like(name, count));
            assert!(now == like(name, 3) && kept.contains(&shape(&now)));
            // Who comes is what changes it, and then all of it.
            assert!(if shape(&now) == kept[2] { now.1.stored_key != before.1.stored_key } else { now == before });
        }
    }

    #[test]
    fn what_clients_would_change_is_no_new_password() {
        for good in ["x", "pencil", "two words", "ünï", "密码", &"x".repeat(1024)] {
            assert_eq!(check_new(good), Ok(()), "{good}");
        }
        for bad in ["", &"x".repeat(1025), "a\nb", "a\0", "a\u{a0}b", "\u{fb01}", "I\u{ad}X", "u\u{308}", "\u{2168}"] {
            assert!(check_new(bad).is_err(), "{bad:?}");
        }
        assert_eq!((check_name("al ice"), check_name("a,b=c")), (Ok(()), Ok(())));
        assert!(["", "a\nb", "ANONYMOUS", &"x".repeat(1025)].iter().all(|name| check_name(name).is_err()));
    }
}

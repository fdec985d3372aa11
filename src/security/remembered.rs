//! Passwords that were right: whoever shows theirs with each request does not have it hashed each time.
//!
//! It counts at the address only where it was shown: elsewhere a password is as unknown as any guess.
//! A password is not kept, but a hash of it under a key of this process, together with what its user is known by. So it is forgotten
//! when the user's password changes, and when the process ends.

use super::{ScramCredential, guessing::network, password};
use ring::hmac;
use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Mutex, MutexGuard},
};

/// Of how many users at how many addresses a password is remembered at most.
const LOGINS_MAX: usize = 10_000;

/// What tells one password of a user from the one before: nobody else can make one.
#[derive(Clone, PartialEq, Eq)]
pub struct Mark([u8; 32]);

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mark")
    }
}

/// Passwords that were right.
pub struct Remembered {
    key: hmac::Key,
    logins: Mutex<HashMap<Login, Mark>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Login {
    /// Of IPv6 the network.
    address: IpAddr,
    user: String,
}

impl Login {
    fn new(address: IpAddr, user: &str) -> Login {
        Login { address: network(address), user: user.into() }
    }
}

impl Default for Remembered {
    fn default() -> Remembered {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &password::random::<32>());
        Remembered { key, logins: Mutex::default() }
    }
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remembered")
    }
}

impl Remembered {
    fn logins(&self) -> MutexGuard<'_, HashMap<Login, Mark>> {
        self.logins.lock().expect("no panic under the lock of what is remembered")
    }

    /// The mark of what is kept of a password, with the password itself or without.
    pub fn mark(&self, credential: &ScramCredential, password: &[u8]) -> Mark {
        #[cfg(test)]
        password::work::add(password::work::Work { rounds: 0, signatures: 1 });
        let mut context = hmac::Context::with_key(&self.key);
        for part in [&credential.salt[..], &credential.stored_key, password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut mark = [0; 32];
        mark.copy_from_slice(context.sign().as_ref());
        Mark(mark)
    }

    /// Whether this was the right password at this address of a user who is known by the credential. It takes the same work for any user.
    pub fn knows(&self, address: IpAddr, user: &str, credential: &ScramCredential, password: &[u8]) -> bool {
        let shown = self.mark(credential, password);
        let known = self.logins().get(&Login::new(address, user)).cloned();
        let is_same = password::same(&known.as_ref().map_or([0; 32], |known| known.0), &shown.0);
        is_same && known.is_some()
    }

    /// It was right.
    pub fn keep(&self, address: IpAddr, user: &str, credential: &ScramCredential, password: &[u8]) {
        let (login, mark) = (Login::new(address, user), self.mark(credential, password));
        let mut logins = self.logins();
        if logins.len() >= LOGINS_MAX && !logins.contains_key(&login) {
            logins.clear();
        }
        logins.insert(login, mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(byte: u8) -> ScramCredential {
        ScramCredential { change: 1, iterations: 1, salt: vec![byte], stored_key: vec![byte; 32], server_key: vec![] }
    }

    #[test]
    fn a_password_is_remembered_until_the_user_has_another() {
        let (remembered, one, other) = (Remembered::default(), credential(1), credential(2));
        let [here, there] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let knows = |user, credential, password: &[u8]| remembered.knows(here, user, credential, password);
        assert!(!knows("alice", &one, b"secret"));
        remembered.keep(here, "alice", &one, b"secret");
        assert!(knows("alice", &one, b"secret"));
        assert!(!remembered.knows(there, "alice", &one, b"secret"), "nobody has shown it there");
        assert!(!knows("alice", &one, b"secrets") && !knows("bob", &one, b"secret"));
        assert!(!knows("alice", &other, b"secret"), "it was changed to the same one again");
        for number in 0..LOGINS_MAX {
            remembered.keep(here, &number.to_string(), &one, b"secret");
        }
        assert!(remembered.logins().len() <= LOGINS_MAX);
        assert_ne!(remembered.mark(&one, b""), Remembered::default().mark(&one, b""));
    }
}

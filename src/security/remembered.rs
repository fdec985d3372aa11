//! Passwords that were right: whoever shows theirs with each request does not have it hashed each time.
//!
//! A password is not kept, but a hash of it under a key of this process, together with what its user is known by. So it is forgotten
//! when the user's password changes, and when the process ends.

use super::{ScramCredential, password};
use ring::hmac;
use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard},
};

/// Of how many users a password is remembered at most.
const USERS_MAX: usize = 10_000;

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
    of_users: Mutex<HashMap<String, Mark>>,
}

impl Default for Remembered {
    fn default() -> Remembered {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &password::random::<32>());
        Remembered { key, of_users: Mutex::default() }
    }
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remembered")
    }
}

impl Remembered {
    fn of_users(&self) -> MutexGuard<'_, HashMap<String, Mark>> {
        self.of_users.lock().expect("no panic under the lock of what is remembered")
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

    /// Whether this was the right password of a user who is known by the credential. It takes the same work for any user.
    pub fn knows(&self, user: &str, credential: &ScramCredential, password: &[u8]) -> bool {
        let shown = self.mark(credential, password);
        let known = self.of_users().get(user).cloned();
        let is_same = password::same(&known.as_ref().map_or([0; 32], |known| known.0), &shown.0);
        is_same && known.is_some()
    }

    /// It was right.
    pub fn keep(&self, user: &str, credential: &ScramCredential, password: &[u8]) {
        let mark = self.mark(credential, password);
        let mut of_users = self.of_users();
        if of_users.len() >= USERS_MAX && !of_users.contains_key(user) {
            of_users.clear();
        }
        of_users.insert(user.into(), mark);
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
        assert!(!remembered.knows("alice", &one, b"secret"));
        remembered.keep("alice", &one, b"secret");
        assert!(remembered.knows("alice", &one, b"secret"));
        assert!(!remembered.knows("alice", &one, b"secrets") && !remembered.knows("bob", &one, b"secret"));
        assert!(!remembered.knows("alice", &other, b"secret"), "it was changed to the same one again");
        for number in 0..USERS_MAX {
            remembered.keep(&number.to_string(), &one, b"secret");
        }
        assert!(remembered.of_users().len() <= USERS_MAX);
        assert_ne!(remembered.mark(&one, b""), Remembered::default().mark(&one, b""));
    }
}

//! Sessions of browsers: a token that nobody can guess stands for a user who has logged in, for some hours.
//!
//! A session ends when its time is over, when its user logs out, gets another password or is deleted, and with this process: nothing
//! of it is kept on disk. What is kept of a token is its hash, so that looking it up tells nothing of others by its time.

use super::{Mark, password};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a session lasts.
pub const LASTS: Duration = Duration::from_secs(12 * 3600);
/// How many there are at once, and of one user.
const SESSIONS_MAX: usize = 10_000;
const OF_USER_MAX: usize = 100;

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<[u8; 32], Session>);

#[derive(Debug)]
struct Session {
    user: Arc<str>,
    /// What tells the password that it was opened with from others.
    mark: Mark,
    ends: Instant,
}

impl Sessions {
    /// Opens a session, and answers its token. Of a user who has too many the oldest ends; `None`: there are too many of others.
    pub fn open(&mut self, user: Arc<str>, mark: Mark, now: Instant) -> Option<String> {
        self.0.retain(|_, session| session.ends > now);
        let own = self.0.iter().filter(|(_, session)| session.user == user);
        if own.clone().count() >= OF_USER_MAX {
            let oldest = own.min_by_key(|(_, session)| session.ends).map(|(hash, _)| *hash);
            oldest.map(|hash| self.0.remove(&hash));
        }
        if self.0.len() >= SESSIONS_MAX {
            return None;
        }
        let token = URL_SAFE_NO_PAD.encode(password::random::<32>());
        self.0.insert(hash(&token), Session { user, mark, ends: now + LASTS });
        Some(token)
    }

    /// Whose session it is, if it lasts. `mark` tells the password that a user has now.
    pub fn find(&mut self, token: &str, now: Instant, mark: impl FnOnce(&str) -> Option<Mark>) -> Option<Arc<str>> {
        let hash = hash(token);
        let session = self.0.get(&hash)?;
        if session.ends > now && mark(&session.user).as_ref() == Some(&session.mark) {
            return Some(session.user.clone());
        }
        self.0.remove(&hash);
        None
    }

    /// Ends a session, and answers whose it was.
    pub fn close(&mut self, token: &str) -> Option<Arc<str>> {
        self.0.remove(&hash(token)).map(|session| session.user)
    }
}

fn hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::Remembered;

    fn mark(password: &str) -> Mark {
        thread_local!(static REMEMBERED: Remembered = Remembered::default());
        let (_, keys) = password::of_nobody(b"key", crate::security::ScramMechanism::Sha256, "u", [].into_iter());
        REMEMBERED.with(|remembered| remembered.mark(&keys, password.as_bytes()))
    }

    #[test]
    fn a_session_ends_with_its_time_its_password_its_user_and_when_it_is_closed() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let open = |sessions: &mut Sessions| sessions.open("alice".into(), mark("one"), now).unwrap();
        let find = |sessions: &mut Sessions, token: &str, at, password: Option<&str>| {
            sessions.find(token, at, |user| (user == "alice").then_some(password).flatten().map(mark)).as_deref()
                == Some("alice")
        };
        let token = open(&mut sessions);
        assert_eq!(token.len(), 43);
        let last = now + LASTS - Duration::from_secs(1);
        assert!(find(&mut sessions, &token, now, Some("one")) && find(&mut sessions, &token, last, Some("one")));
        assert!(!find(&mut sessions, "x", now, Some("one")));
        assert!(!find(&mut sessions, &token, now + LASTS, Some("one")));
        assert!(!find(&mut sessions, &token, now, Some("one")), "it is forgotten");
        for password in [None, Some("two")] {
            let token = open(&mut sessions);
            assert!(!find(&mut sessions, &token, now, password));
            assert!(!find(&mut sessions, &token, now, Some("one")), "it does not come back");
        }
        let token = open(&mut sessions);
        sessions.close(&token);
        assert!(!find(&mut sessions, &token, now, Some("one")));
    }

    #[test]
    fn who_opens_many_loses_its_own_and_takes_no_memory() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let one = mark("one");
        let bobs = sessions.open("bob".into(), one.clone(), now).unwrap();
        let first = sessions.open("alice".into(), one.clone(), now).unwrap();
        for more in 1..=OF_USER_MAX as u64 {
            sessions.open("alice".into(), one.clone(), now + Duration::from_millis(more)).unwrap();
        }
        assert_eq!(sessions.0.len(), OF_USER_MAX + 1);
        let mut is_there = |token: &str| sessions.find(token, now, |_| Some(one.clone())).is_some();
        assert!(!is_there(&first) && is_there(&bobs));
    }
}

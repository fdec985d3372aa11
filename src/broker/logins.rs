//! Logins: who shows the right password, or proves to know it, becomes that user. Guessing costs time, and hashing takes turns.
//!
//! ```text
//! log_in ─────────► remembered here? ── no ──► a turn ──┐
//!                             └ yes ────────────────────┼──► guessing: at once, later, or not at all ──► is it right?
//! begin_scram ──► a challenge ──► finish_scram ─────────┘
//! log_in_by_token ─────► remembered? ── no ──► a turn ──► is it good?       nobody guesses a signature
//! ```
//!
//! A user whom there is not is treated as one whose password is wrong, by answer and by time.

use super::{Broker, Caller, Error, Permit, Protocol, Result, security_file::Security};
use crate::security::{
    Mark, Principal, Proof, Remembered, ScramCredential, ScramMechanism, Sessions, Turns,
    guessing::{Attempt, Guessing, Turn},
    password::{self, InMechanism},
    sasl::scram,
    tokens::{Claims, Fault, RefusedToken, Tokens},
};
use crate::{config::SecurityConfig, metrics::Connection};
use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, MutexGuard, RwLock, Weak,
        atomic::{AtomicU64, Ordering::*},
    },
    thread,
    time::{Duration, Instant},
};

/// How long who is refused at once waits for that: else it would ask again at once, and cost those who are logged in as much as they cost.
const REFUSED_AFTER: Duration = Duration::from_millis(300);

/// Whoever has connections of users, and ends those of one who was deleted.
pub trait EndsSessions: fmt::Debug + Send + Sync {
    /// Ends those of the user of this name.
    fn end_sessions_of(&self, user: &str);

    /// Has those of the user of this name look whether what they rest on still holds: a session ended, or the password is another.
    fn look_at_sessions_of(&self, user: &str);
}

/// What logins share.
#[derive(Debug)]
pub(super) struct Logins {
    guessing: Mutex<Guessing>,
    turns: Turns,
    remembered: Remembered,
    browsers: Mutex<Sessions>,
    /// Those of others that are taken, if any are.
    tokens: Option<Tokens>,
    /// From which challenges for nobody are derived where the data directory has no secret.
    secret: [u8; 32],
    /// How many users were deleted.
    deletions: AtomicU64,
    sessions: RwLock<Vec<Weak<dyn EndsSessions>>>,
}

/// Somebody who was sent a challenge.
pub struct ScramLogin {
    user: String,
    mechanism: ScramMechanism,
    credential: ScramCredential,
    challenged: scram::Challenged,
    deletions: u64,
}

impl fmt::Debug for ScramLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramLogin").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Who has proven to know a password, and the server's own proof.
#[derive(Debug)]
pub struct Proven {
    /// Who it is.
    pub principal: Principal,
    /// What to answer.
    pub proof: Vec<u8>,
}

/// What a password is compared with.
struct Known {
    mechanism: ScramMechanism,
    credential: ScramCredential,
    /// Whether there is such a user.
    is_somebody: bool,
}

impl Logins {
    /// As is configured; an error says what is wrong with that.
    pub(super) fn open(config: &SecurityConfig) -> Result<Logins> {
        if config.tokens.is_some() && !config.users {
            let why = "tokens say who callers are, which takes users: configure both or neither";
            return Err(Error::InvalidConfig(why.into()));
        }
        Ok(Logins {
            guessing: Mutex::default(),
            turns: Turns::default(),
            remembered: Remembered::default(),
            browsers: Mutex::default(),
            tokens: config.tokens.clone().map(Tokens::open).transpose().map_err(Error::InvalidConfig)?,
            secret: password::random(),
            deletions: AtomicU64::default(),
            sessions: RwLock::default(),
        })
    }

    fn guessing(&self) -> MutexGuard<'_, Guessing> {
        self.guessing.lock().expect("no panic while a login is checked")
    }

    /// What a user is known by: the newest, or in this mechanism. Of nobody it is made up.
    fn known<'a>(&self, security: &'a Security, user: &str, mechanism: Option<ScramMechanism>) -> Known {
        let newest = |own: &'a BTreeMap<ScramMechanism, ScramCredential>| newest(own, mechanism);
        // It is made up for everybody, so that its time does not tell.
        let secret = security.secret.as_ref().map_or(&self.secret[..], |secret| &secret.0);
        let all = security.credentials.values().filter_map(newest);
        let of_nobody = password::of_nobody(secret, mechanism.unwrap_or(ScramMechanism::Sha256), user, all);
        if let Some((mechanism, credential)) = security.credentials.get(user).and_then(newest) {
            return Known { mechanism, credential: credential.clone(), is_somebody: true };
        }
        let (mechanism, credential) = of_nobody;
        Known { mechanism, credential, is_somebody: false }
    }

    fn turn<T>(&self, address: IpAddr, dear: bool, work: impl FnOnce() -> T) -> T {
        if dear { self.turns.take(address, work) } else { work() }
    }

    /// One attempt of somebody at this address. `check` is asked when its time has come; it takes a turn if it is `dear`.
    fn attempt<T>(&self, address: IpAddr, user: &str, dear: bool, check: impl FnOnce() -> Option<T>) -> Option<T> {
        // Asked first: how long a turn is waited for would tell whether the password is remembered, at no cost.
        if self.guessing().refuses(address, user, Instant::now()) {
            thread::sleep(REFUSED_AFTER);
            return None;
        }
        let first = self.turn(address, dear, || {
            let mut guessing = self.guessing();
            match guessing.attempt(address, user, Instant::now()) {
                Turn::Never => Err(None),
                Turn::After(Duration::ZERO, attempt) => Ok(judge(&mut guessing, attempt, check)),
                Turn::After(wait, attempt) => Err(Some((wait, attempt, check))),
            }
        });
        match first {
            Ok(found) => found,
            Err(None) => {
                thread::sleep(REFUSED_AFTER);
                None
            }
            Err(Some((wait, attempt, check))) => {
                thread::sleep(wait);
                self.turn(address, dear, || judge(&mut self.guessing(), attempt, check))
            }
        }
    }

    /// Ends the connections of a user who was deleted.
    pub(super) fn deleted(&self, user: &str) {
        self.deletions.fetch_add(1, AcqRel);
        self.tell(|sessions| sessions.end_sessions_of(user));
    }

    /// A session of this user ended, or its password is another by now.
    pub(super) fn changed(&self, user: &str) {
        self.tell(|sessions| sessions.look_at_sessions_of(user));
    }

    fn tell(&self, what: impl Fn(&dyn EndsSessions)) {
        let sessions = self.sessions.read().expect("no panic under the lock of sessions").clone();
        sessions.iter().filter_map(Weak::upgrade).for_each(|sessions| what(&*sessions));
    }
}

/// The newest of a user's credentials, in this mechanism or any; of those that were set together the cheaper one.
fn newest(
    own: &BTreeMap<ScramMechanism, ScramCredential>,
    mechanism: Option<ScramMechanism>,
) -> Option<InMechanism<&ScramCredential>> {
    let own = own.iter().filter(|(of, _)| mechanism.is_none_or(|mechanism| mechanism == **of));
    own.max_by_key(|(of, credential)| (credential.change, Reverse(**of))).map(|(of, credential)| (*of, credential))
}

/// Whether an attempt is right. It is checked under the lock: of those that come together, each counts what those before it came to.
fn judge<T>(guessing: &mut Guessing, attempt: Attempt, check: impl FnOnce() -> Option<T>) -> Option<T> {
    let found = check();
    match found {
        Some(_) => guessing.right(attempt, Instant::now()),
        None => guessing.wrong(attempt, Instant::now()),
    }
    found
}

impl Broker {
    fn logins(&self) -> &Logins {
        &self.state(&Permit::for_everybody()).logins
    }

    fn attempt<T>(&self, user: &str, dear: bool, check: impl FnOnce() -> Option<T>) -> Option<T> {
        if !self.config().security.login_delay {
            return check();
        }
        self.logins().attempt(self.address(), user, dear, check)
    }

    /// Whose turn it is.
    fn address(&self) -> IpAddr {
        self.caller().address.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip())
    }

    /// Whether callers have to say who they are.
    pub fn asks_who(&self) -> bool {
        self.config().security.users
    }

    /// Who the caller is, who shows this name and this password. It takes as long as guessing costs at the caller's address: some
    /// milliseconds, or seconds.
    pub fn log_in(&self, user: &str, password: &[u8]) -> Result<Principal> {
        if password.len() > password::BYTES_MAX || user.len() > password::BYTES_MAX {
            return Err(Error::LoginFailed);
        }
        let logins = self.logins();
        let security = self.env(&Permit::for_everybody()).security.get();
        let Known { mechanism, credential, is_somebody } = logins.known(&security, user, None);
        // Looked at for nobody, too, and only then whether it is somebody: neither is to take longer.
        let is_remembered = logins.remembered.knows(self.address(), user, &credential, password) && is_somebody;
        let found = self.attempt(user, !is_remembered, || {
            let is_right = is_remembered || password::matches(mechanism, &credential, password);
            (is_right && is_somebody).then_some(())
        });
        // It may have waited, and there is another password by now, or no such user.
        found.filter(|()| self.is_known_by(user, None, &credential)).ok_or_else(|| self.failed(user))?;
        logins.remembered.keep(self.address(), user, &credential, password);
        // Over HTTP each request says who asks.
        Ok(self.entered(Principal::new(user, Proof::Password), is_remembered))
    }

    /// Whether tokens say who callers are.
    pub fn takes_tokens(&self) -> bool {
        self.logins().tokens.is_some()
    }

    /// Reads the keys of tokens again if their file has changed, or in any case if it `must`, and tells on stderr what came of it.
    pub fn look_at_keys(&self, must: bool) {
        match self.logins().tokens.as_ref().and_then(|tokens| tokens.look(must)) {
            None => {}
            Some(Ok(count)) => {
                crate::tell::tell(format_args!("the keys of tokens were read again; from now on {count} go"))
            }
            Some(Err(why)) => {
                crate::tell::tell(format_args!("the keys of tokens were read again and the old ones stay: {why}"))
            }
        }
    }

    /// Who the caller is, who shows this token, and until when. It may say itself as whom it wants to act, which is whom the token names.
    /// All tokens that are not taken are one error, and [`Error::LoginFailed`] is whoever wants to act as another.
    pub fn log_in_by_token(&self, token: &str, acts_as: Option<&str>) -> Result<Principal> {
        let logins = self.logins();
        let Some(tokens) = &logins.tokens else { return Err(Error::TokenRefused) };
        self.look_at_keys(false);
        let now_ms = self.now_ms();
        let remembered = tokens.remembered(token, now_ms);
        let is_remembered = remembered.is_some();
        let checked = match remembered {
            Some(claims) => Ok(claims),
            None => logins.turn(self.address(), true, || tokens.check(token, now_ms)),
        };
        let Claims { subject, ends_ms } = checked.map_err(|refused| {
            self.refuse(&refused);
            Error::TokenRefused
        })?;
        if acts_as.is_some_and(|other| *other != *subject) {
            self.refuse(&RefusedToken { fault: Fault::ActsAsAnother, subject: Some(subject.to_string()) });
            return Err(Error::LoginFailed);
        }
        let left = Duration::from_millis(ends_ms.saturating_sub(now_ms).max(0) as u64);
        let principal = Principal { name: subject, proof: Proof::Token, ends: Instant::now().checked_add(left) };
        Ok(self.entered(principal, is_remembered))
    }

    /// Notes a token that is not taken, and has whoever showed it wait.
    fn refuse(&self, token: &RefusedToken) {
        if let Some(audit) = self.audit() {
            audit.token_refused(self.caller(), token);
        }
        if self.config().security.login_delay {
            thread::sleep(REFUSED_AFTER);
        }
    }

    /// The challenge for what a client says first, and what waits for its proof.
    pub fn begin_scram(&self, mechanism: ScramMechanism, message: &[u8]) -> Result<(Vec<u8>, ScramLogin)> {
        let first = scram::first(message).ok_or(Error::LoginFailed)?;
        let deletions = self.deletions();
        let security = self.env(&Permit::for_everybody()).security.get();
        let Known { credential, is_somebody, .. } = self.logins().known(&security, &first.user, Some(mechanism));
        let user = first.user.clone();
        let (said, challenged) = first.challenge(mechanism, credential.clone(), is_somebody, &password::generated());
        Ok((said, ScramLogin { user, mechanism, credential, challenged, deletions }))
    }

    /// Who the caller is, who answers a challenge so. As in Kafka, a credential that Kafka's API took away meanwhile still goes; one of
    /// a user who was deleted does not, though there is another one of that name.
    pub fn finish_scram(&self, login: ScramLogin, message: &[u8]) -> Result<Proven> {
        let ScramLogin { user, mechanism, credential, challenged, deletions } = login;
        let proof = self.attempt(&user, false, || challenged.finish(message)).ok_or_else(|| self.failed(&user))?;
        if self.deletions() != deletions && !self.is_known_by(&user, Some(mechanism), &credential) {
            return Err(self.failed(&user));
        }
        Ok(Proven { principal: self.entered(Principal::new(&user, Proof::Password), false), proof })
    }

    /// Whether this is what a user is known by now: the newest, or in this mechanism.
    fn is_known_by(&self, user: &str, mechanism: Option<ScramMechanism>, credential: &ScramCredential) -> bool {
        let security = self.env(&Permit::for_everybody()).security.get();
        self.logins().known(&security, user, mechanism).credential == *credential
    }

    /// The one who has logged in. Over HTTP each request does, of which those are no news by what `is_remembered`.
    fn entered(&self, principal: Principal, is_remembered: bool) -> Principal {
        if !(is_remembered && self.caller().protocol == Protocol::Http) {
            self.on_behalf_of(Caller { principal: principal.clone(), ..self.caller().clone() }).note_login();
        }
        principal
    }

    /// Notes that the caller did not prove to be this user.
    fn failed(&self, user: &str) -> Error {
        if let Some(audit) = self.audit() {
            audit.login_failed(self.caller(), user);
        }
        Error::LoginFailed
    }

    /// Notes whose connection it is from now on, if it is one of the broker's own users: it ends with that user. An error: the user
    /// was deleted between its login and this.
    pub fn attach(&self, connection: &Connection, principal: Option<&Principal>) -> Result<()> {
        if principal.is_some() {
            connection.set_known();
        }
        let user = principal.filter(|principal| principal.is_user()).map(|principal| principal.name.clone());
        let before = connection.user();
        connection.set_user(user.clone());
        // Looked at afterwards: whoever is deleted later takes the connection along. What Kafka's API took away ends none, as there.
        let is_there = |user: &str| self.env(&Permit::for_everybody()).security.get().credentials.contains_key(user);
        let is_deleted = |user: &Arc<str>| self.deletions() > 0 && !is_there(user);
        if !user.is_some_and(|user| is_deleted(&user)) {
            return Ok(());
        }
        // It goes on as whoever it was, and ends with that one, who may have been deleted meanwhile.
        connection.set_user(before.clone());
        if let Some(user) = before.filter(is_deleted) {
            self.logins().tell(|sessions| sessions.end_sessions_of(&user));
        }
        Err(Error::LoginFailed)
    }

    /// How many users were deleted since the start.
    fn deletions(&self) -> u64 {
        self.logins().deletions.load(Acquire)
    }

    /// What tells the password that a user has from others that it had or will have; `None`: there is no such user. Sessions that end
    /// with it keep it.
    pub fn password_mark(&self, user: &str) -> Option<Mark> {
        let (logins, security) = (self.logins(), self.env(&Permit::for_everybody()).security.get());
        let known = logins.known(&security, user, None);
        // Made for nobody, too.
        let mark = logins.remembered.mark(&known.credential, b"");
        known.is_somebody.then_some(mark)
    }

    /// Opens a session of a browser for the user who shows this password, as [`log_in`](Self::log_in) does, and answers its token;
    /// `None`: there are too many.
    pub fn open_session(&self, user: &str, password: &[u8]) -> Result<Option<String>> {
        // Of a time before: where the password changes meanwhile, the session ends at once rather than to stand for the new one.
        let mark = self.password_mark(user);
        let name = self.log_in(user, password)?.name;
        Ok(mark.and_then(|mark| self.browsers().open(name, mark, Instant::now())))
    }

    /// Whose session a token stands for, if that lasts.
    pub fn session(&self, token: &str) -> Option<Principal> {
        let user = self.browsers().find(token, Instant::now(), |user| self.password_mark(user))?;
        Some(Principal::new(&user, Proof::Password))
    }

    /// Ends a session, and what goes on in it.
    pub fn close_session(&self, token: &str) {
        let user = self.browsers().close(token);
        user.iter().for_each(|user| self.logins().changed(user));
    }

    fn browsers(&self) -> MutexGuard<'_, Sessions> {
        self.logins().browsers.lock().expect("no panic under the lock of sessions")
    }

    /// From now on `sessions` is told of users who are deleted and of logins that end, for as long as it lasts.
    pub fn tell_of_deletions(&self, sessions: Weak<dyn EndsSessions>) {
        let mut all = self.logins().sessions.write().expect("no panic under the lock of sessions");
        all.retain(|sessions| sessions.strong_count() > 0);
        all.push(sessions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::ScramChange,
        config::Config,
        security::{
            password::work::{self, Work},
            sasl::scram::testing,
        },
    };
    use std::sync::mpsc;

    fn with_alice() -> Broker {
        let mut config = Config::in_memory();
        (config.security.users, config.security.login_delay) = (true, false);
        let broker = Broker::open(config).unwrap();
        broker.add_user("alice", "secret").unwrap();
        broker
    }

    /// Kafka's API sets how often passwords are hashed, and with what.
    #[test]
    fn a_name_that_there_is_not_is_challenged_as_one_that_there_is_whoever_set_its_password() {
        let broker = with_alice();
        let [sha256, sha512] = ScramMechanism::ALL;
        let set = |mechanism, iterations, salt: &[u8]| {
            let credential = password::keys(mechanism, iterations, salt, b"salted");
            broker.alter_scram_credentials([ScramChange {
                user: "alice".into(),
                mechanism,
                credential: Some(credential),
            }])
        };
        set(sha256, 4096, b"short").unwrap();
        set(sha512, 10_000, &[7; 100]).unwrap();
        for mechanism in [sha256, sha512] {
            let challenge = |user: &str| {
                let (said, _) = broker.begin_scram(mechanism, format!("n,,n={user},r=abc").as_bytes()).unwrap();
                let said = String::from_utf8(said).unwrap();
                let (salt, times) = said.split_once(",s=").unwrap().1.split_once(",i=").unwrap();
                (salt.len(), times.to_string())
            };
            assert_eq!(challenge("alice"), challenge("nobody"), "{mechanism:?}");
        }
        // SHA-512, as it was set last.
        let work = |user: &str| work::of(|| assert!(broker.log_in(user, b"guess").is_err()));
        assert_eq!((work("alice"), work("alice").rounds), (work("nobody"), 10_000));
    }

    /// By waiting for a turn it was told that its guess is not the password that is remembered, and nothing was counted.
    #[test]
    fn who_is_locked_out_waits_for_no_turn() {
        let mut config = Config::in_memory();
        (config.security.users, config.security.login_delay) = (true, true);
        let broker = &Broker::open(config).unwrap();
        broker.add_user("alice", "secret").unwrap();
        broker.log_in("alice", b"secret").unwrap();
        let (logins, mut now) = (broker.logins(), Instant::now());
        let mut guessing = logins.guessing();
        while let Turn::After(wait, attempt) = guessing.attempt(broker.address(), "alice", now) {
            now += wait;
            guessing.wrong(attempt, now);
        }
        drop(guessing);
        thread::scope(|scope| {
            let ((taken, is_taken), (give_back, given_back)) = (mpsc::channel(), mpsc::channel::<()>());
            scope.spawn(move || {
                logins.turns.take([10, 0, 0, 1].into(), || {
                    taken.send(()).unwrap();
                    given_back.recv().unwrap_err();
                })
            });
            is_taken.recv().unwrap();
            let (told, answers) = mpsc::channel();
            for password in ["guess", "secret"] {
                let told = told.clone();
                scope.spawn(move || told.send(broker.log_in("alice", password.as_bytes()).is_err()));
            }
            let answers = [(); 2].map(|()| answers.recv_timeout(Duration::from_secs(30)));
            drop(give_back);
            assert_eq!(answers, [Ok(true), Ok(true)]);
        });
    }

    /// By what it takes, which a clock would tell less surely; `benches/strangers.py --only timing` asks a clock.
    #[test]
    fn a_name_that_there_is_not_takes_the_work_of_a_wrong_password() {
        let broker = with_alice();
        let same = |what: &dyn Fn(&str)| {
            let [alice, nobody] = ["alice", "nobody"].map(|user| work::of(|| what(user)));
            assert_eq!(alice, nobody);
            alice
        };
        // Before she was ever there, and afterwards.
        for _ in 0..2 {
            let Work { rounds, .. } = same(&|user| assert!(broker.log_in(user, b"guess").is_err()));
            assert_eq!(rounds, password::ITERATIONS);
            let Work { rounds, .. } = same(&|user| assert!(broker.open_session(user, b"guess").is_err()));
            assert_eq!(rounds, password::ITERATIONS);
            for mechanism in ScramMechanism::ALL {
                let took = same(&|user| {
                    let bare = format!("n={user},r=abc");
                    let (challenge, login) = broker.begin_scram(mechanism, format!("n,,{bare}").as_bytes()).unwrap();
                    let challenge = String::from_utf8(challenge).unwrap();
                    let (proof, _) = testing::client(mechanism, &[7; 32], "n,,", &bare, &challenge);
                    assert!(broker.finish_scram(login, proof.as_bytes()).is_err());
                });
                assert!(took.rounds == 0 && took.signatures > 3, "{took:?}");
            }
            broker.log_in("alice", b"secret").unwrap();
        }
    }
}

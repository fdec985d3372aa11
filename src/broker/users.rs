//! The broker's own users: who there is, and how one is made, gets another password and goes.
//!
//! What is kept of a password are its [credentials](super::scram_credentials), in each mechanism. Kafka's clients change those one by
//! one; here they change together.

use super::{ADMIN, Broker, Error, Permit, Result, security_file::Secret};
use crate::security::{Operation, ScramCredential, ScramCredentials, ScramMechanism, password};
use std::{collections::BTreeMap, sync::Arc};

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// How it can prove to know its password.
    pub mechanisms: Vec<ScramMechanism>,
    /// Whether it may do everything.
    pub is_super: bool,
}

impl Broker {
    /// Whether the data directory has users, so that it is no more for everybody: since [`Broker::begin_with_users`].
    pub fn has_users(&self) -> bool {
        self.env(&Permit::for_everybody()).security.get().secret.is_some()
    }

    /// The same broker, if it knows users; an error says why not.
    pub fn with_users(&self) -> std::result::Result<&Broker, &'static str> {
        let knows = self.asks_who() || self.has_users();
        knows.then_some(self).ok_or("this broker asks nobody who they are; --users would")
    }

    /// From here on the data directory has users: the super user `admin`, with this password. What was kept of one of that name goes:
    /// anybody may have made it.
    pub fn begin_with_users(&self, admin_password: &str) -> Result<()> {
        let permit = self.ask_cluster(Operation::Alter)?;
        password::check_new(admin_password).map_err(Error::InvalidUser)?;
        let keys = password::new_keys(admin_password);
        let env = self.env(&permit);
        env.change_kept(&env.security, |security| {
            security.secret = Some(Secret(password::random::<32>().into()));
            set(Arc::make_mut(&mut security.credentials), ADMIN, keys);
        })?;
        self.note("users-begun", &[]);
        Ok(())
    }

    /// All users.
    pub fn users(&self) -> Result<Vec<User>> {
        let credentials = self.scram_credentials()?;
        let super_users = &self.config().security.super_users;
        let user = |(name, own): (&String, &BTreeMap<ScramMechanism, ScramCredential>)| User {
            name: name.clone(),
            mechanisms: own.keys().copied().collect(),
            is_super: name == ADMIN || super_users.contains(&format!("User:{name}")),
        };
        Ok(credentials.iter().map(user).collect())
    }

    /// Makes a user.
    pub fn add_user(&self, name: &str, password: &str) -> Result<()> {
        self.change_user(
            name,
            password,
            |is_there| if is_there { Err(Error::UserExists(name.into())) } else { Ok(()) },
        )?;
        self.note("user-made", &[("user", &name)]);
        Ok(())
    }

    /// Gives a user another password. Its open connections go on; over HTTP, where each request shows it, what rests on the old one ends.
    pub fn set_password(&self, name: &str, password: &str) -> Result<()> {
        self.change_user(
            name,
            password,
            |is_there| if is_there { Ok(()) } else { Err(Error::UnknownUser(name.into())) },
        )?;
        self.state(&Permit::for_everybody()).logins.changed(name);
        self.note("password-changed", &[("user", &name)]);
        Ok(())
    }

    fn change_user(&self, name: &str, password: &str, may: impl Fn(bool) -> Result<()>) -> Result<()> {
        let permit = self.ask_cluster(Operation::Alter)?;
        password::check_name(name).and_then(|()| password::check_new(password)).map_err(Error::InvalidUser)?;
        let env = self.env(&permit);
        may(env.security.get().credentials.contains_key(name))?;
        let (keys, mut done) = (password::new_keys(password), Ok(()));
        env.change_kept(&env.security, |security| {
            let credentials = Arc::make_mut(&mut security.credentials);
            // Somebody else may have been faster.
            done = may(credentials.contains_key(name)).map(|()| set(credentials, name, keys));
        })?;
        done
    }

    /// Deletes a user, and ends its connections. Answers how many rules still name it.
    pub fn delete_user(&self, name: &str) -> Result<usize> {
        let permit = self.ask_cluster(Operation::Alter)?;
        if name == ADMIN {
            return Err(Error::admin_stays());
        }
        let (env, mut was_there) = (self.env(&permit), false);
        if env.security.get().credentials.contains_key(name) {
            env.change_kept(&env.security, |security| {
                was_there = Arc::make_mut(&mut security.credentials).remove(name).is_some();
            })?;
        }
        if !was_there {
            return Err(Error::UnknownUser(name.into()));
        }
        self.state(&permit).logins.deleted(name);
        self.note("user-deleted", &[("user", &name)]);
        let (rules, principal) = (env.security.get().rules.clone(), format!("User:{name}"));
        Ok(rules.iter().filter(|acl| acl.principal == principal).count())
    }
}

/// Sets all credentials of a user.
fn set(credentials: &mut ScramCredentials, name: &str, mut keys: BTreeMap<ScramMechanism, ScramCredential>) {
    let last = credentials.values().flat_map(|own| own.values()).map(|credential| credential.change).max();
    keys.values_mut().for_each(|credential| credential.change = last.unwrap_or(0) + 1);
    credentials.insert(name.into(), keys);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{Caller, Clock, EndsSessions, Protocol, ScramChange},
        config::Config,
        log::disk::{self, Call, Fault, MemoryDisk, Survivors},
        security::{Principal, Proof},
    };
    use std::{
        path::Path,
        sync::{Mutex, Weak},
    };

    fn config() -> Config {
        let mut config = Config::in_memory();
        config.security.users = true;
        config.security.login_delay = false;
        config
    }

    fn with_admin() -> Broker {
        let broker = Broker::open(config()).unwrap();
        broker.begin_with_users("secret").unwrap();
        broker
    }

    #[test]
    fn users_come_change_their_passwords_and_go() {
        let broker = with_admin();
        let may_enter = |name: &str, password: &str| broker.log_in(name, password.as_bytes()).is_ok();
        assert_eq!(broker.log_in("admin", b"secret").unwrap(), Principal::new("admin", Proof::Password));
        broker.add_user("alice", "one").unwrap();
        assert_eq!(broker.add_user("alice", "two"), Err(Error::UserExists("alice".into())));
        assert!(may_enter("alice", "one") && may_enter("alice", "one") && !may_enter("alice", "two"));
        let mark = broker.password_mark("alice").unwrap();
        broker.set_password("alice", "two").unwrap();
        assert!(!may_enter("alice", "one") && may_enter("alice", "two"));
        assert_ne!(broker.password_mark("alice").unwrap(), mark);
        assert_eq!(broker.set_password("bob", "x"), Err(Error::UnknownUser("bob".into())));
        let users = broker.users().unwrap();
        let of = |name: &str, is_super| User { name: name.into(), mechanisms: ScramMechanism::ALL.into(), is_super };
        assert_eq!(users, [of("admin", true), of("alice", false)]);
        assert_eq!(broker.delete_user("alice"), Ok(0));
        assert_eq!(broker.delete_user("alice"), Err(Error::UnknownUser("alice".into())));
        assert!(!may_enter("alice", "two") && broker.password_mark("alice").is_none());
        // Nothing of before is known of one who comes again.
        broker.add_user("alice", "three").unwrap();
        assert!(!may_enter("alice", "two") && may_enter("alice", "three"));
        assert!(broker.delete_user("admin").is_err());
        for (name, password) in [("", "x"), ("ANONYMOUS", "x"), ("a\nb", "x"), ("a", ""), ("a", "\u{ad}")] {
            assert!(matches!(broker.add_user(name, password), Err(Error::InvalidUser(_))), "{name} {password}");
        }
    }

    #[test]
    fn the_newest_keys_decide_over_a_password() {
        let broker = with_admin();
        broker.add_user("alice", "old").unwrap();
        let [_, sha512] = ScramMechanism::ALL;
        let credential = password::new_keys("new").remove(&sha512);
        broker.alter_scram_credentials([ScramChange { user: "alice".into(), mechanism: sha512, credential }]).unwrap();
        assert!(broker.log_in("alice", b"old").is_err() && broker.log_in("alice", b"new").is_ok());
    }

    #[test]
    fn admin_does_not_lose_its_last_credential_whoever_takes_it() {
        let broker = with_admin();
        let without = |mechanism| ScramChange { user: ADMIN.into(), mechanism, credential: None };
        let credential = password::new_keys("x").remove(&ScramMechanism::Sha256);
        let other = ScramChange { user: "alice".into(), mechanism: ScramMechanism::Sha256, credential };
        let [one, both] = [1, 2].map(|count| ScramMechanism::ALL.into_iter().take(count).map(without));
        assert_eq!(broker.alter_scram_credentials(both.chain([other])), Err(Error::admin_stays()));
        assert_eq!(broker.users().unwrap().len(), 1, "all changes or none");
        broker.alter_scram_credentials(one).unwrap();
        assert!(broker.log_in("admin", b"secret").is_ok());
    }

    #[test]
    fn who_may_not_change_the_broker_changes_no_user() {
        let broker = with_admin();
        let bob = broker.on_behalf_of(Caller {
            principal: broker.log_in("admin", b"secret").map(|_| Principal::new("bob", Proof::Password)).unwrap(),
            protocol: Protocol::Text,
            address: Some("127.0.0.1:1".parse().unwrap()),
            client_id: String::new(),
        });
        assert!(matches!(bob.add_user("x", "x"), Err(Error::NotAuthorized { .. })));
        assert!(matches!(bob.set_password("admin", "x"), Err(Error::NotAuthorized { .. })));
        assert!(matches!(bob.delete_user("x"), Err(Error::NotAuthorized { .. })));
        assert!(bob.users().is_err() && bob.begin_with_users("x").is_err());
    }

    #[test]
    fn wrong_passwords_cost_time_and_a_known_user_is_not_locked_out() {
        let mut config = config();
        config.security.login_delay = true;
        let broker = Broker::open(config).unwrap();
        broker.begin_with_users("secret").unwrap();
        let at = |host: u8| {
            broker.on_behalf_of(Caller {
                principal: Principal::anonymous(),
                protocol: Protocol::Text,
                address: Some(([10, 0, 0, host], 1).into()),
                client_id: String::new(),
            })
        };
        at(1).log_in("admin", b"secret").unwrap();
        let begun = std::time::Instant::now();
        // The fourth waits for a second; those that come meanwhile wait longer than anybody may.
        std::thread::scope(|scope| {
            (0..30).for_each(|_| drop(scope.spawn(|| assert!(at(2).log_in("admin", b"guess").is_err()))));
        });
        assert!(begun.elapsed().as_millis() >= 990, "{:?}", begun.elapsed());
        assert!(at(2).log_in("admin", b"secret").is_err(), "nobody is checked there now");
        assert!(at(3).log_in("admin", b"secret").is_err(), "nor by that name elsewhere");
        at(1).log_in("admin", b"secret").unwrap();
    }

    #[derive(Debug, Default)]
    struct Ended(Mutex<Vec<String>>);

    impl EndsSessions for Ended {
        fn end_sessions_of(&self, user: &str) {
            self.0.lock().unwrap().push(user.into());
        }

        fn look_at_sessions_of(&self, user: &str) {
            self.0.lock().unwrap().push(format!("look at {user}"));
        }
    }

    #[test]
    fn a_session_that_ends_and_a_password_that_changes_are_told() {
        let broker = with_admin();
        broker.add_user("alice", "secret").unwrap();
        let ended = Arc::new(Ended::default());
        let weak: Weak<Ended> = Arc::downgrade(&ended);
        broker.tell_of_deletions(weak);
        let told = || std::mem::take(&mut *ended.0.lock().unwrap());
        let token = broker.open_session("alice", b"secret").unwrap().unwrap();
        broker.close_session(&token);
        assert_eq!(told(), ["look at alice"]);
        broker.close_session(&token);
        assert_eq!(told(), [""; 0], "it had ended");
        broker.set_password("alice", "other").unwrap();
        assert_eq!(told(), ["look at alice"]);
        broker.set_password("admin", "other").unwrap();
        let changes = vec![ScramChange { user: "alice".into(), mechanism: ScramMechanism::Sha512, credential: None }];
        broker.alter_scram_credentials(changes).unwrap();
        assert_eq!(told(), ["look at admin", "look at alice"]);
    }

    #[test]
    fn whoever_is_deleted_is_told_of_and_does_not_get_in_by_a_challenge_of_before() {
        let broker = with_admin();
        broker.add_user("alice", "secret").unwrap();
        let ended = Arc::new(Ended::default());
        let weak: Weak<Ended> = Arc::downgrade(&ended);
        broker.tell_of_deletions(weak);
        let connection = broker.metrics().connections.connected("127.0.0.1:1".parse().unwrap(), 0);
        let alice = broker.log_in("alice", b"secret").unwrap();
        assert_eq!(broker.attach(&connection, Some(&alice)), Ok(()));
        assert_eq!(connection.user().as_deref(), Some("alice"));
        broker.delete_user("alice").unwrap();
        assert_eq!(*ended.0.lock().unwrap(), ["alice"]);
        // A connection that was about to be hers was not among those that were ended: it stays whose it was, and ends with that one.
        let late = broker.metrics().connections.connected("127.0.0.1:2".parse().unwrap(), 0);
        assert_eq!(broker.attach(&late, Some(&alice)), Err(Error::LoginFailed));
        assert_eq!(late.user(), None);
        broker.add_user("bob", "secret").unwrap();
        let bob = broker.log_in("bob", b"secret").unwrap();
        assert_eq!(broker.attach(&late, Some(&bob)), Ok(()));
        assert_eq!(broker.attach(&late, Some(&alice)), Err(Error::LoginFailed));
        assert_eq!((late.user().as_deref(), ended.0.lock().unwrap().len()), (Some("bob"), 1));
        broker.delete_user("bob").unwrap();
        ended.0.lock().unwrap().clear();
        assert_eq!(broker.attach(&late, Some(&alice)), Err(Error::LoginFailed));
        assert_eq!(*ended.0.lock().unwrap(), ["bob"], "he went while it was about to be hers");
        assert_eq!(broker.attach(&late, None), Ok(()));
    }

    #[test]
    fn a_password_that_changes_while_an_attempt_waits_is_not_taken_any_more() {
        let mut config = config();
        config.security.login_delay = true;
        let broker = Broker::open(config).unwrap();
        broker.begin_with_users("secret").unwrap();
        broker.add_user("alice", "old").unwrap();
        (0..3).for_each(|_| assert!(broker.log_in("alice", b"guess").is_err()));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| broker.log_in("alice", b"old"));
            broker.set_password("alice", "new").unwrap();
            assert_eq!(waits.join().unwrap(), Err(Error::LoginFailed));
        });
        assert!(broker.open_session("alice", b"old").is_err());
    }

    #[test]
    fn a_data_directory_with_users_opens_only_for_who_asks_for_them_or_says_that_nobody_does() {
        let disk = MemoryDisk::default();
        let open = |users, without_users| {
            let mut config = config();
            (config.security.users, config.security.without_users) = (users, without_users);
            Broker::open_on(Arc::new(disk.clone()), config, Clock::System)
        };
        assert!(!open(false, false).unwrap().has_users());
        open(true, false).unwrap().begin_with_users("secret").unwrap();
        let kept = || disk::read_small(&disk, Path::new("memory/~broker"), 1 << 20).unwrap();
        let before = kept();
        let why = open(false, false).unwrap_err().to_string();
        assert!(why.contains("has users") && kept() == before, "{why}");
        assert!(open(false, true).unwrap().has_users());
        assert!(open(true, false).unwrap().log_in("admin", b"secret").is_ok());
    }

    #[test]
    fn users_begin_with_a_crash_at_any_step_wholly_or_not_at_all() {
        for nth in 1.. {
            let disk = MemoryDisk::crashable();
            let open = |disk: MemoryDisk| Broker::open_on(Arc::new(disk), config(), Clock::System).unwrap();
            let broker = open(disk.clone());
            disk.fault(Call::Any, nth, Fault::Error);
            let begun = broker.begin_with_users("secret").is_ok();
            let after = open(disk.reboot(Survivors::Nothing));
            assert_eq!((after.has_users(), after.log_in("admin", b"secret").is_ok()), (begun, begun), "call {nth}");
            if begun {
                break;
            }
        }
    }
}

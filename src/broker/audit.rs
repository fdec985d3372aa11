//! The audit: a line for each login, refusal and change, in a file that is only appended to.
//!
//! ```text
//! 2026-11-30T09:46:27.123Z login principal:User:alice address:10.0.0.7:52410 protocol:kafka
//! 2026-11-30T09:46:28.002Z login-failed principal:User:ANONYMOUS address:10.0.0.9:40122 protocol:text user:mallory
//! 2026-11-30T09:46:28.750Z login-failed principal:User:ANONYMOUS address:10.0.0.7:52411 protocol:http token:expired user:alice
//! 2026-11-30T09:46:29.500Z refused principal:User:alice address:10.0.0.7:52410 protocol:kafka operation:write topic:salaries
//! 2026-11-30T09:46:31.017Z topic-made principal:User:admin address:127.0.0.1:51000 protocol:http topic:orders partitions:3
//! 2026-11-30T09:46:40.000Z left-out lines:120
//! ```
//!
//! - A line is the time (UTC), what happened, by whom from where and how, and what of. Values are escaped as words of the text protocol,
//!   so that nobody can write a line. There is never a password, a key or a record in it.
//! - Failed logins and refusals, which anybody can cause, get at most [`FAILURES_MAX`] lines a second; how many were left out says a
//!   line of its own. Logins and changes are all told; requests over HTTP with a password or a token that was right before are no new logins.
//! - Commits are no changes: members make them all the time, and Kafka's tools reset offsets by the same request.
//! - What is only not shown, since its caller may not describe it, is no refusal.
//! - A line is written before what it tells is answered, and not synced. One that cannot be written is told on stderr, once until it can
//!   be again, and keeps nobody from going on. The file is for the broker's own user alone.

use super::{Caller, Clock};
use crate::{
    log::record::write_word,
    security::{Operation, ResourceType, tokens::RefusedToken},
};
use std::{
    fmt::{self, Display},
    fs::{File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Mutex,
};

/// How many lines of failures a second has.
const FAILURES_MAX: u64 = 20;

/// Where it is written.
#[derive(Debug)]
pub(super) struct Audit {
    path: PathBuf,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// The second of the failures that were last told, and how many there were in it.
    second: i64,
    failures: u64,
    left_out: u64,
    is_broken: bool,
}

/// A field of a line.
pub(super) type Field<'a> = (&'a str, &'a dyn Display);

impl Audit {
    pub(super) fn open(path: &Path, clock: Clock) -> io::Result<Audit> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        // Others may be let read one that was there. What is no file, such as a pipe, is left as it is.
        let found = file.metadata()?;
        let mode = found.permissions().mode();
        if found.is_file() && mode & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(mode & !0o077))?;
        }
        let state = State { file, second: 0, failures: 0, left_out: 0, is_broken: false };
        Ok(Audit { path: path.into(), clock, state: Mutex::new(state) })
    }

    /// Somebody logged in, or changed something.
    pub(super) fn done(&self, what: &str, by: &Caller, of: &[Field<'_>]) {
        self.write(what, by, of, false);
    }

    /// Somebody was refused something.
    pub(super) fn refused(&self, by: &Caller, operation: Operation, resource_type: ResourceType, name: &str) {
        if operation != Operation::Describe {
            self.write("refused", by, &[("operation", &operation), (resource_type.name(), &name)], true);
        }
    }

    /// Somebody did not prove to be this user.
    pub(super) fn login_failed(&self, by: &Caller, user: &str) {
        self.write("login-failed", by, &[("user", &user)], true);
    }

    /// Somebody showed a token that is not taken. Whom it names is told where its issuer has signed it.
    pub(super) fn token_refused(&self, by: &Caller, token: &RefusedToken) {
        let RefusedToken { fault, subject } = token;
        let user = subject.as_ref().map(|subject| ("user", subject as &dyn Display));
        let of: Vec<Field<'_>> = [("token", fault as &dyn Display)].into_iter().chain(user).collect();
        self.write("login-failed", by, &of, true);
    }

    fn write(&self, what: &str, by: &Caller, of: &[Field<'_>], is_failure: bool) {
        let now_ms = self.clock.now_ms();
        let mut state = self.state.lock().expect("no panic while a line is written");
        let mut lines = Vec::new();
        let second = now_ms.div_euclid(1000);
        if second != state.second {
            (state.second, state.failures) = (second, 0);
            let left_out = std::mem::take(&mut state.left_out);
            if left_out > 0 {
                write_line(&mut lines, now_ms, "left-out", &[("lines", &left_out)]);
            }
        }
        state.failures += u64::from(is_failure);
        if is_failure && state.failures > FAILURES_MAX {
            state.left_out += 1;
        } else {
            let address = by.address.map_or("here".into(), |address| address.to_string());
            let who: [Field<'_>; 3] =
                [("principal", &by.principal), ("address", &address), ("protocol", &by.protocol.name())];
            write_line(&mut lines, now_ms, what, &[&who, of].concat());
        }
        let written = state.file.write_all(&lines);
        let was_broken = std::mem::replace(&mut state.is_broken, written.is_err());
        if let Some(error) = written.err().filter(|_| !was_broken) {
            crate::tell::tell(format_args!("{}: the audit is not written: {error}", self.path.display()));
        }
    }
}

fn write_line(out: &mut Vec<u8>, now_ms: i64, what: &str, fields: &[Field<'_>]) {
    out.extend_from_slice(format!("{} {what}", Time(now_ms)).as_bytes());
    for (name, value) in fields {
        out.extend_from_slice(format!(" {name}:").as_bytes());
        write_word(out, value.to_string().as_bytes());
    }
    out.push(b'\n');
}

/// A time in ms since 1970-01-01 UTC, as RFC 3339 writes it.
struct Time(i64);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0.div_euclid(86_400_000), self.0.rem_euclid(86_400_000));
        // Years that begin in March, so that the odd day is the last: 400 of them have 146,097 days.
        let days = days + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let of_year = day - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let date = of_year - (153 * month + 2) / 5 + 1;
        let (year, month) = (era * 400 + year + i64::from(month >= 10), if month < 10 { month + 3 } else { month - 9 });
        let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(f, "{year:04}-{month:02}-{date:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", ms % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{Broker, Error, Protocol, ResourceName},
        config::{Config, TokensConfig},
        log::disk::MemoryDisk,
        security::{
            Principal, Proof,
            tokens::testing::{AUDIENCE, ISSUER, Issuer, KeyFile, claims},
        },
    };
    use std::{
        fs,
        sync::{
            Arc,
            atomic::{AtomicI64, Ordering::*},
        },
    };

    struct Audited {
        broker: Broker,
        now: Arc<AtomicI64>,
        path: PathBuf,
    }

    impl Drop for Audited {
        fn drop(&mut self) {
            drop(fs::remove_file(&self.path));
        }
    }

    impl Audited {
        fn new(name: &str) -> Audited {
            Audited::with(name, None)
        }

        fn with(name: &str, tokens: Option<TokensConfig>) -> Audited {
            let path = std::env::temp_dir().join(format!("plainlog-audit-{name}-{}", std::process::id()));
            drop(fs::remove_file(&path));
            let now = Arc::new(AtomicI64::new(1_764_495_987_123));
            let mut config = Config::in_memory();
            (config.security.users, config.security.login_delay) = (true, false);
            (config.security.audit, config.security.tokens) = (Some(path.clone()), tokens);
            let broker = Broker::open_on(Arc::new(MemoryDisk::default()), config, Clock::Manual(now.clone())).unwrap();
            broker.begin_with_users("admin secret").unwrap();
            Audited { broker, now, path }
        }

        fn of(&self, name: &str, proof: Proof) -> Broker {
            self.broker.on_behalf_of(Caller {
                principal: Principal::new(name, proof),
                protocol: Protocol::Text,
                address: Some("10.0.0.7:5".parse().unwrap()),
                client_id: String::new(),
            })
        }

        /// What was written since the last time, without what all lines have.
        fn take(&self) -> Vec<String> {
            let text = fs::read_to_string(&self.path).unwrap();
            fs::write(&self.path, "").unwrap();
            text.lines().map(|line| line.replace(" address:10.0.0.7:5 protocol:text", "")).collect()
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let shown = |ms| Time(ms).to_string();
        assert_eq!(shown(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(shown(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(shown(1_764_495_987_123), "2025-11-30T09:46:27.123Z");
        assert_eq!(shown(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(shown(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
        assert_eq!(shown(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn logins_refusals_and_changes_are_told_and_no_secret_is() {
        let audited = Audited::new("all");
        assert_eq!(fs::metadata(&audited.path).unwrap().permissions().mode() & 0o777, 0o600);
        let begun = audited.take();
        assert!(
            begun[0].ends_with(" users-begun principal:User:ANONYMOUS address:here protocol:embedded"),
            "{begun:?}"
        );
        let at = "2025-11-30T09:46:27.123Z ";
        let (admin, alice) = (audited.of("admin", Proof::Password), audited.of("alice", Proof::Password));
        let stranger = audited.of("ANONYMOUS", Proof::Nothing);
        admin.add_user("alice", "very secret").unwrap();
        admin.create_topic("orders", 3).unwrap();
        stranger.log_in("alice", b"very secret").unwrap();
        stranger.log_in("alice", b"wrong guess").unwrap_err();
        assert!(alice.drop_topic("orders").is_err() && alice.create_topic("x\ny", 1).is_err());
        assert!(alice.describe_topic("orders").is_err(), "it is only not shown");
        admin.drop_topic("orders").unwrap();
        let expected = [
            "user-made principal:User:admin user:alice",
            "topic-made principal:User:admin topic:orders partitions:3",
            "login principal:User:alice",
            "login-failed principal:User:ANONYMOUS user:alice",
            "refused principal:User:alice operation:delete topic:orders",
            "refused principal:User:alice operation:create topic:x\\ny",
            "topic-dropped principal:User:admin topic:orders",
        ];
        assert_eq!(audited.take(), expected.map(|line| format!("{at}{line}")));
    }

    #[test]
    fn a_file_that_others_could_read_is_closed_to_them() {
        let path = std::env::temp_dir().join(format!("plainlog-audit-open-{}", std::process::id()));
        fs::write(&path, "before\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        Audit::open(&path, Clock::System).unwrap().done("login", &Caller::embedded(), &[]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(&path).unwrap().starts_with("before\n20"));
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_is_done_to_groups_and_transactions_from_outside_is_told() {
        let audited = Audited::new("outside");
        let admin = audited.of("admin", Proof::Password);
        admin.create_topic("orders", 1).unwrap();
        audited.take();
        admin.reset_offsets("shop", &[("orders".into(), 0, 0)]).unwrap();
        admin.delete_offsets("shop", &[("orders".into(), 0)]).unwrap();
        admin.delete_group("shop").unwrap();
        let of = admin.find_partition("orders", 0).unwrap();
        admin.may_change_share_offsets("queue", true).unwrap();
        for start in [Some(0), None] {
            admin.write_share_offset("queue", &of, start).unwrap().make_durable().unwrap();
        }
        admin.delete_share_offsets("queue", "orders").unwrap();
        let options = crate::broker::ShareOptions {
            dead_letters: Some("dead".into()),
            lock_ms: Some(7000),
            ..Default::default()
        };
        drop(admin.join_queue("jobs", &["orders"], &options).unwrap());
        let _open = admin.begin_transaction("pay", 60_000).unwrap();
        admin.abort_transaction("pay").unwrap();
        let told = [
            "offset-reset principal:User:admin group:shop partition:orders/0 to:0",
            "offset-deleted principal:User:admin group:shop partition:orders/0",
            "group-deleted principal:User:admin group:shop",
            "offset-reset principal:User:admin group:queue partition:orders/0 to:0",
            "offset-reset principal:User:admin group:queue partition:orders/0 to:-",
            "offsets-deleted principal:User:admin group:queue topic:orders",
            "settings-changed principal:User:admin of:group name:jobs settings:errors.deadletterqueue.topic.name,\
             share.auto.offset.reset,share.isolation.level,share.record.lock.duration.ms",
            "topic-made principal:User:admin topic:dead partitions:1",
            "transaction-aborted principal:User:admin transactional-id:pay",
        ];
        assert_eq!(audited.take(), told.map(|line| format!("2025-11-30T09:46:27.123Z {line}")));
    }

    #[test]
    fn a_token_that_is_refused_is_told_by_its_fault_and_once_signed_by_its_name() {
        let issuer = Issuer::new("one");
        let keys = KeyFile::new("audit", &[&issuer]);
        let tokens = TokensConfig { keys: keys.0.clone(), audience: AUDIENCE.into(), issuer: ISSUER.into() };
        let audited = Audited::with("tokens", Some(tokens));
        audited.take();
        let stranger = audited.of("ANONYMOUS", Proof::Nothing);
        let http = Caller { protocol: Protocol::Http, ..stranger.caller().clone() };
        let over_http = audited.broker.on_behalf_of(http);
        let token = |subject: &str, ends_s| issuer.sign(&issuer.header(), &claims(subject, ends_s));
        let (good, bad) = (token("alice smith", 1_764_495_999), token("alice", 1_764_495_900));
        let principal = stranger.log_in_by_token(&good, None).unwrap();
        assert_eq!(principal, Principal { ends: principal.ends, ..Principal::new("alice smith", Proof::Token) });
        // The same one again with each request is no news.
        (0..3).for_each(|_| assert!(over_http.log_in_by_token(&good, Some("alice smith")).is_ok()));
        for refused in [&bad, &Issuer::new("one").token("alice"), "secret"] {
            assert_eq!(stranger.log_in_by_token(refused, None), Err(Error::TokenRefused));
        }
        assert_eq!(stranger.log_in_by_token(&good, Some("bob")), Err(Error::LoginFailed));
        let expected = [
            "login principal:User:alice\\x20smith",
            "login-failed principal:User:ANONYMOUS token:expired user:alice",
            "login-failed principal:User:ANONYMOUS token:wrong-signature",
            "login-failed principal:User:ANONYMOUS token:malformed",
            "login-failed principal:User:ANONYMOUS token:acts-as-another user:alice\\x20smith",
        ];
        assert_eq!(audited.take(), expected.map(|line| format!("2025-11-30T09:46:27.123Z {line}")));
    }

    #[test]
    fn over_http_a_login_is_told_once_for_each_address() {
        let audited = Audited::new("http");
        audited.broker.add_user("alice", "secret").unwrap();
        audited.take();
        let at = |host| {
            audited.broker.on_behalf_of(Caller {
                principal: Principal::anonymous(),
                protocol: Protocol::Http,
                address: Some(([10, 0, 0, host], 5).into()),
                client_id: String::new(),
            })
        };
        for host in [1, 1, 2, 1, 2] {
            at(host).log_in("alice", b"secret").unwrap();
        }
        let told = audited.take();
        assert!(told.len() == 2 && told[0].contains("10.0.0.1:5") && told[1].contains("10.0.0.2:5"), "{told:?}");
    }

    #[test]
    fn failures_are_told_so_many_a_second_and_changes_always() {
        let audited = Audited::new("many");
        audited.take();
        let alice = audited.of("alice", Proof::Password);
        for _ in 0..FAILURES_MAX + 5 {
            assert!(alice.ask(Operation::Write, ResourceName::topic("t")).is_err());
        }
        audited.broker.create_topic("t", 1).unwrap();
        let told = audited.take();
        assert_eq!(told.len() as u64, FAILURES_MAX + 1);
        audited.now.fetch_add(1000, AcqRel);
        assert!(alice.ask(Operation::Write, ResourceName::topic("t")).is_err());
        let told = audited.take();
        assert!(told.len() == 2 && told[0].ends_with(" left-out lines:5") && told[1].contains(" refused "), "{told:?}");
    }
}

//! Users as whoever runs a broker meets them: the first start, the data directory, logins over each protocol, and users who go.
#![cfg(feature = "users")]
#![allow(clippy::unwrap_used)]

mod common;

use common::{BROKER, Broker, LONG, Lines, text};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A folder that goes.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("plainlog-users-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().into()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A broker in memory whose admin has the password `admin-secret`.
fn with_users(folder: &Folder, options: &[&str]) -> Broker {
    let password = folder.path("password");
    fs::write(&password, "admin-secret\n").unwrap();
    Broker::with(&[&["--in-memory", "--users", "--admin-password-file", &password], options].concat())
}

/// A connection of a user.
fn as_user(broker: &Broker, user: &str, password: &str) -> Lines {
    let mut lines = broker.connect();
    assert_eq!(lines.say(&format!("AUTH {user} {password}\n")).line(), format!("OK principal:User:{user}"));
    lines
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// What a broker with these options says when it does not start.
fn does_not_start(options: &[&str]) -> String {
    let mut command = Command::new(BROKER);
    let output = command.args(["--listen", "127.0.0.1:0"]).args(options).stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success(), "{options:?}");
    text(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_first_start_makes_admin_and_keeps_everything_to_itself() {
    let folder = Folder::new("first");
    let data = folder.path("data");
    let at = ["--data-dir", data.as_str()];
    // Others could read it before.
    let mut open = Broker::with(&at);
    open.expect("PRODUCE before\n", &["ACK offset:0"]);
    open.stop();
    let mut broker = Broker::with(&[&at[..], &["--users"]].concat());
    let password = fs::read_to_string(folder.0.join("data/~admin-password")).unwrap();
    let mut admin = as_user(&broker, "admin", password.trim_end());
    assert_eq!(admin.say("CONSUME 0\n").line(), "MESSAGE offset:0 before");
    assert!(admin.say("CREATE made\n").line().starts_with("OK"));
    let mut folders = vec![folder.0.join("data")];
    while let Some(one) = folders.pop() {
        assert_eq!(mode(&one), 0o700, "{}", one.display());
        for entry in fs::read_dir(&one).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false => assert_eq!(mode(&entry), 0o600, "{}", entry.display()),
            }
        }
    }
    broker.stop();
    assert!(does_not_start(&at).contains("has users; start the broker with --users, or with --no-users"));
    let mut anybody = Broker::with(&[&at[..], &["--no-users"]].concat());
    anybody.expect("CONSUME 0\nUSER list\n", &["MESSAGE offset:0 before", "USERS count:1"]);
    anybody.stop();
    // It is the same user, and nobody is told anything.
    fs::remove_file(folder.0.join("data/~admin-password")).unwrap();
    let again = Broker::with(&[&at[..], &["--users"]].concat());
    as_user(&again, "admin", password.trim_end());
    assert!(!folder.0.join("data/~admin-password").exists());
}

#[test]
fn options_that_would_let_somebody_in_unasked_refuse_the_start() {
    let folder = Folder::new("refused");
    let ca = folder.path("ca.pem");
    for (options, why) in [
        (&["--in-memory", "--users"][..], "give --admin-password-file"),
        (&["--in-memory", "--users", "--no-users"], "cannot be used with"),
        (&["--in-memory", "--super-users", "User:alice"], "--users"),
        (&["--in-memory", "--users", "--super-users", "alice"], "a principal is 'User:' and a name"),
        (&["--in-memory", "--users", "--admin-password-file", &ca], "No such file"),
        (&["--in-memory", "--anonymous-loopback"], "--users"),
        #[cfg(feature = "tls")]
        (&["--in-memory", "--tls-client-ca", &ca], "--users"),
        (&["--in-memory", "--oauth-jwks", &ca, "--oauth-audience", "a", "--oauth-issuer", "i"], "--users"),
        (&["--in-memory", "--users", "--oauth-jwks", &ca, "--oauth-audience", "a"], "--oauth-issuer"),
        (&["--in-memory", "--users", "--oauth-jwks", &ca, "--oauth-issuer", "i"], "--oauth-audience"),
        (&["--in-memory", "--users", "--oauth-audience", "a"], "--oauth-jwks"),
        (&["--in-memory", "--users", "--oauth-jwks", &ca, "--oauth-audience", "", "--oauth-issuer", "i"], "a value is"),
        (&["--in-memory", "--users", "--oauth-jwks", &ca, "--oauth-audience", "a", "--oauth-issuer", "i"], "the keys "),
    ] {
        let told = does_not_start(options);
        assert!(told.contains(why), "{options:?}: {told}");
    }
}

#[test]
fn whoever_has_not_logged_in_gets_four_verbs_and_nothing_else() {
    let folder = Folder::new("strangers");
    let broker = with_users(&folder, &["--login-delay", "off"]);
    let mut stranger = broker.connect();
    for line in ["PRODUCE a", "SEND t message:a", "CONSUME 0", "TOPICS", "INFO", "WHOAMI", "USER list", "JOIN g t"] {
        let told = stranger.say(&format!("{line}\n")).line();
        assert!(told.starts_with("ERROR SASL_AUTHENTICATION_FAILED this broker asks who you are"), "{line}: {told}");
    }
    assert_eq!(stranger.say("PING\n").line(), "PONG");
    for bad in ["admin wrong", "nobody admin-secret", "admin admin-secret ", "Admin admin-secret", "admin \u{1}"] {
        let told = stranger.say(&format!("AUTH {bad}\n")).line();
        assert_eq!(told, "ERROR SASL_AUTHENTICATION_FAILED no user of this name has this password", "{bad}");
    }
    assert!(stranger.say("TOPICS\n").line().starts_with("ERROR SASL_AUTHENTICATION_FAILED"));
    // A line is short, too.
    let long = format!("AUTH admin {}\nPING\n", "x".repeat(100_000));
    assert!(stranger.say(&long).line().starts_with("ERROR MESSAGE_TOO_LARGE"));
    assert_eq!(stranger.line(), "PONG");
    assert_eq!(stranger.say("AUTH admin admin-secret\nWHOAMI\n").line(), "OK principal:User:admin");
    assert_eq!(stranger.line(), "OK principal:User:admin");
    assert_eq!(stranger.say("PRODUCE a\n").line(), "ACK offset:0");
    if cfg!(feature = "kafka") {
        // Metadata, and a frame that says that it is large: closed without a word.
        for frame in [&[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0][..], &[0, 1, 0, 1, 0, 18, 0, 0]] {
            let mut stream = TcpStream::connect(&broker.address).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            stream.write_all(frame).unwrap();
            let mut all = Vec::new();
            // Where bytes were not read, the end is a reset.
            let read = stream.read_to_end(&mut all);
            assert!(common::is_end(&read), "{read:?}");
            assert_eq!(all, b"");
        }
    }
}

#[test]
fn users_come_and_go_and_their_connections_with_them() {
    let folder = Folder::new("come");
    let broker = with_users(&folder, &["--super-users", "User:carol;User:dave", "--login-delay", "off"]);
    let mut admin = as_user(&broker, "admin", "admin-secret");
    let mut ask = |line: &str| admin.say(&format!("{line}\n")).line();
    assert_eq!(
        [ask("USER add alice two words"), ask("USER add carol c"), ask("CREATE t")].map(|told| told[..2].to_string()),
        ["OK"; 3]
    );
    assert!(ask("USER add alice again").starts_with("ERROR DUPLICATE_RESOURCE"));
    let mut alice = as_user(&broker, "alice", "two words");
    assert!(alice.say("USER list\n").line().starts_with("ERROR CLUSTER_AUTHORIZATION_FAILED"));
    assert!(alice.say("USER password admin mine\n").line().starts_with("ERROR CLUSTER_AUTHORIZATION_FAILED"));
    assert_eq!(ask("USER password alice three"), "OK");
    assert_eq!(alice.say("WHOAMI\n").line(), "OK principal:User:alice", "open connections go on");
    as_user(&broker, "alice", "three");
    let mut tail = as_user(&broker, "carol", "c");
    tail.say("TAIL t\n");
    for user in ["alice", "carol"] {
        assert_eq!(ask(&format!("USER delete {user}")), "OK rules:0");
    }
    assert!(alice.is_over() && tail.is_over());
    let mut gone = broker.connect();
    assert!(gone.say("AUTH alice three\n").line().starts_with("ERROR SASL_AUTHENTICATION_FAILED"));
    assert!(ask("USER delete alice").starts_with("ERROR RESOURCE_NOT_FOUND"));
    assert!(ask("USER delete admin").starts_with("ERROR UNACCEPTABLE_CREDENTIAL"));
}

/// It has so many lines a second.
#[test]
fn a_refusal_is_one_line_of_the_audit_and_what_another_right_lets_one_do_is_none() {
    let folder = Folder::new("refusals");
    let audit = folder.path("audit");
    let broker = with_users(&folder, &["--audit", &audit]);
    let mut admin = as_user(&broker, "admin", "admin-secret");
    let rule = "ACL add resource:topic name:messages principal:User:alice operation:write";
    for line in ["CREATE messages", "USER add alice secret", rule] {
        assert!(admin.say(&format!("{line}\n")).line().starts_with("OK"), "{line}");
    }
    let mut alice = as_user(&broker, "alice", "secret");
    for offset in 0..3 {
        assert_eq!(alice.say("PRODUCE x\n").line(), format!("ACK offset:{offset}"));
    }
    let refused = || fs::read_to_string(&audit).unwrap().matches(" refused ").count();
    assert_eq!(refused(), 0);
    assert!(alice.say("CONSUME 0\n").line().starts_with("ERROR TOPIC_AUTHORIZATION_FAILED"));
    assert_eq!(refused(), 1);
}

/// What is said for another is not kept where others read it.
#[test]
fn explanations_withhold_passwords() {
    let folder = Folder::new("explained");
    let password = folder.path("password");
    fs::write(&password, "admin-secret\n").unwrap();
    let mut child = Command::new(BROKER)
        .args(["--listen", "127.0.0.1:0", "--in-memory", "--users", "--explain", "--admin-password-file", &password])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
    let mut stream = TcpStream::connect(line.trim_end().strip_prefix("Broker started on ").unwrap()).unwrap();
    stream.write_all(b"AUHT admin admin-secret\nauth admin admin-secret\nUSER add bob bob-secret\nUSR add bob bob-secret\nQUIT\n").unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert!(answers.contains("OK principal:User:admin\nOK\n"), "{answers}");
    if cfg!(feature = "kafka") {
        // A version of an API that is not there: nobody is told of what strangers send.
        let mut stranger = TcpStream::connect(line.trim_end().strip_prefix("Broker started on ").unwrap()).unwrap();
        stranger.write_all(&[0, 0, 0, 10, 0x7f, 0xff, 0, 0, 0, 0, 0, 7, 0xff, 0xff]).unwrap();
        assert_eq!(stranger.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let told = text(&output.stderr);
    assert!(told.contains("auth ***") && told.contains("USER ***") && !told.contains("-secret"), "{told}");
    assert!(!told.contains("breaks Kafka's protocol"), "{told}");
}

#[test]
fn the_programs_log_in_and_a_wrong_password_is_not_tried_again() {
    let folder = Folder::new("programs");
    let broker = with_users(&folder, &[]);
    let admin = folder.path("password");
    let as_admin = ["--user", "admin", "--password-file", admin.as_str()];
    let with = |arguments: &[&'static str]| [arguments, &as_admin].concat();
    assert!(broker.produce(&with(&["-t", "t"]), "hello\n").status.success());
    let read = broker.consume(&with(&["-t", "t", "-o", "earliest", "-c", "1"]));
    assert_eq!(text(&read.stdout), "Consumed: hello (offset: 0)\n", "{}", text(&read.stderr));
    let job = |arguments: &[&str]| {
        let output = broker.command(BROKER, &[arguments, &as_admin].concat()).output().unwrap();
        (output.status.success(), text(&output.stdout).to_string(), text(&output.stderr).to_string())
    };
    let secret = folder.path("alice");
    fs::write(&secret, "two words").unwrap();
    assert_eq!(job(&["user", "add", "alice", "--new-password-file", &secret]), (true, String::new(), String::new()));
    as_user(&broker, "alice", "two words");
    let (done, printed, _) = job(&["user", "password", "alice", "--generate"]);
    let generated = printed.strip_prefix("password: ").unwrap().trim_end();
    assert!(done && generated.len() == 24, "{printed}");
    as_user(&broker, "alice", generated);
    let (_, listed, _) = job(&["user", "list"]);
    assert!(listed.lines().count() == 3 && listed.contains("alice"), "{listed}");
    if cfg!(feature = "comfort") {
        let (_, listed, _) = job(&["user", "list", "--json"]);
        assert!(listed.contains(r#""name": "alice""#), "{listed}");
    }
    assert_eq!(job(&["user", "delete", "alice"]), (true, "rules: 0\n".into(), String::new()));
    let (done, _, why) = job(&["user", "delete", "alice"]);
    assert!(!done && why.contains("no user 'alice'"), "{why}");
    // By the environment, and wrongly.
    let mut command = broker.command(BROKER, &["topic", "list"]);
    command.env("PLAINLOG_USER", "admin").env("PLAINLOG_PASSWORD_FILE", &admin);
    assert!(command.output().unwrap().status.success());
    for options in [&["--user", "admin", "--password-file", &secret][..], &[]] {
        let refused = broker.produce(&[&["-t", "t"], options].concat(), "lost\n");
        assert!(!refused.status.success(), "{options:?}");
        assert!(text(&refused.stderr).contains("SASL_AUTHENTICATION_FAILED"), "{}", text(&refused.stderr));
    }
}

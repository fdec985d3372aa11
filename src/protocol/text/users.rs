//! AUTH, WHOAMI and USER: who speaks, and who there is.

use super::{Answered, Current, Flow, Refusal, Session, words::Words};
use crate::{
    backend::Backend,
    broker::{Broker, Caller, Code},
    log::record::{shown, unescape, write_word},
    protocol::connection::Output,
};

const WITHIN_MEMBERSHIP: &str = "a member of a group stays who it is; LEAVE first";

impl Session {
    /// `AUTH <user> <the rest of the line>`
    pub(super) fn auth(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let user = text(words.expect("AUTH takes a user and its password; the user")?)?;
        let password = words.rest().ok_or_else(|| Refusal::invalid("the password is missing"))?;
        if self.member.is_some() || self.queue.is_some() {
            return Err(Refusal::invalid(WITHIN_MEMBERSHIP).into());
        }
        let broker = self.with_users()?;
        check_private(broker, output)?;
        // Guessing takes time.
        output.flush()?;
        let principal = broker.log_in(&user, password)?;
        let told = format!("OK principal:User:{}\n", word(&principal.name));
        broker.attach(output.counted(), Some(&principal))?;
        let caller = Caller { principal, ..broker.caller().clone() };
        self.turn_into(self.broker.on_behalf_of(caller));
        output.bytes.extend_from_slice(told.as_bytes());
        Ok(Flow::Next)
    }

    /// Goes on for somebody else: what was permitted to the one before is asked for anew.
    fn turn_into(&mut self, broker: Backend) {
        (self.read, self.written) = (broker.read_session(), broker.write_session());
        if let Current::Named(_, _, found) = &mut self.current {
            *found = None;
        }
        (self.producer_id, self.is_stranger) = (None, false);
        self.broker = broker;
    }

    /// `WHOAMI`
    pub(super) fn whoami(&mut self, words: Words<'_>, output: &mut Output<'_>) -> Answered {
        words.end()?;
        let name = word(&self.broker.caller().principal.name);
        output.bytes.extend_from_slice(format!("OK principal:User:{name}\n").as_bytes());
        Ok(Flow::Next)
    }

    /// `USER list | add <user> <password> | password <user> <password> | delete <user>`
    pub(super) fn user(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let what = words.expect("USER takes list, add, password or delete, which")?.to_ascii_lowercase();
        if what == b"list" {
            words.end()?;
            return self.list_users(output);
        }
        if !["add", "password", "delete"].iter().any(|known| known.as_bytes() == what) {
            let why = format!("USER takes list, add, password or delete, not '{}'", shown(&what));
            return Err(Refusal::invalid(why).into());
        }
        let name = text(words.expect("the user")?)?;
        let broker = self.with_users()?;
        if what == b"delete" {
            words.end()?;
            let rules = broker.delete_user(&name)?;
            output.bytes.extend_from_slice(format!("OK rules:{rules}\n").as_bytes());
            return Ok(Flow::Next);
        }
        let password = words.rest().ok_or_else(|| Refusal::invalid("the password is missing"))?;
        check_private(broker, output)?;
        let password = std::str::from_utf8(password).map_err(|_| Refusal::invalid("the password is not UTF-8"))?;
        match &*what {
            b"add" => broker.add_user(&name, password)?,
            _ => broker.set_password(&name, password)?,
        }
        output.bytes.extend_from_slice(b"OK\n");
        Ok(Flow::Next)
    }

    fn list_users(&mut self, output: &mut Output<'_>) -> Answered {
        let users = self.with_users()?.users()?;
        output.bytes.extend_from_slice(format!("USERS count:{}\n", users.len()).as_bytes());
        for user in users {
            let mechanisms: Vec<_> = user.mechanisms.iter().map(|mechanism| mechanism.name()).collect();
            let is_super = if user.is_super { "yes" } else { "no" };
            let line = format!("user:{} mechanisms:{} super:{is_super}\n", word(&user.name), mechanisms.join(","));
            output.bytes.extend_from_slice(line.as_bytes());
        }
        Ok(Flow::Next)
    }

    /// The broker, if it has users.
    fn with_users(&self) -> Result<&Broker, Refusal> {
        self.broker.door().with_users().map_err(Refusal::invalid)
    }
}

/// Whether a password may come this way.
fn check_private(broker: &Broker, output: &Output<'_>) -> Result<(), Refusal> {
    if output.takes_secrets(&broker.config().security) {
        return Ok(());
    }
    let text = "others can read a password on this line, which is now known to them; connect by TLS, or from the broker's machine";
    Err(Refusal::invalid(text))
}

/// What a stranger is told who says something else than how to log in.
pub(super) fn log_in_first() -> Refusal {
    let text =
        "this broker asks who you are; AUTH <user> <password> says so, and before that there are HELP, PING and QUIT";
    Refusal { code: Code::SaslAuthenticationFailed, text: text.into() }
}

/// The verbs that strangers have.
pub(super) const OF_STRANGERS: [&str; 4] = ["AUTH", "HELP", "PING", "QUIT"];

fn text(word: &[u8]) -> Result<String, Refusal> {
    let name = String::from_utf8(unescape(word)?.into_owned());
    name.map_err(|_| Refusal::invalid(format!("'{}' is not a user's name: it is not UTF-8", shown(word))))
}

/// A name as a word of an answer.
fn word(name: &str) -> String {
    let mut word = Vec::new();
    write_word(&mut word, name.as_bytes());
    String::from_utf8(word).expect("what was UTF-8 is escaped as such")
}

//! Passwords of users: DescribeUserScramCredentials, AlterUserScramCredentials (KIP-554). How they are kept is said in
//! `broker/scram_credentials.rs`; which there may be is said here, as Kafka says it.
//!
//! The client sends salted passwords; what is kept of them is said in [`password`].

use super::{
    Call, Code, Refusal, Stop, shown_list, tell,
    wire::{Reader, Writer},
    write_code,
};
use crate::{
    broker::{self, ADMIN, Broker, Error, ResourceName, ScramChange},
    security::{Operation, ScramCredential, ScramCredentials, ScramMechanism, password},
};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::RangeInclusive,
};

/// How often a password may be hashed.
const ITERATIONS: RangeInclusive<i32> = 4096..=16_384;

/// A mechanism's number on the wire.
fn number_of(mechanism: ScramMechanism) -> i8 {
    match mechanism {
        ScramMechanism::Sha256 => 1,
        ScramMechanism::Sha512 => 2,
    }
}

fn mechanism(number: i8) -> Result<ScramMechanism, Refusal> {
    let why = "there are SCRAM-SHA-256 and SCRAM-SHA-512";
    let found = ScramMechanism::ALL.into_iter().find(|known| number_of(*known) == number);
    found.ok_or_else(|| Refusal::new(Code::UnsupportedSaslMechanism, why.into()))
}

fn unacceptable(why: &str) -> Refusal {
    Refusal::new(Code::UnacceptableCredential, why.into())
}

/// DescribeUserScramCredentials (key 50). No user named means all. `kafka-configs` asks this wherever it shows the quotas of users.
pub(super) fn describe_user_scram_credentials(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let users = r.nullable_array("users", |r| {
        let name = r.string("name")?;
        r.tags()?;
        Ok(name)
    })?;
    r.tags()?;
    let users = users.unwrap_or_default();
    tell(call.explained, || match users.is_empty() {
        true => "who has a password".into(),
        false => format!("whether there are passwords of {}", shown_list(users.iter().map(|user| user.to_string()))),
    });
    let asked = call.broker.scram_credentials();
    let known = asked.clone().unwrap_or_default();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    users.iter().for_each(|user| *times.entry(user).or_default() += 1);
    if users.is_empty() {
        times.extend(known.keys().map(|user| (user.as_str(), 1)));
    }
    let mut w = call.respond();
    w.throttle_time();
    if let Err(error) = asked {
        w.i16("error_code", error.code().into());
        w.nullable_string("error_message", Some(&error.to_string()));
        // As in Kafka: one for each that was named, without its name.
        w.array("results", users.iter(), |w, _| {
            w.string("user", "");
            w.i16("error_code", error.code().into());
            w.nullable_string("error_message", None);
            w.empty_array("credential_infos");
            w.tags();
        });
        w.tags();
        return Ok(());
    }
    w.i16("error_code", Code::None.into());
    w.nullable_string("error_message", None);
    w.array("results", times.iter(), |w, (user, &times)| {
        let found = match times {
            1 => known.get(*user).ok_or((Code::ResourceNotFound, "the user has no credentials")),
            _ => Err((Code::DuplicateResource, "the user stands in the request more than once")),
        };
        w.string("user", user);
        w.i16("error_code", found.map_or_else(|(code, _)| code, |_| Code::None).into());
        w.nullable_string("error_message", found.err().map(|(_, why)| why));
        match found {
            Err(_) => w.empty_array("credential_infos"),
            Ok(own) => w.array("credential_infos", own.iter(), write_info),
        }
        w.tags();
    });
    w.tags();
    Ok(())
}

fn write_info(w: &mut Writer<'_>, (mechanism, credential): (&ScramMechanism, &ScramCredential)) {
    w.i8("mechanism", number_of(*mechanism));
    w.i32("iterations", credential.iterations as i32);
    w.tags();
}

/// A credential that is to go.
struct Deletion<'a> {
    user: &'a str,
    mechanism: i8,
}

/// A credential that is to be.
struct Upsertion<'a> {
    user: &'a str,
    mechanism: i8,
    iterations: i32,
    salt: &'a [u8],
    salted_password: &'a [u8],
}

/// AlterUserScramCredentials (key 51). What is right is changed together, and what is wrong is not.
pub(super) fn alter_user_scram_credentials(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let deletions = r.array("deletions", |r| {
        let deletion = Deletion { user: r.string("name")?, mechanism: r.i8("mechanism")? };
        r.tags()?;
        Ok(deletion)
    })?;
    let upsertions = r.array("upsertions", |r| {
        let upsertion = Upsertion {
            user: r.string("name")?,
            mechanism: r.i8("mechanism")?,
            iterations: r.i32("iterations")?,
            salt: r.bytes("salt")?,
            salted_password: r.bytes("salted_password")?,
        };
        r.tags()?;
        Ok(upsertion)
    })?;
    r.tags()?;
    let broker = call.broker;
    let known = broker.scram_credentials().unwrap_or_default();
    // Whoever may not change anything is not told what would be wrong with it.
    let may = || broker.ask(Operation::Alter, ResourceName::CLUSTER).map(drop).map_err(Refusal::from);
    let mut asked = Asked::default();
    deletions
        .iter()
        .for_each(|deletion| asked.add(deletion.user, || may().and_then(|()| deletion.check(broker, &known))));
    upsertions.iter().for_each(|upsertion| asked.add(upsertion.user, || may().and_then(|()| upsertion.check())));
    upsertions.iter().filter(|upsertion| upsertion.salted_password.is_empty()).for_each(|empty| asked.fail(empty.user));
    let done = asked.apply(|changes| broker.alter_scram_credentials(changes));
    tell(call.explained, || {
        let of = |(user, done): (&&str, &Result<(), Refusal>)| {
            format!("{user}: {:?}", done.as_ref().map_or_else(|refusal| refusal.code, |()| Code::None))
        };
        format!("change passwords: {}", shown_list(done.iter().map(of)))
    });
    let mut w = call.respond();
    w.throttle_time();
    w.array("results", done.iter(), |w, (user, done)| {
        w.string("user", user);
        write_code(w, done.as_ref().err());
        w.tags();
    });
    w.tags();
    Ok(())
}

/// What a request asks for each user.
#[derive(Default)]
struct Asked<'a>(BTreeMap<&'a str, Result<ScramChange, Refusal>>);

impl<'a> Asked<'a> {
    /// Adds a change, if it can be made. Of what a user is refused the first counts, and two changes of one are refused.
    fn add(&mut self, user: &'a str, check: impl FnOnce() -> Result<ScramChange, Refusal>) {
        match self.0.entry(user) {
            Entry::Vacant(place) => drop(place.insert(check())),
            Entry::Occupied(mut there) if there.get().is_ok() => {
                let why = "two credentials of a user cannot be changed in one request";
                *there.get_mut() = Err(Refusal::new(Code::DuplicateResource, why.into()));
            }
            Entry::Occupied(_) => {}
        }
    }

    /// Refuses a salted password that is empty: Kafka finds that last, fails over it, and says so.
    fn fail(&mut self, user: &'a str) {
        if let Some(asked) = self.0.get_mut(user).filter(|asked| asked.is_ok()) {
            *asked = Err(Refusal::new(Code::UnknownServerError, "the salted password is empty".into()));
        }
    }

    /// Makes the changes, all or none. Answers what became of each user's.
    fn apply(
        self,
        alter: impl FnOnce(Vec<ScramChange>) -> broker::Result<()>,
    ) -> BTreeMap<&'a str, Result<(), Refusal>> {
        let changes: Vec<ScramChange> = self.0.values().flatten().cloned().collect();
        let altered = if changes.is_empty() { Ok(()) } else { alter(changes).map_err(Refusal::from) };
        self.0.into_iter().map(|(user, asked)| (user, asked.and_then(|_| altered.clone()))).collect()
    }
}

impl Deletion<'_> {
    /// Whoever has a name that nobody gets any more can lose it.
    fn check(&self, broker: &Broker, known: &ScramCredentials) -> Result<ScramChange, Refusal> {
        if self.user.is_empty() {
            return Err(unacceptable("a user has a name"));
        }
        let (user, mechanism) = (self.user.to_string(), mechanism(self.mechanism)?);
        let found = known.get(&user).filter(|own| own.contains_key(&mechanism));
        let own =
            found.ok_or_else(|| Refusal::new(Code::ResourceNotFound, "the user has no such credential".into()))?;
        // The broker sees to it; asked here, it is not the others of the request that are refused for it.
        if user == ADMIN && own.len() == 1 && broker.has_users() {
            return Err(Error::admin_stays().into());
        }
        Ok(ScramChange { user, mechanism, credential: None })
    }
}

impl Upsertion<'_> {
    fn check(&self) -> Result<ScramChange, Refusal> {
        password::check_name(self.user).map_err(|why| unacceptable(&why))?;
        let (user, mechanism) = (self.user.to_string(), mechanism(self.mechanism)?);
        if !ITERATIONS.contains(&self.iterations) {
            return Err(unacceptable("a password is hashed 4096 to 16384 times"));
        }
        let credential = password::keys(mechanism, self.iterations as u32, self.salt, self.salted_password);
        Ok(ScramChange { user, mechanism, credential: Some(credential) })
    }
}

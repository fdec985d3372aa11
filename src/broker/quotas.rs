//! Quotas of clients: how fast they may produce, consume, ask and connect. How they are kept, and whom they slow down; what they
//! come to is reckoned in [`security`](crate::security).
//!
//! ```text
//! quota client-id:loader user:alice name:producer_byte_rate value:1000 crc:...      of one user with that client id
//! quota user: name:consumer_byte_rate value:2000 crc:...                            of users that have none of their own
//! ```
//!
//! Whoever has not logged in is the user ANONYMOUS. The program that the broker runs in has no quotas.

use super::{
    Broker, Error, Permit, Protocol, Result,
    kept::Kind,
    small_file::{Line, Lines, Text},
};
use crate::security::{Account, HeldBack, Operation, Quota, QuotaEntity, Quotas};
use std::{collections::BTreeMap, fmt::Display, net::IpAddr, path::Path, sync::Arc, time::Duration};

impl Kind for Quotas {
    const NAME: &str = "quota";

    fn add(&mut self, line: &Line<'_>) -> Option<()> {
        let mut fields = line.all_fields()?;
        let (_, value) = fields.pop().filter(|(field, _)| field == "value")?;
        let (_, name) = fields.pop().filter(|(field, _)| field == "name")?;
        add(self, fields, name, &value)
    }

    fn write(&self, lines: &mut Lines) {
        for (entity, values) in self {
            for (name, value) in values {
                let fields = entity.iter().map(|(kind, name)| (kind.as_str(), name.as_deref().unwrap_or_default()));
                let fields: Vec<_> = fields.collect();
                let mut shown: Vec<(&str, &dyn Display)> =
                    fields.iter().map(|(kind, name)| (*kind, name as _)).collect();
                shown.extend([("name", name as &dyn Display), ("value", value)]);
                lines.push_kind(Self::NAME, &shown);
            }
        }
    }
}

/// Adds a quota of whom these fields name; `None`: it is none, or there already.
fn add(quotas: &mut Quotas, fields: Vec<(String, String)>, name: String, value: &str) -> Option<()> {
    let entity = fields.into_iter().map(|(kind, name)| (kind, Some(name).filter(|name| !name.is_empty())));
    let entity = Some(entity.collect::<QuotaEntity>()).filter(|entity| !entity.is_empty())?;
    quotas.entry(entity).or_default().insert(name, value.parse().ok()?).is_none().then_some(())
}

/// Reads the file of quotas that brokers before kept, whose lines end with `producer_byte_rate:1000` and have no CRC.
pub(super) fn parse_old(text: &Text, path: &Path) -> std::result::Result<Quotas, String> {
    let mut quotas = Quotas::new();
    for line in text.lines() {
        let bad = || line.error(path, "is no quota; mend it, or remove the line");
        let mut fields = line.all_fields().ok_or_else(bad)?;
        let (name, value) = fields.pop().ok_or_else(bad)?;
        add(&mut quotas, fields, name, &value).ok_or_else(bad)?;
    }
    Ok(quotas)
}

impl Broker {
    /// The quotas of clients.
    pub fn quotas(&self) -> Result<Arc<Quotas>> {
        Ok(self.env(&self.ask_cluster(Operation::DescribeConfigs)?).security.get().quotas.clone())
    }

    /// Changes quotas of an entity, durably: each to a value, or to none. After an error all is as it was.
    pub fn alter_quotas(&self, entity: &QuotaEntity, changes: &BTreeMap<String, Option<f64>>) -> Result<()> {
        if entity.is_empty() || entity.values().flatten().any(String::is_empty) {
            return Err(Error::InvalidConfig(
                "a quota is for somebody who has a name, or for all who have none".into(),
            ));
        }
        let permit = self.ask_cluster(Operation::AlterConfigs)?;
        let env = self.env(&permit);
        env.change_kept(&env.security, |security| {
            let quotas = Arc::make_mut(&mut security.quotas);
            let values = quotas.entry(entity.clone()).or_default();
            for (name, value) in changes {
                match value {
                    Some(value) => drop(values.insert(name.clone(), *value)),
                    None => drop(values.remove(name)),
                }
            }
            quotas.retain(|_, values| !values.is_empty());
        })?;
        env.measure_by_quotas();
        let shown =
            |(kind, name): (&String, &Option<String>)| format!("{kind}={}", name.as_deref().unwrap_or("(default)"));
        let of = entity.iter().map(shown).collect::<Vec<_>>().join(",");
        for (name, value) in changes {
            let value = value.map_or("none".into(), |value| value.to_string());
            self.note("quota-changed", &[("of", &of), ("quota", name), ("value", &value)]);
        }
        Ok(())
    }

    /// The caller, if it has quotas.
    fn account(&self) -> Option<Account<'_>> {
        let caller = self.caller();
        let account = Account { user: &caller.principal.name, client_id: &caller.client_id };
        (caller.protocol != Protocol::Embedded).then_some(account)
    }

    /// Whether anybody has such a quota. It costs a look at an atomic.
    pub fn is_limited(&self, quota: Quota) -> bool {
        self.env(&Permit::for_everybody()).meters.is_limited(quota)
    }

    /// The caller uses so much: bytes, seconds of a processor, partitions. Answers how long it is to wait for that.
    pub fn charge(&self, quota: Quota, amount: f64) -> Duration {
        let env = self.env(&Permit::for_everybody());
        if !env.meters.is_limited(quota) {
            return Duration::ZERO;
        }
        self.account().map_or(Duration::ZERO, |account| env.meters.charge(quota, account, amount, env.clock.now_ms()))
    }

    /// The caller would use so much, or is to wait first.
    pub fn hold_back(&self, quota: Quota, amount: f64) -> HeldBack {
        let env = self.env(&Permit::for_everybody());
        match self.account().filter(|_| env.meters.is_limited(quota)) {
            None => HeldBack::No(Duration::ZERO),
            Some(account) => env.meters.hold_back(quota, account, amount, env.clock.now_ms()),
        }
    }

    /// How much of something the caller may use at once; `None`: any amount.
    pub fn at_once(&self, quota: Quota) -> Option<f64> {
        self.env(&Permit::for_everybody()).meters.at_once(quota, self.account()?)
    }

    /// Refuses a change of topics to a caller that has made them too fast, if it can be told so. Of Kafka's clients not all can.
    pub(super) fn begin_change_of_topics(&self) -> Result<()> {
        if self.caller().protocol == Protocol::Kafka { Ok(()) } else { self.may_change_topics() }
    }

    /// Whether the caller may make, grow or drop topics now, or has done so too fast.
    pub fn may_change_topics(&self) -> Result<()> {
        match self.charge(Quota::Changes, 0.0) {
            Duration::ZERO => Ok(()),
            wait => Err(Error::TooFast(wait)),
        }
    }

    /// Somebody connects from there: how long it is to wait, instead of being served.
    pub fn connected_from(&self, address: IpAddr) -> Duration {
        let env = self.env(&Permit::for_everybody());
        env.meters.connected(address, env.clock.now_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{Clock, kept::Content, security_file::Security, small_file::OWN_BYTES_MAX},
        config::Config,
        log::disk::{self, Call, Disk, Fault, MemoryDisk, Survivors},
    };
    use proptest::prelude::*;

    fn text(bytes: &[u8]) -> Text {
        let (disk, path) = (MemoryDisk::default(), Path::new("file"));
        disk.create(path).unwrap().write_at(bytes, 0).unwrap();
        Text::read(&disk, path, OWN_BYTES_MAX).unwrap().unwrap()
    }

    #[test]
    fn quotas_are_lines_that_outlive_a_restart() {
        let disk = MemoryDisk::default();
        let open = || Broker::open_on(Arc::new(disk.clone()), Config::in_memory(), Clock::System).unwrap();
        let broker = open();
        let entity = QuotaEntity::from([("user".into(), Some("al ice".into())), ("client-id".into(), None)]);
        let set = |name: &str, value| BTreeMap::from([(name.to_string(), value)]);
        broker.alter_quotas(&entity, &set("producer_byte_rate", Some(1000.0))).unwrap();
        broker.alter_quotas(&entity, &set("request_percentage", Some(12.5))).unwrap();
        drop(broker);
        let text = disk::read_small(&disk, Path::new("memory/~security"), OWN_BYTES_MAX).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("\nquota client-id: user:al"), "{text}");
        let shown = ["producer_byte_rate value:1000", "request_percentage value:12.5"];
        assert!(shown.iter().all(|shown| text.contains(&format!(" name:{shown} crc:"))), "{text}");
        let broker = open();
        assert_eq!(broker.quotas().unwrap()[&entity].values().collect::<Vec<_>>(), [&1000.0, &12.5]);
        broker.alter_quotas(&entity, &set("producer_byte_rate", None)).unwrap();
        broker.alter_quotas(&entity, &set("request_percentage", None)).unwrap();
        assert!(broker.quotas().unwrap().is_empty());
    }

    #[test]
    fn an_old_line_that_is_no_quota_is_named() {
        for line in ["x", "producer_byte_rate:1", "user:u producer_byte_rate:x", "user:u x"] {
            let text = text(format!("user:u a:1\n{line}\n").as_bytes());
            let why = parse_old(&text, Path::new("~quotas")).unwrap_err();
            assert!(why.starts_with(&format!("~quotas, line 2: '{line}' is no quota")), "{why}");
        }
    }

    /// A line that means nothing, or something else, would keep the next start from reading the file.
    #[test]
    fn what_would_not_be_read_back_is_refused() {
        let broker = Broker::in_memory();
        let set = BTreeMap::from([("producer_byte_rate".to_string(), Some(1.0))]);
        for entity in [QuotaEntity::new(), QuotaEntity::from([("user".into(), Some(String::new()))])] {
            assert!(broker.alter_quotas(&entity, &set).is_err(), "{entity:?}");
        }
        assert!(broker.quotas().unwrap().is_empty());
    }

    #[test]
    fn what_is_not_on_disk_is_not_in_force() {
        let entity = QuotaEntity::from([("user".into(), Some("u".into()))]);
        let rate = |broker: &Broker| broker.quotas().unwrap()[&entity]["producer_byte_rate"];
        let set = |rate| BTreeMap::from([("producer_byte_rate".to_string(), Some(rate))]);
        for fault in [Fault::Error, Fault::Full] {
            for nth in 1.. {
                let disk = MemoryDisk::crashable();
                let open = |disk| Broker::open_on(Arc::new(disk), Config::in_memory(), Clock::System).unwrap();
                let broker = open(disk.clone());
                broker.alter_quotas(&entity, &set(1.0)).unwrap();
                disk.fault(Call::Any, nth, fault);
                let changed = broker.alter_quotas(&entity, &set(2.0)).is_ok();
                assert_eq!(rate(&broker), if changed { 2.0 } else { 1.0 }, "call {nth}");
                let survives = rate(&open(disk.reboot(Survivors::Nothing)));
                assert_eq!(survives, rate(&broker), "call {nth}, after a crash");
                if changed {
                    assert!(nth > 3, "a file is made, written, synced and renamed");
                    break;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_entity_is_read_back(
            all in prop::collection::btree_map(
                prop::collection::btree_map(any::<String>(), prop::option::of("\\PC+|[\\s\\S]+"), 1..3),
                prop::collection::btree_map(any::<String>(), prop::num::f64::NORMAL | prop::num::f64::ZERO, 1..3),
                0..4,
            ),
        ) {
            let all = Security { quotas: Arc::new(all), ..Security::default() };
            let text = text(all.lines().bytes(OWN_BYTES_MAX).unwrap());
            prop_assert_eq!(Security::parse(&text, Path::new("file")).unwrap().quotas, all.quotas);
        }
    }
}

//! Which quota is whose: those that were set, by what is asked of them.

use super::{Account, CONNECTIONS, Quota, QuotaEntity, Quotas};
use std::{collections::HashMap, net::IpAddr};

/// Quotas as they are looked up.
#[derive(Debug, Default)]
pub(super) struct Limits {
    of_callers: [Table; Quota::ALL.len()],
    of_addresses: HashMap<IpAddr, f64>,
    of_other_addresses: Option<f64>,
}

/// Those of one kind.
#[derive(Debug, Default)]
struct Table {
    users: HashMap<String, OfUser>,
    /// Of users that have none.
    other_users: OfUser,
    /// Of whoever has none as a user.
    anybody: OfUser,
    /// Whether there is any.
    is_set: bool,
}

/// Those of a user.
#[derive(Debug, Default)]
struct OfUser {
    all: Option<f64>,
    clients: HashMap<String, f64>,
    other_clients: Option<f64>,
}

/// A quota that somebody has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limit<'a> {
    /// How much a second.
    pub(super) bound: f64,
    /// Whose use counts together: of this user, and of this client.
    pub(super) user: Option<&'a str>,
    pub(super) client_id: Option<&'a str>,
}

impl Limits {
    pub(super) fn of(quotas: &Quotas) -> Limits {
        let mut limits = Limits::default();
        for (entity, values) in quotas {
            for (name, &value) in values {
                match Quota::ALL.iter().find(|quota| quota.name() == name) {
                    Some(&quota) => limits.of_callers[quota as usize].add(entity, value),
                    None if name == "connection_creation_rate" => limits.add_address(entity, value),
                    // One that somebody wrote into the file.
                    None => {}
                }
            }
        }
        limits
    }

    fn add_address(&mut self, entity: &QuotaEntity, value: f64) {
        match entity.get("ip") {
            Some(None) => self.of_other_addresses = Some(value),
            Some(Some(address)) => {
                // The name of a host is taken, as Kafka takes it, and none that connects has one.
                if let Ok(address) = address.parse::<IpAddr>() {
                    self.of_addresses.insert(address.to_canonical(), value);
                }
            }
            None => {}
        }
    }

    /// A bit for each kind that there is.
    pub(super) fn set(&self) -> u8 {
        let of_callers = Quota::ALL.iter().filter(|quota| self.of_callers[**quota as usize].is_set);
        let of_addresses = self.of_other_addresses.is_some() || !self.of_addresses.is_empty();
        of_callers.map(|quota| quota.bit()).sum::<u8>() | if of_addresses { CONNECTIONS } else { 0 }
    }

    pub(super) fn of_address(&self, address: IpAddr) -> Option<f64> {
        self.of_addresses.get(&address).copied().or(self.of_other_addresses)
    }

    /// The quota of somebody: the first of user and client, user and any client, user; any user and client, any user and any
    /// client, any user; client, any client.
    pub(super) fn find<'a>(&self, quota: Quota, account: Account<'a>) -> Option<Limit<'a>> {
        let table = &self.of_callers[quota as usize];
        let (user, client_id) = (Some(account.user), Some(account.client_id));
        let own = table.users.get(account.user);
        let of_user = own.and_then(|quotas| quotas.find(account.client_id));
        if let Some((bound, of_client)) = of_user.or_else(|| table.other_users.find(account.client_id)) {
            return Some(Limit { bound, user, client_id: client_id.filter(|_| of_client) });
        }
        let (bound, _) = table.anybody.find(account.client_id)?;
        Some(Limit { bound, user: None, client_id })
    }
}

impl Table {
    fn add(&mut self, entity: &QuotaEntity, value: f64) {
        let of_user = match entity.get("user") {
            None => &mut self.anybody,
            Some(None) => &mut self.other_users,
            Some(Some(user)) => self.users.entry(user.clone()).or_default(),
        };
        match entity.get("client-id") {
            None => of_user.all = Some(value),
            Some(None) => of_user.other_clients = Some(value),
            Some(Some(client)) => drop(of_user.clients.insert(client.clone(), value)),
        }
        self.is_set = true;
    }
}

impl OfUser {
    /// How much, and whether that is the client's alone.
    fn find(&self, client_id: &str) -> Option<(f64, bool)> {
        let of_client = self.clients.get(client_id).copied().or(self.other_clients).map(|bound| (bound, true));
        of_client.or(self.all.map(|bound| (bound, false)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entity, by its kinds.
    type Kinds<'a> = &'a [(&'a str, Option<&'a str>)];

    /// Kafka's order (KIP-55): each is found when those before it are gone.
    #[test]
    fn the_nearest_quota_goes() {
        let (user, client) = (Some("u"), Some("c"));
        let order: [(Kinds<'_>, _, _); 8] = [
            (&[("user", Some("u")), ("client-id", Some("c"))], user, client),
            (&[("user", Some("u")), ("client-id", None)], user, client),
            (&[("user", Some("u"))], user, None),
            (&[("user", None), ("client-id", Some("c"))], user, client),
            (&[("user", None), ("client-id", None)], user, client),
            (&[("user", None)], user, None),
            (&[("client-id", Some("c"))], None, client),
            (&[("client-id", None)], None, client),
        ];
        let entity = |kinds: Kinds<'_>| -> QuotaEntity {
            kinds.iter().map(|(kind, name)| (kind.to_string(), name.map(String::from))).collect()
        };
        let value = |at: usize| [("producer_byte_rate".to_string(), at as f64 + 1.0)].into();
        let mut quotas: Quotas = (0..order.len()).map(|at| (entity(order[at].0), value(at))).collect();
        let account = Account { user: "u", client_id: "c" };
        for (at, (kinds, user, client_id)) in order.into_iter().enumerate() {
            let limits = Limits::of(&quotas);
            let bound = at as f64 + 1.0;
            assert_eq!(limits.find(Quota::ProducedBytes, account), Some(Limit { bound, user, client_id }), "{kinds:?}");
            assert_eq!(limits.find(Quota::FetchedBytes, account), None);
            assert_eq!(limits.set(), Quota::ProducedBytes.bit());
            quotas.remove(&entity(kinds));
        }
        assert_eq!(Limits::of(&quotas).set(), 0);
    }

    #[test]
    fn a_kind_that_is_unknown_and_a_host_by_name_limit_nobody() {
        let entity = |kind: &str, name: &str| QuotaEntity::from([(kind.into(), Some(name.into()))]);
        let quotas = Quotas::from([
            (entity("ip", "localhost"), [("connection_creation_rate".into(), 1.0)].into()),
            (entity("user", "u"), [("nonsense".into(), 1.0)].into()),
        ]);
        assert_eq!(Limits::of(&quotas).set(), 0);
    }
}

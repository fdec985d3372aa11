//! Questions to the state of an application that runs: what of it is in this process, and which process has the rest.
//!
//! They see what was committed last. A key is in one task, so in one process at a time.

use super::App;
use crate::{
    broker::partition_of,
    client::processing::MemberFacts,
    streams::{
        error::Error,
        serde::Serde,
        store::{KeyValueQuery, Part, SessionQuery, WindowQuery},
    },
};

/// Which process has a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Owner {
    /// What the broker calls the process: the address of its connection.
    pub client: String,
    /// Whether it is this one.
    pub is_here: bool,
}

impl App {
    /// A store of values by key.
    pub fn key_value_store<K: Serde, V: Serde>(&self, name: &str) -> Result<KeyValueQuery<K, V>, Error> {
        KeyValueQuery::new(self.shared.plan.store(name), self.parts(name), name)
    }

    /// A store of windows.
    pub fn window_store<K: Serde, V: Serde>(&self, name: &str) -> Result<WindowQuery<K, V>, Error> {
        WindowQuery::new(self.shared.plan.store(name), self.parts(name), name)
    }

    /// A store of sessions.
    pub fn session_store<K: Serde, V: Serde>(&self, name: &str) -> Result<SessionQuery<K, V>, Error> {
        SessionQuery::new(self.shared.plan.store(name), self.parts(name), name)
    }

    /// What of a store is in this process.
    fn parts(&self, name: &str) -> Vec<Part> {
        let parts = &self.shared.plan.subtopologies;
        let open = self.shared.states.of_store(name).into_iter();
        open.map(|(id, _, state)| (state, parts[id.subtopology].stores.clone())).collect()
    }

    /// Which process has this key of a store; `None` while nobody has it.
    pub fn owner<K: Serde>(&self, store: &str, key: &K) -> Result<Option<Owner>, Error> {
        let parts = &self.shared.plan.subtopologies;
        let part = parts.iter().find(|part| part.stores.iter().any(|one| one.name == store));
        let input = part.and_then(|part| part.inputs.first());
        let topic = &input.ok_or_else(|| Error::Topology(format!("there is no store {store}")))?.topic;
        let partition = partition_of(&key.to_bytes(), self.shared.partitions[topic]);
        let members = self.shared.site.members(&self.shared.plan.application)?;
        let has = |member: &MemberFacts| member.assigned.iter().any(|(name, p)| **name == **topic && *p == partition);
        Ok(members
            .into_iter()
            .find(has)
            .map(|member| Owner { is_here: self.shared.is_member(&member.id), client: member.client }))
    }
}

//! Subscriptions by the key that they are about, and by whose they are: `5:aliceorder-1` is what order-1 wants to hear of alice.

use super::{StoreId, Stores, key_value::read, stores::join_value};
use crate::streams::{error::Failure, serde::Serde};

/// A handle of a store whose keys have two parts, of which the first is looked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::streams) struct Prefixed(pub(in crate::streams) StoreId);

impl Prefixed {
    /// Sets the value of a key of two parts; `None` deletes it.
    pub(in crate::streams) fn put<V: Serde>(
        self,
        stores: &mut impl AsMut<Stores>,
        first: &[u8],
        second: &[u8],
        value: Option<&V>,
        timestamp: i64,
    ) {
        let value = value.map(|value| join_value(timestamp, &value.to_bytes()));
        stores.as_mut().put(self.0, [&prefix(first), second].concat(), value);
    }

    /// The values of all keys that have this first part, in the order of the second.
    pub(in crate::streams) fn all<V: Serde>(
        self,
        stores: &impl AsRef<Stores>,
        first: &[u8],
    ) -> Result<Vec<V>, Failure> {
        let (prefix, mut found) = (prefix(first), Vec::new());
        stores.as_ref().scan(self.0, &prefix, None, |key, value| {
            let is_of_it = key.starts_with(&prefix);
            if is_of_it {
                found.push(read(value).map(|stored| stored.value));
            }
            is_of_it
        })?;
        found.into_iter().collect()
    }
}

fn prefix(first: &[u8]) -> Vec<u8> {
    [format!("{}:", first.len()).as_bytes(), first].concat()
}

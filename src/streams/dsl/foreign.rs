//! Joins of two tables by a key that is in the values of the left one.
//!
//! The keys of the left are not in the partitions of the right, so each value of the left subscribes there, through a topic of its
//! own, keyed by the foreign key. The right keeps the subscriptions and answers each, at once and whenever its own value
//! changes, through another topic, to the partition of the left. An answer to a value that is no longer there is left out: it
//! bears the value's hash.

use super::{Table, each, node, sink::send};
use crate::{
    client::{Header, Record},
    streams::{
        context::{Context, Done, Outgoing},
        error::Failure,
        event::{Change, Event, read_part, write_part},
        graph::{Kind, lock},
        serde::{Serde, parse},
        store::{KeyValue, Prefixed, StoreSpec},
    },
};
use std::{any::TypeId, sync::Arc};

impl<K: Serde, V: Serde> Table<K, V> {
    /// Joins each entry with that of the right whose key `key` finds in its value, in the store `name`. Where it finds none, or
    /// the right has no such key, there is no result.
    pub fn join_by<L: Serde, W: Serde, O: Serde>(
        &self,
        name: &str,
        right: &Table<L, W>,
        key: impl Fn(&K, &V) -> Option<L> + Send + Sync + 'static,
        join: impl Fn(&V, &W) -> O + Send + Sync + 'static,
    ) -> Table<K, O> {
        self.join_foreign(name, right, false, key, move |value, other| Some(join(value, other?)))
    }

    /// The same with all entries of the left.
    pub fn left_join_by<L: Serde, W: Serde, O: Serde>(
        &self,
        name: &str,
        right: &Table<L, W>,
        key: impl Fn(&K, &V) -> Option<L> + Send + Sync + 'static,
        join: impl Fn(&V, Option<&W>) -> O + Send + Sync + 'static,
    ) -> Table<K, O> {
        self.join_foreign(name, right, true, key, move |value, other| Some(join(value, other)))
    }

    fn join_foreign<L: Serde, W: Serde, O: Serde>(
        &self,
        name: &str,
        right: &Table<L, W>,
        left: bool,
        key: impl Fn(&K, &V) -> Option<L> + Send + Sync + 'static,
        join: impl Fn(&V, Option<&W>) -> Option<O> + Send + Sync + 'static,
    ) -> Table<K, O> {
        if !Arc::ptr_eq(&self.graph, &right.graph) {
            return Table::impossible(&self.graph, format!("{name} joins tables of different topologies"));
        }
        let mut graph = lock(&self.graph);
        let subscriptions = format!("{name}-subscriptions");
        let responses = format!("{name}-responses");
        [name, &subscriptions, &responses].iter().for_each(|name| graph.claim(name));

        // The left subscribes.
        let subscribe_topic = graph.repartition(&subscriptions, None);
        let topic = subscribe_topic.clone();
        let subscribe = each(move |context, event: Event<K, Change<V>>| subscribe(context, event, left, &topic, &key));
        let sink = |topic: &Arc<str>| Kind::Sink { topic: Some(topic.clone()) };
        graph.add("subscribe", sink(&subscribe_topic), &[self.node], &[], subscribe);

        // The right keeps the subscriptions and answers.
        let respond_topic = graph.repartition(&responses, None);
        let types = TypeId::of::<(L, Subscription)>();
        let source = graph.source(&subscribe_topic, types, None, super::source::<L, Subscription>());
        graph.join(name, &[source, right.node]);
        graph.store(StoreSpec::key_value(&subscriptions));
        let mut stores = vec![subscriptions.as_str()];
        let (store, topic, getter) = (subscriptions.clone(), respond_topic.clone(), right.view.make.clone());
        let answer = node(move |wiring| {
            let (kept, get, topic) = (Prefixed(wiring.store(&store)), getter(wiring), topic.clone());
            move |context: &mut Context, event: Event<L, Subscription>| -> Done {
                let Event { key, value: Some(subscription), timestamp, headers } = event else { return context.skip() };
                let other = match &key {
                    Some(key) => {
                        let ends = matches!(subscription.wish, Wish::EndSilently | Wish::End);
                        let value = Some(&subscription).filter(|_| !ends);
                        kept.put(context, &key.to_bytes(), &subscription.key, value, timestamp);
                        get(context, key)?
                    }
                    None => None,
                };
                let then = other.as_ref().map_or(timestamp, |stored| stored.timestamp.max(timestamp));
                let value = other.map(|stored| stored.value);
                let answer = match subscription.wish {
                    Wish::EndSilently => return Ok(()),
                    Wish::End => None,
                    Wish::Always | Wish::IfThere => value,
                };
                respond(context, &topic, &subscription, answer.as_ref(), then, headers)
            }
        });
        let right_stores: Vec<&str> = right.view.stores.iter().map(String::as_str).collect();
        stores.extend(right_stores);
        graph.add("answer", sink(&respond_topic), &[source], &stores, answer);
        let (store, topic) = (subscriptions.clone(), respond_topic.clone());
        let tell = node(move |wiring| {
            let (kept, topic) = (Prefixed(wiring.store(&store)), topic.clone());
            move |context: &mut Context, event: Event<L, Change<W>>| -> Done {
                let Event { key: Some(key), value: Some(change), timestamp, headers } = event else {
                    return context.skip();
                };
                for mut subscription in kept.all::<Subscription>(context, &key.to_bytes())? {
                    subscription.wish = Wish::Always;
                    respond(context, &topic, &subscription, change.new.as_ref(), timestamp, headers.clone())?;
                }
                Ok(())
            }
        });
        graph.add("tell", sink(&respond_topic), &[right.node], &[&subscriptions], tell);

        // The left joins what it has with the answers.
        let types = TypeId::of::<(K, Response)>();
        let source = graph.source(&respond_topic, types, None, super::source::<K, Response>());
        graph.join(name, &[source, self.node]);
        let (getter, join, results) = (self.view.make.clone(), Arc::new(join), name.to_string());
        let resolve = node(move |wiring| {
            let (get, join) = (getter(wiring), join.clone());
            let results = KeyValue::<K, O>::new(wiring.store(&results));
            move |context: &mut Context, event: Event<K, Response>| -> Done {
                let Event { key: Some(key), value: Some(response), timestamp, headers } = event else {
                    return context.skip();
                };
                let Response { hash, value, to_clear } = response;
                let current = get(context, &key)?;
                if hash != current.as_ref().map(|stored| hash_of(&stored.value.to_bytes())) {
                    return context.skip();
                }
                let other = value.map(|value| W::from_bytes(&value)).transpose().map_err(Failure::state)?;
                let value = current.and_then(|current| join(&current.value, other.as_ref()));
                if value.is_none() && to_clear && results.get(context, &key)?.is_none() {
                    return Ok(());
                }
                context.forward(Event { key: Some(key), value, timestamp, headers })
            }
        });
        let left_stores = self.view.stores.iter().map(String::as_str);
        let stores: Vec<&str> = left_stores.chain([name]).collect();
        let node = graph.processor("resolve", &[source], &stores, resolve);
        drop(graph);
        super::Stream::<K, O>::new(&self.graph, node, false).table_as(name)
    }
}

/// What a value of the left wants to hear of the right.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wish {
    /// It is gone, and nobody waits for an answer.
    EndSilently,
    /// It is gone: an answer without a value.
    End,
    /// An answer in any case.
    Always,
    /// An answer if there is a value. Without one there is no result of the value before either, unless the answer to that is
    /// still on its way, and will be of a value that is no longer there: so what there is of a result is to be cleared.
    IfThere,
}

/// That a value of the left wants to hear of a key of the right.
#[derive(Clone, Debug, PartialEq)]
struct Subscription {
    wish: Wish,
    /// The hash of the value of the left; `None` where it is gone.
    hash: Option<u64>,
    /// The partition of the left.
    partition: u32,
    /// The key of the left.
    key: Vec<u8>,
}

/// What the right answers.
#[derive(Clone, Debug, PartialEq)]
struct Response {
    hash: Option<u64>,
    value: Option<Vec<u8>>,
    /// Without a value it matters only where there is a result.
    to_clear: bool,
}

/// Sends what follows from a change of the left to the keys of the right that it is about.
fn subscribe<K: Serde, V: Serde, L: Serde>(
    context: &mut Context,
    event: Event<K, Change<V>>,
    left: bool,
    topic: &Arc<str>,
    foreign: &impl Fn(&K, &V) -> Option<L>,
) -> Done {
    let Event { key: Some(key), value: Some(Change { new, old }), timestamp, headers } = event else {
        return context.skip();
    };
    let hash = new.as_ref().map(|value| hash_of(&value.to_bytes()));
    let find = |value: Option<&V>| value.and_then(|value| foreign(&key, value)).map(|key| key.to_bytes());
    let (was, is) = (find(old.as_ref()), find(new.as_ref()));
    let partition = context.task().partition;
    let subscribe = |context: &mut Context, foreign: Option<Vec<u8>>, wish: Wish| {
        let value = Some(Subscription { wish, hash, partition, key: key.to_bytes() });
        send(context, topic.clone(), Event { key: foreign, value, timestamp, headers: headers.clone() })
    };
    if left {
        if new.is_none() && old.is_none() {
            return Ok(());
        }
        if was.is_some() && was != is {
            subscribe(context, was, Wish::EndSilently)?;
        }
        return subscribe(context, is, Wish::Always);
    }
    match (was, is) {
        (Some(was), Some(is)) if was != is => {
            subscribe(context, Some(was), Wish::EndSilently)?;
            subscribe(context, Some(is), Wish::Always)
        }
        (_, Some(is)) => subscribe(context, Some(is), Wish::IfThere),
        (Some(was), None) => subscribe(context, Some(was), Wish::End),
        (None, None) => {
            if new.is_some() {
                context.skip()?;
            }
            // What the value before it ended may be under way, too.
            if old.is_some() { subscribe(context, None, Wish::IfThere) } else { Ok(()) }
        }
    }
}

/// Sends an answer to the partition of the left.
fn respond<W: Serde>(
    context: &mut Context,
    topic: &Arc<str>,
    subscription: &Subscription,
    value: Option<&W>,
    timestamp: i64,
    headers: Vec<Header>,
) -> Done {
    let to_clear = subscription.wish == Wish::IfThere;
    let response = Response { hash: subscription.hash, value: value.map(Serde::to_bytes), to_clear };
    let record = Record {
        key: Some(subscription.key.clone()),
        value: Some(response.to_bytes()),
        headers,
        timestamp: Some(timestamp),
        partition: Some(subscription.partition),
    };
    context.outbox.push(Outgoing { topic: topic.clone(), record });
    Ok(())
}

/// FNV-1a, 64 bits: it is in topics and stores, so it stays what it is.
fn hash_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The hash as a part of a value: nothing for `None`.
fn write_hash(bytes: &mut Vec<u8>, hash: Option<u64>) {
    if let Some(hash) = hash {
        write_part(bytes, b'#', hash.to_string().as_bytes());
    }
}

/// In the topic of subscriptions and in their store: `s`, `e`, `a` or `i` for what it wishes, with the partition; `#` the hash;
/// `k` the key. `i1 0#2 17k5 order`
impl Serde for Subscription {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let wish = match self.wish {
            Wish::EndSilently => b's',
            Wish::End => b'e',
            Wish::Always => b'a',
            Wish::IfThere => b'i',
        };
        write_part(&mut bytes, wish, self.partition.to_string().as_bytes());
        write_hash(&mut bytes, self.hash);
        write_part(&mut bytes, b'k', &self.key);
        bytes
    }

    fn from_bytes(mut bytes: &[u8]) -> Result<Self, String> {
        let (mut wish, mut partition, mut hash, mut key) = (None, 0, None, None);
        while let Some((sign, part)) = read_part(&mut bytes)? {
            let wishes = match sign {
                b's' => Wish::EndSilently,
                b'e' => Wish::End,
                b'a' => Wish::Always,
                b'i' => Wish::IfThere,
                b'#' => {
                    hash = Some(parse(part)?);
                    continue;
                }
                b'k' => {
                    key = Some(part.to_vec());
                    continue;
                }
                _ => return Err(format!("a subscription with {:?}", char::from(sign))),
            };
            (wish, partition) = (Some(wishes), parse(part)?);
        }
        let (wish, key) = wish.zip(key).ok_or("a subscription without a wish or a key")?;
        Ok(Subscription { wish, hash, partition, key })
    }
}

/// In the topic of answers: `#` the hash, `v` the value, `c` where it only clears.
impl Serde for Response {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_hash(&mut bytes, self.hash);
        if let Some(value) = &self.value {
            write_part(&mut bytes, b'v', value);
        } else if self.to_clear {
            write_part(&mut bytes, b'c', b"");
        }
        bytes
    }

    fn from_bytes(mut bytes: &[u8]) -> Result<Self, String> {
        let mut response = Response { hash: None, value: None, to_clear: false };
        while let Some((sign, part)) = read_part(&mut bytes)? {
            match sign {
                b'#' => response.hash = Some(parse(part)?),
                b'v' => response.value = Some(part.to_vec()),
                b'c' => response.to_clear = true,
                _ => return Err(format!("an answer with {:?}", char::from(sign))),
            }
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_and_answers_are_lines() {
        for (wish, hash, text) in [(Wish::IfThere, Some(17), "i1 3#2 17k3 a b"), (Wish::End, None, "e1 3k3 a b")] {
            let one = Subscription { wish, hash, partition: 3, key: b"a b".into() };
            assert_eq!(one.to_bytes(), text.as_bytes());
            assert_eq!(Subscription::from_bytes(text.as_bytes()), Ok(one));
        }
        for (value, to_clear, text) in [(Some(b"x".to_vec()), false, "#1 1v1 x"), (None, true, "#1 1c0 ")] {
            let answer = Response { hash: Some(1), value, to_clear };
            assert_eq!(answer.to_bytes(), text.as_bytes());
            assert_eq!(Response::from_bytes(text.as_bytes()), Ok(answer));
        }
        for bad in ["i1 3", "k1 a", "z1 3k1 a"] {
            assert!(Subscription::from_bytes(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_hash_stays_what_it_is() {
        assert_eq!(hash_of(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash_of(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}

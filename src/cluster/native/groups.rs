//! Groups: listed, described, deleted, and what they have committed.

use super::{Answer, Asking, At, Op, Owned, Partitions, Refused, all, c, c_string, codes, entries, text};
use rdkafka::ClientContext;
use std::{ffi::CString, ptr};

/// A line of the list of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cluster) struct Listed {
    pub(in crate::cluster) name: String,
    pub(in crate::cluster) state: &'static str,
    pub(in crate::cluster) kind: Kind,
}

/// Who assigns in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum Kind {
    /// One of its members.
    Classic,
    /// The nodes.
    Consumer,
}

/// A group as the nodes describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cluster) struct Group {
    pub(in crate::cluster) state: &'static str,
    pub(in crate::cluster) kind: Kind,
    /// How its members share the partitions.
    pub(in crate::cluster) assignor: String,
    pub(in crate::cluster) members: Vec<Member>,
}

/// A member of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cluster) struct Member {
    pub(in crate::cluster) id: String,
    pub(in crate::cluster) instance_id: Option<String>,
    pub(in crate::cluster) client_id: String,
    pub(in crate::cluster) host: String,
    pub(in crate::cluster) assigned: Vec<(String, u32)>,
    /// What it is to have, where the nodes assign.
    pub(in crate::cluster) target: Vec<(String, u32)>,
}

/// An offset to be committed, or one that was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cluster) struct GroupOffset {
    pub(in crate::cluster) topic: String,
    pub(in crate::cluster) partition: u32,
    pub(in crate::cluster) offset: i64,
    pub(in crate::cluster) leader_epoch: Option<i32>,
    pub(in crate::cluster) metadata: String,
}

impl<C: ClientContext> Asking<'_, C> {
    /// All groups of consumers, of all nodes. A node that does not answer is an error.
    pub(in crate::cluster) fn groups(&self) -> Answer<Vec<Listed>> {
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS)?;
        // Sound: the result and its parts are read while its event is there.
        unsafe {
            let event = self.ask(&options, |client, options, queue| {
                c::rd_kafka_ListConsumerGroups(client, options, queue);
            })?;
            let result = c::rd_kafka_event_ListConsumerGroups_result(event.get());
            let mut count = 0;
            let errors = all(c::rd_kafka_ListConsumerGroups_result_errors(result, &mut count), count);
            errors.iter().try_for_each(|&error| Refused::check_error(error))?;
            let groups = all(c::rd_kafka_ListConsumerGroups_result_valid(result, &mut count), count);
            let of = |&group: &*const c::rd_kafka_ConsumerGroupListing_t| Listed {
                name: text(c::rd_kafka_ConsumerGroupListing_group_id(group)),
                state: state(codes::rd_kafka_ConsumerGroupListing_state(group)),
                kind: kind(codes::rd_kafka_ConsumerGroupListing_type(group)),
            };
            Ok(groups.iter().map(of).collect())
        }
    }

    /// Groups by name.
    pub(in crate::cluster) fn describe_groups(&self, names: &[&str]) -> Answer<Vec<(String, Answer<Group>)>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let names = names.iter().map(|name| c_string(name)).collect::<Answer<Vec<CString>>>()?;
        let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS)?;
        // Sound: the array has as many names, which are copied; the result and its parts are read while its event is there.
        unsafe {
            let event = self.ask(&options, |client, options, queue| {
                c::rd_kafka_DescribeConsumerGroups(client, pointers.as_mut_ptr(), pointers.len(), options, queue);
            })?;
            let (result, mut count) = (c::rd_kafka_event_DescribeConsumerGroups_result(event.get()), 0);
            let groups = all(c::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count), count);
            let of = |&group: &*const c::rd_kafka_ConsumerGroupDescription_t| {
                let name = text(c::rd_kafka_ConsumerGroupDescription_group_id(group));
                let error = c::rd_kafka_ConsumerGroupDescription_error(group);
                (name, Refused::check_error(error).map(|()| described(group)))
            };
            Ok(groups.iter().map(of).collect())
        }
    }

    pub(in crate::cluster) fn delete_group(&self, name: &str) -> Answer<()> {
        let name = c_string(name)?;
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_DELETEGROUPS)?;
        // Sound: the name is copied; the array has the one request; the result is read while its event is there.
        unsafe {
            let group = Owned::new(c::rd_kafka_DeleteGroup_new(name.as_ptr()), c::rd_kafka_DeleteGroup_destroy)?;
            let event = self.ask(&options, |client, options, queue| {
                c::rd_kafka_DeleteGroups(client, [group.get()].as_mut_ptr(), 1, options, queue);
            })?;
            let (result, mut count) = (c::rd_kafka_event_DeleteGroups_result(event.get()), 0);
            checked(all(c::rd_kafka_DeleteGroups_result_groups(result, &mut count), count)).map(drop)
        }
    }

    /// All that a group has committed.
    pub(in crate::cluster) fn group_offsets(&self, name: &str) -> Answer<Vec<GroupOffset>> {
        self.offsets_of_groups(&[name])?.pop().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// The same of several groups, in their order, which are all asked for at once.
    pub(in crate::cluster) fn offsets_of_groups(&self, names: &[&str]) -> Answer<Vec<Answer<Vec<GroupOffset>>>> {
        let queue = self.queue()?;
        for (index, name) in names.iter().enumerate() {
            let name = c_string(name)?;
            let options = self.options(Op::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS)?;
            // Sound: options and name are copied, the mark is only handed back, and no list means all partitions.
            unsafe {
                c::rd_kafka_AdminOptions_set_opaque(options.get(), ptr::without_provenance_mut(index));
                let made = c::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), ptr::null());
                let request = Owned::new(made, c::rd_kafka_ListConsumerGroupOffsets_destroy)?;
                let (client, mut requests) = (self.client.native_ptr(), [request.get()]);
                c::rd_kafka_ListConsumerGroupOffsets(client, requests.as_mut_ptr(), 1, options.get(), queue.get());
            }
        }
        let mut answers: Vec<Option<Answer<_>>> = names.iter().map(|_| None).collect();
        for _ in names {
            let event = self.answer(&queue)?;
            if let Some(answer) = answers.get_mut(event.mark()) {
                *answer = Some(event.checked().and_then(|event| offsets_in(&event)));
            }
        }
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(Refused::own("no answer")))).collect())
    }

    /// Commits offsets of a group without members; answers those that were refused.
    pub(in crate::cluster) fn alter_offsets(&self, name: &str, offsets: &[GroupOffset]) -> Answer<Vec<At>> {
        let name = c_string(name)?;
        let list = Partitions::new(offsets.iter().map(|one| (&*one.topic, one.partition, one.offset)))?;
        for (index, one) in offsets.iter().enumerate() {
            list.note(index, one)?;
        }
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS)?;
        // Sound: name and list are copied; the rest is as when a group is deleted.
        unsafe {
            let made = c::rd_kafka_AlterConsumerGroupOffsets_new(name.as_ptr(), list.get());
            let request = Owned::new(made, c::rd_kafka_AlterConsumerGroupOffsets_destroy)?;
            let event = self.ask(&options, |client, options, queue| {
                c::rd_kafka_AlterConsumerGroupOffsets(client, [request.get()].as_mut_ptr(), 1, options, queue);
            })?;
            let (result, mut count) = (c::rd_kafka_event_AlterConsumerGroupOffsets_result(event.get()), 0);
            let done = checked(all(c::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &mut count), count))?;
            Ok(done.into_iter().filter(|at| at.refused.is_some()).collect())
        }
    }
}

impl Partitions {
    /// What is noted with an offset.
    fn note(&self, index: usize, one: &GroupOffset) -> Answer<()> {
        // Sound: the list has as many entries as offsets were given. librdkafka frees the metadata with free(3), so it is made by
        // its own malloc, and filled with as many bytes.
        unsafe {
            let entry = (*self.get()).elems.add(index);
            if let Some(epoch) = one.leader_epoch {
                c::rd_kafka_topic_partition_set_leader_epoch(entry, epoch);
            }
            if !one.metadata.is_empty() {
                let room = c::rd_kafka_mem_malloc(ptr::null_mut(), one.metadata.len());
                if room.is_null() {
                    return Err(Refused::own("no memory"));
                }
                ptr::copy_nonoverlapping(one.metadata.as_ptr(), room.cast::<u8>(), one.metadata.len());
                (*entry).metadata = room;
                (*entry).metadata_size = one.metadata.len();
            }
        }
        Ok(())
    }
}

/// What the one group that was asked for has committed.
fn offsets_in(event: &Owned<c::rd_kafka_event_t>) -> Answer<Vec<GroupOffset>> {
    // Sound: the result is read while its event is there.
    let offsets = unsafe {
        let (result, mut count) = (c::rd_kafka_event_ListConsumerGroupOffsets_result(event.get()), 0);
        checked(all(c::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &mut count), count))?
    };
    let committed = |at: At| {
        let At { topic, partition, offset, leader_epoch, metadata, refused } = at;
        match refused {
            Some(refused) => Some(Err(refused)),
            // librdkafka's word for none.
            None if offset < 0 => None,
            None => Some(Ok(GroupOffset { topic, partition, offset, leader_epoch, metadata })),
        }
    };
    offsets.into_iter().filter_map(committed).collect()
}

/// The partitions of the one group that was asked for.
///
/// # Safety
/// They are results that are there.
unsafe fn checked(results: &[*const c::rd_kafka_group_result_t]) -> Answer<Vec<At>> {
    let mut partitions = Vec::new();
    for &result in results {
        // Sound: the caller says so, and the parts live as long.
        unsafe {
            Refused::check_error(c::rd_kafka_group_result_error(result))?;
            partitions.extend(entries(c::rd_kafka_group_result_partitions(result)));
        }
    }
    Ok(partitions)
}

/// # Safety
/// It is a description that is there.
unsafe fn described(group: *const c::rd_kafka_ConsumerGroupDescription_t) -> Group {
    // Sound: the caller says so, and its members live as long.
    unsafe {
        let count = c::rd_kafka_ConsumerGroupDescription_member_count(group);
        Group {
            state: state(codes::rd_kafka_ConsumerGroupDescription_state(group)),
            kind: kind(codes::rd_kafka_ConsumerGroupDescription_type(group)),
            assignor: text(c::rd_kafka_ConsumerGroupDescription_partition_assignor(group)),
            members: (0..count)
                .map(|index| member(c::rd_kafka_ConsumerGroupDescription_member(group, index)))
                .collect(),
        }
    }
}

/// # Safety
/// It is a member that is there.
unsafe fn member(member: *const c::rd_kafka_MemberDescription_t) -> Member {
    // Sound: the caller says so, and what it has lives as long; an assignment may be null.
    unsafe {
        let assigned = |assignment: *const c::rd_kafka_MemberAssignment_t| match assignment.is_null() {
            true => Vec::new(),
            false => {
                let all = entries(c::rd_kafka_MemberAssignment_partitions(assignment));
                all.into_iter().map(|at| (at.topic, at.partition)).collect()
            }
        };
        let instance_id = c::rd_kafka_MemberDescription_group_instance_id(member);
        Member {
            id: text(c::rd_kafka_MemberDescription_consumer_id(member)),
            instance_id: (!instance_id.is_null()).then(|| text(instance_id)),
            client_id: text(c::rd_kafka_MemberDescription_client_id(member)),
            host: text(c::rd_kafka_MemberDescription_host(member)),
            assigned: assigned(c::rd_kafka_MemberDescription_assignment(member)),
            target: assigned(c::rd_kafka_MemberDescription_target_assignment(member)),
        }
    }
}

/// Kafka's name. librdkafka knows none of the states in which only the nodes assign.
fn state(number: i32) -> &'static str {
    match number {
        1 => "PreparingRebalance",
        2 => "CompletingRebalance",
        3 => "Stable",
        4 => "Dead",
        5 => "Empty",
        _ => "Unknown",
    }
}

fn kind(number: i32) -> Kind {
    const CONSUMER: i32 = c::rd_kafka_consumer_group_type_t::RD_KAFKA_CONSUMER_GROUP_TYPE_CONSUMER as i32;
    if number == CONSUMER { Kind::Consumer } else { Kind::Classic }
}

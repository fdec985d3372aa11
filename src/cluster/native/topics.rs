//! Topics: made, altered, dropped, trimmed, described, and where their partitions begin and end.

use super::{Answer, Asking, At, Op, Owned, Partitions, Refused, all, c, c_string, codes, entries, text};
use rdkafka::ClientContext;
use std::{ffi::CString, ptr};

/// No offset: `RD_KAFKA_OFFSET_INVALID`.
const UNTOLD: i64 = -1001;

/// A topic that was asked for.
#[derive(Clone, Debug)]
pub(in crate::cluster) struct Found {
    pub(in crate::cluster) name: String,
    pub(in crate::cluster) topic: Answer<Topic>,
}

/// A topic as the nodes describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cluster) struct Topic {
    /// Its UUID.
    pub(in crate::cluster) id: [u8; 16],
    /// Its partitions by number.
    pub(in crate::cluster) partitions: Vec<Place>,
}

/// Where a partition's copies are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cluster) struct Place {
    /// Its number.
    pub(in crate::cluster) index: u32,
    /// The node that leads it, if one does.
    pub(in crate::cluster) leader: Option<i32>,
    pub(in crate::cluster) replicas: Vec<i32>,
    pub(in crate::cluster) in_sync: Vec<i32>,
}

/// A setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cluster) struct Setting {
    pub(in crate::cluster) name: String,
    pub(in crate::cluster) value: String,
    /// Whether it was set for the topic itself.
    pub(in crate::cluster) is_own: bool,
}

impl<C: ClientContext> Asking<'_, C> {
    /// Makes a topic; `None` leaves a number to the cluster.
    pub(in crate::cluster) fn create_topic(
        &self,
        name: &str,
        partitions: Option<i32>,
        replication: Option<i32>,
        settings: &[(&str, &str)],
    ) -> Answer<()> {
        let name = c_string(name)?;
        let (partitions, replication) = (partitions.unwrap_or(-1), replication.unwrap_or(-1));
        let mut why = [0; 256];
        // Sound: strings and the new topic are there during the calls, which copy them; the reason is written within its room and
        // ends with a NUL.
        let topic = unsafe {
            let made = c::rd_kafka_NewTopic_new(name.as_ptr(), partitions, replication, why.as_mut_ptr(), why.len());
            let topic =
                Owned::new(made, c::rd_kafka_NewTopic_destroy).map_err(|_| Refused::own(&text(why.as_ptr())))?;
            for (name, value) in settings {
                let (name, value) = (c_string(name)?, c_string(value)?);
                c::rd_kafka_NewTopic_set_config(topic.get(), name.as_ptr(), value.as_ptr());
            }
            topic
        };
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_CREATETOPICS)?;
        self.until_done(&options);
        // Sound: the array has the one topic, which is copied; the result is read as what was asked for, while its event is there.
        unsafe {
            let event = self.ask(&options, |client, options, queue| {
                c::rd_kafka_CreateTopics(client, [topic.get()].as_mut_ptr(), 1, options, queue);
            })?;
            let (result, mut count) = (c::rd_kafka_event_CreateTopics_result(event.get()), 0);
            checked(all(c::rd_kafka_CreateTopics_result_topics(result, &mut count), count))
        }
    }

    pub(in crate::cluster) fn delete_topic(&self, name: &str) -> Answer<()> {
        let name = c_string(name)?;
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_DELETETOPICS)?;
        self.until_done(&options);
        // Sound: as when one is made.
        unsafe {
            let topic = Owned::new(c::rd_kafka_DeleteTopic_new(name.as_ptr()), c::rd_kafka_DeleteTopic_destroy)?;
            let event = self.ask(&options, |client, options, queue| {
                c::rd_kafka_DeleteTopics(client, [topic.get()].as_mut_ptr(), 1, options, queue);
            })?;
            let (result, mut count) = (c::rd_kafka_event_DeleteTopics_result(event.get()), 0);
            checked(all(c::rd_kafka_DeleteTopics_result_topics(result, &mut count), count))
        }
    }

    /// Adds partitions until there are as many.
    pub(in crate::cluster) fn grow_topic(&self, name: &str, partitions: usize) -> Answer<()> {
        let name = c_string(name)?;
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS)?;
        self.until_done(&options);
        let mut why = [0; 256];
        // Sound: as when a topic is made.
        unsafe {
            let made = c::rd_kafka_NewPartitions_new(name.as_ptr(), partitions, why.as_mut_ptr(), why.len());
            let more =
                Owned::new(made, c::rd_kafka_NewPartitions_destroy).map_err(|_| Refused::own(&text(why.as_ptr())))?;
            let event = self.ask(&options, |client, options, queue| {
                c::rd_kafka_CreatePartitions(client, [more.get()].as_mut_ptr(), 1, options, queue);
            })?;
            let (result, mut count) = (c::rd_kafka_event_CreatePartitions_result(event.get()), 0);
            checked(all(c::rd_kafka_CreatePartitions_result_topics(result, &mut count), count))
        }
    }

    /// The answer comes when all nodes that matter know of it.
    fn until_done(&self, options: &Owned<c::rd_kafka_AdminOptions_t>) {
        let most = (self.timeout.as_millis() / 2).clamp(1, 60_000) as i32;
        // Sound: the options are there; without room for a reason none is written.
        unsafe { c::rd_kafka_AdminOptions_set_operation_timeout(options.get(), most, ptr::null_mut(), 0) };
    }

    /// Sets settings of a topic, or takes them back (`None`). The others stay.
    pub(in crate::cluster) fn alter_settings(&self, topic: &str, changes: &[(&str, Option<&str>)]) -> Answer<()> {
        use c::rd_kafka_AlterConfigOpType_t::*;
        let resource = resource(topic)?;
        for (name, value) in changes {
            let (name, set) = (c_string(name)?, value.map(c_string).transpose()?);
            let op =
                if set.is_some() { RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET } else { RD_KAFKA_ALTER_CONFIG_OP_TYPE_DELETE };
            let value = set.as_ref().map_or(ptr::null(), |value| value.as_ptr());
            // Sound: strings and the resource are there during the call, which copies them; an error is freed here.
            unsafe {
                let error = c::rd_kafka_ConfigResource_add_incremental_config(resource.get(), name.as_ptr(), op, value);
                if let Ok(error) = Owned::new(error, c::rd_kafka_error_destroy) {
                    Refused::check_error(error.get())?;
                }
            }
        }
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS)?;
        // Sound: the array has the one resource, which is copied; the result is read while its event is there.
        unsafe {
            let event = self.ask(&options, |client, options, queue| {
                c::rd_kafka_IncrementalAlterConfigs(client, [resource.get()].as_mut_ptr(), 1, options, queue);
            })?;
            let (result, mut count) = (c::rd_kafka_event_IncrementalAlterConfigs_result(event.get()), 0);
            let all = all(c::rd_kafka_IncrementalAlterConfigs_result_resources(result, &mut count), count);
            all.iter().try_for_each(|&resource| check_resource(resource))
        }
    }

    /// The settings of topics, in their order.
    pub(in crate::cluster) fn settings(&self, topics: &[&str]) -> Answer<Vec<(String, Answer<Vec<Setting>>)>> {
        self.told(topics.iter().map(|topic| resource(topic)).collect::<Answer<Vec<_>>>()?)
    }

    /// One setting of topics, in their order.
    pub(in crate::cluster) fn setting(
        &self,
        topics: &[&str],
        name: &str,
    ) -> Answer<Vec<(String, Answer<Vec<Setting>>)>> {
        let (resources, name) =
            (topics.iter().map(|topic| resource(topic)).collect::<Answer<Vec<_>>>()?, c_string(name)?);
        for resource in &resources {
            // Sound: the resource is there, and the name during the call, which copies it. Only the name is sent.
            unsafe { c::rd_kafka_ConfigResource_set_config(resource.get(), name.as_ptr(), c"".as_ptr()) };
        }
        self.told(resources)
    }

    fn told(&self, resources: Vec<Owned<c::rd_kafka_ConfigResource_t>>) -> Answer<Vec<(String, Answer<Vec<Setting>>)>> {
        if resources.is_empty() {
            return Ok(Vec::new());
        }
        let mut pointers: Vec<_> = resources.iter().map(Owned::get).collect();
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS)?;
        // Sound: the array has as many resources, which are copied; the result is read while its event is there.
        unsafe {
            let event = self.ask(&options, |client, options, queue| {
                c::rd_kafka_DescribeConfigs(client, pointers.as_mut_ptr(), pointers.len(), options, queue);
            })?;
            let (result, mut count) = (c::rd_kafka_event_DescribeConfigs_result(event.get()), 0);
            let all = all(c::rd_kafka_DescribeConfigs_result_resources(result, &mut count), count);
            let of = |&resource: &*const c::rd_kafka_ConfigResource_t| {
                let name = text(c::rd_kafka_ConfigResource_name(resource));
                (name, check_resource(resource).map(|()| settings_of(resource)))
            };
            Ok(all.iter().map(of).collect())
        }
    }

    /// Removes the records of a partition before an offset; answers its new start.
    pub(in crate::cluster) fn delete_records(&self, topic: &str, partition: u32, before: i64) -> Answer<i64> {
        let before = Partitions::new([(topic, partition, before)])?;
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_DELETERECORDS)?;
        self.until_done(&options);
        // Sound: the list is copied; the array has the one request; the result is read while its event is there.
        let all = unsafe {
            let request = Owned::new(c::rd_kafka_DeleteRecords_new(before.get()), c::rd_kafka_DeleteRecords_destroy)?;
            let event = self.ask(&options, |client, options, queue| {
                c::rd_kafka_DeleteRecords(client, [request.get()].as_mut_ptr(), 1, options, queue);
            })?;
            entries(c::rd_kafka_DeleteRecords_result_offsets(c::rd_kafka_event_DeleteRecords_result(event.get())))
        };
        let first = all.into_iter().next().ok_or_else(|| Refused::own("nothing came of it"))?;
        first.refused.map_or(Ok(first.offset), Err)
    }

    /// Topics by name, in their order.
    pub(in crate::cluster) fn topics(&self, names: &[&str]) -> Answer<Vec<Found>> {
        let names = names.iter().map(|name| c_string(name)).collect::<Answer<Vec<CString>>>()?;
        let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS)?;
        // Sound: the array has as many names, which are copied; the result is read while its event is there.
        unsafe {
            let made = c::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            let wanted = Owned::new(made, c::rd_kafka_TopicCollection_destroy)?;
            let event = self.ask(&options, |client, options, queue| {
                c::rd_kafka_DescribeTopics(client, wanted.get(), options, queue);
            })?;
            let (result, mut count) = (c::rd_kafka_event_DescribeTopics_result(event.get()), 0);
            let all = all(c::rd_kafka_DescribeTopics_result_topics(result, &mut count), count);
            Ok(all.iter().map(|&topic| found(topic)).collect())
        }
    }

    /// Where partitions begin (`-2`), end (`-1`) or reach a time (in ms), as far as readers of committed records see if
    /// `committed`. All nodes are asked at once.
    pub(in crate::cluster) fn offsets<'a>(
        &self,
        wanted: impl IntoIterator<Item = (&'a str, u32, i64)>,
        committed: bool,
    ) -> Answer<Vec<At>> {
        use c::rd_kafka_IsolationLevel_t::*;
        let wanted = Partitions::new(wanted)?;
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_LISTOFFSETS)?;
        let level =
            if committed { RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED } else { RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED };
        // Sound: the options are there, an error is freed here; the list is copied; the result is read while its event is there, and
        // an entry of it is a list's entry alone.
        unsafe {
            let error = c::rd_kafka_AdminOptions_set_isolation_level(options.get(), level);
            if let Ok(error) = Owned::new(error, c::rd_kafka_error_destroy) {
                Refused::check_error(error.get())?;
            }
            let event = self.ask(&options, |client, options, queue| {
                c::rd_kafka_ListOffsets(client, wanted.get(), options, queue);
            })?;
            let (result, mut count) = (c::rd_kafka_event_ListOffsets_result(event.get()), 0);
            let all = all(c::rd_kafka_ListOffsets_result_infos(result, &mut count), count);
            let of = |&info: &*const c::rd_kafka_ListOffsetsResultInfo_t| {
                let entry = c::rd_kafka_ListOffsetsResultInfo_topic_partition(info);
                let mut at = (*entry.cast::<super::Entry>()).copied();
                // So librdkafka leaves what the node did not tell that it asked.
                if at.refused.is_none() && at.offset == UNTOLD {
                    let number = c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE as i32;
                    at.refused = Some(Refused { number, why: "no node tells its offsets now".into() });
                }
                at
            };
            Ok(all.iter().map(of).collect())
        }
    }
}

fn resource(topic: &str) -> Answer<Owned<c::rd_kafka_ConfigResource_t>> {
    let name = c_string(topic)?;
    // Sound: the name is there during the call, which copies it.
    unsafe {
        let made = c::rd_kafka_ConfigResource_new(c::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, name.as_ptr());
        Owned::new(made, c::rd_kafka_ConfigResource_destroy)
    }
}

/// # Safety
/// They are results that are there.
unsafe fn checked(results: &[*const c::rd_kafka_topic_result_t]) -> Answer<()> {
    // Sound: the caller says so, and the reasons live as long.
    results.iter().try_for_each(|&result| unsafe {
        Refused::check(codes::rd_kafka_topic_result_error(result), c::rd_kafka_topic_result_error_string(result))
    })
}

/// # Safety
/// It is a resource that is there.
unsafe fn check_resource(resource: *const c::rd_kafka_ConfigResource_t) -> Answer<()> {
    // Sound: the caller says so, and the reason lives as long.
    unsafe {
        let why = c::rd_kafka_ConfigResource_error_string(resource);
        Refused::check(codes::rd_kafka_ConfigResource_error(resource), why)
    }
}

/// # Safety
/// It is a resource that is there.
unsafe fn settings_of(resource: *const c::rd_kafka_ConfigResource_t) -> Vec<Setting> {
    const OWN: i32 = c::rd_kafka_ConfigSource_t::RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG as i32;
    // Sound: the caller says so, and its entries live as long.
    unsafe {
        let mut count = 0;
        let all = all(c::rd_kafka_ConfigResource_configs(resource, &mut count), count);
        let of = |&entry: &*const c::rd_kafka_ConfigEntry_t| Setting {
            name: text(c::rd_kafka_ConfigEntry_name(entry)),
            value: text(c::rd_kafka_ConfigEntry_value(entry)),
            is_own: codes::rd_kafka_ConfigEntry_source(entry) == OWN,
        };
        all.iter().map(of).collect()
    }
}

/// # Safety
/// It is a description that is there.
unsafe fn found(topic: *const c::rd_kafka_TopicDescription_t) -> Found {
    // Sound: the caller says so, and its parts live as long.
    unsafe {
        let name = text(c::rd_kafka_TopicDescription_name(topic));
        let described = Refused::check_error(c::rd_kafka_TopicDescription_error(topic)).map(|()| {
            let mut count = 0;
            let all = all(c::rd_kafka_TopicDescription_partitions(topic, &mut count), count);
            let mut partitions: Vec<_> = all.iter().map(|&partition| place(partition)).collect();
            partitions.sort_by_key(|place| place.index);
            let mut id = [0; 16];
            let uuid = c::rd_kafka_TopicDescription_topic_id(topic);
            if !uuid.is_null() {
                id[..8].copy_from_slice(&c::rd_kafka_Uuid_most_significant_bits(uuid).to_be_bytes());
                id[8..].copy_from_slice(&c::rd_kafka_Uuid_least_significant_bits(uuid).to_be_bytes());
            }
            Topic { id, partitions }
        });
        Found { name, topic: described }
    }
}

/// # Safety
/// It is a partition that is there.
unsafe fn place(partition: *const c::rd_kafka_TopicPartitionInfo_t) -> Place {
    // Sound: the caller says so, and its nodes live as long; one may be null, and a replica whose node is unknown is.
    unsafe {
        let ids = |nodes: &[*const c::rd_kafka_Node_t]| {
            nodes.iter().filter(|node| !node.is_null()).map(|&node| c::rd_kafka_Node_id(node)).collect()
        };
        let leader = c::rd_kafka_TopicPartitionInfo_leader(partition);
        let leader = (!leader.is_null()).then(|| c::rd_kafka_Node_id(leader)).filter(|id| *id >= 0);
        let (mut replicas, mut in_sync) = (0, 0);
        Place {
            index: c::rd_kafka_TopicPartitionInfo_partition(partition).max(0) as u32,
            leader,
            replicas: ids(all(c::rd_kafka_TopicPartitionInfo_replicas(partition, &mut replicas), replicas)),
            in_sync: ids(all(c::rd_kafka_TopicPartitionInfo_isr(partition, &mut in_sync), in_sync)),
        }
    }
}

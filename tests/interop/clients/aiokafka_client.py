"""aiokafka, a client for asyncio."""
import asyncio

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError, ProducerFenced

import check as checks
from check import ADDRESS, RECORDS, START, equal, for_each_codec, fresh, main, numbers_across_a_restart


def check(function):
    """A check that is a coroutine."""
    def run(*arguments):
        asyncio.run(asyncio.wait_for(function(*arguments), 120))
    run.__name__ = function.__name__
    return run


async def create(topic, partitions=1, **configs):
    async with admin() as client:
        answer = await client.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)])
        equal([error for _, error, *_ in answer.topic_errors], [0])
        await until(client, lambda described: len(described["partitions"]) == partitions, topic)
    return topic


async def until(client, holds, topic):
    """Waits until the topic's description fulfils a condition: Kafka creates topics some time after it says so."""
    for _ in range(200):
        described, = await client.describe_topics([topic])
        if described["error_code"] == 0 and holds(described):
            return described
        await asyncio.sleep(0.05)
    raise AssertionError(f"{topic} is {described}")


class admin:
    """An admin client for one block."""
    async def __aenter__(self):
        self.client = AIOKafkaAdminClient(bootstrap_servers=ADDRESS)
        await self.client.start()
        return self.client

    async def __aexit__(self, *_):
        await self.client.close()


def reader(*topics, group=None, **conf):
    return AIOKafkaConsumer(*topics, bootstrap_servers=ADDRESS, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
                            session_timeout_ms=6000, heartbeat_interval_ms=500, **conf)


async def produce(topic, records, partition=0, **conf):
    async with AIOKafkaProducer(bootstrap_servers=ADDRESS, **conf) as producer:
        sent = [await producer.send(topic, value, key, partition, timestamp, headers) for key, value, headers, timestamp in records]
        return [(await future).offset for future in sent]


def plain(*values):
    """Records with nothing but a value, stamped a second apart."""
    return [(None, value, [], START + 1000 * n) for n, value in enumerate(values)]


async def take(consumer, count):
    return [await asyncio.wait_for(consumer.getone(), 30) for _ in range(count)]


async def read_all(topic, count):
    async with reader() as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()
        return await take(consumer, count)


@checks.check
@check
async def creates_lists_and_describes_topics():
    topic = await create(fresh("made"), 3)
    async with admin() as client:
        assert topic in await client.list_topics()
        described, = await client.describe_topics([topic])
        partitions = sorted((p["partition"], p["leader"], p["replicas"], p["isr"]) for p in described["partitions"])
        equal(partitions, [(p, 1, [1], [1]) for p in range(3)])
        again = await client.create_topics([NewTopic(topic, 1, 1)])
        equal([error for _, error, *_ in again.topic_errors], [36])
        cluster = await client.describe_cluster()
        equal([(b["node_id"], f"{b['host']}:{b['port']}") for b in cluster["brokers"]], [(1, ADDRESS)])


@for_each_codec
@check
async def keeps_keys_headers_and_timestamps(codec):
    topic = await create(fresh(f"codec-{codec}"))
    offsets = await produce(topic, RECORDS * 50, compression_type=None if codec == "none" else codec, linger_ms=50)
    equal(offsets, list(range(300)))
    equal([(m.key, m.value, list(m.headers), m.timestamp) for m in await read_all(topic, 300)], RECORDS * 50)


@checks.check
@check
async def reads_from_beginning_end_and_time():
    topic = await create(fresh("places"))
    partition = TopicPartition(topic, 0)
    await produce(topic, plain(b"0", b"1", b"2", b"3"))
    async with reader() as consumer:
        consumer.assign([partition])
        equal((await consumer.beginning_offsets([partition]), await consumer.end_offsets([partition])), ({partition: 0}, {partition: 4}))
        found = [(await consumer.offsets_for_times({partition: time}))[partition] for time in (START, START + 1001, START + 3001)]
        equal([at and (at.offset, at.timestamp) for at in found], [(0, START), (2, START + 2000), None])
        consumer.seek(partition, found[1].offset)
        equal([m.value for m in await take(consumer, 2)], [b"2", b"3"])
        await consumer.seek_to_end(partition)
        equal(await consumer.position(partition), 4)
        await produce(topic, plain(b"4"))
        equal([m.value for m in await take(consumer, 1)], [b"4"])


async def settle(members, shares):
    """Waits until the partitions are spread in these shares and none is owned twice."""
    for _ in range(600):
        owned = [p for member in members for p in member.assignment()]
        if len(owned) == len(set(owned)) and sorted(len(m.assignment()) for m in members) == shares:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"shares are {[m.assignment() for m in members]}, not {shares}")


@checks.check
@check
async def group_rebalances_when_a_member_joins_and_leaves():
    topic, group = await create(fresh("shared"), 4), fresh("group")
    async with reader(topic, group=group) as first:
        await settle([first], [4])
        async with reader(topic, group=group) as second:
            await settle([first, second], [2, 2])
            for partition in range(4):
                await produce(topic, plain(b"%d" % partition), partition)
            values = [m.value for half in await asyncio.gather(take(first, 2), take(second, 2)) for m in half]
            equal(sorted(values), [b"0", b"1", b"2", b"3"])
        await settle([first], [4])


@checks.check
@check
async def group_resumes_at_committed_offset_and_lag_is_the_rest():
    topic, group = await create(fresh("resumed")), fresh("group")
    partition = TopicPartition(topic, 0)
    await produce(topic, plain(*(b"%d" % n for n in range(10))))
    async with reader(topic, group=group) as consumer:
        await take(consumer, 4)
        await consumer.commit({partition: (4, "half way")})
    async with admin() as client:
        committed = (await client.list_consumer_group_offsets(group))[partition]
        equal((committed.offset, committed.metadata), (4, "half way"))
        assert group in [name for name, *_ in await client.list_consumer_groups()]
    async with reader(topic, group=group) as consumer:
        equal([m.offset for m in await take(consumer, 6)], [4, 5, 6, 7, 8, 9])
        equal(consumer.highwater(partition) - committed.offset, 6)
        async with admin() as client:
            described = (await client.describe_consumer_groups([group]))[0].groups[0]
            equal((described[1], described[2], len(described[5])), (group, "Stable", 1))


@checks.check
@check
async def admin_reads_and_alters_settings():
    topic = await create(fresh("settings"), **{"retention.ms": "3600000"})
    async with admin() as client:
        async def settings():
            answer, = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
            return {name: value for name, value, *_ in answer.resources[0][4]}
        shown = await settings()
        equal((shown["retention.ms"], shown["cleanup.policy"]), ("3600000", "delete"))
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"cleanup.policy": "compact"})])
        for _ in range(200):
            shown = await settings()
            if shown["cleanup.policy"] == "compact":
                break
            await asyncio.sleep(0.05)
        # This older call replaces all settings of the topic.
        equal((shown["cleanup.policy"], shown["retention.ms"]), ("compact", "604800000"))


@checks.check
@check
async def admin_adds_partitions_deletes_records_and_topics():
    topic = await create(fresh("changed"))
    partition = TopicPartition(topic, 0)
    async with admin() as client:
        await client.create_partitions({topic: NewPartitions(3)})
        await until(client, lambda described: len(described["partitions"]) == 3, topic)
        await produce(topic, plain(b"0", b"1", b"2"))
        equal(await client.delete_records({partition: RecordsToDelete(2)}), {partition: 2})
        equal([m.value for m in await read_all(topic, 1)], [b"2"])
        await client.delete_topics([topic])
        for _ in range(200):
            if topic not in await client.list_topics():
                return
            await asyncio.sleep(0.05)
        raise AssertionError("the topic is still there")


@checks.check
@check
async def refuses_a_message_that_is_too_large():
    topic = await create(fresh("large"), **{"max.message.bytes": "2000"})
    try:
        await produce(topic, plain(b"x" * 5000))
    except MessageSizeTooLargeError:
        return
    raise AssertionError("it was stored")


@checks.check
@check
async def idempotent_producer_survives_a_broker_restart():
    topic = await create(fresh("idempotent"))
    numbers = numbers_across_a_restart()
    async with AIOKafkaProducer(bootstrap_servers=ADDRESS, enable_idempotence=True, linger_ms=1, request_timeout_ms=60_000) as producer:
        sent = []
        # The numbers come at their own pace: another thread waits for each.
        while (number := await asyncio.to_thread(next, numbers, None)) is not None:
            sent.append(await producer.send(topic, b"%d" % number, partition=0))
        equal([(await future).offset for future in sent], list(range(len(sent))))
    equal([m.value for m in await read_all(topic, len(sent))], [b"%d" % n for n in range(len(sent))])


def transactional(identity):
    """A transactional producer that fences whoever had its id."""
    return AIOKafkaProducer(bootstrap_servers=ADDRESS, transactional_id=identity)


async def send(producer, topic, partition, *values):
    """Sends these values, and waits until the broker has them."""
    for sent in [await producer.send(topic, value, partition=partition) for value in values]:
        await sent


async def read_to_the_end(topic, partition, isolation):
    """What a reader at this isolation level finds before the end of the partition."""
    one, values = TopicPartition(topic, partition), []
    async with reader(isolation_level=isolation) as consumer:
        consumer.assign([one])
        await consumer.seek_to_beginning()
        end = (await consumer.end_offsets([one]))[one]
        while await consumer.position(one) < end:
            values += [message.value for message in (await consumer.getmany(one, timeout_ms=200)).get(one, [])]
    return values


async def committed(topic, partition=0):
    return await read_to_the_end(topic, partition, "read_committed")


@checks.check
@check
async def transaction_is_seen_whole_or_not_at_all():
    topic, seen = await create(fresh("transactions"), 2), []
    async with transactional(fresh("id")) as producer:
        for outcome in (b"commit", b"abort", b"commit"):
            await producer.begin_transaction()
            for partition in (0, 1):
                await send(producer, topic, partition, outcome, b"more")
            equal((await read_to_the_end(topic, 1, "read_uncommitted"))[-2:], [outcome, b"more"])
            equal([await committed(topic, partition) for partition in (0, 1)], [seen, seen])
            await (producer.commit_transaction() if outcome == b"commit" else producer.abort_transaction())
            seen += [b"commit", b"more"] if outcome == b"commit" else []
            # Kafka writes its markers after it has answered.
            while [await committed(topic, partition) for partition in (0, 1)] != [seen, seen]:
                await asyncio.sleep(0.05)
    for partition in (0, 1):
        equal(await committed(topic, partition), [b"commit", b"more"] * 2)
        equal(await read_to_the_end(topic, partition, "read_uncommitted"), [b"commit", b"more", b"abort", b"more", b"commit", b"more"])


@checks.check
@check
async def offsets_are_committed_with_the_records_that_were_made_of_them():
    source, target, group, identity = await create(fresh("in")), await create(fresh("out")), fresh("group"), fresh("id")
    partition = TopicPartition(source, 0)
    await produce(source, plain(*(b"%d" % n for n in range(10))))
    # Each try begins where the last one that was committed ended.
    for commits in (False, True, True):
        async with reader(source, group=group, isolation_level="read_committed") as consumer, transactional(identity) as producer:
            taken = await take(consumer, 5)
            await producer.begin_transaction()
            await send(producer, target, 0, *(2 * message.value for message in taken))
            await producer.send_offsets_to_transaction({partition: taken[-1].offset + 1}, group)
            await (producer.commit_transaction() if commits else producer.abort_transaction())
    equal(await committed(target), [b"%d%d" % (n, n) for n in range(10)])
    async with admin() as client:
        equal((await client.list_consumer_group_offsets(group))[partition].offset, 10)


@checks.check
@check
async def second_producer_fences_the_first():
    topic, identity = await create(fresh("fenced")), fresh("id")
    first = transactional(identity)
    await first.start()
    await first.begin_transaction()
    await send(first, topic, 0, b"of the first")
    async with transactional(identity) as second:
        await second.begin_transaction()
        await send(second, topic, 0, b"of the second")
        try:
            await first.commit_transaction()
            raise AssertionError("it was not fenced")
        except ProducerFenced:
            pass
        await second.commit_transaction()
    await first.stop()
    equal(await committed(topic), [b"of the second"])


if __name__ == "__main__":
    main(f"aiokafka {aiokafka.__version__}")

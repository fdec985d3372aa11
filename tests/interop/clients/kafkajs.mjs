// kafkajs, the client for Node.js. The report on stdout is described in check.py.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { randomBytes } from "node:crypto";

const require = createRequire(import.meta.url);
const kafkajs = require("kafkajs");
const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } = kafkajs;
const snappy = require("snappyjs");
const lz4 = require("lz4-napi");
const { ZstdCodec } = require("zstd-codec");

const address = process.argv[2];
const kafka = new Kafka({ brokers: [address], logLevel: logLevel.ERROR, retry: { initialRetryTime: 100, retries: 20, maxRetryTime: 2000 } });
const admin = kafka.admin();
const say = (line) => process.stdout.write(line + "\n");
const fresh = (name) => `${name}-${randomBytes(4).toString("hex")}`;
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const START = Date.now() - 3_600_000;
class Unable extends Error {}

// kafkajs brings gzip; the others are plugged in, as its manual says.
const zstd = await new Promise((loaded) => ZstdCodec.run((codec) => loaded(new codec.Simple())));
const codec = (compress, decompress) => () => ({
  compress: async (encoder) => Buffer.from(compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(decompress(buffer)),
});
const xerial = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0]);
CompressionCodecs[CompressionTypes.Snappy] = codec(snappy.compress, (buffer) => {
  if (!buffer.subarray(0, 8).equals(xerial)) return snappy.uncompress(buffer);
  const blocks = [];
  for (let at = 16; at < buffer.length; at += 4 + buffer.readInt32BE(at)) {
    blocks.push(Buffer.from(snappy.uncompress(buffer.subarray(at + 4, at + 4 + buffer.readInt32BE(at)))));
  }
  return Buffer.concat(blocks);
});
CompressionCodecs[CompressionTypes.LZ4] = codec(lz4.compressFrameSync, lz4.decompressFrameSync);
CompressionCodecs[CompressionTypes.ZSTD] = codec((b) => zstd.compress(b), (b) => zstd.decompress(b));

// Null and empty, a tombstone, any bytes, line ends. This client sends a repeated header as a list, and no null header.
const RECORDS = [
  { key: Buffer.from("user-1"), value: Buffer.from("hello"), headers: { trace: "1" } },
  { key: null, value: Buffer.from("no key"), headers: {} },
  { key: Buffer.from(""), value: Buffer.from(""), headers: { empty: "" } },
  { key: Buffer.from("gone"), value: null, headers: {} },
  { key: Buffer.from([...Array(256).keys()]), value: Buffer.from("two\nlines\r\n\0\ttab \\ offset:7"), headers: { b: Buffer.from([255, 0]), a: ["1", "2"] } },
  { key: Buffer.from("schlüssel"), value: Buffer.from("wert 😀".repeat(200)), headers: { größe: "ü" } },
].map((record, n) => ({ ...record, partition: 0, timestamp: String(START + 1000 * n) }));

const text = (value) => (value === null || value === undefined ? null : Array.isArray(value) ? value.map(text) : Buffer.from(value).toString("latin1"));
const shown = ({ key, value, headers, timestamp }) =>
  JSON.stringify([text(key), text(value), Object.entries(headers ?? {}).map(([name, v]) => [name, text(v)]), timestamp]);

function equal(got, expected) {
  const [a, b] = [JSON.stringify(got), JSON.stringify(expected)];
  if (a !== b) throw new Error(`got ${a}, expected ${b}`);
}

async function until(condition, what, seconds = 30) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(20)) {
    const result = await condition();
    if (result) return result;
  }
  throw new Error(`not within ${seconds} s: ${what}`);
}

async function refused(type, action) {
  try {
    await action();
  } catch (error) {
    const found = error.type ?? error.errors?.[0]?.type ?? error.groups?.[0]?.error?.type ?? error.cause?.type;
    return equal(found, type);
  }
  throw new Error(`not refused with ${type}`);
}

async function create(topic, numPartitions = 1, config = {}) {
  const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }));
  await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions, configEntries }] });
  await until(() => admin.fetchTopicOffsets(topic).then(() => true, () => false), "an answer for the topic");
  return topic;
}

async function produce(topic, messages, options = {}, conf = {}) {
  const producer = kafka.producer(conf);
  await producer.connect();
  try {
    return await producer.send({ topic, messages, ...options });
  } finally {
    await producer.disconnect();
  }
}

const plain = (...values) => values.map((value, n) => ({ value, partition: 0, timestamp: String(START + 1000 * n) }));

/** A member of a group that collects its messages and knows its partitions. */
async function member(topic, groupId, conf = {}) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 6000, heartbeatInterval: 300, rebalanceTimeout: 6000, maxWaitTimeInMs: 200, ...conf });
  const state = { consumer, owned: [], messages: [] };
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => (state.owned = payload.memberAssignment[topic] ?? []));
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({ autoCommit: false, eachMessage: async ({ partition, message }) => void state.messages.push({ partition, ...message }) });
  return state;
}

async function readAll(topic, count) {
  const { consumer, messages } = await member(topic, fresh("reader"));
  await until(() => messages.length >= count, `${count} messages`);
  await consumer.disconnect();
  return messages;
}

const valuesOf = ({ messages }, partition) => messages.filter((m) => m.partition === partition).map((m) => text(m.value));

/** A transactional producer that fences whoever had its id. */
async function transactional(transactionalId) {
  const producer = kafka.producer({ transactionalId, idempotent: true, maxInFlightRequests: 1, retry: { retries: 5, initialRetryTime: 100 } });
  await producer.connect();
  return producer;
}

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function restartBroker() {
  say("restart");
  if ((await answers.next()).value !== "restarted") throw new Unable("this broker cannot be restarted from here");
}

const checks = {
  async creates_lists_and_describes_topics() {
    const topic = await create(fresh("made"), 3);
    equal((await admin.listTopics()).includes(topic), true);
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
    const partitions = topics[0].partitions.map((p) => [p.partitionId, p.leader, p.replicas, p.isr]).sort();
    equal(partitions, [0, 1, 2].map((p) => [p, 1, [1], [1]]));
    equal(await admin.createTopics({ topics: [{ topic }] }), false);
    const cluster = await admin.describeCluster();
    equal(cluster.brokers.map((b) => [b.nodeId, `${b.host}:${b.port}`]), [[1, address]]);
  },

  ...Object.fromEntries(Object.entries({ none: "None", gzip: "GZIP", snappy: "Snappy", lz4: "LZ4", zstd: "ZSTD" }).map(([name, type]) => [
    `keeps_keys_headers_and_timestamps[${name}]`,
    async () => {
      const topic = await create(fresh(`codec-${name}`));
      const messages = Array.from({ length: 50 }, () => RECORDS).flat();
      const [sent] = await produce(topic, messages, { compression: CompressionTypes[type] });
      equal([sent.errorCode, sent.baseOffset], [0, "0"]);
      equal((await readAll(topic, 300)).map(shown), messages.map(shown));
    },
  ])),

  async reads_from_end_offset_and_time() {
    const topic = await create(fresh("places"));
    await produce(topic, plain("0", "1", "2", "3"));
    equal(await admin.fetchTopicOffsets(topic), [{ partition: 0, offset: "4", high: "4", low: "0" }]);
    for (const [time, offset] of [[START, "0"], [START + 1001, "2"], [START + 3001, "4"]]) {
      equal(await admin.fetchTopicOffsetsByTimestamp(topic, time), [{ partition: 0, offset }]);
    }
    const reader = await member(topic, fresh("reader"));
    await until(() => reader.messages.length === 4, "all messages");
    reader.messages.length = 0;
    reader.consumer.seek({ topic, partition: 0, offset: "2" });
    await until(() => reader.messages.length === 2, "the last two");
    reader.messages.length = 0;
    await produce(topic, plain("4"));
    await until(() => reader.messages.length === 1, "the new one");
    equal(text(reader.messages[0].value), "4");
    await reader.consumer.disconnect();
  },

  async group_rebalances_when_a_member_joins_and_leaves() {
    const [topic, group] = [await create(fresh("shared"), 4), fresh("group")];
    const first = await member(topic, group);
    await until(() => first.owned.length === 4, "one owner of all");
    const second = await member(topic, group);
    await until(() => first.owned.length === 2 && second.owned.length === 2, "two halves");
    equal([...first.owned, ...second.owned].sort(), [0, 1, 2, 3]);
    await produce(topic, [0, 1, 2, 3].map((partition) => ({ partition, value: String(partition) })));
    await until(() => first.messages.length + second.messages.length === 4, "one message of each partition");
    await second.consumer.disconnect();
    await until(() => first.owned.length === 4, "one owner again");
    await first.consumer.disconnect();
  },

  async group_resumes_at_committed_offset_and_lag_is_the_rest() {
    const [topic, groupId] = [await create(fresh("resumed")), fresh("group")];
    await produce(topic, plain(..."0123456789"));
    const first = await member(topic, groupId);
    await until(() => first.messages.length === 10, "all messages");
    await first.consumer.commitOffsets([{ topic, partition: 0, offset: "4", metadata: "half way" }]);
    await first.consumer.disconnect();
    const [{ partitions: [committed] }] = await admin.fetchOffsets({ groupId, topics: [topic] });
    equal([committed.offset, committed.metadata], ["4", "half way"]);
    equal((await admin.fetchTopicOffsets(topic))[0].high - committed.offset, 6);
    const second = await member(topic, groupId);
    await until(() => second.messages.length === 6, "the rest");
    equal(second.messages.map((m) => m.offset), ["4", "5", "6", "7", "8", "9"]);
    await second.consumer.disconnect();
  },

  async admin_lists_describes_resets_and_deletes_groups() {
    const [topic, groupId] = [await create(fresh("administered"), 2), fresh("group")];
    const reader = await member(topic, groupId);
    await until(() => reader.owned.length === 2, "its partitions");
    equal((await admin.listGroups()).groups.some((g) => g.groupId === groupId), true);
    const { groups: [described] } = await admin.describeGroups([groupId]);
    equal([described.state, described.members.length], ["Stable", 1]);
    await refused("NON_EMPTY_GROUP", () => admin.deleteGroups([groupId]));
    await reader.consumer.disconnect();
    await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: "7" }] });
    const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [topic] });
    equal(partitions.find((p) => p.partition === 0).offset, "7");
    await admin.deleteGroups([groupId]);
    equal((await admin.listGroups()).groups.some((g) => g.groupId === groupId), false);
  },

  async admin_reads_and_alters_settings() {
    const topic = await create(fresh("settings"), 1, { "retention.ms": "3600000" });
    const resource = { type: ConfigResourceTypes.TOPIC, name: topic };
    const settings = async () => {
      const { resources } = await admin.describeConfigs({ resources: [resource] });
      return Object.fromEntries(resources[0].configEntries.map((entry) => [entry.configName, entry.configValue]));
    };
    const before = await settings();
    equal([before["retention.ms"], before["cleanup.policy"]], ["3600000", "delete"]);
    await admin.alterConfigs({ resources: [{ ...resource, configEntries: [{ name: "cleanup.policy", value: "compact" }] }] });
    await until(async () => (await settings())["cleanup.policy"] === "compact", "the new policy");
  },

  async admin_adds_partitions_deletes_records_and_topics() {
    const topic = await create(fresh("changed"));
    await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] });
    await until(async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length === 3, "three partitions");
    await produce(topic, plain("0", "1", "2"));
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: "2" }] });
    equal((await readAll(topic, 1)).map((m) => text(m.value)), ["2"]);
    await admin.deleteTopics({ topics: [topic] });
    await until(async () => !(await admin.listTopics()).includes(topic), "the topic's end");
  },

  async refuses_a_message_that_is_too_large() {
    const topic = await create(fresh("large"), 1, { "max.message.bytes": "2000" });
    await refused("MESSAGE_TOO_LARGE", () => produce(topic, plain("x".repeat(5000))));
  },

  async idempotent_producer_survives_a_broker_restart() {
    const topic = await create(fresh("idempotent"));
    const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, retry: { initialRetryTime: 100, maxRetryTime: 2000, retries: 100 } });
    await producer.connect();
    let [restarting, failure, count] = [true, null, 0];
    const send = () => producer.send({ topic, acks: -1, messages: [{ partition: 0, value: String(count++) }] });
    for (let n = 0; n < 100; n++) await send();
    restartBroker().catch((error) => (failure = error)).finally(() => (restarting = false));
    while (restarting) await send();
    if (failure) throw failure;
    for (let n = 0; n < 100; n++) await send();
    await producer.disconnect();
    equal((await readAll(topic, count)).map((m) => text(m.value)), Array.from({ length: count }, (_, n) => String(n)));
  },

  async transaction_is_seen_whole_or_not_at_all() {
    const topic = await create(fresh("transactions"), 2);
    const producer = await transactional(fresh("id"));
    const [committed, uncommitted] = [await member(topic, fresh("reader")), await member(topic, fresh("reader"), { readUncommitted: true })];
    let [sent, seen] = [0, 0];
    for (const commits of [true, false, true]) {
      const transaction = await producer.transaction();
      const messages = [0, 1].flatMap((partition) => [commits ? "commit" : "abort", "more"].map((value) => ({ partition, value })));
      await transaction.send({ topic, messages });
      await until(() => uncommitted.messages.length === sent + 4, "what is not committed yet");
      sent += 4;
      equal(committed.messages.length, seen);
      await (commits ? transaction.commit() : transaction.abort());
      if (commits) await until(() => committed.messages.length === seen + 4, "what is committed");
      seen = committed.messages.length;
    }
    await Promise.all([producer, committed.consumer, uncommitted.consumer].map((client) => client.disconnect()));
    for (const partition of [0, 1]) {
      equal(valuesOf(committed, partition), ["commit", "more", "commit", "more"]);
      equal(valuesOf(uncommitted, partition), ["commit", "more", "abort", "more", "commit", "more"]);
    }
  },

  async offsets_are_committed_with_the_records_that_were_made_of_them() {
    const [source, target, groupId] = [await create(fresh("in")), await create(fresh("out")), fresh("group")];
    await produce(source, plain(..."0123456789"));
    const producer = await transactional(fresh("id"));
    for (const [commits, from] of [[false, 0], [true, 0], [true, 5]]) {
      const transaction = await producer.transaction();
      const made = [0, 1, 2, 3, 4].map((n) => ({ partition: 0, value: String(11 * (from + n)) }));
      await transaction.send({ topic: target, messages: made });
      await transaction.sendOffsets({ consumerGroupId: groupId, topics: [{ topic: source, partitions: [{ partition: 0, offset: String(from + 5) }] }] });
      await (commits ? transaction.commit() : transaction.abort());
      const [{ partitions: [{ offset }] }] = await admin.fetchOffsets({ groupId, topics: [source] });
      equal(offset, commits ? String(from + 5) : "-1");
    }
    await producer.disconnect();
    equal((await readAll(target, 10)).map((m) => text(m.value)), Array.from({ length: 10 }, (_, n) => String(11 * n)));
  },

  async second_producer_fences_the_first() {
    const [topic, id] = [await create(fresh("fenced")), fresh("id")];
    const first = await transactional(id);
    const open = await first.transaction();
    await open.send({ topic, messages: [{ partition: 0, value: "of the first" }] });
    const second = await transactional(id);
    const next = await second.transaction();
    await next.send({ topic, messages: [{ partition: 0, value: "of the second" }] });
    await refused("INVALID_PRODUCER_EPOCH", () => open.commit());
    await next.commit();
    await Promise.all([first, second].map((producer) => producer.disconnect()));
    equal((await readAll(topic, 1)).map((m) => text(m.value)), ["of the second"]);
  },
};

say(`note kafkajs ${require("kafkajs/package.json").version} on Node.js ${process.version}`);
await admin.connect();
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    say(`pass ${name}`);
  } catch (error) {
    if (!(error instanceof Unable)) console.error(error);
    say(`${error instanceof Unable ? "unable" : "fail"} ${name}: ${String(error.message).replaceAll("\n", " ").slice(0, 400)}`);
  }
}
await admin.disconnect();
say("done");
process.exit(0);

// kafkajs for the suite `secure`, which tells what is asked.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { Kafka, logLevel } = createRequire(import.meta.url)("kafkajs");
const VALUES = [...Array(10).keys()].map((n) => `${n} größe`);
let held;

async function connect(address, ca, mechanism, username, password, topic, groupId) {
  const who = mechanism === "OAUTHBEARER" ? { oauthBearerProvider: async () => ({ value: password }) } : { username, password };
  const kafka = new Kafka({
    brokers: [address], ssl: { ca: [readFileSync(ca)] }, sasl: { mechanism: mechanism.toLowerCase(), ...who },
    logLevel: logLevel.NOTHING, retry: { initialRetryTime: 100, retries: 1 },
  });
  held = kafka.producer();
  await held.connect();
  await write(topic);
  const consumer = kafka.consumer({ groupId });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  const read = [];
  await new Promise((whole) => consumer.run({
    eachMessage: async ({ message }) => { if (read.push(String(message.value)) === VALUES.length) whole(); },
  }));
  await consumer.disconnect();
  if (String(read) !== String(VALUES)) throw new Error(`read ${read}`);
}

const write = (topic) => held.send({ topic, messages: VALUES.map((value) => ({ value })) });

for await (const line of createInterface({ input: process.stdin })) {
  const [verb, ...asked] = line.split("\t");
  try {
    if (verb === "new") await held?.disconnect();
    await (verb === "again" ? write(...asked) : connect(...asked));
    console.log("ok");
  } catch (error) {
    console.log("error", `${error.name} ${error.message} ${error.cause ?? ""}`.replace(/\s+/g, " "));
  }
}
process.exit();

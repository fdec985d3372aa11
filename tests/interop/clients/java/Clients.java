import java.io.*;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.function.*;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.common.utils.AppInfoParser;

/** kafka-clients, Kafka's own client for Java. The report on stdout is described in check.py. */
public class Clients {
    static String address;
    static Admin admin;
    static final BufferedReader answers = new BufferedReader(new InputStreamReader(System.in));
    static final long START = System.currentTimeMillis() - 3_600_000;

    interface Check { void run() throws Exception; }
    static class Unable extends RuntimeException {
        Unable(String why) { super(why); }
    }

    static byte[] bytes(String text) { return text == null ? null : text.getBytes(StandardCharsets.UTF_8); }
    static String fresh(String name) { return name + "-" + UUID.randomUUID().toString().substring(0, 8); }
    static <T> T get(KafkaFuture<T> future) throws Exception { return future.get(30, TimeUnit.SECONDS); }

    static void equal(Object got, Object expected) {
        if (!Objects.equals(got, expected)) throw new AssertionError("got " + got + ", expected " + expected);
    }

    static void until(String what, Callable<Boolean> holds) throws Exception {
        for (long end = System.currentTimeMillis() + 30_000; System.currentTimeMillis() < end; Thread.sleep(20)) if (holds.call()) return;
        throw new AssertionError("not within 30 s: " + what);
    }

    static void refused(Class<?> type, Check action) throws Exception {
        try {
            action.run();
        } catch (ExecutionException refusal) {
            equal(refusal.getCause().getClass(), type);
            return;
        }
        throw new AssertionError("no " + type);
    }

    static String create(String topic, int partitions, Map<String, String> configs) throws Exception {
        get(admin.createTopics(List.of(new NewTopic(topic, Optional.of(partitions), Optional.empty()).configs(configs))).all());
        until("the topic", () -> get(admin.listTopics().names()).contains(topic));
        return topic;
    }

    static Map<String, Object> conf(Object... more) {
        var conf = new HashMap<String, Object>(Map.of("bootstrap.servers", address));
        for (int n = 0; n < more.length; n += 2) conf.put((String) more[n], more[n + 1]);
        return conf;
    }

    static KafkaProducer<byte[], byte[]> producer(Object... more) {
        return new KafkaProducer<>(conf(more), new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(Object... more) {
        var conf = conf("auto.offset.reset", "earliest", "enable.auto.commit", false);
        // Of the newer protocol the broker says how long a session is, and how often a member is heard of.
        if (!List.of(more).contains("group.protocol")) conf.putAll(conf("session.timeout.ms", 6000, "heartbeat.interval.ms", 300));
        conf.putAll(conf(more));
        return new KafkaConsumer<>(conf, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** A share consumer of a group that begins with the first record. */
    static KafkaShareConsumer<byte[], byte[]> sharer(String group, String topic, Object... more) throws Exception {
        var resource = new ConfigResource(ConfigResource.Type.GROUP, group);
        var earliest = new ConfigEntry("share.auto.offset.reset", "earliest");
        get(admin.incrementalAlterConfigs(Map.of(resource, List.of(new AlterConfigOp(earliest, AlterConfigOp.OpType.SET)))).all());
        var conf = conf("group.id", group);
        conf.putAll(conf(more));
        var consumer = new KafkaShareConsumer<>(conf, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        consumer.subscribe(List.of(topic));
        return consumer;
    }

    /** The next records that a share consumer is handed, at least one. */
    static List<ConsumerRecord<byte[], byte[]>> next(KafkaShareConsumer<byte[], byte[]> consumer) throws Exception {
        var records = new ArrayList<ConsumerRecord<byte[], byte[]>>();
        until("records of the queue", () -> {
            consumer.poll(Duration.ofMillis(500)).forEach(records::add);
            return !records.isEmpty();
        });
        return records;
    }

    /** Null and empty, a tombstone, any bytes, line ends, repeated and null headers. */
    static List<ProducerRecord<byte[], byte[]>> records(String topic) {
        byte[] every = new byte[256];
        for (int n = 0; n < 256; n++) every[n] = (byte) n;
        byte[][][] pairs = {{bytes("user-1"), bytes("hello")}, {null, bytes("no key")}, {{}, {}}, {bytes("gone"), null},
            {every, bytes("two\nlines\r\n\0\ttab \\ offset:7")}, {bytes("schlüssel"), bytes("wert 😀".repeat(200))}};
        var out = new ArrayList<ProducerRecord<byte[], byte[]>>();
        for (int n = 0; n < pairs.length; n++) out.add(new ProducerRecord<>(topic, 0, START + 1000 * n, pairs[n][0], pairs[n][1]));
        out.get(0).headers().add("trace", bytes("1"));
        out.get(2).headers().add("empty", new byte[0]).add("null", null);
        out.get(4).headers().add("b", new byte[] {-1, 0}).add("a", bytes("1")).add("a", bytes("2"));
        out.get(5).headers().add("größe", bytes("ü"));
        return out;
    }

    static List<ProducerRecord<byte[], byte[]>> plain(String topic, int partition, String... values) {
        return IntStream.range(0, values.length)
            .mapToObj(n -> new ProducerRecord<byte[], byte[]>(topic, partition, START + 1000 * n, null, bytes(values[n]))).toList();
    }

    static void produce(List<ProducerRecord<byte[], byte[]>> records, Object... more) throws Exception {
        try (var producer = producer(more)) {
            var sent = records.stream().map(producer::send).toList();
            producer.flush();
            for (var future : sent) future.get();
        }
    }

    static List<ConsumerRecord<byte[], byte[]>> take(KafkaConsumer<byte[], byte[]> consumer, int count) throws Exception {
        var out = new ArrayList<ConsumerRecord<byte[], byte[]>>();
        until(count + " messages", () -> {
            consumer.poll(Duration.ofMillis(200)).forEach(out::add);
            return out.size() >= count;
        });
        return out;
    }

    static List<ConsumerRecord<byte[], byte[]>> readAll(String topic, int count) throws Exception {
        try (var consumer = consumer()) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            return take(consumer, count);
        }
    }

    static List<String> values(List<ConsumerRecord<byte[], byte[]>> records) {
        return records.stream().map(r -> new String(r.value(), StandardCharsets.UTF_8)).toList();
    }

    static String shown(byte[] key, byte[] value, Iterable<Header> headers, Long timestamp) {
        var all = new StringBuilder(Arrays.toString(key) + Arrays.toString(value) + timestamp);
        headers.forEach(header -> all.append(header.key()).append(Arrays.toString(header.value())));
        return all.toString();
    }

    static void keepsRecords(String codec) throws Exception {
        String topic = create(fresh("codec-" + codec), 1, Map.of());
        var sent = IntStream.range(0, 50).boxed().flatMap(n -> records(topic).stream()).toList();
        produce(sent, "compression.type", codec, "linger.ms", 50);
        equal(readAll(topic, sent.size()).stream().map(r -> shown(r.key(), r.value(), r.headers(), r.timestamp())).toList(),
            sent.stream().map(r -> shown(r.key(), r.value(), r.headers(), r.timestamp())).toList());
    }

    /** A member of a group, polling on a thread of its own. */
    static class Member implements ConsumerRebalanceListener {
        final Set<Integer> owned = ConcurrentHashMap.newKeySet();
        final Queue<String> values = new ConcurrentLinkedQueue<>();
        volatile boolean leaving;
        final Thread thread;

        Member(String topic, String group, Object... more) {
            thread = new Thread(() -> {
                var all = Stream.concat(Stream.of("group.id", group), Stream.of(more)).toArray();
                try (var consumer = consumer(all)) {
                    consumer.subscribe(List.of(topic), this);
                    while (!leaving) consumer.poll(Duration.ofMillis(100)).forEach(r -> values.add(new String(r.value())));
                }
            });
            thread.setDaemon(true);
            thread.start();
        }

        public void onPartitionsRevoked(Collection<TopicPartition> less) { less.forEach(p -> owned.remove(p.partition())); }
        public void onPartitionsAssigned(Collection<TopicPartition> more) { more.forEach(p -> owned.add(p.partition())); }
        void leave() throws Exception { leaving = true; thread.join(30_000); }
    }

    /** One of the classic protocol goes over to the newer one, and back. */
    static void changesProtocols() throws Exception {
        String topic = create(fresh("shared"), 4, Map.of()), group = fresh("group");
        var classic = new Member(topic, group);
        until("one owner of all", () -> classic.owned.size() == 4);
        var newer = new Member(topic, group, "group.protocol", "consumer");
        until("two halves", () -> classic.owned.size() == 2 && newer.owned.size() == 2 && Collections.disjoint(classic.owned, newer.owned));
        newer.leave();
        until("the classic one has all again", () -> classic.owned.size() == 4);
        classic.leave();
    }

    static void rebalances(Object... more) throws Exception {
        String topic = create(fresh("shared"), 4, Map.of()), group = fresh("group");
        var first = new Member(topic, group, more);
        until("one owner of all", () -> first.owned.size() == 4);
        var second = new Member(topic, group, more);
        until("two halves", () -> first.owned.size() == 2 && second.owned.size() == 2 && Collections.disjoint(first.owned, second.owned));
        for (int partition = 0; partition < 4; partition++) produce(plain(topic, partition, "" + partition));
        until("one message of each partition", () -> first.values.size() + second.values.size() == 4);
        second.leave();
        until("one owner again", () -> first.owned.size() == 4);
        first.leave();
    }

    /** A transactional producer that has fenced whoever had its id. */
    static KafkaProducer<byte[], byte[]> transactional(String id, Object... more) {
        var producer = producer(Stream.concat(Stream.of("transactional.id", id, "linger.ms", 0), Stream.of(more)).toArray());
        producer.initTransactions();
        return producer;
    }

    /** Sends these values, and waits until the broker has them. */
    static void send(KafkaProducer<byte[], byte[]> producer, String topic, int partition, String... values) throws Exception {
        for (var record : plain(topic, partition, values)) producer.send(record).get(30, TimeUnit.SECONDS);
    }

    /** What a reader at this isolation level finds in a partition from its beginning to its end. */
    static List<String> read(String isolation, String topic, int partition) throws Exception {
        try (var consumer = consumer("isolation.level", isolation)) {
            var one = new TopicPartition(topic, partition);
            consumer.assign(List.of(one));
            long end = consumer.endOffsets(List.of(one)).get(one);
            var out = new ArrayList<ConsumerRecord<byte[], byte[]>>();
            until("the end", () -> {
                consumer.poll(Duration.ofMillis(100)).forEach(out::add);
                return consumer.position(one) >= end;
            });
            return values(out);
        }
    }

    static List<String> committed(String topic, int partition) throws Exception { return read("read_committed", topic, partition); }
    static List<String> uncommitted(String topic, int partition) throws Exception { return read("read_uncommitted", topic, partition); }

    static void fenced(Check action) throws Exception {
        try {
            action.run();
        } catch (ProducerFencedException | InvalidProducerEpochException fenced) {
            return;
        } catch (ExecutionException | KafkaException refusal) {
            for (Throwable cause = refusal; cause != null; cause = cause.getCause())
                if (cause instanceof ProducerFencedException || cause instanceof InvalidProducerEpochException) return;
            throw refusal;
        }
        throw new AssertionError("it was not fenced");
    }

    static void restartBroker() {
        System.out.println("restart");
        try {
            if ("restarted".equals(answers.readLine())) return;
        } catch (IOException gone) {
            throw new UncheckedIOException(gone);
        }
        throw new Unable("this broker cannot be restarted from here");
    }

    static final Map<String, Check> checks = new LinkedHashMap<>();

    static {
        checks.put("creates_lists_and_describes_topics", () -> {
            String topic = create(fresh("made"), 3, Map.of());
            var described = get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic);
            equal(described.partitions().stream().map(p -> List.of(p.partition(), p.leader().id(), p.replicas().size(), p.isr().size())).toList(),
                List.of(List.of(0, 1, 1, 1), List.of(1, 1, 1, 1), List.of(2, 1, 1, 1)));
            equal(get(admin.describeTopics(TopicCollection.ofTopicIds(List.of(described.topicId()))).allTopicIds()).get(described.topicId()).name(), topic);
            refused(TopicExistsException.class, () -> create(topic, 1, Map.of()));
            refused(InvalidTopicException.class, () -> create("no/name", 1, Map.of()));
            var cluster = admin.describeCluster();
            equal(get(cluster.nodes()).stream().map(node -> node.id() + " " + node.host() + ":" + node.port()).toList(), List.of("1 " + address));
            equal(get(cluster.clusterId()).isEmpty(), false);
        });
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            checks.put("keeps_keys_headers_and_timestamps[" + codec + "]", () -> keepsRecords(codec));
        }
        checks.put("reads_from_beginning_end_and_time", () -> {
            String topic = create(fresh("places"), 1, Map.of());
            var partition = new TopicPartition(topic, 0);
            produce(plain(topic, 0, "0", "1", "2", "3"));
            try (var consumer = consumer()) {
                consumer.assign(List.of(partition));
                equal(consumer.beginningOffsets(List.of(partition)), Map.of(partition, 0L));
                equal(consumer.endOffsets(List.of(partition)), Map.of(partition, 4L));
                equal(consumer.offsetsForTimes(Map.of(partition, START + 3001)).get(partition), null);
                consumer.seek(partition, consumer.offsetsForTimes(Map.of(partition, START + 1001)).get(partition).offset());
                equal(values(take(consumer, 2)), List.of("2", "3"));
                consumer.seekToEnd(List.of(partition));
                equal(consumer.position(partition), 4L);
                produce(plain(topic, 0, "4"));
                equal(values(take(consumer, 1)), List.of("4"));
            }
            equal(get(admin.listOffsets(Map.of(partition, OffsetSpec.maxTimestamp())).all()).get(partition).offset(), 3L);
        });
        checks.put("group_rebalances_when_a_member_joins_and_leaves", () -> rebalances("partition.assignment.strategy", RangeAssignor.class.getName()));
        checks.put("group_rebalances_cooperatively", () -> rebalances("partition.assignment.strategy", CooperativeStickyAssignor.class.getName()));
        checks.put("group_of_the_newer_protocol_rebalances", () -> rebalances("group.protocol", "consumer"));
        checks.put("group_changes_its_protocol_while_members_are_there", () -> changesProtocols());
        checks.put("group_resumes_at_committed_offset_and_lag_is_the_rest", () -> {
            String topic = create(fresh("resumed"), 1, Map.of()), group = fresh("group");
            var partition = new TopicPartition(topic, 0);
            produce(plain(topic, 0, "0123456789".split("")));
            try (var consumer = consumer("group.id", group)) {
                consumer.subscribe(List.of(topic));
                take(consumer, 10);
                consumer.commitSync(Map.of(partition, new OffsetAndMetadata(4, "half way")));
                equal(consumer.currentLag(partition).getAsLong(), 0L);
            }
            var committed = get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).get(partition);
            equal(List.of(committed.offset(), committed.metadata()), List.of(4L, "half way"));
            equal(get(admin.listOffsets(Map.of(partition, OffsetSpec.latest())).all()).get(partition).offset() - committed.offset(), 6L);
            try (var consumer = consumer("group.id", group)) {
                consumer.subscribe(List.of(topic));
                equal(values(take(consumer, 6)), List.of("4", "5", "6", "7", "8", "9"));
            }
        });
        checks.put("static_member_comes_back_without_a_rebalance", () -> {
            String topic = create(fresh("static"), 2, Map.of()), group = fresh("group");
            var first = new Member(topic, group, "group.instance.id", "a");
            var second = new Member(topic, group, "group.instance.id", "b");
            until("two halves", () -> first.owned.size() == 1 && second.owned.size() == 1 && Collections.disjoint(first.owned, second.owned));
            var before = Set.copyOf(second.owned);
            second.leave();
            var again = new Member(topic, group, "group.instance.id", "b");
            until("its old share", () -> again.owned.equals(before));
            equal(first.owned.size(), 1);
            first.leave();
            again.leave();
        });
        checks.put("admin_lists_describes_resets_and_deletes_groups", () -> {
            String topic = create(fresh("administered"), 2, Map.of()), group = fresh("group");
            var member = new Member(topic, group);
            until("its partitions", () -> member.owned.size() == 2);
            equal(get(admin.listGroups().all()).stream().anyMatch(g -> g.groupId().equals(group)), true);
            var described = get(admin.describeClassicGroups(List.of(group)).all()).get(group);
            equal(List.of(described.state().toString(), described.members().size(), described.coordinator().id()), List.of("Stable", 1, 1));
            refused(GroupNotEmptyException.class, () -> get(admin.deleteConsumerGroups(List.of(group)).all()));
            member.leave();
            var partition = new TopicPartition(topic, 0);
            get(admin.alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(7))).all());
            equal(get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).get(partition).offset(), 7L);
            get(admin.deleteConsumerGroupOffsets(group, Set.of(partition)).all());
            equal(get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).get(partition), null);
            get(admin.deleteConsumerGroups(List.of(group)).all());
            equal(get(admin.listGroups().all()).stream().anyMatch(g -> g.groupId().equals(group)), false);
        });
        checks.put("admin_reads_and_alters_settings", () -> {
            String topic = create(fresh("settings"), 1, Map.of("retention.ms", "3600000"));
            var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            Function<String, String> setting = name -> {
                try {
                    return get(admin.describeConfigs(List.of(resource)).all()).get(resource).get(name).value();
                } catch (Exception failure) {
                    throw new RuntimeException(failure);
                }
            };
            equal(List.of(setting.apply("retention.ms"), setting.apply("cleanup.policy")), List.of("3600000", "delete"));
            get(admin.incrementalAlterConfigs(Map.of(resource, List.of(
                new AlterConfigOp(new ConfigEntry("cleanup.policy", "compact"), AlterConfigOp.OpType.APPEND),
                new AlterConfigOp(new ConfigEntry("retention.ms", ""), AlterConfigOp.OpType.DELETE)))).all());
            until("the new policy", () -> setting.apply("cleanup.policy").equals("delete,compact"));
            equal(setting.apply("retention.ms"), "604800000");
            refused(InvalidConfigurationException.class, () -> get(admin.incrementalAlterConfigs(Map.of(resource, List.of(
                new AlterConfigOp(new ConfigEntry("retention.ms", "soon"), AlterConfigOp.OpType.SET)))).all()));
        });
        checks.put("admin_adds_partitions_deletes_records_and_topics", () -> {
            String topic = create(fresh("changed"), 1, Map.of());
            var partition = new TopicPartition(topic, 0);
            get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all());
            until("three partitions", () -> get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions().size() == 3);
            produce(plain(topic, 0, "0", "1", "2"));
            equal(get(admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(2))).lowWatermarks().get(partition)).lowWatermark(), 2L);
            equal(values(readAll(topic, 1)), List.of("2"));
            equal(get(admin.describeLogDirs(List.of(1)).allDescriptions()).get(1).values().stream().anyMatch(d -> d.replicaInfos().containsKey(partition)), true);
            get(admin.deleteTopics(List.of(topic)).all());
            until("the topic's end", () -> !get(admin.listTopics().names()).contains(topic));
        });
        checks.put("refuses_a_message_that_is_too_large", () -> {
            String topic = create(fresh("large"), 1, Map.of("max.message.bytes", "2000"));
            refused(RecordTooLargeException.class, () -> produce(plain(topic, 0, "x".repeat(5000))));
        });
        checks.put("refuses_a_record_without_key_on_a_compacted_topic", () -> {
            String topic = create(fresh("compacted"), 1, Map.of("cleanup.policy", "compact"));
            refused(InvalidRecordException.class, () -> produce(plain(topic, 0, "no key")));
        });
        checks.put("idempotent_producer_survives_a_broker_restart", () -> {
            String topic = create(fresh("idempotent"), 1, Map.of());
            var sent = new ArrayList<Future<RecordMetadata>>();
            try (var producer = producer("linger.ms", 1)) {
                Runnable send = () -> sent.add(producer.send(plain(topic, 0, "" + sent.size()).get(0)));
                for (int n = 0; n < 500; n++) send.run();
                var restart = CompletableFuture.runAsync(Clients::restartBroker);
                for (; !restart.isDone(); Thread.sleep(1)) send.run();
                try {
                    restart.join();
                } catch (CompletionException failure) {
                    throw (RuntimeException) failure.getCause();
                }
                for (int n = 0; n < 500; n++) send.run();
                for (int n = 0; n < sent.size(); n++) equal(sent.get(n).get(90, TimeUnit.SECONDS).offset(), (long) n);
            }
            equal(values(readAll(topic, sent.size())), IntStream.range(0, sent.size()).mapToObj(n -> "" + n).toList());
        });
        checks.put("transaction_is_seen_whole_or_not_at_all", () -> {
            String topic = create(fresh("transactions"), 2, Map.of());
            try (var producer = transactional(fresh("id"))) {
                var seen = new ArrayList<String>();
                for (String outcome : List.of("commit", "abort", "commit")) {
                    producer.beginTransaction();
                    for (int partition = 0; partition < 2; partition++) send(producer, topic, partition, outcome, "more");
                    equal(uncommitted(topic, 1).containsAll(List.of(outcome, "more")), true);
                    equal(List.of(committed(topic, 0), committed(topic, 1)), List.of(seen, seen));
                    if (outcome.equals("commit")) producer.commitTransaction();
                    else producer.abortTransaction();
                    if (outcome.equals("commit")) seen.addAll(List.of(outcome, "more"));
                    // Kafka writes its markers after it has answered.
                    until("the end of the transaction", () -> List.of(committed(topic, 0), committed(topic, 1)).equals(List.of(seen, seen)));
                }
            }
            for (int partition = 0; partition < 2; partition++) {
                equal(committed(topic, partition), List.of("commit", "more", "commit", "more"));
                equal(uncommitted(topic, partition), List.of("commit", "more", "abort", "more", "commit", "more"));
            }
        });
        checks.put("offsets_are_committed_with_the_records_that_were_made_of_them", () -> {
            String in = create(fresh("in"), 1, Map.of()), out = create(fresh("out"), 1, Map.of()), group = fresh("group"), id = fresh("id");
            produce(plain(in, 0, "0123456789".split("")));
            // Each try begins where the last one that was committed ended.
            for (boolean commits : new boolean[] {false, true, true}) {
                try (var consumer = consumer("group.id", group, "isolation.level", "read_committed", "max.poll.records", 5); var producer = transactional(id)) {
                    consumer.subscribe(List.of(in));
                    var taken = take(consumer, 5);
                    producer.beginTransaction();
                    send(producer, out, 0, values(taken).stream().map(value -> value + value).toArray(String[]::new));
                    var next = new OffsetAndMetadata(taken.get(taken.size() - 1).offset() + 1);
                    producer.sendOffsetsToTransaction(Map.of(new TopicPartition(in, 0), next), consumer.groupMetadata());
                    if (commits) producer.commitTransaction();
                    else producer.abortTransaction();
                }
            }
            equal(committed(out, 0), List.of("00", "11", "22", "33", "44", "55", "66", "77", "88", "99"));
            equal(get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).get(new TopicPartition(in, 0)).offset(), 10L);
        });
        checks.put("share_consumers_share_a_queue", () -> {
            String topic = create(fresh("queue"), 2, Map.of()), group = fresh("workers");
            var expected = new TreeSet<String>();
            try (var one = sharer(group, topic); var other = sharer(group, topic)) {
                var got = new ArrayList<String>();
                for (int n = 0; n < 200; n++) {
                    expected.add("" + n);
                    produce(plain(topic, n % 2, "" + n));
                    if (n % 20 == 0) for (var consumer : List.of(one, other)) consumer.poll(Duration.ofMillis(20)).forEach(record -> got.add(new String(record.value())));
                }
                until("all records", () -> {
                    for (var consumer : List.of(one, other)) consumer.poll(Duration.ofMillis(200)).forEach(record -> got.add(new String(record.value())));
                    return got.size() >= 200;
                });
                equal(got.size(), 200);
                equal(new TreeSet<>(got), expected);
                var described = get(admin.describeShareGroups(List.of(group)).describedGroups().get(group));
                equal(List.of(described.groupState(), described.members().size()), List.of(GroupState.STABLE, 2));
                equal(get(admin.listGroups(ListGroupsOptions.forShareGroups()).all()).stream().anyMatch(listed -> listed.groupId().equals(group)), true);
            }
        });
        checks.put("what_a_share_consumer_does_not_accept_comes_again", () -> {
            String topic = create(fresh("queue"), 1, Map.of()), group = fresh("workers");
            produce(plain(topic, 0, "accepted", "released", "rejected", "held"));
            try (var consumer = sharer(group, topic, "share.acknowledgement.mode", "explicit")) {
                var records = next(consumer);
                equal(values(records), List.of("accepted", "released", "rejected", "held"));
                equal(records.get(0).deliveryCount(), Optional.of((short) 1));
                var types = List.of(AcknowledgeType.ACCEPT, AcknowledgeType.RELEASE, AcknowledgeType.REJECT, AcknowledgeType.RENEW);
                for (int n = 0; n < 4; n++) consumer.acknowledge(records.get(n), types.get(n));
                consumer.commitSync().values().forEach(failure -> equal(failure, Optional.empty()));
                // What is renewed is handed out again by the consumer itself, and counts no more.
                var again = new ArrayList<ConsumerRecord<byte[], byte[]>>();
                until("both", () -> {
                    for (var record : next(consumer)) {
                        again.add(record);
                        consumer.acknowledge(record, AcknowledgeType.ACCEPT);
                    }
                    consumer.commitSync().values().forEach(failure -> equal(failure, Optional.empty()));
                    return again.size() == 2;
                });
                equal(again.stream().map(record -> new String(record.value()) + record.deliveryCount().get()).sorted().toList(), List.of("held1", "released2"));
            }
            var offset = new TopicPartition(topic, 0);
            var all = Map.of(group, new ListShareGroupOffsetsSpec());
            var told = get(admin.listShareGroupOffsets(all).partitionsToOffsetInfo(group)).get(offset);
            equal(told.lag(), Optional.of(0L));
            until("an empty group", () -> get(admin.describeShareGroups(List.of(group)).describedGroups().get(group)).members().isEmpty());
            get(admin.alterShareGroupOffsets(group, Map.of(offset, 1L)).all());
            equal(get(admin.listShareGroupOffsets(all).partitionsToOffsetInfo(group)).get(offset).startOffset(), 1L);
            try (var consumer = sharer(group, topic)) {
                equal(values(next(consumer)), List.of("released", "rejected", "held"));
            }
            until("an empty group", () -> get(admin.describeShareGroups(List.of(group)).describedGroups().get(group)).members().isEmpty());
            get(admin.deleteShareGroupOffsets(group, Set.of(topic)).all());
            get(admin.deleteShareGroups(List.of(group)).all());
        });
        checks.put("a_share_consumer_goes_on_after_a_broker_restart", () -> {
            String topic = create(fresh("queue"), 1, Map.of()), group = fresh("workers");
            produce(plain(topic, 0, "0", "1", "2", "3"));
            try (var consumer = sharer(group, topic)) {
                equal(values(next(consumer)), List.of("0", "1", "2", "3"));
                consumer.commitSync().values().forEach(failure -> equal(failure, Optional.empty()));
                restartBroker();
                produce(plain(topic, 0, "4", "5"));
                var got = new ArrayList<String>();
                until("what is new", () -> {
                    got.addAll(values(next(consumer)));
                    return got.size() >= 2;
                });
                equal(got, List.of("4", "5"));
            }
        });
        checks.put("second_producer_fences_the_first", () -> {
            String topic = create(fresh("fenced"), 1, Map.of()), id = fresh("id");
            try (var first = transactional(id)) {
                first.beginTransaction();
                send(first, topic, 0, "of the first");
                try (var second = transactional(id)) {
                    equal(committed(topic, 0), List.of());
                    second.beginTransaction();
                    send(second, topic, 0, "of the second");
                    fenced(() -> send(first, topic, 0, "too late"));
                    fenced(first::commitTransaction);
                    second.commitTransaction();
                }
            }
            equal(committed(topic, 0), List.of("of the second"));
        });
        checks.put("admin_lists_describes_and_aborts_transactions", () -> {
            String topic = create(fresh("administered"), 1, Map.of()), id = fresh("id");
            var partition = new TopicPartition(topic, 0);
            try (var producer = transactional(id)) {
                producer.beginTransaction();
                send(producer, topic, 0, "hangs");
                equal(get(admin.listTransactions(new ListTransactionsOptions().filterStates(Set.of(TransactionState.ONGOING))).all()).stream()
                    .anyMatch(one -> one.transactionalId().equals(id)), true);
                var described = get(admin.describeTransactions(List.of(id)).description(id));
                equal(List.of(described.state(), described.topicPartitions()), List.of(TransactionState.ONGOING, Set.of(partition)));
                var active = get(admin.describeProducers(List.of(partition)).partitionResult(partition)).activeProducers().get(0);
                equal(List.of(active.producerId(), active.currentTransactionStartOffset().getAsLong()), List.of(described.producerId(), 0L));
                get(admin.abortTransaction(new AbortTransactionSpec(partition, active.producerId(), (short) active.producerEpoch(),
                    active.coordinatorEpoch().orElse(0))).all());
                equal(get(admin.listOffsets(Map.of(partition, OffsetSpec.latest()), new ListOffsetsOptions(IsolationLevel.READ_COMMITTED)).all())
                    .get(partition).offset(), 2L);
                equal(committed(topic, 0), List.of());
                get(admin.fenceProducers(List.of(id)).all());
                fenced(producer::commitTransaction);
            }
        });
        checks.put("transactions_survive_a_broker_restart", () -> {
            String topic = create(fresh("restarted"), 2, Map.of());
            int count = 0;
            try (var producer = transactional(fresh("id"))) {
                var restart = CompletableFuture.runAsync(() -> {
                    try {
                        Thread.sleep(500);
                    } catch (InterruptedException stopped) {
                        throw new CompletionException(stopped);
                    }
                    restartBroker();
                });
                for (int left = 100; left > 0; count++) {
                    producer.beginTransaction();
                    for (int p = 0; p < 2; p++) producer.send(plain(topic, p, "" + count).get(0));
                    if (count % 3 == 2) producer.abortTransaction();
                    else producer.commitTransaction();
                    if (restart.isDone()) left--;
                }
                try {
                    restart.join();
                } catch (CompletionException failure) {
                    throw (RuntimeException) failure.getCause();
                }
            }
            var expected = IntStream.range(0, count).filter(n -> n % 3 != 2).mapToObj(n -> "" + n).toList();
            for (int p = 0; p < 2; p++) equal(committed(topic, p), expected);
        });
    }

    public static void main(String[] arguments) {
        address = arguments[0];
        System.out.println("note kafka-clients " + AppInfoParser.getVersion() + " on Java " + System.getProperty("java.version"));
        admin = Admin.create(conf());
        checks.forEach((name, check) -> {
            try {
                check.run();
                System.out.println("pass " + name);
            } catch (Unable why) {
                System.out.println("unable " + name + ": " + why.getMessage());
            } catch (Throwable failure) {
                failure.printStackTrace();
                String why = failure.toString().replace('\n', ' ');
                System.out.println("fail " + name + ": " + why.substring(0, Math.min(400, why.length())));
            }
        });
        System.out.println("done");
        System.exit(0);
    }
}

import java.io.*;
import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.common.utils.AppInfoParser;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler;
import org.apache.kafka.streams.kstream.*;
import org.apache.kafka.streams.state.BuiltInDslStoreSuppliers;

/**
 * Kafka Streams beside plainlog's own stream processing: the same topologies (ours are in clients/streams.rs) on the same inputs, records
 * of a few keys out of order and sometimes late. Each case is a pair of topics, which must hold the same records: key, value and timestamp, for
 * each key in order. Where records come together from several partitions in no certain order, the last of each key is compared.
 */
public class SameStreams {
    static final int COUNT = 2000;
    static final List<String> STREAMS = List.of("events", "left", "right"), TABLES = List.of("people", "homes", "places");
    static final List<String> INPUTS = List.of("lines", "events", "left", "right", "people", "homes");
    /** Cases whose records come over a topic between, which is written by several tasks if there are several partitions. */
    static final Set<String> REGROUPED = Set.of("word-count", "table-count", "table-sum", "table-reduce");
    /** The same where lateness, too, depends on that order. */
    static final Set<String> UNSTABLE = Set.of("regrouped-tumbling", "regrouped-sessions");
    /** What goes to and fro between topics, in an order of its own, so that only the last value of each key is certain. */
    static final Set<String> FOREIGN = Set.of("foreign", "foreign-left");
    /** Where Kafka Streams deletes keys that are not there, unless something else needs the old values. */
    static final Set<String> DELETES_NOTHING = Set.of("table-filter");
    static String address;
    /** Our side: it runs the same topologies. */
    static String program;

    record Row(String value, long timestamp) {
        public String toString() { return value + " @" + timestamp; }
    }

    static void until(String what, Callable<Boolean> holds) throws Exception {
        for (long end = System.currentTimeMillis() + 60_000; System.currentTimeMillis() < end; Thread.sleep(50)) if (holds.call()) return;
        throw new AssertionError("not within 60 s: " + what);
    }

    static String joined(String left, String right) { return left + "+" + right; }

    static String chain(String soFar, String next) { return soFar + next + "."; }

    static long number(String text) { return Long.parseLong(text); }

    static class Cases {
        final String prefix;
        final StreamsBuilder builder;
        final List<String> names = new ArrayList<>();

        Cases(String prefix, StreamsBuilder builder) {
            this.prefix = prefix;
            this.builder = builder;
        }

        <V> void to(String name, KStream<String, V> results) {
            names.add(name);
            results.mapValues(value -> value == null ? null : value.toString()).to(prefix + "-" + name + "-java");
        }

        <V> void to(String name, KTable<String, V> results) { to(name, results.toStream()); }

        <V> void windows(String name, KTable<Windowed<String>, V> results) {
            to(name, results.toStream((key, value) -> key.key() + "@" + key.window().start()));
        }

        <V> void sessions(String name, KTable<Windowed<String>, V> results) {
            to(name, results.toStream((key, value) -> key.key() + "@" + key.window().start() + "-" + key.window().end()));
        }

        void define() {
            var words = builder.<String, String>stream(prefix + "-lines").flatMapValues(line -> List.of(line.split(" ")));
            to("word-count", words.groupBy((key, word) -> word).count());

            KStream<String, String> events = builder.stream(prefix + "-events"), valued = events.flatMapValues(value -> value == null ? List.of() : List.of(value));
            var all = events.groupByKey();
            var byKey = valued.groupByKey();
            to("count", byKey.count());
            to("reduce", byKey.reduce(SameStreams::chain));
            to("aggregate", byKey.aggregate(() -> "<", (key, value, soFar) -> chain(soFar, value)));

            var tumbling = TimeWindows.ofSizeAndGrace(Duration.ofSeconds(10), Duration.ofSeconds(3));
            var counts = all.windowedBy(tumbling).count(Materialized.with(Serdes.String(), Serdes.Long()));
            windows("tumbling", counts);
            windows("tumbling-closed", counts.suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded())));
            windows("tumbling-text", byKey.windowedBy(tumbling).aggregate(() -> "", (key, value, soFar) -> chain(soFar, value)));
            windows("hopping", byKey.windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofSeconds(10), Duration.ofSeconds(2)).advanceBy(Duration.ofSeconds(4))).reduce(SameStreams::chain));
            var sliding = SlidingWindows.ofTimeDifferenceAndGrace(Duration.ofSeconds(5), Duration.ofSeconds(3));
            windows("sliding", all.windowedBy(sliding).count());
            windows("sliding-text", byKey.windowedBy(sliding).reduce(SameStreams::chain));
            var sessions = SessionWindows.ofInactivityGapAndGrace(Duration.ofSeconds(2), Duration.ofSeconds(5));
            counts = all.windowedBy(sessions).count(Materialized.with(Serdes.String(), Serdes.Long()));
            sessions("sessions", counts);
            sessions("sessions-closed", counts.suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded())));
            sessions("sessions-text", byKey.windowedBy(sessions).aggregate(() -> "", (key, value, soFar) -> chain(soFar, value), (key, a, b) -> "(" + a + "|" + b + ")"));
            sessions("sessions-reduce", byKey.windowedBy(sessions).reduce(SameStreams::chain));
            var parity = valued.groupBy((key, value) -> value.length() % 2 == 0 ? "even" : "odd");
            windows("regrouped-tumbling", parity.windowedBy(tumbling).count());
            sessions("regrouped-sessions", parity.windowedBy(sessions).count());

            KTable<String, String> people = builder.table(prefix + "-people"), homes = builder.table(prefix + "-homes");
            to("table", people);
            to("table-filter", people.filter((key, value) -> value.length() > 1));
            to("table-map", people.mapValues((key, value) -> key + ":" + value));
            var regrouped = people.groupBy((key, value) -> KeyValue.pair(value.substring(0, 1), value));
            to("table-count", regrouped.count());
            to("table-sum", regrouped.<Long>aggregate(() -> 0L, (key, value, sum) -> sum + number(value), (key, value, sum) -> sum - number(value),
                Materialized.with(Serdes.String(), Serdes.Long())));
            to("table-reduce", regrouped.reduce((a, b) -> "" + (number(a) + number(b)), (a, b) -> "" + (number(a) - number(b))));

            KStream<String, String> left = builder.stream(prefix + "-left"), right = builder.stream(prefix + "-right");
            var near = JoinWindows.ofTimeDifferenceAndGrace(Duration.ofSeconds(2), Duration.ofSeconds(1));
            to("stream-inner", left.join(right, SameStreams::joined, near));
            to("stream-left", left.leftJoin(right, SameStreams::joined, near));
            to("stream-outer", left.outerJoin(right, SameStreams::joined, near));
            var after = JoinWindows.ofTimeDifferenceAndGrace(Duration.ZERO, Duration.ofSeconds(1)).after(Duration.ofSeconds(3));
            to("stream-after", left.outerJoin(right, SameStreams::joined, after));
            to("stream-table", left.join(people, SameStreams::joined));
            to("stream-table-left", left.leftJoin(people, SameStreams::joined));

            to("tables-inner", people.join(homes, SameStreams::joined));
            to("tables-left", people.leftJoin(homes, SameStreams::joined));
            to("tables-outer", people.outerJoin(homes, SameStreams::joined));
            java.util.function.Function<String, String> home = value -> value == null || number(value) % 6 == 5 ? null : "" + "abcde".charAt((int) number(value) % 6);
            GlobalKTable<String, String> places = builder.globalTable(prefix + "-places");
            to("global", left.join(places, (key, value) -> home.apply(value), SameStreams::joined));
            to("global-left", left.leftJoin(places, (key, value) -> home.apply(value), SameStreams::joined));
            to("foreign", people.join(homes, home, SameStreams::joined));
            to("foreign-left", people.leftJoin(homes, home, SameStreams::joined));
        }
    }

    /** Some minutes of records from `begin` on; the timestamps of each input are its own. */
    static void write(Producer<String, String> producer, String prefix, long begin, long seed) {
        var inputs = Stream.concat(INPUTS.stream(), Stream.of("places")).toList();
        for (int input = 0; input < inputs.size(); input++) {
            String name = inputs.get(input);
            var random = new Random(seed * 100 + input);
            long now = begin;
            for (int n = 0; n < COUNT; n++) {
                now += random.nextInt(160);
                int late = random.nextInt(20);
                long time = late < 12 ? now : late < 19 ? now - random.nextInt(3000) : now - random.nextInt(30_000);
                time = Math.max(time, begin) / 8 * 8 + input;
                String key = random.nextInt(50) == 0 && STREAMS.contains(name) ? null : "" + "abcde".charAt(random.nextInt(5));
                String value = "" + random.nextInt(100);
                if (random.nextInt(TABLES.contains(name) ? 6 : 50) == 0) value = null;
                if (name.equals("lines")) value = IntStream.range(0, 1 + random.nextInt(3)).mapToObj(word -> "word-" + random.nextInt(10)).collect(Collectors.joining(" "));
                producer.send(new ProducerRecord<>(prefix + "-" + name, null, time, key, value));
            }
        }
        producer.flush();
    }

    /** All committed records of a topic. */
    static List<ConsumerRecord<String, String>> read(Consumer<String, String> consumer, String topic) {
        var partitions = consumer.partitionsFor(topic).stream().map(one -> new TopicPartition(topic, one.partition())).toList();
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        var ends = consumer.endOffsets(partitions);
        var records = new ArrayList<ConsumerRecord<String, String>>();
        while (partitions.stream().anyMatch(one -> consumer.position(one) < ends.get(one))) consumer.poll(Duration.ofMillis(100)).forEach(records::add);
        return records;
    }

    /** Whether a group has committed all that there is in its inputs and, after that, in the topics between its tasks. */
    static boolean hasReadAll(Admin admin, Consumer<String, String> consumer, String prefix, String group) throws Exception {
        var between = admin.listTopics().names().get().stream().filter(name -> name.startsWith(group + "-") && !name.endsWith("-changelog")).sorted();
        var topics = Stream.concat(INPUTS.stream().map(name -> prefix + "-" + name), between).toList();
        for (int round = 0; round < 2; round++) {
            var committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
            for (String topic : topics) {
                for (var record : read(consumer, topic)) {
                    var at = committed.get(new TopicPartition(topic, record.partition()));
                    if (at == null || at.offset() <= record.offset()) return false;
                }
            }
        }
        return true;
    }

    /** What a topic has for each key. */
    static Map<String, List<Row>> rows(Consumer<String, String> consumer, String topic) {
        var rows = new TreeMap<String, List<Row>>();
        for (var record : read(consumer, topic)) rows.computeIfAbsent("" + record.key(), key -> new ArrayList<>()).add(new Row(record.value(), record.timestamp()));
        // Those without a key go to any partition.
        if (rows.containsKey("null")) rows.get("null").sort(Comparator.comparing(Row::toString));
        return rows;
    }

    static List<Row> withoutDeletesOfNothing(List<Row> rows) {
        var some = new ArrayList<Row>();
        for (var row : rows) if (row.value != null || !some.isEmpty() && some.get(some.size() - 1).value != null) some.add(row);
        return some;
    }

    static List<Row> lastValue(List<Row> rows) {
        String value = rows.isEmpty() ? null : rows.get(rows.size() - 1).value;
        return value == null ? List.of() : List.of(new Row(value, 0));
    }

    /** What is different, or null. */
    static String difference(String name, Map<String, List<Row>> java, Map<String, List<Row>> ours, int partitions) {
        if (java.isEmpty()) return "Kafka Streams wrote nothing";
        var keys = new TreeSet<>(java.keySet());
        keys.addAll(ours.keySet());
        for (String key : keys) {
            List<Row> theirs = java.getOrDefault(key, List.of()), mine = ours.getOrDefault(key, List.of());
            if (DELETES_NOTHING.contains(name)) theirs = withoutDeletesOfNothing(theirs);
            if (FOREIGN.contains(name)) {
                theirs = lastValue(theirs);
                mine = lastValue(mine);
            } else if (partitions > 1 && REGROUPED.contains(name)) {
                theirs = theirs.isEmpty() ? theirs : theirs.subList(theirs.size() - 1, theirs.size());
                mine = mine.isEmpty() ? mine : mine.subList(mine.size() - 1, mine.size());
            }
            if (theirs.equals(mine)) continue;
            int at = 0;
            while (at < Math.min(theirs.size(), mine.size()) && theirs.get(at).equals(mine.get(at))) at++;
            return key + " has " + theirs.size() + " records in Kafka Streams and " + mine.size() + " in ours; from number " + at + ": "
                + theirs.subList(at, Math.min(at + 3, theirs.size())) + " and " + mine.subList(at, Math.min(at + 3, mine.size()));
        }
        return null;
    }

    static void compare(String prefix, int partitions, long begin, long seed) throws Exception {
        // What is read next does not wait for a Fetch that still waits at the end of what was read last.
        Map<String, Object> settings = Map.of("bootstrap.servers", address, "linger.ms", 5, "isolation.level", "read_committed", "fetch.max.wait.ms", 10);
        Path state = Files.createTempDirectory("plainlog-same");
        var running = new Properties();
        running.putAll(Map.of("application.id", prefix + "-java", "state.dir", state.toString() + "/java", "replication.factor", 1,
            // What an outer join did not find is told at once, not up to a second later.
            "__emit.interval.ms.kstreams.outer.join.spurious.results.fix__", 0L,
            "statestore.cache.max.bytes", 0, "commit.interval.ms", 100, "default.key.serde", Serdes.StringSerde.class, "default.value.serde", Serdes.StringSerde.class,
            "dsl.store.suppliers.class", BuiltInDslStoreSuppliers.InMemoryDslStoreSuppliers.class, StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest"));
        running.put("bootstrap.servers", address);
        var builder = new StreamsBuilder(new TopologyConfig(new StreamsConfig(running)));
        var cases = new Cases(prefix, builder);
        cases.define();
        var died = new java.util.concurrent.atomic.AtomicBoolean();
        Process ours = null;
        try (var admin = Admin.create(settings); var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
                var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
                var streams = new KafkaStreams(builder.build(), running)) {
            var topics = Stream.concat(Stream.of(INPUTS, List.of("places")).flatMap(List::stream), cases.names.stream().flatMap(name -> Stream.of(name + "-java", name + "-ours")));
            // The times are long ago.
            admin.createTopics(topics.map(name -> new NewTopic(prefix + "-" + name, Optional.of(partitions), Optional.empty()).configs(Map.of("retention.ms", "-1"))).toList()).all().get();
            write(producer, prefix, begin, seed);
            ours = new ProcessBuilder(program, prefix, state + "/ours", address).redirectError(ProcessBuilder.Redirect.INHERIT).start();
            streams.setUncaughtExceptionHandler(failure -> {
                failure.printStackTrace();
                died.set(true);
                return StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
            });
            streams.start();
            for (String group : List.of(prefix + "-ours", prefix + "-java")) until(group + " has read all", () -> died.get() || hasReadAll(admin, consumer, prefix, group));
            if (died.get()) throw new AssertionError("Kafka Streams died");
            streams.close();
            ours.getOutputStream().close();
            if (ours.waitFor() != 0) throw new AssertionError("ours ended with " + ours.exitValue());
            for (String name : cases.names) {
                String label = prefix + "_" + name.replace('-', '_');
                if (partitions > 1 && UNSTABLE.contains(name)) continue;
                String different = difference(name, rows(consumer, prefix + "-" + name + "-java"), rows(consumer, prefix + "-" + name + "-ours"), partitions);
                System.out.println(different == null ? "pass " + label : "fail " + label + ": " + different);
            }
        } finally {
            if (ours != null) ours.destroyForcibly();
            try (var files = Files.walk(state)) {
                files.sorted(Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
            }
        }
    }

    public static void main(String[] arguments) {
        program = arguments[0];
        address = arguments[1];
        System.out.println("note kafka-streams " + AppInfoParser.getVersion() + " on Java " + System.getProperty("java.version"));
        if (System.getenv("PLAINLOG_PROGRAMS").isEmpty()) {
            System.out.println("unable same_results: this broker is not plainlog");
        } else {
            try {
                // From the first millisecond on, where windows are cut short; and long after, in several partitions.
                compare("one", 1, 0, 1);
                compare("three", 3, 1_700_000_000_000L, 2);
            } catch (Throwable failure) {
                failure.printStackTrace();
                System.out.println("fail same_results: " + failure.toString().replace('\n', ' '));
            }
        }
        System.out.println("done");
        System.exit(0);
    }
}

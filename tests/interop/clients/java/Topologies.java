// The topologies of tests/streams_kafka.rs in Kafka Streams, in its TopologyTestDriver.
//
// Reads lines: `topology NAME` begins one, `left KEY VALUE TIME` and `right KEY VALUE TIME` pipe a record in, where - is null.
// Answers each record with the lines of what came out, `KEY=VALUE @TIME`, and a line with a dot.

import java.io.*;
import java.nio.charset.StandardCharsets;
import java.time.*;
import java.util.*;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.kstream.*;
import org.apache.kafka.streams.state.*;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.test.TestRecord;

public class Topologies {
    static final Serde<String> TEXT = Serdes.String();
    /** Numbers as decimal text. */
    static final Serde<Long> NUMBER = Serdes.serdeFrom(
        (topic, n) -> n == null ? null : n.toString().getBytes(StandardCharsets.UTF_8),
        (topic, bytes) -> bytes == null ? null : Long.valueOf(new String(bytes, StandardCharsets.UTF_8)));

    static Duration ms(long ms) {
        return Duration.ofMillis(ms);
    }

    static <V> Materialized<String, V, KeyValueStore<Bytes, byte[]>> store(String name, Serde<V> serde) {
        return Materialized.<String, V, KeyValueStore<Bytes, byte[]>>as(name).withKeySerde(TEXT).withValueSerde(serde);
    }

    static <V> Materialized<String, V, WindowStore<Bytes, byte[]>> windows(String name, Serde<V> serde) {
        return Materialized.<String, V, WindowStore<Bytes, byte[]>>as(name).withKeySerde(TEXT).withValueSerde(serde);
    }

    static <V> Materialized<String, V, SessionStore<Bytes, byte[]>> sessions(String name, Serde<V> serde) {
        return Materialized.<String, V, SessionStore<Bytes, byte[]>>as(name).withKeySerde(TEXT).withValueSerde(serde);
    }

    static <V> void out(KStream<String, V> stream) {
        stream.mapValues(value -> value == null ? null : value.toString()).to("out", Produced.with(TEXT, TEXT));
    }

    static <V> void outWindows(KTable<Windowed<String>, V> table, boolean session) {
        out(table.toStream().selectKey((key, value) -> key.key() + "@" + key.window().start()
            + (session ? "-" + key.window().end() : "")));
    }


    static <V> KTable<Windowed<String>, V> closed(KTable<Windowed<String>, V> table) {
        return table.suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded()));
    }

    static Topology build(String name) {
        StreamsBuilder builder = new StreamsBuilder();
        Consumed<String, Long> numbers = Consumed.with(TEXT, NUMBER);
        Grouped<String, Long> grouped = Grouped.with(TEXT, NUMBER);
        String[] words = name.split("-", 2);
        switch (words[0]) {
            case "group" -> {
                KStream<String, Long> left = builder.stream("left", numbers).filter((k, v) -> v != null);
                switch (words[1]) {
                    case "count" -> out(left.groupBy((k, v) -> "" + Math.abs(v) % 3, grouped).count(store("s", NUMBER)).toStream());
                    case "reduce" -> out(left.groupByKey(grouped).reduce(Long::sum, store("s", NUMBER)).toStream());
                    case "list" -> out(left.groupByKey(grouped)
                        .aggregate(() -> "", (k, v, list) -> list + "," + v, store("s", TEXT)).toStream());
                    case "counts" -> out(left.groupByKey(grouped).count(store("s", NUMBER))
                        .groupBy((k, v) -> KeyValue.pair("" + v % 3, v), grouped).count(store("t", NUMBER)).toStream());
                    case "filtered" -> out(left.groupByKey(grouped).count(store("s", NUMBER))
                        .filter((k, v) -> v % 3 == 0).toStream());
                }
            }
            case "table" -> {
                KTable<String, Long> left = builder.table("left", numbers, store("left", NUMBER));
                switch (words[1]) {
                    case "filter" -> out(left.filter((k, v) -> v % 2 == 0).toStream());
                    case "map" -> out(left.mapValues(v -> "v" + v).toStream());
                    case "stored" -> out(left.filter((k, v) -> v % 2 == 0).mapValues(v -> v * 2, store("m", NUMBER)).toStream());
                    case "count" -> out(left.groupBy((k, v) -> KeyValue.pair("" + v % 3, v), grouped)
                        .count(store("s", NUMBER)).toStream());
                    case "reduce" -> out(left.filter((k, v) -> v > -5).groupBy((k, v) -> KeyValue.pair("" + v % 3, v), grouped)
                        .reduce((a, b) -> a + b, (a, b) -> a - b, store("s", NUMBER)).toStream());
                    case "list" -> out(left.groupBy((k, v) -> KeyValue.pair("" + v % 3, v), grouped)
                        .aggregate(() -> "", (k, v, a) -> a + "+" + v, (k, v, a) -> a + "-" + v, store("s", TEXT)).toStream());
                }
            }
            case "window" -> {
                KGroupedStream<String, Long> left = builder.stream("left", numbers).filter((k, v) -> v != null).groupByKey(grouped);
                TimeWindowedKStream<String, Long> windowed = switch (words[1].split("-")[0]) {
                    case "tumbling" -> left.windowedBy(TimeWindows.ofSizeAndGrace(ms(20), ms(10)));
                    case "hopping" -> left.windowedBy(TimeWindows.ofSizeAndGrace(ms(20), ms(10)).advanceBy(ms(6)));
                    case "sliding" -> left.windowedBy(SlidingWindows.ofTimeDifferenceAndGrace(ms(20), ms(15)));
                    default -> throw new IllegalArgumentException(name);
                };
                switch (words[1].split("-")[1]) {
                    case "count" -> outWindows(windowed.count(windows("s", NUMBER)), false);
                    case "reduce" -> outWindows(windowed.reduce(Long::sum, windows("s", NUMBER)), false);
                    case "list" -> outWindows(windowed.aggregate(() -> "", (k, v, list) -> list + "," + v, windows("s", TEXT)), false);
                    case "closed" -> outWindows(closed(windowed.reduce(Long::sum, windows("s", NUMBER))), false);
                    case "filtered" -> outWindows(windowed.count(windows("s", NUMBER)).filter((k, v) -> v != 2), false);
                }
            }
            case "session" -> {
                SessionWindowedKStream<String, Long> left = builder.stream("left", numbers).filter((k, v) -> v != null)
                    .groupByKey(grouped).windowedBy(SessionWindows.ofInactivityGapAndGrace(ms(8), ms(10)));
                switch (words[1]) {
                    case "count" -> outWindows(left.count(sessions("s", NUMBER)), true);
                    case "reduce" -> outWindows(left.reduce(Long::sum, sessions("s", NUMBER)), true);
                    case "list" -> outWindows(left.aggregate(() -> "", (k, v, list) -> list + "," + v,
                        (k, a, b) -> a + "/" + b, sessions("s", TEXT)), true);
                    case "closed" -> outWindows(closed(left.count(sessions("s", NUMBER))), true);
                }
            }
            case "streams" -> {
                KStream<String, Long> left = builder.stream("left", numbers);
                KStream<String, Long> right = builder.stream("right", numbers);
                StreamJoined<String, Long, Long> joined = StreamJoined.with(TEXT, NUMBER, NUMBER).withName("j").withStoreName("j");
                JoinWindows even = JoinWindows.ofTimeDifferenceAndGrace(ms(10), ms(15));
                JoinWindows ahead = JoinWindows.ofTimeDifferenceAndGrace(ms(10), ms(15)).before(ms(3)).after(ms(12));
                JoinWindows windows = words[1].endsWith("ahead") ? ahead : even;
                switch (words[1].split("-")[0]) {
                    case "inner" -> out(left.join(right, (l, r) -> l + "/" + r, windows, joined));
                    case "left" -> out(left.leftJoin(right, (l, r) -> l + "/" + r, windows, joined));
                    case "outer" -> out(left.outerJoin(right, (l, r) -> l + "/" + r, windows, joined));
                    case "self" -> out(left.join(left, (l, r) -> l + "/" + r, windows, joined));
                }
            }
            case "lookup" -> {
                KStream<String, Long> left = builder.stream("left", numbers);
                switch (words[1]) {
                    case "inner" -> out(left.join(builder.table("right", numbers, store("r", NUMBER)), (l, r) -> l + "/" + r));
                    case "left" -> out(left.leftJoin(builder.table("right", numbers, store("r", NUMBER)), (l, r) -> l + "/" + r));
                    case "filtered" -> out(left.leftJoin(builder.table("right", numbers, store("r", NUMBER))
                        .filter((k, v) -> v % 2 == 0).mapValues(v -> v + 1), (l, r) -> l + "/" + r));
                    case "global" -> out(left.join(builder.globalTable("right", numbers, store("r", NUMBER)),
                        (k, v) -> v == null || v % 5 == 0 ? null : "k" + Math.abs(v) % 4, (l, r) -> l + "/" + r));
                    case "globalleft" -> out(left.leftJoin(builder.globalTable("right", numbers, store("r", NUMBER)),
                        (k, v) -> v == null || v % 5 == 0 ? null : "k" + Math.abs(v) % 4, (l, r) -> l + "/" + r));
                }
            }
            case "tables" -> {
                KTable<String, Long> left = builder.table("left", numbers, store("l", NUMBER));
                KTable<String, Long> right = builder.table("right", numbers, store("r", NUMBER));
                switch (words[1]) {
                    case "inner" -> out(left.join(right, (l, r) -> l + "/" + r).toStream());
                    case "left" -> out(left.leftJoin(right, (l, r) -> l + "/" + r).toStream());
                    case "outer" -> out(left.outerJoin(right, (l, r) -> l + "/" + r).toStream());
                    case "filtered" -> out(left.filter((k, v) -> v > 0).outerJoin(right.mapValues(v -> v * 2), (l, r) -> l + "/" + r)
                        .filter((k, v) -> v.length() % 2 == 1).toStream());
                    case "grouped" -> out(left.leftJoin(right, (l, r) -> r == null ? l : l + r)
                        .groupBy((k, v) -> KeyValue.pair("" + v % 2, v), grouped)
                        .reduce((a, b) -> a + b, (a, b) -> a - b, store("s", NUMBER)).toStream());
                    case "twice" -> out(left.join(right, (l, r) -> l + r).outerJoin(right, (l, r) -> l + "/" + r).toStream());
                }
            }
            case "foreign" -> {
                KTable<String, Long> left = builder.table("left", numbers, store("l", NUMBER));
                KTable<String, Long> right = builder.table("right", numbers, store("r", NUMBER));
                java.util.function.Function<Long, String> key = v -> v % 5 == 0 ? null : "k" + Math.abs(v) % 4;
                switch (words[1]) {
                    case "inner" -> out(left.join(right, key, (l, r) -> l + "/" + r, store("f", TEXT)).toStream());
                    case "left" -> out(left.leftJoin(right, key, (l, r) -> l + "/" + r, store("f", TEXT)).toStream());
                    case "grouped" -> out(left.join(right, key, (l, r) -> l + r, store("f", NUMBER))
                        .groupBy((k, v) -> KeyValue.pair("" + v % 2, v), grouped)
                        .reduce((a, b) -> a + b, (a, b) -> a - b, store("s", NUMBER)).toStream());
                }
            }
            default -> throw new IllegalArgumentException(name);
        }
        return builder.build();
    }

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream answer = new PrintStream(new BufferedOutputStream(System.out), false, StandardCharsets.UTF_8);
        File folder = java.nio.file.Files.createTempDirectory("topologies").toFile();
        Properties config = new Properties();
        config.put("dsl.store.suppliers.class", "org.apache.kafka.streams.state.BuiltInDslStoreSuppliers$InMemoryDslStoreSuppliers");
        config.put("application.id", "app");
        config.put("bootstrap.servers", "none:9092");
        config.put("statestore.cache.max.bytes", "0");
        config.put("state.dir", folder.getPath());
        config.put("default.key.serde", Serdes.StringSerde.class);
        // Records that found no other are given up at once, not only once a second.
        config.put("__emit.interval.ms.kstreams.outer.join.spurious.results.fix__", 0L);
        TopologyTestDriver driver = null;
        for (String line; (line = in.readLine()) != null; ) {
            String[] words = line.split(" ");
            if (words[0].equals("topology")) {
                if (driver != null) {
                    driver.close();
                }
                driver = new TopologyTestDriver(build(words[1]), config, Instant.ofEpochMilli(0));
                continue;
            }
            String key = words[1].equals("-") ? null : words[1];
            String value = words[2].equals("-") ? null : words[2];
            driver.createInputTopic(words[0], TEXT.serializer(), TEXT.serializer()).pipeInput(key, value, Long.parseLong(words[3]));
            TestOutputTopic<String, String> out = driver.createOutputTopic("out", TEXT.deserializer(), TEXT.deserializer());
            while (!out.isEmpty()) {
                TestRecord<String, String> record = out.readRecord();
                String shown = record.value() == null ? "-" : record.value();
                answer.println((record.key() == null ? "-" : record.key()) + "=" + shown + " @" + record.timestamp());
            }
            answer.println(".");
            answer.flush();
        }
        if (driver != null) {
            driver.close();
        }
    }
}

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
import org.apache.kafka.streams.errors.InvalidStateStoreException;
import org.apache.kafka.streams.kstream.*;
import org.apache.kafka.streams.state.*;

/**
 * Kafka Streams counts words while the broker goes away and comes back. A broker that forgets who is in the group makes the
 * application begin again where it committed last, and words are counted twice. With exactly_once_v2 the application is stopped and
 * started again too, and what it has written counts each word once. The report on stdout is described in check.py.
 */
public class Streams {
    static final int WORDS = 100_000, PARTITIONS = 4;
    static final BufferedReader answers = new BufferedReader(new InputStreamReader(System.in));
    static String address;

    static class Unable extends Exception { }

    static void restart(String how) throws Exception {
        System.out.println(how);
        if (!"restarted".equals(answers.readLine())) throw new Unable();
    }

    static void until(String what, Callable<Boolean> holds) throws Exception {
        for (long end = System.currentTimeMillis() + 120_000; System.currentTimeMillis() < end; Thread.sleep(50)) if (holds.call()) return;
        throw new AssertionError("not within 120 s: " + what);
    }

    static KafkaStreams counting(String words, Path state) {
        var builder = new StreamsBuilder();
        counts(builder, words);
        return new KafkaStreams(builder.build(), settings(words, state, Map.of("commit.interval.ms", 1000)));
    }

    /** The application whose output holds each word's count at each time that the word came. */
    static KafkaStreams countingExactlyOnce(String words, Path state) {
        var builder = new StreamsBuilder();
        counts(builder, words).toStream().to(words + "-counts", Produced.with(Serdes.String(), Serdes.Long()));
        return new KafkaStreams(builder.build(), settings(words, state, Map.of("processing.guarantee", StreamsConfig.EXACTLY_ONCE_V2,
            "commit.interval.ms", 100, "statestore.cache.max.bytes", 0, StreamsConfig.consumerPrefix("session.timeout.ms"), 6000)));
    }

    static KTable<String, Long> counts(StreamsBuilder builder, String words) {
        return builder.stream(words, Consumed.with(Serdes.String(), Serdes.String()))
            .groupBy((key, word) -> word, Grouped.with(Serdes.String(), Serdes.String()))
            .count(Materialized.<String, Long>as(Stores.inMemoryKeyValueStore("counts")).withKeySerde(Serdes.String()).withValueSerde(Serdes.Long()));
    }

    static Properties settings(String words, Path state, Map<String, Object> more) {
        var settings = new Properties();
        settings.putAll(Map.of("application.id", words + "-app", "bootstrap.servers", address, "state.dir", state.toString(),
            "num.stream.threads", 2, "replication.factor", 1));
        settings.putAll(more);
        return settings;
    }

    /** All counts together; -1 while they cannot be asked. */
    static long counted(KafkaStreams streams) {
        try {
            var counts = streams.store(StoreQueryParameters.fromNameAndType("counts", QueryableStoreTypes.<String, Long>keyValueStore()));
            long sum = 0;
            try (var all = counts.all()) {
                while (all.hasNext()) sum += all.next().value;
            }
            return sum;
        } catch (InvalidStateStoreException rebalancing) {
            return -1;
        }
    }

    /** Whether the application has committed all that there is in the topics it reads. */
    static boolean hasReadAll(Admin admin, String group) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        var ends = admin.listOffsets(committed.keySet().stream().collect(Collectors.toMap(p -> p, p -> OffsetSpec.latest()))).all().get();
        return committed.size() == 2 * PARTITIONS && committed.entrySet().stream().allMatch(one -> one.getValue().offset() == ends.get(one.getKey()).offset());
    }

    static void countsEachWordOnceOver(String how) throws Exception {
        String words = "words-" + UUID.randomUUID().toString().substring(0, 8);
        Map<String, Object> settings = Map.of("bootstrap.servers", address, "linger.ms", 5);
        Path state = Files.createTempDirectory("plainlog-streams");
        try (var admin = Admin.create(settings); var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            admin.createTopics(List.of(new NewTopic(words, Optional.of(PARTITIONS), Optional.empty()))).all().get();
            try (var streams = counting(words, state)) {
                streams.start();
                until("the application runs", () -> streams.state() == KafkaStreams.State.RUNNING);
                CompletableFuture<Void> restarted = null;
                var sent = new ArrayList<Future<RecordMetadata>>();
                for (int n = 0; n < WORDS; n++) {
                    sent.add(producer.send(new ProducerRecord<>(words, Integer.toString(n), "word-" + n % 997)));
                    if (n % 1000 == 0) Thread.sleep(50);
                    if (n == WORDS * 2 / 5) restarted = CompletableFuture.runAsync(() -> {
                        try {
                            restart(how);
                        } catch (Exception failure) {
                            throw new CompletionException(failure);
                        }
                    });
                }
                producer.flush();
                for (var future : sent) future.get();
                restarted.get();
                until("all is read and committed", () -> hasReadAll(admin, words + "-app"));
                until("the counts can be asked", () -> counted(streams) >= 0);
                long sum = counted(streams);
                if (sum != WORDS) throw new AssertionError(sum + " of " + WORDS + " words were counted");
            }
        } finally {
            try (var files = Files.walk(state)) {
                files.sorted(Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
            }
        }
    }

    /** Starts the application as a process of its own, which can be killed. */
    static Process application(String words, Path state) throws IOException {
        String java = Path.of(System.getProperty("java.home"), "bin", "java").toString();
        var command = List.of(java, "-Xmx256m", "-cp", System.getProperty("java.class.path"), "Streams", words, state.toString(), address);
        return new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
    }

    static void kill(Process application) throws Exception {
        application.destroyForcibly().waitFor();
    }

    static void countsExactlyOnceOverKills() throws Exception {
        int count = 20_000;
        String words = "words-" + UUID.randomUUID().toString().substring(0, 8);
        Map<String, Object> settings = Map.of("bootstrap.servers", address, "linger.ms", 5);
        Path state = Files.createTempDirectory("plainlog-streams");
        var counted = new TreeMap<String, List<Long>>();
        Process running = null;
        try (var admin = Admin.create(settings); var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            admin.createTopics(Stream.of(words, words + "-counts").map(name -> new NewTopic(name, Optional.of(PARTITIONS), Optional.empty())).toList()).all().get();
            running = application(words, state);
            for (int n = 0; n < count; n++) {
                producer.send(new ProducerRecord<>(words, Integer.toString(n), "word-" + n % 97));
                if (n % 100 == 0) Thread.sleep(50);
                // By then it has written some of what it is to write, and not all.
                if (n == count / 3 || n == count * 2 / 3) {
                    until("some counts", () -> sizes(admin, words + "-counts") > 0);
                    kill(running);
                    running = application(words, state);
                }
                if (n == count / 2) restart("restart");
            }
            producer.flush();
            Map<String, Object> committed = Map.of("bootstrap.servers", address, "isolation.level", "read_committed");
            try (var reader = new KafkaConsumer<>(committed, new StringDeserializer(), new LongDeserializer())) {
                var partitions = IntStream.range(0, PARTITIONS).mapToObj(p -> new TopicPartition(words + "-counts", p)).toList();
                reader.assign(partitions);
                reader.seekToBeginning(partitions);
                until("each word is counted", () -> {
                    reader.poll(Duration.ofMillis(100)).forEach(one -> counted.computeIfAbsent(one.key(), word -> new ArrayList<>()).add(one.value()));
                    return counted.values().stream().mapToInt(List::size).sum() >= count;
                });
            }
        } finally {
            if (running != null) kill(running);
            try (var files = Files.walk(state)) {
                files.sorted(Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
            }
        }
        counted.forEach((word, counts) -> {
            var expected = LongStream.rangeClosed(1, counts.size()).boxed().toList();
            if (!counts.equals(expected)) throw new AssertionError(word + " was counted " + counts);
        });
    }

    /** How many records there are in all partitions of a topic. */
    static long sizes(Admin admin, String topic) throws Exception {
        var partitions = IntStream.range(0, PARTITIONS).boxed().collect(Collectors.toMap(p -> new TopicPartition(topic, p), p -> OffsetSpec.latest()));
        return admin.listOffsets(partitions).all().get().values().stream().mapToLong(one -> one.offset()).sum();
    }

    interface Check { void run() throws Exception; }

    public static void main(String[] arguments) {
        address = arguments[arguments.length - 1];
        if (arguments.length > 1) {
            countingExactlyOnce(arguments[0], Path.of(arguments[1])).start();
            return;
        }
        System.out.println("note kafka-streams " + AppInfoParser.getVersion() + " on Java " + System.getProperty("java.version"));
        Map<String, Check> checks = new TreeMap<>(Map.of(
            "each_word_once_over_a_clean_restart", () -> countsEachWordOnceOver("restart cleanly"),
            "each_word_once_over_a_kill", () -> countsEachWordOnceOver("restart"),
            "exactly_once_over_kills_of_the_application_and_of_the_broker", () -> countsExactlyOnceOverKills()));
        checks.forEach((name, check) -> {
            try {
                check.run();
                System.out.println("pass " + name);
            } catch (Throwable failure) {
                Throwable cause = failure;
                while (cause.getCause() != null && !(cause instanceof Unable)) cause = cause.getCause();
                failure.printStackTrace();
                if (cause instanceof Unable) System.out.println("unable " + name + ": this broker cannot be restarted from here");
                else System.out.println("fail " + name + ": " + cause.toString().replace('\n', ' '));
            }
        });
        System.out.println("done");
        System.exit(0);
    }
}

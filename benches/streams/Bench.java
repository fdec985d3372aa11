import java.time.Duration;
import java.util.*;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.kstream.*;

/** What benches/streams.py measures, in Kafka Streams: the same as ours.rs, and started alike. Stores are on disk (RocksDB), as by default. */
public class Bench {
    public static void main(String[] arguments) throws Exception {
        String what = arguments[0], guarantee = arguments[1], folder = arguments[2], address = arguments[3];
        var settings = new Properties();
        settings.putAll(Map.of("application.id", "java-" + what, "bootstrap.servers", address, "state.dir", folder, "replication.factor", 1,
            "statestore.cache.max.bytes", 0, "commit.interval.ms", 100, "processing.guarantee", guarantee,
            "default.key.serde", Serdes.StringSerde.class, "default.value.serde", Serdes.StringSerde.class));
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        var builder = new StreamsBuilder();
        if (what.equals("count")) {
            builder.<String, String>stream("lines").flatMapValues(line -> List.of(line.split(" "))).groupBy((key, word) -> word).count()
                .toStream().mapValues(value -> value.toString()).to("count-out");
        } else {
            builder.<String, String>stream("numbers").mapValues(value -> Long.valueOf(value)).groupByKey(Grouped.with(Serdes.String(), Serdes.Long()))
                .windowedBy(TimeWindows.ofSizeWithNoGrace(Duration.ofSeconds(10))).reduce(Long::sum)
                .toStream((key, value) -> key.key() + "@" + key.window().start()).mapValues(value -> value.toString()).to("sum-out");
        }
        var streams = new KafkaStreams(builder.build(), settings);
        var stopped = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            // As ours does; by default the next process waits for the session of this one to end.
            streams.close(CloseOptions.timeout(Duration.ofSeconds(10)).withGroupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP));
            stopped.countDown();
        }));
        streams.start();
        stopped.await();
    }
}

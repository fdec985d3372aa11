import java.io.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import javax.security.auth.callback.Callback;
import javax.security.auth.login.AppConfigurationEntry;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;
import org.apache.kafka.common.security.oauthbearer.*;
import org.apache.kafka.common.serialization.*;

/** kafka-clients for the suite `secure`, which tells what is asked. */
public class Secure {
    static final List<String> VALUES = IntStream.range(0, 10).mapToObj(n -> n + " größe").toList();
    static final int PATIENCE_MS = 60_000;
    static KafkaProducer<String, String> held;

    static void connect(String address, String ca, String mechanism, String user, String password, String topic, String group) throws Exception {
        var module = Map.of("PLAIN", "plain.PlainLoginModule", "OAUTHBEARER", "oauthbearer.OAuthBearerLoginModule").getOrDefault(mechanism, "scram.ScramLoginModule");
        var conf = new HashMap<String, Object>(Map.of("bootstrap.servers", address, "security.protocol", "SASL_SSL", "ssl.truststore.type", "PEM",
            "ssl.truststore.location", ca, "sasl.mechanism", mechanism, "sasl.jaas.config",
            "org.apache.kafka.common.security.%s required username=\"%s\" password=\"%s\";".formatted(module, user, password)));
        if (mechanism.equals("OAUTHBEARER")) conf.put("sasl.login.callback.handler.class", Token.class.getName());
        if (held != null) held.close(Duration.ZERO);
        var producing = new HashMap<String, Object>(conf);
        producing.put("max.block.ms", PATIENCE_MS);
        held = new KafkaProducer<>(producing, new StringSerializer(), new StringSerializer());
        write(topic);
        conf.putAll(Map.of("group.id", group, "auto.offset.reset", "earliest"));
        var read = new ArrayList<String>();
        try (var consumer = new KafkaConsumer<>(conf, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            for (var end = System.currentTimeMillis() + PATIENCE_MS; read.size() < VALUES.size() && System.currentTimeMillis() < end;)
                consumer.poll(Duration.ofMillis(500)).forEach(record -> read.add(record.value()));
        }
        if (!read.equals(VALUES)) throw new AssertionError("read " + read);
    }

    /** Takes the token for the password that it stands in the place of. */
    public static class Token implements AuthenticateCallbackHandler {
        String value;

        public void configure(Map<String, ?> conf, String mechanism, List<AppConfigurationEntry> logins) {
            value = logins.get(0).getOptions().get("password").toString();
        }

        public void handle(Callback[] callbacks) {
            for (var callback : callbacks) if (callback instanceof OAuthBearerTokenCallback asks) asks.token(new OAuthBearerToken() {
                public String value() { return value; }
                public Set<String> scope() { return Set.of(); }
                public long lifetimeMs() { return System.currentTimeMillis() + 3_600_000; }
                public String principalName() { return "robot"; }
                public Long startTimeMs() { return null; }
            });
        }

        public void close() {}
    }

    static void write(String topic) throws Exception {
        for (var value : VALUES) held.send(new ProducerRecord<>(topic, value)).get(PATIENCE_MS, TimeUnit.MILLISECONDS);
    }

    public static void main(String[] arguments) throws IOException {
        var lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null;) {
            var asked = line.split("\t");
            try {
                if (asked[0].equals("again")) write(asked[1]);
                else connect(asked[1], asked[2], asked[3], asked[4], asked[5], asked[6], asked[7]);
                System.out.println("ok");
            } catch (Throwable error) {
                var told = new StringBuilder("error");
                for (Throwable cause = error; cause != null; cause = cause.getCause()) told.append(" ").append(cause);
                System.out.println(told.toString().replaceAll("\\s+", " "));
            }
        }
    }
}

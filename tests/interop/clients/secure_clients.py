"""Three clients in Python for the suite `secure`, which tells what is asked: secure_clients.py librdkafka | kafka-python | aiokafka."""
import asyncio, logging, ssl, sys, time, traceback

VALUES = [f"{n} größe".encode() for n in range(10)]
PATIENCE_S = 60


class Told(logging.Handler):
    """Ends a client's first attempt to connect with what it tells nobody but its log."""

    def emit(self, record):
        if record.getMessage().startswith(("Bootstrap connection to", "Unable connect to")):
            raise ConnectionError(record.getMessage())


class Librdkafka:
    def __init__(self, address, ca, mechanism, user, password):
        from confluent_kafka import Producer
        self.conf = {"bootstrap.servers": address, "security.protocol": "SASL_SSL", "ssl.ca.location": ca, "sasl.mechanism": mechanism, "log_level": 0}
        # When it really ends the broker is to say.
        self.conf |= {"oauth_cb": lambda _: (password, time.time() + 3600)} if mechanism == "OAUTHBEARER" else {"sasl.username": user, "sasl.password": password}
        self.errors = []
        self.producer = Producer({**self.conf, "error_cb": self.errors.append})

    def write(self, topic):
        from confluent_kafka import KafkaError, KafkaException
        for value in VALUES:
            self.producer.produce(topic, value, on_delivery=lambda error, _: error and self.errors.append(error))
        for _ in range(10 * PATIENCE_S):
            left = self.producer.flush(0.1)
            told = [error for error in self.errors if error.code() not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT)]
            if told:
                raise KafkaException(told[0])
            if not left:
                return
        raise AssertionError(f"nothing came back: {self.errors}")

    def read(self, topic, group):
        from confluent_kafka import Consumer
        consumer = Consumer({**self.conf, "group.id": group, "auto.offset.reset": "earliest"})
        consumer.subscribe([topic])
        read = [message.value() for message in consumer.consume(len(VALUES), PATIENCE_S)]
        consumer.close()
        return read

    def close(self):
        self.producer.purge()


class KafkaPython:
    def __init__(self, address, ca, mechanism, user, password):
        import kafka, kafka.net.sasl.oauth

        class Token(kafka.net.sasl.oauth.AbstractTokenProvider):
            def __init__(self, **config):
                pass

            def token(self):
                return password
        self.conf = {"bootstrap_servers": address, "security_protocol": "SASL_SSL", "ssl_cafile": ca, "sasl_mechanism": mechanism}
        self.conf |= {"sasl_oauth_token_provider": Token()} if mechanism == "OAUTHBEARER" else {"sasl_plain_username": user, "sasl_plain_password": password}
        self.producer = kafka.KafkaProducer(**self.conf, max_block_ms=PATIENCE_S * 1000)

    def write(self, topic):
        for sent in [self.producer.send(topic, value) for value in VALUES]:
            sent.get(PATIENCE_S)

    def read(self, topic, group):
        import kafka
        consumer = kafka.KafkaConsumer(topic, group_id=group, auto_offset_reset="earliest", consumer_timeout_ms=PATIENCE_S * 1000, **self.conf)
        read = [next(consumer).value for _ in VALUES]
        consumer.close()
        return read

    def close(self):
        self.producer.close(1)


class Aiokafka:
    loop = asyncio.new_event_loop()

    def __init__(self, address, ca, mechanism, user, password):
        from aiokafka.abc import AbstractTokenProvider

        class Token(AbstractTokenProvider):
            async def token(self):
                return password
        self.conf = {"bootstrap_servers": address, "security_protocol": "SASL_SSL", "ssl_context": ssl.create_default_context(cafile=ca),
                     "sasl_mechanism": mechanism}
        self.conf |= {"sasl_oauth_token_provider": Token()} if mechanism == "OAUTHBEARER" else {"sasl_plain_username": user, "sasl_plain_password": password}
        self.producer = None

    def until(self, what):
        return self.loop.run_until_complete(asyncio.wait_for(what, PATIENCE_S))

    def write(self, topic):
        async def write():
            import aiokafka
            if not self.producer:
                self.producer = aiokafka.AIOKafkaProducer(**self.conf)
                await self.producer.start()
            for value in VALUES:
                await self.producer.send_and_wait(topic, value)
        self.until(write())

    def read(self, topic, group):
        async def read():
            import aiokafka
            consumer = aiokafka.AIOKafkaConsumer(topic, group_id=group, auto_offset_reset="earliest", **self.conf)
            await consumer.start()
            read = [(await consumer.getone()).value for _ in VALUES]
            await consumer.stop()
            return read
        return self.until(read())

    def close(self):
        if self.producer:
            self.until(self.producer.stop())


kind = {"librdkafka": Librdkafka, "kafka-python": KafkaPython, "aiokafka": Aiokafka}[sys.argv[1]]
held = None
logging.getLogger().addHandler(Told())
for line in sys.stdin:
    verb, *asked = line.rstrip("\n").split("\t")
    try:
        if verb == "again":
            held.write(*asked)
        else:
            if held:
                held.close()
            held = None
            *conf, topic, group = asked
            held = kind(*conf)
            held.write(topic)
            read = held.read(topic, group)
            assert read == VALUES, f"read {read}"
        print("ok", flush=True)
    except BaseException as error:
        traceback.print_exc()
        print("error", type(error).__name__, " ".join(str(error).split()), flush=True)

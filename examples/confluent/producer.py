"""Places orders: messages of JSON, keyed by customer, through the Kafka client confluent-kafka.

    python3 producer.py --count 5
"""
import argparse
import json
import sys
import time

from confluent_kafka import Producer

MEALS = ["pizza", "sushi", "tacos", "curry", "ramen"]
CUSTOMERS = ["alice", "bob", "carol"]


def told(error, message):
    """Called once for each message, when the broker has answered."""
    if error:
        print(f"not stored: {error}", file=sys.stderr)
    else:
        print(f"stored at partition {message.partition()}, offset {message.offset()}: {message.value().decode()}")


def main():
    parser = argparse.ArgumentParser(description="Places orders.")
    parser.add_argument("--broker", default="localhost:9092")
    parser.add_argument("--topic", default="orders", help="made on first use")
    parser.add_argument("--count", type=int, default=10)
    options = parser.parse_args()

    # Kafka's Java client and plainlog put a key on the partition that murmur2 names; librdkafka does so when it is asked to.
    producer = Producer({"bootstrap.servers": options.broker, "partitioner": "murmur2_random"})
    for number in range(options.count):
        customer = CUSTOMERS[number % len(CUSTOMERS)]
        order = {"order_id": number, "customer": customer, "meal": MEALS[number % len(MEALS)], "status": "placed",
                 "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        producer.produce(options.topic, json.dumps(order), customer, on_delivery=told)
        producer.poll(0)
    return 1 if producer.flush(30) else 0


if __name__ == "__main__":
    sys.exit(main())

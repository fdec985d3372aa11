"""Handles orders as one of a group, through the Kafka client confluent-kafka.

    python3 consumer.py --group kitchen

Start it twice with one group: the two share the orders, each customer's in order. Another group sees every order again.
"""
import argparse
import json
import sys

from confluent_kafka import Consumer


def main():
    parser = argparse.ArgumentParser(description="Handles orders.")
    parser.add_argument("--broker", default="localhost:9092")
    parser.add_argument("--topic", default="orders")
    parser.add_argument("--group", default="kitchen")
    parser.add_argument("--count", type=int, help="stop after so many orders (default: at ^C)")
    options = parser.parse_args()

    consumer = Consumer({"bootstrap.servers": options.broker, "group.id": options.group, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "topic.metadata.refresh.interval.ms": 1000})
    consumer.subscribe([options.topic])
    handled = 0
    try:
        while options.count is None or handled < options.count:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                print(message.error(), file=sys.stderr)
                continue
            order = json.loads(message.value())
            print(f"{order['customer']}'s {order['meal']} is {order['status']} (partition {message.partition()}, offset {message.offset()})", flush=True)
            consumer.commit(message, asynchronous=False)  # only what was handled: after a crash an order may come again, none is lost
            handled += 1
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()


if __name__ == "__main__":
    main()

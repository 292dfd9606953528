"""Poll the topic with confluent-kafka, and only touch the values."""

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from benchmarks.peer_scripts.task import Task

SETTINGS = {
    "enable.auto.commit": False,
    "fetch.queue.backoff.ms": 10,  # its default of 1000 halves the rate
    "isolation.level": "read_committed",
}
AT_ONCE = 10_000


def main() -> None:
    """Read until every record has come."""
    task = Task.given()
    consumer = Consumer({"bootstrap.servers": task.kafka, "group.id": task.name, **SETTINGS})
    partitions = consumer.list_topics(task.topic, timeout=10).topics[task.topic].partitions
    consumer.assign([TopicPartition(task.topic, partition, OFFSET_BEGINNING) for partition in partitions])
    done, n_bytes = False, 0
    while not done:
        messages = consumer.consume(AT_ONCE, timeout=0.5)
        for message in messages:
            n_bytes += len(message.value() or b"")
        done = task.add(len(messages))
    task.finish([])


if __name__ == "__main__":
    main()

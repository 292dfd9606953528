"""Poll the topic with kafka-python, with the settings that our consumer has, and only touch the values."""

from kafka import TopicPartition

from benchmarks.peer_scripts.task import Task
from consumers.kafka import build_consumer


def main() -> None:
    """Read until every record has come."""
    task = Task.given()
    consumer = build_consumer({"bootstrap_servers": [task.kafka]}, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(task.topic, partition) for partition in consumer.partitions_for_topic(task.topic)])
    done, n_bytes = False, 0
    while not done:
        for records in consumer.poll(timeout_ms=500).values():
            for record in records:
                n_bytes += len(record.value)
            done = task.add(len(records))
    task.finish([])


if __name__ == "__main__":
    main()

"""Run a command whose Kafka client stops giving a partition: python -m tests.faults.stalled PARTITION WATCHDOG_S …

A partition of -1 leaves the client as it is.
"""

import sys
from typing import Any

from consumers import loop, watchdog
from consumers.source import Source
from hitparade.__main__ import main


def stall(partition: int, after: int) -> None:
    """From the nth poll that brings something of it on, the first client is silent about the partition."""
    poll, n_polls, client = Source.poll, 0, None

    def silenced(source: Source, timeout_s: float) -> Any:
        nonlocal n_polls, client
        client = client or source.client
        batches = poll(source, timeout_s)
        n_polls += any(batch.partition == partition for batch in batches)
        if n_polls >= after and source.client is client:
            client.stop(partition)
        return batches

    Source.poll = silenced  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    watchdog.WATCHDOG_S, loop.LOOK_EVERY_S = float(sys.argv[2]), 0.5
    if int(sys.argv[1]) >= 0:
        stall(int(sys.argv[1]), after=3)
    sys.exit(main(sys.argv[3:]))

"""What the benchmarks of scale measure with."""

import json
import os
import time
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from benchmarks.latency import latencies_ms
from benchmarks.logs import START, Log, catalogue_line, every_track, records
from benchmarks.pictures import fit
from benchmarks.stand import cpu_s, rss_mib
from features.tracks import AUDIO_FEATURES, Track

TICK_S = 0.02  # that is how finely Linux tells it


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, -0.5])
def test_a_fit_finds_the_exponent_of_what_was_drawn_with_it(exponent: float) -> None:
    xs = [1, 4, 16, 64]
    found = fit(xs, [3 * x**exponent for x in xs])
    assert found.exponent == pytest.approx(exponent, abs=1e-3)
    assert found.factor == pytest.approx(3)


def test_an_event_is_counted_when_the_fence_is_first_seen_beyond_its_offset_and_never_before_its_acknowledgement() -> (
    None
):
    seen = [(0.0, [0, 0]), (1.0, [2, 0]), (1.5, [2, 1]), (2.0, [3, 1])]
    acks = [(0, 0, 0.9), (0, 1, 1.1), (0, 2, 1.2), (1, 0, 1.4)]
    found = latencies_ms(np.array(acks, dtype=[("partition", "i4"), ("offset", "i8"), ("at", "f8")]), seen)
    assert found.round(6).tolist() == [100, 0, 800, 100]


@pytest.mark.parametrize("array", [1, 5])
def test_a_log_is_as_large_and_as_long_as_it_was_asked_for_and_a_track_has_one_partition(array: int) -> None:
    log = Log(300, n_tracks=40, n_weeks=3, n_partitions=4, array=array)
    partitions: defaultdict[str, set[int]] = defaultdict(set)
    times, turns = [], []
    for partition, value in records(log):
        found = json.loads(value)
        turns.append(partition)
        for event in found if array > 1 else [found]:
            partitions[event["track_id"]].add(partition)
            times.append(datetime.fromisoformat(event["timestamp"] + "+00:00") - START)
    assert len(times) == 300
    assert turns == [n % 4 for n in range(300 // array)]
    assert set(map(len, partitions.values())) == {1}
    assert 30 < len(partitions) <= 40
    assert times == sorted(times)
    assert timedelta(weeks=2.9) < times[-1] < timedelta(weeks=3)


def test_every_track_is_played_skipped_and_liked_by_every_user() -> None:
    events = [event for _, value in every_track(10, [3, 5], 2) for event in json.loads(value)]
    found = Counter((event["track_id"], event["user_id"], event["event_type"]) for event in events)
    ids = [f"track-{n:016}" for n in range(10)]
    assert found == Counter(product(ids, [3, 5], ["like", "play", "skip"]))


def test_a_line_of_the_catalogue_is_a_track_with_everything_that_can_be_known() -> None:
    track = Track.model_validate_json(catalogue_line(7))
    assert all(getattr(track, name) is not None for name in AUDIO_FEATURES)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc here")
def test_the_processor_time_and_memory_of_a_process_are_its_own() -> None:
    before = time.process_time()
    found = cpu_s(os.getpid())
    assert before - TICK_S <= found <= time.process_time() + TICK_S
    assert 10 < rss_mib(os.getpid()) < 10_000

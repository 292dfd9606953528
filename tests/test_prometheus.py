"""What Prometheus is told: that it is true, and that docs/metrics.md says what each is."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from consumers import metrics
from consumers.metrics import COUNTING, LOOP, SCHEDULER, WEEKLY, Named
from consumers.triggers import LastRun, TriggerConsumer
from features.connect import StoreUnavailable
from hitparade import wiring
from models.reports import Report
from service.app import build
from service.figures import PartitionFigures, TopicFigures
from service.metrics import SERVICE
from tests.builders_counting import PARTITIONS, Counted, running
from tests.raw_http import connected, request, served
from tests.servers import ROOT, wait_until
from tests.serving import NOW, a_list, client, parts
from tests.test_health import failing_once
from tests.test_service_data import evaluation
from tests.test_triggers import Given, Hasty, failing, wire

REPORT = {
    **{"name": "two-lists", "control": "control", "weeks": ["2025-W12"], "weeks_before": 0, "look": 1, "looks": 1},
    **{"alpha": 0.05, "level": 0.05, "correction": "holm", "population": "exposed users", "users": {}, "effects": []},
    **{"touched": {"how": "nothing", "events": None, "users": {}}, "warnings": [], "conclusions": []},
    "ratios": [
        {"what": "users", "users": {}, "expected": {}, "p_value": 0.0002, "is_broken": True},
        {"what": "exposed users", "users": {}, "expected": {}, "p_value": None, "is_broken": False},
    ],
}
Samples = dict[tuple[str, tuple[str, ...]], float]


def read(text: str) -> Samples:
    """Every sample by name and values of labels, in the order of the tables."""
    order = {metric.name: metric.labels for metric in (*LOOP, *COUNTING, *WEEKLY, *SCHEDULER, *SERVICE)}
    return {
        (sample.name, tuple(sample.labels[label] for label in order.get(sample.name, sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(registry: CollectorRegistry) -> Samples:
    return read(metrics.exposed(registry)[2].decode())


def documented(samples: Samples, *named: Sequence[Named]) -> None:
    """Every sample of ours is of a metric of the tables, and every metric is there."""
    names = {name for name, _ in samples if name.startswith("hitparade_")}
    known = {metric.name for table in named for metric in table}
    bare = {name for name in names if name not in known}
    assert {name.rpartition("_")[0] for name in bare} <= known  # of a histogram
    assert known == {name for name in names if name in known} | {name.rpartition("_")[0] for name in bare}


def rows(named: Sequence[Named]) -> list[str]:
    return [f"| `{m.name}` | {m.kind} | {', '.join(f'`{label}`' for label in m.labels)} | {m.meaning} |" for m in named]


def test_the_documentation_has_every_metric_and_no_other() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    tables = [row for row in text.splitlines() if row.startswith("| `")]
    assert tables == [row for named in (LOOP, COUNTING, WEEKLY, SCHEDULER, SERVICE) for row in rows(named)]


def test_names_are_those_of_the_field() -> None:
    for metric in {*LOOP, *COUNTING, *WEEKLY, *SCHEDULER, *SERVICE}:
        assert metric.name.startswith("hitparade_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert not {"track", "track_id", "user", "user_id", "path"} & set(metric.labels)


def test_a_counting_consumer_tells_what_it_has_counted_and_where_it_stands(
    counted: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    counted.fill(200)
    consumer = wiring.session_consumer(counted.settings, False)
    registry = metrics.counting(consumer)
    consumer.decide = failing_once(consumer.decide, StoreUnavailable("away"))
    assert consumer.run(Hasty(), until_idle=True) == 0
    samples, topic = scraped(registry), consumer.store.topic
    told = {labels[1:]: n for (name, labels), n in samples.items() if name == "hitparade_events_total"}
    outcomes = {outcome: sum(n for (found, _), n in told.items() if found == outcome) for outcome, _ in told}
    assert outcomes == {name: n for name, n in consumer.tallies.items() if ":" not in name}
    assert samples["hitparade_apply_seconds_count", (topic,)] > 0
    assert samples["hitparade_batch_seconds_count", (topic,)] > samples["hitparade_apply_seconds_count", (topic,)]
    assert samples["hitparade_batch_seconds_sum", (topic,)] > 0
    errors = {what: samples["hitparade_errors_total", (topic, what)] for what in ("kafka", "redis")}
    assert errors == {"kafka": 0, "redis": 1}
    assert samples["hitparade_live", ()] == samples["hitparade_ready", ()] == 0


def test_where_partitions_stand_is_told_while_they_are_held(counted: Counted) -> None:

    consumer = wiring.session_consumer(counted.settings, False)
    registry = metrics.counting(consumer)
    topic, fences = consumer.store.topic, counted.store.fences(range(PARTITIONS))
    with running(consumer):
        wait_until(lambda: consumer.health.state(consumer.clock()).ready, "the consumer")
        wait_until(
            lambda: len([1 for name, _ in scraped(registry) if name == "hitparade_lag_records"]) == len(fences),
            what="the lags",
        )
        samples = scraped(registry)
    for partition, fence in fences.items():
        labels = (topic, str(partition))
        assert samples["hitparade_next_offset", labels] == fence.next_offset
        assert samples["hitparade_lag_records", labels] == 0
        if fence.stream_time:
            assert samples["hitparade_stream_timestamp_seconds", labels] == fence.stream_time.timestamp()
    assert samples["hitparade_assigned_partitions_total", (topic,)] == len(fences)
    assert samples["hitparade_ready", ()] == samples["hitparade_live", ()] == 1
    assert samples["process_resident_memory_bytes", ()] > 1e6


def test_the_weekly_consumer_tells_of_its_last_run_and_of_triggers() -> None:
    run, _ = failing(StoreUnavailable("away"))
    consumer = TriggerConsumer(Given(b"junk", wire("2023-W20")), run, Hasty())
    registry = metrics.weekly(consumer)
    assert "hitparade_run_seconds" not in {name for name, _ in scraped(registry)}
    assert consumer.consume(until_idle=True) == 1
    made = [a_list(group="control", revision=3), a_list(group="treatment", model="naive", fallback="none is trained")]
    consumer.last = LastRun(1700000000.0, 12.5, made)
    samples = scraped(registry)
    documented(samples, LOOP, WEEKLY)
    expected = {
        ("hitparade_triggers_total", ("run",)): 1,
        ("hitparade_triggers_total", ("failed",)): 1,
        ("hitparade_triggers_total", ("refused",)): 1,
        ("hitparade_run_timestamp_seconds", ()): 1700000000,
        ("hitparade_run_seconds", ()): 12.5,
        ("hitparade_playlist_revision", ("control", "2025-W12")): 3,
        ("hitparade_playlist_revision", ("treatment", "2025-W12")): 1,
        ("hitparade_playlist_fallback", ("control",)): 0,
        ("hitparade_playlist_fallback", ("treatment",)): 1,
        ("hitparade_playlist_model_info", ("treatment", "naive", "2025-W11-0a1b2c3d")): 1,
    }
    assert {name: samples[name] for name in expected} == expected


def test_the_service_tells_the_figures_the_lists_and_its_requests(tmp_path: Path) -> None:
    made = parts(tmp_path, a_list("2025-W12"), a_list("2025-W13", revision=2))
    tallies = {"counted": 90, "dead": 3, "dead:json": 2, "dead:future": 1}
    partitions = (
        PartitionFigures(partition=0, next_offset=40, lag=2, stream_time=NOW),
        PartitionFigures(partition=1, next_offset=50, lag=None, stream_time=None),
    )
    sessions = TopicFigures(topic="s", partitions=partitions, tallies=tallies, events_per_s=None)
    figures = made.memory.figures
    away = figures.redis.model_copy(update={"ok": False})
    made.memory.figures = figures.model_copy(update={"sessions": sessions, "redis": away})
    for week in ("2025-W12", "2025-W11"):
        judged = evaluation(week, rbo=int(week[-2:]) / 100).model_copy(update={"naive": {"rbo": 0.4}})
        made.memory.judged.take(judged.model_dump_json().encode())
    made.reports.keep(Report.model_validate(REPORT))
    (made.reports.folder / "other.json").write_text("junk")
    visitor = client(made)
    for path in ("/playlists/2025-W12", "/playlists/2025-W13", "/playlists/nonsense", "/x" * 50, "/y"):
        visitor.get(path)
    visitor.request("BREW", "/livez")
    answer = visitor.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = read(answer.text)
    documented(samples, SERVICE)
    expected = {
        ("hitparade_ready", ()): 1,
        ("hitparade_reachable", ("kafka",)): 1,
        ("hitparade_reachable", ("redis",)): 0,
        ("hitparade_stored_events_total", ("s", "counted", "")): 90,
        ("hitparade_stored_events_total", ("s", "dead", "json")): 2,
        ("hitparade_next_offset", ("s", "1")): 50,
        ("hitparade_lag_records", ("s", "0")): 2,
        ("hitparade_stream_timestamp_seconds", ("s", "0")): NOW.timestamp(),
        ("hitparade_lists", ()): 2,
        ("hitparade_playlist_revision", ("control", "2025-W13")): 2,
        ("hitparade_evaluation_ratio", ("control", "rbo", "list")): 0.12,
        ("hitparade_evaluation_ratio", ("control", "rbo", "naive")): 0.4,
        ("hitparade_sample_ratio_p_value", ("two-lists", "users")): 0.0002,
        ("hitparade_event_readers", ()): 0,
        ("hitparade_http_requests_total", ("/playlists/{week}", "GET", "200")): 2,
        ("hitparade_http_requests_total", ("/playlists/{week}", "GET", "422")): 1,
        ("hitparade_http_requests_total", ("none", "GET", "404")): 2,
        ("hitparade_http_requests_total", ("/livez", "other", "405")): 1,
        ("hitparade_http_request_seconds_count", ("/playlists/{week}",)): 3,
    }
    assert {name: samples.get(name) for name in expected} == expected
    assert samples["hitparade_report_timestamp_seconds", ("two-lists",)] > 1.7e9
    assert {labels[1] for (name, labels) in samples if name == "hitparade_evaluation_ratio"} == {"rbo"}
    assert ("hitparade_stored_events_total", ("s", "dead", "")) not in samples
    assert ("hitparade_lag_records", ("s", "1")) not in samples


def test_readers_of_events_are_counted_while_they_read(tmp_path: Path) -> None:
    made = parts(tmp_path)
    with served(build(made)) as port, connected(port) as reader:
        reader.sendall(request("GET", "/events", closes=False))
        reader.recv(1000)
        samples = read(client(made).get("/metrics").text)
        assert samples["hitparade_event_readers", ()] == 1

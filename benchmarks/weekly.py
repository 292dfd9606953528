"""The weekly run at size: a million tracks from a real Redis to published lists, and up to ten million slice by slice.

Both models make a list; the network has been trained on less before. Redis is filled, and histories are written, by the
product's own code, before the clock starts. Peaks are those of the process that runs, its libraries included.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.catalogue import GROUPS, Counted, Service, track_of, week_of
from benchmarks.kept import Row
from consumers.kafka import TopicWatch
from consumers.sessions import fence_settings
from features.history import History
from hitparade import wiring
from hitparade.embedded import embedded
from hitparade.settings import Settings
from models.registry import Registry
from models.scorers import NEURAL
from producers.playlists import Playlist
from producers.topics import ensure_topics, topic_specs

MILLION = 1_000_000
TRACKS_PER_SLICE = 62_500
MOST_S, MOST_MIB = 60, 1024
MOST_GROWTH = 1.5  # of ten times the tracks, and ten times the artists, which are kept in memory
SIZES = (MILLION, 10 * MILLION)
LEARNED_FROM, LEARNED_TRACKS = range(-14, 0), 2_000


def run() -> Iterator[Row]:
    """First with a Redis, then from history alone: ten million tracks and four weeks would be 3 GB of Redis."""
    with TemporaryDirectory(prefix="hitparade-bench-") as folder:
        trained(Path(folder) / "models")
        yield from counted(Path(folder))
        yield from sliced(Path(folder))


def trained(models: Path) -> None:
    """Put a network in use that has learned from weeks before the first."""
    from models.training import train

    with TemporaryDirectory() as folder:
        history = History(Path(folder))
        Service(LEARNED_TRACKS, 1).write(history, LEARNED_FROM)
        network = train(history, week_of(-1).name)
    registry = Registry(models)
    registry.publish(NEURAL, network.model.version, network.save)
    registry.promote(NEURAL, network.model.version)


def counted(folder: Path) -> Iterator[Row]:
    """A million tracks in Redis: four weeks to be read, twelve, and then one more."""
    service = Service(MILLION, MILLION // TRACKS_PER_SLICE)
    with embedded() as stack:
        more = {"HITPARADE_SLICES": str(service.n_slices), "HITPARADE_WEEKS_KEPT": "14"}
        env = {**os.environ, **stack.environment, **more}
        settings = Settings.from_env(env)
        sessions, tracks = topics_of(settings)
        tracks.enter(service)
        for week in range(4):
            sessions.count(service, week)
        sessions.open_week(4)

        older = data_folder(folder, "four")
        service.write(History(older / "history"), range(-1, 0), catalogue=False)  # to learn from: linear wants five
        found = weekly_run(env, older, 3, service)
        yield row("weekly:million", "a million tracks x 4 weeks, all read from Redis", found)
        yield {
            "name": "weekly:read",
            "a_week_s": round(seconds(found, "read weeks") / 4, 2),
            "a_week_cpu_s": round(cpu(found, "read weeks") / 4, 2),
            "catalogue_s": round(seconds(found, "read catalogue"), 2),
            "catalogue_cpu_s": round(cpu(found, "read catalogue"), 2),
            "what": "a million tracks of two groups from Redis into Parquet",
        }

        for week in range(4, 12):
            sessions.count(service, week)
        sessions.open_week(12)
        longer = data_folder(folder, "twelve")
        found = weekly_run(env, longer, 11, service)
        yield row("weekly:million-twelve", "a million tracks x 12 weeks, all read from Redis", found)

        sessions.count(service, 12)
        sessions.open_week(13)
        found = weekly_run(env, longer, 12, service)
        yield row("weekly:million-next", "the week after: one week read, last week's lists judged", found)


def topics_of(settings: Settings) -> tuple[Counted, Counted]:
    """The topics are made, and nothing is in them; Redis will say that everything has been read."""
    ensure_topics(settings.kafka, topic_specs(settings.topics, settings.partitions, settings.weeks_kept))
    assignment = wiring.experiments(settings).in_force(week_of(0))
    assert assignment.group_names == GROUPS
    found = []
    with contextlib.closing(TopicWatch(settings.kafka)) as watch:
        for store in (wiring.session_store(settings), wiring.track_store(settings)):
            facts = watch.facts(store.topic)
            fenced = fence_settings(wiring.rules(settings), store.slices)
            found.append(Counted(store, len(facts.partitions), facts.topic_id, fenced, assignment.fingerprint))
    return found[0], found[1]


def data_folder(folder: Path, name: str) -> Path:
    """An empty one, but for the models."""
    made = folder / name
    made.mkdir()
    (made / "models").symlink_to(folder / "models")
    return made


def weekly_run(env: Mapping[str, str], data: Path, week: int, service: Service) -> Row:
    """`hitparade trigger` and `hitparade consume weekly --until-idle`; the lists are checked."""
    env = {**env, "HITPARADE_DATA_DIR": str(data)}
    subprocess.run([sys.executable, "-m", "hitparade", "trigger"], env=env, check=True, stdout=subprocess.DEVNULL)
    found, errors = phases(env, "consume", "weekly", "--until-idle")
    log = wiring.playlist_log(Settings.from_env(env))
    log.refresh()
    lists = list(log.of_week(week_of(week + 1).name))
    check(lists, week, service, errors)
    spent = found["phases"]
    whole, catalogue = spent.pop("read"), spent["read catalogue"]
    spent["read weeks"] = [whole[0] - catalogue[0], whole[1] - catalogue[1]]
    return found


def phases(env: Mapping[str, str], *arguments: str) -> tuple[Row, str]:
    """What the stop-watches of one process say, and what it wrote to standard error."""
    command = [sys.executable, "-m", "benchmarks.phases", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found, done.stderr


def check(lists: Sequence[Playlist], week: int, service: Service, errors: str) -> None:
    """Refuse to time lists that are wrong."""
    made = {playlist.group: playlist for playlist in lists}
    if {group: (made[group].model, made[group].fallback) for group in made} != {
        "control": ("linear", None),
        "treatment": ("neural", None),
    }:
        raise RuntimeError(f"expected a list by each model, found {lists}:\n{errors[-3000:]}")
    for playlist in lists:
        assert len(playlist.tracks) == 50
        for entry in playlist.tracks[::10]:
            truth = [service.plays(n, track_of(entry.track_id)) for n in range(week - 3, week + 1)]
            assert list(entry.plays) == truth, (entry, truth)


def sliced(folder: Path) -> Iterator[Row]:
    """More and more tracks from history alone: what a run does between reading and publishing."""
    peaks: dict[int, float] = {}
    for n_tracks in SIZES:
        data = data_folder(folder, str(n_tracks))
        service = Service(n_tracks, n_tracks // TRACKS_PER_SLICE)
        service.write(History(data / "history"), range(-1, 4))
        found, errors = phases(os.environ, "rank", str(data), week_of(3).name)
        check(
            [Playlist.model_validate_json(line) for line in errors.splitlines() if line[0] == "{"], 3, service, errors
        )
        peaks[n_tracks] = found["peak_mib"]
        growth = peaks[n_tracks] / peaks[SIZES[0]]
        yield {
            "name": "weekly:ten-million" if n_tracks == SIZES[-1] else "weekly:one-million-slices",
            "target": f"{n_tracks:,} tracks in {service.n_slices} slices in less than {MOST_MIB} MiB, and in less than "
            f"{MOST_GROWTH} times the memory of {SIZES[0]:,}",
            "holds": peaks[n_tracks] < MOST_MIB and growth < MOST_GROWTH,
            "tracks": n_tracks,
            "peak_mib": round(peaks[n_tracks]),
            "growth": round(growth, 2),
            **told(found),
        }


def row(name: str, what: str, found: Row) -> Row:
    """A weekly run with its servers; its seconds are those of the run, not of joining its consumer group."""
    return {
        "name": name,
        "target": f"{what}, in less than {MOST_S} s and {MOST_MIB} MiB",
        "holds": seconds(found, "run") < MOST_S and found["peak_mib"] < MOST_MIB,
        "tracks": MILLION,
        "seconds": round(seconds(found, "run"), 1),
        "cpu_s": round(cpu(found, "run"), 1),
        "peak_mib": round(found["peak_mib"]),
        **told(found),
    }


def told(found: Row) -> Row:
    """Seconds, and CPU seconds, by phase."""
    return {
        f"{phase.replace(' ', '_')}_s": [round(wall, 1), round(busy, 1)]
        for phase, (wall, busy) in found["phases"].items()
        if phase != "run"
    }


def seconds(found: Row, phase: str) -> float:
    """By the clock."""
    return float(found["phases"][phase][0])


def cpu(found: Row, phase: str) -> float:
    """Of the processor."""
    return float(found["phases"][phase][1])

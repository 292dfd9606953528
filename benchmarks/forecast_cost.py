"""What the network costs, in seconds of the one core that it uses, so that what else runs there hardly counts.

python -m benchmarks.forecast_cost HISTORY scores one, in a process of its own.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from features.history import CountRow, History, counts_of
from features.table import tables
from features.tracks import AUDIO_FEATURES, Track
from features.weeks import Calendar
from models.examples import weeks_before
from models.neural import Network, NeuralModel
from models.training import train

FIRST, AUDIO = Calendar().parse("2023-W01"), dict.fromkeys(AUDIO_FEATURES, 0.5)
TRAINED_ON = (140, 2_800)
SCORED = (250_000, 1_000_000)
N_SLICES = 64
MOST_TRAINING_S, MOST_SCORING_S, MOST_GROWTH = 120, 10, 1.5


def training() -> dict[str, Any]:
    """Time one training as production does it, examples and card included."""
    n_weeks, n_tracks = TRAINED_ON
    with TemporaryDirectory() as folder:
        history = written(Path(folder), n_weeks, n_tracks, 1)
        begun = time.process_time()
        trained = train(history, history.weeks()[-1])
        seconds = time.process_time() - begun
    return {
        "name": "forecast:neural-training",
        "target": f"{n_weeks} weeks x {n_tracks:,} tracks in less than {MOST_TRAINING_S} s of one core",
        "holds": seconds < MOST_TRAINING_S,
        "cpu_s": round(seconds, 1),
        "epochs": trained.card.epochs + trained.card.best_epoch,
    }


def scoring() -> dict[str, Any]:
    """Time the scoring of a million tracks, and see how peak memory grows with their number."""
    few, many = (_scored(n_tracks) for n_tracks in SCORED)
    growth = many["peak_mib"] / few["peak_mib"]
    return {
        "name": "forecast:neural-scoring",
        "target": f"{SCORED[1]:,} tracks in less than {MOST_SCORING_S} s of one core, and in less than {MOST_GROWTH} "
        f"times the memory of {SCORED[0]:,}",
        "holds": many["cpu_s"] < MOST_SCORING_S and growth < MOST_GROWTH,
        **many,
        f"peak_mib_{SCORED[0]}": few["peak_mib"],
    }


def _scored(n_tracks: int) -> dict[str, float]:
    with TemporaryDirectory() as folder:
        written(Path(folder), 4, n_tracks, N_SLICES)
        command = [sys.executable, "-m", "benchmarks.forecast_cost", folder]
        found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def written(folder: Path, n_weeks: int, n_tracks: int, n_slices: int) -> History:
    """A history in which every track is played every week, about its own rate."""
    draw, history = np.random.default_rng(1), History(folder)
    rates = 100_000 / np.arange(1, n_tracks + 1) ** 0.8
    ids = [f"track{n:07}" for n in range(n_tracks)]
    parts = [slice(n, None, n_slices) for n in range(n_slices)]
    history.write_catalogue(([_track(i) for i in ids[part]] for part in parts), {})
    for n in range(n_weeks):
        plays = (draw.poisson(rates * draw.lognormal(0, 0.3, n_tracks)) + 1).tolist()
        history.write_week(FIRST.after(n).name, (counts_of(_rows(ids[part], plays[part])) for part in parts), {})
    return history


def _track(track_id: str) -> str:
    number = int(track_id[5:])
    known = {"id": track_id, "id_artist": f"a{number % 997}", "release_date": f"20{number % 22:02}-07-05"}
    return Track.model_validate(known | AUDIO).model_dump_json()


def _rows(ids: list[str], plays: list[int]) -> Iterator[CountRow]:
    return zip(ids, repeat("all"), plays, repeat(0), repeat(0), strict=False)


def _score(folder: Path) -> dict[str, float]:
    """Read and score slice after slice; how much the peak of memory rose."""
    history, model = History(folder), NeuralModel(Network().double().eval(), "untrained")
    before, begun, scoring_s, n_tracks = _peak_mib(), time.process_time(), 0.0, 0
    for table in tables(history, weeks_before(FIRST.after(4).name)):
        scored = time.process_time()
        n_tracks += len(model.score(table))
        scoring_s += time.process_time() - scored
    seconds = time.process_time() - begun
    return {
        "tracks": n_tracks,
        "cpu_s": round(scoring_s, 1),
        "with_reading_cpu_s": round(seconds, 1),
        "peak_mib": round(_peak_mib() - before),
    }


def _peak_mib() -> float:
    """Of this process alone: what getrusage says begins on Linux with the peak of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    print(json.dumps(_score(Path(sys.argv[1]))))

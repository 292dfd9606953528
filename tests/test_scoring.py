"""The work of a weekly run, part by part: the same wherever and in whatever parts it is done."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consumers.scoring import Charting, Failure, Scored, Scoring
from features.context import merged
from features.history import History
from features.runners import Runner, here, in_processes
from models import examples, linear
from models.ranking import Best
from models.scorers import Fitted, open_naive
from models.scoring import ScoringError
from tests.builders_history import listening, weeks

CLOSED = weeks(14)[-1]


def untold(n_parts: int) -> None:
    pass


def fails(table: Any) -> Any:
    raise ScoringError(f"{len(table.track_ids)} of {len(table.track_ids)} scores are not finite")


class Unportable(Exception):
    """It holds what no other process can be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def breaks(table: Any) -> Any:
    raise Unportable


def run(history: History, runner: Runner, rows_at_once: int, **more: Fitted) -> list[Scored]:
    nothing: Any = None
    fitted = linear.fit(examples.linear_examples(history, CLOSED))
    models = {
        "naive": open_naive(history, nothing, CLOSED),
        "linear": Fitted("linear", fitted.version, fitted.score),
        **more,
    }
    parts = history.parts(weeks(14)[-12:], rows_at_once)
    chart = merged(runner(Charting(history, CLOSED), parts, untold))
    return list(runner(Scoring(history, CLOSED, chart, models, 4), parts, untold))


def lists(parts: list[Scored]) -> dict[str, list[object]]:
    best: dict[str, Best] = {}
    for part in parts:
        for model, places in {**part.best, "most played": part.most_played}.items():
            best.setdefault(model, Best()).merge(places)
    return {model: list(places.places) for model, places in best.items()}


def rows(parts: list[Scored]) -> list[object]:
    return sorted((row for part in parts for row in part.rows.to_pylist()), key=lambda row: str(row["track_id"]))


def test_the_parts_give_the_lists_and_rows_of_the_whole(tmp_path: Path) -> None:
    history = listening(tmp_path, 14)
    (whole,) = run(history, here, 10**6)
    parts = run(history, here, 1)
    assert len(parts) == 4
    assert lists(parts) == lists([whole])
    assert repr(rows(parts)) == repr(rows([whole]))
    assert len(lists(parts)["linear"]) == 50


def test_processes_give_what_this_one_gives(tmp_path: Path) -> None:
    history = listening(tmp_path, 14)
    ours, theirs = run(history, here, 1), run(history, in_processes(2), 1)
    assert [repr(part.rows.to_pylist()) for part in theirs] == [repr(part.rows.to_pylist()) for part in ours]
    assert lists(ours) == lists(theirs)


def test_a_model_that_fails_is_told_for_every_part_and_its_columns_are_empty(tmp_path: Path) -> None:
    history = listening(tmp_path, 14)
    for part in run(history, here, 1, neural=Fitted("neural", "1", fails)):
        n_tracks = len(part.rows)
        assert part.failures == {"neural": Failure(f"{n_tracks} of {n_tracks} scores are not finite", "")}
        assert part.best.keys() == {"naive", "linear"}
        assert np.isnan(part.rows["score_neural"].to_numpy()).all()


def test_a_failure_reads_the_same_from_another_process(tmp_path: Path) -> None:
    history = listening(tmp_path, 14)
    for runner in (here, in_processes(2)):
        for part in run(history, runner, 1, neural=Fitted("neural", "1", breaks)):
            assert part.failures["neural"].reason == "it failed with Unportable"
            assert "in breaks\n    raise Unportable" in part.failures["neural"].details


def test_naive_failing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ScoringError):
        run(listening(tmp_path, 14), here, 1, naive=Fitted("naive", "1", fails))

"""Runs against what happened and against each other, on weeks so small that the answers can be worked out by hand."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from consumers.comparison import Move, Ranking, against, differences, read_ranking
from consumers.evaluations import evaluate_lists
from consumers.runs import TRACKS, RunError, RunName, Runs, rows_of
from features.history import History
from features.weeks import Calendar
from models.metrics import evaluate
from producers.playlists import Playlist
from tests.builders_history import table, track, write_catalogue, write_week
from tests.commands import Ended, run

Capture = pytest.CaptureFixture[str]
WEEK, LOG3 = "2023-W05", math.log2(3)
COUNTS = {"a": (8, 1, 1, 1), "b": (0, 2, 2, 2), "c": (0, 0, 0, 5), "z": (9, 9, 9, 9)}
HAPPENED = {"a": 4, "b": 6, "z": 50}
"""z is in no catalogue. Over 1, 4 and 5 weeks: b a (c has none), b a c (12, 7, 5), a b c (15, 12, 5)."""
PREDICTIONS = {
    "linear": (2.0, 3.0, 3.5, 99.0),  # over 1, 4 and 5 weeks: c b a, b c a, a b c
    "neural": (5.0, 1.0, 4.0, 99.0),  # a c b, c a b, a c b
    "naive": (1.0, 2.0, 5.0, 9.0),  # c b a, c b a, a c b
}
LISTED = {"linear": "bca", "neural": "cab", "naive": "cba"}
CONTROL, TREATMENT = f"{WEEK}/1/control", f"{WEEK}/1/treatment"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of commands; nothing is in it."""
    for name in [name for name in os.environ if name.startswith("HITPARADE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HITPARADE_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def data(folder: Path) -> Path:
    """A linear and a neural run for 2023-W05, and what happened."""
    keep(folder)
    happen(folder)
    return folder


def a_list(group: str, model: str, ids: Sequence[str], week: str = WEEK) -> Playlist:
    entries = [
        {"rank": rank, "track_id": track_id, "name": "", "score": 0.0, "plays": COUNTS[track_id]}
        for rank, track_id in enumerate(ids, 1)
    ]
    fields = {"week": week, "closed_week": "2023-W04", "group": group, "experiment": "e", "model": model}
    more: dict[str, object] = {"model_version": f"{model}-1", "fallback": None, "cut": {}, "tracks": entries}
    return Playlist.model_validate(fields | more).following(None)


def keep(folder: Path, groups: Mapping[str, str] | None = None, week: str = WEEK, revision: int = 1) -> Runs:
    """A run of all three models, and a list of `linear` for control and of `neural` for treatment."""
    runs = Runs(folder / "runs")
    kept = runs.start(week)
    whole = table(COUNTS)
    predictions = {model: np.array(plays) for model, plays in PREDICTIONS.items()}
    names = np.array([f"Song {track_id}" for track_id in whole.track_ids], object)
    kept.add(rows_of(replace(whole, names=names, listed=whole.track_ids != "z"), predictions, predictions))
    groups = groups or {"control": "linear", "treatment": "neural"}
    lists = {group: a_list(group, model, LISTED[model], week) for group, model in groups.items()}
    kept.keep(revision, {group: playlist.model_dump_json().encode() for group, playlist in lists.items()})
    kept.discard()
    return runs


def happen(folder: Path, last_week: bool = True) -> History:
    history = History(folder / "history")
    for n in range(4):
        week = {track_id: counts[n] for track_id, counts in COUNTS.items() if counts[n]}
        write_week(history, f"2023-W0{n + 1}", week)
    if last_week:
        write_week(history, WEEK, HAPPENED)
    write_catalogue(history, [track(track_id) for track_id in "abc"])
    return history


def row(capsys: Capture, *arguments: str) -> dict[str, Any]:
    ended = run(capsys, "compare", *arguments, "--json")
    assert (ended.code, ended.err) == (0, "")
    (found,) = ended.rows()
    return found


def about(number: float) -> Any:
    """A quotient of two numbers that have six decimals."""
    return pytest.approx(number, abs=2e-6)


# Against what happened


def test_a_run_is_judged_by_what_happened_over_the_span_of_lists_beside_naive(data: Path, capsys: Capture) -> None:
    found = row(capsys, CONTROL)
    ideal = 12 + 7 / LOG3 + 5 / 2
    assert 0 < found["metrics"].pop("rbo") < 1
    assert 0 < found["naive"].pop("rbo") < 1
    assert found == {
        "run": CONTROL,
        "week": WEEK,
        "revision": 1,
        "group": "control",
        "model": "linear",
        "model_version": "linear-1",
        "fallback": None,
        "span_weeks": 4,
        "n_ranked": 3,
        "against": None,
        "study": False,
        "known": True,
        "metrics": {  # b c a
            "precision_at_50": 1.0,
            "ndcg_at_50": round((12 + 5 / LOG3 + 7 / 2) / ideal, 6),
            "captured_plays": 1.0,
            "criterion": 8.333333,  # 10 * (0 + 1/2 + 1/3)
            "exact_places": 1,
        },
        "naive": {  # c b a
            "precision_at_50": 1.0,
            "ndcg_at_50": round((5 + 12 / LOG3 + 7 / 2) / ideal, 6),
            "captured_plays": 1.0,
            "criterion": 28.333333,  # 10 * (1/1 + 1/2 + 4/3)
            "exact_places": 0,
        },
    }


def test_what_a_list_was_worth_is_what_its_evaluation_says(data: Path, capsys: Capture) -> None:
    playlist = a_list("control", "linear", LISTED["linear"])
    week, history = Calendar().parse(WEEK), History(data / "history")
    predictions = pd.read_parquet(data / "runs" / WEEK / "1" / TRACKS)
    predictions["score_linear"] = [5.0, 9.0, 8.5, 126.0]  # as a weekly run keeps it
    predictions.to_parquet(data / "runs" / WEEK / "1" / TRACKS)
    (evaluation,) = evaluate_lists(week, history, Runs(data / "runs"), [playlist], 4)
    found = row(capsys, CONTROL)
    assert (found["metrics"], found["naive"], found["n_ranked"]) == (
        evaluation.metrics,
        evaluation.naive,
        evaluation.n_ranked,
    )


@pytest.mark.parametrize(
    ("arguments", "span_weeks", "criterion", "naives"),
    [
        ((CONTROL, "--span", "1"), 1, 15.0, 15.0),  # c b a, true b a: 10 * (1/1 + 1/2)
        ((CONTROL, "--span", "4"), 4, 8.333333, 28.333333),
        ((CONTROL, "--span", "5"), 5, 0.0, 8.333333),  # a b c, true a b c; naive a c b
        ((CONTROL, "--study"), 5, 0.0, 8.333333),
        ((TREATMENT, "--study"), 4, 53.333333, 28.333333),  # c a b, true b a c: 10 * (4/1 + 0 + 4/3)
    ],
)
def test_the_study_added_three_weeks_to_its_network_and_four_to_its_linear_model(
    arguments: Sequence[str], span_weeks: int, criterion: float, naives: float, data: Path, capsys: Capture
) -> None:
    found = row(capsys, *arguments)
    assert (found["span_weeks"], found["study"]) == (span_weeks, "--study" in arguments)
    assert (found["metrics"]["criterion"], found["naive"]["criterion"]) == (criterion, naives)


def test_the_span_of_lists_is_the_setting(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("HITPARADE_LIST_SPAN_WEEKS", "1")
    keep(data, {"control": "naive"})  # c b a over one week too
    assert row(capsys, CONTROL)["span_weeks"] == 1
    assert row(capsys, CONTROL, "--span", "4")["span_weeks"] == 4


def test_a_list_that_was_made_over_another_span_is_not_judged_over_this_one(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("HITPARADE_LIST_SPAN_WEEKS", "1")
    ended = run(capsys, "compare", CONTROL)
    assert ended == Ended(
        1,
        "",
        f"hitparade: run {CONTROL} did not list what its tracks give over 1 weeks: if HITPARADE_LIST_SPAN_WEEKS was "
        "another then, say it with --span\n",
    )


def test_before_the_week_has_closed_what_happened_is_not_known(folder: Path, capsys: Capture) -> None:
    keep(folder)
    happen(folder, last_week=False)
    ended = run(capsys, "compare", CONTROL)
    assert (ended.code, ended.out) == (1, "")
    assert f"what happened in {WEEK} is not known: the history in {folder} has 2023-W01 to 2023-W04" in ended.err


def test_a_week_that_the_list_was_made_from_and_history_has_lost_is_not_taken_for_one_without_plays(
    data: Path, capsys: Capture
) -> None:
    (data / "history" / "weeks" / "2023-W03.parquet").unlink()
    assert "what happened in 2023-W03 is not known" in run(capsys, "compare", CONTROL).err
    # Over two weeks it is not needed: c b a (8.5, 5, 3), true b a c (8, 5, 5): 10 * (1/1 + 1/2 + 4/3)
    assert row(capsys, CONTROL, "--span", "2")["metrics"]["criterion"] == 28.333333


def test_a_week_before_the_first_one_counted_is_missed_by_nobody(data: Path, capsys: Capture) -> None:
    playlist = a_list("control", "linear", LISTED["linear"])
    entries = tuple(e.model_copy(update={"plays": (0, 0, *e.plays[2:])}) for e in playlist.tracks)
    record = playlist.model_copy(update={"tracks": entries}).model_dump_json()
    (data / "runs" / WEEK / "1" / "control.json").write_text(record)
    (data / "history" / "weeks" / "2023-W02.parquet").unlink()
    assert row(capsys, CONTROL)["known"] is True
    (data / "history" / "weeks" / "2023-W03.parquet").unlink()
    assert "what happened in 2023-W03 is not known" in run(capsys, "compare", CONTROL).err


def test_naives_week_is_needed_whatever_the_span(data: Path, capsys: Capture) -> None:
    (data / "history" / "weeks" / "2023-W04.parquet").unlink()
    assert "what happened in 2023-W04 is not known" in run(capsys, "compare", CONTROL, "--span", "1").err


# Against another run


def test_the_second_run_is_the_truth_that_the_first_is_judged_by(data: Path, capsys: Capture) -> None:
    found = row(capsys, TREATMENT, CONTROL)
    assert found["metrics"]["criterion"] == 48.333333  # c a b, true b c a: 10 * (4/1 + 1/2 + 1/3)
    assert found["metrics"]["ndcg_at_50"] == about((5 + 7 / LOG3 + 12 / 2) / (12 + 5 / LOG3 + 7 / 2))
    assert (found["run"], found["against"]["run"], found["naive"]) == (TREATMENT, CONTROL, None)
    assert row(capsys, CONTROL, TREATMENT)["metrics"]["criterion"] == 28.333333  # b c a, true c a b


def test_the_study_held_a_ranking_of_four_weeks_against_one_of_five(data: Path, capsys: Capture) -> None:
    found = row(capsys, TREATMENT, CONTROL, "--study")
    assert (found["span_weeks"], found["against"]["span_weeks"]) == (4, 5)
    assert found["metrics"]["criterion"] == 28.333333  # c a b, true a b c: 10 * (1/1 + 1/2 + 4/3)
    assert found["metrics"]["ndcg_at_50"] == about((5 + 15 / LOG3 + 12 / 2) / (15 + 12 / LOG3 + 5 / 2))


def test_a_run_is_all_that_the_same_run_has(data: Path, capsys: Capture) -> None:
    found = row(capsys, CONTROL, CONTROL)
    assert set(found["metrics"].values()) == {1.0, 0.0, 3}
    assert (found["metrics"]["criterion"], found["metrics"]["exact_places"]) == (0.0, 3)
    assert found["entered"] == found["left"] == found["moved"] == []


@pytest.mark.parametrize("is_same_week", [True, False])
def test_shares_of_plays_are_left_out_where_they_are_not_known_or_of_another_week(
    is_same_week: bool, folder: Path, capsys: Capture
) -> None:
    keep(folder)
    happen(folder, last_week=not is_same_week)
    keep(folder, week="2023-W04")
    other = CONTROL if is_same_week else "2023-W04/1/control"
    found = row(capsys, TREATMENT, other)
    assert found["known"] is False
    assert [name for name, value in found["metrics"].items() if value is None] == ["ndcg_at_50", "captured_plays"]
    assert found["metrics"]["criterion"] == 48.333333


IDS = [f"t{n:02}" for n in range(1, 53)]


def test_a_better_list_than_the_truth_has_more_than_all_of_its_plays() -> None:
    facts = dict.fromkeys(IDS, 1) | {"t01": 11}
    metrics = against(IDS[:50], IDS[1:51], (evaluate(IDS[:50], facts), evaluate(IDS[1:51], facts)))
    assert metrics["precision_at_50"] == 0.98
    assert metrics["captured_plays"] == pytest.approx(60 / 50)
    assert metrics["ndcg_at_50"] is not None
    assert metrics["ndcg_at_50"] > 1
    nothing = evaluate(IDS, {"x": 3})
    assert against(IDS, IDS, (nothing, nothing))["captured_plays"] is None


def ranking(track_ids: Sequence[str]) -> Ranking:
    names = {track_id: f"Song {track_id}" for track_id in track_ids[:50]}
    return Ranking(RunName(WEEK, 1, "control"), "linear", 4, list(track_ids), names)


def test_what_differs_is_who_entered_who_left_and_who_moved_the_furthest_first() -> None:
    # t52 comes in first, t01 and t03 change places, all others lose a place
    first = ranking(["t52", "t03", "t02", "t01", *IDS[3:50]])
    found = differences(first, ranking(IDS[:51]))
    assert found.entered == [Move("t52", "Song t52", 1, None)]
    assert found.left == [Move("t50", "Song t50", 51, 50)]
    assert [(m.track_id, m.place, m.place_against) for m in found.moved[:3]] == [
        ("t01", 4, 1),
        ("t03", 2, 3),
        ("t02", 3, 2),
    ]
    assert len(found.moved) == 49


# What is kept


def test_alone_it_lists_the_runs_and_whether_what_happened_is_known(data: Path, capsys: Capture) -> None:
    keep(data, {"control": "naive"}, "2023-W06", revision=10)
    keep(data, {"control": "linear"}, "2023-W06", revision=9)
    ended = run(capsys, "compare", "--json")
    assert [(r["run"], r["model"], r["model_version"], r["fallback"], r["known"]) for r in ended.rows()] == [
        (CONTROL, "linear", "linear-1", None, True),
        (TREATMENT, "neural", "neural-1", None, True),
        ("2023-W06/9/control", "linear", "linear-1", None, False),
        ("2023-W06/10/control", "naive", "naive-1", None, False),
    ]
    assert "not known yet" in run(capsys, "compare").out


def test_before_a_run_is_kept_there_is_none_and_a_hint(folder: Path, capsys: Capture) -> None:
    assert run(capsys, "compare", "--json") == Ended(0, "", "")
    assert "run `hitparade trigger` and `hitparade consume weekly`" in run(capsys, "compare").out


def test_what_is_no_run_is_not_listed_and_what_is_broken_is_named(data: Path, capsys: Capture) -> None:
    for path in (".1.tmp/control.json", "²/control.json", "0/control.json", "1/x y.json"):
        file = data / "runs" / WEEK / path
        file.parent.mkdir(exist_ok=True)
        file.write_text("{}")
    (data / "runs" / WEEK / "1" / "control.json").write_text("{")
    ended = run(capsys, "compare", "--json")
    assert [(r["run"], r["model"]) for r in ended.rows()] == [(CONTROL, None), (TREATMENT, "neural")]
    assert f"run {CONTROL} cannot be used: control.json" in ended.err
    assert "cannot be read" in run(capsys, "compare").out


# What people see


def test_the_table_says_who_ranked_by_what_and_naive_once(data: Path, capsys: Capture) -> None:
    out = run(capsys, "compare", CONTROL).out
    assert out.splitlines()[0].rstrip() == f"{CONTROL} against what happened"
    assert out.splitlines()[-1] == f"{CONTROL}: linear linear-1, by prediction + 3 known weeks"
    assert [line.split()[1] for line in out.splitlines() if line.startswith("│")] == ["linear", "naive"]
    assert "by prediction alone" in run(capsys, "compare", CONTROL, "--span", "1").out
    keep(data, {"control": "naive"})
    record = a_list("control", "naive", LISTED["naive"]).model_copy(update={"fallback": "\x1b[31mred"})
    (data / "runs" / WEEK / "1" / "control.json").write_text(record.model_dump_json())
    lines = run(capsys, "compare", CONTROL).out.splitlines()
    assert lines[-1] == f"{CONTROL}: naive naive-1 (\ufffd[31mred), by prediction + 3 known weeks"
    assert [line.split()[1] for line in lines if line.startswith("│")] == ["naive"]


def test_two_runs_stand_beside_each_other_with_what_differs(data: Path, capsys: Capture) -> None:
    lines = run(capsys, "compare", TREATMENT, CONTROL).out.splitlines()
    assert lines[0].rstrip() == f"{TREATMENT}, with {CONTROL} as the truth"
    moved = [line.strip("│").split("│") for line in lines if line.startswith("│ moved")]
    assert [[cell.strip() for cell in cells] for cells in moved] == [
        ["moved", "Song b", "3", "1"],
        ["moved", "Song c", "1", "2"],
        ["moved", "Song a", "2", "3"],
    ]
    assert lines[-1] == "Entered: 0, left: 0, moved: 3."


def test_what_is_not_known_is_none_in_the_table_with_the_reason(folder: Path, capsys: Capture) -> None:
    keep(folder)
    out = run(capsys, "compare", TREATMENT, CONTROL).out
    assert [cell.strip() for cell in out.splitlines()[4].split("│")][2:5] == ["1.000", "none", "none"]
    assert "left out: what happened in 2023-W02, 2023-W03, 2023-W04, 2023-W05 is not known" in out


# What cannot be


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("x", "'x' is no run: expected WEEK/REVISION/GROUP, such as 2023-W25/1/control"),
        ("2023-W05/01/control", "'2023-W05/01/control' is no run: expected"),
        ("2023-W05/1/../../../x", "is no run: expected"),
        ("2023-W60/1/control", "week '2023-W60' does not exist: Invalid week: 60"),
        ("--study", "expected a run with --study or --span, found none"),
        ("--span 1", "expected a run with --study or --span, found none"),
        (f"{CONTROL} {CONTROL} {TREATMENT}", f"expected one run or two, found 3: {CONTROL}, {CONTROL}, {TREATMENT}"),
        (f"{CONTROL} --span 6", "expected 1, 2, 3, 4 or 5, found 6"),
        (f"{CONTROL} --span 2 --study", "not allowed with argument --span"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_expected(
    arguments: str, sentence: str, data: Path, capsys: Capture
) -> None:
    ended = run(capsys, "compare", *arguments.split())
    assert (ended.code, ended.out) == (2, "")
    assert sentence in ended.err


@pytest.mark.parametrize(
    ("name", "there"),
    [
        (f"{WEEK}/2/control", f"found {CONTROL}, {TREATMENT}"),
        (f"{WEEK}/1/nobody", f"found {CONTROL}, {TREATMENT}"),
        ("2024-W01/1/control", "found runs for 2023-W05 to 2023-W05"),
    ],
)
def test_a_run_that_is_not_kept_ends_with_1_and_says_which_are(
    name: str, there: str, data: Path, capsys: Capture
) -> None:
    for names in ([name], [CONTROL, name]):
        ended = run(capsys, "compare", *names)
        assert ended == Ended(1, "", f"hitparade: run {name} is not kept in {data}: {there}\n")


def test_the_study_had_no_ranking_of_naives(data: Path, capsys: Capture) -> None:
    keep(data, {"control": "naive"})
    ended = run(capsys, "compare", CONTROL, "--study")
    sentence = f"run {CONTROL} is of model 'naive': expected one of neural, linear with --study"
    assert ended == Ended(1, "", f"hitparade: {sentence}\n")


def rewrite(path: Path, **columns: Any) -> None:
    """Put other columns into the tracks; None takes one out."""
    tracks = pd.read_parquet(path).assign(**{name: column for name, column in columns.items() if column is not None})
    tracks.drop(columns=[name for name, column in columns.items() if column is None]).to_parquet(path)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"prediction_linear": None}, "tracks.parquet: it has no prediction_linear: another version has written it"),
        ({"plays_week_1": None, "listed": None}, "it has no listed, plays_week_1: another"),
        ({"prediction_linear": [1.0, np.inf, 2.0, np.inf]}, "of prediction_linear, 1 of 3 scores are not finite"),
        ({"plays_week_4": [1.0, np.nan, 2.0, 3.0]}, "plays_week_4 has gaps"),
        ({"plays_week_4": list("abcd")}, "tracks.parquet: Failed to parse string"),
        ({"track_id": ["a", "b", "b", "z"]}, "tracks.parquet: 1 tracks are in it twice"),
        ({"track_id": ["a", "b", None, "z"]}, "tracks.parquet: track_id has gaps"),
    ],
)
def test_tracks_that_cannot_be_ranked_end_with_1_and_name_run_and_column(
    columns: dict[str, Any], sentence: str, data: Path, capsys: Capture
) -> None:
    rewrite(data / "runs" / WEEK / "1" / TRACKS, **columns)
    ended = run(capsys, "compare", CONTROL)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"hitparade: run {CONTROL} cannot be used: ")
    assert sentence in ended.err


@pytest.mark.parametrize("content", [None, b"", b"{", b"PAR1", b'{"id": 1}', b"\xff" * 100])
@pytest.mark.parametrize("file", [TRACKS, "control.json"])
def test_a_file_of_a_run_that_is_gone_or_broken_is_one_sentence(
    file: str, content: bytes | None, data: Path, capsys: Capture
) -> None:
    path = data / "runs" / WEEK / "1" / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    for arguments in ([CONTROL], [TREATMENT, CONTROL]):
        ended = run(capsys, "compare", *arguments)
        assert (ended.code, ended.out) == (1, "")
        assert f"run {CONTROL}" in ended.err or (file == TRACKS and f"run {TREATMENT}" in ended.err)
        assert len(ended.err.splitlines()) == 1


def test_the_record_of_another_list_is_refused(data: Path, capsys: Capture) -> None:
    record = (data / "runs" / WEEK / "1" / "treatment.json").read_bytes()
    (data / "runs" / WEEK / "1" / "control.json").write_bytes(record)
    assert "control.json: it is the record of '2023-W05/treatment'" in run(capsys, "compare", CONTROL).err


def test_a_byte_that_was_changed_anywhere_is_never_an_error_without_a_name(data: Path) -> None:
    path, name = data / "runs" / WEEK / "1" / TRACKS, RunName.parse(CONTROL)
    runs, whole = Runs(data / "runs"), path.read_bytes()
    right, wrong, n_refused = read_ranking(runs, name, "linear", 4), 0, 0
    column = pq.read_metadata(path).row_group(0).column(pq.read_schema(path).names.index("prediction_linear"))
    begin = column.dictionary_page_offset or column.data_page_offset
    for at in {*range(3, len(whole), 29), *range(begin, begin + column.total_compressed_size)}:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            wrong += read_ranking(runs, name, "linear", 4) != right
        except RunError:
            n_refused += 1
    assert (wrong, n_refused > 50) == (0, True)  # pages have checksums


def test_a_name_that_is_no_text_is_refused_in_a_file_without_checksums(data: Path) -> None:
    path = data / "runs" / WEEK / "1" / TRACKS
    pd.read_parquet(path).to_parquet(path, compression=None)
    path.write_bytes(path.read_bytes().replace(b"Song b", b"Song \xff"))
    with pytest.raises(RunError, match="Invalid UTF8"):
        read_ranking(Runs(data / "runs"), RunName.parse(CONTROL), "linear", 4)

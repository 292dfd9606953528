"""The commands that look, on a real broker and a real Redis: lists, counters, why, evaluations, experiments."""

import contextlib
import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from hitparade import output
from hitparade.embedded import Embedded
from hitparade.looking import print_lists
from producers.playlists import Entry, Evaluation, Playlist
from producers.publisher import Message
from tests.builders_weekly import Stage, chart_week, plays, staged
from tests.commands import Ended, end, nothing_left_running, run, start

Capture = pytest.CaptureFixture[str]
__all__ = ["nothing_left_running"]
pytestmark = pytest.mark.usefixtures("nothing_left_running")
EXPERIMENT = """
[[experiment]]
name = "e"
salt = "s"
[experiment.groups.control]
weight = 1
model = "naive"
[experiment.groups.treatment]
weight = 1
model = "linear"
"""
CONTROL, TREATMENT = "10", "9"  # users; which group they are in is checked below


@pytest.fixture(scope="module")
def ran(embedded_stack: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Seven weeks counted, the lists after 2023-W23 and 2023-W24 published; z is in no catalogue."""
    folder = tmp_path_factory.mktemp("looking")
    (folder / "e.toml").write_text(EXPERIMENT)
    env = {"HITPARADE_EXPERIMENT_FILE": str(folder / "e.toml"), "HITPARADE_LISTENERS": "true"}
    with staged(embedded_stack.kafka, embedded_stack.redis_url, f"t{token_hex(4)}", folder, **env) as stage:
        stage.catalogue("a", "b", "c")
        stage.catalogue("d", name="[/bold] \x1b[31m:smile: [Remastered]", partition=1)
        for week in range(19, 26):
            stage.send(plays(week, {"a": 4, "b": week - 19, "z": 50}, CONTROL))
            stage.send(plays(week, {"a": 1, "d": 2}, TREATMENT), partition=1)
        stage.count()
        for week in (23, 24):
            stage.weekly_run().run(stage.triggers.fire(chart_week(week), "manual"))
        yield stage


@pytest.fixture
def looking(ran: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """That, with its settings in the environment."""
    for name in [name for name in os.environ if name.startswith("HITPARADE_")]:
        monkeypatch.delenv(name)
    for name, value in ran.env.items():
        monkeypatch.setenv(name, value)
    return ran


@pytest.fixture
def empty(embedded_stack: Embedded, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Topics with nothing in them."""
    with staged(embedded_stack.kafka, embedded_stack.redis_url, prefix, tmp_path) as stage:
        for name, value in stage.env.items():
            monkeypatch.setenv(name, value)
        yield stage


def keys(ended: Ended) -> list[tuple[str, str]]:
    assert (ended.code, ended.err) == (0, "")
    return [(row["week"], row["group"]) for row in ended.rows()]


# Lists


def test_playlists_alone_are_the_latest_list_of_each_group_as_it_was_published(looking: Stage, capsys: Capture) -> None:
    ended = run(capsys, "playlists", "--json")
    assert keys(ended) == [("2023-W25", "control"), ("2023-W25", "treatment")]
    assert ended.rows() == [json.loads(looking.published(group)[-1]) for group in ("control", "treatment")]


def test_the_week_of_playlists_is_the_one_that_the_list_is_for(looking: Stage, capsys: Capture) -> None:
    ended = run(capsys, "playlists", "--week", "2023-W24", "--json")
    assert keys(ended) == [("2023-W24", "control"), ("2023-W24", "treatment")]
    assert {row["closed_week"] for row in ended.rows()} == {"2023-W23"}


def test_playlists_of_one_group(looking: Stage, capsys: Capture) -> None:
    assert keys(run(capsys, "playlists", "--group", "treatment", "--json")) == [("2023-W25", "treatment")]
    both = run(capsys, "playlists", "--group", "control", "--week", "2023-W24", "--json")
    assert keys(both) == [("2023-W24", "control")]


def test_lists_stand_side_by_side_with_what_differs_marked(looking: Stage, capsys: Capture) -> None:
    ended = run(capsys, "playlists")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0].rstrip() == "Top 4 for week 2023-W25 (e)"
    assert [cell.strip() for cell in lines[2].strip("┃").split("┃")] == [
        *("", "control: naive", "plays of 4 weeks", "score"),
        *("treatment: linear", "plays of 4 weeks", "score"),
    ]
    first = [cell.strip() for cell in lines[4].strip("│").split("│")]
    assert first[:3] == ["1", "Song a", "5 5 5 5"]
    assert lines[-1] == "The same tracks."


def test_a_name_is_shown_as_it_is_but_for_what_would_move_the_cursor(looking: Stage, capsys: Capture) -> None:
    assert "[/bold] \ufffd[31m:smile: [Remastered]" in run(capsys, "playlists").out


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ("--week 2024-W01", "week 2024-W01, group (any)"),
        ("--group nobody", "week (any), group nobody"),
        ("--week 2023-W25 --group nobody", "week 2023-W25, group nobody"),
    ],
)
def test_a_list_that_is_not_there_ends_with_1_and_says_which_are(
    arguments: str, what: str, looking: Stage, capsys: Capture
) -> None:
    known = "there are lists of control, treatment for 2023-W24, 2023-W25"
    for more in ([], ["--json"]):
        ended = run(capsys, "playlists", *arguments.split(), *more)
        assert ended == Ended(1, "", f"hitparade: no list for {what}: {known}\n")


def test_before_a_list_is_published_there_is_none_and_a_hint(empty: Stage, capsys: Capture) -> None:
    hint = "none has been published yet: run `hitparade trigger` and `hitparade consume weekly`"
    assert run(capsys, "playlists") == Ended(1, "", f"hitparade: no list for week (any), group (any): {hint}\n")
    assert run(capsys, "why", "a") == Ended(1, "", f"hitparade: {hint}\n")
    assert run(capsys, "evaluations").code == 0
    assert run(capsys, "evaluations", "--json") == Ended(0, "", "")


def entries(*ids: str) -> tuple[Entry, ...]:
    return tuple(
        Entry(
            rank=rank,
            track_id=track_id,
            name=f"Song {track_id} with a name of some length",
            score=9.5 - rank,
            plays=(1000, 1000, 1000, 1000),
        )
        for rank, track_id in enumerate(ids, 1)
    )


def listed(group: str, *ids: str, week: str = "2023-W25", **changes: Any) -> Playlist:
    fields: dict[str, Any] = {"experiment": "e", "model": "naive", "model_version": "1", "fallback": None, "cut": {}}
    return Playlist(week=week, closed_week="2023-W24", group=group, tracks=entries(*ids), **{**fields, **changes})


def publish(stage: Stage, *playlists: Playlist) -> None:
    topic = stage.settings.topics.playlists
    stage.publisher.publish([playlist.message(topic) for playlist in playlists])


def test_the_latest_list_of_a_group_may_be_of_an_earlier_week_than_anothers(empty: Stage, capsys: Capture) -> None:
    publish(
        empty, listed("x", "a", week="2023-W23"), listed("y", "a", week="2023-W25"), listed("y", "b", week="2023-W24")
    )
    assert keys(run(capsys, "playlists", "--json")) == [("2023-W23", "x"), ("2023-W25", "y")]


def test_follow_shows_the_latest_lists_and_then_each_as_it_is_published(empty: Stage) -> None:
    publish(empty, listed("x", "a", week="2023-W23"), listed("x", "a", week="2023-W24"))
    process = start("playlists", "--follow", "--json", env=empty.env)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert (first["week"], first["group"]) == ("2023-W24", "x")
    topic = empty.settings.topics.playlists
    empty.publisher.publish([Message(topic, b"k", b"no list"), Message(topic, b"2023-W23/x", None)])
    publish(empty, listed("x", "b", week="2023-W24", revision=2), listed("y", "a", week="2023-W25"))
    rows = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert [(row["week"], row["group"], row["revision"]) for row in rows] == [
        ("2023-W24", "x", 2),
        ("2023-W25", "y", 1),
    ]
    ended = end(process, signal.SIGTERM)
    assert (ended.code, ended.out) == (0, "")
    (error,) = ended.err.splitlines()[:1]
    assert f"offset 2 of {topic} is no playlist" in error


def test_follow_shows_only_what_was_asked_for(empty: Stage) -> None:
    publish(empty, listed("x", "a"))
    process = start("playlists", "--follow", "--json", "--group", "y", "--week", "2023-W26", env=empty.env)
    assert process.stdout is not None
    publish(empty, listed("y", "a"), listed("x", "a", week="2023-W26"), listed("y", "a", week="2023-W26"))
    row = json.loads(process.stdout.readline())
    assert (row["week"], row["group"]) == ("2023-W26", "y")
    assert end(process, signal.SIGINT, 10) == Ended(130, "", "")


def test_a_list_that_naive_took_over_says_why(capsys: Capture) -> None:
    print_lists([listed("x", "a", "b"), listed("y", "a", "c", fallback="no model")])
    out = capsys.readouterr().out
    assert "y is naive's list: no model\n" in out
    assert "* Song b" in out
    assert "* Song c" in out
    assert out.endswith("1 of 2 tracks differ (marked *).\n")


# Tables, and JSON


def test_json_stays_json_where_standard_output_takes_nothing_but_ascii() -> None:
    written = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(written, encoding="ascii")):
        output.print_json([{"name": "Größe"}])
        assert json.loads(written.getvalue()) == {"name": "Größe"}


@pytest.fixture
def on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Callable[[int], None]:
    """Makes standard output look like a terminal with so many columns."""

    def of_width(columns: int) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")

    return of_width


def seen(capsys: Capture) -> str:
    """What was printed, without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)


def test_on_a_narrow_terminal_names_are_shortened_and_numbers_and_rows_stay_whole(
    on_a_terminal: Callable[[int], None], capsys: Capture
) -> None:
    on_a_terminal(84)
    print_lists([listed("x", "a", "b"), listed("y", "a", "c")])
    lines = seen(capsys).splitlines()
    assert 80 < max(map(len, lines)) <= 84
    (first,) = [line for line in lines if "1000" in line and line.split()[0] == "1"]
    assert first.count("1000 1000 1000 1000") == 2
    assert first.count("8.5") == 2
    assert first.count("…") == 2


def test_text_that_is_not_to_be_shortened_is_wrapped(on_a_terminal: Callable[[int], None], capsys: Capture) -> None:
    on_a_terminal(33)
    output.print_table("T", ("name", "~what", "#n"), [("A_NAME_THAT_STAYS", "one two three four", 1234)])
    lines = [line.split() for line in seen(capsys).splitlines()[-4:-1]]
    assert lines == [["A_NAME_THAT_STAYS", "one", "two", "1,234"], ["three"], ["four"]]


# Counters


def test_counters_are_one_row_a_group_and_track_with_exactly_these_keys(looking: Stage, capsys: Capture) -> None:
    ended = run(capsys, "counters", "--week", "2023-W24", "--json")
    assert (ended.code, ended.err) == (0, "")
    rows = ended.rows()
    assert {tuple(row) for row in rows} == {("week", "group", "track_id", "plays", "skips", "likes")}
    counts = {(row["group"], row["track_id"]): (row["plays"], row["skips"], row["likes"]) for row in rows}
    assert counts == {
        ("control", "a"): (4, 0, 0),
        ("control", "b"): (5, 0, 0),
        ("control", "z"): (50, 0, 0),
        ("treatment", "a"): (1, 0, 0),
        ("treatment", "d"): (2, 0, 0),
    }
    assert len(rows) == len(counts)
    assert {row["week"] for row in rows} == {"2023-W24"}


def test_counters_of_one_group_are_the_most_played_first(looking: Stage, capsys: Capture) -> None:
    ended = run(capsys, "counters", "--week", "2023-W24", "--group", "control")
    rows = [line.strip("│").split("│") for line in ended.out.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["control", "z", "50", "0", "0"],
        ["control", "b", "5", "0", "0"],
        ["control", "a", "4", "0", "0"],
    ]
    in_json = run(capsys, "counters", "--week", "2023-W24", "--group", "treatment", "--json").rows()
    assert {row["track_id"] for row in in_json} == {"a", "d"}


def test_the_open_week_can_be_looked_at(looking: Stage, capsys: Capture) -> None:
    assert len(run(capsys, "counters", "--week", "2023-W25", "--json").rows()) == 5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--week 2023-W18", "week 2023-W18 is not counted: expected one of 2023-W19 to 2023-W25"),
        ("--week 2023-W26 --json", "week 2023-W26 is not counted: expected one of 2023-W19 to 2023-W25"),
        (
            "--week 2023-W24 --group nobody",
            "nothing was counted of group nobody in week 2023-W24: expected one of control, treatment",
        ),
    ],
)
def test_counters_that_are_not_there_end_with_1(arguments: str, sentence: str, looking: Stage, capsys: Capture) -> None:
    assert run(capsys, "counters", *arguments.split()) == Ended(1, "", f"hitparade: {sentence}\n")


# Why


def test_why_tells_counts_features_each_models_score_and_rank_and_the_lists(looking: Stage, capsys: Capture) -> None:
    ended = run(capsys, "why", "b", "--json")
    assert (ended.code, ended.err) == (0, "")
    (answer,) = ended.rows()
    assert {name: answer[name] for name in ("track_id", "name", "closed_week", "week", "in_catalogue")} == {
        "track_id": "b",
        "name": "Song b",
        "closed_week": "2023-W24",
        "week": "2023-W25",
        "in_catalogue": True,
    }
    assert answer["counts"] == [
        {"week": f"2023-W{week}", "group": "control", "plays": week - 19, "skips": 0, "likes": 0}
        for week in (21, 22, 23, 24)
    ]
    assert answer["context"]["weeks_in_a_row"] > 0
    assert answer["features"]["tempo"] == 0.5
    assert answer["features"]["release_date_year"] == 2019
    naive = next(model for model in answer["models"] if model["model"] == "naive")
    assert naive == {"model": "naive", "prediction": 5.0, "score": 17.0, "rank": 2, "of": 4}
    last_place = looking.lists("treatment")[-1].tracks[-1].score
    assert answer["lists"] == [
        {"group": "control", "model": "naive", "rank": 2, "score_of_last_place": 0.0},
        {
            "group": "treatment",
            "model": "linear",
            "rank": 2,
            "score_of_last_place": last_place,
        },
    ]


def test_the_week_of_why_is_the_counted_one(looking: Stage, capsys: Capture) -> None:
    (answer,) = run(capsys, "why", "b", "--week", "2023-W23", "--json").rows()
    assert (answer["closed_week"], answer["week"]) == ("2023-W23", "2023-W24")
    assert [row["plays"] for row in answer["counts"]] == [1, 2, 3, 4]


def test_why_in_words(looking: Stage, capsys: Capture) -> None:
    out = run(capsys, "why", "b").out
    assert out.startswith("Song b (b), for week 2023-W25\n")
    assert "│ naive  │           5.000 │ 17.000 │    2 │  4 │" in out
    assert out.endswith("control (naive): rank 2\ntreatment (linear): rank 2\n")


def test_why_tells_about_how_many_listeners_there_were_where_they_are_looked_at(
    looking: Stage, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all partitions, in the weeks that are kept, the open one included."""
    (answer,) = run(capsys, "why", "a", "--json").rows()
    assert answer["listeners"] == {f"2023-W{week}": 2 for week in range(19, 26)}
    out = run(capsys, "why", "a").out
    assert "Listeners, about" in out
    assert "│ 2023-W24 │         2 │" in out
    monkeypatch.setenv("HITPARADE_LISTENERS", "false")
    (answer,) = run(capsys, "why", "a", "--json").rows()
    assert answer["listeners"] is None
    assert "Listeners" not in run(capsys, "why", "a").out


def test_why_of_a_track_that_is_in_no_catalogue(looking: Stage, capsys: Capture) -> None:
    (answer,) = run(capsys, "why", "z", "--json").rows()
    assert answer["in_catalogue"] is False
    assert {model["rank"] for model in answer["models"]} == {None}
    assert {row["rank"] for row in answer["lists"]} == {None}
    out = run(capsys, "why", "z").out
    assert "It is not in the catalogue, so it is scored, but in no list." in out
    assert "control (naive): not in the list: its last place has 0.0\n" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("nobody", "track nobody is unknown: not in the catalogue, and without plays before 2023-W25"),
        (
            "a --week 2023-W20",
            "no run for closed week 2023-W20 is kept in {}: "
            "expected a week that `hitparade consume weekly` has run there",
        ),
    ],
)
def test_a_track_or_week_that_is_unknown_to_why_ends_with_1(
    arguments: str, sentence: str, looking: Stage, capsys: Capture
) -> None:
    message = sentence.format(looking.settings.data_dir)
    assert run(capsys, "why", *arguments.split()) == Ended(1, "", f"hitparade: {message}\n")


# Evaluations


def test_evaluations_are_the_records_of_the_topic_the_last_of_each_list(looking: Stage, capsys: Capture) -> None:
    looking.weekly_run().run(looking.triggers.fire(chart_week(24), "manual"))  # publishes them again
    ended = run(capsys, "evaluations", "--json")
    assert keys(ended) == [("2023-W24", "control"), ("2023-W24", "treatment")]
    assert ended.rows() == [evaluation.model_dump(mode="json") for evaluation in looking.evaluations()[-2:]]
    assert len(looking.evaluations()) > 2


def evaluation(group: str, exact: float, naive: float) -> Evaluation:
    """One whose every metric is a tenth of its exact places."""
    metrics, naives = (dict.fromkeys(METRICS, n / 10) | {"exact_places": n} for n in (exact, naive))
    fields: dict[str, Any] = {"experiment": "e", "model_version": "1", "playlist_id": "", "revision": 1}
    fields |= {"span_weeks": 4, "n_ranked": 50, "metrics": metrics, "naive": naives}
    return Evaluation(week="2023-W24", group=group, model=f"of {group}", **fields)


METRICS = ("precision_at_50", "ndcg_at_50", "captured_plays", "rbo", "criterion")


def test_evaluations_stand_beside_naives_for_the_same_week(empty: Stage, capsys: Capture) -> None:
    topic = empty.settings.topics.evaluations
    empty.publisher.publish([evaluation(group, exact, naive=3).message(topic) for group, exact in (("x", 5), ("y", 7))])
    out = run(capsys, "evaluations").out
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if line.startswith("│")]
    assert rows == [
        ["2023-W24", "x", "of x", *["0.500"] * 4, "0.5", "5"],
        ["2023-W24", "y", "of y", *["0.700"] * 4, "0.7", "7"],
        ["2023-W24", "", "naive", *["0.300"] * 4, "0.3", "3"],
    ]


# Experiments


def test_experiments_are_those_of_the_file(looking: Stage, capsys: Capture) -> None:
    rows = [
        {"experiment": "e", "state": "in force", "first_week": None, "last_week": None, "group": group, "model": model}
        | {"weight": 1.0}
        | {"everyones": None}
        for group, model in (("control", "naive"), ("treatment", "linear"))
    ]
    ended = run(capsys, "experiments", "--json")
    assert ended.rows() == rows
    table = run(capsys, "experiments")
    assert (table.code, table.err) == (0, "")
    assert "treatment" in table.out
    assert table.out.splitlines()[0].strip() == "Experiments in week 2023-W25"


def test_each_experiment_is_past_in_force_or_to_come_by_stream_time_or_in_a_week(
    looking: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Where none is in force, everyone is in one group: that is said too."""
    bounds = {"one": ("2023-W01", "2023-W20"), "two": ("2023-W23", "2023-W25"), "three": ("2023-W30", "2023-W31")}
    tables = [
        f'[[experiment]]\nname = "{name}"\nsalt = "{name}"\nfirst_week = "{first}"\nlast_week = "{last}"\n'
        'groups.a = { weight = 1, model = "naive" }\n'
        for name, (first, last) in bounds.items()
    ]
    (tmp_path / "e.toml").write_text("".join(tables))
    monkeypatch.setenv("HITPARADE_EXPERIMENT_FILE", str(tmp_path / "e.toml"))

    def states(*arguments: str) -> dict[str, str]:
        return {row["experiment"]: row["state"] for row in run(capsys, "experiments", "--json", *arguments).rows()}

    assert states() == {"one": "past", "two": "in force", "three": "to come"}
    assert states("--week", "2023-W20") == {"one": "in force", "two": "to come", "three": "to come"}
    between = {"one": "past", "two": "past", "three": "to come", "none": "in force"}
    assert states("--week", "2023-W29") == between
    assert states("--week", "2023-W32") == {"one": "past", "two": "past", "three": "past", "none": "in force"}


def test_before_anything_is_counted_experiments_are_listed_without_a_state(empty: Stage, capsys: Capture) -> None:
    ended = run(capsys, "experiments", "--json")
    assert {row["state"] for row in ended.rows()} == {None}
    assert "which experiment is in force is not known without a --week: nothing has been counted yet" in ended.err
    assert {row["state"] for row in run(capsys, "experiments", "--json", "--week", "2023-W24").rows()} == {"in force"}
    assert run(capsys, "experiments").out.splitlines()[0].strip() == "Experiments"


def test_the_experiment_in_force_in_a_week(
    looking: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "e.toml").write_text(EXPERIMENT.replace('salt = "s"', 'salt = "s"\nfirst_week = "2023-W30"'))
    monkeypatch.setenv("HITPARADE_EXPERIMENT_FILE", str(tmp_path / "e.toml"))
    assert {row["experiment"] for row in run(capsys, "experiments", "--week", "2023-W30", "--json").rows()} == {"e"}
    before = run(capsys, "experiments", "--week", "2023-W29", "--json").rows()
    in_force = [(row["group"], row["model"]) for row in before if row["state"] == "in force"]
    assert in_force == [("all", "linear")]
    (answer,) = run(capsys, "experiments", "assign", CONTROL, "--json").rows()
    assert (answer["week"], answer["group"]) == ("2023-W25", "all")
    (answer,) = run(capsys, "experiments", "assign", CONTROL, "--json", "--week", "2023-W31").rows()
    assert (answer["week"], answer["group"]) == ("2023-W31", "control")


def test_assign_says_the_group_in_which_the_user_is_counted(looking: Stage, capsys: Capture) -> None:
    for user, group in ((CONTROL, "control"), (TREATMENT, "treatment")):
        answer = {"user_id": user, "week": "2023-W25", "experiment": "e", "group": group}
        assert run(capsys, "experiments", "assign", user, "--json").rows() == [answer]
        assert run(capsys, "experiments", "--json", "assign", user).rows() == [answer]
        ended = run(capsys, "experiments", "assign", user)
        assert ended == Ended(0, f"user {user} is in group {group} of e in week 2023-W25\n", "")

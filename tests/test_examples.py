import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from features.history import History, counts_of
from features.table import FEATURES, tables
from features.weeks import Calendar
from models.examples import linear_examples, neural_examples, neural_weeks
from models.recount import history_from_sessions
from models.scoring import NotEnoughHistory
from models.study import linear_format, neural_format
from tests.builders_history import listening, track, weeks, write_catalogue, write_week

FIELDS = (
    "track_id popularity duration_ms explicit danceability energy key loudness speechiness acousticness "
    "instrumentalness liveness valence tempo release_date_year release_date_week play_count likes number_of_skips"
).split()


def six_weeks(tmp_path: Path) -> History:
    """`a` is played more each week, `b` once long ago, `new` in the last week only, `quiet` never."""
    history = History(tmp_path)
    write_catalogue(history, [track("b", key=7, energy=0.673, tempo=None), track("new", release_date="1929")])
    for n, week in enumerate(weeks(6), 1):
        plays: dict[str, int | tuple[int, int, int]] = {"a": (10 * n, n, 2 * n), "quiet": (0, 1, 0)}
        write_week(history, week, plays | ({"b": 3} if n == 1 else {}) | ({"new": 8} if n == 6 else {}))
    return history


def linear_rows(history: History, until: str) -> list[tuple[str, list[list[int]]]]:
    return [(week, rows.tolist()) for week, rows in linear_examples(history, until)]


def test_a_row_is_a_week_of_a_track_played_in_one_of_the_four_before_it(tmp_path: Path) -> None:
    assert linear_rows(six_weeks(tmp_path), "2023-W06") == [
        ("2023-W05", [[10, 20, 30, 40, 50], [3, 0, 0, 0, 0]]),
        ("2023-W06", [[20, 30, 40, 50, 60]]),
    ]


def test_a_large_history_is_learned_from_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = linear_rows(listening(tmp_path, 6), "2023-W06")
    monkeypatch.setattr(History.parts, "__defaults__", (100,))
    parts = linear_rows(History(tmp_path), "2023-W06")
    assert len(parts) == 4 * len(whole)
    for week, rows in whole:
        assert sorted(row for of_week, part in parts if of_week == week for row in part) == sorted(rows)


def test_groups_are_learned_from_together(tmp_path: Path) -> None:
    history = six_weeks(tmp_path)
    history.write_week("2023-W06", [counts_of([("a", "control", 4, 0, 0), ("a", "treatment", 5, 0, 0)])], {})
    assert linear_rows(history, "2023-W06")[1] == ("2023-W06", [[20, 30, 40, 50, 9]])


def test_no_week_after_the_last_that_may_be_learned_from_is_read(tmp_path: Path) -> None:
    history = six_weeks(tmp_path)
    (tmp_path / "weeks" / "2023-W06.parquet").write_bytes(b"broken")
    assert [week for week, _ in linear_rows(history, "2023-W05")] == ["2023-W05"]
    assert set(neural_examples(history, "2023-W05").target_weeks) == {"2023-W05"}


def test_a_missing_week_is_missing_and_not_zero(tmp_path: Path) -> None:
    history = listening(tmp_path, 12)
    (tmp_path / "weeks" / "2023-W06.parquet").unlink()
    assert [week for week, _ in linear_rows(history, "2023-W12")] == ["2023-W05", "2023-W11", "2023-W12"]


def test_weeks_are_in_a_row_across_years_with_53_weeks(tmp_path: Path) -> None:
    history = History(tmp_path)
    for week in ("2026-W51", "2026-W52", "2026-W53", "2027-W01", "2027-W02"):
        write_week(history, week, {"a": 1})
    assert linear_rows(history, "2027-W02") == [("2027-W02", [[1, 1, 1, 1, 1]])]


@pytest.mark.parametrize(("gone", "longest"), [((), 4), (("2023-W02",), 2), (weeks(4), 0)])
def test_too_few_weeks_in_a_row_are_named(tmp_path: Path, gone: tuple[str, ...], longest: int) -> None:
    history = six_weeks(tmp_path)
    for week in gone:
        (tmp_path / "weeks" / f"{week}.parquet").unlink()
    with pytest.raises(NotEnoughHistory, match=rf"^needs 5 closed weeks in a row, has {longest}$"):
        linear_examples(history, "2023-W04")
    with pytest.raises(NotEnoughHistory, match="needs 5 closed weeks"):
        neural_examples(history, "2023-W04")


def test_the_networks_examples_are_what_would_have_been_scored(tmp_path: Path) -> None:
    history = listening(tmp_path, 16)
    examples = neural_examples(history, "2023-W16")
    (table,) = tables(history, weeks(15)[-4:])
    last = examples.rows(examples.target_weeks == "2023-W16")
    played = table.counts[:, :, 0].any(axis=1)
    assert 40 < played.sum() <= 60
    assert last.track_ids.tolist() == table.track_ids[played].tolist()
    np.testing.assert_array_equal(last.features, table.features[played])
    np.testing.assert_array_equal(last.context, table.context[played])
    np.testing.assert_array_equal(last.last_plays, table.counts[played, 3, 0])


def test_the_networks_targets_are_the_plays_and_levels_of_the_week_that_follows(tmp_path: Path) -> None:
    history = six_weeks(tmp_path)
    examples = neural_examples(history, "2023-W06")
    found = dict(zip(zip(examples.target_weeks, examples.track_ids, strict=True), examples.plays.tolist(), strict=True))
    assert found == {("2023-W05", "a"): 50, ("2023-W05", "b"): 0, ("2023-W06", "a"): 60}
    # In 2023-W06 `new` was played least, 8 times, and is the last of the two that were played.
    assert examples.levels[-1] == pytest.approx(np.log(60 / 8))


def test_a_track_that_nobody_plays_any_more_has_no_plays_in_the_target_week(tmp_path: Path) -> None:
    history = History(tmp_path)
    for week in weeks(4):
        write_week(history, week, {"a": 5, "b": 2})
    write_week(history, weeks(5)[-1], {"b": 1, "z": 9})
    assert neural_examples(history, "2023-W05").plays.tolist() == [0, 1]


def test_the_last_weeks_alone_are_the_same_as_the_last_of_all(tmp_path: Path) -> None:
    history = listening(tmp_path, 9)
    whole, last = list(neural_weeks(history, "2023-W09")), list(neural_weeks(history, "2023-W09", 2))
    assert (len(whole), len(last)) == (5, 2)
    for one, other in zip(whole[-2:], last, strict=True):
        for column, again in zip(one.columns(), other.columns(), strict=True):
            np.testing.assert_array_equal(column, again)


def test_a_track_of_no_catalogue_is_learned_from(tmp_path: Path) -> None:
    history = six_weeks(tmp_path)
    write_catalogue(history, [])
    examples = neural_examples(history, "2023-W06")
    assert "a" in examples.track_ids
    assert np.isnan(examples.features[:, :, :15]).all()


def test_the_linear_format_has_the_plays_of_four_weeks_and_the_one_after(tmp_path: Path) -> None:
    found = linear_format(six_weeks(tmp_path), "2023-W06")
    names = ["track_id", "play_count", *(f"play_count_week_{n}" for n in (1, 2, 3, 4))]
    expected = [["a", 60, 20, 30, 40, 50], ["b", 0, 0, 0, 0, 0], ["new", 8, 0, 0, 0, 0]]
    assert found == [dict(zip(names, row, strict=True)) for row in expected]
    assert json.loads(json.dumps(found)) == found


def test_the_neural_format_has_the_same_tracks_in_each_of_four_weeks_with_19_fields(tmp_path: Path) -> None:
    found = neural_format(six_weeks(tmp_path), "2023-W06")
    assert [[row["track_id"] for row in week] for week in found] == [["a", "b", "new"]] * 4
    assert all(list(row) == FIELDS for week in found for row in week)
    assert [week[0]["play_count"] for week in found] == [20, 30, 40, 50]
    assert [(week[0]["number_of_skips"], week[0]["likes"]) for week in found] == [(n, 2 * n) for n in (2, 3, 4, 5)]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_neural_formats_features_are_the_catalogues_and_null_where_missing(tmp_path: Path) -> None:
    stranger, b, new = neural_format(six_weeks(tmp_path), "2023-W06")[0]
    assert [stranger[name] for name in FIELDS[1:16]] == [None] * 15
    assert (b["energy"], b["tempo"]) == (0.673, None)
    assert json.dumps([b["key"], b["release_date_year"], b["release_date_week"]]) == "[7, 2019, 27]"
    assert (new["release_date_year"], new["release_date_week"]) == (1929, None)


def test_the_neural_format_can_end_with_the_newest_week(tmp_path: Path) -> None:
    assert neural_format(six_weeks(tmp_path), "2023-W07")[3][0]["play_count"] == 60


def test_the_formats_name_the_weeks_that_are_missing(tmp_path: Path) -> None:
    history = six_weeks(tmp_path)
    with pytest.raises(NotEnoughHistory, match=r"^needs the weeks 2023-W03 to 2023-W07, has no 2023-W07$"):
        linear_format(history, "2023-W07")
    (tmp_path / "weeks" / "2023-W04.parquet").unlink()
    with pytest.raises(NotEnoughHistory, match=r"^needs the weeks 2023-W02 to 2023-W05, has no 2023-W04$"):
        neural_format(history, "2023-W06")


def event(timestamp: str = "2023-01-02T00:00:00", **fields: Any) -> dict[str, Any]:
    return {"timestamp": timestamp, "user_id": 1, "track_id": "a", "event_type": "play"} | fields


def recounted(
    tmp_path: Path, *lines: Any, calendar: Calendar | None = None, zone: ZoneInfo | None = None
) -> list[tuple[str, str, int, int, int]]:
    path = tmp_path / "sessions.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines), encoding="utf-8")
    history = history_from_sessions([path], None, calendar or Calendar(), tmp_path / "history", zone or UTC)
    frame = history.read(history.weeks())[["week", "track_id", "plays", "skips", "likes"]]
    return list(frame.itertuples(index=False, name=None))


def test_kinds_are_counted_apart_in_any_case_and_ids_are_text(tmp_path: Path) -> None:
    lines = [event(), event(event_type="PLAY"), event(event_type="Skip"), event(event_type="like", track_id=7)]
    assert recounted(tmp_path, *lines) == [("2023-W01", "7", 0, 0, 1), ("2023-W01", "a", 2, 1, 0)]


def test_an_array_of_events_counts_each_and_a_bad_one_alone_is_passed_over(tmp_path: Path) -> None:
    assert recounted(tmp_path, [event(), {"x": 1}, event()], []) == [("2023-W01", "a", 2, 0, 0)]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "not JSON",
        "[" * 100_000,
        '{"timestamp": NaN}',
        "null",
        event(event_type="advertisment"),
        event(event_type=None),
        event(event_type="pause"),
        event(track_id=None),
        event(track_id=""),
        event(track_id=True),
        event(track_id=1.5),
        event(track_id="\ud800"),
        event(user_id=None),
        event(user_id=False),
        event(timestamp="yesterday"),
        event() | {"timestamp": 1672617600},
        event(timestamp="9999-12-31T23:59:59-12:00"),
    ],
)
def test_what_can_never_be_counted_is_passed_over(tmp_path: Path, bad: Any) -> None:
    assert recounted(tmp_path, bad, event()) == [("2023-W01", "a", 1, 0, 0)]


def test_weeks_begin_where_the_calendar_says(tmp_path: Path) -> None:
    lines = [event("2023-01-01T23:59:59.999999"), event("2023-01-02T00:00:00+01:00"), event("2023-01-02T00:00:00Z")]
    assert [row[:3] for row in recounted(tmp_path, *lines)] == [("2022-W52", "a", 2), ("2023-W01", "a", 1)]


def test_weeks_can_begin_on_a_friday_in_berlin(tmp_path: Path) -> None:
    friday = Calendar(first_weekday=4, zone=ZoneInfo("Europe/Berlin"))
    lines = [event("2023-01-05T22:59:59"), event("2023-01-05T23:00:00")]
    assert [row[0] for row in recounted(tmp_path, *lines, calendar=friday)] == ["2022-W52", "2023-W01"]


def test_a_time_without_a_zone_is_in_the_zone_given(tmp_path: Path) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    found = recounted(tmp_path, event("2023-01-02T00:30:00"), zone=berlin)
    assert found == [("2022-W52", "a", 1, 0, 0)]


def test_quiet_weeks_between_are_written_and_a_wrong_clocks_years_are_not(tmp_path: Path) -> None:
    recounted(tmp_path, event("1970-01-01"), event("2023-01-02"), event("2023-01-23"))
    history = History(tmp_path / "history")
    assert history.weeks() == ["1970-W01", "2023-W01", "2023-W02", "2023-W03", "2023-W04"]


def test_the_catalogue_is_read_with_the_last_of_a_track_that_comes_twice(tmp_path: Path) -> None:
    path = tmp_path / "tracks.jsonl.gz"
    lines = ['{"id": "b", "name": "old"}', "broken", '{"id": 4}', '{"id": "b", "name": "new"}', '{"name": "no id"}']
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    frame = history_from_sessions([], path, Calendar(), tmp_path / "history").catalogue()
    assert frame[["id", "name"]].to_numpy().tolist() == [["4", ""], ["b", "new"]]


def test_sessions_become_the_studys_formats(tmp_path: Path) -> None:
    start = datetime(2023, 1, 4, tzinfo=UTC)
    lines = [event((start + timedelta(weeks=n)).isoformat()) for n in range(5) for _ in range(n + 1)]
    recounted(tmp_path, *lines)
    (row,) = linear_format(History(tmp_path / "history"), "2023-W05")
    assert list(row.values()) == ["a", 5, 1, 2, 3, 4]
    assert len(FEATURES) == len(FIELDS) - 1

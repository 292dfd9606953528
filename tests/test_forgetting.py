"""The command `forget`: whoever is forgotten is in no file, and comes into none that is made of the log again."""

import errno
import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import models.forgotten
from hitparade import data_folder, wiring
from hitparade.settings import Settings
from models.forgotten import MARK, cleanse, expired, note, read_forgotten, weeks_with
from models.usage import SLICES
from tests.builders import play
from tests.builders_counting import Counted
from tests.commands import Command, Ended, run
from tests.listeners import week
from tests.test_mirror import url

from tests.test_mirror import store  # isort: skip
from tests.test_reporting import keep
from tests.test_usage import closed_weeks, counters_of, slices_of, usage_of

__all__ = ["store", "url"]
Capture = pytest.CaptureFixture[str]
WEEKS = ("2025-W03", "2025-W04")
USERS = [str(n) for n in range(40)]
USER = "7"


class PowerCut(BaseException):
    """The end of a process, wherever it is."""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with two weeks of forty users."""
    folder = tmp_path / "data"
    folder.mkdir()
    keep(folder / "experiments", {name: week(USERS, "control", plays=3) for name in WEEKS})
    monkeypatch.setenv("HITPARADE_DATA_DIR", str(folder))
    return folder


def users_of(folder: Path) -> dict[str, list[str]]:
    return {
        path.stem: sorted(pq.read_table(path)["user_id"].to_pylist(), key=int)
        for path in sorted((folder / "experiments").glob("*.parquet"))
    }


OTHERS = [user for user in USERS if user != USER]


def test_whoever_is_forgotten_is_taken_out_of_every_file_and_nobody_else_is(data: Path, capsys: Capture) -> None:
    dry = run(capsys, "forget", USER, "--dry-run")
    assert (dry.code, dry.out) == (0, "user 7 would be erased from the files of 2025-W03, 2025-W04\n")
    assert users_of(data) == dict.fromkeys(WEEKS, USERS)
    assert not (data / "forgotten").exists()
    ended = run(capsys, "forget", USER)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("user 7 is erased from the files of 2025-W03, 2025-W04. Files of weeks up to ")
    assert users_of(data) == dict.fromkeys(WEEKS, OTHERS)
    for path in (data / "experiments").iterdir():
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            assert file.num_row_groups == SLICES
    (row,) = run(capsys, "forget", USER, "--json").rows()
    assert (row["user_id"], row["weeks"], row["is_forgotten"]) == (USER, [], True)


def test_what_is_kept_of_whoever_is_forgotten_does_not_say_who_it_is(data: Path, capsys: Capture) -> None:
    run(capsys, "forget", "user-with-a-name")
    run(capsys, "forget", "another")
    files = [path for path in (data / "forgotten").rglob("*") if path.is_file()]
    assert len(files) == 2
    assert len({path.parent for path in files}) == 1, "one salt for all"
    assert {path.name for path in files}.isdisjoint({path.name for path in salted_otherwise(data)})
    for path in files:
        assert "name" not in str(path) + path.read_text()
        assert path.stat().st_size > 100, "a smaller one would be read anew at every look at object storage"


def salted_otherwise(data: Path) -> list[Path]:
    note(data / "elsewhere", "user-with-a-name", "2025-W01")
    return [path for path in (data / "elsewhere").rglob("*") if path.is_file()]


@pytest.mark.parametrize("nth", range(6))
def test_a_power_cut_anywhere_leaves_work_that_the_next_command_finishes(
    data: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """Before and after the entry and each of two files; the next one may be a forget again, or a report."""
    steps = 0

    def cut(real: Callable[..., Any]) -> Callable[..., Any]:
        def done(*arguments: Any, **more: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == nth + 1:
                raise PowerCut
            found = real(*arguments, **more)
            steps += 1
            if steps == nth + 1:
                raise PowerCut
            return found

        return done

    with monkeypatch.context() as broken:
        broken.setattr("hitparade.forgetting.note", cut(models.forgotten.note))
        broken.setattr("models.forgotten._rewrite", cut(models.forgotten._rewrite))
        with pytest.raises(PowerCut):
            run(capsys, "forget", USER)
    assert steps == nth + 1
    assert {tuple(users) for users in users_of(data).values()} <= {tuple(USERS), tuple(OTHERS)}, "whole files"
    if nth % 2 or not nth:
        assert run(capsys, "forget", USER).code == 0
    else:
        run(capsys, "experiments", "report", "neural-against-linear", "--kept")
    assert users_of(data) == dict.fromkeys(WEEKS, OTHERS)


def test_every_command_that_opens_the_folder_finishes_an_interrupted_one(data: Path, capsys: Capture) -> None:
    note(data / "forgotten", USER, "2025-W03")
    assert run(capsys, "models").code == 0
    assert users_of(data) == {WEEKS[0]: OTHERS, WEEKS[1]: USERS}, "of the weeks that are to be forgotten"


def test_who_may_only_read_the_folder_reads_it_and_says_that_work_is_left(
    data: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(data / "forgotten", USER, "2025-W04")

    def refused(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    with monkeypatch.context() as read_only:
        read_only.setattr("models.forgotten.replacing", refused)
        ended = run(capsys, "models")
    assert (ended.code, "stays as it is: [Errno 30] Read-only file system" in ended.err) == (0, True)
    run(capsys, "models")
    assert users_of(data) == dict.fromkeys(WEEKS, OTHERS)


def test_what_a_week_that_has_closed_makes_old_goes_with_the_run_that_closed_it(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HITPARADE_USAGE_WEEKS", "1")
    (data / "history" / "weeks").mkdir(parents=True)
    (data / "history" / "weeks" / "2025-W04.parquet").touch()
    data_folder.send(Settings.from_env(os.environ))
    assert list(users_of(data)) == ["2025-W04"]


def test_a_file_that_cannot_be_read_is_removed_since_nobody_knows_who_is_in_it(
    data: Path, capsys: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    path = data / "experiments" / "2025-W04.parquet"
    path.write_bytes(path.read_bytes()[:-4])
    with caplog.at_level(logging.WARNING):
        assert run(capsys, "models").code == 0
        assert path.exists(), "while nobody is forgotten"
        assert run(capsys, "forget", USER).code == 0
    assert users_of(data) == {WEEKS[0]: OTHERS}


def test_what_an_extraction_that_died_has_left_goes_too(data: Path, capsys: Capture) -> None:
    left = data / "experiments" / ".1234.tmp" / "2025-W03"
    left.mkdir(parents=True)
    (left / "0-0.parquet").touch()
    run(capsys, "forget", USER)
    assert not left.parent.exists()


def test_an_entry_that_cannot_be_read_is_of_all_weeks(tmp_path: Path) -> None:
    path = note(tmp_path, USER, "2025-W03")
    assert USER not in read_forgotten(tmp_path).of_week("2025-W04")
    path.write_text("{")
    assert USER in read_forgotten(tmp_path).of_week("2030-W04")
    assert "8" not in read_forgotten(tmp_path)


def test_to_be_forgotten_again_is_of_the_later_week(tmp_path: Path) -> None:
    assert note(tmp_path, USER, "2025-W07") == note(tmp_path, USER, "2025-W05")
    assert USER in read_forgotten(tmp_path).of_week("2025-W07")
    note(tmp_path, USER, "2025-W09")
    assert USER in read_forgotten(tmp_path).of_week("2025-W09")
    assert USER not in read_forgotten(tmp_path).of_week("2025-W10")


# What is old


def test_files_of_more_weeks_ago_than_the_setting_go_by_themselves_and_so_does_who_was_forgotten_then(
    data: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = data / "history" / "weeks"
    note(data / "forgotten", USER, "2025-W03")
    old = note(data / "forgotten", "8", "2025-W02")
    monkeypatch.setenv("HITPARADE_USAGE_WEEKS", "2")
    history.mkdir(parents=True)
    (history / "2025-W04.parquet").touch()
    assert run(capsys, "models").code == 0
    assert list(users_of(data)) == list(WEEKS)
    assert not old.exists()
    assert USER in read_forgotten(data / "forgotten")
    (history / "2025-W05.parquet").touch()
    assert run(capsys, "models").code == 0
    assert list(users_of(data)) == ["2025-W04"]
    assert USER not in read_forgotten(data / "forgotten")
    assert expired(data / "experiments", data / "forgotten", "2025-W04") == []


# Object storage


@pytest.fixture(params=["s3", "file"])
def shared(request: pytest.FixtureRequest, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    there: str = request.getfixturevalue("url") if request.param == "s3" else f"file://{tmp_path}/there"
    monkeypatch.setenv("HITPARADE_DATA_URL", there)
    data_folder.send(Settings.from_env({"HITPARADE_DATA_DIR": str(data), "HITPARADE_DATA_URL": there}))
    return there


def on(folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Ended:
    monkeypatch.setenv("HITPARADE_DATA_DIR", str(folder))
    return run(capsys, *arguments)


@pytest.mark.usefixtures("shared")
def test_other_machines_and_object_storage_forget_too(
    data: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, third = tmp_path / "other", tmp_path / "third"
    assert on(other, capsys, monkeypatch, "models").code == 0
    assert users_of(other) == dict.fromkeys(WEEKS, USERS)
    keep(other / "experiments", {"2025-W05": week(USERS, "control", plays=3)})
    assert on(data, capsys, monkeypatch, "forget", USER).code == 0
    assert on(other, capsys, monkeypatch, "models").code == 0
    assert users_of(other) == dict.fromkeys((*WEEKS, "2025-W05"), OTHERS), "also of what this machine alone had"
    assert on(third, capsys, monkeypatch, "models").code == 0
    assert users_of(third) == dict.fromkeys(WEEKS, OTHERS)


@pytest.mark.usefixtures("shared")
def test_what_has_gone_of_age_is_gone_from_object_storage_and_is_not_fetched_again(
    data: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    assert on(other, capsys, monkeypatch, "models").code == 0
    monkeypatch.setenv("HITPARADE_USAGE_WEEKS", "1")
    (data / "history" / "weeks").mkdir(parents=True)
    (data / "history" / "weeks" / "2025-W04.parquet").touch()
    for _ in range(2):
        assert on(data, capsys, monkeypatch, "models").code == 0
        assert list(users_of(data)) == ["2025-W04"]
    assert on(tmp_path / "third", capsys, monkeypatch, "models").code == 0
    assert list(users_of(tmp_path / "third")) == ["2025-W04"]
    assert list(users_of(other)) == list(WEEKS), "until it opens its folder"


# The log


def rows_with(files: Sequence[Path], user: str) -> int:
    return sum(user in table["user_id"].to_pylist() for path in files for table in slices_of(path))


def busiest(files: Sequence[Path]) -> str:
    users = [user for path in files for table in slices_of(path) for user in table["user_id"].to_pylist()]
    return str(max(sorted(set(users)), key=users.count))


def test_files_that_are_made_of_the_log_again_are_without_them_and_counters_stay(
    log: Counted, command: Command
) -> None:
    log.fill(500)
    log.consume()
    closed = closed_weeks(log)
    files = list(usage_of(log).extract(closed).files.values())
    user = busiest(files)
    n_rows = sum(len(pq.read_table(path)) for path in files)
    n_with = rows_with(files, user)
    before = log.redis.hgetall(log.key("week:2023-W24:0"))
    assert n_with > 2
    assert command(log, "forget", user).code == 0
    assert rows_with(files, user) == 0
    for path in files:
        path.unlink()
    found = usage_of(log).extract(closed)
    assert (found.files.keys(), found.notes) == ({week.name for week in closed}, {})
    assert rows_with(list(found.files.values()), user) == 0
    assert sum(len(pq.read_table(path)) for path in found.files.values()) == n_rows - n_with
    assert log.redis.hgetall(log.key("week:2023-W24:0")) == before
    assert command(log, "audit").code == 0
    stamps = {path: path.stat().st_mtime_ns for path in found.files.values()}
    assert usage_of(log).extract(closed).files.keys() == found.files.keys()
    assert {path: path.stat().st_mtime_ns for path in found.files.values()} == stamps, "they are used again"


def test_how_often_their_plays_have_counted_goes_from_redis_and_nobody_elses(log: Counted, command: Command) -> None:
    """As real consumers remember it, under a cap, on both brokers."""
    capped = log.other(PLAYS_CAP="2")
    days = [(0, "a"), (0.1, "b"), (1, "a"), (1.1, "a"), (1.2, "a")]
    for partition, user in enumerate(("u", "v")):
        capped.send(*((partition, None, play(when, track, user)) for when, track in days))
    capped.consume()

    def remembered() -> list[tuple[int, str, int]]:
        reader = wiring.counter_reader(capped.settings)
        weeks = [week.name for week in reader.standing().kept()]
        found = [(p, week, log.redis.hlen(log.key(f"plays:{week}", p))) for p in reader.partitions for week in weeks]
        return [entry for entry in found if entry[2]]

    every = [(p, week, n) for p in (0, 1) for week, n in (("2023-W24", 2), ("2023-W25", 1))]
    assert remembered() == every
    before = counters_of(capped, closed_weeks(capped)[-1])
    (row,) = command(capped, "forget", "u", "--json").rows()
    assert row["pairs"] == 3
    assert remembered() == every[2:]
    assert counters_of(capped, closed_weeks(capped)[-1]) == before
    assert command(capped, "audit").code == 0
    assert command(capped, "forget", "u", "--json").rows()[0]["pairs"] == 0


def test_whoever_is_forgotten_while_files_are_being_made_is_not_in_them(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forget runs after the log was read, and before the files are there: it waits, or comes first."""
    closed, forgotten = closed_weeks(counted), data_folder.forgotten(counted.settings)
    folder = data_folder.usage(counted.settings)
    user = busiest(list(usage_of(counted).extract(closed).files.values()))
    for path in folder.glob("*.parquet"):
        path.unlink()
    real, others = models.forgotten.Forgotten.without, list[threading.Thread]()

    def meanwhile(self: Any, rows: pa.Table) -> pa.Table:
        if not others:
            others.append(
                threading.Thread(target=lambda: (note(forgotten, user, "2024-W01"), cleanse(folder, forgotten)))
            )
            others[0].start()
        return real(self, rows)

    monkeypatch.setattr(models.forgotten.Forgotten, "without", meanwhile)
    files = list(usage_of(counted).extract(closed).files.values())
    others[0].join()
    assert rows_with(files, user) == 0


def test_weeks_that_are_too_old_to_be_kept_are_not_made(counted: Counted) -> None:
    counted = counted.other(USAGE_WEEKS="2")
    closed = closed_weeks(counted)
    found = usage_of(counted).extract(closed)
    assert set(found.files) == {week.name for week in closed[-2:]}
    assert set(found.notes) == {week.name for week in closed[:-2]}
    assert all("what listeners did is kept of 2 closed weeks" in text for text in found.notes.values())


def test_a_file_says_of_whom_it_was_made_without(tmp_path: Path) -> None:
    keep(tmp_path / "files", {WEEKS[0]: week(USERS, "control")})
    (path,) = (tmp_path / "files").iterdir()
    assert weeks_with(tmp_path / "files", USER) == [WEEKS[0]]
    note(tmp_path / "forgotten", USER, WEEKS[0])
    assert cleanse(tmp_path / "files", tmp_path / "forgotten") == [WEEKS[0]]
    assert pq.read_schema(path).metadata[MARK]
    assert cleanse(tmp_path / "files", tmp_path / "forgotten") == []
    assert weeks_with(tmp_path / "files", USER) == []

"""Training before a list is due."""

import fcntl
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from features.weeks import Calendar
from hitparade import wiring
from hitparade.__main__ import main
from hitparade.embedded import Embedded
from hitparade.retraining import NotTrained, Retraining, week_to_learn_up_to
from hitparade.settings import Settings
from tests.builders_history import listening, weeks
from tests.builders_weekly import Stage, chart_week, plays, staged
from tests.servers import ROOT

WEEK = Calendar().parse("2023-W10")
SAYS = "import sys; print('learned up to', sys.argv[1]); print('more')"
TEST_LOGGER = "hitparade.retraining"


def up_to(weeks: list[str], in_use: str | None, every_weeks: int, versions: tuple[str, ...] = ()) -> str:
    return week_to_learn_up_to(weeks, versions, in_use, WEEK, every_weeks)


@pytest.mark.parametrize(
    ("in_use", "every_weeks"),
    [(None, 52), ("2023-W06-1a2b", 4), ("2023-W06-1a2b", 1), ("2022-W50-1a2b", 12), ("no-name", 52), ("", 52)],
)
def test_it_is_time_where_none_is_in_use_or_so_many_weeks_have_gone_by(in_use: str | None, every_weeks: int) -> None:
    assert up_to(weeks(9), in_use, every_weeks) == "2023-W09"


@pytest.mark.parametrize(("in_use", "every_weeks"), [("2023-W06-1a2b", 5), ("2023-W09-1a2b", 2), ("2023-W30-1a2b", 1)])
def test_it_is_not_time_while_the_one_in_use_is_younger(in_use: str, every_weeks: int) -> None:
    with pytest.raises(NotTrained, match=f"^neural {in_use} is in use, which is younger than {every_weeks} weeks$"):
        up_to(weeks(9), in_use, every_weeks)


def test_what_was_tried_is_not_tried_again_before_the_history_has_a_later_week() -> None:
    with pytest.raises(NotTrained, match=r"^there is neural 2023-W09-3c4d already, and the history has no later week$"):
        up_to(weeks(9), "2023-W01-1a2b", 4, ("2023-W01-1a2b", "2023-W09-3c4d"))
    assert up_to(weeks(9), "2023-W01-1a2b", 4, ("2023-W01-1a2b", "2023-W08-3c4d")) == "2023-W09"


@pytest.mark.parametrize("n_weeks", [0, 5])
def test_with_too_little_history_there_is_nothing_to_learn_from(n_weeks: int) -> None:
    with pytest.raises(NotTrained, match=rf"^the history needs 6 closed weeks in a row, has {n_weeks}$"):
        up_to(weeks(n_weeks), None, 1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A data folder with nine weeks of history."""
    listening(tmp_path / "history", 9, n_tracks=5)
    return Settings.from_env({"HITPARADE_DATA_DIR": str(tmp_path), "HITPARADE_RETRAIN_WEEKS": "4"})


def told(
    settings: Settings, caplog: pytest.LogCaptureFixture, code: str, patience_s: float = 60, week: str = "2023-W10"
) -> list[tuple[str, str]]:
    """What is logged when `code` trains."""
    caplog.clear()
    retraining = Retraining(settings, threading.Event(), (sys.executable, "-c", code), patience_s)
    with caplog.at_level(logging.INFO, TEST_LOGGER):
        retraining.before(Calendar().parse(week))
    return [(record.levelname, record.message) for record in caplog.records if record.name == TEST_LOGGER]


BEGUN = ("INFO", "training on the weeks up to 2023-W09, before week 2023-W10 is triggered")
NOT_TRAINED = "no training before week 2023-W10 is triggered: "


def test_the_first_line_of_what_the_training_says_is_told(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    assert told(settings, caplog, SAYS) == [BEGUN, ("INFO", "learned up to 2023-W09")]
    assert told(settings, caplog, f"{SAYS}; sys.exit(1)") == [BEGUN, ("INFO", "learned up to 2023-W09")]


def test_only_weeks_before_the_one_that_is_triggered_are_learned_from(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    assert told(settings, caplog, SAYS, week="2023-W08")[-1] == ("INFO", "learned up to 2023-W07")


def test_an_alias_of_no_version_is_mended_by_a_new_one(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    alias = settings.data_dir / "models" / "neural" / "champion"
    alias.parent.mkdir(parents=True)
    alias.write_text("2023-W09-gone")
    assert told(settings, caplog, SAYS) == [BEGUN, ("INFO", "learned up to 2023-W09")]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit('first\\nlast')", "exit code 1: last"),
        ("import os; os.abort()", "exit code -6: it said nothing"),
    ],
)
def test_a_training_that_fails_is_told_and_no_more(
    settings: Settings, caplog: pytest.LogCaptureFixture, code: str, message: str
) -> None:
    assert told(settings, caplog, code) == [BEGUN, ("WARNING", f"{NOT_TRAINED}{message}")]


def test_a_command_that_is_not_there_and_a_folder_that_cannot_be_written_are_told(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, TEST_LOGGER):
        Retraining(settings, threading.Event(), ("/nowhere/at-all",)).before(WEEK)
        assert f"{NOT_TRAINED}FileNotFoundError: " in caplog.messages[-1]
        (settings.data_dir / "models" / ".training").unlink()
        (settings.data_dir / "models").rmdir()
        (settings.data_dir / "models").touch()
        Retraining(settings, threading.Event()).before(WEEK)
    assert f"{NOT_TRAINED}FileExistsError: " in caplog.messages[-1]


FOREVER = "import os, sys, time; open(os.environ['PID_FILE'], 'w').write(str(os.getpid())); time.sleep(600)"


def test_a_training_that_takes_too_long_is_ended(
    settings: Settings, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PID_FILE", str(tmp_path / "pid"))
    assert told(settings, caplog, FOREVER, patience_s=1) == [
        BEGUN,
        ("WARNING", f"{NOT_TRAINED}it took more than 1 s"),
    ]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_scheduler_that_is_told_to_stop_ends_the_training_and_waits_for_no_other(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    stop = threading.Event()
    stop.set()
    retraining = Retraining(settings, stop, (sys.executable, "-c", "import time; time.sleep(600)"))
    with caplog.at_level(logging.INFO, TEST_LOGGER):
        retraining.before(WEEK)
        assert caplog.messages[-1] == f"{NOT_TRAINED}told to stop"
        with (settings.data_dir / "models" / ".training").open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            retraining.before(WEEK)
    assert caplog.messages[-1] == f"{NOT_TRAINED}told to stop"
    assert len(caplog.messages) == 3


def test_two_schedulers_train_once(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """Each takes until a version is there, which ends the need of the other one."""
    code = (
        "import os, sys, time; time.sleep(0.3); "
        f"os.makedirs({str(settings.data_dir / 'models' / 'neural')!r} + f'/{{sys.argv[1]}}-1a2b'); print('done')"
    )
    schedulers = [
        threading.Thread(
            target=Retraining(settings, threading.Event(), (sys.executable, "-c", code)).before, args=(WEEK,)
        )
        for _ in range(2)
    ]
    with caplog.at_level(logging.INFO, TEST_LOGGER):
        for scheduler in schedulers:
            scheduler.start()
        for scheduler in schedulers:
            scheduler.join()
    assert sorted(caplog.messages) == [
        "done",
        f"{NOT_TRAINED}there is neural 2023-W09-1a2b already, and the history has no later week",
        BEGUN[1],
    ]


def test_without_history_nothing_is_started_and_no_heavy_library_is_needed(tmp_path: Path) -> None:
    code = """
import sys, threading
import hitparade.pipeline
from features.weeks import Calendar
from hitparade.retraining import Retraining
from hitparade.settings import Settings
settings = Settings.from_env({"HITPARADE_DATA_DIR": sys.argv[1]})
Retraining(settings, threading.Event()).before(Calendar().parse("2023-W10"))
print(*{"torch", "sklearn", "scipy", "matplotlib"} & sys.modules.keys())
"""
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert ended.stdout == "\n"
    assert not list(tmp_path.iterdir())


@pytest.fixture
def stage(embedded_stack: Embedded, prefix: str, tmp_path: Path) -> Iterator[Stage]:
    with staged(embedded_stack.kafka, embedded_stack.redis_url, prefix, tmp_path / "data") as stage:
        stage.catalogue("a", "b")
        for week in (20, 21, 22):
            stage.send(plays(week, {"a": 2, "b": week}))
        stage.count()
        yield stage


def test_what_prepares_is_called_once_with_the_oldest_week_that_is_due_before_it_is_fired(stage: Stage) -> None:
    called = []
    stage.triggers.prepare = lambda week: called.append((week.name, stage.triggers.triggered()))
    assert [week.name for week in stage.triggers.fire_due(None, stage.settings.calendar.end(chart_week(1)).resolution)]
    assert called == [("2023-W20", set())]
    stage.triggers.fire_due(None, stage.settings.calendar.end(chart_week(1)).resolution)
    assert len(called) == 1


def test_schedule_trains_promotes_what_is_better_and_then_triggers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in stage.env.items():
        monkeypatch.setenv(name, value)
    listening(stage.settings.data_dir / "history", 14, n_tracks=80)
    assert main(["schedule", "--once", "--event-time"]) == 0
    assert wiring.registry(stage.settings).versions("neural") == []
    stage.send(plays(23, {"a": 1}))
    stage.count()
    monkeypatch.setenv("HITPARADE_RETRAIN_WEEKS", "1")
    assert main(["schedule", "--once", "--event-time"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "triggered 2023-W20, 2023-W21\ntriggered 2023-W22\n"
    (version,) = wiring.registry(stage.settings).versions("neural")
    assert version.startswith("2023-W14-")
    assert wiring.registry(stage.settings).champion("neural") == stage.settings.data_dir / "models" / "neural" / version

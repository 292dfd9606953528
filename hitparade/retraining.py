"""Training before a list is due: in a process of its own, by one scheduler at a time, and never at a trigger's cost."""

import fcntl
import logging
import os
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired

from features.weeks import Calendar, ChartWeek
from hitparade import wiring
from hitparade.processes import leash
from hitparade.settings import Settings

log = logging.getLogger(__name__)
MODEL = "neural"
TRAIN = (sys.executable, "-m", "hitparade", "train", "--if-better", "--until")
PATIENCE_S, LOOK_EVERY_S = 3600.0, 0.2


class NotTrained(Exception):
    """There is no need to train, or no way; says why."""


class TrainingFailed(Exception):
    """It did not end as it should; says how."""


@dataclass(frozen=True, slots=True)
class Retraining:
    """What trains by the settings, until told to stop."""

    settings: Settings
    stop: threading.Event
    command: Sequence[str] = TRAIN
    """Trains up to the week that is added to it; the first line that it prints is told."""
    patience_s: float = PATIENCE_S

    def before(self, week: ChartWeek) -> None:
        """Train on the history there is before a week is triggered, if it is time; whatever goes wrong is logged."""
        of = {"week": week.name}
        try:
            self._until(week)
            with self._alone():
                until = self._until(week)  # again: another scheduler may have trained meanwhile
                log.info("training on the weeks up to %s, before week %s is triggered", until, week, extra=of)
                log.info("%s", self._trained(until), extra=of)
        except NotTrained as cause:
            log.info("no training before week %s is triggered: %s", week, cause, extra=of)
        except TrainingFailed as cause:
            log.warning("no training before week %s is triggered: %s", week, cause, extra=of)
        except Exception as cause:  # whatever training does, the week is triggered
            told = week, type(cause).__name__, cause
            log.error("no training before week %s is triggered: %s: %s", *told, extra=of)

    def _until(self, week: ChartWeek) -> str:
        from models.scoring import ArtefactError

        registry = wiring.registry(self.settings)
        try:
            champion = registry.champion(MODEL)
        except ArtefactError:  # it names no version, and a new one would mend it
            champion = None
        weeks = [name for name in wiring.history(self.settings).weeks() if name < week.name]
        in_use = champion.name if champion else None
        return week_to_learn_up_to(weeks, registry.versions(MODEL), in_use, week, self.settings.retrain_weeks)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other scheduler of this data folder trains."""
        path = self.settings.data_dir / "models" / ".training"
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            deadline = time.monotonic() + self.patience_s
            while not _is_locked(descriptor):
                self._go_on(deadline)
                self.stop.wait(LOOK_EVERY_S)
            yield
        finally:
            os.close(descriptor)

    def _trained(self, until: str) -> str:
        """The first line that the training says: which version is in use, or why it is not.

        Raises:
            TrainingFailed: it said nothing, or took too long.
        """
        deadline = time.monotonic() + self.patience_s
        with (
            leash() as group,
            Popen([*self.command, until], stdin=DEVNULL, stdout=PIPE, stderr=PIPE, process_group=group) as process,
        ):
            try:
                while True:
                    try:
                        out, err = process.communicate(timeout=LOOK_EVERY_S)
                        break
                    except TimeoutExpired:
                        self._go_on(deadline)
            finally:
                process.kill()  # or leaving the block would wait for it
        if not out:
            last = err.decode(errors="replace").splitlines()[-1:]
            raise TrainingFailed(f"exit code {process.returncode}: {''.join(last) or 'it said nothing'}")
        return out.decode(errors="replace").splitlines()[0]

    def _go_on(self, deadline: float) -> None:
        if self.stop.is_set():
            raise NotTrained("told to stop")
        if time.monotonic() > deadline:
            raise TrainingFailed(f"it took more than {self.patience_s:,.0f} s")


def week_to_learn_up_to(
    weeks: Sequence[str], versions: Collection[str], in_use: str | None, week: ChartWeek, every_weeks: int
) -> str:
    """The last week of the history, if it is time to learn up to it.

    Args:
        weeks: the names of those before the week that is about to be triggered, oldest first.
        versions: that there are; one that has learned up to the same week was tried already.
        in_use: the version in use.
        week: about to be triggered.
        every_weeks: so many weeks may lie between the last one that the version in use learned from and this one.

    Raises:
        NotTrained: there is no need, or too little to learn from.
    """
    from models.artefact import learned_until
    from models.examples import require_targets
    from models.scoring import NotEnoughHistory

    try:
        require_targets(weeks, 2)
    except NotEnoughHistory as cause:
        raise NotTrained(f"the history {cause}") from cause
    if in_use is not None and _weeks_between(learned_until(in_use), week) < every_weeks:
        raise NotTrained(f"{MODEL} {in_use} is in use, which is younger than {every_weeks} weeks")
    if tried := [version for version in versions if learned_until(version) == weeks[-1]]:
        raise NotTrained(f"there is {MODEL} {tried[0]} already, and the history has no later week")
    return weeks[-1]


def _weeks_between(name: str, week: ChartWeek) -> float:
    try:
        return (week.first_day - Calendar().parse(name).first_day).days / 7
    except ValueError:  # a version that no training of ours has named
        return float("inf")


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: two may train at once, and make the same version
        return True
    return True

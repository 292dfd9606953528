"""What can be wrong here: with clocks, files, the disk, the history and the models."""

import shutil
import time
from importlib.util import find_spec
from uuid import uuid4

from consumers.brokers import NotTold
from features.vitals import times
from hitparade import data_folder, wiring
from hitparade.doctor import Careful, Check, Patient, Wrong
from hitparade.settings import PREFIX
from hitparade.sizing import duration, size
from models.experiments import PAST, Experiment

SKEWED_S = 5.0
WRONG_S = 60.0
LEAST_FREE = 2**30  # a week of a million tracks takes a tenth of it
PROBE = b"\0" * 4096


def redis_clock(patient: Patient) -> str:
    """This clock is that of Redis."""
    now = patient.clock()
    found = times(patient.sessions.client)
    return _clock(patient, "Redis", now, max(found, key=lambda it: abs(it - now))) if found else "it does not tell"


def kafka_clock(patient: Patient) -> str:
    """This clock is that of Kafka."""
    now = patient.clock()
    try:
        return _clock(patient, "Kafka", now, patient.brokers.time())
    except NotTold as cause:
        return str(cause)


def _clock(patient: Patient, whose: str, asked: float, theirs: float) -> str:
    skew = theirs - (asked + patient.clock()) / 2  # it answered half-way, as far as that can be known
    if abs(skew) < SKEWED_S:
        return f"{whose} and this machine agree"
    text = (
        f"{whose} has {_moment(theirs)}, this machine {_moment(theirs - skew)}, "
        f"{duration(abs(skew))} {'behind' if skew > 0 else 'ahead'}: set the clocks by NTP. By Kafka's an event is "
        "dead as `future`, and retention deletes; by this one `hitparade schedule` triggers"
    )
    raise Wrong(text) if abs(skew) > WRONG_S else Careful(text)


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def client(patient: Patient) -> str:
    """The Kafka client of the settings is there."""
    wiring.kafka_client(patient.settings)
    return patient.settings.kafka_client


def experiments(patient: Patient) -> str:
    """The file can be read."""
    return ", ".join(experiment.name for experiment in wiring.experiments(patient.settings).experiments) or "none"


def storage(patient: Patient) -> str:
    """Object storage answers, where it is set; what is new there is fetched, as by every command."""
    if not patient.settings.data_url:
        return "none is set"
    data_folder.ready(patient.settings)
    return f"{patient.settings.shown('data_url')} answers"


def room_for_data(patient: Patient) -> str:
    """It can be written, and has room."""
    folder = patient.settings.data_dir
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".probe-{uuid4().hex}"
    try:
        probe.write_bytes(PROBE)  # a file without a byte has room on a disk that is full
    except OSError as cause:
        raise Wrong(
            f"{folder} takes no more: {cause.strerror}. Make room, or set {PREFIX}DATA_DIR elsewhere"
        ) from cause
    finally:
        probe.unlink(missing_ok=True)
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE:
        raise Careful(
            f"{folder} has {size(free)} left, expected {size(LEAST_FREE)} or more: make room before it is full"
        )
    return f"{folder} can be written, {size(free)} free"


def history(patient: Patient) -> str:
    """Every week can be read, and none is missing."""
    weeks = patient.history.weeks()
    if not weeks:
        return "no week yet: `hitparade consume weekly` writes one for each that it is triggered for"
    if broken := [week for week in weeks if patient.history.stamp(week) is None]:
        raise Wrong(
            f"the file of {', '.join(broken)} is broken: `hitparade trigger WEEK` writes a week anew that is still "
            "kept; of an older one, bring the file back from a backup or remove it"
        )
    calendar = patient.settings.calendar
    span = [week.name for week in calendar.parse(weeks[-1]).span(len(weeks) + 520) if week.name >= weeks[0]]
    if missing := [week for week in span if week not in weeks]:
        raise Careful(
            f"{weeks[0]} to {weeks[-1]} lacks {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}, and models "
            "learn from weeks in a row: `hitparade trigger WEEK` writes those that are still kept"
        )
    return f"{len(weeks)} weeks, {weeks[0]} to {weeks[-1]}"


def models(patient: Patient) -> str:
    """Each group's model can make its list, now or in an experiment that is to come."""
    named = {group.model for experiment in _not_past(patient) for group in experiment.groups if group.weight}
    well, doubtful = [], []
    for name in sorted(named):
        try:
            well.append(_model(patient, name))
        except Careful as cause:
            doubtful.append(str(cause))
    if doubtful:
        raise Careful("; ".join(doubtful))
    return "; ".join(well) or "none is asked for"


def _not_past(patient: Patient) -> list[Experiment]:
    found, weeks = wiring.experiments(patient.settings).experiments, patient.history.weeks()
    if not weeks:
        return list(found)
    open_week = patient.settings.calendar.parse(weeks[-1]).after()
    return [experiment for experiment in found if experiment.state(open_week) != PAST]


def _model(patient: Patient, name: str) -> str:
    from models.examples import require_targets
    from models.scoring import NotEnoughHistory

    model, _, version = name.partition("@")
    if model == "neural":
        return _neural(patient, version)
    if model == "linear":
        try:
            require_targets(patient.history.weeks(), 1)
        except NotEnoughHistory as cause:
            raise Careful(f"linear {cause} of history: until then its lists are last week's plays (naive)") from cause
    return f"{name} is ready"


def _neural(patient: Patient, version: str) -> str:
    from models.artefact import check_content, learned_until
    from models.registry import Registry

    registry, weeks = Registry(patient.settings.data_dir / "models"), patient.history.weeks()
    folder = registry.version("neural", version) if version else registry.champion("neural")
    if folder is None:
        raise Careful(_untrained(weeks))
    check_content(folder)
    if find_spec("torch") is None:
        raise Careful("neural needs torch, which is not installed: naive takes its place; pip install -e '.[neural]'")
    if weeks and learned_until(folder.name) > weeks[-1]:
        raise Careful(
            f"neural {folder.name} has learned from weeks after {weeks[-1]}, the last of the history, and is not used "
            "for it: naive takes its place. `hitparade models promote` puts an older one in use"
        )
    return f"neural {folder.name} is in use"


def _untrained(weeks: list[str]) -> str:
    from models.examples import require_targets
    from models.scoring import NotEnoughHistory

    text = "neural is not trained, and naive takes its place"
    try:
        require_targets(weeks, 2)
    except NotEnoughHistory as cause:
        return f"{text}: it {cause} of history, then run `hitparade train`"
    return f"{text}: run `hitparade train`"


MACHINE = (
    Check("Kafka's clock", kafka_clock, ("brokers",)),
    Check("Redis' clock", redis_clock, ("redis",)),
    Check("Kafka client", client),
    Check("experiments", experiments),
    Check("object storage", storage),
    Check("data folder", room_for_data, ("object storage",)),
    Check("history", history, ("data folder",)),
    Check("models", models, ("experiments", "history")),
)

"""What can go wrong for reasons outside this code: one clear sentence each, and no traceback."""

from features.mapping_file import MappingError
from hitparade.settings import PREFIX, Settings, SettingsError
from models.experiments import ExperimentError


class UsageError(ValueError):
    """The command was asked for something that cannot be: a week that does not exist, options that do not fit."""


class OutputError(Exception):
    """A file or folder cannot be written."""


class NotInstalled(Exception):
    """A package is missing that this command needs, and others do not."""


class NotDecided(Exception):
    """An experiment decides nothing, or what it has decided cannot be taken back; says why."""


USAGE = (UsageError, SettingsError, ExperimentError, MappingError)
CLIENTS = {"kafka": "kafka_bootstrap_servers", "redis": "redis_url"}
"""Libraries whose errors come from the other end of a connection, and the setting that says where that is."""


def failures() -> tuple[type[Exception], ...]:
    """Every other error that has a sentence for people; imported only when something has failed."""
    from consumers.kafka import KafkaUnavailable
    from consumers.rebuild import RebuildRefused
    from consumers.runs import RunError
    from consumers.snapshot import WrongTopic
    from consumers.usage import ExtractionError
    from features.connect import StoreUnavailable
    from features.history import HistoryError
    from features.reader import WeekError
    from features.runners import RunnerError
    from hitparade.embedded import EmbeddedError
    from hitparade.steps import DemoError
    from hitparade.wiring import ClientMissing, UnsafeRedis
    from models.charts import ChartsError
    from models.scoring import ModelError
    from producers.files import SourceError
    from producers.kafka import DeliveryError, KafkaUnreachable, TopicMissing
    from producers.publisher import NotAcknowledged

    return (
        ChartsError,
        ClientMissing,
        DeliveryError,
        DemoError,
        EmbeddedError,
        ExtractionError,
        HistoryError,
        KafkaUnavailable,
        KafkaUnreachable,
        ModelError,
        NotDecided,
        NotInstalled,
        NotAcknowledged,
        OSError,
        OutputError,
        RebuildRefused,
        RunError,
        RunnerError,
        SourceError,
        StoreUnavailable,
        TopicMissing,
        UnsafeRedis,
        WeekError,
        WrongTopic,
    )


def is_expected(cause: Exception) -> bool:
    """Whether it has a sentence for people; what a client says and nobody foresaw has its own."""
    return isinstance(cause, failures()) or type(cause).__module__.split(".")[0] in CLIENTS


def sentence(cause: Exception, settings: Settings) -> str:
    """What the error says; of an address where nobody answers, also what to do."""
    if isinstance(cause, OSError) and cause.strerror:
        return f"{cause.filename or 'the output'} cannot be used: {cause.strerror}"
    from consumers.kafka import KafkaUnavailable
    from features.connect import StoreUnavailable
    from producers.kafka import KafkaUnreachable

    names = {StoreUnavailable: "redis_url", KafkaUnavailable: "kafka_bootstrap_servers"}
    names[KafkaUnreachable] = names[KafkaUnavailable]  # not of what refuses: it is there, and says what is wrong
    client = type(cause).__module__.split(".")[0]
    name, text = names.get(type(cause), CLIENTS.get(client, "")), str(cause)
    if client in CLIENTS:
        text = f"{client} says {text.removeprefix(type(cause).__name__).lstrip(': ') or type(cause).__name__}"
    setting = PREFIX + name.upper()
    if not name or setting in text:
        return text
    return f"{text.rstrip('.')}. {setting} is {settings.shown(name)}: is that right, and is it up?"

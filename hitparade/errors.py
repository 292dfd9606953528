"""What can go wrong for reasons outside this code: one clear sentence each, and no traceback."""

from hitparade.settings import PREFIX, Settings, SettingsError
from models.experiments import ExperimentError


class UsageError(ValueError):
    """The command was asked for something that cannot be: a week that does not exist, options that do not fit."""


class OutputError(Exception):
    """A file or folder cannot be written."""


USAGE = (UsageError, SettingsError, ExperimentError)


def failures() -> tuple[type[Exception], ...]:
    """Every other error that has a sentence for people; imported only when something has failed."""
    from consumers.kafka import KafkaUnavailable
    from consumers.snapshot import WrongTopic
    from features.history import HistoryError
    from features.reader import WeekError
    from features.store import StoreUnavailable
    from hitparade.embedded import EmbeddedError
    from hitparade.steps import DemoError
    from hitparade.wiring import UnsafeRedis
    from models.scoring import ModelError
    from producers.files import SourceError
    from producers.kafka import DeliveryError, KafkaUnreachable, TopicMissing
    from producers.publisher import NotAcknowledged

    return (
        DeliveryError,
        DemoError,
        EmbeddedError,
        HistoryError,
        KafkaUnavailable,
        KafkaUnreachable,
        ModelError,
        NotAcknowledged,
        OutputError,
        SourceError,
        StoreUnavailable,
        TopicMissing,
        UnsafeRedis,
        WeekError,
        WrongTopic,
    )


def sentence(cause: Exception, settings: Settings) -> str:
    """What the error says; of an address where nobody answers, also what to do."""
    from consumers.kafka import KafkaUnavailable
    from features.store import StoreUnavailable
    from producers.kafka import KafkaUnreachable

    names = {StoreUnavailable: "redis_url", KafkaUnavailable: "kafka_bootstrap_servers"}
    names[KafkaUnreachable] = names[KafkaUnavailable]
    name = names.get(type(cause))
    if name is None:
        return str(cause)
    setting = PREFIX + name.upper()
    return (
        str(cause)
        if setting in str(cause)
        else f"{cause}. {setting} is {settings.shown(name)}: is that right, and is it up?"
    )

"""What can go wrong for reasons outside this code: one clear sentence each, and no traceback."""

from hitparade.settings import SettingsError
from models.experiments import ExperimentError


class UsageError(ValueError):
    """The command was asked for something that cannot be: a week that does not exist, options that do not fit."""


USAGE = (UsageError, SettingsError, ExperimentError)


def failures() -> tuple[type[Exception], ...]:
    """Every other error that has a sentence for people; imported only when something has failed."""
    from consumers.kafka import KafkaUnavailable
    from consumers.snapshot import WrongTopic
    from features.history import HistoryError
    from features.reader import WeekError
    from features.store import StoreUnavailable
    from hitparade.demo import DemoError
    from hitparade.embedded import EmbeddedError
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
        SourceError,
        StoreUnavailable,
        TopicMissing,
        UnsafeRedis,
        WeekError,
        WrongTopic,
    )

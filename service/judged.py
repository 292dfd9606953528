"""What the lists were worth, as the topic of evaluations tells of it."""

from collections.abc import Mapping

from producers.playlists import Evaluation


class Judged:
    """Written by one thread, read by all: the last evaluation of each week and group."""

    def __init__(self) -> None:
        self._known: Mapping[str, Evaluation] = {}

    def take(self, value: bytes) -> None:
        """Read a record of the topic.

        Raises:
            ValidationError: it is no evaluation.
        """
        evaluation = Evaluation.model_validate_json(value)
        self._known = {**self._known, evaluation.key: evaluation}

    def all(self) -> list[Evaluation]:
        """By week and group."""
        known = self._known
        return [known[key] for key in sorted(known)]

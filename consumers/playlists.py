"""Reading lists back from their topic: what was published, not what a local file remembers."""

import contextlib
import logging
from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from consumers.kafka import TopicWatch, place_of, read_to_end
from producers.kafka import KafkaConfig
from producers.playlists import Playlist

log = logging.getLogger(__name__)


class PlaylistLog:
    """The last list of each week and group."""

    def __init__(self, kafka: KafkaConfig, topic: str) -> None:
        self.kafka = kafka
        self.topic = topic
        self._latest: dict[str, Playlist] = {}
        self._next: dict[int, int] = {}
        self._is_stale = True

    def forget(self) -> None:
        """Somebody else may have published since: read on before the next answer."""
        self._is_stale = True

    def refresh(self) -> None:
        """Read on to the end of the topic, unless all that was published since is known.

        Raises:
            KafkaUnavailable: nobody answers.
        """
        if not self._is_stale:
            return
        self._is_stale = False  # now, so that a forget() while this reads is not lost
        try:
            self._read_on()
        except Exception:
            self._is_stale = True
            raise

    def _read_on(self) -> None:
        with contextlib.closing(TopicWatch(self.kafka)) as watch:
            partitions = watch.facts(self.topic).partitions
        for record in read_to_end(self.kafka, self.topic, partitions, self._next):
            self._next[record.partition] = record.offset + 1
            if record.value is not None:
                try:
                    self.note([Playlist.model_validate_json(record.value)])
                except ValidationError as cause:
                    told = record.offset, self.topic, cause
                    log.error("the record at offset %d of %s is no playlist: %s", *told, extra=place_of(record))

    def note(self, playlists: Iterable[Playlist]) -> None:
        """Remember lists that are known to be published."""
        self._latest.update({playlist.key: playlist for playlist in playlists})

    def latest(self, week: str, group: str) -> Playlist | None:
        """The last list published for a week and group."""
        return self._latest.get(f"{week}/{group}")

    def of_week(self, week: str) -> Iterator[Playlist]:
        """The last list of each group for a week, by group."""
        return (self._latest[key] for key in sorted(self._latest) if self._latest[key].week == week)

    def weeks(self) -> list[str]:
        """The weeks that have lists, oldest first."""
        return sorted({playlist.week for playlist in self._latest.values()})

"""The catalogue's wire contract: one track, its audio features and its release date."""

from datetime import date
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

AUDIO_FEATURES = (
    "popularity",
    "duration_ms",
    "explicit",
    "danceability",
    "energy",
    "key",
    "loudness",
    "speechiness",
    "acousticness",
    "instrumentalness",
    "liveness",
    "valence",
    "tempo",
)


def _text(value: object) -> object:
    """An integer id is its decimal text; anything else is left for pydantic to judge."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _encodable(text: str) -> str:
    text.encode()  # a lone surrogate passes JSON; this is a ValueError, to which pydantic adds the field
    return text


Text = Annotated[str, AfterValidator(_encodable)]
Id = Annotated[Text, BeforeValidator(_text), Field(min_length=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Track(BaseModel):
    """A track of the catalogue; unknown fields are allowed and kept out, audio features may be null."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Id
    name: Annotated[Text, BeforeValidator(lambda name: "" if name is None else name)] = ""
    id_artist: Annotated[Text, BeforeValidator(_text)] | None = None
    release_date: Annotated[str, Field(pattern=r"^[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?$")] | None = None
    popularity: Finite | None = None
    duration_ms: Finite | None = None
    explicit: Finite | None = None
    danceability: Finite | None = None
    energy: Finite | None = None
    key: Finite | None = None
    loudness: Finite | None = None
    speechiness: Finite | None = None
    acousticness: Finite | None = None
    instrumentalness: Finite | None = None
    liveness: Finite | None = None
    valence: Finite | None = None
    tempo: Finite | None = None


def release_year_and_week(release_date: str | None) -> tuple[int | None, int | None]:
    """The year, and the ISO week where the day is known; None for what the date does not say.

    >>> release_year_and_week("2019-07-05"), release_year_and_week("1929"), release_year_and_week(None)
    ((2019, 27), (1929, None), (None, None))
    """
    if not release_date:
        return None, None
    try:
        return int(release_date[:4]), date.fromisoformat(release_date).isocalendar().week
    except ValueError:
        return int(release_date[:4]), None

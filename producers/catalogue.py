"""A catalogue that never was: artists, tracks with audio features, and what decides how often each is played."""

import math
import string
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate
from random import Random
from typing import Any

from producers.chance import between, normal, permutation, pick, share, stream, weighted
from producers.climates import Climate

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
FIRST_WORDS = (
    "Amber Borrowed Brittle Cardboard Copper Crooked Distant Electric Faded Hollow Ivory Lopsided Marble Mineral Nylon "
    "Paper Patient Quiet Salted Second Silver Sleepy Static Tangled Velvet Winter"
).split()
LAST_WORDS = (
    "Aerials Arithmetic Bicycles Cartography Chandelier Compass Dialtone Ferries Furniture Geese Harbour Lanterns "
    "Laundry Letterbox Meridian Orchard Pylons Satellites Signal Staircase Tides Tramlines Umbrella"
).split()
GIVEN_NAMES = "Alva Bruno Cleo Dario Edda Farid Greta Hale Ines Joran Kaia Lior Mara Nils Odile Priya Rune".split()

TRACKS_PER_ARTIST = 6
WEEKS_BEFORE = 6
NULLABLE = ("danceability", "energy", "key", "acousticness", "valence", "tempo")
SHARE_OF_NULLS = 0.005


@dataclass(frozen=True, slots=True)
class Genre:
    """Where a genre's audio features lie, and the week of the year in which it is heard most."""

    danceability: float
    energy: float
    acousticness: float
    instrumentalness: float
    speechiness: float
    tempo: float
    peak_week: int


GENRES = (
    Genre(0.70, 0.66, 0.18, 0.01, 0.07, 118, 28),
    Genre(0.78, 0.62, 0.20, 0.02, 0.24, 96, 30),
    Genre(0.50, 0.80, 0.08, 0.05, 0.06, 128, 20),
    Genre(0.66, 0.82, 0.05, 0.55, 0.05, 126, 32),
    Genre(0.52, 0.34, 0.70, 0.03, 0.04, 104, 46),
    Genre(0.36, 0.18, 0.90, 0.80, 0.04, 92, 51),
    Genre(0.74, 0.72, 0.22, 0.01, 0.09, 104, 26),
    Genre(0.56, 0.44, 0.52, 0.12, 0.05, 112, 44),
)


@dataclass(frozen=True, slots=True)
class Artist:
    """Who makes tracks of one genre; appeal is on the scale of logarithms."""

    id: str
    genre: int
    appeal: float


@dataclass(frozen=True, slots=True)
class HiddenTrack:
    """A track's record as the topic has it, and what nobody sees.

    `base` is its lasting rate, `released` the simulated week in which it comes out (0 is the first, negative before
    it, None long ago), `rise` and `decay` are weeks, `peak` says how far above its base it begins.
    """

    record: dict[str, Any]
    genre: int
    artist: int
    base: float
    released: int | None
    rise: float
    decay: float
    peak: float

    def stage(self, week: int) -> float:
        """What its age makes of the rate: nothing before it is out, then a rise, then a decay to its base."""
        if self.released is None:
            return 1.0
        age = week - self.released
        if age < 0:
            return 0.0
        return (1.0 - math.exp(-(age + 0.7) / self.rise)) * (1.0 + self.peak * math.exp(-age / self.decay))


def make_catalogue(seed: int, n_tracks: int, n_weeks: int, first_day: date, climate: Climate) -> list[HiddenTrack]:
    """Tracks whose later releases come out on the first days of the simulated weeks."""
    rng = stream(seed, "catalogue")
    artists = [_artist(rng, climate) for _ in range(max(1, n_tracks // TRACKS_PER_ARTIST))]
    sizes = list(accumulate((n + 1) ** -0.6 for n in range(len(artists))))
    ranks = permutation(rng, n_tracks)
    return [_track(rng, rank + 1, artists, weighted(rng, sizes), n_weeks, first_day, climate) for rank in ranks]


def _artist(rng: Random, climate: Climate) -> Artist:
    return Artist(_id(rng), int(rng.random() * len(GENRES)), normal(rng, 0.0, climate.appeal))


def _track(
    rng: Random, rank: int, artists: list[Artist], artist: int, n_weeks: int, first_day: date, climate: Climate
) -> HiddenTrack:
    maker = artists[artist]
    record: dict[str, Any] = {"id": _id(rng), "name": _title(rng), "popularity": 0, "id_artist": maker.id}
    record |= _audio(rng, GENRES[maker.genre])
    released = int(between(rng, -WEEKS_BEFORE, n_weeks)) if rng.random() < climate.new else None
    record["release_date"] = _release_date(rng, released, first_day)
    base = rank**-climate.steepness * math.exp(maker.appeal + 0.6 * (record["danceability"] - 0.6))
    record["popularity"] = _popularity(rng, base)
    rise, decay = between(rng, 0.6, 2.0), between(rng, *climate.decay)
    peak = math.exp(normal(rng, *climate.peak))
    _forget_some(rng, record)
    return HiddenTrack(record, maker.genre, artist, base, released, rise, decay, peak)


def _audio(rng: Random, genre: Genre) -> dict[str, Any]:
    energy = share(rng, genre.energy, 0.14)
    return {
        "duration_ms": int(between(rng, 130_000, 290_000)),
        "explicit": int(rng.random() < 0.12),
        "danceability": round(share(rng, genre.danceability, 0.12), 3),
        "energy": round(energy, 3),
        "key": int(rng.random() * 12),
        "loudness": round(normal(rng, -18.0 + 13.0 * energy, 2.0), 3),
        "speechiness": round(0.023 + share(rng, genre.speechiness, 0.05) * 0.9, 4),
        "acousticness": round(share(rng, genre.acousticness, 0.2), 4),
        "instrumentalness": round(share(rng, genre.instrumentalness, 0.15), 5),
        "liveness": round(0.03 + share(rng, 0.13, 0.1) * 0.9, 4),
        "valence": round(share(rng, 0.5, 0.2), 3),
        "tempo": round(min(210.0, max(55.0, normal(rng, genre.tempo, 18.0))), 3),
    }


def _release_date(rng: Random, released: int | None, first_day: date) -> str:
    """A day of the simulated weeks; of an older track now and then only the year, or the month."""
    if released is not None:
        return (first_day + timedelta(weeks=released)).isoformat()
    age_weeks = WEEKS_BEFORE + 4 + int(2600 * rng.random() ** 3)
    day = (first_day - timedelta(weeks=age_weeks, days=int(rng.random() * 7))).isoformat()
    precision = rng.random()
    return day[:4] if precision < 0.2 else day[:7] if precision < 0.28 else day


def _popularity(rng: Random, base: float) -> int:
    """0 to 100, along the logarithm of the lasting rate, with noise."""
    return min(100, max(0, round(normal(rng, 90.0 + 9.0 * math.log(base), 6.0))))


def _forget_some(rng: Random, record: dict[str, Any]) -> None:
    """Now and then an audio feature is not known."""
    for name in NULLABLE:
        if rng.random() < SHARE_OF_NULLS:
            record[name] = None


def _title(rng: Random) -> str:
    first, last = pick(rng, FIRST_WORDS), pick(rng, LAST_WORDS)
    return pick(
        rng, (f"{first} {last}", f"{first} {last}", f"The {first} {last}", f"{last} for {pick(rng, GIVEN_NAMES)}")
    )


def _id(rng: Random) -> str:
    return "".join([pick(rng, BASE62) for _ in range(22)])

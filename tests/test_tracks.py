import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from features.tracks import AUDIO_FEATURES, Track, release_year_and_week


def raw(**changes: Any) -> dict[str, Any]:
    """A track as it comes from JSON."""
    return {
        "id": "4p8QcNkaq2FQj8uGJ7HEDK",
        "name": "Mack the Knife",
        "popularity": 55,
        "duration_ms": 201467,
        "explicit": 0,
        "id_artist": "19eLuQmk9aCobbVDHc6eek",
        "release_date": "1929",
        "loudness": -14.141,
        "tempo": 88.973,
        **changes,
    }


def complained_of(**changes: Any) -> list[object]:
    """The fields that a track with these changes is refused for."""
    with pytest.raises(ValidationError) as error:
        Track.model_validate(raw(**changes))
    str(error.value).encode()  # what is said of it can itself be sent
    return [each["loc"][0] for each in error.value.errors()]


def test_a_track_keeps_what_it_knows_and_misses_the_rest() -> None:
    track = Track.model_validate(raw())
    assert (track.id, track.name, track.release_date) == ("4p8QcNkaq2FQj8uGJ7HEDK", "Mack the Knife", "1929")
    assert (track.popularity, track.loudness, track.energy) == (55.0, -14.141, None)


def test_an_id_is_enough() -> None:
    track = Track.model_validate({"id": "a"})
    assert (track.name, track.id_artist, track.release_date) == ("", None, None)
    assert all(getattr(track, name) is None for name in AUDIO_FEATURES)


def test_audio_features_are_13_and_fields_of_a_track() -> None:
    assert len(AUDIO_FEATURES) == 13
    assert Track.model_fields.keys() == {"id", "name", "id_artist", "release_date", *AUDIO_FEATURES}


def test_an_integer_id_is_its_decimal_text() -> None:
    track = Track.model_validate(raw(id=-7, id_artist=2**70))
    assert (track.id, track.id_artist) == ("-7", "1180591620717411303424")


def test_unknown_fields_are_kept_out() -> None:
    track = Track.model_validate(raw(colour="red", artists=["x"]))
    assert track == Track.model_validate(raw())
    assert "colour" not in track.model_dump()


@pytest.mark.parametrize("field", ["id", "name", "id_artist"])
@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_text_that_utf_8_cannot_hold_makes_no_track(field: str, text: str) -> None:
    assert complained_of(**{field: text}) == [field]


@pytest.mark.parametrize(
    "bad", [None, "", True, 1.0, [], {}, 10**5000], ids=lambda bad: f"{bad!s:.9}" if bad != 10**5000 else "huge"
)
def test_an_id_is_text_or_an_integer(bad: object) -> None:
    assert complained_of(id=bad) == ["id"]


@pytest.mark.parametrize("field", AUDIO_FEATURES)
@pytest.mark.parametrize(
    "bad", [float("nan"), float("inf"), -float("inf"), "loud", [], 10**400], ids=lambda bad: f"{bad!r:.9}"
)
def test_an_audio_feature_is_a_finite_number(field: str, bad: object) -> None:
    assert complained_of(**{field: bad}) == [field]


@pytest.mark.parametrize(
    "bad",
    ["", "19", "1929-1", "1929-01-1", "29-01-01", "1929-01-01T00:00", "1929\n", " 1929", "１９２９", 1929],  # noqa: RUF001
)
def test_a_release_date_is_a_year_a_month_or_a_day(bad: object) -> None:
    assert complained_of(release_date=bad) == ["release_date"]


def test_every_bad_field_is_told_at_once() -> None:
    assert complained_of(id="", name=1, tempo="fast", release_date="soon") == ["id", "name", "release_date", "tempo"]


@pytest.mark.parametrize(
    ("release_date", "year", "week"),
    [
        ("2019-07-05", 2019, 27),
        ("2021-01-01", 2021, 53),  # its own year, the ISO week's number
        ("2024-02-29", 2024, 9),
        ("2023-02-29", 2023, None),  # no such day
        ("2023-00-00", 2023, None),
        ("2019-07", 2019, None),
        ("1929", 1929, None),
        ("0000", 0, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_a_release_has_the_year_and_week_that_its_date_tells(
    release_date: str | None, year: int | None, week: int | None
) -> None:
    assert release_year_and_week(release_date) == (year, week)


@given(st.from_regex(r"\A[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?\Z"))
def test_every_release_date_that_a_track_may_have_can_be_read(release_date: str) -> None:
    year, week = release_year_and_week(Track.model_validate(raw(release_date=release_date)).release_date)
    assert year == int(release_date[:4])
    assert week is None or 1 <= week <= 53


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(list(Track.model_fields)), JSON))
def test_anything_is_a_track_that_can_be_sent_and_read_back_or_is_refused(record: dict[str, Any]) -> None:
    try:
        track = Track.model_validate(record)
    except ValidationError:
        return
    assert Track.model_validate_json(track.model_dump_json()) == track


def test_all_tracks_of_the_real_catalogue_are_valid(listening_data: Path) -> None:
    lines = (listening_data / "sessions" / "tracks.jsonl").read_bytes().splitlines()
    tracks = [Track.model_validate(json.loads(line)) for line in lines]
    assert len({track.id for track in tracks}) == 22_412
    assert all(getattr(track, name) is not None for track in tracks for name in AUDIO_FEATURES)
    assert all(release_year_and_week(track.release_date)[0] is not None for track in tracks)

"""Counts and tracks as Arrow columns, against slow and obvious sums."""

import subprocess
import sys
from struct import pack

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from features.columns import COUNTS, TRACKS, counts_table, tracks_table
from features.tracks import Track

IDS = st.text("ab é\x00\uffff\U0001f600", max_size=2)
LARGEST = 2**32 - 1
COUNT = st.sampled_from([0, 0, 1, 7, LARGEST])
GROUPS = st.lists(st.sampled_from(["treatment", "control", "all", "é"]), min_size=1, max_size=3, unique=True)


@st.composite
def partitions(draw: st.DrawFn) -> tuple[list[str], dict[str, list[int]]]:
    groups = draw(GROUPS)
    counts = st.lists(COUNT, min_size=3 * len(groups), max_size=3 * len(groups))
    return groups, draw(st.dictionaries(IDS, counts, max_size=5))


def packed(counts: dict[str, list[int]]) -> dict[bytes, bytes]:
    return {track_id.encode(): pack(f"<{len(row)}I", *row) for track_id, row in counts.items()}


def rows(table: pa.Table) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in table.to_pylist()]


@given(parts=st.lists(partitions(), max_size=3))
def test_counts_are_summed_over_partitions_by_track_and_group_in_their_order(
    parts: list[tuple[list[str], dict[str, list[int]]]],
) -> None:
    slow: dict[tuple[str, str], list[int]] = {}
    for groups, counts in parts:
        for track_id, row in counts.items():
            for n, group in enumerate(groups):
                before = slow.get((track_id, group), [0, 0, 0])
                slow[track_id, group] = [a + b for a, b in zip(before, row[3 * n : 3 * n + 3], strict=True)]
    table = counts_table([(groups, packed(counts)) for groups, counts in parts])
    assert table.schema == COUNTS
    assert rows(table) == [(*key, *row) for key, row in sorted(slow.items()) if any(row)]


def test_what_redis_holds_of_a_group_is_found_by_the_groups_place() -> None:
    one = (["control", "treatment"], packed({"b": [1, 2, 3, 4, 5, 6], "a": [0, 0, 0, 7, 0, 0]}))
    other = (["treatment"], packed({"b": [10, 0, LARGEST]}))
    assert rows(counts_table([one, other])) == [
        ("a", "treatment", 7, 0, 0),
        ("b", "control", 1, 2, 3),
        ("b", "treatment", 14, 5, LARGEST + 6),
    ]


NUMBER = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
TRACK = st.builds(
    Track,
    id=st.text(min_size=1, max_size=4),
    name=st.text(max_size=20),
    id_artist=st.none() | st.text(max_size=4),
    release_date=st.sampled_from([None, "1929", "2019-07", "2019-07-05"]),
    popularity=NUMBER,
    tempo=NUMBER,
    loudness=NUMBER,
)


@given(tracks=st.lists(TRACK, max_size=4))
def test_a_tracks_json_is_read_to_the_last_bit(tracks: list[Track]) -> None:
    table = tracks_table([track.model_dump_json() for track in tracks])
    assert table.schema == TRACKS
    table.validate(full=True)
    assert [repr(row) for row in table.to_pylist()] == [repr(track.model_dump()) for track in tracks]


def test_a_track_may_be_longer_than_a_block_and_have_unknown_fields() -> None:
    long = Track(id="a", name="x" * 3_000_000).model_dump_json()
    table = tracks_table(['{"id":"b","name":"","later":[1]}', long])
    assert table["id"].to_pylist() == ["b", "a"]
    assert table["name"].to_pylist()[1] == "x" * 3_000_000


def test_columns_need_no_pandas() -> None:
    code = "import sys, features.columns; print({'pandas', 'pyarrow.parquet', 'torch'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

"""The contract between what the log is counted into for an experiment and its analysis."""

import pyarrow as pa

SLICES = 16
"""Users are parted by the CRC-32 of their id modulo this: a row group of a week's file holds one."""

USAGE = pa.schema(
    [
        ("user_id", pa.string()),
        ("group", pa.string()),
        ("plays", pa.int64()),
        ("skips", pa.int64()),
        ("likes", pa.int64()),
        ("listed_plays", pa.int64()),
        ("listed_skips", pa.int64()),
        ("listed_likes", pa.int64()),
        ("active_days", pa.int64()),
        ("exposed", pa.bool_()),
    ]
)
"""One week's use by one user a row, rows sorted by user_id.

The listed ones are of tracks in the last revision of the list that was published for that week and
the user's group; active_days are days of the chart's zone with a counted event. Who had an exposure
and no event has zeros. `exposed` is false throughout where exposures are not kept.
"""

"""The contract between what the log is counted into for an experiment and its analysis."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.history import HistoryError

WEEKS = "????-W??.parquet"
"""The files of weekly use, under one folder."""
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


def open_week(path: Path) -> pq.ParquetFile:
    """The file of a week.

    Raises:
        HistoryError: it is broken.
    """
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as cause:
        raise HistoryError(f"{path} cannot be read: {cause}. Remove it, and it is made anew") from cause

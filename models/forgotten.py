"""Who is forgotten: listeners whose use of some weeks is in no file, nor comes into one that is made of the log again.

    <folder>/<salt>/<digest>     one listener, as a keyed hash of the id; holds the last week that is forgotten of them

The salt is the key. Whoever has the folder can ask of an id whether it is in it: those who can guess ids, all of them.
"""

import json
import logging
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.files import alone, remove_abandoned, replacing
from features.history import HistoryError
from models.usage import WEEKS, open_week

log = logging.getLogger(__name__)
MARK = b"hitparade.forgotten"
"""In a week's file: of whom it was made without."""
SALT_BYTES = DIGEST_BYTES = 32
ALWAYS = "9999-W52"
WHAT = "a listener who is forgotten: what they did up to this week is in no file of weekly use, and comes into none"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """By salt, and by digest: the last week of which a listener is forgotten."""

    by_salt: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __contains__(self, user_id: str) -> bool:
        return any(_digest(salt, user_id) in digests for salt, digests in self.by_salt.items())

    def of_week(self, week: str) -> "Forgotten":
        """Those who are forgotten of a week."""
        found = {salt: {d: last for d, last in of.items() if last >= week} for salt, of in self.by_salt.items()}
        return Forgotten({salt: digests for salt, digests in found.items() if digests})

    @property
    def mark(self) -> str:
        """Changes with who is in it; of nobody ''."""
        names = sorted(f"{salt}:{digest}" for salt, digests in self.by_salt.items() for digest in digests)
        return sha256("\n".join(names).encode()).hexdigest() if names else ""

    def without(self, rows: pa.Table) -> pa.Table:
        """The rows of others."""
        if not self.by_salt:
            return rows
        return rows.filter(pa.array([user not in self for user in rows["user_id"].to_pylist()], pa.bool_()))


def _digest(salt: str, user_id: str) -> str:
    return blake2b(user_id.encode(), digest_size=DIGEST_BYTES, key=bytes.fromhex(salt)).hexdigest()


def read_forgotten(folder: Path) -> Forgotten:
    """Who is forgotten; nobody where there is no folder. An entry that cannot be read is of all weeks."""
    found: dict[str, dict[str, str]] = {}
    for path in folder.glob(f"{'?' * 2 * SALT_BYTES}/{'?' * 2 * DIGEST_BYTES}"):
        try:
            until = str(json.loads(path.read_bytes())["until"])
        except (OSError, ValueError, KeyError, TypeError):
            until = ALWAYS
        found.setdefault(path.parent.name, {})[path.name] = until
    return Forgotten(found)


def note(folder: Path, user_id: str, until: str) -> Path:
    """Note that a listener is forgotten up to a week, or to a later one that was noted before; return the entry."""
    salts = sorted(path.name for path in folder.glob("?" * 2 * SALT_BYTES)) or [secrets.token_hex(SALT_BYTES)]
    path = folder / salts[0] / _digest(salts[0], user_id)
    last = read_forgotten(folder).by_salt.get(salts[0], {}).get(path.name, until)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"what": WHAT, "until": max(until, last)}) + "\n", encoding="utf-8")
    return path


def weeks_with(folder: Path, user_id: str) -> list[str]:
    """The weeks whose files have rows of a listener.

    Raises:
        HistoryError: a file is broken.
    """
    return [path.stem for path in sorted(folder.glob(WEEKS)) if user_id in set(_users(path))]


def _users(path: Path) -> Iterator[str]:
    with open_week(path) as file:
        for n in range(file.num_row_groups):
            yield from file.read_row_group(n, ["user_id"])["user_id"].to_pylist()


def cleanse(folder: Path, forgotten_folder: Path) -> list[str]:
    """Take who is forgotten out of the weeks' files; return the weeks of those that had rows of theirs.

    A file that was made without them is left as it is; one that cannot be read is removed, since nobody knows who is
    in it, and so is what extractions that died have left. What is interrupted here, the next call goes on with.
    """
    if not folder.is_dir() or not read_forgotten(forgotten_folder).by_salt:
        return []
    with alone(folder):
        forgotten = read_forgotten(forgotten_folder)
        remove_abandoned(folder)
        return [path.stem for path in sorted(folder.glob(WEEKS)) if _cleansed(path, forgotten.of_week(path.stem))]


def _cleansed(path: Path, forgotten: Forgotten) -> bool:
    """Rewrite a file, unless it was made without those who are forgotten; say whether it had rows of theirs."""
    try:
        with open_week(path) as file:
            if (file.schema_arrow.metadata or {}).get(MARK, b"").decode() == forgotten.mark:
                return False
            return _rewrite(path, file, forgotten) > 0
    except HistoryError as cause:
        log.warning("%s; it is removed, since it may hold who is forgotten", cause)
        path.unlink(missing_ok=True)
        return True


def _rewrite(path: Path, file: pq.ParquetFile, forgotten: Forgotten) -> int:
    """Write the file anew without them; return how many rows that took away."""
    schema, n_rows = marked(file.schema_arrow, forgotten), 0
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, write_page_checksum=True) as writer:
        for n in range(file.num_row_groups):
            kept = forgotten.without(_row_group(path, file, n))
            writer.write_table(kept.cast(schema), row_group_size=max(1, len(kept)))
            n_rows += len(kept)
    return int(file.metadata.num_rows) - n_rows


def _row_group(path: Path, file: pq.ParquetFile, n: int) -> pa.Table:
    try:
        return file.read_row_group(n, use_threads=False)
    except (OSError, pa.ArrowException) as cause:
        raise HistoryError(f"{path} cannot be read: {cause}") from cause


def marked(schema: pa.Schema, forgotten: Forgotten) -> pa.Schema:
    """The schema of a file that is made without them."""
    return schema.with_metadata({**(schema.metadata or {}), MARK: forgotten.mark.encode()})


def expired(folder: Path, forgotten_folder: Path, oldest: str) -> list[Path]:
    """The files of weeks before the oldest one kept, and the entries of who is forgotten of no later one."""
    by_salt = read_forgotten(forgotten_folder).by_salt
    entries = [(forgotten_folder / salt / digest, last) for salt, of in by_salt.items() for digest, last in of.items()]
    files = [(path, path.stem) for path in sorted(folder.glob(WEEKS))]
    return [path for path, week in [*files, *entries] if week < oldest]

"""What others have, imported: listens, scrobbles and history, every line of them in the account."""

import gzip
import io
import json
import lzma
import subprocess
import tarfile
import tracemalloc
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consumers.kafka import read_to_end
from features.events import BadRecord, decode, parse
from features.history import History
from features.tracks import Track
from producers.files import SourceError, read_lines
from producers.heard import Heard, id_of_names
from producers.lastfm import read_scrobble
from producers.listenbrainz import read_listen
from producers.shelf import Shelf
from tests.builders_counting import PARTITIONS, Counted
from tests.builders_history import write_week
from tests.commands import COMMAND, Command, Ended, run
from tests.servers import ROOT

MBID = "0b8f6f6e-5c3d-4e9a-8f5d-0d7c2b1a3e4f"
MSID = "7a1c2f3e-0000-4e9a-8f5d-0d7c2b1a3e4f"
AT = 1686996590
NAMES = {"artist_name": "Björk", "track_name": "Jóga", "release_name": "Homogenic"}


def listen(**changes: Any) -> dict[str, Any]:
    """A listen, as the dumps of ListenBrainz have it."""
    return {
        **{"user_id": 7, "user_name": "rob", "timestamp": AT, "recording_msid": MSID},
        "track_metadata": {**NAMES, "additional_info": {}},
        **changes,
    }


def lines(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def heard(value: Any, user: str | None = None) -> dict[str, Any]:
    """The event that a listen becomes."""
    found = read_listen(json.dumps(value).encode(), user)
    assert found
    return event_of(found)


def event_of(found: Heard) -> dict[str, Any]:
    """The event, which is one that counts at the time that it is sorted by, of a track that the catalogue takes."""
    (raw,) = decode(found.event)
    assert not isinstance(raw, BadRecord)
    event = parse(raw)
    assert event
    assert (event.event_time, event.track_id) == (found.event_time, found.track_id)
    assert Track.model_validate_json(found.track).id == found.track_id
    fields: dict[str, Any] = json.loads(found.event)
    return fields


# Listens


def test_a_listen_is_a_play() -> None:
    found = read_listen(lines(listen()))
    assert found
    event = event_of(found)
    assert event.pop("event_id")
    assert event == {"timestamp": "2023-06-17T10:09:50Z", "user_id": "rob", "track_id": MSID, "event_type": "play"}
    assert json.loads(found.track) == {"id": MSID, "name": "Jóga", "id_artist": "Björk"}


OTHER = MBID.replace("0b", "ff")


@pytest.mark.parametrize(
    ("changes", "track_id"),
    [
        ({"track_metadata": {**NAMES, "mbid_mapping": {"recording_mbid": MBID}, "additional_info": {}}}, MBID),
        (
            {
                "track_metadata": {
                    **NAMES,
                    "mbid_mapping": {"recording_mbid": MBID},
                    "additional_info": {"recording_mbid": OTHER},
                }
            },
            MBID,
        ),
        ({"track_metadata": {**NAMES, "additional_info": {"recording_mbid": OTHER.upper()}}}, OTHER),
        ({"track_metadata": {**NAMES, "additional_info": {"recording_mbid": ""}}}, MSID),
        ({"track_metadata": {**NAMES, "additional_info": {"recording_mbid": "none"}, "mbid_mapping": None}}, MSID),
        ({"track_metadata": {**NAMES, "additional_info": {"recording_msid": OTHER}}, "recording_msid": None}, OTHER),
        ({"recording_msid": None}, id_of_names("Björk", "Jóga")),
    ],
)
def test_a_track_is_its_recording_or_else_its_names(changes: dict[str, Any], track_id: str) -> None:
    assert heard(listen(**changes))["track_id"] == track_id


def test_a_listener_is_a_name_or_a_number_or_who_is_said_to_be() -> None:
    assert heard(listen())["user_id"] == "rob"
    assert heard(listen(user_name=None))["user_id"] == "7"
    export = {"listened_at": AT, "track_metadata": NAMES}
    assert heard(export, "me")["user_id"] == "me"
    assert heard(listen(), "me")["user_id"] == "rob"


@pytest.mark.parametrize(
    "changes",
    [{"timestamp": None}, {"listened_at": None, "timestamp": AT}, {"listened_at": AT, "playing_now": True}],
)
def test_what_is_only_being_played_is_no_listen(changes: dict[str, Any]) -> None:
    assert read_listen(lines(listen(**changes))) is None


BAD_LISTENS: list[tuple[str, bytes]] = [
    ("json", b"{"),
    ("json", b"\xff"),
    ("json", b"[]"),
    ("json", lines({"listened_at": AT})),
    ("json", lines(listen(track_metadata=None))),
    ("track_id", lines(listen(recording_msid=None, track_metadata={"artist_name": "Björk", "track_name": " "}))),
    ("track_id", lines(listen(recording_msid=None, track_metadata={"artist_name": 5, "track_name": "Jóga"}))),
    ("user_id", lines(listen(user_name=None, user_id=None))),
    ("user_id", lines(listen(user_name=["rob"]))),
    ("timestamp", lines(listen(timestamp="yesterday"))),
    ("timestamp", lines(listen(timestamp=10**30))),
    ("timestamp", lines(listen(timestamp=True))),
]


@pytest.mark.parametrize(("cause", "line"), BAD_LISTENS)
def test_a_listen_that_is_none_says_why(cause: str, line: bytes) -> None:
    with pytest.raises(BadRecord) as error:
        read_listen(line)
    assert error.value.cause == cause
    str(error.value).encode()


def test_names_that_no_utf8_can_hold_neither_fail_nor_spoil_the_catalogue() -> None:
    found = read_listen(
        lines(listen(recording_msid=None, track_metadata={"artist_name": "\ud800", "track_name": "a\udfff"}))
    )
    assert found
    event_of(found)
    assert json.loads(found.track)["name"] == "a?"


def test_an_event_has_the_same_id_whenever_it_is_imported_and_another_for_another_listener_time_or_track() -> None:
    same = heard(listen())["event_id"]
    assert heard(listen(inserted_at=5))["event_id"] == same
    others = [listen(user_name="ann"), listen(timestamp=AT + 1), listen(recording_msid=MBID)]
    assert len({same, *(heard(other)["event_id"] for other in others)}) == 4


# Scrobbles


def scrobble(*columns: str) -> dict[str, Any]:
    return event_of(read_scrobble("\t".join(columns).encode()))


def test_a_scrobble_of_six_columns_has_ids_and_one_of_four_has_none() -> None:
    six = scrobble("user_1", "2009-05-04T23:08:57Z", OTHER, "Björk", MBID, "Jóga")
    assert (six["user_id"], six["timestamp"], six["track_id"]) == ("user_1", "2009-05-04T23:08:57Z", MBID)
    without = scrobble("user_1", "2009-05-04T23:08:57Z", "", "Björk", "", "Jóga")
    assert without["track_id"] == id_of_names("Björk", "Jóga")
    assert scrobble("user_1", "1241478537", "björk ", "JÓGA") == without


def test_the_digest_of_names_is_this() -> None:
    assert id_of_names("Björk", "Jóga") == "names:83b5fd725120ab9d0e630cc310141d9a"


BAD_SCROBBLES = [
    ("columns", b"\xff\t2009-05-04T23:08:57Z\ta\tb"),
    ("columns", b"u\t2009-05-04T23:08:57Z\ta"),
    ("columns", b"u\t2009-05-04T23:08:57Z\ta\tb\tc"),
    ("track_id", b"u\t2009-05-04T23:08:57Z\ta\t"),
    ("track_id", b"u\t2009-05-04T23:08:57Z\t\t\t\tb"),
    ("user_id", b"\t2009-05-04T23:08:57Z\ta\tb"),
    ("timestamp", b"u\t\ta\tb"),
    ("timestamp", b"user\ttime\tartist\ttrack"),
    ("timestamp", b"u\t99999999999999999999\ta\tb"),
]


@pytest.mark.parametrize(("cause", "line"), BAD_SCROBBLES)
def test_a_scrobble_that_is_none_says_why(cause: str, line: bytes) -> None:
    with pytest.raises(BadRecord) as error:
        read_scrobble(line)
    assert error.value.cause == cause


# Files, as dumps come


def archive(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"dump/listens/{name.replace('_', '.')}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


PACKED = archive(COPYING=b"free\n", a_listens=b"1\n2", TIMESTAMP=b"2023\n", b_listens=b"3\n")


@pytest.mark.parametrize(
    "content",
    [b"1\n\n2\r\n3", gzip.compress(b"1\n\n2\n3\n"), lzma.compress(b"1\n\n2\n3\n")],
    ids=["plain", "gzip", "xz"],
)
def test_a_file_is_unpacked_by_what_it_begins_with(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert list(read_lines(tmp_path / "file")) == [(1, b"1"), (3, b"2"), (4, b"3")]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress], ids=["tar", "gzip", "xz"])
def test_of_an_archive_the_files_of_lines_are_read_and_none_runs_into_the_next(
    pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(pack(PACKED))
    assert list(read_lines(tmp_path / "file")) == [(1, b"1"), (2, b"2"), (3, b"3")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\x28\xb5\x2f\xfd\x04\x00", "is packed by zstd: `zstd -dc "),
        (PACKED[:700], "is damaged after line 0"),
        (lzma.compress(b"1\n" * 999)[:-20], "is damaged after line"),
        (gzip.compress(PACKED)[:-20], "is damaged after line"),
    ],
    ids=["zstd", "tar", "xz", "tar.gz"],
)
def test_a_file_that_cannot_be_unpacked_is_named(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(SourceError, match=expected):
        list(read_lines(tmp_path / "file"))


# The command, into files


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """`hitparade import` in a data folder of its own, without a broker."""
    monkeypatch.setenv("HITPARADE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HITPARADE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    return lambda *arguments: run(capsys, "import", *map(str, arguments))


def written(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return tuple(  # type: ignore[return-value]
        [json.loads(line) for line in (folder / name).read_bytes().splitlines()]
        for name in ("sessions.jsonl", "tracks.jsonl")
    )


def test_listens_are_written_in_the_order_of_their_time_and_each_track_once_as_it_was_last_called(
    cli: Callable[..., Ended], tmp_path: Path
) -> None:
    renamed = listen(timestamp=AT, track_metadata={**NAMES, "track_name": "Joga"})
    other = listen(timestamp=AT + 5, recording_msid=MBID)
    (tmp_path / "dump").write_bytes(archive(a_listens=lines(other, listen(timestamp=AT + 3)), b_listens=lines(renamed)))
    ended = cli("listens", tmp_path / "dump", "--out", tmp_path / "out")
    assert (ended.code, ended.out) == (0, "3 lines read = 3 taken, 0 ignored, 0 dead.\n")
    events, tracks = written(tmp_path / "out")
    assert [event["timestamp"][-3:-1] for event in events] == ["50", "53", "55"]
    assert [(track["id"], track["name"]) for track in tracks] == [(MBID, "Jóga"), (MSID, "Joga")]


def test_every_line_is_in_the_account_with_the_first_of_each_cause(cli: Callable[..., Ended], tmp_path: Path) -> None:
    ahead = listen(timestamp=int((datetime.now(UTC) + timedelta(days=2)).timestamp()))
    file = tmp_path / "listens"
    file.write_bytes(
        lines(listen(), listen(timestamp=None), ahead) + b"".join(line.rstrip() + b"\n" for _, line in BAD_LISTENS)
    )
    expected = Counter(cause for cause, _ in BAD_LISTENS) + Counter(future=1)
    for arguments in (["--dry-run"], ["--out", tmp_path / "out"]):
        ended = cli("listens", file, *arguments, "--json")
        *rows, totals = ended.rows()
        assert ended.code == 0
        assert {row["cause"]: row["n"] for row in rows if row["outcome"] == "dead"} == expected
        assert [row["cause"] for row in rows if row["outcome"] == "ignored"] == ["playing_now"]
        assert totals == {"read": 3 + len(BAD_LISTENS), "taken": 1, "ignored": 1, "dead": 1 + len(BAD_LISTENS)}
        (json_row,) = [row for row in rows if row["cause"] == "json"]
        assert len(json_row["examples"]) == 3
        assert json_row["examples"][0].startswith(f"{file} line 4: json: ")
    shown = cli("listens", file, "--dry-run").out
    assert f"{file} line 4: json: " in shown
    assert shown.endswith(f"{3 + len(BAD_LISTENS)} lines read = 1 taken, 1 ignored, {1 + len(BAD_LISTENS)} dead.\n")
    assert len(written(tmp_path / "out")[0]) == 1


def test_a_dry_run_writes_nothing_and_asks_nobody(cli: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "listens").write_bytes(lines(listen()))
    (tmp_path / "weeks").write_bytes(b"week,track,plays\n2023-W24,a,5\n")
    assert cli("listens", tmp_path / "listens", "--dry-run", "--out", tmp_path / "out").code == 0
    assert cli("history", tmp_path / "weeks", "--dry-run", "--tracks", tmp_path / "out").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["listens", "weeks"]


def test_a_file_with_nothing_to_take_is_no_success(cli: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "wrong").write_bytes(b'{"a": 1}\n')
    for what in ("listens", "scrobbles"):
        assert cli(what, tmp_path / "wrong", "--out", tmp_path / "out").code == 1
        assert cli(what, tmp_path / "wrong", "--dry-run").code == 1
    (tmp_path / "wrong").write_bytes(b"week,track,plays\nx,a,5\n")
    assert cli("history", tmp_path / "wrong").code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["wrong"]


def test_standard_input_is_a_file_called_dash(tmp_path: Path) -> None:
    command = [*COMMAND, "import", "scrobbles", "-", "--out", str(tmp_path)]
    content = archive(a_tsv=b"u\t1241478537\ta\tb\n", README=b"no\n")
    ended = subprocess.run(command, cwd=ROOT, input=content, capture_output=True, timeout=60, check=True)
    assert ended.stdout == b"1 lines read = 1 taken, 0 ignored, 0 dead.\n"


# Into Kafka


def test_what_is_imported_counts_once_however_often_in_whatever_order(
    log: Counted, command: Command, tmp_path: Path
) -> None:
    counted = log.other(DUPLICATE_HOURS="8760")
    file = tmp_path / "s.tsv"
    file.write_text("".join(f"u{n % 3}\t{AT - 300_000 * n}\tArtist\tTrack {n % 2}\n" for n in range(9)))
    for n in (1, 2):
        ended = command(counted, "import", "scrobbles", str(file))
        assert ended.code == 0, ended.err
        assert "sent 2 tracks in 2 records" in ended.out
        assert "sent 9 events in" in ended.out
        counted.count()
        fences = counted.store.fences(range(PARTITIONS)).values()
        tallies = sum((Counter(fence.tallies) for fence in fences), Counter[str]())
        outcomes = {name: number for name, number in tallies.items() if number}
        assert outcomes == {1: {"counted": 9}, 2: {"counted": 9, "duplicate": 9}}[n]
    records = read_to_end(counted.settings.kafka, counted.settings.topics.tracks, range(PARTITIONS), {})
    names = {record.key.decode(): json.loads(record.value)["name"] for record in records}
    assert names == {id_of_names("Artist", f"Track {n}"): f"Track {n}" for n in (0, 1)}


def test_with_json_nothing_else_is_on_standard_output(log: Counted, command: Command, tmp_path: Path) -> None:
    (tmp_path / "s.tsv").write_text(f"u\t{AT}\ta\tb\n")
    ended = command(log, "import", "scrobbles", str(tmp_path / "s.tsv"), "--json")
    totals, tracks, events = ended.rows()
    assert totals == {"read": 1, "taken": 1, "ignored": 0, "dead": 0}
    assert [(one["topic"], one["items"]) for one in (tracks, events)] == [
        (log.settings.topics.tracks, 1),
        (log.settings.topics.sessions, 1),
    ]


# History


def rows(folder: Path, *weeks: str) -> list[tuple[Any, ...]]:
    return list(History(folder / "data" / "history").read(weeks).itertuples(index=False, name=None))


CSV = b"""Track,WEEK,plays,skips,group,name,artist
b,2023-W24,5,,control,"B, the song",X
a,2023-W24,7,2,,A,
a,2023-06-19,1.0,0,,A,
"""


def test_csv_becomes_weeks_of_history_and_a_catalogue(cli: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "weeks.csv.gz").write_bytes(gzip.compress(CSV))
    ended = cli("history", tmp_path / "weeks.csv.gz", "--tracks", tmp_path / "tracks.jsonl")
    assert (ended.code, ended.out) == (0, "3 rows read = 3 taken, 0 ignored, 0 dead.\n2 weeks, 2023-W24 to 2023-W25\n")
    assert rows(tmp_path, "2023-W24", "2023-W25") == [
        ("2023-W24", "a", "all", 7, 2, 0),
        ("2023-W24", "b", "control", 5, 0, 0),
        ("2023-W25", "a", "all", 1, 0, 0),
    ]
    tracks = [Track.model_validate_json(line) for line in (tmp_path / "tracks.jsonl").read_bytes().splitlines()]
    assert [(track.id, track.name, track.id_artist) for track in tracks] == [
        ("a", "A", None),
        ("b", "B, the song", "X"),
    ]


def test_the_slices_of_an_imported_week_are_those_of_a_counted_one(cli: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "weeks.csv").write_bytes(b"week;track;plays\n" + b"".join(b"2023-W24;t%d;1\n" % n for n in range(200)))
    assert cli("history", tmp_path / "weeks.csv").code == 0
    history = History(tmp_path / "data" / "history")
    assert history.n_slices() == 16
    of_slices = [history.read(["2023-W24"], [part]) for part in range(16)]
    assert sum(map(len, of_slices)) == 200
    write_week(history, "2023-W25", {f"t{n}": 1 for n in range(200)}, n_slices=16)
    for part, found in enumerate(of_slices):
        assert list(found["track_id"]) == list(history.read(["2023-W25"], [part])["track_id"])


def test_a_week_that_the_history_has_stays_unless_it_is_to_be_replaced(
    cli: Callable[..., Ended], tmp_path: Path
) -> None:
    write_week(History(tmp_path / "data" / "history"), "2023-W24", {"z": 1})
    (tmp_path / "weeks.csv").write_bytes(CSV)
    ended = cli("history", tmp_path / "weeks.csv", "--json")
    dead, totals = ended.rows()
    assert (dead["cause"], dead["n"], totals["weeks"]) == ("kept", 2, ["2023-W25"])
    assert rows(tmp_path, "2023-W24") == [("2023-W24", "z", "all", 1, 0, 0)]
    assert cli("history", tmp_path / "weeks.csv", "--replace").code == 0
    assert [row[1] for row in rows(tmp_path, "2023-W24")] == ["a", "b"]


BAD_ROWS = [
    ("week", "2023-W54,a,1"),
    ("week", "2023-06-13,a,1"),
    ("week", "0000-W01,a,1"),
    ("week", "9999-W52,a,1"),
    ("week", ",a,1"),
    ("track_id", "2023-W24,,1"),
    ("plays", "2023-W24,a,"),
    ("plays", "2023-W24,a"),
    ("plays", "2023-W24,a,-1"),
    ("plays", "2023-W24,a,1.5"),
    ("plays", "2023-W24,a,nan"),
    ("plays", "2023-W24,a,9007199254740992"),
    ("plays", "2023-W24,a,many"),
    ("skips", "2023-W24,a,1,x"),
    ("twice", "2023-W24,good,2"),
]


def test_every_row_is_in_the_account(cli: Callable[..., Ended], tmp_path: Path) -> None:
    this_week = datetime.now(UTC).date().isocalendar()
    open_week = f"{this_week.year}-W{this_week.week:02}"
    body = ["2023-W24,good,1", "2023-W24,a,0", *(row for _, row in BAD_ROWS), f"{open_week},a,1"]
    (tmp_path / "weeks.csv").write_text("\n".join(["week,track_id,plays,skips", *body]))
    ended = cli("history", tmp_path / "weeks.csv", "--json")
    *asides, totals = ended.rows()
    assert {row["cause"]: row["n"] for row in asides if row["outcome"] == "dead"} == Counter(
        [cause for cause, _ in BAD_ROWS] + ["week"]
    )
    assert totals == {"read": len(body), "taken": 1, "ignored": 1, "dead": len(BAD_ROWS) + 1, "weeks": ["2023-W24"]}
    assert rows(tmp_path, "2023-W24") == [("2023-W24", "good", "all", 1, 0, 0)]
    (week,) = [row for row in asides if row["cause"] == "week"]
    assert week["examples"][1].endswith(
        "line 5: week: 2023-06-13 is a tuesday, weeks begin on a monday (HITPARADE_WEEK_START)"
    )


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("ms"), pa.string()], ids=str)
def test_parquet_becomes_weeks_too(kind: pa.DataType, cli: Callable[..., Ended], tmp_path: Path) -> None:
    days = pa.array([datetime(2023, 6, 12, tzinfo=UTC), datetime(2023, 6, 19, tzinfo=UTC), None], pa.timestamp("ms"))
    week = days.cast(pa.date32()).cast(kind) if kind != pa.timestamp("ms") else days
    table = pa.table({"week": week, "song": [1, 2, 3], "Streams": [5.0, 6.0, 7.0], "rank": [1, 1, 1]})
    pq.write_table(table, tmp_path / "charts")
    ended = cli("history", tmp_path / "charts", "--column", "track_id=song")
    assert ended.code == 0
    assert "3 rows read = 2 taken, 0 ignored, 1 dead." in ended.out
    assert [row[:4] for row in rows(tmp_path, "2023-W24", "2023-W25")] == [
        ("2023-W24", "1", "all", 5),
        ("2023-W25", "2", "all", 6),
    ]


def test_charts_of_the_field_become_history_where_weeks_begin_on_their_day(
    cli: Callable[..., Ended], listening_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    charts = listening_data / "charts" / "weekly.parquet"
    dead = cli("history", charts, "--dry-run", "--json").rows()
    assert [row.get("cause") for row in dead] == ["week", None]
    monkeypatch.setenv("HITPARADE_WEEK_START", "friday")
    totals = cli("history", charts, "--json").rows()[-1]
    table = pq.read_table(charts)
    assert (totals["taken"], len(totals["weeks"])) == (len(table), 139)
    found = History(tmp_path / "data" / "history").read(totals["weeks"])
    assert found["plays"].sum() == sum(table["streams"].to_pylist())


@pytest.mark.parametrize(
    ("content", "arguments", "expected"),
    [
        (b"week,track\n", [], "expected a column plays or streams, found week, track; --column plays=NAME"),
        (b"", [], "expected a column week, found none"),
        (b"week,track,plays\n", ["--column", "likes=Likes"], "expected a column Likes"),
        (b"PAR1", [], "cannot be read after row 0"),
        (b'week,track,plays\n"' + b"x" * 200_000, [], "line 2 is no CSV: field larger"),
    ],
)
def test_a_file_that_is_no_history_says_what_was_expected(
    content: bytes, arguments: list[str], expected: str, cli: Callable[..., Ended], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(content)
    ended = cli("history", tmp_path / "file", *arguments)
    assert ended.code == 1
    assert expected in ended.err


def test_a_column_that_is_none_of_ours_is_refused(cli: Callable[..., Ended]) -> None:
    ended = cli("history", "file", "--column", "rank=Rank")
    assert ended.code == 2
    assert "expected one of week, track_id, plays" in ended.err


def test_what_is_read_lies_on_disk_and_not_in_memory() -> None:
    """In memory 30,000 events and tracks would take more than 10 MiB."""
    with Shelf() as shelf:
        tracemalloc.start()
        try:
            for n in range(30_000):
                time = datetime.fromtimestamp(AT + n, UTC)
                shelf.put(Heard(time, b"%0100d" % n, f"track {n}", b"%0100d" % n))
            counts = [sum(1 for _ in lines) for lines in (shelf.events(), shelf.tracks())]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert counts == [30_000, 30_000]
    assert peak < 5 * 1024 * 1024

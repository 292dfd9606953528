"""The data folder in object storage: an S3-compatible server over HTTP, and what machines share by it."""

import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from features.mirror import Mirror, MirrorError
from hitparade.embedded import Embedded
from tests.builders_weekly import Stage, chart_week, plays, staged
from tests.commands import run

Capture = pytest.CaptureFixture[str]
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "s3cret", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The address of an S3-compatible server, as its clients have it."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def url(store: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket with nothing in it."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=f"http://{store}", region_name="us-east-1")
    client.create_bucket(Bucket=prefix)
    client.close()
    return f"s3://{prefix}/hitparade?scheme=http&endpoint_override={store}&region=us-east-1"


@pytest.fixture(params=["s3", "file"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Mirror, Mirror]:
    """Two machines with one store."""
    there = request.getfixturevalue("url") if request.param == "s3" else f"file://{tmp_path}/there"
    return Mirror(tmp_path / "one", there, "there"), Mirror(tmp_path / "two", there, "there")


def write(mirror: Mirror, name: str, text: str) -> None:
    path = mirror.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(".new")  # as all our files are written: another file takes the place of the old one
    temporary.write_text(text)
    os.replace(temporary, path)


def contents(mirror: Mirror) -> dict[str, str]:
    paths = [path for path in mirror.folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(mirror.folder).as_posix(): path.read_text() for path in paths}


def test_what_one_machine_sends_another_fetches_and_each_file_travels_once(two: tuple[Mirror, Mirror]) -> None:
    one, other = two
    assert one.fetch() == other.fetch() == other.send() == []
    write(one, "history/weeks/2025-W01.parquet", "week " * 100)
    write(one, "models/neural/champion", "first\n")
    assert one.send() == ["history/weeks/2025-W01.parquet", "models/neural/champion"]
    assert one.send() == one.fetch() == []
    assert other.fetch() == ["history/weeks/2025-W01.parquet", "models/neural/champion"]
    assert other.fetch() == other.send() == []
    assert contents(other) == contents(one)


def test_a_name_that_changes_to_one_of_its_length_within_a_second_is_seen(two: tuple[Mirror, Mirror]) -> None:
    one, other = two
    for name in ("first\n", "other\n", "third\n"):
        write(one, "models/neural/champion", name)
        assert one.send() == ["models/neural/champion"]
        assert other.fetch() == ["models/neural/champion"]
        assert contents(other) == {"models/neural/champion": name}
    assert other.fetch() == []


def test_a_change_goes_from_whoever_made_it_whatever_the_clocks_say(two: tuple[Mirror, Mirror]) -> None:
    one, other = two
    write(one, "history/catalogue.parquet", "a" * 200)
    one.send()
    other.fetch()
    write(other, "history/catalogue.parquet", "b" * 300)
    os.utime(other.folder / "history/catalogue.parquet", (1, 1))  # its clock is half a century behind
    assert other.send() == ["history/catalogue.parquet"]
    assert one.fetch() == ["history/catalogue.parquet"]
    assert contents(one) == {"history/catalogue.parquet": "b" * 300}


def test_a_file_that_is_gone_here_comes_back(two: tuple[Mirror, Mirror]) -> None:
    one, _ = two
    write(one, "runs/2025-W02/1/control.json", "{}")
    one.send()
    (one.folder / "runs/2025-W02/1/control.json").unlink()
    assert one.fetch() == ["runs/2025-W02/1/control.json"]


def test_what_is_being_written_does_not_travel(two: tuple[Mirror, Mirror]) -> None:
    one, _ = two
    write(one, "runs/2025-W02/.0123.tmp/tracks.parquet", "half")
    write(one, "history/weeks/.2025-W02.parquet.0123.tmp", "half")
    assert one.send() == []


def test_names_that_lead_out_of_the_folder_are_not_fetched(url: str, store: str, prefix: str, tmp_path: Path) -> None:
    client = boto3.client("s3", endpoint_url=f"http://{store}", region_name="us-east-1")
    for name in ("hitparade/../evil", "hitparade/a/../../evil", "hitparade/.mirror.json", "hitparade//evil"):
        client.put_object(Bucket=prefix, Key=name, Body=b"evil")
    client.close()
    assert Mirror(tmp_path / "data", url, "there").fetch() == []
    assert not list(tmp_path.rglob("*evil*"))


def test_a_store_that_is_away_is_one_sentence_without_the_secret(tmp_path: Path) -> None:
    there = "s3://key:s3cret@bucket/x?scheme=http&endpoint_override=127.0.0.1:9&region=us-east-1"
    with pytest.raises(MirrorError, match=r"s3://\*\*\*@bucket/x cannot be used: .*onnect") as refused:
        Mirror(tmp_path, there, "s3://***@bucket/x").fetch()
    assert "s3cret" not in str(refused.value)


# Commands


@pytest.fixture
def stage(
    embedded_stack: Embedded, prefix: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stage]:
    """Seven weeks counted, the last of them triggered, on a machine with object storage."""
    folder = tmp_path / "one"
    env = {"HITPARADE_DATA_URL": url}
    with staged(embedded_stack.kafka, embedded_stack.redis_url, prefix, folder, **env) as stage:
        stage.catalogue("a", "b", "c")
        for week in range(19, 26):
            stage.send(plays(week, {"a": 4, "b": week - 19}))
        stage.count()
        stage.triggers.fire(chart_week(24), "manual")
        for name in [name for name in os.environ if name.startswith("HITPARADE_")]:
            monkeypatch.delenv(name)
        for name, value in stage.env.items():
            monkeypatch.setenv(name, value)
        yield stage


def test_a_run_on_one_machine_can_be_looked_at_on_another(
    stage: Stage, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(capsys, "consume", "weekly", "--until-idle").code == 0
    monkeypatch.setenv("HITPARADE_DATA_DIR", str(tmp_path / "two"))
    (found,) = run(capsys, "why", "a", "--json").rows()
    assert [row["plays"] for row in found["counts"]] == [4, 4, 4, 4]
    assert {row["model"] for row in found["models"]} >= {"linear"}


def test_a_command_says_that_object_storage_is_away(
    stage: Stage, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = "s3://key:s3cret@bucket/x?scheme=http&endpoint_override=127.0.0.1:9&region=us-east-1"
    monkeypatch.setenv("HITPARADE_DATA_URL", away)
    ended = run(capsys, "models")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("hitparade: s3://***@bucket/x?*** cannot be used: ")
    assert "s3cret" not in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("wrong", ["http://somewhere/", "s3://", "bucket/folder"])
def test_an_address_that_is_none_is_refused_at_start(
    wrong: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HITPARADE_DATA_URL", wrong)
    ended = run(capsys, "models")
    assert ended.code == 2
    assert "HITPARADE_DATA_URL: expected s3://BUCKET/FOLDER, gs://…, abfs://… or file:///…, found ***" in ended.err

"""The command line: exit codes, sentences, pipes and signals, and the commands that move data."""

import argparse
import gzip
import json
import os
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import hitparade.demo
import hitparade.pipeline
from consumers.kafka import end_offsets
from features.fence import OUTCOMES
from hitparade import __version__, wiring
from hitparade.checking import CHECKS
from hitparade.commands.declaring import every
from hitparade.embedded import Embedded
from hitparade.output import Advance
from hitparade.parser import build_parser
from hitparade.settings import Settings
from hitparade.steps import Outcome, Tell
from producers.playlists import Entry, Playlist
from producers.publisher import Publisher
from tests.builders import play, wire
from tests.builders_history import track
from tests.builders_weekly import Stage
from tests.commands import Ended, end, nothing_left_running, run, start
from tests.servers import wait_until

Capture = pytest.CaptureFixture[str]
__all__ = ["nothing_left_running"]
pytestmark = pytest.mark.usefixtures("nothing_left_running")


@pytest.fixture
def env(embedded_stack: Embedded, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Settings of the embedded stack, in this process too."""
    given = {
        "HITPARADE_KAFKA_BOOTSTRAP_SERVERS": embedded_stack.kafka,
        "HITPARADE_REDIS_URL": embedded_stack.redis_url,
        "HITPARADE_TOPIC_PREFIX": prefix,
        "HITPARADE_PARTITIONS": "2",
        "HITPARADE_SESSION_TIMEOUT_MS": "6000",
        "HITPARADE_DATA_DIR": str(tmp_path / "data"),
    }
    for name in os.environ:
        if name.startswith("HITPARADE_"):
            monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return given


@pytest.fixture
def topics(env: dict[str, str], capsys: Capture) -> Settings:
    """The topics are there."""
    assert run(capsys, "topics").code == 0
    return Settings.from_env(env)


def sent(settings: Settings, topic: str) -> int:
    """How many records a topic holds."""
    partitions = wiring.partitions_of(settings, topic)
    return sum(end_offsets(settings.kafka, {topic: partitions})[topic].values())


def events(path: Path, n: int) -> Path:
    """A file of plays over three weeks, in no order."""
    path.write_bytes(b"".join(play(weeks=(n - i) * 2 / n, track=f"t{i % 7}") + b"\n" for i in range(n)))
    return path


# What people may do wrong


@pytest.mark.parametrize(
    "arguments",
    [
        "--nonsense",
        "nonsense",
        "topics nonsense",
        "produce",
        "produce sessions",
        "produce sessions f --batch 0",
        "produce sessions f --batch x",
        "produce sessions f --rate 0",
        "produce sessions f --rate -1",
        "produce sessions f --rate nan",
        "produce sessions f --rate inf",
        "produce sessions f --rate x",
        "produce sessions f --key x",
        "produce tracks",
        "produce tracks a b",
        "consume",
        "consume nonsense",
        "counters",
        "why",
        "drop",
        "export",
        "export training",
        "export training --format x",
        "simulate --weeks 0",
        "demo --weeks -1",
        "models nonsense",
        "experiments assign",
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_expected(arguments: str, capsys: Capture) -> None:
    ended = run(capsys, *arguments.split())
    assert (ended.code, ended.out) == (2, "")
    assert re.fullmatch(
        r"(hitparade[a-z -]*): .*(expected|required|unrecognized).* \(see `\1 --help`\)\n", ended.err
    ), ended.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("prodcue sessions f", "hitparade: expected a command, found 'prodcue', did you mean produce?"),
        (
            "produce session f",
            "hitparade produce: expected sessions or tracks, found 'session', did you mean sessions?",
        ),
        ("topics --jsno", "hitparade topics: unrecognized arguments: --jsno, did you mean --json?"),
        ("drop x --ye", "hitparade drop: unrecognized arguments: --ye, did you mean --yes?"),  # nothing is shortened
        ("dead-letters x", "hitparade dead-letters: expected replay, found 'x'"),
        ("compare --span 9", "hitparade compare: argument --span: expected 1, 2, 3, 4 or 5, found 9"),
    ],
)
def test_what_is_mistyped_is_told_with_what_may_have_been_meant(arguments: str, sentence: str, capsys: Capture) -> None:
    prog = sentence.partition(":")[0]
    assert run(capsys, *arguments.split()) == Ended(2, "", f"{sentence} (see `{prog} --help`)\n")


def test_alone_it_says_what_to_do_first_by_commands_that_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("HITPARADE_PARTITIONS", "x")  # whoever begins may have nothing right yet
    ended = run(capsys)
    assert (ended.code, ended.err) == (0, "")
    named = {name for name in re.findall(r"(?:  |`)hitparade ([a-z]+)\b|`(consume [a-z]+)`", ended.out)}
    assert len(named) >= 10
    for command in (one or other for one, other in named):
        assert run(capsys, *command.split(), "--help").code == 0, command


def test_it_says_its_version(capsys: Capture) -> None:
    assert run(capsys, "--version") == Ended(0, f"hitparade {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("trigger nonsense", "week 'nonsense' is not of the form 2023-W24"),
        ("trigger 2025-W53", "week '2025-W53' does not exist: Invalid week: 53"),
        ("trigger 2025-W01 --all", "expected a week or --all, found both: 2025-W01 and --all"),
        ("counters --week 2025-01-01", "week '2025-01-01' is not of the form 2023-W24"),
        ("playlists --week nonsense", "week 'nonsense' is not of the form 2023-W24"),
        ("playlists --follow --week 1", "week '1' is not of the form 2023-W24"),
        ("experiments --week x", "week 'x' is not of the form 2023-W24"),
        ("experiments assign 7 --week x", "week 'x' is not of the form 2023-W24"),
        ("simulate --start x", "week 'x' is not of the form 2023-W24"),
        ("train --until x", "week 'x' is not of the form 2023-W24"),
        ("models promote", "expected a version, or --if-better, found neither: `hitparade models` lists the versions"),
        ("drop x", "nothing is counted of topic x: expected one of {0}.sessions.v1, {0}.tracks.v1"),
        ("demo --sessions x", "expected --sessions and --tracks together, or neither"),
        ("export training --format linear --tracks x", "expected --sessions with --tracks, found --tracks alone"),
    ],
)
def test_what_cannot_be_ends_with_2_in_one_sentence(
    arguments: str, sentence: str, env: dict[str, str], prefix: str, capsys: Capture
) -> None:
    assert run(capsys, *arguments.split()) == Ended(2, "", f"hitparade: {sentence.format(prefix)}\n")


def test_an_empty_id_is_wrong_usage(capsys: Capture) -> None:
    assert run(capsys, "why", "").code == run(capsys, "experiments", "assign", "").code == 2


def test_wrong_settings_end_every_command_with_2_and_all_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("HITPARADE_PARTITIONS", "x")
    monkeypatch.setenv("HITPARADE_NOPE", "x")
    for command in (["topics"], ["consume", "sessions"], ["demo"], ["config", "--json"]):
        ended = run(capsys, *command)
        assert (ended.code, ended.out) == (2, "")
        first, *errors = ended.err.splitlines()
        assert first == "hitparade: settings are wrong:"
        assert [error.split(":")[0].strip() for error in errors] == ["HITPARADE_NOPE", "HITPARADE_PARTITIONS"][::-1]


def test_a_wrong_experiment_file_ends_with_2(env: dict[str, str], tmp_path: Path, capsys: Capture) -> None:
    for text, expected in (("x = [", "is not TOML"), ("[[experiment]]\nname = 'a'", "salt: expected a value")):
        (tmp_path / "e.toml").write_text(text)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HITPARADE_EXPERIMENT_FILE", str(tmp_path / "e.toml"))
            ended = run(capsys, "experiments")
        assert ended.code == 2
        assert f"experiment file {tmp_path / 'e.toml'}" in ended.err
        assert expected in ended.err


def test_a_mistake_of_ours_is_not_hidden_behind_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def topics(settings: Settings, arguments: argparse.Namespace) -> int:
        raise KeyError("ours")

    monkeypatch.setattr(hitparade.pipeline, "topics", topics)
    with pytest.raises(KeyError):
        run(capsys, "topics")


def test_ctrl_c_ends_with_130_and_no_word(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def topics(settings: Settings, arguments: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(hitparade.pipeline, "topics", topics)
    assert run(capsys, "topics") == Ended(130, "", "")


# Help


@pytest.mark.parametrize("parser", list(every(build_parser())), ids=lambda parser: parser.prog)
def test_the_help_of_every_command_says_what_it_does_and_what_each_argument_is(
    parser: argparse.ArgumentParser,
) -> None:
    assert parser.description
    assert parser.format_help()
    for example in re.findall(r"^  hitparade (.+)", parser.epilog or "", re.MULTILINE):
        build_parser().parse_args(shlex.split(re.split(" [|>] ", example)[0], comments=True))
    for action in parser._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), action
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            assert {choice.dest for choice in action._choices_actions} == set(action.choices)
            assert all(choice.help for choice in action._choices_actions)


OTHERS_FORMATS = {"hitparade completion", "hitparade export training"}


@pytest.mark.parametrize("parser", list(every(build_parser())), ids=lambda parser: parser.prog)
def test_every_command_that_runs_can_tell_it_in_json(parser: argparse.ArgumentParser) -> None:
    runs = parser.get_default("command") is not None
    assert ("--json" in parser._option_string_actions) == (runs and parser.prog not in OTHERS_FORMATS)


def test_every_command_of_the_design_that_exists_can_be_found(capsys: Capture) -> None:
    ended = run(capsys, "--help")
    assert ended.code == 0
    for command in (
        "demo embedded topics produce simulate consume schedule trigger playlists counters why train models "
        "experiments evaluations export sizing drop config doctor"
    ).split():
        assert re.search(rf"^  {command}\b", ended.out, re.MULTILINE), command


# Who does not answer


def test_a_redis_that_is_not_there_is_one_sentence_with_its_setting(
    topics: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("HITPARADE_REDIS_URL", "redis://:geheim@127.0.0.1:9/0")
    for command in (["consume", "sessions"], ["consume", "weekly"], ["counters", "--week", "2023-W24"], ["trigger"]):
        ended = run(capsys, *command)
        assert (ended.code, ended.out) == (1, "")
        assert re.fullmatch(
            r"hitparade: Redis cannot serve now: .*127\.0\.0\.1:9.*[^.]\. "
            r"HITPARADE_REDIS_URL is redis://\*\*\*@127\.0\.0\.1:9/0: is that right, and is it up\?\n",
            ended.err,
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.removesuffix("/0") + "/999", "redis says DB index is out of range. HITPARADE_REDIS_URL is "),
        (lambda url: "redis+cluster://127.0.0.1:9", "Redis cannot serve now: Redis Cluster cannot be connected. "),
        (lambda url: "redis+sentinel://127.0.0.1:9/m", "Redis cannot serve now: No master found for 'm'"),
        (lambda url: "redis://nowhere.invalid:1", "Redis cannot serve now: Error -"),
    ],
)
def test_a_redis_that_answers_otherwise_than_it_should_is_one_sentence(
    change: Any, said: str, topics: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("HITPARADE_REDIS_URL", change(topics.redis_url.get_secret_value()))
    ended = run(capsys, "counters", "--week", "2023-W24")
    assert ended.code == 1
    assert ended.err.startswith(f"hitparade: {said}")


def test_commands_that_find_no_kafka_do_not_hang_and_end_with_one_sentence(env: dict[str, str], tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0), backlog=100)) as silent:  # accepts, and never answers
        nowhere = {**env, "HITPARADE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"}
        hole = {**env, "HITPARADE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{silent.getsockname()[1]}"}
        file = str(events(tmp_path / "f", 1))
        started = [
            start("topics", env=nowhere),
            start("produce", "sessions", file, env=hole),
            start("consume", "sessions", "--until-idle", env=hole),
            start("doctor", env=hole),
        ]
        topics, produce, consume, doctor = [end(process, timeout_s=45) for process in started]
    for ended in (topics, produce, consume):
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.count("\n") == 1
        assert ended.err.startswith("hitparade: ")
        assert "HITPARADE_KAFKA_BOOTSTRAP_SERVERS" in ended.err
    assert doctor.code == 1
    lines = {line[5:].split(":")[0]: line for line in doctor.out.splitlines()}
    assert lines["kafka"].startswith("FAIL")
    assert lines["redis"].startswith("ok")
    assert lines["counters"] == "FAIL counters: not looked at: first mend kafka"


# Pipes


def test_a_reader_that_has_seen_enough_ends_it_without_a_word_and_as_it_ends_others(env: dict[str, str]) -> None:
    for arguments in (["--help"], ["config"], ["models"], ["simulate", "--help"]):
        process = start(*arguments, env={**env, "PYTHONUNBUFFERED": ""})
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert (process.stderr.read(), process.wait(60)) == ("", 141)
        process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_one_sentence(env: dict[str, str]) -> None:
    for arguments in (["--help"], ["config"], ["models"]):
        with open("/dev/full", "w") as full:
            ended = end(start(*arguments, env={**env, "PYTHONUNBUFFERED": ""}, stdout=full))
        assert ended.code == 1
        assert ended.err == "hitparade: the output cannot be used: No space left on device\n"


def test_a_terminal_that_lacks_characters_gets_what_it_can_show(env: dict[str, str]) -> None:
    ended = end(start("config", env={**env, "PYTHONIOENCODING": "ascii"}))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.isascii()


def test_without_a_terminal_nothing_is_cut_and_there_are_no_colours(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    folder = "/".join(["a-rather-long-name"] * 20)
    monkeypatch.setenv("HITPARADE_DATA_DIR", folder)
    monkeypatch.setenv("COLUMNS", "40")
    ended = run(capsys, "config")
    assert (ended.code, ended.err) == (0, "")
    assert f" {folder} " in ended.out
    assert "\x1b" not in ended.out
    assert ended.out.count("…") == sum((field.description or "").count("…") for field in Settings.model_fields.values())


def test_config_masks_what_is_secret_and_shows_the_rest(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("HITPARADE_REDIS_URL", "rediss://user:geheim@host:1/0")
    monkeypatch.setenv("HITPARADE_KAFKA_SASL_PASSWORD", "geheim")
    for arguments in (["config"], ["config", "--json"]):
        ended = run(capsys, *arguments)
        assert ended.code == 0
        assert "geheim" not in ended.out + ended.err
    values = {row["setting"]: row["value"] for row in ended.rows()}
    assert list(values) == [f"HITPARADE_{name.upper()}" for name in Settings.model_fields]
    assert values["HITPARADE_REDIS_URL"] == "rediss://***@host:1/0"
    assert values["HITPARADE_KAFKA_SASL_PASSWORD"] == "***"
    assert values["HITPARADE_PARTITIONS"] == "2"


# Topics


def test_topics_creates_what_is_missing_and_then_finds_it_as_it_should_be(
    env: dict[str, str], prefix: str, capsys: Capture
) -> None:
    first, second = run(capsys, "topics"), run(capsys, "topics")
    assert (first.code, second.code, first.err + second.err) == (0, 0, "")
    names = ["sessions.v1", "tracks.v1", "triggers.v1", "playlists.v1", "evaluations.v1"]
    names += ["sessions.late.v1", "sessions.dlq.v1", "tracks.dlq.v1"]
    assert first.out.splitlines() == [f"{prefix}.{name}: created" for name in names]
    assert second.out.splitlines() == [f"{prefix}.{name}: as it should be" for name in names]


def test_topics_says_what_differs_and_ends_with_1(
    topics: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("HITPARADE_PARTITIONS", "4")
    ended = run(capsys, "topics", "--json")
    assert ended.code == 1
    found = {row["topic"]: row for row in ended.rows()}
    assert list(found[topics.topics.sessions]) == ["topic", "created", "differences"]
    assert found[topics.topics.sessions]["differences"] == ["expected 4 partitions, found 2"]
    assert found[topics.topics.playlists]["differences"] == []
    assert ended.err.startswith("hitparade: topics differ from the settings: correct HITPARADE_PARTITIONS")


def test_a_topic_that_is_not_there_is_one_sentence(env: dict[str, str], prefix: str, capsys: Capture) -> None:
    for command, topic in (
        (["consume", "sessions"], "sessions"),
        (["consume", "tracks"], "tracks"),
        (["playlists"], "playlists"),
        (["evaluations"], "evaluations"),
        (["counters", "--week", "2023-W24"], "sessions"),
        (["trigger"], "sessions"),
    ):
        ended = run(capsys, *command)
        message = f"hitparade: topic {prefix}.{topic}.v1 does not exist: run `hitparade topics`\n"
        assert ended == Ended(1, "", message)


# Sending


def test_produce_says_what_was_sent(topics: Settings, tmp_path: Path, capsys: Capture) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(events(tmp_path / "plain", 30).read_bytes()))
    (tmp_path / "empty").touch()
    ended = run(capsys, "produce", "sessions", *(str(tmp_path / name) for name in ("plain", "packed", "empty")))
    n_records = sent(topics, topics.topics.sessions)
    expected = f"sent 60 events in {n_records} records to {topics.topics.sessions}\n"
    assert ended == Ended(0, expected, "")
    assert n_records < 10
    assert run(capsys, "produce", "sessions", str(packed), "--batch", "1").out.startswith(
        "sent 30 events in 30 records"
    )


def test_a_file_that_cannot_be_read_is_named_and_ends_with_1(topics: Settings, tmp_path: Path, capsys: Capture) -> None:
    torn = tmp_path / "torn.gz"
    torn.write_bytes(gzip.compress(os.urandom(5000))[:2000])
    for path, reason in (
        (tmp_path / "nowhere", "cannot be read: No such file or directory"),
        (tmp_path, "cannot be read: Is a directory"),
        (torn, "is damaged after line "),
    ):
        for what in ("sessions", "tracks"):
            ended = run(capsys, "produce", what, str(path))
            assert (ended.code, ended.out) == (1, "")
            assert ended.err.startswith(f"hitparade: {path} {reason}")
            assert ended.err.count("\n") == 1


def test_a_line_that_is_no_track_is_named_and_the_others_are_sent(
    topics: Settings, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "tracks.jsonl"
    good = [track(track_id).model_dump_json() for track_id in "abc"]
    file.write_text("\n".join([good[0], '{"id": null}', good[1], "xx", good[2]]))
    ended = run(capsys, "produce", "tracks", str(file))
    assert ended.code == 1
    assert ended.out == (
        f"sent 3 tracks in 3 records to {topics.topics.tracks}; 2 not sent, the first: {file} line 2 has no id: "
        "expected text or an integer, found None\n"
    )
    assert sent(topics, topics.topics.tracks) == 3


def test_a_signal_ends_produce_in_good_order_and_what_was_sent_is_counted(
    topics: Settings, env: dict[str, str], tmp_path: Path
) -> None:
    file = events(tmp_path / "f", 5000)
    process = start("produce", "sessions", str(file), "--rate", "100", "--batch", "1", env=env)
    wait_until(lambda: sent(topics, topics.topics.sessions) > 20, "records")
    ended = end(process, signal.SIGTERM)
    n_records = sent(topics, topics.topics.sessions)
    expected = f"sent {n_records} events in {n_records} records to {topics.topics.sessions}\n"
    assert ended == Ended(1, expected, "hitparade: stopped by a signal before everything was sent\n")


def test_simulate_writes_files_and_says_how_much(env: dict[str, str], tmp_path: Path, capsys: Capture) -> None:
    arguments = ("simulate", "--weeks", "1", "--users", "5", "--tracks", "9")
    ended = run(capsys, *arguments, "--out", str(tmp_path / "new"))
    n_events = len((tmp_path / "new" / "sessions.jsonl").read_bytes().splitlines())
    assert ended == Ended(0, f"wrote {n_events} events and 9 tracks to {tmp_path / 'new'}\n", "")
    (tmp_path / "file").touch()
    ended = run(capsys, *arguments, "--out", str(tmp_path / "file"))
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"hitparade: {tmp_path / 'file'} cannot be written: File exists\n"


def test_simulate_sends_tracks_and_events(topics: Settings, capsys: Capture) -> None:
    ended = run(capsys, "simulate", "--weeks", "1", "--users", "5", "--tracks", "9")
    n_records = sent(topics, topics.topics.sessions)
    assert ended.code == 0
    assert re.fullmatch(
        rf"sent 9 tracks in 9 records to \S+\nsent \d+ events in {n_records} records to \S+\n", ended.out
    )


def test_a_live_simulation_ends_well_at_a_signal(topics: Settings, env: dict[str, str]) -> None:
    process = start("simulate", "--live", "--users", "9", "--tracks", "9", env=env)
    wait_until(lambda: sent(topics, topics.topics.tracks) == 9, "the catalogue")
    ended = end(process, signal.SIGTERM)
    n_records = sent(topics, topics.topics.sessions)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[1] == f"sent {n_records} events in {n_records} records to {topics.topics.sessions}"


# Counting and triggering


def counted(settings: Settings) -> int:
    fences = wiring.session_store(settings).fences(wiring.partitions_of(settings, settings.topics.sessions))
    return sum(fence.tallies.get("counted", 0) for fence in fences.values())


def resident_mib(process: subprocess.Popen[str]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


def test_the_counting_consumer_is_small_logs_in_lines_of_json_and_ends_well_at_a_signal(
    topics: Settings, env: dict[str, str], tmp_path: Path, capsys: Capture
) -> None:
    file = events(tmp_path / "f", 400)
    with file.open("ab") as more:
        more.write(b"nonsense\n" + wire(event_type="advertisment") + b"\n")
    assert run(capsys, "produce", "sessions", str(file)).code == 0
    process = start("consume", "sessions", env={**env, "HITPARADE_LOG_FORMAT": "json"})
    wait_until(lambda: counted(topics) == 400, "400 counted events")
    if Path("/proc/self/status").exists():
        assert resident_mib(process) < 80
    ended = end(process, signal.SIGTERM)
    assert (ended.code, ended.out) == (0, "")
    messages = [json.loads(line)["message"] for line in ended.err.splitlines()]
    assert re.fullmatch(r"ready after \d+\.\d s", messages.pop(1))
    assert messages == [
        f"reading {topics.topics.sessions}, until SIGTERM or Ctrl-C",
        f"read from {topics.topics.sessions}: 400 counted, 1 dead (1 json), 1 ignored",
    ]


def test_the_weekly_consumer_and_the_scheduler_end_well_at_a_signal(topics: Settings, env: dict[str, str]) -> None:
    for arguments in (("consume", "weekly"), ("schedule", "--event-time")):
        process = start(*arguments, env=env)
        assert process.stderr is not None
        said = process.stderr.readline()  # by now it listens to signals
        assert "until SIGTERM or Ctrl-C" in said
        ended = end(process, signal.SIGTERM, 15)
        assert (ended.code, ended.out) == (0, "")


NOTHING = "nothing has been counted yet: send events, and run `hitparade consume sessions`"


def test_before_anything_is_counted_there_is_nothing_to_trigger_and_to_look_at(
    topics: Settings, capsys: Capture
) -> None:
    for command in ("trigger", "trigger --all", "trigger 2023-W24", "counters --week 2023-W24", "experiments assign 7"):
        assert run(capsys, *command.split()) == Ended(1, "", f"hitparade: {NOTHING}\n")
    for command in ("schedule --once", "schedule --once --event-time"):
        assert run(capsys, *command.split()) == Ended(0, f"triggered nothing: {NOTHING}\n", "")
    doctor = run(capsys, "doctor")
    assert (doctor.code, doctor.err) == (0, "")
    assert re.search(r"^(ok  |warn) counters: nothing ", doctor.out, re.MULTILINE)  # other tests count in this Redis


def send_and_count(settings: Settings, capsys: Capture, file: Path) -> None:
    """The events of a file, counted without a group: joining one takes the embedded broker 3 s."""
    assert run(capsys, "produce", "sessions", str(file)).code == 0
    with closing(Publisher(settings.kafka)) as publisher:
        Stage({}, settings, publisher).count()


def test_a_trigger_is_for_a_closed_week_that_is_kept_and_else_for_the_last(
    topics: Settings, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"".join(play(weeks=week, track="a") + b"\n" for week in (0.5, 1.5, 2.5, 3.5)))
    told = "triggered {0}: `hitparade consume weekly` makes the lists for {1}\n"
    send_and_count(topics, capsys, file)
    assert run(capsys, "trigger") == Ended(0, told.format("2023-W26", "2023-W27"), "")
    assert run(capsys, "trigger", "2023-W24").out == told.format("2023-W24", "2023-W25")
    every = run(capsys, "trigger", "--all").out
    weeks = [f"2023-W{week}" for week in (24, 25, 26, 27)]
    assert every == "".join(told.format(*pair) for pair in pairwise(weeks))
    for week in ("2023-W27", "2023-W23"):  # open, and never counted
        ended = run(capsys, "trigger", week)
        message = f"week {week} is not closed, or not kept: expected one of 2023-W24 to 2023-W26"
        assert ended == Ended(1, "", f"hitparade: {message}\n")
    again = run(capsys, "schedule", "--once", "--event-time")
    assert again == Ended(0, "triggered nothing: no closed week is without a trigger\n", "")


def test_drop_says_what_it_would_remove_and_removes_it_when_told_to(
    topics: Settings, tmp_path: Path, capsys: Capture
) -> None:
    name = topics.topics.sessions
    send_and_count(topics, capsys, events(tmp_path / "f", 100))
    ended = run(capsys, "drop", name)
    assert ended.code == 0
    assert ended.out == f"would remove 100 counted events of 2 partitions of {name}; add --yes to do it\n"
    assert counted(topics) == 100
    ended = run(capsys, "drop", name, "--yes")
    assert ended.code == 0
    assert re.fullmatch(rf"removed \d+ keys of {name}; a consumer counts it anew from the log's beginning\n", ended.out)
    assert counted(topics) == 0


def test_with_json_what_was_done_is_one_object_a_line_and_nothing_else(
    topics: Settings, tmp_path: Path, capsys: Capture
) -> None:
    def told(arguments: str, code: int = 0) -> list[dict[str, Any]]:
        ended = run(capsys, *arguments.split(), "--json")
        assert ended.code == code
        return ended.rows()

    names, nothing = topics.topics, {"failed": 0, "first_failure": "", "refused": 0, "first_refusal": ""}
    file, catalogue = tmp_path / "f", tmp_path / "tracks"
    file.write_bytes(b"".join(play(weeks=week, track="a") + b"\n" for week in (0.5, 1.5, 2.5)) + b"{}\n")
    catalogue.write_text('{"id": "a"}\n[]\n')
    (sent,) = told(f"produce sessions {file}")
    assert sent == {"topic": names.sessions, "noun": "events", "items": 4, "records": sent["records"], **nothing}
    (tracks,) = told(f"produce tracks {catalogue}", 1)
    assert (tracks["items"], tracks["refused"]) == (1, 1)
    folder = tmp_path / "new"
    (wrote,) = told(f"simulate --weeks 1 --users 5 --tracks 9 --out {folder}")
    n_events = len((folder / "sessions.jsonl").read_bytes().splitlines())
    assert wrote == {"folder": str(folder), "events": n_events, "tracks": 9}

    with closing(Publisher(topics.kafka)) as publisher:
        Stage({}, topics, publisher).count()
    fired = [{"closed_week": f"2023-W{n}", "week": f"2023-W{n + 1}"} for n in (24, 25)]
    assert told("schedule --once --event-time") == fired
    assert told("schedule --once --event-time") == []
    assert told("trigger") == fired[1:]
    assert told("trigger --all") == fired
    assert told("rebuild") == [{"topic": names.sessions, "partitions": 2, "offsets": sent["records"]}]
    assert told("rebuild --discard") == [{"topic": names.sessions, "partitions": 0, "offsets": 0}]
    assert told(f"drop {names.sessions}") == [{"topic": names.sessions, "counted": 3, "keys_removed": 0}]
    (dropped,) = told(f"drop {names.sessions} --yes")
    assert dropped["keys_removed"] > 0


# The doctor and the demo


def test_the_doctor_names_every_ill_and_what_to_do(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HITPARADE_DATA_DIR", str(tmp_path / "file"))
    monkeypatch.setenv("HITPARADE_EXPERIMENT_FILE", str(tmp_path / "nowhere"))
    monkeypatch.setenv("HITPARADE_REDIS_URL", "redis://127.0.0.1:9")
    ended = run(capsys, "doctor", "--json")
    assert ended.code == 1
    found = {row["check"]: (row["level"], row["found"]) for row in ended.rows()}
    levels = {check: level for check, (level, _) in found.items()}
    assert list(levels) == [check.name for check in CHECKS]
    well = ("kafka", "brokers", "Kafka's disk", "Kafka's clock", "Kafka client", "object storage")
    assert levels == {check: "ok" if check in well else "wrong" for check in levels} | {"consumers": "warning"}
    assert " topics (" in found["topics"][1]
    assert "do not exist: run `hitparade topics`" in found["topics"][1]
    assert found["redis"][1].endswith("HITPARADE_REDIS_URL is redis://127.0.0.1:9: is that right, and is it up?")
    assert found["counters"][1] == "not looked at: first mend topics and redis"
    assert found["experiments"][1].endswith("nowhere cannot be read: No such file or directory")
    assert found["data folder"][1] == f"{tmp_path / 'file'} cannot be used: File exists"
    assert found["models"][1] == "not looked at: first mend experiments and data folder"


def test_a_redis_that_could_forget_is_refused_with_what_to_set(
    topics: Settings, embedded_stack: Embedded, redis: Any, capsys: Capture
) -> None:
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        refused = run(capsys, "consume", "sessions")
        doctor = run(capsys, "doctor")
    finally:
        redis.config_set("maxmemory-policy", "noeviction")
    assert refused.code == doctor.code == 1
    reason = "Redis is not safe for counters: maxmemory-policy is allkeys-lru, expected noeviction"
    assert refused.err.startswith(f"hitparade: {reason}")
    assert f"FAIL redis safety: {reason}" in doctor.out


def test_the_demo_prints_every_list_and_then_the_accounting_and_nothing_else_in_json(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    outcome = Outcome([playlist(1), playlist(2)], {"read": 0, **dict.fromkeys(OUTCOMES, 0)}, ["2023-W24"])

    def steps(env: Mapping[str, str], listening: object, tell: Tell, advance: Advance) -> Outcome:
        tell("a word")
        advance(1)
        return outcome

    monkeypatch.setattr(hitparade.demo, "steps", steps)
    ended = run(capsys, "demo", "--json", "--weeks", "1")
    assert (ended.code, ended.err) == (0, "a word\n")
    *lists, accounting = ended.rows()
    assert lists == [listed.model_dump(mode="json") for listed in outcome.playlists]
    assert list(accounting) == ["read", "counted", "late", "dead", "ignored"]


def playlist(revision: int) -> Playlist:
    return Playlist(
        week="2023-W25",
        closed_week="2023-W24",
        group="g",
        experiment="e",
        model="naive",
        model_version="1",
        revision=revision,
        fallback=None,
        cut={},
        tracks=(Entry(rank=1, track_id="a", name="Ü", score=1.5, plays=(1, 2, 3, 4)),),
    )

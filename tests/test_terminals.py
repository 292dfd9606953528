"""The command line on a real terminal: Ctrl-C at bad moments, colours, bars, closed streams; and in real shells."""

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hitparade.commands.page import PAGE, page
from tests.commands import COMMAND, end, nothing_left_running, start
from tests.servers import ROOT, wait_until
from tests.terminals import CTRL_C, Terminal, plain, python, words

__all__ = ["nothing_left_running"]
pytestmark = pytest.mark.usefixtures("nothing_left_running")
COLOUR = re.compile(r"\x1b\[[0-9;]*\b(3[0-8]|4[0-8]|9[0-7]|10[0-7])\b")


# Ctrl-C

WAITING = (
    "topics",
    "doctor",
    "simulate",
    "produce tracks {file}",
    "consume sessions",
    "consume tracks",
    "consume weekly",
    "schedule",
    "schedule --once",
    "trigger",
    "playlists",
    "playlists --follow",
    "counters --week 2025-W01",
    "why a",
    "evaluations",
    "experiments",
    "experiments assign 7",
    "experiments report neural-against-linear",
    "audit",
    "rebuild",
    "dead-letters",
    "dead-letters replay --yes",
    "drop hitparade.sessions.v1",
)


def test_ctrl_c_ends_whatever_waits_for_a_server_without_a_word(tmp_path: Path) -> None:
    file = tmp_path / "tracks"
    file.write_text('{"id": "a"}\n')
    with ExitStack() as stack:
        terminals = []
        for command in WAITING:
            silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100))
            silent.settimeout(60)
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            env = {"HITPARADE_KAFKA_BOOTSTRAP_SERVERS": address, "HITPARADE_REDIS_URL": f"redis://{address}"}
            env |= {"HITPARADE_DATA_DIR": str(tmp_path / "data"), "HITPARADE_LOG_LEVEL": "ERROR"}
            terminals.append((command, silent, Terminal(*command.format(file=file).split(), env=env)))
        for command, silent, terminal in terminals:
            connection = stack.enter_context(silent.accept()[0])
            connection.settimeout(30)
            assert connection.recv(1), command  # it has asked, and waits
            terminal.press(CTRL_C)
        for command, _, terminal in terminals:
            code, seen = terminal.end()
            assert (command, code, words(seen), terminal.left()) == (command, 130, [], [])


def test_ctrl_c_in_the_middle_of_the_demo_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    terminal = Terminal("demo", "--weeks", "3", env={"TMPDIR": str(tmp_path)})
    terminal.read_until("sent 2,000 tracks")
    assert len(terminal.left()) > 5
    assert list(tmp_path.iterdir())
    terminal.press(CTRL_C)
    code, seen = terminal.end()
    assert (code, "Traceback" in seen) == (130, False)
    wait_until(lambda: not terminal.left(), "its processes to end")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["export training --format linear --sessions", "backtest --sessions"])
def test_ctrl_c_while_a_file_is_read_ends_it_without_a_word_and_writes_nothing(command: str, tmp_path: Path) -> None:
    (tmp_path / "events").write_text("")
    terminal = Terminal(*command.split(), "/dev/stdin", "--out", str(tmp_path / "out"), env={"TMPDIR": str(tmp_path)})
    wait_until(lambda: list(tmp_path.glob("hitparade-*")), "it to begin")
    terminal.press(CTRL_C)
    code, seen = terminal.end()
    assert (code, words(seen)) == (130, [])
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["events"]


# Colours and bars


def simulated(tmp_path: Path, **env: str) -> str:
    terminal = Terminal("simulate", "--weeks", "2", "--users", "20", "--tracks", "20", "--out", str(tmp_path), env=env)
    code, seen = terminal.end()
    assert code == 0
    return seen


def test_a_terminal_has_a_bar_in_colours_and_none_where_no_color_says_so(tmp_path: Path) -> None:
    coloured, plainer = simulated(tmp_path), simulated(tmp_path, NO_COLOR="1")
    for seen in (coloured, plainer):
        assert "events written" in seen
    assert COLOUR.search(coloured)
    assert not COLOUR.search(plainer)


def test_a_pipe_has_no_bar_and_no_colour_even_where_the_other_stream_is_a_terminal(tmp_path: Path) -> None:
    arguments = ("simulate", "--weeks", "1", "--users", "5", "--tracks", "9", "--out", str(tmp_path))
    ended = end(start(*arguments, env={"FORCE_COLOR": "1"}))
    assert (ended.code, ended.err, "\x1b" in ended.out) == (0, "", False)
    shell = ["bash", "-c", '"$@" | cat >&2', "bash", *COMMAND]
    code, seen = Terminal("sizing", "--events-per-s", "10", "--tracks", "10", env={}, command=shell).end()
    assert (code, "\x1b" in seen, "partitions" in seen) == (0, False, True)


def test_what_is_printed_beside_a_bar_goes_where_standard_output_goes(tmp_path: Path) -> None:
    code = "from hitparade.output import progress\nwith progress('bar'): print('a result')"
    shell = ["bash", "-c", f'"$@" > {tmp_path / "file"}', "bash", *python(code)]
    ended, seen = Terminal(env={}, command=shell).end()
    assert (ended, "bar" in seen, "a result" in seen) == (0, True, False)
    assert (tmp_path / "file").read_text() == "a result\n"
    _, seen = Terminal(env={}, command=python(code)).end()
    assert "a result\n" in plain(seen)


def test_a_narrow_terminal_cuts_no_option_and_no_command() -> None:
    code, seen = Terminal("--help", env={"NO_COLOR": "1"}, columns=40).end()
    assert code == 0
    assert max(map(len, seen.splitlines())) <= 40
    for command in ("experiments", "dead-letters", "evaluations"):
        assert re.search(rf"^  {command}\b", plain(seen), re.MULTILINE)


# Streams that are closed


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_as_good_as_an_empty_one(closed: str) -> None:
    for arguments, code in (("sizing --events-per-s 10 --tracks 10 --json", 0), ("--help", 0), ("nonsense", 2)):
        ended = subprocess.run(
            ["bash", "-c", f'"$@" {closed}', "bash", *COMMAND, *arguments.split()],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ended.returncode, "Traceback" in ended.stderr) == (code, False)
        if ">&-" not in closed and code == 0 and "--json" in arguments:
            assert json.loads(ended.stdout)


# Shells

COMPLETED = {"prod": "produce", "produce sessions --ba": "--batch", "consume ses": "sessions"}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script of each shell, under the name that it looks for."""
    folder = tmp_path_factory.mktemp("shells")
    for shell, name in (("bash", "hitparade"), ("zsh", "_hitparade"), ("fish", "hitparade.fish")):
        script = subprocess.run([*COMMAND, "completion", shell], cwd=ROOT, capture_output=True, check=True).stdout
        (folder / name).write_bytes(script)
    return folder


def shell_found(name: str) -> str:
    """Where it is; not every machine has each."""
    found = shutil.which(name)
    if not found:
        pytest.skip(f"there is no {name} here")
    return found


def test_bash_completes_commands_options_values_and_files(scripts: Path) -> None:
    shell_found("bash")
    expected = {**COMPLETED, "produce sessions --key u": "user", "produce sessions READ": "README.md"}
    for typed, completed in expected.items():
        words = ["hitparade", *typed.split()]
        code = (
            f"source {scripts}/hitparade; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
            '_shtab_hitparade; echo "${COMPREPLY[@]}"'
        )
        ended = subprocess.run(["bash", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert completed in ended.stdout.split(), (typed, ended.stdout)


def test_fish_completes_commands_options_values_and_files(scripts: Path, tmp_path: Path) -> None:
    fish = shell_found("fish")
    for typed, completed in {**COMPLETED, "produce sessions --key u": "user"}.items():
        code = f'source {scripts}/hitparade.fish; complete -C "hitparade {typed}"'
        ended = subprocess.run(
            [fish, "--no-config", "-c", code], env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=True
        )
        assert completed in ended.stdout.split(), (typed, ended.stdout)


@pytest.fixture
def zsh(scripts: Path, tmp_path: Path) -> Iterator[Terminal]:
    """A zsh of somebody who has put the script in a folder of fpath."""
    shell = [shell_found("zsh"), "--no-rcs", "-i"]
    terminal = Terminal(env={"HOME": str(tmp_path), "PS1": "ready> "}, command=shell, columns=200)
    terminal.press(f"fpath=({scripts} $fpath); autoload -U compinit; compinit -u; print star''ted\n".encode())
    terminal.read_until("started")
    yield terminal
    terminal.press(b"\x15exit\n")
    terminal.end()


def test_zsh_completes_commands_options_and_values(zsh: Terminal) -> None:
    for typed, completed in {**COMPLETED, "produce sessions --key u": "user"}.items():
        *before, last = completed.split()
        zsh.seen = b""
        zsh.press(f"\x15: ; hitparade {typed}\t".encode())
        zsh.read_until(" ".join([*typed.split()[:-1], *before, last])[-len(last) :])


# The page


def test_the_page_of_the_command_line_is_what_the_commands_declare() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make cli`"

"""The demo: the main job on the embedded stack, and what came of it."""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping

from features.fence import OUTCOMES
from hitparade import output
from hitparade.errors import UsageError
from hitparade.looking import print_lists
from hitparade.settings import Settings, zone
from hitparade.steps import Listening, Outcome, steps
from models.experiments import EVERYONE_NAME

USERS, TRACKS = 400, 2000
NEXT = """
What to try next:
  hitparade embedded                      a broker and a Redis of your own; run what it prints in another terminal, then
  hitparade topics                        create the topics
  hitparade produce sessions FILE…        send your own events (README: "Send your own events")
  hitparade consume sessions              count them; then `consume tracks`, `consume weekly` and `schedule`
  hitparade playlists --follow            read lists as a subscriber does
  hitparade why TRACK                     why a track is where it is"""


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    """Show it on the embedded stack, with simulated or real listening."""
    from hitparade.embedded import embedded

    if (arguments.sessions is None) != (arguments.tracks is None):
        raise UsageError("expected --sessions and --tracks together, or neither")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    with embedded() as stack, tempfile.TemporaryDirectory(prefix="hitparade-") as folder:
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HITPARADE_KAFKA_")},
            **stack.environment,
            "HITPARADE_DATA_DIR": folder,
        }
        if settings.experiment_file:  # the consumers run in another folder
            env["HITPARADE_EXPERIMENT_FILE"] = str(settings.experiment_file.absolute())
        env.pop("HITPARADE_MAPPING_FILE", None)  # what the demo sends is of the contract
        listening, n_events = _listening(settings, arguments)
        with output.progress("events", n_events) as advance:
            outcome = steps(env, listening, tell=lambda text: print(text, file=sys.stderr), advance=advance)
        if arguments.json:
            output.print_json(playlist.model_dump(mode="json") for playlist in outcome.playlists)
            output.print_json([outcome.tallies])
        else:
            _show(outcome, time.monotonic() - began)
        if arguments.serve:
            from hitparade.serving import serve  # an extra

            _report(env, outcome)
            return serve(Settings.from_env(env), arguments)
    return 0


def _report(env: Mapping[str, str], outcome: Outcome) -> None:
    """Have the experiment's report made, for the page; where it cannot be, the page says what makes one."""
    for name in {playlist.experiment for playlist in outcome.last_lists()} - {EVERYONE_NAME}:
        command = [sys.executable, "-m", "hitparade", "experiments", "report", name]
        subprocess.run(command, env=env, check=False, capture_output=True)


def _listening(settings: Settings, arguments: argparse.Namespace) -> tuple[Listening, int]:
    from producers.files import read_lines
    from producers.sessions import in_event_time
    from producers.simulator import Simulation, track_lines

    if arguments.sessions:
        events = in_event_time((line for _, line in read_lines(arguments.sessions)), zone(settings.event_time_zone))
        tracks = ((f"{arguments.tracks} line {n:,}", line) for n, line in read_lines(arguments.tracks))
        return Listening(tracks, events), len(events)
    start = settings.calendar.parse("2025-W01")
    simulation = Simulation(arguments.weeks, USERS, TRACKS, arguments.seed, start, settings.calendar)
    events = list(simulation.events())
    return Listening(((f"track {n}", line) for n, line in enumerate(track_lines(simulation), 1)), events), len(events)


def _show(outcome: Outcome, seconds: float) -> None:
    lists = outcome.last_lists()
    if lists:
        print_lists(lists)
    tallies = outcome.tallies
    parts = [f"{n:,} {name}" for name, n in tallies.items() if name != "read"]
    how_many = ("four", "five", "six", "seven")[len(parts) - len(OUTCOMES)]
    print(f"\n{tallies['read']:,} events read = {', '.join(parts)}. Every one ended in exactly one of the {how_many}.")
    print(f"{len(outcome.closed)} weeks closed, {len(outcome.playlists)} lists published, in {seconds:.0f} s.")
    print(NEXT)

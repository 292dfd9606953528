"""The commands that check: the settings in force, and what is reachable."""

import argparse
import contextlib
from dataclasses import asdict

from hitparade import output
from hitparade.checks_counters import COUNTERS
from hitparade.checks_kafka import KAFKA
from hitparade.checks_machine import MACHINE
from hitparade.checks_redis import REDIS
from hitparade.doctor import Level, Patient, examine
from hitparade.settings import PREFIX, Settings

CHECKS = (*KAFKA, *REDIS, *COUNTERS, *MACHINE)
MARKS = {Level.OK: "ok  ", Level.WARNING: "warn", Level.WRONG: "FAIL"}


def config(settings: Settings, arguments: argparse.Namespace) -> int:
    """Show every setting."""
    rows = [(name, settings.shown(name), field.description or "") for name, field in Settings.model_fields.items()]
    if arguments.json:
        output.print_json({"setting": PREFIX + name.upper(), "value": value} for name, value, _ in rows)
    else:
        columns = ("setting", "~value", "~what it is")
        output.print_table("Settings", columns, ((PREFIX + n.upper(), v, d) for n, v, d in rows))
    return 0


def doctor(settings: Settings, arguments: argparse.Namespace) -> int:
    """Look at everything, and tell each finding as it comes; 1 where something is wrong."""
    code = 0
    with contextlib.closing(Patient(settings)) as patient:
        for finding in examine(patient, CHECKS):
            code |= finding.level is Level.WRONG
            if arguments.json:
                output.print_json([asdict(finding)])
            else:
                print(f"{MARKS[finding.level]} {finding.check}: {finding.found}", flush=True)
    return code

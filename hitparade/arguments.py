"""What arguments may be: each refuses a text with what is expected and what was found."""

import argparse
import math
import re
from typing import Literal

Client = Literal["kafka-python", "confluent-kafka"]
BACKTESTED = ("naive", "linear", "neural")
IMPORTED = ("week", "track_id", "plays", "skips", "likes", "group", "name", "artist")


def models_of(text: str) -> tuple[str, ...]:
    """Models that can be backtested, separated by commas; each once."""
    names = tuple(dict.fromkeys(text.split(",")))
    if not set(names) <= set(BACKTESTED):
        raise argparse.ArgumentTypeError(f"expected some of {','.join(BACKTESTED)}, found {text!r}")
    return names


def seed(text: str) -> int:
    """A whole number that every generator of random numbers takes."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 999999999, found {text!r}")
    return int(text)


def positive(text: str) -> int:
    """A whole number from 1 on."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, found {text!r}")
    return number


def amount(text: str) -> int:
    """A whole number from 1 on that arithmetic in floats takes."""
    if not (text.isascii() and text.isdigit() and 0 < int(text[:16]) and len(text) < 16):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 999999999999999, found {text!r}")
    return int(text)


def ray_address(text: str) -> str:
    """Where a cluster of Ray is."""
    if not re.fullmatch(r"local|auto|[^\s:/]+:[0-9]{1,5}", text):
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, auto or local, found {text!r}")
    return text


def change(text: str) -> float:
    """A relative change, such as 0.05 for 5 % more."""
    number = _number(text)
    if not -1 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected a change from -1 to 1, such as 0.05 for 5 % more, found {text!r}")
    return number


def share(text: str) -> float:
    """From 0 to less than 1."""
    number = _number(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to less than 1, found {text!r}")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def rate(text: str) -> float:
    """A number above 0."""
    rate = _number(text)
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return rate


def an_id(text: str) -> str:
    """Any text but none."""
    if not text:
        raise argparse.ArgumentTypeError("expected an id, found nothing")
    return text


def part(text: str) -> float:
    """A number above 0, at most 1."""
    number = _number(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, at most 1, found {text!r}")
    return number


def whole(text: str) -> int:
    """A whole number from 0 on."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, found {text!r}")
    return int(text)


def column(text: str) -> tuple[str, str]:
    """Our name of a column, and theirs."""
    ours, _, theirs = text.partition("=")
    if ours not in IMPORTED or not theirs:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(IMPORTED)}, =, and its name, found {text!r}")
    return ours, theirs

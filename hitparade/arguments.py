"""What arguments may be: each refuses a text with what is expected and what was found."""

import argparse
import math
import re

BACKTESTED = ("naive", "linear", "neural")


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


def rate(text: str) -> float:
    """A number above 0."""
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return rate


def an_id(text: str) -> str:
    """Any text but none."""
    if not text:
        raise argparse.ArgumentTypeError("expected an id, found nothing")
    return text

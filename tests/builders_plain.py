"""Logs that hold whatever an event, a value or a record's timestamp may be; mostly what is plain."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from tests.builders import MONDAY, WEEK, Record, array, millis, play

FIELDS = ("event_type", "track_id", "user_id", "timestamp")
MOST_RECORDS = 14

KINDS = ('"play"', '"skip"', '"like"', '"pl\\u0061y"')
NOT_COUNTED = ('"advertisment"', '"advertisement"', '"buy_premium"', '"exposure"')
ODD_KINDS = ('"PLAY"', '"Like"', '"Exposure"', '"jump"', "null", "1", '""', '["play"]')
TRACKS = ('"a"', '"\\u0061"', '"b"', "5", '"5"', '"\u00fc"', '"\\u00fc"', str(2**70), f'"{2**70}"', "-7", '"-7"')
USERS = ('"u"', '"uu"', "7", '"7"', "12", '"\N{GRINNING FACE}"', '"\\ud83d\\ude00"')
ODD_IDS = ('""', "null", "5.0", "1e3", "true", "false", '"\\ud800"', "-0", "9" * 400, "9" * 5000, "[]", "{}", "NaN")
WEEKS = ('"2023-W24"', '"2023-W25"', '"2020-W53"')
ODD_WEEKS = ('"2023-W53"', '"2023-W00"', '"0000-W01"', '"2023-w24"', '"2023-W2"', "null", "24", '["2023-W24"]', '""')
GROUPS = ('"control"', '"\u00fc"', '"even"')
ODD_GROUPS = ('""', "null", "7", "true", '"\\ud800"', "{}")
EXTRAS = (*('"x":1', '"x":{"y":[1,{"z":null}]}', '"x":"[{\\"}"', '"event_id":"e"', '"x":1e999'), '"x":[[[[]]]]')
ODD_EXTRAS = (
    *('"x":NaN', '"x":-Infinity', '"x":"\\ud800"', '"x":01', '"x":"\xff"', '"x":"\\q"', '"x":"\n"'),
    *(f'"x":{"[" * depth}{"]" * depth}' for depth in (97, 98, 99, 100, 101, 500)),
)
ODD_VALUES = (
    None,
    b"",
    b"[]",
    b"[ ]",
    b"x",
    b"7",
    b"{}",
    b"[null]",
    b"[[]]",
    b"\xef\xbb\xbf" + play(0),
    b"[" + play(0),
)

MONDAYS = [MONDAY + n * WEEK for n in range(5)]
FRIDAYS = [datetime(2023, 6, 16, tzinfo=ZoneInfo("America/New_York")) + n * WEEK for n in range(5)]
NEAR = [timedelta(microseconds=n) for n in (-1, 0, 1)] + [timedelta(hours=n) for n in (-6, -3, -2, -1, 1)]
CLOCKS_CHANGE = (
    "2023-10-29T01:59:59",
    "2023-10-29T02:30:00",
    "2023-10-29T03:00:00",
    "2023-03-26T02:30:00",
    "2023-03-26T03:10:00",
)
ODD_TIMES = (
    *("20230617T100950", "2023-W24-6T10:09:50", "2023-06-17", "2023-06-17T10:09:50,5", "2023-06-17T24:00:00"),
    *("2023-06-17T23:59:60", "2023-06-17T10:09:50.1234567+01", "2023-06-17T10:09", "2023-06-17T10:09:50+01:00:30"),
    *("0001-01-01T00:00:00", "0001-01-01T12:00:00", "0001-01-05T00:00:00Z", "0001-01-01T00:00:00+01:00"),
    *("9999-12-31T23:59:59.9999999", "9999-12-31T23:59:59-01:00", "9999-12-20T00:00:00", "9999-12-24T00:00:00Z"),
    *("10000-01-01T00:00:00", "2023-06-17T10:09:50+24:00", "noon", "", "1686996000", "2023-06-17T10:09:50.Z"),
)
NO_TIMES = ("null", "1686996000", "1e400", "true", "[]")
STAMPS = (-1, -(2**40), 0, 10**15, 2**63 - 1, *(millis(MONDAY + n * WEEK) for n in (1, 4, 22)))


def any_log(chance: random.Random) -> list[Record]:
    """A log of some records: in some everything is plain, in others hardly anything."""
    forms: list[Callable[[datetime], str] | None] = [None, *FORMS]
    author = Author(chance, chance.choice((0, 0.01, 0.05)), chance.choice(forms), chance.random() < 0.3)
    offset, found = -1, list[Record]()
    for _ in range(chance.randint(1, MOST_RECORDS)):
        offset += chance.randint(1, 3)
        found.append(Record(offset, author.value(), author.stamp()))
    return found


def local(instant: datetime) -> str:
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat()


def utc(instant: datetime) -> str:
    return local(instant) + "Z"


def lower(instant: datetime) -> str:
    return local(instant).replace("T", "t") + "z"


def elsewhere(instant: datetime) -> str:
    return instant.astimezone(ZoneInfo("Asia/Kolkata")).isoformat()


def exact(instant: datetime) -> str:
    """In tenths of nanoseconds: what is cut off is half a microsecond, or a little less."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds") + (
        "5" if instant.hour else "4999"
    )


FORMS = (local, utc, lower, elsewhere, exact)


@dataclass(frozen=True)
class Author:
    """Writes one log: how often something is odd, how times are written, and whether records are stamped at random."""

    chance: random.Random
    odd: float
    form: Callable[[datetime], str] | None
    is_stamped_at_random: bool

    def pick(self, usual: Sequence[str], odd: Sequence[str]) -> str:
        return self.chance.choice(odd if self.chance.random() < self.odd else usual)

    def stamp(self) -> int:
        return self.chance.choice(STAMPS) if self.is_stamped_at_random else STAMPS[-1]

    def value(self) -> bytes | None:
        if self.chance.random() < self.odd:
            return self.chance.choice(ODD_VALUES)
        if self.chance.random() < 0.5:
            return self.event()
        events = [self.event() for _ in range(self.chance.randint(1, 4))]
        return array(*events) if self.chance.random() < 0.9 else b" [\n" + b"\t,\r".join(events) + b" ]\n"

    def event(self) -> bytes:
        """With a field that is not there, or is there twice, as often as something is odd."""
        kinds = NOT_COUNTED if self.chance.random() < 0.2 else KINDS
        users = (*USERS, "null") if kinds is NOT_COUNTED else USERS
        values = self.pick(kinds, ODD_KINDS), self.pick(TRACKS, ODD_IDS), self.pick(users, ODD_IDS), self.time()
        pairs = [f'"{name}":{value}' for name, value in zip(FIELDS, values, strict=True)]
        if kinds is NOT_COUNTED and self.chance.random() < 0.9:
            pairs.append(f'"week":{self.pick(WEEKS, ODD_WEEKS)}')
            pairs.append(f'"group":{self.pick(GROUPS, ODD_GROUPS)}')
        if self.chance.random() < self.odd:
            pairs.remove(self.chance.choice(pairs))
        if self.chance.random() < self.odd:
            pairs.insert(0, f'"{self.chance.choice(FIELDS)}":"before"')
        if self.chance.random() < 0.1:
            self.chance.shuffle(pairs)
        if self.chance.random() < 0.3:
            pairs.append(self.pick(EXTRAS, ODD_EXTRAS))
        text = "{" + self.chance.choice((",", " ,\n\t")).join(pairs) + "}"
        return text.encode().replace(b"\xc3\xbf", b"\xff")

    def time(self) -> str:
        """The JSON of a time, often near the border of a week."""
        if self.chance.random() < self.odd:
            return self.chance.choice([*NO_TIMES, *[f'"{text}"' for text in ODD_TIMES]])
        if self.chance.random() < 0.05:
            return f'"{self.chance.choice(CLOCKS_CHANGE)}"'
        border = self.chance.choice(MONDAYS + FRIDAYS) + self.chance.choice(NEAR)
        instant = border if self.chance.random() < 0.6 else MONDAY + self.chance.random() * 22 * WEEK
        form = self.form or self.chance.choice(FORMS)
        return f'"{form(instant)}"'

"""Texts from outside, where they go: lines of a table, of a player's list, into XML, into the name of a file."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from urllib.parse import quote

MOST_OF_A_NAME = 100
BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def urn(kind: str, *names: str) -> str:
    """A URI (RFC 8141) of what has no address that could be played.

    >>> urn("track", "a b/ü")
    'urn:hitparade:track:a%20b%2F%C3%BC'
    """
    return ":".join(["urn:hitparade", kind, *(quote(name, safe="") for name in names)])


def shown(text: str) -> str:
    """The text on one line, as players may show it, and as XML 1.0 can hold it.

    Controls, line ends, surrogates and what is no character become U+FFFD, and so do the controls that turn the text
    around them too. Right-to-left marks stay: names in Arabic and Hebrew need them, and they reach no further.
    """
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_unfit(character) else character for character in text)


def _is_unfit(character: str) -> bool:
    if " " <= character <= "~":
        return False
    return (
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or character in BIDI_CONTROLS
        or ord(character) & 0xFFFE == 0xFFFE
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """CSV (RFC 4180), in UTF-8; None is an empty field.

    A spreadsheet takes a text that begins with =, +, - or @ for a formula, quoted or not, so such a text has an
    apostrophe before it, one more where it has some already: who reads it back takes one away from those that
    FORMULA matches (see cell). All else is as it was, controls and line ends within quotes.
    """
    written = io.StringIO(newline="")
    lines = csv.writer(written, lineterminator="\r\n")
    lines.writerow(columns)
    lines.writerows([[cell(value) if isinstance(value, str) else value for value in row] for row in rows])
    return written.getvalue().encode()


def cell(text: str) -> str:
    """A text that no spreadsheet reckons with.

    >>> cell("=1+1"), cell("'=1+1"), cell("'Til then")
    ("'=1+1", "''=1+1", "'Til then")
    """
    return f"'{text}" if FORMULA.match(text) else text


def file_name(*parts: str) -> str:
    """A name that every file system and header takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts))[:MOST_OF_A_NAME].strip(".")

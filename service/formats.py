"""In which form an answer goes out: by the suffix of its address, else by the Accept header (RFC 9110, 12.5.1)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.problems import Problem

RANGE = re.compile(r"\s*([^\s;/]+)/([^\s;/]+)\s*")
QUALITY = re.compile(r"\s*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*")


@dataclass(frozen=True, slots=True)
class Format:
    """A form of an answer; the first of its media types is its own, the others are names that it goes by too."""

    suffix: str
    media_types: tuple[str, ...]
    parameters: str = ""
    is_file: bool = True
    """whether a browser saves it rather than shows it"""


JSON = Format("json", ("application/json",), is_file=False)
CSV = Format("csv", ("text/csv",), "; charset=utf-8; header=present")
JSPF = Format("jspf", ("application/jspf+json",))
XSPF = Format("xspf", ("application/xspf+xml",))
M3U = Format(
    "m3u",
    ("audio/x-mpegurl", "audio/mpegurl", "application/x-mpegurl", "application/vnd.apple.mpegurl"),
    "; charset=utf-8",
)
TABLES = (JSON, CSV)
PLAYERS = (JSON, CSV, JSPF, XSPF, M3U)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A form, and the media type that it was asked for by."""

    form: Format
    media_type: str

    @property
    def content_type(self) -> str:
        """The header of the answer."""
        return self.media_type + self.form.parameters


def chosen(accept: str, offered: Sequence[Format], suffix: str = "") -> Chosen:
    """The form that is wanted most, of equally wanted ones the first; a suffix decides alone.

    Raises:
        Problem: 406, none of them is acceptable; 404, there is none of that suffix.

    >>> chosen("text/csv, application/json;q=0.5", TABLES).form.suffix
    'csv'
    """
    if suffix:
        for form in offered:
            if form.suffix == suffix:
                return Chosen(form, form.media_types[0])
        raise Problem(404, f"this does not come in that form: expected one of .{', .'.join(f.suffix for f in offered)}")
    choices = [Chosen(form, media_type) for form in offered for media_type in form.media_types]
    ranges = list(_ranges(accept))
    if not ranges:
        return choices[0]
    wanted = [_quality(choice.media_type, ranges) for choice in choices]
    if not any(wanted):
        raise Problem(406, f"expected Accept to allow one of {', '.join(form.media_types[0] for form in offered)}")
    return choices[wanted.index(max(wanted))]


def parted(name: str, offered: Iterable[Format] = PLAYERS) -> tuple[str, str]:
    """A name without its suffix, and the suffix; none is "".

    >>> parted("control.csv"), parted("v1.2")
    (('control', 'csv'), ('v1.2', ''))
    """
    stem, _, suffix = name.rpartition(".")
    return (stem, suffix) if stem and suffix in {form.suffix for form in offered} else (name, "")


def _ranges(accept: str) -> Iterable[tuple[str, str, float]]:
    """Type, subtype, quality; what is no media range says nothing. Other parameters than q make no difference here."""
    for part in accept.split(","):
        media_range, *parameters = part.split(";")
        match = RANGE.fullmatch(media_range)
        qualities = [QUALITY.fullmatch(text) for text in parameters if text.strip().lower().startswith("q=")]
        if match and all(qualities):
            yield match[1].lower(), match[2].lower(), float(qualities[0][1]) if qualities and qualities[0] else 1.0


def _quality(media_type: str, ranges: Sequence[tuple[str, str, float]]) -> float:
    """That of the most specific range that holds the type; 0 where none does."""
    major, minor = media_type.split("/")
    for wanted in ((major, minor), (major, "*"), ("*", "*")):
        found = [quality for *media_range, quality in ranges if tuple(media_range) == wanted]
        if found:
            return max(found)
    return 0.0

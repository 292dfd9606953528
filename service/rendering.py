"""Templates and static files: read once, with what templates call to show numbers, times and the names of others."""

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from features.weeks import ChartWeek
from service import drawing
from service.drawing import MINUS
from service.problems import unknown

MOST_SHOWN = 120  # characters of a name
MEDIA_TYPES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
FILES: Mapping[str, bytes] = {name: files("service").joinpath("static", name).read_bytes() for name in MEDIA_TYPES}
HASHES = {name: hashlib.sha256(content).hexdigest()[:16] for name, content in FILES.items()}
UNKNOWN = "\N{EN DASH}"
FOR_EVER = "public, max-age=31536000, immutable"


def cut(text: str, most: int = MOST_SHOWN) -> str:
    """The text without what cannot be written or seen, and not longer than that.

    >>> cut("a  long name", 6)
    'a lon…'
    """
    head = text[: 4 * most].encode("utf-8", "replace").decode()
    seen = " ".join("".join(" " if ord(letter) < 32 else letter for letter in head).split())
    return seen if len(seen) <= most and len(text) <= 4 * most else f"{seen[: most - 1]}…"


def number(value: float | None) -> str:
    """As people read it: 12,345; a dash where nothing is known."""
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def moment(at: datetime | None) -> str:
    """To the second; a dash where nothing is known."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else UNKNOWN


def tenth(value: float | None) -> str:
    """With one decimal always, for what stands under each other: 12,345.0; a dash where nothing is known."""
    return UNKNOWN if value is None else f"{value:,.1f}".replace("-", MINUS)


def signed(value: float) -> str:
    """A difference: +0.012."""
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", MINUS)


def percent(share: float) -> str:
    """A relative difference: +1.2 %."""
    return f"{round(100 * share, 1) + 0.0:+.1f} %".replace("-", MINUS)


def coded(text: str) -> Markup:
    """A sentence, what it has between backticks as code.

    >>> coded("run `a < b`")
    Markup('run <code>a &lt; b</code>')
    """
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def days(week: ChartWeek) -> str:
    """The first and the last day, as people say it."""
    first, last = week.first_day, week.first_day.fromordinal(week.first_day.toordinal() + 6)
    begin = f"{first.day} {first:%B}" if first.month != last.month else f"{first.day}"
    return f"{begin}{f' {first.year}' if first.year != last.year else ''} to {last.day} {last:%B} {last.year}"


def static(name: str) -> str:
    """The address of a static file as it is now."""
    return f"/static/{name}?v={HASHES[name]}"


def track_address(track_id: str) -> str:
    """The page of a track."""
    return f"/track/{quote(track_id.encode('utf-8', 'replace'), safe='')}"


def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("service"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters.update(
        cut=cut, coded=coded, number=number, tenth=tenth, moment=moment, signed=signed, percent=percent, days=days
    )
    found.globals.update(
        static=static,
        track_address=track_address,
        path=lambda text: quote(text, safe=""),
        sparkline=drawing.sparkline,
        share=drawing.share,
        span=drawing.span,
        interval=drawing.interval,
        chart=drawing.chart,
    )
    return found


ENVIRONMENT = _environment()


def html(template: str, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any) -> Response:
    """A page; it tells of now, so it is asked for again each time."""
    text = ENVIRONMENT.get_template(template).render(**values)
    kept = {"cache-control": "no-cache", "vary": "accept", **(headers or {})}
    return Response(text.encode("utf-8", "replace"), status, kept, "text/html; charset=utf-8")


async def static_file(name: str, request: Request) -> Response:
    """A static file; under the address that holds its hash it may be kept for ever."""
    if name not in FILES:
        raise unknown("there is no such file")
    etag = f'"{HASHES[name]}"'
    headers = {
        "etag": etag,
        "cache-control": FOR_EVER if request.query_params.get("v") == HASHES[name] else "no-cache",
    }
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(FILES[name], headers=headers, media_type=MEDIA_TYPES[name])


def wants_html(request: Request) -> bool:
    """Whether who asks is a browser, rather than a program that takes anything."""
    return "text/html" in request.headers.get("accept", "")

"""What every reading end point sends: one thing in the form asked for, with its ETag, or 304 where that is known."""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel

from service.formats import CSV, JSON, Format, chosen
from service.texts import file_name, table

ASK_EACH_TIME = "no-cache"
ASK_EACH_TIME_ALONE = "private, no-cache"
TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
Handler = Callable[..., object]


@dataclass(frozen=True, slots=True)
class Answer:
    """Something that can be said in several forms; what decides its content decides its ETag."""

    name: str
    """of the file, without suffix"""
    forms: Mapping[Format, Callable[[], bytes]]
    """the first is sent to who does not mind"""
    identity: tuple[object, ...] = ()
    """what decides the content; empty: the content itself does"""
    cache: str = ASK_EACH_TIME
    headers: Mapping[str, str] = field(default_factory=dict)


def told(
    name: str,
    found: BaseModel,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    headers: Mapping[str, str] | None = None,
    cache: str = ASK_EACH_TIME,
) -> Answer:
    """What comes in JSON, and in rows as CSV; its content decides its ETag."""
    forms: Mapping[Format, Callable[[], bytes]] = {
        JSON: lambda: found.model_dump_json().encode(),
        CSV: lambda: table(columns, rows),
    }
    return Answer(name, forms, cache=cache, headers=headers or {})


def send(request: Request, answer: Answer, suffix: str = "") -> Response:
    """The answer in the form asked for; 304 to who has it.

    Raises:
        Problem: there is no such form.
    """
    accept = ",".join(request.headers.getlist("accept"))
    choice = chosen(accept, list(answer.forms), suffix)
    write = answer.forms[choice.form]
    content = b"" if answer.identity else write()
    tag = etag(*(answer.identity or (content,)), choice.form.suffix)
    headers = {"etag": tag, "cache-control": answer.cache, "vary": "Accept", **answer.headers}
    if is_known(",".join(request.headers.getlist("if-none-match")), tag):
        return Response(status_code=304, headers=headers)
    content = content or write()
    if choice.form.is_file:
        headers["content-disposition"] = f'attachment; filename="{file_name(answer.name)}.{choice.form.suffix}"'
    return Response(content, headers={**headers, "content-type": choice.content_type})


def etag(*parts: object) -> str:
    """A strong entity tag of what these say."""
    said = hashlib.sha256()
    for part in parts:
        text = part if isinstance(part, bytes) else str(part).encode()
        said.update(b"%d:%b" % (len(text), text))  # so that no two lists of parts are one text
    return f'"{said.hexdigest()[:32]}"'


def is_known(if_none_match: str, tag: str) -> bool:
    """Whether the header names the tag, weakly or not, or any (RFC 9110, 13.1.2)."""
    return if_none_match.strip() == "*" or tag in TAG.findall(if_none_match)


def next_page(request: Request, offset: int, limit: int, total: int) -> dict[str, str]:
    """The Link header (RFC 8288) that names the next page; none where this is the last."""
    if offset + limit >= total:
        return {}
    query = {**request.query_params, "limit": str(limit), "offset": str(offset + limit)}
    return {"link": f'<{request.url.path}?{urlencode(query)}>; rel="next"'}


def add_with_suffixes(router: APIRouter, path: str, handler: Handler, **documented: Any) -> None:
    """Serve a path, and the same with a suffix; the handler asks suffix_of which it was."""
    router.add_api_route(path, handler, **documented)
    router.add_api_route(f"{path}.{{suffix}}", handler, include_in_schema=False)


def suffix_of(request: Request) -> str:
    """The suffix of the address; "" where it has none."""
    return str(request.path_params.get("suffix", ""))


def json_alone(model_json: bytes) -> Mapping[Format, Callable[[], bytes]]:
    """Forms of what comes in JSON only."""
    return {JSON: lambda: model_json}

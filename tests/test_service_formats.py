"""Forms of answers: which is chosen, and what hostile names do in each of them."""

import csv
import io
import json
import re
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.playlists import Entry, Playlist
from service import players
from service.answers import etag, is_known
from service.formats import PLAYERS, TABLES, chosen, parted
from service.problems import Problem
from service.texts import FORMULA, file_name, shown, table, urn
from tests.serving import a_list

FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
XSPF = "{http://xspf.org/ns/0/}"
HOSTILE = (
    '=HYPERLINK("http://evil")',
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "'=1",
    "''=1",
    "'Til then",
    "\uff1d1",
    "two\nlines",
    "#EXTINF:-1,x\nhttp://evil",
    "a\r\nb\x85c\u2028d\u2029e\x0bf\x0cg",
    "\x00\x01\x08\x1b[31m\x7f",
    "\ufffe\uffff\U0001ffff",
    "\u202egnp.exe\u202c",
    "\u2066x\u2069",
    "\u200f\u05e9\u05dc\u05de",
    "</title><script>alert(1)</script>",
    "]]>&amp;<!--",
    'quoted "twice", and a comma',
    "x" * 10_000,
    " ",
    "",
)


def named(*names: str) -> Playlist:
    entries = [
        Entry(rank=n, track_id=f"id{name}", name=name, score=1.0, plays=(1, 2, 3, 4)) for n, name in enumerate(names, 1)
    ]
    return a_list(tracks=tuple(entries))


def read_back(text: str) -> str:
    """What a cell was, by the rule that it was written by."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        (FIREFOX, "application/json"),
        ("nonsense", "application/json"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV; header=present", "text/csv"),
        ("text/*", "text/csv"),
        ("audio/*", "audio/x-mpegurl"),
        ("application/vnd.apple.mpegurl", "application/vnd.apple.mpegurl"),
        ("application/xspf+xml, */*;q=0.1", "application/xspf+xml"),
        ("application/json;q=0.2, application/jspf+json;q=0.3", "application/jspf+json"),
        ("application/*;q=0.5, application/json;q=0.1", "application/jspf+json"),
        ("application/json;q=0, */*", "text/csv"),
        ("text/csv;q=1.000, application/json;q=1", "application/json"),
        ("text/csv;q=2, application/xspf+xml", "application/xspf+xml"),
        ("text/csv;level=1;q=0.4,application/json;q=0.3", "text/csv"),
    ],
)
def test_the_form_is_the_one_wanted_most_of_equals_the_first(accept: str, media_type: str) -> None:
    assert chosen(accept, PLAYERS).media_type == media_type


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "*/*;q=0", "audio/*, image/png"])
def test_where_nothing_is_acceptable_the_answer_names_what_there_is(accept: str) -> None:
    with pytest.raises(Problem) as problem:
        chosen(accept, TABLES)
    assert problem.value.status == 406
    assert problem.value.detail == "expected Accept to allow one of application/json, text/csv"


def test_a_suffix_decides_alone() -> None:
    assert chosen("text/html", PLAYERS, "m3u").content_type == "audio/x-mpegurl; charset=utf-8"
    with pytest.raises(Problem) as problem:
        chosen("", TABLES, "xspf")
    assert problem.value.status == 404
    assert problem.value.detail == "this does not come in that form: expected one of .json, .csv"


def test_only_the_suffix_of_a_form_is_one() -> None:
    assert [parted(name) for name in ("a.csv", "a.b", ".csv", "a.csv.m3u", "csv", "2025-W12.jspf")] == [
        *(("a", "csv"), ("a.b", ""), (".csv", ""), ("a.csv", "m3u"), ("csv", ""), ("2025-W12", "jspf")),
    ]


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_accept_header_gives_a_form_or_406(accept: str) -> None:
    try:
        status = 200 if chosen(accept, PLAYERS).form in PLAYERS else 500
    except Problem as problem:
        status = problem.status
    assert status in (200, 406)


# Lists in forms for players


def test_an_xspf_has_the_namespace_the_version_and_a_track_list_of_identifiers_and_titles() -> None:
    root = ElementTree.fromstring(players.xspf(a_list(ids=("a/b", "ü"))))
    assert (root.tag, root.attrib) == (f"{XSPF}playlist", {"version": "1"})
    assert [child.tag for child in root] == [
        f"{XSPF}{name}" for name in ("title", "creator", "identifier", "trackList")
    ]
    assert root.findtext(f"{XSPF}title") == "Top 2 for week 2025-W12 (control)"
    assert root.findtext(f"{XSPF}identifier") == "urn:hitparade:playlist:2025-W12:control:1"
    tracks = [[(child.tag, child.text) for child in track] for track in root.findall(f"{XSPF}trackList/{XSPF}track")]
    assert tracks == [
        [(f"{XSPF}identifier", "urn:hitparade:track:a%2Fb"), (f"{XSPF}title", "A/B")],
        [(f"{XSPF}identifier", "urn:hitparade:track:%C3%BC"), (f"{XSPF}title", "Ü")],
    ]


def test_a_jspf_says_the_same() -> None:
    assert json.loads(players.jspf(a_list(ids=("a/b",)))) == {
        "playlist": {
            "title": "Top 1 for week 2025-W12 (control)",
            "creator": "hitparade",
            "identifier": "urn:hitparade:playlist:2025-W12:control:1",
            "track": [{"identifier": ["urn:hitparade:track:a%2Fb"], "title": "A/B"}],
        }
    }


def test_an_m3u_has_two_lines_a_track() -> None:
    assert players.m3u(a_list(ids=("a b", "c"))).decode() == (
        "#EXTM3U\n#PLAYLIST:Top 2 for week 2025-W12 (control)\n"
        "#EXTINF:-1,A B\nurn:hitparade:track:a%20b\n#EXTINF:-1,C\nurn:hitparade:track:c\n"
    )


def test_a_csv_has_a_row_a_track_and_the_plays_of_four_weeks() -> None:
    assert players.csv([a_list(ids=("a",)), a_list(group="treatment", ids=("b",), revision=2)]).decode() == (
        "week,group,revision,model,rank,track_id,name,score,plays_week_1,plays_week_2,plays_week_3,plays_week_4\r\n"
        "2025-W12,control,1,linear,1,a,A,99.0,39,29,19,29\r\n"
        "2025-W12,treatment,2,linear,1,b,B,99.0,39,29,19,29\r\n"
    )


def test_a_list_without_tracks_is_whole_in_every_form() -> None:
    empty = a_list(ids=())
    assert json.loads(players.jspf(empty))["playlist"]["track"] == []
    assert ElementTree.fromstring(players.xspf(empty)).find(f"{XSPF}trackList") is not None
    assert players.m3u(empty).count(b"\n") == 2
    assert players.csv([empty]).count(b"\r\n") == 1


def check_harmless(names: list[str]) -> None:
    playlist = named(*names)
    tracks = ElementTree.fromstring(players.xspf(playlist)).findall(f"{XSPF}trackList/{XSPF}track")
    titles = [shown(name or f"id{name}") for name in names]
    assert [track.findtext(f"{XSPF}title") for track in tracks] == titles
    identifiers = [track.findtext(f"{XSPF}identifier") or "" for track in tracks]
    assert [unquote(identifier.removeprefix("urn:hitparade:track:")) for identifier in identifiers] == [
        f"id{n}" for n in names
    ]
    assert all(re.fullmatch(r"[A-Za-z0-9:%._~-]+", identifier) for identifier in identifiers)
    lines = players.m3u(playlist).decode().splitlines()  # at whatever anybody takes for the end of a line
    assert lines[2:] == [
        line for pair in zip((f"#EXTINF:-1,{t}" for t in titles), identifiers, strict=True) for line in pair
    ]
    found = json.loads(players.jspf(playlist))["playlist"]["track"]
    assert [track["title"] for track in found] == titles
    rows = list(csv.DictReader(io.StringIO(players.csv([playlist]).decode(), newline="")))
    assert [read_back(row["name"]) for row in rows] == names
    assert not any(re.match("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]", row["name"]) for row in rows)


def test_hostile_names_do_no_harm_in_any_form() -> None:
    check_harmless(list(HOSTILE))


@settings(deadline=None)
@given(st.lists(st.text(max_size=20), max_size=5))
def test_any_names_do_no_harm_in_any_form(names: list[str]) -> None:
    check_harmless(names)


def test_a_name_is_shown_without_what_would_turn_or_end_its_line() -> None:
    assert shown("a\nb\u202ec\x00\ufffe") == "a\ufffdb\ufffdc\ufffd\ufffd"
    assert shown("Größe \u200f\u05e9\u05dc\u05de\u200e 🎵") == "Größe \u200f\u05e9\u05dc\u05de\u200e 🎵"


def test_what_is_no_formula_is_written_as_it_is() -> None:
    assert table(("a", "b", "c"), [("'Til", None, -1.5), ("x=1", True, 0)]) == b"a,b,c\r\n'Til,,-1.5\r\nx=1,True,0\r\n"


@settings(deadline=None)
@given(st.text(max_size=20))
def test_every_text_of_a_table_reads_back(text: str) -> None:
    ((found,),) = list(csv.reader(io.StringIO(table(("a",), [(f"{text}!",)]).decode(), newline="")))[1:]
    assert read_back(found) == f"{text}!"


def test_file_names_are_safe() -> None:
    assert file_name("2025-W12", 'con"trol\r\n/../x') == "2025-W12-con_trol_.._x"
    assert len(file_name("x" * 1000)) == 100
    assert file_name("..ü") == "_"


def test_a_urn_has_no_character_that_a_uri_has_not() -> None:
    assert urn("track", "a:b/ü\n%") == "urn:hitparade:track:a%3Ab%2F%C3%BC%0A%25"


# ETags


def test_an_etag_is_quoted_and_says_where_one_part_ends() -> None:
    assert re.fullmatch(r'"[0-9a-f]{32}"', etag("a", 1))
    assert etag("a", "b") == etag(b"a", "b")
    assert len({etag("a", "b"), etag("ab"), etag("", "ab"), etag("ab", ""), etag("b", "a")}) == 5


@pytest.mark.parametrize("header", ['"t"', 'W/"t"', '"a,b", "t"', ' "x" ,W/"t"', "*", " * "])
def test_a_known_etag_is_known(header: str) -> None:
    assert is_known(header, '"t"')


@pytest.mark.parametrize("header", ["", "t", '"T"', '"x", "y"', '"*"', '"t', "**", '"xt"'])
def test_another_etag_is_not_known(header: str) -> None:
    assert not is_known(header, '"t"')

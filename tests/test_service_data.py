"""The reading end points, over what memory holds: lists, weeks, the open week, evaluations, experiments, models."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from features.weeks import Calendar
from models.experiments import load
from models.registry import Registry
from producers.playlists import Changes, Evaluation, Playlist, canonical
from service.figures import ChartEntry, LiveChart, Reach, TopicFigures
from service.figures import PartitionFigures as Partition
from service.parts import Parts
from tests.builders_reports import a_report
from tests.serving import NOW, a_list, client, parts

HINT = "no list has been published yet: run `hitparade trigger` and `hitparade consume weekly`"
WEEKS = ("2025-W10", "2025-W11", "2025-W12")
FIRST, SECOND = a_list(ids=("a", "b")), a_list(ids=("a", "c"), revision=2, changes=Changes(entered=("c",), left=("b",)))
EXPERIMENT = """
[[experiment]]
name = "{name}"
salt = "{name}"
first_week = "{first}"
last_week = "{last}"
[experiment.groups.control]
weight = 1
model = "naive"
[experiment.groups.treatment]
weight = 3
model = "linear"
"""


def some_lists() -> list[Playlist]:
    """Both groups in three weeks, and a group that was there in the first alone."""
    of_weeks = [a_list(week=week, group=group) for week in WEEKS for group in ("control", "treatment")]
    return [a_list(week=WEEKS[0], group="gone"), *of_weeks]


CLIENTS: dict[int, tuple[Parts, TestClient]] = {}
"""Building an application takes longer than most answers; the parts are kept so that no others get their number."""


def asking(made: Parts) -> TestClient:
    if id(made) not in CLIENTS:
        CLIENTS[id(made)] = made, client(made)
    return CLIENTS[id(made)][1]


def get(made: Parts, address: str, **headers: str) -> Response:
    return asking(made).get(address, headers={name.replace("_", "-"): value for name, value in headers.items()})


def rows(response: Response) -> list[dict[str, str]]:
    assert response.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    return list(csv.DictReader(io.StringIO(response.text, newline="")))


def keys(response: Response) -> list[tuple[str, str]]:
    assert response.status_code == 200, response.text
    return [(playlist["week"], playlist["group"]) for playlist in response.json()["playlists"]]


def refused(response: Response, status: int) -> str:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert response.json()["status"] == status
    detail: str = response.json()["detail"]
    return detail


def starting(made: Parts) -> Parts:
    """The same before the lists have been read."""
    reach = Reach(ok=False, since=NOW, reason="not all lists have been read yet")
    made.memory.figures = made.memory.figures.model_copy(update={"lists": reach})
    return made


# Lists


def test_playlists_are_the_latest_of_each_group(tmp_path: Path) -> None:
    made = parts(tmp_path, *some_lists())
    assert keys(get(made, "/playlists")) == [("2025-W12", "control"), ("2025-W10", "gone"), ("2025-W12", "treatment")]


def test_the_lists_of_a_week_are_those_for_it(tmp_path: Path) -> None:
    made = parts(tmp_path, *some_lists())
    assert keys(get(made, "/playlists/2025-W10")) == [("2025-W10", g) for g in ("control", "gone", "treatment")]
    assert keys(get(made, "/playlists/latest")) == [("2025-W12", "control"), ("2025-W12", "treatment")]
    assert [row["group"] for row in rows(get(made, "/playlists/2025-W11.csv"))] == ["control"] * 3 + ["treatment"] * 3
    assert keys(get(made, "/playlists/2025-W11.json", accept="text/csv"))[0] == ("2025-W11", "control")


def test_a_groups_list_is_its_record_as_it_was_published(tmp_path: Path) -> None:
    published = a_list(what_a_later_version_adds={"x": [1]}, fallback="no model")
    found = get(parts(tmp_path, published), "/playlists/2025-W12/control")
    assert (found.status_code, found.headers["content-type"]) == (200, "application/json")
    assert found.json() == json.loads(canonical(published.model_dump(mode="json")))
    assert found.json()["what_a_later_version_adds"] == {"x": [1]}


def test_a_list_is_that_of_its_last_revision_unless_asked_otherwise(tmp_path: Path) -> None:
    made, address = parts(tmp_path, FIRST, SECOND), "/playlists/latest/control"
    assert get(made, address).json()["revision"] == 2
    assert get(made, f"{address}?revision=1").json() == json.loads(FIRST.model_dump_json())
    assert rows(get(made, f"{address}.csv?revision=1"))[1]["track_id"] == "b"
    assert refused(get(made, f"{address}?revision=3"), 404) == "that revision is not remembered: expected one of 1, 2"
    assert refused(get(made, f"{address}?revision=0"), 422) == "Input should be greater than or equal to 1"


def test_the_revisions_of_a_list_are_told_with_what_they_changed(tmp_path: Path) -> None:
    found = get(parts(tmp_path, FIRST, SECOND), "/playlists/2025-W12/control/revisions").json()
    told = [(r["revision"], r["id"], r["entered"], r["left"]) for r in found["revisions"]]
    assert told == [(1, FIRST.id, [], []), (2, SECOND.id, ["c"], ["b"])]
    link = get(parts(tmp_path, FIRST), "/playlists/latest/control").headers["link"]
    assert link == '</playlists/2025-W12/control/revisions>; rel="version-history"'


def test_a_group_with_a_dot_in_its_name_is_not_mistaken_for_a_form(tmp_path: Path) -> None:
    made = parts(tmp_path, a_list(group="v1.csv"), a_list(group="v1"))
    assert get(made, "/playlists/latest/v1.csv").json()["group"] == "v1.csv"
    assert rows(get(made, "/playlists/latest/v1.csv.csv"))[0]["group"] == "v1.csv"
    assert get(made, "/playlists/latest/v1.json").json()["group"] == "v1"


@pytest.mark.parametrize(
    ("suffix", "content_type"),
    [
        ("json", "application/json"),
        ("csv", "text/csv; charset=utf-8; header=present"),
        ("jspf", "application/jspf+json"),
        ("xspf", "application/xspf+xml"),
        ("m3u", "audio/x-mpegurl; charset=utf-8"),
    ],
)
def test_a_list_comes_in_every_form_by_suffix_and_by_accept_with_the_same_content(
    suffix: str, content_type: str, tmp_path: Path
) -> None:
    made = parts(tmp_path, a_list())
    for address in ("/playlists/2025-W12/control", "/users/7/playlist"):
        by_suffix = get(made, f"{address}.{suffix}", accept="image/png")
        by_accept = get(made, address, accept=content_type.partition(";")[0])
        assert (by_suffix.status_code, by_suffix.headers["content-type"]) == (200, content_type)
        assert by_suffix.content == by_accept.content
        assert by_suffix.headers["etag"] == by_accept.headers["etag"]
        assert by_suffix.headers["vary"] == "Accept"
        name = None if suffix == "json" else f'attachment; filename="2025-W12-control.{suffix}"'
        assert by_suffix.headers.get("content-disposition") == name


def test_what_is_not_acceptable_is_406_and_what_does_not_come_in_a_form_404(tmp_path: Path) -> None:
    made = parts(tmp_path, a_list())
    assert "application/xspf+xml" in refused(get(made, "/playlists/latest/control", accept="image/png"), 406)
    assert refused(get(made, "/playlists", accept="audio/x-mpegurl"), 406)
    for address in ("/playlists/latest.m3u", "/playlists.m3u", "/weeks.xyz"):
        assert refused(get(made, address), 404).endswith("expected one of .json, .csv")
    assert refused(get(made, "/users/7/playlist.pdf"), 404).endswith(".json, .csv, .jspf, .xspf, .m3u")


@pytest.mark.parametrize("week", ["2025-W99", "abc", "2025-W54", "0000-W01", "9999-W53", "2025-w12", "x" * 5000, "%00"])
def test_what_is_no_week_is_422_and_is_not_repeated_at_length(week: str, tmp_path: Path) -> None:
    made = parts(tmp_path, a_list())
    addresses = (f"/playlists/{week}", f"/playlists/{week}/control", f"/evaluations?week={week}")
    for address in (*addresses, f"/users/7/playlist?week={week}", f"/tracks/a?week={week}"):
        found = get(made, address)
        assert len(refused(found, 422)) < 200
        assert [error["parameter"] for error in found.json()["errors"]] == ["week"]


def test_what_is_not_there_is_404_and_says_what_is(tmp_path: Path) -> None:
    made = parts(tmp_path, *some_lists())
    there = "there is no list for week 2025-W13: /weeks names the 3 that have some, 2025-W10 to 2025-W12"
    for address in ("/playlists/2025-W13", "/playlists/2025-W13/control", "/users/7/playlist?week=2025-W13"):
        assert refused(get(made, address), 404) == there
    groups = "week 2025-W12 has no list of that group: expected one of control, treatment"
    for address in ("/playlists/latest/gone", "/playlists/latest/gone/revisions", "/playlists/latest/control.pdf"):
        assert refused(get(made, address), 404) == groups


def test_before_a_list_is_published_there_is_none_and_a_hint(tmp_path: Path) -> None:
    made = parts(tmp_path)
    for address in (
        "/playlists",
        "/playlists.csv",
        "/playlists/2025-W12",
        "/playlists/latest/control",
        "/users/7/playlist",
    ):
        assert refused(get(made, address), 404) == HINT
    assert get(made, "/weeks").json() == {"total": 0, "weeks": []}


def test_before_the_lists_have_been_read_nobody_is_told_that_there_are_none(tmp_path: Path) -> None:
    made = starting(parts(tmp_path))
    for address in ("/playlists", "/playlists/latest/control", "/users/7/playlist", "/weeks", "/evaluations"):
        found = get(made, address)
        assert "not all lists have been read yet" in refused(found, 503)
        assert found.headers["retry-after"] == "5"


def test_lists_are_served_from_memory_while_nobody_answers(tmp_path: Path) -> None:
    made = parts(tmp_path, a_list())
    away = Reach(ok=False, since=NOW, reason="away")
    made.memory.figures = made.memory.figures.model_copy(update={"kafka": away, "redis": away})
    found = get(made, "/playlists/latest/control")
    assert (found.status_code, found.headers["hitparade-stale"]) == (200, "kafka, redis")


def test_none_of_it_exists_where_data_is_switched_off(tmp_path: Path) -> None:
    made = replace(parts(tmp_path, a_list()), shows_data=False)
    addresses = ("/playlists", "/weeks", "/tracks/a", "/users/7/playlist", "/charts/live", "/models", "/experiments")
    assert [get(made, address).status_code for address in addresses] == [404] * len(addresses)


# A user's list


def test_a_users_list_is_that_of_the_group_that_the_weeks_experiment_puts_him_in(tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text(EXPERIMENT.format(name="e", first="2025-W12", last="2025-W12"))
    experiments = load(tmp_path / "e.toml", Calendar())
    made = replace(parts(tmp_path, *some_lists(), a_list(week="2025-W11", group="all")), experiments=experiments)
    groups = {get(made, f"/users/{user}/playlist").json()["group"] for user in range(20)}
    assert groups == {"control", "treatment"}
    of_week = experiments.in_force(Calendar().parse("2025-W12"))
    for user in ("7", "a/b", "ü", "x/playlist"):
        found = get(made, f"/users/{user.replace('/', '%2F')}/playlist")
        assert (found.json()["week"], found.json()["group"]) == ("2025-W12", of_week.group_of(user))
        assert found.headers["cache-control"] == "private, no-cache"
    assert get(made, "/users/7/playlist?week=2025-W11").json()["group"] == "all"
    assert refused(get(made, "/users/7/playlist?week=2025-W10"), 404).endswith("one of control, gone, treatment")
    assert refused(get(made, "/users//playlist"), 422)


# ETags, caches, HEAD


def test_a_list_that_is_known_is_304(tmp_path: Path) -> None:
    made = parts(tmp_path, FIRST)
    for address in (
        "/playlists/latest/control",
        "/playlists",
        "/playlists/latest.csv",
        "/weeks",
        "/experiments",
        "/tracks/a",
    ):
        known = get(made, address)
        for header in (known.headers["etag"], f'"x", W/{known.headers["etag"]}', "*"):
            again = get(made, address, if_none_match=header)
            assert (again.status_code, again.content) == (304, b"")
            for name in ("etag", "cache-control", "vary"):
                assert again.headers[name] == known.headers[name]
        assert get(made, address, if_none_match='"x"').status_code == 200


def test_an_etag_changes_with_id_revision_and_form_and_with_nothing_else(tmp_path: Path) -> None:
    def tag(playlist: Playlist, form: str = "json") -> str:
        return get(parts(tmp_path, playlist), f"/playlists/2025-W12/control.{form}").headers["etag"]

    tags = [
        tag(FIRST),
        tag(SECOND),
        tag(FIRST.model_copy(update={"revision": 2})),
        tag(FIRST, "csv"),
        tag(FIRST, "m3u"),
    ]
    assert len(set(tags)) == len(tags)
    assert tag(FIRST.model_copy(update={"cut": {}})) == tag(FIRST)
    nameless = [tag(playlist.model_copy(update={"id": "", "revision": 1})) for playlist in (FIRST, SECOND)]
    assert len({*nameless}) == 2


def test_the_etag_of_several_lists_is_that_of_them_all(tmp_path: Path) -> None:
    other = a_list(group="treatment")
    tags = [
        get(parts(tmp_path, *lists), "/playlists").headers["etag"]
        for lists in ([FIRST, other], [SECOND, other], [FIRST])
    ]
    assert len(set(tags)) == 3
    made = parts(tmp_path, FIRST, other)
    assert get(made, "/playlists?limit=1").headers["etag"] not in tags[:2]


def test_a_numbered_revision_may_be_kept_and_the_last_is_asked_for_each_time(tmp_path: Path) -> None:
    made = parts(tmp_path, FIRST)
    assert get(made, "/playlists/latest/control").headers["cache-control"] == "no-cache"
    assert get(made, "/playlists/latest/control?revision=1").headers["cache-control"] == "public, max-age=3600"


def test_head_is_get_without_its_content(tmp_path: Path) -> None:
    made = parts(tmp_path, a_list())
    for address in (
        "/playlists",
        "/playlists/latest/control.xspf",
        "/users/7/playlist",
        "/weeks",
        "/tracks/a",
        "/models",
    ):
        whole, head = get(made, address), asking(made).head(address)
        assert (head.status_code, head.content) == (200, b"")
        assert dict(head.headers) == dict(whole.headers)
    assert asking(made).head("/playlists/abc").status_code == 422


# Weeks, the open week, evaluations


def test_weeks_are_those_that_have_lists_the_newest_first_a_page_at_a_time(tmp_path: Path) -> None:
    made = parts(tmp_path, *some_lists())
    seen, address = [], "/weeks?limit=1"
    while address:
        page = get(made, address)
        (week,) = page.json()["weeks"]
        seen.append((week["week"], week["closed_week"], len(week["lists"])))
        assert page.json()["total"] == 3
        address = page.links.get("next", {}).get("url", "")
    assert seen == [("2025-W12", "2025-W11", 2), ("2025-W11", "2025-W10", 2), ("2025-W10", "2025-W09", 3)]
    assert len(rows(get(made, "/weeks.csv"))) == 7
    assert get(made, "/weeks?offset=9").json() == {"total": 3, "weeks": []}


@pytest.mark.parametrize("address", ["/weeks", "/playlists", "/evaluations", "/models"])
def test_pages_have_bounds(address: str, tmp_path: Path) -> None:
    made = parts(tmp_path, a_list())
    for query in ("limit=0", "limit=501", "limit=x", "offset=-1", "offset=1000001", f"offset={10**400}"):
        assert get(made, f"{address}?{query}").status_code == 422, query
    assert get(made, f"{address}?limit=500&offset=1000000").status_code == 200


def test_the_next_page_keeps_the_form_and_what_was_asked(tmp_path: Path) -> None:
    made = parts(tmp_path, a_list())
    for week in WEEKS:
        made.memory.judged.take(canonical(evaluation(week, "a b&c").model_dump(mode="json")))
    link = get(made, "/evaluations.csv?group=a%20b%26c&limit=1").headers["link"]
    assert link == '</evaluations.csv?group=a+b%26c&limit=1&offset=1>; rel="next"'


def live_chart() -> LiveChart:
    entries = [ChartEntry(rank=n, track_id=i, name="=1", plays=9 - n, skips=0, likes=1) for n, i in enumerate("ab", 1)]
    return LiveChart(week="2025-W12", at=NOW, stream_time=NOW, n_tracks=7, tracks=tuple(entries))


def test_the_open_week_is_marked_as_provisional(tmp_path: Path) -> None:
    made = parts(tmp_path)
    made.memory.live = live_chart()
    found = get(made, "/charts/live?limit=1")
    assert (found.json()["provisional"], found.json()["n_tracks"]) == (True, 7)
    assert [entry["track_id"] for entry in found.json()["tracks"]] == ["a"]
    assert found.headers["cache-control"] == "max-age=5"
    assert rows(get(made, "/charts/live.csv"))[1] == {
        **{"week": "2025-W12", "rank": "2", "track_id": "b", "name": "'=1", "plays": "7", "skips": "0", "likes": "1"}
    }
    assert get(made, "/charts/live?limit=51").status_code == 422


def test_an_open_week_of_which_nothing_is_counted_is_not_one_that_is_not_known(tmp_path: Path) -> None:
    made = parts(tmp_path)
    assert refused(get(made, "/charts/live"), 404).startswith("nothing has been counted yet: send events")
    away = Reach(ok=False, since=NOW, reason="Redis is away")
    made.memory.figures = made.memory.figures.model_copy(update={"redis": away})
    assert refused(get(made, "/charts/live"), 503) == "the open week is not known yet (Redis is away)"


def evaluation(week: str, group: str = "control", exact: float = 5.0, rbo: float = 0.5) -> Evaluation:
    fields: dict[str, Any] = {
        "experiment": "e",
        "model": "linear",
        "model_version": "1",
        "playlist_id": "",
        "revision": 1,
    }
    worth = {"metrics": {"exact_places": exact, "rbo": rbo}, "naive": {"exact_places": 3.0}}
    return Evaluation(week=week, group=group, span_weeks=4, n_ranked=50, forecast=worth, **worth, **fields)  # type: ignore[arg-type]


def test_evaluations_are_the_newest_first_and_can_be_narrowed(tmp_path: Path) -> None:
    made = parts(tmp_path, a_list())
    for week in WEEKS:
        for group in ("control", "treatment"):
            made.memory.judged.take(evaluation(week, group).model_dump_json().encode())
    found = get(made, "/evaluations?group=control").json()
    assert [(e["week"], e["group"]) for e in found["evaluations"]] == [(week, "control") for week in reversed(WEEKS)]
    (one,) = get(made, "/evaluations?week=2025-W11&group=treatment").json()["evaluations"]
    assert one == json.loads(evaluation("2025-W11", "treatment").model_dump_json())
    assert get(made, "/evaluations?group=nobody").json() == {"total": 0, "evaluations": []}
    told = [tuple(row.values())[6:] for row in rows(get(made, "/evaluations.csv?week=2025-W11&group=control"))]
    assert told == [
        ("list", "4", "all", "exact_places", "5.0", "3.0"),
        ("list", "4", "all", "rbo", "0.5", ""),
        ("forecast", "1", "all", "exact_places", "5.0", "3.0"),
        ("forecast", "1", "all", "rbo", "0.5", ""),
    ]


# What lists are made with


def at_stream_time(made: Parts, stream_time: datetime) -> Parts:
    partition = Partition(partition=0, next_offset=1, lag=0, stream_time=stream_time)
    topic = TopicFigures(topic="s", partitions=(partition,), tallies={}, events_per_s=None)
    made.memory.figures = made.memory.figures.model_copy(update={"sessions": topic})
    return made


def test_experiments_have_the_state_that_they_are_in_in_the_week_of_stream_time(tmp_path: Path) -> None:
    spans = (("old", "2025-W01", "2025-W10"), ("now", "2025-W11", "2025-W12"), ("next", "2025-W14", "2025-W20"))
    (tmp_path / "e.toml").write_text("".join(EXPERIMENT.format(name=n, first=f, last=t) for n, f, t in spans))
    made = replace(parts(tmp_path), experiments=load(tmp_path / "e.toml", Calendar()))
    nothing = get(made, "/experiments").json()
    assert (nothing["week"], nothing["in_force"], {e["state"] for e in nothing["experiments"]}) == (None, None, {None})
    found = get(at_stream_time(made, datetime(2025, 3, 20, tzinfo=UTC)), "/experiments").json()
    assert (found["week"], found["in_force"]) == ("2025-W12", "now")
    assert [(e["experiment"], e["state"]) for e in found["experiments"]] == [
        *(("old", "past"), ("now", "in force"), ("next", "to come")),
    ]
    assert rows(get(made, "/experiments.csv"))[3] == {
        **{"experiment": "now", "first_week": "2025-W11", "last_week": "2025-W12", "state": "in force"},
        **{"group": "treatment", "weight": "3.0", "model": "linear"},
    }
    between = get(at_stream_time(made, datetime(2025, 3, 27, tzinfo=UTC)), "/experiments").json()
    assert (between["in_force"], [e["state"] for e in between["experiments"]]) == ("none", ["past", "past", "to come"])


def test_an_experiment_comes_with_its_last_report(tmp_path: Path) -> None:
    made = parts(tmp_path, *some_lists())
    assert get(made, "/experiments").json()["experiments"][0]["report"] is None
    made.reports.keep(a_report())
    found = get(made, "/experiments").json()["experiments"][0]["report"]
    assert found == a_report().model_dump(mode="json")
    assert found["conclusions"][0]["verdict"] == "better"


def test_while_stream_time_is_not_known_the_week_is_that_of_the_last_lists(tmp_path: Path) -> None:
    assert get(parts(tmp_path, *some_lists()), "/experiments").json()["week"] == "2025-W12"


CARD: dict[str, Any] = {
    **{"form": 2, "version": "2025-W11-aaaaaaaa", "trial": "2025-W07-bbbbbbbb", "first_week": "2024-W10"},
    **{"last_week": "2025-W11", "n_weeks": 52, "holdout_weeks": ["2025-W10", "2025-W11"], "n_tracks": 10, "n_rows": 99},
    **{"seed": 1, "epochs": 9, "best_epoch": 7, "members": 3, "hidden": [64, 32], "left_out": [], "code_version": "1"},
    **{"metrics": {"neural": {"precision_at_50": 0.9}, "naive": {"precision_at_50": 0.8}}, "libraries": {}},
    **{"vs_naive": {"precision_at_50": [0.05, 0.1, 0.15]}},
}


def publish(registry: Registry, model: str, version: str, card: str) -> None:
    def save(folder: Path) -> None:
        (folder / "card.json").write_text(card)

    registry.publish(model, version, save)


def test_models_are_the_versions_there_are_which_is_in_use_and_what_their_cards_say(tmp_path: Path) -> None:
    made = parts(tmp_path)
    publish(made.registry, "neural", "2025-W10-cccccccc", "no card")
    publish(made.registry, "neural", "2025-W11-aaaaaaaa", json.dumps(CARD))
    (tmp_path / "models/neural/champion").write_text("2025-W11-aaaaaaaa\n")
    publish(made.registry, "linear", "2025-W10-dddddddd", "")
    publish(made.registry, "linear", "2025-W11-eeeeeeee", "")
    found = get(made, "/models").json()["models"]
    assert [(m["model"], m["version"], m["in_use"], bool(m["card"])) for m in found] == [
        ("linear", "2025-W11-eeeeeeee", True, False),
        ("linear", "2025-W10-dddddddd", False, False),
        ("neural", "2025-W11-aaaaaaaa", True, True),
        ("neural", "2025-W10-cccccccc", False, False),
    ]
    assert found[2]["card"]["metrics"]["neural"] == {"precision_at_50": 0.9}
    assert found[3]["fault"].startswith("card.json is not a Card")
    assert str(tmp_path) not in json.dumps(found)
    third = rows(get(made, "/models.csv"))[2]
    assert (third["first_week"], third["n_weeks_held_out"], third["precision_at_50"]) == ("2024-W10", "2", "0.9")
    assert (third["less_naives_low"], third["less_naives"], third["less_naives_high"]) == ("0.05", "0.1", "0.15")
    assert rows(get(made, "/models.csv"))[0]["last_week"] == ""


def test_an_alias_of_a_version_that_is_gone_puts_none_in_use(tmp_path: Path) -> None:
    made = parts(tmp_path)
    publish(made.registry, "neural", "2025-W11-aaaaaaaa", json.dumps(CARD))
    (tmp_path / "models/neural/champion").write_text("2025-W11-gone\n")
    assert [m["in_use"] for m in get(made, "/models").json()["models"]] == [False]


# The OpenAPI document


def test_every_reading_end_point_has_a_summary_a_schema_and_an_example(tmp_path: Path) -> None:
    paths = get(parts(tmp_path), "/openapi.json").json()["paths"]
    ours = {
        *("/playlists", "/playlists/{week}", "/playlists/{week}/{group}", "/playlists/{week}/{group}/revisions"),
        *("/users/{user_id}/playlist", "/tracks/{track_id}", "/weeks", "/charts/live", "/evaluations", "/experiments"),
        "/models",
    }
    assert ours <= set(paths)
    for path in ours:
        (method,) = paths[path]
        told = paths[path][method]
        in_json = told["responses"]["200"]["content"]["application/json"]
        assert (method, bool(told["summary"]), "$ref" in in_json["schema"]) == ("get", True, True)
        assert in_json["example"]
        assert {"304", "406", "422"} <= told["responses"].keys()
        for parameter in told.get("parameters", []):
            assert parameter["description"]
            assert parameter["in"] == "query" or parameter["examples"]
    assert not any("." in path for path in paths)


def test_what_the_document_gives_as_an_example_works(tmp_path: Path) -> None:
    made = parts(tmp_path, a_list(), a_list(group="treatment"))
    for path, told in get(made, "/openapi.json").json()["paths"].items():
        if path.startswith(("/playlists", "/users")):
            address = path
            for parameter in told["get"]["parameters"]:
                if parameter["in"] == "path":
                    value = next(iter(parameter["examples"].values()))["value"]
                    address = address.replace(f"{{{parameter['name']}}}", value)
            assert get(made, address).status_code == 200

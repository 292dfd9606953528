"""The page, as Chromium shows it: its lists, its live parts, and that it does no harm and shuts nobody out."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, BrowserContext, Page, expect

from features.weeks import Calendar
from hitparade.embedded import Embedded
from models.experiments import load
from producers.playlists import Evaluation, Playlist, canonical
from service.drawing import MINUS, chart, sparkline
from service.figures import ChartEntry, LiveChart, Reach
from service.lists import Lists
from service.parts import Parts
from service.record import Means
from service.rendering import coded, cut, days
from service.standings import differences, plays
from tests.browsing import Faults, a_real_list, chromium, full, served, sessions
from tests.builders_reports import a_report
from tests.builders_weekly import staged
from tests.commands import end, nothing_left_running, start
from tests.serving import NOW, a_list, client, parts

__all__ = ["nothing_left_running"]
expect.set_options(timeout=60_000)
HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
HOSTILE = (
    "<script>window.harm=1</script><img src=x onerror='window.harm=1'>",
    "\u202eevil\u202e\u2067 \u200f",
    "W" * 10_000,
    "{{ 7 * 7 }}\"'--></title></main></body>",
    "\x00\x07\ntab\tend\ud7ff",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Parts]]:
    """The service after months of lists, which no test changes."""
    made = full(tmp_path_factory.mktemp("site"))
    with served(made) as url:
        yield url, made


Server = Callable[[Parts], str]
Opener = Callable[..., Page]


@pytest.fixture
def serve() -> Iterator[Server]:
    """Serves parts until the test has ended, and its pages are closed."""
    with ExitStack() as stack:
        yield lambda made: stack.enter_context(served(made))


@pytest.fixture
def opened(browser: Browser, serve: Server) -> Iterator[Opener]:
    """Opens addresses in contexts of their own; at the end nothing may have been complained of."""
    contexts: list[BrowserContext] = []
    faults = Faults()

    def opened(url: str, expected: int = 200, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": options.pop("width", 1440), "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        if options.get("java_script_enabled", True):
            faults.listen(page)
        answer = page.goto(url)
        assert answer
        assert answer.status == expected
        if expected >= 400:  # Chromium says so on the console
            faults.clear()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


THREE = """
[[experiment]]
name = "three"
salt = "s"
[experiment.groups]
a = { weight = 1, model = "linear" }
b = { weight = 1, model = "naive" }
c = { weight = 1, model = "neural" }
"""


def rows(page: Page, table: str) -> list[str]:
    return [" ".join(text.split()) for text in page.locator(f"{table} tbody tr").all_inner_texts()]


# What is shown


def test_each_groups_list_stands_with_its_movement_against_last_week(
    opened: Opener, serve: Server, tmp_path: Path
) -> None:
    made = parts(
        tmp_path,
        a_list("2025-W11", "control", "bad"),
        a_list("2025-W12", "control", "abc"),
        a_list("2025-W12", "treatment", "ca"),
    )
    url = serve(made)
    page = opened(url)
    assert page.title() == "Top 50 for 2025-W12 | hitparade"
    control, treatment = page.get_by_label("control: places"), page.get_by_label("treatment: places")
    assert [" ".join(row.split()) for row in control.locator("tbody tr").all_inner_texts()] == [
        "1 ▲ up 1 A 29",
        "2 ▼ down 1 B 28",
        "3 new C 27",
    ]
    assert treatment.locator("tbody tr").first.inner_text().split() == ["1", "·", "first", "list", "C", "29"]
    boxes = [table.bounding_box() for table in (control, treatment)]
    assert boxes[0]
    assert boxes[1]
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]
    assert boxes[0]["y"] == boxes[1]["y"]


def test_a_tracks_weeks_are_those_that_any_list_tells_of_and_the_later_list_is_right() -> None:
    lists = Lists()
    for week, ids, first in (("2025-W10", "a", 10), ("2025-W12", "a", 50), ("2025-W13", "b", 90)):
        made = a_list(week, "control", ids)
        entries = tuple(e.model_copy(update={"plays": tuple(range(first, first + 4))}) for e in made.tracks)
        lists.take(canonical(made.model_copy(update={"tracks": entries}).model_dump(mode="json")))
    assert plays(lists, Calendar().parse("2025-W12")) == {
        "a": {
            **{"2025-W06": 10, "2025-W07": 11},
            **{"2025-W08": 50, "2025-W09": 51, "2025-W10": 52, "2025-W11": 53},
        }
    }


def test_a_sparkline_has_a_gap_where_nothing_is_known_and_a_line_where_nothing_was_played() -> None:
    assert sparkline((None, 5, 0, 10, 5, 0)) == (
        '<svg class="spark" viewBox="0 0 36 20" width="36" height="20" aria-hidden="true" focusable="false">'
        '<path class="old" d="M7 20v-10h4v10z"/>'
        '<path class="new" d="M13 20v-1h4v1zM19 20v-20h4v20zM25 20v-10h4v10zM31 20v-1h4v1z"/></svg>'
    )


def test_what_the_groups_disagree_about_comes_largest_first_and_not_listed_is_below_the_last_place() -> None:
    found = differences([a_list(ids="abcd"), a_list(group="treatment", ids="dbae")])
    assert [(one.track_id, one.ranks, one.size) for one in found] == [
        ("d", (4, 1), 3),
        ("a", (1, 3), 2),
        ("c", (3, None), 2),
        ("e", (None, 4), 1),
    ]
    assert differences([a_list(), a_list(group="treatment")]) == []


def test_the_page_tells_where_groups_disagree_what_models_were_worth_and_how_the_pipeline_is(
    opened: Opener, site: tuple[str, Parts]
) -> None:
    url, made = site
    page = opened(url)
    largest = differences(made.memory.lists.latest())[0]
    assert rows(page, ".differences")[0].startswith(largest.name)
    assert page.locator("#record .chart .line").count() == 6
    page.get_by_text("The weeks as a table").click()
    assert len(rows(page, "#record details table")) == 18  # W05 to W13, two groups
    assert page.locator("#experiment .worth:not(.effects) .interval").count() == 4
    assert "50 % of listeners" in page.locator("#experiment").inner_text()
    assert "provisional" in page.locator("#open-week h2").inner_text()
    assert made.memory.live
    assert rows(page, ".open")[0].startswith(f"1 {made.memory.live.tracks[0].name} ")
    pipeline = page.locator("#pipeline").inner_text()
    for text in ("412.5", "37", "2025-04-03 18:22:09", "82 dead by timestamp", "14 dead by json", "neural"):
        assert text in pipeline
    assert "Latest lists 2025-W14 last run at 2025-03-31 01:00:42 UTC" in " ".join(pipeline.split())


def test_an_experiments_last_report_stands_on_the_page_with_its_intervals(
    opened: Opener, site: tuple[str, Parts]
) -> None:
    experiment = opened(site[0]).locator("#experiment")
    text = experiment.inner_text()
    assert "Treatment's list is better than control's: plays per active user is 3.1 % higher" in text
    assert "Of all assigned users, 2025-W11 to 2025-W13: control 10,311, treatment 10,274." in text
    assert experiment.locator(".effects .interval").count() == 4
    found = [" ".join(row.split()) for row in experiment.locator(".effects tbody tr").all_inner_texts()]
    assert found[0] == "plays per active user decides 41.62 42.91 +3.1 % +1.0 % to +5.2 % 0.0041 , significant"
    assert found[2] == f"skips per play must not be worse 0.2979 0.2967 {MINUS}0.4 % {MINUS}1.9 % to +1.1 % 1"
    assert found[4].startswith("share of plays from the list")
    assert found[4].endswith("nobody in control played a listed track")
    assert experiment.locator(".sure").count() == 1
    experiment.get_by_text("What to beware of (1)").click()
    assert experiment.get_by_text("no number of looks is planned").is_visible()


def test_a_report_is_shown_once_it_is_made_and_only_while_it_is_of_the_experiments_groups(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = full(tmp_path)
    path = made.reports.folder / "neural-against-linear.json"

    def shown() -> bool:
        text = client(made).get("/", headers=HTML).text
        return "is better than" in text and "Nobody has asked yet which list is better" not in text

    assert shown()
    made.reports.keep(a_report(users={"control": 1, "another": 1}))
    assert not shown()
    made.reports.keep(a_report())
    assert shown()
    path.write_text("{}")
    assert [shown(), shown()] == [False, False]
    assert caplog.text.count("neural-against-linear.json is no report") == 1
    path.unlink()
    assert not shown()


def test_a_report_of_several_groups_says_whose_each_effect_is(tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text(THREE)
    made = full(tmp_path)
    effects = [effect.model_copy(update={"group": group}) for group in "bc" for effect in a_report().effects]
    users = {"a": 1, "b": 2, "c": 3}
    made.reports.keep(a_report(name="three", control="a", users=users, effects=effects))
    text = client(replace(made, experiments=load(tmp_path / "e.toml", Calendar()))).get("/", headers=HTML).text
    assert text.count("<bdi>b</bdi>: ") == text.count("<bdi>c</bdi>: ") == 5
    assert "the group</th>" in text


def test_a_list_can_be_taken_along_in_every_form(opened: Opener, site: tuple[str, Parts]) -> None:
    url, _ = site
    links = opened(f"{url}/week/2025-W13/control").locator(".forms a")
    assert links.all_inner_texts() == ["M3U", "XSPF", "JSPF", "CSV", "JSON"]
    for link in links.all():
        assert client(site[1]).get(link.get_attribute("href") or "").status_code == 200


def test_a_charts_lines_of_measure_have_numbers_of_their_own(tmp_path: Path) -> None:
    for reach in (0.00013, 0.00045, 0.0009, 0.0021, 0.04, 0.7):
        drawn = chart({"a": [("2025-W11", reach), ("2025-W12", -reach)]}, ["2025-W11", "2025-W12"], "t")
        labels = re.findall(r'text-anchor="end">([^<]+)<', drawn)
        assert len(set(labels)) == len(labels) >= 3, labels
        assert all(float(label.replace(MINUS, "-")) for label in labels if label != "naive"), labels
        assert "-" not in "".join(labels)


def test_what_a_sentence_has_between_backticks_is_code_and_nothing_else_is_markup() -> None:
    assert coded("run `a` & <b> `c`") == "run <code>a</code> &amp; &lt;b&gt; <code>c</code>"
    assert coded("`<b>` and one ` alone") == "<code>&lt;b&gt;</code> and one ` alone"


def test_a_week_a_list_and_a_track_have_addresses_that_lead_to_each_other(
    opened: Opener, site: tuple[str, Parts]
) -> None:
    url, made = site
    page = opened(f"{url}/week/2025-W12")
    page.get_by_role("link", name="2025-W11").click()
    expect(page).to_have_url(f"{url}/week/2025-W11")
    page.get_by_role("link", name="treatment").click()
    expect(page).to_have_url(f"{url}/week/2025-W11/treatment")
    expect(page.locator("h1")).to_have_text("treatment")
    first = made.memory.lists.revisions("2025-W11", "treatment")[-1].tracks[0]
    page.get_by_role("link", name=first.name, exact=True).click()
    expect(page).to_have_url(f"{url}/track/{first.track_id}")
    expect(page.locator("h1")).to_have_text(first.name)
    assert "2025-W11" in " ".join(rows(page, ".weekly"))


def test_a_list_shows_its_revisions_and_what_each_changed(opened: Opener, serve: Server, tmp_path: Path) -> None:
    first = a_list("2025-W12", "control", "abc")
    first = first.model_copy(update={"id": first.content_id()})
    second = a_list("2025-W12", "control", "abd").following(first)
    url = serve(parts(tmp_path, first, second))
    page = opened(f"{url}/week/2025-W12/control")
    texts = [" ".join(text.split()) for text in page.locator(".revisions li").all_inner_texts()]
    assert [text.split(" sha256")[0] for text in texts] == ["Revision 2", "Revision 1"]
    assert texts[0].endswith("Entered: D. Left: C.")


@pytest.mark.parametrize("track_id", ["a/b", "a?b#c", "ä ö%2F", "<b>"])
def test_a_track_of_any_id_has_its_page(track_id: str, opened: Opener, serve: Server, tmp_path: Path) -> None:
    url = serve(parts(tmp_path, a_list(ids=[track_id])))
    page = opened(url)
    page.locator(".list .name").first.click()
    expect(page).to_have_url(f"{url}/track/{quote(track_id, safe='')}")
    expect(page.locator("h1")).to_have_text(track_id.upper())


# Live


def test_a_new_list_shows_itself_and_focus_scroll_and_what_was_opened_stay(
    opened: Opener, serve: Server, tmp_path: Path
) -> None:
    made = full(tmp_path)
    url = serve(made)
    page = opened(url)
    expect(page.locator("[data-pulse]")).to_be_visible()
    page.evaluate("window.stayed = true")
    page.locator("summary").first.click()
    page.get_by_role("link", name=made.memory.live.tracks[3].name).last.focus()  # type: ignore[union-attr]
    page.evaluate("window.scrollTo(0, 1500)")
    was = page.evaluate("[scrollY, document.activeElement.href]")
    new = a_real_list("2025-W14", "control", revision=2, model="naive", fallback="the artefact is missing")
    made.memory.lists.take(canonical(new.model_copy(update={"id": new.content_id()}).model_dump(mode="json")))
    expect(page.get_by_role("status")).to_have_text("New: the list of control for 2025-W14.")
    expect(page.locator(".list").first).to_contain_text("revision 2")
    assert "the artefact is missing" in page.locator(".warn").inner_text()
    assert page.evaluate("[scrollY, document.activeElement.href]") == was
    assert page.evaluate("window.stayed")
    assert page.locator("details").first.get_attribute("open") is not None


def test_the_pipelines_figures_move_in_place(opened: Opener, serve: Server, tmp_path: Path) -> None:
    made = full(tmp_path)
    url = serve(made)
    page = opened(f"{url}/pipeline")
    page.evaluate("document.querySelector('.figures').stayed = true")
    made.memory.figures = made.memory.figures.model_copy(update={"sessions": sessions(1234.5, 6_789, counted=7)})
    expect(page.locator("[data-figure='sessions.events_per_s']")).to_have_text("1,234.5")
    expect(page.locator("[data-figure='sessions.1.lag']")).to_have_text("6,789")
    expect(page.locator("[data-figure='sessions.tallies.counted']")).to_have_text("7")
    assert page.evaluate("document.querySelector('.figures').stayed")
    away = Reach(ok=False, since=NOW + timedelta(hours=1), reason="nobody listens")
    made.memory.figures = made.memory.figures.model_copy(update={"redis": away})
    expect(page.locator("[data-reach=redis]")).to_have_text("Redis away since 2025-03-24 13:00:00 nobody listens")
    made.memory.figures = made.memory.figures.model_copy(update={"sessions": sessions(**{"dead:future": 3})})
    expect(page.locator(".tallies").first).to_contain_text("3 dead by future")


def test_a_stream_that_breaks_is_told_and_recovers(browser: Browser, tmp_path: Path) -> None:
    """Without `opened`: that nobody answers stands on the console."""
    made = full(tmp_path)
    page = browser.new_page()
    with served(made) as url:
        page.goto(url)
        expect(page.locator("[data-pulse-text]")).to_have_text("live")
    expect(page.locator("[data-pulse-text]")).to_have_text("not connected")
    expect(page.get_by_role("status")).to_contain_text("The connection is lost")
    made.memory.lists.take(canonical(a_real_list("2025-W15", "control").model_dump(mode="json")))
    with served(made, int(url.rpartition(":")[2])):
        expect(page.locator("[data-pulse-text]")).to_have_text("live")
        expect(page.locator("h1")).to_contain_text("2025-W15")
        page.close()


@pytest.mark.usefixtures("nothing_left_running")
def test_an_open_page_shows_what_is_published_to_kafka(
    browser: Browser, embedded_stack: Embedded, prefix: str, tmp_path: Path
) -> None:
    with staged(embedded_stack.kafka, embedded_stack.redis_url, prefix, tmp_path, HITPARADE_HTTP_PORT="0") as stage:
        service = start("serve", env=stage.env)
        assert service.stdout
        url = service.stdout.readline().split()[-1]
        page = browser.new_page()
        page.goto(url)
        expect(page.locator("h1")).to_have_text("No list yet")
        page.evaluate("window.stayed = true")
        for made in (a_list("2025-W12", "control"), a_list("2025-W12", "treatment", "cb")):
            stage.publisher.publish([made.message(stage.settings.topics.playlists)])
        expect(page.locator("h1")).to_have_text("Top 3 2025-W12")
        expect(page.locator(".list")).to_have_count(2)
        assert page.evaluate("window.stayed")
        page.close()
        end(service, 15)  # type: ignore[arg-type]


# For everyone


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1440, "dark"), (360, "dark"), (1440, "light")])
def test_axe_finds_nothing_serious(
    width: int, scheme: str, opened: Opener, serve: Server, site: tuple[str, Parts], tmp_path: Path
) -> None:
    url, made = site
    addresses = [f"{url}/"]
    if (width, scheme) in ((360, "dark"), (1440, "light")):
        track = made.memory.lists.latest()[0].tracks[0].track_id
        addresses += [f"{url}/week/2025-W13", f"{url}/week/2025-W13/control", f"{url}/track/{track}", f"{url}/pipeline"]
        addresses += [serve(parts(tmp_path))]
    for address in addresses:
        page = opened(address, width=width, color_scheme=scheme, reduced_motion="reduce")
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        found = Axe().run(page).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] != "minor"] == [], address
        page.context.close()


def test_nothing_makes_the_page_scroll_sideways(
    opened: Opener, serve: Server, site: tuple[str, Parts], tmp_path: Path
) -> None:
    url, made = site
    bad = serve(named(parts(tmp_path, *(a_list(group=group, ids="01234") for group in ("control", "x" * 64)))))
    track = made.memory.lists.latest()[0].tracks[0].track_id
    addresses = [f"{url}{path}" for path in ("/", "/week/2025-W13", f"/track/{track}", "/pipeline")]
    large = serve(of_millions(tmp_path / "large"))
    addresses += [f"{large}{path}" for path in ("/", "/week/2025-W12/control", "/track/1")]
    for address in (*addresses, bad, f"{bad}/track/2", f"{bad}/week/2025-W12/control"):
        page = opened(address)
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        for width in (320, 360, 768, 1440):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address
            assert page.evaluate(TOO_NARROW) == [], (address, width)
        page.context.close()


TOO_NARROW = """[...document.querySelectorAll("td.count")]
    .filter((cell) => cell.scrollWidth > cell.clientWidth).map((cell) => cell.textContent)"""
"""Numbers that stand over the edge of their column."""


def of_millions(folder: Path) -> Parts:
    """Lists and an open week of a service with millions of listeners."""
    groups = ("control", "treatment-b", "treatment-of-a-rather-long-name")
    lists = [a_list(group=group, ids="01234") for group in groups]
    large = tuple(
        entry.model_copy(update={"plays": (98_765_432,) * 4, "score": 394_567_890.12}) for entry in lists[0].tracks
    )
    made = parts(folder, *(one.model_copy(update={"tracks": large[n:] + large[:n]}) for n, one in enumerate(lists)))
    entry = ChartEntry(
        rank=1, track_id="0", name="A name of some length", plays=98_765_432, skips=8_765_432, likes=10**6
    )
    made.memory.live = LiveChart(week="2025-W12", at=NOW, stream_time=NOW, n_tracks=10**7, tracks=(entry,))
    return made


def named(made: Parts) -> Parts:
    """The same lists with hostile names."""
    for playlist in made.memory.lists.latest():
        tracks = tuple(
            entry.model_copy(update={"name": name}) for entry, name in zip(playlist.tracks, HOSTILE, strict=True)
        )
        changed = playlist.model_copy(update={"tracks": tracks, "revision": 2})
        made.memory.lists.take(canonical(changed.model_dump(mode="json")))
    return made


def test_hostile_names_are_text_cut_to_a_length_and_turn_nothing_round(
    opened: Opener, serve: Server, tmp_path: Path
) -> None:
    made = named(parts(tmp_path, a_list(ids="01234"), a_list("2025-W11")))
    url = serve(made)
    for n, name in enumerate(HOSTILE):
        page = opened(f"{url}/track/{n}")
        assert page.locator("h1 bdi").inner_text().startswith(cut(name, 200)[:20])
        assert len(page.title()) < 90
    page = opened(url)
    assert page.evaluate("window.harm") is None
    assert page.locator(".list script, .list img").count() == 0
    assert "W" * 121 not in page.content()
    assert page.locator(".list .name > bdi").count() == 5
    assert "49" not in page.locator(".list").inner_text()
    heights = [box["height"] for row in page.locator(".list tbody tr").all() if (box := row.bounding_box())]
    assert max(heights) < 70
    names, counts = page.locator(".list .name"), page.locator(".list tbody .count")
    for n in range(5):
        left, right = names.nth(n).bounding_box(), counts.nth(n).bounding_box()
        assert left
        assert right
        assert left["x"] + left["width"] <= right["x"]


def test_the_policy_refuses_inline_script_and_style_and_the_page_needs_neither(
    opened: Opener, browser: Browser, site: tuple[str, Parts]
) -> None:
    answer = client(site[1]).get("/", headers=HTML)
    assert "script-src 'self'; style-src 'self'" in answer.headers["content-security-policy"]
    assert "<style" not in answer.text
    assert " style=" not in answer.text
    assert answer.text.count("<script") == answer.text.count("<script src=") == 1
    opened(site[0])
    page, faults = browser.new_page(), Faults()
    faults.listen(page)
    page.goto(site[0])
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.harm = 1'}))")
    expect(page.locator("[data-pulse]")).to_be_visible()
    assert page.evaluate("window.harm") is None
    assert [fault for fault in faults if fault.startswith("script-src")] == ["script-src-elem inline"]
    page.close()


def test_nothing_is_loaded_from_elsewhere(browser: Browser, site: tuple[str, Parts]) -> None:
    page, asked = browser.new_page(), set[str]()
    page.on("request", lambda request: asked.add(request.url))
    page.goto(site[0])
    expect(page.locator("[data-pulse]")).to_be_visible()
    page.close()
    assert len(asked) >= 4
    assert all(url.startswith(f"{site[0]}/") for url in asked)


def test_without_javascript_the_lists_the_weeks_and_the_rest_can_be_reached(
    opened: Opener, site: tuple[str, Parts]
) -> None:
    page = opened(site[0], java_script_enabled=False)
    assert page.locator("[data-pulse]").is_hidden()
    page.locator("summary").first.click()
    assert page.get_by_label("control: places 21 to 50").is_visible()
    page.get_by_label("Week", exact=True).select_option("2025-W10")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(f"{site[0]}/week/2025-W10")
    expect(page.locator(".list")).to_have_count(2)


def test_the_keyboard_reaches_the_content_first_and_then_every_link(opened: Opener, site: tuple[str, Parts]) -> None:
    page = opened(site[0])
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    assert skip.evaluate("element => element.getBoundingClientRect().top") >= 0
    page.keyboard.press("Enter")
    reached = []
    for _ in range(5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim().split('\\n')[0]"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert outline == "3px", reached
    assert reached[0] == "← 2025-W13"
    assert reached[2:4] == ["Show", "control"]


def test_headings_come_in_order_and_tables_have_heads(opened: Opener, site: tuple[str, Parts]) -> None:
    page = opened(site[0])
    levels = page.eval_on_selector_all("h1, h2, h3, h4, h5, h6", "found => found.map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.locator("th:not([scope])").count() == 0


def test_dark_light_print_and_less_motion_are_as_the_visitor_wants(opened: Opener, site: tuple[str, Parts]) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    assert opened(site[0], color_scheme="light").evaluate(paper) == "rgb(251, 251, 252)"
    page = opened(site[0], color_scheme="dark", reduced_motion="reduce")
    assert page.evaluate(paper) == "rgb(18, 19, 23)"
    moving = "getComputedStyle(document.querySelector('.dot')).animationName"
    assert page.evaluate(moving) == "none"
    assert opened(site[0]).evaluate(moving) == "breathe"
    page.emulate_media(media="print")
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    assert page.get_by_label("control: places 21 to 50").is_visible()
    assert page.locator(".top nav").is_hidden()


# When there is little to show


def test_where_nothing_is_yet_the_page_says_what_to_do(opened: Opener, serve: Server, tmp_path: Path) -> None:
    url = serve(parts(tmp_path))
    text = opened(url).locator("main").inner_text()
    for said in (
        "hitparade consume weekly",
        "it takes the lists of two groups",
        "once hitparade consume sessions has counted something",
        "No list has been judged yet",
        "Nobody has asked yet which list is better",
        "Run hitparade topics",
    ):
        assert said in text


def test_what_is_away_and_lists_that_are_not_read_yet_are_told(tmp_path: Path) -> None:
    made = parts(tmp_path, a_list())
    away = Reach(ok=False, since=NOW, reason="it is starting")
    made.memory.figures = made.memory.figures.model_copy(update={"redis": away})
    assert "Redis is away</b> since 2025-03-24 12:00:00" in client(made).get("/", headers=HTML).text
    unread = parts(tmp_path)
    unread.memory.figures = unread.memory.figures.model_copy(update={"lists": away})
    assert "The lists are still being read: it is starting" in client(unread).get("/", headers=HTML).text
    assert client(unread).get("/week/2025-W12", headers=HTML).status_code == 503


def test_outside_an_experiment_the_page_says_how_to_begin_one(tmp_path: Path) -> None:
    made = parts(tmp_path, a_list(group="all", experiment="none"), experiments=type(parts(tmp_path).experiments)())
    assert "HITPARADE_EXPERIMENT_FILE" in client(made).get("/", headers=HTML).text


@pytest.mark.parametrize(
    ("address", "status", "said"),
    [
        ("/week/2025-W40", 404, "There are no lists for week 2025-W40: those from 2025-W12 to 2025-W12 are known"),
        ("/week/2025-W12/nobody", 404, "There is no such list for week 2025-W12"),
        ("/week/2025-W60", 422, "Expected a week that exists"),
        ("/week/0001-W01", 422, "Expected a week that exists"),
        ("/week/9999-W52", 422, "Expected a week that exists"),
        ("/week?week=<b>", 422, "Expected a week that exists"),
        ("/track/nobody", 503, "Kafka has not said"),
        ("/static/nothing.js", 404, "There is no such file"),
        ("/nothing", 404, "Nothing is at this address"),
    ],
)
def test_what_is_not_there_is_a_page_for_a_browser_and_a_problem_for_a_program(
    address: str, status: int, said: str, tmp_path: Path
) -> None:
    visitor = client(parts(tmp_path, a_list()))
    page = visitor.get(address, headers=HTML)
    assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert said in page.text
    assert "To this week" in page.text
    other = visitor.get(address)
    assert (other.status_code, other.headers["content-type"]) == (status, "application/problem+json")


def test_what_fails_here_is_a_page_without_a_trace(tmp_path: Path) -> None:
    made = parts(tmp_path, a_list())
    made.memory.judged = None  # type: ignore[assignment]
    answer = client(made).get("/", headers=HTML)
    assert answer.status_code == 500
    assert "its log says why" in answer.text
    assert "NoneType" not in answer.text


# What it costs


def test_static_files_are_kept_for_ever_under_an_address_that_changes_with_them(tmp_path: Path) -> None:
    visitor = client(parts(tmp_path))
    page = visitor.get("/", headers=HTML)
    address = page.text.split('href="/static/page.css')[1].split('"')[0]
    kept = visitor.get(f"/static/page.css{address}")
    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert visitor.get("/static/page.css").headers["cache-control"] == "no-cache"
    again = visitor.get("/static/page.css", headers={"if-none-match": kept.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert page.headers["cache-control"] == "no-cache"


def test_means_are_computed_once_a_change(site: tuple[str, Parts]) -> None:
    judged, means = site[1].memory.judged, Means()
    before = means.of(judged.all())
    assert [(row["group"], row["judged"]) for row in before] == [
        ("control", "list"),
        ("control", "forecast"),
        ("treatment", "list"),
        ("treatment", "forecast"),
    ]
    assert means.of(judged.all()) is before
    assert means.of(judged.all()[:-1]) is not before


def test_an_evaluation_that_lacks_a_metric_is_left_out(tmp_path: Path, site: tuple[str, Parts]) -> None:
    made = parts(tmp_path, a_list())
    whole: Evaluation = site[1].memory.judged.all()[0]
    lacking = whole.model_copy(update={"week": "2025-W06", "metrics": {"rbo": 1.0}})
    for evaluation in (whole, lacking):
        made.memory.judged.take(canonical(evaluation.model_dump(mode="json")))
    text = client(made).get("/", headers=HTML).text
    assert f'href="/week/{whole.week}"' in text
    assert 'href="/week/2025-W06"' not in text


def test_the_page_asks_neither_redis_nor_kafka(tmp_path: Path) -> None:
    class Nobody:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"somebody was asked for {name}")

    made = parts(tmp_path, a_list(), tracks=Nobody(), runs=Nobody(), history=Nobody(), registry=Nobody())
    for address in ("/", "/week/2025-W12", "/week/2025-W12/control", "/pipeline"):
        assert client(made).get(address, headers=HTML).status_code == 200


def test_a_text_is_cut_and_a_week_is_said_as_people_do(tmp_path: Path) -> None:
    assert [cut("a b", 3), cut("a  b\x00", 3), cut("abcd", 3), cut(" " * 100, 3)] == ["a b", "a b", "ab…", "…"]
    calendar = parts(tmp_path).calendar
    found = [days(calendar.parse(name)) for name in ("2025-W12", "2025-W14", "2025-W01")]
    assert found == ["17 to 23 March 2025", "31 March to 6 April 2025", "30 December 2024 to 5 January 2025"]


def test_a_playlist_of_no_track_is_told(tmp_path: Path) -> None:
    made: Playlist = a_list(ids=())
    assert "This list is empty" in client(parts(tmp_path, made)).get("/", headers=HTML).text

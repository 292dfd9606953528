import json
import math
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.weeks import Calendar, ChartWeek
from hitparade import wiring
from hitparade.embedded import Embedded
from models.experiments import EVERYONE, Experiment, ExperimentError, Group, load
from tests.builders import play
from tests.builders_counting import PARTITIONS, Counted
from tests.builders_weekly import Stage, chart_week, plays, staged
from tests.servers import ROOT, missing
from tests.stored import stored

Write = Callable[[str], Path]
CALENDAR = Calendar()
GOOD = """
[[experiment]]
name = "first"
salt = "s1"
first_week = "2023-W01"
last_week = "2023-W10"
groups.control = { weight = 1, model = "naive" }
groups.treatment = { weight = 3, model = "neural" }

[[experiment]]
name = "second"
salt = "s2"
first_week = "2023-W12"
groups.only = { weight = 1.0, model = "linear" }
"""


def experiment(salt: str = "salt", **weights: float) -> Experiment:
    return Experiment("name", salt, None, None, tuple(Group(name, weight, "naive") for name, weight in weights.items()))


def week(name: str) -> ChartWeek:
    return CALENDAR.parse(name)


@pytest.fixture
def written(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "experiments.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def complaints(path: Path) -> list[str]:
    """The lines of the error, its first without the path."""
    with pytest.raises(ExperimentError) as error:
        load(path, CALENDAR)
    return [line.strip() for line in str(error.value).replace(str(path), "FILE").splitlines()]


REFERENCE = ROOT / "tests" / "reference" / "assign.mjs"
# By the reference, on Node 20.
HALVES = experiment("hitparade-1", control=0.5, treatment=0.5)
THREE = experiment("ключ", a=2, b=3, c=5)
TENTHS = experiment("ninety", control=9, treatment=1)
GOLDEN = [
    (HALVES, {"control": ["102", "103", "7", "Zoë", "名前"], "treatment": ["101", "user-42", "😀"]}),
    (THREE, {"a": ["102"], "b": [" "], "c": ["101", "103", "104", "a:b", "Ångström", "😀"]}),
    (TENTHS, {"control": ["1", "2", "3", "4", "5", "6", "8", "9"], "treatment": ["7", "10"]}),
]


@pytest.mark.parametrize(("arms", "members"), GOLDEN)
def test_a_users_group_never_changes(arms: Experiment, members: dict[str, list[str]]) -> None:
    for group, users in members.items():
        assert {user: arms.group_of(user) for user in users} == dict.fromkeys(users, group)


def elsewhere(asked: list[tuple[Experiment, str]]) -> list[str]:
    """The groups of these users by the reference in JavaScript."""
    node = shutil.which("node") or missing("no node, for the assignment in another language")
    weights = [{group.name: group.weight for group in arms.groups} for arms, _ in asked]
    lines = [json.dumps([arms.salt, w, user]) for (arms, user), w in zip(asked, weights, strict=True)]
    run = subprocess.run([node, REFERENCE], input="\n".join(lines), capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


def test_a_users_group_is_the_same_in_another_language() -> None:
    golden = [(arms, user, group) for arms, members in GOLDEN for group, users in members.items() for user in users]
    assert elsewhere([(arms, user) for arms, user, _ in golden]) == [group for *_, group in golden]
    chance = random.Random(7)
    signs = "".join(map(chr, [*range(32, 127), 0x00E9, 0x03B1, 0x0416, 0x4E2D, 0x2028, 0x1F600]))
    users = ["".join(chance.choices(signs, k=chance.randint(1, 40))) for _ in range(300)] + [str(n) for n in range(100)]
    many = [HALVES, THREE, TENTHS, experiment(a=0, b=1e-9, c=2e-9), experiment("salt", **{"1": 1, "10": 1, "2": 3})]
    asked = [(arms, user) for arms in many for user in users]
    assert elsewhere(asked) == [arms.group_of(user) for arms, user in asked]


def test_the_reference_is_short_enough_to_be_copied() -> None:
    lines = REFERENCE.read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line and not line.startswith(("//", "/**"))]) <= 17


@pytest.mark.parametrize("arms", [HALVES, THREE, TENTHS])
def test_groups_get_their_shares_of_100_000_users(arms: Experiment) -> None:
    n = 100_000
    found = Counter(arms.group_of(str(user)) for user in range(n))
    total = sum(group.weight for group in arms.groups)
    for group in arms.groups:
        share = group.weight / total
        assert abs(found[group.name] - n * share) < 4 * math.sqrt(n * share * (1 - share))


def test_a_weight_that_grows_moves_users_into_that_group_only_and_as_few_as_can_be() -> None:
    before, after = experiment(a=2, b=3, c=5), experiment(a=2, b=6, c=5)
    n = 20_000
    moves = Counter((before.group_of(str(user)), after.group_of(str(user))) for user in range(n))
    moved = {(old, new): many for (old, new), many in moves.items() if old != new}
    assert moved.keys() == {("a", "b"), ("c", "b")}
    share = 6 / 13 - 3 / 10  # what b gained
    assert abs(sum(moved.values()) - n * share) < 4 * math.sqrt(n * share * (1 - share))


@given(st.tuples(*[st.integers(1, 9)] * 3), st.tuples(*[st.integers(1, 9)] * 3))
def test_a_user_moves_only_into_a_group_whose_weight_has_grown_more_than_that_of_their_own(
    old: tuple[int, int, int], new: tuple[int, int, int]
) -> None:
    """As few as the hash allows: nobody moves between groups whose weights have kept their proportion."""
    before, after = (experiment("salt", **dict(zip("abc", weights, strict=True))) for weights in (old, new))
    grown = {name: now / then for name, then, now in zip("abc", old, new, strict=True)}
    for user in map(str, range(200)):
        here, there = before.group_of(user), after.group_of(user)
        assert here == there or grown[there] > grown[here]


def test_a_weight_that_grows_at_the_cost_of_the_other_moves_what_it_gains_and_no_more() -> None:
    before, after = experiment(control=9, treatment=1), experiment(control=7, treatment=3)
    n = 20_000
    moves = Counter((before.group_of(str(user)), after.group_of(str(user))) for user in range(n))
    assert ("treatment", "control") not in moves
    assert abs(moves["control", "treatment"] - n * 0.2) < 4 * math.sqrt(n * 0.2 * 0.8)


def test_another_salt_assigns_independently() -> None:
    n = 20_000
    both = Counter((HALVES.group_of(str(user)), replace(HALVES, salt="other").group_of(str(user))) for user in range(n))
    assert len(both) == 4
    assert all(abs(many - n / 4) < 4 * math.sqrt(n * 3 / 16) for many in both.values())


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_order_of_groups_and_the_scale_of_weights_change_no_assignment(user_id: str) -> None:
    group = experiment(a=1, b=2).group_of(user_id)
    assert group in ("a", "b")
    assert experiment(b=2, a=1).group_of(user_id) == experiment(a=2, b=4).group_of(user_id) == group


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_weight_of_0_never_wins(user_id: str) -> None:
    assert experiment(a=0, b=1).group_of(user_id) == "b"
    assert experiment(a=0, b=1, c=1).group_of(user_id) == experiment(b=1, c=1).group_of(user_id)


def test_weights_at_the_ends_of_floating_point_still_assign() -> None:
    assert experiment(a=5e-324, b=5e-324).group_of("1") == "a"
    assert experiment(a=5e-324, b=1.7e308).group_of("1") == "b"


def test_the_fingerprint_tells_what_assigns_and_nothing_else() -> None:
    one = Experiment("name", "salt", None, None, (Group("a", 1, "naive"), Group("b", 2, "naive")))
    same = Experiment("name", "salt", week("2023-W01"), None, (Group("b", 2.0, "neural"), Group("a", 1.0, "linear")))
    # printf '["name", "salt", [["a", 1.0], ["b", 2.0]]]' | sha256sum
    assert one.fingerprint == same.fingerprint == "d7ac4bab08e69cb5"
    others = [
        replace(one, name="other"),
        replace(one, salt="other"),
        experiment(a=1, b=3),
        experiment(a=1, c=2),
        experiment(a=1, b=2, c=0),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_the_default_file_is_two_halves_in_every_week() -> None:
    experiments = load(None, CALENDAR)
    arms = experiments.in_force(week("1990-W01"))
    assert arms == experiments.in_force(week("2090-W01"))
    assert {group.name: (group.weight, group.model) for group in arms.groups} == {
        "control": (0.5, "linear"),
        "treatment": (0.5, "neural"),
    }


@pytest.mark.parametrize(
    ("given", "model"),
    [
        ("neural", "neural"),
        ("neural@champion", "neural"),
        ("neural@2023-W09-1a2b3c4d", "neural@2023-W09-1a2b3c4d"),
    ],
)
def test_a_group_may_have_the_network_in_use_or_a_version_of_it(written: Write, given: str, model: str) -> None:
    path = written(f"""
        [[experiment]]
        name = "one"
        salt = "s"
        groups.a = {{ weight = 1, model = "{given}" }}
    """)
    (experiment,) = load(path, Calendar()).experiments
    assert experiment.groups == (Group("a", 1.0, model),)


@pytest.mark.parametrize(
    "model", ["", "neural@", "neural@@v", "neural@../v", "neural@v w", "linear@1", "naive@champion", "@v", "Neural"]
)
def test_a_model_that_cannot_be_is_refused(written: Write, model: str) -> None:
    path = written(f"""
        [[experiment]]
        name = "one"
        salt = "s"
        groups.a = {{ weight = 1, model = "{model}" }}
    """)
    (_, complaint) = complaints(path)
    expected = "expected 'naive', 'linear', 'neural' or 'neural@VERSION'"
    assert complaint == f"experiment 1 'one', groups.a.model: {expected}, found {model!r}"


def test_outside_any_experiment_everyone_is_in_one_group_with_the_linear_model() -> None:
    assert EVERYONE.group_of("101") == "all"
    assert [group.model for group in EVERYONE.groups] == ["linear"]


def test_a_week_is_counted_under_the_experiment_that_holds_in_it(written: Write) -> None:
    experiments = load(written(GOOD), CALENDAR)
    names = {name: experiments.in_force(week(f"2023-W{name}")).name for name in ("01", "10", "11", "12", "52")}
    assert names == {"01": "first", "10": "first", "11": "none", "12": "second", "52": "second"}
    assert experiments.in_force(week("2022-W52")) is EVERYONE
    assert experiments.in_force(week("2099-W01")).name == "second"


def test_a_file_without_experiments_is_one_group_for_ever(written: Write) -> None:
    assert load(written("# none\n"), CALENDAR).in_force(week("2023-W24")) is EVERYONE


def test_weeks_are_those_of_the_calendar(written: Write) -> None:
    fridays = Calendar(first_weekday=4)
    experiments = load(written(GOOD), fridays)
    assert experiments.in_force(fridays.parse("2023-W10")).name == "first"
    assert experiments.in_force(fridays.parse("2023-W11")) is EVERYONE


def test_all_errors_are_told_at_once_each_with_experiment_and_field(written: Write) -> None:
    path = written("""
        surprise = 1

        [[experiment]]
        name = "one"
        colour = "red"
        first_week = "2023-W20"
        last_week = "2023-W10"
        groups.control = { weight = -1, model = "random" }
        groups."a:b" = { weight = nan, model = "linear", size = 3 }
        groups.all = { weight = "1", model = "linear" }

        [[experiment]]
        salt = ""
        first_week = "2025-W53"
        last_week = 2023-06-12
        groups = {}

        [[experiment]]
        name = "three"
        salt = "s"
        groups.control = { weight = 0, model = "naive" }

        [[experiment]]
        name = "three"
        salt = "s"
        first_week = "2023-W01"
        groups.control = { weight = true, model = "linear" }
    """)
    assert complaints(path) == [
        "experiment file FILE, 21 to mend:",
        "surprise: expected nothing but [[experiment]] here, found 1",
        "experiment 1 'one', salt: expected a value, found nothing",
        "experiment 1 'one', last_week: expected none before first_week, 2023-W20, found '2023-W10'",
        "experiment 1 'one', groups.control.weight: expected to be greater than or equal to 0, found -1",
        "experiment 1 'one', groups.control.model: expected 'naive', 'linear', 'neural' or 'neural@VERSION', "
        "found 'random'",
        "experiment 1 'one', groups.a:b: expected 1 to 64 letters, digits, '-', '_' or '.', "
        "the first a letter or digit, found 'a:b'",
        "experiment 1 'one', groups.a:b.weight: expected to be a finite number, found nan",
        "experiment 1 'one', groups.a:b.size: expected no field of this name, found 3",
        "experiment 1 'one', groups.all: expected a name that does not mean everyone, found 'all'",
        "experiment 1 'one', groups.all.weight: expected to be a valid number, found '1'",
        "experiment 1 'one', colour: expected no field of this name, found 'red'",
        "experiment 2, name: expected a value, found nothing",
        "experiment 2, salt: expected to have at least 1 character, found ''",
        "experiment 2, first_week: week '2025-W53' does not exist: Invalid week: 53, found '2025-W53'",
        'experiment 2, last_week: expected a week such as "2023-W24", found datetime.date(2023, 6, 12)',
        "experiment 2, groups: expected a group with a weight above 0, found {}",
        "experiment 3 'three', groups: expected a group with a weight above 0, "
        "found {'control': {'weight': 0, 'model': 'naive'}}",
        "experiment 4 'three', groups.control.weight: expected to be a valid number, found True",
        "experiment 4 'three', name: expected one of its own, found 'three', also of experiment 3 'three'",
        "experiment 4 'three', salt: expected one of its own, since its groups and models are others, found 's', also "
        "of experiment 3 'three'",
        "experiment 4 'three', first_week: expected weeks of its own, found some shared with experiment 3 'three'",
    ]


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ({}, {}, True),
        ({"first_week": "2023-W10"}, {"last_week": "2023-W09"}, False),
        ({"first_week": "2023-W10"}, {"last_week": "2023-W10"}, True),
        (
            {"first_week": "2023-W01", "last_week": "2023-W10"},
            {"first_week": "2023-W05", "last_week": "2023-W06"},
            True,
        ),
        ({"first_week": "2023-W01", "last_week": "2023-W10"}, {"first_week": "2023-W11"}, False),
        ({"first_week": "2023-W01"}, {"first_week": "2024-W01"}, True),
        ({"last_week": "2023-W01"}, {"last_week": "2024-W01"}, True),
    ],
)
def test_two_experiments_never_hold_in_one_week(
    written: Write, first: dict[str, str], second: dict[str, str], clash: bool
) -> None:
    def table(name: str, weeks: dict[str, str]) -> str:
        bounds = "".join(f'{key} = "{value}"\n' for key, value in weeks.items())
        return (
            f'[[experiment]]\nname = "{name}"\nsalt = "{name}"\n{bounds}groups.a = {{ weight = 1, model = "naive" }}\n'
        )

    for text in (table("x", first) + table("y", second), table("y", second) + table("x", first)):
        if clash:
            assert "found some shared with experiment 1" in complaints(written(text))[1]
        else:
            load(written(text), CALENDAR)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name = ", "FILE is not TOML: Invalid value"),
        ("x = " + "[" * 100_000, "FILE is not TOML"),
        ('[experiment]\nname = "x"', "experiment: expected [[experiment]], found {'name': 'x'}"),
        ("experiment = [1]", "experiment 1, the whole: expected to be a valid dictionary"),
    ],
)
def test_a_file_of_another_form_is_refused_in_a_sentence(written: Write, text: str, complaint: str) -> None:
    assert complaint in " ".join(complaints(written(text)))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.toml"
    assert complaints(path) == ["experiment file FILE cannot be read: No such file or directory"]
    assert complaints(tmp_path) == ["experiment file FILE cannot be read: Is a directory"]
    path.write_bytes(b"\xff")
    assert "is not TOML" in complaints(path)[0]


def test_an_experiment_in_which_nobody_can_win_is_refused() -> None:
    with pytest.raises(ExperimentError, match="expected a group with a weight above 0"):
        experiment(a=0)


@pytest.mark.parametrize(
    ("first", "last", "states"),
    [
        (None, None, ["in force"] * 4),
        ("2023-W10", None, ["to come", "in force", "in force", "in force"]),
        (None, "2023-W10", ["in force", "in force", "past", "past"]),
        ("2023-W10", "2023-W11", ["to come", "in force", "in force", "past"]),
    ],
)
def test_an_experiment_is_to_come_in_force_and_then_past(
    first: str | None, last: str | None, states: list[str]
) -> None:
    arms = replace(HALVES, first_week=week(first) if first else None, last_week=week(last) if last else None)
    assert [arms.state(week(f"2023-W{n:02}")) for n in (9, 10, 11, 12)] == states


# A change of the file, with counters in a real Redis


def test_a_change_within_a_counted_week_stops_every_partition_that_has_it_and_says_what_to_do(
    counted: Counted, written: Write
) -> None:
    """Nothing is counted under it; with the file set back, counting goes on."""
    before = [stored(counted.store, p) for p in range(PARTITIONS)]
    counted.send((0, None, play(1.9)), (1, None, play(1.9)))
    edited = counted.other(EXPERIMENT_FILE=str(written(GOOD.replace("W12", "W11"))))
    stopped = edited.consume().stopped
    assert stopped.keys() == {0, 1}
    for reason in stopped.values():
        assert re.search(
            "week 2023-W.. was counted under experiment [0-9a-f]{16}, the experiment file now says", reason
        )
        assert "An experiment changes only where a week begins: set the file back for this week, or count" in reason
    assert [stored(counted.store, p) for p in range(PARTITIONS)] == before
    assert counted.consume().stopped == {}
    assert [stored(counted.store, p) for p in range(PARTITIONS)] != before


RAMP = """
[[experiment]]
name = "neural-against-linear"
salt = "hitparade-1"
last_week = "2023-W25"
groups.control = { weight = 0.5, model = "linear" }
groups.treatment = { weight = 0.5, model = "neural" }
[[experiment]]
name = "neural-for-most"
salt = "hitparade-1"
first_week = "2023-W26"
groups.control = { weight = 0.1, model = "linear" }
groups.treatment = { weight = 0.9, model = "neural" }
"""


def test_a_weight_grows_where_a_week_begins_and_who_was_in_that_group_stays(counted: Counted, written: Write) -> None:
    """By a second experiment with the same salt, groups and models, while the weeks of the first are still counted."""
    users = [str(n) for n in range(300)]
    assert max(counted.store.fences([0])[0].experiments) < "2023-W26"
    ramped = counted.other(EXPERIMENT_FILE=str(written(RAMP)))
    for partition in range(PARTITIONS):
        counted.send(*((partition, None, play(2.1, user=user)) for user in users[partition::PARTITIONS]))
    assert ramped.consume().stopped == {}
    first, second = wiring.experiments(ramped.settings).experiments
    moves = Counter((first.group_of(user), second.group_of(user)) for user in users)
    assert ("treatment", "control") not in moves
    assert moves["control", "treatment"] > 90
    found: Counter[str] = Counter()
    for _, group, n_plays, *_ in wiring.counter_reader(ramped.settings).at_one_instant(week("2023-W26")):
        found[group] += n_plays
    assert found == {"control": moves["control", "control"], "treatment": len(users) - moves["control", "control"]}


@pytest.mark.parametrize(("changed", "to"), [('"neural"', '"naive"'), ("treatment", "other")])
def test_another_experiment_needs_a_salt_of_its_own(written: Write, changed: str, to: str) -> None:
    head, tail = RAMP.rsplit("[[experiment]]", 1)
    with pytest.raises(ExperimentError, match="salt: expected one of its own, since its groups and models are others"):
        load(written(f"{head}[[experiment]]{tail.replace(changed, to)}"), CALENDAR)


def test_what_goes_on_by_other_weights_began_with_the_first(written: Write) -> None:
    bounded = load(written(RAMP.replace("last_week", 'first_week = "2023-W22"\nlast_week')), CALENDAR)
    assert [bounded.began(one) for one in bounded.experiments] == [week("2023-W22")] * 2
    endless = load(written(RAMP), CALENDAR)
    assert [endless.began(one) for one in endless.experiments] == [None, None]


NOW = """
[[experiment]]
name = "now"
salt = "s"
groups.control = { weight = 1, model = "naive" }
groups.treatment = { weight = 1, model = "linear" }
"""
NEXT = """
[[experiment]]
name = "next"
salt = "other"
first_week = "2023-W26"
groups.left = { weight = 1, model = "linear" }
groups.right = { weight = 2, model = "naive" }
"""


def test_an_experiment_that_begins_next_week_leaves_this_weeks_counts_and_lists_alone(
    embedded_stack: Embedded, prefix: str, written: Write, tmp_path: Path
) -> None:
    """The week that is open is counted on as it was; the first list of the new groups is for their own week."""
    file = {"HITPARADE_EXPERIMENT_FILE": str(written(NOW))}
    with staged(embedded_stack.kafka, embedded_stack.redis_url, prefix, tmp_path, **file) as stage:
        stage.catalogue("a", "b")
        for n in range(20, 26):
            stage.send(*(plays(n, {"a": 2, "b": n - 19}, str(user)) for user in range(9)))
        stage.count()
        stage.weekly_run().run(stage.triggers.fire(chart_week(24), "manual"))
        before, lists = groups_of(stage), stage.lists("control") + stage.lists("treatment")
        assert {listed.week for listed in lists} == {"2023-W25"}

        written(NOW.replace('"s"', '"s"\nlast_week = "2023-W25"') + NEXT)
        stage.send(*(plays(25, {"b": 1}, str(user)) for user in range(9)))
        stage.count()
        stage.weekly_run().run(stage.triggers.fire(chart_week(24), "manual"))
        assert stage.lists("control")[-1:] + stage.lists("treatment")[-1:] == lists, "the same ids and revisions"
        after = groups_of(stage)
        assert {name: n for name, n in after.items() if name[0] < "2023-W25"} == {
            name: n for name, n in before.items() if name[0] < "2023-W25"
        }
        assert after.keys() == before.keys()
        n_more = {group: after["2023-W25", group] - before["2023-W25", group] for group in ("control", "treatment")}
        members = Counter(experiment("s", control=1, treatment=1).group_of(str(user)) for user in range(9))
        assert n_more == members

        stage.send(*(plays(26, {"a": 1}, str(user)) for user in range(9)))
        stage.count()
        stage.weekly_run().run(stage.triggers.fire(chart_week(25), "manual"))
        assert {listed.week for group in ("left", "right") for listed in stage.lists(group)} == {"2023-W26"}
        assert {group for name, group in groups_of(stage) if name == "2023-W26"} == {"left", "right"}
        assert stage.lists("control")[-1:] + stage.lists("treatment")[-1:] == lists


def groups_of(stage: Stage) -> dict[tuple[str, str], int]:
    """The plays of every group and week that Redis has."""
    reader = wiring.counter_reader(stage.settings)
    found: Counter[tuple[str, str]] = Counter()
    for kept in reader.standing().kept():
        for _, group, n_plays, *_ in reader.at_one_instant(kept):
            found[kept.name, group] += n_plays
    return dict(found)

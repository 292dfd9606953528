import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.weeks import Calendar, ChartWeek
from models.experiments import EVERYONE, Experiment, ExperimentError, Group, load

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


# From another language, Node 20:
#   const { createHash } = require("crypto");
#   const u = (s, g, user) => (Number(createHash("sha256").update(`v1:${s}:${g}:${user}`, "utf8")
#       .digest().readBigUInt64BE(0)) + 0.5) / 2 ** 64;
#   const groupOf = (s, groups, user) => Object.entries(groups).map(([g, w]) => [-Math.log(u(s, g, user)) / w, g])
#       .sort((a, b) => a[0] - b[0] || (a[1] < b[1] ? -1 : 1))[0][1];
HALVES = experiment("hitparade-1", control=0.5, treatment=0.5)
THREE = experiment("ключ", a=2, b=3, c=5)
TENTHS = experiment("ninety", control=9, treatment=1)
GOLDEN = [
    (HALVES, {"control": ["102", "103", "7", "Zoë", "名前"], "treatment": ["101", "user-42", "😀"]}),
    (THREE, {"a": ["102"], "b": [" "], "c": ["101", "103", "104", "a:b", "Ångström", "😀"]}),
    (TENTHS, {"control": ["1", "2", "3", "4", "5", "6", "8", "9"], "treatment": ["7", "10"]}),
]


@pytest.mark.parametrize(("arms", "members"), GOLDEN)
def test_a_users_group_is_the_same_in_another_language(arms: Experiment, members: dict[str, list[str]]) -> None:
    for group, users in members.items():
        assert {user: arms.group_of(user) for user in users} == dict.fromkeys(users, group)


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
        groups.control = { weight = true, model = "naive" }
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
        "experiment 4 'three', salt: expected one of its own, found 's', also of experiment 3 'three'",
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

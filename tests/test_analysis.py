"""The analysis against slow oracles, the library's own documentation, and what can go wrong."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

pytest.importorskip("tea_tasting")

from models.analysis import analyse, analyse_slices
from models.experiments import Experiment, ExperimentError, Group
from models.listeners import COLUMNS, Caps, Population, Slice, Sums, add_up, listeners
from models.measures import METRICS
from models.plans import Plan, weights_of
from models.reports import Effect, Report
from models.weeks_needed import variance_by_weeks
from tests.listeners import drawn, plan, week

LISTED, PLAYS = "listed_share", "plays_per_active_user"


def effect(report: Report, metric: str, group: str = "treatment") -> Effect:
    return next(one for one in report.effects if (one.metric, one.group) == (metric, group))


def arrays(table: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    """The columns of control, and those of treatment."""
    frame = table.to_pandas()
    return [
        tuple(frame.loc[frame["group"] == group, name].to_numpy(float) for name in names)
        for group in ("control", "treatment")
    ]


def documented(covariates: bool) -> tuple[list[pa.Table], list[pa.Table]]:
    """The data of the library's documentation, sessions as plays and orders as plays of listed tracks."""
    from tea_tasting import make_users_data

    data = make_users_data(rng=42, covariates=covariates).to_pandas()
    groups = ["treatment" if variant else "control" for variant in data["variant"]]
    suffix = "_covariate"
    weeks = [week(data["user"], groups, plays=data["sessions"], listed_plays=data["orders"], active_days=1)]
    if not covariates:
        return weeks, []
    names = {"plays": data["sessions" + suffix], "listed_plays": data["orders" + suffix]}
    return weeks, [week(data["user"], groups, **names, active_days=1)]


def test_a_ratio_is_what_the_librarys_documentation_says() -> None:
    report = analyse(*documented(covariates=False), plan())
    found = effect(report, LISTED)
    assert (round(found.control_value or 0, 3), round(found.group_value or 0, 3)) == (0.266, 0.289)
    assert [round(value or 0, 4) for value in (found.relative, found.relative_low, found.relative_high)] == [
        *(0.0877, -0.0089, 0.1938),
    ]
    assert found.p_value == pytest.approx(0.0762, abs=5e-5)
    plays = effect(report, PLAYS)
    assert [plays.relative, plays.relative_low, plays.relative_high] == pytest.approx(
        [-0.0066, -0.037, 0.025], abs=5e-4
    )
    assert plays.p_value == pytest.approx(0.674, abs=5e-4)


def test_cuped_of_a_ratio_is_what_the_librarys_documentation_says() -> None:
    found = effect(analyse(*documented(covariates=True), plan()), LISTED)
    assert (round(found.control_value or 0, 3), round(found.group_value or 0, 3)) == (0.262, 0.293)
    assert [found.relative, found.relative_low, found.relative_high] == pytest.approx([0.12, 0.042, 0.21], abs=5e-3)
    assert found.p_value == pytest.approx(0.00229, abs=5e-6)
    assert found.cuped


def test_the_sample_ratio_is_what_the_librarys_documentation_says() -> None:
    (ratio,) = analyse(*documented(covariates=False), plan()).ratios
    assert ratio.users == {"control": 2023, "treatment": 1977}
    assert ratio.p_value == pytest.approx(0.477, abs=5e-4)


@pytest.mark.parametrize("metric", [metric for metric in METRICS if metric.denom], ids=lambda metric: metric.name)
def test_a_ratio_is_welchs_test_on_linearised_users(metric: Any) -> None:
    """Each user stands for R + (y - R d) / mean d: the delta method, as Deng, Knoblich & Lu 2018 have it."""
    (table,) = drawn(1, lift=0.1)
    table = table.append_column("active", pa.array(np.ones(len(table))))
    lines = [
        sum(y) / sum(d) + (y - sum(y) / sum(d) * d) / d.mean() for y, d in arrays(table, metric.numer, metric.denom)
    ]
    welch = stats.ttest_ind(lines[1], lines[0], equal_var=False)
    found = effect(analyse([table], [], plan()), metric.name)
    assert found.p_value == pytest.approx(welch.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(welch.confidence_interval(0.95)))
    assert found.effect == pytest.approx(lines[1].mean() - lines[0].mean())


def test_a_ratios_error_is_that_of_drawing_the_users_again() -> None:
    (table,) = drawn(2, n_users=1_000)
    rng = np.random.default_rng(0)
    ratios = []
    for listed, plays in arrays(table, "listed_plays", "plays"):
        again = rng.integers(0, len(plays), (1_500, len(plays)))
        ratios.append(listed[again].sum(axis=1) / plays[again].sum(axis=1))
    effects = ratios[1] - ratios[0]
    found = effect(analyse([table], [], plan()), LISTED)
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / 2 / 1.96 == pytest.approx(np.std(effects), rel=0.07)


def test_cuped_takes_off_what_the_weeks_before_explain() -> None:
    """y - theta (x - mean x), theta = cov(x, y) / var x over both groups: Deng, Xu, Kohavi & Walker 2013."""
    before, now = drawn(3, weeks=2)
    groups = arrays(now, "active_days"), arrays(before, "active_days")
    y, x = ([of_group[0] for of_group in side] for side in groups)
    covariance = np.cov(np.concatenate(x), np.concatenate(y))
    theta, mean = covariance[0, 1] / covariance[0, 0], np.concatenate(x).mean()
    adjusted = [own - theta * (earlier - mean) for own, earlier in zip(y, x, strict=True)]
    found = effect(analyse([now], [before], plan()), "active_days")
    assert found.effect == pytest.approx(adjusted[1].mean() - adjusted[0].mean())
    assert found.p_value == pytest.approx(stats.ttest_ind(adjusted[1], adjusted[0], equal_var=False).pvalue, rel=1e-6)


def test_the_weeks_before_make_the_interval_narrower_and_need_nobody_to_have_been_there() -> None:
    before, now = drawn(4, weeks=2)
    half = before.slice(0, len(before) // 2)
    widths = []
    for weeks_before in ([], [half], [before]):
        found = effect(analyse([now], weeks_before, plan()), PLAYS)
        assert found.cuped == bool(weeks_before)
        widths.append((found.high or 0) - (found.low or 0))
    assert widths[2] < widths[1] < widths[0]


def test_weeks_before_that_say_everything_leave_no_error_to_tell_by_and_are_not_used() -> None:
    (table,) = drawn(5)
    found = effect(analyse([table], [table], plan()), PLAYS)
    assert found.p_value is not None
    assert 0 <= found.p_value <= 1
    assert found.high is not None


def test_several_weeks_are_one_sum_a_user() -> None:
    weeks = drawn(6, weeks=3)
    frame = pa.concat_tables(weeks).to_pandas().groupby(["user_id", "group"], as_index=False).sum(numeric_only=True)
    once = week(frame["user_id"], frame["group"], **{name: frame[name] for name in frame.columns[2:-1]})
    several, one = analyse(weeks, [], plan(3)), analyse([once], [], plan(1))
    for metric in METRICS:
        assert effect(several, metric.name).p_value == pytest.approx(effect(one, metric.name).p_value)


def test_swapped_labels_swap_the_sign() -> None:
    tables = drawn(7, lift=0.2, weeks=2)
    swapped = [
        table.set_column(
            1,
            "group",
            pa.array([{"control": "treatment", "treatment": "control"}[g] for g in table["group"].to_pylist()]),
        )
        for table in tables
    ]
    one, other = (analyse([now], [before], plan()) for before, now in (tables, swapped))
    for metric in METRICS:
        this, that = effect(one, metric.name), effect(other, metric.name)
        assert this.effect == pytest.approx(-(that.effect or 0))
        assert (this.low, this.high) == pytest.approx((-(that.high or 0), -(that.low or 0)))
        assert this.p_value == pytest.approx(that.p_value)
        assert 1 + (this.relative or 0) == pytest.approx(1 / (1 + (that.relative or 0)))


@given(seed=st.integers(0, 2**32 - 1), n_slices=st.integers(1, 5))
@settings(max_examples=5, deadline=None)
def test_neither_the_order_of_users_nor_how_they_are_sliced_changes_anything(seed: int, n_slices: int) -> None:
    rng = np.random.default_rng(seed)
    tables = drawn(8, n_users=120, weeks=3)
    slice_of = rng.integers(0, n_slices, 120)
    mixed = [table.take(rng.permutation(len(table))) for table in tables]
    slices = [
        Slice(
            [
                w.filter(pa.array(slice_of[w["user_id"].to_numpy(zero_copy_only=False).astype(int)] == n))
                for w in mixed[1:]
            ],
            mixed[:1],
        )
        for n in range(n_slices)
    ]
    its_plan = plan(2, winsorise=0.95)
    assert flat(analyse_slices(slices, its_plan)) == flat(analyse(tables[1:], tables[:1], its_plan))


def flat(report: Report) -> Any:
    """With figures to nine digits: sums depend on their order in the last."""
    return rounded(report.model_dump())


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def test_sums_are_means_and_covariances() -> None:
    (table,) = drawn(9)
    population = Population(("control", "treatment"))
    sums = [[Sums(), Sums()]]
    add_up(listeners(Slice([table], [table]), population), Caps(), sums)
    for of_group, columns in zip(sums[0], arrays(table, "plays", "skips", "active_days"), strict=True):
        places = [COLUMNS.index(name) for name in ("plays", "skips", "active_days")]
        assert of_group.mean()[places] == pytest.approx([column.mean() for column in columns])
        assert of_group.covariance()[np.ix_(places, places)] == pytest.approx(np.cov(columns))


def test_a_newcomer_is_in_the_sums_from_the_week_of_coming_on() -> None:
    first, second = drawn(9, weeks=2)
    sums = [[Sums(), Sums()] for _ in range(2)]
    found = listeners(Slice([first.slice(0, 100), second.slice(50, 100)]), Population(("control", "treatment")))
    add_up(found, Caps(), sums)
    assert [[of_group.n for of_group in of_weeks] for of_weeks in sums] == [[50, 50], [75, 75]]
    plays = [sum(of_group.sums[0] for of_group in of_weeks) for of_weeks in sums]
    weekly = [sum(w["plays"].to_pylist()) for w in (first.slice(0, 100), second.slice(50, 100))]
    assert plays == [weekly[0], sum(weekly)]


# Which p value counts.


def test_holm_is_holms_and_counts_every_metric_but_the_primary() -> None:
    report = analyse(drawn(10, lift=0.3), [], plan())
    others = sorted(one.p_value or 0 for one in report.effects if one.role != "primary")
    expected, least = [], 0.0
    for n, p in enumerate(others):
        least = max(least, min(1.0, p * (len(others) - n)))
        expected.append(least)
    assert sorted(one.p_corrected or 0 for one in report.effects if one.role != "primary") == pytest.approx(expected)
    primary = effect(report, PLAYS)
    assert primary.p_corrected == primary.p_value


def test_bh_is_benjamini_and_hochbergs() -> None:
    report = analyse(drawn(10, lift=0.3), [], plan(correction="bh"))
    others = [one for one in report.effects if one.role != "primary"]
    expected = stats.false_discovery_control([one.p_value or 0 for one in others])
    assert [one.p_corrected for one in others] == pytest.approx(list(expected))


def test_at_an_early_look_the_interval_is_wider_and_agrees_with_what_is_significant() -> None:
    weeks = drawn(11, lift=0.12)
    fixed = effect(analyse(weeks, [], plan(planned=4)), PLAYS)
    early = effect(analyse(weeks, [], plan(planned=4, one_look=False)), PLAYS)
    last = effect(analyse(weeks, [], plan(look=4, planned=4, one_look=False)), PLAYS)
    assert (fixed.low or 0) > (last.low or 0) > (early.low or 0)
    assert (fixed.p_corrected or 0) < (last.p_corrected or 0) < (early.p_corrected or 0)
    for one in (fixed, early, last):
        assert one.is_significant == ((one.low or 0) > 0 or (one.high or 0) < 0)


def test_three_groups_share_the_error_and_each_is_held_against_control() -> None:
    (two,) = drawn(12, lift=0.3)
    groups = [f"g{n % 3}" for n in range(len(two))]
    three = two.set_column(1, "group", pa.array(groups))
    report = analyse([three], [], plan(weights={"g1": 1.0, "g0": 1.0, "g2": 1.0}))
    assert [(one.group, one.role) for one in report.effects if one.role == "primary"] == [
        ("g0", "primary"),
        ("g2", "primary"),
    ]
    frame = three.to_pandas()
    for group in ("g0", "g2"):
        own, control = (frame.loc[frame["group"] == name, "plays"] for name in (group, "g1"))
        welch = stats.ttest_ind(own, control, equal_var=False)
        found = effect(report, PLAYS, group)
        assert found.p_value == pytest.approx(welch.pvalue)
        assert found.p_corrected == pytest.approx(min(1, 2 * welch.pvalue))
        assert (found.low, found.high) == pytest.approx(tuple(welch.confidence_interval(0.975)))
    assert len(report.conclusions) == 2


def test_another_group_can_be_control() -> None:
    (table,) = drawn(12, lift=0.3)
    report = analyse([table], [], plan(control="treatment"))
    assert {one.group for one in report.effects} == {"control"}
    assert (effect(report, PLAYS, "control").effect or 0) < 0


# Whether the experiment is whole.


def test_a_damaged_ratio_blocks_the_conclusion_and_says_what_to_look_for() -> None:
    (table,) = drawn(13, n_users=2_000, lift=0.5)
    damaged = table.filter(pa.array([n % 10 != 1 for n in range(len(table))]))
    report = analyse([damaged], [], plan())
    (conclusion,) = report.conclusions
    assert conclusion.verdict == "broken"
    for word in ("events of a group that are lost", "client", "bots", "another salt"):
        assert word in conclusion.sentence
    assert report.winner is None


@pytest.mark.parametrize(("users", "weights", "expected"), [((60, 40), (1, 1), 0.5), ((95, 5), (9, 1), 0.1)])
def test_the_ratio_is_the_exact_test_of_users_by_weight(
    users: tuple[int, int], weights: tuple[int, int], expected: float
) -> None:
    groups = ["control"] * users[0] + ["treatment"] * users[1]
    table = week(range(sum(users)), groups, plays=range(sum(users)))
    report = analyse([table, table], [], plan(2, weights=dict(zip(("control", "treatment"), weights, strict=True))))
    exact = stats.binomtest(users[1], sum(users), expected).pvalue
    assert report.ratios[0].p_value == pytest.approx(exact)
    assert report.ratios[0].expected == pytest.approx(
        {"control": sum(users) * (1 - expected), "treatment": sum(users) * expected}
    )


def test_the_ratio_is_of_users_however_many_events_or_weeks_they_have() -> None:
    (table,) = drawn(14)
    heavy = week(range(400), ["control", "treatment"] * 200, plays=[10_000, 1] * 200)
    assert analyse([heavy], [], plan()).ratios[0].p_value == analyse([table], [], plan()).ratios[0].p_value == 1.0


def test_a_ratio_is_of_all_that_were_seen_though_some_are_left_out() -> None:
    (table,) = drawn(14)
    report = analyse([table], [], plan(winsorise=0.5, leave_out=True))
    assert report.ratios[0].users == {"control": 200, "treatment": 200}
    assert sum(report.users.values()) < 250


def test_a_user_in_two_groups_breaks_the_experiment() -> None:
    first, second = drawn(15, weeks=2)
    moved = second.set_column(1, "group", pa.array(["control", *second["group"].to_pylist()[1:]]))
    assert analyse([first, moved], [], plan(2)).conclusions[0].verdict != "broken"
    moved = second.set_column(1, "group", pa.array(["treatment", *second["group"].to_pylist()[1:]]))
    (conclusion,) = analyse([first, moved], [], plan(2)).conclusions
    assert conclusion.verdict == "broken"
    assert "one user was seen in more than one of its groups" in conclusion.sentence
    assert "--weeks" in conclusion.sentence


def test_users_of_other_groups_are_left_out_and_told_of() -> None:
    (table,) = drawn(16)
    others = week(["x", "y"], ["all", "other"], plays=10_000)
    report = analyse([pa.concat_tables([table, others])], [], plan())
    assert report.effects == analyse([table], [], plan()).effects
    assert report.warnings == ["2 users were in groups that the experiment does not have, and left out: all, other."]


# Whose use, and from when on.


def test_newcomers_count_and_are_told_of_or_are_left_out() -> None:
    first, second = drawn(17, weeks=2)
    early = first.slice(0, 300)
    with_them = analyse([early, second], [], plan(2))
    assert sum(with_them.users.values()) == 400
    assert with_them.warnings[0].startswith("100 users were first seen after the first week; they count")
    without = analyse([early, second], [], plan(2, newcomers=False))
    assert without.warnings[0].startswith("100 users were first seen after the first week; they are left out")
    of_the_early = analyse([early, second.slice(0, 300)], [], plan(2))
    assert without.effects == of_the_early.effects


def test_with_exposures_the_use_of_the_exposed_counts_from_their_first_week_on() -> None:
    first, second = drawn(18, weeks=2)
    seen = np.arange(400)
    exposed = [exposed_to(first, seen < 100), exposed_to(second, seen < 300)]
    report = analyse(exposed, [], plan(2))
    assert report.population == "exposed users"
    assert [ratio.what for ratio in report.ratios] == ["users", "exposed users"]
    assert sum(report.users.values()) == 300
    by_hand = analyse([first.slice(0, 100), second.slice(0, 300)], [], plan(2))
    assert [one.p_value for one in report.effects] == pytest.approx([one.p_value for one in by_hand.effects])
    of_all = analyse(exposed, [], plan(2, exposed=False))
    assert of_all.population == "all assigned users"
    assert of_all.effects == analyse([first, second], [], plan(2)).effects


def exposed_to(table: pa.Table, whom: Sequence[bool] | np.ndarray[Any, Any]) -> pa.Table:
    return table.set_column(table.schema.get_field_index("exposed"), "exposed", pa.array(np.asarray(whom)))


def test_a_ratio_of_the_exposed_that_is_damaged_blocks_too() -> None:
    (table,) = drawn(19)
    report = analyse([exposed_to(table, np.arange(400) % 4 > 0)], [], plan())
    assert [ratio.is_broken for ratio in report.ratios] == [False, True]
    assert "of exposed users, control has 100, expected 150" in report.sentence


def test_who_was_exposed_and_did_nothing_counts_among_the_users_not_among_the_active() -> None:
    active = week(range(100), ["control", "treatment"] * 50, plays=[*range(1, 101)], active_days=1, exposed=True)
    idle = week(range(100, 140), ["control", "treatment"] * 20, exposed=True)
    report = analyse([pa.concat_tables([active, idle])], [], plan())
    assert report.users == {"control": 70, "treatment": 70}
    assert effect(report, PLAYS).control_value == pytest.approx(50)
    assert effect(report, "active_days").control_value == pytest.approx(50 / 70)


def test_a_week_without_exposures_is_told_of() -> None:
    first, second = drawn(20, weeks=2)
    report = analyse([first, exposed_to(second, np.ones(400, np.bool_))], [], plan(2))
    assert "Without any exposure: 2025-W01. Users count from the week of their first one on." in report.warnings


# Bots and heavy users.


def test_a_bot_is_capped_by_one_threshold_of_all_groups_and_keeps_its_ratios() -> None:
    plays = np.arange(1, 1_001)
    plays[-2:] = (50_000, 100_000)
    days = np.where(plays > 991, 7, plays % 3)
    table = week(range(1_000), ["control", "treatment"] * 500, plays=plays, listed_plays=plays // 2, active_days=days)
    report = analyse([table], [], plan(winsorise=0.99))
    assert report.touched.model_dump() == {"how": "capped", "events": 991.0, "users": {"control": 4, "treatment": 5}}
    capped = np.minimum(plays, 991)
    assert effect(report, PLAYS).group_value == pytest.approx(capped[1::2].mean())
    assert effect(report, "active_days").group_value == pytest.approx(days[1::2].mean())
    shares = np.where(plays > 991, 991 / plays, 1.0) * (plays // 2)
    assert effect(report, LISTED).group_value == pytest.approx(shares[1::2].sum() / capped[1::2].sum())


def test_left_out_they_are_gone_and_the_reader_is_warned() -> None:
    plays = np.arange(1, 1_001)
    table = week(range(1_000), ["control", "treatment"] * 500, plays=plays, active_days=1)
    report = analyse([table], [], plan(winsorise=0.99, leave_out=True))
    assert report.touched.how == "left out"
    assert report.users == {"control": 496, "treatment": 495}
    assert report.effects == analyse([table.slice(0, 991)], [], plan()).effects
    assert any("left out after the fact" in warning for warning in report.warnings)


def test_a_cap_is_of_events_a_week_and_of_skips_and_likes_too() -> None:
    table = week(range(100), ["control", "treatment"] * 50, plays=[*range(100)], skips=10, likes=10, active_days=1)
    report = analyse([table, table], [], plan(2, cap=100))
    assert report.touched.events == 200
    assert report.touched.users == {"control": 9, "treatment": 10}


def test_the_weeks_before_are_capped_too() -> None:
    (now,) = drawn(21)
    before = now.to_pandas()
    before.loc[7, "plays"] = 10**9
    huge = pa.Table.from_pandas(before, schema=now.schema, preserve_index=False)
    narrow, wide = (effect(analyse([now], [huge], plan(winsorise=q)), PLAYS) for q in (0.99, 1.0))
    assert (narrow.high or 0) - (narrow.low or 0) < 0.5 * ((wide.high or 0) - (wide.low or 0))


def test_of_few_users_none_is_capped_by_a_high_quantile() -> None:
    assert sum(analyse(drawn(22), [], plan(winsorise=0.999)).touched.users.values()) == 0


# How much it can see.


def test_what_it_could_have_seen_is_four_errors_of_five() -> None:
    (table,) = drawn(23, n_users=3_000)
    found = effect(analyse([table], [], plan()), PLAYS)
    (control,), (treatment,) = arrays(table, "plays")
    pooled = np.concatenate([control, treatment])
    error = pooled.std(ddof=1) * np.sqrt(1 / len(control) + 1 / len(treatment))
    assert found.detectable == pytest.approx((1.96 + 0.8416) * error / pooled.mean(), rel=0.01)


def test_an_effect_that_it_could_just_see_is_seen_in_four_of_five_cases() -> None:
    lift = effect(analyse(drawn(0, n_users=4_000), [], plan()), PLAYS).detectable or 0.0
    rng = np.random.default_rng(0)
    control, treatment = (1 + rng.poisson(rng.gamma(1.0, 20.0, (400, 2_000))) for _ in range(2))
    lifted = treatment + lift * 21
    seen = stats.ttest_ind(lifted, control, axis=1, equal_var=False).pvalue < 0.05
    assert np.mean(seen) == pytest.approx(0.8, abs=0.1)


def test_weeks_of_the_same_listeners_add_less_than_weeks_of_new_ones() -> None:
    assert variance_by_weeks([(1, 1.0), (2, 0.5), (4, 0.25)]) == pytest.approx((0.0, 1.0))
    assert variance_by_weeks([(1, 1.0), (2, 1.0), (4, 1.0)]) == pytest.approx((1.0, 0.0))
    assert variance_by_weeks([(1, 4.0), (2, 3.0), (4, 2.5)]) == pytest.approx((2.0, 2.0))
    assert variance_by_weeks([(1, 6.0)]) == (0.0, 6.0)
    lasting, weekly = variance_by_weeks([(1, 3.0), (2, 1.0), (4, 1.5)])
    assert lasting + weekly / 4 == pytest.approx(1.5)


def test_the_weeks_that_it_needs_are_enough_once_they_have_passed() -> None:
    weeks = noisy(seed=24, n_weeks=12)
    early = analyse(weeks[:3], [], plan(3, planned=None, effect=0.08)).conclusions[0]
    assert early.verdict == "too early"
    assert early.more_weeks is not None
    needed = 3 + early.more_weeks
    assert 5 <= needed <= 12
    later = effect(analyse(weeks[:needed], [], plan(needed, planned=None, effect=0.08)), PLAYS)
    assert later.detectable == pytest.approx(0.08, rel=0.15)


def noisy(seed: int, n_weeks: int) -> list[pa.Table]:
    """Listeners who differ little for good and much from week to week."""
    rng = np.random.default_rng(seed)
    groups = ["control", "treatment"] * 200
    return [
        week(range(400), groups, plays=1 + rng.poisson(rng.gamma(2.0, 10.0, 400)), active_days=1)
        for _ in range(n_weeks)
    ]


def test_after_one_week_only_the_least_number_of_weeks_is_known() -> None:
    (conclusion,) = analyse(noisy(25, 1), [], plan(1, planned=6)).conclusions
    assert conclusion.is_least
    assert "at least" in conclusion.sentence


def test_listeners_who_differ_for_good_need_more_users_not_more_weeks() -> None:
    rng = np.random.default_rng(26)
    plays = 1 + rng.poisson(rng.gamma(0.3, 300.0, 200))
    weeks = [week(range(200), ["control", "treatment"] * 100, plays=plays, active_days=1)] * 3
    (conclusion,) = analyse(weeks, [], plan(3, planned=6)).conclusions
    assert conclusion.more_weeks is None
    assert "it needs more users" in conclusion.sentence


# The end of the report.


@pytest.mark.parametrize(("lift", "verdict", "winner"), [(0.4, "better", "treatment"), (-0.4, "worse", "control")])
def test_a_great_effect_has_a_winner(lift: float, verdict: str, winner: str) -> None:
    report = analyse(drawn(27, n_users=1_000, lift=lift), [], plan())
    assert report.conclusions[0].verdict == verdict
    assert report.winner == winner


def test_more_plays_with_more_skips_are_not_simply_better() -> None:
    table = drawn(28, n_users=1_000, lift=0.5)[0].to_pandas()
    more = table["group"] == "treatment"
    table.loc[more, "skips"] = table.loc[more, "plays"] // 2
    (conclusion,) = analyse([pa.Table.from_pandas(table, preserve_index=False)], [], plan()).conclusions
    assert conclusion.verdict == "mixed"
    assert "skips per play is" in conclusion.sentence


def test_fewer_skips_are_better() -> None:
    table = drawn(28, n_users=1_000)[0].to_pandas()
    table.loc[table["group"] == "treatment", "skips"] //= 3
    its_plan = plan(primary="skip_rate")
    report = analyse([pa.Table.from_pandas(table, preserve_index=False)], [], its_plan)
    assert report.conclusions[0].verdict == "better"
    assert effect(report, "skip_rate").role == "primary"


@pytest.mark.parametrize("lift", [0.0, 0.4])
def test_without_an_end_or_before_it_a_single_looks_p_value_is_warned_about(lift: float) -> None:
    weeks = drawn(29, lift=lift)
    for fields, begins in (
        ({"planned": None}, "The experiment has no last week"),
        ({"planned": 4}, "The experiment has not ended, and this is reckoned as its only look"),
    ):
        (warning,) = analyse(weeks, [], plan(**fields)).warnings
        assert warning.startswith(begins)
        assert "wrong far more often than in 5 %" in warning
    assert analyse(weeks, [], plan(planned=4, one_look=False)).warnings == []


def test_weeks_chosen_by_hand_and_weeks_without_figures_are_told_of() -> None:
    warnings = analyse(drawn(30), [], plan(weeks_chosen=True, missing=("2025-W03",))).warnings
    assert [warning[:30] for warning in warnings] == [
        "The weeks were chosen by hand:",
        "Nothing was counted of 2025-W0",
    ]


# What must not end in NaN.

ONE = week(["a"], "control", plays=3, active_days=1)
SAME = week(range(100), ["control", "treatment"] * 50, plays=3, skips=1, active_days=1)
NO_PLAYS = week(range(100), ["control", "treatment"] * 50, skips=range(100), active_days=1)
EMPTY = ONE.slice(0, 0)
ONE_SIDED = week(range(100), "control", plays=range(100), active_days=1)
NO_LIKES = week(range(100), ["control", "treatment"] * 50, plays=[*range(1, 101)], likes=[1, 0] * 50, active_days=1)
DEGENERATE = {
    "one": ONE,
    "same": SAME,
    "no plays": NO_PLAYS,
    "empty": EMPTY,
    "one-sided": ONE_SIDED,
    "no likes": NO_LIKES,
}


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("fields", [{}, {"winsorise": 0.5}, {"winsorise": 0.5, "leave_out": True}, {"exposed": True}])
@pytest.mark.parametrize("has_before", [False, True])
def test_nothing_to_compare_gives_a_sentence_and_no_figure_that_is_none(
    name: str, fields: dict[str, Any], has_before: bool
) -> None:
    table = DEGENERATE[name]
    report = analyse([table], [table] if has_before else [], plan(one_look=False, planned=3, **fields))
    for value in figures(report.model_dump()):
        assert np.isfinite(value)
    assert report.sentence.endswith(".")
    assert "nan" not in report.model_dump_json()
    assert {c.verdict for c in report.conclusions} <= {"too early", "broken", "no difference"}
    assert all((one.effect is None) == (one.unknown is not None) for one in report.effects)


def figures(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in figures(item)]
    if isinstance(value, list):
        return [number for item in value for number in figures(item)]
    return [value] if isinstance(value, float) else []


def test_why_a_metric_is_not_known_is_said() -> None:
    assert effect(analyse([ONE], [], plan()), PLAYS).unknown == "control has one user"
    assert effect(analyse([EMPTY], [], plan()), PLAYS).unknown == "control has no user"
    assert effect(analyse([NO_PLAYS], [], plan()), "skip_rate").unknown == "nobody in control has played"
    found = effect(analyse([SAME], [], plan()), "skip_rate")
    assert found.unknown == "it is the same of all users, so there is nothing to tell its error by"
    assert effect(analyse([SAME], [], plan()), LISTED).unknown is not None


def test_a_metric_that_one_group_has_none_of_has_an_effect_and_no_share() -> None:
    found = effect(analyse([NO_LIKES], [], plan()), "likes_per_play")
    assert found.group_value == 0
    assert found.p_value is not None
    assert found.p_value < 0.001
    assert (found.relative, found.relative_low, found.detectable) == (None, None, None)


def test_a_week_without_a_list_is_told_of() -> None:
    first, second = drawn(31, weeks=2)
    frame = second.to_pandas()
    frame.loc[frame["group"] == "control", ["listed_plays", "listed_skips", "listed_likes"]] = 0
    report = analyse([first, pa.Table.from_pandas(frame, preserve_index=False)], [], plan(2))
    assert "In 2025-W02 nobody in control played a listed track: was there a list?" in report.warnings


def test_a_group_that_nobody_can_be_in_is_none_of_those_compared() -> None:
    groups = (Group("a", 1.0, "linear"), Group("off", 0.0, "naive"), Group("b", 2.0, "neural"))
    weights = weights_of(Experiment("e", "s", None, None, groups))
    assert weights == {"a": 1.0, "b": 2.0}
    with pytest.raises(ExperimentError, match="control: expected one of a, b, found 'off'"):
        plan(weights=weights, control="off")
    with pytest.raises(ExperimentError, match="has one group, a: nothing to compare it with"):
        plan(weights={"a": 1.0})


def test_a_plan_refuses_what_it_cannot_do() -> None:
    for fields, message in (
        ({"primary": "fame"}, "metric: expected one of plays_per_active_user, .*, found 'fame'"),
        ({"guardrail": "fame"}, "found 'fame'"),
        ({"alpha": 0.6}, "alpha: expected at most 0.5"),
        ({"look": 5, "planned": 4}, "look: expected one of the 4 that are planned, found 5"),
    ):
        with pytest.raises(ExperimentError, match=message):
            replace(plan(), **fields)
    with pytest.raises(ValueError, match="expected one week or more"):
        analyse([], [], replace(plan(), weeks=()))


def test_without_users_enough_there_is_no_verdict_and_with_few_a_warning() -> None:
    few = drawn(32, n_users=40, lift=3.0)
    assert analyse(few, [], plan()).conclusions[0].verdict == "too early"
    some = analyse(drawn(32, n_users=100, lift=3.0), [], plan())
    assert some.conclusions[0].verdict == "better"
    assert some.warnings == [
        f"{group} has 50 users: below 100 intervals are rough." for group in ("control", "treatment")
    ]


def test_the_same_figures_give_the_same_report() -> None:
    weeks = drawn(33, weeks=3)
    assert analyse(weeks[1:], weeks[:1], plan(2)) == analyse(weeks[1:], weeks[:1], plan(2))
    assert isinstance(plan(), Plan)

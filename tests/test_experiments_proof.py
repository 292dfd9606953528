"""A small proof that an experiment's report can be trusted; the whole one is `make bench ONLY=experiments`.

Seeds are fixed: what is asserted of a share is wide enough for chance, and too narrow for a wrong error.
"""

from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest

from benchmarks.cases import (
    CONTROL,
    FELT,
    PRIMARY,
    TREATMENT,
    Case,
    Size,
    bots_case,
    drawn,
    felt_case,
    is_ratio_alarm,
    null_case,
    one_week,
    primary,
    seen_case,
    whole_way,
)
from benchmarks.experiments import ALPHA, ratio_power, share_interval
from benchmarks.experiments_doc import END, PAGE, QUESTIONS, START, latest, proof
from models.usage import USAGE
from producers.damage import Damage
from producers.treatment import Treatment
from producers.truth import METRICS

SMALL = Size(users=120, weeks=2, before=1, tracks=80)
TIMES = 24
MOST_ALARMS = 5 / 24  # at 5 % there are more in one of 1,000 proofs; and the seeds are fixed
LEAST_HELD = 1 - MOST_ALARMS


def test_without_an_effect_a_report_alarms_about_as_often_as_it_says() -> None:
    nulls = [null_case(seed, SMALL) for seed in range(TIMES)]
    for metric in METRICS:
        assert fmean(found.alarms[metric] for found in nulls) <= MOST_ALARMS, metric
    assert fmean(found.looks for found in nulls) <= MOST_ALARMS
    assert fmean(found.any_corrected for found in nulls) <= MOST_ALARMS
    assert 0.01 <= fmean(fmean(found.alarms.values()) for found in nulls) <= 0.1, "nor hardly ever"


def test_an_effect_is_in_the_interval_about_as_often_as_it_says_and_in_those_of_all_looks() -> None:
    felt = [felt_case(seed, SMALL) for seed in range(100, 100 + TIMES)]
    for metric in METRICS:
        assert fmean(found.covered[metric] for found in felt) >= LEAST_HELD, metric
    assert 0.88 <= fmean(fmean(found.covered.values()) for found in felt) < 1, "nor always"
    assert fmean(found.looks_cover for found in felt) >= LEAST_HELD


def per_event_p(case: Case, kind: str) -> float:
    """What must not be done: every play taken for an independent trial."""
    from scipy.stats import norm

    counts = {group: dict.fromkeys(("plays", kind), 0) for group in (CONTROL, TREATMENT)}
    for table in case.weeks:
        for row in table.select(["group", "plays", kind]).to_pylist():
            for name in ("plays", kind):
                counts[row["group"]][name] += row[name]
    n, hits = ([counts[group][name] for group in (CONTROL, TREATMENT)] for name in ("plays", kind))
    pooled = sum(hits) / sum(n)
    error = (pooled * (1 - pooled) * (1 / n[0] + 1 / n[1])) ** 0.5
    return float(2 * norm.sf(abs(hits[1] / n[1] - hits[0] / n[0]) / error))


def test_a_test_that_takes_plays_for_independent_would_not_pass_this_proof() -> None:
    cases = [drawn(seed, SMALL) for seed in range(TIMES)]
    for kind in ("skips", "likes"):
        assert fmean(per_event_p(case, kind) <= ALPHA for case in cases) > MOST_ALARMS


def test_a_ratio_of_which_5_percent_of_a_group_are_lost_is_broken_and_a_whole_one_is_not() -> None:
    usage = one_week(2000)
    big = copied(usage, times=36)
    assert ratio_power(big.num_rows, 0.05) > 0.99
    assert all(is_ratio_alarm(big, seed, Damage(lost=0.05)) for seed in range(2))
    assert not is_ratio_alarm(big, 0, Damage())
    assert not any(is_ratio_alarm(usage, seed, Damage()) for seed in range(5))


def copied(usage: Any, times: int) -> Any:
    """As many times the users, each with another id."""
    import pyarrow as pa

    copies = []
    for n in range(times):
        users = pa.array([str(int(user) + n * 1_000_000) for user in usage["user_id"].to_pylist()])
        copies.append(usage.set_column(0, USAGE.field("user_id"), users))
    return pa.concat_tables(copies)


def test_bots_do_not_make_an_alarm_and_winsorising_sharpens_the_interval() -> None:
    for seed in range(3):
        capped, whole = bots_case(seed, SMALL, winsorise=0.95)
        assert not capped.alarm
        assert 0 < capped.width < 0.5 * whole.width


def test_contamination_makes_the_report_too_small_as_the_truth_foresees() -> None:
    size, treatment = replace(SMALL, users=400), Treatment(plays=0.9, contaminated=0.25)
    cases = [drawn(seed, size, treatment) for seed in range(4)]
    truths = [case.truth()[PRIMARY] for case in cases]
    seen, true = (fmean(truth[key] for truth in truths) for key in ("seen_relative", "relative"))
    assert seen < 0.55 * true
    assert fmean(primary(case.report()).relative or 0 for case in cases) == pytest.approx(seen, abs=0.1)


def test_novelty_shows_as_an_effect_that_falls_from_week_to_week() -> None:
    fading = Treatment(plays=0.9, half_life=0.5)
    weeks = [seen_case(seed, SMALL, fading)[1] for seed in range(4)]
    first, second = (fmean(week) for week in zip(*weeks, strict=True))
    assert first > second + 0.15


def test_the_events_of_an_experiment_read_again_give_the_use_that_was_drawn_and_the_same_report() -> None:
    is_same, n_events = whole_way(7, replace(SMALL, users=60))
    assert is_same
    assert n_events > 2000


def test_the_interval_of_a_share_is_the_exact_one() -> None:
    assert share_interval(10, 200) == pytest.approx((0.0242, 0.0900), abs=5e-5)
    assert share_interval(0, 1000)[1] == pytest.approx(0.00368, abs=5e-5)


def test_the_power_of_the_ratio_is_that_of_two_proportions() -> None:
    assert ratio_power(50_000, 0.05) == pytest.approx(0.99, abs=0.005)
    assert ratio_power(50_000, 0.0) == pytest.approx(0.0005, abs=1e-6)
    assert ratio_power(1000, 0.05) < 0.02


def test_the_effect_of_the_proof_is_felt_by_what_it_is_of() -> None:
    truth = drawn(1, replace(SMALL, users=20), FELT).truth()
    assert truth[PRIMARY]["relative"] > 0.04
    assert truth["listed_skip_rate"]["relative"] == pytest.approx(-0.1, abs=0.01)
    assert truth["listed_share"]["relative"] > 0
    assert truth["listed_likes_per_play"]["relative"] > 0.1


def test_the_table_of_the_page_is_what_the_benchmark_has_found() -> None:
    page = PAGE.read_text()
    assert page.count(START) == page.count(END) == 1
    assert page.split(START)[1].split(END)[0] == proof(latest())


def test_every_target_of_the_proof_was_reached() -> None:
    targets = {name: row["holds"] for name, row in latest().items() if row["target"]}
    assert targets == {f"experiments:{name}": True for name in QUESTIONS}

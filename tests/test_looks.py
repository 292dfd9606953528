import numpy as np
import pytest
from scipy.stats import norm

from models.looks import bounds, level_at, over_all_looks, spent


def test_five_looks_have_the_published_bounds() -> None:
    """Lan & DeMets' function like O'Brien & Fleming's, two-sided 5 %, as ldbounds' manual has it."""
    assert bounds(0.05, 5) == pytest.approx((4.8769, 3.3569, 2.6803, 2.2898, 2.0310), abs=2e-4)


def test_two_looks_are_the_two_dimensional_normal_integral() -> None:
    from scipy.stats import multivariate_normal

    first, last = bounds(0.05, 2)
    assert 2 * norm.sf(first) == pytest.approx(spent(0.05, 0.5))
    both = multivariate_normal(cov=[[1, np.sqrt(0.5)], [np.sqrt(0.5), 1]])
    inside = both.cdf(np.array([first, last]), lower_limit=np.array([-first, -last]))
    assert 1 - inside == pytest.approx(0.05, abs=1e-4)


def test_one_look_is_the_test_that_everybody_knows() -> None:
    assert bounds(0.05, 1) == pytest.approx((norm.isf(0.025),), abs=1e-6)
    assert level_at(1, 1, 0.05) == level_at(3, None, 0.05) == 0.05
    assert over_all_looks(0.04, 1, 1) == over_all_looks(0.04, 3, None) == 0.04


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("looks", [2, 4, 12])
def test_without_effect_all_looks_together_err_as_often_as_was_allowed(alpha: float, looks: int) -> None:
    steps = np.random.default_rng(looks).standard_normal((100_000, looks))
    z = steps.cumsum(axis=1) / np.sqrt(np.arange(1, looks + 1))
    share = (np.abs(z) > bounds(alpha, looks)).any(axis=1).mean()
    assert share == pytest.approx(alpha, abs=4 * np.sqrt(alpha / 100_000))


@pytest.mark.parametrize(("lasting", "growth"), [(0.0, 1.0), (1.0, 1.0), (3.0, 1.0), (0.5, 1.3)])
def test_listeners_that_come_back_and_a_service_that_grows_err_no_oftener(lasting: float, growth: float) -> None:
    """The bounds rest on equal steps of information; real weeks are of the same listeners, and of more every week."""
    rng = np.random.default_rng(5)
    n_experiments, looks = 2_000, 6
    n_users = [round(30 * growth**n) for n in range(looks)]
    alarmed = np.zeros(n_experiments, np.bool_)
    totals = np.zeros((n_experiments, 2, n_users[-1]))
    lasting_taste = lasting * rng.standard_normal(totals.shape)
    for look, n in enumerate(n_users):
        totals[:, :, :n] += lasting_taste[:, :, :n] + rng.standard_normal((n_experiments, 2, n))
        seen = totals[:, :, :n]
        error = np.sqrt(seen.var(axis=2, ddof=1).sum(axis=1) / n)
        alarmed |= np.abs(seen[:, 0].mean(axis=1) - seen[:, 1].mean(axis=1)) / error > bounds(0.05, looks)[look]
    assert alarmed.mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / n_experiments)


@pytest.mark.parametrize("look", [1, 3, 5])
@pytest.mark.parametrize("alpha", [0.001, 0.03, 0.05, 0.4])
def test_a_p_value_over_all_looks_is_the_alpha_whose_bound_it_meets(look: int, alpha: float) -> None:
    assert over_all_looks(level_at(look, 5, alpha), look, 5) == pytest.approx(alpha, rel=0.02)


def test_a_p_value_over_all_looks_is_never_the_smaller_and_never_none() -> None:
    for p in (0.0, 1e-300, 1e-9, 0.01, 0.5, 1.0):
        for look in (1, 4):
            assert 0 < over_all_looks(p, look, 4) <= 1
            assert over_all_looks(p, look, 4) >= p


def test_a_year_of_looks_is_possible() -> None:
    found = bounds(0.05, 52)
    assert len(found) == 52
    assert sorted(found, reverse=True) == list(found)
    assert found[-1] == pytest.approx(2.13, abs=0.05)

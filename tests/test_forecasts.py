"""The promise of the forecasts, on real charts: few weeks of the many that `make bench ONLY=forecast` goes through."""

from pathlib import Path

import pytest

from features.history import History
from models import forecasters
from models.backtest import backtest, summary, weeks_to_judge
from models.charts import history_from_charts
from models.forecasters import Forecaster

METRICS = ("precision_at_50", "ndcg_at_50", "captured_plays")


@pytest.fixture(scope="module")
def history(listening_data: Path, tmp_path_factory: pytest.TempPathFactory) -> History:
    charts = listening_data / "charts"
    return history_from_charts(charts / "weekly.parquet", charts / "tracks.parquet", tmp_path_factory.mktemp("h"))


def means(history: History, n_weeks: int, **models: Forecaster) -> dict[str, list[float]]:
    """By model, the three metrics in the mean of so many weeks before the last 30 %."""
    judged_elsewhere, _ = weeks_to_judge(history.weeks())
    weeks, _ = weeks_to_judge([week for week in history.weeks() if week < judged_elsewhere[0]], n_weeks)
    judged = backtest(history, weeks, {"naive": forecasters.open_naive, **models})
    return {name: [row[metric] for metric in METRICS] for name, row in summary(judged).items()}


def test_the_network_goes_a_third_of_the_way_from_last_week_again_to_the_bound(history: History) -> None:
    found = means(history, 20, neural=forecasters.neural(seed=0, every_weeks=20))
    for neural, naive, bound in zip(found["neural"], found["naive"], found["bound"], strict=True):
        assert naive < neural < bound
    assert found["neural"][0] >= found["naive"][0] + (found["bound"][0] - found["naive"][0]) / 3


def test_the_linear_model_is_at_least_as_good_as_last_week_again(history: History) -> None:
    found = means(history, 62, linear=forecasters.open_linear)
    assert found["linear"][1] >= found["naive"][1]
    assert found["linear"][2] >= found["naive"][2]

"""The promise of the forecasts, on real charts: few weeks of the many that `make bench ONLY=forecast` goes through."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from models import forecasters
from models.backtest import backtest, by_model, summary, weeks_to_judge
from models.charts import history_from_charts

METRICS = ("precision_at_50", "ndcg_at_50", "captured_plays")


@pytest.fixture(scope="module")
def found(listening_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sequence[float]]:
    """By model, the three metrics in the mean of the 20 weeks before the last 30 %, the network trained once."""
    charts = listening_data / "charts"
    history = history_from_charts(charts / "weekly.parquet", charts / "tracks.parquet", tmp_path_factory.mktemp("h"))
    judged_elsewhere, _ = weeks_to_judge(history.weeks())
    before = [week for week in history.weeks() if week < judged_elsewhere[0]]
    weeks, _ = weeks_to_judge(before, 20)
    models = {
        "naive": forecasters.open_naive,
        "linear": forecasters.open_linear,
        "neural": forecasters.neural(seed=0, every_weeks=20),
    }
    judged = backtest(history, weeks, models)
    assert {name: len(own) for name, own in by_model(judged).items()} == dict.fromkeys((*models, "bound"), 20)
    return {name: [row[metric] for metric in METRICS] for name, row in summary(judged).items()}


def test_the_network_goes_a_third_of_the_way_from_last_week_again_to_the_bound(
    found: dict[str, Sequence[float]],
) -> None:
    for neural, naive, bound in zip(found["neural"], found["naive"], found["bound"], strict=True):
        assert neural > naive
        assert bound > neural
    assert found["neural"][0] >= found["naive"][0] + (found["bound"][0] - found["naive"][0]) / 3


def test_the_linear_model_is_at_least_as_good_as_last_week_again(found: dict[str, Sequence[float]]) -> None:
    assert found["linear"][1] >= found["naive"][1]
    assert found["linear"][2] >= found["naive"][2]

"""What forecasts are worth on real charts, beside a boosted yardstick, and what they cost.

HITPARADE_BENCH_CHARTS names the folder of the charts, weekly.parquet and tracks.parquet (../shared/data/charts).
"""

import os
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.environments import ROOT
from benchmarks.forecast_cost import scoring, training
from benchmarks.yardstick import yardstick
from models import forecasters
from models.backtest import BOUND, NAIVE, Judged, backtest, by_model, summary, weeks_to_judge
from models.charts import history_from_charts
from models.intervals import interval

CHARTS = Path(os.environ.get("HITPARADE_BENCH_CHARTS", ROOT.parent / "shared" / "data" / "charts"))
METRICS = ("precision_at_50", "ndcg_at_50", "captured_plays")
PRECISION = METRICS[0]
SEED, REFIT_EVERY, MOST_S = 0, 8, 20 * 60


def run() -> Iterator[dict[str, Any]]:
    """One row a model, by the code of `hitparade backtest`; then the network's costs. No row where no charts are."""
    weekly, tracks = CHARTS / "weekly.parquet", CHARTS / "tracks.parquet"
    if not (weekly.exists() and tracks.exists()):
        print(
            "forecast: skipped, and its rows left as they are: HITPARADE_BENCH_CHARTS must name a folder with "
            f"{weekly.name} and {tracks.name}",
            file=sys.stderr,
        )
        return
    begun = time.perf_counter()
    with TemporaryDirectory() as folder:
        history = history_from_charts(weekly, tracks, Path(folder))
        weeks, _ = weeks_to_judge(history.weeks())
        models = {
            NAIVE: forecasters.open_naive,
            "linear": forecasters.open_linear,
            "neural": forecasters.neural(SEED, REFIT_EVERY),
            "lightgbm": yardstick(history, weeks, REFIT_EVERY),
        }
        judged = backtest(history, weeks, models)
    yield from _rows(judged)
    seconds = time.perf_counter() - begun
    target = f"all of it in less than {MOST_S:,} s"
    yield {"name": "forecast:backtest", "target": target, "holds": seconds < MOST_S, "seconds": round(seconds)}
    yield training()
    yield scoring()


def _rows(judged: Collection[Judged]) -> Iterator[dict[str, Any]]:
    found = summary(judged)
    targets = {"linear": _linear(found), "neural": _neural(found)}
    for model, row in found.items():
        target, holds = targets.get(model, (None, None))
        del row["model"]
        yield {"name": f"forecast:{model}", "target": target, "holds": holds, **row} | (
            {"vs_lightgbm": _against(judged, model, "lightgbm")} if model == "neural" else {}
        )


def _linear(found: Mapping[str, Mapping[str, Any]]) -> tuple[str, bool]:
    linear, naive = found["linear"], found[NAIVE]
    holds = all(linear[metric] >= naive[metric] for metric in METRICS[1:])
    return "NDCG@50 and captured plays at least naive's", holds


def _neural(found: Mapping[str, Mapping[str, Any]]) -> tuple[str, bool]:
    wanted = found[NAIVE][PRECISION] + (found[BOUND][PRECISION] - found[NAIVE][PRECISION]) / 3
    neural = found["neural"]
    is_surely_better = all(neural["vs_naive"][metric][0] > 0 for metric in METRICS)
    target = f"precision@50 at least {wanted:.4f}, a third of the way from naive to the bound; all intervals above 0"
    return target, neural[PRECISION] >= wanted and is_surely_better


def _against(judged: Collection[Judged], model: str, other: str) -> dict[str, list[float]]:
    """The paired difference of two models, with its interval, by metric."""
    models = by_model(judged)
    pairs = [(a.metrics, b.metrics) for a, b in zip(models[model], models[other], strict=True)]
    return {
        metric: [round(value, 6) for value in interval([a[metric] - b[metric] for a, b in pairs])] for metric in METRICS
    }

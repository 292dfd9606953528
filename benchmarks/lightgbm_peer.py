"""The yardstick's own half, run in a virtual environment that has LightGBM: python lightgbm_peer.py IN.npz OUT.npy.

IN holds the examples (`inputs`, `change`, `week`, a number that grows with time) and, one a forecast, the week `asked`
for and the one it is `fitted_before`. OUT are the changes forecast, of the rows of the asked weeks in turn.
"""

import sys

import lightgbm  # type: ignore[import-not-found]
import numpy as np

ROUNDS = 200
PARAMETERS = {
    "objective": "huber",
    "alpha": 0.5,
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "num_threads": 1,
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


def main() -> None:
    """Fit where the week to fit before changes; forecast week after week."""
    with np.load(sys.argv[1]) as given:
        inputs, change, week = given["inputs"], given["change"], given["week"]
        asked, fitted_before = given["asked"], given["fitted_before"]
    models = {}
    for before in np.unique(fitted_before):
        known = week < before
        models[before] = lightgbm.train(PARAMETERS, lightgbm.Dataset(inputs[known], change[known]), ROUNDS)
    forecasts = [
        models[before].predict(inputs[week == wanted]) for wanted, before in zip(asked, fitted_before, strict=True)
    ]
    np.save(sys.argv[2], np.concatenate(forecasts))


if __name__ == "__main__":
    main()

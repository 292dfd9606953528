import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from features.history import History
from features.table import FEATURES, tables
from models import neural, training
from models.examples import neural_examples
from models.neural import CARD, CURVE, WEIGHTS, Network, Trained, inputs
from models.scoring import ArtefactError, NotEnoughHistory, ScoringError
from tests.builders_history import listening, rows_of, table, weeks, write_week

POPULARITY = FEATURES.index("popularity")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return listening(tmp_path_factory.mktemp("history"), 9)


@pytest.fixture(scope="module")
def trained(history: History) -> Trained:
    return training.train(history, "2023-W09", seed=7)


def test_the_same_history_and_seed_give_the_same_version_and_another_seed_another(
    history: History, trained: Trained
) -> None:
    torch.manual_seed(1)  # what a caller did to torch's own generator is of no account
    again = training.train(history, "2023-W09", seed=7)
    assert again.card == trained.card
    assert again.weights == trained.weights
    assert training.train(history, "2023-W09", seed=8).model.version != trained.model.version


def test_training_leaves_threads_and_random_numbers_as_they_were(history: History) -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    torch.set_num_threads(2)
    try:
        training.train(history, "2023-W06").model.score(table({"a": [1, 2, 3, 4]}))
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.random.get_rng_state(), state)
    finally:
        torch.set_num_threads(threads)


def test_later_weeks_change_nothing_for_an_earlier_list(tmp_path: Path, trained: Trained) -> None:
    longer = listening(tmp_path, 9)
    write_week(longer, "2023-W10", {"t000": 10**6})
    assert training.train(longer, "2023-W09", seed=7).card == trained.card


def test_the_card_says_what_was_learned_from_and_what_it_was_worth(trained: Trained) -> None:
    card = trained.card
    assert (card.first_week, card.last_week, card.holdout_weeks) == ("2023-W05", "2023-W09", ["2023-W09"])
    assert (card.seed, card.epochs, card.left_out) == (7, len(trained.losses), ())
    assert 200 < card.n_rows <= 240
    assert set(card.metrics) == {"neural", "naive"}
    assert card.metrics["naive"]["precision_at_50"] >= 0.8
    assert card.metrics["neural"]["mean_absolute_error"] < 2 * card.metrics["naive"]["mean_absolute_error"]
    assert card.version == trained.model.version
    assert card.version.startswith("2023-W09-")


def test_the_weights_kept_are_those_of_the_epoch_with_the_least_loss_on_the_holdout(
    history: History, trained: Trained
) -> None:
    examples = neural_examples(history, "2023-W09")
    holdout = examples.rows(examples.target_weeks == "2023-W09")
    with torch.inference_mode():
        log_plays = trained.model.network(torch.from_numpy(holdout.features).double())
        loss = training.count_loss(log_plays, torch.from_numpy(holdout.plays)).item()
    losses = [loss for _, loss in trained.losses]
    assert losses[trained.card.best_epoch - 1] == min(losses) < losses[-1]
    assert loss == pytest.approx(min(losses), rel=1e-5)
    assert trained.losses[-1][0] < trained.losses[0][0]


def test_progress_is_told_after_each_epoch(history: History) -> None:
    told: list[tuple[int, int]] = []
    result = training.train(history, "2023-W06", progress=lambda done, most: told.append((done, most)))
    assert told == [(n, training.EPOCHS) for n in range(1, len(result.losses) + 1)]


def test_a_feature_left_out_changes_no_score_and_one_that_is_in_does(history: History) -> None:
    (whole,) = tables(history, weeks(9)[-4:])
    without = training.train(history, "2023-W09", left_out=["energy"])
    other = rows_of(whole, np.arange(len(whole.track_ids)))
    other.features[:, :, FEATURES.index("energy")] = np.linspace(0, 1, len(whole.track_ids))[:, None]
    assert without.card.left_out == ("energy",)
    assert without.model.score(other).tolist() == without.model.score(whole).tolist()
    using = training.train(history, "2023-W09")
    assert using.model.score(other).tolist() != using.model.score(whole).tolist()


def test_only_what_does_not_change_by_the_week_can_be_left_out(history: History) -> None:
    with pytest.raises(ValueError, match=r"found \['plays'\]"):
        training.train(history, "2023-W09", left_out=["plays"])


@pytest.mark.parametrize("n_weeks", [0, 1, 4, 5])
def test_fewer_than_six_weeks_in_a_row_are_too_few(tmp_path: Path, n_weeks: int) -> None:
    with pytest.raises(NotEnoughHistory, match=rf"^needs 6 closed weeks in a row, has {n_weeks}$"):
        training.train(listening(tmp_path, n_weeks), "2023-W09")


def test_six_weeks_are_enough_but_not_without_a_play(tmp_path: Path) -> None:
    assert training.train(listening(tmp_path / "some", 6), "2023-W09").card.n_rows > 0
    silent = History(tmp_path / "silent")
    for week in weeks(6):
        write_week(silent, week, {"a": (0, 1, 1)})
    with pytest.raises(NotEnoughHistory, match="no track was played"):
        training.train(silent, "2023-W09")


def test_many_rows_are_thinned_out_the_same_way_each_time(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "MOST_ROWS", 100)
    monkeypatch.setattr(training, "MOST_HOLDOUT_ROWS", 20)
    card = training.train(history, "2023-W09").card
    assert (card.n_rows, card.n_holdout_rows) == (100, 20)
    assert training.train(history, "2023-W09").card == card


def test_without_what_it_learned_the_network_says_last_week_again() -> None:
    model = neural.NeuralModel(Network().double(), "new")
    plays = {"a": [9, 9, 9, 10_000_019], "b": [1, 1, 1, 0]}
    assert model.score(table(plays)) == pytest.approx([10_000_019, 0], rel=1e-12)


@pytest.mark.parametrize(("bias", "lowest", "highest"), [(-9.0, 0, 0), (1e6, 1e17, 1e18)])
def test_whatever_the_layers_say_plays_are_not_negative_and_finite(bias: float, lowest: float, highest: float) -> None:
    network = Network().double()
    torch.nn.init.constant_(network.get_parameter("layers.4.bias"), bias)
    (score,) = neural.NeuralModel(network, "new").score(table({"a": [1, 2, 3, 4]}))
    assert lowest <= score <= highest


def test_weights_that_are_not_finite_are_a_scoring_error() -> None:
    network = Network().double()
    torch.nn.init.constant_(network.get_parameter("layers.4.bias"), float("nan"))
    with pytest.raises(ScoringError, match="1 of 1 scores are not finite"):
        neural.NeuralModel(network, "new").score(table({"a": [1, 2, 3, 4]}))


def test_the_inputs_are_named_in_their_order() -> None:
    features = torch.zeros(1, 4, len(FEATURES))
    features[0, 2, POPULARITY] = 3.0
    features[0, 1, FEATURES.index("skips")] = 6.0
    features[0, :, FEATURES.index("tempo")] = float("nan")
    (found,) = inputs(features).tolist()
    assert len(found) == len(neural.INPUTS) == 72 + 15
    assert [(n, neural.INPUTS[n]) for n, x in enumerate(found) if x == 3.0] == [(30, "popularity")]
    assert [neural.INPUTS[n] for n, x in enumerate(found) if 1.9 < x < 2] == ["skips"]
    assert [neural.INPUTS[n] for n, x in enumerate(found) if x != x] == ["tempo"] * 4
    assert [neural.INPUTS[n] for n, x in enumerate(found) if x == 1.0] == ["tempo"]


def test_a_saved_model_is_read_back_with_the_same_scores(history: History, trained: Trained, tmp_path: Path) -> None:
    trained.save(tmp_path)
    (whole,) = tables(history, weeks(9)[-4:])
    found = neural.load(tmp_path)
    assert found.version == trained.model.version
    assert found.score(whole).tolist() == trained.model.score(whole).tolist()
    assert (tmp_path / CURVE).read_bytes().startswith(b"\x89PNG")


def _truncate(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def _empty(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")


def _flip(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)


def _reshape(folder: Path) -> None:
    weights = Network().state_dict() | {"layers.0.weight": torch.zeros(3, 72)}
    safetensors.torch.save_file(weights, folder / WEIGHTS)


def _other_card(folder: Path) -> None:
    (folder / CARD).write_text(json.dumps({"form": 2}), encoding="utf-8")


def _unlink(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [
        (_unlink(WEIGHTS), "weights.safetensors is missing"),
        (_unlink(CARD), "card.json is missing"),
        (_truncate, "weights.safetensors is not a safetensors file: "),
        (_empty, "weights.safetensors is not a safetensors file: "),
        (_reshape, "weights.safetensors is of another form: expected {'inverse_scale': [87], 'layers.0.bias': [64], "),
        (_flip, "weights.safetensors is not the file that card.json describes as version 2023-W09-"),
        (_other_card, "card.json is not a Card: form: Input should be 1; version: Field required; "),
    ],
)
def test_a_broken_artefact_is_refused_with_its_fault_but_no_folder(
    trained: Trained, tmp_path: Path, breaks: Callable[[Path], None], reason: str
) -> None:
    trained.save(tmp_path)
    breaks(tmp_path)
    with pytest.raises(ArtefactError) as error:
        neural.load(tmp_path)
    assert str(error.value).startswith(reason)
    assert str(tmp_path) not in str(error.value)

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from features.context import CONTEXT
from features.history import History
from features.table import FEATURES, tables
from models import neural, training
from models.artefact import CARD, CARD_TEXT, CURVE, TRIAL, WEIGHTS
from models.cards import Card
from models.examples import neural_examples
from models.neural import Network, Trained, inputs
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
    assert (card.n_weeks, card.n_tracks) == (5, 60)
    assert 200 < card.n_rows <= 300
    assert set(card.metrics) == {"neural", "naive"}
    assert card.metrics["naive"]["precision_at_50"] >= 0.8
    difference = card.metrics["neural"]["mean_absolute_error"] - card.metrics["naive"]["mean_absolute_error"]
    assert card.vs_naive["mean_absolute_error"] == pytest.approx((difference,) * 3)
    assert card.version == trained.model.version
    assert card.version.startswith("2023-W09-")


def test_the_trial_is_of_the_epoch_with_the_least_loss_on_the_weeks_held_out(
    history: History, trained: Trained
) -> None:
    examples = neural_examples(history, "2023-W09")
    holdout = examples.rows(examples.target_weeks == "2023-W09")
    network = Network()
    network.load_state_dict(safetensors.torch.load(trained.trial))
    change = holdout.levels - holdout.context[:, neural.LEVEL]
    features, context = torch.from_numpy(holdout.features), torch.from_numpy(holdout.context)
    with torch.inference_mode():
        found = network.changes(network.standardised(features, context)).mean(dim=0).numpy()
    off = np.abs(found - (change - np.median(change)).clip(-2, 2))
    loss = np.where(off < 0.2, off**2 / 0.4, off - 0.1).mean()
    losses = [loss for _, loss in trained.losses]
    assert losses[trained.card.best_epoch - 1] == min(losses)
    assert loss == pytest.approx(min(losses), rel=1e-4)


def test_the_trial_has_not_seen_the_weeks_held_out_and_the_network_in_use_has(tmp_path: Path, trained: Trained) -> None:
    other = listening(tmp_path, 9)
    write_week(other, "2023-W09", {f"t{n:03}": (300 - n, 9, 1) for n in range(60)})
    found = training.train(other, "2023-W09", seed=7)
    fitted, held_out = zip(*trained.losses, strict=True)
    assert [loss for loss, _ in found.losses] == list(fitted)
    assert [loss for _, loss in found.losses] != list(held_out)
    in_use, trial = safetensors.torch.load(trained.weights), safetensors.torch.load(trained.trial)
    assert in_use["mean"].tolist() != trial["mean"].tolist()
    assert in_use["calibration"] == trial["calibration"] != 0


def test_the_network_in_use_has_learned_from_the_weeks_held_out(tmp_path: Path) -> None:
    history = listening(tmp_path, 9)
    write_week(history, "2023-W09", {f"t{n:03}": (400 if n % 7 else 9, 9, 1) for n in range(60)})
    found = training.train(history, "2023-W09", seed=7)
    examples = neural_examples(history, "2023-W09")
    holdout = examples.rows(examples.target_weeks == "2023-W09")
    features, context = torch.from_numpy(holdout.features), torch.from_numpy(holdout.context)
    losses = []
    for weights in (found.weights, found.trial):
        network = Network()
        network.load_state_dict(safetensors.torch.load(weights))
        change = training._tensors(network, holdout)[1]
        losses.append(training._loss(network, network.standardised(features, context), change))
    assert found.card.best_epoch > 0
    assert losses[0] < 0.9 * losses[1]


def test_forecasts_of_the_first_fifty_places_of_the_holdout_sum_up_to_their_plays(
    history: History, trained: Trained
) -> None:
    examples = neural_examples(history, "2023-W09")
    holdout = examples.rows((examples.target_weeks == "2023-W09") & (examples.context[:, neural.LEVEL] >= 0))
    assert 50 <= len(holdout.plays) < 60
    network = Network()
    network.load_state_dict(safetensors.torch.load(trained.trial))
    forecast = neural.predict(network.double(), holdout.features, holdout.context)
    assert forecast.sum() == pytest.approx(holdout.plays.sum(), rel=1e-4)


def test_what_lifts_all_tracks_alike_is_not_learned() -> None:
    weeks = np.array(["a", "a", "a", "b", "b"], object)
    found = training._untided(np.array([1.0, 2.0, 6.0, -1.0, -3.0], np.float32), weeks)
    assert found.tolist() == [-1.0, 0.0, 4.0, 1.0, -1.0]


def test_each_member_learns_as_if_it_were_alone() -> None:
    changes = torch.zeros(neural.MEMBERS, 3, requires_grad=True)
    torch.autograd.backward(training._losses(changes, torch.tensor([1.0, 1.0, 1.0])))
    assert changes.grad is not None
    assert changes.grad.numpy() == pytest.approx(-1 / 3)


def test_progress_is_told_after_each_epoch(history: History) -> None:
    told: list[tuple[int, int]] = []
    result = training.train(history, "2023-W06", progress=lambda done, most: told.append((done, most)))
    most = training.EPOCHS
    trial = [(n, 2 * most) for n in range(1, most + 1)]
    assert told == [*trial, *((most + n, most + result.card.best_epoch) for n in range(1, result.card.best_epoch + 1))]


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
    card = training.train(history, "2023-W09").card
    assert card.n_rows == 100
    assert training.train(history, "2023-W09").card == card


def test_without_what_it_learned_the_network_says_last_week_again() -> None:
    model = neural.NeuralModel(Network().double(), "new")
    plays = {"a": [9, 9, 9, 10_000_019], "b": [1, 1, 1, 4], "c": [1, 1, 1, 0], "d": [0, 0, 0, 0]}
    half_the_least = 2
    assert model.score(table(plays)) == pytest.approx([10_000_019, 4, half_the_least, 0], rel=1e-6)


@pytest.mark.parametrize(("bias", "lowest", "highest"), [(-900.0, 0, 0), (1e6, 1e17, 1e18)])
def test_whatever_the_layers_say_plays_are_not_negative_and_finite(bias: float, lowest: float, highest: float) -> None:
    network = Network().double()
    torch.nn.init.constant_(network.get_parameter("last.bias"), bias)
    (score,) = neural.NeuralModel(network, "new").score(table({"a": [1, 2, 3, 4]}))
    assert lowest <= score <= highest


def test_weights_that_are_not_finite_are_a_scoring_error() -> None:
    network = Network().double()
    torch.nn.init.constant_(network.get_parameter("last.bias"), float("nan"))
    with pytest.raises(ScoringError, match="1 of 1 scores are not finite"):
        neural.NeuralModel(network, "new").score(table({"a": [1, 2, 3, 4]}))


def test_the_inputs_are_named_in_their_order() -> None:
    features = torch.zeros(1, 4, len(FEATURES))
    features[0, 3, POPULARITY] = 3.0
    features[0, 1, FEATURES.index("skips")] = 6.0
    features[0, :, FEATURES.index("tempo")] = float("nan")
    context = torch.zeros(1, len(CONTEXT))
    context[0, CONTEXT.index("week_of_year")] = 51.0
    context[0, CONTEXT.index("peak_level")] = 5.0
    context[0, CONTEXT.index("place_plays")] = 99.0
    (found,) = inputs(features, context).tolist()
    assert len(found) == len(neural.INPUTS) == 15 + 15 + 8 + 20 + 53
    named = dict(zip(neural.INPUTS, found, strict=True))
    assert len(named) == len(found)
    assert {name: value for name, value in named.items() if value and value == value} == {
        "popularity": 3.0,
        "skips a play, week 2": 6.0,
        "peak_level": 5.0,
        "tempo is missing": 1.0,
        "week 51 of the year": 1.0,
    }
    assert [name for name, value in named.items() if value != value] == ["tempo"]


def test_a_saved_model_is_read_back_with_the_same_scores(history: History, trained: Trained, tmp_path: Path) -> None:
    trained.save(tmp_path)
    (whole,) = tables(history, weeks(9)[-4:])
    found = neural.load(tmp_path)
    assert found.version == trained.model.version
    assert found.score(whole).tolist() == trained.model.score(whole).tolist()
    assert (tmp_path / CARD_TEXT).read_text(encoding="utf-8").startswith(f"# neural {found.version}")
    assert Card.model_validate_json((tmp_path / CARD).read_bytes()) == trained.card
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
    weights = Network().state_dict() | {"first.weight": torch.zeros(3, 72)}
    safetensors.torch.save_file(weights, folder / WEIGHTS)


def _other_card(folder: Path) -> None:
    (folder / CARD).write_text(json.dumps({"form": 1}), encoding="utf-8")


def _unlink(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def test_the_trial_is_read_back_too_and_is_another_network(history: History, trained: Trained, tmp_path: Path) -> None:
    trained.save(tmp_path)
    (whole,) = tables(history, weeks(9)[-4:])
    assert neural.load(tmp_path, TRIAL).score(whole).tolist() != neural.load(tmp_path).score(whole).tolist()
    (tmp_path / TRIAL).write_bytes((tmp_path / WEIGHTS).read_bytes())
    with pytest.raises(ArtefactError, match=r"^trial.safetensors is not the file that card.json describes as version"):
        neural.load(tmp_path, TRIAL)


def test_what_nobody_has_played_for_four_weeks_is_forecast_at_nothing(history: History, trained: Trained) -> None:
    (whole,) = tables(history, weeks(9)[-4:])
    quiet = rows_of(whole, np.arange(len(whole.track_ids)))
    quiet.counts[:5] = 0
    assert trained.model.score(quiet)[:5].tolist() == [0.0] * 5
    assert trained.model.score(quiet)[5:] == pytest.approx(trained.model.score(whole)[5:], rel=1e-12)


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [
        (_unlink(WEIGHTS), "weights.safetensors is missing"),
        (_unlink(CARD), "card.json is missing"),
        (_truncate, "weights.safetensors is not a safetensors file: "),
        (_empty, "weights.safetensors is not a safetensors file: "),
        (_reshape, "weights.safetensors is of another form: expected {'calibration': [], 'first.bias': [6, 1, 48], "),
        (_flip, "weights.safetensors is not the file that card.json describes as version 2023-W09-"),
        (_other_card, "card.json is not a Card: form: Input should be 2; version: Field required; "),
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

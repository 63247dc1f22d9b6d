"""Reconstruction beside contrast, and the embedder that was best on `val`."""

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from peace.augmentations import Augmentation
from peace.augmentations.crossover import Crossover
from peace.augmentations.noise import Noise
from peace.augmentations.permutation import Permutation
from peace.augmentations.random_erasing import RandomErasing
from peace.errors import InputError, PeaceError
from peace.graph.sequences import squared_distances, vector
from peace.training import selection
from peace.training.fit import CHECKPOINT, fit
from peace.training.module import Contrastive, OptimizerConfig
from peace.training.sampler import SamplerConfig

Make = Callable[..., object]
ENCODER = ("encoder=neuron_transformer", "encoder.max_row=65", "encoder.feedforward_dim=16", "graph=raw")
AUGMENTATIONS = [Permutation(), RandomErasing(1.0), Noise(0.05, relative=False)]
STEPS, EPOCH = 10, 4


class Killed(Exception):
    pass


@pytest.fixture
def data(make_data: Make) -> Make:
    return lambda **given: make_data(augmentations=AUGMENTATIONS, sampler=SamplerConfig(6, "model"), **given)


def module(make_module: Make, beta: float = 0.5, learning_rate: float = 3e-3) -> Contrastive:
    return make_module(*ENCODER, beta=beta, optimizer=OptimizerConfig("adam", learning_rate, 1e-9))


def logs(run: Path) -> pd.DataFrame:
    parts = [pd.read_csv(path) for path in sorted(run.glob("logs/*/metrics.csv"))]
    return pd.concat(parts).groupby("step").last().drop(columns="epoch")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_loss_is_reconstruction_and_contrast_in_their_shares(data: Make, make_module: Make) -> None:
    views = data().views(0)
    for beta in (0.25, 1.0):
        made = module(make_module, beta).eval()
        made.log = lambda *given, **also: None
        parts = made.parts(views)
        _, decoded = made.embedder.autoencode(views.pairs)
        assert parts["reconstruction"].item() == pytest.approx(
            squared_distances(decoded, views.originals).mean().item()
        )
        assert ("contrastive" in parts) == (beta < 1)
        expected = beta * parts["reconstruction"] + (1 - beta) * parts.get("contrastive", torch.tensor(0.0))
        assert made.training_step(views, 0).item() == pytest.approx(expected.item())


def test_a_view_is_compared_with_what_it_was_before_it_was_erased(data: Make) -> None:
    views = data().views(0)
    for seen, original in zip(views.pairs, views.originals, strict=True):
        assert (vector(seen) != vector(original)).any(1).all()
        first, second = (part.abs().sort(1).values for part in vector(original).chunk(2))
        assert torch.equal(first, second), "both are the model, renumbered"


def test_views_of_its_own_are_all_that_the_decoder_learns_from(data: Make, make_module: Make) -> None:
    made = module(make_module).eval()
    views, pairs = data(decoded=[Crossover(1.0), Permutation()]).views(0), data().views(0)
    assert [2 * len(stack) for stack in views.decoded] == [len(stack) for stack in views.pairs]
    plain = data(decoded=[Permutation()]).views(0)
    for seen, original, uncrossed in zip(views.decoded, views.originals, plain.originals, strict=True):
        assert torch.equal(vector(seen), vector(original)), "crossed and renumbered is what it should give back"
        assert (vector(original).sort(1).values != vector(uncrossed).sort(1).values).any()
    parts, usual = made.parts(views), made.parts(pairs)
    decoded = made.embedder.autoencode(views.decoded)[1]
    assert parts["reconstruction"].item() == pytest.approx(squared_distances(decoded, views.originals).mean().item())
    assert parts["contrastive"].item() == pytest.approx(usual["contrastive"].item())
    assert parts["reconstruction"].item() != pytest.approx(usual["reconstruction"].item())


def test_the_best_embedder_is_taken(run: Path, data: Make, make_module: Make, make_trainer: Make) -> None:
    made = module(make_module)
    fit(made, data(), make_trainer(patience=9), run)
    looks = logs(run)["val/loss"].dropna()
    assert looks.index.tolist() == [3, 7, 9], "after every epoch, and at the end"
    kept = torch.load(run / CHECKPOINT, weights_only=True)["callbacks"]["Selection"]
    assert kept["best"] == pytest.approx(looks.min()) and same(made.embedder.state_dict(), kept["weights"])
    last = torch.load(run / CHECKPOINT, weights_only=True)["state_dict"]
    prefix = "embedder."
    is_last = same(kept["weights"], {k.removeprefix(prefix): v for k, v in last.items() if k.startswith(prefix)})
    assert is_last == (looks.idxmin() == 9)


@pytest.mark.parametrize("decoded", [None, [Crossover(1.0)]])
def test_a_look_finds_what_is_found_by_hand(
    run: Path, data: Make, make_module: Make, make_trainer: Make, decoded: list[Augmentation] | None
) -> None:
    made = module(make_module)
    fit(made, data(decoded=decoded), make_trainer(patience=9, max_steps=EPOCH), run)
    made.eval()
    looks = data(decoded=decoded).looks(2048)
    with torch.no_grad():
        losses = [made.total(made.parts(views)).item() for views in looks]
        pairs = [(made.embedder.autoencode(views.originals)[1], views.originals) for views in looks]
    sizes = [len(views.facts.groups) for views in looks]
    assert sum(sizes) == len(data().pool("val").rows) and max(sizes) == 6
    found = logs(run).loc[EPOCH - 1]
    expected = sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)
    assert found["val/loss"] == pytest.approx(expected, rel=1e-5)
    errors = sum(squared_distances(*pair).sum() for pair in pairs)
    deviations = sum((vector(stack) - vector(stack).mean(0)).square().sum() for _, stacks in pairs for stack in stacks)
    assert found["val/r2"] == pytest.approx(1 - (errors / deviations).item(), rel=1e-4)


def test_training_ends_where_it_no_longer_gets_better(
    run: Path, data: Make, make_module: Make, make_trainer: Make
) -> None:
    still = module(make_module, learning_rate=0.0)
    steps, device = fit(still, data(), make_trainer(patience=1), run)
    assert device == "cpu"
    assert torch.load(run / CHECKPOINT, weights_only=True)["global_step"] == 2 * EPOCH < STEPS
    assert fit(module(make_module, learning_rate=0.0), data(), make_trainer(patience=1), run) == (steps, None)


def test_a_val_that_is_never_finite_is_told(
    run: Path, data: Make, make_module: Make, make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "look", lambda *_: {"loss": math.nan})
    with pytest.raises(PeaceError, match="the loss on val was never finite"):
        fit(module(make_module), data(), make_trainer(patience=1), run)


@pytest.mark.parametrize("at", [4, 5, 8])
def test_a_killed_training_chooses_what_an_uninterrupted_one_does(
    at: int, run: Path, data: Make, make_module: Make, make_trainer: Make
) -> None:
    whole, made = module(make_module), module(make_module)
    fit(whole, data(), make_trainer(patience=2), run.with_name("whole"))

    start = made.on_train_batch_start

    def killed(*given: object) -> None:
        if made.global_step == at:
            raise Killed
        start(*given)

    made.on_train_batch_start = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        fit(made, data(), make_trainer(patience=2), run)
    again = module(make_module)
    fit(again, data(), make_trainer(patience=2), run)
    assert same(again.embedder.state_dict(), whole.embedder.state_dict())
    pd.testing.assert_frame_equal(logs(run), logs(run.with_name("whole")), check_exact=True, check_like=True)


def test_every_checkpoint_may_stand_beside_every_other(make_data: Make) -> None:
    data = make_data(sampler=SamplerConfig(20, "model"))
    batches = torch.cat([data.sampler.batch(step) for step in range(40)])
    assert len(data.sampler.batch(0)) == 20 == len(data.sampler.batch(0).unique())
    assert len(batches.unique()) == len(data.train.rows)
    runs = data.train.kinship.runs[data.sampler.batch(0)]
    assert len(runs.unique()) < 20, "two checkpoints of one run"


def test_what_an_encoder_cannot_decode_is_refused(make_module: Make) -> None:
    with pytest.raises(InputError, match="the encoder has no decoder"):
        make_module("encoder=raw", beta=0.5)

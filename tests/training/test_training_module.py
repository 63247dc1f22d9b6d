import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from peace.augmentations.near_duplicate import NearDuplicate
from peace.errors import InputError
from peace.losses.bank import Bank
from peace.losses.pairs import Pairs
from peace.metrics.effective_rank import effective_rank
from peace.metrics.knn import knn_accuracy
from peace.registry import arguments
from peace.training.data import ZooData
from peace.training.fit import fit
from peace.training.module import Contrastive, OptimizerConfig
from peace.training.pool import Views

Make = Callable[..., object]

TARGETS = ["regression.targets=[test_accuracy, epoch]"]


@pytest.fixture
def views(make_data: Callable[..., ZooData]) -> Views:
    return make_data(targets=["test_accuracy", "epoch"]).views(0)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_the_loss_is_contrast_and_weighted_regression(views: Views, make_module: Make) -> None:
    module: Contrastive = make_module(*TARGETS, weight=0.7).eval()
    embeddings = module.embedder.embed(views.pairs).detach()
    projections = F.normalize(module.embedder.project(embeddings), dim=1).detach()
    # Each stack holds n first views, then the n second ones.
    order, start = [], 0
    for stack in views.pairs:
        half = len(stack) // 2
        order += [(start + place, start + half + place) for place in range(half)]
        start += len(stack)
    contrast = 0.0
    for pair in order:
        for one, other in (pair, pair[::-1]):
            row = [
                math.exp(float(projections[one] @ projections[k]) / 0.1) for k in range(len(projections)) if k != one
            ]
            contrast -= math.log(math.exp(float(projections[one] @ projections[other]) / 0.1) / sum(row)) / (
                2 * len(order)
            )
    predictions = module.embedder.predict(embeddings)
    errors = [
        (p - t) ** 2 for p, t in zip(predictions.flatten().tolist(), views.targets.flatten().tolist(), strict=True)
    ]
    assert len(errors) == 2 * len(embeddings)
    expected = contrast + 0.7 * sum(errors) / len(errors)
    assert module.training_step(views, 0).item() == pytest.approx(expected, rel=1e-5)
    module.regression_weight = 0.0
    assert module.training_step(views, 0).item() == pytest.approx(contrast, rel=1e-5)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_both_heads_learn(views: Views, make_module: Make) -> None:
    module: Contrastive = make_module(*TARGETS, weight=0.7)
    module.training_step(views, 0).backward()
    missing = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_without_targets_there_is_no_regression(make_data: Callable[..., ZooData], make_module: Make) -> None:
    module: Contrastive = make_module(weight=0.7)
    views = make_data().views(0)
    assert module.embedder.regressor is None and views.targets.shape[1] == 0
    assert module.training_step(views, 0).isfinite()


@pytest.mark.parametrize(
    ("steps", "share", "warmup"), [(20, 0.2, 4), (10, 0.0, 1), (7, 0.5, 4), (1, 0.1, 1), (4, 1.0, 4)]
)
def test_the_learning_rate_warms_up_and_falls_as_a_cosine(
    make_module: Make, steps: int, share: float, warmup: int
) -> None:
    module: Contrastive = make_module(
        optimizer=OptimizerConfig(learning_rate=0.3, weight_decay=0.2, warmup_share=share)
    )
    module.total_steps = steps
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert isinstance(optimizer, torch.optim.AdamW) and optimizer.param_groups[0]["weight_decay"] == 0.2
    assert made["lr_scheduler"]["interval"] == "step"
    assert sum(p.numel() for p in optimizer.param_groups[0]["params"]) == sum(p.numel() for p in module.parameters())
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    rise = [0.3 * (step + 1) / warmup for step in range(min(warmup, steps))]
    fall = [0.3 * math.cos(math.pi / 2 * (step - warmup) / (steps - warmup)) ** 2 for step in range(warmup, steps)]
    assert found == pytest.approx([*rise, *fall], rel=1e-12)


def test_an_unknown_optimiser_is_refused() -> None:
    with pytest.raises(InputError, match="wrong type in optimizer, key 'name': got 'sgd'"):
        arguments(OptimizerConfig, {"name": "sgd"}, "optimizer")


def test_the_gauges_are_those_of_the_val_embeddings(
    run: Path, make_module: Make, make_data: Callable[..., ZooData], make_trainer: Make
) -> None:
    module, data = make_module(), make_data()
    fit(module, data, make_trainer(max_steps=4), run)
    (path,) = run.glob("logs/*/metrics.csv")
    logged = pd.read_csv(path).groupby("step").last().loc[3]
    (probe,) = data.val_dataloader()
    with torch.no_grad():
        embeddings = F.normalize(module.eval().embedder.embed(probe.stacks), dim=1)
    assert logged["val/effective_rank"] == pytest.approx(float(effective_rank(embeddings)), rel=1e-5)
    assert logged["val/knn"] == pytest.approx(float(knn_accuracy(embeddings, probe.tasks, probe.runs, 5)), abs=1e-6)


def test_the_logged_loss_is_that_of_the_step(
    run: Path, make_module: Make, make_data: Callable[..., ZooData], make_trainer: Make, views: Views
) -> None:
    data = make_data(targets=["test_accuracy", "epoch"])
    words = [*TARGETS, "aggregator.dropout=0.0"]
    fit(make_module(*words, weight=0.7), data, make_trainer(max_steps=1), run)
    (path,) = run.glob("logs/*/metrics.csv")
    logged = pd.read_csv(path).loc[0]
    module: Contrastive = make_module(*words)
    embeddings = module.embedder.embed(views.pairs)
    contrast = module.loss(Pairs(*views.split(module.embedder.project(embeddings)), views.facts)).item()
    error = F.mse_loss(module.embedder.predict(embeddings), views.targets).item()
    assert logged["train/contrastive"] == pytest.approx(contrast, rel=1e-5)
    assert logged["train/regression"] == pytest.approx(error, rel=1e-5)
    assert logged["train/loss"] == pytest.approx(contrast + 0.7 * error, rel=1e-5)


def test_dropout_is_a_function_of_seed_and_step(views: Views, make_module: Make) -> None:
    draws = []
    for seed in (5, 5, 6):
        module: Contrastive = make_module()
        module.seed = seed
        torch.manual_seed(len(draws))
        module.on_train_batch_start(views, 0)
        draws.append(torch.rand(3).tolist())
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_the_bank_is_filled_in_training_only_and_after_the_gradients(
    make_data: Callable[..., ZooData], make_module: Make
) -> None:
    data, bank = make_data(augmentations=[NearDuplicate()], value="test_accuracy"), Bank(8, 8)
    module: Contrastive = make_module("aggregator.dropout=0.0", bank=bank)
    first, second = data.views(0), data.views(1)
    (probe,) = data.val_dataloader()
    with torch.no_grad():
        module.validation_step(probe, 0)
    assert bank.taken == 0
    module.training_step(first, 0).backward()
    assert bank.taken == 0
    module.on_after_backward()
    module.on_after_backward()
    projections = first.split(module.embedder.project(module.embedder.embed(first.pairs)))[1].detach()
    assert bank.taken == 6 and torch.equal(bank.memory().facts.groups, first.facts.groups)
    assert torch.equal(bank.memory().facts.values, first.partners.values)
    assert not torch.equal(first.partners.values, first.facts.values)
    torch.testing.assert_close(bank.memory().vectors, F.normalize(projections, dim=1))
    views = second.split(module.embedder.project(module.embedder.embed(second.pairs)))
    expected = module.loss(Pairs(*views, second.facts, bank.memory())).item()
    loss = module.training_step(second, 1)
    assert loss.item() == pytest.approx(expected, rel=1e-6) != module.loss(Pairs(*views, second.facts)).item()
    loss.backward()
    module.on_after_backward()
    assert bank.taken == 12 and len(bank.memory().vectors) == 8


def test_a_run_fills_its_bank(
    run: Path, make_module: Make, make_data: Callable[..., ZooData], make_trainer: Make
) -> None:
    module: Contrastive = make_module(bank=Bank(50, 8))
    fit(module, make_data(), make_trainer(max_steps=3), run)
    assert module.bank.taken == 18 and (module.bank.memory().vectors.norm(dim=1) - 1).abs().max() < 1e-5
    saved = torch.load(run / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(saved["bank.vectors"], module.bank.vectors) and saved["bank.taken"] == 18

"""What each of two processes does in the tests: gradients of shares, and a training that is stopped and goes on."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from peace.augmentations.crossover import Crossover
from peace.augmentations.erasing import Erasing
from peace.augmentations.near_duplicate import NearDuplicate
from peace.augmentations.noise import Noise
from peace.config import compose
from peace.interruption import Interrupted
from peace.losses import LOSSES
from peace.losses.bank import Bank
from peace.models.embedder import build_embedder
from peace.training.data import ZooData
from peace.training.fit import TrainerConfig, fit
from peace.training.module import Contrastive, OptimizerConfig
from peace.training.pool import Views
from peace.training.sampler import SamplerConfig
from peace.zoo.storage import Zoo

TARGETS = ["test_accuracy", "epoch"]
PROJECTION_DIM, BANK = 8, 7
STEPS, STOP = 6, 3

ZOO = [
    "zoo.seeds=2", "zoo.subset_count=3", "zoo.subset_size=3", "zoo.held_out=1", "zoo.epochs=1", "zoo.checkpoints=[1]",
    "zoo.learning_rates=[0.005]", "zoo.batch_size=64", "zoo.val_share=0.25", "zoo.test_share=0.25",
]  # fmt: skip
WORDS = [
    *ZOO, "trainer=demo", "trainer.max_steps=4", "trainer.steps_per_epoch=2", "trainer.log_every=1",
    "encoder.hidden_dim=8", "aggregator=mean", "aggregator.embedding_dim=16", "head.hidden_dim=8",
    "head.projection_dim=8", "sampler.batch_size=5",
]  # fmt: skip
_WORDS = [
    "encoder.hidden_dim=8", "encoder.num_layers=1", "aggregator.embedding_dim=16", "aggregator.num_layers=1",
    "head.hidden_dim=16", f"head.projection_dim={PROJECTION_DIM}", f"regression.targets=[{','.join(TARGETS)}]",
    "decoder.beta=0.3",
]  # fmt: skip


def make_module(dropout: float = 0.0, loss: str = "nt_xent", bank: bool = False) -> Contrastive:
    """The same module each time."""
    torch.manual_seed(0)
    embedder = build_embedder(compose("pretrain", [*_WORDS, f"aggregator.dropout={dropout}"]))
    return Contrastive(
        embedder, LOSSES.build({"name": loss, "learned_temperature": bank}), OptimizerConfig(learning_rate=1e-3),
        STEPS, seed=5, regression_weight=0.7, bank=Bank(BANK, PROJECTION_DIM) if bank else None, beta=0.3,
    )  # fmt: skip


def make_data(zoo: str, batch_size: int) -> ZooData:
    """The same data each time."""
    augmentations = [NearDuplicate(), Erasing(0.15), Noise(0.15)]
    sampler = SamplerConfig(batch_size)
    decoded = [Crossover(1.0)]
    return ZooData(Zoo.open(Path(zoo)), augmentations, sampler, 2, 3, TARGETS, "task", "test_accuracy", decoded)


def batches(zoo: str) -> dict[str, Views]:
    """Batches in float64 by the number of pairs of the MLP and of the CNN, which stands last."""
    found = {}
    for size in (3, 5):
        data = make_data(zoo, size)
        for views in map(data.views, range(60)):
            counts = {stack.graph.layers[0].kind: len(stack) // 2 for stack in views.pairs}
            name = f"{counts.get('linear', 0)} and {counts.get('conv', 0)}"
            pairs, decoded, originals = (
                [stack.to(torch.float64) for stack in part] for part in (views.pairs, views.decoded, views.originals)
            )
            numbers = {"pairs": pairs, "decoded": decoded, "originals": originals, "targets": views.targets.double()}
            found.setdefault(name, replace(views, **numbers))
    return {name: found[name] for name in ("3 and 2", "2 and 1", "3 and 0")}


class Forward(nn.Module):
    """The loss of a batch as a forward pass, which is what `DistributedDataParallel` wraps."""

    def __init__(self, loss: str = "nt_xent", bank: bool = False) -> None:
        super().__init__()
        self.module = make_module(loss=loss, bank=bank).double()

    def forward(self, views: Views) -> Tensor:
        return self.module.training_step(views, 0)


def outcome(model: nn.Module, *batches: Views) -> dict[str, Tensor | None]:
    """The loss and every parameter's gradient of the last of some batches, and what the bank holds after it."""
    module = next(part for part in model.modules() if isinstance(part, Contrastive))
    for views in batches:
        model.zero_grad()
        loss = model(views)
        loss.backward()
        module.on_after_backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    return {"loss": loss.detach(), **gradients, **dict(module.named_buffers())}


CASES = [
    (name, bank)
    for name in LOSSES.names()
    for bank in (False, True)
    if not bank or LOSSES.build({"name": name}).negatives
]
"""Every loss, without and with a bank if it has negatives, the temperature being learned there."""


def outcomes(
    batches: dict[str, Views], wrap: Callable[[nn.Module], nn.Module], share: Callable[[Views], Views]
) -> dict[str, dict[str, Tensor | None]]:
    """What becomes of one batch by loss and bank; where there is a bank, it knows the models of two other batches."""
    found = {}
    for name, bank in CASES:
        seen = ["2 and 1", "3 and 0", "3 and 2"] if bank else ["3 and 2"]
        found[f"{name}, {bank}"] = outcome(wrap(Forward(name, bank)), *(share(batches[key]) for key in seen))
    return found


class Signalled(Contrastive):
    """A module that gets a SIGTERM at the start of one step."""

    def on_train_batch_start(self, batch: Views, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        if self.global_step == STOP:
            os.kill(os.getpid(), signal.SIGTERM)


def train(zoo: str, run: Path, signalled: bool = False) -> str:
    """Trains, with dropout, and returns how it ended."""
    module = make_module(dropout=0.2, bank=True)
    if signalled:
        module.__class__ = Signalled
    config = TrainerConfig(max_steps=STEPS, steps_per_epoch=2, accelerator="cpu", devices=2, checkpoint_every=100,
                           log_every=1, progress=False)  # fmt: skip
    try:
        fit(module, make_data(zoo, 5), config, run)
        return "done"
    except Interrupted as stop:
        return f"{stop.exit_code}: {stop}"


def run(config: dict[str, Any]) -> None:
    """Writes what this process found to `<out>/<rank>.pt`."""
    out, rank = Path(config["out"]), int(os.environ["LOCAL_RANK"])
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    found: dict[str, Any] = {}
    drawn = batches(config["zoo"])

    def wrap(model: nn.Module) -> nn.Module:
        return DistributedDataParallel(model, find_unused_parameters=True, broadcast_buffers=False)

    for name, views in drawn.items():
        found[name] = outcome(wrap(Forward()), views.share(rank, 2))
    found |= outcomes(drawn, wrap, lambda views: views.share(rank, 2))
    # The second process is one that PEACE started, which sees no signal; one that Slurm started does.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    found["whole"] = train(config["zoo"], out / "whole")
    found["stopped"] = train(config["zoo"], out / "parts", signalled=rank == 1)
    found["resumed"] = train(config["zoo"], out / "parts")
    torch.save(found, out / f"{rank}.pt")

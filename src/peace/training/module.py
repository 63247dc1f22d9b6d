"""The LightningModule: contrast between two views, optionally reconstruction and regression, and gauges on `val`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import lightning as L
import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from peace import seeding
from peace.errors import PeaceError
from peace.graph.sequences import squared_distances
from peace.losses import Loss
from peace.losses.bank import Bank
from peace.losses.pairs import Pairs
from peace.metrics.effective_rank import effective_rank
from peace.metrics.knn import knn_accuracy
from peace.models.embedder import Embedder
from peace.training.data import Probe
from peace.training.gathering import gathered
from peace.training.pool import Views


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam or AdamW, with a linear warm-up.

    Attributes:
        name: `adamw`, whose weight decay is decoupled, or `adam`, where it is part of the gradient.
        learning_rate: At the end of the warm-up.
        weight_decay: As the name says.
        warmup_share: Share of all steps that warm up.
        schedule: What follows the warm-up: a half `cosine` down to zero, or a `constant`.
    """

    name: Literal["adamw", "adam"] = "adamw"
    learning_rate: NonNegativeFloat = 1e-4
    weight_decay: NonNegativeFloat = 1e-5
    warmup_share: float = 0.1
    schedule: Literal["cosine", "constant"] = "cosine"


class Contrastive(L.LightningModule):
    """L = β L_MSE + (1 - β) L_c + λ L_sup (papers c, section 3, and a, 3.4).

    L_MSE is the squared distance of a model's weights from what its view is decoded to, a sum over weights and a mean
    over views, as paper c has it (the authors' code divides by the number of weights). The view may be erased or noisy;
    what its decoding is compared with is not: see `augmentations.views.view`. Where a batch has views of its own to be
    decoded, L_MSE is over those, and L_c over the pairs; in the paper both are over the same.

    Args:
        embedder: What is trained.
        loss: Of the projections of two views.
        optimizer: Settings of Adam or AdamW.
        total_steps: Length of the schedule.
        seed: Seed of what is random inside a step (dropout), keyed by the step.
        regression_weight: λ; used if the embedder has a regression head.
        neighbours: Neighbours of the kNN probe.
        bank: Models of earlier batches as further negatives, None where there are none.
        beta: β; above 0 the embedder has a decoder.
    """

    def __init__(
        self,
        embedder: Embedder,
        loss: Loss,
        optimizer: OptimizerConfig,
        total_steps: int,
        seed: int,
        regression_weight: float = 0.0,
        neighbours: int = 5,
        bank: Bank | None = None,
        beta: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedder, self.loss, self.optimizer_config, self.bank = embedder, loss, optimizer, bank
        self.total_steps, self.seed, self.beta = total_steps, seed, beta
        self.regression_weight, self.neighbours = regression_weight, neighbours
        self._compared: Pairs | None = None

    def on_train_batch_start(self, batch: Views, batch_idx: int) -> None:
        """Makes dropout a function of the step, so that a resumed run draws what an uninterrupted one does.

        Each of several processes draws for its own models: with dropout, their number is part of what decides a run.
        """
        torch.manual_seed(seeding.key(self.seed, "dropout", self.global_step) + self.global_rank)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Logs the learning rate that the step is taken with."""
        self.log("train/learning_rate", optimizer.param_groups[0]["lr"], batch_size=1)

    def training_step(self, batch: Views, batch_idx: int) -> Tensor:
        """Returns the loss of a batch, of the joint batch where several processes have a share of it.

        Raises:
            PeaceError: The loss is not finite.
        """
        parts = self.parts(batch)
        models = len(batch.targets) // 2 if batch.total is None else batch.total
        for name, value in parts.items():
            self.log(f"train/{name}", value.detach(), batch_size=models)
        loss = self.total(parts)
        if not loss.isfinite():
            raise PeaceError(f"the loss is not finite at step {self.global_step}; the last checkpoint is kept, "
                             "lower optimizer.learning_rate and train again")  # fmt: skip
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=models)
        return loss

    def parts(self, batch: Views) -> dict[str, Tensor]:
        """Returns `contrastive`, `reconstruction` and `regression`, those of them that are trained."""
        parts = {}
        if self.embedder.decoder is None:
            embeddings = self.embedder.embed(batch.pairs)
        else:
            embeddings, decoded = self.embedder.autoencode(batch.pairs if batch.decoded is None else batch.decoded)
            errors = squared_distances(decoded, [self.embedder.reading(stack) for stack in batch.originals])
            if batch.decoded is None:
                parts["reconstruction"] = torch.cat(_joint(batch, errors)).mean()
            else:
                parts["reconstruction"] = gathered(errors, batch.total).mean()
                compared = self.beta < 1 or self.embedder.regressor is not None
                embeddings = self.embedder.embed(batch.pairs) if compared else embeddings
        if self.beta < 1:
            first, second = _joint(batch, self.embedder.project(embeddings))
            memory = self.bank.memory() if self.bank else None
            pairs = Pairs(first, second, batch.facts, memory, batch.partners)
            self._compared = pairs if self.training else None
            parts["contrastive"] = self.loss(pairs)
        if self.embedder.regressor is not None:
            deviations = torch.cat(_joint(batch, self.embedder.predict(embeddings) - batch.targets))
            parts["regression"] = deviations.square().mean()
        return parts

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Returns the loss that parts add up to."""
        weights = {"contrastive": 1 - self.beta, "reconstruction": self.beta, "regression": self.regression_weight}
        return torch.stack([weights[name] * value for name, value in parts.items()]).sum()

    def on_after_backward(self) -> None:
        """Gives the models of the batch to the bank, which the gradients have no more need of."""
        if self.bank is not None and self._compared is not None:
            self.bank.take(self._compared.second, self._compared.of_second)
        self._compared = None

    def validation_step(self, batch: Probe, batch_idx: int) -> None:
        """Logs the effective rank of the embeddings and the accuracy of a kNN probe for the task, given two runs."""
        if len(batch.runs.unique()) < 2:
            return
        embeddings = nn.functional.normalize(self.embedder.embed(batch.stacks).float(), dim=1).cpu()
        rank = effective_rank(embeddings)
        accuracy = knn_accuracy(embeddings, batch.tasks.cpu(), batch.runs.cpu(), self.neighbours)
        self.log("val/effective_rank", rank, batch_size=len(embeddings))
        self.log("val/knn", accuracy, prog_bar=True, batch_size=len(embeddings))

    def configure_optimizers(self) -> dict[str, object]:
        """Returns the optimiser and its schedule, stepped every batch."""
        config = self.optimizer_config
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[config.name]
        optimizer = kind(self.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
        warmup = max(1, round(config.warmup_share * self.total_steps))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            if config.schedule == "constant":
                return 1.0
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.total_steps - warmup)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _joint(batch: Views, values: Tensor) -> tuple[Tensor, Tensor]:
    """First and second views of the joint batch. Shape: [2n, C] -> [N, C] twice."""
    first, second = gathered(torch.stack(batch.split(values), dim=1), batch.total).unbind(1)
    return first, second

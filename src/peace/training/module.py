"""The LightningModule: contrast between two views, optionally with regression, and health gauges on `val`."""

import math
from dataclasses import dataclass
from typing import Literal

import lightning as L
import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from peace import seeding
from peace.errors import PeaceError
from peace.losses import Loss
from peace.losses.bank import Bank
from peace.losses.pairs import Pairs
from peace.metrics.effective_rank import effective_rank
from peace.metrics.knn import knn_accuracy
from peace.models.embedder import Embedder
from peace.training.data import Probe, Views
from peace.training.gathering import gathered


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with a cosine schedule after a linear warm-up.

    Attributes:
        name: `adamw`.
        learning_rate: At the end of the warm-up.
        weight_decay: Decoupled.
        warmup_share: Share of all steps that warm up.
    """

    name: Literal["adamw"] = "adamw"
    learning_rate: NonNegativeFloat = 1e-4
    weight_decay: NonNegativeFloat = 1e-5
    warmup_share: float = 0.1


class Contrastive(L.LightningModule):
    """L = L_contrastive + λ L_sup (paper a, 3.4).

    Args:
        embedder: What is trained.
        loss: Of the projections of two views.
        optimizer: AdamW's settings.
        total_steps: Length of the schedule.
        seed: Seed of what is random inside a step (dropout), keyed by the step.
        regression_weight: λ; used if the embedder has a regression head.
        neighbours: Neighbours of the kNN probe.
        bank: Models of earlier batches as further negatives, None where there are none.
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
    ) -> None:
        super().__init__()
        self.embedder, self.loss, self.optimizer_config, self.bank = embedder, loss, optimizer, bank
        self.total_steps, self.seed = total_steps, seed
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
        embeddings = self.embedder.embed(batch.pairs)
        first, second = _joint(batch, self.embedder.project(embeddings))
        pairs = Pairs(first, second, batch.facts, self.bank.memory() if self.bank else None, batch.partners)
        self._compared, loss, models = pairs, self.loss(pairs), len(first)
        self.log("train/contrastive", loss.detach(), batch_size=models)
        if self.embedder.regressor is not None:
            errors = torch.cat(_joint(batch, self.embedder.predict(embeddings) - batch.targets))
            supervised = errors.square().mean()
            self.log("train/regression", supervised.detach(), batch_size=models)
            loss = loss + self.regression_weight * supervised
        if not loss.isfinite():
            raise PeaceError(f"the loss is not finite at step {self.global_step}; the last checkpoint is kept, "
                             "lower optimizer.learning_rate and train again")  # fmt: skip
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=models)
        return loss

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
        """Returns AdamW and its schedule, stepped every batch."""
        config = self.optimizer_config
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        warmup = max(1, round(config.warmup_share * self.total_steps))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.total_steps - warmup)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _joint(batch: Views, values: Tensor) -> tuple[Tensor, Tensor]:
    """First and second views of the joint batch. Shape: [2n, C] -> [N, C] twice."""
    first, second = gathered(torch.stack(batch.split(values), dim=1), batch.total).unbind(1)
    return first, second

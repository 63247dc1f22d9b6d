"""Early stopping: the embedder as it was when its loss on `val` was least."""

import copy
import math
from typing import Any

import lightning as L
import torch
from torch import Tensor

from peace.graph.sequences import squared_distances
from peace.training.data import ZooData
from peace.training.module import Contrastive
from peace.training.pool import Views


class Selection(L.Callback):
    """Looks at `val` after every epoch, keeps the best weights, and ends a training that no longer gets better.

    What is looked at is the loss that is trained, on views of `val` models that stay the same, and beside it r2, how
    well whole weights are reconstructed: R² = 1 - Σ (w - ŵ)² / Σ (w - mean of w)² over all weights and models, crossed
    as in training where they are crossed there. Its state is part of a checkpoint, so that a training that goes on
    chooses what an uninterrupted one does.

    Args:
        every: Steps between two looks.
        patience: Looks without a better loss after which training ends.
        models: How many models of `val` are looked at, at most.
    """

    def __init__(self, every: int, patience: int, models: int) -> None:
        self.every, self.patience, self.models = every, patience, models
        self.best, self.worse, self.weights = math.inf, 0, dict[str, Tensor]()
        self._looks: list[Views] = []

    @property
    def over(self) -> bool:
        """Whether training no longer gets better."""
        return self.worse >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Returns the least loss, the number of looks since, and the weights that had it."""
        return {"best": self.best, "worse": self.worse, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what `state_dict` returned."""
        self.best, self.worse, self.weights = (state_dict[name] for name in ("best", "worse", "weights"))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Contrastive, outputs: Tensor, batch: Views, batch_idx: int
    ) -> None:
        """Looks if it is time to. It comes before the checkpoint is written, which therefore has what was found."""
        if trainer.global_step % self.every and trainer.global_step < trainer.max_steps:
            return
        data: ZooData = trainer.datamodule  # type: ignore[attr-defined]
        self._looks = self._looks or [
            data.transfer_batch_to_device(views, pl_module.device, 0) for views in data.looks(self.models)
        ]
        found = look(pl_module, self._looks)
        for name, value in found.items():
            pl_module.log(f"val/{name}", value, prog_bar=name == "loss", batch_size=self.models)
        if found["loss"] < self.best:
            self.best, self.worse = found["loss"], 0
            self.weights = copy.deepcopy(pl_module.embedder.state_dict())
        else:
            self.worse += 1
        trainer.should_stop |= self.over


@torch.no_grad()
def look(module: Contrastive, looks: list[Views]) -> dict[str, float]:
    """Returns the loss and its parts, means over batches of views, and, where there is a decoder, r2.

    Deviations are from the mean of a batch and architecture.
    """
    training = module.training
    module.eval()
    with module.trainer.precision_plugin.forward_context():
        parts = [module.parts(views) for views in looks]
        whole = [_reconstruction(module, views) for views in looks] if module.embedder.decoder is not None else []
    module.train(training)
    shares = torch.tensor([float(len(views.facts.groups)) for views in looks])
    means = {name: torch.stack([part[name].float().cpu() for part in parts]) @ shares / shares.sum()
             for name in parts[0]}  # fmt: skip
    found = {"loss": float(module.total(means)), **{name: float(value) for name, value in means.items()}}
    if whole:
        errors, deviations = torch.stack(whole).sum(0).tolist()
        found["r2"] = 1 - errors / deviations
    return found


def _reconstruction(module: Contrastive, views: Views) -> Tensor:
    """Sums of squared errors and of squared deviations over whole models. Shape: [2]."""
    wanted = [module.embedder.reading(stack) for stack in views.originals]
    means = [stack.map(lambda tensor: tensor.mean(0, keepdim=True).expand_as(tensor)) for stack in wanted]
    _, decoded = module.embedder.autoencode(views.originals)
    return torch.stack([squared_distances(found, wanted).sum() for found in (decoded, means)])

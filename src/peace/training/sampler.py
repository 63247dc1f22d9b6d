"""Which models stand in a batch: a pure function of seed and step."""

from typing import Literal

import torch
from torch import Tensor

from peace import seeding
from peace.augmentations import Kinship
from peace.errors import InputError


class Sampler:
    """Draws batches of models of which no two are of one recipe, or of one run.

    In NT-Xent every other model of the batch is a negative, so what is a positive elsewhere must not stand beside it:
    `distinct="recipe"` goes with near-duplicate positives, `"run"` with checkpoints of the same run.

    Args:
        kinship: Who is related to whom.
        batch_size: Most models in a batch; there are fewer where there are fewer recipes (or runs).
        distinct: What no two models of a batch share.
        seed: Seed of all batches.

    Raises:
        InputError: `distinct` is neither, or the models share a single recipe (or run), which leaves no negatives.
    """

    def __init__(self, kinship: Kinship, batch_size: int, distinct: Literal["recipe", "run"], seed: int) -> None:
        groups = {"recipe": kinship.recipes, "run": kinship.runs}
        if distinct not in groups:
            raise InputError("no such sampler.distinct", got=distinct, expected=" or ".join(groups))
        self.groups = groups[distinct]
        if len(self.groups.unique()) < 2:
            raise InputError(
                f"no negatives: all models share one {distinct}",
                where="'sampler.distinct'",
                do="choose the other of recipe and run, or train on another zoo",
            )
        self.batch_size, self.seed = batch_size, seed

    def batch(self, step: int) -> Tensor:
        """Returns the models of one step, in ascending order. Shape: [at most batch_size] int64."""
        generator = seeding.generator(self.seed, "batch", step)
        order = torch.randperm(len(self.groups), generator=generator)
        _, group = self.groups[order].unique(return_inverse=True)
        places = torch.arange(len(order))
        first = torch.full((int(group.max()) + 1,), len(order)).scatter_reduce(0, group, places, "amin")
        chosen = order[first]
        picked = torch.randperm(len(chosen), generator=generator)[: self.batch_size]
        return chosen[picked].sort().values

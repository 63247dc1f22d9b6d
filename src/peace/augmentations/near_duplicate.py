"""A model of the same recipe and another seed."""

import torch
from torch import Tensor

from peace.augmentations import AUGMENTATIONS, Augmentation, Kinship
from peace.augmentations.relatives import draw_relatives


@AUGMENTATIONS.register("near_duplicate")
class NearDuplicate(Augmentation):
    """The second view shows a model trained with identical hyper-parameters but another seed (paper b).

    It is at the same epoch as the first where there is one; a model without a near-duplicate shows itself.

    Args:
        probability: How often.
    """

    def __init__(self, probability: float = 1.0) -> None:
        self.probability = probability

    def partner(self, models: Tensor, kinship: Kinship, generator: torch.Generator) -> Tensor:
        """Returns for each model a near-duplicate. Shape: [N] -> [N]."""
        related = kinship.recipes[models][:, None] == kinship.recipes
        related &= kinship.runs[models][:, None] != kinship.runs
        related &= kinship.epochs[models][:, None] == kinship.epochs
        return draw_relatives(models, related, self.probability, generator)

"""Another checkpoint of the same training run."""

import torch
from torch import Tensor

from peace.augmentations import AUGMENTATIONS, Augmentation, Kinship
from peace.augmentations.relatives import draw_relatives


@AUGMENTATIONS.register("checkpoint")
class Checkpoint(Augmentation):
    """The second view shows another epoch of the same run; a run with one checkpoint shows itself.

    Args:
        probability: How often.
    """

    def __init__(self, probability: float = 1.0) -> None:
        self.probability = probability

    def partner(self, models: Tensor, kinship: Kinship, generator: torch.Generator) -> Tensor:
        """Returns for each model another checkpoint of its run. Shape: [N] -> [N]."""
        related = (kinship.runs[models][:, None] == kinship.runs) & (models[:, None] != torch.arange(len(kinship.runs)))
        return draw_relatives(models, related, self.probability, generator)

"""Erasing of a stretch of the flattened weights (paper c, section 2)."""

import torch

from peace.augmentations import AUGMENTATIONS, Share, Transform
from peace.errors import InputError
from peace.graph.sequences import from_vector, vector
from peace.graph.stack import Stack


@AUGMENTATIONS.register("random_erasing")
class RandomErasing(Transform):
    """With some probability, sets a contiguous part of all weights and biases in a row to zero.

    Its share is uniform between two bounds, its place uniform among those where it fits. Neurons follow each other,
    each with its weights and its bias.

    Args:
        probability: Of erasing anything.
        least: Least share.
        most: Largest share.

    Raises:
        InputError: The least share is above the largest.

    Reference:
        Schürholt et al. 2021, arXiv:2110.15288, section 2, after Zhong et al. 2020, arXiv:1708.04896.
    """

    def __init__(self, probability: Share = 0.5, least: Share = 0.03, most: Share = 0.3) -> None:
        if least > most:
            raise InputError("nothing between the bounds", where="augmentation 'random_erasing'",
                             got=f"least={least}, most={most}", expected="least <= most")  # fmt: skip
        self.probability, self.least, self.most = probability, least, most

    def transform(self, stack: Stack, generator: torch.Generator) -> Stack:
        """Returns a copy with a part erased."""
        flat = vector(stack)
        models, numbers = flat.shape
        draw = torch.rand(3, models, 1, generator=generator)
        length = ((self.least + (self.most - self.least) * draw[0]) * numbers).round()
        first = (draw[1] * (numbers - length + 1)).floor()
        place = torch.arange(numbers)
        erased = (draw[2] < self.probability) & (place >= first) & (place < first + length)
        return from_vector(flat.masked_fill(erased.to(flat.device), 0.0), stack)

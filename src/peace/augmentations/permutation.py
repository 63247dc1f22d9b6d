"""Renumbered hidden neurons (paper c, section 2): the augmentation that its encoders have to learn invariance from."""

import math
from functools import cache
from itertools import permutations

import torch
from pydantic import PositiveInt

from peace import seeding
from peace.augmentations import AUGMENTATIONS, Transform
from peace.graph.stack import Stack
from peace.graph.symmetry import GroupElement


@AUGMENTATIONS.register("permutation")
class Permutation(Transform):
    """A random order of the neurons of each hidden axis; scales and signs stay.

    Args:
        precomputed: If given, the orders of an axis come from so many that are drawn once for all (all there are, where
            they are no more than that), as in the authors' code, which draws the orders of all axes together; otherwise
            each is drawn anew.

    Reference:
        Schürholt et al. 2021, arXiv:2110.15288, section 2 and appendix A.
    """

    preserves = True

    def __init__(self, precomputed: PositiveInt | None = None) -> None:
        self.precomputed = precomputed

    def transform(self, stack: Stack, generator: torch.Generator) -> Stack:
        """Returns a renumbered copy."""
        orders = {}
        for place in stack.graph.hidden:
            axis = stack.graph.axes[place]
            if axis.permutable:
                orders[place] = self._orders(len(stack), axis.size, generator)
        ones = {place: torch.ones(order.shape) for place, order in orders.items()}
        return GroupElement(orders, ones).apply(stack)

    def _orders(self, models: int, size: int, generator: torch.Generator) -> torch.Tensor:
        if self.precomputed is None:
            return torch.rand(models, size, generator=generator).argsort(1)
        kept = _kept(self.precomputed, size)
        return kept[torch.randint(len(kept), (models,), generator=generator)]


@cache
def _kept(count: int, size: int) -> torch.Tensor:
    """Orders that are drawn once for all. Shape: [at most count, size]."""
    if math.factorial(size) <= count:
        return torch.tensor(list(permutations(range(size))))
    return torch.rand(count, size, generator=seeding.generator("permutations", size)).argsort(1)

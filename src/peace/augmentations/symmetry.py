"""Permutation and scaling of hidden neurons (paper a, 3.4): views that compute the same function."""

import torch

from peace.augmentations import AUGMENTATIONS, Transform
from peace.graph.stack import Stack
from peace.graph.symmetry import sample


@AUGMENTATIONS.register("symmetry")
class Symmetry(Transform):
    """A random element of the whole symmetry group.

    Args:
        log_scale: σ of the LogNormal(0, σ²) scales.
    """

    preserves = True

    def __init__(self, log_scale: float = 0.5) -> None:
        self.log_scale = log_scale

    def transform(self, stack: Stack, generator: torch.Generator) -> Stack:
        """Returns a renumbered and rescaled copy."""
        return sample(stack.graph, len(stack), generator, self.log_scale).apply(stack)

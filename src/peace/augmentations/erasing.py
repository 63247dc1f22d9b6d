"""Erasing of whole neurons."""

from dataclasses import replace

import torch

from peace.augmentations import AUGMENTATIONS, Transform
from peace.graph.stack import Stack


@AUGMENTATIONS.register("erasing")
class Erasing(Transform):
    """Each hidden neuron is erased with probability `share`: its incoming weights, bias and outgoing weights are zero.

    Schürholt et al. 2021 (arXiv:2110.15288, section 2) erase a contiguous part of the flattened weights; a whole neuron
    is the part that keeps its meaning when neurons are renumbered. An axis whose neurons would all go keeps them all.

    Args:
        share: Expected share of the hidden neurons that is erased.
    """

    def __init__(self, share: float = 0.1) -> None:
        self.share = share

    def transform(self, stack: Stack, generator: torch.Generator) -> Stack:
        """Returns a copy without the erased neurons' weights."""
        weights, biases = list(stack.weights), list(stack.biases)
        for place in stack.graph.hidden:
            kept = torch.rand(len(stack), stack.graph.axes[place].size, generator=generator) >= self.share
            kept = (kept | ~kept.any(1, keepdim=True)).to(weights[0])
            for layer in stack.graph.writers(place):
                weights[layer] = weights[layer] * kept[:, :, None, None]
                bias = biases[layer]
                biases[layer] = None if bias is None else bias * kept
            for layer in stack.graph.readers(place):
                weights[layer] = weights[layer] * kept[:, None, :, None]
        return replace(stack, weights=tuple(weights), biases=tuple(biases))

"""Crossing of networks: hidden neurons of others in the place of a network's own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from peace.augmentations import AUGMENTATIONS, Augmentation, Kinship, Share
from peace.graph.stack import Stack


@AUGMENTATIONS.register("crossover")
class Crossover(Augmentation):
    """With some probability, random hidden neurons are those of other networks of an equal graph and the same epoch.

    A neuron comes with its incoming weights, bias and outgoing weights, a weight between two exchanged ones with the
    later of them. Each has a mate of its own: any network of that epoch, with equal probability, the network itself
    too. Both views have the same neurons. The result is a new network, which a decoder should give back, so that a
    small zoo is not so soon learnt by heart. Labels and targets stay those of the network before.

    Args:
        probability: Of crossing a network at all.
        share: Expected share of its neurons that is then exchanged; None: drawn for each network, uniform on [0, 1].

    Reference:
        Ours. Shamsian et al. 2024, arXiv:2402.04081, mix two networks by weighted means of their weights instead.
    """

    def __init__(self, probability: Share = 0.5, share: Share | None = None) -> None:
        self.probability, self.share = probability, share

    def mix(
        self, views: Sequence[Stack], places: Tensor, pool: Stack, kinship: Kinship, generator: torch.Generator
    ) -> Sequence[Stack]:
        """Returns all views with the neurons of mates in them."""
        crossed = torch.rand(len(places), 1, generator=generator) < self.probability
        share = torch.rand(len(places), 1, generator=generator) if self.share is None else self.share
        epochs = kinship.epochs.sort(stable=True)
        first, end = (
            torch.searchsorted(epochs.values, kinship.epochs[places], right=right)[:, None] for right in (False, True)
        )
        neurons = {}
        for axis in pool.graph.hidden:
            size = pool.graph.axes[axis].size
            exchanged = crossed & (torch.rand(len(places), size, generator=generator) < share)
            draw = torch.rand(len(places), size, generator=generator, dtype=torch.float64)
            neurons[axis] = exchanged, epochs.indices[first + (draw * (end - first)).long()]
        return [_exchanged(view, pool, neurons) for view in views]


def _exchanged(stack: Stack, pool: Stack, neurons: Mapping[int, tuple[Tensor, Tensor]]) -> Stack:
    """The stack with the neurons that are exchanged, by axis, from their mates in the pool. Shapes: [N, n] each."""
    weights, biases = list(stack.weights), list(stack.biases)
    for axis, (exchanged, mates) in neurons.items():
        neuron = torch.arange(mates.shape[1])
        for layer in stack.graph.writers(axis):
            incoming = pool.weights[layer][mates, neuron]
            weights[layer] = torch.where(exchanged[:, :, None, None], incoming, weights[layer])
            own, others = biases[layer], pool.biases[layer]
            if own is not None and others is not None:
                biases[layer] = torch.where(exchanged, others[mates, neuron], own)
        for layer in stack.graph.readers(axis):
            outgoing = pool.weights[layer][mates, :, neuron].transpose(1, 2)
            weights[layer] = torch.where(exchanged[:, None, :, None], outgoing, weights[layer])
    return replace(stack, weights=tuple(weights), biases=tuple(biases))

"""A network A, its checkpoints permuted (A_p), and a network B that trains from A_p's first weights, epoch by epoch."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from peace import seeding
from peace.datasets.images import ImageData
from peace.graph.build import from_architecture
from peace.graph.stack import Stack
from peace.graph.symmetry import GroupElement, sample
from peace.zoo.population import Member, Plan, Population
from peace.zoo.stacked import forward

_IMAGES = 1000  # at a time


@dataclass(frozen=True)
class Snapshot:
    """The three networks after an epoch.

    Attributes:
        weights: Of A, A_p and B. Shape: [3, P].
        train: The class that each gives to each training image. Shape: [3, N] int64.
        test: The same of the test images.
    """

    weights: Tensor
    train: Tensor
    test: Tensor

    def distances(self) -> dict[str, float]:
        """Returns the Euclidean distances of A to A_p, A to B and A_p to B."""
        a, a_p, b = self.weights.double()
        pairs = {"a_to_a_p": a - a_p, "a_to_b": a - b, "a_p_to_b": a_p - b}
        return {name: float(difference.norm()) for name, difference in pairs.items()}


def follow(plan: Plan, member: Member, data: ImageData, dtype: torch.dtype = torch.float32) -> Iterator[Snapshot]:
    """Yields the three networks before training and after each epoch (arXiv:2110.15288, appendix A and figure 5).

    A and B are two members of one population with one seed, and so see the same batches in the same order. One random
    permutation, drawn by that seed, makes A_p of A after every epoch, and B's first weights of A's.

    Args:
        plan: Architecture, optimiser, epochs and batch size.
        member: A; its task is the whole data set.
        data: The data set.
        dtype: Type of weights and images.
    """
    population = Population(plan, [member, member], data, dtype)
    element = permutation(plan, member.seed)
    position = population.start()
    start = position.weights[:1]
    position.weights = torch.cat([start, permuted(population, element, start)])
    yield _snapshot(population, element, position.weights)
    while position.epoch < plan.epochs:
        for _ in population.epoch(position):
            pass
        yield _snapshot(population, element, position.weights)


def permutation(plan: Plan, seed: int) -> GroupElement:
    """Returns a random renumbering of every hidden layer's neurons and channels, without signs or scales."""
    graph = from_architecture(json.dumps(plan.architecture))
    element = sample(graph, 1, seeding.generator(seed, "permutation"))
    return replace(element, scales={axis: torch.ones_like(scale) for axis, scale in element.scales.items()})


def permuted(population: Population, element: GroupElement, weights: Tensor) -> Tensor:
    """Returns one network's weights with its neurons renumbered. Shape: [1, P] -> [1, P]."""
    tensors = population.parameters(weights)
    graph = from_architecture(json.dumps(population.plan.architecture))
    moved = element.apply(Stack.of(graph, tensors)).tensors(tensors)
    return torch.cat([moved[name].flatten(1) for name in population.shapes], dim=1)


def _snapshot(population: Population, element: GroupElement, weights: Tensor) -> Snapshot:
    a, b = weights.split(1)
    three = torch.cat([a, permuted(population, element, a), b])
    data = population.data
    return Snapshot(three, *(_classes(population, three, images) for images in (data.x_train, data.x_test)))


@torch.no_grad()
def _classes(population: Population, weights: Tensor, images: Tensor) -> Tensor:
    parameters = population.parameters(weights)
    parts = (forward(population.module, parameters, part[None].to(population.dtype)) for part in images.split(_IMAGES))
    return torch.cat([logits.argmax(2) for logits in parts], dim=1)

"""The symmetry group of a weight graph: renumbering and rescaling of hidden neurons that leave the function alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from peace.graph.stack import Stack
from peace.graph.weight_graph import Axis, WeightGraph


@dataclass(frozen=True)
class GroupElement:
    """One element for each of B models.

    Node k of a transformed axis is node `order[k]` of the original, its incoming weights and bias multiplied by
    `scale[k]`, its outgoing weights divided by it.

    Attributes:
        orders: Axis place -> shape [B, n] int64.
        scales: Axis place -> shape [B, n], never zero.
    """

    orders: Mapping[int, Tensor]
    scales: Mapping[int, Tensor]

    def apply(self, stack: Stack) -> Stack:
        """Returns the stack with the element applied; the models' functions do not change."""
        weights, biases = [], []
        for layer, weight, bias in zip(stack.graph.layers, stack.weights, stack.biases, strict=True):
            out, scale = self.orders.get(layer.out_axis), self.scales.get(layer.out_axis)
            if out is not None and scale is not None:
                scale = scale.to(weight)
                weight = _taken(weight, out, 1) * scale[:, :, None, None]
                bias = None if bias is None else _taken(bias, out, 1) * scale
            into, scale = self.orders.get(layer.in_axis), self.scales.get(layer.in_axis)
            if into is not None and scale is not None:
                weight = _taken(weight, into, 2) / scale.to(weight)[:, None, :, None]
            weights.append(weight)
            biases.append(bias)
        return replace(stack, weights=tuple(weights), biases=tuple(biases))

    def compose(self, first: "GroupElement") -> "GroupElement":
        """Returns the element that acts as `first`, then this one."""
        orders = {axis: first.orders[axis].gather(1, order) for axis, order in self.orders.items()}
        scales = {axis: scale * first.scales[axis].gather(1, self.orders[axis]) for axis, scale in self.scales.items()}
        return GroupElement(orders, scales)

    def inverse(self) -> "GroupElement":
        """Returns the element that undoes this one."""
        orders = {axis: order.argsort(1) for axis, order in self.orders.items()}
        scales = {axis: 1 / self.scales[axis].gather(1, order) for axis, order in orders.items()}
        return GroupElement(orders, scales)


def sample(graph: WeightGraph, models: int, generator: torch.Generator, log_scale: float = 1.0) -> GroupElement:
    """Returns a random element of the whole group for each of B models, in float64.

    Permutations and signs are uniform; positive scales are LogNormal(0, log_scale²) (paper a, 3.4). The paper scales
    every neuron; here only those whose activation allows it, so that the function never changes.

    Args:
        graph: Whose group.
        models: B.
        generator: CPU generator.
        log_scale: Standard deviation of the logarithm of positive scales.
    """
    orders, scales = {}, {}
    for place in graph.hidden:
        axis = graph.axes[place]
        orders[place] = _order(axis, models, generator)
        scales[place] = _scale(axis, models, generator, log_scale)
    return GroupElement(orders, scales)


def _order(axis: Axis, models: int, generator: torch.Generator) -> Tensor:
    if not axis.permutable:
        return torch.arange(axis.size).expand(models, -1)
    return torch.rand(models, axis.size, generator=generator).argsort(1)


def _scale(axis: Axis, models: int, generator: torch.Generator, log_scale: float) -> Tensor:
    if axis.scaling == "positive":
        return (torch.randn(models, axis.size, generator=generator, dtype=torch.float64) * log_scale).exp()
    if axis.scaling == "sign":
        return torch.randint(2, (models, axis.size), generator=generator).double() * 2 - 1
    return torch.ones(models, axis.size, dtype=torch.float64)


def _taken(tensor: Tensor, order: Tensor, dim: int) -> Tensor:
    """Each model's own reordering of one dimension. Shapes: [B, ..., n, ...], [B, n]."""
    shape = [1] * tensor.ndim
    shape[0], shape[dim] = order.shape
    return tensor.gather(dim, order.to(tensor.device).view(shape).expand_as(tensor))

"""Representatives: weights that every rescaled copy of a network maps to, so that no encoder has to learn scales."""

from dataclasses import replace

import torch
from torch import Tensor

from peace.graph.stack import Stack


def canonical_form(stack: Stack) -> Stack:
    """Returns the representative of each model's orbit under the scaling group; its function does not change.

    On an axis with positive scaling each neuron's incoming weights and bias get norm 1; on one with signs the sum of
    their cubes becomes positive. What is divided out is carried into the layers that read the axis. Axes are done in
    the order of the forward pass, so that a scale carried forward is seen by the next. A neuron without incoming
    weights and bias outputs zero, so its outgoing weights, whose scale is arbitrary, become zero. Permutations are left
    as they are: encoders do not see them.
    """
    weights, biases = list(stack.weights), list(stack.biases)
    for place in stack.graph.hidden:
        scaling = stack.graph.axes[place].scaling
        if scaling == "none":
            continue
        writers = stack.graph.writers(place)
        incoming = torch.cat([_incoming(weights[layer], biases[layer]) for layer in writers], dim=2)
        if scaling == "positive":
            norm = incoming.norm(dim=2)
            scale = torch.where(norm > 0, norm, 1)
        else:
            scale = torch.where(incoming.pow(3).sum(2) < 0, -1.0, 1.0).to(incoming)
        for layer in writers:
            weights[layer] = weights[layer] / scale[:, :, None, None]
            bias = biases[layer]
            biases[layer] = None if bias is None else bias / scale
        carried = scale * incoming.any(dim=2)
        for layer in stack.graph.readers(place):
            weights[layer] = weights[layer] * carried[:, None, :, None]
    return replace(stack, weights=tuple(weights), biases=tuple(biases))


def sign_cover(stack: Stack) -> Stack:
    """Returns an equal network in which every neuron of a sign axis stands beside its negative, at half the weight.

    v·tanh(w·x + b) = ½ v·tanh(w·x + b) - ½ v·tanh(-w·x - b), so the function does not change, and flipping the sign of
    a neuron becomes the exchange of two neurons: a permutation, which every encoder here is exactly invariant to.
    Unlike a rule that picks a sign, it is continuous in the weights. The axis has twice as many nodes and no scaling
    left.
    """
    covered = {place for place in stack.graph.hidden if stack.graph.axes[place].scaling == "sign"}
    if not covered:
        return stack
    axes = tuple(
        replace(axis, shape=(2 * axis.size,), scaling="none") if place in covered else axis
        for place, axis in enumerate(stack.graph.axes)
    )
    weights, biases = [], []
    for layer, weight, bias in zip(stack.graph.layers, stack.weights, stack.biases, strict=True):
        if layer.out_axis in covered:
            weight = torch.cat([weight, -weight], dim=1)
            bias = None if bias is None else torch.cat([bias, -bias], dim=1)
        if layer.in_axis in covered:
            weight = torch.cat([weight, -weight], dim=2) / 2
        weights.append(weight)
        biases.append(bias)
    return Stack(replace(stack.graph, axes=axes), tuple(weights), tuple(biases))


def frobenius_normalised(stack: Stack) -> Stack:
    """Returns each weight divided by its Frobenius norm and each bias by its Euclidean norm (paper a, 3.1).

    This removes one scale a layer and does change the function; zero tensors stay zero.
    """
    return stack.map(lambda tensor: tensor / norms(tensor).view(-1, *[1] * (tensor.ndim - 1)))


def norms(tensor: Tensor) -> Tensor:
    """Returns each model's norm of a tensor, 1 where all its numbers are zero. Shape: [B, ...] -> [B]."""
    found = tensor.flatten(1).norm(dim=1)
    return torch.where(found > 0, found, 1)


def _incoming(weight: Tensor, bias: Tensor | None) -> Tensor:
    """A neuron's incoming weights and bias as one vector. Shape: [B, n_out, ...]."""
    flat = weight.flatten(2)
    return flat if bias is None else torch.cat([flat, bias[:, :, None]], dim=2)

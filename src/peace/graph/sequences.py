"""Weights as sequences, and back: a row a neuron or kernel, or all numbers of a model in a row."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from peace.graph.stack import Stack


def rows(stack: Stack) -> list[Tensor]:
    """Returns each layer's neurons or kernels with their incoming weights, the bias last where there is one.

    Shape:
        B models -> [B, n_out, n_in / groups · n_tap (+ 1)] a layer.
    """
    pairs = zip(stack.weights, stack.biases, strict=True)
    return [_joined(weight.flatten(2), bias) for weight, bias in pairs]


def _joined(weight: Tensor, bias: Tensor | None) -> Tensor:
    return weight if bias is None else torch.cat([weight, bias[:, :, None]], dim=2)


def from_rows(found: Sequence[Tensor], like: Stack) -> Stack:
    """Returns the stack whose rows these are, of the graph of `like`."""
    weights, biases = [], []
    for row, weight, bias in zip(found, like.weights, like.biases, strict=True):
        numbers = weight[0, 0].numel()
        weights.append(row[:, :, :numbers].unflatten(2, weight.shape[2:]))
        biases.append(None if bias is None else row[:, :, numbers])
    return replace(like, weights=tuple(weights), biases=tuple(biases))


def vector(stack: Stack) -> Tensor:
    """Returns all numbers of each model, row after row, layer after layer. Shape: [B, N]."""
    return torch.cat([row.flatten(1) for row in rows(stack)], dim=1)


def from_vector(found: Tensor, like: Stack) -> Stack:
    """Returns the stack whose vector begins each of these; what stands behind it is left. Shape: [B, N or more]."""
    shapes = [row.shape[1:] for row in rows(like)]
    sizes = [shape.numel() for shape in shapes]
    parts = found[:, : sum(sizes)].split(sizes, dim=1)
    return from_rows([part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)], like)


def squared_distances(first: Sequence[Stack], second: Sequence[Stack]) -> Tensor:
    """Returns Σ (w - w')² of each model of two mixed batches, in float32 at least. Shape: [B]."""
    return torch.cat([_distances(vector(a), vector(b)) for a, b in zip(first, second, strict=True)])


def _distances(first: Tensor, second: Tensor) -> Tensor:
    wide = torch.promote_types(first.dtype, torch.float32)
    return (first.to(wide) - second.to(wide)).square().sum(1)

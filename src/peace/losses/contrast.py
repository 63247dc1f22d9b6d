"""Similarities of anchors to all that they are compared with, from which every loss here is made."""

import torch
from torch import Tensor
from torch.nn import functional as F

from peace.losses.pairs import Facts, Memory, Pairs, concatenated


def directions(projections: Tensor) -> Tensor:
    """Returns projections at length 1, in float32 at least. Shape: [N, P]."""
    return F.normalize(projections.to(torch.promote_types(projections.dtype, torch.float32)), dim=1)


def similarity(first: Tensor, second: Tensor, temperature: Tensor | float) -> Tensor:
    """Returns the cosines of directions over τ, whatever autocast says. Shape: [N, P], [M, P] -> [N, M]."""
    with torch.autocast(first.device.type, enabled=False):
        return first @ second.T / temperature


def to_memory(anchors: Tensor, facts: Facts, memory: Memory, temperature: Tensor | float) -> Tensor:
    """Returns the logits of anchors to the models of a memory, -inf where they share the anchor's group.

    Shape:
        [N, M].
    """
    with torch.autocast(anchors.device.type, enabled=False):
        logits = anchors / temperature @ memory.vectors.to(anchors).T
    return logits.masked_fill_(facts.groups[:, None] == memory.facts.groups, -torch.inf)


def with_mass(
    logits: Tensor, anchors: Tensor, facts: Facts, memory: Memory | None, temperature: Tensor | float
) -> Tensor:
    """Returns logits with one more column for a memory that holds negatives only: the logarithm of all that it adds.

    A softmax over the columns is one over all models, and the memory is gone through once.

    Shape:
        [N, K] -> [N, K + 1].
    """
    if memory is None:
        return logits
    return torch.cat([logits, to_memory(anchors, facts, memory, temperature).logsumexp(1, keepdim=True)], dim=1)


def of_all_views(pairs: Pairs, temperature: Tensor | float) -> tuple[Tensor, Tensor]:
    """Returns the directions of all views, first ones then second ones, and their logits to each other.

    A view is not compared with itself: -inf on the diagonal.

    Shape:
        [2N, P] and [2N, 2N].
    """
    views = directions(torch.cat([pairs.first, pairs.second]))
    return views, similarity(views, views, temperature).fill_diagonal_(-torch.inf)


def of_all_views_and_memory(pairs: Pairs, temperature: Tensor | float) -> Tensor:
    """Returns the logits of all views to each other and to each model of the memory. Shape: [2N, 2N + M]."""
    views, logits = of_all_views(pairs, temperature)
    if pairs.memory is None:
        return logits
    earlier = to_memory(views, pairs.of_all, pairs.memory, temperature)
    return torch.cat([logits, earlier], dim=1)


def partners(pairs: Pairs) -> Tensor:
    """Returns for each view the place of the other view of its model. Shape: [2N] int64."""
    models = len(pairs.first)
    return torch.arange(2 * models, device=pairs.first.device).roll(models)


def compared(pairs: Pairs) -> tuple[Facts, Facts]:
    """Returns the facts of all views, and of all that they are compared with."""
    views = pairs.of_all
    return views, views if pairs.memory is None else concatenated(views, pairs.memory.facts)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Returns the mean over anchors of -Σ_k target_k log softmax_k, Σ_k target_k = 1; what has no weight may be -inf.

    Shape:
        [N, K], [N, K] -> scalar.
    """
    expected = (targets * logits.masked_fill(targets == 0, 0.0)).sum(1)
    return (logits.logsumexp(1) - expected).mean()

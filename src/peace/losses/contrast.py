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


def with_memory(
    logits: Tensor, anchors: Tensor, facts: Facts, memory: Memory | None, temperature: Tensor | float
) -> Tensor:
    """Returns logits with a column for each model of the memory, -inf where it shares the anchor's group.

    Shape:
        [N, K] -> [N, K + M].
    """
    if memory is None:
        return logits
    earlier = similarity(anchors, memory.vectors.to(anchors), temperature)
    related = facts.groups[:, None] == memory.facts.groups
    return torch.cat([logits, earlier.masked_fill(related, -torch.inf)], dim=1)


def of_all_views(pairs: Pairs, temperature: Tensor | float) -> Tensor:
    """Returns the logits of all views, first ones then second ones, to all others and to the memory.

    A view is not compared with itself: -inf on the diagonal.

    Shape:
        [2N, 2N + M].
    """
    views = directions(torch.cat([pairs.first, pairs.second]))
    logits = similarity(views, views, temperature).fill_diagonal_(-torch.inf)
    return with_memory(logits, views, concatenated(pairs.facts, pairs.facts), pairs.memory, temperature)


def partners(pairs: Pairs) -> Tensor:
    """Returns for each view the place of the other view of its model. Shape: [2N] int64."""
    models = len(pairs.first)
    return torch.arange(2 * models, device=pairs.first.device).roll(models)


def compared(pairs: Pairs) -> tuple[Facts, Facts]:
    """Returns the facts of all views, and of all that they are compared with."""
    views = concatenated(pairs.facts, pairs.facts)
    return views, views if pairs.memory is None else concatenated(views, pairs.memory.facts)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Returns the mean over anchors of -Σ_k target_k log softmax_k; what has no weight may be -inf.

    Shape:
        [N, K], [N, K] -> scalar.
    """
    surprise = -F.log_softmax(logits, dim=1)
    return (targets * surprise.masked_fill(targets == 0, 0.0)).sum(1).mean()

"""Tokens in the form that PyG's aggregations take: row after row, each with the number of its model."""

import torch
from torch import Tensor


def flat(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Returns tokens one after the other, and the model that each belongs to.

    Args:
        tokens: Shape: [B, L, T].

    Returns:
        Shapes: [B L, T] and [B L].
    """
    models, layers, _ = tokens.shape
    return tokens.flatten(0, 1), torch.arange(models, device=tokens.device).repeat_interleave(layers)

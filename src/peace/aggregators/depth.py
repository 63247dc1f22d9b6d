"""Where a layer stands: sinusoids of its distance from the input and from the output."""

import math

import torch
from torch import Tensor

_FREQUENCIES = 8

DEPTH_DIM = 4 * _FREQUENCIES
"""Number of features: a sine and a cosine of 8 frequencies for each of the two distances."""


def depth_features(layers: int, like: Tensor) -> Tensor:
    """Returns features of each layer's place; counted from both ends, so that networks of any depth share them.

    Args:
        layers: L.
        like: A tensor of the device and type wanted.

    Returns:
        Shape: [L, DEPTH_DIM].
    """
    depth = torch.arange(layers, device=like.device, dtype=like.dtype)
    distances = torch.stack([depth, layers - 1 - depth], dim=1)
    steps = torch.arange(_FREQUENCIES, device=like.device, dtype=like.dtype) / (_FREQUENCIES - 1)
    angles = (distances[:, :, None] * torch.exp(-math.log(100.0) * steps)).flatten(1)
    return torch.cat([angles.sin(), angles.cos()], dim=1)

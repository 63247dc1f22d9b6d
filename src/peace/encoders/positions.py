"""Position features of nodes and taps that have identities: sinusoids of their coordinates on a grid."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_FREQUENCIES = 8
_DIMENSIONS = 3

POSITION_DIM = 2 * _FREQUENCIES * _DIMENSIONS
"""Number of features: a sine and a cosine of 8 frequencies for each of 3 coordinates."""


def grid_positions(shape: Sequence[int], like: Tensor) -> Tensor:
    """Returns features of every cell of a grid, in row-major order.

    Sinusoids as in Vaswani et al. 2017 (arXiv:1706.03762, 3.5), wavelengths 2π to 2π·100 cells, for each coordinate on
    its own. A grid of fewer dimensions than three is counted from the last: (n,) is (1, 1, n), (h, w) is (1, h, w), and
    the empty grid is one cell.

    Args:
        shape: At most three lengths.
        like: A tensor of the device and type wanted.

    Returns:
        Shape: [cells, POSITION_DIM].
    """
    lengths = [1] * (_DIMENSIONS - len(shape)) + list(shape)
    axes = [torch.arange(length, device=like.device, dtype=like.dtype) for length in lengths]
    coordinates = torch.stack([part.flatten() for part in torch.meshgrid(*axes, indexing="ij")], dim=1)
    steps = torch.arange(_FREQUENCIES, device=like.device, dtype=like.dtype) / (_FREQUENCIES - 1)
    angles = (coordinates[:, :, None] * torch.exp(-math.log(100.0) * steps)).flatten(1)
    return torch.cat([angles.sin(), angles.cos()], dim=1)

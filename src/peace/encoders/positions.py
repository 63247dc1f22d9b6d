"""Position features of nodes and taps that have identities: plane waves over the grid that they lie on."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from peace import seeding

POSITION_DIM = 128
"""Number of features: a sine and a cosine of 64 plane waves."""

_DIMENSIONS = 3
_SHORTEST, _LONGEST = 2.0, 64.0
_FEW = 1024
"""Features of grids of so few cells are kept: every forward pass asks for the same ones."""


def grid_positions(shape: Sequence[int], like: Tensor) -> Tensor:
    """Returns features of every cell of a grid, in row-major order.

    √(2/POSITION_DIM) · [sin ω·x, cos ω·x] for fixed random ω: isotropic directions, wavelengths log-uniform from 2 to
    64 cells. Their inner product falls off with the distance of two cells in the plane; sinusoids of each coordinate on
    its own would only tell rows and columns apart, so that a linear map of them could not single out a pixel.

    Args:
        shape: At most three lengths; fewer are counted from the last: (n,) is (1, 1, n), (h, w) is (1, h, w), and the
            empty grid is one cell.
        like: A tensor of the device and type wanted.

    Returns:
        Shape: [cells, POSITION_DIM], each row of norm 1.

    Reference:
        Rahimi and Recht 2007, *Random features for large-scale kernel machines*; Tancik et al. 2020, arXiv:2006.10739.
    """
    lengths = (*[1] * (_DIMENSIONS - len(shape)), *shape)
    found = _kept_features(lengths) if math.prod(lengths) <= _FEW else _features(lengths)
    return found.to(like)


def _features(lengths: tuple[int, ...]) -> Tensor:
    axes = [torch.arange(length, dtype=torch.float64) for length in lengths]
    coordinates = torch.stack([part.flatten() for part in torch.meshgrid(*axes, indexing="ij")], dim=1)
    angles = coordinates @ _waves().T
    return torch.cat([angles.sin(), angles.cos()], dim=1) * math.sqrt(2 / POSITION_DIM)


@lru_cache(maxsize=64)
def _kept_features(lengths: tuple[int, ...]) -> Tensor:
    # Made in inference mode, they could not be used in training afterwards.
    with torch.inference_mode(False):
        return _features(lengths)


@lru_cache(maxsize=1)
def _waves() -> Tensor:
    """The fixed wave vectors, radians a cell. Shape: [POSITION_DIM / 2, 3]."""
    stream = seeding.keys([0], "plane waves")
    directions = seeding.normal(stream, POSITION_DIM // 2, _DIMENSIONS, dtype=torch.float64)[0]
    scale = seeding.uniform(seeding.keys([0], "wavelengths"), POSITION_DIM // 2, 1, dtype=torch.float64)[0]
    lengths = _SHORTEST * (_LONGEST / _SHORTEST) ** scale
    return 2 * math.pi / lengths * directions / directions.norm(dim=1, keepdim=True)

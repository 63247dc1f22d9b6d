"""Where the numbers of a layer stand in a tensor of the state dict."""

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Part:
    """Numbers of one tensor, as one layer has them. It holds no tensor.

    Attributes:
        tensor: Name of the tensor.
        shape: Its shape.
        out: Its dimensions whose places are output nodes; where there are none, there is one node.
        into: Likewise for input nodes; all other dimensions are taps.
        rows: Places of the output nodes along the first, in the order of the axis. Shape: [n_out].
        columns: Places of the input nodes along the second; several places of one node are taps. Shape: [n_in, k].
        pairs: Where not every row reads every column: places in both together, flattened, -1 for a zero. It then stands
            for rows and columns. Shape: [n_out, n_in / groups, k].
    """

    tensor: str
    shape: tuple[int, ...]
    out: tuple[int, ...]
    into: tuple[int, ...]
    rows: np.ndarray
    columns: np.ndarray
    pairs: np.ndarray | None = None

    @property
    def taps(self) -> tuple[int, ...]:
        """The grid of taps; at most three lengths, the first longer than 1."""
        repeated = (self.columns if self.pairs is None else self.pairs).shape[-1]
        rest = [size for dim, size in enumerate(self.shape) if dim not in (*self.out, *self.into)]
        return grid((repeated, *rest))

    def take(self, tensor: Tensor) -> Tensor:
        """Returns the numbers, a view where they are in order. Shape: [B, *shape] -> [B, n_out, n_in / groups, k]."""
        rest = [dim for dim in range(len(self.shape)) if dim not in (*self.out, *self.into)]
        moved = tensor.permute(0, *(dim + 1 for dim in (*self.out, *self.into, *rest)))
        sides = [prod(self.shape[dim] for dim in dims) for dims in (self.out, self.into)]
        flat = moved.reshape(len(tensor), *sides, prod(self.shape[dim] for dim in rest))
        if self.pairs is None:
            picked = _picked(_picked(flat, 1, self.rows), 2, self.columns.ravel())
            return picked.reshape(len(tensor), len(self.rows), len(self.columns), -1)
        flat = flat.flatten(1, 2)
        places = self.pairs.ravel()
        if (places < 0).any():
            flat = torch.cat([flat, flat.new_zeros(len(flat), 1, flat.shape[2])], dim=1)
            places = np.where(places < 0, flat.shape[1] - 1, places)
        return _picked(flat, 1, places).reshape(len(tensor), *self.pairs.shape[:2], -1)


def grid(lengths: tuple[int, ...]) -> tuple[int, ...]:
    """Returns a grid of as many cells in at most three lengths, without leading ones."""
    lengths = (prod(lengths[:-2]), *lengths[-2:]) if len(lengths) > 3 else lengths
    while lengths and lengths[0] == 1:
        lengths = lengths[1:]
    return lengths


def _picked(tensor: Tensor, dim: int, places: np.ndarray) -> Tensor:
    """Some places along a dimension, a view where they are neighbours in order."""
    first = int(places[0])
    if np.array_equal(places, np.arange(first, first + len(places))):
        return tensor.narrow(dim, first, len(places))
    return tensor.index_select(dim, torch.from_numpy(places).to(tensor.device))

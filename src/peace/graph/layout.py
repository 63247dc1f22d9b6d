"""Where a file keeps the out axis, the in axis and the taps of its weights: makers of networks differ in it."""

from collections.abc import Mapping
from typing import Literal

Layout = Literal["OIHW", "HWIO", "OHWI"]
Order = tuple[int, ...]

_LAYOUTS: tuple[Layout, ...] = ("OIHW", "HWIO", "OHWI")
_CERTAIN, _SHORT, _SQUARE = 100, 3, 2
_USUAL = 7


def order(layout: Layout, rank: int) -> Order:
    """Returns the dimensions of a tensor in the order out, in, taps.

    Args:
        layout: `OIHW` as torch (out, in, taps), `HWIO` as Keras and NumPy (taps, in, out), `OHWI` as TFLite.
        rank: Number of dimensions, at least 2.
    """
    match layout:
        case "OIHW":
            return tuple(range(rank))
        case "HWIO":
            return (rank - 1, rank - 2, *range(rank - 2))
        case _:
            return (0, rank - 1, *range(1, rank - 1))


def layout_of(weights: Mapping[str, tuple[int, ...]], outs: Mapping[str, int]) -> Layout:
    """Returns the layout that a file's tensors of one kind, linear or convolution, agree on best; torch's in doubt.

    A bias has the size of the out axis: where only one of the dimensions has that size, it is certain. Where that
    leaves two layouts, kernels tell: few are longer than 7 or than they have channels, and most are square.

    Args:
        weights: Shapes by name, of two or more dimensions.
        outs: Sizes of the out axes that are known, by name of the weight.
    """
    scores = {
        layout: sum(_score(order(layout, len(shape)), shape, outs.get(name)) for name, shape in weights.items())
        for layout in _LAYOUTS
    }
    named = all(name.lower().rpartition("/")[2].startswith(("kernel", "depthwise", "pointwise")) for name in weights)
    if weights and named and len(set(scores.values())) == 1:
        return "HWIO"
    return max(_LAYOUTS, key=lambda layout: scores[layout])


def _score(dimensions: Order, shape: tuple[int, ...], n_out: int | None) -> int:
    found, taps = shape[dimensions[0]], [shape[dimension] for dimension in dimensions[2:]]
    fits = _CERTAIN * (n_out == found) if n_out is not None else 0
    if not taps:
        return fits
    square = len(set(taps)) == 1
    short = max(taps) <= max(_USUAL, *(shape[dimension] for dimension in dimensions[:2]))
    return fits + _SQUARE * square + _SHORT * short

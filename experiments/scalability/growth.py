"""How a quantity grows with the number of models: a straight line, and what it says of more models than there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000


@dataclass(frozen=True)
class Line:
    """y = a + b n with the 95 % bootstrap intervals of a, b and of y at one n.

    Attributes:
        a: y of no model.
        b: y of one model more.
        at: y at that n.
        a_interval, b_interval, at_interval: Low and high.
    """

    a: float
    b: float
    at: float
    a_interval: tuple[float, float]
    b_interval: tuple[float, float]
    at_interval: tuple[float, float]


def line(values: Mapping[int, Sequence[float]], n: int, seed: int) -> Line:
    """Returns the line that fits repeated measurements with the least relative error.

    Errors of a measured time are in proportion to it, so each point counts by its inverse square. The bootstrap draws
    the repeats of each size anew, with replacement.

    Args:
        values: Repeated measurements by number of models, at least two numbers.
        n: Where the line is read off.
        seed: Of the bootstrap.
    """
    generator = np.random.default_rng(seed)
    sizes = np.array(sorted(values), dtype=float)
    measured = [np.asarray(values[int(size)], dtype=float) for size in sizes]
    drawn = np.stack(
        [found[generator.integers(len(found), size=(RESAMPLES, len(found)))].mean(1) for found in measured]
    )
    whole = _fitted(sizes, np.array([found.mean() for found in measured])[:, None])[:, 0]
    fits = _fitted(sizes, drawn)
    a, b, at = (_interval(found) for found in (fits[0], fits[1], fits[0] + n * fits[1]))
    return Line(float(whole[0]), float(whole[1]), float(whole[0] + n * whole[1]), a, b, at)


def _fitted(sizes: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Intercepts and slopes of many lines by weighted least squares. Shapes: [S], [S, R] to [2, R]."""
    weights = means**-2.0
    total, mean_n = weights.sum(0), (weights * sizes[:, None]).sum(0)
    mean_n, mean_y = mean_n / total, (weights * means).sum(0) / total
    deviations = sizes[:, None] - mean_n
    slopes = (weights * deviations * (means - mean_y)).sum(0) / (weights * deviations**2).sum(0)
    return np.stack([mean_y - slopes * mean_n, slopes])


def _interval(found: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)

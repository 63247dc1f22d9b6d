"""Axes of a recipe: values that are listed, or a range that every point of the grid draws its own value from."""

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from peace import seeding
from peace.errors import InputError, did_you_mean

Range = dict[str, list[float]]
"""`{uniform: [low, high]}` or `{log_uniform: [low, high]}`."""

_DRAWS: dict[str, Callable[[float, float, float], float]] = {
    "uniform": lambda low, high, share: low + share * (high - low),
    "log_uniform": lambda low, high, share: min(high, max(low, low * (high / low) ** share)),
}


def values(axis: object) -> list[Any]:
    """Returns what stands on an axis: its values, or the ends of its range."""
    if isinstance(axis, Mapping):
        return [end for ends in axis.values() for end in ends]
    return list(axis) if isinstance(axis, list) else [axis]


def check_range(axis: Mapping[str, Sequence[float]], where: str) -> None:
    """Refuses what is no range.

    Raises:
        InputError: Its kind is unknown, or its ends are not two ascending numbers that have what it takes.
    """
    if len(axis) != 1:
        raise InputError("not one range", where=where, got=dict(axis), expected="such as {log_uniform: [0.001, 0.1]}")
    ((kind, ends),) = axis.items()
    if kind not in _DRAWS:
        raise InputError(f"unknown range '{kind}'", where=where, do=did_you_mean(kind, _DRAWS))
    least = 0 if kind == "log_uniform" else -math.inf
    if len(ends) != 2 or not least < ends[0] < ends[1] < math.inf:
        expected = "two ascending numbers" + (" above 0" if kind == "log_uniform" else "")
        raise InputError("not the ends of a range", where=where, got=ends, expected=expected)


def points(axes: Sequence[list[Any] | Range], count: int | None, seed: int) -> Iterator[tuple[Any, ...]]:
    """Yields the points of a grid: all of them, or `count` drawn ones.

    Without ranges they are drawn without replacement. With ranges, each combination of listed values comes as often as
    any other, or once more, in an order drawn anew each time, and a range gives each point a value of its own; so a
    smaller count gives the first of a larger one's points.

    Args:
        axes: The axes.
        count: How many; must be given where there is a range.
        seed: Where the draws come from.
    """
    grid = list(itertools.product(*([None] if isinstance(axis, dict) else axis for axis in axes)))
    order, shares = random.Random(seed), random.Random(seeding.key(seed, "range"))
    if not any(isinstance(axis, dict) for axis in axes):
        yield from grid if count is None or count >= len(grid) else order.sample(grid, count)
        return
    rounds = itertools.chain.from_iterable(order.sample(grid, len(grid)) for _ in itertools.count())
    for point in itertools.islice(rounds, count):
        yield tuple(_drawn(axis, shares.random()) if isinstance(axis, dict) else value
                    for axis, value in zip(axes, point, strict=True))  # fmt: skip


def _drawn(axis: Range, share: float) -> float:
    ((kind, (low, high)),) = axis.items()
    return _DRAWS[kind](low, high, share)

"""Moving the places of a value, and its labels with them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from peace.graph.labels import Ids, Value, support
from peace.graph.rules import Operation

Move = Callable[[np.ndarray], np.ndarray]


def moved(op: Operation, value: Value, shape: Sequence[int], move: Move) -> Value:
    """Returns a value whose places were moved.

    Args:
        op: The operation.
        value: What is moved.
        shape: Shape of the result.
        move: Moves an array that has size 1 along every dimension that the label does not extend along, and gives one
            that has size 1 or the result's along every dimension.
    """
    labels: list[Ids] = []
    for ids in value.labels:
        ids = _narrowed(op.ledger.moved(ids, move(np.arange(ids.size).reshape(ids.shape))))
        if ids.size == 1 or set(support(ids)) & {dim for label in labels for dim in support(label)}:
            # One channel picked out of many, or two labels along one dimension.
            op.ledger.pin(ids, "position" if value.leaf else op.name)
        else:
            labels.append(ids)
    return replace(value, shape=tuple(shape), labels=tuple(labels), even=frozenset())


def _narrowed(ids: Ids) -> Ids:
    """A label of several dimensions without those along which it does not change."""
    for dim in support(ids):
        first = ids.take([0], axis=dim)
        ids = first if first.size > 1 and (ids == first).all() else ids
    return ids


def reshaped(op: Operation, value: Value, shape: Sequence[int]) -> Value:
    """Returns a value in another shape of as many places."""
    if 0 in shape:
        return Value(tuple(shape))
    groups = _groups(value.shape, tuple(shape))

    def move(places: np.ndarray) -> np.ndarray:
        full, target = list(places.shape), [1] * len(shape)
        for old, new in groups:
            if any(places.shape[dim] > 1 for dim in old):
                for dim in old:
                    full[dim] = value.shape[dim]
                for dim in new:
                    target[dim] = shape[dim]
        return np.broadcast_to(places, full).reshape(target)

    return moved(op, value, shape, move)


def _groups(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Dimensions of two shapes in the smallest groups, in order, that hold equally many places."""
    groups, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        taken, given = list(range(i, min(i + 1, len(old)))), list(range(j, min(j + 1, len(new))))
        i, j = i + len(taken), j + len(given)
        while (left := int(np.prod([old[dim] for dim in taken]))) != (
            right := int(np.prod([new[dim] for dim in given]))
        ):
            if left < right:
                taken.append(i)
                i += 1
            else:
                given.append(j)
                j += 1
        groups.append((taken, given))
    return groups


def sliced(op: Operation, value: Value, dim: int, start: int | None, end: int | None, step: int = 1) -> Value:
    """Returns a range of places along a dimension."""
    places = slice(start, end, step)
    size = len(range(value.shape[dim])[places])

    def move(array: np.ndarray) -> np.ndarray:
        return array[(slice(None),) * dim + (places,)] if array.shape[dim] > 1 else array

    return moved(op, value, (*value.shape[:dim], size, *value.shape[dim + 1 :]), move)

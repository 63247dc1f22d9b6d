"""Operations that only move places: views, slices, concatenation, padding."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from peace.graph.labels import Ids, Value, support
from peace.graph.rules import Operation, origin, reason, rule
from peace.graph.rules.places import moved, reshaped, sliced
from peace.graph.rules.pointwise import joined


def joined_along(op: Operation, values: Sequence[Value], dim: int) -> Value:
    """Returns the concatenation of values along a dimension."""
    values = [value for value in values if value.shape != (0,)] or list(values)
    along = [value.along(dim) for value in values]
    rest = [value if ids is None else value.without([ids]) for value, ids in zip(values, along, strict=True)]
    flat = [replace(value, shape=tuple(1 if k == dim else n for k, n in enumerate(value.shape))) for value in rest]
    labels = list(joined(op.ledger, flat, "sum"))
    if any(ids is not None for ids in along):
        parts = [_part(op, value, ids, dim) for value, ids in zip(values, along, strict=True)]
        wide = tuple(np.broadcast_shapes(*((*part.shape[:dim], 1, *part.shape[dim + 1 :]) for part in parts)))
        places, start = [], 0
        for part in parts:
            own = np.arange(start, start + part.size).reshape(part.shape)
            places.append(np.broadcast_to(own, (*wide[:dim], part.shape[dim], *wide[dim + 1 :])))
            start += part.size
        whole = np.concatenate([part.ravel() for part in parts])
        ids = op.ledger.moved(whole, np.concatenate(places, axis=dim))
        # Each part is also seen for itself: a zero of one padding is no zero of another.
        ends = np.cumsum([0, *(part.shape[dim] for part in parts)])
        for start, end in itertools.pairwise(ends.tolist()):
            own = np.arange(ids.size).reshape(ids.shape).take(range(start, end), axis=dim)
            op.ledger.movements.append((ids.ravel(), own.ravel()))
        for label in [label for label in labels if set(support(label)) & set(support(ids))]:
            op.ledger.pin(label, "position")
            labels = [kept for kept in labels if kept is not label]
        labels.append(ids)
    constant = "zero" if all(value.constant == "zero" for value in values) else None
    return Value(op.shape, tuple(labels), constant, origin(*values))


def _part(op: Operation, value: Value, ids: Ids | None, dim: int) -> Ids:
    """A value's label along the dimension of a concatenation; what is not labelled may not move, but zeros may."""
    size = (1,) * dim + (value.shape[dim],) + (1,) * (len(value.shape) - dim - 1)
    if ids is None:
        ids = op.ledger.fresh(size)
        if value.constant != "zero":
            op.ledger.pin(ids, reason(value))
    if ids.shape[dim] != value.shape[dim]:
        ids = np.broadcast_to(ids, (*ids.shape[:dim], value.shape[dim], *ids.shape[dim + 1 :]))
    return ids


@rule("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "_reshape_alias", "view_copy")
def _reshape(op: Operation, value: Value, *_: Any) -> Value | None:
    # Another reading of the bits is not another shape.
    return None if op.name.endswith(".dtype") else reshaped(op, value, op.shape)


@rule("alias", "detach", "clone", "contiguous", "lift_fresh", "lift_fresh_copy", "_to_copy", "to")
def _same(op: Operation, value: Value, *_: Any, **__: Any) -> Value:
    return value


@rule("permute")
def _permute(op: Operation, value: Value, dims: Sequence[int]) -> Value:
    return moved(op, value, op.shape, lambda places: places.transpose([dim % places.ndim for dim in dims]))


@rule("transpose")
def _transpose(op: Operation, value: Value, first: int, second: int) -> Value:
    return moved(op, value, op.shape, lambda places: places.swapaxes(first, second))


@rule("t", "numpy_T", "mT")
def _t(op: Operation, value: Value) -> Value:
    return moved(op, value, op.shape, lambda places: places.swapaxes(-1, -2) if places.ndim > 1 else places)


@rule("expand")
def _expand(op: Operation, value: Value, *_: Any, **__: Any) -> Value:
    value = value.spread(len(op.shape))
    grown = {dim for dim, (old, new) in enumerate(zip(value.shape, op.shape, strict=True)) if old < new}
    return replace(value, shape=op.shape, even=value.even | grown)


@rule("select")
def _select(op: Operation, value: Value, dim: int, index: int) -> Value:
    if value.parts:
        if dim % len(value.shape) == value.dim:
            return value.parts[index]
        value = whole(op, value)
    return moved(op, value, op.shape, lambda places: places.take(index if places.shape[dim] > 1 else 0, axis=dim))


@rule("slice")
def _slice(
    op: Operation, value: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    return sliced(op, value, dim % len(value.shape), start, end, step)


@rule("unbind")
def _unbind(op: Operation, value: Value, dim: int = 0) -> list[Value]:
    if value.parts and dim % len(value.shape) != value.dim:
        value = whole(op, value)
    return [_select(replace_shape(op, shape), value, dim, place) for place, shape in enumerate(op.shapes)]


@rule("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "chunk", "unsafe_chunk", "tensor_split")
def _split(op: Operation, value: Value, _: Any, dim: int = 0) -> list[Value]:
    ends = np.cumsum([shape[dim] for shape in op.shapes])
    starts = [0, *ends[:-1]]
    return [sliced(op, value, dim % len(value.shape), int(i), int(j)) for i, j in zip(starts, ends, strict=True)]


def replace_shape(op: Operation, shape: tuple[int, ...]) -> Operation:
    """Returns the operation with one output of the given shape, for a step of a rule."""
    return replace(op, shapes=(shape,))


@rule("cat", "concat", "concatenate")
def _cat(op: Operation, values: Sequence[Value], dim: int = 0) -> Value:
    return joined_along(op, values, dim % len(op.shape))


@rule("stack")
def _stack(op: Operation, values: Sequence[Value], dim: int = 0) -> Value:
    return Value(op.shape, (), None, origin(*values), parts=tuple(values), dim=dim % len(op.shape))


def whole(op: Operation, value: Value) -> Value:
    """Returns a stack whose parts are tied."""
    shape = tuple(1 if k == value.dim else n for k, n in enumerate(value.shape))
    return joined_along(replace_shape(op, value.shape), [reshaped(op, part, shape) for part in value.parts], value.dim)


@rule("flip")
def _flip(op: Operation, value: Value, dims: Sequence[int]) -> Value:
    return moved(op, value, op.shape, lambda places: np.flip(places, dims))


@rule("rot90")
def _rot90(op: Operation, value: Value, k: int = 1, dims: Sequence[int] = (0, 1)) -> Value:
    return moved(op, value, op.shape, lambda places: np.rot90(places, k, dims))


@rule("roll")
def _roll(op: Operation, value: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value | None:
    return moved(op, value, op.shape, lambda places: np.roll(places, shifts, dims)) if dims else None


@rule("repeat")
def _repeat(op: Operation, value: Value, repeats: Sequence[int]) -> Value:
    value = value.spread(len(repeats))

    def move(places: np.ndarray) -> np.ndarray:
        return np.tile(places, [times if places.shape[dim] > 1 else 1 for dim, times in enumerate(repeats)])

    return moved(op, value, op.shape, move)


@rule("pixel_shuffle")
def _pixel_shuffle(op: Operation, value: Value, factor: int) -> Value:
    *lead, channels, height, width = value.shape
    grid = (channels // factor**2, factor, factor, height, width)
    return _regridded(op, value, tuple(lead), grid, (0, 3, 1, 4, 2))


@rule("pixel_unshuffle")
def _pixel_unshuffle(op: Operation, value: Value, factor: int) -> Value:
    *lead, channels, height, width = value.shape
    grid = (channels, height // factor, factor, width // factor, factor)
    return _regridded(op, value, tuple(lead), grid, (0, 2, 4, 1, 3))


def _regridded(
    op: Operation, value: Value, lead: tuple[int, ...], grid: tuple[int, ...], order: Sequence[int]
) -> Value:
    """A value whose last dimensions are split into a grid, which is brought into another order and joined again."""
    split = reshaped(op, value, (*lead, *grid))
    dims = [*range(len(lead)), *(len(lead) + dim for dim in order)]
    shape = [split.shape[dim] for dim in dims]
    return reshaped(op, moved(op, split, shape, lambda places: places.transpose(dims)), op.shape)


@rule("constant_pad_nd", "pad")
def _constant_pad(op: Operation, value: Value, pad: Sequence[int], fill: Any = 0, *_: Any) -> Value | None:
    if not isinstance(fill, (int, float)):
        return None
    if fill != 0:
        for ids in value.labels:
            op.ledger.fix_scale(ids)
    for place in range(0, len(pad), 2):
        dim = len(value.shape) - 1 - place // 2
        before, after = pad[place], pad[place + 1]
        if min(before, after) < 0:
            return None
        shape = tuple(n + (before + after if k == dim else 0) for k, n in enumerate(value.shape))
        if value.along(dim) is None or not (before or after):
            value = replace(value, shape=shape)
            continue
        sizes = [tuple(n if k == dim else m for k, m in enumerate(value.shape)) for n in (before, after)]
        kind = "zero" if fill == 0 else "uniform"
        front, back = (Value(size, constant=kind) for size in sizes)
        parts = [part for part in (front, value, back) if part.shape[dim]]
        value = joined_along(replace_shape(op, shape), parts, dim)
    return replace(value, leaf=None)


@rule("index", "_unsafe_index")
def _index(op: Operation, value: Value, indices: Sequence[Value | None]) -> Value | None:
    if any(index is not None and index.labels for index in indices):
        return None
    dims = [dim for dim, index in enumerate(indices) if index is not None]
    picked = len(op.shape) - (len(value.shape) - len(dims))
    first = dims[0] if dims == list(range(dims[0], dims[-1] + 1)) else 0
    for ids in value.labels:
        if set(support(ids)) & set(dims):
            op.ledger.pin(ids, "position" if value.leaf else op.name)
            value = value.without([ids])

    def move(places: np.ndarray) -> np.ndarray:
        kept = places.reshape([n for dim, n in enumerate(places.shape) if dim not in dims])
        before = len([dim for dim in range(first) if dim not in dims])
        return kept.reshape(kept.shape[:before] + (1,) * picked + kept.shape[before:])

    return moved(op, value, op.shape, move)


@rule("index_select")
def _index_select(op: Operation, value: Value, dim: int, index: Value) -> Value | None:
    return _index(op, value, [None] * (dim % len(value.shape)) + [index])


@rule("embedding")
def _embedding(op: Operation, weight: Value, indices: Value, *_: Any) -> Value | None:
    rows, written = weight.along(0), weight.along(1)
    if weight.leaf and rows is not None and written is not None:
        op.ledger.used(weight, "embedding", None, rows, written)
    return _index(op, weight, [indices])

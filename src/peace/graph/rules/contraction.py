"""Operations that sum products over a dimension: linear layers, convolutions, attention."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from peace.graph.labels import Ids, Ledger, Value, support
from peace.graph.rules import Operation, origin, reason, rule
from peace.graph.rules.places import reshaped
from peace.graph.rules.pointwise import add, joined


def contracted(
    op: Operation, x: Value, y: Value, over: tuple[int, int], x_dims: Mapping[int, int], y_dims: Mapping[int, int]
) -> Value:
    """Returns Σ_k x[..., k, ...] · y[..., k, ...].

    Args:
        op: The operation.
        x: First factor.
        y: Second factor.
        over: The dimension that is summed over, in x and in y.
        x_dims: Every other dimension of x -> its place in the result.
        y_dims: Likewise of y; a place that both name is a batch dimension.
    """
    if "zero" in (x.constant, y.constant):
        return Value(op.shape, constant="zero")
    ledger, ndim = op.ledger, len(op.shape)
    batch = set(x_dims.values()) & set(y_dims.values())
    lx, ly = x.along(over[0]), y.along(over[1])
    middle: tuple[Ids, ...] = ()
    if lx is not None and ly is not None:
        rows_x = _rows(ledger, lx, over[0], x_dims, batch, ndim)
        rows_y = _rows(ledger, ly, over[1], y_dims, batch, ndim)
        rows_x, rows_y = np.broadcast_arrays(rows_x, rows_y)
        if rows_x.size == rows_x.shape[-1]:
            ledger.tie(rows_x, rows_y, "opposite")
        else:
            ledger.tie(rows_x, rows_y, "free")
            block = ledger.blocks(rows_x, [ndim])
            ledger.product(block, rows_x, rows_y)
            middle = (block[..., 0],)
    else:
        for ids, against in ((lx, y), (ly, x)):
            if ids is not None:
                ledger.pin(ids, reason(against))
    shape = tuple(middle[0].shape) if middle else (1,) * ndim
    factors = [_placed(x, lx, x_dims, ndim), _placed(y, ly, y_dims, ndim), Value(shape, middle)]
    return Value(op.shape, joined(ledger, factors, "product"), None, origin(x, y))


def _rows(ledger: Ledger, ids: Ids, over: int, dims: Mapping[int, int], batch: set[int], ndim: int) -> Ids:
    """A label over the summed dimension, in the result's dimensions and that one last; free ones are tied."""
    ids = ledger.collapse(ids, [dim for dim, place in dims.items() if place not in batch])
    return _to_places(ids, {**dims, over: ndim}, ndim + 1)


def _placed(value: Value, summed: Ids | None, dims: Mapping[int, int], ndim: int) -> Value:
    """A factor in the result's dimensions, without the label that was summed over and what it speaks for."""
    value = value.without([summed])
    labels = tuple(_to_places(ids, dims, ndim) for ids in value.labels)
    shape = [1] * ndim
    for dim, place in dims.items():
        shape[place] = 1 if summed is not None and summed.shape[dim] > 1 else value.shape[dim]
    even = frozenset(dims[dim] for dim in value.even if dim in dims)
    return replace(value, shape=tuple(shape), labels=labels, even=even)


def _to_places(ids: Ids, dims: Mapping[int, int], ndim: int) -> Ids:
    """An array with its dimensions at other places; those that are not named have size 1."""
    shape = [1] * ndim
    for dim, place in dims.items():
        shape[place] = ids.shape[dim]
    order = sorted(dims, key=dims.__getitem__)
    rest = [dim for dim in range(ids.ndim) if dim not in dims]
    return ids.transpose([*order, *rest]).reshape(shape)


def linear(op: Operation, x: Value, weight: Value, bias: Value | None, read: int) -> Value:
    """Returns x times a matrix, plus a bias.

    Args:
        op: The operation.
        x: [..., n_in].
        weight: The matrix.
        bias: [n_out], or what broadcasts to the result.
        read: The matrix's dimension that is summed over.
    """
    last = len(x.shape) - 1
    op.ledger.used(weight, "linear", bias, weight.along(read), weight.along(1 - read))
    result = contracted(op, x, weight, (last, read), {dim: dim for dim in range(last)}, {1 - read: last})
    return result if bias is None else add(op, result, bias)


@rule("mm", "matmul", "mv", "dot")
def _mm(op: Operation, x: Value, y: Value) -> Value | None:
    return linear(op, x, y, None, 0) if len(x.shape) == len(y.shape) == 2 else None


@rule("linear")
def _linear(op: Operation, x: Value, weight: Value, bias: Value | None = None) -> Value:
    return linear(op, x, weight, bias, 1)


@rule("addmm")
def _addmm(op: Operation, bias: Value, x: Value, y: Value, **_: Any) -> Value:
    return linear(op, x, y, bias, 0)


@rule("bmm")
def _bmm(op: Operation, x: Value, y: Value) -> Value:
    return contracted(op, x, y, (2, 1), {0: 0, 1: 1}, {0: 0, 2: 2})


@rule("baddbmm")
def _baddbmm(op: Operation, bias: Value, x: Value, y: Value, **_: Any) -> Value:
    return add(op, bias, _bmm(op, x, y))


@rule("convolution", "_convolution", "convolution_overrideable")
def _convolution(
    op: Operation, x: Value, weight: Value, bias: Value | None, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int, *_: Any,
) -> Value | None:  # fmt: skip
    grid = range(2, len(weight.shape))
    x, weight = _off_grid(op.ledger, x, grid, "position"), _off_grid(op.ledger, weight, grid, "kernel")
    if groups > 1:
        result = (_grouped_transposed if transposed else _grouped)(op, x, weight, bias, groups)
        if result is None:
            return None
    else:
        read, written = (0, 1) if transposed else (1, 0)
        op.ledger.used(weight, "conv", bias, weight.along(read), weight.along(written))
        result = contracted(op, x, weight, (1, read), {0: 0} | {dim: dim for dim in grid}, {written: 1})
    return result if bias is None else add(op, result, reshaped(op, bias, (1, bias.shape[0], *[1] * len(grid))))


def _off_grid(ledger: Ledger, value: Value, grid: range, why: str) -> Value:
    """A value without labels along the grid that a kernel slides over."""
    labels = []
    for ids in value.labels:
        if support(ids)[0] not in grid:
            # All places of a channel move together.
            labels.append(ledger.collapse(ids, grid))
        else:
            ledger.pin(ids, why)
    return replace(value, labels=tuple(labels))


def _grouped(op: Operation, x: Value, weight: Value, bias: Value | None, groups: int) -> Value | None:
    """A convolution each of whose groups of channels is read by a group of its own: groups move as a whole."""
    ledger, ids, out, read = op.ledger, x.along(1), weight.along(0), weight.along(1)
    if len(x.labels) > 1 or (ids is not None and support(ids) != (1,)):
        return None
    n_out, n_in = weight.shape[:2]
    ledger.used(weight, "grouped", bias, read if n_in > 1 else ids, out)
    if ids is None or out is None:
        for value, other in ((x, weight), (weight, x)):
            for label in value.labels:
                ledger.pin(label, reason(other))
        return Value(op.shape, (), None, origin(x, weight))
    inputs, outputs = ids.reshape(groups, n_in), out.reshape(groups, n_out // groups)
    block = ledger.blocks(inputs, [1]).ravel() if n_in > 1 else inputs.ravel()
    if n_out == groups:
        ledger.tie(outputs.ravel(), block, "free")
    else:
        ledger.belong(outputs, block[:, None])
    label = out.reshape(1, n_out, *[1] * (len(op.shape) - 2))
    if n_in == 1:
        # The weight has no dimension of its own for the one channel that it reads.
        result = ledger.fresh(label.shape)
        ledger.tie(result, label, "free")
        ledger.product(result.ravel(), label.ravel(), np.repeat(inputs.ravel(), n_out // groups))
        label = result
    else:
        own = ledger.per_group(weight, groups)
        ledger.tie(inputs, read.reshape(1, n_in) if own is None else own, "opposite")
    return Value(op.shape, (label,), None, origin(x, weight))


def _grouped_transposed(op: Operation, x: Value, weight: Value, bias: Value | None, groups: int) -> Value | None:
    """A transposed convolution of groups: each group of channels writes a group of its own."""
    ledger, ids, read = op.ledger, x.along(1), weight.along(0)
    if len(x.labels) != 1 or ids is None or support(ids) != (1,) or read is None or weight.shape[1] == 1:
        return None
    ledger.used(weight, "grouped", bias, read, weight.along(1))
    written = ledger.per_group(weight, groups)
    if written is None:
        return None
    inputs = ids.reshape(groups, -1)
    block = ledger.blocks(inputs, [1]).ravel() if inputs.shape[1] > 1 else inputs.ravel()
    ledger.tie(ids.ravel(), read.ravel(), "opposite")
    ledger.belong(written, block[:, None])
    return Value(op.shape, (written.reshape(1, -1, *[1] * (len(op.shape) - 2)),), None, origin(x, weight))

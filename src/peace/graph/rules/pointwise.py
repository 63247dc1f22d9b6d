"""Operations that treat every place alike: activations, sums and products."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from peace.graph.labels import KINDS, Ids, Ledger, Value, support
from peace.graph.rules import Operation, origin, reason, rule
from peace.graph.rules.places import sliced

Scales = Literal["sum", "product", "fixed"]
Member = tuple[int, Ids]
"""A label and the place of its value among those that meet."""

_KEEPS = {
    **dict.fromkeys(("tanh", "sin", "asinh", "atan", "erf", "tan", "asin", "sinh", "atanh"), ("sign",)),
    **dict.fromkeys(("relu", "leaky_relu", "rrelu_with_noise"), ("positive",)),
    **dict.fromkeys(("neg", "positive", "real"), KINDS),
    **dict.fromkeys(("hardswish", "hardsigmoid", "hardtanh", "softplus", "mish", "celu", "selu"), ()),
}
"""Which scales an activation hands on; whatever else torch calls pointwise hands on none."""


def joined(ledger: Ledger, values: Sequence[Value], scales: Scales) -> tuple[Ids, ...]:
    """Returns the labels of values that meet place by place after broadcasting.

    Labels that extend along the same dimensions come to share nodes. One that extends along some of another's
    dimensions says which block each entry of the other belongs to. A label that meets a value which varies along its
    dimensions without a label is pinned.

    Args:
        ledger: Where demands are written.
        values: What meets.
        scales: In a sum scales must agree, in a product they multiply, elsewhere they must be 1.
    """
    ndim = max(len(value.shape) for value in values)
    values = [value.spread(ndim) for value in values if scales != "sum" or value.constant != "zero"]
    pool = [(place, ids) for place, value in enumerate(values) for ids in value.labels]
    labels = []
    while pool:
        cluster = [pool.pop(0)]
        dims = set(support(cluster[0][1]))
        while found := [member for member in pool if dims & set(support(member[1]))]:
            cluster += found
            dims = dims.union(*(support(ids) for _, ids in found))
            pool = [member for member in pool if not any(member is other for other in found)]
        label = _met(ledger, values, cluster, dims, scales)
        labels += [] if label is None else [label]
    return tuple(labels)


def _met(ledger: Ledger, values: Sequence[Value], cluster: list[Member], dims: set[int], scales: Scales) -> Ids | None:
    """The one label of labels that overlap, or None where they had to be pinned."""
    wide = [member for member in cluster if set(support(member[1])) == dims]
    narrow = [member for member in cluster if set(support(member[1])) != dims]
    alone = len({place for place, _ in cluster}) == len(cluster)
    if not wide or not alone or any(values[place].varies(dims - set(support(ids))) for place, ids in narrow):
        return _pinned(
            ledger, cluster, "position" if all(values[place].leaf for place, _ in cluster) else ledger.operation
        )
    first = wide[0][1]
    there = {place for place, _ in cluster}
    others = [value for place, value in enumerate(values) if place not in there]
    for other in others:
        over = {dim for dim in dims if other.varies([dim])} if other.constant != "uniform" else set()
        if over == dims and scales != "product":
            return _pinned(ledger, cluster, reason(other))
        if over == dims:
            for _, ids in cluster:
                ledger.hold(ids, reason(other))
        elif over:
            ledger.mark(first, over)
    if scales == "fixed" or (scales == "sum" and (others or narrow)):
        for _, ids in cluster:
            ledger.fix_scale(ids)
    for _, ids in wide[1:]:
        ledger.tie(first, ids, "same" if scales == "sum" else "free")
    for _, ids in narrow:
        if support(ids) == tuple(sorted(dims))[: len(support(ids))]:
            ledger.belong(first, ids)
        else:
            # What all blocks share place by place: the blocks may move, and the places stay.
            ledger.pin(ids, "position")
            ledger.mark(first, set(support(ids)))
    return _product(ledger, cluster, first) if scales == "product" and len(cluster) > 1 else first


def _pinned(ledger: Ledger, cluster: list[Member], why: str) -> None:
    for _, ids in cluster:
        ledger.pin(ids, why)


def _product(ledger: Ledger, cluster: list[Member], like: Ids) -> Ids:
    if sum(set(support(ids)) == set(support(like)) for _, ids in cluster) > 1:
        ledger.gated.append(like.ravel())
    total = cluster[0][1]
    for _, ids in cluster[1:]:
        result = ledger.fresh(like.shape)
        ledger.tie(result, like, "free")
        ledger.product(result, total, ids)
        total = result
    return total


def apply(op: Operation, value: Value, keeps: Sequence[str]) -> Value:
    """Returns the value of a function of each place, which hands on some kinds of scales."""
    for ids in value.labels:
        op.ledger.fix_scale(ids, [kind for kind in KINDS if kind not in keeps])
    return replace(value, leaf=None)


def add(op: Operation, *values: Value) -> Value:
    """Returns the sum of values."""
    kept = [value for value in values if value.constant != "zero"]
    if len(kept) == 1 and kept[0].shape == op.shape:
        return kept[0]
    constant = "zero" if not kept else None
    return Value(op.shape, joined(op.ledger, values, "sum") if kept else (), constant, origin(*values))


def multiply(op: Operation, *values: Value) -> Value:
    """Returns the product of values."""
    if any(value.constant == "zero" for value in values):
        return Value(op.shape, constant="zero")
    return Value(op.shape, joined(op.ledger, values, "product"), None, origin(*values))


def number(given: Any) -> Value:
    """Returns a scalar argument as a value, and a value as it is."""
    if isinstance(given, Value):
        return given
    return Value((), constant="zero" if given == 0 else "uniform")


def other(op: Operation, *arguments: Any) -> Value:
    """Returns the value of any function of places: nodes go through it, scales do not."""
    values = [argument for argument in arguments if isinstance(argument, Value)]
    return Value(op.shape, joined(op.ledger, values, "fixed"), None, origin(*values))


@rule(*_KEEPS)
def _activation(op: Operation, value: Value, *_: Any, **__: Any) -> Value:
    return apply(op, value, _KEEPS[op.base])


@rule("prelu", "_prelu_kernel")
def _prelu(op: Operation, value: Value, weight: Value) -> Value:
    for ids in weight.labels:
        op.ledger.fix_scale(ids)
    result = apply(op, value, ["positive"])
    return Value(op.shape, joined(op.ledger, [result, weight], "product"), None, origin(value, weight))


def shed(op: Operation, value: Value, kind: str) -> Value:
    """Returns the value of a function that loses one kind of scales and hands on the other."""
    labels = []
    for ids in value.labels:
        kept, lost = op.ledger.fresh(ids.shape), op.ledger.fresh(ids.shape)
        op.ledger.tie(kept, ids, "free")
        op.ledger.tie(lost, ids, "free")
        op.ledger.product(ids, kept, lost)
        op.ledger.fix_scale(kept, [kind])
        op.ledger.fix_scale(lost, [other for other in KINDS if other != kind])
        labels.append(kept)
    return replace(value, labels=tuple(labels), leaf=None)


@rule("abs")
def _abs(op: Operation, value: Value) -> Value:
    return shed(op, value, "sign")


@rule("pow")
def _power(op: Operation, value: Value, exponent: Any) -> Value | None:
    if isinstance(exponent, (int, float)) and exponent > 0 and exponent % 2 == 0:
        for ids in value.labels:
            op.ledger.fix_scale(ids, ["positive"])
        return shed(op, value, "sign")
    return other(op, value, exponent)


@rule("square")
def _square(op: Operation, value: Value) -> Value | None:
    return _power(op, value, 2)


@rule("add", "sub", "rsub")
def _add(op: Operation, first: Any, second: Any, alpha: Any = 1) -> Value:
    return add(op, number(first), number(second))


@rule("mul")
def _multiply(op: Operation, first: Any, second: Any) -> Value:
    return multiply(op, number(first), number(second))


@rule("div")
def _divide(op: Operation, first: Any, second: Any, rounding_mode: str | None = None) -> Value:
    second = number(second)
    if rounding_mode is not None or not isinstance(first, Value) or first.constant == "zero":
        return other(op, first, second)
    for ids in second.labels:
        op.ledger.fix_scale(ids, ["positive"])
    # A sign divides as it multiplies.
    return multiply(op, first, second)


@rule("glu")
def _glu(op: Operation, value: Value, dim: int = -1) -> Value:
    dim %= len(op.shape)
    half = op.shape[dim]
    linear, gate = (sliced(op, value, dim, start, start + half) for start in (0, half))
    return multiply(op, linear, apply(op, gate, ()))


@rule("_weight_norm_interface")
def _weight_norm(op: Operation, direction: Value, norm: Value, dim: int = 0) -> list[Value]:
    """g·v/‖v‖, the norm taken over all dimensions but one: of what multiplies a row of v, its sign is left."""
    for ids in direction.labels:
        if dim not in support(ids):
            op.ledger.fix_scale(ids, ["positive"])
    unit = shed(op, direction, "positive")
    return [multiply(op, unit, norm), Value(op.shapes[1], origin="position")]


@rule("where")
def _where(op: Operation, condition: Value, first: Any = 0, second: Any = 0) -> Value:
    return other(op, condition, number(first), number(second))


@rule("masked_fill")
def _masked_fill(op: Operation, value: Value, mask: Value, fill: Any) -> Value:
    if fill == 0:
        return Value(op.shape, joined(op.ledger, [value, mask], "product"), None, origin(value, mask))
    return other(op, value, mask, number(fill))

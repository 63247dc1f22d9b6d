"""Operations that sum over places or normalise by them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from peace.graph.labels import Ids, Value, support
from peace.graph.rules import Operation, rule
from peace.graph.rules.movement import replace_shape
from peace.graph.rules.places import reshaped
from peace.graph.rules.pointwise import add, apply, joined, multiply

_HANDS_ON = {
    **dict.fromkeys(("mean", "sum", "nansum"), ("positive", "sign")),
    **dict.fromkeys(("amax", "amin"), ("positive",)),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean", "norm", "linalg_vector_norm", "logsumexp", "prod"), ()),
}
"""Which scales of labels along other dimensions a sum over places hands on."""


def reduced(op: Operation, value: Value, dims: Sequence[int]) -> tuple[list[Ids], list[Ids]]:
    """Returns labels that a reduction over dimensions leaves alone, and labels of blocks that it makes of others.

    The scales of what is reduced over become 1; sizes along reduced dimensions stay, as 1.
    """
    kept, blocks = [], []
    for ids in value.labels:
        over = set(support(ids)) & set(dims)
        if not over:
            kept.append(ids)
            continue
        op.ledger.fix_scale(ids)
        if over != set(support(ids)):
            blocks.append(op.ledger.blocks(ids, over))
            op.ledger.fix_scale(blocks[-1])
    return kept, blocks


def _dims(given: Any, ndim: int) -> list[int]:
    given = [given] if isinstance(given, int) else given
    return [dim % ndim for dim in given] if given else list(range(ndim))


@rule(*_HANDS_ON)
def _reduce(op: Operation, value: Value, *given: Any, **named: Any) -> list[Value]:
    given = given[1:] if op.base in ("norm", "linalg_vector_norm") else given
    dims = _dims(named.get("dim", given[0] if given and not isinstance(given[0], bool) else None), len(value.shape))
    kept, blocks = reduced(op, value, dims)
    wide = tuple(1 if dim in dims else n for dim, n in enumerate(value.shape))
    result = apply(op, replace(value, shape=wide, labels=tuple(kept)), _HANDS_ON[op.base])
    result = replace(result, labels=(*kept, *blocks))
    return [reshaped(op, result, shape) for shape in op.shapes]


@rule("max", "min", "argmax", "argmin")
def _extreme(op: Operation, value: Value, dim: Any = None, keepdim: bool = False, **_: Any) -> list[Value] | None:
    """The largest over a dimension, and where it stands, which says who is who: along a label nothing is claimed."""
    if not isinstance(dim, int) or value.along(dim % len(value.shape)) is not None:
        return None
    wide = tuple(1 if k == dim % len(value.shape) else n for k, n in enumerate(value.shape))
    largest = apply(op, replace(value, shape=wide), ["positive"] if len(op.shapes) == 2 else [])
    where = apply(op, replace(largest, labels=_fresh(op, largest)), [])
    return [reshaped(op, result, shape) for result, shape in zip((largest, where), op.shapes, strict=False)]


def _fresh(op: Operation, value: Value) -> tuple[Ids, ...]:
    """Labels of the same nodes, with scales of their own."""
    labels = []
    for ids in value.labels:
        labels.append(op.ledger.fresh(ids.shape))
        op.ledger.tie(labels[-1], ids, "free")
    return tuple(labels)


@rule("_softmax", "_safe_softmax", "_log_softmax", "softmax", "log_softmax")
def _softmax(op: Operation, value: Value, dim: int, *_: Any) -> Value:
    kept, _blocks = reduced(op, value, [dim % len(value.shape)])
    for ids in kept:
        op.ledger.fix_scale(ids)
    return replace(value, leaf=None)


def _vector(op: Operation, vector: Value | None, dim: int, ndim: int) -> Value | None:
    """A vector along one dimension."""
    if vector is None:
        return None
    shape = (1,) * dim + vector.shape + (1,) * (ndim - dim - 1)
    return reshaped(op, vector, shape)


def _affine(op: Operation, value: Value, weight: Value | None, bias: Value | None) -> Value:
    if weight is not None:
        op.ledger.used(weight, "norm", bias, None, None)
    value = value if weight is None else multiply(op, value, weight)
    return value if bias is None else add(op, value, bias)


@rule("native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit", "cudnn_batch_norm")
def _batch_norm(
    op: Operation, x: Value, weight: Value | None, bias: Value | None, mean: Value | None, var: Value | None, *more: Any
) -> list[Value] | None:
    """γ (x - μ) / √(σ² + ε) + β: μ goes with x, σ² stays as it is, γ takes what comes in and what goes out."""
    op = replace_shape(op, op.shape)
    ndim = len(x.shape)
    weight, bias, mean, var = (_vector(op, vector, 1, ndim) for vector in (weight, bias, mean, var))
    training = bool(more) and more[0] is True and "no_training" not in op.name
    if training or mean is None or var is None:
        reduced(op, x, [dim for dim in range(ndim) if dim != 1])
        for ids in x.labels:
            op.ledger.fix_scale(ids, ["positive"])
        value = x
    else:
        for ids in var.labels:
            op.ledger.fix_scale(ids)
        if weight is None:
            for ids in x.labels:
                op.ledger.fix_scale(ids, ["positive"])
        op.ledger.used(var, "norm", mean, None, None)
        value = add(op, x, mean)
        value = replace(value, labels=_divided(op, value, var))
    return [_affine(op, value, weight, bias), Value((0,)), Value((0,))]


def _divided(op: Operation, value: Value, by: Value) -> tuple[Ids, ...]:
    """Labels of a value divided by a vector whose scales are 1, which ties nodes and leaves scales."""
    tied = {support(ids): ids for ids in value.labels}
    for ids in by.labels:
        if support(ids) in tied:
            op.ledger.tie(tied[support(ids)], ids, "free")
        else:
            return joined(op.ledger, [value, by], "product")
    return value.labels


@rule("native_layer_norm", "layer_norm")
def _layer_norm(
    op: Operation, x: Value, shape: Sequence[int], weight: Value | None = None, bias: Value | None = None, *_: Any
) -> list[Value]:
    result = _normalised(replace_shape(op, op.shape), x, len(shape), weight, bias, sign=False)
    return [result, Value((0,)), Value((0,))]


@rule("rms_norm", "_fused_rms_norm")
def _rms_norm(op: Operation, x: Value, shape: Sequence[int], weight: Value | None = None, *_: Any) -> list[Value]:
    return [_normalised(replace_shape(op, op.shape), x, len(shape), weight, None, sign=True), Value((0,))]


def _normalised(op: Operation, x: Value, last: int, weight: Value | None, bias: Value | None, sign: bool) -> Value:
    """X brought to norm 1 over its last dimensions. Where no mean is taken, signs go through."""
    dims = range(len(x.shape) - last, len(x.shape))
    for ids in x.labels:
        inside = set(support(ids)) & set(dims)
        op.ledger.fix_scale(ids, ["positive"] if sign and inside else ["positive", "sign"])
        if inside and inside != set(support(ids)):
            op.ledger.fix_scale(op.ledger.blocks(ids, inside))
    return _affine(op, replace(x, leaf=None), weight, bias)


@rule("native_group_norm")
def _group_norm(
    op: Operation, x: Value, weight: Value | None, bias: Value | None, n: int, c: int, hw: int, groups: int, eps: float
) -> list[Value]:
    op = replace_shape(op, op.shape)
    grouped = reshaped(op, x, (n, groups, c // groups, *x.shape[2:]))
    grouped = _normalised(op, grouped, len(grouped.shape) - 2, None, None, sign=False)
    value = reshaped(op, grouped, x.shape)
    ndim = len(x.shape)
    return [_affine(op, value, _vector(op, weight, 1, ndim), _vector(op, bias, 1, ndim)), Value((0,)), Value((0,))]


_SPATIAL = {
    **{f"{kind}{n}d": (n, kinds) for n in (1, 2, 3) for kind, kinds in {
        "avg_pool": ("positive", "sign"), "adaptive_avg_pool": ("positive", "sign"), "_adaptive_avg_pool":
        ("positive", "sign"), "max_pool": ("positive",), "adaptive_max_pool": ("positive",),
        "upsample_nearest": ("positive", "sign"), "_upsample_nearest_exact": ("positive", "sign"),
        "reflection_pad": ("positive", "sign"), "replication_pad": ("positive", "sign"),
    }.items()},
    **{f"max_pool{n}d_with_indices": (n, ("positive",)) for n in (2, 3)},
    **dict.fromkeys(("upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa",
                     "_upsample_bicubic2d_aa"), (2, ("positive", "sign"))),
    "upsample_linear1d": (1, ("positive", "sign")), "upsample_trilinear3d": (3, ("positive", "sign")),
    **dict.fromkeys(("tril", "triu"), (2, ("positive", "sign"))),
}  # fmt: skip
"""Operations on each channel's grid: number of the grid's dimensions, the last ones, and the scales that go through."""


@rule(*_SPATIAL)
def _spatial(op: Operation, x: Value, *_: Any, **__: Any) -> list[Value]:
    n, keeps = _SPATIAL[op.base]
    grid = set(range(len(x.shape) - n, len(x.shape)))
    lost = [ids for ids in x.labels if set(support(ids)) & grid]
    for ids in lost:
        op.ledger.pin(ids, op.name)
    result = replace(apply(op, x.without(lost), keeps), even=frozenset())
    # Where the largest stood says nothing of how large it was.
    where = apply(op, replace(result, labels=_fresh(op, result)), []) if len(op.shapes) > 1 else result
    return [replace(value, shape=shape) for value, shape in zip((result, where), op.shapes, strict=False)]


@rule("cumsum")
def _cumsum(op: Operation, x: Value, dim: int, **_: Any) -> Value | None:
    if x.along(dim % len(x.shape)) is not None:
        return None
    return replace(x, leaf=None, even=frozenset())

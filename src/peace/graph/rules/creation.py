"""Operations that make constants or copies."""

from dataclasses import replace
from typing import Any

from peace.graph.labels import Value
from peace.graph.rules import Operation, rule


@rule("zeros", "zeros_like", "new_zeros", "zero")
def _zeros(op: Operation, *_: Any, **__: Any) -> Value:
    return Value(op.shape, constant="zero")


@rule("ones", "ones_like", "new_ones", "scalar_tensor")
def _ones(op: Operation, *_: Any, **__: Any) -> Value:
    return Value(op.shape, constant="uniform")


@rule("full", "full_like", "new_full", "fill")
def _full(op: Operation, _: Any, fill: Any, *__: Any, **___: Any) -> Value | None:
    if isinstance(fill, Value):
        return None
    return Value(op.shape, constant="zero" if fill == 0 else "uniform")


@rule("arange", "linspace", "eye", "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided",
      "tril_indices", "triu_indices", "rand", "randn", "randint", "randperm")  # fmt: skip
def _constant(op: Operation, *_: Any, **__: Any) -> Value:
    return Value(op.shape, constant="varying")


@rule("copy")
def _copied(op: Operation, _: Value, source: Value, *__: Any) -> Value:
    return replace(source.spread(len(op.shape)), shape=op.shape, leaf=None)

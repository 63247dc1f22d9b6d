"""What each operation demands of the entries of its tensors, so that the network's function stays as it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peace.graph.labels import Ledger, Value

Rule = Callable[..., Any]
"""Called with the operation and its arguments, tensors replaced by values; returns the value or values of its outputs,
or None where it does not understand its arguments."""

RULES: dict[str, Rule] = {}


@dataclass(frozen=True)
class Operation:
    """One operation of a run.

    Attributes:
        ledger: Where demands are written.
        name: In full, such as `aten.relu.default`.
        shapes: Of its outputs.
    """

    ledger: Ledger
    name: str
    shapes: tuple[tuple[int, ...], ...]

    @property
    def base(self) -> str:
        """Its name without library, overload and the underscore of an in-place form, such as `relu`."""
        return self.name.split(".")[1].removesuffix("_")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of its first output."""
        return self.shapes[0]


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Returns a decorator that makes a function the rule of operations of these names."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return register


def origin(*values: Value) -> str:
    """Returns what holds the unlabelled dimensions of a result fixed."""
    return next((value.origin for value in values if value.origin != "input"), "input")


def reason(value: Value) -> str:
    """Returns why nodes are pinned that meet an unlabelled dimension of a value."""
    if value.origin != "input":
        return value.origin
    return "input" if not value.labels and value.constant is None else "position"

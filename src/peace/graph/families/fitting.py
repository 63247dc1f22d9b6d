"""Whether a checkpoint's tensors are those of a module: every floating tensor, by name and by shape."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

Shapes = Mapping[str, tuple[int, ...]]
Renaming = Callable[[str], str]

_WRAPPERS = ("module.", "model.", "_orig_mod.", "backbone.", "encoder.", "net.")
_MOST = 3


@dataclass(frozen=True)
class Fit:
    """How a checkpoint's tensors compare with a module's.

    Attributes:
        missing: Names that the module has and the checkpoint has not.
        unexpected: Names that the checkpoint has and the module has not.
        misshaped: Names of both, with the checkpoint's shape and the module's.
        names: The module's name of each of the checkpoint's tensors that is called otherwise there.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether nothing is missing, unexpected or misshaped."""
        return not (self.missing or self.unexpected or self.misshaped)

    def __str__(self) -> str:
        """What does not fit, the first few of each kind."""
        wrong = [f"{name} of shape {got} instead of {want}" for name, (got, want) in self.misshaped.items()]
        parts = [_first(kind, names) for kind, names in (("lacks", self.missing), ("has besides", self.unexpected))]
        parts.append(_first("has", wrong))
        return " and ".join(part for part in parts if part)

    def renamed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns a checkpoint's tensors by the module's names."""
        return {self.names.get(name, name): tensor for name, tensor in tensors.items()}


def fit(module: nn.Module, given: Shapes, renamings: Sequence[Renaming] = (), ignored: Sequence[str] = ()) -> Fit:
    """Returns how a checkpoint's floating tensors compare with a module's.

    Integers, such as the counters of batch norms, are left aside. A tensor that the module holds under several names
    need be there under one of them only. A prefix that all names of the checkpoint share is stripped, but only if
    everything fits then.

    Args:
        module: On the meta device.
        given: Shapes of the checkpoint's floating tensors.
        renamings: How a family's files may name tensors otherwise than its modules do.
        ignored: Patterns of names that a family's files may have besides.
    """
    wanted, aliases = _wanted(module)

    def compare(named: Shapes) -> Fit:
        return _compare(wanted, aliases, named, ignored)

    as_it_is = compare(given)
    if as_it_is.exact:
        return as_it_is
    prefixes = [prefix for prefix in _WRAPPERS if all(name.startswith(prefix) for name in given)]
    for rename in (*(partial(_stripped, prefix) for prefix in prefixes), *renamings):
        names = {name: rename(name) for name in given}
        called = {names[name]: shape for name, shape in given.items()}
        if len(called) == len(given) and compare(called).exact:
            return Fit(names={old: new for old, new in names.items() if old != new})
    return as_it_is


def _stripped(prefix: str, name: str) -> str:
    return name.removeprefix(prefix)


def _wanted(module: nn.Module) -> tuple[dict[str, tuple[int, ...]], dict[str, frozenset[str]]]:
    """Shapes of a module's floating tensors, and for each name all names of the same tensor."""
    floats = {name: value for name, value in module.state_dict(keep_vars=True).items() if value.is_floating_point()}
    names: dict[int, set[str]] = {}
    for name, value in floats.items():
        names.setdefault(id(value), set()).add(name)
    aliases = {name: frozenset(names[id(value)]) for name, value in floats.items()}
    return {name: tuple(value.shape) for name, value in floats.items()}, aliases


def _compare(wanted: Shapes, aliases: Mapping[str, frozenset[str]], given: Shapes, ignored: Sequence[str]) -> Fit:
    missing = tuple(name for name in wanted if not aliases[name] & given.keys())
    misshaped = {name: (given[name], wanted[name]) for name in wanted if name in given and given[name] != wanted[name]}
    besides = tuple(name for name in given if name not in wanted and not any(re.search(one, name) for one in ignored))
    return Fit(missing, besides, misshaped)


def _first(kind: str, names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{kind} {', '.join(names[:_MOST])}{more}" if names else ""

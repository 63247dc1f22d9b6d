"""Whether a checkpoint's tensors are those of a module: every floating tensor, by name and by shape."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

Shapes = Mapping[str, tuple[int, ...]]

_WRAPPERS = ("module.", "model.", "_orig_mod.", "backbone.", "encoder.", "net.")
_MOST = 3


@dataclass(frozen=True)
class Fit:
    """How a checkpoint's tensors compare with a module's.

    Attributes:
        missing: Names that the module has and the checkpoint has not.
        unexpected: Names that the checkpoint has and the module has not.
        misshaped: Names of both, with the checkpoint's shape and the module's.
        stripped: What the checkpoint's names start with and the module's do not.
        added: What the module's names start with and the checkpoint's do not.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    stripped: str = ""
    added: str = ""

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

    def rename(self, name: str) -> str:
        """Returns the module's name for a tensor of the checkpoint."""
        return self.added + name.removeprefix(self.stripped)


def fit(module: nn.Module, given: Shapes, base: str = "") -> Fit:
    """Returns how a checkpoint's floating tensors compare with a module's.

    Integers, such as the counters of batch norms, are left aside. A tensor that the module holds under several names
    need be there under one of them only. If all names of the checkpoint start alike, or all lack what the module's
    start with, that is set aside, but only if everything fits then.

    Args:
        module: On the meta device.
        given: Shapes of the checkpoint's floating tensors.
        base: What a family's files may leave out at the start of names, such as `transformer.`.
    """
    wanted, aliases = _wanted(module)
    as_it_is = _compare(wanted, aliases, given)
    if as_it_is.exact:
        return as_it_is
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in given):
            stripped = {name.removeprefix(prefix): shape for name, shape in given.items()}
            if _compare(wanted, aliases, stripped).exact:
                return Fit(stripped=prefix)
    if base and _compare(wanted, aliases, {base + name: shape for name, shape in given.items()}).exact:
        return Fit(added=base)
    return as_it_is


def _wanted(module: nn.Module) -> tuple[dict[str, tuple[int, ...]], dict[str, frozenset[str]]]:
    """Shapes of a module's floating tensors, and for each name all names of the same tensor."""
    floats = {name: value for name, value in module.state_dict(keep_vars=True).items() if value.is_floating_point()}
    names: dict[int, set[str]] = {}
    for name, value in floats.items():
        names.setdefault(id(value), set()).add(name)
    aliases = {name: frozenset(names[id(value)]) for name, value in floats.items()}
    return {name: tuple(value.shape) for name, value in floats.items()}, aliases


def _compare(wanted: Shapes, aliases: Mapping[str, frozenset[str]], given: Shapes) -> Fit:
    missing = tuple(name for name in wanted if not aliases[name] & given.keys())
    misshaped = {name: (given[name], wanted[name]) for name in wanted if name in given and given[name] != wanted[name]}
    return Fit(missing, tuple(name for name in given if name not in wanted), misshaped)


def _first(kind: str, names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{kind} {', '.join(names[:_MOST])}{more}" if names else ""

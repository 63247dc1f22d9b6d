"""What a family makes of a checkpoint: a module that the checkpoint may be of, or a reason why it has none."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from peace.errors import InputError

_DRAWS = (Tensor.normal_, Tensor.uniform_, Tensor.erfinv_)


@dataclass(frozen=True)
class Candidate:
    """A module that a checkpoint may be of.

    Attributes:
        detail: The architecture's name.
        evidence: What named it.
        declared: Whether something that travels with the checkpoint says so, so that a misfit is a fault.
        module: On the meta device.
        inputs: Example inputs, on the meta device, batch size 1.
        renamings: How the family's files may name tensors otherwise than the module does.
        ignored: Patterns of names that the family's files may have besides.
    """

    detail: str
    evidence: str
    declared: bool
    module: nn.Module
    inputs: tuple[Tensor | None, ...]
    renamings: tuple[Callable[[str], str], ...] = ()
    ignored: tuple[str, ...] = ()


def on_meta(build: Callable[..., nn.Module], *arguments: Any, **options: Any) -> nn.Module:  # noqa: ANN401 - any builder's
    """Returns what a builder makes, in eval mode and without memory for its numbers.

    Builders that compute widths or rates with torch need numbers; these are built on the CPU and then emptied.
    """
    try:
        with torch.device("meta"):
            return build(*arguments, **options).eval()
    except (NotImplementedError, RuntimeError) as error:
        if "meta" not in str(error):
            raise
    with _NoDraws():
        return build(*arguments, **options).to("meta").eval()


class _NoDraws(TorchFunctionMode):
    """Leaves out the drawing of random weights, which takes seconds where nobody reads them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401 - torch's
        """Returns what a function of torch returns, or, where it would draw, the tensor as it is."""
        return args[0] if func in _DRAWS else func(*args, **(kwargs or {}))


def image(*shape: int) -> tuple[Tensor, ...]:
    """Returns one example input of this shape, after a batch dimension of 1, as inputs on the meta device."""
    return (torch.empty(1, *shape, device="meta"),)


def refused(detail: str, where: object, error: Exception) -> InputError:
    """Returns the sentence for an architecture that cannot be built from what travels with a checkpoint."""
    got = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"cannot build '{detail}'", where=where, got=got, do="correct what describes the model")


def sizes(value: object) -> tuple[int, ...] | None:
    """Returns a list of positive numbers as a shape, or None if it is none."""
    if isinstance(value, list | tuple) and value and all(type(size) is int and size > 0 for size in value):
        return tuple(value)
    return None


def text(about: Mapping[str, Any] | None, key: str) -> str | None:
    """Returns what a mapping says under a key, if it is text."""
    value = (about or {}).get(key)
    return value if isinstance(value, str) and value else None

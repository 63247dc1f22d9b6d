"""By which route a checkpoint is read: rebuilt as a module of a known family, or tensor by tensor."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from peace.errors import InputError
from peace.graph.families import of_timm, of_torchvision, of_transformers, of_zoo
from peace.graph.families.candidate import Candidate
from peace.graph.families.fitting import Fit, fit
from peace.zoo.checkpoint import Checkpoint

LAYERS = "layers"

_FAMILIES: dict[str, Callable[[Checkpoint], Candidate | str]] = {
    "zoo": of_zoo.candidate,
    "timm": of_timm.candidate,
    "transformers": of_transformers.candidate,
    "torchvision": of_torchvision.candidate,
}


@dataclass(frozen=True)
class Route:
    """How a checkpoint was read.

    Attributes:
        name: `zoo`, `timm`, `transformers` or `torchvision`, the family whose module was rebuilt; else `layers`.
        detail: The architecture's name; empty for `layers`.
        evidence: What named it.
        others: Why each family that was asked before was not taken.
    """

    name: str
    detail: str
    evidence: str
    others: Mapping[str, str]


@dataclass(frozen=True)
class Rebuilt:
    """A checkpoint's module, if its family is known.

    Attributes:
        route: How it was found.
        module: On the meta device, in eval mode; None on the route `layers`.
        inputs: Example inputs on the meta device, batch size 1.
        fit: How the checkpoint's names become the module's.
    """

    route: Route
    module: nn.Module | None
    inputs: tuple[Tensor | None, ...]
    fit: Fit

    def on_input(self, shape: tuple[int, ...]) -> "Rebuilt":
        """Returns the same with an example input of another shape, batch dimension not counted.

        Raises:
            InputError: There is no module that could take one.
        """
        if self.module is None:
            raise InputError("nothing takes an input", got=shape, expected="a model of a known family",
                             do="its tensors are read one by one")  # fmt: skip
        first, *more = self.inputs
        given = torch.empty(1, *shape, device="meta", dtype=None if first is None else first.dtype)
        return replace(self, inputs=(given, *more))


def rebuild(checkpoint: Checkpoint) -> Rebuilt:
    """Returns the module that a checkpoint is of, or the route `layers` if nothing that travels with it says which.

    Names and shapes of all floating tensors must be the module's. A family that only the file's name or its shapes
    speak for is passed over if they are not; one that the metadata or `config.json` declares is then a fault.
    Where the tensors that are missing are there as integers, the weights are quantised and the route is `layers`.

    Raises:
        InputError: What describes the model cannot be read or built, or does not fit its tensors.
    """
    passed: dict[str, str] = {}
    faults: list[InputError] = []
    for name, family in _FAMILIES.items():
        found = family(checkpoint)
        if isinstance(found, str):
            passed[name] = found
            continue
        fitted = fit(found.module, checkpoint.floats, found.renamings, found.ignored)
        # What the shapes say is no excuse for what the checkpoint says of itself.
        if fitted.exact and (found.declared or not faults):
            route = Route(name, found.detail, found.evidence, passed)
            return Rebuilt(route, found.module, found.inputs, fitted)
        if quantised := _quantised(checkpoint, fitted):
            passed[name] = f"{found.detail} by {found.evidence}, but {quantised}"
            continue
        if fitted.exact:
            continue
        passed[name] = f"not {found.detail}, which {found.evidence} says: the checkpoint {fitted}"
        if found.declared:
            faults.append(_misfit(checkpoint, found, fitted))
    if faults:
        raise faults[0]
    return Rebuilt(Route(LAYERS, "", "no family fits", passed), None, (), Fit())


def _quantised(checkpoint: Checkpoint, fitted: Fit) -> str:
    integers = [name for name in fitted.missing if name in checkpoint.tensors]
    return f"'{integers[0]}' holds integers" if integers else ""


def _misfit(checkpoint: Checkpoint, found: Candidate, fitted: Fit) -> InputError:
    return InputError(
        f"the tensors are not those of '{found.detail}'", where=checkpoint.path, got=f"a checkpoint that {fitted}",
        expected=f"its names and shapes, as {found.evidence} says",
        do="correct what names it, or take that away to have each tensor read by itself",
    )  # fmt: skip

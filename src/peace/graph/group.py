"""The symmetry group of a network: what may be done to its parameters without changing what it computes."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import lgamma, log
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from peace.errors import InputError
from peace.graph.element import Element
from peace.graph.gauge import canonical_form
from peace.graph.labels import KINDS
from peace.graph.orbits import Nodes
from peace.graph.scales import Scales, factors
from peace.graph.slots import Slots
from peace.graph.wiring import Wiring

Scaling = Literal["none", "sign", "positive", "nonzero"]
Role = Literal["hidden", "input", "output", "position"]


@dataclass(frozen=True)
class GroupAxis:
    """Nodes that are alike.

    Attributes:
        name: Module of the first tensor that touches it.
        size: Number of nodes in one copy.
        copies: Number of blocks that hold such nodes, such as the heads of an attention; 1 where there are none.
        role: Nodes of inputs, outputs and positions have identities, hidden ones have none.
        permutable: Whether its nodes may be renumbered, within each copy or with the copy.
        scaling: What its nodes may be multiplied by, and what reads them divided by.
        general: Whether any invertible map of a copy's nodes will do.
        tensors: The tensors that touch it.
    """

    name: str
    size: int
    copies: int
    role: Role
    permutable: bool
    scaling: Scaling
    general: bool
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class Pinned:
    """An operation that was not understood, so that what it touches may not be changed.

    Attributes:
        operation: Its name, such as `aten.cumsum.default`, or that of a custom autograd function.
        module: Path of the module that called it.
        channels: Number of nodes that it pinned.
    """

    operation: str
    module: str
    channels: int


@dataclass(frozen=True)
class General:
    """An orbit each of whose copies may be mapped by any invertible matrix.

    Attributes:
        orbit: Place of the orbit.
        parts: (slots, power) of each label that holds it. Shape of slots: [copies, size, taps]; a label of power 1 is
            multiplied by the matrix, one of power -1 by the transpose of its inverse.
    """

    orbit: int
    parts: tuple[tuple[np.ndarray, int], ...]


@dataclass(frozen=True)
class SymmetryGroup:
    """All that `peace.graph.derive` found may be done to the parameters of a network.

    Attributes:
        shapes: Name -> shape of every parameter and persistent buffer in floating point.
        names: Name -> the name that a tensor is known by: its own, unless several names share one tensor.
        axes: The nodes, by kind.
        pinned: Operations that were not understood.
        slots: The places along labelled dimensions.
        nodes: What may be renumbered.
        scales: What may be multiplied: by kind, `positive` and `sign`.
        generals: What may be mapped.
        wiring: What each tensor does.
    """

    shapes: Mapping[str, tuple[int, ...]]
    names: Mapping[str, str]
    axes: tuple[GroupAxis, ...]
    pinned: tuple[Pinned, ...]
    slots: Slots
    nodes: Nodes
    scales: Mapping[str, Scales]
    generals: tuple[General, ...]
    wiring: Wiring

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the tensors that elements act on."""
        return {name: self.shapes[known] for name, known in self.names.items()}

    @property
    def hidden_channels(self) -> int:
        """Number of hidden nodes that parameters touch."""
        return sum(axis.size * axis.copies for axis in self.axes if axis.role == "hidden" and axis.tensors)

    @property
    def permutable_channels(self) -> int:
        """How many of these may be renumbered."""
        found = [axis for axis in self.axes if axis.role == "hidden" and axis.tensors and axis.permutable]
        return sum(axis.size * axis.copies for axis in found)

    @property
    def log10_order(self) -> float:
        """The decimal logarithm of the number of renumberings and sign flips, the finite part of the group."""
        sizes = (orbit.members.shape for orbit in self.nodes.orbits)
        permutations = sum(copies * lgamma(size + 1) for copies, size in sizes)
        return (permutations + self.scales["sign"].acting(self.slots.entries) * log(2)) / log(10)

    def sample(
        self, generator: torch.Generator, elements: int | None = None, log_scale: float = 0.5, general: bool = True
    ) -> Element:
        """Returns a random element of the whole group, or B of them.

        Renumberings and signs are uniform, positive scales LogNormal(0, log_scale²), maps of general axes products of
        two rotations and such a scale for each direction between them.

        Args:
            generator: CPU generator.
            elements: B, or None for one element without a leading dimension.
            log_scale: Standard deviation of the logarithm of positive scales.
            general: Whether general axes are mapped; otherwise they are renumbered and scaled as others are.
        """
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        still = frozenset(axis.orbit for axis in self.generals) if general else frozenset()
        drawn = [self._drawn(rng, log_scale, still) for _ in range(elements or 1)]
        order, scale = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
        maps = {}
        for place, axis in enumerate(self.generals if general else ()):
            copies, size, _ = axis.parts[0][0].shape
            maps[place] = _invertible((elements or 1, copies, size), log_scale, generator)
        element = Element(self, order, scale, maps)
        return element if elements is not None else element[0]

    def _drawn(self, rng: np.random.Generator, log_scale: float, still: frozenset[int]) -> tuple[np.ndarray, ...]:
        order = self.slots.moved(self.nodes.order(rng, still))
        held = np.concatenate([slots.ravel() for axis in self.generals for slots, _ in axis.parts] or [order[:0]])
        scale = np.ones(len(order))
        for kind in KINDS:
            scales = self.scales[kind]
            values = rng.normal(0, log_scale, scales.count) if kind == "positive" else rng.integers(0, 2, scales.count)
            if still:
                variables = scales.variable[self.slots.entries[held]]
                values[variables[variables >= 0]] = 0
            logs = scales.of_entries(scales.complete(values.astype(float)), self.slots.entries)
            scale *= factors(logs, kind)
        return order, scale

    def moved(self, element: Element) -> float:
        """Returns the share of parameters that an element moves or scales; the mean of B elements."""
        if element.order.ndim == 2:
            return float(np.mean([self.moved(element[place]) for place in range(len(element.order))]))
        moved = (element.order != torch.arange(element.order.shape[-1])) | (element.scale != 1)
        for place in element.maps:
            for slots, _ in self.generals[place].parts:
                moved[slots.ravel()] = True
        touched = {name: torch.zeros(1, dtype=torch.bool) for name in self.shapes}
        for name, _, shape, slots in self.slots.parts():
            touched[name] = touched[name] | moved[slots].reshape(shape)
        shares = [(np.prod(self.shapes[name]), mask.double().mean().item()) for name, mask in touched.items()]
        return float(sum(size * share for size, share in shares) / max(1, sum(size for size, _ in shares)))

    def canonical_form(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the representative of a state dict under the scaling group; see `peace.graph.gauge`.

        Raises:
            InputError: A tensor is missing or of another shape.
        """
        found = canonical_form(self, {name: tensor[0] for name, tensor in self.checked(tensors).items()})
        return {name: found[self.names[name]] if name in self.names else tensor for name, tensor in tensors.items()}

    def checked(self, tensors: Mapping[str, Tensor], batch: int | None = None) -> dict[str, Tensor]:
        """Returns the tensors that the group knows, each once and with a leading dimension.

        Raises:
            InputError: A tensor is missing or of another shape.
        """
        missing = [name for name in self.names if name not in tensors]
        if missing:
            got, expected = f"{len(tensors)} tensors", f"all {len(self.names)} of the module"
            raise InputError("a tensor is missing", where=missing[0], got=got, expected=expected)
        strange = [name for name, tensor in tensors.items() if name not in self.names and tensor.is_floating_point()]
        if strange:
            raise InputError("an unexpected tensor", where=strange[0], got=tuple(tensors[strange[0]].shape),
                             expected=f"the {len(self.names)} tensors of the module and no others")  # fmt: skip
        found: dict[str, Tensor] = {}
        for name, known in self.names.items():
            tensor, shape = tensors[name].detach(), self.shapes[known]
            if tuple(tensor.shape) == shape:
                tensor = tensor.expand(batch or 1, *shape)
            elif batch is None or tuple(tensor.shape) != (batch, *shape):
                raise InputError(
                    "a tensor does not fit the module", where=name, got=tuple(tensor.shape), expected=shape
                )
            if (first := found.setdefault(known, tensor)) is not tensor and not torch.equal(first, tensor):
                raise InputError("two names of one tensor hold different numbers", where=f"{known} and {name}")
        return found


def _invertible(shape: tuple[int, int, int], log_scale: float, generator: torch.Generator) -> Tensor:
    draw = torch.randn(2, *shape, shape[-1], generator=generator, dtype=torch.float64)
    left, right = torch.linalg.qr(draw)[0]
    stretch = (torch.randn(shape, generator=generator, dtype=torch.float64) * log_scale).exp()
    return left @ (stretch[..., None] * right)

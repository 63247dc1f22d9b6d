"""The symmetry group of a network: what may be done to its parameters without changing what it computes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import lgamma, log
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from peace.errors import InputError
from peace.graph.labels import Ids, support
from peace.graph.orbits import Nodes, ranks
from peace.graph.scales import Scales

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
        permutable: Whether its nodes may be renumbered within each copy.
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
class Slots:
    """The places along labelled dimensions of parameters, one after the other.

    Attributes:
        where: (tensor, dimension, label shape) of each label, in the order of the slots.
        starts: First slot of each label, and the number of slots at the end.
        entries: Entry of each slot. Shape: [slots].
        nodes: Node of each slot. Shape: [slots].
    """

    where: tuple[tuple[str, int, tuple[int, ...]], ...]
    starts: np.ndarray
    entries: np.ndarray
    nodes: np.ndarray

    @classmethod
    def of(cls, leaves: Mapping[str, Mapping[int, Ids]], nodes: np.ndarray) -> "Slots":
        """Returns the slots of parameters' labels."""
        labels = [(name, dim, ids) for name, dims in leaves.items() for dim, ids in dims.items()]
        where = tuple((name, dim, ids.shape) for name, dim, ids in labels)
        starts = np.cumsum([0, *(ids.size for _, _, ids in labels)])
        entries = np.concatenate([ids.ravel() for _, _, ids in labels]) if labels else np.zeros(0, dtype=np.int64)
        return cls(where, starts, entries, nodes[entries])

    @cached_property
    def label(self) -> np.ndarray:
        """Number of the label that each slot lies in."""
        return np.repeat(np.arange(len(self.where)), np.diff(self.starts))

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        keys = self.label * (int(self.nodes.max(initial=0)) + 1) + self.nodes
        by_key = np.argsort(keys, kind="stable")
        return keys[by_key], by_key, ranks(keys)

    def moved(self, order: np.ndarray) -> np.ndarray:
        """Returns the slot that each slot takes its numbers from when nodes are renumbered. Shape: [slots]."""
        keys, by_key, rank = self._sorted
        wanted = self.label * (int(self.nodes.max(initial=0)) + 1) + order[self.nodes]
        return by_key[np.searchsorted(keys, wanted) + rank]

    def parts(self) -> Iterator[tuple[str, int, tuple[int, ...], slice]]:
        """Yields each label's tensor, dimension, shape and slots; labels of several dimensions come last."""
        order = sorted(range(len(self.where)), key=lambda label: len(support(np.empty(self.where[label][2]))) > 1)
        for label in order:
            yield (*self.where[label], slice(int(self.starts[label]), int(self.starts[label + 1])))


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
class Element:
    """One element of the group, or B of them.

    Slot k of a transformed tensor has what slot `order[k]` of the original had, times `scale[k]`; then the `maps` of
    general axes act.

    Attributes:
        group: Whose element it is.
        order: Shape: [slots] or [B, slots] int64.
        scale: Shape: [slots] or [B, slots] float64, never zero.
        maps: Place of a general axis -> shape [copies, n, n] or [B, copies, n, n] float64. All of them or none.
    """

    group: "SymmetryGroup"
    order: Tensor
    scale: Tensor
    maps: Mapping[int, Tensor]

    def apply(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns a state dict after the element.

        Args:
            tensors: The state dict. Entries that the group does not know are handed through. Where there are B
                elements, a tensor may have a leading dimension of B models.

        Returns:
            Tensors of the same types; with a leading dimension of B where there are B elements.

        Raises:
            InputError: A tensor is missing or of another shape.
        """
        batch = self.order.shape[0] if self.order.ndim == 2 else None
        found = {name: tensor for name, tensor in tensors.items() if name not in self.group.names}
        stacked = self.group.checked(tensors, batch)
        order, scale = self.order.reshape(-1, self.order.shape[-1]), self.scale.reshape(-1, self.scale.shape[-1])
        for name, dim, shape, slots in self.group.slots.parts():
            part = self.group.slots.starts[self.group.slots.label[slots.start]]
            index = (order[:, slots] - int(part)).reshape(-1, *shape)
            stacked[name] = _taken(stacked[name], dim, index)
            stacked[name] = _scaled(stacked[name], scale[:, slots].reshape(-1, *shape))
        for place, maps in self.maps.items():
            for slots, power in self.group.generals[place].parts:
                self.group.mapped(stacked, slots, _power(maps, power).reshape(-1, *maps.shape[-3:]))
        for name, canonical in self.group.names.items():
            tensor = stacked[canonical].to(tensors[name].dtype)
            found[name] = tensor if batch is not None else tensor[0]
        return {name: found[name] for name in tensors}

    def compose(self, first: "Element") -> "Element":
        """Returns the element that acts as `first`, then this one."""
        if self.maps or first.maps:
            return self._absorbed()._after(first._absorbed())
        return self._after(first)

    def inverse(self) -> "Element":
        """Returns the element that undoes this one."""
        element = self._absorbed() if self.maps else self
        order = element.order.argsort(-1)
        scale = 1 / element.scale.gather(-1, order)
        inverse = Element(self.group, order, scale, {})
        maps = {place: _blocks(torch.linalg.inv(maps), inverse.copies(place)) for place, maps in element.maps.items()}
        return replace(inverse, maps=maps)

    def __getitem__(self, place: int) -> "Element":
        """Returns one of B elements."""
        return Element(self.group, self.order[place], self.scale[place], {k: v[place] for k, v in self.maps.items()})

    def _after(self, first: "Element") -> "Element":
        order = first.order.gather(-1, self.order)
        scale = self.scale * first.scale.gather(-1, self.order)
        maps = {place: maps @ _blocks(first.maps[place], self.copies(place)) for place, maps in self.maps.items()}
        return Element(self.group, order, scale, maps)

    def copies(self, place: int) -> Tensor:
        """Returns the copy that each copy of a general axis comes from. Shape: [..., copies]."""
        slots = torch.from_numpy(self.group.generals[place].parts[0][0])
        home = torch.full((self.order.shape[-1],), -1)
        home[slots.flatten()] = torch.arange(len(slots)).repeat_interleave(slots[0].numel())
        return home[self.order[..., slots[:, 0, 0]]]

    def _absorbed(self) -> "Element":
        """The same element with all that it does inside the copies of general axes written as maps."""
        order, scale, maps = self.order.clone(), self.scale.clone(), {}
        for place, general in enumerate(self.group.generals):
            copies = self.copies(place)
            slots, power = (general.parts[0][0], general.parts[0][1])
            slots = torch.from_numpy(slots)
            source = slots[copies][..., 0]
            moved = order[..., slots[..., 0]]
            inner = (moved[..., None] == source[..., None, :]).to(scale)
            own = inner * scale[..., slots[..., 0]][..., None] ** power
            maps[place] = self.maps[place] @ own if place in self.maps else own
            for part, _ in general.parts:
                part = torch.from_numpy(part)
                order[..., part] = part[copies]
                scale[..., part] = 1.0
        return Element(self.group, order, scale, maps)


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
        used: The parameters that acted as weights.
    """

    shapes: Mapping[str, tuple[int, ...]]
    names: Mapping[str, str]
    axes: tuple[GroupAxis, ...]
    pinned: tuple[Pinned, ...]
    slots: Slots
    nodes: Nodes
    scales: Mapping[str, Scales]
    generals: tuple[General, ...]

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
        signs = self.scales["sign"].freedom(self.slots.entries)
        return (permutations + signs * log(2)) / log(10)

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
        logs = []
        for kind in ("positive", "sign"):
            scales = self.scales[kind]
            values = rng.normal(0, log_scale, scales.count) if kind == "positive" else rng.integers(0, 2, scales.count)
            if still:
                variables = scales.variable[self.slots.entries[held]]
                values[variables[variables >= 0]] = 0
            logs.append(scales.of_entries(scales.complete(values.astype(float)), self.slots.entries))
        return order, np.exp(logs[0]) * (1 - 2 * (np.rint(logs[1]) % 2))

    def moved(self, element: Element) -> float:
        """Returns the share of parameters that an element moves or scales."""
        moved = (element.order != torch.arange(element.order.shape[-1])) | (element.scale != 1)
        for place in element.maps:
            for slots, _ in self.generals[place].parts:
                moved[slots.ravel()] = True
        touched = {name: torch.zeros(1, dtype=torch.bool) for name in self.shapes}
        for name, _, shape, slots in self.slots.parts():
            touched[name] = touched[name] | moved[slots].reshape(shape)
        shares = [(np.prod(self.shapes[name]), mask.double().mean().item()) for name, mask in touched.items()]
        return float(sum(size * share for size, share in shares) / sum(size for size, _ in shares))

    def checked(self, tensors: Mapping[str, Tensor], batch: int | None = None) -> dict[str, Tensor]:
        """Returns the tensors that the group knows, each once and with a leading dimension.

        Raises:
            InputError: A tensor is missing or of another shape.
        """
        missing = [name for name in self.names if name not in tensors]
        if missing:
            raise InputError("a tensor is missing", where=missing[0], got=f"{len(tensors)} tensors",
                             expected=f"all {len(self.names)} of the module", do="give the module's whole state dict")  # fmt: skip
        found = {}
        for name, known in self.names.items():
            tensor, shape = tensors[name], self.shapes[known]
            if tuple(tensor.shape) == shape:
                tensor = tensor.expand(batch or 1, *shape)
            elif batch is None or tuple(tensor.shape) != (batch, *shape):
                raise InputError(
                    "a tensor does not fit the module", where=name, got=tuple(tensor.shape), expected=shape
                )
            found.setdefault(known, tensor)
        return found

    def mapped(self, stacked: dict[str, Tensor], slots: np.ndarray, maps: Tensor) -> None:
        """Multiplies one label's slots of a general axis by a matrix each copy, in place of the tensor."""
        label = int(self.slots.label[slots.flat[0]])
        name, dim, _ = self.slots.where[label]
        places = torch.from_numpy(slots - self.slots.starts[label])
        copies, size, taps = places.shape
        tensor = stacked[name].movedim(dim + 1, 1).clone()
        part = tensor[:, places.flatten()].to(torch.promote_types(tensor.dtype, torch.float32))
        shaped = part.reshape(len(tensor), copies, size, taps * int(np.prod(part.shape[2:])))
        result = (maps.to(shaped.dtype) @ shaped).reshape(part.shape)
        tensor[:, places.flatten()] = result.to(tensor.dtype)
        stacked[name] = tensor.movedim(1, dim + 1)


def _invertible(shape: tuple[int, int, int], log_scale: float, generator: torch.Generator) -> Tensor:
    draw = torch.randn(2, *shape, shape[-1], generator=generator, dtype=torch.float64)
    left, right = torch.linalg.qr(draw)[0]
    stretch = (torch.randn(shape, generator=generator, dtype=torch.float64) * log_scale).exp()
    return left @ (stretch[..., None] * right)


def _power(maps: Tensor, power: int) -> Tensor:
    return maps if power == 1 else torch.linalg.inv(maps).mT


def _blocks(maps: Tensor, copies: Tensor) -> Tensor:
    """The maps of each copy's source. Shapes: [..., copies, n, n], [..., copies]."""
    return maps.gather(-3, copies[..., None, None].expand_as(maps))


def _taken(tensor: Tensor, dim: int, index: Tensor) -> Tensor:
    """Each model's own reordering along one dimension. Shapes: [B, *shape], [B, *label shape] of flat places."""
    shape = index.shape[1:]
    places = index % shape[dim] if dim == len(shape) - 1 else index // int(np.prod(shape[dim + 1 :])) % shape[dim]
    if len(support(np.empty(shape))) > 1:
        return tensor.gather(dim + 1, places.to(tensor.device).expand_as(tensor))
    flat = places.reshape(len(places), -1).to(tensor.device)
    if len(tensor) == 1:
        return tensor.index_select(dim + 1, flat[0])
    return tensor.movedim(dim + 1, 1)[torch.arange(len(tensor))[:, None], flat].movedim(1, dim + 1)


def _scaled(tensor: Tensor, scale: Tensor) -> Tensor:
    if (scale == 1).all():
        return tensor
    wide = torch.promote_types(tensor.dtype, torch.float32)
    return (tensor.to(wide) * scale.to(tensor.device, wide)).to(tensor.dtype)

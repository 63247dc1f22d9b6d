"""Elements of a symmetry group: how they act on a state dict, one after the other, and backwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from peace.graph.slots import Slots, several

if TYPE_CHECKING:
    from peace.graph.group import SymmetryGroup


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

    group: SymmetryGroup
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
        order, scale = torch.atleast_2d(self.order), torch.atleast_2d(self.scale)
        for name, dim, shape, slots in self.group.slots.parts():
            index = (order[:, slots] - slots.start).reshape(-1, *shape)
            stacked[name] = _taken(stacked[name], dim, index)
            stacked[name] = _scaled(stacked[name], scale[:, slots].reshape(-1, *shape))
        for place, maps in self.maps.items():
            for slots, power in self.group.generals[place].parts:
                _mapped(stacked, self.group.slots, slots, _power(maps, power).reshape(-1, *maps.shape[-3:]))
        for name, canonical in self.group.names.items():
            tensor = stacked[canonical].to(tensors[name].dtype)
            found[name] = tensor if batch is not None else tensor[0]
        return {name: found[name] for name in tensors}

    def compose(self, first: Element) -> Element:
        """Returns the element that acts as `first`, then this one."""
        if self.maps or first.maps:
            return self._absorbed()._after(first._absorbed())
        return self._after(first)

    def inverse(self) -> Element:
        """Returns the element that undoes this one."""
        element = self._absorbed() if self.maps else self
        order = element.order.argsort(-1)
        scale = 1 / element.scale.gather(-1, order)
        inverse = Element(self.group, order, scale, {})
        maps = {place: _blocks(torch.linalg.inv(maps), inverse.copies(place)) for place, maps in element.maps.items()}
        return replace(inverse, maps=maps)

    def __getitem__(self, place: int) -> Element:
        """Returns one of B elements."""
        return Element(self.group, self.order[place], self.scale[place], {k: v[place] for k, v in self.maps.items()})

    def _after(self, first: Element) -> Element:
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

    def _absorbed(self) -> Element:
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


def _mapped(stacked: dict[str, Tensor], where: Slots, slots: np.ndarray, maps: Tensor) -> None:
    """Multiplies one label's slots of a general axis by a matrix each copy."""
    label = int(where.label[slots.flat[0]])
    name, dim, _ = where.where[label]
    places = torch.from_numpy(slots - where.starts[label])
    tensor = stacked[name].movedim(dim + 1, 1).clone()
    part = tensor[:, places.flatten()].to(_wide(tensor))
    result = maps.to(part) @ part.reshape(len(tensor), *places.shape[:2], -1)
    tensor[:, places.flatten()] = result.reshape(part.shape).to(tensor.dtype)
    stacked[name] = tensor.movedim(1, dim + 1)


def _power(maps: Tensor, power: int) -> Tensor:
    return maps if power == 1 else torch.linalg.inv(maps).mT


def _blocks(maps: Tensor, copies: Tensor) -> Tensor:
    """The maps of each copy's source. Shapes: [..., copies, n, n], [..., copies]."""
    return maps.gather(-3, copies[..., None, None].expand_as(maps))


def _taken(tensor: Tensor, dim: int, index: Tensor) -> Tensor:
    """Each model's own reordering along one dimension. Shapes: [B, *shape], [B, *label shape] of flat places."""
    shape = index.shape[1:]
    places = index % shape[dim] if dim == len(shape) - 1 else index // int(np.prod(shape[dim + 1 :])) % shape[dim]
    if several(shape):
        return tensor.gather(dim + 1, places.to(tensor.device).expand_as(tensor))
    flat = places.reshape(len(places), -1).to(tensor.device)
    if len(tensor) == 1:
        return tensor.index_select(dim + 1, flat[0])
    return tensor.movedim(dim + 1, 1)[torch.arange(len(tensor))[:, None], flat].movedim(1, dim + 1)


def _scaled(tensor: Tensor, scale: Tensor) -> Tensor:
    if (scale == 1).all():
        return tensor
    wide = _wide(tensor)
    return (tensor.to(wide) * scale.to(tensor.device, wide)).to(tensor.dtype)


def _wide(tensor: Tensor) -> torch.dtype:
    """The type to multiply in; small ones do not mix with others."""
    return tensor.dtype if tensor.dtype == torch.float64 else torch.float32
